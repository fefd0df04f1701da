/** Allows some actions at once, and later one in each interval: those that were not needed are saved up. */
export class BurstLimit {
  readonly #most: number;
  readonly #everyMs: number;
  #left: number;
  #at = 0;

  constructor(most: number, everyMs: number) {
    this.#most = this.#left = most;
    this.#everyMs = everyMs;
  }

  /** Takes one if there is any; `now` in monotonic milliseconds. */
  take(now: number): boolean {
    const gained = Math.floor((now - this.#at) / this.#everyMs);
    this.#at += gained * this.#everyMs;
    this.#left = Math.min(this.#most, this.#left + gained);
    if (this.#left === 0) return false;
    this.#left--;
    return true;
  }
}
