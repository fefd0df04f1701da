import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import Router from 'router';
import { reasonOf } from '../common/errors.ts';
import { ACCEPT_PATH, acceptRoute, type Accept } from './accept.ts';
import {
  apiRoutes,
  CONNECTIONS_PATH,
  EVENTS_PATH,
  UNUSUAL_PATH,
  HISTORY_PATH,
  historyRoute,
  unusualRoute,
  type HistoryApi,
  type Api,
  type UnusualApi,
} from './api.ts';
import { listen, type ListenTarget } from './listen.ts';
import { answer, send, type Middleware } from './middleware.ts';
import { acceptsGzip, chooseCollectors, negotiateFormat, timeLimitMs } from './negotiation.ts';
import { ClientLimit, RequestLimits } from './limits.ts';
import { ACCEPT_POLICY, PAGE_POLICY } from './page/policy.ts';
import { CONTENT_TYPES, type Format } from '../expose/prometheus-text.ts';
import type { Tls } from './tls.ts';

// An import would read every export of the module, and some of them load an HTTP client of 7 MiB.
const { createServer } = process.getBuiltinModule('node:http');
const compress = promisify(gzip);

const STOP_MS = 3_000;
const MAX_CLIENTS = 512;
const SERVER_OPTIONS = {
  /** Longer than common scrape intervals, so that Prometheus reuses its connection. */
  keepAliveTimeout: 90_000,
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  connectionsCheckingInterval: 2_000,
  maxHeaderSize: 16_384,
  keepAlive: true,
};
const CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/** What the server answers with. */
export interface HttpHandlers {
  readonly telemetryPath: string;
  readonly scrapeBudgetMs: number;
  /** The limit of concurrent scrapes, of event streams, and of other requests, each on its own; 0 is no limit. */
  readonly maxRequests: number;
  /** The enabled collectors. */
  readonly collectors: readonly string[];
  /** The metrics of these collectors, within `withinMs` milliseconds. A page of an earlier scan may be text instead of OpenMetrics. */
  readonly metrics: (
    format: Format,
    withinMs: number,
    collectors: ReadonlySet<string>,
  ) => Promise<{ readonly format: Format; readonly body: Uint8Array }>;
  /** The status page as HTML; `refreshes` makes it refresh itself. */
  readonly page: (refreshes: boolean) => Promise<string>;
  /** Null when the API is off. */
  readonly api: Api | null;
  /** Null when the API is off or nothing is watched. */
  readonly unusual: UnusualApi;
  /** Null when the API is off or nothing is remembered. */
  readonly history: HistoryApi;
  /** Null when users may not declare what is normal. */
  readonly accept: Accept | null;
  /** True once the first scan has ended. */
  readonly isReady: () => boolean;
  /** Takes the reason why a request failed; the client gets no details. */
  readonly failed: (reason: string) => void;
  /** Headers of every response; they replace the default ones. */
  readonly headers: () => Readonly<Record<string, string>>;
  /** The checks for every path except health and readiness, in this order. */
  readonly middleware: readonly Middleware[];
}

/** The HTTP interface: metrics, health, readiness, the status page and the API. */
export function createApp(handlers: HttpHandlers): RequestListener {
  // Alternative spellings of a path must not bypass a proxy that allows only some paths.
  const app = new Router({ caseSensitive: true, strict: true });
  app.use((_request, response, next) => {
    const headers = {
      'Cache-Control': 'no-store',
      'Content-Security-Policy': CONTENT_SECURITY_POLICY,
      'Referrer-Policy': 'no-referrer',
      'X-Content-Type-Options': 'nosniff',
      ...handlers.headers(),
    };
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    next();
  });
  app.use(allowMethods(handlers.accept !== null));
  app.get('/-/healthy', (_request, response) => {
    answer(response, 200, 'peerscope is healthy.');
  });
  app.get('/-/ready', (_request, response) => {
    if (handlers.isReady()) answer(response, 200, 'peerscope is ready.');
    else answer(response, 503, 'The first scan has not ended yet.');
  });
  for (const middleware of handlers.middleware) app.use(middleware);
  const limits = new RequestLimits();
  const limit = (): Middleware => limits.limit(handlers.maxRequests);
  app.get(handlers.telemetryPath, limit(), (request, response) => sendMetrics(handlers, limits, request, response));
  const routes = handlers.api && apiRoutes(handlers.api, limits);
  // Event streams stay open and have a limit of their own.
  if (routes) app.get(EVENTS_PATH, limit(), routes.events);
  app.use(limit());
  app.get('/', async (request, response) => {
    const query = new URLSearchParams(/\?(.*)/s.exec(request.url ?? '')?.[1]);
    const page = await handlers.page(query.get('refresh') !== 'off');
    limits.sending(response);
    const policy = handlers.accept ? `${PAGE_POLICY}; ${ACCEPT_POLICY}` : PAGE_POLICY;
    send(response, 200, page, {
      'Content-Type': 'text/html; charset=utf-8',
      'Content-Security-Policy': policy,
      ...handlers.headers(),
    });
  });
  if (handlers.unusual) app.get(UNUSUAL_PATH, unusualRoute(handlers.unusual, limits));
  if (handlers.history) app.get(HISTORY_PATH, historyRoute(handlers.history, limits));
  if (handlers.accept) app.post(ACCEPT_PATH, acceptRoute(handlers.accept));
  if (routes) app.get(CONNECTIONS_PATH, routes.connections);
  else
    app.use('/api', (_request, response) => {
      answer(response, 404, 'The API is off: --web.enable-api turns it on.');
    });
  return (request, response) => {
    app(request, response, (error?: unknown) => {
      if (!error) answer(response, 404, 'Not found.');
      else {
        handlers.failed(reasonOf(error));
        if (response.headersSent) response.destroy();
        else answer(response, 500, 'Internal error.');
      }
    });
  };
}

/** Every path allows GET and HEAD; that of decisions allows POST alone. */
const allowMethods =
  (acceptsDecisions: boolean): Middleware =>
  ({ method = '', url = '' }, response, next) => {
    const isDecision = acceptsDecisions && url.replace(/\?.*/s, '') === ACCEPT_PATH;
    const allowed = isDecision ? ['POST'] : ['GET', 'HEAD'];
    if (allowed.includes(method)) next();
    else {
      const text = isDecision ? 'Only POST is allowed.' : 'Only GET and HEAD are allowed.';
      answer(response, 405, text, { Allow: allowed.join(', '), Connection: 'close' });
    }
  };

async function sendMetrics(
  handlers: HttpHandlers,
  limits: RequestLimits,
  { headers, url = '' }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const requested = negotiateFormat(headers.accept);
  const timeout = headers['x-prometheus-scrape-timeout-seconds'];
  const withinMs = timeLimitMs(timeout?.toString(), handlers.scrapeBudgetMs);
  const choice = chooseCollectors(url, handlers.collectors);
  if ('refusal' in choice) {
    answer(response, 400, choice.refusal);
    return;
  }
  const { format, body } = await handlers.metrics(requested, withinMs, choice.collectors);
  const isCompressed = acceptsGzip(headers['accept-encoding']?.toString());
  const sent = isCompressed ? await compressOnce(body) : body;
  limits.sending(response);
  send(response, 200, sent, {
    'Content-Type': CONTENT_TYPES[format],
    Vary: 'Accept, Accept-Encoding',
    ...(isCompressed && { 'Content-Encoding': 'gzip' }),
  });
}

const compressed = new WeakMap<Uint8Array, Promise<Buffer>>();

/** Scrapers that share a page share its compressed form. */
function compressOnce(body: Uint8Array): Promise<Buffer> {
  let sent = compressed.get(body);
  if (!sent) {
    sent = compress(body);
    compressed.set(body, sent);
  }
  return sent;
}

/** The HTTP servers of a run, one for each target. */
export class Servers {
  readonly #servers: Server[] = [];
  /** The addresses, with the ports that the system chose. */
  readonly addresses: string[] = [];
  readonly #clients = new ClientLimit(MAX_CLIENTS);
  readonly #tls: Tls | null;
  #isStopping = false;

  /**
   * Listens on every target, with plain HTTP when `tls` is null; rejects with one line when that fails for one. `failed` takes the
   * reason when a connection cannot be accepted.
   */
  static async open(
    app: RequestListener,
    targets: readonly ListenTarget[],
    tls: Tls | null,
    failed: (reason: string) => void,
  ): Promise<Servers> {
    const servers = new Servers(tls);
    try {
      for (const target of targets) await servers.#listen(app, target, failed);
    } catch (error) {
      await servers.close();
      throw error;
    }
    return servers;
  }

  private constructor(tls: Tls | null) {
    this.#tls = tls;
  }

  /** Accepts no more requests, finishes those in progress, and disconnects the rest after three seconds. */
  async close(): Promise<void> {
    this.#isStopping = true;
    const deadline = setTimeout(() => this.#clients.disconnectAll(), STOP_MS);
    await Promise.all(
      this.#servers.map(async (server) => {
        const closed = promisify(server.close.bind(server))();
        server.closeIdleConnections();
        await closed;
      }),
    );
    clearTimeout(deadline);
  }

  async #listen(app: RequestListener, target: ListenTarget, failed: (reason: string) => void): Promise<void> {
    const handle: RequestListener = (request, response) => {
      if (!this.#clients.admit(request, response)) return;
      if (this.#isStopping) {
        answer(response, 503, 'Stopping.', { Connection: 'close' });
        return;
      }
      if (isAmbiguous(request)) {
        answer(response, 400, 'Ambiguous request.', { Connection: 'close' });
        return;
      }
      // The connection ends with the response: a body without end would be parsed until the time of the request is up.
      if (hasBody(request)) response.setHeader('Connection', 'close');
      response.once('close', () => {
        if (this.#isStopping) server.closeIdleConnections();
      });
      app(request, response);
    };
    const server = this.#tls?.createServer(SERVER_OPTIONS, handle) ?? createServer(SERVER_OPTIONS, handle);
    this.#clients.watch(server);
    this.addresses.push(await listen(server, target));
    server.on('error', (error) => failed(reasonOf(error)));
    this.#servers.push(server);
  }
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/** A proxy may understand a request differently that has two hosts, or a transfer coding that this server does not decode. */
function isAmbiguous({ headersDistinct, httpVersion }: IncomingMessage): boolean {
  const { host = [], 'transfer-encoding': codings = [] } = headersDistinct;
  return (
    host.length > 1 ||
    codings.length > 1 ||
    codings.some((coding) => httpVersion !== '1.1' || coding.trim().toLowerCase() !== 'chunked')
  );
}
