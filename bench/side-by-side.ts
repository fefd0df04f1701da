import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ALONE, mainOfExporter, URL_OF_METRICS } from './exporter.ts';
import type { Figure } from './figures.ts';
import { Load } from './load.ts';
import type { Add, Plan } from './parts.ts';
import { findPeers, Scraped } from './peers.ts';
import { cpuMsOf, memoryMiBOf, ResidentProcess, type Measured } from './resident-process.ts';

const SIZES = [1_000, 10_000, 50_000];
const LARGE = 100_000;
/** Scrapes before the measured ones: V8 still compiles code that runs once in each. */
const WARM_UP = 120;
const WARM_UP_LARGE = 30;
/** Of them, those in which the others run too. */
const WARM_UP_OTHERS = 2;
/** Scrapes before memory is measured with many rows. */
const MEMORY_SCRAPES = 8;
const STARTS = 5;
const SS = 'ss -tunap';
const PSUTIL = 'psutil';
const PEERSCOPE = 'peerscope';
const COMPLETE = /^peerscope_connections\{/m;
const ONE_SHOT = "import psutil; print(len(psutil.net_connections('inet')))";

/** Bounds of peerscope ÷ a peer, by rows. */
const BOUNDS: Readonly<Record<string, Readonly<Record<number, number>>>> = {
  [PSUTIL]: { 1_000: 0.45, 10_000: 0.3 },
  'node_exporter (tcpstat, processes)': { 1_000: 1.2, 10_000: 1.2, 50_000: 1.2 },
};
const MEMORY: Readonly<Record<number, readonly [resident: number, dirty: number | null]>> = {
  1_000: [102, 50],
  [LARGE]: [140, null],
};

/** Compares whole exporters on the same sockets: CPU time of a scrape, memory, and time from exec to the first page. */
export async function sideBySide({ rounds, processes }: Plan, add: Add): Promise<void> {
  for (const rows of SIZES) await compare(rows, rounds, processes, add);
  await memoryOf(LARGE, processes, add);
}

async function compare(rows: number, rounds: number, processes: number, add: Add): Promise<void> {
  const load = await Load.start(rows, processes);
  await load.step(0, 0);
  const found = findPeers();
  const starts = rows === SIZES[0] ? STARTS : 1;
  const ours: Start = { name: PEERSCOPE, command: process.execPath, args: argsOfOurs(), url: URL_OF_METRICS };
  const others = found.map(({ name, path, args, url }): Start => ({ name, command: path, args, url }));
  const times = new Map<string, number[]>();
  const running = new Map<string, Scraped>();
  for (let i = 0; i < starts; i++)
    for (const start of [ours, ...others]) {
      const one = await Scraped.start(start.command, start.args, start.url, start === ours ? COMPLETE : undefined);
      push(times, start.name, one.startMs);
      if (i === starts - 1) running.set(start.name, one);
      else await one.end();
    }
  const python = new ResidentProcess('/usr/bin/python3', [fileURLToPath(new URL('peers.py', import.meta.url))]);
  const costs = new Map<string, number[]>();
  const contenders = new Map<string, () => Promise<number>>([
    ...[...running].map(([name, one]) => [name, () => cpuOf(one)] as const),
    [PSUTIL, async () => (await python.ask<Measured>('psutil')).cpuMs],
    [SS, async () => (await python.ask<Measured>('ss')).cpuMs],
  ]);
  const warmUp = rows > 10_000 ? WARM_UP_LARGE : WARM_UP;
  for (let round = -warmUp; round < rounds; round++) {
    await load.step(1, processes);
    const order = [...contenders];
    for (let i = 0; i < order.length; i++) {
      const [name, run] = order[(i + round + warmUp) % order.length] ?? [];
      if (name === undefined || run === undefined || (round < -WARM_UP_OTHERS && name !== PEERSCOPE)) continue;
      const cost = await run();
      if (round >= 0) push(costs, name, cost);
    }
  }
  add(...figuresOf(rows, costs));
  if (rows === SIZES[0]) add(...startFigures(rows, times));
  for (const [name, one] of running) add(...memoryFigures(rows, name, one.pid));
  for (const one of [...running.values(), python, load]) await one.end();
}

interface Start {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly url: string;
}

function argsOfOurs(): string[] {
  return ['--max-semi-space-size=2', '--v8-pool-size=1', mainOfExporter(), 'serve', ...ALONE];
}

function push(all: Map<string, number[]>, name: string, value: number): void {
  const values = all.get(name);
  if (values) values.push(value);
  else all.set(name, [value]);
}

async function cpuOf(one: Scraped): Promise<number> {
  const begun = cpuMsOf(one.pid);
  await one.scrape();
  // V8 and Go still collect garbage after the response.
  await new Promise((resolve) => setTimeout(resolve, 50));
  return cpuMsOf(one.pid) - begun;
}

function figuresOf(rows: number, costs: ReadonlyMap<string, readonly number[]>): Figure[] {
  const ours = costs.get(PEERSCOPE) ?? [];
  const figures: Figure[] = [...costs].map(([name, values]) => ({
    rows,
    measure: `CPU time of a scrape: ${name}`,
    unit: 'ms',
    values,
  }));
  for (const [name, values] of costs) {
    if (name === PEERSCOPE) continue;
    const atMost = BOUNDS[name]?.[rows];
    figures.push({
      rows,
      measure: `whole exporter ÷ ${name}`,
      unit: 'ratio',
      values: ours.map((cost, i) => cost / (values[i] ?? NaN)),
      ...(atMost !== undefined && { atMost }),
    });
  }
  return figures;
}

function startFigures(rows: number, times: ReadonlyMap<string, readonly number[]>): Figure[] {
  const ours = times.get(PEERSCOPE) ?? [];
  return [...times].flatMap(([name, values]): Figure[] => [
    { rows, measure: `exec to the first complete page: ${name}`, unit: 'ms', values },
    ...(name.startsWith('node_exporter')
      ? [
          {
            rows,
            measure: `exec to the first complete page ÷ ${name}`,
            unit: 'ratio' as const,
            values: ours.map((ms, i) => ms / (values[i] ?? NaN)),
            atMost: 5,
          },
        ]
      : []),
  ]);
}

function memoryFigures(rows: number, name: string, pid: number): Figure[] {
  const { rss, dirty } = memoryMiBOf(pid);
  const [atMost, dirtyAtMost] = name === PEERSCOPE ? (MEMORY[rows] ?? []) : [];
  return [
    { rows, measure: `resident: ${name}`, unit: 'MiB', values: [rss], ...(atMost && { atMost }) },
    {
      rows,
      measure: `private dirty: ${name}`,
      unit: 'MiB',
      values: [dirty],
      ...(dirtyAtMost && { atMost: dirtyAtMost }),
    },
  ];
}

async function memoryOf(rows: number, processes: number, add: Add): Promise<void> {
  const load = await Load.start(rows, processes);
  const one = await Scraped.start(process.execPath, argsOfOurs(), URL_OF_METRICS, COMPLETE);
  for (let i = 0; i < MEMORY_SCRAPES; i++) {
    await load.step(1, processes);
    await one.scrape();
  }
  add(...memoryFigures(rows, PEERSCOPE, one.pid));
  await one.end();
  await load.end();
}

/** Measures `list` and psutil in a new Python from start to end, in turns. */
export async function listBesidePsutil({ rounds, processes }: Plan, add: Add): Promise<void> {
  for (const [rows, atMost] of [
    [100, 2],
    [1_000, 1.8],
  ] as const) {
    const load = await Load.start(rows, processes);
    const [list, psutil]: [number[], number[]] = [[], []];
    for (let round = 0; round <= rounds; round++) {
      list.push(wallMsOf(process.execPath, [mainOfExporter(), 'list', '--asn.provider=none']));
      psutil.push(wallMsOf('/usr/bin/python3', ['-c', ONE_SHOT]));
    }
    add(
      { rows, measure: 'list, start to end', unit: 'ms', values: list.slice(1) },
      { rows, measure: 'python3 with psutil, start to end', unit: 'ms', values: psutil.slice(1) },
      {
        rows,
        measure: 'list ÷ python3 with psutil',
        unit: 'ratio',
        values: list.slice(1).map((ms, i) => ms / (psutil[i + 1] ?? NaN)),
        atMost,
      },
    );
    await load.end();
  }
}

function wallMsOf(command: string, args: readonly string[]): number {
  const begun = performance.now();
  if (spawnSync(command, args, { stdio: 'ignore' }).status !== 0) throw new Error(`Cannot run "${command}"`);
  return performance.now() - begun;
}
