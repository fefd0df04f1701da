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
/** How long increments of a label set go into a folded series before a place of its own is looked for again. */
const RETRY_MS = 60_000;

/**
 * Counters that only grow, in at most `limit` series (50 or more). Increments of a label set that has no place are added to a folded
 * series: the first fold step with a place, or `other` in every label. So a folded series never decreases either, and the sum over
 * all series is the sum of all increments.
 *
 * Three quarters of the places are for series that are not folded. Each fold step but the last may use half of the places that are
 * left; `wholeFolds` places are kept for the last step, and one for the series that is `other` in every label.
 *
 * Only if places are needed, a series is dropped that was not incremented for an hour and not added to since the scan before began.
 * It begins again at 0. Within 24 hours, at most 1.5 × limit distinct series exist: a database keeps each for its whole retention time.
 */
export class BoundedCounters {
  readonly #spec: CounterSpec;
  readonly #limit: number;
  /** For each number of folded steps, below which number of series a new one may begin. */
  readonly #rooms: readonly number[];
  readonly #series = new Map<string, Series>();
  /** When the series of the last 24 hours were last present; Infinity for those that are. */
  readonly #presentAt = new Map<string, number>();
  /** When the label sets without a place were last folded. */
  readonly #foldedAt = new Map<string, number>();
  /** The places of label sets, by one label value after the other. Found again if forgotten. */
  #places = newNode();
  #nodes = 0;
  #now = -Infinity;
  #previous = -Infinity;
  /** Series to drop, the longest idle last; null if not looked for in this scan. */
  #idle: Series[] | null = null;

  constructor(spec: CounterSpec, limit: number) {
    this.#spec = spec;
    this.#limit = limit;
    this.#rooms = roomsOf(spec, limit);
  }

  /** Begins a scan; `now` in milliseconds of a clock that never goes back. */
  beginScan(now: number): void {
    this.#previous = this.#now;
    this.#now = now;
    this.#idle = null;
    for (const [key, at] of this.#presentAt) if (now - at >= DAY_MS) this.#presentAt.delete(key);
    for (const [key, at] of this.#foldedAt) if (now - at >= HOUR_MS) this.#foldedAt.delete(key);
  }

  /** Adds to the sums of a label set; both arrays in the order of the spec. What is not above 0 is not added. */
  add(labels: readonly string[], increments: readonly number[]): void {
    const { series } = this.#placeOf(labels);
    series.touchedAt = this.#now;
    for (let i = 0; i < series.sums.length; i++) {
      const increment = increments[i] ?? 0;
      if (!(increment > 0)) continue;
      series.sums[i] = (series.sums[i] ?? 0) + increment;
      series.incrementedAt = this.#now;
    }
  }

  /** Ends the series whose labels match. They begin again at 0. */
  end(matches: (labels: readonly string[]) => boolean): void {
    for (const series of this.#series.values()) if (matches(series.labels)) this.#drop(series);
  }

  get series(): Iterable<CounterSeries> {
    return this.#series.values();
  }

  /** Number of label sets that were folded in the last hour, counted up to four times the limit. */
  get folded(): number {
    return this.#foldedAt.size;
  }

  #placeOf(labels: readonly string[]): Place {
    let node = this.#places;
    for (const label of labels) {
      let child = node.children?.get(label);
      if (!child) {
        (node.children ??= new Map<string, Node>()).set(label, (child = newNode()));
        this.#nodes++;
      }
      node = child;
    }
    const { place } = node;
    if (place?.series.isPresent && (!place.isFolded || this.#now - place.foundAt < RETRY_MS)) return place;
    if (this.#nodes > 16 * this.#limit) {
      this.#places = newNode();
      this.#nodes = 0;
    }
    return (node.place = this.#findPlace(labels));
  }

  #findPlace(labels: readonly string[]): Place {
    const foundAt = this.#now;
    const whole = labels.map(escapeOther);
    const wholeKey = JSON.stringify(whole);
    for (let steps = 0; steps < this.#rooms.length; steps++) {
      const folded = this.#fold(whole, steps);
      const key = JSON.stringify(folded);
      const series = this.#series.get(key) ?? (this.#makeRoom(key, steps) ? this.#start(key, folded) : null);
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

  #makeRoom(key: string, steps: number): boolean {
    const isLast = steps > this.#spec.fold.length;
    const room = this.#rooms[steps] ?? 0;
    const daily = Math.floor(this.#limit / 2) + room;
    if (!isLast && !this.#presentAt.has(key) && this.#presentAt.size >= daily) return false;
    while (this.#series.size >= room) if (!this.#dropIdle()) return false;
    return true;
  }

  #start(key: string, labels: readonly string[]): Series {
    const sums = new Array<number>(this.#spec.values).fill(0);
    const series = { key, labels, sums, incrementedAt: this.#now, touchedAt: this.#now, isPresent: true };
    this.#series.set(key, series);
    this.#presentAt.set(key, Infinity);
    return series;
  }

  #dropIdle(): boolean {
    const isIdle = ({ incrementedAt, touchedAt }: Series): boolean =>
      this.#now - incrementedAt >= HOUR_MS && touchedAt < this.#previous;
    this.#idle ??= [...this.#series.values()].filter(isIdle).sort((a, b) => b.incrementedAt - a.incrementedAt);
    for (let series = this.#idle.pop(); series; series = this.#idle.pop()) {
      if (!series.isPresent || !isIdle(series)) continue;
      this.#drop(series);
      return true;
    }
    return false;
  }

  #drop(series: Series): void {
    series.isPresent = false;
    this.#series.delete(series.key);
    this.#presentAt.set(series.key, this.#now);
  }
}

interface Series extends CounterSeries {
  readonly key: string;
  readonly sums: number[];
  incrementedAt: number;
  touchedAt: number;
  isPresent: boolean;
}

/** The series that a label set is added to. */
interface Place {
  readonly series: Series;
  readonly isFolded: boolean;
  readonly foundAt: number;
}

interface Node {
  children: Map<string, Node> | null;
  place: Place | null;
}

function newNode(): Node {
  return { children: null, place: null };
}

function roomsOf({ fold, wholeFolds }: CounterSpec, limit: number): number[] {
  const shared = Math.max(0, limit - 1 - wholeFolds);
  const rooms = [Math.floor(shared * 0.75)];
  for (let steps = 1; steps < fold.length; steps++) rooms.push(Math.ceil((shared + (rooms.at(-1) ?? 0)) / 2));
  return [...rooms, limit - 1, limit];
}
