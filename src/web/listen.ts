import { existsSync, fstatSync, lstatSync, readFileSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { reasonOf } from '../common/errors.ts';
import type { ListenAddress } from '../config/flags.ts';

/** Where a server listens: on an address, or on a socket that this process was started with. */
export type ListenTarget = ListenAddress | { readonly fd: number };

/** Another socket listens on a port. */
export class PortInUseError extends Error {
  readonly port: number;

  constructor(message: string, port: number, cause: unknown) {
    super(message, { cause });
    this.port = port;
  }
}

/** Makes a server listen. Returns the address, with the port that the system chose; rejects with one line that names the flag. */
export async function listen(server: Server, target: ListenTarget): Promise<string> {
  try {
    await start(server, target).catch(async (error: unknown) => {
      if (!('path' in target) || !(await isStale(target.path))) throw error;
      unlinkSync(target.path);
      await start(server, target);
    });
  } catch (error) {
    const message = `Cannot listen on ${shown(target)}: ${reason(error as NodeJS.ErrnoException, target)}`;
    const isPortInUse = 'port' in target && (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
    throw isPortInUse ? new PortInUseError(message, target.port, error) : new Error(message, { cause: error });
  }
  return addressOf(server, target);
}

async function start(server: Server, target: ListenTarget): Promise<void> {
  const options = 'host' in target && target.host === null ? { port: target.port } : target;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options as Exclude<ListenTarget, { host: null }>, resolve);
  }).finally(() => server.removeAllListeners('error'));
}

/** True for a Unix socket on which no process listens any more: a process that is killed leaves it behind. */
async function isStale(path: string): Promise<boolean> {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return false;
  return new Promise((resolve) => {
    const client = connect(path);
    client.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
    client.once('connect', () => {
      client.destroy();
      resolve(false);
    });
  });
}

function shown(target: ListenTarget): string {
  if ('fd' in target) return `descriptor ${target.fd} of --web.systemd-socket`;
  return `--web.listen-address "${'path' in target ? `unix:${target.path}` : `${target.host ?? ''}:${target.port}`}"`;
}

function addressOf(server: Server, target: ListenTarget): string {
  if ('path' in target) return `unix:${target.path}`;
  const address = server.address();
  if (address !== null && typeof address === 'object')
    return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`;
  return `unix:${'fd' in target ? pathOf(target.fd) : ''}`;
}

/** The path of an inherited Unix socket, which only the kernel's table has. */
function pathOf(fd: number): string {
  const inode = String(fstatSync(fd).ino);
  const rows = readFileSync('/proc/self/net/unix', 'utf8').split('\n');
  return rows.map((row) => /^(?:\S+\s+){6}(\d+) (.*)$/.exec(row)).find((row) => row?.[1] === inode)?.[2] ?? '';
}

function reason(error: NodeJS.ErrnoException, target: ListenTarget): string {
  // Node.js reports a missing folder as EACCES, as Windows does.
  if ('path' in target && error.code === 'EACCES' && !existsSync(dirname(target.path)))
    return `there is no folder "${dirname(target.path)}"`;
  if (error.code === 'EADDRINUSE') return 'the address is in use';
  if (error.code === 'EADDRNOTAVAIL') return 'no interface of this machine has the address';
  if (error.code === 'EACCES') return 'permission denied';
  if ('fd' in target && error.code === 'EINVAL') return 'it is not a listening stream socket';
  return reasonOf(error);
}
