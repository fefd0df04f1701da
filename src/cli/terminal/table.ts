import { isPlain, withoutControls } from '../../common/sanitize.ts';
import { cellsOf, fit } from './width.ts';
import type { Paint, Tone } from './color.ts';

/** A column of a table: its cells, alignment, and behavior if the table is too wide. */
export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  readonly right?: true;
  readonly tone?: (row: Row) => Tone | null;
  /** Minimum width when truncated; not truncated if not set, except to `tightWidth`. */
  readonly minWidth?: number;
  /** The smallest width, used if dropping columns without one is not enough. A column with a smallest width is dropped last. */
  readonly tightWidth?: number;
  /** Whether it is truncated to `tightWidth` only after all others. */
  readonly isTightLast?: true;
  /** Whether a column of zeros says as little as an empty one. */
  readonly isZeroEmpty?: true;
  /** Truncates a text to a width; the default truncates the end. */
  readonly cut?: (text: string, cells: number) => string;
  /** The column may be dropped, highest number first; never dropped if not set. */
  readonly dropOrder?: number;
}

/** Width and colors of the output. */
export interface Display {
  /** Width in cells; Infinity for no limit. */
  readonly width: number;
  readonly paint: Paint;
}

/** A laid-out table and its width in cells. `omitted` lists the titles of dropped columns. */
export interface TextTable {
  readonly title: string;
  readonly lines: readonly string[];
  readonly width: number;
  readonly omitted: readonly string[];
}

const GAP = '  ';
const SPACES: string[] = [];

/** Renders a table: columns are as wide as their widest cell and two spaces apart; lines have no trailing spaces. */
export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const { title, lines } = layTable(columns, rows, { width: Infinity, paint: (text) => text });
  return [title, ...lines].map((line) => `${line}\n`).join('');
}

/**
 * Lays out a table for a display. If it is too wide, empty columns are dropped first, then cells are truncated, then columns are
 * dropped. A column is empty without text, or with only "-". A table may remain wider than the display.
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

/** The texts of a column and their widths. */
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
  // Without rows, no column counts as empty.
  let isEmpty = rows.length > 0;
  const texts = rows.map((row, at) => {
    const given = column.cell(row);
    const isPlainText = isPlain(given);
    const text = isPlainText ? given : withoutControls(given);
    const wide = isPlainText ? given.length : cellsOf(text);
    cells[at] = wide;
    if (wide > widest) widest = wide;
    if (text !== '' && text !== '-' && !(text === '0' && column.isZeroEmpty)) isEmpty = false;
    return text;
  });
  return { column, texts, cells, widest, isEmpty };
}

/** The width of each column on a display; 0 for a dropped column. */
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
  const leastOf = (i: number, isTight: boolean): number => {
    const { title = '', minWidth = Infinity, tightWidth = minWidth } = columns[i] ?? {};
    return Math.max(isTight ? tightWidth : minWidth, title.length);
  };
  const slack = (cells: number, i: number, isTight: boolean): number => (cells === 0 ? 0 : cells - leastOf(i, isTight));
  const slackTotal = (isTight: boolean): number =>
    widths.reduce((sum, cells, i) => sum + Math.max(0, slack(cells, i, isTight)), 0);
  const droppable = columns
    .map(({ dropOrder, tightWidth }, i) => ({
      i,
      isTight: tightWidth !== undefined && tightWidth !== Infinity,
      dropOrder: dropOrder === undefined ? -1 : isEmpty(i) ? Infinity : dropOrder,
    }))
    .filter(({ dropOrder }) => dropOrder >= 0)
    .sort((a, b) => (a.dropOrder === b.dropOrder ? b.i - a.i : b.dropOrder - a.dropOrder));
  for (const { i, isTight, dropOrder } of droppable) {
    if (excess() <= (dropOrder === Infinity ? 0 : slackTotal(isTight))) continue;
    widths[i] = 0;
    if (dropOrder !== Infinity) omitted.push(columns[i]?.title ?? '');
  }
  for (const [isTight, isLast] of [
    [false, false],
    [true, false],
    [true, true],
  ] as const)
    for (let over = excess(); over > 0; over--) {
      const slackOf = (i: number): number =>
        isTight && !isLast && columns[i]?.isTightLast ? 0 : slack(widths[i] ?? 0, i, isTight);
      const widest = widths.reduce((best, _, i) => (slackOf(i) > slackOf(best) ? i : best), 0);
      if (slackOf(widest) <= 0) break;
      widths[widest] = (widths[widest] ?? 0) - 1;
    }
  return { widths, omitted: columns.map(({ title }) => title).filter((title) => omitted.includes(title)) };
}

/** A string of spaces; short ones are cached. */
function spacesOf(cells: number): string {
  return cells < 256 ? (SPACES[cells] ??= ' '.repeat(cells)) : ' '.repeat(cells);
}

function spanOf(widths: readonly number[]): number {
  return widths.reduce((sum, cells) => sum + (cells > 0 ? cells + GAP.length : 0), -GAP.length);
}
