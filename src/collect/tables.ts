import type { Address } from '../model.ts';
import type { ConnectionTable, IsOwn } from './connections.ts';
import { ownAddresses } from './local-addresses.ts';
import type { Namespace } from './namespaces.ts';
import { failed, type Procfs } from './procfs.ts';
import { mayHoldRows, parseSockstat, type Counters } from './sockstat.ts';
import { SocketRows, TABLES } from './sockets.ts';

/** How many processes of a namespace are tried before it counts as unreadable. */
const CANDIDATES = 8;
/** Addresses of a namespace are read again after so long: fib_trie grows with the routes. */
const ADDRESSES_TTL_MS = 60_000;

/** How many namespaces had rows read, had none to read, and could not be read. */
export interface NamespaceCounts {
  read: number;
  empty: number;
  unreadable: number;
}

interface Seat {
  namespace: Namespace;
  members: ReadonlySet<number>;
  isOwn: IsOwn | null;
  addressesAt: number;
}

/** Reads the socket tables of every namespace into the connection table, and knows the namespaces by the numbers used there. */
export class SocketTables {
  readonly status: NamespaceCounts = { read: 0, empty: 0, unreadable: 0 };
  /** Lines of each table that were no row, since the start. */
  readonly malformed = new Map<string, number>(TABLES.map((table) => [table, 0]));
  readonly #procfs: Procfs;
  readonly #connections: ConnectionTable;
  readonly #rows = new SocketRows();
  readonly #seats = new Map<number, Seat>();
  readonly #numbers = new Map<number, number>();
  #next = 0;
  #now = 0;

  constructor(procfs: Procfs, connections: ConnectionTable) {
    this.#procfs = procfs;
    this.#connections = connections;
  }

  /** One scan of these namespaces. What could not be read keeps the rows it had, and is counted. */
  read(namespaces: readonly Namespace[], now: number): void {
    this.#now = now;
    this.#seat(namespaces);
    this.status.read = this.status.empty = this.status.unreadable = 0;
    this.#connections.begin(now);
    const unread = new Set<number>();
    for (const [number, { namespace }] of this.#seats) {
      const tables = this.#tablesToRead(namespace);
      if (tables.length === 0) this.status.empty++;
      else if (this.#readTables(number, namespace, tables, unread)) this.status.read++;
      else this.status.unreadable++;
    }
    if (unread.size > 0) this.#connections.keep((netns, table) => unread.has(netns * TABLES.length + table));
    this.#connections.end((netns) => this.isOwn(netns));
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
    const seat = this.#seats.get(number);
    if (!seat) return () => false;
    if (!seat.isOwn || this.#now - seat.addressesAt >= ADDRESSES_TTL_MS || this.#now < seat.addressesAt) {
      const own = ownAddresses(this.#text(seat.namespace, 'fib_trie'), this.#text(seat.namespace, 'if_inet6'));
      seat.isOwn = (address) => own.has(address);
      seat.addressesAt = this.#now;
    }
    return seat.isOwn;
  }

  /** The test for the addresses of the host: the namespace that pid 1 is in. */
  isHostOwn(address: Address): boolean {
    for (const [number, seat] of this.#seats) if (seat.members.has(1)) return this.isOwn(number)(address);
    return false;
  }

  #seat(namespaces: readonly Namespace[]): void {
    const present = new Set<number>();
    for (const namespace of namespaces) {
      const number = this.#numbers.get(namespace.inode) ?? this.#next++;
      this.#numbers.set(namespace.inode, number);
      present.add(number);
      const members = new Set(namespace.pids);
      const seat = this.#seats.get(number);
      if (seat) Object.assign(seat, { namespace, members });
      else this.#seats.set(number, { namespace, members, isOwn: null, addressesAt: 0 });
    }
    for (const [number, { namespace }] of this.#seats) {
      if (present.has(number)) continue;
      this.#seats.delete(number);
      this.#numbers.delete(namespace.inode);
    }
  }

  #tablesToRead(namespace: Namespace): number[] {
    const counters = this.#counters(namespace);
    return [...TABLES.keys()].filter((table) => mayHoldRows(counters, TABLES[table] ?? 'tcp'));
  }

  #counters(namespace: Namespace): Counters | null {
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const sockstat = this.#procfs.read(pid, 'net/sockstat');
      if (failed(sockstat)) continue;
      const sockstat6 = this.#procfs.read(pid, 'net/sockstat6');
      if (!failed(sockstat6)) return parseSockstat(sockstat.toString('latin1'), sockstat6.toString('latin1'));
      // The file is missing because IPv6 is off only if the process is still there.
      const ipv6Off = sockstat6 === 'vanished' && !failed(this.#procfs.read(pid, 'net/sockstat'));
      if (ipv6Off) return parseSockstat(sockstat.toString('latin1'), null);
    }
    return null;
  }

  #readTables(number: number, namespace: Namespace, tables: readonly number[], unread: Set<number>): boolean {
    let complete = true;
    for (const table of tables) {
      if (this.#readTable(number, namespace, table)) continue;
      unread.add(number * TABLES.length + table);
      complete = false;
    }
    return complete;
  }

  #readTable(number: number, namespace: Namespace, table: number): boolean {
    let forbidden = false;
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const malformed = this.#procfs.readTable(pid, table, this.#rows, (rows) =>
        this.#connections.merge(number, table, rows),
      );
      if (!failed(malformed)) {
        const name = TABLES[table] ?? '';
        this.malformed.set(name, (this.malformed.get(name) ?? 0) + malformed);
        return true;
      }
      forbidden ||= malformed !== 'vanished';
    }
    return !forbidden;
  }

  #text(namespace: Namespace, name: string): string | null {
    for (const pid of namespace.pids.slice(0, CANDIDATES)) {
      const bytes = this.#procfs.read(pid, `net/${name}`);
      if (!failed(bytes)) return bytes.toString('latin1');
    }
    return null;
  }
}
