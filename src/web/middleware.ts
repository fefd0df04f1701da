import type { IncomingMessage, ServerResponse } from 'node:http';

/** Lets a request pass by calling `next`, or answers it. */
export type Gate = (request: IncomingMessage, response: ServerResponse, next: () => void) => void | Promise<void>;

/** Answers with one line of text. */
export function answer(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8', ...headers });
  response.end(`${text}\n`);
}
