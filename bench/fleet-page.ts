/**
 * A simulated Kubernetes fleet with every family of the dashboards: one pod of a workload on a node, half of the pods with a sidecar,
 * daemons on each node, and an ingress on every tenth.
 */

/** How a series moves: it stays, varies by a third, or grows by so much a second. */
type Motion = 'fixed' | 'varies' | { readonly perSecond: number };

/** A series of a node, with its value at the end of the history. */
export interface NodeSeries {
  readonly family: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  readonly motion: Motion;
}

/** The size of a fleet. */
export interface FleetPlan {
  readonly hosts: number;
  readonly podsPerHost: number;
  /** Seconds since 1970. */
  readonly now: number;
}

const REPLICAS = 8;
const DAY = 86_400;
const PORT = ':8080';

/** A number from 0 to 1 that depends on its arguments alone. */
function random(a: number, b = 0): number {
  let t = Math.imul((a * 7919 + b * 104_729 + 17) ^ 0x6d2b79f5, 0x2c1b3c6d);
  t = Math.imul(t ^ (t >>> 12), 0x297a2d39);
  return ((t ^ (t >>> 15)) >>> 0) / 2 ** 32;
}

const pick = (a: number, b: number, below: number): number => Math.floor(random(a, b) * below);

const KNOWN: readonly (readonly [asn: number, name: string, country: string])[] = [
  [13_335, 'CLOUDFLARENET - Cloudflare, Inc.', 'US'],
  [15_169, 'GOOGLE - Google LLC', 'US'],
  [16_509, 'AMAZON-02 - Amazon.com, Inc.', 'US'],
  [8_075, 'MICROSOFT-CORP-MSN-AS-BLOCK - Microsoft Corporation', 'US'],
  [54_113, 'FASTLY - Fastly, Inc.', 'US'],
  [24_940, 'HETZNER-AS - Hetzner Online GmbH', 'DE'],
  [16_276, 'OVH - OVH SAS', 'FR'],
  [3_320, 'DTAG - Deutsche Telekom AG', 'DE'],
  [20_940, 'AKAMAI-ASN1 - Akamai International B.V.', 'NL'],
  [36_459, 'GITHUB - GitHub, Inc.', 'US'],
];

function operator(number: number): readonly [asn: number, name: string, country: string] {
  const country = ['US', 'DE', 'FR', 'JP', 'BR', 'IN'][number % 6] ?? '';
  return KNOWN[number] ?? [64_500 + number, `EXAMPLE-${number} - Example Network Operator ${number}`, country];
}

interface Owner {
  readonly process: string;
  readonly namespace: string;
  readonly workload: string;
}

const SERVICES = [
  'frontend',
  'checkout',
  'cart',
  'catalog',
  'payments',
  'search',
  'mailer',
  'images',
  'orders',
  'users',
];
const TEAMS = ['shop', 'billing', 'data', 'identity', 'media', 'growth'];
const PROCESSES = ['node', 'java', 'python3', 'nginx', 'orders.py', 'server'];

const DAEMONS: readonly (readonly [process: string, namespace: string, workload: string, port: number])[] = [
  ['kubelet', '', 'kubelet.service', 10_250],
  ['containerd', '', 'containerd.service', 0],
  ['sshd', '', 'ssh.service', 22],
  ['chronyd', '', 'chrony.service', 0],
  ['node_exporter', 'monitoring', 'node-exporter', 9100],
  ['kube-proxy', 'kube-system', 'kube-proxy', 10_256],
  ['cilium-agent', 'kube-system', 'cilium', 4244],
  ['fluent-bit', 'logging', 'fluent-bit', 2020],
  ['peerscope', 'peerscope', 'peerscope', 10_043],
];

/** The series of the nodes of a fleet. */
export class Fleet {
  readonly #plan: FleetPlan;
  readonly #workloads: number;

  constructor(plan: FleetPlan) {
    this.#plan = plan;
    this.#workloads = Math.max(SERVICES.length, Math.round((plan.hosts * plan.podsPerHost) / REPLICAS));
  }

  owner(number: number): Owner {
    const teams = Math.max(4, Math.round(this.#workloads / 12));
    const team = number % teams;
    const round = Math.floor(number / SERVICES.length);
    return {
      process: PROCESSES[number % PROCESSES.length] ?? '',
      namespace: TEAMS[team] ?? `team-${team}`,
      workload: `${SERVICES[number % SERVICES.length] ?? ''}${round === 0 ? '' : `-${round}`}`,
    };
  }

  /** The series of one node. */
  *series(host: number): Generator<NodeSeries> {
    const page = new NodePage(host, this.#plan.now);
    const numbers = new Set<number>();
    for (let i = 0; numbers.size < Math.min(this.#plan.podsPerHost, this.#workloads); i++)
      numbers.add(pick(host + 1, i, this.#workloads));
    for (const number of numbers) this.#pod(page, host, number);
    for (const [process, namespace, workload, port] of DAEMONS) {
      const owner = { process, namespace, workload };
      const pod = namespace === '' ? '' : `${workload}-${pick(host, 77, 9e6).toString(36)}`;
      page.connections(owner, pod, namespace === '' ? '' : 'main', 'outbound', 'established', 3);
      if (port > 0) page.listens(owner, pod, port);
      page.peers(owner, 'outbound', 'private', '', 3);
      page.endpoint(owner, '10.96.0.1:443', 'outbound', 2);
      if (process === 'containerd' || process === 'fluent-bit') page.meets(owner, 'outbound', 9, 2);
      page.process(owner);
    }
    if (host % 10 === 0) this.#ingress(page, host);
    page.health();
    yield* page.rows;
    yield* page.names();
  }

  #pod(page: NodePage, host: number, number: number): void {
    const owner = this.owner(number);
    const pod = `${owner.workload}-${pick(number, 3, 1e9).toString(36)}-${pick(number, host, 6e7).toString(36)}`;
    page.connections(owner, pod, 'app', 'inbound', 'established', 4);
    page.connections(owner, pod, 'app', 'inbound', 'time_wait', 1);
    page.connections(owner, pod, 'app', 'outbound', 'established', 6);
    page.listens(owner, pod, 8080);
    page.peers(owner, 'inbound', 'private', '', 4);
    page.peers(owner, 'outbound', 'private', '', 4);
    page.endpoint(owner, `${owner.namespace}/${owner.workload}${PORT}`, 'inbound', 4);
    for (let i = 0; i < 2; i++) {
      const peer = this.owner(pick(number, 20 + i, this.#workloads));
      page.endpoint(owner, `${peer.namespace}/${peer.workload}${PORT}`, 'outbound', 2, peer);
    }
    page.endpoint(owner, 'data/postgres:5432', 'outbound', 2, { namespace: 'data', workload: 'postgres' });
    for (let i = 0; i < pick(number, 5, 4); i++) page.meets(owner, 'outbound', pick(number, 10 + i, 8) * (i + 1), 2);
    page.process(owner);
    page.kernel(owner.namespace, pod);
    if (number % 2 === 1) return;
    const sidecar = { ...owner, process: 'envoy' };
    page.connections(sidecar, pod, 'istio-proxy', 'loopback', 'established', 4);
    page.connections(sidecar, pod, 'istio-proxy', 'outbound', 'established', 6);
    for (const port of [15_001, 15_006, 15_021, 15_090]) page.listens(sidecar, pod, port);
    page.peers(sidecar, 'outbound', 'private', '', 6);
    page.endpoint(sidecar, 'istio-system/istiod:15012', 'outbound', 1, {
      namespace: 'istio-system',
      workload: 'istiod',
    });
    page.process(sidecar);
  }

  #ingress(page: NodePage, host: number): void {
    const owner = { process: 'nginx', namespace: 'ingress', workload: 'ingress-nginx' };
    for (let i = 0; i < 60; i++) page.meets(owner, 'inbound', pick(host, 900 + i, 300), 3);
    page.connections(owner, `ingress-nginx-${host}`, 'controller', 'inbound', 'established', 180);
    page.endpoint(owner, 'ingress/ingress-nginx:443', 'inbound', 180);
    page.listens(owner, `ingress-nginx-${host}`, 443);
    page.process(owner);
  }
}

/** Collects the series of one node. */
class NodePage {
  readonly rows: NodeSeries[] = [];
  readonly #host: number;
  readonly #now: number;
  readonly #operators = new Set<number>();
  readonly #sockets = new Map<string, number>();
  readonly #seen = new Set<string>();

  constructor(host: number, now: number) {
    this.#host = host;
    this.#now = now;
  }

  connections(owner: Owner, pod: string, container: string, direction: string, state: string, value: number): void {
    const network = { listen: '', loopback: 'loopback' }[direction] ?? 'private';
    const total = this.#sockets.get(`${direction} ${state} ${network}`) ?? 0;
    this.#sockets.set(`${direction} ${state} ${network}`, total + value);
    this.#add(
      'connections',
      { ...owner, pod, container, transport: 'tcp', direction, state },
      value,
      state === 'listen' ? 'fixed' : 'varies',
    );
  }

  listens(owner: Owner, pod: string, port: number): void {
    this.connections(owner, pod, owner.namespace === '' ? '' : 'app', 'listen', 'listen', 1);
    this.#add('listener_accept_queue', { ...owner, local_address: '0.0.0.0', local_port: String(port) }, 0);
  }

  peers(owner: Owner, direction: string, network: string, asn: string, value: number): void {
    this.#add('asn_connections', { ...owner, direction, network, asn, state: 'established' }, value, 'varies');
    this.#bytes('asn', { ...owner, direction, network, asn }, value);
    const counted = { ...owner, direction, network, asn };
    this.#add('asn_retransmitted_bytes_total', counted, 1e5, { perSecond: 3 * value });
    this.#add('asn_closed_connections_total', counted, 1e4, { perSecond: value / 10 });
    this.#add('asn_round_trip_seconds_sum', { direction, network, asn }, 90, { perSecond: 0.02 });
    this.#add('asn_round_trip_seconds_count', { direction, network, asn }, 5000, { perSecond: 1 });
  }

  /** Connections with a network operator, met a few days ago. */
  meets(owner: Owner, direction: string, number: number, value: number): void {
    this.#operators.add(number);
    const [asn] = operator(number);
    this.peers(owner, direction, 'public', String(asn), value);
    const isNew = number >= KNOWN.length && number % 4 === 0;
    const age = isNew ? 1800 + (random(number, 8) * DAY) / 12 : (2 + random(number, 4) * 20) * DAY;
    this.#add('asn_first_seen_timestamp_seconds', { ...owner, direction, asn: String(asn) }, this.#now - age);
    if (isNew && direction === 'outbound') this.#novelty(owner, asn);
    if (direction === 'outbound') this.endpoint(owner, `AS${asn}:443`, direction, value);
  }

  #novelty({ process, ...workload }: Owner, asn: number): void {
    const novelty = { ...workload, process, kind: 'operator', what: `AS${asn}`, reach: 'none', points: '2' };
    this.#add('novelty_timestamp_seconds', novelty, this.#now - 900);
    this.#add('novelties_total', { ...workload, kind: 'operator' }, 3, { perSecond: 0.001 });
    this.#add('unusual_points', workload, 2);
  }

  endpoint(
    owner: Owner,
    endpointGroup: string,
    direction: string,
    value: number,
    peer: Omit<Owner, 'process'> = { namespace: '', workload: '' },
  ): void {
    const labels = {
      ...owner,
      endpoint_group: endpointGroup,
      peer_namespace: peer.namespace,
      peer_workload: peer.workload,
      direction,
    };
    this.#add('endpoint_connections', { ...labels, transport: 'tcp', state: 'established' }, value, 'varies');
    this.#bytes('endpoint', labels, value);
  }

  process(owner: Owner): void {
    for (const queue of ['receive', 'send']) this.#add('socket_queue_bytes', { ...owner, transport: 'tcp', queue }, 0);
    this.#add('processes', { ...owner, process_state: 'S', umask: '0022' }, 1);
    this.#add('process_threads', { ...owner }, 12);
    this.#add('process_resident_memory_bytes', { ...owner }, 81_234_944, 'varies');
    this.#add('ephemeral_ports_used_ratio', { ...owner }, 0.01, 'varies');
    this.#add('process_open_fds', { ...owner }, 60, 'varies');
    this.#add('baseline_start_timestamp_seconds', { ...owner, scope: 'node' }, this.#now - 40 * DAY);
    const { namespace, workload } = owner;
    this.#add('workload_watched_since_timestamp_seconds', { namespace, workload, scope: 'node' }, this.#now - 40 * DAY);
  }

  kernel(namespace: string, pod: string): void {
    const rates = { tcp_active_opens: 2, tcp_passive_opens: 3, tcp_retransmitted_segments: 0.1 };
    for (const [name, perSecond] of Object.entries(rates))
      this.#add(`${name}_total`, { namespace, pod }, 5000, { perSecond });
    for (const name of ['tcp_attempt_fails', 'tcp_listen_overflows', 'udp_receive_buffer_errors'])
      this.#add(`${name}_total`, { namespace, pod }, 0);
  }

  /** The sums of all connections, and what the exporter says about itself. */
  health(): void {
    for (const [key, value] of this.#sockets) {
      const [direction = '', state = '', network = ''] = key.split(' ');
      this.#add('sockets', { direction, state, network }, value, 'varies');
    }
    this.#add('build_info', { version: '0.2.0', node_version: '24.21.0' }, 1);
    this.#add('snapshot_timestamp_seconds', {}, this.#now - 2);
    this.#add('owner_series_folded', { owner: 'uid:1000' }, 12);
    this.#add('connection_coverage_ratio', {}, 0.9 + (this.#host % 10) / 100);
    for (const collector of ['sockets', 'protocols', 'processes', 'asn', 'first-seen', 'endpoints', 'netlink']) {
      this.#add('scrape_collector_success', { collector }, 1);
      this.#add('scrape_collector_duration_seconds', { collector }, 0.01, 'varies');
    }
    for (const direction of ['inbound', 'outbound', 'loopback'])
      for (const change of ['opened', 'closed'])
        this.#add(`connections_${change}_total`, { direction, transport: 'tcp' }, 9000, { perSecond: 3 });
    for (const family of ['connections', 'asn_connections', 'endpoint_connections', 'listener_accept_queue']) {
      this.#add('series_limit', { family: `peerscope_${family}` }, 1000);
      this.#add('series', { family: `peerscope_${family}` }, 100 + pick(this.#host, family.length, 700));
      this.#add('series_folded', { family: `peerscope_${family}` }, 0);
    }
    for (const reason of ['permission', 'no_descriptor', 'vanished']) this.#add('sockets_unattributed', { reason }, 0);
    for (const status of ['read', 'unchanged', 'empty']) this.#add('network_namespaces', { status }, 12, 'varies');
    for (const [name, value] of Object.entries({
      ...{ direction_guessed: 0, loopback_duplicates: 4, asn_pending: 0, asn_breaker_open: 0, config_current: 1 },
      ...{ asn_cache_entries: 120, worker_failures_total: 0 },
    }))
      this.#add(name, {}, value);
    this.#add('store_up', { store: 'sqlite' }, 1);
    this.#add('kubernetes_watch_up', { resource: 'pods' }, 1);
    this.#add('netlink_up', { scope: 'all' }, 1);
    this.#add('socket_events_total', { scope: 'all' }, 9000, { perSecond: 5 });
    this.#add('asn_cache_lookups_total', {}, 9000, { perSecond: 1 });
    this.#add('asn_cache_hits_total', {}, 8900, { perSecond: 0.99 });
    this.#add('asn_queries_total', { provider: 'cymru' }, 90, { perSecond: 0.01 });
    this.#add('asn_query_failures_total', { provider: 'cymru' }, 0);
    this.#add('asn_addresses_sent_total', { provider: 'cymru' }, 900, { perSecond: 0.1 });
  }

  *names(): Generator<NodeSeries> {
    for (const number of this.#operators) {
      const [asn, name, country] = operator(number);
      const labels = { asn: String(asn), as_name: name, as_country: country };
      yield { family: 'peerscope_asn_info', labels, value: 1, motion: 'fixed' };
    }
  }

  #bytes(of: string, labels: Readonly<Record<string, string>>, value: number): void {
    this.#add(`${of}_sent_bytes_total`, labels, 5e9, { perSecond: 4000 * value });
    this.#add(`${of}_received_bytes_total`, labels, 9e9, { perSecond: 9000 * value });
  }

  #add(family: string, labels: Readonly<Record<string, string>>, value: number, motion: Motion = 'fixed'): void {
    const key = JSON.stringify([family, labels]);
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.rows.push({ family: `peerscope_${family}`, labels, value, motion });
  }
}

/** Whether a series is there at a time: what was first seen later is not. */
export function existsAt({ family, value }: NodeSeries, at: number): boolean {
  return !/_(first_seen|novelty)_timestamp_seconds$/.test(family) || value <= at;
}

/** The value of a series so many seconds before the end of the history. */
export function valueBefore({ family, value, motion }: NodeSeries, seconds: number): number {
  if (motion === 'fixed') return family === 'peerscope_snapshot_timestamp_seconds' ? value - seconds : value;
  if (motion === 'varies') {
    const varied = value * (1 + Math.sin(seconds / 1500 + value) / 3);
    return value < 1 ? varied : Math.round(varied);
  }
  return value - motion.perSecond * seconds;
}

/** The name of a series in the text format. */
export function nameOf({ family, labels }: NodeSeries, target: Readonly<Record<string, string>> = {}): string {
  const pairs = Object.entries({ ...labels, ...target }).filter(([, value]) => value !== '');
  return `${family}{${pairs.map(([name, value]) => `${name}="${value}"`).join()}}`;
}

/** The page of a node. */
export function pageOf(series: Iterable<NodeSeries>): string {
  return Array.from(series, (one) => `${nameOf(one)} ${one.value}\n`).join('');
}
