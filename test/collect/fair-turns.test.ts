import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FairTurns } from '../../src/collect/fair-turns.ts';

/** The order in which work is done that takes this long. */
function order(work: readonly { readonly tenant: string; readonly name: string; readonly takes: number }[]): string[] {
  const turns = new FairTurns<{ readonly name: string; readonly takes: number }>();
  for (const { tenant, ...rest } of work) turns.add(tenant, rest);
  const done: string[] = [];
  for (const { tenant, work } of turns) {
    done.push(work.name);
    turns.use(tenant, work.takes);
  }
  return done;
}

test('the tenant that used the least is next, and the work of one keeps its order', () => {
  const crowd = [1, 2, 3, 4].map((i) => ({ tenant: 'crowd', name: `c${i}`, takes: 5 }));
  const others = ['a', 'b'].flatMap((tenant) => [1, 2].map((i) => ({ tenant, name: `${tenant}${i}`, takes: 1 })));
  expect(order([...crowd, ...others])).toEqual(['c1', 'a1', 'b1', 'a2', 'b2', 'c2', 'c3', 'c4']);
});

test('work that is given back is continued before other work of its tenant', () => {
  const turns = new FairTurns<string>();
  for (const work of ['long', 'short']) turns.add('crowd', work);
  turns.add('other', 'own');
  const done: string[] = [];
  for (const { tenant, work } of turns) {
    done.push(work);
    turns.use(tenant, 1);
    if (work === 'long' && done.length < 4) turns.giveBack(tenant, work);
  }
  expect(done).toEqual(['long', 'own', 'long', 'long', 'short']);
  turns.add('crowd', 'last');
  for (const { tenant, work } of turns) {
    done.push(work);
    if (done.length < 7) turns.giveBack(tenant, work);
  }
  expect(done.slice(5)).toEqual(['last', 'last']);
});

test('all work is done once, and no tenant is ahead of one that waits by more than one piece of work', () => {
  const anyWork = fc.record({
    tenant: fc.constantFrom('a', 'b', 'c'),
    name: fc.string(),
    takes: fc.integer({ min: 1, max: 9 }),
  });
  fc.assert(
    fc.property(fc.array(anyWork, { maxLength: 60 }), (work) => {
      const numbered = work.map((one, i) => ({ ...one, name: String(i) }));
      const done = order(numbered);
      expect(done.toSorted()).toEqual(numbered.map(({ name }) => name).sort());
      const used = new Map<string, number>();
      const left = new Map<string, number>();
      for (const { tenant } of work) left.set(tenant, (left.get(tenant) ?? 0) + 1);
      for (const name of done) {
        const { tenant, takes } = numbered[Number(name)] ?? { tenant: '', takes: 0 };
        for (const [other, count] of left)
          if (count > 0) expect(used.get(tenant) ?? 0).toBeLessThanOrEqual(used.get(other) ?? 0);
        used.set(tenant, (used.get(tenant) ?? 0) + takes);
        left.set(tenant, (left.get(tenant) ?? 0) - 1);
      }
    }),
  );
});
