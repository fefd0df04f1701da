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

/** Replaces bars and ellipses. */
export function toAscii(text: string): string {
  return text.replaceAll(DRAWN, (drawn) => STAND_INS[drawn] ?? drawn);
}
