import { SYSTEM_CLOCK, waitUntil } from './common/clock.ts';
import { EMPTY_RULES } from './config/config.ts';
import { AsnCache } from './enrich/asn/cache.ts';
import { recall } from './enrich/asn/query-batch.ts';
import { findStore } from './store/open.ts';
import type { Store } from './store/contract.ts';
import { Changes } from './rows/changes.ts';
import { parseFilters } from './rows/filter.ts';
import type { ConnectionEvent, Row } from './model.ts';
import { decodeText } from './parse/line-splitter.ts';
import { parseText, type Parsed } from './parse/text-reader.ts';
import { rowsOf, type Names } from './rows/row.ts';
import { FOR_ROWS, Scrape } from './scrape.ts';
import { readServices } from './common/etc-services.ts';
import { openSource } from './collect/host.ts';

export type { ConnectionEvent, Direction, ErrorRow, Row, State, Transport } from './model.ts';
export type { Counts, Dialect, Parsed, Warning } from './parse/text-reader.ts';

/** What to scan, and what may be read beside. */
export interface ScanOptions {
  /** `procfs` (on Linux the default), or the platform's own command (elsewhere the default; `ss` means netstat where there is no ss). */
  readonly source?: 'procfs' | 'ss' | 'netstat';
  /** Where procfs is mounted, or a recorded tree lies; "/proc" by default. */
  readonly procfs?: string;
  /** The folder in which `serve` and `whois` keep ASNs; without it no row has one. Nobody is ever asked. */
  readonly storagePath?: string;
}

/** How to watch. */
export interface EventsOptions extends ScanOptions {
  /** Milliseconds from one scan to the next, 1000 by default; from 10 to 3,600,000. */
  readonly intervalMs?: number;
  /** Ends the events. */
  readonly signal?: AbortSignal;
}

/**
 * Every connection of the host, as `peerscope list -o json` prints them. It reads in the calling thread, at the end of which no state is
 * left. Rejects with one clear line when procfs cannot be read, or with `code` "no-source" and `tried` when no command told anything.
 */
export async function scan(options: ScanOptions = {}): Promise<Row[]> {
  const scanner = await Scanner.open(options);
  try {
    await scanner.scan();
    return rowsOf(scanner.scrape, scanner.names);
  } finally {
    await scanner.close();
  }
}

/**
 * What happens to the connections, as `peerscope events` prints it: those of one scan after the other, from the second on. A scan begins
 * when the events of the one before were taken and its time has come. Ends with the signal; rejects as `scan`
 * does, and with a RangeError for an interval that is not allowed.
 */
export async function* events(options: EventsOptions = {}): AsyncGenerator<ConnectionEvent, void, undefined> {
  const { intervalMs = 1000, signal } = options;
  if (!(intervalMs >= 10 && intervalMs <= 3_600_000))
    throw new RangeError(`Cannot use intervalMs ${intervalMs}: must be from 10 to 3600000`);
  const scanner = await Scanner.open(options);
  const changes = new Changes(scanner.scrape, scanner.names);
  try {
    while (!signal?.aborted) {
      const begun = SYSTEM_CLOCK.monotonic();
      yield* changes.take(await scanner.scan());
      await waitUntil(begun + intervalMs, SYSTEM_CLOCK, signal);
    }
  } finally {
    await scanner.close();
  }
}

/**
 * Reads what ss or netstat printed, on whichever system, as `peerscope parse` does. Bytes are UTF-8 or UTF-16. It throws for nothing that
 * stands in the text: what could not be read is in `malformed`.
 */
export function parse(text: string | Uint8Array): Parsed {
  return parseText(typeof text === 'string' ? text : decodeText(text));
}

/**
 * Says which rows are wanted, by filters such as "state=established,time_wait" or "process!=nginx": repeated keys are alternatives,
 * different keys must all be met. For Array.prototype.filter. Throws an Error for a filter that is not allowed.
 */
export function filter(...filters: readonly string[]): (row: Row) => boolean {
  return parseFilters(filters);
}

/** Scans with what was learned about operators before. */
class Scanner {
  readonly scrape: Scrape;
  readonly names: Names = { service: readServices(), remote: () => null };
  readonly #cache: AsnCache | null;
  readonly #store: Store | null;

  private constructor(scrape: Scrape, cache: AsnCache | null, store: Store | null) {
    this.scrape = scrape;
    this.#cache = cache;
    this.#store = store;
  }

  static async open({ source, procfs = '/proc', storagePath }: ScanOptions): Promise<Scanner> {
    const rows = await openSource(source ?? null, procfs);
    const choice = { storagePath: storagePath ?? null, storageServer: null };
    const store = await findStore(choice, { clock: SYSTEM_CLOCK, report: () => undefined });
    const cache = store && new AsnCache();
    const options = { seriesLimit: 50, rules: EMPTY_RULES, collectors: FOR_ROWS };
    return new Scanner(new Scrape(rows, options, SYSTEM_CLOCK, cache), cache, store);
  }

  /** Scans once; gives when, in milliseconds since 1970. */
  async scan(): Promise<number> {
    const { at } = this.scrape.look();
    if (this.#cache) {
      const answers = await recall(this.#store, this.#cache.takeQuestions(), SYSTEM_CLOCK.now());
      this.scrape.learn(this.#cache.accept(answers));
    }
    return at;
  }

  async close(): Promise<void> {
    await this.#store?.close();
  }
}
