import { isNetworkClass, NETWORK_CLASSES } from '../common/network-class.ts';
import type { FoldStep } from '../common/other.ts';
import type { Direction, OwnerLabels } from '../model.ts';
import { BoundedCounters, type CounterSpec } from './bounded-counters.ts';

/** The owner labels of counters. */
export type TrafficOwner = Pick<OwnerLabels, 'process' | 'namespace' | 'workload'>;

/** An owner and the network operator that it exchanges traffic with. */
export interface AsnLabels extends TrafficOwner {
  readonly direction: Direction;
  readonly network: string;
  readonly asn: string;
}

/** An owner and a service endpoint. */
export interface EndpointLabels extends TrafficOwner {
  readonly endpoint_group: string;
  readonly direction: Direction;
}

export type RoundTripLabels = Pick<AsnLabels, 'direction' | 'network' | 'asn'>;

/** Payload bytes. */
export interface Bytes {
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/** Payload bytes, and the connections that ended. */
export interface AsnTraffic extends Bytes {
  readonly retransmittedBytes: number;
  readonly closedConnections: number;
}

type Labeled = { readonly labels: Readonly<Record<string, string>> };

/** The counters at the time of a scan, with the number of label sets that are folded. */
export interface Traffic {
  readonly asn: readonly (Labeled & AsnTraffic)[];
  readonly endpoints: readonly (Labeled & Bytes)[];
  readonly roundTrips: readonly (Labeled & { readonly sumSeconds: number; readonly count: number })[];
  readonly folded: Readonly<Record<'asn' | 'endpoints' | 'roundTrips', number>>;
}

const FOLD_OWNER: readonly FoldStep[] = [{ labels: ['workload'] }, { labels: ['namespace'] }, { labels: ['process'] }];
const FOLD_NETWORK: FoldStep = { labels: ['network'], when: (network) => !isNetworkClass(network) };
/** Connections are inbound, outbound or loopback. */
const DIRECTIONS = 3;
/** Operator networks fold into one. */
const NETWORKS = NETWORK_CLASSES.length + 1;

export const ASN_COUNTERS = {
  labels: ['process', 'namespace', 'workload', 'direction', 'network', 'asn'],
  fold: [{ labels: ['asn'] }, ...FOLD_OWNER, FOLD_NETWORK],
  values: 4,
  wholeFolds: DIRECTIONS * NETWORKS,
} satisfies CounterSpec;

export const ENDPOINT_COUNTERS = {
  labels: ['process', 'namespace', 'workload', 'endpoint_group', 'direction'],
  fold: [{ labels: ['endpoint_group'] }, ...FOLD_OWNER],
  values: 2,
  wholeFolds: DIRECTIONS,
} satisfies CounterSpec;

export const ROUND_TRIP_COUNTERS = {
  labels: ['direction', 'network', 'asn'],
  fold: [{ labels: ['asn'] }, FOLD_NETWORK],
  values: 2,
  wholeFolds: DIRECTIONS * NETWORKS,
} satisfies CounterSpec;

/** Payload bytes, ended connections and round-trip times since the start, by owner and remote. They only grow. */
export class TrafficCounters {
  readonly #asn: BoundedCounters;
  readonly #endpoints: BoundedCounters;
  readonly #roundTrips: BoundedCounters;

  /** `limit` is the maximum number of series of each family. */
  constructor(limit: number) {
    this.#asn = new BoundedCounters(ASN_COUNTERS, limit);
    this.#endpoints = new BoundedCounters(ENDPOINT_COUNTERS, limit);
    this.#roundTrips = new BoundedCounters(ROUND_TRIP_COUNTERS, limit);
  }

  /** Begins a scan, before anything is added; `now` in milliseconds of a clock that never goes back. */
  beginScan(now: number): void {
    this.#asn.beginScan(now);
    this.#endpoints.beginScan(now);
    this.#roundTrips.beginScan(now);
  }

  /** Adds traffic with a network operator. All increments may be 0: this keeps the series of a quiet connection. */
  addAsn({ process, namespace, workload, direction, network, asn }: AsnLabels, traffic: AsnTraffic, tenant = ''): void {
    const { sentBytes, receivedBytes, retransmittedBytes, closedConnections } = traffic;
    this.#asn.add(
      [process, namespace, workload, direction, network, asn],
      [sentBytes, receivedBytes, retransmittedBytes, closedConnections],
      shareOf(tenant, direction),
    );
  }

  /** Adds traffic with a service endpoint. */
  addEndpoint(
    { process, namespace, workload, endpoint_group, direction }: EndpointLabels,
    bytes: Bytes,
    tenant = '',
  ): void {
    this.#endpoints.add(
      [process, namespace, workload, endpoint_group, direction],
      [bytes.sentBytes, bytes.receivedBytes],
      shareOf(tenant, direction),
    );
  }

  /** Adds `count` observed round-trip times with this sum. */
  addRoundTrip({ direction, network, asn }: RoundTripLabels, sumSeconds: number, count: number): void {
    this.#roundTrips.add([direction, network, asn], [sumSeconds, count]);
  }

  /** The counters so far. */
  get traffic(): Traffic {
    return {
      asn: Array.from(this.#asn.series, ({ labels, sums }) => ({
        labels: labeled(ASN_COUNTERS, labels),
        sentBytes: sums[0] ?? 0,
        receivedBytes: sums[1] ?? 0,
        retransmittedBytes: sums[2] ?? 0,
        closedConnections: sums[3] ?? 0,
      })),
      endpoints: Array.from(this.#endpoints.series, ({ labels, sums }) => ({
        labels: labeled(ENDPOINT_COUNTERS, labels),
        sentBytes: sums[0] ?? 0,
        receivedBytes: sums[1] ?? 0,
      })),
      roundTrips: Array.from(this.#roundTrips.series, ({ labels, sums }) => ({
        labels: labeled(ROUND_TRIP_COUNTERS, labels),
        sumSeconds: sums[0] ?? 0,
        count: sums[1] ?? 0,
      })),
      folded: { asn: this.#asn.folded, endpoints: this.#endpoints.folded, roundTrips: this.#roundTrips.folded },
    };
  }
}

/** Remote hosts choose what is inbound: they take no places of what a tenant calls. */
function shareOf(tenant: string, direction: Direction): string {
  return direction === 'inbound' && tenant !== '' ? `${tenant} inbound` : tenant;
}

function labeled({ labels }: CounterSpec, values: readonly string[]): Record<string, string> {
  return Object.fromEntries(labels.map((label, i) => [label, values[i] ?? '']));
}
