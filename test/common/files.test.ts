import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeDirectory } from '../../src/common/files.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'peerscope-folder-'));
});
afterEach(() => rmSync(root, { recursive: true }));

test('creates parent directories with mode 0700', () => {
  makeDirectory(join(root, 'a/b'));
  expect(statSync(join(root, 'a/b')).mode & 0o777).toBe(0o700);
  expect(statSync(join(root, 'a')).mode & 0o777).toBe(0o700);
});

test('leaves an existing directory unchanged', () => {
  const before = statSync(root).mode;
  makeDirectory(root);
  expect(statSync(root).mode).toBe(before);
});

test('throws if a file is in the way', () => {
  writeFileSync(join(root, 'file'), '');
  expect(() => makeDirectory(join(root, 'file/a'))).toThrow(/ENOTDIR/);
  expect(() => makeDirectory(join(root, 'file'))).toThrow(/EEXIST/);
});

test('throws below /proc instead of looping', () => {
  expect(() => makeDirectory('/proc/peerscope/a')).toThrow(/ENOENT/);
});
