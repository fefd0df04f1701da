import { formatAddress } from '../common/address.ts';
import { lacksPeer } from '../collect/command-host.ts';
import { NO_UID, stateOf, transportOf } from '../collect/net-tcp-udp-raw.ts';
import type { Address, Row } from '../model.ts';
import type { Scrape, ScrapeOptions } from '../scrape.ts';
import type { ServiceNames } from '../common/etc-services.ts';

/** The collectors that rows need. */
export const ROW_COLLECTORS: ScrapeOptions['collectors'] = {
  processes: true,
  protocols: false,
  endpoints: false,
  asn: true,
  'first-seen': false,
  netlink: true,
};

/** Names for display that a scan does not collect. */
export interface Names {
  readonly service: ServiceNames;
  readonly remote: (address: Address) => string | null;
}

const NO_NAMES: Names = { service: () => null, remote: () => null };

/** Returns the connections of the last scan as JSON rows, in order. */
export function rowsOf(scrape: Scrape, names = NO_NAMES): Row[] {
  return inOrder(scrape, scrape.connections.indexes()).map((index) => rowOf(scrape, index, names));
}

/** Sorts connections by namespace, table, ends and inode, so that equal scans give equal output. */
export function inOrder(scrape: Scrape, indexes: Iterable<number>): number[] {
  const { connections } = scrape;
  const compareNamespaces = (a: number, b: number): number =>
    connections.netns[a] === connections.netns[b] ? 0 : (netnsInode(scrape, a) ?? 0) - (netnsInode(scrape, b) ?? 0);
  const compare = (a: number, b: number): number =>
    compareNamespaces(a, b) ||
    (connections.table[a] ?? 0) - (connections.table[b] ?? 0) ||
    compareWords(connections.local, a, b) ||
    (connections.localPort[a] ?? 0) - (connections.localPort[b] ?? 0) ||
    compareWords(connections.remote, a, b) ||
    (connections.remotePort[a] ?? 0) - (connections.remotePort[b] ?? 0) ||
    (connections.inode[a] ?? 0) - (connections.inode[b] ?? 0);
  return [...indexes].sort(compare);
}

/** Returns one connection as a JSON row. A connection that the last scan closed has a row until the next scan starts. */
export function rowOf(scrape: Scrape, i: number, names = NO_NAMES): Row {
  const { connections, host } = scrape;
  const table = connections.table[i] ?? 0;
  const transport = transportOf(table);
  const port = (number: number | undefined): number | null => (transport === 'raw' ? null : (number ?? 0));
  const remote = connections.hasRemote(i);
  const uid = connections.uid[i] ?? NO_UID;
  const chosen = connections.process[i] ?? null;
  const process = chosen && host.isAlive(chosen) ? chosen : null;
  const labels = connections.labels[i];
  const peer = scrape.peers.of(i);
  const origin = peer?.origin ?? null;
  const totals = connections.totalsOf(i);
  const openedAt = connections.openedAt[i] ?? 0;
  const serves = connections.direction[i] === 'listen' || connections.serves[i] === 1;
  const servicePort = port(serves ? connections.localPort[i] : connections.remotePort[i]);
  const row: Row = {
    transport,
    family: table & 1 ? 6 : 4,
    local_address: formatAddress(connections.localAddress(i)),
    local_port: port(connections.localPort[i]),
    remote_address: remote ? formatAddress(connections.remoteAddress(i)) : null,
    remote_port: remote ? port(connections.remotePort[i]) : null,
    state: stateOf(table, connections.state[i] ?? 0),
    direction: connections.direction[i] ?? 'outbound',
    direction_evidence: connections.evidence[i] ?? null,
    receive_queue: connections.receiveQueue[i] ?? 0,
    send_queue: connections.sendQueue[i] ?? 0,
    uid: uid === NO_UID ? null : uid,
    inode: connections.inode[i] || null,
    netns: netnsInode(scrape, i),
    pid: process?.pid ?? null,
    pids: (connections.holders[i] ?? []).map((holder) => holder.pid),
    process: labels?.process || null,
    owner_evidence: connections.ownerEvidence[i] ?? null,
    unattributed_reason: labels?.process ? null : (connections.reason[i] ?? null),
    process_state: process?.state ?? null,
    umask: process?.umask ?? null,
    threads: process?.threads ?? null,
    resident_memory_bytes: process?.residentMemoryBytes ?? null,
    namespace: labels?.namespace || null,
    pod: labels?.pod || null,
    container: labels?.container || null,
    container_id: chosen?.cgroup.containerId ?? null,
    workload: labels?.workload || null,
    network: peer?.network ?? null,
    asn: peer && peer.asn !== '' ? Number(peer.asn) : null,
    asns: origin ? [...origin.asns] : null,
    as_name: origin ? origin.name : peer && peer.asn !== '' ? peer.network : null,
    bgp_prefix: origin?.prefix ?? null,
    registry: origin?.registry ?? null,
    registry_country: origin?.registryCountry ?? null,
    remote_name: remote ? names.remote(connections.remoteAddress(i)) : null,
    service: servicePort === null ? null : names.service(transport, servicePort),
    opened_at: openedAt > 0 ? new Date(openedAt).toISOString() : null,
    sent_bytes: totals?.sentBytes ?? null,
    received_bytes: totals?.receivedBytes ?? null,
    retransmitted_bytes: totals?.retransmittedBytes ?? null,
    round_trip_seconds: totals?.roundTripSeconds ?? null,
    min_round_trip_seconds: totals?.minRoundTripSeconds ?? null,
    local_name: null,
    user: uid === NO_UID ? null : host.userName(uid),
    cgroup: null,
    acknowledged_bytes: null,
    retransmits: null,
    congestion_control: null,
    congestion_window: null,
    timer: null,
    timer_seconds: null,
    timer_retransmits: null,
    exe: null,
    exe_deleted: null,
    cmdline: null,
    ppid: null,
    parents: null,
    process_started_at: null,
  };
  const source = host.commandRow(i);
  return source ? { ...row, ...commandFields(source, row) } : row;
}

/** The fields from the output of a command: the connection table has 0 or its own numbers for fields that the command does not print. */
function commandFields(
  source: Row,
  { pid, remote_name, service, network, direction, direction_evidence }: Row,
): Partial<Row> {
  const isHidden = source.remote_address === null && network === 'unspecified';
  const isUnknown = lacksPeer(source);
  return {
    ...Object.fromEntries(COMMAND_FIELDS.map((key) => [key, source[key]])),
    direction: isUnknown ? null : direction,
    direction_evidence: isUnknown ? null : direction_evidence,
    network: isHidden ? null : network,
    remote_name: source.remote_name ?? remote_name,
    service: source.service ?? service,
    pid: pid === 0 ? null : pid,
    process_state: null,
    threads: null,
  };
}

const COMMAND_FIELDS = [
  'transport',
  'family',
  'local_address',
  'local_port',
  'remote_address',
  'remote_port',
  'state',
  'receive_queue',
  'send_queue',
  'uid',
  'inode',
  'pids',
  'sent_bytes',
  'received_bytes',
  'retransmitted_bytes',
  'round_trip_seconds',
  'min_round_trip_seconds',
  'local_name',
  'user',
  'cgroup',
  'acknowledged_bytes',
  'retransmits',
  'congestion_control',
  'congestion_window',
  'timer',
  'timer_seconds',
  'timer_retransmits',
] as const satisfies readonly (keyof Row)[];

function netnsInode(scrape: Scrape, i: number): number | null {
  return scrape.host.namespace(scrape.connections.netns[i] ?? 0)?.inode ?? null;
}

function compareWords(words: ArrayLike<number>, a: number, b: number): number {
  for (let word = 0; word < 4; word++) {
    const difference = (words[a * 4 + word] ?? 0) - (words[b * 4 + word] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
