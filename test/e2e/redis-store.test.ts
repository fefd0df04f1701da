import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SYSTEM_CLOCK, type Timer } from '../../src/common/clock.ts';
import { RedisStore } from '../../src/store/redis.ts';
import type { StoredText } from '../../src/store/contract.ts';
import { findRedisServer, RedisServer } from '../support/redis-server.ts';

const LEASE = 'asn:1:lock:cymru:whois.example:43';
const QUEUE = 'asn:1:queue:cymru:whois.example:43';
const BREAKER = 'asn:1:breaker:cymru:whois.example:43';
const SOON = { timeout: 10_000, interval: 20 };
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

async function open(
  changes: { username?: string; password?: string; database?: number; port?: number } = {},
  clock: Timer = SYSTEM_CLOCK,
  maxFirstSeen?: number,
): Promise<RedisStore> {
  const { port = redis.port, ...credentials } = changes;
  const store = await RedisStore.open({
    server: {
      kind: 'single',
      tls: null,
      addresses: [{ host: '127.0.0.1', port }],
      primary: null,
      username: null,
      password: null,
      database: 0,
      ...credentials,
    },
    clock,
    report: (line) => void reports.push(line.replace(/"redis:[^"]*"/, 'STORE')),
    onIncomplete: () => {
      lacking++;
    },
    ...(maxFirstSeen === undefined ? {} : { maxFirstSeen }),
  });
  stores.push(store);
  return store;
}

const stored = (key: string, keepMs = 60_000): StoredText => ({
  key,
  text: `text of ${key}`,
  keepUntil: Date.now() + keepMs,
});

describe.skipIf(!place)('RedisStore with a real server', { timeout: 60_000 }, () => {
  it('keeps texts until they expire, and shares them', async () => {
    const [one, other] = [await open(), await open()];
    const texts = Array.from({ length: 2_500 }, (_, i) => stored(`key ${i}`));
    await one.write([...texts, stored('past', -1), stored('brief', 1)]);
    expect(await other.read([...texts.map(({ key }) => key), 'past'])).toEqual(
      new Map(texts.map(({ key, text }) => [key, text])),
    );
    await vi.waitFor(async () => expect((await other.read(['brief'])).size).toBe(0), SOON);
    const ttl = await redis.client.pttl('peerscope:key 0');
    expect(ttl).toBeGreaterThan(30_000);
    expect(ttl).toBeLessThanOrEqual(60_000);
    expect((await redis.client.keys('*')).filter((key) => !key.startsWith('peerscope:'))).toEqual([]);
    expect(reports).toEqual([]);
  });

  it('keeps databases apart', async () => {
    await (await open({ database: 3 })).write([stored('a')]);
    expect((await (await open()).read(['a'])).size).toBe(0);
    expect((await (await open({ database: 3 })).read(['a'])).size).toBe(1);
  });

  it('grants a lease to one client at a time; only its holder can release it', async () => {
    const [one, other] = [await open(), await open()];
    expect(await one.acquire(LEASE, 60_000)).toBe(0);
    const left = await other.acquire(LEASE, 60_000);
    expect(left).toBeGreaterThan(30_000);
    expect(left).toBeLessThanOrEqual(60_000);
    await other.release(LEASE);
    await other.renew(LEASE, 1);
    expect(await other.acquire(LEASE, 60_000)).toBeGreaterThan(30_000);
    await one.renew(LEASE, 500);
    expect(await other.acquire(LEASE, 60_000)).toBeLessThanOrEqual(500);
    await vi.waitFor(async () => expect(await other.acquire(LEASE, 60_000)).toBe(0), SOON);
    await other.release(LEASE);
    expect(await one.acquire(LEASE, 60_000)).toBe(0);
  });

  it('keeps the interval between sessions although the lease was lost with the data', async () => {
    const [one, other] = [await open(), await open()];
    await one.acquire(LEASE, 60_000);
    await redis.client.flushall();
    await one.renew(LEASE, 10_000);
    expect(await other.acquire(LEASE, 60_000)).toBeGreaterThan(5_000);
  });

  it('queues each member once, first in, first out, and 50,000 at most', async () => {
    const [one, other] = [await open(), await open()];
    await one.enqueue(QUEUE, ['b']);
    const before = Date.now();
    await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(before), SOON);
    await other.enqueue(QUEUE, ['a', 'b']);
    expect(await other.readQueue(QUEUE, 10)).toEqual(['b', 'a']);
    expect(await other.readQueue(QUEUE, 1)).toEqual(['b']);
    await other.enqueue(QUEUE, ['ahead'], 60_000);
    expect(await other.readQueue(QUEUE, 10)).toEqual(['ahead', 'b', 'a']);
    await one.dequeue(QUEUE, ['ahead']);
    await one.dequeue(QUEUE, ['b', 'never there']);
    expect(await one.readQueue(QUEUE, 10)).toEqual(['a']);
    await one.enqueue(
      QUEUE,
      Array.from({ length: 50_100 }, (_, i) => `member ${i}`),
    );
    expect(await redis.client.zcard(`peerscope:${QUEUE}`)).toBe(50_000);
    expect(await redis.client.pttl(`peerscope:${QUEUE}`)).toBeGreaterThan(0);
  });

  it('shares a breaker, and remembers its failures when it allows one attempt', async () => {
    const [one, other] = [await open(), await open()];
    expect(await one.readBreaker(BREAKER)).toEqual({ failures: 0, openMs: 0 });
    await one.writeBreaker(BREAKER, { failures: 3, openMs: 60_000.5 });
    expect(await other.readBreaker(BREAKER)).toEqual({ failures: 3, openMs: expect.closeTo(60_000, -5) as number });
    await one.writeBreaker(BREAKER, { failures: 4, openMs: 1 });
    await vi.waitFor(async () => expect(await other.readBreaker(BREAKER)).toEqual({ failures: 4, openMs: 0 }), SOON);
    await other.writeBreaker(BREAKER, { failures: 0, openMs: 0 });
    expect(await one.readBreaker(BREAKER)).toEqual({ failures: 0, openMs: 0 });
    expect((await redis.client.keys('*')).filter((key) => !key.startsWith('peerscope:alive:'))).toEqual([]);
  });

  it('gives up on a stopped server, and works once it continues', async () => {
    const store = await open();
    await store.write([stored('a')]);
    redis.signal('SIGSTOP');
    try {
      expect((await store.read(['a'])).size).toBe(0);
      expect(store.up).toBe(false);
      expect(await store.acquire(LEASE, 1_000)).toBe(0);
    } finally {
      redis.signal('SIGCONT');
    }
    await vi.waitFor(() => expect(store.up).toBe(true), SOON);
    expect((await store.read(['a'])).size).toBe(1);
    expect({ reports, lacking }).toEqual({
      reports: ['Cannot use store STORE: Command timed out', 'Store STORE recovered'],
      lacking: 0,
    });
  });

  it('requests the cached answers after it lost its data, and after it missed writes', async () => {
    const stores = [await open(), await open()];
    await redis.client.flushall();
    await vi.waitFor(() => expect(lacking).toBe(2), SOON);
    expect(reports).toEqual(new Array(2).fill('Store STORE lost its data; writing known data again'));
    await stores[0]?.write([stored('held')]);
    await redis.client.config('SET', 'maxmemory', '1');
    await stores[0]?.write([stored('missed')]);
    expect(stores[0]?.up).toBe(false);
    expect((await stores[0]?.read(['held']))?.size).toBe(1);
    await redis.client.config('SET', 'maxmemory', '0');
    await vi.waitFor(() => expect(lacking).toBe(3), SOON);
    expect(stores[0]?.up).toBe(true);
  });

  it('requests the cached answers after the server restarted from a snapshot', async () => {
    const store = await open();
    await store.write([stored('a')]);
    await vi.waitFor(async () => expect(await redis.client.keys('peerscope:alive:*')).toHaveLength(1), SOON);
    await redis.client.save();
    const [key = ''] = await redis.client.keys('peerscope:alive:*');
    const saved = await redis.client.get(key);
    await vi.waitFor(async () => expect(await redis.client.get(key)).not.toBe(saved), SOON);
    await store.write([stored('b')]);
    await redis.kill();
    await redis.restart();
    await vi.waitFor(() => expect(lacking).toBe(1), SOON);
    expect(Object.keys(Object.fromEntries(await store.read(['a', 'b'])))).toEqual(['a']);
    expect(reports.slice(1)).toEqual(['Store STORE recovered', 'Store STORE lost its data; writing known data again']);
  });

  it('requests the cached answers if the last writes may be lost', async () => {
    const looksOnlyWhenItConnects = (ms: number, run: () => void) =>
      ms === 2_000 ? () => undefined : SYSTEM_CLOCK.after(ms, run);
    const store = await open({}, { ...SYSTEM_CLOCK, after: looksOnlyWhenItConnects });
    await store.write([stored('a')]);
    await redis.client.save();
    await redis.kill();
    await redis.restart();
    await vi.waitFor(() => expect(lacking).toBe(1), SOON);
    expect(store.up).toBe(true);
  });

  it('keeps the earliest of all times for 90 days, and overwrites invalid values', async () => {
    const [one, other] = [await open(), await open()];
    const seen = (key: string, at: number) => ({ category: 'outbound' as const, key, at });
    const many = Array.from({ length: 2_500 }, (_, i) => seen(`many ${i}`, 9000));
    expect(await one.writeFirstSeen([seen('a', 3000), ...many])).toEqual(
      ['a', ...many.map(({ key }) => key)].map((key) => ({ key, previous: null })),
    );
    expect(await other.writeFirstSeen([seen('a', 2000)])).toEqual([{ key: 'a', previous: 3000 }]);
    expect(await one.writeFirstSeen([seen('a', 1795211295123)])).toEqual([{ key: 'a', previous: 2000 }]);
    expect(await redis.client.get('peerscope:a')).toBe('2000');
    expect(await redis.client.pttl('peerscope:a')).toBeGreaterThan(89 * 86_400_000);
    await redis.client.set('peerscope:a', 'no time');
    expect(await one.writeFirstSeen([seen('a', 1795211295123)])).toEqual([{ key: 'a', previous: null }]);
    expect(await one.writeFirstSeen([seen('a', 1795211295124)])).toEqual([{ key: 'a', previous: 1795211295123 }]);
    expect(reports).toEqual([]);
    redis.signal('SIGSTOP');
    try {
      expect(await one.writeFirstSeen([seen('a', 1000)])).toEqual([{ key: 'a', previous: 'unknown' }]);
    } finally {
      redis.signal('SIGCONT');
    }
    await vi.waitFor(() => expect(lacking).toBe(1), SOON);
  });

  it('returns first-seen times when it is full, and overwrites invalid texts', async () => {
    const store = await open();
    const seen = (key: string, at: number) => ({ category: 'outbound' as const, key, at });
    await redis.client.rpush('peerscope:list', 'not', 'ours');
    expect(await store.writeFirstSeen([seen('list', 1000), seen('a', 1000)])).toEqual([
      { key: 'list', previous: null },
      { key: 'a', previous: null },
    ]);
    expect(await redis.client.get('peerscope:list')).toBe('1000');
    expect(store.up).toBe(true);
    await redis.client.config('SET', 'maxmemory', '1');
    expect(await store.writeFirstSeen([seen('b', 2000), seen('a', 2000)])).toEqual([
      { key: 'b', previous: 'unknown' },
      { key: 'a', previous: 1000 },
    ]);
    expect(store.up).toBe(false);
    await redis.client.config('SET', 'maxmemory', '0');
    await vi.waitFor(() => expect(lacking).toBe(1), SOON);
  });

  it('exchanges no first-seen times while the clock differs from the server, and requests them once it is correct', async () => {
    let aheadMs = -10 * 365 * 86_400_000;
    const store = await open({}, { ...SYSTEM_CLOCK, now: () => Date.now() + aheadMs });
    const keep = () => store.writeFirstSeen([{ category: 'outbound', key: 'a', at: Date.now() + aheadMs }]);
    expect(await keep()).toEqual([{ key: 'a', previous: 'unknown' }]);
    expect(await redis.client.exists('peerscope:a')).toBe(0);
    aheadMs = 0;
    await vi.waitFor(() => expect(lacking).toBe(1), SOON);
    expect(await keep()).toEqual([{ key: 'a', previous: null }]);
    aheadMs = 301_000;
    expect(await keep()).toEqual([{ key: 'a', previous: 'unknown' }]);
    await vi.waitFor(() => expect(reports).toHaveLength(3), SOON);
    expect({ lacking, up: store.up }).toEqual({ lacking: 1, up: true });
    const state = 'Store STORE does not store first-seen times: the local clock is';
    expect(reports).toEqual([
      `${state} 315360000 s behind the server's clock`,
      'Store STORE stores first-seen times again',
      `${state} 301 s ahead of the server's clock`,
    ]);
  });

  it('finds the new primary behind its address although the old one continues as a replica', async ({
    onTestFinished,
  }) => {
    if (!place) return;
    const other = await RedisServer.start(place);
    onTestFinished(() => other.close());
    let primary = redis.port;
    const endpoint = createServer((socket) => {
      const server = connect(primary, '127.0.0.1');
      socket.pipe(server).pipe(socket);
      for (const end of [socket, server]) end.on('error', () => void (socket.destroy(), server.destroy()));
    }).listen(0, '127.0.0.1');
    await once(endpoint, 'listening');
    onTestFinished(() => void endpoint.close());
    const store = await open({ port: (endpoint.address() as AddressInfo).port });
    for (const [from, to] of [
      [redis, other],
      [other, redis],
    ] as const) {
      reports = [];
      await to.client.replicaof('NO', 'ONE');
      primary = to.port;
      await from.client.replicaof('127.0.0.1', to.port);
      await vi.waitFor(() => expect(store.up).toBe(false), SOON);
      await vi.waitFor(() => expect(store.up).toBe(true), SOON);
      await store.write([stored(`at ${to.port}`)]);
      expect(await to.client.exists(`peerscope:at ${to.port}`)).toBe(1);
      expect(reports[0]).toMatch(/^Cannot use store STORE: (READONLY|MASTERDOWN) /);
      expect(reports[1]).toBe('Store STORE recovered');
    }
  });

  it('needs only the documented permissions', async () => {
    const asn = readFileSync(new URL('../../docs/asn.md', import.meta.url), 'utf8');
    const rights = (/`(~peerscope:\* [^`]*)`/.exec(asn)?.[1] ?? '').split(/\s+/);
    expect(rights).toContain('+getrange');
    await redis.client.call('ACL', 'SETUSER', 'exporter', 'on', '>secret', ...rights);
    const store = await open({ username: 'exporter', password: 'secret' });
    await store.write([stored('a')]);
    await store.acquire(LEASE, 1_000);
    await store.renew(LEASE, 1_000);
    await store.release(LEASE);
    await store.enqueue(QUEUE, ['a']);
    await store.dequeue(QUEUE, await store.readQueue(QUEUE, 10));
    await store.writeBreaker(BREAKER, { failures: 1, openMs: 1_000 });
    await store.writeBreaker(BREAKER, { failures: 0, openMs: 0 });
    await store.writeFirstSeen([{ category: 'outbound', key: 'a', at: 1 }]);
    expect(await store.readBreaker(BREAKER)).toEqual({ failures: 0, openMs: 0 });
    expect({ up: store.up, reports }).toEqual({ up: true, reports: [] });
  });

  describe('another client of the server', () => {
    const KEY = 'peerscope:asn:1:8.8.8.0/24';

    it.each<{ title: string; plant: () => Promise<unknown> }>([
      { title: 'a text of 64 MiB', plant: () => redis.client.setrange(KEY, 64 << 20, 'x') },
      { title: 'a list', plant: () => redis.client.rpush(KEY, 'x') },
      { title: 'a hash', plant: () => redis.client.hset(KEY, 'a', 'b') },
      { title: 'a stream', plant: () => redis.client.xadd(KEY, '*', 'a', 'b') },
    ])('stores $title as an answer: it is missing, and overwritten', async ({ plant }) => {
      const store = await open();
      await plant();
      await store.write([stored('other')]);
      expect(await store.read(['asn:1:8.8.8.0/24', 'other'])).toEqual(new Map([['other', 'text of other']]));
      await store.write([stored('asn:1:8.8.8.0/24')]);
      expect(await store.read(['asn:1:8.8.8.0/24'])).toHaveProperty('size', 1);
      expect({ up: store.up, failures: store.failures, reports }).toEqual({ up: true, failures: 0, reports: [] });
    });

    it.each<{ title: string; plant: (key: string) => Promise<unknown> }>([
      { title: 'for ever', plant: (key) => redis.client.set(key, 'me') },
      { title: 'for a year', plant: (key) => redis.client.set(key, 'me', 'EX', 31_536_000) },
      { title: 'as a list', plant: (key) => redis.client.rpush(key, 'me') },
      { title: 'as a text of 64 MiB', plant: (key) => redis.client.setrange(key, 64 << 20, 'x') },
    ])('takes the lease $title: the next exporter takes it', async ({ plant }) => {
      const [one, other] = [await open(), await open()];
      await plant(`peerscope:${LEASE}`);
      expect(await one.acquire(LEASE, 65_000)).toBe(0);
      expect(await other.acquire(LEASE, 65_000)).toBeGreaterThan(60_000);
      await plant(`peerscope:renewed`).catch(() => undefined);
      await one.renew('renewed', 1_000);
      await one.release('renewed');
      expect({ up: one.up, failures: one.failures }).toEqual({ up: true, failures: 0 });
    });

    it.each<{ title: string; plant: (key: string) => Promise<unknown>; left: string[] }>([
      { title: 'a text', plant: (key) => redis.client.set(key, 'x'), left: ['a'] },
      {
        title: 'long members',
        plant: (key) => redis.client.zadd(key, 0, 'y'.repeat(140_000), 0, 'z'.repeat(1_000_000), 0, 'b'),
        left: ['b', 'a'],
      },
    ])('stores $title as the queue: it is removed', async ({ plant, left }) => {
      const store = await open();
      await plant(`peerscope:${QUEUE}`);
      const found = await store.readQueue(QUEUE, 10);
      expect(found).toEqual(left.slice(0, -1));
      await plant(`peerscope:${QUEUE}`);
      await store.enqueue(QUEUE, ['a']);
      expect(await store.readQueue(QUEUE, 10)).toEqual(left);
      expect({ up: store.up, failures: store.failures }).toEqual({ up: true, failures: 0 });
    });

    it.each(['nan', '-5', '1e3', '0x10', '9'.repeat(400)])(
      'stores %s as a first-seen time: it is overwritten',
      async (text) => {
        const store = await open();
        await redis.client.set('peerscope:a', text);
        const given = [{ category: 'outbound' as const, key: 'a', at: 5_000 }];
        expect(await store.writeFirstSeen(given)).toEqual([{ key: 'a', previous: null }]);
        expect(await store.writeFirstSeen(given)).toEqual([{ key: 'a', previous: 5_000 }]);
      },
    );
  });

  describe('first-seen times beyond the limit', () => {
    const seen = (workload: string, count: number, from = 0) =>
      Array.from({ length: count }, (_, i) => ({
        category: 'outbound' as const,
        key: `first:1:${JSON.stringify(['curl', 'shop', workload, 'outbound', String(from + i)])}`,
        at: 1_700_000_000_000,
      }));
    const times = async (): Promise<number> => (await redis.client.keys('peerscope:first:1:*')).length;

    it('are deleted from the largest owner, oldest first, and those of others stay', async () => {
      const store = await open({}, SYSTEM_CLOCK, 5_000);
      const victims = [seen('api', 300), seen('web', 20)].flat();
      await store.writeFirstSeen(victims);
      for (let round = 0; round < 4; round++) await store.writeFirstSeen(seen('flood', 5_000, 5_000 * round));
      expect(await times()).toBeLessThanOrEqual(5_000);
      const again = await store.writeFirstSeen(victims);
      expect(again.filter(({ previous }) => previous !== 1_700_000_000_000)).toEqual([]);
      const [newest] = await store.writeFirstSeen(seen('flood', 1, 19_999));
      expect(newest?.previous).toBe(1_700_000_000_000);
      expect(reports).toEqual(['Store STORE is full of first-seen times: the owners with the most lose their oldest']);
    });

    it('of a flood are deleted when the server is full, and those of others are stored', async () => {
      const store = await open();
      await store.writeFirstSeen(seen('api', 300));
      const [, used = ''] = /^used_memory:(\d+)/m.exec(await redis.client.info('memory')) ?? [];
      await redis.client.config('SET', 'maxmemory', String(Number(used) + (4 << 20)));
      for (let round = 0; round < 20; round++) await store.writeFirstSeen(seen('flood', 1_000, 1_000 * round));
      await vi.waitFor(() => expect(store.up).toBe(true), 120_000);
      const later = await store.writeFirstSeen([...seen('api', 300), ...seen('web', 20)]);
      expect(later.map(({ previous }) => previous)).toEqual([
        ...Array<number>(300).fill(1_700_000_000_000),
        ...Array<null>(20).fill(null),
      ]);
    }, 180_000);

    it('of thousands of owners are deleted too', async () => {
      const store = await open({}, SYSTEM_CLOCK, 2_000);
      await store.writeFirstSeen(Array.from({ length: 6_000 }, (_, i) => seen(`owner ${i}`, 1)).flat());
      expect(await times()).toBeLessThanOrEqual(2_000);
      expect(await redis.client.zcard('peerscope:first:sizes')).toBeLessThanOrEqual(2_000);
    });

    it('are counted again after another client damaged the index', async () => {
      const store = await open({}, SYSTEM_CLOCK, 2_000);
      await store.writeFirstSeen(seen('api', 100));
      for (const key of ['first:of:shop/api', 'first:sizes', 'first:last', 'first:total']) {
        await redis.client.del(`peerscope:${key}`);
        await redis.client.rpush(`peerscope:${key}`, 'x');
        await store.writeFirstSeen(seen('api', 3_000, 1_000));
        expect(await times()).toBeLessThanOrEqual(3_200);
      }
      expect({ up: store.up, failures: store.failures }).toEqual({ up: true, failures: 0 });
    });
  });
});
