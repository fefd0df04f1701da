import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Row } from '../../../src/model.ts';

/** A socket that sockets.py opened, with the field names of a JSON row. */
export type OpenedRow = Pick<
  Row,
  | 'transport'
  | 'family'
  | 'state'
  | 'local_address'
  | 'local_port'
  | 'remote_address'
  | 'remote_port'
  | 'inode'
  | 'pids'
>;

/** One running sockets.py: its pid and those of its forks, and what it opened. */
export interface OpenedSockets {
  readonly pids: readonly number[];
  readonly opened: readonly OpenedRow[];
}

/** The arguments of sockets.py, the command that starts it, and a shell script that runs before it in the same process. */
export interface SocketOptions {
  readonly kinds?: readonly string[];
  readonly flags?: readonly string[];
  readonly command?: readonly string[];
  readonly before?: string;
}

const SOCKETS = new URL('sockets.py', import.meta.url).pathname;

/** Returns why this host cannot make network namespaces, or null. */
export function whyNoNamespaces(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are Linux only';
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  for (const command of ['unshare', 'nsenter', 'ip', '/usr/bin/python3']) {
    if (spawnSync(command, ['--version']).error) return `${command} is not installed`;
  }
  const { status, stderr } = spawnSync('unshare', ['--net', 'true'], { encoding: 'utf8' });
  return status === 0 ? null : stderr.trim();
}

/**
 * Network namespaces, each with its loopback up and nothing else, and the processes inside.
 * A process that waits for the end of its standard input holds each: all of them end with this process.
 */
export class TestNetwork {
  readonly #children: ChildProcess[] = [];

  /** Makes a namespace, with mounts of its own, and runs `setup` by sh in it. Gives the pid of its holder. */
  async make(setup = ''): Promise<number> {
    const script = `ip link set lo up; echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start; ${setup}\necho; exec cat`;
    const { child } = await this.#start('unshare', ['--net', '--mount', 'sh', '-ec', script]);
    return child.pid ?? 0;
  }

  /** Joins two namespaces by a cable; addresses with prefix lengths for each end. */
  join(a: number, aAddresses: readonly string[], b: number, bAddresses: readonly string[]): void {
    this.run(a, `ip link add to${b} type veth peer name to${a} netns ${b}`);
    this.#raise(a, `to${b}`, aAddresses);
    this.#raise(b, `to${a}`, bAddresses);
  }

  /** Runs a script of sh in a namespace and gives its output. */
  run(holder: number, script: string): string {
    const { status, stdout, stderr } = spawnSync('nsenter', [...inside(holder), 'sh', '-ec', script], {
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    if (status !== 0) throw new Error(`Cannot run "${script}": ${stderr.trim()}`);
    return stdout;
  }

  /** Starts sockets.py in a namespace and waits until all its sockets are open. */
  async openSockets(
    holder: number,
    { kinds = [], flags = [], command = ['/usr/bin/python3', SOCKETS], before = '' }: SocketOptions,
  ): Promise<OpenedSockets> {
    const args = [...inside(holder), 'sh', '-ec', `${before}\nexec "$@"`, 'sh', ...command, ...flags, ...kinds];
    const { line } = await this.#start('nsenter', args);
    const { pid, opened } = JSON.parse(line) as { pid: number; opened: OpenedRow[] };
    return { pids: [...new Set([pid, ...opened.flatMap((row) => row.pids)])], opened };
  }

  /** Ends everything that was started here, the last first. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children.reverse()) {
      child.stdin?.end();
      if (child.exitCode === null) await once(child, 'exit');
    }
  }

  #raise(holder: number, device: string, addresses: readonly string[]): void {
    const add = addresses.map(
      (address) => `ip address add ${address} dev ${device}${address.includes(':') ? ' nodad' : ''}`,
    );
    this.run(holder, [...add, `ip link set ${device} up`].join('\n'));
  }

  /** Starts a child and waits for its first line. */
  async #start(command: string, args: readonly string[]): Promise<{ child: ChildProcess; line: string }> {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#children.push(child);
    for await (const line of createInterface({ input: child.stdout })) return { child, line };
    throw new Error(`Cannot start ${command} ${args.join(' ')}`);
  }
}

/** The inode number of the network namespace of a process. */
export function netnsOf(pid: number): number {
  return Number(/\d+/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[0]);
}

function inside(holder: number): string[] {
  return [`--target=${holder}`, '--net', '--mount'];
}
