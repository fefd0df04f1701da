import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { SqliteStore } from '../../src/store/sqlite.ts';
import { StoreReader } from '../../src/store/sqlite-reader.ts';

const NOW = Date.parse('2026-09-15T08:00:00Z');
const DAY = 86_400_000;
const isRoot = process.geteuid?.() === 0;

let root: string;
let folder: string;
let store: SqliteStore;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'peerscope-reader-'));
  folder = join(root, 'state');
  mkdirSync(folder, { mode: 0o700 });
  store = SqliteStore.open({ directory: folder, now: () => NOW, report: (line) => expect.fail(line) });
  await store.write([
    { key: 'asn:1:192.0.2.0/24', text: 'one', keepUntil: NOW + DAY },
    { key: 'asn:1:198.51.100.0/24', text: 'two', keepUntil: NOW + DAY },
    { key: 'other', text: 'three', keepUntil: NOW + DAY },
  ]);
  await store.writeFirstSeen([{ category: 'inbound', key: 'a', at: NOW - 5 * DAY }]);
});
afterEach(async () => {
  await store.close();
  rmSync(root, { recursive: true });
});

it('reads texts and first-seen times while the exporter has the store open, and changes nothing', () => {
  const before = readdirSync(folder).map((name) => [name, statSync(join(folder, name)).size]);
  const reader = StoreReader.open(folder);
  expect(reader?.read(['other', 'absent'], NOW)).toEqual(new Map([['other', 'three']]));
  expect([...(reader?.texts('asn:1:', NOW) ?? [])]).toEqual(['one', 'two']);
  expect([...(reader?.texts('asn:1:', NOW + DAY) ?? [])]).toEqual([]);
  expect([...(reader?.firstSeen(NOW) ?? [])]).toEqual([
    { category: 'inbound', key: 'a', at: NOW - 5 * DAY, lastAt: NOW },
  ]);
  reader?.close();
  expect(readdirSync(folder).map((name) => [name, statSync(join(folder, name)).size])).toEqual(before);
});

it('is absent without a store', () => {
  expect(StoreReader.open(root)).toBeNull();
  expect(StoreReader.open(join(root, 'absent'))).toBeNull();
  expect(readdirSync(root)).toEqual(['state']);
});

it.runIf(isRoot)('trusts the files of certain users only', () => {
  chownSync(folder, 4711, 4711);
  for (const name of readdirSync(folder)) chownSync(join(folder, name), 4711, 4711);
  expect(() => StoreReader.open(folder)).toThrow(/^Cannot read store ".*": it belongs to another user \(4711\)$/);
  StoreReader.open(folder, new Set([0, 4711]))?.close();
});

it.each<[what: string, spoil: () => void, reason: RegExp]>([
  ['every user can replace', () => chmodSync(folder, 0o777), /every user can write to/],
  ['has a second name', () => linkSync(join(folder, 'peerscope.sqlite'), join(root, 'other')), /second name/],
  [
    'is a link',
    () => {
      rmSync(join(folder, 'peerscope.sqlite'));
      symlinkSync('/etc/passwd', join(folder, 'peerscope.sqlite'));
    },
    /not a regular file/,
  ],
  [
    'has a view',
    () => new DatabaseSync(join(folder, 'peerscope.sqlite')).exec('CREATE VIEW v AS SELECT 1'),
    /its view "v" is not one of peerscope/,
  ],
])('rejects a file that %s', (_what, spoil, reason) => {
  spoil();
  expect(() => StoreReader.open(folder)).toThrow(reason);
});
