import { UsageError } from '../common/errors.ts';
import { ASN_INFO, FAMILIES, type FamilySpec } from './catalogue.ts';
import type { Family } from '../model.ts';
import type { ScanData } from './scan-data.ts';
import { BUDGET_FAMILIES, STATUS_FAMILIES } from './status-families.ts';

/** Which families are published, and with which labels. */
export interface PublishedOptions {
  /** Names of families; `*` stands for any text, and a name after `!` is left out. */
  readonly families: readonly string[];
  readonly podLabel: boolean;
  readonly containerLabel: boolean;
}

const ABOUT_EXPORTER = new Set([...BUDGET_FAMILIES, ...STATUS_FAMILIES].map(({ name }) => name));
/** The families with a label for each family. */
const LIMITS = new Set(BUDGET_FAMILIES.filter(({ labels }) => labels[0] === 'family').map(({ name }) => name));
const ABSENT_AT_ZERO = new Set(FAMILIES.filter(({ absentAtZero }) => absentAtZero).map(({ name }) => name));
const NAMES = [...FAMILIES.map(({ name }) => name), ASN_INFO.name, ...ABOUT_EXPORTER];

/** The families that are published: all, or those that the user chose. Families about the exporter itself stay unless they are left out. */
export class Published {
  readonly #included: readonly RegExp[];
  readonly #excluded: readonly RegExp[];
  readonly #leftOut: ReadonlySet<string>;

  constructor({ families, podLabel, containerLabel }: PublishedOptions = ALL) {
    const [excluded, included] = [true, false].map((isExcluded) =>
      families.filter((pattern) => pattern.startsWith('!') === isExcluded),
    );
    this.#excluded = (excluded ?? []).map(expressionOf);
    // A list of names to leave out leaves the others.
    this.#included = included?.length === 0 && families.length > 0 ? [/^/] : (included ?? []).map(expressionOf);
    this.#leftOut = new Set([...(podLabel ? [] : ['pod']), ...(containerLabel ? [] : ['container'])]);
  }

  /** Says whether a family is published. */
  has(family: string): boolean {
    const matches = (expression: RegExp): boolean => expression.test(family);
    return !this.#excluded.some(matches) && (ABOUT_EXPORTER.has(family) || this.#included.some(matches));
  }

  /** The published ones of these families. Those about the series limit count, and name, published series only. */
  of(families: readonly Family[]): Family[] {
    const published = families
      .filter(({ name }) => this.has(name))
      .map((family) =>
        ABSENT_AT_ZERO.has(family.name)
          ? { ...family, samples: family.samples.filter(({ value }) => value !== 0) }
          : family,
      );
    const sizes = new Map(published.map(({ name, samples }) => [name, samples.length]));
    return published.map((family) => {
      if (!LIMITS.has(family.name)) return family;
      const samples = family.samples
        .filter(({ labels: [name = ''] }) => this.has(name))
        .map((sample) => {
          const [name = ''] = sample.labels;
          return family.name === SERIES && ABSENT_AT_ZERO.has(name)
            ? { ...sample, value: sizes.get(name) ?? 0 }
            : sample;
        });
      return { ...family, samples };
    });
  }

  /** A family without the labels that are left out. */
  labeled(spec: FamilySpec<ScanData>): FamilySpec<ScanData> {
    const isKept = (label: string): boolean => !this.#leftOut.has(label);
    if (spec.labels.every(isKept)) return spec;
    const fold = spec.fold
      .map((step) => ({ ...step, labels: step.labels.filter(isKept) }))
      .filter(({ labels }) => labels.length > 0);
    return { ...spec, labels: spec.labels.filter(isKept), fold };
  }
}

const SERIES = 'peerscope_series';
const ALL: PublishedOptions = { families: ['*'], podLabel: true, containerLabel: true };

function expressionOf(pattern: string): RegExp {
  // A run of "*" is one: the time to match it would grow with each.
  return new RegExp(`^${pattern.replace(/^!/, '').replaceAll(/\*+/g, '\\w*')}$`);
}

/** Throws UsageError for a name that is no family. */
export function checkFamilies(families: readonly string[]): void {
  for (const pattern of families) {
    const expression = expressionOf(pattern);
    if (!NAMES.some((name) => expression.test(name)))
      throw new UsageError(
        `Cannot use --metrics.families ${JSON.stringify(pattern)}: must be a metric family of docs/metrics.md, such as peerscope_asn_connections`,
      );
  }
}
