import { ASN_INFO, FAMILIES, type FamilySpec } from '../metrics/catalogue.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES } from '../metrics/status-families.ts';
import { OTHER } from '../common/other.ts';
import type { Family } from '../model.ts';

/** A family as OpenTelemetry's data model has it: a gauge, or a counter as a monotonic cumulative sum. */
export interface Metric {
  readonly name: string;
  readonly description: string;
  readonly unit: string;
  readonly type: 'gauge' | 'counter';
  readonly points: readonly Point[];
}

/** One series at the time of an export. `startMs` is when its counter stood at 0, milliseconds since 1970; of a gauge it means nothing. */
export interface Point {
  readonly attributes: Attributes;
  readonly startMs: number;
  readonly value: number;
}

export type Attributes = Readonly<Record<string, string | number>>;

/**
 * The attribute that lists the attributes which the budget of series folded into `other`, with commas between: of an array
 * stores make labels that nobody can read.
 */
export const FOLDED = 'peerscope.folded';

/** How long the start of a counter that is gone is kept, in case it comes back. */
const KEPT_MS = 86_400_000;

/** The attributes that stand for labels in OTLP; any other label is `peerscope.` and its name. */
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

/** The labels whose values are integers as attributes. */
const INTEGER_LABELS: ReadonlySet<string> = new Set(['asn', 'local_port']);

type Spec = Pick<FamilySpec<never>, 'name' | 'unit' | 'labels' | 'fold' | 'folded' | 'sinceBoot'>;
const SPECS: ReadonlyMap<string, Spec> = new Map(
  [...FAMILIES, ASN_INFO, ...BUDGET_FAMILIES, ...STATUS_FAMILIES].map((spec) => [spec.name, spec]),
);

/** Whether values of this unit count things or measure sizes: a series of them that is gone stands at 0. */
export function isAmount(unit: string): boolean {
  return unit === 'By' || unit.startsWith('{');
}

/** The name in OTLP: the prefix dotted, without what the type and the unit say already. */
function metricName(name: string, unit: string): string {
  const suffix = { By: '_bytes', s: '_seconds', '1': '_ratio' }[unit] ?? '';
  return name
    .replace(/_total$/, '')
    .replace(new RegExp(`${suffix}$`), '')
    .replace('_', '.');
}

/** When counters began, milliseconds since 1970: those of the exporter, and those of the kernel. */
export interface Origins {
  readonly exporter: number;
  readonly boot: number;
}

/**
 * Turns families into points, export by export. An amount that the receiver was told of and that is gone is told as 0 until an
 * export was taken, then no more; other gauges and counters are just gone. A counter that fell, or came back after an export
 * without it, began at the export before. Values that are no finite numbers are left out.
 */
export class Points {
  readonly #origins: Origins;
  /** The amounts of the last export that was taken, and of the last one, by family and series. */
  #told = new Map<string, Map<string, Attributes>>();
  #telling = new Map<string, Map<string, Attributes>>();
  readonly #counters = new Map<string, { startMs: number; value: number; at: number }>();
  #before: number | null = null;

  constructor(origins: Origins) {
    this.#origins = origins;
  }

  /** The points of an export at this time, milliseconds since 1970. A family without points is left out. */
  of(families: readonly Family[], at: number): Metric[] {
    this.#telling = new Map();
    const metrics = families.map((family) => this.#metric(family, at)).filter(({ points }) => points.length > 0);
    for (const [key, counter] of this.#counters) if (at - counter.at > KEPT_MS) this.#counters.delete(key);
    this.#before = at;
    return metrics;
  }

  /** Takes in that the receiver took the points that `of` gave last. */
  taken(): void {
    this.#told = this.#telling;
  }

  #metric({ name, help, type, samples }: Family, at: number): Metric {
    const spec = SPECS.get(name);
    if (!spec) throw new Error(`Cannot export family "${name}": it is not in the catalogue`);
    const toAttributes = attributesOf(spec);
    const points: Point[] = [];
    const present = new Map<string, Attributes>();
    for (const sample of samples) {
      const { value } = sample;
      if (!Number.isFinite(value)) continue;
      const key = JSON.stringify(sample.labels);
      const attributes = toAttributes(sample.labels);
      present.set(key, attributes);
      const startMs = type === 'counter' ? this.#startOf(spec, `${name} ${key}`, value, at) : at;
      points.push({ attributes, startMs, value });
    }
    if (type === 'gauge' && isAmount(spec.unit)) {
      this.#telling.set(name, present);
      for (const [key, attributes] of this.#told.get(name) ?? [])
        if (!present.has(key)) points.push({ attributes, startMs: at, value: 0 });
    }
    return { name: metricName(name, spec.unit), description: help, unit: spec.unit, type, points };
  }

  #startOf({ sinceBoot }: Spec, key: string, value: number, at: number): number {
    const known = this.#counters.get(key);
    const beganAnew = known && (known.at !== this.#before || value < known.value);
    const origin = sinceBoot ? this.#origins.boot : this.#origins.exporter;
    const startMs = beganAnew ? (this.#before ?? origin) : (known?.startMs ?? origin);
    this.#counters.set(key, { startMs, value, at });
    // A clock that was set back must not make a point end before it starts.
    return Math.min(startMs, at);
  }
}

/** Turns label values into attributes: "" is left out, a folded one is listed, and some are integers. */
function attributesOf({ labels, fold, folded }: Spec): (values: readonly string[]) => Attributes {
  const mayFold = new Set(fold.flatMap((step) => step.labels));
  const columns = labels.map((label) => ({
    attribute: ATTRIBUTES.get(label) ?? `peerscope.${label}`,
    mayFold: mayFold.has(label),
    isInteger: INTEGER_LABELS.has(label),
  }));
  return (values) => {
    // What is folded where it is counted is folded as a whole.
    const isWhollyFolded = folded !== undefined && values.every((value) => value === OTHER);
    const attributes: Record<string, string | number> = {};
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
