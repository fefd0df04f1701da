import type { Timer } from '../common/clock.ts';
import { encodePods, STORED_PODS_KEYS } from '../enrich/kubernetes/stored-pods.ts';
import type { Pod } from '../enrich/kubernetes/pods.ts';
import type { Store } from '../store/contract.ts';

/** Changes within this time are written together. */
const DELAY_MS = 2_000;
/** The names of an exporter that has ended stay usable this long. */
const KEEP_MS = 3_600_000;

/** Stores the pods of this node, so that commands on this node name them without the Kubernetes API. */
export class StoredNames {
  readonly #store: Store;
  readonly #clock: Timer;
  readonly #pods: () => readonly Pod[];
  /** What was written, by key. */
  readonly #written = new Map<string, { readonly text: string; readonly keepUntil: number }>();
  #cancel: () => void = () => undefined;
  #isSoon = false;
  #isClosed = false;

  constructor(store: Store, clock: Timer, pods: () => readonly Pod[]) {
    this.#store = store;
    this.#clock = clock;
    this.#pods = pods;
  }

  /** The pods changed. */
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

  /** Writes the texts that changed, and those that would soon expire. */
  async #write(): Promise<void> {
    this.#isSoon = false;
    const keepUntil = this.#clock.now() + KEEP_MS;
    const due = encodePods(this.#pods()).flatMap((text, i) => {
      const key = STORED_PODS_KEYS[i] ?? '';
      const before = this.#written.get(key);
      // A clock set back leaves the times of another hour.
      const isFresh = before && Math.abs(before.keepUntil - keepUntil) < KEEP_MS / 2;
      if ((isFresh && before.text === text) || (!before && text === '[]')) return [];
      this.#written.set(key, { text, keepUntil });
      return [{ key, text, keepUntil }];
    });
    if (!this.#isClosed) this.#writeAfter(KEEP_MS / 4);
    if (due.length > 0) await this.#store.write(due);
  }

  #writeAfter(ms: number): void {
    this.#cancel();
    this.#cancel = this.#clock.after(ms, () => void this.#write());
  }
}
