import { formatAddress } from '../common/address.ts';
import { AcceptQueues } from './accept-queues.ts';
import type { Contribution } from './aggregate.ts';
import { EphemeralPorts } from './ephemeral-ports.ts';
import type { Listener, ScanData } from './scan-data.ts';
import type { ConnectionTable } from '../collect/connection-table.ts';
import type { Host } from '../collect/host.ts';
import { PollCoverage } from '../collect/poll-coverage.ts';
import type { ProtocolCounters } from '../collect/protocol-counters.ts';
import { LISTEN, TRANSPORTS, transportOf } from '../collect/net-tcp-udp-raw.ts';
import type { Direction, Transport } from '../model.ts';
import { NO_OWNER } from '../enrich/owner-labels.ts';
import { tenantOfConnection } from '../collect/tenant.ts';
import type { ConnectionPeers } from '../enrich/connection-peers.ts';
import { BoundedCounters } from '../traffic/bounded-counters.ts';
import type { UnusualMemory } from '../unusual/memory.ts';
import { NOVELTY_COUNTERS, type UnusualData } from './unusual-families.ts';

/** The listening TCP sockets of the table. */
export function listenersOf(connections: ConnectionTable): Listener[] {
  const listeners: Listener[] = [];
  for (let i = 0; i < connections.length; i++) {
    if (connections.state[i] !== LISTEN || !connections.has(i)) continue;
    const labels = connections.labels[i] ?? NO_OWNER;
    const address = formatAddress(connections.localAddress(i));
    const port = connections.localPort[i] ?? 0;
    const tenant = tenantOfConnection(connections, i);
    const inode = connections.inode[i] ?? 0;
    listeners.push({ labels, tenant, address, port, inode, waiting: connections.receiveQueue[i] ?? 0 });
  }
  return listeners;
}

const DIRECTIONS: readonly Direction[] = ['listen', 'inbound', 'outbound', 'loopback'];

/** Connections counted by transport and direction since the start; every pair is there from the start, at 0. */
export class ConnectionCounters {
  readonly #counts = new Map(
    TRANSPORTS.flatMap((transport) =>
      DIRECTIONS.map((direction) => [`${transport} ${direction}`, { labels: { transport, direction }, value: 0 }]),
    ),
  );

  /** The counts so far. */
  get contributions(): Contribution[] {
    return [...this.#counts.values()];
  }

  /** Counts what an index of the table stands for. */
  add(connections: ConnectionTable, index: number): void {
    const transport = transportOf(connections.table[index] ?? 0);
    const direction = connections.direction[index] ?? 'outbound';
    this.addTo(transport, direction, connections.weightOf(index));
  }

  /** Counts more connections of a transport and a direction. */
  addTo(transport: Transport, direction: Direction, connections: number): void {
    const count = this.#counts.get(`${transport} ${direction}`);
    if (count) count.value += connections;
  }
}

/** What is counted, besides the counters that ScanCounts keeps. */
interface Counted extends Pick<ScanData, 'groups' | 'endpointPeers' | 'asnCache' | 'traffic' | 'netlink'> {
  readonly unusual: (Pick<UnusualData, 'scope' | 'firstSeen'> & { readonly memory: UnusualMemory }) | null;
  readonly connections: ConnectionTable;
  readonly host: Host;
  readonly peers: ConnectionPeers;
  readonly protocols: ProtocolCounters;
}

/** Counts everything that metrics show of a scan. */
export class ScanCounts {
  readonly #opened = new ConnectionCounters();
  readonly #closed = new ConnectionCounters();
  readonly #coverage = new PollCoverage();
  readonly #novelties: BoundedCounters;
  readonly #ephemeralPorts: EphemeralPorts;
  readonly #acceptQueues = new AcceptQueues();

  /** `seriesLimit` is the maximum number of series of a family of counters; `seed` is 32 random bits. */
  constructor(seriesLimit: number, seed = 0) {
    this.#ephemeralPorts = new EphemeralPorts(seed);
    this.#novelties = new BoundedCounters(NOVELTY_COUNTERS, seriesLimit);
  }

  /**
   * Adds the connections that a scan saw open and close. `wiped` are TCP connections outside the table that opened and closed, by
   * direction. `at` is milliseconds since 1970.
   */
  add(
    connections: ConnectionTable,
    protocols: ProtocolCounters,
    at: number,
    wiped: ReadonlyMap<Direction, number> = new Map(),
  ): void {
    let unseen = 0;
    for (const [direction, count] of wiped) {
      this.#opened.addTo('tcp', direction, count);
      this.#closed.addTo('tcp', direction, count);
      unseen += count;
    }
    for (const i of connections.opened) if (connections.isEndedOnly(i)) unseen += connections.weightOf(i);
    for (const i of connections.closed) this.#closed.add(connections, i);
    for (const i of connections.opened) if (connections.openedAt[i] !== 0) this.#opened.add(connections, i);
    this.#coverage.count(connections, unseen, protocols.opened, at);
  }

  #unusualData({ memory, ...others }: NonNullable<Counted['unusual']>, at: number): UnusualData {
    this.#novelties.beginScan(at);
    for (const { owner, kind } of memory.takeNovelties())
      this.#novelties.add([owner.namespace, owner.workload, kind], [1]);
    const { reports, watchedSince } = memory;
    return { ...others, reports, watchedSince, points: memory.points(), novelties: this.#novelties };
  }

  /** The counts of the last scan. */
  scanData({ connections, host, peers, unusual, ...counted }: Counted, at: number): ScanData {
    const { read, unchanged, empty, unreadable, incomplete } = host.status;
    const { hidden, withoutProcess } = host.unread;
    const listeners = listenersOf(connections);
    return {
      ...counted,
      unusual: unusual && this.#unusualData(unusual, at),
      listeners,
      stalls: this.#acceptQueues.stalls(listeners, at),
      ephemeralPorts: this.#ephemeralPorts.count(connections, (netns) => host.ephemeralPortsOf(netns)),
      processes: [...host.holding],
      unattributed: host.unattributed,
      directionsGuessed: connections.guessed,
      opened: this.#opened.contributions,
      closed: this.#closed.contributions,
      coverageRatio: this.#coverage.ratio(at),
      namespaces: { read, unchanged, empty, incomplete, unreadable: unreadable + hidden, no_process: withoutProcess },
      asnNames: peers.peers.names,
    };
  }
}
