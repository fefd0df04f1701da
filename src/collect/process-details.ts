import { redactArguments } from '../common/redact-arguments.ts';
import { cgroupPath } from './cgroup.ts';
import { baseName } from './interpreters.ts';
import { parseStat } from './pid-stat.ts';
import type { Row } from '../model.ts';
import { failed, Procfs } from './procfs.ts';

/** The ticks of a second in /proc/PID/stat (USER_HZ), on all architectures that Node.js supports. */
const TICKS_PER_SECOND = 100;
const MAX_ARGUMENTS = 4_096;
const MAX_PARENTS = 16;
const DELETED = ' (deleted)';
/** The comm of every Node.js 24 without a title of its own. */
const NODE_COMM = 'MainThread';

/** What identifies a process, read on demand; null for what cannot be read. */
export interface ProcessDetails {
  readonly exe: string | null;
  /** Whether the file of the program was deleted or replaced. */
  readonly exe_deleted: boolean | null;
  /** The arguments without secrets. */
  readonly cmdline: string | null;
  readonly cgroup: string | null;
  readonly ppid: number | null;
  /** The names of its parents, nearest first. */
  readonly parents: string[] | null;
  /** RFC 3339. */
  readonly process_started_at: string | null;
}

const NO_DETAILS: ProcessDetails = {
  exe: null,
  exe_deleted: null,
  cmdline: null,
  cgroup: null,
  ppid: null,
  parents: null,
  process_started_at: null,
};

/** Returns a function that adds the details of the process of a row. It reads each process once, so use a new one for each scan. */
export function detailsReader(source: unknown): <T extends Row>(row: T) => T {
  const known = new Map<number, ProcessDetails>();
  return (row) => {
    if (!(source instanceof Procfs) || row.pid === null) return row;
    let details = known.get(row.pid);
    if (!details) known.set(row.pid, (details = readProcessDetails(source, row.pid)));
    return { ...row, ...details };
  };
}

/** Reads the details of a process, which may have exited. */
export function readProcessDetails(procfs: Procfs, pid: number): ProcessDetails {
  const stat = statOf(procfs, pid);
  if (!stat) return NO_DETAILS;
  const link = procfs.executable(pid);
  const bootedAt = procfs.bootedAt();
  const args = procfs.read(pid, 'cmdline', MAX_ARGUMENTS);
  const cgroup = procfs.read(pid, 'cgroup');
  const startedAt = bootedAt === null ? null : bootedAt + (stat.startTime / TICKS_PER_SECOND) * 1_000;
  return {
    exe: link?.endsWith(DELETED) ? link.slice(0, -DELETED.length) : link,
    exe_deleted: link === null ? null : link.endsWith(DELETED),
    cmdline: failed(args) || args.length === 0 ? null : redactArguments(splitArguments(args)),
    cgroup: failed(cgroup) ? null : cgroupPath(cgroup.toString()),
    ppid: stat.ppid,
    parents: parentsOf(procfs, stat.ppid),
    process_started_at: startedAt === null ? null : new Date(startedAt).toISOString(),
  };
}

function splitArguments(bytes: Buffer): string[] {
  return bytes.toString('utf8', 0, MAX_ARGUMENTS).replace(/\0+$/, '').split('\0');
}

function parentsOf(procfs: Procfs, ppid: number): string[] {
  const parents: string[] = [];
  for (let pid = ppid; pid > 0 && parents.length < MAX_PARENTS;) {
    const stat = statOf(procfs, pid);
    if (!stat) break;
    parents.push((stat.comm === NODE_COMM && baseName(procfs.executable(pid) ?? '')) || stat.comm);
    pid = stat.ppid;
  }
  return parents;
}

function statOf(procfs: Procfs, pid: number): ReturnType<typeof parseStat> | null {
  const bytes = procfs.read(pid, 'stat');
  return failed(bytes) ? null : parseStat(bytes);
}
