import { SYSTEM_CLOCK, waitUntil } from './common/clock.ts';
import { EMPTY_RULES } from './config/config.ts';
import { AsnCache } from './enrich/asn/cache.ts';
import { readAnswers } from './enrich/asn/query-batch.ts';
import { openExistingStore } from './store/open.ts';
import type { Store } from './store/contract.ts';
import { Changes } from './rows/changes.ts';
import { parseFilters } from './rows/filter.ts';
import type { ConnectionEvent, Row, Transport } from './model.ts';
import { decodeText } from './parse/line-splitter.ts';
import { placeText, type Parsed } from './parse/text-reader.ts';
import { setDirections } from './collect/saved-output.ts';
import { ROW_COLLECTORS, rowsOf, type Names } from './rows/row.ts';
import { Scrape } from './scrape.ts';
import { readServicePorts, readServices } from './common/etc-services.ts';
import { openSource } from './collect/host.ts';
import { detailsReader } from './collect/process-details.ts';

export type { ConnectionEvent, Direction, ErrorRow, Row, State, Transport } from './model.ts';
export type { Dialect } from './parse/dialects.ts';
export type { Counts, Parsed, Warning } from './parse/text-reader.ts';

/** What to scan. */
export interface ScanOptions {
  /** Defaults to "procfs" on Linux and to the commands of the system elsewhere. "ss" falls back to netstat if ss is not installed. */
  readonly source?: 'procfs' | 'ss' | 'netstat';
  /** Mount point of procfs, or a tree written by `peerscope record`; defaults to "/proc". */
  readonly procfs?: string;
  /** The folder where `serve` and `whois` store ASNs. Without it, rows have no ASN. No provider is ever queried. */
  readonly storagePath?: string;
}

/** How to watch connections. */
export interface EventsOptions extends ScanOptions {
  /** Milliseconds between the starts of two scans, from 10 to 3,600,000; defaults to 1000. */
  readonly intervalMs?: number;
  /** Ends the iteration. */
  readonly signal?: AbortSignal;
}

/**
 * All connections of the host, in the order of `peerscope list -o json`. Reads synchronously in the calling thread and keeps no state.
 * Rejects with a one-line Error if procfs cannot be read, with `code` "no-source" and `tried` if no command gave any output.
 */
export async function scan(options: ScanOptions = {}): Promise<Row[]> {
  const scanner = await Scanner.open(options);
  try {
    await scanner.scan(true);
    return rowsOf(scanner.scrape, scanner.names).map(detailsReader(scanner.source));
  } finally {
    await scanner.close();
  }
}

/**
 * Changes of connections, as `peerscope events` prints them, from the second scan on. A scan starts when the events of the previous one
 * are consumed and the interval has passed. Ends with the signal. Rejects like `scan`, and with a RangeError for an invalid interval.
 */
export async function* events(options: EventsOptions = {}): AsyncGenerator<ConnectionEvent, void, undefined> {
  const { intervalMs = 1000, signal } = options;
  if (!(intervalMs >= 10 && intervalMs <= 3_600_000))
    throw new RangeError(`Cannot use intervalMs ${intervalMs}: must be from 10 to 3600000`);
  const scanner = await Scanner.open(options);
  const changes = new Changes(scanner.scrape, scanner.names);
  try {
    while (!signal?.aborted) {
      const started = SYSTEM_CLOCK.monotonic();
      yield* changes.take(await scanner.scan());
      await waitUntil(started + intervalMs, SYSTEM_CLOCK, signal);
    }
  } finally {
    await scanner.close();
  }
}

/** How to parse a text. */
export interface ParseOptions {
  /** The transport of rows that do not show theirs, such as those of `ss -t`. */
  readonly transport?: Transport;
}

/**
 * Parses output of ss, netstat and similar tools from any supported system, as `peerscope parse` does. Bytes are UTF-8 or UTF-16. It
 * never throws; lines that cannot be parsed are in `malformed`. Names of services have the ports of the services database of this host.
 */
export function parse(text: string | Uint8Array, { transport }: ParseOptions = {}): Parsed {
  const options = { transport: transport ?? null, portOf: readServicePorts() };
  const { rows, ...rest } = placeText(typeof text === 'string' ? text : decodeText(text), options);
  setDirections(rows, readServices());
  return { ...rest, rows: rows.map(({ row }) => row) };
}

/**
 * Returns a predicate for Array.prototype.filter from filters such as "state=established,time_wait" or "process!=nginx". Values of
 * the same key are alternatives; different keys must all match. Throws an Error for an invalid filter.
 */
export function filter(...filters: readonly string[]): (row: Row) => boolean {
  return parseFilters(filters);
}

/** Scans with the ASNs from the store. */
class Scanner {
  readonly scrape: Scrape;
  readonly names: Names;
  readonly source: unknown;
  readonly #cache: AsnCache | null;
  readonly #store: Store | null;

  private constructor(source: unknown, scrape: Scrape, names: Names, cache: AsnCache | null, store: Store | null) {
    this.source = source;
    this.scrape = scrape;
    this.names = names;
    this.#cache = cache;
    this.#store = store;
  }

  static async open({ source, procfs = '/proc', storagePath }: ScanOptions): Promise<Scanner> {
    const rows = await openSource(source ?? null, procfs);
    const choice = { storagePath: storagePath ?? null, storageServer: null };
    const store = await openExistingStore(choice, { clock: SYSTEM_CLOCK, report: () => undefined });
    const cache = store && new AsnCache();
    const services = readServices();
    const options = { seriesLimit: 50, rules: EMPTY_RULES, collectors: ROW_COLLECTORS, services };
    const names: Names = { service: services, remote: () => null };
    return new Scanner(rows, new Scrape(rows, options, SYSTEM_CLOCK, cache), names, cache, store);
  }

  /** Scans and returns the time in milliseconds since 1970; see {@link Scrape.scanRows} for `settles`. */
  async scan(settles = false): Promise<number> {
    const { at } = this.scrape.scanRows(settles);
    if (this.#cache) {
      const answers = await readAnswers(this.#store, this.#cache.takeQueries(), SYSTEM_CLOCK.now());
      this.scrape.learn(this.#cache.accept(answers));
    }
    return at;
  }

  async close(): Promise<void> {
    await this.#store?.close();
  }
}
