import type { WriteStream } from 'node:tty';
import { wrap } from './terminal/width.ts';
import { colorDepthOf, paintWith, type ColorSettings } from './terminal/color.ts';
import type { ScanResult } from './live-scan.ts';
import type { Display } from './terminal/table.ts';

/** A line of text without its line feed. `key` identifies the line across scans; null for headings and footers. */
export interface ViewLine {
  readonly text: string;
  readonly key: (() => string) | null;
  /** What watch shows of it after Enter. */
  readonly details?: () => object;
}

/** How a command presents a scan result. */
export interface View {
  /** What it shows, as a plural noun. */
  readonly name: string;
  /** Whether the first line is a heading that stays when the rest scrolls. */
  readonly hasHeading?: true;
  /** Whether it shows what the exporter reported as unusual. */
  readonly showsUnusual?: true;
  /** Lines of a table for a terminal. */
  draw(result: ScanResult, display: Display): readonly ViewLine[];
  /** Objects for JSON and JSON lines. */
  objects(result: ScanResult): readonly object[];
  /** The CSV header and lines, if CSV is supported. */
  readonly csv?: { readonly header: string; lines(result: ScanResult): readonly string[] };
}

/** The output formats. */
export type OutputFormat = 'table' | 'wide' | 'json' | 'jsonl' | 'csv';

/** The output streams of a command. */
export interface Streams {
  readonly stdout: WriteStream & { readonly fd: number };
  readonly stderr: { write(text: string): unknown };
}

/** Width and colors for this output. The width is unlimited if it is not a terminal. */
export function displayOf(stdout: WriteStream, { choice, env }: Pick<ColorSettings, 'choice' | 'env'>): Display {
  const isTerminal = stdout.isTTY;
  const width = isTerminal ? stdout.columns || 80 : Infinity;
  return { width, paint: paintWith(colorDepthOf({ choice, isTerminal, env })) };
}

/** The coverage line, the columns that were dropped for lack of width, and what was asked of the ASN provider. */
export function footerLines(
  { coverage, lookups }: Pick<ScanResult, 'coverage' | 'lookups'>,
  omitted: readonly string[],
  { width, paint }: Display,
): ViewLine[] {
  const narrow = omitted.length === 0 ? [] : [`Hidden columns: ${omitted.join(', ')}`];
  const lines = [coverage, ...narrow, ...(lookups === null ? [] : [lookups])].flatMap((text) => wrap(text, width));
  return lines.map((text) => ({ text: paint(text, 'faint'), key: null }));
}
