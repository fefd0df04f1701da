import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { bundle } from '../bundle.ts';

const PROJECT = new URL('../', import.meta.url);
/** Inside the project so that imports resolve, in a folder that no check reads. */
const BUILT = new URL('node_modules/.cache/peerscope-bench/', PROJECT);
export const URL_OF_METRICS = 'http://127.0.0.1:10043/metrics';
const URL_OF_HEALTH = 'http://127.0.0.1:10043/-/healthy';
const START_MS = 30_000;
/** The flags of an exporter that asks nobody. */
export const ALONE = [
  '--scrape.budget=10m',
  '--asn.server=127.0.0.1:9',
  '--storage.path=/dev/null/none',
  '--log.level=error',
];

/** Builds the published exporter. From TypeScript sources, Node.js would also keep a compiler in memory. */
export async function buildExporter(): Promise<void> {
  rmSync(BUILT, { recursive: true, force: true });
  mkdirSync(BUILT, { recursive: true });
  copyFileSync(new URL('package.json', PROJECT), new URL('package.json', BUILT));
  await bundle(fileURLToPath(new URL('dist', BUILT)));
}

/** Path of the built program. */
export function mainOfExporter(): string {
  return fileURLToPath(new URL('dist/main.js', BUILT));
}

/** The exporter as a child process, scraped like Prometheus does. By default it has no ASN provider. */
export class ExporterProcess {
  readonly pid: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid ?? 0;
  }

  /** Starts the exporter and waits until it responds. Its first scan still runs then. */
  static async start(
    flags: readonly string[] = ALONE,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<ExporterProcess> {
    const child = spawn(
      process.execPath,
      ['--max-semi-space-size=2', '--v8-pool-size=1', mainOfExporter(), 'serve', ...flags],
      {
        stdio: ['ignore', 'ignore', 'inherit'],
        env: { ...process.env, MALLOC_ARENA_MAX: '1', ...environment },
      },
    );
    const exporter = new ExporterProcess(child);
    const deadline = performance.now() + START_MS;
    while (
      !(await exporter.health().then(
        () => true,
        () => false,
      ))
    ) {
      if (child.exitCode !== null || performance.now() > deadline) throw new Error('Cannot start the exporter');
      await pause(10);
    }
    return exporter;
  }

  /** The text of /metrics. */
  async scrape(): Promise<string> {
    return (await fetch(URL_OF_METRICS)).text();
  }

  async health(): Promise<void> {
    await (await fetch(URL_OF_HEALTH)).arrayBuffer();
  }

  async end(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill();
    await ended;
  }
}
