import type { Collector, CollectorRun } from './catalogue.ts';
import { listenersOf, Tally } from './census.ts';
import type { Clock } from './clock.ts';
import { Attribution } from './collect/attribution.ts';
import { cgroupParser } from './collect/cgroup.ts';
import { ConnectionTable } from './collect/connections.ts';
import { Coverage } from './collect/coverage.ts';
import { Namespaces } from './collect/namespaces.ts';
import { Owners } from './collect/owners.ts';
import { Processes } from './collect/processes.ts';
import { failed, type Procfs } from './collect/procfs.ts';
import { Protocols } from './collect/protocols.ts';
import { SYN_RECV, UDP } from './collect/sockets.ts';
import { SocketTables } from './collect/tables.ts';
import type { AsnCache } from './enrich/asn.ts';
import { Cluster, type ClusterChange, type Resource } from './enrich/cluster.ts';
import { FirstSeenMemory, type Kept, type Sighting } from './enrich/first-seen.ts';
import { Peers, type Peer } from './enrich/peers.ts';
import { UnnamedMeetings, type UnnamedMeeting } from './enrich/unnamed.ts';
import { Families } from './families.ts';
import { Groups } from './groups.ts';
import type { Address, Direction, Family, OwnerLabels, Rules } from './model.ts';
import { OwnerNames } from './owner-labels.ts';

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

/** What one scan leaves behind; `at` in milliseconds since 1970. */
export interface Snapshot {
  readonly at: number;
  readonly families: readonly Family[];
  readonly collectors: readonly CollectorRun[];
  /** Namespaces whose rows could not be read, or not in time. */
  readonly unreadableNamespaces: number;
}

/**
 * The life of a connection, one scan at a time: collect, attribute, enrich, aggregate. Everything is synchronous and nothing
 * waits for the network: the questions that a scan leaves in the ASN cache are answered elsewhere, and answers come in through `learn`,
 * what is known of a cluster through `know`.
 */
export class Scrape {
  readonly connections: ConnectionTable;
  readonly tables: SocketTables;
  readonly processes: Processes;
  readonly #procfs: Procfs;
  readonly #options: ScrapeOptions;
  readonly #clock: Clock;
  readonly #cache: AsnCache | null;
  readonly #namespaces = new Namespaces();
  readonly #owners: Owners;
  readonly #attribution: Attribution;
  readonly #cluster: Cluster | null;
  readonly #names: OwnerNames;
  readonly #peers: Peers;
  readonly #peerOf: (Peer | null)[] = [];
  readonly #groups: Groups;
  readonly #families: Families;
  readonly #protocols: Protocols;
  readonly #coverage = new Coverage();
  readonly #firstSeen: FirstSeenMemory | null;
  readonly #unnamed = new UnnamedMeetings();
  /** False until it is known which addresses are the cluster's. */
  #mayAsk: boolean;
  #firstAt: number | null = null;
  /** When connections were seen first that are not of the first scan and may have been open before: few, if any. */
  readonly #foundAt = new Map<number, number>();
  readonly #opened = new Tally();
  readonly #closed = new Tally();

  /** Without a cache no ASN is asked for or shown. */
  constructor(procfs: Procfs, options: ScrapeOptions, clock: Clock, cache: AsnCache | null) {
    this.#procfs = procfs;
    this.#options = options;
    this.#clock = clock;
    this.#cache = cache;
    const connections = (this.connections = new ConnectionTable(options.seed));
    this.#protocols = new Protocols(options.seriesLimit);
    this.#cluster = options.cluster ? new Cluster(options.cluster) : null;
    this.#mayAsk = this.#cluster === null;
    this.#names = new OwnerNames(this.#cluster);
    const ofPid1 = procfs.read(1, 'cgroup');
    this.processes = new Processes(
      procfs,
      options.rules.processes,
      (name, cgroup) => this.#names.of(name, cgroup),
      cgroupParser(failed(ofPid1) ? '' : ofPid1.toString(), options.podUid ?? null),
    );
    this.#owners = new Owners(procfs, {
      arrived: connections.arrived,
      left: connections.left,
      isLive: (inode) => connections.indexOf(inode) >= 0,
      neighbours: (inode) => this.tables.namespace(connections.netns[connections.indexOf(inode)] ?? -1)?.pids ?? [],
    });
    this.tables = new SocketTables(procfs, connections, {
      owners: this.#owners,
      protocols: options.collectors.protocols ? this.#protocols : null,
      monotonic: () => clock.monotonic(),
      labelsOf: (pids) => this.#names.ofNamespace(pids.values().map((pid) => this.processes.cgroupOf(pid))),
    });
    this.#attribution = new Attribution({
      connections,
      tables: this.tables,
      owners: this.#owners,
      processes: this.processes,
      seesAllProcesses: procfs.seesAllProcesses,
    });
    const { networks, asnNeverSend: neverSend } = options.rules;
    const isHostOwn = (address: Address): boolean => this.tables.isHostOwn(address);
    const isInCluster = (address: Address, bucket: string): boolean =>
      this.#cluster?.keepsBack(address, bucket) ?? false;
    this.#peers = new Peers({ networks, neverSend, isHostOwn, isInCluster }, cache);
    this.#groups = new Groups(
      options.rules.endpointGroups,
      ({ address, port, transport }) => this.#cluster?.nameOf(address, port, transport) ?? null,
    );
    this.#firstSeen = this.#isOn('first-seen') ? new FirstSeenMemory(options.baselineScope ?? 'node') : null;
    this.#families = new Families(options.seriesLimit, (collector) => this.#isOn(collector));
  }

  /** Scans the host once, in about so many milliseconds at most: what is not reached by then keeps its rows of the scan before. */
  run(withinMs: number): Snapshot {
    const at = this.#clock.now();
    const begun = this.#clock.monotonic();
    const isLate = (): boolean => this.#clock.monotonic() - begun >= withinMs;
    const collectors: CollectorRun[] = [];
    const stage = <T>(collector: Collector, work: () => T): T => {
      const begun = this.#clock.monotonic();
      const outcome = work();
      const protocolsMs = collector === 'sockets' ? this.tables.protocolsMs : 0;
      const seconds = (this.#clock.monotonic() - begun - protocolsMs) / 1000;
      const success =
        collector === 'sockets'
          ? this.tables.status.unreadable === 0
          : collector !== 'processes' || this.#owners.isComplete;
      if (this.#isOn(collector)) collectors.push({ collector, seconds, success });
      return outcome;
    };

    const renamed = this.#rename();
    const hidden = stage('sockets', () => this.#collect(at, isLate));
    if (this.#isOn('protocols'))
      collectors.push({ collector: 'protocols', seconds: this.tables.protocolsMs / 1000, success: true });
    stage('processes', () => this.#attribute(isLate));
    this.#firstSeen?.begin(at);
    stage('asn', () => this.#enrich(at));
    stage('first-seen', () => this.#remember(at, renamed));
    const groups = stage('endpoints', () => this.#groups.count(this.connections, (i) => this.peerOf(i)));
    for (const { owner, direction, state, labels } of groups)
      if (!this.#names.isHalfKnown(owner))
        this.#firstSeen?.present(owner, direction, state === 'syn_received' ? '' : (labels['asn'] ?? ''));
    this.#firstSeen?.end();

    const { read, unchanged, empty, unreadable } = this.tables.status;
    const families = this.#families.of(
      {
        groups,
        listeners: listenersOf(this.connections),
        processes: [...this.#attribution.holding],
        unattributed: this.#attribution.unattributed,
        directionsGuessed: this.connections.guessed,
        opened: this.#opened.contributions,
        closed: this.#closed.contributions,
        protocols: this.#protocols,
        coverageRatio: this.#coverage.ratio(at),
        namespaces: { read, unchanged, empty, unreadable: unreadable + hidden },
        malformedRows: this.tables.malformed,
        asnNames: this.#peers.names,
        asnCache: this.#cache,
        firstSeen: this.#firstSeen,
      },
      at,
    );
    return { at: this.tables.oldestReadAt, families, collectors, unreadableNamespaces: unreadable + hidden };
  }

  /** Takes in that these buckets of the ASN cache have a new answer. */
  learn(buckets: ReadonlySet<string>): void {
    const now = this.#clock.now();
    this.#regroup(this.#peers.learn(buckets, now));
    const asnOf = (address: Address): string | null => this.#peers.asnOf(address, now);
    for (const bucket of buckets) this.#firstSeen?.answered(bucket, asnOf);
  }

  /** Takes in news of the cluster. */
  know(news: ClusterChange): void {
    this.#cluster?.accept(news, this.#clock.monotonic());
  }

  /** First times that a store is to be asked for; its answers come back through `confirm`. */
  takeSightings(): Sighting[] {
    return this.#firstSeen?.takeReports() ?? [];
  }

  /** Gives out all first times again: the store may lack them. */
  reportFirstSeen(): void {
    this.#firstSeen?.reportAll();
  }

  /** Takes in what a store kept of sightings. */
  confirm(kept: readonly Kept[]): void {
    this.#firstSeen?.confirm(kept, this.#clock.now());
  }

  /** The peer of a connection, one that the last scan closed included; null where it has no remote end. */
  peerOf(index: number): Peer | null {
    return this.#peerOf[index] ?? null;
  }

  /** Publishes under the names that are known by now; gives those that changed. */
  #rename(): ReadonlyMap<OwnerLabels, OwnerLabels> {
    const now = this.#clock.monotonic();
    this.#cluster?.begin(now);
    const renamed = this.#names.begin(now);
    if (renamed.size > 0) {
      this.processes.relabel(renamed);
      this.#attribution.relabel(renamed);
    }
    const moved = this.#cluster?.takeMoved() ?? NO_WORDS;
    if (renamed.size > 0 || moved.size > 0) this.tables.forgetPods();
    const begins = !this.#mayAsk && this.#cluster?.isSettled === true;
    this.#mayAsk ||= begins;
    const { changed, local, remote } = this.connections;
    if (begins || moved.size > 0)
      for (const i of this.connections.indexes())
        if (begins || moved.has(local[i * 4 + 3] ?? 0) || moved.has(remote[i * 4 + 3] ?? 0)) changed[i] = 1;
    return renamed;
  }

  #collect(at: number, isLate: () => boolean): number {
    const pids = this.#procfs.pids();
    const { namespaces, hidden } = this.#namespaces.find(this.#procfs, pids);
    this.processes.begin(pids);
    if (this.#isOn('processes')) this.#owners.survey(pids);
    for (const holder of this.#attribution.holding)
      if (this.processes.get(holder.pid, this.#owners.openFdsOf(holder.pid)) !== holder) this.#owners.reset(holder.pid);
    this.#forgetPeers();
    this.tables.read(namespaces, at, isLate);
    return hidden;
  }

  /** The peers of closed connections stand as long as their columns: until the next scan begins. */
  #forgetPeers(): void {
    const { connections } = this;
    for (const i of connections.closed) {
      if (this.#peerOf[i]) this.#peers.release(connections.netns[i] ?? 0, connections.remoteAddress(i));
      this.#peerOf[i] = null;
    }
  }

  #attribute(isLate: () => boolean): void {
    if (this.#isOn('processes')) this.#owners.resolve(isLate);
    this.#attribution.update();
  }

  #enrich(at: number): void {
    const { connections } = this;
    for (const i of connections.closed) this.#closed.add(connections, i);
    for (const i of connections.opened) if (connections.openedAt[i] !== 0) this.#opened.add(connections, i);
    const resolved = new Set<Peer>();
    let begun = 0;
    for (let i = 0; i < connections.length; i++) {
      if (connections.changed[i] === 0 || !connections.has(i) || connections.direction[i] === 'listen') continue;
      const peer = (this.#peerOf[i] ??= this.#hold(i));
      if (connections.state[i] === SYN_RECV) continue;
      if (this.#mayAsk && this.#peers.ask(peer, at)) resolved.add(peer);
      if ((connections.table[i] ?? 0) < UDP && connections.hasBegun(i)) begun++;
    }
    this.#coverage.add(at, begun, this.#protocols.opened);
    this.#regroup(resolved);
    this.#peers.renew(at);
  }

  /** Connections that are new, changed or gone meet the operators at their other ends, now or when the answer comes. */
  #remember(at: number, renamed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    if (!this.#firstSeen) return;
    const { connections } = this;
    for (const [before, labels] of renamed)
      for (const meeting of this.#unnamed.take(before)) this.#meetLate(labels, meeting, at);
    const firstAt = (this.#firstAt ??= at);
    for (const i of connections.closed) {
      this.#meet(i, firstAt);
      this.#foundAt.delete(i);
    }
    if (firstAt !== at) for (const i of connections.opened) if (connections.openedAt[i] === 0) this.#foundAt.set(i, at);
    for (let i = 0; i < connections.length; i++)
      if (connections.changed[i] !== 0 && connections.has(i)) this.#meet(i, firstAt);
  }

  #meet(i: number, firstAt: number): void {
    const { connections } = this;
    const peer = this.peerOf(i);
    const labels = connections.labels[i];
    const direction = connections.direction[i];
    if (!peer || !labels || !direction || connections.state[i] === SYN_RECV) return;
    const openedAt = connections.openedAt[i] || (this.#foundAt.get(i) ?? firstAt);
    const { asn, address } = peer;
    const isOpen = connections.has(i);
    if (this.#names.isHalfKnown(labels)) {
      const bucket = this.#peers.awaits(peer);
      if (!isOpen && (asn !== '' || bucket !== null))
        this.#unnamed.add(labels, { direction, asn, bucket, address, openedAt });
    } else if (asn !== '') this.#firstSeen?.meet(labels, direction, asn, openedAt);
    else if (!isOpen) this.#awaitAnswer(labels, direction, this.#peers.awaits(peer), address, openedAt);
  }

  /** The owner of a connection that is closed has names by now, or other ones. */
  #meetLate(labels: OwnerLabels, meeting: UnnamedMeeting, at: number): void {
    if (this.#names.isHalfKnown(labels)) {
      this.#unnamed.add(labels, meeting);
      return;
    }
    const { direction, address, bucket, openedAt } = meeting;
    const asn = meeting.asn === '' ? (this.#peers.asnOf(address, at) ?? '') : meeting.asn;
    if (asn !== '') this.#firstSeen?.meet(labels, direction, asn, openedAt);
    else this.#awaitAnswer(labels, direction, bucket, address, openedAt);
  }

  #awaitAnswer(
    labels: OwnerLabels,
    direction: Direction,
    bucket: string | null,
    address: Address,
    openedAt: number,
  ): void {
    if (bucket !== null) this.#firstSeen?.wait(bucket, labels, direction, address, openedAt);
  }

  #hold(i: number): Peer {
    const netns = this.connections.netns[i] ?? 0;
    const isOwn = this.tables.knowsOwn(netns) ? this.tables.isOwn(netns) : null;
    return this.#peers.hold(netns, this.connections.remoteAddress(i), isOwn);
  }

  /** Connections of these peers are shown anew. */
  #regroup(peers: ReadonlySet<Peer>): void {
    if (peers.size === 0) return;
    for (const i of this.connections.indexes()) {
      const peer = this.peerOf(i);
      if (peer && peers.has(peer)) this.connections.changed[i] = 1;
    }
  }

  #isOn(collector: Collector): boolean {
    return collector === 'sockets' || this.#options.collectors[collector];
  }
}
