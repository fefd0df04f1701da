import { aggregate, cut, type FoldMemory } from './aggregate.ts';
import {
  ASN_INFO,
  asnInfo,
  BUDGET_FAMILIES,
  FAMILIES,
  STATUS_FAMILIES,
  type Budget,
  type Census,
  type Collector,
  type FamilySpec,
  type Status,
} from './catalogue.ts';
import type { Family, Sample } from './model.ts';
import { Turnover } from './turnover.ts';

/** Every family of the catalogue within its budget, with the memory that keeps the edge of the fold from flapping. */
export class Families {
  readonly #limit: number;
  readonly #isOn: (collector: Collector) => boolean;
  readonly #memories = new Map<string, FoldMemory>();
  readonly #turnovers = new Map<string, Turnover>();

  constructor(limit: number, isOn: (collector: Collector) => boolean) {
    this.#limit = limit;
    this.#isOn = isOn;
    for (const { name, labels, turnover } of FAMILIES)
      if (turnover !== undefined) this.#turnovers.set(name, new Turnover(labels, turnover, limit));
  }

  /** The families of one census at a time in milliseconds, in the order of the catalogue. */
  of(census: Census, at: number): Family[] {
    const families: Family[] = [];
    const budgets: Budget[] = [];
    for (const spec of FAMILIES) {
      if (spec.collector && !this.#isOn(spec.collector)) continue;
      if (spec.cut) {
        const all = [...spec.contributions(census)].map(({ labels, value }) => ({
          labels: spec.labels.map((label) => labels[label] ?? ''),
          value,
        }));
        const kept = cut(all, this.#limit, spec.cut);
        families.push(family(spec, kept.samples));
        budgets.push({ family: spec.name, limit: this.#limit, folded: kept.cut });
        continue;
      }
      const bounded = aggregate(spec.contributions(census), spec, this.#limit, this.#memories.get(spec.name));
      this.#memories.set(spec.name, bounded.memory);
      const { samples, folded: late } = this.#turnovers.get(spec.name)?.admit(bounded.samples, at) ?? {
        samples: bounded.samples,
        folded: 0,
      };
      families.push(family(spec, samples));
      const folded = spec.folded?.(census) ?? bounded.folded + late;
      if (spec.fold.length > 0 || spec.folded) budgets.push({ family: spec.name, limit: this.#limit, folded });
      if (spec.name !== ASN_INFO.shownBy) continue;
      const column = spec.labels.indexOf('asn');
      const info = asnInfo(
        bounded.samples.map(({ labels }) => labels[column] ?? ''),
        census.asnNames,
      );
      const kept = cut(info, this.#limit, () => 0);
      families.push(family(ASN_INFO, kept.samples));
      budgets.push({ family: ASN_INFO.name, limit: this.#limit, folded: kept.cut });
    }
    return [...families, ...whole(BUDGET_FAMILIES, budgets)];
  }
}

/** The families about the exporter itself. */
export function statusFamilies(status: Status): Family[] {
  return whole(STATUS_FAMILIES, status);
}

function whole<Source>(specs: readonly FamilySpec<Source>[], source: Source): Family[] {
  return specs.map((spec) => family(spec, aggregate(spec.contributions(source), spec, Infinity, undefined).samples));
}

function family(
  spec: Pick<FamilySpec<never>, 'name' | 'help' | 'type' | 'labels'>,
  samples: readonly Sample[],
): Family {
  const { name, help, type, labels } = spec;
  return { name, help, type, labels, samples };
}
