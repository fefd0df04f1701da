import { UsageError } from '../config/config.ts';

/** Reads the seconds between two scans; returns milliseconds. Throws UsageError for what is not allowed. */
export function parseInterval(text: string): number {
  const ms = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) * 1000 : 0;
  if (ms >= 10 && ms <= 3_600_000) return ms;
  throw new UsageError(
    `Cannot use --interval ${JSON.stringify(text)}: must be a number of seconds from 0.01 to 3600 such as 1 or 0.5`,
  );
}

/** Reads how often; Infinity where nothing says it. Throws UsageError for what is not allowed. */
export function parseCount(text: string | undefined): number {
  if (text === undefined) return Infinity;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new UsageError(`Cannot use --count ${JSON.stringify(text)}: must be a whole number of at least 1`);
}
