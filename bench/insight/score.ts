/** Scores the alerts of a replayed world. */
import { median } from '../figures.ts';
import { detectedAt, evaluate, type Alert, type Severity } from './alerts.ts';
import type { Replayed } from './replay.ts';
import { attackKind } from './world-line.ts';

const DAY = 86_400;
/** An alert that fires later than this after the end of an attack does not count. */
const GRACE = 3600;

/** Alerts or detections of one cause or kind, which can be added up over worlds. */
export interface Detection {
  readonly kind: string;
  readonly isVisible: boolean;
  /** Seconds from the beginning of the attack; null if it was not detected. */
  readonly delay: Readonly<Record<Severity, number | null>>;
}

export interface Score {
  readonly nodeDays: number;
  readonly falseAlerts: readonly Alert[];
  readonly detections: readonly Detection[];
}

/** `quietDays` are the days at the start that are not scored: the workloads are not learned yet. */
export function score({ reports, attacks, nodes, seconds }: Replayed, quietDays: number): Score {
  const from = quietDays * DAY;
  const byWorkload = Map.groupBy(reports, ({ workload }) => workload);
  const detections = [...attacks.values()].map(({ name, from, until, isVisible }): Detection => {
    const workloads = new Set(reports.filter(({ attack }) => attack === name).map(({ workload }) => workload));
    const related = [...workloads].flatMap((workload) => byWorkload.get(workload) ?? []);
    const delayOf = (severity: Severity): number | null => {
      const at = detectedAt(name, related, severity);
      return at === null || at > until + GRACE ? null : at - from;
    };
    return { kind: attackKind(name), isVisible, delay: { warning: delayOf('warning'), critical: delayOf('critical') } };
  });
  const falseAlerts = evaluate(reports).filter(
    ({ at, evidence }) => at >= from && evidence.every(({ attack }) => attack === null),
  );
  return { nodeDays: (nodes * (seconds - from)) / DAY, falseAlerts, detections };
}

export function addUp(scores: readonly Score[]): Score {
  return {
    nodeDays: scores.reduce((sum, { nodeDays }) => sum + nodeDays, 0),
    falseAlerts: scores.flatMap(({ falseAlerts }) => falseAlerts),
    detections: scores.flatMap(({ detections }) => detections),
  };
}

/** The bounds of the project: what the rules must hold on worlds that they were not tuned on. */
export const BOUNDS = { falseCritical: 1, falseWarning: 4, warning: 0.95, critical: 0.8, delay: 120 } as const;

/** The figures that have bounds. Rates are per 100 nodes and day, delays in seconds, recall of what a scan can see. */
export interface Figures {
  readonly falseCritical: number;
  readonly falseWarning: number;
  readonly warning: number;
  readonly critical: number;
  readonly delay: number;
}

export function figuresOf({ nodeDays, falseAlerts, detections }: Score): Figures {
  const visible = detections.filter(({ isVisible }) => isVisible);
  const rate = (severity: Severity): number =>
    (falseAlerts.filter((a) => a.severity === severity).length / nodeDays) * 100;
  const recall = (severity: Severity): number =>
    visible.filter(({ delay }) => delay[severity] !== null).length / visible.length;
  return {
    falseCritical: rate('critical'),
    falseWarning: rate('warning'),
    warning: recall('warning'),
    critical: recall('critical'),
    delay: median(visible.flatMap(({ delay }) => delay.warning ?? [])),
  };
}

/** The bounds that a score does not hold, in words. */
export function brokenBounds(scored: Score): string[] {
  const figures = figuresOf(scored);
  const atMost = (['falseCritical', 'falseWarning', 'delay'] as const).filter(
    (name) => !(figures[name] <= BOUNDS[name]),
  );
  const atLeast = (['warning', 'critical'] as const).filter((name) => !(figures[name] >= BOUNDS[name]));
  return [
    ...atMost.map((name) => `${name} is ${figures[name].toFixed(2)}, more than ${BOUNDS[name]}`),
    ...atLeast.map((name) => `${name} is ${figures[name].toFixed(2)}, less than ${BOUNDS[name]}`),
  ];
}

/** The 95 % interval of a proportion (Wilson). */
export function wilson(hits: number, all: number): [low: number, high: number] {
  if (all === 0) return [0, 1];
  const z = 1.959964;
  const p = hits / all;
  const middle = p + (z * z) / (2 * all);
  const half = z * Math.sqrt((p * (1 - p)) / all + (z * z) / (4 * all * all));
  const scale = 1 + (z * z) / all;
  return [Math.max(0, (middle - half) / scale), Math.min(1, (middle + half) / scale)];
}

/** The 95 % interval of the mean of a Poisson count, by the approximation of Wilson and Hilferty to the exact one. */
export function poisson(count: number): [low: number, high: number] {
  const z = 1.959964;
  const bound = (k: number, sign: number): number =>
    k === 0 ? 0 : k * (1 - 1 / (9 * k) + (sign * z) / (3 * Math.sqrt(k))) ** 3;
  return [bound(count, -1), bound(count + 1, 1)];
}

/** The score as Markdown. */
export function renderScore(scored: Score): string {
  const { nodeDays, falseAlerts, detections } = scored;
  const lines = ['| false alerts | per 100 nodes and day | 95 % |', '| --- | --: | --- |'];
  const rate = (count: number): string => ((count / nodeDays) * 100).toFixed(2);
  const row = (name: string, count: number): string =>
    `| ${name} | ${rate(count)} | ${poisson(count).map(rate).join('–')} |`;
  for (const severity of ['critical', 'warning'] as const) {
    const alerts = falseAlerts.filter((alert) => alert.severity === severity);
    lines.push(row(`**${severity}**`, alerts.length));
    const causes = Object.entries(Object.groupBy(alerts, causeOf)).map(
      ([cause, list]) => [cause, list?.length ?? 0] as const,
    );
    for (const [cause, count] of causes.sort((a, b) => b[1] - a[1]).slice(0, 12))
      lines.push(row(`${severity}: ${cause}`, count));
  }
  lines.push(
    '',
    '| attack | n | seen by scans | warning | 95 % | critical | 95 % | median delay |',
    '| --- | --: | --: | --: | --- | --: | --- | --: |',
  );
  const kinds = [...Map.groupBy(detections, ({ kind }) => kind)].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [kind, list] of [...kinds, ['**all**', detections] as const]) {
    const visible = list.filter(({ isVisible }) => isVisible);
    const cells = (['warning', 'critical'] as const).map((severity) => {
      const hits = visible.filter(({ delay }) => delay[severity] !== null).length;
      const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
      return `${percent(hits / visible.length)} | ${wilson(hits, visible.length).map(percent).join('–')}`;
    });
    const delay = median(visible.flatMap(({ delay }) => delay.warning ?? []));
    lines.push(`| ${kind} | ${list.length} | ${visible.length} | ${cells.join(' | ')} | ${Math.round(delay)} s |`);
  }
  const broken = brokenBounds(scored);
  lines.push(
    '',
    broken.length === 0 ? 'All bounds hold.' : broken.map((text) => `**Missed**: ${text}.`).join('\n'),
    '',
  );
  return lines.join('\n');
}

function causeOf({ evidence }: Alert): string {
  return [...new Set(evidence.map(({ kind }) => kind))].sort().join(' + ');
}
