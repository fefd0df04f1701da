import { describe, expect, test } from 'vitest';
import { findWords, WORDS } from '../../lint/words.ts';

/** One wrong use of each entry, in the order of WORDS. */
const WRONG = [
  'The log tells why.',
  'No client hears of it.',
  'The page is built anew.',
  'Rejects a file that is none.',
  'All but for the first line.',
  'At most so many bytes.',
  'The scan goes on.',
  'Lets everybody in.',
  'A socket that nobody holds.',
  'The process whom it belongs to.',
  'Whoever asks gets the page.',
  'For who reads only.',
  'It is slow. Who may write can delete it.',
  'In place of a name.',
  'Two files, of which one is read.',
  'The flag has them named.',
  'The rows stay as they stand.',
  'The limit stands below.',
  'What becomes of a row?',
  'It stops for want of memory.',
  'The owner is put right.',
  'The next scan mends it.',
  'Attackers cannot foresee the hash.',
  'const meetings = [];',
  'The colour of the row.',
  'A labelled row.',
  'Serialises the families.',
];

const RIGHT = [
  'Reports the reason in the log.',
  '"reason" is "none"',
  'Returns null if there is none.',
  'The container runs as `nobody` (65534).',
  'nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin',
  'It has so many rows that the scan takes a minute.',
  'A process whose owner is unknown.',
  'Shows who called and who answered. Who is at the other end?',
  'Clients who ask during a scan share it.',
  'PeerscopeLabelsNotHonoured',
  'aria-labelledby="title"',
  'The retold storyteller saw a sightseer.',
  'The catalogue of metrics.',
];

describe('the word list', () => {
  test.each(WORDS.map(([words], entry) => ({ words, text: WRONG[entry] ?? '', entry })))(
    'finds "$words"',
    ({ text, entry }) => {
      expect(findWords(text).map(({ advice }) => advice)).toEqual([WORDS[entry]?.[1]]);
    },
  );

  test.each(RIGHT)('accepts: %s', (text) => {
    expect(findWords(text)).toEqual([]);
  });

  test.each([
    ['a name in camelCase', 'const isTold = true;', [1, 'Told']],
    ['words across the lines of a docstring', '/**\n * All of them, but\n * for one.\n */', [2, 'but for']],
    ['words across the lines of a comment', '// All of them, but\n    // for one.', [1, 'but for']],
    ['words across the lines of YAML', 'a: 1\n# All of them, but\n# for one.', [2, 'but for']],
  ])('finds %s', (_, text, [line, words]) => {
    expect(findWords(text)).toMatchObject([{ line, words }]);
  });
});
