import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cellsOf, cutPainted, fit, pad, wrap } from '../../../src/cli/terminal/width.ts';

describe('the width of a text', () => {
  it.each([
    ['', 0],
    ['nginx', 5],
    ['naïve', 5],
    ['e\u0301', 1],
    ['日本', 4],
    ['ｆｕｌｌ', 8],
    ['👍', 2],
    ['👩‍👩‍👧', 2],
    ['a\u200bb', 2],
    ['\ufffd', 1],
    ['ab\u3099cd', 4],
    ['か\u3099', 2],
    ['a\u302a', 1],
    ['\uff8a\uff9f', 2],
    ['\uff9f', 1],
  ])('%j is %i', (text, cells) => expect(cellsOf(text)).toBe(cells));

  it.each([
    ['nginx', 5, 'nginx'],
    ['nginx', 4, 'ngi…'],
    ['日本語', 5, '日本…'],
    ['日本語', 4, '日…'],
    ['nginx', 1, '…'],
    ['nginx', 0, ''],
    ['', 0, ''],
  ])('truncates %j to %i cells as %j', (text, cells, fitting) => expect(fit(text, cells)).toBe(fitting));

  it('never exceeds the limit, and pad fills it', () =>
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.nat(30), (text, room) => {
        const fitting = fit(text.replace(/\p{Cc}/gu, ''), room);
        return (
          cellsOf(fitting) <= room && cellsOf(pad(fitting, room)) === room && cellsOf(pad(fitting, room, true)) === room
        );
      }),
    ));

  it.each([
    ['one two three', 7, ['one two', 'three']],
    ['one two three', 3, ['one', 'two', 'three']],
    ['', 3, ['']],
    ['one two', Infinity, ['one two']],
  ])('wraps %j at %d into %j', (text, room, lines) => expect(wrap(text, room)).toEqual(lines));

  it.each([
    ['\x1b[1mnginx\x1b[0m', 10, '\x1b[1mnginx\x1b[0m'],
    ['\x1b[1mnginx\x1b[0m ok', 4, '\x1b[1mngi…\x1b[0m'],
    ['a \x1b[1mnginx\x1b[0m', 2, 'a \x1b[1m\x1b[0m'],
  ])('resets the colors of %j truncated to %i', (line, room, cut) => expect(cutPainted(line, room)).toBe(cut));
});
