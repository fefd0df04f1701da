import type { Owner, Report } from '../unusual/evidence.ts';
import type { FamilySpec } from './catalogue.ts';

/** What the families about unusual connections are computed from. */
export interface UnusualData {
  readonly scope: 'node' | 'cluster';
  readonly reports: readonly Report[];
  readonly totals: readonly { readonly owner: Owner; readonly kind: Report['kind']; readonly count: number }[];
  readonly points: readonly { readonly owner: Owner; readonly points: number }[];
  readonly watchedSince: readonly { readonly owner: Owner; readonly at: number }[];
}

const WORKLOAD = ['namespace', 'workload'];

/** The families about what is unusual. */
export const UNUSUAL_FAMILIES: readonly FamilySpec<UnusualData>[] = [
  {
    name: 'peerscope_novelty_timestamp_seconds',
    help: 'Unix time at which a calm workload first met something, such as a network operator, a port or a peer. Exported for one hour.',
    type: 'gauge',
    unit: 's',
    collector: 'first-seen',
    labels: [...WORKLOAD, 'process', 'kind', 'what', 'reach', 'points'],
    fold: [],
    cut: (a, b) => b.value - a.value,
    contributions: ({ reports }) =>
      reports.map(({ owner, process, kind, what, reach, points, at }) => ({
        labels: { ...labelsOf(owner), process, kind, what, reach, points: String(points) },
        value: at / 1000,
      })),
  },
  {
    name: 'peerscope_novelties_total',
    help: 'Number of novelties of calm workloads since the start, by kind.',
    type: 'counter',
    unit: '{novelty}',
    collector: 'first-seen',
    labels: [...WORKLOAD, 'kind'],
    fold: [{ labels: WORKLOAD }],
    contributions: ({ totals }) =>
      totals.map(({ owner, kind, count }) => ({ labels: { ...labelsOf(owner), kind }, value: count })),
  },
  {
    name: 'peerscope_unusual_points',
    help: 'Sum of the points of the novelties of a workload in the past hour, as seen by this exporter.',
    type: 'gauge',
    unit: '{point}',
    collector: 'first-seen',
    labels: WORKLOAD,
    fold: [],
    cut: (a, b) => b.value - a.value,
    contributions: ({ points }) => points.map(({ owner, points }) => ({ labels: labelsOf(owner), value: points })),
  },
  {
    name: 'peerscope_workload_watched_since_timestamp_seconds',
    help: 'Unix time since which a workload has been watched.',
    type: 'gauge',
    unit: 's',
    collector: 'first-seen',
    labels: [...WORKLOAD, 'scope'],
    fold: [],
    cut: (a, b) => a.value - b.value,
    contributions: ({ watchedSince, scope }) =>
      watchedSince.map(({ owner, at }) => ({ labels: { ...labelsOf(owner), scope }, value: at / 1000 })),
  },
];

function labelsOf({ namespace, workload }: Owner): { readonly namespace: string; readonly workload: string } {
  return { namespace, workload };
}
