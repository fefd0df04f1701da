import type { Timer } from '../../src/common/clock.ts';

/** Time that passes when a test says so. */
export class ManualTime implements Timer {
  #at = 0;
  #waiting: { at: number; run: () => void }[] = [];

  now(): number {
    return this.#at;
  }

  monotonic(): number {
    return this.#at;
  }

  after(ms: number, run: () => void): () => void {
    const one = { at: this.#at + ms, run };
    this.#waiting.push(one);
    return () => (this.#waiting = this.#waiting.filter((other) => other !== one));
  }

  /** How long each that waits has still to wait, ascending. */
  get waits(): number[] {
    return this.#waiting.map(({ at }) => at - this.#at).sort((a, b) => a - b);
  }

  pass(ms: number): void {
    this.#at += ms;
    const due = this.#waiting.filter(({ at }) => at <= this.#at);
    this.#waiting = this.#waiting.filter(({ at }) => at > this.#at);
    for (const { run } of due) run();
  }
}
