import { formatAddress } from '../common/address.ts';
import type { Contribution } from './aggregate.ts';
import type { Listener } from './scan-data.ts';
import type { ConnectionTable } from '../collect/connection-table.ts';
import { LISTEN, TRANSPORTS, transportOf } from '../collect/net-tcp-udp-raw.ts';
import type { Direction } from '../model.ts';
import { NO_OWNER } from '../enrich/owner-labels.ts';

/** Returns the listening TCP sockets of the table. */
export function listenersOf(connections: ConnectionTable): Listener[] {
  const listeners: Listener[] = [];
  for (let i = 0; i < connections.length; i++) {
    if (connections.state[i] !== LISTEN || !connections.has(i)) continue;
    const labels = connections.labels[i] ?? NO_OWNER;
    const address = formatAddress(connections.localAddress(i));
    const port = connections.localPort[i] ?? 0;
    listeners.push({ labels, address, port, waiting: connections.receiveQueue[i] ?? 0 });
  }
  return listeners;
}

const DIRECTIONS: readonly Direction[] = ['listen', 'inbound', 'outbound', 'loopback'];

/** Counters of connections by transport and direction; every combination starts at 0. */
export class ConnectionCounters {
  readonly #counts = new Map(
    TRANSPORTS.flatMap((transport) =>
      DIRECTIONS.map((direction) => [`${transport} ${direction}`, { labels: { transport, direction }, value: 0 }]),
    ),
  );

  get contributions(): Contribution[] {
    return [...this.#counts.values()];
  }

  add(connections: ConnectionTable, index: number): void {
    const transport = transportOf(connections.table[index] ?? 0);
    const direction = connections.direction[index] ?? 'outbound';
    const count = this.#counts.get(`${transport} ${direction}`);
    if (count) count.value++;
  }
}
