import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Exporter, sumOf } from '../support/exporter.ts';
import { Tree } from '../support/proc-tree.ts';

/** `npm run test:nightly` stops the exporter for ten minutes and scrapes it 20,000 times. */
const IS_NIGHTLY = process.env['NIGHTLY'] === '1';
const STOP_MS = IS_NIGHTLY ? 600_000 : 12_000;
const SCRAPES = IS_NIGHTLY ? 20_000 : 600;
/** Memory is compared from here on: before, caches fill and code is compiled. */
const WARM_UP = SCRAPES / 4;
/** What the median of the last tenth may exceed that of the first one after the warm-up by. After 600 scrapes the heap still grows to its size. */
const GROWTH_MIB = IS_NIGHTLY ? 8 : 60;
const FAILING_WORKER = new URL('../support/failing-worker.ts', import.meta.url).pathname;

interface Running {
  readonly exporter: Exporter;
  readonly folder: string;
}

async function start(environment: (folder: string) => Record<string, string> = () => ({})): Promise<Running> {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-promises-'));
  const tree = new Tree('plain-host');
  const flags = [`--path.procfs=${tree.root}`, '--asn.provider=none', `--storage.path=${folder}/state`];
  const exporter = await Exporter.start([...flags, '--no-collector.netlink'], environment(folder));
  onTestFinished(async () => {
    await exporter.stop('SIGKILL');
    tree[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  });
  return { exporter, folder };
}

describe('an exporter whose scanning thread fails', () => {
  it.each([
    { fault: 'throw', reason: 'thrown by a test' },
    { fault: 'memory', reason: 'Worker terminated due to reaching memory limit: JS heap out of memory' },
  ])('by $fault ends with one line and status 1', { timeout: 120_000 }, async ({ fault, reason }) => {
    const { exporter, folder } = await start((folder) => ({
      TEST_FAULT: `${folder}/fault`,
      NODE_OPTIONS: `--import=${FAILING_WORKER} --max-old-space-size=64`,
    }));
    expect(sumOf(await exporter.metrics(), 'peerscope_connections')).toBe(22);
    const exit = once(exporter.process, 'exit');
    const before = exporter.log.length;
    writeFileSync(`${folder}/fault`, fault);
    expect(await exit).toEqual([1, null]);
    const said = exporter.log.slice(before).filter(({ reason }) => reason !== undefined);
    expect(said).toMatchObject([{ msg: 'the worker thread ended', reason: expect.stringContaining(reason) as string }]);
  });
});

it(
  `an exporter that was stopped for ${STOP_MS / 1000} s scrapes, keeps its counters and loses nothing`,
  { timeout: STOP_MS + 60_000 },
  async () => {
    const { exporter } = await start();
    const before = await exporter.metrics();
    exporter.process.kill('SIGSTOP');
    const late = fetch(`${exporter.url}/metrics`, { signal: AbortSignal.timeout(10_000) });
    await expect(late).rejects.toThrow('timeout');
    await wait(STOP_MS - 10_000);
    exporter.process.kill('SIGCONT');
    const pages = [await exporter.metrics(), await exporter.metrics()];
    for (const page of pages) {
      expect(sumOf(page, 'peerscope_connections')).toBe(sumOf(before, 'peerscope_connections'));
      expect(sumOf(page, 'peerscope_store_up')).toBe(1);
      expect(sumOf(page, 'peerscope_asn_first_seen_timestamp_seconds')).toBe(
        sumOf(before, 'peerscope_asn_first_seen_timestamp_seconds'),
      );
    }
    const last = await exporter.metrics();
    expect([...last.matchAll(/^peerscope_scrape_collector_success.* 0$/gm)]).toEqual([]);
    expect(exporter.log.filter(({ level }) => level === 'error' || level === 'fatal')).toEqual([]);
  },
);

it(`${SCRAPES} scrapes leave the memory flat`, { timeout: SCRAPES * 250 + 60_000 }, async () => {
  const { exporter } = await start();
  const residentMiB = (): number =>
    Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${exporter.process.pid}/status`, 'utf8'))?.[1]) / 1024;
  const descriptors = (): number => Number(/^process_open_fds (\d+)/m.exec(page)?.[1] ?? 0);
  let page = '';
  const memory: number[] = [];
  const first = { descriptors: 0 };
  for (let scrape = 0; scrape < SCRAPES; scrape++) {
    page = await exporter.metrics();
    if (scrape === WARM_UP) first.descriptors = descriptors();
    if (scrape >= WARM_UP) memory.push(residentMiB());
  }
  const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
  const tenth = Math.floor(memory.length / 10);
  const [start10, end10] = [median(memory.slice(0, tenth)), median(memory.slice(-tenth))];
  process.stderr.write(
    `${SCRAPES} scrapes: ${start10.toFixed(1)} MiB after ${WARM_UP}, ${end10.toFixed(1)} MiB at the end, ${Math.max(...memory).toFixed(1)} MiB at most\n`,
  );
  expect(end10 - start10).toBeLessThan(GROWTH_MIB);
  expect(descriptors()).toBeLessThanOrEqual(first.descriptors + 2);
});
