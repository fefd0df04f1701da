import { describe, expect, test } from 'vitest';
import { logHashCost } from '../../src/serve/start-line.ts';
import { HashWalks } from '../../src/collect/hash-walks.ts';
import { createLog } from '../../src/common/log.ts';
import { Collector, Tree } from '../support/proc-tree.ts';

interface Reads {
  readonly namespaces: number;
  readonly rows: number;
  readonly ms: number;
}

/** Reads of tcp and tcp6 of so many namespaces. */
function scan(walks: HashWalks, groups: readonly Reads[]): void {
  walks.begin();
  let number = 0;
  for (const { namespaces, rows, ms } of groups)
    for (let i = 0; i < namespaces; i++, number++) for (let table = 0; table < 2; table++) walks.add(number, rows, ms);
}

describe('walks over the TCP hash', () => {
  test.each([
    {
      name: 'cost much on a node of 110 pods with a hash of 262,144 buckets',
      groups: [{ namespaces: 110, rows: 2, ms: 4.4 }],
      expected: { namespaces: 110, reads: 220, msPerRead: 4.4, msPerScan: 968 },
    },
    {
      name: 'cost as much for a namespace with many rows, whose reads take longer',
      groups: [
        { namespaces: 20, rows: 2, ms: 4 },
        { namespaces: 20, rows: 5_000, ms: 15 },
      ],
      expected: { namespaces: 40, reads: 80, msPerRead: 4, msPerScan: 320 },
    },
    {
      name: 'cost little with a hash for each namespace',
      groups: [{ namespaces: 500, rows: 2, ms: 0.05 }],
      expected: null,
    },
    { name: 'cost little in a few namespaces', groups: [{ namespaces: 3, rows: 2, ms: 9 }], expected: null },
    { name: 'are not what many rows cost', groups: [{ namespaces: 1, rows: 100_000, ms: 200 }], expected: null },
    {
      name: 'are not what a few reads cost during which the thread did not run',
      groups: [
        { namespaces: 106, rows: 2, ms: 0.1 },
        { namespaces: 4, rows: 2, ms: 90 },
      ],
      expected: null,
    },
    { name: 'cost nothing without a read', groups: [], expected: null },
  ])('$name', ({ groups, expected }) => {
    const walks = new HashWalks();
    scan(walks, groups);
    const cost = walks.takeCost();
    expect(
      cost && { ...cost, msPerRead: Number(cost.msPerRead.toFixed(6)), msPerScan: Math.round(cost.msPerScan) },
    ).toEqual(expected);
  });

  test('are reported once, at the first scan with a high cost', () => {
    const walks = new HashWalks();
    const told = [3, 3, 60, 3, 60].map((namespaces) => {
      scan(walks, [{ namespaces, rows: 1, ms: 5 }]);
      return walks.takeCost()?.namespaces ?? null;
    });
    expect(told).toEqual([null, null, 60, null, null]);
  });

  test('are measured by the clock that the tables are given', () => {
    using tree = new Tree('plain-host');
    let now = 0;
    const collector = new Collector(tree.root, () => (now += 60));
    collector.scan();
    const { msPerRead = 0, ...cost } = collector.tables.takeHashCost() ?? {};
    expect(cost).toEqual({ namespaces: 1, reads: 2, msPerScan: 2 * msPerRead });
    // A read asks the clock several times: it takes as many steps of it.
    expect([msPerRead > 0, msPerRead % 60]).toEqual([true, 0]);
    collector.scan();
    expect(collector.tables.takeHashCost()).toBeNull();
  });

  test('are logged with the figures of this host and the setting that helps', () => {
    const lines: string[] = [];
    const log = createLog({ level: 'info', format: 'json' }, { write: (line) => lines.push(line) });
    logHashCost(log, { namespaces: 110, reads: 220, msPerRead: 4.404, msPerScan: 968.9 });
    expect(lines.map((line): unknown => JSON.parse(line))).toEqual([
      expect.objectContaining({
        level: 'info',
        namespaces: 110,
        tcp_table_reads: 220,
        ms_per_read: 4.4,
        ms_per_scan: 969,
        advice: expect.stringContaining('net.ipv4.tcp_child_ehash_entries=4096') as string,
      }),
    ]);
  });
});
