import { collectDefaultMetrics, Registry, type Metric, type RegistryContentType } from 'prom-client';
import { collectorOf, type Collector } from '../metrics/catalogue.ts';
import type { Family } from '../model.ts';

/** The two exposition formats: Prometheus text 0.0.4 and OpenMetrics 1.0.0. */
export type Format = 'text' | 'openmetrics';

/** The Content-Type of each format, to the letter: Prometheus 3 fails a scrape whose type it cannot read. */
export const CONTENT_TYPES = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
} as const satisfies Record<Format, RegistryContentType>;

/**
 * Writes families in their order, one line per series, labels with "" included. The text is empty or ends with one newline,
 * and never holds OpenMetrics' end mark, so that parts can be joined into a page that `endOf` closes.
 * Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/specs/om/open_metrics_spec/
 */
export async function renderFamilies(families: readonly Family[], format: Format): Promise<string> {
  const parts: string[] = [];
  for (const family of families) {
    const labelSets = family.samples.map(({ labels }) => labelSet(family.labels, labels));
    parts.push(await renderFamily(family, format, labelSets));
  }
  return parts.join('');
}

/** What was rendered of a page: the text of the families of one collector in a row; `null` goes with all of them. */
export interface Part {
  readonly collector: Collector | null;
  readonly text: string;
}

/**
 * Writes pages as `renderFamilies` does, in parts by their collectors. A family that fails is left out, and told with the reason.
 * What was written of a series' labels is kept for the next page: to escape and join them is three quarters of what a page costs.
 */
export class PartWriter {
  readonly #labelSets = new Map<string, ReadonlyMap<string, LabelSet>>();

  async write(
    families: readonly Family[],
    format: Format,
  ): Promise<{ parts: Part[]; failures: { collector: Collector; reason: string }[] }> {
    const parts: { collector: Collector | null; text: string }[] = [];
    const failures: { collector: Collector; reason: string }[] = [];
    for (const family of families) {
      const collector = collectorOf(family.name);
      try {
        const text = await renderFamily(family, format, this.#labelSetsOf(family));
        const last = parts.at(-1);
        if (last?.collector === collector) last.text += text;
        else parts.push({ collector, text });
      } catch (error) {
        failures.push({
          collector: collector ?? 'sockets',
          reason: `Cannot render "${family.name}": ${String(error)}`,
        });
      }
    }
    return { parts, failures };
  }

  /** The label sets of the last page where a series is the same, and no others. */
  #labelSetsOf({ name, labels, samples }: Family): LabelSet[] {
    const before = this.#labelSets.get(name);
    const now = new Map<string, LabelSet>();
    const sets = samples.map(({ labels: values }) => {
      const key = values.join('\n');
      const known = before?.get(key);
      // Values with line ends may look alike once joined.
      const set = known && labels.every((label, i) => known[label] === values[i]) ? known : labelSet(labels, values);
      now.set(key, set);
      return set;
    });
    this.#labelSets.set(name, now);
    return sets;
  }
}

/** The labels of one series. prom-client keeps their text for as long as the object lives. */
type LabelSet = Readonly<Record<string, string>>;

const NO_LABELS: LabelSet = {};

function labelSet(labels: readonly string[], values: readonly string[]): LabelSet {
  const set: Record<string, string> = {};
  for (const [i, label] of labels.entries()) set[label] = values[i] ?? '';
  return set;
}

async function renderFamily(family: Family, format: Format, labelSets: readonly LabelSet[]): Promise<string> {
  const { name, help, type, samples } = family;
  const values = samples.map(({ value }, i) => ({ labels: NO_LABELS, sharedLabels: labelSets[i], value }));
  return renderMetric({ name, help, type, values }, format);
}

/** What closes a page: a scraper takes an OpenMetrics page without it for a torn one. */
export function endOf(format: Format): string {
  return format === 'openmetrics' ? '# EOF\n' : '';
}

/** At prom-client's own 10 ms the timer behind the event loop's lag takes 0.6 % of a core of an idle exporter. */
const LAG_RESOLUTION_MS = 200;

let own: Registry | undefined;

/** Writes prom-client's process_* and nodejs_* families of this process, watched from the first call on; ends like `renderFamilies`. */
export async function ownMetrics(format: Format): Promise<string> {
  if (!own) {
    own = new Registry();
    collectDefaultMetrics({ register: own, eventLoopMonitoringPrecision: LAG_RESOLUTION_MS });
  }
  const metrics = (await own.getMetricsAsJSON()).filter(({ name, type }) => !isMisnamed(name, String(type)));
  const parts = await Promise.all(metrics.map((metric) => renderMetric(metric, format)));
  return parts.join('');
}

/** prom-client calls three gauges a total, which only a counter may be called; their parts are there under right names. */
function isMisnamed(name: string, type: string): boolean {
  return type === 'gauge' && name.endsWith('_total');
}

/**
 * One family through prom-client, as a constant metric in a registry of its own: series are not keyed by joined label values,
 * overlapping scrapes share nothing, and a counter is not renamed for good by the first OpenMetrics page.
 * The shape that a registry asks of a metric is not documented: its contract is in test/expose/prometheus-text.test.ts.
 */
async function renderMetric(
  metric: { name: string; help: string; type: unknown; values: readonly unknown[] },
  format: Format,
): Promise<string> {
  const registry = new Registry<RegistryContentType>();
  registry.setContentType(CONTENT_TYPES[format]);
  // For OpenMetrics prom-client appends the suffix to every series of a counter itself.
  const isOpenMetrics = format === 'openmetrics';
  const name = isOpenMetrics && metric.type === 'counter' ? metric.name.replace(/_total$/, '') : metric.name;
  registry.registerMetric({ name, get: () => ({ ...metric, name }) } as unknown as Metric);
  const text = await registry.getSingleMetricAsString(name);
  if (!isOpenMetrics) return `${text}\n`;
  // OpenMetrics escapes quotes in HELP, the first line, too, and knows units; prom-client does neither.
  const [, help = '', type = ''] = /^([^\n]*)\n([^\n]*)/.exec(text) ?? [];
  const [, unit] = /_(seconds|bytes|ratio)$/.exec(name) ?? [];
  const metadata = [help.replaceAll('"', '\\"'), type, ...(unit === undefined ? [] : [`# UNIT ${name} ${unit}`])];
  return `${metadata.join('\n')}${text.slice(help.length + 1 + type.length)}\n`;
}
