import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileIn, pathOf } from '../../src/collect/executable.ts';
import { Processes } from '../../src/collect/processes.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { NO_OWNER } from '../../src/enrich/owner-labels.ts';

const line = (path: string, device = '08:01', inode = 7): string =>
  `55d0a8a00000-55d0a8a20000 r-xp 00001000 ${device} ${inode}                    ${path}`;

describe('the file of an executable in a memory map', () => {
  test.each([
    { name: 'is that of its path', maps: [line('/lib/ld.so', '08:01', 6), line('/bin/nc')], expected: ['08:01', 7] },
    { name: 'is the same in all of its mappings', maps: [line('/bin/nc'), line('/bin/nc')], expected: ['08:01', 7] },
    {
      name: 'is unknown without a mapping',
      maps: [line('/bin/nc2'), '7f00-7f01 rw-p 0 00:00 0'],
      expected: [null, null],
    },
    { name: 'is none of two', maps: [line('/bin/nc'), line('/bin/nc', '00:2a', 7)], expected: ['00:2a', 0] },
    { name: 'may be deleted', exe: '/bin/nc (deleted)', maps: [line('/bin/nc (deleted)')], expected: ['08:01', 7] },
    {
      name: 'may have a line feed in its name',
      exe: '/tmp/a\nb',
      maps: [line('/tmp/a\\012b')],
      expected: ['08:01', 7],
    },
    { name: 'ends nothing by its name', exe: '/nc', maps: [line('/bin/nc')], expected: [null, null] },
  ])('$name', ({ exe = '/bin/nc', maps, expected: [device, inode] }) => {
    expect(fileIn(`${maps.join('\n')}\n`, exe)).toEqual({ device, inode });
  });

  test('any text and path', () => {
    fc.assert(fc.property(fc.string(), fc.string(), (maps, exe) => void fileIn(maps, exe)));
  });
});

test('an update is no other program', () => {
  expect(pathOf('/usr/sbin/nginx (deleted)')).toBe('/usr/sbin/nginx');
  expect(pathOf('/memfd:x (deleted)')).toBe('/memfd:x');
});

test('another file under the same path is another executable of the same process name', async () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'peerscope-exe-')));
  const path = join(folder, 'program');
  const run = async (): Promise<{ pid: number; inode: number; end: () => Promise<unknown> }> => {
    copyFileSync('/bin/sleep', `${path}.new`);
    renameSync(`${path}.new`, path);
    const child = spawn(path, ['60']);
    await once(child, 'spawn');
    const ended = once(child, 'exit');
    return { pid: child.pid ?? 0, inode: statSync(path).ino, end: () => (child.kill(), ended) };
  };
  const programs = [await run(), await run()];
  try {
    const processes = new Processes(new Procfs('/proc'), [], (process) => ({ ...NO_OWNER, process }));
    const read = (): unknown[] => {
      processes.begin(programs.map(({ pid }) => pid));
      return programs.map(({ pid }) => processes.get(pid, 0)?.executable);
    };
    const found = read();
    expect(found).toMatchObject(programs.map(({ inode }) => ({ path, inode })));
    for (const [i, executable] of read().entries()) expect(executable).toBe(found[i]);
  } finally {
    await Promise.all(programs.map(({ end }) => end()));
    rmSync(folder, { recursive: true });
  }
});
