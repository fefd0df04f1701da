import { setTimeout as sleep } from 'node:timers/promises';

/** Time, as it comes in from outside; milliseconds. */
export interface Clock {
  /** Since 1970. */
  now(): number;
  /** Since some moment; never goes back. */
  monotonic(): number;
}

/** Time that can also be waited for. */
export interface Timer extends Clock {
  /** Runs something once, so many milliseconds later; the function returned prevents it. */
  after(ms: number, run: () => void): () => void;
}

/** The machine's own clock. */
export const SYSTEM_CLOCK: Timer = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, run) => {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/** Waits until the steady clock shows so much, or for the signal. */
export async function waitUntil(at: number, clock: Clock, signal?: AbortSignal): Promise<void> {
  const ms = Math.max(0, at - clock.monotonic());
  await sleep(ms, undefined, signal ? { signal } : {}).catch(() => undefined);
}
