import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';

const UNPACKED = new URL('../../.cache/victoria-metrics/usr/bin/victoria-metrics', import.meta.url).pathname;

/** Finds VictoriaMetrics on the PATH or where .ci/run unpacks it; where it is neither, says so and skips the test whose `skip` this is. */
export function needVictoriaMetrics(skip: (note: string) => never): string {
  const found = ['victoria-metrics', UNPACKED].find((command) => !spawnSync(command, ['--version']).error);
  if (found !== undefined) return found;
  process.stderr.write(
    'SKIPPED: victoria-metrics is neither on the PATH nor in .cache/victoria-metrics; .ci/run fetches it\n',
  );
  return skip('victoria-metrics is not installed');
}

/** A port of the loopback interface without a listener. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' ? (address?.port ?? 0) : 0;
}

/** The status of the response; 0 without one. */
export async function statusOf(url: string): Promise<number> {
  try {
    return (await fetch(url)).status;
  } catch {
    return 0;
  }
}

/** One series of an answer to PromQL. */
export interface Series {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A store of metrics that takes OTLP and answers PromQL, on a port and in a folder of its own. */
export class VictoriaMetrics {
  readonly url: string;
  readonly #process: ChildProcess;
  readonly #folder: string;

  private constructor(url: string, process: ChildProcess, folder: string) {
    this.url = url;
    this.#process = process;
    this.#folder = folder;
  }

  static async start(program: string): Promise<VictoriaMetrics> {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-vm-'));
    const address = `127.0.0.1:${await freePort()}`;
    const flags = [
      `-storageDataPath=${folder}`,
      `-httpListenAddr=${address}`,
      '-opentelemetry.usePrometheusNaming=true',
    ];
    const child = spawn(program, flags, { stdio: 'ignore' });
    const store = new VictoriaMetrics(`http://${address}`, child, folder);
    await expect.poll(() => statusOf(`${store.url}/health`), { timeout: 30_000 }).toBe(200);
    return store;
  }

  /** Where OTLP goes. */
  get endpoint(): string {
    return `${this.url}/opentelemetry`;
  }

  /** The newest sample of each series that matches, not older than a minute. */
  async query(promql: string): Promise<Series[]> {
    await fetch(`${this.url}/internal/force_flush`);
    const query = new URLSearchParams({ query: `last_over_time(${promql}[1m])`, latency_offset: '1ms', nocache: '1' });
    const response = await fetch(`${this.url}/api/v1/query?${query.toString()}`);
    const answer = (await response.json()) as {
      data: { result: { metric: Record<string, string>; value: [number, string] }[] };
    };
    return answer.data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  }

  async stop(): Promise<void> {
    const exit = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exit;
    rmSync(this.#folder, { recursive: true });
  }
}
