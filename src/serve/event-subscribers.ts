import type { PortStream } from './port-stream.ts';
import type { WorkerClient } from './worker-client.ts';

const SCAN_INTERVAL_MS = 1_000;

/** The subscribers to events. While there are any, the host is scanned every second, unless it is scanned at an interval anyway. */
export class EventSubscribers {
  readonly #worker: WorkerClient;
  readonly #samples: boolean;
  readonly #scan: () => void;
  readonly #streams = new Set<PortStream>();
  #timer: NodeJS.Timeout | undefined;
  #closings = 0;

  /** `samples` is true when something else calls `scan` at an interval. */
  constructor(worker: WorkerClient, samples: boolean, scan: () => void) {
    this.#worker = worker;
    this.#samples = samples;
    this.#scan = scan;
  }

  /** Opens the stream of one subscriber. */
  async open(filters: readonly string[]): Promise<PortStream> {
    const closings = this.#closings;
    const stream = await this.#worker.events(filters);
    this.#streams.add(stream);
    if (!this.#samples) this.#timer ??= setInterval(this.#scan, SCAN_INTERVAL_MS);
    void stream.ended.then(() => this.#remove(stream));
    if (closings !== this.#closings) stream.close();
    return stream;
  }

  /** Ends all streams, including those that are still being opened. */
  close(): void {
    this.#closings++;
    for (const stream of this.#streams) stream.close();
  }

  #remove(stream: PortStream): void {
    this.#streams.delete(stream);
    if (this.#streams.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
