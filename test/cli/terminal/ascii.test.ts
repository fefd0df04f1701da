import { expect, it } from 'vitest';
import { needsAscii, toAscii } from '../../../src/cli/terminal/ascii.ts';

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
