import type { Direction } from '../model.ts';

/** One text under a key, to be kept until a time (milliseconds since 1970). */
export interface StoredText {
  readonly key: string;
  readonly text: string;
  readonly keepUntil: number;
}

/**
 * What outlives the process and may be shared with others. It never rejects: a store that fails reads nothing, drops what it is
 * given, grants every lease, and is not `up`.
 */
export interface Store {
  readonly name: string;
  readonly up: boolean;
  /** How often it was used and failed; what is not tried while it rests is no failure. */
  readonly failures: number;
  /** Null where all who share the store are on one host: there the lease alone keeps their sessions apart. */
  readonly commons: Commons | null;
  /** The texts kept under these keys; what is not there is left out. */
  read(keys: readonly string[]): Promise<ReadonlyMap<string, string>>;
  write(texts: readonly StoredText[]): Promise<void>;
  /**
   * Keeps each time, unless an earlier one is kept, for 90 days after it was told last, and gives what was kept before: for each key
   * alone, 'unknown' where it failed.
   */
  keepEarliest(sightings: readonly Sighting[]): Promise<readonly Kept[]>;
  /** Takes a lease for so long unless it is taken: 0, or else the milliseconds until it ends. */
  acquire(lease: string, ms: number): Promise<number>;
  /** Lets the own lease end after so long from now. */
  hold(lease: string, ms: number): Promise<void>;
  release(lease: string): Promise<void>;
  close(): Promise<void>;
}

/** What the exporters of a cluster have in common beside texts and leases. As the store, it never rejects. */
export interface Commons {
  /** Adds members to a queue, each once; a full queue takes no more. */
  enqueue(queue: string, members: readonly string[]): Promise<void>;
  /** The members of a queue, those first that came first, at most so many; none while the store fails. */
  queued(queue: string, most: number): Promise<readonly string[]>;
  dequeue(queue: string, members: readonly string[]): Promise<void>;
  /** How it stands with a breaker; null while the store fails. */
  breaker(name: string): Promise<Breaker | null>;
  setBreaker(name: string, breaker: Breaker): Promise<void>;
}

/** How often something failed in a row, and for how many milliseconds more nobody is to try it. */
export interface Breaker {
  readonly failures: number;
  readonly openMs: number;
}

/** How far the clocks of a cluster, or one clock before and after it was set right, may be apart without being wrong. */
export const SKEW_MS = 300_000;

/** How long a store keeps a time that nobody tells it again. */
export const KEPT_MS = 90 * 86_400_000;

/** When something was first seen (milliseconds since 1970), and the key that a store keeps it by. */
export interface Sighting {
  /** One for each direction and one for the baselines: in a store, no shelf makes room for another. */
  readonly shelf: Direction | 'baseline';
  readonly key: string;
  readonly at: number;
}

/** What a store kept under a key before it was told of a sighting: null where that was nothing, 'unknown' where it failed. */
export interface Kept {
  readonly key: string;
  readonly before: number | null | 'unknown';
}
