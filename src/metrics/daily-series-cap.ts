import { sortByKey } from './aggregate.ts';
import { OTHER } from '../common/other.ts';
import type { Sample } from '../model.ts';

const DAY_MS = 86_400_000;

/**
 * Keeps the distinct series of a family few over a day, not only within one scrape: a series that nobody asks for again stays in a
 * database for its whole retention.
 *
 * A series that was shown within the last 24 hours is shown again. Newcomers are, largest first, while fewer than 1.5 × limit are
 * remembered; the others are added to the series whose `label` reads `other`, for which half a limit is left.
 */
export class Turnover {
  readonly #column: number;
  readonly #most: number;
  readonly #shownAt = new Map<string, number>();

  /** `labels` are the family's, `label` is the one of them that may read `other`. */
  constructor(labels: readonly string[], label: string, limit: number) {
    this.#column = labels.indexOf(label);
    this.#most = Math.floor(limit * 1.5);
  }

  /** The samples of a scrape at a time in milliseconds, with the same sum; `folded` is how many newcomers were not shown. */
  admit(samples: readonly Sample[], at: number): { samples: readonly Sample[]; folded: number } {
    for (const [key, shownAt] of this.#shownAt) if (at - shownAt > DAY_MS) this.#shownAt.delete(key);
    const shown = new Map<string, Sample>();
    const newcomers: Sample[] = [];
    for (const sample of samples) {
      const key = keyOf(sample.labels);
      if (!this.#shownAt.has(key) && sample.labels[this.#column] !== OTHER) newcomers.push(sample);
      else shown.set(key, sample);
    }
    newcomers.sort((a, b) => b.value - a.value);
    const places = Math.max(0, this.#most - this.#shownAt.size);
    for (const sample of newcomers.slice(0, places)) shown.set(keyOf(sample.labels), sample);
    const folded = newcomers.slice(places);
    for (const { labels, value } of folded) {
      const other = labels.with(this.#column, OTHER);
      const key = keyOf(other);
      shown.set(key, { labels: other, value: value + (shown.get(key)?.value ?? 0) });
    }
    for (const key of shown.keys()) this.#shownAt.set(key, at);
    return { samples: newcomers.length === 0 ? samples : sortByKey([...shown.values()]), folded: folded.length };
  }
}

function keyOf(labels: readonly string[]): string {
  return labels.join('\n');
}
