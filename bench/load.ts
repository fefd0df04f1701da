import { fileURLToPath } from 'node:url';
import { ResidentProcess } from './resident-process.ts';

const IDLE_PROCESSES = 300;
/** One row in TIME_WAIT for so many others. */
const TIME_WAIT_SHARE = 50;

/** Sockets that other processes hold, and change as they are told (load.py). */
export class Load {
  readonly rows: number;
  readonly pid: number;
  readonly #process: ResidentProcess;

  private constructor(rows: number, pid: number, process: ResidentProcess) {
    this.rows = rows;
    this.pid = pid;
    this.#process = process;
  }

  static async start(rows: number, processes: number): Promise<Load> {
    const load = new ResidentProcess('/usr/bin/python3', [
      fileURLToPath(new URL('load.py', import.meta.url)),
      ...[rows, processes, IDLE_PROCESSES].map(String),
    ]);
    const { pid } = await load.next<{ pid: number }>();
    return new Load(rows, pid, load);
  }

  async step(percent: number, processes: number): Promise<void> {
    await this.#process.ask(`time-wait ${Math.ceil(this.rows / TIME_WAIT_SHARE)}`);
    if (percent > 0) await this.#process.ask(`churn ${percent} ${processes}`);
  }

  /** Gives so many UDP sockets a public peer each, from so many /24; from all that there are where that is 0. */
  async remotes(count: number, networks = 0): Promise<void> {
    await this.#process.ask(`remotes ${count} ${networks}`);
  }

  async namespaces(count: number, kind: 'empty' | 'listener'): Promise<readonly number[]> {
    return (await this.#process.ask<{ pids: number[] }>(`namespaces ${count} ${kind}`)).pids;
  }

  async end(): Promise<void> {
    await this.#process.end();
  }
}
