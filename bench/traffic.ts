/**
 * `npm run bench:traffic`: ended connections between two pods and in one namespace, with known payload; what a dump of sockets costs
 * compared with the text of procfs; and memory. It needs root. See README.md.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { SYSTEM_CLOCK } from '../src/common/clock.ts';
import { openSocketSource, type SocketSource } from '../src/collect/netlink.ts';
import { Procfs } from '../src/collect/procfs.ts';
import { AGENT_PROGRAM } from '../src/collect/socket-agent.ts';
import { parseConfig } from '../src/config/config.ts';
import { Scrape } from '../src/scrape.ts';
import type { Trial, TrialReport, TrialSeries } from '../test/support/traffic-trial.ts';
import { median } from './figures.ts';
import { Load } from './load.ts';

const TRIAL = fileURLToPath(new URL('../test/support/traffic-trial.ts', import.meta.url));
const WITH_DESCRIPTORS = fileURLToPath(new URL('../test/support/sockets/with-netlink.py', import.meta.url));
const PARTS = ['connections', 'rate', 'scan', 'memory'];
const USAGE = `usage: npm run bench:traffic -- [--parts ${PARTS.join()}] [--seconds 30] [--rounds 8]\n`;
/** Rounds that are dropped: the code is not compiled yet. */
const WARM_UP = 5;
const MEMORY_ROWS = 50_000;
const NAMESPACES = ['--net', '--pid', '--fork', '--mount-proc', '--kill-child'];

function runInside(program: string, argument: string, by: readonly string[] = []): string {
  const script = 'ip link set lo up && exec "$0" "$@"';
  const { stdout, status } = spawnSync(
    'unshare',
    [...NAMESPACES, 'sh', '-c', script, ...by, process.execPath, '--expose-gc', program, argument],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 26 },
  );
  if (status !== 0) throw new Error(`Cannot run "${argument}"`);
  return stdout;
}

function runTrial(trial: Trial): TrialReport {
  const by = trial.sockets === 'descriptors' ? ['/usr/bin/python3', WITH_DESCRIPTORS] : [];
  return JSON.parse(runInside(TRIAL, JSON.stringify(trial), by)) as TrialReport;
}

function print(name: string, value: string | number): void {
  process.stdout.write(`- ${name}: ${value}\n`);
}

/** What was counted, compared with what was sent. */
function describeCounts({ client, server, sums, seconds, counted, stepsBack }: TrialReport): void {
  const sum = (name: string): number => sums[name] ?? NaN;
  const ends = client.connections + server.connections;
  const difference = (name: string, truth: number): string => `${sum(name)} (truth ${truth}, ${sum(name) - truth})`;
  print('connections a second', Math.round(client.connections / seconds));
  print('ended, both ends', difference('asn_closed_connections_total', ends));
  print('opened, both ends', difference('connections_opened_total', ends));
  print('sent bytes', difference('asn_sent_bytes_total', client.sent + server.sent));
  print('received bytes', difference('asn_received_bytes_total', client.received + server.received));
  print('lost events', sum('socket_event_overruns_total'));
  print('events and losses', sum('socket_events_total') + sum('socket_event_overruns_total'));
  print('closed without totals', sum('connections_closed_without_totals_total'));
  print('series that stepped back', stepsBack.length);
  const ended = counted['asn_closed_connections_total'] ?? [];
  const of = (is: (series: TrialSeries) => boolean): number => ended.filter(is).reduce((n, { value }) => n + value, 0);
  for (const direction of ['inbound', 'outbound', 'loopback']) {
    const all = of(({ labels }) => labels['direction'] === direction);
    const named = of(({ labels }) => labels['direction'] === direction && labels['process'] === 'traffic.py');
    if (all > 0) print(`${direction}, with its process`, `${named} of ${all} (${((100 * named) / all).toFixed(2)} %)`);
  }
}

function describeCpu({ cpu, client, server, agentRssKiB, exporterRssKiB }: TrialReport, without: TrialReport): void {
  const micros = (ms: number): string => ((ms * 1000) / (client.connections + server.connections)).toFixed(1);
  const total = ({ user, system }: TrialReport['cpu']['agent']): number => user + system;
  print('agent, µs of CPU per event', `${micros(total(cpu.agent))} (in the kernel ${micros(cpu.agent.system)})`);
  print('exporter with netlink, µs per event', micros(total(cpu.exporter)));
  print('exporter without netlink, same traffic, µs per event', micros(total(without.cpu.exporter)));
  const more = total(cpu.agent) + total(cpu.exporter) - total(without.cpu.exporter);
  print('agent and exporter, more than without netlink, µs per event', micros(more));
  print('agent, resident', `${agentRssKiB} KiB`);
  print(
    'exporter, resident',
    `${Math.round(exporterRssKiB / 1024)} MiB (${Math.round(without.exporterRssKiB / 1024)} MiB without netlink)`,
  );
}

function call(connections: number, rate: number, end: string): string[] {
  const options = { connections, rate, sent: 200, received: 500, end };
  return ['--keep', ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`])];
}

function connections(seconds: number): void {
  const trial = {
    place: 'pods',
    interval: 15,
    exporter: 'program',
    callers: 8,
    call: call(250 * seconds, 250, 'client,server'),
  } as const;
  process.stdout.write(`\n2,000 connections a second for ${seconds} s between two pods, one scrape in 15 s\n\n`);
  const report = runTrial(trial);
  describeCounts(report);
  describeCpu(report, runTrial({ ...trial, sockets: 'none' }));
}

function rate(): void {
  process.stdout.write('\n5,000 connections a second for 6 s between two pods, buffer of 4 MiB\n\n');
  const base = { interval: 15, callers: 16, call: call(1_875, 312.5, 'client,server') } as const;
  describeCounts(runTrial({ ...base, place: 'pods', exporter: 'program' }));
  process.stdout.write('\nThe same in one namespace, inherited descriptors with the default buffer\n\n');
  describeCounts(runTrial({ ...base, place: 'own', sockets: 'descriptors' }));
}

/** An agent of this namespace and its client. */
async function openAgent(): Promise<{ source: SocketSource; pid: number; close(): void }> {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-bench-'));
  const path = join(folder, 'sockets.sock');
  const agent = spawn(AGENT_PROGRAM, ['--listen', path, '--uid', String(process.getuid?.() ?? 0)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await once(createInterface({ input: agent.stderr }), 'line');
  const source = openSocketSource({ path, environment: {}, program: null });
  if (!source) throw new Error('Cannot open the socket source');
  const close = (): void => {
    source.close();
    agent.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  };
  return { source, pid: agent.pid ?? 0, close };
}

function openScrape(source: SocketSource | null): Scrape {
  return new Scrape(new Procfs('/proc'), parseConfig({ 'asn.provider': 'none' }, {}), SYSTEM_CLOCK, null, source);
}

async function scanOnce(scrape: Scrape, source: SocketSource | null): Promise<void> {
  const dump = source ? await source.dump(60_000) : null;
  if (source && !dump) throw new Error(`Cannot dump sockets: ${source.failure ?? ''}`);
  const { failures } = scrape.scan(60_000, dump);
  if (failures.length > 0) throw new Error(`Cannot scan: ${failures.join('; ')}`);
}

/** CPU time of the scheduler's own count, in milliseconds, of all threads. */
function agentMs(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
}

/** CPU time of a scan with dumps and of one without, in turns, on the same rows. */
async function scan(rounds: number): Promise<void> {
  for (const rows of [10_000, 50_000]) {
    const load = await Load.start(rows, 50);
    const agent = await openAgent();
    const { source, pid } = agent;
    const [withDumps, without] = [openScrape(source), openScrape(null)];
    const took: Record<'dumps' | 'text' | 'agent', number[]> = { dumps: [], text: [], agent: [] };
    for (let round = 0; round < rounds + WARM_UP; round++) {
      await load.step(1, 50);
      const started = agentMs(pid);
      const a = process.cpuUsage();
      await scanOnce(withDumps, source);
      const b = process.cpuUsage(a);
      took.agent.push(agentMs(pid) - started);
      const c = process.cpuUsage();
      await scanOnce(without, null);
      const d = process.cpuUsage(c);
      took.dumps.push((b.user + b.system) / 1000);
      took.text.push((d.user + d.system) / 1000);
    }
    const ratios = took.dumps.map((ms, i) => ms / (took.text[i] ?? NaN)).slice(WARM_UP);
    const withAgent = took.dumps.map((ms, i) => (ms + (took.agent[i] ?? 0)) / (took.text[i] ?? NaN)).slice(WARM_UP);
    const range = (values: readonly number[]): string =>
      `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)}–${Math.max(...values).toFixed(2)})`;
    print(`${rows} rows: scan with dumps`, `${median(took.dumps.slice(WARM_UP)).toFixed(0)} ms`);
    print(`${rows} rows: scan without`, `${median(took.text.slice(WARM_UP)).toFixed(0)} ms`);
    print(`${rows} rows: agent`, `${median(took.agent.slice(WARM_UP)).toFixed(0)} ms`);
    print(`${rows} rows: with ÷ without, at most 0.75`, range(ratios));
    print(`${rows} rows: with and agent ÷ without`, range(withAgent));
    agent.close();
    await load.end();
  }
}

/** Memory of the state of 50,000 rows. */
async function memory(hasTotals: boolean): Promise<void> {
  const load = await Load.start(MEMORY_ROWS, 50);
  const agent = hasTotals ? await openAgent() : null;
  const measure = (): number => {
    (globalThis as { gc?: () => void }).gc?.();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  // Code that the first scan compiles is not counted.
  const source = agent?.source ?? null;
  await scanOnce(openScrape(source), source);
  const before = measure();
  const scrape = openScrape(source);
  for (let scans = 0; scans < 4; scans++) await scanOnce(scrape, source);
  const bytes = measure() - before;
  if (scrape.connections.length < MEMORY_ROWS) throw new Error('Cannot measure memory: rows are missing');
  print(
    `memory per 1,000 rows ${hasTotals ? 'with totals' : 'without netlink'}`,
    `${Math.round(bytes / 1024 / (MEMORY_ROWS / 1000))} KiB`,
  );
  agent?.close();
  await load.end();
}

function main(): void {
  const { values } = parseArgs({
    options: {
      parts: { type: 'string', default: PARTS.join() },
      seconds: { type: 'string', default: '30' },
      rounds: { type: 'string', default: '8' },
    },
  });
  const parts = values.parts.split(',');
  if (!parts.every((part) => PARTS.includes(part))) throw new TypeError(USAGE);
  print('CPU', `${cpus()[0]?.model ?? ''}, ${cpus().length} cores`);
  print('kernel, Node.js', `${release()}, ${process.version}`);
  print(
    'load average',
    loadavg()
      .map((load) => load.toFixed(1))
      .join(' '),
  );
  const own = fileURLToPath(import.meta.url);
  if (parts.includes('connections')) connections(Number(values.seconds));
  if (parts.includes('rate')) rate();
  if (parts.includes('scan')) process.stdout.write(`\nScans\n\n${runInside(own, `scan ${values.rounds}`)}`);
  if (parts.includes('memory'))
    process.stdout.write(`\nMemory\n\n${runInside(own, 'memory without')}${runInside(own, 'memory with')}`);
  print(
    'load average',
    loadavg()
      .map((load) => load.toFixed(1))
      .join(' '),
  );
}

const [part, argument] = (process.argv[2] ?? '').split(' ');
if (part === 'scan') await scan(Number(argument));
else if (part === 'memory') await memory(argument === 'with');
else main();
process.exit();
