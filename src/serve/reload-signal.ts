import type { Timer } from '../common/clock.ts';

/** A storm of signals must not cost CPU or fill the log. */
const REST_MS = 1_000;

/** Reloads at once, then at most once a second: signals that arrive in between cause one reload together. */
export class ReloadSignal {
  readonly #reload: () => void;
  readonly #clock: Timer;
  #cancel: (() => void) | null = null;
  #isWanted = false;

  constructor(reload: () => void, clock: Timer) {
    this.#reload = reload;
    this.#clock = clock;
  }

  readonly received = (): void => {
    if (this.#cancel) {
      this.#isWanted = true;
      return;
    }
    this.#cancel = this.#clock.after(REST_MS, () => {
      this.#cancel = null;
      if (!this.#isWanted) return;
      this.#isWanted = false;
      this.received();
    });
    this.#reload();
  };

  close(): void {
    this.#cancel?.();
  }
}
