import type { Engine } from './worker-client.ts';
import type { Reading } from './port-stream.ts';

/** How often there is a scan while somebody listens, where the configuration names no interval of its own. */
export const LISTENING_MS = 1_000;

/** Those who listen to events. While there are any, scans are asked for between scrapes. */
export class Listening {
  readonly #engine: Engine;
  readonly #everyMs: number | null;
  readonly #scan: () => void;
  readonly #readings = new Set<Reading>();
  #timer: NodeJS.Timeout | undefined;

  /** `scan` is run every `everyMs`; never where that is null, because scans come anyway. */
  constructor(engine: Engine, everyMs: number | null, scan: () => void) {
    this.#engine = engine;
    this.#everyMs = everyMs;
    this.#scan = scan;
  }

  /** Opens what a listener reads. */
  async open(filters: readonly string[]): Promise<Reading> {
    const reading = await this.#engine.listen(filters, () => this.#leave(reading));
    this.#readings.add(reading);
    if (this.#everyMs !== null) this.#timer ??= setInterval(this.#scan, this.#everyMs);
    return reading;
  }

  /** Ends all that listeners read. */
  close(): void {
    for (const reading of this.#readings) reading.close();
  }

  #leave(reading: Reading): void {
    this.#readings.delete(reading);
    if (this.#readings.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
