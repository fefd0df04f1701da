import { reasonOf } from '../common/errors.ts';
import type { Config } from '../config/config.ts';
import { endOf, ownMetrics, renderFamilies, type Format } from '../expose/prometheus-text.ts';
import { COLLECTORS } from '../metrics/catalogue.ts';
import type { Status } from '../metrics/status-families.ts';
import { statusFamilies } from '../metrics/families.ts';
import { Published } from '../metrics/published.ts';
import type { Access } from '../web/access.ts';
import { newToken, type Accept, type UserDecision } from '../web/accept.ts';
import { CONNECTIONS_PATH } from '../web/api.ts';
import { markStale, renderWaiting } from '../web/page/page.ts';
import type { HttpHandlers } from '../web/server.ts';
import type { EventSubscribers } from './event-subscribers.ts';
import type { Page, ScanFacts, WorkerClient } from './worker-client.ts';

/** What responses are made from. */
export interface HandlerParts {
  readonly worker: WorkerClient;
  readonly subscribers: EventSubscribers;
  /** Null without --web.config.file. */
  readonly access: Access | null;
  readonly status: (scan: ScanFacts) => Status;
  readonly isReady: () => boolean;
  readonly failed: (reason: string) => void;
  /** Takes the decision of a user. */
  readonly decide: (decision: UserDecision) => void;
}

/** Joins the worker's pages with the metrics about the exporter itself. */
export function createHandlers(
  config: Config,
  { worker, subscribers, access, status, isReady, failed, decide }: HandlerParts,
): HttpHandlers {
  const { scrapeBudgetMs } = config;
  const { telemetryPath, maxRequests, enableApi, enableAccept } = config.web;
  const accept: Accept | null =
    enableAccept && access ? { token: newToken(), userOf: (request) => access.userOf(request), decide } : null;
  const unusual = async (): Promise<object> => {
    const found = await worker.unusual(scrapeBudgetMs);
    return accept && access?.identifiesClients ? { ...found, accept_token: accept.token } : found;
  };
  const enabled = COLLECTORS.filter((name) => name === 'sockets' || config.collectors[name]);
  const completePages = new WeakMap<Page, Promise<CompletePage>>();
  return {
    telemetryPath,
    scrapeBudgetMs,
    maxRequests,
    isReady,
    failed,
    headers: () => access?.headers ?? {},
    middleware: access?.middleware ?? [],
    collectors: enabled,
    metrics: async (format, withinMs, chosen) => {
      const page = await worker.page(format, withinMs);
      const hasAll = chosen.size === enabled.length;
      const cached = hasAll ? completePages.get(page) : undefined;
      const complete = cached ?? completePage(page, chosen, status(page), config, failed);
      // Only the page with all collectors is shared: there are many subsets, and few scrapers ask for one.
      if (hasAll) completePages.set(page, complete);
      return complete;
    },
    api: enableApi
      ? {
          connections: (filters, format) => worker.rows(filters, format, scrapeBudgetMs),
          events: (filters) => subscribers.open(filters),
        }
      : null,
    unusual: enableApi && config.collectors['first-seen'] ? unusual : null,
    history: enableApi && config.collectors['first-seen'] ? (after, limit) => worker.history(after, limit) : null,
    accept,
    page: async (refreshes) => {
      const options = {
        telemetryPath,
        connectionsPath: enableApi ? CONNECTIONS_PATH : null,
        acceptToken: access?.identifiesClients ? (accept?.token ?? null) : null,
        refreshes,
      };
      const page = await worker.statusPage(options, status, scrapeBudgetMs);
      if (!page) return renderWaiting();
      return page.fresh ? page.html : markStale(page.html);
    },
  };
}

interface CompletePage {
  readonly format: Format;
  readonly body: Uint8Array;
}

/** The families of these collectors, followed by the metrics about the exporter and its process. */
async function completePage(
  { format, parts }: Page,
  chosen: ReadonlySet<string>,
  status: Status,
  { web, published }: Config,
  failed: (reason: string) => void,
): Promise<CompletePage> {
  const collectors = status.collectors.filter(({ collector }) => chosen.has(collector));
  const families = new Published(published).of(statusFamilies({ ...status, collectors }));
  const about = await renderFamilies(families, format);
  const own = web.disableExporterMetrics
    ? ''
    : await ownMetrics(format).catch((error: unknown) => {
        failed(`Cannot render the metrics of the process: ${reasonOf(error)}`);
        return '';
      });
  const found = parts.filter(({ collector }) => collector === null || chosen.has(collector)).map(({ body }) => body);
  const end = [about, own, endOf(format)].map((text) => Buffer.from(text));
  return { format, body: Buffer.concat([...found, ...end]) };
}
