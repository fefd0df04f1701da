import { OTHER } from '../../common/other.ts';
import { COLLECTORS } from '../../metrics/catalogue.ts';
import type { Family } from '../../model.ts';
import { REASON_MEANINGS } from './glossary.ts';

/** The owner of a line; "" for a name that does not apply, all "" without a known process. */
export interface ShownOwner {
  readonly process: string;
  readonly namespace: string;
  readonly workload: string;
}

/** A total and its counts by state, largest first. */
export interface Count {
  readonly total: number;
  readonly states: readonly (readonly [state: string, count: number])[];
}

/** The top lines of a ranking, with the series folded into "other" last, and the number of lines not shown. */
export interface Ranking<Line> {
  readonly lines: readonly Line[];
  readonly more: number;
}

/** Connections of one owner by service endpoint. */
export type EndpointCount = Count & { readonly owner: ShownOwner; readonly name: string; readonly transport: string };

/** A network operator (ASN); `name` and `country` are "" if unknown. */
export interface Operator {
  readonly asn: string;
  readonly name: string;
  readonly country: string;
  readonly inbound: number;
  readonly outbound: number;
  readonly total: number;
}

/** Bytes of payload since the exporter started. */
export interface Traffic {
  readonly sent: number;
  readonly received: number;
  readonly total: number;
}

/** Traffic by network operator and by process. `network` is set without a known operator. */
export interface TrafficOverview {
  readonly operators: Ranking<Traffic & Pick<Operator, 'asn' | 'name'> & { readonly network: string }>;
  readonly processes: Ranking<Traffic & { readonly owner: ShownOwner }>;
}

/** A listening TCP socket and the length of its accept queue. */
export interface ListenerQueue {
  readonly owner: ShownOwner;
  readonly address: string;
  readonly port: string;
  readonly waiting: number;
}

/** Something that the numbers leave out, and the reason. */
export interface BlindSpot {
  readonly amount: string;
  readonly what: string;
  readonly why: string;
}

/** The content of the status page, computed from the families of one scan. Null if the collector is off. */
export interface Overview {
  /** Milliseconds since 1970; 0 before the first scan. */
  readonly at: number;
  readonly version: string;
  readonly sockets: number;
  readonly directions: Readonly<Record<'inbound' | 'outbound' | 'loopback' | 'listen', number>>;
  readonly states: Count['states'];
  readonly processes: number | null;
  readonly namespaces: number;
  readonly top: Ranking<Count & { readonly owner: ShownOwner }>;
  /** `known` counts the operators with an ASN, without unannounced and folded ones. */
  readonly operators: (Ranking<Operator> & { readonly known: number }) | null;
  /** Null without a source of bytes. */
  readonly traffic: TrafficOverview | null;
  /** Connections without a known operator, by network. */
  readonly networks: readonly (readonly [network: string, count: number])[];
  readonly endpoints: Readonly<
    Record<'inbound' | 'outbound' | 'loopback', { readonly total: number; readonly ranking: Ranking<EndpointCount> }>
  > | null;
  readonly loopbackDuplicates: number;
  readonly listeners: Ranking<ListenerQueue> & { readonly total: number };
  readonly blindSpots: readonly BlindSpot[];
  readonly costs: readonly { readonly collector: string; readonly seconds: number; readonly success: boolean }[];
}

const TOP = 10;
const MOST_LISTENERS = 15;

interface LabeledValue {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}
type Read = (family: string) => LabeledValue[] | null;

/** Computes the overview from the families of a scan and the status families. */
export function overviewOf(families: readonly Family[]): Overview {
  const read = reader(families);
  const connections = read('peerscope_connections') ?? [];
  const byDirection = sumBy(connections, ({ direction = '' }) => direction);
  const runs = new Map((read('peerscope_scrape_collector_success') ?? []).map((s) => [s.labels['collector'], s.value]));
  return {
    at: (valueOf(read, 'peerscope_snapshot_timestamp_seconds') ?? 0) * 1000,
    version: (read('peerscope_build_info') ?? [])[0]?.labels['version'] ?? '',
    sockets: sum(connections),
    directions: {
      inbound: byDirection.get('inbound') ?? 0,
      outbound: byDirection.get('outbound') ?? 0,
      loopback: byDirection.get('loopback') ?? 0,
      listen: byDirection.get('listen') ?? 0,
    },
    states: countOf(connections).states,
    processes: sumOf(read, 'peerscope_processes'),
    namespaces: sum(
      (read('peerscope_network_namespaces') ?? []).filter(
        ({ labels }) => !['unreadable', 'incomplete', 'no_process'].includes(labels['status'] ?? ''),
      ),
    ),
    top: topOwners(connections),
    operators: operatorsOf(read),
    traffic: trafficOf(read),
    networks: unknownNetworks(read),
    endpoints: endpointsOf(read),
    loopbackDuplicates: valueOf(read, 'peerscope_loopback_duplicates') ?? 0,
    listeners: listenersOf(read),
    blindSpots: blindSpotsOf(read),
    costs: (read('peerscope_scrape_collector_duration_seconds') ?? []).map(({ labels, value }) => ({
      collector: labels['collector'] ?? '',
      seconds: value,
      success: runs.get(labels['collector'] ?? '') === 1,
    })),
  };
}

function reader(families: readonly Family[]): Read {
  const byName = new Map(families.map((family) => [family.name, family]));
  return (name) => {
    const family = byName.get(name);
    if (!family) return null;
    return family.samples.map(({ labels, value }) => ({
      labels: Object.fromEntries(family.labels.map((label, i) => [label, labels[i] ?? ''])),
      value,
    }));
  };
}

function topOwners(connections: readonly LabeledValue[]): Overview['top'] {
  const lines = [...grouped(connections, ownerKey).values()].map((series) => ({
    owner: ownerOf(series[0]),
    ...countOf(series),
  }));
  return rank(lines, TOP, ({ owner }) => owner.process === OTHER);
}

function operatorsOf(read: Read): Overview['operators'] {
  const all = read('peerscope_asn_connections');
  if (!all) return null;
  const facts = new Map((read('peerscope_asn_info') ?? []).map(({ labels }) => [labels['asn'], labels]));
  const answered = all.filter(({ labels }) => labels['asn'] !== '');
  const lines = [...grouped(answered, ({ asn = '' }) => asn)].map(([asn, series]) => {
    const byDirection = sumBy(series, ({ direction = '' }) => direction);
    return {
      asn,
      name: facts.get(asn)?.['as_name'] ?? '',
      country: facts.get(asn)?.['as_country'] ?? '',
      inbound: byDirection.get('inbound') ?? 0,
      outbound: byDirection.get('outbound') ?? 0,
      total: sum(series),
    };
  });
  const known = lines.filter(({ asn }) => asn !== '0' && asn !== OTHER).length;
  return { ...rank(lines, TOP, ({ asn }) => asn === OTHER), known };
}

function trafficOf(read: Read): TrafficOverview | null {
  const sent = read('peerscope_asn_sent_bytes_total');
  const received = read('peerscope_asn_received_bytes_total');
  if (!sent || !received) return null;
  const facts = new Map((read('peerscope_asn_info') ?? []).map(({ labels }) => [labels['asn'], labels]));
  const groups = (
    keyOf: (labels: LabeledValue['labels']) => string,
  ): (Traffic & { first: LabeledValue['labels'] })[] => {
    const [sentBy, receivedBy] = [sumBy(sent, keyOf), sumBy(received, keyOf)];
    const labels = new Map([...received, ...sent].map((series) => [keyOf(series.labels), series.labels]));
    return [...labels].map(([key, first]) => {
      const bytes = { sent: sentBy.get(key) ?? 0, received: receivedBy.get(key) ?? 0 };
      return { ...bytes, total: bytes.sent + bytes.received, first };
    });
  };
  const operators = groups(({ asn = '', network = '' }) => (asn === '' ? `network ${network}` : asn));
  return {
    operators: rank(
      operators.map(({ first, ...bytes }) => {
        const { asn = '', network = '' } = first;
        return { ...bytes, asn, name: facts.get(asn)?.['as_name'] ?? '', network: asn === '' ? network : '' };
      }),
      TOP,
      ({ asn }) => asn === OTHER,
    ),
    processes: rank(
      groups(ownerKey).map(({ first, ...bytes }) => ({ ...bytes, owner: ownerOf({ labels: first, value: 0 }) })),
      TOP,
      ({ owner }) => owner.process === OTHER,
    ),
  };
}

function unknownNetworks(read: Read): Overview['networks'] {
  const all = (read('peerscope_asn_connections') ?? []).filter(({ labels }) => labels['asn'] === '');
  return descending(sumBy(all, ({ network = '' }) => network));
}

function endpointsOf(read: Read): Overview['endpoints'] {
  const all = read('peerscope_endpoint_connections');
  if (!all) return null;
  const under = (direction: string): { total: number; ranking: Ranking<EndpointCount> } => {
    const own = all.filter(({ labels }) => labels['direction'] === direction);
    const keyOf = (labels: LabeledValue['labels']): string =>
      JSON.stringify([ownerKey(labels), labels['endpoint_group'], labels['transport']]);
    const lines = [...grouped(own, keyOf).values()].map((series) => ({
      owner: ownerOf(series[0]),
      name: series[0]?.labels['endpoint_group'] ?? '',
      transport: series[0]?.labels['transport'] ?? '',
      ...countOf(series),
    }));
    return { total: sum(own), ranking: rank(lines, TOP, ({ name }) => name === OTHER) };
  };
  return { inbound: under('inbound'), outbound: under('outbound'), loopback: under('loopback') };
}

function listenersOf(read: Read): Overview['listeners'] {
  const lines = (read('peerscope_listener_accept_queue') ?? []).map((series) => ({
    owner: ownerOf(series),
    address: series.labels['local_address'] ?? '',
    port: series.labels['local_port'] ?? '',
    waiting: series.value,
  }));
  lines.sort((a, b) => b.waiting - a.waiting || Number(a.port) - Number(b.port) || compare(a.address, b.address));
  const shown = lines.slice(0, MOST_LISTENERS);
  return { lines: shown, more: lines.length - shown.length, total: lines.length };
}

function blindSpotsOf(read: Read): BlindSpot[] {
  const spots: BlindSpot[] = [];
  const add = (count: number, one: string, many: string, why: string): void => {
    if (count > 0) spots.push({ amount: count.toLocaleString('en'), what: count === 1 ? one : many, why });
  };
  for (const { labels, value } of read('peerscope_sockets_unattributed') ?? []) {
    const reason = labels['reason'] ?? '';
    const why = new Map<string, string>(Object.entries(REASON_MEANINGS)).get(reason) ?? reason;
    add(value, 'socket without a process', 'sockets without a process', why);
  }
  const namespaces = (status: string): number =>
    sum((read('peerscope_network_namespaces') ?? []).filter(({ labels }) => labels['status'] === status));
  add(
    namespaces('unreadable'),
    'unreadable network namespace',
    'unreadable network namespaces',
    'permission denied; rows of the previous scan are kept',
  );
  add(
    namespaces('incomplete'),
    'incomplete network namespace',
    'incomplete network namespaces',
    'too many rows for the time or the memory; rows of the previous scan are kept',
  );
  add(
    sumOf(read, 'peerscope_malformed_rows_total') ?? 0,
    'malformed line in a socket table',
    'malformed lines in socket tables',
    'since peerscope started',
  );
  add(
    valueOf(read, 'peerscope_direction_guessed') ?? 0,
    'guessed direction',
    'guessed directions',
    'by port number, without a listening socket or an observed start',
  );
  const coverage = valueOf(read, 'peerscope_connection_coverage_ratio');
  if (coverage !== null && coverage < 1)
    spots.push({
      amount: `${Math.max(1, Math.round((1 - coverage) * 100))} %`,
      what: 'of the new TCP connections of the last five minutes were missed',
      why: 'they opened and closed between two scans; --sample.interval adds scans',
    });
  add(
    sumOf(read, 'peerscope_series_folded') ?? 0,
    'series folded into "other"',
    'series folded into "other"',
    'sums include them; raise --series.limit to show more',
  );
  add(
    valueOf(read, 'peerscope_asn_pending') ?? 0,
    'network with a pending ASN lookup',
    'networks with pending ASN lookups',
    'queries run in batches in the background',
  );
  if (valueOf(read, 'peerscope_asn_breaker_open') === 1)
    spots.push({
      amount: 'No',
      what: 'new operators',
      why: 'queries are paused after failures of the ASN provider',
    });
  if ((read('peerscope_store_up') ?? []).some(({ value }) => value === 0))
    spots.push({
      amount: 'No',
      what: 'persistent storage',
      why: 'the store of --storage.path or --storage.url is failing',
    });
  return [...spots, ...collectorSpots(read)];
}

function collectorSpots(read: Read): BlindSpot[] {
  const runs = read('peerscope_scrape_collector_success') ?? [];
  const failed = runs.filter(({ value }) => value === 0).map(({ labels }) => labels['collector'] ?? '');
  const on = new Set(runs.map(({ labels }) => labels['collector']));
  return [
    ...failed.map((name) => ({
      amount: 'Incomplete:',
      what: name,
      why: 'this collector failed or ran out of time',
    })),
    // Without a source, netlink does not run.
    ...COLLECTORS.filter((name) => runs.length > 0 && !on.has(name) && name !== 'netlink').map((name) => ({
      amount: 'Off:',
      what: name,
      why: `disabled by --no-collector.${name}`,
    })),
  ];
}

function rank<Line extends { readonly total: number }>(
  lines: Line[],
  most: number,
  isFolded: (line: Line) => boolean,
): Ranking<Line> {
  const whole = lines.filter((line) => !isFolded(line)).sort((a, b) => b.total - a.total);
  return { lines: [...whole.slice(0, most), ...lines.filter(isFolded)], more: Math.max(0, whole.length - most) };
}

function countOf(series: readonly LabeledValue[]): Count {
  return { total: sum(series), states: descending(sumBy(series, ({ state = '' }) => state)) };
}

function ownerOf(series: LabeledValue | undefined): ShownOwner {
  const { process = '', namespace = '', workload = '' } = series?.labels ?? {};
  return { process, namespace, workload };
}

function ownerKey({ process, namespace, workload }: LabeledValue['labels']): string {
  return JSON.stringify([process, namespace, workload]);
}

function grouped(
  series: readonly LabeledValue[],
  keyOf: (labels: LabeledValue['labels']) => string,
): Map<string, LabeledValue[]> {
  return Map.groupBy(series, ({ labels }) => keyOf(labels));
}

function sumBy(
  series: readonly LabeledValue[],
  keyOf: (labels: LabeledValue['labels']) => string,
): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { labels, value } of series) sums.set(keyOf(labels), (sums.get(keyOf(labels)) ?? 0) + value);
  return sums;
}

function descending(sums: ReadonlyMap<string, number>): [string, number][] {
  return [...sums].sort((a, b) => b[1] - a[1] || compare(a[0], b[0]));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function sum(series: readonly LabeledValue[]): number {
  return series.reduce((total, { value }) => total + value, 0);
}

function sumOf(read: Read, family: string): number | null {
  const series = read(family);
  return series && sum(series);
}

function valueOf(read: Read, family: string): number | null {
  return (read(family) ?? [])[0]?.value ?? null;
}
