import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatCidr, parseCidr } from '../../../src/common/address.ts';
import type { Exchange } from '../../../src/enrich/asn/cymru-whois.ts';
import {
  CYMRU_DNS_LIMITS,
  cymruDnsProvider,
  originName,
  parseAsText,
  parseOriginText,
} from '../../../src/enrich/asn/cymru-dns.ts';
import type { Cidr } from '../../../src/model.ts';
import { startDnsServer, type DnsAnswer, type DnsServer } from '../../support/dns-server.ts';

const RECORDED = readFileSync(join(import.meta.dirname, '../../fixtures/cymru/dns-txt.tsv'), 'utf8')
  .split('\n')
  .filter((line) => line.includes('\t'))
  .map((line) => line.split('\t'))
  .map(([name = '', text = '']) => ({ name, text: text.trim() }));

const CANARY = 'as23028.asn.cymru.com';
const ONLY_NOW = new AbortController().signal;

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new SyntaxError(`Cannot read block "${text}"`);
  return parsed;
}

/** The recorded texts of a name; those of one address answer for its /24 too, as the zone does. */
function recorded(name: string): DnsAnswer {
  const texts = RECORDED.filter(
    (record) => record.name.toLowerCase() === name || record.name.replace(/^\d+\./, '') === name,
  )
    .map(({ text }) => text)
    .filter((text) => !text.endsWith('SAUNET'));
  return texts.length > 0 ? [...new Set(texts)] : 'no such name';
}

let server: DnsServer;
let now: number;
beforeEach(async () => {
  server = await startDnsServer(recorded);
  now = Date.parse('2026-09-15T08:00:00Z');
});
afterEach(() => server.close());

const open = (limits = CYMRU_DNS_LIMITS) =>
  cymruDnsProvider({ now: () => now, monotonic: () => now }, { servers: [server.address], limits });
const ask = (blocks: readonly string[], provider = open(), signal = ONLY_NOW): Promise<Exchange> =>
  provider.query(blocks.map(cidr), signal);

/** What an exchange says, block by block: prefix and origins. */
function told(exchange: Exchange): unknown {
  if ('failure' in exchange) return exchange;
  return Object.fromEntries(
    exchange.reply.answers.map(({ bucket, announcement: { prefix, origins } }) => [
      formatCidr(bucket),
      [prefix && formatCidr(prefix), ...origins.map(({ asn, name }) => `${asn} ${name}`)],
    ]),
  );
}

describe('the name for', () => {
  it.each([
    ['an IPv4 network is that of its /24', '216.90.108.0/24', '108.90.216.origin.asn.cymru.com.'],
    ['one address too', '216.90.108.31/32', '108.90.216.origin.asn.cymru.com.'],
    ['an IPv6 network is that of its /48', '2001:4860:b002::68', '2.0.0.b.0.6.8.4.1.0.0.2.origin6.asn.cymru.com.'],
  ])('%s', (_, block, name) => {
    expect(originName(cidr(block))).toBe(name);
  });

  it.each(['10.0.0.0/24', '100.64.1.0/24', 'fd00::/48', '2002:808:808::/48'])('%s is rejected', (block) => {
    expect(() => originName(cidr(block))).toThrow(new RangeError(`Cannot query "${block}": not a public network`));
  });
});

describe('a text', () => {
  it('of every recorded origin is parsed', () => {
    const origins = RECORDED.filter(({ text }) => parseOriginText(text)).map(({ name }) => name);
    const expected = RECORDED.filter(({ name, text }) => !name.startsWith('AS') && !text.startsWith('v='));
    expect(origins).toEqual(expected.map(({ name }) => name));
  });

  it.each([
    ['foreign', 'v=spf1 mx -all'],
    ['without a prefix', '23028 | NA | US | arin | 1998-09-25'],
    ['not announced', 'NA | NA | US | arin | 1998-09-25'],
    ['with a column too few', '23028 | 216.90.108.0/24 | US | arin'],
    ['with a name for a number', 'AS23028 | 216.90.108.0/24 | US | arin | 1998-09-25'],
  ])('that is %s is not an origin', (_, text) => {
    expect(parseOriginText(text)).toBeUndefined();
  });

  it.each([
    [
      '23028 | US | arin | 2002-01-04 | TEAM-CYMRU - Team Cymru Inc., US',
      23028,
      { name: 'TEAM-CYMRU - Team Cymru Inc.', country: 'US' },
    ],
    ['1234 | EU | ripencc | 1993-09-01 | FORTUM-AS | Fortum, FI', 1234, { name: 'FORTUM-AS | Fortum', country: 'FI' }],
    ['16276 | FR | ripencc | 2001-02-15 | OVH OVH', 16276, { name: 'OVH OVH', country: null }],
    ['16276 | FR | ripencc | 2001-02-15 | OVH OVH', 16277, undefined],
    ['v=spf1 mx -all', 16276, undefined],
  ])('of an AS is its name: %s', (text, asn, expected) => {
    expect(parseAsText(text, asn)).toEqual(expected);
  });
});

describe('a session', () => {
  it('queries the canary, then masked names, then each AS once, and returns the recorded data', async () => {
    const exchange = await ask(['94.136.40.0/24', '2001:4860:b002::/48', '206.189.89.0/24', '192.175.48.0/24']);
    expect(told(exchange)).toEqual({
      '94.136.40.0/24': ['94.136.40.0/24', '20738 null', '20773 null'],
      '2001:4860:b002::/48': ['2001:4860::/32', '15169 null'],
      '206.189.89.0/24': ['206.189.80.0/20', '14061 DIGITALOCEAN-ASN - DigitalOcean, LLC'],
      '192.175.48.0/24': [null],
    });
    expect(exchange.sent).toBe(4);
    expect(server.asked[0]).toBe(CANARY);
    expect(server.asked.slice(1).sort()).toEqual(
      [
        '40.136.94.origin.asn.cymru.com',
        '2.0.0.b.0.6.8.4.1.0.0.2.origin6.asn.cymru.com',
        '89.189.206.origin.asn.cymru.com',
        '48.175.192.origin.asn.cymru.com',
        ...[20738, 20773, 15169, 14061].map((asn) => `as${asn}.asn.cymru.com`),
      ].sort(),
    );
  });

  it('reads names in UTF-8, also where a string of the text ends inside a character', async () => {
    const name = 'ÄTHERNET – Zürich 中文中文中文 🛰';
    server.answer = (asked) =>
      asked === 'as14061.asn.cymru.com' ? [`14061 | US | arin | 2012-09-25 | ${name}, CH`] : recorded(asked);
    expect(told(await ask(['206.189.89.0/24']))).toEqual({
      '206.189.89.0/24': ['206.189.80.0/20', `14061 ${name}`],
    });
  });

  it('returns registry data like whois', async () => {
    expect(await ask(['206.189.89.0/24'])).toEqual({
      sent: 1,
      reply: {
        banner: true,
        answers: [
          {
            bucket: cidr('206.189.89.0/24'),
            announcement: {
              prefix: cidr('206.189.80.0/20'),
              origins: [{ asn: 14061, name: 'DIGITALOCEAN-ASN - DigitalOcean, LLC', country: 'US' }],
              registry: 'arin',
              registryCountry: 'US',
              allocated: '1995-11-15',
            },
          },
        ],
        refused: [],
        unanswered: [],
        malformed: 0,
        unasked: 0,
      },
    });
  });

  it('caches AS names for a week', async () => {
    const provider = open();
    const namesAsked = (): number => server.asked.filter((name) => name === 'as14061.asn.cymru.com').length;
    for (const [days, expected] of [
      [0, 1],
      [6.9, 1],
      [0.2, 2],
    ] as const) {
      now += days * 86_400_000;
      await ask(['206.189.89.0/24'], provider);
      expect(namesAsked()).toBe(expected);
    }
  });

  it.each([
    ['1.1.1.0/24', '1.1.1.origin.asn.cymru.com', '0.0.0.0/0'],
    ['1.1.1.0/24', '1.1.1.origin.asn.cymru.com', '0.0.0.0/7'],
    ['2606:4700:4700::/48', '0.0.7.4.0.0.7.4.6.0.6.2.origin6.asn.cymru.com', '::/0'],
    ['2606:4700:4700::/48', '0.0.7.4.0.0.7.4.6.0.6.2.origin6.asn.cymru.com', '2606::/15'],
  ])('rejects for %s (%s) the too short prefix %s and counts it', async (asked, question, prefix) => {
    server.answer = (name) => (name === question ? [`64 | ${prefix} | US | arin | 2000-01-01`] : recorded(name));
    expect(await ask([asked, '206.189.89.0/24'])).toMatchObject({
      reply: { unanswered: [cidr(asked)], malformed: 1 },
    });
    expect(await ask([asked])).toEqual({
      sent: 1,
      failure: 'Cannot query DNS zone "asn.cymru.com": unexpected TXT records',
      malformed: 1,
    });
  });

  it('counts unexpected texts and foreign prefixes and leaves the network unanswered', async () => {
    server.answer = (name) =>
      name === '84.45.8.origin.asn.cymru.com'
        ? ['v=spf1 mx -all']
        : name === '1.1.1.origin.asn.cymru.com'
          ? ['64 | 9.9.9.0/24 | US | arin | 2000-01-01']
          : recorded(name);
    const exchange = await ask(['8.45.84.0/24', '1.1.1.0/24', '206.189.89.0/24']);
    expect(exchange).toMatchObject({
      sent: 3,
      reply: { unanswered: [cidr('8.45.84.0/24'), cidr('1.1.1.0/24')], malformed: 2 },
    });
  });

  it.each<[string, DnsAnswer, string]>([
    ['says that there is no such name as the canary', 'no such name', 'no such name'],
    ['answers the canary with unexpected TXT records', ['v=spf1 mx -all'], 'unexpected TXT records'],
    ['refuses', 'refused', 'the resolver refused the query'],
    ['says nothing', 'silence', 'timed out'],
  ])('sends no network to a resolver that %s', async (_, answer, reason) => {
    server.answer = () => answer;
    const exchange = await ask(['206.189.89.0/24'], open({ ...CYMRU_DNS_LIMITS, timeoutMs: 50, tries: 1 }));
    expect(exchange).toEqual({ sent: 0, failure: `Cannot query DNS zone "asn.cymru.com": ${reason}` });
    expect(new Set(server.asked)).toEqual(new Set([CANARY]));
  });

  it('leaves timed-out queries unanswered, and fails if all time out', async () => {
    server.answer = (name) => (name.startsWith('89.') ? 'silence' : recorded(name));
    const provider = open({ ...CYMRU_DNS_LIMITS, timeoutMs: 50, tries: 1 });
    expect(await ask(['206.189.89.0/24', '216.90.108.0/24'], provider)).toMatchObject({
      reply: { unanswered: [cidr('206.189.89.0/24')] },
    });
    expect(await ask(['206.189.89.0/24'], provider)).toEqual({
      sent: 1,
      failure: 'Cannot query DNS zone "asn.cymru.com": timed out',
      malformed: 0,
    });
  });

  it('has at most ten queries in flight', async () => {
    const blocks = Array.from({ length: 40 }, (_, i) => `8.8.${i}.0/24`);
    server.answer = (name) => (name === CANARY ? recorded(name) : 'silence');
    const stop = new AbortController();
    const ended = ask(blocks, open(), stop.signal);
    await expect.poll(() => server.asked.length).toBe(11);
    stop.abort();
    expect(await ended).toMatchObject({ sent: 10, failure: 'Cannot query DNS zone "asn.cymru.com": stopped' });
    expect(server.asked).toHaveLength(11);
  });

  it('ends at its time limit', async () => {
    server.answer = (name) => (name === CANARY || name.startsWith('108.') ? recorded(name) : 'silence');
    const exchange = await ask(['216.90.108.0/24', '8.8.8.0/24'], open({ ...CYMRU_DNS_LIMITS, totalMs: 200 }));
    expect(exchange).toMatchObject({ sent: 2, reply: { unanswered: [cidr('8.8.8.0/24')] } });
  });

  it('that was aborted before its start sends nothing', async () => {
    expect(await ask(['8.8.8.0/24'], open(), AbortSignal.abort())).toEqual({
      sent: 0,
      failure: 'Cannot query DNS zone "asn.cymru.com": stopped',
    });
    expect(server.asked).toEqual([]);
  });
});
