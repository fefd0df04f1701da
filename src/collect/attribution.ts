import type { OwnerEvidence, OwnerLabels, Process, UnattributedReason } from '../model.ts';
import type { ConnectionTable } from './connections.ts';
import type { Owners } from './owners.ts';
import { chooseOwner, type Processes } from './processes.ts';
import type { SocketTables } from './tables.ts';

const NOBODY: readonly Process[] = [];

/** What attribution needs to know of the host. */
export interface Host {
  readonly connections: ConnectionTable;
  readonly tables: SocketTables;
  readonly owners: Owners;
  readonly processes: Processes;
  /** False where /proc shows a PID namespace below the host's: a process that cannot be seen may hold a socket. */
  readonly seesAllProcesses: boolean;
}

/**
 * Gives every connection its owner, by the first of: a process that holds a descriptor of it, the owner it had before, the owner
 * of the listener at its local end, the pod of its namespace. A row without a process gets the reason. What neither its row nor
 * its holders changed stays as it was. Returns every process that holds a socket of the table.
 */
export function attribute(host: Host): Set<Process> {
  const { connections, owners } = host;
  const holding = new Set<Process>();
  const unheld: number[] = [];
  for (const inode of owners.moved) {
    const i = connections.indexOf(inode);
    if (i >= 0) connections.changed[i] = 1;
  }
  for (let i = 0; i < connections.length; i++) {
    if (connections.scanOf[i] === 0) continue;
    const evidence = connections.ownerEvidence[i];
    const stands = connections.changed[i] === 0;
    if (stands && evidence === 'history') continue;
    if ((stands && evidence === 'fd') || attributeToHolder(host, i)) keepNames(connections, i, holding);
    else unheld.push(i);
  }
  for (const i of unheld) assign(connections, i, inherited(host, i));
  return holding;
}

/** The holders of a connection are part of the census; a process that took another name by exec() passes it on. */
function keepNames(connections: ConnectionTable, i: number, holding: Set<Process>): void {
  const holders = connections.holders[i] ?? NOBODY;
  for (const holder of holders) holding.add(holder);
  const labels = connections.process[i]?.labels ?? null;
  if (labels === connections.labels[i]) return;
  connections.labels[i] = labels;
  connections.changed[i] = 1;
}

function attributeToHolder(host: Host, i: number): boolean {
  const { connections, processes, tables } = host;
  const holders = holdersOf(host, connections.inode[i] ?? 0);
  const netns = connections.netns[i] ?? 0;
  const process = chooseOwner(
    holders,
    (pid) => tables.isMember(netns, pid),
    (ancestor, pid) => processes.isAncestor(ancestor, pid),
  );
  if (!process) return false;
  assign(connections, i, { process, holders, evidence: 'fd', labels: process.labels, reason: null });
  return true;
}

interface Attribution {
  readonly process: Process | null;
  readonly holders: readonly Process[];
  readonly evidence: OwnerEvidence | null;
  readonly labels: OwnerLabels;
  readonly reason: UnattributedReason | null;
}

function holdersOf({ owners, processes }: Host, inode: number): readonly Process[] {
  if (inode === 0) return NOBODY;
  const pids = owners.holdersOf(inode);
  if (pids.length === 0) return NOBODY;
  return pids.map((pid) => processes.get(pid, owners.openFdsOf(pid))).filter((process) => process !== null);
}

/** The owner of a row that no process holds. */
function inherited(host: Host, i: number): Attribution {
  const { connections, tables } = host;
  const before = connections.labels[i];
  const evidence = connections.ownerEvidence[i];
  if (before && (evidence === 'fd' || evidence === 'history')) {
    const process = connections.process[i] ?? null;
    return { process, holders: NOBODY, evidence: 'history', labels: before, reason: null };
  }
  const listener = connections.inode[i] === 0 ? connections.listenerOf(i) : -1;
  const accepting = connections.labels[listener];
  if (accepting && listener !== i && connections.process[listener]) {
    const process = connections.process[listener] ?? null;
    return { process, holders: NOBODY, evidence: 'listener', labels: accepting, reason: null };
  }
  const labels = tables.podOf(connections.netns[i] ?? 0);
  const evidenceOfPod = labels.workload !== '' || labels.pod !== '' ? 'netns' : null;
  return { process: null, holders: NOBODY, evidence: evidenceOfPod, labels, reason: reasonOf(host, i) };
}

/** A socket that no process holds at two scans, though all processes can be read, is held by the kernel. */
function reasonOf({ connections, owners, seesAllProcesses }: Host, i: number): UnattributedReason {
  const before = connections.reason[i];
  if (connections.inode[i] === 0) return 'no_descriptor';
  if (owners.denied > 0) return 'permission';
  if (!seesAllProcesses) return 'other_pid_namespace';
  return before === 'vanished' || before === 'no_descriptor' ? 'no_descriptor' : 'vanished';
}

function assign(connections: ConnectionTable, i: number, attribution: Attribution): void {
  connections.process[i] = attribution.process;
  connections.holders[i] = attribution.holders;
  connections.ownerEvidence[i] = attribution.evidence;
  connections.reason[i] = attribution.reason;
  if (connections.labels[i] === attribution.labels) return;
  connections.labels[i] = attribution.labels;
  connections.changed[i] = 1;
}
