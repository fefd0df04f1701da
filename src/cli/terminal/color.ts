import type { State } from '../../model.ts';

/** How many colours a terminal shows. */
export type ColorDepth = 'none' | '16' | '256' | 'true';

/** What a colour says; never the only sign of it. */
export type Tone = 'title' | 'faint' | 'listening' | 'open' | 'waiting' | 'opening' | 'new' | 'bar';

/** Gives a text the colour of a tone, where there is one. */
export type Paint = (text: string, tone: Tone | null) => string;

/** What decides on colours. The variables are those of the environment: NO_COLOR (no-color.org), COLORTERM and TERM. */
export interface ColorSettings {
  readonly choice: 'auto' | 'always' | 'never';
  readonly isTerminal: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** How many colours to use: with `auto` those of a terminal that does not refuse them, with `always` at least 16. */
export function colorDepthOf({ choice, isTerminal, env }: ColorSettings): ColorDepth {
  const { NO_COLOR: refused = '', COLORTERM: color = '', TERM: terminal = '' } = env;
  if (choice === 'never') return 'none';
  if (choice === 'auto' && (!isTerminal || refused !== '' || terminal === '' || terminal === 'dumb')) return 'none';
  if (/^(truecolor|24bit)$/i.test(color) || /-direct/.test(terminal)) return 'true';
  return terminal.includes('256color') ? '256' : '16';
}

/** Select Graphic Rendition parameters of each tone (ECMA-48 8.3.117), for 16, 256 and all colours. */
const TONES: Readonly<Record<Tone, readonly [few: string, many: string, all: string]>> = {
  title: ['1', '1', '1'],
  faint: ['2', '38;5;245', '38;2;138;143;152'],
  listening: ['32', '38;5;71', '38;2;84;174;102'],
  open: ['36', '38;5;74', '38;2;82;162;219'],
  waiting: ['33', '38;5;178', '38;2;214;170;46'],
  opening: ['31', '38;5;203', '38;2;239;98;92'],
  new: ['1;32', '1;38;5;114', '1;38;2;120;214;128'],
  bar: ['36', '38;5;74', '38;2;82;162;219'],
};

/** Paints with so many colours; every text that it paints ends uncoloured, so that lines can be cut apart. */
export function paintWith(depth: ColorDepth): Paint {
  if (depth === 'none') return (text) => text;
  const index = depth === '16' ? 0 : depth === '256' ? 1 : 2;
  return (text, tone) => (tone === null || text === '' ? text : `\x1b[${TONES[tone][index]}m${text}\x1b[0m`);
}

/** LISTEN green, open blue, what ends yellow, what begins red. */
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
