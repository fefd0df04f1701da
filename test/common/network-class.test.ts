import { BlockList, isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  cidrContains,
  formatAddress,
  formatCidr,
  ipv4,
  isIPv4,
  parseAddress,
  parseCidr,
} from '../../src/common/address.ts';
import { bucketOf, classify, networkOf } from '../../src/common/network-class.ts';
import type { Address, Cidr, OperatorNetwork } from '../../src/model.ts';

/**
 * The IANA IPv4 and IPv6 Special-Purpose Address Registries and their column "Globally Reachable" (null: N/A), but for
 * ::ffff:0:0/96, which is IPv4 here from the start.
 */
const REGISTRY: readonly (readonly [block: string, name: string, reachable: boolean | null])[] = [
  ['0.0.0.0/8', 'This network', false],
  ['0.0.0.0/32', 'This host on this network', false],
  ['10.0.0.0/8', 'Private-Use', false],
  ['100.64.0.0/10', 'Shared Address Space', false],
  ['127.0.0.0/8', 'Loopback', false],
  ['169.254.0.0/16', 'Link Local', false],
  ['172.16.0.0/12', 'Private-Use', false],
  ['192.0.0.0/24', 'IETF Protocol Assignments', false],
  ['192.0.0.0/29', 'IPv4 Service Continuity Prefix', false],
  ['192.0.0.8/32', 'IPv4 dummy address', false],
  ['192.0.0.9/32', 'Port Control Protocol Anycast', true],
  ['192.0.0.10/32', 'Traversal Using Relays around NAT Anycast', true],
  ['192.0.0.170/32', 'NAT64/DNS64 Discovery', false],
  ['192.0.0.171/32', 'NAT64/DNS64 Discovery', false],
  ['192.0.2.0/24', 'Documentation (TEST-NET-1)', false],
  ['192.31.196.0/24', 'AS112-v4', true],
  ['192.52.193.0/24', 'AMT', true],
  ['192.88.99.0/24', 'Deprecated (6to4 Relay Anycast)', null],
  ['192.88.99.2/32', '6a44-relay anycast address', false],
  ['192.168.0.0/16', 'Private-Use', false],
  ['192.175.48.0/24', 'Direct Delegation AS112 Service', true],
  ['198.18.0.0/15', 'Benchmarking', false],
  ['198.51.100.0/24', 'Documentation (TEST-NET-2)', false],
  ['203.0.113.0/24', 'Documentation (TEST-NET-3)', false],
  ['240.0.0.0/4', 'Reserved', false],
  ['255.255.255.255/32', 'Limited Broadcast', false],
  ['::1/128', 'Loopback Address', false],
  ['::/128', 'Unspecified Address', false],
  ['64:ff9b::/96', 'IPv4-IPv6 Translat.', true],
  ['64:ff9b:1::/48', 'IPv4-IPv6 Translat.', false],
  ['100::/64', 'Discard-Only Address Block', false],
  ['100:0:0:1::/64', 'Dummy IPv6 Prefix', false],
  ['2001::/23', 'IETF Protocol Assignments', false],
  ['2001::/32', 'TEREDO', null],
  ['2001:1::1/128', 'Port Control Protocol Anycast', true],
  ['2001:1::2/128', 'Traversal Using Relays around NAT Anycast', true],
  ['2001:1::3/128', 'DNS-SD Service Registration Protocol Anycast', true],
  ['2001:2::/48', 'Benchmarking', false],
  ['2001:3::/32', 'AMT', true],
  ['2001:4:112::/48', 'AS112-v6', true],
  ['2001:10::/28', 'Deprecated (previously ORCHID)', null],
  ['2001:20::/28', 'ORCHIDv2', true],
  ['2001:30::/28', 'Drone Remote ID Protocol Entity Tags (DETs) Prefix', true],
  ['2001:db8::/32', 'Documentation', false],
  ['2002::/16', '6to4', null],
  ['2620:4f:8000::/48', 'Direct Delegation AS112 Service', true],
  ['3fff::/20', 'Documentation', false],
  ['5f00::/16', 'Segment Routing (SRv6) SIDs', false],
  ['fc00::/7', 'Unique-Local', false],
  ['fe80::/10', 'Link-Local Unicast', false],
];

/** Reachable says the registry, but no network operator is behind them, so that asking would tell nothing. */
const REACHABLE_BUT_NOT_PUBLIC = [
  '192.0.0.9/32',
  '192.0.0.10/32',
  '2001:1::1/128',
  '2001:1::2/128',
  '2001:1::3/128',
  '2001:20::/28',
  '2001:30::/28',
];

function addressOf(text: string): Address {
  const address = parseAddress(text);
  if (!address) throw new SyntaxError(`Cannot read address "${text}"`);
  return address;
}

function cidrOf(text: string): Cidr {
  const cidr = parseCidr(text);
  if (!cidr) throw new SyntaxError(`Cannot read CIDR "${text}"`);
  return cidr;
}

const registryLongestFirst = REGISTRY.map(([block, , reachable]) => {
  const [base = '', length = ''] = block.split('/');
  const family = isIP(base) === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(base, Number(length), family);
  return { block, family, length: Number(length), list, reachable } as const;
}).sort((a, b) => b.length - a.length);

function registryEntryOf(address: Address): { block: string; reachable: boolean | null } | undefined {
  const family = isIPv4(address) ? 'ipv4' : 'ipv6';
  const text = formatAddress(address);
  return registryLongestFirst.find((entry) => entry.family === family && entry.list.check(text, family));
}

/** What the registry, the multicast blocks and the allocation of IPv6 leave for network operators. */
function isForOperators(address: Address): boolean {
  const entry = registryEntryOf(address);
  if (entry) return entry.reachable === true && !REACHABLE_BUT_NOT_PUBLIC.includes(entry.block);
  return isIPv4(address) ? address[3] >>> 28 !== 14 : address[0] >>> 29 === 1;
}

/** The address of a block whose host part is the first bits of `host`, word by word. */
function addressIn({ address, bits }: Cidr, host: Address): Address {
  const fill = (i: 0 | 1 | 2 | 3): number => {
    const free = Math.min(32, Math.max(0, (i + 1) * 32 - bits));
    return (address[i] | (free === 0 ? 0 : host[i] >>> (32 - free))) >>> 0;
  };
  return [fill(0), fill(1), fill(2), fill(3)];
}

const word = fc.integer({ min: 0, max: 0xffffffff });
const words: fc.Arbitrary<Address> = fc.tuple(word, word, word, word);
const within = (cidr: Cidr): fc.Arbitrary<Address> => words.map((host) => addressIn(cidr, host));
const registryBlocks = REGISTRY.map(([block]) => cidrOf(block));
const ipv4Address = fc.oneof(
  word.map(ipv4),
  fc.constantFrom(...registryBlocks.filter(({ address }) => isIPv4(address))).chain(within),
);
const anyAddress = fc.oneof(
  ipv4Address,
  words,
  within(cidrOf('2000::/3')),
  fc.constantFrom(...registryBlocks).chain(within),
);

/** The 128 bits plus `step`, within the family: the ends of IPv4 are followed by nothing. */
function neighbour(address: Address, step: 1n | -1n): Address | undefined {
  const value = address.reduce((bits, next) => (bits << 32n) | BigInt(next), 0n) + step;
  if (value < 0n || value >> 128n !== 0n) return undefined;
  const part = (shift: bigint): number => Number((value >> shift) & 0xffffffffn);
  const next: Address = [part(96n), part(64n), part(32n), part(0n)];
  return isIPv4(next) === isIPv4(address) ? next : undefined;
}

const ALL_ONES: Address = [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff];

const hex = (bits: number): string => `${(bits >>> 16).toString(16)}:${(bits & 0xffff).toString(16)}`;
const dresses: { name: string; dress: (v4: Address, other: number) => string }[] = [
  { name: 'v4-mapped', dress: (v4) => `::ffff:${formatAddress(v4)}` },
  { name: 'NAT64', dress: (v4) => `64:ff9b::${formatAddress(v4)}` },
  { name: '6to4', dress: (v4, other) => `2002:${hex(v4[3])}::${hex(other)}` },
  { name: 'Teredo', dress: (v4, other) => `2001:0:${hex(other)}:0:0:${hex((v4[3] ^ 0xffffffff) >>> 0)}` },
];

describe('classify', () => {
  test.each([
    { name: 'a public address', input: '8.8.8.8', expected: 'public' },
    { name: 'a public IPv6 address', input: '2606:4700:4700::1111', expected: 'public' },
    { name: 'no address yet', input: '0.0.0.0', expected: 'unspecified' },
    { name: 'no IPv6 address yet', input: '::', expected: 'unspecified' },
    { name: 'this network', input: '0.0.0.1', expected: 'reserved' },
    { name: 'RFC 1918, 10/8', input: '10.1.2.3', expected: 'private' },
    { name: 'RFC 1918, 172.16/12', input: '172.31.255.255', expected: 'private' },
    { name: 'the address after 172.16/12', input: '172.32.0.0', expected: 'public' },
    { name: 'RFC 1918, 192.168/16', input: '192.168.0.1', expected: 'private' },
    { name: 'unique-local', input: 'fd12:3456::1', expected: 'private' },
    { name: 'the deprecated site-local', input: 'fec0::1', expected: 'private' },
    { name: 'carrier-grade NAT', input: '100.127.255.255', expected: 'shared' },
    { name: 'the whole of 127/8', input: '127.0.0.53', expected: 'loopback' },
    { name: '::1', input: '::1', expected: 'loopback' },
    { name: 'link-local', input: '169.254.1.1', expected: 'link_local' },
    { name: 'IPv6 link-local', input: 'fe80::1', expected: 'link_local' },
    ...['100.100.100.200', 'fd00:c1::a9fe:a9fe', 'fd20:ce::254', 'fe80::a9fe:a9fe'].map((input) => ({
      name: 'the metadata service of another cloud',
      input,
      expected: 'cloud_metadata',
    })),
    { name: 'the metadata service inside link-local', input: '169.254.169.254', expected: 'cloud_metadata' },
    { name: 'the neighbour of the metadata service', input: '169.254.169.253', expected: 'link_local' },
    { name: 'the metadata service inside unique-local', input: 'fd00:ec2::254', expected: 'cloud_metadata' },
    { name: 'multicast', input: '224.0.0.251', expected: 'multicast' },
    { name: 'administratively scoped multicast', input: '239.255.255.250', expected: 'multicast' },
    { name: 'IPv6 multicast', input: 'ff02::fb', expected: 'multicast' },
    { name: 'TEST-NET-1', input: '192.0.2.45', expected: 'documentation' },
    { name: 'TEST-NET-2', input: '198.51.100.7', expected: 'documentation' },
    { name: 'TEST-NET-3', input: '203.0.113.9', expected: 'documentation' },
    { name: '2001:db8::/32', input: '2001:db8::1', expected: 'documentation' },
    { name: '3fff::/20', input: '3fff:fff::1', expected: 'documentation' },
    { name: 'the address after 3fff::/20', input: '3fff:1000::', expected: 'public' },
    { name: 'benchmarking', input: '198.19.255.255', expected: 'benchmarking' },
    { name: 'IPv6 benchmarking', input: '2001:2::1', expected: 'benchmarking' },
    { name: 'the block after IPv6 benchmarking', input: '2001:2:1::1', expected: 'reserved' },
    { name: 'class E', input: '240.0.0.1', expected: 'reserved' },
    { name: 'broadcast', input: '255.255.255.255', expected: 'reserved' },
    { name: 'IETF protocol assignments', input: '192.0.0.170', expected: 'reserved' },
    { name: 'PCP anycast', input: '192.0.0.9', expected: 'reserved' },
    { name: 'IPv6 PCP anycast', input: '2001:1::1', expected: 'reserved' },
    { name: 'the former 6to4 relay', input: '192.88.99.1', expected: 'reserved' },
    { name: 'AS112', input: '192.175.48.6', expected: 'public' },
    { name: 'AS112 by DNAME', input: '192.31.196.1', expected: 'public' },
    { name: 'AMT', input: '192.52.193.1', expected: 'public' },
    { name: 'IPv6 AS112', input: '2620:4f:8000::6', expected: 'public' },
    { name: 'IPv6 AS112 by DNAME, inside 2001::/23', input: '2001:4:112::1', expected: 'public' },
    { name: 'the block after it', input: '2001:4:113::1', expected: 'reserved' },
    { name: 'IPv6 AMT, inside 2001::/23', input: '2001:3::1', expected: 'public' },
    { name: 'ORCHID', input: '2001:10::1', expected: 'reserved' },
    { name: 'ORCHIDv2', input: '2001:2f::1', expected: 'reserved' },
    { name: 'drone ids', input: '2001:30::1', expected: 'reserved' },
    { name: 'the first allocation after 2001::/23', input: '2001:200::1', expected: 'public' },
    { name: 'IPv4-compatible', input: '::8.8.8.8', expected: 'reserved' },
    { name: 'NAT64 with a layout of the site', input: '64:ff9b:1::808:808', expected: 'reserved' },
    { name: 'discard', input: '100::1', expected: 'reserved' },
    { name: 'the dummy prefix', input: '100:0:0:1::1', expected: 'reserved' },
    { name: 'SRv6', input: '5f00::1', expected: 'reserved' },
    { name: 'IPv6 outside global unicast', input: '4000::1', expected: 'reserved' },
  ])('classifies $name ($input) as $expected', ({ input, expected }) => {
    const address = addressOf(input);
    expect(classify(address)).toEqual({ network: expected, address });
  });

  test.each([
    { name: 'v4-mapped', input: '::ffff:8.8.8.8', inner: '8.8.8.8', network: 'public' },
    { name: 'NAT64', input: '64:ff9b::808:808', inner: '8.8.8.8', network: 'public' },
    { name: '6to4', input: '2002:808:808::1', inner: '8.8.8.8', network: 'public' },
    { name: 'Teredo', input: '2001:0:4136:e378:8000:63bf:3fff:fdd2', inner: '192.0.2.45', network: 'documentation' },
    { name: 'NAT64 of a private address', input: '64:ff9b::10.0.0.1', inner: '10.0.0.1', network: 'private' },
    { name: '6to4 of a private address', input: '2002:c0a8:101::1', inner: '192.168.1.1', network: 'private' },
  ])('extracts the IPv4 address of $name ($input)', ({ input, inner, network }) => {
    expect(classify(addressOf(input))).toEqual({ network, address: addressOf(inner) });
  });

  test.each(dresses)('classifies any $name address like its embedded IPv4 address', ({ dress }) => {
    fc.assert(
      fc.property(ipv4Address, word, (v4, other) => {
        expect(classify(addressOf(dress(v4, other)))).toEqual(classify(v4));
      }),
    );
  });

  test('never classifies a block as public that IANA lists as not globally reachable', () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        const { network, address: counted } = classify(address);
        fc.pre(network === 'public');
        expect(registryEntryOf(address)?.reachable).not.toBe(false);
        expect(registryEntryOf(counted)?.reachable).not.toBe(false);
      }),
      { numRuns: 2_000 },
    );
  });

  test('classifies exactly the blocks for network operators as public', () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        const classified = classify(address);
        expect(classified.network === 'public').toBe(isForOperators(classified.address));
      }),
      { numRuns: 2_000 },
    );
  });

  test.each(REGISTRY)('is correct at both ends of %s (%s) and just outside', (block) => {
    const cidr = cidrOf(block);
    const last = addressIn(cidr, ALL_ONES);
    const probes = [cidr.address, last, neighbour(cidr.address, -1n), neighbour(last, 1n)].filter(
      (a) => a !== undefined,
    );
    const classified = probes.map((probe) => classify(probe));
    expect(classified.map(({ network }) => network === 'public')).toEqual(
      classified.map(({ address }) => isForOperators(address)),
    );
  });
});

describe('networkOf', () => {
  const own = new Set(['192.0.2.5', '10.0.0.5', '127.0.0.1', '::1', 'fe80::5', '2001:db8::5', '169.254.169.254']);
  const isOwn = (address: Address): boolean => own.has(formatAddress(address));
  const operator: OperatorNetwork[] = [
    { name: 'office', cidrs: [cidrOf('203.0.113.0/24'), cidrOf('2001:db8:f::/48')] },
    { name: 'pods', cidrs: [cidrOf('10.0.0.0/8')], asn: 64512 },
    { name: 'build', cidrs: [cidrOf('10.9.0.0/16')] },
    { name: 'late', cidrs: [cidrOf('203.0.113.0/24'), cidrOf('127.0.0.0/8')] },
    { name: 'translated', cidrs: [cidrOf('64:ff9b::9.0.0.0/104')], asn: 64513 },
    { name: 'six', cidrs: [cidrOf('fd00::/8')] },
  ];

  test.each([
    { name: 'an own address', input: '192.0.2.5', network: 'self', address: '192.0.2.5', asn: null },
    { name: 'an own IPv6 address', input: '2001:db8::5', network: 'self', address: '2001:db8::5', asn: null },
    { name: 'an own link-local address', input: 'fe80::5', network: 'self', address: 'fe80::5', asn: null },
    {
      name: 'an own metadata address',
      input: '169.254.169.254',
      network: 'self',
      address: '169.254.169.254',
      asn: null,
    },
    {
      name: 'an own address in a network of the operator',
      input: '10.0.0.5',
      network: 'self',
      address: '10.0.0.5',
      asn: null,
    },
    { name: 'loopback, though own', input: '127.0.0.1', network: 'loopback', address: '127.0.0.1', asn: null },
    { name: 'IPv6 loopback, though own', input: '::1', network: 'loopback', address: '::1', asn: null },
    {
      name: 'loopback, though the operator names it',
      input: '127.0.0.2',
      network: 'loopback',
      address: '127.0.0.2',
      asn: null,
    },
    { name: "an operator's network", input: '2001:db8:f::1', network: 'office', address: '2001:db8:f::1', asn: null },
    { name: "an operator's network with an ASN", input: '10.8.0.1', network: 'pods', address: '10.8.0.1', asn: 64512 },
    {
      name: 'the longest block, whatever the order',
      input: '10.9.0.1',
      network: 'build',
      address: '10.9.0.1',
      asn: null,
    },
    {
      name: 'the first listed of equal blocks',
      input: '203.0.113.9',
      network: 'office',
      address: '203.0.113.9',
      asn: null,
    },
    {
      name: 'a built-in special address the operator covers',
      input: 'fd00:ec2::254',
      network: 'six',
      address: 'fd00:ec2::254',
      asn: null,
    },
    {
      name: 'an own address inside NAT64',
      input: '64:ff9b::192.0.2.5',
      network: 'self',
      address: '192.0.2.5',
      asn: null,
    },
    {
      name: "an operator's network inside 6to4",
      input: '2002:a08:1::1',
      network: 'pods',
      address: '10.8.0.1',
      asn: 64512,
    },
    {
      name: "an operator's block of NAT64 before what is inside",
      input: '64:ff9b::9.9.9.9',
      network: 'translated',
      address: '64:ff9b::909:909',
      asn: 64513,
    },
    {
      name: 'a public address inside NAT64',
      input: '64:ff9b::8.8.8.8',
      network: 'public',
      address: '8.8.8.8',
      asn: null,
    },
    {
      name: 'all else by the built-in classes',
      input: '192.168.1.1',
      network: 'private',
      address: '192.168.1.1',
      asn: null,
    },
    { name: 'a stranger', input: '8.8.8.8', network: 'public', address: '8.8.8.8', asn: null },
  ])('resolves $name', ({ input, network, address, asn }) => {
    expect(networkOf(addressOf(input), isOwn, operator)).toEqual({ network, address: addressOf(address), asn });
  });

  test('equals classify without local addresses and operator networks', () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        expect(networkOf(address, () => false, [])).toEqual({ ...classify(address), asn: null });
      }),
    );
  });

  test('does not depend on the order of different blocks', () => {
    const blocks = ['0.0.0.0/0', '8.0.0.0/7', '8.0.0.0/8', '8.8.0.0/16', '8.8.8.0/24', '8.8.8.8', '::/0', '2000::/3'];
    const networks = blocks.map((block) => ({ name: block, cidrs: [cidrOf(block)] }));
    fc.assert(
      fc.property(
        fc.shuffledSubarray(networks),
        fc.constantFrom('8.8.8.8', '8.8.8.9', '8.8.9.9', '8.9.9.9', '9.9.9.9', '77.7.7.7', '2a00::1').map(addressOf),
        (shuffled, address) => {
          const longest = networks
            .filter(
              (network) => shuffled.includes(network) && network.cidrs.some((cidr) => cidrContains(cidr, address)),
            )
            .sort((a, b) => (b.cidrs[0]?.bits ?? 0) - (a.cidrs[0]?.bits ?? 0))[0];
          expect(networkOf(address, () => false, shuffled).network).toBe(longest?.name ?? 'public');
        },
      ),
    );
  });
});

describe('bucketOf', () => {
  test.each([
    { name: 'the /24 of an IPv4 address', input: '1.2.3.4', expected: '1.2.3.0/24' },
    { name: 'the /48 of an IPv6 address', input: '2606:4700:4700:1:2:3:4:5', expected: '2606:4700:4700::/48' },
    { name: 'the /24 of a v4-mapped address', input: '::ffff:8.8.8.8', expected: '8.8.8.0/24' },
  ])('is $name', ({ input, expected }) => {
    expect(formatCidr(bucketOf(addressOf(input)))).toBe(expected);
  });

  test('of a public address contains no special-purpose address', () => {
    fc.assert(
      fc.property(
        anyAddress.map((address) => classify(address)).filter(({ network }) => network === 'public'),
        words,
        ({ address }, host) => {
          const bucket = bucketOf(address);
          expect(cidrContains(bucket, address)).toBe(true);
          expect(classify(bucket.address)).toEqual({ network: 'public', address: bucket.address });
          const other = addressIn(bucket, host);
          expect(classify(other)).toEqual({ network: 'public', address: other });
        },
      ),
    );
  });

  const finer = [...REGISTRY.map(([block]) => block), '169.254.169.254/32', 'fd00:ec2::254/128'].filter((block) => {
    const { address, bits } = cidrOf(block);
    return bits > (isIPv4(address) ? 120 : 48);
  });
  test.each(finer)('of %s, which is smaller than a bucket, is not queried', (block) => {
    expect(classify(bucketOf(cidrOf(block).address).address).network).not.toBe('public');
  });
});
