import { isPlain, withoutControls } from '../../common/sanitize.ts';
import { cellsOf, fit } from './width.ts';
import type { Paint, Tone } from './color.ts';

/** One column of a table of rows: what a cell shows, on which side it stands, and what becomes of it where space is short. */
export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  readonly right?: true;
  readonly tone?: (row: Row) => Tone | null;
  /** It may be cut to so many cells; without, never. */
  readonly minWidth?: number;
  /** Cuts a text to so many cells; by default its end goes. */
  readonly cut?: (text: string, cells: number) => string;
  /** It may be left out, those of higher numbers first; without, never. */
  readonly dropOrder?: number;
}

/** Where a table is shown. */
export interface Display {
  /** Cells of a line; Infinity where nothing limits it. */
  readonly width: number;
  readonly paint: Paint;
}

/** A table in lines, the widest of so many cells; `omitted` names the columns that found no place. */
export interface TextTable {
  readonly title: string;
  readonly lines: readonly string[];
  readonly width: number;
  readonly omitted: readonly string[];
}

const GAP = '  ';
const SPACES: string[] = [];

/** Lays out rows below their titles, each column as wide as its widest cell, two padding apart, no padding at the line's end. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const { title, lines } = layTable(columns, rows, { width: Infinity, paint: (text) => text });
  return [title, ...lines].map((line) => `${line}\n`).join('');
}

/**
 * Lays out rows for a display: where they are too wide for it, cells that may be cut are cut, then columns that may be left out go,
 * and what is too wide even so stays so. A column without any value goes first.
 */
export function layTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  { width, paint }: Display,
): TextTable {
  const measured = columns.map((column) => measure(column, rows));
  const natural = measured.map(({ widest }) => widest);
  const { widths, omitted } = fitColumns(columns, natural, width, (i) => measured[i]?.isEmpty ?? true);
  const shown = measured.flatMap((column, i) => (widths[i] ? [{ ...column, width: widths[i] }] : []));
  const last = shown.at(-1);
  const lines = rows.map((row, at) => {
    let line = '';
    for (const one of shown) {
      const { column, width } = one;
      let text = one.texts[at] ?? '';
      let padding = width - (one.cells[at] ?? 0);
      if (padding < 0) {
        text = (column.cut ?? fit)(text, width);
        padding = width - cellsOf(text);
      }
      const painted = paint(text, column.tone?.(row) ?? null);
      line += column.right ? spacesOf(padding) + painted : painted + spacesOf(padding);
      if (one !== last) line += GAP;
    }
    return line.trimEnd();
  });
  const titles = shown.map(({ column: { title, right }, width }) => {
    const padding = spacesOf(width - title.length);
    return right ? padding + paint(title, 'title') : paint(title, 'title') + padding;
  });
  const dropped = rows.length > 0 ? omitted : [];
  return { title: titles.join(GAP).trimEnd(), lines, width: spanOf(widths), omitted: dropped };
}

/** A column's cells as they are shown, and how wide they are. */
interface Measured<Row> {
  readonly column: Column<Row>;
  readonly texts: readonly string[];
  readonly cells: Uint32Array;
  readonly widest: number;
  readonly isEmpty: boolean;
}

function measure<Row>(column: Column<Row>, rows: readonly Row[]): Measured<Row> {
  const cells = new Uint32Array(rows.length);
  let widest = column.title.length;
  // Without rows no column has a value, and none says less than another.
  let isEmpty = rows.length > 0;
  const texts = rows.map((row, at) => {
    const given = column.cell(row);
    const isPlainText = isPlain(given);
    const text = isPlainText ? given : withoutControls(given);
    const wide = isPlainText ? given.length : cellsOf(text);
    cells[at] = wide;
    if (wide > widest) widest = wide;
    if (text !== '') isEmpty = false;
    return text;
  });
  return { column, texts, cells, widest, isEmpty };
}

/** The width of each column on a display, 0 where it is left out. */
function fitColumns<Row>(
  columns: readonly Column<Row>[],
  natural: readonly number[],
  width: number,
  isEmpty: (i: number) => boolean,
): { widths: number[]; omitted: string[] } {
  const widths = [...natural];
  const omitted: string[] = [];
  if (width === Infinity) return { widths, omitted };
  const excess = (): number => spanOf(widths) - width;
  const minWidth = (i: number): number => Math.max(columns[i]?.minWidth ?? Infinity, columns[i]?.title.length ?? 0);
  const slackTotal = (): number =>
    widths.reduce((sum, cells, i) => sum + (cells > 0 ? Math.max(0, cells - minWidth(i)) : 0), 0);
  const droppable = columns
    .map(({ dropOrder }, i) => ({ i, dropOrder: dropOrder === undefined ? -1 : isEmpty(i) ? Infinity : dropOrder }))
    .filter(({ dropOrder }) => dropOrder >= 0)
    .sort((a, b) => b.dropOrder - a.dropOrder);
  for (const { i, dropOrder } of droppable) {
    if (excess() <= (dropOrder === Infinity ? 0 : slackTotal())) break;
    widths[i] = 0;
    if (dropOrder !== Infinity) omitted.push(columns[i]?.title ?? '');
  }
  for (let over = excess(); over > 0; over--) {
    const widest = widths.reduce((best, cells, i) => (slack(cells, i) > slack(widths[best] ?? 0, best) ? i : best), 0);
    if (slack(widths[widest] ?? 0, widest) <= 0) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return { widths, omitted: columns.map(({ title }) => title).filter((title) => omitted.includes(title)) };

  function slack(cells: number, i: number): number {
    return cells === 0 ? 0 : cells - minWidth(i);
  }
}

/** So many padding; those of usual cells are made once. */
function spacesOf(cells: number): string {
  return cells < 256 ? (SPACES[cells] ??= ' '.repeat(cells)) : ' '.repeat(cells);
}

function spanOf(widths: readonly number[]): number {
  return widths.reduce((sum, cells) => sum + (cells > 0 ? cells + GAP.length : 0), -GAP.length);
}
