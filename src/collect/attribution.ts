import type { OwnerEvidence, OwnerLabels, Process, UnattributedReason } from '../model.ts';
import type { ConnectionOwner, ConnectionTable } from './connection-table.ts';
import type { EndpointOwners } from './endpoint-owners.ts';
import type { SocketOwners } from './socket-owners.ts';
import { chooseOwner, type Processes } from './processes.ts';
import { CLOSING, FIN_WAIT1, FIN_WAIT2, LAST_ACK, NO_UID, TIME_WAIT } from './net-tcp-udp-raw.ts';
import type { NamespaceTables } from './namespace-tables.ts';

const NO_PROCESSES: readonly Process[] = [];

/** What attribution reads. */
export interface AttributionSources {
  readonly connections: ConnectionTable;
  readonly tables: NamespaceTables;
  readonly owners: SocketOwners;
  readonly processes: Processes;
  /** Who calls which remote endpoint; null if the ends of sockets are not reported. */
  readonly endpointOwners?: EndpointOwners | null;
  /** The labels of a user's socket that no process holds. */
  readonly labelsOfUser: (uid: number) => OwnerLabels;
  /** False if /proc belongs to a PID namespace below that of the sources: an invisible process may hold a socket. */
  readonly seesAllProcesses: boolean;
  /** Whether processes of other users are hidden. */
  readonly hidesProcesses: boolean;
}

/**
 * Gives every connection its owner: a process with a descriptor of it, otherwise its former owner, otherwise the owner of the listener
 * on its local end, otherwise (if the kernel reported its end) the sole caller of its remote endpoint, otherwise the pod of its
 * namespace, otherwise the user that opened it. A process that cannot have opened the socket, because it is of another user, only carries
 * it: D-Bus, for example. A connection without a process gets a reason.
 * A connection is checked again only after it, its holders or their labels changed, or while it has no process.
 */
export class Attribution {
  readonly #sources: AttributionSources;
  readonly #socketCounts = new Map<Process, number>();
  readonly #unowned = new Set<number>();
  /** By process: the owner of all connections that only this process holds. */
  readonly #soleOwners = new WeakMap<Process, ConnectionOwner>();

  constructor(sources: AttributionSources) {
    this.#sources = sources;
  }

  /** Every process that holds a socket. */
  get holding(): ReadonlySet<Process> {
    return new Set(this.#socketCounts.keys());
  }

  /** Connections without a process, by reason. */
  get unattributed(): ReadonlyMap<UnattributedReason, number> {
    const counts = new Map<UnattributedReason, number>();
    for (const i of this.#unowned) {
      const reason = this.#sources.connections.reason[i];
      if (reason) counts.set(reason, (counts.get(reason) ?? 0) + 1);
    }
    return counts;
  }

  /** Updates the owners after the sources finished a scan. */
  update(): void {
    const { connections, owners, processes } = this.#sources;
    for (const i of connections.closed) {
      this.#hold(connections.holders[i] ?? NO_PROCESSES, -1);
      this.#unowned.delete(i);
    }
    for (const inode of owners.changedInodes) {
      const i = connections.indexOf(inode);
      if (i >= 0) connections.touch(i);
    }
    if (processes.renamed.size > 0) this.#rename(processes.renamed);
    const unheld = [...this.#unowned].filter((i) => connections.changed[i] === 0 && !this.#attributeToHolder(i));
    for (let i = 0; i < connections.length; i++)
      if (connections.changed[i] !== 0 && connections.has(i) && !this.#attributeToHolder(i)) unheld.push(i);
    for (const i of unheld) this.#assign(i, inherited(this.#sources, i));
  }

  /** Replaces labels by others. */
  relabel(changed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    const { connections } = this.#sources;
    this.#sources.endpointOwners?.relabel(changed);
    for (const i of connections.indexes()) {
      const before = connections.labels[i];
      const labels = before && changed.get(before);
      if (!labels) continue;
      const isNamed = labels.process !== '';
      if (isNamed) this.#unowned.delete(i);
      connections.setOwner(i, {
        process: connections.process[i] ?? null,
        holders: connections.holders[i] ?? NO_PROCESSES,
        evidence: connections.ownerEvidence[i] ?? null,
        labels,
        reason: isNamed ? null : (connections.reason[i] ?? null),
      });
      // The same labels may be final now.
      connections.touch(i);
    }
  }

  /** Touches the connections of processes that changed their name by exec(). */
  #rename(renamed: ReadonlySet<Process>): void {
    const { connections } = this.#sources;
    for (let i = 0; i < connections.length; i++) {
      const process = connections.process[i];
      if (!process || !renamed.has(process) || connections.ownerEvidence[i] !== 'fd') continue;
      connections.touch(i);
    }
  }

  #attributeToHolder(i: number): boolean {
    const { connections, owners, processes, tables } = this.#sources;
    const inode = connections.inode[i] ?? 0;
    const pid = inode === 0 ? null : owners.soleHolderOf(inode);
    if (pid !== null) {
      const only = processes.get(pid, owners.openFdsOf(pid));
      if (!only || !mayHaveOpened(this.#sources, i, only)) return false;
      this.#assign(i, this.#soleOwner(only));
      this.#sources.endpointOwners?.learn(i, only);
      return true;
    }
    const isOpener = (holder: Process): boolean => mayHaveOpened(this.#sources, i, holder);
    const holders = holdersOf(this.#sources, inode).filter(isOpener);
    const netns = connections.netns[i] ?? 0;
    const process = chooseOwner(
      holders,
      (pid) => tables.isMember(netns, pid),
      (ancestor, pid) => processes.isAncestor(ancestor, pid),
    );
    if (!process) return false;
    const [, second] = holders;
    this.#assign(i, second ? ownedBy(process, process.labels, 'fd', holders) : this.#soleOwner(process));
    this.#sources.endpointOwners?.learn(i, process);
    return true;
  }

  #soleOwner(process: Process): ConnectionOwner {
    const known = this.#soleOwners.get(process);
    const owner = ownedBy(process, process.labels, 'fd', known?.holders ?? [process]);
    if (known?.labels === owner.labels && known.reason === owner.reason) return known;
    this.#soleOwners.set(process, owner);
    return owner;
  }

  #assign(i: number, owner: ConnectionOwner): void {
    const { connections } = this.#sources;
    this.#hold(connections.holders[i] ?? NO_PROCESSES, -1);
    this.#hold(owner.holders, 1);
    if (owner.labels.process === '' && !connections.isEndedOnly(i)) this.#unowned.add(i);
    else this.#unowned.delete(i);
    connections.setOwner(i, owner);
  }

  #hold(holders: readonly Process[], by: 1 | -1): void {
    for (const holder of holders) {
      const held = (this.#socketCounts.get(holder) ?? 0) + by;
      if (held > 0) this.#socketCounts.set(holder, held);
      else this.#socketCounts.delete(holder);
    }
  }
}

/** Says whether a process may have opened the socket of a connection. */
function mayHaveOpened({ connections, processes }: AttributionSources, i: number, process: Process): boolean {
  return processes.mayHaveOpened(process, connections.uid[i] ?? NO_UID);
}

function holdersOf({ owners, processes }: AttributionSources, inode: number): readonly Process[] {
  if (inode === 0) return NO_PROCESSES;
  const pids = owners.holdersOf(inode);
  if (pids.length === 0) return NO_PROCESSES;
  return pids.map((pid) => processes.get(pid, owners.openFdsOf(pid))).filter((process) => process !== null);
}

/** A process that has a name but no label waits for the name of its container. */
function ownedBy(
  process: Process | null,
  labels: OwnerLabels,
  evidence: OwnerEvidence,
  holders: readonly Process[] = NO_PROCESSES,
): ConnectionOwner {
  const waits = labels.process === '' && process !== null && process.name !== '';
  return { process, holders, evidence, labels, reason: waits ? 'vanished' : null };
}

/** The owner of a connection without a holder. */
function inherited(sources: AttributionSources, i: number): ConnectionOwner {
  const { connections, tables, endpointOwners } = sources;
  const before = connections.labels[i];
  const evidence = connections.ownerEvidence[i];
  if (before && (evidence === 'fd' || evidence === 'history'))
    return ownedBy(connections.process[i] ?? null, before, 'history');
  const hasHolder = connections.inode[i] !== 0 && connections.ended[i] !== 1;
  const listener = hasHolder ? -1 : connections.listenerOf(i);
  const accepting = connections.labels[listener];
  const acceptor = connections.process[listener];
  if (accepting && listener !== i && acceptor && mayHaveOpened(sources, i, acceptor))
    return ownedBy(acceptor, accepting, 'listener');
  if (before && evidence === 'listener') return ownedBy(connections.process[i] ?? null, before, 'history');
  const caller = connections.ended[i] === 1 ? endpointOwners?.callerOf(i) : null;
  if (caller && (!caller.process || mayHaveOpened(sources, i, caller.process)))
    return ownedBy(caller.process, caller.labels, 'endpoint');
  const pod = tables.podOf(connections.netns[i] ?? 0);
  const unowned = { process: null, holders: NO_PROCESSES, reason: unattributedReason(sources, i) };
  if (pod.workload !== '' || pod.pod !== '') return { ...unowned, evidence: 'netns', labels: pod };
  const uid = connections.uid[i] ?? NO_UID;
  if (uid !== 0 && uid !== NO_UID) return { ...unowned, evidence: 'uid', labels: sources.labelsOfUser(uid) };
  // After the end of a connection, the kernel does not say whose it was.
  if (before && evidence === 'uid') return { ...unowned, evidence, labels: before };
  return { ...unowned, evidence: null, labels: pod };
}

/**
 * Why a connection has no process. A connection that ended (TIME_WAIT, or an orphan after close()) has no descriptor: it keeps the reason
 * that it had while it was open, or was too short-lived if no scan searched for its owner then.
 * A socket without a holder at two scans, while all processes can be read, belongs to the kernel. At the first scan, and if there was no
 * time to search, the process is reported as vanished.
 */
function unattributedReason(
  { connections, owners, seesAllProcesses, hidesProcesses }: AttributionSources,
  i: number,
): UnattributedReason {
  const before = connections.reason[i];
  const inode = connections.inode[i] ?? 0;
  if (inode === 0) {
    if (before && before !== 'vanished') return before;
    return connections.isEndedOnly(i) || hasEnded(connections.state[i] ?? 0) ? 'short_lived' : 'no_descriptor';
  }
  if (owners.isPostponed(inode)) return 'vanished';
  if (owners.denied > 0 || hidesProcesses) return 'permission';
  if (!seesAllProcesses) return 'other_pid_namespace';
  return before === 'vanished' || before === 'no_descriptor' ? 'no_descriptor' : 'vanished';
}

/** Says whether a TCP connection is in a state that outlives close(). */
function hasEnded(state: number): boolean {
  return [TIME_WAIT, FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING].includes(state);
}
