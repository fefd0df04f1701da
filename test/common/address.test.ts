import { isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  cidrContains,
  compareAddresses,
  formatAddress,
  formatCidr,
  formatEndpoint,
  ipv4,
  isIPv4,
  maskAddress,
  parseAddress,
  parseCidr,
  sameAddress,
} from '../../src/common/address.ts';
import type { Address, Cidr } from '../../src/model.ts';

const word = fc.oneof(
  fc.constantFrom(0, 1, 0xffff, 0x10000, 0xffff0000, 0x80000000, 0xffffffff),
  fc.integer({ min: 0, max: 0xffffffff }),
);
const anyAddress: fc.Arbitrary<Address> = fc.oneof(word.map(ipv4), fc.tuple(word, word, word, word));
const anyCidr: fc.Arbitrary<Cidr> = fc
  .tuple(anyAddress, fc.integer({ min: 0, max: 128 }))
  .map(([address, bits]) => ({ address: maskAddress(address, bits), bits }));
/** Texts that are almost addresses: the alphabet of addresses, and valid addresses with one character replaced. */
const addressLike = fc.oneof(
  fc.string({ unit: fc.constantFrom(...Array.from('0123456789abcdefABCDEF:.:.::1%/ g')), maxLength: 46 }),
  fc
    .tuple(
      fc.oneof(fc.ipV4(), fc.ipV6(), anyAddress.map(formatAddress)),
      fc.nat(45),
      fc.constantFrom(...Array.from(':.0fg /')),
    )
    .map(([text, at, character]) => text.slice(0, at) + character + text.slice(at + 1)),
);

function big(address: Address): bigint {
  return address.reduce((value, bits) => (value << 32n) | BigInt(bits), 0n);
}

function flipBit(address: Address, bit: number): Address {
  const flip = (bits: number, i: number): number => (bit >>> 5 === i ? (bits ^ (1 << (31 - (bit & 31)))) >>> 0 : bits);
  return [flip(address[0], 0), flip(address[1], 1), flip(address[2], 2), flip(address[3], 3)];
}

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

describe('parseAddress', () => {
  test.each<{ name: string; input: string; expected: Address | undefined }>([
    { name: 'an IPv4 address', input: '192.0.2.1', expected: [0, 0, 0xffff, 0xc0000201] },
    { name: 'the highest IPv4 address', input: '255.255.255.255', expected: [0, 0, 0xffff, 0xffffffff] },
    { name: 'a full IPv6 address', input: '2001:db8:1:2:3:4:5:6', expected: [0x20010db8, 0x10002, 0x30004, 0x50006] },
    { name: 'the unspecified IPv6 address', input: '::', expected: [0, 0, 0, 0] },
    {
      name: '"::" that stands for one group',
      input: '1:2:3:4:5:6:7::',
      expected: [0x10002, 0x30004, 0x50006, 0x70000],
    },
    {
      name: 'a v4-mapped address is the IPv4 address',
      input: '::ffff:192.0.2.1',
      expected: [0, 0, 0xffff, 0xc0000201],
    },
    { name: 'v4-mapped in hexadecimal too', input: '::FFFF:C000:201', expected: [0, 0, 0xffff, 0xc0000201] },
    {
      name: 'a quad at the end of any IPv6 address',
      input: '64:ff9b::8.8.8.8',
      expected: [0x64ff9b, 0, 0, 0x08080808],
    },
    {
      name: 'the longest text of an address',
      input: '0000:0000:0000:0000:0000:ffff:255.255.255.255',
      expected: [0, 0, 0xffff, 0xffffffff],
    },
    { name: 'nothing', input: '', expected: undefined },
    { name: 'a leading zero, which some read as octal', input: '192.0.02.1', expected: undefined },
    { name: 'a byte above 255', input: '192.0.2.256', expected: undefined },
    { name: 'three bytes', input: '192.0.2', expected: undefined },
    { name: 'a zone', input: 'fe80::1%eth0', expected: undefined },
    { name: 'brackets', input: '[::1]', expected: undefined },
    { name: 'a port', input: '192.0.2.1:443', expected: undefined },
    { name: 'seven groups', input: '1:2:3:4:5:6:7', expected: undefined },
    { name: 'nine groups', input: '1:2:3:4:5:6:7:8:9', expected: undefined },
    { name: '"::" that stands for nothing', input: '1:2:3:4::5:6:7:8', expected: undefined },
    { name: 'two "::"', input: '1::2::3', expected: undefined },
    { name: 'three colons', input: ':::', expected: undefined },
    { name: 'a lone colon at the end', input: '1::2:', expected: undefined },
    { name: 'five digits in a group', input: '::12345', expected: undefined },
    { name: 'a quad that is not at the end', input: '::192.0.2.1:1', expected: undefined },
    { name: 'a quad before "::"', input: '192.0.2.1::', expected: undefined },
    { name: 'blanks', input: ' ::1', expected: undefined },
    { name: 'a line end', input: '192.0.2.1\n', expected: undefined },
  ])('parses or rejects $name', ({ input, expected }) => {
    expect(parseAddress(input)).toEqual(expected);
  });

  test('agrees with node:net except for zones', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6(), addressLike, fc.string()), (text) => {
        expect(parseAddress(text) !== undefined).toBe(isIP(text) !== 0 && !text.includes('%'));
      }),
      { numRuns: 5_000 },
    );
  });

  test('is the inverse of formatAddress', () => {
    fc.assert(
      fc.property(anyAddress, (address) => {
        expect(parseAddress(formatAddress(address))).toEqual(address);
      }),
    );
  });
});

describe('formatAddress', () => {
  test.each([
    { name: 'leading zeros are dropped (4.1)', input: '2001:0db8::0001', expected: '2001:db8::1' },
    {
      name: 'a zero group is one digit (4.1)',
      input: '2001:db8:aaaa:bbbb:cccc:dddd:0:1',
      expected: '2001:db8:aaaa:bbbb:cccc:dddd:0:1',
    },
    { name: '"::" shortens as much as possible (4.2.1)', input: '2001:db8:0:0:0:0:2:1', expected: '2001:db8::2:1' },
    { name: '"::" never stands for one group (4.2.2)', input: '2001:db8::1:1:1:1:1', expected: '2001:db8:0:1:1:1:1:1' },
    { name: '"::" takes the longest run (4.2.3)', input: '2001:0:0:1:0:0:0:1', expected: '2001:0:0:1::1' },
    {
      name: '"::" takes the first of equal runs (4.2.3)',
      input: '2001:db8:0:0:1:0:0:1',
      expected: '2001:db8::1:0:0:1',
    },
    { name: 'letters are lower case (4.3)', input: '2001:DB8::AAAA', expected: '2001:db8::aaaa' },
    { name: 'a run at the end', input: '2001:db8:0:0:0:0:0:0', expected: '2001:db8::' },
    { name: 'a run at the start', input: '0:0:0:0:0:0:0:1', expected: '::1' },
    { name: 'all zero', input: '0:0:0:0:0:0:0:0', expected: '::' },
    { name: 'v4-mapped is IPv4', input: '::ffff:c000:201', expected: '192.0.2.1' },
    { name: 'IPv4', input: '255.0.10.1', expected: '255.0.10.1' },
  ])('follows RFC 5952: $name', ({ input, expected }) => {
    expect(formatAddress(addressOf(input))).toBe(expected);
  });

  test('formats IPv6 like the URL standard', () => {
    fc.assert(
      fc.property(anyAddress, fc.ipV6(), (address, text) => {
        for (const input of [formatAddress(address), text]) {
          const parsed = addressOf(input);
          if (!isIPv4(parsed)) expect(`[${formatAddress(parsed)}]`).toBe(new URL(`http://[${input}]`).hostname);
        }
      }),
    );
  });
});

test.each([
  { name: 'IPv4', address: '192.0.2.1', port: 443, expected: '192.0.2.1:443' },
  { name: 'IPv6 in brackets', address: '2001:db8::1', port: 443, expected: '[2001:db8::1]:443' },
  { name: 'v4-mapped as IPv4', address: '::ffff:192.0.2.1', port: 0, expected: '192.0.2.1:0' },
])('formatEndpoint formats $name', ({ address, port, expected }) => {
  expect(formatEndpoint(addressOf(address), port)).toBe(expected);
});

describe('parseCidr', () => {
  test.each<{ name: string; input: string; expected: Cidr | undefined }>([
    { name: 'an IPv4 block', input: '10.0.0.0/8', expected: { address: ipv4(0x0a000000), bits: 104 } },
    { name: 'all IPv4', input: '0.0.0.0/0', expected: { address: ipv4(0), bits: 96 } },
    { name: 'an IPv6 block', input: '2001:db8::/32', expected: { address: [0x20010db8, 0, 0, 0], bits: 32 } },
    { name: 'all IPv6', input: '::/0', expected: { address: [0, 0, 0, 0], bits: 0 } },
    { name: 'a bare IPv4 address', input: '192.0.2.1', expected: { address: ipv4(0xc0000201), bits: 128 } },
    { name: 'a bare IPv6 address', input: '::1', expected: { address: [0, 0, 0, 1], bits: 128 } },
    { name: 'a v4-mapped block', input: '::ffff:10.0.0.0/104', expected: { address: ipv4(0x0a000000), bits: 104 } },
    { name: 'bits after the prefix', input: '10.1.2.3/8', expected: undefined },
    { name: 'a prefix that cuts the v4-mapped mark', input: '::ffff:10.0.0.0/8', expected: undefined },
    { name: 'an IPv4 prefix above 32', input: '10.0.0.0/33', expected: undefined },
    { name: 'an IPv6 prefix above 128', input: '::/129', expected: undefined },
    { name: 'no prefix after the slash', input: '10.0.0.0/', expected: undefined },
    { name: 'a prefix with a leading zero', input: '10.0.0.0/08', expected: undefined },
    { name: 'a negative prefix', input: '0.0.0.0/-1', expected: undefined },
    { name: 'a netmask', input: '10.0.0.0/255.0.0.0', expected: undefined },
    { name: 'two slashes', input: '10.0.0.0/8/8', expected: undefined },
    { name: 'no address', input: '/8', expected: undefined },
  ])('parses or rejects $name', ({ input, expected }) => {
    expect(parseCidr(input)).toEqual(expected);
  });

  test('is the inverse of formatCidr', () => {
    fc.assert(
      fc.property(anyCidr, (cidr) => {
        expect(parseCidr(formatCidr(cidr))).toEqual(cidr);
      }),
    );
  });

  test('never throws', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), addressLike), fc.string(), (base, length) => {
        parseCidr(`${base}/${length}`);
      }),
    );
  });
});

describe('cidrContains', () => {
  test.each([
    { name: 'the first address', cidr: '10.0.0.0/8', address: '10.0.0.0', expected: true },
    { name: 'the last address', cidr: '10.0.0.0/8', address: '10.255.255.255', expected: true },
    { name: 'not the address after it', cidr: '10.0.0.0/8', address: '11.0.0.0', expected: false },
    { name: 'a prefix that ends inside a word', cidr: '2001:db8::/33', address: '2001:db8:7fff::1', expected: true },
    {
      name: 'not beyond a prefix that ends inside a word',
      cidr: '2001:db8::/33',
      address: '2001:db8:8000::1',
      expected: false,
    },
    { name: 'a block of one', cidr: '::1', address: '::1', expected: true },
    { name: 'not the neighbour of a block of one', cidr: '::1', address: '::2', expected: false },
    { name: 'any IPv4 address in 0.0.0.0/0', cidr: '0.0.0.0/0', address: '203.0.113.9', expected: true },
    { name: 'no IPv6 address in 0.0.0.0/0', cidr: '0.0.0.0/0', address: '::1', expected: false },
    { name: 'any IPv6 address in ::/0', cidr: '::/0', address: '2001:db8::1', expected: true },
    { name: 'no IPv4 address in ::/0', cidr: '::/0', address: '192.0.2.1', expected: false },
    { name: 'no IPv4 address in ::/80', cidr: '::/80', address: '192.0.2.1', expected: false },
  ])('contains $name', ({ cidr, address, expected }) => {
    expect(cidrContains(cidrOf(cidr), addressOf(address))).toBe(expected);
  });

  test('depends only on the prefix bits', () => {
    const length = { min: 0, max: 128 };
    fc.assert(
      fc.property(anyAddress, fc.integer(length), fc.nat(127), (address, anyLength, bit) => {
        const bits = isIPv4(address) ? Math.max(96, anyLength) : anyLength;
        const cidr = { address: maskAddress(address, bits), bits };
        const flipped = flipBit(address, bit);
        expect(cidrContains(cidr, address)).toBe(true);
        expect(cidrContains(cidr, flipped)).toBe(bit >= bits && isIPv4(flipped) === isIPv4(address));
      }),
    );
  });
});

test('maskAddress keeps the prefix bits and clears the rest', () => {
  fc.assert(
    fc.property(anyAddress, fc.integer({ min: 0, max: 128 }), (address, bits) => {
      const cleared = 128n - BigInt(bits);
      expect(big(maskAddress(address, bits))).toBe((big(address) >> cleared) << cleared);
    }),
  );
});

test('compareAddresses orders by 128 bits and agrees with sameAddress', () => {
  fc.assert(
    fc.property(anyAddress, anyAddress, (a, b) => {
      const order = big(a) < big(b) ? -1 : big(a) > big(b) ? 1 : 0;
      expect(Math.sign(compareAddresses(a, b))).toBe(order);
      expect(sameAddress(a, b)).toBe(order === 0);
      expect(sameAddress(a, [...a])).toBe(true);
    }),
  );
});
