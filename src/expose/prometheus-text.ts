import { reasonOf } from '../common/errors.ts';
import type { MetricObjectWithValues, MetricValue, RegistryContentType } from 'prom-client';
import Counter from 'prom-client/lib/counter.js';
import Gauge from 'prom-client/lib/gauge.js';
import Registry from 'prom-client/lib/registry.js';
import Summary from 'prom-client/lib/summary.js';
import { collectorOf, type Collector } from '../metrics/catalogue.ts';
import type { Family } from '../model.ts';

/** The two exposition formats: Prometheus text 0.0.4 and OpenMetrics 1.0.0. */
export type Format = 'text' | 'openmetrics';

/** The exact Content-Type of each format: Prometheus 3 fails a scrape with a type that it cannot parse. */
export const CONTENT_TYPES = {
  text: 'text/plain; version=0.0.4; charset=utf-8',
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
} as const satisfies Record<Format, RegistryContentType>;

/**
 * Writes families in the given order: one line per series, empty labels included. The text is empty or ends with one newline.
 * It never contains the OpenMetrics end marker, so parts can be joined into a page; `endOf` returns the marker.
 * Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/specs/om/open_metrics_spec/
 */
export async function renderFamilies(families: readonly Family[], format: Format): Promise<string> {
  const page = new PageRegistry(format);
  const parts: string[] = [];
  for (const family of families) {
    const labelSets = family.samples.map(({ labels }) => labelSet(family.labels, labels));
    parts.push(await page.writeFamily(family, labelSets));
  }
  return parts.join('');
}

/** Text of consecutive families of one collector; `null` for families that do not depend on a collector. */
export interface Part {
  readonly collector: Collector | null;
  readonly text: string;
}

/**
 * Writes pages like `renderFamilies`, split by collector. A family that fails is left out and reported with the reason.
 * The label text of each series is kept for the next page: escaping and joining labels is three quarters of the cost of a page.
 */
export class PartWriter {
  readonly #labelSets = new Map<string, KeptSets>();

  async write(
    families: readonly Family[],
    format: Format,
  ): Promise<{ parts: Part[]; failures: { collector: Collector; reason: string }[] }> {
    const page = new PageRegistry(format);
    const parts: { collector: Collector | null; text: string }[] = [];
    const failures: { collector: Collector; reason: string }[] = [];
    for (const family of families) {
      const collector = collectorOf(family.name);
      try {
        const text = await page.writeFamily(family, this.#labelSetsOf(family));
        const last = parts.at(-1);
        if (last?.collector === collector) last.text += text;
        else parts.push({ collector, text });
      } catch (error) {
        failures.push({
          collector: collector ?? 'sockets',
          reason: `Cannot render "${family.name}": ${reasonOf(error)}`,
        });
      }
    }
    return { parts, failures };
  }

  /** The label sets of this page: those of the previous page for series that it had, new ones for the others. */
  #labelSetsOf({ name, labels, samples }: Family): readonly LabelSet[] {
    const previous = this.#labelSets.get(name);
    // Mostly the series are those of the previous page, in the same arrays.
    const isSame =
      previous?.values.length === samples.length && samples.every((sample, i) => sample.labels === previous.values[i]);
    if (isSame) return previous.sets;
    const byKey = new Map<string, LabelSet>();
    const values = samples.map(({ labels }) => labels);
    const sets = values.map((values) => {
      const key = values.join('\n');
      const kept = previous?.byKey.get(key);
      // Values that contain newlines can produce the same key.
      const set = kept && labels.every((label, i) => kept[label] === values[i]) ? kept : labelSet(labels, values);
      byKey.set(key, set);
      return set;
    });
    this.#labelSets.set(name, { values, sets, byKey });
    return sets;
  }
}

/** The label sets of a page, in the order of its samples. */
interface KeptSets {
  readonly values: readonly (readonly string[])[];
  readonly sets: readonly LabelSet[];
  readonly byKey: ReadonlyMap<string, LabelSet>;
}

/** Returns the line that ends a page. Scrapers reject an OpenMetrics page without it as truncated. */
export function endOf(format: Format): string {
  return format === 'openmetrics' ? '# EOF\n' : '';
}

/** With prom-client's default of 10 ms, the timer that measures event loop lag uses 0.6 % of a core in an idle exporter. */
const LAG_RESOLUTION_MS = 200;

let processRegistry: Promise<Registry> | undefined;

/** Writes prom-client's process_* and nodejs_* families, collected since the first call. Ends like `renderFamilies`. */
export async function ownMetrics(format: Format): Promise<string> {
  processRegistry ??= collectProcessMetrics();
  const registry = await processRegistry;
  const page = new PageRegistry(format);
  const parts: string[] = [];
  // Each metric is read once per page: reading the event loop lag resets it.
  for (const metric of await registry.getMetricsAsJSON()) parts.push(await page.write(metric));
  return parts.join('');
}

/** Registers prom-client's metrics of this process, except gauges named `_total`, a suffix of counters; gauges by type have the same values. */
async function collectProcessMetrics(): Promise<Registry> {
  // The scanning thread does not load it.
  const { default: collectDefaultMetrics } = await import('prom-client/lib/defaultMetrics.js');
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LAG_RESOLUTION_MS });
  for (const { name } of registry.getMetricsAsArray())
    if (name.endsWith('_total') && registry.getSingleMetric(name) instanceof Gauge) registry.removeSingleMetric(name);
  return registry;
}

/** The labels of one series. prom-client keeps their text for as long as the object lives. */
type LabelSet = Readonly<Record<string, string>>;

const NO_LABELS: LabelSet = {};

function labelSet(labels: readonly string[], values: readonly string[]): LabelSet {
  const set: Record<string, string> = {};
  for (const [i, label] of labels.entries()) set[label] = values[i] ?? '';
  return set;
}

type MetricValues = MetricObjectWithValues<MetricValue<string>>;

const METRICS = { gauge: Gauge, counter: Counter, summary: Summary } as const;

/** A metric with constant values. Metrics that are set would be keyed by joined label values, under which two series can collide. */
class ConstantMetric extends Gauge {
  readonly #values: MetricValues;

  constructor(values: MetricValues) {
    super({ name: values.name, help: values.help, registers: [] });
    this.#values = values;
  }

  override get(): Promise<MetricValues> {
    return Promise.resolve(this.#values);
  }
}

/** The metrics of one page in one format, written one by one. */
class PageRegistry {
  readonly #format: Format;
  readonly #registry = new Registry<RegistryContentType>();

  constructor(format: Format) {
    this.#format = format;
    this.#registry.setContentType(CONTENT_TYPES[format]);
  }

  /** Writes a family; `labelSets` in the order of its samples. */
  async writeFamily({ name, help, type, samples }: Family, labelSets: readonly LabelSet[]): Promise<string> {
    const metric = await new METRICS[type]({ name, help, registers: [] }).get();
    // prom-client writes `sharedLabels`, which its histograms use, from text that it keeps.
    const values = samples.flatMap(({ value, count }, i) => {
      const line = { labels: NO_LABELS, sharedLabels: labelSets[i], value };
      if (count === undefined) return [line];
      return [
        { ...line, metricName: `${name}_sum` },
        { ...line, metricName: `${name}_count`, value: count },
      ];
    });
    return this.write({ ...metric, values });
  }

  async write(metric: MetricValues): Promise<string> {
    // In OpenMetrics, prom-client appends the suffix to each series of a counter.
    const isCounter = this.#format === 'openmetrics' && String(metric.type) === 'counter';
    const name = isCounter ? metric.name.replace(/_total$/, '') : metric.name;
    this.#registry.registerMetric(new ConstantMetric({ ...metric, name }));
    const text = `${await this.#registry.getSingleMetricAsString(name)}\n`;
    return this.#format === 'openmetrics' ? withOpenMetricsMetadata(text, { ...metric, name }) : text;
  }
}

/**
 * Replaces the HELP and TYPE lines of one metric with OpenMetrics metadata: prom-client neither escapes quotes in HELP nor writes
 * UNIT. The unit is the suffix of the name.
 */
export function withOpenMetricsMetadata(
  text: string,
  { name, help, type }: { readonly name: string; readonly help: string; readonly type: unknown },
): string {
  const escaped = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
  const unit = ['seconds', 'bytes', 'ratio'].find((suffix) => name.endsWith(`_${suffix}`));
  const lines = [`# HELP ${name} ${escaped}`, `# TYPE ${name} ${String(type)}`];
  if (unit !== undefined) lines.push(`# UNIT ${name} ${unit}`);
  const series = text.slice(text.indexOf('\n', text.indexOf('\n') + 1) + 1);
  return `${lines.join('\n')}\n${series}`;
}
