const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Formats bytes in the largest binary unit with a value of at least 1. */
export function bytesOf(bytes: number): string {
  let amount = bytes;
  let power = 0;
  // A value that rounds to 1024.0 has the next unit.
  while (power < BYTES.length - 1 && (power === 0 ? Math.round(amount) : amount + 0.05) >= 1024) {
    amount /= 1024;
    power++;
  }
  return `${power === 0 ? Math.round(amount) : amount.toFixed(1)} ${BYTES[power] ?? ''}`;
}

/** Formats a duration with two or three digits: "85 µs", "1.2 ms", "12 ms", "3.4 s". */
export function secondsOf(seconds: number): string {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${digits(seconds * 1000)} ms`;
  return `${digits(seconds)} s`;
}

function digits(amount: number): string {
  return amount < 9.95 ? amount.toFixed(1) : amount.toFixed(0);
}
