import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseCidr } from '../../src/common/address.ts';
import { whois, type WhoisOptions } from '../../src/cli/whois.ts';
import type { Cidr } from '../../src/model.ts';
import { misbehaviours, startCymruServer, type CymruServer } from '../support/cymru-server.ts';
import { writeMmdb } from '../support/mmdb-writer.ts';

const MULTI_ORIGIN = [
  '13335   | 1.1.1.1          | 1.1.1.0/24          | AU | apnic    | 2011-08-11 | CLOUDFLARENET - Cloudflare, Inc., US',
  '4826    | 1.1.1.1          | 1.1.1.0/24          | AU | apnic    | 2011-08-11 | VOCUS-BACKBONE-AS, AU',
  '19281   | 9.9.9.0          | 9.9.9.0/25          | US | arin     | 2017-09-13 | QUAD9-AS-1, "US"',
];

let server: CymruServer;
let folder: string;
let now: number;

beforeEach(async () => {
  server = await startCymruServer(MULTI_ORIGIN);
  folder = mkdtempSync(join(tmpdir(), 'peerscope-whois-'));
  now = Date.parse('2026-09-15T08:00:00Z');
});

afterEach(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new SyntaxError(`Cannot read block "${text}"`);
  return parsed;
}

async function run(
  addresses: AsyncIterable<Uint8Array> | readonly string[],
  options: Partial<WhoisOptions> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const printed = { stdout: '', stderr: '' };
  const code = await whois(addresses, {
    output: 'table',
    provider: 'cymru',
    server,
    database: null,
    storagePath: folder,
    storageServer: null,
    rules: { networks: [], asnNeverSend: [] },
    stdout: { write: (text) => (printed.stdout += text) },
    stderr: { write: (text) => (printed.stderr += text) },
    clock: {
      now: () => now,
      monotonic: () => now,
      after: (ms, wake) => {
        now += Math.ceil(ms);
        const timer = setImmediate(wake);
        return () => clearImmediate(timer);
      },
    },
    random: () => 0.5,
    ...options,
  });
  return { code, stdout: printed.stdout, stderr: printed.stderr.replaceAll(String(server.port), 'PORT') };
}

async function* bytes(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield Promise.resolve(Buffer.from(text));
}

const EVERY_KIND = ['74.125.225.229', '10.0.0.1', '1.1.1.1', '198.28.137.80', '2a00:2381:ffff::1', '::1', '9.9.9.200'];

describe('whois', () => {
  it('prints a table in the order of the arguments', async () => {
    expect(await run(EVERY_KIND)).toEqual({
      code: 0,
      stderr: '',
      stdout: `ADDRESS              ASN  AS NAME                             PREFIX           REGISTRY  REGISTRY COUNTRY  NETWORK
74.125.225.229     15169  GOOGLE                              74.125.225.0/24  arin      US                public
10.0.0.1               -  -                                   -                -         -                 private
1.1.1.1            13335  CLOUDFLARENET - Cloudflare, Inc.    1.1.1.0/24       apnic     AU                public
198.28.137.80          0  not announced                       -                arin      US                public
2a00:2381:ffff::1   2856  BT-UK-AS BTnet UK Regional network  2a00:2380::/25   ripencc   GB                public
::1                    -  -                                   -                -         -                 loopback
9.9.9.200              -  -                                   -                -         -                 public
`,
    });
  });

  it('sends only the masked network of each public address, once, in one batch', async () => {
    await run([
      ...EVERY_KIND,
      '1.1.1.77',
      '192.168.1.1',
      '64:ff9b::101:101',
      'fe80::1%eth0',
      '169.254.169.254',
      '203.0.113.9',
    ]);
    expect(server.requests).toEqual([
      'begin\nverbose\n74.125.225.0\n1.1.1.0\n198.28.137.0\n2a00:2381:ffff::\n9.9.9.0\nend\n',
    ]);
  });

  it('prints JSON with null for unknown, and 0 and [] for not announced', async () => {
    const { stdout } = await run(['1.1.1.1', '198.28.137.80', '10.0.0.1', '::ffff:1.1.1.1'], { output: 'json' });
    const cloudflare = {
      address: '1.1.1.1',
      network: 'public',
      asn: 13335,
      asns: [13335, 4826],
      as_name: 'CLOUDFLARENET - Cloudflare, Inc.',
      as_country: 'US',
      bgp_prefix: '1.1.1.0/24',
      registry: 'apnic',
      registry_country: 'AU',
    };
    const nothing = {
      asn: null,
      asns: null,
      as_name: null,
      as_country: null,
      bgp_prefix: null,
      registry: null,
      registry_country: null,
    };
    expect(JSON.parse(stdout)).toEqual([
      cloudflare,
      {
        ...nothing,
        address: '198.28.137.80',
        network: 'public',
        asn: 0,
        asns: [],
        registry: 'arin',
        registry_country: 'US',
      },
      { ...nothing, address: '10.0.0.1', network: 'private' },
      cloudflare,
    ]);
  });

  it('prints one JSON object per line', async () => {
    const { stdout } = await run(['1.1.1.1', '10.0.0.1'], { output: 'jsonl' });
    const rows = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { address: string; asn: number | null });
    expect(rows.map(({ address, asn }) => [address, asn])).toEqual([
      ['1.1.1.1', 13335],
      ['10.0.0.1', null],
    ]);
  });

  it('prints CSV with the JSON names, quoted where needed', async () => {
    const { stdout } = await run(['1.1.1.1', '9.9.9.9', '10.0.0.1'], { output: 'csv' });
    expect(stdout).toBe(
      'address,network,asn,asns,as_name,as_country,bgp_prefix,registry,registry_country\n' +
        '1.1.1.1,public,13335,13335 4826,"CLOUDFLARENET - Cloudflare, Inc.",US,1.1.1.0/24,apnic,AU\n' +
        '9.9.9.9,public,19281,19281,"QUAD9-AS-1, ""US""",,9.9.9.0/25,arin,US\n' +
        '10.0.0.1,private,,,,,,,\n',
    );
  });

  it.each<{
    name: string;
    addresses: () => AsyncIterable<Uint8Array> | readonly string[];
    code: number;
    errors: string[];
  }>([
    {
      name: 'exits with 2 for an argument',
      addresses: () => ['10.0.0.1', 'example.com', '\u001b[31m', '8.8.8.8%eth0', ''],
      code: 2,
      errors: ['example.com', '\ufffd[31m', '8.8.8.8%eth0', ''],
    },
    {
      name: 'exits with 1 for a line of any length in a stream',
      addresses: () => bytes(...Array.from({ length: 3 }, () => 'x'.repeat(1 << 20)), '\n10.0.0.1\n'),
      code: 1,
      errors: ['x'.repeat(128)],
    },
    {
      name: 'exits with 1 for a line in a stream and ignores empty lines',
      addresses: () => bytes('exam', 'ple.com\r\r 10.0', '.0.1 \r\n', '   '),
      code: 1,
      errors: ['example.com'],
    },
  ])('answers the valid addresses if one is invalid, and $name', async ({ addresses, code, errors }) => {
    const result = await run(addresses(), { output: 'jsonl' });
    expect({ code: result.code, stderr: result.stderr }).toEqual({
      code,
      stderr: errors.map((text) => `Cannot read address "${text}": must be an IPv4 or IPv6 address\n`).join(''),
    });
    expect(result.stdout).toMatch(/^\{"address":"10\.0\.0\.1",[^\n]*\n$/);
  });

  it('answers a repeated query from the store, without the provider', async () => {
    await run(['74.125.225.229']);
    await server.close();
    const again = await run(['74.125.225.1'], { output: 'jsonl' });
    expect({ code: again.code, stderr: again.stderr }).toEqual({ code: 0, stderr: '' });
    expect(again.stdout).toContain('"asn":15169');
    expect(server.requests).toHaveLength(1);
    server = await startCymruServer();
  });

  it('waits until 10 s after the previous session before it queries again', async () => {
    const begin = now;
    await run(['74.125.225.229']);
    await run(['62.239.237.1']);
    expect({ requests: server.requests.length, waitedMs: now - begin }).toEqual({ requests: 2, waitedMs: 10_000 });
  });

  it('prints known results and fails if the provider is unreachable', async () => {
    await server.close();
    const result = await run(['74.125.225.229', '10.0.0.1'], { output: 'jsonl' });
    expect({ code: result.code, stderr: result.stderr }).toEqual({
      code: 1,
      stderr: 'Cannot query whois server "127.0.0.1:PORT": connection refused\n',
    });
    expect(result.stdout.split('\n').map((line) => /"asn":(\w+)/.exec(line)?.[1])).toEqual(['null', 'null', undefined]);
    server = await startCymruServer();
  });

  it('shows a stale answer and fails if no newer one is available', async () => {
    await run(['74.125.225.229']);
    now += 3 * 86_400_000;
    server.behaviour = misbehaviours.sendsNoBanner;
    const result = await run(['74.125.225.229'], { output: 'jsonl' });
    expect(result.code).toBe(1);
    expect(result.stdout).toContain('"asn":15169');
    expect(result.stderr).toMatch(
      /^Cannot query whois server "127.0.0.1:PORT": the reply begins with "15169 .*" instead of the banner\n$/,
    );
  });

  it('opens no connection and no file for local addresses', async () => {
    expect((await run(['10.0.0.1', '::1', '203.0.113.9'])).code).toBe(0);
    expect({ requests: server.requests, files: readdirSync(folder) }).toEqual({ requests: [], files: [] });
  });

  it('opens no connection without a provider, and reports what is missing from the store', async () => {
    await run(['74.125.225.229']);
    const result = await run(['74.125.225.229', '1.1.1.1'], { output: 'jsonl', provider: 'none' });
    expect(result.stdout.split('\n').map((line) => /"asn":(\w+)/.exec(line)?.[1])).toEqual([
      '15169',
      'null',
      undefined,
    ]);
    expect({ code: result.code, stderr: result.stderr }).toEqual({
      code: 1,
      stderr: 'Cannot resolve 1 of 2 networks: --asn.provider is "none"\n',
    });
    expect(server.requests).toHaveLength(1);
  });

  it('answers from a local database, without connection, store or prefix, and reports missing addresses', async () => {
    const database = join(folder, 'asn.mmdb');
    const record = { autonomous_system_number: 13335, autonomous_system_organization: 'Cloudflare, Inc.' };
    writeFileSync(database, writeMmdb([['1.1.1.1/32', record]]));
    expect(await run(['1.1.1.1', '8.8.8.8', '10.0.0.1'], { provider: 'mmdb', database, output: 'csv' })).toEqual({
      code: 1,
      stderr: `Cannot resolve 1 of 2 addresses: not in "${database}"\n`,
      stdout: `address,network,asn,asns,as_name,as_country,bgp_prefix,registry,registry_country
1.1.1.1,public,13335,13335,"Cloudflare, Inc.",,,,
8.8.8.8,public,,,,,,,
10.0.0.1,private,,,,,,,
`,
    });
    expect(server.requests).toEqual([]);
    expect(readdirSync(folder)).toEqual(['asn.mmdb']);
  });

  it('fails at once if the database cannot be read', async () => {
    const database = join(folder, 'missing');
    await expect(run(['10.0.0.1'], { provider: 'tsv', database })).rejects.toThrow(
      new Error(`Cannot read database "${database}": no such file or directory`),
    );
  });

  it('names configured networks, and never sends them or addresses in never_send', async () => {
    const rules = {
      networks: [{ name: 'office', cidrs: [cidr('74.125.0.0/16')], asn: 64_512 }],
      asnNeverSend: [cidr('1.1.1.128/25'), cidr('62.0.0.0/8')],
    };
    const result = await run(['74.125.225.229', '1.1.1.1', '62.239.237.1'], { output: 'jsonl', rules });
    expect(result.code).toBe(0);
    expect(result.stdout.split('\n').map((line) => /"network":"(\w+)","asn":(\w+)/.exec(line)?.slice(1))).toEqual([
      ['office', '64512'],
      ['public', 'null'],
      ['public', 'null'],
      undefined,
    ]);
    expect(server.requests).toEqual([]);
  });

  it('works without a store', async () => {
    const result = await run(['74.125.225.229'], { output: 'jsonl', storagePath: null });
    expect(result.code).toBe(0);
    expect(result.stdout).toContain('"asn":15169');
    expect(readdirSync(folder)).toEqual([]);
  });
});
