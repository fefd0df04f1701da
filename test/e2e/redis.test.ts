import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, type TestContext } from 'vitest';
import { answers, startCymruServer, type CymruServer } from '../support/cymru-server.ts';
import { Exporter, runMain, sumOf } from '../support/exporter.ts';
import { findRedisServer, RedisServer, type ClientOptions } from '../support/redis-server.ts';

const TREE = fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url));
const ROWS = [
  '15169 | 8.0.0.0 | 8.0.0.0/8 | US | arin | 1992-12-01 | GOOGLE, US',
  '13335 | 2606:4700:: | 2606:4700::/32 | US | arin | 2011-11-01 | CLOUDFLARENET, US',
];
/** A batch leaves 5 to 10 s after its first question. */
const BATCH_MS = 40_000;
/** 65 s hold back the sessions of all others when the one that holds the lease dies. */
const LEASE_MS = 65_000;
const SPACING_MS = 10_000;
const SOON_MS = 10_000;
const place = findRedisServer();

/** The peers of a host, by number: every tenth is an IPv6 address, and no two share a /24 or /48. */
const peers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
const isIPv6 = (peer: number): boolean => peer % 10 === 0;
const high = (peer: number): number => peer >>> 8;
const low = (peer: number): number => peer & 255;
const hex = (value: number, digits: number): string => value.toString(16).toUpperCase().padStart(digits, '0');
/** What the server may receive about a peer: its /24 or /48. */
const masked = (peer: number): string =>
  isIPv6(peer) ? `2606:4700:${(peer + 1).toString(16)}::` : `8.${high(peer)}.${low(peer)}.0`;
const maskedAll = (all: readonly number[]): string[] => all.map(masked).sort();

/** Rows of /proc/net/tcp and tcp6 as the kernel writes them: addresses as little-endian words. */
function tcpRow(peer: number, index: number): string {
  const bytes = [8, high(peer), low(peer), 1 + (peer % 250)];
  const ipv4 = bytes
    .toReversed()
    .map((byte) => hex(byte, 2))
    .join('');
  const group = hex(peer + 1, 4);
  const ipv6 = `004706260000${group.slice(2)}${group.slice(0, 2)}0000000001000000`;
  const [local, remote] = isIPv6(peer) ? ['B80D0120000000000000000005000000', ipv6] : ['050200C0', ipv4];
  const ports = [hex(20_000 + index, 4), hex(443, 4)];
  return `${String(index).padStart(4)}: ${local}:${ports[0]} ${remote}:${ports[1]} 01 00000000:00000000 00:00000000 00000000     0        0 ${900_000 + peer} 1 0000000000000000 20 4 30 10 -1\n`;
}

/** The recorded host with these peers instead of its own; its first process holds all connections. */
function writeTree(folder: string, all: readonly number[]): void {
  cpSync(TREE, folder, { recursive: true, verbatimSymlinks: true });
  const net = join(folder, '25739', 'net');
  for (const table of ['tcp', 'tcp6', 'udp', 'udp6', 'udplite', 'udplite6', 'raw', 'raw6']) {
    const [head = ''] = readFileSync(join(net, table), 'utf8').split('\n');
    const own = table === 'tcp' ? all.filter((peer) => !isIPv6(peer)) : table === 'tcp6' ? all.filter(isIPv6) : [];
    writeFileSync(join(net, table), `${head}\n${own.map(tcpRow).join('')}`);
  }
  for (const peer of all) symlinkSync(`socket:[${900_000 + peer}]`, join(folder, '25739', 'fd', String(1_000 + peer)));
}

/** A whois server, a Redis server, and exporters of hosts with such peers that know both. */
interface Scene {
  readonly whois: CymruServer;
  readonly redis: RedisServer;
  readonly folder: string;
  readonly start: (
    all: readonly number[],
    storage?: string,
    environment?: Readonly<Record<string, string>>,
  ) => Promise<Exporter>;
}

async function open(
  { onTestFinished, skip }: TestContext,
  flags?: (port: number) => readonly string[],
  client?: ClientOptions,
): Promise<Scene> {
  if (!place) return skip('redis-server is not installed');
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-cluster-'));
  const whois = await startCymruServer(ROWS);
  const redis = await RedisServer.start(place, flags, client);
  const started: Promise<Exporter>[] = [];
  onTestFinished(async () => {
    for (const start of await Promise.allSettled(started)) if (start.status === 'fulfilled') await start.value.stop();
    await whois.close();
    await redis.close();
    rmSync(folder, { recursive: true });
  });
  const start: Scene['start'] = (all, storage = `--storage.url=${redis.url}`, environment = {}) => {
    const tree = join(folder, `host-${started.length}`);
    writeTree(tree, all);
    const asking = `--asn.server=${whois.host}:${whois.port}`;
    const given = [`--path.procfs=${tree}`, asking, `--storage.path=${join(folder, 'state')}`, storage];
    const exporter = Exporter.start(
      given.filter((flag) => flag !== ''),
      environment,
    );
    started.push(exporter);
    return exporter;
  };
  return { whois, redis, folder, start };
}

/** Scrapes until the page shows so. */
const eventually = ({ expect }: TestContext, exporter: Exporter, family: string, timeout = SOON_MS) =>
  expect.poll(async () => sumOf(await exporter.metrics(), family), { timeout, interval: 250 });
const resolved = (context: TestContext, exporter: Exporter, count: number, timeout = BATCH_MS) =>
  eventually(context, exporter, 'peerscope_asn_cache_entries', timeout).toBe(count);
/** When the owners of a host first met each operator, and since when they are watched: equal for all who share a memory. */
async function firstTimes(context: TestContext, exporter: Exporter): Promise<string[]> {
  const lines = async (): Promise<string[]> =>
    (await exporter.metrics())
      .split('\n')
      .filter((line) => /^peerscope_(asn_first_seen|workload_watched_since)_timestamp_seconds\{/.test(line));
  await context.expect
    .poll(async () => (await lines()).filter((line) => line.includes('first_seen')), { timeout: SOON_MS })
    .toHaveLength(2);
  return (await lines()).sort();
}
const asked = (server: CymruServer): string[] => server.asked.toSorted();
const logged = (exporter: Exporter): string[] =>
  exporter.log.flatMap(({ level, reason }) => (level === 'warn' && typeof reason === 'string' ? [reason] : []));

describe.concurrent('exporters that share a Redis server', { timeout: 240_000 }, () => {
  it('query each of the 5,000 networks of their peers once, in as few sessions as possible', async (context) => {
    const { whois, redis, start } = await open(context);
    const hosts = [peers(0, 3_000), peers(1_000, 4_000), peers(2_000, 5_000)];
    const exporters = await Promise.all(hosts.map((host) => start(host)));
    for (const exporter of exporters) await exporter.metrics();
    for (const exporter of exporters) await resolved(context, exporter, 3_000, BATCH_MS + 6 * SPACING_MS);
    expect(asked(whois)).toEqual(maskedAll(peers(0, 5_000)));
    for (const request of whois.requests)
      expect(request).toMatch(/^begin\nverbose\n(([\d.]+\.0|[\da-f:]+::)\n)+end\n$/);
    expect(whois.requests.length).toBeLessThanOrEqual(6);
    expect(await redis.answers()).toBe(5_000);
    const pages = await Promise.all(exporters.map((exporter) => exporter.metrics()));
    expect(pages.reduce((sum, page) => sum + sumOf(page, 'peerscope_asn_addresses_sent_total'), 0)).toBe(5_000);
    for (const page of pages) expect(page).toMatch(/^peerscope_store_up\{store="redis"\} 1$/m);

    const listed = await runMain([
      'whois',
      '-o',
      'csv',
      `--storage.url=${redis.url}`,
      '--asn.provider=none',
      '8.0.1.77',
    ]);
    expect(listed).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringContaining('8.0.1.77,public,15169') as string,
    });
  });

  it('continue while it is down, reconnect within seconds, and refill a server that lost its data', async (context) => {
    const { whois, redis, start } = await open(context);
    const [one, other] = await Promise.all([start(peers(0, 200)), start(peers(100, 300))]);
    for (const exporter of [one, other]) await resolved(context, exporter, 200);
    await redis.kill();
    for (const exporter of [one, other]) {
      await eventually(context, exporter, 'peerscope_store_up').toBe(0);
      const page = await exporter.metrics();
      expect(sumOf(page, 'peerscope_asn_cache_entries')).toBe(200);
      expect(page).toMatch(/^peerscope_scrape_collector_success\{collector="asn"\} 1$/m);
      expect((await exporter.get('/-/healthy')).status).toBe(200);
    }
    await redis.restart();
    for (const exporter of [one, other]) await eventually(context, exporter, 'peerscope_store_up').toBe(1);
    await context.expect.poll(() => redis.answers(), { timeout: SOON_MS }).toBe(300);
    expect(asked(whois)).toEqual(maskedAll(peers(0, 300)));
    for (const exporter of [one, other])
      expect(logged(exporter)).toEqual([
        expect.stringMatching(/^Cannot use store "redis:\/\/127\.0\.0\.1:\d+\/0": /),
        expect.stringMatching(/^Store "redis:.*" recovered$/),
        expect.stringMatching(/^Store "redis:.*" lost its data; writing known data again$/),
      ]);
  });

  it('repeat at most the queries of one that was killed, and everything that it had queued', async (context) => {
    const { whois, redis, start } = await open(context);
    const session = Promise.withResolvers<undefined>();
    whois.behaviour = () => session.resolve(undefined);
    const killed = await start(peers(0, 1_500));
    await session.promise;
    await killed.stop('SIGKILL');
    whois.behaviour = answers;
    const inHand = asked(whois);
    expect(inHand).toHaveLength(1_000);

    const next = await start(peers(1_490, 1_510));
    await resolved(context, next, 20, BATCH_MS + LEASE_MS + 2 * SPACING_MS);
    // Its own networks do not wait for those of the other; the rest is for the next one that queries.
    expect(asked(whois)).toHaveLength(2_000);
    const last = await start(peers(2_000, 2_010));
    await resolved(context, last, 10, BATCH_MS + 2 * SPACING_MS);
    expect(asked(whois)).toEqual([...inHand, ...maskedAll([...peers(0, 1_510), ...peers(2_000, 2_010)])].sort());
    expect(await redis.answers()).toBe(1_520);
    await context.expect.poll(() => redis.client.zcard(`peerscope:asn:1:queue:cymru:127.0.0.1:${whois.port}`)).toBe(0);
  });

  it('refill it after a flush, and query nothing that one of them holds', async (context) => {
    const { whois, redis, start } = await open(context);
    const exporters = await Promise.all([start(peers(0, 300)), start(peers(200, 500))]);
    for (const exporter of exporters) await resolved(context, exporter, 300);
    const pages = await Promise.all(exporters.map((exporter) => firstTimes(context, exporter)));
    await redis.client.flushall();
    await context.expect.poll(() => redis.answers(), { timeout: SOON_MS }).toBe(500);
    await context.expect
      .poll(() => redis.client.keys('peerscope:record:unusual:*'), { timeout: SOON_MS })
      .not.toEqual([]);
    const third = await start(peers(100, 400));
    await resolved(context, third, 300);
    // One of the two wrote last.
    const known = new Set(pages.flat());
    expect(
      (await firstTimes(context, third)).filter((line) => !known.has(line)),
      'nothing became new',
    ).toEqual([]);
    await eventually(context, third, 'peerscope_asn_pending').toBe(0);
    expect(asked(whois)).toEqual(maskedAll(peers(0, 500)));
  });

  it('restore what it lost since its last snapshot, and nothing becomes new again', async (context) => {
    const { redis, start } = await open(context, () => ['--save', '3600 1']);
    await redis.client.save();
    const exporter = await start(peers(0, 20));
    await resolved(context, exporter, 20);
    const times = await firstTimes(context, exporter);
    await context.expect
      .poll(() => redis.client.keys('peerscope:record:unusual:*'), { timeout: SOON_MS })
      .not.toEqual([]);
    const keys = (await redis.client.keys('peerscope:record:unusual:*')).sort();
    await redis.kill();
    await redis.restart();
    await context.expect.poll(async () => (await redis.client.keys('peerscope:record:unusual:*')).sort()).toEqual(keys);
    expect(await firstTimes(context, await start(peers(0, 20)))).toEqual(times);
  });

  it('report that it accepts no writes, and continue to read', async (context) => {
    const { redis, start } = await open(context);
    const exporter = await start(peers(0, 20));
    await resolved(context, exporter, 20);
    await redis.client.config('SET', 'maxmemory', '1');
    await eventually(context, exporter, 'peerscope_store_up').toBe(0);
    const { stdout, code } = await runMain([
      'whois',
      '-o',
      'csv',
      `--storage.url=${redis.url}`,
      '--asn.provider=none',
      '8.0.1.77',
    ]);
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining('15169') as string });
    await redis.client.config('SET', 'maxmemory', '0');
    await eventually(context, exporter, 'peerscope_store_up').toBe(1);
    expect(logged(exporter)[0]).toMatch(/: OOM command not allowed/);
  });

  it('authenticate with a password over TLS, and no message contains it', async (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-tls-'));
    context.onTestFinished(() => rmSync(folder, { recursive: true }));
    const [certificate, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const made = spawnSync('openssl', [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-days',
      '2',
      ...subject,
      '-keyout',
      key,
      '-out',
      certificate,
    ]);
    if (made.status !== 0) return context.skip('openssl is not installed');
    const tls = ['--tls-cert-file', certificate, '--tls-key-file', key, '--tls-auth-clients', 'no'];
    const { redis, start } = await open(
      context,
      (port) => ['--port', '0', '--tls-port', String(port), '--requirepass', 'hunter2@', ...tls],
      { password: 'hunter2@', tls: { ca: readFileSync(certificate) } },
    );
    const storage = (password: string) => ({
      PEERSCOPE_STORAGE_URL: `rediss://:${password}@127.0.0.1:${redis.port}`,
    });
    const trust = { SSL_CERT_FILE: certificate };
    const [right, wrong, trustless] = await Promise.all([
      start(peers(0, 20), '', { ...storage('hunter2%40'), ...trust }),
      start(peers(0, 20), '', { ...storage('hunter3%40'), ...trust }),
      start(peers(0, 20), '', storage('hunter2%40')),
    ]);
    await eventually(context, right, 'peerscope_store_up').toBe(1);
    await context.expect.poll(() => redis.answers(), { timeout: BATCH_MS }).toBe(20);
    for (const exporter of [wrong, trustless]) expect(sumOf(await exporter.metrics(), 'peerscope_store_up')).toBe(0);
    expect(logged(wrong)[0]).toMatch(/: WRONGPASS /);
    expect(logged(trustless)[0]).toMatch(/self.signed certificate/);
    const messages = await Promise.all(
      [right, wrong, trustless].map(async (exporter) => JSON.stringify(exporter.log) + (await exporter.metrics())),
    );
    expect(messages.join()).not.toMatch(/hunter/);
  });
});

describe.concurrent('exporters that share a folder', { timeout: 120_000 }, () => {
  it('query each network of their peers once', async (context) => {
    const { whois, start } = await open(context);
    const exporters = await Promise.all([start(peers(0, 800), ''), start(peers(400, 1_200), '')]);
    for (const exporter of exporters) await resolved(context, exporter, 800, BATCH_MS + 2 * SPACING_MS);
    expect(asked(whois)).toEqual(maskedAll(peers(0, 1_200)));
  });
});
