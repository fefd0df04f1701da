import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseServices } from '../../src/common/etc-services.ts';
import { ConnectionTable } from '../../src/collect/connection-table.ts';
import type { PortRange } from '../../src/collect/direction.ts';
import { CLOSE, ESTABLISHED, LISTEN, SYN_RECV, SYN_SENT, TIME_WAIT } from '../../src/collect/net-tcp-udp-raw.ts';
import { scan, type KernelRow } from '../support/kernel-rows.ts';

const SERVICES = parseServices(`
ftp-data 20/tcp
ftp 21/tcp
ssh 22/tcp
domain 53/tcp
domain 53/udp
https 443/tcp
https 443/udp
shell 514/tcp
rsync 873/tcp
imaps 993/tcp
nfs 2049/tcp
nfs 2049/udp
http-alt 8080/tcp
bacnet 47808/tcp
`);
const OWN = '192.0.2.5';
const REMOTE = '198.51.100.7';

interface Seen {
  readonly transport?: 'tcp' | 'udp' | 'raw';
  readonly state?: number;
  readonly local?: string;
  readonly services?: boolean;
  readonly ephemeral?: PortRange;
  readonly own?: readonly string[] | null;
  readonly others?: readonly KernelRow[];
}

/** The direction and evidence of a connection between two ports. It counts as a guess as long as it is there, if it is one. */
function directionOf(localPort: number, remotePort: number, seen: Seen = {}): string {
  const { transport = 'tcp', state = ESTABLISHED, local = OWN, own = [OWN], ephemeral, others = [] } = seen;
  const table = new ConnectionTable(0, seen.services === false ? undefined : SERVICES);
  const row = { table: transport, state, local: `${local}:${localPort}`, remote: `${REMOTE}:${remotePort}`, inode: 7 };
  scan(table, [row, ...others], { own, ...(ephemeral ? { ephemeral } : {}) });
  const i = table.indexOf(7);
  expect(table.guessed).toBe(table.evidence[i] === 'port' ? 1 : 0);
  const found = `${table.direction[i]} ${table.evidence[i] ?? 'row'}`;
  scan(table, []);
  expect(table.guessed).toBe(0);
  return found;
}

describe('without a listener, the ports of a connection decide', () => {
  test.each<{ name: string; local: number; remote: number; expected: string; seen?: Seen }>([
    { name: 'a server whose listener is gone', local: 9000, remote: 41_001, expected: 'inbound row' },
    { name: 'sshd whose listener is gone', local: 22, remote: 51_235, expected: 'inbound row' },
    { name: 'a client', local: 41_001, remote: 443, expected: 'outbound row' },
    { name: 'a client of a port without a service', local: 41_001, remote: 9000, expected: 'outbound row' },
    { name: 'passive FTP in a range of ports below', local: 21_050, remote: 41_000, expected: 'inbound row' },
    { name: 'passive FTP on an ephemeral port', local: 50_012, remote: 41_000, expected: 'outbound port' },
    { name: 'active FTP, the server', local: 20, remote: 51_234, expected: 'outbound row' },
    { name: 'active FTP, the client', local: 51_234, remote: 20, expected: 'inbound row' },
    { name: 'the NFS client', local: 845, remote: 2049, expected: 'outbound row' },
    { name: 'the NFS client on the port of a service', local: 873, remote: 2049, expected: 'outbound port' },
    { name: 'the NFS server', local: 2049, remote: 845, expected: 'inbound row' },
    {
      name: 'the NFS client without services',
      local: 845,
      remote: 2049,
      expected: 'outbound port',
      seen: { services: false },
    },
    { name: 'the GlusterFS client', local: 1021, remote: 24_007, expected: 'outbound port' },
    { name: 'the GlusterFS client of a brick', local: 1019, remote: 49_152, expected: 'outbound port' },
    { name: 'a GlusterFS brick', local: 49_152, remote: 1019, expected: 'inbound port' },
    { name: 'rsh', local: 1022, remote: 514, expected: 'outbound row' },
    { name: 'the server of rsh', local: 514, remote: 1022, expected: 'inbound row' },
    { name: 'a client with a bound port', local: 5000, remote: 443, expected: 'outbound row' },
    { name: 'a server behind whose client is a NAT', local: 8080, remote: 12_345, expected: 'inbound row' },
    { name: 'a server on a reserved port, with a NAT', local: 993, remote: 12_345, expected: 'inbound port' },
    { name: 'no service on either side', local: 9000, remote: 12_345, expected: 'inbound port' },
    { name: 'services on both sides', local: 22, remote: 443, expected: 'outbound port' },
    { name: 'equal ports', local: 7946, remote: 7946, expected: 'outbound port' },
    { name: 'a name of an ephemeral port', local: 50_012, remote: 47_808, expected: 'outbound port' },
    {
      name: 'an ephemeral range that covers all ports',
      local: 41_001,
      remote: 8080,
      expected: 'outbound row',
      seen: { ephemeral: [1024, 65_535] },
    },
    {
      name: 'the same from the other end',
      local: 8080,
      remote: 41_001,
      expected: 'inbound row',
      seen: { ephemeral: [1024, 65_535] },
    },
    {
      name: 'a low ephemeral range',
      local: 12_000,
      remote: 41_001,
      expected: 'outbound row',
      seen: { ephemeral: [10_000, 20_000] },
    },
    { name: 'UDP', local: 41_001, remote: 53, expected: 'outbound row', seen: { transport: 'udp' } },
    { name: 'UDP has no FTP', local: 20, remote: 51_234, expected: 'inbound row', seen: { transport: 'udp' } },
    {
      name: 'a raw socket, which accepts nothing',
      local: 1,
      remote: 0,
      expected: 'outbound row',
      seen: { transport: 'raw' },
    },
    { name: 'SYN_SENT', local: 50_012, remote: 41_000, expected: 'outbound row', seen: { state: SYN_SENT } },
    {
      name: 'SYN_SENT from the port of a listener',
      local: 9000,
      remote: 41_000,
      expected: 'outbound row',
      seen: { state: SYN_SENT, others: [listener(9000)] },
    },
    { name: 'SYN_RECV', local: 50_012, remote: 41_000, expected: 'inbound row', seen: { state: SYN_RECV } },
    { name: 'TIME_WAIT', local: 9000, remote: 41_001, expected: 'inbound row', seen: { state: TIME_WAIT } },
    {
      name: 'a listener proves more than ports',
      local: 1019,
      remote: 24_007,
      expected: 'inbound listener',
      seen: { others: [listener(1019)] },
    },
    {
      name: 'a foreign local address (TPROXY)',
      local: 50_012,
      remote: 41_000,
      expected: 'inbound row',
      seen: { local: '203.0.113.9' },
    },
    {
      name: 'a proxy that connects as its client',
      local: 50_012,
      remote: 443,
      expected: 'outbound row',
      seen: { local: '203.0.113.9' },
    },
    {
      name: 'unknown own addresses prove nothing',
      local: 50_012,
      remote: 41_000,
      expected: 'outbound port',
      seen: { local: '203.0.113.9', own: null },
    },
  ])('$name: $local to $remote is $expected', ({ local, remote, expected, seen }) => {
    expect(directionOf(local, remote, seen)).toBe(expected);
  });

  test('the two ends of a connection never serve both, and a listener elsewhere changes nothing', () => {
    const port = fc.oneof(
      fc.integer({ min: 1, max: 65_535 }),
      fc.constantFrom(20, 22, 443, 514, 873, 1019, 2049, 8080, 49_152),
    );
    fc.assert(
      fc.property(port, port, fc.boolean(), (a, b, services) => {
        const [here, there] = [directionOf(a, b, { services }), directionOf(b, a, { services })];
        expect(here.startsWith('inbound') && there.startsWith('inbound')).toBe(false);
        // Of two equal or two ephemeral ports neither is the service.
        if (!here.includes('port') || !there.includes('port')) expect(here.slice(0, 2)).not.toBe(there.slice(0, 2));
        const others = [listener(a === 65_535 ? 1 : a + 1)];
        expect(directionOf(a, b, { services, others })).toBe(here);
      }),
    );
  });

  test.each([
    { local: 1019, remote: 2049, serves: 'remote' },
    { local: 51_234, remote: 20, serves: 'local' },
    { local: 40_000, remote: 52_000, serves: 'local' },
  ])('of a loopback connection from $local to $remote the $serves end serves', ({ local, remote, serves }) => {
    const table = new ConnectionTable(0, SERVICES);
    const row = { table: 'tcp', state: ESTABLISHED } as const;
    scan(table, [
      { ...row, local: `127.0.0.1:${local}`, remote: `127.0.0.1:${remote}`, inode: 1 },
      { ...row, local: `127.0.0.1:${remote}`, remote: `127.0.0.1:${local}`, inode: 2 },
    ]);
    expect([1, 2].map((inode) => table.serves[table.indexOf(inode)])).toEqual(serves === 'local' ? [1, 0] : [0, 1]);
    expect(table.guessed).toBe(0);
  });
});

function listener(port: number, table: 'tcp' | 'udp' = 'tcp'): KernelRow {
  return { table, state: table === 'tcp' ? LISTEN : CLOSE, local: `0.0.0.0:${port}`, inode: 1 };
}

describe('a user with a listener on each of many addresses', () => {
  const COUNT = 16_000;
  const addressOf = (n: number): string => `127.${1 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;

  test.each<{ name: string; local: (n: number) => string }>([
    { name: 'addresses', local: addressOf },
    { name: 'sockets of one address (SO_REUSEPORT)', local: () => '192.0.2.9' },
  ])('gets its directions without a search through all $name', ({ local }) => {
    const table = new ConnectionTable(0, SERVICES);
    const numbers = Array.from({ length: COUNT }, (_, n) => n);
    // A search for each connection would compare 256,000,000 addresses.
    scan(table, [
      ...numbers.map((n) => ({ ...listener(9000), local: `${local(n)}:9000`, inode: 1 + n })),
      ...numbers.map((n) => ({
        table: 'tcp' as const,
        state: ESTABLISHED,
        local: `${n % 2 === 0 ? local(n) : OWN}:9000`,
        remote: `198.51.${n >> 8}.${n & 255}:12345`,
        inode: 1 + COUNT + n,
      })),
    ]);
    expect(numbers.filter((n) => table.direction[table.indexOf(1 + COUNT + n)] === 'inbound')).toHaveLength(COUNT);
    const evidence = numbers.map((n) => table.evidence[table.indexOf(1 + COUNT + n)] ?? 'row');
    expect(evidence.filter((shown) => shown === 'listener')).toHaveLength(COUNT / 2);
    scan(table, []);
    expect(table.size).toBe(0);
  });
});
