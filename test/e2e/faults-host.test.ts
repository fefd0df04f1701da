import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Exporter, samplesOf, sumOf } from '../support/exporter.ts';
import { MemoryLimit } from '../support/memory-limit.ts';
import { TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';
import { sumBy } from '../support/page.ts';
import { hostCalling, peers, scrape, total } from '../support/recorded-host.ts';

const QUIET = ['--asn.provider=none', '--storage.path=/dev/null/none'];
const MANY_PROCESSES = new URL('../support/sockets/many-processes.py', import.meta.url).pathname;
const LOAD = new URL('../support/sockets/many-connections.py', import.meta.url).pathname;
const SLEEPERS = 10_000;
const SOCKETS = 300;
const STORM = { seconds: 8, loops: 2 };
const ROWS = 100_000;
/** That of the manifests. */
const LIMIT_BYTES = 256 * 1024 * 1024;
const SCANS = 20;
const AT_ONCE_MS = 10_000;

describe('an exporter that may open no more descriptors', () => {
  const obstacle = spawnSync('prlimit', ['--version']).error ? 'prlimit is not installed' : null;
  const calls = peers(0, 300);

  it('keeps the previous rows, reports the failure, and reads again once it can', async ({ skip }) => {
    if (obstacle !== null) process.stderr.write(`SKIPPED: file descriptor limit: ${obstacle}\n`);
    skip(obstacle !== null, obstacle ?? '');
    using tree = hostCalling(calls);
    const exporter = await Exporter.start([...QUIET, `--path.procfs=${tree.root}`]);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    /** A page by the connection that is open already. */
    const page = (): Promise<string> =>
      new Promise((resolve, reject) => {
        get(`${exporter.url}/metrics`, { agent, timeout: AT_ONCE_MS }, (response) => resolve(text(response))).on(
          'error',
          reject,
        );
      });
    const limit = (most: number): void => {
      const { status } = spawnSync('prlimit', [`--pid=${exporter.process.pid}`, `--nofile=${most}:`]);
      expect(status).toBe(0);
    };
    try {
      const before = await page();
      const owned = (text: string): number => {
        const samples = samplesOf(text, 'peerscope_connections');
        return [...samples].reduce((sum, [labels, n]) => (labels.includes('process=') ? sum + n : sum), 0);
      };
      expect({ rows: sumOf(before, 'peerscope_connections'), owned: owned(before) }).toEqual({ rows: 300, owned: 300 });
      const open = new Set(readdirSync(`/proc/${exporter.process.pid}/fd`).map(Number));
      const free = Array.from({ length: open.size + 1 }, (_, i) => i).find((fd) => !open.has(fd)) ?? 0;
      limit(free);
      for (let i = 0; i < 15; i++) {
        const during = await page();
        expect({ rows: sumOf(during, 'peerscope_connections'), owned: owned(during) }).toEqual({
          rows: 300,
          owned: 300,
        });
        expect(during).toMatch(/^peerscope_scrape_collector_success\{collector="sockets"\} 0$/m);
      }
      limit(1024);
      const after = await exporter.metricsOnce((text) => text.includes('success{collector="sockets"} 1'));
      expect({ rows: sumOf(after, 'peerscope_connections'), owned: owned(after) }).toEqual({ rows: 300, owned: 300 });
    } finally {
      agent.destroy();
      expect(await exporter.stop()).toBe(0);
    }
  });
});

describe(`an exporter that may take ${LIMIT_BYTES / 1024 / 1024} MiB`, () => {
  const obstacle = whyNoNamespaces();
  const network = new TestNetwork();
  let limit: MemoryLimit | undefined;

  beforeAll(async () => {
    try {
      if (obstacle !== null) throw new Error(obstacle);
      limit = new MemoryLimit(LIMIT_BYTES);
    } catch (error) {
      process.stderr.write(`SKIPPED: memory limit: ${String(error)}\n`);
      return;
    }
    await network.openSockets(await network.make(), { command: ['/usr/bin/python3', LOAD, String(ROWS / 2)] });
  });
  afterAll(async () => {
    await network[Symbol.asyncDispose]();
    limit?.[Symbol.dispose]();
  });

  it(`counts ${ROWS} rows in it`, { timeout: 240_000 }, async ({ skip }) => {
    if (limit === undefined) return skip('no limit of memory');
    const exporter = await Exporter.start([...QUIET, '--scrape.budget=1m'], {}, limit.by);
    try {
      for (let i = 0; i < SCANS; i++) {
        const page = await scrape(exporter, 60);
        expect(sumBy(page, 'peerscope_connections', 'transport')['tcp']).toBeGreaterThanOrEqual(ROWS);
        expect(sumBy(page, 'peerscope_scrape_collector_success', 'collector')['sockets']).toBe(1);
      }
    } finally {
      process.stderr.write(`${ROWS} rows took at most ${(limit.peak / 1024 / 1024).toFixed(0)} MiB of the cgroup\n`);
      expect(await exporter.stop()).toBe(0);
    }
  });
});

describe(`among ${SLEEPERS} processes`, () => {
  const obstacle = whyNoNamespaces();
  let processes: ChildProcess;
  let lines: AsyncIterator<string>;
  let exporter: Exporter;

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: many processes: ${obstacle}\n`);
      return;
    }
    const namespaces = ['--pid', '--mount-proc', '--fork', '--kill-child'];
    const command = ['/usr/bin/python3', MANY_PROCESSES, String(SLEEPERS), String(SOCKETS)];
    processes = spawn('unshare', [...namespaces, ...command], { stdio: ['pipe', 'pipe', 'inherit'] });
    if (processes.stdout) lines = createInterface({ input: processes.stdout })[Symbol.asyncIterator]();
    await lines.next();
    const inside = readFileSync(`/proc/${processes.pid}/task/${processes.pid}/children`, 'utf8').trim();
    exporter = await Exporter.start([...QUIET, `--path.procfs=/proc/${inside}/root/proc`]);
  }, 240_000);

  afterAll(async () => {
    if (obstacle !== null) return;
    await exporter.stop();
    processes.stdin?.end();
    if (processes.exitCode === null) await once(processes, 'exit');
  });

  /** The sockets that stay, as a page counts them, and how many of them with their process. */
  async function counted(): Promise<{ sockets: number; owned: number; success: number }> {
    const page = await scrape(exporter);
    const udp = page.filter(({ labels }) => labels['transport'] === 'udp' && labels['direction'] === 'listen');
    const sockets = sumBy(udp, 'peerscope_connections', 'process');
    expect(total(page, 'peerscope_malformed_rows_total')).toBe(0);
    return {
      sockets: (sockets['many-processes.py'] ?? 0) + (sockets[''] ?? 0),
      owned: sockets['many-processes.py'] ?? 0,
      success: Math.min(...Object.values(sumBy(page, 'peerscope_scrape_collector_success', 'collector'))),
    };
  }

  it('responds in time, counts every socket, and finds the one process that holds them', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    await expect.poll(counted, { timeout: 60_000 }).toMatchObject({ owned: SOCKETS, success: 1 });
    const begun = performance.now();
    for (let i = 0; i < 5; i++) expect(await counted()).toMatchObject({ owned: SOCKETS, success: 1 });
    process.stderr.write(`a scrape among ${SLEEPERS} processes: ${((performance.now() - begun) / 5).toFixed(0)} ms\n`);
  });

  it('counts every socket while processes start and exit as fast as they can', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const storm = { isOver: false };
    processes.stdin?.write(`storm ${STORM.seconds} ${STORM.loops}\n`);
    const result = lines.next().finally(() => (storm.isOver = true));
    let pages = 0;
    let slowest = 0;
    while (!storm.isOver) {
      const begun = performance.now();
      expect(await counted()).toMatchObject({ owned: SOCKETS });
      slowest = Math.max(slowest, performance.now() - begun);
      pages++;
    }
    const { forks } = JSON.parse(String((await result).value)) as { forks: number };
    process.stderr.write(
      `${forks} processes came and went in ${STORM.seconds} s; ${pages} pages, the slowest in ${slowest.toFixed(0)} ms\n`,
    );
    expect(forks).toBeGreaterThan(100);
    expect(pages).toBeGreaterThan(1);
    await expect.poll(counted, { timeout: 30_000 }).toMatchObject({ owned: SOCKETS, success: 1 });
  });
});
