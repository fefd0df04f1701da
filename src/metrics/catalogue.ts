import type { Contribution } from './aggregate.ts';
import type { ProtocolCounter } from '../collect/protocol-counters.ts';
import { isNetworkClass } from '../common/network-class.ts';
import { escapeOther, OTHER, type FoldStep } from '../common/other.ts';
import { tenantOf } from '../collect/tenant.ts';
import type { FamilyType, Process, Sample } from '../model.ts';
import {
  ASN_COUNTERS,
  ENDPOINT_COUNTERS,
  ROUND_TRIP_COUNTERS,
  type AsnTraffic,
  type Bytes,
  type Traffic,
} from '../traffic/traffic-counters.ts';
import type { ConnectionGroup } from './connection-groups.ts';
import type { ScanData } from './scan-data.ts';
import type { NetlinkStatus } from '../traffic/traffic-collector.ts';
import { UNUSUAL_FAMILIES } from './unusual-families.ts';

/** The collectors of a scan; each exports its duration, and all but `sockets` can be disabled. */
export const COLLECTORS = ['sockets', 'protocols', 'processes', 'asn', 'first-seen', 'endpoints', 'netlink'] as const;
export type Collector = (typeof COLLECTORS)[number];

/** The duration of one collector in the last scan, and whether it read everything. */
export interface CollectorRun {
  readonly collector: Collector;
  readonly seconds: number;
  readonly success: boolean;
}

/** One metric family as data: its metadata, its values, and how it folds to stay within the series limit. */
export interface FamilySpec<Source> {
  readonly name: string;
  readonly help: string;
  readonly type: FamilyType;
  /** The OpenTelemetry unit (UCUM): `{thing}`, `By`, `s`, `1` for a ratio, "" for info and state families. */
  readonly unit: string;
  /** For counters of the kernel, which start at boot and not with peerscope. */
  readonly sinceBoot?: true;
  /** The family is absent if this collector is off. */
  readonly collector: Collector | null;
  /** The family is absent if this collector is off, too. */
  readonly needs?: Collector;
  /** For families of an optional source: the family is absent if this returns true. */
  readonly isAbsent?: (source: Source) => boolean;
  readonly labels: readonly string[];
  /** The steps in which labels fold into `other`, in order. */
  readonly fold: readonly FoldStep[];
  /** For counters that fold where they are counted, since their sums must not decrease: the number of series in `other`. */
  readonly folded?: (source: Source) => number;
  /** For families whose values cannot be summed: the order in which samples are kept. The rest is cut, not folded. */
  readonly cut?: (a: Sample, b: Sample) => number;
  /** For gauges that are 0 most of the time, and say no more by it: a sample of 0 is not published. */
  readonly absentAtZero?: true;
  readonly contributions: (source: Source) => Iterable<Contribution>;
  /** Labels that follow from the other ones, so that they add no series. */
  readonly derived?: {
    readonly labels: readonly string[];
    readonly of: (source: Source, labels: Readonly<Record<string, string>>) => readonly string[];
  };
  /** For summaries, whose values are the sums: the numbers of observations, with equal labels. */
  readonly counts?: (source: Source) => Iterable<Contribution>;
  /** The metric of OpenTelemetry that the family is a part of, and the attributes of this part. */
  readonly otlp?: OtlpPart;
}

/** A metric of the semantic conventions that is made of several Prometheus families. */
export interface OtlpPart {
  readonly name: string;
  readonly description: string;
  readonly attributes: Readonly<Record<string, string>>;
}

const OWNER = ['process', 'namespace', 'workload'] as const;
const FOLD_OWNER: readonly FoldStep[] = [{ labels: ['workload'] }, { labels: ['namespace'] }, { labels: ['process'] }];

const WHEN_PODS = 'Connections of pods are counted when they end.';
const OVER_ASN = `over TCP, by network and ASN of the remote. ${WHEN_PODS}`;
const OVER_ENDPOINT = `over TCP, by service endpoint. ${WHEN_PODS}`;
const ASN_IO = { name: 'peerscope.asn.network.io', description: `Payload bytes ${OVER_ASN}` };
const ENDPOINT_IO = { name: 'peerscope.endpoint.network.io', description: `Payload bytes ${OVER_ENDPOINT}` };
const TRANSMIT = { 'network.io.direction': 'transmit' };
const RECEIVE = { 'network.io.direction': 'receive' };

/** The workload at the other end, where the endpoint has only one; empty if the endpoint is folded. */
const PEER: NonNullable<FamilySpec<ScanData>['derived']> = {
  labels: ['peer_namespace', 'peer_workload'],
  of: ({ endpointPeers }, labels) => {
    const { namespace, workload } = endpointPeers.of(labels);
    return [namespace, workload];
  },
};

/** The families of a scan, in the order of the page. */
export const FAMILIES: readonly FamilySpec<ScanData>[] = [
  {
    name: 'peerscope_connections',
    help: 'Number of sockets in all network namespaces.',
    type: 'gauge',
    unit: '{connection}',
    collector: null,
    labels: [...OWNER, 'pod', 'container', 'transport', 'direction', 'state'],
    fold: [{ labels: ['container'] }, { labels: ['pod'] }, ...FOLD_OWNER],
    contributions: ({ groups }) => groups.map(connectionsOf),
  },
  {
    name: 'peerscope_sockets',
    help: 'Number of sockets of all owners. The network is that of the remote, and empty for listeners.',
    type: 'gauge',
    unit: '{connection}',
    collector: null,
    labels: ['direction', 'state', 'network'],
    fold: [{ labels: ['network'], when: (network) => !isNetworkClass(network) }],
    contributions: ({ groups }) => groups.map(connectionsOf),
  },
  {
    name: 'peerscope_asn_connections',
    help: 'Number of sockets with a remote address, by network and ASN of the remote. Without loopback.',
    type: 'gauge',
    unit: '{connection}',
    collector: 'asn',
    labels: [...OWNER, 'direction', 'network', 'asn', 'state'],
    fold: [
      { labels: ['asn'] },
      ...FOLD_OWNER,
      { labels: ['network'], when: (network) => !isNetworkClass(network) },
      { labels: ['state'] },
    ],
    contributions: ({ groups }) =>
      groups.filter(({ hasRemote, labels }) => hasRemote && labels['direction'] !== 'loopback').map(connectionsOf),
  },
  {
    name: 'peerscope_endpoint_connections',
    help: 'Number of connections by service endpoint. A loopback pair is counted once, at its service end.',
    type: 'gauge',
    unit: '{connection}',
    collector: 'endpoints',
    labels: [...OWNER, 'endpoint_group', 'direction', 'transport', 'state'],
    fold: [{ labels: ['endpoint_group'] }, ...FOLD_OWNER],
    derived: PEER,
    contributions: ({ groups }) => groups.filter(({ isEndpoint }) => isEndpoint).map(connectionsOf),
  },
  {
    name: 'peerscope_loopback_duplicates',
    help: 'Number of sockets not counted in peerscope_endpoint_connections because the other end of their loopback pair is counted.',
    type: 'gauge',
    unit: '{connection}',
    collector: 'endpoints',
    labels: [],
    fold: [],
    contributions: ({ groups }) => [
      {
        labels: {},
        value: sum(groups.filter((group) => group.hasRemote && !group.isEndpoint).map((group) => group.connections)),
      },
    ],
  },
  {
    name: 'peerscope_listener_accept_queue',
    help: 'Number of connections waiting in the accept queue of a listening TCP socket. Absent while it is empty.',
    type: 'gauge',
    absentAtZero: true,
    unit: '{connection}',
    collector: null,
    labels: [...OWNER, 'local_address', 'local_port'],
    fold: [{ labels: ['local_address'] }, { labels: ['local_port'] }, ...FOLD_OWNER],
    contributions: ({ listeners }) =>
      listeners.map(({ labels, tenant, address, port, waiting }) => ({
        labels: { ...labels, local_address: address, local_port: String(port) },
        value: waiting,
        tenant,
      })),
  },
  {
    name: 'peerscope_listener_accept_stalled_seconds',
    help: 'Longest time for which one of the listening TCP sockets has accepted nothing while connections waited. Absent below a minute.',
    type: 'gauge',
    unit: 's',
    collector: null,
    labels: [...OWNER, 'local_address', 'local_port'],
    fold: [],
    cut: (a, b) => b.value - a.value,
    contributions: ({ stalls }) =>
      stalls.map(({ labels, tenant, address, port, seconds }) => ({
        labels: { ...labels, local_address: address, local_port: String(port) },
        value: seconds,
        tenant,
      })),
  },
  {
    name: 'peerscope_ephemeral_ports_used_ratio',
    help: 'Largest fraction of the local ports of a network namespace (ip_local_port_range) that an owner uses for one remote address and port. Absent for up to 100 ports.',
    type: 'gauge',
    unit: '1',
    collector: null,
    labels: OWNER,
    fold: [],
    cut: (a, b) => b.value - a.value,
    contributions: ({ ephemeralPorts }) => ephemeralPorts.map(({ labels, ratio: value }) => ({ labels, value })),
  },
  {
    name: 'peerscope_socket_queue_bytes',
    help: 'Bytes in socket queues as counted by the kernel, without listening TCP sockets. Absent while they are empty.',
    type: 'gauge',
    absentAtZero: true,
    unit: 'By',
    collector: null,
    labels: [...OWNER, 'transport', 'queue'],
    fold: FOLD_OWNER,
    contributions: ({ groups }) =>
      groups
        .filter(({ state }) => state !== 'listen')
        .flatMap(({ queues, tenant, receiveQueueBytes, sendQueueBytes }) => [
          { labels: queues.receive, value: receiveQueueBytes, tenant },
          { labels: queues.send, value: sendQueueBytes, tenant },
        ]),
  },
  {
    name: 'peerscope_processes',
    help: 'Number of processes that hold sockets.',
    type: 'gauge',
    unit: '{process}',
    collector: 'processes',
    labels: [...OWNER, 'process_state', 'umask'],
    fold: [{ labels: ['umask'] }, ...FOLD_OWNER],
    contributions: ({ processes }) =>
      processes.map(({ labels, uid, cgroup, state, umask }) => ({
        labels: { ...labels, process_state: state, umask: umask ?? '' },
        value: 1,
        tenant: tenantOf(labels, uid, cgroup),
      })),
  },
  perProcess(
    'peerscope_process_threads',
    '{thread}',
    'Number of threads of processes that hold sockets.',
    (process) => process.threads,
  ),
  perProcess(
    'peerscope_process_resident_memory_bytes',
    'By',
    'Resident memory of processes that hold sockets. Shared pages are counted once per process.',
    (process) => process.residentMemoryBytes ?? 0,
  ),
  perProcess(
    'peerscope_process_open_fds',
    '{file_descriptor}',
    'Number of open file descriptors of processes that hold sockets.',
    (process) => process.openFds,
  ),
  {
    name: 'peerscope_connections_opened_total',
    help: 'Total number of connections that scans found newly open. Connections found by the first scan are not counted.',
    type: 'counter',
    unit: '{connection}',
    collector: null,
    labels: ['transport', 'direction'],
    fold: [],
    contributions: ({ opened }) => opened,
  },
  {
    name: 'peerscope_connections_closed_total',
    help: 'Total number of connections that were gone at a later scan.',
    type: 'counter',
    unit: '{connection}',
    collector: null,
    labels: ['transport', 'direction'],
    fold: [],
    contributions: ({ closed }) => closed,
  },
  {
    name: 'peerscope_connection_coverage_ratio',
    help: 'Fraction of the new TCP connections counted by the kernel in the last five minutes that scans saw.',
    type: 'gauge',
    unit: '1',
    collector: 'protocols',
    labels: [],
    fold: [],
    contributions: ({ coverageRatio: value }) => (value === null ? [] : [{ labels: {}, value }]),
  },
  ofPod(
    'peerscope_tcp_active_opens_total',
    '{connection}',
    'Total number of TCP connections opened (ActiveOpens)',
    'activeOpens',
  ),
  ofNamespace(
    'peerscope_tcp_passive_opens_total',
    '{connection}',
    'Total number of TCP connections accepted (PassiveOpens)',
    'passiveOpens',
  ),
  ofPod(
    'peerscope_tcp_attempt_fails_total',
    '{connection}',
    'Total number of failed TCP connection attempts (AttemptFails)',
    'attemptFails',
  ),
  ofNamespace(
    'peerscope_tcp_retransmitted_segments_total',
    '{segment}',
    'Total number of TCP segments retransmitted (RetransSegs)',
    'retransmittedSegments',
  ),
  ofPod(
    'peerscope_tcp_listen_overflows_total',
    '{connection}',
    'Total number of TCP connections dropped because an accept queue was full (ListenOverflows)',
    'listenOverflows',
  ),
  ofPod(
    'peerscope_udp_receive_buffer_errors_total',
    '{datagram}',
    'Total number of UDP datagrams dropped because a receive buffer was full (RcvbufErrors, IPv4 and IPv6)',
    'udpReceiveBufferErrors',
  ),
  perAsn('peerscope_asn_sent_bytes_total', 'By', `Total number of payload bytes sent ${OVER_ASN}`, 'sentBytes', {
    ...ASN_IO,
    attributes: TRANSMIT,
  }),
  perAsn(
    'peerscope_asn_received_bytes_total',
    'By',
    `Total number of payload bytes received ${OVER_ASN}`,
    'receivedBytes',
    { ...ASN_IO, attributes: RECEIVE },
  ),
  perAsn(
    'peerscope_asn_retransmitted_bytes_total',
    'By',
    `Total number of payload bytes sent again ${OVER_ASN}`,
    'retransmittedBytes',
  ),
  perAsn(
    'peerscope_asn_closed_connections_total',
    '{connection}',
    'Total number of TCP connections that ended, however short, by network and ASN of the remote.',
    'closedConnections',
  ),
  perEndpoint(
    'peerscope_endpoint_sent_bytes_total',
    `Total number of payload bytes sent ${OVER_ENDPOINT}`,
    'sentBytes',
    {
      ...ENDPOINT_IO,
      attributes: TRANSMIT,
    },
  ),
  perEndpoint(
    'peerscope_endpoint_received_bytes_total',
    `Total number of payload bytes received ${OVER_ENDPOINT}`,
    'receivedBytes',
    { ...ENDPOINT_IO, attributes: RECEIVE },
  ),
  {
    name: 'peerscope_asn_round_trip_seconds',
    help: 'Minimum round-trip time of TCP connections, by network and ASN of the remote. Observed when a connection ends, and at most once a minute while it is open; connections of pods are observed when they end.',
    type: 'summary',
    unit: 's',
    collector: 'netlink',
    needs: 'asn',
    isAbsent: (data) => trafficOf(data) === null,
    labels: ROUND_TRIP_COUNTERS.labels,
    fold: ROUND_TRIP_COUNTERS.fold,
    folded: (data) => trafficOf(data)?.folded.roundTrips ?? 0,
    contributions: (data) =>
      (trafficOf(data)?.roundTrips ?? []).map(({ labels, sumSeconds: value }) => ({ labels, value })),
    counts: (data) => (trafficOf(data)?.roundTrips ?? []).map(({ labels, count: value }) => ({ labels, value })),
  },
  perSource(
    'peerscope_netlink_up',
    'gauge',
    '',
    'Whether the source of socket totals is connected: 1 if yes, 0 otherwise. Scope "own": one network namespace; "all": also the ended sockets of other network namespaces.',
    ['scope'],
    ({ scope, isUp }) => ({ labels: { scope }, value: Number(isUp) }),
  ),
  perSource(
    'peerscope_socket_events_total',
    'counter',
    '{event}',
    'Total number of ended TCP sockets that the kernel reported.',
    ['scope'],
    ({ scope, events: value }) => ({ labels: { scope }, value }),
  ),
  perSource(
    'peerscope_socket_event_overruns_total',
    'counter',
    '{overrun}',
    'Total number of reports of ended TCP sockets that were lost because a buffer was full. A broken connection to the socket agent counts as one.',
    ['scope'],
    ({ scope, overruns: value }) => ({ labels: { scope }, value }),
  ),
  perSource(
    'peerscope_connections_closed_without_totals_total',
    'counter',
    '{connection}',
    'Total number of TCP connections that ended without a report. Their bytes since the last scan that saw them are not counted.',
    [],
    ({ closedWithoutTotals: value }) => ({ labels: {}, value }),
  ),
  ...UNUSUAL_FAMILIES,
  {
    name: 'peerscope_sockets_unattributed',
    help: 'Number of sockets without a known process, by reason.',
    type: 'gauge',
    unit: '{connection}',
    collector: 'processes',
    labels: ['reason'],
    fold: [],
    contributions: ({ unattributed }) => perValue('reason', unattributed),
  },
  {
    name: 'peerscope_direction_guessed',
    help: 'Number of sockets whose direction is guessed from port numbers.',
    type: 'gauge',
    unit: '{connection}',
    collector: null,
    labels: [],
    fold: [],
    contributions: ({ directionsGuessed }) => [{ labels: {}, value: directionsGuessed }],
  },
  {
    name: 'peerscope_network_namespaces',
    help: 'Number of network namespaces by status in the last scan. incomplete: some rows are missing or of an earlier scan, for lack of time or memory. unreadable: for lack of permission. no_process: kept by a mount, without a process through which to read its sockets.',
    type: 'gauge',
    unit: '{namespace}',
    collector: null,
    labels: ['status'],
    fold: [],
    contributions: ({ namespaces }) => perValue('status', Object.entries(namespaces)),
  },
  perCache(
    'peerscope_asn_cache_entries',
    'gauge',
    '{entry}',
    'Number of entries in the in-process ASN cache.',
    'entries',
  ),
  perCache(
    'peerscope_asn_cache_lookups_total',
    'counter',
    '{lookup}',
    'Total number of lookups in the in-process ASN cache.',
    'lookups',
  ),
  perCache(
    'peerscope_asn_cache_hits_total',
    'counter',
    '{lookup}',
    'Total number of lookups answered by the in-process ASN cache.',
    'hits',
  ),
];

/** peerscope_asn_info has one series for every exported ASN, so a join on `asn` drops nothing. */
export const ASN_INFO = {
  name: 'peerscope_asn_info',
  help: 'Name and registration country of each exported ASN, always 1. ASN "0": not announced; "other": folded; "": not public or not yet resolved.',
  type: 'gauge',
  unit: '',
  labels: ['asn', 'as_name', 'as_country'],
  fold: [{ labels: ['asn'] }],
  /** The families whose ASNs it covers. If it is cut, the ASNs of the first family are kept. */
  shownBy: [
    'peerscope_asn_connections',
    'peerscope_asn_first_seen_timestamp_seconds',
    'peerscope_asn_sent_bytes_total',
    'peerscope_asn_round_trip_seconds',
  ],
} as const;

/** The samples of peerscope_asn_info for these values of the label `asn`, in the same order. */
export function asnInfo(shown: Iterable<string>, names: ScanData['asnNames']): Sample[] {
  return [...new Set(shown)].map((asn) => {
    const known = names.get(asn);
    const name = asn === '0' ? 'not announced' : (known?.name ?? '');
    return { labels: [asn, name, known?.country ?? ''], value: 1 };
  });
}

/** The collector of a family; null for families that do not depend on a collector. */
export function collectorOf(family: string): Collector | null {
  if (family === ASN_INFO.name) return 'asn';
  const spec = FAMILIES.find(({ name }) => name === family);
  return spec ? (spec.collector ?? 'sockets') : null;
}

function connectionsOf({ labels, tenant, connections }: ConnectionGroup): Contribution {
  return { labels, value: connections, tenant };
}

function perProcess(
  name: string,
  unit: string,
  help: string,
  value: (process: Process) => number,
): FamilySpec<ScanData> {
  return {
    name,
    help,
    type: 'gauge',
    unit,
    collector: 'processes',
    labels: OWNER,
    fold: FOLD_OWNER,
    contributions: ({ processes }) =>
      processes.map((process) => ({
        labels: { ...process.labels },
        value: value(process),
        tenant: tenantOf(process.labels, process.uid, process.cgroup),
      })),
  };
}

/** For counters that alerts read: the pod is in their texts. */
function ofPod(name: string, unit: string, help: string, counter: ProtocolCounter): FamilySpec<ScanData> {
  return {
    name,
    help: `${help}, by pod. Network namespaces outside pods are summed under empty labels.`,
    type: 'counter',
    unit,
    sinceBoot: true,
    collector: 'protocols',
    labels: ['namespace', 'pod'],
    fold: [],
    folded: ({ protocols }) => protocols.byPod.folded,
    contributions: ({ protocols }) =>
      protocols.byPod.totals.map(({ labels, counts }) => ({ labels: { ...labels }, value: counts[counter] })),
  };
}

/** For counters that nodes are compared by. */
function ofNamespace(name: string, unit: string, help: string, counter: ProtocolCounter): FamilySpec<ScanData> {
  return {
    name,
    help: `${help}, by Kubernetes namespace. Network namespaces outside pods are summed under an empty label.`,
    type: 'counter',
    unit,
    sinceBoot: true,
    collector: 'protocols',
    labels: ['namespace'],
    fold: [],
    folded: ({ protocols }) => protocols.byNamespace.folded,
    contributions: ({ protocols }) =>
      protocols.byNamespace.totals.map(({ labels: { namespace, pod }, counts }) => ({
        labels: { namespace: pod === OTHER ? OTHER : escapeOther(namespace) },
        value: counts[counter],
      })),
  };
}

function perCache(
  name: string,
  type: 'gauge' | 'counter',
  unit: string,
  help: string,
  field: 'entries' | 'lookups' | 'hits',
): FamilySpec<ScanData> {
  return {
    name,
    help,
    type,
    unit,
    collector: 'asn',
    labels: [],
    fold: [],
    contributions: ({ asnCache }) => (asnCache ? [{ labels: {}, value: asnCache[field] }] : []),
  };
}

function perAsn(
  name: string,
  unit: string,
  help: string,
  field: keyof AsnTraffic,
  otlp?: OtlpPart,
): FamilySpec<ScanData> {
  return {
    name,
    help,
    type: 'counter',
    unit,
    collector: 'netlink',
    needs: 'asn',
    isAbsent: (data) => trafficOf(data) === null,
    labels: ASN_COUNTERS.labels,
    fold: ASN_COUNTERS.fold,
    folded: (data) => trafficOf(data)?.folded.asn ?? 0,
    contributions: (data) => (trafficOf(data)?.asn ?? []).map(({ labels, [field]: value }) => ({ labels, value })),
    ...(otlp && { otlp }),
  };
}

function perEndpoint(name: string, help: string, field: keyof Bytes, otlp: OtlpPart): FamilySpec<ScanData> {
  return {
    name,
    help,
    type: 'counter',
    unit: 'By',
    collector: 'netlink',
    needs: 'endpoints',
    isAbsent: (data) => trafficOf(data) === null,
    labels: ENDPOINT_COUNTERS.labels,
    fold: ENDPOINT_COUNTERS.fold,
    derived: PEER,
    folded: (data) => trafficOf(data)?.folded.endpoints ?? 0,
    contributions: (data) =>
      (trafficOf(data)?.endpoints ?? []).map(({ labels, [field]: value }) => ({ labels, value })),
    otlp,
  };
}

/** The counters of traffic; null while their source is not connected, since they would then seem to stand still. */
function trafficOf({ netlink, traffic }: ScanData): Traffic | null {
  return netlink?.isUp ? traffic : null;
}

function perSource(
  name: string,
  type: 'gauge' | 'counter',
  unit: string,
  help: string,
  labels: readonly string[],
  contribution: (status: NetlinkStatus) => Contribution,
): FamilySpec<ScanData> {
  return {
    name,
    help,
    type,
    unit,
    collector: 'netlink',
    isAbsent: ({ netlink }) => netlink === null,
    labels,
    fold: [],
    contributions: ({ netlink }) => (netlink ? [contribution(netlink)] : []),
  };
}

/** One contribution for each value of a label. */
export function perValue(label: string, entries: Iterable<readonly [string, number]>): Contribution[] {
  return [...entries].map(([key, value]) => ({ labels: { [label]: key }, value }));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
