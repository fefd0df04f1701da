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

describe('DailySeriesCap', () => {
  test('returns the samples unchanged below the limit', () => {
    const cap = new DailySeriesCap(LABELS, 'endpoint_group', LIMIT);
    const samples = endpoints(0, 40);
    expect(cap.admit(samples, 0)).toEqual({ samples, folded: 0 });
  });

  test('exports returning series even if there is no room for new ones', () => {
    const cap = new DailySeriesCap(LABELS, 'endpoint_group', LIMIT);
    cap.admit(endpoints(0, 50), 0);
    cap.admit(endpoints(50, 25), HOUR_MS);
    expect(cap.admit([...endpoints(0, 2), ...endpoints(75, 3, 2)], 2 * HOUR_MS)).toEqual({
      samples: [...endpoints(0, 2), sampleOf('curl', 'other', 6)],
      folded: 3,
    });
  });

  test('forgets series one day after they were last exported', () => {
    const cap = new DailySeriesCap(LABELS, 'endpoint_group', LIMIT);
    cap.admit(endpoints(0, 50), 0);
    cap.admit(endpoints(50, 25), 0);
    cap.admit(endpoints(0, 50), 23 * HOUR_MS);
    expect(cap.admit(endpoints(75, 26), 25 * HOUR_MS).folded).toBe(1);
  });

  test('exports the largest new series and adds the rest to the folded series', () => {
    const cap = new DailySeriesCap(LABELS, 'endpoint_group', LIMIT);
    cap.admit([...endpoints(0, 50)], 0);
    cap.admit([...endpoints(50, 24)], 0);
    const late = [sampleOf('a', 'AS1:443', 1), sampleOf('a', 'AS2:443', 9), sampleOf('a', 'other', 4)];
    expect(cap.admit(late, 0)).toEqual({
      samples: [sampleOf('a', 'AS2:443', 9), sampleOf('a', 'other', 5)],
      folded: 1,
    });
  });

  test('exports at most twice the limit, and every scrape keeps its total', () => {
    const anyScrape = fc.uniqueArray(
      fc.record({ process: fc.constantFrom('a', 'b', 'c'), endpoint: fc.nat(400), value: fc.nat(1_000_000) }),
      { selector: ({ process, endpoint }) => `${process} ${endpoint}`, maxLength: LIMIT },
    );
    fc.assert(
      fc.property(fc.array(anyScrape, { maxLength: 20 }), (scrapes) => {
        const cap = new DailySeriesCap(LABELS, 'endpoint_group', LIMIT);
        const distinct = new Set<string>();
        for (const scrape of scrapes) {
          const samples = scrape.map(({ process, endpoint, value }) => sampleOf(process, `AS${endpoint}:443`, value));
          const admitted = cap.admit(samples, 0).samples;
          expect(sum(admitted)).toBe(sum(samples));
          expect(admitted.length).toBeLessThanOrEqual(samples.length);
          for (const { labels } of admitted) distinct.add(labels.join(' '));
          expect(new Set(admitted.map(({ labels }) => labels.join(' '))).size).toBe(admitted.length);
        }
        expect(distinct.size).toBeLessThanOrEqual(2 * LIMIT);
      }),
    );
  });
});
