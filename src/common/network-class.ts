import { cidrContains, ipv4, isIPv4, maskAddress, parseCidr } from './address.ts';
import type { Address, Cidr, NetworkClass, OperatorNetwork, Remote } from '../model.ts';

const CLASSES: Readonly<Record<NetworkClass, true>> = {
  public: true,
  private: true,
  shared: true,
  loopback: true,
  self: true,
  link_local: true,
  cloud_metadata: true,
  multicast: true,
  documentation: true,
  benchmarking: true,
  reserved: true,
  unspecified: true,
};

/** The names of the built-in networks. */
export const NETWORK_CLASSES: readonly string[] = Object.keys(CLASSES);

/** Returns true if a network is built in, not defined by the operator. */
export function isNetworkClass(network: string): boolean {
  return Object.hasOwn(CLASSES, network);
}

const NAMED: ReadonlySet<string> = new Set(['public', 'private', 'shared']);

/**
 * Returns true if addresses of a network may have reverse DNS names: public, private, shared and operator-defined
 * networks.
 */
export function mayHaveDnsName(network: string): boolean {
  return NAMED.has(network) || !isNetworkClass(network);
}

/** The network of a block, or a function that extracts the embedded IPv4 address. */
type Meaning = NetworkClass | ((address: Address) => Address);

/**
 * The IANA special-purpose registries (RFC 6890, RFC 8190), plus blocks defined elsewhere: multicast, site-local,
 * cloud metadata, global unicast. The longest match wins. An address in no block is `reserved`, including the
 * IPv4-compatible ::/96. Finer entries inside 192.0.0.0/24, 192.88.99.0/24, 240.0.0.0/4 and 2001:1::/48 have the
 * class of the enclosing block. Anycast addresses, ORCHIDv2 and drone ids are globally reachable but belong to no
 * single network: `reserved`.
 */
const BLOCKS: readonly (readonly [block: string, meaning: Meaning])[] = [
  ['0.0.0.0/0', 'public'],
  ['0.0.0.0/8', 'reserved'], // RFC 791, "this network"
  ['0.0.0.0/32', 'unspecified'], // RFC 1122
  ['10.0.0.0/8', 'private'], // RFC 1918
  ['100.64.0.0/10', 'shared'], // RFC 6598, carrier-grade NAT
  ['100.100.100.200/32', 'cloud_metadata'], // Alibaba Cloud
  ['127.0.0.0/8', 'loopback'], // RFC 1122
  ['169.254.0.0/16', 'link_local'], // RFC 3927
  ['169.254.169.254/32', 'cloud_metadata'],
  ['172.16.0.0/12', 'private'], // RFC 1918
  ['192.0.0.0/24', 'reserved'], // RFC 6890, IETF protocol assignments
  ['192.0.2.0/24', 'documentation'], // RFC 5737
  ['192.31.196.0/24', 'public'], // RFC 7535, AS112
  ['192.52.193.0/24', 'public'], // RFC 7450, AMT
  ['192.88.99.0/24', 'reserved'], // RFC 7526, 6to4 relay; RFC 6751, 6a44
  ['192.168.0.0/16', 'private'], // RFC 1918
  ['192.175.48.0/24', 'public'], // RFC 7534, AS112
  ['198.18.0.0/15', 'benchmarking'], // RFC 2544
  ['198.51.100.0/24', 'documentation'], // RFC 5737
  ['203.0.113.0/24', 'documentation'], // RFC 5737
  ['224.0.0.0/4', 'multicast'], // RFC 5771
  ['240.0.0.0/4', 'reserved'], // RFC 1112, with the limited broadcast of RFC 919

  ['::/128', 'unspecified'], // RFC 4291
  ['::1/128', 'loopback'], // RFC 4291
  ['64:ff9b::/96', ([, , , last]) => ipv4(last)], // RFC 6052, NAT64
  ['64:ff9b:1::/48', 'reserved'], // RFC 8215, local NAT64; the position of the IPv4 address is a local choice
  ['100::/64', 'reserved'], // RFC 6666, discard
  ['100:0:0:1::/64', 'reserved'], // RFC 9780, dummy prefix
  ['2000::/3', 'public'], // RFC 4291, global unicast
  ['2001::/23', 'reserved'], // RFC 2928, IETF protocol assignments
  ['2001::/32', ([, , , last]) => ipv4(~last)], // RFC 4380, Teredo
  ['2001:2::/48', 'benchmarking'], // RFC 5180
  ['2001:3::/32', 'public'], // RFC 7450, AMT
  ['2001:4:112::/48', 'public'], // RFC 7535, AS112
  ['2001:10::/28', 'reserved'], // RFC 4843, ORCHID
  ['2001:20::/28', 'reserved'], // RFC 7343, ORCHIDv2
  ['2001:30::/28', 'reserved'], // RFC 9374, drone ids
  ['2001:db8::/32', 'documentation'], // RFC 3849
  ['2002::/16', ([first, second]) => ipv4((first << 16) | (second >>> 16))], // RFC 3056, 6to4
  ['2620:4f:8000::/48', 'public'], // RFC 7534, AS112
  ['3fff::/20', 'documentation'], // RFC 9637
  ['5f00::/16', 'reserved'], // RFC 9602, SRv6
  ['fc00::/7', 'private'], // RFC 4193, unique-local
  ['fd00:c1::a9fe:a9fe/128', 'cloud_metadata'], // Oracle Cloud
  ['fd00:ec2::254/128', 'cloud_metadata'], // AWS
  ['fd20:ce::254/128', 'cloud_metadata'], // Google Cloud
  ['fe80::/10', 'link_local'], // RFC 4291
  ['fe80::a9fe:a9fe/128', 'cloud_metadata'], // OpenStack
  ['fec0::/10', 'private'], // RFC 3879, site-local
  ['ff00::/8', 'multicast'], // RFC 4291
];

const LONGEST_FIRST = BLOCKS.map(([block, meaning]) => ({ cidr: readBlock(block), meaning })).sort(
  (a, b) => b.cidr.bits - a.cidr.bits,
);

function readBlock(block: string): Cidr {
  const cidr = parseCidr(block);
  if (!cidr) throw new SyntaxError(`Cannot read block "${block}": not a CIDR`);
  return cidr;
}

function meaningOf(address: Address): Meaning {
  return LONGEST_FIRST.find(({ cidr }) => cidrContains(cidr, address))?.meaning ?? 'reserved';
}

/**
 * Returns the class of an address by the longest matching special-purpose block. NAT64, 6to4 and Teredo addresses
 * have the class of the embedded IPv4 address, which is returned as `address`. Only `public` addresses may be
 * queried.
 */
export function classify(address: Address): { network: NetworkClass; address: Address } {
  const meaning = meaningOf(address);
  return typeof meaning === 'function' ? classify(meaning(address)) : { network: meaning, address };
}

/**
 * Returns the network of a remote as seen from one network namespace: `loopback`, `self` for a local address, an
 * operator-defined network (the longest block, then the first listed), else the result of `classify`. If no step
 * matches a NAT64, 6to4 or Teredo address, the embedded IPv4 address takes the same steps.
 */
export function networkOf(
  address: Address,
  isOwn: (address: Address) => boolean,
  operatorNetworks: readonly OperatorNetwork[],
): Remote {
  const meaning = meaningOf(address);
  if (meaning === 'loopback') return { network: meaning, address, asn: null };
  if (isOwn(address)) return { network: 'self', address, asn: null };
  const named = operatorNetworkOf(address, operatorNetworks);
  if (named) return { network: named.name, address, asn: named.asn ?? null };
  if (typeof meaning === 'function') return networkOf(meaning(address), isOwn, operatorNetworks);
  return { network: meaning, address, asn: null };
}

function operatorNetworkOf(address: Address, networks: readonly OperatorNetwork[]): OperatorNetwork | undefined {
  let best: OperatorNetwork | undefined;
  let bestBits = -1;
  for (const network of networks) {
    for (const cidr of network.cidrs) {
      if (cidr.bits > bestBits && cidrContains(cidr, address)) [best, bestBits] = [network, cidr.bits];
    }
  }
  return best;
}

/**
 * Returns the bucket of an address: its /24 (IPv4) or /48 (IPv6), the unit of queries and stored answers. Longer
 * routes are commonly filtered, so a bucket has one origin. The bucket of a public address contains no
 * special-purpose block.
 */
export function bucketOf(address: Address): Cidr {
  const bits = isIPv4(address) ? 120 : 48;
  return { address: maskAddress(address, bits), bits };
}

/** Returns the block of one address. A local file is queried with it: no data leaves the host, so nothing is masked. */
export function addressBlock(address: Address): Cidr {
  return { address, bits: 128 };
}

/**
 * Returns true if one answer may apply to a whole network: /8 or longer for IPv4, /16 or longer for IPv6. Shorter
 * prefixes are not announced.
 */
export function isAnnounceable({ address, bits }: Cidr): boolean {
  return bits >= (isIPv4(address) ? 96 + 8 : 16);
}

/**
 * Returns true if a remote may be queried: it is public, and the queried block overlaps no never-send block and no
 * operator-defined network. A network provider sees the network address of the bucket, which is queried by default.
 */
export function mayQuery(
  { network, address }: Remote,
  neverSend: readonly Cidr[],
  operatorNetworks: readonly OperatorNetwork[],
  question: Cidr = bucketOf(address),
): boolean {
  if (network !== 'public') return false;
  const touches = (cidr: Cidr): boolean => cidrContains(cidr, question.address) || cidrContains(question, cidr.address);
  return !neverSend.some(touches) && !operatorNetworks.some(({ cidrs }) => cidrs.some(touches));
}
