import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { ASN_INFO, FAMILIES } from '../../src/metrics/catalogue.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES } from '../../src/metrics/status-families.ts';
import { parsePromql } from './promql.ts';

export const RULE_FILES = ['peerscope.rules.yml', 'peerscope-extra.rules.yml'] as const;

/** A rule of a file in deploy/prometheus: it records a series, or it is an alert. */
export interface Rule {
  readonly file: string;
  readonly group: string;
  readonly record?: string;
  readonly alert?: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels?: { readonly severity?: string };
  readonly annotations?: { readonly summary?: string; readonly description?: string; readonly runbook_url?: string };
}

/** Reads a file of deploy/prometheus. */
export function deployed(file: string): unknown {
  return parse(readFileSync(new URL(`../../deploy/prometheus/${file}`, import.meta.url), 'utf8'));
}

export const RULES: readonly Rule[] = RULE_FILES.flatMap((file) => {
  const { groups } = deployed(file) as { groups: { name: string; rules: Omit<Rule, 'file' | 'group'>[] }[] };
  return groups.flatMap(({ name: group, rules }) => rules.map((rule) => ({ file, group, ...rule })));
});

/** The labels that Prometheus adds to every sample, and those that it renames without honor_labels. */
const TARGET_LABELS = ['cluster', 'job', 'instance'];
const UNHONOURED = ['exported_namespace', 'exported_pod'];

const labels = new Map<string, ReadonlySet<string>>([
  ['up', new Set(TARGET_LABELS)],
  ['ALERTS', new Set([...TARGET_LABELS, 'alertname', 'alertstate', 'severity'])],
]);
// The exporter's own process, from prom-client.
for (const own of ['process_cpu_seconds_total', 'process_resident_memory_bytes', 'nodejs_eventloop_lag_seconds'])
  labels.set(own, new Set(TARGET_LABELS));
for (const family of [...FAMILIES, ASN_INFO, ...BUDGET_FAMILIES, ...STATUS_FAMILIES])
  for (const name of seriesNames(family))
    labels.set(name, new Set([...family.labels, ...derivedOf(family), ...TARGET_LABELS, ...UNHONOURED]));
/** The labels that follow from the others of the family. */
function derivedOf(family: object): readonly string[] {
  return 'derived' in family ? ((family as { derived?: { labels: readonly string[] } }).derived?.labels ?? []) : [];
}
const recorded = RULES.filter(({ record }) => record !== undefined);
/** Rules record series of each other. */
for (let round = 0; round < 3; round++)
  for (const { record = '', expr } of recorded) {
    const { by, selectors } = parsePromql(expr);
    const sources = by.length > 0 ? [] : selectors.flatMap(({ metric }) => [...(labels.get(metric) ?? [])]);
    labels.set(record, new Set([...by, ...sources]));
  }

// An alert has the labels that its expression groups by, or those of the series that it looks at.
labels.set(
  'ALERTS',
  new Set([
    ...(labels.get('ALERTS') ?? []),
    ...RULES.filter(({ alert }) => alert !== undefined).flatMap(({ expr }) => {
      const { groupings, selectors } = parsePromql(expr);
      return [...groupings, ...selectors.flatMap(({ metric }) => [...(labels.get(metric) ?? [])])];
    }),
  ]),
);
// When each alert became active.
labels.set('ALERTS_FOR_STATE', labels.get('ALERTS') ?? new Set());

/** The names of the series of a family. */
export function seriesNames({ name, type }: { readonly name: string; readonly type: string }): string[] {
  return type === 'summary' ? [`${name}_sum`, `${name}_count`] : [name];
}

/** The labels of every metric in the catalogue, the recording rules, and Prometheus itself. */
export const LABELS: ReadonlyMap<string, ReadonlySet<string>> = labels;

/** The metrics and labels in an expression that do not exist, as "metric" or "metric{label}". */
export function unknownNames(expr: string): string[] {
  const { selectors, groupings } = parsePromql(expr);
  const there = new Set(selectors.flatMap(({ metric }) => [...(LABELS.get(metric) ?? [])]));
  return [
    ...selectors.flatMap(({ metric, matchers }) => {
      const known = LABELS.get(metric);
      if (!known) return [metric];
      return [...matchers.keys()].filter((label) => !known.has(label)).map((label) => `${metric}{${label}}`);
    }),
    ...groupings.filter((label) => !there.has(label)),
  ];
}
