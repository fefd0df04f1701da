import type { MessagePort } from 'node:worker_threads';

/** What the worker thread sends for each `next`: a chunk of UTF-8 text, or null after the last. */
export type Chunk = Uint8Array<ArrayBuffer> | null;

interface Waiter {
  readonly resolve: (chunk: Chunk) => void;
  readonly reject: (reason: Error) => void;
}

/** A stream of text from the worker thread, read chunk by chunk: the worker writes nothing ahead. */
export class PortStream {
  /** Resolves at the end of the stream, also an early one, and at `close`. */
  readonly ended: Promise<void>;
  readonly #port: MessagePort;
  readonly #resolveEnded: () => void;
  #waiter: Waiter | null = null;
  #isOver = false;
  #failure: Error | null = null;

  constructor(port: MessagePort) {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    this.ended = promise;
    this.#resolveEnded = () => resolve(undefined);
    this.#port = port;
    port.on('message', (chunk: Chunk) => {
      if (chunk === null) this.close();
      else this.#takeWaiter()?.resolve(chunk);
    });
    port.on('close', () => {
      if (this.#isOver) return;
      this.#failure = new Error('the worker thread ended the stream');
      this.#end()?.reject(this.#failure);
    });
  }

  /** The next chunk, which can be empty; null after the last and after `close`. Rejects when the worker ends the stream early. */
  next(): Promise<Chunk> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#isOver) return Promise.resolve(null);
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
      this.#port.postMessage('next');
    });
  }

  close(): void {
    if (this.#isOver) return;
    this.#end()?.resolve(null);
    this.#port.close();
  }

  #takeWaiter(): Waiter | null {
    const waiter = this.#waiter;
    this.#waiter = null;
    return waiter;
  }

  #end(): Waiter | null {
    this.#isOver = true;
    this.#resolveEnded();
    return this.#takeWaiter();
  }
}
