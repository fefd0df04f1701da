import type { Log } from '../common/log.ts';
import { decodeDecision, encodeDecision, type UnusualRecord } from '../unusual/records.ts';

/** Decisions that were logged; the oldest are dropped first. */
const CAPACITY = 10_000;

/** Logs each decision of a person once: those of the status page, and those that commands and other exporters wrote to the store. */
export class DecisionLog {
  readonly #log: Pick<Log, 'info'>;
  readonly #since: number;
  readonly #logged = new Set<string>();

  /** Decisions before `since`, in milliseconds since 1970, are not logged: a former run did so. */
  constructor(log: Pick<Log, 'info'>, since: number) {
    this.#log = log;
    this.#since = since;
  }

  accept(records: readonly UnusualRecord[]): void {
    for (const record of records) {
      const decoded = decodeDecision(record, Infinity);
      if (!decoded || decoded.decision.at < this.#since) continue;
      const { owner, what, decision } = decoded;
      const key = JSON.stringify(encodeDecision(owner, what, decision));
      if (this.#logged.has(key)) continue;
      const [oldest = ''] = this.#logged;
      if (this.#logged.size >= CAPACITY) this.#logged.delete(oldest);
      this.#logged.add(key);
      const { isAccepted, at, by, why } = decision;
      this.#log.info(
        { ...owner, what, by, at: new Date(at).toISOString(), ...(why !== '' && { why }) },
        isAccepted ? 'declared normal' : 'declared not normal',
      );
    }
  }
}
