import { NO_UID } from '../collect/net-tcp-udp-raw.ts';
import type { EndedSockets } from '../collect/sock-diag.ts';
import type { Address } from '../model.ts';

/** Copies a row to the end of other rows. Returns its new number. */
export function copyRow(from: EndedSockets, row: number, to: EndedSockets): number {
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
  return n;
}

/** The local address of a row. */
export function localAddress({ local }: EndedSockets, row: number): Address {
  const at = row * 4;
  return [local[at] ?? 0, local[at + 1] ?? 0, local[at + 2] ?? 0, local[at + 3] ?? 0];
}
