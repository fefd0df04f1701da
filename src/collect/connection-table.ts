import { compareAddresses } from '../common/address.ts';
import type {
  Address,
  Direction,
  DirectionEvidence,
  OwnerEvidence,
  OwnerLabels,
  Process,
  UnattributedReason,
} from '../model.ts';
import {
  CLOSE_WAIT,
  CLOSING,
  ESTABLISHED,
  FIN_WAIT2,
  LAST_ACK,
  grown,
  LISTEN,
  SYN_RECV,
  SYN_SENT,
  TIME_WAIT,
  UDP,
  type SocketRows,
} from './net-tcp-udp-raw.ts';

const V4_MAPPED = 0xffff;
const RAW = 3;
/** How many scans a UDP socket may be hidden from by others that open and close. */
const UNSEEN_SCANS = 2;
/** What is remembered of the order of rows is dropped above so many namespaces; it is a help, not needed. */
const MOST_NAMESPACES = 10_000;
const NOBODY: readonly Process[] = [];
const FREE = -1;
/** A slot of the hash whose connection is gone: a search goes on over it. */
const TOMBSTONE = -2;

/** What a namespace tells about addresses: whether one is its own. */
export type IsOwn = (address: Address) => boolean;

/**
 * The connection table: every socket row of every namespace, kept from scan to scan as columns.
 * A row that is known refreshes its connection in place and allocates nothing; a new one opens a connection; a connection whose row is gone is closed.
 *
 * A TCP connection is its namespace, table, addresses and ports: it keeps its place from SYN_SENT to TIME_WAIT, through accept()
 * (inode 0 becomes an inode) and close() (an inode becomes 0). What has no remote end (a listener, an unconnected UDP socket) or
 * is not TCP is told apart by its inode as well, because SO_REUSEPORT gives many sockets one address.
 */
export class ConnectionTable {
  /** One above the highest index in use; free indexes in between have `scanOf` 0. */
  length = 0;
  /** Number of connections. */
  size = 0;
  /** Indexes opened and closed by the scan that ended last. The columns of a closed one stand until the next scan begins. */
  readonly opened: number[] = [];
  readonly closed: number[] = [];
  /** Namespaces with a UDP row that the last scan did not see and kept. */
  readonly incomplete = new Set<number>();
  /** Inodes that came into the tables with the last scan, and those that left them. */
  readonly arrived: number[] = [];
  readonly left: number[] = [];
  /** Connections whose direction is a guess by port number. */
  guessed = 0;

  /** The number of the scan that saw a connection last; 0 is a free index. */
  scanOf = new Uint32Array(0);
  netns = new Int32Array(0);
  table = new Uint8Array(0);
  local = new Uint32Array(0);
  remote = new Uint32Array(0);
  localPort = new Uint16Array(0);
  remotePort = new Uint16Array(0);
  state = new Uint8Array(0);
  sendQueue = new Uint32Array(0);
  receiveQueue = new Uint32Array(0);
  uid = new Uint32Array(0);
  inode = new Float64Array(0);
  /** Milliseconds since 1970 of the scan that saw it first; 0 for what the first scan found. */
  openedAt = new Float64Array(0);
  /** The scan that saw it first. */
  bornIn = new Uint32Array(0);
  /** 1 once `hasBegun` said so. */
  begun = new Uint8Array(0);
  /** The connection whose row came after this one's at the last scan; -1 for none. */
  next = new Int32Array(0);
  /** Scans in a row that did not see a UDP row whose descriptor is still open. */
  unseen = new Uint8Array(0);
  /** Index of the other end in the same namespace; -1 without one. */
  pair = new Int32Array(0);
  /** 1 when the service end of the connection is its local end; decided with the direction. */
  serves = new Uint8Array(0);
  /** 1 when anything that its group depends on may have changed since the connection was grouped. */
  changed = new Uint8Array(0);
  readonly direction: Direction[] = [];
  readonly evidence: (DirectionEvidence | null)[] = [];
  /** The process a connection is counted for; `holders` are all that have a descriptor of it. */
  readonly process: (Process | null)[] = [];
  readonly holders: (readonly Process[])[] = [];
  readonly ownerEvidence: (OwnerEvidence | null)[] = [];
  readonly reason: (UnattributedReason | null)[] = [];
  readonly labels: (OwnerLabels | null)[] = [];

  readonly #hash: EndsHash;
  #scan = 0;
  #now = 0;
  #hashes = new Uint32Array(0);
  #slots = new Int32Array(0);
  #slotsUsed = 0;
  readonly #free: number[] = [];
  readonly #listeners = new Map<number, number[]>();
  readonly #rowOf = new Map<number, number>();
  /** The connection of each table's first row at the last scan, and of the row merged last in this one. */
  readonly #firstOf = new Map<number, number>();
  readonly #mergedLast = new Map<number, number>();

  /** `seed` (32 bits by chance) keeps strangers from choosing addresses that all fall on one place of the hash. */
  constructor(seed = 0) {
    this.#hash = endsHash(seed);
  }

  /** Begins a scan. `now` is milliseconds since 1970. */
  begin(now: number): void {
    for (const index of this.closed) this.#release(index);
    this.closed.length = 0;
    this.opened.length = 0;
    this.arrived.length = 0;
    this.left.length = 0;
    this.#now = this.#scan === 0 ? 0 : now;
    this.#scan++;
    this.#mergedLast.clear();
    if (this.#firstOf.size > 8 * MOST_NAMESPACES) this.#firstOf.clear();
  }

  /** Merges rows of one table of one namespace; `isFirst` says that what is new there may have been open long before. */
  merge(netns: number, table: number, rows: SocketRows, isFirst = false): void {
    const openedAt = isFirst ? 0 : this.#now;
    const key = netns * 8 + table;
    let last = this.#mergedLast.get(key) ?? -1;
    for (let row = 0; row < rows.count; row++) {
      const expected = last < 0 ? (this.#firstOf.get(key) ?? -1) : (this.next[last] ?? -1);
      const i = this.#goesOnAs(expected, netns, table, rows, row)
        ? this.#refresh(expected, rows, row, rows.state[row] ?? 0, rows.inode[row] ?? 0)
        : this.#mergeRow(netns, table, rows, row, openedAt);
      if (last >= 0) this.next[last] = i;
      else this.#firstOf.set(key, i);
      last = i;
    }
    this.#mergedLast.set(key, last);
  }

  /**
   * Says whether a row is that of the connection which came at this place the scan before: the kernel prints sockets in the order of
   * its hash, so that mostly it is, and no search is needed.
   */
  #goesOnAs(i: number, netns: number, table: number, rows: SocketRows, row: number): boolean {
    const inode = rows.inode[row] ?? 0;
    return (
      i >= 0 &&
      inode !== 0 &&
      this.inode[i] === inode &&
      this.scanOf[i] === this.#scan - 1 &&
      this.netns[i] === netns &&
      this.table[i] === table &&
      this.localPort[i] === rows.localPort[row] &&
      this.remotePort[i] === rows.remotePort[row] &&
      sameWords(this.local, i * 4, rows.local, row * 4) &&
      sameWords(this.remote, i * 4, rows.remote, row * 4)
    );
  }

  /** Keeps the connections that the last scan saw where `kept` says so: their rows were not read this time. */
  keep(kept: (netns: number, table: number) => boolean): void {
    for (let i = 0; i < this.length; i++) {
      if (this.scanOf[i] === this.#scan - 1 && this.scanOf[i] !== 0 && kept(this.netns[i] ?? 0, this.table[i] ?? 0))
        this.scanOf[i] = this.#scan;
    }
  }

  /**
   * Ends a scan: closes what no row stood for, then decides the direction of what was opened.
   * The kernel walks its UDP tables by position, so that sockets which open and close meanwhile hide others: a UDP socket that the
   * scan did not see stays for two scans more while `isOpen` says so of its inode, unless its inode came back in another row.
   * (Not longer: connect(2) to AF_UNSPEC takes a socket out of the table for good and leaves its descriptor open.)
   */
  end(isOwn: (netns: number) => IsOwn, isOpen: (inode: number) => boolean): void {
    this.incomplete.clear();
    for (let i = 0; i < this.length; i++) {
      const seen = this.scanOf[i] ?? 0;
      if (seen === 0 || seen === this.#scan) continue;
      const inode = this.inode[i] ?? 0;
      const mayHide = (this.table[i] ?? 0) >= UDP && this.#rowOf.get(inode) === i;
      if (mayHide && this.#staysUnseen(i, isOpen)) this.scanOf[i] = this.#scan;
      else this.#close(i);
    }
    for (const index of this.opened) this.#decideDirection(index, isOwn);
  }

  #staysUnseen(i: number, isOpen: (inode: number) => boolean): boolean {
    const unseen = (this.unseen[i] ?? 0) + 1;
    if (unseen > UNSEEN_SCANS || !isOpen(this.inode[i] ?? 0)) return false;
    this.unseen[i] = unseen;
    this.incomplete.add(this.netns[i] ?? 0);
    return true;
  }

  /** Says whether an index holds a connection. */
  has(index: number): boolean {
    return (this.scanOf[index] ?? 0) !== 0;
  }

  /** Says once of a connection that opened under our eyes that it has begun: when it is first more than SYN_RECV. */
  hasBegun(index: number): boolean {
    if (this.begun[index] === 1 || this.openedAt[index] === 0) return false;
    this.begun[index] = 1;
    return true;
  }

  /** The index of the connection with an inode (not 0); -1 for none. */
  indexOf(inode: number): number {
    return this.#rowOf.get(inode) ?? -1;
  }

  /** The indexes of all connections. */
  *indexes(): Generator<number> {
    for (let i = 0; i < this.length; i++) if (this.scanOf[i] !== 0) yield i;
  }

  localAddress(index: number): Address {
    return addressAt(this.local, index * 4);
  }

  remoteAddress(index: number): Address {
    return addressAt(this.remote, index * 4);
  }

  /** Says whether a connection has a remote end. */
  hasRemote(index: number): boolean {
    return hasPeer(this.remote, index * 4, this.remotePort[index] ?? 0);
  }

  /** The listener that accepted, or would accept, what comes to a local end: exact address first, then the table's wildcard; -1 for none. */
  listenerFor(netns: number, table: number, address: ArrayLike<number>, at: number, port: number): number {
    let wildcard = -1;
    for (const i of this.#listeners.get(listenerKey(netns, table, port)) ?? []) {
      const own = i * 4;
      if (sameWords(this.local, own, address, at)) return i;
      if (wildcard < 0 && isWildcard(this.local, own)) wildcard = i;
    }
    return wildcard;
  }

  /** The listener of a connection's local end; -1 for none. */
  listenerOf(index: number): number {
    return this.listenerFor(
      this.netns[index] ?? 0,
      this.table[index] ?? 0,
      this.local,
      index * 4,
      this.localPort[index] ?? 0,
    );
  }

  /** Says whether a connection is the end of a loopback pair that the endpoint family leaves out. */
  isDuplicate(index: number): boolean {
    return (this.pair[index] ?? -1) >= 0 && this.serves[index] === 0;
  }

  #mergeRow(netns: number, table: number, rows: SocketRows, row: number, openedAt: number): number {
    const at = row * 4;
    const connected = hasPeer(rows.remote, at, rows.remotePort[row] ?? 0);
    const inode = rows.inode[row] ?? 0;
    const state = rows.state[row] ?? 0;
    const hash = this.#hashRow(netns, table, rows, row, connected);
    const byInode = !connected || table >= UDP;
    const found = this.#find(hash, netns, table, rows, row, byInode);
    if (found >= 0 && this.#continues(found, state, inode)) {
      return this.#refresh(found, rows, row, state, inode);
    }
    if (found >= 0 && this.scanOf[found] !== this.#scan) this.#close(found);
    const opened = this.#open(hash, netns, table, rows, row);
    this.openedAt[opened] = openedAt;
    return opened;
  }

  #hashRow(netns: number, table: number, rows: SocketRows, row: number, connected: boolean): number {
    const inode = connected ? 0 : (rows.inode[row] ?? 0);
    const localPort = rows.localPort[row] ?? 0;
    const remotePort = rows.remotePort[row] ?? 0;
    return this.#hash(netns, table >> 1, rows.local, row * 4, localPort, rows.remote, row * 4, remotePort, inode);
  }

  /** The connection of a row: the one with the same inode, else (TCP) one with the same ends. */
  #find(hash: number, netns: number, table: number, rows: SocketRows, row: number, byInode: boolean): number {
    const mask = this.#slots.length - 1;
    if (mask < 0) return -1;
    const at = row * 4;
    const inode = rows.inode[row] ?? 0;
    const localPort = rows.localPort[row];
    const remotePort = rows.remotePort[row];
    let sameEnds = -1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const i = this.#slots[slot] ?? FREE;
      if (i === FREE) return sameEnds;
      if (
        i === TOMBSTONE ||
        this.#hashes[i] !== hash ||
        this.netns[i] !== netns ||
        this.table[i] !== table ||
        this.localPort[i] !== localPort ||
        this.remotePort[i] !== remotePort ||
        !sameWords(this.local, i * 4, rows.local, at) ||
        !sameWords(this.remote, i * 4, rows.remote, at)
      )
        continue;
      if (this.inode[i] === inode) return i;
      if (!byInode && (sameEnds < 0 || this.inode[i] === 0)) sameEnds = i;
    }
  }

  /**
   * Says whether a row goes on with a connection that has its ends, or is a later one between the same ends (RFC 9293
   * section 3.6.1 lets a client reuse a port out of TIME_WAIT).
   */
  #continues(index: number, state: number, inode: number): boolean {
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

  #refresh(i: number, rows: SocketRows, row: number, state: number, inode: number): number {
    this.scanOf[i] = this.#scan;
    this.unseen[i] = 0;
    this.sendQueue[i] = rows.sendQueue[row] ?? 0;
    this.receiveQueue[i] = rows.receiveQueue[row] ?? 0;
    this.uid[i] = rows.uid[row] ?? 0;
    if (this.state[i] === state && this.inode[i] === inode) return i;
    this.state[i] = state;
    this.changed[i] = 1;
    if (this.inode[i] === inode) return i;
    this.#depart(i);
    if (inode === 0 && this.evidence[i] === 'listener') this.evidence[i] = 'history';
    this.inode[i] = inode;
    this.#arrive(i);
    return i;
  }

  #arrive(i: number): void {
    const inode = this.inode[i] ?? 0;
    if (inode === 0) return;
    this.arrived.push(inode);
    this.#rowOf.set(inode, i);
  }

  #depart(i: number): void {
    const inode = this.inode[i] ?? 0;
    if (inode === 0 || this.#rowOf.get(inode) !== i) return;
    this.left.push(inode);
    this.#rowOf.delete(inode);
  }

  #open(hash: number, netns: number, table: number, rows: SocketRows, row: number): number {
    const i = this.#free.pop() ?? this.length++;
    if (i >= this.scanOf.length) this.#grow();
    this.size++;
    this.scanOf[i] = this.#scan;
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
    this.bornIn[i] = this.#scan;
    this.unseen[i] = 0;
    this.begun[i] = 0;
    this.next[i] = -1;
    this.pair[i] = -1;
    this.serves[i] = 0;
    this.changed[i] = 1;
    this.process[i] = null;
    this.holders[i] = NOBODY;
    this.ownerEvidence[i] = null;
    this.reason[i] = null;
    this.labels[i] = null;
    this.evidence[i] = null;
    this.#hashes[i] = hash;
    this.#insert(i);
    this.#arrive(i);
    if (this.#listens(i)) {
      this.direction[i] = 'listen';
      const key = listenerKey(netns, table, this.localPort[i] ?? 0);
      const others = this.#listeners.get(key);
      if (others) others.push(i);
      else this.#listeners.set(key, [i]);
    } else this.direction[i] = 'outbound';
    this.opened.push(i);
    return i;
  }

  #listens(i: number): boolean {
    return !this.hasRemote(i) || this.state[i] === LISTEN;
  }

  #close(i: number): void {
    this.scanOf[i] = 0;
    this.size--;
    this.#remove(i);
    this.#depart(i);
    if (this.evidence[i] === 'port') this.guessed--;
    const mate = this.pair[i] ?? -1;
    if (mate >= 0) {
      this.pair[mate] = -1;
      this.changed[mate] = 1;
    }
    if (this.direction[i] === 'listen') {
      const key = listenerKey(this.netns[i] ?? 0, this.table[i] ?? 0, this.localPort[i] ?? 0);
      const others = (this.#listeners.get(key) ?? []).filter((other) => other !== i);
      if (others.length > 0) this.#listeners.set(key, others);
      else this.#listeners.delete(key);
    }
    this.closed.push(i);
  }

  #release(i: number): void {
    this.process[i] = null;
    this.holders[i] = NOBODY;
    this.labels[i] = null;
    this.#free.push(i);
  }

  /**
   * The first rule that holds: a mirrored row in the namespace proves an end to be loopback (the other end stays what it was if an
   * earlier scan decided it); then a loopback address, or an own address in a state that leaves no mirror (an own address alone proves nothing: IPVS puts
   * every service address on the host); then a listener; then the ports.
   */
  #decideDirection(i: number, isOwn: (netns: number) => IsOwn): void {
    if (this.direction[i] === 'listen' || (this.pair[i] ?? FREE) >= 0) return;
    const mirror = this.#mirrorOf(i);
    if (mirror >= 0) {
      const isNew = this.bornIn[mirror] === this.#scan;
      this.#direct(i, 'loopback', 'listener', isNew ? this.#localEndServes(i) : this.serves[mirror] === 0);
      if (mirror === i) return;
      if (isNew) this.#direct(mirror, 'loopback', 'listener', this.serves[i] === 0);
      this.pair[i] = mirror;
      this.pair[mirror] = i;
      this.changed[mirror] = 1;
      return;
    }
    const remote = this.remoteAddress(i);
    const state = this.state[i] ?? 0;
    const leavesNoMirror = state === SYN_SENT || state === TIME_WAIT || state === FIN_WAIT2;
    if (isLoopback(remote) || (leavesNoMirror && isOwn(this.netns[i] ?? 0)(remote)))
      this.#direct(i, 'loopback', 'listener', this.#localEndServes(i));
    else if (this.#isAccepted(i)) this.#direct(i, 'inbound', 'listener', true);
    else if (this.#lowPortServes(i)) this.#direct(i, 'inbound', 'port', true);
    else this.#direct(i, 'outbound', 'listener', false);
  }

  #direct(i: number, direction: Direction, evidence: DirectionEvidence, serves: boolean): void {
    this.#testify(i, evidence);
    this.direction[i] = direction;
    this.serves[i] = serves ? 1 : 0;
    this.changed[i] = 1;
  }

  /** Of a loopback connection: the end that a listener matches, else the end with the lower (port, address). */
  #localEndServes(i: number): boolean {
    const local = this.#listenedOn(i, this.local, this.localPort[i] ?? 0);
    const remote = this.#listenedOn(i, this.remote, this.remotePort[i] ?? 0);
    if (local !== remote) return local;
    const ports = (this.localPort[i] ?? 0) - (this.remotePort[i] ?? 0);
    return (ports || compareAddresses(this.localAddress(i), this.remoteAddress(i))) < 0;
  }

  /** Either family's table may hold the listener: the two ends of one connection can stand in different tables. */
  #listenedOn(i: number, addresses: Uint32Array, port: number): boolean {
    const netns = this.netns[i] ?? 0;
    const table = (this.table[i] ?? 0) & ~1;
    return (
      this.listenerFor(netns, table, addresses, i * 4, port) >= 0 ||
      this.listenerFor(netns, table + 1, addresses, i * 4, port) >= 0
    );
  }

  /** A raw socket without a peer takes copies of all packets of its protocol: it accepts nothing. */
  #isAccepted(i: number): boolean {
    return (this.table[i] ?? 0) >> 1 !== RAW && this.listenerOf(i) >= 0;
  }

  #testify(i: number, evidence: DirectionEvidence | null): void {
    this.guessed += Number(evidence === 'port') - Number(this.evidence[i] === 'port');
    this.evidence[i] = evidence;
  }

  #lowPortServes(i: number): boolean {
    const port = this.localPort[i] ?? 0;
    return port > 0 && port < 1024 && (this.remotePort[i] ?? 0) >= 1024;
  }

  /** The row of the other end: same namespace and transport, either family's table, ends exchanged (itself, if connected to itself); -1 for none. */
  #mirrorOf(i: number): number {
    const mask = this.#slots.length - 1;
    const at = i * 4;
    const netns = this.netns[i] ?? 0;
    const transport = (this.table[i] ?? 0) >> 1;
    if (transport === RAW) return -1;
    const localPort = this.localPort[i] ?? 0;
    const remotePort = this.remotePort[i] ?? 0;
    const hash = this.#hash(netns, transport, this.remote, at, remotePort, this.local, at, localPort, 0);
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const other = this.#slots[slot] ?? FREE;
      if (other === FREE) return -1;
      if (
        other !== TOMBSTONE &&
        (this.pair[other] ?? -1) < 0 &&
        this.#hashes[other] === hash &&
        this.netns[other] === netns &&
        (this.table[other] ?? 0) >> 1 === transport &&
        this.localPort[other] === remotePort &&
        this.remotePort[other] === localPort &&
        sameWords(this.local, other * 4, this.remote, at) &&
        sameWords(this.remote, other * 4, this.local, at)
      )
        return other;
    }
  }

  #insert(i: number): void {
    if ((this.#slotsUsed + 1) * 2 > this.#slots.length) this.#rehash();
    const mask = this.#slots.length - 1;
    let slot = (this.#hashes[i] ?? 0) & mask;
    while ((this.#slots[slot] ?? FREE) >= 0) slot = (slot + 1) & mask;
    if (this.#slots[slot] === FREE) this.#slotsUsed++;
    this.#slots[slot] = i;
  }

  #remove(i: number): void {
    const mask = this.#slots.length - 1;
    let slot = (this.#hashes[i] ?? 0) & mask;
    while (this.#slots[slot] !== i) slot = (slot + 1) & mask;
    this.#slots[slot] = TOMBSTONE;
  }

  #rehash(): void {
    let length = 1024;
    while (length < this.size * 4) length *= 2;
    const slots = new Int32Array(length).fill(FREE);
    for (const i of this.#slots) {
      if (i < 0) continue;
      let slot = (this.#hashes[i] ?? 0) & (length - 1);
      while (slots[slot] !== FREE) slot = (slot + 1) & (length - 1);
      slots[slot] = i;
    }
    this.#slots = slots;
    this.#slotsUsed = this.size - 1;
  }

  #grow(): void {
    const capacity = Math.max(1024, this.scanOf.length * 2);
    this.scanOf = grown(this.scanOf, new Uint32Array(capacity));
    this.netns = grown(this.netns, new Int32Array(capacity));
    this.table = grown(this.table, new Uint8Array(capacity));
    this.local = grown(this.local, new Uint32Array(capacity * 4));
    this.remote = grown(this.remote, new Uint32Array(capacity * 4));
    this.localPort = grown(this.localPort, new Uint16Array(capacity));
    this.remotePort = grown(this.remotePort, new Uint16Array(capacity));
    this.state = grown(this.state, new Uint8Array(capacity));
    this.sendQueue = grown(this.sendQueue, new Uint32Array(capacity));
    this.receiveQueue = grown(this.receiveQueue, new Uint32Array(capacity));
    this.uid = grown(this.uid, new Uint32Array(capacity));
    this.inode = grown(this.inode, new Float64Array(capacity));
    this.bornIn = grown(this.bornIn, new Uint32Array(capacity));
    this.next = grown(this.next, new Int32Array(capacity));
    this.begun = grown(this.begun, new Uint8Array(capacity));
    this.unseen = grown(this.unseen, new Uint8Array(capacity));
    this.openedAt = grown(this.openedAt, new Float64Array(capacity));
    this.pair = grown(this.pair, new Int32Array(capacity));
    this.serves = grown(this.serves, new Uint8Array(capacity));
    this.changed = grown(this.changed, new Uint8Array(capacity));
    this.#hashes = grown(this.#hashes, new Uint32Array(capacity));
  }
}

function listenerKey(netns: number, table: number, port: number): number {
  return (netns * 8 + table) * 65536 + port;
}

function hasPeer(remote: Uint32Array, at: number, port: number): boolean {
  return port !== 0 || !isWildcard(remote, at);
}

function isWildcard(words: ArrayLike<number>, at: number): boolean {
  const third = words[at + 2];
  return words[at + 3] === 0 && words[at] === 0 && words[at + 1] === 0 && (third === 0 || third === V4_MAPPED);
}

function isLoopback([a, b, c, d]: Address): boolean {
  return a === 0 && b === 0 && ((c === V4_MAPPED && d >>> 24 === 127) || (c === 0 && d === 1));
}

function addressAt(words: Uint32Array, at: number): Address {
  return [words[at] ?? 0, words[at + 1] ?? 0, words[at + 2] ?? 0, words[at + 3] ?? 0];
}

function sameWords(a: ArrayLike<number>, at: number, b: ArrayLike<number>, bt: number): boolean {
  return a[at + 3] === b[bt + 3] && a[at] === b[bt] && a[at + 1] === b[bt + 1] && a[at + 2] === b[bt + 2];
}

type EndsHash = (
  netns: number,
  transport: number,
  local: Uint32Array,
  at: number,
  localPort: number,
  remote: Uint32Array,
  bt: number,
  remotePort: number,
  inode: number,
) => number;

/**
 * A hash of two ends that only who knows the seed can foresee: each word goes through two multiplications by secret odd numbers with
 * a shift between, so that no difference of words cancels out whatever the seed. The same for both families' tables, so that one
 * search finds a mirror in either.
 */
function endsHash(seed: number): EndsHash {
  const first = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
  const second = Math.imul(seed ^ 0x7f4a7c15, 0xc2b2ae35) | 1;
  const mix = (hash: number, word: number): number => {
    const mixed = Math.imul(hash ^ word, first);
    return Math.imul(mixed ^ (mixed >>> 15), second);
  };
  return (netns, transport, local, at, localPort, remote, bt, remotePort, inode) => {
    let hash = mix(seed ^ (netns * 4 + transport), (localPort << 16) | remotePort);
    for (let i = 0; i < 4; i++) hash = mix(mix(hash, local[at + i] ?? 0), remote[bt + i] ?? 0);
    hash = mix(hash, inode);
    return (hash ^ (hash >>> 16)) >>> 0;
  };
}
