import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { stringify } from 'yaml';
import { evaluate } from '../../bench/insight/alerts.ts';
import { replay } from '../../bench/insight/replay.ts';
import { makeWorld } from '../../bench/insight/world.ts';
import { deployed } from '../support/alert-rules.ts';
import { needPromtool } from '../support/promtool.ts';

const STEP = 15;
const HOUR = 3600;

it('the benchmark evaluates the reports of a world like Prometheus', { timeout: 600_000 }, async ({ skip }) => {
  const promtool = needPromtool(skip);
  const world = makeWorld({ seed: 11, nodes: 30, days: 10, quietDays: 3, attacks: 32 });
  const { reports } = await replay(world, { events: false });
  const ofPods = reports.filter(({ workload }) => !workload.startsWith('/'));
  const tests = [...Map.groupBy(ofPods, ({ workload }) => workload)].slice(0, 12).map(([workload, own]) => {
    const start = Math.floor((own[0]?.at ?? 0) / STEP) * STEP - HOUR;
    const stepOf = (second: number): number => Math.floor((second - start) / STEP) + 1;
    const [namespace = '', name = ''] = workload.split('/');
    // An hour after the last report is enough.
    const near = own.filter(({ at }) => at - start < 3 * HOUR);
    const inputs = near.map(({ kind, what, points, at }) => ({
      series: `peerscope_novelty_timestamp_seconds{job="peerscope",instance="n1",namespace="${namespace}",workload="${name}",kind="${kind}",what="${what}",points="${points}"}`,
      values: `_x${stepOf(at)} 1x${HOUR / STEP - 1} stale`,
    }));
    const alerts = evaluate(near);
    const firing = (severity: string, second: number, count: number): object => ({
      expr: `count(ALERTS{alertname="PeerscopeUnusual",severity=~"${severity}"}) or vector(0)`,
      eval_time: `${second - start}s`,
      exp_samples: [{ labels: '{}', value: count }],
    });
    const expectations = alerts.flatMap(({ severity, at }) => {
      const severities = severity === 'warning' ? 'warning|critical' : 'critical';
      return [firing(severities, at - STEP, 0), firing(severities, at, 1)];
    });
    const quiet = firing('warning|critical', start + 5 * HOUR, 0);
    return { name: workload, interval: `${STEP}s`, input_series: inputs, promql_expr_test: [...expectations, quiet] };
  });
  expect(tests.flatMap(({ promql_expr_test }) => promql_expr_test).length).toBeGreaterThan(20);
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-unusual-'));
  try {
    const path = join(folder, 'unusual.test.yml');
    const { groups } = deployed('peerscope.rules.yml') as { groups: { name: string }[] };
    const rule_files = [join(folder, 'unusual.rules.yml')];
    writeFileSync(
      rule_files[0] ?? '',
      stringify({ groups: groups.filter(({ name }) => name === 'peerscope-unusual') }),
    );
    writeFileSync(path, stringify({ rule_files, evaluation_interval: `${STEP}s`, tests }));
    const { status, stdout, stderr } = spawnSync(promtool, ['test', 'rules', path], { encoding: 'utf8' });
    expect(status, stdout + stderr).toBe(0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
