import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { loadavg, availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Exporter } from '../support/exporter.ts';
import { MemoryLimit } from '../support/memory-limit.ts';
import { parsePage, sumBy, type Series } from '../support/page.ts';
import { TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';

/** `npm run test:nightly` opens all of what an attacker can; every run a part of it. */
const IS_NIGHTLY = process.env['NIGHTLY'] === '1';
const CROWD = new URL('../support/sockets/many-of-one-user.py', import.meta.url).pathname;
const HANGING = new URL('../support/sockets/hanging-memory.py', import.meta.url).pathname;
const PYTHON = '/usr/bin/python3';
const MIB = 1024 * 1024;
/** That of the manifests. */
const LIMIT_BYTES = 256 * MIB;
const TIMEOUT_SECONDS = 10;
const PAGES = 6;
/** Those of each victim. */
const VICTIM = ['tcp=5', 'udp=5'];
/** Below what the server keeps for all clients: abuse.test.ts asks for more. */
const READERS = 40;

/**
 * A host of its own, with a pid 1: a user has the crowd in the namespace of pid 1, another user a few sockets there, and a third one in another
 * namespace.
 */
class CrowdedHost {
  readonly scripts = mkdtempSync(join(tmpdir(), 'peerscope-bounds-'));
  #child: ChildProcess | null = null;

  /** Opens all; returns how many of each kind of the crowd. */
  async open(crowd: readonly string[]): Promise<Record<string, number>> {
    for (const name of ['crowd.py', 'victim.py', 'other.py']) symlinkSync(CROWD, join(this.scripts, name));
    const script = `ip link set lo up; exec 3<&0; cd ${this.scripts}
${PYTHON} victim.py 54322 ${VICTIM.join(' ')} <&3 &
unshare --net sh -ec 'ip link set lo up; exec ${PYTHON} other.py 54323 ${VICTIM.join(' ')}' <&3 &
${PYTHON} crowd.py 54321 ${crowd.join(' ')} <&3 &
wait`;
    const flags = ['--pid', '--net', '--mount-proc', '--fork', '--kill-child'];
    const child = spawn('unshare', [...flags, 'sh', '-ec', script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    const opened: Record<string, number>[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      opened.push((JSON.parse(line) as { opened: Record<string, number> }).opened);
      if (opened.length === 3) break;
    }
    return Object.assign({}, ...opened.filter((kinds) => Object.keys(kinds).join() !== 'tcp,udp')) as Record<
      string,
      number
    >;
  }

  /** Its /proc. */
  get procfs(): string {
    const pid = this.#child?.pid;
    return `/proc/${readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()}/root/proc`;
  }

  async close(): Promise<void> {
    this.#child?.stdin?.end();
    if (this.#child && this.#child.exitCode === null) await once(this.#child, 'exit');
    rmSync(this.scripts, { recursive: true });
  }
}

interface Scraped {
  readonly page: Series[];
  readonly ms: number;
}

async function scrape(exporter: Exporter): Promise<Scraped> {
  const begun = performance.now();
  const headers = { 'x-prometheus-scrape-timeout-seconds': String(TIMEOUT_SECONDS) };
  const signal = AbortSignal.timeout(4 * TIMEOUT_SECONDS * 1000);
  const response = await fetch(`${exporter.url}/metrics`, { headers, signal });
  expect(response.status).toBe(200);
  return { page: parsePage(await response.arrayBuffer()), ms: performance.now() - begun };
}

/** The sockets with their process, by its name. */
const owned = (page: readonly Series[]): Record<string, number> => sumBy(page, 'peerscope_connections', 'process');

describe(`an exporter that may take ${LIMIT_BYTES / MIB} MiB, while one user has`, () => {
  let host: CrowdedHost;
  let limit: MemoryLimit | undefined;
  const readers: Socket[] = [];

  beforeEach(({ skip }) => {
    host = new CrowdedHost();
    try {
      const obstacle = whyNoNamespaces();
      if (obstacle !== null) throw new Error(obstacle);
      limit = new MemoryLimit(LIMIT_BYTES);
    } catch (error) {
      process.stderr.write(`SKIPPED: bounds: ${String(error)}\n`);
      skip('no namespaces, or no limit of memory');
    }
  });
  afterEach(async () => {
    for (const socket of readers.splice(0)) socket.destroy();
    await host.close();
    limit?.[Symbol.dispose]();
  });

  /** Clients that ask for everything and read nothing. */
  const stall = (exporter: Exporter): void => {
    const { hostname, port } = new URL(exporter.url);
    for (let i = 0; i < READERS; i++) {
      const socket = connect({ host: hostname, port: Number(port) }).pause();
      socket.on('error', () => undefined);
      const path = i % 2 === 0 ? '/api/v1/connections' : '/metrics';
      socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
      readers.push(socket);
    }
  };

  it.each<{ what: string; crowd: string[]; nightly: string[]; stalls?: boolean }>([
    {
      what: 'sockets of every kind, and clients that never read',
      crowd: ['tcp=40000', 'udp=30000', 'shared=20000'],
      nightly: ['tcp=100000', 'udp=64000', 'shared=32000', 'raw=4000'],
      stalls: true,
    },
    { what: 'raw sockets', crowd: ['raw=15000'], nightly: ['raw=60000'] },
    { what: 'descriptors', crowd: ['fds=400000'], nightly: ['fds=3000000'] },
    { what: 'arguments of megabytes', crowd: ['names=20'], nightly: ['names=200'] },
  ])('$what, answers in time, misses no one else, and lives', { timeout: 300_000 }, async (attack) => {
    if (!limit) return;
    const opened = await host.open(IS_NIGHTLY ? attack.nightly : attack.crowd);
    const flags = [`--path.procfs=${host.procfs}`, '--asn.provider=none', '--web.enable-api'];
    const exporter = await Exporter.start([...flags, `--storage.path=${host.scripts}/state`], {}, limit.by);
    try {
      const victims = { 'victim.py': 10, 'other.py': 10 };
      let last = await scrape(exporter);
      if (attack.stalls) stall(exporter);
      await expect
        .poll(async () => owned((last = await scrape(exporter)).page), { timeout: 120_000 })
        .toMatchObject(victims);
      const times: number[] = [];
      for (let i = 0; i < PAGES; i++) {
        last = await scrape(exporter);
        times.push(last.ms);
        expect(owned(last.page)).toMatchObject(victims);
      }
      const status = sumBy(last.page, 'peerscope_network_namespaces', 'status');
      const rows = sumBy(last.page, 'peerscope_connections', 'transport');
      const most = Math.max(...times);
      process.stderr.write(
        `${JSON.stringify(opened)}: rows ${JSON.stringify(rows)}, ${status['incomplete']} incomplete, ${Math.round(most)} ms at most, ${Math.round(limit.peak / MIB)} MiB\n`,
      );
      const sockets = ['tcp', 'udp', 'shared', 'raw'].reduce((sum, kind) => sum + (opened[kind] ?? 0), 0);
      const read = Object.values(rows).reduce((sum, count) => sum + count, 0);
      expect(
        read >= sockets || (status['incomplete'] ?? 0) > 0,
        'all rows, or a namespace that counts as incomplete',
      ).toBe(true);
      expect(exporter.process.exitCode ?? exporter.process.signalCode).toBe(null);
      if ((loadavg()[0] ?? 0) < 2 * availableParallelism()) expect(most).toBeLessThan(TIMEOUT_SECONDS * 1000);
      else process.stderr.write('SKIPPED: the machine is too busy to measure times\n');
    } finally {
      for (const socket of readers.splice(0)) socket.destroy();
      await exporter.stop();
    }
  });
});

describe('an exporter, while a process blocks every read of its arguments,', () => {
  const obstacle = existsSync('/dev/fuse') ? whyNoNamespaces() : 'there is no /dev/fuse';
  const network = new TestNetwork();

  afterAll(() => network[Symbol.asyncDispose]());

  it('names it by its program, names all others, and stops', { timeout: 120_000 }, async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const victim = await network.openSockets(await network.make(), { kinds: ['tcp-listen=127.0.0.1:0'] });
    const hanging = await network.openSockets(await network.make(), { command: [PYTHON, HANGING] });
    const exporter = await Exporter.start(['--web.enable-api', '--asn.provider=none', '--storage.path=/dev/null/none']);
    const named = async (pid: number): Promise<string> => {
      const rows = await (await exporter.get(`/api/v1/connections?pid=${pid}`)).text();
      return /"process":"([^"]*)"/.exec(rows)?.[1] ?? '';
    };
    try {
      await expect.poll(async () => named(hanging.pids[0] ?? 0), { timeout: 60_000 }).toBe('python');
      expect(await named(victim.pids[0] ?? 0)).toBe('sockets.py');
      const reasons = exporter.log.map(({ reason }) => String(reason));
      expect(reasons).toContainEqual(expect.stringMatching(/^Cannot read the arguments of processes of "uid:54321"/));
    } finally {
      expect(await exporter.stop()).toBe(null);
      expect(exporter.process.signalCode).toBe('SIGTERM');
    }
  });
});
