import type { Contribution, FoldStep } from './aggregate.ts';
import type { ProtocolCounter, Total } from '../collect/protocol-counters.ts';
import type { Baseline, FirstSeen } from '../first-seen/memory.ts';
import { isNetworkClass } from '../common/network-class.ts';
import type { Group } from './connection-groups.ts';
import type { AsnStatus, OwnerLabels, Process, Sample } from '../model.ts';

/** The parts of a scan that can be switched off and that publish their cost. */
export const COLLECTORS = ['sockets', 'protocols', 'processes', 'asn', 'first-seen', 'endpoints'] as const;
export type Collector = (typeof COLLECTORS)[number];

/** What one scan found, as the families see it. */
export interface Census {
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
    readonly meetings: readonly FirstSeen[];
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

/** What a page tells about the exporter itself at the moment it is asked. */
export interface Status {
  readonly version: string;
  readonly snapshotAtSeconds: number;
  readonly collectors: readonly CollectorRun[];
  /** Failures of the worker thread since the start. */
  readonly workerFailures: number;
  readonly asn: AsnStatus | null;
  /** Null where nothing is kept beyond the process. */
  readonly store: { readonly name: string; readonly up: boolean; readonly failures: number } | null;
  /** By the socket table that held them. */
  readonly malformedRows: ReadonlyMap<string, number>;
  /** Whether the file of --config.file held what is in use when it was read last; null without one. */
  readonly configIsCurrent: boolean | null;
  /** Whether the file of --web.config.file holds what is in use; null without one. */
  readonly webConfigIsCurrent: boolean | null;
  /** The resources of Kubernetes that are watched; none where it is off. */
  readonly kubernetes: readonly { readonly resource: string; readonly up: boolean }[];
  /** Null where nothing is sent by OTLP. */
  readonly otlp: { readonly exports: number; readonly failures: number } | null;
}

/** What one collector cost in the last scan, and whether it saw all that it should. */
export interface CollectorRun {
  readonly collector: Collector;
  readonly seconds: number;
  readonly success: boolean;
}

/** How one family kept to its budget in the last scan. */
export interface Budget {
  readonly family: string;
  readonly limit: number;
  readonly folded: number;
}

/** One metric family as data: how what was found contributes to it, and how it may fold to keep its budget. */
export interface FamilySpec<Source> {
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter';
  /** What OpenTelemetry is told that the values are (UCUM): `{thing}`, `By`, `s`, `1` for a ratio, "" for a fact or a state. */
  readonly unit: string;
  /** Of a counter of the kernel: it did not begin at 0 with the exporter, but counts since the boot. */
  readonly sinceBoot?: true;
  /** The family is absent when this collector is off. */
  readonly collector: Collector | null;
  readonly labels: readonly string[];
  /** The steps in which labels may fold into `other`, first to last. */
  readonly fold: readonly FoldStep[];
  /** Of a counter that is folded where it is counted (its sums must not fall): how many of its series are in `other`. */
  readonly folded?: (source: Source) => number;
  /** The label whose values may come and go without end: newcomers read `other` once too many were shown within a day. */
  readonly turnover?: string;
  /** Of a family whose values cannot be added up: its samples in the order in which they are kept. It is cut instead of folded. */
  readonly cut?: (a: Sample, b: Sample) => number;
  readonly contributions: (source: Source) => Iterable<Contribution>;
}

/** The attributes that stand for labels in OTLP; any other label is `peerscope.` and its name. */
export const ATTRIBUTES: ReadonlyMap<string, string> = new Map([
  ['process', 'process.executable.name'],
  ['namespace', 'k8s.namespace.name'],
  ['pod', 'k8s.pod.name'],
  ['container', 'k8s.container.name'],
  ['transport', 'network.transport'],
  ['state', 'network.connection.state'],
  ['asn', 'network.peer.as.number'],
  ['as_name', 'network.peer.as.organization.name'],
  ['local_address', 'network.local.address'],
  ['local_port', 'network.local.port'],
]);

/** The labels whose values are integers as attributes. */
export const INTEGER_LABELS: ReadonlySet<string> = new Set(['asn', 'local_port']);

const OWNER = ['process', 'namespace', 'workload'] as const;
const FOLD_OWNER: readonly FoldStep[] = [{ labels: ['workload'] }, { labels: ['namespace'] }, { labels: ['process'] }];

/** The families of what a scan finds, in the order of the page. */
export const FAMILIES: readonly FamilySpec<Census>[] = [
  {
    name: 'peerscope_connections',
    help: 'Socket rows of all network namespaces, by owner, transport, direction and state.',
    type: 'gauge',
    unit: '{connection}',
    collector: null,
    labels: [...OWNER, 'pod', 'container', 'transport', 'direction', 'state'],
    fold: [{ labels: ['container'] }, { labels: ['pod'] }, ...FOLD_OWNER],
    contributions: ({ groups }) => groups.map(({ labels, connections }) => ({ labels, value: connections })),
  },
  {
    name: 'peerscope_asn_connections',
    help: 'Socket rows with a remote address, by owner and by the network and ASN of the remote.',
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
    help: 'Connections by the service they belong to; of a loopback pair the service end alone.',
    type: 'gauge',
    unit: '{connection}',
    collector: 'endpoints',
    labels: [...OWNER, 'endpoint_group', 'direction', 'transport', 'state'],
    fold: [{ labels: ['endpoint_group'] }, ...FOLD_OWNER],
    turnover: 'endpoint_group',
    contributions: ({ groups }) =>
      groups.filter(({ isEndpoint }) => isEndpoint).map(({ labels, connections }) => ({ labels, value: connections })),
  },
  {
    name: 'peerscope_loopback_duplicates',
    help: 'Rows left out of peerscope_endpoint_connections because the other end of the loopback pair was counted.',
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
    help: 'Connections that a listening TCP socket has yet to accept.',
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
    help: 'Bytes in socket queues as the kernel counts them, listening TCP sockets left out.',
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
    help: 'Processes that hold sockets.',
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
    'Threads of the processes that hold sockets.',
    (process) => process.threads,
  ),
  perProcess(
    'peerscope_process_resident_memory_bytes',
    'By',
    'Resident memory of the processes that hold sockets; shared pages count in each.',
    (process) => process.residentMemoryBytes ?? 0,
  ),
  perProcess(
    'peerscope_process_open_fds',
    '{file_descriptor}',
    'Open file descriptors of the processes that hold sockets.',
    (process) => process.openFds,
  ),
  {
    name: 'peerscope_connections_opened_total',
    help: 'Connections that scans saw for the first time; what the first scan finds was not opened.',
    type: 'counter',
    unit: '{connection}',
    collector: null,
    labels: ['transport', 'direction'],
    fold: [],
    contributions: ({ opened }) => opened,
  },
  {
    name: 'peerscope_connections_closed_total',
    help: 'Connections whose row was gone at a later scan.',
    type: 'counter',
    unit: '{connection}',
    collector: null,
    labels: ['transport', 'direction'],
    fold: [],
    contributions: ({ closed }) => closed,
  },
  {
    name: 'peerscope_connection_coverage_ratio',
    help: 'New TCP connections that scans saw in the last five minutes, by those that the kernel counted: how much a poll misses.',
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
    'TCP connections opened from here (ActiveOpens).',
    'activeOpens',
  ),
  perNamespace(
    'peerscope_tcp_passive_opens_total',
    '{connection}',
    'TCP connections accepted here (PassiveOpens).',
    'passiveOpens',
  ),
  perNamespace(
    'peerscope_tcp_attempt_fails_total',
    '{connection}',
    'TCP connections that failed to open (AttemptFails).',
    'attemptFails',
  ),
  perNamespace(
    'peerscope_tcp_retransmitted_segments_total',
    '{segment}',
    'TCP segments sent again (RetransSegs).',
    'retransmittedSegments',
  ),
  perNamespace(
    'peerscope_tcp_listen_overflows_total',
    '{connection}',
    'TCP connections dropped because an accept queue was full (ListenOverflows).',
    'listenOverflows',
  ),
  perNamespace(
    'peerscope_udp_receive_buffer_errors_total',
    '{datagram}',
    'UDP datagrams dropped because a receive buffer was full (RcvbufErrors, IPv4 and IPv6).',
    'udpReceiveBufferErrors',
  ),
  {
    name: 'peerscope_asn_first_seen_timestamp_seconds',
    help: 'When an owner first met a network operator, in seconds since 1970; shown while it is present, and for an hour after it was new, unless the exporter restarts in that hour.',
    type: 'gauge',
    unit: 's',
    collector: 'first-seen',
    labels: [...OWNER, 'direction', 'asn'],
    fold: [],
    cut: (a, b) => b.value - a.value,
    contributions: ({ firstSeen }) =>
      (firstSeen?.meetings ?? []).map(({ owner, direction, asn, at }) => ({
        labels: { ...owner, direction, asn },
        value: at / 1000,
      })),
  },
  {
    name: 'peerscope_baseline_start_timestamp_seconds',
    help: 'Since when the network operators of an owner have been remembered, in seconds since 1970.',
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
    help: 'Socket rows without a process, by the reason why none is known; short_lived: ended before a scan saw them open.',
    type: 'gauge',
    unit: '{connection}',
    collector: 'processes',
    labels: ['reason'],
    fold: [],
    contributions: ({ unattributed }) => counts('reason', unattributed),
  },
  {
    name: 'peerscope_direction_guessed',
    help: 'Socket rows whose direction is a guess by port number.',
    type: 'gauge',
    unit: '{connection}',
    collector: null,
    labels: [],
    fold: [],
    contributions: ({ directionsGuessed }) => [{ labels: {}, value: directionsGuessed }],
  },
  {
    name: 'peerscope_network_namespaces',
    help: 'Network namespaces by what the last scan did with them; no_process: kept by a mount alone, without a process that shows its sockets.',
    type: 'gauge',
    unit: '{namespace}',
    collector: null,
    labels: ['status'],
    fold: [],
    contributions: ({ namespaces }) => counts('status', Object.entries(namespaces)),
  },
  perCache('peerscope_asn_cache_entries', 'gauge', '{entry}', 'Answers held in the in-process ASN cache.', 'entries'),
  perCache(
    'peerscope_asn_cache_lookups_total',
    'counter',
    '{lookup}',
    'Lookups in the in-process ASN cache.',
    'lookups',
  ),
  perCache(
    'peerscope_asn_cache_hits_total',
    'counter',
    '{lookup}',
    'Lookups that the in-process ASN cache answered.',
    'hits',
  ),
];

/** The families that say how the exporter itself is doing; they never fold. */
export const STATUS_FAMILIES: readonly FamilySpec<Status>[] = [
  perCollector(
    'peerscope_scrape_collector_duration_seconds',
    's',
    'Time that a collector took in the last scan.',
    (run) => run.seconds,
  ),
  perCollector(
    'peerscope_scrape_collector_success',
    '',
    'Whether a collector saw all that it should in the last scan, within the time that the scraper gave.',
    (run) => Number(run.success),
  ),
  status(
    'peerscope_snapshot_timestamp_seconds',
    'gauge',
    's',
    'When the scan behind this page was taken, in seconds since 1970.',
    [],
    ({ snapshotAtSeconds: value }) => (value > 0 ? [{ labels: {}, value }] : []),
  ),
  status(
    'peerscope_worker_failures_total',
    'counter',
    '{failure}',
    'Failures of the worker thread that scans and renders: requests and notifications that failed, and unexpected exits.',
    [],
    ({ workerFailures: value }) => [{ labels: {}, value }],
  ),
  status(
    'peerscope_malformed_rows_total',
    'counter',
    '{row}',
    'Lines of a socket table, or of a reply of the ASN provider, that could not be read or answered what was not asked.',
    ['source'],
    ({ malformedRows, asn }) =>
      counts('source', asn ? [...malformedRows, [asn.provider, asn.malformedRows]] : malformedRows),
  ),
  perProvider(
    'peerscope_asn_pending',
    'gauge',
    '{network}',
    'Networks that wait for an answer of the ASN provider.',
    [],
    (asn) => asn.pending,
  ),
  perProvider(
    'peerscope_asn_queries_total',
    'counter',
    '{query}',
    'Sessions held with the ASN provider.',
    ['provider'],
    (asn) => asn.queries,
  ),
  perProvider(
    'peerscope_asn_query_failures_total',
    'counter',
    '{query}',
    'Sessions with the ASN provider that failed.',
    ['provider'],
    (asn) => asn.queryFailures,
  ),
  perProvider(
    'peerscope_asn_addresses_sent_total',
    'counter',
    '{address}',
    'Network addresses (of a /24 or /48) sent to the ASN provider.',
    ['provider'],
    (asn) => asn.addressesSent,
  ),
  perProvider(
    'peerscope_asn_breaker_open',
    'gauge',
    '',
    'Whether the ASN provider is left alone for a while because it failed.',
    [],
    (asn) => Number(asn.breakerOpen),
  ),
  status(
    'peerscope_store_up',
    'gauge',
    '',
    'Whether the store of ASN answers and first times can be used.',
    ['store'],
    ({ store }) => (store ? [{ labels: { store: store.name }, value: Number(store.up) }] : []),
  ),
  status(
    'peerscope_store_failures_total',
    'counter',
    '{failure}',
    'Times that the store was used and failed: commands and connections of a server, uses of a file that made it rest for a minute.',
    ['store'],
    ({ store }) => (store ? [{ labels: { store: store.name }, value: store.failures }] : []),
  ),
  status(
    'peerscope_config_current',
    'gauge',
    '',
    'Whether the configuration in use is what the file held when it was read last; 0 where that could not be used.',
    [],
    ({ configIsCurrent: value }) => (value === null ? [] : [{ labels: {}, value: Number(value) }]),
  ),
  status(
    'peerscope_web_config_current',
    'gauge',
    '',
    'Whether the web configuration in use is the one on disk; 0 where that was changed to one that cannot be used.',
    [],
    ({ webConfigIsCurrent: value }) => (value === null ? [] : [{ labels: {}, value: Number(value) }]),
  ),
  status(
    'peerscope_kubernetes_watch_up',
    'gauge',
    '',
    'Whether a resource of the Kubernetes API is being watched.',
    ['resource'],
    ({ kubernetes }) => kubernetes.map(({ resource, up }) => ({ labels: { resource }, value: Number(up) })),
  ),
  perExport('peerscope_otlp_exports_total', 'Exports by OTLP that the receiver took.', 'exports'),
  perExport(
    'peerscope_otlp_export_failures_total',
    'Exports by OTLP that failed, or of which the receiver took a part alone.',
    'failures',
  ),
  status(
    'peerscope_build_info',
    'gauge',
    '',
    'The version of peerscope and of Node.js.',
    ['version', 'node_version'],
    (status) => [{ labels: { version: status.version, node_version: process.versions.node }, value: 1 }],
  ),
];

/** The families that say how the budget of the others was kept. */
export const BUDGET_FAMILIES: readonly FamilySpec<readonly Budget[]>[] = [
  perFamily('peerscope_series_limit', 'The most series that a family may have.', (budget) => budget.limit),
  perFamily(
    'peerscope_series_folded',
    'Series of a family that are not shown under their own labels but in "other"; of an info family, not shown at all.',
    (budget) => budget.folded,
  ),
];

/** The series of peerscope_asn_info: one for every ASN shown, so that a join on `asn` drops nothing. */
export const ASN_INFO = {
  name: 'peerscope_asn_info',
  help: 'The name and country of registration of each ASN shown; "0" is not announced, "other" is folded, "" is not public or not resolved yet.',
  type: 'gauge',
  unit: '',
  labels: ['asn', 'as_name', 'as_country'],
  fold: [{ labels: ['asn'] }],
  /** The families whose values of `asn` it explains; where it is cut, those of the first stay. */
  shownBy: ['peerscope_asn_connections', 'peerscope_asn_first_seen_timestamp_seconds'],
} as const;

/** The samples of peerscope_asn_info for these values of the label `asn`, in their order. */
export function asnInfo(shown: Iterable<string>, names: Census['asnNames']): Sample[] {
  return [...new Set(shown)].map((asn) => {
    const known = names.get(asn);
    const name = asn === '0' ? 'not announced' : (known?.name ?? '');
    return { labels: [asn, name, known?.country ?? ''], value: 1 };
  });
}

/** The collector that a family of a scan comes from; null for one that goes with all of them. */
export function collectorOf(family: string): Collector | null {
  if (family === ASN_INFO.name) return 'asn';
  const spec = FAMILIES.find(({ name }) => name === family);
  return spec ? (spec.collector ?? 'sockets') : null;
}

function perProcess(name: string, unit: string, help: string, value: (process: Process) => number): FamilySpec<Census> {
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

function perNamespace(name: string, unit: string, help: string, counter: ProtocolCounter): FamilySpec<Census> {
  return {
    name,
    help: `${help.slice(0, -1)}, of the network namespaces of a pod; without one, of all that belong to none.`,
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
): FamilySpec<Census> {
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

function status(
  name: string,
  type: 'gauge' | 'counter',
  unit: string,
  help: string,
  labels: readonly string[],
  contributions: (status: Status) => Contribution[],
): FamilySpec<Status> {
  return { name, help, type, unit, collector: null, labels, fold: [], contributions };
}

function perCollector(
  name: string,
  unit: string,
  help: string,
  value: (run: CollectorRun) => number,
): FamilySpec<Status> {
  return status(name, 'gauge', unit, help, ['collector'], ({ collectors }) =>
    collectors.map((run) => ({ labels: { collector: run.collector }, value: value(run) })),
  );
}

function perProvider(
  name: string,
  type: 'gauge' | 'counter',
  unit: string,
  help: string,
  labels: readonly string[],
  value: (asn: AsnStatus) => number,
): FamilySpec<Status> {
  return status(name, type, unit, help, labels, ({ asn }) =>
    asn ? [{ labels: { provider: asn.provider }, value: value(asn) }] : [],
  );
}

function perExport(name: string, help: string, field: 'exports' | 'failures'): FamilySpec<Status> {
  return status(name, 'counter', '{export}', help, [], ({ otlp }) =>
    otlp ? [{ labels: {}, value: otlp[field] }] : [],
  );
}

function perFamily(name: string, help: string, value: (budget: Budget) => number): FamilySpec<readonly Budget[]> {
  return {
    name,
    help,
    type: 'gauge',
    unit: '{series}',
    collector: null,
    labels: ['family'],
    fold: [],
    contributions: (budgets) => budgets.map((budget) => ({ labels: { family: budget.family }, value: value(budget) })),
  };
}

function counts(label: string, entries: Iterable<readonly [string, number]>): Contribution[] {
  return [...entries].map(([key, value]) => ({ labels: { [label]: key }, value }));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
