import { escapeOther, OTHER, type FoldStep } from '../common/other.ts';
import type { Sample } from '../model.ts';

type Labels = Readonly<Record<string, string>>;

/** A value to add to one series of a family; a missing label is "". */
export interface Contribution {
  readonly labels: Labels;
  readonly value: number;
}

/** The labels of a family in sample order, and the steps in which they fold. */
export interface FoldSpec {
  readonly labels: readonly string[];
  readonly fold: readonly FoldStep[];
}

/** State kept between scrapes: the number of folded steps, and the labels of the series that were not folded. */
export interface FoldMemory {
  readonly steps: number;
  readonly whole: readonly Labels[];
}

/** A new series replaces a kept one only if it is larger by more than this factor. */
const MARGIN = 1.25;

/**
 * Sums contributions into at most `limit` samples (1 or more) with the same total, exact for integers.
 *
 * F(j) is the number of distinct series after the first j steps are folded to `other`. If F(0) <= limit, nothing is folded.
 * Otherwise the smallest j >= 1 with F(j) <= limit / 2 (or all steps) is used: the limit - F(j) largest series are kept, ties
 * broken by key, and the rest fold by j. If all steps leave more than `limit` series, every label folds.
 * With the memory of the last scrape, kept series are replaced only by new ones more than 25 % larger, and j decreases only
 * if F(j - 1) <= limit / 4, by one step per scrape.
 *
 * A real value `other` (or `_other` ...) of a label that may fold is prefixed with one more `_`. Samples are sorted by key, the
 * JSON of their label values. `folded` is the number of series in `other` samples.
 */
export function aggregate(
  contributions: Iterable<Contribution>,
  spec: FoldSpec,
  limit: number,
  memory: FoldMemory | undefined,
): { samples: Sample[]; folded: number; memory: FoldMemory } {
  const steps = [...spec.fold, { labels: spec.labels }];
  const levels = levelsOf(steps);
  const { root, all } = growTree(contributions, levels);
  const distinct = (j: number): number => levels.findLast(({ step }) => step >= j)?.branches ?? 1;
  const j = stepsToFold(distinct, spec.fold.length, limit, memory?.steps ?? 0);

  for (const labels of memory?.whole ?? []) {
    const series = findSeries(root, levels, labels);
    if (series) series.held = true;
  }
  const mayFold = new Set(steps.slice(0, Math.max(j, spec.fold.length)).flatMap(({ labels }) => labels));
  const spellWhole = speller(spec.labels, steps, 0, mayFold);
  const spellFolded = speller(spec.labels, steps, j, mayFold);
  const keyOf = (series: Series): string => (series.key ??= JSON.stringify(spellWhole(series.labels)));
  const rank = ({ held, value }: Series): number => (held ? value * MARGIN : value);
  const places = j === 0 ? limit : limit - distinct(j);
  const whole = new Set(
    first(all, places, (a, b) => rank(b) - rank(a) || Number(b.held) - Number(a.held) || compare(keyOf(a), keyOf(b))),
  );

  const groups = new Map<Branch, { member: Series; members: number; value: number }>();
  for (const series of all) {
    if (whole.has(series)) continue;
    const branch = ancestor(series.leaf, j);
    let group = groups.get(branch);
    if (!group) groups.set(branch, (group = { member: series, members: 0, value: 0 }));
    group.members++;
    group.value += series.value;
  }
  const samples: Sample[] = Array.from(whole, ({ labels, value }) => ({ labels: spellWhole(labels), value }));
  let folded = 0;
  for (const { member, members, value } of groups.values()) {
    const labels = spellFolded(member.labels);
    samples.push({ labels, value });
    // A series that these steps do not change is a group of one.
    if (JSON.stringify(labels) !== keyOf(member)) folded += members;
  }
  return {
    samples: sortByKey(samples),
    folded,
    memory: { steps: j, whole: Array.from(whole, ({ labels }) => labels) },
  };
}

/**
 * Keeps the first `limit` samples by `order`, ties broken by key, and counts the ones cut.
 * For families whose values cannot be summed, such as info and timestamps.
 */
export function cut(
  samples: readonly Sample[],
  limit: number,
  order: (a: Sample, b: Sample) => number,
): { samples: Sample[]; cut: number } {
  const kept = sortByKey(samples).sort(order).slice(0, limit);
  return { samples: sortByKey(kept), cut: samples.length - kept.length };
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

/** The number of steps to fold; `all` + 1 folds every label. */
function stepsToFold(distinct: (j: number) => number, all: number, limit: number, before: number): number {
  let needed = 0;
  if (distinct(0) > limit) {
    needed = 1;
    while (needed < all && distinct(needed) > limit / 2) needed++;
    if (distinct(needed) > limit) needed++;
  }
  if (before <= needed) return needed;
  return distinct(before - 1) <= limit / 4 ? before - 1 : before;
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
  value: number;
  held: boolean;
  key: string | undefined;
}

interface Level {
  readonly step: number;
  readonly label: string;
  readonly folding: readonly FoldStep[];
  branches: number;
}

/** Levels from the root: the labels of each step, last step first, with the folding of the steps before it. */
function levelsOf(steps: readonly FoldStep[]): Level[] {
  return steps
    .flatMap(({ labels }, step) =>
      labels.map((label) => ({ step, label, folding: foldingOf(label, steps, step), branches: 0 })),
    )
    .filter(({ folding }) => folding.every(({ when }) => when))
    .reverse();
}

function growTree(contributions: Iterable<Contribution>, levels: readonly Level[]): { root: Branch; all: Series[] } {
  const root = newBranch(undefined, Infinity, '');
  const all: Series[] = [];
  for (const { labels, value } of contributions) {
    let branch = root;
    for (const level of levels) {
      const spelled = valueAt(level, labels);
      let child = childOf(branch, spelled);
      if (!child) {
        child = newBranch(branch, level.step, spelled);
        if (branch.child) (branch.others ??= new Map<string, Branch>()).set(spelled, child);
        else branch.child = child;
        level.branches++;
      }
      branch = child;
    }
    if (branch.series) branch.series.value += value;
    else all.push((branch.series = { leaf: branch, labels, value, held: false, key: undefined }));
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
