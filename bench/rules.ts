/**
 * `npm run bench:rules [-- 25 100]`: the cost of one evaluation of deploy/prometheus, in a Prometheus with these numbers of exporters of
 * 2,000 series each.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parse, stringify } from 'yaml';
import { simulatedPage } from './fleet.ts';

const SIZES = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [25, 100, 200, 500];
const EVALUATION_SECONDS = 15;
const ROUNDS = 3;
/** The bound in CPU seconds for one evaluation of all rules at 500 hosts; less in proportion at fewer. */
const BOUND_SECONDS = 8;
const RULES = new URL('../deploy/prometheus/', import.meta.url);
const UNPACKED = fileURLToPath(new URL('../.cache/prometheus/usr/bin/', import.meta.url));
const FILES = ['peerscope.rules.yml', 'peerscope-extra.rules.yml'];

interface RuleFile {
  readonly groups: { readonly name: string; interval?: string }[];
}

interface Group {
  readonly name: string;
  readonly evaluationTime: number;
  readonly lastEvaluation: string;
  readonly rules: readonly { readonly name: string; readonly evaluationTime: number; readonly lastError?: string }[];
}

const programOf = (name: string): string => (existsSync(UNPACKED + name) ? UNPACKED + name : name);

function ruleFiles(folder: string): string[] {
  return FILES.map((name) => {
    const rules = parse(readFileSync(new URL(name, RULES), 'utf8')) as RuleFile;
    // The group of traffic would be evaluated rarely during the run.
    for (const group of rules.groups) delete group.interval;
    const path = join(folder, name);
    writeFileSync(path, stringify(rules));
    return path;
  });
}

async function groupsOf(url: string): Promise<readonly Group[]> {
  const answer = (await (await fetch(`${url}/api/v1/rules`)).json()) as { data: { groups: readonly Group[] } };
  return answer.data.groups;
}

async function scalar(url: string, query: string): Promise<number> {
  const answer = (await (await fetch(`${url}/api/v1/query?${new URLSearchParams({ query }).toString()}`)).json()) as {
    data?: { result: { value: [number, string] }[] };
    error?: string;
  };
  if (!answer.data) throw new Error(`Cannot query "${query}": ${answer.error ?? ''}`);
  return Number(answer.data.result[0]?.value[1] ?? 0);
}

/** CPU seconds that a process has used (proc_pid_stat(5), in ticks of 10 ms). */
function cpuSeconds(pid: number | undefined): number {
  const fields =
    readFileSync(`/proc/${pid ?? 'self'}/stat`, 'latin1')
      .split(') ')[1]
      ?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The number of times that each rule was evaluated: a busy machine leaves out some. */
async function evaluations(url: string, groups: number): Promise<number> {
  const page = await (await fetch(`${url}/metrics`)).text();
  const sum = (name: string): number =>
    [...page.matchAll(new RegExp(`^${name}\\{.*\\} (.+)$`, 'gm'))].reduce(
      (total, [, value]) => total + Number(value),
      0,
    );
  return (
    (sum('prometheus_rule_group_iterations_total') - sum('prometheus_rule_group_iterations_missed_total')) / groups
  );
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;

async function run(folder: string, hosts: number): Promise<void> {
  const pages = Array.from({ length: hosts }, (_, host) => simulatedPage(host, Date.now() / 1000));
  const server = createServer((request, response) => {
    response.setHeader('Content-Type', 'text/plain; version=0.0.4; charset=utf-8');
    response.end(pages[Number(request.url?.slice(1))]);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const target = `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;

  const data = join(folder, 'data');
  const configure = (rule_files: readonly string[]): void =>
    writeFileSync(
      join(folder, 'prometheus.yml'),
      stringify({
        global: { scrape_interval: `${EVALUATION_SECONDS}s`, evaluation_interval: `${EVALUATION_SECONDS}s` },
        rule_files,
        scrape_configs: [
          {
            job_name: 'peerscope',
            honor_labels: true,
            static_configs: pages.map((_, host) => ({
              targets: [target],
              labels: { __metrics_path__: `/${host}`, instance: `host-${host}` },
            })),
          },
        ],
      }),
    );
  configure(ruleFiles(folder));
  const port = 20_000 + (process.pid % 10_000);
  const url = `http://127.0.0.1:${port}`;
  const prometheus = spawn(
    programOf('prometheus'),
    [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${data}`,
      `--web.listen-address=127.0.0.1:${port}`,
      // Other load may make a query slow. What counts is the CPU that it takes.
      '--query.timeout=10m',
    ],
    { stdio: 'ignore' },
  );
  try {
    const times = new Map<string, Map<string, number>>();
    let begun: { readonly cpu: number; readonly at: number; readonly rounds: number } | undefined;
    let slowest: { name: string; evaluationTime: number }[] = [];
    const isEnough = (): boolean => times.size > 0 && [...times.values()].every((group) => group.size >= ROUNDS);
    for (let second = 0; !isEnough(); second++) {
      if (second > 1200) throw new Error('Cannot measure: the rules were not evaluated often enough within 20 minutes');
      await setTimeout(1000);
      // The first evaluations do not have scrapes of all hosts yet.
      if (second < 4 * EVALUATION_SECONDS) continue;
      const groups = await groupsOf(url);
      begun ??= {
        rounds: await evaluations(url, groups.length),
        cpu: cpuSeconds(prometheus.pid),
        at: performance.now(),
      };
      slowest = groups.flatMap(({ rules }) => rules).sort((a, b) => b.evaluationTime - a.evaluationTime);
      for (const { name, evaluationTime, lastEvaluation, rules } of groups) {
        const broken = rules.find(({ lastError }) => lastError);
        if (broken) throw new Error(`Cannot evaluate "${broken.name}": ${broken.lastError ?? ''}`);
        const group = times.get(name) ?? new Map<string, number>();
        times.set(name, group.set(lastEvaluation, evaluationTime));
      }
    }
    const raw = await scalar(url, 'sum(scrape_samples_scraped)');
    const up = await scalar(url, 'sum(up)');
    if (up < hosts) throw new Error(`Cannot measure: ${hosts - up} of ${hosts} hosts were not scraped in time`);
    const { cpu = NaN, at = NaN, rounds = NaN } = begun ?? {};
    const usedWithRules = cpuSeconds(prometheus.pid) - cpu;
    const seconds = (performance.now() - at) / 1000;
    const evaluated = (await evaluations(url, times.size)) - rounds;
    const sum = [...times.values()].reduce((total, group) => total + median([...group.values()]), 0);
    // Scraping alone.
    configure([]);
    prometheus.kill('SIGHUP');
    await setTimeout(EVALUATION_SECONDS * 1000);
    const [from, since] = [cpuSeconds(prometheus.pid), performance.now()];
    await setTimeout(3 * EVALUATION_SECONDS * 1000);
    const perSecond = ((cpuSeconds(prometheus.pid) - from) / (performance.now() - since)) * 1000;
    const cost = (usedWithRules - perSecond * seconds) / evaluated;
    const bound = (BOUND_SECONDS * hosts) / 500;
    process.stdout.write(
      `${hosts} hosts, ${raw} series: ${cost.toFixed(2)} s of CPU for one evaluation of all rules, to reach: ${bound.toFixed(2)} s; ${sum.toFixed(2)} s of time (median of ${ROUNDS}); ` +
        `load average ${loadavg()
          .map((load) => load.toFixed(1))
          .join(' ')} on ${cpus().length} cores\n`,
    );
    if (cost > bound) process.exitCode = 1;
    for (const { name, evaluationTime } of slowest.slice(0, 4))
      process.stdout.write(`  ${name.padEnd(40)} ${evaluationTime.toFixed(3)} s\n`);
  } finally {
    const exit = once(prometheus, 'exit');
    prometheus.kill('SIGKILL');
    await exit;
    server.close();
  }
}

for (const hosts of SIZES) {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-rules-'));
  try {
    await run(folder, hosts);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
