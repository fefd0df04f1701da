import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import {
  cidrContains,
  compareAddresses,
  formatAddress,
  ipv4,
  maskAddress,
  parseAddress,
} from '../../../src/common/address.ts';
import { readTsv, parseTsv } from '../../../src/enrich/asn/ip2asn-tsv.ts';
import type { Address } from '../../../src/model.ts';

const folder = mkdtempSync(join(tmpdir(), 'peerscope-tsv-'));
afterAll(() => rmSync(folder, { recursive: true }));

const TABLE = [
  '1.0.0.0\t1.0.0.255\t13335\tUS\tCLOUDFLARENET',
  '1.0.1.0\t1.0.3.255\t0\tNone\tNot routed',
  '1.0.4.0\t1.0.7.127\t38803\tAU\tWPL-AS-AP Wirefreebroadband Pty Ltd',
  '1.0.7.128\t1.0.7.191\t64512\tAU\tPRIVATE',
  '1.1.1.0\t1.1.1.255\t13335\tUS\tCLOUDFLARENET',
  '223.255.254.0\t223.255.254.255\t55415\tSG\t\u001b[2JMBS-SG',
  '2606:4700::\t2606:4700:ffff:ffff:ffff:ffff:ffff:ffff\t13335\tUS\tCLOUDFLARENET',
  '2606:4701::\t2a00:ffff:ffff:ffff:ffff:ffff:ffff:ffff\t0\tNone\tNot routed',
].map((line) => `${line}\n`);

function address(text: string): Address {
  const parsed = parseAddress(text);
  if (!parsed) throw new SyntaxError(`Cannot read address "${text}"`);
  return parsed;
}

async function* chunksOf(text: string, size = 65_536): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}

const CLOUDFLARE = { asns: [13335], name: 'CLOUDFLARENET', asCountry: 'US' };
const NOT_ANNOUNCED = { asns: [], name: null, asCountry: null };

describe('finds', async () => {
  const table = await parseTsv(chunksOf(TABLE.join('')));
  it.each([
    ['the first address of a range', '1.0.0.0', { ...CLOUDFLARE, bits: 120 }],
    ['the last address of a range', '1.0.0.255', { ...CLOUDFLARE, bits: 120 }],
    ['what is not routed: not announced', '1.0.2.0', { ...NOT_ANNOUNCED, bits: 119 }],
    ['an ASN that is nobody’s origin: not announced', '1.0.7.130', { ...NOT_ANNOUNCED, bits: 122 }],
    [
      'a range that ends within a /24, and how far it speaks',
      '1.0.7.0',
      { asns: [38803], name: 'WPL-AS-AP Wirefreebroadband Pty Ltd', asCountry: 'AU', bits: 121 },
    ],
    [
      'a hostile name, made harmless',
      '223.255.254.1',
      { asns: [55415], name: '\ufffd[2JMBS-SG', asCountry: 'SG', bits: 120 },
    ],
    ['an IPv6 range', '2606:4700:4700::1111', { ...CLOUDFLARE, bits: 32 }],
    ['an IPv6 range that is not routed', '2a00::1', { ...NOT_ANNOUNCED, bits: 16 }],
    ['nothing before the first range', '0.255.255.255', undefined],
    ['nothing in a gap', '1.0.7.192', undefined],
    ['nothing after the last range', '223.255.255.0', undefined],
    ['nothing after the last IPv6 range', '2a01::', undefined],
  ])('%s', (_, text, expected) => {
    expect(table.find(address(text))).toEqual(expected);
  });
});

it('parses any chunking and CRLF line ends', async () => {
  const text = TABLE.join('').replaceAll('\n', '\r\n').replaceAll('CLOUDFLARENET', 'ÖFFENTLICH');
  for (const size of [1, 7, 1000]) {
    const table = await parseTsv(chunksOf(text, size));
    expect(table.find(address('1.1.1.1'))?.name).toBe('ÖFFENTLICH');
  }
});

it('agrees with a list of ranges', async () => {
  const bounds = fc.uniqueArray(fc.nat(0xfff), { minLength: 2, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(bounds, fc.boolean(), fc.nat(0xfff), fc.nat(0xff), async (unordered, isV6, low, step) => {
      const at = (n: number): Address => (isV6 ? [0x20010000, n << 16, 0, n] : ipv4(0x08080000 + n));
      const sorted = unordered.sort((a, b) => a - b);
      const ranges = sorted.flatMap((last, i) =>
        i % 2 ? [{ first: at(sorted[i - 1] ?? 0), last: at(last), asn: i }] : [],
      );
      const lines = ranges.map(({ first, last, asn }) =>
        [formatAddress(first), formatAddress(last), asn, 'US', 'X'].join('\t'),
      );
      const table = await parseTsv(chunksOf(`${lines.join('\n')}\n`));
      const asked = at(low);
      const expected = ranges.find(
        ({ first, last }) => compareAddresses(first, asked) <= 0 && compareAddresses(asked, last) <= 0,
      );
      const finding = table.find(asked);
      expect(finding?.asns[0]).toBe(expected?.asn);
      if (!finding) return;
      const reach = { address: maskAddress(asked, finding.bits), bits: finding.bits };
      const neighbour = at((low & 0xf00) + step);
      if (cidrContains(reach, neighbour)) expect(table.find(neighbour)?.asns).toEqual(finding.asns);
    }),
  );
});

describe('rejects', () => {
  const form = 'is not a tab-separated first address, last address, ASN, country and name';
  it.each([
    ['an empty file', '', 'the file is empty'],
    [
      'the CSV form of ip-location-db',
      '1.0.0.0,1.0.0.255,13335,Cloudflare\n',
      `line 1 "1.0.0.0,1.0.0.255,13335,Cloudflare" ${form}`,
    ],
    [
      'the form with decimal addresses',
      '16777216\t16777471\t13335\tUS\tX\n',
      `line 1 "16777216\\t16777471\\t13335\\tUS\\tX" ${form}`,
    ],
    ['the form without ASNs', '1.0.0.0\t1.0.0.255\tUS\n', `line 1 "1.0.0.0\\t1.0.0.255\\tUS" ${form}`],
    [
      'an ASN beyond 32 bits',
      '1.0.0.0\t1.0.0.255\t4294967296\tUS\tX\n',
      `line 1 "1.0.0.0\\t1.0.0.255\\t4294967296\\tUS\\tX" ${form}`,
    ],
    ['what a terminal obeys', '\u007f\u009b2J\n', `line 1 "\\u007f\\u009b2J" ${form}`],
    ['an empty line', `${TABLE[0] ?? ''}\n`, `line 2 "" ${form}`],
    [
      'a range that is not a valid address range',
      '1.0.1.0\t1.0.0.0\t1\tUS\tX\n',
      'line 1 "1.0.1.0\\t1.0.0.0\\t1\\tUS\\tX" is not a valid address range',
    ],
    [
      'ranges out of order',
      `${TABLE[4] ?? ''}${TABLE[0] ?? ''}`,
      'line 2 "1.0.0.0\\t1.0.0.255\\t13335\\tUS\\tCLOUDFLARENET" is not in ascending order',
    ],
    [
      'ranges that overlap',
      `${TABLE[0] ?? ''}${TABLE[0] ?? ''}`,
      'line 2 "1.0.0.0\\t1.0.0.255\\t13335\\tUS\\tCLOUDFLARENET" is not in ascending order',
    ],
    ['a file that was cut', TABLE.join('').slice(0, -5), 'the last line is incomplete'],
    ['bytes without lines', 'x'.repeat(70_000), 'a line is longer than 4096 characters'],
  ])('%s', async (_, text, reason) => {
    await expect(parseTsv(chunksOf(text))).rejects.toThrow(new SyntaxError(reason));
  });
});

describe('a file', () => {
  const path = join(folder, 'ip2asn-combined');
  it.each([
    ['plain', (text: string) => Buffer.from(text)],
    ['in gzip, whatever its name', (text: string) => gzipSync(text)],
  ])('is read %s', async (_, pack) => {
    writeFileSync(path, pack(TABLE.join('')));
    expect((await readTsv(path)).find(address('1.1.1.1'))).toEqual({ ...CLOUDFLARE, bits: 120 });
  });

  it('in truncated gzip is rejected', async () => {
    writeFileSync(path, gzipSync(TABLE.join('')).subarray(0, -20));
    await expect(readTsv(path)).rejects.toThrow('unexpected end of file');
  });

  it('that is more than 100 times longer when decompressed is rejected', async () => {
    const name = 'a'.repeat(3_900);
    const lines = Array.from({ length: 2_000 }, (_, i) => {
      const block = `1.${i >> 8}.${i & 255}`;
      return `${block}.0\t${block}.255\t13335\tUS\t${name}\n`;
    });
    writeFileSync(path, gzipSync(lines.join('')));
    await expect(readTsv(path)).rejects.toThrow('more than 100 times longer when decompressed');
  });

  it('longer than any table is rejected before it is read', async () => {
    writeFileSync(path, '');
    truncateSync(path, 2 ** 40);
    await expect(readTsv(path)).rejects.toThrow('longer than 536870912 bytes');
  });

  it('that is a directory is rejected', async () => {
    await expect(readTsv(folder)).rejects.toThrow('not a regular file');
  });
});

it('stores a tenth of a full-size table in less than 2 MiB', async () => {
  const table = await parseTsv(chunksOf(largeTable()));
  expect(table.bytes).toBeLessThan(2 * 1024 * 1024);
  expect(table.find(ipv4(0x01000000 + 51_999 * 0x1700))).toEqual({
    asns: [3_999],
    name: nameOf(3_999),
    asCountry: 'US',
    bits: 120,
  });
});

/** 52,000 IPv4 and 17,000 IPv6 ranges of 8,000 operators; the real table has ten times as many. */
function largeTable(): string {
  const lines: string[] = [];
  const columns = (i: number): string => `${i % 8_000}\tUS\t${nameOf(i % 8_000)}\n`;
  for (let i = 0; i < 52_000; i++) {
    const first = 0x01000000 + i * 0x1700;
    lines.push(`${formatAddress(ipv4(first))}\t${formatAddress(ipv4(first + 0x16ff))}\t${columns(i)}`);
  }
  for (let i = 0; i < 17_000; i++) {
    const group = `2000:${i.toString(16)}`;
    lines.push(`${group}::\t${group}:ffff:ffff:ffff:ffff:ffff:ffff\t${columns(i)}`);
  }
  return lines.join('');
}

function nameOf(i: number): string {
  return `NETWORK-${i} Network of ${i}`;
}
