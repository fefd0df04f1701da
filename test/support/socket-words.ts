import { formatAddress } from '../../src/common/address.ts';
import { NO_UID, type SocketRows } from '../../src/collect/net-tcp-udp-raw.ts';
import type { DiagRows } from '../../src/collect/sock-diag.ts';

/** Rows as text, sorted: state, queues, local, remote, uid, inode. */
export function rowsInWords(rows: SocketRows): string[] {
  const address = (words: Uint32Array, i: number): string => {
    const [a = 0, b = 0, c = 0, d = 0] = words.subarray(i * 4, i * 4 + 4);
    return formatAddress([a, b, c, d]);
  };
  return Array.from({ length: rows.count }, (_, i) =>
    [
      (rows.state[i] ?? 0).toString(16),
      `tx${rows.sendQueue[i]}`,
      `rx${rows.receiveQueue[i]}`,
      `${address(rows.local, i)}#${rows.localPort[i]}`,
      `${address(rows.remote, i)}#${rows.remotePort[i]}`,
      rows.uid[i] === NO_UID ? 'uid-' : `uid${rows.uid[i]}`,
      `inode${rows.inode[i]}`,
    ].join(' '),
  ).sort();
}

/** The totals of a live socket. */
export interface Totals {
  readonly state: number;
  readonly inode: number;
  readonly sent: number;
  readonly received: number;
  readonly retransmitted: number;
  readonly roundTripUs: number;
  readonly minRoundTripUs: number;
}

/** The totals of the rows that have some, by cookie. */
export function totalsInWords(rows: DiagRows): Record<string, Totals> {
  const numbers = (column: Float64Array | Uint32Array | Uint8Array, i: number): number => column[i] ?? -1;
  return Object.fromEntries(
    Array.from({ length: rows.count }, (_, i) => i)
      .filter((i) => rows.hasTotals[i] === 1)
      .map((i) => [
        numbers(rows.cookie, i),
        {
          state: numbers(rows.state, i),
          inode: numbers(rows.inode, i),
          sent: numbers(rows.sentBytes, i),
          received: numbers(rows.receivedBytes, i),
          retransmitted: numbers(rows.retransmittedBytes, i),
          roundTripUs: numbers(rows.roundTripUs, i),
          minRoundTripUs: numbers(rows.minRoundTripUs, i),
        },
      ]),
  );
}
