import { expect, it } from 'vitest';
import type { ScannedConnection, ScanResult } from '../../src/cli/live-scan.ts';
import { topView } from '../../src/cli/top.ts';
import { parse } from '../../src/index.ts';

it('shows any number of entries', { timeout: 60_000 }, () => {
  const [row] = parse('tcp ESTAB 0 0 192.0.2.1:1 192.0.2.2:2').rows;
  if (!row) throw new Error('no row');
  const connections = Array.from({ length: 130_000 }, (_, number): ScannedConnection => {
    return { row, serves: false, countedAs: null, number, endpoint: () => String(number) };
  });
  const result: ScanResult = {
    at: 0,
    rows: [],
    connections: () => connections,
    coverage: '',
    lookups: null,
    withDetails: (row) => row,
  };
  const view = topView({ filters: [], by: 'endpoint', limit: '999999', isChartFirst: true });
  const [heading, ...lines] = view.draw(result, { width: Infinity, paint: (text) => text });
  expect(heading?.text).toBe('130000 connections with a remote, 130000 endpoints');
  expect(lines.filter(({ text }) => text.endsWith('█'))).toHaveLength(130_000);
});

it.each([
  [9, 9, []],
  [10, 10, []],
  [11, 10, ['  and 1 more connection']],
  [200, 10, ['  and 190 more connections']],
])('shows the first ten of %i connections of a process', (count, shown, more) => {
  const rows = parse(
    Array.from(
      { length: count },
      (_, i) => `tcp ESTAB 0 0 192.0.2.1:${i + 1} 192.0.2.2:443 users:(("curl",pid=7,fd=3))`,
    ).join('\n'),
  ).rows;
  const connections = rows.map((row, number): ScannedConnection => {
    return { row, serves: false, countedAs: null, number, endpoint: () => '' };
  });
  const result: ScanResult = {
    at: 0,
    rows,
    connections: () => connections,
    coverage: '',
    lookups: null,
    withDetails: (row) => row,
  };
  const view = topView({ filters: [], by: 'process', limit: '10', isChartFirst: false });
  const lines = view.draw(result, { width: 80, paint: (text) => text }).map(({ text }) => text);
  expect(lines.filter((line) => line.includes('192.0.2.2'))).toHaveLength(shown);
  expect(lines.filter((line) => line.startsWith('  and'))).toEqual(more);
  expect((view.objects(result)[0] as { rows: unknown[] }).rows).toHaveLength(count);
});

it('begins with what is unusual', () => {
  const unusual = (): string[] => ['Unusual: shop/web (critical, 3 points): AS64501, process/nc\u001b'];
  const result: ScanResult = {
    at: 0,
    rows: [],
    connections: () => [],
    coverage: '',
    lookups: null,
    withDetails: (row) => row,
    unusual,
  };
  for (const isChartFirst of [true, false]) {
    const view = topView({ filters: [], by: 'process', limit: '10', isChartFirst });
    const texts = view.draw(result, { width: 50, paint: (text) => text }).map(({ text }) => text);
    expect(texts.slice(0, 3)).toEqual(['Unusual: shop/web (critical, 3 points): AS64501,', 'process/nc\ufffd', '']);
  }
});
