const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
/** The days whose busiest hours are remembered: a job that runs once a month has its last run among them. */
const DAYS = 32;

/**
 * What a workload meets and remembers. `caller` is a process that called a public address, `server` one that listened, `administrator` an
 * operator that connected to a service for administrators, `client` one that connected to any other, `program` the path of an executable.
 */
export const THING_KINDS = [
  'operator',
  'port',
  'process',
  'caller',
  'server',
  'peer',
  'inner_port',
  'listener',
  'metadata',
  'metadata_caller',
  'administrator',
  'client',
  'program',
] as const;

export type ThingKind = (typeof THING_KINDS)[number];

/** Times are milliseconds since 1970. */
export interface Entry {
  /** When the workload first met the thing. */
  firstAt: number;
  /** When that became known: later than `firstAt` if the ASN or the store answered late. */
  recordedAt: number;
  lastAt: number;
}

/** What is counted per hour. */
export const MEASURES = ['operators', 'peers', 'bytes'] as const;

export type Measure = (typeof MEASURES)[number];

/** The largest values of an hour, per day. */
export interface BusiestHour {
  readonly day: number;
  operators: number;
  peers: number;
  bytes: number;
  /** The measures whose values were reported as unusual. */
  readonly reported: Set<Measure>;
}

/** Whether and when a value of `what` was declared normal or not normal. */
export interface Decision {
  readonly isAccepted: boolean;
  readonly at: number;
  readonly by: string;
  /** "" if no reason is given. */
  readonly why: string;
}

/** The current hour, which is compared with the hours before. */
class CurrentHour {
  readonly hour: number;
  readonly operators = new Set<string>();
  readonly peers = new Set<string>();
  bytes = 0;
  readonly reported = new Set<Measure>();

  constructor(hour: number) {
    this.hour = hour;
  }
}

/** A rollout in progress has two; one that is rolled back has its former version again. */
const MAX_VERSIONS = 10;
/** A set beyond this size is a fan-out whatever its exact size. */
const MAX_FAN_OUT = 10_000;

/** What one workload has met. It has no opinion about it. */
export class WorkloadMemory {
  readonly namespace: string;
  readonly workload: string;
  /** Who answers for its sockets, such as a user; undefined until one is seen. */
  tenant: string | undefined;
  /** Since when the workload has been watched. */
  since: number;
  lastAt: number;
  /** When there was enough to compare with; null until then. */
  learnedAt: number | null = null;
  /** The same for operators, in the memory of peerscope 0.1, which had no other things. */
  operatorsLearnedAt: number | null = null;
  /** The number of different hours with activity. */
  activeHours = 0;
  releasedAt: number | null = null;
  /** What it runs or ran, such as hashes of pod templates; the latest last. */
  readonly versions: string[] = [];
  /** When this node observed a socket of it last. */
  observedAt = -Infinity;
  readonly things = new Map<ThingKind, Map<string, Entry>>();
  readonly busiest: BusiestHour[] = [];
  readonly decisions = new Map<string, Decision>();
  #lastActiveHour = -1;
  #hour = new CurrentHour(-1);

  constructor(namespace: string, workload: string, since: number) {
    this.namespace = namespace;
    this.workload = workload;
    this.since = since;
    this.lastAt = since;
  }

  thing(kind: ThingKind, what: string): Entry | undefined {
    return this.things.get(kind)?.get(what);
  }

  setThing(kind: ThingKind, what: string, entry: Entry): void {
    const known = this.things.get(kind) ?? new Map<string, Entry>();
    this.things.set(kind, known.set(what, entry));
  }

  /** Things of a kind stay in the order in which they were met last, by the hour. */
  moveToEnd(kind: ThingKind, what: string): void {
    const things = this.things.get(kind);
    const entry = things?.get(what);
    if (!things || !entry) return;
    things.delete(what);
    things.set(what, entry);
  }

  hasVersion(version: string): boolean {
    return this.versions.includes(version);
  }

  addVersion(version: string): void {
    if (this.hasVersion(version)) return;
    this.versions.push(version);
    if (this.versions.length > MAX_VERSIONS) this.versions.shift();
  }

  /**
   * Notes activity. A workload is learned after a day and three hours with activity: a service after a day, a job that runs weekly
   * after its third run. Returns true once an hour.
   */
  markActive(at: number): boolean {
    this.lastAt = Math.max(this.lastAt, at);
    // The clock was set back: what was learned stays learned.
    if (this.since > at) this.since = at;
    if (this.learnedAt !== null && this.learnedAt > at) this.learnedAt = at;
    const hour = Math.floor(at / HOUR_MS);
    if (this.learnedAt === null && at - this.since >= DAY_MS && this.activeHours >= 3) this.learnedAt = at;
    if (hour === this.#lastActiveHour) return false;
    this.#lastActiveHour = hour;
    this.activeHours++;
    return true;
  }

  /** When there was enough of a kind to compare with; Infinity if there is not yet. */
  learnedAtOf(kind: ThingKind): number {
    const learnedAt = this.learnedAt ?? Infinity;
    return kind === 'operator' ? Math.min(learnedAt, this.operatorsLearnedAt ?? Infinity) : learnedAt;
  }

  /** Adds to the current hour. Returns the counts of the hour so far, and how many of its operators and peers were added. */
  countHour(
    at: number,
    { operator, peer, bytes = 0 }: { operator?: string; peer?: string; bytes?: number },
  ): { operators: number; peers: number; bytes: number; added: number } {
    const hour = Math.floor(at / HOUR_MS);
    this.closeHour(at);
    if (this.#hour.hour < 0) this.#hour = new CurrentHour(hour);
    const current = this.#hour;
    const before = current.operators.size + current.peers.size;
    if (operator !== undefined && current.operators.size < MAX_FAN_OUT) current.operators.add(operator);
    if (peer !== undefined && current.peers.size < MAX_FAN_OUT) current.peers.add(peer);
    current.bytes += bytes;
    const [operators, peers] = [current.operators.size, current.peers.size];
    return { operators, peers, bytes: current.bytes, added: operators + peers - before };
  }

  /**
   * The largest value of an hour before the current one. A value that was reported counts from its second day on: a single incident does not
   * hide the next one, and a change that stays is reported twice.
   */
  busiestBefore(measure: Measure, now: number): number {
    const oldest = Math.floor(now / DAY_MS) - DAYS;
    const days = this.busiest.filter(({ day }) => day >= oldest);
    const valuesOf = (isReported: boolean): number[] =>
      days.filter(({ reported }) => reported.has(measure) === isReported).map((hour) => hour[measure]);
    const [, ...recurring] = valuesOf(true).sort((a, b) => b - a);
    return Math.max(0, ...valuesOf(false), ...recurring);
  }

  /** Notes that a count of the current hour was reported. */
  markReported(measure: Measure): void {
    this.#hour.reported.add(measure);
  }

  /** Moves the counts of an hour that has ended to the busiest hours, and frees them. */
  closeHour(now: number): void {
    const { hour, operators, peers, bytes, reported } = this.#hour;
    if (hour < 0 || hour === Math.floor(now / HOUR_MS)) return;
    const day = Math.floor((hour * HOUR_MS) / DAY_MS);
    this.mergeHour({ day, operators: operators.size, peers: peers.size, bytes, reported });
    this.#hour = new CurrentHour(-1);
  }

  mergeHour(hour: BusiestHour): void {
    const known = this.busiest.find(({ day }) => day === hour.day);
    if (known) {
      for (const measure of MEASURES) known[measure] = Math.max(known[measure], hour[measure]);
      for (const measure of hour.reported) known.reported.add(measure);
      return;
    }
    this.busiest.push({ ...hour, reported: new Set(hour.reported) });
    this.busiest.sort((a, b) => a.day - b.day);
    while (this.busiest.length > DAYS) this.busiest.shift();
  }
}
