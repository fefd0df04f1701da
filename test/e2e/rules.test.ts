import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { RULE_FILES } from '../alert-rules.ts';
import { needPromtool } from './promtool.ts';

const FOLDER = new URL('../../deploy/prometheus/', import.meta.url).pathname;

const run = (promtool: string, ...args: string[]): { status: number | null; output: string } => {
  const { status, stdout, stderr } = spawnSync(promtool, args, { cwd: FOLDER, encoding: 'utf8' });
  return { status, output: stdout + stderr };
};

it('promtool finds nothing in the rules and in the scrape configuration', ({ skip }) => {
  const promtool = needPromtool(skip);
  const { status, output } = run(promtool, 'check', 'rules', '--lint-fatal', ...RULE_FILES);
  expect(status, output).toBe(0);
  const configuration = run(promtool, 'check', 'config', '--lint-fatal', 'prometheus.yml');
  expect(configuration.status, configuration.output).toBe(0);
});

it('every alert fires and stays silent as its tests say', { timeout: 600_000 }, ({ skip }) => {
  const { status, output } = run(needPromtool(skip), 'test', 'rules', 'peerscope.test.yml');
  expect(status, output).toBe(0);
});
