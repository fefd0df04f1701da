import type { ConnectionTable } from '../collect/connection-table.ts';
import { reasonOf } from '../common/errors.ts';
import { grown, stateOf, transportOf } from '../collect/net-tcp-udp-raw.ts';
import type { Address, Direction, EndpointGroupRule, OwnerLabels, State, Transport } from '../model.ts';
import { endpointGroup, type Endpoint } from '../enrich/endpoint-group.ts';
import type { Peer } from '../enrich/peers.ts';
import { NO_OWNER } from '../enrich/owner-labels.ts';
import { tenantOfConnection } from '../collect/tenant.ts';
import { EndpointPeers, UNKNOWN_PEER, type PeerWorkload } from './endpoint-peers.ts';

/** The connections that have equal labels in every family: their number and the bytes in their queues. */
export interface ConnectionGroup {
  /** All labels of the connection families. */
  readonly labels: Readonly<Record<string, string>>;
  /** The same labels with that of each queue. */
  readonly queues: Readonly<Record<'receive' | 'send', Readonly<Record<string, string>>>>;
  readonly owner: OwnerLabels;
  readonly tenant: string;
  readonly direction: Direction;
  readonly state: State;
  readonly hasRemote: boolean;
  /** False for the end of a loopback pair that is not counted, because its service end is. */
  readonly isEndpoint: boolean;
  readonly peer: PeerWorkload;
  connections: number;
  receiveQueueBytes: number;
  sendQueueBytes: number;
}

/**
 * Groups the connections of the table by all labels of the connection families. A connection is regrouped only if it changed;
 * counting an unchanged one costs three additions.
 */
export class ConnectionGroups {
  #rules: readonly EndpointGroupRule[];
  readonly #clusterName: ClusterName;
  readonly #peerOf: ClusterPeer;
  /** The peers of endpoints, as of the last count. */
  readonly endpointPeers: EndpointPeers;
  readonly #numbers = new Map<OwnerLabels, Map<string, number>>();
  readonly #groups: (ConnectionGroup | undefined)[] = [];
  readonly #free: number[] = [];
  #groupOf = new Int32Array(0);
  #sums = new Float64Array(0);
  #failure: string | null = null;

  constructor(
    rules: readonly EndpointGroupRule[],
    clusterName: ClusterName = () => null,
    peerOf: ClusterPeer | null = null,
  ) {
    this.#rules = rules;
    this.#clusterName = clusterName;
    this.#peerOf = peerOf ?? (() => UNKNOWN_PEER);
    this.endpointPeers = new EndpointPeers(peerOf !== null);
  }

  /** Uses these rules for connections that are marked as changed, from the next count on. */
  adopt(rules: readonly EndpointGroupRule[]): void {
    this.#rules = rules;
  }

  /** Why an endpoint rule failed in the last count, or null. The next count regroups the affected connections. */
  get failure(): string | null {
    return this.#failure;
  }

  /** Counts all connections; `peerOf` returns the peer of a connection, or null without a remote end. */
  count(connections: ConnectionTable, peerOf: (index: number) => Peer | null): ConnectionGroup[] {
    const { length, scanOf, changed, receiveQueue, sendQueue } = connections;
    if (this.#groupOf.length < length) this.#groupOf = grown(this.#groupOf, new Int32Array(scanOf.length));
    const groupOf = this.#groupOf;
    this.#failure = null;
    for (let i = 0; i < length; i++) {
      if (changed[i] === 0 || scanOf[i] === 0) continue;
      groupOf[i] = this.#groupFor(connections, i, peerOf(i));
      if (this.failure === null) connections.settle(i);
    }
    const sums = this.#cleared();
    for (let i = 0; i < length; i++) {
      if (scanOf[i] === 0) continue;
      const at = (groupOf[i] ?? 0) * 3;
      sums[at] = (sums[at] ?? 0) + 1;
      sums[at + 1] = (sums[at + 1] ?? 0) + (receiveQueue[i] ?? 0);
      sums[at + 2] = (sums[at + 2] ?? 0) + (sendQueue[i] ?? 0);
    }
    return this.#present(sums);
  }

  /** The group that a connection was counted in last; null if that group is gone. */
  groupOf(index: number): ConnectionGroup | null {
    return this.#groups[this.#groupOf[index] ?? 0] ?? null;
  }

  /** Names the endpoint of a connection by the ASN of its remote; the connection may be gone by then. "" if a rule fails. */
  endpointOf(connections: ConnectionTable, i: number, peer: Peer | null): (asn: string) => string {
    const rules = this.#rules;
    const { endpoint, outbound } = endpointFacts(connections, i, peer);
    const labels = { ...(connections.labels[i] ?? NO_OWNER), direction: connections.direction[i] ?? 'outbound' };
    const workload = this.#peerWorkload(connections, i);
    return (asn) => {
      try {
        const name = nameEndpoint(endpoint, outbound && { network: outbound.network, asn }, rules, this.#clusterName);
        this.endpointPeers.note({ ...labels, endpoint_group: name }, workload);
        return name;
      } catch {
        return '';
      }
    };
  }

  #cleared(): Float64Array {
    const length = this.#groups.length * 3;
    if (this.#sums.length < length) this.#sums = new Float64Array(length * 2);
    else this.#sums.fill(0);
    return this.#sums;
  }

  #present(sums: Float64Array): ConnectionGroup[] {
    const present: ConnectionGroup[] = [];
    this.endpointPeers.beginScan();
    for (const [owner, numbers] of this.#numbers) {
      for (const [key, number] of numbers) {
        const group = this.#groups[number];
        if (group && (sums[number * 3] ?? 0) > 0) {
          group.connections = sums[number * 3] ?? 0;
          group.receiveQueueBytes = sums[number * 3 + 1] ?? 0;
          group.sendQueueBytes = sums[number * 3 + 2] ?? 0;
          if (group.isEndpoint) this.endpointPeers.note(group.labels, group.peer);
          present.push(group);
          continue;
        }
        numbers.delete(key);
        this.#groups[number] = undefined;
        this.#free.push(number);
      }
      if (numbers.size === 0) this.#numbers.delete(owner);
    }
    return present;
  }

  #groupFor(connections: ConnectionTable, i: number, peer: Peer | null): number {
    const owner = connections.labels[i] ?? NO_OWNER;
    const table = connections.table[i] ?? 0;
    const transport = transportOf(table);
    const state = stateOf(table, connections.state[i] ?? 0);
    const direction = connections.direction[i] ?? 'outbound';
    const isEndpoint = direction !== 'listen' && !connections.isDuplicate(i);
    const network = peer?.network ?? '';
    const asn = peer?.asn ?? '';
    const endpoint = direction === 'listen' ? '' : this.#nameEndpoint(connections, i, peer);
    const tenant = tenantOfConnection(connections, i);
    const peerWorkload = isEndpoint ? this.#peerWorkload(connections, i) : UNKNOWN_PEER;
    const at = `${peerWorkload.namespace}/${peerWorkload.workload}`;
    const key = `${tenant}\n${transport} ${direction} ${state} ${isEndpoint} ${asn} ${network} ${at}\n${endpoint}`;
    let numbers = this.#numbers.get(owner);
    if (!numbers) this.#numbers.set(owner, (numbers = new Map<string, number>()));
    const known = numbers.get(key);
    if (known !== undefined) return known;
    const number = this.#free.pop() ?? this.#groups.length;
    numbers.set(key, number);
    const labels = { ...owner, transport, direction, state, network, asn, endpoint_group: endpoint };
    this.#groups[number] = {
      labels,
      queues: { receive: { ...labels, queue: 'receive' }, send: { ...labels, queue: 'send' } },
      owner,
      tenant,
      direction,
      state,
      hasRemote: direction !== 'listen',
      isEndpoint,
      peer: peerWorkload,
      connections: 0,
      receiveQueueBytes: 0,
      sendQueueBytes: 0,
    };
    return number;
  }

  #peerWorkload(connections: ConnectionTable, i: number): PeerWorkload {
    const direction = connections.direction[i];
    if (direction !== 'inbound' && direction !== 'outbound') return UNKNOWN_PEER;
    const port = direction === 'outbound' ? (connections.remotePort[i] ?? 0) : null;
    return this.#peerOf(connections.remoteAddress(i), port, transportOf(connections.table[i] ?? 0));
  }

  /** If a rule fails, the endpoint is "" and the connection is still counted. */
  #nameEndpoint(connections: ConnectionTable, i: number, peer: Peer | null): string {
    try {
      return endpointOf(connections, i, peer, this.#rules, this.#clusterName);
    } catch (error) {
      this.#failure = reasonOf(error);
      return '';
    }
  }
}

/** The Kubernetes service of an endpoint, or null. */
type ClusterName = (endpoint: Endpoint) => string | null;

/** The workload at an address. The port is null if the workload opened the connection. */
type ClusterPeer = (address: Address, port: number | null, transport: Transport) => PeerWorkload;

/** The name of the endpoint of a connection; `peer` is its remote. */
export function endpointOf(
  connections: ConnectionTable,
  i: number,
  peer: Peer | null,
  rules: readonly EndpointGroupRule[],
  clusterName: ClusterName = () => null,
): string {
  const { endpoint, outbound } = endpointFacts(connections, i, peer);
  return nameEndpoint(endpoint, outbound, rules, clusterName);
}

/** The service end of a connection, and its remote if that is the service. */
function endpointFacts(
  connections: ConnectionTable,
  i: number,
  peer: Peer | null,
): { endpoint: Endpoint; outbound: Pick<Peer, 'network' | 'asn'> | null } {
  const transport = transportOf(connections.table[i] ?? 0);
  const serves = connections.serves[i] === 1;
  const port = serves ? connections.localPort[i] : connections.remotePort[i];
  const address = serves ? connections.localAddress(i) : connections.remoteAddress(i);
  const endpoint = { address, port: transport === 'raw' ? null : (port ?? 0), transport };
  return { endpoint, outbound: connections.direction[i] === 'outbound' ? peer : null };
}

function nameEndpoint(
  endpoint: Endpoint,
  outbound: Pick<Peer, 'network' | 'asn'> | null,
  rules: readonly EndpointGroupRule[],
  clusterName: ClusterName,
): string {
  const remote = outbound && { network: outbound.network, asn: outbound.asn === '' ? null : Number(outbound.asn) };
  return endpointGroup(endpoint, remote, rules, clusterName);
}
