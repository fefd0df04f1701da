import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseCidr } from '../../src/common/address.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../src/config/config.ts';
import { AsnCache, type Answer } from '../../src/enrich/asn/cache.ts';
import { SqliteStore } from '../../src/store/sqlite.ts';
import type { Family } from '../../src/model.ts';
import { Scrape } from '../../src/scrape.ts';
import { Tree } from '../support/proc-tree.ts';

const HOUR = 3_600_000;
const START = Date.parse('2026-09-15T08:00:00Z');
/** The process through which the socket tables of the host are read. */
const FIRST = 25739;
const ORDERS = 25757;
const COLLECTORS = { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true, netlink: true };

/** A scrape of a recorded tree, with a store and a clock that the test sets. */
class Worker {
  readonly #cache = new AsnCache();
  readonly #scrape: Scrape;
  readonly #store: SqliteStore | null;
  readonly #clock: { now: number };
  #families: readonly Family[] = [];

  constructor(tree: Tree, store: SqliteStore | null, clock: { now: number }, seriesLimit = 1000) {
    this.#store = store;
    this.#clock = clock;
    const time = { now: () => clock.now, monotonic: () => clock.now };
    const options = { seriesLimit, rules: EMPTY_RULES, collectors: COLLECTORS, hasStore: true };
    this.#scrape = new Scrape(new Procfs(tree.root), options, time, this.#cache);
  }

  /** Reads the records of the store at the first scan; scans, and sends what is new to the store. */
  async scanAt(now: number, withinMs = Infinity): Promise<void> {
    this.#clock.now = now;
    if (this.#families.length === 0) {
      for (let cursor: string | null = null, isLast = false; this.#store && !isLast;) {
        const page = await this.#store.readRecords(cursor);
        this.#scrape.unusual?.merge(page?.records ?? [], now);
        cursor = page?.next ?? null;
        isLast = page?.isLast ?? true;
      }
      this.#scrape.unusual?.markComplete();
    }
    this.#families = this.#scrape.scan(withinMs).families;
    await this.#settle();
  }

  /** Resolves networks, or 1.1.1.0/24 to AS13335. */
  async answerAt(now: number, asns: ReadonlyMap<string, number> = new Map([['1.1.1.0/24', 13335]])): Promise<void> {
    this.#clock.now = now;
    const times = { askedAt: now, freshUntil: now + 24 * HOUR, source: 'cymru' };
    const answers = Array.from(asns, ([prefix, asn]): Answer => {
      const bucket = parseCidr(prefix) ?? expect.fail('no CIDR');
      const registry = { prefix, registry: null, registryCountry: null, allocated: null };
      return { bucket, origin: { asns: [asn], name: 'CLOUDFLARENET', asCountry: 'US', ...registry, ...times } };
    });
    this.#scrape.learn(this.#cache.accept(answers));
    await this.#settle();
  }

  /** Sends all sightings to the store again. */
  async sendAll(): Promise<void> {
    this.#scrape.unusual?.markAllChanged();
    await this.#settle();
  }

  /** The series of a family with all of these label values, as label values and value. */
  shown(family: string, ...values: readonly string[]): (readonly [labels: string, value: number])[] {
    const { samples } = this.#families.find(({ name }) => name === family) ?? expect.fail(`no family ${family}`);
    return samples
      .filter(({ labels }) => values.every((value) => labels.includes(value)))
      .map(({ labels, value }) => [labels.join(' '), value]);
  }

  get orders(): (readonly [labels: string, value: number])[] {
    return this.shown('peerscope_asn_first_seen_timestamp_seconds', 'orders.py');
  }

  async #settle(): Promise<void> {
    const sightings = this.#scrape.unusual?.takeSightings() ?? [];
    await this.#store?.writeRecords(this.#scrape.unusual?.takeRecords() ?? []);
    const kept = await this.#store?.writeFirstSeen(sightings);
    this.#scrape.unusual?.confirm(kept ?? sightings.map(({ key }) => ({ key, previous: null })), this.#clock.now);
  }
}

let folder: string;
let tree: Tree;
let clock: { now: number };

const openStore = (): SqliteStore =>
  SqliteStore.open({ directory: folder, now: () => clock.now, report: (line) => expect.fail(line) });
const closeAll = (): void => {
  for (const table of ['tcp', 'tcp6']) tree.edit(FIRST, `net/${table}`, /\n[^]*/, '\n');
  // A namespace with unchanged counters is not read again.
  tree.edit(FIRST, 'net/snmp', 'Udp: 0 0', 'Udp: 1 0');
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-first-'));
  tree = new Tree('plain-host');
  clock = { now: START };
});
afterEach(() => {
  tree[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

describe('a connection whose ASN is resolved after it closed', () => {
  const seconds = START / 1000;

  test('is exported with its opening time and AS name for one hour after the answer', async () => {
    const worker = new Worker(tree, openStore(), clock);
    await worker.scanAt(START);
    closeAll();
    await worker.scanAt(START + 10_000);
    expect(worker.orders).toEqual([]);
    await worker.answerAt(START + 20_000);
    await worker.scanAt(START + 30_000);
    expect(worker.orders).toEqual([['orders.py  orders.service outbound 13335', seconds]]);
    expect(worker.shown('peerscope_asn_connections', '13335')).toEqual([]);
    expect(worker.shown('peerscope_asn_info', '13335')).toEqual([['13335 CLOUDFLARENET US', 1]]);
    expect(worker.shown('peerscope_baseline_start_timestamp_seconds', 'orders.py')).toEqual([
      ['orders.py  orders.service node', seconds],
    ]);
    await worker.scanAt(START + 20_000 + HOUR - 1);
    expect(worker.orders).toHaveLength(1);
    await worker.scanAt(START + 20_000 + HOUR);
    expect(worker.orders).toEqual([]);
    expect(worker.shown('peerscope_baseline_start_timestamp_seconds', 'orders.py')).toEqual([]);
  });

  test('has the same first-seen time after a restart, and is exported only while a connection exists', async () => {
    const store = openStore();
    const before = new Worker(tree, store, clock);
    await before.scanAt(START);
    closeAll();
    await before.scanAt(START + 10_000);
    await before.answerAt(START + 20_000);
    await store.close();

    tree[Symbol.dispose]();
    tree = new Tree('plain-host');
    const after = new Worker(tree, openStore(), clock);
    await after.scanAt(START + 30_000);
    await after.answerAt(START + 31_000);
    await after.scanAt(START + 32_000);
    expect(after.orders).toEqual([['orders.py  orders.service outbound 13335', seconds]]);
    closeAll();
    await after.scanAt(START + 34_000);
    expect(after.orders).toEqual([]);
  });

  test('is new again after a restart without a store, with a new baseline', async () => {
    await new Worker(tree, null, clock).scanAt(START);
    const worker = new Worker(tree, null, clock);
    await worker.answerAt(START + HOUR);
    await worker.scanAt(START + 2 * HOUR);
    await worker.scanAt(START + 2 * HOUR);
    expect(worker.orders).toEqual([['orders.py  orders.service outbound 13335', seconds + 7200]]);
    expect(worker.shown('peerscope_baseline_start_timestamp_seconds', 'orders.py')).toEqual([
      ['orders.py  orders.service node', seconds + 7200],
    ]);
  });
});

test('times found while the store fails are written when it recovers', async () => {
  rmSync(folder, { recursive: true });
  writeFileSync(folder, '');
  const worker: { current?: Worker } = {};
  const lacks = (): void => void worker.current?.sendAll();
  let retry: (() => void) | undefined;
  const after = (_: number, run: () => void): (() => void) => {
    retry = run;
    return () => undefined;
  };
  const store = SqliteStore.open({
    directory: folder,
    now: () => clock.now,
    report: () => undefined,
    onIncomplete: lacks,
    after,
  });
  worker.current = new Worker(tree, store, clock);
  await worker.current.answerAt(START);
  await worker.current.scanAt(START);
  rmSync(folder);
  retry?.();
  await worker.current.scanAt(START + 1);
  await worker.current.scanAt(START + 2);
  expect(worker.current.orders).toEqual([['orders.py  orders.service outbound 13335', START / 1000]]);
  await store.close();

  const restarted = new Worker(tree, openStore(), clock);
  await restarted.answerAt(START + 2 * HOUR);
  await restarted.scanAt(START + 2 * HOUR);
  await restarted.scanAt(START + 2 * HOUR);
  expect(restarted.orders).toEqual([['orders.py  orders.service outbound 13335', START / 1000]]);
});

test('connections that the first scan did not reach are first seen when they are read', async () => {
  const worker = new Worker(tree, null, clock);
  await worker.answerAt(START);
  await worker.scanAt(START, 0);
  await worker.scanAt(START + HOUR);
  await worker.scanAt(START + 2 * HOUR);
  expect(worker.orders).toEqual([['orders.py  orders.service outbound 13335', (START + HOUR) / 1000]]);
});

describe('a socket of a pod', () => {
  const [POD, SERVER, INODE] = [25909, 25917, 86422];
  const firstTimesOf = (worker: Worker): unknown =>
    worker
      .shown('peerscope_asn_first_seen_timestamp_seconds', '13335')
      .map(([labels, value]) => [labels.split(' ')[0], value]);

  beforeEach(() => {
    tree[Symbol.dispose]();
    tree = new Tree('containers');
    // To 1.1.1.1:443.
    tree.edit(POD, 'net/tcp', '0302F40A:8202 0202F40A:18EB', '0302F40A:8202 01010101:01BB');
    tree.open(SERVER, 4, null);
  });

  test('with a process found by the second scan is not recorded for the pod without a process', async () => {
    const worker = new Worker(tree, openStore(), clock);
    await worker.answerAt(START);
    await worker.scanAt(START);
    tree.open(SERVER, 4, INODE);
    await worker.scanAt(START + 10_000);
    await worker.scanAt(START + 20_000);
    expect(firstTimesOf(worker)).toEqual([['orders.py', START / 1000]]);
  });

  test('without a process in two scans is recorded for the pod since the first scan', async () => {
    const worker = new Worker(tree, openStore(), clock);
    await worker.answerAt(START);
    await worker.scanAt(START);
    await worker.scanAt(START + 10_000);
    await worker.scanAt(START + 20_000);
    expect(firstTimesOf(worker)).toEqual([['', START / 1000]]);
  });

  test('that closed before its process was found is recorded for the pod', async () => {
    const worker = new Worker(tree, openStore(), clock);
    await worker.answerAt(START);
    await worker.scanAt(START);
    for (const table of ['tcp', 'tcp6']) tree.edit(POD, `net/${table}`, /\n[^]*/, '\n');
    tree.edit(
      POD,
      'net/snmp',
      /Udp: (\d+) (\d+)/,
      (_, packets: string, rest: string) => `Udp: ${Number(packets) + 1} ${rest}`,
    );
    await worker.scanAt(START + 10_000);
    await worker.scanAt(START + 20_000);
    expect(firstTimesOf(worker)).toEqual([['', START / 1000]]);
  });
});

test('when the series limit is too small, asn_info keeps the ASNs of open connections', async () => {
  const worker = new Worker(tree, null, clock, 1);
  await worker.scanAt(START);
  closeAll();
  await worker.scanAt(START + 1);
  await worker.answerAt(START + 1);
  await worker.scanAt(START + 2);
  expect(worker.shown('peerscope_asn_first_seen_timestamp_seconds', '13335')).toHaveLength(1);
  expect(worker.shown('peerscope_asn_connections').map(([labels]) => labels)).toEqual([
    expect.stringContaining('other') as string,
  ]);
  expect(worker.shown('peerscope_asn_info')).toEqual([['other  ', 1]]);
  expect(worker.shown('peerscope_series_folded', 'peerscope_asn_info')).toEqual([['peerscope_asn_info', 1]]);
});

test('a user with more operators than are exported after their connections closed hides none of another owner', async () => {
  const worker = new Worker(tree, null, clock);
  await worker.scanAt(START);
  closeAll();
  const networks = Array.from({ length: 2_500 }, (_, i) => [40 + Math.floor(i / 250), i % 250] as const);
  const rows = networks.map(([a, b], i) => {
    const remote = [1, 0, b, a]
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join('')
      .toUpperCase();
    return `${i}: 0100000A:${(32_768 + i).toString(16).toUpperCase()} ${remote}:01BB 01 00000000:00000000 00:00000000 00000000  1234        0 ${i + 1_000_000} 1 0 20 4 30 10 -1\n`;
  });
  tree.edit(FIRST, 'net/tcp', /$/, rows.join(''));
  await worker.scanAt(START + 10_000);
  await worker.scanAt(START + 20_000);
  await worker.answerAt(START + 21_000, new Map(networks.map(([a, b], i) => [`${a}.${b}.0.0/24`, 1_000 + i])));
  await worker.scanAt(START + 30_000);
  await worker.answerAt(START + 31_000);
  await worker.scanAt(START + 40_000);
  expect(worker.orders).toEqual([['orders.py  orders.service outbound 13335', START / 1000]]);
});

describe('outside of services', () => {
  const memoriesOf = (worker: Worker): string[] =>
    worker.shown('peerscope_workload_watched_since_timestamp_seconds').map(([labels]) => labels.split(' ')[1] ?? '');

  test.each([
    { cgroup: '/', uid: 1234, expected: ['users'] },
    { cgroup: '/user.slice/user-1234.slice/session-2.scope', uid: 1234, expected: [] },
    { cgroup: '/', uid: 0, expected: ['orders.py', 'session.scope'] },
    { cgroup: '/user.slice/user-0.slice/session-2.scope', uid: 0, expected: ['session.scope'] },
    { cgroup: '/system.slice/orders.service', uid: 1234, expected: ['orders.service'] },
  ])(
    'what is usual for a process of user $uid in $cgroup is known of $expected, or of the user',
    async ({ cgroup, uid, expected }) => {
      tree.write(ORDERS, 'cgroup', `0::${cgroup}\n`);
      tree.edit(ORDERS, 'status', /(?<=Uid:\t).*/, [uid, uid, uid, uid].join('\t'));
      tree.edit(FIRST, 'net/tcp', / 1000 /g, ` ${uid} `);
      const worker = new Worker(tree, null, clock);
      await worker.answerAt(START);
      await worker.scanAt(START);
      await worker.scanAt(START + 10_000);
      const others = new Set(['orders.py', 'session.scope', 'orders.service', 'users']);
      expect(memoriesOf(worker).filter((workload) => others.has(workload))).toEqual(expected);
      expect(worker.shown('peerscope_asn_first_seen_timestamp_seconds', '13335', 'orders.py')).toHaveLength(1);
    },
  );
});

describe('a connection whose direction is a guess', () => {
  test('is exported with the direction that is the most likely', async () => {
    // From an ephemeral port to another: an attacker can choose it.
    tree.edit(FIRST, 'net/tcp', /(?<= 01010101):01BB/g, ':A02A');
    const worker = new Worker(tree, null, clock);
    await worker.answerAt(START);
    await worker.scanAt(START);
    await worker.scanAt(START + 2 * HOUR);
    expect(worker.orders).toEqual([['orders.py  orders.service outbound 13335', START / 1000]]);
  });

  const outbound = 'orders.py  orders.service outbound 13335';
  const inbound = 'orders.py  orders.service inbound 13335';
  const listener =
    '90: 050200C0:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 90000 1 0 100 0 0 10 0\n';

  test.each([
    { name: 'from a bound port to an ephemeral one is a call', edits: [], expected: [inbound, outbound] },
    { name: 'to the port of a listener is none', edits: [[/$/, listener]] as const, expected: [inbound] },
    {
      name: 'to an address of another host is none: a proxy accepted it',
      edits: [[/050200C0:4E20/, '090200C0:4E20']] as const,
      expected: [inbound],
    },
  ])('$name', async ({ edits, expected }) => {
    tree.edit(FIRST, 'net/tcp', /:D482 01010101:01BB/, ':4E20 01010101:A02A');
    tree.edit(FIRST, 'net/tcp', /.*:D490 01010101:01BB.*\n/, '');
    for (const [from, to] of edits) tree.edit(FIRST, 'net/tcp', from, to);
    const worker = new Worker(tree, null, clock);
    await worker.answerAt(START);
    await worker.scanAt(START);
    await worker.scanAt(START + 10_000);
    expect(worker.orders.map(([labels]) => labels).sort()).toEqual(expected);
  });
});
