import { sortByKey } from './aggregate.ts';
import { OTHER } from '../common/other.ts';
import type { Sample } from '../model.ts';

const DAY_MS = 86_400_000;

/**
 * Limits the distinct series of a family over a day, not only within one scrape: a database keeps each series for its whole
 * retention time.
 *
 * A series that was exported within the last 24 hours is exported again. New series are exported, largest first, while fewer than
 * 1.5 × limit are remembered; the rest is added to the series whose `label` is `other`.
 */
export class DailySeriesCap {
  readonly #column: number;
  readonly #capacity: number;
  readonly #exportedAt = new Map<string, number>();

  /** `labels` of the family; `label` is the one that folds. */
  constructor(labels: readonly string[], label: string, limit: number) {
    this.#column = labels.indexOf(label);
    this.#capacity = Math.floor(limit * 1.5);
  }

  /** Returns the samples of a scrape with the same total; `at` in milliseconds, `folded` is the number of new series folded. */
  admit(samples: readonly Sample[], at: number): { samples: readonly Sample[]; folded: number } {
    for (const [key, exportedAt] of this.#exportedAt) if (at - exportedAt > DAY_MS) this.#exportedAt.delete(key);
    const exported = new Map<string, Sample>();
    const added: Sample[] = [];
    for (const sample of samples) {
      const key = keyOf(sample.labels);
      if (!this.#exportedAt.has(key) && sample.labels[this.#column] !== OTHER) added.push(sample);
      else exported.set(key, sample);
    }
    added.sort((a, b) => b.value - a.value);
    const places = Math.max(0, this.#capacity - this.#exportedAt.size);
    for (const sample of added.slice(0, places)) exported.set(keyOf(sample.labels), sample);
    const folded = added.slice(places);
    for (const { labels, value } of folded) {
      const other = labels.with(this.#column, OTHER);
      const key = keyOf(other);
      exported.set(key, { labels: other, value: value + (exported.get(key)?.value ?? 0) });
    }
    for (const key of exported.keys()) this.#exportedAt.set(key, at);
    return { samples: added.length === 0 ? samples : sortByKey([...exported.values()]), folded: folded.length };
  }
}

function keyOf(labels: readonly string[]): string {
  return labels.join('\n');
}
