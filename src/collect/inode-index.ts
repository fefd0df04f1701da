import type { ConnectionColumns } from './connection-columns.ts';

const NONE = -1;
/** A slot whose connection has another inode or is closed: a search continues past it. */
const TOMBSTONE = -2;

/** Finds connections by inode: an open-addressing hash table over the indexes of the connection table, a sixth of the size of a Map. */
export class InodeIndex {
  readonly #columns: ConnectionColumns;
  readonly #factor: number;
  #slots = new Int32Array(64).fill(NONE);
  #used = 0;
  #size = 0;

  /** Inodes are counted up by the kernel. `seed` keeps users from choosing those that collide. */
  constructor(columns: ConnectionColumns, seed: number) {
    this.#columns = columns;
    this.#factor = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
  }

  /** The connection with an inode; -1 for none. */
  get(inode: number): number {
    return this.#slots[this.#find(inode)] ?? NONE;
  }

  /** Sets the connection of its inode. */
  set(inode: number, i: number): void {
    if ((this.#used + 1) * 2 > this.#slots.length) this.#rehash();
    const slot = this.#find(inode);
    if ((this.#slots[slot] ?? NONE) === NONE) {
      this.#used++;
      this.#size++;
    }
    this.#slots[slot] = i;
  }

  /** Takes out an inode, whose connection still has it. */
  delete(inode: number): void {
    const slot = this.#find(inode);
    if ((this.#slots[slot] ?? NONE) < 0) return;
    this.#slots[slot] = TOMBSTONE;
    this.#size--;
  }

  #find(inode: number): number {
    const mask = this.#slots.length - 1;
    const word = Math.imul((inode ^ Math.floor(inode / 2 ** 32)) | 0, this.#factor);
    for (let slot = (word ^ (word >>> 16)) & mask; ; slot = (slot + 1) & mask) {
      const i = this.#slots[slot] ?? NONE;
      if (i === NONE || (i !== TOMBSTONE && this.#columns.inode[i] === inode)) return slot;
    }
  }

  #rehash(): void {
    let length = 64;
    while (length < (this.#size + 1) * 4) length *= 2;
    const before = this.#slots;
    this.#slots = new Int32Array(length).fill(NONE);
    this.#used = this.#size;
    for (const i of before) if (i >= 0) this.#slots[this.#find(this.#columns.inode[i] ?? 0)] = i;
  }
}
