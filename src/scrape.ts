import type { Collector, CollectorRun } from './catalogue.ts';
import { takeCensus, Tally } from './census.ts';
import { attribute } from './collect/attribution.ts';
import { ConnectionTable } from './collect/connections.ts';
import { Namespaces } from './collect/namespaces.ts';
import { Owners } from './collect/owners.ts';
import { Processes } from './collect/processes.ts';
import type { Procfs } from './collect/procfs.ts';
import { SYN_RECV } from './collect/sockets.ts';
import { SocketTables } from './collect/tables.ts';
import type { AsnCache } from './enrich/asn.ts';
import { Peers, type Peer } from './enrich/peers.ts';
import { Families } from './families.ts';
import { Groups } from './groups.ts';
import type { Family, Process, Rules } from './model.ts';
import { OwnerNames } from './owner-labels.ts';

/** What a scrape is told: the budget of series, the rules of the configuration, and what is switched on. */
export interface ScrapeOptions {
  readonly seriesLimit: number;
  readonly rules: Rules;
  readonly collectors: Readonly<Record<Exclude<Collector, 'sockets'>, boolean>>;
}

/** Wall time in milliseconds since 1970, and milliseconds that only go forward. */
export interface Clock {
  readonly now: () => number;
  readonly elapsed: () => number;
}

/** What one scan leaves behind; `at` in milliseconds since 1970. */
export interface Snapshot {
  readonly at: number;
  readonly families: readonly Family[];
  readonly collectors: readonly CollectorRun[];
}

/**
 * The life of a connection, one scan at a time: collect, attribute, enrich, aggregate. Everything is synchronous and nothing
 * waits for the network: the questions that a scan leaves in the ASN cache are answered elsewhere, and answers come in through `learn`.
 */
export class Scrape {
  readonly connections = new ConnectionTable();
  readonly tables: SocketTables;
  readonly processes: Processes;
  readonly #procfs: Procfs;
  readonly #options: ScrapeOptions;
  readonly #clock: Clock;
  readonly #cache: AsnCache | null;
  readonly #namespaces = new Namespaces();
  readonly #owners: Owners;
  readonly #names = new OwnerNames();
  readonly #peers: Peers;
  readonly #peerOf: (Peer | null)[] = [];
  readonly #groups: Groups;
  readonly #families: Families;
  readonly #opened = new Tally();
  readonly #closed = new Tally();
  #scans = 0;

  /** Without a cache no ASN is asked for or shown. */
  constructor(procfs: Procfs, options: ScrapeOptions, clock: Clock, cache: AsnCache | null) {
    this.#procfs = procfs;
    this.#options = options;
    this.#clock = clock;
    this.#cache = cache;
    this.tables = new SocketTables(procfs, this.connections);
    this.#owners = new Owners(procfs);
    this.processes = new Processes(procfs, options.rules.processes, (name, cgroup) => this.#names.of(name, cgroup));
    const { networks, asnNeverSend: neverSend } = options.rules;
    this.#peers = new Peers({ networks, neverSend, isHostOwn: (address) => this.tables.isHostOwn(address) }, cache);
    this.#groups = new Groups(options.rules.endpointGroups);
    this.#families = new Families(options.seriesLimit, (collector) => this.#isOn(collector));
  }

  /** Scans the host once. */
  run(): Snapshot {
    const at = this.#clock.now();
    const collectors: CollectorRun[] = [];
    const stage = <T>(collector: Collector, work: () => T, succeeded: () => boolean): T => {
      const begun = this.#clock.elapsed();
      const outcome = work();
      const seconds = (this.#clock.elapsed() - begun) / 1000;
      if (this.#isOn(collector)) collectors.push({ collector, seconds, success: succeeded() });
      return outcome;
    };
    const always = (): boolean => true;

    const collected = stage(
      'sockets',
      () => this.#collect(at),
      () => this.tables.status.unreadable === 0,
    );
    const processes = stage('processes', () => this.#attribute(collected.pids), always);
    stage('asn', () => this.#enrich(at), always);
    const groups = stage('endpoints', () => this.#groups.count(this.connections, (i) => this.peerOf(i)), always);
    this.#scans++;

    const { read, empty, unreadable } = this.tables.status;
    const families = this.#families.of({
      ...takeCensus(this.connections),
      groups,
      processes: [...processes],
      opened: this.#opened.contributions,
      closed: this.#closed.contributions,
      namespaces: { read, unchanged: 0, empty, unreadable: unreadable + collected.hidden },
      malformedRows: this.tables.malformed,
      asnNames: this.#peers.names,
      asnCache: this.#cache,
    });
    return { at, families, collectors };
  }

  /** Takes in that these buckets of the ASN cache have a new answer. */
  learn(buckets: ReadonlySet<string>): void {
    const changed = this.#peers.learn(buckets, this.#clock.now());
    if (changed.size === 0) return;
    for (const i of this.connections.indexes()) {
      const peer = this.peerOf(i);
      if (peer && changed.has(peer)) this.connections.changed[i] = 1;
    }
  }

  /** The peer of a connection; null where it has no remote end. */
  peerOf(index: number): Peer | null {
    return this.#peerOf[index] ?? null;
  }

  #collect(at: number): { pids: number[]; hidden: number } {
    const pids = this.#procfs.pids();
    const { namespaces, hidden } = this.#namespaces.find(this.#procfs, pids);
    this.tables.read(namespaces, at);
    return { pids, hidden };
  }

  #attribute(pids: readonly number[]): Set<Process> {
    this.processes.begin(pids);
    if (this.#isOn('processes')) this.#owners.walk(pids);
    return attribute({
      connections: this.connections,
      tables: this.tables,
      owners: this.#owners,
      processes: this.processes,
      seesAllProcesses: this.#procfs.seesAllProcesses,
      labelsOfNamespace: (members) => this.#names.ofNamespace(members.map((pid) => this.processes.cgroupOf(pid))),
    });
  }

  #enrich(at: number): void {
    const { connections } = this;
    for (const i of connections.closed) {
      if (this.#peerOf[i]) this.#peers.release(connections.netns[i] ?? 0, connections.remoteAddress(i));
      this.#peerOf[i] = null;
      this.#closed.add(connections, i);
    }
    for (const i of connections.opened) {
      if (this.#scans > 0) this.#opened.add(connections, i);
      if (connections.direction[i] === 'listen') continue;
      const netns = connections.netns[i] ?? 0;
      this.#peerOf[i] = this.#peers.hold(netns, connections.remoteAddress(i), this.tables.isOwn(netns));
    }
    for (let i = 0; i < connections.length; i++) {
      const peer = this.#peerOf[i];
      if (peer && connections.changed[i] !== 0 && connections.state[i] !== SYN_RECV) this.#peers.ask(peer, at);
    }
    this.#peers.renew(at);
  }

  #isOn(collector: Collector): boolean {
    return collector === 'sockets' || this.#options.collectors[collector];
  }
}
