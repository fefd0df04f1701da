import { createServer, type RequestListener, type Server } from 'node:http';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import express, { type ErrorRequestHandler, type Express, type Request, type Response } from 'express';
import type { ListenAddress } from '../config/flags.ts';
import { apiRoutes, CONNECTIONS_PATH, EVENTS_PATH, type Api } from './api.ts';
import { answer, type Gate } from './middleware.ts';
import { acceptsGzip, chooseCollectors, negotiateFormat, timeLimitMs } from './negotiation.ts';
import { Connections, cutWhenSlow, limitRequests } from './limits.ts';
import { PAGE_POLICY } from './page/style.ts';
import { CONTENT_TYPES, type Format } from '../expose/prometheus-text.ts';
import type { Tls } from './tls.ts';

const compress = promisify(gzip);

const STOP_MS = 3_000;
const MOST_CONNECTIONS = 512;
const SERVER_OPTIONS = {
  /** Longer than usual scrape intervals, so that Prometheus keeps its connection. */
  keepAliveTimeout: 90_000,
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  connectionsCheckingInterval: 2_000,
  maxHeaderSize: 16_384,
  keepAlive: true,
};
const CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/** What the server serves. */
export interface Exposition {
  readonly telemetryPath: string;
  readonly scrapeBudgetMs: number;
  /** So many scrapes at a time, as many listeners to events, and as many other requests; 0 for any number. */
  readonly maxRequests: number;
  /** The collectors that are on. */
  readonly collectors: readonly string[];
  /**
   * The page of metrics with what these collectors found, at the latest after so many milliseconds; late, it may be text instead of
   * OpenMetrics.
   */
  readonly metrics: (
    wanted: Format,
    withinMs: number,
    collectors: ReadonlySet<string>,
  ) => Promise<{ readonly format: Format; readonly body: Uint8Array }>;
  /** The page for people, which loads itself again or does not. */
  readonly page: (refreshes: boolean) => Promise<string>;
  /** Null where the API is off. */
  readonly api: Api | null;
  /** True for good once the first scan has ended. */
  readonly isReady: () => boolean;
  /** Hears of what went wrong with a request; the caller sees no detail of it. */
  readonly failed: (reason: string) => void;
  /** Headers of every answer besides our own, or in their place. */
  readonly headers: () => Readonly<Record<string, string>>;
  /** What a request passes before it comes to anything but health and readiness, in this order. */
  readonly gates: readonly Gate[];
}

/** The HTTP surface: the page of metrics, health, readiness and the status page. */
export function createApp(exposition: Exposition): Express {
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  // A proxy in front that lets only some paths through must not be got round by other spellings.
  app.enable('case sensitive routing');
  app.enable('strict routing');
  app.use((_request, response, next) => {
    response.set({
      'Cache-Control': 'no-store',
      'Content-Security-Policy': CONTENT_SECURITY_POLICY,
      'Referrer-Policy': 'no-referrer',
      'X-Content-Type-Options': 'nosniff',
      ...exposition.headers(),
    });
    next();
  });
  app.use(refuseMethods);
  app.get('/-/healthy', (_request, response) => {
    response.type('text/plain').send('peerscope is healthy.\n');
  });
  app.get('/-/ready', (_request, response) => {
    const ready = exposition.isReady();
    const text = ready ? 'peerscope is ready.\n' : 'The first scan has not ended yet.\n';
    response
      .status(ready ? 200 : 503)
      .type('text/plain')
      .send(text);
  });
  for (const gate of exposition.gates) app.use(gate);
  const limit = (): Gate => limitRequests(exposition.maxRequests);
  app.get(exposition.telemetryPath, limit(), (request, response) => sendMetrics(exposition, request, response));
  const routes = exposition.api && apiRoutes(exposition.api);
  // Listeners stay, and must not keep others out.
  if (routes) app.get(EVENTS_PATH, limit(), routes.events);
  app.use(limit());
  app.get('/', async (request, response) => {
    const page = await exposition.page(request.query['refresh'] !== 'off');
    cutWhenSlow(response);
    response.set({ 'Content-Security-Policy': PAGE_POLICY, ...exposition.headers() });
    response.type('html').send(page);
  });
  if (routes) app.get(CONNECTIONS_PATH, routes.connections);
  else
    app.use('/api', (_request, response) => {
      response.status(404).type('text/plain').send('The API is off: --web.enable-api turns it on.\n');
    });
  app.use((_request, response) => {
    response.status(404).type('text/plain').send('Not found.\n');
  });
  const refuse: ErrorRequestHandler = (error: unknown, _request, response, next) => {
    exposition.failed(error instanceof Error ? error.message : String(error));
    if (response.headersSent) next(error);
    else response.status(500).type('text/plain').send('Internal error.\n');
  };
  app.use(refuse);
  return app;
}

const refuseMethods: Gate = ({ method = '' }, response, next) => {
  if (method === 'GET' || method === 'HEAD') next();
  else answer(response, 405, 'Only GET and HEAD are allowed.', { Allow: 'GET, HEAD', Connection: 'close' });
};

async function sendMetrics(exposition: Exposition, request: Request, response: Response): Promise<void> {
  const wanted = negotiateFormat(request.get('Accept'));
  const withinMs = timeLimitMs(request.get('X-Prometheus-Scrape-Timeout-Seconds'), exposition.scrapeBudgetMs);
  const choice = chooseCollectors(request.url, exposition.collectors);
  if ('refusal' in choice) {
    answer(response, 400, choice.refusal);
    return;
  }
  const { format, body } = await exposition.metrics(wanted, withinMs, choice.collectors);
  response.set({ 'Content-Type': CONTENT_TYPES[format], Vary: 'Accept, Accept-Encoding' });
  const isCompressed = acceptsGzip(request.get('Accept-Encoding'));
  if (isCompressed) response.set('Content-Encoding', 'gzip');
  const sent = isCompressed ? await compressOnce(body) : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  cutWhenSlow(response);
  response.send(sent);
}

const compressed = new WeakMap<Uint8Array, Promise<Buffer>>();

/** Those who share a page share its compression. */
function compressOnce(body: Uint8Array): Promise<Buffer> {
  let sent = compressed.get(body);
  if (!sent) {
    sent = compress(body);
    compressed.set(body, sent);
  }
  return sent;
}

/** The servers of one run, from the first address to the graceful stop. */
export class Servers {
  readonly #servers: Server[] = [];
  readonly #connections = new Connections(MOST_CONNECTIONS);
  readonly #tls: Tls | null;
  #isStopping = false;

  /** Without TLS they speak plain HTTP. */
  constructor(tls: Tls | null) {
    this.#tls = tls;
  }

  /**
   * Listens on all of the addresses; rejects with one clear line when one of them cannot be had. `failed` hears of connections
   * that cannot be accepted.
   */
  async listen(app: Express, addresses: readonly ListenAddress[], failed: (reason: string) => void): Promise<void> {
    for (const address of addresses) await this.#listenOn(app, address, failed);
  }

  /** Where the servers listen, ports that the system chose included. */
  get addresses(): string[] {
    return this.#servers.map((server) => {
      const address = server.address();
      if (address === null || typeof address === 'string') return '';
      return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`;
    });
  }

  /** Takes no more requests, lets those under way end, and cuts what is left after three seconds. */
  async close(): Promise<void> {
    this.#isStopping = true;
    const deadline = setTimeout(() => this.#connections.cutAll(), STOP_MS);
    await Promise.all(
      this.#servers.map(async (server) => {
        const closed = promisify(server.close.bind(server))();
        server.closeIdleConnections();
        await closed;
      }),
    );
    clearTimeout(deadline);
  }

  async #listenOn(app: Express, { host, port }: ListenAddress, failed: (reason: string) => void): Promise<void> {
    const listener: RequestListener = (request, response) => {
      if (!this.#connections.admit(request, response)) return;
      if (this.#isStopping) {
        answer(response, 503, 'Stopping.', { Connection: 'close' });
        return;
      }
      response.once('close', () => {
        if (this.#isStopping) server.closeIdleConnections();
      });
      app(request, response);
    };
    const server = this.#tls?.createServer(SERVER_OPTIONS, listener) ?? createServer(SERVER_OPTIONS, listener);
    this.#connections.follow(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        const shown = `${host ?? ''}:${port}`;
        reject(new Error(`Cannot listen on "${shown}": ${reasonOf(error)}`, { cause: error }));
      });
      server.listen(host === null ? { port } : { host, port }, resolve);
    });
    server.removeAllListeners('error').on('error', (error) => failed(error.message));
    this.#servers.push(server);
  }
}

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error.code === 'EADDRINUSE') return 'the address is in use';
  if (error.code === 'EADDRNOTAVAIL') return 'no interface of this machine has the address';
  if (error.code === 'EACCES') return 'permission denied';
  return error.message;
}
