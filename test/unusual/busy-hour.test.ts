import { describe, expect, it } from 'vitest';
import { busyHour } from '../../src/unusual/busy-hour.ts';
import { DAY_MS, WorkloadMemory, type BusiestHour } from '../../src/unusual/workload-memory.ts';

const NOW = Date.parse('2026-09-15T08:00:00Z');
const MIB = 2 ** 20;
const QUIET = { operators: 0, peers: 0, bytes: 0 };

type Busiest = Partial<Omit<BusiestHour, 'reported'>> & { readonly isReported?: boolean };

/** A memory with a busiest hour on each of the days before. */
function memoryOf(hours: readonly Busiest[]): WorkloadMemory {
  const memory = new WorkloadMemory('shop', 'web', NOW - 40 * DAY_MS);
  const today = Math.floor(NOW / DAY_MS);
  hours.forEach(({ isReported = false, ...hour }, i) =>
    memory.mergeHour({
      ...QUIET,
      day: today - 1 - i,
      reported: new Set(isReported ? ['operators', 'peers', 'bytes'] : []),
      ...hour,
    }),
  );
  return memory;
}

describe('an hour is unusual', () => {
  it.each([
    { before: [], counts: { operators: 10 }, expected: [] },
    { before: [], counts: { operators: 11 }, expected: ['fan_out/operators 3'] },
    { before: [], counts: { peers: 10 }, expected: [] },
    { before: [], counts: { peers: 11 }, expected: ['fan_out/peers 3'] },
    { before: [{ operators: 5 }], counts: { operators: 15 }, expected: [] },
    { before: [{ operators: 5 }], counts: { operators: 16 }, expected: ['fan_out/operators 3'] },
    { before: [], counts: { bytes: 64 * MIB - 1 }, expected: [] },
    { before: [], counts: { bytes: 64 * MIB }, expected: ['volume/AS64500 2'] },
    { before: [{ bytes: 100 * MIB }], counts: { bytes: 400 * MIB - 1 }, expected: [] },
    { before: [{ bytes: 100 * MIB }], counts: { bytes: 400 * MIB }, expected: ['volume/AS64500 2'] },
    { before: [], counts: { bytes: 1024 * MIB - 1 }, expected: ['volume/AS64500 2'] },
    { before: [], counts: { bytes: 1024 * MIB }, expected: ['volume/AS64500 3'] },
    { before: [{ bytes: 100 * MIB }], counts: { bytes: 1600 * MIB - 1 }, expected: ['volume/AS64500 2'] },
    { before: [{ bytes: 100 * MIB }], counts: { bytes: 1600 * MIB }, expected: ['volume/AS64500 3'] },
    {
      before: [],
      counts: { operators: 11, peers: 11, bytes: 64 * MIB },
      expected: ['fan_out/operators 3', 'fan_out/peers 3', 'volume/AS64500 2'],
    },
  ])('after $before with $counts: $expected', ({ before, counts, expected }) => {
    const found = busyHour(memoryOf(before), { ...QUIET, ...counts }, 'AS64500', NOW);
    expect(found.map(({ what, points }) => `${what} ${points}`)).toEqual(expected);
  });
});

describe('what the hours before say', () => {
  it.each([
    { name: 'a reported hour does not hide the next one', before: [{ operators: 90, isReported: true }], expected: 1 },
    {
      name: 'an hour that was reported on two days is normal',
      before: [
        { operators: 90, isReported: true },
        { operators: 90, isReported: true },
      ],
      expected: 0,
    },
    { name: 'an hour that was not reported is normal', before: [{ operators: 90 }], expected: 0 },
  ])('$name', ({ before, expected }) => {
    expect(busyHour(memoryOf(before), { ...QUIET, operators: 20 }, undefined, NOW)).toHaveLength(expected);
  });

  it('an hour older than 32 days is forgotten', () => {
    const memory = memoryOf([]);
    const day = Math.floor(NOW / DAY_MS) - 33;
    memory.mergeHour({ ...QUIET, operators: 90, day, reported: new Set() });
    expect(busyHour(memory, { ...QUIET, operators: 20 }, undefined, NOW)).toHaveLength(1);
  });
});
