import type { Address, OwnerLabels } from '../model.ts';

/** A connection that closed before the answer about its remote came. */
export interface Closed {
  readonly labels: OwnerLabels;
  readonly address: Address;
  readonly openedAt: number;
}

const MOST = 10_000;

/**
 * Connections of one direction that closed before the answer about their remote came, by the bucket that was asked for: of those of
 * one owner the earliest. At most 10,000; beyond, those go that have waited longest.
 */
export class Unanswered {
  readonly #buckets = new Map<string, Map<string, Closed>>();
  #size = 0;

  /** `owner` tells owners apart. */
  add(bucket: string, owner: string, closed: Closed): void {
    const known = this.#buckets.get(bucket)?.get(owner);
    if (known && known.openedAt <= closed.openedAt) return;
    if (!known && this.#size++ >= MOST) this.#giveUpOldest();
    const waiting = this.#buckets.get(bucket) ?? new Map<string, Closed>();
    this.#buckets.set(bucket, waiting.set(owner, closed));
  }

  /** Hands out those of a bucket, for good where `takes` says so. */
  offer(bucket: string, takes: (closed: Closed) => boolean): void {
    const waiting = this.#buckets.get(bucket);
    if (!waiting) return;
    for (const [owner, closed] of waiting) if (takes(closed) && waiting.delete(owner)) this.#size--;
    if (waiting.size === 0) this.#buckets.delete(bucket);
  }

  #giveUpOldest(): void {
    const [first] = this.#buckets;
    if (!first) return;
    this.#buckets.delete(first[0]);
    this.#size -= first[1].size;
  }
}
