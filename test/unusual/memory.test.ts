import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { UnusualMemory, type UnusualOptions } from '../../src/unusual/memory.ts';
import type { Holder, Observation } from '../../src/unusual/observation.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = Date.parse('2026-09-15T08:00:00Z');
const WEB = { namespace: 'shop', workload: 'web' };
const NGINX: Holder = { process: 'nginx', startedAt: START - 30 * DAY, containerStartedAt: START - 30 * DAY };

const late = (process: string): Holder => ({ process, startedAt: START, containerStartedAt: START - 30 * DAY });
/** A process of a rollout ten minutes before the scan. */
const YOUNG: Holder = { ...NGINX, startedAt: START + 50 * MINUTE, containerStartedAt: START + 50 * MINUTE };
const UNHELD: Holder = { process: '', startedAt: null, containerStartedAt: null };

type Given = Partial<Observation> & { readonly event: Observation['event'] };
const seen = (given: Given, at: number): Observation =>
  // Each event reads only its own fields.
  ({
    owner: WEB,
    holder: NGINX,
    at,
    transport: 'tcp',
    network: 'public',
    asn: null,
    port: 443,
    peer: null,
    localPort: 22,
    ...given,
  }) as unknown as Observation;

const out = (asn: number | null, given: Partial<Observation> = {}): Given => ({ ...given, event: 'outbound', asn });
const inside = (peer: string | null, port: number, given: Partial<Observation> = {}): Given => ({
  ...given,
  event: 'outbound',
  network: 'inside',
  peer,
  port,
});

/** A store of the earliest times. */
class Times {
  readonly times = new Map<string, number>();
  isDown = false;
}

/** A memory as a node uses it: the answers of the store arrive after each scan. */
class Node {
  readonly memory: UnusualMemory;
  readonly store: Times;
  now = START;

  constructor(store = new Times(), options: Partial<UnusualOptions> = {}) {
    this.store = store;
    this.memory = new UnusualMemory({ isShared: true, ...options });
    this.memory.markComplete();
  }

  scan(at: number, given: readonly Given[] = []): void {
    this.now = at;
    this.memory.begin(at);
    for (const one of given) this.memory.observe(seen(one, at));
    this.memory.end();
    this.settle();
  }

  settle(): void {
    const answers = this.memory.takeSightings().map(({ key, at }) => {
      if (this.store.isDown) return { key, previous: 'unknown' as const };
      const previous = this.store.times.get(key) ?? null;
      this.store.times.set(key, Math.min(at, previous ?? at));
      return { key, previous };
    });
    this.memory.confirm(answers, this.now);
  }

  /** Nine days of ordinary life, twice a day. */
  learn(given: readonly Given[] = [out(64_500)], days = 9): this {
    for (let at = START - days * DAY; at <= START; at += DAY / 2) this.scan(at, given);
    return this;
  }

  get reports(): string[] {
    this.memory.markExported(this.memory.reports, this.now);
    return this.memory.reports.map(({ kind, what, reach, points }) => `${kind} ${what} ${reach} ${points}`);
  }
}

test('a thing has no record until the store said when it was first met, and then that time', () => {
  const { memory, store } = new Node();
  const key = 'unusual:1:["shop","web","operator","AS64501"]';
  const recordOf = (): string | undefined => memory.takeRecords().find((record) => record.key === key)?.text;
  memory.begin(START);
  memory.observe(seen(out(64_501), START));
  expect(recordOf()).toBeUndefined();
  const answers = memory.takeSightings().map((sighting) => ({ key: sighting.key, previous: START - 20 * DAY }));
  memory.confirm(answers, START + 1);
  expect(recordOf()).toBe(JSON.stringify([START - 20 * DAY, START - 20 * DAY, START]));
  expect(store.times.size).toBe(0);
  memory.observe(seen(out(64_502), START + 1));
  memory.confirm(
    memory.takeSightings().map((sighting) => ({ key: sighting.key, previous: null })),
    START + 2,
  );
  expect(memory.takeRecords().map((record) => record.key)).toContain(key.replace('64501', '64502'));
});

describe('a workload that is learned and calm', () => {
  test.each<[string, Given[], string[]]>([
    ['nothing new', [out(64_500)], []],
    ['a new operator', [out(64_501)], ['operator AS64501 none 2']],
    ['a large cloud', [out(14_618)], ['operator AS16509 none 1']],
    ['two new operators', [out(64_501), out(64_502)], ['operator AS64501 none 2', 'operator AS64502 none 1']],
    [
      'five new operators',
      [1, 2, 3, 4, 5].map((asn) => out(asn + 64_500)),
      ['operator AS64501 none 2', 'operator AS64502 none 1', 'operator AS64503 none 1'],
    ],
    [
      'a large cloud, then another operator',
      [out(16_509), out(64_501)],
      ['operator AS16509 none 1', 'operator AS64501 none 1'],
    ],
    ['a new remote port', [out(64_500, { port: 4444 })], ['port tcp/4444 none 1']],
    [
      'a program that started late and stays inside',
      [inside('shop/ledger', 80, { holder: late('psql') })],
      ['process process/psql none 1', 'peer shop/ledger none 1'],
    ],
    [
      'a program that started late and calls out',
      [out(64_500, { holder: late('updater') })],
      ['process process/updater none 3'],
    ],
    [
      'a reverse shell',
      [out(64_501, { holder: late('bash'), port: 4444 })],
      ['process process/bash none 3', 'operator AS64501 none 2', 'port tcp/4444 none 1'],
    ],
    ['a call that no process holds', [out(64_501, { holder: UNHELD })], ['operator AS64501 none 2']],
    ['SSH inside', [inside('shop/ledger', 22)], ['inner_port tcp/22 none 2']],
    ['three new peers', ['a/a', 'b/b', 'c/c'].map((peer) => inside(peer, 80)), ['peer a/a none 2']],
    ['the Kubernetes API', [inside('default/kubernetes', 443)], ['peer default/kubernetes none 3']],
    ['a listener', [{ event: 'listen', port: 4444 }], ['listener listen/tcp/4444 none 2']],
    [
      'a listener on an ephemeral port by a late program',
      [{ event: 'listen', port: 45_678, holder: late('nc') }],
      ['process process/nc none 2', 'listener listen/tcp/ephemeral none 3'],
    ],
    [
      'the metadata service',
      [{ event: 'outbound', network: 'cloud_metadata', port: 80 }],
      ['metadata metadata none 3'],
    ],
    [
      'a login from a new operator',
      [{ event: 'inbound', asn: 64_501, localPort: 22, holder: { ...NGINX, process: 'sshd' } }],
      ['operator AS64501 none 2'],
    ],
    ['a stranger at another service', [{ event: 'inbound', asn: 64_501, localPort: 443 }], []],
  ])('%s', (_, given, expected) => {
    const node = new Node().learn();
    node.scan(START + HOUR, given);
    expect(node.reports).toEqual(expected);
  });

  test('is not reported twice, and for an hour from the first export on', () => {
    const node = new Node().learn();
    node.scan(START + HOUR, [out(64_501)]);
    // Prometheus was down for five hours.
    node.scan(START + 6 * HOUR, [out(64_501)]);
    expect(node.reports).toEqual(['operator AS64501 none 2']);
    node.scan(START + 7 * HOUR - 1, [out(64_501)]);
    expect(node.reports).toEqual(['operator AS64501 none 2']);
    node.scan(START + 7 * HOUR, [out(64_501)]);
    expect(node.reports).toEqual([]);
  });

  test('meets a fan-out and a volume that exceed all hours of the past month', () => {
    const node = new Node().learn();
    node.scan(
      START + HOUR,
      Array.from({ length: 12 }, (_, index) => out(65_000 + index)),
    );
    expect(node.reports).toContain('fan_out fan_out/operators none 3');
    node.memory.addBytes(WEB, NGINX, 64_500, 2 ** 29);
    expect(node.reports).toContain('volume volume/AS64500 none 2');
    expect(node.memory.points()).toEqual([expect.objectContaining({ points: 9 })]);
  });
});

describe('the gates', () => {
  test('a workload is learned after a day, and after three hours with activity', () => {
    const node = new Node();
    for (const hours of [0, 1, 23]) node.scan(START + hours * HOUR, [out(64_500 + hours)]);
    expect(node.reports).toEqual([]);
    node.scan(START + 25 * HOUR, [out(64_550)]);
    expect(node.reports).toEqual(['operator AS64550 none 2']);
  });

  test('a weekly job is learned after its third run', () => {
    const node = new Node();
    const runs = [0, 1, 2].map((week) => {
      node.scan(START + week * 7 * DAY, [out(64_500 + week)]);
      return node.reports;
    });
    expect(runs).toEqual([[], [], []]);
    node.scan(START + 21 * DAY, [out(64_510)]);
    expect(node.reports).toEqual(['operator AS64510 none 2']);
  });

  test('a crawler meets new operators without an end, and has no vote', () => {
    const node = new Node().learn();
    const crawler = { namespace: 'shop', workload: 'crawler' };
    for (let hour = 0; hour < 200; hour++)
      node.scan(START - 8 * DAY + hour * HOUR, [out(60_000 + hour, { owner: crawler })]);
    node.scan(START + 30 * MINUTE);
    const others = node.reports.length;
    node.scan(START + HOUR, [out(61_000, { owner: crawler }), out(60_199)]);
    expect(node.reports.slice(others)).toEqual(['operator AS60199 none 2']);
  });

  test.each([
    [0, 'none 2'],
    [1, 'few 1'],
    [3, 'many 1'],
  ])('an operator that %d calm workloads call every day is known to %s', (others, expected) => {
    const node = new Node().learn([
      out(64_500),
      ...Array.from({ length: others }, (_, index) =>
        out(64_501, { owner: { namespace: 'shop', workload: `other-${index}` } }),
      ),
    ]);
    node.scan(START + HOUR, [out(64_501)]);
    expect(node.reports).toEqual([`operator AS64501 ${expected}`]);
  });

  test('a single victim does not make the operator of an attacker known', () => {
    const node = new Node().learn([out(64_500), out(64_500, { owner: { namespace: 'shop', workload: 'api' } })]);
    node.scan(START + HOUR, [out(64_501)]);
    node.scan(START + 3 * HOUR, [out(64_501, { owner: { namespace: 'shop', workload: 'api' } })]);
    expect(node.memory.takeNovelties().map(({ owner, kind }) => [owner.workload, kind])).toEqual([
      ['web', 'operator'],
      ['api', 'operator'],
    ]);
    expect(new Set(node.reports)).toEqual(new Set(['operator AS64501 none 2']));
  });

  test.each<[string, Given, string[]]>([
    [
      'explains one point of what its processes do',
      inside('shop/ledger', 22, { holder: YOUNG }),
      ['inner_port tcp/22 none 1'],
    ],
    ['explains a new port', out(64_500, { port: 8443, holder: YOUNG }), []],
    ['explains a call that no process holds', out(64_500, { port: 8443, holder: UNHELD }), []],
    ['does not explain the processes of before', out(64_500, { port: 8443 }), ['port tcp/8443 none 1']],
    [
      'does not explain an operator that no other workload calls',
      out(64_501, { holder: YOUNG }),
      ['operator AS64501 none 2'],
    ],
    [
      'does not explain a process that started late',
      out(64_500, { holder: late('bash') }),
      ['process process/bash none 3'],
    ],
  ])('a rollout %s', (_, given, expected) => {
    const node = new Node().learn();
    node.memory.release(WEB, START + 50 * MINUTE);
    node.scan(START + HOUR, [given]);
    expect(node.reports).toEqual(expected);
  });

  test('suspects are reported by a workload that is not learned, and while it calls them', () => {
    const node = new Node(new Times(), { suspects: () => new Set(['AS64999']), isExpected: () => true });
    const days = [0, 1, 2].map((day) => {
      node.scan(START + day * DAY, [out(64_999)]);
      return node.reports;
    });
    expect(days).toEqual(Array.from({ length: 3 }, () => ['operator AS64999 none 3']));
  });
});

describe('what is expected', () => {
  test.each(['annotation', 'command'] as const)('by %s is not reported, except the metadata service', (way) => {
    const isExpected = (_: object, what: string): boolean =>
      way === 'annotation' && ['AS64501', 'metadata'].includes(what);
    const node = new Node(new Times(), { isExpected }).learn();
    if (way === 'command') expect(node.memory.decide(WEB, 'AS64501', true, START, 'alice')).toBeNull();
    node.scan(START + HOUR, [out(64_501), { event: 'outbound', network: 'cloud_metadata', port: 80 }]);
    expect(node.reports).toEqual(['metadata metadata none 3']);
  });

  test('accepting ends the report, and distrusting makes the thing new again, also on other nodes', () => {
    const store = new Times();
    const [one, two] = [new Node(store).learn(), new Node(store)];
    one.scan(START + HOUR, [out(64_501)]);
    one.memory.decide(WEB, 'AS64501', true, START + HOUR, 'alice');
    expect(one.reports).toEqual([]);
    one.memory.decide(WEB, 'AS64501', false, START + 2 * HOUR, 'bob');
    two.memory.merge(one.memory.takeRecords(), START + 2 * HOUR);
    two.scan(START + 3 * HOUR, [out(64_501)]);
    expect(two.reports).toEqual(['operator AS64501 none 2']);
  });

  test.each([
    { first: 'this node', own: START - 9 * DAY, other: START - 8 * DAY, expected: START - 9 * DAY },
    { first: 'another node', own: START - 8 * DAY, other: START - 9 * DAY, expected: START - 9 * DAY },
  ])('the first time of an operator that $first met first is kept', ({ own, other, expected }) => {
    const [one, two] = [new Node(), new Node()];
    one.scan(own, [out(64_500)]);
    two.scan(other, [out(64_500)]);
    one.memory.merge(two.memory.takeRecords(), START);
    expect(one.memory.firstAtOf(WEB, 'outbound', 64_500)).toBe(expected);
    // The earliest time is written again, since the later record may be the last one of the store.
    const records = one.memory.takeRecords().filter(({ key }) => key.includes('AS64500'));
    two.memory.merge(records, START);
    expect(two.memory.firstAtOf(WEB, 'outbound', 64_500)).toBe(expected);
  });

  const decision = (what: string, text: unknown): { key: string; text: string } => ({
    key: `decision:1:${JSON.stringify(['shop', 'web', what])}`,
    text: JSON.stringify(text),
  });

  test('a decision is a record of its own, and ends the report of another node, also after a restart', () => {
    const [one, two] = [new Node().learn(), new Node(new Times(), { node: 'n2' }).learn()];
    two.scan(START + HOUR, [out(64_501)]);
    const reported = two.memory.takeRecords();
    one.memory.takeRecords();
    one.memory.decide(WEB, 'as64501', true, START + HOUR, 'a'.repeat(200));
    const records = one.memory.takeRecords();
    expect(records).toEqual([decision('AS64501', [true, START + HOUR, 'a'.repeat(100)])]);
    two.memory.merge(records, START + HOUR);
    expect(two.reports).toEqual([]);
    const restarted = new Node(new Times(), { node: 'n2' });
    restarted.memory.merge([...records, ...reported], START + HOUR + MINUTE);
    expect(restarted.reports).toEqual([]);
  });

  test('the later of two decisions wins, in each order of the records', () => {
    const records = [decision('AS64501', [true, START + 2, 'alice']), decision('AS64501', [false, START + 1, 'bob'])];
    for (const given of [records, records.toReversed()]) {
      const node = new Node().learn();
      node.memory.merge(given, START + HOUR);
      node.scan(START + HOUR, [out(64_501)]);
      expect(node.reports).toEqual([]);
    }
  });

  test('a decision is forgotten after 90 days without one, like all else', () => {
    const node = new Node().learn();
    node.memory.decide(WEB, 'AS64501', true, START, 'alice');
    node.scan(START + 91 * DAY, [out(64_501)]);
    expect(node.reports).toEqual(['operator AS64501 none 2']);
  });

  test('a workload keeps its newest 200 decisions', () => {
    const node = new Node();
    const records = Array.from({ length: 250 }, (_, i) => decision(`tcp/${i + 1}`, [true, START - i, 'alice']));
    node.memory.merge(records, START);
    node.memory.markAllChanged();
    const kept = node.memory.takeRecords().filter(({ key }) => key.startsWith('decision:'));
    expect(kept).toEqual(records.slice(0, 200));
  });

  test('accepting ends no report of a suspect', () => {
    const node = new Node(new Times(), { suspects: () => new Set(['AS64501']) }).learn();
    node.scan(START + HOUR, [out(64_501)]);
    node.memory.decide(WEB, 'AS64501', true, START + HOUR, 'alice');
    expect(node.reports).toEqual(['operator AS64501 none 3']);
  });

  test.each([
    ['of another time than the past', decision('AS64501', [true, START + DAY, 'alice'])],
    ['of a value that cannot be expected', decision('metadata', [true, START, 'alice'])],
    ['of a value that is not canonical', decision('as64501', [true, START, 'alice'])],
    ['without a person', decision('AS64501', [true, START])],
    ['without a time', decision('AS64501', [true, null, 'alice'])],
    ['of two values', { key: 'decision:1:["shop","AS64501"]', text: `[true,${START},"alice"]` }],
    ['that is no JSON', { key: decision('AS64501', 0).key, text: 'true' }],
  ])('ignores a decision %s', (_, record) => {
    const node = new Node().learn();
    node.memory.merge([record], START + HOUR);
    node.memory.takeRecords();
    node.memory.markAllChanged();
    expect(node.memory.takeRecords().filter(({ key }) => key.startsWith('decision:'))).toEqual([]);
  });

  test.each(['metadata', 'shop/*'])('cannot be %s', (what) => {
    expect(new Node().memory.decide(WEB, what, true, START, 'alice')).toMatch(/^Cannot read expected value/);
  });
});

describe('outages', () => {
  test('a restart makes nothing new, and exports the reports of the last hour again', () => {
    const store = new Times();
    const before = new Node(store, { node: 'n1' }).learn();
    before.scan(START + HOUR, [out(64_501)]);
    const records = before.memory.takeRecords();
    const after = new Node(store, { node: 'n1' });
    after.memory.merge(records, START + 90 * MINUTE);
    after.scan(START + 90 * MINUTE, [out(64_500), out(64_501)]);
    expect(after.reports).toEqual(['operator AS64501 none 2']);
    const other = new Node(store, { node: 'n2' });
    other.memory.merge(records, START + 90 * MINUTE);
    other.scan(START + 90 * MINUTE, [out(64_500), out(64_501)]);
    expect(other.reports).toEqual([]);
  });

  test('a flushed store makes nothing new', () => {
    const node = new Node().learn();
    node.store.times.clear();
    node.scan(START + HOUR, [out(64_500)]);
    expect(node.reports).toEqual([]);
  });

  test('while the store is down, a node with all records reports, and one without waits', () => {
    const one = new Node().learn();
    const records = one.memory.takeRecords();
    one.store.isDown = true;
    one.scan(START + HOUR, [out(64_501)]);
    expect(one.reports).toEqual(['operator AS64501 none 2']);

    const two = new UnusualMemory({ isShared: true });
    two.begin(START + HOUR);
    two.observe(seen(out(64_500), START + HOUR));
    two.observe(seen(out(64_501), START + HOUR));
    two.confirm(
      two.takeSightings().map(({ key }) => ({ key, previous: 'unknown' as const })),
      START + HOUR,
    );
    expect(two.reports).toEqual([]);
    // The store is back.
    two.merge(records, START + 3 * HOUR);
    two.markComplete();
    two.confirm(
      two.takeSightings().map(({ key }) => ({ key, previous: key.includes('64500') ? START - 9 * DAY : null })),
      START + 3 * HOUR,
    );
    expect(two.reports.map(({ what }) => what)).toEqual(['AS64501']);
  });

  test('nothing is reported before the records of the store are merged', () => {
    const one = new Node().learn();
    const records = one.memory.takeRecords();

    const two = new UnusualMemory({ isShared: true });
    two.begin(START);
    two.observe(seen(out(64_500), START));
    two.observe(seen(out(64_501), START));
    // The store has forgotten the first-seen times; the records live longer.
    two.confirm(
      two.takeSightings().map(({ key }) => ({ key, previous: null })),
      START,
    );
    two.merge(records.slice(0, 1), START);
    expect(two.reports).toEqual([]);
    two.merge(records, START);
    two.markComplete();
    expect(two.reports.map(({ what }) => what)).toEqual(['AS64501']);
  });

  test('a restart replaces nothing in the store before its records are merged, and worse records are written again', () => {
    const before = new Node().learn();
    const stored = before.memory.takeRecords();
    const restarted = new UnusualMemory({ isShared: true });
    restarted.begin(START);
    restarted.observe(seen(out(64_500), START));
    expect(restarted.takeRecords()).toEqual([]);
    restarted.merge(stored, START);
    restarted.markComplete();
    const written = restarted.takeRecords();
    const other = new UnusualMemory({ isShared: false });
    other.merge(written, START);
    expect(other.sinceOf({ namespace: 'shop', workload: 'web' })).toBe(START - 9 * DAY);

    // Another node wrote at the same time.
    const late = new UnusualMemory({ isShared: false });
    late.begin(START);
    late.observe(seen(out(64_500), START));
    before.memory.merge(late.takeRecords(), START);
    expect(before.memory.takeRecords().map(({ key }) => key)).toEqual(
      expect.arrayContaining(['workload:1:["shop","web"]', 'unusual:1:["shop","web","operator","AS64500"]']),
    );
  });

  test('an operator that the provider names hours later is reported then', () => {
    const node = new Node().learn();
    node.scan(START + HOUR, [out(null)]);
    node.now = START + 5 * HOUR;
    node.memory.begin(node.now);
    node.memory.observe(seen(out(64_501), START + HOUR));
    node.settle();
    expect(node.memory.reports).toEqual([
      expect.objectContaining({ what: 'AS64501', at: START + HOUR, recordedAt: START + 5 * HOUR }),
    ]);
  });

  test('a clock that was set back makes nothing new', () => {
    const node = new Node().learn();
    node.scan(START - 5 * DAY, [out(64_500)]);
    expect(node.reports).toEqual([]);
  });
});

describe('the limits', () => {
  test('a workload keeps 200 things of a kind, the most recently seen', () => {
    const node = new Node();
    for (let asn = 1; asn <= 500; asn++) node.scan(START + asn * 2 * HOUR, [out(64_000 + asn), out(64_000)]);
    expect(node.memory.size.outbound).toBe(200 + 3);
    const records = new Map(node.memory.takeRecords().map(({ key, text }) => [key, text]));
    expect(records.has('unusual:1:["shop","web","operator","AS64000"]')).toBe(true);
    expect(records.has('unusual:1:["shop","web","operator","AS64500"]')).toBe(true);
    expect(records.has('unusual:1:["shop","web","operator","AS64001"]')).toBe(false);
  });

  test('strangers evict nothing of what workloads call', () => {
    const node = new Node().learn();
    const { outbound } = node.memory.size;
    const stranger = (owner: number, asn: number): Given => ({
      event: 'inbound',
      asn,
      localPort: 22,
      owner: { namespace: '', workload: `sshd-${owner}` },
    });
    for (let owner = 0; owner < 110; owner++)
      node.scan(
        START + HOUR,
        Array.from({ length: 200 }, (_, asn) => stranger(owner, 70_000 + asn)),
      );
    expect(node.memory.size).toEqual({ workloads: 111, outbound, inbound: 9_500 });
  });

  const VICTIM = { owner: { namespace: '', workload: 'nginx.service' }, tenant: 'nginx.service' };
  const crowd = (scan: number, size: number): Given[] =>
    Array.from({ length: size }, (_, i) =>
      out(60_000 + (i % 50), { owner: { namespace: '', workload: `n${scan}-${i}` }, tenant: 'uid:1000' }),
    );

  test('a user whose processes change their names evicts no workload of others, nor hides a new one', () => {
    const node = new Node().learn([out(64_500, VICTIM)]);
    const fresh = { owner: { namespace: '', workload: 'new.service' }, tenant: 'new.service' };
    for (let scan = 1; scan <= 4; scan++)
      node.scan(START + scan * MINUTE, [...(scan === 2 ? [out(64_500, fresh)] : []), ...crowd(scan, 7_000)]);
    expect(node.memory.size.workloads).toBeLessThanOrEqual(5_000);
    expect(node.memory.isLearned(VICTIM.owner)).toBe(true);
    expect(node.memory.sinceOf(fresh.owner)).toBe(START + 2 * MINUTE);
    node.scan(START + 5 * MINUTE, [...crowd(5, 7_000), out(64_501, VICTIM)]);
    expect(node.reports).toEqual(['operator AS64501 none 2']);
  });

  test('a user with many things evicts no thing of others', () => {
    const node = new Node().learn([out(64_500, VICTIM)]);
    const many = Array.from({ length: 100_000 }, (_, i) =>
      out(70_000 + (i % 190), { owner: { namespace: '', workload: `w${Math.floor(i / 190)}` }, tenant: 'uid:1000' }),
    );
    node.scan(START + MINUTE, [...many, out(64_501, VICTIM)]);
    expect(node.memory.size.outbound).toBeLessThanOrEqual(40_000);
    expect(node.memory.firstAtOf(VICTIM.owner, 'outbound', 64_500)).toBe(START - 9 * DAY);
    expect(node.reports).toEqual(['operator AS64501 none 2']);
  });

  test('one namespace of many workloads evicts nothing of another namespace', () => {
    const node = new Node().learn();
    const many = Array.from({ length: 12_000 }, (_, i) =>
      out(64_510, { owner: { namespace: 'crowd', workload: `w${i}` } }),
    );
    node.scan(START + MINUTE, many);
    node.scan(START + 2 * MINUTE, [out(64_501)]);
    expect(node.memory.size.workloads).toBeLessThanOrEqual(5_000);
    expect(node.reports).toEqual(['operator AS64501 none 2']);
  });

  test('things that a workload met over more than a day keep their places', () => {
    const node = new Node().learn();
    for (let i = 0; i < 20; i++)
      node.scan(
        START + (i + 1) * MINUTE,
        Array.from({ length: 50 }, (_, asn) => out(70_000 + i * 50 + asn)),
      );
    expect(node.memory.firstAtOf(WEB, 'outbound', 64_500)).toBe(START - 9 * DAY);
  });
});

test('records of other nodes, of peerscope 0.1 and of strangers', () => {
  const { memory } = new Node();
  const base = START - 10 * DAY;
  memory.merge(
    [
      { key: 'base:1:["nginx","shop","web"]', text: String(base) },
      { key: 'first:1:["nginx","shop","web","outbound","64500"]', text: String(base) },
      { key: 'first:1:["nginx","shop","web","inbound","64502"]', text: String(base) },
      { key: 'first:1:["app-1.2.jar","","","outbound","64503"]', text: String(base) },
      ...['', 'null', '[]', '[1,2]', '[1,2,"x"]', '[1,2,1e300]', '{"since":-1}'].flatMap((text) => [
        { key: 'unusual:1:["shop","web","operator","AS64504"]', text },
        { key: 'workload:1:["shop","bad"]', text },
        { key: 'report:1:["shop","web","operator","AS64504"]', text },
      ]),
      { key: 'unusual:1:["shop","web","nonsense","AS64505"]', text: '[1,2,3]' },
    ],
    START,
  );
  expect(memory.size).toEqual({ workloads: 2, outbound: 2, inbound: 1 });
  expect(memory.sinceOf({ namespace: 'shop', workload: 'web' })).toBe(base);
  memory.begin(START);
  for (const asn of [64_500, 64_502]) memory.observe(seen(out(asn), START));
  memory.confirm(
    memory.takeSightings().map(({ key }) => ({ key, previous: null })),
    START,
  );
  expect(memory.reports.map(({ what }) => what)).toEqual(['AS64502']);
});

test('nodes that share a store report what one node would, each thing once', () => {
  const events = fc.array(
    fc.record({
      node: fc.nat({ max: 2 }),
      asn: fc.integer({ min: 64_500, max: 64_520 }),
      workload: fc.constantFrom('web', 'api'),
    }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(events, (list) => {
      const learned = ['web', 'api'].map((workload) => out(64_499, { owner: { namespace: 'shop', workload } }));
      const single = new Node().learn(learned);
      const store = new Times();
      const cluster = [0, 1, 2].map(() => new Node(store));
      cluster[0]?.learn(learned);
      list.forEach(({ node, asn, workload }, index) => {
        const at = START + HOUR + index * 40 * MINUTE;
        const records = cluster.flatMap(({ memory }) => memory.takeRecords());
        for (const { memory } of cluster) memory.merge(records, at);
        for (const member of [single, cluster[node]]) {
          member?.scan(at, [out(asn, { owner: { namespace: 'shop', workload } })]);
          expect(member?.reports).toBeDefined();
        }
      });
      const totalOf = (nodes: readonly Node[]): number => nodes.flatMap(({ memory }) => memory.takeNovelties()).length;
      // A node does not count what others reported within the hour, so it may report one more of many.
      const [one, several] = [totalOf([single]), totalOf(cluster)];
      expect(several).toBeGreaterThanOrEqual(one);
      expect(several).toBeLessThanOrEqual(new Set(list.map(({ asn, workload }) => `${workload} ${asn}`)).size);
    }),
    { numRuns: 50 },
  );
});
