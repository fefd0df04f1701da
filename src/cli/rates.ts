import type { Row } from '../model.ts';
import type { ScannedConnection, ScanResult } from './live-scan.ts';

/** Bytes of payload, or bytes a second. */
export interface Traffic {
  readonly sent: number;
  readonly received: number;
}

/** The traffic of a connection; null if it is unknown. */
export type TrafficOf = (connection: ScannedConnection) => Traffic | null;

interface Counted extends Traffic {
  readonly key: string;
}

/** The bytes that a connection has sent and received since it opened. */
export const totalOf: TrafficOf = ({ row: { sent_bytes: sent, received_bytes: received } }) =>
  sent === null || received === null ? null : { sent, received };

/** Compares each scan with the one before it. */
export class Rates {
  #last: ScanResult | null = null;
  #rateOf: TrafficOf | null = null;
  #counted = new Map<number, Counted>();

  /**
   * The bytes a second of each connection since the scan before; null at the first scan. A connection that opened since counts from its
   * first byte. Must be called for each scan in order, and may be called several times for the same.
   */
  of(result: ScanResult): TrafficOf | null {
    if (this.#last === result) return this.#rateOf;
    const seconds = this.#last === null ? 0 : (result.at - this.#last.at) / 1000;
    const before = this.#counted;
    this.#counted = new Map();
    const rates = new Map<number, Traffic>();
    for (const connection of result.connections()) {
      const total = totalOf(connection);
      if (!total) continue;
      const { number, row } = connection;
      const counted = { key: keyOf(row), ...total };
      const was = before.get(number);
      const isSame = was?.key === counted.key && was.sent <= total.sent && was.received <= total.received;
      this.#counted.set(number, counted);
      const base = isSame ? was : row.opened_at === null ? null : { sent: 0, received: 0 };
      if (base && seconds > 0)
        rates.set(number, {
          sent: (total.sent - base.sent) / seconds,
          received: (total.received - base.received) / seconds,
        });
    }
    this.#rateOf = seconds > 0 ? ({ number }) => rates.get(number) ?? null : null;
    this.#last = result;
    return this.#rateOf;
  }
}

/** Distinguishes a connection from a later one that reuses its number. */
function keyOf({ netns, local_address, local_port, remote_address, remote_port, opened_at }: Row): string {
  return `${netns} ${local_address} ${local_port} ${remote_address} ${remote_port} ${opened_at}`;
}

/** The sum of what is known; null if nothing is. */
export function sumOf(traffic: readonly (Traffic | null)[]): Traffic | null {
  const known = traffic.filter((one) => one !== null);
  if (known.length === 0) return null;
  return known.reduce((sum, one) => ({ sent: sum.sent + one.sent, received: sum.received + one.received }));
}
