import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { reasonOf } from '../common/errors.ts';
import type { AgentConnector } from './agent-stream.ts';

/** The program that the build compiles from native/sockets.c. */
export const AGENT_PROGRAM = join(
  import.meta.dirname,
  import.meta.filename.endsWith('.ts') ? '../../dist/peerscope-sockets' : '../peerscope-sockets',
);

/** The descriptor on which the agent finds its end of the stream. */
const AGENT_FD = 3;

/** Starts an agent as a child process. It ends with the connection. */
export function spawnedAgent(program: string, args: readonly string[] = ['--fd', `${AGENT_FD}`]): AgentConnector {
  return ({ data, end }) => {
    let reason = 'it closed the connection';
    const child = spawn(program, args, { env: {}, stdio: ['ignore', 'ignore', 'ignore', 'pipe'] });
    const stream = child.stdio[AGENT_FD] as Socket | null | undefined;
    const ended = (): void => end(`The socket agent "${program}" ended: ${reason}`);
    child.on('error', (error) => {
      reason = reasonOf(error);
      ended();
    });
    child.on('exit', (status, signal) => {
      reason = signal ?? `status ${status}`;
      ended();
    });
    stream?.on('data', data);
    // What happened to the process says more than its stream.
    stream?.on('error', () => undefined);
    stream?.on('close', () => {
      // A closed stream keeps no process alive: who waits for an answer must live to see the exit.
      child.ref();
      child.kill('SIGKILL');
    });
    child.unref();
    stream?.unref();
    return {
      write: (bytes) => stream?.write(bytes),
      ref: () => stream?.ref(),
      unref: () => stream?.unref(),
      destroy: () => {
        stream?.destroy();
        child.kill('SIGKILL');
      },
    };
  };
}
