import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ExporterProcess } from './exporter.ts';
import { median, quantile, type Figure } from './figures.ts';
import { Load } from './load.ts';
import {
  cpuMsOf,
  memoryMiBOf,
  ResidentProcess,
  type Counted,
  type Measured,
  type Scanned,
} from './resident-process.ts';

/** Options of a run: rows of each load, rounds of each comparison, processes of a load, scrapes of the long parts. */
export interface Plan {
  readonly rows: readonly number[];
  readonly rounds: number;
  readonly processes: number;
  readonly scrapes: number;
}

/** Receives figures as they are measured. */
export type Add = (...figures: readonly Figure[]) => void;

const WARM_UP = 10;
const STEADY_WARM_UP = 40;
const FIRST_SCANS = 5;
const HEALTH_ROWS = 50_000;
const FIRST_SIZES = [10_000, 100_000];
/** From this number of rows up, ss would take most of the run time (256 hash chains), so it runs fewer rounds. */
const SS_SLOW_ROWS = 50_000;
const SS_SLOW_ROUNDS = 3;
const TABLES = ['tcp', 'tcp6', 'udp', 'udp6'];

/** Compares steady, full and first scans and the exporter with psutil, ss and a bare read, in turns. */
export async function steady(plan: Plan, add: Add): Promise<void> {
  for (const rows of plan.rows) await steadyAt(rows, plan, add);
}

async function steadyAt(rows: number, plan: Plan, add: Add): Promise<void> {
  const load = await Load.start(rows, plan.processes);
  const exporter = await ExporterProcess.start();
  const [scan, full, bare] = [resident(), resident(), resident()];
  const peers = new ResidentProcess('/usr/bin/python3', [pathOf('peers.py')]);
  const bareRead = `bare ${filesOf(load.pid, TABLES)}`;
  for (let i = 0; i < STEADY_WARM_UP; i++) {
    await load.step(1, plan.processes);
    await exporter.scrape();
    await scan.ask('scan');
    if (i >= WARM_UP) continue;
    await full.ask('full');
    await bare.ask(bareRead);
  }
  await compareCounts(scan, peers);

  const churns = [
    { name: '0 % changed', percent: 0, processes: plan.processes, atMost: 1.4 },
    { name: '1 % changed', percent: 1, processes: plan.processes, atMost: 1.4 },
    { name: '10 % changed', percent: 10, processes: plan.processes, atMost: 1.8 },
    { name: '1 % changed, in 5 processes', percent: 1, processes: Math.min(5, plan.processes), atMost: 1.4 },
  ];
  for (const churn of churns) {
    const cost = new Costs();
    for (let round = 0; round <= plan.rounds; round++) {
      await load.step(churn.percent, churn.processes);
      const begun = cpuMsOf(exporter.pid);
      const contenders: (() => Promise<unknown>)[] = [
        () => exporter.scrape(),
        async () => cost.add('scan', await scan.ask<Scanned>('scan')),
        async () => cost.add('full', await full.ask<Scanned>('full')),
        async () => cost.add('bare', await bare.ask<Measured>(bareRead)),
        async () => cost.add('psutil', await peers.ask<Measured>('psutil')),
      ];
      if (rows < SS_SLOW_ROWS || round <= SS_SLOW_ROUNDS)
        contenders.push(async () => cost.add('ss', await peers.ask<Measured>('ss')));
      for (let i = 0; i < contenders.length; i++) await contenders[(i + round) % contenders.length]?.();
      // Read at the end of the round, to include V8's background work after the response.
      cost.add('exporter', { cpuMs: cpuMsOf(exporter.pid) - begun });
    }
    const large = rows >= 10_000;
    const figure = (measure: string, values: readonly number[], unit: Figure['unit'], atMost?: number): Figure => ({
      rows,
      measure: `${churn.name}: ${measure}`,
      unit,
      values,
      ...(atMost !== undefined && { atMost }),
    });
    add(
      figure('bare read of the tables', cost.of('bare'), 'ms'),
      figure('scan', cost.of('scan'), 'ms'),
      figure('scan ÷ bare read', cost.ratio('scan', 'bare'), 'ratio', large ? churn.atMost : undefined),
      figure('exporter', cost.of('exporter'), 'ms'),
      figure('exporter ÷ bare read', cost.ratio('exporter', 'bare'), 'ratio'),
      figure('psutil, resident', cost.of('psutil'), 'ms'),
      figure('scan ÷ psutil', cost.ratio('scan', 'psutil'), 'ratio'),
      figure('exporter ÷ psutil', cost.ratio('exporter', 'psutil'), 'ratio'),
      figure('ss -tunap', cost.of('ss'), 'ms'),
      figure('exporter ÷ ss', cost.ratio('exporter', 'ss'), 'ratio'),
      figure('full scan', cost.of('full'), 'ms'),
      figure('full scan ÷ psutil', cost.ratio('full', 'psutil'), 'ratio', large ? 0.7 : undefined),
      figure('full scan ÷ ss', cost.ratio('full', 'ss'), 'ratio', FULL_TO_SS.get(rows)),
    );
  }
  await exporter.end();
  for (const child of [scan, full, bare, peers, load]) await child.end();
}

const FULL_TO_SS: ReadonlyMap<number, number> = new Map([
  [1000, 1.5],
  [10_000, 0.9],
  [50_000, 0.6],
]);

/** The cost of each contender in each round, without the first round. */
class Costs {
  readonly #costs = new Map<string, number[]>();

  add(name: string, { cpuMs }: Measured): void {
    const costs = this.#costs.get(name);
    if (costs) costs.push(cpuMs);
    else this.#costs.set(name, [cpuMs]);
  }

  of(name: string): readonly number[] {
    return (this.#costs.get(name) ?? []).slice(1);
  }

  /** The ratio of each round in which both ran. */
  ratio(name: string, other: string): readonly number[] {
    const others = this.of(other);
    return this.of(name)
      .slice(0, others.length)
      .map((cost, round) => cost / (others[round] ?? NaN));
  }
}

/** Compares the first scan of a new process with psutil, in turns. */
export async function first(plan: Plan, add: Add): Promise<void> {
  for (const rows of FIRST_SIZES) {
    const load = await Load.start(rows, plan.processes);
    const peers = new ResidentProcess('/usr/bin/python3', [pathOf('peers.py')]);
    const cost = new Costs();
    for (let round = 0; round <= FIRST_SCANS; round++) {
      await load.step(0, 0);
      cost.add('first', await firstScan());
      cost.add('psutil', await peers.ask<Measured>('psutil'));
    }
    const ratio = cost.ratio('first', 'psutil');
    add(
      { rows, measure: 'first scan of a process', unit: 'ms', values: cost.of('first') },
      { rows, measure: 'first scan ÷ psutil', unit: 'ratio', values: ratio, atMost: rows > 10_000 ? 0.9 : 1.6 },
    );
    await peers.end();
    await load.end();
  }
}

async function firstScan(): Promise<Scanned> {
  const process = resident();
  const scanned = await process.ask<Scanned>('scan');
  await process.end();
  return scanned;
}

/** Throws unless all contenders see the same rows and find the same number of owners. TIME_WAIT rows are exempt: they expire, and only peerscope knows their owners. */
async function compareCounts(scan: ResidentProcess, peers: ResidentProcess): Promise<void> {
  const seen = {
    peerscope: await scan.ask<Counted>('scan'),
    psutil: await peers.ask<Counted>('psutil'),
    ss: await peers.ask<Counted>('count'),
  };
  const held = Object.entries(seen).map(([name, { rows, timeWait }]) => `${name} ${rows - timeWait}`);
  if (new Set(held.map((text) => text.split(' ')[1])).size > 1)
    throw new Error(`Cannot compare: different rows: ${held.join(', ')}`);
  const { peerscope, psutil, ss } = seen;
  if (peerscope.unowned > peerscope.timeWait || psutil.unowned > psutil.timeWait || ss.unowned > ss.timeWait)
    throw new Error(`Cannot compare: rows without an owner: ${JSON.stringify(seen)}`);
}

/** Measures /-/healthy during the first and ten more scans, and while no scan runs. */
export async function health(plan: Plan, add: Add): Promise<void> {
  const rows = HEALTH_ROWS;
  const load = await Load.start(rows, plan.processes);
  await load.step(0, 0);
  const exporter = await ExporterProcess.start();
  const busy = await probe(exporter, async () => {
    for (let i = 0; i <= WARM_UP; i++) {
      await exporter.scrape();
      await load.step(1, plan.processes);
    }
  });
  const idle = await probe(exporter, () => new Promise((resolve) => setTimeout(resolve, 5000)));
  const figures = (name: string, times: readonly number[], bounds: readonly [number, number] | []): Figure[] => [
    { rows, measure: `/-/healthy ${name}, p50`, unit: 'ms', values: [quantile(times, 0.5)] },
    {
      rows,
      measure: `/-/healthy ${name}, p99`,
      unit: 'ms',
      values: [quantile(times, 0.99)],
      ...(bounds[0] && { atMost: bounds[0] }),
    },
    {
      rows,
      measure: `/-/healthy ${name}, max`,
      unit: 'ms',
      values: [quantile(times, 1)],
      ...(bounds[1] && { atMost: bounds[1] }),
    },
  ];
  const ratio = quantile(busy, 0.99) / quantile(idle, 0.99);
  const measure = '/-/healthy p99 during scans ÷ idle';
  add(...figures('during scans', busy, [25, 100]), ...figures('idle', idle, []));
  add({ rows, measure, unit: 'ratio', values: [ratio], atMost: 1.3 });
  await exporter.end();
  await load.end();
}

/** Requests /-/healthy every 10 ms during `work`, without waiting for responses. Returns the response times in milliseconds. */
async function probe(exporter: ExporterProcess, work: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  const requests: Promise<void>[] = [];
  const request = async (): Promise<void> => {
    const start = performance.now();
    await exporter.health();
    times.push(performance.now() - start);
  };
  const timer = setInterval(() => requests.push(request()), 10);
  await work();
  clearInterval(timer);
  await Promise.all(requests);
  return times;
}

/** Measures the cost of 100 empty namespaces, then of 200 with one listener each. */
export async function namespaces(plan: Plan, add: Add): Promise<void> {
  const rows = Math.min(50_000, Math.max(...plan.rows));
  const load = await Load.start(rows, plan.processes);
  const [scan, bare] = [resident(), resident()];
  const scans = async (count: number): Promise<number[]> => {
    for (let i = 0; i < WARM_UP; i++) await scan.ask('scan');
    const costs: number[] = [];
    for (let i = 0; i < count; i++) {
      await load.step(0, 0);
      costs.push((await scan.ask<Scanned>('scan')).cpuMs);
    }
    return costs;
  };
  const rounds = Math.max(20, plan.rounds);
  const alone = await scans(rounds);
  await load.namespaces(100, 'empty');
  const withEmpty = await scans(rounds);
  const listening = await load.namespaces(200, 'listener');
  const withListeners = await scans(rounds);

  const reads = async (files: string): Promise<number[]> => {
    const costs: number[] = [];
    for (let i = 0; i < rounds; i++) costs.push((await bare.ask<Measured>(`bare ${files}`)).cpuMs);
    return costs;
  };
  const large = median(await reads(filesOf(load.pid, TABLES)));
  // An unchanged namespace is reused for nine scans and read in the tenth. A namespace with a listener has rows in one table.
  const tenth = median(
    await reads(
      listening
        .slice(0, 20)
        .map((pid) => filesOf(pid, ['tcp']))
        .join(' '),
    ),
  );
  add(
    { rows, measure: 'scan', unit: 'ms', values: alone },
    { rows, measure: 'scan with 100 empty namespaces', unit: 'ms', values: withEmpty },
    {
      rows,
      measure: 'one empty namespace',
      unit: 'ms',
      values: [(median(withEmpty) - median(alone)) / 100],
      atMost: 0.2,
    },
    { rows, measure: 'scan with 200 listeners in namespaces besides', unit: 'ms', values: withListeners },
    { rows, measure: 'bare read of the large namespace', unit: 'ms', values: [large] },
    { rows, measure: "bare read of 20 listeners' tables", unit: 'ms', values: [tenth] },
    {
      rows,
      measure: 'scan with 200 listeners ÷ bare read of the large namespace and a tenth of theirs',
      unit: 'ratio',
      values: withListeners.map((cost) => cost / (large + tenth)),
      atMost: 1.3,
    },
  );
  for (const child of [scan, bare, load]) await child.end();
}

/** Measures memory over many scrapes with changing connections. */
export async function soak(plan: Plan, add: Add): Promise<void> {
  const rows = Math.min(...plan.rows);
  const load = await Load.start(rows, plan.processes);
  const exporter = await ExporterProcess.start();
  const memory: number[] = [];
  for (let i = 1; i <= plan.scrapes; i++) {
    await load.step(1, plan.processes);
    await exporter.scrape();
    if (i % Math.ceil(plan.scrapes / 20) === 0) memory.push(memoryMiBOf(exporter.pid).rss);
  }
  const tenth = memory.length / 10;
  add(
    { rows, measure: `memory over ${plan.scrapes} scrapes`, unit: 'MiB', values: memory },
    { rows, measure: 'memory after a tenth of them', unit: 'MiB', values: memory.slice(tenth - 1, tenth) },
    { rows, measure: 'memory after all', unit: 'MiB', values: memory.slice(-1) },
  );
  await exporter.end();
  await load.end();
}

/** Counts distinct series of the endpoint family with 50 new public peers in each scrape. */
export async function remotes(plan: Plan, add: Add): Promise<void> {
  // connect() on UDP sends no packet; it only needs a route.
  for (const command of ['addr add 192.0.2.1/32 dev lo', 'route add default dev lo src 192.0.2.1'])
    if (spawnSync('ip', command.split(' ')).status !== 0) throw new Error(`Cannot run "ip ${command}"`);
  const rows = Math.min(...plan.rows);
  const load = await Load.start(rows, plan.processes);
  for (const [name, answers] of [
    ['unresolved', false],
    ['each /24 an ASN', true],
  ] as const) {
    const scan = resident();
    let series = 0;
    for (let i = 0; i < plan.scrapes; i++) {
      await load.remotes(50);
      series = (await scan.ask<Scanned>('scan')).endpointSeries;
      if (answers) {
        await scan.ask('answer');
        series = (await scan.ask<Scanned>('scan')).endpointSeries;
      }
    }
    add({
      rows,
      measure: `distinct endpoint series over ${plan.scrapes} scrapes with ${plan.scrapes * 50} public remotes, ${name}`,
      unit: 'count',
      values: [series],
      atMost: 2000,
    });
    await scan.end();
  }
  await load.end();
}

function resident(): ResidentProcess {
  return new ResidentProcess(process.execPath, ['--max-semi-space-size=2', pathOf('resident.ts')]);
}

function filesOf(pid: number, tables: readonly string[]): string {
  return tables.map((table) => `${pid}/net/${table}`).join(' ');
}

function pathOf(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}
