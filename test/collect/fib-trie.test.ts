import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAddress, formatCidr, ipv4, maskAddress, parseAddress } from '../../src/common/address.ts';
import { FibTrie, ownAddresses, parseIfInet6 } from '../../src/collect/fib-trie.ts';
import type { Address, Cidr } from '../../src/model.ts';

/** Recorded on Linux 6.18: one table without policy rules, so that the kernel prints it twice; 203.0.113.0/24 is a local route. */
const TABLE = `  +-- 0.0.0.0/0 2 0 2
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 192.0.0.0/4 2 0 1
        +-- 192.0.2.0/24 2 0 2
           +-- 192.0.2.0/29 2 0 2
              |-- 192.0.2.0
                 /24 link UNICAST
              |-- 192.0.2.7
                 /32 host LOCAL
           |-- 192.0.2.255
              /32 link BROADCAST
        |-- 198.51.100.9
           /32 host LOCAL
        |-- 203.0.113.0
           /24 host LOCAL
`;
const MERGED = `Main:\n${TABLE}Local:\n${TABLE}`;

/** The same host after `ip rule add table 77`, with a local route there. */
const SPLIT = `Id 77:
  |-- 192.0.2.200
     /32 host LOCAL
Main:
  |-- 192.0.2.0
     /24 link UNICAST
Local:
${TABLE}`;

/** TPROXY as Cilium sets it up, and as two halves; both tables hold a default route and a connected one too. */
const TPROXY = `Id 100:
  +-- 0.0.0.0/0 2 0 2
     |-- 0.0.0.0
        /1 host LOCAL
     |-- 128.0.0.0
        /1 host LOCAL
Id 2004:
  |-- 0.0.0.0
     /0 host LOCAL
Id 2005:
  |-- 0.0.0.0
     /0 universe UNICAST
  |-- 192.0.2.0
     /24 link UNICAST
     /29 host LOCAL
  |-- 192.0.2.201
     /32 host LOCAL
${MERGED}`;

/** What the kernel adds to the table of a VRF for 10.1.0.5/24, 10.9.9.0/31 and a loopback address, next to TPROXY in it. */
const VRF = `Id 10:
  +-- 0.0.0.0/0 2 0 2
     |-- 0.0.0.0
        /0 universe UNREACHABLE
        /0 host LOCAL
     |-- 10.1.0.0
        /24 link UNICAST
     |-- 10.1.0.5
        /32 host LOCAL
     |-- 10.1.0.255
        /32 link BROADCAST
${MERGED}`;
const VRF_OF_LINKS = `Id 11:
  |-- 10.9.9.0
     /31 link UNICAST
     /32 host LOCAL
  |-- 10.7.7.7
     /32 host LOCAL
Local:
  |-- 127.0.0.0
     /8 host LOCAL
`;

function localRoutes(text: string): Cidr[] {
  const fibTrie = new FibTrie();
  for (const line of text.split('\n')) fibTrie.parseLine(line);
  return fibTrie.local;
}

/** Recorded: 2001:db8::7 is usable on v0 and was refused as a duplicate on v1; fe80::1 is still being tried. */
const IF_INET6 = `20010db8000000000000000000000007 02 40 00 c8       v1
20010db8000000000000000000000007 03 40 00 80       v0
fe800000000000000000000000000001 02 40 20 c0       v1
20010db8000000000000000000000006 01 40 00 82       lo
20010db8000000000000000000000008 02 40 00 88       v1
00000000000000000000000000000001 01 80 10 80       lo
`;

describe('FibTrie', () => {
  const LOCAL = ['127.0.0.0/8', '127.0.0.1/32', '192.0.2.7/32', '198.51.100.9/32', '203.0.113.0/24'];

  test.each([
    { name: 'a table that is printed twice', text: MERGED, expected: LOCAL },
    { name: 'a table of a policy rule is left out', text: SPLIT, expected: LOCAL },
    { name: 'prefixes of any length in tables of policy rules are left out', text: TPROXY, expected: LOCAL },
    { name: 'the table of a VRF has the addresses of its interfaces', text: VRF, expected: [...LOCAL, '10.1.0.5/32'] },
    {
      name: 'a /31 link in the table of a VRF has its address',
      text: VRF_OF_LINKS,
      expected: ['127.0.0.0/8', '10.9.9.0/32'],
    },
    {
      name: 'a local route of table main is left out when table local is apart',
      text: 'Main:\n  |-- 203.0.113.0\n     /24 host LOCAL\nLocal:\n  |-- 192.0.2.7\n     /32 host LOCAL\n',
      expected: ['192.0.2.7/32'],
    },
    {
      name: 'a file that was cut before table local',
      text: 'Id 5:\n  |-- 0.0.0.0\n     /0 host LOCAL\nMain:\n  |-- 192.0.2.7\n     /32 host LOCAL\n',
      expected: ['192.0.2.7/32'],
    },
    {
      name: 'a leaf with several lines, one with a type of service',
      text: 'Local:\n  |-- 10.0.0.0\n     /8 link UNICAST\n     /24 host LOCAL tos=16\n     /32 scope=9 LOCAL\n',
      expected: ['10.0.0.0/24', '10.0.0.0/32'],
    },
    {
      name: 'lines that are none',
      text: 'Local:\n     /32 host LOCAL\n  |-- 10.0.0.256\n     /32 host LOCAL\n  |-- 10.0.0.1\n     /33 host LOCAL\n',
      expected: [],
    },
    { name: 'an empty file', text: '', expected: [] },
  ])('$name', ({ text, expected }) => {
    expect(localRoutes(text).map(formatCidr)).toEqual(expected);
  });
});

describe('parseIfInet6', () => {
  test.each([
    {
      name: 'tentative and duplicate addresses are left out',
      text: IF_INET6,
      expected: ['2001:db8::7', '2001:db8::6', '::1'],
    },
    {
      name: 'an interface with a number of three digits',
      text: 'fe80000000000000a8013efffe06b7c2 1f4 40 20 80   dummy0\n',
      expected: ['fe80::a801:3eff:fe06:b7c2'],
    },
    { name: 'lines that are none', text: '20010db8 02 40 00 80 v1\n::1 01 80 10 80 lo\n', expected: [] },
    { name: 'an empty file', text: '', expected: [] },
  ])('$name', ({ text, expected }) => {
    expect(parseIfInet6(text).map(formatAddress)).toEqual(expected);
  });
});

describe('ownAddresses', () => {
  const own = ownAddresses(localRoutes(SPLIT), IF_INET6);

  test.each([
    { address: '127.0.0.1', expected: true },
    { address: '127.9.9.9', expected: true },
    { address: '192.0.2.7', expected: true },
    { address: '192.0.2.8', expected: false },
    { address: '192.0.2.255', expected: false },
    { address: '192.0.2.200', expected: false },
    { address: '203.0.113.77', expected: true },
    { address: '::1', expected: true },
    { address: '2001:db8::7', expected: true },
    { address: '2001:db8::8', expected: false },
    { address: 'fe80::1', expected: false },
    { address: '::127.0.0.1', expected: false },
  ])('$address: $expected', ({ address, expected }) => {
    const parsed = parseAddress(address);
    expect(parsed && own.has(parsed)).toBe(expected);
  });

  test('a namespace without these files has no address', () => {
    expect(ownAddresses([], null).has(ipv4(0x7f000001))).toBe(false);
  });

  test('every address of every block is found, and no other', () => {
    const word = fc.nat(0xffffffff);
    const near = fc.tuple(fc.constantFrom(0x0a000000, 0xc0000200), fc.nat(1023)).map(([base, low]) => base + low);
    fc.assert(
      fc.property(
        fc.array(fc.record({ address: near, length: fc.integer({ min: 20, max: 32 }) })),
        fc.array(fc.tuple(word, word, word, word)),
        fc.array(fc.oneof(near, word)),
        (blocks, six, asked) => {
          const masked = blocks.map(({ address, length }) => ({
            length,
            address: maskAddress(ipv4(address), 96 + length),
          }));
          const trie = masked.map(
            (block) => `  |-- ${formatAddress(block.address)}\n     /${block.length} host LOCAL\n`,
          );
          const lines = six.map(
            (words) => `${words.map((w) => w.toString(16).padStart(8, '0')).join('')} 01 40 00 80 eth0\n`,
          );
          const mine = ownAddresses(localRoutes(`Local:\n${trie.join('')}`), lines.join(''));
          for (const address of six) expect(mine.has(address)).toBe(true);
          for (const bits of asked) {
            const inBlock = masked.some(({ address, length }) => {
              const size = 2 ** (32 - length);
              return bits >= address[3] && bits < address[3] + size;
            });
            expect(mine.has(ipv4(bits))).toBe(inBlock);
          }
        },
      ),
    );
  });

  test('never throws on any text', () => {
    const anyText = fc
      .array(
        fc.oneof(
          fc.string(),
          fc.constantFrom('\n', '\nId 7:\n', 'Local:\n', '  |-- ', '     /24 host LOCAL', '10.0.0.1', 'f'.repeat(32)),
        ),
      )
      .map((parts) => parts.join(''));
    const address: fc.Arbitrary<Address> = fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat());
    fc.assert(fc.property(anyText, anyText, address, (a, b, c) => void ownAddresses(localRoutes(a), b).has(c)));
  });
});
