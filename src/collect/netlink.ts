import { existsSync } from 'node:fs';
import { SYSTEM_CLOCK, type Timer } from '../common/clock.ts';
import { agentSocket } from './agent-socket.ts';
import { AgentStream } from './agent-stream.ts';
import { findInherited, InheritedSockets } from './inherited-sockets.ts';
import type { SourceName } from './host.ts';
import { AGENT_PROGRAM, spawnedAgent } from './socket-agent.ts';
import type { SocketSource } from './socket-source.ts';

export type { SocketDump, SocketSource } from './socket-source.ts';

/** Where a source may come from. The first that is set is used. */
export interface SocketSourceOptions {
  /** The Unix socket of an agent (`--netlink.socket`). */
  readonly path: string | null;
  /** The environment, for descriptors that systemd handed over: LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The agent's program, to be started as a child; null to start none. A missing file is not an error. */
  readonly program: string | null;
}

/** How long the commands wait for a dump. */
export const DUMP_MS = 1_000;

/** What decides where a source comes from. */
export interface SocketSourceChoice {
  readonly collectors: { readonly netlink: boolean };
  readonly netlinkSocket: string | null;
  readonly handedOver: Readonly<Record<string, string | undefined>>;
  readonly procfs: string;
  readonly source: SourceName;
}

/**
 * Where a source may come from; null if the collector is off, the rows do not come from procfs, or there is none to try. An agent is started only if the
 * sockets of this process's own network namespace are those of the procfs that is read.
 */
export function socketSourceOf(choice: SocketSourceChoice): SocketSourceOptions | null {
  const { collectors, netlinkSocket, handedOver, procfs, source } = choice;
  if (!collectors.netlink || process.platform !== 'linux' || (source ?? 'procfs') !== 'procfs') return null;
  const program = procfs === '/proc' ? AGENT_PROGRAM : null;
  if (netlinkSocket === null && handedOver['LISTEN_FDS'] === undefined && program === null) return null;
  return { path: netlinkSocket, environment: handedOver, program };
}

/** Timers that do not keep the process alive. */
const BACKGROUND_CLOCK: Timer = {
  ...SYSTEM_CLOCK,
  after: (ms, run) => {
    const timer = setTimeout(run, ms).unref();
    return () => clearTimeout(timer);
  },
};

/** Opens the first source that there is; null for none. A source that does not work says why, and may work later. */
export function openSocketSource(options: SocketSourceOptions | null): SocketSource | null {
  if (!options) return null;
  const { path, environment, program } = options;
  if (path !== null) return new AgentStream(agentSocket(path), BACKGROUND_CLOCK);
  const inherited = findInherited(environment, process.pid);
  if (inherited !== null) return new InheritedSockets(inherited, BACKGROUND_CLOCK);
  if (program === null || !existsSync(program)) return null;
  return new AgentStream(spawnedAgent(program), BACKGROUND_CLOCK);
}
