import type { Host } from '../collect/host.ts';
import type { SocketSource } from '../collect/netlink.ts';
import type { ConnectionTable } from '../collect/connection-table.ts';
import type { Direction, OwnerLabels } from '../model.ts';
import { TrafficLedger, type Group, type LedgerSources } from './ledger.ts';
import type { Traffic } from './traffic-counters.ts';

/** The state of the socket source. `scope` says whether it covers one network namespace or all. */
export interface NetlinkStatus {
  readonly scope: 'own' | 'all';
  readonly isUp: boolean;
  /** Ended sockets that were reported. */
  readonly events: number;
  /** Losses of events because the receive buffer was full. */
  readonly overruns: number;
  /** Connections that were gone without an event. */
  readonly closedWithoutTotals: number;
}

/** The state of a source that was asked for and does not exist. */
export const NO_SOURCE: NetlinkStatus = { scope: 'own', isUp: false, events: 0, overruns: 0, closedWithoutTotals: 0 };

/** Counts the bytes of connections, and those that ended, from a socket source. */
export class TrafficCollector {
  readonly #host: Host;
  readonly #sockets: SocketSource;
  readonly #ledger: TrafficLedger;

  private constructor(host: Host, sockets: SocketSource, ledger: TrafficLedger) {
    this.#host = host;
    this.#sockets = sockets;
    this.#ledger = ledger;
  }

  /** Null without a source, and for rows that come from a command. To be opened before the first scan. */
  static open(
    host: Host,
    connections: ConnectionTable,
    sockets: SocketSource | null,
    sources: Omit<LedgerSources, 'connections' | 'namespaces'>,
    seriesLimit: number,
  ): TrafficCollector | null {
    const { namespaces } = host;
    if (!sockets || !namespaces) return null;
    connections.keepTotals();
    return new TrafficCollector(host, sockets, new TrafficLedger({ ...sources, connections, namespaces }, seriesLimit));
  }

  /** Matches ended sockets to connections, after the rows of a scan were merged. `began` is when it began (monotonic milliseconds). */
  match(at: number, began: number): void {
    this.#ledger.match(this.#sockets, at, began);
  }

  /** Counts what ended. Returns the number of connections that no scan saw and that are not in the table, by direction. */
  countEnded(at: number, renamed: ReadonlyMap<OwnerLabels, OwnerLabels>): ReadonlyMap<Direction, number> {
    return this.#ledger.countEnded(at, renamed);
  }

  /** Counts what open connections have transferred since the last scan, by their groups. */
  countOpen(groupOf: (index: number) => Group | null, at: number): void {
    this.#ledger.countOpen(groupOf, at);
  }

  /** Null while the source is down: its families are absent then. */
  get traffic(): Traffic | null {
    return this.#sockets.isUp ? this.#ledger.traffic : null;
  }

  get status(): NetlinkStatus {
    const { scope, isUp, events, overruns } = this.#sockets;
    return { scope, isUp, events, overruns, closedWithoutTotals: this.#ledger.closedWithoutTotals };
  }

  /** Takes in sockets that ended, so that few wait for the next scan. */
  takeEnded(): void {
    this.#ledger.take(this.#sockets.takeEnded());
  }

  /** Gives each connection that ends between two scans a row of its own among the changes, or ends that. */
  listEach(isWanted: boolean): void {
    this.#ledger.listEach(isWanted);
  }

  /** Asks the source for the nsids of namespaces whose nsid is unknown. */
  async learnNsids(): Promise<void> {
    if (this.#sockets.scope !== 'all') return;
    const numbers = new Map<number, number>();
    for (const number of this.#ledger.unknownNamespaces()) {
      const pid = this.#host.namespace(number)?.pids[0];
      if (pid !== undefined) numbers.set(pid, number);
    }
    if (numbers.size === 0) return;
    const nsids = await this.#sockets.nsidsOf([...numbers.keys()]);
    const byNumber = new Map<number, number>();
    for (const [pid, nsid] of nsids) {
      const number = numbers.get(pid);
      if (number !== undefined) byNumber.set(number, nsid);
    }
    this.#ledger.learnNsids(byNumber);
  }
}
