import type { ServicePorts } from '../common/etc-services.ts';
import type { Row } from '../model.ts';
import { isUnspecified, type TextEndpoint } from './endpoint.ts';
import type { LineRow } from './line.ts';

/** The address family of "*", if known. */
export type Wildcard = 4 | 6 | null;

/** What the rest of a text and the services database say about a row. */
export interface RowContext {
  readonly wildcard: Wildcard;
  /** Addresses are not truncated. */
  readonly isWide: boolean;
  readonly portOf: ServicePorts;
}

/** Converts a parsed row to a JSON row; unknown fields are null. A possibly truncated address is null unless `isWide`. */
export function rowOfText(line: LineRow, { wildcard, isWide, portOf }: RowContext): Row {
  const { transport, holders, details } = line;
  const family = line.family ?? wildcard;
  const addressOf = (end: TextEndpoint): string | null => {
    if (end.form !== '*') return end.mayBeTruncated && !isWide ? null : end.address;
    return family === null ? null : family === 4 ? '0.0.0.0' : '::';
  };
  const port = (end: TextEndpoint): number | null => {
    if (transport === 'raw') return null;
    return end.port ?? (end.service === null ? null : portOf(transport, end.service));
  };
  const hasRemote = !isUnspecified(line.remote);
  const remote = hasRemote ? addressOf(line.remote) : null;
  const state = line.state === undefined ? 'unknown' : line.state;
  const isOpen = state === 'listen' || (transport !== 'tcp' && state === 'unconnected' && !hasRemote);
  const isLoopback = remote !== null && (remote === '::1' || remote.startsWith('127.'));
  const owner = ownerOf(line);
  const service = isOpen ? line.local.service : (line.remote.service ?? line.local.service);
  return {
    transport,
    family,
    local_address: addressOf(line.local),
    local_port: port(line.local),
    remote_address: remote,
    remote_port: hasRemote ? port(line.remote) : null,
    state,
    direction: isOpen ? 'listen' : isLoopback ? 'loopback' : null,
    direction_evidence: null,
    receive_queue: line.receiveQueue,
    send_queue: line.sendQueue,
    uid: line.uid,
    inode: line.inode,
    netns: null,
    pid: owner?.pid ?? null,
    pids: [...new Set(holders.map(({ pid }) => pid).filter((pid) => pid !== null))].sort((a, b) => a - b),
    process: owner?.name ?? null,
    owner_evidence: owner ? 'text' : null,
    unattributed_reason: line.reason,
    process_state: null,
    umask: null,
    threads: null,
    resident_memory_bytes: null,
    namespace: null,
    pod: null,
    container: null,
    container_id: null,
    workload: null,
    network: null,
    asn: null,
    asns: null,
    as_name: null,
    bgp_prefix: null,
    registry: null,
    registry_country: null,
    remote_name: line.remote.name,
    service: transport === 'raw' ? null : service,
    opened_at: null,
    sent_bytes: details.sent_bytes ?? null,
    received_bytes: details.received_bytes ?? null,
    retransmitted_bytes: details.retransmitted_bytes ?? null,
    round_trip_seconds: details.round_trip_seconds ?? null,
    min_round_trip_seconds: details.min_round_trip_seconds ?? null,
    local_name: line.local.name,
    user: details.user ?? null,
    cgroup: details.cgroup ?? null,
    acknowledged_bytes: details.acknowledged_bytes ?? null,
    retransmits: details.retransmits ?? null,
    congestion_control: details.congestion_control ?? null,
    congestion_window: details.congestion_window ?? null,
    timer: details.timer ?? null,
    timer_seconds: details.timer_seconds ?? null,
    timer_retransmits: details.timer_retransmits ?? null,
    exe: null,
    exe_deleted: null,
    cmdline: null,
    ppid: null,
    parents: null,
    process_started_at: null,
  };
}

/** The holder that owns the row: the lowest pid, and pid 1 only if it is the only one. */
function ownerOf({ holders }: LineRow): LineRow['holders'][number] | undefined {
  const rank = ({ pid }: LineRow['holders'][number]): number => (pid === 1 ? Infinity : (pid ?? Infinity));
  return [...holders].sort((a, b) => rank(a) - rank(b))[0];
}
