import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { escapeControls } from '../common/sanitize.ts';
import { parseOwner, parseWhat } from '../unusual/grammar/what.ts';

/** Where decisions are accepted. */
export const ACCEPT_PATH = '/api/v1/accept';
/** The header with the token of the page. */
export const TOKEN_HEADER = 'X-Peerscope-Token';

const MAX_BODY = 4096;

/** The decision of a user that a value of `what` is normal for a workload, or not. */
export interface UserDecision {
  readonly owner: { readonly namespace: string; readonly workload: string };
  /** Canonical. */
  readonly what: string;
  readonly isAccepted: boolean;
  /** The user and the address. */
  readonly by: string;
}

/** What decisions are checked with, and where they go. */
export interface Accept {
  /** Only pages and responses of this exporter contain it: a page of another site can send a request, but not read one. */
  readonly token: string;
  /** The authenticated user of a request; null if any client is let in. */
  readonly userOf: (request: IncomingMessage) => string | null;
  readonly decide: (decision: UserDecision) => void;
}

export function newToken(): string {
  return randomBytes(32).toString('hex');
}

class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Handles `POST /api/v1/accept`. */
export function acceptRoute(accept: Accept): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  return async (request, response) => {
    try {
      const user = checkRequest(request, accept);
      const { owner, what, isAccepted } = await parseDecision(await readBody(request));
      const by = `${user}@${request.socket.remoteAddress?.replace(/^::ffff:/i, '') ?? ''}`;
      accept.decide({ owner, what, isAccepted, by });
      reply(response, 200, {
        namespace: owner.namespace || null,
        workload: owner.workload,
        what,
        accept: isAccepted,
        by,
      });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      // The rest of the body is not read.
      response.setHeader('Connection', 'close');
      reply(response, error.status, { error: error.message });
    }
  };
}

function reply(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8' });
  response.end(`${escapeControls(JSON.stringify(body))}\n`);
}

/** Returns the user of a request that a page of this exporter, or a program with its token, has sent. */
function checkRequest(request: IncomingMessage, { token, userOf }: Accept): string {
  const { headers } = request;
  const user = userOf(request);
  if (user === null) throw new Refusal(403, 'Cannot accept decisions: authentication is not configured');
  const site = headers['sec-fetch-site'];
  if (!isSameOrigin(headers) || (site !== undefined && site !== 'same-origin'))
    throw new Refusal(403, 'Cannot accept the decision: the Origin header must be that of this server');
  if (!/^application\/json\s*(?:;|$)/i.test(headers['content-type'] ?? ''))
    throw new Refusal(415, 'Cannot read the decision: Content-Type must be application/json');
  const given = headers[TOKEN_HEADER.toLowerCase()];
  if (typeof given !== 'string' || !timingSafeEqual(digest(given), digest(token)))
    throw new Refusal(
      403,
      `Cannot accept the decision: ${TOKEN_HEADER} must be the token of the page; load the page again`,
    );
  return user;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** A proxy may end TLS, so the scheme is not compared. */
function isSameOrigin({ origin, host }: IncomingMessage['headers']): boolean {
  if (origin === undefined || host === undefined || !/^https?:\/\/[^/?#@]+$/i.test(origin)) return false;
  const scheme = origin.slice(0, origin.indexOf('://'));
  if (!URL.canParse(origin) || !URL.canParse(`${scheme}://${host}`)) return false;
  return new URL(origin).host === new URL(`${scheme}://${host}`).host;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > MAX_BODY) throw new Refusal(413, `Cannot read the decision: longer than ${MAX_BODY} bytes`);
  }
  return Buffer.concat(chunks).toString();
}

async function parseDecision(text: string): Promise<Omit<UserDecision, 'by'>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refusal(400, 'Cannot read the decision: must be JSON');
  }
  // Not loaded before the first decision: zod takes 8 MiB.
  const { z } = await import('zod');
  const body = z.strictObject({
    workload: z.string(),
    namespace: z.string().nullish(),
    what: z.string(),
    accept: z.boolean(),
  });
  const { success, data } = body.safeParse(value);
  if (!success)
    throw new Refusal(
      400,
      'Cannot read the decision: must have workload, what, accept (true or false) and optionally namespace',
    );
  if (data.namespace?.includes('/'))
    throw new Refusal(400, 'Cannot read the decision: namespace must not contain a slash');
  const owner = parseOwner(`${data.namespace ?? ''}/${data.workload}`);
  if ('problem' in owner) throw new Refusal(400, owner.problem);
  const what = parseWhat(data.what);
  if (typeof what !== 'string') throw new Refusal(400, what.problem);
  return { owner, what, isAccepted: data.accept };
}
