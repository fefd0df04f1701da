import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Comparison } from './bcrypt-worker.ts';

/** The thread costs megabytes, and most passwords are in the cache of basic-auth.ts. */
const IDLE_MS = 10_000;

/** Compares passwords with bcrypt hashes in a thread that ends when it is idle. */
export class Bcrypt {
  #worker: Worker | null = null;
  #idle: NodeJS.Timeout | undefined;

  /** True if the password matches; takes 0.1 s or more. The caller waits for one comparison before it starts the next. */
  async compare(comparison: Comparison): Promise<boolean> {
    clearTimeout(this.#idle);
    const worker = (this.#worker ??= this.#start());
    const done = new AbortController();
    const result = once(worker, 'message', done) as Promise<[boolean]>;
    const exit = once(worker, 'exit', done).then(() => {
      throw new Error('the thread that compares passwords ended');
    });
    worker.postMessage(comparison);
    try {
      const [isMatch] = await Promise.race([result, exit]);
      return isMatch;
    } finally {
      done.abort();
      this.#idle = setTimeout(() => void this.close(), IDLE_MS).unref();
    }
  }

  /** Ends the thread; a later comparison starts a new one. */
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
