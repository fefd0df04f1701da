import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { RULE_FILES } from '../support/alert-rules.ts';

const AMTOOL = new URL('../../.cache/alertmanager/usr/bin/amtool', import.meta.url).pathname;
const FOLDER = new URL('../../deploy/prometheus/', import.meta.url).pathname;

const run = (command: string, cwd: string, ...args: string[]): { status: number | null; output: string } => {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  return { status, output: stdout + stderr };
};

describe.for([
  { release: '2.42', unpacked: '../../.cache/prometheus/usr/bin/promtool' },
  { release: 'the next Debian', unpacked: '../../.cache/promtool/trixie/usr/bin/promtool' },
  { release: 'Prometheus 3', unpacked: '../../.cache/promtool/forky/usr/bin/promtool' },
])('promtool of $release', ({ release, unpacked }) => {
  const promtool = new URL(unpacked, import.meta.url).pathname;
  const skipWithout = (skip: (note: string) => never): void => {
    if (existsSync(promtool)) return;
    process.stderr.write(`SKIPPED: promtool of ${release} is not in .cache; .ci/run fetches it\n`);
    skip('promtool is not installed');
  };

  it('accepts the rules and the scrape configuration', ({ skip }) => {
    skipWithout(skip);
    const { status, output } = run(promtool, FOLDER, 'check', 'rules', '--lint-fatal', ...RULE_FILES);
    expect(status, output).toBe(0);
    const configuration = run(promtool, FOLDER, 'check', 'config', '--lint-fatal', 'prometheus.yml');
    expect(configuration.status, configuration.output).toBe(0);
  });

  it('finds that every alert passes its tests', { timeout: 600_000 }, ({ skip }) => {
    skipWithout(skip);
    const { status, output } = run(promtool, FOLDER, 'test', 'rules', 'peerscope.test.yml', 'shard.test.yml');
    expect(status, output).toBe(0);
  });
});

const UNUSUAL = { alertname: 'PeerscopeUnusual', namespace: 'shop', workload: 'web' };

it.for<{ labels: Record<string, string>; receiver: string }>([
  { labels: { ...UNUSUAL, severity: 'critical' }, receiver: 'pages' },
  { labels: { ...UNUSUAL, severity: 'warning' }, receiver: 'warnings' },
  { labels: { ...UNUSUAL, severity: 'info' }, receiver: 'digest' },
  { labels: { alertname: 'PeerscopeNewOperatorForMany', severity: 'warning' }, receiver: 'warnings' },
  { labels: { alertname: 'PeerscopeStoreDown', severity: 'warning' }, receiver: 'warnings' },
  { labels: { alertname: 'PeerscopeEphemeralPortsRunningOut', severity: 'critical' }, receiver: 'pages' },
  { labels: { alertname: 'PeerscopeAsnBreakerOpen', severity: 'info' }, receiver: 'digest' },
])(
  'the example for Alertmanager sends $labels.alertname, $labels.severity, to $receiver',
  ({ labels, receiver }, { skip }) => {
    const amtool = ['amtool', AMTOOL].find((command) => !spawnSync(command, ['--version']).error);
    if (amtool === undefined) return skip('amtool is not installed');
    const given = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
    const { status, output } = run(
      amtool,
      FOLDER,
      'config',
      'routes',
      'test',
      '--config.file=../compose/alertmanager.yml',
      ...given,
    );
    expect({ status, receiver: output.split('\n')[0] }).toEqual({ status: 0, receiver });
  },
);
