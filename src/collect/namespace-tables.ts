import { reasonOf } from '../common/errors.ts';
import type { Address, OwnerLabels } from '../model.ts';
import type { ConnectionTable } from './connection-table.ts';
import { DEFAULT_EPHEMERAL_PORTS, type IsOwn, type NamespaceFacts } from './direction.ts';
import { HashWalks, type HashCost } from './hash-walks.ts';
import { FairTurns } from './fair-turns.ts';
import { FibTrie, ownAddresses } from './fib-trie.ts';
import type { Namespace } from './namespaces.ts';
import type { SocketOwners } from './socket-owners.ts';
import { connectionCounters, PacketReads } from './packet-reads.ts';
import { failed, type Procfs } from './procfs.ts';
import { readProtocolCounts, type ProtocolCounters } from './protocol-counters.ts';
import { equalCounts, mayHoldRows, parseSockstat, type SocketCounts } from './sockstat.ts';
import { SocketRows, TABLES, UDP } from './net-tcp-udp-raw.ts';
import { CANDIDATES, TableRead } from './table-read.ts';
import type { SocketDump } from './netlink.ts';

/** Milliseconds of a turn of a tenant: then the one that used the least so far is next. */
const TURN_MS = 100;
/** The share of the time after which the namespace of pid 1 waits for the others: a user can make its tables long. */
const HOST_SHARE = 0.5;
/** How long the addresses of a namespace are cached: fib_trie grows with the routes. */
const ADDRESSES_TTL_MS = 60_000;
/** Every namespace is read at least once in this many scans, in rotation. */
const REREAD_SCANS = 10;
/** Above this many rows, reading the tables is cheaper than checking each descriptor. */
const CHECKED_ROWS = 64;
/** For this many scans the processes of a new namespace may still move between cgroups. */
const YOUNG_SCANS = 5;

/** The turn of the namespace of pid 1; no tenant has this name. */
const HOST = '';

const UDP6 = TABLES.indexOf('udp6');
const UDPLITE6 = TABLES.indexOf('udplite6');

/** Namespaces whose tables were read, skipped as unchanged, skipped as empty, unreadable, and not read whole for lack of time or of room. */
export interface NamespaceCounts {
  read: number;
  unchanged: number;
  empty: number;
  unreadable: number;
  incomplete: number;
}

/** The network namespaces of the last scan, by their numbers in the connection table. */
export interface ScannedNamespaces {
  /** What directions need to know of the namespaces. */
  readonly facts: NamespaceFacts;
  numbers(): Iterable<number>;
  /** The inode number of ns/net and the processes; null after the namespace is gone. */
  namespace(number: number): Namespace | null;
  /** The test for the addresses of a namespace. */
  isOwn(number: number): IsOwn;
  /** Says whether its tables were read at least once. */
  wasRead(number: number): boolean;
}

/** What is kept of a namespace from scan to scan. */
class NamespaceState {
  readonly number: number;
  /** The first scan that found it. */
  readonly firstScan: number;
  namespace: Namespace;
  members: ReadonlySet<number>;
  tenant = HOST;
  isOwn: IsOwn | null = null;
  addressesAt = 0;
  pod: OwnerLabels | null = null;
  age = 0;
  /** Counters at the last read; null unless all rows were read then. */
  lastRead: {
    readonly counters: SocketCounts | null;
    readonly connections: string;
    readonly snmp: Buffer;
    readonly snmp6: Buffer | null;
  } | null = null;
  /** The last scan that read its tables, and whether only packets came and went before it. */
  tablesAt = 0;
  hasSameSockets = false;
  hasSameProcesses = false;
  /** The last scan that had time for it. */
  reachedAt = 0;
  /** Tables that are being read; those that a scan did not finish continue in the next one. */
  reads: TableRead[] = [];
  /** Whether all tables of this scan could be read so far, when the oldest one began, and what to remember if they all can. */
  isComplete = true;
  lacksRoom = false;
  readFrom = 0;
  counters: NamespaceState['lastRead'] = null;
  /** The tables that were read to their end at least once. */
  readonly readTables = new Set<number>();
  /** Contents at the last successful read. */
  netstat = '';
  snmp6 = '';
  /** When its rows were last current; milliseconds since 1970. */
  readAt = 0;
  /** Malformed lines at the last read, by table. */
  readonly malformed = new Uint32Array(TABLES.length);

  constructor(number: number, namespace: Namespace, firstScan: number) {
    this.number = number;
    this.namespace = namespace;
    this.members = new Set(namespace.pids);
    this.firstScan = firstScan;
  }
}

/** What the tables need besides /proc. */
export interface TablesContext {
  readonly owners: SocketOwners;
  /** Null leaves the protocol counters unread. */
  readonly protocols: ProtocolCounters | null;
  /** The labels of the namespace that these processes are in. */
  readonly labelsOf: (pids: readonly number[]) => OwnerLabels;
  /** Who answers for a process. */
  readonly tenantOf: (pid: number) => string;
  /** Milliseconds of a clock that never goes back. */
  readonly monotonic: () => number;
}

/**
 * Reads the socket tables of every namespace into the connection table, and numbers the namespaces for it.
 *
 * Reading a table costs a walk over the hash of the whole host, however few rows the namespace has. So a table without sockets
 * (by sockstat) is not read, and a small namespace is skipped as unchanged if it has the same counters, the same processes with the same
 * number of descriptors, and every socket still at its descriptor. Changes that this misses (a queue that was drained, a UDP socket that
 * connected) show ten scans later at most. Namespaces in which only packets came and went are read for 50 ms of a scan, those first that
 * have waited longest; the others count as unchanged.
 */
export class NamespaceTables implements ScannedNamespaces {
  readonly status: NamespaceCounts = { read: 0, unchanged: 0, empty: 0, unreadable: 0, incomplete: 0 };
  /** Malformed lines since the start, by table. */
  readonly malformed = new Map<string, number>(TABLES.map((table) => [table, 0]));
  /** Malformed lines among the rows of the last scan. */
  malformedNow = 0;
  /** When the oldest rows were read; milliseconds since 1970. */
  oldestReadAt = 0;
  /** Milliseconds that the protocol counters took in the last scan. */
  protocolsMs = 0;
  /** Why protocol counters could not be added up in the last scan; null if they could. */
  protocolsFailure: string | null = null;
  /** What directions need to know of the namespaces, as of the last scan. */
  facts: NamespaceFacts = { ownOf: () => null, ephemeralPortsOf: () => DEFAULT_EPHEMERAL_PORTS };
  readonly #procfs: Procfs;
  readonly #connections: ConnectionTable;
  readonly #context: TablesContext;
  readonly #rows = new SocketRows();
  readonly #walks = new HashWalks();
  readonly #packetReads = new PacketReads();
  readonly #states = new Map<number, NamespaceState>();
  /** Namespaces that the last scan did not find any more. */
  readonly #gone = new Map<number, NamespaceState>();
  readonly #numbers = new Map<number, number>();
  readonly #retired: number[] = [];
  readonly #free: number[] = [];
  #next = 0;
  #now = 0;
  #scan = 0;
  #dump: SocketDump | null = null;
  /** By table of a namespace that was not read: how many scans ago its rows may have been read. */
  readonly #kept = new Map<number, number>();

  constructor(procfs: Procfs, connections: ConnectionTable, context: TablesContext) {
    this.#procfs = procfs;
    this.#connections = connections;
    this.#context = context;
  }

  /**
   * Reads these namespaces once. A namespace that cannot be read, or not before `isLate` returns true, keeps its rows and is counted; a table
   * that is too long for the time continues in the next scan. The namespace of pid 1 comes first and has half of the time, and 100 ms also in a
   * scan that is late before. Then tenants take turns, whatever the number of their namespaces and the length of their tables, and those of a tenant that were late in the last
   * scan come first. `now` is milliseconds since 1970. The dump replaces the TCP tables of its namespace.
   */
  read(
    namespaces: readonly Namespace[],
    now: number,
    isLate: (share?: number) => boolean,
    dump: SocketDump | null = null,
  ): void {
    this.#now = now;
    this.#dump = dump;
    this.protocolsMs = 0;
    this.protocolsFailure = null;
    this.#walks.begin();
    this.#packetReads.begin();
    this.#scan++;
    this.#updateStates(namespaces);
    Object.assign(this.status, { read: 0, unchanged: 0, empty: 0, unreadable: 0, incomplete: 0 });
    for (const state of this.#states.values()) state.tenant = this.#tenantOf(state);
    this.#connections.begin(now, (netns) => this.#states.get(netns)?.tenant ?? HOST);
    this.#context.protocols?.begin((netns) => this.#states.has(netns));
    this.#kept.clear();
    this.#readInTurn(isLate);
    this.oldestReadAt = now;
    this.malformedNow = 0;
    for (const { readAt, malformed } of this.#states.values()) {
      if (readAt > 0) this.oldestReadAt = Math.min(this.oldestReadAt, readAt);
      for (const lines of malformed) this.malformedNow += lines;
    }
    const kept = this.#kept;
    if (kept.size > 0) this.#connections.keep((netns, table) => kept.get(netns * TABLES.length + table) ?? 0);
    this.#dump = null;
    const ephemeral = this.#procfs.ephemeralPorts();
    this.facts = {
      ownOf: (netns) => this.#ownOf(netns),
      // The range of other namespaces cannot be read. They start with the default.
      ephemeralPortsOf: (netns) =>
        ephemeral && this.isMember(netns, ephemeral.pid) ? ephemeral.ports : DEFAULT_EPHEMERAL_PORTS,
    };
    this.#connections.end(this.facts, (inode) => this.#context.owners.stillHolds(inode));
  }

  #readInTurn(isLate: (share?: number) => boolean): void {
    const fewRows = this.#fewRows();
    const { monotonic } = this.#context;
    const turns = this.#turns();
    const hostShare = this.#states.size > 1 ? HOST_SHARE : 1;
    for (const { tenant, work: state } of turns) {
      const isFirstOfHost = tenant === HOST && turns.usedBy(HOST) === 0;
      if (isLate() && !isFirstOfHost) {
        this.#leave(state);
        continue;
      }
      const begun = monotonic();
      const isTurnOver = (): boolean => monotonic() - begun >= TURN_MS;
      const isOver = isFirstOfHost ? () => isTurnOver() && isLate(hostShare) : () => isTurnOver() || isLate();
      const outcome = this.#readPart(state, fewRows, isOver);
      if (outcome === null) turns.giveBack(tenant, state);
      else this.status[outcome]++;
      const ms = monotonic() - begun;
      if (state.hasSameSockets) this.#packetReads.use(ms);
      turns.use(tenant, ms);
    }
  }

  /** Who answers for a namespace; HOST for that of pid 1. */
  #tenantOf({ members, namespace }: NamespaceState): string {
    return members.has(1) ? HOST : this.#context.tenantOf(namespace.pids[0] ?? 0);
  }

  #turns(): FairTurns<NamespaceState> {
    const turns = new FairTurns<NamespaceState>();
    const isHost = ({ tenant }: NamespaceState): boolean => tenant === HOST;
    const states = [...this.#states.values()];
    states.sort(
      (a, b) => Number(isHost(b)) - Number(isHost(a)) || a.reachedAt - b.reachedAt || a.tablesAt - b.tablesAt,
    );
    for (const state of states) turns.add(state.tenant, state);
    return turns;
  }

  /** Reads a namespace until `isOver` returns true. Returns the outcome, or null if it is not done. */
  #readPart(
    state: NamespaceState,
    fewRows: (number: number) => readonly number[] | null,
    isOver: () => boolean,
  ): keyof NamespaceCounts | null {
    if (state.reachedAt !== this.#scan) {
      state.reachedAt = this.#scan;
      const outcome = this.#beginNamespace(state, fewRows(state.number));
      if (outcome !== null) {
        state.readAt = this.#now;
        return outcome;
      }
    }
    if (!this.#readTables(state, isOver)) return null;
    state.lastRead = state.isComplete ? state.counters : null;
    if (state.lacksRoom) return 'incomplete';
    return state.isComplete ? 'read' : 'unreadable';
  }

  /** Keeps what the time did not suffice for. */
  #leave(state: NamespaceState): void {
    this.status.incomplete++;
    if (state.reachedAt === this.#scan) for (const { table } of state.reads) this.#keep(state, table);
    else this.#keepAll(state);
    for (const read of state.reads) read.pause();
    // Processes may come and go, and connections be accepted, before its next turn.
    state.lastRead = null;
  }

  numbers(): Iterable<number> {
    return this.#states.keys();
  }

  wasRead(number: number): boolean {
    return (this.#stateOf(number)?.readAt ?? 0) > 0;
  }

  /** What walks over the TCP hash cost in this scan, the first time that the cost is high; otherwise null. */
  takeHashCost(): HashCost | null {
    return this.#walks.takeCost();
  }

  /** The namespace of a number in the connection table's `netns` column; null once a scan has begun after the one that missed it. */
  namespace(number: number): Namespace | null {
    return this.#stateOf(number)?.namespace ?? null;
  }

  /** Says whether a process is in a namespace. */
  isMember(number: number, pid: number): boolean {
    return this.#states.get(number)?.members.has(pid) ?? false;
  }

  /** The test for the addresses of a namespace, from its fib_trie and if_inet6. */
  isOwn(number: number): IsOwn {
    return this.#ownOf(number) ?? (() => false);
  }

  /** Says whether the addresses of a namespace, and of the host if pid 1 is visible, could be read. If not, no ASN may be looked up. */
  knowsOwn(number: number): boolean {
    const host = this.#hostNumber();
    return this.#ownOf(number) !== null && (host === null || this.#ownOf(host) !== null);
  }

  /** What is known of a namespace, also of one that is gone since the last scan. */
  #stateOf(number: number): NamespaceState | undefined {
    return this.#states.get(number) ?? this.#gone.get(number);
  }

  #ownOf(number: number): IsOwn | null {
    const state = this.#states.get(number);
    if (!state) return this.#gone.get(number)?.isOwn ?? null;
    if (!state.isOwn || Math.abs(this.#now - state.addressesAt) >= ADDRESSES_TTL_MS) {
      state.isOwn = this.#readOwn(state.namespace);
      state.addressesAt = this.#now;
    }
    return state.isOwn;
  }

  #readOwn(namespace: Namespace): IsOwn | null {
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const fibTrie = new FibTrie();
      const failure = this.#procfs.readLines(pid, 'net/fib_trie', (line) => fibTrie.parseLine(line));
      const ifInet6 = this.#procfs.read(pid, 'net/if_inet6');
      // Without IPv6 there is no if_inet6. Without the process there is no fib_trie either.
      if (failure || (failed(ifInet6) && ifInet6 !== 'vanished')) continue;
      const own = ownAddresses(fibTrie.local, failed(ifInet6) ? null : ifInet6.toString('latin1'));
      return (address) => own.has(address);
    }
    return null;
  }

  /** Says whether an address belongs to the host: the namespace of pid 1. */
  isHostOwn(address: Address): boolean {
    const host = this.#hostNumber();
    return host !== null && this.isOwn(host)(address);
  }

  #hostNumber(): number | null {
    for (const [number, state] of this.#states) if (state.members.has(1)) return number;
    return null;
  }

  /** The labels of the pod that a namespace belongs to; empty if it belongs to none, or to several. */
  podOf(number: number): OwnerLabels {
    const state = this.#stateOf(number);
    if (!state) return this.#context.labelsOf([]);
    state.pod ??= this.#context.labelsOf(state.namespace.pids);
    return state.pod;
  }

  /** The labels of pods may have changed. */
  forgetPods(): void {
    for (const state of this.#states.values()) state.pod = null;
  }

  #updateStates(namespaces: readonly Namespace[]): void {
    const present = new Set<number>();
    // The rows of a namespace that is gone are closed at the end of that scan. Its number is free in the next scan.
    this.#free.push(...this.#retired.splice(0));
    this.#gone.clear();
    for (const namespace of namespaces) {
      const number = this.#numberOf(namespace);
      present.add(number);
      const state = this.#states.get(number);
      if (!state) this.#states.set(number, new NamespaceState(number, namespace, this.#scan));
      else {
        state.hasSameProcesses = sameNumbers(state.namespace.pids, namespace.pids);
        state.namespace = namespace;
        if (!state.hasSameProcesses) state.members = new Set(namespace.pids);
        if (!state.hasSameProcesses || state.age++ < YOUNG_SCANS) state.pod = null;
      }
    }
    for (const [number, state] of this.#states) {
      const { namespace } = state;
      if (present.has(number)) continue;
      this.#states.delete(number);
      this.#gone.set(number, state);
      if (this.#numbers.get(namespace.inode) === number) this.#numbers.delete(namespace.inode);
      this.#retired.push(number);
    }
  }

  /** A namespace that has the inode of an earlier one and none of its processes is another namespace. */
  #numberOf({ inode, pids }: Namespace): number {
    const known = this.#numbers.get(inode);
    const members = known === undefined ? undefined : this.#states.get(known)?.members;
    if (known !== undefined && pids.some((pid) => members?.has(pid))) return known;
    const number = this.#free.pop() ?? this.#next++;
    this.#numbers.set(inode, number);
    return number;
  }

  /** The rows of a namespace by its number; null for more than `CHECKED_ROWS`. */
  #fewRows(): (number: number) => readonly number[] | null {
    const { length, scanOf, netns } = this.#connections;
    const sizes = new Uint32Array(this.#next);
    for (let i = 0; i < length; i++) if (scanOf[i] !== 0) sizes[netns[i] ?? 0] = (sizes[netns[i] ?? 0] ?? 0) + 1;
    const rows = new Map<number, number[]>();
    for (let i = 0; i < length; i++) {
      const number = netns[i] ?? 0;
      if (scanOf[i] === 0 || (sizes[number] ?? 0) > CHECKED_ROWS) continue;
      const own = rows.get(number);
      if (own) own.push(i);
      else rows.set(number, [i]);
    }
    return (number) => rows.get(number) ?? ((sizes[number] ?? 0) === 0 ? [] : null);
  }

  /** Begins to read a namespace. Returns an outcome if it has nothing to read. */
  #beginNamespace(state: NamespaceState, rows: readonly number[] | null): keyof NamespaceCounts | null {
    const { namespace, lastRead } = state;
    const counters = this.#counters(namespace);
    const snmp = this.#bytes(namespace, 'snmp');
    const hasUdp6 = rows?.some((i) => [UDP6, UDPLITE6].includes(this.#connections.table[i] ?? 0));
    const snmp6 = hasUdp6 ? this.#bytes(namespace, 'snmp6') : null;
    const sameUdp6 = !hasUdp6 || (snmp6 && lastRead?.snmp6?.equals(snmp6));
    const hasNewCounters = !snmp || !sameUdp6 || !lastRead?.snmp.equals(snmp);
    if (snmp && hasNewCounters) this.#countProtocols(state, snmp);
    const connections = snmp ? connectionCounters(snmp.toString('latin1')) : '';
    const sameSockets = snmp && equalCounts(counters, lastRead?.counters) && lastRead?.connections === connections;
    const sameCounters = sameSockets && !hasNewCounters;
    const isDumped = this.#mergeDump(state);
    state.hasSameSockets = false;
    const mayWait = sameCounters || (sameSockets && this.#packetReads.isOver);
    if (rows && mayWait && this.#isUnchanged(state, rows)) {
      this.#keepAll(state, isDumped ? UDP : 0);
      return rows.length === 0 ? 'empty' : 'unchanged';
    }
    const mayHold = [...TABLES.keys()].filter((table) => mayHoldRows(counters, TABLES[table] ?? 'tcp'));
    const tables = isDumped ? mayHold.filter((table) => table >= UDP) : mayHold;
    for (const table of TABLES.keys()) if (!tables.includes(table) && !isDumped) state.malformed[table] = 0;
    for (const table of TABLES.keys()) if (!mayHold.includes(table)) state.readTables.add(table);
    const unfinished = new Map(state.reads.map((read) => [read.table, read]));
    state.reads = tables.map((table) => unfinished.get(table) ?? new TableRead(table, this.#scan, this.#now));
    for (const read of state.reads) read.resume();
    state.tablesAt = this.#scan;
    state.hasSameSockets = Boolean(sameSockets);
    state.isComplete = true;
    state.lacksRoom = false;
    state.counters = snmp ? { counters, connections, snmp, snmp6 } : null;
    state.readFrom = this.#now;
    if (mayHold.length > 0) return null;
    state.lastRead = state.counters;
    return 'empty';
  }

  #countProtocols(state: NamespaceState, snmp: Buffer): void {
    if (!this.#context.protocols) return;
    const begun = this.#context.monotonic();
    // A file that cannot be read once must not count as 0: its whole count would be added again by the next scan.
    state.netstat = this.#text(state.namespace, 'netstat') ?? state.netstat;
    state.snmp6 = this.#text(state.namespace, 'snmp6') ?? state.snmp6;
    try {
      const counts = readProtocolCounts(snmp.toString('latin1'), state.netstat, state.snmp6);
      this.#context.protocols.add(state.number, this.podOf(state.number), counts);
    } catch (error) {
      this.protocolsFailure = reasonOf(error);
    }
    this.protocolsMs += this.#context.monotonic() - begun;
  }

  #isUnchanged(state: NamespaceState, rows: readonly number[]): boolean {
    if (!state.hasSameProcesses || this.#connections.incomplete.has(state.number)) return false;
    if ((this.#scan + state.number) % REREAD_SCANS === 0) return false;
    const { owners } = this.#context;
    if (!state.namespace.pids.every((pid) => owners.isSteady(pid))) return false;
    return rows.every((i) => {
      const inode = this.#connections.inode[i] ?? 0;
      if (inode === 0) return true;
      return owners.stillHolds(inode) && owners.holdersOf(inode).every((pid) => owners.isSteady(pid));
    });
  }

  #counters(namespace: Namespace): SocketCounts | null {
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const bytes = this.#procfs.readSmall(pid, 'net/sockstat');
      if (failed(bytes)) continue;
      const sockstat = bytes.toString('latin1');
      const sockstat6 = this.#procfs.readSmall(pid, 'net/sockstat6');
      if (!failed(sockstat6)) return parseSockstat(sockstat, sockstat6.toString('latin1'));
      // A missing file means that IPv6 is off, if the process still exists.
      const ipv6Off = sockstat6 === 'vanished' && !failed(this.#procfs.readSmall(pid, 'net/sockstat'));
      if (ipv6Off) return parseSockstat(sockstat, null);
    }
    return null;
  }

  /** Reads tables until all are read, or `isOver` returns true: then it returns false. They take turns, so that none waits for a long one. */
  #readTables(state: NamespaceState, isOver: () => boolean): boolean {
    const { monotonic } = this.#context;
    while (state.reads.length > 0) {
      const read = state.reads.reduce((least, next) => (next.usedMs < least.usedMs ? next : least));
      const begun = monotonic();
      const others = state.reads.length > 1;
      const outcome = this.#readTable(state, read, () => (others && monotonic() - begun >= TURN_MS) || isOver());
      read.usedMs += monotonic() - begun;
      if (outcome !== 'unfinished') {
        state.reads = state.reads.filter((other) => other !== read);
        state.readFrom = Math.min(state.readFrom, read.beganAt);
      } else if (isOver()) return false;
    }
    if (state.isComplete) state.readAt = state.readFrom;
    return true;
  }

  /** Whether the scan that found the namespace was late for a table: its connections may have been open before. */
  #mayHoldOlder(state: NamespaceState, table: number): boolean {
    return !state.readTables.has(table) && state.firstScan !== this.#scan;
  }

  #mergeDump(state: NamespaceState): boolean {
    const dump = this.#dump;
    if (dump?.netns !== state.namespace.inode) return false;
    for (const [table, rows] of [dump.tcp, dump.tcp6].entries()) {
      this.#connections.merge(state.number, table, rows, this.#mayHoldOlder(state, table));
      state.readTables.add(table);
      this.#countMalformed(state, table, rows.malformed);
    }
    return true;
  }

  #countMalformed(state: NamespaceState, table: number, lines: number): void {
    state.malformed[table] = lines;
    const name = TABLES[table] ?? '';
    this.malformed.set(name, (this.malformed.get(name) ?? 0) + lines);
  }

  #readTable(state: NamespaceState, read: TableRead, isOver: () => boolean): 'unfinished' | 'read' | 'unreadable' {
    const { number, namespace } = state;
    const { table } = read;
    const isFirst = this.#mayHoldOlder(state, table);
    const begun = this.#context.monotonic();
    const { refused } = this.#connections;
    const outcome = read.next(this.#procfs, namespace.pids, this.#rows, isOver, (rows) =>
      this.#connections.merge(number, table, rows, isFirst),
    );
    if (this.#connections.refused > refused) {
      state.isComplete = false;
      state.lacksRoom = true;
    }
    if (outcome === 'unfinished') return outcome;
    if (outcome === 'unreadable') {
      this.#keep(state, table);
      state.isComplete = false;
      return outcome;
    }
    const scans = this.#scan - read.beganIn;
    if (scans > 0) this.#keep(state, table, scans);
    else if (table < UDP) this.#walks.add(number, read.rows, read.usedMs + this.#context.monotonic() - begun);
    state.readTables.add(table);
    this.#countMalformed(state, table, read.malformed);
    return outcome;
  }

  /** Keeps the rows of a table that were read in one of the last `scans` scans. */
  #keep(state: NamespaceState, table: number, scans = Infinity): void {
    this.#kept.set(state.number * TABLES.length + table, scans);
  }

  #keepAll(state: NamespaceState, from = 0): void {
    for (let table = from; table < TABLES.length; table++) this.#keep(state, table);
  }

  #bytes(namespace: Namespace, name: string): Buffer | null {
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const bytes = this.#procfs.readSmall(pid, `net/${name}`);
      if (!failed(bytes)) return Buffer.from(bytes);
    }
    return null;
  }

  #text(namespace: Namespace, name: string): string | null {
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const bytes = this.#procfs.read(pid, `net/${name}`);
      if (!failed(bytes)) return bytes.toString('latin1');
    }
    return null;
  }
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((number, i) => number === b[i]);
}
