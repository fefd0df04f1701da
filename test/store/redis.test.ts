import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import type { TlsFiles } from '../../src/store/redis-url.ts';
import type { BreakerState } from '../../src/store/contract.ts';
import { tenantOf } from '../../src/store/contract.ts';
import { ReplyGuard } from '../../src/store/redis-replies.ts';
import { RedisStore, type RedisStoreOptions } from '../../src/store/redis.ts';

const PASSWORD = 'hunter2';
const TLS = fileURLToPath(new URL('../fixtures/tls/', import.meta.url));
/** Looks every 20 ms; the time for the connection stays as it is. */
const LOOKING_OFTEN = {
  ...SYSTEM_CLOCK,
  after: (ms: number, run: () => void) => SYSTEM_CLOCK.after(ms === 2_000 ? 20 : ms, run),
};

let stores: RedisStore[];
let reports: string[];
let ports: number[];
let closes: (() => void)[];
/** Of all servers, in their order. */
let connections: Socket[];

beforeEach(() => {
  [stores, reports, ports, closes, connections] = [[], [], [], [], []];
});

afterEach(async () => {
  for (const store of stores) await store.close();
  for (const close of closes) close();
});

/** Listens on loopback and answers each command, given as its words, with a line of the Redis protocol; may hang up after one. */
async function listen(
  reply: (command: readonly string[], connection: number) => string | null,
  hangsUpAfter: (command: readonly string[]) => boolean = () => false,
): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    const connection = connections.push(socket);
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk) => {
      for (const command of chunk
        .toString()
        .split(/\*\d+\r\n/)
        .slice(1)) {
        const words = [...command.matchAll(/\$\d+\r\n(.*)\r\n/g)].map(([, word = '']) => word);
        const line = reply(words, connection);
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
    server: {
      kind: 'single',
      tls: null,
      addresses: [{ host: '127.0.0.1', port }],
      primary: null,
      username: null,
      password: PASSWORD,
      database,
    },
    clock: SYSTEM_CLOCK,
    report: (line) => void reports.push(line.replaceAll(String(port), 'PORT')),
    onIncomplete: () => expect.fail('nothing was ever held'),
    ...options,
  });
  stores.push(store);
  return store;
}

/** Whether a command is the script that reads a queue: its text has several lines and is not among the words. */
const readsQueue = (words: readonly string[]): boolean =>
  is(words, 'eval') && words.length === 4 && words[2]?.endsWith(':queue') === true;

/** As a server that is well, and never lost what it was given. */
function answerWell(words: readonly string[]): string {
  const [command = ''] = words;
  if (readsQueue(words)) return '*0';
  const known: Readonly<Record<string, string>> = {
    getrange: '$3\r\n999',
    time: `*2\r\n$10\r\n${Math.floor(Date.now() / 1000)}\r\n$1\r\n0`,
  };
  return known[command.toLowerCase()] ?? (/^(eval|pttl|zrem|del)$/i.test(command) ? ':0' : '+OK');
}

const is = (words: readonly string[], command: string): boolean => words[0]?.toLowerCase() === command;

/** Invalid replies without the last line end, and the reported reason. */
const HOSTILE: readonly (readonly [name: string, bytes: string, reason: string])[] = [
  ['a null of RESP3', '_', 'sent an invalid reply: _'],
  ['a push', '>1\r\n_', 'sent an invalid reply: >1'],
  ['a map', '%1\r\n+__proto__\r\n+x', 'sent an invalid reply: %1'],
  ['a set', '~0', 'sent an invalid reply'],
  ['a boolean', '#t', 'sent an invalid reply'],
  ['a double', ',1.5', 'sent an invalid reply'],
  ['a big number', '(123', 'sent an invalid reply'],
  ['a verbatim text', '=5\r\ntxt:a', 'sent an invalid reply'],
  ['an error of RESP3', '!3\r\nERR', 'sent an invalid reply'],
  ['nothing', '', 'sent an invalid reply'],
  ['a NUL', '\0', 'sent an invalid reply'],
  ['an answer of HTTP', 'HTTP/1.1 400 Bad Request', 'sent an invalid reply: HTTP/1.1 400 Bad Request'],
  ['a text of a length below -1', '$-2', 'sent an invalid reply'],
  ['a list of a length below -1', '*-2', 'sent an invalid reply'],
  ['a length with a sign', '$+1\r\na', 'sent an invalid reply'],
  ['a length that is no number', '$1e1\r\n1234567890', 'sent an invalid reply'],
  ['a number that is none', ':1a', 'sent an invalid reply'],
  ['a number without end', `:${'9'.repeat(100_000)}`, 'sent a line longer than 4096 bytes'],
  ['a line without end', `+${'a'.repeat(3_000_000)}`, 'sent a line longer than 4096 bytes'],
  ['an error without end', `-${'a'.repeat(3_000_000)}`, 'sent a line longer than 4096 bytes'],
  ['a line with half a line end', '+a\rb', 'sent an invalid reply'],
  ['a line with the other half', '+a\nb', 'sent an invalid reply'],
  ['a text of 2 GB', `$2000000000\r\n${'a'.repeat(3_000_000)}`, 'sent a string longer than 65536 bytes'],
  ['a text longer than it said', '$3\r\nabcd', 'sent a string longer than announced'],
  ['a list of two billion', '*2000000000\r\n:1', 'sent an array longer than 20000'],
  ['lists in lists', `${'*1\r\n'.repeat(200_000)}:1`, 'sent arrays nested deeper than 8'],
  ['wide lists in lists', `${'*20000\r\n'.repeat(8)}*20000`, 'sent arrays nested deeper than 8'],
  [
    'more than is sane',
    `*40${`\r\n$60000\r\n${'a'.repeat(60_000)}`.repeat(40)}`,
    'sent more than 2097152 bytes for one group of commands',
  ],
];

/** What may come though nobody asked. */
const UNASKED = [
  ...HOSTILE.map(([name, bytes]) => [name, bytes] as const),
  ['a null', '$-1'],
  ['the null of a list', '*-1'],
  ['a word', '+OK'],
  ['a number', ':1'],
  ['a text', '$1\r\na'],
  ['a list', '*1\r\n+a'],
  ['a message of a channel', '*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb'],
] as const;

/** A reply of each kind that the command does not have. */
const WRONG_KINDS: readonly (readonly [command: string, answer: string])[] = [
  ...([':1', '*0', '*1\r\n*1\r\n:1'] as const).map((answer) => ['getrange', answer] as const),
  ...(['$-1', ':1', '*-1', '+QUEUED', '*1\r\n+OK'] as const).map((answer) => ['set', answer] as const),
  ...(['$-1', ':1', '*0', '+a'] as const).map((answer) => ['select', answer] as const),
  ...(['$-1', ':1', '*-1', '*0', '*2\r\n:1\r\n:2', '*2\r\n+a\r\n+b', '+OK'] as const).map(
    (answer) => ['time', answer] as const,
  ),
  ...(['$-1', ':1', '*-1', '+OK', '*1\r\n:1', '*1\r\n$-1', '*1\r\n-ERR', '*1\r\n*1\r\n+a'] as const).map(
    (answer) => ['the queue', answer] as const,
  ),
  ...['zrem', 'del', 'pttl', 'eval'].flatMap((command) =>
    (['+OK', '*-1', '*0', '$1\r\n1'] as const).map((answer) => [command, answer] as const),
  ),
];

/** Sends each command that there is. */
async function useAll(store: RedisStore): Promise<void> {
  await store.write([{ key: 'a', text: 'text', keepUntil: Date.now() + 60_000 }]);
  await store.read(['a']);
  await store.acquire('lock', 65_000);
  await store.renew('lock', 10_000);
  await store.release('lock');
  await store.enqueue('queue', ['a']);
  await store.readQueue('queue', 10);
  await store.dequeue('queue', ['a']);
  await store.writeBreaker('breaker', { failures: 1, openMs: 1_000 });
  await store.writeBreaker('breaker', { failures: 0, openMs: 0 });
  await store.readBreaker('breaker');
  await store.writeFirstSeen([{ category: 'inbound', key: 'a', at: 1 }]);
}

/** What a store that cannot be used does: it reads nothing, drops what it is given, grants every lease. */
async function expectDown(store: RedisStore): Promise<void> {
  await store.write([{ key: 'a', text: 'text', keepUntil: Date.now() + 60_000 }]);
  expect(await store.read(['a'])).toEqual(new Map());
  expect([await store.acquire('lock', 65_000), await store.acquire('lock', 65_000)]).toEqual([0, 0]);
  await store.renew('lock', 10_000);
  await store.release('lock');
  await store.enqueue('queue', ['a']);
  expect(await store.readQueue('queue', 10)).toEqual([]);
  await store.dequeue('queue', ['a']);
  await store.writeBreaker('breaker', { failures: 1, openMs: 1_000 });
  expect(await store.readBreaker('breaker')).toBeNull();
  expect(await store.writeFirstSeen([{ category: 'inbound', key: 'a', at: 1 }])).toEqual([
    { key: 'a', previous: 'unknown' },
  ]);
  expect(store.up).toBe(false);
  expect(store.failures).toBeGreaterThan(0);
}

describe('RedisStore', () => {
  it('reports an unreachable server once and continues', async () => {
    const port = await listen(() => null);
    closes.pop()?.();
    const store = await open(port);
    await expectDown(store);
    expect(reports).toEqual([
      expect.stringMatching(/^Cannot use store "redis:\/\/127.0.0.1:PORT\/0": connection refused/),
    ]);
  });

  it('waits at most a few seconds for a silent server', { timeout: 20_000 }, async () => {
    const store = await open(await listen(() => null));
    await expectDown(store);
    expect(reports).toHaveLength(1);
  });

  it('hides the password even if an old server repeats it', async () => {
    const store = await open(
      await listen((words) => `-ERR unknown command, with args beginning with: ${words.join(' ')}`),
    );
    await expectDown(store);
    expect(reports).toEqual([expect.stringMatching(/^Cannot use store .*: ERR unknown command.* \*\*\*$/)]);
  });

  it('does not write to other databases if SELECT fails', async () => {
    const commands: string[] = [];
    const port = await listen((words) => {
      commands.push(words[0]?.toLowerCase() ?? '');
      return /^select$/i.test(words[0] ?? '') ? '-ERR DB index is out of range' : '+OK';
    });
    const store = await open(port, 99);
    await expectDown(store);
    await vi.waitFor(
      () => expect(commands.filter((command) => command === 'select').length).toBeGreaterThan(1),
      10_000,
    );
    await expectDown(store);
    expect(new Set(commands)).toEqual(new Set(['auth', 'select']));
    expect(reports).toEqual(['Cannot use store "redis://127.0.0.1:PORT/99": ERR DB index is out of range']);
  });

  it('does not report recovery every two seconds for a server that rejects some commands', async () => {
    let looks = 0;
    const port = await listen((words) => {
      const command = words[0]?.toLowerCase();
      if (command === 'getrange') looks++;
      return command === 'eval' ? '-NOPERM no rights for eval' : answerWell(words);
    });
    let lacking = 0;
    const store = await open(port, 0, {
      clock: LOOKING_OFTEN,
      onIncomplete: () => void store.enqueue('queue', [String(lacking++)]),
    });
    await store.enqueue('queue', ['a']);
    await vi.waitFor(() => expect(looks).toBeGreaterThan(20), 10_000);
    const refusal = 'Cannot use store "redis://127.0.0.1:PORT/0": NOPERM no rights for eval';
    expect(reports).toEqual([refusal, 'Store "redis://127.0.0.1:PORT/0" recovered', refusal]);
    expect({ lacking, up: store.up }).toEqual({ lacking: 1, up: false });
  });

  it('does not report each recovery of a server that keeps closing the connection', { timeout: 20_000 }, async () => {
    let greetings = 0;
    const port = await listen(
      (words) => {
        if (/^auth$/i.test(words[0] ?? '')) greetings++;
        return answerWell(words);
      },
      ([command = '']) => /^set$/i.test(command),
    );
    const store = await open(port, 0, { onIncomplete: () => undefined });
    await vi.waitFor(() => expect(greetings).toBeGreaterThan(6), 15_000);
    const hangup = expect.stringMatching(/^Cannot use store/) as string;
    expect(reports).toEqual([hangup, 'Store "redis://127.0.0.1:PORT/0" recovered', hangup]);
    expect(store.up).toBe(false);
  });

  it('does not read first-seen times before comparing clocks', async () => {
    const commands: string[] = [];
    const port = await listen((words) => {
      commands.push(words[0]?.toLowerCase() ?? '');
      return /^time$/i.test(words[0] ?? '') ? '-NOPERM no rights for time' : answerWell(words);
    });
    const store = await open(port);
    expect(await store.writeFirstSeen([{ category: 'inbound', key: 'a', at: 1 }])).toEqual([
      { key: 'a', previous: 'unknown' },
    ]);
    expect(commands).not.toContain('eval');
    expect(reports).toEqual(['Cannot use store "redis://127.0.0.1:PORT/0": NOPERM no rights for time']);
  });

  it('reports nothing for a healthy server', async () => {
    const store = await open(await listen(answerWell));
    await useAll(store);
    expect({ up: store.up, failures: store.failures, reports }).toEqual({ up: true, failures: 0, reports: [] });
  });

  it.each(WRONG_KINDS)('does not believe a server whose %s gives %j', async (command, answer) => {
    const isIt = (words: readonly string[]): boolean =>
      command === 'the queue' ? readsQueue(words) : is(words, command);
    const port = await listen((words) => (isIt(words) ? answer : answerWell(words)));
    const store = await open(port, 0, { onIncomplete: () => undefined });
    await useAll(store);
    expect(store.up).toBe(false);
    expect(store.failures).toBeGreaterThan(0);
    expect(reports).toEqual([expect.stringContaining('/0": unexpected reply ')]);
  });

  it.each<{ title: string; answers: Readonly<Record<string, string>>; breaker: BreakerState }>([
    { title: 'no breaker', answers: { getrange: '$0\r\n', pttl: ':-2' }, breaker: { failures: 0, openMs: 0 } },
    { title: 'ours', answers: { getrange: '$1\r\n3', pttl: ':60000' }, breaker: { failures: 3, openMs: 60_000 } },
    { title: 'one for ever', answers: { getrange: '$1\r\n3', pttl: ':-1' }, breaker: { failures: 3, openMs: 0 } },
    { title: 'one for years', answers: { getrange: '$1\r\n3', pttl: ':3600001' }, breaker: { failures: 3, openMs: 0 } },
    ...['-1', '1e300', 'Infinity', '0x10', '9999999999', 'x'].map((text) => ({
      title: `${text} failures`,
      answers: { getrange: `$${text.length}\r\n${text}`, pttl: ':0' },
      breaker: { failures: 0, openMs: 0 },
    })),
    {
      title: 'many failures',
      answers: { getrange: '$9\r\n999999999', pttl: ':0' },
      breaker: { failures: 100, openMs: 0 },
    },
    {
      title: 'a list',
      answers: { getrange: '-WRONGTYPE not a string', pttl: ':5' },
      breaker: { failures: 0, openMs: 5 },
    },
  ])('reads $title of another client as $breaker', async ({ answers, breaker }) => {
    const port = await listen((words) => {
      const ours = words[1]?.includes('breaker') ? answers[words[0]?.toLowerCase() ?? ''] : undefined;
      return ours ?? answerWell(words);
    });
    const store = await open(port);
    expect(await store.readBreaker('breaker')).toEqual(breaker);
    expect({ up: store.up, reports }).toEqual({ up: true, reports: [] });
  });

  it.each([
    ['first:1:["curl","shop","api","outbound","1"]', 'shop/api'],
    ['base:1:["curl","","ssh.service"]', '/ssh.service'],
    ['unusual:1:["shop","api","operator","AS1"]', 'shop/api'],
    ['unusual:1:["","ssh.service","process","process/nc"]', '/ssh.service'],
    ['first:1:["!0001.py","","","outbound","1"]', '/'],
    ['first:1:[oops', '/'],
    ['first:1:[1]', '/'],
    ['', '/'],
  ])('shares the first-seen times of %s by %j', (key, tenant) => {
    expect(tenantOf(key)).toBe(tenant);
  });

  it.each(UNASKED)('has another connection where %s comes that nobody asked for', async (_, bytes) => {
    const store = await open(await listen(answerWell), 0, { onIncomplete: () => undefined });
    expect(store.up).toBe(true);
    connections[0]?.write(`${bytes}\r\n`);
    const unasked = bytes.startsWith('-') ? bytes.slice(1, 100) : 'the server sent an unexpected reply';
    await vi.waitFor(() => expect(reports).toEqual([expect.stringContaining(`/0": ${unasked}`)]), 5_000);
    expect({ up: store.up, failures: store.failures }).toEqual({ up: false, failures: 1 });
    await vi.waitFor(() => expect(store.up).toBe(true), 5_000);
  });

  it.each(HOSTILE)('has another connection where %s is the answer', async (_, bytes, reason) => {
    const port = await listen((words, connection) =>
      readsQueue(words) && connection === 1 ? bytes : answerWell(words),
    );
    const store = await open(port, 0, { onIncomplete: () => undefined });
    const queued = store.readQueue('queue', 10);
    await vi.waitFor(() => expect(reports).toEqual([expect.stringContaining(`/0": the server ${reason}`)]), 5_000);
    expect(store.up).toBe(false);
    await vi.waitFor(() => expect(store.up).toBe(true), 5_000);
    expect(await queued).toEqual([]);
    expect(store.failures).toBeGreaterThan(0);
  });

  it.each<[files: Partial<TlsFiles>, reason: string]>([
    [{ ca: 'missing.pem' }, 'cannot read "missing.pem": no such file or directory'],
    [{ ca: '' }, 'cannot read "": is a directory'],
    [{ ca: 'key.pem' }, '"key.pem" has no PEM certificate'],
    [{ ca: 'redis.test.ts' }, '"redis.test.ts" has no PEM certificate'],
    [{ cert: 'key.pem', key: 'key.pem' }, '"key.pem" has no PEM certificate'],
    [{ cert: 'certificate.pem', key: 'missing.pem' }, 'cannot read "missing.pem": no such file or directory'],
    [{ cert: 'certificate.pem', key: 'certificate.pem' }, '"certificate.pem" has no PEM key without a passphrase'],
    [
      { cert: 'certificate.pem', key: 'client-key.pem' },
      'the key in "client-key.pem" does not match the certificate in "certificate.pem"',
    ],
  ])('reports why it cannot use the files %j', async (files, reason) => {
    const at = (file: string | null | undefined): string | null =>
      typeof file === 'string' ? (file.endsWith('.ts') ? fileURLToPath(import.meta.url) : `${TLS}${file}`) : null;
    await open(await listen(() => null), 0, {
      server: {
        kind: 'single',
        tls: { ca: at(files.ca), cert: at(files.cert), key: at(files.key) },
        addresses: [{ host: '127.0.0.1', port: ports.at(-1) ?? 0 }],
        primary: null,
        username: null,
        password: null,
        database: 0,
      },
    });
    expect(connections).toEqual([]);
    expect(reports.map((line) => line.replaceAll(/"[^"]*\/([^"/]*)"/g, '"$1"'))).toEqual([
      `Cannot use store "0": ${reason}`,
    ]);
  });

  it('reports why a server rejects clients', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.end('-ERR max number of clients reached\r\n');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    closes.push(() => server.close());
    await open((server.address() as AddressInfo).port);
    expect(reports).toEqual([expect.stringMatching(/: ERR max number of clients reached$/)]);
  });

  it.each([
    'READONLY You cannot write against a read only replica.',
    'LOADING Redis is loading the dataset in memory',
    'MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to no.',
    'CLUSTERDOWN The cluster is down',
    'ERR Error running script: READONLY You cannot write against a read only replica.',
  ])(
    'finds the server that took over, again and again, from one that says %j',
    async (refusal) => {
      const refusing = new Set<number>();
      const store = await open(
        await listen((words, connection) =>
          refusing.has(connection) && !/^(auth|select)$/i.test(words[0] ?? '') ? `-${refusal}` : answerWell(words),
        ),
        0,
        { clock: LOOKING_OFTEN, onIncomplete: () => undefined },
      );
      for (const failover of [1, 2]) {
        refusing.add(connections.length);
        await vi.waitFor(() => expect(store.up).toBe(false), 5_000);
        await vi.waitFor(() => expect(store.up).toBe(true), 5_000);
        expect(reports).toHaveLength(2 * failover);
      }
      expect(reports[0]).toBe(`Cannot use store "redis://127.0.0.1:PORT/0": ${refusal}`);
      expect(reports[2]).toBe(reports[0]);
      expect(connections).toHaveLength(3);
    },
    30_000,
  );

  it.each(['set', 'getrange', 'time', 'select'])(
    'calls anew a server that refuses %s for whatever reason',
    async (command) => {
      const port = await listen((words, connection) =>
        is(words, command) && connection < 3 ? '-ERR upstream failure' : answerWell(words),
      );
      const store = await open(port, 3, { onIncomplete: () => undefined });
      await vi.waitFor(() => expect(store.up).toBe(true), 5_000);
      expect(reports[0]).toMatch(/: ERR upstream failure$/);
    },
  );

  it.each([
    ['loses its data', 'getrange', '$1\r\n0', /lost its data; writing known data again$/],
    ['is in another year', 'time', '*2\r\n$11\r\n99999999999\r\n$1\r\n0', /first-seen times/],
  ] as const)(
    'reports five times, and then once a minute, that a server %s at every other check',
    async (_, command, answer, report) => {
      let checks = 0;
      let incomplete = 0;
      const port = await listen((words) => {
        if (is(words, 'time')) checks++;
        return is(words, command) && checks % 2 === 0 ? answer : answerWell(words);
      });
      const store = await open(port, 0, { clock: LOOKING_OFTEN, onIncomplete: () => (incomplete += 1) });
      await vi.waitFor(() => expect(checks).toBeGreaterThan(20), 10_000);
      expect(reports.map((line) => report.test(line))).toEqual(Array(5).fill(true));
      expect({ up: store.up, incomplete }).toEqual({ up: true, incomplete: command === 'getrange' ? 5 : 0 });
    },
  );

  it('keeps the connection to a full server', async () => {
    let sets = 0;
    const port = await listen((words) => {
      if (!is(words, 'set')) return answerWell(words);
      sets++;
      return '-OOM command not allowed';
    });
    await open(port, 0, { clock: LOOKING_OFTEN });
    await vi.waitFor(() => expect(sets).toBeGreaterThan(10), 5_000);
    expect(connections).toHaveLength(1);
    expect(reports).toEqual([expect.stringMatching(/: OOM command not allowed$/)]);
  });

  it('does nothing after close', async () => {
    const store = await open(await listen(() => '+OK'));
    await store.close();
    reports = [];
    expect(await store.read(['a'])).toEqual(new Map());
    expect(reports).toEqual([]);
  });
});

describe('ReplyGuard', () => {
  it('does not wait for a reply whose bytes come one by one, or that never ends', () => {
    let now = 0;
    const guard = new ReplyGuard(() => now);
    guard.expect();
    guard.check(Buffer.from('$60000\r\n'));
    for (; now <= 10_000; now += 2_000) {
      guard.check(Buffer.from('a'));
      guard.expect();
    }
    expect(() => guard.expect()).toThrow('the server sent no reply within 10 s');
  });

  it('waits for replies that come late but in time, for any number of commands', () => {
    let now = 0;
    const guard = new ReplyGuard(() => now);
    for (; now < 100_000; now += 1_000) {
      for (let i = 0; i < 3; i++) guard.expect();
      if (now >= 9_000) guard.check(Buffer.from(':1\r\n:2\r\n:3\r\n'));
    }
    expect(() => guard.expect()).not.toThrow();
  });
});
