import type { Collector, CollectorRun } from './metrics/catalogue.ts';
import { listenersOf, ConnectionCounters } from './metrics/counts.ts';
import type { Clock } from './common/clock.ts';
import { parseCgroup } from './collect/cgroup.ts';
import type { Commands } from './collect/ss-netstat.ts';
import { ConnectionTable } from './collect/connection-table.ts';
import { Coverage } from './collect/poll-coverage.ts';
import { ProcfsHost, type Host } from './collect/host.ts';
import type { Unshown } from './collect/namespaces.ts';
import { Procfs } from './collect/procfs.ts';
import { Protocols } from './collect/protocol-counters.ts';
import { SYN_RECV, UDP } from './collect/net-tcp-udp-raw.ts';
import { ToldHost } from './collect/command-host.ts';
import type { AsnCache } from './enrich/asn/cache.ts';
import { Cluster, type ClusterChange, type Resource } from './enrich/kubernetes/cluster-cache.ts';
import { FirstSeenMemory } from './first-seen/memory.ts';
import { Peers, type Peer, type PeerPolicy } from './enrich/peers.ts';
import { Families } from './metrics/families.ts';
import { ConnectionGroups } from './metrics/connection-groups.ts';
import { FirstSeenRecorder } from './first-seen/recorder.ts';
import type { Address, Family, OwnerLabels, Rules } from './model.ts';
import { OwnerNames } from './enrich/owner-labels.ts';
import type { Kept, Sighting } from './store/contract.ts';

const NO_CGROUP = parseCgroup('');

/** What a scrape is told: the budget of series, the rules of the configuration, and what is switched on. */
export interface ScrapeOptions {
  readonly seriesLimit: number;
  readonly rules: Rules;
  readonly collectors: Readonly<Record<Exclude<Collector, 'sockets'>, boolean>>;
  /** Whether first times are kept for this node or for the whole cluster: who else writes to the store. */
  readonly baselineScope?: 'node' | 'cluster';
  /** The resources of a Kubernetes cluster that `know` will be told of; none by default. */
  readonly cluster?: readonly Resource[];
  /** The uid of the pod that this runs in, where that is known. */
  readonly podUid?: string | null;
  /** 32 bits by chance, for the hash of a connection table that strangers fill. */
  readonly seed?: number;
}

const NO_WORDS: ReadonlySet<number> = new Set();

/** What is collected for rows alone: what `serve` publishes is no concern of them. */
export const FOR_ROWS: ScrapeOptions['collectors'] = {
  processes: true,
  protocols: false,
  endpoints: false,
  asn: true,
  'first-seen': false,
};

/** Does the work of a collector, and notes what it took. */
type Stage = <T>(collector: Collector, work: () => T) => T;

/** What one scan leaves behind; `at` in milliseconds since 1970. */
export interface Snapshot {
  readonly at: number;
  readonly families: readonly Family[];
  readonly collectors: readonly CollectorRun[];
  /** Lines that could not be read as a row, by socket table. */
  readonly malformedRows: ReadonlyMap<string, number>;
  /** Namespaces whose rows could not be read, or not in time. */
  readonly unreadableNamespaces: number;
  /** Why families are missing: a line for each collector or family that failed. */
  readonly failures: readonly string[];
}

/**
 * The life of a connection, one scan at a time: collect, attribute, enrich, aggregate. Everything is synchronous and nothing
 * waits for the network: the questions that a scan leaves in the ASN cache are answered elsewhere, and answers come in through `learn`,
 * what is known of a cluster through `know`.
 */
export class Scrape {
  readonly connections: ConnectionTable;
  readonly host: Host;
  readonly #options: ScrapeOptions;
  readonly #clock: Clock;
  readonly #cache: AsnCache | null;
  readonly #cluster: Cluster | null;
  readonly #names: OwnerNames;
  readonly #peers: Peers;
  readonly #peerOf: (Peer | null)[] = [];
  readonly #groups: ConnectionGroups;
  readonly #families: Families;
  readonly #protocols: Protocols;
  readonly #coverage = new Coverage();
  readonly #firstSeen: FirstSeenMemory | null;
  readonly #recorder: FirstSeenRecorder | null;
  /** False until it is known which addresses are the cluster's. */
  #mayAsk: boolean;
  /** Collectors whose families are left out of this scan. */
  readonly #broken = new Set<Collector>();
  /** Why collectors, or single families of theirs, failed in this scan. */
  #failures: { readonly collector: Collector; readonly reason: string }[] = [];
  readonly #opened = new ConnectionCounters();
  readonly #closed = new ConnectionCounters();

  /** Without a cache no ASN is asked for or shown. */
  constructor(source: Procfs | Commands, options: ScrapeOptions, clock: Clock, cache: AsnCache | null) {
    this.#options = options;
    this.#clock = clock;
    this.#cache = cache;
    const connections = (this.connections = new ConnectionTable(options.seed));
    this.#protocols = new Protocols(options.seriesLimit);
    this.#cluster = options.cluster ? new Cluster(options.cluster) : null;
    this.#mayAsk = this.#cluster === null;
    this.#names = new OwnerNames(this.#cluster);
    this.host =
      source instanceof Procfs
        ? new ProcfsHost(source, connections, {
            rules: options.rules.processes,
            findsOwners: options.collectors.processes,
            protocols: options.collectors.protocols ? this.#protocols : null,
            monotonic: () => clock.monotonic(),
            names: this.#names,
            podUid: options.podUid ?? null,
          })
        : new ToldHost(source, connections, (name) => this.#names.of(name, NO_CGROUP));
    this.#peers = new Peers(this.#policyOf(options.rules), cache);
    this.#groups = new ConnectionGroups(
      options.rules.endpointGroups,
      ({ address, port, transport }) => this.#cluster?.nameOf(address, port, transport) ?? null,
    );
    const begun = clock.monotonic();
    const startedAt = (): number => clock.now() - (clock.monotonic() - begun);
    const scope = options.baselineScope ?? 'node';
    this.#firstSeen = this.#isOn('first-seen') ? new FirstSeenMemory(scope, startedAt) : null;
    const scene = { connections, names: this.#names, peers: this.#peers, peerOf: (i: number) => this.peerOf(i) };
    this.#recorder = this.#firstSeen && new FirstSeenRecorder(this.#firstSeen, scene);
    this.#families = new Families(
      options.seriesLimit,
      (collector) => this.#isOn(collector) && !this.#broken.has(collector),
      (collector, reason) => this.#failures.push({ collector, reason }),
    );
  }

  /** Scans the host once, and counts nothing: for who wants the rows alone, on a scrape that never counts. Throws where sockets cannot be collected. */
  look(): Pick<Snapshot, 'at' | 'unreadableNamespaces'> {
    const { hidden } = this.#see(Infinity).unshown;
    for (const i of this.connections.indexes()) this.connections.settle(i);
    return { at: this.host.oldestReadAt, unreadableNamespaces: this.host.status.unreadable + hidden };
  }

  /**
   * Scans the host once, in about so many milliseconds at most: what is not reached by then keeps its rows of the scan before.
   * A collector that fails costs its own families; throws where sockets cannot be collected or counted.
   */
  run(withinMs: number): Snapshot {
    const { at, unshown, runs, stage } = this.#see(withinMs);
    const groups = stage('endpoints', () => this.#groups.count(this.connections, (i) => this.peerOf(i)));
    this.#attempt('first-seen', () => this.#recorder?.markPresent(groups));
    if (this.#groups.failure !== null) this.#fail('endpoints', this.#groups.failure);
    if (this.host.protocolsFailure !== null) this.#fail('protocols', this.host.protocolsFailure);
    const { namingFailure } = this.host;
    if (namingFailure !== null) this.#failures.push({ collector: 'processes', reason: namingFailure });

    const { read, unchanged, empty } = this.host.status;
    const unreadable = this.host.status.unreadable + unshown.hidden;
    const families = this.#families.of(
      {
        groups,
        listeners: listenersOf(this.connections),
        processes: [...this.host.holding],
        unattributed: this.host.unattributed,
        directionsGuessed: this.connections.guessed,
        opened: this.#opened.contributions,
        closed: this.#closed.contributions,
        protocols: this.#protocols,
        coverageRatio: this.#coverage.ratio(at),
        namespaces: { read, unchanged, empty, unreadable, no_process: unshown.withoutProcess },
        asnNames: this.#peers.names,
        asnCache: this.#cache,
        firstSeen: this.#firstSeen,
      },
      at,
    );
    const failed = new Set(this.#failures.map(({ collector }) => collector));
    return {
      at: this.host.oldestReadAt,
      families,
      collectors: runs.map((run) => ({ ...run, success: run.success && !failed.has(run.collector) })),
      malformedRows: this.host.malformed,
      unreadableNamespaces: unreadable,
      failures: this.#failures.map(({ reason }) => reason),
    };
  }

  /** Takes in that these buckets of the ASN cache have a new answer. */
  learn(buckets: ReadonlySet<string>): void {
    const now = this.#clock.now();
    this.#regroup(this.#peers.learn(buckets, now));
    const asnOf = (address: Address): string | null => this.#peers.asnOf(address, now);
    for (const bucket of buckets) this.#firstSeen?.resolve(bucket, asnOf);
  }

  /** Goes by these rules from the next scan on: what is there is named, grouped and classified anew. */
  adopt(rules: Rules): void {
    this.host.adopt(rules.processes);
    this.#groups.adopt(rules.endpointGroups);
    this.#peers.adopt(this.#policyOf(rules));
    this.#peerOf.fill(null);
    for (const i of this.connections.indexes()) this.connections.touch(i);
  }

  /** Takes in news of the cluster. */
  know(news: ClusterChange): void {
    this.#cluster?.accept(news, this.#clock.monotonic());
  }

  /** First times that a store is to be asked for; its answers come back through `confirm`. */
  takeSightings(): Sighting[] {
    return this.#firstSeen?.takeSightings() ?? [];
  }

  /** Gives out all first times again: the store may lack them. */
  reportFirstSeen(): void {
    this.#firstSeen?.queueAll();
  }

  /** Takes in what a store kept of sightings. */
  confirm(kept: readonly Kept[]): void {
    this.#firstSeen?.confirm(kept, this.#clock.now());
  }

  /** The peer of a connection, one that the last scan closed included; null where it has no remote end. */
  peerOf(index: number): Peer | null {
    return this.#peerOf[index] ?? null;
  }

  /** Collects, attributes and enriches; `stage` runs what comes after as the work of a collector. */
  #see(withinMs: number): { at: number; unshown: Unshown; runs: readonly CollectorRun[]; stage: Stage } {
    const at = this.#clock.now();
    const begun = this.#clock.monotonic();
    const isLate = (): boolean => this.#clock.monotonic() - begun >= withinMs;
    const runs: CollectorRun[] = [];
    this.#broken.clear();
    this.#failures = [];
    const stage: Stage = (collector, work) => {
      const begun = this.#clock.monotonic();
      const outcome = work();
      const protocolsMs = collector === 'sockets' ? this.host.protocolsMs : 0;
      const seconds = (this.#clock.monotonic() - begun - protocolsMs) / 1000;
      const success =
        collector === 'sockets' ? this.host.status.unreadable === 0 : collector !== 'processes' || this.host.seesOwners;
      if (this.#isOn(collector)) runs.push({ collector, seconds, success });
      return outcome;
    };

    const renamed = this.#rename();
    const unshown = stage('sockets', () => this.#collect(at, isLate));
    if (this.#isOn('protocols'))
      runs.push({ collector: 'protocols', seconds: this.host.protocolsMs / 1000, success: true });
    stage('processes', () => this.#attempt('processes', () => this.host.attribute(isLate)));
    stage('asn', () => this.#attempt('asn', () => this.#enrich(at)));
    stage('first-seen', () => this.#attempt('first-seen', () => this.#recorder?.record(at, renamed)));
    return { at, unshown, runs, stage };
  }

  /** Publishes under the names that are known by now; gives those that changed. */
  #rename(): ReadonlyMap<OwnerLabels, OwnerLabels> {
    const now = this.#clock.monotonic();
    this.#cluster?.begin(now);
    const renamed = this.#names.begin(now);
    const moved = this.#cluster?.takeMoved() ?? NO_WORDS;
    const otherPods = this.#cluster?.takeOtherPods() ?? false;
    if (renamed.size > 0 || otherPods) this.host.relabel(renamed);
    const begins = !this.#mayAsk && this.#cluster?.isSettled === true;
    this.#mayAsk ||= begins;
    const { local, remote } = this.connections;
    if (begins || moved.size > 0)
      for (const i of this.connections.indexes())
        if (begins || moved.has(local[i * 4 + 3] ?? 0) || moved.has(remote[i * 4 + 3] ?? 0)) this.connections.touch(i);
    return renamed;
  }

  #collect(at: number, isLate: () => boolean): Unshown {
    this.#forgetPeers();
    return this.host.collect(at, isLate);
  }

  /** The peers of closed connections stand as long as their columns: until the next scan begins. */
  #forgetPeers(): void {
    const { connections } = this;
    for (const i of connections.closed) {
      if (this.#peerOf[i]) this.#peers.release(connections.netns[i] ?? 0, connections.remoteAddress(i));
      this.#peerOf[i] = null;
    }
  }

  #enrich(at: number): void {
    const { connections } = this;
    for (const i of connections.closed) this.#closed.add(connections, i);
    for (const i of connections.opened) if (connections.openedAt[i] !== 0) this.#opened.add(connections, i);
    this.#regroup(this.#peers.decide((netns) => this.#isOwnOf(netns)));
    const resolved = new Set<Peer>();
    let begun = 0;
    for (let i = 0; i < connections.length; i++) {
      if (connections.changed[i] === 0 || !connections.has(i) || connections.direction[i] === 'listen') continue;
      const peer = (this.#peerOf[i] ??= this.#hold(i));
      if (connections.state[i] === SYN_RECV) continue;
      if (this.#mayAsk && this.#peers.ask(peer, at)) resolved.add(peer);
      if ((connections.table[i] ?? 0) < UDP && connections.takeBegun(i)) begun++;
    }
    this.#coverage.add(at, begun, this.#protocols.opened);
    this.#regroup(resolved);
    this.#peers.renew(at);
  }

  #policyOf({ networks, asnNeverSend: neverSend }: Rules): PeerPolicy {
    return {
      networks,
      neverSend,
      isHostOwn: (address) => this.host.isHostOwn(address),
      isInCluster: (address, bucket) => this.#cluster?.keepsBack(address, bucket) ?? false,
    };
  }

  #hold(i: number): Peer {
    const netns = this.connections.netns[i] ?? 0;
    return this.#peers.hold(netns, this.connections.remoteAddress(i), this.#isOwnOf(netns));
  }

  #isOwnOf(netns: number): ((address: Address) => boolean) | null {
    return this.host.knowsOwn(netns) ? this.host.isOwn(netns) : null;
  }

  /** Connections of these peers are shown anew. */
  #regroup(peers: ReadonlySet<Peer>): void {
    if (peers.size === 0) return;
    for (const i of this.connections.indexes()) {
      const peer = this.peerOf(i);
      if (peer && peers.has(peer)) this.connections.touch(i);
    }
  }

  /** Does the work of a collector; where it fails its families are left out. */
  #attempt(collector: Collector, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fail(collector, error);
    }
  }

  #fail(collector: Collector, error: unknown): void {
    this.#broken.add(collector);
    this.#failures.push({ collector, reason: `Cannot collect "${collector}": ${String(error)}` });
  }

  #isOn(collector: Collector): boolean {
    return collector === 'sockets' || this.#options.collectors[collector];
  }
}
