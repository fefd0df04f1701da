import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { FAMILIES } from '../../src/metrics/catalogue.ts';
import { SqliteStore } from '../../src/store/sqlite.ts';
import { RULE_FILES, RULES } from '../support/alert-rules.ts';
import { Tree } from '../support/proc-tree.ts';
import { startCymruServer, type CymruServer } from '../support/cymru-server.ts';
import { PANELS, substituted } from '../support/dashboards.ts';
import { EXAMPLES } from '../support/example-queries.ts';
import { recordsOfLife } from '../support/ordinary-life.ts';
import { Exporter } from '../support/exporter.ts';
import { OtlpReceiver } from '../support/otlp-receiver.ts';
import { parsePromql } from '../support/promql.ts';
import { Alertmanager, needServer, Prometheus, Webhook } from '../support/prometheus-server.ts';

/** The processes of the recorded host through which its tables are read, and which makes the call. */
const FIRST = 25739;
const CALLER = 25757;
const EVALUATION_SECONDS = 5;

/** The series that exist only where peerscope reads netlink sockets. */
const TRAFFIC =
  /:rate1h$|_(?:sent|received)_bytes_total$|_netlink_up$|_socket_event|_closed_connections_total$|_without_totals_total$/;

/** Nothing folds on these hosts, and no process has over a hundred connections to one endpoint. */
const OF_BUSY_HOSTS = [
  'peerscope_owner_series_folded',
  'peerscope_ephemeral_ports_used_ratio',
  'peerscope_listener_accept_stalled_seconds',
];

/** What is empty on this host for good reason. */
const EMPTY: readonly string[] = [
  ...OF_BUSY_HOSTS,
  // No operator is new for many workloads.
  'peerscope:unusual:common',
  // No API server says who the peers are.
  'peerscope:namespace_peer_connections:sum',
  // A recorded host has no netlink sockets.
  ...RULES.filter(({ group }) => group === 'peerscope-traffic').flatMap(({ record = '', expr }) => [
    record,
    ...parsePromql(expr).selectors.map(({ metric }) => metric),
  ]),
];

/** A recorded host has no source of socket totals. */
const ABSENT = new Set(FAMILIES.filter(({ isAbsent }) => isAbsent).map(({ name }) => name));

describe('a Prometheus that scrapes a recorded host', () => {
  const hosts = [new Tree('plain-host'), new Tree('containers')] as const;
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-prom-'));
  const closing: (() => Promise<unknown>)[] = [];
  let whois: CymruServer;
  let hook: Webhook;
  let prometheus: Prometheus;
  let exporter: Exporter;

  beforeAll(async () => {
    const missing: string[] = [];
    const note = (text: string): never => {
      missing.push(text);
      return undefined as never;
    };
    const programs = [needServer('prometheus', note), needServer('prometheus-alertmanager', note)] as const;
    if (missing.length > 0) return;
    await remember(hosts[0], folder);
    // A listener has a connection to accept.
    hosts[0].edit(FIRST, 'net/tcp', / 0A 00000000:00000000 /, ' 0A 00000000:00000001 ');
    whois = await startCymruServer([
      '13335 | 1.1.1.0 | 1.1.1.0/24 | US | arin | 2010-07-14 | CLOUDFLARENET - Cloudflare, Inc., US',
      '15169 | 8.8.8.0 | 8.8.8.0/24 | US | arin | 2023-12-28 | GOOGLE - Google LLC, US',
      '19281 | 9.9.9.0 | 9.9.9.0/24 | CH | ripencc | 2017-09-13 | QUAD9-AS-1, CH',
      '3320 | 80.128.0.0 | 80.128.0.0/11 | DE | ripencc | 2001-01-01 | DTAG Deutsche Telekom AG, DE',
    ]);
    closing.push(() => whois.close());
    const webConfig = join(folder, 'web.yaml');
    writeFileSync(webConfig, 'basic_auth_users: {}\n');
    const rules = join(folder, 'peerscope.yaml');
    writeFileSync(rules, 'processes: []\n');
    const receiver = await OtlpReceiver.start();
    closing.push(() => receiver.close());
    const start = async (
      tree: Tree,
      store: string,
      flags: readonly string[] = [],
      environment: Readonly<Record<string, string>> = {},
    ): Promise<Exporter> => {
      const started = await Exporter.start(
        [
          `--path.procfs=${tree.root}`,
          `--storage.path=${store}`,
          `--asn.server=${whois.host}:${whois.port}`,
          `--otlp.endpoint=${receiver.url}`,
          '--otlp.interval=1s',
          `--web.config.file=${webConfig}`,
          `--config.file=${rules}`,
          '--metrics.families=*',
          ...flags,
        ],
        environment,
      );
      closing.push(() => started.stop());
      return started;
    };
    exporter = await start(hosts[0], folder);
    // In a cluster whose API server is away.
    const other = await start(hosts[1], join(folder, 'other'), ['--collector.kubernetes'], {
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: '9',
      NODE_NAME: 'node-1',
    });
    hook = await Webhook.start();
    closing.push(() => hook.close());
    const alertmanager = await Alertmanager.start(programs[1], hook.url);
    closing.push(() => alertmanager.stop());
    prometheus = await Prometheus.start(programs[0], {
      jobs: [
        {
          job_name: 'peerscope',
          honor_labels: true,
          static_configs: [{ targets: [exporter, other].map(({ url }) => new URL(url).host) }],
        },
      ],
      rules: RULE_FILES,
      scrapeSeconds: 1,
      evaluationSeconds: EVALUATION_SECONDS,
      alertmanager: alertmanager.address,
    });
    closing.push(() => prometheus.stop());
    // The rules have run on a page.
    await vi.waitFor(
      async () => {
        if ((await prometheus.query(`peerscope_sockets offset ${2 * EVALUATION_SECONDS}s`)).length === 0)
          throw new Error('no rule has run');
      },
      { timeout: 60_000, interval: 500 },
    );
  });

  afterAll(async () => {
    for (const close of closing.reverse()) await close();
    for (const host of hosts) rmSync(host.root, { recursive: true });
    rmSync(folder, { recursive: true });
  });

  it('alerts on a closed connection to a new operator within two evaluations of its first sample', async ({ skip }) => {
    skip(closing.length === 0, 'Prometheus or Alertmanager is not installed');
    call(hosts[0]);
    await exporter.metricsOnce((page) =>
      /^peerscope_connections\{process="orders.py".*"outbound",state="established"\} 4$/m.test(page),
    );
    hosts[0].edit(FIRST, 'net/tcp', /\n *99: [^\n]*/, '');
    const alertOn = (text: string) =>
      hook.alerts.find(
        ({ labels, annotations }) =>
          labels['alertname'] === 'PeerscopeUnusual' && annotations['description']?.includes(text),
      );
    // A whois session that failed is tried again within a minute.
    await expect.poll(() => alertOn('AS3320'), { timeout: 110_000, interval: 200 }).toBeDefined();
    const alert = alertOn('AS3320');
    expect(alert).toMatchObject({ status: 'firing', labels: { workload: 'orders.service', severity: 'warning' } });
    expect(alert?.annotations['description']).toContain('operator AS3320 DTAG Deutsche Telekom AG DE by orders.py on ');
    expect(alert?.annotations['description']).toMatch(/ Watched for 10d 0h .*s[.]$/);
    // The steps of a subquery are whole seconds: the alert may come before the first of them.
    const firstAt = await vi.waitFor(
      async () => {
        const [first] = await prometheus.query(
          'min_over_time(timestamp(peerscope_novelty_timestamp_seconds{what="AS3320"})[10m:1s])',
        );
        if (!first) throw new Error('the operator is not exported yet');
        return first.value;
      },
      { timeout: 10_000, interval: 200 },
    );
    expect((alert?.at ?? Infinity) - firstAt).toBeLessThanOrEqual(2 * EVALUATION_SECONDS);
    expect(await prometheus.query('peerscope_asn_connections{asn="3320"}')).toEqual([]);
  });

  it('returns a result for every panel', async ({ skip }) => {
    skip(closing.length === 0, 'Prometheus or Alertmanager is not installed');
    // A first-seen time of the last answer is exported one page after its connections.
    await vi.waitFor(
      async () => {
        const empty: string[] = [];
        for (const { dashboard, title, targets } of PANELS)
          for (const { expr, instant } of targets) {
            // No API server says who the peers are, and nothing folds. test/e2e/dashboards.test.ts has a fleet for the map.
            if (dashboard.endsWith('Service map') || /series_folded|ephemeral_ports/.test(expr)) continue;
            const promql = substituted(expr, '13335');
            if (parsePromql(promql).selectors.some(({ metric }) => TRAFFIC.test(metric))) continue;
            const series = instant ? (await prometheus.query(promql)).length : await prometheus.countOverTime(promql);
            if (series === 0) empty.push(`${dashboard}, ${title}: ${promql}`);
          }
        expect(empty).toEqual([]);
      },
      { timeout: 30_000, interval: 500 },
    );
  });

  it('returns a result for every example in docs/metrics.md', async ({ skip }) => {
    skip(closing.length === 0, 'Prometheus or Alertmanager is not installed');
    const empty: string[] = [];
    for (const [family, expr] of Object.entries(EXAMPLES))
      if (!ABSENT.has(family) && !OF_BUSY_HOSTS.includes(family) && (await prometheus.countOverTime(expr)) === 0)
        empty.push(`${family}: ${expr}`);
    expect(empty).toEqual([]);
  });

  it('evaluates every rule, and has the series that it reads', async ({ skip }) => {
    skip(closing.length === 0, 'Prometheus or Alertmanager is not installed');
    // This group has an interval of its own.
    const due = RULES.filter(({ group }) => group !== 'peerscope-traffic').map(({ alert, record }) => alert ?? record);
    const health = await prometheus.ruleHealth();
    expect(health.filter(({ lastError }) => lastError)).toEqual([]);
    expect(health.filter((rule) => rule.health === 'ok').map(({ name }) => name)).toEqual(expect.arrayContaining(due));
    const empty = new Set<string>();
    for (const { expr, record } of RULES) {
      await prometheus.query(expr);
      const metrics = [
        ...parsePromql(expr).selectors.map(({ metric }) => metric),
        ...(record === undefined ? [] : [record]),
      ];
      for (const metric of metrics) if ((await prometheus.countOverTime(metric)) === 0) empty.add(metric);
    }
    expect([...empty].sort()).toEqual([...new Set(EMPTY)].sort());
  });
});

/** A connection of orders.py more, to AS3320; the kernel counts it. */
function call(tree: Tree): void {
  tree.open(CALLER, 77, 99_999);
  const row =
    '  99: 050200C0:D999 01028050:01BB 01 00000000:00000000 00:00000000 00000000  1000        0 99999 1 0000000000000000 20 4 30 10 -1';
  tree.edit(FIRST, 'net/tcp', /\n$/, `\n${row.padEnd(149)}\n`);
  tree.edit(
    FIRST,
    'net/snmp',
    /(Tcp: \d+ \d+ \d+ -?\d+ )(\d+)/,
    (_, before = '', opens = '') => before + String(Number(opens) + 1),
  );
}

/** The host has been watched for ten days. */
async function remember(tree: Tree, folder: string): Promise<void> {
  const store = SqliteStore.open({ directory: folder, now: Date.now, report: (line) => expect.fail(line) });
  await store.writeRecords(
    recordsOfLife(tree.root, { '1.1.1.0/24': 13_335, '9.9.9.0/24': 19_281, '8.8.8.0/24': 15_169 }),
  );
  await store.close();
}
