import { sameAddress, type ConnectionColumns } from './connection-columns.ts';
import { grown, RAW, type SocketRows } from './net-tcp-udp-raw.ts';

const FREE = -1;
/** A slot whose connection is closed: a search continues past it. */
const TOMBSTONE = -2;
const V4_MAPPED = 0xffff;

const NO_ADDRESS = new Uint32Array(4);

type EndsHash = (
  netns: number,
  transport: number,
  local: ArrayLike<number>,
  at: number,
  localPort: number,
  remote: ArrayLike<number>,
  bt: number,
  remotePort: number,
  inode: number,
) => number;

/**
 * Mixes a word into a keyed hash; attackers cannot choose collisions. Each word goes through two multiplications by secret odd numbers
 * with a shift between, so that no difference of words cancels out, whatever the seed.
 */
export function mixer(seed: number): (hash: number, word: number) => number {
  const first = firstFactor(seed);
  const second = secondFactor(seed);
  return (hash, word) => {
    const mixed = Math.imul(hash ^ word, first);
    return Math.imul(mixed ^ (mixed >>> 15), second);
  };
}

function firstFactor(seed: number): number {
  return Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
}

function secondFactor(seed: number): number {
  return Math.imul(seed ^ 0x7f4a7c15, 0xc2b2ae35) | 1;
}

/**
 * A keyed hash of both endpoints. The IPv4 and the IPv6 table of a transport hash alike, so that one search finds a mirror in either. Of two
 * IPv4 addresses only the last words differ. It mixes as `mixer` does, without calls: the first scan runs uncompiled.
 */
function endsHash(seed: number): EndsHash {
  const first = firstFactor(seed);
  const second = secondFactor(seed);
  return (netns, transport, local, at, localPort, remote, bt, remotePort, inode) => {
    let hash = Math.imul(seed ^ (netns * 4 + transport) ^ ((localPort << 16) | remotePort), first);
    hash = Math.imul(hash ^ (hash >>> 15), second);
    for (let i = isV4(local, at) && isV4(remote, bt) ? 3 : 0; i < 4; i++) {
      hash = Math.imul(hash ^ (local[at + i] ?? 0), first);
      hash = Math.imul(hash ^ (hash >>> 15), second);
      hash = Math.imul(hash ^ (remote[bt + i] ?? 0), first);
      hash = Math.imul(hash ^ (hash >>> 15), second);
    }
    hash = Math.imul(hash ^ inode, first);
    hash = Math.imul(hash ^ (hash >>> 15), second);
    return (hash ^ (hash >>> 16)) >>> 0;
  };
}

/** Says whether the address at a place is an IPv4 address. */
export function isV4(words: ArrayLike<number>, at: number): boolean {
  return words[at + 2] === V4_MAPPED && words[at] === 0 && words[at + 1] === 0;
}

/** Finds connections by their ends: an open-addressing hash table over the connection table's indexes. */
export class EndsIndex {
  readonly #columns: ConnectionColumns;
  readonly #hash: EndsHash;
  #hashes = new Uint32Array(0);
  #slots = new Int32Array(0);
  #slotsUsed = 0;

  /** `seed` is 32 random bits. */
  constructor(columns: ConnectionColumns, seed: number) {
    this.#columns = columns;
    this.#hash = endsHash(seed);
  }

  /** The hash of a row; `inode` is 0 for a row with a remote end. */
  hashOf(netns: number, table: number, rows: SocketRows, row: number, inode: number): number {
    const localPort = rows.localPort[row] ?? 0;
    const remotePort = rows.remotePort[row] ?? 0;
    return this.#hash(netns, table >> 1, rows.local, row * 4, localPort, rows.remote, row * 4, remotePort, inode);
  }

  /** The hash of a local end alone. */
  hashOfLocal(netns: number, table: number, local: ArrayLike<number>, at: number, port: number): number {
    return this.#hash(netns, table >> 1, local, at, port, NO_ADDRESS, 0, 0, 0);
  }

  /** The hash that a connection was inserted with. */
  hashAt(i: number): number {
    return this.#hashes[i] ?? 0;
  }

  /** The connection of a row: the one with the same inode, otherwise (unless `byInode`) one with the same ends; -1 for none. */
  find(hash: number, netns: number, table: number, rows: SocketRows, row: number, byInode: boolean): number {
    const columns = this.#columns;
    const mask = this.#slots.length - 1;
    if (mask < 0) return -1;
    const at = row * 4;
    const inode = rows.inode[row] ?? 0;
    const localPort = rows.localPort[row];
    const remotePort = rows.remotePort[row];
    let sameEnds = -1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const i = this.#slots[slot] ?? FREE;
      if (i === FREE) return sameEnds;
      if (
        i === TOMBSTONE ||
        this.#hashes[i] !== hash ||
        columns.netns[i] !== netns ||
        columns.table[i] !== table ||
        columns.localPort[i] !== localPort ||
        columns.remotePort[i] !== remotePort ||
        !sameAddress(columns.local, i * 4, rows.local, at) ||
        !sameAddress(columns.remote, i * 4, rows.remote, at)
      )
        continue;
      if (columns.inode[i] === inode) return i;
      if (!byInode && (sameEnds < 0 || columns.inode[i] === 0)) sameEnds = i;
    }
  }

  /**
   * The unpaired connection with the ends exchanged, in the same namespace and transport, in the table of either address family
   * (the connection itself, if it is connected to itself); -1 for none.
   */
  mirrorOf(i: number): number {
    const columns = this.#columns;
    const mask = this.#slots.length - 1;
    const at = i * 4;
    const netns = columns.netns[i] ?? 0;
    const table = columns.table[i] ?? 0;
    const transport = table >> 1;
    if (table >= RAW) return -1;
    const localPort = columns.localPort[i] ?? 0;
    const remotePort = columns.remotePort[i] ?? 0;
    const hash = this.#hash(netns, transport, columns.remote, at, remotePort, columns.local, at, localPort, 0);
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const other = this.#slots[slot] ?? FREE;
      if (other === FREE) return -1;
      if (
        other !== TOMBSTONE &&
        (columns.pair[other] ?? -1) < 0 &&
        this.#hashes[other] === hash &&
        columns.netns[other] === netns &&
        (columns.table[other] ?? 0) >> 1 === transport &&
        columns.localPort[other] === remotePort &&
        columns.remotePort[other] === localPort &&
        sameAddress(columns.local, other * 4, columns.remote, at) &&
        sameAddress(columns.remote, other * 4, columns.local, at)
      )
        return other;
    }
  }

  insert(i: number, hash: number): void {
    if (i >= this.#hashes.length) this.#hashes = grown(this.#hashes, new Uint32Array(this.#columns.scanOf.length));
    this.#hashes[i] = hash;
    if ((this.#slotsUsed + 1) * 2 > this.#slots.length) this.#rehash();
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    while ((this.#slots[slot] ?? FREE) >= 0) slot = (slot + 1) & mask;
    if (this.#slots[slot] === FREE) this.#slotsUsed++;
    this.#slots[slot] = i;
  }

  remove(i: number): void {
    const mask = this.#slots.length - 1;
    let slot = (this.#hashes[i] ?? 0) & mask;
    while (this.#slots[slot] !== i) slot = (slot + 1) & mask;
    this.#slots[slot] = TOMBSTONE;
  }

  #rehash(): void {
    let length = 1024;
    while (length < this.#columns.size * 4) length *= 2;
    const slots = new Int32Array(length).fill(FREE);
    this.#slotsUsed = 0;
    const before = this.#slots;
    for (let at = 0; at < before.length; at++) {
      const i = before[at] ?? FREE;
      if (i < 0) continue;
      let slot = (this.#hashes[i] ?? 0) & (length - 1);
      while (slots[slot] !== FREE) slot = (slot + 1) & (length - 1);
      slots[slot] = i;
      this.#slotsUsed++;
    }
    this.#slots = slots;
  }
}
