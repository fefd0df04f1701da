import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCidr } from '../../../src/common/address.ts';
import { Procfs } from '../../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../../src/config/config.ts';
import { AsnCache } from '../../../src/enrich/asn/cache.ts';
import { PAGE_POLICY } from '../../../src/web/page/policy.ts';
import { markStale, renderPage, renderWaiting, type PageOptions } from '../../../src/web/page/page.ts';
import { STATE_MEANINGS } from '../../../src/web/page/glossary.ts';
import { statusFamilies } from '../../../src/metrics/families.ts';
import type { Family } from '../../../src/model.ts';
import { Scrape } from '../../../src/scrape.ts';

const NOW = Date.parse('2026-01-01T12:34:56Z');
const OPTIONS = { telemetryPath: '/metrics', connectionsPath: null, acceptToken: null, refreshes: true };

/** The families of a recorded host, with an operator of this name for 9.9.9.0/24. */
function familiesOf(tree: string, operator = 'QUAD9-AS-1'): Family[] {
  const procfs = new Procfs(fileURLToPath(new URL(`../../fixtures/proc/${tree}`, import.meta.url)));
  const collectors = {
    processes: true,
    protocols: true,
    endpoints: true,
    asn: true,
    'first-seen': true,
    netlink: true,
  };
  const clock = { now: () => NOW, monotonic: () => 0 };
  const cache = new AsnCache();
  const scrape = new Scrape(procfs, { seriesLimit: 1000, rules: EMPTY_RULES, collectors }, clock, cache);
  scrape.scan(Infinity);
  const bucket = parseCidr('9.9.9.0/24');
  if (!bucket) throw new Error('no bucket');
  const origin = {
    asns: [19281],
    name: operator,
    asCountry: 'CH',
    prefix: null,
    registry: null,
    registryCountry: null,
  };
  const times = { allocated: null, askedAt: NOW, freshUntil: NOW + 1, source: 'cymru' };
  scrape.learn(cache.accept([{ bucket, origin: { ...origin, ...times } }]));
  const { at, families, collectors: runs } = scrape.scan(Infinity);
  const status = {
    version: '1.2.3',
    snapshotAtSeconds: at / 1000,
    collectors: runs,
    malformedRows: new Map(),
    asn: null,
    configIsCurrent: null,
    workerFailures: 0,
    webConfigIsCurrent: null,
    kubernetes: [],
    ignoredExpectations: null,
    store: null,
    otlp: null,
  };
  return [...families, ...statusFamilies(status)];
}

/** The visible text of the page. */
function readable(page: string): string {
  const [, body = ''] = /<body>(.*)<\/body>/s.exec(page) ?? [];
  return body
    .replace(/<title>.*?<\/title>/gs, '')
    .replace(/<[^>]*>/g, ' ')
    .replaceAll(/\s+/g, ' ');
}

describe('the page of a recorded host', () => {
  const page = renderPage(familiesOf('plain-host'), OPTIONS);
  const text = readable(page);

  test.each([
    ['the time of the scan', 'Scanned at 12:34:56 UTC in 0.0 ms. Refreshes every 15 s · Pause'],
    ['the totals', 'Sockets 22 Inbound 5 Outbound 6 Loopback 4 Listening 7'],
    ['what the totals cover', '1 network namespace , 8 processes , 1 remote network operator'],
    ['processes with counts by state', 'orders.py orders.service 7 established 5 listen 1 syn_sent 1'],
    ['operators with names', 'QUAD9-AS-1 AS19281 · CH 2 2 4'],
    ['networks without operators', 'Other networks public, operator unknown 6 documentation 1'],
    [
      'inbound endpoints',
      'Inbound 5 connections Endpoint and owner Connections 192.0.2.5:443 tcp · nginx nginx.service 3 established 3',
    ],
    ['outbound endpoints', 'Outbound 6 connections Endpoint and owner Connections'],
    ['loopback endpoints', 'Loopback 2 connections, 2 duplicates omitted'],
    ['listeners', 'postgres postgresql.service 127.0.0.1:5432 0'],
    ['that there are no blind spots', 'Blind spots None.'],
    ['the cost of each collector', 'sockets complete 0.0 ms'],
    ['links', 'Metrics Health Readiness Documentation'],
  ])('shows %s', (_, words) => {
    expect(text).toContain(words);
  });

  test('counts "at least" so many operators when some were folded', () => {
    const labels = ['direction', 'network', 'asn'];
    const samples = ['19281', '13335', '0', 'other'].map((asn) => ({ labels: ['inbound', 'public', asn], value: 1 }));
    const folded: Family = { name: 'peerscope_asn_connections', help: '', type: 'gauge', labels, samples };
    expect(readable(renderPage([folded], OPTIONS))).toContain('at least 2 remote network operators');
  });

  test('documents every state and every metric', () => {
    for (const [state, meaning] of Object.entries(STATE_MEANINGS)) expect(text).toContain(`${state} ${meaning}`);
    expect(text).toContain('peerscope_connections process, namespace, workload, pod');
    expect(text).toContain('peerscope_build_info');
  });

  test('shows no address of a public peer, like the metrics', () => {
    for (const address of ['9.9.9.9', '1.1.1.1', '8.8.8.8']) expect(page).not.toContain(address);
  });

  test('satisfies its Content-Security-Policy: one hashed style sheet and no scripts', () => {
    const styles = [...page.matchAll(/<style>(.*?)<\/style>/gs)].map(([, style = '']) => style);
    const hashes = styles.map((style) => `style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`);
    expect(hashes).toHaveLength(1);
    expect(PAGE_POLICY).toContain(hashes[0]);
    expect(page).not.toMatch(/<script|\sstyle=|\son\w+=|javascript:|https?:\/\/(?!www\.w3\.org)/i);
  });

  test('has one h1, no skipped heading levels, and a scope for each table header', () => {
    const levels = [...page.matchAll(/<h(\d)/g)].map(([, level]) => Number(level));
    expect(levels.filter((level) => level === 1)).toEqual([1]);
    for (const [i, level] of levels.entries()) expect(level).toBeLessThanOrEqual((levels[i - 1] ?? 0) + 1);
    expect(page.match(/<th\b(?![^>]*\sscope="(row|col)")/g)).toBeNull();
    expect(page.match(/<svg\b(?![^>]*(aria-hidden="true"|role="img" aria-label="[^"]+"))/g)).toBeNull();
  });
});

describe('the page', () => {
  const families = familiesOf('plain-host');

  test('refreshes unless paused', () => {
    expect(renderPage(families, OPTIONS)).toContain('<meta http-equiv="refresh" content="15">');
    expect(renderPage(families, { ...OPTIONS, refreshes: false })).not.toContain('http-equiv');
  });

  test.each<{ name: string; options: Partial<PageOptions>; base: string; links: string[] }>([
    {
      name: 'the configured path of the metrics',
      options: { telemetryPath: '/a/b:c' },
      base: 'http://host/',
      links: ['/a/b:c', '/-/healthy', '/-/ready', '/?refresh=off'],
    },
    {
      name: 'the API when it is on',
      options: { connectionsPath: '/api/v1/connections' },
      base: 'http://host/',
      links: ['/metrics', '/api/v1/connections', '/-/healthy', '/-/ready', '/?refresh=off'],
    },
    {
      name: 'pages below the path prefix of a reverse proxy',
      options: {},
      base: 'http://host/peerscope/',
      links: ['/peerscope/metrics', '/peerscope/-/healthy', '/peerscope/-/ready', '/peerscope/?refresh=off'],
    },
    {
      name: 'the refreshing page when paused',
      options: { refreshes: false },
      base: 'http://host/peerscope/?refresh=off',
      links: ['/peerscope/metrics', '/peerscope/-/healthy', '/peerscope/-/ready', '/peerscope/'],
    },
  ])('links to $name', ({ options, base, links }) => {
    const hrefs = renderPage(families, { ...OPTIONS, ...options }).matchAll(/<a href="([^#"]+)"/g);
    const paths = Array.from(hrefs, ([, href = '']) => new URL(href, base).href.replace('http://host', ''));
    expect(paths).toEqual(links);
  });

  test('shows the reverse DNS name of remotes, but not of local addresses', () => {
    const asked: string[] = [];
    const nameOf = (address: string): string | null => {
      asked.push(address);
      return address === '198.51.100.9' ? 'db.<example>' : null;
    };
    expect(renderPage(families, OPTIONS, nameOf)).toContain(
      '<bdi>198.51.100.9:443</bdi></span><span class="sub"><bdi>db.&lt;example&gt;</bdi></span>',
    );
    expect(asked).toContain('AS19281:443');
    expect(asked).not.toContain('192.0.2.5');
    const raw = named(['[2001:db8::1]:443', '2001:db8::1', '192.0.2.1']);
    const names = (address: string): string => `name of ${address}`;
    const text = readable(renderPage(raw, OPTIONS, names));
    expect(text.match(/name of \S+/g)).toEqual(['name of 2001:db8::1', 'name of 2001:db8::1', 'name of 192.0.2.1']);
  });

  test('shows a notice when it is old', () => {
    expect(readable(markStale(renderPage(families, OPTIONS)))).toMatch(
      / Pause The latest scan did not complete in time/,
    );
  });

  test('says before the first scan that it is running, and refreshes soon', () => {
    expect(readable(renderWaiting())).toContain('The first scan is still running.');
    expect(renderWaiting()).toContain('content="2"');
  });

  test('renders without sockets and without families', () => {
    expect(readable(renderPage(familiesOf('empty'), OPTIONS))).toContain('No sockets.');
    expect(readable(renderPage([], OPTIONS))).toContain('No scan has completed yet.');
  });

  test('names the flag of each collector that is off', () => {
    const off = families.filter(({ name }) => !/asn|endpoint/.test(name));
    expect(readable(renderPage(off, OPTIONS))).toMatch(/--no-collector\.asn.*--no-collector\.endpoints/);
  });
});

describe('traffic', () => {
  const labels = ['process', 'namespace', 'workload', 'direction', 'network', 'asn'];
  const counted = (name: string, value: number): Family => ({
    name,
    help: '',
    type: 'counter',
    labels,
    samples: [
      { labels: ['<b>curl', '', '', 'outbound', 'public', '19281'], value },
      { labels: ['<b>curl', '', '', 'outbound', 'public', ''], value: 1 },
    ],
  });
  const pageOf = (given: readonly Family[]): string => renderPage(given, OPTIONS);
  const bytes = [
    counted('peerscope_asn_sent_bytes_total', 1_258_290),
    counted('peerscope_asn_received_bytes_total', 10),
  ];

  test('is shown in bytes by operator and process', () => {
    const text = readable(pageOf([...familiesOf('plain-host'), ...bytes]));
    expect(text).toMatch(/Who this host sends to, in bytes/);
    expect(text).toMatch(/QUAD9-AS-1\s*AS19281\s*1\.2 MiB\s*10 B/);
    expect(text).toMatch(/public, operator unknown\s*1 B\s*1 B/);
    expect(text).toMatch(/&lt;b&gt;curl|<b>curl/);
    expect(pageOf([...familiesOf('plain-host'), ...bytes])).not.toContain('<b>curl');
  });

  test('is not shown without a source of bytes', () => {
    expect(pageOf(familiesOf('plain-host'))).not.toContain('in bytes');
  });
});

describe('names from other processes', () => {
  test('are escaped', () => {
    const text = renderPage(familiesOf('hostile', '<img src=x onerror=alert(1)>'), OPTIONS);
    for (const name of ['quote&quot;,asn=&quot;1', 'back\\slash{}', 'comma,b:2', '_other'])
      expect(text).toContain(name);
    const operator = renderPage(familiesOf('plain-host', '</th><script>alert(1)</script>'), OPTIONS);
    expect(operator).toContain('<bdi>&lt;/th&gt;&lt;script&gt;alert(1)&lt;/script&gt;</bdi>');
  });

  test('never add or remove a tag', { timeout: 30_000 }, () => {
    const tags = (names: readonly string[]): string[] =>
      (renderPage(named(names), OPTIONS).match(/<[^>]*>/g) ?? []).filter((tag) => !tag.startsWith('<meta'));
    const harmless = tags(['a', 'b', 'c']);
    const name = fc
      .oneof(fc.string({ unit: 'binary' }), fc.string({ unit: fc.constantFrom(...Array.from('<>&"\'/=a ')) }))
      .filter((text) => text !== '' && text !== 'other');
    fc.assert(
      fc.property(fc.uniqueArray(name, { minLength: 3, maxLength: 3 }), (names) => {
        expect(tags(names)).toEqual(harmless);
      }),
    );
  });
});

/** Families in which every free-form label has these values. */
function named(names: readonly string[]): Family[] {
  const family = (name: string, labels: readonly string[], values: (text: string) => readonly string[]): Family => ({
    name,
    help: '',
    type: 'gauge',
    labels,
    samples: names.map((text) => ({ labels: values(text), value: 1 })),
  });
  const owner = ['process', 'namespace', 'workload'];
  return [
    family('peerscope_connections', [...owner, 'direction', 'state'], (text) => [text, text, text, 'inbound', text]),
    family('peerscope_asn_connections', ['asn', 'network', 'direction'], (text) => [
      text === names[0] ? '' : text,
      text,
      'outbound',
    ]),
    family('peerscope_asn_info', ['asn', 'as_name', 'as_country'], (text) => [text, text, text]),
    family(
      'peerscope_endpoint_connections',
      [...owner, 'endpoint_group', 'direction', 'transport', 'state'],
      (text) => [...[text, text, text, text, 'outbound', text, text]],
    ),
    family('peerscope_listener_accept_queue', [...owner, 'local_address', 'local_port'], (text) => [
      ...[text, text, text, text, text],
    ]),
    family('peerscope_sockets_unattributed', ['reason'], (text) => [text]),
  ];
}
