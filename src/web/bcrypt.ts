import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Comparison } from './bcrypt-worker.ts';

/** A thread costs megabytes, and passwords are rarely new. */
const IDLE_MS = 10_000;

/** Compares passwords with bcrypt's hashes in a thread of its own, which is there only while there is something to compare. */
export class Bcrypt {
  #worker: Worker | null = null;
  #idle: NodeJS.Timeout | undefined;

  /** True where the password is that of the hash; takes a tenth of a second and more. One at a time: the caller waits for the last. */
  async compare(comparison: Comparison): Promise<boolean> {
    clearTimeout(this.#idle);
    const worker = (this.#worker ??= this.#start());
    const done = new AbortController();
    const answer = once(worker, 'message', done) as Promise<[boolean]>;
    const end = once(worker, 'exit', done).then(() => {
      throw new Error('the thread that compares passwords ended');
    });
    worker.postMessage(comparison);
    try {
      const [isRight] = await Promise.race([answer, end]);
      return isRight;
    } finally {
      done.abort();
      this.#idle = setTimeout(() => void this.close(), IDLE_MS).unref();
    }
  }

  /** Ends the thread; a later comparison starts another, even while this one still ends. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
  }

  #start(): Worker {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const worker = new Worker(new URL(`./bcrypt-worker.${extension}`, import.meta.url));
    worker.unref();
    const gone = (): void => {
      if (this.#worker === worker) this.#worker = null;
    };
    return worker.on('error', gone).on('exit', gone);
  }
}
