import { escapeControls } from '../common/sanitize.ts';
import type { Format } from '../expose/prometheus-text.ts';

/**
 * The exposition format that an Accept header prefers: OpenMetrics 1.0.0 or 0.0.1 where its weight is above that of the text
 * format, which everything else gets (RFC 9110 section 12.5.1; Prometheus never wants a 406).
 */
export function negotiateFormat(accept: string | undefined): Format {
  let text = 0;
  let openMetrics = 0;
  for (const range of (accept ?? '').split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const parameter = (name: string): string | undefined =>
      parameters
        .find((candidate) => candidate.startsWith(`${name}=`))
        ?.slice(name.length + 1)
        .replace(/^"(.*)"$/, '$1');
    const weight = Number(parameter('q') ?? 1);
    const version = parameter('version');
    if (!(weight > 0)) continue;
    if (type === 'application/openmetrics-text' && (version === undefined || /^(1\.0\.0|0\.0\.1)$/.test(version)))
      openMetrics = Math.max(openMetrics, weight);
    else if (type === 'text/plain' && (version === undefined || version === '0.0.4')) text = Math.max(text, weight);
    else if (type === '*/*' || type === 'text/*') text = Math.max(text, weight);
  }
  return openMetrics > text ? 'openmetrics' : 'text';
}

/** Says whether an Accept-Encoding header lets gzip be sent: what it says of gzip itself goes before what it says of any (RFC 9110 section 12.5.3). */
export function acceptsGzip(acceptEncoding: string | undefined): boolean {
  const weights = new Map<string, number>();
  for (const part of (acceptEncoding ?? '').split(',')) {
    const [, coding = '', weight = '1'] = /^\s*(gzip|\*)\s*(?:;\s*q=([\d.]+)\s*)?$/i.exec(part) ?? [];
    weights.set(coding.toLowerCase(), Number(weight));
  }
  return (weights.get('gzip') ?? weights.get('*') ?? 0) > 0;
}

const LONGEST_MS = 3_600_000;

/** How long a scrape may take: the scraper's timeout less half a second, at least a tenth of a second; without one the budget; milliseconds. */
export function timeLimitMs(scrapeTimeoutSeconds: string | undefined, budgetMs: number): number {
  const seconds = Number(scrapeTimeoutSeconds ?? Number.NaN);
  if (!(seconds > 0)) return budgetMs;
  return Math.min(LONGEST_MS, Math.max(100, seconds * 1000 - 500));
}

/** Which collectors a request wants, or why that cannot be said. */
export type Choice = { readonly collectors: ReadonlySet<string> } | { readonly refusal: string };

/**
 * What the query of a scrape chooses among the collectors that are on, as node_exporter does: `collect[]=` those alone, `exclude[]=`
 * all but those, nothing all of them.
 */
export function chooseCollectors(url: string, on: readonly string[]): Choice {
  const query = new URLSearchParams(url.replace(/^[^?]*/, ''));
  const wanted = query.getAll('collect[]');
  const unwanted = query.getAll('exclude[]');
  if (wanted.length > 0 && unwanted.length > 0)
    return { refusal: 'Cannot choose collectors: collect[] and exclude[] must not come together' };
  const unknown = [...wanted, ...unwanted].find((name) => !on.includes(name));
  if (unknown !== undefined)
    return {
      refusal: `Cannot choose collector ${escapeControls(JSON.stringify(unknown))}: must be one of ${on.join(', ')}, which are on`,
    };
  const isChosen = (name: string): boolean => (wanted.length > 0 ? wanted.includes(name) : !unwanted.includes(name));
  return { collectors: new Set(on.filter(isChosen)) };
}
