import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { currentUser, decide, type DecideOptions } from '../../src/cli/decide.ts';
import { ExporterReports, unusualLines } from '../../src/cli/exporter-reports.ts';
import { unusual } from '../../src/cli/unusual.ts';
import { UsageError } from '../../src/common/errors.ts';
import { EMPTY_RULES, parseRules } from '../../src/config/rules.ts';
import { SqliteStore } from '../../src/store/sqlite.ts';
import { encodeDeclaration, encodeReport } from '../../src/unusual/records.ts';
import type { Report } from '../../src/unusual/evidence.ts';

const NOW = Date.parse('2026-11-30T20:00:00Z');
const MINUTE = 60_000;
const WEB = { namespace: 'shop', workload: 'web' };
const clock = { now: () => NOW, monotonic: () => NOW, after: () => () => undefined };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-unusual-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const report = (what: string, given: Partial<Report> = {}): { key: string; text: string } =>
  encodeReport(
    {
      ...{ owner: WEB, kind: 'operator', what, process: 'curl', reach: 'none', points: 2, reason: 'First call.' },
      ...{ at: NOW - 3 * MINUTE, recordedAt: NOW - 2 * MINUTE },
      ...given,
    },
    'n1',
  );

/** Writes to the store of an exporter. */
async function stored(...records: readonly { key: string; text: string }[]): Promise<void> {
  const store = SqliteStore.open({ directory: folder, now: clock.now, report: (message) => expect.fail(message) });
  await store.writeRecords(records);
  await store.close();
}

interface Printed {
  code: number;
  stdout: string;
  stderr: string;
}

type Io = Pick<DecideOptions, 'stdout' | 'stderr'>;
const io = (printed: Printed): Io => ({
  stdout: { write: (text: string) => (printed.stdout += text) },
  stderr: { write: (text: string) => (printed.stderr += text.replaceAll(folder, 'FOLDER')) },
});

async function show(
  output: 'table' | 'json' = 'table',
  text = '',
  storagePath: string | null = folder,
): Promise<Printed> {
  const printed = { code: -1, stdout: '', stderr: '' };
  const rules = parseRules(text, 'peerscope.yaml');
  const options = { output, rules, storagePath, storageServer: null, isStorageGiven: true, clock, ...io(printed) };
  printed.code = await unusual(options);
  return printed;
}

async function say(isAccepted: boolean, args: readonly string[], why?: string, storagePath = folder): Promise<Printed> {
  const printed = { code: -1, stdout: '', stderr: '' };
  const options = {
    isAccepted,
    by: 'alice@host',
    storagePath,
    storageServer: null,
    isStorageGiven: true,
    clock,
    ...io(printed),
  };
  printed.code = await decide(args, { ...options, ...(why !== undefined && { why }) });
  return printed;
}

describe('unusual', () => {
  test('shows reports of the last hour with the most unusual workload first, and exits with 3', async () => {
    await stored(
      report('AS64501', { points: 1, owner: { namespace: '', workload: 'nginx.service' }, process: '' }),
      report('AS64502'),
      report('process/nc', { kind: 'process', points: 1, reason: 'nc called out for the first time.' }),
      report('AS64503', { recordedAt: NOW - 61 * MINUTE }),
    );
    expect(await show()).toEqual({
      code: 3,
      stderr: '',
      stdout: `SEVERITY  WORKLOAD       POINTS  WHAT        PROCESS  FIRST SEEN            NODE  REASON
critical  shop/web            2  AS64502     curl     2026-11-30T19:57:00Z  n1    First call.
critical  shop/web            1  process/nc  curl     2026-11-30T19:57:00Z  n1    nc called out for the first time.
info      nginx.service       1  AS64501     -        2026-11-30T19:57:00Z  n1    First call.
`,
    });
  });

  test('with nothing exits with 0, and lists what is declared normal', async () => {
    await stored(encodeDeclaration({ namespace: 'shop', workload: 'api' }, 'tcp/5432', NOW));
    await say(true, ['shop/web', 'AS64501'], 'we moved');
    await say(false, ['shop/web', 'AS64502']);
    const rules = 'expected: [{ workload: cron.service, what: "AS1, AS2", until: 2026-11-29, why: backup }]';
    expect(await show('table', rules)).toEqual({
      code: 0,
      stderr: '',
      stdout: `Nothing is unusual.

Decisions
WORKLOAD  WHAT     DECISION    AT                    BY          WHY
shop/web  AS64501  normal      2026-11-30T20:00:00Z  alice@host  we moved
shop/web  AS64502  not normal  2026-11-30T20:00:00Z  alice@host  -

Expected
WORKLOAD      WHAT      BY             UNTIL                         WHY
cron.service  AS1, AS2  configuration  2026-11-30T00:00:00Z (ended)  backup
shop/api      tcp/5432  annotation     -                             -
`,
    });
  });

  test('prints JSON', async () => {
    await stored(report('AS64502'));
    await say(true, ['shop/web', 'AS64501']);
    const { code, stdout } = await show('json', 'expected: [{ workload: shop/web, what: AS1 }]');
    expect(code).toBe(3);
    expect(JSON.parse(stdout)).toEqual({
      at: '2026-11-30T20:00:00Z',
      unusual: [
        {
          ...{ ...WEB, severity: 'warning', points: 2 },
          evidence: [
            {
              ...{
                kind: 'operator',
                what: 'AS64502',
                process: 'curl',
                reach: 'none',
                points: 2,
                reason: 'First call.',
              },
              ...{ first_seen_at: '2026-11-30T19:57:00Z', reported_at: '2026-11-30T19:58:00Z', node: 'n1' },
            },
          ],
        },
      ],
      decisions: [{ ...WEB, what: 'AS64501', accepted: true, at: '2026-11-30T20:00:00Z', by: 'alice@host', why: null }],
      expected: [{ source: 'configuration', ...WEB, what: ['AS1'], until: null, why: null }],
    });
  });

  test.each<[name: string, what: string, rules: string, given: Partial<Report>, isShown: boolean]>([
    ['accepted', 'AS64501', '', {}, false],
    ['in the configuration', 'AS64502', 'expected: [{ workload: shop/web, what: AS64502 }]', {}, false],
    ['in the configuration of another workload', 'AS64502', 'expected: [{ workload: web, what: AS64502 }]', {}, true],
    [
      'in the configuration, but ended',
      'AS9',
      'expected: [{ workload: shop/web, what: AS9, until: 2026-01-01 }]',
      {},
      true,
    ],
    ['in the configuration, but distrusted', 'AS64503', 'expected: [{ workload: shop/web, what: AS64503 }]', {}, true],
    ['a call to the metadata service', 'metadata', '', { kind: 'metadata' }, true],
  ])('what is %s', async (_name, what, rules, given, isShown) => {
    await stored(report(what, given));
    await say(true, ['shop/web', 'AS64501']);
    await say(false, ['shop/web', 'AS64503']);
    expect((await show('table', rules)).code).toBe(isShown ? 3 : 0);
  });

  test('shows a suspect even if it is accepted', async () => {
    await stored(report('AS16509'));
    await say(true, ['shop/web', 'AS16509']);
    const printed = { code: -1, stdout: '', stderr: '' };
    const rules = { ...EMPTY_RULES, suspects: [{ file: 'a', operators: ['AS14618'] }] };
    const options = {
      output: 'table' as const,
      rules,
      storagePath: folder,
      storageServer: null,
      isStorageGiven: true,
      clock,
      ...io(printed),
    };
    expect(await unusual(options)).toBe(3);
  });
});

test('top names the most unusual workloads first', async () => {
  const owners = Array.from({ length: 7 }, (_, i) => ({ namespace: 'shop', workload: `w${i}` }));
  await stored(
    ...owners.map((owner, i) => report('AS64501', { owner, points: 7 - i })),
    report('tcp/22', { points: 9 }),
  );
  const config = { storagePath: folder, isStorageGiven: true, rules: EMPTY_RULES };
  const summary = ExporterReports.open(config)?.summaryOnce(NOW) ?? expect.fail('no store');
  expect(unusualLines(summary)).toEqual([
    'Unusual: shop/web (critical, 9 points): tcp/22',
    ...[7, 6, 5, 4].map((points, i) => `Unusual: shop/w${i} (critical, ${points} points): AS64501`),
    'Unusual: 3 more, see peerscope unusual',
  ]);
});

describe('accept and distrust', () => {
  test('say what they did, and that no exporter knows the workload', async () => {
    await stored({ key: 'workload:1:["shop","web"]', text: '{}' });
    expect(await say(true, ['shop/web', 'as14618'])).toEqual({
      code: 0,
      stdout: 'AS16509 is now normal for "shop/web", by alice@host. Exporters apply it within a minute.\n',
      stderr: '',
    });
    expect(await say(false, ['nginx.service', 'tcp/443'])).toEqual({
      code: 0,
      stdout: 'tcp/443 is now not normal for "nginx.service", by alice@host. Exporters apply it within a minute.\n',
      stderr: 'No exporter with this store has seen the workload "nginx.service" yet\n',
    });
  });

  test.each([
    [['shop/*', 'AS1'], 'Cannot read workload "shop/*": wildcards are not allowed'],
    [['shop/', 'AS1'], 'Cannot read workload "shop/": must be like shop/web or nginx.service'],
    [
      ['shop/web', 'metadata'],
      'Cannot read expected value "metadata": calls to the metadata service are always reported',
    ],
  ])('of %j are wrong usage', async (args, message) => {
    await stored();
    await expect(say(true, args)).rejects.toThrow(new UsageError(message));
  });

  test('fail without a store, and create none', async () => {
    const nothing = join(folder, 'none');
    const hint = '--storage.path or --storage.url must be that of the exporter\n';
    expect(await say(true, ['shop/web', 'AS1'], undefined, nothing)).toEqual({
      code: 1,
      stdout: '',
      stderr: `Cannot accept AS1 of "shop/web": "FOLDER/none" has no store; ${hint}`,
    });
    await expect(show('table', '', nothing)).rejects.toThrow(
      `Cannot read what is unusual: no store in "${nothing}" that this user can read. Run as the user of the exporter, or set --storage.path`,
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  test('name the user who ran sudo', () => {
    expect(currentUser('alice')).toMatch(/^alice@.+/);
    expect(currentUser(undefined)).toMatch(/^[^@]+@.+/);
  });
});
