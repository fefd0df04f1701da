import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { ApiClient } from '../../src/cli/api-client.ts';

/** Writes as long as the client reads. */
function flood(response: ServerResponse, chunk: string): void {
  const write = (): void => {
    while (!response.destroyed && response.write(chunk));
    if (!response.destroyed) response.once('drain', write);
  };
  write();
}

test.each([
  {
    title: 'an error without an end',
    status: 500,
    chunk: 'no '.repeat(10_000),
    reason: /HTTP status 500: no no no [no ]{0,195}$/,
  },
  {
    title: 'a page that is missing, without an end',
    status: 404,
    chunk: 'no '.repeat(10_000),
    reason: /the API is off/,
  },
  {
    title: 'a line without an end',
    status: 200,
    chunk: 'x'.repeat(1_000_000),
    reason: /a line of the answer has more than 40 million characters$/,
  },
])('disconnects from a server that sends $title', { timeout: 30_000 }, async ({ status, chunk, reason }) => {
  const server = createServer((_request, response) => {
    response.writeHead(status, { 'Content-Type': 'text/plain' });
    flood(response, chunk);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = new ApiClient({ connect: `http://127.0.0.1:${port}` });
  const closed = new Promise((resolve) => {
    server.once('connection', (socket) => socket.on('error', () => undefined).once('close', resolve));
  });
  const signal = new AbortController().signal;
  await expect(client.lines('/', 'the rows', signal, (line) => line.length)).rejects.toThrow(reason);
  await closed;
  server.close();
});
