import { escapeOther, OTHER, type FoldStep } from '../common/other.ts';

/** The labels of a family of counters, the steps in which they fold, and how many values each series has. */
export interface CounterSpec {
  readonly labels: readonly string[];
  readonly fold: readonly FoldStep[];
  readonly values: number;
  /** How many series remain if every step is folded; places are kept for them. */
  readonly wholeFolds: number;
}

/** The sums of one label set. */
export interface CounterSeries {
  readonly labels: readonly string[];
  readonly sums: readonly number[];
}

const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
/** A tenant may have this number of places for each one that is left. */
const SHARE = 3;
/** How long increments of a label set go into a folded series before a place of its own is looked for again. */
const RETRY_MS = 60_000;

/**
 * Counters that only grow, in at most `limit` series (50 or more). Increments of a label set that has no place are added to a folded
 * series: the first fold step with a place, or `other` in every label. So a folded series never decreases either, and the sum over
 * all series is the sum of all increments.
 *
 * Three quarters of the places are for series that are not folded, and each fold step has half of the places that are left.
 * `wholeFolds` places are kept for the last step, and one for the series that is `other` in every label. A tenant may take a place while it
 * has fewer than three times what is left: so one alone has three quarters, and others find places.
 *
 * Only if its place is needed, a series is dropped that was not incremented for an hour and not added to since the scan before
 * began. It begins again at 0. Within 24 hours, at most 1.5 × limit distinct series exist: a database keeps each for its whole
 * retention time.
 */
export class BoundedCounters {
  readonly #spec: CounterSpec;
  readonly #limit: number;
  /** For each number of folded steps, the places that are left. */
  readonly #places: number[];
  /** For each number of folded steps, below how many distinct series within 24 hours a new one may begin. */
  readonly #daily: readonly number[];
  readonly #series = new Map<string, Series>();
  /** When the series of the last 24 hours were last present (Infinity for those that are), and who began them. */
  readonly #presentAt = new Map<string, { at: number; readonly tenant: string }>();
  /** The number of those by tenant, and by tenant and folded steps of those that are present. */
  readonly #begun = new Map<string, number>();
  readonly #used = new Map<string, number>();
  /** When the label sets without a place were last folded. */
  readonly #foldedAt = new Map<string, number>();
  /** The targets of label sets, by one label value after the other. Found again if forgotten. */
  #root = newNode();
  #nodes = 0;
  #now = -Infinity;
  #previous = -Infinity;
  /** Idle series, the longest idle first; null if not looked for in this scan. */
  #idle: Series[] | null = null;

  constructor(spec: CounterSpec, limit: number) {
    this.#spec = spec;
    this.#limit = limit;
    this.#places = placesOf(spec, limit);
    this.#daily = this.#places.map((_, steps, places) => Math.floor(limit / 2) + sum(places.slice(0, steps + 1)));
  }

  /** Begins a scan; `now` in milliseconds of a clock that never goes back. */
  beginScan(now: number): void {
    this.#previous = this.#now;
    this.#now = now;
    this.#idle = null;
    for (const [key, { at, tenant }] of this.#presentAt) {
      if (now - at < DAY_MS) continue;
      this.#presentAt.delete(key);
      count(this.#begun, tenant, -1);
    }
    for (const [key, at] of this.#foldedAt) if (now - at >= HOUR_MS) this.#foldedAt.delete(key);
  }

  /**
   * Adds to the sums of a label set; both arrays in the order of the spec. What is not above 0 is not added. The tenant is who answers for
   * the sockets.
   */
  add(labels: readonly string[], increments: readonly number[], tenant = ''): void {
    const { series } = this.#targetOf(labels, tenant);
    series.touchedAt = this.#now;
    for (let i = 0; i < series.sums.length; i++) {
      const increment = increments[i] ?? 0;
      if (!(increment > 0)) continue;
      series.sums[i] = (series.sums[i] ?? 0) + increment;
      series.incrementedAt = this.#now;
    }
  }

  get series(): Iterable<CounterSeries> {
    return this.#series.values();
  }

  /** Number of label sets that were folded in the last hour, counted up to four times the limit. */
  get folded(): number {
    return this.#foldedAt.size;
  }

  #targetOf(labels: readonly string[], tenant: string): Target {
    let node = this.#root;
    for (const label of labels) {
      let child = node.children?.get(label);
      if (!child) {
        (node.children ??= new Map<string, Node>()).set(label, (child = newNode()));
        this.#nodes++;
      }
      node = child;
    }
    const { target } = node;
    if (target?.series.isPresent && (!target.isFolded || this.#now - target.foundAt < RETRY_MS)) return target;
    if (this.#nodes > 16 * this.#limit) {
      this.#root = newNode();
      this.#nodes = 0;
    }
    return (node.target = this.#findTarget(labels, tenant));
  }

  #findTarget(labels: readonly string[], tenant: string): Target {
    const foundAt = this.#now;
    const whole = labels.map(escapeOther);
    const wholeKey = JSON.stringify(whole);
    for (let steps = 0; steps < this.#places.length; steps++) {
      const folded = this.#fold(whole, steps);
      const key = JSON.stringify(folded);
      const series =
        this.#series.get(key) ?? (this.#hasPlace(key, steps, tenant) ? this.#start(key, folded, steps, tenant) : null);
      if (!series) continue;
      const isFolded = key !== wholeKey;
      if (!isFolded) this.#foldedAt.delete(wholeKey);
      else if (this.#foldedAt.has(wholeKey) || this.#foldedAt.size < 4 * this.#limit)
        this.#foldedAt.set(wholeKey, foundAt);
      return { series, isFolded, foundAt };
    }
    throw new Error('Cannot count: no series has a place');
  }

  #fold(values: readonly string[], steps: number): readonly string[] {
    const { labels, fold } = this.#spec;
    if (steps > fold.length) return values.map(() => OTHER);
    const folding = fold.slice(0, steps);
    return values.map((value, i) =>
      folding.some((step) => step.labels.includes(labels[i] ?? '') && (step.when?.(value) ?? true)) ? OTHER : value,
    );
  }

  #hasPlace(key: string, steps: number, tenant: string): boolean {
    const isShared = tenant !== '' && steps < this.#spec.fold.length;
    const sharesOf = (counts: ReadonlyMap<string, number>, key: string): number =>
      isShared ? (counts.get(key) ?? 0) / SHARE : 0;
    const leftToday = (this.#daily[steps] ?? 0) - this.#presentAt.size;
    if (!this.#presentAt.has(key) && leftToday <= sharesOf(this.#begun, tenant)) return false;
    const left = this.#places[steps] ?? 0;
    return (left > 0 && left > sharesOf(this.#used, `${steps} ${tenant}`)) || this.#dropIdle(steps);
  }

  #start(key: string, labels: readonly string[], steps: number, tenant: string): Series {
    const sums = new Array<number>(this.#spec.values).fill(0);
    const series = {
      key,
      labels,
      steps,
      tenant,
      sums,
      incrementedAt: this.#now,
      touchedAt: this.#now,
      isPresent: true,
    };
    this.#series.set(key, series);
    const before = this.#presentAt.get(key);
    if (!before) count(this.#begun, tenant, 1);
    this.#presentAt.set(key, { at: Infinity, tenant: before?.tenant ?? tenant });
    count(this.#used, `${steps} ${tenant}`, 1);
    this.#places[steps] = (this.#places[steps] ?? 0) - 1;
    return series;
  }

  /** Drops the longest idle of the series with this number of folded steps. */
  #dropIdle(steps: number): boolean {
    const isIdle = ({ incrementedAt, touchedAt }: Series): boolean =>
      this.#now - incrementedAt >= HOUR_MS && touchedAt < this.#previous;
    this.#idle ??= [...this.#series.values()].filter(isIdle).sort((a, b) => a.incrementedAt - b.incrementedAt);
    const longest = this.#idle.find((series) => series.steps === steps && series.isPresent && isIdle(series));
    if (longest) this.#drop(longest);
    return longest !== undefined;
  }

  #drop(series: Series): void {
    series.isPresent = false;
    this.#series.delete(series.key);
    this.#presentAt.set(series.key, { at: this.#now, tenant: this.#presentAt.get(series.key)?.tenant ?? '' });
    count(this.#used, `${series.steps} ${series.tenant}`, -1);
    this.#places[series.steps] = (this.#places[series.steps] ?? 0) + 1;
  }
}

interface Series extends CounterSeries {
  readonly key: string;
  /** How many steps were folded when it began. */
  readonly steps: number;
  readonly tenant: string;
  readonly sums: number[];
  incrementedAt: number;
  touchedAt: number;
  isPresent: boolean;
}

/** The series that a label set is added to. */
interface Target {
  readonly series: Series;
  readonly isFolded: boolean;
  readonly foundAt: number;
}

interface Node {
  children: Map<string, Node> | null;
  target: Target | null;
}

function count(counts: Map<string, number>, key: string, by: 1 | -1): void {
  const sum = (counts.get(key) ?? 0) + by;
  if (sum > 0) counts.set(key, sum);
  else counts.delete(key);
}

function newNode(): Node {
  return { children: null, target: null };
}

function placesOf({ fold, wholeFolds }: CounterSpec, limit: number): number[] {
  let left = Math.max(0, limit - 1 - wholeFolds);
  const places = fold.map((_, steps) => {
    const share = Math.ceil(left * (steps === 0 ? 0.75 : 0.5));
    left -= share;
    return share;
  });
  return [...places, limit - 1 - sum(places), 1];
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
