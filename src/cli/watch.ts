import { once } from 'node:events';
import { waitUntil, type Timer } from '../common/clock.ts';
import { withoutControls } from '../common/sanitize.ts';
import { cutPainted, fit } from './terminal/width.ts';
import type { Paint } from './terminal/color.ts';
import { Screen, type Terminal } from './terminal/screen.ts';
import { WATCH_HELP, WatchChoices } from './watch-choices.ts';
import { ObjectChanges } from './object-changes.ts';
import type { Scanner, ScanResult } from './live-scan.ts';
import type { Display } from './terminal/table.ts';
import type { OutputFormat, Streams, View } from './view.ts';
import { jsonLine } from './terminal/format.ts';

/** Options of `watch`. */
export interface WatchViewOptions extends Streams {
  readonly view: View;
  /** Opens the scanner; `report` receives each error as one line. */
  readonly open: (report: (line: string) => void) => Promise<Scanner>;
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
  signal.addEventListener('abort', () => liveScan.cancel?.());
  const changes = options.isChangesOnly ? new ObjectChanges() : null;
  if (output === 'csv') stdout.write(`at,${view.csv?.header ?? ''}`);
  try {
    for (let scans = 0; scans < count && !signal.aborted; scans++) {
      const started = clock.monotonic();
      const result = await unlessAborted(liveScan.scan(), signal);
      if (!result) break;
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

/** Null for a scan that failed because it was canceled. */
async function unlessAborted(scan: Promise<ScanResult>, signal: AbortSignal): Promise<ScanResult | null> {
  try {
    return await scan;
  } catch (error) {
    if (signal.aborted) return null;
    throw error;
  }
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

/** How long new and closed lines are marked. */
const MARKED_MS = 5_000;
/** Width of the marker column in front of each line. */
const MARK = 2;

/** Redraws a view on a terminal and handles keys. */
class WatchScreen {
  readonly #options: WatchViewOptions;
  readonly #terminal: Terminal;
  readonly #quit = new AbortController();
  #screen: Screen | null = null;
  #result: ScanResult | null = null;
  readonly #choices = new WatchChoices();
  /** The lines of the last scan by key; null before the first. */
  #previous: ReadonlyMap<string, string> | null = null;
  /** Until when a line is marked, by key. */
  readonly #newUntil = new Map<string, number>();
  /** Closed lines, and the line that they stood behind. */
  readonly #gone = new Map<string, { readonly text: string; readonly after: string | null; readonly until: number }>();
  #showsHelp = false;
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
      liveScan.cancel?.();
    });
    try {
      for (let scans = 0; scans < count && !isOver(); scans++) {
        const started = clock.monotonic();
        const result = await unlessAborted(liveScan.scan(), signal);
        if (!result) break;
        this.#show(result);
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
    if (this.#choices.prompt !== null) {
      this.#choices.type(key);
      this.#change();
    } else if (this.#showsHelp && key !== 'q' && key !== '\x03') {
      this.#showsHelp = false;
      this.#draw();
    } else if (key === 'q' || key === '\x03') this.#quit.abort();
    else if (key === '\x1a') this.#screen?.stop();
    else if (key === ' ' || key === 'p') this.#togglePause();
    else if (key === '/') {
      this.#choices.openPrompt();
      this.#draw();
    } else if (key === 's' || key === 'r') {
      if (key === 's') this.#choices.sortNext();
      else this.#choices.reverse();
      this.#change();
    } else if (key === '?') {
      this.#showsHelp = true;
      this.#draw();
    } else if (key === 'k' || key === '\x1b[A' || key === '\x1bOA') this.#scroll(-1);
    else if (key === 'j' || key === '\x1b[B' || key === '\x1bOB') this.#scroll(1);
    else if (key === '\x1b[5~') this.#scroll(-page);
    else if (key === '\x1b[6~') this.#scroll(page);
  }

  /** Draws after another filter or order: lines that appear or vanish by that are not new or closed. */
  #change(): void {
    this.#newUntil.clear();
    this.#gone.clear();
    if (this.#result) this.#previous = this.#keyed(this.#result);
    this.#draw();
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
    const now = this.#options.clock.monotonic();
    for (const [key, until] of this.#newUntil) if (until <= now) this.#newUntil.delete(key);
    for (const [key, { until }] of this.#gone) if (until <= now) this.#gone.delete(key);
    const lines = this.#keyed(result);
    let after: string | null = null;
    for (const [key, text] of this.#previous ?? []) {
      if (!lines.has(key)) this.#gone.set(key, { text, after, until: now + MARKED_MS });
      after = key;
    }
    for (const key of lines.keys()) {
      this.#gone.delete(key);
      if (this.#previous && !this.#previous.has(key)) this.#newUntil.set(key, now + MARKED_MS);
    }
    this.#previous = lines;
    this.#draw();
  }

  /** The lines of a result that have a key. */
  #keyed(result: ScanResult): ReadonlyMap<string, string> {
    const lines = this.#options.view.draw(this.#choices.apply(result), this.#display());
    return new Map(lines.flatMap(({ text, key }) => (key ? [[key(), text.replaceAll(SGR, '')] as const] : [])));
  }

  /** The lines of a result with those that are gone, each with its marker. */
  #lines(result: ScanResult, width: number, paint: Paint): string[] {
    const behind = Map.groupBy([...this.#gone], ([, { after }]) => after);
    const lines: string[] = [];
    const addGone = (after: string | null): void => {
      const gone = behind.get(after) ?? [];
      behind.delete(after);
      for (const [name, { text }] of gone) {
        lines.push(`- ${paint(fit(text, width), 'gone')}`);
        addGone(name);
      }
    };
    const drawn = this.#options.view.draw(this.#choices.apply(result), this.#display());
    const keyed = drawn.findIndex(({ key }) => key !== null);
    const first = keyed >= 0 ? keyed : this.#options.view.hasHeading ? 1 : 0;
    for (const [i, { text, key }] of drawn.entries()) {
      if (i === first) addGone(null);
      const name = key?.() ?? null;
      const isNew = name !== null && this.#newUntil.has(name);
      lines.push(`${isNew ? paint('+', 'new') : ' '} ${cutPainted(text, width)}`);
      if (name !== null) addGone(name);
    }
    return lines;
  }

  #display(): Display {
    const width = (this.#screen?.width ?? 80) - MARK;
    return { paint: this.#options.display.paint, width: this.#options.output === 'wide' ? Infinity : width };
  }

  #draw(): void {
    const screen = this.#screen;
    if (!screen || !this.#result) return;
    const { display, view } = this.#options;
    const { paint } = display;
    const lines = this.#showsHelp
      ? WATCH_HELP.map((line) => `  ${line}`)
      : this.#lines(this.#result, screen.width - MARK, paint);
    const heading = view.hasHeading && !this.#showsHelp ? lines.splice(0, 1) : [];
    const room = Math.max(1, screen.height - 2 - heading.length);
    this.#offset = Math.min(this.#offset, Math.max(0, lines.length - room));
    const shown = lines.slice(this.#offset, this.#offset + room);
    const blanks = Array.from({ length: room - shown.length }, () => '');
    screen.draw([
      this.#header(screen.width, paint),
      ...heading,
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
      fit(
        [`peerscope ${view.name}`, time, state, `${this.#newUntil.size} new`, this.#choices.summary]
          .filter((part) => part !== '')
          .join('  '),
        width,
      ),
      this.#isPaused ? 'new' : 'title',
    );
  }

  #footer(width: number, total: number, room: number, paint: Paint): string {
    const { prompt, error } = this.#choices;
    if (prompt !== null)
      return fit(error === '' ? `/${prompt}_  Enter applies, Escape cancels` : `/${prompt}_  ${error}`, width);
    const more =
      total > room
        ? `lines ${this.#offset + 1}-${Math.min(total, this.#offset + room)} of ${total}, arrows scroll  `
        : '';
    const keys = !this.#terminal.stdin
      ? 'Ctrl-C quits'
      : this.#isPaused
        ? 'space resumes, ? helps, q quits'
        : 'space pauses, / filters, ? helps, q quits';
    return paint(fit(this.#message === '' ? more + keys : `${this.#message}  ${more}${keys}`, width), 'faint');
  }
}

const SGR = /\x1b\[[\d;]*m/g;
const KEYS = /\x1b\[[\d;]*[A-Za-z~]|\x1bO[A-Z]|[^]/g;
