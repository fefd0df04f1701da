import type { DatabaseSync } from 'node:sqlite';
import { randomUuid } from '../common/random-uuid.ts';
import type { RecordPage, StoredRecord } from './contract.ts';
import {
  decodeCursor,
  encodeCursor,
  MAX_RECORDS,
  PAGE,
  RECORD_KEY_BYTES,
  RECORD_TEXT_BYTES,
  RECORD_TTL_MS,
} from './records.ts';

/**
 * The tables of records. `n` is the sequence number of the last write; transactions that write run one after another, so it is also the
 * order in which other processes see the writes. `store` identifies the file, because it may be replaced by another.
 */
export const RECORD_OBJECTS = {
  memory:
    'CREATE TABLE memory (n INTEGER PRIMARY KEY, k TEXT NOT NULL UNIQUE, v TEXT NOT NULL, x INTEGER NOT NULL) STRICT',
  memory_x: 'CREATE INDEX memory_x ON memory (x)',
  memory_state: 'CREATE TABLE memory_state (store TEXT NOT NULL, n INTEGER NOT NULL) STRICT',
};

/** A full table is emptied by this part more, so that it is not emptied at each write. */
const ROOM = 0.005;

/** Prepares the statements for records. The caller provides the transactions of writes. */
export function openRecords(database: DatabaseSync, most = MAX_RECORDS) {
  const selectState = database.prepare('SELECT store, n FROM memory_state LIMIT 1');
  const addState = database.prepare('INSERT INTO memory_state SELECT ?, coalesce(max(n), 0) FROM memory');
  const setState = database.prepare('UPDATE memory_state SET n = ?');
  const upsert = database.prepare(
    `INSERT INTO memory VALUES (?, ?, ?, ?)
     ON CONFLICT (k) DO UPDATE SET n = excluded.n, v = excluded.v, x = max(x, excluded.x)`,
  );
  const expire = database.prepare(
    'DELETE FROM memory WHERE n IN (SELECT n FROM memory WHERE x <= ? ORDER BY x LIMIT ?)',
  );
  const count = database.prepare('SELECT count(*) AS n FROM memory');
  const selectKeys = database.prepare('SELECT k, n FROM memory WHERE k > ? ORDER BY k LIMIT ?');
  const removeKey = database.prepare('DELETE FROM memory WHERE k = ? AND n = ?');
  const isShort = (text: string, most: number): string => `octet_length(${text}) <= ${most}`;
  const selectChanges = database.prepare(
    `SELECT n, k, v FROM memory WHERE n > ? AND n <= ? AND ${isShort('k', RECORD_KEY_BYTES)}
     AND ${isShort('v', RECORD_TEXT_BYTES)} ORDER BY n LIMIT ${PAGE}`,
  );
  const selectFirstSeen = database.prepare(
    `SELECT shelf, k, at FROM first_seen WHERE (shelf, k) > (?, ?) AND (k GLOB 'first:1:*' OR k GLOB 'base:1:*')
     AND ${isShort('k', RECORD_KEY_BYTES)} ORDER BY shelf, k LIMIT ${PAGE}`,
  );

  const readFirstSeen = (shelf: string, key: string): RecordPage => {
    const rows = selectFirstSeen.all(shelf, key);
    const last = rows.at(-1);
    const isDone = rows.length < PAGE || last === undefined;
    return {
      records: rows.map(({ k, at }) => ({ key: String(k), text: String(at) })),
      next: isDone ? encodeCursor('changes', '', 0) : encodeCursor('first', String(last['shelf']), String(last['k'])),
      isLast: false,
    };
  };
  const readChanges = (after: number, store: string, newest: number): RecordPage => {
    const rows = selectChanges.all(after, newest);
    const isLast = rows.length < PAGE;
    const to = isLast ? newest : Number(rows.at(-1)?.['n']);
    return {
      records: rows.map(({ k, v }) => ({ key: String(k), text: String(v) })),
      next: encodeCursor('changes', store, to),
      isLast,
    };
  };
  return {
    /** All records, for an eviction. */
    rows: {
      page: (after: string, most: number) => selectKeys.all(after, most),
      remove: (key: string, n: number): void => void removeKey.run(key, n),
    },
    /** Writes records at the time `now`; those that expired before `cutoff` are deleted. Returns how many are too many. */
    write: (records: readonly StoredRecord[], now: number, cutoff: number): number => {
      expire.run(cutoff, PAGE);
      if (!selectState.get()) addState.run(randomUuid());
      let n = Number(selectState.get()?.['n']);
      for (const { key, text } of records) upsert.run(++n, key, text, now + RECORD_TTL_MS);
      setState.run(n);
      const excess = Number(count.get()?.['n']) - most;
      return excess > 0 ? excess + Math.floor(most * ROOM) : 0;
    },
    read: (since: string | null): RecordPage => {
      const [shelf = '', key = ''] = (decodeCursor(since, 'first', 2) ?? []).map(String);
      const changes = decodeCursor(since, 'changes', 2);
      if (!changes) return readFirstSeen(shelf, key);
      const state = selectState.get();
      const [store, newest] = [String(state?.['store'] ?? ''), Number(state?.['n'] ?? 0)];
      const [of, after] = [String(changes[0]), Number(changes[1]) || 0];
      // The file was replaced, or is a former copy of itself.
      if (of !== '' && (of !== store || after > newest)) return readFirstSeen('', '');
      return readChanges(after, store, newest);
    },
  };
}
