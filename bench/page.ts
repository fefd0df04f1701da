import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PartWriter } from '../src/expose/prometheus-text.ts';
import type { Family } from '../src/model.ts';
import { ExporterProcess } from './exporter.ts';
import type { Figure } from './figures.ts';
import { Load } from './load.ts';
import { LoopWatch } from './loop.ts';
import type { Add, Plan } from './parts.ts';

const SERIES = 20_000;
/** Each process holds sockets under its own name, for at least the requested number of series. */
const PROCESSES = 1_500;
const ROWS = 6_000;
const SCRAPES = 20;
const FAMILIES = 20;
const LABELS = ['process', 'namespace', 'workload', 'pod', 'container', 'transport', 'direction', 'state'];

/** Measures the CPU time of a page of 20,000 series, and how long it blocks the main thread. */
export async function page({ rounds }: Plan, add: Add): Promise<void> {
  add(...(await rendering(rounds)), ...(await blocking()));
}

async function rendering(rounds: number): Promise<Figure[]> {
  const [first, later]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    const writer = new PartWriter();
    for (const costs of [first, later, later, later, later]) {
      const families = Array.from({ length: FAMILIES }, (_, i) => familyOf(i));
      const before = process.cpuUsage();
      await writer.write(families, 'openmetrics');
      const { user, system } = process.cpuUsage(before);
      costs.push((user + system) / 1000);
    }
  }
  return [
    { rows: 0, measure: `rendering ${SERIES} series that are new`, unit: 'ms', values: first.slice(1) },
    { rows: 0, measure: `rendering ${SERIES} series again`, unit: 'ms', values: later.slice(4), atMost: 70 },
  ];
}

function familyOf(number: number): Family {
  const samples = Array.from({ length: SERIES / FAMILIES }, (_, i) => ({
    labels: [`process-${i}`, 'shop', `orders-${i % 40}`, `orders-${i}-7d9c5`, 'app', 'tcp', 'outbound', 'established'],
    value: i,
  }));
  const help = 'Rows of a table, by owner, direction and state.';
  return { name: `peerscope_family_${number}`, help, type: 'gauge', labels: LABELS, samples };
}

async function blocking(): Promise<Figure[]> {
  const load = await Load.start(ROWS, PROCESSES);
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-bench-page-'));
  const rules = join(folder, 'rules.yml');
  writeFileSync(rules, "processes:\n  - name: '{{ .who }}'\n    comm: '^(?<who>load-[0-9]+)$'\n");
  const watch = new LoopWatch();
  const flags = ['--scrape.budget=10m', '--asn.provider=none', '--storage.path=/dev/null/none', '--log.level=error'];
  const exporter = await ExporterProcess.start(
    [...flags, `--config.file=${rules}`, `--series.limit=${SERIES}`],
    watch.environment,
  );
  const count = async (): Promise<number> => (await exporter.scrape()).match(/^[a-z]/gm)?.length ?? 0;
  for (let i = 0; i < SCRAPES; i++) await count();
  watch.reset(exporter.pid);
  let series = 0;
  for (let i = 0; i < SCRAPES; i++) series = await count();
  await exporter.end();
  const { own, idle } = await watch.end();
  await load.end();
  rmSync(folder, { recursive: true });
  return [
    { rows: ROWS, measure: 'series of a page', unit: 'count', values: [series] },
    {
      rows: ROWS,
      measure: 'most CPU time of the main thread from one timer of 10 ms to the next, in 20 scrapes',
      unit: 'ms',
      values: [own.busiest],
      atMost: 20,
    },
    { rows: ROWS, measure: 'longest delay of a timer there', unit: 'ms', values: [own.most] },
    { rows: ROWS, measure: 'longest delay of a timer in a process that does nothing', unit: 'ms', values: [idle.most] },
  ];
}
