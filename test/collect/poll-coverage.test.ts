import { describe, expect, test } from 'vitest';
import { PollCoverage } from '../../src/collect/poll-coverage.ts';

const MINUTE = 60_000;

describe('the coverage', () => {
  test.each<{ name: string; scans: [at: number, seen: number, opened: number][]; at: number; expected: number | null }>(
    [
      { name: 'is unknown before the first scan', scans: [], at: 0, expected: null },
      { name: 'is unknown when the kernel opened none', scans: [[0, 0, 0]], at: 0, expected: null },
      { name: 'is what was seen of what was opened', scans: [[0, 3, 4]], at: 0, expected: 0.75 },
      { name: 'is 0 when none was seen', scans: [[0, 0, 4]], at: 0, expected: 0 },
      {
        name: 'is at most 1, though a scan may see what the kernel counts after it',
        scans: [[0, 5, 4]],
        at: 0,
        expected: 1,
      },
      {
        name: 'is that of all scans of the last five minutes',
        scans: [
          [0, 1, 1],
          [MINUTE, 0, 3],
        ],
        at: 5 * MINUTE,
        expected: 0.25,
      },
      {
        name: 'forgets what is older',
        scans: [
          [0, 1, 1],
          [MINUTE, 0, 3],
        ],
        at: 5 * MINUTE + 1,
        expected: 0,
      },
      { name: 'is unknown again when all is older', scans: [[0, 1, 1]], at: 5 * MINUTE + 1, expected: null },
      {
        name: 'forgets what seems to lie in the future, after the clock was set back by an hour',
        scans: [
          [60 * MINUTE, 1, 1],
          [MINUTE, 1, 2],
        ],
        at: MINUTE,
        expected: 0.5,
      },
      {
        name: 'keeps what a clock that was set back by a minute left',
        scans: [
          [2 * MINUTE, 1, 1],
          [MINUTE, 0, 3],
        ],
        at: MINUTE,
        expected: 0.25,
      },
    ],
  )('$name', ({ scans, at, expected }) => {
    const coverage = new PollCoverage();
    for (const scan of scans) coverage.add(...scan);
    expect(coverage.ratio(at)).toBe(expected);
  });

  test('covers the scans of five minutes for any jump of the clock', () => {
    const coverage = new PollCoverage();
    for (let hour = 48; hour > 0; hour--) coverage.add(hour * 60 * MINUTE, 1, 1);
    coverage.add(30 * MINUTE, 0, 1);
    expect(coverage.ratio(30 * MINUTE)).toBe(0);
  });
});
