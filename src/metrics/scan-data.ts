import type { Stall } from './accept-queues.ts';
import type { Contribution } from './aggregate.ts';
import type { ConnectionGroup } from './connection-groups.ts';
import type { PortUse } from './ephemeral-ports.ts';
import type { EndpointPeers } from './endpoint-peers.ts';
import type { ProtocolSums } from '../collect/protocol-counters.ts';
import type { AsnNames } from '../enrich/peers.ts';
import type { OwnerLabels, Process } from '../model.ts';
import type { NetlinkStatus } from '../traffic/traffic-collector.ts';
import type { Traffic } from '../traffic/traffic-counters.ts';
import type { UnusualData } from './unusual-families.ts';

/** Data of one scan, from which its families are computed. */
export interface ScanData {
  readonly groups: readonly ConnectionGroup[];
  readonly endpointPeers: Pick<EndpointPeers, 'of'>;
  readonly listeners: readonly Listener[];
  /** Listeners that accept nothing. */
  readonly stalls: readonly Stall[];
  /** Owners that use many local ports for one destination. */
  readonly ephemeralPorts: readonly PortUse[];
  /** The processes that hold a socket. */
  readonly processes: readonly Process[];
  readonly opened: readonly Contribution[];
  readonly closed: readonly Contribution[];
  /** Kernel counters summed by pod. */
  readonly protocols: Record<'byPod' | 'byNamespace', Pick<ProtocolSums, 'totals' | 'folded'>>;
  /** The fraction of the new TCP connections of the last five minutes that scans saw; null if there were none. */
  readonly coverageRatio: number | null;
  readonly unattributed: ReadonlyMap<string, number>;
  readonly directionsGuessed: number;
  readonly namespaces: Readonly<
    Record<'read' | 'unchanged' | 'empty' | 'unreadable' | 'incomplete' | 'no_process', number>
  >;
  readonly asnNames: AsnNames;
  /** Null without an ASN provider. */
  readonly asnCache: { readonly entries: number; readonly lookups: number; readonly hits: number } | null;
  /** Null if the collector is off. */
  readonly unusual: UnusualData | null;
  /** Null if no socket source was asked for. */
  readonly traffic: Traffic | null;
  readonly netlink: NetlinkStatus | null;
}

/** A listening TCP socket; `waiting` is the length of its accept queue. */
export interface Listener {
  readonly labels: OwnerLabels;
  readonly tenant: string;
  readonly address: string;
  readonly port: number;
  readonly inode: number;
  readonly waiting: number;
}
