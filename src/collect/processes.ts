import { SYSTEM_CLOCK } from '../common/clock.ts';
import { isDeepStrictEqual } from 'node:util';
import type { Cgroup, OwnerLabels, Process, ProcessRule } from '../model.ts';
import { parseCgroup } from './cgroup.ts';
import { RegexpBudget } from './regexp-budget.ts';
import { nameProcess } from './process-name.ts';
import { failed, type Procfs } from './procfs.ts';
import { parseStat, parseStatus } from './pid-stat.ts';

/** How many scans long a new process is named anew at each: exec() keeps pid and start time and changes all the rest. */
const YOUNG_SCANS = 5;
/** An older process is named anew once in so many scans, each in its turn. */
const ROTATION = 20;

const LONGEST_CMDLINE = 64 << 10;

/** A process as the last scan that asked for it saw it; one object as long as it lives. */
class KnownProcess implements Process {
  readonly pid: number;
  readonly startTime: number;
  ppid = 0;
  comm = '';
  name = '';
  state = '';
  uid: number | null = null;
  umask: string | null = null;
  threads = 0;
  residentMemoryBytes: number | null = null;
  openFds = 0;
  cgroup: Cgroup = NO_CGROUP;
  labels: OwnerLabels;
  scan = 0;
  age = 0;
  /** The rules that its name was sought in. */
  namedBy: readonly ProcessRule[] | null = null;

  constructor(pid: number, startTime: number, labels: OwnerLabels) {
    this.pid = pid;
    this.startTime = startTime;
    this.labels = labels;
  }
}

const NO_CGROUP: Cgroup = parseCgroup('');

/**
 * What the processes are that hold sockets: read when first asked for in a scan, remembered until they are gone.
 * The identity of a process is its pid and start time; a pid that came back with another start time is another process.
 */
export class Processes {
  /** Processes that an earlier scan saw under other names. */
  readonly renamed = new Set<Process>();
  readonly #procfs: Procfs;
  #rules: readonly ProcessRule[];
  readonly #label: (name: string, cgroup: Cgroup) => OwnerLabels;
  readonly #parse: (text: string) => Cgroup;
  readonly #patterns: RegexpBudget;
  readonly #seen = new Map<number, KnownProcess>();
  readonly #ppids = new Map<number, number>();
  #scan = 0;

  /**
   * `label` gives the names that a process is published under; equal names must be one object. `parse` reads a cgroup, and `monotonic`
   * gives milliseconds that only go forward.
   */
  constructor(
    procfs: Procfs,
    rules: readonly ProcessRule[],
    label: (name: string, cgroup: Cgroup) => OwnerLabels,
    parse: (text: string) => Cgroup = parseCgroup,
    monotonic: () => number = () => SYSTEM_CLOCK.monotonic(),
  ) {
    this.#parse = parse;
    this.#patterns = new RegexpBudget(monotonic);
    this.#procfs = procfs;
    this.#rules = rules;
    this.#label = label;
  }

  /** Begins a scan over these pids: the others are forgotten. */
  begin(pids: readonly number[]): void {
    this.#scan++;
    this.#patterns.begin();
    this.renamed.clear();
    this.#ppids.clear();
    const alive = new Set(pids);
    for (const pid of this.#seen.keys()) if (!alive.has(pid)) this.#seen.delete(pid);
  }

  /** Names every process by these rules from the next scan on. */
  adopt(rules: readonly ProcessRule[]): void {
    this.#rules = rules;
  }

  /** The first pattern of a rule that took too long on a process in this scan. */
  get slowPattern(): RegExp | null {
    return this.#patterns.slow;
  }

  /** Some names are others from now on. */
  relabel(changed: ReadonlyMap<OwnerLabels, OwnerLabels>): void {
    for (const process of this.#seen.values()) process.labels = changed.get(process.labels) ?? process.labels;
  }

  /** The process with this pid, as of this scan; null when it is gone or does not let its stat be read. */
  get(pid: number, openFds: number): KnownProcess | null {
    const known = this.#seen.get(pid);
    if (known?.scan === this.#scan) return known;
    const bytes = this.#procfs.glance(pid, 'stat');
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
    const isDue = process.age++ < YOUNG_SCANS || turn || process.comm !== stat.comm || process.namedBy !== this.#rules;
    if (isDue) this.#name(process, stat.comm);
    const { pageSize } = this.#procfs;
    if (isDue || pageSize === null) this.#readStatus(process);
    // Kernel threads and zombies have no memory, which stat prints as 0.
    else if (process.residentMemoryBytes !== null) process.residentMemoryBytes = stat.residentPages * pageSize;
    this.#seen.set(pid, process);
    return process;
  }

  /** Says whether a process that an earlier scan saw was still there at the last. */
  isAlive(process: Process): boolean {
    return this.#seen.get(process.pid) === process;
  }

  /** The cgroup of any process, one without sockets included; null when it cannot be read. */
  cgroupOf(pid: number): Cgroup | null {
    const known = this.#seen.get(pid);
    if (known) return known.cgroup;
    const bytes = this.#procfs.read(pid, 'cgroup');
    return failed(bytes) ? null : this.#parse(bytes.toString());
  }

  /** Says whether `ancestor` is above `pid` in the process tree. */
  isAncestor(ancestor: number, pid: number): boolean {
    let at = pid;
    for (let depth = 0; depth < 64 && at > 0; depth++) {
      at = this.#ppidOf(at);
      if (at === ancestor) return true;
    }
    return false;
  }

  #ppidOf(pid: number): number {
    const known = this.#seen.get(pid);
    if (known?.scan === this.#scan) return known.ppid;
    let ppid = this.#ppids.get(pid);
    if (ppid === undefined) {
      const bytes = this.#procfs.read(pid, 'stat');
      ppid = failed(bytes) ? 0 : (parseStat(bytes)?.ppid ?? 0);
      this.#ppids.set(pid, ppid);
    }
    return ppid;
  }

  #readStatus(process: KnownProcess): void {
    const status = this.#procfs.glance(process.pid, 'status');
    if (failed(status)) return;
    const { uid, umask, residentMemoryBytes } = parseStatus(status);
    process.uid = uid;
    process.umask = umask;
    process.residentMemoryBytes = residentMemoryBytes;
  }

  #name(process: KnownProcess, comm: string): void {
    const { pid } = process;
    const exe = this.#procfs.executable(pid);
    const cmdline = this.#procfs.read(pid, 'cmdline', LONGEST_CMDLINE);
    const cgroup = this.#procfs.read(pid, 'cgroup');
    const { name: nameBefore, cgroup: cgroupBefore, comm: commBefore } = process;
    process.comm = comm;
    if (!failed(cgroup)) process.cgroup = this.#parse(cgroup.toString());
    const { givenUp } = this.#patterns;
    const running = {
      exe,
      comm,
      cmdline: failed(cmdline) ? null : argumentsOf(cmdline),
      self: pid === this.#procfs.self,
    };
    const isFirst = process.namedBy !== this.#rules;
    process.namedBy = this.#rules;
    const name = nameProcess(running, this.#rules, this.#patterns.match);
    // What a rule could not say in time stays as it was, so that a busy moment renames nobody.
    if (isFirst || comm !== commBefore || this.#patterns.givenUp === givenUp) process.name = name;
    // A container keeps its names as long as it runs, though Kubernetes may have forgotten it.
    if (process.age > 1 && process.name === nameBefore && isDeepStrictEqual(process.cgroup, cgroupBefore)) return;
    const labels = this.#label(process.name, process.cgroup);
    if (process.age > 1 && labels !== process.labels) this.renamed.add(process);
    process.labels = labels;
  }
}

/** Arguments as a process shows them, NUL-padded titles cut; what is longer than any name needs is not looked at. */
function argumentsOf(cmdline: Buffer): string[] {
  let end = Math.min(cmdline.length, LONGEST_CMDLINE);
  while (end > 0 && cmdline[end - 1] === 0) end--;
  return cmdline.toString('utf8', 0, end).split('\0');
}

/**
 * Of several processes that hold one socket, the one it is counted for: those in the socket's own namespace before others,
 * not pid 1 where another holds it, an ancestor of all others, else the earliest start, else the lowest pid.
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
