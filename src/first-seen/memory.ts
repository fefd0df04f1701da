import type { Address, Direction, OwnerLabels } from '../model.ts';
import { ClosedMeetings } from './pending.ts';
import { SKEW_MS, type Sighting, type Kept } from '../store/contract.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** What is remembered at most: owners, network operators of an owner in one direction, and of all owners in one direction. */
const MOST_OWNERS = 5_000;
const MOST_ASNS = 1_000;
const MOST_MEETINGS = 20_000;

/** A connection that closed before the answer about its remote came. */
interface Unanswered {
  readonly labels: OwnerLabels;
  readonly address: Address;
  readonly openedAt: number;
}

/** An owner met a network operator, in one direction. */
export interface FirstSeen {
  readonly owner: OwnerLabels;
  readonly direction: Direction;
  readonly asn: string;
  readonly at: number;
}

/** An owner has been learned about since this time. */
export interface Baseline {
  readonly owner: OwnerLabels;
  readonly at: number;
}

/** One first time. Nothing is told of it before the store was asked whether it knew better. */
interface Time {
  readonly shelf: Sighting['shelf'];
  readonly key: string;
  at: number;
  /** Whether the store has said so, or failed each time that it was asked. */
  answer: 'awaited' | 'failed' | 'given';
  /** When it turned out to be new; null where the store knew it. */
  learnedAt: number | null;
  reportedAt: number;
  seenIn: number;
}

type Met = Map<string, Time>;

interface Owner {
  readonly labels: OwnerLabels;
  readonly baseline: Time;
  readonly directions: Map<Direction, Met>;
}

/**
 * When each owner first met each network operator (ASN), and since when it has been watched.
 *
 * An owner is a process, namespace and workload; one without any name is nobody, and nothing is remembered of it. A meeting has the
 * time at which its connection opened, also where the answer about its ASN comes after the connection closed: until then it waits.
 * A store is asked for every new time and keeps the earliest of all who ever told it, so that a restart makes nothing new; until
 * it answers nothing is told. Where it fails, a meeting is told only if the owner's baseline has no answer either: beside one that the
 * store confirmed it would pass for new. Where the clock was set back, a time that lies ahead comes down to an hour before now: when it
 * was is not known any more, but it is not new.
 *
 * Bounded: 1,000 operators for an owner and direction, 20,000 for a direction (then the owners with the most have less), 5,000 owners;
 * least recently seen out first, at the end of a scan. No direction makes room for another.
 */
export class FirstSeenMemory {
  /** Who shares the memory. */
  readonly scope: 'node' | 'cluster';
  readonly #startedAt: () => number;
  readonly #owners = new Map<string, Owner>();
  readonly #ownerOf = new WeakMap<OwnerLabels, Owner>();
  readonly #times = new Map<string, Time>();
  /** How many meetings are remembered. */
  readonly #sizes = new Map<Direction, number>();
  readonly #overfull = new Set<Met>();
  /** By the bucket that was asked for. */
  readonly #unanswered = new Map<Direction, ClosedMeetings<string, Unanswered>>();
  #reports: Sighting[] = [];
  #scan = 0;
  #now = 0;

  /** `startedAt` tells when the process started, by the clock as it is now. */
  constructor(scope: 'node' | 'cluster', startedAt: () => number = () => -Infinity) {
    this.scope = scope;
    this.#startedAt = startedAt;
  }

  /** Begins a scan at a time in milliseconds. */
  begin(now: number): void {
    this.#scan++;
    this.#now = now;
  }

  /** A connection of this owner to this operator has been open since `at`. */
  meet(labels: OwnerLabels, direction: Direction, asn: string, at: number): void {
    const owner = this.#owner(labels);
    if (!owner) return;
    const met = metBy(owner, direction);
    const known = met.get(asn);
    if (known) {
      if (this.#isAhead(known)) this.#report(known, this.#now - HOUR_MS);
      else if (at < known.at && this.#believed(at) < known.at) this.#report(known, this.#believed(at));
      return;
    }
    const size = this.#sizes.get(direction) ?? 0;
    // What a scan may bring beyond the bounds; more of it is taken in when those connections close.
    if (met.size >= 2 * MOST_ASNS || size >= 2 * MOST_MEETINGS) return;
    met.set(asn, this.#newTime(direction, `first:1:${JSON.stringify([...namesOf(labels), direction, asn])}`, at));
    this.#sizes.set(direction, size + 1);
    if (met.size > MOST_ASNS) this.#overfull.add(met);
  }

  /** A connection closed before the answer about its bucket came. */
  wait(bucket: string, labels: OwnerLabels, direction: Direction, address: Address, openedAt: number): void {
    if (isNobody(labels)) return;
    const unanswered = this.#unanswered.get(direction) ?? new ClosedMeetings<string, Unanswered>();
    this.#unanswered.set(direction, unanswered);
    unanswered.add(bucket, keyOf(labels), { labels, address, openedAt });
  }

  /** The answer about a bucket came: `asnOf` tells the ASN of an address in it, null where it is not known still. */
  answered(bucket: string, asnOf: (address: Address) => string | null): void {
    for (const [direction, unanswered] of this.#unanswered)
      unanswered.offer(bucket, ({ labels, address, openedAt }) => {
        const asn = asnOf(address);
        if (asn !== null) this.meet(labels, direction, asn, openedAt);
        return asn !== null;
      });
  }

  /** The owner has a socket now; with an ASN, one that leads there in this direction. */
  present(labels: OwnerLabels, direction: Direction, asn: string): void {
    const owner = this.#owner(labels);
    if (!owner) return;
    this.#see(owner.baseline);
    const meeting = asn === '' ? undefined : owner.directions.get(direction)?.get(asn);
    if (meeting) this.#see(meeting);
  }

  /** Ends a scan: forgets what is beyond the bounds. */
  end(): void {
    if (this.#owners.size > MOST_OWNERS) {
      const newestFirst = [...this.#owners].sort(([, a], [, b]) => b.baseline.seenIn - a.baseline.seenIn);
      for (const [key, owner] of newestFirst.slice(MOST_OWNERS)) this.#forgetOwner(key, owner);
    }
    for (const [direction, size] of this.#sizes) if (size > MOST_MEETINGS) this.#level(direction);
    for (const met of this.#overfull) this.#forgetOldest(met, MOST_ASNS);
    this.#overfull.clear();
  }

  /** What the store is to be asked since the last call. */
  takeReports(): Sighting[] {
    return this.#reports.splice(0);
  }

  /** Asks for everything again: the store lost what it had. */
  reportAll(): void {
    for (const time of this.#times.values()) this.#report(time, time.at);
  }

  /** The store's answers, which came at a time in milliseconds. What others knew before is not new. */
  confirm(answers: readonly Kept[], now: number): void {
    for (const { key, before } of answers) {
      const time = this.#times.get(key);
      if (!time) continue;
      if (before === 'unknown') {
        if (time.answer === 'awaited') {
          time.answer = 'failed';
          time.learnedAt = now;
        }
        continue;
      }
      if (before === null) time.learnedAt = time.answer === 'given' ? time.learnedAt : now;
      else if (before < time.at) {
        time.at = before;
        time.learnedAt = null;
      } else if (before > now + SKEW_MS) this.#report(time, Math.min(time.at, now - HOUR_MS));
      time.answer = 'given';
    }
  }

  /** What is told of this scan: meetings that are present, or that were learned within the last hour. */
  get meetings(): FirstSeen[] {
    const told: FirstSeen[] = [];
    for (const { labels, baseline, directions } of this.#owners.values())
      for (const [direction, met] of directions)
        for (const [asn, meeting] of met)
          if (this.#isTold(meeting, baseline)) told.push({ owner: labels, direction, asn, at: this.#past(meeting.at) });
    return told;
  }

  /** Since when each owner that is present, or told about, has been watched. */
  get baselines(): Baseline[] {
    return [...this.#owners.values()]
      .filter(({ baseline, directions }) => {
        const isPresent = baseline.seenIn === this.#scan;
        const isToldOf = (): boolean =>
          directions.values().some((met) => met.values().some((meeting) => this.#isTold(meeting, baseline)));
        return baseline.answer !== 'awaited' && (isPresent || isToldOf());
      })
      .map(({ labels, baseline }) => ({ owner: labels, at: this.#past(baseline.at) }));
  }

  #isTold({ answer, seenIn, learnedAt }: Time, baseline: Time): boolean {
    const isNew = learnedAt !== null && Math.abs(this.#now - learnedAt) < HOUR_MS;
    const isSaid = answer === 'given' || (answer === 'failed' && baseline.answer === 'failed');
    return isSaid && (seenIn === this.#scan || isNew);
  }

  /** What this process saw was not before it started: the clock has been set right since. */
  #believed(at: number): number {
    return Math.max(at, this.#startedAt() - SKEW_MS);
  }

  #isAhead({ at }: Time): boolean {
    return at > this.#now + SKEW_MS;
  }

  #past(at: number): number {
    return Math.min(at, this.#now);
  }

  #owner(labels: OwnerLabels): Owner | null {
    const shared = this.#ownerOf.get(labels);
    if (shared && this.#times.get(shared.baseline.key) === shared.baseline) return shared;
    if (isNobody(labels)) return null;
    const key = keyOf(labels);
    let owner = this.#owners.get(key);
    if (!owner) {
      if (this.#owners.size >= 2 * MOST_OWNERS) return null;
      owner = { labels, baseline: this.#newTime('baseline', `base:1:${key}`, this.#now), directions: new Map() };
      this.#owners.set(key, owner);
    }
    this.#ownerOf.set(labels, owner);
    return owner;
  }

  #newTime(shelf: Sighting['shelf'], key: string, at: number): Time {
    const time: Time = { shelf, key, at, answer: 'awaited', learnedAt: null, reportedAt: 0, seenIn: this.#scan };
    this.#times.set(key, time);
    this.#report(time, this.#past(at));
    return time;
  }

  #report(time: Time, at: number): void {
    time.at = time.answer === 'given' ? at : this.#believed(at);
    time.reportedAt = this.#now;
    this.#reports.push({ shelf: time.shelf, key: time.key, at: time.at });
  }

  /** Once a day the store hears again that a time is in use. */
  #see(time: Time): void {
    if (time.seenIn === this.#scan) return;
    time.seenIn = this.#scan;
    if (this.#isAhead(time)) this.#report(time, this.#now - HOUR_MS);
    else if (Math.abs(this.#now - time.reportedAt) >= DAY_MS) this.#report(time, time.at);
  }

  /** Brings a direction below its bound: owners that met few operators keep them all, and those that met many give. */
  #level(direction: Direction): void {
    const all = [...this.#owners.values()].flatMap(({ directions }) => directions.get(direction) ?? []);
    let most = MOST_ASNS;
    while (all.reduce((sum, { size }) => sum + Math.min(size, most), 0) > MOST_MEETINGS) most >>= 1;
    for (const met of all) this.#forgetOldest(met, most);
  }

  #forgetOldest(met: Met, most: number): void {
    if (met.size <= most) return;
    const newestFirst = [...met].sort(([, a], [, b]) => b.seenIn - a.seenIn);
    for (const [asn, meeting] of newestFirst.slice(most)) this.#forget(met, asn, meeting);
  }

  #forget(met: Met, asn: string, { shelf, key }: Time): void {
    met.delete(asn);
    this.#times.delete(key);
    if (shelf !== 'baseline') this.#sizes.set(shelf, (this.#sizes.get(shelf) ?? 0) - 1);
  }

  #forgetOwner(key: string, { baseline, directions }: Owner): void {
    this.#owners.delete(key);
    this.#times.delete(baseline.key);
    for (const met of directions.values()) for (const [asn, meeting] of met) this.#forget(met, asn, meeting);
  }
}

function metBy({ directions }: Owner, direction: Direction): Met {
  const met: Met = directions.get(direction) ?? new Map<string, Time>();
  directions.set(direction, met);
  return met;
}

function namesOf({ process, namespace, workload }: OwnerLabels): readonly string[] {
  return [process, namespace, workload];
}

function keyOf(labels: OwnerLabels): string {
  return JSON.stringify(namesOf(labels));
}

/** A row without a process whose namespace tells the workload has an owner all the same. */
function isNobody({ process, workload }: OwnerLabels): boolean {
  return process === '' && workload === '';
}
