import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { TurnQueue } from '../../src/common/turn-queue.ts';

/** A queue with these items, such as "a1" of the owner "a". */
function queueOf(items: readonly string[], most = 1_000): TurnQueue<string> {
  const queue = new TurnQueue<string>(most);
  for (const item of items) queue.add(item.charAt(0), item);
  return queue;
}

function drain(queue: TurnQueue<string>): string[] {
  const items: string[] = [];
  for (let item = queue.next(); item !== undefined; item = queue.next()) items.push(item);
  return items;
}

describe('owners take turns', () => {
  test.each<{ items: string[]; expected: string[] }>([
    { items: [], expected: [] },
    { items: ['a1', 'a2', 'a3'], expected: ['a1', 'a2', 'a3'] },
    { items: ['a1', 'a2', 'a3', 'b1'], expected: ['a1', 'b1', 'a2', 'a3'] },
    { items: ['a1', 'a2', 'a3', 'b1', 'b2', 'c1'], expected: ['a1', 'b1', 'c1', 'a2', 'b2', 'a3'] },
  ])('$items is $expected', ({ items, expected }) => {
    expect([...queueOf(items).items()]).toEqual(expected);
    expect(drain(queueOf(items))).toEqual(expected);
  });

  it('an item of two owners is in the turns of both, and comes once', () => {
    const queue = queueOf(['a1', 'a2', 'a3']);
    queue.add('b', 'a3');
    expect([...queue.items()]).toEqual(['a1', 'a3', 'a2']);
    expect(drain(queue)).toEqual(['a1', 'a3', 'a2']);
  });

  it('an owner whose item was taken waits for the others', () => {
    const queue = queueOf(['a1', 'a2', 'b1']);
    expect(queue.next()).toBe('a1');
    queue.add('c', 'c1');
    queue.add('a', 'a3');
    expect(drain(queue)).toEqual(['b1', 'a2', 'c1', 'a3']);
  });
});

describe('a full queue', () => {
  test.each<{ items: string[]; adds: string; lost: string | null; left: string[] }>([
    { items: ['a1', 'a2', 'a3', 'a4'], adds: 'b1', lost: 'a4', left: ['a1', 'b1', 'a2', 'a3'] },
    { items: ['a1', 'a2', 'a3', 'a4'], adds: 'a5', lost: 'a5', left: ['a1', 'a2', 'a3', 'a4'] },
    { items: ['a1', 'b1', 'a2', 'b2'], adds: 'a3', lost: 'a3', left: ['a1', 'b1', 'a2', 'b2'] },
    { items: ['a1', 'b1', 'a2', 'b2'], adds: 'c1', lost: 'a2', left: ['a1', 'b1', 'c1', 'b2'] },
    { items: ['a1', 'a2', 'a3', 'a4'], adds: 'a2', lost: null, left: ['a1', 'a2', 'a3', 'a4'] },
  ])('$items takes $adds and loses $lost', ({ items, adds, lost, left }) => {
    const queue = queueOf(items, 4);
    expect(queue.add(adds.charAt(0), adds)).toBe(lost);
    expect([...queue.items()]).toEqual(left);
  });
});

it('keeps its bound, and gives every owner its share', () => {
  const added = fc.array(fc.record({ owner: fc.constantFrom('a', 'b', 'c'), item: fc.nat(30) }), { maxLength: 200 });
  fc.assert(
    fc.property(added, (all) => {
      const queue = new TurnQueue<number>(12);
      for (const { owner, item } of all) queue.add(owner, item);
      const items = [...queue.items()];
      expect(items.length).toBe(queue.size);
      expect(new Set(items).size).toBe(items.length);
      expect(queue.size).toBeLessThanOrEqual(12);
      for (const owner of ['a', 'b', 'c']) {
        const wanted = new Set(all.filter((one) => one.owner === owner).map(({ item }) => item));
        expect(queue.newestOf(owner).length).toBeGreaterThanOrEqual(Math.min(wanted.size, 4));
      }
      for (const item of items) queue.delete(item);
      expect([queue.size, queue.next()]).toEqual([0, undefined]);
    }),
  );
});
