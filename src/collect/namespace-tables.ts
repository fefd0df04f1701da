import type { Address, OwnerLabels } from '../model.ts';
import type { ConnectionTable } from './connection-table.ts';
import type { IsOwn } from './direction.ts';
import { HashWalks, type HashCost } from './hash-walks.ts';
import { FibTrie, ownAddresses } from './fib-trie.ts';
import type { Namespace } from './namespaces.ts';
import type { SocketOwners } from './socket-owners.ts';
import { failed, type Procfs } from './procfs.ts';
import { readProtocolCounts, type ProtocolCounters } from './protocol-counters.ts';
import { mayHoldRows, parseSockstat, type Counters } from './sockstat.ts';
import { SocketRows, TABLES, UDP } from './net-tcp-udp-raw.ts';

/** How many processes of a namespace are tried before it counts as unreadable. */
const CANDIDATES = 8;
/** Addresses of a namespace are read again after so long: fib_trie grows with the routes. */
const ADDRESSES_TTL_MS = 60_000;
/** Every namespace is read again at least once in so many scans, each in its turn. */
const STANDING_SCANS = 10;
/** Above so many rows it is cheaper to read the tables than to look at each descriptor. */
const STANDING_ROWS = 64;
/** While a namespace is young its first process may still change what it is. */
const YOUNG_SCANS = 5;

const UDP6 = TABLES.indexOf('udp6');
const UDPLITE6 = TABLES.indexOf('udplite6');

/** How many namespaces had tables read, stood as they were, had none to read, and could not be read (in time). */
export interface NamespaceCounts {
  read: number;
  unchanged: number;
  empty: number;
  unreadable: number;
}

interface Seat {
  namespace: Namespace;
  members: ReadonlySet<number>;
  isOwn: IsOwn | null;
  addressesAt: number;
  pod: OwnerLabels | null;
  age: number;
  /** Counters of the last reading; null unless all of its rows were read then. */
  standing: { readonly counters: string; readonly snmp: Buffer; readonly snmp6: Buffer | null } | null;
  steady: boolean;
  /** The scan that had time for it last. */
  reachedAt: number;
  /** As they could be read last. */
  netstat: string;
  snmp6: string;
  /** The scan that saw it first. */
  readonly bornIn: number;
  /** When its rows were true last; milliseconds since 1970. */
  readAt: number;
}

/** What reading needs besides /proc: who looks after owners and counters, and the names of a namespace with these processes. */
export interface TablesContext {
  readonly owners: SocketOwners;
  /** Null leaves the protocol counters unread. */
  readonly protocols: ProtocolCounters | null;
  readonly labelsOf: (pids: readonly number[]) => OwnerLabels;
  /** Milliseconds that only go forward. */
  readonly monotonic: () => number;
}

/**
 * Reads the socket tables of every namespace into the connection table, and knows the namespaces by the numbers used there.
 *
 * A table costs a walk over the host's whole hash, whatever the namespace holds. So one without sockets is not read (sockstat
 * tells), and a small namespace where nothing can have changed stands as it was: the same counters, the same processes with as
 * many descriptors, every socket still at its descriptor. What that does not show, a queue that was read and a UDP socket that
 * connected, shows at the latest ten scans later.
 */
export class NamespaceTables {
  readonly status: NamespaceCounts = { read: 0, unchanged: 0, empty: 0, unreadable: 0 };
  /** Lines of each table that were no row, since the start. */
  readonly malformed = new Map<string, number>(TABLES.map((table) => [table, 0]));
  /** When the rows of the namespace that waits longest were read; milliseconds since 1970. */
  oldestReadAt = 0;
  /** What the protocol counters took of the last scan; milliseconds. */
  protocolsMs = 0;
  /** Why protocol counters could not be added up in the last scan. */
  protocolsFailure: string | null = null;
  readonly #procfs: Procfs;
  readonly #connections: ConnectionTable;
  readonly #context: TablesContext;
  readonly #rows = new SocketRows();
  readonly #walks = new HashWalks();
  readonly #seats = new Map<number, Seat>();
  readonly #numbers = new Map<number, number>();
  readonly #retired: number[] = [];
  readonly #free: number[] = [];
  #next = 0;
  #now = 0;
  #scan = 0;

  constructor(procfs: Procfs, connections: ConnectionTable, context: TablesContext) {
    this.#procfs = procfs;
    this.#connections = connections;
    this.#context = context;
  }

  /**
   * One scan of these namespaces. What could not be read keeps the rows it had, and is counted; so does what is left when
   * `isLate` says that the time is up, and the next scan begins there.
   */
  read(namespaces: readonly Namespace[], now: number, isLate: () => boolean): void {
    this.#now = now;
    this.protocolsMs = 0;
    this.protocolsFailure = null;
    this.#walks.begin();
    this.#scan++;
    this.#seat(namespaces);
    Object.assign(this.status, { read: 0, unchanged: 0, empty: 0, unreadable: 0 });
    this.#connections.begin(now);
    this.#context.protocols?.begin((netns) => this.#seats.has(netns));
    const fewRows = this.#fewRows();
    const kept = new Set<number>();
    const queue = [...this.#seats].sort(([, a], [, b]) => a.reachedAt - b.reachedAt);
    for (const [number, seat] of queue) {
      let outcome: keyof NamespaceCounts = 'unreadable';
      if (isLate()) {
        keepAll(kept, number);
        // Before it is its turn again, processes may come and go and connections be accepted.
        seat.standing = null;
      } else {
        seat.reachedAt = this.#scan;
        outcome = this.#readNamespace(number, seat, fewRows(number), kept);
      }
      if (outcome !== 'unreadable') seat.readAt = now;
      this.status[outcome]++;
    }
    this.oldestReadAt = queue.reduce(
      (oldest, [, seat]) => (seat.readAt > 0 ? Math.min(oldest, seat.readAt) : oldest),
      now,
    );
    if (kept.size > 0) this.#connections.keep((netns, table) => kept.has(netns * TABLES.length + table));
    this.#connections.end(
      (netns) => this.isOwn(netns),
      (inode) => this.#context.owners.stillHolds(inode),
    );
  }

  /** What walks over the host's TCP hash took of this scan, the first time that it is worth a word. */
  takeHashCost(): HashCost | null {
    return this.#walks.takeCost();
  }

  /** The namespace behind a number of the connection table's `netns` column; null once it is gone. */
  namespace(number: number): Namespace | null {
    return this.#seats.get(number)?.namespace ?? null;
  }

  /** Says whether a process is in a namespace, by the namespace's number. */
  isMember(number: number, pid: number): boolean {
    return this.#seats.get(number)?.members.has(pid) ?? false;
  }

  /** The test for the addresses of a namespace, from its fib_trie and if_inet6. */
  isOwn(number: number): IsOwn {
    return this.#ownOf(number) ?? (() => false);
  }

  /** Says whether the addresses of a namespace, and of the host where pid 1 is seen, could be read: else nothing may be asked. */
  knowsOwn(number: number): boolean {
    const host = this.#hostNumber();
    return this.#ownOf(number) !== null && (host === null || this.#ownOf(host) !== null);
  }

  #ownOf(number: number): IsOwn | null {
    const seat = this.#seats.get(number);
    if (!seat) return null;
    if (!seat.isOwn || Math.abs(this.#now - seat.addressesAt) >= ADDRESSES_TTL_MS) {
      seat.isOwn = this.#readOwn(seat.namespace);
      seat.addressesAt = this.#now;
    }
    return seat.isOwn;
  }

  #readOwn(namespace: Namespace): IsOwn | null {
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const fibTrie = new FibTrie();
      const failure = this.#procfs.readLines(pid, 'net/fib_trie', (line) => fibTrie.take(line));
      const ifInet6 = this.#procfs.read(pid, 'net/if_inet6');
      // Without IPv6 there is no such file; without the process there is neither.
      if (failure || (failed(ifInet6) && ifInet6 !== 'vanished')) continue;
      const own = ownAddresses(fibTrie.local, failed(ifInet6) ? null : ifInet6.toString('latin1'));
      return (address) => own.has(address);
    }
    return null;
  }

  /** The test for the addresses of the host: the namespace that pid 1 is in. */
  isHostOwn(address: Address): boolean {
    const host = this.#hostNumber();
    return host !== null && this.isOwn(host)(address);
  }

  #hostNumber(): number | null {
    for (const [number, seat] of this.#seats) if (seat.members.has(1)) return number;
    return null;
  }

  /** The names of the pod that a namespace belongs to; empty names where it belongs to none, or to several. */
  podOf(number: number): OwnerLabels {
    const seat = this.#seats.get(number);
    if (!seat) return this.#context.labelsOf([]);
    seat.pod ??= this.#context.labelsOf(seat.namespace.pids);
    return seat.pod;
  }

  /** The names of pods may be others from now on. */
  forgetPods(): void {
    for (const seat of this.#seats.values()) seat.pod = null;
  }

  #seat(namespaces: readonly Namespace[]): void {
    const present = new Set<number>();
    // The rows of a namespace that is gone are closed at the end of that scan: from the next one its number is free.
    this.#free.push(...this.#retired.splice(0));
    for (const namespace of namespaces) {
      const number = this.#numberOf(namespace);
      present.add(number);
      const seat = this.#seats.get(number);
      if (!seat) this.#seats.set(number, newSeat(namespace, this.#scan));
      else {
        seat.steady = sameNumbers(seat.namespace.pids, namespace.pids);
        seat.namespace = namespace;
        if (!seat.steady) seat.members = new Set(namespace.pids);
        if (!seat.steady || seat.age++ < YOUNG_SCANS) seat.pod = null;
      }
    }
    for (const [number, { namespace }] of this.#seats) {
      if (present.has(number)) continue;
      this.#seats.delete(number);
      if (this.#numbers.get(namespace.inode) === number) this.#numbers.delete(namespace.inode);
      this.#retired.push(number);
    }
  }

  /** An inode number that came back with none of its former processes is another namespace. */
  #numberOf({ inode, pids }: Namespace): number {
    const known = this.#numbers.get(inode);
    const members = known === undefined ? undefined : this.#seats.get(known)?.members;
    if (known !== undefined && pids.some((pid) => members?.has(pid))) return known;
    const number = this.#free.pop() ?? this.#next++;
    this.#numbers.set(inode, number);
    return number;
  }

  /** The rows of a namespace by its number; null where they are many. */
  #fewRows(): (number: number) => readonly number[] | null {
    const { length, scanOf, netns } = this.#connections;
    const sizes = new Uint32Array(this.#next);
    for (let i = 0; i < length; i++) if (scanOf[i] !== 0) sizes[netns[i] ?? 0] = (sizes[netns[i] ?? 0] ?? 0) + 1;
    const rows = new Map<number, number[]>();
    for (let i = 0; i < length; i++) {
      const number = netns[i] ?? 0;
      if (scanOf[i] === 0 || (sizes[number] ?? 0) > STANDING_ROWS) continue;
      const own = rows.get(number);
      if (own) own.push(i);
      else rows.set(number, [i]);
    }
    return (number) => rows.get(number) ?? ((sizes[number] ?? 0) === 0 ? [] : null);
  }

  #readNamespace(number: number, seat: Seat, rows: readonly number[] | null, kept: Set<number>): keyof NamespaceCounts {
    const { namespace } = seat;
    const counters = this.#counters(namespace);
    const snmp = this.#bytes(namespace, 'snmp');
    const hasUdp6 = rows?.some((i) => [UDP6, UDPLITE6].includes(this.#connections.table[i] ?? 0));
    const snmp6 = hasUdp6 ? this.#bytes(namespace, 'snmp6') : null;
    const { standing } = seat;
    const sameUdp6 = !hasUdp6 || (snmp6 && standing?.snmp6?.equals(snmp6));
    const moved = !snmp || !sameUdp6 || !standing?.snmp.equals(snmp);
    if (snmp && moved) this.#countProtocols(number, seat, snmp);
    const told = JSON.stringify(counters);
    if (rows && !moved && counters && standing?.counters === told && this.#stands(number, seat, rows)) {
      keepAll(kept, number);
      return rows.length === 0 ? 'empty' : 'unchanged';
    }
    const tables = [...TABLES.keys()].filter((table) => mayHoldRows(counters, TABLES[table] ?? 'tcp'));
    const complete = this.#readTables(number, seat, tables, kept);
    seat.standing = complete && snmp ? { counters: told, snmp, snmp6 } : null;
    if (tables.length === 0) return 'empty';
    return complete ? 'read' : 'unreadable';
  }

  #countProtocols(number: number, seat: Seat, snmp: Buffer): void {
    if (!this.#context.protocols) return;
    const begun = this.#context.monotonic();
    // A file that cannot be read for once must not count as 0, and what it counts not be added again after.
    seat.netstat = this.#text(seat.namespace, 'netstat') ?? seat.netstat;
    seat.snmp6 = this.#text(seat.namespace, 'snmp6') ?? seat.snmp6;
    try {
      const counts = readProtocolCounts(snmp.toString('latin1'), seat.netstat, seat.snmp6);
      this.#context.protocols.add(number, this.podOf(number), counts);
    } catch (error) {
      this.protocolsFailure = String(error);
    }
    this.protocolsMs += this.#context.monotonic() - begun;
  }

  #stands(number: number, seat: Seat, rows: readonly number[]): boolean {
    if (!seat.steady || this.#connections.incomplete.has(number)) return false;
    if ((this.#scan + number) % STANDING_SCANS === 0) return false;
    const { owners } = this.#context;
    if (!seat.namespace.pids.every((pid) => owners.isSteady(pid))) return false;
    return rows.every((i) => {
      const inode = this.#connections.inode[i] ?? 0;
      if (inode === 0) return true;
      return owners.stillHolds(inode) && owners.holdersOf(inode).every((pid) => owners.isSteady(pid));
    });
  }

  #counters(namespace: Namespace): Counters | null {
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const bytes = this.#procfs.glance(pid, 'net/sockstat');
      if (failed(bytes)) continue;
      const sockstat = bytes.toString('latin1');
      const sockstat6 = this.#procfs.glance(pid, 'net/sockstat6');
      if (!failed(sockstat6)) return parseSockstat(sockstat, sockstat6.toString('latin1'));
      // The file is missing because IPv6 is off only if the process is still there.
      const ipv6Off = sockstat6 === 'vanished' && !failed(this.#procfs.glance(pid, 'net/sockstat'));
      if (ipv6Off) return parseSockstat(sockstat, null);
    }
    return null;
  }

  /** Reads these tables; the others hold no rows. What could not be read is kept. */
  #readTables(number: number, seat: Seat, tables: readonly number[], kept: Set<number>): boolean {
    let complete = true;
    // A namespace that the time did not reach when it appeared shows now what may have been there before.
    const isFirst = seat.readAt === 0 && seat.bornIn !== this.#scan;
    for (const table of tables) {
      if (this.#readTable(number, seat.namespace, table, isFirst)) continue;
      kept.add(number * TABLES.length + table);
      complete = false;
    }
    return complete;
  }

  #readTable(number: number, namespace: Namespace, table: number, isFirst: boolean): boolean {
    let forbidden = false;
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const begun = this.#context.monotonic();
      let count = 0;
      const malformed = this.#procfs.readTable(pid, table, this.#rows, (rows) => {
        count += rows.count;
        this.#connections.merge(number, table, rows, isFirst);
      });
      if (!failed(malformed)) {
        if (table < UDP) this.#walks.add(number, count, this.#context.monotonic() - begun);
        const name = TABLES[table] ?? '';
        this.malformed.set(name, (this.malformed.get(name) ?? 0) + malformed);
        return true;
      }
      forbidden ||= malformed !== 'vanished';
    }
    return !forbidden;
  }

  #bytes(namespace: Namespace, name: string): Buffer | null {
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const bytes = this.#procfs.glance(pid, `net/${name}`);
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

function newSeat(namespace: Namespace, bornIn: number): Seat {
  return {
    namespace,
    members: new Set(namespace.pids),
    isOwn: null,
    addressesAt: 0,
    pod: null,
    age: 0,
    standing: null,
    steady: false,
    reachedAt: 0,
    netstat: '',
    snmp6: '',
    bornIn,
    readAt: 0,
  };
}

function keepAll(kept: Set<number>, number: number): void {
  for (const table of TABLES.keys()) kept.add(number * TABLES.length + table);
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((number, i) => number === b[i]);
}
