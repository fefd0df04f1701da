import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseAddress } from '../../src/common/address.ts';
import { FirstSeenMemory } from '../../src/first-seen/memory.ts';
import type { Direction, OwnerLabels } from '../../src/model.ts';
import type { PreviousTime, FirstSeenTime } from '../../src/store/contract.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.parse('2026-09-15T08:00:00Z');
const ADDRESS = parseAddress('1.1.1.1') ?? [0, 0, 0, 0];

const owner = (process: string, workload = ''): OwnerLabels => ({
  process,
  namespace: '',
  workload,
  pod: '',
  container: '',
});
const CURL = owner('curl');

/** An in-memory store of the earliest times. */
class EarliestTimes {
  readonly times = new Map<string, number>();
  /** Whether the store fails for a key. */
  fails: (key: string) => boolean = () => false;

  answer(sightings: readonly FirstSeenTime[]): PreviousTime[] {
    return sightings.map(({ key, at }) => {
      if (this.fails(key)) return { key, previous: 'unknown' };
      const previous = this.times.get(key) ?? null;
      this.times.set(key, Math.min(at, previous ?? at));
      return { key, previous };
    });
  }
}

/** A memory and its store, used like by a scan. */
class Node {
  readonly memory = new FirstSeenMemory('node', () => this.startedAt);
  startedAt = -Infinity;
  readonly kept: EarliestTimes;
  #now = 0;

  constructor(kept = new EarliestTimes()) {
    this.kept = kept;
  }

  /** Scans these connections, then applies the answers of the store. */
  scan(
    now: number,
    connections: readonly { labels?: OwnerLabels; direction?: Direction; asn: string; at?: number }[],
  ): void {
    this.#now = now;
    this.memory.begin(now);
    for (const { labels = CURL, direction = 'outbound', asn, at = now } of connections)
      if (asn !== '') this.memory.record(labels, direction, asn, at);
    for (const { labels = CURL, direction = 'outbound', asn } of connections)
      this.memory.markPresent(labels, direction, asn);
    this.memory.end();
    this.settle();
  }

  settle(): void {
    for (let sent = this.memory.takeSightings(); sent.length > 0; sent = this.memory.takeSightings())
      this.memory.confirm(this.kept.answer(sent), this.#now);
  }

  get exported(): string[] {
    return this.memory.asns.map(
      ({ owner: { process, workload }, direction, asn, at }) =>
        `${process || workload} ${direction} AS${asn} ${(at - START) / HOUR}h`,
    );
  }

  get baselines(): string[] {
    return this.memory.baselines.map(
      ({ owner: { process, workload }, at }) => `${process || workload} ${(at - START) / HOUR}h`,
    );
  }
}

describe('a first-seen time', () => {
  test('is the opening time of the connection, and is exported while a connection exists', () => {
    const node = new Node();
    node.scan(START + HOUR, [{ asn: '64500', at: START }]);
    expect(node.exported).toEqual(['curl outbound AS64500 0h']);
    node.scan(START + 30 * HOUR, [{ asn: '64500' }]);
    expect(node.exported).toEqual(['curl outbound AS64500 0h']);
  });

  test('is exported for one hour after it was new, even if the connection closed', () => {
    const node = new Node();
    node.scan(START, [{ asn: '64500' }]);
    node.scan(START + HOUR - 1, []);
    expect(node.exported).toEqual(['curl outbound AS64500 0h']);
    node.scan(START + HOUR, []);
    expect(node.exported).toEqual([]);
  });

  test('is not exported before the store answers', () => {
    const { memory } = new Node();
    memory.begin(START);
    memory.record(CURL, 'outbound', '64500', START);
    memory.markPresent(CURL, 'outbound', '64500');
    expect(memory.asns).toEqual([]);
    memory.confirm([{ key: memory.takeSightings().at(-1)?.key ?? '', previous: START - DAY }], START);
    expect(memory.asns.map(({ at }) => at)).toEqual([START - DAY]);
  });

  test('is the opening time if the ASN is resolved after the connection closed, and is exported for one hour from then', () => {
    const node = new Node();
    node.scan(START, [{ asn: '' }]);
    node.memory.defer('1.1.1.0/24', CURL, 'outbound', ADDRESS, START);
    node.scan(START + 2 * HOUR, []);
    expect(node.exported).toEqual([]);
    node.memory.resolve('1.1.1.0/24', () => '13335');
    node.settle();
    expect(node.exported).toEqual(['curl outbound AS13335 0h']);
    node.scan(START + 3 * HOUR - 1, []);
    expect(node.exported).toEqual(['curl outbound AS13335 0h']);
  });

  test('stays pending while the ASN is unknown', () => {
    const node = new Node();
    node.scan(START, []);
    node.memory.defer('1.1.1.0/24', CURL, 'outbound', ADDRESS, START);
    node.memory.resolve('1.1.1.0/24', () => null);
    node.memory.resolve('1.1.1.0/24', () => '13335');
    node.settle();
    expect(node.exported).toEqual(['curl outbound AS13335 0h']);
  });

  test('survives a restart: a time from the store is not new, and is exported only while a connection exists', () => {
    const kept = new EarliestTimes();
    new Node(kept).scan(START, [{ asn: '64500' }]);
    const after = new Node(kept);
    after.scan(START + 10 * HOUR, [{ asn: '64500' }, { asn: '64501' }]);
    expect(after.exported).toEqual(['curl outbound AS64500 0h', 'curl outbound AS64501 10h']);
    after.scan(START + 10.5 * HOUR, []);
    expect(after.exported).toEqual(['curl outbound AS64501 10h']);
  });

  test('is ignored without a process and workload, and recorded for a workload without a process', () => {
    const node = new Node();
    node.scan(START, [
      { labels: owner(''), asn: '64500' },
      { labels: owner('', 'shop'), asn: '64500' },
    ]);
    expect(node.exported).toEqual(['shop outbound AS64500 0h']);
    expect(node.baselines).toEqual(['shop 0h']);
  });

  test('is shared by all pods and containers of an owner', () => {
    const node = new Node();
    node.scan(START, [{ labels: { ...CURL, pod: 'a' }, asn: '64500' }]);
    node.scan(START + HOUR, [{ labels: { ...CURL, pod: 'b' }, asn: '64500' }]);
    expect(node.exported).toEqual(['curl outbound AS64500 0h']);
  });

  test('does not change when the clock is set back, and is not exported as new', () => {
    const node = new Node();
    node.scan(START + DAY, [{ asn: '64500' }]);
    node.scan(START, []);
    expect(node.exported).toEqual([]);
    node.scan(START + 2 * DAY, [{ asn: '64500' }]);
    expect(node.exported).toEqual(['curl outbound AS64500 24h']);
  });

  test('is about the start of the process if the clock was far behind at start, unless the store has an earlier one', () => {
    const node = new Node();
    node.kept.fails = () => true;
    node.startedAt = 0;
    node.scan(1_000, [{ asn: '64500' }]);
    node.memory.defer('bucket', CURL, 'outbound', ADDRESS, 1_000);
    node.kept.fails = () => false;
    node.startedAt = START;
    node.memory.queueAll();
    node.memory.resolve('bucket', () => '64501');
    node.settle();
    expect([...node.kept.times.values()]).toEqual(new Array(3).fill(START - 300_000));
    node.scan(START + 2_000, [{ asn: '64500', at: 1_000 }, { asn: '64501' }]);
    expect(node.exported).toEqual([
      'curl outbound AS64500 -0.08333333333333333h',
      'curl outbound AS64501 -0.08333333333333333h',
    ]);

    const [restarted, known] = [new Node(node.kept), [...node.kept.times.keys()]];
    for (const key of known) node.kept.times.set(key, START - DAY);
    restarted.startedAt = START + DAY;
    restarted.scan(START + DAY, [{ asn: '64500', at: 1_000 }]);
    restarted.scan(START + DAY, [{ asn: '64500', at: 1_000 }]);
    expect(restarted.exported).toEqual(['curl outbound AS64500 -24h']);
    restarted.memory.queueAll();
    restarted.settle();
    expect([...node.kept.times.values()]).toEqual(new Array(3).fill(START - DAY));
  });

  test.each([
    { name: 'in the same run', restart: false },
    { name: 'after a restart', restart: true },
  ])('in the future is set to one hour ago when the clock was set back, $name, and is not new', ({ restart }) => {
    const kept = new EarliestTimes();
    const before = new Node(kept);
    before.scan(START + DAY, [{ asn: '64500' }]);
    const node = restart ? new Node(kept) : before;
    node.scan(START, [{ asn: '64500' }]);
    node.scan(START + 1, [{ asn: '64500' }]);
    expect(node.exported).toEqual(['curl outbound AS64500 -1h']);
    expect(node.baselines).toEqual(['curl -1h']);
    node.scan(START + 2, []);
    expect(node.exported).toEqual([]);
    expect([...kept.times.values()]).toEqual([START - HOUR, START - HOUR]);
  });

  test.each([
    { name: 'an existing connection', connections: [] },
    { name: 'a new connection', connections: [{ asn: '64500' }] },
  ])('in the future is set to one hour ago without a store: $name', ({ connections }) => {
    const { memory } = new Node();
    const scan = (now: number, opened: readonly { asn: string }[]): void => {
      memory.begin(now);
      for (const { asn } of opened) memory.record(CURL, 'outbound', asn, now);
      memory.markPresent(CURL, 'outbound', '64500');
      memory.end();
      memory.confirm(
        memory.takeSightings().map(({ key }) => ({ key, previous: null })),
        now,
      );
    };
    scan(START + DAY, [{ asn: '64500' }]);
    scan(START, connections);
    expect(memory.asns.map(({ at }) => at)).toEqual([START - HOUR]);
  });

  test('is replaced by the earlier time of a store that recovers, and is no longer new', () => {
    const kept = new EarliestTimes();
    new Node(kept).scan(START, [{ asn: '64500' }]);
    const node = new Node();
    node.scan(START + DAY, [{ asn: '64500' }]);
    expect(node.exported).toEqual(['curl outbound AS64500 24h']);
    node.memory.queueAll();
    node.memory.confirm(kept.answer(node.memory.takeSightings()), START + DAY);
    expect(node.exported).toEqual(['curl outbound AS64500 0h']);
    expect(node.baselines).toEqual(['curl 0h']);
    node.scan(START + DAY + 1, []);
    expect(node.exported).toEqual([]);
  });

  test.each([
    { name: 'fails for all keys', fails: () => true },
    { name: 'fails for keys that it does not have', fails: (key: string) => !key.includes('"64500"') },
  ])('is not exported next to a confirmed baseline while the store $name', ({ fails }) => {
    const kept = new EarliestTimes();
    new Node(kept).scan(START, [{ asn: '64500' }]);
    const node = new Node(kept);
    node.scan(START + DAY, [{ asn: '' }]);
    kept.fails = fails;
    node.scan(START + 2 * DAY, [{ asn: '64500' }, { asn: '64501' }]);
    expect(node.exported).toEqual(fails('"64500"') ? [] : ['curl outbound AS64500 0h']);
    expect(node.baselines).toEqual(['curl 0h']);
    kept.fails = () => false;
    node.memory.queueAll();
    node.settle();
    expect(node.exported).toEqual(['curl outbound AS64500 0h', 'curl outbound AS64501 48h']);
    node.scan(START + 2 * DAY + 1, []);
    expect(node.exported).toEqual(['curl outbound AS64501 48h']);
    node.scan(START + 2 * DAY + HOUR, []);
    expect(node.exported).toEqual([]);
  });

  test('is exported with its baseline if the store failed from the start', () => {
    const kept = new EarliestTimes();
    kept.fails = () => true;
    const node = new Node(kept);
    node.scan(START, [{ asn: '64500' }]);
    expect({ exported: node.exported, baselines: node.baselines }).toEqual({
      exported: ['curl outbound AS64500 0h'],
      baselines: ['curl 0h'],
    });
    node.scan(START + HOUR - 1, []);
    expect(node.exported).toEqual(['curl outbound AS64500 0h']);
    node.scan(START + HOUR, []);
    expect({ exported: node.exported, baselines: node.baselines }).toEqual({ exported: [], baselines: [] });
  });

  test('is never later than now when the clocks of a cluster differ, and is new only on the first node', () => {
    const kept = new EarliestTimes();
    new Node(kept).scan(START + 30_000, [{ asn: '64500' }]);
    const node = new Node(kept);
    node.scan(START, [{ asn: '64500' }]);
    expect(node.exported).toEqual(['curl outbound AS64500 0h']);
    node.scan(START + 1, []);
    expect(node.exported).toEqual([]);
  });

  test('of an outbound connection is not evicted by thousands of inbound ones', () => {
    const node = new Node();
    node.scan(START, [{ asn: '1' }]);
    const others = Array.from({ length: 3000 }, (_, i) => ({
      direction: 'inbound' as const,
      asn: String(70_000 + i),
    }));
    for (let i = 0; i < 3; i++) node.scan(START + HOUR, others.slice(i * 1000, (i + 1) * 1000));
    node.scan(START + 1.5 * HOUR, [{ asn: '1' }, { direction: 'inbound', asn: '72999' }]);
    expect(node.exported.slice(0, 1)).toEqual(['curl outbound AS1 0h']);
    expect(node.memory.asns.filter(({ direction }) => direction === 'inbound')).toHaveLength(1000);
  });

  test('is the earliest opening time of the connections that closed before the ASN was resolved, in any order', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(DAY), { minLength: 1, maxLength: 10 }), (opened) => {
        const node = new Node();
        node.scan(START + DAY, [{ asn: '' }]);
        for (const at of opened) node.memory.defer('1.1.1.0/24', CURL, 'outbound', ADDRESS, START + at);
        node.memory.resolve('1.1.1.0/24', () => '13335');
        node.settle();
        expect(node.memory.asns.map(({ at }) => at)).toEqual([START + Math.min(...opened)]);
      }),
    );
  });

  test('of a pending outbound connection is not evicted by pending inbound ones', () => {
    const node = new Node();
    node.scan(START, []);
    node.memory.defer('1.1.1.0/24', CURL, 'outbound', ADDRESS, START);
    for (let i = 0; i < 10_001; i++) node.memory.defer(`bucket ${i}`, CURL, 'inbound', ADDRESS, START);
    node.memory.resolve('1.1.1.0/24', () => '1');
    node.memory.resolve('bucket 0', () => '2');
    node.memory.resolve('bucket 10000', () => '3');
    node.settle();
    expect(node.exported).toEqual(['curl outbound AS1 0h', 'curl inbound AS3 0h']);
  });

  test('is evicted only by newer ones of the same owner and direction, least recently seen first', () => {
    const many = (prefix: string, count: number) => Array.from({ length: count }, (_, i) => ({ asn: `${prefix}${i}` }));
    const node = new Node();
    node.scan(START, [...many('1', 600), { labels: owner('sshd'), asn: '1' }]);
    node.scan(START + 1, many('2', 400));
    node.scan(START + 2, [...many('1', 300), ...many('3', 300)]);
    const digits = node.exported
      .filter((line) => line.startsWith('curl'))
      .map((line) => line.replace(/.*AS(.).*/, '$1'));
    expect(Object.groupBy(digits, (first) => first)).toMatchObject({
      1: { length: 300 },
      2: { length: 400 },
      3: { length: 300 },
    });
    expect(node.exported).toContain('sshd outbound AS1 0h');
  });

  test('is never evicted by another direction if the owner has few ASNs', { timeout: 60_000 }, () => {
    const flood = fc.record({
      owners: fc.integer({ min: 1, max: 25 }),
      each: fc.integer({ min: 1, max: 1100 }),
      direction: fc.constantFrom<Direction>('inbound', 'loopback'),
    });
    fc.assert(
      fc.property(fc.array(flood, { minLength: 1, maxLength: 2 }), (floods) => {
        const node = new Node();
        const few = [CURL, owner('', 'shop')].flatMap((labels) =>
          (['outbound', 'inbound'] as const).map((direction) => ({ labels, direction, asn: '1' })),
        );
        node.scan(START, few);
        for (const [round, { owners, each, direction }] of floods.entries()) {
          const others = Array.from({ length: owners * each }, (_, i) => ({
            labels: owner(`p${i % owners}`),
            direction,
            asn: `${round}${i}`,
          }));
          node.scan(START + round, others);
        }
        const exported = node.memory.asns;
        expect(exported.filter(({ asn }) => asn === '1')).toHaveLength(few.length);
        for (const direction of ['inbound', 'loopback'] as const)
          expect(exported.filter((entry) => entry.direction === direction).length).toBeLessThanOrEqual(20_000);
      }),
      { numRuns: 10 },
    );
  });

  test('is the earliest opening time over all scans and restarts, in any order', () => {
    const times = fc.array(fc.record({ asn: fc.constantFrom('1', '2', '3'), at: fc.nat(DAY) }), { minLength: 1 });
    fc.assert(
      fc.property(times, fc.nat(3), (connections, restarts) => {
        const kept = new EarliestTimes();
        let node = new Node(kept);
        for (const [i, { asn, at }] of connections.entries()) {
          if (restarts > 0 && i % restarts === 1) node = new Node(kept);
          node.scan(START + DAY, [{ asn, at: START + at }]);
        }
        node.scan(
          START + DAY,
          connections.map(({ asn }) => ({ asn })),
        );
        for (const { asn, at } of node.memory.asns)
          expect(at).toBe(
            START + Math.min(...connections.filter((connection) => connection.asn === asn).map((one) => one.at)),
          );
      }),
    );
  });

  test('is sent to the store again once a day while in use, and when the store lost its data', () => {
    const node = new Node();
    node.scan(START, [{ asn: '64500' }]);
    node.kept.times.clear();
    node.scan(START + HOUR, [{ asn: '64500' }]);
    expect(node.kept.times.size).toBe(0);
    node.scan(START + DAY, [{ asn: '64500' }]);
    const again = new Map(node.kept.times);
    expect([...again.values()]).toEqual([START, START]);
    node.kept.times.clear();
    node.memory.queueAll();
    node.settle();
    expect(node.kept.times).toEqual(again);
  });
});

describe('the baseline of an owner', () => {
  test('starts with the first socket of the owner, with or without a remote', () => {
    const node = new Node();
    node.scan(START, [{ asn: '', direction: 'listen' }]);
    node.scan(START + HOUR, [{ asn: '64500' }]);
    expect(node.baselines).toEqual(['curl 0h']);
  });

  test('is exported while the owner is present or has an exported ASN', () => {
    const node = new Node();
    node.scan(START, [{ asn: '64500' }, { labels: owner('sshd'), direction: 'listen', asn: '' }]);
    node.scan(START + HOUR - 1, []);
    expect(node.baselines).toEqual(['curl 0h']);
    node.scan(START + HOUR, []);
    expect(node.baselines).toEqual([]);
  });

  test('starts again after the owner was evicted by 5,000 others', () => {
    const node = new Node();
    node.scan(START, [{ asn: '64500' }]);
    node.scan(
      START + HOUR,
      Array.from({ length: 5000 }, (_, i) => ({ labels: owner(`p${i}`), asn: '' })),
    );
    node.kept.times.clear();
    node.scan(START + 2 * HOUR, [{ labels: { ...CURL }, asn: '64500' }]);
    node.scan(START + 4 * HOUR, [{ asn: '64500' }]);
    expect(node.baselines).toEqual(['curl 2h']);
    expect(node.exported).toEqual(['curl outbound AS64500 2h']);
  });
});
