import { sortByKey, type FoldSpec } from './aggregate.ts';
import { OTHER, type FoldStep } from '../common/other.ts';
import type { Sample } from '../model.ts';

const DAY_MS = 86_400_000;

/** Labels whose values the cluster chooses: a new pod of a known workload is not a new series. */
const GIVEN: ReadonlySet<string> = new Set(['pod', 'container']);

/** A series that was exported: when, and whose it was when it began. */
interface Exported {
  at: number;
  readonly tenant: string;
}

/**
 * Limits the distinct series of a family over a day, not only within one scrape: a database keeps each series for its whole
 * retention time. Strangers choose names of processes and units, addresses and ports.
 *
 * A series that was exported within the last 24 hours is exported again. A tenant may begin new ones while it has begun fewer than are
 * left of 3 × limit: so one alone begins 1.5 × limit, and the others have the rest. The largest new ones come first. What has no place is
 * added to the series with the fewest folded labels that has one.
 */
export class DailySeriesCap {
  readonly #spec: FoldSpec;
  readonly #steps: readonly FoldStep[];
  readonly #chosen: readonly number[];
  readonly #limit: number;
  readonly #exported = new Map<string, Exported>();
  /** The last samples if they were all known, and what is remembered of each. */
  #last: { readonly at: number; readonly samples: readonly Sample[]; readonly exported: readonly Exported[] } | null =
    null;

  constructor(spec: FoldSpec, limit: number) {
    this.#spec = spec;
    this.#limit = limit;
    this.#steps = spec.fold.filter(({ labels }) => !labels.every((label) => GIVEN.has(label)));
    this.#chosen = spec.labels.flatMap((label, column) => (GIVEN.has(label) ? [] : [column]));
  }

  /**
   * Returns the samples of a scrape, with the same total unless nothing folds: then samples without a place are left out. `at` in
   * milliseconds; `foldedBy` is the number of new series without a place, by tenant.
   */
  admit(
    samples: readonly Sample[],
    tenantOf: (sample: Sample) => string,
    at: number,
  ): { samples: readonly Sample[]; foldedBy: ReadonlyMap<string, number> } {
    if (this.#admitAgain(samples, at)) return { samples, foldedBy: new Map() };
    const begun = new Map<string, number>();
    for (const [key, { at: exportedAt, tenant }] of this.#exported) {
      if (at - exportedAt > DAY_MS) this.#exported.delete(key);
      else begun.set(tenant, (begun.get(tenant) ?? 0) + 1);
    }
    const admitted = new Map<string, Sample>();
    const add = (labels: readonly string[], value: number, sample?: Sample): void => {
      const key = labels.join('\n');
      const known = admitted.get(key);
      admitted.set(key, known ? { labels, value: known.value + value } : (sample ?? { labels, value }));
    };
    const hasPlace = (key: string, tenant: string, steps: number): boolean => {
      const known = this.#exported.get(key);
      if (known) {
        known.at = at;
        return true;
      }
      const count = begun.get(tenant) ?? 0;
      // A folded series keeps many: an eighth of the limit more is for those.
      const left = this.#limit * (steps > 0 ? 3.125 : 3) - this.#exported.size;
      if (count >= left && !this.#isWhollyFolded(steps)) return false;
      this.#exported.set(key, { at, tenant });
      begun.set(tenant, count + 1);
      return true;
    };
    const exported = samples.map(({ labels }) => this.#exported.get(this.#keyOf(labels)));
    for (const known of exported) if (known) known.at = at;
    if (exported.every((known) => known !== undefined)) {
      this.#last = { at, samples, exported };
      return { samples, foldedBy: new Map() };
    }
    for (const [i, sample] of samples.entries()) if (exported[i]) add(sample.labels, sample.value, sample);
    const added = samples.filter((_, i) => !exported[i]);
    const foldedBy = new Map<string, number>();
    added.sort((a, b) => b.value - a.value);
    for (const sample of added) {
      const tenant = tenantOf(sample);
      const fold = (steps: number): readonly string[] => this.#fold(sample.labels, steps);
      let steps = 0;
      while (steps <= this.#steps.length && !hasPlace(this.#keyOf(fold(steps)), tenant, steps)) steps++;
      const labels = steps <= this.#steps.length ? fold(steps) : null;
      // What was folded before may stay as it is.
      const isSame = labels !== null && this.#keyOf(labels) === this.#keyOf(sample.labels);
      if (!isSame) foldedBy.set(tenant, (foldedBy.get(tenant) ?? 0) + 1);
      if (labels) add(labels, sample.value, isSame ? sample : undefined);
    }
    return { samples: sortByKey([...admitted.values()]), foldedBy };
  }

  /** Admits the same series as the last time, if that was less than a day ago and none of them was new. */
  #admitAgain(samples: readonly Sample[], at: number): boolean {
    const last = this.#last;
    this.#last = null;
    if (last?.samples.length !== samples.length || at - last.at > DAY_MS) return false;
    for (let i = 0; i < samples.length; i++) if (samples[i]?.labels !== last.samples[i]?.labels) return false;
    for (const known of last.exported) known.at = at;
    this.#last = { ...last, at };
    return true;
  }

  /** What remains if everything folds is bounded by itself. */
  #isWhollyFolded(steps: number): boolean {
    return this.#steps.length > 0 && steps === this.#steps.length;
  }

  #keyOf(labels: readonly string[]): string {
    return this.#chosen.map((column) => labels[column]).join('\n');
  }

  #fold(values: readonly string[], steps: number): readonly string[] {
    if (steps === 0) return values;
    const folding = this.#steps.slice(0, steps);
    return values.map((value, column) => {
      const label = this.#spec.labels[column] ?? '';
      return folding.some(({ labels, when }) => labels.includes(label) && (!when || when(value))) ? OTHER : value;
    });
  }
}
