import { escapeOther } from '../common/other.ts';
import type { Sample } from '../model.ts';
import type { Contribution, FoldMemory, FoldSpec } from './aggregate.ts';

type Labels = Contribution['labels'];

/** A series of this or an earlier scan; `spelled` is one array for its whole life. */
interface Series {
  readonly key: string;
  readonly spelled: readonly string[];
  readonly labels: Labels;
  value: number;
  tenant: string;
  /** Further tenants with the same labels. */
  others: Set<string> | null;
  /** The scan that summed it last. */
  scan: number;
}

/** The samples of a family without folded series, sorted by key. */
export interface WholeSamples {
  readonly samples: readonly Sample[];
  /** The tenant of a sample; "" for several. */
  readonly tenantOf: (sample: Sample) => string;
  readonly memory: FoldMemory;
}

/** Series and label sets of earlier scans that are kept besides those of this scan. */
const SPARE = 64;
const NO_STEPS: FoldMemory['steps'] = new Map();

/**
 * Sums contributions like `aggregate` while all series of a family fit, which is nearly always. Series are kept from scan to scan, so
 * a known label set costs a look-up: no text is made, and the samples are sorted only if there is a new series.
 */
export class WholeSeries {
  readonly #labels: readonly string[];
  readonly #mayFold: ReadonlySet<string>;
  readonly #limit: number;
  readonly #byKey = new Map<string, Series>();
  #byLabels = new Map<Labels, Series>();
  #sorted: readonly Series[] = [];
  #scan = 0;

  constructor({ labels, fold }: FoldSpec, limit: number) {
    this.#labels = labels;
    this.#mayFold = new Set(fold.flatMap((step) => step.labels));
    this.#limit = limit;
  }

  /** Null if the series do not fit. */
  sum(contributions: readonly Contribution[]): WholeSamples | null {
    this.#scan++;
    if (this.#byLabels.size > 2 * contributions.length + SPARE) this.#byLabels = new Map();
    const before = this.#sorted;
    const found: Series[] = [];
    let shared = 0;
    let known = 0;
    for (const { labels, value, tenant = '' } of contributions) {
      const series = this.#seriesOf(labels);
      if (series.scan !== this.#scan) {
        if (series.scan === this.#scan - 1) known++;
        series.scan = this.#scan;
        series.value = 0;
        series.tenant = tenant;
        series.others = null;
        found.push(series);
      } else if (series.tenant !== tenant) {
        const others = (series.others ??= new Set<string>());
        shared -= others.size;
        shared += others.add(tenant).size;
      }
      series.value += value;
    }
    // A series of several tenants counts for each of them.
    if (found.length + shared > this.#limit) {
      this.#sorted = [];
      this.#byKey.clear();
      this.#byLabels = new Map();
      return null;
    }
    const isSame = known === found.length && found.length === before.length;
    const sorted = isSame ? before : found.sort((a, b) => (a.key < b.key ? -1 : 1));
    this.#sorted = sorted;
    if (this.#byKey.size > 2 * found.length + SPARE)
      for (const [key, { scan }] of this.#byKey) if (scan !== this.#scan) this.#byKey.delete(key);
    return resultOf(sorted);
  }

  #seriesOf(labels: Labels): Series {
    let series = this.#byLabels.get(labels);
    if (series) return series;
    const spelled = this.#labels.map((label) => {
      const value = labels[label] ?? '';
      return this.#mayFold.has(label) ? escapeOther(value) : value;
    });
    const key = JSON.stringify(spelled);
    series = this.#byKey.get(key);
    if (!series) {
      series = { key, spelled, labels, value: 0, tenant: '', others: null, scan: 0 };
      this.#byKey.set(key, series);
    }
    this.#byLabels.set(labels, series);
    return series;
  }
}

function resultOf(sorted: readonly Series[]): WholeSamples {
  const samples = sorted.map(({ spelled, value }) => ({ labels: spelled, value }));
  const tenants = new Map<Sample, string>();
  return {
    samples,
    tenantOf: (sample) => {
      if (tenants.size === 0)
        for (const [i, { tenant, others }] of sorted.entries()) {
          const one = samples[i];
          if (one) tenants.set(one, others ? '' : tenant);
        }
      return tenants.get(sample) ?? '';
    },
    memory: {
      steps: NO_STEPS,
      get whole() {
        return sorted.map(({ labels }) => labels);
      },
    },
  };
}
