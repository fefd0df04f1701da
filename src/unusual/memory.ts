import { operatorOf, tradeOf } from './grammar/operators.ts';
import { judge, PUBLISHED, type Evidence, type Owner, type Reach, type Report } from './evidence.ts';
import {
  decisionKey,
  decodeDecision,
  decodeRecord,
  decodeReport,
  encodeDecision,
  encodeEntry,
  encodeReport,
  encodeWorkload,
  entryKey,
  reportKey,
  type UnusualRecord,
} from './records.ts';
import { busyHour } from './busy-hour.ts';
import { CLOCK_SKEW_MS, isCalm, isReleased, isRestless, lateness, newInHour } from './gates.ts';
import { listenerWhat, operatorWhat, parseWhat, portWhat, withoutRelease } from './grammar/what.ts';
import { thingsIn, type Holder, type Observation } from './observation.ts';
import { Reports } from './reports.ts';
import { fairShares, isHeld, isKept, tenantOf } from './shares.ts';
import { DAY_MS, THING_KINDS, WorkloadMemory, type Decision, type Entry, type ThingKind } from './workload-memory.ts';

const HOUR_MS = 3_600_000;
/** A thing that was not met for this time is forgotten. */
const FORGET_MS = 90 * DAY_MS;

const MAX_WORKLOADS = 5_000;
/** Per workload and kind. */
const MAX_THINGS = 200;
const MAX_CLIENTS = 1_000;
/** A full list takes a new thing only for one that was not met for this time. */
const REPLACE_MS = HOUR_MS;
/** Strangers choose the operators that connect. */
const REPLACE_CLIENT_MS = DAY_MS;
/** Of all workloads, for outbound things and listeners; strangers choose the inbound ones, which have a limit of their own. */
const MAX_ENTRIES = 40_000;
const MAX_INBOUND_ENTRIES = 10_000;
/** A full memory is emptied to this part of its limit, so that it is not emptied at every scan. */
const KEPT = 0.95;
/** Per workload and hour. It is critical long before, and more would only hide what others do. */
const MAX_WORKLOAD_REPORTS = 50;
/** Decisions of people, per workload. */
const MAX_DECISIONS = 200;
/** Operators and peers of the current hour, of all workloads that are not learned. A tenant has at most as many as are left. */
const MAX_COUNTED = 100_000;

/** Open sockets are observed once an hour. */
const OBSERVED_MS = 2 * HOUR_MS;

/** A first-seen time for the store, and the answer. Each category has its own capacity there. */
export interface Sighting {
  readonly category: 'outbound' | 'inbound';
  readonly key: string;
  readonly at: number;
}

export interface PreviousTime {
  readonly key: string;
  readonly previous: number | null | 'unknown';
}

/** A new thing that waits for the store: another node may have met it before. */
interface Candidate {
  readonly memory: WorkloadMemory;
  readonly kind: ThingKind;
  readonly what: string;
  readonly entry: Entry;
  readonly holder: Holder;
  readonly remote: RemoteEnd;
}

interface RemoteEnd {
  readonly asn: number | null;
  /** Such as tcp/5432; "" if only the local port is known. */
  readonly port: string;
}

export interface UnusualOptions {
  /** Whether nodes share what they learn. Without a store, new things are known to be new at once. */
  readonly isShared: boolean;
  /** The name of this node: after a restart it reports again what the store has as its reports of the last hour. */
  readonly node?: string;
  /** Whether an owner's `what` is declared to be normal by an annotation or the configuration. */
  readonly isExpected?: (owner: Owner, what: string, at: number) => boolean;
  /** Suspect operators, which are reported without the gates. */
  readonly suspects?: () => ReadonlySet<string>;
}

/**
 * Remembers what each workload meets, and reports what is unusual for it.
 *
 * A workload is the owner, on whichever node its processes run; a process is one of the things that it meets. A new thing is recorded at once
 * and reported when the store confirms that no other node had met it. Gates decide which new things count: the workload must be learned
 * and calm in this kind; points depend on how many other calm workloads know the thing (reach), on a rollout, and on whether the process
 * started late.
 *
 * Bounded: per workload and kind, in all, and in workloads. Each tenant has the same share, and what it does not use is lent: of the tenants
 * with the most, the least recently seen are dropped first. What strangers choose (the operators of inbound connections) has a limit of its
 * own, and evicts nothing else.
 */
export class UnusualMemory {
  readonly #options: UnusualOptions;
  readonly #workloads = new Map<string, WorkloadMemory>();
  /** The workloads that know a thing. */
  readonly #knownBy = new Map<string, Set<WorkloadMemory>>();
  readonly #candidates = new Map<string, Candidate>();
  /** Those that the store did not know, while its records are not all merged. */
  readonly #confirmed = new Set<Candidate>();
  #sightings: Sighting[] = [];
  readonly #reports = new Reports();
  readonly #dirty = new Map<string, () => UnusualRecord | null>();
  /** Keys of entries, least recently seen first. */
  readonly #outbound = new Map<string, Candidate['entry']>();
  readonly #inbound = new Map<string, Candidate['entry']>();
  #isComplete: boolean;
  #now = 0;
  #hour = 0;
  /** Operators and peers that workloads that are not learned met in this hour, by tenant and in all. */
  readonly #counted = new Map<string, number>();
  #countedInAll = 0;

  constructor(options: UnusualOptions) {
    this.#options = options;
    this.#isComplete = !options.isShared;
  }

  /** Begins a scan; `now` in milliseconds since 1970. */
  begin(now: number): void {
    this.#now = now;
    const hour = Math.floor(now / HOUR_MS);
    if (hour !== this.#hour) {
      const isNextDay = Math.floor(hour / 24) !== Math.floor(this.#hour / 24);
      for (const memory of this.#workloads.values()) {
        memory.closeHour(now);
        if (isNextDay) this.#markDecisions(memory);
      }
      this.#counted.clear();
      [this.#hour, this.#countedInAll] = [hour, 0];
    }
    this.#reports.begin(now);
  }

  /** Notes a rollout. */
  release(owner: Owner, at: number): void {
    const memory = this.#workloadOf(owner, at);
    if (!memory || (memory.releasedAt ?? -Infinity) >= at) return;
    memory.releasedAt = at;
    this.#markWorkload(memory);
  }

  /** Notes what a workload runs, such as the hash of its pod template: a version that was not there before is a rollout. */
  noteVersion(owner: Owner, version: string, at: number): void {
    const memory = this.#workloadOf(owner, at);
    if (!memory || memory.hasVersion(version)) return;
    const isFirst = memory.versions.length === 0;
    memory.addVersion(version);
    this.#markWorkload(memory);
    if (!isFirst) this.release(owner, at);
  }

  /** Notes that a workload is there, with sockets that are of no interest: quiet hours are learned too. */
  watch(owner: Owner, at: number, tenant?: string): WorkloadMemory | null {
    const memory = this.#workloadOf(owner, at, tenant);
    if (!memory) return null;
    memory.observedAt = this.#now;
    if (memory.markActive(this.#now)) this.#markWorkload(memory);
    return memory;
  }

  observe(observation: Observation): void {
    const { owner, holder, at, heldAt = at, tenant } = observation;
    const memory = this.watch(owner, at, tenant);
    if (!memory) return;
    const remote = {
      asn: 'asn' in observation ? observation.asn : null,
      port: 'transport' in observation ? portWhat(observation.transport, observation.port) : '',
    };
    for (const { kind, what, isOfHolder } of thingsIn(observation))
      this.#meet(memory, kind, what, isOfHolder ? heldAt : at, holder, remote);
    if (observation.event !== 'outbound' || observation.network === 'cloud_metadata') return;
    const { network, asn, port, peer } = observation;
    if (network === 'inside') this.#countHour(memory, holder, { peer: `${peer ?? ''} ${port}` });
    else this.#countHour(memory, holder, asn ? { operator: operatorWhat(asn) } : {});
  }

  /** Whether a workload was seen with this listener. */
  hasListener(owner: Owner, transport: string, port: number): boolean {
    return this.#workloads.get(ownerKey(owner))?.thing('listener', listenerWhat(transport, port)) !== undefined;
  }

  /** Adds bytes that a workload sent to an operator; only where the kernel counts them. */
  addBytes(owner: Owner, holder: Holder, asn: number | null, bytes: number): void {
    const memory = this.#workloadOf(owner, this.#now);
    if (memory && bytes > 0)
      this.#countHour(memory, holder, { bytes, ...(asn ? { operator: operatorWhat(asn) } : {}) });
  }

  /** Declares a thing normal for a workload (`peerscope accept`), or not normal: then it is new when it is met again. */
  decide(owner: Owner, what: string, isAccepted: boolean, at: number, by: string, why = ''): string | null {
    const value = parseWhat(what);
    if (typeof value !== 'string') return value.problem;
    const memory = this.#workloadOf(owner, at);
    if (!memory) return `Cannot remember "${owner.namespace}/${owner.workload}": too many workloads`;
    this.#apply(memory, value, { isAccepted, at, by, why });
    this.#markDecision(memory, value);
    return null;
  }

  /** Ends a scan: drops what is beyond the limits. */
  end(): void {
    const now = this.#now;
    const isExpired = ({ lastAt }: { lastAt: number }): boolean => now - lastAt > FORGET_MS;
    this.#expire(this.#outbound, isExpired);
    this.#expire(this.#inbound, isExpired);
    this.#trim(false);
    this.#trim(true);
    this.#trimWorkloads();
  }

  /** The first-seen times to send to the store since the last call. */
  takeSightings(): Sighting[] {
    return this.#sightings.splice(0);
  }

  /** Applies the answers of the store. A thing that the store had is not new. */
  confirm(answers: readonly PreviousTime[], now: number): void {
    this.#now = Math.max(this.#now, now);
    for (const { key, previous } of answers) {
      const candidate = this.#candidates.get(key);
      if (!candidate) continue;
      const { entry } = candidate;
      if (previous === 'unknown' && !this.#isComplete) {
        // Without the memory of the others nothing is known to be new: ask again.
        this.#sightings.push(sightingOf(candidate, key));
        continue;
      }
      const distrusted = candidate.memory.decisions.get(candidate.what);
      const isForgotten = distrusted !== undefined && !distrusted.isAccepted && Number(previous) <= distrusted.at;
      // An equal time is this node's own, whose answer was lost.
      if (typeof previous === 'number' && previous < entry.firstAt && !isForgotten) {
        entry.firstAt = previous;
        entry.recordedAt = Math.min(entry.recordedAt, previous);
        this.#candidates.delete(key);
        this.#markEntry(candidate.memory, candidate.kind, candidate.what);
      } else if (this.#isComplete) {
        this.#candidates.delete(key);
        this.#settle(candidate);
        // The record of another node or of a former run may still come.
      } else this.#confirmed.add(candidate);
    }
  }

  /** Says that all records of the store were merged: from then on, new things are known to be new even while the store is down. */
  markComplete(): void {
    this.#isComplete = true;
    for (const candidate of this.#confirmed) {
      const { memory, kind, what } = candidate;
      const key = entryKey(memory, kind, what);
      if (this.#candidates.get(key) === candidate && this.#candidates.delete(key)) this.#settle(candidate);
    }
    this.#confirmed.clear();
  }

  /** Merges records of the store, which other nodes or a former run wrote. The earliest first time wins. Records that are not valid are ignored. */
  merge(records: readonly UnusualRecord[], now: number): void {
    this.#now = Math.max(this.#now, now);
    for (const record of records) {
      const reported = decodeReport(record, now + CLOCK_SKEW_MS);
      if (reported) this.#restore(reported.report, reported.node);
      const decided = decodeDecision(record, now + CLOCK_SKEW_MS);
      if (decided) this.#mergeDecision(decided.owner, decided.what, decided.decision);
      const decoded = decodeRecord(record, now + CLOCK_SKEW_MS);
      if (!decoded) continue;
      const memory = this.#workloadOf(decoded.owner, decoded.since ?? decoded.entry.firstAt);
      if (!memory) continue;
      if (decoded.entry) this.#mergeEntry(memory, decoded.kind, decoded.what, decoded.entry);
      else {
        // Two nodes may write at once: the later record is not the better one.
        if (decoded.since > memory.since || later(decoded.learnedAt, memory.learnedAt)) this.#markWorkload(memory);
        memory.since = Math.min(memory.since, decoded.since);
        memory.lastAt = Math.max(memory.lastAt, decoded.lastAt);
        memory.learnedAt = earliest(memory.learnedAt, decoded.learnedAt);
        memory.operatorsLearnedAt = earliest(memory.operatorsLearnedAt, decoded.operatorsLearnedAt);
        memory.activeHours = Math.max(memory.activeHours, decoded.activeHours);
        memory.releasedAt = latest(memory.releasedAt, decoded.releasedAt);
        for (const version of decoded.versions) memory.addVersion(version);
        for (const hour of decoded.busiest) memory.mergeHour(hour);
      }
    }
  }

  /**
   * Records that changed since the last call: about 100 bytes for a thing, 1,000 for a workload. None before the records of the store are
   * merged: they would replace what was learned before.
   */
  takeRecords(): UnusualRecord[] {
    if (!this.#isComplete) return [];
    const records = [...this.#dirty.values()].flatMap((encode) => encode() ?? []);
    this.#dirty.clear();
    return records;
  }

  /** Marks all records as changed, for a store that lost its data. */
  markAllChanged(): void {
    for (const memory of this.#workloads.values()) {
      this.#markWorkload(memory);
      for (const [kind, things] of memory.things) for (const what of things.keys()) this.#markEntry(memory, kind, what);
      this.#markDecisions(memory);
    }
    for (const report of this.#reports.all) this.#markReport(report);
  }

  /** What was reported, and is exported. */
  get reports(): readonly Report[] {
    return this.#reports.all;
  }

  /** Says that these reports were exported; those that came after the scan are not. */
  markExported(exported: readonly Report[], now: number): void {
    this.#reports.markExported(exported, now);
  }

  /** The decisions of people. */
  get decisions(): { readonly owner: Owner; readonly what: string; readonly decision: Decision }[] {
    return [...this.#workloads.values()].flatMap((memory) =>
      [...memory.decisions].map(([what, decision]) => ({ owner: memory, what, decision })),
    );
  }

  /** The sum of points of each workload with a report. */
  points(): { readonly owner: Owner; readonly points: number }[] {
    return this.#reports.points();
  }

  /** The novelties that were reported since the last call, to be counted. */
  takeNovelties(): Pick<Report, 'owner' | 'kind'>[] {
    return this.#reports.takeNovelties();
  }

  /** Since when each workload that this node observed in the past two hours has been watched. */
  get watchedSince(): { readonly owner: Owner; readonly at: number }[] {
    return [...this.#workloads.values()]
      .filter(({ observedAt }) => Math.abs(this.#now - observedAt) < OBSERVED_MS)
      .map((memory) => ({ owner: memory, at: Math.min(memory.since, this.#now) }));
  }

  /** Since when a workload has been watched; null if it is not known. */
  sinceOf(owner: Owner): number | null {
    const since = this.#workloads.get(ownerKey(owner))?.since ?? null;
    return since === null ? null : Math.min(since, this.#now);
  }

  /** Whether there was enough of a workload to compare with. */
  isLearned(owner: Owner): boolean {
    return (this.#workloads.get(ownerKey(owner))?.learnedAt ?? null) !== null;
  }

  /** When a workload first met an operator; null if it is not known, or the store has not answered yet. */
  firstAtOf(owner: Owner, direction: 'outbound' | 'inbound', asn: number): number | null {
    const kind = direction === 'outbound' ? 'operator' : 'client';
    const what = operatorWhat(asn);
    const firstAt = this.#workloads.get(ownerKey(owner))?.thing(kind, what)?.firstAt ?? null;
    return firstAt === null || this.#candidates.has(entryKey(owner, kind, what)) ? null : Math.min(firstAt, this.#now);
  }

  workloads(): Iterable<WorkloadMemory> {
    return this.#workloads.values();
  }

  /** The number of entries, for limits and tests. */
  get size(): { readonly workloads: number; readonly outbound: number; readonly inbound: number } {
    return { workloads: this.#workloads.size, outbound: this.#outbound.size, inbound: this.#inbound.size };
  }

  #mergeDecision(owner: Owner, what: string, decision: Decision): void {
    const memory = this.#workloadOf(owner, decision.at);
    const known = memory?.decisions.get(what)?.at ?? -Infinity;
    if (memory && known < decision.at) this.#apply(memory, what, decision);
    else if (memory && known > decision.at) this.#markDecision(memory, what);
  }

  /** Remembers a decision. The oldest ones beyond the limit of a workload are dropped. */
  #apply(memory: WorkloadMemory, what: string, decision: Decision): void {
    memory.decisions.set(what, decision);
    for (const [oldest] of [...memory.decisions].sort(([, a], [, b]) => b.at - a.at).slice(MAX_DECISIONS))
      memory.decisions.delete(oldest);
    if (!decision.isAccepted) this.#forget(memory, what, decision.at);
    else this.#reports.end(memory, (report) => this.#isSilenced(memory, report));
  }

  /** Whether a report ends because its `what` was declared normal. Suspects and calls to the metadata service never end. */
  #isSilenced(memory: WorkloadMemory, { kind, what }: Evidence): boolean {
    if (kind === 'metadata' || !this.#isExpected(memory, what)) return false;
    return ![...(this.#options.suspects?.() ?? [])].some((suspect) => parseWhat(suspect) === what);
  }

  #workloadOf(owner: Owner, at: number, tenant?: string): WorkloadMemory | null {
    const key = ownerKey(owner);
    const known = this.#workloads.get(key);
    if (known) {
      known.tenant ??= tenant;
      return known;
    }
    if (this.#workloads.size >= 2 * MAX_WORKLOADS) this.#trimWorkloads();
    const memory = new WorkloadMemory(owner.namespace, owner.workload, Math.min(at, this.#now));
    memory.tenant = tenant;
    this.#workloads.set(key, memory);
    this.#markWorkload(memory);
    return memory;
  }

  #meet(memory: WorkloadMemory, kind: ThingKind, what: string, at: number, holder: Holder, remote: RemoteEnd): void {
    const known = memory.thing(kind, what);
    const now = this.#now;
    if (known) {
      // The original time is lost if the clock was set back; the entry is not new.
      if (known.firstAt > now + CLOCK_SKEW_MS) known.firstAt = known.recordedAt = now - HOUR_MS;
      if (this.#isSuspectCall(kind, remote)) this.#reportSuspect(memory, what, known, holder, remote);
      const isLastSeenOld = now - known.lastAt >= HOUR_MS || known.lastAt > now + CLOCK_SKEW_MS;
      if (isLastSeenOld) this.#touch(memory, kind, what, known);
      return;
    }
    const entry: Entry = { firstAt: Math.min(at, now), recordedAt: now, lastAt: now };
    // Whatever else is known: nothing has to be compared.
    if (this.#isSuspectCall(kind, remote)) this.#reportSuspect(memory, what, entry, holder, remote);
    if (this.#keysOf(kind).size >= 2 * limitOf(isInbound(kind))) this.#trim(isInbound(kind));
    if (!this.#makePlace(memory, kind)) return;
    memory.setThing(kind, what, entry);
    this.#index(memory, kind, what, entry);
    this.#markEntry(memory, kind, what);
    const { process, startedAt, containerStartedAt } = holder;
    const candidate: Candidate = {
      memory,
      kind,
      what,
      entry,
      holder: { process, startedAt, containerStartedAt },
      remote,
    };
    if (!this.#options.isShared) {
      this.#settle(candidate);
      return;
    }
    const key = entryKey(memory, kind, what);
    this.#candidates.set(key, candidate);
    this.#sightings.push(sightingOf(candidate, key));
  }

  /**
   * Drops the thing of a full list that was met least recently. What was met over more than a day keeps its place for another one. False
   * if everything was met just now: then a scan of ports costs nothing.
   */
  #makePlace(memory: WorkloadMemory, kind: ThingKind): boolean {
    const things = memory.things.get(kind);
    if (!things || things.size < mostThings(kind)) return true;
    // Entries are in the order of their last hour.
    for (const [what, entry] of things) {
      const idleMs = Math.abs(this.#now - entry.lastAt);
      if (idleMs < (kind === 'client' ? REPLACE_CLIENT_MS : REPLACE_MS)) return false;
      if (isHeld(entry) && idleMs < DAY_MS) continue;
      this.#dropThing(memory, kind, what);
      return true;
    }
    return false;
  }

  #keysOf(kind: ThingKind): Map<string, Entry> {
    return isInbound(kind) ? this.#inbound : this.#outbound;
  }

  #index(memory: WorkloadMemory, kind: ThingKind, what: string, entry: Entry): void {
    this.#keysOf(kind).set(entryKey(memory, kind, what), entry);
    const thing = `${kind} ${what}`;
    const workloads = this.#knownBy.get(thing) ?? new Set();
    this.#knownBy.set(thing, workloads.add(memory));
  }

  /** Once an hour a thing in use moves to the end of the queue; the record is written again once a day. */
  #touch(memory: WorkloadMemory, kind: ThingKind, what: string, entry: Entry): void {
    const before = Math.floor(entry.lastAt / DAY_MS);
    entry.lastAt = this.#now;
    const keys = this.#keysOf(kind);
    const key = entryKey(memory, kind, what);
    keys.delete(key);
    keys.set(key, entry);
    memory.moveToEnd(kind, what);
    if (Math.floor(this.#now / DAY_MS) !== before) this.#markEntry(memory, kind, what);
  }

  #mergeEntry(memory: WorkloadMemory, kind: ThingKind, what: string, entry: Entry): void {
    const distrusted = memory.decisions.get(what);
    if (distrusted && !distrusted.isAccepted && entry.firstAt <= distrusted.at) return;
    const known = memory.thing(kind, what);
    if (!known) {
      const added = { ...entry };
      memory.setThing(kind, what, added);
      this.#index(memory, kind, what, added);
      this.#limitThings(memory, kind);
      return;
    }
    if (entry.firstAt < known.firstAt) this.#candidates.delete(entryKey(memory, kind, what));
    if (entry.firstAt > known.firstAt) this.#markEntry(memory, kind, what);
    known.firstAt = Math.min(known.firstAt, entry.firstAt);
    known.recordedAt = Math.min(known.recordedAt, entry.recordedAt);
    known.lastAt = Math.max(known.lastAt, entry.lastAt);
  }

  /** Reports a new thing, if it passes the gates. */
  #settle({ memory, kind, what, entry, holder, remote }: Candidate): void {
    entry.recordedAt = this.#now;
    this.#markEntry(memory, kind, what);
    if (this.#isSuspectCall(kind, remote)) return;
    if (memory.learnedAtOf(kind) > entry.firstAt || (PUBLISHED[kind] !== 'metadata' && this.#isExpected(memory, what)))
      return;
    if (!isCalm(memory, kind, this.#now)) return;
    const recent = this.#reports.recent(memory, this.#now);
    if (recent.length >= MAX_WORKLOAD_REPORTS) return;
    const evidence = judge({
      kind,
      what,
      process: withoutRelease(holder.process),
      isLate: lateness(memory, entry.firstAt, holder),
      port: remote.port,
      isReleased: isReleased(memory, entry.firstAt, holder),
      reach: this.#reach(memory, kind, what),
      isProcessNew:
        this.#now - (memory.thing('process', `process/${withoutRelease(holder.process)}`)?.recordedAt ?? 0) < HOUR_MS,
      isLarge: tradeOf(what) === 'cloud',
      isHosting: tradeOf(what) === 'hosting',
      isRestless: isRestless(memory, kind, this.#now),
      isPeerOld: kind === 'peer' && this.#isLearnedWorkload(what),
      newInHour: newInHour(memory, kind, this.#now),
      recent,
    });
    if (evidence) this.#report(memory, holder, entry, evidence);
  }

  #isSuspectCall(kind: ThingKind, { asn }: RemoteEnd): boolean {
    if (asn === null || (kind !== 'operator' && kind !== 'administrator')) return false;
    const suspects = this.#options.suspects?.();
    return suspects !== undefined && (suspects.has(`AS${asn}`) || suspects.has(`AS${operatorOf(asn)}`));
  }

  /** A suspect is reported while there are calls, new or not. */
  #reportSuspect(memory: WorkloadMemory, what: string, entry: Entry, holder: Holder, { asn }: RemoteEnd): void {
    if (this.#reports.all.some((report) => report.owner === memory && report.what === what)) return;
    const reason = `The operator AS${asn} is in the list of suspects.`;
    const again = { ...entry, recordedAt: this.#now };
    this.#report(memory, holder, again, { kind: 'operator', what, reach: 'none', points: 3, reason });
  }

  #isExpected(memory: WorkloadMemory, what: string): boolean {
    const decision = memory.decisions.get(what);
    if (decision && this.#now - decision.at <= FORGET_MS) return decision.isAccepted;
    return this.#options.isExpected?.(memory, what, this.#now) ?? false;
  }

  #isLearnedWorkload(peer: string): boolean {
    const [namespace = '', workload = ''] = peer.split('/');
    return this.isLearned({ namespace, workload });
  }

  /**
   * How many other calm workloads know a thing. One that met it over more than a day has a vote. Of those that met it just now, three
   * together have one: a service that moved to another operator, not a single other victim.
   */
  #reach(memory: WorkloadMemory, kind: ThingKind, what: string): Reach {
    let established = 0;
    let fresh = 0;
    for (const other of this.#knownBy.get(`${kind} ${what}`) ?? []) {
      const entry = other.thing(kind, what);
      if (other === memory || !entry || !this.#mayVote(other, kind)) continue;
      if (entry.lastAt - entry.firstAt >= DAY_MS) established++;
      else fresh++;
    }
    if (established >= Math.max(3, Math.ceil(this.#workloads.size / 20))) return 'many';
    return established > 0 || fresh >= 3 ? 'few' : 'none';
  }

  #mayVote(other: WorkloadMemory, kind: ThingKind): boolean {
    const isFull = (other.things.get(kind)?.size ?? 0) >= MAX_THINGS;
    return !isFull && isCalm(other, kind, this.#now);
  }

  #countHour(
    memory: WorkloadMemory,
    holder: Holder,
    counted: { operator?: string; peer?: string; bytes?: number },
  ): void {
    const now = this.#now;
    if (memory.learnedAt === null) {
      const tenant = tenantOf(memory);
      const own = this.#counted.get(tenant) ?? 0;
      const isFull = own >= MAX_COUNTED - this.#countedInAll;
      const { added } = memory.countHour(now, isFull ? { bytes: counted.bytes ?? 0 } : counted);
      this.#counted.set(tenant, own + added);
      this.#countedInAll += added;
      return;
    }
    const counts = memory.countHour(now, counted);
    for (const evidence of busyHour(memory, counts, counted.operator, now)) this.#reportOnce(memory, holder, evidence);
  }

  #reportOnce(memory: WorkloadMemory, holder: Holder, evidence: Evidence): void {
    if (this.#isExpected(memory, evidence.what)) return;
    if (this.#reports.recent(memory, this.#now).some(({ kind }) => kind === evidence.kind)) return;
    this.#report(memory, holder, { firstAt: this.#now, recordedAt: this.#now, lastAt: this.#now }, evidence);
  }

  #report(memory: WorkloadMemory, { process }: Holder, { firstAt, recordedAt }: Entry, evidence: Evidence): void {
    const report = this.#reports.add({ ...evidence, owner: memory, process, at: firstAt, recordedAt });
    if (report) this.#markReport(report);
  }

  /** What this node reported before it was restarted. */
  #restore(report: Report, node: string): void {
    const owner = this.#workloadOf(report.owner, report.at);
    if (node !== (this.#options.node ?? '') || !owner || this.#now - report.recordedAt >= HOUR_MS) return;
    if (!this.#isSilenced(owner, report)) this.#reports.restore({ ...report, owner });
  }

  #markReport(report: Report): void {
    this.#dirty.set(reportKey(report), () => encodeReport(report, this.#options.node ?? ''));
  }

  /** A thing that waits for the store has no record yet: its first time may be an earlier one. */
  #markEntry(memory: WorkloadMemory, kind: ThingKind, what: string): void {
    const key = entryKey(memory, kind, what);
    this.#dirty.set(key, () => {
      const entry = this.#candidates.has(key) ? undefined : memory.thing(kind, what);
      return entry ? encodeEntry(memory, kind, what, entry) : null;
    });
  }

  /** Once a day, because a full store drops what was written longest ago. */
  #markDecisions(memory: WorkloadMemory): void {
    for (const [what, { at }] of memory.decisions) if (this.#now - at <= FORGET_MS) this.#markDecision(memory, what);
  }

  #markDecision(memory: WorkloadMemory, what: string): void {
    this.#dirty.set(decisionKey(memory, what), () => {
      const decision = memory.decisions.get(what);
      return decision ? encodeDecision(memory, what, decision) : null;
    });
  }

  #markWorkload(memory: WorkloadMemory): void {
    this.#dirty.set(ownerKey(memory), () => encodeWorkload(memory));
  }

  #forget(memory: WorkloadMemory, value: string, at: number): void {
    for (const kind of THING_KINDS)
      if ((memory.thing(kind, value)?.firstAt ?? Infinity) <= at) this.#dropThing(memory, kind, value);
  }

  #limitThings(memory: WorkloadMemory, kind: ThingKind): void {
    const things = memory.things.get(kind);
    if (!things || things.size <= mostThings(kind)) return;
    // What was met over more than a day keeps its place: new things take those of others.
    const [oldest] = [...things].sort(([, a], [, b]) => Number(isHeld(a)) - Number(isHeld(b)) || a.lastAt - b.lastAt);
    if (oldest) this.#dropThing(memory, kind, oldest[0]);
  }

  #dropThing(memory: WorkloadMemory, kind: ThingKind, what: string): void {
    memory.things.get(kind)?.delete(what);
    const key = entryKey(memory, kind, what);
    this.#keysOf(kind).delete(key);
    this.#candidates.delete(key);
    const thing = `${kind} ${what}`;
    const workloads = this.#knownBy.get(thing);
    workloads?.delete(memory);
    if (workloads?.size === 0) this.#knownBy.delete(thing);
  }

  #expire(keys: Map<string, Entry>, isExpired: (entry: Entry) => boolean): void {
    for (const [key, entry] of keys) {
      if (!isExpired(entry)) return;
      const { owner, kind, what } = decodeRecord({ key, text: '[0,0,0]' }, Infinity) ?? {};
      const memory = owner && this.#workloads.get(ownerKey(owner));
      if (memory && kind && what !== undefined) this.#dropThing(memory, kind, what);
      else keys.delete(key);
    }
  }

  /** Drops entries beyond the limit, of the tenants with the most: those that were not met for the longest time. */
  #trim(inbound: boolean): void {
    if ((inbound ? this.#inbound : this.#outbound).size <= limitOf(inbound)) return;
    const byTenant = new Map<
      string,
      (readonly [memory: WorkloadMemory, kind: ThingKind, what: string, lastAt: number])[]
    >();
    for (const memory of this.#workloads.values()) {
      const tenant = tenantOf(memory);
      const own = byTenant.get(tenant) ?? [];
      byTenant.set(tenant, own);
      for (const [kind, things] of memory.things)
        if (isInbound(kind) === inbound)
          for (const [what, { lastAt }] of things) own.push([memory, kind, what, lastAt]);
    }
    for (const [own, most] of fairShares([...byTenant.values()], limitOf(inbound) * KEPT))
      for (const [memory, kind, what] of own.sort((a, b) => a[3] - b[3]).slice(0, own.length - most))
        this.#dropThing(memory, kind, what);
  }

  /** Drops workloads beyond the limit, of the tenants with the most: those that are not learned, and those not seen for the longest time. */
  #trimWorkloads(): void {
    if (this.#workloads.size <= MAX_WORKLOADS) return;
    const leastFirst = (a: WorkloadMemory, b: WorkloadMemory): number =>
      Number(isKept(a)) - Number(isKept(b)) || a.lastAt - b.lastAt;
    // Of equally old ones the latest goes first.
    const all = (): WorkloadMemory[] => [...this.#workloads.values()].reverse();
    const [kept = [], others = []] = [true, false].map((is) => all().filter((memory) => isKept(memory) === is));
    this.#shareOut(others, MAX_WORKLOADS * KEPT - kept.length);
    this.#shareOut(kept, MAX_WORKLOADS);
    // With more tenants than places, some have none.
    const excess = this.#workloads.size - MAX_WORKLOADS;
    if (excess > 0) for (const memory of all().sort(leastFirst).slice(0, excess)) this.#drop(memory);
  }

  /** Drops the workloads of each tenant that are more than its share, the least recently active first. */
  #shareOut(workloads: readonly WorkloadMemory[], places: number): void {
    const byTenant = Map.groupBy(workloads, tenantOf);
    for (const [own, most] of fairShares([...byTenant.values()], places))
      for (const memory of own.toSorted((a, b) => a.lastAt - b.lastAt).slice(0, own.length - most)) this.#drop(memory);
  }

  #drop(memory: WorkloadMemory): void {
    for (const [kind, things] of memory.things)
      for (const what of [...things.keys()]) this.#dropThing(memory, kind, what);
    this.#workloads.delete(ownerKey(memory));
    this.#dirty.delete(ownerKey(memory));
  }
}

function limitOf(inbound: boolean): number {
  return inbound ? MAX_INBOUND_ENTRIES : MAX_ENTRIES;
}

/** Strangers choose what comes in. */
function isInbound(kind: ThingKind): boolean {
  return kind === 'administrator' || kind === 'client';
}

function mostThings(kind: ThingKind): number {
  return kind === 'client' ? MAX_CLIENTS : MAX_THINGS;
}

function sightingOf({ kind, entry }: Candidate, key: string): Sighting {
  return { category: isInbound(kind) ? 'inbound' : 'outbound', key, at: entry.firstAt };
}

function ownerKey({ namespace, workload }: Owner): string {
  // Labels have no control characters.
  return `${namespace}\n${workload}`;
}

function earliest(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b);
}

function later(a: number | null, than: number | null): boolean {
  return than !== null && (a === null || a > than);
}

function latest(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.max(a, b);
}
