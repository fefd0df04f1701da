/** A socket of a sock_diag message; what is missing is 0. */
export interface DiagSocket {
  readonly family?: number;
  readonly state?: number;
  readonly timer?: number;
  readonly localPort?: number;
  readonly remotePort?: number;
  /** Four words; of IPv4 the first. */
  readonly local?: readonly number[];
  readonly remote?: readonly number[];
  readonly cookie?: bigint;
  readonly receiveQueue?: number;
  readonly sendQueue?: number;
  readonly uid?: number;
  readonly inode?: number;
  /** The length of its tcp_info; absent if null. */
  readonly infoLength?: number | null;
  readonly roundTripUs?: number;
  readonly minRoundTripUs?: number;
  readonly bytesReceived?: bigint;
  readonly bytesSent?: bigint;
  readonly bytesRetrans?: bigint;
}

const SOCK_DIAG_BY_FAMILY = 20;

/** A netlink message. */
export function netlinkMessage(
  type: number,
  body: Uint8Array,
  { littleEndian = true, flags = 0, sequence = 0 }: { littleEndian?: boolean; flags?: number; sequence?: number } = {},
): Uint8Array {
  const bytes = new Uint8Array(16 + ((body.length + 3) & ~3));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 16 + body.length, littleEndian);
  view.setUint16(4, type, littleEndian);
  view.setUint16(6, flags, littleEndian);
  view.setUint32(8, sequence, littleEndian);
  bytes.set(body, 16);
  return bytes;
}

/** The end of a dump. */
export function doneMessage(error = 0, littleEndian = true): Uint8Array {
  const body = new Uint8Array(4);
  new DataView(body.buffer).setInt32(0, error, littleEndian);
  return netlinkMessage(3, body, { littleEndian });
}

/** An attribute with its padding. */
export function attribute(type: number, value: Uint8Array, littleEndian = true): Uint8Array {
  const bytes = new Uint8Array(4 + ((value.length + 3) & ~3));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + value.length, littleEndian);
  view.setUint16(2, type, littleEndian);
  bytes.set(value, 4);
  return bytes;
}

/** A row of a dump, or an event. */
export function socketMessage(socket: DiagSocket, littleEndian = true, flags = 0): Uint8Array {
  const body = new Uint8Array(72);
  const view = new DataView(body.buffer);
  body[0] = socket.family ?? 2;
  body[1] = socket.state ?? 1;
  body[2] = socket.timer ?? 0;
  view.setUint16(4, socket.localPort ?? 0);
  view.setUint16(6, socket.remotePort ?? 0);
  for (const [i, word] of (socket.local ?? []).entries()) view.setUint32(8 + i * 4, word);
  for (const [i, word] of (socket.remote ?? []).entries()) view.setUint32(24 + i * 4, word);
  view.setBigUint64(44, socket.cookie ?? 1n, littleEndian);
  view.setUint32(56, socket.receiveQueue ?? 0, littleEndian);
  view.setUint32(60, socket.sendQueue ?? 0, littleEndian);
  view.setUint32(64, socket.uid ?? 0, littleEndian);
  view.setUint32(68, socket.inode ?? 0, littleEndian);
  const attributes = [attribute(10, Uint8Array.of(6), littleEndian)];
  if (socket.infoLength !== null) attributes.unshift(attribute(2, tcpInfo(socket, littleEndian), littleEndian));
  return netlinkMessage(SOCK_DIAG_BY_FAMILY, joined(body, ...attributes), { littleEndian, flags });
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function tcpInfo(socket: DiagSocket, littleEndian: boolean): Uint8Array {
  const info = new Uint8Array(280);
  const view = new DataView(info.buffer);
  view.setUint32(68, socket.roundTripUs ?? 0, littleEndian);
  view.setUint32(148, socket.minRoundTripUs ?? 0xffffffff, littleEndian);
  view.setBigUint64(128, socket.bytesReceived ?? 0n, littleEndian);
  view.setBigUint64(200, socket.bytesSent ?? 0n, littleEndian);
  view.setBigUint64(208, socket.bytesRetrans ?? 0n, littleEndian);
  return info.subarray(0, socket.infoLength ?? info.length);
}
