import { escapeControls } from '../common/sanitize.ts';
import type { Format } from '../expose/prometheus-text.ts';

/**
 * Selects the exposition format for an Accept header: OpenMetrics 1.0.0 or 0.0.1 if it has a higher weight than the text format,
 * otherwise the text format, also for types that are not supported (RFC 9110 section 12.5.1).
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

/** Whether an Accept-Encoding header allows gzip; a weight of `gzip` takes precedence over `*` (RFC 9110 section 12.5.3). */
export function acceptsGzip(acceptEncoding: string | undefined): boolean {
  const weights = new Map<string, number>();
  for (const part of (acceptEncoding ?? '').split(',')) {
    const [, coding = '', weight = '1'] = /^\s*(gzip|\*)\s*(?:;\s*q=([\d.]+)\s*)?$/i.exec(part) ?? [];
    weights.set(coding.toLowerCase(), Number(weight));
  }
  return (weights.get('gzip') ?? weights.get('*') ?? 0) > 0;
}

const LONGEST_MS = 3_600_000;

/** The time limit of a scrape in milliseconds: half a second less than the scraper's timeout, at least 100 ms; without a timeout, the budget. */
export function timeLimitMs(scrapeTimeoutSeconds: string | undefined, budgetMs: number): number {
  const seconds = Number(scrapeTimeoutSeconds ?? Number.NaN);
  if (!(seconds > 0)) return budgetMs;
  return Math.min(LONGEST_MS, Math.max(100, seconds * 1000 - 500));
}

/** The collectors that a request selects, or the reason why the request is invalid. */
export type Choice = { readonly collectors: ReadonlySet<string> } | { readonly refusal: string };

/**
 * Selects collectors by the query of a scrape, like node_exporter: `collect[]=` selects only these, `exclude[]=` all except these.
 * Without either, all collectors that are on are selected.
 */
export function chooseCollectors(url: string, on: readonly string[]): Choice {
  const query = new URLSearchParams(url.replace(/^[^?]*/, ''));
  const wanted = query.getAll('collect[]');
  const unwanted = query.getAll('exclude[]');
  if (wanted.length > 0 && unwanted.length > 0)
    return { refusal: 'Cannot select collectors: collect[] and exclude[] cannot be combined' };
  const unknown = [...wanted, ...unwanted].find((name) => !on.includes(name));
  if (unknown !== undefined)
    return {
      refusal: `Cannot select collector ${escapeControls(JSON.stringify(unknown))}: must be one of the enabled collectors ${on.join(', ')}`,
    };
  const isChosen = (name: string): boolean => (wanted.length > 0 ? wanted.includes(name) : !unwanted.includes(name));
  return { collectors: new Set(on.filter(isChosen)) };
}
