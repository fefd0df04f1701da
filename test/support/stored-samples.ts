import { ATTRIBUTES } from '../../src/expose/otlp-points.ts';
import { CATALOGUE } from './otlp-labels.ts';
import { parsePage } from './page.ts';
import type { Series } from './victoria-metrics.ts';

/** The families that differ between a page and an export a moment later. */
const MOVES =
  /^peerscope_(network_namespaces|scrape_collector_duration_seconds|snapshot_timestamp_seconds|otlp_exports_total|otlp_export_failures_total)$/;
const NAMES = new Set<string>(CATALOGUE.map(({ name }) => name).filter((name) => !MOVES.test(name)));

/** The label that a store gives an attribute, and ours that it stands for. */
const LABELS = new Map(
  CATALOGUE.flatMap(({ labels }) => labels).map((label) => {
    const attribute: string = ATTRIBUTES.get(label) ?? `peerscope.${label}`;
    return [attribute.replaceAll('.', '_'), label];
  }),
);

/** The samples of the catalogue on a page, empty labels left out, by name and labels. */
export function samplesOnPage(bytes: ArrayBuffer): Map<string, number> {
  const samples = parsePage(bytes).filter(({ name }) => NAMES.has(name));
  return new Map(samples.map(({ name, labels, value }) => [sampleKey(name, labels), value] as const).sort());
}

/** The same for the samples of a store, without the labels of the resource. */
export function storedSamples(series: readonly Series[]): Map<string, number> {
  const samples = series.flatMap(({ labels: { __name__: name = '', ...stored }, value }) => {
    if (!NAMES.has(name)) return [];
    const labels: Record<string, string> = {};
    for (const [key, text] of Object.entries(stored)) {
      const label = LABELS.get(key);
      if (label !== undefined) labels[label] = text;
    }
    for (const folded of foldedOf(stored['peerscope_folded'])) labels[folded] = 'other';
    return [[sampleKey(name, labels), value] as const];
  });
  return new Map(samples.sort());
}

function foldedOf(text = ''): string[] {
  const attributes = text.split(',').filter(Boolean);
  return attributes.map((attribute) => LABELS.get(attribute.replaceAll('.', '_')) ?? attribute);
}

function sampleKey(name: string, labels: Readonly<Record<string, string>>): string {
  const present = Object.entries(labels).filter(([, text]) => text !== '');
  return JSON.stringify([name, present.sort()]);
}
