import { SYSTEM_CLOCK } from '../common/clock.ts';
import { isDeepStrictEqual } from 'node:util';
import type { Cgroup, Executable, OwnerLabels, Process, ProcessRule } from '../model.ts';
import { cleanLabel } from '../common/sanitize.ts';
import { cgroupPath, isService, parseCgroup } from './cgroup.ts';
import { parseConmon } from './conmon.ts';
import { groupOf } from './process-starts.ts';
import { pathOf, readExecutable } from './executable.ts';
import { RegexpBudget } from '../common/regexp-budget.ts';
import { NO_UID } from './net-tcp-udp-raw.ts';
import { nameProcess } from './process-name.ts';
import { failed, type Procfs, type ReadFailure } from './procfs.ts';
import { parseStat, parseStatus } from './pid-stat.ts';
import { tenantOf } from './tenant.ts';

/** For this many scans a new process is named each time: exec() changes everything except pid and start time. */
const YOUNG_SCANS = 5;
/** An older process is named once in this many scans, in rotation. */
const ROTATION = 20;

const LONGEST_CMDLINE = 64 << 10;
/** Memory maps that are read in a scan: one takes up to 0.1 ms. */
const MAX_IDENTIFICATIONS = 100;
/** For this many scans, and up to twice as many, the tenant of a process without sockets is remembered. */
const TENANT_SCANS = 20;
/** Containers whose names are remembered. */
const MAX_CONTAINERS = 10_000;
/** Processes above a process that are searched. */
const MAX_ANCESTORS = 64;
/** The users of a container with users of its own: a range of this size, above those of the host. */
const USERS = 65_536;

/** A process as of the last scan that read it; one object for its whole life. */
class KnownProcess implements Process {
  readonly pid: number;
  readonly startTime: number;
  ppid = 0;
  comm = '';
  name = '';
  state = '';
  uid: number | null = null;
  uids: readonly number[] | null = null;
  umask: string | null = null;
  threads = 0;
  residentMemoryBytes: number | null = null;
  openFds = 0;
  cgroup: Cgroup = NO_CGROUP;
  executable: Executable | null = null;
  /** Whether device and inode of the executable were read. */
  isIdentified = false;
  labels: OwnerLabels;
  scan = 0;
  /** The scan that read its users. */
  uidsScan = 0;
  age = 0;
  /** The generation of the rules that named it; 0 for none. */
  generation = 0;

  constructor(pid: number, startTime: number, labels: OwnerLabels) {
    this.pid = pid;
    this.startTime = startTime;
    this.labels = labels;
  }
}

/** That of a process whose cgroup cannot be read. */
export const NO_CGROUP: Cgroup = parseCgroup('');

/**
 * The processes that hold sockets: each is read at its first use in a scan, and cached until it is gone.
 * A process is identified by its pid and start time: a reused pid with another start time is another process.
 */
export class Processes {
  /** Processes whose labels changed in this scan. */
  readonly renamed = new Set<Process>();
  readonly #procfs: Procfs;
  #rules: readonly ProcessRule[];
  readonly #label: (name: string, cgroup: Cgroup) => OwnerLabels;
  readonly #parse: (text: string) => Cgroup;
  readonly #budget: RegexpBudget;
  readonly #known = new Map<number, KnownProcess>();
  readonly #ppids = new Map<number, number>();
  readonly #tenants = new Map<number, { readonly tenant: string; readonly until: number }>();
  /** Tenants with a process whose arguments cannot be read, because it blocks that. */
  readonly #blocking = new Set<string>();
  /** By the cgroup of the container; null for a container whose name cannot be found. */
  readonly #monitored = new Map<string, Pick<Cgroup, 'containerName' | 'unit'> | null>();
  #scan = 0;
  #identifications = 0;
  #generation = 1;

  /**
   * `label` returns the labels of a process; equal labels must be one object. `parse` reads a cgroup. `monotonic` returns milliseconds of
   * a clock that never goes back.
   */
  constructor(
    procfs: Procfs,
    rules: readonly ProcessRule[],
    label: (name: string, cgroup: Cgroup) => OwnerLabels,
    parse: (text: string) => Cgroup = parseCgroup,
    monotonic: () => number = () => SYSTEM_CLOCK.monotonic(),
  ) {
    this.#parse = parse;
    this.#budget = new RegexpBudget(monotonic);
    this.#procfs = procfs;
    this.#rules = rules;
    this.#label = label;
  }

  /** Begins a scan of these processes: others are forgotten. */
  begin(pids: readonly number[]): void {
    this.#scan++;
    this.#budget.begin();
    this.#identifications = 0;
    this.renamed.clear();
    this.#ppids.clear();
    if (this.#blocking.size > 0 && this.#procfs.blockedReads === 0) this.#blocking.clear();
    const alive = new Set(pids);
    for (const pid of this.#known.keys()) if (!alive.has(pid)) this.#known.delete(pid);
    for (const pid of this.#tenants.keys()) if (!alive.has(pid)) this.#tenants.delete(pid);
  }

  /** Names every process by these rules from the next scan on. */
  adopt(rules: readonly ProcessRule[]): void {
    this.#rules = rules;
    this.renameAll();
  }

  /** Names and labels every process again from the next scan on. */
  renameAll(): void {
    this.#generation++;
  }

  /** The first pattern of a rule that took too long in this scan; null for none. */
  get slowPattern(): RegExp | null {
    return this.#budget.slow;
  }

  /** The tenants whose processes are named without their arguments, since one of them blocks the reader. */
  get blocking(): ReadonlySet<string> {
    return this.#blocking;
  }

  /** Replaces labels by others. */
  relabel(changed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    for (const process of this.#known.values()) process.labels = changed.get(process.labels) ?? process.labels;
  }

  /** The process with a pid, as of this scan; null if it is gone or its stat cannot be read. */
  get(pid: number, openFds: number): KnownProcess | null {
    const known = this.#known.get(pid);
    if (known?.scan === this.#scan) return known;
    const bytes = this.#procfs.readSmall(pid, 'stat');
    const stat = failed(bytes) ? undefined : parseStat(bytes);
    if (!stat) return null;
    const same = known?.startTime === stat.startTime ? known : undefined;
    const process = same ?? new KnownProcess(pid, stat.startTime, this.#label('', NO_CGROUP));
    process.scan = this.#scan;
    process.ppid = stat.ppid;
    process.state = stat.state;
    process.threads = stat.threads;
    process.openFds = openFds;
    const turn = (this.#scan + pid) % ROTATION === 0;
    const isDue =
      process.age++ < YOUNG_SCANS || turn || process.comm !== stat.comm || process.generation !== this.#generation;
    if (isDue) this.#name(process, stat.comm, turn);
    const { pageSize } = this.#procfs;
    if (isDue || pageSize === null) this.#readStatus(process);
    // Kernel threads and zombies have no memory; stat prints 0.
    else if (process.residentMemoryBytes !== null) process.residentMemoryBytes = stat.residentPages * pageSize;
    this.#known.set(pid, process);
    return process;
  }

  /** Says whether a process of an earlier scan existed at the last one. */
  isAlive(process: Process): boolean {
    return this.#known.get(process.pid) === process;
  }

  /** The cgroup of any process, with or without sockets; null if it cannot be read. */
  cgroupOf(pid: number): Cgroup | null {
    const known = this.#known.get(pid);
    if (known) return known.cgroup;
    const bytes = this.#procfs.read(pid, 'cgroup');
    return failed(bytes) ? null : this.#parse(bytes.toString());
  }

  /** Who answers for a process, with or without sockets: its pod, its user, or its unit or container if it runs as root. */
  tenantOf(pid: number): string {
    const known = this.#known.get(pid);
    if (known) return tenantOfProcess(known.cgroup, known.uid);
    const remembered = this.#tenants.get(pid);
    if (remembered && remembered.until > this.#scan) return remembered.tenant;
    const status = this.#procfs.readSmall(pid, 'status');
    const uid = failed(status) ? null : parseStatus(status).uid;
    const tenant = tenantOfProcess(this.cgroupOf(pid) ?? NO_CGROUP, uid);
    this.#tenants.set(pid, { tenant, until: this.#scan + TENANT_SCANS + (pid % TENANT_SCANS) });
    return tenant;
  }

  /** Says whether `ancestor` is above `pid` in the process tree. */
  isAncestor(ancestor: number, pid: number): boolean {
    let at = pid;
    for (let depth = 0; depth < MAX_ANCESTORS && at > 0; depth++) {
      at = this.#ppidOf(at);
      if (at === ancestor) return true;
    }
    return false;
  }

  /** The start times of the processes above a process, up to the first one of another container or unit; clock ticks since boot. */
  *ancestorStarts(pid: number, cgroup: Cgroup): Generator<number> {
    const group = groupOf(cgroup);
    let at = this.#ppidOf(pid);
    for (let depth = 0; depth < MAX_ANCESTORS && at > 0; depth++) {
      const above = this.cgroupOf(at);
      const bytes = this.#procfs.readSmall(at, 'stat');
      const stat = failed(bytes) ? undefined : parseStat(bytes);
      if (!above || !stat || groupOf(above) !== group) return;
      yield stat.startTime;
      at = stat.ppid;
    }
  }

  /**
   * Says whether a process may have opened a socket of a user. Root opens sockets and then becomes another user. A socket of any other user
   * stays theirs, wherever they pass it. In a container with users of its own, root is one of them.
   */
  mayHaveOpened(process: Process, uid: number): boolean {
    if (uid === 0 || uid === NO_UID || !(process instanceof KnownProcess)) return true;
    const { cgroup } = process;
    if (cgroup.user === uid) return true;
    const isMapped = cgroup.user === undefined && (cgroup.containerId !== null || cgroup.podUid !== null);
    const agrees = (): boolean =>
      process.uids?.some((own) => own === uid || (isMapped && uid >= USERS && Math.abs(own - uid) < USERS)) ?? true;
    if (agrees()) return true;
    if (process.uidsScan === this.#scan) return false;
    this.#readStatus(process);
    return agrees();
  }

  #ppidOf(pid: number): number {
    const known = this.#known.get(pid);
    if (known?.scan === this.#scan) return known.ppid;
    let ppid = this.#ppids.get(pid);
    if (ppid === undefined) {
      const bytes = this.#procfs.read(pid, 'stat');
      ppid = failed(bytes) ? 0 : (parseStat(bytes)?.ppid ?? 0);
      this.#ppids.set(pid, ppid);
    }
    return ppid;
  }

  /** Adds the name of a container of Podman outside Kubernetes, and the unit that runs it. */
  #withName({ ppid }: KnownProcess, text: string): Cgroup {
    const cgroup = this.#parse(text);
    const { runtime, containerId, podUid } = cgroup;
    if (runtime !== 'podman' || containerId === null || podUid !== null) return cgroup;
    // A user can give a cgroup the id of another container, but not its path.
    const path = cgroupPath(text);
    const key = path.slice(0, path.lastIndexOf(containerId) + containerId.length);
    let monitored = this.#monitored.get(key);
    if (monitored === undefined) {
      monitored = this.#findConmon(ppid, containerId);
      if (this.#monitored.size >= MAX_CONTAINERS) this.#monitored.clear();
      this.#monitored.set(key, monitored);
    }
    if (!monitored) return cgroup;
    return { ...cgroup, ...monitored, unit: cgroup.unit ?? (cgroup.user === undefined ? monitored.unit : null) };
  }

  /** Looks for conmon: the first process above those of the container, and itself in no container. */
  #findConmon(ppid: number, containerId: string): Pick<Cgroup, 'containerName' | 'unit'> | null {
    let at = ppid;
    for (let depth = 0; depth < MAX_ANCESTORS && at > 0; depth++) {
      const cgroup = this.cgroupOf(at);
      if (cgroup?.containerId !== containerId) {
        if (!cgroup || cgroup.containerId !== null) return null;
        const cmdline = this.#readArguments(at);
        const conmon = cmdline === 'blocked' || failed(cmdline) ? null : parseConmon(argumentsOf(cmdline));
        if (conmon?.containerId !== containerId) return null;
        // Podman in the foreground of a service leaves conmon in the cgroup of the service.
        return { containerName: cleanLabel(conmon.containerName), unit: isService(cgroup.unit) ? cgroup.unit : null };
      }
      at = this.#ppidOf(at);
    }
    return null;
  }

  /** One process that blocks the reader costs its own tenant the arguments. */
  #readArguments(pid: number): Buffer | ReadFailure | 'blocked' {
    if (this.#blocking.size > 0 && this.#blocking.has(this.tenantOf(pid))) return 'blocked';
    const cmdline = this.#procfs.readGuarded(pid, 'cmdline', LONGEST_CMDLINE);
    if (cmdline === 'blocked') this.#blocking.add(this.tenantOf(pid));
    return cmdline;
  }

  #readStatus(process: KnownProcess): void {
    const status = this.#procfs.readSmall(process.pid, 'status');
    if (failed(status)) return;
    const { uid, uids, umask, residentMemoryBytes } = parseStatus(status);
    process.uid = uid;
    process.uids = uids;
    process.uidsScan = this.#scan;
    process.umask = umask;
    process.residentMemoryBytes = residentMemoryBytes;
  }

  /** exec() can run another file under the same path, so device and inode are read again in rotation. */
  #identify(process: KnownProcess, exe: string | null, isDue: boolean): void {
    const before = process.executable;
    if (exe === null) {
      process.executable = null;
      return;
    }
    const path = pathOf(exe);
    const isSame = before?.path === path;
    process.isIdentified &&= isSame && !isDue;
    const file = isSame ? before : { device: null, inode: null };
    const mayRead = !process.isIdentified && this.#identifications < MAX_IDENTIFICATIONS;
    if (mayRead) this.#identifications++;
    const { device, inode } = mayRead ? readExecutable(this.#procfs, process.pid, exe) : file;
    process.isIdentified ||= mayRead;
    if (!isSame || device !== file.device || inode !== file.inode) process.executable = { path, device, inode };
  }

  #name(process: KnownProcess, comm: string, turn: boolean): void {
    const { pid } = process;
    const exe = this.#procfs.executable(pid);
    const cmdline = this.#readArguments(pid);
    const cgroup = this.#procfs.read(pid, 'cgroup');
    const { name: nameBefore, cgroup: cgroupBefore, comm: commBefore } = process;
    if (cmdline !== 'blocked') this.#identify(process, exe, turn || comm !== commBefore);
    process.comm = comm;
    if (!failed(cgroup)) process.cgroup = this.#withName(process, cgroup.toString());
    const { skipped } = this.#budget;
    const running = {
      exe,
      comm,
      cmdline: cmdline === 'blocked' || failed(cmdline) ? null : argumentsOf(cmdline),
      self: pid === this.#procfs.self,
    };
    const isFirst = process.generation !== this.#generation;
    process.generation = this.#generation;
    const name = nameProcess(running, this.#rules, this.#budget.match);
    // If a rule ran out of time, the old name stays: load must not rename processes.
    const isSure = this.#budget.skipped === skipped && cmdline !== 'blocked';
    if (nameBefore === '' || ((isFirst || comm !== commBefore) && cmdline !== 'blocked') || isSure) process.name = name;
    // A container keeps its labels while it runs, even if Kubernetes has forgotten it.
    if (!isFirst && process.name === nameBefore && isDeepStrictEqual(process.cgroup, cgroupBefore)) return;
    const labels = this.#label(process.name, process.cgroup);
    if (process.age > 1 && labels !== process.labels) this.renamed.add(process);
    process.labels = labels;
  }
}

function tenantOfProcess(cgroup: Cgroup, uid: number | null): string {
  const { podUid, unit, unitOf, containerId, outerContainerId } = cgroup;
  const workload = unitOf === undefined ? (unit ?? '') : '';
  return tenantOf({ pod: podUid ?? '', workload, container: outerContainerId ?? containerId ?? '' }, uid, cgroup);
}

/** The arguments in a cmdline, without the NUL padding of process titles; truncated to what a name can need. */
function argumentsOf(cmdline: Buffer): string[] {
  let end = Math.min(cmdline.length, LONGEST_CMDLINE);
  while (end > 0 && cmdline[end - 1] === 0) end--;
  return cmdline.toString('utf8', 0, end).split('\0');
}

/**
 * Chooses the process that a shared socket is counted for: processes in the namespace of the socket come first, pid 1 comes last; of the
 * rest, the ancestor of all others, otherwise the earliest start, otherwise the lowest pid.
 */
export function chooseOwner(
  holders: readonly Process[],
  inNamespace: (pid: number) => boolean,
  isAncestor: (ancestor: number, pid: number) => boolean,
): Process | null {
  if (holders.length <= 1) return holders[0] ?? null;
  const local = holders.filter((process) => inNamespace(process.pid));
  const near = local.length > 0 ? local : holders;
  const others = near.filter((process) => process.pid !== 1);
  const candidates = others.length > 0 ? others : near;
  const ranked = candidates.toSorted((a, b) => a.startTime - b.startTime || a.pid - b.pid);
  const above = ranked.find((a) => ranked.every((b) => a === b || isAncestor(a.pid, b.pid)));
  return above ?? ranked[0] ?? null;
}
