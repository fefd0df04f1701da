import { EndedSockets, parseEnded } from './sock-diag.ts';

/** The most ended sockets that wait to be taken, about 30 MB. What comes then is counted as an overrun. */
const MOST_WAITING = 1 << 18;

/** Ended sockets between their event and the scan that takes them. */
export class EndedQueue {
  events = 0;
  overruns = 0;
  #filling = new EndedSockets();
  #taken = new EndedSockets();

  /** Appends the events of one datagram. */
  append(bytes: Uint8Array, littleEndian: boolean, nsid: number, receivedAt: number): void {
    const before = this.#filling.count;
    if (before >= MOST_WAITING) {
      this.overruns++;
      return;
    }
    parseEnded(bytes, littleEndian, nsid, receivedAt, this.#filling);
    this.events += this.#filling.count - before;
  }

  /** Removes all. The result is valid until the next call. */
  take(): EndedSockets {
    const full = this.#filling;
    const { capacity } = this.#taken;
    // Memory of a burst is released.
    this.#filling = capacity > 4096 && full.count < capacity / 8 ? new EndedSockets() : this.#taken;
    this.#filling.clear();
    this.#taken = full;
    return full;
  }
}
