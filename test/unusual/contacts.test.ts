import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { contactPage, type Contact } from '../../src/unusual/contacts.ts';
import { WorkloadMemory, type ThingKind } from '../../src/unusual/workload-memory.ts';

const NAMES = ['', 'a', 'b', 'é', '"', 'a b'];
const memories = fc
  .uniqueArray(fc.tuple(fc.constantFrom(...NAMES), fc.constantFrom(...NAMES)), { selector: String })
  .chain((owners) =>
    fc.tuple(
      ...owners.map(([namespace, workload]) =>
        fc
          .array(
            fc.tuple(
              fc.constantFrom<ThingKind>('operator', 'client', 'administrator', 'port', 'peer'),
              fc.constantFrom('AS1', 'AS9', 'AS13335', 'AS4294967295', 'tcp/443', 'AS0', 'AS'),
              fc.nat(1_000),
              fc.nat(1_000),
            ),
          )
          .map((things) => {
            const memory = new WorkloadMemory(namespace, workload, 0);
            for (const [kind, what, firstAt, age] of things)
              memory.setThing(kind, what, { firstAt, recordedAt: firstAt, lastAt: firstAt + age });
            return memory;
          }),
      ),
    ),
  );

const keyOf = ({ owner, direction, asn }: Contact): string =>
  JSON.stringify([owner.namespace, owner.workload, direction, asn]);

describe('pages of contacts', () => {
  it('of any size together have every operator once, with its first and last time', () => {
    fc.assert(
      fc.property(memories, fc.integer({ min: 1, max: 5 }), (workloads, most) => {
        const expected = new Map<string, [firstAt: number, lastAt: number]>();
        for (const { namespace, workload, things } of workloads)
          for (const [kind, entries] of things)
            for (const [what, { firstAt, lastAt }] of entries) {
              const [, asn] = /^AS([1-9]\d*)$/.exec(what) ?? [];
              if (asn === undefined || kind === 'port' || kind === 'peer') continue;
              const direction = kind === 'operator' ? 'outbound' : 'inbound';
              const key = JSON.stringify([namespace, workload, direction, Number(asn)]);
              const [first, last] = expected.get(key) ?? [firstAt, lastAt];
              expected.set(key, [Math.min(first, firstAt), Math.max(last, lastAt)]);
            }
        const found: Contact[] = [];
        let after: string | null = null;
        do {
          const page = contactPage(workloads, after, most);
          if (!page) throw new Error('an own cursor is not valid');
          expect(page.contacts.length).toBeLessThanOrEqual(most);
          found.push(...page.contacts);
          after = page.next;
        } while (after !== null);
        expect(found.length).toBe(expected.size);
        expect(new Map(found.map((one) => [keyOf(one), [one.firstAt, one.lastAt]]))).toEqual(expected);
      }),
    );
  });

  it.each(['', 'x', '[]', '["a","b","loopback",1]', '["a","b","outbound","1"]', '[1,"b","outbound",1]', '{}', 'null'])(
    'after %j are refused',
    (cursor) => {
      expect(contactPage([], cursor, 1)).toBeNull();
    },
  );
});
