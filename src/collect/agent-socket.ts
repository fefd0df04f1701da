import { statSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { reasonOf } from '../common/errors.ts';
import type { AgentConnector } from './agent-stream.ts';

const CHUNK = 64 << 10;
/** Group and others may write. */
const WRITABLE_BY_OTHERS = 0o022;

/** Connects to an agent that listens on a Unix socket. */
export function agentSocket(path: string): AgentConnector {
  return ({ data, end }) => {
    const obstacle = whyNotTrusted(path, process.getuid?.() ?? 0);
    if (obstacle !== null) return `Cannot use socket "${path}": ${obstacle}`;
    let reason = 'the socket agent refused the connection: it serves one client at a time, of its own user';
    const buffer = new Uint8Array(CHUNK);
    const socket = connect({
      path,
      onread: {
        buffer,
        callback: (length) => {
          reason = 'the socket agent closed the connection';
          data(buffer.subarray(0, length));
          return true;
        },
      },
    });
    socket.on('error', (error) => (reason = reasonOf(error)));
    socket.on('close', () => end(`Cannot read socket "${path}": ${reason}`));
    socket.unref();
    return socket;
  };
}

/** Why a program of another user could listen at a path; null if only root and this user can. */
export function whyNotTrusted(path: string, uid: number): string | null {
  try {
    const socket = statSync(path);
    const folder = statSync(dirname(path));
    if (!socket.isSocket()) return 'it is not a socket';
    if (socket.uid !== 0 && socket.uid !== uid) return `it belongs to user ${socket.uid}`;
    if (folder.uid !== 0 && folder.uid !== uid) return `its folder belongs to user ${folder.uid}`;
    return (folder.mode & WRITABLE_BY_OTHERS) === 0 ? null : 'other users may write its folder';
  } catch (error) {
    return reasonOf(error);
  }
}
