import type { IncomingMessage, ServerResponse } from 'node:http';
import { parseFilters } from '../rows/filter.ts';
import { escapeControls } from '../common/sanitize.ts';
import { cutWhenSlow } from './limits.ts';

/** Where the API is served. */
export const CONNECTIONS_PATH = '/api/v1/connections';
export const EVENTS_PATH = '/api/v1/events';

/** What is written piece by piece: null after the last piece, and after `close`. */
export interface Pieces {
  next(): Promise<Uint8Array | null>;
  close(): void;
}

/** What the API is answered from; both reject where there is nothing to answer with. */
export interface Api {
  /** The rows of a fresh scan that the filters want. */
  readonly connections: (filters: readonly string[], format: 'json' | 'jsonl') => Promise<Pieces>;
  /** The events of the scans from now on that the filters want, as server-sent events. */
  readonly events: (filters: readonly string[]) => Promise<Pieces>;
}

/** Handles one request to its end. */
export type Route = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/** How many may read at the same time, of each kind. */
const MOST_READERS = 16;
/** Who does not take a piece within so long is cut off. */
const STALLED_MS = 30_000;
/** Proxies and browsers give up connections on which nothing comes. */
const HEARTBEAT_MS = 15_000;
const RETRY_SECONDS = 5;
const CONTENT_TYPES = { json: 'application/json; charset=utf-8', jsonl: 'application/jsonl; charset=utf-8' } as const;

/** The routes of the API. */
export function apiRoutes(api: Api): { readonly connections: Route; readonly events: Route } {
  return {
    connections: bounded(async (request, response) => {
      const { filters, format = 'json' } = readQuery(request.url ?? '');
      if (format !== 'json' && format !== 'jsonl')
        throw new BadRequest(`Cannot use format "${format}": must be json or jsonl`);
      checkFilters(filters);
      const pieces = await opened(() => api.connections(filters, format));
      await send(pieces, request, response, { 'Content-Type': CONTENT_TYPES[format] });
    }),
    events: bounded(async (request, response) => {
      const { filters, format } = readQuery(request.url ?? '');
      if (format !== undefined) throw new BadRequest(`Cannot use format "${format}": events have one format`);
      checkFilters(filters);
      const pieces = await opened(() => api.events(filters));
      // The second is for nginx, which would keep them back.
      const headers = { 'Content-Type': 'text/event-stream; charset=utf-8', 'X-Accel-Buffering': 'no' };
      const heartbeat = setInterval(() => {
        if (!response.writableNeedDrain) response.write(':\n\n');
      }, HEARTBEAT_MS);
      try {
        await send(pieces, request, response, headers, `retry: ${RETRY_SECONDS * 1000}\n\n`);
      } finally {
        clearInterval(heartbeat);
      }
    }),
  };
}

/** A request that cannot be meant so (status 400). */
class BadRequest extends Error {}
/** A request that nothing is there for at the moment (status 503). */
class Unavailable extends Error {}

/** Answers what goes wrong before the first byte as JSON, and lets only so many through at a time. */
function bounded(route: Route): Route {
  let readers = 0;
  return async (request, response) => {
    readers++;
    try {
      if (readers > MOST_READERS) throw new Unavailable(`there are ${MOST_READERS} readers already`);
      await route(request, response);
    } catch (error) {
      if (response.headersSent) response.destroy();
      else if (error instanceof BadRequest) refuse(response, 400, error.message);
      else if (error instanceof Unavailable)
        refuse(response, 503, error.message, { 'Retry-After': String(RETRY_SECONDS) });
      else throw error;
    } finally {
      readers--;
    }
  };
}

function refuse(response: ServerResponse, status: number, error: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'Content-Type': CONTENT_TYPES.json, ...headers });
  response.end(`${escapeControls(JSON.stringify({ error }))}\n`);
}

/** Every parameter but `format` is a filter: `state!=listen` is a parameter "state!" of the value "listen". */
function readQuery(url: string): { readonly filters: readonly string[]; readonly format?: string } {
  const searchParams = new URLSearchParams(url.replace(/^[^?]*/, ''));
  const format = searchParams.get('format');
  const filters = [...searchParams].filter(([key]) => key !== 'format').map(([key, value]) => `${key}=${value}`);
  return format === null ? { filters } : { filters, format };
}

function checkFilters(filters: readonly string[]): void {
  try {
    parseFilters(filters);
  } catch (error) {
    throw new BadRequest(reasonOf(error), { cause: error });
  }
}

async function opened(open: () => Promise<Pieces>): Promise<Pieces> {
  try {
    return await open();
  } catch (error) {
    throw new Unavailable(reasonOf(error), { cause: error });
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Sends pieces as fast as they are taken, until the last one, or until the client goes or stalls. */
async function send(
  pieces: Pieces,
  request: IncomingMessage,
  response: ServerResponse,
  headers: Readonly<Record<string, string>>,
  first = '',
): Promise<void> {
  // Whoever went while the scan ran closes nothing any more.
  if (response.closed) {
    pieces.close();
    return;
  }
  response.once('close', () => pieces.close());
  response.writeHead(200, headers);
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  response.write(first);
  for (let piece = await pieces.next(); piece !== null && !response.destroyed; piece = await pieces.next())
    if (!response.write(piece)) await drained(response);
  cutWhenSlow(response);
  response.end();
}

/** Waits until the reader has taken what was written; one who does not is cut off. Node's own timeout may take twice as long. */
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
