import type { Timer } from '../common/clock.ts';
import type { Store } from '../store/contract.ts';

/** Changes within this time are written together. */
const DELAY_MS = 2_000;
/** How often texts are written again, before they expire. */
const RENEW_MS = 1_200_000;

/** A text for commands on this host. It stays usable for `keepMs` after the exporter has ended. */
export interface StateText {
  readonly key: string;
  readonly text: string;
  readonly keepMs: number;
}

/** Stores what commands on this host take from the exporter, such as the names of pods. */
export class StoredState {
  readonly #store: Store;
  readonly #clock: Timer;
  readonly #texts: () => readonly StateText[];
  /** What was written, and when. */
  readonly #written = new Map<string, { readonly text: string; readonly at: number }>();
  #cancel: () => void = () => undefined;
  #isSoon = false;
  #isClosed = false;

  constructor(store: Store, clock: Timer, texts: () => readonly StateText[]) {
    this.#store = store;
    this.#clock = clock;
    this.#texts = texts;
  }

  /** The texts changed. */
  change(): void {
    if (this.#isSoon || this.#isClosed) return;
    this.#isSoon = true;
    this.#writeAfter(DELAY_MS);
  }

  /** The store lost data. */
  restart(): void {
    if (this.#written.size === 0) return;
    this.#written.clear();
    this.change();
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel();
  }

  /** Writes the texts that changed, and those that were written long ago. */
  #write(): void {
    this.#isSoon = false;
    const at = this.#clock.monotonic();
    const now = this.#clock.now();
    const due = this.#texts().filter(({ key, text }) => {
      const before = this.#written.get(key);
      return before?.text !== text || at - before.at >= RENEW_MS;
    });
    for (const { key, text } of due) this.#written.set(key, { text, at });
    this.#writeAfter(RENEW_MS / 2);
    if (due.length > 0)
      void this.#store.write(due.map(({ key, text, keepMs }) => ({ key, text, keepUntil: now + keepMs })));
  }

  #writeAfter(ms: number): void {
    this.#cancel();
    this.#cancel = this.#clock.after(ms, () => this.#write());
  }
}
