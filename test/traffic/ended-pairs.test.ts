import { expect, test } from 'vitest';
import { EndedSockets, FIN_ABSENT, FIN_COUNTED, FIN_UNLESS_TIME_WAIT } from '../../src/collect/sock-diag.ts';
import { EndedPairs } from '../../src/traffic/ended-pairs.ts';

interface End {
  readonly ports: readonly [local: number, remote: number];
  readonly sent: number;
  /** Without a FIN, unless `fin` is FIN_ABSENT and there is one. */
  readonly received: number;
  readonly fin: number;
  readonly at?: number;
}

function batchOf(...ends: readonly End[]): EndedSockets {
  const rows = new EndedSockets(ends.length || 1);
  for (const [row, { ports, sent, received, fin, at = 0 }] of ends.entries()) {
    [rows.localPort[row], rows.remotePort[row]] = ports;
    rows.sentBytes[row] = sent;
    rows.receivedBytes[row] = received;
    rows.fin[row] = fin;
    rows.hasTotals[row] = 1;
    rows.receivedAt[row] = at;
    rows.count++;
  }
  return rows;
}

/** What each end received, by local port, batch by batch. */
function pass(...batches: readonly EndedSockets[]): Record<number, readonly [received: number, fin: number]>[] {
  const pairs = new EndedPairs();
  return batches.map((batch, i) => {
    const taken: Record<number, readonly [number, number]> = {};
    pairs.pass(batch, i < batches.length - 1, (rows, row) => {
      taken[rows.localPort[row] ?? 0] = [rows.receivedBytes[row] ?? 0, rows.fin[row] ?? 0];
    });
    return taken;
  });
}

const server = { ports: [80, 5000], sent: 700, received: 100, fin: FIN_UNLESS_TIME_WAIT } as const;

test.each([
  ['a FIN that was counted', 699, FIN_UNLESS_TIME_WAIT, 700],
  ['a FIN that a TIME_WAIT row got', 700, FIN_UNLESS_TIME_WAIT, 700],
  ['a FIN behind unread data', 701, FIN_ABSENT, 700],
  ['no FIN', 700, FIN_ABSENT, 700],
])('the payload is what the other end sent: %s', (_, received, fin, expected) => {
  // The server sent 700 bytes; `received` is after the parser has left out a FIN that may be counted.
  const client = { ports: [5000, 80], sent: 100, received, fin } as const;
  expect(pass(batchOf(client, server))).toEqual([{ 5000: [expected, FIN_COUNTED], 80: [100, FIN_COUNTED] }]);
});

test.each([
  ['another size', { ports: [5000, 80], sent: 100, received: 500, fin: FIN_UNLESS_TIME_WAIT }],
  ['other ports', { ports: [5001, 80], sent: 100, received: 700, fin: FIN_UNLESS_TIME_WAIT }],
] as const)('an end without its other end stays as it is: %s', (_, client) => {
  expect(pass(batchOf(client, server))[0]?.[client.ports[0]]).toEqual([client.received, FIN_UNLESS_TIME_WAIT]);
});

test('an uncertain end waits for the next batch if its other end may be in that', () => {
  const client = { ports: [5000, 80], sent: 100, received: 699, fin: FIN_UNLESS_TIME_WAIT, at: 1_000 } as const;
  const early = { ports: [5002, 80], sent: 100, received: 699, fin: FIN_UNLESS_TIME_WAIT, at: 800 } as const;
  expect(pass(batchOf(early, client), batchOf({ ...server, at: 1_002 }))).toEqual([
    { 5002: [699, FIN_UNLESS_TIME_WAIT] },
    { 5000: [700, FIN_COUNTED], 80: [100, FIN_COUNTED] },
  ]);
});
