import { UsageError } from '../common/errors.ts';

/** An option as its help has it. */
export interface OptionShape {
  /** As typed, such as "-o" and "--output". */
  readonly names: readonly string[];
  /** What stands for its value; null where it takes none. */
  readonly value: string | null;
  /** The values it may have; empty where they are not so few. */
  readonly choices: readonly string[];
  readonly description: string;
}

/** A command as its help has it, with the commands below it. */
export interface CommandShape {
  readonly name: string;
  /** Its arguments, as in "[filter...]". */
  readonly arguments: string;
  /** What its argument may be; empty where that is not so little. */
  readonly choices: readonly string[];
  readonly description: string;
  readonly options: readonly OptionShape[];
  readonly subcommands: readonly CommandShape[];
  /** What its help says at its end, if anything. */
  readonly notes: string;
}

/** Every command that can be typed, with the words that lead to it; that of no words first. */
export function commandPaths(
  command: CommandShape,
  path: readonly string[] = [],
): { path: readonly string[]; command: CommandShape }[] {
  return [{ path, command }, ...command.subcommands.flatMap((one) => commandPaths(one, [...path, one.name]))];
}

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
