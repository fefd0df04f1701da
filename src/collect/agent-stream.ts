import { endianness } from 'node:os';
import { getSystemErrorMessage } from 'node:util';
import type { Timer } from '../common/clock.ts';
import {
  DUMP,
  encodeRequests,
  EVENT,
  FAILED,
  FrameDecoder,
  HELLO,
  NSID,
  OVERRUN,
  REQUEST_DUMP,
  REQUEST_NSID,
  WIRE_VERSION,
  type Frame,
} from './agent-frames.ts';
import { EndedQueue } from './ended-queue.ts';
import { DiagRows, parseDump, parseNsid, type EndedSockets } from './sock-diag.ts';
import type { SocketDump, SocketSource } from './socket-source.ts';

/** A connection to an agent. It keeps the process alive only between ref() and unref(). */
export interface AgentLink {
  write(bytes: Uint8Array): void;
  ref(): void;
  unref(): void;
  destroy(): void;
}

/** What a connection reports. Chunks are valid until `data` returns. `end` comes last, with the reason. */
export interface AgentEvents {
  readonly data: (chunk: Uint8Array) => void;
  readonly end: (reason: string) => void;
}

/** Connects to an agent or starts one; returns the reason if that is impossible. */
export type AgentConnector = (events: AgentEvents) => AgentLink | string;

const SHORTEST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** How long an agent may take to send its first frame. */
const HELLO_MS = 5_000;
/** How long replies about namespaces are waited for. */
const NSIDS_MS = 1_000;
/** The most rows of a dump. An agent that sends more is not one. */
const MOST_ROWS = 1 << 21;
const HELLO_LENGTH = 24;
const HEARS_ALL = 1;
const EIO = 5;
const FAMILIES = [
  { family: 2, version: 4 },
  { family: 10, version: 6 },
] as const;

/** A dump of one family: it is not requested, it is awaited, or it arrives too late and is discarded. */
interface FamilyDump {
  readonly version: 4 | 6;
  readonly rows: DiagRows;
  status: 'idle' | 'awaited' | 'late';
}

interface Waiter {
  readonly isReady: () => boolean;
  readonly settle: (isReady: boolean) => void;
}

/** The sockets that an agent reports over a stream. Reconnects by itself. */
export class AgentStream implements SocketSource {
  scope: 'own' | 'all' = 'own';
  failure: string | null = 'The socket agent is not connected yet';
  netns: number | null = null;
  readonly #connect: AgentConnector;
  readonly #clock: Timer;
  readonly #littleEndian = endianness() === 'LE';
  readonly #ended = new EndedQueue();
  readonly #dumps = new Map<number, FamilyDump>();
  readonly #waiters = new Set<Waiter>();
  /** The processes whose namespace was asked for, with the answer: null for none, undefined while it is awaited. */
  readonly #nsids = new Map<number, number | null | undefined>();
  #link: AgentLink | null = null;
  #isGreeted = false;
  #overruns = 0;
  #failedAttempts = 0;
  #cancelTimer: () => void = () => undefined;
  #running: Promise<SocketDump | null> | null = null;
  #isClosed = false;

  constructor(connect: AgentConnector, clock: Timer) {
    this.#connect = connect;
    this.#clock = clock;
    for (const { family, version } of FAMILIES)
      this.#dumps.set(family, { version, rows: new DiagRows(), status: 'idle' });
    this.#open();
  }

  get isUp(): boolean {
    return this.failure === null;
  }

  get events(): number {
    return this.#ended.events;
  }

  get overruns(): number {
    return this.#overruns + this.#ended.overruns;
  }

  takeEnded(): EndedSockets {
    return this.#ended.take();
  }

  dump(withinMs: number): Promise<SocketDump | null> {
    this.#running ??= this.#dump(this.#clock.monotonic() + withinMs).finally(() => (this.#running = null));
    return this.#running;
  }

  async nsidsOf(pids: readonly number[]): Promise<ReadonlyMap<number, number>> {
    const deadline = this.#clock.monotonic() + NSIDS_MS;
    if (pids.length === 0 || !(await this.#wait(() => this.#isGreeted, deadline))) return new Map();
    for (const pid of pids) this.#nsids.set(pid, undefined);
    const requests = pids.map((pid) => ({ kind: REQUEST_NSID, pid }));
    this.#link?.write(encodeRequests(requests, this.#littleEndian));
    await this.#wait(() => pids.every((pid) => this.#nsids.get(pid) !== undefined), deadline);
    const found = new Map<number, number>();
    for (const pid of pids) {
      const nsid = this.#nsids.get(pid);
      if (nsid !== undefined && nsid !== null) found.set(pid, nsid);
      this.#nsids.delete(pid);
    }
    return found;
  }

  close(): void {
    this.#isClosed = true;
    this.#break('The socket agent is not used any more');
  }

  async #dump(deadline: number): Promise<SocketDump | null> {
    const isFree = (): boolean => this.#isGreeted && this.#families.every(({ status }) => status === 'idle');
    if (!(await this.#wait(isFree, deadline))) {
      if (this.#isGreeted) this.#break('The socket agent does not finish a dump');
      return null;
    }
    // The kernel may say that sockets changed under a dump: then another one is asked for, once.
    for (let attempt = 1; ; attempt++) {
      for (const one of this.#families) {
        one.rows.clear();
        one.status = 'awaited';
      }
      const requests = FAMILIES.map(({ family }) => ({ kind: REQUEST_DUMP, family }));
      this.#link?.write(encodeRequests(requests, this.#littleEndian));
      if (!(await this.#wait(isFree, deadline))) {
        for (const one of this.#families) if (one.status === 'awaited') one.status = 'late';
        if (this.#isGreeted) this.failure = 'The socket agent did not answer in time';
        return null;
      }
      const failed = this.#families.find(({ rows }) => rows.errno !== 0);
      if (failed) {
        this.failure = `The kernel does not dump sockets: ${getSystemErrorMessage(-failed.rows.errno)}`;
        return null;
      }
      if (attempt === 2 || !this.#families.some(({ rows }) => rows.isInterrupted)) break;
    }
    const [tcp, tcp6] = this.#families;
    if (!tcp || !tcp6 || this.netns === null) return null;
    this.failure = null;
    this.#failedAttempts = 0;
    return { netns: this.netns, tcp: tcp.rows, tcp6: tcp6.rows };
  }

  get #families(): FamilyDump[] {
    return [...this.#dumps.values()];
  }

  #open(): void {
    const decoder = new FrameDecoder(this.#littleEndian, (frame) => {
      if (this.#link === link) this.#receive(frame);
    });
    let link: AgentLink | null = null;
    const opened = this.#connect({
      data: (chunk) => {
        if (link === null || this.#link !== link) return;
        decoder.push(chunk);
        if (decoder.invalidLength !== null) this.#violated(`a frame of ${decoder.invalidLength} bytes`);
        for (const waiter of this.#waiters) if (waiter.isReady()) waiter.settle(true);
      },
      end: (reason) => {
        if (link !== null && this.#link === link) this.#break(reason);
      },
    });
    if (typeof opened === 'string') {
      this.#break(opened);
      return;
    }
    link = opened;
    this.#link = opened;
    if (this.#waiters.size > 0) opened.ref();
    this.#cancelTimer = this.#clock.after(HELLO_MS, () => this.#violated('nothing'));
  }

  #receive({ kind, value, nsid, payload }: Frame): void {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const word = (at: number): number => (at + 4 <= payload.length ? view.getUint32(at, this.#littleEndian) : 0);
    if (!this.#isGreeted) this.#greet(kind, payload.length, word);
    else if (kind === EVENT) this.#ended.append(payload, this.#littleEndian, nsid, this.#clock.monotonic());
    else if (kind === DUMP) this.#receiveDump(value, payload);
    else if (kind === OVERRUN) this.#overruns += word(0);
    else if (kind === NSID) this.#answerNsid(word(0), parseNsid(payload.subarray(4), this.#littleEndian));
    else if (kind === FAILED && value === REQUEST_NSID) this.#answerNsid(word(4), null);
    else if (kind === FAILED && value === REQUEST_DUMP) this.#endDump(word(4), word(0) | 0);
    else this.#violated(`a frame of kind ${kind}`);
  }

  #greet(kind: number, length: number, word: (at: number) => number): void {
    const version = word(0);
    if (kind !== HELLO || length !== HELLO_LENGTH) this.#violated('no greeting');
    else if (version !== WIRE_VERSION)
      this.#break(`The socket agent speaks version ${version}, this program version ${WIRE_VERSION}`);
    else {
      this.#cancelTimer();
      this.#isGreeted = true;
      this.scope = (word(4) & HEARS_ALL) !== 0 ? 'all' : 'own';
      const [low, high] = this.#littleEndian ? [word(8), word(12)] : [word(12), word(8)];
      this.netns = high * 4294967296 + low;
      this.failure = null;
    }
  }

  #receiveDump(family: number, payload: Uint8Array): void {
    const dump = this.#dumps.get(family);
    if (!dump || dump.status === 'idle') {
      this.#violated('a dump that was not requested');
      return;
    }
    if (dump.status === 'late') dump.rows.clear();
    parseDump(payload, dump.version, this.#littleEndian, dump.rows);
    if (dump.rows.isComplete) dump.status = 'idle';
    else if (dump.rows.count > MOST_ROWS) this.#violated(`a dump of over ${MOST_ROWS} sockets`);
  }

  #endDump(family: number, errno: number): void {
    const dump = this.#dumps.get(family);
    if (!dump) return;
    dump.rows.errno = Math.abs(errno) || EIO;
    dump.status = 'idle';
  }

  #answerNsid(pid: number, nsid: number | null): void {
    if (this.#nsids.has(pid)) this.#nsids.set(pid, nsid);
  }

  #violated(what: string): void {
    this.#break(`The socket agent sent ${what}`);
  }

  /** Ends the connection, answers all that wait, and connects again after a pause. */
  #break(reason: string): void {
    this.#cancelTimer();
    // What ends until it is connected again is not reported.
    if (this.#isGreeted && !this.#isClosed) this.#overruns++;
    this.#link?.destroy();
    this.#link = null;
    this.#isGreeted = false;
    this.failure = reason;
    this.#nsids.clear();
    for (const one of this.#families) one.status = 'idle';
    for (const waiter of this.#waiters) waiter.settle(false);
    if (this.#isClosed) return;
    const pause = Math.min(LONGEST_PAUSE_MS, SHORTEST_PAUSE_MS * 2 ** this.#failedAttempts++);
    this.#cancelTimer = this.#clock.after(pause, () => this.#open());
  }

  /** Resolves with true as soon as something is ready; with false at the deadline, or if the connection breaks. */
  #wait(isReady: () => boolean, deadline: number): Promise<boolean> {
    if (isReady() || !this.#link) return Promise.resolve(isReady());
    return new Promise((resolve) => {
      const cancel = this.#clock.after(Math.max(0, deadline - this.#clock.monotonic()), () => waiter.settle(false));
      const waiter: Waiter = {
        isReady,
        settle: (ready) => {
          cancel();
          this.#waiters.delete(waiter);
          if (this.#waiters.size === 0) this.#link?.unref();
          resolve(ready);
        },
      };
      this.#waiters.add(waiter);
      this.#link?.ref();
    });
  }
}
