import { getSystemErrorMessage } from 'node:util';

/** Wrong usage (exit code 2): the message names what was given, its value and what is allowed. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The reason in an error, in words: a failed system call reads as strerror(3) puts it. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { errno } = error as NodeJS.ErrnoException;
  return typeof errno === 'number' && errno < 0 ? getSystemErrorMessage(errno) : error.message;
}

/** Freezes a value and all that it holds, and returns it. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}
