import { failed, type Procfs } from './procfs.ts';
import { parseStat } from './pid-stat.ts';

/**
 * Each scan rechecks this share of all cached descriptors, in rotation, and at least this number of them. A rotation of 18 scans takes 20
 * at most if tables appear, disappear and grow during it.
 */
const ROTATION = 18;
const ROTATION_MIN = 200;
/** A slot is a thread id and a descriptor in one double: Linux has fewer than 2^22 threads and 2^31 descriptors. */
const SLOT_FDS = 2 ** 31;
/** Counts of a table that has not been read, and of one whose descriptors may not even be counted. */
const UNREAD = -1;
const UNCOUNTED = -2;

/** The cached descriptor table of a process, or of a thread with a table of its own. */
interface FdTable {
  /** Its directory in /proc: the pid, or the thread id. */
  readonly tid: number;
  /** The process it belongs to. */
  readonly pid: number;
  /** Number of descriptors at the last read. */
  count: number;
  /** Inode of the socket of each descriptor, 0 for other files. */
  inodes: Map<number, number>;
  /** The kernel forbade to list it. */
  denied: boolean;
  /** The process is a zombie with live threads. */
  leaderless: boolean;
  /** The last scan that read all of it. */
  readAt: number;
}

/** The sockets of the current scan, whose owners are searched. */
export interface LiveSockets {
  /** Says whether a socket table has a row with an inode. */
  readonly isLive: (inode: number) => boolean;
  /** Inodes that entered the tables with this scan, and inodes that left them. */
  readonly arrived: readonly number[];
  readonly left: readonly number[];
  /** The processes in the namespace of a socket: its owner is searched there first. */
  readonly neighbours: (inode: number) => readonly number[];
}

/**
 * Which processes hold which socket: a cache of the descriptors of every process, updated by each scan.
 *
 * Reading all descriptors costs twice as much as reading the socket tables, so only the first scan does. Each later scan
 * 1. counts the descriptors of every process (one stat), and reads those of new processes and of those whose count changed;
 * 2. if there are new sockets, first checks the descriptors of sockets that left the tables: a process reuses its lowest free descriptor;
 * 3. reads more processes, those in the same network namespace first, until the owner of every new socket is found;
 * 4. rechecks a share of all descriptors in rotation, because close() and open() can leave the count unchanged. So a socket that
 *    changed its owner unnoticed is corrected within 20 scans, and the owner of a new socket is never missed.
 * A socket that no process holds (a kernel socket, a descriptor in flight) is searched once, when it is new. Later the rotation finds it.
 */
export class SocketOwners {
  /** Number of processes whose descriptors the kernel forbids to read. */
  denied = 0;
  /** False if the time ran out before everything that changed was read and every owner was searched. */
  isComplete = true;
  /** Inodes whose holders may have changed since the last scan. */
  readonly changedInodes = new Set<number>();
  readonly #procfs: Procfs;
  readonly #sockets: LiveSockets;
  readonly #tables = new Map<number, FdTable>();
  /** The first slot of each inode, and the other slots of a shared socket. */
  readonly #slots = new Map<number, number>();
  readonly #sharers = new Map<number, Set<number>>();
  /** Inodes that the last search did not reach in time. */
  readonly #postponed = new Set<number>();
  readonly #unknown = new Set<number>();
  readonly #toRead = new Set<FdTable>();
  #scan = 0;
  #rotation: number[] = [];
  #rotationFds: readonly number[] = [];
  #rotationAt = 0;

  constructor(procfs: Procfs, sockets: LiveSockets) {
    this.#procfs = procfs;
    this.#sockets = sockets;
  }

  /** Begins a scan of these processes: counts their descriptors, and releases the sockets of processes that are gone. */
  begin(pids: readonly number[]): void {
    this.#scan++;
    this.changedInodes.clear();
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

  /** Forgets the descriptors of a process: its pid was reused. */
  reset(pid: number): void {
    const table = this.#tables.get(pid);
    if (!table) return;
    this.#drop(table);
    this.#count(pid);
  }

  /** Says whether a process has as many descriptors as at the last scan. */
  isSteady(pid: number): boolean {
    const table = this.#tables.get(pid);
    return table !== undefined && !table.denied && table.readAt > 0 && !this.#toRead.has(table);
  }

  /** Says whether a known descriptor of a socket is still open; false without one. */
  stillHolds(inode: number): boolean {
    const holds = (slot: number): boolean => this.#procfs.socketInode(tidOf(slot), fdOf(slot)) === inode;
    const slot = this.#slots.get(inode);
    return slot !== undefined && (holds(slot) || [...(this.#sharers.get(inode) ?? [])].some(holds));
  }

  /** Finds the holders of live sockets. After `isLate` returns true the search ends; the next scan continues it. */
  resolve(isLate: () => boolean): void {
    const sockets = this.#sockets;
    for (const inode of sockets.arrived) {
      this.#unknown.add(inode);
      this.#check(inode);
    }
    for (const inode of this.#postponed) if (!this.#slots.has(inode)) this.#unknown.add(inode);
    for (const inode of this.#unknown) if (!sockets.isLive(inode)) this.#unknown.delete(inode);
    for (const inode of sockets.left) this.#check(inode);
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

  /** Says whether the time ran out before the holder of a socket was searched. */
  isPostponed(inode: number): boolean {
    return this.#postponed.has(inode);
  }

  /** The number of open descriptors of a process. */
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

  /** Threads mostly share one descriptor table: it is enough to read the first live thread, and those with a different count. */
  #countThreads(pid: number): void {
    let first: number | undefined;
    for (const tid of this.#procfs.threads(pid)) {
      const count = tid === pid ? 'vanished' : this.#procfs.descriptorCount(tid);
      if (failed(count) || (count === first && !this.#tables.has(tid))) continue;
      first ??= count;
      this.#count(tid, pid);
    }
  }

  /** A thread-group leader that ended before its threads has no descriptors; those of its threads belong to the process. */
  #hasOnlyThreads(pid: number): boolean {
    const bytes = this.#procfs.readSmall(pid, 'stat');
    const stat = failed(bytes) ? undefined : parseStat(bytes);
    return stat?.state === 'Z' && stat.threads > 1;
  }

  #drop(table: FdTable): void {
    for (const [fd, inode] of table.inodes) this.#release(inode, table.tid * SLOT_FDS + fd);
    this.#tables.delete(table.tid);
    if (this.#rotation.at(-1) === table.tid) this.#rotationAt = 0;
  }

  /**
   * Checks the descriptors of a socket that left the tables, or that was cached before it entered them.
   * If no owner is searched, they are only forgotten.
   */
  #check(inode: number): void {
    const first = this.#slots.get(inode);
    if (first === undefined) return;
    for (const slot of [first, ...(this.#sharers.get(inode) ?? [])]) {
      const table = this.#tables.get(tidOf(slot));
      const now = this.#unknown.size > 0 ? this.#procfs.socketInode(tidOf(slot), fdOf(slot)) : 'vanished';
      if (!table || failed(now)) {
        this.#release(inode, slot);
        table?.inodes.delete(fdOf(slot));
      } else if (now === inode) this.#unknown.delete(inode);
      else this.#store(table, fdOf(slot), now);
    }
  }

  /** Reads the descriptors of a table, except those that are cached for a live socket. */
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
    this.#store(table, fd, inode);
    present.set(fd, inode);
  }

  #forgetAbsent(table: FdTable, present: Map<number, number>): void {
    for (const [fd, inode] of table.inodes) if (!present.has(fd)) this.#release(inode, table.tid * SLOT_FDS + fd);
    table.inodes = present;
  }

  /** The descriptors of a table; null if they cannot be listed: then the cached ones are forgotten. */
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

  /** Reads threads with a descriptor table of their own (unshare(2), CLONE_FILES): their count differs from that of the leader. */
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

  /** Rechecks a share of all descriptors, from where the last scan stopped. */
  #rotate(): void {
    let cached = 0;
    for (const table of this.#tables.values()) cached += table.inodes.size;
    let left = Math.max(ROTATION_MIN, Math.ceil(cached / ROTATION));
    for (let visits = this.#tables.size; left > 0 && visits > 0; visits--) {
      if (this.#rotation.length === 0) this.#rotation = [...this.#tables.keys()];
      const table = this.#tables.get(this.#rotation.at(-1) ?? 0);
      if (table) left = this.#verify(table, left);
      if (this.#rotationAt > 0) return;
      this.#rotation.pop();
    }
  }

  /** Rechecks at most `most` descriptors of a table. Returns how many are left for other tables. */
  #verify(table: FdTable, most: number): number {
    if (this.#rotationAt === 0) this.#rotationFds = this.#fdsOf(table);
    const fds = this.#rotationFds;
    const end = Math.min(fds.length, this.#rotationAt + most);
    const left = most - (end - this.#rotationAt);
    for (; this.#rotationAt < end; this.#rotationAt++) this.#verifyFd(table, fds[this.#rotationAt] ?? 0);
    if (end < fds.length) return 0;
    this.#rotationAt = 0;
    const listed = new Set(fds);
    for (const fd of table.inodes.keys()) if (!listed.has(fd)) this.#verifyFd(table, fd);
    return left;
  }

  /**
   * The descriptors to recheck. If the count matches the cache, these are the cached descriptors; a missing one triggers a re-read of the
   * table.
   */
  #fdsOf(table: FdTable): number[] {
    if (table.inodes.size === table.count) return [...table.inodes.keys()];
    return this.#list(table)?.map(Number) ?? [];
  }

  /** A descriptor may have been opened or closed since its table was listed: the recheck of a table can take several scans. */
  #verifyFd(table: FdTable, fd: number): void {
    const inode = this.#procfs.socketInode(table.tid, fd);
    if (!failed(inode)) this.#store(table, fd, inode);
    else if (inode === 'permission') table.denied = true;
    else {
      this.#release(table.inodes.get(fd) ?? 0, table.tid * SLOT_FDS + fd);
      table.inodes.delete(fd);
      table.count = UNREAD;
    }
  }

  #store(table: FdTable, fd: number, inode: number): void {
    const before = table.inodes.get(fd);
    if (before === inode) return;
    const slot = table.tid * SLOT_FDS + fd;
    if (before) this.#release(before, slot);
    table.inodes.set(fd, inode);
    if (inode === 0) return;
    this.#unknown.delete(inode);
    this.changedInodes.add(inode);
    const first = this.#slots.get(inode);
    if (first === undefined) this.#slots.set(inode, slot);
    else if (first !== slot) {
      const sharers = this.#sharers.get(inode);
      if (sharers) sharers.add(slot);
      else this.#sharers.set(inode, new Set([slot]));
    }
  }

  /** Removes a slot of an inode. A live socket without another known holder is searched. */
  #release(inode: number, slot: number): void {
    if (inode === 0) return;
    this.changedInodes.add(inode);
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
