import { describe, expect, test } from 'vitest';
import { fileURLToPath } from 'node:url';
import { chooseOwner, Processes } from '../../src/collect/processes.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import type { OwnerLabels, Process } from '../../src/model.ts';

const NO_LABELS: OwnerLabels = { process: '', namespace: '', workload: '', pod: '', container: '' };

function someone(pid: number, startTime: number): Process {
  return {
    pid,
    startTime,
    ppid: 1,
    name: `p${pid}`,
    labels: NO_LABELS,
    state: 'S',
    uid: 0,
    umask: '0022',
    threads: 1,
    residentMemoryBytes: 1,
    openFds: 1,
    cgroup: {
      kind: 'unknown',
      runtime: null,
      containerId: null,
      outerContainerId: null,
      podUid: null,
      qos: null,
      unit: null,
    },
  };
}

describe('chooseOwner', () => {
  test.each<{
    name: string;
    holders: Process[];
    local?: number[];
    parents?: Record<number, number>;
    expected: number | null;
  }>([
    { name: 'nobody holds it', holders: [], expected: null },
    { name: 'one process holds it, in whatever namespace', holders: [someone(40, 9)], local: [], expected: 40 },
    {
      name: 'a process of the own namespace comes before one that only received the descriptor',
      holders: [someone(40, 1), someone(50, 9)],
      local: [50],
      expected: 50,
    },
    {
      name: 'pid 1 holds the sockets of socket-activated services too, and is not their owner',
      holders: [someone(1, 0), someone(50, 9)],
      expected: 50,
    },
    { name: 'pid 1 alone is the owner', holders: [someone(1, 0)], expected: 1 },
    {
      name: 'the master of a pre-forking server is above its workers, however old they are',
      holders: [someone(50, 5), someone(51, 3), someone(52, 4)],
      parents: { 51: 50, 52: 50 },
      expected: 50,
    },
    {
      name: 'a grandparent through a process that does not hold the socket counts as above',
      holders: [someone(50, 5), someone(52, 4)],
      parents: { 52: 51, 51: 50 },
      expected: 50,
    },
    {
      name: 'without an ancestor the earliest start counts',
      holders: [someone(50, 5), someone(51, 3), someone(52, 4)],
      expected: 51,
    },
    { name: 'with equal starts the lowest pid counts', holders: [someone(51, 5), someone(50, 5)], expected: 50 },
  ])('$name', ({ holders, local, parents = {}, expected }) => {
    const isAncestor = (ancestor: number, pid: number): boolean => {
      for (let at = parents[pid]; at !== undefined; at = parents[at]) if (at === ancestor) return true;
      return false;
    };
    for (const order of [holders, holders.toReversed()]) {
      const chosen = chooseOwner(order, (pid) => local?.includes(pid) ?? true, isAncestor);
      expect(chosen?.pid ?? null).toBe(expected);
    }
  });
});

describe('Processes', () => {
  const tree = (name: string): Procfs =>
    new Procfs(fileURLToPath(new URL(`../fixtures/proc/${name}`, import.meta.url)));

  test('a recorded service has the name of its executable, its state, umask, memory and unit', () => {
    const procfs = tree('plain-host');
    const processes = new Processes(procfs, [], (name) => ({ ...NO_LABELS, process: name }));
    const pids = procfs.pids();
    processes.begin(pids);
    const seen = pids.map((pid) => processes.get(pid, 3)).find((process) => process?.name === 'postgres');
    expect(seen).toMatchObject({
      name: 'postgres',
      state: 'S',
      umask: '0022',
      openFds: 3,
      threads: 1,
      cgroup: { kind: 'unit', unit: 'postgresql@15-main.service' },
    });
    expect(seen?.residentMemoryBytes).toBeGreaterThan(1_000_000);
  });

  test('a process that is gone is null, and a known one is no longer alive', () => {
    const procfs = tree('plain-host');
    const processes = new Processes(procfs, [], () => NO_LABELS);
    const [pid = 0] = procfs.pids();
    processes.begin([pid]);
    const seen = processes.get(pid, 0);
    if (!seen) throw new Error('the recorded process is not readable');
    expect(processes.isAlive(seen)).toBe(true);
    processes.begin([]);
    expect(processes.isAlive(seen)).toBe(false);
    expect(processes.get(4_000_000, 0)).toBeNull();
  });

  test('a process is the same object in every scan', () => {
    const procfs = tree('plain-host');
    const processes = new Processes(procfs, [], () => NO_LABELS);
    const pids = procfs.pids();
    processes.begin(pids);
    const before = processes.get(pids[0] ?? 0, 1);
    processes.begin(pids);
    expect(processes.get(pids[0] ?? 0, 2)).toBe(before);
  });
});
