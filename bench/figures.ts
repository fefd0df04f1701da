/** One measure of one load: a value per round, and a bound if there is one. */
export interface Figure {
  readonly rows: number;
  /** The load, if it is not only a number of rows. */
  readonly load?: string;
  readonly measure: string;
  readonly unit: 'ms' | 'MiB' | 'ratio' | 'count';
  readonly values: readonly number[];
  readonly atMost?: number;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

/** The quantile of the values; `share` is between 0 and 1. */
export function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(values.length * share) - 1)] ?? NaN;
}

/** A Markdown table with the median and range of each figure, and whether the median is within its bound. */
export function renderFigures(figures: readonly Figure[]): string {
  const lines = figures.map(({ rows, load = rows.toLocaleString('en-US'), measure, unit, values, atMost }) => {
    const text = (value: number): string =>
      value.toFixed(unit === 'ratio' ? 2 : unit === 'count' || value >= 100 ? 0 : 1);
    const middle = median(values);
    const range = values.length > 1 ? `${text(Math.min(...values))}–${text(Math.max(...values))}` : '';
    const bound = atMost === undefined ? '' : `≤ ${atMost} ${middle <= atMost ? 'met' : '**missed**'}`;
    return `| ${load} | ${measure} | ${text(middle)}${unit === 'ratio' || unit === 'count' ? '' : ` ${unit}`} | ${range} | ${bound} |`;
  });
  return ['| rows | measure | median | range | bound |', '| --: | --- | --: | --: | --- |', ...lines, ''].join('\n');
}
