import type { ConnectionTable } from '../collect/connection-table.ts';
import { SYN_RECV } from '../collect/net-tcp-udp-raw.ts';
import { tenantOfConnection } from '../collect/tenant.ts';
import type { Address, Rules } from '../model.ts';
import type { AsnCache } from './asn/cache.ts';
import type { ClusterCache } from './kubernetes/cluster-cache.ts';
import { Peers, type Peer, type PeerPolicy } from './peers.ts';

/** The addresses of the scanned host. */
export interface HostAddresses {
  /** The test for the addresses of a network namespace. */
  isOwn(netns: number): (address: Address) => boolean;
  /** Says whether the addresses of a namespace, and of the host, could be read. */
  knowsOwn(netns: number): boolean;
  isHostOwn(address: Address): boolean;
}

/**
 * The peer of each connection. Peers are classified once, and their ASN is looked up once that is allowed: in a Kubernetes cluster not
 * before it is known which addresses are those of the cluster.
 */
export class ConnectionPeers {
  readonly peers: Peers;
  readonly #connections: ConnectionTable;
  readonly #host: HostAddresses;
  readonly #cluster: ClusterCache | null;
  readonly #byIndex: (Peer | null)[] = [];
  #mayLookUp: boolean;

  /** Without a cache no ASN is looked up. */
  constructor(
    connections: ConnectionTable,
    host: HostAddresses,
    rules: Rules,
    { cluster, cache }: { readonly cluster: ClusterCache | null; readonly cache: AsnCache | null },
  ) {
    this.#connections = connections;
    this.#host = host;
    this.#cluster = cluster;
    this.#mayLookUp = cluster === null;
    this.peers = new Peers(this.#policyOf(rules), cache);
  }

  /** The peer of a connection, including one that the last scan closed; null without a remote end. */
  of(index: number): Peer | null {
    return this.#byIndex[index] ?? null;
  }

  /** Begins a scan: releases the peers of closed connections, and touches connections whose addresses changed in the cluster. */
  begin(): void {
    const connections = this.#connections;
    for (const i of connections.closed) {
      if (this.#byIndex[i]) this.peers.release(connections.netns[i] ?? 0, connections.remoteAddress(i));
      this.#byIndex[i] = null;
    }
    if (!this.#cluster) return;
    const moved = this.#cluster.takeChangedAddresses();
    const settles = !this.#mayLookUp && this.#cluster.isReady;
    this.#mayLookUp ||= settles;
    if (!settles && moved.size === 0) return;
    const { local, remote } = connections;
    for (const i of connections.indexes())
      if (settles || moved.has(local[i * 4 + 3] ?? 0) || moved.has(remote[i * 4 + 3] ?? 0)) connections.touch(i);
  }

  /** Gives each connection that changed its peer. `at` is milliseconds since 1970. */
  update(at: number): void {
    const connections = this.#connections;
    this.#touch(this.peers.classifyPending((netns) => this.#isOwnOf(netns)));
    const resolved = new Set<Peer>();
    for (let i = 0; i < connections.length; i++) {
      if (connections.changed[i] === 0 || !connections.has(i) || connections.direction[i] === 'listen') continue;
      const peer = (this.#byIndex[i] ??= this.#hold(i));
      if (connections.state[i] === SYN_RECV || !this.#mayLookUp) continue;
      if (this.peers.query(peer, at, tenantOfConnection(connections, i))) resolved.add(peer);
    }
    this.#touch(resolved);
    this.peers.renew(at);
  }

  /** Takes in new answers of the ASN cache, by bucket. */
  learn(buckets: ReadonlySet<string>, now: number): void {
    this.#touch(this.peers.update(buckets, now));
  }

  /** Classifies all peers again by these rules. */
  adopt(rules: Rules): void {
    this.peers.setPolicy(this.#policyOf(rules));
    this.#byIndex.fill(null);
    for (const i of this.#connections.indexes()) this.#connections.touch(i);
  }

  #policyOf({ networks, asnNeverSend: neverSend }: Rules): PeerPolicy {
    return {
      networks,
      neverSend,
      isHostOwn: (address) => this.#host.isHostOwn(address),
      isInCluster: (address, bucket) => this.#cluster?.isInCluster(address, bucket) ?? false,
    };
  }

  #hold(i: number): Peer {
    const netns = this.#connections.netns[i] ?? 0;
    return this.peers.acquire(netns, this.#connections.remoteAddress(i), this.#isOwnOf(netns));
  }

  #isOwnOf(netns: number): ((address: Address) => boolean) | null {
    return this.#host.knowsOwn(netns) ? this.#host.isOwn(netns) : null;
  }

  #touch(peers: ReadonlySet<Peer>): void {
    if (peers.size === 0) return;
    for (const i of this.#connections.indexes()) {
      const peer = this.of(i);
      if (peer && peers.has(peer)) this.#connections.touch(i);
    }
  }
}
