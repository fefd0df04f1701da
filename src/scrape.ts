import { ConnectionTable } from './collect/connection-table.ts';
import { hostOf, type Host } from './collect/host.ts';
import type { SocketDump, SocketSource } from './collect/netlink.ts';
import type { Procfs } from './collect/procfs.ts';
import { ProtocolCounters } from './collect/protocol-counters.ts';
import type { Commands } from './collect/ss-netstat.ts';
import type { Clock } from './common/clock.ts';
import type { ServiceNames } from './common/etc-services.ts';
import type { AsnCache } from './enrich/asn/cache.ts';
import { ConnectionPeers } from './enrich/connection-peers.ts';
import { ClusterCache, type ClusterChange, type Resource } from './enrich/kubernetes/cluster-cache.ts';
import { NO_OWNER, OwnerLabeler } from './enrich/owner-labels.ts';
import type { Collector } from './metrics/catalogue.ts';
import { CollectorRuns, type Snapshot } from './metrics/collector-runs.ts';
import { ConnectionGroups } from './metrics/connection-groups.ts';
import { UNKNOWN_PEER } from './metrics/endpoint-peers.ts';
import { ScanCounts } from './metrics/counts.ts';
import { Families } from './metrics/families.ts';
import { Published, type PublishedOptions } from './metrics/published.ts';
import type { Direction, OwnerLabels, Rules } from './model.ts';
import type { LedgerSources } from './traffic/ledger.ts';
import { NO_SOURCE, TrafficCollector, type NetlinkStatus } from './traffic/traffic-collector.ts';
import { Expectations } from './unusual/expectations.ts';
import { UnusualMemory } from './unusual/memory.ts';
import { UnusualRecorder } from './unusual/recorder.ts';

/** What a scrape needs to know: the series budget, the rules of the configuration, and which collectors are on. */
export interface ScrapeOptions {
  readonly seriesLimit: number;
  /** The metric families and labels that are published; all by default. */
  readonly published?: PublishedOptions;
  readonly rules: Rules;
  readonly collectors: Readonly<Record<Exclude<Collector, 'sockets'>, boolean>>;
  /** Whether workloads are remembered for this node (the default) or for the whole cluster. */
  readonly baselineScope?: 'node' | 'cluster';
  /** Whether a store has what was remembered before, or by other nodes: then new things wait for its answer. */
  readonly hasStore?: boolean;
  /** The name of this node, under which its reports are stored. */
  readonly node?: string;
  /** The watched resources of a Kubernetes cluster; none by default. */
  readonly cluster?: readonly Resource[];
  /** The uid of the pod that this process runs in, if known. */
  readonly podUid?: string | null;
  /** 32 random bits, which key the hash of the connection table. */
  readonly seed?: number;
  /** Whether reads that a process can block end by themselves. */
  readonly guardsReads?: boolean;
  /** Returns how many more connections fit into memory; all by default. */
  readonly roomLeft?: () => number;
  /** Whether a missing socket source is shown as one that is down. */
  readonly expectsSockets?: boolean;
  /** The services that ports are registered for; none by default. */
  readonly services?: ServiceNames;
}

/** The share of the time of a scan in which tables are read. The rest is for finding the owners of sockets. */
const READING = 0.6;
/** The share of the time of a scan that reading and finding owners have at least, however long the rest takes. */
const LEAST_READING = 0.5;

/**
 * The life of a connection, scan by scan: read, attribute, enrich, aggregate. Everything is synchronous, nothing waits for the network:
 * lookups that a scan leaves in the ASN cache are answered elsewhere, and come back through `learn`.
 */
export class Scrape {
  readonly connections: ConnectionTable;
  readonly host: Host;
  readonly peers: ConnectionPeers;
  /** Null if the collector first-seen is off. */
  readonly unusual: UnusualMemory | null;
  readonly #clock: Clock;
  readonly #cache: AsnCache | null;
  readonly #cluster: ClusterCache | null;
  readonly #names: OwnerLabeler;
  readonly #protocols: ProtocolCounters;
  readonly #expectations: Expectations;
  readonly #recorder: UnusualRecorder | null;
  readonly #scope: 'node' | 'cluster';
  readonly #groups: ConnectionGroups;
  readonly #runs: CollectorRuns;
  readonly #families: Families;
  readonly #counts: ScanCounts;
  readonly #noSource: NetlinkStatus | null;
  /** When the last scan last asked whether it is late, and the milliseconds that it took from then on. */
  #askedAt = 0;
  #restMs = 0;
  /** Null without a socket source. */
  readonly traffic: TrafficCollector | null;

  /** Without a cache no ASN is looked up; without `sockets` no bytes are counted. */
  constructor(
    source: Procfs | Commands,
    options: ScrapeOptions,
    clock: Clock,
    cache: AsnCache | null,
    sockets: SocketSource | null = null,
  ) {
    const { rules, collectors, seriesLimit } = options;
    const monotonic = (): number => clock.monotonic();
    this.#clock = clock;
    this.#cache = cache;
    this.connections = new ConnectionTable(options.seed, options.services, options.roomLeft);
    this.#cluster = options.cluster ? new ClusterCache(options.cluster) : null;
    this.#names = new OwnerLabeler(this.#cluster, rules.workloads, monotonic);
    this.#protocols = new ProtocolCounters(seriesLimit, options.published?.podLabel);
    const parts = { names: this.#names, protocols: this.#protocols, monotonic, learnsCallers: sockets !== null };
    this.host = hostOf(source, this.connections, { ...options, ...parts });
    this.peers = new ConnectionPeers(this.connections, this.host, rules, { cluster: this.#cluster, cache });
    const cluster = this.#cluster;
    this.#groups = new ConnectionGroups(
      rules.endpointGroups,
      ({ address, port, transport }) => cluster?.endpointNameOf(address, port, transport) ?? null,
      cluster && ((address, port, transport) => cluster.workloadAt(address, port, transport) ?? UNKNOWN_PEER),
    );
    const { hasStore: isShared = false, node = '' } = options;
    this.#scope = options.baselineScope ?? 'node';
    this.#expectations = new Expectations(rules, (...owner) => this.#names.expectationsOf(...owner));
    const memoryOptions = {
      isShared,
      node,
      isExpected: (...thing: Parameters<Expectations['isExpected']>) => this.#expectations.isExpected(...thing),
      suspects: () => this.#expectations.suspects(),
    };
    this.unusual = collectors['first-seen'] ? new UnusualMemory(memoryOptions) : null;
    this.#recorder =
      this.unusual &&
      new UnusualRecorder(this.unusual, {
        connections: this.connections,
        names: this.#names,
        peers: this.peers.peers,
        peerOf: (i) => this.peers.of(i),
        startOf: (process) => this.host.startOf(process),
        isForeign: (i) => {
          const netns = this.connections.netns[i] ?? 0;
          return this.host.knowsOwn(netns) && !this.host.isOwn(netns)(this.connections.localAddress(i));
        },
        peerNameOf: (...endpoint) => this.#cluster?.peerNameOf(...endpoint) ?? null,
        changesAddresses: this.#cluster !== null,
      });
    const { connections, host } = this;
    const { peers } = this.peers;
    const labeling: Omit<LedgerSources, 'connections' | 'namespaces'> = {
      remoteOf: (i) => this.peers.of(i),
      awaitsAsn: (i) => {
        const peer = this.peers.of(i);
        return peer !== null && peers.pendingBucket(peer) !== null;
      },
      asnOf: (address, at) => peers.asnOf(address, at),
      isProvisional: (labels) => this.#names.isProvisional(labels),
      ownerOf: (i) => connections.labels[i] ?? NO_OWNER,
      endpointOf: (i) => this.#groups.endpointOf(connections, i, this.peers.of(i)),
      sent: (labels, bytes, tenant) => this.#recorder?.addSent(labels, bytes, tenant),
    };
    this.#counts = new ScanCounts(seriesLimit, options.seed);
    this.#noSource = options.expectsSockets === true ? NO_SOURCE : null;
    this.traffic = TrafficCollector.open(host, connections, sockets, labeling, seriesLimit);
    this.#runs = new CollectorRuns((collector) => collector === 'sockets' || collectors[collector], monotonic);
    this.#families = new Families(
      seriesLimit,
      (collector) => this.#runs.publishes(collector),
      (collector, reason) => this.#runs.report(collector, reason),
      new Published(options.published),
    );
  }

  /**
   * Scans without computing metrics. With `settles`, sockets without a process are looked up in a second scan: one that is still there
   * and that no process holds belongs to the kernel. Throws if sockets cannot be read.
   */
  scanRows(settles = false, dump: SocketDump | null = null): Pick<Snapshot, 'at' | 'unreadableNamespaces'> {
    this.#collect(Infinity, dump);
    if (settles && (this.host.unattributed.get('vanished') ?? 0) > 0) this.#collect(Infinity, dump);
    for (const i of this.connections.indexes()) this.connections.settle(i);
    return this.#readState();
  }

  /**
   * Scans once and computes all metrics. After about `withinMs` milliseconds, namespaces that were not reached keep their rows of the
   * scan before. What comes after reading has as long as it took in the scan before. A collector that fails costs its own families; throws if sockets cannot be read or counted. A dump replaces the TCP
   * tables of its namespace.
   */
  scan(withinMs: number, dump: SocketDump | null = null): Snapshot {
    const at = this.#collect(Math.max(withinMs * LEAST_READING, withinMs - this.#restMs), dump);
    const groups = this.#runs.run('endpoints', () => this.#groups.count(this.connections, (i) => this.peers.of(i)));
    if (this.#groups.failure !== null) this.#runs.fail('endpoints', this.#groups.failure);
    this.#runs.attempt('netlink', () => this.traffic?.countOpen((i) => this.#groups.groupOf(i), at));
    let firstSeen: ReturnType<UnusualRecorder['firstSeen']> = { asns: [], baselines: [] };
    this.#runs.attempt('first-seen', () => {
      firstSeen = this.#recorder?.firstSeen(groups) ?? firstSeen;
    });
    const { connections, host, peers, unusual } = this;
    const counted = {
      connections,
      host,
      peers,
      groups,
      endpointPeers: this.#groups.endpointPeers,
      unusual: unusual && {
        scope: this.#scope,
        memory: unusual,
        firstSeen,
      },
      protocols: this.#protocols,
      asnCache: this.#cache,
      traffic: this.traffic?.traffic ?? null,
      netlink: this.traffic?.status ?? this.#noSource,
    };
    const families = this.#families.of(this.#counts.scanData(counted, at), at);
    this.#restMs = this.#clock.monotonic() - this.#askedAt;
    return {
      ...this.#readState(),
      families,
      collectors: this.#runs.summary(host),
      malformedRows: host.malformed,
      failures: this.#runs.failures,
    };
  }

  /** Reads the sockets, finds their processes, and enriches both. Returns when the scan began. */
  #collect(withinMs: number, dump: SocketDump | null): number {
    const { connections, host } = this;
    const runs = this.#runs;
    const at = this.#clock.now();
    const begun = this.#clock.monotonic();
    const isLate = (share = 1): boolean => {
      this.#askedAt = this.#clock.monotonic();
      return this.#askedAt - begun >= withinMs * share;
    };
    runs.begin();
    runs.attempt('first-seen', () => this.#recorder?.begin(at));
    const renamed = this.#rename(begun);
    this.peers.begin();

    runs.run('sockets', () => host.collect(at, (share = 1) => isLate(READING * share), dump));
    runs.add('sockets', -host.protocolsMs);
    runs.add('protocols', host.protocolsMs);
    if (host.protocolsFailure !== null) runs.fail('protocols', host.protocolsFailure);

    runs.attempt('netlink', () => this.traffic?.match(at, begun));

    runs.attempt('processes', () => host.attribute(() => isLate()));
    const { slowPattern } = this.#names;
    if (slowPattern !== null)
      runs.report(
        'processes',
        `Cannot match pattern ${JSON.stringify(slowPattern.source)} with all workloads: it takes too long`,
      );
    if (host.namingFailure !== null) runs.report('processes', host.namingFailure);

    runs.attempt('asn', () => this.peers.update(at));

    let wiped: ReadonlyMap<Direction, number> = new Map();
    runs.attempt('netlink', () => {
      wiped = this.traffic?.countEnded(at, renamed) ?? wiped;
    });
    connections.closeEnded();
    this.#counts.add(connections, this.#protocols, at, wiped);
    runs.attempt('first-seen', () => {
      for (const { owner, version } of this.#cluster?.versions ?? []) this.unusual?.noteVersion(owner, version, at);
      this.#recorder?.record(renamed);
    });
    return at;
  }

  /** Publishes under the names that Kubernetes has reported by now. Returns those that changed. */
  #rename(now: number): ReadonlyMap<OwnerLabels, OwnerLabels> {
    this.#cluster?.beginScan(now);
    const renamed = this.#names.beginScan(now);
    if (this.#cluster?.takeLabelsChanged()) this.host.renameAll();
    const hasOtherPods = this.#cluster?.takePodsChanged() ?? false;
    if (renamed.size > 0 || hasOtherPods) this.host.relabel(renamed);
    return renamed;
  }

  #readState(): Pick<Snapshot, 'at' | 'unreadableNamespaces'> {
    const { oldestReadAt, status, unread } = this.host;
    return { at: oldestReadAt, unreadableNamespaces: status.unreadable + status.incomplete + unread.hidden };
  }

  /** Takes in new answers of the ASN cache, by bucket. */
  learn(buckets: ReadonlySet<string>): void {
    const now = this.#clock.now();
    this.peers.learn(buckets, now);
    for (const bucket of buckets) this.#recorder?.resolve(bucket, now);
  }

  /** Names, groups and classifies all connections by these rules from the next scan on. */
  adopt(rules: Rules): void {
    this.#names.adopt(rules.workloads);
    this.host.adopt(rules);
    this.#groups.adopt(rules.endpointGroups);
    this.peers.adopt(rules);
    this.#expectations.adopt(rules);
  }

  /** Takes in a change of the Kubernetes cluster. */
  updateCluster(change: ClusterChange): void {
    this.#cluster?.accept(change, this.#clock.monotonic());
  }
}
