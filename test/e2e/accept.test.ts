import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SqliteStore } from '../../src/store/sqlite.ts';
import { encodeReport } from '../../src/unusual/records.ts';
import { Chromium, whyNoChromium } from '../support/chromium.ts';
import { Exporter, runMain } from '../support/exporter.ts';

const TREE = fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url));
/** The hash of "correct horse", made by crypt(3). */
const HASH = '$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e';
const ALICE = { username: 'alice', password: 'correct horse' };

const obstacle = whyNoChromium();
const folder = mkdtempSync(join(tmpdir(), 'peerscope-e2e-accept-'));
const storage = `--storage.path=${join(folder, 'store')}`;
let chromium: Chromium | undefined;
let exporter: Exporter;

beforeAll(async () => {
  if (obstacle === null) chromium = await Chromium.start();
  else process.stderr.write(`SKIPPED: accept button: ${obstacle}\n`);
  // What this node reported before a restart.
  const now = Date.now();
  const store = SqliteStore.open({
    directory: join(folder, 'store'),
    now: () => Date.now(),
    report: (message) => expect.fail(message),
  });
  const report = (what: string): { key: string; text: string } =>
    encodeReport(
      {
        ...{ owner: { namespace: '', workload: 'orders.service' }, kind: 'operator', what, process: 'orders.py' },
        ...{ reach: 'none', points: 2, reason: `First call to the operator ${what}.`, at: now, recordedAt: now },
      },
      hostname(),
    );
  await store.writeRecords([report('AS64501'), report('AS64502')]);
  await store.close();
  writeFileSync(join(folder, 'web.yaml'), `basic_auth_users: { alice: "${HASH}" }\n`);
  exporter = await Exporter.start([
    ...[`--path.procfs=${TREE}`, '--asn.provider=none', storage, `--web.config.file=${join(folder, 'web.yaml')}`],
    ...['--web.enable-api', '--web.enable-accept'],
  ]);
});
afterAll(async () => {
  await exporter.stop();
  await chromium?.close();
  rmSync(folder, { recursive: true });
});

describe.skipIf(obstacle !== null)('the accept button', () => {
  it('declares a report normal, in a browser and under the policy of the page', { timeout: 60_000 }, async () => {
    const { page, complaints } = (await chromium?.open(exporter.url, { httpCredentials: ALICE })) ?? expect.fail();
    const reports = page.locator('table.unusual tbody tr');
    await expect.poll(async () => (await page.reload(), reports.count()), { timeout: 30_000 }).toBe(2);
    await page.locator('button[data-what="AS64501"]').click();
    await expect
      .poll(() => reports.filter({ hasText: 'AS64501' }).locator('[role=status]').textContent())
      .toBe('Accepted');
    await page.reload();
    expect(await reports.allTextContents()).toEqual([expect.stringContaining('AS64502')]);
    expect(complaints.filter((line) => !line.includes('401'))).toEqual([]);
    await page.context().close();
  });

  it('is a link without JavaScript', { timeout: 60_000 }, async () => {
    const options = { httpCredentials: ALICE, javaScriptEnabled: false };
    const { page } = (await chromium?.open(exporter.url, options)) ?? expect.fail();
    expect(await page.getByRole('link', { name: 'How to accept' }).isVisible()).toBe(true);
    expect(await page.locator('button').first().isVisible()).toBe(false);
    await page.context().close();
  });
});

it('commands see the decisions of the page, and end the last report', { timeout: 60_000 }, async () => {
  const before = await runMain(['unusual', storage]);
  expect([before.code, before.stdout]).toEqual([3, expect.stringContaining('AS64502')]);
  if (obstacle === null) expect(before.stdout).toMatch(/orders\.service +AS64501 +normal +\S+ +alice@127\.0\.0\.1/);
  for (const what of ['AS64501', 'AS64502'])
    expect((await runMain(['accept', 'orders.service', what, '--why', 'known', storage])).code).toBe(0);
  expect((await runMain(['unusual', storage])).code).toBe(0);
});
