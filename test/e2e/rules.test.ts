import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { RULE_FILES } from '../support/alert-rules.ts';
import { needPromtool } from '../support/promtool.ts';

const FOLDER = new URL('../../deploy/prometheus/', import.meta.url).pathname;

const run = (promtool: string, cwd: string, ...args: string[]): { status: number | null; output: string } => {
  const { status, stdout, stderr } = spawnSync(promtool, args, { cwd, encoding: 'utf8' });
  return { status, output: stdout + stderr };
};

it('promtool accepts the rules and the scrape configuration', ({ skip }) => {
  const promtool = needPromtool(skip);
  const { status, output } = run(promtool, FOLDER, 'check', 'rules', '--lint-fatal', ...RULE_FILES);
  expect(status, output).toBe(0);
  const configuration = run(promtool, FOLDER, 'check', 'config', '--lint-fatal', 'prometheus.yml');
  expect(configuration.status, configuration.output).toBe(0);
});

it('every alert passes its tests', { timeout: 600_000 }, ({ skip }) => {
  const { status, output } = run(needPromtool(skip), FOLDER, 'test', 'rules', 'peerscope.test.yml');
  expect(status, output).toBe(0);
});
