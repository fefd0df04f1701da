/** The nouns of peerscope. Types only: this file imports nothing and everything may import it. */

/** An IP address as 128 bits in four unsigned 32-bit words, most significant first. IPv4 is held as ::ffff:a.b.c.d. */
export type Address = readonly [number, number, number, number];

/** A block of addresses: the first `bits` bits (0-128, an IPv4 /24 is 120) of `address`; the bits after are zero. */
export interface Cidr {
  readonly address: Address;
  readonly bits: number;
}

export type Transport = 'tcp' | 'udp' | 'udplite' | 'raw';

/** OpenTelemetry's state names; `unconnected` for UDP, UDP-Lite and raw sockets without a peer; `unknown` for a code the kernel's headers do not name. */
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
export type OwnerEvidence = 'fd' | 'history' | 'listener' | 'netns' | 'text';
export type UnattributedReason = 'permission' | 'no_descriptor' | 'short_lived' | 'vanished' | 'other_pid_namespace';

/** What kind of address a remote is; an operator's own network adds its own name. */
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

/** What a cgroup path says of a process. Null is what the path does not hold. */
export interface Cgroup {
  readonly kind: 'container' | 'runtime-monitor' | 'session' | 'unit' | 'host' | 'unknown';
  readonly runtime: string | null;
  readonly containerId: string | null;
  readonly outerContainerId: string | null;
  readonly podUid: string | null;
  readonly qos: 'guaranteed' | 'burstable' | 'besteffort' | null;
  readonly unit: string | null;
}

/** The names a connection is published under. "" where a name does not apply. */
export interface OwnerLabels {
  readonly process: string;
  readonly namespace: string;
  readonly workload: string;
  readonly pod: string;
  readonly container: string;
}

/** One process that holds sockets, as read from its /proc directory. */
export interface Process {
  readonly pid: number;
  /** Ticks since boot, field 22 of stat: with the pid it is the identity of a process. */
  readonly startTime: number;
  readonly ppid: number;
  readonly name: string;
  /** The names it is published under; processes with equal names share one object. */
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
}

/** A provider's answer for one bucket (a /24, a /48 or a longer announced prefix). Times are milliseconds since 1970. */
export interface Origin {
  /** Empty when the provider says that the address is not announced. The first is the one that is published. */
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
 * One connection as JSON, the same in list, events, the API and parse. Unknown is null, never 0 or "": transport, family, local
 * address, state, direction and queues are so only in rows that were read from the text of another tool.
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
}

/** What happened to a connection, and the connection after it. */
export interface ConnectionEvent extends Row {
  readonly event: 'opened' | 'state' | 'owner' | 'closed';
  /** When the scan that saw it began, RFC 3339. */
  readonly at: string;
  /** The former state or process, of `state` and `owner` alone; null where no process was known. */
  readonly previous?: string | null;
  /** Of `closed` alone; null for what was there at the first scan. */
  readonly duration_seconds?: number | null;
}

/** What stands in the output of `parse` for what could not be read: the line from 1 on, and its text, of which 200 characters at most. */
export interface ErrorRow {
  readonly line: number;
  readonly error: string;
  readonly reason: string;
  readonly text: string;
}

/** A Prometheus metric family, ready to be rendered. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter';
  readonly labels: readonly string[];
  readonly samples: readonly Sample[];
}

/** One series of a family and its value; `labels` in the order of the family's label names. */
export interface Sample {
  readonly labels: readonly string[];
  readonly value: number;
}

/** A rule of the configuration that names processes: every pattern given must match. `name` may hold {{ .group }} for a named group of a pattern. */
export interface ProcessRule {
  readonly name: string;
  readonly exe?: RegExp;
  readonly comm?: RegExp;
  readonly cmdline?: RegExp;
}

/** A rule of the configuration that names endpoints: an endpoint matches when every list given holds it. */
export interface EndpointGroupRule {
  readonly name: string;
  readonly cidrs?: readonly Cidr[];
  readonly ports?: readonly number[];
  readonly transport?: Transport;
}

/** A network that the operator named: its addresses are never asked for, and carry `asn` where one is given. */
export interface OperatorNetwork {
  readonly name: string;
  readonly cidrs: readonly Cidr[];
  readonly asn?: number;
}

/** The configuration file, read and checked. */
export interface Rules {
  readonly processes: readonly ProcessRule[];
  readonly endpointGroups: readonly EndpointGroupRule[];
  readonly networks: readonly OperatorNetwork[];
  readonly asnNeverSend: readonly Cidr[];
}

/** What a remote address is: its network, the address that counts after unwrapping (NAT64, 6to4, Teredo), and the operator's ASN where one was given. */
export interface Remote {
  readonly network: string;
  readonly address: Address;
  readonly asn: number | null;
}

/** What `/metrics` tells of the ASN provider and its store, counted on the thread that asks. */
export interface AsnStatus {
  readonly provider: string;
  readonly pending: number;
  readonly queries: number;
  readonly queryFailures: number;
  readonly addressesSent: number;
  /** Lines of replies that had no meaning, contradicted themselves or answered what was not asked. */
  readonly malformedRows: number;
  readonly breakerOpen: boolean;
}
