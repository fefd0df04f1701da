import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cellsOf } from '../../../src/cli/terminal/width.ts';
import { layTable, renderTable, type Column } from '../../../src/cli/terminal/table.ts';

interface Planet {
  readonly name: string;
  readonly moons: number;
  readonly note: string;
}

const COLUMNS: readonly Column<Planet>[] = [
  { title: 'NAME', cell: ({ name }) => name },
  { title: 'MOONS', cell: ({ moons }) => String(moons), right: true, dropOrder: 1 },
  { title: 'NOTE', cell: ({ note }) => note, minWidth: 6 },
  { title: 'EMPTY', cell: () => '', dropOrder: 2 },
];
const ROWS = [
  { name: 'Mars', moons: 2, note: 'red and rusty' },
  { name: 'Saturn', moons: 274, note: '' },
];
const plain = (text: string): string => text;

describe('a table', () => {
  it('is as wide as its content without a limit', () =>
    expect(renderTable(COLUMNS, ROWS)).toBe(
      ['NAME    MOONS  NOTE           EMPTY', 'Mars        2  red and rusty', 'Saturn    274', ''].join('\n'),
    ));

  it.each<[width: number, lines: string[], omitted: string[]]>([
    [28, ['NAME    MOONS  NOTE', 'Mars        2  red and rusty', 'Saturn    274'], []],
    [24, ['NAME    MOONS  NOTE', 'Mars        2  red and …', 'Saturn    274'], []],
    [20, ['NAME    NOTE', 'Mars    red and rus…', 'Saturn'], ['MOONS']],
    [5, ['NAME    NOTE', 'Mars    red a…', 'Saturn'], ['MOONS']],
  ])('in %i cells drops empty columns, then truncates, then drops columns', (width, lines, omitted) => {
    const table = layTable(COLUMNS, ROWS, { width, paint: plain });
    expect({ lines: [table.title, ...table.lines], omitted: table.omitted }).toEqual({ lines, omitted });
  });

  it('keeps its layout when painted, and does not paint padding', () => {
    const painted = layTable(
      [
        { ...COLUMNS[0], title: 'NAME', cell: (row: Planet) => row.name, tone: () => 'open' as const },
        { title: 'N', cell: () => 'x' },
      ],
      ROWS,
      { width: 80, paint: (text, tone) => (tone === null ? text : `<${text}>`) },
    );
    expect([painted.title, ...painted.lines]).toEqual(['<NAME>    <N>', '<Mars>    x', '<Saturn>  x']);
  });

  it('replaces control characters', () =>
    expect(renderTable([{ title: 'N', cell: () => 'a\x1b[2Jb\nc\u202e' }], [0])).toBe('N\na\ufffd[2Jb\ufffdc\ufffd\n'));

  it('is never wider than the display, except for columns that cannot be truncated', () =>
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            name: fc.string({ unit: 'grapheme', maxLength: 20 }),
            moons: fc.nat(),
            note: fc.string({ unit: 'grapheme' }),
          }),
        ),
        fc.integer({ min: 1, max: 120 }),
        (rows, width) => {
          const { title, lines } = layTable(COLUMNS, rows, { width, paint: plain });
          const names = Math.max(4, ...rows.map(({ name }) => cellsOf(name.replace(/\p{Cc}/gu, ' '))));
          return [title, ...lines].every((line) => cellsOf(line) <= Math.max(width, names + 2 + 6));
        },
      ),
    ));
});
