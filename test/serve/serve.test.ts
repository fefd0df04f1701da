import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { Exporter, samplesOf } from '../support/exporter.ts';
import { runHere } from '../support/main.ts';

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
    { path: '/', status: 200, type: 'text/html', body: /<a href="\.\/metrics">/ },
    { path: '/api/v1/connections', status: 404, type: 'text/plain', body: /^The API is off: --web\.enable-api turns/ },
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

  test('serves the families of the selected collectors, and only their success', async () => {
    const families = async (query: string): Promise<string[]> =>
      [...(await (await exporter.get(`/metrics${query}`)).text()).matchAll(/^# TYPE (peerscope_\w+)/gm)].map(
        ([, name]) => name ?? '',
      );
    const all = await families('');
    const chosen = await families('?collect[]=endpoints');
    const rest = await families('?exclude[]=endpoints');
    expect(chosen).toContain('peerscope_endpoint_connections');
    expect(chosen).toContain('peerscope_build_info');
    expect(chosen).toContain('peerscope_series_limit');
    expect(chosen).not.toContain('peerscope_connections');
    expect(rest).not.toContain('peerscope_endpoint_connections');
    expect(new Set([...chosen, ...rest])).toEqual(new Set(all));
    const page = await (await exporter.get('/metrics?collect[]=asn&collect[]=sockets')).text();
    expect([...samplesOf(page, 'peerscope_scrape_collector_success').keys()]).toEqual([
      'collector=asn',
      'collector=sockets',
    ]);
    const unknown = await exporter.get('/metrics?collect[]=cpu');
    expect(unknown.status).toBe(400);
    expect(await unknown.text()).toBe(
      'Cannot select collector "cpu": must be one of the enabled collectors sockets, protocols, processes, asn, first-seen, endpoints, netlink\n',
    );
  });

  test('serves OpenMetrics on request, with its end marker', async () => {
    const response = await exporter.get('/metrics', { accept: 'application/openmetrics-text;version=1.0.0' });
    expect(response.headers.get('content-type')).toBe('application/openmetrics-text; version=1.0.0; charset=utf-8');
    const page = await response.text();
    expect(page).toMatch(/# EOF\n$/);
    expect(page).toMatch(/^peerscope_connections_opened_total\{/m);
    expect(page).not.toMatch(/\n\n/);
    expect(page).toMatch(/^# UNIT peerscope_socket_queue_bytes bytes$/m);
    expect(page).toMatch(/^# UNIT process_cpu_seconds seconds$/m);
  });

  test('compresses for clients that accept gzip', async () => {
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

  test('serves whole pages to twenty concurrent scrapers', async () => {
    const pages = await Promise.all(Array.from({ length: 20 }, () => exporter.metrics()));
    const sizes = new Set(pages.map((page) => samplesOf(page, 'peerscope_connections').size));
    expect(sizes.size).toBe(1);
  });

  test('shares a page between concurrent scrapes', async () => {
    // On a busy machine a scan can end before the tenth request arrives. Without sharing, ten pages would never be equal.
    await vi.waitFor(
      async () => {
        const pages = await Promise.all(Array.from({ length: 10 }, () => exporter.metrics()));
        expect(new Set(pages).size).toBe(1);
      },
      { timeout: 30_000 },
    );
  });

  test('logs at the start what leaves the host, and never logs the address of a peer', () => {
    const started = exporter.log.find((entry) => entry['msg'] === 'peerscope started');
    expect(started).toMatchObject({ asn_provider: 'none', sends: 'nothing', procfs: TREE });
    expect(started).toMatchObject({ level: 'info', tls: false, authentication: 'none' });
    expect(started).not.toHaveProperty('warning');
    expect(JSON.stringify(exporter.log)).not.toContain('1.1.1.1');
  });
});

describe('a start that fails', () => {
  test('a missing certificate ends with 1 and one line', async () => {
    const flags = [`--path.procfs=${TREE}`, ...QUIET, '--otlp.endpoint=https://[::1]:9', '--otlp.certificate=/nowhere'];
    const { code, stderr } = await runHere(['serve', ...flags]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^Cannot read certificate "\/nowhere": no such file or directory\n$/);
  });

  test.each([
    ['mmdb', 'not an MMDB file'],
    ['tsv', /^line 1 "import .*" is not a tab-separated first address, last address, ASN, country and name$/],
  ])('a file that is not a database of type %s ends with 1 and one line', async (provider, reason) => {
    const file = fileURLToPath(import.meta.url);
    const flags = [`--path.procfs=${TREE}`, `--asn.provider=${provider}`, `--asn.database=${file}`];
    const { code, stderr } = await runHere(['serve', ...flags]);
    expect(code).toBe(1);
    const [, logged] = /^Cannot read database "[^"]*": (.*)\n$/.exec(stderr) ?? [];
    expect(logged).toMatch(reason);
  });

  test.each([
    ['this host', [], / in use by .+\/\d+$/],
    ['a recorded tree', [`--path.procfs=${TREE}`], / in use$/],
  ])('a port in use ends with 1 and one line, with the procfs of %s', async (_where, procfs, holder) => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const address = taken.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    try {
      const { code, stderr } = await runHere(['serve', `--web.listen-address=127.0.0.1:${port}`, ...procfs, ...QUIET]);
      expect(code).toBe(1);
      const line = stderr.trim().split('\n').at(-1);
      expect(line).toContain(`Cannot listen on --web.listen-address "127.0.0.1:${port}": the address is in use`);
      expect(line).toMatch(holder);
    } finally {
      taken.close();
    }
  });

  test.each([
    ['a missing directory', '/dev/null/none', /^Cannot read procfs "\/dev\/null\/none": not a directory/],
    [
      'a directory without processes',
      fileURLToPath(new URL('../golden', import.meta.url)),
      /: it has no process directory$/,
    ],
  ])('%s as --path.procfs ends with 1 and one line', async (_, procfs, line) => {
    const { code, stderr } = await runHere(['serve', `--path.procfs=${procfs}`, ...QUIET]);
    expect(code).toBe(1);
    expect(stderr.trim()).toMatch(line);
    expect(stderr.trim()).not.toContain('\n');
  });

  test.each([
    [
      'an unknown key',
      'users: {}\n',
      /^Cannot read web configuration "[^"]*web\.yaml": users: unknown key, must be one of .*\n$/,
    ],
    [
      'a key that is not supported',
      'rate_limit: { interval: 1s }\n',
      /^Cannot read web configuration .*: rate_limit: is not supported: .*\n$/,
    ],
    ['a missing file', null, /^Cannot read web configuration ".*": no such file or directory\n$/],
  ])('%s of a web configuration ends with 2 and one line', async (_, text, line) => {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-web-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'web.yaml');
    if (text !== null) writeFileSync(file, text);
    const { code, stderr } = await runHere(['serve', `--path.procfs=${TREE}`, ...QUIET, `--web.config.file=${file}`]);
    expect(stderr).toMatch(line);
    expect(code).toBe(2);
  });
});
