import { once } from 'node:events';
import { waitUntil, type Timer } from '../common/clock.ts';
import { withoutControls } from '../common/sanitize.ts';
import { cutPainted, fit } from './terminal/width.ts';
import type { Paint } from './terminal/color.ts';
import { Screen, type Terminal } from './terminal/screen.ts';
import { detailLines } from './watch-details.ts';
import { WATCH_HELP, WatchChoices } from './watch-choices.ts';
import { ObjectChanges } from './object-changes.ts';
import type { RotatedFile } from './rotated-file.ts';
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
  /** The file to append to instead of standard output, which has a bound; null for standard output. */
  readonly file: Pick<RotatedFile, 'write'> | null;
  /** Replaces characters that the terminal cannot show; null if it shows all. */
  readonly encode: ((text: string) => string) | null;
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
  let changes = options.isChangesOnly ? new ObjectChanges() : null;
  const head = output === 'csv' ? `at,${view.csv?.header ?? ''}` : '';
  /** Returns whether to wait for the reader. */
  const write = (text: string): boolean => {
    if (!options.file) return !stdout.write(text);
    // The new file shows all rows, so that it can be read without the former.
    if (options.file.write(text, head) && changes) changes = new ObjectChanges();
    return false;
  };
  if (head !== '') write(head);
  try {
    for (let scans = 0; scans < count && !signal.aborted; scans++) {
      const started = clock.monotonic();
      const result = await unlessAborted(liveScan.scan(), signal);
      if (!result) break;
      const isFull = write(
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

/** A drawn line; the key and the details are null if it cannot be selected. */
interface ScreenLine {
  readonly text: string;
  readonly key: string | null;
  readonly details: (() => object) | null;
}

/** The last details of a line that Enter opened. */
interface OpenDetails {
  readonly key: string;
  object: object;
  /** The offset of the lines to go back to. */
  readonly offset: number;
}

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
  /** How many lines fit. */
  #room = 1;
  #lines: readonly ScreenLine[] = [];
  #selected: string | null = null;
  #details: OpenDetails | null = null;
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
    // Clicks and movements of the mouse are not keys.
    for (const [key] of keys.matchAll(KEYS)) if (!key.startsWith('\x1b[<') || WHEEL.test(key)) this.#pressOne(key);
  }

  #pressOne(key: string): void {
    const page = Math.max(1, (this.#screen?.height ?? 24) - 3);
    if (this.#choices.prompt !== null) {
      this.#choices.type(key);
      this.#change();
    } else if (this.#details && /^(?:[\r\n\x1b\x7f\b])$/.test(key)) this.#closeDetails();
    else if (this.#showsHelp && key !== 'q' && key !== '\x03') {
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
    } else if (key === '\r' || key === '\n') this.#openDetails();
    else if (ARROW.test(key)) this.#select(key.endsWith('A') ? -1 : 1);
    else if (key === 'k') this.#scroll(-1);
    else if (key === 'j') this.#scroll(1);
    else if (WHEEL.test(key)) this.#scroll(key.startsWith('\x1b[<64') ? -WHEEL_LINES : WHEEL_LINES);
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

  /** Selects the next line, or the first one on the screen. In details it scrolls, because they have no lines to select. */
  #select(step: 1 | -1): void {
    if (this.#details) {
      this.#scroll(step);
      return;
    }
    const selectable = [...this.#lines.entries()].flatMap(([i, { details }]) => (details ? [i] : []));
    const current = this.#lines.findIndex(({ key, details }) => details !== null && key === this.#selected);
    const next =
      current < 0
        ? (selectable.find((i) => i >= this.#offset) ?? selectable.at(-1))
        : selectable[selectable.indexOf(current) + step];
    if (next !== undefined) {
      this.#selected = this.#lines[next]?.key ?? null;
      this.#offset = Math.max(Math.min(this.#offset, next), next - this.#room + 1);
    } else this.#offset = step < 0 ? 0 : this.#lines.length;
    this.#draw();
  }

  #openDetails(): void {
    const find = (): ScreenLine | undefined =>
      this.#lines.find(({ key, details }) => details && key === this.#selected);
    if (!find()) this.#select(1);
    const { key = null, details = null } = find() ?? {};
    if (key === null || !details) return;
    this.#details = { key, object: details(), offset: this.#offset };
    this.#offset = 0;
    this.#draw();
  }

  #closeDetails(): void {
    this.#offset = this.#details?.offset ?? 0;
    this.#details = null;
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
  #linesOf(result: ScanResult, width: number, paint: Paint): ScreenLine[] {
    const behind = Map.groupBy([...this.#gone], ([, { after }]) => after);
    const lines: ScreenLine[] = [];
    const addGone = (after: string | null): void => {
      const gone = behind.get(after) ?? [];
      behind.delete(after);
      for (const [name, { text }] of gone) {
        lines.push({ text: `- ${paint(fit(text, width), 'gone')}`, key: null, details: null });
        addGone(name);
      }
    };
    const drawn = this.#options.view.draw(this.#choices.apply(result), this.#display());
    const keyed = drawn.findIndex(({ key }) => key !== null);
    const first = keyed >= 0 ? keyed : this.#options.view.hasHeading ? 1 : 0;
    for (const [i, { text, key, details = null }] of drawn.entries()) {
      if (i === first) addGone(null);
      const name = key?.() ?? null;
      const isNew = name !== null && this.#newUntil.has(name);
      const mark = (isNew ? paint('+', 'new') : ' ') + (name !== null && name === this.#selected ? '>' : ' ');
      lines.push({ text: mark + cutPainted(text, width), key: name, details: name === null ? null : details });
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
    const drawn = this.#linesOf(this.#result, screen.width - MARK, paint);
    const showsLines = !this.#showsHelp && !this.#details;
    const heading = view.hasHeading ? drawn.splice(0, 1).map(({ text }) => text) : [];
    this.#lines = drawn;
    const top = showsLines ? heading : [];
    const lines = showsLines ? drawn.map(({ text }) => text) : this.#overlay(screen.width - MARK);
    const room = Math.max(1, screen.height - 2 - top.length);
    this.#room = room;
    this.#offset = Math.min(this.#offset, Math.max(0, lines.length - room));
    const shown = lines.slice(this.#offset, this.#offset + room);
    const blanks = Array.from({ length: room - shown.length }, () => '');
    const { encode } = this.#options;
    const framed = [
      this.#header(screen.width, paint),
      ...top,
      ...shown,
      ...blanks,
      this.#footer(screen.width, lines.length, room, paint),
    ];
    screen.draw(encode ? framed.map(encode) : framed);
  }

  /** The help, or the details of a line as they are now or were last. */
  #overlay(width: number): string[] {
    const open = this.#details;
    if (this.#showsHelp || !open) return WATCH_HELP.map((line) => `  ${fit(line, width)}`);
    const line = this.#lines.find(({ key }) => key === open.key);
    if (line?.details) open.object = line.details();
    const note = line ? [] : ['Not in the last scan'];
    return [...note, ...detailLines(open.object, width)].map((text) => `  ${text}`);
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
    const more = total > room ? `lines ${this.#offset + 1}-${Math.min(total, this.#offset + room)} of ${total}  ` : '';
    const keys = this.#details
      ? 'Enter goes back, q quits'
      : !this.#terminal.stdin
        ? 'Ctrl-C quits'
        : this.#isPaused
          ? 'space resumes, ? helps, q quits'
          : 'space pauses, / filters, Enter details, ? helps, q quits';
    return paint(fit(this.#message === '' ? more + keys : `${this.#message}  ${more}${keys}`, width), 'faint');
  }
}

const SGR = /\x1b\[[\d;]*m/g;
/** Lines that one step of the mouse wheel scrolls. */
const WHEEL_LINES = 3;
const ARROW = /^\x1b[[O][AB]$/;
/** A report of the mouse wheel: up is button 64, down is 65. */
const WHEEL = /^\x1b\[<6[45];\d+;\d+M$/;
const KEYS = /\x1b\[<?[\d;]*[A-Za-z~]|\x1bO[A-Z]|[^]/g;
