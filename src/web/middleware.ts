import type { IncomingMessage, ServerResponse } from 'node:http';

/** Passes a request on with `next`, or answers it. */
export type Middleware = (request: IncomingMessage, response: ServerResponse, next: () => void) => void | Promise<void>;

/** Answers with one line of text. */
export function answer(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  send(response, status, `${text}\n`, { 'Content-Type': 'text/plain; charset=utf-8', ...headers });
}

/** Sends a whole body. The response to HEAD has its length, too. */
export function send(
  response: ServerResponse,
  status: number,
  body: string | Uint8Array,
  headers: Readonly<Record<string, string>>,
): void {
  response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}
