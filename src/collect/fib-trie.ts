import { isIPv4, maskAddress, parseAddress } from '../common/address.ts';
import type { Address, Cidr } from '../model.ts';

const TENTATIVE = 0x40;
const DUPLICATE = 0x08;

/** The local routes of a routing table, and what identifies a table of a VRF. */
interface FibTable {
  readonly local: Cidr[];
  /** The lower addresses of connected /31 links, which have no broadcast address. */
  readonly links: Set<number>;
  hasBroadcast: boolean;
}

/**
 * The addresses and prefixes that are local to a network namespace, from the lines of /proc/PID/net/fib_trie.
 * Format: fib_trie_seq_show() in the kernel's net/ipv4/fib_trie.c.
 *
 * As in the kernel (inet_addr_type() in net/ipv4/fib_frontend.c), an address is local if it has a local route in table local or in the
 * table of the VRF of its interface. A local route in the table of a policy rule does not count: `local 0.0.0.0/0 dev lo` in such a table
 * is how TPROXY receives marked packets. Without policy rules the tables main and local are one table that is printed twice; a file that
 * was truncated before table local has only main.
 *
 * The table of a VRF and that of a policy rule look the same ("Id 100:"), but only the kernel adds broadcast and link routes next to local
 * routes. So a table with such routes belongs to a VRF, and its /32 routes are addresses. A VRF with only /32 addresses is not recognized.
 */
export class FibTrie {
  readonly #tables = new Map<string, FibTable>();
  #table = this.#tableOf('Main');
  #leaf = '';

  /** Parses the next line. A host with a million routes has a file of 100 MB: only relevant lines are parsed and kept. */
  parseLine(line: string): void {
    if (line.includes('|-- ')) this.#leaf = line;
    else if (line.includes(' LOCAL')) this.#addLocal(line);
    else if (line.includes(' BROADCAST')) this.#table.hasBroadcast = true;
    else if (line.includes('/31 link UNICAST')) this.#addLink();
    else if (line.endsWith(':')) {
      this.#table = this.#tableOf(line.slice(0, -1));
      this.#leaf = '';
    }
  }

  /** The own addresses (blocks of one address) and local prefixes such as 127.0.0.0/8, each once. */
  get local(): Cidr[] {
    const { local } = this.#tableOf('Local');
    const found = new Map<string, Cidr>();
    const add = (block: Cidr): unknown => found.set(`${block.address[3]}/${block.bits}`, block);
    for (const block of local.length > 0 ? local : this.#tableOf('Main').local) add(block);
    for (const [name, table] of this.#tables) {
      if (!name.startsWith('Id ')) continue;
      for (const block of table.local) if (block.bits === 128 && isOfInterface(table, block)) add(block);
    }
    return [...found.values()];
  }

  #tableOf(name: string): FibTable {
    const known = this.#tables.get(name);
    if (known) return known;
    const table = { local: [], links: new Set<number>(), hasBroadcast: false };
    this.#tables.set(name, table);
    return table;
  }

  #addLocal(line: string): void {
    const [, length] = /^ +\/(\d{1,2}) \S+ LOCAL\b/.exec(line) ?? [];
    const address = this.#leafAddress();
    if (length === undefined || !address || Number(length) > 32) return;
    const bits = 96 + Number(length);
    this.#table.local.push({ address: maskAddress(address, bits), bits });
  }

  #addLink(): void {
    const address = this.#leafAddress();
    if (address) this.#table.links.add(address[3]);
  }

  #leafAddress(): Address | undefined {
    const [, text = ''] = /^ +\|-- (\S+)$/.exec(this.#leaf) ?? [];
    const address = parseAddress(text);
    return address && isIPv4(address) ? address : undefined;
  }
}

function isOfInterface({ hasBroadcast, links }: FibTable, { address }: Cidr): boolean {
  return hasBroadcast || links.has(maskAddress(address, 127)[3]);
}

/**
 * The usable IPv6 addresses of a network namespace, from /proc/PID/net/if_inet6: those that are neither tentative nor duplicates of
 * another machine. Malformed lines are skipped. Addresses are in network byte order, unlike in tcp6.
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
 * A fast test for the addresses of the network namespace with these local IPv4 routes and this if_inet6 (null without IPv6).
 * An own address does not prove that a peer is this host: in IPVS mode kube-proxy puts every service address on the host.
 */
export function ownAddresses(routes: readonly Cidr[], ifInet6: string | null): { has(address: Address): boolean } {
  const blocks = [...routes, ...parseIfInet6(ifInet6 ?? '').map((address) => ({ address, bits: 128 }))];
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
