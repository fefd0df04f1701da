import type { ConnectionTable } from '../collect/connection-table.ts';
import type { ScannedNamespaces } from '../collect/namespace-tables.ts';
import { HELD } from '../collect/connection-columns.ts';
import { NO_UID, FIN_WAIT2, SYN_RECV, SYN_SENT, TIME_WAIT, UDP } from '../collect/net-tcp-udp-raw.ts';
import { NetnsIds } from '../collect/netns-ids.ts';
import { EndedSockets, FIN_UNLESS_TIME_WAIT } from '../collect/sock-diag.ts';
import type { Address, Direction } from '../model.ts';

/** Ended sockets of unknown network namespaces that are kept until the next scan. */
const MAX_WAITING = 65_536;
/** Groups of connections of which only the end is known: in all, and in one network namespace. */
const MAX_GROUPS = 16_384;
const MAX_GROUPS_OF_NAMESPACE = 4_096;
/** Ends of connections that were counted when they ended, for the TIME_WAIT rows that follow. */
const MAX_COUNTED = 262_144;

/** What is left of a socket whose remote end the kernel has discarded. */
interface Socket {
  readonly netns: number;
  readonly localPort: number;
  readonly cookie: number;
}

/** A connection that the scan before closed, and whose end the kernel has not reported yet. */
export interface Departed<Owner> extends Socket {
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
  /** Departed connections whose end was never reported, or only without their remote end. */
  readonly lost: readonly Owner[];
  /** Connections that no scan saw and whose remote end the kernel had discarded (SO_LINGER 0), by direction. */
  readonly wiped: ReadonlyMap<Direction, number>;
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
  /** Keys of the ends of connections that no scan saw; the group of those whose total may lack a FIN, else -1. */
  #counted = new Map<number, number>();
  #countedBefore: ReadonlyMap<number, number> = new Map();
  readonly #wipedRows = new EndedSockets();
  #wiped = new Map<Direction, number>();
  #lostIndexes: number[] = [];
  #lost: Owner[] = [];
  /** The rows of connections in `#matched` that scans saw. */
  readonly #finished = new EndedSockets();
  #finishedIndexes: number[] = [];
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
    this.#matchWiped();
    const waiting = this.#waiting;
    for (let row = 0; row < waiting.count; row++) this.#takeRow(waiting, row, false);
    waiting.clear();
    if (isFirst) this.#matchOpen(ended);
    else for (let row = 0; row < ended.count; row++) this.#takeRow(ended, row, true);
    this.#addGroups();
    this.#countedBefore = this.#counted;
    this.#counted = new Map();
    this.#scanBegan = Infinity;
  }

  /** Returns what matched since the last call. `ownerOf` copies what is to be kept of a connection that this scan closed. */
  settle(ownerOf: (index: number) => Owner): EndedConnections<Owner> {
    this.#settleReceived();
    const lost = [...this.#lost, ...this.#departed.values().map(({ owner }) => owner)];
    for (const i of this.#lostIndexes) lost.push(ownerOf(i));
    this.#departed = new Map();
    for (const [key, i] of this.#departing)
      if (this.#connections.ended[i] !== 1) this.#departed.set(key, { ...this.#socketOf(i), owner: ownerOf(i) });
    this.#departing.clear();
    const result = {
      indexes: this.#matched,
      roundTrips: this.#roundTrips,
      departed: this.#late,
      late: this.#lateRows,
      withoutTotals: this.#withoutTotals + lost.length,
      lost,
      wiped: this.#wiped,
    };
    this.#wiped = new Map();
    this.#lostIndexes = [];
    this.#lost = [];
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
    if (ended.remotePort[row] === 0) {
      if (ended.isWiped(row) && this.#wipedRows.count < MAX_WAITING) copyRow(ended, row, this.#wipedRows);
      return;
    }
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
    this.#finishedIndexes.push(i);
    copyRow(ended, row, this.#finished);
  }

  /** Corrects the received payload of connections that scans saw by what is known of their states. */
  #settleReceived(): void {
    const connections = this.#connections;
    for (const [row, i] of this.#finishedIndexes.entries()) {
      const live = connections.liveState[i] ?? 0;
      const leftTimeWait = connections.has(i) && isTimeWait(connections, i);
      const facts = { lastState: live & ~HELD, wasHeld: (live & HELD) !== 0, leftTimeWait, peerSentBytes: null };
      connections.setReceived(i, this.#finished.receivedBytesOf(row, facts));
    }
    this.#finishedIndexes = [];
    this.#finished.clear();
  }

  /**
   * Of a wiped connection, the namespace and the local port are left, so that one that a scan saw is found among those that this scan
   * closed. It ends without totals.
   */
  #matchWiped(): void {
    const connections = this.#connections;
    const wiped = this.#wipedRows;
    const later: number[] = [];
    for (let row = 0; row < wiped.count; row++) {
      // The table may still have it.
      if ((wiped.receivedAt[row] ?? 0) >= this.#scanBegan) {
        later.push(row);
        continue;
      }
      const netns = this.#ids.namespaceOf(wiped.nsid[row] ?? 0, addressAt(wiped.local, row * 4));
      if (netns === null) {
        this.#withoutTotals++;
        continue;
      }
      const cookie = wiped.cookie[row] ?? 0;
      const isIts = (socket: Socket): boolean =>
        socket.netns === netns &&
        (socket.cookie === 0 ? socket.localPort === wiped.localPort[row] : socket.cookie === cookie);
      const before = [...this.#departed].find(([, departed]) => isIts(departed));
      const seen = [...this.#departing].find(([, i]) => isIts(this.#socketOf(i)));
      if (before) {
        this.#departed.delete(before[0]);
        this.#lost.push(before[1].owner);
        continue;
      }
      if (seen) {
        this.#departing.delete(seen[0]);
        this.#lostIndexes.push(seen[1]);
        continue;
      }
      const isInbound = connections.listenerFor(netns, wiped.table[row] ?? 0, wiped, row) >= 0;
      const direction = isInbound ? 'inbound' : 'outbound';
      this.#wiped.set(direction, (this.#wiped.get(direction) ?? 0) + 1);
      this.#withoutTotals++;
    }
    keepRows(wiped, later);
  }

  #socketOf(i: number): Socket {
    const { netns, localPort, cookie } = this.#connections;
    return { netns: netns[i] ?? 0, localPort: localPort[i] ?? 0, cookie: cookie[i] ?? 0 };
  }

  /** Marks new TIME_WAIT rows of connections that were counted when they ended. */
  #markCounted(): void {
    const connections = this.#connections;
    if (this.#counted.size + this.#countedBefore.size === 0) return;
    for (const i of connections.opened) {
      if (!isTimeWait(connections, i)) continue;
      const key = keyOf(connections.endsKeyOf(i), connections.localPort[i]);
      const group = this.#counted.get(key);
      if (group === undefined && !this.#countedBefore.has(key)) continue;
      connections.markCounted(i);
      if (group !== undefined && group >= 0)
        this.#groups.receivedBytes[group] = (this.#groups.receivedBytes[group] ?? 0) + 1;
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
      this.#count(ends, groups.count, ended, row);
      copyRow(ended, row, groups);
      return;
    }
    this.#count(ends, known, ended, row);
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

  #count(ends: number, group: number, ended: EndedSockets, row: number): void {
    if (this.#counted.size >= MAX_COUNTED) return;
    this.#counted.set(ends, ended.fin[row] === FIN_UNLESS_TIME_WAIT ? group : -1);
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
  to.fin[n] = from.fin[row] ?? 0;
}

/** Keeps these rows (ascending) and removes all others. */
function keepRows(rows: EndedSockets, kept: readonly number[]): void {
  rows.count = 0;
  for (const row of kept) copyRow(rows, row, rows);
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
