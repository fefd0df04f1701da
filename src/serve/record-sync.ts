import type { Timer } from '../common/clock.ts';
import type { Store, StoredRecord } from '../store/contract.ts';
import type { Notifications } from './messages.ts';

const READ_MS = 60_000;
/** After this many characters the reading pauses, so that a worker in a scan does not queue all records of a large store. */
const PAUSE_LENGTH = 8_000_000;
const PAUSE_MS = 1_000;
/** A page costs as much as these characters, even an empty one. */
const PAGE_LENGTH = 10_000;
/** A full store has about 500 pages. One without an end must not hold back what is new for ever. */
const MAX_PAGES = 2_000;
/** The maximum number of records that wait to be written. */
const MAX_WAITING = 200_000;

type Merge = (payload: Notifications['merge']) => void;

/**
 * Exchanges records with the store: reads all of them at the start and once a minute those that changed, and writes those of the worker.
 * A failed read is tried again a minute later from the same cursor.
 */
export class RecordSync {
  readonly #store: Store | null;
  readonly #clock: Timer;
  readonly #merge: Merge;
  /** Records to write, one for each key. */
  readonly #waiting = new Map<string, StoredRecord>();
  #writing: Promise<void> | null = null;
  #cursor: string | null = null;
  /** The pages that were read. */
  #pages = 0;
  /** How often the reading began again. */
  #restarts = 0;
  #isClosed = false;
  #cancel: () => void = () => undefined;

  /** Without a store there is nothing to wait for. `merge` takes what was read; `isComplete` once nothing is missing. */
  constructor(store: Store | null, clock: Timer, merge: Merge) {
    this.#store = store;
    this.#clock = clock;
    this.#merge = merge;
  }

  /** Starts to read. */
  start(): void {
    if (this.#store) void this.#read(this.#store);
    else this.#merge({ records: [], isComplete: true });
  }

  /** Writes records. A later one replaces one with the same key that still waits. */
  write(records: readonly StoredRecord[]): void {
    if (!this.#store || this.#isClosed) return;
    for (const record of records) {
      this.#waiting.delete(record.key);
      this.#waiting.set(record.key, record);
    }
    for (const key of this.#waiting.keys()) {
      if (this.#waiting.size <= MAX_WAITING) break;
      this.#waiting.delete(key);
    }
    this.#writing ??= this.#write(this.#store).finally(() => {
      this.#writing = null;
    });
  }

  /** Reads everything again: the store lost data. */
  restart(): void {
    this.#cursor = null;
    this.#restarts++;
  }

  /** Stops reading, and waits until the records are written. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    await this.#writing;
  }

  async #write(store: Store): Promise<void> {
    while (this.#waiting.size > 0) {
      const records = [...this.#waiting.values()];
      this.#waiting.clear();
      await store.writeRecords(records);
    }
  }

  async #read(store: Store): Promise<void> {
    let length = 0;
    let isLast = false;
    while (!isLast && length < PAUSE_LENGTH) {
      const restarts = this.#restarts;
      const page = await store.readRecords(this.#cursor);
      if (this.#isClosed) return;
      if (!page) break;
      // After a restart this page is not where the next one begins.
      const isCurrent = this.#restarts === restarts;
      if (isCurrent) this.#cursor = page.next;
      isLast = page.isLast && isCurrent;
      this.#merge({ records: page.records, isComplete: isLast || ++this.#pages >= MAX_PAGES });
      length += PAGE_LENGTH;
      for (const { key, text } of page.records) length += key.length + text.length;
    }
    const wait = isLast || length < PAUSE_LENGTH ? READ_MS : PAUSE_MS;
    this.#cancel = this.#clock.after(wait, () => void this.#read(store));
  }
}
