import { cidrContains } from '../common/address.ts';
import type { Timer } from '../common/clock.ts';
import type { Commands } from '../collect/ss-netstat.ts';
import { detailsReader } from '../collect/process-details.ts';
import { Procfs } from '../collect/procfs.ts';
import type { Config } from '../config/config.ts';
import { openCache, type Answer, type AsnCache } from '../enrich/asn/cache.ts';
import { FileDatabase } from '../enrich/asn/file-database.ts';
import { mayHaveDnsName } from '../common/network-class.ts';
import { openProvider, openStoredAnswers, type StoredAnswers } from '../enrich/asn/open.ts';
import type { ReverseDns } from '../enrich/rdns.ts';
import { readAnswers, type QueryContext } from '../enrich/asn/query-batch.ts';
import { openStore } from '../store/open.ts';
import { endpointOf } from '../metrics/connection-groups.ts';
import type { Address, Cidr, Row } from '../model.ts';
import { inOrder, ROW_COLLECTORS, rowOf, type Names } from '../rows/row.ts';
import { Scrape } from '../scrape.ts';
import { readServices } from '../common/etc-services.ts';
import { ExporterReports, unusualLines } from './exporter-reports.ts';
import { ExporterStore, readKnown } from './exporter-store.ts';
import { plural } from './terminal/format.ts';
import { openSource } from '../collect/host.ts';
import { OperatorLookup } from './operator-lookup.ts';
import { DUMP_MS, openSocketSource, socketSourceOf, type SocketSource } from '../collect/netlink.ts';

/** Maximum wait for reverse DNS. */
const NAMES_WAIT_MS = 3_000;

/** How a scan resolves names and operators. */
export interface LiveScanOptions {
  /** Names to show: none, service names of ports, or also reverse DNS names of addresses. */
  readonly names: 'none' | 'services' | 'resolver';
  /** Whether to query the ASN provider for unknown addresses; with `auto`, only if the exporter on this host may. */
  readonly ask: 'never' | 'auto' | 'always';
  /** Whether a scan waits for answers, up to 2 s for operators and 3 s for names; otherwise a later scan shows them. */
  readonly waitsForAnswers: boolean;
  /** Path of the services database; defaults to that of the host. */
  readonly services?: string | undefined;
  /** Saved output of commands to show instead of this host. */
  readonly saved?: Commands | undefined;
  readonly clock: Timer;
  /** Returns a number in [0, 1). */
  readonly random: () => number;
  /** Receives each error as one line. */
  readonly report: (line: string) => void;
}

/** A connection with details that are not part of its row. */
export interface ScannedConnection {
  readonly row: Row;
  /** Whether the local endpoint is the service. */
  readonly serves: boolean;
  /** The `number` of the loopback peer that is counted instead of this one; null if this one is counted. */
  readonly countedAs: number | null;
  /** Its index in the scan. */
  readonly number: number;
  /** The name of its endpoint group. */
  readonly endpoint: () => string;
}

/** The result of one scan. */
export interface ScanResult {
  /** Milliseconds since 1970. */
  readonly at: number;
  /** All connections, sorted. */
  readonly rows: readonly Row[];
  /** The same connections with details. */
  connections(): readonly ScannedConnection[];
  /** One line: how many sockets have a process, and why the others do not. */
  readonly coverage: string;
  /** Adds what identifies the process of a row, which is read now. */
  readonly withDetails: (row: Row) => Row;
  /** One line: how many networks were sent to the ASN provider, or how to query it; null if that says nothing. */
  readonly lookups: string | null;
  /** A line for each workload that the exporter of this host reported as unusual in the last hour. */
  readonly unusual?: () => readonly string[];
}

/** What terminal commands show. */
export interface Scanner {
  /** Scans once. */
  scan(): Promise<ScanResult>;
  /** Ends a scan that waits for another host. */
  cancel?(): void;
  close(): Promise<void>;
}

/** Scans the host for terminal commands, with names and operators of the remotes. */
export class LiveScan implements Scanner {
  readonly #config: Config;
  readonly #options: LiveScanOptions;
  readonly #source: Procfs | Commands;
  readonly #sockets: SocketSource | null;
  readonly #cache: AsnCache | null;
  readonly #scrape: Scrape;
  readonly #stored: StoredAnswers | null;
  readonly #exporter: ExporterStore | null;
  readonly #operators: OperatorLookup;
  readonly #names: Names;
  readonly #resolver: ReverseDns | null;
  #isFirst = true;
  #resolving: Promise<void> | null = null;

  private constructor(
    config: Config,
    options: LiveScanOptions,
    parts: {
      source: Procfs | Commands;
      sockets: SocketSource | null;
      cache: AsnCache | null;
      stored: StoredAnswers | null;
      exporter: ExporterStore | null;
      pods: ReturnType<ExporterStore['changedPods']>;
      queryContext: Omit<QueryContext, 'onAnswers'> | null;
      isForbidden: boolean;
      resolver: ReverseDns | null;
    },
  ) {
    this.#config = config;
    this.#options = options;
    this.#source = parts.source;
    this.#cache = parts.cache;
    this.#stored = parts.stored;
    this.#exporter = parts.exporter;
    this.#resolver = parts.resolver;
    const services = readServices(options.services);
    this.#scrape = new Scrape(
      this.#source,
      { ...config, collectors: ROW_COLLECTORS, services, ...(parts.pods && { cluster: [] }) },
      options.clock,
      parts.cache,
      parts.sockets,
    );
    if (parts.pods) this.#scrape.updateCluster(parts.pods);
    this.#sockets = parts.sockets;
    const onAnswers = (answers: readonly Answer[]): void => this.#addAnswers(answers);
    this.#operators = new OperatorLookup({
      context: parts.queryContext && { ...parts.queryContext, onAnswers },
      mayBeAsked: parts.cache !== null && config.asn.database === null && !options.saved,
      waits: options.waitsForAnswers,
      isForbidden: parts.isForbidden,
    });
    this.#names = {
      service: options.names === 'none' ? (): null => null : services,
      remote: (address) => parts.resolver?.nameOf(address) ?? null,
    };
  }

  /** Rejects with a one-line Error if procfs or the ASN database cannot be read. Opens the store last, so that a failure leaves nothing open. */
  static async open(given: Config, options: LiveScanOptions): Promise<LiveScan> {
    const { clock, report, random, ask, names } = options;
    const source = options.saved ?? (await openSource(given.source, given.procfs));
    const exporter = options.saved ? null : ExporterStore.open(given, report);
    const policy = exporter?.policy(clock.now()) ?? null;
    const config = policy ? withNeverSend(given, policy.neverSend) : given;
    const isForbidden = ask === 'auto' && policy?.queries === false;
    const cache = openCache(config.asn.provider);
    // A local database needs no query: it is read like the store.
    const usesProvider = cache && ask !== 'never' && !isForbidden && config.asn.database === null;
    const provider = usesProvider ? await openProvider(config.asn, { clock, report }) : null;
    const resolver = await resolverOf(config, clock, names);
    const pods = exporter?.changedPods(clock.now()) ?? null;
    const parts = { source, cache, resolver, exporter, pods, isForbidden };
    if (provider === null || provider instanceof FileDatabase) {
      const stored = cache && (await openStoredAnswers(config, { clock, report }));
      const sockets = openSockets(config, options);
      return new LiveScan(config, options, { ...parts, sockets, stored, queryContext: null });
    }
    const store = await openStore(config, { clock, report });
    const stored = {
      read: (buckets: readonly Cidr[]) => readAnswers(store, buckets, clock.now()),
      close: async () => store?.close(),
    };
    const queryContext = { provider, store, report, clock, random };
    const sockets = openSockets(config, options);
    return new LiveScan(config, options, { ...parts, sockets, stored, queryContext });
  }

  /** Scans once. */
  async scan(): Promise<ScanResult> {
    const scrape = this.#scrape;
    const pods = this.#exporter?.changedPods(this.#options.clock.now());
    if (pods) scrape.updateCluster(pods);
    const dump = (await this.#sockets?.dump(DUMP_MS)) ?? null;
    const { at, unreadableNamespaces } = scrape.scanRows(this.#isFirst, dump);
    this.#isFirst = false;
    const queries = this.#cache?.takeQueries() ?? [];
    this.#operators.add(queries);
    this.#addAnswers(await readKnown(this.#exporter, this.#stored, queries, this.#options.clock.now()));
    const lookups = Promise.all([this.#operators.query(), this.#resolveNames()]);
    if (this.#options.waitsForAnswers) await lookups;
    const indexes = inOrder(scrape, scrape.connections.indexes());
    const rows = indexes.map((i) => rowOf(scrape, i, this.#names));
    return {
      at,
      rows,
      withDetails: detailsReader(this.#source),
      connections: () =>
        indexes.map((i, position) => this.#connection(i, rows[position])).filter((connection) => connection !== null),
      coverage: coverage(rows, {
        unreadableNamespaces,
        malformed: scrape.host.malformedNow,
        source: this.#source,
        fromExporter: this.#exporter?.source ?? null,
      }),
      lookups: this.#operators.report,
      unusual: () => this.#unusual(at),
    };
  }

  /** Cancels running queries and closes the store. */
  async close(): Promise<void> {
    this.#sockets?.close();
    this.#resolver?.close();
    await Promise.all([this.#operators.close(), this.#resolving]);
    this.#exporter?.close();
    await this.#stored?.close();
  }

  /** Reads the store of the exporter; nothing if it does not exist. A store that cannot be read does not fail the command. */
  #unusual(now: number): readonly string[] {
    if (this.#options.saved || this.#config.storageServer) return [];
    try {
      const summary = ExporterReports.open(this.#config)?.summaryOnce(now);
      return summary ? unusualLines(summary) : [];
    } catch {
      return [];
    }
  }

  #connection(i: number, row: Row | undefined): ScannedConnection | null {
    if (!row) return null;
    const { connections } = this.#scrape;
    const other = connections.isDuplicate(i) ? connections.pair[i] : undefined;
    return {
      row,
      serves: connections.serves[i] === 1,
      countedAs: other ?? null,
      number: i,
      endpoint: () => endpointOf(connections, i, this.#scrape.peers.of(i), this.#config.rules.endpointGroups),
    };
  }

  #addAnswers(answers: readonly Answer[]): void {
    this.#operators.settle(answers, this.#options.clock.now());
    if (this.#cache && answers.length > 0) this.#scrape.learn(this.#cache.accept(answers));
  }

  /** Queries the system resolver for the names of remote addresses, except special-purpose addresses. */
  async #resolveNames(): Promise<void> {
    const resolver = this.#resolver;
    if (!resolver || this.#resolving) return;
    const { connections } = this.#scrape;
    const remotes: Address[] = [];
    for (const i of connections.indexes())
      if (mayHaveDnsName(this.#scrape.peers.of(i)?.network ?? 'self')) remotes.push(connections.remoteAddress(i));
    this.#resolving = resolver.resolve(remotes, NAMES_WAIT_MS).then(() => {
      this.#resolving = null;
    });
    await this.#resolving;
  }
}

/** The configuration with more networks that are never sent. */
function withNeverSend(config: Config, neverSend: readonly Cidr[]): Config {
  return { ...config, rules: { ...config.rules, asnNeverSend: [...config.rules.asnNeverSend, ...neverSend] } };
}

/** The source of the bytes of connections; null for saved output. */
function openSockets(config: Config, { saved }: LiveScanOptions): SocketSource | null {
  return saved ? null : openSocketSource(socketSourceOf(config));
}

/** The reverse DNS resolver, or null. It never queries for addresses in `asn.never_send`. */
async function resolverOf(
  { rules }: Config,
  clock: Timer,
  names: LiveScanOptions['names'],
): Promise<ReverseDns | null> {
  if (names !== 'resolver') return null;
  const { ReverseDns } = await import('../enrich/rdns.ts');
  return new ReverseDns({
    clock,
    mayQuery: (address) => !rules.asnNeverSend.some((cidr) => cidrContains(cidr, address)),
  });
}

/** What rows do not show. */
interface Unread {
  readonly unreadableNamespaces: number;
  /** Malformed lines. */
  readonly malformed: number;
  /** Null for rows from an exporter, which say themselves what is missing. */
  readonly source: Procfs | Commands | null;
  /** What comes from the store of an exporter; null for nothing. */
  readonly fromExporter?: string | null;
}

/** One line: how many sockets have a process, why the others do not, and what could not be read. */
export function coverage(
  rows: readonly Row[],
  { unreadableNamespaces, malformed, source, fromExporter = null }: Unread,
): string {
  const reasons = new Map<string, number>();
  for (const { unattributed_reason: reason } of rows) if (reason) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  const unattributed = [...reasons.values()].reduce((total, count) => total + count, 0);
  const why = [...reasons].sort().map(([reason, count]) => `${count} ${MEANING[reason] ?? reason}`);
  const total = plural(rows.length, 'socket');
  const parts = [unattributed === 0 ? total : `${unattributed} of ${total} without a process: ${why.join(', ')}`];
  const isThisHost = source === null || source instanceof Procfs || source.isThisHost;
  const unknown = isThisHost
    ? 0
    : rows.filter(
        ({ process, pid, unattributed_reason: reason }) => process === null && pid === null && reason === null,
      ).length;
  if (unknown > 0) parts.push(`${unknown} without a process in the text`);
  if (unattributed + unknown === 0 && rows.length > 0) parts.push('all attributed to a process');
  if (unreadableNamespaces > 0) parts.push(`${plural(unreadableNamespaces, 'network namespace')} could not be read`);
  if (source !== null && !(source instanceof Procfs))
    parts.push(`read from ${source.last ?? 'no command'}, without namespaces and containers`);
  if (malformed > 0) parts.push(`${plural(malformed, 'line')} could not be parsed`);
  if (fromExporter !== null) parts.push(fromExporter);
  return parts.join(', ');
}

const MEANING: Readonly<Record<string, string>> = {
  permission: 'possibly owned by an unreadable process',
  no_descriptor: 'not held by any process',
  short_lived: 'closed before the scan',
  vanished: 'owned by a process that exited',
  other_pid_namespace: 'owned in another PID namespace',
};
