import { expect, it } from 'vitest';
import { checkMetrics, needPromtool } from './promtool.ts';
it('x', ({ skip }) => {
  expect(checkMetrics(needPromtool(skip), '')).toBe(1);
});
