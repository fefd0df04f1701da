import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ResidentProcess } from './resident-process.ts';

const IDLE_PROCESSES = 300;
const IDLE_DESCRIPTORS = 20;
/** Number of other rows for each row in TIME_WAIT. */
const TIME_WAIT_SHARE = 50;

/** Sockets that load.py holds and changes on command. */
export class Load {
  readonly rows: number;
  readonly pid: number;
  readonly #process: ResidentProcess;

  private constructor(rows: number, pid: number, process: ResidentProcess) {
    this.rows = rows;
    this.pid = pid;
    this.#process = process;
  }

  static async start(
    rows: number,
    processes: number,
    idle = { processes: IDLE_PROCESSES, descriptors: IDLE_DESCRIPTORS },
  ): Promise<Load> {
    await closedSockets();
    const load = new ResidentProcess('/usr/bin/python3', [
      fileURLToPath(new URL('load.py', import.meta.url)),
      ...[rows, processes, idle.processes, idle.descriptors].map(String),
    ]);
    const { pid } = await load.next<{ pid: number }>();
    return new Load(rows, pid, load);
  }

  async step(percent: number, processes: number): Promise<void> {
    await this.#process.ask(`time-wait ${Math.ceil(this.rows / TIME_WAIT_SHARE)}`);
    if (percent > 0) await this.#process.ask(`churn ${percent} ${processes}`);
  }

  /** Connects UDP sockets to public peers in a number of /24 networks; 0 means all /24 networks. */
  async remotes(count: number, networks = 0): Promise<void> {
    await this.#process.ask(`remotes ${count} ${networks}`);
  }

  async namespaces(count: number, kind: 'empty' | 'listener' | 'pod'): Promise<readonly number[]> {
    return (await this.#process.ask<{ pids: number[] }>(`namespaces ${count} ${kind}`)).pids;
  }

  /** Sends bytes over the connection of each pod. */
  async traffic(bytes: number): Promise<void> {
    await this.#process.ask(`traffic ${bytes}`);
  }

  async end(): Promise<void> {
    await this.#process.end();
  }
}

/** Waits until few sockets of an earlier load are left: they stay in TIME_WAIT for a minute, and every read of the tables shows them. */
async function closedSockets(): Promise<void> {
  for (let second = 0; second < 90; second++) {
    const [, waiting = '0'] = /^TCP:.* tw (\d+)/m.exec(readFileSync('/proc/net/sockstat', 'latin1')) ?? [];
    if (Number(waiting) <= 20) return;
    await setTimeout(1_000);
  }
}
