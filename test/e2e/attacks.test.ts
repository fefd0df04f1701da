/** Attacks of every kind, played in network namespaces against the real program, Prometheus and Alertmanager. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, realpathSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { SqliteStore } from '../../src/store/sqlite.ts';
import { RULE_FILES } from '../support/alert-rules.ts';
import { startCymruServer } from '../support/cymru-server.ts';
import { Exporter } from '../support/exporter.ts';
import { recordsOfLife } from '../support/ordinary-life.ts';
import { Alertmanager, needServer, Prometheus, Webhook } from '../support/prometheus-server.ts';
import { TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';

const PLAY = new URL('../support/sockets/play.py', import.meta.url).pathname;
const PYTHON = '/usr/bin/python3';
const CGROUPS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((folder) =>
  existsSync(join(folder, 'cgroup.subtree_control')),
);
/** Addresses, and who announces them: the first one is called all the time. */
const NETWORKS = {
  '1.1.1.0/24': [13_335, 'CLOUDFLARENET'],
  '45.33.32.0/24': [63_949, 'AKAMAI-LINODE'],
  '51.15.0.0/24': [12_876, 'SCALEWAY'],
  '80.128.0.0/24': [3_320, 'DTAG'],
  '54.239.0.0/24': [16_509, 'AMAZON-02'],
  '62.4.0.0/24': [5_410, 'BOUYGTEL'],
  '81.2.69.0/24': [20_712, 'AS20712'],
} as const;

/** What a process of this name opens in the unit of an ordinary service, and how bad that is. `app` is the service itself. */
const ATTACKS: readonly { attack: string; process: string; opens: readonly string[]; severity: string }[] = [
  { attack: 'reverse_shell', process: 'bash', opens: ['tcp:45.33.32.5:4444'], severity: 'critical' },
  { attack: 'bind_shell', process: 'nc', opens: ['listen:4445'], severity: 'warning' },
  { attack: 'miner', process: 'xmrig', opens: ['tcp:51.15.0.5:3333'], severity: 'critical' },
  { attack: 'tool_download', process: 'curl', opens: ['tcp:80.128.0.5:443'], severity: 'critical' },
  { attack: 'metadata', process: 'curl', opens: ['tcp:169.254.169.254:80'], severity: 'critical' },
  { attack: 'lateral_ssh', process: 'ssh', opens: ['tcp:10.9.0.2:22'], severity: 'warning' },
  { attack: 'lateral_database', process: 'app', opens: ['tcp:10.9.0.3:5432'], severity: 'info' },
  { attack: 'kubernetes_api', process: 'kubectl', opens: ['tcp:10.9.0.2:6443'], severity: 'warning' },
  {
    attack: 'scan',
    process: 'nmap',
    opens: [2, 3, 4, 5, 6].map((host) => `tcp:10.9.0.${host}:22`),
    severity: 'critical',
  },
  {
    attack: 'spam',
    process: 'app',
    opens: ['51.15.0.6', '80.128.0.6', '62.4.0.6'].map((host) => `tcp:${host}:25`),
    severity: 'critical',
  },
  { attack: 'exfiltration', process: 'rclone', opens: ['tcp:62.4.0.5:443'], severity: 'critical' },
  { attack: 'exfiltration_cloud', process: 'aws', opens: ['tcp:54.239.0.5:443'], severity: 'warning' },
  { attack: 'beacon', process: 'app', opens: ['tcp:81.2.69.5:443'], severity: 'warning' },
  { attack: 'supply_chain', process: 'app', opens: ['tcp:81.2.69.6:443'], severity: 'warning' },
  { attack: 'udp_backdoor', process: 'app', opens: ['udp:31337'], severity: 'warning' },
  { attack: 'remote_login', process: 'sshd', opens: [], severity: 'critical' },
];
const unitOf = (attack: string): string => `peerscope-${attack.replaceAll('_', '-')}-${process.pid}.service`;

const obstacle = whyNoNamespaces() ?? (CGROUPS === undefined ? 'no cgroups of version 2' : null);

describe.skipIf(obstacle !== null)('a host that has lived for ten days', () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-attacks-'));
  const slice = join(CGROUPS ?? '', 'system.slice');
  const hadSlice = existsSync(slice);
  const network = new TestNetwork();
  const players: ChildProcess[] = [];
  const closing: (() => Promise<unknown>)[] = [];
  let hook: Webhook;
  let host: number;
  let peer: number;

  /** Starts a process in a unit, or in none, and waits until its sockets are open. */
  async function play(unit: string, holder: number, name: string, opens: readonly string[]): Promise<void> {
    const program = join(folder, name);
    if (!existsSync(program)) copyFileSync(realpathSync(PYTHON), program);
    const cgroup = join(slice, unit);
    if (unit !== '') mkdirSync(cgroup, { recursive: true });
    const enter = unit === '' ? '' : `echo $$ >${cgroup}/cgroup.procs;`;
    const script = `${enter} exec nsenter --target=${holder} --net "$@"`;
    const child = spawn('sh', ['-ec', script, 'sh', program, PLAY, ...opens], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { PATH: process.env['PATH'], PYTHONHOME: '/usr' },
    });
    players.push(child);
    await Promise.race([
      once(child.stdout, 'data'),
      once(child, 'exit').then(() => Promise.reject(new Error(`${name} ${opens.join(' ')} ended`))),
    ]);
  }

  beforeAll(async () => {
    const missing: string[] = [];
    const note = (text: string): never => {
      missing.push(text);
      return undefined as never;
    };
    const programs = [needServer('prometheus', note), needServer('prometheus-alertmanager', note)] as const;
    if (missing.length > 0) return;
    host = await network.make();
    // Every address is on this machine.
    peer = await network.make('ip route add local 0.0.0.0/0 dev lo');
    network.join(host, ['10.8.0.1/24'], peer, ['10.8.0.2/24']);
    network.run(host, 'ip route add default via 10.8.0.2');
    await network.openSockets(peer, {
      kinds: [22, 25, 80, 443, 3333, 4444, 5432, 6443].map((port) => `tcp-listen=0.0.0.0:${port}`),
    });
    for (const { attack } of ATTACKS) await play(unitOf(attack), host, 'app', ['tcp:1.1.1.1:443']);
    await play(unitOf('remote_login'), host, 'sshd', ['listen:22']);

    const asns = Object.fromEntries(Object.entries(NETWORKS).map(([prefix, [asn]]) => [prefix, asn]));
    const store = SqliteStore.open({ directory: folder, now: Date.now, report: (line) => expect.fail(line) });
    await store.writeRecords(recordsOfLife('/proc', asns).filter(({ key }) => key.includes(`-${process.pid}.service`)));
    await store.close();

    const whois = await startCymruServer(
      Object.entries(NETWORKS).map(
        ([prefix, [asn, name]]) =>
          `${asn} | ${prefix.split('/')[0] ?? ''} | ${prefix} | US | arin | 2010-07-14 | ${name}, US`,
      ),
    );
    closing.push(() => whois.close());
    const exporter = await Exporter.start([`--storage.path=${folder}`, `--asn.server=${whois.host}:${whois.port}`]);
    closing.push(() => exporter.stop());
    await vi.waitFor(async () => expect(await exporter.metrics()).toContain('asn="13335"'), {
      timeout: 90_000,
      interval: 1000,
    });
    hook = await Webhook.start();
    closing.push(() => hook.close());
    const alertmanager = await Alertmanager.start(programs[1], hook.url);
    closing.push(() => alertmanager.stop());
    const prometheus = await Prometheus.start(programs[0], {
      jobs: [
        { job_name: 'peerscope', honor_labels: true, static_configs: [{ targets: [new URL(exporter.url).host] }] },
      ],
      rules: RULE_FILES,
      scrapeSeconds: 2,
      evaluationSeconds: 2,
      alertmanager: alertmanager.address,
    });
    closing.push(() => prometheus.stop());
    for (const { attack, process, opens } of ATTACKS)
      if (opens.length > 0) await play(unitOf(attack), host, process, opens);
    await play('', peer, 'login', ['tcp:10.8.0.1:22:45.33.32.9']);
  }, 150_000);

  afterAll(async () => {
    for (const close of closing.reverse()) await close();
    for (const child of players) {
      child.stdin?.end();
      if (child.exitCode === null) await once(child, 'exit');
    }
    await network[Symbol.asyncDispose]();
    for (const { attack } of ATTACKS)
      if (existsSync(join(slice, unitOf(attack)))) rmdirSync(join(slice, unitOf(attack)));
    if (!hadSlice && existsSync(slice)) rmdirSync(slice);
    rmSync(folder, { recursive: true });
  });

  it.for(ATTACKS)('$attack by $process is $severity', { timeout: 120_000 }, async ({ attack, severity }, { skip }) => {
    skip(closing.length === 0, 'Prometheus or Alertmanager is not installed');
    const alerts = () =>
      hook.alerts
        .filter(({ labels }) => labels['alertname'] === 'PeerscopeUnusual' && labels['workload'] === unitOf(attack))
        .map(({ labels, annotations }) => `${labels['severity'] ?? ''}: ${annotations['description'] ?? ''}`);
    await expect
      .poll(alerts, { timeout: 60_000, interval: 500 })
      .toContainEqual(expect.stringMatching(new RegExp(`^${severity}: `)));
  });

  it('no attack is worse than that, and no other alert fires for these services', ({ skip }) => {
    skip(closing.length === 0, 'Prometheus or Alertmanager is not installed');
    const worst = ATTACKS.map(({ attack, severity }) => {
      const own = hook.alerts.filter(({ labels }) => labels['workload'] === unitOf(attack));
      expect(own.filter(({ labels }) => labels['alertname'] !== 'PeerscopeUnusual')).toEqual([]);
      const found = ['critical', 'warning', 'info'].find((one) => own.some(({ labels }) => labels['severity'] === one));
      return { attack, severity, found };
    });
    expect(worst).toEqual(ATTACKS.map(({ attack, severity }) => ({ attack, severity, found: severity })));
  });
});
