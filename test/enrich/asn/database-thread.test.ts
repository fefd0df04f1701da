import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { parseAddress } from '../../../src/common/address.ts';
import { loadDatabase } from '../../../src/enrich/asn/database-thread.ts';
import { loadedBytesMost } from '../../../src/enrich/asn/file-database.ts';
import { parseTsv } from '../../../src/enrich/asn/ip2asn-tsv.ts';
import { readMmdb } from '../../../src/enrich/asn/mmdb.ts';
import type { Address } from '../../../src/model.ts';
import { writeMmdb } from '../../support/mmdb-writer.ts';

const folder = mkdtempSync(join(tmpdir(), 'peerscope-database-'));
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(bytes: string | Buffer): string {
  const file = join(folder, 'database');
  writeFileSync(file, bytes);
  return file;
}

function address(text: string): Address {
  const parsed = parseAddress(text);
  if (!parsed) throw new SyntaxError(`Cannot read address "${text}"`);
  return parsed;
}

const MMDB = writeMmdb([
  ['1.1.1.0/24', { asn: 'AS13335', as_name: 'Cloudflare, Inc.' }],
  ['2606:4700::/32', { asn: 'AS13335', as_name: 'Cloudflare, Inc.' }],
]);
const TSV = [
  '1.1.1.0\t1.1.1.255\t13335\tUS\tCloudflare, Inc.\n',
  '8.8.8.0\t8.8.8.255\t15169\tUS\tGOOGLE\n',
  '2606:4700::\t2606:4700:ffff:ffff:ffff:ffff:ffff:ffff\t13335\tUS\tCloudflare, Inc.\n',
].join('');

describe('a database that a thread read', () => {
  it.each([
    { title: 'MMDB', format: 'mmdb' as const, bytes: MMDB },
    { title: 'TSV', format: 'tsv' as const, bytes: TSV },
    { title: 'TSV in gzip', format: 'tsv' as const, bytes: gzipSync(TSV) },
  ])('answers lookups: $title', async ({ format, bytes }) => {
    const lookup = await loadDatabase({ format, file: fileOf(bytes) });
    for (const known of ['1.1.1.1', '2606:4700::1111'])
      expect(lookup(address(known))).toMatchObject({ asns: [13335], name: 'Cloudflare, Inc.' });
    expect(lookup(address('9.9.9.9'))).toBeUndefined();
  });

  it.each([
    { title: 'is invalid', format: 'mmdb' as const, bytes: 'text', reason: 'not an MMDB file' },
    { title: 'has no lines', format: 'tsv' as const, bytes: '', reason: 'the file is empty' },
  ])('is rejected with the reason when it $title', async ({ format, bytes, reason }) => {
    await expect(loadDatabase({ format, file: fileOf(bytes) })).rejects.toThrow(new Error(reason));
  });

  it.each([
    ['of a container with 256 MiB', 256 << 20, 53_687_091],
    ['of a large host', 2 ** 36, 512 << 20],
  ])('may need a fifth of the memory %s', (_, limit, bytes) => {
    expect(loadedBytesMost(limit)).toBe(bytes);
  });

  it('is rejected when its file or its table is larger than that', async () => {
    await expect(readMmdb(fileOf(MMDB), MMDB.length - 1)).rejects.toThrow(`longer than ${MMDB.length - 1} bytes`);
    expect(await readMmdb(fileOf(MMDB), MMDB.length)).toEqual(MMDB);
    // 12 bytes for a range of IPv4, 36 for one of IPv6, and the names.
    const bytes = 2 * 12 + 36 + 25 + 15;
    await expect(parseTsv(Readable.from([Buffer.from(TSV)]), bytes - 1)).rejects.toThrow(
      /needs more than \d+ bytes of memory/,
    );
    expect(await parseTsv(Readable.from([Buffer.from(TSV)]), bytes)).toHaveProperty('bytes', bytes + 8);
  });

  it('is rejected when it takes too long', async () => {
    const reading = loadDatabase({ format: 'mmdb', file: fileOf(MMDB) }, { withinMs: 1, heapMiB: 256 });
    await expect(reading).rejects.toThrow('it takes longer than 0.001 s');
  });

  it('is rejected when it needs too much memory, and the process continues', async () => {
    const lines = Array.from({ length: 300_000 }, (_, i) => {
      const block = `${1 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`;
      return `${block}.0\t${block}.255\t${i + 1}\tUS\tAS ${i}\n`;
    });
    const reading = loadDatabase({ format: 'tsv', file: fileOf(lines.join('')) }, { withinMs: 60_000, heapMiB: 16 });
    await expect(reading).rejects.toThrow('it needs more than 16 MiB');
  });
});
