import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { EXCEPTIONS, roomOf, ROOMS } from '../../lint/rooms.ts';

const docs = join(import.meta.dirname, '../../docs');
const text = readFileSync(join(docs, 'design.md'), 'utf8');
const picture = /```mermaid\n([\s\S]*?)```/.exec(text)?.[1] ?? '';

/** The rows of the picture from top to bottom, each with its rooms. */
const rows = [...picture.matchAll(/subgraph \w+ \[.*\]\n([\s\S]*?) {2}end/g)].map(([, lines = '']) =>
  [...lines.matchAll(/\["(.+?)"\]/g)].map(([, room = '']) => room),
);
const rowOf = (room: string): number => rows.findIndex((row) => row.includes(room));

/** The rooms that each room imports. */
const imports = [...Object.entries(ROOMS), ...Object.entries(EXCEPTIONS)].flatMap(([from, entries]) =>
  entries
    .filter((entry) => !entry.startsWith('../'))
    .map((entry) => ({
      from: from in ROOMS ? from : roomOf(from),
      to: entry in ROOMS ? entry : roomOf(entry),
    })),
);

describe('the picture of docs/design.md', () => {
  test('shows every room once', () => {
    expect(rows.flat().sort()).toEqual(Object.keys(ROOMS).sort());
  });

  test('has no import from a lower row to a higher one', () => {
    expect(imports.filter(({ from, to }) => rowOf(from) > rowOf(to))).toEqual([]);
  });

  test('shows every import within a row as an arrow, and no other', () => {
    const names = new Map([...picture.matchAll(/(\w+)\["(.+?)"\]/g)].map(([, id = '', room = '']) => [id, room]));
    const arrows = [...picture.matchAll(/^ {4}(\w+)(?:\[.+?\])? --> (\w+)/gm)].map(([, from = '', to = '']) => [
      names.get(from),
      names.get(to),
    ]);
    const inside = imports.filter(({ from, to }) => rowOf(from) === rowOf(to)).map(({ from, to }) => [from, to]);
    expect(arrows.sort()).toEqual([...new Map(inside.map((pair) => [pair.join(), pair])).values()].sort());
  });

  test('is followed by a description of every room', () => {
    const described = [...text.matchAll(/^\| `([^`]+)`/gm)].map(([, room = '']) => room);
    expect(described.sort()).toEqual(Object.keys(ROOMS).sort());
  });
});

describe('the links of docs/design.md', () => {
  test.each(
    [...text.matchAll(/\[([^\]]+)\]\((?:\.\.\/)(src\/|)([^)]+)\)/g)].map(([, name, src, path]) => [name, src, path]),
  )('%s is the path of a file', (name, src, path) => {
    expect(name).toBe(path);
    expect(existsSync(join(docs, '..', src ?? '', path ?? ''))).toBe(true);
  });
});
