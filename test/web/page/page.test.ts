import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCidr } from '../../../src/common/address.ts';
import { Procfs } from '../../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../../src/config/config.ts';
import { AsnCache } from '../../../src/enrich/asn/cache.ts';
import { PAGE_POLICY } from '../../../src/web/page/style.ts';
import { markStale, renderPage, renderWaiting } from '../../../src/web/page/page.ts';
import { STATE_MEANINGS } from '../../../src/web/page/glossary.ts';
import { statusFamilies } from '../../../src/metrics/families.ts';
import type { Family } from '../../../src/model.ts';
import { Scrape } from '../../../src/scrape.ts';

const NOW = Date.parse('2026-01-01T12:34:56Z');
const AROUND = { telemetryPath: '/metrics', hasApi: false, refreshes: true };

/** The families of a recorded host, with an operator of this name for 9.9.9.0/24. */
function familiesOf(tree: string, operator = 'QUAD9-AS-1'): Family[] {
  const procfs = new Procfs(fileURLToPath(new URL(`../../fixtures/proc/${tree}`, import.meta.url)));
  const collectors = { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true };
  const clock = { now: () => NOW, monotonic: () => 0 };
  const cache = new AsnCache();
  const scrape = new Scrape(procfs, { seriesLimit: 1000, rules: EMPTY_RULES, collectors }, clock, cache);
  scrape.run(Infinity);
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
  const { at, families, collectors: runs } = scrape.run(Infinity);
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
    store: null,
    otlp: null,
  };
  return [...families, ...statusFamilies(status)];
}

/** What a person reads: the words of the page without its tags. */
function readable(page: string): string {
  const [, body = ''] = /<body>(.*)<\/body>/s.exec(page) ?? [];
  return body
    .replace(/<title>.*?<\/title>/gs, '')
    .replace(/<[^>]*>/g, ' ')
    .replaceAll(/\s+/g, ' ');
}

describe('the page of a recorded host', () => {
  const page = renderPage(familiesOf('plain-host'), AROUND);
  const text = readable(page);

  test.each([
    ['when it was scanned', 'Scanned at 12:34:56 UTC'],
    ['totals', 'Sockets 22 Inbound 5 Outbound 6 Looping 4 Listening 7'],
    ['what the totals are of', 'In 1 network namespace , of 8 processes , with 1 network operator at the other end'],
    ['processes with counts for each state', 'orders.py orders.service 7 established 5 listen 1 syn_sent 1'],
    ['operators with their names', 'QUAD9-AS-1 AS19281 · CH 2 2 4'],
    ['networks without operators', 'Other networks public, operator not known (yet) 6 loopback 4 documentation 1'],
    [
      'inbound endpoints',
      'Inbound 5 connections Endpoint and owner Connections 192.0.2.5:443 tcp · nginx nginx.service 3 established 3',
    ],
    ['outbound endpoints', 'Outbound 6 connections Endpoint and owner Connections'],
    ['looping endpoints', 'Looping 2 connections; 2 rows of other ends left out'],
    ['listeners', 'postgres postgresql.service 127.0.0.1:5432 0'],
    ['that all was seen', 'Everything was seen'],
    ['what each part cost', 'sockets complete 0.0 ms'],
    ['where to read on', 'Metrics Health Readiness Documentation'],
  ])('tells %s', (_, words) => {
    expect(text).toContain(words);
  });

  test('says that there may be more operators where some were folded', () => {
    const labels = ['direction', 'network', 'asn'];
    const samples = ['19281', '13335', '0', 'other'].map((asn) => ({ labels: ['inbound', 'public', asn], value: 1 }));
    const folded: Family = { name: 'peerscope_asn_connections', help: '', type: 'gauge', labels, samples };
    expect(readable(renderPage([folded], AROUND))).toContain('with at least 2 network operators at the other end');
  });

  test('explains every state in a sentence, and every metric', () => {
    for (const [state, meaning] of Object.entries(STATE_MEANINGS)) expect(text).toContain(`${state} ${meaning}`);
    expect(text).toContain('peerscope_connections process, namespace, workload, pod');
    expect(text).toContain('peerscope_build_info');
  });

  test('tells no more of connections than the metrics do: no address of a public peer', () => {
    for (const address of ['9.9.9.9', '1.1.1.1', '8.8.8.8']) expect(page).not.toContain(address);
  });

  test('has nothing that the policy would stop: its one style is the hashed one, and there is no script', () => {
    const styles = [...page.matchAll(/<style>(.*?)<\/style>/gs)].map(([, style = '']) => style);
    const hashes = styles.map((style) => `style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'`);
    expect(hashes).toHaveLength(1);
    expect(PAGE_POLICY).toContain(hashes[0]);
    expect(page).not.toMatch(/<script|\sstyle=|\son\w+=|javascript:|https?:\/\/(?!www\.w3\.org)/i);
  });

  test('has one h1, headings without a gap, and a scope for each header of a table', () => {
    const levels = [...page.matchAll(/<h(\d)/g)].map(([, level]) => Number(level));
    expect(levels.filter((level) => level === 1)).toEqual([1]);
    for (const [i, level] of levels.entries()) expect(level).toBeLessThanOrEqual((levels[i - 1] ?? 0) + 1);
    expect(page.match(/<th\b(?![^>]*\sscope="(row|col)")/g)).toBeNull();
    expect(page.match(/<svg\b(?![^>]*(aria-hidden="true"|role="img" aria-label="[^"]+"))/g)).toBeNull();
  });
});

describe('the page', () => {
  const families = familiesOf('plain-host');

  test('loads itself again unless it is told not to', () => {
    expect(renderPage(families, AROUND)).toContain('<meta http-equiv="refresh" content="15">');
    expect(renderPage(families, { ...AROUND, refreshes: false })).not.toContain('http-equiv');
  });

  test('links to the metrics where they are, and to the API where there is one', () => {
    const links = (hasApi: boolean): string[] =>
      [...renderPage(families, { ...AROUND, telemetryPath: '/a/b', hasApi }).matchAll(/href="(\/[^"]*)"/g)].map(
        ([, href = '']) => href,
      );
    expect(links(false)).toEqual(['/a/b', '/-/healthy', '/-/ready']);
    expect(links(true)).toEqual(['/a/b', '/api/v1/connections', '/-/healthy', '/-/ready']);
  });

  test('names the remotes that endpoints are called after, and no other end', () => {
    const asked: string[] = [];
    const nameOf = (address: string): string | null => {
      asked.push(address);
      return address === '198.51.100.9' ? 'db.<example>' : null;
    };
    expect(renderPage(families, AROUND, nameOf)).toContain(
      '<bdi>198.51.100.9:443</bdi></span><span class="sub"><bdi>db.&lt;example&gt;</bdi></span>',
    );
    expect(asked).toContain('AS19281:443');
    expect(asked).not.toContain('192.0.2.5');
    const raw = named(['[2001:db8::1]:443', '2001:db8::1', '192.0.2.1']);
    const names = (address: string): string => `name of ${address}`;
    const text = readable(renderPage(raw, AROUND, names));
    expect(text.match(/name of \S+/g)).toEqual(['name of 2001:db8::1', 'name of 2001:db8::1', 'name of 192.0.2.1']);
  });

  test('that is old says so, once', () => {
    expect(readable(markStale(renderPage(families, AROUND)))).toMatch(/: hold it still \. No newer scan ended in time/);
  });

  test('before the first scan asks for patience, and loads itself soon', () => {
    expect(readable(renderWaiting())).toContain('The first scan has not ended yet.');
    expect(renderWaiting()).toContain('content="2"');
  });

  test('of a host without sockets, and of none at all, is a page too', () => {
    expect(readable(renderPage(familiesOf('empty'), AROUND))).toContain('There is no socket at all.');
    expect(readable(renderPage([], AROUND))).toContain('Nothing was scanned yet.');
  });

  test('says of what is off how it was switched off', () => {
    const off = families.filter(({ name }) => !/asn|endpoint/.test(name));
    expect(readable(renderPage(off, AROUND))).toMatch(/--no-collector\.asn.*--no-collector\.endpoints/);
  });
});

describe('names that others chose', () => {
  test('are text on the page', () => {
    const text = renderPage(familiesOf('hostile', '<img src=x onerror=alert(1)>'), AROUND);
    for (const name of ['quote&quot;,asn=&quot;1', 'back\\slash{}', 'comma,b:2', '_other'])
      expect(text).toContain(name);
    const operator = renderPage(familiesOf('plain-host', '</th><script>alert(1)</script>'), AROUND);
    expect(operator).toContain('<bdi>&lt;/th&gt;&lt;script&gt;alert(1)&lt;/script&gt;</bdi>');
  });

  test('make no tag more or less, whatever they are', { timeout: 30_000 }, () => {
    const tags = (names: readonly string[]): string[] =>
      (renderPage(named(names), AROUND).match(/<[^>]*>/g) ?? []).filter((tag) => !tag.startsWith('<meta'));
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

/** Families in which every name that somebody may choose is one of these. */
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
