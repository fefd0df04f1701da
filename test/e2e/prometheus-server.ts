import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { freePort, statusOf } from './victoria-metrics.ts';

const UNPACKED = new URL('../../.cache/prometheus/usr/bin/prometheus', import.meta.url).pathname;

/** Finds Prometheus on the PATH or where .ci/run unpacks it; where it is neither, says so and skips the test whose `skip` this is. */
export function needPrometheus(skip: (note: string) => never): string {
  const found = ['prometheus', UNPACKED].find((command) => !spawnSync(command, ['--version']).error);
  if (found !== undefined) return found;
  process.stderr.write('SKIPPED: prometheus is neither on the PATH nor in .cache/prometheus; .ci/run fetches it\n');
  return skip('prometheus is not installed');
}

/** How it goes with scraping a target. */
export interface Target {
  readonly job: string;
  readonly health: string;
  readonly lastError: string;
}

/** A real Prometheus on a port of loopback, with data in a folder of its own. */
export class Prometheus {
  readonly #url: string;
  readonly #process: ChildProcess;
  readonly #folder: string;

  private constructor(url: string, process: ChildProcess, folder: string) {
    this.#url = url;
    this.#process = process;
    this.#folder = folder;
  }

  /** Starts it with these scrape jobs, every second; JSON is YAML. */
  static async start(program: string, jobs: readonly object[]): Promise<Prometheus> {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-prometheus-'));
    const file = join(folder, 'prometheus.yml');
    writeFileSync(
      file,
      JSON.stringify({ global: { scrape_interval: '1s', scrape_timeout: '1s' }, scrape_configs: jobs }),
    );
    const address = `127.0.0.1:${await freePort()}`;
    const flags = [`--config.file=${file}`, `--storage.tsdb.path=${folder}/data`, `--web.listen-address=${address}`];
    const child = spawn(program, [...flags, '--log.level=error'], { stdio: ['ignore', 'ignore', 'inherit'] });
    const prometheus = new Prometheus(`http://${address}`, child, folder);
    await expect.poll(() => statusOf(`http://${address}/-/ready`), { timeout: 30_000 }).toBe(200);
    return prometheus;
  }

  async targets(): Promise<Target[]> {
    const { activeTargets } = await this.#ask<{
      activeTargets: { scrapePool: string; health: string; lastError: string }[];
    }>('/api/v1/targets?state=active');
    return activeTargets.map(({ scrapePool: job, health, lastError }) => ({ job, health, lastError }));
  }

  /** The value of an expression that has one; NaN where there is nothing. */
  async value(promql: string): Promise<number> {
    const query = encodeURIComponent(promql);
    const { result } = await this.#ask<{ result: { value: [number, string] }[] }>(`/api/v1/query?query=${query}`);
    return Number(result[0]?.value[1] ?? NaN);
  }

  /** The unit that a family was said to have. */
  async unit(metric: string): Promise<string | undefined> {
    const metadata = await this.#ask<Record<string, { unit: string }[]>>(`/api/v1/metadata?metric=${metric}`);
    return metadata[metric]?.[0]?.unit;
  }

  async stop(): Promise<void> {
    const exit = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exit;
    rmSync(this.#folder, { recursive: true });
  }

  async #ask<T>(path: string): Promise<T> {
    const response = await fetch(`${this.#url}${path}`);
    return ((await response.json()) as { data: T }).data;
  }
}
