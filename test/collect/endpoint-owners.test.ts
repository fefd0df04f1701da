import { expect, it } from 'vitest';
import { parseCgroup } from '../../src/collect/cgroup.ts';
import { ConnectionTable } from '../../src/collect/connection-table.ts';
import { EndpointOwners } from '../../src/collect/endpoint-owners.ts';
import { ESTABLISHED, LISTEN } from '../../src/collect/net-tcp-udp-raw.ts';
import type { OwnerLabels, Process } from '../../src/model.ts';
import { scan, type KernelRow } from '../support/kernel-rows.ts';

const CURL = labelsOf('curl');
const BASH = labelsOf('bash');

function labelsOf(process: string): OwnerLabels {
  return { process, namespace: '', pod: '', container: '', workload: '' };
}

function processOf(pid: number, labels: OwnerLabels): Process {
  return {
    ...{ pid, startTime: pid, ppid: 1, name: labels.process, state: 'S', uid: 0, umask: null, threads: 1 },
    ...{ residentMemoryBytes: null, openFds: 1, labels, cgroup: parseCgroup('') },
  };
}

/** Connections of a client to these remote ends, each with its own port. */
function callsTo(remotes: readonly string[]): { table: ConnectionTable; owners: EndpointOwners } {
  const table = new ConnectionTable();
  const rows = remotes.map((remote, i): KernelRow => {
    const local = `192.0.2.1:${32_768 + i}`;
    return { table: 'tcp', state: ESTABLISHED, local, remote, inode: i + 1 };
  });
  scan(table, rows);
  return { table, owners: new EndpointOwners(table, { namespace: () => ({ inode: 1, pids: [1] }) }) };
}

it.each<{ title: string; learned: readonly Process[]; caller: readonly [process: string, pid: number | null] | null }>([
  { title: 'nobody', learned: [], caller: null },
  { title: 'one process', learned: [processOf(2, CURL)], caller: ['curl', 2] },
  { title: 'two processes of an owner', learned: [processOf(2, CURL), processOf(3, CURL)], caller: ['curl', null] },
  { title: 'two owners', learned: [processOf(2, CURL), processOf(3, BASH)], caller: null },
  {
    title: 'two owners, the first of them again',
    learned: [processOf(2, CURL), processOf(3, BASH), processOf(2, CURL)],
    caller: null,
  },
])('an endpoint that $title called has a caller, or none', ({ learned, caller }) => {
  const { table, owners } = callsTo(['198.51.100.7:443', '198.51.100.7:443']);
  for (const process of learned) owners.learn(0, process);
  const found = owners.callerOf(1);
  expect(found && [found.labels.process, found.process?.pid ?? null]).toEqual(caller);
  expect(table.size).toBe(2);
});

it('a caller gets its new labels', () => {
  const { owners } = callsTo(['198.51.100.7:443']);
  owners.learn(0, processOf(2, CURL));
  owners.relabel(new Map([[CURL, BASH]]));
  expect(owners.callerOf(0)?.labels).toBe(BASH);
});

it('listeners and inbound connections have no caller', () => {
  const table = new ConnectionTable();
  scan(table, [
    { table: 'tcp', state: LISTEN, local: '192.0.2.1:80', inode: 1 },
    { table: 'tcp', state: ESTABLISHED, local: '192.0.2.1:80', remote: '198.51.100.7:50000', inode: 2 },
  ]);
  const owners = new EndpointOwners(table, { namespace: () => ({ inode: 1, pids: [1] }) });
  for (const i of [0, 1]) owners.learn(i, processOf(2, CURL));
  expect([owners.callerOf(0), owners.callerOf(1)]).toEqual([null, null]);
});

it('the oldest of too many endpoints is forgotten', () => {
  const { table, owners } = callsTo(Array.from({ length: 4_097 }, (_, i) => `198.51.${i >> 8}.${i & 255}:443`));
  for (const i of table.indexes()) owners.learn(i, processOf(2, CURL));
  const known = [...table.indexes()].filter((i) => owners.callerOf(i) !== null);
  expect([known.length, owners.callerOf(0)]).toEqual([4_096, null]);
});

it('the namespace with most endpoints makes room for all', () => {
  const table = new ConnectionTable();
  const owners = new EndpointOwners(table, { namespace: () => ({ inode: 1, pids: [1] }) });
  const scanCalls = (netns: number, count: number): void => {
    const rows = Array.from({ length: count }, (_, i): KernelRow => {
      const ends = { local: `192.0.2.1:${32_768 + (i % 20_000)}`, remote: `198.51.${i >> 8}.${i & 255}:443` };
      return { table: 'tcp', state: ESTABLISHED, ...ends, inode: netns * 4_096 + i + 1 };
    });
    scan(table, rows, { netns });
  };
  const counts = (netns: number, count: number): number => {
    scanCalls(netns, count);
    return [...table.indexes()].filter((i) => owners.callerOf(i) !== null).length;
  };
  for (let netns = 0; netns < 17; netns++) {
    scanCalls(netns, netns < 16 ? 4_096 : 1);
    for (const i of table.indexes()) owners.learn(i, processOf(2, CURL));
  }
  expect([counts(0, 4_096), counts(15, 4_096), counts(16, 1)]).toEqual([4_095, 4_096, 1]);
});

it('what was learned in a namespace ends with it', () => {
  const table = new ConnectionTable();
  scan(table, [{ table: 'tcp', state: ESTABLISHED, local: '192.0.2.1:40000', remote: '198.51.100.7:443', inode: 1 }]);
  let inode = 1;
  const owners = new EndpointOwners(table, { namespace: () => ({ inode, pids: [1] }) });
  owners.learn(0, processOf(2, CURL));
  inode = 2;
  expect(owners.callerOf(0)).toBe(null);
});
