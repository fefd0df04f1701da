import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Delays of a 10 ms timer on the main thread, in milliseconds. */
export interface Delays {
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
  /** The maximum CPU time of the main thread between two timers: the delay that the thread itself causes. */
  readonly busiest: number;
}

/** Preloaded into a process: writes the delays to a file at exit. SIGUSR2 resets them. */
const WATCH = `--import=data:text/javascript,${encodeURIComponent(`
  import { writeFileSync } from 'node:fs';
  import { monitorEventLoopDelay } from 'node:perf_hooks';
  import { isMainThread } from 'node:worker_threads';
  if (isMainThread) {
    const seen = monitorEventLoopDelay({ resolution: 10 });
    seen.enable();
    const cpuMs = () => { const { user, system } = process.threadCpuUsage(); return (user + system) / 1000; };
    let [last, busiest] = [cpuMs(), 0];
    setInterval(() => {
      const now = cpuMs();
      busiest = Math.max(busiest, now - last);
      last = now;
    }, 10).unref();
    process.on('SIGUSR2', () => {
      seen.reset();
      busiest = 0;
    });
    const late = (share) => seen.percentile(share) / 1e6 - 10;
    process.on('exit', () => {
      const delays = { p50: late(50), p99: late(99), most: seen.max / 1e6 - 10, busiest };
      writeFileSync(process.env.BENCH_LOOP, JSON.stringify(delays));
    });
  }`)}`;

/** Measures the event loop delay of a process started with `environment`, and of an idle process as a reference. */
export class LoopWatch {
  readonly environment: Readonly<Record<string, string>>;
  readonly #folder = mkdtempSync(join(tmpdir(), 'peerscope-bench-loop-'));
  readonly #idle: ChildProcess;

  constructor() {
    this.environment = { NODE_OPTIONS: WATCH, BENCH_LOOP: join(this.#folder, 'own.json') };
    this.#idle = spawn(process.execPath, [WATCH, '--eval', 'process.stdin.resume()'], {
      stdio: ['pipe', 'ignore', 'inherit'],
      env: { ...process.env, BENCH_LOOP: join(this.#folder, 'idle.json') },
    });
  }

  /** Resets the delays of both processes. */
  reset(pid: number): void {
    process.kill(pid, 'SIGUSR2');
    this.#idle.kill('SIGUSR2');
  }

  /** The delays of the measured process, which must have exited, and of the idle process. */
  async end(): Promise<{ own: Delays; idle: Delays }> {
    const ended = once(this.#idle, 'exit');
    this.#idle.stdin?.end();
    await ended;
    const [own, idle] = ['own.json', 'idle.json'].map(
      (name) => JSON.parse(readFileSync(join(this.#folder, name), 'utf8')) as Delays,
    );
    rmSync(this.#folder, { recursive: true });
    if (!own || !idle) throw new Error('Cannot measure the event loop delay: a process wrote no result');
    return { own, idle };
  }
}
