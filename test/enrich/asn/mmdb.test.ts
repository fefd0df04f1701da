import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cidrContains, formatCidr, ipv4, maskAddress, parseAddress } from '../../../src/common/address.ts';
import type { AsnRecord } from '../../../src/enrich/asn/file-database.ts';
import { parseMmdb } from '../../../src/enrich/asn/mmdb.ts';
import type { Address } from '../../../src/model.ts';
import { writeMmdb } from '../../support/mmdb-writer.ts';

function address(text: string): Address {
  const parsed = parseAddress(text);
  if (!parsed) throw new SyntaxError(`Cannot read address "${text}"`);
  return parsed;
}

const CLOUDFLARE = { autonomous_system_number: 13335, autonomous_system_organization: 'Cloudflare, Inc.' };
const TELSTRA = { autonomous_system_number: 1221, autonomous_system_organization: 'Telstra Pty Ltd' };
const found = (asn: number, name: string | null, bits: number): AsnRecord => ({
  asns: [asn],
  name,
  asCountry: null,
  bits,
});

describe('the record of', () => {
  it.each([
    ['GeoLite2-ASN and DB-IP', TELSTRA, found(1221, 'Telstra Pty Ltd', 120)],
    [
      'IPinfo Lite, whose country is where an address is used, not where its AS is registered',
      {
        asn: 'AS13335',
        as_name: 'Cloudflare, Inc.',
        as_domain: 'cloudflare.com',
        country: 'Australia',
        country_code: 'AU',
        continent: 'Oceania',
        continent_code: 'OC',
        network: '1.1.1.0/24',
      },
      found(13335, 'Cloudflare, Inc.', 120),
    ],
    [
      'IPinfo ASN',
      { asn: 'AS202583', name: 'AVATEL TELECOM, SA', domain: 'avatel.es', network: '185.72.2.0-185.72.3.255' },
      found(202583, 'AVATEL TELECOM, SA', 120),
    ],
    [
      'others, as as_number and as_organization',
      { as_number: 1221, as_organization: 'Telstra' },
      found(1221, 'Telstra', 120),
    ],
    [
      'GeoIP2-ISP',
      { ...TELSTRA, isp: 'Telstra Internet', organization: 'Telstra Internet' },
      found(1221, 'Telstra Pty Ltd', 120),
    ],
    [
      'GeoIP2-Enterprise, in its traits',
      { country: { iso_code: 'AU' }, traits: { ...TELSTRA, isp: 'Telstra Internet', user_type: 'residential' } },
      found(1221, 'Telstra Pty Ltd', 120),
    ],
    ['GeoIP2-Enterprise without an ASN: nothing is known', { traits: { isp: 'Telstra Internet' } }, undefined],
    ['another with traits that are none', { traits: 'AS1221' }, undefined],
    ['an AS without a name', { autonomous_system_number: 1221 }, found(1221, null, 120)],
    [
      'an AS whose name is hostile',
      { asn: '1221', name: `\u001b[31m${'x'.repeat(300)}` },
      found(1221, `\ufffd[31m${'x'.repeat(123)}`, 120),
    ],
    ['an ASN that is nobody’s origin: not announced', { asn: 64512 }, { ...found(0, null, 120), asns: [] }],
    ['no ASN: nothing is known', { asn: '', country: 'Australia' }, undefined],
    ['an ASN that is none: nothing is known', { asn: 'AS99999999999' }, undefined],
  ] as const)('%s', (_, record, expected) => {
    const lookup = parseMmdb(
      writeMmdb([
        ['203.0.112.0/24', CLOUDFLARE],
        ['1.1.1.0/24', record],
      ]),
    );
    expect(lookup(address('1.1.1.1'))).toEqual(expected);
  });
});

describe.each([24, 28, 32] as const)('a tree with records of %i bits', (recordSize) => {
  it('finds the longest block around an IPv4 or IPv6 address', () => {
    const lookup = parseMmdb(
      writeMmdb(
        [
          ['1.1.0.0/16', TELSTRA],
          ['1.1.1.128/25', CLOUDFLARE],
          ['2606:4700::/32', CLOUDFLARE],
        ],
        { recordSize },
      ),
    );
    const texts = ['1.1.2.3', '1.1.1.200', '::ffff:1.1.1.200', '2606:4700::1111', '9.9.9.9', '2001:4860::8'];
    expect(texts.map((text) => lookup(address(text)))).toEqual([
      found(1221, 'Telstra Pty Ltd', 96 + 23),
      found(13335, 'Cloudflare, Inc.', 96 + 25),
      found(13335, 'Cloudflare, Inc.', 96 + 25),
      found(13335, 'Cloudflare, Inc.', 32),
      undefined,
      undefined,
    ]);
  });
});

it('finds no IPv6 address in an IPv4 tree', () => {
  const lookup = parseMmdb(writeMmdb([['32.0.0.0/4', TELSTRA]], { ipVersion: 4 }));
  expect(lookup(address('38.6.71.0'))).toEqual(found(1221, 'Telstra Pty Ltd', 100));
  expect(lookup(address('2606:4700::'))).toBeUndefined();
});

it('reads an IPv6-only database', () => {
  const lookup = parseMmdb(writeMmdb([['2606:4700::/32', CLOUDFLARE]]));
  expect(lookup(address('2606:4700:4700::'))).toEqual(found(13335, 'Cloudflare, Inc.', 32));
});

it('agrees with a list of blocks, and returns correct prefix lengths', () => {
  const block = fc.tuple(fc.integer({ min: 0, max: 0xffff }), fc.integer({ min: 17, max: 32 })).map(([low, bits]) => {
    const masked = maskAddress(ipv4(0x01010000 + low), bits + 96);
    return { cidr: { address: masked, bits: bits + 96 }, asn: 1 + ((low * 31 + bits) % 23_000) };
  });
  const blocks = fc.uniqueArray(block, { selector: ({ cidr }) => formatCidr(cidr), minLength: 1, maxLength: 30 });
  const low = fc.integer({ min: 0, max: 0xffff });
  fc.assert(
    fc.property(blocks, low, fc.integer({ min: 0, max: 0xffff }), (known, one, other) => {
      const lookup = parseMmdb(writeMmdb(known.map(({ cidr, asn }) => [formatCidr(cidr), { asn }])));
      const expected = (asked: Address): number | undefined =>
        known.filter(({ cidr }) => cidrContains(cidr, asked)).sort((a, b) => b.cidr.bits - a.cidr.bits)[0]?.asn;
      const asked = ipv4(0x01010000 + one);
      const finding = lookup(asked);
      expect(finding?.asns[0]).toBe(expected(asked));
      if (!finding) return;
      const neighbour = ipv4(0x01010000 + other);
      const reach = { address: maskAddress(asked, finding.bits), bits: finding.bits };
      if (cidrContains(reach, neighbour)) expect(expected(neighbour)).toBe(finding.asns[0]);
    }),
  );
});

describe('rejects', () => {
  const whole = writeMmdb([['1.1.1.0/24', CLOUDFLARE]]);
  it.each([
    ['an empty file', Buffer.alloc(0), 'not an MMDB file'],
    ['text', Buffer.from('1.0.0.0\t1.0.0.255\t13335\tUS\tCLOUDFLARENET\n'), 'not an MMDB file'],
    ['a file that was cut', whole.subarray(0, -100), 'not an MMDB file'],
    ['metadata alone', whole.subarray(-160), 'not an MMDB file'],
    [
      'a database of cities',
      writeMmdb([['1.1.1.0/24', { city: { geoname_id: 2174003 } }]], { databaseType: 'GeoLite2-City' }),
      'contains no ASNs (database type: "GeoLite2-City")',
    ],
    [
      'a database that does not say its type',
      writeMmdb([['1.1.1.0/24', { city: { geoname_id: 2174003 } }]], { databaseType: {} }),
      'contains no ASNs (database type: unknown)',
    ],
    ['a database without records', writeMmdb([]), 'contains no ASNs (database type: "GeoLite2-ASN")'],
  ])('%s', (_, bytes, reason) => {
    expect(() => parseMmdb(bytes)).toThrow(new Error(reason));
  });
});

describe('a record that is much larger than its bytes', () => {
  const TOO_LARGE = 'a record has more than 512 values, 65536 bytes or 16 levels';
  const control = (type: number, size: number): number[] => (type < 8 ? [(type << 5) | size] : [size, type - 7]);
  const text = (value: string): number[] => [...control(2, value.length), ...Buffer.from(value)];
  const pointer = (to: number): number[] => [0x20 | (to >> 8), to & 255];
  const asn = [...text('asn'), ...control(6, 2), 0x34, 0x17];
  /** An array of two pointers to the next array, and so on: 2 ** levels values. */
  const doubling = (at: number, levels: number): number[] =>
    Array.from({ length: levels }, (_, i) => [
      ...control(11, 2),
      ...pointer(at + 6 * (i + 1)),
      ...pointer(at + 6 * (i + 1)),
    ])
      .flat()
      .concat(control(5, 1), 1);
  const head = [...control(7, 2), ...asn, ...text('x')];
  /** A database whose whole tree leads to this value. */
  const databaseOf = (value: readonly number[], metadata?: readonly number[]): Buffer => {
    const whole = writeMmdb([]);
    const marker = whole.indexOf('MaxMind.com') + 11;
    const found = metadata ? Buffer.from(metadata) : Buffer.from(whole.subarray(marker));
    const end = Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1');
    const node = Buffer.from([0, 0, 17, 0, 0, 17]);
    return Buffer.concat([node, Buffer.alloc(16), Buffer.from(value), end, found]);
  };

  it.each<{ title: string; value: number[]; reason: string | null }>([
    { title: 'a small one', value: [...control(7, 1), ...asn], reason: null },
    { title: 'pointers to a small one', value: [...control(7, 2), ...asn, ...text('x'), ...pointer(1)], reason: null },
    { title: '2 ** 5 values', value: [...head, ...doubling(head.length, 5)], reason: null },
    { title: '2 ** 10 values', value: [...head, ...doubling(head.length, 10)], reason: TOO_LARGE },
    { title: '2 ** 40 values', value: [...head, ...doubling(head.length, 40)], reason: TOO_LARGE },
    { title: 'a value that contains itself', value: [...head, ...pointer(0)], reason: TOO_LARGE },
    { title: 'a pointer to itself', value: pointer(0), reason: TOO_LARGE },
    {
      title: 'a million booleans',
      value: [...head, 31, 4, 0x0e, 0xff, 0xff, ...Array.from({ length: 2_000 }, () => control(14, 1)).flat()],
      reason: TOO_LARGE,
    },
    {
      title: 'a text of 40,000 bytes',
      value: [...head, 0x5e, 0x9b, 0x23, ...Array<number>(40_000).fill(97)],
      reason: TOO_LARGE,
    },
    {
      title: 'arrays in arrays',
      value: [...head, ...Array.from({ length: 40 }, () => control(11, 1)).flat(), ...control(5, 0)],
      reason: TOO_LARGE,
    },
  ])('$title is refused with $reason', ({ value, reason }) => {
    const parse = (): unknown => parseMmdb(databaseOf(value))(address('1.1.1.1'));
    if (reason === null) expect(parse()).toMatchObject({ asns: [13335] });
    else expect(parse).toThrow(new Error(reason));
  });

  it.each([
    ['2 ** 40 values', doubling(0, 40)],
    ['a pointer to itself', pointer(0)],
  ])('in the metadata is refused: %s', (_, metadata) => {
    expect(() => parseMmdb(databaseOf([], metadata))).toThrow(new Error('not an MMDB file'));
  });
});

it('never throws in a lookup of a damaged file', () => {
  const whole = writeMmdb([
    ['1.1.1.0/24', CLOUDFLARE],
    ['2606:4700::/32', TELSTRA],
  ]);
  const looked: unknown[] = [];
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ by;
      let lookup;
      try {
        lookup = parseMmdb(damaged);
      } catch {
        return;
      }
      looked.push(lookup(address('1.1.1.1')), lookup(address('2606:4700::1111')));
    }),
    { numRuns: 150 },
  );
  expect(looked.length).toBeGreaterThan(50);
});

it('the test writer follows the format', () => {
  const bytes = writeMmdb([['128.0.0.0/1', 'a']], { ipVersion: 4 });
  expect(bytes.subarray(0, 6 + 16 + 2).toString('hex')).toBe(`000001000011${'00'.repeat(16)}4161`);
});
