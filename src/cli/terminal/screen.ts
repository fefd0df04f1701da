import { writeSync } from 'node:fs';
import type { ReadStream, WriteStream } from 'node:tty';

/** Alternate screen, no cursor, no wrapping of lines (xterm private modes 1049, 25 and 7), and back; what was drawn goes first, for a terminal that was resized may keep some of it. */
const ENTER = '\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J';
const LEAVE = '\x1b[?7h\x1b[?25h\x1b[H\x1b[2J\x1b[?1049l';
/** So long after it stopped a process that was not stopped after all, because nobody could continue it, goes on. */
const STOP_MS = 100;
/** The terminal shows what stands between at once (mode 2026), where it knows that. */
const BEGIN = '\x1b[?2026h\x1b[H';
const END = '\x1b[?2026l';
/** Erases to the end of the line. It erases the cell under the cursor too, so it comes before the text: after a full line the cursor stays on the last cell. */
const ERASE = '\x1b[K';
const PLAIN = '\x1b[0m';

/** The terminal that a screen is drawn on; a standard input that is none gives no keys. */
export interface Terminal {
  readonly stdin: ReadStream | null;
  readonly stdout: WriteStream & { readonly fd: number };
}

/** What a person did: a key as its bytes, or another size of the terminal. */
export interface ScreenListeners {
  readonly key: (key: string) => void;
  readonly resized: () => void;
}

/**
 * The alternate screen of a terminal. However the process ends or is stopped, but for SIGKILL and SIGSTOP, the terminal is as it was:
 * on close, on exit, before an error that nobody caught is printed, and on SIGTSTP until SIGCONT.
 */
export class Screen {
  readonly #terminal: Terminal;
  readonly #listeners: ScreenListeners;
  #isOpen = false;
  readonly #onKeys = (bytes: Buffer): void => this.#listeners.key(bytes.toString('latin1'));
  readonly #onResize = (): void => this.#listeners.resized();
  readonly #onExit = (): void => this.#restore();
  readonly #onStop = (): void => this.#suspend();
  readonly #onContinue = (): void => this.#resume();
  #continueTimer: NodeJS.Timeout | undefined;

  constructor(terminal: Terminal, listeners: ScreenListeners) {
    this.#terminal = terminal;
    this.#listeners = listeners;
    process.on('exit', this.#onExit);
    process.on('uncaughtExceptionMonitor', this.#onExit);
    process.on('SIGTSTP', this.#onStop);
    process.on('SIGCONT', this.#onContinue);
    this.#open();
  }

  get width(): number {
    return this.#terminal.stdout.columns || 80;
  }

  get height(): number {
    return this.#terminal.stdout.rows || 24;
  }

  /** Fills the screen with these lines, each no wider than the screen; lines that do not fit are not shown. */
  draw(lines: readonly string[]): void {
    if (!this.#isOpen) return;
    const rows = Array.from({ length: this.height }, (_, row) => ERASE + (lines[row] ?? '') + PLAIN);
    this.#terminal.stdout.write(BEGIN + rows.join('\r\n') + END);
  }

  /** Stops the whole job, as the terminal would have it at this key. */
  stop(): void {
    process.kill(0, 'SIGTSTP');
  }

  /** Gives the terminal back as it was, for good. */
  close(): void {
    clearTimeout(this.#continueTimer);
    process.off('SIGTSTP', this.#onStop);
    process.off('SIGCONT', this.#onContinue);
    this.#restore();
  }

  #suspend(): void {
    this.#restore();
    process.off('SIGTSTP', this.#onStop);
    process.kill(process.pid, 'SIGTSTP');
    // It keeps the process alive, too, when that goes on.
    this.#continueTimer = setTimeout(this.#onContinue, STOP_MS);
  }

  /** The shell may have set the terminal otherwise meanwhile, even where it stopped us without a word (SIGSTOP). */
  #resume(): void {
    clearTimeout(this.#continueTimer);
    process.off('SIGTSTP', this.#onStop).on('SIGTSTP', this.#onStop);
    this.#restore();
    this.#open();
  }

  #restore(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const { stdin, stdout } = this.#terminal;
    stdin?.off('data', this.#onKeys).setRawMode(false).pause();
    stdout.off('resize', this.#onResize);
    try {
      // At the exit nothing later is written any more.
      writeSync(stdout.fd, LEAVE);
    } catch {
      // The terminal is gone, and all that was on it.
    }
  }

  #open(): void {
    this.#isOpen = true;
    const { stdin, stdout } = this.#terminal;
    stdin?.setRawMode(true).on('data', this.#onKeys).resume();
    stdout.on('resize', this.#onResize);
    stdout.write(ENTER);
    this.#listeners.resized();
  }
}
