import { cpSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { failed, mountOptions, Procfs } from '../../src/collect/procfs.ts';
import { Tree } from '../support/proc-tree.ts';

const MOUNTINFO = `22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw,hidepid=invisible
23 1 0:22 / /host/proc rw - proc proc rw
24 1 0:23 / /host/proc rw,relatime shared:7 master:1 - proc none rw,hidepid=4,gid=30
25 1 0:24 / /mnt/a\\040b rw - proc proc rw,subset=pid
`;

describe('the mount options of a procfs', () => {
  it.each([
    { path: '/proc', expected: ['rw', 'hidepid=invisible'] },
    { path: '/host/proc', expected: ['rw', 'hidepid=4', 'gid=30'] },
    { path: '/mnt/a b', expected: ['rw', 'subset=pid'] },
    { path: '/mnt', expected: [] },
  ])('at $path are $expected', ({ path, expected }) => {
    expect(mountOptions(MOUNTINFO, path)).toEqual(expected);
  });
});

describe('the ephemeral ports of a recorded tree', () => {
  it.each([
    { text: '1024\t65535\n', expected: { pid: 1, ports: [1024, 65_535] } },
    { text: '32768 60999', expected: { pid: 1, ports: [32_768, 60_999] } },
    { text: '32768\n', expected: null },
    { text: '', expected: null },
    { text: null, expected: null },
  ])('of $text are $expected', ({ text, expected }) => {
    using tree = new Tree('plain-host');
    mkdirSync(`${tree.root}/sys/net/ipv4`, { recursive: true });
    if (text !== null) writeFileSync(`${tree.root}/sys/net/ipv4/ip_local_port_range`, text);
    expect(new Procfs(tree.root).ephemeralPorts()).toEqual(expected);
  });
});

describe('a recorded tree whose folders are links', () => {
  const SSHD = 25938;
  const DNSMASQ = 25947;
  /** Everything that a scan reads of a process; a failure or "nothing" for what it cannot read. */
  function readAll(root: string, pid: number): Record<string, unknown> {
    const procfs = new Procfs(root);
    return {
      isListed: procfs.pids().includes(pid),
      stat: !failed(procfs.read(pid, 'stat')),
      lines: procfs.readLines(pid, 'net/fib_trie', () => undefined) === null,
      descriptors: !failed(procfs.descriptors(pid)),
      walk: walks(procfs, pid),
      socket: procfs.socketInode(pid, 3) !== 'unreadable' && !failed(procfs.socketInode(pid, 3)),
      netns: !failed(procfs.netnsInode(pid)),
      executable: procfs.executable(pid) !== null,
      threads: procfs.threads(pid).length > 0,
    };
  }
  function walks(procfs: Procfs, pid: number): boolean {
    const walk = procfs.walkDescriptors(pid);
    if (failed(walk)) return false;
    walk.close();
    return true;
  }
  const ALL = readAllOf(true);
  function readAllOf(is: boolean): Record<string, boolean> {
    const names = ['isListed', 'stat', 'lines', 'descriptors', 'walk', 'socket', 'netns', 'executable', 'threads'];
    return Object.fromEntries(names.map((name) => [name, is]));
  }
  const NOTHING = readAllOf(false);

  it.each([
    { folder: '', target: 'outside', expected: NOTHING },
    { folder: '', target: 'inside', expected: NOTHING },
    { folder: 'fd', target: 'outside', expected: { ...ALL, descriptors: false, walk: false, socket: false } },
    { folder: 'fd', target: 'inside', expected: { ...ALL, descriptors: false, walk: false, socket: false } },
    { folder: 'ns', target: 'outside', expected: { ...ALL, netns: false } },
    { folder: 'task', target: 'outside', expected: { ...ALL, threads: false } },
    { folder: 'net', target: 'outside', expected: { ...ALL, lines: false } },
    { folder: 'net', target: 'inside', expected: ALL },
    { folder: 'net', target: 'a folder of the tree', expected: { ...ALL, lines: false } },
    { folder: 'net', target: 'a link', expected: { ...ALL, lines: false } },
    { folder: 'stat', target: 'inside', expected: { ...ALL, stat: false } },
  ])(
    'follow no link instead of PID/$folder to what is $target, except to another net',
    ({ folder, target, expected }) => {
      using tree = new Tree('listen-only');
      const outside = mkdtempSync(join(tmpdir(), 'peerscope-outside-'));
      try {
        for (const pid of [SSHD, DNSMASQ])
          mkdirSync(join(tree.root, String(pid), 'task', String(pid)), { recursive: true });
        rmSync(join(tree.root, String(DNSMASQ), 'net'), { recursive: true });
        cpSync(join(tree.root, String(SSHD), 'net'), join(tree.root, String(DNSMASQ), 'net'), { recursive: true });
        expect(readAll(tree.root, DNSMASQ)).toEqual(ALL);
        const path = join(tree.root, String(DNSMASQ), folder);
        cpSync(join(tree.root, String(DNSMASQ)), join(outside, 'copy'), { recursive: true, verbatimSymlinks: true });
        rmSync(path, { recursive: true });
        const up = folder === '' ? '' : '../';
        if (target === 'outside') symlinkSync(join(outside, 'copy', folder), path);
        else if (target === 'inside') symlinkSync(join(`${up}${SSHD}`, folder), path);
        else {
          renameSync(join(outside, 'copy', folder), join(tree.root, 'other'));
          symlinkSync('../other', path);
          if (target === 'a link') {
            rmSync(path);
            symlinkSync('../1/net', path);
            mkdirSync(join(tree.root, '1'));
            symlinkSync('../other', join(tree.root, '1/net'));
          }
        }
        expect(readAll(tree.root, DNSMASQ)).toEqual(expected);
      } finally {
        rmSync(outside, { recursive: true });
      }
    },
  );
});

it('reads no sparse file of a recorded tree to its end', () => {
  using tree = new Tree('listen-only');
  const pid = 25938;
  for (const name of ['stat', `${pid}/net/fib_trie`, `${pid}/cmdline`]) {
    writeFileSync(join(tree.root, name), 'btime 1\n');
    truncateSync(join(tree.root, name), 2 ** 40);
  }
  const procfs = new Procfs(tree.root);
  expect(procfs.bootedAt()).toBe(1_000);
  expect(procfs.readLines(pid, 'net/fib_trie', () => undefined)).toBe('unreadable');
  expect(procfs.read(pid, 'cmdline').length).toBe(4 << 20);
});
