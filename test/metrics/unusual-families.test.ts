import { expect, test } from 'vitest';
import { aggregate } from '../../src/metrics/aggregate.ts';
import { UNUSUAL_FAMILIES, type UnusualData } from '../../src/metrics/unusual-families.ts';

const owner = { namespace: 'shop', workload: 'web' };
const LABELS = { process: 'nc', ...owner, pod: '', container: '' };
const DATA: UnusualData = {
  scope: 'cluster',
  reports: [
    {
      owner,
      process: 'nc',
      kind: 'operator',
      what: 'AS64500',
      reach: 'none',
      points: 2,
      reason: 'First call.',
      at: 1_500,
      recordedAt: 2_000,
    },
  ],
  novelties: { folded: 0, series: [{ labels: ['shop', 'web', 'operator'], sums: [7] }] },
  points: [{ owner, points: 2 }],
  watchedSince: [{ owner, at: 1_000 }],
  firstSeen: {
    asns: [{ owner: LABELS, tenant: 'shop/web-0', direction: 'outbound', asn: '64500', at: 1_500 }],
    baselines: [{ owner: LABELS, tenant: 'shop/web-0', at: 1_000 }],
  },
};

test('novelties, their number and points, and since when each workload is watched', () => {
  const rendered = UNUSUAL_FAMILIES.map((spec) => {
    const contributions = [...spec.contributions({ unusual: DATA })];
    const samples = spec.cut
      ? contributions.map(({ labels, value }) => ({ labels: spec.labels.map((name) => labels[name] ?? ''), value }))
      : aggregate(contributions, spec, 100, undefined).samples;
    return [spec.name, ...samples.map(({ labels, value }) => `${labels.join(' ')} = ${value}`)];
  });
  expect(rendered).toEqual([
    ['peerscope_novelty_timestamp_seconds', 'shop web nc operator AS64500 none 2 = 1.5'],
    ['peerscope_novelties_total', 'shop web operator = 7'],
    ['peerscope_unusual_points', 'shop web = 2'],
    ['peerscope_workload_watched_since_timestamp_seconds', 'shop web cluster = 1'],
    ['peerscope_asn_first_seen_timestamp_seconds', 'nc shop web outbound 64500 = 1.5'],
    ['peerscope_baseline_start_timestamp_seconds', 'nc shop web cluster = 1'],
  ]);
});
