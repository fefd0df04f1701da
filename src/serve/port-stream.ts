import type { MessagePort } from 'node:worker_threads';

/** What the scanning thread sends for each `next`: a piece of text in UTF-8, or null after the last. */
export type Piece = Uint8Array<ArrayBuffer> | null;

interface Waiting {
  readonly resolve: (piece: Piece) => void;
  readonly reject: (reason: Error) => void;
}

/** What the scanning thread writes for one reader, taken piece by piece: nothing is written ahead. */
export class Reading {
  readonly #port: MessagePort;
  readonly #ended: () => void;
  #waiting: Waiting | null = null;
  #isOver = false;
  #failure: Error | null = null;

  /** `ended` hears once of the end, whoever made it. */
  constructor(port: MessagePort, ended: () => void = () => undefined) {
    this.#port = port;
    this.#ended = ended;
    port.on('message', (piece: Piece) => {
      if (piece === null) this.close();
      else this.#take()?.resolve(piece);
    });
    port.on('close', () => {
      if (this.#isOver) return;
      this.#failure = new Error('the scanning thread ended');
      this.#end()?.reject(this.#failure);
    });
  }

  /** The next piece, perhaps an empty one; null after the last and after `close`. Rejects when the thread ends before. */
  next(): Promise<Piece> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#isOver) return Promise.resolve(null);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#port.postMessage('next');
    });
  }

  /** Takes no more. */
  close(): void {
    if (this.#isOver) return;
    this.#end()?.resolve(null);
    this.#port.close();
  }

  #take(): Waiting | null {
    const waiting = this.#waiting;
    this.#waiting = null;
    return waiting;
  }

  #end(): Waiting | null {
    this.#isOver = true;
    this.#ended();
    return this.#take();
  }
}
