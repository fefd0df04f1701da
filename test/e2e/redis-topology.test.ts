import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi, type TestContext } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { SLOT } from '../../src/store/redis-primary.ts';
import { parseStorageUrl, type TlsFiles } from '../../src/store/redis-url.ts';
import { RedisStore } from '../../src/store/redis.ts';
import { readAll } from '../support/record-contract.ts';
import { findRedisServer, freePort, RedisServer, startSentinel } from '../support/redis-server.ts';

const SOON = { timeout: 10_000, interval: 20 };
const FAST_SENTINEL = ['sentinel down-after-milliseconds mymaster 500', 'sentinel failover-timeout mymaster 2000'];
const place = findRedisServer();

let reports: string[];
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-topology-'));
});

afterAll(() => rmSync(folder, { recursive: true }));

beforeEach(() => {
  reports = [];
});

async function open({ onTestFinished }: TestContext, url: string, tls?: Partial<TlsFiles>): Promise<RedisStore> {
  const server = parseStorageUrl(url);
  if (!server) throw new Error(`invalid URL ${url}`);
  const files = { ca: null, cert: null, key: null, ...tls };
  const store = await RedisStore.open({
    server: tls ? { ...server, tls: files } : server,
    clock: SYSTEM_CLOCK,
    report: (line) => void reports.push(line.replaceAll(/127\.0\.0\.1:\d+/g, 'ADDRESS')),
    onIncomplete: () => undefined,
  });
  onTestFinished(() => store.close());
  return store;
}

async function start(
  { onTestFinished, skip }: TestContext,
  ...given: Parameters<typeof RedisServer.start> extends [unknown, ...infer Rest] ? Rest : never
): Promise<RedisServer> {
  if (!place) return skip('redis-server is not installed');
  const server = await RedisServer.start(place, ...given);
  onTestFinished(() => server.close());
  return server;
}

const sentinel = async (
  { onTestFinished, skip }: TestContext,
  configuration: (port: number) => readonly string[],
): Promise<number> => (place ? startSentinel(place, onTestFinished, configuration) : skip());

/** Writes a text and reads it. */
async function use(store: RedisStore, key: string): Promise<void> {
  await store.write([{ key, text: 'text', keepUntil: Date.now() + 60_000 }]);
  expect([...(await store.read([key])).keys()]).toEqual([key]);
  await store.writeFirstSeen([{ category: 'outbound', key: `first:1:${key}`, at: 5 }]);
  await store.writeRecords([{ key: `unusual:1:${key}`, text: 'text' }]);
  const { texts } = await readAll(store);
  expect([texts.get(`first:1:${key}`), texts.get(`unusual:1:${key}`)]).toEqual(['5', 'text']);
}

/** Makes an authority with a certificate for 127.0.0.1, as PEM files. Null without openssl. */
function certify(name: string): { ca: string; cert: string; key: string } | null {
  const [ca, caKey, cert, key, request] = ['ca.pem', 'ca.key', 'pem', 'key', 'csr'].map((suffix) =>
    join(folder, `${name}.${suffix}`),
  ) as [string, string, string, string, string];
  const commands = [
    `req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=${name}-ca -keyout ${caKey} -out ${ca}`,
    `req -newkey rsa:2048 -nodes -subj /CN=${name} -keyout ${key} -out ${request} -addext subjectAltName=IP:127.0.0.1`,
    `x509 -req -in ${request} -CA ${ca} -CAkey ${caKey} -CAcreateserial -days 2 -copy_extensions copy -out ${cert}`,
  ];
  const isMade = commands.every((command) => spawnSync('openssl', command.split(' ')).status === 0);
  return isMade ? { ca, cert, key } : null;
}

const tlsFlags =
  (files: { ca: string; cert: string; key: string }, ...flags: string[]) =>
  (port: number): string[] => [
    ...['--port', '0', '--tls-port', String(port), '--tls-replication', 'yes'],
    ...['--tls-cert-file', files.cert, '--tls-key-file', files.key, '--tls-ca-cert-file', files.ca, ...flags],
  ];

const clientOf = ({ ca, cert, key }: { ca: string; cert: string; key: string }) => ({
  tls: { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) },
});

describe.skipIf(!place)('RedisStore', { timeout: 60_000 }, () => {
  it('asks Sentinel for the primary, and finds the new one after a failover', async (context) => {
    const primary = await start(context);
    const replica = await start(context, () => ['--replicaof', '127.0.0.1', String(primary.port)]);
    await vi.waitFor(
      async () => expect(await replica.client.info('replication')).toContain('master_link_status:up'),
      SOON,
    );
    const ports: number[] = [];
    for (let i = 0; i < 3; i++)
      ports.push(
        await sentinel(context, (port) => [
          `port ${port}`,
          `sentinel monitor mymaster 127.0.0.1 ${primary.port} 2`,
          ...FAST_SENTINEL,
        ]),
      );
    const store = await open(
      context,
      `redis+sentinel://${ports.map((port) => `127.0.0.1:${port}`).join(',')}/mymaster`,
    );
    await use(store, 'before');
    expect(await primary.client.exists('peerscope:before')).toBe(1);
    await primary.kill();
    await vi.waitFor(async () => expect(await replica.client.role()).toContain('master'), { ...SOON, timeout: 20_000 });
    await vi.waitFor(() => expect(store.up).toBe(true), SOON);
    await use(store, 'after');
    expect(await replica.client.exists('peerscope:after')).toBe(1);
    expect(reports[0]).toMatch(/^Cannot use store "redis\+sentinel:\/\/ADDRESS,ADDRESS,ADDRESS\/mymaster\/0": /);
    expect(reports[1]).toMatch(/ recovered$/);
  });

  it('authenticates at Sentinels with and without a password', async (context) => {
    const primary = await start(context, () => ['--requirepass', 'hunter2'], { password: 'hunter2' });
    const monitor = [
      `sentinel monitor mymaster 127.0.0.1 ${primary.port} 1`,
      'sentinel auth-pass mymaster hunter2',
      ...FAST_SENTINEL,
    ];
    const without = await sentinel(context, (port) => [`port ${port}`, ...monitor]);
    const same = await sentinel(context, (port) => [`port ${port}`, 'requirepass hunter2', ...monitor]);
    const other = await sentinel(context, (port) => [`port ${port}`, 'requirepass other', ...monitor]);
    for (const port of [without, same])
      await use(await open(context, `redis+sentinel://:hunter2@127.0.0.1:${port}/mymaster/3`), String(port));
    expect(reports).toEqual([]);
    await open(context, `redis+sentinel://:hunter2@127.0.0.1:${other}/mymaster`);
    await open(context, `redis+sentinel://127.0.0.1:${other}/mymaster`);
    await open(context, `redis+sentinel://127.0.0.1:${without}/unknown`);
    await open(context, `redis+sentinel://127.0.0.1:${without}/mymaster`);
    const store = 'Cannot use store "redis+sentinel://ADDRESS/mymaster/0": ';
    expect(reports).toEqual([
      `${store}ADDRESS: WRONGPASS invalid username-password pair or user is disabled.`,
      `${store}ADDRESS: NOAUTH Authentication required.`,
      'Cannot use store "redis+sentinel://ADDRESS/unknown/0": ADDRESS: Sentinel has no primary "unknown"',
      `${store}NOAUTH Authentication required.`,
    ]);
  });

  it('reports why no Sentinel answers', async (context) => {
    const server = await start(context);
    await open(context, `redis+sentinel://127.0.0.1:1,127.0.0.1:${server.port}/mymaster`);
    expect(reports).toEqual([
      expect.stringMatching(
        /\/mymaster\/0": ADDRESS: connection refused, ADDRESS: ERR unknown command 'SENTINEL', with args beginning with: /,
      ),
    ]);
  });

  it(
    'finds the node of a Redis Cluster that serves its keys, also after failovers',
    { timeout: 120_000 },
    async (context) => {
      const nodes: RedisServer[] = [];
      for (let i = 0; i < 6; i++) {
        const bus = await freePort();
        nodes.push(
          await start(context, () => [
            ...['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-node-timeout', '1000'],
          ]),
        );
      }
      const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
      const cli = (place?.command ?? '').replace(/server$/, 'cli');
      const create = ['--cluster', 'create', ...addresses, '--cluster-replicas', '1', '--cluster-yes'];
      const created = spawnSync(cli, create, { env: place?.env, encoding: 'utf8' });
      expect(created.status, created.stdout).toBe(0);
      expect(await nodes[0]?.client.cluster('KEYSLOT', '{peerscope}:a')).toBe(SLOT);
      await vi.waitFor(async () => {
        for (const { client } of nodes) expect(await client.cluster('INFO')).toContain('cluster_state:ok');
      }, SOON);

      /** Returns the primary of our slot. */
      const owner = async (): Promise<RedisServer | undefined> => {
        for (const node of nodes) {
          if (node.client.status !== 'ready') continue;
          const [kind] = await node.client.role();
          if (kind === 'master' && (await node.client.exists('{peerscope}:a').catch(() => -1)) >= 0) return node;
        }
        return undefined;
      };
      const first = await owner();
      const id = String(await first?.client.cluster('MYID'));
      const second = await vi.waitFor(async () => {
        for (const node of nodes)
          if (((await node.client.call('CLUSTER', 'NODES')) as string).includes(`myself,slave ${id}`)) return node;
        throw new Error('the primary has no replica');
      }, SOON);
      // A replica of another node, so that two primaries of three remain when it is lost.
      const roles = await Promise.all(nodes.map(({ client }) => client.role()));
      const seed = nodes.find((node, i) => node !== second && roles[i]?.[0] === 'slave');
      const store = await open(context, `redis+cluster://127.0.0.1:${seed?.port}`);
      expect(reports).toEqual([]);
      await use(store, 'before');
      expect(await first?.client.exists('{peerscope}:before')).toBe(1);

      // The old primary continues as a replica.
      await vi.waitFor(
        async () => {
          // An attempt fails if the replica lags behind.
          await second.client.call('CLUSTER', 'FAILOVER').catch(() => undefined);
          expect(await second.client.role()).toContain('master');
        },
        { timeout: 20_000, interval: 1_000 },
      );
      await vi.waitFor(() => expect(reports.length).toBeGreaterThan(0), SOON);
      await vi.waitFor(() => expect(store.up).toBe(true), SOON);
      await use(store, 'moved');
      expect(await second.client.exists('{peerscope}:moved')).toBe(1);
      expect(reports[0]).toMatch(
        /^Cannot use store "redis\+cluster:\/\/ADDRESS": (MOVED 6374 ADDRESS|Command timed out)$/,
      );

      // The primary and the only node of the URL are lost.
      await vi.waitFor(
        async () => expect(await first?.client.info('replication')).toContain('master_link_status:up'),
        SOON,
      );
      await second.kill();
      await seed?.kill();
      await vi.waitFor(async () => expect(await first?.client.role()).toContain('master'), {
        ...SOON,
        timeout: 20_000,
      });
      // So soon after a recovery, the next one is reported a minute later.
      await vi.waitFor(() => use(store, 'after'), SOON);
      expect(await first?.client.exists('{peerscope}:after')).toBe(1);
    },
  );

  it('reports that a server is not a Redis Cluster', async (context) => {
    const { port } = await start(context);
    await open(context, `redis+cluster://127.0.0.1:${port}`);
    expect(reports).toEqual([
      'Cannot use store "redis+cluster://ADDRESS": ADDRESS: ERR This instance has cluster support disabled',
    ]);
  });

  it('trusts a private authority, shows its certificate, and reads renewed files', async (context) => {
    const [old, renewed] = [certify('old'), certify('renewed')];
    if (!old || !renewed) return context.skip('openssl is not installed');
    const server = await start(context, tlsFlags(old), clientOf(old));
    const url = `rediss://127.0.0.1:${server.port}`;
    await open(context, url);
    await open(context, url, { ca: old.ca });
    expect(reports).toEqual([
      'Cannot use store "rediss://ADDRESS/0": self-signed certificate in certificate chain',
      'Cannot use store "rediss://ADDRESS/0": tlsv13 alert certificate required',
    ]);
    reports = [];
    const [ca, cert, key] = ['ca', 'cert', 'key'].map((name) => join(folder, `current.${name}`)) as [
      string,
      string,
      string,
    ];
    const install = (files: typeof old): void => {
      for (const [from, to] of [
        [files.ca, ca],
        [files.cert, cert],
        [files.key, key],
      ] as const)
        copyFileSync(from, to);
    };
    install(old);
    const store = await open(context, url, { ca, cert, key });
    await use(store, 'before');
    await server.client.config('SET', 'tls-ca-cert-file', renewed.ca);
    await server.client.call('CONFIG', 'SET', 'tls-cert-file', renewed.cert, 'tls-key-file', renewed.key);
    await server.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await vi.waitFor(() => expect(store.up).toBe(false), SOON);
    install(renewed);
    await vi.waitFor(() => expect(store.up).toBe(true), SOON);
    await use(store, 'after');
  });

  it('asks a Sentinel over TLS', async (context) => {
    const files = certify('sentinel');
    if (!files) return context.skip('openssl is not installed');
    const primary = await start(context, tlsFlags(files), clientOf(files));
    const port = await sentinel(context, (port) => [
      'port 0',
      ...tlsFlags(files)(port)
        .slice(2)
        .join(' ')
        .split(' --')
        .map((line) => line.replace(/^--/, '')),
      `sentinel monitor mymaster 127.0.0.1 ${primary.port} 1`,
      ...FAST_SENTINEL,
    ]);
    await use(await open(context, `rediss+sentinel://127.0.0.1:${port}/mymaster`, files), 'a');
    expect(reports).toEqual([]);
  });
});
