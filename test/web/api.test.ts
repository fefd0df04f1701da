import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { apiRoutes, type Api, type Pieces } from '../../src/web/api.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** What was asked of the source behind the API, and whether what it opened was closed. */
interface Asked {
  filters: readonly string[];
  format?: string;
  taken: number;
  closed: boolean;
}

/** An API whose readers get these pieces, the last of them again and again where `endless`. */
async function serve({
  pieces = ['x'],
  endless = false,
  fails = '',
  opens = Promise.resolve(),
}): Promise<{ url: string; asked: Asked[] }> {
  const asked: Asked[] = [];
  const open = (filters: readonly string[], format?: string): Promise<Pieces> => {
    if (fails !== '') return Promise.reject(new Error(fails));
    const one: Asked = { filters, taken: 0, closed: false, ...(format === undefined ? {} : { format }) };
    asked.push(one);
    const never = Promise.withResolvers<null>();
    return opens.then(() => ({
      next: async () => {
        const text = pieces[one.taken++] ?? (endless ? pieces.at(-1) : undefined);
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
  const { connections, events } = apiRoutes(api);
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
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v1`, asked };
}

describe('a question', () => {
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
  ])('"$query" is answered with pieces in their order', async ({ query, filters, format, type }) => {
    const { url, asked } = await serve({ pieces: ['[', '', '{}', ']'] });
    const response = await fetch(`${url}/connections${query}`);
    expect([response.status, response.headers.get('content-type'), await response.text()]).toEqual([200, type, '[{}]']);
    expect(asked).toMatchObject([{ filters, format, closed: true }]);
  });

  test.each([
    ['connections?colour=red', /^Cannot use filter "colour=red": must be KEY=VALUE/],
    ['connections?state', /^Cannot use filter "state=": state must be established, /],
    ['connections?port=70000', /^Cannot use filter "port=70000": port must be a port from 0 to 65535$/],
    ['connections?format=xml', /^Cannot use format "xml": must be json or jsonl$/],
    ['events?pid=nginx', /^Cannot use filter "pid=nginx"/],
    ['events?format=json', /^Cannot use format "json": events have one format$/],
  ])('%s is refused, and nothing is opened', async (path, reason) => {
    const { url, asked } = await serve({});
    const response = await fetch(`${url}/${path}`);
    expect(response.status).toBe(400);
    expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(((await response.json()) as { error: string }).error).toMatch(reason);
    expect(asked).toEqual([]);
  });

  test('that nothing can be told of is answered so', async () => {
    const { url } = await serve({ fails: 'no scan ended within 5000 ms' });
    const response = await fetch(`${url}/connections`);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5']);
    expect(await response.json()).toEqual({ error: 'no scan ended within 5000 ms' });
  });

  test('by HEAD gets the headers alone, and lets go of what was opened', async () => {
    const { url, asked } = await serve({ pieces: ['wait'] });
    for (const path of ['connections', 'events']) {
      const response = await fetch(`${url}/${path}`, { method: 'HEAD' });
      expect(response.status).toBe(200);
    }
    await vi.waitUntil(() => asked.every(({ closed }) => closed));
    expect(asked.map(({ taken }) => taken)).toEqual([0, 0]);
  });
});

describe('a reader', () => {
  /** A client that takes the head of an answer and nothing more. */
  async function stalled(url: string): Promise<IncomingMessage> {
    const outgoing = get(url);
    outgoing.on('error', () => undefined);
    closing.push(() => outgoing.destroy());
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    response.on('error', () => undefined);
    return response;
  }

  test('who takes nothing stops the source, and who goes closes it', async () => {
    const { url, asked } = await serve({ pieces: ['x'.repeat(64 << 10)], endless: true });
    const response = await stalled(`${url}/connections`);
    let last = -1;
    // The buffers of the two sockets and of the response fill up, and then nothing more is taken.
    await vi.waitUntil(
      () => {
        const before = last;
        last = asked[0]?.taken ?? 0;
        return last > 0 && before === last;
      },
      { interval: 200, timeout: 10_000 },
    );
    expect(last * (64 << 10)).toBeLessThan(32 << 20);
    response.destroy();
    await vi.waitUntil(() => asked[0]?.closed);
  });

  test('who goes before there is anything to read leaves nothing open', async () => {
    const scan = Promise.withResolvers<undefined>();
    const { url, asked } = await serve({ pieces: ['wait'], opens: scan.promise });
    const outgoing = get(`${url}/events`);
    outgoing.on('error', () => undefined);
    await vi.waitUntil(() => asked.length === 1);
    outgoing.destroy();
    // Whoever comes after has been answered when the server has heard of that.
    await fetch(`${url}/connections?format=xml`);
    scan.resolve(undefined);
    await vi.waitUntil(() => asked[0]?.closed);
  });

  test('of events is told when to come again, gets them as they come, and no end of its own', async () => {
    const { url, asked } = await serve({ pieces: ['event: opened\ndata: {}\n\n', 'wait'] });
    const response = await stalled(`${url}/events?port=443`);
    expect(response.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'x-accel-buffering': 'no',
    });
    let text = '';
    response.setEncoding('utf8').on('data', (piece: string) => (text += piece));
    await vi.waitUntil(() => text.includes('data: {}\n\n'));
    expect(text).toBe('retry: 5000\n\nevent: opened\ndata: {}\n\n');
    expect([response.complete, asked[0]?.filters]).toEqual([false, ['port=443']]);
    response.destroy();
    await vi.waitUntil(() => asked[0]?.closed);
  });

  test('beyond the sixteenth is asked to come again, until one has gone', async () => {
    const { url } = await serve({ pieces: ['wait'] });
    const readers = await Promise.all(Array.from({ length: 16 }, () => stalled(`${url}/events`)));
    const refused = await fetch(`${url}/events`);
    expect([refused.status, await refused.json()]).toEqual([503, { error: 'there are 16 readers already' }]);
    expect((await fetch(`${url}/connections`, { method: 'HEAD' })).status).toBe(200);
    readers[0]?.destroy();
    await vi.waitUntil(async () => (await fetch(`${url}/events`, { method: 'HEAD' })).status === 200);
  });

  test('whose rows break off sees that they do', async () => {
    const broken = apiRoutes({
      connections: () =>
        Promise.resolve({ next: () => Promise.reject(new Error('the scanning thread ended')), close: () => undefined }),
      events: () => Promise.reject(new Error('none')),
    });
    const server = createServer((incoming, response) => void broken.connections(incoming, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    closing.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    await expect(fetch(`http://127.0.0.1:${port}/`).then((response) => response.text())).rejects.toThrow();
  });
});
