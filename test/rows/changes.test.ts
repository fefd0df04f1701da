import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Procfs } from '../../src/collect/procfs.ts';
import { parseConfig } from '../../src/config/config.ts';
import { Changes } from '../../src/rows/changes.ts';
import type { ConnectionEvent } from '../../src/model.ts';
import { rowsOf } from '../../src/rows/row.ts';
import { Scrape } from '../../src/scrape.ts';
import { printRow, type KernelRow } from '../support/kernel-rows.ts';

const TREES = fileURLToPath(new URL('../fixtures/proc', import.meta.url));
const START = Date.parse('2026-01-01T00:00:00Z');

const ESTABLISHED = 1;
const SYN_RECV = 3;
const TIME_WAIT = 6;
const LISTEN = 10;

/** Processes of the tree plain-host: nginx listens on 443 and has two workers; the first one serves. */
const NGINX = 25742;
const WORKER = 25744;
const IDLE_WORKER = 25745;
const CURL = 25765;
/** The connection of curl in plain-host. */
const DOWNLOAD: KernelRow = {
  table: 'tcp',
  state: ESTABLISHED,
  local: '192.0.2.5:56012',
  remote: '9.9.9.9:443',
  inode: 85939,
  uid: 1000,
};

let folder: string;
let now: number;
let scrape: Scrape;
let changes: Changes;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-events-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Copies a recorded tree and scans it once. */
function start(tree: string): void {
  cpSync(join(TREES, tree), folder, { recursive: true, verbatimSymlinks: true });
  now = START;
  const config = parseConfig({ 'asn.provider': 'none' }, {});
  scrape = new Scrape(new Procfs(folder), config, { now: () => now, monotonic: () => now }, null);
  changes = new Changes(scrape);
  expect(scan()).toEqual([]);
}

/** Scans 1.5 seconds later. */
function scan(): ConnectionEvent[] {
  const { at } = scrape.scan(Infinity);
  expect(at).toBe(now);
  const events = changes.take(at);
  now += 1_500;
  return events;
}

/** Replaces the rows with these local ends in the tables of every process, and updates snmp like the kernel. */
function replace(locals: readonly string[], rows: readonly KernelRow[] = []): void {
  const ends = locals.map((local) =>
    printRow({ table: 'tcp', state: 1, local })
      .split(' ')
      .find((word) => /^\w{8}:/.test(word)),
  );
  for (const pid of readdirSync(folder)) {
    const path = join(folder, pid, 'net/tcp');
    const lines = readFileSync(path, 'latin1')
      .split('\n')
      .filter((line) => line !== '' && !ends.includes(line.trim().split(/\s+/)[1] ?? ''));
    writeFileSync(path, `${lines.join('\n')}\n${rows.map(printRow).join('')}`);
    const snmp = join(folder, pid, 'net/snmp');
    writeFileSync(
      snmp,
      readFileSync(snmp, 'latin1').replace(
        /(Tcp: \d+ \d+ \d+ -?\d+ )(\d+)/,
        (_, head: string, opens: string) => `${head}${Number(opens) + 1}`,
      ),
    );
  }
}

function give(pid: number, fd: number, inode: number): void {
  symlinkSync(`socket:[${inode}]`, join(folder, String(pid), 'fd', String(fd)));
}

function take(pid: number, inode: number): void {
  const descriptors = join(folder, String(pid), 'fd');
  for (const fd of readdirSync(descriptors))
    if (readlinkSync(join(descriptors, fd)) === `socket:[${inode}]`) rmSync(join(descriptors, fd));
}

/** An event as text. */
function tell({
  event,
  previous,
  local_port,
  remote_port,
  state,
  process,
  pid,
  duration_seconds: seconds,
}: ConnectionEvent): string {
  const change = previous === undefined ? '' : ` from ${previous}`;
  const lasted = seconds === undefined ? '' : ` after ${seconds}`;
  return `${local_port}>${remote_port} ${event}${change}${lasted}: ${state} ${process}/${pid}`;
}

describe('on the tree of a plain host', () => {
  beforeEach(() => start('plain-host'));

  it('there are no events without changes', () => {
    expect(scan()).toEqual([]);
    expect(scan()).toEqual([]);
  });

  it('an opened event has the row and the time, a closed event the last row and the duration', () => {
    const row: KernelRow = {
      table: 'tcp',
      state: ESTABLISHED,
      local: '192.0.2.5:50000',
      remote: '1.1.1.1:443',
      inode: 90_000,
    };
    replace([], [row]);
    give(CURL, 90, 90_000);
    const opened = scan();
    const listed = rowsOf(scrape).filter((row) => row.local_port === 50_000);
    expect(opened).toEqual([{ event: 'opened', at: '2026-01-01T00:00:01.500Z', ...listed[0] }]);
    expect(opened[0]).toMatchObject({ process: 'curl', network: 'public', opened_at: '2026-01-01T00:00:01.500Z' });

    replace([row.local]);
    take(CURL, 90_000);
    expect(scan()).toEqual([{ ...opened[0], event: 'closed', at: '2026-01-01T00:00:03.000Z', duration_seconds: 1.5 }]);
    expect(scan()).toEqual([]);
  });

  it('a connection keeps its owner through close() and TIME_WAIT, even if the process ends', () => {
    replace([DOWNLOAD.local], [{ ...DOWNLOAD, state: TIME_WAIT, inode: 0, uid: 0 }]);
    rmSync(join(folder, String(CURL)), { recursive: true });
    expect(scan().map(tell)).toEqual(['56012>443 state from established: time_wait curl/null']);
    expect(scan()).toEqual([]);
    replace([DOWNLOAD.local]);
    expect(scan().map(tell)).toEqual([`56012>443 closed after null: time_wait curl/${CURL}`]);
  });

  it('a closed event names a process that ended with its connection', () => {
    replace([DOWNLOAD.local]);
    rmSync(join(folder, String(CURL)), { recursive: true });
    expect(scan().map(tell)).toEqual([`56012>443 closed after null: established curl/${CURL}`]);
  });

  it('accept() opens no connection, but changes the owner from the listener to the worker', () => {
    const knock: KernelRow = {
      table: 'tcp',
      state: SYN_RECV,
      local: '192.0.2.5:443',
      remote: '8.8.8.8:1025',
      inode: 0,
    };
    replace([], [knock]);
    expect(scan().map(tell)).toEqual([`443>1025 opened: syn_received nginx/${NGINX}`]);
    const others = ['1.1.1.1:35173', '9.9.9.9:60087', '9.9.9.9:60281'].map((remote, i): KernelRow => ({
      table: 'tcp',
      state: ESTABLISHED,
      local: knock.local,
      remote,
      inode: [85956, 85954, 85952][i] ?? 0,
    }));
    replace([knock.local], [...others, { ...knock, state: ESTABLISHED, inode: 90_001 }]);
    give(WORKER, 91, 90_001);
    expect(scan().map(tell)).toEqual([
      `443>1025 state from syn_received: established nginx/${WORKER}`,
      `443>1025 owner from nginx: established nginx/${WORKER}`,
    ]);
  });

  it('a descriptor passed to another process of the same user changes the owner, also under the same name', () => {
    take(WORKER, 85952);
    give(IDLE_WORKER, 92, 85952);
    // This socket is of user 1000, and the other process of root.
    take(CURL, 85939);
    give(WORKER, 93, 85939);
    replace([], []);
    expect(scan().map(tell)).toEqual([`443>60281 owner from nginx: established nginx/${IDLE_WORKER}`]);
    expect(scan()).toEqual([]);
  });

  it('exec() changes the owner', () => {
    const exe = join(folder, String(CURL), 'exe');
    renameSync(exe, `${exe}-before`);
    symlinkSync('/usr/bin/wget', exe);
    writeFileSync(join(folder, String(CURL), 'comm'), 'wget\n');
    replace([], []);
    expect(scan().map(tell)).toEqual([`56012>443 owner from curl: established wget/${CURL}`]);
  });

  it('a reused port closes one connection and opens another', () => {
    replace([DOWNLOAD.local], [{ ...DOWNLOAD, inode: 90_002 }]);
    take(CURL, 85939);
    give(CURL, 94, 90_002);
    const [closed, opened, ...more] = scan();
    expect(more).toEqual([]);
    expect([closed?.event, closed?.inode, opened?.event, opened?.inode]).toEqual(['closed', 85939, 'opened', 90_002]);
  });

  it('a new connection inherits nothing from a closed one', () => {
    replace([DOWNLOAD.local]);
    expect(scan()).toHaveLength(1);
    replace([], [{ table: 'tcp', state: LISTEN, local: '192.0.2.5:8443', inode: 90_003 }]);
    give(NGINX, 95, 90_003);
    const events = scan();
    expect(events.map(tell)).toEqual([`8443>null opened: listen nginx/${NGINX}`]);
    expect(events[0]).toMatchObject({ remote_address: null, network: null, asn: null });
  });

  it('events are in row order', () => {
    const ports = [50_003, 50_001, 50_002];
    replace(
      ['192.0.2.5:54416', '192.0.2.5:54402'],
      ports.map((port) => ({
        table: 'tcp',
        state: ESTABLISHED,
        local: `192.0.2.5:${port}`,
        remote: '1.1.1.1:443',
        inode: port,
      })),
    );
    for (const port of ports) give(CURL, port, port);
    expect(scan().map((event) => `${event.event} ${event.local_port}`)).toEqual([
      'closed 54402',
      'closed 54416',
      'opened 50001',
      'opened 50002',
      'opened 50003',
    ]);
  });

  it('durations are not negative when the clock is set back', () => {
    const row: KernelRow = {
      table: 'tcp',
      state: ESTABLISHED,
      local: '192.0.2.5:50000',
      remote: '1.1.1.1:443',
      inode: 90_000,
    };
    replace([], [row]);
    expect(scan()).toHaveLength(1);
    replace([row.local]);
    now -= 60_000;
    expect(scan().map((event) => event.duration_seconds)).toEqual([0]);
  });
});

it('connections of a removed namespace are closed with its inode', () => {
  start('containers');
  const before = rowsOf(scrape);
  const [gone = 0] = before.map((row) => row.netns ?? 0).toSorted((a, b) => b - a);
  for (const pid of readdirSync(folder))
    if (readlinkSync(join(folder, pid, 'ns/net')) === `net:[${gone}]`) rmSync(join(folder, pid), { recursive: true });
  const identity = ({
    netns,
    pid,
    process,
    local_address,
    local_port,
    remote_port,
    inode,
    pod,
    network,
  }: ConnectionEvent | (typeof before)[number]): object => ({
    netns,
    pid,
    process,
    local_address,
    local_port,
    remote_port,
    inode,
    pod,
    network,
  });
  const events = scan();
  expect(new Set(events.map(({ event }) => event))).toEqual(new Set(['closed']));
  expect(events.map(identity)).toEqual(before.filter((row) => row.netns === gone).map(identity));
});
