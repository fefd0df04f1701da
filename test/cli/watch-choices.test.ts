import { expect, it } from 'vitest';
import { cellsOf } from '../../src/cli/terminal/width.ts';
import { WATCH_HELP } from '../../src/cli/watch-choices.ts';

it('keeps the help within 80 columns and 24 lines', () => {
  const indent = 2;
  expect(WATCH_HELP.filter((line) => indent + cellsOf(line) > 80)).toEqual([]);
  // The title, the help, and the line of keys.
  expect(WATCH_HELP.length + 2).toBeLessThanOrEqual(24);
});
