import { endianness } from 'node:os';
import { formatAddress, ipv4, isIPv4, parseAddress } from '../common/address.ts';
import { parseCgroup } from '../collect/cgroup.ts';
import { classify } from '../common/network-class.ts';
import type { Address, Cgroup } from '../model.ts';
import { workloadOf } from '../enrich/owner-labels.ts';

/** First generated address of each kind; private blocks are keyed by their first byte. */
const PUBLIC_IPV4 = 11 << 24;
const PRIVATE_IPV4: ReadonlyMap<string, number> = new Map([
  ['10', 0x0a000000],
  ['172', 0xac100000],
  ['192', 0xc0a80000],
  ['shared', 0x64400000],
  ['link_local', 0xa9fe0000],
]);
const PUBLIC_IPV6: Address = [0x2a000000, 0, 0, 0];
/** Addresses of these kinds identify no one and stay unchanged. */
const UNCHANGED_NETWORKS = new Set([
  'loopback',
  'unspecified',
  'multicast',
  'cloud_metadata',
  'documentation',
  'benchmarking',
  'reserved',
]);

/** Assigns numbers from 0 in order of first use. */
class Numbering {
  readonly #numbers = new Map<string, number>();

  of(thing: string): number {
    const known = this.#numbers.get(thing);
    if (known !== undefined) return known;
    this.#numbers.set(thing, this.#numbers.size);
    return this.#numbers.size - 1;
  }
}

/**
 * Replaces addresses, process names and cgroups consistently. Replacements are numbered in order of first use, so they reveal nothing
 * of the originals. An address keeps its kind (public, private and so on), and addresses that share a /24, a /48 or a /64 still do.
 * A generated public address may belong to a real network. Ports, pids and uids are kept.
 */
export class Redactor {
  readonly #nets = new Map<string, Numbering>();
  readonly #processes = new Numbering();
  readonly #workloads = new Numbering();
  readonly #ids = new Numbering();
  /** The replacement of each real network, and the number of networks used per kind. */
  readonly #networks = new Map<string, Address>();
  readonly #used = new Map<string, number>();
  readonly #littleEndian = endianness() === 'LE';

  address(address: Address): Address {
    const { network, address: inner } = classify(address);
    if (UNCHANGED_NETWORKS.has(network) && inner === address) return address;
    if (inner !== address) return this.#wrapped(address, inner);
    return isIPv4(address) ? this.#ipv4(address[3], network) : this.#ipv6(address, network);
  }

  process(name: string): string {
    return `process${this.#processes.of(name) + 1}`;
  }

  /** A cgroup file that `parseCgroup` reads the same way, except for names and ids. */
  cgroup(text: string): string {
    const cgroup = parseCgroup(text);
    if (cgroup.kind === 'unknown') return '0::/\n';
    return `0::${this.#path(cgroup)}\n`;
  }

  /** Redacts a socket table such as /proc/net/tcp. */
  table(text: string): string {
    return text.replaceAll(
      /^( *\d+: )([\dA-F]{8}(?:[\dA-F]{24})?)(:[\dA-F]{4} )([\dA-F]{8}(?:[\dA-F]{24})?)(?=:)/gm,
      (_, number: string, local: string, port: string, remote: string) =>
        number + this.#words(local) + port + this.#words(remote),
    );
  }

  /** Redacts /proc/net/fib_trie. Keeps only the lines that peerscope reads: local addresses, their prefixes and table headers. */
  fibTrie(text: string): string {
    let leaf = '';
    const lines: string[] = [];
    for (const line of text.split('\n')) {
      const [, key] = /^ +\|-- (\S+)/.exec(line) ?? [];
      if (key !== undefined) leaf = key;
      const address = / LOCAL\b| BROADCAST\b|\/31 link UNICAST/.test(line) ? parseAddress(leaf) : undefined;
      if (address) lines.push(`           |-- ${formatAddress(this.address(address))}`, line);
      else if (/^(Main|Local|Id \d+):/.test(line)) lines.push(line);
    }
    return lines.map((line) => `${line}\n`).join('');
  }

  /** Redacts /proc/net/if_inet6, which has addresses in network byte order. */
  ifInet6(text: string): string {
    return text.replaceAll(/^[\da-f]{32}(?= )/gm, (digits) =>
      hexOf(this.address(wordsOf(digits)), false).toLowerCase(),
    );
  }

  #words(digits: string): string {
    const swap = (word: string): string => (this.#littleEndian ? (word.match(/../g) ?? []).reverse().join('') : word);
    const words = (digits.match(/.{8}/g) ?? []).map(swap).join('');
    const address = words.length === 8 ? ipv4(Number.parseInt(words, 16)) : wordsOf(words);
    const replaced = hexOf(this.address(address), words.length === 8);
    return (replaced.match(/.{8}/g) ?? []).map(swap).join('');
  }

  #numberIn(net: string, thing: string | number): number {
    let numbers = this.#nets.get(net);
    if (!numbers) this.#nets.set(net, (numbers = new Numbering()));
    return numbers.of(String(thing));
  }

  /** Maps each /24 and each host in it consistently. A new /24 comes from the same block as the original. */
  #ipv4(bits: number, network: string): Address {
    const base = PRIVATE_IPV4.get(network === 'private' ? (bits >>> 24).toString() : network) ?? PUBLIC_IPV4;
    const net = this.#netOf(`4 ${base}`, bits >>> 8, (number) => ipv4(base + number * 256), network);
    const host = (this.#numberIn(`4 ${bits >>> 8}`, bits & 255) + 1) & 255;
    return ipv4(net[3] + host);
  }

  #ipv6([a, b, c, d]: Address, network: string): Address {
    const subnet = b & 0xffff;
    if (network === 'link_local') return [0xfe800000, 0, 0, this.#numberIn('fe80', [a, b, c, d].join()) + 1];
    const interfaceId = this.#numberIn(`6 ${a} ${b}`, `${c} ${d}`) + 1;
    const siteLocal = network === 'private' && (a & 0xffc00000) >>> 0 === 0xfec00000;
    const base: Address = network === 'private' ? [siteLocal ? 0xfec00000 : 0xfd000000, 0, 0, 0] : PUBLIC_IPV6;
    const at = (number: number): Address => [(base[0] + (number >>> 16)) >>> 0, ((number & 0xffff) << 16) >>> 0, 0, 1];
    const net = this.#netOf(`6 ${base.join()}`, `${a} ${b >>> 16}`, at, network);
    return [
      net[0],
      (net[1] + (subnet === 0 ? 0 : this.#numberIn(`6 ${a} ${b >>> 16}`, subnet) + 1)) >>> 0,
      0,
      interfaceId,
    ];
  }

  /** The replacement of a network: a new one is the first unused of its kind. */
  #netOf(kind: string, real: string | number, at: (number: number) => Address, network: string): Address {
    const known = this.#networks.get(`${kind} ${real}`);
    if (known) return known;
    let number = this.#used.get(kind) ?? 0;
    while (classify(at(number)).network !== network) number++;
    this.#used.set(kind, number + 1);
    this.#networks.set(`${kind} ${real}`, at(number));
    return at(number);
  }

  /** Replaces the IPv4 address in NAT64, Teredo and 6to4 addresses. Everything else except the prefix is dropped. */
  #wrapped([a, b]: Address, inner: Address): Address {
    const last = this.address(inner)[3];
    if (a >>> 16 === 0x2002)
      return [((0x2002 << 16) | (last >>> 16)) >>> 0, (last << 16) >>> 0, 0, this.#numberIn('6to4', `${a} ${b}`) + 1];
    return a === 0x20010000 ? [a, 0, 0, ~last >>> 0] : [a, b, 0, last];
  }

  #path(cgroup: Cgroup): string {
    const { user, ...others } = cgroup;
    const { kind, runtime, unit } = others;
    if (user !== undefined)
      return `/user.slice/user@${user}.service${kind === 'unit' ? '' : this.#path({ ...others, unit: null })}`;
    const workload = workloadOf(cgroup);
    const suffix = /\.(?:service|scope)$/.exec(workload)?.[0] ?? '.service';
    const inUnit = unit === null ? '' : `/system.slice/unit${this.#workloads.of(workload) + 1}${suffix}`;
    if (kind === 'session') return unit === null ? '/user.slice/login.session' : '/user.slice/session-1.scope';
    if (kind !== 'container' && kind !== 'runtime-monitor') return inUnit === '' ? '/redacted' : inUnit;
    const inside = this.#outer(cgroup) + this.#pod(cgroup);
    const isSystem = runtime === 'lxc' || runtime === 'libvirt-lxc' || runtime === 'systemd-nspawn';
    if (kind === 'container' && isSystem) return inside + this.#container(cgroup) + inUnit;
    if (kind === 'container') return inside + inUnit + this.#container(cgroup);
    if (runtime === 'systemd-nspawn') return '/machine.slice/systemd-nspawn@redacted.service/supervisor';
    const monitor = runtime === null ? 'lxc.monitor.redacted' : `${prefixOf(runtime)}-conmon-${ZERO_ID}.scope`;
    return `${inside}/${monitor}`;
  }

  #outer({ outerContainerId }: Cgroup): string {
    return outerContainerId === null ? '' : `/outer/${this.#id(outerContainerId)}`;
  }

  #pod({ podUid, qos }: Cgroup): string {
    if (podUid === null) return '';
    const number = (this.#ids.of(podUid) + 1).toString(16);
    const uid = podUid.length === 32 ? number.padStart(32, '0') : `00000000_0000_4000_8000_${number.padStart(12, '0')}`;
    if (qos === null) return `/kubepods/redacted/pod${uid}`;
    const slice = qos === 'guaranteed' ? 'kubepods' : `kubepods-${qos}`;
    return `/kubepods.slice/${slice}.slice/${slice}-pod${uid}.slice`;
  }

  #container({ containerId, runtime, unit }: Cgroup): string {
    if (containerId === null) return '';
    const id = this.#id(containerId);
    const name = `container${Number.parseInt(id, 16)}`;
    if (runtime === 'lxc') return `/lxc.payload.${name}`;
    if (runtime === 'libvirt-lxc') return `/machine.slice/machine-lxc-${name}.scope`;
    if (runtime === 'systemd-nspawn') return `/machine.slice/systemd-nspawn@${name}.service/payload`;
    if (runtime === 'ecs') return `/ecs/task/${id}`;
    if (runtime === 'podman' && unit !== null) return `/libpod-payload-${id}`;
    return runtime === null ? `/outside/${id}` : `/${prefixOf(runtime)}-${id}.scope`;
  }

  #id(id: string): string {
    return (this.#ids.of(id) + 1).toString(16).padStart(64, '0');
  }
}

const ZERO_ID = '0'.repeat(64);

/** The prefix of the scope units of a container runtime. */
function prefixOf(runtime: string): string {
  return runtime === 'containerd' ? 'cri-containerd' : runtime === 'podman' ? 'libpod' : runtime;
}

function wordsOf(digits: string): Address {
  const word = (i: number): number => Number.parseInt(digits.slice(i * 8, i * 8 + 8), 16);
  return [word(0), word(1), word(2), word(3)];
}

function hexOf(address: Address, isShort: boolean): string {
  const words = isShort ? address.slice(3) : address;
  return words.map((word) => word.toString(16).toUpperCase().padStart(8, '0')).join('');
}
