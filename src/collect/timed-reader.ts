import { Worker } from 'node:worker_threads';
import { ASKED, DONE, IDLE, LENGTH, MOST, READING, STATE, type SharedRead } from './shared-read.ts';

/** How long a read may take: the others need microseconds. */
const READ_MS = 1_000;
/** How long a thread may take to start. */
const START_MS = 3_000;
/** Threads that may be blocked at the same time. */
const MOST_BLOCKED = 4;
const LONGEST = 64 << 10;

/** A thread runs 30 lines. */
const LIMITS = { maxYoungGenerationSizeMb: 1, stackSizeMb: 1 };

/**
 * Reads files of /proc that a process can block, in a thread that is left behind if it takes too long. For the arguments and the memory map of a
 * process, the kernel waits for the lock of that map; a process can hold it for as long as it likes, with a file system of its own (FUSE).
 * No thread in such a read can be ended.
 */
export class TimedReader {
  readonly #blocked: SharedRead[] = [];
  #idle: SharedRead | null = null;

  /** How many reads are blocked now. */
  get blocked(): number {
    for (let i = this.#blocked.length - 1; i >= 0; i--) {
      const thread = this.#blocked[i];
      if (!thread || Atomics.load(thread.control, STATE) !== DONE) continue;
      this.#blocked.splice(i, 1);
      this.#idle ??= thread;
    }
    return this.#blocked.length;
  }

  /** The content of a file, truncated to `most` bytes; null if it cannot be read, or no thread may be left behind any more. */
  read(path: string, most = LONGEST): Buffer | 'blocked' | null {
    if (this.blocked >= MOST_BLOCKED) return null;
    const thread = this.#idle ?? startThread();
    this.#idle = null;
    const { control, bytes } = thread;
    Atomics.store(control, LENGTH, new TextEncoder().encodeInto(path, bytes).written);
    Atomics.store(control, MOST, Math.min(most, LONGEST));
    Atomics.store(control, STATE, ASKED);
    Atomics.notify(control, STATE);
    Atomics.wait(control, STATE, ASKED, START_MS);
    Atomics.wait(control, STATE, READING, READ_MS);
    if (Atomics.load(control, STATE) !== DONE) {
      this.#blocked.push(thread);
      return 'blocked';
    }
    this.#idle = thread;
    const length = Atomics.load(control, LENGTH);
    return length < 0 ? null : Buffer.from(bytes.subarray(0, length));
  }
}

function startThread(): SharedRead {
  const shared: SharedRead = {
    control: new Int32Array(new SharedArrayBuffer(12)),
    bytes: new Uint8Array(new SharedArrayBuffer(LONGEST)),
  };
  Atomics.store(shared.control, STATE, IDLE);
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const url = new URL(`./read-worker.${extension}`, import.meta.url);
  const thread = new Worker(url, { workerData: shared, resourceLimits: LIMITS, execArgv: [], env: {} });
  // One that ends counts as blocked.
  thread.on('error', () => undefined).unref();
  return shared;
}
