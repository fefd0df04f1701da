import { writeSync } from 'node:fs';
import type { ReadStream, WriteStream } from 'node:tty';

/** Alternate screen, no cursor, no wrapping of lines (xterm private modes 1049, 25 and 7), and back. */
const ENTER = '\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J';
const LEAVE = '\x1b[?7h\x1b[?25h\x1b[?1049l';
/** The terminal shows what stands between at once (mode 2026), where it knows that. */
const BEGIN = '\x1b[?2026h\x1b[H';
const END = '\x1b[0m\x1b[J\x1b[?2026l';

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
 * The alternate screen of a terminal. However the process ends, but for SIGKILL, the terminal is as it was: on close, on exit, and
 * before an error that nobody caught is printed.
 */
export class Screen {
  readonly #terminal: Terminal;
  readonly #listeners: ScreenListeners;
  #isOpen = false;
  readonly #keys = (bytes: Buffer): void => this.#listeners.key(bytes.toString('latin1'));
  readonly #resized = (): void => this.#listeners.resized();
  readonly #leave = (): void => this.close();
  readonly #enter = (): void => this.#open();

  constructor(terminal: Terminal, listeners: ScreenListeners) {
    this.#terminal = terminal;
    this.#listeners = listeners;
    process.on('exit', this.#leave);
    process.on('uncaughtExceptionMonitor', this.#leave);
    this.#open();
  }

  get width(): number {
    return this.#terminal.stdout.columns || 80;
  }

  get height(): number {
    return this.#terminal.stdout.rows || 24;
  }

  /** Shows these lines from the top, each no wider than the screen; what does not fit below is not shown. */
  draw(lines: readonly string[]): void {
    if (!this.#isOpen) return;
    const shown = lines.slice(0, this.height).map((line) => `${line}\x1b[0m\x1b[K`);
    this.#terminal.stdout.write(BEGIN + shown.join('\r\n') + END);
  }

  /** Gives the terminal back until the process goes on. */
  suspend(): void {
    this.close();
    process.once('SIGCONT', this.#enter);
    // The whole job stops, as the terminal would have it.
    process.kill(0, 'SIGTSTP');
  }

  /** Gives the terminal back as it was. */
  close(): void {
    process.off('SIGCONT', this.#enter);
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const { stdin, stdout } = this.#terminal;
    stdin?.off('data', this.#keys).setRawMode(false).pause();
    stdout.off('resize', this.#resized);
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
    stdin?.setRawMode(true).on('data', this.#keys).resume();
    stdout.on('resize', this.#resized);
    stdout.write(ENTER);
    this.#listeners.resized();
  }
}
