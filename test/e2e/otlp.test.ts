import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { aggregate } from '../../src/metrics/aggregate.ts';
import { FAMILIES } from '../../src/metrics/catalogue.ts';
import { parseConfig } from '../../src/config/config.ts';
import { renderFamilies } from '../../src/expose/prometheus-text.ts';
import { Exporter, sumOf } from '../support/exporter.ts';
import { connections, reply, startPush } from '../support/otlp-push.ts';
import { samplesOnPage, storedSamples } from '../support/stored-samples.ts';
import { needVictoriaMetrics, VictoriaMetrics, type Series } from '../support/victoria-metrics.ts';

const TREES = new URL('../fixtures/proc/', import.meta.url);
const SOON = { timeout: 60_000, interval: 200 };

describe('VictoriaMetrics', () => {
  it.for(['plain-host', 'containers', 'hostile'])('stores the samples of the page of %s', async (tree, { skip }) => {
    const store = await VictoriaMetrics.start(needVictoriaMetrics(skip));
    const exporter = await Exporter.start([
      `--path.procfs=${fileURLToPath(new URL(tree, TREES))}`,
      '--asn.provider=none',
      '--storage.path=/dev/null/none',
      `--otlp.endpoint=${store.endpoint}`,
      '--otlp.protocol=http/protobuf',
      '--otlp.interval=1s',
    ]);
    try {
      await exporter.metricsOnce((page) => sumOf(page, 'peerscope_otlp_exports_total') > 0);
      const page = samplesOnPage(await (await exporter.get('/metrics')).arrayBuffer());
      expect(page.size).toBeGreaterThan(50);
      await expect.poll(async () => storedSamples(await store.query('{__name__=~"peerscope_.+"}')), SOON).toEqual(page);
    } finally {
      await exporter.stop();
      await store.stop();
    }
  });

  it('stores no row of the host under the pod of the exporter, and every pod under its own name', async ({ skip }) => {
    const store = await VictoriaMetrics.start(needVictoriaMetrics(skip));
    const exporter = await Exporter.start(
      [
        `--path.procfs=${fileURLToPath(new URL('containers', TREES))}`,
        '--asn.provider=none',
        '--storage.path=/dev/null/none',
        `--otlp.endpoint=${store.endpoint}`,
        '--otlp.protocol=http/protobuf',
        '--otlp.interval=1s',
      ],
      {
        OTEL_RESOURCE_ATTRIBUTES:
          'k8s.namespace.name=peerscope,k8s.pod.name=peerscope-x7k2p,k8s.container.name=peerscope,process.executable.name=node,k8s.node.name=node-1,site=a',
      },
    );
    try {
      await exporter.metricsOnce((page) => sumOf(page, 'peerscope_otlp_exports_total') > 0);
      const page = samplesOnPage(await (await exporter.get('/metrics')).arrayBuffer());
      const stored = (): Promise<readonly Series[]> => store.query('{__name__=~"peerscope_.+"}');
      await expect.poll(async () => storedSamples(await stored()), SOON).toEqual(page);
      for (const { labels } of await stored()) expect(labels).toMatchObject({ k8s_node_name: 'node-1', site: 'a' });
      expect(exporter.log.flatMap(({ attributes }) => attributes ?? [])).toEqual([
        'k8s.namespace.name,k8s.pod.name,k8s.container.name,process.executable.name',
      ]);
    } finally {
      await exporter.stop();
      await store.stop();
    }
  });

  it('stores folded series as folded', async ({ skip }) => {
    const store = await VictoriaMetrics.start(needVictoriaMetrics(skip));
    const spec = FAMILIES.find(({ name }) => name === 'peerscope_asn_connections');
    if (!spec) throw new Error('peerscope_asn_connections is not in the catalogue');
    const contributions = Array.from({ length: 500 }, (_, i) => ({
      labels: { process: `process-${i % 5}`, asn: i % 3 === 0 ? '' : String(64_500 + i), state: 'established' },
      value: i + 1,
    }));
    const { samples, folded } = aggregate(contributions, spec, 50, undefined);
    expect(folded).toBeGreaterThan(0);
    const { name, help, type, labels } = spec;
    const families = [{ name, help, type, labels, samples }];
    const { otlp } = parseConfig({ 'otlp.endpoint': store.endpoint, 'otlp.protocol': 'http/protobuf' }, {});
    const push = startPush(otlp, { collect: reply(families) });
    try {
      await expect.poll(() => push.counts, SOON).toEqual({ exports: 1, failures: 0 });
      const page = new TextEncoder().encode(await renderFamilies(families, 'text'));
      const stored = async (): Promise<unknown> => storedSamples(await store.query('peerscope_asn_connections'));
      await expect.poll(stored, SOON).toEqual(samplesOnPage(page.buffer));
    } finally {
      await push.close();
      await store.stop();
    }
  });

  it('stores 10,000 series as 10,000', async ({ skip }) => {
    const store = await VictoriaMetrics.start(needVictoriaMetrics(skip));
    const { otlp } = parseConfig({ 'otlp.endpoint': store.endpoint, 'otlp.protocol': 'http/protobuf' }, {});
    const push = startPush(otlp, { collect: reply([connections(10_000)]), settings: { timeoutMs: 30_000 } });
    try {
      await expect.poll(() => push.counts, SOON).toEqual({ exports: 1, failures: 0 });
      const stored = async (): Promise<string[]> =>
        (await store.query('peerscope_connections')).map(
          ({ labels, value }) => `${labels['process_executable_name']} ${value}`,
        );
      const expected = Array.from({ length: 10_000 }, (_, i) => `process-${i} ${i + 1}`);
      await expect.poll(async () => (await stored()).sort(), SOON).toEqual(expected.sort());
    } finally {
      await push.close();
      await store.stop();
    }
  });
});
