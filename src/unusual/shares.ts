import { DAY_MS, type Entry, type WorkloadMemory } from './workload-memory.ts';

/** A namespace, else the user or unit that answers for the sockets. */
export function tenantOf({ namespace, workload, tenant }: WorkloadMemory): string {
  return namespace === '' ? `\n${tenant ?? workload}` : namespace;
}

/** Whether something would be lost without a workload: what is usual for it, or the decisions of people. */
export function isKept({ learnedAt, decisions }: WorkloadMemory): boolean {
  return learnedAt !== null || decisions.size > 0;
}

export function isHeld({ firstAt, lastAt }: Entry): boolean {
  return lastAt - firstAt >= DAY_MS;
}

/** The lists that are longer than a fair share of `places`, each with the number that it may keep, at least 1. */
export function fairShares<List extends readonly unknown[]>(lists: readonly List[], places: number): [List, number][] {
  const smallestFirst = lists.toSorted((a, b) => a.length - b.length);
  const over: [List, number][] = [];
  let left = places;
  for (const [i, list] of smallestFirst.entries()) {
    const share = Math.max(1, Math.floor(left / (smallestFirst.length - i)));
    if (list.length > share) over.push([list, share]);
    left -= Math.min(list.length, share);
  }
  return over;
}
