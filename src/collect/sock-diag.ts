import {
  CLOSE_WAIT,
  CLOSING,
  FIN_WAIT1,
  FIN_WAIT2,
  grown,
  LAST_ACK,
  LISTEN,
  NO_UID,
  SocketRows,
  SYN_RECV,
  TIME_WAIT,
} from './net-tcp-udp-raw.ts';

/** Whether `bytes_received` of an ended socket counts the FIN of its peer. */
export const FIN_ABSENT = 0;
export const FIN_COUNTED = 1;
/** It does, except after an active close: then a TIME_WAIT row of the connection follows. */
export const FIN_UNLESS_TIME_WAIT = 2;

/** What is known of an ended connection besides its event. */
export interface EndedFacts {
  /** Its state in the last dump or table that had it; 0 for none. */
  readonly lastState: number;
  /** Whether a process held its descriptor at that time. */
  readonly wasHeld: boolean;
  /** Whether the scan after the event found a TIME_WAIT row, or a FIN_WAIT2 row without inode, of its ends; null if it is not known. */
  readonly leftTimeWait: boolean | null;
  /** The sent payload of its other end, if that is on this host and ended too; else null. */
  readonly peerSentBytes: number | null;
}

/**
 * Rows of a socket dump, with the totals of tcp_info. All bytes are payload: sent without retransmissions, received without the FIN.
 */
export class DiagRows extends SocketRows {
  /** Whether the dump is complete, whether the kernel says that it is inconsistent, and its error number if it failed. */
  isComplete = false;
  isInterrupted = false;
  errno = 0;
  /** Identifies a socket of the namespace for its lifetime; 0 if there is none. The TIME_WAIT row of a socket has its cookie only if a dump had it before. */
  cookie = new Float64Array(this.capacity);
  /** 1 where the byte columns are known. */
  hasTotals = new Uint8Array(this.capacity);
  sentBytes = new Float64Array(this.capacity);
  receivedBytes = new Float64Array(this.capacity);
  retransmittedBytes = new Float64Array(this.capacity);
  /** 0 if unknown. */
  roundTripUs = new Uint32Array(this.capacity);
  minRoundTripUs = new Uint32Array(this.capacity);

  override clear(): void {
    super.clear();
    this.isComplete = false;
    this.isInterrupted = false;
    this.errno = 0;
  }

  protected override resize(capacity: number): void {
    super.resize(capacity);
    this.cookie = grown(this.cookie, new Float64Array(capacity));
    this.hasTotals = grown(this.hasTotals, new Uint8Array(capacity));
    this.sentBytes = grown(this.sentBytes, new Float64Array(capacity));
    this.receivedBytes = grown(this.receivedBytes, new Float64Array(capacity));
    this.retransmittedBytes = grown(this.retransmittedBytes, new Float64Array(capacity));
    this.roundTripUs = grown(this.roundTripUs, new Uint32Array(capacity));
    this.minRoundTripUs = grown(this.minRoundTripUs, new Uint32Array(capacity));
  }
}

/**
 * Sockets that ended, from the destroy groups of sock_diag. They have no uid and no inode, and their state is CLOSE.
 * `receivedBytes` excludes a FIN that is not certain (`fin`), so that it is never too large: see receivedBytesOf.
 */
export class EndedSockets extends DiagRows {
  /** 0 for tcp, 1 for tcp6. */
  table = new Uint8Array(this.capacity);
  /** The namespace by its number in the namespace of the reader; -1 for that namespace itself. */
  nsid = new Int32Array(this.capacity);
  /** When the event arrived, in milliseconds of the monotonic clock. */
  receivedAt = new Float64Array(this.capacity);
  /** One of the FIN_ constants. */
  fin = new Uint8Array(this.capacity);

  /**
   * Whether the kernel discarded the remote end and the totals of a connection: SO_LINGER 0, connect() to AF_UNSPEC, or a listener
   * that closed before it accepted the connection. Such rows have totals of 0.
   */
  isWiped(i: number): boolean {
    return this.remotePort[i] === 0 && this.minRoundTripUs[i] !== 0;
  }

  /** The received payload, with everything that is known of the connection. */
  receivedBytesOf(i: number, facts: EndedFacts): number {
    const received = this.receivedBytes[i] ?? 0;
    const fin = this.fin[i];
    const most = fin === FIN_ABSENT ? received : received + 1;
    if (facts.peerSentBytes === most || facts.peerSentBytes === most - 1) return facts.peerSentBytes;
    if (fin === FIN_UNLESS_TIME_WAIT) return countsFin(facts) ? received : most;
    return fin === FIN_ABSENT && received > 0 && hasFin(facts.lastState) ? received - 1 : received;
  }

  protected override resize(capacity: number): void {
    super.resize(capacity);
    this.table = grown(this.table, new Uint8Array(capacity));
    this.nsid = grown(this.nsid, new Int32Array(capacity));
    this.receivedAt = grown(this.receivedAt, new Float64Array(capacity));
    this.fin = grown(this.fin, new Uint8Array(capacity));
  }
}

/** Whether the FIN of the peer arrived before the socket had this state. */
function hasFin(state: number): boolean {
  return state === CLOSE_WAIT || state === LAST_ACK || state === CLOSING;
}

/** Whether `bytes_received` counts the FIN of a socket without unread data whose own FIN was acknowledged. */
function countsFin({ lastState, wasHeld, leftTimeWait }: EndedFacts): boolean {
  // A process that keeps the descriptor after shutdown(SHUT_WR) reads until the end of the stream.
  const isHalfClosed = wasHeld && (lastState === FIN_WAIT1 || lastState === FIN_WAIT2);
  return hasFin(lastState) || isHalfClosed || leftTimeWait !== true;
}

// Messages: include/uapi/linux/netlink.h.
const NLMSG_HEADER = 16;
const NLMSG_NOOP = 1;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_DUMP_INTR = 0x10;
const RTM_NEWNSID = 88;
const NETNSA_NSID = 1;

// Rows: include/uapi/linux/{sock_diag,inet_diag}.h. The ports and the addresses are in network byte order.
const SOCK_DIAG_BY_FAMILY = 20;
const INET_DIAG_MSG = 72;
const INET_DIAG_INFO = 2;
const INET_DIAG_PROTOCOL = 10;
const IPPROTO_TCP = 6;
const AF_INET = 2;
const AF_INET6 = 10;
const V4_MAPPED = 0x0000ffff;
const TIMER_TIME_WAIT = 3;

// Offsets in struct tcp_info (include/uapi/linux/tcp.h). The struct grows with each version of the kernel.
const TOTAL_RETRANS = 100;
const RTT = 68;
const BYTES_ACKED = 120;
const BYTES_RECEIVED = 128;
const MIN_RTT = 148;
const DATA_SEGS_IN = 152;
const DATA_SEGS_OUT = 156;
const DELIVERED = 192;
const BYTES_SENT = 200;
const BYTES_RETRANS = 208;
/** What a tcp_info has at least if it has bytes_sent and bytes_retrans (Linux 4.19). */
const WITH_BYTES = 216;
const UNKNOWN_RTT = 0xffffffff;

/**
 * Appends the rows of one datagram of a dump (SOCK_DIAG_BY_FAMILY, TCP) and sets `isComplete` at its end.
 * A malformed message is skipped and counted in `rows.malformed`.
 */
export function parseDump(bytes: Uint8Array, family: 4 | 6, littleEndian: boolean, rows: DiagRows): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const wanted = family === 4 ? AF_INET : AF_INET6;
  for (let at = 0; at < bytes.length;) {
    const length = messageLength(view, at, littleEndian);
    if (length < 0) {
      rows.malformed++;
      return;
    }
    const type = view.getUint16(at + 4, littleEndian);
    if ((view.getUint16(at + 6, littleEndian) & NLM_F_DUMP_INTR) !== 0) rows.isInterrupted = true;
    if (type === NLMSG_DONE || type === NLMSG_ERROR) {
      // A dump that the kernel does not know ends with an error in either.
      rows.errno = length >= NLMSG_HEADER + 4 ? -view.getInt32(at + NLMSG_HEADER, littleEndian) | 0 : 0;
      rows.isComplete = true;
      return;
    }
    if (type === SOCK_DIAG_BY_FAMILY) {
      if (length >= NLMSG_HEADER + INET_DIAG_MSG && view.getUint8(at + NLMSG_HEADER) === wanted)
        appendRow(view, at + NLMSG_HEADER, at + length, littleEndian, rows);
      else rows.malformed++;
    } else if (type !== NLMSG_NOOP) rows.malformed++;
    at += align(length);
  }
}

/** Appends the events of one datagram of the destroy groups of TCP. Malformed messages are skipped and counted. */
export function parseEnded(
  bytes: Uint8Array,
  littleEndian: boolean,
  nsid: number,
  receivedAt: number,
  rows: EndedSockets,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < bytes.length;) {
    const length = messageLength(view, at, littleEndian);
    if (length < 0) {
      rows.malformed++;
      return;
    }
    const body = at + NLMSG_HEADER;
    const isRow =
      view.getUint16(at + 4, littleEndian) === SOCK_DIAG_BY_FAMILY &&
      length >= NLMSG_HEADER + INET_DIAG_MSG &&
      (view.getUint8(body) === AF_INET || view.getUint8(body) === AF_INET6);
    if (!isRow) rows.malformed++;
    else {
      const i = rows.count;
      const info = appendRow(view, body, at + length, littleEndian, rows);
      if (rows.count > i) {
        rows.table[i] = view.getUint8(body) === AF_INET ? 0 : 1;
        rows.nsid[i] = nsid;
        rows.receivedAt[i] = receivedAt;
        rows.uid[i] = NO_UID;
        const fin = rows.hasTotals[i] === 1 ? finOf(view, info, littleEndian, rows, i) : FIN_ABSENT;
        rows.fin[i] = fin;
        if (fin !== FIN_ABSENT) rows.receivedBytes[i] = (rows.receivedBytes[i] ?? 0) - 1;
      }
    }
    at += align(length);
  }
}

/**
 * The number of a network namespace in the reply to RTM_GETNSID; null if it has none, or for any other message.
 * Format: net/core/net_namespace.c, struct rtgenmsg and attributes.
 */
export function parseNsid(bytes: Uint8Array, littleEndian: boolean): number | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = messageLength(view, 0, littleEndian);
  if (length < NLMSG_HEADER + 4 || view.getUint16(4, littleEndian) !== RTM_NEWNSID) return null;
  for (let at = NLMSG_HEADER + 4; at + 4 <= length;) {
    const size = view.getUint16(at, littleEndian);
    if (size < 4 || at + size > length) return null;
    if (view.getUint16(at + 2, littleEndian) === NETNSA_NSID && size >= 8) {
      const nsid = view.getInt32(at + 4, littleEndian);
      return nsid >= 0 ? nsid : null;
    }
    at += align(size);
  }
  return null;
}

/** The length of the message at a position; -1 if it does not fit the datagram. */
function messageLength(view: DataView, at: number, littleEndian: boolean): number {
  if (at + NLMSG_HEADER > view.byteLength) return -1;
  const length = view.getUint32(at, littleEndian);
  return length >= NLMSG_HEADER && length <= view.byteLength - at ? length : -1;
}

/**
 * Appends the row of a struct inet_diag_msg with its attributes, as the text of /proc/net/tcp has it, and returns the position of its
 * tcp_info, 0 for none. A malformed row is counted. This runs for every socket of every scan.
 */
function appendRow(view: DataView, body: number, end: number, littleEndian: boolean, rows: DiagRows): number {
  let info = 0;
  let infoLength = 0;
  for (let at = body + INET_DIAG_MSG; at + 4 <= end;) {
    const size = view.getUint16(at, littleEndian);
    const type = view.getUint16(at + 2, littleEndian);
    if (size < 4 || at + size > end || (type === INET_DIAG_PROTOCOL && view.getUint8(at + 4) !== IPPROTO_TCP)) {
      rows.malformed++;
      return 0;
    }
    if (type === INET_DIAG_INFO) {
      info = at + 4;
      infoLength = size - 4;
    }
    at += align(size);
  }
  const cookie = readLong(view, body + 44, littleEndian);
  if (cookie < 0) {
    rows.malformed++;
    return 0;
  }
  rows.reserve();
  const n = rows.count++;
  const state = view.getUint8(body + 1);
  const isListener = state === LISTEN;
  const isV4 = view.getUint8(body) === AF_INET;
  const inode = view.getUint32(body + 68, littleEndian);
  readAddress(view, body + 8, isV4, rows.local, n * 4);
  readAddress(view, body + 24, isV4, rows.remote, n * 4);
  rows.localPort[n] = view.getUint16(body + 4);
  rows.remotePort[n] = view.getUint16(body + 6);
  rows.state[n] = state;
  rows.receiveQueue[n] = view.getUint32(body + 56, littleEndian);
  // Of a listener it is the limit of its backlog, which procfs does not print.
  rows.sendQueue[n] = isListener ? 0 : view.getUint32(body + 60, littleEndian);
  // TIME_WAIT and SYN_RECV are not full sockets: their uid 0 does not mean root.
  const hasUid =
    inode !== 0 || (view.getUint8(body + 2) !== TIMER_TIME_WAIT && state !== TIME_WAIT && state !== SYN_RECV);
  rows.uid[n] = hasUid ? view.getUint32(body + 64, littleEndian) : NO_UID;
  rows.inode[n] = inode;
  rows.cookie[n] = cookie;
  rows.roundTripUs[n] = infoLength >= RTT + 4 ? view.getUint32(info + RTT, littleEndian) : 0;
  const minRtt = infoLength >= MIN_RTT + 4 ? view.getUint32(info + MIN_RTT, littleEndian) : UNKNOWN_RTT;
  rows.minRoundTripUs[n] = minRtt === UNKNOWN_RTT ? 0 : minRtt;
  if (infoLength < WITH_BYTES || isListener) {
    rows.hasTotals[n] = 0;
    rows.sentBytes[n] = 0;
    rows.receivedBytes[n] = 0;
    rows.retransmittedBytes[n] = 0;
    return 0;
  }
  const received = readLong(view, info + BYTES_RECEIVED, littleEndian);
  const sent = readLong(view, info + BYTES_SENT, littleEndian);
  const retransmitted = readLong(view, info + BYTES_RETRANS, littleEndian);
  const isValid = received >= 0 && sent >= 0 && retransmitted >= 0;
  rows.hasTotals[n] = isValid ? 1 : 0;
  rows.sentBytes[n] = isValid ? Math.max(0, sent - retransmitted) : 0;
  // The kernel reads tcpi_state after idiag_state, right before the totals: a FIN may arrive between the two.
  const isAfterFin = hasFin(state) || hasFin(view.getUint8(info));
  rows.receivedBytes[n] = isValid ? received - (received > 0 && isAfterFin ? 1 : 0) : 0;
  rows.retransmittedBytes[n] = isValid ? retransmitted : 0;
  return info;
}

/**
 * Whether `bytes_received` of an ended socket counts the FIN of its peer. The event has neither its last state nor its shutdown flags.
 * What it has was found with sockets that end in every way (test/support/sockets/endings.py):
 * - The receive queue counts an unread FIN as 1 byte. A closed socket does not read, so all that is left of an orderly end is a FIN.
 *   Wrong by 1 if the process closed with exactly one unread byte.
 * - More bytes in the queue are unread data, whose end sent or got an RST. A FIN behind them does not show: wrong by 1 unless the last
 *   scan saw CLOSE_WAIT.
 * - With an empty queue and without an acknowledged FIN of its own, the socket ended by an RST or a timeout in ESTABLISHED. Wrong by 1
 *   if that was in CLOSE_WAIT after the end was read, unless the last scan saw it.
 * - With an empty queue and an acknowledged FIN, either the peer closed first and the process read the end of the stream, or the
 *   process closed first and its TIME_WAIT row gets the FIN: the next scan decides. Wrong by 1 if an RST removed that row before, or if
 *   the process called shutdown(SHUT_WR), read to the end and closed between two scans.
 */
function finOf(view: DataView, info: number, littleEndian: boolean, rows: EndedSockets, i: number): number {
  const received = rows.receivedBytes[i] ?? 0;
  const unread = rows.receiveQueue[i] ?? 0;
  if (received === 0 || unread > 1) return FIN_ABSENT;
  if (unread === 1 || view.getUint32(info + DATA_SEGS_IN, littleEndian) === 0) return FIN_COUNTED;
  if (rows.sendQueue[i] !== 0) return FIN_ABSENT;
  // bytes_acked counts the SYN of the client and the FIN; `delivered` counts SYN or SYN-ACK, each segment and, if separate, the FIN.
  const beyondPayload = readLong(view, info + BYTES_ACKED, littleEndian) - (rows.sentBytes[i] ?? 0);
  const segments =
    view.getUint32(info + DATA_SEGS_OUT, littleEndian) - view.getUint32(info + TOTAL_RETRANS, littleEndian);
  const hasDeliveredFin = view.getUint32(info + DELIVERED, littleEndian) > segments + 1;
  return beyondPayload === 2 || (beyondPayload === 1 && hasDeliveredFin) ? FIN_UNLESS_TIME_WAIT : FIN_ABSENT;
}

/** Four words of an address; IPv4 as ::ffff:a.b.c.d. */
function readAddress(view: DataView, at: number, isV4: boolean, words: Uint32Array, to: number): void {
  words[to] = isV4 ? 0 : view.getUint32(at);
  words[to + 1] = isV4 ? 0 : view.getUint32(at + 4);
  words[to + 2] = isV4 ? V4_MAPPED : view.getUint32(at + 8);
  words[to + 3] = view.getUint32(isV4 ? at : at + 12);
}

/** An unsigned number of 64 bits; -1 if a double cannot hold it exactly. */
function readLong(view: DataView, at: number, littleEndian: boolean): number {
  const low = view.getUint32(littleEndian ? at : at + 4, littleEndian);
  const high = view.getUint32(littleEndian ? at + 4 : at, littleEndian);
  return high < 0x200000 ? high * 4294967296 + low : -1;
}

function align(length: number): number {
  return (length + 3) & ~3;
}
