import { Worker } from 'node:worker_threads';
import type { Comparison } from './bcrypt-thread.ts';

/** A thread costs megabytes, and passwords are rarely new. */
const IDLE_MS = 10_000;

/** Compares passwords with bcrypt's hashes in a thread of its own, which is there only while there is something to compare. */
export class Bcrypt {
  #worker: Worker | null = null;
  #waiting: PromiseWithResolvers<boolean> | null = null;
  #idle: NodeJS.Timeout | undefined;

  /** True where the password is that of the hash; takes a tenth of a second and more. One at a time: the caller waits for the last. */
  async compare(comparison: Comparison): Promise<boolean> {
    clearTimeout(this.#idle);
    this.#worker ??= this.#start();
    this.#waiting = Promise.withResolvers();
    this.#worker.postMessage(comparison);
    try {
      return await this.#waiting.promise;
    } finally {
      this.#waiting = null;
      this.#idle = setTimeout(() => void this.close(), IDLE_MS).unref();
    }
  }

  /** Ends the thread; a later comparison starts another. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#worker?.terminate();
  }

  #start(): Worker {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const worker = new Worker(new URL(`./bcrypt-thread.${extension}`, import.meta.url));
    worker.unref();
    worker.on('message', (isRight: boolean) => this.#waiting?.resolve(isRight));
    worker.on('error', (error: Error) => this.#waiting?.reject(error));
    worker.on('exit', () => {
      this.#worker = null;
      this.#waiting?.reject(new Error('the thread that compares passwords ended'));
    });
    return worker;
  }
}
