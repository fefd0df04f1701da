import { mkdtempSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SqliteStore, type SqliteStoreOptions } from '../../src/store/sqlite.ts';
import { describeRecords, formerly, readAll, records } from '../support/record-contract.ts';

const DAY = 86_400_000;

let folder: string;
let now: number;
let lacking: number;
let reports: string[];
let stores: SqliteStore[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-records-'));
  now = Date.parse('2026-09-15T08:00:00Z');
  [lacking, reports, stores] = [0, [], []];
});

afterEach(async () => {
  for (const store of stores) await store.close();
  rmSync(folder, { recursive: true });
});

function open(options: Partial<SqliteStoreOptions> = {}): SqliteStore {
  const store = SqliteStore.open({
    directory: folder,
    now: () => now,
    report: (message) => void reports.push(message.replaceAll(folder, 'FOLDER')),
    onIncomplete: () => {
      lacking++;
    },
    ...options,
  });
  stores.push(store);
  return store;
}

const path = (): string => join(folder, 'peerscope.sqlite');

function sql(text: string): void {
  const database = new DatabaseSync(path());
  database.exec(text);
  database.close();
}

describe('records in a file', () => {
  describeRecords((maxRecords) => open(maxRecords === undefined ? {} : { maxRecords }));

  it('survive a restart', async () => {
    const store = open();
    await store.writeRecords(records(3));
    const { next } = await readAll(store);
    await store.close();
    const again = open();
    expect((await readAll(again)).texts.size).toBe(3);
    expect((await readAll(again, next)).texts.size).toBe(0);
  });

  it('expire 90 days after their last write, plus a day of confirmation', async () => {
    const store = open();
    await store.writeRecords(records(3));
    now += 60 * DAY;
    await store.writeRecords(records(1, 'again'));
    for (const [days, left] of [
      [29, 4],
      [2, 4],
      [1, 2],
      [58, 2],
      [2, 1],
    ] as const) {
      now += days * DAY;
      await store.writeRecords(records(1, 'now', 9));
      expect((await readAll(store)).texts.size, `after ${days} days more`).toBe(left);
    }
  });

  it.each([-365 * DAY, -1, 0, 1, 365 * DAY])(
    'are read since a cursor although the clock steps by %i ms',
    async (step) => {
      const [one, other] = [open(), open()];
      await one.writeRecords(records(5));
      const { next } = await readAll(other);
      now += step;
      await one.writeRecords(records(5, 'changed', 3));
      const changed = await readAll(other, next);
      expect([...changed.texts.values()]).toEqual(Array(5).fill('changed'));
      now -= step;
      await other.writeRecords(records(1, 'again'));
      expect((await readAll(one, changed.next)).texts.size).toBe(1);
      expect((await readAll(one)).texts.size).toBe(8);
    },
  );

  it('begin again in a file that replaced the former one', async () => {
    const store = open();
    await store.writeRecords(records(5));
    const { next } = await readAll(store);
    renameSync(path(), `${path()}.old`);
    now += 10_000;
    expect((await readAll(store, next)).texts).toEqual(new Map());
    await store.writeRecords(records(9, 'new'));
    expect(lacking).toBe(1);
    expect((await readAll(store, next)).texts.size).toBe(9);
  });

  it('begin again in a former copy of the file', async () => {
    const store = open();
    await store.writeRecords(records(5));
    await store.close();
    const copy = new DatabaseSync(path());
    copy.exec(`VACUUM INTO '${path()}.copy'`);
    copy.close();
    const later = open();
    await later.writeRecords(records(5, 'later', 10));
    const { next } = await readAll(later);
    await later.close();
    renameSync(`${path()}.copy`, path());
    expect((await readAll(open(), next)).texts.size).toBe(5);
  });

  it('are not written to a full disk, and asked for once there is room', async () => {
    const before = open();
    await before.writeRecords(records(10));
    const { next } = await readAll(before);
    await before.close();
    const store = open({ maxBytes: statSync(path()).size });
    await store.writeRecords(records(3_000, 'x'.repeat(100), 100));
    expect({ up: store.up, lacking }).toEqual({ up: false, lacking: 0 });
    expect((await readAll(store)).texts.get(records(1)[0]?.key ?? '')).toBe('[1,1,1]');
    await store.close();
    const roomy = open();
    await roomy.writeRecords(records(1, 'room'));
    expect((await readAll(roomy, next)).texts.size).toBe(1);
  });

  it('stay within the maximum size of the file, and answers go before them', async () => {
    const store = open({ maxBytes: 1024 * 1024 });
    await store.write(
      Array.from({ length: 2_000 }, (_, i) => ({ key: `answer ${i}`, text: 'x'.repeat(300), keepUntil: now + DAY })),
    );
    for (let from = 0; from < 3_000; from += 100) await store.writeRecords(records(100, '[1,1,1]', from));
    expect((await readAll(store)).texts.size).toBe(3_000);
    for (let from = 3_000; from < 20_000; from += 100) await store.writeRecords(records(100, '[1,1,1]', from));
    await store.write([{ key: 'answer', text: 'text', keepUntil: now + DAY }]);
    expect({ up: store.up, failures: store.failures }).toEqual({ up: true, failures: 0 });
    expect(reports.splice(0)).toEqual([expect.stringContaining('is full of records') as string]);
    expect((await store.read(['answer'])).size).toBe(1);
    const { texts } = await readAll(store);
    expect(texts.has(records(1, '', 19_999)[0]?.key ?? '')).toBe(true);
    expect(texts.has(records(1)[0]?.key ?? '')).toBe(false);
    expect(statSync(path()).size).toBeLessThanOrEqual(1024 * 1024);
  });

  it('ignore what another program wrote into the tables', async () => {
    const store = open();
    await store.writeRecords(records(2));
    await store.close();
    sql(`INSERT INTO memory VALUES (100, 'unusual:1:' || hex(zeroblob(600)), 'x', 0);
         INSERT INTO memory VALUES (101, 'unusual:1:[]', hex(zeroblob(9000)), 0);
         INSERT INTO memory VALUES (-5, 'unusual:1:[1]', 'before', 0);
         DELETE FROM memory_state`);
    const again = open();
    await again.writeRecords(records(1, 'changed', 1));
    const { texts } = await readAll(again);
    expect([...texts.values()]).toEqual(['[1,1,1]', 'changed']);
    expect({ up: again.up, reports }).toEqual({ up: true, reports: [] });
  });

  it('are added to a file of version 0.1, whose data stays', async () => {
    sql(`CREATE TABLE record (k TEXT PRIMARY KEY, v TEXT NOT NULL, x INTEGER NOT NULL) STRICT, WITHOUT ROWID;
         CREATE INDEX record_x ON record (x);
         CREATE TABLE lease (k TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
         CREATE TABLE first_seen (shelf TEXT, k TEXT, at INTEGER NOT NULL, x INTEGER NOT NULL, PRIMARY KEY (shelf, k)) STRICT, WITHOUT ROWID;
         INSERT INTO record VALUES ('asn:1:1.1.1.0/24', 'text', ${now + DAY});
         INSERT INTO first_seen VALUES ('outbound', 'first:1:["curl","","a","outbound","1"]', 1000, ${now});
         INSERT INTO first_seen VALUES ('inbound', 'first:1:["curl","","a","inbound","1"]', 1500, ${now});
         INSERT INTO first_seen VALUES ('baseline', 'base:1:["curl","","a"]', 2000, ${now});
         PRAGMA user_version = 2`);
    const [store, other] = [open(), open()];
    await other.writeRecords(records(1));
    expect((await readAll(store)).texts).toEqual(
      new Map([
        ['base:1:["curl","","a"]', '2000'],
        ['first:1:["curl","","a","inbound","1"]', '1500'],
        ['first:1:["curl","","a","outbound","1"]', '1000'],
        [records(1)[0]?.key ?? '', '[1,1,1]'],
      ]),
    );
    expect(Object.fromEntries(await store.read(['asn:1:1.1.1.0/24']))).toEqual({ 'asn:1:1.1.1.0/24': 'text' });
    expect(reports).toEqual([]);
  });

  it('are shared by workload: sightings of a flood replace none of other workloads', async () => {
    const store = open();
    const of = (namespace: string, workload: string, count: number, from = 0) =>
      Array.from({ length: count }, (_, i) =>
        formerly(`unusual:1:${JSON.stringify([namespace, workload, 'operator', `AS${from + i}`])}`, 1_000),
      );
    const victims = [...of('shop', 'api', 500), ...of('shop', 'web', 20)];
    await store.writeFirstSeen(victims);
    for (let round = 0; round < 3; round++) {
      now += 1_000;
      await store.writeFirstSeen(of('stranger', 'api', 20_000, 20_000 * round));
    }
    const again = await store.writeFirstSeen(victims);
    expect(again.filter(({ previous }) => previous !== 1_000)).toEqual([]);
  });
});
