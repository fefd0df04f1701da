import type { Classic } from '../../grafana/dashboard.ts';

/** What the variables of a dashboard stand for; a variable that is not here stands for all values. */
export type Shown = Readonly<Record<string, string>>;

interface Target {
  readonly refId: string;
  readonly expr: string;
  readonly instant?: boolean;
  readonly range?: boolean;
}

interface Panel {
  readonly type: string;
  readonly title: string;
  readonly interval?: string;
  readonly targets?: readonly Target[];
  readonly panels?: readonly Panel[];
  key?: string;
}

interface Variable {
  readonly name: string;
  readonly type: string;
  readonly definition?: string;
  readonly regex?: string;
  readonly sort?: number;
  readonly includeAll?: boolean;
  readonly allValue?: string;
  readonly current?: { readonly value: string | readonly string[] };
}

/** A series of an answer. */
export interface Answered {
  readonly metric: Readonly<Record<string, string>>;
  readonly value?: readonly [number, string];
  readonly values?: readonly (readonly [number, string])[];
}

/** What Grafana asked for a panel and got. */
export interface Answer {
  readonly target: Target;
  readonly result: readonly Answered[];
  readonly seconds: number;
  readonly samples: number;
  readonly peakSamples: number;
}

/** An annotation: what is marked in the panels, from its first to its last second. */
export interface Marked {
  readonly color: string;
  readonly title: string;
  readonly text: string;
  readonly from: number;
  readonly to: number;
}

/** A dashboard with everything that Prometheus answered. */
export interface View {
  readonly dashboard: Classic;
  readonly shown: Shown;
  readonly from: number;
  readonly to: number;
  /** By the key of a panel. */
  readonly answers: Readonly<Record<string, readonly Answer[]>>;
  readonly marks: readonly Marked[];
  readonly variableSeconds: number;
}

/** How long a dashboard looks back, and how far apart the points of its lines are. */
export interface Span {
  readonly to: number;
  readonly seconds: number;
  /** The scrape interval of the data source, in seconds. */
  readonly scrapeSeconds: number;
  /** Whether the viewer opens the collapsed rows; true by default. */
  readonly opensRows?: boolean;
  /** How many points a panel asks for that has one a minute, in place of the distance of points. */
  readonly points?: number;
}

/** Pixels of a panel of half the width, which is how many points Grafana asks for. */
const POINTS = 760;
const DURATION = /^(\d+)([smh])$/;
const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };

async function ask(url: string, path: string, parameters: Readonly<Record<string, string>>): Promise<unknown> {
  const response = await fetch(`${url}/api/v1/${path}`, { method: 'POST', body: new URLSearchParams(parameters) });
  const { data, error } = (await response.json()) as { data: unknown; error?: string };
  if (error !== undefined) throw new Error(`Cannot run "${parameters['query'] ?? path}": ${error}`);
  return data;
}

/** A panel or variable with what its variables stand for, as Grafana replaces them. */
function replaced(text: string, variables: readonly Variable[], shown: Shown): string {
  return text.replaceAll(/\$\{?(\w+)\}?/g, (whole, name: string) => {
    const variable = variables.find((one) => one.name === name);
    if (!variable) return whole;
    return shown[name] ?? variable.allValue ?? '.+';
  });
}

/** The first value that Grafana offers for a variable without "All". */
async function firstValue(url: string, variable: Variable, definition: string, { to, seconds }: Span): Promise<string> {
  const [, selector, label] = /^label_values\((.+), (\w+)\)$/s.exec(definition) ?? [];
  if (selector !== undefined && label !== undefined) {
    const range = { 'match[]': selector, start: String(to - seconds), end: String(to) };
    const response = await fetch(`${url}/api/v1/label/${label}/values?${new URLSearchParams(range).toString()}`);
    const { data } = (await response.json()) as { data: string[] };
    return data.toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }))[0] ?? '';
  }
  const [, query = ''] = /^query_result\((.+)\)$/s.exec(definition) ?? [];
  const { result } = (await ask(url, 'query', { query, time: String(to) })) as { result: Answered[] };
  const [, pattern = ''] = /^\/(.+)\/$/.exec(variable.regex ?? '') ?? [];
  const texts = result.map(({ metric, value: [at, number] = [0, '0'] }) => {
    const { __name__ = '', ...labels } = metric;
    const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
    return `${__name__}{${pairs.join(',')}} ${number} ${at * 1000}`;
  });
  return texts.flatMap((text) => new RegExp(pattern).exec(text)?.[1] ?? [])[0] ?? '';
}

/** All panels; those of collapsed rows too unless they are left out. */
export function panelsOf(dashboard: Classic, withCollapsed = true): Panel[] {
  return ((dashboard.panels ?? []) as unknown as Panel[])
    .flatMap((panel) => [panel, ...(withCollapsed ? (panel.panels ?? []) : [])])
    .filter(({ type }) => type !== 'row');
}

/** Asks Prometheus for everything that Grafana asks for a dashboard that a viewer opens, with these variables given in its address. */
export async function viewOf(url: string, built: Classic, given: Shown, span: Span): Promise<View> {
  const dashboard = JSON.parse(JSON.stringify(built)) as Classic;
  const variables = (dashboard.templating.list ?? []) as unknown as Variable[];
  const shown: Record<string, string> = { ...given };
  let variableSeconds = 0;
  for (const variable of variables) {
    if (variable.type === 'custom') shown[variable.name] ??= [variable.current?.value ?? ''].flat().join('|');
    if (variable.type !== 'query') continue;
    const begun = performance.now();
    const first = await firstValue(url, variable, replaced(variable.definition ?? '', variables, shown), span);
    variableSeconds += (performance.now() - begun) / 1000;
    if (!variable.includeAll) shown[variable.name] ??= first;
  }
  const { to, seconds, scrapeSeconds } = span;
  const from = to - seconds;
  const answers: Record<string, Answer[]> = {};
  for (const [i, panel] of panelsOf(dashboard, span.opensRows).entries()) {
    panel.key = String(i);
    const step =
      span.points === undefined ? stepOf(panel, seconds, scrapeSeconds) : scaled(panel, seconds / span.points);
    const rate = `${Math.ceil(Math.max(step + scrapeSeconds, 4 * scrapeSeconds))}s`;
    answers[panel.key] = [];
    for (const target of panel.targets ?? []) {
      const query = replaced(target.expr.replaceAll('$__rate_interval', rate), variables, shown);
      const range = { start: String(from), end: String(to), step: String(step) };
      const when = target.range ? range : { time: String(to) };
      const begun = performance.now();
      const data = (await ask(url, target.range ? 'query_range' : 'query', { query, ...when, stats: 'all' })) as {
        result: Answered[];
        stats?: { samples?: { totalQueryableSamples: number; peakSamples: number } };
      };
      const { totalQueryableSamples: samples = 0, peakSamples = 0 } = data.stats?.samples ?? {};
      const took = (performance.now() - begun) / 1000;
      answers[panel.key]?.push({ target, result: data.result, seconds: took, samples, peakSamples });
    }
  }
  const marks = await marksOf(url, dashboard, (text) => replaced(text, variables, shown), span);
  return { dashboard, shown, from, to, answers, marks, variableSeconds };
}

/** The steps of an annotation's query that follow each other are one mark. */
async function marksOf(
  url: string,
  { annotations }: Classic,
  fill: (text: string) => string,
  { to, seconds, points }: Span,
): Promise<Marked[]> {
  const step = points === undefined ? 60 : seconds / points;
  const marks: Marked[] = [];
  for (const { expr = '', iconColor: color, titleFormat = '', textFormat = '' } of annotations.list ?? []) {
    const range = { start: String(to - seconds), end: String(to), step: String(step) };
    const { result } = (await ask(url, 'query_range', { query: fill(expr), ...range })) as { result: Answered[] };
    for (const { metric, values = [] } of result) {
      const named = (format: string): string =>
        format.replaceAll(/\{\{\s*(\w+)\s*\}\}/g, (_, name: string) => metric[name] ?? '').trim();
      let last: { from: number; to: number } | undefined;
      for (const [at] of values) {
        if (last && at - last.to <= step) last.to = at;
        else
          marks.push(
            Object.assign((last = { from: at, to: at }), { color, title: named(titleFormat), text: named(textFormat) }),
          );
      }
    }
  }
  return marks;
}

/** The distance of points of a panel where a minute of its interval is this long. */
function scaled({ interval = '1m' }: Panel, minute: number): number {
  return Number.parseInt(interval, 10) * minute;
}

function stepOf({ interval = '' }: Panel, seconds: number, scrapeSeconds: number): number {
  const [, count = scrapeSeconds, unit = 's'] = DURATION.exec(interval) ?? [];
  const least = Number(count) * (SECONDS[unit] ?? 1);
  return Math.max(least, Math.ceil(seconds / POINTS / least) * least);
}
