import { UsageError } from '../common/errors.ts';

/** An option as the help shows it. */
export interface OptionShape {
  /** As typed, such as "-o" and "--output". */
  readonly names: readonly string[];
  /** The placeholder of its value; null for an option without a value. */
  readonly value: string | null;
  /** The allowed values; empty if they are not a short list. */
  readonly choices: readonly string[];
  readonly description: string;
}

/** A command as the help shows it, with its subcommands. */
export interface CommandShape {
  readonly name: string;
  /** Its arguments, such as "[filter...]". */
  readonly arguments: string;
  /** The allowed values of its argument; empty if they are not a short list. */
  readonly choices: readonly string[];
  readonly description: string;
  readonly options: readonly OptionShape[];
  readonly subcommands: readonly CommandShape[];
  /** Text at the end of its help; may be empty. */
  readonly notes: string;
}

/** Every command and subcommand with its path of words. The program itself comes first, with an empty path. */
export function commandPaths(
  command: CommandShape,
  path: readonly string[] = [],
): { path: readonly string[]; command: CommandShape }[] {
  return [{ path, command }, ...command.subcommands.flatMap((one) => commandPaths(one, [...path, one.name]))];
}

/** Parses the scan interval in seconds and returns milliseconds. Throws UsageError if it is out of range. */
export function parseInterval(text: string): number {
  const ms = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) * 1000 : 0;
  if (ms >= 10 && ms <= 3_600_000) return ms;
  throw new UsageError(
    `Cannot use --interval ${JSON.stringify(text)}: must be a number of seconds from 0.01 to 3600 such as 1 or 0.5`,
  );
}

/** Parses the number of scans; Infinity if it is not set. Throws UsageError if it is not a positive integer. */
export function parseCount(text: string | undefined): number {
  if (text === undefined) return Infinity;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new UsageError(`Cannot use --count ${JSON.stringify(text)}: must be a whole number of at least 1`);
}
