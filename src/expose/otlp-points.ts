import { ASN_INFO, FAMILIES, type FamilySpec } from '../metrics/catalogue.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES } from '../metrics/status-families.ts';
import { OTHER } from '../common/other.ts';
import type { Family, FamilyType } from '../model.ts';

/**
 * Families in OpenTelemetry's data model: a gauge, a counter as a monotonic cumulative sum, or a summary as a cumulative histogram
 * without bounds. OpenTelemetry keeps its own summaries for old formats, and the SDK cannot send them.
 */
export interface Metric {
  readonly name: string;
  readonly description: string;
  readonly unit: string;
  readonly type: FamilyType;
  readonly points: readonly Point[];
}

/** One series at the time of an export. `startMs` is when its counter was 0, milliseconds since 1970; unused for gauges. */
export interface Point {
  readonly attributes: Attributes;
  readonly startMs: number;
  readonly value: number;
  /** Only in a summary: the number of observations, whose sum is the value. */
  readonly count?: number;
}

export type Attributes = Readonly<Record<string, string | number>>;

/** The attribute that lists the folded attributes, separated by commas: stores turn arrays into labels that are hard to read. */
export const FOLDED = 'peerscope.folded';

/** How long the start of a missing counter is kept, in case it returns. */
const KEPT_MS = 86_400_000;

/** The OTLP attributes of labels; any other label becomes `peerscope.` and its name. */
export const ATTRIBUTES: ReadonlyMap<string, string> = new Map([
  ['process', 'process.executable.name'],
  ['namespace', 'k8s.namespace.name'],
  ['pod', 'k8s.pod.name'],
  ['container', 'k8s.container.name'],
  ['transport', 'network.transport'],
  ['state', 'network.connection.state'],
  ['asn', 'network.peer.as.number'],
  ['as_name', 'network.peer.as.organization.name'],
  ['local_address', 'network.local.address'],
  ['local_port', 'network.local.port'],
]);

/** The labels that become integer attributes. */
const INTEGER_LABELS: ReadonlySet<string> = new Set(['asn', 'local_port']);

type Spec = Pick<FamilySpec<never>, 'name' | 'unit' | 'derived' | 'fold' | 'folded' | 'sinceBoot' | 'otlp'>;
const SPECS: ReadonlyMap<string, Spec> = new Map(
  [...FAMILIES, ASN_INFO, ...BUDGET_FAMILIES, ...STATUS_FAMILIES].map((spec) => [spec.name, spec]),
);

/** Whether values of this unit are counts or sizes, which are 0 if the series is missing. */
export function isAmount(unit: string): boolean {
  return unit === 'By' || unit.startsWith('{');
}

/** The OTLP name: with a dot after the prefix, and without the suffixes of type and unit. */
function metricName(name: string, unit: string): string {
  const suffix = { By: '_bytes', s: '_seconds', '1': '_ratio' }[unit] ?? '';
  return name
    .replace(/_total$/, '')
    .replace(new RegExp(`${suffix}$`), '')
    .replace('_', '.');
}

/** When the counters of the exporter and of the kernel started, milliseconds since 1970. */
export interface Origins {
  readonly exporter: number;
  readonly boot: number;
}

/**
 * Converts families to points, export by export. A count or size that was exported and is now missing is exported as 0 until an
 * export succeeds; other missing series are left out. A counter that decreased, or returned after an export without it, restarted
 * at the previous export. Values that are not finite are left out.
 */
export class Points {
  readonly #origins: Origins;
  /** The counts and sizes of the last successful export, and of the last one, by family and series. */
  #exported = new Map<string, Map<string, Attributes>>();
  #exporting = new Map<string, Map<string, Attributes>>();
  readonly #counters = new Map<string, { startMs: number; value: number; at: number }>();
  #previousAt: number | null = null;

  constructor(origins: Origins) {
    this.#origins = origins;
  }

  /** Returns the points of an export; `at` in milliseconds since 1970. Families without points are left out. */
  of(families: readonly Family[], at: number): Metric[] {
    this.#exporting = new Map();
    const metrics = merged(
      families.map((family) => this.#metric(family, at)).filter(({ points }) => points.length > 0),
    );
    for (const [key, counter] of this.#counters) if (at - counter.at > KEPT_MS) this.#counters.delete(key);
    this.#previousAt = at;
    return metrics;
  }

  /** Confirms that the last export succeeded. */
  confirm(): void {
    this.#exported = this.#exporting;
  }

  #metric({ name, help, type, labels, samples }: Family, at: number): Metric {
    const spec = SPECS.get(name);
    if (!spec) throw new Error(`Cannot export family "${name}": it is not in the catalogue`);
    const toAttributes = attributesOf(spec, labels);
    const points: Point[] = [];
    const present = new Map<string, Attributes>();
    for (const sample of samples) {
      const { value, count } = sample;
      if (!Number.isFinite(value)) continue;
      const key = JSON.stringify(sample.labels);
      const attributes = toAttributes(sample.labels);
      present.set(key, attributes);
      const startMs = type === 'gauge' ? at : this.#startOf(spec, `${name} ${key}`, count ?? value, at);
      points.push({ attributes, startMs, value, ...(count !== undefined && { count }) });
    }
    if (type === 'gauge' && isAmount(spec.unit)) {
      this.#exporting.set(name, present);
      for (const [key, attributes] of this.#exported.get(name) ?? [])
        if (!present.has(key)) points.push({ attributes, startMs: at, value: 0 });
    }
    const { name: metric, description } = spec.otlp ?? { name: metricName(name, spec.unit), description: help };
    return { name: metric, description, unit: spec.unit, type, points };
  }

  #startOf({ sinceBoot }: Spec, key: string, value: number, at: number): number {
    const known = this.#counters.get(key);
    const restarted = known && (known.at !== this.#previousAt || value < known.value);
    const origin = sinceBoot ? this.#origins.boot : this.#origins.exporter;
    const startMs = restarted ? (this.#previousAt ?? origin) : (known?.startMs ?? origin);
    this.#counters.set(key, { startMs, value, at });
    // If the clock was set back, a point must not end before it starts.
    return Math.min(startMs, at);
  }
}

/** Joins the metrics that have the same name: the attributes of their points differ. */
function merged(metrics: readonly Metric[]): Metric[] {
  const byName = Map.groupBy(metrics, ({ name }) => name);
  return Array.from(byName.values(), ([first, ...others]) => ({
    ...(first as Metric),
    points: [first, ...others].flatMap((metric) => metric?.points ?? []),
  }));
}

/** Converts label values to attributes: empty ones are left out, folded ones are listed in FOLDED. */
function attributesOf(
  { derived, fold, folded, otlp }: Spec,
  labels: readonly string[],
): (values: readonly string[]) => Attributes {
  const mayFold = new Set(fold.flatMap((step) => step.labels));
  const own = labels.length - (derived?.labels.length ?? 0);
  const columns = labels.map((label) => ({
    attribute: ATTRIBUTES.get(label) ?? `peerscope.${label}`,
    mayFold: mayFold.has(label),
    isInteger: INTEGER_LABELS.has(label),
  }));
  return (values) => {
    // Counters that fold where they are counted fold all labels.
    const isWhollyFolded = folded !== undefined && values.slice(0, own).every((value) => value === OTHER);
    const attributes: Record<string, string | number> = { ...otlp?.attributes };
    const other: string[] = [];
    for (const [i, column] of columns.entries()) {
      const value = values[i] ?? '';
      if (value === '') continue;
      if (value === OTHER && (column.mayFold || isWhollyFolded)) other.push(column.attribute);
      else attributes[column.attribute] = column.isInteger && /^\d{1,10}$/.test(value) ? Number(value) : value;
    }
    if (other.length > 0) attributes[FOLDED] = other.join(',');
    return attributes;
  };
}
