import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** What a run cost: user and system time in milliseconds. */
export interface Measured {
  readonly cpuMs: number;
}

/** What it found besides: rows, those in TIME_WAIT, and those without a process. */
export interface Counted extends Measured {
  readonly rows: number;
  readonly timeWait: number;
  readonly unowned: number;
}

/** What a scan of peerscope tells. */
export interface Scanned extends Counted {
  /** Distinct series of the endpoint family over all scans of the process. */
  readonly endpointSeries: number;
}

/** A child process that answers each line with a line of JSON, in order. */
export class ResidentProcess {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #command: string;

  constructor(command: string, args: readonly string[]) {
    this.#command = [command, ...args].join(' ');
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** The next line that it says by itself, or in answer. Throws when it ended. */
  async next<T>(): Promise<T> {
    const line = await this.#lines.next();
    if (line.done) throw new Error(`Cannot go on with "${this.#command}": it ended`);
    return JSON.parse(line.value) as T;
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

/** CPU time of a living process so far: all its threads, user and system, in milliseconds, to the nanosecond (Documentation/scheduler/sched-stats.rst). */
export function cpuMsOf(pid: number): number {
  let nanoseconds = 0;
  for (const tid of readdirSync(`/proc/${pid}/task`))
    nanoseconds += Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'latin1').split(' ')[0]);
  return nanoseconds / 1e6;
}

/** Resident memory of a process now and at its highest, in MiB. */
export function memoryMiBOf(pid: number): { rss: number; peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const kibibytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]);
  return { rss: kibibytes('VmRSS') / 1024, peak: kibibytes('VmHWM') / 1024 };
}
