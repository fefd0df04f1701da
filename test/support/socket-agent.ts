/** Compiles, starts and speaks with the socket agent, native/sockets.c. */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';

const SOURCE = join(import.meta.dirname, '../../native/sockets.c');
export const WARNINGS = ['-Wall', '-Wextra', '-Werror', '-Wshadow', '-Wmissing-prototypes', '-Wstrict-prototypes'];
export const SANITIZERS = ['-g', '-fsanitize=address,undefined', '-fno-sanitize-recover'];
/** Leaks are found by ptrace, which the agent does not allow. */
export const SANITIZER_OPTIONS = {
  ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1',
  UBSAN_OPTIONS: 'print_stacktrace=1',
};

export const KINDS = { hello: 1, dump: 2, event: 3, overrun: 4, nsid: 5, failed: 6 } as const;
export const IPV4 = 2;
export const IPV6 = 10;
const DONE = 3;
const HEADER_BYTES = 12;

export interface Frame {
  readonly kind: number;
  readonly value: number;
  readonly nsid: number;
  readonly payload: Buffer;
}

/** Says why the agent cannot be compiled here; null where it can. */
export function whyNoCompiler(): string | null {
  if (process.platform !== 'linux') return 'the socket agent is for Linux';
  return spawnSync('cc', ['--version']).error ? 'cc is not installed' : null;
}

export function compileAgent(output: string, ...flags: readonly string[]): string {
  execFileSync('cc', [...WARNINGS, ...flags, '-o', output, SOURCE], { stdio: ['ignore', 'ignore', 'inherit'] });
  return output;
}

/** A request of a client, in the byte order of this host. */
export function request(kind: 'dump' | 'nsid', family: number, pid: number): Buffer {
  const bytes = Buffer.from([1, kind === 'dump' ? 1 : 2, 0, 0, 0, 0, 0, 0]);
  bytes.writeUInt16LE(family, 2);
  bytes.writeUInt32LE(pid, 4);
  return bytes;
}

/** The netlink messages of a datagram. */
export function* messages(datagram: Buffer): Generator<{ readonly type: number; readonly body: Buffer }> {
  for (let at = 0; at + 16 <= datagram.length;) {
    const length = datagram.readUInt32LE(at);
    yield { type: datagram.readUInt16LE(at + 4), body: datagram.subarray(at + 16, at + length) };
    at += (length + 3) & ~3;
  }
}

/** The ports of an event: those of the first message of the datagram. */
export function portsOf({ payload }: Frame): { readonly local: number; readonly remote: number } {
  return { local: payload.readUInt16BE(20), remote: payload.readUInt16BE(22) };
}

/** The nsid in the reply to RTM_GETNSID; null if the kernel answered with an error. */
export function nsidOf({ payload }: Frame): number | null {
  const [reply] = messages(payload.subarray(4));
  return reply?.type === 2 ? null : (reply?.body.readInt32LE(8) ?? null);
}

/** One client of an agent. It keeps the frames until they are asked for. */
export class AgentClient {
  readonly socket: Socket;
  readonly #frames: Frame[] = [];
  #rest: Buffer = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  isClosed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (bytes: Buffer) => this.#take(bytes));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isClosed = true;
      this.#wake();
    });
  }

  static async connect(path: string): Promise<AgentClient> {
    const client = new AgentClient(connect(path));
    await once(client.socket, 'connect');
    return client;
  }

  /** Connects until the agent serves this client, and takes its HELLO. An agent may still have another client. */
  static async served(path: string): Promise<AgentClient> {
    for (;;) {
      const client = await AgentClient.connect(path);
      if ((await client.next()) !== null) return client;
    }
  }

  /** The next frame, or the next one of a kind: those before it are dropped. Null if the agent has closed the connection. */
  async next(kind?: number): Promise<Frame | null> {
    for (;;) {
      for (let frame = this.#frames.shift(); frame !== undefined; frame = this.#frames.shift())
        if (kind === undefined || frame.kind === kind) return frame;
      if (this.isClosed) return null;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** The datagrams of a dump; null if it failed. */
  async dump(family: number): Promise<Buffer[] | null> {
    this.socket.write(request('dump', family, 0));
    const datagrams: Buffer[] = [];
    for (;;) {
      const frame = await this.next();
      if (frame === null || frame.kind === KINDS.failed) return null;
      if (frame.kind !== KINDS.dump) continue;
      datagrams.push(frame.payload);
      if ([...messages(frame.payload)].some(({ type }) => type === DONE)) return datagrams;
    }
  }

  async nsid(pid: number): Promise<number | null> {
    this.socket.write(request('nsid', 0, pid));
    const frame = await this.next(KINDS.nsid);
    return frame && nsidOf(frame);
  }

  /** Waits for the close, whatever comes before it. */
  async closed(): Promise<void> {
    while ((await this.next()) !== null) continue;
  }

  close(): void {
    this.socket.destroy();
  }

  #take(bytes: Buffer): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    let at = 0;
    while (at + HEADER_BYTES <= this.#rest.length) {
      const end = at + HEADER_BYTES + this.#rest.readUInt32LE(at);
      if (end > this.#rest.length) break;
      const [kind, value] = [this.#rest.readUInt16LE(at + 4), this.#rest.readUInt16LE(at + 6)];
      const payload = Buffer.from(this.#rest.subarray(at + HEADER_BYTES, end));
      this.#frames.push({ kind, value, nsid: this.#rest.readInt32LE(at + 8), payload });
      at = end;
    }
    this.#rest = this.#rest.subarray(at);
    this.#wake();
  }
}

/** A program and its arguments. */
export type Command = readonly [program: string, ...args: string[]];

/** A running agent. `command` starts it, and ends with its path. */
export class Agent {
  readonly #child: ChildProcess;
  #log = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stderr?.on('data', (bytes: Buffer) => (this.#log += bytes.toString()));
  }

  /** Starts an agent that listens, and waits until it does. */
  static async listen(command: Command, path: string, uid: number, env = {}): Promise<Agent> {
    const [program, ...args] = [...command, '--listen', path, '--uid', String(uid)];
    const agent = new Agent(
      spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } }),
    );
    while (!agent.log.includes('\n') && agent.#child.exitCode === null)
      await Promise.race([once(agent.#child.stderr ?? agent.#child, 'data'), once(agent.#child, 'close')]);
    return agent;
  }

  /** Starts an agent with one client, by an inherited descriptor. */
  static inherit(
    command: Command,
    ...options: readonly string[]
  ): { readonly agent: Agent; readonly client: AgentClient } {
    const [program, ...args] = [...command, '--fd', '3', ...options];
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
    return { agent: new Agent(child), client: new AgentClient(child.stdio[3] as unknown as Socket) };
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** What it has written to standard error. */
  get log(): string {
    return this.#log;
  }

  /** A field of /proc/PID/status. */
  status(field: string): string {
    const text = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return new RegExp(`^${field}:\\s+(.*)$`, 'm').exec(text)?.[1] ?? '';
  }

  /** The CPU time that it has used, in clock ticks of 10 ms. */
  cpuTicks(): number {
    const fields = readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
    return Number(fields[11]) + Number(fields[12]);
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Waits for its end; gives its exit code, or the signal that ended it. */
  async ended(): Promise<number | NodeJS.Signals | null> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'close');
    return this.#child.exitCode ?? this.#child.signalCode;
  }

  async stop(): Promise<number | NodeJS.Signals | null> {
    this.signal('SIGTERM');
    return await this.ended();
  }
}
