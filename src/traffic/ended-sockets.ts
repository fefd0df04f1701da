import { HELD } from '../collect/connection-columns.ts';
import type { ConnectionTable } from '../collect/connection-table.ts';
import type { ScannedNamespaces } from '../collect/namespace-tables.ts';
import { FIN_WAIT2, NO_UID, SYN_RECV, SYN_SENT, TIME_WAIT, UDP } from '../collect/net-tcp-udp-raw.ts';
import { NetnsIds, OWN_NSID } from '../collect/netns-ids.ts';
import { EndedSockets, FIN_UNLESS_TIME_WAIT, type EndedFacts } from '../collect/sock-diag.ts';
import type { Direction } from '../model.ts';
import { EndedGroups, type RoundTrips } from './ended-groups.ts';
import { EndedPairs } from './ended-pairs.ts';
import { copyRow, localAddress } from './ended-rows.ts';
import { WipedSockets } from './wiped-sockets.ts';

/** Ended sockets of unknown network namespaces that are kept until the next scan. */
const MAX_WAITING = 65_536;
/** Ends of connections that no scan saw, for the rows that may follow. */
const MAX_COUNTED = 262_144;
/** For this long after the first scan began, an event may be of a connection that ended before. */
const LATE_MS = 250;

/** A connection that the scan before closed, and whose end the kernel has not reported yet. */
interface Departed<Owner> {
  readonly netns: number;
  readonly localPort: number;
  readonly cookie: number;
  readonly liveState: number;
  readonly owner: Owner;
}

/** A connection that no scan saw, after it was counted: its group, and whether its FIN is only counted if no TIME_WAIT row follows. */
interface Counted {
  readonly group: number;
  readonly cookie: number;
  readonly mayLackFin: boolean;
}

/** Connections that are not in the table, with the payload of those that have totals. */
export interface Unlisted {
  connections: number;
  sentBytes: number;
  receivedBytes: number;
  retransmittedBytes: number;
}

/** The result of matching the ended sockets of a scan. */
export interface EndedConnections<Owner> {
  /** Connections in the table: those that scans saw, and those known only by their end. Their totals are in its columns. */
  readonly indexes: readonly number[];
  /** Round-trip times of connections in `indexes` known only by their end. */
  readonly roundTrips: ReadonlyMap<number, RoundTrips>;
  /** Connections that an earlier scan closed, with the row in `late`. */
  readonly departed: readonly { readonly owner: Owner; readonly row: number }[];
  readonly late: EndedSockets;
  /** Received payload that connections of earlier scans lacked. */
  readonly lacking: ReadonlyMap<Owner, number>;
  /** Connections that ended without totals: the kernel's report was lost, or their namespace or start is unknown. */
  readonly withoutTotals: number;
  /** Departed connections whose end was never reported, or only without their remote end. */
  readonly lost: readonly Owner[];
  /** Connections that no scan saw and that are not in the table, because their remote end is unknown or they are too many, by direction. */
  readonly unlisted: ReadonlyMap<Direction, Unlisted>;
}

/**
 * Finds the connection of each ended socket. An ended socket belongs, in this order, to a connection that a scan closed and whose end
 * was not reported yet, to a connection or TIME_WAIT row with its cookie (without one, with its ends), or to a connection that no
 * scan saw.
 */
export class EndedMatcher<Owner> {
  readonly #connections: ConnectionTable;
  readonly #namespaces: ScannedNamespaces;
  readonly #ids: NetnsIds;
  /** Whether every connection is listed apart, for readers of events. */
  listsEach = false;
  readonly #pairs = new EndedPairs();
  readonly #waiting = new EndedSockets();
  readonly #groups: EndedGroups;
  readonly #wiped = new WipedSockets();
  #unlisted = new Map<Direction, Unlisted>();
  /** Connections that no scan saw, by key of their ends; those of the scan before with the owners of their groups. */
  #counted = new Map<number, Counted>();
  #countedBefore: ReadonlyMap<number, Counted> = new Map();
  #ownersBefore: ReadonlyMap<number, Owner> = new Map();
  /** Rows that a dump had although their socket had ended and was counted. */
  #stale: number[] = [];
  #lacking = new Map<Owner, number>();
  /** Ended connections that scans saw, by index, with their row, and those that wait for their TIME_WAIT row. */
  #finished = new Map<number, number>();
  #finishedRows = new EndedSockets();
  #unsettled = new Set<number>();
  #groupIndexes: number[] = [];
  #roundTrips = new Map<number, RoundTrips>();
  /** Connections that this scan closed, and that the scan before closed, without a report; by key of their ends. */
  readonly #departing = new Map<number, number>();
  #departed = new Map<number, Departed<Owner>>();
  #late: { owner: Owner; row: number }[] = [];
  #lateRows = new EndedSockets();
  #withoutTotals = 0;
  #isMatching = false;
  #firstBegan: number | null = null;
  #began = 0;

  constructor(connections: ConnectionTable, namespaces: ScannedNamespaces) {
    this.#connections = connections;
    this.#namespaces = namespaces;
    this.#ids = new NetnsIds(namespaces);
    this.#groups = new EndedGroups(connections, namespaces);
  }

  /** Takes in sockets that ended since the last scan. Before the first scan nothing is known about them: they are dropped. */
  take(ended: EndedSockets): void {
    if (this.#firstBegan !== null) this.#pairs.pass(ended, true, (rows, row) => this.#takeRow(rows, row, true));
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
    this.#firstBegan ??= began;
    this.#began = began;
    this.#isMatching = true;
    const numbers = [...this.#namespaces.numbers()];
    this.#ids.begin(numbers.find((number) => this.#namespaces.namespace(number)?.inode === own) ?? null);
    this.#markCounted();
    this.#depart();
    const waiting = this.#waiting;
    for (let row = 0; row < waiting.count; row++) this.#takeRow(waiting, row, false);
    waiting.clear();
    this.#pairs.pass(ended, false, (rows, row) => this.#takeRow(rows, row, true));
    this.#placeWiped();
    const { indexes, roundTrips } = this.#groups.enter();
    this.#groupIndexes = indexes;
    this.#roundTrips = roundTrips;
    this.#ids.end();
    this.#isMatching = false;
  }

  /** Returns what matched since the last call. `ownerOf` copies what is to be kept of a connection. */
  settle(ownerOf: (index: number) => Owner): EndedConnections<Owner> {
    const lost = this.#loseDeparted();
    this.#keepDeparting(ownerOf);
    this.#keepCounted(ownerOf);
    for (const direction of this.#wiped.endScan()) {
      this.#unlistedOf(direction).connections++;
      this.#withoutTotals++;
    }
    const result = {
      indexes: [...this.#settleFinished(), ...this.#groupIndexes],
      roundTrips: this.#roundTrips,
      departed: this.#late,
      late: this.#lateRows,
      lacking: this.#lacking,
      withoutTotals: this.#withoutTotals + lost.length,
      lost,
      unlisted: this.#unlisted,
    };
    this.#groupIndexes = [];
    this.#roundTrips = new Map();
    this.#late = [];
    this.#lateRows = new EndedSockets();
    this.#lacking = new Map();
    this.#withoutTotals = 0;
    this.#unlisted = new Map();
    return result;
  }

  #takeRow(ended: EndedSockets, row: number, mayWait: boolean): void {
    if (ended.remotePort[row] === 0) {
      if (ended.isWiped(row) && !this.#mayBeOlder(ended, row) && !this.#wiped.take(ended, row)) this.#withoutTotals++;
      return;
    }
    const netns = this.#ids.namespaceOf(ended.nsid[row] ?? 0, localAddress(ended, row));
    if (netns !== null) this.#matchRow(netns, ended, row);
    else if (mayWait && this.#waiting.count < MAX_WAITING) copyRow(ended, row, this.#waiting);
    else if (!this.#mayBeOlder(ended, row)) this.#withoutTotals++;
  }

  #matchRow(netns: number, ended: EndedSockets, row: number): void {
    const connections = this.#connections;
    const table = ended.table[row] ?? 0;
    const key = keyOf(connections.endsKey(netns, table, ended, row), ended.localPort[row]);
    if (this.#matchDeparted(key, ended, row)) return;
    const i = connections.openOf(netns, table, ended, row);
    if (i >= 0 && !this.#isNewer(i, ended, row) && !this.#endedBeforeStart(i)) this.#finish(i, ended, row);
    else if (!this.#mayBeOlder(ended, row)) {
      this.#addUnseen(netns, key, ended, row);
      if (this.#isNewTimeWait(i)) this.#markTimeWait(i);
    }
  }

  /** Whether a socket may have ended before the first scan: then its connection was open before. */
  #mayBeOlder(ended: EndedSockets, row: number): boolean {
    return (ended.receivedAt[row] ?? 0) < (this.#firstBegan ?? Infinity) + LATE_MS;
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
    const late = copyRow(ended, row, this.#lateRows);
    this.#lateRows.receivedBytes[late] = ended.receivedBytesOf(row, factsOf(departed.liveState, false));
    this.#late.push({ owner: departed.owner, row: late });
    return true;
  }

  /**
   * Whether a row was opened by the last scan after a socket with its ends had ended: a connection without a cookie that has not ended
   * itself, or the TIME_WAIT row of a connection that no scan saw.
   */
  #isNewer(i: number, ended: EndedSockets, row: number): boolean {
    const connections = this.#connections;
    if (this.#isNewTimeWait(i)) return !this.#mayBeOlder(ended, row);
    if ((connections.cookie[i] ?? 0) !== 0 || isTimeWait(connections, i)) return false;
    return connections.isNew(i) && (ended.receivedAt[row] ?? 0) < this.#began;
  }

  /** Whether the first scan found a connection in TIME_WAIT. A later socket with its ends belongs to another connection. */
  #endedBeforeStart(i: number): boolean {
    const { openedAt, liveState } = this.#connections;
    return openedAt[i] === 0 && liveState[i] === 0;
  }

  /** Whether this scan opened a TIME_WAIT row. It is not counted yet. */
  #isNewTimeWait(i: number): boolean {
    return i >= 0 && this.#isMatching && this.#connections.isNew(i) && isTimeWait(this.#connections, i);
  }

  #finish(i: number, ended: EndedSockets, row: number): void {
    this.#connections.finish(i, ended, row);
    this.#finished.set(i, copyRow(ended, row, this.#finishedRows));
  }

  /**
   * Corrects the received payload of connections that scans saw by what is known of their states. One whose row is of a time before its
   * end waits for the next scan: that shows whether it left a TIME_WAIT row.
   */
  #settleFinished(): number[] {
    const connections = this.#connections;
    const rows = this.#finishedRows;
    const settled: number[] = [];
    const unsettled: number[] = [];
    for (const [i, row] of this.#finished) {
      const leftTimeWait = connections.has(i) && isTimeWait(connections, i);
      const mayLeave = rows.fin[row] === FIN_UNLESS_TIME_WAIT && connections.has(i) && !leftTimeWait;
      if (mayLeave && !this.#unsettled.has(i)) {
        unsettled.push(i);
        continue;
      }
      const facts = factsOf(connections.liveState[i] ?? 0, leftTimeWait);
      connections.setReceived(i, rows.receivedBytesOf(row, facts));
      settled.push(i);
    }
    const before = this.#finished;
    this.#unsettled = new Set(unsettled);
    this.#finished = new Map();
    this.#finishedRows = new EndedSockets();
    for (const i of unsettled) this.#finished.set(i, copyRow(rows, before.get(i) ?? 0, this.#finishedRows));
    return settled;
  }

  /**
   * Marks new rows of connections that were counted when they ended: their TIME_WAIT rows, which get the FIN of the peer, and what a dump
   * from before their end has.
   */
  #markCounted(): void {
    const stale = this.#stale;
    this.#stale = [];
    for (const i of stale) if (this.#connections.has(i) && isTimeWait(this.#connections, i)) this.#addLackingFin(i);
    if (this.#counted.size + this.#countedBefore.size === 0) return;
    for (const i of this.#connections.opened) {
      const counted = this.#countedOf(i);
      if (!counted) continue;
      if (isTimeWait(this.#connections, i)) this.#markTimeWait(i);
      else if (counted.cookie !== 0 && counted.cookie === this.#connections.cookie[i]) {
        this.#stale.push(i);
        this.#connections.markCounted(i);
      }
    }
  }

  #markTimeWait(i: number): void {
    this.#addLackingFin(i);
    this.#connections.markCounted(i);
  }

  #countedOf(i: number): Counted | undefined {
    const key = keyOf(this.#connections.endsKeyOf(i), this.#connections.localPort[i]);
    return this.#counted.get(key) ?? this.#countedBefore.get(key);
  }

  #addLackingFin(i: number): void {
    const counted = this.#countedOf(i);
    if (!counted?.mayLackFin) return;
    const key = keyOf(this.#connections.endsKeyOf(i), this.#connections.localPort[i]);
    if (this.#counted.has(key)) {
      this.#groups.addReceived(counted.group, 1);
      return;
    }
    const owner = this.#ownersBefore.get(counted.group);
    if (owner !== undefined) this.#lacking.set(owner, (this.#lacking.get(owner) ?? 0) + 1);
  }

  /** The TIME_WAIT rows of connections of this scan may come with the next one. */
  #keepCounted(ownerOf: (index: number) => Owner): void {
    const owners = new Map<number, Owner>();
    for (const { group, mayLackFin } of this.#counted.values()) {
      const i = this.#groupIndexes[group];
      if (mayLackFin && i !== undefined && !owners.has(group)) owners.set(group, ownerOf(i));
    }
    this.#ownersBefore = owners;
    this.#countedBefore = this.#counted;
    this.#counted = new Map();
  }

  #depart(): void {
    const connections = this.#connections;
    for (const i of connections.closed) {
      if ((connections.table[i] ?? 0) >= UDP || connections.direction[i] === 'listen') continue;
      if (connections.ended[i] === 1 || connections.weightOf(i) === 0) continue;
      // A connection in TIME_WAIT at the first scan had ended before.
      if (isTimeWait(connections, i) && connections.openedAt[i] === 0) continue;
      this.#departing.set(keyOf(connections.endsKeyOf(i), connections.localPort[i]), i);
    }
  }

  /** Returns the owners of connections that the scan before closed and whose ends were not reported. */
  #loseDeparted(): Owner[] {
    const lost: Owner[] = [];
    for (const departed of this.#departed.values()) {
      // Nothing is reported of namespaces without an nsid. The first report may come after the first of their connections departed.
      if (!this.#ids.covers(departed.netns)) continue;
      const isWiped = this.#wiped.match(departed);
      // Of a connection that was never established nothing has to be reported.
      const state = departed.liveState & ~HELD;
      if (isWiped || (state !== SYN_SENT && state !== SYN_RECV)) lost.push(departed.owner);
    }
    return lost;
  }

  #keepDeparting(ownerOf: (index: number) => Owner): void {
    const { netns, localPort, cookie, liveState } = this.#connections;
    this.#departed = new Map();
    for (const [key, i] of this.#departing) {
      const socket = { netns: netns[i] ?? 0, localPort: localPort[i] ?? 0, cookie: cookie[i] ?? 0 };
      this.#departed.set(key, { ...socket, liveState: liveState[i] ?? 0, owner: ownerOf(i) });
    }
    this.#departing.clear();
  }

  #addUnseen(netns: number, key: number, ended: EndedSockets, row: number): void {
    if (!this.#namespaces.wasRead(netns)) {
      this.#withoutTotals++;
      return;
    }
    const group = this.#groups.add(netns, ended, row, this.listsEach);
    const isOwn = ended.nsid[row] === OWN_NSID;
    if (group < 0) this.#addUnlisted(this.#directionOf(netns, ended, row), ended, row);
    else if (this.#counted.size < MAX_COUNTED)
      this.#counted.set(key, {
        group,
        cookie: isOwn ? (ended.cookie[row] ?? 0) : 0,
        mayLackFin: ended.fin[row] === FIN_UNLESS_TIME_WAIT,
      });
  }

  #addUnlisted(direction: Direction, ended: EndedSockets, row: number): void {
    const sums = this.#unlistedOf(direction);
    sums.connections++;
    sums.sentBytes += ended.sentBytes[row] ?? 0;
    sums.receivedBytes += ended.receivedBytes[row] ?? 0;
    sums.retransmittedBytes += ended.retransmittedBytes[row] ?? 0;
    if (ended.hasTotals[row] !== 1) this.#withoutTotals++;
  }

  #unlistedOf(direction: Direction): Unlisted {
    let sums = this.#unlisted.get(direction);
    if (!sums) {
      sums = { connections: 0, sentBytes: 0, receivedBytes: 0, retransmittedBytes: 0 };
      this.#unlisted.set(direction, sums);
    }
    return sums;
  }

  #directionOf(netns: number, ended: EndedSockets, row: number): Direction {
    return this.#connections.listenerFor(netns, ended.table[row] ?? 0, ended, row) >= 0 ? 'inbound' : 'outbound';
  }

  /** Finds the namespaces of wiped sockets. The table may still have those that ended after the scan began. */
  #placeWiped(): void {
    const unknown = this.#wiped.place(this.#began, (rows, row) => {
      const netns = this.#ids.namespaceOf(rows.nsid[row] ?? 0, localAddress(rows, row));
      return netns === null ? null : { netns, direction: this.#directionOf(netns, rows, row) };
    });
    this.#withoutTotals += unknown;
  }
}

/** A socket that only TIME_WAIT remains of: its cookie and ends stay for a minute. */
function isTimeWait({ state, uid, inode }: ConnectionTable, i: number): boolean {
  return state[i] === TIME_WAIT || (state[i] === FIN_WAIT2 && inode[i] === 0 && uid[i] === NO_UID);
}

/** What is known of an ended connection besides its event; `live` is its `liveState` column. */
function factsOf(live: number, leftTimeWait: boolean): EndedFacts {
  return { lastState: live & ~HELD, wasHeld: (live & HELD) !== 0, leftTimeWait, peerSentBytes: null };
}

function isSame(before: number | undefined, cookie: number): boolean {
  return before === undefined || before === 0 || cookie === 0 || before === cookie;
}

function keyOf(ends: number, port: number | undefined): number {
  return ends * 65536 + (port ?? 0);
}
