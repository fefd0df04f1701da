/**
 * `node bench/dashboards.ts`: what each dashboard costs a Prometheus that scrapes a fleet. A panel with lines asks for as many points as
 * for three hours, over the minutes since the start.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { parse, stringify } from 'yaml';
import { DASHBOARDS } from '../grafana/generated.ts';
import { panelsOf, viewOf, type Answer, type View } from '../test/support/dashboard-view.ts';
import { Fleet, pageOf } from './fleet-page.ts';

const SCRAPE_SECONDS = 30;
/** Three hours with a point a minute. */
const POINTS = 180;
/** What a dashboard may cost, in seconds of Prometheus, and the samples of a query: a tenth of its limit. */
const BOUND = { seconds: 3, samples: 5_000_000 };
const RULES = new URL('../deploy/prometheus/', import.meta.url);
const UNPACKED = fileURLToPath(new URL('../.cache/prometheus/usr/bin/prometheus', import.meta.url));

const { values: flags } = parseArgs({
  options: {
    hosts: { type: 'string', default: '500' },
    pods: { type: 'string', default: '24' },
    minutes: { type: 'string', default: '4' },
  },
});
const [hosts, podsPerHost, minutes] = [Number(flags.hosts), Number(flags.pods), Number(flags.minutes)];

const FILES = ['peerscope.rules.yml', 'peerscope-extra.rules.yml'];

/** Only the rules that dashboards read, once a minute. */
function rules(folder: string): string {
  const names = JSON.stringify(DASHBOARDS);
  const parsed = FILES.map(
    (name) =>
      parse(readFileSync(new URL(name, RULES), 'utf8')) as {
        groups: { name: string; interval?: string; rules: { record?: string }[] }[];
      },
  );
  const groups = parsed
    .flatMap((file) => file.groups)
    .map((group) => ({
      ...group,
      interval: '60s',
      rules: group.rules.filter(({ record }) => record !== undefined && names.includes(record)),
    }))
    .filter((group) => group.rules.length > 0);
  writeFileSync(join(folder, 'rules.yml'), stringify({ groups }));
  return 'rules.yml';
}

/** CPU seconds that a process has used (proc_pid_stat(5), in ticks of 10 ms). */
function cpuSeconds(pid: number | undefined): number {
  const [, rest = ''] = readFileSync(`/proc/${pid ?? 'self'}/stat`, 'latin1').split(') ');
  const fields = rest.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** A dashboard that was asked for, and the CPU time of Prometheus. */
interface Asked {
  readonly view: View;
  readonly cpu: number;
}

/** The cheapest of three rounds: rules and the collection of garbage go on meanwhile. */
async function cheapest(ask: () => Promise<View>, pid: number | undefined): Promise<Asked> {
  const rounds: Asked[] = [];
  for (let round = 0; round < 3; round++) {
    const before = cpuSeconds(pid);
    rounds.push({ view: await ask(), cpu: cpuSeconds(pid) - before });
  }
  return rounds.reduce((a, b) => (b.cpu < a.cpu ? b : a));
}

/** Writes what a dashboard took as it opens, and with all its rows. */
function report(opened: Asked, all: Asked): boolean {
  const { dashboard, answers } = all.view;
  const rows = panelsOf(dashboard).map(({ title }, i) => ({ title, answers: answers[i] ?? [] }));
  const secondsOf = (list: readonly Answer[]): number => list.reduce((sum, { seconds }) => sum + seconds, 0);
  const peakOf = (list: readonly Answer[]): number => Math.max(...list.map(({ peakSamples }) => peakSamples));
  const peak = peakOf(rows.flatMap((row) => row.answers));
  const cost = ({ view, cpu }: Asked): string => {
    const read = Object.values(view.answers)
      .flat()
      .reduce((sum, { samples }) => sum + samples, 0);
    return `${cpu.toFixed(2)} s of CPU for ${Math.round(read / 1000)} thousand samples`;
  };
  process.stdout.write(
    `${(dashboard.title ?? '').padEnd(38)} ${cost(opened)}; with all rows ${cost(all)}, at most ${peak} in memory\n`,
  );
  const slowest = rows.toSorted((a, b) => secondsOf(b.answers) - secondsOf(a.answers)).slice(0, 4);
  for (const { title, answers: list } of slowest) {
    const series = list.map(({ result }) => result.length).join(' + ');
    process.stdout.write(
      `  ${title.padEnd(36)} ${secondsOf(list).toFixed(2)} s, ${peakOf(list)} samples, ${series} series\n`,
    );
  }
  return opened.cpu <= BOUND.seconds && peak <= BOUND.samples;
}

async function run(folder: string): Promise<void> {
  const now = Math.floor(Date.now() / 1000);
  const fleet = new Fleet({ hosts, podsPerHost, now });
  const pages = Array.from({ length: hosts }, (_, host) => gzipSync(pageOf(fleet.series(host)), { level: 1 }));
  const server = createServer((request, response) => {
    response.setHeader('Content-Type', 'text/plain; version=0.0.4; charset=utf-8');
    response.setHeader('Content-Encoding', 'gzip');
    response.end(pages[Number(request.url?.slice(1))]);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const target = `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
  const interval = `${SCRAPE_SECONDS}s`;
  writeFileSync(
    join(folder, 'prometheus.yml'),
    stringify({
      global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: interval },
      rule_files: [rules(folder)],
      scrape_configs: [
        {
          job_name: 'peerscope',
          honor_labels: true,
          static_configs: Array.from({ length: hosts }, (_, host) => ({
            targets: [target],
            labels: {
              __metrics_path__: `/${host}`,
              instance: `node-${host}`,
              cluster: host % 2 === 0 ? 'west' : 'east',
            },
          })),
        },
      ],
    }),
  );
  const port = 20_000 + (process.pid % 10_000);
  const url = `http://127.0.0.1:${port}`;
  const prometheus = spawn(
    existsSync(UNPACKED) ? UNPACKED : 'prometheus',
    [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    { stdio: 'ignore' },
  );
  try {
    await setTimeout(minutes * 60_000);
    // The scrapes would compete with the queries.
    server.closeAllConnections();
    server.close();
    const seconds = minutes * 60 - SCRAPE_SECONDS;
    const span = { to: Math.floor(Date.now() / 1000), seconds, scrapeSeconds: SCRAPE_SECONDS, points: POINTS };
    const series = [...fleet.series(1)].length;
    process.stdout.write(`${hosts} hosts with ${series} series each, ${POINTS} points\n\n`);
    let isWithin = true;
    for (const dashboard of DASHBOARDS) {
      const opened = await cheapest(
        async () => viewOf(url, dashboard, {}, { ...span, opensRows: false }),
        prometheus.pid,
      );
      const all = await cheapest(async () => viewOf(url, dashboard, {}, span), prometheus.pid);
      isWithin = report(opened, all) && isWithin;
    }
    process.exitCode = isWithin ? 0 : 1;
  } finally {
    const exit = once(prometheus, 'exit');
    prometheus.kill('SIGKILL');
    await exit;
    server.close();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'peerscope-dashboards-'));
try {
  await run(folder);
} finally {
  rmSync(folder, { recursive: true });
}
