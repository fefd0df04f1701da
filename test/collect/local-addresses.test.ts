import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAddress, formatCidr, ipv4, maskAddress, parseAddress } from '../../src/address.ts';
import { ownAddresses, parseFibTrie, parseIfInet6 } from '../../src/collect/local-addresses.ts';
import type { Address } from '../../src/model.ts';

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

/** The same host after `ip rule add table 77`. */
const SPLIT = `Id 77:
  |-- 192.0.2.200
     /32 host LOCAL
Main:
  |-- 192.0.2.0
     /24 link UNICAST
Local:
${TABLE}`;

/** Recorded: 2001:db8::7 is usable on v0 and was refused as a duplicate on v1; fe80::1 is still being tried. */
const IF_INET6 = `20010db8000000000000000000000007 02 40 00 c8       v1
20010db8000000000000000000000007 03 40 00 80       v0
fe800000000000000000000000000001 02 40 20 c0       v1
20010db8000000000000000000000006 01 40 00 82       lo
20010db8000000000000000000000008 02 40 00 88       v1
00000000000000000000000000000001 01 80 10 80       lo
`;

describe('parseFibTrie', () => {
  const LOCAL = ['127.0.0.0/8', '127.0.0.1/32', '192.0.2.7/32', '198.51.100.9/32', '203.0.113.0/24'];

  test.each([
    { name: 'a table that is printed twice', text: MERGED, expected: LOCAL },
    { name: 'tables of policy rules', text: SPLIT, expected: ['192.0.2.200/32', ...LOCAL] },
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
    expect(parseFibTrie(text).map(formatCidr)).toEqual(expected);
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
  const own = ownAddresses(SPLIT, IF_INET6);

  test.each([
    { address: '127.0.0.1', expected: true },
    { address: '127.9.9.9', expected: true },
    { address: '192.0.2.7', expected: true },
    { address: '192.0.2.8', expected: false },
    { address: '192.0.2.255', expected: false },
    { address: '192.0.2.200', expected: true },
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
    expect(ownAddresses(null, null).has(ipv4(0x7f000001))).toBe(false);
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
          const mine = ownAddresses(trie.join(''), lines.join(''));
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
      .array(fc.oneof(fc.string(), fc.constantFrom('\n', '  |-- ', '     /24 host LOCAL', '10.0.0.1', 'f'.repeat(32))))
      .map((parts) => parts.join(''));
    const address: fc.Arbitrary<Address> = fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat());
    fc.assert(fc.property(anyText, anyText, address, (a, b, c) => void ownAddresses(a, b).has(c)));
  });
});
