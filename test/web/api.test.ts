import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { apiRoutes, type Api, type ChunkStream } from '../../src/web/api.ts';
import { RequestLimits } from '../../src/web/limits.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** A stream that the API opened. */
interface Opened {
  filters: readonly string[];
  format?: string;
  read: number;
  closed: boolean;
}

/** An API whose streams have these chunks; `endless` repeats the last one. */
async function serve({
  chunks = ['x'],
  endless = false,
  fails = '',
  opens = Promise.resolve(),
}): Promise<{ url: string; streams: Opened[] }> {
  const streams: Opened[] = [];
  const open = (filters: readonly string[], format?: string): Promise<ChunkStream> => {
    if (fails !== '') return Promise.reject(new Error(fails));
    const one: Opened = { filters, read: 0, closed: false, ...(format === undefined ? {} : { format }) };
    streams.push(one);
    const never = Promise.withResolvers<null>();
    return opens.then(() => ({
      next: async () => {
        const text = chunks[one.read++] ?? (endless ? chunks.at(-1) : undefined);
        if (text === 'wait') return never.promise;
        return text === undefined ? null : Buffer.from(text);
      },
      close: () => {
        one.closed = true;
        never.resolve(null);
      },
    }));
  };
  const api: Api = { connections: open, events: open };
  const { connections, events } = apiRoutes(api, new RequestLimits());
  const server = createServer((incoming, response) => {
    const route = incoming.url?.startsWith('/api/v1/events') ? events : connections;
    void route(incoming, response).catch((error: unknown) => expect.fail(String(error)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v1`, streams };
}

describe('a request', () => {
  test.each([
    { query: '', filters: [], format: 'json', type: 'application/json; charset=utf-8' },
    { query: '?format=jsonl', filters: [], format: 'jsonl', type: 'application/jsonl; charset=utf-8' },
    {
      query: '?state=established,time_wait&process!=nginx&port=443&port=80',
      filters: ['state=established,time_wait', 'process!=nginx', 'port=443', 'port=80'],
      format: 'json',
      type: 'application/json; charset=utf-8',
    },
    {
      query: '?process%21=a%20b+c%26d&cidr=10.0.0.0%2F8',
      filters: ['process!=a b c&d', 'cidr=10.0.0.0/8'],
      format: 'json',
      type: 'application/json; charset=utf-8',
    },
  ])('with "$query" gets the chunks in order', async ({ query, filters, format, type }) => {
    const { url, streams } = await serve({ chunks: ['[', '', '{}', ']'] });
    const response = await fetch(`${url}/connections${query}`);
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([200, type, '[{}]']);
    expect(streams).toMatchObject([{ filters, format, closed: true }]);
  });

  test.each([
    ['connections?colour=red', /^Cannot use filter "colour=red": must be a word, KEY=VALUE/],
    ['connections?state', /^Cannot use filter "state=": state must be established, /],
    ['connections?port=70000', /^Cannot use filter "port=70000": port must be a port from 0 to 65535$/],
    ['connections?format=xml', /^Cannot use format "xml": must be json or jsonl$/],
    ['events?pid=nginx', /^Cannot use filter "pid=nginx"/],
    ['events?format=json', /^Cannot use format "json": events have one format$/],
  ])('to %s is rejected without opening a stream', async (path, reason) => {
    const { url, streams } = await serve({});
    const response = await fetch(`${url}/${path}`);
    expect(response.status).toBe(400);
    expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(((await response.json()) as { error: string }).error).toMatch(reason);
    expect(streams).toEqual([]);
  });

  test('without a scan to answer from gets 503', async () => {
    const { url } = await serve({ fails: 'no scan ended within 5000 ms' });
    const response = await fetch(`${url}/connections`);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5']);
    expect(await response.json()).toEqual({ error: 'no scan ended within 5000 ms' });
  });

  test('with HEAD gets the headers only, and its stream is closed', async () => {
    const { url, streams } = await serve({ chunks: ['wait'] });
    for (const path of ['connections', 'events']) {
      const response = await fetch(`${url}/${path}`, { method: 'HEAD' });
      expect(response.status).toBe(200);
    }
    await vi.waitUntil(() => streams.every(({ closed }) => closed));
    expect(streams.map(({ read }) => read)).toEqual([0, 0]);
  });
});

describe('a client', () => {
  /** A client that reads the head of the response and nothing more. */
  async function stalled(url: string): Promise<IncomingMessage> {
    const outgoing = get(url);
    outgoing.on('error', () => undefined);
    closing.push(() => outgoing.destroy());
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    response.on('error', () => undefined);
    return response;
  }

  test('that reads nothing pauses its stream, and closes it when it disconnects', async () => {
    const { url, streams } = await serve({ chunks: ['x'.repeat(64 << 10)], endless: true });
    const response = await stalled(`${url}/connections`);
    let last = -1;
    // The buffers of the two sockets and of the response fill up; then the stream pauses.
    await vi.waitUntil(
      () => {
        const before = last;
        last = streams[0]?.read ?? 0;
        return last > 0 && before === last;
      },
      { interval: 200, timeout: 10_000 },
    );
    expect(last * (64 << 10)).toBeLessThan(32 << 20);
    response.destroy();
    await vi.waitUntil(() => streams[0]?.closed);
  });

  test('that disconnects before the first chunk leaves no stream open', async () => {
    const scan = Promise.withResolvers<undefined>();
    const { url, streams } = await serve({ chunks: ['wait'], opens: scan.promise });
    const outgoing = get(`${url}/events`);
    outgoing.on('error', () => undefined);
    await vi.waitUntil(() => streams.length === 1);
    outgoing.destroy();
    // When a later request is answered, the server knows about the disconnect.
    await fetch(`${url}/connections?format=xml`);
    scan.resolve(undefined);
    await vi.waitUntil(() => streams[0]?.closed);
  });

  test('of events gets a retry time, and the events as they arrive, without an end', async () => {
    const { url, streams } = await serve({ chunks: ['event: opened\ndata: {}\n\n', 'wait'] });
    const response = await stalled(`${url}/events?port=443`);
    expect(response.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'x-accel-buffering': 'no',
    });
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    await vi.waitUntil(() => text.includes('data: {}\n\n'));
    expect(text).toBe('retry: 5000\n\nevent: opened\ndata: {}\n\n');
    expect([response.complete, streams[0]?.filters]).toEqual([false, ['port=443']]);
    response.destroy();
    await vi.waitUntil(() => streams[0]?.closed);
  });

  test('beyond the sixteenth gets 503 with a retry time, until another disconnects', async () => {
    const { url } = await serve({ chunks: ['wait'] });
    const readers = await Promise.all(Array.from({ length: 16 }, () => stalled(`${url}/events`)));
    const rejected = await fetch(`${url}/events`);
    expect([rejected.status, await rejected.json()]).toEqual([503, { error: '16 clients are reading already' }]);
    expect((await fetch(`${url}/connections`, { method: 'HEAD' })).status).toBe(200);
    readers[0]?.destroy();
    await vi.waitUntil(async () => (await fetch(`${url}/events`, { method: 'HEAD' })).status === 200);
  });

  test('whose stream fails gets an aborted response', async () => {
    const failing: Api = {
      connections: () =>
        Promise.resolve({
          next: () => Promise.reject(new Error('the worker thread ended the stream')),
          close: () => undefined,
        }),
      events: () => Promise.reject(new Error('none')),
    };
    const broken = apiRoutes(failing, new RequestLimits());
    const server = createServer((incoming, response) => void broken.connections(incoming, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    closing.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    await expect(fetch(`http://127.0.0.1:${port}/`).then((response) => response.text())).rejects.toThrow();
  });
});
