import { cellsOf } from './width.ts';

/** What the tables draw beyond ASCII, with a stand-in of the same width. */
const STAND_INS: Readonly<Record<string, string>> = {
  ...{ '█': '#', '▉': '#', '▊': '#', '▋': '#', '▌': '#', '▍': '-', '▎': '-', '▏': '-' },
  ...{ '…': '~', µ: 'u' },
};
const DRAWN = new RegExp(`[${Object.keys(STAND_INS).join('')}]`, 'g');

/** Whether the locale asks for another character set than UTF-8, as LANG=C does. Without a locale, terminals show UTF-8. */
export function needsAscii(env: Readonly<Record<string, string | undefined>>): boolean {
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || '';
  return locale !== '' && !/utf-?8/i.test(locale);
}

/** How to write tables on this terminal: without bars for screen readers (`isPlain`), and in ASCII alone if the locale asks for it. */
export function encoderOf(
  env: Readonly<Record<string, string | undefined>>,
  isPlain = false,
): ((text: string) => string) | null {
  return needsAscii(env) ? onlyAscii : isPlain ? toAscii : null;
}

/** Replaces bars and ellipses, and the other characters beyond ASCII by "?", in the same width. */
export function onlyAscii(text: string): string {
  return toAscii(text).replaceAll(/[^\0-\x7f]/gu, (character) => '?'.repeat(cellsOf(character)));
}

/** Replaces bars and ellipses. */
export function toAscii(text: string): string {
  return text.replaceAll(DRAWN, (drawn) => STAND_INS[drawn] ?? drawn);
}
