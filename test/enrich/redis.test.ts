import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/clock.ts';
import { RedisStore, type RedisStoreOptions } from '../../src/enrich/redis.ts';

const PASSWORD = 'hunter2';

let stores: RedisStore[];
let reports: string[];
let ports: number[];
let closes: (() => void)[];

beforeEach(() => {
  [stores, reports, ports, closes] = [[], [], [], []];
});

afterEach(async () => {
  for (const store of stores) await store.close();
  for (const close of closes) close();
});

/** Listens on loopback and answers each command, given as its words, with a line of the Redis protocol; may hang up after one. */
async function listen(
  reply: (command: readonly string[]) => string | null,
  hangsUpAfter: (command: readonly string[]) => boolean = () => false,
): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk) => {
      for (const command of chunk
        .toString()
        .split(/\*\d+\r\n/)
        .slice(1)) {
        const words = [...command.matchAll(/\$\d+\r\n(.*)\r\n/g)].map(([, word = '']) => word);
        const line = reply(words);
        if (line !== null) socket.write(`${line}\r\n`);
        if (hangsUpAfter(words)) socket.end();
      }
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = (): void => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  closes.push(close);
  const { port } = server.address() as AddressInfo;
  ports.push(port);
  return port;
}

async function open(port: number, database = 0, options: Partial<RedisStoreOptions> = {}): Promise<RedisStore> {
  const store = await RedisStore.open({
    server: { tls: false, host: '127.0.0.1', port, username: null, password: PASSWORD, database },
    clock: SYSTEM_CLOCK,
    report: (line) => void reports.push(line.replaceAll(String(port), 'PORT')),
    lacks: () => expect.fail('nothing was ever held'),
    ...options,
  });
  stores.push(store);
  return store;
}

/** What a store that cannot be used does: it reads nothing, drops what it is given, grants every lease. */
async function expectDown(store: RedisStore): Promise<void> {
  await store.write([{ key: 'a', text: 'text', keepUntil: Date.now() + 60_000 }]);
  expect(await store.read(['a'])).toEqual(new Map());
  expect([await store.acquire('lock', 65_000), await store.acquire('lock', 65_000)]).toEqual([0, 0]);
  await store.hold('lock', 10_000);
  await store.release('lock');
  await store.enqueue('queue', ['a']);
  expect(await store.queued('queue', 10)).toEqual([]);
  await store.dequeue('queue', ['a']);
  await store.setBreaker('breaker', { failures: 1, openMs: 1_000 });
  expect(await store.breaker('breaker')).toBeNull();
  expect(await store.keepEarliest([{ shelf: 'inbound', key: 'a', at: 1 }])).toEqual([{ key: 'a', before: 'unknown' }]);
  expect(store.up).toBe(false);
  expect(store.failures).toBeGreaterThan(0);
}

describe('RedisStore', () => {
  it('goes on without a server that is not there, and says so once', async () => {
    const port = await listen(() => null);
    closes.pop()?.();
    const store = await open(port);
    await expectDown(store);
    expect(reports).toEqual([expect.stringMatching(/^Cannot use store "redis:\/\/127.0.0.1:PORT\/0": .*ECONNREFUSED/)]);
  });

  it('waits a few seconds at most for a server that says nothing', { timeout: 20_000 }, async () => {
    const store = await open(await listen(() => null));
    await expectDown(store);
    expect(reports).toHaveLength(1);
  });

  it('repeats no password, though a server that knows too little does', async () => {
    const store = await open(
      await listen((words) => `-ERR unknown command, with args beginning with: ${words.join(' ')}`),
    );
    await expectDown(store);
    expect(reports).toEqual([expect.stringMatching(/^Cannot use store .*: ERR unknown command.* \*\*\*$/)]);
  });

  it('leaves the other databases alone where it cannot have its own', async () => {
    const commands: string[] = [];
    const port = await listen((words) => {
      commands.push(words[0]?.toLowerCase() ?? '');
      if (/^hello$/i.test(words[0] ?? '')) return '%1\r\n+proto\r\n:3';
      return /^select$/i.test(words[0] ?? '') ? '-ERR DB index is out of range' : '+OK';
    });
    const store = await open(port, 99);
    await expectDown(store);
    await vi.waitFor(
      () => expect(commands.filter((command) => command === 'select').length).toBeGreaterThan(1),
      10_000,
    );
    await expectDown(store);
    expect(new Set(commands)).toEqual(new Set(['hello', 'client', 'select']));
    expect(reports).toEqual(['Cannot use store "redis://127.0.0.1:PORT/99": ERR DB index is out of range']);
  });

  it('does not tell every two seconds that a server works which refuses a part', async () => {
    let looks = 0;
    const port = await listen((words) => {
      const command = words[0]?.toLowerCase();
      if (command === 'hello') return '%1\r\n+proto\r\n:3';
      if (command === 'get') looks++;
      return command === 'eval' ? '-NOPERM no rights for eval' : '+OK';
    });
    // Looks every 20 ms; the time for the connection stays as it is.
    const after = (ms: number, run: () => void) => SYSTEM_CLOCK.after(ms === 2_000 ? 20 : ms, run);
    const clock = { ...SYSTEM_CLOCK, after };
    let lacking = 0;
    const store = await open(port, 0, { clock, lacks: () => void store.enqueue('queue', [String(lacking++)]) });
    await store.enqueue('queue', ['a']);
    await vi.waitFor(() => expect(looks).toBeGreaterThan(20), 10_000);
    const refusal = 'Cannot use store "redis://127.0.0.1:PORT/0": NOPERM no rights for eval';
    expect(reports).toEqual([refusal, 'Store "redis://127.0.0.1:PORT/0" works again', refusal]);
    expect({ lacking, up: store.up }).toEqual({ lacking: 1, up: false });
  });

  it('does not tell each time that a server works which answers and hangs up', { timeout: 20_000 }, async () => {
    let greetings = 0;
    const port = await listen(
      ([command = '']) => {
        if (!/^hello$/i.test(command)) return '+OK';
        greetings++;
        return '%1\r\n+proto\r\n:3';
      },
      ([command = '']) => /^set$/i.test(command),
    );
    const store = await open(port, 0, { lacks: () => undefined });
    await vi.waitFor(() => expect(greetings).toBeGreaterThan(6), 15_000);
    const hangup = expect.stringMatching(/^Cannot use store/) as string;
    expect(reports).toEqual([hangup, 'Store "redis://127.0.0.1:PORT/0" works again', hangup]);
    expect(store.up).toBe(false);
  });

  it('asks for no first times before it has compared the clocks', async () => {
    const commands: string[] = [];
    const port = await listen(([command = '']) => {
      commands.push(command.toLowerCase());
      return /^hello$/i.test(command) ? '%1\r\n+proto\r\n:3' : '+OK';
    });
    const store = await open(port);
    expect(await store.keepEarliest([{ shelf: 'inbound', key: 'a', at: 1 }])).toEqual([
      { key: 'a', before: 'unknown' },
    ]);
    expect({ up: store.up, reports, asked: commands.includes('eval') }).toEqual({
      up: true,
      reports: [],
      asked: false,
    });
  });

  it.each(['+OK', '$3\r\nlie', '*2\r\n$1\r\na\r\n:99999999999999999999'])(
    'believes no server that answers %j to whatever it is asked',
    async (answer) => {
      const time = `*2\r\n$10\r\n${Math.floor(Date.now() / 1000)}\r\n$1\r\n0`;
      const port = await listen(([command = '']) => {
        if (/^hello$/i.test(command)) return '%1\r\n+proto\r\n:3';
        if (/^(select|set)$/i.test(command)) return '+OK';
        return /^time$/i.test(command) ? time : answer;
      });
      const store = await open(port, 0, { lacks: () => undefined });
      expect(await store.queued('queue', 10)).toEqual([]);
      expect(await store.breaker('breaker')).toBeNull();
      expect(await store.keepEarliest([{ shelf: 'inbound', key: 'a', at: 1 }])).toEqual([
        { key: 'a', before: 'unknown' },
      ]);
      expect({ up: store.up, failures: store.failures }).toEqual({ up: false, failures: 3 });
      expect(reports).toEqual([expect.stringMatching(/^Cannot use store .*: the server answered /)]);
    },
  );

  it('does nothing after it was closed', async () => {
    const store = await open(await listen(() => '+OK'));
    await store.close();
    reports = [];
    expect(await store.read(['a'])).toEqual(new Map());
    expect(reports).toEqual([]);
  });
});
