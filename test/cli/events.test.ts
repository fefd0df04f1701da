import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { events } from '../../src/cli/events.ts';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { parseConfig } from '../../src/config/config.ts';
import { renderOrigin } from '../../src/enrich/asn/cache.ts';
import { SqliteStore } from '../../src/store/sqlite.ts';
import type { ConnectionEvent } from '../../src/model.ts';
import { ENVIRONMENT } from '../support/exporter.ts';
import { runHere } from '../support/main.ts';

vi.setConfig({ testTimeout: 60_000 });

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const TREE = fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url));
const OWN = `pid=${process.pid}`;
const COVERAGE = /^\d.* sockets?\b.*\n$/;

const footerLines: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of footerLines.splice(0).reverse()) await close();
});

/** A server on a free loopback port, and its accepted sockets. */
async function listen(): Promise<{ server: Server; port: number; accepted: Socket[] }> {
  const accepted: Socket[] = [];
  const server = createServer((socket) => {
    accepted.push(socket.on('error', () => undefined));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  footerLines.push(() => {
    for (const socket of accepted) socket.destroy();
    server.close();
  });
  return { server, port: (server.address() as AddressInfo).port, accepted };
}

async function dial(port: number): Promise<{ socket: Socket; from: number | undefined }> {
  const socket = connect(port, '127.0.0.1').on('error', () => undefined);
  footerLines.push(() => socket.destroy());
  await once(socket, 'connect');
  return { socket, from: socket.localPort };
}

/** The running program: its lines so far, and a way to wait for one. */
class Watch {
  readonly process: ChildProcess;
  readonly lines: ConnectionEvent[] = [];
  stderr = '';
  readonly #reader;

  private constructor(args: readonly string[]) {
    this.process = spawn(process.execPath, [MAIN, 'events', '--asn.provider=none', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: ENVIRONMENT,
    });
    const { stdout, stderr } = this.process;
    if (!stdout || !stderr) throw new Error('Cannot watch: no pipes');
    stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.#reader = createInterface({ input: stdout }).on('line', (line) =>
      this.lines.push(JSON.parse(line) as ConnectionEvent),
    );
  }

  /** Resolves after the first scan. */
  static async start(args: readonly string[]): Promise<Watch> {
    const watch = new Watch(args);
    footerLines.push(() => watch.process.kill('SIGKILL'));
    while (watch.stderr === '') await once(watch.process.stderr ?? watch.process, 'data');
    return watch;
  }

  /** The first matching line; waits until it arrives. */
  async line(holds: (event: ConnectionEvent) => boolean): Promise<ConnectionEvent> {
    for (;;) {
      const found = this.lines.find(holds);
      if (found) return found;
      await once(this.#reader, 'line');
    }
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    const closed = once(this.process, 'close') as Promise<[number | null]>;
    this.process.kill(signal);
    return (await closed)[0];
  }
}

describe('on this machine', () => {
  it('reports each change of a connection once, from opened to closed', async () => {
    const { port, accepted } = await listen();
    const watch = await Watch.start(['-i', '0.05', OWN, 'transport=tcp', `port=${port}`]);
    const client = await dial(port);
    const opened = await watch.line((event) => event.event === 'opened' && event.remote_port === port);
    expect(opened).toMatchObject({
      local_port: client.from,
      state: 'established',
      direction: 'loopback',
      pid: process.pid,
      netns: expect.any(Number) as number,
      opened_at: opened.at,
    });
    await watch.line((event) => event.event === 'opened' && event.local_port === port);

    client.socket.end();
    accepted[0]?.end();
    const ended = await watch.line((event) => event.state === 'time_wait');
    expect(ended).toMatchObject({
      event: 'state',
      pid: process.pid,
      process: opened.process,
      owner_evidence: 'history',
    });
    expect(ended.previous).toMatch(/^(established|fin_wait_[12])$/);

    const second = await dial(port);
    await watch.line((event) => event.event === 'opened' && event.local_port === second.from);
    second.socket.resetAndDestroy();
    const closed = await watch.line((event) => event.event === 'closed' && event.local_port === second.from);
    expect(closed).toMatchObject({ state: 'established', pid: process.pid, process: opened.process });
    expect(closed.duration_seconds).toBe((Date.parse(closed.at) - Date.parse(closed.opened_at ?? '')) / 1000);

    const ofFirst = watch.lines.filter((event) => event.local_port === client.from).map(({ event }) => event);
    expect(ofFirst.filter((event) => event !== 'state')).toEqual(['opened']);
    expect(await watch.end('SIGTERM')).toBe(0);
    expect(watch.stderr).toMatch(COVERAGE);
  });

  it('exits quietly when its output is closed', async () => {
    const { port } = await listen();
    const watch = await Watch.start(['-i', '0.01', '--snapshot', OWN, `port=${port}`]);
    await watch.line((row) => row.local_port === port);
    const closed = once(watch.process, 'close') as Promise<[number | null]>;
    watch.process.stdout?.destroy();
    await dial(port);
    expect(await closed).toEqual([0, null]);
    expect(watch.stderr).toMatch(COVERAGE);
  });

  it('exits quietly on Ctrl-C', async () => {
    const watch = await Watch.start(['-i', '3600']);
    expect(await watch.end('SIGINT')).toBe(0);
    expect(watch.stderr).toMatch(COVERAGE);
  });

  it('keeps scanning for a slow reader and reports the number of dropped lines', async () => {
    const reader = { text: '', writableLength: 0, write: (text: string) => (reader.text += text) };
    const read = (): { event?: string; count?: number; local_port?: number }[] =>
      reader.text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as object]));
    const lines = (): string[] => read().map(({ event, count, local_port }) => `${event} ${count ?? local_port}`);
    let scans = 0;
    const interruption = new AbortController();
    const ended = events(parseConfig({ 'asn.provider': 'none' }, {}), {
      filters: [OWN, 'state=listen'],
      interval: '0.01',
      stdout: reader,
      stderr: { write: () => undefined },
      signal: interruption.signal,
      clock: { ...SYSTEM_CLOCK, now: () => (scans++, SYSTEM_CLOCK.now()) },
    });
    const twoScans = async (): Promise<void> => {
      const before = scans;
      await vi.waitUntil(() => scans >= before + 2, { timeout: 10_000, interval: 1 });
    };

    await twoScans();
    const taken = await listen();
    await vi.waitUntil(() => reader.text !== '', { timeout: 10_000 });
    reader.writableLength = (4 << 20) + 1;
    await Promise.all([listen(), listen(), listen()]);
    await twoScans();
    reader.writableLength = 4 << 20;
    await vi.waitUntil(() => lines().length > 1, { timeout: 10_000 });
    const seen = await listen();
    await vi.waitUntil(() => lines().length > 2, { timeout: 10_000 });
    reader.writableLength = (4 << 20) + 1;
    await listen();
    await twoScans();
    interruption.abort();

    expect(await ended).toBe(0);
    expect(lines()).toEqual([`opened ${taken.port}`, 'dropped 3', `opened ${seen.port}`, 'dropped 1']);
    expect(read()[1]).toEqual({ event: 'dropped', count: 3, at: expect.stringMatching(/^\d{4}-.*Z$/) as string });
  });
});

describe('on a recorded tree', () => {
  const args = [`--path.procfs=${TREE}`, '--asn.provider=none'];

  it('the snapshot has the rows of list with their time, and no events follow', async () => {
    const listing = await runHere(['list', '-o', 'json', 'process=nginx', ...args]);
    const { code, stdout, stderr } = await runHere([
      'events',
      '--snapshot',
      '-c',
      '2',
      '-i',
      '.01',
      'process=nginx',
      ...args,
    ]);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as ConnectionEvent);
    const rows = JSON.parse(listing.stdout) as object[];
    const at = lines[0]?.at ?? '';
    expect(code).toBe(0);
    expect(rows).toHaveLength(4);
    expect(new Date(at).toISOString()).toBe(at);
    expect(lines).toEqual(rows.map((row) => ({ at, ...row })));
    expect(stderr).toBe(listing.stderr);
  });

  it('a scan starts one interval after the start of the previous one, or at once if that has passed', async () => {
    let time = 0;
    const signal = AbortSignal.timeout(20_000);
    await events(parseConfig({ 'path.procfs': TREE, 'asn.provider': 'none' }, {}), {
      filters: [],
      interval: '60',
      count: '2',
      stdout: { write: () => true, writableLength: 0 },
      stderr: { write: () => true },
      signal,
      clock: { ...SYSTEM_CLOCK, monotonic: () => (time += 60_000) },
    });
    expect(signal.aborted).toBe(false);
  });

  it('ASNs come from the store', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-events-'));
    footerLines.push(() => rmSync(folder, { recursive: true }));
    const store = SqliteStore.open({ directory: folder, now: Date.now, report: (line) => expect.fail(line) });
    const askedAt = Date.now();
    const keepUntil = askedAt + 86_400_000;
    const text = renderOrigin({
      asns: [13335],
      name: 'CLOUDFLARENET',
      asCountry: 'US',
      prefix: '1.1.1.0/24',
      registry: 'apnic',
      registryCountry: 'AU',
      allocated: null,
      askedAt,
      freshUntil: keepUntil,
      source: 'cymru',
    });
    await store.write([{ key: 'asn:1:1.1.1.0/24', text, keepUntil }]);
    await store.close();
    const { code, stdout } = await runHere([
      'events',
      '--snapshot',
      '-c',
      '1',
      '-i',
      '0.01',
      'asn=13335',
      `--path.procfs=${TREE}`,
      `--storage.path=${folder}`,
    ]);
    const rows = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as ConnectionEvent);
    expect(code).toBe(0);
    expect(rows.map(({ remote_address, as_name }) => `${remote_address} ${as_name}`)).toEqual(
      Array<string>(3).fill('1.1.1.1 CLOUDFLARENET'),
    );
  });

  it('prints nothing without a snapshot', async () => {
    expect(await runHere(['events', '-c', '1', '-i', '0.01', ...args])).toEqual({
      code: 0,
      stdout: '',
      stderr: expect.stringMatching(COVERAGE) as string,
    });
  });
});

describe('invalid usage prints one line and exits with 2', () => {
  const seconds = 'must be a number of seconds from 0.01 to 3600 such as 1 or 0.5';
  it.each<[args: string[], line: string]>([
    [['-i', '0'], `Cannot use --interval "0": ${seconds}`],
    [['-i', '-1'], `Cannot use --interval "-1": ${seconds}`],
    [['-i', '1s'], `Cannot use --interval "1s": ${seconds}`],
    [['-i', '.'], `Cannot use --interval ".": ${seconds}`],
    [['-i', ''], `Cannot use --interval "": ${seconds}`],
    [['-i', '3601'], `Cannot use --interval "3601": ${seconds}`],
    [['-c', '0'], 'Cannot use --count "0": must be a whole number of at least 1'],
    [['-c', '1.5'], 'Cannot use --count "1.5": must be a whole number of at least 1'],
    [['port=http'], 'Cannot use filter "port=http": port must be a port from 0 to 65535'],
  ])('%j', async (args, line) => {
    expect(await runHere(['events', ...args])).toEqual({ code: 2, stdout: '', stderr: `${line}\n` });
  });

  it('also in list', async () => {
    expect(await runHere(['list', 'state=open'])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^Cannot use filter "state=open": state must be established, .*\n$/) as string,
    });
  });
});
