import { withoutControls } from '../common/sanitize.ts';
import {
  MEASURES,
  THING_KINDS,
  type BusiestHour,
  type Decision,
  type Entry,
  type ThingKind,
  type WorkloadMemory,
} from './workload-memory.ts';
import { REACHES, type Owner, type Report } from './evidence.ts';
import { KINDS, operatorWhat, parseWhat, withoutRelease } from './grammar/what.ts';

/** A small record of the store. Version 1 of the format is part of the key. */
export interface UnusualRecord {
  readonly key: string;
  readonly text: string;
}

interface DecodedEntry {
  readonly owner: Owner;
  readonly kind: ThingKind;
  readonly what: string;
  readonly entry: Entry;
  readonly since?: undefined;
}

interface DecodedReport {
  readonly report: Report;
  readonly node: string;
}

interface DecodedDecision {
  readonly owner: Owner;
  readonly what: string;
  readonly decision: Decision;
}

interface DecodedWorkload {
  readonly owner: Owner;
  readonly kind?: undefined;
  readonly what?: undefined;
  readonly entry?: undefined;
  readonly since: number;
  readonly lastAt: number;
  readonly learnedAt: number | null;
  readonly operatorsLearnedAt: number | null;
  readonly activeHours: number;
  readonly releasedAt: number | null;
  readonly versions: readonly string[];
  readonly busiest: readonly BusiestHour[];
}

const ENTRY = 'unusual:1:';
const WORKLOAD = 'workload:1:';
export const REPORT = 'report:1:';
export const DECISION = 'decision:1:';
export const DECLARED = 'declared:1:';
/** The maximum length of the name of a person, in characters. */
const MAX_BY = 100;
/** The maximum length of a reason. */
const MAX_WHY = 300;
/** The keys of peerscope 0.1, per process. */
const FIRST_SEEN = 'first:1:';
const BASELINE = 'base:1:';
const DAY_MS = 86_400_000;
/** The latest time that a date has. */
const MAX_DATE_MS = 8.64e15;

export function entryKey({ namespace, workload }: Owner, kind: ThingKind, what: string): string {
  return ENTRY + JSON.stringify([namespace, workload, kind, what]);
}

export function encodeEntry(owner: Owner, kind: ThingKind, what: string, entry: Entry): UnusualRecord {
  return { key: entryKey(owner, kind, what), text: JSON.stringify([entry.firstAt, entry.recordedAt, entry.lastAt]) };
}

export function workloadKey({ namespace, workload }: Owner): string {
  return WORKLOAD + JSON.stringify([namespace, workload]);
}

export function encodeWorkload(memory: WorkloadMemory): UnusualRecord {
  const { since, lastAt, learnedAt, operatorsLearnedAt, activeHours, releasedAt, versions, busiest } = memory;
  return {
    key: workloadKey(memory),
    text: JSON.stringify({
      since,
      lastAt,
      learnedAt,
      operatorsLearnedAt,
      activeHours,
      releasedAt,
      versions,
      busiest: busiest.map(({ day, operators, peers, bytes, reported }) => [
        day,
        operators,
        peers,
        bytes,
        [...reported],
      ]),
    }),
  };
}

export function reportKey({ owner, kind, what }: Pick<Report, 'owner' | 'kind' | 'what'>): string {
  return REPORT + JSON.stringify([owner.namespace, owner.workload, kind, what]);
}

/** A report, with the node that exports it. */
export function encodeReport(report: Report, node: string): UnusualRecord {
  const { process, reach, points, reason, at, recordedAt } = report;
  return { key: reportKey(report), text: JSON.stringify({ process, reach, points, reason, at, recordedAt, node }) };
}

/** Decodes a report; null for other records. */
export function decodeReport({ key, text }: UnusualRecord, latest: number): DecodedReport | null {
  if (!key.startsWith(REPORT)) return null;
  return orNull(() => {
    const [namespace = '', workload = '', kind = '', what = ''] = textsIn(key, REPORT, 4);
    const { process, reach, points, reason, at, recordedAt, node } = fieldsIn(JSON.parse(text) as unknown);
    if (!isOneOf(KINDS, kind) || !isOneOf(REACHES, reach)) throw new TypeError();
    if (typeof process !== 'string' || typeof reason !== 'string' || typeof node !== 'string') throw new TypeError();
    const owner = { namespace, workload };
    const times = { at: timeIn(at, latest), recordedAt: timeIn(recordedAt, latest) };
    return { node, report: { owner, kind, what, process, reach, reason, points: timeIn(points, 100), ...times } };
  });
}

export function decisionKey({ namespace, workload }: Owner, what: string): string {
  return DECISION + JSON.stringify([namespace, workload, what]);
}

/** A decision of a person about a canonical value of `what`. The name is cut to 100 characters, the reason to 300. */
export function encodeDecision(owner: Owner, what: string, { isAccepted, at, by, why }: Decision): UnusualRecord {
  const reason = shortened(why, MAX_WHY);
  const fields = [isAccepted, at, shortened(by, MAX_BY), ...(reason === '' ? [] : [reason])];
  return { key: decisionKey(owner, what), text: JSON.stringify(fields) };
}

/** Decodes a decision; null for other records, and for a value that cannot be expected. */
export function decodeDecision({ key, text }: UnusualRecord, latest: number): DecodedDecision | null {
  if (!key.startsWith(DECISION)) return null;
  return orNull(() => {
    const [namespace = '', workload = '', what = ''] = textsIn(key, DECISION, 3);
    const [isAccepted, at, by, why = ''] = listIn(JSON.parse(text) as unknown);
    if (typeof isAccepted !== 'boolean' || typeof by !== 'string' || typeof why !== 'string') throw new TypeError();
    if (parseWhat(what) !== what) throw new TypeError();
    const person = { by: shortened(by, MAX_BY), why: shortened(why, MAX_WHY) };
    return { owner: { namespace, workload }, what, decision: { isAccepted, at: pastTimeIn(at, latest), ...person } };
  });
}

/** A value of `what` that an annotation declared as normal, and when it was seen. */
export function encodeDeclaration(owner: Owner, what: string, at: number): UnusualRecord {
  return { key: DECLARED + JSON.stringify([owner.namespace, owner.workload, what]), text: JSON.stringify([at]) };
}

/** Decodes a declaration of an annotation; null for other records. */
export function decodeDeclaration(
  { key, text }: UnusualRecord,
  latest: number,
): { readonly owner: Owner; readonly what: string; readonly at: number } | null {
  if (!key.startsWith(DECLARED)) return null;
  return orNull(() => {
    const [namespace = '', workload = '', what = ''] = textsIn(key, DECLARED, 3);
    const [at] = listIn(JSON.parse(text) as unknown);
    return { owner: { namespace, workload }, what, at: timeIn(at, latest) };
  });
}

function shortened(text: string, most: number): string {
  return withoutControls(text).slice(0, most).toWellFormed();
}

/**
 * Decodes a record, or a first-seen time of peerscope 0.1 as `{key, text: time}`. Null if it is not valid: the store may be shared with
 * others. Times after `latest` become `latest`, so that nothing is lost when a clock is set back.
 */
export function decodeRecord({ key, text }: UnusualRecord, latest: number): DecodedEntry | DecodedWorkload | null {
  return orNull(() => {
    const value: unknown = JSON.parse(text);
    if (key.startsWith(ENTRY)) return decodeEntry(textsIn(key, ENTRY, 4), value, latest);
    if (key.startsWith(WORKLOAD)) return decodeWorkload(textsIn(key, WORKLOAD, 2), value, latest);
    if (key.startsWith(FIRST_SEEN)) return decodeFirstSeen(textsIn(key, FIRST_SEEN, 5), timeIn(value, latest));
    if (key.startsWith(BASELINE)) return decodeBaseline(textsIn(key, BASELINE, 3), timeIn(value, latest));
    return null;
  });
}

/** Others may write to the store: what is not valid is ignored. */
function orNull<T>(decode: () => T): T | null {
  try {
    return decode();
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return null;
    throw error;
  }
}

function decodeEntry(
  [namespace = '', workload = '', kind = '', what = '']: string[],
  value: unknown,
  latest: number,
): DecodedEntry {
  const [firstAt, recordedAt, lastAt] = listIn(value).map((time) => timeIn(time, latest));
  if (!isOneOf(THING_KINDS, kind) || firstAt === undefined || recordedAt === undefined || lastAt === undefined)
    throw new TypeError();
  return { owner: { namespace, workload }, kind, what, entry: { firstAt, recordedAt, lastAt } };
}

function decodeWorkload([namespace = '', workload = '']: string[], value: unknown, latest: number): DecodedWorkload {
  const fields = fieldsIn(value);
  const timeOrNull = (field: unknown): number | null => (field === null ? null : timeIn(field, latest));
  return {
    owner: { namespace, workload },
    since: timeIn(fields['since'], latest),
    lastAt: timeIn(fields['lastAt'], latest),
    learnedAt: timeOrNull(fields['learnedAt']),
    operatorsLearnedAt: timeOrNull(fields['operatorsLearnedAt']),
    activeHours: timeIn(fields['activeHours'], Infinity),
    releasedAt: timeOrNull(fields['releasedAt']),
    versions: listIn(fields['versions']).filter((version) => typeof version === 'string'),
    busiest: listIn(fields['busiest']).map((hour) => {
      const [day, operators, peers, bytes, reported] = listIn(hour);
      const count = (field: unknown): number => timeIn(field, Infinity);
      const measures = listIn(reported).filter((measure) => isOneOf(MEASURES, measure));
      return {
        day: count(day),
        operators: count(operators),
        peers: count(peers),
        bytes: count(bytes),
        reported: new Set(measures),
      };
    }),
  };
}

/** peerscope 0.1 remembered operators per process. Its times become those of the workload. */
function decodeFirstSeen(
  [process = '', namespace = '', workload = '', direction = '', asn = '']: string[],
  at: number,
): DecodedEntry {
  if ((direction !== 'outbound' && direction !== 'inbound') || !/^[1-9]\d{0,9}$/.test(asn)) throw new TypeError();
  const entry = { firstAt: at, recordedAt: at, lastAt: at };
  const kind = direction === 'outbound' ? 'operator' : 'client';
  return { owner: formerOwner(process, namespace, workload), kind, what: operatorWhat(Number(asn)), entry };
}

/** Operators are learned a day after the baseline began; all else has to be learned first. */
function decodeBaseline([process = '', namespace = '', workload = '']: string[], at: number): DecodedWorkload {
  return {
    owner: formerOwner(process, namespace, workload),
    since: at,
    lastAt: at,
    learnedAt: null,
    operatorsLearnedAt: at + DAY_MS,
    activeHours: 0,
    releasedAt: null,
    versions: [],
    busiest: [],
  };
}

function formerOwner(process: string, namespace: string, workload: string): Owner {
  return { namespace, workload: workload === '' ? withoutRelease(process) : workload };
}

function textsIn(key: string, prefix: string, length: number): string[] {
  const texts = listIn(JSON.parse(key.slice(prefix.length)) as unknown);
  if (texts.length !== length) throw new TypeError();
  return texts.map((text) => {
    if (typeof text !== 'string') throw new TypeError();
    return text;
  });
}

function listIn(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw new TypeError();
  return value as unknown[];
}

/** The time of a decision: the later one of two counts, so one of the future would never end. */
function pastTimeIn(value: unknown, latest: number): number {
  const time = timeIn(value, latest);
  if (time !== value) throw new TypeError();
  return time;
}

/** A time after the latest one is of a clock that was ahead: it counts as the latest. */
function timeIn(value: unknown, latest: number): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= MAX_DATE_MS)) throw new TypeError();
  return Math.min(value, latest);
}

function fieldsIn(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new TypeError();
  return value as Record<string, unknown>;
}

function isOneOf<T extends string>(values: readonly T[], value: unknown): value is T {
  return (values as readonly unknown[]).includes(value);
}
