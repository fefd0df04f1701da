import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { connect, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { formatAddress, formatCidr, maskAddress, parseAddress, parseCidr } from '../../../src/common/address.ts';
import { queryCymru, toOrigin, parseLine, parseReply, renderRequest } from '../../../src/enrich/asn/cymru-whois.ts';
import type { Announcement, Exchange, Limits, Line, Reply } from '../../../src/enrich/asn/cymru-whois.ts';
import { bucketOf, classify } from '../../../src/common/network-class.ts';
import type { Address, Cidr } from '../../../src/model.ts';
import {
  answers,
  endsLinesAsDos,
  forges,
  misbehaviours,
  repeats,
  reverses,
  startCymruServer,
  tears,
  type Behaviour,
  type CymruServer,
} from '../../support/cymru-server.ts';

const FIXTURES = join(import.meta.dirname, '../..', 'fixtures', 'cymru');
const recorded = (name: string): string => readFileSync(join(FIXTURES, name), 'utf8');

function address(text: string): Address {
  const parsed = parseAddress(text);
  if (!parsed) throw new SyntaxError(`Cannot read address "${text}"`);
  return parsed;
}

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new SyntaxError(`Cannot read block "${text}"`);
  return parsed;
}

const addressBits: fc.Arbitrary<Address> = fc.oneof(
  fc.nat(0xffffffff).map((bits): Address => [0, 0, 0xffff, bits]),
  fc.tuple(fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff)),
  fc
    .tuple(fc.nat(0x1fffffff), fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff))
    .map(([first, ...rest]): Address => [0x20000000 + first, ...rest]),
);

describe('renderRequest', () => {
  it('requests the network address of each bucket, one per line', () => {
    const buckets = [cidr('1.1.1.0/24'), cidr('2606:4700:4700::/48')];
    expect(renderRequest(buckets)).toBe('begin\nverbose\n1.1.1.0\n2606:4700:4700::\nend\n');
  });

  it('masks unmasked addresses', () => {
    const hosts = [cidr('1.1.1.1/32'), cidr('2606:4700:4700::1111/128')];
    expect(renderRequest(hosts)).toBe('begin\nverbose\n1.1.1.0\n2606:4700:4700::\nend\n');
  });

  it('throws for a non-public network, so that nothing is sent', () => {
    const buckets = [cidr('1.1.1.0/24'), cidr('192.168.7.0/24')];
    expect(() => renderRequest(buckets)).toThrow(new RangeError('Cannot query "192.168.7.0/24": not a public network'));
  });

  it('throws for an address with an embedded public address', () => {
    for (const wrapping of ['64:ff9b::808:808/128', '2002:808:808::/48'])
      expect(() => renderRequest([cidr(wrapping)])).toThrow(RangeError);
  });

  it('writes no host part and no special-purpose address for any input', () => {
    fc.assert(
      fc.property(addressBits, (bits) => {
        const host = { address: bits, bits: 128 };
        const { network, address: inner } = classify(bits);
        if (network !== 'public' || inner !== bits) {
          expect(() => renderRequest([host])).toThrow(RangeError);
          return;
        }
        const line = renderRequest([host]).split('\n')[2] ?? '';
        const sent = address(line);
        expect(sent).toEqual(maskAddress(bits, bucketOf(bits).bits));
        expect(classify(sent)).toEqual({ network: 'public', address: sent });
      }),
    );
  });
});

const googleDns: Announcement = {
  prefix: cidr('2001:4860::/32'),
  origins: [{ asn: 15169, name: 'GOOGLE', country: 'US' }],
  registry: 'arin',
  registryCountry: 'US',
  allocated: '2005-03-14',
};

const row = (ip: string, announcement: Partial<Announcement>): Line => ({
  kind: 'row',
  address: address(ip),
  announcement: { prefix: null, origins: [], registry: null, registryCountry: null, allocated: null, ...announcement },
});

describe('parseLine', () => {
  it.each<{ name: string; line: string; expected: Line }>([
    {
      name: 'a row in columns for IPv6',
      line: '15169   | 2001:4860:4860::8888                     | 2001:4860::/32      | US | arin     | 2005-03-14 | GOOGLE, US',
      expected: row('2001:4860:4860::8888', googleDns),
    },
    {
      name: 'a row that lost its padding',
      line: '15169|2001:4860:4860:0:0:0:0:8888|2001:4860::/32|US|arin|2005-03-14|GOOGLE, US',
      expected: row('2001:4860:4860::8888', googleDns),
    },
    {
      name: 'a row of a public address that nobody announces: the registry knows it, AS and prefix are NA',
      line: 'NA      | 198.28.137.80    | NA                  | US | arin     | 2019-07-01 | NA',
      expected: row('198.28.137.80', { registry: 'arin', registryCountry: 'US', allocated: '2019-07-01' }),
    },
    {
      name: 'a row of a private address',
      line: 'NA      | 10.0.0.1         | NA                  |    | other    |            | NA',
      expected: row('10.0.0.1', { registry: 'other' }),
    },
    {
      name: 'a row without origin by bgp.tools: AS 0, <nil>, year 1',
      line: '0       | 10.0.0.1         | <nil>               |    | Unknown  | 0001-01-01 | ERR_AS_NAME_NOT_FOUND',
      expected: row('10.0.0.1', {}),
    },
    {
      name: 'commas in a name: only the last part is the country',
      line: '36459   | 140.82.121.3     | 140.82.121.0/24     | US | arin     | 2018-04-25 | GITHUB - GitHub, Inc., US',
      expected: row('140.82.121.3', {
        prefix: cidr('140.82.121.0/24'),
        origins: [{ asn: 36459, name: 'GITHUB - GitHub, Inc.', country: 'US' }],
        registry: 'arin',
        registryCountry: 'US',
        allocated: '2018-04-25',
      }),
    },
    {
      name: 'the old form of a name, its country without a blank',
      line: '10932 | 2607:dd00:8000:18::88 | 2607:dd00::/32 | US | arin | 2012-07-23 | UC2B - UC2B,US',
      expected: row('2607:dd00:8000:18::88', {
        prefix: cidr('2607:dd00::/32'),
        origins: [{ asn: 10932, name: 'UC2B - UC2B', country: 'US' }],
        registry: 'arin',
        registryCountry: 'US',
        allocated: '2012-07-23',
      }),
    },
    {
      name: 'a name that holds the separator, and RIPE under its short name',
      line: '1234 | 193.110.110.0 | 193.110.108.0/22 | EU | RIPE | | FORTUM-AS | Fortum, FI',
      expected: row('193.110.110.0', {
        prefix: cidr('193.110.108.0/22'),
        origins: [{ asn: 1234, name: 'FORTUM-AS | Fortum', country: 'FI' }],
        registry: 'ripencc',
        registryCountry: 'EU',
      }),
    },
    {
      name: 'several origins in one field, without those that can be none',
      line: '20738 64512 23456 20773 0 | 94.136.40.141 | 94.136.40.0/24 | DE | ripencc | 2008-07-17 | NA',
      expected: row('94.136.40.141', {
        prefix: cidr('94.136.40.0/24'),
        origins: [
          { asn: 20738, name: null, country: null },
          { asn: 20773, name: null, country: null },
        ],
        registry: 'ripencc',
        registryCountry: 'DE',
        allocated: '2008-07-17',
      }),
    },
    {
      name: 'a hostile name: control and direction characters become blanks, and the rest is cut',
      line: `13335 | 1.1.1.0 | 1.1.1.0/24 | x" | \u001b[2J | 01-01 | A\u0000B\u202e\u001b[31mC${'é'.repeat(200)}`,
      expected: row('1.1.1.0', {
        prefix: cidr('1.1.1.0/24'),
        origins: [{ asn: 13335, name: `A B [31mC${'é'.repeat(111)}`, country: null }],
      }),
    },
    {
      name: 'the banner',
      line: 'Bulk mode; whois.cymru.com [2024-10-15 05:46:42 +0000]',
      expected: { kind: 'banner' },
    },
    {
      name: 'the banner of 2005',
      line: 'Bulk mode; one IP per line. [2005-10-15 05:46:42]',
      expected: { kind: 'banner' },
    },
    { name: 'an error', line: 'Error: no ASN or IP match on line 3.', expected: { kind: 'error', line: 3 } },
    { name: 'an error of another kind', line: 'Error: too many queries', expected: { kind: 'unknown' } },
    {
      name: 'the column header',
      line: 'AS      | IP               | BGP Prefix          | CC | Registry | Allocated  | AS Name',
      expected: { kind: 'header' },
    },
    {
      name: 'an answer for an ASN',
      line: '15169   | US | arin     | 2000-03-30 | GOOGLE - Google LLC, US',
      expected: { kind: 'as' },
    },
    {
      name: 'an answer for an unknown ASN',
      line: 'NA      | NA | NA       | NA         | NA',
      expected: { kind: 'as' },
    },
    { name: 'a line of blanks', line: ' \t ', expected: { kind: 'blank' } },
    {
      name: 'an ASN beyond 32 bits',
      line: '4294967296 | 1.1.1.0 | 1.1.1.0/24 | AU | apnic | | X',
      expected: { kind: 'unknown' },
    },
    {
      name: 'an origin without a prefix',
      line: '13335 | 1.1.1.0 | NA | AU | apnic | | X',
      expected: { kind: 'unknown' },
    },
    {
      name: 'a prefix with host bits',
      line: '13335 | 1.1.1.0 | 1.1.1.0/8 | AU | apnic | | X',
      expected: { kind: 'unknown' },
    },
    { name: 'a row too short', line: '13335 | 1.1.1.0 | 1.1.1.0/24', expected: { kind: 'unknown' } },
    {
      name: 'a line of more than 4 KiB',
      line: `13335 | 1.1.1.0 | 1.1.1.0/24 | AU | apnic | | ${'x'.repeat(4096)}`,
      expected: { kind: 'unknown' },
    },
  ])('parses $name', ({ line, expected }) => {
    expect(parseLine(line)).toEqual(expected);
  });

  it('never throws, and returns names of at most 120 characters without control characters', () => {
    const field = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.constantFrom('NA', '1.1.1.0', '1.1.1.0/24', '13335', ' ', 'US'),
    );
    fc.assert(
      fc.property(fc.array(field, { maxLength: 9 }), (fields) => {
        const line = parseLine(fields.join('|'));
        for (const { name } of line.kind === 'row' ? line.announcement.origins : []) {
          expect(name ?? '').not.toMatch(/[\p{Cc}\p{Cf}\n]/u);
          expect(Array.from(name ?? '').length).toBeLessThanOrEqual(120);
        }
      }),
    );
  });
});

describe('parseReply of recorded replies', () => {
  it.each<{ file: string; rows: number; unannounced: number; errors: number; as?: number; malformed?: number }>([
    { file: 'bulk-verbose-ipwhois-2024-10-15.txt', rows: 12, unannounced: 0, errors: 0 },
    { file: 'bulk-verbose-ipwhois-2017-07-30.txt', rows: 11, unannounced: 1, errors: 0 },
    { file: 'bulk-verbose-na-private-2023-07-19.txt', rows: 6, unannounced: 2, errors: 0 },
    { file: 'bulk-verbose-rows-na-unannounced.txt', rows: 0, unannounced: 2, errors: 0 },
    { file: 'bulk-verbose-error-lines-2018-10-02.txt', rows: 1, unannounced: 0, errors: 3 },
    { file: 'bulk-verbose-error-lines-2-2018-10-02.txt', rows: 1, unannounced: 0, errors: 1 },
    { file: 'bulk-verbose-multi-2018-10-02.txt', rows: 3, unannounced: 0, errors: 0 },
    { file: 'bulk-verbose-two-ips-2018-09-29.txt', rows: 2, unannounced: 0, errors: 0 },
    { file: 'bulk-verbose-single-prefix-24-2016-05-02.txt', rows: 2, unannounced: 0, errors: 0 },
    { file: 'bulk-verbose-github-2026-09-15.txt', rows: 1, unannounced: 0, errors: 0 },
    { file: 'bulk-prefix-cc-notrunc-moas-cymruwhois.txt', rows: 3, unannounced: 0, errors: 0 },
    { file: 'bulk-asn-queries-2026-07-11.txt', rows: 0, unannounced: 0, errors: 0, as: 2 },
    { file: 'bulk-asn-queries-na-2026-07-11.txt', rows: 0, unannounced: 0, errors: 0, as: 1 },
    { file: 'single-verbose-v4.txt', rows: 1, unannounced: 0, errors: 0 },
    { file: 'single-verbose-v6.txt', rows: 1, unannounced: 0, errors: 0, malformed: 2 },
    { file: 'single-verbose-recent.txt', rows: 1, unannounced: 0, errors: 0 },
    { file: 'single-verbose-na-unannounced-2016-12.txt', rows: 0, unannounced: 1, errors: 0 },
    { file: 'single-verbose-asn.txt', rows: 0, unannounced: 0, errors: 0, as: 1 },
    { file: 'single-verbose-prefix-with-client-warning.txt', rows: 1, unannounced: 0, errors: 0, malformed: 1 },
    { file: 'bgp-tools-bulk-doc-example.txt', rows: 2, unannounced: 0, errors: 0, as: 2 },
    { file: 'bgp-tools-bulk-verbose-compatible.txt', rows: 3, unannounced: 1, errors: 0 },
  ])(
    '$file: $rows rows, $unannounced not announced, $errors errors',
    ({ file, as = 0, malformed = 0, ...expected }) => {
      const lines = recorded(file).split('\n').map(parseLine);
      const rows = lines.filter((line) => line.kind === 'row');
      expect({
        rows: rows.filter(({ announcement }) => announcement.prefix !== null).length,
        unannounced: rows.filter(({ announcement }) => announcement.prefix === null).length,
        errors: lines.filter(({ kind }) => kind === 'error').length,
      }).toEqual(expected);
      const asked = new Map(rows.map((line) => [formatAddress(line.address), { address: line.address, bits: 128 }]));
      const refusable = Array.from({ length: expected.errors }, (_, i) => cidr(`9.9.${i}.0/24`));
      const reply = parseReply(recorded(file), [...refusable, ...asked.values()]);
      expect({ ...reply, answers: reply.answers.length }).toEqual({
        banner: file.startsWith('bulk-') && !/rows-na|cymruwhois/.test(file),
        answers: asked.size,
        refused: refusable,
        unanswered: [],
        malformed,
        unasked: as,
      });
    },
  );

  it('covers every recorded whois answer', () => {
    const whois = readdirSync(FIXTURES).filter((name) => /^(bulk|single|bgp-tools)-.*\.txt$/.test(name));
    expect(whois).toHaveLength(21);
  });

  it('merges the origins of several rows in server order', () => {
    const { answers } = parseReply(recorded('bgp-tools-bulk-verbose-compatible.txt'), [cidr('1.1.1.1/32')]);
    expect(answers.map(({ announcement }) => announcement.origins)).toEqual([
      [
        { asn: 13335, name: 'Cloudflare, Inc.', country: null },
        { asn: 4826, name: 'Vocus Connect International Backbone', country: null },
      ],
    ]);
  });
});

const BANNER = 'Bulk mode; whois.cymru.com [2026-09-15 08:22:47 +0000]\n';
const GOOGLE = '15169 | 8.8.8.0 | 8.8.8.0/24 | US | arin | 1992-12-01 | GOOGLE, US\n';
const CLOUDFLARE = '13335 | 1.1.1.0 | 1.1.1.0/24 | AU | apnic | 2011-08-11 | CLOUDFLARENET, US\n';
const QUAD9 = '19281 | 2620:fe:: | 2620:fe::/48 | US | arin | 2016-01-01 | QUAD9-AS-1, US\n';
const asked = [cidr('8.8.8.0/24'), cidr('1.1.1.0/24'), cidr('2620:fe::/48')];

/** The parts of a reply by name: bucket -> its origins, and the buckets without an answer. */
function summary(reply: Reply) {
  const { answers, refused, unanswered, ...counts } = reply;
  return {
    ...counts,
    answers: Object.fromEntries(
      answers.map(({ bucket, announcement }) => [
        formatCidr(bucket),
        `${announcement.origins.map(({ asn }) => asn).join(' ')} in ${announcement.prefix ? formatCidr(announcement.prefix) : 'nothing'}`,
      ]),
    ),
    refused: refused.map(formatCidr),
    unanswered: unanswered.map(formatCidr),
  };
}

const complete = {
  banner: true,
  answers: {
    '8.8.8.0/24': '15169 in 8.8.8.0/24',
    '1.1.1.0/24': '13335 in 1.1.1.0/24',
    '2620:fe::/48': '19281 in 2620:fe::/48',
  },
  refused: [],
  unanswered: [],
  malformed: 0,
  unasked: 0,
};

describe('parseReply', () => {
  it.each<{ name: string; text: string; expected: Partial<ReturnType<typeof summary>> }>([
    { name: 'takes a whole reply', text: BANNER + GOOGLE + CLOUDFLARE + QUAD9, expected: {} },
    { name: 'takes CRLF', text: (BANNER + GOOGLE + CLOUDFLARE + QUAD9).replaceAll('\n', '\r\n'), expected: {} },
    { name: 'takes rows in any order', text: BANNER + QUAD9 + CLOUDFLARE + GOOGLE, expected: {} },
    { name: 'takes rows twice as once', text: BANNER + GOOGLE + GOOGLE + CLOUDFLARE + QUAD9 + GOOGLE, expected: {} },
    {
      name: 'knows an address by its number, not by how it is written',
      text: BANNER + GOOGLE + CLOUDFLARE + QUAD9.replace('| 2620:fe:: |', '| 2620:00FE:0:0:0:0:0:0 |'),
      expected: {},
    },
    {
      name: 'counts and ignores rows for what was not asked',
      text: BANNER + GOOGLE + '666 | 9.9.9.9 | 9.9.9.0/24 | US | arin | | EVIL, US\n' + CLOUDFLARE + QUAD9,
      expected: { unasked: 1 },
    },
    {
      name: 'counts and ignores a row whose prefix does not hold the address',
      text: BANNER + GOOGLE.replace('8.8.8.0/24', '8.8.4.0/24') + CLOUDFLARE + QUAD9,
      expected: {
        malformed: 1,
        unanswered: ['8.8.8.0/24'],
        answers: { '1.1.1.0/24': '13335 in 1.1.1.0/24', '2620:fe::/48': '19281 in 2620:fe::/48' },
      },
    },
    {
      name: 'does not take an IPv6 prefix for an IPv4 address, though it is held as ::ffff:8.8.8.0',
      text: BANNER + GOOGLE.replace('8.8.8.0/24', '::/0') + CLOUDFLARE + QUAD9,
      expected: {
        malformed: 1,
        unanswered: ['8.8.8.0/24'],
        answers: { '1.1.1.0/24': '13335 in 1.1.1.0/24', '2620:fe::/48': '19281 in 2620:fe::/48' },
      },
    },
    ...[
      ['0.0.0.0/0', 'counts and ignores a row for the whole of IPv4'],
      ['0.0.0.0/1', 'counts and ignores a row for half of IPv4'],
      ['8.0.0.0/7', 'counts and ignores a row with a prefix shorter than an IPv4 /8'],
    ].map(([prefix = '', name = '']) => ({
      name,
      text: BANNER + GOOGLE.replace('8.8.8.0/24', prefix) + CLOUDFLARE + QUAD9,
      expected: {
        malformed: 1,
        unanswered: ['8.8.8.0/24'],
        answers: { '1.1.1.0/24': '13335 in 1.1.1.0/24', '2620:fe::/48': '19281 in 2620:fe::/48' },
      },
    })),
    ...['::/0', '2000::/3', '2620::/15'].map((prefix) => ({
      name: `counts and ignores a row for ${prefix}, shorter than an IPv6 /16`,
      text: BANNER + GOOGLE + CLOUDFLARE + QUAD9.replace('2620:fe::/48', prefix),
      expected: {
        malformed: 1,
        unanswered: ['2620:fe::/48'],
        answers: { '8.8.8.0/24': '15169 in 8.8.8.0/24', '1.1.1.0/24': '13335 in 1.1.1.0/24' },
      },
    })),
    {
      name: 'takes an IPv4 /8 and an IPv6 /16',
      text:
        BANNER + GOOGLE.replace('8.8.8.0/24', '8.0.0.0/8') + CLOUDFLARE + QUAD9.replace('2620:fe::/48', '2620::/16'),
      expected: {
        answers: {
          '8.8.8.0/24': '15169 in 8.0.0.0/8',
          '1.1.1.0/24': '13335 in 1.1.1.0/24',
          '2620:fe::/48': '19281 in 2620::/16',
        },
      },
    },
    {
      name: 'takes the row of an address that also has one for everything',
      text: BANNER + GOOGLE + GOOGLE.replace('8.8.8.0/24', '0.0.0.0/0') + CLOUDFLARE + QUAD9,
      expected: { malformed: 1 },
    },
    {
      name: 'keeps the longest prefix, whichever comes first, with the origins of that prefix alone',
      text:
        BANNER +
        GOOGLE.replace('8.8.8.0/24', '8.0.0.0/9').replace('15169', '3356') +
        GOOGLE +
        GOOGLE.replace('15169', '36040') +
        CLOUDFLARE +
        CLOUDFLARE.replace('1.1.1.0/24', '1.1.0.0/16').replace('13335', '4826') +
        QUAD9,
      expected: { answers: { ...complete.answers, '8.8.8.0/24': '15169 36040 in 8.8.8.0/24' } },
    },
    {
      name: 'takes a row over NA for the same address',
      text: BANNER + GOOGLE + 'NA | 8.8.8.0 | NA | US | arin | 1992-12-01 | NA\n' + CLOUDFLARE + QUAD9,
      expected: {},
    },
    {
      name: 'has no origin where all are reserved, but knows the prefix',
      text: BANNER + GOOGLE.replace('15169', '64512') + CLOUDFLARE + QUAD9,
      expected: { answers: { ...complete.answers, '8.8.8.0/24': ' in 8.8.8.0/24' } },
    },
    {
      name: 'lists what the server calls no address: line 3 is the first one',
      text: BANNER + 'Error: no ASN or IP match on line 3.\n' + CLOUDFLARE + QUAD9,
      expected: {
        refused: ['8.8.8.0/24'],
        answers: { '1.1.1.0/24': '13335 in 1.1.1.0/24', '2620:fe::/48': '19281 in 2620:fe::/48' },
      },
    },
    {
      name: 'counts errors for lines that hold no address',
      text:
        BANNER +
        'Error: no ASN or IP match on line 2.\nError: no ASN or IP match on line 6.\n' +
        GOOGLE +
        CLOUDFLARE +
        QUAD9,
      expected: { malformed: 2 },
    },
    {
      name: 'takes no row with more origins than any network has, and no more of several rows',
      text:
        BANNER +
        GOOGLE.replace('15169', Array.from({ length: 17 }, (_, i) => i + 1).join(' ')) +
        Array.from({ length: 20 }, (_, i) => CLOUDFLARE.replace('13335', String(i + 1))).join('') +
        QUAD9,
      expected: {
        malformed: 1,
        unanswered: ['8.8.8.0/24'],
        answers: {
          '1.1.1.0/24': '1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 in 1.1.1.0/24',
          '2620:fe::/48': '19281 in 2620:fe::/48',
        },
      },
    },
    {
      name: 'lists what has no row',
      text: BANNER + GOOGLE,
      expected: { unanswered: ['1.1.1.0/24', '2620:fe::/48'], answers: { '8.8.8.0/24': '15169 in 8.8.8.0/24' } },
    },
    {
      name: 'does not trust a row without its line end, nor that the row before it was the last of its address',
      text: BANNER + GOOGLE + CLOUDFLARE + QUAD9.slice(0, -8),
      expected: {
        malformed: 1,
        unanswered: ['1.1.1.0/24', '2620:fe::/48'],
        answers: { '8.8.8.0/24': '15169 in 8.8.8.0/24' },
      },
    },
    {
      name: 'counts what it cannot read',
      text:
        BANNER + 'Warning: RIPE flags used with a traditional server.\n\n' + GOOGLE + '|||||||\n' + CLOUDFLARE + QUAD9,
      expected: { malformed: 2 },
    },
    { name: 'misses the banner', text: GOOGLE + CLOUDFLARE + QUAD9, expected: { banner: false } },
  ])('$name', ({ text, expected }) => {
    expect(summary(parseReply(text, asked))).toEqual({ ...complete, ...expected });
  });

  it('never throws, and puts each queried network in exactly one list', () => {
    const line = fc.oneof(
      fc.constantFrom(BANNER, GOOGLE, CLOUDFLARE, QUAD9, 'Error: no ASN or IP match on line 4.\n', '\n'),
      fc.string({ unit: 'binary' }),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const { answers, refused, unanswered } = parseReply(lines.join(''), asked);
        const places = [...answers.map(({ bucket }) => bucket), ...refused, ...unanswered];
        expect(places.map(formatCidr).sort()).toEqual(asked.map(formatCidr).sort());
      }),
    );
  });

  it('does not depend on the order of rows for different addresses', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([GOOGLE, CLOUDFLARE, QUAD9], { minLength: 3 }), (rows) => {
        expect(parseReply(BANNER + rows.join(''), asked)).toEqual(
          parseReply(BANNER + GOOGLE + CLOUDFLARE + QUAD9, asked),
        );
      }),
    );
  });
});

describe('toOrigin', () => {
  const times = { askedAt: 1_000, freshUntil: 2_000, source: 'cymru' };
  const announcement: Announcement = {
    prefix: cidr('1.1.1.0/24'),
    origins: [
      { asn: 13335, name: 'CLOUDFLARENET', country: 'US' },
      { asn: 4826, name: 'VOCUS', country: 'AU' },
    ],
    registry: 'apnic',
    registryCountry: 'AU',
    allocated: '2011-08-11',
  };
  const rest = { prefix: '1.1.1.0/24', registry: 'apnic', registryCountry: 'AU', allocated: '2011-08-11', ...times };

  it.each([
    {
      name: 'takes the first origin',
      previous: undefined,
      expected: { asns: [13335, 4826], name: 'CLOUDFLARENET', asCountry: 'US' },
    },
    {
      name: 'keeps the former primary',
      previous: 4826,
      expected: { asns: [4826, 13335], name: 'VOCUS', asCountry: 'AU' },
    },
    {
      name: 'forgets one that is gone',
      previous: 174,
      expected: { asns: [13335, 4826], name: 'CLOUDFLARENET', asCountry: 'US' },
    },
  ])('$name with its name', ({ previous, expected }) => {
    expect(toOrigin(announcement, previous, times)).toEqual({ ...expected, ...rest });
  });
});

describe('queryCymru', { timeout: 30_000 }, () => {
  const limits = { connectMs: 10_000, idleMs: 10_000, totalMs: 20_000, replyBytes: 2 * 1024 * 1024 };
  const buckets = [cidr('74.125.225.0/24'), cidr('2a00:2381:ffff::/48'), cidr('198.28.137.0/24')];
  let server: CymruServer;
  beforeAll(async () => {
    server = await startCymruServer();
  });
  afterEach(() => {
    server.behaviour = answers;
  });
  afterAll(() => server.close());

  const outcome = (exchange: Exchange): unknown =>
    'failure' in exchange
      ? { sent: exchange.sent, failure: exchange.failure.replace(String(server.port), 'PORT') }
      : { sent: exchange.sent, ...summary(exchange.reply) };
  const failure = (reason: string, sent = 3) => ({
    sent,
    failure: `Cannot query whois server "127.0.0.1:PORT": ${reason}`,
  });
  const whole = {
    sent: 3,
    banner: true,
    answers: {
      '74.125.225.0/24': '15169 in 74.125.225.0/24',
      '2a00:2381:ffff::/48': '2856 in 2a00:2380::/25',
      '198.28.137.0/24': ' in nothing',
    },
    refused: [],
    unanswered: [],
    malformed: 0,
    unasked: 0,
  };

  it('sends only masked networks and does not half-close', async () => {
    const before = server.requests.length;
    expect(outcome(await queryCymru(server, buckets, { limits }))).toEqual(whole);
    expect(server.requests.slice(before)).toEqual([
      'begin\nverbose\n74.125.225.0\n2a00:2381:ffff::\n198.28.137.0\nend\n',
    ]);
  });

  it.each<{ name: string; behaviour: Behaviour; short?: Partial<Limits>; expected: unknown }>([
    { name: 'puts torn lines and characters together', behaviour: tears, expected: whole },
    { name: 'matches rows in any order', behaviour: reverses, expected: whole },
    { name: 'takes rows that come twice once', behaviour: repeats, expected: whole },
    { name: 'takes lines that end as in DOS', behaviour: endsLinesAsDos, expected: whole },
    {
      name: 'takes no forged row: for another address, or with a prefix that does not hold the address',
      behaviour: forges,
      expected: { ...whole, malformed: 1, unasked: 1 },
    },
    {
      name: 'refuses a reply cut before its last line ended',
      behaviour: (socket, reply) => socket.end(reply.slice(0, -10)),
      expected: {
        ...whole,
        malformed: 1,
        answers: { '74.125.225.0/24': '15169 in 74.125.225.0/24' },
        unanswered: ['2a00:2381:ffff::/48', '198.28.137.0/24'],
      },
    },
    {
      name: 'takes nothing from a reply cut within its first row',
      behaviour: (socket, reply) => socket.end(reply.slice(0, reply.indexOf('\n') + 30)),
      expected: failure('the reply contains no answer'),
    },
    {
      name: 'gives up on silence',
      behaviour: misbehaviours.saysNothing,
      short: { idleMs: 100 },
      expected: failure('no data for 100 ms'),
    },
    {
      name: 'fails at a close without a word',
      behaviour: misbehaviours.closesAtOnce,
      expected: failure('the reply is empty'),
    },
    {
      name: 'fails at a reset, whatever came before',
      behaviour: misbehaviours.resets,
      expected: failure('connection reset by peer'),
    },
    {
      name: 'does not guess the end of a reply that is left open',
      behaviour: misbehaviours.neverCloses,
      short: { idleMs: 100 },
      expected: failure('no data for 100 ms'),
    },
    {
      name: 'refuses rows without the banner',
      behaviour: misbehaviours.sendsNoBanner,
      expected: failure(
        'the reply begins with "15169 | 74.125.225.0 | 74.125.225.0/24 | US | arin | 2007-03-13 | GOOGLE, US 285" instead of the banner',
      ),
    },
    {
      name: 'refuses the banner alone',
      behaviour: misbehaviours.sendsTheBannerAlone,
      expected: failure('the reply contains no answer'),
    },
    {
      name: 'quotes another protocol without its control characters',
      behaviour: misbehaviours.sendsHtml,
      expected: failure(
        'the reply begins with "<!doctype html> <title> [31m502 Bad Gateway</title>" instead of the banner',
      ),
    },
    {
      name: 'stops reading a reply that does not end',
      behaviour: misbehaviours.sendsWithoutEnd,
      expected: failure('the reply is longer than 2097152 bytes'),
    },
    {
      name: 'stops reading 5 MB',
      behaviour: misbehaviours.sends5Megabytes,
      expected: failure('the reply is longer than 2097152 bytes'),
    },
    {
      name: 'stops reading a line of 3 MB',
      behaviour: misbehaviours.sendsOneLongLine,
      expected: failure('the reply is longer than 2097152 bytes'),
    },
    {
      name: 'refuses more lines than any answer has',
      behaviour: (socket, reply) => socket.end(reply + '|\n'.repeat(20_000)),
      expected: failure('the reply has more than 20000 lines'),
    },
    {
      name: 'gives up on bytes that drip',
      behaviour: misbehaviours.dripsBytes,
      short: { connectMs: 1_000, totalMs: 1_500 },
      expected: failure('not finished within 1500 ms'),
    },
  ])('$name', async ({ behaviour, short, expected }) => {
    server.behaviour = behaviour;
    expect(outcome(await queryCymru(server, buckets, { limits: { ...limits, ...short } }))).toEqual(expected);
  });

  it('fails on binary data', async () => {
    server.behaviour = misbehaviours.sendsBinary;
    expect(await queryCymru(server, buckets, { limits })).toEqual({
      sent: 3,
      failure: expect.stringMatching(/ instead of the banner$/) as string,
    });
  });

  it('parses a reply for a thousand networks', async () => {
    const many = Array.from({ length: 1_000 }, (_, i) => cidr(`74.${125 + Math.floor(i / 256)}.${i % 256}.0/24`));
    const exchange = await queryCymru(server, many, { limits });
    expect(
      'reply' in exchange && exchange.reply.answers.filter(({ announcement }) => announcement.prefix),
    ).toHaveLength(1);
    expect('reply' in exchange && exchange.reply.answers).toHaveLength(1_000);
  });

  it('reports zero sent networks if the connection is refused', async () => {
    const closed = await startCymruServer();
    await closed.close();
    expect(await queryCymru(closed, buckets, { limits })).toEqual({
      sent: 0,
      failure: `Cannot query whois server "127.0.0.1:${closed.port}": connection refused`,
    });
  });

  it('times out if no connection is accepted', async () => {
    const busy = `const { createServer } = require('node:net'); const { parentPort } = require('node:worker_threads');
      const server = createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
        parentPort.postMessage(server.address().port);
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      });`;
    const worker = new Worker(busy, { eval: true });
    const port = await new Promise<number>((resolve) => worker.once('message', resolve));
    const queue: Socket[] = Array.from({ length: 4 }, () =>
      connect({ port, host: '127.0.0.1' }).on('error', () => undefined),
    );
    await new Promise((resolve) => queue[0]?.once('connect', resolve));
    expect(await queryCymru({ host: '127.0.0.1', port }, buckets, { limits: { ...limits, connectMs: 200 } })).toEqual({
      sent: 0,
      failure: `Cannot query whois server "127.0.0.1:${port}": no connection within 200 ms`,
    });
    for (const socket of queue) socket.destroy();
    await worker.terminate();
  });

  it('stops on abort, before and during a session', async () => {
    const stop = new AbortController();
    server.behaviour = () => stop.abort();
    expect(outcome(await queryCymru(server, buckets, { limits, signal: stop.signal }))).toEqual(failure('stopped'));
    expect(outcome(await queryCymru(server, buckets, { limits, signal: stop.signal }))).toEqual(failure('stopped', 0));
  });

  it('rejects a non-public network without opening a connection', async () => {
    const before = server.requests.length;
    await expect(queryCymru(server, [...buckets, cidr('10.0.0.0/24')], { limits })).rejects.toThrow(RangeError);
    expect(server.requests).toHaveLength(before);
  });
});
