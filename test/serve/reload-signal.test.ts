import { expect, test } from 'vitest';
import { ReloadSignal } from '../../src/serve/reload-signal.ts';
import { ManualTime } from '../support/manual-time.ts';

test.each<{ title: string; atMs: readonly number[]; reloads: readonly number[] }>([
  { title: 'one signal', atMs: [0], reloads: [0] },
  { title: 'signals far apart', atMs: [0, 1_500, 5_000], reloads: [0, 1_500, 5_000] },
  { title: 'two signals', atMs: [0, 400], reloads: [0, 1_000] },
  { title: 'a storm', atMs: Array.from({ length: 3_000 }, (_, i) => i), reloads: [0, 1_000, 2_000, 3_000] },
])('$title causes reloads at $reloads ms', ({ atMs, reloads }) => {
  const time = new ManualTime();
  const found: number[] = [];
  const signal = new ReloadSignal(time);
  signal.start(() => void found.push(time.now()));
  for (let now = 0; now <= 6_000; now++) {
    if (atMs.includes(now)) signal.received();
    time.pass(1);
  }
  signal.close();
  expect(found.map((at) => Math.floor(at / 100) * 100)).toEqual(reloads);
});

test('no reload follows close', () => {
  const time = new ManualTime();
  let reloads = 0;
  const signal = new ReloadSignal(time);
  signal.start(() => reloads++);
  signal.received();
  signal.received();
  signal.close();
  time.pass(5_000);
  expect(reloads).toBe(1);
});

test.each([
  { title: 'no signal', signals: 0, expected: 0 },
  { title: 'one signal', signals: 1, expected: 1 },
  { title: 'many signals', signals: 5, expected: 1 },
])('$title before the start causes $expected reloads at the start', ({ signals, expected }) => {
  const time = new ManualTime();
  let reloads = 0;
  const signal = new ReloadSignal(time);
  for (let i = 0; i < signals; i++) signal.received();
  expect(reloads).toBe(0);
  signal.start(() => reloads++);
  expect(reloads).toBe(expected);
  time.pass(5_000);
  signal.close();
  expect(reloads).toBe(expected);
});
