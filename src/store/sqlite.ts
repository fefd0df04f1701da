import { randomUUID } from 'node:crypto';
import { readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { setImmediate } from 'node:timers/promises';
import type { Timer } from '../common/clock.ts';
import { type Store, type StoredText, KEPT_MS, type Kept, type Sighting } from './contract.ts';
import { makeFolder } from '../common/files.ts';

const FILE = 'peerscope.sqlite';
const SCHEMA = 2;
const CHUNK = 1_000;
const MOST_BYTES = 32 * 1024 * 1024;
/** First times on each shelf; a row takes about 120 bytes of the file. */
const MOST_FIRST_SEEN = 40_000;
/** The thread that serves HTTP waits for it, so it stays below what a health check bears. */
const BUSY_MS = 1_000;
const RETRY_MS = 60_000;
/** How often, at most, a write looks whether the file is still the one at its path. */
const LOOK_MS = 5_000;
const DAY_MS = 86_400_000;

/** SQLite's primary result codes (https://www.sqlite.org/rescode.html). */
const CORRUPT = 11;
const FULL = 13;
const NOT_A_DATABASE = 26;

export interface SqliteOptions {
  /** Made if absent, for its owner alone. */
  readonly folder: string;
  /** Milliseconds since 1970, whole. */
  readonly now: () => number;
  /** Takes one line when the store fails, when it works again, and when its file was set aside, removed or replaced. */
  readonly report: (message: string) => void;
  /** Hears, once it can be written to again, that it may lack what it was given: it was away, full, begun anew or replaced. */
  readonly lacks?: () => void;
  /** Lets a store that failed be tried again while nobody uses it. */
  readonly after?: Timer['after'];
  /** What the file may grow to; what would be kept for the shortest time goes first. */
  readonly mostBytes?: number;
}

/**
 * The store in one SQLite file, `peerscope.sqlite`, which several processes of one host may share.
 *
 * Whatever fails is counted and said once; then nothing is read or written for a minute (on a full disk, nothing written) and
 * every lease is granted. Who hears that it lacks something can give it again. A file that is no database is renamed to
 * `peerscope.sqlite.corrupt` and a new one begun, as where it was removed; a file of a newer schema is left alone.
 */
export class SqliteStore implements Store {
  readonly name = 'sqlite';
  readonly commons = null;
  failures = 0;
  readonly #options: SqliteOptions;
  readonly #path: string;
  readonly #holder = randomUUID();
  #connection: Connection | undefined;
  #trouble = false;
  #lacking = false;
  #retryAt: number | undefined;
  #lookedAt = 0;
  #closed = false;
  #cancelRetry: (() => void) | undefined;

  private constructor(options: SqliteOptions) {
    this.#options = options;
    this.#path = join(options.folder, FILE);
  }

  /** Opens the store; where that cannot be, it is not `up` and tries again each minute while it is used. */
  static open(options: SqliteOptions): SqliteStore {
    const store = new SqliteStore(options);
    store.#open();
    return store;
  }

  /** Says whether a folder may hold a store, so that who only reads need not make one; why it cannot be used, `open` tells. */
  static mayBeIn(folder: string): boolean {
    try {
      return inodeOf(join(folder, FILE)) !== undefined;
    } catch {
      return true;
    }
  }

  get up(): boolean {
    return !this.#trouble;
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
      this.#attemptWrite((connection) => connection.put(texts.slice(start, start + CHUNK), this.#options.now()));
    }
  }

  async keepEarliest(sightings: readonly Sighting[]): Promise<readonly Kept[]> {
    const kept: Kept[] = [];
    for (let start = 0; start < sightings.length; start += CHUNK) {
      if (start > 0) await setImmediate();
      const told = sightings.slice(start, start + CHUNK);
      const before = this.#attemptWrite((connection) => connection.keepEarliest(told, this.#options.now()));
      kept.push(...(before ?? told.map(({ key }) => ({ key, before: 'unknown' as const }))));
    }
    return kept;
  }

  acquire(lease: string, ms: number): Promise<number> {
    const now = this.#options.now();
    const freeInMs = this.#attemptWrite(({ take, leaseEnd }) => {
      if (take.run({ lease, holder: this.#holder, now, end: now + ms }).changes === 1) return 0;
      return Math.max(1, Number(leaseEnd.get(lease)?.['until'] ?? 0) - now);
    });
    return Promise.resolve(freeInMs ?? 0);
  }

  hold(lease: string, ms: number): Promise<void> {
    const until = this.#options.now() + ms;
    this.#attemptWrite(({ hold }) => hold.run(until, lease, this.#holder));
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

  #attempt<T>(work: (connection: Connection) => T): T | undefined {
    if (!this.#connection && this.#mayRetry()) this.#open();
    if (!this.#connection) return undefined;
    try {
      return work(this.#connection);
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  #attemptWrite<T>(work: (connection: Connection) => T): T | undefined {
    this.#leaveLostFile();
    const done = this.#mayRetry() ? this.#attempt((connection) => ({ result: work(connection) })) : undefined;
    if (done) this.#recover();
    else this.#lacking = true;
    return done?.result;
  }

  /** A file that is no more at its path takes everything and keeps nothing. */
  #leaveLostFile(): void {
    const now = this.#options.now();
    if (!this.#connection || Math.abs(now - this.#lookedAt) < LOOK_MS) return;
    this.#lookedAt = now;
    try {
      if (inodeOf(this.#path) === this.#connection.inode) return;
      this.#disconnect();
      this.#lacking = true;
      this.#options.report(`Store "${this.#path}" was removed or replaced; what is known here is written again`);
    } catch (error) {
      this.#fail(error);
    }
  }

  #recover(): void {
    const { report, lacks } = this.#options;
    if (this.#trouble) report(`Store "${this.#path}" works again`);
    this.#trouble = false;
    this.#retryAt = undefined;
    this.#cancelRetry?.();
    if (!this.#lacking) return;
    this.#lacking = false;
    lacks?.();
  }

  /** A clock put back must not make the wait longer. */
  #mayRetry(): boolean {
    const now = this.#options.now();
    return !this.#closed && (this.#retryAt === undefined || now >= this.#retryAt || now < this.#retryAt - RETRY_MS);
  }

  #open(): void {
    const { folder, report, mostBytes = MOST_BYTES } = this.#options;
    try {
      makeFolder(folder);
      removeProbes(folder, this.#options.now() - DAY_MS);
      const { journal, reason } = probeJournal(folder);
      if (reason !== null) report(`Store "${this.#path}" works without a write-ahead log: ${reason}`);
      const inode = inodeOf(this.#path);
      try {
        this.#connection = connect(this.#path, journal, mostBytes);
      } catch (error) {
        if (!isCorrupt(error)) throw error;
        this.#setAside(inode, error);
        this.#connection = connect(this.#path, journal, mostBytes);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.failures++;
    const connection = this.#connection;
    if (connection && resultCode(error) !== FULL) this.#disconnect();
    if (connection && isCorrupt(error)) {
      try {
        this.#setAside(connection.inode, error);
      } catch (reason) {
        this.#pause(`${reasonOf(error)}, and it cannot be set aside: ${reasonOf(reason)}`);
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
    if (!this.#trouble) this.#options.report(`Cannot use store "${this.#path}": ${reason}`);
    this.#trouble = true;
  }

  /** Another process may have done it already: then the path leads to its new file, which is not the broken one. */
  #setAside(inode: number | undefined, error: unknown): void {
    if (inode === undefined || inodeOf(this.#path) !== inode) return;
    for (const suffix of COMPANIONS) rmSync(this.#path + suffix, { force: true });
    renameSync(this.#path, `${this.#path}.corrupt`);
    this.#lacking = true;
    this.#options.report(`Store "${this.#path}" begins anew, the former is kept as .corrupt: ${reasonOf(error)}`);
  }

  #disconnect(): void {
    try {
      this.#connection?.database.close();
    } catch (error) {
      this.#options.report(`Cannot close store "${this.#path}": ${reasonOf(error)}`);
    }
    this.#connection = undefined;
  }
}

/** Files that SQLite keeps beside a database. */
const COMPANIONS = ['-wal', '-shm', '-journal'];

type Connection = ReturnType<typeof connect>;

function connect(path: string, journal: string, mostBytes: number) {
  const database = openDatabase(path);
  try {
    const pragma = (name: string): number => Number(database.prepare(`PRAGMA ${name}`).get()?.[name]);
    const schema = pragma('user_version');
    if (schema > SCHEMA) throw new Error(`it has schema ${schema} of a newer peerscope, this one knows ${SCHEMA}`);
    database.exec(`PRAGMA journal_mode = ${journal}; PRAGMA synchronous = NORMAL`);
    const mostPages = Math.floor(mostBytes / pragma('page_size'));
    database.exec(`PRAGMA max_page_count = ${mostPages}`);
    if (schema < SCHEMA) {
      transaction(database, () =>
        database.exec(`
          CREATE TABLE IF NOT EXISTS record (k TEXT PRIMARY KEY, v TEXT NOT NULL, x INTEGER NOT NULL) STRICT, WITHOUT ROWID;
          CREATE INDEX IF NOT EXISTS record_x ON record (x);
          CREATE TABLE IF NOT EXISTS lease (k TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
          CREATE TABLE IF NOT EXISTS first_seen (shelf TEXT, k TEXT, at INTEGER NOT NULL, x INTEGER NOT NULL, PRIMARY KEY (shelf, k))
            STRICT, WITHOUT ROWID;
          PRAGMA user_version = ${SCHEMA}`),
      );
    }
    const past = certainPast();
    const set = database.prepare('INSERT OR REPLACE INTO record VALUES (?, ?, ?)');
    const expire = database.prepare(
      'DELETE FROM record WHERE k IN (SELECT k FROM record WHERE x <= ? ORDER BY x LIMIT ?)',
    );
    const shrink = database.prepare('DELETE FROM record WHERE k IN (SELECT k FROM record ORDER BY x LIMIT ?)');
    /** Twice what comes in: rows go from all over the tree, and pages become free only when enough of them are gone. */
    const makeRoom = (rows: number): void => {
      const used = pragma('page_count') - pragma('freelist_count');
      if (used > mostPages * 0.875) shrink.run(2 * rows);
    };
    const seenBefore = database.prepare('SELECT at FROM first_seen WHERE shelf = ? AND k = ?');
    const see = database.prepare(
      `INSERT INTO first_seen VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at, x = max(x, excluded.x)`,
    );
    const outdate = database.prepare('DELETE FROM first_seen WHERE shelf = ? AND x <= ?');
    const firstSeenOn = database.prepare('SELECT count(*) AS n FROM first_seen WHERE shelf = ?');
    const forget = database.prepare(
      'DELETE FROM first_seen WHERE shelf = ?1 AND k IN (SELECT k FROM first_seen WHERE shelf = ?1 ORDER BY x LIMIT ?2)',
    );
    return {
      database,
      inode: inodeOf(path),
      get: database.prepare('SELECT v FROM record WHERE k = ? AND x > ?'),
      put: (texts: readonly StoredText[], now: number): void =>
        transaction(database, () => {
          expire.run(past(now), CHUNK);
          makeRoom(texts.length);
          for (const { key, text, keepUntil } of texts) set.run(key, text, keepUntil);
        }),
      keepEarliest: (sightings: readonly Sighting[], now: number): Kept[] => {
        const kept: Kept[] = [];
        transaction(database, () => {
          makeRoom(sightings.length);
          const cutoff = past(now);
          for (const { shelf, key, at } of sightings) {
            const row = seenBefore.get(shelf, key);
            const before = row ? Number(row['at']) : null;
            see.run(shelf, key, Math.min(at, before ?? at), now + KEPT_MS);
            kept.push({ key, before });
          }
          for (const shelf of new Set(sightings.map((sighting) => sighting.shelf))) {
            outdate.run(shelf, cutoff);
            // A tenth more than need be, so that the oldest are not looked for each time.
            if (Number(firstSeenOn.get(shelf)?.['n']) > MOST_FIRST_SEEN) forget.run(shelf, MOST_FIRST_SEEN / 10);
          }
        });
        return kept;
      },
      take: database.prepare(
        `INSERT INTO lease VALUES (:lease, :holder, :end)
         ON CONFLICT (k) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE until <= :now OR until > :end`,
      ),
      leaseEnd: database.prepare('SELECT until FROM lease WHERE k = ?'),
      hold: database.prepare('UPDATE lease SET until = ? WHERE k = ? AND holder = ?'),
      /** A write that says whether there can be others. */
      probe: database.prepare(
        `INSERT INTO lease VALUES ('probe', '', ?) ON CONFLICT (k) DO UPDATE SET until = excluded.until`,
      ),
      release: database.prepare('DELETE FROM lease WHERE k = ? AND holder = ?'),
    };
  } catch (error) {
    database.close();
    throw error;
  }
}

/**
 * Tells, of a clock that may jump ahead and come back, a time that has passed for certain: the clock showed it, and then for a day
 * nothing earlier. -Infinity during the first day.
 */
function certainPast(): (now: number) => number {
  let mark = Infinity;
  let past = -Infinity;
  return (now) => {
    if (now < mark) past = Math.min(past, (mark = now));
    else if (now >= mark + DAY_MS) [past, mark] = [mark, now];
    return past;
  };
}

/** The module is loaded only here: it is absent before Node 22.13, and its class is renamed (DEP0210) later on. */
function openDatabase(path: string): DatabaseSync {
  const sqlite = process.getBuiltinModule('node:sqlite') as
    { Database?: typeof DatabaseSync; DatabaseSync: typeof DatabaseSync } | undefined;
  if (!sqlite) throw new Error(`Node ${process.version} has no node:sqlite`);
  const database = new (sqlite.Database ?? sqlite.DatabaseSync)(path);
  database.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
  return database;
}

function transaction(database: DatabaseSync, work: () => void): void {
  database.exec('BEGIN IMMEDIATE');
  try {
    work();
    database.exec('COMMIT');
  } catch (error) {
    try {
      database.exec('ROLLBACK');
    } catch {
      // SQLite has rolled back by itself where the disk is full or an I/O failed.
    }
    throw error;
  }
}

/**
 * Finds by writing to a throw-away database how a folder can hold one: SQLite answers "wal" on read-only and on network
 * volumes too, and only the first write fails. The reason says why there can be no write-ahead log; throws if there is no way.
 */
function probeJournal(folder: string): { journal: 'WAL' | 'DELETE'; reason: string | null } {
  try {
    probe(folder, 'WAL');
    return { journal: 'WAL', reason: null };
  } catch (error) {
    probe(folder, 'DELETE');
    return { journal: 'DELETE', reason: reasonOf(error) };
  }
}

function probe(folder: string, journal: string): void {
  const path = join(folder, `probe-${randomUUID()}.sqlite`);
  try {
    const database = openDatabase(path);
    try {
      // Nothing of it is to last: without waiting for the disk, which takes up to 0.1 s, it finds the same.
      database.exec(
        `PRAGMA synchronous = OFF; PRAGMA journal_mode = ${journal}; CREATE TABLE probe (x); INSERT INTO probe VALUES (1)`,
      );
      database.prepare('SELECT x FROM probe').get();
    } finally {
      database.close();
    }
  } finally {
    for (const suffix of ['', ...COMPANIONS]) rmSync(path + suffix, { force: true });
  }
}

/** Removes what processes left before a time that were killed while they probed, where that can be; others may be probing now. */
function removeProbes(folder: string, before: number): void {
  try {
    for (const name of readdirSync(folder)) {
      if (!/^probe-[\da-f-]{36}\.sqlite(?:-\w+)?$/.test(name)) continue;
      const path = join(folder, name);
      if ((statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Infinity) < before) rmSync(path, { force: true });
    }
  } catch {
    // They take a few kilobytes each and do no other harm.
  }
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

function isCorrupt(error: unknown): boolean {
  return [CORRUPT, NOT_A_DATABASE].includes(resultCode(error));
}

/** The primary code is the low byte of what node:sqlite calls errcode. */
function resultCode(error: unknown): number {
  return error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : 0;
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
