import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Sample } from '../../src/model.ts';
import { DailySeriesCap } from '../../src/metrics/daily-series-cap.ts';

const HOUR_MS = 3_600_000;
const LABELS = ['process', 'endpoint_group'];
const LIMIT = 50;

const sampleOf = (process: string, endpoint: string, value: number): Sample => ({ labels: [process, endpoint], value });
const sum = (samples: readonly Sample[]): number => samples.reduce((total, { value }) => total + value, 0);

/** Distinct endpoints of one process. */
const endpoints = (from: number, count: number, value = 1): Sample[] =>
  Array.from({ length: count }, (_, i) => sampleOf('curl', `AS${1000 + from + i}:443`, value));

const capOf = (): DailySeriesCap =>
  new DailySeriesCap({ labels: LABELS, fold: [{ labels: ['endpoint_group'] }, { labels: ['process'] }] }, LIMIT);
const one = (): string => '';
const byProcess = ({ labels }: Sample): string => labels[0] ?? '';
const total = (counts: ReadonlyMap<string, number>): number =>
  sum([...counts.values()].map((value) => ({ labels: [], value })));

describe('DailySeriesCap', () => {
  test('returns the samples unchanged below the limit', () => {
    const samples = endpoints(0, 40);
    expect(capOf().admit(samples, one, 0)).toEqual({ samples, foldedBy: new Map() });
  });

  test('exports returning series even if there is no room for new ones', () => {
    const cap = capOf();
    cap.admit(endpoints(0, 50), one, 0);
    cap.admit(endpoints(50, 25), one, HOUR_MS);
    expect(cap.admit([...endpoints(0, 2), ...endpoints(75, 3, 2)], one, 2 * HOUR_MS)).toEqual({
      samples: [...endpoints(0, 2), sampleOf('curl', 'other', 6)],
      foldedBy: new Map([['', 3]]),
    });
  });

  test('forgets series one day after they were last exported', () => {
    const cap = capOf();
    cap.admit(endpoints(0, 50), one, 0);
    cap.admit(endpoints(50, 25), one, 0);
    cap.admit(endpoints(0, 50), one, 23 * HOUR_MS);
    expect(total(cap.admit(endpoints(75, 26), one, 25 * HOUR_MS).foldedBy)).toBe(1);
  });

  test('counts the day from the last export of series that did not change', () => {
    const cap = capOf();
    const same = endpoints(0, 50);
    for (const hour of [0, 12, 23]) expect(cap.admit(same, one, hour * HOUR_MS).samples).toHaveLength(50);
    cap.admit([...same, ...endpoints(50, 25)], one, 24 * HOUR_MS);
    for (const hour of [25, 46]) cap.admit(same, one, hour * HOUR_MS);
    const { samples } = cap.admit([...same, ...endpoints(200, 100, 9)], one, 50 * HOUR_MS);
    expect(samples).toEqual(expect.arrayContaining(same));
  });

  test('exports the largest new series and adds the rest to the folded series', () => {
    const cap = capOf();
    cap.admit(endpoints(0, 50), one, 0);
    cap.admit(endpoints(50, 24), one, 0);
    const late = [sampleOf('curl', 'AS1:443', 1), sampleOf('curl', 'AS2:443', 9), sampleOf('curl', 'other', 4)];
    expect(cap.admit(late, one, 0)).toEqual({
      samples: [sampleOf('curl', 'AS2:443', 9), sampleOf('curl', 'other', 5)],
      foldedBy: new Map([['', 1]]),
    });
  });

  test('a process that changes its name folds into other, and takes no place from others', () => {
    const cap = capOf();
    const distinct = new Set<string>();
    for (let scrape = 0; scrape < 400; scrape++) {
      const churn = Array.from({ length: 20 }, (_, i) => sampleOf(`n${scrape}-${i}`, '10.0.0.1:80', 1));
      const { samples } = cap.admit(churn, () => 'uid:1000', scrape);
      expect(sum(samples)).toBe(20);
      for (const { labels } of samples) distinct.add(labels.join(' '));
    }
    expect(distinct.size).toBeLessThanOrEqual(1.6 * LIMIT);
    const victim = Array.from({ length: 10 }, (_, i) => sampleOf('nginx', `AS${i}:443`, 1));
    expect(cap.admit(victim, () => 'nginx.service', 400)).toEqual({ samples: victim, foldedBy: new Map() });
  });

  test('a new pod of a known workload is not a new series', () => {
    const cap = new DailySeriesCap(
      { labels: ['process', 'pod'], fold: [{ labels: ['pod'] }, { labels: ['process'] }] },
      LIMIT,
    );
    for (let pod = 0; pod < 1_000; pod++) {
      const samples = [{ labels: ['nginx', `web-${pod}`], value: 1 }];
      expect(cap.admit(samples, one, 0)).toEqual({ samples, foldedBy: new Map() });
    }
  });

  test('what cannot fold is left out', () => {
    const cap = new DailySeriesCap({ labels: LABELS, fold: [] }, LIMIT);
    cap.admit(endpoints(0, 75), one, 0);
    expect(cap.admit([...endpoints(74, 3)], one, 0)).toEqual({
      samples: endpoints(74, 1),
      foldedBy: new Map([['', 2]]),
    });
  });

  test('all tenants together export at most three and a half times the limit, and every scrape keeps its total', () => {
    const anyScrape = fc.uniqueArray(
      fc.record({ process: fc.constantFrom('a', 'b', 'c', 'd'), endpoint: fc.nat(400), value: fc.nat(1_000_000) }),
      { selector: ({ process, endpoint }) => `${process} ${endpoint}`, maxLength: LIMIT },
    );
    fc.assert(
      fc.property(fc.array(anyScrape, { maxLength: 20 }), (scrapes) => {
        const cap = capOf();
        const distinct = new Set<string>();
        for (const scrape of scrapes) {
          const samples = scrape.map(({ process, endpoint, value }) => sampleOf(process, `AS${endpoint}:443`, value));
          const admitted = cap.admit(samples, byProcess, 0).samples;
          expect(sum(admitted)).toBe(sum(samples));
          expect(admitted.length).toBeLessThanOrEqual(samples.length);
          for (const { labels } of admitted) distinct.add(labels.join(' '));
          expect(new Set(admitted.map(({ labels }) => labels.join(' '))).size).toBe(admitted.length);
        }
        expect(distinct.size).toBeLessThanOrEqual(3.5 * LIMIT);
      }),
    );
  });
});
