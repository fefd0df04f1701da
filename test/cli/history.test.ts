import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { history, type HistoryOptions } from '../../src/cli/history.ts';
import { UsageError } from '../../src/common/errors.ts';
import { parseConfig } from '../../src/config/config.ts';
import { renderOrigin } from '../../src/enrich/asn/cache.ts';
import { SqliteStore } from '../../src/store/sqlite.ts';

const NOW = Date.parse('2026-09-15T08:00:00Z');
const HOUR = 3_600_000;
const folder = mkdtempSync(join(tmpdir(), 'peerscope-history-'));
const key = (...fields: string[]): string => `first:1:${JSON.stringify(fields)}`;

beforeAll(async () => {
  const store = SqliteStore.open({ directory: folder, now: () => NOW, report: (line) => expect.fail(line) });
  const origin = { asns: [64500], name: 'EXAMPLE - Example, Inc.', asCountry: null, prefix: null, registry: null };
  const times = { registryCountry: null, allocated: null, askedAt: NOW, freshUntil: NOW + HOUR, source: 'cymru' };
  await store.write([
    { key: 'asn:1:192.0.2.0/24', text: renderOrigin({ ...origin, ...times }), keepUntil: NOW + HOUR },
  ]);
  await store.writeFirstSeen([
    { category: 'outbound', key: key('curl', '', 'cron.service', 'outbound', '64500'), at: NOW - HOUR },
    { category: 'inbound', key: key('nginx', 'shop', 'web', 'inbound', '13335'), at: NOW - 48 * HOUR },
    { category: '', key: key('dig', '', '', '', '0'), at: NOW - 72 * HOUR },
    { category: 'baseline', key: 'base:1:["curl","","cron.service"]', at: NOW - 99 * HOUR },
    { category: 'inbound', key: 'first:1:[1,2]', at: NOW },
    { category: 'inbound', key: 'first:1:{', at: NOW },
    { category: 'inbound', key: key('x', '', '', 'inbound', 'AS1'), at: NOW },
  ]);
  await store.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

function run(
  options: Partial<HistoryOptions> = {},
  flags: Record<string, string> = { 'storage.path': folder },
): string {
  let text = '';
  const write = (part: string): unknown => (text += part);
  const display = { width: 80, paint: (part: string) => part };
  const standard = { filters: [], sort: 'first:desc', output: 'table', display, now: NOW } as const;
  const config = parseConfig(flags, {}, false);
  expect(history(config, { ...standard, stdout: { write }, stderr: { write: () => 0 }, ...options })).toBe(0);
  return text.replaceAll(folder, 'FOLDER');
}

describe('history', () => {
  it('prints a table, newest first', () => {
    expect(run()).toBe(
      [
        'FIRST SEEN           LAST SEEN            DIRECTION  PROCESS  OPERATOR',
        '2026-09-15 07:00:00  2026-09-15 08:00:00  outbound   curl     AS64500 Example',
        '2026-09-13 08:00:00  2026-09-15 08:00:00  inbound    nginx    AS13335 Cloudflare',
        '2026-09-12 08:00:00  2026-09-15 08:00:00  -          dig      not announced',
        '3 entries from the store in "FOLDER"',
        '',
      ].join('\n'),
    );
  });

  it('prints JSON and CSV', () => {
    const row = {
      ...{ process: 'curl', namespace: null, workload: 'cron.service', direction: 'outbound', asn: 64500 },
      as_name: 'EXAMPLE - Example, Inc.',
      first_seen: '2026-09-15T07:00:00.000Z',
      last_seen: '2026-09-15T08:00:00.000Z',
    };
    expect((JSON.parse(run({ output: 'json' })) as unknown[])[0]).toEqual(row);
    expect(JSON.parse(run({ output: 'jsonl' }).split('\n')[0] ?? '')).toEqual(row);
    expect(run({ output: 'csv' }).split('\n').slice(0, 2)).toEqual([
      Object.keys(row).join(','),
      'curl,,cron.service,outbound,64500,"EXAMPLE - Example, Inc.",2026-09-15T07:00:00.000Z,2026-09-15T08:00:00.000Z',
    ]);
  });

  it.each<[options: Partial<HistoryOptions>, processes: string[]]>([
    [{}, ['curl', 'nginx', 'dig']],
    [{ since: '24h' }, ['curl']],
    [{ since: '2d' }, ['curl', 'nginx']],
    [{ since: '30m' }, []],
    [{ filters: ['direction=inbound'] }, ['nginx']],
    [{ filters: ['direction!=inbound'] }, ['curl', 'dig']],
    [{ filters: ['cloudflare'] }, ['nginx']],
    [{ filters: ['operator=example'] }, ['curl']],
    [{ filters: ['process~^[cd]'] }, ['curl', 'dig']],
    [{ filters: ['asn=0'] }, ['dig']],
    [{ filters: ['pod~undefined|null'] }, []],
    [{ sort: 'process' }, ['curl', 'dig', 'nginx']],
    [{ sort: 'First Seen' }, ['dig', 'nginx', 'curl']],
    [{ sort: 'operator' }, ['nginx', 'curl', 'dig']],
    [{ sort: 'asn:desc' }, ['curl', 'nginx', 'dig']],
  ])('with %j shows %j', (options, processes) => {
    const rows = JSON.parse(run({ ...options, output: 'json' })) as { process: string }[];
    expect(rows.map(({ process }) => process)).toEqual(processes);
  });

  it.each<[options: Partial<HistoryOptions>, message: string]>([
    [{ since: 'yesterday' }, 'Cannot use --since "yesterday": must be a duration such as 90m, 24h or 7d'],
    [{ sort: 'size' }, 'Cannot use --sort "size": "size" must be one of process'],
    [{ filters: ['x=1'] }, 'Cannot use filter "x=1"'],
  ])('rejects %j', (options, message) => {
    expect(() => run(options)).toThrow(UsageError);
    expect(() => run(options)).toThrow(message);
  });

  it('says where it looked for a store', () => {
    const empty = mkdtempSync(join(tmpdir(), 'peerscope-history-'));
    expect(() => run({}, { 'storage.path': empty })).toThrow(`Cannot read the history: no store in "${empty}"`);
    expect(() => run({}, { 'storage.url': 'redis://:secret@127.0.0.1:1' })).toThrow(
      /^Cannot read the history from "redis:.*127\.0\.0\.1:1.*": only a storage folder can be listed$/,
    );
    rmSync(empty, { recursive: true });
  });
});
