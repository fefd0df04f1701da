import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isNetworkClass } from '../../src/common/network-class.ts';
import { BoundedCounters, type CounterSpec } from '../../src/traffic/bounded-counters.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** asn folds first, then workload, then networks of the operator; direction never folds. */
const SPEC: CounterSpec = {
  labels: ['workload', 'direction', 'network', 'asn'],
  fold: [{ labels: ['asn'] }, { labels: ['workload'] }, { labels: ['network'], when: (name) => !isNetworkClass(name) }],
  values: 2,
  wholeFolds: 6,
};
const LIMIT = 50;
/** Three quarters of the places that are not kept for folded series. */
const WHOLE = 33;

type Line = readonly [workload: string, direction: string, network: string, asn: string];

const outbound = (asn: number | string): Line => ['web', 'outbound', 'public', String(asn)];

function counters(limit = LIMIT): BoundedCounters {
  const made = new BoundedCounters(SPEC, limit);
  made.beginScan(0);
  return made;
}

/** The series, "labels: sums", in the order in which they began. */
function seriesOf(counters: BoundedCounters): string[] {
  return Array.from(counters.series, ({ labels, sums }) => `${labels.join(' ')}: ${sums.join(' ')}`);
}

function sumsOf(counters: BoundedCounters): Map<string, number> {
  return new Map(Array.from(counters.series, ({ labels, sums }) => [JSON.stringify(labels), sums[0] ?? 0]));
}

/** Fills the places of series that are not folded. */
function fill(counters: BoundedCounters, from = 0): void {
  for (let i = 0; i < WHOLE; i++) counters.add(outbound(from + i), [1, 0]);
}

describe('tenants', () => {
  const victim = (asn: number): Line => ['nginx', 'outbound', 'public', String(asn)];

  it('a crowd leaves places for series of others, whatever it adds', () => {
    const some = counters();
    for (let i = 0; i < 5_000; i++) some.add([`n${i}`, 'outbound', 'public', String(i)], [1, 0], 'uid:1000');
    for (let i = 0; i < 5; i++) some.add(victim(64_500 + i), [7, 0], 'nginx.service');
    const lines = seriesOf(some);
    for (let i = 0; i < 5; i++) expect(lines).toContain(`nginx outbound public ${64_500 + i}: 7 0`);
    expect([...sumsOf(some).values()].reduce((total, sum) => total + sum, 0)).toBe(5_035);
  });

  it('a crowd that changes its names leaves new series of a day for others', () => {
    const some = counters();
    for (let hour = 1; hour < 20; hour++) {
      some.beginScan(hour * HOUR);
      for (let i = 0; i < 100; i++) some.add([`n${hour}-${i}`, 'outbound', 'public', String(i)], [1, 0], 'uid:1000');
    }
    some.add(victim(64_500), [7, 0], 'nginx.service');
    expect(seriesOf(some)).toContain('nginx outbound public 64500: 7 0');
  });
});

describe('a series', () => {
  it('adds up its increments, value by value', () => {
    const some = counters();
    some.add(outbound(64500), [3, 0]);
    some.add(outbound(64501), [5, 1]);
    some.add(outbound(64500), [4, 9]);
    expect(seriesOf(some)).toEqual(['web outbound public 64500: 7 9', 'web outbound public 64501: 5 1']);
  });

  it('begins at 0 without an increment, so that its first increase is seen', () => {
    const some = counters();
    some.add(outbound(64500), [0, 0]);
    expect(seriesOf(some)).toEqual(['web outbound public 64500: 0 0']);
  });

  it.each([[[-1, NaN]], [[NaN, -0]], [[-Infinity, 0]], [[]]])('does not change by %j', (increments) => {
    const some = counters();
    some.add(outbound(64500), [3, 4]);
    some.add(outbound(64500), increments);
    expect(seriesOf(some)).toEqual(['web outbound public 64500: 3 4']);
  });

  it.each([
    ['other', '_other'],
    ['_other', '__other'],
    ['another', 'another'],
  ])('of a workload named %s is %s, which no folded series is', (workload, expected) => {
    const some = counters();
    some.add([workload, 'inbound', 'private', ''], [1, 0]);
    expect(seriesOf(some)).toEqual([`${expected} inbound private : 1 0`]);
  });

  it('of values with separators is not taken for another', () => {
    const some = counters();
    some.add(['a\n', 'b', 'c', 'd'], [1, 0]);
    some.add(['a', '\nb', 'c', 'd'], [2, 0]);
    some.add(['a","b', '', 'c', 'd'], [4, 0]);
    expect([...sumsOf(some).values()]).toEqual([1, 2, 4]);
  });
});

describe('a label set without a place', () => {
  it('is added to the series folded by the first step', () => {
    const some = counters();
    fill(some);
    some.add(outbound('late'), [7, 0]);
    some.add(outbound('later'), [2, 0]);
    expect(seriesOf(some).slice(WHOLE)).toEqual(['web outbound public other: 9 0']);
    expect(some.folded).toBe(2);
  });

  it('folds by more steps as places run out, and keeps direction and built-in networks', () => {
    const some = counters();
    fill(some);
    for (let i = 0; i < 20; i++) some.add([`w${i}`, 'inbound', 'private', ''], [1, 0]);
    some.add(['w20', 'inbound', 'office', ''], [1, 0]);
    some.add(['w21', 'inbound', 'plant', ''], [1, 0]);
    some.add(['w22', 'inbound', 'public', '1'], [1, 0]);
    some.add(['w23', 'inbound', 'garage', ''], [1, 0]);
    const folded = seriesOf(some).slice(WHOLE);
    expect(folded).toEqual([
      ...Array.from({ length: 5 }, (_, i) => `w${i} inbound private other: 1 0`),
      'other inbound private other: 15 0',
      'other inbound office other: 1 0',
      'other inbound plant other: 1 0',
      'other inbound public other: 1 0',
      'other inbound other other: 1 0',
    ]);
  });

  it('folds every label if more combinations remain than expected', () => {
    const some = counters();
    for (let i = 0; i < 100; i++) some.add(['web', `direction-${i}`, 'public', ''], [1, 0]);
    expect([...some.series]).toHaveLength(LIMIT);
    expect(seriesOf(some).at(-1)).toBe('other other other other: 51 0');
  });

  it('is counted as folded for an hour', () => {
    const some = counters();
    fill(some);
    some.add(outbound('late'), [1, 0]);
    some.beginScan(HOUR - 1);
    expect(some.folded).toBe(1);
    some.beginScan(HOUR);
    expect(some.folded).toBe(0);
  });
});

describe('a series is dropped for a new one', () => {
  it.each([
    { idle: HOUR, expected: 'web outbound public late: 1 0' },
    { idle: HOUR - 1, expected: 'web outbound public other: 1 0' },
  ])('if it was not incremented for an hour: after $idle ms', ({ idle, expected }) => {
    const some = counters();
    fill(some);
    some.beginScan(idle - 1);
    some.beginScan(idle);
    some.add(outbound('late'), [1, 0]);
    expect(seriesOf(some).at(-1)).toBe(expected);
    expect([...some.series]).toHaveLength(expected.includes('late') ? WHOLE : WHOLE + 1);
  });

  it('the longest idle first, and not if nothing was added to it only because no byte was sent', () => {
    const some = counters();
    fill(some);
    some.beginScan(MINUTE);
    for (let i = 2; i < WHOLE; i++) some.add(outbound(i), [1, 0]);
    some.beginScan(2 * HOUR - 1);
    some.add(outbound(0), [0, 0]);
    some.beginScan(2 * HOUR);
    some.add(outbound('late'), [1, 0]);
    some.add(outbound('later'), [1, 0]);
    const present = Array.from(some.series, ({ labels }) => labels[3]);
    expect(present).toHaveLength(WHOLE);
    expect(present).toEqual(expect.arrayContaining(['0', 'late', 'later']));
    expect(present).not.toContain('1');
  });

  it('and never without need', () => {
    const some = counters();
    some.add(outbound(1), [1, 0]);
    for (let i = 1; i < 10; i++) some.beginScan(i * 24 * HOUR);
    some.add(outbound(2), [1, 0]);
    expect([...some.series]).toHaveLength(2);
  });
});

describe('within 24 hours', () => {
  /** A day in which each hour has other label sets, and those of the hour before are no longer used. */
  function spend(hours: number): { some: BoundedCounters; seen: Set<string> } {
    const some = counters();
    const seen = new Set<string>();
    for (let hour = 0; hour < hours; hour++) {
      some.beginScan(hour * HOUR);
      some.beginScan(hour * HOUR + 1);
      fill(some, hour * WHOLE);
      for (const { labels } of some.series) seen.add(JSON.stringify(labels));
    }
    return { some, seen };
  }

  it('at most one and a half times the limit of series exist', () => {
    expect(spend(24).seen.size).toBeLessThanOrEqual(LIMIT * 1.5);
    expect(spend(24).seen.size).toBeGreaterThan(LIMIT);
  });

  it('and a day later new ones have places again', () => {
    const { some } = spend(5);
    for (const hour of [50, 51]) some.beginScan(hour * HOUR);
    some.add(outbound('late'), [5, 0]);
    expect(seriesOf(some).at(-1)).toBe('web outbound public late: 5 0');
  });
});

describe('for any traffic', () => {
  const line = fc.tuple(
    fc.constantFrom('web', 'db', 'other', '', ...Array.from({ length: 20 }, (_, i) => `w${i}`)),
    fc.constantFrom('inbound', 'outbound'),
    fc.constantFrom('public', 'private', 'office', 'plant', 'other'),
    fc.nat(200).map(String),
  );
  const add = fc.record({ kind: fc.constant('add' as const), line, bytes: fc.nat(1_000_000) });
  const scan = fc.record({
    kind: fc.constant('scan' as const),
    after: fc.constantFrom(1, 15_000, MINUTE, HOUR / 2, HOUR, 3 * HOUR, 24 * HOUR),
  });
  const many = fc.array(fc.oneof({ weight: 40, arbitrary: add }, { weight: 2, arbitrary: scan }), {
    minLength: 100,
    maxLength: 600,
    size: 'max',
  });

  it('no sum decreases while its series is there, all stay within the limit, and none is there twice', () => {
    fc.assert(
      fc.property(many, (steps) => {
        const some = counters();
        let now = 0;
        let before = sumsOf(some);
        let daily: [at: number, key: string][] = [];
        for (const step of steps) {
          if (step.kind === 'scan') some.beginScan((now += step.after));
          else some.add(step.line, [step.bytes, 1]);
          const after = sumsOf(some);
          expect(after.size).toBe([...some.series].length);
          expect(after.size).toBeLessThanOrEqual(LIMIT);
          for (const [key, sum] of after) {
            expect(sum).toBeGreaterThanOrEqual(before.get(key) ?? 0);
            if (!before.has(key) && !daily.some(([at, known]) => known === key && now - at < 24 * HOUR))
              daily.push([now, key]);
          }
          daily = daily.filter(([at]) => now - at < 24 * HOUR);
          expect(daily.length).toBeLessThanOrEqual(LIMIT * 1.5);
          before = after;
        }
      }),
      { numRuns: 15 },
    );
  });

  it('the sum over all series and those that were dropped is the sum of all increments, in any order', () => {
    const shuffled = fc
      .array(fc.tuple(line, fc.nat(1_000_000), fc.boolean()), { minLength: 100, maxLength: 1000, size: 'max' })
      .chain((adds) => fc.tuple(fc.constant(adds), fc.shuffledSubarray(adds, { minLength: adds.length })));
    fc.assert(
      fc.property(shuffled, (orders) => {
        const totals = orders.map((adds) => {
          const some = counters();
          let now = 0;
          for (const [labels, bytes, isNext] of adds) {
            if (isNext) some.beginScan(now++);
            some.add(labels, [bytes, 1]);
          }
          const all = [...some.series];
          const byDirection = (direction: string): number =>
            all.reduce((sum, { labels, sums }) => sum + (labels[1] === direction ? (sums[0] ?? 0) : 0), 0);
          return [
            byDirection('inbound'),
            byDirection('outbound'),
            all.reduce((sum, { sums }) => sum + (sums[1] ?? 0), 0),
          ];
        });
        const added = (direction: string): number =>
          orders[0].reduce((sum, [labels, bytes]) => sum + (labels[1] === direction ? bytes : 0), 0);
        expect(totals[0]).toEqual([added('inbound'), added('outbound'), orders[0].length]);
        expect(totals[1]).toEqual(totals[0]);
      }),
      { numRuns: 50 },
    );
  });
});

it('100,000 label sets stay within the limit and the sum stays exact', () => {
  const some = counters(1000);
  for (let i = 0; i < 100_000; i++) some.add([`w${i % 300}`, 'outbound', 'public', String(i)], [i, 1]);
  const all = [...some.series];
  expect(all.length).toBeLessThanOrEqual(1000);
  expect(all.reduce((sum, { sums }) => sum + (sums[0] ?? 0), 0)).toBe((100_000 * 99_999) / 2);
  expect(some.folded).toBe(4000);
});
