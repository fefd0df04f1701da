import type { ServiceNames } from '../common/etc-services.ts';
import type { OwnerEvidence, OwnerLabels, Process, UnattributedReason } from '../model.ts';
import { ConnectionColumns, HELD, isRemote, sameAddress, type ReadOnly } from './connection-columns.ts';
import { Directions, type NamespaceFacts } from './direction.ts';
import { EndsIndex } from './ends-hash.ts';
import { InodeIndex } from './inode-index.ts';
import {
  CLOSE,
  CLOSE_WAIT,
  CLOSING,
  ESTABLISHED,
  FIN_WAIT2,
  grown,
  LAST_ACK,
  NO_UID,
  SYN_RECV,
  SYN_SENT,
  TIME_WAIT,
  UDP,
  type SocketRows,
} from './net-tcp-udp-raw.ts';
import { RowRoom } from './row-room.ts';
import { DiagRows } from './sock-diag.ts';

/** How many scans in a row may miss a UDP socket while others open and close. */
const MISSED_SCANS = 2;
/** Above this many namespaces the order of rows is forgotten. The order only saves searches. */
const MAX_NAMESPACES = 10_000;
const NO_PROCESSES: readonly Process[] = [];

/** Who owns a connection, and how that is known. */
export interface ConnectionOwner {
  /** The process the connection is counted for. */
  readonly process: Process | null;
  /** All processes with a descriptor of it. */
  readonly holders: readonly Process[];
  readonly evidence: OwnerEvidence | null;
  readonly labels: OwnerLabels;
  /** Why no process is known. */
  readonly reason: UnattributedReason | null;
}

/**
 * The connection table: every socket row of every namespace, kept from scan to scan as columns.
 * A row of a known connection refreshes it in place and allocates nothing. A new row opens a connection. A connection without a row
 * is closed.
 *
 * A TCP connection is identified by namespace, table, addresses and ports: it keeps its index from SYN_SENT to TIME_WAIT, through
 * accept() (inode 0 becomes an inode) and close() (an inode becomes 0). A socket without a remote end (a listener, an unconnected UDP
 * socket) or of another transport is identified by its inode as well, because SO_REUSEPORT lets many sockets share one address.
 */
class WritableConnectionTable extends ConnectionColumns {
  /** Indexes opened and closed by the last scan. The columns of a closed connection stay until the next scan begins. */
  readonly opened: number[] = [];
  readonly closed: number[] = [];
  /** Namespaces with a UDP socket that the last scan missed and kept. */
  readonly incomplete = new Set<number>();
  /** Inodes that entered the tables with the last scan, and inodes that left them. */
  readonly arrived: number[] = [];
  readonly left: number[] = [];

  readonly #endedOnly: number[] = [];
  readonly #room: RowRoom;
  readonly #ends: EndsIndex;
  readonly #directions: Directions;
  #scan = 0;
  #now = 0;
  readonly #free: number[] = [];
  readonly #byInode: InodeIndex;
  /** The last scan that read its row; `scanOf` is also of connections that were kept without one. */
  #seenIn = new Uint32Array(0);
  /** Scans in a row that missed a UDP row whose descriptor is still open. */
  #missed = new Uint8Array(0);
  /** 1 after `takeBegun` returned true. */
  #begun = new Uint8Array(0);
  /** The connection of the next row of the same table at the last scan; -1 for none. */
  #next = new Int32Array(0);
  /** By table of a namespace: the connection of its first row at the last scan, and of the last row merged in this one. */
  readonly #firstRow = new Map<number, number>();
  readonly #lastRow = new Map<number, number>();

  /**
   * `seed` (32 random bits) keeps attackers from choosing addresses that collide in the hash. `services` names the ports that show which
   * end of a connection is the service. `roomLeft` returns how many more connections fit into
   * memory.
   */
  constructor(seed = 0, services: ServiceNames = () => null, roomLeft: () => number = () => Infinity) {
    super();
    this.#room = new RowRoom(this, roomLeft);
    this.#byInode = new InodeIndex(this, seed);
    this.#ends = new EndsIndex(this, seed);
    this.#directions = new Directions(this, this.#ends, services);
  }

  /** Begins a scan. `now` is milliseconds since 1970. `tenantOf` says who answers for a namespace; "" leaves it to the users of its sockets. */
  begin(now: number, tenantOf: (netns: number) => string = () => ''): void {
    this.#room.begin(tenantOf);
    for (const index of this.closed) this.#release(index);
    this.closed.length = 0;
    this.opened.length = 0;
    this.arrived.length = 0;
    this.left.length = 0;
    this.#now = this.#scan === 0 ? 0 : now;
    this.#scan++;
    this.#lastRow.clear();
    if (this.#firstRow.size > 8 * MAX_NAMESPACES) this.#firstRow.clear();
  }

  /**
   * Merges rows of one table of one namespace; the rows of a netlink dump bring the totals. With `isFirst`, new connections may have
   * been open long before.
   */
  merge(netns: number, table: number, rows: SocketRows, isFirst = false): void {
    const openedAt = isFirst ? 0 : this.#now;
    const totals = rows instanceof DiagRows ? rows : null;
    const key = netns * 8 + table;
    let last = this.#lastRow.get(key) ?? -1;
    for (let row = 0; row < rows.count; row++) {
      const expected = last < 0 ? (this.#firstRow.get(key) ?? -1) : (this.#next[last] ?? -1);
      const i = this.#isRowOf(expected, netns, table, rows, row)
        ? this.#refresh(expected, rows, row, rows.state[row] ?? 0, rows.inode[row] ?? 0)
        : this.#mergeRow(netns, table, rows, row, openedAt);
      if (i < 0) continue;
      if (this.keepsTotals && this.ended[i] !== 1) {
        if (totals) this.#setDumped(i, totals, row);
        else this.hasTotals[i] = 0;
      }
      if (last >= 0) this.#next[last] = i;
      else this.#firstRow.set(key, i);
      last = i;
    }
    this.#lastRow.set(key, last);
  }

  /**
   * Keeps the connections of the last scan whose rows were not read this time: those with a row in one of the last N scans. N
   * depends on the table: 0 keeps none, Infinity all.
   */
  keep(scans: (netns: number, table: number) => number): void {
    for (let i = 0; i < this.length; i++) {
      if (this.scanOf[i] !== this.#scan - 1 || this.scanOf[i] === 0) continue;
      const missed = this.#scan - (this.#seenIn[i] ?? 0);
      if (missed <= scans(this.netns[i] ?? 0, this.table[i] ?? 0)) this.scanOf[i] = this.#scan;
    }
  }

  /**
   * Ends a scan: closes connections without a row, then decides the direction of those that opened.
   * The kernel walks its UDP tables by position, so sockets that open and close during the walk can hide others. A UDP socket without
   * a row is kept for two more scans while `isOpen` returns true for its inode, unless the inode is in another row.
   * (Not longer: connect(2) to AF_UNSPEC removes a socket from the table for good and leaves its descriptor open.)
   */
  end(namespaces: NamespaceFacts, isOpen: (inode: number) => boolean): void {
    this.incomplete.clear();
    for (let i = 0; i < this.length; i++) {
      const scan = this.scanOf[i] ?? 0;
      if (scan === 0 || scan === this.#scan) continue;
      const mayBeMissed = (this.table[i] ?? 0) >= UDP && this.#byInode.get(this.inode[i] ?? 0) === i;
      if (mayBeMissed && this.#keepMissed(i, isOpen)) this.scanOf[i] = this.#scan;
      else this.#close(i);
    }
    for (const index of this.opened) this.#directions.decide(index, namespaces);
  }

  /** The connection or TIME_WAIT row that an ended socket belongs to, if no other ended socket does; -1 for none. */
  openOf(netns: number, table: number, ended: DiagRows, row: number): number {
    const i = this.#ends.find(this.endsKey(netns, table, ended, row), netns, table, ended, row, false);
    if (i < 0 || this.ended[i] === 1 || this.weightOf(i) !== 1 || !this.#hasCookieOf(i, ended, row)) return -1;
    return i;
  }

  /** A keyed hash of the ends of a row. */
  endsKey(netns: number, table: number, rows: SocketRows, row: number): number {
    return this.#ends.hashOf(netns, table, rows, row, 0);
  }

  /** The same hash of a connection. */
  endsKeyOf(index: number): number {
    return this.#ends.hashAt(index);
  }

  /** The listener that accepts on the local end of a row; -1 for none. */
  listenerFor(netns: number, table: number, rows: SocketRows, row: number): number {
    return this.#directions.listenerAt(netns, table, rows.local, row * 4, rows.localPort[row] ?? 0);
  }

  /** Takes in the totals that a connection ended with. */
  finish(index: number, totals: DiagRows, row: number): void {
    this.#setTotals(index, totals, row);
    this.ended[index] = 1;
  }

  /** Sets the received payload of a connection that ended, once it is known whether its total counts a FIN. */
  setReceived(index: number, bytes: number): void {
    this.receivedBytes[index] = bytes;
  }

  /** Marks a row of a connection that was counted when it ended: its TIME_WAIT row, or one from before its end. */
  markCounted(index: number): void {
    this.weight[index] = 0;
    this.ended[index] = 1;
  }

  /**
   * Opens a connection that stands for `weight` connections known only by their end. It is closed by `closeEnded`, so that it
   * gets an owner, a peer and a first-seen time, and is in no gauge.
   */
  addEnded(
    netns: number,
    table: number,
    totals: DiagRows,
    row: number,
    weight: number,
    namespaces: NamespaceFacts,
  ): number {
    const i = this.#open(this.endsKey(netns, table, totals, row), netns, table, totals, row);
    this.openedAt[i] = this.#now;
    this.state[i] = CLOSE;
    this.finish(i, totals, row);
    this.weight[i] = weight;
    this.#directions.decide(i, namespaces);
    this.#endedOnly.push(i);
    return i;
  }

  /** Says whether the last scan opened a connection. */
  isNew(index: number): boolean {
    return this.openedIn[index] === this.#scan;
  }

  /** Says whether only the end of a connection is known. */
  isEndedOnly(index: number): boolean {
    return this.ended[index] === 1 && this.state[index] === CLOSE && (this.inode[index] ?? 0) === 0;
  }

  /** Closes what `addEnded` opened. */
  closeEnded(): void {
    for (const i of this.#endedOnly) this.#close(i);
    this.#endedOnly.length = 0;
  }

  /** Sets the owner. The connection counts as changed if its labels differ or the search for its process ended. */
  setOwner(index: number, { process, holders, evidence, labels, reason }: ConnectionOwner): void {
    if (this.labels[index] !== labels || (this.reason[index] === 'vanished' && reason !== 'vanished'))
      this.touch(index);
    this.process[index] = process;
    this.holders[index] = holders;
    this.ownerEvidence[index] = evidence;
    this.labels[index] = labels;
    this.reason[index] = reason;
  }

  /** Rows of this scan for which there was no room. */
  get refused(): number {
    return this.#room.refused;
  }

  /** Marks the changes of a connection as computed. */
  settle(index: number): void {
    this.changed[index] = 0;
  }

  /** Returns true once for a connection that was seen to open: when it first has more than SYN_RECV. */
  takeBegun(index: number): boolean {
    if (this.#begun[index] === 1 || this.openedAt[index] === 0 || this.state[index] === SYN_RECV) return false;
    this.#begun[index] = 1;
    return true;
  }

  /** The index of the connection with an inode (not 0); -1 for none. */
  indexOf(inode: number): number {
    return inode === 0 ? -1 : this.#byInode.get(inode);
  }

  /** The listener that accepts on the local end of a connection; -1 for none. */
  listenerOf(index: number): number {
    return this.#directions.listenerOf(index);
  }

  /** The kernel prints sockets in the order of its hash: mostly a row belongs to the connection that had this place at the last scan. */
  #isRowOf(i: number, netns: number, table: number, rows: SocketRows, row: number): boolean {
    const inode = rows.inode[row] ?? 0;
    return (
      i >= 0 &&
      inode !== 0 &&
      this.inode[i] === inode &&
      this.scanOf[i] === this.#scan - 1 &&
      this.#hasCookieOf(i, rows, row) &&
      this.netns[i] === netns &&
      this.table[i] === table &&
      this.localPort[i] === rows.localPort[row] &&
      this.remotePort[i] === rows.remotePort[row] &&
      sameAddress(this.local, i * 4, rows.local, row * 4) &&
      sameAddress(this.remote, i * 4, rows.remote, row * 4)
    );
  }

  #keepMissed(i: number, isOpen: (inode: number) => boolean): boolean {
    const missed = (this.#missed[i] ?? 0) + 1;
    if (missed > MISSED_SCANS || !isOpen(this.inode[i] ?? 0)) return false;
    this.#missed[i] = missed;
    this.incomplete.add(this.netns[i] ?? 0);
    return true;
  }

  #mergeRow(netns: number, table: number, rows: SocketRows, row: number, openedAt: number): number {
    const isConnected = isRemote(rows.remote, row * 4, rows.remotePort[row] ?? 0);
    const inode = rows.inode[row] ?? 0;
    const state = rows.state[row] ?? 0;
    const hash = this.#ends.hashOf(netns, table, rows, row, isConnected ? 0 : inode);
    const found = this.#ends.find(hash, netns, table, rows, row, !isConnected || table >= UDP);
    const isSame = found >= 0 && this.#hasCookieOf(found, rows, row) && this.#isSameConnection(found, state, inode);
    if (isSame) return this.#refresh(found, rows, row, state, inode);
    if (found >= 0 && this.scanOf[found] !== this.#scan) this.#close(found);
    if (!this.#room.take(netns, rows.uid[row] ?? 0)) return -1;
    const opened = this.#open(hash, netns, table, rows, row);
    this.openedAt[opened] = openedAt;
    return opened;
  }

  /**
   * Says whether a row belongs to the connection with the same ends, or to a later connection between them: RFC 9293 section 3.6.1 lets
   * a client reuse a port out of TIME_WAIT.
   */
  #isSameConnection(index: number, state: number, inode: number): boolean {
    const before = this.inode[index] ?? 0;
    if (before === inode && inode !== 0) return true;
    if (before !== 0 && inode !== 0) return false;
    const was = this.state[index] ?? 0;
    const ended = was === TIME_WAIT || was === LAST_ACK || was === CLOSING || (was === FIN_WAIT2 && before === 0);
    const begins = state === SYN_SENT || state === SYN_RECV || state === ESTABLISHED;
    if (ended && begins) return false;
    const orphaned = before !== 0 && inode === 0;
    return !(orphaned && (begins || state === CLOSE_WAIT));
  }

  /** Says whether a row may have the cookie of a connection: a cookie identifies a socket, from SYN_RECV to TIME_WAIT. */
  #hasCookieOf(i: number, rows: SocketRows, row: number): boolean {
    if (!(rows instanceof DiagRows)) return true;
    const before = this.cookie[i] ?? 0;
    const cookie = rows.cookie[row] ?? 0;
    return before === 0 || cookie === 0 || before === cookie;
  }

  #setDumped(i: number, totals: DiagRows, row: number): void {
    // The kernel gives a TIME_WAIT row a new cookie if no dump has listed its socket before.
    const isTimeWait = totals.state[row] === TIME_WAIT || totals.state[row] === FIN_WAIT2;
    if (!isTimeWait) this.cookie[i] = totals.cookie[row] ?? 0;
    this.#setTotals(i, totals, row);
  }

  #setTotals(i: number, totals: DiagRows, row: number): void {
    this.hasTotals[i] = totals.hasTotals[row] ?? 0;
    if (this.hasTotals[i] === 0) return;
    this.sentBytes[i] = totals.sentBytes[row] ?? 0;
    this.receivedBytes[i] = totals.receivedBytes[row] ?? 0;
    this.retransmittedBytes[i] = totals.retransmittedBytes[row] ?? 0;
    this.roundTripUs[i] = totals.roundTripUs[row] ?? 0;
    this.minRoundTripUs[i] = totals.minRoundTripUs[row] ?? 0;
  }

  #setLiveState(i: number, state: number, inode: number): void {
    const isTimeWait = state === TIME_WAIT || (state === FIN_WAIT2 && inode === 0 && this.uid[i] === NO_UID);
    if (this.keepsTotals && !isTimeWait) this.liveState[i] = state | (inode === 0 ? 0 : HELD);
  }

  #resetTotals(i: number): void {
    this.cookie[i] = 0;
    this.hasTotals[i] = 0;
    this.sentBytes[i] = 0;
    this.receivedBytes[i] = 0;
    this.retransmittedBytes[i] = 0;
    this.roundTripUs[i] = 0;
    this.minRoundTripUs[i] = 0;
    this.ended[i] = 0;
    this.liveState[i] = 0;
    this.weight[i] = 1;
  }

  #refresh(i: number, rows: SocketRows, row: number, state: number, inode: number): number {
    this.scanOf[i] = this.#scan;
    this.#seenIn[i] = this.#scan;
    this.#missed[i] = 0;
    this.sendQueue[i] = rows.sendQueue[row] ?? 0;
    this.receiveQueue[i] = rows.receiveQueue[row] ?? 0;
    this.uid[i] = rows.uid[row] ?? 0;
    if (this.state[i] === state && this.inode[i] === inode) return i;
    this.state[i] = state;
    this.#setLiveState(i, state, inode);
    this.touch(i);
    if (this.inode[i] === inode) return i;
    this.#removeInode(i);
    if (inode === 0 && this.evidence[i] === 'listener') this.evidence[i] = 'history';
    this.inode[i] = inode;
    this.#addInode(i);
    return i;
  }

  #addInode(i: number): void {
    const inode = this.inode[i] ?? 0;
    if (inode === 0) return;
    this.arrived.push(inode);
    this.#byInode.set(inode, i);
  }

  #removeInode(i: number): void {
    const inode = this.inode[i] ?? 0;
    if (inode === 0 || this.#byInode.get(inode) !== i) return;
    this.left.push(inode);
    this.#byInode.delete(inode);
  }

  #open(hash: number, netns: number, table: number, rows: SocketRows, row: number): number {
    const i = this.#free.pop() ?? this.length++;
    if (i >= this.scanOf.length) this.grow();
    this.size++;
    this.scanOf[i] = this.#scan;
    this.#seenIn[i] = this.#scan;
    this.openedIn[i] = this.#scan;
    this.netns[i] = netns;
    this.table[i] = table;
    for (let word = 0; word < 4; word++) {
      this.local[i * 4 + word] = rows.local[row * 4 + word] ?? 0;
      this.remote[i * 4 + word] = rows.remote[row * 4 + word] ?? 0;
    }
    this.localPort[i] = rows.localPort[row] ?? 0;
    this.remotePort[i] = rows.remotePort[row] ?? 0;
    this.state[i] = rows.state[row] ?? 0;
    this.sendQueue[i] = rows.sendQueue[row] ?? 0;
    this.receiveQueue[i] = rows.receiveQueue[row] ?? 0;
    this.uid[i] = rows.uid[row] ?? 0;
    this.inode[i] = rows.inode[row] ?? 0;
    this.pair[i] = -1;
    this.serves[i] = 0;
    this.#missed[i] = 0;
    this.#begun[i] = 0;
    this.#next[i] = -1;
    this.process[i] = null;
    this.holders[i] = NO_PROCESSES;
    this.ownerEvidence[i] = null;
    this.reason[i] = null;
    this.labels[i] = null;
    this.evidence[i] = null;
    if (this.keepsTotals) this.#resetTotals(i);
    this.#setLiveState(i, rows.state[row] ?? 0, rows.inode[row] ?? 0);
    this.touch(i);
    this.#ends.insert(i, hash);
    this.#addInode(i);
    this.#directions.open(i);
    this.opened.push(i);
    return i;
  }

  #close(i: number): void {
    this.scanOf[i] = 0;
    this.size--;
    this.#ends.remove(i);
    this.#removeInode(i);
    this.#directions.close(i);
    this.closed.push(i);
  }

  #release(i: number): void {
    this.process[i] = null;
    this.holders[i] = NO_PROCESSES;
    this.labels[i] = null;
    this.#free.push(i);
  }

  protected override grow(): void {
    super.grow();
    const capacity = this.scanOf.length;
    this.#seenIn = grown(this.#seenIn, new Uint32Array(capacity));
    this.#missed = grown(this.#missed, new Uint8Array(capacity));
    this.#begun = grown(this.#begun, new Uint8Array(capacity));
    this.#next = grown(this.#next, new Int32Array(capacity));
  }
}

/** Outside of the table its columns are read-only: `setOwner` and `touch` are the only ways to change a connection. */
export type ConnectionTable = ReadOnly<WritableConnectionTable>;
export const ConnectionTable: new (seed?: number, services?: ServiceNames, roomLeft?: () => number) => ConnectionTable =
  WritableConnectionTable;
