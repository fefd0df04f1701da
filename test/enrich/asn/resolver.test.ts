import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { formatCidr, parseCidr } from '../../../src/common/address.ts';
import { openAsnResolver } from '../../../src/enrich/asn/resolver.ts';
import { parseConfig } from '../../../src/config/config.ts';
import { openProvider } from '../../../src/enrich/asn/open.ts';

it('reports an address that was removed from the database as unknown', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-asking-'));
  try {
    const file = join(folder, 'table.tsv');
    writeFileSync(file, '8.8.8.0\t8.8.8.255\t15169\tUS\tGOOGLE\n9.9.9.0\t9.9.9.255\t19281\tCH\tQUAD9-AS-1\n');
    let elapsed = 0;
    const clock = {
      now: () => Date.UTC(2026, 0, 1) + elapsed,
      monotonic: () => elapsed,
      after: () => () => undefined,
    };
    const config = parseConfig({ 'asn.provider': 'tsv', 'asn.database': file }, {});
    const report = (reason: string): void => expect.fail(reason);
    const provider = await openProvider(config.asn, { clock, report });
    const told: string[] = [];
    const deliver: Parameters<typeof openAsnResolver>[2]['onAnswers'] = (answers, unknown = []) =>
      told.push(
        ...answers.map(({ bucket, origin }) => `${formatCidr(bucket)} is AS${origin.asns.join()}`),
        ...unknown.map((bucket) => `${formatCidr(bucket)} is unknown`),
      );
    const asking = openAsnResolver(provider ?? expect.fail(), null, {
      isUncoordinated: false,
      report,
      onAnswers: deliver,
      cluster: null,
      rules: () => config.rules,
      clock,
      random: () => 0,
    });
    const buckets = ['8.8.8.8', '9.9.9.9'].map((text) => parseCidr(text) ?? expect.fail());
    asking.query(buckets);
    await vi.waitUntil(() => told.length === 2);
    writeFileSync(join(folder, 'new'), '8.8.8.0\t8.8.8.255\t15169\tUS\tGOOGLE\n');
    renameSync(join(folder, 'new'), file);
    elapsed = 11 * 60_000;
    asking.query(buckets);
    await vi.waitUntil(() => told.length === 4);
    expect(told).toEqual([
      '8.8.8.8/32 is AS15169',
      '9.9.9.9/32 is AS19281',
      '8.8.8.8/32 is AS15169',
      '9.9.9.9/32 is unknown',
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
