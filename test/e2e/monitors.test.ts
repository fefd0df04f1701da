import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Exporter } from '../exporter.ts';
import { readDocument, ROOT } from '../manifests.ts';
import { parsePage } from './page.ts';
import { needPromtool } from './promtool.ts';

const UNPACKED = join(ROOT, '.cache/prometheus/usr/bin/prometheus');
const PROMETHEUS = ['prometheus', UNPACKED].find((command) => !spawnSync(command, ['--version']).error);
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

/** The scrape configuration that the operator makes of the only endpoint of a monitor, as JSON, which is YAML too. */
function configOf({ path, honorLabels, relabelings }: Endpoint, target: string): string {
  const snake = (key: string): string => key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const relabel = relabelings.map((step) =>
    Object.fromEntries(Object.entries(step).map(([key, value]) => [snake(key), value])),
  );
  const job = { job_name: 'peerscope', scrape_interval: '1s', metrics_path: path, honor_labels: honorLabels };
  const targets = [{ targets: [target], labels: TARGET }];
  return JSON.stringify({ scrape_configs: [{ ...job, static_configs: targets, relabel_configs: relabel }] });
}

/** A real Prometheus on a port of loopback. */
class Prometheus {
  readonly #folder = mkdtempSync(join(tmpdir(), 'peerscope-monitors-'));
  readonly #process: ChildProcess;
  readonly #port: number;

  private constructor(config: string, port: number) {
    const file = join(this.#folder, 'prometheus.yml');
    writeFileSync(file, config);
    this.#port = port;
    const flags = [`--config.file=${file}`, `--storage.tsdb.path=${this.#folder}/data`];
    this.#process = spawn(PROMETHEUS ?? '', [...flags, `--web.listen-address=127.0.0.1:${port}`, '--log.level=error'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }

  static async start(config: string): Promise<Prometheus> {
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address() as AddressInfo;
    probe.close();
    await once(probe, 'close');
    return new Prometheus(config, port);
  }

  /** The labels of every series of a family, once there are any. */
  async series(family: string): Promise<Record<string, string>[]> {
    const deadline = performance.now() + 60_000;
    for (;;) {
      const reply = await fetch(`http://127.0.0.1:${this.#port}/api/v1/query?query=${family}`).catch(() => null);
      const { data } = reply?.ok
        ? ((await reply.json()) as { data: { result: { metric: Record<string, string> }[] } })
        : {};
      if (data && data.result.length > 0) return data.result.map(({ metric }) => metric);
      if (performance.now() > deadline) throw new Error(`Prometheus never had a series of ${family}`);
      await sleep(100);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'exit');
    this.#process.kill();
    await ended;
    rmSync(this.#folder, { recursive: true });
  }
}

describe('a real Prometheus', () => {
  if (PROMETHEUS === undefined)
    process.stderr.write('SKIPPED: prometheus is neither on the PATH nor in .cache/prometheus; .ci/run fetches it\n');

  it.skipIf(PROMETHEUS === undefined).each(MONITORS)(
    'that scrapes by the $kind has our labels as we meant them, and calls nothing the pod of the exporter',
    async ({ file, endpoints }) => {
      const monitor = readDocument(`deploy/k8s/components/${file}`) as { spec: Record<string, readonly [Endpoint]> };
      const [endpoint] = monitor.spec[endpoints] ?? [];
      if (!endpoint) throw new Error(`no endpoint in ${file}`);
      const tree = join(ROOT, 'test/fixtures/proc/containers');
      const exporter = await Exporter.start([
        `--path.procfs=${tree}`,
        '--asn.provider=none',
        '--storage.path=/dev/null/none',
      ]);
      try {
        await using prometheus = await Prometheus.start(configOf(endpoint, new URL(exporter.url).host));
        const stored = await prometheus.series(FAMILY);
        const page = parsePage(await (await exporter.get('/metrics')).arrayBuffer());
        const meant = page
          .filter(({ name }) => name === FAMILY)
          .map(({ labels }) => Object.entries(labels).filter(([, text]) => text !== ''))
          .map((labels) => ({ __name__: FAMILY, ...Object.fromEntries(labels), job: 'peerscope', instance: 'node-7' }));
        expect(sorted(stored)).toEqual(sorted(meant));
        const ofPods = stored.filter(({ pod }) => pod !== undefined);
        expect([ofPods.length > 0, ofPods.length < stored.length]).toEqual([true, true]);
        expect(await prometheus.series('up')).toEqual([{ __name__: 'up', job: 'peerscope', instance: 'node-7' }]);
      } finally {
        await exporter.stop();
      }
    },
  );

  it('takes the configuration of the demonstration', ({ skip }) => {
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
