import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, type TestContext } from 'vitest';
import { parseConfig } from '../../src/config/config.ts';
import { Exporter, sumOf } from '../support/exporter.ts';
import { connections, reply, startPush } from '../support/otlp-push.ts';
import { samplesOnPage, storedSamples } from '../support/stored-samples.ts';
import { freePort, needVictoriaMetrics, statusOf, VictoriaMetrics } from '../support/victoria-metrics.ts';

const COLLECTOR = fileURLToPath(new URL('../../.cache/collector/collector', import.meta.url));
const TREE = fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url));
const SOON = { timeout: 60_000, interval: 200 };
const PROTOCOLS = ['http/json', 'http/protobuf'] as const;

interface Scene {
  readonly store: VictoriaMetrics;
  /** Where the collector takes OTLP. */
  readonly endpoint: string;
  /** What it printed of the points, so far. */
  readonly printed: () => string;
}

/** The real OpenTelemetry Collector, which prints what it takes and hands it on to a store. */
async function open({ skip, onTestFinished }: TestContext): Promise<Scene> {
  if (!existsSync(COLLECTOR)) {
    process.stderr.write('SKIPPED: OpenTelemetry Collector: run test/e2e/collector/build.sh\n');
    skip('the collector is not built');
  }
  const store = await VictoriaMetrics.start(needVictoriaMetrics(skip));
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-collector-'));
  const address = `127.0.0.1:${await freePort()}`;
  const file = join(folder, 'collector.yaml');
  writeFileSync(
    file,
    `receivers: { otlp: { protocols: { http: { endpoint: '${address}' } } } }
exporters:
  debug: { verbosity: detailed }
  otlp_http: { metrics_endpoint: '${store.endpoint}/v1/metrics' }
service:
  telemetry: { metrics: { level: none } }
  pipelines: { metrics: { receivers: [otlp], exporters: [debug, otlp_http] } }
`,
  );
  const collector = spawn(COLLECTOR, ['--config', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let printed = '';
  collector.stderr.setEncoding('utf8').on('data', (text: string) => (printed += text));
  onTestFinished(async () => {
    const exit = once(collector, 'exit');
    collector.kill('SIGKILL');
    await exit;
    await store.stop();
    rmSync(folder, { recursive: true });
  });
  const endpoint = `http://${address}`;
  await expect.poll(() => statusOf(endpoint), SOON).toBe(404);
  return { store, endpoint, printed: () => printed };
}

describe.each(PROTOCOLS)('the OpenTelemetry Collector by %s', (protocol) => {
  it('accepts the samples of the page and forwards them', async (context) => {
    const { store, endpoint, printed } = await open(context);
    const exporter = await Exporter.start([
      `--path.procfs=${TREE}`,
      '--asn.provider=none',
      '--storage.path=/dev/null/none',
      `--otlp.endpoint=${endpoint}`,
      `--otlp.protocol=${protocol}`,
      '--otlp.interval=1s',
    ]);
    try {
      await exporter.metricsOnce((page) => sumOf(page, 'peerscope_otlp_exports_total') > 0);
      const page = samplesOnPage(await (await exporter.get('/metrics')).arrayBuffer());
      await expect.poll(async () => storedSamples(await store.query('{__name__=~"peerscope_.+"}')), SOON).toEqual(page);
      expect(sumOf(await exporter.metrics(), 'peerscope_otlp_export_failures_total')).toBe(0);
    } finally {
      await exporter.stop();
    }
    expect(printed()).toMatch(
      /-> Name: peerscope\.tcp_active_opens\n[^]*?-> DataType: Sum\n\s+-> IsMonotonic: true\n\s+-> AggregationTemporality: Cumulative/,
    );
    expect(printed()).toMatch(/-> service\.name: Str\(peerscope\)/);
    expect(printed()).toMatch(/-> network\.local\.port: Int\(443\)/);
  });

  it('accepts 10,000 series as 10,000', async (context) => {
    const { endpoint, printed } = await open(context);
    const { otlp } = parseConfig({ 'otlp.endpoint': endpoint, 'otlp.protocol': protocol }, {});
    const push = startPush(otlp, { collect: reply([connections(10_000)]), settings: { timeoutMs: 30_000 } });
    try {
      await expect.poll(() => push.counts, SOON).toEqual({ exports: 1, failures: 0 });
      const processes = (): number =>
        new Set([...printed().matchAll(/-> process\.executable\.name: Str\((.*)\)/g)].map(([, name]) => name)).size;
      await expect.poll(processes, SOON).toBe(10_000);
      expect(printed()).toContain('"data points": 10000');
    } finally {
      await push.close();
    }
  });
});
