import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatCidr, ipv4, parseAddress, parseCidr } from '../../src/address.ts';
import {
  AsnCache,
  isFresh,
  isReservedAsn,
  isServable,
  parseOrigin,
  renderOrigin,
  type Answer,
} from '../../src/enrich/asn.ts';
import { parseName } from '../../src/enrich/cymru.ts';
import { bucketOf } from '../../src/enrich/networks.ts';
import type { Address, Origin } from '../../src/model.ts';

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

const questions = (cache: AsnCache): string[] => cache.takeQuestions().map(formatCidr);

describe('AsnCache', () => {
  it('asks for the bucket of an address it does not know, and then answers for the whole bucket', () => {
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

  it('notes a bucket once, and again after five minutes without an answer while it is in use', () => {
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

  it('serves that nobody announces an address as an answer of its own', () => {
    const cache = new AsnCache();
    cache.accept([answer('198.28.137.0/24', { asns: [], prefix: null })]);
    expect(cache.lookup(address('198.28.137.80'), NOW)?.asns).toEqual([]);
    expect(cache.hits).toBe(1);
  });

  it('lets an answer for a longer prefix speak for that prefix alone, and does not ask for the rest meanwhile', () => {
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
  ])('tells of $name whether what it publishes changed', ({ before, after, changed, asns }) => {
    const cache = new AsnCache();
    if (before) cache.accept([answer('1.1.1.0/24', before)]);
    expect([...cache.accept([answer('1.1.1.0/24', after)])]).toEqual(changed ? ['1.1.1.0/24'] : []);
    expect(cache.lookup(address('1.1.1.1'), NOW + DAY)?.asns).toEqual(asns);
  });

  it('publishes the primary with its own name, not with that of the first origin', () => {
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

  it('keeps the 50,000 buckets used last', () => {
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

  it('asks again at once for what was answered but had to make room', () => {
    const cache = new AsnCache();
    const host = (i: number): Address => ipv4(0x08000000 + i * 256);
    cache.lookup(host(0), NOW);
    cache.takeQuestions();
    cache.accept(Array.from({ length: 50_001 }, (_, i) => ({ bucket: bucketOf(host(i)), origin: cloudflare })));
    cache.lookup(host(0), NOW);
    expect(questions(cache)).toEqual(['8.0.0.0/24']);
  });

  it('holds no more than 50,000 questions for one who does not take them', () => {
    const cache = new AsnCache();
    for (let i = 0; i < 50_010; i++) cache.lookup(ipv4(0x08000000 + i * 256), NOW);
    expect(cache.takeQuestions()).toHaveLength(50_000);
    cache.lookup(ipv4(0x08000000 + 50_005 * 256), NOW);
    expect(cache.takeQuestions()).toHaveLength(1);
  });

  it('takes and gives plain values that survive the way to another thread', () => {
    const cache = new AsnCache();
    cache.lookup(address('1.1.1.1'), NOW);
    const [bucket] = structuredClone(cache.takeQuestions());
    expect(bucket).toEqual(parseCidr('1.1.1.0/24'));
    cache.accept(structuredClone([answer('1.1.1.0/24')]));
    expect(cache.lookup(address('1.1.1.1'), NOW)).toEqual(cloudflare);
  });
});

describe('what a database does not name any more', () => {
  it('is forgotten at once, and asked for again no sooner than in five minutes', () => {
    const cache = new AsnCache();
    cache.lookup(address('1.1.1.1'), NOW);
    cache.accept([answer('1.1.1.0/24')]);
    cache.takeQuestions();
    const other = parseCidr('9.9.9.0/24');
    const bucket = parseCidr('1.1.1.0/24');
    expect(cache.forget([bucket, other].flatMap((one) => one ?? []))).toEqual(new Set(['1.1.1.0/24']));
    expect(cache.lookup(address('1.1.1.1'), NOW)).toBeNull();
    expect(cache.takeQuestions()).toHaveLength(1);
    cache.lookup(address('1.1.1.1'), NOW + 299_999);
    expect(cache.takeQuestions()).toEqual([]);
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

const country = fc.option(fc.stringMatching(/^[A-Z]{2}$/));
const origins: fc.Arbitrary<Origin> = fc.record({
  asns: fc.array(fc.nat(0xffffffff), { maxLength: 16 }),
  name: fc.option(fc.string({ unit: 'binary', minLength: 1 }).map((name) => parseName(name).name ?? 'AS')),
  asCountry: country,
  prefix: fc.option(fc.constantFrom('192.0.2.0/24', '2001:db8::/32', '0.0.0.0/0')),
  registry: fc.option(fc.constantFrom('arin', 'ripencc', 'other')),
  registryCountry: country,
  allocated: fc.option(fc.stringMatching(/^\d{4}-\d\d-\d\d$/)),
  askedAt: fc.nat(2 ** 45),
  freshUntil: fc.nat(2 ** 45),
  source: fc.constantFrom('cymru', 'cymru-dns', 'mmdb'),
});

describe('parseOrigin', () => {
  it('reads what renderOrigin wrote', () => {
    fc.assert(
      fc.property(origins, (origin) => {
        expect(parseOrigin(renderOrigin(origin))).toEqual(origin);
      }),
    );
  });

  it('reads one line that says everything by short names', () => {
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
  ])('takes $name for no answer', ({ stored }) => {
    expect(parseOrigin(stored)).toBeUndefined();
  });
});

describe('isFresh and isServable', () => {
  it('agree: what is fresh may be served', () => {
    fc.assert(
      fc.property(fc.integer({ min: -60 * DAY, max: 60 * DAY }), (age) => {
        if (isFresh(cloudflare, NOW + age)) expect(isServable(cloudflare, NOW + age)).toBe(true);
      }),
    );
  });
});
