import type { IncomingMessage, ServerResponse } from 'node:http';
import { parseFilters } from '../rows/filter.ts';
import { reasonOf } from '../common/errors.ts';
import { escapeControls } from '../common/sanitize.ts';
import { clientOf, ReaderPlaces, type RequestLimits } from './limits.ts';

/** Where the API is served. */
export const CONNECTIONS_PATH = '/api/v1/connections';
export const EVENTS_PATH = '/api/v1/events';
export const UNUSUAL_PATH = '/api/v1/unusual';
export const HISTORY_PATH = '/api/v1/history';

/** A response body in chunks: null after the last one, and after `close`. */
export interface ChunkStream {
  next(): Promise<Uint8Array | null>;
  close(): void;
}

/** The data behind the API; both reject when there is no scan to answer from. */
export interface Api {
  /** The rows of a new scan that match the filters. */
  readonly connections: (filters: readonly string[], format: 'json' | 'jsonl') => Promise<ChunkStream>;
  /** The events of later scans that match the filters, as server-sent events. */
  readonly events: (filters: readonly string[]) => Promise<ChunkStream>;
}

/** What is unusual as JSON; null if that is not watched. */
export type UnusualApi = (() => Promise<object>) | null;

/** A page of what is remembered, as JSON: at most `limit` entries after a cursor; null if the cursor is not valid. */
export type HistoryApi = ((after: string | null, limit: number) => Promise<object | null>) | null;

/** Handles one request to its end. */
export type Route = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/** The limit of concurrent requests, of each kind. */
const MAX_READERS = 16;
/** A client that does not read a chunk within this time is disconnected. */
const STALLED_MS = 30_000;
/** Proxies and browsers close connections without traffic. */
const HEARTBEAT_MS = 15_000;
const RETRY_SECONDS = 5;
/** The number of entries of a page of the history, and the most. */
const HISTORY_PAGE = 1_000;
const HISTORY_MOST = 10_000;
const CONTENT_TYPES = { json: 'application/json; charset=utf-8', jsonl: 'application/jsonl; charset=utf-8' } as const;

/** Handles one request to its end; `stalls` says whether its client reads. */
type ReadingRoute = (
  request: IncomingMessage,
  response: ServerResponse,
  stalls: (doesStall: boolean) => void,
) => Promise<void>;

type Limits = Pick<RequestLimits, 'sending'>;

/** The routes of the API. */
export function apiRoutes(api: Api, limits: Limits): { readonly connections: Route; readonly events: Route } {
  return {
    connections: bounded(async (request, response, stalls) => {
      const { filters, format = 'json' } = readQuery(request.url ?? '');
      if (format !== 'json' && format !== 'jsonl')
        throw new BadRequest(`Cannot use format "${format}": must be json or jsonl`);
      checkFilters(filters);
      const chunks = await opened(() => api.connections(filters, format));
      await send(chunks, request, response, { 'Content-Type': CONTENT_TYPES[format] }, stalls);
      limits.sending(response);
      response.end();
    }),
    events: bounded(async (request, response, stalls) => {
      const { filters, format } = readQuery(request.url ?? '');
      if (format !== undefined) throw new BadRequest(`Cannot use format "${format}": events have one format`);
      checkFilters(filters);
      const chunks = await opened(() => api.events(filters));
      // X-Accel-Buffering keeps nginx from buffering the events.
      const headers = { 'Content-Type': 'text/event-stream; charset=utf-8', 'X-Accel-Buffering': 'no' };
      const heartbeat = setInterval(() => {
        if (!response.writableNeedDrain) response.write(':\n\n');
      }, HEARTBEAT_MS);
      try {
        await send(chunks, request, response, headers, stalls, `retry: ${RETRY_SECONDS * 1000}\n\n`);
        limits.sending(response);
        response.end();
      } finally {
        clearInterval(heartbeat);
      }
    }),
  };
}

/** The route of what is unusual now. */
export function unusualRoute(unusual: () => Promise<object>, limits: Limits): Route {
  return bounded(async (_request, response) => {
    sendJson(response, await opened(unusual), limits);
  });
}

/** The route of what is remembered, in pages. */
export function historyRoute(history: NonNullable<HistoryApi>, limits: Limits): Route {
  return bounded(async (request, response) => {
    const parameters = new URLSearchParams((request.url ?? '').replace(/^[^?]*/, ''));
    for (const [key, value] of parameters)
      if (key !== 'after' && key !== 'limit')
        throw new BadRequest(`Cannot use parameter ${JSON.stringify(`${key}=${value}`)}: must be limit or after`);
    const text = parameters.get('limit') ?? String(HISTORY_PAGE);
    const limit = /^\d{1,5}$/.test(text) ? Number(text) : 0;
    if (limit < 1 || limit > HISTORY_MOST)
      throw new BadRequest(`Cannot use limit ${JSON.stringify(text)}: must be a number from 1 to ${HISTORY_MOST}`);
    const after = parameters.get('after');
    const body = await opened(() => history(after, limit));
    if (!body) throw new BadRequest(`Cannot use after ${JSON.stringify(after)}: must be "next" of the page before`);
    sendJson(response, body, limits);
  });
}

function sendJson(response: ServerResponse, body: object, limits: Limits): void {
  limits.sending(response);
  response.writeHead(200, { 'Content-Type': CONTENT_TYPES.json });
  response.end(`${escapeControls(JSON.stringify(body))}\n`);
}

/** An invalid request (status 400). */
class BadRequest extends Error {}
/** A request that cannot be answered now (status 503). */
class Unavailable extends Error {}

/** Limits concurrent requests, and reports errors before the first byte as JSON. */
function bounded(route: ReadingRoute): Route {
  const places = new ReaderPlaces(MAX_READERS);
  return async (request, response) => {
    const reader = places.take(clientOf(request.socket), () => response.destroy());
    try {
      if (!reader) throw new Unavailable(`${MAX_READERS} clients are reading already`);
      await route(request, response, (doesStall) => places.stalls(reader, doesStall));
    } catch (error) {
      if (response.headersSent) response.destroy();
      else if (error instanceof BadRequest) refuse(response, 400, error.message);
      else if (error instanceof Unavailable)
        refuse(response, 503, error.message, { 'Retry-After': String(RETRY_SECONDS) });
      else throw error;
    } finally {
      if (reader) places.free(reader);
    }
  };
}

function refuse(response: ServerResponse, status: number, error: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'Content-Type': CONTENT_TYPES.json, ...headers });
  response.end(`${escapeControls(JSON.stringify({ error }))}\n`);
}

/**
 * Every parameter but `format` is a filter: `state!=listen` is a parameter "state!" of the value "listen", and `process~red` one
 * without a value.
 */
function readQuery(url: string): { readonly filters: readonly string[]; readonly format?: string } {
  const searchParams = new URLSearchParams(url.replace(/^[^?]*/, ''));
  const format = searchParams.get('format');
  const filters = [...searchParams]
    .filter(([key]) => key !== 'format')
    .map(([key, value]) => (value === '' && key.includes('~') ? key : `${key}=${value}`));
  return format === null ? { filters } : { filters, format };
}

function checkFilters(filters: readonly string[]): void {
  try {
    parseFilters(filters);
  } catch (error) {
    throw new BadRequest(reasonOf(error), { cause: error });
  }
}

async function opened<T>(open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    throw new Unavailable(reasonOf(error), { cause: error });
  }
}

/** Sends chunks as fast as the client reads them, until the last one, or until the client disconnects or stalls. Does not end the response. */
async function send(
  chunks: ChunkStream,
  request: IncomingMessage,
  response: ServerResponse,
  headers: Readonly<Record<string, string>>,
  stalls: (doesStall: boolean) => void,
  first = '',
): Promise<void> {
  // A client that disconnected during the scan emits no `close` any more.
  if (response.closed) {
    chunks.close();
    return;
  }
  response.once('close', () => chunks.close());
  response.writeHead(200, headers);
  if (request.method === 'HEAD') return;
  response.write(first);
  for (let chunk = await chunks.next(); chunk !== null && !response.destroyed; chunk = await chunks.next()) {
    if (response.write(chunk)) continue;
    stalls(true);
    await drained(response);
    stalls(false);
  }
}

/** Waits until the client has read what was written, and disconnects one that stalls. Node's own timeout can take twice as long. */
async function drained(response: ServerResponse): Promise<void> {
  if (response.destroyed) return;
  await new Promise<void>((resolve) => {
    const stalled = setTimeout(() => response.destroy(), STALLED_MS);
    const go = (): void => {
      clearTimeout(stalled);
      response.off('drain', go).off('close', go);
      resolve();
    };
    response.on('drain', go).on('close', go);
  });
}
