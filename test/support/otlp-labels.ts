import { ASN_INFO, FAMILIES } from '../../src/metrics/catalogue.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES } from '../../src/metrics/status-families.ts';
import { ATTRIBUTES } from '../../src/expose/otlp-points.ts';
import type { Attributes, Metric } from '../../src/expose/otlp-points.ts';

/** Every family of the catalogue. */
export const CATALOGUE = [...FAMILIES, ASN_INFO, ...BUDGET_FAMILIES, ...STATUS_FAMILIES];

/** The labels, empty ones left out, that attributes stand for. */
export function labelsOf(attributes: Attributes): Record<string, string> {
  const labels = new Map([...ATTRIBUTES].map(([label, attribute]) => [attribute, label]));
  const { 'peerscope.folded': folded = '', ...kept } = attributes;
  const others = String(folded).split(',').filter(Boolean);
  const entries = [...Object.entries(kept), ...others.map((name) => [name, 'other'] as const)];
  return Object.fromEntries(
    entries.map(([name, value]) => [labels.get(name) ?? name.replace(/^peerscope\./, ''), String(value)]),
  );
}

/** The name that a receiver gives a metric which it translates to Prometheus (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/). */
export function prometheusName({ name, unit, type }: Pick<Metric, 'name' | 'unit' | 'type'>): string {
  const suffix = { By: '_bytes', s: '_seconds', '1': type === 'gauge' ? '_ratio' : '' }[unit] ?? '';
  return `${name.replaceAll('.', '_')}${suffix}${type === 'counter' ? '_total' : ''}`;
}

/** A sample on a page of metrics; labels sorted by name, without empty ones. */
export type PageSample = readonly [name: string, labels: (readonly [string, string])[], value: number];

/** The samples that a point stands for: a metric of the semantic conventions has points of several families. */
export function samplesOf(metric: Pick<Metric, 'name' | 'unit' | 'type'>, point: SentPoint): PageSample[] {
  const { attributes, value, count } = point;
  const parts = CATALOGUE.flatMap((family) => ('otlp' in family ? [{ ...family, otlp: family.otlp }] : []));
  const part = parts.find(
    ({ otlp }) =>
      otlp.name === metric.name && Object.entries(otlp.attributes).every(([name, text]) => attributes[name] === text),
  );
  const own = Object.entries(attributes).filter(([name]) => !(name in (part?.otlp.attributes ?? {})));
  const name = part?.name ?? prometheusName(metric);
  const labels = Object.entries(labelsOf(Object.fromEntries(own))).sort();
  if (count === undefined) return [[name, labels, value]];
  return [
    [`${name}_sum`, labels, value],
    [`${name}_count`, labels, count],
  ];
}

interface SentPoint {
  readonly attributes: Attributes;
  readonly value: number;
  readonly count?: number | undefined;
}
