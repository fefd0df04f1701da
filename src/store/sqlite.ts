import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { randomUuid } from '../common/random-uuid.ts';
import type { Timer } from '../common/clock.ts';
import type { FirstSeenTime, PreviousTime, RecordPage, Store, StoredRecord, StoredText } from './contract.ts';
import { batches } from './records.ts';
import {
  CHUNK,
  inodeOf,
  isCorrupt,
  isFull,
  openDatabase,
  probeJournal,
  removeProbes,
  SIDE_FILES,
  type StoreDatabase,
} from './sqlite-database.ts';
import { reasonOf } from '../common/errors.ts';
import { checkPrivate, makeDirectory } from '../common/files.ts';

const FILE = 'peerscope.sqlite';
/** With its log, the file fits the volume of 64 MiB that deploy/k8s gives it. */
const MAX_BYTES = 48 * 1024 * 1024;
/** The approximate size of the records that are written in one transaction. */
const RECORDS_BYTES = 256 * 1024;
const RETRY_MS = 60_000;
/** The minimum time between checks that the file is still at its path. */
const FILE_CHECK_MS = 5_000;
const DAY_MS = 86_400_000;

export interface SqliteStoreOptions {
  /** Created if absent, with mode 0700. Not used if other users can change files in it. */
  readonly directory: string;
  /** Returns whole milliseconds since 1970. */
  readonly now: () => number;
  /** Receives one line when the store fails, when it recovers, and when its file was renamed, removed or replaced. */
  readonly report: (message: string) => void;
  /** Called after recovery if the store may lack data: it failed, was full, was recreated or was replaced. */
  readonly onIncomplete?: () => void;
  /** Schedules a retry of a failed store that is not in use. */
  readonly after?: Timer['after'];
  /** The maximum size of the file. Entries that expire first are removed first. */
  readonly maxBytes?: number;
  /** The maximum number of records. */
  readonly maxRecords?: number;
}

/**
 * The store in one SQLite file, `peerscope.sqlite`, which several processes of one host may share.
 *
 * A failure is counted and reported once. For the next minute, the store neither reads nor writes (on a full disk, it
 * does not write) and grants every lease. `onIncomplete` lets callers write their data again. A file that is not a
 * database, or that peerscope did not make, is renamed to `peerscope.sqlite.corrupt` and a new file is created. A file with a newer schema is left
 * unchanged.
 */
export class SqliteStore implements Store {
  readonly name = 'sqlite';
  readonly shared = null;
  failures = 0;
  readonly #options: SqliteStoreOptions;
  readonly #path: string;
  readonly #holder = randomUuid();
  #database: StoreDatabase | undefined;
  #isFailing = false;
  #isIncomplete = false;
  #retryAt: number | undefined;
  #checkedAt = 0;
  /** Categories that room is made in. */
  readonly #evicting = new Set<FirstSeenTime['category'] | 'records'>();
  /** When the log said that there are too many of them. */
  readonly #saidFullAt = new Map<string, number>();
  #closed = false;
  #cancelRetry: (() => void) | undefined;

  private constructor(options: SqliteStoreOptions) {
    this.#options = options;
    this.#path = join(options.directory, FILE);
  }

  /** Opens the store. If that fails, the store is not `up` and retries once a minute while in use. */
  static open(options: SqliteStoreOptions): SqliteStore {
    const store = new SqliteStore(options);
    store.#open();
    return store;
  }

  /**
   * Returns true if a directory may contain a store. Readers use it to avoid creating one. If the directory cannot be
   * read, `open` reports the reason.
   */
  static existsIn(directory: string): boolean {
    try {
      return inodeOf(join(directory, FILE)) !== undefined;
    } catch {
      return true;
    }
  }

  get up(): boolean {
    return !this.#isFailing;
  }

  async read(keys: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (let start = 0; start < keys.length; start += CHUNK) {
      if (start > 0) await setImmediate();
      this.#attempt(({ get }) => {
        for (const key of keys.slice(start, start + CHUNK)) {
          const row = get.get(key, this.#options.now());
          if (typeof row?.['v'] === 'string') found.set(key, row['v']);
        }
      });
    }
    return found;
  }

  async write(texts: readonly StoredText[]): Promise<void> {
    for (let start = 0; start < texts.length; start += CHUNK) {
      if (start > 0) await setImmediate();
      await this.#evictRecords(
        this.#attemptWrite((database) => database.put(texts.slice(start, start + CHUNK), this.#options.now())),
      );
    }
  }

  async writeFirstSeen(times: readonly FirstSeenTime[]): Promise<readonly PreviousTime[]> {
    const previousTimes: PreviousTime[] = [];
    for (let start = 0; start < times.length; start += CHUNK) {
      if (start > 0) await setImmediate();
      const chunk = times.slice(start, start + CHUNK);
      const written = this.#attemptWrite((database) => database.writeFirstSeen(chunk, this.#options.now()));
      previousTimes.push(
        ...(written?.previousTimes ?? chunk.map(({ key }) => ({ key, previous: 'unknown' as const }))),
      );
      for (const category of written?.full ?? [])
        await this.#evict(category, 'first-seen times', (database) => database.evict(category));
      await this.#evictRecords(written?.surplus);
    }
    return previousTimes;
  }

  async writeRecords(records: readonly StoredRecord[]): Promise<void> {
    let isFirst = true;
    for (const batch of batches(records, CHUNK, RECORDS_BYTES)) {
      if (!isFirst) await setImmediate();
      isFirst = false;
      await this.#evictRecords(this.#attemptWrite((database) => database.writeRecords(batch, this.#options.now())));
    }
  }

  readRecords(since: string | null): Promise<RecordPage | null> {
    this.#closeLostFile();
    const page = this.#attempt(({ readRecords }) => readRecords(since)) ?? null;
    // A new file is empty: what is known is written again.
    if (page && this.#isIncomplete && !this.#isFailing) this.#recover();
    return Promise.resolve(page);
  }

  async #evictRecords(count = 0): Promise<void> {
    if (count > 0) await this.#evict('records', 'records', (database) => database.evictRecords(count));
  }

  /** Makes room, with a turn of the event loop after each step. */
  async #evict(
    category: FirstSeenTime['category'] | 'records',
    things: string,
    begin: (database: StoreDatabase) => Iterator<undefined, undefined>,
  ): Promise<void> {
    if (this.#evicting.has(category)) return;
    this.#evicting.add(category);
    const now = this.#options.now();
    if (Math.abs(now - (this.#saidFullAt.get(things) ?? -Infinity)) >= DAY_MS) {
      this.#saidFullAt.set(things, now);
      this.#options.report(`Store "${this.#path}" is full of ${things}: the owners with the most lose their oldest`);
    }
    const database = this.#database;
    const steps = database && begin(database);
    while (steps && database === this.#database && this.#attemptWrite(() => steps.next())?.done === false)
      await setImmediate();
    this.#evicting.delete(category);
  }

  acquire(lease: string, ms: number): Promise<number> {
    const now = this.#options.now();
    const freeInMs = this.#attemptWrite(({ acquire, selectLease }) => {
      if (acquire.run({ lease, holder: this.#holder, now, end: now + ms }).changes === 1) return 0;
      return Math.max(1, Number(selectLease.get(lease)?.['until'] ?? 0) - now);
    });
    return Promise.resolve(freeInMs ?? 0);
  }

  renew(lease: string, ms: number): Promise<void> {
    const until = this.#options.now() + ms;
    this.#attemptWrite(({ renew }) => renew.run(until, lease, this.#holder));
    return Promise.resolve();
  }

  release(lease: string): Promise<void> {
    this.#attemptWrite(({ release }) => release.run(lease, this.#holder));
    return Promise.resolve();
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#cancelRetry?.();
    this.#disconnect();
    return Promise.resolve();
  }

  #attempt<T>(work: (database: StoreDatabase) => T): T | undefined {
    if (!this.#database && this.#mayRetry()) this.#open();
    if (!this.#database) return undefined;
    try {
      return work(this.#database);
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  #attemptWrite<T>(work: (database: StoreDatabase) => T): T | undefined {
    this.#closeLostFile();
    const done = this.#mayRetry() ? this.#attempt((database) => ({ result: work(database) })) : undefined;
    if (done) this.#recover();
    else this.#isIncomplete = true;
    return done?.result;
  }

  /** Closes a file that is no longer at its path. Writes to it would be lost. */
  #closeLostFile(): void {
    const now = this.#options.now();
    if (!this.#database || Math.abs(now - this.#checkedAt) < FILE_CHECK_MS) return;
    this.#checkedAt = now;
    try {
      if (inodeOf(this.#path) === this.#database.inode) return;
      this.#disconnect();
      this.#isIncomplete = true;
      this.#options.report(`Store "${this.#path}" was removed or replaced; writing known data again`);
    } catch (error) {
      this.#fail(error);
    }
  }

  #recover(): void {
    const { report, onIncomplete } = this.#options;
    if (this.#isFailing) report(`Store "${this.#path}" recovered`);
    this.#isFailing = false;
    this.#retryAt = undefined;
    this.#cancelRetry?.();
    if (!this.#isIncomplete) return;
    this.#isIncomplete = false;
    onIncomplete?.();
  }

  /** A clock set back must not extend the wait. */
  #mayRetry(): boolean {
    const now = this.#options.now();
    return !this.#closed && (this.#retryAt === undefined || now >= this.#retryAt || now < this.#retryAt - RETRY_MS);
  }

  #open(): void {
    const { directory, report, maxBytes = MAX_BYTES, maxRecords } = this.#options;
    try {
      makeDirectory(directory);
      checkPrivate(directory);
      removeProbes(directory, this.#options.now() - DAY_MS);
      const { journal, reason } = probeJournal(directory);
      if (reason !== null) report(`Store "${this.#path}" runs without a write-ahead log: ${reason}`);
      const inode = inodeOf(this.#path);
      try {
        this.#database = openDatabase(this.#path, journal, maxBytes, maxRecords);
      } catch (error) {
        if (!isCorrupt(error)) throw error;
        this.#renameCorrupt(inode, error);
        this.#database = openDatabase(this.#path, journal, maxBytes, maxRecords);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.failures++;
    const database = this.#database;
    if (database && !isFull(error)) this.#disconnect();
    if (database && isCorrupt(error)) {
      try {
        this.#renameCorrupt(database.inode, error);
      } catch (reason) {
        this.#pause(`${reasonOf(error)}; cannot rename the corrupt file: ${reasonOf(reason)}`);
        return;
      }
      this.#open();
      return;
    }
    this.#pause(reasonOf(error));
  }

  #pause(reason: string): void {
    this.#retryAt = this.#options.now() + RETRY_MS;
    this.#cancelRetry?.();
    this.#cancelRetry = this.#options.after?.(RETRY_MS, () => {
      this.#retryAt = undefined;
      this.#attemptWrite(({ probe }) => probe.run(this.#options.now()));
    });
    if (!this.#isFailing) this.#options.report(`Cannot use store "${this.#path}": ${reason}`);
    this.#isFailing = true;
  }

  /** Renames the corrupt file, unless another process has already replaced it. */
  #renameCorrupt(inode: number | undefined, error: unknown): void {
    if (inode === undefined || inodeOf(this.#path) !== inode) return;
    for (const suffix of SIDE_FILES) rmSync(this.#path + suffix, { force: true });
    renameSync(this.#path, `${this.#path}.corrupt`);
    this.#isIncomplete = true;
    this.#options.report(`Store "${this.#path}" is corrupt and was renamed to "${FILE}.corrupt": ${reasonOf(error)}`);
  }

  #disconnect(): void {
    try {
      this.#database?.database.close();
    } catch (error) {
      this.#options.report(`Cannot close store "${this.#path}": ${reasonOf(error)}`);
    }
    this.#database = undefined;
  }
}
