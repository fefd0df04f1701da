import { failed, type Procfs } from './procfs.ts';
import { parseStat } from './pid-stat.ts';

/**
 * Each scan reads again this share of all cached descriptors, in rotation, and the least number of them. A round of 18 scans becomes
 * one of 20 at most when tables come, go and grow in the middle of it.
 */
const ROTATION = 18;
const ROTATION_LEAST = 200;
/** A slot is a thread's number and a descriptor in one double: Linux has fewer than 2^22 threads and 2^31 descriptors. */
const SLOT_FDS = 2 ** 31;
/** Instead of a count: a table that is yet to be read, and one whose descriptors may not even be counted. */
const UNREAD = -1;
const UNCOUNTED = -2;

/** What is cached of one descriptor table: that of a process, or of a thread that has its own. */
interface FdTable {
  /** The directory below /proc that shows it: the pid, or the thread's number. */
  readonly tid: number;
  /** The process it belongs to. */
  readonly pid: number;
  /** Number of descriptors when they were read last. */
  count: number;
  /** Inode of each descriptor's socket, 0 for what is no socket. */
  inodes: Map<number, number>;
  /** The kernel did not let it be listed. */
  denied: boolean;
  /** The process is a zombie whose threads live on. */
  leaderless: boolean;
  /** The scan that read it whole last. */
  readAt: number;
}

/** The sockets that owners are looked up for: those of the socket tables, as of the scan under way. */
export interface LiveSockets {
  /** Says whether a socket table has a row with this inode. */
  readonly isLive: (inode: number) => boolean;
  /** Inodes that came into the tables with this scan, and those that left them. */
  readonly arrived: readonly number[];
  readonly left: readonly number[];
  /** The processes of the namespace of a row, by its inode: where its owner is looked for first. */
  readonly neighbours: (inode: number) => readonly number[];
}

/**
 * Which processes hold which socket: a cache of every process's descriptors, kept true from scan to scan.
 *
 * A walk over all descriptors costs twice what reading the socket tables costs, so it is done once. After it, a scan
 * 1. counts the descriptors of every process (one stat), and reads again those of a new process and where the count changed;
 * 2. when sockets are new, looks first where one that left the tables was: a process's next descriptor is its lowest free one;
 * 3. reads on, neighbours in the network namespace first, until the owner of every new socket is found;
 * 4. reads a share of all descriptors again in rotation, because close() and open() leave the count as it was. So a socket
 *    that changed hands unnoticed is put right within 20 scans, and a new socket's owner is never missed.
 * What nobody holds (kernel sockets, descriptors in flight) is searched for once, when it is new; then the rotation would meet it.
 */
export class SocketOwners {
  /** Processes whose descriptors the kernel does not let be read. */
  denied = 0;
  /** False when the time ran out before all that changed was read and every owner was searched. */
  isComplete = true;
  /** Inodes whose holders may differ from those of the scan before. */
  readonly moved = new Set<number>();
  readonly #procfs: Procfs;
  readonly #sockets: LiveSockets;
  readonly #tables = new Map<number, FdTable>();
  /** The slot that holds an inode, and the further ones of a shared socket. */
  readonly #slots = new Map<number, number>();
  readonly #sharers = new Map<number, Set<number>>();
  /** Inodes that the last search had no time for. */
  readonly #postponed = new Set<number>();
  readonly #unknown = new Set<number>();
  readonly #toRead = new Set<FdTable>();
  #scan = 0;
  #turns: number[] = [];
  #turnFds: readonly number[] = [];
  #turnAt = 0;

  constructor(procfs: Procfs, sockets: LiveSockets) {
    this.#procfs = procfs;
    this.#sockets = sockets;
  }

  /** Begins a scan over these pids: counts descriptors, and gives back what processes held that are gone. */
  survey(pids: readonly number[]): void {
    this.#scan++;
    this.moved.clear();
    this.#unknown.clear();
    this.#toRead.clear();
    const alive = new Set(pids);
    for (const table of this.#tables.values()) {
      if (!alive.has(table.pid)) this.#drop(table);
      else if (table.tid !== table.pid) this.#count(table.tid, table.pid);
      else if (table.leaderless) this.#countThreads(table.pid);
    }
    for (const pid of pids) this.#count(pid);
  }

  /** Forgets what a process held: its pid came back as another process. */
  reset(pid: number): void {
    const table = this.#tables.get(pid);
    if (!table) return;
    this.#drop(table);
    this.#count(pid);
  }

  /** Says whether a process has the descriptors that it had at the scan before, as far as their number tells. */
  isSteady(pid: number): boolean {
    const table = this.#tables.get(pid);
    return table !== undefined && !table.denied && table.readAt > 0 && !this.#toRead.has(table);
  }

  /** Says whether the descriptor that held a socket holds it still; false where none was known. */
  stillHolds(inode: number): boolean {
    const holds = (slot: number): boolean => this.#procfs.socketInode(tidOf(slot), fdOf(slot)) === inode;
    const slot = this.#slots.get(inode);
    return slot !== undefined && (holds(slot) || [...(this.#sharers.get(inode) ?? [])].some(holds));
  }

  /** Finds the holders of what is live. When `isLate` says so the search ends; what is not found is searched at the next scan. */
  resolve(isLate: () => boolean): void {
    const sockets = this.#sockets;
    for (const inode of sockets.arrived) {
      this.#unknown.add(inode);
      this.#probe(inode);
    }
    for (const inode of this.#postponed) if (!this.#slots.has(inode)) this.#unknown.add(inode);
    for (const inode of this.#unknown) if (!sockets.isLive(inode)) this.#unknown.delete(inode);
    for (const inode of sockets.left) this.#probe(inode);
    for (const table of this.#toRead) {
      if (isLate()) table.count = UNREAD;
      else this.#read(table);
    }
    if (this.#scan > 1) this.#rotate();
    this.#search(isLate);
    this.#postponed.clear();
    if (isLate()) for (const inode of this.#unknown) this.#postponed.add(inode);
    this.isComplete = !isLate();
    this.#countDenied();
  }

  /** The pids that hold a socket, each once. */
  holdersOf(inode: number): readonly number[] {
    const slot = this.#slots.get(inode);
    if (slot === undefined) return [];
    const pid = this.#tables.get(tidOf(slot))?.pid ?? tidOf(slot);
    const sharers = this.#sharers.get(inode);
    if (!sharers) return [pid];
    const pids = new Set([pid]);
    for (const other of sharers) pids.add(this.#tables.get(tidOf(other))?.pid ?? tidOf(other));
    return [...pids].sort((a, b) => a - b);
  }

  /** Says whether the time ran out before the holder of a socket was looked for. */
  isPostponed(inode: number): boolean {
    return this.#postponed.has(inode);
  }

  /** How many descriptors a process has open. */
  openFdsOf(pid: number): number {
    return Math.max(0, this.#tables.get(pid)?.count ?? 0);
  }

  #count(tid: number, pid = tid): void {
    const count = this.#procfs.descriptorCount(tid);
    let table = this.#tables.get(tid);
    if (count === 'vanished') {
      if (table) this.#drop(table);
      return;
    }
    if (!table) {
      table = { tid, pid, count: UNREAD, inodes: new Map(), denied: false, leaderless: false, readAt: 0 };
      this.#tables.set(tid, table);
    }
    const counted = failed(count) ? UNCOUNTED : count;
    if (counted === table.count) return;
    table.count = counted;
    this.#toRead.add(table);
    if (tid !== pid) return;
    table.leaderless = counted === 0 && this.#hasOnlyThreads(pid);
    if (table.leaderless) this.#countThreads(pid);
  }

  /** Threads mostly share one descriptor table: the first that lives, and those with another count, are enough. */
  #countThreads(pid: number): void {
    let first: number | undefined;
    for (const tid of this.#procfs.threads(pid)) {
      const count = tid === pid ? 'vanished' : this.#procfs.descriptorCount(tid);
      if (failed(count) || (count === first && !this.#tables.has(tid))) continue;
      first ??= count;
      this.#count(tid, pid);
    }
  }

  /** A thread-group leader that has ended while others of its threads live shows no descriptor; theirs are the process's. */
  #hasOnlyThreads(pid: number): boolean {
    const bytes = this.#procfs.glance(pid, 'stat');
    const stat = failed(bytes) ? undefined : parseStat(bytes);
    return stat?.state === 'Z' && stat.threads > 1;
  }

  #drop(table: FdTable): void {
    for (const [fd, inode] of table.inodes) this.#release(inode, table.tid * SLOT_FDS + fd);
    this.#tables.delete(table.tid);
    if (this.#turns.at(-1) === table.tid) this.#turnAt = 0;
  }

  /**
   * Looks at the place of a socket that left the tables, or was cached before it came into them.
   * Without a socket to look for, the place is only forgotten.
   */
  #probe(inode: number): void {
    const first = this.#slots.get(inode);
    if (first === undefined) return;
    for (const slot of [first, ...(this.#sharers.get(inode) ?? [])]) {
      const table = this.#tables.get(tidOf(slot));
      const now = this.#unknown.size > 0 ? this.#procfs.socketInode(tidOf(slot), fdOf(slot)) : 'vanished';
      if (!table || failed(now)) {
        this.#release(inode, slot);
        table?.inodes.delete(fdOf(slot));
      } else if (now === inode) this.#unknown.delete(inode);
      else this.#learn(table, fdOf(slot), now);
    }
  }

  /** Reads the descriptors of a table, but for those that are cached as a socket which is live. */
  #read(table: FdTable): void {
    if (table.readAt === this.#scan) return;
    const fds = this.#list(table);
    if (!fds) return;
    const present = table.inodes.size === 0 ? table.inodes : new Map<number, number>();
    for (const name of fds) {
      const fd = Number(name);
      const known = table.inodes.get(fd) ?? 0;
      if (known > 0 && this.#sockets.isLive(known)) present.set(fd, known);
      else this.#readFd(table, fd, present);
    }
    if (present !== table.inodes) this.#forgetAbsent(table, present);
    table.readAt = this.#scan;
  }

  #readFd(table: FdTable, fd: number, present: Map<number, number>): void {
    const inode = this.#procfs.socketInode(table.tid, fd);
    if (inode === 'permission') table.denied = true;
    if (failed(inode)) return;
    this.#learn(table, fd, inode);
    present.set(fd, inode);
  }

  #forgetAbsent(table: FdTable, present: Map<number, number>): void {
    for (const [fd, inode] of table.inodes) if (!present.has(fd)) this.#release(inode, table.tid * SLOT_FDS + fd);
    table.inodes = present;
  }

  /** The descriptors of a table; null when there are none to be had, and then nothing stays cached of it. */
  #list(table: FdTable): string[] | null {
    const fds = table.count === 0 ? [] : this.#procfs.descriptors(table.tid);
    table.denied = fds === 'permission';
    if (!failed(fds)) return fds;
    this.#forgetAbsent(table, new Map());
    table.readAt = this.#scan;
    return null;
  }

  #search(isLate: () => boolean): void {
    if (this.#unknown.size === 0) return;
    const near = new Set<number>();
    for (const inode of this.#unknown) for (const pid of this.#sockets.neighbours(inode)) near.add(pid);
    const rank = (table: FdTable): number => (near.has(table.pid) ? 0 : 1);
    const tables = [...this.#tables.values()].filter((table) => table.readAt !== this.#scan && table.count !== 0);
    tables.sort((a, b) => rank(a) - rank(b) || b.inodes.size - a.inodes.size);
    for (const table of tables) {
      if (this.#unknown.size === 0 || isLate()) return;
      this.#read(table);
    }
    for (const pid of near) {
      if (this.#unknown.size === 0 || isLate()) return;
      this.#readOwnTables(pid);
    }
  }

  /** Threads with a descriptor table of their own (unshare(2), CLONE_FILES): another count than the leader's gives them away. */
  #readOwnTables(pid: number): void {
    const leader = this.#tables.get(pid);
    const threads = leader ? this.#procfs.threads(pid) : [];
    if (threads.length < 2) return;
    for (const tid of threads) {
      if (tid === pid || this.#tables.has(tid) || this.#procfs.descriptorCount(tid) === leader?.count) continue;
      this.#count(tid, pid);
      const table = this.#tables.get(tid);
      if (table) this.#read(table);
    }
  }

  /** Reads a share of all descriptors again, where the last scan stopped. */
  #rotate(): void {
    let cached = 0;
    for (const table of this.#tables.values()) cached += table.inodes.size;
    let left = Math.max(ROTATION_LEAST, Math.ceil(cached / ROTATION));
    for (let visits = this.#tables.size; left > 0 && visits > 0; visits--) {
      if (this.#turns.length === 0) this.#turns = [...this.#tables.keys()];
      const table = this.#tables.get(this.#turns.at(-1) ?? 0);
      if (table) left = this.#verify(table, left);
      if (this.#turnAt > 0) return;
      this.#turns.pop();
    }
  }

  /** Reads at most so many descriptors of the table whose turn it is, and returns how many are left to read of other tables. */
  #verify(table: FdTable, most: number): number {
    if (this.#turnAt === 0) this.#turnFds = this.#fdsOf(table);
    const fds = this.#turnFds;
    const end = Math.min(fds.length, this.#turnAt + most);
    const left = most - (end - this.#turnAt);
    for (; this.#turnAt < end; this.#turnAt++) this.#verifyFd(table, fds[this.#turnAt] ?? 0);
    if (end < fds.length) return 0;
    this.#turnAt = 0;
    const listed = new Set(fds);
    for (const fd of table.inodes.keys()) if (!listed.has(fd)) this.#verifyFd(table, fd);
    return left;
  }

  /**
   * The descriptors whose turn it is. As many as are cached are those that are cached: another one instead shows by one that is gone,
   * and then the table is read again.
   */
  #fdsOf(table: FdTable): number[] {
    if (table.inodes.size === table.count) return [...table.inodes.keys()];
    return this.#list(table)?.map(Number) ?? [];
  }

  /** A descriptor may have been opened or closed since its table was listed: a turn can take several scans. */
  #verifyFd(table: FdTable, fd: number): void {
    const inode = this.#procfs.socketInode(table.tid, fd);
    if (!failed(inode)) this.#learn(table, fd, inode);
    else if (inode === 'permission') table.denied = true;
    else {
      this.#release(table.inodes.get(fd) ?? 0, table.tid * SLOT_FDS + fd);
      table.inodes.delete(fd);
      table.count = UNREAD;
    }
  }

  #learn(table: FdTable, fd: number, inode: number): void {
    const before = table.inodes.get(fd);
    if (before === inode) return;
    const slot = table.tid * SLOT_FDS + fd;
    if (before) this.#release(before, slot);
    table.inodes.set(fd, inode);
    if (inode === 0) return;
    this.#unknown.delete(inode);
    this.moved.add(inode);
    const first = this.#slots.get(inode);
    if (first === undefined) this.#slots.set(inode, slot);
    else if (first !== slot) {
      const sharers = this.#sharers.get(inode);
      if (sharers) sharers.add(slot);
      else this.#sharers.set(inode, new Set([slot]));
    }
  }

  /** Takes a slot from an inode; a socket that is live and held by nobody known is looked for. */
  #release(inode: number, slot: number): void {
    if (inode === 0) return;
    this.moved.add(inode);
    const sharers = this.#sharers.get(inode);
    if (this.#slots.get(inode) !== slot) {
      sharers?.delete(slot);
      if (sharers?.size === 0) this.#sharers.delete(inode);
      return;
    }
    const [next] = sharers ?? [];
    if (next === undefined) {
      this.#slots.delete(inode);
      if (this.#sockets.isLive(inode)) this.#unknown.add(inode);
      return;
    }
    this.#slots.set(inode, next);
    sharers?.delete(next);
    if (sharers?.size === 0) this.#sharers.delete(inode);
  }

  #countDenied(): void {
    this.denied = 0;
    for (const table of this.#tables.values()) if (table.denied) this.denied++;
  }
}

function tidOf(slot: number): number {
  return Math.floor(slot / SLOT_FDS);
}

function fdOf(slot: number): number {
  return slot % SLOT_FDS;
}
