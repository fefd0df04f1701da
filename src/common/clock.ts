import { setTimeout as sleep } from 'node:timers/promises';

/** A source of time, in milliseconds. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Milliseconds since an arbitrary start. Never decreases. */
  monotonic(): number;
}

/** A clock that can schedule callbacks. */
export interface Timer extends Clock {
  /** Runs a callback once after `ms` milliseconds. Returns a function that cancels it. */
  after(ms: number, run: () => void): () => void;
}

/** The system clock. */
export const SYSTEM_CLOCK: Timer = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/** Waits until the monotonic clock reaches `at` or the signal aborts. */
export async function waitUntil(at: number, clock: Clock, signal?: AbortSignal): Promise<void> {
  const ms = Math.max(0, at - clock.monotonic());
  await sleep(ms, undefined, signal ? { signal } : {}).catch(() => undefined);
}
