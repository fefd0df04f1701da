import { writeSync } from 'node:fs';
import type { ReadStream, WriteStream } from 'node:tty';

/** Enter and leave the alternate screen, with cursor and line wrapping off (xterm private modes 1049, 25 and 7). Clear it first: a resized terminal may keep parts. */
const ENTER = '\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J';
const LEAVE = '\x1b[?1006l\x1b[?1000l\x1b[?7h\x1b[?25h\x1b[H\x1b[2J\x1b[?1049l';
/** Report the mouse wheel as keys (xterm private modes 1000 and 1006), only if keys are read. */
const MOUSE = '\x1b[?1000h\x1b[?1006h';
/** Resume after this time if SIGTSTP did not stop the process, as in an orphaned process group. */
const STOP_MS = 100;
/** Synchronized update (mode 2026), if the terminal supports it. */
const BEGIN = '\x1b[?2026h\x1b[H';
const END = '\x1b[?2026l';
/** Erase to the end of the line. Written before the text: after a full line the cursor stays on the last cell, which would be erased. */
const ERASE = '\x1b[K';
const PLAIN = '\x1b[0m';

/** The terminal to draw on. `stdin` is null if it is not a terminal; then there are no keys. */
export interface Terminal {
  readonly stdin: ReadStream | null;
  readonly stdout: WriteStream & { readonly fd: number };
}

/** Callbacks for input bytes and for a change of the terminal size. */
export interface ScreenListeners {
  readonly key: (key: string) => void;
  readonly resized: () => void;
}

/**
 * The alternate screen of a terminal. The terminal is restored on close, on exit, before an uncaught error is printed, and from
 * SIGTSTP to SIGCONT; only SIGKILL and SIGSTOP leave it changed.
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

  /** Draws the lines. They must not be wider than the screen; lines below its height are not drawn. */
  draw(lines: readonly string[]): void {
    if (!this.#isOpen) return;
    const rows = Array.from({ length: this.height }, (_, row) => ERASE + (lines[row] ?? '') + PLAIN);
    this.#terminal.stdout.write(BEGIN + rows.join('\r\n') + END);
  }

  /** Stops the process group, as Ctrl-Z does outside raw mode. */
  stop(): void {
    process.kill(0, 'SIGTSTP');
  }

  /** Restores the terminal permanently. */
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
    // The timer also keeps the process alive when it continues.
    this.#continueTimer = setTimeout(this.#onContinue, STOP_MS);
  }

  /** Sets the terminal up again: the shell may have changed it, even after SIGSTOP. */
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
      // Write synchronously: asynchronous writes are lost on exit.
      writeSync(stdout.fd, LEAVE);
    } catch {
      // The terminal is gone.
    }
  }

  #open(): void {
    this.#isOpen = true;
    const { stdin, stdout } = this.#terminal;
    stdin?.setRawMode(true).on('data', this.#onKeys).resume();
    stdout.on('resize', this.#onResize);
    stdout.write(stdin ? ENTER + MOUSE : ENTER);
    this.#listeners.resized();
  }
}
