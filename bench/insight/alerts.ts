/** Evaluates the rules of PeerscopeUnusual over reported points, as Prometheus does. */
import type { ReportedPoints } from './replay.ts';

/** The thresholds of the shipped rules: the sum of the points of an hour. */
export const THRESHOLDS = { warning: 2, critical: 3 } as const;
export type Severity = keyof typeof THRESHOLDS;

const HOUR = 3600;
/** How often Prometheus evaluates the rules. */
const EVALUATION = 15;

/** An alert that began to fire, with the evidence at that time. Times are seconds from the start. */
export interface Alert {
  readonly workload: string;
  readonly severity: Severity;
  readonly at: number;
  readonly evidence: readonly ReportedPoints[];
}

/** The alerts of each workload: one fires while the points of the last hour reach its threshold. */
export function evaluate(reports: readonly ReportedPoints[]): Alert[] {
  const alerts: Alert[] = [];
  for (const own of Map.groupBy(reports, ({ workload }) => workload).values()) {
    const changes = [...new Set(own.flatMap(({ at }) => [evaluationOf(at), evaluationOf(at + HOUR)]))].sort(
      (a, b) => a - b,
    );
    for (const severity of ['warning', 'critical'] as const) {
      let isFiring = false;
      for (const time of changes) {
        // A report whose points grow is one series that ends and one that begins.
        const current = new Map<string, ReportedPoints>();
        for (const report of own)
          if (evaluationOf(report.at) <= time && evaluationOf(report.at + HOUR) > time)
            current.set(`${report.kind} ${report.what}`, report);
        const evidence = [...current.values()];
        const sum = evidence.reduce((total, { points }) => total + points, 0);
        const fires = sum >= THRESHOLDS[severity];
        if (fires && !isFiring) alerts.push({ workload: own[0]?.workload ?? '', severity, at: time, evidence });
        isFiring = fires;
      }
    }
  }
  return alerts.sort((a, b) => a.at - b.at);
}

function evaluationOf(second: number): number {
  return (Math.floor(second / EVALUATION) + 1) * EVALUATION;
}

/** When the sum of the last hour with evidence of an attack first reached a threshold; null if it never did. */
export function detectedAt(attack: string, reports: readonly ReportedPoints[], severity: Severity): number | null {
  const own = reports.filter((report) => report.attack === attack);
  const workloads = new Set(own.map(({ workload }) => workload));
  let first: number | null = null;
  for (const workload of workloads) {
    const all = reports.filter((report) => report.workload === workload);
    for (const { at } of own.filter((report) => report.workload === workload)) {
      const current = new Map(all.filter((r) => r.at <= at && r.at + HOUR > at).map((r) => [`${r.kind} ${r.what}`, r]));
      const sum = current.values().reduce((total, { points }) => total + points, 0);
      if (sum >= THRESHOLDS[severity] && (first === null || at < first)) first = at;
    }
  }
  return first === null ? null : evaluationOf(first);
}
