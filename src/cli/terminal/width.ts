import { isPlain } from '../../common/sanitize.ts';

let segmenter: Intl.Segmenter | undefined;
/** East Asian wide and fullwidth characters, and emoji (UAX 11). */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;
const SGR = /(\x1b\[[\d;]*m)/;
const WIDTHLESS = /^[\p{Mn}\p{Me}\p{Cf}]/u;
const MARKS = /[\p{Mn}\p{Me}]/gu;
/** Halfwidth sound marks join the previous letter but take a cell of their own. */
const SOUND_MARKS = /[\uff9e\uff9f]/g;

/** The width of a text in terminal cells. The text must not contain control characters. */
export function cellsOf(text: string): number {
  if (isPlain(text)) return text.length;
  let cells = 0;
  for (const { segment } of graphemesOf(text)) cells += cellsOfGrapheme(segment);
  return cells;
}

/** Truncates a text to at most `width` cells, with "…" at its end. */
export function fit(text: string, width: number): string {
  if (cellsOf(text) <= width) return text;
  if (width < 1) return '';
  let fitting = '';
  let cells = 1;
  for (const { segment } of graphemesOf(text)) {
    cells += cellsOfGrapheme(segment);
    if (cells > width) break;
    fitting += segment;
  }
  return `${fitting}…`;
}

/** Wraps a text at spaces into lines of at most `width` cells. Longer words are not broken. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (line !== '' && cellsOf(longer) > width) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  return [...lines, line];
}

/** Pads a text with spaces to `cells` cells, on the right or the left. */
export function pad(text: string, cells: number, right = false): string {
  const blanks = ' '.repeat(Math.max(0, cells - cellsOf(text)));
  return right ? blanks + text : text + blanks;
}

/** Creates the segmenter on first use, because that takes 15 ms. */
function graphemesOf(text: string): Intl.Segments {
  segmenter ??= new Intl.Segmenter('en', { granularity: 'grapheme' });
  return segmenter.segment(text);
}

function cellsOfGrapheme(grapheme: string): number {
  if (WIDTHLESS.test(grapheme)) return 0;
  const marks = grapheme.slice(1).match(SOUND_MARKS)?.length ?? 0;
  return (WIDE.test(grapheme.replaceAll(MARKS, '')) ? 2 : 1) + marks;
}

/** Truncates a line with SGR sequences to at most `width` cells. All sequences are kept, so colors are always reset. */
export function cutPainted(line: string, width: number): string {
  let left = width;
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
