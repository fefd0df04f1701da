import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** The cost of a run: user and system time in milliseconds. */
export interface Measured {
  readonly cpuMs: number;
}

/** The rows that it found, those in TIME_WAIT, and those without a process. */
export interface Counted extends Measured {
  readonly rows: number;
  readonly timeWait: number;
  readonly unowned: number;
}

/** The result of a peerscope scan. */
export interface Scanned extends Counted {
  /** Distinct series of the endpoint family over all scans of the process. */
  readonly endpointSeries: number;
}

/** A child process that answers each input line with a line of JSON, in order. */
export class ResidentProcess {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #command: string;

  constructor(command: string, args: readonly string[]) {
    this.#command = [command, ...args].join(' ');
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    this.pid = child.pid ?? 0;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** The next output line. Throws if the process has exited. */
  async line(): Promise<string> {
    const line = await this.#lines.next();
    if (line.done) throw new Error(`Cannot continue with "${this.#command}": it has exited`);
    return line.value;
  }

  /** The JSON value in the next output line. Throws if the process has exited. */
  async next<T>(): Promise<T> {
    return JSON.parse(await this.line()) as T;
  }

  async ask<T>(line: string): Promise<T> {
    this.#child.stdin?.write(`${line}\n`);
    return this.next<T>();
  }

  async end(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end();
    await ended;
  }
}

/** CPU time (user and system, all threads) of a running process in milliseconds, with nanosecond resolution (Documentation/scheduler/sched-stats.rst). */
export function cpuMsOf(pid: number): number {
  let nanoseconds = 0;
  for (const tid of readdirSync(`/proc/${pid}/task`))
    nanoseconds += Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'latin1').split(' ')[0]);
  return nanoseconds / 1e6;
}

/** Current and maximum resident memory of a process, and what of it is private and changed, in MiB. */
export function memoryMiBOf(pid: number): { rss: number; peak: number; dirty: number } {
  const text = ['status', 'smaps_rollup'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'latin1')).join('\n');
  const kibibytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]);
  return { rss: kibibytes('VmRSS') / 1024, peak: kibibytes('VmHWM') / 1024, dirty: kibibytes('Private_Dirty') / 1024 };
}
