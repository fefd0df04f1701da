import type { OwnerEvidence, OwnerLabels, Process, UnattributedReason } from '../model.ts';
import type { ConnectionOwner, ConnectionTable } from './connection-table.ts';
import type { SocketOwners } from './socket-owners.ts';
import { chooseOwner, type Processes } from './processes.ts';
import { CLOSING, FIN_WAIT1, FIN_WAIT2, LAST_ACK, TIME_WAIT } from './net-tcp-udp-raw.ts';
import type { NamespaceTables } from './namespace-tables.ts';

const NOBODY: readonly Process[] = [];

/** What attribution needs to know of the host. */
export interface Host {
  readonly connections: ConnectionTable;
  readonly tables: NamespaceTables;
  readonly owners: SocketOwners;
  readonly processes: Processes;
  /** False where /proc shows a PID namespace below the host's: a process that cannot be seen may hold a socket. */
  readonly seesAllProcesses: boolean;
}

/**
 * Gives every connection its owner, by the first of: a process that holds a descriptor of it, the owner it had before, the owner
 * of the listener at its local end, the pod of its namespace. A row without a process gets the reason.
 * A row is looked at again only when it, its holders or their names changed, or when nobody was found for it.
 */
export class Attribution {
  readonly #host: Host;
  readonly #held = new Map<Process, number>();
  readonly #unowned = new Set<number>();
  /** A list for each process that holds a socket alone, shared by all of its connections. */
  readonly #alone = new WeakMap<Process, readonly Process[]>();

  constructor(host: Host) {
    this.#host = host;
  }

  /** Every process that holds a socket of the table. */
  get holding(): ReadonlySet<Process> {
    return new Set(this.#held.keys());
  }

  /** Rows without a process, by the reason. */
  get unattributed(): ReadonlyMap<UnattributedReason, number> {
    const counts = new Map<UnattributedReason, number>();
    for (const i of this.#unowned) {
      const reason = this.#host.connections.reason[i];
      if (reason) counts.set(reason, (counts.get(reason) ?? 0) + 1);
    }
    return counts;
  }

  /** Brings the owners up to the scan that the table, the owners and the processes have just seen. */
  update(): void {
    const { connections, owners, processes } = this.#host;
    for (const i of connections.closed) {
      this.#hold(connections.holders[i] ?? NOBODY, -1);
      this.#unowned.delete(i);
    }
    for (const inode of owners.moved) {
      const i = connections.indexOf(inode);
      if (i >= 0) connections.touch(i);
    }
    if (processes.renamed.size > 0) this.#rename(processes.renamed);
    const unheld = [...this.#unowned].filter((i) => connections.changed[i] === 0 && !this.#attributeToHolder(i));
    for (let i = 0; i < connections.length; i++)
      if (connections.changed[i] !== 0 && connections.has(i) && !this.#attributeToHolder(i)) unheld.push(i);
    for (const i of unheld) this.#assign(i, inherited(this.#host, i));
  }

  /** Some names are others from now on. */
  relabel(changed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    const { connections } = this.#host;
    for (const i of connections.indexes()) {
      const before = connections.labels[i];
      const labels = before && changed.get(before);
      if (!labels) continue;
      const isNamed = labels.process !== '';
      if (isNamed) this.#unowned.delete(i);
      connections.setOwner(i, {
        process: connections.process[i] ?? null,
        holders: connections.holders[i] ?? NOBODY,
        evidence: connections.ownerEvidence[i] ?? null,
        labels,
        reason: isNamed ? null : (connections.reason[i] ?? null),
      });
      // The names can be the same and final now.
      connections.touch(i);
    }
  }

  /** A process that took another name by exec() passes it on to its connections. */
  #rename(renamed: ReadonlySet<Process>): void {
    const { connections } = this.#host;
    for (let i = 0; i < connections.length; i++) {
      const process = connections.process[i];
      if (!process || !renamed.has(process) || connections.ownerEvidence[i] !== 'fd') continue;
      connections.touch(i);
    }
  }

  #attributeToHolder(i: number): boolean {
    const { connections, processes, tables } = this.#host;
    const holders = this.#shared(holdersOf(this.#host, connections.inode[i] ?? 0));
    const netns = connections.netns[i] ?? 0;
    const process = chooseOwner(
      holders,
      (pid) => tables.isMember(netns, pid),
      (ancestor, pid) => processes.isAncestor(ancestor, pid),
    );
    if (!process) return false;
    this.#assign(i, ownedBy(process, process.labels, 'fd', holders));
    return true;
  }

  #shared(holders: readonly Process[]): readonly Process[] {
    const [only] = holders;
    if (!only || holders.length > 1) return holders;
    const known = this.#alone.get(only);
    if (!known) this.#alone.set(only, holders);
    return known ?? holders;
  }

  #assign(i: number, owner: ConnectionOwner): void {
    const { connections } = this.#host;
    this.#hold(connections.holders[i] ?? NOBODY, -1);
    this.#hold(owner.holders, 1);
    if (owner.labels.process === '') this.#unowned.add(i);
    else this.#unowned.delete(i);
    connections.setOwner(i, owner);
  }

  #hold(holders: readonly Process[], by: 1 | -1): void {
    for (const holder of holders) {
      const held = (this.#held.get(holder) ?? 0) + by;
      if (held > 0) this.#held.set(holder, held);
      else this.#held.delete(holder);
    }
  }
}

function holdersOf({ owners, processes }: Host, inode: number): readonly Process[] {
  if (inode === 0) return NOBODY;
  const pids = owners.holdersOf(inode);
  if (pids.length === 0) return NOBODY;
  return pids.map((pid) => processes.get(pid, owners.openFdsOf(pid))).filter((process) => process !== null);
}

/** A process that has a name, but is published without one, waits for that of its container. */
function ownedBy(
  process: Process | null,
  labels: OwnerLabels,
  evidence: OwnerEvidence,
  holders: readonly Process[] = NOBODY,
): ConnectionOwner {
  const waits = labels.process === '' && process !== null && process.name !== '';
  return { process, holders, evidence, labels, reason: waits ? 'vanished' : null };
}

/** The owner of a row that no process holds. */
function inherited(host: Host, i: number): ConnectionOwner {
  const { connections, tables } = host;
  const before = connections.labels[i];
  const evidence = connections.ownerEvidence[i];
  if (before && (evidence === 'fd' || evidence === 'history'))
    return ownedBy(connections.process[i] ?? null, before, 'history');
  const listener = connections.inode[i] === 0 ? connections.listenerOf(i) : -1;
  const accepting = connections.labels[listener];
  if (accepting && listener !== i && connections.process[listener])
    return ownedBy(connections.process[listener] ?? null, accepting, 'listener');
  if (before && evidence === 'listener') return ownedBy(connections.process[i] ?? null, before, 'history');
  const labels = tables.podOf(connections.netns[i] ?? 0);
  const evidenceOfPod = labels.workload !== '' || labels.pod !== '' ? 'netns' : null;
  return { process: null, holders: NOBODY, evidence: evidenceOfPod, labels, reason: reasonOf(host, i) };
}

/**
 * An ended connection (TIME_WAIT, or an orphan after close()) has no descriptor. If no scan saw it open, or a single scan that did
 * not find its owner, it was too short; else it keeps the reason that it had while it was open.
 * A socket that no process holds at two scans, though all processes can be read, is held by the kernel. What was not looked for yet
 * has vanished as well, for one more scan.
 */
function reasonOf({ connections, owners, seesAllProcesses }: Host, i: number): UnattributedReason {
  const before = connections.reason[i];
  const inode = connections.inode[i] ?? 0;
  if (inode === 0) {
    if (before && before !== 'vanished') return before;
    return hasEnded(connections.state[i] ?? 0) ? 'short_lived' : 'no_descriptor';
  }
  if (owners.isPostponed(inode)) return 'vanished';
  if (owners.denied > 0) return 'permission';
  if (!seesAllProcesses) return 'other_pid_namespace';
  return before === 'vanished' || before === 'no_descriptor' ? 'no_descriptor' : 'vanished';
}

/** Says whether a TCP connection is in a state that outlives close(). */
function hasEnded(state: number): boolean {
  return [TIME_WAIT, FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING].includes(state);
}
