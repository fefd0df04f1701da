import { formatCidr } from '../common/address.ts';
import type { Address, Cidr, OperatorNetwork, Origin } from '../model.ts';
import type { AsnCache } from './asn/cache.ts';
import { bucketOf, mayQuery, networkOf } from '../common/network-class.ts';

/** How often the answers of active peers are checked for renewal. */
const RENEW_MS = 60_000;
const V4_MAPPED = 0xffff;
/** Namespaces below this number have exact numeric keys. */
const MAX_NUMERIC = 2 ** 21;
/** Above the number of ASNs in use. Bounds memory if a server invents ASNs. */
const MAX_NAMES = 200_000;

/** The remote end of one or more connections in a namespace, with its network and origin. */
export interface Peer {
  readonly network: string;
  /** The effective address. IPv4 addresses embedded in NAT64, 6to4 and Teredo addresses are unwrapped. */
  readonly address: Address;
  /** The `asn` label: decimal, "0" for not announced, "" for not public or not resolved yet. */
  readonly asn: string;
  readonly origin: Origin | null;
}

/** The names of ASNs, by `asn` label. */
export type AsnNames = Pick<ReadonlyMap<string, { readonly name: string; readonly country: string }>, 'get'>;

interface PeerEntry {
  network: string;
  address: Address;
  asn: string;
  origin: Origin | null;
  bucket: string | null;
  queried: boolean;
  /** Who needed the ASN first. */
  tenant: string;
  uses: number;
}

/** Which peers may be queried. */
export interface PeerPolicy {
  readonly networks: readonly OperatorNetwork[];
  readonly neverSend: readonly Cidr[];
  /** Returns true if an address belongs to the host (the network namespace of pid 1). */
  readonly isHostOwn: (address: Address) => boolean;
  /** Returns true if an address or its bucket belongs to the cluster. By default, no address does. */
  readonly isInCluster?: (address: Address, bucket: string) => boolean;
}

/**
 * The peers of open connections. Each peer is classified once and queried at most once. Public peers are queried,
 * except the host's own addresses, addresses of the cluster, addresses that `mayQuery` excludes, and peers seen only
 * in SYN_RECV: spoofed packets must not cause queries. A provider sees the network address of the bucket, so the
 * bucket is checked against the same lists.
 */
export class Peers {
  #policy: PeerPolicy;
  readonly #cache: AsnCache | null;
  readonly #peers = new Map<string | number, PeerEntry>();
  readonly #byBucket = new Map<string, Set<PeerEntry>>();
  readonly #names = new Map<string, { name: string; country: string }>();
  #operatorNames: ReadonlyMap<string, { name: string; country: string }>;
  /** Peers of namespaces with unknown local addresses, with the original remote address. */
  readonly #pending = new Map<PeerEntry, { netns: number; address: Address }>();
  #renewedAt = 0;

  /** Without a cache, no ASN is looked up. */
  constructor(policy: PeerPolicy, cache: AsnCache | null) {
    this.#policy = policy;
    this.#operatorNames = operatorNamesOf(policy);
    this.#cache = cache;
  }

  /**
   * The name and country of each ASN, by `asn` label: the name of the operator-defined network with this ASN, else
   * the latest answer. Keeps the 200,000 most recent.
   */
  readonly names: AsnNames = { get: (asn) => this.#operatorNames.get(asn) ?? this.#names.get(asn) };

  /**
   * Applies a new policy and drops all peers. Callers must acquire their peers again and must not release the old
   * ones.
   */
  setPolicy(policy: PeerPolicy): void {
    this.#policy = policy;
    this.#operatorNames = operatorNamesOf(policy);
    this.#peers.clear();
    this.#byBucket.clear();
    this.#pending.clear();
  }

  /**
   * Returns the peer of a new connection. `isOwn` tests the local addresses of the namespace; if null, the peer is
   * not queried until `classifyPending` knows them. Each call needs one `release`.
   */
  acquire(netns: number, address: Address, isOwn: ((address: Address) => boolean) | null): Peer {
    const key = keyOf(netns, address);
    let peer = this.#peers.get(key);
    if (!peer) {
      peer = { ...this.#classify(address, isOwn), origin: null, queried: false, tenant: '', uses: 0 };
      this.#peers.set(key, peer);
      if (isOwn) this.#addToBucket(peer);
      else this.#pending.set(peer, { netns, address });
    }
    peer.uses++;
    return peer;
  }

  /** Releases a peer returned by `acquire` for the same namespace and address. */
  release(netns: number, address: Address): void {
    const key = keyOf(netns, address);
    const peer = this.#peers.get(key);
    if (!peer || --peer.uses > 0) return;
    this.#peers.delete(key);
    this.#pending.delete(peer);
    const sharing = peer.bucket === null ? undefined : this.#byBucket.get(peer.bucket);
    sharing?.delete(peer);
    if (sharing?.size === 0) this.#byBucket.delete(peer.bucket ?? '');
  }

  /** Classifies pending peers of namespaces with local addresses that `isOwnOf` now knows. Returns these peers. */
  classifyPending(isOwnOf: (netns: number) => ((address: Address) => boolean) | null): Set<Peer> {
    const classified = new Set<Peer>();
    const known = new Map<number, ReturnType<typeof isOwnOf>>();
    for (const [peer, { netns, address }] of this.#pending) {
      let isOwn = known.get(netns);
      if (isOwn === undefined) known.set(netns, (isOwn = isOwnOf(netns)));
      if (!isOwn) continue;
      this.#pending.delete(peer);
      Object.assign(peer, this.#classify(address, isOwn));
      this.#addToBucket(peer);
      classified.add(peer);
    }
    return classified;
  }

  /**
   * Queries a peer once, and again for each other tenant while there is no answer. Call it when a connection of the tenant has left
   * SYN_RECV. Returns true if the ASN label changed.
   */
  query(peer: Peer, now: number, tenant = ''): boolean {
    const known = peer as PeerEntry;
    if (known.bucket === null || !this.#cache || this.#isInCluster(known)) return false;
    if (known.queried) {
      if (known.origin === null) this.#cache.want(known.address, now, tenant);
      return false;
    }
    known.queried = true;
    known.tenant = tenant;
    return this.#resolve(known, this.#cache.lookup(known.address, now, tenant));
  }

  /** Returns the bucket of a queried peer without an answer, else null. */
  pendingBucket(peer: Peer): string | null {
    const { queried: asked, asn, bucket } = peer as PeerEntry;
    return asked && asn === '' ? bucket : null;
  }

  /** Returns the `asn` label of an address, even without a peer. Null if not known. */
  asnOf(address: Address, now: number): string | null {
    const origin = this.#cache?.lookup(address, now);
    return origin ? this.#asnLabelOf(origin) : null;
  }

  /** Re-reads the answers of peers in these buckets. Returns the peers with a changed `asn` label. */
  update(buckets: Iterable<string>, now: number): Set<Peer> {
    const changed = new Set<Peer>();
    for (const bucket of buckets)
      for (const peer of this.#byBucket.get(bucket) ?? []) {
        const origin = peer.queried ? (this.#cache?.lookup(peer.address, now, peer.tenant) ?? null) : null;
        if (origin ? this.#resolve(peer, origin) : this.#dropOrigin(peer)) changed.add(peer);
      }
    return changed;
  }

  /** Looks up all active peers about once a minute, so that expiring answers are renewed. */
  renew(now: number): void {
    if (Math.abs(now - this.#renewedAt) < RENEW_MS) return;
    this.#renewedAt = now;
    for (const peer of this.#peers.values())
      if (peer.queried && !this.#isInCluster(peer)) this.#cache?.lookup(peer.address, now, peer.tenant);
  }

  #isInCluster({ address, bucket }: PeerEntry): boolean {
    return this.#policy.isInCluster?.(address, bucket ?? '') ?? false;
  }

  #classify(
    remoteAddress: Address,
    ownTest: ((address: Address) => boolean) | null,
  ): Pick<PeerEntry, 'network' | 'address' | 'asn' | 'bucket'> {
    const isOwn = ownTest ?? (() => false);
    const { networks, neverSend, isHostOwn } = this.#policy;
    const remote = networkOf(remoteAddress, isOwn, networks);
    const { network, address, asn } = remote;
    const block = this.#cache?.blockOf(address) ?? bucketOf(address);
    const own = [address, block.address].some((candidate) => isOwn(candidate) || isHostOwn(candidate));
    const bucket = ownTest && !own && mayQuery(remote, neverSend, networks, block) ? formatCidr(block) : null;
    return { network, address, asn: asn === null ? '' : String(asn), bucket };
  }

  #addToBucket(peer: PeerEntry): void {
    const { bucket } = peer;
    if (bucket === null) return;
    const sharing = this.#byBucket.get(bucket);
    if (sharing) sharing.add(peer);
    else this.#byBucket.set(bucket, new Set([peer]));
  }

  #resolve(peer: PeerEntry, origin: Origin | null): boolean {
    if (!origin) return false;
    const asn = this.#asnLabelOf(origin);
    const changed = asn !== peer.asn;
    peer.origin = origin;
    peer.asn = asn;
    return changed;
  }

  /** Drops an answer that is no longer valid. Returns true if the peer had one. */
  #dropOrigin(peer: PeerEntry): boolean {
    if (!peer.origin) return false;
    peer.origin = null;
    peer.asn = '';
    return true;
  }

  #asnLabelOf({ asns: [primary], name, asCountry }: Origin): string {
    const asn = String(primary ?? 0);
    if (primary !== undefined) {
      this.#names.delete(asn);
      this.#names.set(asn, { name: name ?? '', country: asCountry ?? '' });
      if (this.#names.size > MAX_NAMES) this.#names.delete(this.#names.keys().next().value ?? '');
    }
    return asn;
  }
}

/** Of several networks with one ASN, the first one names it. */
function operatorNamesOf({ networks }: PeerPolicy): Map<string, { name: string; country: string }> {
  return new Map(
    networks
      .flatMap(({ name, asn }) => (asn === undefined ? [] : [[String(asn), { name, country: '' }] as const]))
      .reverse(),
  );
}

/** A number for IPv4: most peers are, and a number is cheaper than a text. */
function keyOf(netns: number, [a, b, c, d]: Address): string | number {
  if (a === 0 && b === 0 && c === V4_MAPPED && netns < MAX_NUMERIC) return netns * 2 ** 32 + d;
  return `${netns} ${a} ${b} ${c} ${d}`;
}
