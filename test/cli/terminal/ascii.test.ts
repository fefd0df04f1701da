import { expect, it } from 'vitest';
import { needsAscii, onlyAscii, toAscii } from '../../../src/cli/terminal/ascii.ts';

it.each<[env: Record<string, string>, expected: boolean]>([
  [{}, false],
  [{ LANG: 'C' }, true],
  [{ LANG: 'POSIX' }, true],
  [{ LANG: 'en_US.UTF-8' }, false],
  [{ LANG: 'C.utf8' }, false],
  [{ LANG: 'de_DE.ISO-8859-1' }, true],
  [{ LANG: 'en_US.UTF-8', LC_ALL: 'C' }, true],
  [{ LANG: 'C', LC_CTYPE: 'en_US.UTF-8' }, false],
])('%j needs ASCII: %s', (env, expected) => expect(needsAscii(env)).toBe(expected));

it('keeps the width', () => {
  expect(toAscii('nginx  ███▌  9.9…  5 µs')).toBe('nginx  ####  9.9~  5 us');
});

it.each([
  ['nginx  ███▌  9.9…  5 µs', 'nginx  ####  9.9~  5 us'],
  ['café', 'caf?'],
  ['日本', '????'],
  ['e\u0301', 'e'],
  ['\x1b[32mö\x1b[0m\n', '\x1b[32m?\x1b[0m\n'],
])('%j is %j in ASCII alone, in the same width', (text, ascii) => {
  expect(onlyAscii(text)).toBe(ascii);
});
