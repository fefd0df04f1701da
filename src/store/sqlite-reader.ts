import { lstatSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { reasonOf } from '../common/errors.ts';
import { checkPrivate } from '../common/files.ts';
import { FIRST_SEEN_TTL_MS, type FirstSeenTime, type StoredRecord } from './contract.ts';
import { openForReading } from './sqlite-database.ts';

const FILE = 'peerscope.sqlite';
/** The state folder of the systemd unit and of the image. */
export const UNIT_STORAGE = '/var/lib/peerscope';
/** The processes of the unit, in cgroup version 2 and 1. */
const UNIT_PROCESSES = ['/sys/fs/cgroup', '/sys/fs/cgroup/systemd'].map(
  (root) => `${root}/system.slice/peerscope.service/cgroup.procs`,
);

/** A first-seen time and when it was last confirmed: once a day while the owner is connected. */
export interface StoredFirstSeen extends FirstSeenTime {
  readonly lastAt: number;
}

/** The store of an exporter, opened to read only. */
export class StoreReader {
  readonly folder: string;
  readonly #database: ReturnType<typeof openForReading>;

  private constructor(folder: string, database: ReturnType<typeof openForReading>) {
    this.folder = folder;
    this.#database = database;
  }

  /** Null if the folder has no store, or may not be read. Throws a one-line Error if another user could have written the store. */
  static open(folder: string, trusted = trustedUids()): StoreReader | null {
    const path = join(folder, FILE);
    try {
      lstatSync(path);
    } catch {
      return null;
    }
    try {
      checkOwners(path, trusted);
      return new StoreReader(folder, openForReading(path));
    } catch (error) {
      throw new Error(`Cannot read store "${path}": ${reasonOf(error)}`, { cause: error });
    }
  }

  read(keys: readonly string[], now: number): ReadonlyMap<string, string> {
    const get = this.#database.prepare('SELECT v FROM record WHERE k = ? AND x > ?');
    return new Map(
      keys.flatMap((key): [string, string][] => {
        const text = get.get(key, now)?.['v'];
        return typeof text === 'string' ? [[key, text]] : [];
      }),
    );
  }

  /** The texts whose key starts with a prefix. */
  *texts(prefix: string, now: number): Generator<string> {
    const rows = this.#database.prepare('SELECT v FROM record WHERE k >= ? AND k < ? AND x > ?');
    for (const { v } of rows.iterate(prefix, `${prefix}\u{10ffff}`, now)) if (typeof v === 'string') yield v;
  }

  /** The records whose key starts with a prefix; none in a store of peerscope 0.1. */
  records(prefix: string): StoredRecord[] {
    if (!this.#database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'memory'").get()) return [];
    const rows = this.#database.prepare('SELECT k, v FROM memory WHERE k >= ? AND k < ?');
    return rows.all(prefix, `${prefix}\u{10ffff}`).map(({ k, v }) => ({ key: String(k), text: String(v) }));
  }

  *firstSeen(now: number): Generator<StoredFirstSeen> {
    const rows = this.#database.prepare('SELECT shelf, k, at, x FROM first_seen WHERE x > ?');
    for (const { shelf, k, at, x } of rows.iterate(now))
      yield {
        category: String(shelf) as FirstSeenTime['category'],
        key: String(k),
        at: Number(at),
        lastAt: Number(x) - FIRST_SEEN_TTL_MS,
      };
  }

  close(): void {
    this.#database.close();
  }
}

/** Root, this user, and the user of the running unit. */
function trustedUids(): ReadonlySet<number> {
  const own = process.geteuid?.() ?? 0;
  return new Set([0, own, ...UNIT_PROCESSES.flatMap(ownerOf)]);
}

function ownerOf(list: string): number[] {
  try {
    const [pid = ''] = readFileSync(list, 'utf8').split('\n');
    return pid === '' ? [] : [statSync(`/proc/${pid}`).uid];
  } catch {
    return [];
  }
}

/** Throws if another user can replace the file: owns it, or owns or can write to a folder above it. */
function checkOwners(file: string, trusted: ReadonlySet<number>): void {
  const { uid, nlink, mode } = lstatSync(file);
  if ((mode & 0o170000) !== 0o100000) throw new Error(`it is not a regular file`);
  if (nlink > 1) throw new Error('it has a second name (hard link)');
  if (!trusted.has(uid)) throw new Error(`it belongs to another user (${uid})`);
  checkPrivate(dirname(file), trusted);
}
