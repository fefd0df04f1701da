import { formatAddress } from './address.ts';
import type { Contribution } from './aggregate.ts';
import type { Census } from './catalogue.ts';
import type { ConnectionTable } from './collect/connections.ts';
import { LISTEN, TRANSPORTS, transportOf } from './collect/sockets.ts';
import type { Direction } from './model.ts';
import { NO_OWNER } from './owner-labels.ts';

/** The parts of a census that one walk over the connections tells. */
export function takeCensus(
  connections: ConnectionTable,
): Pick<Census, 'listeners' | 'unattributed' | 'directionsGuessed'> {
  const unattributed = new Map<string, number>();
  const listeners: Census['listeners'][number][] = [];
  let directionsGuessed = 0;
  for (let i = 0; i < connections.length; i++) {
    if (connections.scanOf[i] === 0) continue;
    const labels = connections.labels[i] ?? NO_OWNER;
    const reason = connections.reason[i];
    if (labels.process === '' && reason) unattributed.set(reason, (unattributed.get(reason) ?? 0) + 1);
    if (connections.evidence[i] === 'port') directionsGuessed++;
    if (connections.state[i] !== LISTEN) continue;
    const address = formatAddress(connections.localAddress(i));
    const port = connections.localPort[i] ?? 0;
    listeners.push({ labels, address, port, waiting: connections.receiveQueue[i] ?? 0 });
  }
  return { listeners, unattributed, directionsGuessed };
}

const DIRECTIONS: readonly Direction[] = ['listen', 'inbound', 'outbound', 'loopback'];

/** Connections counted by transport and direction since the start; every pair is there from the start, at 0. */
export class Tally {
  readonly #counts = new Map(
    TRANSPORTS.flatMap((transport) =>
      DIRECTIONS.map((direction) => [`${transport} ${direction}`, { labels: { transport, direction }, value: 0 }]),
    ),
  );

  /** The counts so far. */
  get contributions(): Contribution[] {
    return [...this.#counts.values()];
  }

  /** Counts one more connection. */
  add(connections: ConnectionTable, index: number): void {
    const transport = transportOf(connections.table[index] ?? 0);
    const direction = connections.direction[index] ?? 'outbound';
    const count = this.#counts.get(`${transport} ${direction}`);
    if (count) count.value++;
  }
}
