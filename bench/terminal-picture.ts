/**
 * Draws docs/terminal.svg: `watch list` and `watch top`, on the recorded host, in a real terminal (tmux). Run:
 * node bench/terminal-picture.ts
 */
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { cellsOf } from '../src/cli/terminal/width.ts';
import { makeDatabases } from '../test/support/scan-result.ts';

const pathOf = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const COLUMNS = 116;
const CELL = { width: 7.2, height: 16 };
const MARGIN = 14;
const BACKGROUND = '#16191d';
const TEXT = '#d5d9de';
const FAINT = '#8a8f98';
/** Polls of 100 ms until a screen must be there. */
const POLLS = 300;

/** A part of a line with one look. */
interface Run {
  readonly text: string;
  readonly column: number;
  readonly color: string;
  readonly isBold: boolean;
}

/** Runs a command in a terminal until the screen matches, and returns the screen with colors. */
async function screenOf(command: string, height: number, ready: RegExp): Promise<string> {
  const tmux = (...args: string[]): string =>
    execFileSync('tmux', ['-L', `peerscope-picture-${process.pid}`, '-f', '/dev/null', ...args], { encoding: 'utf8' });
  const environment = { TERM: 'screen-256color', COLORTERM: 'truecolor', LANG: 'C.UTF-8', TZ: 'UTC' };
  const words = Object.entries({ ...environment, PATH: process.env['PATH'] ?? '' }).map(
    ([key, value]) => `${key}=${value}`,
  );
  tmux('new-session', '-d', '-x', String(COLUMNS), '-y', String(height), `exec env -i ${words.join(' ')} ${command}`);
  try {
    tmux('set-option', '-ga', 'terminal-overrides', ',*:RGB');
    for (let polls = 0; polls < POLLS; polls++) {
      if (ready.test(tmux('capture-pane', '-p', '-t', '0'))) return tmux('capture-pane', '-p', '-e', '-t', '0');
      await wait(100);
    }
    throw new Error(`Cannot draw "${command}": the screen was never complete`);
  } finally {
    tmux('kill-server');
  }
}

/** The 216 colors and 24 grays of a terminal with 256 colors. */
function paletteColor(index: number): string {
  const level = (value: number): number => (value === 0 ? 0 : 55 + 40 * value);
  const cube = index - 16;
  const parts =
    index >= 232
      ? Array.from({ length: 3 }, () => 8 + 10 * (index - 232))
      : [level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)];
  return `rgb(${parts.join(',')})`;
}

/** Reads the sequences that peerscope and tmux write: bold, faint, and colors of 256 or all. */
function runsOf(line: string): Run[] {
  const runs: Run[] = [];
  let [color, isBold, column] = [TEXT, false, 0];
  for (const [, codes, text = ''] of line.matchAll(/(?:\x1b\[([\d;]*)m|([^\x1b]+))/g)) {
    if (codes === undefined) {
      // Viewers drop repeated spaces.
      for (const { 0: words, index } of text.matchAll(/\S+(?: \S+)*/g))
        runs.push({ text: words, column: column + cellsOf(text.slice(0, index)), color, isBold });
      column += cellsOf(text);
      continue;
    }
    const numbers = codes.split(';').map(Number);
    for (let i = 0; i < numbers.length; i++) {
      const code = numbers[i] ?? 0;
      if (code === 0) [color, isBold] = [TEXT, false];
      else if (code === 1) isBold = true;
      else if (code === 2) color = FAINT;
      else if (code === 39) color = TEXT;
      else if (code === 38 && numbers[i + 1] === 5) color = paletteColor(numbers[(i += 2)] ?? 0);
      else if (code === 38) color = `rgb(${numbers.slice(i + 2, (i += 4) + 1).join(',')})`;
    }
  }
  return runs;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

/** One terminal as a group that begins at `top`. */
function terminal(screen: string, height: number, top: number): string {
  const box = { width: COLUMNS * CELL.width + 2 * MARGIN, height: height * CELL.height + 2 * MARGIN };
  const lines = screen.split('\n').flatMap((line, row) =>
    runsOf(line).map(({ text, column, color, isBold }) => {
      const place = `x="${(MARGIN + column * CELL.width).toFixed(1)}" y="${top + MARGIN + row * CELL.height + 12}"`;
      const length = `textLength="${(cellsOf(text) * CELL.width).toFixed(1)}" lengthAdjust="spacingAndGlyphs"`;
      return `<text ${place} ${length} fill="${color}"${isBold ? ' font-weight="bold"' : ''}>${escape(text)}</text>`;
    }),
  );
  return [`<rect y="${top}" width="${box.width}" height="${box.height}" rx="8" fill="${BACKGROUND}"/>`, ...lines].join(
    '\n',
  );
}

const { folder, operators } = makeDatabases();
try {
  const tree = pathOf('../test/fixtures/proc/plain-host');
  const options = `--path.procfs=${tree} --asn.provider=tsv --asn.database=${operators} --storage.path=/dev/null/none`;
  const peerscope = `'${process.execPath}' '${pathOf('../src/main.ts')}'`;
  const pictures = [
    { command: `${peerscope} watch list -n ${options}`, height: 22, ready: /AS13335 Cloudflare/ },
    { command: `${peerscope} watch top -n --by asn --limit 3 ${options}`, height: 28, ready: /AS13335 Cloudflare/ },
  ];
  const parts: string[] = [];
  let top = 0;
  for (const { command, height, ready } of pictures) {
    parts.push(terminal(await screenOf(command, height, ready), height, top));
    top += height * CELL.height + 2 * MARGIN + 12;
  }
  const size = `width="${COLUMNS * CELL.width + 2 * MARGIN}" height="${top - 12}"`;
  const font = 'font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="12"';
  writeFileSync(
    pathOf('../docs/terminal.svg'),
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${font}>\n${parts.join('\n')}\n</svg>\n`,
  );
} finally {
  rmSync(folder, { recursive: true });
}
