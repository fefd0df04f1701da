import { isPlain } from '../../common/sanitize.ts';

let segmenter: Intl.Segmenter | undefined;
/** East Asian wide and fullwidth characters, and emoji (UAX 11). */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;
// eslint-disable-next-line no-control-regex -- it is what a terminal is told
const SGR = /(\x1b\[[\d;]*m)/;
const WIDTHLESS = /^[\p{Mn}\p{Me}\p{Cf}]/u;
const MARKS = /[\p{Mn}\p{Me}]/gu;
/** Halfwidth sound marks belong to the letter before, and take a cell. */
const SOUND_MARKS = /[\uff9e\uff9f]/g;

/** How many cells of a terminal a text takes; it holds no control characters. */
export function cellsOf(text: string): number {
  if (isPlain(text)) return text.length;
  let cells = 0;
  for (const { segment } of graphemesOf(text)) cells += cellsOfGrapheme(segment);
  return cells;
}

/** The text in at most so many cells, with "…" at its end where it was cut. */
export function fit(text: string, most: number): string {
  if (cellsOf(text) <= most) return text;
  if (most < 1) return '';
  let fitting = '';
  let cells = 1;
  for (const { segment } of graphemesOf(text)) {
    cells += cellsOfGrapheme(segment);
    if (cells > most) break;
    fitting += segment;
  }
  return `${fitting}…`;
}

/** The text in lines of at most so many cells, broken at blanks; a word that is longer stays whole. */
export function wrap(text: string, most: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (line !== '' && cellsOf(longer) > most) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  return [...lines, line];
}

/** The text and blanks after it, or before it, up to so many cells. */
export function pad(text: string, cells: number, right = false): string {
  const blanks = ' '.repeat(Math.max(0, cells - cellsOf(text)));
  return right ? blanks + text : text + blanks;
}

/** Made when a text needs it: that takes 15 ms, a tenth of a small listing. */
function graphemesOf(text: string): Intl.Segments {
  segmenter ??= new Intl.Segmenter('en', { granularity: 'grapheme' });
  return segmenter.segment(text);
}

function cellsOfGrapheme(grapheme: string): number {
  if (WIDTHLESS.test(grapheme)) return 0;
  const marks = grapheme.slice(1).match(SOUND_MARKS)?.length ?? 0;
  return (WIDE.test(grapheme.replaceAll(MARKS, '')) ? 2 : 1) + marks;
}

/** A line with colours (SGR sequences alone) in at most so many cells; those after stay, so that no colour goes on. */
export function cutPainted(line: string, most: number): string {
  let left = most;
  return line
    .split(SGR)
    .map((part, i) => {
      if (i % 2 === 1) return part;
      const shown = left <= 0 ? '' : fit(part, left);
      left = shown === part ? left - cellsOf(part) : 0;
      return shown;
    })
    .join('');
}
