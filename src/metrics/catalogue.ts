import type { Contribution } from './aggregate.ts';
import type { ProtocolCounter } from '../collect/protocol-counters.ts';
import { isNetworkClass } from '../common/network-class.ts';
import type { FoldStep } from '../common/other.ts';
import type { Process, Sample } from '../model.ts';
import type { ScanData } from './scan-data.ts';

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
  readonly type: 'gauge' | 'counter';
  /** The OpenTelemetry unit (UCUM): `{thing}`, `By`, `s`, `1` for a ratio, "" for info and state families. */
  readonly unit: string;
  /** For counters of the kernel, which start at boot and not with peerscope. */
  readonly sinceBoot?: true;
  /** The family is absent if this collector is off. */
  readonly collector: Collector | null;
  readonly labels: readonly string[];
  /** The steps in which labels fold into `other`, in order. */
  readonly fold: readonly FoldStep[];
  /** For counters that fold where they are counted, since their sums must not decrease: the number of series in `other`. */
  readonly folded?: (source: Source) => number;
  /** A label with unbounded values: new ones fold into `other` once too many were exported within a day. */
  readonly dailyCap?: string;
  /** For families whose values cannot be summed: the order in which samples are kept. The rest is cut, not folded. */
  readonly cut?: (a: Sample, b: Sample) => number;
  readonly contributions: (source: Source) => Iterable<Contribution>;
}

const OWNER = ['process', 'namespace', 'workload'] as const;
const FOLD_OWNER: readonly FoldStep[] = [{ labels: ['workload'] }, { labels: ['namespace'] }, { labels: ['process'] }];

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
    contributions: ({ groups }) => groups.map(({ labels, connections }) => ({ labels, value: connections })),
  },
  {
    name: 'peerscope_asn_connections',
    help: 'Number of sockets with a remote address, by network and ASN of the remote.',
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
      groups.filter(({ hasRemote }) => hasRemote).map(({ labels, connections }) => ({ labels, value: connections })),
  },
  {
    name: 'peerscope_endpoint_connections',
    help: 'Number of connections by service endpoint. A loopback pair is counted once, at its service end.',
    type: 'gauge',
    unit: '{connection}',
    collector: 'endpoints',
    labels: [...OWNER, 'endpoint_group', 'direction', 'transport', 'state'],
    fold: [{ labels: ['endpoint_group'] }, ...FOLD_OWNER],
    dailyCap: 'endpoint_group',
    contributions: ({ groups }) =>
      groups.filter(({ isEndpoint }) => isEndpoint).map(({ labels, connections }) => ({ labels, value: connections })),
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
    help: 'Number of connections waiting in the accept queue of a listening TCP socket.',
    type: 'gauge',
    unit: '{connection}',
    collector: null,
    labels: [...OWNER, 'local_address', 'local_port'],
    fold: [{ labels: ['local_address'] }, { labels: ['local_port'] }, ...FOLD_OWNER],
    contributions: ({ listeners }) =>
      listeners.map(({ labels, address, port, waiting }) => ({
        labels: { ...labels, local_address: address, local_port: String(port) },
        value: waiting,
      })),
  },
  {
    name: 'peerscope_socket_queue_bytes',
    help: 'Bytes in socket queues as counted by the kernel, without listening TCP sockets.',
    type: 'gauge',
    unit: 'By',
    collector: null,
    labels: [...OWNER, 'transport', 'queue'],
    fold: FOLD_OWNER,
    contributions: ({ groups }) =>
      groups
        .filter(({ state }) => state !== 'listen')
        .flatMap(({ labels, receiveQueueBytes, sendQueueBytes }) => [
          { labels: { ...labels, queue: 'receive' }, value: receiveQueueBytes },
          { labels: { ...labels, queue: 'send' }, value: sendQueueBytes },
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
      processes.map(({ labels, state, umask }) => ({
        labels: { ...labels, process_state: state, umask: umask ?? '' },
        value: 1,
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
  perNamespace(
    'peerscope_tcp_active_opens_total',
    '{connection}',
    'Total number of TCP connections opened (ActiveOpens)',
    'activeOpens',
  ),
  perNamespace(
    'peerscope_tcp_passive_opens_total',
    '{connection}',
    'Total number of TCP connections accepted (PassiveOpens)',
    'passiveOpens',
  ),
  perNamespace(
    'peerscope_tcp_attempt_fails_total',
    '{connection}',
    'Total number of failed TCP connection attempts (AttemptFails)',
    'attemptFails',
  ),
  perNamespace(
    'peerscope_tcp_retransmitted_segments_total',
    '{segment}',
    'Total number of TCP segments retransmitted (RetransSegs)',
    'retransmittedSegments',
  ),
  perNamespace(
    'peerscope_tcp_listen_overflows_total',
    '{connection}',
    'Total number of TCP connections dropped because an accept queue was full (ListenOverflows)',
    'listenOverflows',
  ),
  perNamespace(
    'peerscope_udp_receive_buffer_errors_total',
    '{datagram}',
    'Total number of UDP datagrams dropped because a receive buffer was full (RcvbufErrors, IPv4 and IPv6)',
    'udpReceiveBufferErrors',
  ),
  {
    name: 'peerscope_asn_first_seen_timestamp_seconds',
    help: 'Unix time at which an owner was first seen connected to an ASN. Exported while a connection exists, and for one hour after the first one unless peerscope restarts.',
    type: 'gauge',
    unit: 's',
    collector: 'first-seen',
    labels: [...OWNER, 'direction', 'asn'],
    fold: [],
    cut: (a, b) => b.value - a.value,
    contributions: ({ firstSeen }) =>
      (firstSeen?.asns ?? []).map(({ owner, direction, asn, at }) => ({
        labels: { ...owner, direction, asn },
        value: at / 1000,
      })),
  },
  {
    name: 'peerscope_baseline_start_timestamp_seconds',
    help: 'Unix time since which the first-seen ASNs of an owner have been recorded.',
    type: 'gauge',
    unit: 's',
    collector: 'first-seen',
    labels: [...OWNER, 'scope'],
    fold: [],
    cut: (a, b) => a.value - b.value,
    contributions: ({ firstSeen }) =>
      (firstSeen?.baselines ?? []).map(({ owner, at }) => ({
        labels: { ...owner, scope: firstSeen?.scope ?? '' },
        value: at / 1000,
      })),
  },
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
    help: 'Number of network namespaces by status in the last scan. no_process: kept by a mount, without a process through which to read its sockets.',
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
  shownBy: ['peerscope_asn_connections', 'peerscope_asn_first_seen_timestamp_seconds'],
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
      processes.map((process) => ({ labels: { ...process.labels }, value: value(process) })),
  };
}

function perNamespace(name: string, unit: string, help: string, counter: ProtocolCounter): FamilySpec<ScanData> {
  return {
    name,
    help: `${help}, by pod. Network namespaces outside pods are summed under empty labels.`,
    type: 'counter',
    unit,
    sinceBoot: true,
    collector: 'protocols',
    labels: ['namespace', 'pod'],
    fold: [],
    folded: ({ protocols }) => protocols.folded,
    contributions: ({ protocols }) =>
      protocols.totals.map(({ labels, counts }) => ({ labels: { ...labels }, value: counts[counter] })),
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

/** One contribution for each value of a label. */
export function perValue(label: string, entries: Iterable<readonly [string, number]>): Contribution[] {
  return [...entries].map(([key, value]) => ({ labels: { [label]: key }, value }));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
