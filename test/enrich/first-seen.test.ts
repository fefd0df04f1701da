import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseAddress } from '../../src/address.ts';
import { FirstSeenMemory, type Sighting } from '../../src/enrich/first-seen.ts';
import type { Direction, OwnerLabels } from '../../src/model.ts';

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
class Kept {
  readonly times = new Map<string, number>();

  answer(sightings: readonly Sighting[]): Sighting[] {
    return sightings.map(({ key, at }) => {
      const kept = Math.min(at, this.times.get(key) ?? at);
      this.times.set(key, kept);
      return { key, at: kept };
    });
  }
}

/** A memory with its store, as a scan uses it. */
class Node {
  readonly memory = new FirstSeenMemory('node');
  readonly kept: Kept;

  constructor(kept = new Kept()) {
    this.kept = kept;
  }

  /** One scan that sees these connections, at a time; then the store answers. */
  scan(
    now: number,
    connections: readonly { labels?: OwnerLabels; direction?: Direction; asn: string; at?: number }[],
  ): void {
    this.memory.begin(now);
    for (const { labels = CURL, direction = 'outbound', asn, at = now } of connections) {
      if (asn !== '') this.memory.meet(labels, direction, asn, at);
      this.memory.present(labels, direction, asn);
    }
    this.settle();
  }

  settle(): void {
    this.memory.confirm(this.kept.answer(this.memory.takeReports()));
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
    memory.confirm([{ key: memory.takeReports().at(-1)?.key ?? '', at: START - DAY }]);
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
    const kept = new Kept();
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

  test('is never ahead of the clock', () => {
    const node = new Node();
    node.scan(START + DAY, [{ asn: '64500' }]);
    node.scan(START, [{ asn: '64500' }]);
    node.scan(START + HOUR, [{ asn: '64500' }]);
    expect(node.told).toEqual(['curl outbound AS64500 0h']);
    expect([...node.kept.times.values()].every((at) => at <= START + HOUR)).toBe(true);
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

  test('is the earliest of all that were told, in whatever order they come', () => {
    const times = fc.array(fc.record({ asn: fc.constantFrom('1', '2', '3'), at: fc.nat(DAY) }), { minLength: 1 });
    fc.assert(
      fc.property(times, fc.nat(3), (meetings, restarts) => {
        const kept = new Kept();
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
    node.scan(START + 2 * HOUR, [{ asn: '64500' }]);
    expect(node.baselines).toEqual(['curl 2h']);
    expect(node.told).toEqual(['curl outbound AS64500 2h']);
  });
});
