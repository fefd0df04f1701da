import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { deployed, RULE_FILES } from '../support/alert-rules.ts';
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

// promtool evaluates every group at each step and has no gaps. So the series of the hourly group are inputs here, as a Prometheus
// holds them that ran for a day, was down, and evaluated that group half an hour after its start.
describe('a Prometheus that was down', () => {
  const STEPS_PER_HOUR = 12;
  const UP = 24;
  const AFTER = 4;
  const shop = (workload: string): string => `job="peerscope",namespace="shop",workload="${workload}"`;
  const host = 'job="peerscope",instance="a"';

  /** The values of a series by steps of five minutes, `_` where there is none. */
  const values = (hours: number, at: (step: number) => number | null): string =>
    Array.from({ length: hours * STEPS_PER_HOUR }, (_, step) => at(step) ?? '_').join(' ');

  const inputs = (gap: number): { series: string; values: string }[] => {
    const hours = UP + gap + AFTER;
    const [down, up] = [UP * STEPS_PER_HOUR, (UP + gap) * STEPS_PER_HOUR];
    const isUp = (step: number): boolean => step < down || step >= up;
    const present = (series: string, value: number, from = 0): { series: string; values: string } => ({
      series,
      values: values(hours, (step) => (isUp(step) && step >= from ? value : null)),
    });
    const known = (series: string, value = 1): { series: string; values: string } => ({
      series,
      values: values(hours, (step) => (isUp(step) && (step - up - 6) % STEPS_PER_HOUR === 0 ? value : null)),
    });
    const start = up * 300;
    return [
      // Owners, and what they do before the gap as after it.
      ...['api', 'crawler'].flatMap((name) => [
        known(`peerscope:owner:known{${shop(name)},process="${name}"}`),
        known(`peerscope:place:known{${shop(name)}}`),
        present(`peerscope_baseline_start_timestamp_seconds{instance="a",${shop(name)},process="${name}"}`, -1e6),
        known(`peerscope:open_listener:known{${shop(name)},local_port="8080"}`),
        present(
          `peerscope_listener_accept_queue{instance="a",${shop(name)},process="${name}",local_address="::",local_port="8080"}`,
          0,
        ),
      ]),
      known(`peerscope:owner:known{${host},workload="web.service",process="nginx"}`),
      known(`peerscope:place:known{${host}}`),
      present(`peerscope_baseline_start_timestamp_seconds{${host},workload="web.service",process="nginx"}`, -1e6),
      known(`peerscope:open_listener:known{${host},workload="web.service",local_port="443"}`),
      present(
        `peerscope_listener_accept_queue{${host},workload="web.service",process="nginx",local_address="0.0.0.0",local_port="443"}`,
        0,
      ),
      ...[`instance="a",${shop('api')},process="api"`, `${host},workload="web.service",process="nginx"`].map((owner) =>
        present(`peerscope_asn_connections{${owner},direction="outbound",network="cloud_metadata",asn=""}`, 1),
      ),
      known(`peerscope:metadata_calls:known{${shop('api')},process="api"}`),
      known(`peerscope:metadata_calls:known{${host},workload="web.service",process="nginx"}`),
      // Its pod moved to another node, whose exporter has not met the operator before.
      known(`peerscope:asn:known{${shop('api')},process="api",direction="outbound",asn="64500"}`),
      present(
        `peerscope_asn_first_seen_timestamp_seconds{instance="b",${shop('api')},process="api",direction="outbound",asn="64500"}`,
        start,
        up,
      ),
      // It meets new operators all the time, as exporters know that share their memory.
      present(
        `peerscope_baseline_start_timestamp_seconds{instance="a",${shop('crawler')},process="crawler",scope="cluster"}`,
        -1e6,
      ),
      known(`peerscope:new_asns:known{${shop('crawler')},process="crawler"}`, 5),
      present(
        `peerscope_asn_first_seen_timestamp_seconds{instance="a",${shop('crawler')},process="crawler",direction="outbound",asn="64501"}`,
        start,
        up,
      ),
      // This one is new, two hours after the gap.
      present(
        `peerscope_listener_accept_queue{${host},workload="session.scope",process="nc",local_address="::",local_port="4444"}`,
        0,
        up + 2 * STEPS_PER_HOUR,
      ),
    ];
  };

  it.for([{ gap: 0 }, { gap: 1 }, { gap: 3 }, { gap: 4 }, { gap: 5 }, { gap: 12 }, { gap: 20 }])(
    'for $gap hours alerts on what is new after it, and on nothing older',
    ({ gap }, { skip }) => {
      const promtool = needPromtool(skip);
      const { groups } = deployed(RULE_FILES[0]) as { groups: { name: string; interval?: string }[] };
      const frequent = groups.filter(({ interval }) => interval !== '1h');
      expect(groups.length - frequent.length).toBe(1);
      const firing = 'ALERTS{alertname!="PeerscopeTargetDown", alertstate="firing"}';
      const at = (hours: number, minutes = 0): string => `${UP + gap + hours}h${minutes}m`;
      const labels = '{alertname="PeerscopeNewOpenListener", workload="session.scope", local_port="4444"}';
      const tests = {
        rule_files: ['frequent.rules.yml'],
        evaluation_interval: '5m',
        group_eval_order: frequent.map(({ name }) => name),
        tests: [
          {
            interval: '5m',
            input_series: inputs(gap),
            promql_expr_test: [
              { expr: `count_over_time(${firing}[2h])`, eval_time: at(1, 55), exp_samples: [] },
              {
                expr: `group by (alertname, workload, local_port) (${firing})`,
                eval_time: at(2, 5),
                exp_samples: [{ labels, value: 1 }],
              },
            ],
          },
        ],
      };
      const folder = mkdtempSync(join(tmpdir(), 'peerscope-'));
      try {
        writeFileSync(join(folder, 'frequent.rules.yml'), stringify({ groups: frequent }));
        writeFileSync(join(folder, 'gap.test.yml'), stringify(tests));
        const { status, output } = run(promtool, folder, 'test', 'rules', 'gap.test.yml');
        expect(status, output).toBe(0);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});
