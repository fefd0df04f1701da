import type { Collector, CollectorRun } from './catalogue.ts';
import { listenersOf, Tally } from './census.ts';
import type { Clock } from './clock.ts';
import { parseCgroup } from './collect/cgroup.ts';
import { Commands } from './collect/commands.ts';
import { ConnectionTable } from './collect/connections.ts';
import { Coverage } from './collect/coverage.ts';
import { ProcfsHost, type Host } from './collect/host.ts';
import type { Procfs } from './collect/procfs.ts';
import { Protocols } from './collect/protocols.ts';
import { SYN_RECV, UDP } from './collect/sockets.ts';
import { ToldHost } from './collect/told.ts';
import type { AsnCache } from './enrich/asn.ts';
import { FirstSeenMemory, type Kept, type Sighting } from './enrich/first-seen.ts';
import { Peers, type Peer } from './enrich/peers.ts';
import { Families } from './families.ts';
import { Groups } from './groups.ts';
import type { Address, Family, Rules } from './model.ts';
import { OwnerNames } from './owner-labels.ts';

const NO_CGROUP = parseCgroup('');

/** What a scrape is told: the budget of series, the rules of the configuration, and what is switched on. */
export interface ScrapeOptions {
  readonly seriesLimit: number;
  readonly rules: Rules;
  readonly collectors: Readonly<Record<Exclude<Collector, 'sockets'>, boolean>>;
  /** Whether first times are kept for this node or for the whole cluster: who else writes to the store. */
  readonly baselineScope?: 'node' | 'cluster';
  /** 32 bits by chance, for the hash of a connection table that strangers fill. */
  readonly seed?: number;
}

/** What one scan leaves behind; `at` in milliseconds since 1970. */
export interface Snapshot {
  readonly at: number;
  readonly families: readonly Family[];
  readonly collectors: readonly CollectorRun[];
  /** Lines that could not be read as a row, by socket table. */
  readonly malformedRows: ReadonlyMap<string, number>;
  /** Namespaces whose rows could not be read, or not in time. */
  readonly unreadableNamespaces: number;
}

/**
 * The life of a connection, one scan at a time: collect, attribute, enrich, aggregate. Everything is synchronous and nothing
 * waits for the network: the questions that a scan leaves in the ASN cache are answered elsewhere, and answers come in through `learn`.
 */
export class Scrape {
  readonly connections: ConnectionTable;
  readonly host: Host;
  readonly #options: ScrapeOptions;
  readonly #clock: Clock;
  readonly #cache: AsnCache | null;
  readonly #names = new OwnerNames();
  readonly #peers: Peers;
  readonly #peerOf: (Peer | null)[] = [];
  readonly #groups: Groups;
  readonly #families: Families;
  readonly #protocols: Protocols;
  readonly #coverage = new Coverage();
  readonly #firstSeen: FirstSeenMemory | null;
  #firstAt: number | null = null;
  /** When connections were seen first that are not of the first scan and may have been open before: few, if any. */
  readonly #foundAt = new Map<number, number>();
  readonly #opened = new Tally();
  readonly #closed = new Tally();

  /** Without a cache no ASN is asked for or shown. */
  constructor(source: Procfs | Commands, options: ScrapeOptions, clock: Clock, cache: AsnCache | null) {
    this.#options = options;
    this.#clock = clock;
    this.#cache = cache;
    const connections = (this.connections = new ConnectionTable(options.seed));
    this.#protocols = new Protocols(options.seriesLimit);
    this.host =
      source instanceof Commands
        ? new ToldHost(source, connections, (name) => this.#names.of(name, NO_CGROUP))
        : new ProcfsHost(source, connections, {
            rules: options.rules.processes,
            findsOwners: options.collectors.processes,
            protocols: options.collectors.protocols ? this.#protocols : null,
            monotonic: () => clock.monotonic(),
            names: this.#names,
          });
    const { networks, asnNeverSend: neverSend } = options.rules;
    this.#peers = new Peers({ networks, neverSend, isHostOwn: (address) => this.host.isHostOwn(address) }, cache);
    this.#groups = new Groups(options.rules.endpointGroups);
    const begun = clock.monotonic();
    const startedAt = (): number => clock.now() - (clock.monotonic() - begun);
    const scope = options.baselineScope ?? 'node';
    this.#firstSeen = this.#isOn('first-seen') ? new FirstSeenMemory(scope, startedAt) : null;
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
      const protocolsMs = collector === 'sockets' ? this.host.protocolsMs : 0;
      const seconds = (this.#clock.monotonic() - begun - protocolsMs) / 1000;
      const success =
        collector === 'sockets' ? this.host.status.unreadable === 0 : collector !== 'processes' || this.host.seesOwners;
      if (this.#isOn(collector)) collectors.push({ collector, seconds, success });
      return outcome;
    };

    const hidden = stage('sockets', () => this.#collect(at, isLate));
    if (this.#isOn('protocols'))
      collectors.push({ collector: 'protocols', seconds: this.host.protocolsMs / 1000, success: true });
    stage('processes', () => this.host.attribute(isLate));
    this.#firstSeen?.begin(at);
    stage('asn', () => this.#enrich(at));
    stage('first-seen', () => this.#remember(at));
    const groups = stage('endpoints', () => this.#groups.count(this.connections, (i) => this.peerOf(i)));
    for (const { owner, direction, state, labels } of groups)
      this.#firstSeen?.present(owner, direction, state === 'syn_received' ? '' : (labels['asn'] ?? ''));
    this.#firstSeen?.end();

    const { read, unchanged, empty, unreadable } = this.host.status;
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
        namespaces: { read, unchanged, empty, unreadable: unreadable + hidden },
        asnNames: this.#peers.names,
        asnCache: this.#cache,
        firstSeen: this.#firstSeen,
      },
      at,
    );
    return {
      at: this.host.oldestReadAt,
      families,
      collectors,
      malformedRows: this.host.malformed,
      unreadableNamespaces: unreadable + hidden,
    };
  }

  /** Takes in that these buckets of the ASN cache have a new answer. */
  learn(buckets: ReadonlySet<string>): void {
    const now = this.#clock.now();
    this.#regroup(this.#peers.learn(buckets, now));
    const asnOf = (address: Address): string | null => this.#peers.asnOf(address, now);
    for (const bucket of buckets) this.#firstSeen?.answered(bucket, asnOf);
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

  #collect(at: number, isLate: () => boolean): number {
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
    const resolved = new Set<Peer>();
    let begun = 0;
    for (let i = 0; i < connections.length; i++) {
      if (connections.changed[i] === 0 || !connections.has(i) || connections.direction[i] === 'listen') continue;
      const peer = (this.#peerOf[i] ??= this.#hold(i));
      if (connections.state[i] === SYN_RECV) continue;
      if (this.#peers.ask(peer, at)) resolved.add(peer);
      if ((connections.table[i] ?? 0) < UDP && connections.hasBegun(i)) begun++;
    }
    this.#coverage.add(at, begun, this.#protocols.opened);
    this.#regroup(resolved);
    this.#peers.renew(at);
  }

  /** Connections that are new, changed or gone meet the operators at their other ends, now or when the answer comes. */
  #remember(at: number): void {
    if (!this.#firstSeen) return;
    const { connections } = this;
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
    // The process may be found at the next scan: until then nobody without a name meets anybody.
    const isHalfKnown = connections.ownerEvidence[i] === 'netns' && connections.reason[i] === 'vanished';
    if (isHalfKnown && connections.has(i)) return;
    const at = connections.openedAt[i] || (this.#foundAt.get(i) ?? firstAt);
    if (peer.asn !== '') this.#firstSeen?.meet(labels, direction, peer.asn, at);
    else if (!connections.has(i)) {
      const bucket = this.#peers.awaits(peer);
      if (bucket !== null) this.#firstSeen?.wait(bucket, labels, direction, peer.address, at);
    }
  }

  #hold(i: number): Peer {
    const netns = this.connections.netns[i] ?? 0;
    const isOwn = this.host.knowsOwn(netns) ? this.host.isOwn(netns) : null;
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
