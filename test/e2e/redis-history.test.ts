import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { RedisStore } from '../../src/store/redis.ts';
import { parseStorageUrl } from '../../src/store/redis-url.ts';
import { encodeEntry, encodeReport } from '../../src/unusual/records.ts';
import { runMain } from '../support/exporter.ts';
import { findRedisServer, RedisServer } from '../support/redis-server.ts';

const HOUR = 3_600_000;
const place = findRedisServer();

describe.skipIf(!place)('commands that read the Redis server of the exporters', () => {
  let redis: RedisServer;
  let now: number;
  beforeEach(async () => {
    if (!place) return;
    redis = await RedisServer.start(place);
    now = Date.now();
    const store = await RedisStore.open({
      server: parseStorageUrl(redis.url) ?? expect.fail(redis.url),
      clock: SYSTEM_CLOCK,
      report: (line) => expect.fail(line),
      onIncomplete: () => undefined,
    });
    const owners = Array.from({ length: 1_500 }, (_, i) => ({ namespace: 'shop', workload: `web-${i}` }));
    await store.writeRecords([
      ...owners.map((owner) =>
        encodeEntry(owner, 'client', 'AS64500', { firstAt: now - 48 * HOUR, recordedAt: now, lastAt: now }),
      ),
      encodeEntry(
        { namespace: 'shop', workload: 'ledger' },
        ...(['operator', 'AS13335', { firstAt: now - HOUR, recordedAt: now, lastAt: now }] as const),
      ),
      encodeReport(
        {
          ...{ owner: { namespace: 'shop', workload: 'ledger' }, kind: 'operator', what: 'AS13335', process: 'curl' },
          ...{ reach: 'none', points: 2, reason: 'First call.', at: now - 60_000, recordedAt: now },
        },
        'node-1',
      ),
    ]);
    await store.close();
  });
  afterEach(() => redis.close());

  it.each<[args: string[], entries: number]>([
    [['history'], 1_501],
    [['history', '--since', '24h'], 1],
    [['history', 'workload=ledger'], 1],
    [['history', 'AS13335'], 1],
    [['history', 'cloudflare'], 1],
    [['history', 'workload=absent'], 0],
  ])('%j finds %i entries, and says where', async (args, entries) => {
    const { code, stdout, stderr } = await runMain([...args, '-o', 'jsonl', `--storage.url=${redis.url}`]);
    expect(stderr).toMatch(
      new RegExp(`^${entries} entr(?:y|ies) from the store redis://127\\.0\\.0\\.1:${redis.port}`),
    );
    expect(stdout.split('\n').length - 1).toBe(entries);
    expect(code).toBe(0);
  });

  it('history prints the first and the last contact', async () => {
    const { stdout } = await runMain(['history', '--since', '24h', '-o', 'json', `--storage.url=${redis.url}`]);
    expect(JSON.parse(stdout)).toEqual([
      {
        ...{ namespace: 'shop', workload: 'ledger', direction: 'outbound', asn: 13335 },
        as_name: null,
        first_seen: expect.stringContaining(new Date(now - HOUR).toISOString().slice(0, 16)) as string,
        last_seen: expect.any(String) as string,
      },
    ]);
    const table = await runMain(['history', '--since', '24h', `--storage.url=${redis.url}`]);
    expect(table.stdout).toMatch(/outbound +shop\/ledger +AS13335 Cloudflare\n/);
  });

  it('unusual exits with 3', async () => {
    const { code, stdout } = await runMain(['unusual', `--storage.url=${redis.url}`]);
    expect([code, stdout]).toEqual([3, expect.stringMatching(/shop\/ledger .*AS13335/)]);
  });

  it.each([['history'], ['unusual']])('%s says that the server is down', async (command) => {
    await redis.kill();
    const { code, stdout, stderr } = await runMain([command, `--storage.url=${redis.url}`]);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^Cannot .*\n/);
    expect(stderr).not.toMatch(/ {4}at |ECONNREFUSED/);
  });
});
