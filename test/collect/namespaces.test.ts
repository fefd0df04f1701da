import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Namespaces } from '../../src/collect/namespaces.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { Tree } from '../support/proc-tree.ts';

/** The namespaces of the tree "containers": a host with two processes, a container, and a pod with two. */
const HOST = { inode: 4026532179, pids: [25905, 25919] };
const CONTAINER = { inode: 4026532249, pids: [25907] };
const POD = { inode: 4026532319, pids: [25909, 25917] };

/** Mounts of network namespaces, as pid 1 sees them after `ip netns add`. */
function mount(tree: Tree, ...inodes: readonly number[]): void {
  const lines = inodes.map(
    (inode, i) => `${600 + i} 25 0:4 net:[${inode}] /run/netns/n${i} rw shared:${i} - nsfs nsfs rw\n`,
  );
  mkdirSync(join(tree.root, '1'));
  writeFileSync(join(tree.root, '1/mountinfo'), `25 1 259:1 / / rw - ext4 /dev/vda1 rw\n${lines.join('')}`);
}

describe('the namespaces of processes', () => {
  test.each<{ name: string; change?: (tree: Tree) => void; expected: object }>([
    {
      name: 'are told apart by ns/net, in the order of their first process',
      expected: { namespaces: [HOST, CONTAINER, POD], hidden: 0, withoutProcess: 0 },
    },
    {
      name: 'end with their last process',
      change: (tree) => tree.end(25907),
      expected: { namespaces: [HOST, POD], hidden: 0, withoutProcess: 0 },
    },
    {
      name: 'live on with one of their processes',
      change: (tree) => tree.end(25909, 25917),
      expected: { namespaces: [HOST, CONTAINER, { ...POD, pids: [25917] }], hidden: 0, withoutProcess: 0 },
    },
    {
      name: 'have no zombie in them, which shows no namespace',
      change: (tree) => rmSync(join(tree.root, '25907', 'ns'), { recursive: true }),
      expected: { namespaces: [HOST, POD], hidden: 0, withoutProcess: 0 },
    },
    {
      name: 'are not all known where a link cannot be read',
      change: (tree) => tree.spoil(25907, 'ns/net'),
      expected: { namespaces: [HOST, POD], hidden: 1, withoutProcess: 0 },
    },
    {
      name: 'are mounted without a process, which is no fault',
      change: (tree) => mount(tree, 4026539001, HOST.inode, 4026539002, 4026539001),
      expected: { namespaces: [HOST, CONTAINER, POD], hidden: 0, withoutProcess: 2 },
    },
    {
      name: 'may be those mounted, where a link cannot be read',
      change: (tree) => {
        tree.spoil(25907, 'ns/net');
        mount(tree, CONTAINER.inode);
      },
      expected: { namespaces: [HOST, POD], hidden: 1, withoutProcess: 0 },
    },
  ])('$name', ({ change, expected }) => {
    using tree = new Tree('containers');
    change?.(tree);
    const procfs = new Procfs(tree.root);
    expect(new Namespaces().find(procfs, procfs.pids())).toEqual(expected);
  });

  test.each([
    { name: 'which is young', pid: 25919, scansBefore: 3, within: 1 },
    { name: 'through which its namespace is read', pid: 25905, scansBefore: 20, within: 1 },
    { name: 'which is old', pid: 25919, scansBefore: 20, within: 10 },
  ])('lose a process that moves, $name, within $within scans', ({ pid, scansBefore, within }) => {
    using tree = new Tree('containers');
    const procfs = new Procfs(tree.root);
    const namespaces = new Namespaces();
    const homeOf = (): number | undefined =>
      namespaces.find(procfs, procfs.pids()).namespaces.find(({ pids }) => pids.includes(pid))?.inode;
    for (let scan = 0; scan < scansBefore; scan++) expect(homeOf()).toBe(HOST.inode);
    tree.move(pid, CONTAINER.inode);
    const homes = Array.from({ length: within }, homeOf);
    expect(homes.at(-1)).toBe(CONTAINER.inode);
  });

  test('find the others at once when the process through which they were read moves', () => {
    using tree = new Tree('containers');
    const procfs = new Procfs(tree.root);
    const namespaces = new Namespaces();
    for (let scan = 0; scan < 20; scan++) namespaces.find(procfs, procfs.pids());
    tree.move(25905, POD.inode);
    tree.move(25919, POD.inode);
    expect(namespaces.find(procfs, procfs.pids()).namespaces).toEqual([
      { ...POD, pids: [25905, 25909, 25917, 25919] },
      CONTAINER,
    ]);
  });

  test('of this machine hold this process, by the same number at every scan', () => {
    const procfs = new Procfs('/proc');
    const namespaces = new Namespaces();
    const inodeOf = (): number | undefined =>
      namespaces.find(procfs, procfs.pids()).namespaces.find(({ pids }) => pids.includes(process.pid))?.inode;
    const first = inodeOf();
    expect(first).toBe(procfs.netnsInode(process.pid));
    expect(inodeOf()).toBe(first);
  });
});
