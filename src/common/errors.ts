import { getSystemErrorMessage } from 'node:util';

/** A usage error (exit code 2). The message names the input, its value and the allowed values. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Reasons for which libuv has words of its own; the C library's are clearer. */
const REASONS: Readonly<Record<string, string>> = { EEXIST: 'file exists', EISDIR: 'is a directory' };
const OPENSSL_ERROR = /^(?:[\dA-F]+:)?error:[\dA-F]{8}:[^:]*:[^:]*:([^:\n]+)/;

/**
 * Returns the reason of an error in words. A failed system call reads as in strerror(3), several failed connection attempts as the
 * first one, and an error of OpenSSL without its code and source file.
 */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (!(error instanceof Error)) return String(error);
  const { errno, code = '' } = error as NodeJS.ErrnoException;
  if (typeof errno === 'number' && errno < 0) return REASONS[code] ?? getSystemErrorMessage(errno);
  return OPENSSL_ERROR.exec(error.message)?.[1] ?? error.message;
}

/** Freezes a value and everything in it, and returns it. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}
