import { describe, expect, it } from 'vitest';
import { colorDepthOf, paintWith, toneOf, type ColorSettings } from '../../../src/cli/terminal/color.ts';

describe('color depth', () => {
  it.each<
    [
      situation: string,
      choice: ColorSettings['choice'],
      isTerminal: boolean,
      env: Record<string, string>,
      depth: string,
    ]
  >([
    ['a pipe', 'auto', false, { TERM: 'xterm-256color' }, 'none'],
    ['a terminal', 'auto', true, { TERM: 'xterm' }, '16'],
    ['256 colors', 'auto', true, { TERM: 'screen-256color' }, '256'],
    ['true color', 'auto', true, { TERM: 'xterm-256color', COLORTERM: 'truecolor' }, 'true'],
    ['true color as 24bit', 'auto', true, { TERM: 'xterm', COLORTERM: '24bit' }, 'true'],
    ['direct color', 'auto', true, { TERM: 'xterm-direct' }, 'true'],
    ['a dumb terminal', 'auto', true, { TERM: 'dumb' }, 'none'],
    ['no TERM', 'auto', true, {}, 'none'],
    ['NO_COLOR', 'auto', true, { TERM: 'xterm', NO_COLOR: '1' }, 'none'],
    ['an empty NO_COLOR', 'auto', true, { TERM: 'xterm', NO_COLOR: '' }, '16'],
    ['always overrides NO_COLOR', 'always', false, { NO_COLOR: '1' }, '16'],
    ['always, with a pager', 'always', false, { TERM: 'xterm-256color' }, '256'],
    ['never', 'never', true, { TERM: 'xterm', COLORTERM: 'truecolor' }, 'none'],
  ])('%s', (_situation, choice, isTerminal, env, depth) =>
    expect(colorDepthOf({ choice, isTerminal, env })).toBe(depth),
  );

  it.each([
    ['none', 'listen'],
    ['16', '\x1b[32mlisten\x1b[0m'],
    ['256', '\x1b[38;5;71mlisten\x1b[0m'],
    ['true', '\x1b[38;2;84;174;102mlisten\x1b[0m'],
  ] as const)('with %s', (depth, painted) => {
    expect(paintWith(depth)('listen', toneOf('listen'))).toBe(painted);
    expect(paintWith(depth)('', 'title')).toBe('');
    expect(paintWith(depth)('plain', null)).toBe('plain');
  });
});
