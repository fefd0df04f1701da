import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeFolder } from '../../src/common/files.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'peerscope-folder-'));
});
afterEach(() => rmSync(root, { recursive: true }));

test('the folders above are made too, for their owner alone', () => {
  makeFolder(join(root, 'a/b'));
  expect(statSync(join(root, 'a/b')).mode & 0o777).toBe(0o700);
  expect(statSync(join(root, 'a')).mode & 0o777).toBe(0o700);
});

test('one that is there is left as it is', () => {
  const before = statSync(root).mode;
  makeFolder(root);
  expect(statSync(root).mode).toBe(before);
});

test('a file in the way is an error', () => {
  writeFileSync(join(root, 'file'), '');
  expect(() => makeFolder(join(root, 'file/a'))).toThrow(/ENOTDIR/);
  expect(() => makeFolder(join(root, 'file'))).toThrow(/EEXIST/);
});

test('below /proc it ends with an error, and ends', () => {
  expect(() => makeFolder('/proc/peerscope/a')).toThrow(/ENOENT/);
});
