import { tenantOf } from './contract.ts';

/** Rows that one step reads or deletes: some milliseconds. */
const STEP = 1_000;

/** What it needs of a table of first-seen times or records. */
export interface OwnedRows {
  /** Up to a number of keys (`k`) after the given one, with their age (`x` or `n`, the least is the oldest), by key. */
  readonly page: (after: string, most: number) => readonly Readonly<Record<string, unknown>>[];
  readonly remove: (key: string, age: number) => void;
  readonly transaction: (work: () => void) => void;
}

interface Entry {
  readonly key: string;
  readonly age: number;
}

/**
 * Deletes some rows, in steps: the HTTP thread waits for each. Of the owners with the most, the oldest go first, so an owner with few
 * loses none. A row that is written meanwhile stays.
 */
export function* evict(
  { page, remove, transaction }: OwnedRows,
  count: number,
): Generator<undefined, undefined, undefined> {
  const byTenant = new Map<string, Entry[]>();
  let last = '';
  for (let isEnd = false; !isEnd;) {
    const rows = page(last, STEP);
    isEnd = rows.length < STEP;
    for (const row of rows) {
      last = String(row['k']);
      const tenant = tenantOf(last);
      const entries = byTenant.get(tenant);
      const entry = { key: last, age: Number(row['x'] ?? row['n']) };
      if (entries) entries.push(entry);
      else byTenant.set(tenant, [entry]);
    }
    yield;
  }
  const surplus = surplusOf([...byTenant.values()], count);
  yield;
  for (let start = 0; start < surplus.length; start += STEP) {
    transaction(() => {
      for (const { key, age } of surplus.slice(start, start + STEP)) remove(key, age);
    });
    yield;
  }
}

/** The oldest of the largest groups: as many as needed to make the largest ones equal. */
function surplusOf(groups: readonly (readonly Entry[])[], count: number): Entry[] {
  const over = (most: number): number => groups.reduce((sum, { length }) => sum + Math.max(0, length - most), 0);
  let [low, high] = [0, Math.max(0, ...groups.map(({ length }) => length))];
  // The largest size that leaves a surplus of at least `count`.
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (over(middle) >= count) low = middle;
    else high = middle - 1;
  }
  return groups
    .filter(({ length }) => length > low)
    .flatMap((entries) => entries.toSorted((a, b) => a.age - b.age).slice(0, entries.length - low))
    .slice(0, count);
}
