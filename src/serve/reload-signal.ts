import type { Timer } from '../common/clock.ts';

/** A storm of signals must not cost CPU or fill the log. */
const REST_MS = 1_000;

/**
 * Reloads on SIGHUP and on request: at once, then at most once a second. Requests that arrive in between, or before `start`, cause one
 * reload together.
 */
export class ReloadSignal {
  #reload: (() => void) | null = null;
  readonly #clock: Timer;
  #cancel: (() => void) | null = null;
  #isWanted = false;

  constructor(clock: Timer) {
    this.#clock = clock;
    process.on('SIGHUP', this.received);
  }

  /** Begins to reload. */
  start(reload: () => void): void {
    this.#reload = reload;
    if (this.#isWanted) this.#next();
  }

  readonly received = (): void => {
    if (this.#cancel || !this.#reload) {
      this.#isWanted = true;
      return;
    }
    this.#cancel = this.#clock.after(REST_MS, () => {
      this.#cancel = null;
      if (this.#isWanted) this.#next();
    });
    this.#reload();
  };

  #next(): void {
    this.#isWanted = false;
    this.received();
  }

  close(): void {
    this.#cancel?.();
    process.off('SIGHUP', this.received);
  }
}
