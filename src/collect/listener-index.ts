import { sameAddress, type ConnectionColumns } from './connection-columns.ts';
import { grown } from './net-tcp-udp-raw.ts';

const NONE = -1;
/** A slot whose list has ended: a search continues past it. */
const TOMBSTONE = -2;
/** 0.0.0.0, as the columns have it, and ::. */
const WILDCARDS = [new Uint32Array([0, 0, 0xffff, 0]), new Uint32Array(4)];

/** A keyed hash of a local end. */
type LocalHash = (netns: number, table: number, address: ArrayLike<number>, at: number, port: number) => number;

/**
 * Finds listeners by their local end: an open-addressing hash table of lists, all in columns by the index of the connection. A user can open
 * a listener on each port of each address of 127.0.0.0/8, or thousands on one port (SO_REUSEPORT): each takes the same few bytes, and no
 * method takes longer with more of them.
 */
export class ListenerIndex {
  readonly #columns: ConnectionColumns;
  readonly #hash: LocalHash;
  /** The first listener of each list: those with one local end, in the order in which they opened. */
  #slots = new Int32Array(0);
  #slotsUsed = 0;
  #lists = 0;
  /** The next of the list, or NONE; the one before, which is the last of the list for the first. */
  #next = new Int32Array(0);
  #before = new Int32Array(0);

  constructor(columns: ConnectionColumns, hash: LocalHash) {
    this.#columns = columns;
    this.#hash = hash;
  }

  add(i: number): void {
    if (i >= this.#next.length) {
      this.#next = grown(this.#next, new Int32Array(this.#columns.scanOf.length));
      this.#before = grown(this.#before, new Int32Array(this.#columns.scanOf.length));
    }
    if ((this.#slotsUsed + 1) * 2 > this.#slots.length) this.#rehash();
    this.#next[i] = NONE;
    const slot = this.#slotOf(i);
    const first = this.#slots[slot] ?? NONE;
    if (first >= 0) {
      const last = this.#before[first] ?? NONE;
      this.#next[last] = i;
      this.#before[i] = last;
      this.#before[first] = i;
      return;
    }
    this.#before[i] = i;
    this.#slots[slot] = i;
    this.#slotsUsed++;
    this.#lists++;
  }

  /** Takes out a listener that was added. */
  delete(i: number): void {
    const slot = this.#slotOf(i);
    const first = this.#slots[slot] ?? NONE;
    const next = this.#next[i] ?? NONE;
    const before = this.#before[i] ?? NONE;
    if (first !== i) {
      this.#next[before] = next;
      this.#before[next >= 0 ? next : first] = before;
    } else if (next >= 0) {
      this.#slots[slot] = next;
      this.#before[next] = before;
    } else {
      this.#slots[slot] = TOMBSTONE;
      this.#lists--;
    }
  }

  /** The first listener on this address and port, otherwise the first on the port of a wildcard; -1 for none. */
  at(netns: number, table: number, address: ArrayLike<number>, at: number, port: number): number {
    const exact = this.#slots.length === 0 ? NONE : this.#first(netns, table, address, at, port);
    if (exact >= 0 || this.#slots.length === 0) return exact;
    let wildcard = NONE;
    for (const any of WILDCARDS) {
      const found = this.#first(netns, table, any, 0, port);
      if (found >= 0 && (wildcard < 0 || this.#openedIn(found) < this.#openedIn(wildcard))) wildcard = found;
    }
    return wildcard;
  }

  #openedIn(i: number): number {
    return this.#columns.openedIn[i] ?? 0;
  }

  #first(netns: number, table: number, address: ArrayLike<number>, at: number, port: number): number {
    const slot = this.#find(netns, table, address, at, port);
    return this.#slots[slot] ?? NONE;
  }

  /** The slot of the list of a listener, or that of a new list. */
  #slotOf(i: number): number {
    const { netns, table, local, localPort } = this.#columns;
    return this.#find(netns[i] ?? 0, table[i] ?? 0, local, i * 4, localPort[i] ?? 0);
  }

  #find(netns: number, table: number, address: ArrayLike<number>, at: number, port: number): number {
    const columns = this.#columns;
    const mask = this.#slots.length - 1;
    for (let slot = this.#hash(netns, table, address, at, port) & mask; ; slot = (slot + 1) & mask) {
      const first = this.#slots[slot] ?? NONE;
      if (first === NONE) return slot;
      if (
        first !== TOMBSTONE &&
        columns.localPort[first] === port &&
        columns.netns[first] === netns &&
        columns.table[first] === table &&
        sameAddress(columns.local, first * 4, address, at)
      )
        return slot;
    }
  }

  #rehash(): void {
    let length = 64;
    while (length < (this.#lists + 1) * 4) length *= 2;
    const before = this.#slots;
    this.#slots = new Int32Array(length).fill(NONE);
    this.#slotsUsed = this.#lists;
    for (const first of before) if (first >= 0) this.#slots[this.#slotOf(first)] = first;
  }
}
