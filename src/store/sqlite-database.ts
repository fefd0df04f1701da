import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { randomUuid } from '../common/random-uuid.ts';
import { reasonOf } from '../common/errors.ts';
import { makePrivateFile } from '../common/files.ts';
import { evict } from './first-seen-eviction.ts';
import {
  FIRST_SEEN_TTL_MS,
  type FirstSeenTime,
  type PreviousTime,
  type StoredRecord,
  type StoredText,
} from './contract.ts';
import { openRecords, RECORD_OBJECTS } from './sqlite-records.ts';

const SCHEMA = 3;
/** The maximum number of rows per transaction. */
export const CHUNK = 1_000;
/** The maximum number of first-seen times per category. A row takes about 120 bytes. */
const MAX_FIRST_SEEN = 40_000;
/** The HTTP thread waits for the database, so this stays below the timeout of a health check. */
const BUSY_MS = 1_000;
const DAY_MS = 86_400_000;

/** The schema: a file with anything else, such as a view or a trigger, was not made by peerscope. */
const OBJECTS: Readonly<Record<string, string>> = {
  record: 'CREATE TABLE record (k TEXT PRIMARY KEY, v TEXT NOT NULL, x INTEGER NOT NULL) STRICT, WITHOUT ROWID',
  record_x: 'CREATE INDEX record_x ON record (x)',
  lease: 'CREATE TABLE lease (k TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID',
  first_seen:
    'CREATE TABLE first_seen (shelf TEXT, k TEXT, at INTEGER NOT NULL, x INTEGER NOT NULL, PRIMARY KEY (shelf, k)) STRICT, WITHOUT ROWID',
  ...RECORD_OBJECTS,
};
/** A file of this many times the maximum size was not made by peerscope either. */
const SIZE_FACTOR = 4;

/** SQLite primary result codes (https://www.sqlite.org/rescode.html). */
const CORRUPT = 11;
const FULL = 13;
const NOT_A_DATABASE = 26;

/** Files that SQLite keeps next to a database. */
export const SIDE_FILES = ['-wal', '-shm', '-journal'];

interface WrittenTimes {
  readonly previousTimes: readonly PreviousTime[];
  readonly full: readonly FirstSeenTime['category'][];
  /** How many records are too many. */
  readonly surplus: number;
}

/** An open database with its prepared statements. */
export type StoreDatabase = ReturnType<typeof openDatabase>;

/**
 * Opens the database file, creates or updates its schema, and prepares all statements. Throws if SQLite cannot use the
 * file or if its schema is newer.
 */
export function openDatabase(path: string, journal: string, maxBytes: number, maxRecords?: number) {
  makePrivateFile(path);
  for (const suffix of SIDE_FILES) makePrivateFile(path + suffix, false);
  const { size } = statSync(path);
  if (size > SIZE_FACTOR * maxBytes) throw new ForeignFile(`its size is ${size} bytes`);
  const database = openFile(path);
  try {
    database.exec('PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON');
    const pragma = (name: string): number => Number(database.prepare(`PRAGMA ${name}`).get()?.[name]);
    const schema = pragma('user_version');
    if (schema > SCHEMA) throw new Error(`its schema version ${schema} is newer than the supported version ${SCHEMA}`);
    checkSchema(database);
    database.exec(`PRAGMA journal_mode = ${journal}; PRAGMA synchronous = NORMAL`);
    const maxPages = Math.floor(maxBytes / pragma('page_size'));
    database.exec(`PRAGMA max_page_count = ${maxPages}`);
    if (schema < SCHEMA) {
      transaction(database, () =>
        database.exec(`
          ${Object.values(OBJECTS)
            .map((sql) => `${sql.replace(/^CREATE (?:TABLE|INDEX)/, '$& IF NOT EXISTS')};`)
            .join('\n')}
          PRAGMA user_version = ${SCHEMA}`),
      );
    }
    const past = certainPast();
    const records = openRecords(database, maxRecords);
    const set = database.prepare('INSERT OR REPLACE INTO record VALUES (?, ?, ?)');
    const expire = database.prepare(
      'DELETE FROM record WHERE k IN (SELECT k FROM record WHERE x <= ? ORDER BY x LIMIT ?)',
    );
    const shrink = database.prepare('DELETE FROM record WHERE k IN (SELECT k FROM record ORDER BY x LIMIT ?)');
    /**
     * Deletes twice the number of new rows, if the file is nearly full: texts. Rows are spread over the tree, and a page is freed only when
     * enough of its rows are gone. Returns how many records must be deleted instead if there are no texts.
     */
    const makeRoom = (rows: number): number => {
      const used = pragma('page_count') - pragma('freelist_count');
      return used > maxPages * 0.875 && shrink.run(2 * rows).changes === 0 ? Math.max(2 * rows, CHUNK) : 0;
    };
    const selectTime = database.prepare('SELECT at FROM first_seen WHERE shelf = ? AND k = ?');
    const upsert = database.prepare(
      `INSERT INTO first_seen VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at, x = max(x, excluded.x)`,
    );
    const deleteExpired = database.prepare('DELETE FROM first_seen WHERE shelf = ? AND x <= ?');
    const countTimes = database.prepare('SELECT count(*) AS n FROM first_seen WHERE shelf = ?');
    const selectPage = database.prepare('SELECT k, x FROM first_seen WHERE shelf = ? AND k > ? ORDER BY k LIMIT ?');
    const removeTime = database.prepare('DELETE FROM first_seen WHERE shelf = ? AND k = ? AND x = ?');
    return {
      database,
      inode: inodeOf(path),
      get: database.prepare('SELECT v FROM record WHERE k = ? AND x > ?'),
      /** Returns how many records are too many. */
      put: (texts: readonly StoredText[], now: number): number =>
        transaction(database, () => {
          expire.run(past(now), CHUNK);
          const surplus = makeRoom(texts.length);
          for (const { key, text, keepUntil } of texts) set.run(key, text, keepUntil);
          return surplus;
        }),
      /** Also returns the categories with too many times. */
      writeFirstSeen: (times: readonly FirstSeenTime[], now: number): WrittenTimes => {
        const previousTimes: PreviousTime[] = [];
        const full: FirstSeenTime['category'][] = [];
        const surplus = transaction(database, () => {
          const surplus = makeRoom(times.length);
          const cutoff = past(now);
          for (const { category, key, at } of times) {
            const row = selectTime.get(category, key);
            const previous = row ? Number(row['at']) : null;
            upsert.run(category, key, Math.min(at, previous ?? at), now + FIRST_SEEN_TTL_MS);
            previousTimes.push({ key, previous });
          }
          for (const category of new Set(times.map((time) => time.category))) {
            deleteExpired.run(category, cutoff);
            if (Number(countTimes.get(category)?.['n']) > MAX_FIRST_SEEN) full.push(category);
          }
          return surplus;
        });
        return { previousTimes, full, surplus };
      },
      /** Returns how many records are too many. */
      writeRecords: (written: readonly StoredRecord[], now: number): number =>
        transaction(database, () => {
          const surplus = makeRoom(written.length);
          return Math.max(surplus, records.write(written, now, past(now)));
        }),
      evictRecords: (count: number) =>
        evict({ ...records.rows, transaction: (work) => transaction(database, work) }, count),
      readRecords: records.read,
      /** Deletes a tenth, so that this does not run on each write. */
      evict: (category: FirstSeenTime['category']) =>
        evict(
          {
            page: (after, most) => selectPage.all(category, after, most),
            remove: (key, expires) => void removeTime.run(category, key, expires),
            transaction: (work) => transaction(database, work),
          },
          MAX_FIRST_SEEN / 10,
        ),
      acquire: database.prepare(
        `INSERT INTO lease VALUES (:lease, :holder, :end)
         ON CONFLICT (k) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE until <= :now OR until > :end`,
      ),
      selectLease: database.prepare('SELECT until FROM lease WHERE k = ?'),
      renew: database.prepare('UPDATE lease SET until = ? WHERE k = ? AND holder = ?'),
      /** A write that tests whether the database is writable. */
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

/** Opens the database file of another process. Throws if SQLite cannot read it, or if peerscope did not make it. */
export function openForReading(path: string): DatabaseSync {
  const database = openFile(path, { readOnly: true });
  try {
    database.exec('PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON');
    checkSchema(database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** The file has something that peerscope never writes. */
class ForeignFile extends Error {}

/** Throws if the file has other objects than ours: reading from a view or writing with a trigger can take forever. */
function checkSchema(database: DatabaseSync): void {
  const asWritten = (sql: string): string => sql.replaceAll(/\s+/g, ' ').trim();
  for (const { type, name, sql } of database.prepare('SELECT type, name, sql FROM sqlite_schema').iterate()) {
    const expected = OBJECTS[String(name)];
    // The index of a primary key has no text.
    if (type === 'index' && sql === null) continue;
    if (expected === undefined || typeof sql !== 'string' || asWritten(sql) !== expected)
      throw new ForeignFile(`its ${String(type)} ${JSON.stringify(String(name).slice(0, 80))} is not one of peerscope`);
  }
}

/**
 * Returns a function that maps the clock to a time that has certainly passed, even if the clock jumps ahead and back:
 * a time that the clock showed a day ago and has not fallen below since. -Infinity during the first day.
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

/**
 * Loads node:sqlite on demand. The module is absent before Node 22.13, and a later release renames its class
 * (DEP0210).
 */
function openFile(path: string, options: { readonly readOnly?: boolean } = {}): DatabaseSync {
  const sqlite = process.getBuiltinModule('node:sqlite') as
    { Database?: typeof DatabaseSync; DatabaseSync: typeof DatabaseSync } | undefined;
  if (!sqlite) throw new Error(`Node.js ${process.version} has no node:sqlite`);
  const database = new (sqlite.Database ?? sqlite.DatabaseSync)(path, options);
  database.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
  return database;
}

function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('BEGIN IMMEDIATE');
  try {
    const result = work();
    database.exec('COMMIT');
    return result;
  } catch (error) {
    try {
      database.exec('ROLLBACK');
    } catch {
      // SQLite has already rolled back after a full disk or an I/O error.
    }
    throw error;
  }
}

/**
 * Tests with a temporary database which journal mode a directory supports. SQLite also accepts WAL on read-only and
 * network volumes; only the first write fails. `reason` says why WAL is not available. Throws if no mode works.
 */
export function probeJournal(directory: string): { journal: 'WAL' | 'DELETE'; reason: string | null } {
  try {
    probe(directory, 'WAL');
    return { journal: 'WAL', reason: null };
  } catch (error) {
    probe(directory, 'DELETE');
    return { journal: 'DELETE', reason: reasonOf(error) };
  }
}

function probe(directory: string, journal: string): void {
  const path = join(directory, `probe-${randomUuid()}.sqlite`);
  try {
    const database = openFile(path);
    try {
      // The file is temporary. Waiting for the disk can take 0.1 s and would not change the result.
      database.exec(
        `PRAGMA synchronous = OFF; PRAGMA journal_mode = ${journal}; CREATE TABLE probe (x); INSERT INTO probe VALUES (1)`,
      );
      database.prepare('SELECT x FROM probe').get();
    } finally {
      database.close();
    }
  } finally {
    for (const suffix of ['', ...SIDE_FILES]) rmSync(path + suffix, { force: true });
  }
}

/** Removes probe files that killed processes left before a given time. Newer ones may be in use. */
export function removeProbes(directory: string, before: number): void {
  try {
    for (const name of readdirSync(directory)) {
      if (!/^probe-[\da-f-]{36}\.sqlite(?:-\w+)?$/.test(name)) continue;
      const path = join(directory, name);
      if ((statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Infinity) < before) rmSync(path, { force: true });
    }
  } catch {
    // A leftover probe file takes a few kilobytes and is harmless.
  }
}

export function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

/** Returns true for a damaged file, and for one that peerscope did not make. */
export function isCorrupt(error: unknown): boolean {
  return error instanceof ForeignFile || [CORRUPT, NOT_A_DATABASE].includes(resultCode(error));
}

/** Returns the low byte of node:sqlite's `errcode`, which is the primary result code. */
function resultCode(error: unknown): number {
  return error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : 0;
}

/** Returns true if the disk or the file has no room left. */
export function isFull(error: unknown): boolean {
  return resultCode(error) === FULL;
}
