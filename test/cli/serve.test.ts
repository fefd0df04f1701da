import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Exporter, runMain, samplesOf, startMain } from '../exporter.ts';
import { answers, isSilent, OtlpReceiver, pointsOf } from '../otlp-receiver.ts';

const TREE = fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url));
const QUIET = ['--asn.provider=none', '--storage.path=/dev/null/none'];

describe('a running exporter', () => {
  let exporter: Exporter;
  beforeAll(async () => {
    exporter = await Exporter.start([`--path.procfs=${TREE}`, ...QUIET]);
    await exporter.metricsOnce((page) => page.includes('success{collector="sockets"} 1'));
  }, 30_000);
  afterAll(async () => {
    expect(await exporter.stop()).toBe(0);
  }, 30_000);

  test.each([
    { path: '/-/healthy', status: 200, type: 'text/plain', body: /healthy/ },
    { path: '/-/ready', status: 200, type: 'text/plain', body: /ready/ },
    { path: '/', status: 200, type: 'text/html', body: /<a href="\/metrics">/ },
    { path: '/metrics', status: 200, type: 'text/plain; version=0.0.4; charset=utf-8', body: /^# HELP / },
    { path: '/nothing', status: 404, type: 'text/plain', body: /^Not found\.$/m },
    { path: '/%c0%ae', status: 404, type: 'text/plain', body: /^Not found\.$/m },
  ])('answers $path with $status', async ({ path, status, type, body }) => {
    const response = await exporter.get(path);
    expect(response.status).toBe(status);
    expect(response.headers.get('content-type')).toContain(type);
    expect(response.headers.get('x-powered-by')).toBeNull();
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(await response.text()).toMatch(body);
  });

  test('serves OpenMetrics to who asks for it, closed by its end mark', async () => {
    const response = await exporter.get('/metrics', { accept: 'application/openmetrics-text;version=1.0.0' });
    expect(response.headers.get('content-type')).toBe('application/openmetrics-text; version=1.0.0; charset=utf-8');
    const page = await response.text();
    expect(page).toMatch(/# EOF\n$/);
    expect(page).toMatch(/^peerscope_connections_opened_total\{/m);
    expect(page).not.toMatch(/\n\n/);
  });

  test('compresses for who can read it', async () => {
    const plain = await exporter.metrics({ 'accept-encoding': 'identity' });
    const compressed = await new Promise<Buffer>((resolve, reject) => {
      request(`${exporter.url}/metrics`, { headers: { 'accept-encoding': 'gzip' } }, (response) => {
        expect(response.headers['content-encoding']).toBe('gzip');
        expect(response.headers.vary).toBe('Accept, Accept-Encoding');
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => resolve(Buffer.concat(chunks)));
      })
        .on('error', reject)
        .end();
    });
    expect(compressed.length).toBeLessThan(plain.length / 2);
    expect(samplesOf(gunzipSync(compressed).toString(), 'peerscope_connections')).toEqual(
      samplesOf(plain, 'peerscope_connections'),
    );
  });

  test('twenty scrapers at once get whole pages', async () => {
    const pages = await Promise.all(Array.from({ length: 20 }, () => exporter.metrics()));
    const sizes = new Set(pages.map((page) => samplesOf(page, 'peerscope_connections').size));
    expect(sizes.size).toBe(1);
  });

  test('said once at the start what leaves the host, and logs no address of a peer', () => {
    const started = exporter.log.find((entry) => entry['msg'] === 'peerscope started');
    expect(started).toMatchObject({ asn_provider: 'none', sends: 'nothing', procfs: TREE });
    expect(JSON.stringify(exporter.log)).not.toContain('1.1.1.1');
  });
});

test(
  'an exporter with a table of its own publishes ASNs, and nothing leaves the host',
  { timeout: 60_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-serve-'));
    const table = join(folder, 'ip2asn-combined.tsv.gz');
    writeFileSync(table, gzipSync('9.9.9.0\t9.9.9.255\t19281\tCH\tQUAD9-AS-1\n'));
    const storage = join(folder, 'state');
    const exporter = await Exporter.start([
      `--path.procfs=${TREE}`,
      `--storage.path=${storage}`,
      '--asn.provider=tsv',
      `--asn.database=${table}`,
    ]);
    try {
      const page = await exporter.metricsOnce((page) => page.includes('asn_info{asn="19281"'));
      expect(page).toContain('peerscope_asn_info{asn="19281",as_name="QUAD9-AS-1",as_country="CH"} 1\n');
      expect(page).toContain('peerscope_asn_addresses_sent_total{provider="tsv"} 0\n');
      const started = exporter.log.find((entry) => entry['msg'] === 'peerscope started');
      expect(started).toMatchObject({ asn_provider: 'tsv', asn_database: table, sends: 'nothing' });
      expect(started).not.toHaveProperty('asn_server');
      expect(page).toContain('peerscope_store_up{store="sqlite"} 1\n');
      expect(page).toContain('peerscope_store_failures_total{store="sqlite"} 0\n');
      // First times are kept there, answers are not.
      expect(existsSync(storage)).toBe(true);
    } finally {
      expect(await exporter.stop()).toBe(0);
      rmSync(folder, { recursive: true });
    }
  },
);

test(
  'an exporter that asks nobody keeps the first times of operators that its own file names',
  { timeout: 60_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-serve-'));
    const rules = join(folder, 'peerscope.yaml');
    writeFileSync(rules, 'networks: [{ name: partner, cidrs: [1.1.1.0/24], asn: 64500 }]\n');
    const firstTimes = async (): Promise<readonly string[]> => {
      const exporter = await Exporter.start([
        `--path.procfs=${TREE}`,
        `--config.file=${rules}`,
        `--storage.path=${join(folder, 'state')}`,
        '--asn.provider=none',
      ]);
      try {
        const page = await exporter.metricsOnce((page) => page.includes('first_seen_timestamp_seconds{'));
        expect(page).toContain('peerscope_store_up{store="sqlite"} 1\n');
        return page.split('\n').filter((line) => /^peerscope_(asn_first_seen|baseline_start)_timestamp.*{/.test(line));
      } finally {
        expect(await exporter.stop()).toBe(0);
      }
    };
    try {
      expect(await firstTimes()).toEqual(await firstTimes());
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);

describe('an exporter that sends by OTLP', () => {
  const SOON = { timeout: 30_000, interval: 50 };
  const start = (receiver: OtlpReceiver, ...flags: string[]): Promise<Exporter> =>
    Exporter.start([
      `--path.procfs=${TREE}`,
      ...QUIET,
      `--otlp.endpoint=${receiver.url}`,
      '--otlp.interval=200ms',
      ...flags,
    ]);
  const counts = (page: string): (number | undefined)[] =>
    ['exports', 'export_failures'].map((name) => samplesOf(page, `peerscope_otlp_${name}_total`).get(''));

  test('says so, and counts what the receiver took', { timeout: 60_000 }, async () => {
    const receiver = await OtlpReceiver.start();
    const exporter = await start(receiver);
    try {
      await exporter.metricsOnce((page) => (counts(page)[0] ?? 0) > 1);
      const [exports = Infinity] = counts(await exporter.metrics());
      expect(exports).toBeLessThanOrEqual(receiver.received.length);
      const started = exporter.log.find((entry) => entry['msg'] === 'peerscope started');
      expect(started).toMatchObject({ sends: 'the metrics by otlp', otlp_endpoint: `${receiver.url}/v1/metrics` });
    } finally {
      expect(await exporter.stop()).toBe(0);
      await receiver.close();
    }
    const [request] = receiver.requests;
    expect(request && pointsOf(request).find(({ name }) => name === 'peerscope.connections')).toBeDefined();
  });

  test('is the only one that loads OpenTelemetry', { timeout: 60_000 }, async () => {
    // prom-client brings the API along.
    const refuse = `import { registerHooks } from 'node:module';
      registerHooks({ load: (url, context, next) => {
        if (/@opentelemetry\\/(?!api)|src\\/push/.test(url)) throw new Error('imported ' + url);
        return next(url, context);
      } });`;
    const environment = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(refuse)}` };
    const exporter = await Exporter.start([`--path.procfs=${TREE}`, ...QUIET], environment);
    expect(counts(await exporter.metrics())).toEqual([undefined, undefined]);
    expect(await exporter.stop()).toBe(0);
    const sending = ['serve', `--path.procfs=${TREE}`, ...QUIET, '--otlp.endpoint=http://127.0.0.1:9'];
    expect((await runMain(sending, '', environment)).stderr).toMatch(/^imported .*push\.ts\n$/);
  });

  test('needs no HTTP', { timeout: 60_000 }, async () => {
    const receiver = await OtlpReceiver.start();
    const flags = ['--web.listen-address=', `--path.procfs=${TREE}`, ...QUIET, '--log.format=json'];
    const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_METRIC_EXPORT_INTERVAL: '200' };
    const agent = startMain(['serve', ...flags], environment);
    await expect.poll(() => receiver.received.length, SOON).toBeGreaterThan(2);
    agent.kill('SIGTERM');
    expect(await once(agent, 'exit')).toEqual([0, null]);
    await receiver.close();
  });

  test('tells which protocol a receiver wants that refuses JSON, and once alone', { timeout: 60_000 }, async () => {
    const receiver = await OtlpReceiver.start();
    receiver.answer = answers(415);
    const exporter = await start(receiver);
    try {
      await exporter.metricsOnce((page) => (counts(page)[1] ?? 0) > 3);
      expect(counts(await exporter.metrics())[0]).toBe(0);
      expect(exporter.log.filter((entry) => entry['msg'] === 'an otlp export failed')).toMatchObject([
        {
          level: 'warn',
          endpoint: `${receiver.url}/v1/metrics`,
          reason: 'it answered 415 Unsupported Media Type',
          advice: 'a receiver that does not read JSON needs --otlp.protocol=http/protobuf',
        },
      ]);
    } finally {
      expect(await exporter.stop()).toBe(0);
      await receiver.close();
    }
  });

  test('serves and stops while the receiver says nothing', { timeout: 60_000 }, async () => {
    const receiver = await OtlpReceiver.start();
    receiver.answer = isSilent;
    const exporter = await start(receiver, '--otlp.interval=1m', '--otlp.timeout=1s');
    try {
      await exporter.metrics();
    } finally {
      expect(await exporter.stop()).toBe(0);
      await receiver.close();
    }
    expect(receiver.received.length, 'the last export was tried').toBeGreaterThan(0);
  });
});

describe('a start that cannot be', () => {
  test('a certificate that is not there ends with 1 and one line', async () => {
    const flags = [`--path.procfs=${TREE}`, ...QUIET, '--otlp.endpoint=https://[::1]:9', '--otlp.certificate=/nowhere'];
    const { code, stderr } = await runMain(['serve', ...flags]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^Cannot read certificate "\/nowhere": ENOENT.*\n$/);
  });

  test.each([
    ['mmdb', 'it is no MMDB file'],
    ['tsv', /^line 1 "import .*" is not first address, last address, ASN, country and name with tabs between$/],
  ])('a database that is no %s ends with 1 and one line', async (provider, reason) => {
    const file = fileURLToPath(import.meta.url);
    const flags = [`--path.procfs=${TREE}`, `--asn.provider=${provider}`, `--asn.database=${file}`];
    const { code, stderr } = await runMain(['serve', ...flags]);
    expect(code).toBe(1);
    const [, told] = /^Cannot read database "[^"]*": (.*)\n$/.exec(stderr) ?? [];
    expect(told).toMatch(reason);
  });

  test('a port in use ends with 1 and one line', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const address = taken.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    try {
      const flags = [`--web.listen-address=127.0.0.1:${port}`, `--path.procfs=${TREE}`, ...QUIET];
      const { code, stderr } = await runMain(['serve', ...flags]);
      expect(code).toBe(1);
      expect(stderr.trim().split('\n').at(-1)).toBe(`Cannot listen on "127.0.0.1:${port}": the address is in use`);
    } finally {
      taken.close();
    }
  });

  test.each([
    ['a folder that is not there', '/dev/null/none', /^Cannot read procfs "\/dev\/null\/none": ENOTDIR/],
    [
      'a folder without processes',
      fileURLToPath(new URL('../golden', import.meta.url)),
      /: it holds no process directory$/,
    ],
  ])('%s as --path.procfs ends with 1 and one line', async (_, procfs, line) => {
    const { code, stderr } = await runMain(['serve', `--path.procfs=${procfs}`, ...QUIET]);
    expect(code).toBe(1);
    expect(stderr.trim()).toMatch(line);
    expect(stderr.trim()).not.toContain('\n');
  });
});
