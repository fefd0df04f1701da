import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { RequestLimits } from '../../src/web/limits.ts';

const MIB = 1 << 20;

describe('responses that a client does not read', () => {
  test.each([
    { title: 'one request each', clients: 10, sizes: [8] },
    {
      title: 'pipelined requests, the first with a short response',
      clients: 1,
      sizes: [6, 16, 16, 16, 16, 16, 16, 16],
    },
  ])('hold at most 32 MiB and two more: $title', { timeout: 30_000 }, async ({ clients, sizes }) => {
    const limits = new RequestLimits();
    const unread: ServerResponse[] = [];
    const end = Promise.withResolvers<undefined>();
    let most = 0;
    const server = createServer((_request, response) => {
      limits.sending(response);
      response.end('x'.repeat((sizes[unread.length % sizes.length] ?? 0) * MIB));
      unread.push(response);
      const held = unread.filter(({ req }) => !req.socket.destroyed);
      most = Math.max(
        most,
        held.map(({ writableLength }) => writableLength).reduce((sum, length) => sum + length, 0),
      );
      if (unread.length === clients * sizes.length || response.req.socket.destroyed) end.resolve(undefined);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const sockets = Array.from({ length: clients }, () => connect(port, '127.0.0.1').pause());
    for (const socket of sockets) {
      socket.on('error', () => undefined);
      socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(sizes.length));
    }
    await end.promise;
    expect(most / MIB).toBeLessThanOrEqual(32 + 2 * Math.max(...sizes));
    expect(unread.some(({ req }) => req.socket.destroyed)).toBe(true);
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    server.close();
  });
});
