/** The label value of series that the series budget folded together. */
export const OTHER = 'other';

/** Labels that fold in one step; with `when`, only the values for which it returns true. */
export interface FoldStep {
  readonly labels: readonly string[];
  readonly when?: (value: string) => boolean;
}

/** Prefixes a real value `other` (or `_other` ...) with one more `_`, so that it differs from a folded value. */
export function escapeOther(value: string): string {
  return value.endsWith(OTHER) && /^_*other$/.test(value) ? `_${value}` : value;
}
