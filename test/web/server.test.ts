import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, createServer } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, it, test, vi } from 'vitest';
import { ClientLimit, clientOf, ReaderPlaces, RequestLimits } from '../../src/web/limits.ts';
import { Servers, type HttpHandlers } from '../../src/web/server.ts';
import { Served } from '../support/served.ts';

let served: Served | undefined;
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await served?.close();
  served = undefined;
});

async function start(handlers: Partial<HttpHandlers> = {}): Promise<Served> {
  served = await Served.start(handlers);
  return served;
}

/** A raw socket to the server. */
async function open(end: { port: number } | { path: string }, localAddress = '127.0.0.1'): Promise<Socket> {
  const allowHalfOpen = true;
  const socket = connect(
    'path' in end
      ? { path: end.path, allowHalfOpen }
      : { port: end.port, host: '127.0.0.1', localAddress, allowHalfOpen },
  );
  sockets.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Everything that the server sends in response to these bytes until it closes the connection. */
async function exchange(served: Served, bytes: string): Promise<string> {
  const socket = await open(served);
  socket.write(bytes);
  return text(socket);
}

/** The status codes in what a server sent. */
function statuses(received: string): number[] {
  return [...received.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => Number(status));
}

/** Scrapes that wait for `go`. */
function slowScrapes(): { metrics: HttpHandlers['metrics']; waiting: number; go: () => void } {
  const gate = Promise.withResolvers<undefined>();
  const slow = {
    waiting: 0,
    go: () => gate.resolve(undefined),
    metrics: async () => {
      slow.waiting++;
      await gate.promise;
      return { format: 'text' as const, body: Buffer.from('peerscope_up 1\n') };
    },
  };
  return slow;
}

/** Longer than what the kernel buffers for a client that does not read. */
const LONG_PAGE = { format: 'text', body: Buffer.alloc(8 << 20, 'a') } as const;

const SHORT_PAGE = { format: 'text', body: Buffer.from('peerscope_up 1\n') } as const;

/** Requests a page on a new connection without reading it. Resolves when the server sends it. */
async function ignoreResponse(served: Served, localAddress?: string): Promise<Socket> {
  const socket = await open(served, localAddress);
  socket.write('GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  await once(socket, 'readable');
  return socket;
}

describe('a request', () => {
  test.each([
    ['POST', '/metrics', 405],
    ['PUT', '/-/healthy', 405],
    ['DELETE', '/', 405],
    ['OPTIONS', '/metrics', 405],
    ['TRACE', '/metrics', 405],
    ['PROPFIND', '/nothing', 405],
    ['HEAD', '/metrics', 200],
    ['HEAD', '/-/healthy', 200],
    ['GET', '/metrics/', 404],
    ['GET', '/METRICS', 404],
    ['GET', '//metrics', 404],
    ['GET', '/./metrics', 404],
    ['GET', '/x/../metrics', 404],
    ['GET', '/metrics/../-/healthy', 404],
    ['GET', '/-/healthy/../../metrics', 404],
    ['GET', '/%2e%2e/etc/passwd', 404],
    ['GET', '/metrics%00', 404],
    ['GET', '/metrics%', 404],
    ['GET', '/%c0%ae%c0%ae/metrics', 404],
    ['GET', '/metrics;a=b', 404],
    ['GET', '/metrics?a=%00%', 200],
  ])('%s %s is answered with %d', async (method, path, status) => {
    const served = await start();
    const answer = await served.ask(path, { method });
    expect(answer.status).toBe(status);
    expect(answer.headers['x-content-type-options']).toBe('nosniff');
    if (status === 405) expect(answer.headers).toMatchObject({ allow: 'GET, HEAD', connection: 'close' });
    if (method === 'HEAD') expect(answer.body).toBe('');
  });

  test.each([
    ['with an unknown method', 'BREW /metrics HTTP/1.1\r\nHost: a\r\n\r\n', [400]],
    ['for a tunnel', 'CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n', []],
    ['without a Host', 'GET /metrics HTTP/1.1\r\n\r\n', [400]],
    ['of TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', [400]],
    ['with two hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', [400]],
    ['with one host twice', 'GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n', [400]],
    ...['xchunked', 'identity', 'gzip, chunked', 'chunked, chunked', 'chunked\r\nTransfer-Encoding: chunked', ''].map(
      (coding): [string, string, number[]] => [
        `with the transfer coding ${JSON.stringify(coding)}`,
        `GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ${coding}\r\n\r\n`,
        [400],
      ],
    ),
    ['of HTTP/1.0 with chunks', 'GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', [400]],
    ['with two lengths', 'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', [400]],
    [
      'with a length and chunks',
      'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      [400],
    ],
    ['with a bare line feed in a header', 'GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n', [400]],
    ['with 17 KiB of headers', `GET / HTTP/1.1\r\nHost: a\r\nX: ${'a'.repeat(17_408)}\r\n\r\n`, [431]],
    ['with a path of 17 KiB', `GET /${'a'.repeat(17_408)} HTTP/1.1\r\nHost: a\r\n\r\n`, [431]],
    ['with 3,000 headers', `GET / HTTP/1.1\r\nHost: a\r\n${'a: b\r\n'.repeat(3_000)}\r\n`, [431]],
    [
      'with an absolute URL',
      'GET http://evil.example/metrics/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
      [404],
    ],
    [
      'with a body that never ends',
      'POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\naaaa',
      [405],
    ],
  ])('%s closes the connection with %j', async (_, bytes, expected) => {
    const served = await start();
    expect(statuses(await exchange(served, bytes))).toEqual(expected);
    expect((await served.ask('/-/healthy')).status).toBe(200);
  });

  it('is dropped when its client closes its sending side, which looks like a disconnect', async () => {
    const slow = slowScrapes();
    const served = await start({ metrics: slow.metrics });
    const socket = await open(served);
    socket.end('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n');
    expect(await text(socket)).toBe('');
    slow.go();
    expect((await served.ask('/metrics')).status).toBe(200);
  });

  it('that fails gives its client no details', async () => {
    const served = await start({ metrics: () => Promise.reject(new Error('secret')) });
    const { status, body } = await served.ask('/metrics');
    expect([status, body, served.failures]).toEqual([500, 'Internal error.\n', ['secret']]);
  });
});

describe('a scrape', () => {
  it('can select collectors, and is rejected for unknown ones', async () => {
    const asked: unknown[] = [];
    const served = await start({
      collectors: ['sockets', 'asn'],
      metrics: (format, _withinMs, collectors) => {
        asked.push([...collectors]);
        return Promise.resolve({ format, body: Buffer.from('') });
      },
    });
    expect((await served.ask('/metrics')).status).toBe(200);
    expect((await served.ask('/metrics?exclude[]=asn')).status).toBe(200);
    expect(asked).toEqual([['sockets', 'asn'], ['sockets']]);
    const { status, body } = await served.ask('/metrics?collect[]=<b>');
    expect([status, body]).toEqual([
      400,
      'Cannot select collector "<b>": must be one of the enabled collectors sockets, asn\n',
    ]);
    expect(asked).toHaveLength(2);
  });

  it('has the timeout of its scraper, minus half a second', async () => {
    const times: number[] = [];
    const served = await start({
      metrics: (format, withinMs) => {
        times.push(withinMs);
        return Promise.resolve({ format, body: Buffer.from('') });
      },
    });
    await served.ask('/metrics', { headers: { 'X-Prometheus-Scrape-Timeout-Seconds': '2.5' } });
    await served.ask('/metrics');
    expect(times).toEqual([2_000, 5_000]);
  });

  it('is compressed once for all scrapers that share its page', async () => {
    const body = Buffer.from('peerscope_up 1\n'.repeat(1_000));
    const served = await start({ metrics: (format) => Promise.resolve({ format, body }) });
    const socket = await open(served);
    const request = 'GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: ';
    socket.write(`${request}keep-alive\r\n\r\n${request}close\r\n\r\n`);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    const received = Buffer.concat(chunks);
    const first = received.indexOf('\r\n\r\n') + 4;
    const length = Number(/content-length: (\d+)/i.exec(received.toString('latin1'))?.[1]);
    expect(gunzipSync(received.subarray(first, first + length))).toEqual(body);
    expect(received.subarray(-length)).toEqual(received.subarray(first, first + length));
  });

  it('beyond the limit gets 503 until another has ended; health and other pages are not affected', async () => {
    const slow = slowScrapes();
    const served = await start({ maxRequests: 2, metrics: slow.metrics });
    const first = [served.ask('/metrics'), served.ask('/metrics')];
    await expect.poll(() => slow.waiting).toBe(2);
    const { status, headers, body } = await served.ask('/metrics');
    expect([status, headers['retry-after'], body]).toEqual([
      503,
      '1',
      '2 requests are in progress, try again later.\n',
    ]);
    expect((await served.ask('/-/healthy')).status).toBe(200);
    expect((await served.ask('/')).status).toBe(200);
    slow.go();
    expect((await Promise.all(first)).map(({ status }) => status)).toEqual([200, 200]);
    expect((await served.ask('/metrics')).status).toBe(200);
  });

  it('does not share its limit with event streams and the status page', async () => {
    const stream = { next: () => new Promise<null>(() => undefined), close: () => undefined };
    const served = await start({
      maxRequests: 1,
      api: { events: () => Promise.resolve(stream), connections: () => Promise.reject(new Error('none')) },
    });
    const socket = await open(served);
    socket.write('GET /api/v1/events HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(socket, 'readable');
    for (const path of ['/metrics', '/']) expect((await served.ask(path)).status).toBe(200);
    const { status, headers } = await served.ask('/api/v1/events');
    expect([status, headers['retry-after']]).toEqual([503, '1']);
  });

  it('is never rejected when the limit is 0', async () => {
    const slow = slowScrapes();
    const served = await start({ maxRequests: 0, metrics: slow.metrics });
    const scrapes = Array.from({ length: 50 }, () => served.ask('/metrics'));
    await expect.poll(() => slow.waiting).toBe(50);
    slow.go();
    expect((await Promise.all(scrapes)).every(({ status }) => status === 200)).toBe(true);
  });

  it('of a client that disconnected does not count against the limit, even when pipelined', async () => {
    const slow = slowScrapes();
    const served = await start({ maxRequests: 3, metrics: slow.metrics });
    const socket = await open(served);
    socket.write('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(5));
    await expect.poll(() => slow.waiting).toBe(3);
    expect((await served.ask('/metrics')).status).toBe(503);
    socket.destroy();
    const agent = new Agent();
    await expect
      .poll(() => {
        void served.ask('/metrics', { agent }).catch(() => undefined);
        return slow.waiting;
      })
      .toBe(6);
    slow.go();
    agent.destroy();
  });

  it('is dropped with its client, however late the page is', async () => {
    const { promise: timers, resolve } = Promise.withResolvers<number>();
    const server = createServer((request, response) => {
      request.socket.once('close', () => {
        vi.useFakeTimers({ toFake: ['setTimeout'] });
        new RequestLimits().sending(response);
        resolve(vi.getTimerCount());
        vi.useRealTimers();
      });
      socket.destroy();
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const socket = await open(server.address() as AddressInfo);
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    expect(await timers).toBe(0);
    server.close();
  });

  it('is answered in order when pipelined', async () => {
    const served = await start();
    const health = 'GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n';
    const last = 'GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
    const received = await exchange(served, health.repeat(7) + last);
    expect(statuses(received)).toEqual(Array<number>(8).fill(200));
    expect(received).toMatch(/peerscope_up 1\n$/);
  });
});

describe('a client', () => {
  it.each(['/', '/metrics', '/api/v1/connections', '/api/v1/unusual', '/api/v1/history'])(
    'that has not read %s after 30 seconds is disconnected',
    async (path) => {
      const size = 64 << 20;
      const body = Buffer.alloc(size, 'a');
      const served = await start({
        metrics: () => Promise.resolve({ format: 'text', body }),
        page: () => Promise.resolve(body.toString('latin1')),
        unusual: () => Promise.resolve({ body: body.toString('latin1') }),
        history: () => Promise.resolve({ body: body.toString('latin1') }),
        api: {
          connections: () => Promise.resolve({ next: () => Promise.resolve(body), close: () => undefined }),
          events: () => Promise.reject(new Error('none')),
        },
      });
      const socket = await open(served);
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
      try {
        socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
        await once(socket, 'readable');
        vi.advanceTimersByTime(30_000);
      } finally {
        vi.useRealTimers();
      }
      let read = 0;
      socket.on('data', (chunk: Buffer) => (read += chunk.length));
      await once(socket, 'end');
      expect(read).toBeLessThan(size);
    },
  );

  it('that does not read its responses holds no place of others', async () => {
    const served = await start({ maxRequests: 2, metrics: () => Promise.resolve(LONG_PAGE) });
    for (let i = 0; i < 10; i++) await ignoreResponse(served);
    const { status, body } = await served.ask('/metrics');
    expect([status, body.length]).toEqual([200, LONG_PAGE.body.length]);
  });

  it.each<{ title: string; others: readonly string[]; isCut: boolean }>([
    { title: 'is disconnected', others: [], isCut: true },
    { title: 'stays if another client has more of them', others: ['127.0.0.2'], isCut: false },
  ])('with the oldest of 65 unread responses $title', async ({ others, isCut }) => {
    const served = await start({ metrics: () => Promise.resolve(LONG_PAGE) });
    const oldest = await ignoreResponse(served);
    for (let i = 0; i < 64; i++) await ignoreResponse(served, others[0]);
    // The kernel holds the start of the response.
    const received = new Promise<number>((resolve) => {
      let read = 0;
      oldest.on('data', (chunk: Buffer) => (read += chunk.length));
      oldest.once('end', () => resolve(read)).once('close', () => resolve(read));
    });
    expect((await received) < LONG_PAGE.body.length).toBe(isCut);
  });

  it.each([
    { title: 'that was fast before', knows: true },
    { title: 'that is new', knows: false },
  ])('$title has a place although another client takes all of them', async ({ knows }) => {
    const slow = slowScrapes();
    let isSlow = false;
    const served = await start({
      maxRequests: 2,
      metrics: (...given) => (isSlow ? slow.metrics(...given) : Promise.resolve(SHORT_PAGE)),
    });
    if (knows) expect((await served.ask('/metrics', { localAddress: '127.0.0.2' })).status).toBe(200);
    isSlow = true;
    const taken = [served.ask('/metrics'), served.ask('/metrics')];
    await expect.poll(() => slow.waiting).toBe(2);
    const other = served.ask('/metrics', { localAddress: '127.0.0.2' });
    await expect.poll(() => slow.waiting).toBe(3);
    expect((await served.ask('/metrics')).status).toBe(503);
    expect((await served.ask('/metrics', { localAddress: '127.0.0.2' })).status).toBe(503);
    slow.go();
    expect((await Promise.all([...taken, other])).map(({ status }) => status)).toEqual([200, 200, 200]);
  });

  it('that was fast before has a place although many new clients take those beyond the limit', async () => {
    const slow = slowScrapes();
    let isSlow = false;
    const served = await start({
      maxRequests: 2,
      metrics: (...given) => (isSlow ? slow.metrics(...given) : Promise.resolve(SHORT_PAGE)),
    });
    expect((await served.ask('/metrics', { localAddress: '127.0.0.2' })).status).toBe(200);
    isSlow = true;
    const many = Array.from({ length: 40 }, (_, i) => served.ask('/metrics', { localAddress: `127.0.1.${i}` }));
    await expect.poll(() => slow.waiting).toBe(2 + 8);
    const known = served.ask('/metrics', { localAddress: '127.0.0.2' });
    await expect.poll(() => slow.waiting).toBe(2 + 8 + 1);
    slow.go();
    expect((await known).status).toBe(200);
    expect((await Promise.all(many)).filter(({ status }) => status === 200)).toHaveLength(10);
  });

  it.each(['Content-Length: 9000000000', 'Transfer-Encoding: chunked'])(
    'that sends a body without end (%s) is disconnected after the response',
    async (header) => {
      const served = await start();
      const socket = await open(served);
      const isClosed = once(socket, 'close');
      const received = text(socket).catch(() => '');
      socket.write(`GET /-/healthy HTTP/1.1\r\nHost: a\r\n${header}\r\n\r\n`);
      const part = header.startsWith('C') ? 'x'.repeat(60_000) : '1\r\nx\r\n'.repeat(10_000);
      const timer = setInterval(() => socket.write(part), 10);
      await isClosed.catch(() => undefined);
      clearInterval(timer);
      expect(await received).toMatch(/^(?:HTTP\/1.1 200 OK\r\n[^]*Connection: close|$)/);
      expect((await served.ask('/-/healthy')).status).toBe(200);
    },
    10_000,
  );

  it('that pipelines a thousand requests is disconnected', async () => {
    let asked = 0;
    const served = await start({ isReady: () => (asked++, true) });
    const received = await exchange(served, 'GET /-/ready HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(1_000));
    expect(statuses(received).length).toBeLessThanOrEqual(8);
    expect(asked).toBe(8);
    expect((await served.ask('/-/ready')).status).toBe(200);
  });
});

it('the rest of a burst of pipelined requests is not parsed', async () => {
  const clientLimit = new ClientLimit(3);
  let parsed = 0;
  const server = createServer((request, response) => {
    parsed++;
    clientLimit.admit(request, response);
  });
  clientLimit.watch(server);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const limit = Error.stackTraceLimit;
  try {
    for (let burst = 1; burst <= 3; burst++) {
      const socket = await open(server.address() as AddressInfo);
      socket.write('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(300));
      await text(socket).catch(() => '');
      expect(parsed).toBe(9 * burst);
    }
    expect(Error.stackTraceLimit).toBe(limit);
  } finally {
    server.close();
  }
});

describe('close', () => {
  it('finishes scrapes in progress, and rejects new requests', async () => {
    const slow = slowScrapes();
    served = await start({ metrics: slow.metrics });
    const agent = new Agent({ keepAlive: true });
    expect((await served.ask('/-/healthy', { agent })).status).toBe(200);
    const busy = await open(served);
    busy.write('GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n');
    const late = await open(served);
    late.write('GET /metrics HTTP/1.1\r\n');
    await expect.poll(() => slow.waiting).toBe(1);
    const closed = served.close();
    await expect(served.ask('/-/healthy')).rejects.toThrow('ECONNREFUSED');
    await expect.poll(() => Object.keys(agent.freeSockets)).toEqual([]);
    late.write('Host: a\r\n\r\n');
    expect(statuses(await text(late))).toEqual([503]);
    slow.go();
    expect(statuses(await text(busy))).toEqual([200]);
    await closed;
    served = undefined;
    expect(slow.waiting).toBe(1);
  });
});

describe('a second address that is in use', () => {
  it('rejects with one line, and frees the first address', async () => {
    const taken = createServer();
    await once(taken.listen(0, '127.0.0.1'), 'listening');
    const { port } = taken.address() as AddressInfo;
    const first = createServer();
    await once(first.listen(0, '127.0.0.1'), 'listening');
    const { port: free } = first.address() as AddressInfo;
    await once(first.close(), 'close');
    const addresses = [free, port].map((port) => ({ host: '127.0.0.1', port }));
    await expect(
      Servers.open(
        () => undefined,
        addresses,
        null,
        () => undefined,
      ),
    ).rejects.toThrow(`Cannot listen on --web.listen-address "127.0.0.1:${port}": the address is in use`);
    await once(first.listen(free, '127.0.0.1'), 'listening');
    await Promise.all([once(first.close(), 'close'), once(taken.close(), 'close')]);
  });
});

describe('a server at its limit of clients', () => {
  it.each(['a port', 'a Unix socket'])(
    'replaces the client of %s that has been idle for longest, never a busy one',
    async (kind) => {
      const folder = mkdtempSync(join(tmpdir(), 'peerscope-server-'));
      const clientLimit = new ClientLimit(3);
      const server = createServer((request, response) => {
        // No request is answered.
        clientLimit.admit(request, response);
      });
      clientLimit.watch(server);
      const isClosed = (socket: Socket): boolean => socket.readableEnded || socket.destroyed;
      server.listen(kind === 'a port' ? { host: '127.0.0.1', port: 0 } : { path: join(folder, 'http.sock') });
      await once(server, 'listening');
      const address = server.address();
      const end = typeof address === 'string' ? { path: address } : { port: address?.port ?? 0 };
      try {
        const clients: Socket[] = [];
        const connectOne = async (): Promise<void> => {
          const accepted = once(server, 'connection');
          clients.push((await open(end)).resume());
          await accepted;
        };
        for (let i = 0; i < 3; i++) await connectOne();
        const asked = once(server, 'request');
        clients[0]?.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
        await asked;
        await connectOne();
        await connectOne();
        await expect.poll(() => clients.map(isClosed)).toEqual([false, true, true, false, false]);
      } finally {
        for (const socket of sockets) socket.destroy();
        await once(server.close(), 'close');
        rmSync(folder, { recursive: true });
      }
    },
  );
});

describe('RequestLimits and ReaderPlaces', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '20010db8 10002 '],
    ['2001:db8:1:2:ffff::1', '20010db8 10002 '],
    ['2001:db8:1:3::1', '20010db8 10003 '],
    ['fe80::1%eth0', 'fe800000 0 eth0'],
    ['fe80::2%eth1', 'fe800000 0 eth1'],
    ['', ''],
  ])('the client at %j is %j', (remoteAddress, client) => {
    expect(clientOf({ remoteAddress })).toBe(client);
  });

  const READERS: readonly {
    readonly title: string;
    readonly readers: readonly string[];
    readonly stalled: readonly number[];
    readonly stalledMs: number;
    readonly by: string;
    readonly cut: readonly string[] | null;
  }[] = [
    { title: 'a free place', readers: ['a', 'a'], stalled: [], by: 'b', cut: [] },
    { title: 'no place of a client that reads', readers: ['a', 'a', 'b'], stalled: [], by: 'a', cut: null },
    { title: 'no place of a client with an equal share', readers: ['a', 'b', 'c'], stalled: [], by: 'd', cut: null },
    { title: 'the newest place of a client with more', readers: ['a', 'a', 'b'], stalled: [], by: 'c', cut: ['a1'] },
    { title: 'no place beyond its share', readers: ['a', 'a', 'b'], stalled: [], by: 'b', cut: null },
    { title: 'the place of a client that stalls', readers: ['a', 'b', 'c'], stalled: [1], by: 'a', cut: ['b1'] },
    { title: 'the place that stalls for longest', readers: ['a', 'a', 'a'], stalled: [2, 0], by: 'b', cut: ['a2'] },
    {
      title: 'no place that stalls for 1.9 seconds',
      readers: ['a', 'b', 'c'],
      stalled: [1],
      by: 'a',
      cut: null,
      stalledMs: 1_800,
    },
  ].map((one) => ({ stalledMs: 2_000, ...one }));
  test.each(READERS)('a new reader gets $title', ({ readers, stalled, stalledMs, by, cut }) => {
    let now = 0;
    const places = new ReaderPlaces(3, () => now);
    const lost: string[] = [];
    const taken = readers.map((client, i) => places.take(client, () => void lost.push(`${client}${i}`)));
    for (const i of stalled) {
      const reader = taken[i];
      if (reader) places.stalls(reader, true);
      now += 100;
    }
    now += stalledMs;
    const found = places.take(by, () => undefined);
    expect(found === null ? null : lost).toEqual(cut);
  });
});
