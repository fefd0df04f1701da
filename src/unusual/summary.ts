import type { Owner, Report } from './evidence.ts';
import { METADATA } from './grammar/what.ts';
import {
  DECISION,
  DECLARED,
  decodeDecision,
  decodeDeclaration,
  decodeReport,
  REPORT,
  type UnusualRecord,
} from './records.ts';
import type { Decision } from './workload-memory.ts';

const HOUR_MS = 3_600_000;
/** The maximum clock difference between the reader and the nodes. */
const CLOCK_SKEW_MS = 300_000;

/** The beginnings of the keys of all records that a summary needs. */
export const SUMMARY_PREFIXES: readonly string[] = [REPORT, DECISION, DECLARED];

/** How serious the sum of the points of an hour is, as in the alerts. */
export type Severity = 'critical' | 'warning' | 'info';

/** A report, with the node that exports it. */
export interface NodeReport extends Report {
  readonly node: string;
}

/** What is unusual for one workload now. */
export interface UnusualWorkload<R extends Report = Report> {
  readonly owner: Owner;
  readonly points: number;
  readonly severity: Severity;
  /** Most points first. */
  readonly reports: readonly R[];
}

/** What the records of a store say about the last hour, and what people and annotations declared. */
export interface Summary {
  /** Most points first. */
  readonly unusual: readonly UnusualWorkload<NodeReport>[];
  /** Newest first. */
  readonly decisions: readonly { readonly owner: Owner; readonly what: string; readonly decision: Decision }[];
  readonly declared: readonly { readonly owner: Owner; readonly what: string; readonly at: number }[];
}

/** What silences a report, besides the decisions of the store. */
interface Silencers {
  isExpected(owner: Owner, what: string, at: number): boolean;
  isSuspect(what: string): boolean;
}

export function severityOf(points: number): Severity {
  return points >= 3 ? 'critical' : points === 2 ? 'warning' : 'info';
}

/** Sums up the records of a store. A report counts for an hour, and not after its `what` was declared normal. */
export function summarize(records: Iterable<UnusualRecord>, silencers: Silencers, now: number): Summary {
  const latest = now + CLOCK_SKEW_MS;
  const reports = new Map<string, NodeReport>();
  const decisions = new Map<string, Summary['decisions'][number]>();
  const declared = new Map<string, Summary['declared'][number]>();
  // A page of the store may contain a record twice; the later one is newer.
  for (const record of records) {
    const reported = decodeReport(record, latest);
    if (reported) reports.set(record.key, { ...reported.report, node: reported.node });
    const decided = decodeDecision(record, latest);
    if (decided) decisions.set(record.key, decided);
    const annotation = decodeDeclaration(record, latest);
    if (annotation) declared.set(record.key, annotation);
  }
  const byValue = new Map([...decisions.values()].map(({ owner, what, decision }) => [keyOf(owner, what), decision]));
  const isSilenced = ({ owner, kind, what }: Report): boolean => {
    if (kind === METADATA || silencers.isSuspect(what)) return false;
    return byValue.get(keyOf(owner, what))?.isAccepted ?? silencers.isExpected(owner, what, now);
  };
  const current = [...reports.values()].filter((one) => now - one.recordedAt < HOUR_MS && !isSilenced(one));
  return {
    unusual: byWorkload(current),
    decisions: [...decisions.values()].sort((a, b) => b.decision.at - a.decision.at),
    declared: [...declared.values()].sort((a, b) => compareOwners(a, b) || (a.what < b.what ? -1 : 1)),
  };
}

/** Groups reports by workload, with most points first. */
export function byWorkload<R extends Report>(reports: readonly R[]): UnusualWorkload<R>[] {
  const workloads = [...Map.groupBy(reports, ({ owner }) => keyOf(owner, '')).values()].flatMap((given) => {
    const [first] = given;
    const points = given.reduce((sum, report) => sum + report.points, 0);
    const sorted = given.toSorted((a, b) => b.points - a.points || a.at - b.at);
    return first ? [{ owner: first.owner, points, severity: severityOf(points), reports: sorted }] : [];
  });
  return workloads.sort((a, b) => b.points - a.points || compareOwners(a, b));
}

/** What is unusual and what people decided, as the API and `unusual -o json` show it. */
export function unusualJson(
  reports: readonly (Report & { readonly node?: string })[],
  decisions: Summary['decisions'],
  now: number,
): { readonly at: string; readonly unusual: readonly object[]; readonly decisions: readonly object[] } {
  return {
    at: timeText(now),
    unusual: byWorkload(reports).map(({ owner, points, severity, reports }) => ({
      ...ownerJson(owner),
      severity,
      points,
      evidence: reports.map(({ kind, what, process, reach, points, reason, at, recordedAt, node }) => {
        const times = { first_seen_at: timeText(at), reported_at: timeText(recordedAt) };
        const place = node === undefined ? {} : { node: node || null };
        return { kind, what, process: process || null, reach, points, reason, ...times, ...place };
      }),
    })),
    decisions: decisions.map(({ owner, what, decision: { isAccepted, at, by, why } }) => {
      return { ...ownerJson(owner), what, accepted: isAccepted, at: timeText(at), by, why: why || null };
    }),
  };
}

/** RFC 3339, in seconds. */
export function timeText(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`;
}

/** The names of a workload in JSON. */
export function ownerJson({ namespace, workload }: Owner): {
  readonly namespace: string | null;
  readonly workload: string;
} {
  return { namespace: namespace || null, workload };
}

function keyOf({ namespace, workload }: Owner, what: string): string {
  return JSON.stringify([namespace, workload, what]);
}

function compareOwners({ owner: a }: { readonly owner: Owner }, { owner: b }: { readonly owner: Owner }): number {
  const [x, y] = [keyOf(a, ''), keyOf(b, '')];
  return x < y ? -1 : x > y ? 1 : 0;
}
