import { FairTurns } from './fair-turns.ts';
import { failed, type DescriptorWalk, type Procfs } from './procfs.ts';
import { parseStat } from './pid-stat.ts';

/**
 * Each scan rechecks this share of all cached descriptors, in rotation, and at least this number of them. A rotation of 18 scans takes 20
 * at most if tables appear, disappear and grow during it.
 */
const ROTATION = 18;
const ROTATION_MIN = 200;
/** A slot is a thread id and a descriptor in one double: Linux has fewer than 2^22 threads and 2^31 descriptors. */
const SLOT_FDS = 2 ** 31;
/** Descriptors that are cached in all. Beyond that, and in a table with more than the second number, only what a live socket needs is. */
const MOST_CACHED = 250_000;
const LARGE = 65_536;
/** Descriptors that are read at a turn of a tenant, and the milliseconds that a tenant may have for them in each scan but the first. */
const PART = 512;
const TENANT_MS = 1_000;
/** Milliseconds of a scan after which tenants take turns. A scan mostly ends before: then no process is asked whose it is. */
const FREE_MS = 100;
/** Tables with at most this many descriptors are first read without a list of them. */
const DENSE = 4_096;
/** Tables that may stay half read between two scans. */
const MOST_OPEN = 16;
/** Where the kernel does not count descriptors, tables with more than this are counted once in ten scans. */
const COUNTED_EACH_SCAN = 4_096;
const COUNT_SCANS = 10;

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
  /** Whether descriptors were not cached to save memory. */
  isSparse: boolean;
  /** A read that has begun, and the cached descriptors that it has not met. */
  walk: { readonly fds: DescriptorWalk; readonly unmet: Set<number> } | null;
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
  /** Who answers for a process. */
  readonly tenantOf: (pid: number) => string;
  /** Milliseconds of a clock that never goes back. */
  readonly monotonic: () => number;
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
 *
 * Tables are read in parts, and tenants take turns: one with millions of descriptors makes others wait for one part. Memory is bounded: a
 * table that is not fully cached is read again when the rotation comes to it.
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
  /** Sparse tables that the rotation came to. */
  readonly #toReadAgain = new Set<FdTable>();
  #cached = 0;
  #open = 0;
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
    if (slot === undefined) return false;
    return holds(slot) || (this.#sharers.get(inode)?.values().some(holds) ?? false);
  }

  /** Finds the holders of live sockets. After `isLate` returns true the search ends; the next scan continues it. */
  resolve(isLate: () => boolean): void {
    const sockets = this.#sockets;
    for (const inode of sockets.arrived) {
      this.#unknown.add(inode);
      if (!isLate()) this.#check(inode);
    }
    for (const inode of this.#postponed) if (!this.#slots.has(inode)) this.#unknown.add(inode);
    for (const inode of this.#unknown) if (!sockets.isLive(inode)) this.#unknown.delete(inode);
    for (const inode of sockets.left) this.#check(inode, isLate());
    const turns = new FairTurns<FdTable>();
    const smallestFirst = [...this.#toRead].sort((a, b) => a.count - b.count);
    for (const table of this.#readFreely(smallestFirst, isLate)) turns.add(sockets.tenantOf(table.pid), table);
    for (const table of this.#toReadAgain) if (!this.#toRead.has(table)) turns.add(sockets.tenantOf(table.pid), table);
    const late = this.#readInTurn(turns, isLate);
    for (const table of late) if (this.#toRead.has(table)) table.count = UNREAD;
    for (const table of this.#toReadAgain) if (!late.has(table)) this.#toReadAgain.delete(table);
    if (this.#scan > 1 && !isLate()) this.#rotate();
    const isSearched = this.#search(isLate);
    this.#closeWalks();
    this.#postponed.clear();
    const isPostponed = isLate() || late.size > 0 || !isSearched;
    if (isPostponed) for (const inode of this.#unknown) this.#postponed.add(inode);
    this.isComplete = !isPostponed;
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

  /** The pid of the only descriptor of a socket; null if none is known, or several. */
  soleHolderOf(inode: number): number | null {
    const slot = this.#slots.get(inode);
    if (slot === undefined || this.#sharers.has(inode)) return null;
    const tid = tidOf(slot);
    return this.#tables.get(tid)?.pid ?? tid;
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
    let table = this.#tables.get(tid);
    const isLarge = table !== undefined && table.count > COUNTED_EACH_SCAN;
    if (isLarge && !this.#procfs.countsDescriptors && (this.#scan + tid) % COUNT_SCANS !== 0) return;
    const count = this.#procfs.descriptorCount(tid);
    if (count === 'vanished') {
      if (table) this.#drop(table);
      return;
    }
    if (!table) {
      const inodes = new Map<number, number>();
      const facts = { denied: false, leaderless: false, readAt: 0, isSparse: false, walk: null };
      table = { tid, pid, count: UNREAD, inodes, ...facts };
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
    for (const fd of [...table.inodes.keys()]) this.#forget(table, fd);
    this.#endWalk(table);
    this.#toReadAgain.delete(table);
    this.#toRead.delete(table);
    this.#tables.delete(table.tid);
    if (this.#rotation.at(-1) === table.tid) this.#rotationAt = 0;
  }

  /**
   * Checks the descriptors of a socket that left the tables, or that was cached before it entered them.
   * If no owner is searched, or it is late, they are only forgotten.
   */
  #check(inode: number, isLate = false): void {
    const first = this.#slots.get(inode);
    if (first === undefined) return;
    const checks = this.#unknown.size > 0 && !isLate;
    const sharers = this.#sharers.get(inode);
    if (!sharers) this.#checkSlot(inode, first, checks);
    else for (const slot of [first, ...sharers]) this.#checkSlot(inode, slot, checks);
  }

  #checkSlot(inode: number, slot: number, checks: boolean): void {
    const table = this.#tables.get(tidOf(slot));
    const now = checks ? this.#procfs.socketInode(tidOf(slot), fdOf(slot)) : 'vanished';
    if (!table) this.#release(inode, slot);
    else if (failed(now)) this.#forget(table, fdOf(slot));
    else if (now === inode) this.#unknown.delete(inode);
    else this.#store(table, fdOf(slot), now);
  }

  /** Reads the first part of tables for a short time. Returns those that are left. */
  #readFreely(tables: readonly FdTable[], isLate: () => boolean): readonly FdTable[] {
    const { monotonic } = this.#sockets;
    const until = monotonic() + FREE_MS;
    const unfinished: FdTable[] = [];
    for (const [i, table] of tables.entries()) {
      if (isLate() || monotonic() >= until) return [...unfinished, ...tables.slice(i)];
      if (!this.#readPart(table)) unfinished.push(table);
    }
    return unfinished;
  }

  /** Reads tables in parts until it is late, or a tenant has used its time. Returns the tables that were not read. */
  #readInTurn(turns: FairTurns<FdTable>, isLate: () => boolean, mayEnd = (): boolean => false): Set<FdTable> {
    const late = new Set<FdTable>();
    for (const { tenant, work: table } of turns) {
      if (mayEnd()) break;
      if (isLate() || (this.#scan > 1 && turns.usedBy(tenant) >= TENANT_MS)) {
        late.add(table);
        continue;
      }
      const begun = this.#sockets.monotonic();
      if (!this.#readPart(table)) turns.giveBack(tenant, table);
      turns.use(tenant, this.#sockets.monotonic() - begun);
    }
    return late;
  }

  /** Reads a part of a table. Returns true if all of it has been read. */
  #readPart(table: FdTable): boolean {
    if (table.readAt === this.#scan) return true;
    if (table.inodes.size === 0 && !table.walk && this.#readDense(table)) return true;
    const walk = this.#walkOf(table);
    const fds = walk?.fds.next(PART) ?? null;
    for (const fd of fds ?? []) {
      const known = table.inodes.get(fd) ?? 0;
      if (known > 0 && this.#sockets.isLive(known)) walk?.unmet.delete(fd);
      else this.#readFd(table, fd);
    }
    if (fds?.length === PART) return false;
    for (const fd of walk?.unmet ?? []) this.#forget(table, fd);
    this.#endWalk(table);
    table.readAt = this.#scan;
    return true;
  }

  /**
   * Reads a table whose descriptors are not known: mostly they are the lowest numbers, so that a list of them is not needed. Returns
   * false if one of these is not open, or if their number changed meanwhile: then another may be missing.
   */
  #readDense(table: FdTable): boolean {
    const { tid } = table;
    const count = this.#procfs.countsDescriptors ? this.#procfs.descriptorCount(tid) : 'unreadable';
    if (failed(count) || count === 0 || count > DENSE) return false;
    table.isSparse = false;
    for (let fd = 0; fd < count; fd++) {
      const inode = this.#procfs.socketInode(tid, fd);
      if (failed(inode)) return false;
      this.#store(table, fd, inode);
    }
    if (this.#procfs.descriptorCount(tid) !== count) return false;
    table.denied = false;
    table.readAt = this.#scan;
    return true;
  }

  /** The read of a table that has begun; null if its descriptors cannot be listed: then the cached ones are forgotten. */
  #walkOf(table: FdTable): FdTable['walk'] {
    if (table.walk) return table.walk;
    const fds = table.count === 0 ? 'vanished' : this.#procfs.walkDescriptors(table.tid);
    table.denied = fds === 'permission';
    if (failed(fds)) {
      for (const fd of [...table.inodes.keys()]) this.#forget(table, fd);
      return null;
    }
    table.isSparse = false;
    this.#open++;
    return (table.walk = { fds, unmet: new Set(table.inodes.keys()) });
  }

  #endWalk(table: FdTable): void {
    if (!table.walk) return;
    table.walk.fds.close();
    table.walk = null;
    this.#open--;
  }

  /** Few directories stay open between two scans; the others are read again. */
  #closeWalks(): void {
    if (this.#open <= MOST_OPEN) return;
    for (const table of this.#tables.values()) {
      if (this.#open <= MOST_OPEN) return;
      if (table.walk) table.isSparse = true;
      this.#endWalk(table);
    }
  }

  #readFd(table: FdTable, fd: number): void {
    const inode = this.#procfs.socketInode(table.tid, fd);
    if (inode === 'permission') table.denied = true;
    if (failed(inode)) return;
    this.#store(table, fd, inode);
    table.walk?.unmet.delete(fd);
  }

  #forget(table: FdTable, fd: number): void {
    const inode = table.inodes.get(fd);
    if (inode === undefined) return;
    table.inodes.delete(fd);
    this.#cached--;
    this.#release(inode, table.tid * SLOT_FDS + fd);
  }

  /** Reads tables until the holders of all new sockets are found. Returns false if some could not be read in time. */
  #search(isLate: () => boolean): boolean {
    if (this.#unknown.size === 0) return true;
    const near = new Set<number>();
    for (const inode of this.#unknown) for (const pid of this.#sockets.neighbours(inode)) near.add(pid);
    const tables = [...this.#tables.values()].filter((table) => table.readAt !== this.#scan && table.count !== 0);
    tables.sort((a, b) => b.inodes.size - a.inodes.size);
    const isFound = (): boolean => this.#unknown.size === 0;
    let isSearched = true;
    for (const isNear of [true, false]) {
      const turns = new FairTurns<FdTable>();
      for (const table of tables)
        if (near.has(table.pid) === isNear) turns.add(this.#sockets.tenantOf(table.pid), table);
      if (this.#readInTurn(turns, isLate, isFound).size > 0) isSearched = false;
    }
    for (const pid of near) this.#readOwnTables(pid, () => isFound() || isLate());
    return isSearched;
  }

  /** Reads threads with a descriptor table of their own (unshare(2), CLONE_FILES): their count differs from that of the leader. */
  #readOwnTables(pid: number, mayEnd: () => boolean): void {
    const leader = mayEnd() ? undefined : this.#tables.get(pid);
    const threads = leader ? this.#procfs.threads(pid) : [];
    if (threads.length < 2) return;
    for (const tid of threads) {
      if (mayEnd()) return;
      if (tid === pid || this.#tables.has(tid) || this.#procfs.descriptorCount(tid) === leader?.count) continue;
      this.#count(tid, pid);
      const table = this.#tables.get(tid);
      while (table && !mayEnd() && !this.#readPart(table));
    }
  }

  /** Rechecks a share of all descriptors, from where the last scan stopped. */
  #rotate(): void {
    let left = Math.max(ROTATION_MIN, Math.ceil(this.#cached / ROTATION));
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
  #fdsOf(table: FdTable): readonly number[] {
    const isLarge = table.isSparse || table.count > LARGE;
    if (isLarge) this.#toReadAgain.add(table);
    if (isLarge || table.walk || table.inodes.size === table.count) return [...table.inodes.keys()];
    const fds = this.#walkOf(table)?.fds.next(LARGE) ?? [];
    this.#endWalk(table);
    return fds;
  }

  /** A descriptor may have been opened or closed since its table was listed: the recheck of a table can take several scans. */
  #verifyFd(table: FdTable, fd: number): void {
    const inode = this.#procfs.socketInode(table.tid, fd);
    if (!failed(inode)) this.#store(table, fd, inode);
    else if (inode === 'permission') table.denied = true;
    else {
      this.#forget(table, fd);
      table.count = UNREAD;
    }
  }

  #store(table: FdTable, fd: number, inode: number): void {
    const before = table.inodes.get(fd);
    if (before === inode) return;
    const slot = table.tid * SLOT_FDS + fd;
    this.#forget(table, fd);
    if (inode > 0) this.#unknown.delete(inode);
    if (!this.#hasPlace(table, inode)) {
      table.isSparse = true;
      return;
    }
    table.inodes.set(fd, inode);
    this.#cached++;
    if (inode === 0) return;
    this.changedInodes.add(inode);
    const first = this.#slots.get(inode);
    if (first === undefined) this.#slots.set(inode, slot);
    else if (first !== slot) {
      const sharers = this.#sharers.get(inode);
      if (sharers) sharers.add(slot);
      else this.#sharers.set(inode, new Set([slot]));
    }
  }

  /** Whether a descriptor is cached: in a large table, and if there are many in all, only the first one of a live socket. */
  #hasPlace(table: FdTable, inode: number): boolean {
    if (this.#cached < MOST_CACHED && table.count <= LARGE) return true;
    return inode > 0 && !this.#slots.has(inode) && this.#sockets.isLive(inode);
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
    if (!sharers) {
      this.#slots.delete(inode);
      if (this.#sockets.isLive(inode)) this.#unknown.add(inode);
      return;
    }
    const [next = 0] = sharers;
    this.#slots.set(inode, next);
    sharers.delete(next);
    if (sharers.size === 0) this.#sharers.delete(inode);
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
