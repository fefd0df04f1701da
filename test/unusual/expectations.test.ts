import { expect, test } from 'vitest';
import { Expectations } from '../../src/unusual/expectations.ts';

const WEB = { namespace: 'shop', workload: 'web' };
const UNTIL = Date.parse('2027-02-01');
const rule = (what: string, until: number | null = null, owner = WEB) => ({ ...owner, what: [what], until, why: '' });

const expectations = new Expectations(
  {
    expected: [rule('AS64500'), rule('tcp/5432', UNTIL), rule('AS64501', null, { namespace: '', workload: 'web' })],
    suspects: [
      { file: 'a', operators: ['AS64999'] },
      { file: 'b', operators: ['AS64998', 'AS64999'] },
    ],
  },
  (namespace, workload) => new Set(namespace === 'shop' && workload === 'web' ? ['shop/ledger'] : []),
);

test.each([
  ['a value of its rule', WEB, 'AS64500', UNTIL, true],
  ['a value before the end of its rule', WEB, 'tcp/5432', UNTIL - 1, true],
  ['a value at the end of its rule', WEB, 'tcp/5432', UNTIL, false],
  ['a value of its annotation', WEB, 'shop/ledger', UNTIL, true],
  ['a value of another workload', WEB, 'AS64501', UNTIL, false],
  ['a value of the unit of that name', { namespace: '', workload: 'web' }, 'AS64501', UNTIL, true],
  ['an annotation of another workload', { namespace: 'shop', workload: 'api' }, 'shop/ledger', UNTIL, false],
])('%s', (_, owner, what, at, isExpected) => {
  expect(expectations.isExpected(owner, what, at)).toBe(isExpected);
});

test('suspects are those of all files, and follow the configuration', () => {
  const changed = new Expectations({ expected: [rule('AS64500')], suspects: [{ file: 'a', operators: ['AS1'] }] });
  changed.adopt({ expected: [], suspects: [{ file: 'a', operators: ['AS2'] }] });
  expect([...changed.suspects()]).toEqual(['AS2']);
  expect(changed.isExpected(WEB, 'AS64500', 0)).toBe(false);
  expect([...expectations.suspects()]).toEqual(['AS64999', 'AS64998']);
});
