import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
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

describe('a real Prometheus', () => {
  it.for(MONITORS)(
    'that scrapes by the $kind keeps our labels, and gives no series the pod of the exporter',
    async ({ file, endpoints }, { skip, onTestFinished }) => {
      const program = needServer('prometheus', skip);
      const monitor = readDocument(`deploy/k8s/components/${file}`) as { spec: Record<string, readonly [Endpoint]> };
      const [endpoint] = monitor.spec[endpoints] ?? [];
      if (!endpoint) throw new Error(`no endpoint in ${file}`);
      const tree = join(ROOT, 'test/fixtures/proc/containers');
      const exporter = await Exporter.start([
        `--path.procfs=${tree}`,
        '--asn.provider=none',
        '--storage.path=/dev/null/none',
      ]);
      onTestFinished(async () => {
        await exporter.stop();
      });
      const prometheus = await Prometheus.start(program, {
        jobs: [jobOf(endpoint, new URL(exporter.url).host)],
        rules: [],
        scrapeSeconds: 1,
        evaluationSeconds: 60,
      });
      onTestFinished(() => prometheus.stop());
      const labelsOf = async (expr: string): Promise<Readonly<Record<string, string>>[]> =>
        (await prometheus.query(expr)).map(({ labels }) => labels);
      await expect.poll(() => labelsOf(FAMILY), { timeout: 60_000, interval: 100 }).not.toEqual([]);
      const stored = await labelsOf(FAMILY);
      const page = parsePage(await (await exporter.get('/metrics')).arrayBuffer());
      const meant = page
        .filter(({ name }) => name === FAMILY)
        .map(({ labels }) => Object.entries(labels).filter(([, text]) => text !== ''))
        .map((labels) => ({ __name__: FAMILY, ...Object.fromEntries(labels), job: 'peerscope', instance: 'node-7' }));
      expect(sorted(stored)).toEqual(sorted(meant));
      const ofPods = stored.filter(({ pod }) => pod !== undefined);
      expect([ofPods.length > 0, ofPods.length < stored.length]).toEqual([true, true]);
      expect(await labelsOf('up')).toEqual([{ __name__: 'up', job: 'peerscope', instance: 'node-7' }]);
    },
  );

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
