import type { Address, OwnerLabels } from '../model.ts';
import { PendingConnections } from './pending.ts';
import {
  MAX_CLOCK_SKEW_MS,
  type FirstSeenDirection,
  type FirstSeenTime,
  type PreviousTime,
} from '../store/contract.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const MAX_OWNERS = 5_000;
/** Per owner and direction. */
const MAX_ASNS = 1_000;
/** Per direction, of all owners. */
const MAX_ENTRIES = 20_000;

/** A connection that closed before the ASN of its remote was known. */
interface Unresolved {
  readonly labels: OwnerLabels;
  readonly address: Address;
  readonly openedAt: number;
}

/** When an owner was first seen connected to an ASN in one direction; milliseconds since 1970. */
export interface FirstSeenAsn {
  readonly owner: OwnerLabels;
  readonly direction: FirstSeenDirection;
  readonly asn: string;
  readonly at: number;
}

/** Since when the ASNs of an owner have been recorded; milliseconds since 1970. */
export interface Baseline {
  readonly owner: OwnerLabels;
  readonly at: number;
}

/** One first-seen time. It is exported only after the store was asked for an earlier one. */
interface FirstTime {
  readonly shelf: FirstSeenTime['category'];
  readonly key: string;
  at: number;
  /** `failed` if the store has failed on every request so far. */
  storeAnswer: 'pending' | 'failed' | 'received';
  /** When it was found to be new; null if the store had an earlier time. */
  newSince: number | null;
  queuedAt: number;
  lastScan: number;
}

type AsnTimes = Map<string, FirstTime>;

interface OwnerHistory {
  readonly labels: OwnerLabels;
  readonly baseline: FirstTime;
  readonly directions: Map<FirstSeenDirection, AsnTimes>;
}

/**
 * Remembers when each owner was first seen connected to each ASN, and since when each owner has been recorded (its baseline).
 *
 * An owner is a process, namespace and workload; connections without a process and workload are ignored. The first-seen time is the
 * time at which the connection opened, even if its ASN is resolved only after it closed.
 *
 * The store is asked for every new time and keeps the earliest one, so nothing becomes new by a restart. Nothing is exported until the
 * store answers. If the store fails, a time is exported only if it failed for the owner's baseline too: next to a baseline that the
 * store confirmed, the time would wrongly look new. If the clock was set back, a time in the future is replaced by one hour ago:
 * the original is lost, but the entry is not new.
 *
 * Limits: 1,000 ASNs per owner and direction, 20,000 per direction (the owners with the most ASNs lose some), 5,000 owners. At the end
 * of a scan the least recently seen are dropped. A direction never evicts entries of another.
 */
export class FirstSeenMemory {
  /** Whether the times are of this node or shared by the cluster. */
  readonly scope: 'node' | 'cluster';
  readonly #startedAt: () => number;
  readonly #owners = new Map<string, OwnerHistory>();
  readonly #ownerOf = new WeakMap<OwnerLabels, OwnerHistory>();
  readonly #times = new Map<string, FirstTime>();
  /** Entries per direction. */
  readonly #sizes = new Map<FirstSeenDirection, number>();
  readonly #oversized = new Set<AsnTimes>();
  /** By bucket of the ASN cache. */
  readonly #unresolved = new Map<FirstSeenDirection, PendingConnections<string, Unresolved>>();
  #sightings: FirstSeenTime[] = [];
  #scan = 0;
  #now = 0;

  /** `startedAt` returns the start time of the process by the current clock. */
  constructor(scope: 'node' | 'cluster', startedAt: () => number = () => -Infinity) {
    this.scope = scope;
    this.#startedAt = startedAt;
  }

  /** Begins a scan; `now` in milliseconds since 1970. */
  begin(now: number): void {
    this.#scan++;
    this.#now = now;
  }

  /** Records a connection of an owner to an ASN that has been open since `at`. */
  record(labels: OwnerLabels, direction: FirstSeenDirection, asn: string, at: number): void {
    const owner = this.#owner(labels);
    if (!owner) return;
    const asns = asnsOf(owner, direction);
    const known = asns.get(asn);
    if (known) {
      if (this.#isInFuture(known)) this.#queue(known, this.#now - HOUR_MS);
      else if (at < known.at && this.#notBeforeStart(at) < known.at) this.#queue(known, this.#notBeforeStart(at));
      return;
    }
    const size = this.#sizes.get(direction) ?? 0;
    // A scan may exceed the limits up to twice; connections beyond that are recorded when they close.
    if (asns.size >= 2 * MAX_ASNS || size >= 2 * MAX_ENTRIES) return;
    asns.set(asn, this.#newTime(direction, `first:1:${JSON.stringify([...namesOf(labels), direction, asn])}`, at));
    this.#sizes.set(direction, size + 1);
    if (asns.size > MAX_ASNS) this.#oversized.add(asns);
  }

  /** Keeps a closed connection until the ASN of its bucket is resolved. */
  defer(bucket: string, labels: OwnerLabels, direction: FirstSeenDirection, address: Address, openedAt: number): void {
    if (isUnnamed(labels)) return;
    const unresolved = this.#unresolved.get(direction) ?? new PendingConnections<string, Unresolved>();
    this.#unresolved.set(direction, unresolved);
    unresolved.add(bucket, keyOf(labels), { labels, address, openedAt });
  }

  /** Records the closed connections of a bucket; `asnOf` returns the ASN of an address, or null if it is still unknown. */
  resolve(bucket: string, asnOf: (address: Address) => string | null): void {
    for (const [direction, unresolved] of this.#unresolved)
      unresolved.resolve(bucket, ({ labels, address, openedAt }) => {
        const asn = asnOf(address);
        if (asn !== null) this.record(labels, direction, asn, openedAt);
        return asn !== null;
      });
  }

  /** Marks an owner, and its ASN in this direction and in a guessed one unless the ASN is "", as present in this scan. */
  markPresent(labels: OwnerLabels, direction: FirstSeenDirection, asn: string): void {
    const owner = this.#owner(labels);
    if (!owner) return;
    this.#markSeen(owner.baseline);
    if (asn === '') return;
    for (const seen of [direction, ''] as const) {
      const time = owner.directions.get(seen)?.get(asn);
      if (time) this.#markSeen(time);
    }
  }

  /** Ends a scan: drops entries beyond the limits. */
  end(): void {
    if (this.#owners.size > MAX_OWNERS) {
      const newestFirst = [...this.#owners].sort(([, a], [, b]) => b.baseline.lastScan - a.baseline.lastScan);
      for (const [key, owner] of newestFirst.slice(MAX_OWNERS)) this.#dropOwner(key, owner);
    }
    for (const [direction, size] of this.#sizes) if (size > MAX_ENTRIES) this.#shrink(direction);
    for (const asns of this.#oversized) this.#dropOldest(asns, MAX_ASNS);
    this.#oversized.clear();
  }

  /** Returns the sightings to send to the store since the last call. */
  takeSightings(): FirstSeenTime[] {
    return this.#sightings.splice(0);
  }

  /** Queues all times for the store again, for a store that lost its data. */
  queueAll(): void {
    for (const time of this.#times.values()) this.#queue(time, time.at);
  }

  /** Applies the answers of the store; `now` in milliseconds since 1970. A time that the store had before is not new. */
  confirm(answers: readonly PreviousTime[], now: number): void {
    for (const { key, previous: before } of answers) {
      const time = this.#times.get(key);
      if (!time) continue;
      if (before === 'unknown') {
        if (time.storeAnswer === 'pending') {
          time.storeAnswer = 'failed';
          time.newSince = now;
        }
        continue;
      }
      if (before === null) time.newSince = time.storeAnswer === 'received' ? time.newSince : now;
      else if (before < time.at) {
        time.at = before;
        time.newSince = null;
      } else if (before > now + MAX_CLOCK_SKEW_MS) this.#queue(time, Math.min(time.at, now - HOUR_MS));
      time.storeAnswer = 'received';
    }
  }

  /** The first-seen ASNs to export for this scan: those that are present, or were new within the last hour. */
  get asns(): FirstSeenAsn[] {
    const exported: FirstSeenAsn[] = [];
    for (const { labels, baseline, directions } of this.#owners.values())
      for (const [direction, asns] of directions)
        for (const [asn, time] of asns)
          if (this.#isExported(time, baseline))
            exported.push({ owner: labels, direction, asn, at: this.#notInFuture(time.at) });
    return exported;
  }

  /** The baselines of owners that are present or have an exported ASN. */
  get baselines(): Baseline[] {
    return [...this.#owners.values()]
      .filter(({ baseline, directions }) => {
        const isPresent = baseline.lastScan === this.#scan;
        const hasExportedAsn = (): boolean =>
          directions.values().some((asns) => asns.values().some((time) => this.#isExported(time, baseline)));
        return baseline.storeAnswer !== 'pending' && (isPresent || hasExportedAsn());
      })
      .map(({ labels, baseline }) => ({ owner: labels, at: this.#notInFuture(baseline.at) }));
  }

  #isExported({ storeAnswer, lastScan, newSince }: FirstTime, baseline: FirstTime): boolean {
    const isNew = newSince !== null && Math.abs(this.#now - newSince) < HOUR_MS;
    const isSettled = storeAnswer === 'received' || (storeAnswer === 'failed' && baseline.storeAnswer === 'failed');
    return isSettled && (lastScan === this.#scan || isNew);
  }

  /** A time before the start of the process was taken before the clock was corrected. */
  #notBeforeStart(at: number): number {
    return Math.max(at, this.#startedAt() - MAX_CLOCK_SKEW_MS);
  }

  #isInFuture({ at }: FirstTime): boolean {
    return at > this.#now + MAX_CLOCK_SKEW_MS;
  }

  #notInFuture(at: number): number {
    return Math.min(at, this.#now);
  }

  #owner(labels: OwnerLabels): OwnerHistory | null {
    const shared = this.#ownerOf.get(labels);
    if (shared && this.#times.get(shared.baseline.key) === shared.baseline) return shared;
    if (isUnnamed(labels)) return null;
    const key = keyOf(labels);
    let owner = this.#owners.get(key);
    if (!owner) {
      if (this.#owners.size >= 2 * MAX_OWNERS) return null;
      owner = { labels, baseline: this.#newTime('baseline', `base:1:${key}`, this.#now), directions: new Map() };
      this.#owners.set(key, owner);
    }
    this.#ownerOf.set(labels, owner);
    return owner;
  }

  #newTime(shelf: FirstSeenTime['category'], key: string, at: number): FirstTime {
    const time: FirstTime = {
      shelf,
      key,
      at,
      storeAnswer: 'pending',
      newSince: null,
      queuedAt: 0,
      lastScan: this.#scan,
    };
    this.#times.set(key, time);
    this.#queue(time, this.#notInFuture(at));
    return time;
  }

  #queue(time: FirstTime, at: number): void {
    time.at = time.storeAnswer === 'received' ? at : this.#notBeforeStart(at);
    time.queuedAt = this.#now;
    this.#sightings.push({ category: time.shelf, key: time.key, at: time.at });
  }

  /** Once a day a time in use is sent to the store again, which keeps it from expiring. */
  #markSeen(time: FirstTime): void {
    if (time.lastScan === this.#scan) return;
    time.lastScan = this.#scan;
    if (this.#isInFuture(time)) this.#queue(time, this.#now - HOUR_MS);
    else if (Math.abs(this.#now - time.queuedAt) >= DAY_MS) this.#queue(time, time.at);
  }

  /** Shrinks a direction to its limit: the owners with the most ASNs lose some, the others keep all. */
  #shrink(direction: FirstSeenDirection): void {
    const all = [...this.#owners.values()].flatMap(({ directions }) => directions.get(direction) ?? []);
    let most = MAX_ASNS;
    while (all.reduce((sum, { size }) => sum + Math.min(size, most), 0) > MAX_ENTRIES) most >>= 1;
    for (const asns of all) this.#dropOldest(asns, most);
  }

  #dropOldest(asns: AsnTimes, most: number): void {
    if (asns.size <= most) return;
    const newestFirst = [...asns].sort(([, a], [, b]) => b.lastScan - a.lastScan);
    for (const [asn, time] of newestFirst.slice(most)) this.#drop(asns, asn, time);
  }

  #drop(asns: AsnTimes, asn: string, { shelf, key }: FirstTime): void {
    asns.delete(asn);
    this.#times.delete(key);
    if (shelf !== 'baseline') this.#sizes.set(shelf, (this.#sizes.get(shelf) ?? 0) - 1);
  }

  #dropOwner(key: string, { baseline, directions }: OwnerHistory): void {
    this.#owners.delete(key);
    this.#times.delete(baseline.key);
    for (const asns of directions.values()) for (const [asn, time] of asns) this.#drop(asns, asn, time);
  }
}

function asnsOf({ directions }: OwnerHistory, direction: FirstSeenDirection): AsnTimes {
  const asns: AsnTimes = directions.get(direction) ?? new Map<string, FirstTime>();
  directions.set(direction, asns);
  return asns;
}

function namesOf({ process, namespace, workload }: OwnerLabels): readonly string[] {
  return [process, namespace, workload];
}

function keyOf(labels: OwnerLabels): string {
  return JSON.stringify(namesOf(labels));
}

/** A socket without a process still has an owner if its namespace determines the workload. */
function isUnnamed({ process, workload }: OwnerLabels): boolean {
  return process === '' && workload === '';
}
