import { escapeOther, OTHER, type FoldStep } from '../common/other.ts';
import type { Sample } from '../model.ts';

type Labels = Readonly<Record<string, string>>;

/** A value to add to one series of a family; a missing label is "". */
export interface Contribution {
  readonly labels: Labels;
  readonly value: number;
  /** Who has the connections: series are shared out among tenants. */
  readonly tenant?: string;
}

/** The labels of a family in sample order, and the steps in which they fold. */
export interface FoldSpec {
  readonly labels: readonly string[];
  readonly fold: readonly FoldStep[];
}

/** State kept between scrapes: the number of folded steps by tenant, and the labels of the series that were not folded. */
export interface FoldMemory {
  readonly steps: ReadonlyMap<string, number>;
  readonly whole: readonly Labels[];
}

/** The samples of a family with their tenants ("" for several), and the number of series of each tenant in `other` samples. */
export interface Aggregated {
  readonly samples: Sample[];
  readonly tenants: ReadonlyMap<Sample, string>;
  readonly foldedBy: ReadonlyMap<string, number>;
  readonly folded: number;
  readonly memory: FoldMemory;
}

/** A new series replaces a kept one only if it is larger by more than this factor. */
const MARGIN = 1.25;

/**
 * Sums contributions into at most `limit` samples (1 or more) with the same total, exact for integers.
 *
 * Each tenant has an equal share of the limit; what it does not use is lent to the others. A tenant within its share is not folded,
 * whatever the others have. In a share, F(j) is the number of distinct series after the first j steps are folded to `other`. If
 * F(0) <= share, nothing is folded. Otherwise the smallest j >= 1 with F(j) <= share / 2 (or all steps) is used: the share - F(j)
 * largest series are kept, ties broken by key, and the rest fold by j. If all steps leave more than the share, every label folds.
 * With the memory of the last scrape, kept series are replaced only by new ones more than 25 % larger, and j decreases only
 * if F(j - 1) <= share / 4, by one step per scrape.
 *
 * A real value `other` (or `_other` ...) of a label that may fold is prefixed with one more `_`. Samples are sorted by key, the
 * JSON of their label values. `folded` is the number of series in `other` samples.
 */
export function aggregate(
  contributions: Iterable<Contribution>,
  spec: FoldSpec,
  limit: number,
  memory: FoldMemory | undefined,
): Aggregated {
  const steps = [...spec.fold, { labels: spec.labels }];
  const levels = levelsOf(steps);
  const { root, all } = growTree(contributions, levels);
  for (const labels of memory?.whole ?? []) {
    const series = findSeries(root, levels, labels);
    if (series) series.held = true;
  }
  const shares = sharesOf(tenantsOf(all), limit, spec.fold.length, memory?.steps);
  const most = Math.max(0, ...shares.map(({ steps }) => steps));
  const mayFold = new Set(steps.slice(0, Math.max(most, spec.fold.length)).flatMap(({ labels }) => labels));
  const spellWhole = speller(spec.labels, steps, 0, mayFold);
  const keyOf = (series: Series): string => (series.key ??= JSON.stringify(spellWhole(series.labels)));
  const rank = ({ held, value }: Series): number => (held ? value * MARGIN : value);
  const order = (a: Series, b: Series): number =>
    rank(b) - rank(a) || Number(b.held) - Number(a.held) || compare(keyOf(a), keyOf(b));

  const whole = new Set<Series>();
  for (const { members, places } of shares) for (const series of first(members, places, order)) whole.add(series);
  const samples: Sample[] = [];
  const tenants = new Map<Sample, string>();
  const keep = (labels: readonly string[], value: number, tenant: string): void => {
    const sample = { labels, value };
    samples.push(sample);
    tenants.set(sample, tenant);
  };
  for (const series of whole) keep(spellWhole(series.labels), series.value, series.others ? '' : series.tenant);

  const groups = new Map<string, Group>();
  const foldedBy = new Map<string, number>();
  let folded = 0;
  const left = new Set(all.length > whole.size ? all.filter((series) => !whole.has(series)) : []);
  // A series of several tenants folds by the fewest steps.
  for (const { tenant, members, steps: j } of shares.toSorted(
    (a, b) => a.steps - b.steps || compare(a.tenant, b.tenant),
  )) {
    if (left.size === 0) break;
    const spellFolded = speller(spec.labels, steps, j, mayFold);
    const branches = new Map<Branch, Group>();
    for (const series of members) {
      if (!left.delete(series)) continue;
      const branch = ancestor(series.leaf, j);
      let group = branches.get(branch);
      if (!group) {
        const labels = spellFolded(series.labels);
        const key = JSON.stringify(labels);
        // Different steps of two tenants can leave the same labels.
        group = groups.get(key) ?? { labels, value: 0, tenant, isFolded: key !== keyOf(series) };
        if (group.tenant !== tenant) group.tenant = '';
        groups.set(key, group);
        branches.set(branch, group);
      }
      group.value += series.value;
      if (!group.isFolded) continue;
      folded++;
      foldedBy.set(tenant, (foldedBy.get(tenant) ?? 0) + 1);
    }
  }
  for (const { labels, value, tenant } of groups.values()) keep(labels, value, tenant);
  return {
    samples: sortByKey(samples),
    tenants,
    foldedBy,
    folded,
    memory: {
      steps: new Map(shares.flatMap(({ tenant, steps }) => (steps > 0 ? [[tenant, steps] as const] : []))),
      whole: Array.from(whole, ({ labels }) => labels),
    },
  };
}

/** A sample of folded series; `tenant` is "" if it has series of several. */
interface Group {
  readonly labels: readonly string[];
  value: number;
  tenant: string;
  /** False for a series that the steps do not change: it is a group of one. */
  readonly isFolded: boolean;
}

/**
 * Keeps at most `limit` samples, and counts the ones cut. For families whose values cannot be summed, such as info and timestamps. Each
 * tenant has an equal share, and what it does not use is lent to the others; in a share, the first by `order` are kept, ties broken by key.
 */
export function cut(
  samples: readonly Sample[],
  limit: number,
  order: (a: Sample, b: Sample) => number,
  tenantOf: (sample: Sample) => string = () => '',
): { samples: Sample[]; cut: number; cutBy: ReadonlyMap<string, number> } {
  const byTenant = Map.groupBy(sortByKey(samples).sort(order), tenantOf);
  const sizes = [...byTenant].map(([tenant, { length: size }]) => ({ tenant, size }));
  const budgets = budgetsOf(sizes, limit);
  const kept = [...byTenant].flatMap(([tenant, members]) => members.slice(0, budgets.get(tenant)));
  const cutBy = new Map(
    sizes.flatMap(({ tenant, size }) => {
      const lost = size - (budgets.get(tenant) ?? 0);
      return lost > 0 ? [[tenant, lost] as const] : [];
    }),
  );
  return { samples: sortByKey(kept), cut: samples.length - kept.length, cutBy };
}

/** How many of `places` each tenant gets: as many as it needs, or else as many as any other one. */
export function budgetsOf(
  tenants: readonly { readonly tenant: string; readonly size: number }[],
  places: number,
): Map<string, number> {
  const smallestFirst = tenants.toSorted((a, b) => a.size - b.size || compare(a.tenant, b.tenant));
  const budgets = new Map<string, number>();
  let left = places;
  for (const [i, { tenant, size }] of smallestFirst.entries()) {
    const budget = Math.min(size, Math.floor(left / (smallestFirst.length - i)));
    budgets.set(tenant, budget);
    left -= budget;
  }
  return budgets;
}

interface Share {
  readonly tenant: string;
  readonly members: readonly Series[];
  /** The number of steps that fold. */
  readonly steps: number;
  /** The number of series that are kept whole. */
  readonly places: number;
}

function tenantsOf(all: readonly Series[]): Map<string, Series[]> {
  const byTenant = new Map<string, Series[]>();
  const join = (tenant: string, series: Series): void => {
    const members = byTenant.get(tenant);
    if (members) members.push(series);
    else byTenant.set(tenant, [series]);
  };
  for (const series of all) {
    join(series.tenant, series);
    for (const tenant of series.others ?? []) join(tenant, series);
  }
  return byTenant;
}

function sharesOf(
  byTenant: ReadonlyMap<string, readonly Series[]>,
  limit: number,
  all: number,
  before: FoldMemory['steps'] | undefined,
): Share[] {
  const sizes = Array.from(byTenant, ([tenant, { length: size }]) => ({ tenant, size }));
  // If there are too many tenants, those without a place share the sample that is `other` in every label.
  const budgets = budgetsOf(sizes, sizes.length > limit ? limit - 1 : limit);
  const level = Math.max(0, ...budgets.values());
  const spare = limit - sizes.reduce((sum, { tenant }) => sum + (budgets.get(tenant) ?? 0), 0);
  return Array.from(byTenant, ([tenant, members]) => {
    const budget = budgets.get(tenant) ?? 0;
    const share = budget < members.length ? budget : budget + spare;
    const distinct = distinctAt(members);
    const steps = stepsToFold(distinct, all, share, Math.max(share, level), before?.get(tenant) ?? 0);
    return { tenant, members, steps, places: steps === 0 ? share : Math.max(0, share - distinct(steps)) };
  });
}

/** F(j) of some series. */
function distinctAt(members: readonly Series[]): (j: number) => number {
  const known = new Map<number, number>([[0, members.length]]);
  return (j) => {
    let count = known.get(j);
    if (count === undefined) known.set(j, (count = new Set(members.map(({ leaf }) => ancestor(leaf, j))).size));
    return count;
  };
}

/** Sorts samples by key, the JSON of their label values. */
export function sortByKey(samples: readonly Sample[]): Sample[] {
  return samples
    .map((sample) => ({ key: JSON.stringify(sample.labels), sample }))
    .sort((a, b) => compare(a.key, b.key))
    .map(({ sample }) => sample);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The number of steps to fold; `all` + 1 folds every label. A share may grow up to `level`. */
function stepsToFold(
  distinct: (j: number) => number,
  all: number,
  share: number,
  level: number,
  before: number,
): number {
  let needed = 0;
  if (distinct(0) > share) {
    needed = 1;
    while (needed < all && distinct(needed) > share / 2) needed++;
    if (distinct(needed) > share) needed++;
  }
  if (before <= needed) return needed;
  return distinct(before - 1) <= level / 4 ? before - 1 : before;
}

/** The first `count` items in order. Items after the last of `count` found so far are skipped, so not all are sorted. */
function first<T>(all: readonly T[], count: number, order: (a: T, b: T) => number): readonly T[] {
  if (all.length <= count) return all;
  let found: T[] = [];
  let last: T | undefined;
  for (const one of all) {
    if (last !== undefined && order(one, last) > 0) continue;
    if (found.push(one) < 2 * count) continue;
    found = found.sort(order).slice(0, count);
    last = found.at(-1);
  }
  return found.sort(order).slice(0, count);
}

/**
 * Distinct series as a tree with one label per level. The labels that fold first are farthest from the root: folding is walking
 * towards the root, and F(j) is the number of branches of one level.
 */
interface Branch {
  readonly parent: Branch | undefined;
  /** The branch folds into its parent once more than this many steps are folded. */
  readonly step: number;
  readonly value: string;
  /** Most branches have one child, so only further children get a Map. */
  child: Branch | undefined;
  others: Map<string, Branch> | undefined;
  series: Series | undefined;
}

interface Series {
  readonly leaf: Branch;
  readonly labels: Labels;
  readonly tenant: string;
  /** Further tenants with the same labels. */
  others: Set<string> | null;
  value: number;
  held: boolean;
  key: string | undefined;
}

interface Level {
  readonly step: number;
  readonly label: string;
  readonly folding: readonly FoldStep[];
}

/** Levels from the root: the labels of each step, last step first, with the folding of the steps before it. */
function levelsOf(steps: readonly FoldStep[]): Level[] {
  return steps
    .flatMap(({ labels }, step) => labels.map((label) => ({ step, label, folding: foldingOf(label, steps, step) })))
    .filter(({ folding }) => folding.every(({ when }) => when))
    .reverse();
}

function growTree(contributions: Iterable<Contribution>, levels: readonly Level[]): { root: Branch; all: Series[] } {
  const root = newBranch(undefined, Infinity, '');
  const all: Series[] = [];
  for (const { labels, value, tenant = '' } of contributions) {
    let branch = root;
    for (const level of levels) {
      const spelled = valueAt(level, labels);
      let child = childOf(branch, spelled);
      if (!child) {
        child = newBranch(branch, level.step, spelled);
        if (branch.child) (branch.others ??= new Map<string, Branch>()).set(spelled, child);
        else branch.child = child;
      }
      branch = child;
    }
    const { series } = branch;
    if (!series) {
      all.push((branch.series = { leaf: branch, labels, tenant, others: null, value, held: false, key: undefined }));
      continue;
    }
    series.value += value;
    if (series.tenant !== tenant) (series.others ??= new Set<string>()).add(tenant);
  }
  return { root, all };
}

function newBranch(parent: Branch | undefined, step: number, value: string): Branch {
  return { parent, step, value, child: undefined, others: undefined, series: undefined };
}

function childOf(branch: Branch, value: string): Branch | undefined {
  return branch.child?.value === value ? branch.child : branch.others?.get(value);
}

function valueAt({ label, folding }: Level, labels: Labels): string {
  const value = labels[label] ?? '';
  return folding.length === 0 ? value : spell(value, folding);
}

function findSeries(root: Branch, levels: readonly Level[], labels: Labels): Series | undefined {
  let branch: Branch | undefined = root;
  for (const level of levels) branch = branch && childOf(branch, valueAt(level, labels));
  return branch?.series;
}

function ancestor(branch: Branch, j: number): Branch {
  return branch.parent && branch.step < j ? ancestor(branch.parent, j) : branch;
}

/** Returns a function that writes label values in sample order with the first j steps folded. */
function speller(
  labels: readonly string[],
  steps: readonly FoldStep[],
  j: number,
  mayFold: ReadonlySet<string>,
): (values: Labels) => string[] {
  const spellings = labels.map((label) => {
    const folding = foldingOf(label, steps, j);
    return { label, spelled: (value: string) => (mayFold.has(label) ? spell(value, folding) : value) };
  });
  return (values) => spellings.map(({ label, spelled }) => spelled(values[label] ?? ''));
}

function foldingOf(label: string, steps: readonly FoldStep[], j: number): FoldStep[] {
  return steps.slice(0, j).filter(({ labels }) => labels.includes(label));
}

function spell(value: string, folding: readonly FoldStep[]): string {
  if (folding.some(({ when }) => !when || when(value))) return OTHER;
  return escapeOther(value);
}
