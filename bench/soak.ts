/** `npm run soak`: one scrape per second for two hours with changing sockets; reports what grew. See README.md. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { AGENT_PROGRAM } from '../src/collect/socket-agent.ts';
import { startCymruServer } from '../test/support/cymru-server.ts';
import { buildExporter, ExporterProcess } from './exporter.ts';
import { median, quantile } from './figures.ts';
import { isInside, runInside } from './inside.ts';
import { Load } from './load.ts';
import { LoopWatch, type Delays } from './loop.ts';
import { memoryMiBOf, ResidentProcess } from './resident-process.ts';

const USAGE = 'usage: npm run soak -- [--minutes 120] [--rows 2000] [--closes 0]\n';
const TRAFFIC = fileURLToPath(new URL('../test/support/sockets/traffic.py', import.meta.url));
const PORT = '18777';
/** How long the exporter may take to learn of the last ended socket. */
const SETTLE_MS = 3_000;
const PROCESSES = 20;
/** Share of connections (percent) and number of public peers replaced before each scrape, and the number of /24s of these peers. */
const CHURN = 1;
const REMOTES = 20;
const NETWORKS = 2_000;
/** The warm-up, in which caches fill and the heap reaches its size. */
const WARM_UP_SHARE = 0.4;
/** Bounds: the event loop delay, and growth from the first to the last quarter after the warm-up. */
const P99_MOST_MS = 25;
const RSS_GROWTH_MIB = 8;
const DESCRIPTORS_GROWTH = 4;
const SERIES_GROWTH = 20;
/** The store is limited to 32 MiB, plus its log and index. */
const STORE_MOST_MIB = 40;
/** One sample per second. */
interface Sample {
  readonly seconds: number;
  readonly rssMiB: number;
  readonly scrapeMs: number;
  readonly series: number;
  readonly descriptors: number;
  readonly storeMiB: number;
}

const COLUMNS: readonly (readonly [name: string, of: (sample: Sample) => number, digits: number])[] = [
  ['RSS, MiB', ({ rssMiB }) => rssMiB, 1],
  ['scrape, ms', ({ scrapeMs }) => scrapeMs, 0],
  ['series', ({ series }) => series, 0],
  ['descriptors', ({ descriptors }) => descriptors, 0],
  ['store, MiB', ({ storeMiB }) => storeMiB, 2],
];

/** `closes` is the number of sockets that end each second and that the socket agent tells about; 0 runs no agent. */
interface Plan {
  readonly seconds: number;
  readonly rows: number;
  readonly closes: number;
}

function parsePlan(): Plan {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '120' },
      rows: { type: 'string', default: '2000' },
      closes: { type: 'string', default: '0' },
    },
  });
  const [minutes, rows, closes] = [Number(values.minutes), Number(values.rows), Number(values.closes)];
  if (!(minutes > 0) || !(rows >= 100) || !(closes >= 0))
    throw new TypeError('Cannot run: minutes must be above 0, rows 100 at least, closes 0 or more');
  return { seconds: Math.round(minutes * 60), rows, closes };
}

/** A caller and a server whose connections end at a steady rate, both ends in this namespace. */
class Closes {
  /** How many sockets have ended when the caller is done. */
  readonly count: number;
  readonly #ends: readonly ResidentProcess[];

  private constructor(count: number, ends: readonly ResidentProcess[]) {
    this.count = count;
    this.#ends = ends;
  }

  static async start({ seconds, closes }: Plan): Promise<Closes> {
    const rate = closes / 2;
    const connections = Math.round(rate * seconds);
    const options = { connections, rate, sent: 200, received: 500, end: 'client,server' };
    const call = Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
    const ends: ResidentProcess[] = [];
    for (const end of [
      ['serve', '127.0.0.1', PORT],
      ['call', '127.0.0.1', PORT, ...call],
    ]) {
      const started = new ResidentProcess('/usr/bin/python3', [TRAFFIC, ...end]);
      await started.line();
      ends.push(started);
    }
    return new Closes(connections * 2, ends);
  }

  /** Resolves when the last connection has ended and the exporter has had time to learn of it. */
  async done(): Promise<void> {
    await this.#ends.at(-1)?.line();
    await pause(SETTLE_MS);
  }

  async end(): Promise<void> {
    for (const end of this.#ends.toReversed()) await end.end();
  }
}

/** Starts the socket agent and returns once it listens at the path. */
async function startAgent(socket: string): Promise<ChildProcess> {
  const args = ['--listen', socket, '--uid', String(process.getuid?.() ?? 0)];
  const agent = spawn(AGENT_PROGRAM, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  await once(createInterface({ input: agent.stderr }), 'line');
  return agent;
}

/** The slope of the least-squares line through the points. */
function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: (point: readonly [number, number]) => number): number =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [x, y] = [mean(([x]) => x), mean(([, y]) => y)];
  const spread = points.reduce((sum, [px]) => sum + (px - x) ** 2, 0);
  return points.reduce((sum, [px, py]) => sum + (px - x) * (py - y), 0) / spread;
}

async function look(exporter: ExporterProcess, store: string, seconds: number): Promise<Sample> {
  const begun = performance.now();
  const page = await exporter.scrape();
  const scrapeMs = performance.now() - begun;
  const bytes = readdirSync(store).reduce((sum, name) => sum + statSync(join(store, name)).size, 0);
  return {
    seconds,
    rssMiB: memoryMiBOf(exporter.pid).rss,
    scrapeMs,
    series: page.split('\n').filter((line) => /^[a-z]/.test(line)).length,
    descriptors: readdirSync(`/proc/${exporter.pid}/fd`).length,
    storeMiB: bytes / 1024 / 1024,
  };
}

async function run(): Promise<boolean> {
  const plan = parsePlan();
  const { seconds, rows } = plan;
  await buildExporter();
  // connect() on UDP sends no packet; it only needs a route.
  for (const command of ['addr add 192.0.2.1/32 dev lo', 'route add default dev lo src 192.0.2.1'])
    if (spawnSync('ip', command.split(' ')).status !== 0) throw new Error(`Cannot run "ip ${command}"`);
  const whois = await startCymruServer(['1000 | 11.0.0.0 | 11.0.0.0/8 | US | arin | 1992-12-01 | SOAK, US']);
  const store = mkdtempSync(join(tmpdir(), 'peerscope-soak-'));
  const load = await Load.start(rows, PROCESSES);
  const flags = [`--asn.server=${whois.host}:${whois.port}`, `--storage.path=${store}`, '--log.level=error'];
  const socket = join(store, 'sockets.sock');
  const agent = plan.closes > 0 ? await startAgent(socket) : null;
  if (agent) flags.push(`--netlink.socket=${socket}`);
  const watch = new LoopWatch();
  const exporter = await ExporterProcess.start(flags, watch.environment);
  process.stdout.write(`${cpus()[0]?.model}, ${cpus().length} cores, Linux ${release()}, Node.js ${process.version}\n`);
  process.stdout.write(
    `${rows} rows, ${plan.closes} sockets that end a second, one scrape a second for ${(seconds / 60).toFixed(1)} minutes\n\n`,
  );
  const samples: Sample[] = [];
  // The first scan connects to the agent.
  await exporter.scrape();
  const closes = agent ? await Closes.start(plan) : null;
  let late = 0;
  const begun = performance.now();
  for (let second = 1; second <= seconds; second++) {
    await load.step(CHURN, PROCESSES);
    await load.remotes(REMOTES, NETWORKS);
    samples.push(await look(exporter, store, (performance.now() - begun) / 1000));
    const rest = begun + second * 1000 - performance.now();
    if (rest < 0) late++;
    else await pause(rest);
    if (second % 60 === 0) process.stdout.write(`${minuteOf(samples.slice(-60))}\n`);
  }
  await closes?.done();
  const page = await exporter.scrape();
  await exporter.end();
  await closes?.end();
  agent?.kill();
  const { own, idle } = await watch.end();
  await load.end();
  await whois.close();
  rmSync(store, { recursive: true });
  process.stdout.write(`
${summary(samples)}
event-loop delay over the whole run: ${inWords(own)}; of a process that does nothing: ${inWords(idle)}
${late} scrapes came late; ${sumOf(page, 'asn_cache_entries')} networks known; load average ${loadavg()[0]?.toFixed(2)}
`);
  const missed = missedBounds(steady(samples), own.p99 - idle.p99);
  if (closes) {
    const [counted, lost] = [sumOf(page, 'asn_closed_connections_total'), sumOf(page, 'socket_event_overruns_total')];
    process.stdout.write(
      `${closes.count} sockets ended by the traffic; ${counted} counted in all; ${lost} events lost\n`,
    );
    if (counted < closes.count || lost > 0) missed.push('ended sockets were lost');
  }
  process.stdout.write(missed.length === 0 ? 'All bounds are met.\n' : `Missed: ${missed.join('; ')}.\n`);
  return missed.length === 0;
}

/** The sum of a family over its series. */
function sumOf(page: string, family: string): number {
  return [...page.matchAll(new RegExp(`^peerscope_${family}(?:\\{.*\\})? (\\S+)$`, 'gm'))].reduce(
    (sum, [, value]) => sum + Number(value),
    0,
  );
}

function inWords({ p50, p99, most }: Delays): string {
  return `median ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, most ${most.toFixed(1)} ms`;
}

/** The bounds that were missed. */
function missedBounds(samples: readonly Sample[], p99: number): string[] {
  const quarter = Math.ceil(samples.length / 4);
  const growth = (of: (sample: Sample) => number): number =>
    median(samples.slice(-quarter).map(of)) - median(samples.slice(0, quarter).map(of));
  const bounds = [
    ['event-loop delay p99 beyond what the machine costs, ms', p99, P99_MOST_MS],
    ['growth of RSS, MiB', growth(({ rssMiB }) => rssMiB), RSS_GROWTH_MIB],
    ['growth of descriptors', growth(({ descriptors }) => descriptors), DESCRIPTORS_GROWTH],
    ['growth of series', growth(({ series }) => series), SERIES_GROWTH],
    ['store, MiB', Math.max(...samples.map(({ storeMiB }) => storeMiB)), STORE_MOST_MIB],
  ] as const;
  return bounds
    .filter(([, value, most]) => !(value <= most))
    .map(([name, value, most]) => `${name}: ${value.toFixed(1)}, at most ${most}`);
}

function minuteOf(samples: readonly Sample[]): string {
  const medians = COLUMNS.map(([name, of, digits]) => `${name} ${median(samples.map(of)).toFixed(digits)}`);
  return `${((samples.at(-1)?.seconds ?? 0) / 60).toFixed(0)} min: ${medians.join('; ')}`;
}

function steady(samples: readonly Sample[]): Sample[] {
  return samples.slice(Math.floor(samples.length * WARM_UP_SHARE));
}

/** The results after the warm-up as a Markdown table. */
function summary(samples: readonly Sample[]): string {
  const kept = steady(samples);
  const lines = COLUMNS.map(([name, of, digits]) => {
    const values = kept.map(of);
    const hourly = slope(kept.map((sample) => [sample.seconds / 3600, of(sample)]));
    const cells = [median(values), quantile(values, 0.99), Math.max(...values), values[0] ?? NaN, values.at(-1) ?? NaN];
    return `| ${name} | ${cells.map((cell) => cell.toFixed(digits)).join(' | ')} | ${hourly.toFixed(2)} |`;
  });
  const head = '| after the warm-up | median | 99 % | most | first | last | slope an hour |\n';
  return `${head}| --- | --: | --: | --: | --: | --: | --: |\n${lines.join('\n')}\n`;
}

try {
  if (isInside()) process.exitCode = (await run()) ? 0 : 1;
  else {
    parsePlan();
    process.exitCode = runInside();
  }
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
  process.exitCode = 2;
}
