import { execFileSync } from 'node:child_process';
import { mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatAddress, formatCidr, parseAddress, parseCidr } from '../../../src/common/address.ts';
import { openCache } from '../../../src/enrich/asn/cache.ts';
import { FileDatabase } from '../../../src/enrich/asn/file-database.ts';
import { openProvider } from '../../../src/enrich/asn/open.ts';
import type { Address, Cidr, Origin } from '../../../src/model.ts';
import { writeMmdb } from '../../support/mmdb-writer.ts';

const START = Date.parse('2026-09-15T08:00:00Z');
const MINUTE = 60_000;
const SERVER = { host: '127.0.0.1', port: 9 };

let folder: string;
let file: string;
let elapsed: number;
let reports: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-database-'));
  file = join(folder, 'database');
  elapsed = 0;
  reports = [];
});
afterEach(() => rmSync(folder, { recursive: true }));

const clock = { now: () => START + elapsed, monotonic: () => elapsed };
const report = (message: string): void => void reports.push(message);

async function open(provider: 'mmdb' | 'tsv', database = file): Promise<FileDatabase> {
  const opened = await openProvider({ provider, server: SERVER, database }, { clock, report });
  if (!(opened instanceof FileDatabase)) throw new Error(`the provider ${provider} is no database`);
  return opened;
}

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

const row = (asn: number): string => `1.1.1.0\t1.1.1.255\t${asn}\tUS\tNETWORK-${asn}\n`;
const tree = (asn: number): Buffer =>
  writeMmdb([['1.1.1.0/24', { autonomous_system_number: asn, autonomous_system_organization: `NETWORK-${asn}` }]]);
const origin = (changes: Partial<Origin>): Origin => ({
  asns: [13335],
  name: 'NETWORK-13335',
  asCountry: null,
  prefix: null,
  registry: null,
  registryCountry: null,
  allocated: null,
  askedAt: START,
  freshUntil: START + 10 * MINUTE,
  source: 'mmdb',
  ...changes,
});

/** Puts a new file in the place of the old one, as those do who must never show half of it. */
function replace(content: string | Buffer): void {
  writeFileSync(`${file}.new`, content);
  renameSync(`${file}.new`, file);
}

const ask = async (database: FileDatabase): Promise<(number | undefined)[]> =>
  (await database.query([cidr('1.1.1.1')])).map(({ origin: { asns } }) => asns[0]);

it.each([
  ['mmdb', tree(13335), {}],
  ['tsv', Buffer.from(row(13335)), { source: 'tsv', asCountry: 'US' }],
] as const)(
  'answers addresses from a file of the provider %s, and leaves out what it does not hold',
  async (provider, content, changes) => {
    writeFileSync(file, content);
    const database = await open(provider);
    const bucket = cidr('1.1.1.77');
    expect(await database.query([cidr('9.9.9.9'), bucket, cidr('2606:4700:4700::1')])).toEqual([
      { bucket, covers: cidr('1.1.1.0/24'), origin: origin(changes) },
    ]);
    expect(database.status()).toEqual({
      provider,
      pending: 0,
      queries: 1,
      queryFailures: 0,
      addressesSent: 0,
      malformedRows: 0,
      breakerOpen: false,
    });
  },
);

describe('is queried with the address itself if', () => {
  const lite = (asn: number): Record<string, string> => ({ asn: `AS${asn}`, as_name: `NETWORK-${asn}`, country: 'X' });
  const table = (...rows: readonly (readonly [first: string, last: string, asn: number])[]): Buffer =>
    Buffer.from(rows.map(([first, last, asn]) => `${first}\t${last}\t${asn}\tUS\tNETWORK-${asn}\n`).join(''));

  it.each<[string, 'mmdb' | 'tsv', Buffer, Record<string, [asn: number, reach: string] | null>]>([
    [
      'records are finer than a /24',
      'mmdb',
      writeMmdb([
        ['51.15.0.0/26', lite(1)],
        ['51.15.0.64/26', lite(2)],
        ['51.15.0.128/30', lite(3)],
        ['51.15.0.132/32', lite(4)],
        ['8.0.0.0/9', lite(5)],
      ]),
      {
        '51.15.0.1': [1, '51.15.0.0/26'],
        '51.15.0.77': [2, '51.15.0.64/26'],
        '51.15.0.131': [3, '51.15.0.128/30'],
        '51.15.0.132': [4, '51.15.0.132/32'],
        '51.15.0.133': null,
        '8.8.8.250': [5, '8.0.0.0/9'],
      },
    ],
    [
      'records are finer than a /48 and a /64',
      'mmdb',
      writeMmdb([
        ['2a01:4f8:1::/64', lite(1)],
        ['2a01:4f8:1:2::/63', lite(2)],
        ['2a01:4f8:1:4::/120', lite(3)],
        ['2a01:4f8:1:4::100/128', lite(4)],
        ['2600::/12', lite(5)],
      ]),
      {
        '2a01:4f8:1::77': [1, '2a01:4f8:1::/64'],
        '2a01:4f8:1:1::77': null,
        '2a01:4f8:1:3::77': [2, '2a01:4f8:1:2::/63'],
        '2a01:4f8:1:4::77': [3, '2a01:4f8:1:4::/120'],
        '2a01:4f8:1:4::100': [4, '2a01:4f8:1:4::100/128'],
        '2606:4700::1': [5, '2600::/12'],
      },
    ],
    [
      'records of GeoIP2-Enterprise are finer than a /24',
      'mmdb',
      writeMmdb([
        ['51.15.0.0/25', { traits: { autonomous_system_number: 1 } }],
        ['51.15.0.128/25', { traits: { autonomous_system_number: 2 } }],
      ]),
      { '51.15.0.9': [1, '51.15.0.0/25'], '51.15.0.200': [2, '51.15.0.128/25'] },
    ],
    [
      'ranges lie inside a /24 and are no blocks',
      'tsv',
      table(['51.15.0.0', '51.15.0.4', 1], ['51.15.0.5', '51.15.0.200', 2], ['51.15.0.201', '51.15.3.255', 3]),
      {
        '51.15.0.2': [1, '51.15.0.0/30'],
        '51.15.0.4': [1, '51.15.0.4/32'],
        '51.15.0.5': [2, '51.15.0.5/32'],
        '51.15.0.100': [2, '51.15.0.64/26'],
        '51.15.0.201': [3, '51.15.0.201/32'],
        '51.15.2.1': [3, '51.15.2.0/23'],
        '51.15.4.0': null,
      },
    ],
    [
      'ranges lie inside a /64',
      'tsv',
      table(
        ['2a01:4f8:1::', '2a01:4f8:1::ff', 1],
        ['2a01:4f8:1::100', '2a01:4f8:1::100', 2],
        ['2a01:1000::', '2a01:2000:ffff:ffff:ffff:ffff:ffff:ffff', 3],
      ),
      {
        '2a01:4f8:1::77': [1, '2a01:4f8:1::/120'],
        '2a01:4f8:1::100': [2, '2a01:4f8:1::100/128'],
        '2a01:4f8:1::101': null,
        '2a01:2000::1': [3, '2a01:2000::/32'],
        '2a01:1000::1': [3, '2a01:1000::/20'],
      },
    ],
    ['one range is all of IPv4', 'tsv', table(['0.0.0.0', '255.255.255.255', 1]), { '8.8.8.8': [1, '0.0.0.0/0'] }],
  ])('%s (%s)', async (_, provider, content, expected) => {
    writeFileSync(file, content);
    const database = await open(provider);
    const cache = openCache(provider) ?? expect.fail();
    const hosts = Object.keys(expected);
    for (const host of hosts) expect(cache.lookup(address(host), START)).toBeNull();
    const answers = await database.query(cache.takeQueries());
    cache.accept(answers);
    const reachOf = new Map(
      answers.map(({ bucket, covers }) => [formatAddress(bucket.address), covers && formatCidr(covers)]),
    );
    const found = hosts.map((host) => {
      const known = cache.lookup(address(host), START);
      return [host, known && [known.asns[0], reachOf.get(host)]];
    });
    expect(Object.fromEntries(found)).toEqual(expected);
    expect(answers.map(({ origin: { prefix } }) => prefix)).toEqual(answers.map(() => null));
  });
});

describe.each([
  ['mmdb', tree],
  ['tsv', row],
] as const)('a file of %s', (provider, contentOf) => {
  it('that is a pipe without a writer is rejected at once', async () => {
    execFileSync('mkfifo', [file]);
    await expect(open(provider)).rejects.toThrow(`Cannot read database "${file}": not a regular file`);
  });

  it('that was replaced is read again after at least a minute', async () => {
    replace(contentOf(13335));
    const database = await open(provider);
    replace(contentOf(19281));
    elapsed = MINUTE - 1;
    expect(await ask(database)).toEqual([13335]);
    elapsed = MINUTE;
    expect(await ask(database)).toEqual([19281]);
    expect(reports).toEqual([]);
  });

  it('that was overwritten with the same size and date is read again', async () => {
    const built = new Date('2026-09-01T00:00:00Z');
    const write = (asn: number): void => {
      writeFileSync(file, contentOf(asn));
      utimesSync(file, built, built);
    };
    write(13335);
    const database = await open(provider);
    write(19281);
    elapsed = MINUTE;
    expect(await ask(database)).toEqual([19281]);
  });

  it('that was replaced by an invalid one stays in use, reported and counted once', async () => {
    replace(contentOf(13335));
    const database = await open(provider);
    replace('');
    for (elapsed = MINUTE; elapsed <= 5 * MINUTE; elapsed += MINUTE) expect(await ask(database)).toEqual([13335]);
    const reason = provider === 'mmdb' ? 'not an MMDB file' : 'the file is empty';
    expect(reports).toEqual([`Cannot read database "${file}": ${reason}; the previous data stays in use`]);
    expect(database.status().queryFailures).toBe(1);
    replace(contentOf(19281));
    elapsed += MINUTE;
    expect(await ask(database)).toEqual([19281]);
    expect(reports).toHaveLength(1);
  });

  it('that was removed stays in use, reported once', async () => {
    replace(contentOf(13335));
    const database = await open(provider);
    rmSync(file);
    for (elapsed = MINUTE; elapsed <= 3 * MINUTE; elapsed += MINUTE) expect(await ask(database)).toEqual([13335]);
    expect(reports).toEqual([
      `Cannot read database "${file}": no such file or directory; the previous data stays in use`,
    ]);
  });

  it('that cannot be read at startup is an error', async () => {
    const missing = join(folder, 'missing');
    await expect(open(provider, missing)).rejects.toThrow(
      new Error(`Cannot read database "${missing}": no such file or directory`),
    );
    await expect(open(provider, folder)).rejects.toThrow(
      new Error(`Cannot read database "${folder}": not a regular file`),
    );
  });
});

describe('the provider', () => {
  const choose = (provider: 'cymru' | 'cymru-dns' | 'none') =>
    openProvider({ provider, server: SERVER, database: null }, { clock, report });

  it.each([
    ['cymru', '127.0.0.1:9'],
    ['cymru-dns', 'asn.cymru.com'],
  ] as const)('%s is asked over the network, at %s', async (name, server) => {
    expect(await choose(name)).toEqual({ name, server, query: expect.any(Function) as unknown });
  });

  it('none opens nothing', async () => {
    expect(await choose('none')).toBeNull();
  });
});
