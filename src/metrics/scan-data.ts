import type { Contribution } from './aggregate.ts';
import type { Group } from './connection-groups.ts';
import type { Total } from '../collect/protocol-counters.ts';
import type { Baseline, FirstSeenAsn } from '../first-seen/memory.ts';
import type { OwnerLabels, Process } from '../model.ts';

/** Data of one scan, from which its families are computed. */
export interface ScanData {
  readonly groups: readonly Group[];
  readonly listeners: readonly Listener[];
  /** Every process that holds a socket. */
  readonly processes: readonly Process[];
  readonly opened: readonly Contribution[];
  readonly closed: readonly Contribution[];
  /** Sums of the kernel's counters, by the pod that namespaces belong to. */
  readonly protocols: { readonly totals: readonly Total[]; readonly folded: number };
  /** New TCP connections seen by those that the kernel counted, of the last five minutes; null when it counted none. */
  readonly coverageRatio: number | null;
  readonly unattributed: ReadonlyMap<string, number>;
  readonly directionsGuessed: number;
  readonly namespaces: Readonly<Record<'read' | 'unchanged' | 'empty' | 'unreadable' | 'no_process', number>>;
  readonly asnNames: ReadonlyMap<string, { readonly name: string; readonly country: string }>;
  /** Counters of the in-process ASN cache; null without a provider. */
  readonly asnCache: { readonly entries: number; readonly lookups: number; readonly hits: number } | null;
  /** Null where it is off. */
  readonly firstSeen: {
    readonly asns: readonly FirstSeenAsn[];
    readonly baselines: readonly Baseline[];
    readonly scope: string;
  } | null;
}

/** A listening TCP socket; `waiting` connections stand in its accept queue. */
export interface Listener {
  readonly labels: OwnerLabels;
  readonly address: string;
  readonly port: number;
  readonly waiting: number;
}
