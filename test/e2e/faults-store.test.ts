import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, type TestContext } from 'vitest';
import { answers, startCymruServer, type CymruServer } from '../support/cymru-server.ts';
import { Exporter, runMain } from '../support/exporter.ts';
import { addressOf, asnOf, bucketOf, hostCalling, knownAsns, peers, publicAsns } from '../support/recorded-host.ts';
import { scrape, total, whoisRows } from '../support/recorded-host.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const SHIFTED_CLOCK = new URL('../support/shifted-clock.ts', import.meta.url).pathname;
/** How often a writing process is killed; the full run has 200. */
const KILLS = Number(process.env['FAULT_KILLS'] ?? 20);
/** Networks that one process asks for and writes. */
const BATCH = 250;
/** Exporters that share a folder and are killed together. */
const TOGETHER = 4;
/** Processes are killed within this time after the first reply: answers are stored immediately, first-seen times seconds later. */
const GRACE_MS = 3_000;
/** A batch leaves 5 to 10 s after its first question. */
const BATCH_MS = 40_000;
/** A store that failed is tried again after a minute. */
const RETRY_MS = 90_000;
const NEWER_SCHEMA = 99;
const DAY_S = 86_400;

/** What a store holds: the ASN of each bucket, and when each owner first met each operator. */
interface Kept {
  readonly asns: ReadonlyMap<string, number>;
  readonly firstSeen: ReadonlyMap<string, number>;
}

/** Reads a copy of the store, so that only the program repairs what a crash left. Throws if SQLite finds it corrupt. */
function readCopy(folder: string): Kept {
  const copy = mkdtempSync(join(tmpdir(), 'peerscope-copy-'));
  try {
    cpSync(folder, copy, { recursive: true });
    const database = new DatabaseSync(join(copy, 'peerscope.sqlite'));
    try {
      const [check] = database.prepare('PRAGMA integrity_check').all();
      if (check?.['integrity_check'] !== 'ok') throw new Error(`The store is torn: ${JSON.stringify(check)}`);
      const records = database.prepare("SELECT k, v FROM record WHERE k GLOB 'asn:1:[0-9]*'").all();
      const times = database.prepare('SELECT shelf, k, at FROM first_seen').all();
      return {
        asns: new Map(
          records.map(({ k, v }) => [String(k).slice(6), (JSON.parse(String(v)) as { a: number[] }).a[0] ?? 0]),
        ),
        firstSeen: new Map(times.map(({ shelf, k, at }) => [`${String(shelf)} ${String(k)}`, Number(at)])),
      };
    } finally {
      database.close();
    }
  } finally {
    rmSync(copy, { recursive: true });
  }
}

/** What is wrong of a store after a crash, given what it held before. */
function wrongs(before: Kept, after: Kept, all: ReadonlyMap<string, number>): string[] {
  return [
    ...[...before.asns.keys()].filter((key) => !after.asns.has(key)).map((key) => `${key} is lost`),
    ...[...after.asns].filter(([key, asn]) => all.get(key) !== asn).map(([key, asn]) => `${key} is not of AS${asn}`),
    ...[...before.firstSeen]
      .filter(([key, at]) => (after.firstSeen.get(key) ?? Infinity) > at)
      .map(([key]) => `${key} was met before`),
  ];
}

const NOTHING: Kept = { asns: new Map(), firstSeen: new Map() };

function scratch({ onTestFinished }: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-faults-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

describe('a process that is killed while it writes its store', () => {
  it(
    `loses no stored answer and leaves no wrong one, ${KILLS} times`,
    { timeout: 60_000 + KILLS * 10_000 },
    async (context) => {
      const folder = scratch(context);
      const truth = new Map<string, number>();
      let before = NOTHING;
      let replyToEndMs = Infinity;
      const found = { killed: 0, wroteNothing: 0, wroteAll: 0, wrotePart: 0 };
      for (let round = -1; round < KILLS; round++) {
        const asked = peers((round + 1) * BATCH, (round + 2) * BATCH);
        for (const peer of asked) truth.set(bucketOf(peer), asnOf(peer));
        // Another server each time: the lease of the one that was killed holds for a minute.
        const server = await startCymruServer(whoisRows(asked));
        const flags = [`--storage.path=${folder}`, `--asn.server=${server.host}:${server.port}`];
        const child = spawn(process.execPath, [MAIN, 'whois', ...flags, ...asked.map(addressOf)], {
          stdio: ['ignore', 'ignore', 'pipe'],
          env: { PATH: process.env['PATH'] },
        });
        const said = text(child.stderr);
        let repliedAt = 0;
        server.behaviour = (socket, reply) => {
          answers(socket, reply);
          repliedAt = performance.now();
          // The first run goes to its end, to learn how long the writing takes.
          if (round >= 0) setTimeout(() => child.kill('SIGKILL'), Math.random() * replyToEndMs);
        };
        const [code] = (await once(child, 'close')) as [number | null];
        if (code !== null) replyToEndMs = Math.min(replyToEndMs, performance.now() - repliedAt);
        expect(await said, 'the start succeeded').toBe('');
        const after = readCopy(folder);
        expect(wrongs(before, after, truth)).toEqual([]);
        const written = after.asns.size - before.asns.size;
        if (code === null) {
          found.killed++;
          found[written === 0 ? 'wroteNothing' : written === BATCH ? 'wroteAll' : 'wrotePart']++;
        } else expect({ code, written }).toEqual({ code: 0, written: BATCH });
        before = after;
        await server.close();
      }
      process.stderr.write(`killed within ${replyToEndMs.toFixed(0)} ms of the reply: ${JSON.stringify(found)}\n`);
      expect(found.killed).toBeGreaterThan(KILLS / 4);
      expect(found.wrotePart, 'a batch is written whole or not at all').toBe(0);

      const kept = peers(0, (KILLS + 1) * BATCH).filter((peer) => before.asns.has(bucketOf(peer)));
      const { code, stdout, stderr } = await runMain(
        ['whois', '-o', 'jsonl', '--asn.provider=none', `--storage.path=${folder}`],
        kept.map((peer) => `${addressOf(peer)}\n`).join(''),
      );
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      const shown = stdout.split('\n', kept.length).map((line) => (JSON.parse(line) as { asn: number }).asn);
      expect(shown).toEqual(kept.map(asnOf));
    },
  );

  it(
    `loses no first-seen time while ${TOGETHER} exporters share the store`,
    { timeout: 60_000 + KILLS * 10_000 },
    async (context) => {
      const folder = scratch(context);
      const truth = new Map<string, number>();
      let before = NOTHING;
      for (let round = 0; round < Math.max(4, Math.ceil(KILLS / 10)); round++) {
        const all = peers(round * 1024, (round + 1) * 1024);
        for (const peer of all) truth.set(bucketOf(peer), asnOf(peer));
        const server = await startCymruServer(whoisRows(all));
        const asked = Promise.withResolvers<undefined>();
        server.behaviour = (socket, reply) => {
          answers(socket, reply);
          asked.resolve(undefined);
        };
        const trees = Array.from({ length: TOGETHER }, (_, i) => hostCalling(all.slice(i * 256, (i + 1) * 256)));
        const flags = [`--storage.path=${folder}`, `--asn.server=${server.host}:${server.port}`];
        const exporters = await Promise.all(
          trees.map(({ root }) => Exporter.start([...flags, `--path.procfs=${root}`])),
        );
        const pages = await Promise.all(exporters.map((exporter) => scrape(exporter)));
        expect(pages.map((page) => total(page, 'peerscope_store_up'))).toEqual([1, 1, 1, 1]);
        await asked.promise;
        setTimeout(() => {
          for (const exporter of exporters) exporter.process.kill('SIGKILL');
        }, Math.random() * GRACE_MS);
        // What was answered is met for the first time by a scrape; the last one fails.
        const scrapeToTheEnd = async (exporter: Exporter): Promise<never> => {
          for (;;) await scrape(exporter);
        };
        await Promise.allSettled(exporters.map(scrapeToTheEnd));
        await Promise.all(exporters.map((exporter) => exporter.stop('SIGKILL')));
        const after = readCopy(folder);
        expect(wrongs(before, after, truth)).toEqual([]);
        before = after;
        for (const tree of trees) tree[Symbol.dispose]();
        await server.close();
      }
      expect(before.asns.size).toBeGreaterThan(0);
      expect(before.firstSeen.size).toBeGreaterThan(1);
      process.stderr.write(`kept ${before.asns.size} answers and ${before.firstSeen.size} first times\n`);
    },
  );
});

/** An exporter of a host with calls to 300 networks, the whois server that it asks, and the folder of its store. */
class Scene {
  readonly calls = peers(0, 300);
  readonly expect: TestContext['expect'];
  readonly tree = hostCalling(this.calls);
  readonly folder: string;
  readonly whois: CymruServer;
  exporter: Exporter | undefined;

  private constructor(expect: TestContext['expect'], folder: string, whois: CymruServer) {
    this.expect = expect;
    this.folder = folder;
    this.whois = whois;
  }

  static async open(context: TestContext, folder = scratch(context)): Promise<Scene> {
    const scene = new Scene(context.expect, folder, await startCymruServer(whoisRows(peers(0, 300))));
    context.onTestFinished(async () => {
      await scene.exporter?.stop();
      await scene.whois.close();
      scene.tree[Symbol.dispose]();
    });
    return scene;
  }

  async start(environment: Readonly<Record<string, string>> = {}): Promise<Exporter> {
    const asking = `--asn.server=${this.whois.host}:${this.whois.port}`;
    const flags = [`--path.procfs=${this.tree.root}`, asking, `--storage.path=${this.folder}`];
    return (this.exporter = await Exporter.start(flags, environment));
  }

  /** Scrapes until the page shows so; each page must be exact and in time. */
  async until(show: (exporter: Exporter) => Promise<boolean>, timeout: number): Promise<void> {
    await this.expect
      .poll(async () => this.exporter !== undefined && (await show(this.exporter)), { timeout, interval: 500 })
      .toBe(true);
  }

  /** Scrapes until the store is up, or is not; every page on the way holds every row. */
  storeIs(up: boolean, timeout: number): Promise<void> {
    return this.until(async (exporter) => {
      const page = await scrape(exporter);
      expect(total(page, 'peerscope_connections')).toBe(this.calls.length);
      expect(total(page, 'peerscope_asn_connections')).toBe(this.calls.length);
      return total(page, 'peerscope_store_up') === Number(up);
    }, timeout);
  }

  /** Scrapes until every peer has its ASN. */
  resolved(timeout = BATCH_MS): Promise<void> {
    const whole = JSON.stringify(knownAsns(this.calls));
    return this.until(async (exporter) => JSON.stringify(publicAsns(await scrape(exporter))) === whole, timeout);
  }

  /** What the page shows of when operators were met first. */
  async firstTimes(): Promise<string[]> {
    const page = (await this.exporter?.metrics()) ?? '';
    return page
      .split('\n')
      .filter((line) => line.startsWith('peerscope_asn_first_seen_timestamp_seconds{'))
      .sort();
  }
}

/** A folder that is a file system of its own in memory; its options can be changed. Undefined where that cannot be. */
function volume(context: TestContext, options: string): { folder: string; change: (options: string) => void } {
  const folder = join(scratch(context), 'volume');
  mkdirSync(folder);
  const mount = (options: string): void => {
    const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'peerscope-test', folder]);
    if (status !== 0) context.skip(`no volume can be made: ${stderr.toString().trim()}`);
  };
  if (process.getuid?.() !== 0) context.skip('volumes need root');
  mount(options);
  context.onTestFinished(() => void spawnSync('umount', ['-l', folder]));
  return { folder, change: (options) => mount(`remount,${options}`) };
}

describe.concurrent('an exporter whose store', { timeout: 240_000 }, () => {
  it('is on a full disk reports it, continues without the store, and writes the missing entries once there is space', async (context) => {
    const { folder } = volume(context, 'size=2m');
    const scene = await Scene.open(context, folder);
    await scene.start();
    await scene.storeIs(true, BATCH_MS);
    const { bavail, bsize } = statfsSync(folder);
    writeFileSync(join(folder, 'filler'), Buffer.alloc(bavail * bsize));
    await scene.storeIs(false, BATCH_MS);
    await scene.resolved();
    expect(total(await scrape(await running(scene)), 'peerscope_store_failures_total')).toBeGreaterThan(0);
    rmSync(join(folder, 'filler'));
    await scene.storeIs(true, RETRY_MS);
    await context.expect
      .poll(() => readCopy(folder).asns, { timeout: BATCH_MS })
      .toEqual(new Map(scene.calls.map((peer) => [bucketOf(peer), asnOf(peer)])));
  });

  it('is on a read-only volume reports it, and uses the store once it is writable', async (context) => {
    const { folder, change } = volume(context, 'size=2m,ro');
    const scene = await Scene.open(context, folder);
    await scene.start();
    await scene.storeIs(false, BATCH_MS);
    await scene.resolved();
    change('rw');
    await scene.storeIs(true, RETRY_MS);
    await context.expect.poll(() => readCopy(folder).asns.size, { timeout: BATCH_MS }).toBe(scene.calls.length);
  });

  it('has a newer version leaves it unchanged, reports it, and creates its own once that file is gone', async (context) => {
    const scene = await Scene.open(context);
    const file = join(scene.folder, 'peerscope.sqlite');
    const newer = new DatabaseSync(file);
    newer.exec(`CREATE TABLE later (x); PRAGMA user_version = ${NEWER_SCHEMA}`);
    newer.close();
    const bytes = readFileSync(file);
    await scene.start();
    await scene.storeIs(false, BATCH_MS);
    await scene.resolved();
    expect(readFileSync(file)).toEqual(bytes);
    rmSync(file);
    await scene.storeIs(true, RETRY_MS);
    await context.expect.poll(() => readCopy(scene.folder).asns.size, { timeout: BATCH_MS }).toBe(scene.calls.length);
  });

  it('stays while the clock is set 400 days ahead, right, and 400 days back loses nothing', async (context) => {
    const scene = await Scene.open(context);
    const clock = join(scratch(context), 'clock');
    writeFileSync(clock, '0');
    await scene.start({ NODE_OPTIONS: `--import=${SHIFTED_CLOCK}`, TEST_CLOCK: clock });
    await scene.storeIs(true, BATCH_MS);
    await scene.resolved();
    await context.expect.poll(() => scene.firstTimes(), { timeout: 10_000 }).not.toEqual([]);
    const times = await scene.firstTimes();
    const before = readCopy(scene.folder);
    const truth = new Map(scene.calls.map((peer) => [bucketOf(peer), asnOf(peer)]));
    for (const [shift, isBehind] of [
      [400 * DAY_S, false],
      [0, false],
      [-400 * DAY_S, true],
      [0, true],
    ] as const) {
      writeFileSync(clock, String(shift));
      const shown = async (exporter: Exporter): Promise<boolean> => {
        const page = await scrape(exporter);
        expect(total(page, 'peerscope_connections')).toBe(scene.calls.length);
        const now = Date.now() / 1000 + shift;
        return Math.abs(total(page, 'peerscope_snapshot_timestamp_seconds') - now) < DAY_S;
      };
      await scene.until(shown, BATCH_MS);
      await scene.resolved();
      // The earliest time is kept: that of a clock which is behind, too.
      if (!isBehind) expect(await scene.firstTimes()).toEqual(times);
    }
    expect(await scene.firstTimes()).toHaveLength(times.length);
    expect(wrongs(before, readCopy(scene.folder), truth)).toEqual([]);
  });
});

function running({ exporter }: Scene): Promise<Exporter> {
  return exporter ? Promise.resolve(exporter) : Promise.reject(new Error('The exporter does not run'));
}
