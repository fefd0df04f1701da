import type { Address, Direction, OwnerLabels } from '../model.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** What is remembered at most: owners, network operators of an owner in one direction, connections that wait for an answer. */
const MOST_OWNERS = 5_000;
const MOST_ASNS = 1_000;
const MOST_WAITING = 10_000;

/** When something was first seen, under the key that a store keeps it by; milliseconds since 1970. */
export interface Sighting {
  readonly key: string;
  readonly at: number;
}

/** How long a store keeps a time that nobody tells it again. */
export const KEPT_MS = 90 * 86_400_000;

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

interface Time {
  readonly key: string;
  at: number;
  /** Nothing is told before the store has said whether it knew better. */
  confirmed: boolean;
  reportedAt: number;
}

interface Meeting extends Time {
  /** When it turned out to be new; null where the store knew it. */
  learnedAt: number | null;
  seenIn: number;
}

interface Owner {
  readonly labels: OwnerLabels;
  readonly baseline: Time;
  readonly directions: Map<Direction, Map<string, Meeting>>;
  seenIn: number;
}

interface Unanswered {
  readonly labels: OwnerLabels;
  readonly direction: Direction;
  readonly address: Address;
  readonly at: number;
}

/**
 * When each owner first met each network operator (ASN), and since when it has been watched.
 *
 * An owner is a process, namespace and workload; one without any name is nobody, and nothing is remembered of it. A meeting has the
 * time at which its connection opened, also where the answer about its ASN comes after the connection closed: until then it waits.
 * A store is asked for every new time and keeps the earliest of all who ever told it, so that a restart makes nothing new; until
 * it answers nothing is told. Times lie never ahead: a clock that was set back takes them back with it.
 * Bounded: 1,000 operators for an owner and direction, 5,000 owners, least recently seen out first, never a direction for another.
 */
export class FirstSeenMemory {
  /** Who shares the memory. */
  readonly scope: 'node' | 'cluster';
  readonly #owners = new Map<string, Owner>();
  readonly #ownerOf = new WeakMap<OwnerLabels, Owner>();
  readonly #times = new Map<string, Time>();
  readonly #waiting = new Map<string, Map<string, Unanswered>>();
  #waits = 0;
  #reports: Sighting[] = [];
  #scan = 0;
  #now = 0;

  constructor(scope: 'node' | 'cluster') {
    this.scope = scope;
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
    const met = this.#metBy(owner, direction);
    const known = met.get(asn);
    if (known) {
      if (at < known.at) this.#report(known, at);
      return;
    }
    if (met.size >= MOST_ASNS && !this.#forgetOldest(met)) return;
    const meeting: Meeting = {
      ...this.#time(`first:1:${JSON.stringify([...namesOf(labels), direction, asn])}`, at),
      learnedAt: null,
      seenIn: this.#scan,
    };
    met.set(asn, meeting);
    this.#track(meeting);
  }

  /** A connection closed before the answer about its bucket came. */
  wait(bucket: string, labels: OwnerLabels, direction: Direction, address: Address, at: number): void {
    if (isNobody(labels)) return;
    let unanswered = this.#waiting.get(bucket);
    const key = [...namesOf(labels), direction].join('\n');
    if (unanswered?.has(key)) return;
    if (this.#waits >= MOST_WAITING) this.#giveUpOldest();
    if (!unanswered) this.#waiting.set(bucket, (unanswered = new Map<string, Unanswered>()));
    unanswered.set(key, { labels, direction, address, at });
    this.#waits++;
  }

  /** The answer about a bucket came: `asnOf` tells the ASN of an address in it, null where it is not known still. */
  answered(bucket: string, asnOf: (address: Address) => string | null): void {
    const unanswered = this.#waiting.get(bucket);
    if (!unanswered) return;
    for (const [key, { labels, direction, address, at }] of unanswered) {
      const asn = asnOf(address);
      if (asn === null) continue;
      this.meet(labels, direction, asn, at);
      unanswered.delete(key);
      this.#waits--;
    }
    if (unanswered.size === 0) this.#waiting.delete(bucket);
  }

  /** The owner has a socket now; with an ASN, one that leads there in this direction. */
  present(labels: OwnerLabels, direction: Direction, asn: string): void {
    const owner = this.#owner(labels);
    if (!owner) return;
    if (owner.seenIn !== this.#scan) {
      owner.seenIn = this.#scan;
      this.#keepTrue(owner.baseline);
    }
    const meeting = asn === '' ? undefined : owner.directions.get(direction)?.get(asn);
    if (!meeting || meeting.seenIn === this.#scan) return;
    meeting.seenIn = this.#scan;
    this.#keepTrue(meeting);
  }

  /** What the store is to be asked since the last call. */
  takeReports(): Sighting[] {
    return this.#reports.splice(0);
  }

  /** Asks for everything again: the store lost what it had. */
  reportAll(): void {
    for (const time of this.#times.values()) this.#report(time, time.at);
  }

  /** The store's answers: the earliest time it ever heard of. */
  confirm(sightings: readonly Sighting[]): void {
    for (const { key, at } of sightings) {
      const time = this.#times.get(key);
      if (!time) continue;
      if (!time.confirmed && 'learnedAt' in time && at >= time.at) time.learnedAt = this.#now;
      time.at = Math.min(time.at, at);
      time.confirmed = true;
    }
  }

  /** What is told of this scan: meetings that are present, or that were learned within the last hour. */
  get meetings(): FirstSeen[] {
    const told: FirstSeen[] = [];
    for (const { labels, directions } of this.#owners.values())
      for (const [direction, met] of directions)
        for (const [asn, meeting] of met)
          if (meeting.confirmed && this.#isTold(meeting)) told.push({ owner: labels, direction, asn, at: meeting.at });
    return told;
  }

  /** Since when each owner that is present, or told about, has been watched. */
  get baselines(): Baseline[] {
    return [...this.#owners.values()]
      .filter((owner) => owner.baseline.confirmed && (owner.seenIn === this.#scan || this.#isToldOf(owner)))
      .map(({ labels, baseline }) => ({ owner: labels, at: baseline.at }));
  }

  #isTold({ seenIn, learnedAt }: Meeting): boolean {
    return seenIn === this.#scan || (learnedAt !== null && Math.abs(this.#now - learnedAt) < HOUR_MS);
  }

  #isToldOf({ directions }: Owner): boolean {
    return directions
      .values()
      .some((met) => met.values().some((meeting) => meeting.confirmed && this.#isTold(meeting)));
  }

  #owner(labels: OwnerLabels): Owner | null {
    const shared = this.#ownerOf.get(labels);
    if (shared && this.#owners.has(keyOf(shared.labels))) return shared;
    if (isNobody(labels)) return null;
    const key = keyOf(labels);
    let owner = this.#owners.get(key);
    if (!owner) {
      if (this.#owners.size >= MOST_OWNERS) this.#forgetOldestOwner();
      const baseline = this.#time(`base:1:${key}`, this.#now);
      owner = { labels, baseline, directions: new Map(), seenIn: this.#scan };
      this.#owners.set(key, owner);
      this.#track(baseline);
    }
    this.#ownerOf.set(labels, owner);
    return owner;
  }

  #metBy({ directions }: Owner, direction: Direction): Map<string, Meeting> {
    let met = directions.get(direction);
    if (!met) directions.set(direction, (met = new Map<string, Meeting>()));
    return met;
  }

  #time(key: string, at: number): Time {
    return { key, at: Math.min(at, this.#now), confirmed: false, reportedAt: this.#now };
  }

  #track(time: Time): void {
    this.#times.set(time.key, time);
    this.#report(time, time.at);
  }

  #report(time: Time, at: number): void {
    time.at = at;
    time.reportedAt = this.#now;
    this.#reports.push({ key: time.key, at });
  }

  /** Once a day the store hears again that a time is in use; a time ahead of the clock comes down to it. */
  #keepTrue(time: Time): void {
    if (time.at > this.#now) this.#report(time, this.#now);
    else if (Math.abs(this.#now - time.reportedAt) >= DAY_MS) this.#report(time, time.at);
  }

  /** Makes room for a newcomer; false where all are present. */
  #forgetOldest(met: Map<string, Meeting>): boolean {
    let oldest: [string, Meeting] | undefined;
    for (const entry of met) if (!oldest || entry[1].seenIn < oldest[1].seenIn) oldest = entry;
    if (!oldest || oldest[1].seenIn === this.#scan) return false;
    met.delete(oldest[0]);
    this.#times.delete(oldest[1].key);
    return true;
  }

  #forgetOldestOwner(): void {
    let oldest: [string, Owner] | undefined;
    for (const entry of this.#owners) if (!oldest || entry[1].seenIn < oldest[1].seenIn) oldest = entry;
    if (!oldest) return;
    const [key, { baseline, directions }] = oldest;
    this.#owners.delete(key);
    this.#times.delete(baseline.key);
    for (const met of directions.values()) for (const meeting of met.values()) this.#times.delete(meeting.key);
  }

  #giveUpOldest(): void {
    const [first] = this.#waiting;
    if (!first) return;
    this.#waiting.delete(first[0]);
    this.#waits -= first[1].size;
  }
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
