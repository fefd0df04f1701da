import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cidrContains,
  formatAddress,
  formatCidr,
  ipv4,
  maskAddress,
  parseAddress,
  parseCidr,
} from '../../../src/common/address.ts';
import {
  AsnCache,
  isFresh,
  isReservedAsn,
  isServable,
  openCache,
  parseOrigin,
  renderOrigin,
  type Answer,
} from '../../../src/enrich/asn/cache.ts';
import { parseName } from '../../../src/enrich/asn/cymru-whois.ts';
import { bucketOf } from '../../../src/common/network-class.ts';
import type { Address, Cidr, Origin } from '../../../src/model.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = Date.parse('2026-09-15T08:00:00Z');

function address(text: string): Address {
  const parsed = parseAddress(text);
  if (!parsed) throw new SyntaxError(`Cannot read address "${text}"`);
  return parsed;
}

const cloudflare: Origin = {
  asns: [13335],
  name: 'CLOUDFLARENET - Cloudflare, Inc.',
  asCountry: 'US',
  prefix: '1.1.1.0/24',
  registry: 'apnic',
  registryCountry: 'AU',
  allocated: '2011-08-11',
  askedAt: NOW,
  freshUntil: NOW + DAY,
  source: 'cymru',
};

function answer(bucket: string, origin: Partial<Origin> = {}): Answer {
  const cidr = parseCidr(bucket);
  if (!cidr) throw new SyntaxError(`Cannot read block "${bucket}"`);
  return { bucket: cidr, origin: { ...cloudflare, prefix: bucket, ...origin } };
}

const questions = (cache: AsnCache): string[] => cache.takeQueries().map(formatCidr);

describe('AsnCache', () => {
  it('queues the bucket of an unknown address, then answers for the whole bucket', () => {
    const cache = new AsnCache();
    expect(cache.lookup(address('1.1.1.1'), NOW)).toBeNull();
    expect(cache.lookup(address('2606:4700:4700::1111'), NOW)).toBeNull();
    expect(questions(cache)).toEqual(['1.1.1.0/24', '2606:4700:4700::/48']);
    cache.accept([answer('1.1.1.0/24')]);
    expect(cache.lookup(address('1.1.1.200'), NOW)).toEqual(cloudflare);
    expect(cache.lookup(address('1.1.2.1'), NOW)).toBeNull();
    expect(questions(cache)).toEqual(['1.1.2.0/24']);
    expect({ lookups: cache.lookups, hits: cache.hits, entries: cache.entries }).toEqual({
      lookups: 4,
      hits: 1,
      entries: 1,
    });
  });

  it('queues a bucket once, and again after five minutes without an answer', () => {
    const cache = new AsnCache();
    for (const host of ['1.1.1.1', '1.1.1.2', '1.1.1.1']) cache.lookup(address(host), NOW);
    expect(questions(cache)).toEqual(['1.1.1.0/24']);
    cache.lookup(address('1.1.1.1'), NOW + 299_999);
    expect(questions(cache)).toEqual([]);
    cache.lookup(address('1.1.1.1'), NOW + 300_000);
    expect(questions(cache)).toEqual(['1.1.1.0/24']);
  });

  it.each([
    { name: 'while it is fresh', age: DAY - 1, served: true, asked: false },
    { name: 'while a newer one is asked for', age: DAY, served: true, asked: true },
    { name: 'for 30 days where none can be had', age: 30 * DAY, served: true, asked: true },
    { name: 'no longer', age: 30 * DAY + 1, served: false, asked: true },
    { name: 'with a clock put back a little', age: -HOUR, served: true, asked: false },
    { name: 'with a clock put back more than its lifetime, as an old one', age: -2 * DAY, served: true, asked: true },
    { name: 'never with a clock put back by more than 30 days', age: -31 * DAY, served: false, asked: true },
  ])('serves an answer $name', ({ age, served, asked }) => {
    const cache = new AsnCache();
    cache.accept([answer('1.1.1.0/24')]);
    expect(cache.lookup(address('1.1.1.1'), NOW + age)).toEqual(served ? cloudflare : null);
    expect(questions(cache)).toEqual(asked ? ['1.1.1.0/24'] : []);
  });

  it('serves a not-announced answer', () => {
    const cache = new AsnCache();
    cache.accept([answer('198.28.137.0/24', { asns: [], prefix: null })]);
    expect(cache.lookup(address('198.28.137.80'), NOW)?.asns).toEqual([]);
    expect(cache.hits).toBe(1);
  });

  it('applies an answer for a longer prefix only to that prefix', () => {
    const cache = new AsnCache();
    cache.accept([answer('1.1.1.0/24', { prefix: '1.1.1.0/25' }), answer('2620:fe::/48', { prefix: '2620:fe::/64' })]);
    const found = ['1.1.1.127', '1.1.1.128', '2620:fe::9', '2620:fe:0:1::9'].map(
      (host) => cache.lookup(address(host), NOW) !== null,
    );
    expect(found).toEqual([true, false, true, false]);
    expect(questions(cache)).toEqual([]);
    cache.accept([answer('1.1.1.0/24')]);
    expect(cache.lookup(address('1.1.1.128'), NOW)).toEqual(cloudflare);
  });

  it.each<{ name: string; before: Partial<Origin> | null; after: Partial<Origin>; changed: boolean; asns: number[] }>([
    { name: 'a first answer', before: null, after: {}, changed: true, asns: [13335] },
    {
      name: 'a renewal',
      before: {},
      after: { askedAt: NOW + DAY, freshUntil: NOW + 2 * DAY },
      changed: false,
      asns: [13335],
    },
    { name: 'another name', before: {}, after: { name: 'CLOUDFLARE' }, changed: true, asns: [13335] },
    { name: 'another primary', before: {}, after: { asns: [4826] }, changed: true, asns: [4826] },
    {
      name: 'the origins in another order',
      before: { asns: [1, 2] },
      after: { asns: [2, 1] },
      changed: false,
      asns: [1, 2],
    },
    {
      name: 'one more origin before the primary',
      before: { asns: [2] },
      after: { asns: [1, 2, 3] },
      changed: true,
      asns: [2, 1, 3],
    },
    { name: 'no origin any more', before: {}, after: { asns: [], prefix: null, name: null }, changed: true, asns: [] },
  ])('reports for $name whether the exported data changed', ({ before, after, changed, asns }) => {
    const cache = new AsnCache();
    if (before) cache.accept([answer('1.1.1.0/24', before)]);
    expect([...cache.accept([answer('1.1.1.0/24', after)])]).toEqual(changed ? ['1.1.1.0/24'] : []);
    expect(cache.lookup(address('1.1.1.1'), NOW + DAY)?.asns).toEqual(asns);
  });

  it('exports the primary ASN with its own name', () => {
    const cache = new AsnCache();
    cache.accept([answer('1.1.1.0/24', { asns: [4826], name: 'VOCUS', asCountry: 'AU' })]);
    cache.accept([answer('1.1.1.0/24', { asns: [13335, 4826] })]);
    expect(cache.lookup(address('1.1.1.1'), NOW)).toEqual({
      ...cloudflare,
      asns: [4826, 13335],
      name: 'VOCUS',
      asCountry: 'AU',
    });
  });

  it('keeps the 50,000 most recently used buckets', () => {
    const cache = new AsnCache();
    const host = (i: number): Address => ipv4(0x08000000 + i * 256);
    const bucketAnswer = (i: number): Answer => ({
      bucket: bucketOf(host(i)),
      origin: { ...cloudflare, prefix: null },
    });
    cache.accept(Array.from({ length: 50_000 }, (_, i) => bucketAnswer(i)));
    cache.lookup(host(0), NOW);
    cache.accept([bucketAnswer(50_000)]);
    expect(cache.entries).toBe(50_000);
    expect([0, 1, 2, 50_000].map((i) => cache.lookup(host(i), NOW) !== null)).toEqual([true, false, true, true]);
  });

  it('queues an evicted bucket again at once', () => {
    const cache = new AsnCache();
    const host = (i: number): Address => ipv4(0x08000000 + i * 256);
    cache.lookup(host(0), NOW);
    cache.takeQueries();
    cache.accept(Array.from({ length: 50_001 }, (_, i) => ({ bucket: bucketOf(host(i)), origin: cloudflare })));
    cache.lookup(host(0), NOW);
    expect(questions(cache)).toEqual(['8.0.0.0/24']);
  });

  it('queues at most 50,000 buckets', () => {
    const cache = new AsnCache();
    for (let i = 0; i < 50_010; i++) cache.lookup(ipv4(0x08000000 + i * 256), NOW);
    expect(cache.takeQueries()).toHaveLength(50_000);
    cache.lookup(ipv4(0x08000000 + 50_005 * 256), NOW);
    expect(cache.takeQueries()).toHaveLength(1);
  });

  it('queues a bucket once for each tenant, in the order of turns', () => {
    const cache = new AsnCache();
    for (const host of ['1.1.1.1', '1.1.2.1', '1.1.3.1']) cache.lookup(address(host), NOW, 'a');
    cache.lookup(address('8.8.8.8'), NOW, 'b');
    cache.want(address('1.1.3.1'), NOW, 'b');
    cache.want(address('1.1.3.1'), NOW, 'b');
    expect(cache.takeQueries().map((one) => `${one.tenant} ${formatCidr(one)}`)).toEqual([
      'a 1.1.1.0/24',
      'b 8.8.8.0/24',
      'a 1.1.2.0/24',
      'b 1.1.3.0/24',
      'a 1.1.3.0/24',
    ]);
    expect(cache.lookups).toBe(4);
  });

  it('queues the bucket of a tenant although another one has 50,000', () => {
    const cache = new AsnCache();
    for (let i = 0; i < 50_010; i++) cache.lookup(ipv4(0x08000000 + i * 256), NOW, '65534');
    cache.lookup(address('1.1.1.1'), NOW, '1000');
    const found = cache.takeQueries();
    expect(found).toHaveLength(50_000);
    expect(found.slice(0, 2).map(({ tenant }) => tenant)).toEqual(['65534', '1000']);
  });

  it('uses plain values that can be sent to another thread', () => {
    const cache = new AsnCache();
    cache.lookup(address('1.1.1.1'), NOW);
    const [bucket] = structuredClone(cache.takeQueries());
    expect(bucket).toEqual({ ...parseCidr('1.1.1.0/24'), tenant: '' });
    cache.accept(structuredClone([answer('1.1.1.0/24')]));
    expect(cache.lookup(address('1.1.1.1'), NOW)).toEqual(cloudflare);
  });
});

describe('an address removed from a database', () => {
  it('is dropped at once and queued again after five minutes', () => {
    const cache = new AsnCache();
    cache.lookup(address('1.1.1.1'), NOW);
    cache.accept([answer('1.1.1.0/24')]);
    cache.takeQueries();
    const other = parseCidr('9.9.9.0/24');
    const bucket = parseCidr('1.1.1.0/24');
    expect(cache.forget([bucket, other].flatMap((one) => one ?? []))).toEqual(new Set(['1.1.1.0/24', '9.9.9.0/24']));
    expect(cache.lookup(address('1.1.1.1'), NOW)).toBeNull();
    expect(cache.takeQueries()).toHaveLength(1);
    cache.lookup(address('1.1.1.1'), NOW + 299_999);
    expect(cache.takeQueries()).toEqual([]);
  });
});

describe('isReservedAsn', () => {
  it.each([
    { asns: [0, 23456, 64496, 64511, 64512, 65534, 65535, 65536, 65551, 131071], reserved: true },
    { asns: [4_200_000_000, 4_294_967_295], reserved: true },
    { asns: [1, 23455, 23457, 64495, 131072, 401308, 4_199_999_999], reserved: false },
  ])('is $reserved for $asns', ({ asns, reserved }) => {
    expect(asns.map(isReservedAsn)).toEqual(asns.map(() => reserved));
  });
});

describe('the cache for a file', () => {
  const MINUTE = 60_000;
  const file = (asn: number, askedAt = NOW): Origin => ({
    ...cloudflare,
    asns: [asn],
    prefix: null,
    askedAt,
    freshUntil: askedAt + 10 * MINUTE,
    source: 'mmdb',
  });
  const record = (asked: string, covers: string, asn: number, askedAt?: number): Answer => ({
    bucket: cidr(asked),
    covers: cidr(covers),
    origin: file(asn, askedAt),
  });
  const cidr = (text: string): Cidr => parseCidr(text) ?? expect.fail(text);
  const open = (): AsnCache => openCache('mmdb') ?? expect.fail();
  const asnOf = (cache: AsnCache, text: string, now = NOW): number | undefined =>
    cache.lookup(address(text), now)?.asns[0];

  it.each([
    ['mmdb', ['1.1.1.1/32', '2606:4700:4700::1111/128']],
    ['tsv', ['1.1.1.1/32', '2606:4700:4700::1111/128']],
    ['cymru', ['1.1.1.0/24', '2606:4700:4700::/48']],
    ['cymru-dns', ['1.1.1.0/24', '2606:4700:4700::/48']],
  ] as const)('of %s queries %j', (provider, expected) => {
    const cache = openCache(provider) ?? expect.fail();
    for (const text of ['1.1.1.1', '2606:4700:4700::1111']) cache.lookup(address(text), NOW);
    expect(questions(cache)).toEqual(expected);
  });

  it('is null for the provider none', () => expect(openCache('none')).toBeNull());

  it('answers each address of a /24 from its own record', () => {
    const cache = open();
    cache.accept([
      record('8.8.8.8/32', '8.8.8.8/32', 1),
      record('8.8.8.9/32', '8.8.8.9/32', 2),
      record('8.8.8.200/32', '8.8.8.128/25', 3),
      record('9.1.2.3/32', '9.0.0.0/9', 4),
      record('2a01:4f8:1::5/128', '2a01:4f8:1::/64', 5),
      record('2a01:4f8:1:1::5/128', '2a01:4f8:1:1::/64', 6),
    ]);
    const asked = ['8.8.8.8', '8.8.8.9', '8.8.8.255', '9.127.9.9', '2a01:4f8:1::99', '2a01:4f8:1:1::99'];
    expect(asked.map((text) => asnOf(cache, text))).toEqual([1, 2, 3, 4, 5, 6]);
    expect(questions(cache)).toEqual([]);
    const others = ['8.8.8.7', '8.8.8.127', '9.128.0.0', '2a01:4f8:1:2::1'];
    expect(others.map((text) => asnOf(cache, text))).toEqual([undefined, undefined, undefined, undefined]);
    expect(questions(cache)).toEqual(others.map((text) => formatCidr({ address: address(text), bits: 128 })));
  });

  it('ignores a stale record but serves the stale answer of an address', () => {
    const cache = open();
    cache.accept([record('9.1.2.3/32', '9.0.0.0/9', 4)]);
    expect(asnOf(cache, '9.1.2.4', NOW + 10 * MINUTE)).toBeUndefined();
    expect(asnOf(cache, '9.1.2.3', NOW + 10 * MINUTE)).toBe(4);
    expect(questions(cache)).toEqual(['9.1.2.4/32', '9.1.2.3/32']);
  });

  it('replaces overlapping records of an older file', () => {
    const cache = open();
    cache.accept([record('9.1.2.3/32', '9.1.2.0/25', 4)]);
    cache.accept([record('9.1.2.3/32', '9.0.0.0/9', 5, NOW + MINUTE)]);
    expect(asnOf(cache, '9.1.2.4')).toBe(5);
    expect(cache.forget([cidr('9.1.2.3/32')])).toEqual(new Set(['9.1.2.3/32']));
    expect(asnOf(cache, '9.1.2.3')).toBeUndefined();
    expect(asnOf(cache, '9.1.2.5')).toBeUndefined();
  });

  it('agrees with a list of records in any order of lookups', () => {
    const piece = fc.record({ low: fc.integer({ min: 0, max: 0xffff }), bits: fc.integer({ min: 17, max: 32 }) });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 20 }), fc.array(fc.nat(0xffff), { maxLength: 60 }), (pieces, lows) => {
        const blocks: Cidr[] = [];
        for (const { low, bits } of pieces) {
          const block = { address: maskAddress(ipv4(0x09090000 + low), 96 + bits), bits: 96 + bits };
          if (!blocks.some((other) => cidrContains(other, block.address) || cidrContains(block, other.address)))
            blocks.push(block);
        }
        const cache = open();
        for (const low of lows) {
          const at = ipv4(0x09090000 + low);
          const number = blocks.findIndex((block) => cidrContains(block, at));
          const found = cache.lookup(at, NOW)?.asns[0];
          if (found !== undefined) expect(found).toBe(number + 1);
          const covers = blocks[number];
          if (covers) cache.accept(cache.takeQueries().map((bucket) => ({ bucket, covers, origin: file(number + 1) })));
          else cache.forget(cache.takeQueries());
          expect(cache.lookup(at, NOW)?.asns[0]).toBe(covers && number + 1);
        }
      }),
    );
  });

  it('holds 50,000 addresses and 50,000 records', () => {
    const cache = open();
    const numbers = Array.from({ length: 50_002 }, (_, i) => i);
    const host = (i: number): Address => ipv4(0x09000000 + 2 * i);
    cache.accept(
      numbers.map((i) => ({
        bucket: { address: host(i), bits: 128 },
        covers: { address: host(i), bits: 127 },
        origin: file(i + 1),
      })),
    );
    expect(cache.entries).toBe(50_000);
    expect([0, 1, 2, 50_001].map((i) => asnOf(cache, formatAddress(host(i))))).toEqual([
      undefined,
      undefined,
      3,
      50_002,
    ]);
    expect([0, 1, 2, 50_001].map((i) => asnOf(cache, formatAddress(ipv4(0x09000001 + 2 * i))))).toEqual([
      undefined,
      undefined,
      3,
      50_002,
    ]);
  });

  it('reports the answer for an address that a record answered before', () => {
    const cache = open();
    cache.lookup(address('9.1.2.4'), NOW);
    cache.accept([record('9.1.2.3/32', '9.0.0.0/9', 4)]);
    expect(asnOf(cache, '9.1.2.4')).toBe(4);
    expect(cache.accept([record('9.1.2.4/32', '9.0.0.0/9', 4)])).toEqual(new Set(['9.1.2.4/32']));
  });

  it('reports a removed address that only a record answered before', () => {
    const cache = open();
    cache.accept([record('9.1.2.3/32', '9.0.0.0/9', 4)]);
    expect(asnOf(cache, '9.1.2.4')).toBe(4);
    expect(cache.forget([cidr('9.1.2.4/32')])).toEqual(new Set(['9.1.2.4/32']));
    expect(asnOf(cache, '9.1.2.4')).toBeUndefined();
  });
});

const country = fc.option(fc.stringMatching(/^[A-Z]{2}$/));
const origins: fc.Arbitrary<Origin> = fc
  .record({
    asns: fc.array(fc.nat(0xffffffff), { maxLength: 16 }),
    name: fc.option(fc.string({ unit: 'binary', minLength: 1 }).map((name) => parseName(name).name ?? 'AS')),
    asCountry: country,
    prefix: fc.option(fc.constantFrom('192.0.2.0/24', '2001:db8::/32', '8.0.0.0/8')),
    registry: fc.option(fc.constantFrom('arin', 'ripencc', 'other')),
    registryCountry: country,
    allocated: fc.option(fc.stringMatching(/^\d{4}-\d\d-\d\d$/)),
    askedAt: fc.nat(2 ** 45),
    freshUntil: fc.nat(7 * DAY),
    source: fc.constantFrom('cymru', 'cymru-dns', 'mmdb'),
  })
  .map((origin) => ({ ...origin, freshUntil: origin.askedAt + origin.freshUntil }));

describe('parseOrigin', () => {
  it.each(['0.0.0.0/0', '8.0.0.0/7', '::/0', '2000::/3'])('rejects %s, which would match every address', (prefix) => {
    expect(parseOrigin(renderOrigin({ ...cloudflare, prefix }))).toBeUndefined();
  });

  it('is the inverse of renderOrigin', () => {
    fc.assert(
      fc.property(origins, (origin) => {
        expect(parseOrigin(renderOrigin(origin))).toEqual(origin);
      }),
    );
  });

  it('parses one line with short keys', () => {
    const line =
      '{"v":1,"a":[13335],"p":"1.1.1.0/24","c":"AU","r":"apnic","d":"2011-08-11","n":"CLOUDFLARENET - Cloudflare, Inc.","o":"US","t":1789459200000,"x":1789545600000,"s":"cymru"}';
    expect(parseOrigin(line)).toEqual(cloudflare);
    expect(renderOrigin(cloudflare)).toBe(line);
  });

  it.each([
    { name: 'nothing', stored: '' },
    { name: 'no JSON', stored: '{"v":1' },
    { name: 'null', stored: 'null' },
    { name: 'another version', stored: renderOrigin(cloudflare).replace('"v":1', '"v":2') },
    { name: 'an ASN that is a text', stored: renderOrigin(cloudflare).replace('[13335]', '["13335"]') },
    { name: 'an ASN beyond 32 bits', stored: renderOrigin(cloudflare).replace('[13335]', '[4294967296]') },
    { name: 'an ASN of negative zero', stored: renderOrigin(cloudflare).replace('[13335]', '[-0,13335]') },
    {
      name: 'an answer that never expires',
      stored: renderOrigin(cloudflare).replace(/"x":\d+/, '"x":9007199254740991'),
    },
    {
      name: 'an answer that is fresh for eight days',
      stored: renderOrigin({ ...cloudflare, freshUntil: NOW + 8 * DAY }),
    },
    { name: 'a time that is null', stored: renderOrigin(cloudflare).replace(/"t":\d+/, '"t":null') },
    { name: 'a time beyond all time', stored: renderOrigin(cloudflare).replace(/"t":\d+/, '"t":1e999') },
    {
      name: 'more origins than any network has',
      stored: renderOrigin(cloudflare).replace('[13335]', `[${'1,'.repeat(16)}1]`),
    },
    {
      name: 'a name that would steer a terminal',
      stored: renderOrigin({ ...cloudflare, name: '\u001b]0;owned\u0007' }),
    },
    { name: 'a name of two lines', stored: renderOrigin({ ...cloudflare, name: 'CLOUD\nFLARE' }) },
    { name: 'a prefix that is none', stored: renderOrigin({ ...cloudflare, prefix: '1.1.1.0/24\u001b[2J' }) },
    { name: 'a country that is none', stored: renderOrigin({ ...cloudflare, registryCountry: '\u001b[31mUS' }) },
    { name: 'a registry that is none', stored: renderOrigin({ ...cloudflare, registry: 'a pnic' }) },
    { name: 'a date that is none', stored: renderOrigin({ ...cloudflare, allocated: 'yesterday' }) },
    { name: 'a name that is missing', stored: renderOrigin(cloudflare).replace('"n":', '"m":') },
  ])('rejects $name', ({ stored }) => {
    expect(parseOrigin(stored)).toBeUndefined();
  });
});

describe('isFresh and isServable', () => {
  it('agree: a fresh answer is servable', () => {
    fc.assert(
      fc.property(fc.integer({ min: -60 * DAY, max: 60 * DAY }), (age) => {
        if (isFresh(cloudflare, NOW + age)) expect(isServable(cloudflare, NOW + age)).toBe(true);
      }),
    );
  });
});
