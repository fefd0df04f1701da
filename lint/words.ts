/**
 * The words that comments, names, messages and documents do not use, each with what to write instead.
 *
 *     node lint/words.ts [FILE…]
 *
 * Without files it reads all that engineers and users read. It prints `file:line: "words": advice` and ends with status 1
 * if it finds any.
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Words as a regular expression, in which a space is any white space, also across the lines of a comment. */
export const WORDS: readonly (readonly [words: string, advice: string])[] = [
  ['tell|tells|told|telling', 'write "report", "show", "say" or "distinguish"'],
  ['hear|hears|heard', 'write "receive" or "learn"'],
  ['anew', 'write "again", or "rebuild", "recompute"'],
  ['(?<!there )(?:is|are|was|were) none(?! of)', 'write "is not a …" or "does not exist"'],
  ['but for', 'write "except" or "except for"'],
  ['so (?:many|long|often)(?![^.;:]{1,60}\\bthat\\b)', 'write the number, "while" or "as often as"'],
  ['(?:go|goes|going|went) on', 'write "continue"'],
  ['(?:some|every|any)body', 'name the process, client or user'],
  ['(?<![`\'":])nobody(?![`\'":])', 'write "no process", "no client" or "no user"'],
  ['whom', 'write a sentence without it'],
  ['whoever|whosoever', 'write "a client that" or "a user who"'],
  ['(?:for|from|than|with) who', 'put a noun before "who"'],
  [
    '(?<=[.;:][\\s*]+)who (?:can|does|guesses|has|hears|holds|knows|may|needs|reads|still|wants)',
    'put a noun before "who"',
  ],
  ['in place of', 'write "instead of"'],
  ['of (?:which|whose|there|here)', 'write two sentences, or "whose", "its"'],
  ['(?:has|have|having) (?:them|it|these|those) [a-z]+ed', 'write "does … to them"'],
  ['as (?:it stands|they stand)', 'write "unchanged" or "as is"'],
  ['stands? (?:at|below|above|here|there)', 'write "is"'],
  ['becomes? of', 'write "happens to"'],
  ['for want of', 'write "without"'],
  ['put right', 'write "correct"'],
  ['mend|mends|mended|mending', 'write "fix"'],
  ['foresee|foresees|foreseen', 'write "predict"'],
  ['errands?|meetings?|recit(?:e|es|ed|ing)|seats?|sights?|zoo', 'use the word of the field'],
  ['behaviours?|colours?|favours?|(?<!Labels Not )honour(?:ed|s)?', 'use the American spelling'],
  ['artefacts?|centre|grey|labell(?:ed|ing)(?! ?by)|licence|whilst', 'use the American spelling'],
  ['(?:initial|normal|optim|organ|recogn|serial|summar)is(?:e|ed|es|ing|ation)', 'use the American spelling'],
];

const FILES = [
  'src/**/*.ts',
  'grafana/*.ts',
  'native/*.c',
  'docs/**/*.md',
  'deploy/**/*.{conf,md,service,socket,ts,yaml,yml}',
  '{CHANGELOG,CONTRIBUTING,README,SECURITY}.md',
];

const PATTERNS = WORDS.map(([words, advice]) => ({
  pattern: new RegExp(`\\b(?:${words})\\b`.replaceAll(' ', '[\\s*#/>]+'), 'gi'),
  advice,
}));

export interface Finding {
  readonly line: number;
  readonly words: string;
  readonly advice: string;
}

/** Finds the words in a text, in the order of its lines. Names in camelCase are read as words. */
export const findWords = (text: string): Finding[] => {
  const spaced = text.replaceAll(/(?<=[a-z])(?=[A-Z])/g, ' ');
  return PATTERNS.flatMap(({ pattern, advice }) =>
    [...spaced.matchAll(pattern)].map((match) => ({
      line: spaced.slice(0, match.index).split('\n').length,
      words: match[0].replaceAll(/[\s*#/]+/g, ' '),
      advice,
    })),
  ).sort((a, b) => a.line - b.line);
};

if (import.meta.main) {
  const root = join(import.meta.dirname, '..');
  const files = process.argv.length > 2 ? process.argv.slice(2) : globSync(FILES, { cwd: root }).sort();
  for (const file of files)
    for (const { line, words, advice } of findWords(readFileSync(join(root, file), 'utf8'))) {
      process.stdout.write(`${file}:${String(line)}: "${words}": ${advice}\n`);
      process.exitCode = 1;
    }
}
