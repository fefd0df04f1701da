import { pino } from 'pino';
import { SYSTEM_CLOCK } from './clock.ts';
import { escapeControls } from './sanitize.ts';

export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace';
export type LogFormat = 'json' | 'text';

type Fields = Readonly<Record<string, string | number | boolean | null>>;

interface Write {
  (fields: Fields, message: string): void;
  (message: string): void;
}

/** Where a run says what happens to it, by severity: a lower-case message, and what it is about as fields. */
export type Log = Readonly<Record<LogLevel, Write>>;

/**
 * Makes a log that writes each entry from `level` on as one line to `destination`, whatever message and fields hold.
 * JSON has `level`, `time` (RFC 3339), the fields and `msg`; text is time, level, message and the fields as key=value.
 * Standard error is written synchronously. `now` gives milliseconds since 1970.
 */
export function createLog(
  { level, format }: { readonly level: LogLevel; readonly format: LogFormat },
  destination: { write(line: string): unknown } = process.stderr,
  now: () => number = () => SYSTEM_CLOCK.now(),
): Log {
  const write = (line: string): void => {
    const body = line.trimEnd();
    destination.write(`${escapeControls(format === 'json' ? body : asText(body))}\n`);
  };
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date(now()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write },
  );
}

function asText(json: string): string {
  const { time, level, msg, ...fields } = JSON.parse(json) as Record<string, Fields[string]>;
  const pairs = Object.entries(fields).map(([key, value]) => `${key}=${quoteIfNeeded(String(value))}`);
  return [time, String(level).toUpperCase().padEnd(5), msg, ...pairs].join(' ');
}

function quoteIfNeeded(text: string): string {
  return /^[^\s"=\\]+$/.test(text) ? text : JSON.stringify(text);
}

const REPEAT_MS = 60_000;

/**
 * Keeps a failure that repeats from filling a log: each key is logged at once, then at most once a minute, with the number
 * of times since in `repeated`. Keys are few and fixed: they are kept for good. `now` gives milliseconds of a steady clock.
 */
export class Repeating {
  readonly #log: Log;
  readonly #now: () => number;
  readonly #failures = new Map<string, { loggedAt: number; silenced: number; isOver: boolean }>();

  constructor(log: Log, now: () => number = () => SYSTEM_CLOCK.monotonic()) {
    this.#log = log;
    this.#now = now;
  }

  warn(key: string, fields: Fields, message: string): void {
    const now = this.#now();
    const last = this.#failures.get(key);
    if (last && now - last.loggedAt < REPEAT_MS) {
      last.silenced++;
      return;
    }
    this.#failures.set(key, { loggedAt: now, silenced: 0, isOver: false });
    this.#log.warn(last ? { ...fields, repeated: last.silenced + 1 } : fields, message);
  }

  /** Logs the end of a failure, once for each entry of that failure. */
  recovered(key: string, fields: Fields, message: string): void {
    const last = this.#failures.get(key);
    if (!last || last.isOver) return;
    last.isOver = true;
    this.#log.info(fields, message);
  }
}
