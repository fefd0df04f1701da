import { expect, test } from 'vitest';
import { ConnectionTable } from '../../src/collect/connection-table.ts';
import { DEFAULT_EPHEMERAL_PORTS } from '../../src/collect/direction.ts';
import { LISTEN, parseSocketRows, SocketRows } from '../../src/collect/net-tcp-udp-raw.ts';
import { printRow } from '../support/kernel-rows.ts';

const FACTS = { ownOf: () => null, ephemeralPortsOf: () => DEFAULT_EPHEMERAL_PORTS };

/** So many listeners of a user in a namespace. */
interface Crowd {
  readonly netns?: number;
  readonly uid?: number;
  readonly rows: number;
}

/** The connections of each crowd after a few scans with room for that number. */
function admitted(
  most: number | (() => number),
  crowds: readonly Crowd[],
  tenantOf: (netns: number) => string = () => '',
): number[] {
  const table: ConnectionTable = new ConnectionTable(
    1,
    () => null,
    () => (typeof most === 'number' ? most : most()) - table.size,
  );
  const batches = crowds.map(({ uid = 0, rows: count }, crowd) => {
    const rows = new SocketRows(count);
    const text = Array.from({ length: count }, (_, i) =>
      printRow({
        table: 'tcp',
        state: LISTEN,
        local: `127.${crowd}.${i >> 8}.${i & 255}:80`,
        uid,
        inode: 1 + crowd * 100_000 + i,
      }),
    );
    const bytes = Buffer.from(text.join(''));
    parseSocketRows(bytes, 0, bytes.length, 4, true, rows);
    return rows;
  });
  for (let scan = 1; scan <= 3; scan++) {
    table.begin(scan, tenantOf);
    for (const [crowd, rows] of batches.entries()) table.merge(crowds[crowd]?.netns ?? 0, 0, rows);
    table.end(FACTS, () => false);
    expect(table.size + table.refused).toBe(crowds.reduce((sum, { rows }) => sum + rows, 0));
  }
  const held = crowds.map(() => 0);
  for (const i of table.indexes()) {
    const crowd = Math.floor(((table.inode[i] ?? 0) - 1) / 100_000);
    held[crowd] = (held[crowd] ?? 0) + 1;
  }
  return held;
}

test.each<{ name: string; most: number; crowds: Crowd[]; tenantOf?: (netns: number) => string; expected: number[] }>([
  { name: 'is for all while there is enough', most: 9_000, crowds: [{ rows: 3_000 }], expected: [3_000] },
  { name: 'leaves a ninth to others', most: 9_000, crowds: [{ rows: 20_000 }], expected: [8_000] },
  {
    name: 'is there for a user who comes after one with too many',
    most: 9_000,
    crowds: [
      { uid: 1_000, rows: 20_000 },
      { uid: 1_001, rows: 500 },
    ],
    expected: [8_000, 500],
  },
  {
    name: 'is shared by the many users that one user can have',
    most: 9_000,
    crowds: [...Array.from({ length: 20 }, (_, i) => ({ uid: 100_000 + i, rows: 1_000 })), { uid: 1_001, rows: 500 }],
    expected: [...Array.from({ length: 8 }, () => 1_000), ...Array.from({ length: 12 }, () => 0), 500],
  },
  {
    name: 'is shared by the many namespaces of a tenant',
    most: 9_000,
    crowds: [
      ...Array.from({ length: 20 }, (_, netns) => ({ netns, uid: netns, rows: 1_000 })),
      { netns: 20, rows: 500 },
    ],
    tenantOf: (netns) => (netns < 20 ? 'pod' : 'other'),
    expected: [...Array.from({ length: 8 }, () => 1_000), ...Array.from({ length: 12 }, () => 0), 500],
  },
])('the room for connections $name', ({ most, crowds, tenantOf, expected }) => {
  expect(admitted(most, crowds, tenantOf)).toEqual(expected);
});

test('the room for connections is measured again while they are counted', () => {
  let measures = 0;
  // Something else takes the memory meanwhile.
  const most = (): number => (measures++ === 0 ? 9_000 : 1_000);
  expect(admitted(most, [{ rows: 5_000 }])).toEqual([1_024]);
});
