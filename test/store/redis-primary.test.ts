import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { PrimaryFinder } from '../../src/store/redis-primary.ts';
import { parseStorageUrl } from '../../src/store/redis-url.ts';

it('asks the next addresses after none of the first ten has answered', async () => {
  const sentinel = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      const name = '*2\r\n$9\r\n192.0.2.1\r\n$4\r\n6379\r\n';
      for (const command of bytes.toString().split(/(?=\*\d+\r\n)/))
        socket.write(/sentinel/i.test(command) ? name : '+OK\r\n');
    });
  }).listen(0, '127.0.0.1');
  // Ports that were free a moment ago refuse connections.
  const closed = Array.from({ length: 11 }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all([sentinel, ...closed].map((server) => once(server, 'listening')));
  const portOf = (server: typeof sentinel): number => (server.address() as AddressInfo).port;
  const ports = [...closed, sentinel].map(portOf);
  await Promise.all(closed.map((server) => once(server.close(), 'close')));
  const server = parseStorageUrl(`redis+sentinel://${ports.map((port) => `127.0.0.1:${port}`).join(',')}/main`);
  const finder = new PrimaryFinder(server ?? expect.fail('no URL'));
  try {
    await expect(finder.locate()).rejects.toThrow(`127.0.0.1:${ports[9]}: `);
    expect(await finder.locate()).toEqual({ host: '192.0.2.1', port: 6379 });
    expect(await finder.locate()).toEqual({ host: '192.0.2.1', port: 6379 });
  } finally {
    finder.close();
    sentinel.close();
  }
});
