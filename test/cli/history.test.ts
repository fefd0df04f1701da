import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { history, type HistoryOptions } from '../../src/cli/history.ts';
import { UsageError } from '../../src/common/errors.ts';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { parseConfig } from '../../src/config/config.ts';
import { renderOrigin } from '../../src/enrich/asn/cache.ts';
import { SqliteStore } from '../../src/store/sqlite.ts';
import { encodeEntry } from '../../src/unusual/records.ts';
import type { Entry } from '../../src/unusual/workload-memory.ts';

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
  const owner = { namespace: '', workload: 'cron.service' };
  const entry = (firstAt: number, lastAt: number): Entry => ({ firstAt, recordedAt: firstAt, lastAt });
  await store.writeRecords([
    encodeEntry(owner, 'operator', 'AS64500', entry(NOW - HOUR, NOW)),
    encodeEntry(owner, 'port', 'tcp/443', entry(NOW - HOUR, NOW)),
    encodeEntry({ namespace: 'shop', workload: 'web' }, 'client', 'AS13335', entry(NOW - 40 * HOUR, NOW - HOUR)),
    encodeEntry({ namespace: 'shop', workload: 'web' }, 'administrator', 'AS13335', entry(NOW - 48 * HOUR, NOW)),
    { key: 'unusual:1:["","x","operator","AS1"]', text: 'nothing' },
    { key: 'unusual:1:["","x","operator"]', text: '[1,1,1]' },
  ]);
  await store.writeFirstSeen([
    // What peerscope 0.1 wrote.
    { category: 'outbound', key: key('dig-9.18', '', '', 'outbound', '19281'), at: NOW - 72 * HOUR },
    { category: 'baseline', key: 'base:1:["curl","","cron.service"]', at: NOW - 99 * HOUR },
    { category: 'inbound', key: 'first:1:[1,2]', at: NOW },
    { category: 'inbound', key: 'first:1:{', at: NOW },
    { category: 'inbound', key: key('x', '', '', 'inbound', 'AS1'), at: NOW },
  ]);
  await store.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

async function run(
  options: Partial<HistoryOptions> = {},
  flags: Record<string, string> = { 'storage.path': folder },
): Promise<string> {
  let text = '';
  const write = (part: string): unknown => (text += part);
  const display = { width: 80, paint: (part: string) => part };
  const clock = { ...SYSTEM_CLOCK, now: () => NOW };
  const standard = { filters: [], sort: 'first:desc', output: 'table', display, clock } as const;
  const config = parseConfig(flags, {}, false);
  expect(await history(config, { ...standard, stdout: { write }, stderr: { write: () => 0 }, ...options })).toBe(0);
  return text.replaceAll(folder, 'FOLDER');
}

describe('history', () => {
  it('prints a table, newest first', async () => {
    expect(await run()).toBe(
      [
        'FIRST SEEN        LAST SEEN         DIRECTION  WORKLOAD      OPERATOR',
        '2026-09-15 07:00  2026-09-15 08:00  outbound   cron.service  AS64500 Example',
        '2026-09-13 08:00  2026-09-15 08:00  inbound    shop/web      AS13335 Cloudflare',
        '2026-09-12 08:00  2026-09-15 08:00  outbound   dig           AS19281 Quad9',
        '3 entries from the store in "FOLDER"',
        '',
      ].join('\n'),
    );
  });

  it('prints JSON and CSV', async () => {
    const row = {
      ...{ namespace: null, workload: 'cron.service', direction: 'outbound', asn: 64500 },
      as_name: 'EXAMPLE - Example, Inc.',
      first_seen: '2026-09-15T07:00:00Z',
      last_seen: '2026-09-15T08:00:00Z',
    };
    expect((JSON.parse(await run({ output: 'json' })) as unknown[])[0]).toEqual(row);
    expect(JSON.parse((await run({ output: 'jsonl' })).split('\n')[0] ?? '')).toEqual(row);
    expect((await run({ output: 'csv' })).split('\n').slice(0, 2)).toEqual([
      Object.keys(row).join(','),
      ',cron.service,outbound,64500,"EXAMPLE - Example, Inc.",2026-09-15T07:00:00Z,2026-09-15T08:00:00Z',
    ]);
  });

  it.each<[options: Partial<HistoryOptions>, workloads: string[]]>([
    [{}, ['cron.service', 'web', 'dig']],
    [{ since: '24h' }, ['cron.service']],
    [{ since: '2d' }, ['cron.service', 'web']],
    [{ since: '30m' }, []],
    [{ filters: ['direction=inbound'] }, ['web']],
    [{ filters: ['direction!=inbound'] }, ['cron.service', 'dig']],
    [{ filters: ['cloudflare'] }, ['web']],
    [{ filters: ['cron'] }, ['cron.service']],
    [{ filters: ['operator=example'] }, ['cron.service']],
    [{ filters: ['workload~^[cd]'] }, ['cron.service', 'dig']],
    [{ filters: ['namespace=shop'] }, ['web']],
    [{ filters: ['asn=19281'] }, ['dig']],
    [{ filters: ['pod~undefined|null'] }, []],
    [{ sort: 'workload' }, ['cron.service', 'dig', 'web']],
    [{ sort: 'First Seen' }, ['dig', 'web', 'cron.service']],
    [{ sort: 'operator' }, ['web', 'dig', 'cron.service']],
    [{ sort: 'asn:desc' }, ['cron.service', 'dig', 'web']],
  ])('with %j shows %j', async (options, workloads) => {
    const rows = JSON.parse(await run({ ...options, output: 'json' })) as { workload: string }[];
    expect(rows.map(({ workload }) => workload)).toEqual(workloads);
  });

  it.each<[options: Partial<HistoryOptions>, message: string]>([
    [{ since: 'yesterday' }, 'Cannot use --since "yesterday": must be a duration such as 90m, 24h or 7d'],
    [{ sort: 'size' }, 'Cannot use --sort "size": "size" must be one of namespace'],
    [{ filters: ['x=1'] }, 'Cannot use filter "x=1"'],
  ])('rejects %j', async (options, message) => {
    await expect(run(options)).rejects.toThrow(UsageError);
    await expect(run(options)).rejects.toThrow(message);
  });

  it('says where it looked for a store', async () => {
    const empty = mkdtempSync(join(tmpdir(), 'peerscope-history-'));
    await expect(run({}, { 'storage.path': empty })).rejects.toThrow(`Cannot read the history: no store in "${empty}"`);
    rmSync(empty, { recursive: true });
  });
});
