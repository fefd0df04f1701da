import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { deployed, RULE_FILES } from '../support/alert-rules.ts';
import { ROOT } from '../support/manifests.ts';

const RULES = join(ROOT, 'deploy/prometheus');
const DASHBOARDS = join(ROOT, 'grafana/dashboards');

/** Finds a checker where .ci/run or .ci/tools put it; where it is not, says so and skips the test whose `skip` this is. */
function need(folder: string, name: string, skip: (note: string) => never): string {
  const path = join(ROOT, '.cache', folder, name);
  if (existsSync(path)) return path;
  process.stderr.write(`SKIPPED: ${name} is not in .cache/${folder}; .ci/run fetches or builds it\n`);
  return skip(`${name} is not installed`);
}

function check(program: string, args: readonly string[], cwd: string): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd, encoding: 'utf8', maxBuffer: 1 << 26 });
  return { status, output: stdout + stderr };
}

describe('vmalert', () => {
  it('accepts the rules', ({ skip }) => {
    const vmalert = need('victoria-metrics/usr/bin', 'vmalert', skip);
    const { status, output } = check(vmalert, ['-dryRun', ...RULE_FILES.map((name) => `-rule=${name}`)], RULES);
    expect(status, output).toBe(0);
  });

  // The tests of promtool, in the words of vmalert-tool. VictoriaMetrics adds the name of the group to ALERTS.
  it.for(['peerscope.test.yml', 'shard.test.yml'])('passes %s', { timeout: 900_000 }, (name, { skip }) => {
    const tool = need('victoria-metrics/usr/bin', 'vmalert-tool', skip);
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-vmalert-'));
    try {
      for (const file of RULE_FILES) copyFileSync(join(RULES, file), join(folder, file));
      const { tests, ...settings } = deployed(name) as {
        tests: { promql_expr_test?: { expr: string }[] }[];
      };
      const translated = tests.map(({ promql_expr_test = [], ...rest }) => ({
        ...rest,
        metricsql_expr_test: promql_expr_test.map((one) => ({ ...one, expr: `label_del(${one.expr}, "alertgroup")` })),
      }));
      writeFileSync(join(folder, name), stringify({ ...settings, tests: translated }));
      const { status, output } = check(tool, ['unittest', '--disableAlertgroupLabel', `--files=${name}`], folder);
      expect(status, output).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('pint', () => {
  const args = ['--offline', '--no-color', '--config=.pint.hcl', 'lint', '--min-severity=info', '--fail-on=info'];

  it('finds nothing in the rules', ({ skip }) => {
    const { status, output } = check(need('tools', 'pint', skip), [...args, ...RULE_FILES], RULES);
    expect(status, output).toBe(0);
  });

  it('would find an alert without a condition, and a sum over clusters', ({ skip }) => {
    const pint = need('tools', 'pint', skip);
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-pint-'));
    try {
      copyFileSync(join(RULES, '.pint.hcl'), join(folder, '.pint.hcl'));
      const rules = [
        { alert: 'A', expr: 'a' },
        { record: 'b', expr: 'sum by (job) (a)' },
      ];
      writeFileSync(join(folder, 'a.yml'), stringify({ groups: [{ name: 'a', rules }] }));
      const { status, output } = check(pint, [...args, 'a.yml'], folder);
      expect(status).toBe(1);
      for (const name of ['alerts/comparison', 'alerts/annotation', 'promql/aggregate']) expect(output).toContain(name);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

// grafana/.lint has the exceptions, each with its reason.
describe('dashboard-linter', () => {
  it.for(readdirSync(DASHBOARDS).filter((name) => name.endsWith('.json')))('finds nothing in %s', (name, { skip }) => {
    const linter = need('tools', 'dashboard-linter', skip);
    const { status, output } = check(linter, ['lint', '--strict', '--config=../.lint', name], DASHBOARDS);
    expect(status, output).toBe(0);
  });
});
