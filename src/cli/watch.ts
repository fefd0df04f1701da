import { once } from 'node:events';
import { waitUntil, type Timer } from '../common/clock.ts';
import { withoutControls } from '../common/sanitize.ts';
import { cutPainted, fit } from './terminal/width.ts';
import type { Paint } from './terminal/color.ts';
import { Screen, type Terminal } from './terminal/screen.ts';
import type { ScanResult, LiveScan } from './live-scan.ts';
import type { Display } from './terminal/table.ts';
import type { OutputFormat, Streams, View } from './view.ts';
import { jsonLine } from './terminal/format.ts';

/** What `watch` needs. */
export interface WatchViewOptions extends Streams {
  readonly view: View;
  /** Opens the liveScan; `report` takes one line on what went wrong. */
  readonly open: (report: (line: string) => void) => Promise<LiveScan>;
  readonly intervalMs: number;
  /** How often it scans; Infinity for no end. */
  readonly count: number;
  readonly output: OutputFormat;
  readonly display: Display;
  /** What is drawn on; null appends to standard output. */
  readonly terminal: Terminal | null;
  readonly signal: AbortSignal;
  readonly clock: Timer;
}

/**
 * Looks again and again until the signal or the count: on a terminal it draws each look in the place of the one before, and marks the lines
 * that were not there; else it appends each with its time. Resolves with exit code 0.
 */
export async function watchView(options: WatchViewOptions): Promise<number> {
  if (options.terminal) return new WatchScreen(options, options.terminal).run();
  return append(options);
}

/** A reader who is slow gets fewer snapshots, each of them whole. */
async function append(options: WatchViewOptions): Promise<number> {
  const { view, output, display, stdout, stderr, signal, clock, intervalMs, count } = options;
  const liveScan = await options.open((line) => void stderr.write(`${withoutControls(line)}\n`));
  if (output === 'csv') stdout.write(`at,${view.csv?.header ?? ''}`);
  try {
    for (let scans = 0; scans < count && !signal.aborted; scans++) {
      const begun = clock.monotonic();
      const result = await liveScan.scan();
      const isFull = !stdout.write(scanText(view, result, output, display));
      if (isFull) await once(stdout, 'drain', { signal }).catch(() => undefined);
      if (scans + 1 < count) await waitUntil(begun + intervalMs, clock, signal);
    }
  } finally {
    await liveScan.close();
  }
  return 0;
}

function scanText(view: View, result: ScanResult, output: OutputFormat, display: Display): string {
  const at = new Date(result.at).toISOString();
  if (output === 'csv') return (view.csv?.lines(result) ?? []).map((line) => `${at},${line}`).join('');
  if (output === 'jsonl')
    return view
      .objects(result)
      .map((object) => `${jsonLine({ at, ...object })}\n`)
      .join('');
  return [at, ...view.draw(result, display).map(({ text }) => text), ''].map((line) => `${line}\n`).join('');
}

/** In front of each line, so that what is new moves nothing. */
const MARK = 2;

/** A person who watches. */
class WatchScreen {
  readonly #options: WatchViewOptions;
  readonly #terminal: Terminal;
  readonly #quit = new AbortController();
  #screen: Screen | null = null;
  #result: ScanResult | null = null;
  #known: ReadonlySet<string> | null = null;
  #new: ReadonlySet<string> = new Set();
  #isPaused = false;
  #resume: (() => void) | null = null;
  #offset = 0;
  #message = '';

  constructor(options: WatchViewOptions, terminal: Terminal) {
    this.#options = options;
    this.#terminal = terminal;
  }

  async run(): Promise<number> {
    const { clock, intervalMs, count, open } = this.#options;
    const signal = AbortSignal.any([this.#options.signal, this.#quit.signal]);
    const liveScan = await open((line) => {
      this.#message = withoutControls(line);
    });
    this.#screen = new Screen(this.#terminal, {
      key: (keys) => this.#press(keys),
      resized: () => this.#draw(),
    });
    const isOver = (): boolean => signal.aborted;
    signal.addEventListener('abort', () => {
      // The terminal is given back at once, even while a look goes on.
      this.#screen?.close();
      this.#resume?.();
    });
    try {
      for (let scans = 0; scans < count && !isOver(); scans++) {
        const begun = clock.monotonic();
        this.#show(await liveScan.scan());
        if (scans + 1 < count) await waitUntil(begun + intervalMs, clock, signal);
        if (this.#isPaused && !isOver()) await new Promise<void>((resolve) => (this.#resume = resolve));
      }
    } finally {
      this.#screen.close();
      await liveScan.close();
    }
    return 0;
  }

  /** A terminal may send several keys at once. */
  #press(keys: string): void {
    for (const [key] of keys.matchAll(KEYS)) this.#pressOne(key);
  }

  #pressOne(key: string): void {
    const page = Math.max(1, (this.#screen?.height ?? 24) - 3);
    if (key === 'q' || key === '\x03') this.#quit.abort();
    else if (key === '\x1a') this.#screen?.stop();
    else if (key === ' ') this.#togglePause();
    else if (key === 'k' || key === '\x1b[A' || key === '\x1bOA') this.#scroll(-1);
    else if (key === 'j' || key === '\x1b[B' || key === '\x1bOB') this.#scroll(1);
    else if (key === '\x1b[5~') this.#scroll(-page);
    else if (key === '\x1b[6~') this.#scroll(page);
  }

  #togglePause(): void {
    this.#isPaused = !this.#isPaused;
    if (!this.#isPaused) this.#resume?.();
    this.#draw();
  }

  #scroll(lines: number): void {
    this.#offset = Math.max(0, this.#offset + lines);
    this.#draw();
  }

  /** Shows a look; what came while it was paused is dropped. */
  #show(result: ScanResult): void {
    if (this.#isPaused && this.#result) return;
    this.#result = result;
    const keys = new Set(this.#options.view.draw(result, this.#display()).flatMap(({ key }) => key?.() ?? []));
    const known = this.#known ?? keys;
    this.#new = new Set([...keys].filter((key) => !known.has(key)));
    this.#known = keys;
    this.#draw();
  }

  #display(): Display {
    const width = (this.#screen?.width ?? 80) - MARK;
    return { paint: this.#options.display.paint, width: this.#options.output === 'wide' ? Infinity : width };
  }

  #draw(): void {
    const screen = this.#screen;
    if (!screen || !this.#result) return;
    const { paint } = this.#options.display;
    const lines = this.#options.view.draw(this.#result, this.#display());
    const room = Math.max(1, screen.height - 2);
    this.#offset = Math.min(this.#offset, Math.max(0, lines.length - room));
    const shown = lines.slice(this.#offset, this.#offset + room).map(({ text, key }) => {
      const isNew = key !== null && this.#new.has(key());
      return (isNew ? paint('+', 'new') : ' ') + ' ' + cutPainted(text, screen.width - MARK);
    });
    const blanks = Array.from({ length: room - shown.length }, () => '');
    screen.draw([
      this.#head(screen.width, paint),
      ...shown,
      ...blanks,
      this.#foot(screen.width, lines.length, room, paint),
    ]);
  }

  #head(width: number, paint: Paint): string {
    const { view, intervalMs } = this.#options;
    const time = new Date(this.#result?.at ?? 0).toISOString().replace(/\.\d+/, '');
    const state = this.#isPaused ? 'PAUSED' : `every ${intervalMs / 1000} s`;
    return paint(
      fit(`peerscope ${view.name}  ${time}  ${state}  ${this.#new.size} new`, width),
      this.#isPaused ? 'new' : 'title',
    );
  }

  #foot(width: number, total: number, room: number, paint: Paint): string {
    const more =
      total > room
        ? `lines ${this.#offset + 1}-${Math.min(total, this.#offset + room)} of ${total}, arrows scroll  `
        : '';
    const keys = !this.#terminal.stdin
      ? 'Ctrl-C quits'
      : this.#isPaused
        ? 'space goes on, q quits'
        : 'space pauses, q quits';
    return paint(fit(this.#message === '' ? more + keys : `${this.#message}  ${more}${keys}`, width), 'faint');
  }
}

// eslint-disable-next-line no-control-regex -- it is what a terminal sends
const KEYS = /\x1b\[[\d;]*[A-Za-z~]|\x1bO[A-Z]|[^]/g;
