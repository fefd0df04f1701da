import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { stats, type StatsOptions } from '../../src/cli/stats.ts';
import { UsageError } from '../../src/common/errors.ts';

const CONTAINERS = fileURLToPath(new URL('../fixtures/proc/containers', import.meta.url));

function run(options: StatsOptions, procfs = CONTAINERS): string {
  let text = '';
  expect(stats({ procfs }, options, { write: (part: string) => (text += part) })).toBe(0);
  return text;
}

const json = (
  options: StatsOptions,
): { netns: number; pid: number; statistics: Record<string, Record<string, number>> } =>
  JSON.parse(run({ ...options, json: true })) as ReturnType<typeof json>;

describe('stats', () => {
  it('prints the format of netstat -s, with zeros only on request', () => {
    const all = run({ pid: '25907', zeros: true });
    expect(all).toMatch(/^Ip:\n {4}Forwarding: \d\n {4}\d+ total packets received\n/);
    expect(all).toContain('\nTcpExt:\n    0 SYN cookies sent\n');
    const some = run({ pid: '25907' });
    expect(run({ pid: '25907', nonzero: true })).toBe(some);
    expect(some.split('\n').filter((line) => /(^| )0( |$)/.test(line))).toEqual([]);
    expect(some.split('\n').filter((line) => !all.split('\n').includes(line))).toEqual([]);
    expect(some).not.toContain('UdpLite:');
  });

  it('prints no control characters from counter names of a recording', () => {
    const root = mkdtempSync(join(tmpdir(), 'peerscope-stats-'));
    try {
      mkdirSync(join(root, '1/net'), { recursive: true });
      writeFileSync(join(root, '1/net/snmp'), 'Ip\x1b[2J: A\x9b31m\nIp\x1b[2J: 7\n', 'latin1');
      writeFileSync(join(root, '1/net/netstat'), '');
      expect(run({ pid: '1' }, root)).toBe('Ip\ufffd[2J:\n    A\ufffd31m: 7\n');
      expect(run({ pid: '1', json: true }, root)).toBe(
        '{"netns":null,"pid":1,"statistics":{"Ip\\u001b[2J":{"A\\u009b31m":7}}}\n',
      );
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  it('prints one JSON object with the names of the kernel', () => {
    const { pid, statistics } = json({ pid: '25907', nonzero: true });
    expect(pid).toBe(25_907);
    expect(Object.values(statistics).flatMap((section) => Object.values(section))).not.toContain(0);
    expect(json({ pid: '25907' }).statistics['TcpExt']).toMatchObject({ SyncookiesSent: 0, ListenOverflows: 0 });
  });

  it('selects a namespace by its inode, a process or a pod', () => {
    const { netns } = json({ pid: '25909' });
    expect(json({ netns: String(netns) }).netns).toBe(netns);
    expect(json({ netns: `net:[${netns}]` }).netns).toBe(netns);
    const byPod = json({ pod: '3f1e6b1c-8d1b-4c0e-9c5f-0a1b2c3d4e5f' });
    expect(byPod).toEqual(json({ pod: '3F1E6B1C_8d1b_4c0e_9c5f_0a1b2c3d4e5f' }));
    expect(byPod).toEqual(json({ pid: String(byPod.pid) }));
    expect(byPod.netns).not.toBe(json({}).netns);
  });

  it('defaults to the lowest pid of a recording without pid 1', () => {
    expect(json({}).pid).toBe(25_905);
  });

  it.each<[options: StatsOptions, message: string]>([
    [
      { netns: 'x' },
      'Cannot use --netns "x": must be the inode number of a network namespace such as 4026531840 or net:[4026531840]',
    ],
    [{ pid: '0' }, 'Cannot use --pid "0": must be a process ID'],
    [{ pod: 'web-1' }, 'Cannot use --pod "web-1": must be the UID of a pod, not its name'],
    [{ pid: '1', netns: '2' }, 'Cannot use --netns with --pid: they exclude each other'],
    [{ pid: '1' }, 'Cannot read statistics of process "1": no such process'],
    [{ netns: '1' }, 'Cannot read statistics of network namespace "1": no readable process is in it'],
    [
      { pod: '3f1e6b1c-8d1b-4c0e-9c5f-000000000000' },
      'Cannot read statistics of pod "3f1e6b1c-8d1b-4c0e-9c5f-000000000000": no process has this UID in its cgroup path',
    ],
  ])('rejects %j', (options, message) => {
    expect(() => run(options)).toThrow(message.startsWith('Cannot use') ? new UsageError(message) : new Error(message));
  });
});
