import type {
  Address,
  Direction,
  DirectionEvidence,
  OwnerEvidence,
  OwnerLabels,
  Process,
  SocketTotals,
  UnattributedReason,
} from '../model.ts';
import { grown } from './net-tcp-udp-raw.ts';

const V4_MAPPED = 0xffff;

/** A type whose fields, columns included, can only be read. */
export type ReadOnly<T> = {
  readonly [Key in keyof T]: T[Key] extends Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array
    ? ArrayLike<number>
    : T[Key] extends (infer Item)[]
      ? readonly Item[]
      : T[Key] extends Set<infer Item>
        ? ReadonlySet<Item>
        : T[Key];
};

/** The bit of `liveState` for a socket with an inode. */
export const HELD = 0x80;

/** From this length on, columns grow by less than to the double: they would take a third of the memory for nothing. */
const LARGE = 65_536;
const LARGE_GROWTH = 1.25;

/**
 * What is known of each connection, as columns. An index keeps its connection from open to close; addresses take four words an index.
 * Only the connection table and its parts (direction, index of the ends) write here: `touch` must follow every change that a metric
 * or a name depends on.
 */
export class ConnectionColumns {
  /** One above the highest index in use; free indexes below it have `scanOf` 0. */
  length = 0;
  /** Number of connections. */
  size = 0;
  /** Connections whose direction is a guess by port number. */
  guessed = 0;

  /** The number of the last scan that found the connection; 0 marks a free index. */
  scanOf = new Uint32Array(0);
  /** The number of the first scan that found the connection. */
  openedIn = new Uint32Array(0);
  /** Start of that scan, milliseconds since 1970; 0 if the connection may be older. */
  openedAt = new Float64Array(0);
  netns = new Int32Array(0);
  table = new Uint8Array(0);
  local = new Uint32Array(0);
  remote = new Uint32Array(0);
  localPort = new Uint16Array(0);
  remotePort = new Uint16Array(0);
  state = new Uint8Array(0);
  sendQueue = new Uint32Array(0);
  receiveQueue = new Uint32Array(0);
  uid = new Uint32Array(0);
  inode = new Float64Array(0);
  /** Index of the other end in the same namespace; -1 without one. */
  pair = new Int32Array(0);
  /** 1 if the local end is the service; decided with the direction. */
  serves = new Uint8Array(0);
  /** 1 if anything that its metrics depend on may have changed since `settle`. */
  changed = new Uint8Array(0);
  /** The columns from here to `weight` are empty until `keepTotals`: only netlink fills them. */
  cookie = new Float64Array(0);
  /** 1 if the kernel gave the totals with the last row of the connection, or when it ended. */
  hasTotals = new Uint8Array(0);
  /** Payload since the connection opened. */
  sentBytes = new Float64Array(0);
  receivedBytes = new Float64Array(0);
  retransmittedBytes = new Float64Array(0);
  /** Smoothed and lowest round-trip time in microseconds; 0 if unknown. */
  roundTripUs = new Uint32Array(0);
  minRoundTripUs = new Uint32Array(0);
  /** 1 if the kernel reported the end of the socket. */
  ended = new Uint8Array(0);
  /** The last state before TIME_WAIT, and whether the socket had an inode then: see `liveStateOf`. */
  liveState = new Uint8Array(0);
  /**
   * How many connections an index stands for: more than 1 if it stands for connections known only by their end, 0 for the
   * TIME_WAIT row of one of those.
   */
  weight = new Uint32Array(0);
  keepsTotals = false;
  readonly direction: Direction[] = [];
  readonly evidence: (DirectionEvidence | null)[] = [];
  /** The process the connection is counted for; `holders` are all processes with a descriptor of it. */
  readonly process: (Process | null)[] = [];
  readonly holders: (readonly Process[])[] = [];
  readonly ownerEvidence: (OwnerEvidence | null)[] = [];
  readonly reason: (UnattributedReason | null)[] = [];
  readonly labels: (OwnerLabels | null)[] = [];

  /** Marks a connection as changed: owner, peer and metrics are computed again. */
  touch(index: number): void {
    this.changed[index] = 1;
  }

  /** Says whether an index holds a connection. */
  has(index: number): boolean {
    return (this.scanOf[index] ?? 0) !== 0;
  }

  /** The indexes of all connections. */
  *indexes(): Generator<number> {
    for (let i = 0; i < this.length; i++) if (this.scanOf[i] !== 0) yield i;
  }

  localAddress(index: number): Address {
    return addressAt(this.local, index * 4);
  }

  remoteAddress(index: number): Address {
    return addressAt(this.remote, index * 4);
  }

  /** Says whether a connection has a remote end. */
  hasRemote(index: number): boolean {
    return isRemote(this.remote, index * 4, this.remotePort[index] ?? 0);
  }

  /** Says whether a connection is the client end of a loopback pair, which the endpoint family leaves out. */
  isDuplicate(index: number): boolean {
    return (this.pair[index] ?? -1) >= 0 && this.serves[index] === 0;
  }

  /** How many connections an index stands for. */
  weightOf(index: number): number {
    return this.keepsTotals ? (this.weight[index] ?? 1) : 1;
  }

  /** The totals of a connection; null if the kernel did not give them. */
  totalsOf(index: number): SocketTotals | null {
    if (this.hasTotals[index] !== 1) return null;
    return {
      sentBytes: this.sentBytes[index] ?? 0,
      receivedBytes: this.receivedBytes[index] ?? 0,
      retransmittedBytes: this.retransmittedBytes[index] ?? 0,
      roundTripSeconds: seconds(this.roundTripUs[index]),
      minRoundTripSeconds: seconds(this.minRoundTripUs[index]),
    };
  }

  /** Adds the columns that only netlink fills; to be called before the first scan. */
  keepTotals(): void {
    if (this.keepsTotals) return;
    this.keepsTotals = true;
    this.#growTotals(this.scanOf.length);
  }

  #growTotals(capacity: number): void {
    const before = this.weight.length;
    this.cookie = grown(this.cookie, new Float64Array(capacity));
    this.hasTotals = grown(this.hasTotals, new Uint8Array(capacity));
    this.sentBytes = grown(this.sentBytes, new Float64Array(capacity));
    this.receivedBytes = grown(this.receivedBytes, new Float64Array(capacity));
    this.retransmittedBytes = grown(this.retransmittedBytes, new Float64Array(capacity));
    this.roundTripUs = grown(this.roundTripUs, new Uint32Array(capacity));
    this.minRoundTripUs = grown(this.minRoundTripUs, new Uint32Array(capacity));
    this.ended = grown(this.ended, new Uint8Array(capacity));
    this.liveState = grown(this.liveState, new Uint8Array(capacity));
    this.weight = grown(this.weight, new Uint32Array(capacity)).fill(1, before);
  }

  protected grow(): void {
    const { length } = this.scanOf;
    const capacity = length < LARGE ? Math.max(1024, length * 2) : Math.ceil(length * LARGE_GROWTH);
    this.scanOf = grown(this.scanOf, new Uint32Array(capacity));
    this.openedIn = grown(this.openedIn, new Uint32Array(capacity));
    this.openedAt = grown(this.openedAt, new Float64Array(capacity));
    this.netns = grown(this.netns, new Int32Array(capacity));
    this.table = grown(this.table, new Uint8Array(capacity));
    this.local = grown(this.local, new Uint32Array(capacity * 4));
    this.remote = grown(this.remote, new Uint32Array(capacity * 4));
    this.localPort = grown(this.localPort, new Uint16Array(capacity));
    this.remotePort = grown(this.remotePort, new Uint16Array(capacity));
    this.state = grown(this.state, new Uint8Array(capacity));
    this.sendQueue = grown(this.sendQueue, new Uint32Array(capacity));
    this.receiveQueue = grown(this.receiveQueue, new Uint32Array(capacity));
    this.uid = grown(this.uid, new Uint32Array(capacity));
    this.inode = grown(this.inode, new Float64Array(capacity));
    this.pair = grown(this.pair, new Int32Array(capacity));
    this.serves = grown(this.serves, new Uint8Array(capacity));
    this.changed = grown(this.changed, new Uint8Array(capacity));
    if (this.keepsTotals) this.#growTotals(capacity);
  }
}

/** Says whether an address and port are those of a remote end, and not the wildcard. */
export function isRemote(remote: ArrayLike<number>, at: number, port: number): boolean {
  return port !== 0 || !isWildcard(remote, at);
}

/** Says whether the address at a place is 0.0.0.0 or ::. */
export function isWildcard(words: ArrayLike<number>, at: number): boolean {
  const third = words[at + 2];
  return words[at + 3] === 0 && words[at] === 0 && words[at + 1] === 0 && (third === 0 || third === V4_MAPPED);
}

/** Says whether two places hold the same address. */
export function sameAddress(a: ArrayLike<number>, at: number, b: ArrayLike<number>, bt: number): boolean {
  return a[at + 3] === b[bt + 3] && a[at] === b[bt] && a[at + 1] === b[bt + 1] && a[at + 2] === b[bt + 2];
}

function seconds(microseconds: number | undefined): number | null {
  return microseconds ? microseconds / 1e6 : null;
}

function addressAt(words: Uint32Array, at: number): Address {
  return [words[at] ?? 0, words[at + 1] ?? 0, words[at + 2] ?? 0, words[at + 3] ?? 0];
}
