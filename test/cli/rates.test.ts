import { describe, expect, it } from 'vitest';
import type { ScannedConnection, ScanResult } from '../../src/cli/live-scan.ts';
import { Rates, type Traffic } from '../../src/cli/rates.ts';
import { columnsOf } from '../../src/cli/terminal/row-columns.ts';
import { layTable } from '../../src/cli/terminal/table.ts';
import { cellsOf } from '../../src/cli/terminal/width.ts';
import { topView, type TopKey } from '../../src/cli/top.ts';
import { parse } from '../../src/index.ts';
import type { Row } from '../../src/model.ts';

const [ROW] = parse('tcp ESTAB 0 0 192.0.2.5:40000 198.51.100.7:443 users:(("curl",pid=7,fd=3))').rows;

interface Given extends Partial<Row> {
  readonly number: number;
}

function scanned(at: number, ...given: readonly Given[]): ScanResult {
  const rows = given.map((fields) => ({ ...(ROW as Row), network: 'public', ...fields }));
  const connections = rows.map((row, i): ScannedConnection => {
    const number = given[i]?.number ?? 0;
    return { row, serves: false, countedAs: null, number, endpoint: () => String(number) };
  });
  return { at, rows, connections: () => connections, coverage: 'all', lookups: null, withDetails: (row) => row };
}

/** The rates of the last scan. */
function rates(...scans: readonly ScanResult[]): (Traffic | null)[] | null {
  const one = new Rates();
  let last: (Traffic | null)[] | null = null;
  for (const scan of scans) {
    const rateOf = one.of(scan);
    expect(one.of(scan), 'is the same when drawn again').toBe(rateOf);
    last = rateOf && scan.connections().map(rateOf);
  }
  return last;
}

const bytes = (sent_bytes: number | null, received_bytes: number | null): Partial<Row> => ({
  sent_bytes,
  received_bytes,
});
const OPENED = { opened_at: '2026-01-01T00:00:01.000Z' };

describe('bytes a second', () => {
  it.each<[name: string, scans: readonly ScanResult[], expected: (Traffic | null)[] | null]>([
    ['the first scan', [scanned(0, { number: 1, ...bytes(5, 5) })], null],
    [
      'the difference of two scans',
      [scanned(0, { number: 1, ...bytes(1000, 10) }), scanned(2000, { number: 1, ...bytes(3000, 10) })],
      [{ sent: 1000, received: 0 }],
    ],
    [
      'a connection that opened between them',
      [scanned(0), scanned(500, { number: 1, ...bytes(100, 50), ...OPENED })],
      [{ sent: 200, received: 100 }],
    ],
    ['a connection that may be older', [scanned(0), scanned(500, { number: 1, ...bytes(100, 50) })], [null]],
    [
      'a number that is used again',
      [
        scanned(0, { number: 1, ...bytes(1, 1) }),
        scanned(1000, { number: 1, ...bytes(9, 9), local_port: 40_001, ...OPENED }),
      ],
      [{ sent: 9, received: 9 }],
    ],
    [
      'totals that fall',
      [scanned(0, { number: 1, ...bytes(9, 9) }), scanned(1000, { number: 1, ...bytes(5, 9) })],
      [null],
    ],
    ['no totals', [scanned(0, { number: 1 }), scanned(1000, { number: 1 })], [null]],
    [
      'totals at the second scan only',
      [scanned(0, { number: 1 }), scanned(1000, { number: 1, ...bytes(5, 5) })],
      [null],
    ],
    [
      'a clock that stands still',
      [scanned(0, { number: 1, ...bytes(5, 5) }), scanned(0, { number: 1, ...bytes(6, 6) })],
      null,
    ],
  ])('of %s', (_, scans, expected) => {
    expect(rates(...scans)).toEqual(expected);
  });
});

describe('top', () => {
  const MI = 1 << 20;
  const first = scanned(
    0,
    { number: 1, process: 'chatty', pid: 1, ...bytes(5 * MI, 0) },
    { number: 2, process: 'busy', pid: 2, ...bytes(1000, 0), asn: 64_500, as_name: 'EXAMPLE-NETWORKS-OF-A-LONG-NAME' },
    { number: 3, process: 'busy', pid: 2, ...bytes(1000, 0) },
    { number: 4, process: 'unknown', pid: 3 },
  );
  const second = scanned(
    1000,
    ...first.rows.map((row, i) => ({ ...row, number: i + 1, ...(i === 2 ? bytes(1000 + 3 * MI, 2048) : {}) })),
  );
  const drawn = (scans: readonly ScanResult[], width: number, by: TopKey = 'process'): string[] => {
    const view = topView({ filters: [], by, limit: '10', isChartFirst: false });
    const lines = scans.map((scan) => view.draw(scan, { width, paint: (text) => text }).map(({ text }) => text));
    return lines.at(-1) ?? [];
  };

  it('sorts by the bytes of live connections at the first scan', () => {
    const lines = drawn([first], Infinity);
    expect(lines.filter((line) => /^\w+ {2}\d/.test(line))).toEqual([
      'chatty  1 connection: 1 established',
      'busy  2 connections: 2 established',
      'unknown  1 connection: 1 established',
    ]);
    expect(lines.join('\n')).toContain('\n  5.0 MiB sent, 0 B received\n');
    expect(lines.join('\n')).toContain('SENT  RECEIVED\n');
    expect(lines).toContainEqual(
      expect.stringMatching(/^4 connections with a remote, 3 processes, 5\.0 MiB sent, 0 B received$/),
    );
    expect(lines).toContainEqual(expect.stringMatching(/^chatty {3}5\.0 MiB {2}█{20,}$/));
    expect(lines).toContainEqual('unknown      0 B');
  });

  it('sorts by bytes a second from the second scan on', () => {
    const lines = drawn([first, second], Infinity);
    expect(lines[0]).toBe('busy  2 connections: 2 established');
    expect(lines[1]).toBe('  3.0 MiB/s sent, 2.0 KiB/s received');
    expect(lines[3]).toMatch(/SENT\/S {2}RECEIVED\/S$/);
    expect(lines[4]).toMatch(/3\.0 MiB {5}2\.0 KiB$/);
    expect(drawn([first, second], Infinity, 'asn').at(-3)).toMatch(/^public .* 3\.0 MiB\/s {2}█+$/);
  });

  it('has totals and rates in its objects', () => {
    const view = topView({ filters: [], by: 'process', limit: '10', isChartFirst: false });
    const none = { sent_bytes_per_second: null, received_bytes_per_second: null };
    expect(view.objects(first)[1]).toMatchObject({ process: 'busy', sent_bytes: 2000, received_bytes: 0, ...none });
    expect(view.objects(first)[2]).toMatchObject({
      process: 'unknown',
      sent_bytes: null,
      received_bytes: null,
      ...none,
    });
    expect(view.objects(second)[0]).toMatchObject({
      process: 'busy',
      sent_bytes: 2000 + 3 * MI,
      sent_bytes_per_second: 3 * MI,
    });
  });

  it.each([80, 200])('fits %i columns', (width) => {
    for (const by of ['process', 'asn'] as const)
      for (const line of drawn([first, second], width, by)) expect(cellsOf(line)).toBeLessThanOrEqual(width);
    expect(drawn([first, second], width).join('\n')).toMatch(/ SENT\/S {2}RECEIVED\/S\n/);
  });
});

describe('list -o wide', () => {
  it('shows bytes and round-trip times in units', () => {
    const columns = columnsOf({ isWide: true, isNumeric: false, fields: null });
    const rows = scanned(
      0,
      { number: 1 },
      { number: 2, ...bytes(1_258_291, 0), retransmitted_bytes: 1023, round_trip_seconds: 0.0124 },
    ).rows;
    const { title, lines } = layTable(columns, rows, { width: Infinity, paint: (text) => text });
    expect(title).toMatch(/SENT {2}RECEIVED {2}RETRANSMITTED {2}ROUND TRIP/);
    expect(lines[0]).toMatch(/ - +- +- +- /);
    expect(lines[1]).toMatch(/ 1\.2 MiB +0 B +1023 B +12 ms /);
  });
});
