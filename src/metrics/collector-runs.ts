import type { Host } from '../collect/host.ts';
import { reasonOf } from '../common/errors.ts';
import type { Family } from '../model.ts';
import type { Collector, CollectorRun } from './catalogue.ts';

/** The result of one scan; `at` in milliseconds since 1970. */
export interface Snapshot {
  readonly at: number;
  readonly families: readonly Family[];
  readonly collectors: readonly CollectorRun[];
  /** Malformed lines since the start, by socket table. */
  readonly malformedRows: ReadonlyMap<string, number>;
  /** Namespaces whose rows could not be read, or not in time. */
  readonly unreadableNamespaces: number;
  /** Why families are missing or incomplete: a line for each failure. */
  readonly failures: readonly string[];
}

/** What each collector cost in a scan, and what failed. A collector that fails costs its own families and no others. */
export class CollectorRuns {
  readonly #isOn: (collector: Collector) => boolean;
  readonly #monotonic: () => number;
  readonly #ms = new Map<Collector, number>();
  readonly #broken = new Set<Collector>();
  readonly #failures: { readonly collector: Collector; readonly reason: string }[] = [];

  /** `monotonic` returns milliseconds of a clock that never goes back. */
  constructor(isOn: (collector: Collector) => boolean, monotonic: () => number) {
    this.#isOn = isOn;
    this.#monotonic = monotonic;
  }

  /** Begins a scan. */
  begin(): void {
    this.#ms.clear();
    this.#broken.clear();
    this.#failures.length = 0;
  }

  /** Does and times the work of a collector. */
  run<T>(collector: Collector, work: () => T): T {
    const begun = this.#monotonic();
    try {
      return work();
    } finally {
      this.add(collector, this.#monotonic() - begun);
    }
  }

  /** Does and times the work of a collector; if it throws, its families are left out. */
  attempt(collector: Collector, work: () => void): void {
    try {
      this.run(collector, work);
    } catch (error) {
      this.fail(collector, error);
    }
  }

  /** Adds milliseconds to the cost of a collector. */
  add(collector: Collector, ms: number): void {
    this.#ms.set(collector, (this.#ms.get(collector) ?? 0) + ms);
  }

  /** Leaves the families of a collector out of this scan. */
  fail(collector: Collector, error: unknown): void {
    this.#broken.add(collector);
    this.report(collector, `Cannot collect "${collector}": ${reasonOf(error)}`);
  }

  /** Reports that part of a collector's work failed; its families stay. */
  report(collector: Collector, reason: string): void {
    this.#failures.push({ collector, reason });
  }

  /** Says whether the families of a collector are part of this scan. */
  publishes(collector: Collector): boolean {
    return this.#isOn(collector) && !this.#broken.has(collector);
  }

  /** The cost and success of each collector that is on. */
  summary({ status, seesOwners }: Host): CollectorRun[] {
    const failed = new Set(this.#failures.map(({ collector }) => collector));
    if (status.unreadable + status.incomplete > 0) failed.add('sockets');
    if (!seesOwners) failed.add('processes');
    return [...this.#ms]
      .filter(([collector]) => this.#isOn(collector))
      .map(([collector, ms]) => ({ collector, seconds: ms / 1000, success: !failed.has(collector) }));
  }

  /** Why families are missing or incomplete: a line for each failure. */
  get failures(): string[] {
    return this.#failures.map(({ reason }) => reason);
  }
}
