import { sameAddress } from '../collect/connection-columns.ts';
import type { ConnectionTable } from '../collect/connection-table.ts';
import type { PortRange } from '../collect/direction.ts';
import { isV4, mixer } from '../collect/ends-hash.ts';
import { grown, RAW } from '../collect/net-tcp-udp-raw.ts';
import { NO_OWNER } from '../enrich/owner-labels.ts';
import type { OwnerLabels } from '../model.ts';

/** The fraction of the local ports that an owner uses for one remote address and port. */
export interface PortUse {
  readonly labels: Pick<OwnerLabels, 'process' | 'namespace' | 'workload'>;
  readonly ratio: number;
}

/** Owners that use at most this many ports are left out, unless the range is so small that it is a hundredth. */
const FEW_PORTS = 100;
const SMALL_SHARE = 0.01;
/** Slots of the first count, which finds the destinations that many connections may share. */
const SLOTS = 1 << 16;

/** A remote address and port of a network namespace, with the local ports of each owner. */
interface Destination {
  /** One of its connections. */
  readonly index: number;
  readonly size: number;
  readonly byLabels: Map<OwnerLabels, Set<number>>;
  readonly byOwner: Map<string, Set<number>>;
}

/** Finds the owners that use a large part of the local ports of a network namespace for one destination. */
export class EphemeralPorts {
  readonly #seed: number;
  readonly #mix: (hash: number, word: number) => number;
  readonly #counts = new Uint32Array(SLOTS);
  #hashes = new Uint32Array(0);

  /** `seed` is 32 random bits. */
  constructor(seed: number) {
    this.#seed = seed;
    this.#mix = mixer(seed);
  }

  /**
   * Finds for each owner the destination for which it uses the largest part of the ports. Ports outside the range are not counted: then
   * the ratio is also right for a namespace whose range is unknown and wider, because the kernel chooses ports at random.
   */
  count(connections: ConnectionTable, rangeOf: (netns: number) => PortRange): PortUse[] {
    this.#countSlots(connections);
    const uses = new Map<string, PortUse>();
    for (const { size, byOwner } of this.#crowded(connections, rangeOf)) {
      for (const [owner, { size: ports }] of byOwner) {
        const ratio = ports / size;
        if (ports <= FEW_PORTS && ratio < SMALL_SHARE) continue;
        const [process = '', namespace = '', workload = ''] = JSON.parse(owner) as string[];
        if (ratio > (uses.get(owner)?.ratio ?? 0)) uses.set(owner, { labels: { process, namespace, workload }, ratio });
      }
    }
    return [...uses.values()];
  }

  #countSlots({ length, direction, scanOf, netns, table, remote, remotePort }: ConnectionTable): void {
    if (this.#hashes.length < length) this.#hashes = grown(this.#hashes, new Uint32Array(scanOf.length));
    const [hashes, counts, mix] = [this.#hashes, this.#counts, this.#mix];
    counts.fill(0);
    for (let i = 0; i < length; i++) {
      // 0 marks a connection that is not counted.
      hashes[i] = 0;
      const kind = table[i] ?? 0;
      if (direction[i] !== 'outbound' || scanOf[i] === 0 || kind >= RAW) continue;
      let hash = mix(this.#seed ^ ((netns[i] ?? 0) * 4 + (kind >> 1)), remotePort[i] ?? 0);
      // The other words of an IPv4 address are always the same.
      for (let word = i * 4 + (isV4(remote, i * 4) ? 3 : 0); word < i * 4 + 4; word++)
        hash = mix(hash, remote[word] ?? 0);
      hash = (hash ^ (hash >>> 16)) >>> 0 || 1;
      hashes[i] = hash;
      counts[hash % SLOTS] = (counts[hash % SLOTS] ?? 0) + 1;
    }
  }

  /** The destinations that many connections share. */
  #crowded(connections: ConnectionTable, rangeOf: (netns: number) => PortRange): Iterable<Destination> {
    const destinations = new Map<number, Destination[]>();
    const ranges = new Map<number, { readonly range: PortRange; readonly size: number }>();
    for (let i = 0; i < connections.length; i++) {
      const hash = this.#hashes[i] ?? 0;
      if (hash === 0) continue;
      const count = this.#counts[hash % SLOTS] ?? 0;
      const netns = connections.netns[i] ?? 0;
      let known = ranges.get(netns);
      if (!known) {
        const range = rangeOf(netns);
        ranges.set(netns, (known = { range, size: range[1] - range[0] + 1 }));
      }
      const { range, size } = known;
      if (count <= FEW_PORTS && count < size * SMALL_SHARE) continue;
      const port = connections.localPort[i] ?? 0;
      if (port < range[0] || port > range[1]) continue;
      let alike = destinations.get(hash);
      if (!alike) destinations.set(hash, (alike = []));
      let destination = alike.find(({ index }) => hasSameDestination(connections, index, i));
      if (!destination) alike.push((destination = { index: i, size, byLabels: new Map(), byOwner: new Map() }));
      portsOf(destination, connections.labels[i] ?? NO_OWNER).add(port);
    }
    return [...destinations.values()].flat();
  }
}

function hasSameDestination({ netns, table, remote, remotePort }: ConnectionTable, a: number, b: number): boolean {
  return (
    netns[a] === netns[b] &&
    (table[a] ?? 0) >> 1 === (table[b] ?? 0) >> 1 &&
    remotePort[a] === remotePort[b] &&
    sameAddress(remote, a * 4, remote, b * 4)
  );
}

/** The ports of an owner. Its pods and containers that share a network namespace share its ports. */
function portsOf({ byLabels, byOwner }: Destination, labels: OwnerLabels): Set<number> {
  const known = byLabels.get(labels);
  if (known) return known;
  const owner = JSON.stringify([labels.process, labels.namespace, labels.workload]);
  const ports = byOwner.get(owner) ?? new Set<number>();
  byOwner.set(owner, ports);
  byLabels.set(labels, ports);
  return ports;
}
