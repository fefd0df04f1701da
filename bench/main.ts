/** `npm run bench`: the cost of a scrape compared with psutil, ss and a bare read of the same tables. See README.md. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildExporter } from './exporter.ts';
import { median, renderFigures, type Figure } from './figures.ts';
import { isInside, runInside } from './inside.ts';
import { list } from './list.ts';
import { page } from './page.ts';
import { growth, pods } from './growth.ts';
import { first, health, namespaces, remotes, soak, steady, type Plan } from './parts.ts';
import { downloadPeers, findPeers } from './peers.ts';
import { listBesidePsutil, sideBySide } from './side-by-side.ts';

const RESULTS = new URL('./results/', import.meta.url);
/** The parts in the order in which they run; those after `pods` only on request. */
const PARTS = {
  side: sideBySide,
  steady,
  first,
  health,
  list: listBesidePsutil,
  growth,
  pods,
  namespaces,
  soak,
  remotes,
  page,
  ss: list,
} as const;
const DEFAULT_PARTS = 'side,steady,first,health,list,growth,pods';

const USAGE = `usage: npm run bench -- [--rows 1000,10000] [--parts ${DEFAULT_PARTS}]
       [--rounds 8] [--processes 50] [--scrapes 2000] [--quick]
`;

function parsePlan(): Plan & { parts: (keyof typeof PARTS)[] } {
  const { values } = parseArgs({
    options: {
      rows: { type: 'string', default: '1000,10000' },
      parts: { type: 'string', default: DEFAULT_PARTS },
      rounds: { type: 'string', default: '8' },
      processes: { type: 'string', default: '50' },
      scrapes: { type: 'string', default: '2000' },
      quick: { type: 'boolean', default: false },
    },
  });
  const numbers = (text: string): number[] => text.split(',').map(Number);
  const [rounds = 0, processes = 0, scrapes = 0] = [values.rounds, values.processes, values.scrapes].map(Number);
  const plan = values.quick
    ? { rows: [1000], rounds: 3, processes, scrapes: 100, parts: ['steady' as const] }
    : { rows: numbers(values.rows), rounds, processes, scrapes, parts: partsOf(values.parts) };
  if (![...plan.rows, plan.rounds, plan.processes, plan.scrapes].every((n) => Number.isInteger(n) && n > 0))
    throw new TypeError('Cannot run: rows, rounds, processes and scrapes must be whole numbers above 0');
  return plan;
}

function partsOf(text: string): (keyof typeof PARTS)[] {
  return text.split(',').map((name) => {
    const part = Object.keys(PARTS).find((known) => known === name);
    if (part === undefined)
      throw new TypeError(`Cannot run the part "${name}": it must be one of ${Object.keys(PARTS).join(', ')}`);
    return part as keyof typeof PARTS;
  });
}

/** The reason why the comparison cannot run here, or null. */
function obstacle(): string | null {
  const runs = (command: string, ...args: string[]): boolean =>
    spawnSync(command, args, { stdio: 'ignore' }).status === 0;
  if (!runs('/usr/bin/python3', '-c', 'import psutil'))
    return 'it needs psutil of /usr/bin/python3 (apt-get install python3-psutil)';
  if (!runs('ss', '-V') || !runs('ip', '-V')) return 'it needs ss and ip (apt-get install iproute2)';
  return null;
}

function machine(): Record<string, string | number> {
  const said = (command: string, ...args: string[]): string =>
    spawnSync(command, args, { encoding: 'utf8' }).stdout.trim();
  const buckets = '/proc/sys/net/ipv4/tcp_ehash_entries';
  return {
    cpu: cpus()[0]?.model ?? '',
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    psutil: said('/usr/bin/python3', '-c', 'import psutil; print(psutil.__version__)'),
    ss: said('ss', '-V'),
    ...Object.fromEntries(findPeers().map(({ program, version }) => [program, version])),
    establishedHashBuckets: existsSync(buckets) ? Math.abs(Number(readFileSync(buckets, 'latin1'))) : '',
  };
}

function load(): string {
  const slabs = '/proc/slabinfo';
  const inUse = existsSync(slabs) ? [...readFileSync(slabs, 'latin1').matchAll(/^(TCP|TCPv6|UDP|UDPv6) +(\d+)/gm)] : [];
  const sockets = inUse.map(([, name, count]) => `${name} ${count}`).join(', ');
  return `load average ${loadavg()
    .map((load) => load.toFixed(2))
    .join(' ')}; sockets of the whole host: ${sockets || 'unknown'}`;
}

async function run(): Promise<void> {
  const plan = parsePlan();
  await buildExporter();
  const about = machine();
  const begun = load();
  process.stdout.write(
    `${Object.entries(about)
      .map(([name, value]) => `${name}: ${value}`)
      .join('\n')}\nstart: ${begun}\n\n`,
  );
  const figures: Figure[] = [];
  const startedAt = performance.now();
  const elapsed = (): string => ((performance.now() - startedAt) / 1000).toFixed(0);
  const add = (...more: readonly Figure[]): void => {
    figures.push(...more);
    for (const { rows, load: name = `${rows} rows`, measure, values } of more)
      process.stderr.write(`${elapsed()} s: ${name}: ${measure}: ${median(values).toFixed(2)}\n`);
  };
  for (const part of plan.parts) await PARTS[part](plan, add);
  const ended = load();
  process.stdout.write(`${renderFigures(figures)}\nend: ${ended}\n`);
  mkdirSync(RESULTS, { recursive: true });
  const file = new URL('bench.json', RESULTS);
  writeFileSync(file, `${JSON.stringify({ machine: about, plan, begun, ended, figures }, null, 2)}\n`);
  process.stdout.write(`written to ${fileURLToPath(file)}\n`);
}

const missing = obstacle();
if (missing !== null) {
  process.stderr.write(`Cannot compare with psutil and ss: ${missing}\n`);
  process.exitCode = 1;
} else if (!isInside()) {
  try {
    parsePlan();
    downloadPeers();
    process.exitCode = runInside();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    process.exitCode = 2;
  }
} else {
  await run();
}
