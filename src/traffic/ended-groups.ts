import type { ConnectionTable } from '../collect/connection-table.ts';
import type { ScannedNamespaces } from '../collect/namespace-tables.ts';
import { EndedSockets } from '../collect/sock-diag.ts';
import { copyRow } from './ended-rows.ts';

/** Groups in all. A network namespace may use half of them, or as many as are left. */
const MAX_GROUPS = 16_384;
/** From this number of groups on, a network namespace has fewer ones for the ports of clients. */
const CROWDED = 1_024;

/** Observed round-trip times. */
export interface RoundTrips {
  sumUs: number;
  count: number;
}

/** A group: several connections that ended, with equal ends except for the port of a client. */
interface Group {
  readonly netns: number;
  size: number;
  readonly roundTrips: RoundTrips;
}

/**
 * Connections that no scan saw, grouped by what their owner, direction and peer depend on. The groups enter the connection table once
 * a scan.
 */
export class EndedGroups {
  readonly #connections: ConnectionTable;
  readonly #namespaces: ScannedNamespaces;
  /** The sums of each group. */
  readonly #rows = new EndedSockets();
  readonly #byKey = new Map<string, number>();
  readonly #sizes = new Map<number, number>();
  #groups: Group[] = [];

  constructor(connections: ConnectionTable, namespaces: ScannedNamespaces) {
    this.#connections = connections;
    this.#namespaces = namespaces;
  }

  /** Adds a connection; `isApart` gives it a group of its own while there are places. Returns the number of its group; -1 for none. */
  add(netns: number, ended: EndedSockets, row: number, isApart: boolean): number {
    const key = this.#keyOf(netns, ended, row);
    const known = this.#byKey.get(key);
    if (known !== undefined && !(isApart && this.#hasPlace(netns))) {
      this.#addTo(known, ended, row);
      return known;
    }
    if (!this.#hasPlace(netns)) return -1;
    const group = copyRow(ended, row, this.#rows);
    const sumUs = ended.minRoundTripUs[row] ?? 0;
    this.#groups.push({ netns, size: 1, roundTrips: { sumUs, count: sumUs > 0 ? 1 : 0 } });
    this.#sizes.set(netns, (this.#sizes.get(netns) ?? 0) + 1);
    this.#byKey.set(key, group);
    return group;
  }

  /** Adds received payload to a group. */
  addReceived(group: number, bytes: number): void {
    this.#rows.receivedBytes[group] = (this.#rows.receivedBytes[group] ?? 0) + bytes;
  }

  /** Moves all groups to the connection table. Returns their indexes there, by number, and the round-trip times by index. */
  enter(): { indexes: number[]; roundTrips: Map<number, RoundTrips> } {
    const roundTrips = new Map<number, RoundTrips>();
    const indexes = this.#groups.map(({ netns, size, roundTrips: times }, row) => {
      const { facts } = this.#namespaces;
      const i = this.#connections.addEnded(netns, this.#rows.table[row] ?? 0, this.#rows, row, size, facts);
      roundTrips.set(i, times);
      return i;
    });
    this.#rows.clear();
    this.#byKey.clear();
    this.#sizes.clear();
    this.#groups = [];
    return { indexes, roundTrips };
  }

  #hasPlace(netns: number): boolean {
    return (this.#sizes.get(netns) ?? 0) < MAX_GROUPS - this.#groups.length;
  }

  #addTo(group: number, ended: EndedSockets, row: number): void {
    const rows = this.#rows;
    rows.sentBytes[group] = (rows.sentBytes[group] ?? 0) + (ended.sentBytes[row] ?? 0);
    rows.retransmittedBytes[group] = (rows.retransmittedBytes[group] ?? 0) + (ended.retransmittedBytes[row] ?? 0);
    this.addReceived(group, ended.receivedBytes[row] ?? 0);
    const sums = this.#groups[group];
    if (!sums) return;
    sums.size++;
    const roundTrip = ended.minRoundTripUs[row] ?? 0;
    if (roundTrip === 0) return;
    sums.roundTrips.sumUs += roundTrip;
    if (sums.roundTrips.count++ === 0 || roundTrip < (rows.minRoundTripUs[group] ?? 0))
      rows.minRoundTripUs[group] = roundTrip;
  }

  /**
   * The port of a client is left out: nothing depends on it. Which port that is, the listener says, else the ephemeral range; many groups
   * mean that the namespace has another range, which cannot be read from outside: then it is the larger port.
   */
  #keyOf(netns: number, ended: EndedSockets, row: number): string {
    const { local, remote } = ended;
    const table = ended.table[row] ?? 0;
    const localPort = ended.localPort[row] ?? 0;
    const remotePort = ended.remotePort[row] ?? 0;
    const [first, last] = this.#namespaces.facts.ephemeralPortsOf(netns);
    const isEphemeral = (port: number): boolean => port >= first && port <= last;
    const isAccepted = this.#connections.listenerFor(netns, table, ended, row) >= 0;
    const isCrowded = (this.#sizes.get(netns) ?? 0) >= CROWDED;
    const from = isAccepted || !(isEphemeral(localPort) || (isCrowded && localPort > remotePort)) ? localPort : 0;
    const to = isAccepted && (isEphemeral(remotePort) || isCrowded) ? 0 : remotePort;
    const at = row * 4;
    return `${netns} ${table} ${local[at]} ${local[at + 1]} ${local[at + 2]} ${local[at + 3]} ${from} ${remote[at]} ${remote[at + 1]} ${remote[at + 2]} ${remote[at + 3]} ${to} ${ended.hasTotals[row]}`;
  }
}
