import type { BoundedCounters, CounterSpec } from '../traffic/bounded-counters.ts';
import type { Owner, Report } from '../unusual/evidence.ts';
import type { Baseline, FirstSeenAsn } from '../unusual/recorder.ts';
import { KINDS } from '../unusual/grammar/what.ts';
import type { FamilySpec } from './catalogue.ts';

/** What the families about unusual connections are computed from. */
export interface UnusualData {
  readonly scope: 'node' | 'cluster';
  readonly reports: readonly Report[];
  /** Counts of reports, by namespace, workload and kind. */
  readonly novelties: Pick<BoundedCounters, 'series' | 'folded'>;
  readonly points: readonly { readonly owner: Owner; readonly points: number }[];
  readonly watchedSince: readonly { readonly owner: Owner; readonly at: number }[];
  readonly firstSeen: { readonly asns: readonly FirstSeenAsn[]; readonly baselines: readonly Baseline[] };
}

const WORKLOAD = ['namespace', 'workload'];
const OWNER = ['process', ...WORKLOAD];

/** The labels of the counters of reports, and how they fold. */
export const NOVELTY_COUNTERS = {
  labels: [...WORKLOAD, 'kind'],
  fold: [{ labels: ['workload'] }, { labels: ['namespace'] }],
  values: 1,
  wholeFolds: KINDS.length,
} satisfies CounterSpec;

/** The families about what is unusual. */
export const UNUSUAL_FAMILIES: readonly FamilySpec<{ readonly unusual: UnusualData | null }>[] = [
  {
    name: 'peerscope_novelty_timestamp_seconds',
    help: 'Unix time at which a calm workload first met something, such as a network operator, a port or a peer. Exported for one hour.',
    type: 'gauge',
    unit: 's',
    collector: 'first-seen',
    labels: [...WORKLOAD, 'process', 'kind', 'what', 'reach', 'points'],
    fold: [],
    cut: (a, b) => b.value - a.value,
    contributions: ({ unusual }) =>
      (unusual?.reports ?? []).map(({ owner, process, kind, what, reach, points, at }) => ({
        labels: { ...labelsOf(owner), process, kind, what, reach, points: String(points) },
        value: at / 1000,
        // One workload with very much evidence must not hide the evidence of others.
        tenant: `${owner.namespace}/${owner.workload}`,
      })),
  },
  {
    name: 'peerscope_novelties_total',
    help: 'Number of novelties of calm workloads since the start, by kind.',
    type: 'counter',
    unit: '{novelty}',
    collector: 'first-seen',
    labels: NOVELTY_COUNTERS.labels,
    fold: [],
    folded: ({ unusual }) => unusual?.novelties.folded ?? 0,
    contributions: ({ unusual }) =>
      Array.from(
        unusual?.novelties.series ?? [],
        ({ labels: [namespace = '', workload = '', kind = ''], sums: [value = 0] }) => ({
          labels: { namespace, workload, kind },
          value,
        }),
      ),
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
    contributions: ({ unusual }) =>
      (unusual?.points ?? []).map(({ owner, points }) => ({ labels: labelsOf(owner), value: points })),
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
    contributions: ({ unusual }) =>
      (unusual?.watchedSince ?? []).map(({ owner, at }) => ({
        labels: { ...labelsOf(owner), scope: unusual?.scope ?? '' },
        value: at / 1000,
      })),
  },
  {
    name: 'peerscope_asn_first_seen_timestamp_seconds',
    help: 'Deprecated: use peerscope_novelty_timestamp_seconds. Unix time at which the workload of an owner first met an ASN. Exported while a connection exists, and for one hour after it was learned.',
    type: 'gauge',
    unit: 's',
    collector: 'first-seen',
    labels: [...OWNER, 'direction', 'asn'],
    fold: [],
    cut: (a, b) => b.value - a.value,
    contributions: ({ unusual }) =>
      (unusual?.firstSeen.asns ?? []).map(({ owner, tenant, direction, asn, at }) => ({
        labels: { ...owner, direction, asn },
        value: at / 1000,
        tenant,
      })),
  },
  {
    name: 'peerscope_baseline_start_timestamp_seconds',
    help: 'Deprecated: use peerscope_workload_watched_since_timestamp_seconds. Unix time since which the workload of an owner has been watched.',
    type: 'gauge',
    unit: 's',
    collector: 'first-seen',
    labels: [...OWNER, 'scope'],
    fold: [],
    cut: (a, b) => a.value - b.value,
    contributions: ({ unusual }) =>
      (unusual?.firstSeen.baselines ?? []).map(({ owner, tenant, at }) => ({
        labels: { ...owner, scope: unusual?.scope ?? '' },
        value: at / 1000,
        tenant,
      })),
  },
];

function labelsOf({ namespace, workload }: Owner): { readonly namespace: string; readonly workload: string } {
  return { namespace, workload };
}
