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
  const result: ScanResult = { at: 0, rows: [], connections: () => connections, coverage: '', lookups: null };
  const view = topView({ filters: [], by: 'endpoint', number: '999999', isChartFirst: true });
  const [heading, ...lines] = view.draw(result, { width: Infinity, paint: (text) => text });
  expect(heading?.text).toBe('130000 connections with a remote, 130000 endpoints');
  expect(lines.filter(({ text }) => text.endsWith('█'))).toHaveLength(130_000);
});
