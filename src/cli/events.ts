import { waitUntil, type Clock, type Timer } from '../common/clock.ts';
import type { Config } from '../config/config.ts';
import { openCache } from '../enrich/asn/cache.ts';
import { Changes } from '../rows/changes.ts';
import { needsDetails, parseFilters } from '../rows/filter.ts';
import { withoutControls } from '../common/sanitize.ts';
import type { Row } from '../model.ts';
import { ROW_COLLECTORS, rowsOf } from '../rows/row.ts';
import { Scrape } from '../scrape.ts';
import { readServices } from '../common/etc-services.ts';
import { coverage } from './live-scan.ts';
import { openStoredAnswers } from '../enrich/asn/open.ts';
import { ExporterStore, readKnown } from './exporter-store.ts';
import { jsonLine } from './terminal/format.ts';
import { eventText } from './event-text.ts';
import { parseCount, parseInterval } from './command-shape.ts';
import { openSource } from '../collect/host.ts';
import { detailsReader } from '../collect/process-details.ts';
import { DUMP_MS, openSocketSource, socketSourceOf } from '../collect/netlink.ts';

/** Output buffered for a slow reader. Beyond it, all lines of a scan are dropped and counted. */
const MAX_BUFFERED_BYTES = 4 << 20;

/** Options of `events`, as unparsed text. */
export interface EventOptions {
  readonly filters: readonly string[];
  /** Seconds. */
  readonly interval: string;
  /** Number of scans after the first; unlimited if not set. */
  readonly count?: string;
  readonly numeric?: boolean;
  readonly snapshot?: boolean;
  /** JSON lines, or one line of text for people. */
  readonly output?: 'jsonl' | 'text';
  /** The current width of text; no limit by default. */
  readonly width?: () => number;
  /** Replaces characters of text that the terminal cannot show; null if it shows all. */
  readonly encode?: ((text: string) => string) | null;
  readonly stdout: { write(text: string): unknown; readonly writableLength: number };
  readonly stderr: { write(text: string): unknown };
  readonly signal: AbortSignal;
  readonly clock: Timer;
}

/**
 * Prints a JSON line, or a line of text, for each connection that opens, closes, or changes its state or owner, until the signal. With `snapshot`, the
 * rows of the first scan come first, with `at` and without `event`. For a slow reader, dropped lines are replaced by
 * {"event":"dropped","count":N}. ASNs and names of pods come from the store; no provider is queried.
 * Throws UsageError for an invalid filter, interval or count. Resolves with exit code 0.
 */
export async function events(config: Config, options: EventOptions): Promise<number> {
  const { stderr, signal, clock } = options;
  const matches = parseFilters(options.filters);
  const intervalMs = parseInterval(options.interval);
  const count = parseCount(options.count);
  const cache = openCache(config.asn.provider);
  const source = await openSource(config.source, config.procfs);
  const services = readServices();
  const sockets = openSocketSource(socketSourceOf(config));
  const report = (line: string): void => void stderr.write(`${withoutControls(line)}\n`);
  const exporter = ExporterStore.open(config, report);
  const pods = exporter?.changedPods(clock.now());
  const given = { ...config, collectors: ROW_COLLECTORS, services, ...(pods && { cluster: [] }) };
  const scrape = new Scrape(source, given, clock, cache, sockets);
  if (pods) scrape.updateCluster(pods);
  scrape.traffic?.listEach(true);
  const names = {
    service: options.numeric ? (): null => null : services,
    remote: () => null,
  };
  const filtersDetails = needsDetails(options.filters);
  const changes = new Changes(scrape, names);
  const { width, encode } = options;
  const textOf = (event: object): string => {
    const text = eventText(event, width?.());
    return encode?.(text) ?? text;
  };
  const writer = new EventWriter(options.stdout, clock, options.output === 'text' ? textOf : jsonLine);
  const stored = cache && (await openStoredAnswers(config, { clock, report }));
  try {
    for (let scans = 0; !signal.aborted; scans++) {
      const started = clock.monotonic();
      const changedPods = scans > 0 && exporter?.changedPods(clock.now());
      if (changedPods) scrape.updateCluster(changedPods);
      const dump = (await sockets?.dump(DUMP_MS)) ?? null;
      const { at, unreadableNamespaces } = scrape.scanRows(scans === 0, dump);
      await scrape.traffic?.learnNsids();
      if (cache) {
        const known = await readKnown(exporter, stored, cache.takeQueries(), clock.now());
        scrape.learn(cache.accept(known));
      }
      const withDetails = detailsReader(source);
      const select = <T extends Row>(rows: readonly T[]): readonly T[] =>
        filtersDetails ? rows.map(withDetails).filter(matches) : rows.filter(matches).map(withDetails);
      if (scans === 0) {
        const rows = rowsOf(scrape, names);
        const fromExporter = exporter?.source ?? null;
        const { malformedNow: malformed } = scrape.host;
        stderr.write(`${coverage(rows, { unreadableNamespaces, malformed, source, fromExporter })}\n`);
        const time = new Date(at).toISOString();
        if (options.snapshot) writer.print(select(rows).map((row) => ({ at: time, ...row })));
      }
      const changed = changes.take(at);
      if (scans > 0) writer.print(select(changed));
      if (scans === count) break;
      await waitUntil(started + intervalMs, clock, signal);
    }
    writer.end();
  } finally {
    sockets?.close();
    exporter?.close();
    await stored?.close();
  }
  return 0;
}

/** Writes JSON lines, and drops them while the reader is too slow. */
class EventWriter {
  readonly #stdout: EventOptions['stdout'];
  readonly #clock: Clock;
  readonly #lineOf: (row: object) => string;
  #dropped = 0;

  constructor(stdout: EventOptions['stdout'], clock: Clock, lineOf: (row: object) => string) {
    this.#lineOf = lineOf;
    this.#stdout = stdout;
    this.#clock = clock;
  }

  /** Prints the rows, or counts them as dropped while the buffer is full. */
  print(rows: readonly object[]): void {
    if (this.#stdout.writableLength > MAX_BUFFERED_BYTES) {
      this.#dropped += rows.length;
      return;
    }
    this.end();
    for (const row of rows) this.#stdout.write(`${this.#lineOf(row)}\n`);
  }

  /** Reports the number of dropped lines, if any. */
  end(): void {
    if (this.#dropped === 0) return;
    const at = new Date(this.#clock.now()).toISOString();
    this.#stdout.write(`${this.#lineOf({ event: 'dropped', count: this.#dropped, at })}\n`);
    this.#dropped = 0;
  }
}
