import type { ConnectionTable } from '../collect/connection-table.ts';
import type { ScannedNamespaces } from '../collect/namespace-tables.ts';
import { NO_UID, FIN_WAIT2, SYN_RECV, SYN_SENT, TIME_WAIT, UDP } from '../collect/net-tcp-udp-raw.ts';
import { NetnsIds } from '../collect/netns-ids.ts';
import { EndedSockets } from '../collect/sock-diag.ts';
import type { Address } from '../model.ts';

/** Ended sockets of unknown network namespaces that are kept until the next scan. */
const MAX_WAITING = 65_536;
/** Groups of connections of which only the end is known: in all, and in one network namespace. */
const MAX_GROUPS = 16_384;
const MAX_GROUPS_OF_NAMESPACE = 4_096;
/** Ends of connections that were counted when they ended, for the TIME_WAIT rows that follow. */
const MAX_COUNTED = 262_144;

/** A connection that the scan before closed, and whose end the kernel has not reported yet. */
export interface Departed<Owner> {
  readonly cookie: number;
  readonly owner: Owner;
}

/** Observed round-trip times. */
export interface RoundTrips {
  sumUs: number;
  count: number;
}

/** The result of matching the ended sockets of a scan. */
export interface EndedConnections<Owner> {
  /** Connections in the table: those that scans saw, and those of which only the end is known. Their totals are in its columns. */
  readonly indexes: readonly number[];
  /** Round-trip times of connections in `indexes` that stand for several, by index: their sum in microseconds, and their number. */
  readonly roundTrips: ReadonlyMap<number, RoundTrips>;
  /** Connections that an earlier scan closed, with the row in `late`. */
  readonly departed: readonly { readonly owner: Owner; readonly row: number }[];
  readonly late: EndedSockets;
  /** Connections that ended without totals: the kernel's report was lost, or their namespace or start is unknown. */
  readonly withoutTotals: number;
  /** Departed connections whose end was never reported. */
  readonly lost: readonly Owner[];
}

/**
 * Finds the connection of each ended socket. An ended socket belongs, in this order, to a connection that a scan closed and whose end
 * was not reported yet, to a connection or TIME_WAIT row with its cookie (without one, with its ends), or to a connection that no
 * scan saw. The latter are grouped by what their owner, direction and peer depend on, and enter the connection table once a scan.
 */
export class EndedMatcher<Owner> {
  readonly #connections: ConnectionTable;
  readonly #namespaces: ScannedNamespaces;
  readonly #ids: NetnsIds;
  /** Whether every connection is listed apart, for readers of events. */
  listsEach = false;
  readonly #waiting = new EndedSockets();
  readonly #groups = new EndedSockets();
  readonly #groupRows = new Map<string, number>();
  readonly #groupsOf = new Map<number, number>();
  #groupNetns: number[] = [];
  #groupSizes: number[] = [];
  #groupRoundTrips: RoundTrips[] = [];
  #roundTrips = new Map<number, RoundTrips>();
  #counted = new Set<number>();
  #countedBefore: ReadonlySet<number> = new Set();
  /** Connections that this scan closed, and that the scan before closed, without a report; by key of their ends. */
  readonly #departing = new Map<number, number>();
  #departed = new Map<number, Departed<Owner>>();
  #matched: number[] = [];
  #late: { owner: Owner; row: number }[] = [];
  readonly #lateRows = new EndedSockets();
  #withoutTotals = 0;
  #scans = 0;
  #scanBegan = Infinity;

  constructor(connections: ConnectionTable, namespaces: ScannedNamespaces) {
    this.#connections = connections;
    this.#namespaces = namespaces;
    this.#ids = new NetnsIds(namespaces);
  }

  /** Takes in sockets that ended since the last scan. Before the first scan nothing is known about them: they are dropped. */
  take(ended: EndedSockets): void {
    if (this.#scans === 0) return;
    for (let row = 0; row < ended.count; row++) this.#takeRow(ended, row, true);
  }

  /** Takes in the nsids of namespaces, by their numbers. */
  learnNsids(nsids: ReadonlyMap<number, number>): void {
    this.#ids.learn(nsids);
  }

  /** The namespaces, by their numbers, whose nsids are not known. */
  unknownNamespaces(): number[] {
    return [...this.#namespaces.numbers()].filter((number) => !this.#ids.covers(number));
  }

  /**
   * Matches the ended sockets of a scan, after its rows were merged: those taken before, and `ended`. `own` is the inode of the namespace
   * that the events come from; `began` is when the scan began, in milliseconds of the clock of `receivedAt`.
   */
  match(ended: EndedSockets, own: number | null, began: number): void {
    const isFirst = this.#scans++ === 0;
    this.#scanBegan = began;
    const numbers = [...this.#namespaces.numbers()];
    this.#ids.begin(numbers.find((number) => this.#namespaces.namespace(number)?.inode === own) ?? null);
    this.#markCounted();
    this.#depart();
    const waiting = this.#waiting;
    for (let row = 0; row < waiting.count; row++) this.#takeRow(waiting, row, false);
    waiting.clear();
    if (isFirst) this.#matchOpen(ended);
    else for (let row = 0; row < ended.count; row++) this.#takeRow(ended, row, true);
    this.#addGroups();
    this.#countedBefore = this.#counted;
    this.#counted = new Set();
    this.#scanBegan = Infinity;
  }

  /** Returns what matched since the last call. `ownerOf` copies what is to be kept of a connection that this scan closed. */
  settle(ownerOf: (index: number) => Owner): EndedConnections<Owner> {
    const lost = [...this.#departed.values()].map(({ owner }) => owner);
    this.#departed = new Map();
    for (const [key, i] of this.#departing)
      if (this.#connections.ended[i] !== 1)
        this.#departed.set(key, { cookie: this.#connections.cookie[i] ?? 0, owner: ownerOf(i) });
    this.#departing.clear();
    const result = {
      indexes: this.#matched,
      roundTrips: this.#roundTrips,
      departed: this.#late,
      late: this.#lateRows,
      withoutTotals: this.#withoutTotals + lost.length,
      lost,
    };
    this.#matched = [];
    this.#roundTrips = new Map();
    this.#late = [];
    this.#withoutTotals = 0;
    return result;
  }

  /** Forgets the rows that the last `settle` returned. */
  clearLate(): void {
    this.#lateRows.clear();
  }

  #takeRow(ended: EndedSockets, row: number, mayWait: boolean): void {
    if (ended.remotePort[row] === 0) return;
    const netns = this.#ids.namespaceOf(ended.nsid[row] ?? 0, addressAt(ended.local, row * 4));
    if (netns !== null) this.#matchRow(netns, ended, row);
    else if (mayWait && this.#waiting.count < MAX_WAITING) copyRow(ended, row, this.#waiting);
    else this.#withoutTotals++;
  }

  #matchRow(netns: number, ended: EndedSockets, row: number): void {
    const connections = this.#connections;
    const table = ended.table[row] ?? 0;
    const key = keyOf(connections.endsKey(netns, table, ended, row), ended.localPort[row]);
    if (this.#matchDeparted(key, ended, row)) return;
    const i = connections.openOf(netns, table, ended, row);
    if (i >= 0 && !this.#isNewer(i, ended, row)) this.#finish(i, ended, row);
    else this.#addToGroup(netns, table, key, ended, row);
  }

  /** At the first scan, only what the table holds is known to have been open. */
  #matchOpen(ended: EndedSockets): void {
    for (let row = 0; row < ended.count; row++) {
      if (ended.remotePort[row] === 0) continue;
      const netns = this.#ids.namespaceOf(ended.nsid[row] ?? 0, addressAt(ended.local, row * 4));
      const i = netns === null ? -1 : this.#connections.openOf(netns, ended.table[row] ?? 0, ended, row);
      if (i >= 0) this.#finish(i, ended, row);
    }
  }

  #matchDeparted(key: number, ended: EndedSockets, row: number): boolean {
    const cookie = ended.cookie[row] ?? 0;
    const departing = this.#departing.get(key);
    if (departing !== undefined && isSame(this.#connections.cookie[departing], cookie)) {
      this.#departing.delete(key);
      this.#finish(departing, ended, row);
      return true;
    }
    const departed = this.#departed.get(key);
    if (!departed || !isSame(departed.cookie, cookie)) return false;
    this.#departed.delete(key);
    this.#late.push({ owner: departed.owner, row: this.#lateRows.count });
    copyRow(ended, row, this.#lateRows);
    return true;
  }

  /** Whether a row without a cookie was opened by this scan after a socket with its ends had ended, and has not ended itself. */
  #isNewer(i: number, ended: EndedSockets, row: number): boolean {
    const connections = this.#connections;
    if ((connections.cookie[i] ?? 0) !== 0 || isTimeWait(connections, i)) return false;
    return connections.isNew(i) && (ended.receivedAt[row] ?? 0) < this.#scanBegan;
  }

  #finish(i: number, ended: EndedSockets, row: number): void {
    this.#connections.finish(i, ended, row);
    this.#matched.push(i);
  }

  /** Marks new TIME_WAIT rows of connections that were counted when they ended. */
  #markCounted(): void {
    const connections = this.#connections;
    if (this.#counted.size + this.#countedBefore.size === 0) return;
    for (const i of connections.opened) {
      if (!isTimeWait(connections, i)) continue;
      const key = keyOf(connections.endsKeyOf(i), connections.localPort[i]);
      if (this.#counted.has(key) || this.#countedBefore.has(key)) connections.markCounted(i);
    }
  }

  #depart(): void {
    const connections = this.#connections;
    for (const i of connections.closed) {
      if ((connections.table[i] ?? 0) >= UDP || connections.direction[i] === 'listen') continue;
      if (connections.ended[i] === 1 || connections.weightOf(i) === 0) continue;
      const state = connections.state[i] ?? 0;
      // A connection that was never established has no totals; one in TIME_WAIT at the first scan had ended before.
      if (state === SYN_SENT || state === SYN_RECV || (isTimeWait(connections, i) && connections.openedAt[i] === 0))
        continue;
      if (!this.#ids.covers(connections.netns[i] ?? 0)) continue;
      this.#departing.set(keyOf(connections.endsKeyOf(i), connections.localPort[i]), i);
    }
  }

  #addToGroup(netns: number, table: number, ends: number, ended: EndedSockets, row: number): void {
    if (!this.#namespaces.wasRead(netns)) {
      this.#withoutTotals++;
      return;
    }
    if (this.#counted.size < MAX_COUNTED) this.#counted.add(ends);
    const key = this.listsEach ? '' : this.#groupKey(netns, table, ended, row);
    const known = this.listsEach ? undefined : this.#groupRows.get(key);
    const groups = this.#groups;
    const roundTrip = ended.minRoundTripUs[row] ?? 0;
    if (known === undefined) {
      const ofNamespace = this.#groupsOf.get(netns) ?? 0;
      if (groups.count >= MAX_GROUPS || ofNamespace >= MAX_GROUPS_OF_NAMESPACE) {
        this.#withoutTotals++;
        return;
      }
      this.#groupsOf.set(netns, ofNamespace + 1);
      if (!this.listsEach) this.#groupRows.set(key, groups.count);
      this.#groupNetns[groups.count] = netns;
      this.#groupSizes[groups.count] = 1;
      this.#groupRoundTrips[groups.count] = { sumUs: roundTrip, count: roundTrip > 0 ? 1 : 0 };
      copyRow(ended, row, groups);
      return;
    }
    this.#groupSizes[known] = (this.#groupSizes[known] ?? 0) + 1;
    groups.sentBytes[known] = (groups.sentBytes[known] ?? 0) + (ended.sentBytes[row] ?? 0);
    groups.receivedBytes[known] = (groups.receivedBytes[known] ?? 0) + (ended.receivedBytes[row] ?? 0);
    groups.retransmittedBytes[known] = (groups.retransmittedBytes[known] ?? 0) + (ended.retransmittedBytes[row] ?? 0);
    const times = this.#groupRoundTrips[known];
    if (roundTrip === 0 || !times) return;
    times.sumUs += roundTrip;
    times.count++;
    if (times.count === 1 || roundTrip < (groups.minRoundTripUs[known] ?? 0)) groups.minRoundTripUs[known] = roundTrip;
  }

  /** The port of a client is left out: nothing depends on it. */
  #groupKey(netns: number, table: number, ended: EndedSockets, row: number): string {
    const { local, remote } = ended;
    const localPort = ended.localPort[row] ?? 0;
    const remotePort = ended.remotePort[row] ?? 0;
    const [first, last] = this.#namespaces.facts.ephemeralPortsOf(netns);
    const isEphemeral = (port: number): boolean => port >= first && port <= last;
    const isAccepted = this.#connections.listenerFor(netns, table, ended, row) >= 0;
    const from = isAccepted || !isEphemeral(localPort) ? localPort : 0;
    const to = isAccepted && isEphemeral(remotePort) ? 0 : remotePort;
    const at = row * 4;
    return `${netns} ${table} ${local[at]} ${local[at + 1]} ${local[at + 2]} ${local[at + 3]} ${from} ${remote[at]} ${remote[at + 1]} ${remote[at + 2]} ${remote[at + 3]} ${to} ${ended.hasTotals[row]}`;
  }

  #addGroups(): void {
    const groups = this.#groups;
    const { facts } = this.#namespaces;
    for (let row = 0; row < groups.count; row++) {
      const netns = this.#groupNetns[row] ?? 0;
      const size = this.#groupSizes[row] ?? 1;
      const i = this.#connections.addEnded(netns, groups.table[row] ?? 0, groups, row, size, facts);
      this.#matched.push(i);
      const times = this.#groupRoundTrips[row];
      if (times) this.#roundTrips.set(i, times);
    }
    groups.clear();
    this.#groupRows.clear();
    this.#groupsOf.clear();
    this.#groupNetns = [];
    this.#groupSizes = [];
    this.#groupRoundTrips = [];
  }
}

/** Copies a row to the end of other rows. */
function copyRow(from: EndedSockets, row: number, to: EndedSockets): void {
  to.reserve();
  const n = to.count++;
  for (let word = 0; word < 4; word++) {
    to.local[n * 4 + word] = from.local[row * 4 + word] ?? 0;
    to.remote[n * 4 + word] = from.remote[row * 4 + word] ?? 0;
  }
  to.localPort[n] = from.localPort[row] ?? 0;
  to.remotePort[n] = from.remotePort[row] ?? 0;
  to.state[n] = from.state[row] ?? 0;
  to.sendQueue[n] = 0;
  to.receiveQueue[n] = 0;
  to.uid[n] = NO_UID;
  to.inode[n] = 0;
  to.cookie[n] = from.cookie[row] ?? 0;
  to.hasTotals[n] = from.hasTotals[row] ?? 0;
  to.sentBytes[n] = from.sentBytes[row] ?? 0;
  to.receivedBytes[n] = from.receivedBytes[row] ?? 0;
  to.retransmittedBytes[n] = from.retransmittedBytes[row] ?? 0;
  to.roundTripUs[n] = from.roundTripUs[row] ?? 0;
  to.minRoundTripUs[n] = from.minRoundTripUs[row] ?? 0;
  to.table[n] = from.table[row] ?? 0;
  to.nsid[n] = from.nsid[row] ?? 0;
  to.receivedAt[n] = from.receivedAt[row] ?? 0;
}

/** A socket that only TIME_WAIT remains of: its cookie and ends stay for a minute. */
function isTimeWait({ state, uid, inode }: ConnectionTable, i: number): boolean {
  return state[i] === TIME_WAIT || (state[i] === FIN_WAIT2 && inode[i] === 0 && uid[i] === NO_UID);
}

function isSame(before: number | undefined, cookie: number): boolean {
  return before === undefined || before === 0 || cookie === 0 || before === cookie;
}

function keyOf(ends: number, port: number | undefined): number {
  return ends * 65536 + (port ?? 0);
}

function addressAt(words: Uint32Array, at: number): Address {
  return [words[at] ?? 0, words[at + 1] ?? 0, words[at + 2] ?? 0, words[at + 3] ?? 0];
}
