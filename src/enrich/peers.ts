import { formatCidr } from '../common/address.ts';
import type { Address, Cidr, OperatorNetwork, Origin } from '../model.ts';
import type { AsnCache } from './asn/cache.ts';
import { bucketOf, mayBeAsked, networkOf } from '../common/network-class.ts';

/** How often the answers of the peers in use are looked at for renewal. */
const RENEW_MS = 60_000;
/** More than there are ASNs in use; a hostile server could make up any number. */
const NAMES_MOST = 200_000;

/** The far end of one or more connections of a namespace: its network, and who announces it. */
export interface Peer {
  readonly network: string;
  /** The address that counts: what NAT64, 6to4 and Teredo wrap is unwrapped. */
  readonly address: Address;
  /** The ASN as it is published: decimal, "0" for not announced, "" for not public or not resolved yet. */
  readonly asn: string;
  readonly origin: Origin | null;
}

interface KnownPeer {
  network: string;
  address: Address;
  asn: string;
  origin: Origin | null;
  bucket: string | null;
  asked: boolean;
  uses: number;
}

/** What the peers may be asked for. */
export interface PeerPolicy {
  readonly networks: readonly OperatorNetwork[];
  readonly neverSend: readonly Cidr[];
  /** Says whether an address is the host's own (pid 1's namespace). */
  readonly isHostOwn: (address: Address) => boolean;
  /** Says at any time whether an address, in this bucket, belongs to the cluster; none does by default. */
  readonly isInCluster?: (address: Address, bucket: string) => boolean;
}

/**
 * The peers of the connections that are open: each classified once, and asked for once it may be.
 * Asked for is every public peer but the host's own addresses, the cluster's, what `mayBeAsked` keeps back, and what is only
 * SYN_RECV so far: a stranger's spoofed packets must not make us ask. What is asked is what the cache asks for an address. Of a
 * bucket a provider sees the network address, so it is held against the same lists.
 */
export class Peers {
  #policy: PeerPolicy;
  readonly #cache: AsnCache | null;
  readonly #peers = new Map<string, KnownPeer>();
  readonly #byBucket = new Map<string, Set<KnownPeer>>();
  readonly #names = new Map<string, { name: string; country: string }>();
  /** Peers of namespaces whose own addresses could not be read yet, with their addresses as they were met. */
  readonly #undecided = new Map<KnownPeer, { netns: number; address: Address }>();
  #renewedAt = 0;

  /** Without a cache no ASN is ever looked up. */
  constructor(policy: PeerPolicy, cache: AsnCache | null) {
    this.#policy = policy;
    this.#cache = cache;
  }

  /** The newest name and country of registration of every ASN met (the last 200,000), by the ASN as it is published. */
  get names(): ReadonlyMap<string, { readonly name: string; readonly country: string }> {
    return this.#names;
  }

  /** Goes by this policy from now on. Forgets all peers: those that `hold` gave are to be held anew, and not released. */
  adopt(policy: PeerPolicy): void {
    this.#policy = policy;
    this.#peers.clear();
    this.#byBucket.clear();
    this.#undecided.clear();
  }

  /**
   * The peer of a connection that opened; `isOwn` tells the addresses of its namespace, null where they are not known: then nothing
   * is asked until `decide` knows them. Balanced by `release`.
   */
  hold(netns: number, address: Address, isOwn: ((address: Address) => boolean) | null): Peer {
    const key = keyOf(netns, address);
    let peer = this.#peers.get(key);
    if (!peer) {
      peer = { ...this.#classify(address, isOwn), origin: null, asked: false, uses: 0 };
      this.#peers.set(key, peer);
      if (isOwn) this.#share(peer);
      else this.#undecided.set(peer, { netns, address });
    }
    peer.uses++;
    return peer;
  }

  /** Gives back a peer that `hold` gave, with the same namespace and address. */
  release(netns: number, address: Address): void {
    const key = keyOf(netns, address);
    const peer = this.#peers.get(key);
    if (!peer || --peer.uses > 0) return;
    this.#peers.delete(key);
    this.#undecided.delete(peer);
    const sharing = peer.bucket === null ? undefined : this.#byBucket.get(peer.bucket);
    sharing?.delete(peer);
    if (sharing?.size === 0) this.#byBucket.delete(peer.bucket ?? '');
  }

  /** Classifies peers whose namespaces' own addresses `isOwnOf` knows by now; gives them. */
  decide(isOwnOf: (netns: number) => ((address: Address) => boolean) | null): Set<Peer> {
    const decided = new Set<Peer>();
    const known = new Map<number, ReturnType<typeof isOwnOf>>();
    for (const [peer, { netns, address }] of this.#undecided) {
      let isOwn = known.get(netns);
      if (isOwn === undefined) known.set(netns, (isOwn = isOwnOf(netns)));
      if (!isOwn) continue;
      this.#undecided.delete(peer);
      Object.assign(peer, this.#classify(address, isOwn));
      this.#share(peer);
      decided.add(peer);
    }
    return decided;
  }

  /** Asks for a peer, once: to be called when a connection to it is more than SYN_RECV. Says whether its ASN became known. */
  ask(peer: Peer, now: number): boolean {
    const known = peer as KnownPeer;
    if (known.asked || known.bucket === null || !this.#cache || this.#isInCluster(known)) return false;
    known.asked = true;
    return this.#resolve(known, this.#cache.lookup(known.address, now));
  }

  /** The bucket whose answer will tell the ASN of a peer that was asked for and has none yet; null for every other. */
  awaits(peer: Peer): string | null {
    const { asked, asn, bucket } = peer as KnownPeer;
    return asked && asn === '' ? bucket : null;
  }

  /** The ASN of an address whose peer may be gone, as it is published; null while it is not known. */
  asnOf(address: Address, now: number): string | null {
    const origin = this.#cache?.lookup(address, now);
    return origin ? this.#publish(origin) : null;
  }

  /** Looks again at the peers of these buckets, because answers came or went; gives those whose published ASN changed. */
  learn(buckets: Iterable<string>, now: number): Set<Peer> {
    const changed = new Set<Peer>();
    for (const bucket of buckets)
      for (const peer of this.#byBucket.get(bucket) ?? []) {
        const origin = peer.asked ? (this.#cache?.lookup(peer.address, now) ?? null) : null;
        if (origin ? this.#resolve(peer, origin) : this.#unlearn(peer)) changed.add(peer);
      }
    return changed;
  }

  /** Looks up all peers in use about once a minute, which asks again for answers that grew old. */
  renew(now: number): void {
    if (Math.abs(now - this.#renewedAt) < RENEW_MS) return;
    this.#renewedAt = now;
    for (const peer of this.#peers.values())
      if (peer.asked && !this.#isInCluster(peer)) this.#cache?.lookup(peer.address, now);
  }

  #isInCluster({ address, bucket }: KnownPeer): boolean {
    return this.#policy.isInCluster?.(address, bucket ?? '') ?? false;
  }

  #classify(
    met: Address,
    ownTest: ((address: Address) => boolean) | null,
  ): Pick<KnownPeer, 'network' | 'address' | 'asn' | 'bucket'> {
    const isOwn = ownTest ?? (() => false);
    const { networks, neverSend, isHostOwn } = this.#policy;
    const remote = networkOf(met, isOwn, networks);
    const { network, address, asn } = remote;
    const question = this.#cache?.questionOf(address) ?? bucketOf(address);
    const own = [address, question.address].some((candidate) => isOwn(candidate) || isHostOwn(candidate));
    const bucket = ownTest && !own && mayBeAsked(remote, neverSend, networks, question) ? formatCidr(question) : null;
    return { network, address, asn: asn === null ? '' : String(asn), bucket };
  }

  #share(peer: KnownPeer): void {
    const { bucket } = peer;
    if (bucket === null) return;
    const sharing = this.#byBucket.get(bucket);
    if (sharing) sharing.add(peer);
    else this.#byBucket.set(bucket, new Set([peer]));
  }

  #resolve(peer: KnownPeer, origin: Origin | null): boolean {
    if (!origin) return false;
    const asn = this.#publish(origin);
    const changed = asn !== peer.asn;
    peer.origin = origin;
    peer.asn = asn;
    return changed;
  }

  /** What the answer said is not known any more. */
  #unlearn(peer: KnownPeer): boolean {
    if (!peer.origin) return false;
    peer.origin = null;
    peer.asn = '';
    return true;
  }

  #publish({ asns: [primary], name, asCountry }: Origin): string {
    const asn = String(primary ?? 0);
    if (primary !== undefined) {
      this.#names.delete(asn);
      this.#names.set(asn, { name: name ?? '', country: asCountry ?? '' });
      if (this.#names.size > NAMES_MOST) this.#names.delete(this.#names.keys().next().value ?? '');
    }
    return asn;
  }
}

function keyOf(netns: number, [a, b, c, d]: Address): string {
  return `${netns} ${a} ${b} ${c} ${d}`;
}
