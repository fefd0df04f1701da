import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FoldStep } from '../../src/common/other.ts';
import { aggregate, cut, type Contribution, type FoldMemory, type FoldSpec } from '../../src/metrics/aggregate.ts';
import { WholeSeries } from '../../src/metrics/whole-series.ts';
import type { Sample } from '../../src/model.ts';

/** asn folds first, then process; state never folds. */
const SPEC: FoldSpec = { labels: ['process', 'asn', 'state'], fold: [{ labels: ['asn'] }, { labels: ['process'] }] };

type Line = readonly [process: string, asn: string, state: string, value: number];

function contributions(lines: readonly Line[]): Contribution[] {
  return lines.map(([process, asn, state, value]) => ({ labels: { process, asn, state }, value }));
}

function lines(samples: readonly Sample[]): (string | number)[][] {
  return samples.map(({ labels, value }) => [...labels, value]);
}

describe('aggregate, for one scrape', () => {
  const table: { name: string; limit: number; given: Line[]; samples: Line[]; folded: number }[] = [
    { name: 'no contributions, no samples', limit: 50, given: [], samples: [], folded: 0 },
    {
      name: 'sums contributions with equal labels, and sorts samples by key',
      limit: 50,
      given: [
        ['sshd', '', 'listen', 1],
        ['nginx', '64500', 'established', 2],
        ['nginx', '64500', 'established', 3],
      ],
      samples: [
        ['nginx', '64500', 'established', 5],
        ['sshd', '', 'listen', 1],
      ],
      folded: 0,
    },
    {
      name: 'keeps all series up to the limit',
      limit: 2,
      given: [
        ['nginx', '64500', 'established', 1],
        ['nginx', '64501', 'established', 1],
      ],
      samples: [
        ['nginx', '64500', 'established', 1],
        ['nginx', '64501', 'established', 1],
      ],
      folded: 0,
    },
    {
      name: 'folds the smallest series in the first label beyond the limit',
      limit: 4,
      given: [
        ['nginx', '64500', 'established', 10],
        ['nginx', '64501', 'established', 5],
        ['nginx', '64502', 'established', 20],
        ['nginx', '64503', 'established', 3],
        ['nginx', '64504', 'established', 4],
      ],
      samples: [
        ['nginx', '64500', 'established', 10],
        ['nginx', '64501', 'established', 5],
        ['nginx', '64502', 'established', 20],
        ['nginx', 'other', 'established', 7],
      ],
      folded: 2,
    },
    {
      name: 'keeps the lower keys among equal series',
      limit: 4,
      given: [
        ['nginx', '64504', 'established', 1],
        ['nginx', '64503', 'established', 1],
        ['nginx', '64502', 'established', 1],
        ['nginx', '64501', 'established', 1],
        ['nginx', '64500', 'established', 1],
      ],
      samples: [
        ['nginx', '64500', 'established', 1],
        ['nginx', '64501', 'established', 1],
        ['nginx', '64502', 'established', 1],
        ['nginx', 'other', 'established', 2],
      ],
      folded: 2,
    },
    {
      name: 'folds the second label too if the first leaves more than half of the limit',
      limit: 4,
      given: [
        ['curl', '64500', 'established', 1],
        ['curl', '64501', 'established', 2],
        ['nginx', '64500', 'established', 3],
        ['nginx', '64501', 'established', 4],
        ['sshd', '64500', 'established', 5],
        ['sshd', '64501', 'established', 6],
      ],
      samples: [
        ['nginx', '64501', 'established', 4],
        ['other', 'other', 'established', 6],
        ['sshd', '64500', 'established', 5],
        ['sshd', '64501', 'established', 6],
      ],
      folded: 3,
    },
    {
      name: 'keeps the values of a label that never folds',
      limit: 4,
      given: [
        ['nginx', '64500', 'established', 9],
        ['nginx', '64501', 'established', 8],
        ['nginx', '64502', 'established', 3],
        ['nginx', '64502', 'time_wait', 2],
        ['nginx', '64503', 'time_wait', 1],
      ],
      samples: [
        ['nginx', '64500', 'established', 9],
        ['nginx', '64501', 'established', 8],
        ['nginx', 'other', 'established', 3],
        ['nginx', 'other', 'time_wait', 3],
      ],
      folded: 3,
    },
    {
      name: 'folds every label if the fold steps do not suffice',
      limit: 2,
      given: [
        ['nginx', '64500', 'established', 5],
        ['nginx', '64500', 'time_wait', 4],
        ['nginx', '64500', 'close_wait', 3],
      ],
      samples: [
        ['nginx', '64500', 'established', 5],
        ['other', 'other', 'other', 7],
      ],
      folded: 2,
    },
    {
      name: 'prefixes a real value "other" with an underscore in labels that may fold',
      limit: 50,
      given: [
        ['other', '', 'other', 1],
        ['_other', '', 'listen', 2],
        ['__other', '', 'listen', 4],
        ['another', '', 'listen', 8],
        ['others', '', 'listen', 16],
      ],
      samples: [
        ['___other', '', 'listen', 4],
        ['__other', '', 'listen', 2],
        ['_other', '', 'other', 1],
        ['another', '', 'listen', 8],
        ['others', '', 'listen', 16],
      ],
      folded: 0,
    },
    {
      name: 'keeps a process named "other" apart from folded series',
      limit: 3,
      given: [
        ['other', '64500', 'established', 9],
        ['other', '64501', 'established', 8],
        ['other', '64502', 'established', 1],
        ['other', '64503', 'established', 1],
      ],
      samples: [
        ['_other', '64500', 'established', 9],
        ['_other', '64501', 'established', 8],
        ['_other', 'other', 'established', 2],
      ],
      folded: 2,
    },
    {
      name: 'keeps series apart whose values contain quotes, commas and brackets',
      limit: 50,
      given: [
        ['a","b', 'c', 'listen', 1],
        ['a', 'b","c', 'listen', 2],
      ],
      samples: [
        ['a', 'b","c', 'listen', 2],
        ['a","b', 'c', 'listen', 1],
      ],
      folded: 0,
    },
  ];
  it.each(table)('$name', ({ limit, given, samples, folded }) => {
    const result = aggregate(contributions(given), SPEC, limit, undefined);
    expect(lines(result.samples)).toEqual(samples);
    expect(result.folded).toBe(folded);
  });

  it('a missing label is empty', () => {
    const { samples } = aggregate([{ labels: { process: 'nginx' }, value: 1 }], SPEC, 50, undefined);
    expect(samples).toEqual([{ labels: ['nginx', '', ''], value: 1 }]);
  });

  it('a family without labels is one sample', () => {
    const { samples } = aggregate(
      [3, 4].map((value) => ({ labels: {}, value })),
      { labels: [], fold: [] },
      1,
      undefined,
    );
    expect(samples).toEqual([{ labels: [], value: 7 }]);
  });

  it('labels of one step fold together', () => {
    const spec: FoldSpec = {
      labels: ['process', 'local_address', 'local_port'],
      fold: [{ labels: ['local_address', 'local_port'] }],
    };
    const given = ['80', '81', '82'].map((local_port, i) => ({
      labels: { process: 'nginx', local_address: '0.0.0.0', local_port },
      value: i,
    }));
    expect(aggregate(given, spec, 2, undefined).samples).toEqual([
      { labels: ['nginx', '0.0.0.0', '82'], value: 2 },
      { labels: ['nginx', 'other', 'other'], value: 1 },
    ]);
  });

  it('a step with a condition folds only matching values, and does not count other series as folded', () => {
    const spec: FoldSpec = {
      labels: ['network'],
      fold: [{ labels: ['network'], when: (network) => network !== 'public' && network !== 'private' }],
    };
    const given = Object.entries({ office: 3, vpn: 2, lab: 1, public: 1, private: 1 }).map(([network, value]) => ({
      labels: { network },
      value,
    }));
    const { samples, folded } = aggregate(given, spec, 4, undefined);
    expect(lines(samples)).toEqual([
      ['office', 3],
      ['other', 3],
      ['private', 1],
      ['public', 1],
    ]);
    expect(folded).toBe(2);
  });

  it('a condition receives the original value, not the prefixed one', () => {
    const spec: FoldSpec = {
      labels: ['network'],
      fold: [{ labels: ['network'], when: (network) => network === 'other' }],
    };
    const given = ['other', 'public', 'private'].map((network) => ({ labels: { network }, value: 1 }));
    expect(lines(aggregate(given, spec, 3, undefined).samples)).toEqual([
      ['_other', 1],
      ['private', 1],
      ['public', 1],
    ]);
  });
});

describe('aggregate, from scrape to scrape', () => {
  function scrapes(limit: number, series: readonly (readonly Line[])[]): unknown[][] {
    let memory: FoldMemory | undefined;
    return series.map((given) => {
      const result = aggregate(contributions(given), SPEC, limit, memory);
      memory = result.memory;
      return lines(result.samples);
    });
  }

  function grid(processes: number, asns: number): Line[] {
    return Array.from({ length: processes * asns }, (_, i) => [
      `process-${Math.floor(i / asns)}`,
      String(64500 + (i % asns)),
      'established',
      1,
    ]);
  }

  it.each([
    { name: 'a new series that is 25 % larger does not replace a kept one', added: 50, kept: '64502' },
    { name: 'a new series that is more than 25 % larger replaces a kept one', added: 51, kept: '64501' },
  ])('$name', ({ added, kept }) => {
    const [, second] = scrapes(3, [
      [
        ['nginx', '64500', 'established', 60],
        ['nginx', '64502', 'established', 40],
        ['nginx', '64501', 'established', 39],
        ['nginx', '64503', 'established', 1],
      ],
      [
        ['nginx', '64500', 'established', 60],
        ['nginx', '64502', 'established', 40],
        ['nginx', '64501', 'established', added],
        ['nginx', '64503', 'established', 1],
      ],
    ]);
    expect(second).toEqual([
      ['nginx', '64500', 'established', 60],
      ['nginx', kept, 'established', kept === '64502' ? 40 : added],
      ['nginx', 'other', 'established', kept === '64502' ? added + 1 : 41],
    ]);
  });

  it('series that were kept below the limit keep their place once the limit is exceeded', () => {
    const few: Line[] = [
      ['nginx', '64502', 'established', 1],
      ['nginx', '64503', 'established', 1],
      ['nginx', '64504', 'established', 1],
    ];
    const [, second] = scrapes(3, [few, [['nginx', '64500', 'established', 1], ...few]]);
    expect(second).toEqual([
      ['nginx', '64502', 'established', 1],
      ['nginx', '64503', 'established', 1],
      ['nginx', 'other', 'established', 2],
    ]);
  });

  it('labels fold immediately, and unfold step by step at a quarter of the limit', () => {
    let memory: FoldMemory | undefined;
    const steps = [
      grid(5, 2), // Ten series, five without the ASN: more than half of the limit.
      grid(3, 3), // Three without the ASN would be few enough now, but not few enough to turn back.
      grid(2, 5), // Two without the ASN are a quarter of the limit.
      grid(2, 4), // All would fit.
      grid(3, 3),
      grid(1, 2), // All are a quarter of the limit.
      grid(5, 2),
      grid(1, 1), // Few at once, but only one step is taken back at a time.
      grid(1, 1),
    ].map((given) => {
      memory = aggregate(contributions(given), SPEC, 8, memory).memory;
      return memory.steps.get('') ?? 0;
    });
    expect(steps).toEqual([2, 2, 1, 1, 1, 0, 2, 1, 0]);
  });
});

const LABELS = ['process', 'asn', 'network', 'state'];
const word = fc.constantFrom('', 'a', 'b', 'other', '_other', 'a","b', '\\n"\\');
const contribution: fc.Arbitrary<Contribution> = fc.record({
  labels: fc.record({ process: word, asn: word, network: word, state: word }),
  value: fc.nat(20),
  tenant: fc.constantFrom('', 'uid:1000', 'nginx.service'),
});
const step: fc.Arbitrary<FoldStep> = fc.record(
  {
    labels: fc.uniqueArray(fc.constantFrom(...LABELS), { minLength: 1, maxLength: 2 }),
    when: fc.constant((text: string) => text.startsWith('a')),
  },
  { requiredKeys: ['labels'] },
);
const spec: fc.Arbitrary<FoldSpec> = fc.array(step, { maxLength: 4 }).map((fold) => ({ labels: LABELS, fold }));
const scrape = fc.array(contribution, { maxLength: 120 });
const limit = fc.integer({ min: 1, max: 60 });

function total(values: readonly { readonly value: number }[]): number {
  return values.reduce((sum, { value }) => sum + value, 0);
}

describe('aggregate, for several tenants', () => {
  const of = (tenant: string, given: readonly Line[]): Contribution[] =>
    contributions(given).map((contribution) => ({ ...contribution, tenant }));
  const crowd = (size: number, process = (i: number): string => `n${i}`): Contribution[] =>
    of(
      'uid:1000',
      Array.from({ length: size }, (_, i) => [process(i), String(64500 + i), 'established', 1_000]),
    );
  const victim: Line[] = [
    ['nginx', '64496', 'established', 1],
    ['nginx', '64497', 'established', 1],
    ['nginx', '64498', 'established', 1],
  ];

  it.each([
    ['of one process with many operators', crowd(1_100, () => 'crowd')],
    ['of many names', crowd(1_100)],
    [
      'of many names to the same operators',
      crowd(1_100).map((one, i) => ({ ...one, labels: { ...one.labels, asn: String(64496 + (i % 3)) } })),
    ],
  ])('a crowd %s folds itself alone', (_, given) => {
    const { samples, folded, foldedBy } = aggregate([...given, ...of('nginx.service', victim)], SPEC, 50, undefined);
    expect(lines(samples).filter(([process]) => process === 'nginx')).toEqual(victim);
    expect(samples.length).toBeLessThanOrEqual(50);
    expect([...foldedBy]).toEqual([['uid:1000', folded]]);
  });

  it('lends what a tenant does not use', () => {
    const { samples } = aggregate([...crowd(46), ...of('nginx.service', victim)], SPEC, 50, undefined);
    expect(samples).toHaveLength(49);
  });

  it('folds the crowd further, and still not the others', () => {
    const many: Line[] = Array.from({ length: 40 }, (_, i) => ['nginx', String(64500 + i), 'established', 50 - i]);
    const { samples } = aggregate([...crowd(1_100), ...of('nginx.service', many)], SPEC, 50, undefined);
    const ofNginx = lines(samples).filter(([process]) => process === 'nginx');
    expect(ofNginx).toHaveLength(25);
    expect(ofNginx.at(-1)?.[1]).toBe('other');
    expect(total(samples.filter(({ labels }) => labels[0] === 'nginx'))).toBe(total(of('', many)));
  });

  it('keeps held places when a crowd arrives', () => {
    const first = aggregate(of('nginx.service', victim), SPEC, 50, undefined);
    const second = aggregate([...crowd(1_100), ...of('nginx.service', victim)], SPEC, 50, first.memory);
    expect(lines(second.samples).filter(([process]) => process === 'nginx')).toEqual(victim);
  });

  it('a series of several tenants has the better place of the two', () => {
    const shared: Line[] = [['nginx', '64496', 'established', 1]];
    const given = [...crowd(1_100), ...of('uid:1000', shared), ...of('nginx.service', shared)];
    const { samples } = aggregate(given, SPEC, 50, undefined);
    expect(lines(samples)).toContainEqual(['nginx', '64496', 'established', 2]);
  });

  it('more tenants than places share what is other', () => {
    const given = Array.from({ length: 200 }, (_, i) => of(`uid:${i}`, [[`n${i}`, '', 'listen', 1]])).flat();
    const { samples } = aggregate(given, SPEC, 50, undefined);
    expect(samples).toHaveLength(50);
    expect(total(samples)).toBe(200);
  });
});

describe('aggregate, for any input', () => {
  function scrapeAll(scrapes: readonly Contribution[][], spec: FoldSpec, limit: number) {
    let memory: FoldMemory | undefined;
    return scrapes.map((given) => {
      const { memory: next, ...result } = aggregate(given, spec, limit, memory);
      memory = next;
      return { given, ...result };
    });
  }

  it('returns at most `limit` samples with distinct labels and the exact total', () => {
    fc.assert(
      fc.property(fc.array(scrape, { minLength: 1, maxLength: 4 }), spec, limit, (scrapes, spec, limit) => {
        for (const { given, samples } of scrapeAll(scrapes, spec, limit)) {
          const keys = samples.map(({ labels }) => JSON.stringify(labels));
          expect(samples.length).toBeLessThanOrEqual(limit);
          expect(keys).toEqual([...new Set(keys)].sort());
          expect(total(samples)).toBe(total(given));
        }
      }),
    );
  });

  it('keeps exact totals by the labels that never fold while these fit the limit', () => {
    const many = fc.nat(9).map(String);
    const contributions = fc.array(
      fc.record({
        labels: fc.record({
          process: many,
          asn: many,
          network: fc.constantFrom('public', 'private'),
          state: fc.constantFrom('established', 'time_wait'),
        }),
        value: fc.nat(1000),
      }),
      { maxLength: 120 },
    );
    const spec: FoldSpec = { labels: LABELS, fold: SPEC.fold };
    const sums = (
      values: readonly { key: readonly (string | undefined)[]; value: number }[],
    ): Record<string, number> => {
      const sums: Record<string, number> = {};
      for (const { key, value } of values) sums[String(key)] = (sums[String(key)] ?? 0) + value;
      return sums;
    };
    fc.assert(
      fc.property(fc.array(contributions, { maxLength: 3 }), fc.integer({ min: 4, max: 60 }), (scrapes, limit) => {
        for (const { given, samples } of scrapeAll(scrapes, spec, limit)) {
          expect(sums(samples.map(({ labels, value }) => ({ key: [labels[2], labels[3]], value })))).toEqual(
            sums(given.map(({ labels, value }) => ({ key: [labels['network'], labels['state']], value }))),
          );
        }
      }),
    );
  });

  it('does not depend on the order of contributions', () => {
    const shuffled = scrape.chain((given) =>
      fc.tuple(fc.constant(given), fc.shuffledSubarray(given, { minLength: given.length, maxLength: given.length })),
    );
    fc.assert(
      fc.property(shuffled, shuffled, spec, limit, (first, second, spec, limit) => {
        const results = [0, 1].map((i) =>
          scrapeAll([first[i] ?? [], second[i] ?? []], spec, limit).map(({ samples, folded }) => ({ samples, folded })),
        );
        expect(results[1]).toEqual(results[0]);
      }),
    );
  });

  it('matches a direct implementation of the rule at the first scrape', () => {
    fc.assert(
      fc.property(scrape, spec, limit, (given, spec, limit) => {
        const ofOneTenant = given.map(({ labels, value }) => ({ labels, value }));
        const { samples, folded } = aggregate(ofOneTenant, spec, limit, undefined);
        expect({ samples, folded }).toEqual(byTheRule(given, spec, limit));
      }),
      { numRuns: 500 },
    );
  });

  it('keeps the same series while none changes by more than 10 %', () => {
    const sizes = fc.array(fc.nat(50), { minLength: 1, maxLength: 40 });
    const changes = fc.array(fc.array(fc.integer({ min: -10, max: 10 }), { minLength: 40, maxLength: 40 }), {
      maxLength: 5,
    });
    fc.assert(
      fc.property(sizes, changes, limit, (sizes, changes, limit) => {
        const still = new Array<number>(sizes.length).fill(0);
        const scrapes = [still, ...changes].map((change) =>
          sizes.map((size, i) => ({
            labels: { process: 'nginx', asn: String(i), state: 'established' },
            value: size * (100 + (change[i] ?? 0)),
          })),
        );
        const [first, ...later] = scrapeAll(scrapes, SPEC, limit).map(({ samples }) =>
          samples.map(({ labels }) => labels),
        );
        for (const shown of later) expect(shown).toEqual(first);
      }),
    );
  });
});

/** The fold rule without optimizations. */
function byTheRule(
  given: readonly Contribution[],
  spec: FoldSpec,
  limit: number,
): { samples: Sample[]; folded: number } {
  const all = spec.fold.length;
  const keyed = (j: number, mayFold: readonly string[]): Map<string, number> => {
    const sums = new Map<string, number>();
    for (const { labels, value } of given) {
      const key = JSON.stringify(spec.labels.map((label) => written(label, labels[label] ?? '', j, mayFold)));
      sums.set(key, (sums.get(key) ?? 0) + value);
    }
    return sums;
  };
  const written = (label: string, value: string, j: number, mayFold: readonly string[]): string => {
    const folds = ({ labels, when }: FoldStep): boolean => labels.includes(label) && (!when || when(value));
    if (j > all || spec.fold.slice(0, j).some(folds)) return 'other';
    return mayFold.includes(label) && /^_*other$/.test(value) ? `_${value}` : value;
  };
  const foldable = spec.fold.flatMap(({ labels }) => labels);
  const F = (j: number): number => keyed(j, foldable).size;

  let j = 0;
  if (F(0) > limit) {
    const enough = Array.from({ length: all }, (_, i) => i + 1).find((j) => F(j) <= limit / 2);
    j = enough ?? (all > 0 && F(all) <= limit ? all : all + 1);
  }
  const mayFold = j > all ? LABELS : foldable;
  const places = j === 0 ? limit : limit - F(j);
  const ranked = [...keyed(0, mayFold)].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const whole = new Map(ranked.slice(0, places));
  const sums = new Map(whole);
  let folded = 0;
  const seen = new Set<string>();
  for (const { labels, value } of given) {
    const own = JSON.stringify(spec.labels.map((label) => written(label, labels[label] ?? '', 0, mayFold)));
    if (whole.has(own)) continue;
    const key = JSON.stringify(spec.labels.map((label) => written(label, labels[label] ?? '', j, mayFold)));
    sums.set(key, (sums.get(key) ?? 0) + value);
    if (key !== own && !seen.has(own)) folded++;
    seen.add(own);
  }
  const samples = [...sums]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => ({ labels: JSON.parse(key) as string[], value }));
  return { samples, folded };
}

it('100,000 random remotes stay within the smallest limit, with exact totals by direction', { timeout: 60_000 }, () => {
  const directions = ['inbound', 'outbound', 'loopback'];
  const states = ['established', 'syn_received', 'fin_wait_1', 'time_wait', 'close_wait', 'last_ack'];
  const random = xorshift(1);
  const given = Array.from({ length: 100_000 }, () => ({
    labels: {
      process: `worker-${random(2000)}`,
      direction: directions[random(3)] ?? '',
      network: random(9) === 0 ? `office-${random(40)}` : (['public', 'private', 'shared'][random(3)] ?? ''),
      asn: String(random(400_000)),
      state: states[random(6)] ?? '',
    },
    value: 1,
  }));
  const spec: FoldSpec = {
    labels: ['process', 'direction', 'network', 'asn', 'state'],
    fold: [
      { labels: ['asn'] },
      { labels: ['process'] },
      { labels: ['network'], when: (network) => network.startsWith('office-') },
      { labels: ['state'] },
    ],
  };
  const { samples, folded } = aggregate(given, spec, 50, undefined);
  expect(samples).toHaveLength(50);
  expect(folded).toBe(new Set(given.map(({ labels }) => JSON.stringify(labels))).size - 38);
  expect(total(samples)).toBe(100_000);
  for (const direction of directions)
    expect(total(samples.filter(({ labels }) => labels[1] === direction))).toBe(
      given.filter(({ labels }) => labels.direction === direction).length,
    );
});

/** Pseudorandom integers below a bound, equal in every run. */
function xorshift(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

describe('cut', () => {
  const newest = (a: Sample, b: Sample): number => b.value - a.value;
  const samples: Sample[] = [
    { labels: ['nginx', '64503'], value: 1700000000 },
    { labels: ['nginx', '64502'], value: 1700000100 },
    { labels: ['nginx', '64501'], value: 1700000000 },
    { labels: ['nginx', '64500'], value: 1600000000 },
  ];

  it.each([
    { name: 'keeps the first samples in order', limit: 1, kept: ['64502'], cut: 3 },
    { name: 'breaks ties by key', limit: 2, kept: ['64501', '64502'], cut: 2 },
    {
      name: 'keeps all samples within the limit, sorted by key',
      limit: 4,
      kept: ['64500', '64501', '64502', '64503'],
      cut: 0,
    },
  ])('$name', ({ limit, kept, cut: expected }) => {
    const result = cut(samples, limit, newest);
    expect(result).toEqual({
      samples: kept.map((asn) => samples.find(({ labels }) => labels[1] === asn)),
      cut: expected,
      cutBy: new Map(expected > 0 ? [['', expected]] : []),
    });
  });

  it('a crowd of newer samples cuts its own alone', () => {
    const old = { labels: ['nginx', '64496'], value: 1 };
    const crowd = Array.from({ length: 1_100 }, (_, i) => ({ labels: [`n${i}`, String(64500 + i)], value: 100 + i }));
    const tenantOf = ({ labels }: Sample): string => (labels[0] === 'nginx' ? 'nginx.service' : 'uid:1000');
    const result = cut([...crowd, old], 1_000, newest, tenantOf);
    expect(result.samples).toHaveLength(1_000);
    expect(result.samples).toContainEqual(old);
    expect(result.cutBy).toEqual(new Map([['uid:1000', 101]]));
  });
});

describe('series that are kept from scan to scan', () => {
  /** Sums scans with series that are kept, and each of them anew. */
  function sumTwice(scans: readonly (readonly Contribution[])[], spec: FoldSpec, limit: number) {
    const kept = new WholeSeries(spec, limit);
    return scans.map((given) => {
      const whole = kept.sum(given);
      const anew = aggregate(given, spec, limit, undefined);
      return {
        whole,
        anew,
        tenants: whole?.samples.map(whole.tenantOf),
        tenantsAnew: anew.samples.map((sample) => anew.tenants.get(sample)),
      };
    });
  }

  it('have the samples and tenants that a count without memory finds, for any input', () => {
    const label = fc.constantFrom('nginx', 'other', '_other', '');
    // A label set is one object as long as a group lives.
    const pool = fc.array(fc.record({ process: label, asn: label, state: label }), { minLength: 1, maxLength: 12 });
    const input = pool.chain((pool) =>
      fc.array(
        fc.array(
          fc.record({
            labels: fc.oneof(fc.constantFrom(...pool), fc.record({ process: label, asn: label, state: label })),
            value: fc.nat(100),
            tenant: fc.constantFrom('uid:0', 'uid:1', 'uid:2'),
          }),
          { maxLength: 30 },
        ),
        { maxLength: 6 },
      ),
    );
    fc.assert(
      fc.property(input, (scans) => {
        for (const { whole, anew, tenants, tenantsAnew } of sumTwice(scans, SPEC, 200)) {
          expect(whole?.samples).toEqual(anew.samples);
          expect(tenants).toEqual(tenantsAnew);
          expect(whole?.memory.steps).toEqual(anew.memory.steps);
          const whose = (labels: readonly object[] = []): string[] => labels.map((set) => JSON.stringify(set)).sort();
          expect(whose(whole?.memory.whole)).toEqual(whose(anew.memory.whole));
        }
      }),
    );
  });

  it.each<{ name: string; limit: number; given: Contribution[]; fits: boolean }>([
    {
      name: 'as many as the limit',
      limit: 2,
      given: contributions([
        ['a', '', '', 1],
        ['b', '', '', 1],
      ]),
      fits: true,
    },
    {
      name: 'one more',
      limit: 1,
      given: contributions([
        ['a', '', '', 1],
        ['b', '', '', 1],
      ]),
      fits: false,
    },
    {
      name: 'one series of two tenants, which counts for both',
      limit: 1,
      given: ['uid:0', 'uid:1'].flatMap((tenant) =>
        contributions([['a', '', '', 1]]).map((one) => ({ ...one, tenant })),
      ),
      fits: false,
    },
  ])('$name: fits $fits', ({ limit, given, fits }) => {
    expect(new WholeSeries(SPEC, limit).sum(given) !== null).toBe(fits);
  });

  it.each([
    { name: 'one label set', again: (given: Contribution): Contribution => given },
    { name: 'an equal label set', again: ({ labels, value }: Contribution) => ({ labels: { ...labels }, value }) },
  ])('hold no memory once many others came and went: $name', ({ again }) => {
    const kept = new WholeSeries(SPEC, 1_000);
    const given = contributions([['nginx', '', 'listen', 1]]);
    const before = kept.sum(given)?.samples[0];
    for (let scan = 0; scan < 10; scan++)
      kept.sum(contributions(Array.from({ length: 50 }, (_, i): Line => [`p${scan}`, `${i}`, '', 1])));
    const after = kept.sum(given.map(again))?.samples[0];
    expect(after).toEqual(before);
    // A series that was kept has the array that it had before.
    expect(after?.labels).not.toBe(before?.labels);
  });

  it('are forgotten when they are gone, and one array of values for their whole life', () => {
    const kept = new WholeSeries(SPEC, 1_000);
    const fresh = (scan: number): Contribution[] =>
      contributions([
        ['nginx', '', 'listen', 1],
        ...Array.from({ length: 50 }, (_, i): Line => [`p${scan}`, `${i}`, '', 1]),
      ]);
    const first = kept.sum(fresh(0));
    for (let scan = 1; scan < 20; scan++) kept.sum(fresh(scan));
    const last = kept.sum(fresh(20));
    const values = (samples: typeof first): unknown =>
      samples?.samples.find(({ labels: [process] }) => process === 'nginx')?.labels;
    expect(values(last)).toBe(values(first));
    expect(last?.samples).toHaveLength(51);
  });
});
