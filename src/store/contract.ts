import type { Direction } from '../model.ts';

/** A text stored under a key until `keepUntil` (milliseconds since 1970). */
export interface StoredText {
  readonly key: string;
  readonly text: string;
  readonly keepUntil: number;
}

/**
 * Persistent storage, possibly shared by several exporters. Methods never reject. A store that fails returns nothing
 * from reads, drops writes, grants every lease, and is not `up`.
 */
export interface Store {
  readonly name: string;
  readonly up: boolean;
  /** Failed operations. Operations skipped while the store waits to retry do not count. */
  readonly failures: number;
  /**
   * State shared across hosts. Null if all users of the store run on one host; the lease alone then coordinates them.
   */
  readonly shared: SharedState | null;
  /** Returns the texts stored under these keys. Missing keys are omitted. */
  read(keys: readonly string[]): Promise<ReadonlyMap<string, string>>;
  write(texts: readonly StoredText[]): Promise<void>;
  /**
   * Writes first-seen times. An earlier stored time wins. Each entry expires 90 days after its last write. Returns
   * the previous time of each key, 'unknown' if that key failed.
   */
  writeFirstSeen(sightings: readonly FirstSeenTime[]): Promise<readonly PreviousTime[]>;
  /** Takes a lease for `ms` if it is free. Returns 0 if taken, else the milliseconds until it expires. */
  acquire(lease: string, ms: number): Promise<number>;
  /** Sets the remaining time of a lease held by this process. */
  renew(lease: string, ms: number): Promise<void>;
  release(lease: string): Promise<void>;
  close(): Promise<void>;
}

/** Queues and circuit breakers that exporters of a cluster share. Methods never reject. */
export interface SharedState {
  /**
   * Adds members to a queue, ahead of those that were added within the last `aheadMs`. Duplicates are ignored; a full queue drops new
   * members.
   */
  enqueue(queue: string, members: readonly string[], aheadMs?: number): Promise<void>;
  /** Returns up to `most` members, oldest first. Empty if the store fails. */
  readQueue(queue: string, most: number): Promise<readonly string[]>;
  dequeue(queue: string, members: readonly string[]): Promise<void>;
  /** Returns the state of a circuit breaker. Null if the store fails. */
  readBreaker(name: string): Promise<BreakerState | null>;
  writeBreaker(name: string, breaker: BreakerState): Promise<void>;
}

/** The number of consecutive failures, and the milliseconds until the breaker allows the next attempt. */
export interface BreakerState {
  readonly failures: number;
  readonly openMs: number;
}

/** The direction of the connections that a first-seen time is for; '' for those whose direction is a guess. */
export type FirstSeenDirection = Direction | '';

/** The maximum clock difference between nodes of a cluster, and the maximum step of one clock, that is tolerated. */
export const MAX_CLOCK_SKEW_MS = 300_000;

/** How long a store keeps a first-seen time after its last write. */
export const FIRST_SEEN_TTL_MS = 90 * 86_400_000;

/** A first-seen time (milliseconds since 1970) and its key in the store. */
export interface FirstSeenTime {
  /** A direction, or 'baseline'. Each category has its own capacity. */
  readonly category: FirstSeenDirection | 'baseline';
  readonly key: string;
  readonly at: number;
}

/** The time stored under a key before a write: null if there was none, 'unknown' if the store failed. */
export interface PreviousTime {
  readonly key: string;
  readonly previous: number | null | 'unknown';
}
