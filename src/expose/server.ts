import { createServer, type Server } from 'node:http';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import express, { type ErrorRequestHandler, type Express, type Request, type Response } from 'express';
import type { ListenAddress } from '../config.ts';
import { apiRoutes, CONNECTIONS_PATH, EVENTS_PATH, type Api } from './api.ts';
import { acceptsGzip, negotiateFormat, timeLimitMs } from './negotiation.ts';
import { PAGE_POLICY } from './page-style.ts';
import { CONTENT_TYPES, type Format } from './prometheus.ts';

const compress = promisify(gzip);

/** Longer than usual scrape intervals, so that Prometheus keeps its connection. */
const KEEP_ALIVE_MS = 90_000;
const REQUEST_MS = 30_000;
const STOP_MS = 5_000;
const CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/** What the server serves. */
export interface Exposition {
  readonly telemetryPath: string;
  readonly scrapeBudgetMs: number;
  /** The whole page of metrics, at the latest after so many milliseconds; late, it may be text instead of OpenMetrics. */
  readonly metrics: (
    wanted: Format,
    withinMs: number,
  ) => Promise<{ readonly format: Format; readonly body: Uint8Array }>;
  /** The page for people, which loads itself again or does not. */
  readonly page: (refreshes: boolean) => Promise<string>;
  /** Null where the API is off. */
  readonly api: Api | null;
  /** True for good once the first scan has ended. */
  readonly isReady: () => boolean;
  /** Hears of what went wrong with a request; the caller sees no detail of it. */
  readonly failed: (reason: string) => void;
}

/** The HTTP surface: the page of metrics, health, readiness and the status page. */
export function createApp(exposition: Exposition): Express {
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.use((_request, response, next) => {
    response.set({
      'Cache-Control': 'no-store',
      'Content-Security-Policy': CONTENT_SECURITY_POLICY,
      'Referrer-Policy': 'no-referrer',
      'X-Content-Type-Options': 'nosniff',
    });
    next();
  });
  app.get(exposition.telemetryPath, (request, response) => sendMetrics(exposition, request, response));
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
  app.get('/', async (request, response) => {
    const page = await exposition.page(request.query['refresh'] !== 'off');
    response.set('Content-Security-Policy', PAGE_POLICY).type('html').send(page);
  });
  serveApi(app, exposition.api);
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

function serveApi(app: Express, api: Api | null): void {
  if (api) {
    const { connections, events } = apiRoutes(api);
    app.get(CONNECTIONS_PATH, connections);
    app.get(EVENTS_PATH, events);
    return;
  }
  app.use('/api', (_request, response) => {
    response.status(404).type('text/plain').send('The API is off: --web.enable-api turns it on.\n');
  });
}

async function sendMetrics(exposition: Exposition, request: Request, response: Response): Promise<void> {
  const wanted = negotiateFormat(request.get('Accept'));
  const withinMs = timeLimitMs(request.get('X-Prometheus-Scrape-Timeout-Seconds'), exposition.scrapeBudgetMs);
  const { format, body } = await exposition.metrics(wanted, withinMs);
  response.set({ 'Content-Type': CONTENT_TYPES[format], Vary: 'Accept, Accept-Encoding' });
  if (!acceptsGzip(request.get('Accept-Encoding'))) {
    response.send(Buffer.from(body.buffer, body.byteOffset, body.byteLength));
    return;
  }
  response.set('Content-Encoding', 'gzip').send(await compress(body));
}

/** The servers of one run, from the first address to the graceful stop. */
export class Servers {
  readonly #servers: Server[] = [];

  /** Listens on all of the addresses; rejects with one clear line when one of them cannot be had. */
  async listen(app: Express, addresses: readonly ListenAddress[]): Promise<void> {
    for (const address of addresses) await this.#listenOn(app, address);
  }

  /** Where the servers listen, ports that the system chose included. */
  get addresses(): string[] {
    return this.#servers.map((server) => {
      const address = server.address();
      if (address === null || typeof address === 'string') return '';
      return address.family === 'IPv6' ? `[${address.address}]:${address.port}` : `${address.address}:${address.port}`;
    });
  }

  /** Takes no more requests, lets those under way end, and cuts what is left after five seconds. */
  async close(): Promise<void> {
    const deadline = setTimeout(() => {
      for (const server of this.#servers) server.closeAllConnections();
    }, STOP_MS);
    await Promise.all(
      this.#servers.map(async (server) => {
        const closed = promisify(server.close.bind(server))();
        server.closeIdleConnections();
        await closed;
      }),
    );
    clearTimeout(deadline);
  }

  async #listenOn(app: Express, { host, port }: ListenAddress): Promise<void> {
    const server = createServer(
      { keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS },
      app,
    );
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        const shown = `${host ?? ''}:${port}`;
        reject(new Error(`Cannot listen on "${shown}": ${reasonOf(error)}`, { cause: error }));
      });
      server.listen(host === null ? { port } : { host, port }, resolve);
    });
    this.#servers.push(server);
  }
}

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error.code === 'EADDRINUSE') return 'the address is in use';
  if (error.code === 'EADDRNOTAVAIL') return 'no interface of this machine has the address';
  if (error.code === 'EACCES') return 'permission denied';
  return error.message;
}
