import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SYSTEM_CLOCK, type Timer } from '../../src/common/clock.ts';
import { RedisStore } from '../../src/store/redis.ts';
import { describeRecords, formerly, readAll, records } from '../support/record-contract.ts';
import { findRedisServer, RedisServer } from '../support/redis-server.ts';

const SOON = { timeout: 10_000, interval: 20 };
const CHANGES = 'peerscope:records:changes';
const place = findRedisServer();

let redis: RedisServer;
let reports: string[];
let lacking: number;
let stores: RedisStore[];

beforeEach(async () => {
  [reports, lacking, stores] = [[], 0, []];
  if (place) redis = await RedisServer.start(place);
});

afterEach(async () => {
  for (const store of stores) await store.close();
  if (place) await redis.close();
});

interface Opened {
  readonly clock?: Timer;
  readonly maxRecords?: number;
  readonly username?: string;
  readonly password?: string;
}

async function open({ clock = SYSTEM_CLOCK, maxRecords, username, password }: Opened = {}): Promise<RedisStore> {
  const store = await RedisStore.open({
    server: {
      kind: 'single',
      tls: null,
      addresses: [{ host: '127.0.0.1', port: redis.port }],
      primary: null,
      username: username ?? null,
      password: password ?? null,
      database: 0,
    },
    clock,
    report: (line) => void reports.push(line.replace(/"redis:[^"]*"/, 'STORE')),
    onIncomplete: () => {
      lacking++;
    },
    ...(maxRecords === undefined ? {} : { maxRecords }),
  });
  stores.push(store);
  return store;
}

const nameOf = (i: number): string => `peerscope:record:${records(1, '', i)[0]?.key ?? ''}`;
const memberOf = (i: number): string => records(1, '', i)[0]?.key ?? '';

describe.skipIf(!place)('records on a real server', { timeout: 60_000 }, () => {
  describeRecords((maxRecords) => open(maxRecords === undefined ? {} : { maxRecords }));

  it('expire 90 days after their last write, and leave the list of changes', async () => {
    const store = await open();
    await store.writeRecords(records(3));
    expect(await redis.client.pttl(nameOf(0))).toBeGreaterThan(89.9 * 86_400_000);
    expect(await redis.client.pttl(CHANGES)).toBeGreaterThan(89.9 * 86_400_000);
    await redis.client.pexpire(nameOf(0), 1_000);
    await redis.client.pexpire(nameOf(1), 1);
    await store.writeRecords(records(1));
    expect(await redis.client.pttl(nameOf(0))).toBeGreaterThan(89.9 * 86_400_000);
    await vi.waitFor(async () => expect(await redis.client.exists(nameOf(1))).toBe(0), SOON);
    expect((await readAll(store)).texts.size).toBe(2);
    expect(await redis.client.zscore(CHANGES, memberOf(1))).toBeNull();
  });

  it('with an equal text are no change within an hour', async () => {
    const [one, other] = [await open(), await open()];
    await one.writeRecords(records(2));
    const { next } = await readAll(one);
    await other.writeRecords(records(2));
    expect((await readAll(one, next)).texts.size).toBe(0);
    await redis.client.pexpire(nameOf(0), 90 * 86_400_000 - 3_700_000);
    await other.writeRecords(records(2));
    expect([...(await readAll(one, next)).texts.keys()]).toEqual([memberOf(0)]);
  });

  it.each([-360, 360])('are neither read nor written while the clock is off by %i s', async (seconds) => {
    let offMs = seconds * 1_000;
    const store = await open({ clock: { ...SYSTEM_CLOCK, now: () => Date.now() + offMs } });
    await store.writeRecords(records(1));
    expect(await store.readRecords(null)).toBeNull();
    expect(await redis.client.exists(CHANGES)).toBe(0);
    offMs = 0;
    await vi.waitFor(() => expect(lacking).toBe(1), SOON);
    expect((await readAll(store)).texts.size).toBe(0);
    expect(store.failures).toBe(0);
  });

  it('are asked for again after a flush, and read again by each exporter', async () => {
    const [one, other] = [await open(), await open()];
    await one.writeRecords(records(5));
    const { next } = await readAll(other);
    await redis.client.flushall();
    await vi.waitFor(() => expect(lacking).toBe(2), SOON);
    await one.writeRecords(records(3));
    expect((await readAll(other, next)).texts.size).toBe(3);
  });

  it.each<{ title: string; damage: () => Promise<unknown> }>([
    { title: 'is deleted', damage: () => redis.client.del(CHANGES) },
    {
      title: 'has another type',
      damage: async () => redis.client.multi().del(CHANGES).rpush(CHANGES, 'x').exec(),
    },
    { title: 'lost its end', damage: () => redis.client.zremrangebyrank(CHANGES, -1, -1) },
    { title: 'has a member without end', damage: () => redis.client.zadd(CHANGES, 'inf', 'unusual:1:x') },
    { title: 'ends without end', damage: () => redis.client.zadd(CHANGES, 'inf', '~') },
    { title: 'has a member of a longer name', damage: () => redis.client.zadd(CHANGES, 'inf', `~${'x'.repeat(99)}`) },
  ])('are asked for again when the list of changes $title', async ({ damage }) => {
    const [one, other] = [await open(), await open()];
    await one.writeRecords(records(5));
    const { next } = await readAll(one);
    await damage();
    await one.readRecords(next);
    await vi.waitFor(() => expect(lacking).toBe(1), SOON);
    await one.writeRecords(records(5));
    expect((await readAll(one, next)).texts.size).toBe(5);
    expect((await readAll(other)).texts.size).toBe(5);
    expect({ up: one.up, failures: one.failures, lacking }).toEqual({ up: true, failures: 0, lacking: 1 });
  });

  it('are read again after the connection was lost: a server that took over may lack the last ones', async () => {
    const store = await open();
    await store.writeRecords(records(5));
    const { next } = await readAll(store);
    await redis.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await vi.waitFor(() => expect(store.up).toBe(false), SOON);
    await vi.waitFor(() => expect(store.up).toBe(true), SOON);
    const again = await readAll(store, next);
    expect(again.texts.size).toBe(5);
    expect((await readAll(store, again.next)).texts.size).toBe(0);
  });

  it('begin again on a server with an older snapshot', async () => {
    const store = await open();
    await store.writeRecords(records(3));
    const [identity = ''] = await redis.client.zrevrange(CHANGES, 0, 0);
    await store.writeRecords(records(3, 'later', 10));
    const { next } = await readAll(store);
    await redis.client.zremrangebyscore(CHANGES, '4', '+inf');
    await redis.client.zadd(CHANGES, 3, identity);
    expect((await readAll(store, next)).texts.size).toBe(3);
  });

  it('are written once a full server has room', async () => {
    const store = await open();
    await store.writeRecords(records(5));
    await redis.client.config('SET', 'maxmemory', '1');
    await store.writeRecords(records(5, 'x', 3));
    expect(store.up).toBe(false);
    expect((await readAll(store)).texts).toEqual(new Map(records(5).map(({ key, text }) => [key, text])));
    await redis.client.config('SET', 'maxmemory', '0');
    await vi.waitFor(() => expect(lacking).toBe(1), SOON);
    await store.writeRecords(records(5, 'x', 3));
    expect((await readAll(store)).texts.size).toBe(8);
  });

  it('are not read from a stopped server, and later from the same cursor', async () => {
    const store = await open();
    await store.writeRecords(records(5));
    redis.signal('SIGSTOP');
    try {
      expect(await store.readRecords(null)).toBeNull();
      expect(store.up).toBe(false);
    } finally {
      redis.signal('SIGCONT');
    }
    await vi.waitFor(() => expect(store.up).toBe(true), SOON);
    expect((await readAll(store)).texts.size).toBe(5);
  });

  it.each<{ title: string; plant: () => Promise<unknown> }>([
    { title: 'a text of 10 MB', plant: () => redis.client.set(nameOf(0), 'x'.repeat(10_000_000)) },
    { title: 'a text of 16 KiB and a byte', plant: () => redis.client.set(nameOf(0), 'x'.repeat(16_385)) },
    { title: 'no text', plant: () => redis.client.set(nameOf(0), '') },
    { title: 'a list', plant: async () => redis.client.multi().del(nameOf(0)).rpush(nameOf(0), 'x').exec() },
    { title: 'nothing', plant: () => redis.client.del(nameOf(0)) },
    {
      title: 'members that are not ours',
      plant: async () => {
        await redis.client.zadd(CHANGES, 0.5, `unusual:1:${'x'.repeat(2_000)}`, 0.5, '', 0.6, 'x'.repeat(1_000_000));
        await redis.client.del(nameOf(0));
      },
    },
  ])('leave out what another client stored: $title', async ({ plant }) => {
    const store = await open();
    await store.writeRecords(records(3));
    await plant();
    expect([...(await readAll(store)).texts.keys()]).toEqual([memberOf(1), memberOf(2)]);
    expect(await redis.client.zcard(CHANGES)).toBe(3);
    expect(await redis.client.exists(nameOf(0))).toBe(0);
    await store.writeRecords(records(1, 'again'));
    expect((await readAll(store)).texts.size).toBe(3);
    expect({ up: store.up, failures: store.failures }).toEqual({ up: true, failures: 0 });
  });

  it('of a stranger without number are deleted with the oldest', async () => {
    const store = await open({ maxRecords: 100 });
    await store.writeRecords(records(1));
    const planted = Array.from({ length: 3_000 }, (_, i) => [0, `garbage ${i}`]).flat();
    await redis.client.zadd(CHANGES, ...(planted as [number, string]));
    for (let round = 0; round < 4; round++) await store.writeRecords(records(1, `round ${round}`));
    expect(await redis.client.zcard(CHANGES)).toBeLessThanOrEqual(101);
    expect((await readAll(store)).texts.size).toBe(1);
  });

  it('are left where first-seen times of version 0.1 are damaged', async () => {
    const store = await open();
    await store.writeFirstSeen([
      formerly('first:1:["curl","","a","outbound","1"]', 1),
      formerly('first:1:["curl","","a","outbound","2"]', 2),
      formerly('first:1:["curl","","b","outbound","3"]', 3),
    ]);
    await store.writeRecords(records(1));
    await redis.client.set('peerscope:first:1:["curl","","a","outbound","1"]', 'x'.repeat(1_000_000));
    await redis.client.del('peerscope:first:of:/b');
    await redis.client.rpush('peerscope:first:of:/b', 'x');
    await redis.client.zadd('peerscope:first:last', 9e15, 'x'.repeat(1_000_000), 9e15, '/none');
    await redis.client.zadd('peerscope:first:of:/a', 9e15, 'first:1:'.padEnd(100_000, 'x'), 9e15, 'alive:x');
    const { texts } = await readAll(store);
    expect([...texts.keys()]).toEqual(['first:1:["curl","","a","outbound","2"]', memberOf(0)]);
    await redis.client.del('peerscope:first:last');
    await redis.client.rpush('peerscope:first:last', 'x');
    expect([...(await readAll(store)).texts.keys()]).toEqual([memberOf(0)]);
    expect({ up: store.up, failures: store.failures }).toEqual({ up: true, failures: 0 });
  });

  it('need only the permissions of version 0.1', async () => {
    const asn = readFileSync(new URL('../../docs/asn.md', import.meta.url), 'utf8');
    const rights = (/`(~peerscope:\* [^`]*)`/.exec(asn)?.[1] ?? '').split(/\s+/);
    await redis.client.call('ACL', 'SETUSER', 'exporter', 'on', '>secret', ...rights);
    const store = await open({ username: 'exporter', password: 'secret', maxRecords: 2 });
    await store.writeFirstSeen([formerly('first:1:["curl","","a","outbound","1"]', 1)]);
    await redis.client.rpush(CHANGES, 'x');
    await store.writeRecords(records(1));
    await store.writeRecords(records(9));
    await redis.client.del(nameOf(8));
    expect((await readAll(store)).texts.size).toBe(2);
    expect({ up: store.up, failures: store.failures, reports }).toEqual({ up: true, failures: 0, reports: [] });
  });
});
