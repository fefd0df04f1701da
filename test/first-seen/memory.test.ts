import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseAddress } from '../../src/common/address.ts';
import { FirstSeenMemory } from '../../src/first-seen/memory.ts';
import type { Direction, OwnerLabels } from '../../src/model.ts';
import type { Kept, Sighting } from '../../src/store/contract.ts';

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

/** A store that knows nothing but what it is told. */
class Shelves {
  readonly times = new Map<string, number>();
  /** Says of which keys it fails. */
  fails: (key: string) => boolean = () => false;

  answer(sightings: readonly Sighting[]): Kept[] {
    return sightings.map(({ key, at }) => {
      if (this.fails(key)) return { key, before: 'unknown' };
      const before = this.times.get(key) ?? null;
      this.times.set(key, Math.min(at, before ?? at));
      return { key, before };
    });
  }
}

/** A memory with its store, as a scan uses it. */
class Node {
  readonly memory = new FirstSeenMemory('node', () => this.startedAt);
  startedAt = -Infinity;
  readonly kept: Shelves;
  #now = 0;

  constructor(kept = new Shelves()) {
    this.kept = kept;
  }

  /** One scan that sees these connections, at a time; then the store answers. */
  scan(
    now: number,
    connections: readonly { labels?: OwnerLabels; direction?: Direction; asn: string; at?: number }[],
  ): void {
    this.#now = now;
    this.memory.begin(now);
    for (const { labels = CURL, direction = 'outbound', asn, at = now } of connections)
      if (asn !== '') this.memory.meet(labels, direction, asn, at);
    for (const { labels = CURL, direction = 'outbound', asn } of connections)
      this.memory.present(labels, direction, asn);
    this.memory.end();
    this.settle();
  }

  settle(): void {
    for (let told = this.memory.takeReports(); told.length > 0; told = this.memory.takeReports())
      this.memory.confirm(this.kept.answer(told), this.#now);
  }

  get told(): string[] {
    return this.memory.meetings.map(
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

describe('the first time that an owner met a network operator', () => {
  test('is the time at which the connection opened, and is told while it is there', () => {
    const node = new Node();
    node.scan(START + HOUR, [{ asn: '64500', at: START }]);
    expect(node.told).toEqual(['curl outbound AS64500 0h']);
    node.scan(START + 30 * HOUR, [{ asn: '64500' }]);
    expect(node.told).toEqual(['curl outbound AS64500 0h']);
  });

  test('is told for one hour after it was new, though the connection is gone, and not longer', () => {
    const node = new Node();
    node.scan(START, [{ asn: '64500' }]);
    node.scan(START + HOUR - 1, []);
    expect(node.told).toEqual(['curl outbound AS64500 0h']);
    node.scan(START + HOUR, []);
    expect(node.told).toEqual([]);
  });

  test('is not told before the store has said whether it knew it', () => {
    const { memory } = new Node();
    memory.begin(START);
    memory.meet(CURL, 'outbound', '64500', START);
    memory.present(CURL, 'outbound', '64500');
    expect(memory.meetings).toEqual([]);
    memory.confirm([{ key: memory.takeReports().at(-1)?.key ?? '', before: START - DAY }], START);
    expect(memory.meetings.map(({ at }) => at)).toEqual([START - DAY]);
  });

  test('is that of the connection when the answer comes after it closed, and is told for an hour from then', () => {
    const node = new Node();
    node.scan(START, [{ asn: '' }]);
    node.memory.wait('1.1.1.0/24', CURL, 'outbound', ADDRESS, START);
    node.scan(START + 2 * HOUR, []);
    expect(node.told).toEqual([]);
    node.memory.answered('1.1.1.0/24', () => '13335');
    node.settle();
    expect(node.told).toEqual(['curl outbound AS13335 0h']);
    node.scan(START + 3 * HOUR - 1, []);
    expect(node.told).toEqual(['curl outbound AS13335 0h']);
  });

  test('waits on while an answer does not say', () => {
    const node = new Node();
    node.scan(START, []);
    node.memory.wait('1.1.1.0/24', CURL, 'outbound', ADDRESS, START);
    node.memory.answered('1.1.1.0/24', () => null);
    node.memory.answered('1.1.1.0/24', () => '13335');
    node.settle();
    expect(node.told).toEqual(['curl outbound AS13335 0h']);
  });

  test('survives a restart: what the store knows is not new, and is told only while it is there', () => {
    const kept = new Shelves();
    new Node(kept).scan(START, [{ asn: '64500' }]);
    const after = new Node(kept);
    after.scan(START + 10 * HOUR, [{ asn: '64500' }, { asn: '64501' }]);
    expect(after.told).toEqual(['curl outbound AS64500 0h', 'curl outbound AS64501 10h']);
    after.scan(START + 10.5 * HOUR, []);
    expect(after.told).toEqual(['curl outbound AS64501 10h']);
  });

  test('is not remembered of nobody, but of a workload whose process is not known', () => {
    const node = new Node();
    node.scan(START, [
      { labels: owner(''), asn: '64500' },
      { labels: owner('', 'shop'), asn: '64500' },
    ]);
    expect(node.told).toEqual(['shop outbound AS64500 0h']);
    expect(node.baselines).toEqual(['shop 0h']);
  });

  test('is one for all pods and containers of an owner', () => {
    const node = new Node();
    node.scan(START, [{ labels: { ...CURL, pod: 'a' }, asn: '64500' }]);
    node.scan(START + HOUR, [{ labels: { ...CURL, pod: 'b' }, asn: '64500' }]);
    expect(node.told).toEqual(['curl outbound AS64500 0h']);
  });

  test('stays when the clock is set back, and is not told for a day because of it', () => {
    const node = new Node();
    node.scan(START + DAY, [{ asn: '64500' }]);
    node.scan(START, []);
    expect(node.told).toEqual([]);
    node.scan(START + 2 * DAY, [{ asn: '64500' }]);
    expect(node.told).toEqual(['curl outbound AS64500 24h']);
  });

  test('is about the start of the process where the clock was decades behind then, and an earlier one that is known stays', () => {
    const node = new Node();
    node.kept.fails = () => true;
    node.startedAt = 0;
    node.scan(1_000, [{ asn: '64500' }]);
    node.memory.wait('bucket', CURL, 'outbound', ADDRESS, 1_000);
    node.kept.fails = () => false;
    node.startedAt = START;
    node.memory.reportAll();
    node.memory.answered('bucket', () => '64501');
    node.settle();
    expect([...node.kept.times.values()]).toEqual(new Array(3).fill(START - 300_000));
    node.scan(START + 2_000, [{ asn: '64500', at: 1_000 }, { asn: '64501' }]);
    expect(node.told).toEqual([
      'curl outbound AS64500 -0.08333333333333333h',
      'curl outbound AS64501 -0.08333333333333333h',
    ]);

    const [restarted, known] = [new Node(node.kept), [...node.kept.times.keys()]];
    for (const key of known) node.kept.times.set(key, START - DAY);
    restarted.startedAt = START + DAY;
    restarted.scan(START + DAY, [{ asn: '64500', at: 1_000 }]);
    restarted.scan(START + DAY, [{ asn: '64500', at: 1_000 }]);
    expect(restarted.told).toEqual(['curl outbound AS64500 -24h']);
    restarted.memory.reportAll();
    restarted.settle();
    expect([...node.kept.times.values()]).toEqual(new Array(3).fill(START - DAY));
  });

  test.each([
    { name: 'in the same run', restart: false },
    { name: 'over a restart', restart: true },
  ])('comes down to an hour ago when the clock was set back, $name: it lies before now, and is not new', (given) => {
    const kept = new Shelves();
    const before = new Node(kept);
    before.scan(START + DAY, [{ asn: '64500' }]);
    const node = given.restart ? new Node(kept) : before;
    node.scan(START, [{ asn: '64500' }]);
    node.scan(START + 1, [{ asn: '64500' }]);
    expect(node.told).toEqual(['curl outbound AS64500 -1h']);
    expect(node.baselines).toEqual(['curl -1h']);
    node.scan(START + 2, []);
    expect(node.told).toEqual([]);
    expect([...kept.times.values()]).toEqual([START - HOUR, START - HOUR]);
  });

  test.each([
    { name: 'a connection that was there', connections: [] },
    { name: 'a new connection', connections: [{ asn: '64500' }] },
  ])('comes down to an hour ago without a store, too: $name', ({ connections }) => {
    const { memory } = new Node();
    const scan = (now: number, met: readonly { asn: string }[]): void => {
      memory.begin(now);
      for (const { asn } of met) memory.meet(CURL, 'outbound', asn, now);
      memory.present(CURL, 'outbound', '64500');
      memory.end();
      memory.confirm(
        memory.takeReports().map(({ key }) => ({ key, before: null })),
        now,
      );
    };
    scan(START + DAY, [{ asn: '64500' }]);
    scan(START, connections);
    expect(memory.meetings.map(({ at }) => at)).toEqual([START - HOUR]);
  });

  test('is corrected when a store that was away knew better, and is new no more', () => {
    const kept = new Shelves();
    new Node(kept).scan(START, [{ asn: '64500' }]);
    const node = new Node();
    node.scan(START + DAY, [{ asn: '64500' }]);
    expect(node.told).toEqual(['curl outbound AS64500 24h']);
    node.memory.reportAll();
    node.memory.confirm(kept.answer(node.memory.takeReports()), START + DAY);
    expect(node.told).toEqual(['curl outbound AS64500 0h']);
    expect(node.baselines).toEqual(['curl 0h']);
    node.scan(START + DAY + 1, []);
    expect(node.told).toEqual([]);
  });

  test.each([
    { name: 'failed for all', fails: () => true },
    { name: 'failed for what it does not know', fails: (key: string) => !key.includes('"64500"') },
  ])('is not told beside a baseline of old while the store $name', ({ fails }) => {
    const kept = new Shelves();
    new Node(kept).scan(START, [{ asn: '64500' }]);
    const node = new Node(kept);
    node.scan(START + DAY, [{ asn: '' }]);
    kept.fails = fails;
    node.scan(START + 2 * DAY, [{ asn: '64500' }, { asn: '64501' }]);
    expect(node.told).toEqual(fails('"64500"') ? [] : ['curl outbound AS64500 0h']);
    expect(node.baselines).toEqual(['curl 0h']);
    kept.fails = () => false;
    node.memory.reportAll();
    node.settle();
    expect(node.told).toEqual(['curl outbound AS64500 0h', 'curl outbound AS64501 48h']);
    node.scan(START + 2 * DAY + 1, []);
    expect(node.told).toEqual(['curl outbound AS64501 48h']);
    node.scan(START + 2 * DAY + HOUR, []);
    expect(node.told).toEqual([]);
  });

  test('is told from a start without the store, with a baseline that says since when', () => {
    const kept = new Shelves();
    kept.fails = () => true;
    const node = new Node(kept);
    node.scan(START, [{ asn: '64500' }]);
    expect({ told: node.told, baselines: node.baselines }).toEqual({
      told: ['curl outbound AS64500 0h'],
      baselines: ['curl 0h'],
    });
    node.scan(START + HOUR - 1, []);
    expect(node.told).toEqual(['curl outbound AS64500 0h']);
    node.scan(START + HOUR, []);
    expect({ told: node.told, baselines: node.baselines }).toEqual({ told: [], baselines: [] });
  });

  test('is now at most, where the clocks of a cluster differ by seconds, and new to the first alone', () => {
    const kept = new Shelves();
    new Node(kept).scan(START + 30_000, [{ asn: '64500' }]);
    const node = new Node(kept);
    node.scan(START, [{ asn: '64500' }]);
    expect(node.told).toEqual(['curl outbound AS64500 0h']);
    node.scan(START + 1, []);
    expect(node.told).toEqual([]);
  });

  test('of outbound connections is not lost to a thousand strangers who come in', () => {
    const node = new Node();
    node.scan(START, [{ asn: '1' }]);
    const strangers = Array.from({ length: 3000 }, (_, i) => ({
      direction: 'inbound' as const,
      asn: String(70_000 + i),
    }));
    for (let i = 0; i < 3; i++) node.scan(START + HOUR, strangers.slice(i * 1000, (i + 1) * 1000));
    node.scan(START + 1.5 * HOUR, [{ asn: '1' }, { direction: 'inbound', asn: '72999' }]);
    expect(node.told.slice(0, 1)).toEqual(['curl outbound AS1 0h']);
    expect(node.memory.meetings.filter(({ direction }) => direction === 'inbound')).toHaveLength(1000);
  });

  test('is the earliest of the connections that closed before the answer, in whatever order they closed', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(DAY), { minLength: 1, maxLength: 10 }), (opened) => {
        const node = new Node();
        node.scan(START + DAY, [{ asn: '' }]);
        for (const at of opened) node.memory.wait('1.1.1.0/24', CURL, 'outbound', ADDRESS, START + at);
        node.memory.answered('1.1.1.0/24', () => '13335');
        node.settle();
        expect(node.memory.meetings.map(({ at }) => at)).toEqual([START + Math.min(...opened)]);
      }),
    );
  });

  test('of an outbound call that waits for its answer is not lost to strangers whose calls wait too', () => {
    const node = new Node();
    node.scan(START, []);
    node.memory.wait('1.1.1.0/24', CURL, 'outbound', ADDRESS, START);
    for (let i = 0; i < 10_001; i++) node.memory.wait(`bucket ${i}`, CURL, 'inbound', ADDRESS, START);
    node.memory.answered('1.1.1.0/24', () => '1');
    node.memory.answered('bucket 0', () => '2');
    node.memory.answered('bucket 10000', () => '3');
    node.settle();
    expect(node.told).toEqual(['curl outbound AS1 0h', 'curl inbound AS3 0h']);
  });

  test('is lost to newer ones of the same owner and direction alone, those seen least recently first', () => {
    const many = (prefix: string, count: number) => Array.from({ length: count }, (_, i) => ({ asn: `${prefix}${i}` }));
    const node = new Node();
    node.scan(START, [...many('1', 600), { labels: owner('sshd'), asn: '1' }]);
    node.scan(START + 1, many('2', 400));
    node.scan(START + 2, [...many('1', 300), ...many('3', 300)]);
    const told = node.told.filter((line) => line.startsWith('curl')).map((line) => line.replace(/.*AS(.).*/, '$1'));
    expect(Object.groupBy(told, (first) => first)).toMatchObject({
      1: { length: 300 },
      2: { length: 400 },
      3: { length: 300 },
    });
    expect(node.told).toContain('sshd outbound AS1 0h');
  });

  test('is lost to nothing that another direction or an owner with few operators brings', { timeout: 60_000 }, () => {
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
          const strangers = Array.from({ length: owners * each }, (_, i) => ({
            labels: owner(`p${i % owners}`),
            direction,
            asn: `${round}${i}`,
          }));
          node.scan(START + round, strangers);
        }
        const told = node.memory.meetings;
        expect(told.filter(({ asn }) => asn === '1')).toHaveLength(few.length);
        for (const direction of ['inbound', 'loopback'] as const)
          expect(told.filter((meeting) => meeting.direction === direction).length).toBeLessThanOrEqual(20_000);
      }),
      { numRuns: 10 },
    );
  });

  test('is the earliest of all that were told, in whatever order they come', () => {
    const times = fc.array(fc.record({ asn: fc.constantFrom('1', '2', '3'), at: fc.nat(DAY) }), { minLength: 1 });
    fc.assert(
      fc.property(times, fc.nat(3), (meetings, restarts) => {
        const kept = new Shelves();
        let node = new Node(kept);
        for (const [i, { asn, at }] of meetings.entries()) {
          if (restarts > 0 && i % restarts === 1) node = new Node(kept);
          node.scan(START + DAY, [{ asn, at: START + at }]);
        }
        node.scan(
          START + DAY,
          meetings.map(({ asn }) => ({ asn })),
        );
        for (const { asn, at } of node.memory.meetings)
          expect(at).toBe(START + Math.min(...meetings.filter((meeting) => meeting.asn === asn).map((one) => one.at)));
      }),
    );
  });

  test('is told to the store again each day that it is in use, and all of it when the store lost it', () => {
    const node = new Node();
    node.scan(START, [{ asn: '64500' }]);
    node.kept.times.clear();
    node.scan(START + HOUR, [{ asn: '64500' }]);
    expect(node.kept.times.size).toBe(0);
    node.scan(START + DAY, [{ asn: '64500' }]);
    const again = new Map(node.kept.times);
    expect([...again.values()]).toEqual([START, START]);
    node.kept.times.clear();
    node.memory.reportAll();
    node.settle();
    expect(node.kept.times).toEqual(again);
  });
});

describe('the baseline of an owner', () => {
  test('begins when its first socket is seen, with or without a remote', () => {
    const node = new Node();
    node.scan(START, [{ asn: '', direction: 'listen' }]);
    node.scan(START + HOUR, [{ asn: '64500' }]);
    expect(node.baselines).toEqual(['curl 0h']);
  });

  test('is told while the owner is there or something of it is', () => {
    const node = new Node();
    node.scan(START, [{ asn: '64500' }, { labels: owner('sshd'), direction: 'listen', asn: '' }]);
    node.scan(START + HOUR - 1, []);
    expect(node.baselines).toEqual(['curl 0h']);
    node.scan(START + HOUR, []);
    expect(node.baselines).toEqual([]);
  });

  test('begins anew for an owner that 5,000 later ones pushed out', () => {
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
    expect(node.told).toEqual(['curl outbound AS64500 2h']);
  });
});
