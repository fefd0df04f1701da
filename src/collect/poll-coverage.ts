import type { ConnectionTable } from './connection-table.ts';
import { UDP } from './net-tcp-udp-raw.ts';

const WINDOW_MS = 5 * 60_000;

/**
 * How many of the new TCP connections are found: those that scans saw open in the last five minutes and those whose end the kernel
 * reported, by those that it counted (ActiveOpens and PassiveOpens of RFC 4022).
 */
export class PollCoverage {
  readonly #scans: { readonly at: number; readonly seen: number; readonly opened: number }[] = [];

  /**
   * Adds a scan: `unseen` connections known only by their end, and `opened` that the kernel counted since the scan before. `at`
   * is milliseconds since 1970.
   */
  count(connections: ConnectionTable, unseen: number, opened: number, at: number): void {
    let seen = unseen;
    for (let i = 0; i < connections.length; i++) {
      if (connections.changed[i] === 0 || (connections.table[i] ?? 0) >= UDP || !connections.has(i)) continue;
      if (connections.direction[i] !== 'listen' && connections.takeBegun(i)) seen += connections.weightOf(i);
    }
    this.add(at, seen, opened);
  }

  add(at: number, seen: number, opened: number): void {
    this.#scans.push({ at, seen, opened });
    this.#forget(at);
  }

  /** Seen by opened, at most 1; null if the kernel counted none. */
  ratio(at: number): number | null {
    this.#forget(at);
    let seen = 0;
    let opened = 0;
    for (const scan of this.#scans) {
      seen += scan.seen;
      opened += scan.opened;
    }
    return opened === 0 ? null : Math.min(1, seen / opened);
  }

  #forget(at: number): void {
    while (this.#scans[0] && Math.abs(at - this.#scans[0].at) > WINDOW_MS) this.#scans.shift();
  }
}
