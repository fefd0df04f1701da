import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it, type TestContext } from 'vitest';
import { Exporter } from '../support/exporter.ts';
import { readDocument, ROOT } from '../support/manifests.ts';
import { parsePage } from '../support/page.ts';
import { needServer, Prometheus } from '../support/prometheus-server.ts';
import { needPromtool } from '../support/promtool.ts';

const FAMILY = 'peerscope_connections';

/** What the operator makes of a target before the relabelling of a monitor begins (prometheus-operator, promcfg.go). */
const TARGET = {
  namespace: 'peerscope',
  pod: 'peerscope-x7k2p',
  container: 'peerscope',
  endpoint: 'metrics',
  service: 'peerscope',
  __meta_kubernetes_pod_node_name: 'node-7',
};

interface Endpoint {
  readonly path: string;
  readonly honorLabels: boolean;
  readonly relabelings: readonly Readonly<Record<string, unknown>>[];
}

const MONITORS = [
  { kind: 'PodMonitor', file: 'podmonitor/podmonitor.yaml', endpoints: 'podMetricsEndpoints' },
  { kind: 'ServiceMonitor', file: 'servicemonitor/servicemonitor.yaml', endpoints: 'endpoints' },
];

/** The scrape job that the operator makes of the only endpoint of a monitor. */
function jobOf({ path, honorLabels, relabelings }: Endpoint, target: string): object {
  const snake = (key: string): string => key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const relabel = relabelings.map((step) =>
    Object.fromEntries(Object.entries(step).map(([key, value]) => [snake(key), value])),
  );
  const targets = [{ targets: [target], labels: TARGET }];
  const job = { job_name: 'peerscope', metrics_path: path, honor_labels: honorLabels };
  return { ...job, static_configs: targets, relabel_configs: relabel };
}

/**
 * The scrape job that Google Managed Prometheus makes of a ClusterPodMonitoring (prometheus-engine, pod_config.go): it has no
 * honor_labels, and a pod of a DaemonSet has the name of its node in `instance`.
 */
function jobOfGoogle(monitoring: PodMonitoring, target: string): object {
  const [{ path } = { path: '' }] = monitoring.spec.endpoints;
  const ofTarget = Object.fromEntries(monitoring.spec.targetLabels.metadata.map((name) => [name, TARGET[name]]));
  const labels = { ...GOOGLE, ...ofTarget };
  return { job_name: 'peerscope', metrics_path: path, static_configs: [{ targets: [target], labels }] };
}

interface PodMonitoring {
  readonly spec: {
    readonly endpoints: readonly { readonly path: string }[];
    readonly targetLabels: { readonly metadata: readonly ('namespace' | 'pod' | 'container')[] };
  };
}

const GOOGLE = { project_id: 'shop', location: 'europe-west1', cluster: 'prod', instance: 'node-7:metrics' };

interface Scraped {
  readonly page: Readonly<Record<string, string>>[];
  readonly stored: Readonly<Record<string, string>>[];
  readonly up: Readonly<Record<string, string>>[];
}

/** What an exporter serves of a family, and what a real Prometheus stores of it. */
async function scrape(jobFor: (target: string) => object, { skip, onTestFinished }: TestContext): Promise<Scraped> {
  const program = needServer('prometheus', skip);
  const tree = join(ROOT, 'test/fixtures/proc/containers');
  const exporter = await Exporter.start([
    `--path.procfs=${tree}`,
    '--asn.provider=none',
    '--storage.path=/dev/null/none',
  ]);
  onTestFinished(async () => {
    await exporter.stop();
  });
  const jobs = [jobFor(new URL(exporter.url).host)];
  const prometheus = await Prometheus.start(program, { jobs, rules: [], scrapeSeconds: 1, evaluationSeconds: 60 });
  onTestFinished(() => prometheus.stop());
  const labelsOf = async (expr: string): Promise<Readonly<Record<string, string>>[]> =>
    (await prometheus.query(expr)).map(({ labels }) => labels);
  await expect.poll(() => labelsOf(FAMILY), { timeout: 60_000, interval: 100 }).not.toEqual([]);
  const stored = await labelsOf(FAMILY);
  const page = parsePage(await (await exporter.get('/metrics')).arrayBuffer())
    .filter(({ name }) => name === FAMILY)
    .map(({ labels }) => Object.fromEntries(Object.entries(labels).filter(([, text]) => text !== '')));
  return { page, stored, up: await labelsOf('up') };
}

describe('a real Prometheus', () => {
  it.for(MONITORS)(
    'that scrapes by the $kind keeps our labels, and gives no series the pod of the exporter',
    async ({ file, endpoints }, context) => {
      const monitor = readDocument(`deploy/k8s/components/${file}`) as { spec: Record<string, readonly [Endpoint]> };
      const [endpoint] = monitor.spec[endpoints] ?? [];
      if (!endpoint) throw new Error(`no endpoint in ${file}`);
      const { page, stored, up } = await scrape((target) => jobOf(endpoint, target), context);
      const meant = page.map((labels) => ({ __name__: FAMILY, ...labels, job: 'peerscope', instance: 'node-7' }));
      expect(sorted(stored)).toEqual(sorted(meant));
      const ofPods = stored.filter(({ pod }) => pod !== undefined);
      expect([ofPods.length > 0, ofPods.length < stored.length]).toEqual([true, true]);
      expect(up).toEqual([{ __name__: 'up', job: 'peerscope', instance: 'node-7' }]);
    },
  );

  const MONITORING = readDocument(
    'deploy/k8s/components/google-managed-prometheus/clusterpodmonitoring.yaml',
  ) as PodMonitoring;

  it('that scrapes without honor_labels, as Google does by the ClusterPodMonitoring, keeps our labels', async (context) => {
    const { page, stored, up } = await scrape((target) => jobOfGoogle(MONITORING, target), context);
    const meant = page.map((labels) => ({ __name__: FAMILY, ...labels, job: 'peerscope', ...GOOGLE }));
    expect(sorted(stored)).toEqual(sorted(meant));
    expect(up).toEqual([{ __name__: 'up', job: 'peerscope', ...GOOGLE }]);
  });

  it('renames our labels with the default labels of Google’s targets', async (context) => {
    const spec = { ...MONITORING.spec, targetLabels: { metadata: ['namespace', 'pod', 'container'] as const } };
    const { stored } = await scrape((target) => jobOfGoogle({ spec }, target), context);
    expect(new Set(stored.map(({ pod }) => pod))).toEqual(new Set([TARGET.pod]));
  });

  it('accepts the configuration of the demonstration', ({ skip }) => {
    const promtool = needPromtool(skip);
    const file = join(ROOT, 'deploy/compose/prometheus.yml');
    const { status, stdout, stderr } = spawnSync(promtool, ['check', 'config', '--syntax-only', file], {
      encoding: 'utf8',
    });
    expect({ status, output: stdout + stderr }).toMatchObject({ status: 0 });
  });
});

/** In an order of their own, as texts with sorted keys. */
function sorted(series: readonly object[]): string[] {
  return series.map((labels) => JSON.stringify(Object.entries(labels).sort())).sort();
}
