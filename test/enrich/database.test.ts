import { execFileSync } from 'node:child_process';
import { mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseAddress, parseCidr } from '../../src/address.ts';
import { AsnCache } from '../../src/enrich/asn.ts';
import { Database } from '../../src/enrich/database.ts';
import { openProvider } from '../../src/enrich/provider.ts';
import type { Address, Cidr, Origin } from '../../src/model.ts';
import { writeMmdb } from '../mmdb-writer.ts';

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

async function open(provider: 'mmdb' | 'tsv', database = file): Promise<Database> {
  const opened = await openProvider({ provider, server: SERVER, database }, { clock, report });
  if (!(opened instanceof Database)) throw new Error(`the provider ${provider} is no database`);
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

const ask = async (database: Database): Promise<(number | undefined)[]> =>
  (await database.ask([cidr('1.1.1.0/24')])).map(({ origin: { asns } }) => asns[0]);

it.each([
  ['mmdb', tree(13335), {}],
  ['tsv', Buffer.from(row(13335)), { source: 'tsv', asCountry: 'US' }],
] as const)(
  'answers buckets from a file of the provider %s, and leaves out what it does not hold',
  async (provider, content, changes) => {
    writeFileSync(file, content);
    const database = await open(provider);
    const bucket = cidr('1.1.1.0/24');
    expect(await database.ask([cidr('9.9.9.0/24'), bucket, cidr('2606:4700:4700::/48')])).toEqual([
      { bucket, reach: bucket, origin: origin(changes) },
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

it('answers for no more of a bucket than the range of the database holds', async () => {
  writeFileSync(
    file,
    writeMmdb([
      ['9.9.9.0/25', { asn: 'AS19281' }],
      ['9.9.9.128/25', { asn: 'AS42' }],
      ['8.0.0.0/9', { asn: 'AS3356' }],
    ]),
  );
  const cache = new AsnCache();
  cache.accept(await (await open('mmdb')).ask([cidr('9.9.9.0/24'), cidr('8.8.8.0/24')]));
  const asnOf = (text: string): number | undefined => cache.lookup(address(text), START)?.asns[0];
  expect(['9.9.9.9', '9.9.9.200', '8.8.8.8', '8.8.8.250'].map(asnOf)).toEqual([19281, undefined, 3356, 3356]);
  expect(cache.lookup(address('9.9.9.9'), START)?.prefix).toBeNull();
});

describe.each([
  ['mmdb', tree],
  ['tsv', row],
] as const)('a file of %s', (provider, contentOf) => {
  it('that is a pipe to which nobody writes is refused at once', async () => {
    execFileSync('mkfifo', [file]);
    await expect(open(provider)).rejects.toThrow(`Cannot read database "${file}": it is no file`);
  });

  it('that was replaced is read again, a minute after the last look at the earliest', async () => {
    replace(contentOf(13335));
    const database = await open(provider);
    replace(contentOf(19281));
    elapsed = MINUTE - 1;
    expect(await ask(database)).toEqual([13335]);
    elapsed = MINUTE;
    expect(await ask(database)).toEqual([19281]);
    expect(reports).toEqual([]);
  });

  it('that was written over with one of the same size and date is read again', async () => {
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

  it('that was replaced by a broken one stays in use, and that is said and counted once', async () => {
    replace(contentOf(13335));
    const database = await open(provider);
    replace('');
    for (elapsed = MINUTE; elapsed <= 5 * MINUTE; elapsed += MINUTE) expect(await ask(database)).toEqual([13335]);
    const reason = provider === 'mmdb' ? 'it is no MMDB file' : 'it is empty';
    expect(reports).toEqual([`Cannot read database "${file}": ${reason}; what was read before stays in use`]);
    expect(database.status().queryFailures).toBe(1);
    replace(contentOf(19281));
    elapsed += MINUTE;
    expect(await ask(database)).toEqual([19281]);
    expect(reports).toHaveLength(1);
  });

  it('that was taken away stays in use, and that is said once', async () => {
    replace(contentOf(13335));
    const database = await open(provider);
    rmSync(file);
    for (elapsed = MINUTE; elapsed <= 3 * MINUTE; elapsed += MINUTE) expect(await ask(database)).toEqual([13335]);
    expect(reports).toEqual([`Cannot read database "${file}": ENOENT; what was read before stays in use`]);
  });

  it('that cannot be read at the start ends it', async () => {
    const missing = join(folder, 'missing');
    await expect(open(provider, missing)).rejects.toThrow(new Error(`Cannot read database "${missing}": ENOENT`));
    await expect(open(provider, folder)).rejects.toThrow(new Error(`Cannot read database "${folder}": it is no file`));
  });
});

describe('the provider', () => {
  const choose = (provider: 'cymru' | 'cymru-dns' | 'none') =>
    openProvider({ provider, server: SERVER, database: null }, { clock, report });

  it.each([
    ['cymru', '127.0.0.1:9'],
    ['cymru-dns', 'asn.cymru.com'],
  ] as const)('%s is asked over the network, at %s', async (name, server) => {
    expect(await choose(name)).toEqual({ name, server, ask: expect.any(Function) as unknown });
  });

  it('none is nobody', async () => {
    expect(await choose('none')).toBeNull();
  });
});
