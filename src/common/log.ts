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

/** A structured log with one method per level. Messages are lower case; values go into fields. */
export type Log = Readonly<Record<LogLevel, Write>>;

/**
 * Creates a log that writes each entry at or above `level` as one line, whatever the message and fields contain. JSON
 * has `level`, `time` (RFC 3339), the fields and `msg`. Text has time, level, message and the fields as key=value.
 * Writes to standard error are synchronous. `now` returns milliseconds since 1970.
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
 * Limits repeated warnings. Each key is logged at once, then at most once a minute with the number of occurrences
 * since in `repeated`. Keys must be few and fixed, because they are never removed. `now` returns monotonic
 * milliseconds.
 */
export class RepeatLimiter {
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

  /** Logs the end of a failure once per logged failure. */
  recovered(key: string, fields: Fields, message: string): void {
    const last = this.#failures.get(key);
    if (!last || last.isOver) return;
    last.isOver = true;
    this.#log.info(fields, message);
  }
}
