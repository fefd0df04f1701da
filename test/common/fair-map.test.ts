import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FairMap, OwnerSizes } from '../../src/common/fair-map.ts';

describe('a full map', () => {
  it('drops the oldest entry of the tenant with the most', () => {
    const map = new FairMap<string, number>(5);
    map.set('victim', 0, 'a');
    const lost = Array.from({ length: 7 }, (_, i) => map.set(`crowd ${i}`, i, 'b')?.key ?? null);
    expect(lost).toEqual([null, null, null, null, 'crowd 0', 'crowd 1', 'crowd 2']);
    expect([...map]).toEqual([['victim', 0], ...[3, 4, 5, 6].map((i) => [`crowd ${i}`, i])]);
  });

  it('lends what a tenant does not use, and takes it back', () => {
    const map = new FairMap<number, string>(6);
    for (let i = 0; i < 6; i++) map.set(i, 'a', 'a');
    for (let i = 6; i < 20; i++) map.set(i, 'b', 'b');
    expect([...map].map(([, value]) => value).join('')).toBe('aaabbb');
  });

  it('holds one entry for each key, with its last tenant', () => {
    const map = new FairMap<string, number>(2);
    map.set('x', 1, 'a');
    map.set('x', 2, 'b');
    expect([...map]).toEqual([['x', 2]]);
    expect([map.delete('x'), map.delete('x'), map.size, map.get('x'), map.has('x')]).toEqual([
      true,
      false,
      0,
      undefined,
      false,
    ]);
  });
});

const steps = fc.array(fc.record({ tenant: fc.constantFrom('a', 'b', 'c'), key: fc.nat(9), deletes: fc.boolean() }));

it('never holds more than it may, and no tenant with a fair share loses anything', () => {
  fc.assert(
    fc.property(steps, fc.integer({ min: 3, max: 9 }), (given, most) => {
      const map = new FairMap<string, string>(most);
      const own = new Map<string, number>();
      for (const { tenant, key, deletes } of given) {
        const name = `${tenant}${key}`;
        const lost = deletes ? null : map.set(name, tenant, tenant);
        if (deletes) map.delete(name);
        own.clear();
        for (const [, value] of map) own.set(value, (own.get(value) ?? 0) + 1);
        expect(map.size).toBeLessThanOrEqual(most);
        if (lost) expect((own.get(lost.value) ?? 0) + 1).toBeGreaterThanOrEqual(most / 3);
      }
    }),
  );
});

it('the owner with the most is known after any order of steps', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.boolean())), (given) => {
      const sizes = new OwnerSizes();
      const expected = new Map<string, number>();
      for (const [owner, grows] of given) {
        if (grows) sizes.grow(owner);
        else sizes.shrink(owner);
        expected.set(owner, Math.max(0, (expected.get(owner) ?? 0) + (grows ? 1 : -1)));
        const most = Math.max(0, ...expected.values());
        expect(sizes.largest === undefined ? 0 : expected.get(sizes.largest)).toBe(most);
      }
    }),
  );
});
