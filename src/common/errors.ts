/** Wrong usage (exit code 2): the message names what was given, its value and what is allowed. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Freezes a value and all that it holds, and returns it. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}
