import type { State } from '../../model.ts';

/** Color depth of a terminal. */
export type ColorDepth = 'none' | '16' | '256' | 'true';

/** The meaning of a color. Color is never the only indication of a meaning. */
export type Tone = 'title' | 'faint' | 'listening' | 'open' | 'waiting' | 'opening' | 'new' | 'gone' | 'bar';

/** Colors a text; null leaves it unchanged. */
export type Paint = (text: string, tone: Tone | null) => string;

/** Settings that determine the color depth. `env` holds NO_COLOR (no-color.org), COLORTERM and TERM. */
export interface ColorSettings {
  readonly choice: 'auto' | 'always' | 'never';
  readonly isTerminal: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The color depth: with `auto`, that of the terminal unless NO_COLOR is set; with `always`, at least 16 colors. */
export function colorDepthOf({ choice, isTerminal, env }: ColorSettings): ColorDepth {
  const { NO_COLOR: refused = '', COLORTERM: color = '', TERM: terminal = '' } = env;
  if (choice === 'never') return 'none';
  if (choice === 'auto' && (!isTerminal || refused !== '' || terminal === '' || terminal === 'dumb')) return 'none';
  if (/^(truecolor|24bit)$/i.test(color) || /-direct/.test(terminal)) return 'true';
  return terminal.includes('256color') ? '256' : '16';
}

/** Select Graphic Rendition parameters of each tone (ECMA-48 8.3.117), for 16 colors, 256 colors and true color. */
const TONES: Readonly<Record<Tone, readonly [few: string, many: string, all: string]>> = {
  title: ['1', '1', '1'],
  faint: ['2', '38;5;245', '38;2;138;143;152'],
  listening: ['32', '38;5;71', '38;2;84;174;102'],
  open: ['36', '38;5;74', '38;2;82;162;219'],
  waiting: ['33', '38;5;178', '38;2;214;170;46'],
  opening: ['31', '38;5;203', '38;2;239;98;92'],
  new: ['1;32', '1;38;5;114', '1;38;2;120;214;128'],
  gone: ['2;9', '9;38;5;245', '9;38;2;138;143;152'],
  bar: ['36', '38;5;74', '38;2;82;162;219'],
};

/** Returns a painter for a color depth. Painted text ends with a reset. */
export function paintWith(depth: ColorDepth): Paint {
  if (depth === 'none') return (text) => text;
  const index = depth === '16' ? 0 : depth === '256' ? 1 : 2;
  return (text, tone) => (tone === null || text === '' ? text : `\x1b[${TONES[tone][index]}m${text}\x1b[0m`);
}

/** Listening is green, established blue, closing yellow, opening red. */
export function toneOf(state: State | null): Tone | null {
  switch (state) {
    case 'listen':
      return 'listening';
    case 'established':
      return 'open';
    case 'syn_sent':
    case 'syn_received':
      return 'opening';
    case 'unconnected':
    case 'unknown':
    case null:
      return null;
    default:
      return 'waiting';
  }
}
