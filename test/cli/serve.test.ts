import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Exporter, runMain, samplesOf } from '../exporter.ts';

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
      expect(existsSync(storage)).toBe(false);
    } finally {
      expect(await exporter.stop()).toBe(0);
      rmSync(folder, { recursive: true });
    }
  },
);

describe('a start that cannot be', () => {
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
