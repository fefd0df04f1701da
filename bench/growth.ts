import { freemem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Load } from './load.ts';
import type { Add, Plan } from './parts.ts';
import { memoryMiBOf, ResidentProcess, type Scanned } from './resident-process.ts';

const ROWS = 1_000;
const SCANS = 5;
const PODS = 110;
const POD_SCANS = 20;
/** Kernel memory of a row, with both ends of its connection in Python. */
const BYTES_PER_ROW = 6_000;
/** Rows of a process at most: its descriptors are limited. */
const ROWS_PER_PROCESS = 5_000;
const FEW = { processes: 300, descriptors: 20 };

/** One load: how it is held, what makes it large, and how large. */
interface Shape {
  readonly load: string;
  readonly rows: number;
  readonly idle: typeof FEW;
  readonly namespaces: number;
}

const SHAPES: readonly Shape[] = [
  ...[1_000, 10_000, 100_000, 1_000_000].map((rows) => shape(`${text(rows)} rows`, { rows })),
  ...[500, 5_000].map((processes) => shape(`${text(processes)} processes`, { idle: { ...FEW, processes } })),
  ...[100, 10_000].map((descriptors) =>
    shape(`5 processes of ${text(descriptors)} descriptors`, { idle: { processes: 5, descriptors } }),
  ),
  ...[10, 110, 500].map((namespaces) => shape(`${text(namespaces)} namespaces with a listener each`, { namespaces })),
];

function shape(load: string, { rows = ROWS, idle = FEW, namespaces = 0 }: Partial<Shape>): Shape {
  return { load, rows, idle, namespaces };
}

/** Measures how the first and later scans grow with rows, processes, descriptors and namespaces. */
export async function growth({ processes }: Plan, add: Add): Promise<void> {
  for (const { load: name, rows, idle, namespaces } of SHAPES) {
    if (rows * BYTES_PER_ROW > freemem()) continue;
    const holders = Math.max(processes, Math.ceil(rows / ROWS_PER_PROCESS));
    const load = await Load.start(rows, holders, idle);
    if (namespaces > 0) await load.namespaces(namespaces, 'listener');
    const scan = new ResidentProcess(process.execPath, [
      '--max-semi-space-size=2',
      fileURLToPath(new URL('resident.ts', import.meta.url)),
    ]);
    const first = (await scan.ask<Scanned>('scan')).cpuMs;
    const later: number[] = [];
    for (let i = -2; i < SCANS; i++) {
      await load.step(1, holders);
      const { cpuMs } = await scan.ask<Scanned>('scan');
      if (i >= 0) later.push(cpuMs);
    }
    add(
      { rows, load: name, measure: 'first scan', unit: 'ms', values: [first] },
      { rows, load: name, measure: 'later scans, 1 % changed', unit: 'ms', values: later },
      { rows, load: name, measure: 'resident, scans alone', unit: 'MiB', values: [memoryMiBOf(scan.pid).rss] },
    );
    await scan.end();
    await load.end();
  }
}

/** Measures scans of a node of pods, each with a listener and a connection over which bytes flow before each scan. */
export async function pods({ processes }: Plan, add: Add): Promise<void> {
  const load = await Load.start(ROWS, processes);
  await load.namespaces(PODS, 'pod');
  const scan = new ResidentProcess(process.execPath, [
    '--max-semi-space-size=2',
    fileURLToPath(new URL('resident.ts', import.meta.url)),
  ]);
  const costs: number[] = [];
  for (let i = -12; i < POD_SCANS; i++) {
    await load.traffic(1_000);
    const { cpuMs } = await scan.ask<Scanned>('scan');
    if (i >= 0) costs.push(cpuMs);
  }
  const mean = costs.reduce((sum, cost) => sum + cost, 0) / costs.length;
  const name = `${PODS} pods with traffic in each`;
  add(
    { rows: ROWS, load: name, measure: 'later scans', unit: 'ms', values: costs, atMost: 150 },
    { rows: ROWS, load: name, measure: 'later scans, mean', unit: 'ms', values: [mean], atMost: 150 },
  );
  await scan.end();
  await load.end();
}

function text(number: number): string {
  return number.toLocaleString('en-US');
}
