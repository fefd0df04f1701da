import type { State, Transport } from '../model.ts';

/** The socket tables of /proc/PID/net that are read, in the order of their numbers. */
export const TABLES = ['tcp', 'tcp6', 'udp', 'udp6', 'udplite', 'udplite6', 'raw', 'raw6'] as const;
export type Table = (typeof TABLES)[number];

/** The transports, each with its IPv4 and its IPv6 table. */
export const TRANSPORTS: readonly Transport[] = ['tcp', 'udp', 'udplite', 'raw'];

/** The number of the first table that is not TCP, and of the first raw table. */
export const UDP = 2;
export const RAW = 6;

/** TCP states of the kernel (include/net/tcp_states.h). Other tables use 01 and 07 only. */
export const ESTABLISHED = 0x01;
export const SYN_SENT = 0x02;
export const SYN_RECV = 0x03;
export const FIN_WAIT1 = 0x04;
export const FIN_WAIT2 = 0x05;
export const TIME_WAIT = 0x06;
export const CLOSE = 0x07;
export const CLOSE_WAIT = 0x08;
export const LAST_ACK = 0x09;
export const LISTEN = 0x0a;
export const CLOSING = 0x0b;

const STATES: readonly State[] = [
  'unknown',
  'established',
  'syn_sent',
  'syn_received',
  'fin_wait_1',
  'fin_wait_2',
  'time_wait',
  'closed',
  'close_wait',
  'last_ack',
  'listen',
  'closing',
];

/** The uid of a row without one: TIME_WAIT rows print 0, which does not mean root. */
export const NO_UID = 0xffffffff;

/** The transport of a table, by the table's number. */
export function transportOf(table: number): Transport {
  return TRANSPORTS[table >> 1] ?? 'raw';
}

/** The state of a row, by its table and the code of the kernel. */
export function stateOf(table: number, code: number): State {
  if (table >= UDP && code === CLOSE) return 'unconnected';
  return STATES[code] ?? 'unknown';
}

/**
 * Rows of a socket table as columns, reused for each read.
 * Addresses take four words a row, IPv4 as ::ffff:a.b.c.d. Queues are bytes; the receive queue of a listener is its waiting connections.
 */
export class SocketRows {
  count = 0;
  malformed = 0;
  capacity = 0;
  local = new Uint32Array(0);
  remote = new Uint32Array(0);
  localPort = new Uint16Array(0);
  remotePort = new Uint16Array(0);
  state = new Uint8Array(0);
  sendQueue = new Uint32Array(0);
  receiveQueue = new Uint32Array(0);
  uid = new Uint32Array(0);
  inode = new Float64Array(0);

  constructor(capacity = 1024) {
    this.#resize(capacity);
  }

  /** Removes all rows and keeps the capacity. */
  clear(): void {
    this.count = 0;
    this.malformed = 0;
  }

  /** Makes room for one more row. */
  reserve(): void {
    if (this.count === this.capacity) this.resize(this.capacity * 2);
  }

  /** Gives every column this capacity. A class with more columns overrides it. */
  protected resize(capacity: number): void {
    this.#resize(capacity);
  }

  #resize(capacity: number): void {
    this.capacity = capacity;
    this.local = grown(this.local, new Uint32Array(capacity * 4));
    this.remote = grown(this.remote, new Uint32Array(capacity * 4));
    this.localPort = grown(this.localPort, new Uint16Array(capacity));
    this.remotePort = grown(this.remotePort, new Uint16Array(capacity));
    this.state = grown(this.state, new Uint8Array(capacity));
    this.sendQueue = grown(this.sendQueue, new Uint32Array(capacity));
    this.receiveQueue = grown(this.receiveQueue, new Uint32Array(capacity));
    this.uid = grown(this.uid, new Uint32Array(capacity));
    this.inode = grown(this.inode, new Float64Array(capacity));
  }
}

/** A column copied into a longer one. */
export function grown<T extends Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array>(
  column: T,
  longer: T,
): T {
  longer.set(column);
  return longer;
}

const NEWLINE = 0x0a;
const SPACE = 0x20;
const COLON = 0x3a;
const ZERO = 0x30;
const V4_MAPPED = 0x0000ffff;
const TIME_WAIT_TIMER = 3;

/** The value of each ASCII hex digit; 255 for every other byte, so that ORed values show an invalid one. */
const HEX = new Uint8Array(256).fill(255);
for (let value = 0; value < 16; value++) {
  const digit = value.toString(16);
  HEX[digit.charCodeAt(0)] = value;
  HEX[digit.toUpperCase().charCodeAt(0)] = value;
}

/**
 * Appends the complete rows of buffer[from, to) to `rows` and returns where the last complete row ended.
 * A malformed line is skipped and counted in `rows.malformed`. A row needs the ten columns up to the inode: TIME_WAIT has 12 columns, a
 * full socket 17. The caller skips the header line.
 * Format: the kernel's Documentation/networking/proc_net_tcp.rst; net/ipv4/{tcp_ipv4,udp,raw}.c and net/ipv6 print it.
 * Addresses are 32-bit words in the byte order of the machine that printed them.
 */
export function parseSocketRows(
  buffer: Uint8Array,
  from: number,
  to: number,
  family: 4 | 6,
  littleEndian: boolean,
  rows: SocketRows,
): number {
  const ended = to > from ? buffer.lastIndexOf(NEWLINE, to - 1) + 1 : 0;
  let start = from;
  while (start < ended) {
    rows.reserve();
    let end = parseRow(buffer, start, family, littleEndian, rows);
    if (end < 0) {
      rows.malformed++;
      end = buffer.indexOf(NEWLINE, start);
    } else rows.count++;
    start = end + 1;
  }
  return start;
}

/**
 * Appends the row that begins at `start` and returns the position of its newline; -1 for a malformed line. No column contains a newline,
 * so that nothing is read beyond it. This runs for every row of every scan: arithmetic on bytes in local variables only.
 */
function parseRow(buffer: Uint8Array, start: number, family: 4 | 6, littleEndian: boolean, rows: SocketRows): number {
  const n = rows.count;
  let at = skipSpaces(buffer, start);
  const slot = at;
  while (isDigit(buffer[at])) at++;
  if (at === slot || buffer[at] !== COLON || buffer[at + 1] !== SPACE) return -1;
  at += 2;
  // "LOCAL:PORT REMOTE:PORT ST TX:RX TR:": all columns before the timer have a fixed width.
  const width = family === 4 ? 8 : 32;
  const remote = at + width + 6;
  const queues = remote + width + 9;
  if (!readAddress(buffer, at, family, littleEndian, rows.local, n * 4) || buffer[at + width] !== COLON) return -1;
  const localPort = hex4(buffer, at + width + 1);
  if (localPort < 0 || buffer[remote - 1] !== SPACE) return -1;
  if (!readAddress(buffer, remote, family, littleEndian, rows.remote, n * 4) || buffer[remote + width] !== COLON)
    return -1;
  const remotePort = hex4(buffer, remote + width + 1);
  if (remotePort < 0 || buffer[queues - 4] !== SPACE) return -1;
  const state = hex2(buffer, queues - 3);
  if (state < 0 || buffer[queues - 1] !== SPACE) return -1;
  const sendQueue = hex8(buffer, queues);
  if (sendQueue < 0 || buffer[queues + 8] !== COLON) return -1;
  const receiveQueue = hex8(buffer, queues + 9);
  if (receiveQueue < 0 || buffer[queues + 17] !== SPACE) return -1;
  const timer = hex2(buffer, queues + 18);
  if (timer < 0 || buffer[queues + 20] !== COLON) return -1;

  // Skipped: timer, retransmits; between uid and inode the timeout.
  at = nextWord(buffer, nextWord(buffer, queues + 21));
  const uidAt = at;
  let uid = 0;
  while (isDigit(buffer[at])) uid = uid * 10 + (buffer[at++] ?? 0) - ZERO;
  if (at === uidAt || uid > NO_UID || buffer[at] !== SPACE) return -1;
  at = nextWord(buffer, skipSpaces(buffer, at));
  const inodeAt = at;
  let inode = 0;
  while (isDigit(buffer[at])) inode = inode * 10 + (buffer[at++] ?? 0) - ZERO;
  if (at === inodeAt || inode > Number.MAX_SAFE_INTEGER) return -1;
  if (buffer[at] !== SPACE && buffer[at] !== NEWLINE) return -1;

  const timeWait = state === TIME_WAIT || (state === FIN_WAIT2 && timer === TIME_WAIT_TIMER);
  rows.localPort[n] = localPort;
  rows.remotePort[n] = remotePort;
  rows.state[n] = state;
  rows.sendQueue[n] = sendQueue;
  rows.receiveQueue[n] = receiveQueue;
  rows.uid[n] = timeWait && inode === 0 ? NO_UID : uid;
  rows.inode[n] = inode;
  while (buffer[at] !== NEWLINE) at++;
  return at;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= ZERO + 9;
}

function skipSpaces(buffer: Uint8Array, at: number): number {
  while (buffer[at] === SPACE) at++;
  return at;
}

/** The position of the next word; a newline is not skipped. */
function nextWord(buffer: Uint8Array, at: number): number {
  while ((buffer[at] ?? 0) > SPACE) at++;
  return skipSpaces(buffer, at);
}

/** The value of two, four or eight hex digits; -1 if one of them is invalid. */
function hex2(buffer: Uint8Array, at: number): number {
  const a = HEX[buffer[at] ?? 0] ?? 255;
  const b = HEX[buffer[at + 1] ?? 0] ?? 255;
  return (a | b) > 15 ? -1 : (a << 4) | b;
}

function hex4(buffer: Uint8Array, at: number): number {
  const a = HEX[buffer[at] ?? 0] ?? 255;
  const b = HEX[buffer[at + 1] ?? 0] ?? 255;
  const c = HEX[buffer[at + 2] ?? 0] ?? 255;
  const d = HEX[buffer[at + 3] ?? 0] ?? 255;
  return (a | b | c | d) > 15 ? -1 : (a << 12) | (b << 8) | (c << 4) | d;
}

function hex8(buffer: Uint8Array, at: number): number {
  const high = hex4(buffer, at);
  const low = hex4(buffer, at + 4);
  return (high | low) < 0 ? -1 : high * 65536 + low;
}

function readAddress(
  buffer: Uint8Array,
  at: number,
  family: 4 | 6,
  littleEndian: boolean,
  words: Uint32Array,
  to: number,
): boolean {
  if (family === 4) {
    const word = hex8(buffer, at);
    words[to] = 0;
    words[to + 1] = 0;
    words[to + 2] = V4_MAPPED;
    words[to + 3] = littleEndian ? swapBytes(word) : word;
    return word >= 0;
  }
  let bad = 0;
  for (let i = 0; i < 4; i++) {
    const word = hex8(buffer, at + i * 8);
    bad |= word < 0 ? 1 : 0;
    words[to + i] = littleEndian ? swapBytes(word) : word;
  }
  return bad === 0;
}

function swapBytes(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}
