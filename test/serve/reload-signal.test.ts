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
  const signal = new ReloadSignal(() => void found.push(time.now()), time);
  for (let now = 0; now <= 6_000; now++) {
    if (atMs.includes(now)) signal.received();
    time.pass(1);
  }
  expect(found.map((at) => Math.floor(at / 100) * 100)).toEqual(reloads);
});

test('no reload follows close', () => {
  const time = new ManualTime();
  let reloads = 0;
  const signal = new ReloadSignal(() => reloads++, time);
  signal.received();
  signal.received();
  signal.close();
  time.pass(5_000);
  expect(reloads).toBe(1);
});
