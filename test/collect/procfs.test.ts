import { mkdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { mountOptions, Procfs } from '../../src/collect/procfs.ts';
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
