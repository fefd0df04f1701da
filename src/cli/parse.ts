import { once } from 'node:events';
import type { Timer } from '../common/clock.ts';
import type { Config } from '../config/config.ts';
import { openCache } from '../enrich/asn/cache.ts';
import { annotateRows } from '../enrich/annotate-rows.ts';
import { isFilter, parseFilters } from '../rows/filter.ts';
import { cleanLabel, withoutControls } from '../common/sanitize.ts';
import type { ErrorRow, Row, Transport } from '../model.ts';
import { linesOf } from '../parse/line-splitter.ts';
import { isUnrecognized, TextReader, type ParsedEntry, type ParsedRow } from '../parse/text-reader.ts';
import { setDirections } from '../collect/saved-output.ts';
import { readServicePorts, readServices, type ServiceNames } from '../common/etc-services.ts';
import { plural, jsonLine } from './terminal/format.ts';
import { csvHeader, csvLine, ROW_COLUMNS } from './terminal/row-columns.ts';
import { layTable, type Display } from './terminal/table.ts';
import { readBytes } from './saved-text.ts';
import { footerLines } from './view.ts';
import { UsageError } from '../common/errors.ts';
import { openStoredAnswers } from '../enrich/asn/open.ts';

/** Options of `parse`. */
export interface ParseOptions {
  /** At most one file ("-" is standard input) and filters. A file name that looks like a filter needs a path such as ./a=b. */
  readonly args: readonly string[];
  readonly output: 'table' | 'json' | 'jsonl' | 'csv';
  /** The transport of rows that do not show theirs. */
  readonly transport?: Transport;
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: { write(text: string): unknown };
  /** Width and colors of the table. */
  readonly display: Display;
  readonly clock: Timer;
}

/**
 * Prints rows parsed from saved output of ss or netstat, in the formats of `list`. Rows are streamed; a table is printed
 * in pages of 5,000 rows.
 * Lines that cannot be parsed appear as {"line","error","reason","text"} among JSON rows, and otherwise on standard error.
 * Returns the exit code: 1 if the input is not output of ss or netstat. Throws UsageError for an invalid filter or a second file,
 * and a one-line Error if the file cannot be read.
 */
export async function parse(config: Config, options: ParseOptions): Promise<number> {
  const { stderr, clock } = options;
  const { file, matches } = readArguments(options.args);
  const cache = openCache(config.asn.provider);
  const report = (line: string): void => void stderr.write(`${withoutControls(line)}\n`);
  const stored = cache && (await openStoredAnswers(config, { clock, report }));
  const printer = new Printer(options);
  const directions = new DirectionBuffer(readServices());
  let rows = 0;
  let errors = 0;
  const reader = new TextReader((entry) => directions.add(entry), undefined, {
    transport: options.transport ?? null,
    portOf: readServicePorts(),
  });
  const print = async (entries: readonly ParsedEntry[]): Promise<void> => {
    const found = entries.flatMap((entry) => ('row' in entry ? [entry.row] : []));
    await annotateRows(found, { rules: config.rules, cache, stored, now: clock.now() });
    const matching = entries.filter((entry) => 'error' in entry || matches(entry.row));
    rows += matching.filter((entry) => 'row' in entry).length;
    errors += entries.length - found.length;
    await printer.print(matching);
  };
  try {
    for await (const lines of linesOf(file === null ? options.stdin : readBytes(file))) {
      for (const { text, isTooLong } of lines) reader.take(text, isTooLong);
      await print(directions.takeComplete());
    }
    reader.end();
    await print(directions.takeAll());
    await printer.end(summarize(reader, rows, errors));
  } finally {
    await stored?.close();
  }
  return isUnrecognized(reader.counts) ? 1 : 0;
}

/** Maximum number of rows, and of rows and errors, that wait for the end of their text. */
const MAX_WAITING_ROWS = 10_000;
const MAX_WAITING = 20_000;

/**
 * Holds entries until their text ends, because a later listener or mirror can show the direction of a row. Of a longer text, all
 * listeners so far are kept, and later ones do not count for the rows before them.
 */
class DirectionBuffer {
  readonly #services: ServiceNames;
  #entries: ParsedEntry[] = [];
  #rows: ParsedRow[] = [];
  #listeners: ParsedRow[] = [];

  constructor(services: ServiceNames) {
    this.#services = services;
  }

  add(entry: ParsedEntry): void {
    this.#entries.push(entry);
    if ('row' in entry) this.#rows.push(entry);
  }

  /** The entries of texts that have ended, or all if there are too many. */
  takeComplete(): readonly ParsedEntry[] {
    if (this.#rows.length > MAX_WAITING_ROWS || this.#entries.length > MAX_WAITING) return this.takeAll();
    const text = this.#rows.at(-1)?.text;
    if (this.#rows[0]?.text === text) return this.#rows.length === 0 ? this.#entries.splice(0) : [];
    const end = this.#entries.findIndex((entry) => 'row' in entry && entry.text === text);
    return this.#take(end);
  }

  takeAll(): readonly ParsedEntry[] {
    return this.#take(this.#entries.length);
  }

  #take(count: number): readonly ParsedEntry[] {
    const entries = this.#entries.splice(0, count);
    const rows = entries.filter((entry) => 'row' in entry);
    this.#rows = this.#entries.filter((entry) => 'row' in entry);
    setDirections([...this.#listeners, ...rows], this.#services);
    const text = rows.at(-1)?.text;
    const listeners = [...this.#listeners, ...rows].filter(
      (one) => one.text === text && one.row.direction === 'listen',
    );
    this.#listeners = listeners.slice(-MAX_WAITING_ROWS);
    return entries;
  }
}

function readArguments(args: readonly string[]): { file: string | null; matches: (row: Row) => boolean } {
  const [file = '-', another] = args.filter((arg) => !isFilter(arg));
  if (another !== undefined)
    throw new UsageError(
      `Cannot parse "${cleanLabel(another)}": only one file is allowed, after "${cleanLabel(file)}"`,
    );
  return { file: file === '-' ? null : file, matches: parseFilters(args.filter(isFilter)) };
}

/** One line that summarizes the input: rows, source, and what could not be parsed. */
function summarize(reader: TextReader, matching: number, errors: number): string {
  const { counts, dialect, warnings } = reader;
  const source =
    dialect === null ? (counts.error > 0 ? 'neither ss nor netstat' : 'empty input') : SOURCE_NAMES[dialect];
  const parts = [`${matching === counts.row ? '' : `${matching} of `}${plural(counts.row, 'row')} from ${source}`];
  if (errors > 0) parts.push(`${plural(errors, 'line')} could not be parsed`);
  if (counts.other > 0) parts.push(`${plural(counts.other, 'line')} of other socket types`);
  for (const [warning, count] of warnings) parts.push(`${plural(count, 'row')} ${WARNING_TEXTS[warning]}`);
  return parts.join(', ');
}

const SOURCE_NAMES = {
  ss: 'ss',
  'net-tools': 'netstat of Linux',
  bsd: 'netstat of macOS or BSD',
  windows: 'netstat of Windows',
  solaris: 'netstat of Solaris',
  sockstat: 'sockstat',
  lsof: 'lsof',
  powershell: 'PowerShell',
} as const;

const WARNING_TEXTS = {
  'address-truncated': 'with a truncated address (use netstat -W)',
  'address-maybe-truncated': 'with a possibly truncated address (use netstat -W)',
  'name-truncated': 'with a possibly truncated process name',
  'name-lossy': 'with a process name that is not UTF-8',
  'family-ambiguous': 'with address "*", which may be IPv4 or IPv6',
  'unknown-state': 'in an unknown state',
  'resolved-names': 'with names instead of numbers (use -n)',
} as const;

/** A table of more rows is laid out in pages, so that memory stays bounded. */
const PAGE_ROWS = 5_000;

/** Writes entries in the selected format, with backpressure. */
class Printer {
  readonly #options: ParseOptions;
  #rows: Row[] = [];
  #title: string | null = null;
  #hasBegun = false;

  constructor(options: ParseOptions) {
    this.#options = options;
  }

  async print(entries: readonly ParsedEntry[]): Promise<void> {
    for (let at = 0; at < entries.length; at += PAGE_ROWS) await this.#print(entries.slice(at, at + PAGE_ROWS));
  }

  async #print(entries: readonly ParsedEntry[]): Promise<void> {
    if (this.#options.output === 'table') for (const entry of entries) if ('row' in entry) this.#rows.push(entry.row);
    const page = this.#rows.length >= PAGE_ROWS ? this.#page().text : '';
    const text = page + entries.map((entry) => this.#textOf(entry)).join('');
    const isFull = text !== '' && !this.#options.stdout.write(text);
    if (isFull) await once(this.#options.stdout, 'drain');
  }

  /** Ends the output with the summary line. */
  async end(summarize: string): Promise<void> {
    const { output, stdout, stderr, display } = this.#options;
    let text = '';
    if (output === 'json') text = this.#hasBegun ? '\n]\n' : '[\n]\n';
    else if (output === 'csv' && !this.#hasBegun) text = csvHeader();
    else if (output === 'table') {
      const { text: page, omitted } = this.#page();
      const last = footerLines({ coverage: summarize, lookups: null }, omitted, display).map(
        ({ text: line }) => `${line}\n`,
      );
      text = page + last.join('');
    }
    if (text !== '' && !stdout.write(text)) await once(stdout, 'drain');
    if (output !== 'table') stderr.write(`${summarize}\n`);
  }

  /** Lays out the rows since the last page. The titles are repeated only if the columns have other widths. */
  #page(): { text: string; omitted: readonly string[] } {
    const rows = this.#rows;
    this.#rows = [];
    if (rows.length === 0 && this.#title !== null) return { text: '', omitted: [] };
    const { title, lines, omitted } = layTable(ROW_COLUMNS, rows, this.#options.display);
    const shown = title === this.#title ? lines : [title, ...lines];
    this.#title = title;
    return { text: shown.map((line) => `${line}\n`).join(''), omitted };
  }

  #textOf(entry: ParsedEntry): string {
    const { output } = this.#options;
    const object = 'row' in entry ? entry.row : entry.error;
    if (output === 'jsonl') return `${jsonLine(object)}\n`;
    if (output === 'json') return `${this.#begin('[', ',')}\n${jsonLine(object)}`;
    if ('error' in entry) this.#printError(entry.error);
    else if (output === 'csv') return this.#begin(csvHeader(), '') + csvLine(entry.row);
    return '';
  }

  #begin(first: string, others: string): string {
    const text = this.#hasBegun ? others : first;
    this.#hasBegun = true;
    return text;
  }

  #printError({ line, reason, text }: ErrorRow): void {
    this.#options.stderr.write(`Cannot parse line ${line} "${cleanLabel(text)}": ${cleanLabel(reason)}\n`);
  }
}
