import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** How late a timer of 10 ms came on the main thread, in milliseconds. */
export interface Delays {
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
  /** The most CPU time that the main thread used from one timer to the next: what it made others wait, whoever took the cores from it. */
  readonly busiest: number;
}

/** Loaded into a process: it writes its delays to a file at its end; SIGUSR2 has it begin anew. */
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

/** Watches the event loop of a process started with `environment`, and beside it that of one that does nothing: what the machine costs. */
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

  /** Forgets the delays seen so far of the process watched, and of the idle one. */
  reset(pid: number): void {
    process.kill(pid, 'SIGUSR2');
    this.#idle.kill('SIGUSR2');
  }

  /** The delays of the process watched, which has ended, and of the idle one. */
  async end(): Promise<{ own: Delays; idle: Delays }> {
    const ended = once(this.#idle, 'exit');
    this.#idle.stdin?.end();
    await ended;
    const [own, idle] = ['own.json', 'idle.json'].map(
      (name) => JSON.parse(readFileSync(join(this.#folder, name), 'utf8')) as Delays,
    );
    rmSync(this.#folder, { recursive: true });
    if (!own || !idle) throw new Error('Cannot tell the delay of the event loop');
    return { own, idle };
  }
}
