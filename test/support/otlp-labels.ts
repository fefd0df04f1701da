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
