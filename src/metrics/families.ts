import { reasonOf } from '../common/errors.ts';
import { aggregate, cut, type Contribution, type FoldMemory } from './aggregate.ts';
import { ASN_INFO, asnInfo, FAMILIES, type Collector, type FamilySpec } from './catalogue.ts';
import type { Family, Sample } from '../model.ts';
import type { ScanData } from './scan-data.ts';
import { DailySeriesCap } from './daily-series-cap.ts';
import { Published } from './published.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES, type Budget, type Status } from './status-families.ts';
import { TenantsOfOwners } from './tenants-of-owners.ts';
import { WholeSeries } from './whole-series.ts';

/** Computes the families of the catalogue within the series limit. Remembers which series were folded, so that folding is stable. */
export class Families {
  readonly #limit: number;
  readonly #isOn: (collector: Collector) => boolean;
  readonly #failed: (collector: Collector, reason: string) => void;
  readonly #specs: readonly FamilySpec<ScanData>[];
  readonly #memories = new Map<string, FoldMemory>();
  readonly #wholes = new Map<string, WholeSeries>();
  readonly #dailyCaps = new Map<string, DailySeriesCap>();
  /** By family: what was derived at the last scan, in the order of its samples. */
  readonly #derived = new Map<string, readonly Derived[]>();
  readonly #tenants = new TenantsOfOwners();

  /**
   * `failed` is called for a family that could not be computed; it is left out, the others are not affected. Families that are not
   * published are computed too, because the status page shows them, but without the labels that are left out.
   */
  constructor(
    limit: number,
    isOn: (collector: Collector) => boolean,
    failed: (collector: Collector, reason: string) => void,
    published = new Published(),
  ) {
    this.#limit = limit;
    this.#isOn = isOn;
    this.#failed = failed;
    this.#specs = FAMILIES.map((spec) => published.labeled(spec));
    for (const { name, labels, fold, cut, folded } of this.#specs)
      if (cut || (fold.length > 0 && !folded)) this.#dailyCaps.set(name, new DailySeriesCap({ labels, fold }, limit));
  }

  /** Returns the families of one scan in the order of the catalogue; `at` in milliseconds. */
  of(data: ScanData, at: number): Family[] {
    const families: Family[] = [];
    const budgets: Budget[] = [];
    const foldedBy = new Map<string, number>();
    this.#tenants.update(data);
    for (const spec of this.#specs) {
      if ([spec.collector, spec.needs].some((collector) => collector && !this.#isOn(collector))) continue;
      try {
        if (spec.isAbsent?.(data)) continue;
        const { samples, folded, byTenant } = spec.cut
          ? this.#cut(spec, data, at, spec.cut)
          : this.#fold(spec, data, at);
        for (const [tenant, count] of byTenant ?? []) foldedBy.set(tenant, (foldedBy.get(tenant) ?? 0) + count);
        families.push(this.#withDerived(spec, data, samples));
        const isBounded = spec.fold.length > 0 || spec.folded !== undefined || spec.cut !== undefined;
        if (isBounded) budgets.push({ family: spec.name, series: samples.length, limit: this.#limit, folded });
      } catch (error) {
        this.#failed(spec.collector ?? 'sockets', `Cannot count "${spec.name}": ${reasonOf(error)}`);
      }
    }
    const index = families.findIndex(({ name }) => name === ASN_INFO.shownBy[0]);
    if (index >= 0) {
      const { samples, cut: folded } = this.#info(families, data.asnNames);
      families.splice(index + 1, 0, family(ASN_INFO, samples));
      budgets.push({ family: ASN_INFO.name, series: samples.length, limit: this.#limit, folded });
    }
    return [...families, ...whole(BUDGET_FAMILIES, { budgets, foldedBy: mostFolded(foldedBy) })];
  }

  #fold(spec: FamilySpec<ScanData>, data: ScanData, at: number): Bounded {
    if (spec.folded) return { samples: counted(spec, data), folded: spec.folded(data), byTenant: null };
    const contributions = [...spec.contributions(data)];
    if (spec.labels.includes('direction')) splitByDirection(contributions);
    const memory = this.#memories.get(spec.name);
    const whole = memory?.steps.size ? null : this.#wholeOf(spec).sum(contributions);
    if (whole) {
      this.#memories.set(spec.name, whole.memory);
      const { samples, foldedBy } = this.#admit(spec, whole.samples, whole.tenantOf, at);
      return { samples, folded: total(foldedBy), byTenant: foldedBy };
    }
    const bounded = aggregate(contributions, spec, this.#limit, memory);
    this.#memories.set(spec.name, bounded.memory);
    const { samples, foldedBy: late } = this.#admit(spec, bounded.samples, (sample) => bounded.tenants.get(sample), at);
    return { samples, folded: bounded.folded + total(late), byTenant: merged(bounded.foldedBy, late) };
  }

  #wholeOf(spec: FamilySpec<ScanData>): WholeSeries {
    let whole = this.#wholes.get(spec.name);
    if (!whole) this.#wholes.set(spec.name, (whole = new WholeSeries(spec, this.#limit)));
    return whole;
  }

  #cut(
    spec: FamilySpec<ScanData>,
    data: ScanData,
    at: number,
    order: NonNullable<FamilySpec<ScanData>['cut']>,
  ): Bounded {
    const tenants = new Map<Sample, string>();
    const all = [...spec.contributions(data)].map(({ labels, value, tenant }) => {
      const sample = { labels: spec.labels.map((label) => labels[label] ?? ''), value };
      tenants.set(sample, split(tenant ?? this.#tenants.of(labels), labels['direction']));
      return sample;
    });
    const tenantOf = (sample: Sample): string => tenants.get(sample) ?? '';
    const kept = cut(all, this.#limit, order, tenantOf);
    const { samples, foldedBy: late } = this.#admit(spec, kept.samples, tenantOf, at);
    return { samples, folded: kept.cut + total(late), byTenant: merged(kept.cutBy, late) };
  }

  #admit(
    { name }: FamilySpec<ScanData>,
    samples: readonly Sample[],
    tenantOf: (sample: Sample) => string | undefined,
    at: number,
  ): ReturnType<DailySeriesCap['admit']> {
    const cap = this.#dailyCaps.get(name);
    return cap?.admit(samples, (sample) => tenantOf(sample) ?? '', at) ?? { samples, foldedBy: new Map() };
  }

  /** A family with the labels that follow from the others. */
  #withDerived(spec: FamilySpec<ScanData>, data: ScanData, samples: readonly Sample[]): Family {
    const { derived } = spec;
    if (!derived) return family(spec, samples);
    const before = this.#derived.get(spec.name) ?? [];
    const all: Derived[] = [];
    this.#derived.set(spec.name, all);
    const whole = samples.map((sample, i) => {
      const known = before[i];
      const { labels } = sample;
      const isKnown = known?.labels === labels;
      const byName = isKnown
        ? known.byName
        : Object.fromEntries(spec.labels.map((label, column) => [label, labels[column] ?? '']));
      const more = derived.of(data, byName);
      const isSame = isKnown && more.every((value, column) => value === known.all[labels.length + column]);
      const one = isSame ? known : { labels, byName, all: [...labels, ...more] };
      all.push(one);
      return { ...sample, labels: one.all };
    });
    return family({ ...spec, labels: [...spec.labels, ...derived.labels] }, whole);
  }

  #info(families: readonly Family[], names: ScanData['asnNames']): Pick<ReturnType<typeof cut>, 'samples' | 'cut'> {
    const shown = ASN_INFO.shownBy.flatMap((name) => {
      const { labels = [], samples = [] } = families.find((family) => family.name === name) ?? {};
      const column = labels.indexOf('asn');
      return samples.map((sample) => sample.labels[column] ?? '');
    });
    const ranks = new Map([...new Set(shown)].map((asn, rank) => [asn, rank]));
    const rankOf = ({ labels: [asn = ''] }: Sample): number => ranks.get(asn) ?? 0;
    return cut(asnInfo(ranks.keys(), names), this.#limit, (a, b) => rankOf(a) - rankOf(b));
  }
}

/** The samples of a family within the limit, and the number of series that were folded or cut, by tenant; null if that is not known. */
interface Bounded {
  readonly samples: readonly Sample[];
  readonly folded: number;
  readonly byTenant: ReadonlyMap<string, number> | null;
}

/** The label values of a sample, also by name, and those with the derived ones. */
interface Derived {
  readonly labels: readonly string[];
  readonly byName: Readonly<Record<string, string>>;
  readonly all: readonly string[];
}

/** Tenants whose folded series are exported. */
const SHOWN_TENANTS = 5;
const INBOUND = ' inbound';

/** Remote hosts choose what is inbound: it has a share of its own, so that they hide nothing of what the tenant calls. */
function split(tenant: string, direction: string | undefined): string {
  return direction === 'inbound' ? tenant + INBOUND : tenant;
}

function splitByDirection(contributions: Contribution[]): void {
  for (const [i, { labels, value, tenant = '' }] of contributions.entries())
    if (labels['direction'] === 'inbound') contributions[i] = { labels, value, tenant: tenant + INBOUND };
}

/** The tenants with the most folded series. */
function mostFolded(foldedBy: ReadonlyMap<string, number>): Map<string, number> {
  const sums = new Map<string, number>();
  for (const [key, count] of foldedBy) {
    const tenant = key.endsWith(INBOUND) ? key.slice(0, -INBOUND.length) : key;
    if (tenant !== '') sums.set(tenant, (sums.get(tenant) ?? 0) + count);
  }
  return new Map([...sums].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, SHOWN_TENANTS));
}

function merged(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): Map<string, number> {
  const sums = new Map(a);
  for (const [tenant, count] of b) sums.set(tenant, (sums.get(tenant) ?? 0) + count);
  return sums;
}

function total(counts: ReadonlyMap<string, number>): number {
  return counts.values().reduce((sum, count) => sum + count, 0);
}

/** Computes the families about the exporter itself. */
export function statusFamilies(status: Status): Family[] {
  return whole(STATUS_FAMILIES, status);
}

/** The samples of a family that was folded where it was counted. */
function counted<Source>(spec: FamilySpec<Source>, source: Source): Sample[] {
  const samples = unfolded(spec, spec.contributions(source));
  if (!spec.counts) return samples;
  // Equal labels are in the same order.
  const counts = unfolded(spec, spec.counts(source));
  return samples.map((sample, i) => ({ ...sample, count: counts[i]?.value ?? 0 }));
}

function unfolded({ labels }: FamilySpec<never>, contributions: Iterable<Contribution>): Sample[] {
  return aggregate(contributions, { labels, fold: [] }, Infinity, undefined).samples;
}

function whole<Source>(specs: readonly FamilySpec<Source>[], source: Source): Family[] {
  return specs.map((spec) => family(spec, unfolded(spec, spec.contributions(source))));
}

function family(
  spec: Pick<FamilySpec<never>, 'name' | 'help' | 'type' | 'labels'>,
  samples: readonly Sample[],
): Family {
  const { name, help, type, labels } = spec;
  return { name, help, type, labels, samples };
}
