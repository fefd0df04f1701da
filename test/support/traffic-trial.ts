/**
 * Runs traffic with known payload past an exporter, and prints what was sent and what was counted as one line of JSON:
 * `unshare --net --pid --fork --mount-proc --kill-child node traffic-trial.ts OPTIONS`, where OPTIONS is a `Trial` as JSON. In namespaces
 * of its own nothing else on the machine counts.
 */
import { spawn, spawnSync, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { openSocketSource, type SocketSource } from '../../src/collect/netlink.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { AGENT_PROGRAM } from '../../src/collect/socket-agent.ts';
import { parseConfig } from '../../src/config/config.ts';
import { Scrape } from '../../src/scrape.ts';
import { Exporter } from './exporter.ts';
import { TestNetwork } from './sockets/network.ts';

const TRAFFIC = join(import.meta.dirname, 'sockets/traffic.py');
const PORT = 18_777;
/** Ports for connections of a minute: each is in TIME_WAIT for that long. */
const PORTS = 'echo 20000 65535 > /proc/sys/net/ipv4/ip_local_port_range';
/** How long a scan waits for a dump. */
const DUMP_MS = 1_000;
/** How often the worker takes in ended sockets between scans. */
const ENDED_MS = 1_000;

/** What is to be tried. Names of options of traffic.py stand as they are. */
export interface Trial {
  /** Both processes in the namespace of the agent, or each in a pod. */
  readonly place: 'own' | 'pods';
  /** Seconds between scans. */
  readonly interval: number;
  /** Arguments of `traffic.py call`, and of `traffic.py serve`. */
  readonly call: readonly string[];
  readonly serve?: readonly string[];
  /** How many processes call at the same time. */
  readonly callers?: number;
  /** Which percentage of the packets is lost on their way. */
  readonly lossPercent?: number;
  /** The part of the exporter that scans, in this process, or the whole program. */
  readonly exporter?: 'scrape' | 'program';
  /** How the exporter gets sockets: by the agent; by descriptors that this process has from with-netlink.py; or not at all. */
  readonly sockets?: 'agent' | 'descriptors' | 'none';
  /** Whether the agent is stopped while there is traffic. */
  readonly agentStops?: boolean;
  /** How long scans go on after the last connection, at least, in seconds. */
  readonly restSeconds?: number;
  /** How long scans go on before the first connection, for the CPU time without traffic, in seconds. */
  readonly idleSeconds?: number;
  /** The command that the agent is started by, such as setpriv. */
  readonly agentBy?: readonly string[];
}

/** What one end of all connections transferred. */
export interface Payload {
  readonly connections: number;
  readonly sent: number;
  readonly received: number;
  readonly retransmitted: number;
}

/** A series of one of the families of traffic, with what was added during the trial. */
export interface TrialSeries {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** CPU time in milliseconds, in user mode and in the kernel. */
export interface CpuTime {
  readonly user: number;
  readonly system: number;
}

export interface TrialReport {
  readonly client: Payload;
  readonly server: Payload;
  readonly seconds: number;
  readonly scans: number;
  /** What the families of counters have more than at the start, by family without the prefix. */
  readonly counted: Readonly<Record<string, readonly TrialSeries[]>>;
  readonly sums: Readonly<Record<string, number>>;
  /** The series of counters that were smaller than in the scan before, or absent. */
  readonly stepsBack: readonly string[];
  readonly up: number | null;
  readonly cpu: { readonly exporter: CpuTime; readonly agent: CpuTime };
  readonly idleCpu: {
    readonly exporter: CpuTime;
    readonly agent: CpuTime;
    readonly seconds: number;
    readonly scans: number;
  };
  readonly agentRssKiB: number;
  readonly exporterRssKiB: number;
}

const PREFIX = 'peerscope_';
const COUNTERS = [
  'asn_sent_bytes_total',
  'asn_received_bytes_total',
  'asn_retransmitted_bytes_total',
  'asn_closed_connections_total',
  'endpoint_sent_bytes_total',
  'endpoint_received_bytes_total',
  'connections_opened_total',
  'connections_closed_total',
  'socket_events_total',
  'socket_event_overruns_total',
  'connections_closed_without_totals_total',
  'asn_round_trip_seconds_count',
];

/** The value of each series, by family and labels. */
type Page = ReadonlyMap<string, ReadonlyMap<string, number>>;

type Traffic = ChildProcessByStdio<Writable, Readable, null>;

/** One end of the traffic. */
class End {
  readonly #child: Traffic;
  readonly #lines: AsyncIterator<string>;

  constructor(network: readonly string[], args: readonly string[]) {
    this.#child = spawn('nsenter', [...network, '/usr/bin/python3', TRAFFIC, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async line(): Promise<string> {
    const line = await this.#lines.next();
    if (line.done === true) throw new Error('Cannot run the traffic: it ended early');
    return line.value;
  }

  async end(): Promise<Payload> {
    this.#child.stdin.end();
    return JSON.parse(await this.line()) as Payload;
  }
}

function added(payloads: readonly Payload[]): Payload {
  const sum = (name: keyof Payload): number => payloads.reduce((total, payload) => total + payload[name], 0);
  return {
    connections: sum('connections'),
    sent: sum('sent'),
    received: sum('received'),
    retransmitted: sum('retransmitted'),
  };
}

/** An exporter of either kind. */
interface Scanner {
  readonly pid: number;
  scan(): Promise<Page>;
  close(): Promise<void>;
}

function openScrape(path: string | null): Scanner {
  const config = parseConfig({ 'asn.provider': 'none' }, {});
  const source = openSocketSource({ path, environment: process.env, program: null }) as SocketSource;
  const scrape = new Scrape(new Procfs('/proc'), config, SYSTEM_CLOCK, null, source);
  const taking = setInterval(() => scrape.traffic?.takeEnded(), ENDED_MS);
  return {
    pid: process.pid,
    scan: async () => {
      const dump = await source.dump(DUMP_MS);
      const { families, failures } = scrape.scan(5_000, dump);
      void scrape.traffic?.learnNsids();
      for (const failure of failures) process.stderr.write(`${failure}\n`);
      return new Map(
        families.map(({ name, labels, samples, type }) => [
          type === 'summary' ? `${name}_count` : name,
          new Map(
            samples.map((sample) => [
              JSON.stringify(Object.fromEntries(labels.map((label, i) => [label, sample.labels[i] ?? '']))),
              type === 'summary' ? (sample.count ?? 0) : sample.value,
            ]),
          ),
        ]),
      );
    },
    close: () => {
      clearInterval(taking);
      source.close();
      return Promise.resolve();
    },
  };
}

async function openProgram(flags: readonly string[]): Promise<Scanner> {
  const exporter = await Exporter.start(['--asn.provider=none', '--storage.path=/dev/null/none', ...flags]);
  return {
    pid: exporter.process.pid ?? 0,
    scan: async () => parsePage(await exporter.metrics()),
    close: async () => {
      await exporter.stop();
    },
  };
}

function parsePage(page: string): Page {
  const families = new Map<string, Map<string, number>>();
  for (const line of page.split('\n')) {
    const found = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const [, name = '', text = '', value = ''] = found;
    const labels = [...text.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map(
      ([, label = '', v = '']) => [label, v] as const,
    );
    let family = families.get(name);
    if (!family) families.set(name, (family = new Map<string, number>()));
    family.set(JSON.stringify(Object.fromEntries(labels)), Number(value));
  }
  return families;
}

/** CPU time of a process; it has ticks of 10 ms. */
function cpuOf(pid: number): CpuTime {
  if (pid === process.pid) {
    const { user, system } = process.cpuUsage();
    return { user: user / 1000, system: system / 1000 };
  }
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
  return { user: Number(fields[11]) * 10, system: Number(fields[12]) * 10 };
}

function since(before: CpuTime, now: CpuTime): CpuTime {
  return { user: now.user - before.user, system: now.system - before.system };
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
}

async function run(trial: Trial): Promise<TrialReport> {
  const { place, interval, call, serve = [], lossPercent = 0, exporter = 'scrape', sockets = 'agent' } = trial;
  spawnSync('ip', ['link', 'set', 'lo', 'up']);
  await using network = new TestNetwork();
  // Descriptors are of the namespace of this process.
  const node = sockets === 'descriptors' ? process.pid : await network.make('echo 1 > /proc/sys/net/ipv4/ip_forward');
  const [client, server] = place === 'pods' ? [await network.make(PORTS), await network.make(PORTS)] : [node, node];
  if (place === 'pods') {
    for (const [pod, n] of [
      [client, 1],
      [server, 2],
    ] as const) {
      network.join(node, [`10.77.${n}.1/24`], pod, [`10.77.${n}.2/24`]);
      network.run(pod, `ip route add default via 10.77.${n}.1`);
    }
  }
  if (lossPercent > 0) {
    const chain = place === 'pods' ? 'FORWARD' : 'INPUT';
    network.run(
      node,
      `iptables -A ${chain} -p tcp -m statistic --mode random --probability ${lossPercent / 100} -j DROP`,
    );
  }
  const inside = (holder: number): string[] => [`--target=${holder}`, '--net'];
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-trial-'));
  const socket = join(folder, 'sockets.sock');
  const agent =
    sockets === 'agent'
      ? spawn('nsenter', [...inside(node), ...(trial.agentBy ?? []), AGENT_PROGRAM, '--listen', socket, '--uid', '0'], {
          stdio: ['ignore', 'ignore', 'pipe'],
        })
      : null;
  if (agent) await once(createInterface({ input: agent.stderr }), 'line');
  const flag = sockets === 'agent' ? `--netlink.socket=${socket}` : '--no-collector.netlink';
  const scanner = exporter === 'scrape' ? openScrape(agent ? socket : null) : await openProgram([flag]);
  const agentPid = agent?.pid ?? 0;
  const agentCpu = (): CpuTime => (agent ? cpuOf(agentPid) : { user: 0, system: 0 });

  const address = place === 'pods' ? '10.77.2.2' : '127.0.0.1';
  const serving = new End(inside(server), ['serve', address, String(PORT), ...serve]);
  await serving.line();
  // The first scan sets where counts begin. What ends right after it may have opened before.
  await scanner.scan();
  await pause(500);
  await scanner.scan();
  let idleCpu = { exporter: { user: 0, system: 0 }, agent: { user: 0, system: 0 }, seconds: 0, scans: 0 };
  if (trial.idleSeconds !== undefined) {
    const before = [cpuOf(scanner.pid), agentCpu()] as const;
    const scans = Math.round(trial.idleSeconds / interval);
    for (let i = 0; i < scans; i++) {
      await pause(interval * 1000);
      await scanner.scan();
    }
    idleCpu = {
      exporter: since(before[0], cpuOf(scanner.pid)),
      agent: since(before[1], agentCpu()),
      seconds: trial.idleSeconds,
      scans,
    };
  }
  const first = await scanner.scan();
  const before = [cpuOf(scanner.pid), agentCpu()] as const;
  const begun = performance.now();

  const calling = Array.from(
    { length: trial.callers ?? 1 },
    () => new End(inside(client), ['call', address, String(PORT), ...call]),
  );
  for (const one of calling) await one.line();
  let last = first;
  let scans = 0;
  const stepsBack: string[] = [];
  const scan = async (): Promise<void> => {
    const next = await scanner.scan();
    scans++;
    for (const name of COUNTERS)
      for (const [labels, value] of last.get(PREFIX + name) ?? [])
        if ((next.get(PREFIX + name)?.get(labels) ?? -1) < value) stepsBack.push(`${name} ${labels}`);
    last = next;
  };
  const finished = new AbortController();
  const traffic = Promise.all(calling.map((one) => one.line())).finally(() => finished.abort());
  if (trial.agentStops === true) agent?.kill('SIGSTOP');
  const isOver = (): boolean => finished.signal.aborted;
  while (!isOver()) {
    await pause(interval * 1000, undefined, { signal: finished.signal }).catch(() => undefined);
    if (!isOver()) await scan();
  }
  await traffic;
  if (trial.agentStops === true) agent?.kill('SIGCONT');
  const seconds = (performance.now() - begun) / 1000;
  await scan();
  const clientTruth = added(await Promise.all(calling.map((one) => one.end())));
  const serverTruth = await serving.end();
  await pause((trial.restSeconds ?? 0.3) * 1000);
  for (let i = 0; i < 4; i++) {
    await scan();
    await pause(100);
  }
  const cpu = { exporter: since(before[0], cpuOf(scanner.pid)), agent: since(before[1], agentCpu()) };
  const counted: Record<string, TrialSeries[]> = {};
  const sums: Record<string, number> = {};
  for (const name of COUNTERS) {
    const old = first.get(PREFIX + name);
    const series = [...(last.get(PREFIX + name) ?? [])].map(([labels, value]) => ({
      labels: JSON.parse(labels) as Record<string, string>,
      value: value - (old?.get(labels) ?? 0),
    }));
    counted[name] = series.filter(({ value }) => value !== 0);
    const isTcp = ({ labels }: TrialSeries): boolean =>
      (labels['transport'] ?? 'tcp') === 'tcp' && labels['direction'] !== 'listen';
    sums[name] = series.filter(isTcp).reduce((sum, { value }) => sum + value, 0);
  }
  const report = {
    client: clientTruth,
    server: serverTruth,
    seconds,
    scans,
    counted,
    sums,
    stepsBack,
    up: last.get('peerscope_netlink_up')?.values().next().value ?? null,
    cpu,
    idleCpu,
    agentRssKiB: agent ? rssOf(agentPid) : 0,
    exporterRssKiB: rssOf(scanner.pid),
  };
  await scanner.close();
  agent?.kill('SIGKILL');
  rmSync(folder, { recursive: true });
  return report;
}

if (process.argv[1] === import.meta.filename) {
  process.stdout.write(`${JSON.stringify(await run(JSON.parse(process.argv[2] ?? '{}') as Trial))}\n`);
  process.exit();
}
