/** The shared types of peerscope. This file imports nothing, and every file may import it. */

/** An IP address as 128 bits in four unsigned 32-bit words, most significant first. IPv4 is held as ::ffff:a.b.c.d. */
export type Address = readonly [number, number, number, number];

/** A block of addresses: the first `bits` bits (0-128, an IPv4 /24 is 120) of `address`; the other bits are zero. */
export interface Cidr {
  readonly address: Address;
  readonly bits: number;
}

export type Transport = 'tcp' | 'udp' | 'udplite' | 'raw';

/** State names of OpenTelemetry; `unconnected` for UDP, UDP-Lite and raw sockets without a peer; `unknown` for an undefined kernel code. */
export type State =
  | 'established'
  | 'syn_sent'
  | 'syn_received'
  | 'fin_wait_1'
  | 'fin_wait_2'
  | 'time_wait'
  | 'closed'
  | 'close_wait'
  | 'last_ack'
  | 'listen'
  | 'closing'
  | 'unconnected'
  | 'unknown';

export type Direction = 'listen' | 'inbound' | 'outbound' | 'loopback';
export type DirectionEvidence = 'listener' | 'history' | 'port';
export type OwnerEvidence = 'fd' | 'history' | 'listener' | 'endpoint' | 'netns' | 'uid' | 'text';
export type UnattributedReason = 'permission' | 'no_descriptor' | 'short_lived' | 'vanished' | 'other_pid_namespace';

/** The network class of a remote address; networks of the operator add their own names. */
export type NetworkClass =
  | 'public'
  | 'private'
  | 'shared'
  | 'loopback'
  | 'self'
  | 'link_local'
  | 'cloud_metadata'
  | 'multicast'
  | 'documentation'
  | 'benchmarking'
  | 'reserved'
  | 'unspecified';

/** A parsed cgroup path; null for what the path does not contain. */
export interface Cgroup {
  readonly kind: 'container' | 'runtime-monitor' | 'session' | 'unit' | 'host' | 'unknown';
  readonly runtime: string | null;
  readonly containerId: string | null;
  readonly outerContainerId: string | null;
  /** The name of the container, if its monitor shows it. */
  readonly containerName?: string;
  readonly podUid: string | null;
  readonly qos: 'guaranteed' | 'burstable' | 'besteffort' | null;
  readonly unit: string | null;
  /** The outermost container whose own system runs the unit, as with LXC. */
  readonly unitOf?: string;
  /** The user who logged in. */
  readonly login?: number;
  /** The user whose own it is: they may give any name to what is below `user@1000.service`. */
  readonly user?: number;
  /** The path in cgroupfs. Kept only if a rule matches it. */
  readonly path?: string;
}

/** The owner labels of a connection; "" for a label that does not apply. */
export interface OwnerLabels {
  readonly process: string;
  readonly namespace: string;
  readonly workload: string;
  readonly pod: string;
  readonly container: string;
}

/** The file that a process runs. */
export interface Executable {
  /** As the process's own mounts show it, without the mark of a deleted file; "/memfd:name" for a program without a file. */
  readonly path: string;
  /** Major and minor number, such as "08:01"; null if unknown. */
  readonly device: string | null;
  /** Null if unknown; 0 if the process has mapped several files under this path. */
  readonly inode: number | null;
}

/** A process that holds sockets, as read from /proc. */
export interface Process {
  readonly pid: number;
  /** Clock ticks since boot (field 22 of stat); pid and start time identify a process. */
  readonly startTime: number;
  readonly ppid: number;
  readonly name: string;
  /** Processes with equal labels share one object. */
  readonly labels: OwnerLabels;
  /** One letter of R S D Z T t X I P. */
  readonly state: string;
  readonly uid: number | null;
  /** Octal with four digits, such as "0022"; null before Linux 4.7. */
  readonly umask: string | null;
  readonly threads: number;
  readonly residentMemoryBytes: number | null;
  readonly openFds: number;
  readonly cgroup: Cgroup;
  /** One object while it stays the same; null if it cannot be read. */
  readonly executable?: Executable | null;
}

/** The answer of an ASN provider for one bucket (a /24, a /48 or a longer announced prefix). Times are milliseconds since 1970. */
export interface Origin {
  /** Empty for an address that is not announced. The first is published. */
  readonly asns: readonly number[];
  readonly name: string | null;
  readonly asCountry: string | null;
  readonly prefix: string | null;
  readonly registry: string | null;
  readonly registryCountry: string | null;
  readonly allocated: string | null;
  readonly askedAt: number;
  readonly freshUntil: number;
  readonly source: string;
}

/**
 * A connection as JSON, the same in list, events, the API and parse. An unknown value is null, never 0 or "". Transport, family, local
 * address, state, direction and queues are null only in rows that were parsed from the output of another tool.
 */
export interface Row {
  transport: Transport | null;
  family: 4 | 6 | null;
  local_address: string | null;
  local_port: number | null;
  remote_address: string | null;
  remote_port: number | null;
  state: State | null;
  direction: Direction | null;
  direction_evidence: DirectionEvidence | null;
  receive_queue: number | null;
  send_queue: number | null;
  uid: number | null;
  inode: number | null;
  netns: number | null;
  pid: number | null;
  pids: number[];
  process: string | null;
  owner_evidence: OwnerEvidence | null;
  unattributed_reason: UnattributedReason | null;
  process_state: string | null;
  umask: string | null;
  threads: number | null;
  resident_memory_bytes: number | null;
  namespace: string | null;
  pod: string | null;
  container: string | null;
  container_id: string | null;
  workload: string | null;
  network: string | null;
  asn: number | null;
  asns: number[] | null;
  as_name: string | null;
  bgp_prefix: string | null;
  registry: string | null;
  registry_country: string | null;
  remote_name: string | null;
  service: string | null;
  opened_at: string | null;
  /** Payload that was sent, without retransmissions; null if the kernel gives no totals. */
  sent_bytes: number | null;
  received_bytes: number | null;
  retransmitted_bytes: number | null;
  /** The smoothed round-trip time. */
  round_trip_seconds: number | null;
  min_round_trip_seconds: number | null;
  /** From here on: only in rows that were parsed from the output of another tool. */
  local_name: string | null;
  /** Also in other rows: the name of `uid`. */
  user: string | null;
  cgroup: string | null;
  acknowledged_bytes: number | null;
  /** Retransmissions of segments since the connection opened. */
  retransmits: number | null;
  congestion_control: string | null;
  congestion_window: number | null;
  /** What the kernel waits for, such as "keepalive" or "retransmission". */
  timer: string | null;
  timer_seconds: number | null;
  timer_retransmits: number | null;
  /** From here on: read for the rows that a command shows, and null elsewhere. */
  exe: string | null;
  /** Whether the file of the program was deleted or replaced. */
  exe_deleted: boolean | null;
  /** The arguments, without secrets. */
  cmdline: string | null;
  ppid: number | null;
  /** The names of the parent processes, nearest first. */
  parents: string[] | null;
  process_started_at: string | null;
}

/** What the kernel counted for a connection since it opened. Bytes are payload. */
export interface SocketTotals {
  /** Without retransmissions. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly retransmittedBytes: number;
  /** Smoothed; null if the kernel has not measured it. */
  readonly roundTripSeconds: number | null;
  readonly minRoundTripSeconds: number | null;
}

/** A change of a connection, with the connection after the change. */
export interface ConnectionEvent extends Row {
  readonly event: 'opened' | 'state' | 'owner' | 'closed';
  /** When the scan that found it began, RFC 3339. */
  readonly at: string;
  /** The former state or process; only in `state` and `owner`, null if no process was known. */
  readonly previous?: string | null;
  /** Only in `closed`; null for a connection that the first scan found. */
  readonly duration_seconds?: number | null;
}

/** A malformed line in the output of `parse`: its number, from 1 on, and at most 200 characters of its text. */
export interface ErrorRow {
  readonly line: number;
  readonly error: string;
  readonly reason: string;
  readonly text: string;
}

/** The type of a metric family. A summary has sums and counts, without quantiles. */
export type FamilyType = 'gauge' | 'counter' | 'summary';

/** A Prometheus metric family. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: FamilyType;
  readonly labels: readonly string[];
  readonly samples: readonly Sample[];
}

/** A series of a family and its value; `labels` in the order of the label names of the family. */
export interface Sample {
  readonly labels: readonly string[];
  readonly value: number;
  /** Only in a summary: the number of observations, whose sum is the value. */
  readonly count?: number;
}

/** A configuration rule that names processes: all of its patterns must match. `name` may contain {{ .group }} for a named group of a pattern. */
export interface ProcessRule {
  readonly name: string;
  readonly exe?: RegExp;
  readonly comm?: RegExp;
  readonly cmdline?: RegExp;
}

/** A configuration rule that names workloads: all of its patterns must match. `name` may contain {{ .group }} for a named group of a pattern. */
export interface WorkloadRule {
  readonly name: string;
  /** Patterns of labels of the pod, by key. */
  readonly labels?: Readonly<Record<string, RegExp>>;
  /** Patterns of annotations of the pod, by key. */
  readonly annotations?: Readonly<Record<string, RegExp>>;
  readonly cgroup?: RegExp;
  readonly unit?: RegExp;
}

/** A configuration rule that names endpoints: an endpoint must match all of its conditions. */
export interface EndpointGroupRule {
  readonly name: string;
  readonly cidrs?: readonly Cidr[];
  readonly ports?: readonly number[];
  readonly transport?: Transport;
}

/** A network named by the operator: its addresses are never looked up, and have the ASN `asn` if given. */
export interface OperatorNetwork {
  readonly name: string;
  readonly cidrs: readonly Cidr[];
  readonly asn?: number;
}

/** What is normal for a workload, by the configuration. */
export interface ExpectedRule {
  /** "" outside Kubernetes. */
  readonly namespace: string;
  readonly workload: string;
  /** Canonical values of `what`, such as AS64500 or tcp/5432. */
  readonly what: readonly string[];
  /** When the rule ends, in milliseconds since 1970; null for never. */
  readonly until: number | null;
  /** "" if no reason is given. */
  readonly why: string;
}

/** A file of suspect network operators, and what it contains: AS numbers as in `AS64500`. */
export interface SuspectList {
  readonly file: string;
  readonly operators: readonly string[];
}

/** The validated configuration file. */
export interface Rules {
  readonly processes: readonly ProcessRule[];
  readonly workloads: readonly WorkloadRule[];
  readonly endpointGroups: readonly EndpointGroupRule[];
  readonly networks: readonly OperatorNetwork[];
  readonly asnNeverSend: readonly Cidr[];
  readonly expected: readonly ExpectedRule[];
  readonly suspects: readonly SuspectList[];
}

/** A classified remote address: its network, the embedded address (of NAT64, 6to4, Teredo), and the ASN given by the operator. */
export interface Remote {
  readonly network: string;
  readonly address: Address;
  readonly asn: number | null;
}

/** The state of the ASN provider for `/metrics`, counted on the thread that does the lookups. */
export interface AsnStatus {
  readonly provider: string;
  readonly pending: number;
  readonly queries: number;
  readonly queryFailures: number;
  readonly addressesSent: number;
  /** Reply lines that were malformed, contradictory or did not match a query. */
  readonly malformedRows: number;
  readonly breakerOpen: boolean;
}
