import type { WriteStream } from 'node:tty';
import { wrap } from './terminal/width.ts';
import { colorDepthOf, paintWith, type ColorSettings } from './terminal/color.ts';
import type { ScanResult } from './live-scan.ts';
import type { Display } from './terminal/table.ts';

/** A line for people, without its end; `key` tells which line it is from one look to the next, null for what is always there. */
export interface ViewLine {
  readonly text: string;
  readonly key: (() => string) | null;
}

/** What a command shows of a result. */
export interface View {
  /** What it shows, in the plural. */
  readonly name: string;
  /** For people. */
  draw(result: ScanResult, display: Display): readonly ViewLine[];
  /** For programs: what JSON and JSON lines hold. */
  objects(result: ScanResult): readonly object[];
  /** Comma-separated values, where it has them: the header, and the lines of a result. */
  readonly csv?: { readonly header: string; lines(result: ScanResult): readonly string[] };
}

/** How a result is printed: `table` and `wide` for people, the others for programs. */
export type OutputFormat = 'table' | 'wide' | 'json' | 'jsonl' | 'csv';

/** Where a command prints; standard output has a width where it is a terminal. */
export interface Streams {
  readonly stdout: WriteStream & { readonly fd: number };
  readonly stderr: { write(text: string): unknown };
}

/** What a table for this output is drawn on: as wide as the terminal, where there is one, and in its colours. */
export function displayOf(stdout: WriteStream, { choice, env }: Pick<ColorSettings, 'choice' | 'env'>): Display {
  const isTerminal = stdout.isTTY;
  const width = isTerminal ? stdout.columns || 80 : Infinity;
  return { width, paint: paintWith(colorDepthOf({ choice, isTerminal, env })) };
}

/** The last lines: what could not be seen, and which columns found no place. */
export function footerLines(
  { coverage }: Pick<ScanResult, 'coverage'>,
  omitted: readonly string[],
  { width, paint }: Display,
): ViewLine[] {
  const narrow = omitted.length === 0 ? [] : [`Too narrow for ${omitted.join(', ')}`];
  const lines = [coverage, ...narrow].flatMap((text) => wrap(text, width));
  return lines.map((text) => ({ text: paint(text, 'faint'), key: null }));
}
