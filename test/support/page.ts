/** One series of a page of metrics: every label with its text as the exporter meant it. */
export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const META = /^# (HELP|TYPE) ([a-z_]\w*) ((?:[^\\]|\\[\\n])*)$/;
/** prom-client writes NaN as Nan, which Go's ParseFloat, by which the format is defined, reads too. */
const SERIES = /^([a-z_]\w*)(?:\{(.+)\})? (Na[nN]|[+-]Inf|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)$/;
const LABEL = /([a-z_]\w*)="((?:[^"\\]|\\[\\n"])*)"(?:,|$)/gy;
const TYPES: readonly string[] = ['gauge', 'counter', 'histogram', 'summary'];

/**
 * Reads a page in the text format 0.0.4 as its bytes were received, more strictly than Prometheus does
 * (https://prometheus.io/docs/instrumenting/exposition_formats/).
 * Throws SyntaxError for what is not UTF-8, for a line of no known kind, for a family whose HELP, TYPE and series do not
 * stand together in this order, and for a series that is there twice.
 */
export function parsePage(bytes: ArrayBuffer): Series[] {
  const lines = new TextDecoder('utf-8', { fatal: true }).decode(bytes).split('\n');
  if (lines.pop() !== '') throw new SyntaxError('Cannot read the page: its last line has no end');
  const page: Series[] = [];
  const families = new Set<string>();
  const seen = new Set<string>();
  let family = '';
  let typed = false;
  for (const line of lines) {
    const refuse = (reason: string): SyntaxError =>
      new SyntaxError(`Cannot read line ${JSON.stringify(line)}: ${reason}`);
    const [, meta, described = '', text = ''] = META.exec(line) ?? [];
    if (meta === 'HELP') {
      if (families.has(described)) throw refuse('the family is there twice');
      families.add((family = described));
      typed = false;
    } else if (meta === 'TYPE') {
      if (described !== family || typed || !TYPES.includes(text)) throw refuse('a type out of place');
      typed = true;
    } else {
      const [, name = '', labels = '', value = ''] = SERIES.exec(line) ?? [];
      if (!typed || (name.replace(/_(bucket|sum|count)$/, '') !== family && name !== family))
        throw refuse('no series of the family above');
      const series = { name, labels: parseLabels(labels), value: Number(value.replace('Inf', 'Infinity')) };
      const key = JSON.stringify([name, Object.entries(series.labels).sort()]);
      if (seen.has(key)) throw refuse('the series is there twice');
      seen.add(key);
      page.push(series);
    }
  }
  return page;
}

function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  let end = 0;
  for (const [whole, name = '', value = ''] of text.matchAll(LABEL)) {
    if (Object.hasOwn(labels, name)) throw new SyntaxError(`Cannot read labels "${text}": ${name} is there twice`);
    labels[name] = value.replaceAll(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped));
    end += whole.length;
  }
  if (end !== text.length) throw new SyntaxError(`Cannot read labels "${text}" after character ${end}`);
  return labels;
}

/** The values of a family added up for each value of one label, or of several as "a b". */
export function sumBy(page: readonly Series[], family: string, ...labels: readonly string[]): Record<string, number> {
  const sums = new Map<string, number>();
  for (const series of page) {
    if (series.name !== family) continue;
    const key = labels.map((label) => series.labels[label]).join(' ');
    sums.set(key, (sums.get(key) ?? 0) + series.value);
  }
  return Object.fromEntries(sums);
}

/** How often each text occurs. */
export function count(texts: readonly string[]): Record<string, number> {
  return Object.fromEntries([...Map.groupBy(texts, (text) => text)].map(([text, same]) => [text, same.length]));
}
