/** What one user does in crowds costs others nothing: played against the real program, with a network that answers on every address. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { operatorWhat } from '../../src/unusual/grammar/what.ts';
import { SqliteStore } from '../../src/store/sqlite.ts';
import { startCymruServer, type CymruServer } from '../support/cymru-server.ts';
import { Exporter, samplesOf, sumOf } from '../support/exporter.ts';
import { TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';

const SOCKETS = new URL('../support/sockets/', import.meta.url).pathname;
const PYTHON = '/usr/bin/python3';
/** `npm run test:nightly` plays the crowds in the size in which they once hid others. */
const IS_NIGHTLY = process.env['NIGHTLY'] === '1';
/** Of a scrape, in seconds: on a quiet machine as Prometheus has it. */
const TIMEOUT = IS_NIGHTLY ? '10' : '30';
const CROWD = 61_301;
const VICTIM = 61_302;
const WITNESS = 61_303;
const FIRST_SEEN = 'peerscope_asn_first_seen_timestamp_seconds';
/** More than a store keeps of first-seen times. */
const STORED = 40_000;

interface Crowd {
  readonly kind: string;
  readonly count: number;
  /** What says on a page that there is a crowd. */
  readonly shows: (page: string) => number;
}

const foldedBy = (page: string): number =>
  samplesOf(page, 'peerscope_owner_series_folded').get(`owner=uid:${CROWD}`) ?? 0;
const CROWDS: readonly Crowd[] = [
  { kind: 'operators', count: 1_100, shows: foldedBy },
  {
    kind: 'questions',
    count: IS_NIGHTLY ? 17_000 : 3_000,
    shows: (page) => sumOf(page, 'peerscope_asn_pending'),
  },
  {
    kind: 'namespaces',
    count: IS_NIGHTLY ? 1_500 : 100,
    shows: (page) => sumOf(page, 'peerscope_network_namespaces') - 2,
  },
  { kind: 'names', count: IS_NIGHTLY ? 300 : 40, shows: (page) => sumOf(page, 'peerscope_connections') },
];

/** The ASN that the server gives to an address. */
const asnOf = (a: number, b: number): number => 1_000 + a * 256 + b;

/** Answers for every address: a network of 24 bits with an ASN of its first two bytes. */
function answerAll(server: CymruServer): void {
  server.behaviour = (socket: Socket) => {
    const addresses = (server.requests.at(-1) ?? '').split('\n').slice(2, -2);
    const lines = addresses.map((address) => {
      const [a = 0, b = 0, c = 0] = address.split('.').map(Number);
      return `${asnOf(a, b)} | ${address} | ${a}.${b}.${c}.0/24 | US | arin | 2010-07-14 | NET-${a}-${b}, US`;
    });
    socket.end(['Bulk mode; whois.cymru.com [2026-09-15 08:22:47 +0000]', ...lines, ''].join('\n'));
  };
}

const obstacle = whyNoNamespaces();

describe.skipIf(obstacle !== null)('next to a crowd of another user', () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-crowds-'));
  const network = new TestNetwork();
  const players: ChildProcess[] = [];
  let whois: CymruServer;
  let exporter: Exporter;
  /** Pid 1 of a PID namespace that has only what is played here, in a network namespace of its own. */
  let init: number;
  let witness: ChildProcess;
  let heard = 0;

  async function start(
    command: readonly string[],
    namespaces = [`--target=${init}`, '--net', '--mount', '--pid'],
  ): Promise<ChildProcess> {
    const env = { PATH: process.env['PATH'], PYTHONHOME: '/usr' };
    const child = spawn('nsenter', [...namespaces, '--', ...command], { stdio: ['pipe', 'pipe', 'inherit'], env });
    players.push(child);
    const end = once(child, 'exit').then(() => Promise.reject(new Error(`${command.join(' ')} ended`)));
    await Promise.race([once(child.stdout, 'data'), end]);
    return child;
  }

  async function stop(child: ChildProcess): Promise<void> {
    child.stdin?.end();
    if (child.exitCode === null) await once(child, 'exit');
  }

  const startExporter = (): Promise<Exporter> =>
    Exporter.start([
      `--path.procfs=/proc/${init}/root/proc`,
      `--storage.path=${folder}/state`,
      `--asn.server=${whois.host}:${whois.port}`,
    ]);

  /** Opens a connection to this address as a process of the victim. */
  async function call(address: string): Promise<void> {
    const program = join(folder, 'victim');
    const by = ['setpriv', `--reuid=${VICTIM}`, `--regid=${VICTIM}`, '--clear-groups'];
    await start([...by, program, join(SOCKETS, 'play.py'), `tcp:${address}:443`]);
  }

  const firstSeenOf = (page: string, asn: number): number | undefined =>
    samplesOf(page, FIRST_SEEN).get(`process=victim direction=outbound asn=${asn}`);

  /** The ports of the witness on a page. Its process may not have been found in time. */
  const portsOf = (page: string): number =>
    [...samplesOf(page, 'peerscope_connections')]
      .filter(([labels]) => /process=witness |workload=uid:61303 /.test(labels) && labels.includes('direction=listen'))
      .reduce((sum, [, value]) => sum + value, 0);

  const getPage = (): Promise<string> => exporter.metrics({ 'x-prometheus-scrape-timeout-seconds': TIMEOUT });

  /** Scrapes, after one more port was opened in the namespace of pid 1: the page must have it, unless its scan began before. */
  async function scrape(): Promise<string> {
    witness.stdin?.write('\n');
    await once(witness.stdout ?? witness, 'data');
    heard++;
    const page = await getPage();
    if (portsOf(page) === heard) return page;
    const next = await getPage();
    expect(portsOf(next), 'ports of the witness in the namespace of pid 1').toBe(heard);
    return next;
  }

  beforeAll(async () => {
    for (const name of ['victim', 'witness']) copyFileSync(realpathSync(PYTHON), join(folder, name));
    const host = await network.make('echo "1024 65000" >/proc/sys/net/ipv4/ip_local_port_range');
    const peer = await network.make('ip route add local 0.0.0.0/0 dev lo');
    network.join(host, ['10.8.0.1/24'], peer, ['10.8.0.2/24']);
    network.run(host, 'ip route add default via 10.8.0.2');
    await network.openSockets(peer, { kinds: ['tcp-listen=0.0.0.0:443'] });
    whois = await startCymruServer();
    answerAll(whois);
    const unshare = [
      'unshare',
      '--pid',
      '--fork',
      '--kill-child',
      '--mount',
      '--mount-proc',
      'sh',
      '-c',
      'echo; exec cat',
    ];
    const { pid = 0 } = await start(unshare, [`--target=${host}`, '--net', '--mount']);
    init = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8'));
    witness = await start([join(folder, 'witness'), join(SOCKETS, 'crowds.py'), `${WITNESS}`, 'witness', '0']);
    exporter = await startExporter();
    await scrape();
  });

  afterAll(async () => {
    await exporter.stop();
    for (const child of players.reverse()) await stop(child);
    await network[Symbol.asyncDispose]();
    await whois.close();
    rmSync(folder, { recursive: true });
  });

  it.for(CROWDS.map((crowd, i) => ({ ...crowd, number: i })))(
    '$count $kind: a new operator is told within three scrapes, and asked for at once; pid 1 is read at every scan',
    { timeout: 240_000 },
    async ({ kind, count, shows, number }) => {
      const crowd = await start([PYTHON, join(SOCKETS, 'crowds.py'), String(CROWD), kind, String(count)]);
      await expect
        .poll(async () => shows(await scrape()), { timeout: 90_000, interval: 1_000 })
        .toBeGreaterThan(count / 3);

      const [a, b] = [9, 10 + number];
      await call(`${a}.${b}.9.9`);
      const pages = [await scrape()];
      const begun = performance.now();
      const sessions = whois.requests.length;
      const asks = (request: string): boolean => request.includes(`\n${a}.${b}.9.0\n`);
      await expect.poll(() => whois.requests.some(asks), { timeout: 90_000, interval: 50 }).toBe(true);
      const seconds = (performance.now() - begun) / 1000;
      process.stderr.write(`crowds: next to ${count} ${kind}, the ASN was asked for after ${seconds.toFixed(1)} s\n`);
      // One session may have begun meanwhile.
      expect(whois.requests.findIndex(asks) - sessions).toBeLessThanOrEqual(1);
      await expect
        .poll(
          async () => {
            pages.push(await scrape());
            return firstSeenOf(pages.at(-1) ?? '', asnOf(a, b));
          },
          { timeout: 60_000, interval: 2_000 },
        )
        .toBeGreaterThan(0);
      expect(pages.length).toBeLessThanOrEqual(3);
      const folded = [...samplesOf(pages.at(-1) ?? '', 'peerscope_owner_series_folded').keys()];
      expect(folded.filter((owner) => owner.includes(String(VICTIM)))).toEqual([]);
      await stop(crowd);
    },
  );

  it('first-seen times stay in a store that the crowd filled, also after a restart', { timeout: 240_000 }, async () => {
    await exporter.stop();
    const [old, asn] = [Date.now() - 20 * 86_400_000, asnOf(9, 30)];
    const store = SqliteStore.open({
      directory: join(folder, 'state'),
      now: Date.now,
      report: () => undefined,
    });
    const keyOf = (uid: number, what: string): string =>
      `unusual:1:${JSON.stringify(['', `uid:${uid}`, 'operator', what])}`;
    const times = Array.from({ length: STORED }, (_, i) => keyOf(CROWD, `AS${70_000 + i}`));
    await store.writeFirstSeen([
      { category: 'outbound', key: keyOf(VICTIM, operatorWhat(asn)), at: old },
      ...times.map((key) => ({ category: 'outbound' as const, key, at: old + 1 })),
    ]);
    await store.close();
    exporter = await startExporter();
    const crowd = await start([PYTHON, join(SOCKETS, 'crowds.py'), String(CROWD), 'operators', '1100']);
    await expect.poll(async () => foldedBy(await scrape()), { timeout: 60_000, interval: 1_000 }).toBeGreaterThan(0);
    await call('9.30.9.9');
    for (const restarts of [false, true]) {
      if (restarts) {
        await exporter.stop();
        exporter = await startExporter();
      }
      await expect
        .poll(async () => firstSeenOf(await scrape(), asn), { timeout: 60_000, interval: 1_000 })
        .toBeCloseTo(old / 1000, 0);
    }
    await stop(crowd);
  });
});
