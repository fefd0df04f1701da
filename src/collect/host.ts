import type { Address, Cgroup, OwnerLabels, Process, Row, Rules, UnattributedReason } from '../model.ts';
import { readPasswd, type UserNames } from '../common/etc-passwd.ts';
import { Attribution } from './attribution.ts';
import { cgroupParser, cgroupPath, isNamespaced } from './cgroup.ts';
import { CommandHost } from './command-host.ts';
import type { ConnectionTable } from './connection-table.ts';
import type { IsOwn, PortRange } from './direction.ts';
import type { HashCost } from './hash-walks.ts';
import type { SocketDump } from './netlink.ts';
import { EndpointOwners } from './endpoint-owners.ts';
import { Namespaces, type Namespace, type UnreadNamespaces } from './namespaces.ts';
import { SocketOwners } from './socket-owners.ts';
import { startOf, type ProcessStart } from './process-starts.ts';
import { NO_CGROUP, Processes } from './processes.ts';
import { failed, Procfs } from './procfs.ts';
import type { ProtocolCounters } from './protocol-counters.ts';
import { NamespaceTables, type NamespaceCounts, type ScannedNamespaces } from './namespace-tables.ts';
import type { Command, Commands } from './ss-netstat.ts';

/** How long the names of users are cached. */
const USERS_TTL_MS = 60_000;

/** The source of rows: the procfs of a host, or the output of its own commands. */
export interface Host {
  /**
   * Reads every row into the connection table; a dump replaces the TCP tables of its namespace. `at` is milliseconds since 1970. `isLate`
   * says whether a share of the time is over.
   */
  collect(at: number, isLate: (share?: number) => boolean, dump?: SocketDump | null): void;
  /** Sets the owners of connections. */
  attribute(isLate: () => boolean): void;
  /** Names processes by these rules from the next scan on, and labels them again. */
  adopt(rules: Pick<Rules, 'processes' | 'workloads'>): void;
  /** Labels every process again from the next scan on. */
  renameAll(): void;
  /** Replaces labels by others. The labels of pods may have changed too. */
  relabel(changed: ReadonlyMap<OwnerLabels, OwnerLabels>): void;
  readonly status: Readonly<NamespaceCounts>;
  readonly unread: UnreadNamespaces;
  /** Malformed lines since the start, by table or command. */
  readonly malformed: ReadonlyMap<string, number>;
  /** Malformed lines among the rows of the last scan. */
  readonly malformedNow: number;
  /** When the oldest rows were read; milliseconds since 1970. */
  readonly oldestReadAt: number;
  /** Milliseconds that the protocol counters took in the last scan. */
  readonly protocolsMs: number;
  /** Why protocol counters could not be added up in the last scan; null if they could. */
  readonly protocolsFailure: string | null;
  /** Whether every process that may hold a socket was read. */
  readonly seesOwners: boolean;
  /** Why the rules did not name all processes in the last scan; null if they did. */
  readonly namingFailure: string | null;
  /** The known processes that hold sockets. */
  readonly holding: Iterable<Process>;
  readonly unattributed: ReadonlyMap<UnattributedReason, number>;
  /** What walks over the TCP hash cost in the last scan, the first time that the cost is high; otherwise null. */
  takeHashCost(): HashCost | null;
  /** The namespace of a number in the connection table; null if it is unknown or gone. */
  namespace(number: number): Namespace | null;
  /** The namespaces of the last scan; null if rows come from a command. */
  readonly namespaces: ScannedNamespaces | null;
  isOwn(number: number): IsOwn;
  knowsOwn(number: number): boolean;
  isHostOwn(address: Address): boolean;
  /** The ports that clients in a network namespace get from the kernel. */
  ephemeralPortsOf(number: number): PortRange;
  isAlive(process: Process): boolean;
  /** When a process of this scan started, and its container or unit; null if unknown. */
  startOf(process: Process): ProcessStart | null;
  /** The name of a user; null if it is unknown, or if the user database of the host cannot be read. */
  userName(uid: number): string | null;
  /** The row of a connection in the output of a command; null if the kernel printed it. */
  commandRow(index: number): Row | null;
}

/** Options of a host whose procfs is read. */
export interface ProcfsHostOptions {
  readonly rules: Pick<Rules, 'processes' | 'workloads'>;
  /** Without `processes` no socket has a process. */
  readonly collectors: { readonly processes: boolean; readonly protocols: boolean };
  readonly protocols: ProtocolCounters;
  /** Whether connections known only by their end get the sole caller of their remote endpoint as owner. */
  readonly learnsCallers?: boolean;
  /** Whether reads that a process can block end by themselves; that takes a thread. */
  readonly guardsReads?: boolean;
  /** The uid of the pod that this process runs in, if known. */
  readonly podUid?: string | null;
  /** Milliseconds of a clock that never goes back. */
  readonly monotonic: () => number;
  readonly names: {
    labelsOf(process: string, cgroup: Cgroup): OwnerLabels;
    namespaceLabelsOf(cgroups: Iterable<Cgroup | null>): OwnerLabels;
  };
}

/** A host whose procfs is read. */
export class ProcfsHost implements Host {
  unread: UnreadNamespaces = { hidden: 0, withoutProcess: 0 };
  readonly namespaces: ScannedNamespaces;
  readonly #procfs: Procfs;
  readonly #findsOwners: boolean;
  readonly #namespaces = new Namespaces();
  readonly #processes: Processes;
  readonly #owners: SocketOwners;
  readonly #tables: NamespaceTables;
  readonly #attribution: Attribution;
  readonly #monotonic: () => number;
  #keepsPaths: boolean;
  /** Of this scan: the clock may be set. */
  #bootedAt: { readonly at: number | null } | null = null;
  #users: UserNames = () => null;
  #usersReadAt = -Infinity;

  constructor(procfs: Procfs, connections: ConnectionTable, options: ProcfsHostOptions) {
    const { names, collectors, monotonic } = options;
    this.#procfs = procfs;
    if (options.guardsReads === true) procfs.guard();
    this.#monotonic = monotonic;
    this.#findsOwners = collectors.processes;
    const ofPid1 = procfs.read(1, 'cgroup');
    this.#keepsPaths = matchesPaths(options.rules);
    const parse = cgroupParser(failed(ofPid1) ? '' : ofPid1.toString(), options.podUid ?? null);
    const processes = (this.#processes = new Processes(
      procfs,
      options.rules.processes,
      (name, cgroup) => names.labelsOf(name, cgroup),
      (text) => (this.#keepsPaths ? { ...parse(text), path: cgroupPath(text) } : parse(text)),
      monotonic,
    ));
    const owners = (this.#owners = new SocketOwners(procfs, {
      arrived: connections.arrived,
      left: connections.left,
      isLive: (inode) => connections.indexOf(inode) >= 0,
      neighbours: (inode) => this.namespace(connections.netns[connections.indexOf(inode)] ?? -1)?.pids ?? [],
      tenantOf: (pid) => processes.tenantOf(pid),
      monotonic,
    }));
    this.#tables = new NamespaceTables(procfs, connections, {
      owners,
      protocols: collectors.protocols ? options.protocols : null,
      monotonic,
      tenantOf: (pid) => processes.tenantOf(pid),
      labelsOf: (pids) => names.namespaceLabelsOf(pids.values().map((pid) => processes.cgroupOf(pid))),
    });
    this.namespaces = this.#tables;
    const { seesAllProcesses, hidesProcesses } = procfs;
    this.#attribution = new Attribution({
      connections,
      tables: this.#tables,
      owners,
      processes,
      labelsOfUser: (uid) => names.labelsOf('', { ...NO_CGROUP, user: uid }),
      endpointOwners: options.learnsCallers ? new EndpointOwners(connections, this.#tables) : null,
      seesAllProcesses,
      hidesProcesses,
    });
  }

  collect(at: number, isLate: (share?: number) => boolean, dump: SocketDump | null = null): void {
    const pids = this.#procfs.pids();
    const { namespaces, ...unread } = this.#namespaces.find(this.#procfs, pids);
    this.unread = unread;
    this.#processes.begin(pids);
    this.#bootedAt = null;
    if (this.#findsOwners) this.#owners.begin(pids);
    for (const holder of this.#attribution.holding)
      if (this.#processes.get(holder.pid, this.#owners.openFdsOf(holder.pid)) !== holder)
        this.#owners.reset(holder.pid);
    this.#tables.read(namespaces, at, isLate, dump);
  }

  attribute(isLate: () => boolean): void {
    if (this.#findsOwners) this.#owners.resolve(isLate);
    this.#attribution.update();
  }

  adopt(rules: Pick<Rules, 'processes' | 'workloads'>): void {
    this.#keepsPaths = matchesPaths(rules);
    this.#processes.adopt(rules.processes);
    this.#tables.forgetPods();
  }

  renameAll(): void {
    this.#processes.renameAll();
    this.#tables.forgetPods();
  }

  relabel(changed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    if (changed.size > 0) {
      this.#processes.relabel(changed);
      this.#attribution.relabel(changed);
    }
    this.#tables.forgetPods();
  }

  get status(): Readonly<NamespaceCounts> {
    return this.#tables.status;
  }

  get malformed(): ReadonlyMap<string, number> {
    return this.#tables.malformed;
  }

  get malformedNow(): number {
    return this.#tables.malformedNow;
  }

  get oldestReadAt(): number {
    return this.#tables.oldestReadAt;
  }

  get protocolsMs(): number {
    return this.#tables.protocolsMs;
  }

  get protocolsFailure(): string | null {
    return this.#tables.protocolsFailure;
  }

  get seesOwners(): boolean {
    return this.#owners.isComplete;
  }

  get namingFailure(): string | null {
    const { slowPattern, blocking } = this.#processes;
    if (blocking.size > 0)
      return `Cannot read the arguments of processes of "${[...blocking].join('", "')}": they block reads`;
    if (slowPattern === null) return null;
    return `Cannot match pattern ${JSON.stringify(slowPattern.source)} with all processes: it takes too long`;
  }

  get holding(): Iterable<Process> {
    return this.#attribution.holding;
  }

  get unattributed(): ReadonlyMap<UnattributedReason, number> {
    return this.#attribution.unattributed;
  }

  takeHashCost(): HashCost | null {
    return this.#tables.takeHashCost();
  }

  namespace(number: number): Namespace | null {
    return this.#tables.namespace(number);
  }

  isOwn(number: number): IsOwn {
    return this.#tables.isOwn(number);
  }

  knowsOwn(number: number): boolean {
    return this.#tables.knowsOwn(number);
  }

  isHostOwn(address: Address): boolean {
    return this.#tables.isHostOwn(address);
  }

  ephemeralPortsOf(number: number): PortRange {
    return this.#tables.facts.ephemeralPortsOf(number);
  }

  isAlive(process: Process): boolean {
    return this.#processes.isAlive(process);
  }

  startOf(process: Process): ProcessStart | null {
    const processes = this.#processes;
    this.#bootedAt ??= { at: this.#procfs.bootedAt() };
    return startOf(process, {
      bootedAt: this.#bootedAt.at,
      holding: this.#attribution.holding,
      ancestorStarts: ({ pid, cgroup }) => processes.ancestorStarts(pid, cgroup),
    });
  }

  userName(uid: number): string | null {
    const now = this.#monotonic();
    if (now - this.#usersReadAt >= USERS_TTL_MS) {
      this.#users = this.#hasOwnUsers() ? readPasswd() : () => null;
      this.#usersReadAt = now;
    }
    return this.#users(uid);
  }

  /** Whether /etc/passwd is of the host that is read: a container with the host's processes has other users. */
  #hasOwnUsers(): boolean {
    const { root, self } = this.#procfs;
    if (root !== '/proc' || self !== process.pid) return false;
    const ofPid1 = this.#procfs.read(1, 'cgroup');
    const isBelowHost = !failed(ofPid1) && isNamespaced(ofPid1.toString());
    const seesHost = this.#procfs.seesAllProcesses;
    return !seesHost || (!isBelowHost && this.#processes.cgroupOf(self)?.kind !== 'container');
  }

  commandRow(): null {
    return null;
  }
}

function matchesPaths({ workloads }: Pick<Rules, 'workloads'>): boolean {
  return workloads.some(({ cgroup }) => cgroup !== undefined);
}

/** The chosen source of rows; null for that of the platform: procfs on Linux, its own commands elsewhere. */
export type SourceName = 'procfs' | Command | null;

/** The host that a source of rows belongs to. */
export function hostOf(source: Procfs | Commands, connections: ConnectionTable, options: ProcfsHostOptions): Host {
  return source instanceof Procfs
    ? new ProcfsHost(source, connections, options)
    : new CommandHost(source, connections, options.names);
}

/** Opens the source of rows. Rejects with an Error of one line if procfs cannot be read. */
export async function openSource(name: SourceName, root: string): Promise<Procfs | Commands> {
  const chosen = name ?? (process.platform === 'linux' ? 'procfs' : 'ss');
  if (chosen === 'procfs') return new Procfs(root);
  const { SystemCommands } = await import('./ss-netstat.ts');
  return new SystemCommands(chosen);
}
