import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { AGENT_PROGRAM } from '../../src/collect/socket-agent.ts';
import type { ConnectionEvent, Row } from '../../src/model.ts';
import { ENVIRONMENT, Exporter, samplesOf, sumOf } from '../support/exporter.ts';
import { FakeAgent, frame, helloFrame, words, type Behavior } from '../support/fake-agent.ts';
import { Agent } from '../support/socket-agent.ts';
import { TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';
import type { Trial, TrialReport } from '../support/traffic-trial.ts';

const here = (name: string): string => join(import.meta.dirname, '../support', name);
const obstacle = whyNoNamespaces() ?? (existsSync(AGENT_PROGRAM) ? null : 'peerscope-sockets is not compiled');
if (obstacle !== null) process.stderr.write(`SKIPPED: traffic: ${obstacle}\n`);
const hasLoss = spawnSync('iptables', ['--version']).error === undefined;

/** Runs a trial in namespaces of its own. */
function runTrial(trial: Trial): TrialReport {
  const { stdout, stderr, status } = spawnSync(
    'unshare',
    [
      '--net',
      '--pid',
      '--fork',
      '--mount-proc',
      '--kill-child',
      process.execPath,
      here('traffic-trial.ts'),
      JSON.stringify(trial),
    ],
    { encoding: 'utf8', env: ENVIRONMENT },
  );
  if (status !== 0) throw new Error(`Cannot run the trial: ${stderr}`);
  return JSON.parse(stdout) as TrialReport;
}

/** `call` with these options of traffic.py. One connection is open all the time, so that scans see who calls. */
function call(connections: number, rate: number, ...more: readonly string[]): string[] {
  return [
    '--connections',
    `${connections}`,
    '--rate',
    `${rate}`,
    '--sent',
    '3000',
    '--received',
    '9000',
    '--keep',
    ...more,
  ];
}

/** What is counted and what was sent, both ends together. */
function compare({ client, server, sums }: TrialReport): { counted: object; truth: object } {
  const sum = (name: string): number => sums[name] ?? NaN;
  return {
    counted: {
      sent: sum('asn_sent_bytes_total'),
      received: sum('asn_received_bytes_total'),
      retransmitted: sum('asn_retransmitted_bytes_total'),
      ended: sum('asn_closed_connections_total'),
      opened: sum('connections_opened_total'),
      withoutTotals: sum('connections_closed_without_totals_total'),
      lost: sum('socket_event_overruns_total'),
    },
    truth: {
      sent: client.sent + server.sent,
      received: client.received + server.received,
      retransmitted: client.retransmitted + server.retransmitted,
      ended: client.connections + server.connections,
      opened: client.connections + server.connections,
      withoutTotals: 0,
      lost: 0,
    },
  };
}

/** The share of ended connections that have a process. */
function attributed({ counted }: TrialReport): number {
  const series = counted['asn_closed_connections_total'] ?? [];
  const sum = (list: typeof series): number => list.reduce((total, { value }) => total + value, 0);
  return sum(series.filter(({ labels }) => labels['process'] === 'traffic.py')) / sum(series);
}

const TRIALS: [what: string, trial: Trial][] = [
  [
    'the client or the server closes first',
    { place: 'own', interval: 0.2, call: call(200, 150, '--end', 'client,server,early') },
  ],
  ['the same between two pods', { place: 'pods', interval: 0.2, call: call(200, 150, '--end', 'client,server,early') }],
  [
    'the same with a second between scans',
    { place: 'pods', interval: 1, call: call(300, 150, '--end', 'client,server') },
  ],
  ['the client closes with unread data', { place: 'pods', interval: 0.2, call: call(150, 150, '--end', 'reset') }],
  ['a child of the client closes', { place: 'own', interval: 0.2, call: call(100, 100, '--by', 'fork') }],
  ['a process that got the descriptor closes', { place: 'pods', interval: 0.2, call: call(100, 100, '--by', 'pass') }],
  [
    'the listener closed while its connections were open',
    { place: 'own', interval: 0.2, serve: ['--listener-ends-after', '101'], call: call(100, 100, '--together') },
  ],
  [
    'the server leaves TIME_WAIT, and the client uses its port again',
    { place: 'pods', interval: 0.2, call: call(60, 60, '--end', 'server', '--from-port', '50111') },
  ],
  [
    'the client uses a port in TIME_WAIT again',
    { place: 'own', interval: 0.2, call: call(3, 0.9, '--from-port', '50111') },
  ],
  ...(hasLoss
    ? [
        [
          '5 % of the packets are lost',
          { place: 'pods', interval: 0.2, lossPercent: 5, call: call(60, 100) },
        ] satisfies [string, Trial],
      ]
    : []),
];

describe.skipIf(obstacle !== null)('traffic with known payload', () => {
  it.for(TRIALS)('is counted to the byte: %s', { timeout: 60_000 }, ([, trial]) => {
    const report = runTrial(trial);
    const { counted, truth } = compare(report);
    expect(counted).toEqual(truth);
    expect(report.stepsBack).toEqual([]);
    expect(report.scans).toBeGreaterThan(4);
    if (trial.lossPercent !== undefined) expect(report.client.retransmitted).toBeGreaterThan(0);
  });

  it('has the process of the listener and of the sole caller', { timeout: 60_000 }, () => {
    const report = runTrial({ place: 'pods', interval: 1, call: call(300, 150, '--end', 'client,server') });
    expect(attributed(report)).toBeGreaterThanOrEqual(0.99);
  });

  // test/collect/sock-diag.test.ts says why.
  it('counts at most one byte more for a half-close that no scan saw', { timeout: 60_000 }, () => {
    const report = runTrial({ place: 'pods', interval: 0.2, call: call(100, 100, '--end', 'half') });
    const { counted, truth } = compare(report) as Record<'counted' | 'truth', Record<string, number>>;
    const more = (counted['received'] ?? 0) - (truth['received'] ?? 0);
    expect({ ...counted, received: 0 }).toEqual({ ...truth, received: 0 });
    expect(more).toBeGreaterThanOrEqual(0);
    expect(more).toBeLessThanOrEqual(100);
  });

  it('counts the connections of SO_LINGER 0, whose totals the kernel discards', { timeout: 60_000 }, () => {
    const report = runTrial({ place: 'pods', interval: 0.2, call: call(100, 100, '--end', 'linger') });
    const { client, server, sums } = report;
    expect(sums['connections_opened_total']).toBe(client.connections + server.connections);
    expect(sums['connections_closed_without_totals_total']).toBe(100);
    // The server and the connection that stays open have all of theirs.
    const kept = { sent: 16 + 3000, received: 9000 };
    const ofSeenLingering = (sums['asn_sent_bytes_total'] ?? 0) - server.sent - kept.sent;
    expect(ofSeenLingering).toBeGreaterThanOrEqual(0);
    expect(ofSeenLingering).toBeLessThan(client.sent / 2);
    expect(report.stepsBack).toEqual([]);
  });

  it('counts lost events, and invents nothing', { timeout: 60_000 }, () => {
    const report = runTrial({
      place: 'own',
      interval: 0.2,
      agentStops: true,
      call: [...call(14_000, 1e6), '--sent', '10', '--received', '10'],
    });
    const { counted, truth } = compare(report) as Record<'counted' | 'truth', Record<string, number>>;
    expect(counted['lost']).toBeGreaterThan(0);
    // Both ends of each connection, and the listener.
    expect((counted['lost'] ?? 0) + (report.sums['socket_events_total'] ?? 0)).toBe((truth['ended'] ?? 0) + 1);
    for (const name of ['sent', 'received', 'ended', 'opened'])
      expect(counted[name]).toBeLessThanOrEqual(truth[name] ?? 0);
    expect(report.stepsBack).toEqual([]);
  });

  it('reaches the page of the program', { timeout: 60_000 }, () => {
    const report = runTrial({
      place: 'pods',
      interval: 0.5,
      exporter: 'program',
      call: call(200, 150, '--end', 'client,server'),
    });
    const { counted, truth } = compare(report);
    expect(counted).toEqual(truth);
    expect(report.up).toBe(1);
    expect(report.stepsBack).toEqual([]);
  });
});

describe.skipIf(obstacle !== null)('the program and its socket agent', () => {
  const network = new TestNetwork();
  let node = 0;
  let folder = '';
  let path = '';
  const ends: (() => unknown)[] = [];

  beforeAll(async () => {
    if (obstacle === null) node = await network.make();
  });
  afterAll(() => network[Symbol.asyncDispose]());
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'peerscope-traffic-'));
    path = join(folder, 'sockets.sock');
  });
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
    rmSync(folder, { recursive: true });
  });

  async function startAgent(): Promise<Agent> {
    const agent = await Agent.listen(['nsenter', `--target=${node}`, '--net', AGENT_PROGRAM], path, 0);
    ends.push(async () => {
      agent.signal('SIGKILL');
      await agent.ended();
    });
    return agent;
  }

  async function startExporter(): Promise<Exporter> {
    const exporter = await Exporter.start([
      '--asn.provider=none',
      '--storage.path=/dev/null/none',
      `--netlink.socket=${path}`,
    ]);
    ends.push(() => exporter.stop());
    return exporter;
  }

  /** A connection inside the namespace, with 3,016 bytes from the client. It ends with its standard input. */
  async function transfer(...options: readonly string[]): Promise<{ end(): Promise<void> }> {
    const args = (...more: readonly string[]): string[] => [
      `--target=${node}`,
      '--net',
      '/usr/bin/python3',
      here('sockets/traffic.py'),
      ...more,
    ];
    const started: ChildProcess[] = [];
    for (const more of [
      ['serve', '127.0.0.1', '18999'],
      [
        'call',
        '127.0.0.1',
        '18999',
        '--keep',
        '--sent',
        '3000',
        ...(options.length > 0 ? options : ['--connections', '0']),
      ],
    ]) {
      const child = spawn('nsenter', args(...more), { stdio: ['pipe', 'pipe', 'inherit'] });
      started.push(child);
      for await (const line of createInterface({ input: child.stdout }))
        if (line === (more[0] === 'call' ? 'done' : 'ready')) break;
    }
    const end = async (): Promise<void> => {
      for (const child of started.splice(0).reverse()) {
        child.stdout?.resume();
        child.stdin?.end();
        if (child.exitCode === null) await once(child, 'exit');
      }
    };
    ends.push(end);
    return { end };
  }

  const isUp = (page: string): boolean => samplesOf(page, 'peerscope_netlink_up').values().next().value === 1;
  const sentOf = (page: string): number => sumOf(page, 'peerscope_asn_sent_bytes_total');

  it(
    'goes back to procfs if the agent is killed during a dump, and counts again after its restart',
    { timeout: 60_000 },
    async () => {
      const agent = await startAgent();
      const exporter = await startExporter();
      await exporter.metricsOnce(isUp);
      const open = await transfer();
      await exporter.metricsOnce((page) => sentOf(page) === 3_016);
      agent.signal('SIGSTOP');
      const scrape = exporter.metrics();
      agent.signal('SIGKILL');
      await scrape;
      const down = await exporter.metricsOnce((page) => !isUp(page));
      expect(down).not.toContain('peerscope_asn_sent_bytes_total{');
      expect(sumOf(down, 'peerscope_connections')).toBeGreaterThan(0);
      expect(sumOf(down, 'peerscope_socket_event_overruns_total')).toBe(1);
      expect(exporter.log.map(({ msg }) => msg)).toContain(
        'bytes and ended connections are not read: sockets come from procfs alone',
      );
      await startAgent();
      await exporter.metricsOnce((page) => isUp(page) && sentOf(page) === 3_016);
      await open.end();
      await exporter.metricsOnce((page) => sumOf(page, 'peerscope_socket_events_total') >= 3);
      expect(sentOf(await exporter.metrics())).toBe(3_016);
    },
  );

  it('a restart of the program invents no bytes', { timeout: 60_000 }, async () => {
    await startAgent();
    const open = await transfer();
    for (let start = 1; start <= 2; start++) {
      const exporter = await startExporter();
      await exporter.metricsOnce(isUp);
      expect(sentOf(await exporter.metrics())).toBe(0);
      if (start === 2) {
        await open.end();
        await exporter.metricsOnce((page) => sumOf(page, 'peerscope_socket_events_total') >= 2);
        expect(sentOf(await exporter.metrics())).toBe(0);
      }
      await exporter.stop();
    }
  });

  const LIES: [what: string, behavior: Behavior][] = [
    ['random bytes', { greeting: Uint8Array.from({ length: 4096 }, (_, i) => (i * 7919 + 13) % 251) }],
    ['a frame of 1 GiB', { greeting: new Uint8Array(words(1 << 30, 1, 0)) }],
    ['a frame of 1 GiB after its greeting', { greeting: Buffer.concat([helloFrame(), words(1 << 30, 3, 0)]) }],
    ['version 2', { greeting: helloFrame({ version: 2 }) }],
    ['a kind of frame that does not exist', { greeting: Buffer.concat([helloFrame(), frame(99, words(1))]) }],
    ['random bytes as a dump', { answer: ({ family }) => frame(2, words(1, 2, 3, 4, 5), family) }],
    ['nothing', { greeting: new Uint8Array(0) }],
  ];
  it.for(LIES)(
    'stays on procfs with an agent that sends %s, and ends within a second',
    { timeout: 60_000 },
    async ([, behavior]) => {
      const agent = await FakeAgent.listen(path, behavior);
      ends.push(() => agent[Symbol.asyncDispose]());
      const exporter = await startExporter();
      let page = '';
      for (let scrape = 0; scrape < 3; scrape++) page = await exporter.metrics();
      expect(isUp(page)).toBe(false);
      expect(sumOf(page, 'peerscope_connections')).toBeGreaterThan(0);
      const begun = performance.now();
      expect(await exporter.stop()).toBe(0);
      expect(performance.now() - begun).toBeLessThan(1_000);
    },
  );

  const MAIN = join(import.meta.dirname, '../../src/main.ts');
  /** The totals that `ss -tinHO` shows, by ends. */
  function totalsOfSs(text: string): Record<string, readonly number[]> {
    const lines = text.split('\n').filter((line) => line.includes(' cwnd:'));
    return Object.fromEntries(
      lines.map((line) => {
        const [, , local = '', remote = ''] = line.trim().split(/\s+/);
        const number = (name: string): number => Number(new RegExp(` ${name}:([\\d.]+)`).exec(line)?.[1] ?? 0);
        const again = number('bytes_retrans');
        const times = ['rtt', 'minrtt'].map((name) => Math.round(number(name) * 1000));
        return [`${local} ${remote}`, [number('bytes_sent') - again, number('bytes_received'), again, ...times]];
      }),
    );
  }

  it('lists 2,000 open sockets with the totals that ss -tin shows', { timeout: 60_000 }, async () => {
    await startAgent();
    await transfer('--together', '--connections', '1000', '--received', '700');
    const ss = (): Record<string, readonly number[]> => totalsOfSs(network.run(node, 'ss -tinHO state established'));
    const list = `${process.execPath} ${MAIN} list -o json --asn.provider=none --netlink.socket=${path} port=18999`;
    // The server may still send.
    let before = ss();
    for (let after = ss(); JSON.stringify(after) !== JSON.stringify(before); after = ss()) before = after;
    const rows = (JSON.parse(network.run(node, list)) as Row[]).filter(({ state }) => state === 'established');
    expect(JSON.stringify(ss())).toBe(JSON.stringify(before));
    const micros = (seconds: number | null): number => Math.round((seconds ?? NaN) * 1e6);
    const listed = rows.map((row) => [
      `${row.local_address}:${row.local_port} ${row.remote_address}:${row.remote_port}`,
      [
        ...[row.sent_bytes, row.received_bytes, row.retransmitted_bytes],
        ...[row.round_trip_seconds, row.min_round_trip_seconds].map(micros),
      ],
    ]);
    expect(rows.length).toBeGreaterThanOrEqual(2_000);
    const differences = listed.filter(
      ([ends, values]) => JSON.stringify(values) !== JSON.stringify(before[String(ends)]),
    );
    expect(differences).toEqual([]);
  });

  it('prints each ended connection with its bytes as an event', { timeout: 60_000 }, async () => {
    await startAgent();
    const args = ['events', '--interval=0.5', '--asn.provider=none', `--netlink.socket=${path}`, 'port=18999'];
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: ENVIRONMENT });
    ends.push(() => child.kill());
    // It writes what it covers after its first scan.
    await once(child.stderr, 'data');
    await transfer();
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async (): Promise<ConnectionEvent> =>
      JSON.parse(String((await lines.next()).value)) as ConnectionEvent;
    // The second scan has begun: an end that is reported about when the first one began may be of an older connection.
    while ((await next()).event !== 'opened');
    const options = '--sent 3000 --received 700 --connections 50 --rate 100 --end reset';
    network.run(node, `/usr/bin/python3 ${here('sockets/traffic.py')} call 127.0.0.1 18999 ${options}`);
    const ended = new Map<string, string>();
    while (ended.size < 100) {
      const event = await next();
      // The connection that stays open receives nothing.
      if (event.event === 'closed' && event.sent_bytes && event.received_bytes)
        ended.set(`${event.local_port} ${event.remote_port}`, `${event.sent_bytes} ${event.received_bytes}`);
    }
    const sides = Object.groupBy(ended, ([ports]) => (ports.startsWith('18999 ') ? 'server' : 'client'));
    expect(new Set(sides.server?.map(([, bytes]) => bytes))).toEqual(new Set(['700 3016']));
    expect(new Set(sides.client?.map(([, bytes]) => bytes))).toEqual(new Set(['3016 700']));
    expect(sides.client).toHaveLength(50);
  });

  it('starts the agent by itself, and neither has a capability', { timeout: 60_000 }, async () => {
    const flags = ['--asn.provider=none', '--storage.path=/dev/null/none'];
    const exporter = await Exporter.start(flags, {}, ['setpriv', '--bounding-set=-all', '--inh-caps=-all', 'env']);
    ends.push(() => exporter.stop());
    const page = await exporter.metricsOnce(isUp);
    expect(page).toContain('peerscope_netlink_up{scope="own"} 1');
    const { pid = 0 } = exporter.process;
    const tasks = `/proc/${pid}/task`;
    const children = readdirSync(tasks).map((task) => readFileSync(join(tasks, task, 'children'), 'utf8'));
    const agents = [...children.join(' ').matchAll(/\d+/g)].map(Number);
    expect(agents).toHaveLength(1);
    const status = (of: number): string => readFileSync(`/proc/${of}/status`, 'utf8');
    for (const one of [pid, ...agents])
      for (const set of ['Prm', 'Eff', 'Inh', 'Amb', 'Bnd'])
        expect(status(one)).toMatch(new RegExp(`Cap${set}:\\s0{16}`));
    expect(status(agents[0] ?? 0)).toMatch(/NoNewPrivs:\s1\nSeccomp:\s2/);
    await exporter.stop();
    // It is gone, or nobody has taken its exit status.
    const isGone = (of: number): boolean => !existsSync(`/proc/${of}`) || /^State:\sZ/m.test(status(of));
    await vi.waitFor(() => expect(isGone(agents[0] ?? 0)).toBe(true));
  });

  it('stays on procfs without a socket, and uses it when it is there', { timeout: 60_000 }, async () => {
    const exporter = await startExporter();
    expect(isUp(await exporter.metrics())).toBe(false);
    const agent = await startAgent();
    await exporter.metricsOnce(isUp);
    agent.signal('SIGKILL');
    rmSync(path);
    await exporter.metricsOnce((page) => !isUp(page));
  });
});
