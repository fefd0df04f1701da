import { COLLECTORS, type Status } from '../metrics/catalogue.ts';
import type { Config } from '../config/config.ts';
import type { Engine, Page, ScanFacts } from './worker-client.ts';
import { markStale, renderWaiting } from '../web/page/page.ts';
import { endOf, ownMetrics, renderFamilies, type Format } from '../expose/prometheus-text.ts';
import type { Protection } from '../web/access.ts';
import type { Exposition } from '../web/server.ts';
import { statusFamilies } from '../metrics/families.ts';
import type { Listening } from './event-subscribers.ts';

/** What answers are made of. */
export interface Sources {
  readonly engine: Engine;
  readonly listening: Listening;
  /** Null where everybody is let in. */
  readonly protection: Protection | null;
  readonly status: (scan: ScanFacts) => Status;
  readonly isReady: () => boolean;
  readonly failed: (reason: string) => void;
}

/** What the web server answers with: the engine's pages, with what is told about the exporter itself. */
export function expositionOf(
  config: Config,
  { engine, listening, protection, status, isReady, failed }: Sources,
): Exposition {
  const { telemetryPath, maxRequests, enableApi } = config.web;
  const on = COLLECTORS.filter((name) => name === 'sockets' || config.collectors[name]);
  const wholes = new WeakMap<Page, Promise<Whole>>();
  return {
    telemetryPath,
    scrapeBudgetMs: config.scrapeBudgetMs,
    maxRequests,
    isReady,
    failed,
    headers: () => protection?.headers ?? {},
    gates: protection?.gates ?? [],
    collectors: on,
    metrics: async (wanted, withinMs, chosen) => {
      const page = await engine.page(wanted, withinMs);
      const isWhole = chosen.size === on.length;
      const known = isWhole ? wholes.get(page) : undefined;
      const whole = known ?? complete(page, chosen, status(page), config, failed);
      // Others are many, and rare.
      if (isWhole) wholes.set(page, whole);
      return whole;
    },
    api: enableApi
      ? {
          connections: (filters, format) => engine.read(filters, format, config.scrapeBudgetMs),
          events: (filters) => listening.open(filters),
        }
      : null,
    page: async (refreshes) => {
      const drawing = await engine.draw({ telemetryPath, hasApi: enableApi, refreshes }, status, config.scrapeBudgetMs);
      if (!drawing) return renderWaiting();
      return drawing.fresh ? drawing.page : markStale(drawing.page);
    },
  };
}

interface Whole {
  readonly format: Format;
  readonly body: Uint8Array;
}

/** What these collectors found in a scan, with what is told about the exporter itself; those who want all of it share the page. */
async function complete(
  { format, parts }: Page,
  chosen: ReadonlySet<string>,
  status: Status,
  { web }: Config,
  failed: (reason: string) => void,
): Promise<Whole> {
  const collectors = status.collectors.filter(({ collector }) => chosen.has(collector));
  const about = await renderFamilies(statusFamilies({ ...status, collectors }), format);
  const own = web.disableExporterMetrics
    ? ''
    : await ownMetrics(format).catch((error: unknown) => {
        failed(`Cannot render the metrics of the process: ${String(error)}`);
        return '';
      });
  const found = parts.filter(({ collector }) => collector === null || chosen.has(collector)).map(({ body }) => body);
  const end = [about, own, endOf(format)].map((text) => Buffer.from(text));
  return { format, body: Buffer.concat([...found, ...end]) };
}
