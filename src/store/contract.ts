import type { Direction } from '../model.ts';

/** A text stored under a key until `keepUntil` (milliseconds since 1970). */
export interface StoredText {
  readonly key: string;
  readonly text: string;
  readonly keepUntil: number;
}

/** A small text that the exporters of a cluster share. The key begins with a lower-case letter. */
export interface StoredRecord {
  readonly key: string;
  readonly text: string;
}

/** Records that were written since a cursor, oldest write first. */
export interface RecordPage {
  /** At most 1,000; possibly none. */
  readonly records: readonly StoredRecord[];
  /** The cursor of the next page. It has no meaning outside of this store. */
  readonly next: string;
  /** Whether there were no more when the page was read. */
  readonly isLast: boolean;
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
  /**
   * Writes records; a later write replaces an earlier one. Each expires 90 days after its last write. Of too many, the owners with the
   * most lose those written longest ago. Records that are too long are ignored.
   */
  writeRecords(records: readonly StoredRecord[]): Promise<void>;
  /**
   * Reads a page of the records that were written since the cursor of a former page; null reads all, with the first-seen times of
   * version 0.1 as text. A record may be returned twice, but none is missed. Returns null if the store fails.
   */
  readRecords(since: string | null): Promise<RecordPage | null>;
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

/** The owner of a first-seen time or record, by which the store is shared: the namespace and the workload in its key. */
export function tenantOf(key: string): string {
  try {
    const names = JSON.parse(key.slice(key.indexOf('['))) as unknown[];
    // The keys of version 0.1 begin with a process.
    const [namespace = '', workload = ''] = /^(?:first|base):/.test(key) ? names.slice(1) : names;
    return `${String(namespace)}/${String(workload)}`;
  } catch {
    return '/';
  }
}
