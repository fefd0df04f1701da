const WINDOW_MS = 5 * 60_000;

/**
 * How much a poll sees of what comes and goes: the TCP connections that scans saw open in the last five minutes against those that
 * the kernel counted (ActiveOpens and PassiveOpens of RFC 4022).
 */
export class Coverage {
  readonly #scans: { readonly at: number; readonly seen: number; readonly opened: number }[] = [];

  /** Adds what came about between the last two scans; `at` in milliseconds since 1970. */
  add(at: number, seen: number, opened: number): void {
    this.#scans.push({ at, seen, opened });
    this.#forget(at);
  }

  /** Seen by opened, at most 1; null when the kernel counted none. */
  ratio(at: number): number | null {
    this.#forget(at);
    let seen = 0;
    let opened = 0;
    for (const scan of this.#scans) {
      seen += scan.seen;
      opened += scan.opened;
    }
    return opened === 0 ? null : Math.min(1, seen / opened);
  }

  #forget(at: number): void {
    while (this.#scans[0] && Math.abs(at - this.#scans[0].at) > WINDOW_MS) this.#scans.shift();
  }
}
