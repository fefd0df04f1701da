import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseCidr } from '../src/common/address.ts';
import { renderOrigin } from '../src/enrich/asn/cache.ts';
import { SqliteStore } from '../src/store/sqlite.ts';
import { parsePage } from './support/page.ts';
import { Exporter, sumOf } from './support/exporter.ts';
import { runHere } from './support/main.ts';
import { prometheusName, samplesOf } from './support/otlp-labels.ts';
import { OtlpReceiver, pointsOf, type OtlpRequest } from './support/otlp-receiver.ts';

const TREES = fileURLToPath(new URL('fixtures/proc', import.meta.url));
const SCENARIOS = readdirSync(TREES).filter((name) => !name.includes('.'));

/** What differs from run to run, and what says where the test ran. */
const VOLATILE =
  /^(# (HELP|TYPE) )?peerscope_(network_namespaces|scrape_collector_duration_seconds|snapshot_timestamp_seconds|build_info|store_up|store_failures_total|asn_pending|asn_queries_total|asn_query_failures_total|asn_cache_(lookups|hits)_total|otlp_exports_total|otlp_export_failures_total)\b/;

/** The times of a run, which read 0 in the golden page. */
const FIRST_TIME =
  /^(peerscope_(?:asn_first_seen|baseline_start|workload_watched_since)_timestamp_seconds\{.*\}) \d+(?:\.\d+)?$/gm;

/** Answers in the words of a store, so that the program has nothing to ask. */
const ANSWERS = [
  { bucket: '1.1.1.0/24', asn: 13335, name: 'CLOUDFLARENET - Cloudflare, Inc.', asCountry: 'US', prefix: '1.1.1.0/24' },
  { bucket: '8.8.8.0/24', asn: 15169, name: 'GOOGLE - Google LLC', asCountry: 'US', prefix: '8.8.8.0/24' },
  { bucket: '9.9.9.0/24', asn: 19281, name: 'QUAD9-AS-1', asCountry: 'CH', prefix: '9.9.9.0/24' },
  { bucket: '2001:4860:4860::/48', asn: 15169, name: 'GOOGLE - Google LLC', asCountry: 'US', prefix: '2001:4860::/32' },
  {
    bucket: '2606:4700:4700::/48',
    asn: 13335,
    name: 'CLOUDFLARENET - Cloudflare, Inc.',
    asCountry: 'US',
    prefix: null,
  },
];

let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-golden-'));
  const store = SqliteStore.open({ directory: folder, now: Date.now, report: (line) => expect.fail(line) });
  const askedAt = Date.now();
  await store.write(
    ANSWERS.map(({ bucket, asn, ...answer }) => {
      expect(parseCidr(bucket)).toBeDefined();
      const times = { askedAt, freshUntil: askedAt + 86_400_000, source: 'cymru' };
      const registry = { registry: null, registryCountry: null, allocated: null };
      const text = renderOrigin({ asns: [asn], ...answer, ...registry, ...times });
      return { key: `asn:1:${bucket}`, text, keepUntil: askedAt + 86_400_000 };
    }),
  );
  await store.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

describe.each(SCENARIOS)('the program on the recorded tree %s', (scenario) => {
  const procfs = `--path.procfs=${join(TREES, scenario)}`;

  test('serves the page and lists the rows that it did before', { timeout: 60_000 }, async () => {
    const listing = runHere(['list', '-o', 'json', procfs, `--storage.path=${folder}`]);
    const receiver = await OtlpReceiver.start();
    const exporter = await Exporter.start([
      procfs,
      `--otlp.endpoint=${receiver.url}`,
      '--otlp.interval=500ms',
      `--storage.path=${folder}`,
      '--asn.server=127.0.0.1:9',
      '--web.disable-exporter-metrics',
    ]);
    try {
      await exporter.metricsOnce(
        (text) => /success\{collector="sockets"\} 1/.test(text) && !/network="public",asn=""/.test(text),
      );
      // What that scan learned the store has confirmed when its page is there: the next one tells it.
      const page = await exporter.metrics();
      const stable = page
        .split('\n')
        .filter((line) => !VOLATILE.test(line))
        .join('\n');
      await expect(stable.replaceAll(FIRST_TIME, '$1 0')).toMatchFileSnapshot(`golden/${scenario}.prom`);

      const before = receiver.received.length;
      await expect.poll(() => receiver.received.length, { timeout: 10_000 }).toBeGreaterThan(before + 1);
      const sent = receiver.requests.at(-1);
      if (!sent) throw new Error('nothing was sent');
      expect(sentSamples(sent)).toEqual(pageSamples(stable));
      await expect(writeRequest(sent)).toMatchFileSnapshot(`golden/${scenario}.otlp.json`);

      const { code, stdout } = await listing;
      expect(code).toBe(0);
      // The names of services are those of the machine that lists.
      const listed = stdout.replaceAll(/"service":"[^"]*"/g, '"service":null');
      await expect(listed).toMatchFileSnapshot(`golden/${scenario}.json`);

      const rows = JSON.parse(stdout) as { remote_address: string | null; direction: string }[];
      const remote = rows.filter((row) => row.remote_address !== null).length;
      const duplicates = sumOf(page, 'peerscope_loopback_duplicates');
      expect(sumOf(page, 'peerscope_connections'), 'the sum is every row').toBe(rows.length);
      expect(sumOf(page, 'peerscope_sockets')).toBe(rows.length);
      const loopback = rows.filter((row) => row.remote_address !== null && row.direction === 'loopback').length;
      expect(sumOf(page, 'peerscope_asn_connections')).toBe(remote - loopback);
      expect(sumOf(page, 'peerscope_endpoint_connections')).toBe(remote - duplicates);
    } finally {
      expect(await exporter.stop()).toBe(0);
      await receiver.close();
    }
  });
});

/** The samples of a page, empty labels left out, by name and labels. */
function pageSamples(page: string): Map<string, number> {
  const samples = parsePage(new TextEncoder().encode(page).buffer).map(({ name, labels, value }) => {
    const told = Object.entries(labels).filter(([, text]) => text !== '');
    return [JSON.stringify([name, told.sort()]), value] as const;
  });
  return new Map(samples.sort());
}

/** The same of a request, without what differs from run to run. */
function sentSamples(request: OtlpRequest): Map<string, number> {
  const samples = pointsOf(request)
    .flatMap((point) => samplesOf(point, point))
    .filter(([name]) => !VOLATILE.test(name))
    .map(([name, labels, value]) => [JSON.stringify([name, labels]), value] as const);
  return new Map(samples.sort());
}

/** A request as JSON with one point on a line, without what differs from run to run. */
function writeRequest(request: OtlpRequest): string {
  const [{ scopeMetrics }] = request.resourceMetrics;
  const metrics = scopeMetrics[0].metrics.map((metric) => {
    const type = metric.sum ? 'counter' : 'gauge';
    const { gauge, sum, ...rest } = metric;
    const { dataPoints, ...how } = sum ?? gauge ?? { dataPoints: [] };
    if (VOLATILE.test(prometheusName({ ...metric, type }))) return null;
    const isFirstTime = /(first_seen|baseline_start|watched_since)_timestamp$/.test(metric.name);
    const lines = dataPoints
      .map(({ attributes, ...value }) => ({ attributes, ...(isFirstTime ? {} : value) }))
      .map(({ attributes, asInt, asDouble }) => `    ${JSON.stringify({ attributes, asInt, asDouble })}`)
      .sort();
    const head = JSON.stringify({ ...rest, ...(sum ? { sum: how } : {}) }).slice(0, -1);
    return `  ${head}, "dataPoints": [\n${lines.join(',\n')}\n  ]}`;
  });
  return `[\n${metrics.filter((metric) => metric !== null).join(',\n')}\n]\n`;
}
