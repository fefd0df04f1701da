import { readlinkSync, symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { detailsReader, readProcessDetails } from '../../src/collect/process-details.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { parse } from '../../src/index.ts';
import { Tree } from '../support/proc-tree.ts';

const NGINX = 25742;
const [ROW] = parse('tcp ESTAB 0 0 192.0.2.5:40000 198.51.100.7:443').rows;

describe('the details of a process', () => {
  it('are its program, arguments, parents, cgroup and start time', () => {
    using tree = new Tree('plain-host');
    tree.edit(NGINX, 'cmdline', /^[^]*$/, 'nginx\0--token=abc\0-g\0daemon off;\0');
    expect(readProcessDetails(new Procfs(tree.root), NGINX)).toMatchObject({
      exe: '/usr/local/bin/nginx',
      exe_deleted: false,
      cmdline: "nginx --token=*** -g 'daemon off;'",
      cgroup: '/system.slice/nginx.service',
    });
  });

  it('say that the program was deleted', () => {
    using tree = new Tree('plain-host');
    const exe = join(tree.root, String(NGINX), 'exe');
    const target = readlinkSync(exe);
    unlinkSync(exe);
    symlinkSync(`${target} (deleted)`, exe);
    expect(readProcessDetails(new Procfs(tree.root), NGINX)).toMatchObject({ exe: target, exe_deleted: true });
  });

  it('are unknown for a process that exited', () => {
    using tree = new Tree('plain-host');
    const details = readProcessDetails(new Procfs(tree.root), 999);
    expect(new Set(Object.values(details))).toEqual(new Set([null]));
  });

  it('name a parent after its program if Node.js gave it the name of its thread', () => {
    using tree = new Tree('plain-host');
    tree.edit(NGINX, 'stat', /\(nginx\) (\w) \d+ /, `(MainThread) $1 ${NGINX} `);
    expect(readProcessDetails(new Procfs(tree.root), NGINX).parents).toContain('nginx');
    tree.write(NGINX, 'exe', null);
    expect(readProcessDetails(new Procfs(tree.root), NGINX).parents).toContain('MainThread');
  });

  it('end at a loop of parents', () => {
    using tree = new Tree('plain-host');
    tree.edit(NGINX, 'stat', /\) (\w) \d+ /, `) $1 ${NGINX} `);
    expect(readProcessDetails(new Procfs(tree.root), NGINX).parents).toHaveLength(16);
  });

  it('are not added to a row without a process, or without procfs', () => {
    if (!ROW) throw new Error('no row');
    expect(detailsReader(null)({ ...ROW, pid: 1 })).toEqual({ ...ROW, pid: 1 });
    using tree = new Tree('plain-host');
    expect(detailsReader(new Procfs(tree.root))({ ...ROW, pid: null })).toEqual({ ...ROW, pid: null });
  });
});
