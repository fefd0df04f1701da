import { once } from 'node:events';
import { waitUntil, type Timer } from '../common/clock.ts';
import { withoutControls } from '../common/sanitize.ts';
import { cutPainted, fit } from './terminal/width.ts';
import type { Paint } from './terminal/color.ts';
import { Screen, type Terminal } from './terminal/screen.ts';
import { ObjectChanges } from './object-changes.ts';
import type { ScanResult, LiveScan } from './live-scan.ts';
import type { Display } from './terminal/table.ts';
import type { OutputFormat, Streams, View } from './view.ts';
import { jsonLine } from './terminal/format.ts';

/** Options of `watch`. */
export interface WatchViewOptions extends Streams {
  readonly view: View;
  /** Opens the scanner; `report` receives each error as one line. */
  readonly open: (report: (line: string) => void) => Promise<LiveScan>;
  readonly intervalMs: number;
  /** Number of scans; may be Infinity. */
  readonly count: number;
  /** Whether JSON lines show only what changed. */
  readonly isChangesOnly: boolean;
  readonly output: OutputFormat;
  readonly display: Display;
  /** The terminal to redraw; null appends to standard output. */
  readonly terminal: Terminal | null;
  readonly signal: AbortSignal;
  readonly clock: Timer;
}

/**
 * Scans repeatedly until the signal or the count. On a terminal it redraws the view and marks new lines; otherwise it appends each
 * result with its time. Resolves with exit code 0.
 */
export async function watchView(options: WatchViewOptions): Promise<number> {
  if (options.terminal) return new WatchScreen(options, options.terminal).run();
  return append(options);
}

/** A slow reader gets fewer results, each of them complete. */
async function append(options: WatchViewOptions): Promise<number> {
  const { view, output, display, stdout, stderr, signal, clock, intervalMs, count } = options;
  const liveScan = await options.open((line) => void stderr.write(`${withoutControls(line)}\n`));
  const changes = options.isChangesOnly ? new ObjectChanges() : null;
  if (output === 'csv') stdout.write(`at,${view.csv?.header ?? ''}`);
  try {
    for (let scans = 0; scans < count && !signal.aborted; scans++) {
      const started = clock.monotonic();
      const result = await liveScan.scan();
      const isFull = !stdout.write(
        changes ? changes.text(view.objects(result), result.at) : scanText(view, result, output, display),
      );
      if (isFull) await once(stdout, 'drain', { signal }).catch(() => undefined);
      if (scans + 1 < count) await waitUntil(started + intervalMs, clock, signal);
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

/** Width of the marker column in front of each line. */
const MARK = 2;

/** Redraws a view on a terminal and handles keys. */
class WatchScreen {
  readonly #options: WatchViewOptions;
  readonly #terminal: Terminal;
  readonly #quit = new AbortController();
  #screen: Screen | null = null;
  #result: ScanResult | null = null;
  #previousKeys: ReadonlySet<string> | null = null;
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
      // Restore the terminal at once, even during a scan.
      this.#screen?.close();
      this.#resume?.();
    });
    try {
      for (let scans = 0; scans < count && !isOver(); scans++) {
        const started = clock.monotonic();
        this.#show(await liveScan.scan());
        if (scans + 1 < count) await waitUntil(started + intervalMs, clock, signal);
        if (this.#isPaused && !isOver()) await new Promise<void>((resolve) => (this.#resume = resolve));
      }
    } finally {
      this.#screen.close();
      await liveScan.close();
    }
    return 0;
  }

  /** Handles keys; a terminal may send several at once. */
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

  /** Shows a result, or drops it while paused. */
  #show(result: ScanResult): void {
    if (this.#isPaused && this.#result) return;
    this.#result = result;
    const keys = new Set(this.#options.view.draw(result, this.#display()).flatMap(({ key }) => key?.() ?? []));
    const previous = this.#previousKeys ?? keys;
    this.#new = new Set([...keys].filter((key) => !previous.has(key)));
    this.#previousKeys = keys;
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
      this.#header(screen.width, paint),
      ...shown,
      ...blanks,
      this.#footer(screen.width, lines.length, room, paint),
    ]);
  }

  #header(width: number, paint: Paint): string {
    const { view, intervalMs } = this.#options;
    const time = new Date(this.#result?.at ?? 0).toISOString().replace(/\.\d+/, '');
    const state = this.#isPaused ? 'PAUSED' : `every ${intervalMs / 1000} s`;
    return paint(
      fit(`peerscope ${view.name}  ${time}  ${state}  ${this.#new.size} new`, width),
      this.#isPaused ? 'new' : 'title',
    );
  }

  #footer(width: number, total: number, room: number, paint: Paint): string {
    const more =
      total > room
        ? `lines ${this.#offset + 1}-${Math.min(total, this.#offset + room)} of ${total}, arrows scroll  `
        : '';
    const keys = !this.#terminal.stdin
      ? 'Ctrl-C quits'
      : this.#isPaused
        ? 'space resumes, q quits'
        : 'space pauses, q quits';
    return paint(fit(this.#message === '' ? more + keys : `${this.#message}  ${more}${keys}`, width), 'faint');
  }
}

const KEYS = /\x1b\[[\d;]*[A-Za-z~]|\x1bO[A-Z]|[^]/g;
