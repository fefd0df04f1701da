import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import type { Timer } from '../common/clock.ts';
import type { Config } from '../config/config.ts';
import { openCache } from '../enrich/asn/cache.ts';
import { describePeers } from '../enrich/annotate-rows.ts';
import { parseFilters } from '../rows/filter.ts';
import { cleanLabel, withoutControls } from '../common/sanitize.ts';
import type { ErrorRow, Row } from '../model.ts';
import { linesOf } from '../parse/line-splitter.ts';
import { isUnrecognized, TextReader, type ParsedEntry } from '../parse/text-reader.ts';
import { plural, jsonLine } from './terminal/format.ts';
import { csvHeader, csvLine, ROW_COLUMNS } from './terminal/row-columns.ts';
import { layTable, type Display } from './terminal/table.ts';
import { footerLines } from './view.ts';
import { UsageError } from '../common/errors.ts';
import { openKnown } from '../enrich/asn/open.ts';

/** What `parse` needs besides the configuration. */
export interface ParseOptions {
  /** At most one file, "-" for standard input, and filters; a file whose name looks like a filter is named by a path such as ./a=b. */
  readonly args: readonly string[];
  readonly output: 'table' | 'json' | 'jsonl' | 'csv';
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: { write(text: string): unknown };
  /** What a table is drawn on. */
  readonly display: Display;
  readonly clock: Timer;
}

/**
 * Prints the rows of a recorded text of ss or netstat as `list` prints those of this host, as they come; a table comes at the end.
 * What could not be read stands as {"line","error","reason","text"} among the rows of JSON, and on standard error else.
 * Returns the exit code: 1 when a text held nothing of ss or netstat. Throws UsageError for a filter that is not allowed or a second
 * file, and an Error with one clear line when the file cannot be read.
 */
export async function parse(config: Config, options: ParseOptions): Promise<number> {
  const { stderr, clock } = options;
  const { file, wants } = readArguments(options.args);
  const cache = openCache(config.asn.provider);
  const report = (line: string): void => void stderr.write(`${withoutControls(line)}\n`);
  const known = cache && (await openKnown(config, { clock, report }));
  const printer = new Printer(options);
  let entries: ParsedEntry[] = [];
  let rows = 0;
  const reader = new TextReader((entry) => entries.push(entry));
  const print = async (): Promise<void> => {
    const found = entries.flatMap((entry) => ('row' in entry ? [entry.row] : []));
    await describePeers(found, { rules: config.rules, cache, known, now: clock.now() });
    const wanted = entries.filter((entry) => 'error' in entry || wants(entry.row));
    rows += wanted.filter((entry) => 'row' in entry).length;
    entries = [];
    await printer.print(wanted);
  };
  try {
    for await (const lines of linesOf(file === null ? options.stdin : readFile(file))) {
      for (const { text, isTooLong } of lines) reader.take(text, isTooLong);
      await print();
    }
    reader.end();
    await print();
    await printer.end(summarize(reader, rows));
  } finally {
    await known?.close();
  }
  return isUnrecognized(reader.counts) ? 1 : 0;
}

function readArguments(args: readonly string[]): { file: string | null; wants: (row: Row) => boolean } {
  const isFilter = (arg: string): boolean => /^[a-z-]+!?=/.test(arg);
  const [file = '-', another] = args.filter((arg) => !isFilter(arg));
  if (another !== undefined)
    throw new UsageError(
      `Cannot parse "${cleanLabel(another)}": one file at a time, "${cleanLabel(file)}" came before`,
    );
  return { file: file === '-' ? null : file, wants: parseFilters(args.filter(isFilter)) };
}

async function* readFile(file: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(file)) yield chunk as Uint8Array;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`Cannot read "${cleanLabel(file)}": ${withoutControls(reason)}`, { cause: error });
  }
}

/** What the text held, in one line; order and completeness are those of the text. */
function summarize(reader: TextReader, wanted: number): string {
  const { counts, dialect, warnings } = reader;
  const source =
    dialect === null ? (counts.error > 0 ? 'neither ss nor netstat' : 'an empty text') : SOURCE_NAMES[dialect];
  const parts = [`${wanted === counts.row ? '' : `${wanted} of `}${plural(counts.row, 'row')} from ${source}`];
  if (counts.error > 0) parts.push(`${plural(counts.error, 'line')} could not be read`);
  if (counts.other > 0) parts.push(`${plural(counts.other, 'line')} of other kinds of sockets`);
  for (const [warning, count] of warnings) parts.push(`${plural(count, 'row')} ${WARNING_TEXTS[warning]}`);
  return parts.join(', ');
}

const SOURCE_NAMES = {
  ss: 'ss',
  'net-tools': 'the netstat of Linux',
  bsd: 'the netstat of macOS or FreeBSD',
  windows: 'the netstat of Windows',
} as const;

const WARNING_TEXTS = {
  'address-truncated': 'with an address that was cut (netstat -W shows it whole)',
  'address-maybe-truncated': 'with an address that may have been cut (netstat -W shows it whole)',
  'name-truncated': 'with a name that may have been cut',
  'name-lossy': 'with a name that is no UTF-8',
  'family-ambiguous': 'with "*" for an address, of IPv4 or IPv6',
  'unknown-state': 'in a state of unknown name',
  'resolved-names': 'with names for addresses or ports (-n shows numbers)',
} as const;

/** Writes entries in the format asked for, no faster than they are read. */
class Printer {
  readonly #options: ParseOptions;
  readonly #rows: Row[] = [];
  #hasBegun = false;

  constructor(options: ParseOptions) {
    this.#options = options;
  }

  async print(entries: readonly ParsedEntry[]): Promise<void> {
    if (this.#options.output === 'table') for (const entry of entries) if ('row' in entry) this.#rows.push(entry.row);
    const text = entries.map((entry) => this.#textOf(entry)).join('');
    const isFull = text !== '' && !this.#options.stdout.write(text);
    if (isFull) await once(this.#options.stdout, 'drain');
  }

  /** Ends the output, with a last line on the whole of it. */
  async end(summarize: string): Promise<void> {
    const { output, stdout, stderr, display } = this.#options;
    let text = '';
    if (output === 'json') text = this.#hasBegun ? '\n]\n' : '[\n]\n';
    else if (output === 'csv' && !this.#hasBegun) text = csvHeader();
    else if (output === 'table') {
      const { title, lines, omitted } = layTable(ROW_COLUMNS, this.#rows, display);
      const last = footerLines({ coverage: summarize }, omitted, display).map((line) => line.text);
      text = [title, ...lines, ...last].map((line) => `${line}\n`).join('');
    }
    if (text !== '' && !stdout.write(text)) await once(stdout, 'drain');
    if (output !== 'table') stderr.write(`${summarize}\n`);
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
    this.#options.stderr.write(`Cannot read line ${line} "${cleanLabel(text)}": ${cleanLabel(reason)}\n`);
  }
}
