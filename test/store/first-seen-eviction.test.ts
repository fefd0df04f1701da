import { expect, test } from 'vitest';
import { evict } from '../../src/store/first-seen-eviction.ts';

const keyOf = (workload: string, i: number): string => `first:1:["p","",${JSON.stringify(workload)},"outbound","${i}"]`;

/** Times of some owners: how many each has, all written one after another. Returns what is left of each, and the rows of each step. */
function evictFrom(owners: Readonly<Record<string, number>>, count: number): { left: object; steps: number[] } {
  let written = 0;
  const times = new Map(
    Object.entries(owners).flatMap(([workload, size]) =>
      Array.from({ length: size }, (_, i) => [keyOf(workload, i), ++written] as const),
    ),
  );
  const steps: number[] = [];
  let rows = 0;
  const running = evict(
    {
      page: (after, most) => {
        const page = [...times].sort(([a], [b]) => (a < b ? -1 : 1)).filter(([k]) => k > after);
        rows += Math.min(most, page.length);
        return page.slice(0, most).map(([k, x]) => ({ k, x }));
      },
      remove: (key, expires) => {
        rows++;
        if (times.get(key) === expires) times.delete(key);
      },
      transaction: (work) => work(),
    },
    count,
  );
  for (let step = running.next(); !step.done; step = running.next())
    steps.push(rows - steps.reduce((a, b) => a + b, 0));
  const left = Object.keys(owners).map((workload) => {
    const kept = Array.from({ length: owners[workload] ?? 0 }, (_, i) => i).filter((i) =>
      times.has(keyOf(workload, i)),
    );
    return [workload, { kept: kept.length, from: kept[0] ?? null }];
  });
  return { left: Object.fromEntries(left) as object, steps };
}

test.each([
  {
    owners: { crowd: 3_000, web: 5 },
    count: 400,
    expected: { crowd: { kept: 2_600, from: 400 }, web: { kept: 5, from: 0 } },
  },
  {
    owners: { a: 100, b: 90, c: 2 },
    count: 30,
    expected: { a: { kept: 80, from: 20 }, b: { kept: 80, from: 10 }, c: { kept: 2, from: 0 } },
  },
  { owners: { a: 3 }, count: 10, expected: { a: { kept: 0, from: null } } },
  { owners: {}, count: 10, expected: {} },
])('of $owners the largest lose their oldest $count', ({ owners, count, expected }) => {
  expect(evictFrom(owners, count).left).toEqual(expected);
});

test('no step reads or deletes more than a thousand rows', () => {
  expect(Math.max(...evictFrom({ crowd: 4_500 }, 2_500).steps)).toBe(1_000);
});
