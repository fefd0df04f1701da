import { describe, expect, it } from 'vitest';
import { isCalm, isReleased, isRestless, lateness, newInHour } from '../../src/unusual/gates.ts';
import { DAY_MS, WorkloadMemory, type ThingKind } from '../../src/unusual/workload-memory.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const NOW = Date.parse('2026-09-15T08:00:00Z');

/** A memory, learned 30 days ago, that met one new thing of a kind at each of these ages. */
function memoryOf(kind: ThingKind, ages: readonly number[]): WorkloadMemory {
  const memory = new WorkloadMemory('shop', 'web', NOW - 40 * DAY_MS);
  memory.learnedAt = NOW - 30 * DAY_MS;
  ages.forEach((age, i) =>
    memory.setThing(kind, `thing ${i}`, { firstAt: NOW - age, recordedAt: NOW - age, lastAt: NOW - age }),
  );
  return memory;
}

describe('a workload is calm', () => {
  it.each<{ kind: ThingKind; days: number[]; expected: boolean }>([
    { kind: 'operator', days: [], expected: true },
    { kind: 'operator', days: [1, 2], expected: true },
    { kind: 'operator', days: [1, 2, 3], expected: false },
    { kind: 'port', days: [1], expected: true },
    { kind: 'port', days: [1, 2], expected: false },
    { kind: 'operator', days: [1, 2, 6.9], expected: false },
    { kind: 'operator', days: [1, 2, 7], expected: true },
    { kind: 'operator', days: [1, 1.01, 1.02, 2], expected: true },
  ])('for $kind, with new things $days days ago: $expected', ({ kind, days, expected }) => {
    expect(
      isCalm(
        memoryOf(
          kind,
          days.map((day) => day * DAY_MS),
        ),
        kind,
        NOW,
      ),
    ).toBe(expected);
  });

  it('the last hour does not count', () => {
    // Two occasions are too many for ports.
    expect(isCalm(memoryOf('port', [DAY_MS, HOUR]), 'port', NOW)).toBe(false);
    expect(isCalm(memoryOf('port', [DAY_MS, HOUR - 1]), 'port', NOW)).toBe(true);
  });

  it('the time of learning does not count', () => {
    const days = [4, 5, 6, 8, 9, 10].map((day) => day * DAY_MS);
    const memory = memoryOf('operator', days);
    expect([isCalm(memory, 'operator', NOW), isRestless(memory, 'operator', NOW)]).toEqual([false, true]);
    memory.learnedAt = NOW - 3 * DAY_MS;
    expect([isCalm(memory, 'operator', NOW), isRestless(memory, 'operator', NOW)]).toEqual([true, false]);
  });
});

it.each([
  { days: [8, 12, 16, 20], expected: false },
  { days: [8, 12, 16, 20, 24], expected: true },
  { days: [8, 12, 16, 20, 28], expected: false },
])('a workload with new things $days days ago is restless: $expected', ({ days, expected }) => {
  expect(
    isRestless(
      memoryOf(
        'operator',
        days.map((day) => day * DAY_MS),
      ),
      'operator',
      NOW,
    ),
  ).toBe(expected);
});

it.each([
  { ages: [], expected: 0 },
  { ages: [0, HOUR - 1], expected: 2 },
  { ages: [HOUR], expected: 0 },
])('things met $ages ms ago: $expected are new in the past hour', ({ ages, expected }) => {
  expect(newInHour(memoryOf('peer', ages), 'peer', NOW)).toBe(expected);
});

describe('a process is late', () => {
  it.each([
    { name: 'unknown start', startedAt: null, containerStartedAt: null, expected: null },
    { name: '10 min after its container', startedAt: NOW, containerStartedAt: NOW - 10 * MINUTE, expected: false },
    { name: 'later than that', startedAt: NOW, containerStartedAt: NOW - 10 * MINUTE - 1, expected: true },
    { name: 'long after the workload', startedAt: NOW, containerStartedAt: null, expected: true },
    {
      name: '10 min after the workload',
      startedAt: NOW - 40 * DAY_MS + 10 * MINUTE,
      containerStartedAt: null,
      expected: false,
    },
    { name: 'after a rollout', startedAt: NOW, containerStartedAt: null, releasedAt: NOW - HOUR, expected: false },
    {
      name: 'more than an hour after a rollout',
      startedAt: NOW,
      containerStartedAt: null,
      releasedAt: NOW - HOUR - 1,
      expected: true,
    },
  ])('$name: $expected', ({ startedAt, containerStartedAt, releasedAt = null, expected }) => {
    const memory = memoryOf('process', []);
    memory.releasedAt = releasedAt;
    expect(lateness(memory, NOW, { process: 'sh', startedAt, containerStartedAt })).toBe(expected);
  });
});

describe('a rollout explains', () => {
  it.each([
    { name: 'its own process', startedAt: NOW - 10 * MINUTE, releasedAt: NOW - 10 * MINUTE, expected: true },
    { name: 'an unknown process', startedAt: null, releasedAt: NOW, expected: true },
    { name: 'not an older process', startedAt: NOW - HOUR, releasedAt: NOW - 10 * MINUTE, expected: false },
    { name: 'not what happens an hour later', startedAt: NOW, releasedAt: NOW - HOUR - 1, expected: false },
    { name: 'nothing if there is none', startedAt: NOW, releasedAt: null, expected: false },
  ])('$name: $expected', ({ startedAt, releasedAt, expected }) => {
    const memory = memoryOf('process', []);
    memory.releasedAt = releasedAt;
    expect(isReleased(memory, NOW, { process: 'web', startedAt, containerStartedAt: null })).toBe(expected);
  });
});
