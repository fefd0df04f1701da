import { reasonOf } from '../common/errors.ts';
import { aggregate, cut, type Contribution, type FoldMemory } from './aggregate.ts';
import { ASN_INFO, asnInfo, FAMILIES, type Collector, type FamilySpec } from './catalogue.ts';
import type { Family, Sample } from '../model.ts';
import type { ScanData } from './scan-data.ts';
import { DailySeriesCap } from './daily-series-cap.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES, type Budget, type Status } from './status-families.ts';

/** Computes the families of the catalogue within the series limit. Remembers which series were folded, so that folding is stable. */
export class Families {
  readonly #limit: number;
  readonly #isOn: (collector: Collector) => boolean;
  readonly #failed: (collector: Collector, reason: string) => void;
  readonly #memories = new Map<string, FoldMemory>();
  readonly #dailyCaps = new Map<string, DailySeriesCap>();

  /** `failed` is called for a family that could not be computed; it is left out, the others are not affected. */
  constructor(
    limit: number,
    isOn: (collector: Collector) => boolean,
    failed: (collector: Collector, reason: string) => void,
  ) {
    this.#limit = limit;
    this.#isOn = isOn;
    this.#failed = failed;
    for (const { name, labels, dailyCap } of FAMILIES)
      if (dailyCap !== undefined) this.#dailyCaps.set(name, new DailySeriesCap(labels, dailyCap, limit));
  }

  /** Returns the families of one scan in the order of the catalogue; `at` in milliseconds. */
  of(data: ScanData, at: number): Family[] {
    const families: Family[] = [];
    const budgets: Budget[] = [];
    for (const spec of FAMILIES) {
      if ([spec.collector, spec.needs].some((collector) => collector && !this.#isOn(collector))) continue;
      try {
        if (spec.isAbsent?.(data)) continue;
        const { samples, folded } = spec.cut ? this.#cut(spec, data, spec.cut) : this.#fold(spec, data, at);
        families.push(family(spec, samples));
        const isBounded = spec.fold.length > 0 || spec.folded !== undefined || spec.cut !== undefined;
        if (isBounded) budgets.push({ family: spec.name, limit: this.#limit, folded });
      } catch (error) {
        this.#failed(spec.collector ?? 'sockets', `Cannot count "${spec.name}": ${reasonOf(error)}`);
      }
    }
    const index = families.findIndex(({ name }) => name === ASN_INFO.shownBy[0]);
    if (index >= 0) {
      const { samples, cut: folded } = this.#info(families, data.asnNames);
      families.splice(index + 1, 0, family(ASN_INFO, samples));
      budgets.push({ family: ASN_INFO.name, limit: this.#limit, folded });
    }
    return [...families, ...whole(BUDGET_FAMILIES, budgets)];
  }

  #fold(spec: FamilySpec<ScanData>, data: ScanData, at: number): { samples: readonly Sample[]; folded: number } {
    if (spec.folded) return { samples: counted(spec, data), folded: spec.folded(data) };
    const bounded = aggregate(spec.contributions(data), spec, this.#limit, this.#memories.get(spec.name));
    this.#memories.set(spec.name, bounded.memory);
    const { samples, folded: late } = this.#dailyCaps.get(spec.name)?.admit(bounded.samples, at) ?? {
      samples: bounded.samples,
      folded: 0,
    };
    return { samples, folded: bounded.folded + late };
  }

  #cut(
    spec: FamilySpec<ScanData>,
    data: ScanData,
    order: NonNullable<FamilySpec<ScanData>['cut']>,
  ): { samples: readonly Sample[]; folded: number } {
    const all = [...spec.contributions(data)].map(({ labels, value }) => ({
      labels: spec.labels.map((label) => labels[label] ?? ''),
      value,
    }));
    const kept = cut(all, this.#limit, order);
    return { samples: kept.samples, folded: kept.cut };
  }

  #info(families: readonly Family[], names: ScanData['asnNames']): ReturnType<typeof cut> {
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
