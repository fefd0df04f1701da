import { expect, test } from 'vitest';
import { UnusualMemory, type UnusualOptions } from '../../src/unusual/memory.ts';
import type { Observation } from '../../src/unusual/observation.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = Date.parse('2026-11-20T08:00:00Z');
const WEB = { namespace: 'shop', workload: 'web' };
const OTHER = { namespace: 'dev', workload: 'other' };

type Owner = Observation['owner'];
const seen = (owner: Owner, fields: object): Observation => {
  const holder = { process: 'app', startedAt: null, containerStartedAt: null };
  // Each event reads only its own fields.
  return { owner, holder, at: START, transport: 'tcp', ...fields } as unknown as Observation;
};
const call = (owner: Owner, asn: number, port = 443): Observation =>
  seen(owner, { event: 'outbound', network: 'public', asn, port, peer: null });
const inside = (owner: Owner, peer: string): Observation =>
  seen(owner, { event: 'outbound', network: 'inside', asn: null, port: 80, peer });
const listen = (owner: Owner, port: number): Observation => seen(owner, { event: 'listen', port });

/** Scans at a time, and answers from a store that has nothing; returns how much it was asked. */
function scan(memory: UnusualMemory, at: number, observations: readonly Observation[]): number {
  memory.begin(at);
  for (const observation of observations) memory.observe({ ...observation, at });
  memory.end();
  const sightings = memory.takeSightings();
  memory.confirm(
    sightings.map(({ key }) => ({ key, previous: null })),
    at,
  );
  return sightings.length;
}

/** Workloads that called one operator for nine days. */
function learned(owners: readonly Owner[], options: Partial<UnusualOptions> = {}): UnusualMemory {
  const memory = new UnusualMemory({ isShared: true, ...options });
  memory.markComplete();
  for (let at = START - 9 * DAY; at <= START; at += DAY / 2)
    scan(
      memory,
      at,
      owners.map((owner) => call(owner, 64_500)),
    );
  return memory;
}

const from = (begin: number, length: number): number[] => Array.from({ length }, (_, index) => begin + index);
const reportsOf = (memory: UnusualMemory, { workload }: Owner): string[] =>
  memory.reports.filter(({ owner }) => owner.workload === workload).map(({ what, points }) => `${what} ${points}`);

test('a workload that listens on thousands of ports hides no report of another', () => {
  const memory = learned([WEB, OTHER]);
  scan(memory, START + HOUR, [call(WEB, 64_501)]);
  for (let minute = 0; minute < 60; minute++) {
    const ports = from(1 + minute * 400, 400).map((port) => listen(OTHER, port));
    scan(memory, START + HOUR + minute * MINUTE, ports);
  }
  expect(reportsOf(memory, WEB)).toEqual(['AS64501 2']);
  expect(reportsOf(memory, OTHER)).toHaveLength(10);
});

test('of too many reports of a kind, those with the most points stay', () => {
  const memory = learned([WEB]);
  const ports = from(1000, 20).map((port) => inside(WEB, `10.0.0.1:${port}`));
  const innerPorts = from(1000, 20).map((port) => ({ ...inside(WEB, ''), peer: null, port }) as Observation);
  scan(memory, START + HOUR, [...innerPorts, { ...inside(WEB, ''), peer: null, port: 22 } as Observation, ...ports]);
  const inner = memory.reports.filter(({ kind }) => kind === 'inner_port').map(({ what }) => what);
  expect(inner).toHaveLength(10);
  expect(inner).toContain('tcp/22');
});

test('a workload that meets thousands of things asks the store about 200 of each kind in an hour', () => {
  const memory = learned([WEB]);
  const asked = from(0, 60).map((minute) =>
    scan(
      memory,
      START + HOUR + minute * MINUTE,
      from(1, 1000).map((port) => call(WEB, 64_500, port + (minute % 2) * 1000)),
    ),
  );
  expect(asked[0]).toBeLessThanOrEqual(200);
  expect(asked.slice(1)).toEqual(from(0, 59).map(() => 0));
});

test('thousands of processes with names of their own evict nothing that is learned or decided', () => {
  const decided = { namespace: 'shop', workload: 'decided' };
  const memory = learned([WEB, OTHER]);
  memory.decide(decided, 'AS64501', true, START, 'alice');
  for (const minute of [1, 2, 3])
    scan(memory, START + HOUR + minute * MINUTE, [
      ...(minute === 2 ? [] : [call(WEB, 64_500)]),
      ...from(0, 6000).map((i) => listen({ namespace: '', workload: `x-${i}` }, 8080)),
    ]);
  expect(memory.size.workloads).toBe(5000);
  expect([WEB, OTHER].map((owner) => memory.isLearned(owner))).toEqual([true, true]);
  expect(memory.decisions.map(({ owner }) => owner.workload)).toEqual(['decided']);
});

test('processes that call thousands of peers once cost little memory, and hide no fan-out', () => {
  const memory = learned([WEB]);
  const peersOf = (run: number): number => {
    memory.markAllChanged();
    const record = memory.takeRecords().find(({ key }) => key === `workload:1:["","run-${run}"]`);
    const { busiest } = JSON.parse(record?.text ?? '{}') as { busiest: number[][] };
    return busiest[0]?.[2] ?? 0;
  };
  for (let run = 0; run < 20; run++)
    scan(memory, START + HOUR + run, [
      ...from(0, 10_000).map((i) => inside({ namespace: '', workload: `run-${run}` }, `10.0.${run}.${i}`)),
      inside(WEB, `10.1.0.${run}`),
    ]);
  expect(reportsOf(memory, WEB)).toContain('fan_out/peers 3');
  scan(memory, START + 2 * HOUR, []);
  // Each is a tenant of its own, which has at most as many of 100,000 as are left.
  const counted = from(0, 20).map(peersOf);
  expect(counted.reduce((sum, peers) => sum + peers)).toBeLessThanOrEqual(100_000);
  expect(counted.slice(0, 9)).toEqual(from(0, 9).map(() => 10_000));
});

test.each(['full', 'not asked'])('a suspect is told while the memory of operators is %s', (state) => {
  const memory = learned([WEB], { suspects: () => new Set(['AS65000']) });
  const operators = state === 'full' ? from(64_600, 300).map((asn) => call(WEB, asn)) : [];
  memory.begin(START + HOUR);
  for (const observation of [...operators, call(WEB, 65_000)]) memory.observe(observation);
  expect(reportsOf(memory, WEB)).toContain('AS65000 3');
});

test('a store that lost its data gets the reports again', () => {
  const memory = learned([WEB]);
  scan(memory, START + HOUR, [call(WEB, 64_501)]);
  memory.takeRecords();
  memory.markAllChanged();
  expect(memory.takeRecords().map(({ key }) => key)).toContain('report:1:["shop","web","operator","AS64501"]');
});

test('thousands of records of reports restore ten of a workload and kind', () => {
  const memory = learned([WEB]);
  const fields = { process: '', reach: 'none', points: 1, reason: '', at: START, recordedAt: START, node: '' };
  memory.merge(
    from(1, 2000).map((port) => ({
      key: `report:1:["shop","web","port","tcp/${port}"]`,
      text: JSON.stringify(fields),
    })),
    START,
  );
  expect(reportsOf(memory, WEB)).toHaveLength(10);
});

test.each([
  ['an hour', HOUR],
  ['a day', DAY],
])('a restart with a clock that was set back by %s keeps what was learned', (_, step) => {
  const before = learned([WEB]);
  before.markAllChanged();
  const now = START - step;
  const memory = new UnusualMemory({ isShared: true });
  memory.begin(now);
  memory.merge(before.takeRecords(), now);
  memory.markComplete();
  scan(memory, now, [call(WEB, 64_500), call(WEB, 64_501)]);
  expect(reportsOf(memory, WEB)).toEqual(['AS64501 2']);
});

test('a workload that was learned by a clock that was ahead is learned once the clock is right', () => {
  const memory = learned([WEB]);
  const now = START - 8.5 * DAY;
  scan(memory, now, [call(WEB, 64_500)]);
  scan(memory, now + MINUTE, [call(WEB, 64_501)]);
  expect(reportsOf(memory, WEB)).toEqual(['AS64501 2']);
});

test('a decision is written again each day, so that a full store keeps it', () => {
  const memory = learned([WEB]);
  memory.decide(WEB, 'AS64501', true, START, 'alice');
  const written = [MINUTE, DAY, DAY + HOUR, 89 * DAY, 91 * DAY].map((after) => {
    scan(memory, START + after, [call(WEB, 64_500)]);
    return memory.takeRecords().filter(({ key }) => key.startsWith('decision:')).length;
  });
  expect(written).toEqual([1, 1, 0, 1, 0]);
});

test('a decision of the store that is older than a known one is replaced there', () => {
  const [memory, other] = [learned([WEB]), learned([WEB])];
  memory.decide(WEB, 'AS64501', true, START - MINUTE, 'alice');
  const former = memory.takeRecords();
  other.decide(WEB, 'AS64501', false, START, 'bob');
  other.takeRecords();
  other.merge(former, START);
  expect(other.takeRecords().filter(({ key }) => key.startsWith('decision:'))).toEqual([
    { key: 'decision:1:["shop","web","AS64501"]', text: JSON.stringify([false, START, 'bob']) },
  ]);
});

test.each([MINUTE, HOUR, DAY])('a clock that is set back by %d ms ends no report', (step) => {
  const memory = learned([WEB]);
  scan(memory, START + HOUR, [call(WEB, 64_501)]);
  memory.markExported(memory.reports, START + HOUR);
  const shown = [MINUTE, HOUR - MINUTE, HOUR + MINUTE].map((after) => {
    scan(memory, START + HOUR - step + after, []);
    return reportsOf(memory, WEB).length;
  });
  expect(shown).toEqual([1, 1, 0]);
});

test('many workloads with many peers in an hour take no place in the counts of that hour from another namespace', () => {
  const memory = new UnusualMemory({ isShared: false });
  memory.begin(START);
  const peers = from(0, 1_000).map((peer) => `10.${peer >> 8}.${peer & 255}.1`);
  for (let owner = 0; owner < 120; owner++)
    for (const peer of peers) memory.observe(inside({ namespace: 'dev', workload: `crowd-${owner}` }, peer));
  for (const peer of peers.slice(0, 7)) memory.observe(inside(WEB, peer));
  memory.end();
  scan(memory, START + HOUR, [call(WEB, 64_500)]);
  const record = memory.takeRecords().find(({ key }) => key === 'workload:1:["shop","web"]');
  expect(record?.text).toContain(',0,7,0,');
});
