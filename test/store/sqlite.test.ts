import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openExistingStore } from '../../src/store/open.ts';
import type { Store, StoredText, FirstSeenTime } from '../../src/store/contract.ts';
import { SqliteStore, type SqliteStoreOptions } from '../../src/store/sqlite.ts';

const DAY = 86_400_000;
const LEASE = 'asn:1:lock:cymru:whois.cymru.com:43';

let folder: string;
let now: number;
let reports: string[];
let stores: SqliteStore[];
let lacking: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-store-'));
  now = Date.parse('2026-09-15T08:00:00Z');
  reports = [];
  stores = [];
  lacking = 0;
});

afterEach(async () => {
  for (const store of stores) await store.close();
  rmSync(folder, { recursive: true });
});

function open(options: Partial<SqliteStoreOptions> = {}): SqliteStore {
  const report = (message: string): void => void reports.push(message.replaceAll(folder, 'FOLDER'));
  const lacks = (): void => {
    lacking++;
  };
  const store = SqliteStore.open({ directory: folder, now: () => now, report, onIncomplete: lacks, ...options });
  stores.push(store);
  return store;
}

const path = (): string => join(folder, 'peerscope.sqlite');
const stored = (key: string, text = `text of ${key}`, keepUntil = now + DAY): StoredText => ({ key, text, keepUntil });
const seen = (key: string, at: number, shelf: FirstSeenTime['category'] = 'outbound'): FirstSeenTime => ({
  category: shelf,
  key,
  at,
});
const read = async (store: SqliteStore, ...keys: string[]): Promise<Record<string, string>> =>
  Object.fromEntries(await store.read(keys));

describe('openExistingStore', () => {
  const find = (storagePath: string): Promise<Store | null> => {
    const clock = { now: () => now, monotonic: () => 0, after: () => () => undefined };
    const report = (message: string): void => void reports.push(message.replaceAll(folder, 'FOLDER'));
    return openExistingStore({ storagePath, storageServer: null }, { clock, report });
  };

  it('creates no store if there is none', async () => {
    expect(await find(join(folder, 'absent'))).toBeNull();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('reports a store that cannot be inspected and continues without it', async () => {
    symlinkSync('loop', join(folder, 'loop'));
    const store = await find(join(folder, 'loop'));
    expect(store?.up).toBe(false);
    expect(await store?.read(['a'])).toEqual(new Map());
    expect(reports).toEqual([
      expect.stringMatching(/^Cannot use store "FOLDER\/loop\/peerscope\.sqlite": too many symbolic links/),
    ]);
    await store?.close();
  });
});

describe('SqliteStore', () => {
  it('creates its directory and persists texts', async () => {
    const below = join(folder, 'state', 'peerscope');
    const first = open({ directory: below });
    await first.write([stored('a'), stored('b', '"quoted"; DROP TABLE record; \u0000 é')]);
    await first.close();
    expect(await read(open({ directory: below }), 'a', 'b', 'c')).toEqual({
      a: 'text of a',
      b: '"quoted"; DROP TABLE record; \u0000 é',
    });
    expect(statSync(below).mode & 0o777).toBe(0o700);
    expect(reports).toEqual([]);
  });

  it('leaves only its own file behind', async () => {
    const store = open();
    await store.write([stored('a')]);
    await store.close();
    expect(readdirSync(folder)).toEqual(['peerscope.sqlite']);
  });

  it('removes day-old probe files and keeps new ones', () => {
    const probe = (digit: string): string => `probe-${digit.repeat(8)}-0000-4000-8000-000000000000.sqlite`;
    for (const [name, age] of [
      [probe('a'), 2 * DAY],
      [`${probe('a')}-wal`, 2 * DAY],
      [probe('b'), 1_000],
      ['probe-own.sqlite', 2 * DAY],
    ] as const) {
      writeFileSync(join(folder, name), '');
      utimesSync(join(folder, name), new Date(now - age), new Date(now - age));
    }
    open();
    expect(
      readdirSync(folder)
        .filter((name) => name.startsWith('probe'))
        .sort(),
    ).toEqual([probe('b'), 'probe-own.sqlite']);
  });

  it('replaces a text and drops it when it expires', async () => {
    const store = open();
    await store.write([stored('a', 'old', now + 2 * DAY), stored('b')]);
    await store.write([stored('a', 'new', now + 3 * DAY)]);
    now += 2 * DAY;
    expect(await read(store, 'a', 'b')).toEqual({ a: 'new' });
    await store.write([stored('c')]);
    now += DAY;
    await store.write([stored('d')]);
    await store.close();
    const database = new DatabaseSync(path());
    expect(
      database
        .prepare('SELECT k FROM record ORDER BY k')
        .all()
        .map(({ k }) => k),
    ).toEqual(['a', 'c', 'd']);
    database.close();
  });

  it('keeps the earliest first-seen time across restarts and processes', async () => {
    const first = open();
    expect(await first.writeFirstSeen([seen('a', 3000)])).toEqual([{ key: 'a', previous: null }]);
    expect(await open().writeFirstSeen([seen('a', 2000)])).toEqual([{ key: 'a', previous: 3000 }]);
    await first.close();
    const many = Array.from({ length: 2500 }, (_, i) => seen(`many ${i}`, 9000));
    expect(await open().writeFirstSeen([seen('a', 4000), seen('a', 1000), ...many])).toEqual([
      { key: 'a', previous: 2000 },
      { key: 'a', previous: 2000 },
      ...many.map(({ key }) => ({ key, previous: null })),
    ]);
    expect(await open().writeFirstSeen([seen('a', 5000)])).toEqual([{ key: 'a', previous: 1000 }]);
  });

  it('expires a first-seen time 90 days after its last write, plus a day of confirmation', async () => {
    const store = open();
    await store.writeFirstSeen([seen('a', 1000)]);
    now += 60 * DAY;
    await store.writeFirstSeen([seen('a', now)]);
    now += 60 * DAY;
    expect(await store.writeFirstSeen([seen('a', now)])).toEqual([{ key: 'a', previous: 1000 }]);
    now += 90 * DAY;
    await store.writeFirstSeen([seen('b', now)]);
    expect(await open().writeFirstSeen([seen('a', now)])).toEqual([{ key: 'a', previous: 1000 }]);
    now += 91 * DAY;
    await store.writeFirstSeen([seen('b', now)]);
    now += DAY;
    await store.writeFirstSeen([seen('b', now)]);
    const database = new DatabaseSync(path());
    expect(database.prepare('SELECT k FROM first_seen').all()).toEqual([{ k: 'b' }]);
    database.close();
    expect(await store.writeFirstSeen([seen('a', now)])).toEqual([{ key: 'a', previous: null }]);
    expect(await store.writeFirstSeen([seen('a', now)])).toEqual([{ key: 'a', previous: now }]);
  });

  it('loses no data if the clock is a year ahead for some hours', async () => {
    const store = open();
    await store.write([stored('answer')]);
    await store.writeFirstSeen([seen('a', 1000), seen('b', 1000)]);
    for (const hours of [365 * 24, 2, 2, -(365 * 24), 20]) {
      now += (hours * DAY) / 24;
      await store.write([stored('other')]);
      expect(await store.writeFirstSeen([seen('a', now)])).toEqual([{ key: 'a', previous: 1000 }]);
    }
    now -= DAY / 4;
    expect(await read(store, 'answer')).toEqual({ answer: 'text of answer' });
    expect(await store.writeFirstSeen([seen('b', now)])).toEqual([{ key: 'b', previous: 1000 }]);
  });

  it('keeps the 40,000 most recently written first-seen times per category', async () => {
    const store = open();
    await store.writeFirstSeen([seen('own', 1000, 'outbound'), seen('first', 1000, 'inbound')]);
    const strangers = Array.from({ length: 40_000 }, (_, i) => seen(`stranger ${i}`, 1000, 'inbound'));
    now += 1;
    await store.writeFirstSeen(strangers);
    const again = [
      seen('own', 2000, 'outbound'),
      seen('first', 2000, 'inbound'),
      seen('stranger 39999', 2000, 'inbound'),
    ];
    expect((await store.writeFirstSeen(again)).map(({ previous: before }) => before)).toEqual([1000, null, 1000]);
    await store.close();
    expect(statSync(path()).size).toBeLessThan(8 * 1024 * 1024);
  });

  it('evicts answers for first-seen times, but not first-seen times for answers', async () => {
    const store = open({ maxBytes: 1024 * 1024 });
    await store.writeFirstSeen([seen('own', 1000)]);
    for (let day = 1; day <= 60; day++)
      await store.write(Array.from({ length: 100 }, (_, i) => stored(`${day} ${i}`, 'x'.repeat(200), now + day * DAY)));
    await store.writeFirstSeen(Array.from({ length: 4_000 }, (_, i) => seen(`stranger ${i}`, 1000, 'inbound')));
    expect(store.up).toBe(true);
    expect(await store.writeFirstSeen([seen('own', 2000), seen('stranger 0', 2000, 'inbound')])).toEqual([
      { key: 'own', previous: 1000 },
      { key: 'stranger 0', previous: 1000 },
    ]);
  });

  it('migrates a file of schema 1 with its data', async () => {
    const database = new DatabaseSync(path());
    database.exec(`
      CREATE TABLE record (k TEXT PRIMARY KEY, v TEXT NOT NULL, x INTEGER NOT NULL) STRICT, WITHOUT ROWID;
      CREATE INDEX record_x ON record (x);
      CREATE TABLE lease (k TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
      PRAGMA user_version = 1`);
    database.prepare('INSERT INTO record VALUES (?, ?, ?)').run('asn:1:1.1.1.0/24', 'text', now + DAY);
    database.prepare('INSERT INTO lease VALUES (?, ?, ?)').run(LEASE, 'another', now + 7_000);
    database.close();
    const store = open();
    expect(await read(store, 'asn:1:1.1.1.0/24')).toEqual({ 'asn:1:1.1.1.0/24': 'text' });
    expect(await store.acquire(LEASE, 65_000)).toBe(7_000);
    await store.writeFirstSeen([seen('a', 1000)]);
    await store.close();
    expect(await open().writeFirstSeen([seen('a', 2000)])).toEqual([{ key: 'a', previous: 1000 }]);
    expect(reports).toEqual([]);
  });

  it('writes and reads more than one chunk', async () => {
    const store = open();
    const texts = Array.from({ length: 2_500 }, (_, i) => stored(`key ${i}`));
    await store.write(texts);
    expect(await store.read(texts.map(({ key }) => key))).toEqual(new Map(texts.map(({ key, text }) => [key, text])));
  });

  it('shares texts between processes of one host', async () => {
    const [one, other] = [open(), open()];
    await one.write([stored('a')]);
    await other.write([stored('b')]);
    expect(await read(one, 'a', 'b')).toEqual(await read(other, 'a', 'b'));
    expect(await read(one, 'a', 'b')).toEqual({ a: 'text of a', b: 'text of b' });
  });

  it('stays within its maximum size by evicting the entries that expire first', async () => {
    const store = open({ maxBytes: 1024 * 1024 });
    for (let day = 1; day <= 100; day++) {
      await store.write(
        Array.from({ length: 100 }, (_, i) => stored(`day ${day} ${i}`, 'x'.repeat(200), now + day * DAY)),
      );
    }
    expect(store.up).toBe(true);
    expect(await read(store, 'day 1 0', 'day 100 99')).toEqual({ 'day 100 99': 'x'.repeat(200) });
    await store.close();
    expect(statSync(path()).size).toBeLessThanOrEqual(1024 * 1024);
    const database = new DatabaseSync(path());
    expect(Number(database.prepare('SELECT count(*) AS n FROM record').get()?.['n'])).toBeGreaterThan(1_500);
    database.close();
  });
});

describe('a lease', () => {
  it('is granted to one holder at a time and returns its remaining time', async () => {
    const [one, other] = [open(), open()];
    expect(await one.acquire(LEASE, 65_000)).toBe(0);
    now += 5_000;
    expect(await other.acquire(LEASE, 65_000)).toBe(60_000);
    expect(await one.acquire(LEASE, 65_000)).toBe(60_000);
    expect(await other.acquire('asn:1:lock:cymru:other.example:43', 65_000)).toBe(0);
  });

  it('expires if its holder died', async () => {
    await open().acquire(LEASE, 65_000);
    now += 65_000;
    expect(await open().acquire(LEASE, 65_000)).toBe(0);
  });

  it('can be shortened or released only by its holder', async () => {
    const [one, other] = [open(), open()];
    await one.acquire(LEASE, 65_000);
    await other.release(LEASE);
    await other.renew(LEASE, 1);
    expect(await other.acquire(LEASE, 65_000)).toBe(65_000);
    await one.renew(LEASE, 10_000);
    expect(await other.acquire(LEASE, 65_000)).toBe(10_000);
    await one.release(LEASE);
    expect(await other.acquire(LEASE, 65_000)).toBe(0);
  });

  it('outlives the process of its holder, so that the spacing is kept', async () => {
    const one = open();
    await one.acquire(LEASE, 65_000);
    await one.renew(LEASE, 10_000);
    await one.close();
    now += 3_000;
    expect(await open().acquire(LEASE, 65_000)).toBe(7_000);
  });

  it('does not block for a day if the clock is set back by one', async () => {
    const store = open();
    await store.acquire(LEASE, 65_000);
    now -= DAY;
    expect(await store.acquire(LEASE, 65_000)).toBe(0);
  });
});

describe('a store that fails', () => {
  /** What a store that cannot be used does: it reads nothing, drops what it is given, grants every lease. */
  async function expectDown(store: SqliteStore): Promise<void> {
    await store.write([stored('a')]);
    expect(await read(store, 'a')).toEqual({});
    expect([await store.acquire(LEASE, 65_000), await store.acquire(LEASE, 65_000)]).toEqual([0, 0]);
    expect(await store.writeFirstSeen([seen('a', 1000)])).toEqual([{ key: 'a', previous: 'unknown' }]);
    await store.renew(LEASE, 10_000);
    await store.release(LEASE);
    expect(store.up).toBe(false);
  }

  it('reports once that its directory cannot be created, and recovers', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    const store = open({ directory: join(file, 'peerscope') });
    await expectDown(store);
    now += 60_000;
    await expectDown(store);
    expect(store.failures).toBe(2);
    rmSync(file);
    now += 60_000;
    await store.write([stored('a')]);
    expect(await read(store, 'a')).toEqual({ a: 'text of a' });
    expect({ up: store.up, lacking }).toEqual({ up: true, lacking: 1 });
    expect(reports).toEqual([
      expect.stringMatching(/^Cannot use store "FOLDER\/file\/peerscope\/peerscope.sqlite": not a directory/),
      'Store "FOLDER/file/peerscope/peerscope.sqlite" recovered',
    ]);
    await store.close();
  });

  it('retries on time if the clock was set back', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    const store = open({ directory: join(file, 'peerscope') });
    rmSync(file);
    now -= DAY;
    await store.write([stored('a')]);
    expect(store.up).toBe(true);
    await store.close();
  });

  it('renames a file that is not a database and creates a new one', async () => {
    writeFileSync(path(), 'hello '.repeat(1_000));
    writeFileSync(`${path()}-wal`, 'left behind');
    const store = open();
    await store.write([stored('a')]);
    expect(await read(store, 'a')).toEqual({ a: 'text of a' });
    expect(store.up).toBe(true);
    expect(readFileSync(`${path()}.corrupt`, 'utf8')).toBe('hello '.repeat(1_000));
    expect(reports).toEqual([
      'Store "FOLDER/peerscope.sqlite" is corrupt and was renamed to "peerscope.sqlite.corrupt": file is not a database',
    ]);
  });

  it('renames a corrupt file when it reads the corrupt page', async () => {
    const before = open();
    await before.write(Array.from({ length: 1_000 }, (_, i) => stored(`key ${i}`)));
    await before.close();
    const bytes = readFileSync(path());
    bytes.fill(0xff, 4096);
    writeFileSync(path(), bytes);
    const store = open();
    expect(await read(store, 'key 1')).toEqual({});
    await store.write([stored('a')]);
    expect(await read(store, 'a')).toEqual({ a: 'text of a' });
    expect({ up: store.up, lacking }).toEqual({ up: true, lacking: 1 });
    expect(reports).toEqual([
      'Store "FOLDER/peerscope.sqlite" is corrupt and was renamed to "peerscope.sqlite.corrupt": database disk image is malformed',
    ]);
  });

  it('continues without a corrupt file that cannot be renamed', async () => {
    const before = open();
    await before.write(Array.from({ length: 1_000 }, (_, i) => stored(`key ${i}`)));
    await before.close();
    const bytes = readFileSync(path());
    bytes.fill(0xff, 4096);
    writeFileSync(path(), bytes);
    mkdirSync(join(`${path()}.corrupt`, 'full'), { recursive: true });
    let retry = (): void => expect.fail('nothing to be tried again');
    const after = (_: number, run: () => void): (() => void) => {
      retry = run;
      return () => undefined;
    };
    const store = open({ after });
    expect(await read(store, 'key 1')).toEqual({});
    await expectDown(store);
    retry();
    await expectDown(store);
    expect(reports).toEqual([
      expect.stringMatching(
        /^Cannot use store "FOLDER\/peerscope.sqlite": database disk image is malformed; cannot rename the corrupt file: /,
      ),
    ]);
    rmSync(`${path()}.corrupt`, { recursive: true });
    now += 60_000;
    await store.write([stored('a')]);
    await store.write([stored('a')]);
    expect(await read(store, 'a')).toEqual({ a: 'text of a' });
  });

  it('does not rename the new file of another process', async () => {
    const fill = open();
    await fill.write(Array.from({ length: 1_000 }, (_, i) => stored(`key ${i}`)));
    await fill.close();
    const bytes = readFileSync(path());
    bytes.fill(0xff, 4096);
    writeFileSync(path(), bytes);
    const [one, other] = [open(), open()];
    await one.read(['key 1']);
    await one.write([stored('a')]);
    await other.read(['key 1']);
    expect(await read(other, 'a')).toEqual({ a: 'text of a' });
  });

  it('leaves a file with a newer schema unchanged', async () => {
    const database = new DatabaseSync(path());
    database.exec('CREATE TABLE future (x); PRAGMA user_version = 7');
    database.close();
    const bytes = readFileSync(path());
    await expectDown(open());
    expect(readFileSync(path()).equals(bytes)).toBe(true);
    expect(existsSync(`${path()}.corrupt`)).toBe(false);
    expect(reports).toEqual([
      'Cannot use store "FOLDER/peerscope.sqlite": its schema version 7 is newer than the supported version 3',
    ]);
  });

  it('stops writing on a full disk and continues reading', async () => {
    const before = open();
    await before.write([stored('a')]);
    await before.close();
    const store = open({ maxBytes: statSync(path()).size });
    const many = Array.from({ length: 1_000 }, (_, i) => stored(`key ${i}`, 'x'.repeat(100)));
    await store.write(many);
    expect({ up: store.up, failures: store.failures }).toEqual({ up: false, failures: 1 });
    expect(await read(store, 'a', 'key 0')).toEqual({ a: 'text of a' });
    await store.write([stored('b', 'short')]);
    expect(await read(store, 'b')).toEqual({});
    expect(lacking).toBe(0);
    now += 60_000;
    await store.write([stored('b', 'short')]);
    expect(await read(store, 'b')).toEqual({ b: 'short' });
    expect(lacking).toBe(1);
    await store.write([stored('b', 'short')]);
    expect(lacking).toBe(1);
    expect(reports).toEqual([
      'Cannot use store "FOLDER/peerscope.sqlite": database or disk is full',
      'Store "FOLDER/peerscope.sqlite" recovered',
    ]);
  });

  it(
    'waits a second for a file that another process keeps locked, then goes on without it',
    { timeout: 30_000 },
    async () => {
      const store = open();
      const other = new DatabaseSync(path());
      other.exec('BEGIN IMMEDIATE');
      expect(await store.writeFirstSeen([seen('b', 1000)])).toEqual([{ key: 'b', previous: 'unknown' }]);
      expect(store.up).toBe(false);
      expect(await store.acquire(LEASE, 65_000)).toBe(0);
      other.exec('ROLLBACK');
      other.close();
      now += 60_000;
      await store.write([stored('a')]);
      expect(await read(store, 'a')).toEqual({ a: 'text of a' });
      expect(reports).toEqual([
        'Cannot use store "FOLDER/peerscope.sqlite": database is locked',
        'Store "FOLDER/peerscope.sqlite" recovered',
      ]);
    },
  );

  it('recreates a removed file and reopens a replaced one', async () => {
    const store = open();
    await store.write([stored('a')]);
    rmSync(folder, { recursive: true });
    now += 5_000;
    expect(await store.writeFirstSeen([seen('b', 1000)])).toEqual([{ key: 'b', previous: null }]);
    expect(await open().writeFirstSeen([seen('b', 2000)])).toEqual([{ key: 'b', previous: 1000 }]);
    expect({ up: store.up, lacking }).toEqual({ up: true, lacking: 1 });
    const below = join(folder, 'below');
    const other = open({ directory: below });
    await other.write([stored('c')]);
    await other.close();
    for (const suffix of ['-wal', '-shm']) rmSync(path() + suffix);
    renameSync(join(below, 'peerscope.sqlite'), path());
    now += 5_000;
    await store.write([stored('d')]);
    expect(await read(store, 'c', 'd')).toEqual({ c: 'text of c', d: 'text of d' });
    expect({ up: store.up, lacking }).toEqual({ up: true, lacking: 2 });
    const lost = 'Store "FOLDER/peerscope.sqlite" was removed or replaced; writing known data again';
    expect(reports).toEqual([lost, lost]);
  });

  it('reports that data is lacking when it reads from a new file', async () => {
    const store = open();
    await store.writeRecords([{ key: 'unusual:1:a', text: '[1]' }]);
    rmSync(folder, { recursive: true });
    now += 5_000;
    expect((await store.readRecords(null))?.records).toEqual([]);
    expect({ up: store.up, lacking }).toEqual({ up: true, lacking: 1 });
  });

  it('does nothing after close', async () => {
    const store = open();
    await store.close();
    await store.write([stored('a')]);
    expect(await read(store, 'a')).toEqual({});
    expect(reports).toEqual([]);
  });

  it('initializes an empty file', async () => {
    await open().close();
    truncateSync(path());
    const store = open();
    await store.write([stored('a')]);
    expect(await read(store, 'a')).toEqual({ a: 'text of a' });
  });
});

describe('a file or directory of another user', () => {
  const refusal = (reason: string): string[] => [`Cannot use store "FOLDER/peerscope.sqlite": ${reason}`];
  const isRoot = process.geteuid?.() === 0;
  const ours = async (): Promise<void> => {
    const store = open();
    await store.write([stored('a')]);
    await store.close();
  };
  const sql = (text: string): void => {
    const database = new DatabaseSync(path());
    database.exec(text);
    database.close();
  };

  it.each<{ title: string; plant: () => void; reason: string; needsRoot?: boolean }>([
    {
      title: 'a directory that every user can write to',
      plant: () => chmodSync(folder, 0o777),
      reason: 'every user can write to "FOLDER"',
    },
    {
      title: 'such a directory with the sticky bit',
      plant: () => chmodSync(folder, 0o1777),
      reason: 'every user can write to "FOLDER"',
    },
    {
      title: 'a directory of another user',
      plant: () => chownSync(folder, 65_534, 65_534),
      reason: '"FOLDER" belongs to another user (65534)',
      needsRoot: true,
    },
    {
      title: 'a file of another user',
      plant: () => chownSync(path(), 65_534, 65_534),
      reason: '"FOLDER/peerscope.sqlite" belongs to another user (65534)',
      needsRoot: true,
    },
    {
      title: 'a link',
      plant: () => {
        renameSync(path(), `${path()}.other`);
        symlinkSync(`${path()}.other`, path());
      },
      reason: '"FOLDER/peerscope.sqlite" is a link',
    },
    {
      title: 'a link that leads nowhere',
      plant: () => {
        rmSync(path());
        symlinkSync('/nowhere', path());
      },
      reason: '"FOLDER/peerscope.sqlite" is a link',
    },
    {
      title: 'a hard link',
      plant: () => linkSync(path(), `${path()}.other`),
      reason: '"FOLDER/peerscope.sqlite" has a second name (hard link)',
    },
    {
      title: 'a write-ahead log that is a link',
      plant: () => symlinkSync('/etc/passwd', `${path()}-wal`),
      reason: '"FOLDER/peerscope.sqlite-wal" is a link',
    },
    {
      title: 'a shared memory that is a pipe',
      plant: () => void execFileSync('mkfifo', [`${path()}-shm`]),
      reason: '"FOLDER/peerscope.sqlite-shm" is not a regular file',
    },
  ])('is not used: $title', async ({ plant, reason, needsRoot = false }) => {
    if (needsRoot && !isRoot) return;
    await ours();
    plant();
    const store = open();
    expect(await read(store, 'a')).toEqual({});
    expect({ up: store.up, reports }).toEqual({ up: false, reports: refusal(reason) });
  });

  it.each(['/tmp', '/dev/shm'].filter((shared) => existsSync(shared)))('is not in %s itself', (shared) => {
    const store = open({ directory: shared });
    expect(store.up).toBe(false);
    expect(reports).toEqual([expect.stringContaining(`every user can write to "${shared}"`)]);
  });

  it.each<{ title: string; plant: () => void; name: string }>([
    {
      title: 'a view without an end as a table',
      plant: () =>
        sql(`DROP TABLE record; CREATE VIEW record AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
             SELECT CAST(i AS TEXT) AS k, '' AS v, 0 AS x FROM n`),
      name: 'view "record"',
    },
    {
      title: 'a trigger',
      plant: () => sql('CREATE TRIGGER t AFTER INSERT ON lease BEGIN DELETE FROM record; END'),
      name: 'trigger "t"',
    },
    { title: 'another table', plant: () => sql('CREATE TABLE other (x)'), name: 'table "other"' },
    { title: 'another index', plant: () => sql('CREATE INDEX other ON record (v)'), name: 'index "other"' },
    {
      title: 'a table with a generated column',
      plant: () =>
        sql('DROP TABLE lease; CREATE TABLE lease (k TEXT PRIMARY KEY, holder AS (zeroblob(1 << 30)), until)'),
      name: 'table "lease"',
    },
    {
      title: 'a table with a check',
      plant: () =>
        sql(
          'DROP TABLE lease; CREATE TABLE lease (k PRIMARY KEY, holder TEXT CHECK (length(holder) < 9), until INTEGER)',
        ),
      name: 'table "lease"',
    },
    {
      title: 'a virtual table',
      plant: () => sql('CREATE VIRTUAL TABLE search USING fts5 (x)'),
      name: 'table "search"',
    },
  ])('is renamed: one with $title', async ({ plant, name }) => {
    await ours();
    plant();
    const store = open();
    await store.write([stored('b')]);
    expect(await read(store, 'a', 'b')).toEqual({ b: 'text of b' });
    expect(reports).toEqual([
      `Store "FOLDER/peerscope.sqlite" is corrupt and was renamed to "peerscope.sqlite.corrupt": its ${name} is not one of peerscope`,
    ]);
  });

  it('is renamed if it is much larger than ours can be', async () => {
    await ours();
    truncateSync(path(), 5 << 20);
    const store = open({ maxBytes: 1 << 20 });
    await store.write([stored('b')]);
    expect(reports).toEqual([expect.stringContaining('its size is 5242880 bytes')]);
    expect(await read(store, 'b')).toEqual({ b: 'text of b' });
  });

  it('cannot read ours, whatever the umask is', async () => {
    const umask = process.umask(0);
    try {
      await ours();
      chmodSync(path(), 0o644);
      const store = open();
      await store.write([stored('b')]);
      for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o777, name).toBe(0o600);
    } finally {
      process.umask(umask);
    }
  });
});

it('first-seen times of a flood replace none of other owners', async () => {
  const store = open();
  const of = (workload: string, count: number, from = 0): FirstSeenTime[] =>
    Array.from({ length: count }, (_, i) =>
      seen(`first:1:${JSON.stringify(['curl', '', workload, 'outbound', String(from + i)])}`, 1000),
    );
  const victims = [...of('nginx.service', 500), ...of('ssh.service', 20), seen('not ours', 1000)];
  await store.writeFirstSeen(victims);
  for (let round = 0; round < 3; round++) {
    now += 1_000;
    await store.writeFirstSeen(of('flood.scope', 20_000, 20_000 * round));
  }
  const again = await store.writeFirstSeen(victims);
  expect(again.filter(({ previous }) => previous !== 1000)).toEqual([]);
  const [newest, oldest] = await store.writeFirstSeen([...of('flood.scope', 1, 59_999), ...of('flood.scope', 1)]);
  expect([newest?.previous, oldest?.previous]).toEqual([1000, null]);
});
