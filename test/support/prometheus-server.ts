import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vi } from 'vitest';
import { parse, stringify } from 'yaml';
import { freePort, statusOf, type Series } from './victoria-metrics.ts';

const CACHE = new URL('../../.cache/', import.meta.url).pathname;
const RULES = new URL('../../deploy/prometheus/', import.meta.url).pathname;

/** Finds a server on the PATH or where .ci/run unpacks it; where it is neither, says so and skips the test whose `skip` this is. */
export function needServer(name: 'prometheus' | 'prometheus-alertmanager', skip: (note: string) => never): string {
  const unpacked = `${CACHE}${name.replace('prometheus-', '')}/usr/bin/${name}`;
  const found = [name, unpacked].find((command) => !spawnSync(command, ['--version']).error);
  if (found !== undefined) return found;
  process.stderr.write(`SKIPPED: ${name} is neither on the PATH nor in .cache; .ci/run fetches it\n`);
  return skip(`${name} is not installed`);
}

/** A server as a child process in a folder of its own, whose log is there when it is asked for. */
class Child {
  readonly folder: string;
  readonly #process: ChildProcess;
  #log = '';

  constructor(folder: string, program: string, args: readonly string[]) {
    this.folder = folder;
    this.#process = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#process.stdout, this.#process.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => (this.#log += text));
  }

  async ready(url: string): Promise<void> {
    await vi.waitFor(
      async () => {
        if ((await statusOf(url)) !== 200) throw new Error(`Cannot reach "${url}": ${this.#log}`);
      },
      { timeout: 30_000, interval: 100 },
    );
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const exit = once(this.#process, 'exit');
      this.#process.kill('SIGKILL');
      await exit;
    }
    rmSync(this.folder, { recursive: true });
  }
}

/** The configuration of a Prometheus in a test. */
export interface Plan {
  /** Scrape jobs, as its configuration has them. */
  readonly jobs: readonly object[];
  /** Files of deploy/prometheus. */
  readonly rules: readonly string[];
  readonly scrapeSeconds: number;
  readonly evaluationSeconds: number;
  readonly alertmanager?: string;
  /** The interval of every group of rules, instead of their own. */
  readonly ruleInterval?: string;
  /** A file in the OpenMetrics format with the samples that it has at its start. */
  readonly history?: string;
}

/** How it goes with scraping a target. */
export interface Target {
  readonly job: string;
  readonly health: string;
  readonly lastError: string;
}

/** A real Prometheus that scrapes, and evaluates the rules that we ship. */
export class Prometheus {
  readonly url: string;
  readonly #child: Child;

  private constructor(url: string, child: Child) {
    this.url = url;
    this.#child = child;
  }

  static async start(program: string, plan: Plan): Promise<Prometheus> {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-prometheus-'));
    const address = `127.0.0.1:${await freePort()}`;
    const [scrape, evaluation] = [`${plan.scrapeSeconds}s`, `${plan.evaluationSeconds}s`];
    if (plan.history !== undefined) makeBlocks(program, plan.history, join(folder, 'data'));
    writeFileSync(
      join(folder, 'prometheus.yml'),
      stringify({
        global: { scrape_interval: scrape, scrape_timeout: scrape, evaluation_interval: evaluation },
        rule_files: plan.rules.map((name) => withInterval(name, folder, plan.ruleInterval)),
        ...(plan.alertmanager && {
          alerting: { alertmanagers: [{ static_configs: [{ targets: [plan.alertmanager] }] }] },
        }),
        scrape_configs: plan.jobs,
      }),
    );
    const child = new Child(folder, program, [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=${address}`,
    ]);
    await child.ready(`http://${address}/-/ready`);
    return new Prometheus(`http://${address}`, child);
  }

  /** What an expression says now. */
  async query(expr: string): Promise<Series[]> {
    const result = (await this.#get('query', { query: expr })) as {
      result: { metric: Record<string, string>; value: [number, string] }[];
    };
    return result.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  }

  /** How many series an expression has over the last minutes. */
  async countOverTime(expr: string): Promise<number> {
    const now = Date.now() / 1000;
    const range = { query: expr, start: String(now - 300), end: String(now), step: '5' };
    return ((await this.#get('query_range', range)) as { result: unknown[] }).result.length;
  }

  async targets(): Promise<Target[]> {
    const { activeTargets } = (await this.#get('targets', { state: 'active' })) as {
      activeTargets: { scrapePool: string; health: string; lastError: string }[];
    };
    return activeTargets.map(({ scrapePool: job, health, lastError }) => ({ job, health, lastError }));
  }

  /** The unit that a family was said to have. */
  async unit(metric: string): Promise<string | undefined> {
    const metadata = (await this.#get('metadata', { metric })) as Record<string, { unit: string }[]>;
    return metadata[metric]?.[0]?.unit;
  }

  /** The rules, with what is wrong with each. */
  async ruleHealth(): Promise<{ name: string; health: string; lastError?: string; evaluationTime: number }[]> {
    const { groups } = (await this.#get('rules', {})) as {
      groups: { rules: { name: string; health: string; lastError?: string; evaluationTime: number }[] }[];
    };
    return groups.flatMap(({ rules }) => rules);
  }

  async #get(path: string, parameters: Record<string, string>): Promise<unknown> {
    const response = await fetch(`${this.url}/api/v1/${path}?${new URLSearchParams(parameters).toString()}`);
    const { data, error } = (await response.json()) as { data: unknown; error?: string };
    if (error !== undefined) throw new Error(`Cannot run "${parameters['query'] ?? path}": ${error}`);
    return data;
  }

  stop(): Promise<void> {
    return this.#child.stop();
  }
}

function withInterval(name: string, folder: string, interval: string | undefined): string {
  if (interval === undefined) return RULES + name;
  const rules = parse(readFileSync(RULES + name, 'utf8')) as { groups: { interval?: string }[] };
  for (const group of rules.groups) group.interval = interval;
  writeFileSync(join(folder, name), stringify(rules));
  return join(folder, name);
}

function makeBlocks(prometheus: string, samples: string, data: string): void {
  const promtool = prometheus.replace(/prometheus$/, 'promtool');
  const args = ['tsdb', 'create-blocks-from', '--max-block-duration=24h', 'openmetrics', samples, data];
  const { status, stderr } = spawnSync(promtool, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`Cannot create blocks from "${samples}": ${stderr}`);
}

/** A real Alertmanager that sends every alert to `url` at once. */
export class Alertmanager {
  readonly address: string;
  readonly #child: Child;

  private constructor(address: string, child: Child) {
    this.address = address;
    this.#child = child;
  }

  static async start(program: string, url: string): Promise<Alertmanager> {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-alertmanager-'));
    const address = `127.0.0.1:${await freePort()}`;
    const route = { receiver: 'hook', group_by: ['...'], group_wait: '0s', group_interval: '1s' };
    writeFileSync(
      join(folder, 'alertmanager.yml'),
      stringify({ route, receivers: [{ name: 'hook', webhook_configs: [{ url }] }] }),
    );
    // Debian's build wants its templates in /usr/share; they are put there for it alone, in a mount namespace of its own.
    const share = `${CACHE}alertmanager/usr/share/prometheus`;
    const script =
      '[ -e /usr/share/prometheus/alertmanager/default.tmpl ] || { mount -t tmpfs none /usr/share && ln -s "$0" /usr/share/prometheus; }; exec "$@"';
    const child = new Child(folder, 'unshare', [
      '--mount',
      'sh',
      '-c',
      script,
      share,
      program,
      `--config.file=${folder}/alertmanager.yml`,
      `--storage.path=${folder}/data`,
      `--web.listen-address=${address}`,
      '--cluster.listen-address=',
    ]);
    await child.ready(`http://${address}/-/ready`);
    return new Alertmanager(address, child);
  }

  stop(): Promise<void> {
    return this.#child.stop();
  }
}

/** An alert as Alertmanager sends it to a webhook. */
export interface Notified {
  readonly status: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly startsAt: string;
  /** When it was received, in seconds since 1970. */
  readonly at: number;
}

/** Receives the alerts of Alertmanager. */
export class Webhook {
  readonly alerts: Notified[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => (body += text));
      request.on('end', () => {
        const { alerts } = JSON.parse(body) as { alerts: Omit<Notified, 'at'>[] };
        this.alerts.push(...alerts.map((alert) => ({ ...alert, at: Date.now() / 1000 })));
        response.end();
      });
    });
  }

  static async start(): Promise<Webhook> {
    const hook = new Webhook();
    hook.#server.listen(0, '127.0.0.1');
    await once(hook.#server, 'listening');
    return hook;
  }

  get url(): string {
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
