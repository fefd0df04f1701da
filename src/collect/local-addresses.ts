import { isIPv4, maskAddress, parseAddress } from '../address.ts';
import type { Address, Cidr } from '../model.ts';

const TENTATIVE = 0x40;
const DUPLICATE = 0x08;

/**
 * The addresses and prefixes that a network namespace takes as its own, from /proc/PID/net/fib_trie; each once.
 * An own address is a block of one; a shorter one is a local prefix such as 127.0.0.0/8. All tables count: with policy rules
 * each is a section of its own, without them main and local are one table and printed twice. Other lines are passed over.
 * Format: fib_trie_seq_show() in the kernel's net/ipv4/fib_trie.c.
 */
export function parseFibTrie(text: string): Cidr[] {
  const found = new Map<string, Cidr>();
  let leaf: Address | undefined;
  for (const [, key, length] of text.matchAll(/^ +(?:\|-- (\S+)|\/(\d{1,2}) \S+ LOCAL\b.*)$/gm)) {
    if (key !== undefined) leaf = parseAddress(key);
    else if (leaf && isIPv4(leaf) && Number(length) <= 32) {
      const bits = 96 + Number(length);
      const address = maskAddress(leaf, bits);
      found.set(`${address[3]}/${bits}`, { address, bits });
    }
  }
  return [...found.values()];
}

/**
 * The usable IPv6 addresses of a network namespace, from /proc/PID/net/if_inet6: those that are neither tentative nor found to
 * be taken by another machine. Other lines are passed over. An address stands in network byte order, unlike in tcp6.
 * Format: if6_seq_show() in the kernel's net/ipv6/addrconf.c.
 */
export function parseIfInet6(text: string): Address[] {
  const addresses: Address[] = [];
  for (const line of text.split('\n')) {
    const match =
      /^([0-9a-f]{8})([0-9a-f]{8})([0-9a-f]{8})([0-9a-f]{8}) [0-9a-f]+ [0-9a-f]+ [0-9a-f]+ ([0-9a-f]+) /.exec(line);
    if (!match) continue;
    const [a = 0, b = 0, c = 0, d = 0, flags = 0] = match.slice(1).map((digits) => Number.parseInt(digits, 16));
    if ((flags & (TENTATIVE | DUPLICATE)) === 0) addresses.push([a, b, c, d]);
  }
  return addresses;
}

/**
 * Says quickly whether an address belongs to the network namespace of these two files, of which null holds none.
 * That alone does not make a peer this host: in IPVS mode kube-proxy puts every service address on it.
 */
export function ownAddresses(fibTrie: string | null, ifInet6: string | null): { has(address: Address): boolean } {
  const blocks = [
    ...parseFibTrie(fibTrie ?? ''),
    ...parseIfInet6(ifInet6 ?? '').map((address) => ({ address, bits: 128 })),
  ];
  const byLength = Map.groupBy(blocks, ({ bits }) => bits);
  const keys = [...byLength].map(([bits, sameLength]) => ({
    bits,
    keys: new Set(sameLength.map(({ address }) => keyOf(address))),
  }));
  return { has: (address) => keys.some(({ bits, keys }) => keys.has(keyOf(maskAddress(address, bits)))) };
}

function keyOf(address: Address): number | string {
  return isIPv4(address) ? address[3] : address.join(':');
}
