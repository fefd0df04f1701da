import type { ConnectionTable } from './collect/connections.ts';
import { stateOf, transportOf } from './collect/sockets.ts';
import type { EndpointGroupRule, OwnerLabels, State } from './model.ts';
import { endpointGroup } from './enrich/endpoints.ts';
import type { Peer } from './enrich/peers.ts';

/** Connections that no family tells apart: how many there are, and the bytes in their queues. */
export interface Group {
  /** Every label that a family of connections may have. */
  readonly labels: Readonly<Record<string, string>>;
  readonly state: State;
  readonly hasRemote: boolean;
  /** False for the end of a loopback pair whose other end is counted as the endpoint's connection. */
  readonly isEndpoint: boolean;
  connections: number;
  receiveQueueBytes: number;
  sendQueueBytes: number;
}

const NO_OWNER: OwnerLabels = { process: '', namespace: '', workload: '', pod: '', container: '' };

/**
 * Groups the connections of the table by everything that a family may show of them. A connection is grouped anew only when something
 * about it changed, so that a scan in which nothing changed costs one addition a row.
 */
export class Groups {
  readonly #rules: readonly EndpointGroupRule[];
  readonly #groups = new Map<OwnerLabels, Map<string, Group>>();
  readonly #groupOf: (Group | undefined)[] = [];

  constructor(rules: readonly EndpointGroupRule[]) {
    this.#rules = rules;
  }

  /** Counts all connections; `peerOf` gives the peer of an index that has a remote end. */
  count(connections: ConnectionTable, peerOf: (index: number) => Peer | null): Group[] {
    for (const groups of this.#groups.values())
      for (const group of groups.values()) group.connections = group.receiveQueueBytes = group.sendQueueBytes = 0;
    for (let i = 0; i < connections.length; i++) {
      if (connections.scanOf[i] === 0) continue;
      let group = this.#groupOf[i];
      if (group === undefined || connections.changed[i] !== 0) {
        group = this.#groupFor(connections, i, peerOf(i));
        this.#groupOf[i] = group;
        connections.changed[i] = 0;
      }
      group.connections++;
      group.receiveQueueBytes += connections.receiveQueue[i] ?? 0;
      group.sendQueueBytes += connections.sendQueue[i] ?? 0;
    }
    return this.#present();
  }

  #present(): Group[] {
    const present: Group[] = [];
    for (const [owner, groups] of this.#groups) {
      for (const [key, group] of groups) {
        if (group.connections > 0) present.push(group);
        else groups.delete(key);
      }
      if (groups.size === 0) this.#groups.delete(owner);
    }
    return present;
  }

  #groupFor(connections: ConnectionTable, i: number, peer: Peer | null): Group {
    const owner = connections.labels[i] ?? NO_OWNER;
    const table = connections.table[i] ?? 0;
    const transport = transportOf(table);
    const state = stateOf(table, connections.state[i] ?? 0);
    const direction = connections.direction[i] ?? 'outbound';
    const isEndpoint = direction !== 'listen' && !connections.isDuplicate(i);
    const network = peer?.network ?? '';
    const asn = peer?.asn ?? '';
    const endpoint = direction === 'listen' ? '' : this.#endpointOf(connections, i, peer);
    let groups = this.#groups.get(owner);
    if (!groups) this.#groups.set(owner, (groups = new Map<string, Group>()));
    const key = `${transport} ${direction} ${state} ${isEndpoint} ${asn} ${network}\n${endpoint}`;
    let group = groups.get(key);
    if (!group) {
      group = {
        labels: { ...owner, transport, direction, state, network, asn, endpoint_group: endpoint },
        state,
        hasRemote: direction !== 'listen',
        isEndpoint,
        connections: 0,
        receiveQueueBytes: 0,
        sendQueueBytes: 0,
      };
      groups.set(key, group);
    }
    return group;
  }

  #endpointOf(connections: ConnectionTable, i: number, peer: Peer | null): string {
    const table = connections.table[i] ?? 0;
    const transport = transportOf(table);
    const serves = connections.serves[i] === 1;
    const port = serves ? connections.localPort[i] : connections.remotePort[i];
    const address = serves ? connections.localAddress(i) : connections.remoteAddress(i);
    const outbound = connections.direction[i] === 'outbound' ? peer : null;
    return endpointGroup(
      { address, port: transport === 'raw' ? null : (port ?? 0), transport },
      outbound && {
        network: outbound.network,
        asn: outbound.asn === '' ? null : Number(outbound.asn),
      },
      this.#rules,
    );
  }
}
