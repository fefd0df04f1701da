import { failed, type Procfs, type ReadFailure } from './procfs.ts';

/** A network namespace that has at least one process. */
export interface Namespace {
  /** The inode number of ns/net; of net/tcp if no process of the namespace lets its ns/net be read. */
  readonly inode: number;
  /** Its processes, ascending. The tables of the namespace can be read through any of them. */
  readonly pids: readonly number[];
}

/** Network namespaces whose rows cannot be read through any process. */
export interface UnreadNamespaces {
  /** At least this many have processes that cannot be read. */
  readonly hidden: number;
  /** At least this many have no process and exist as mounts (`ip netns add`). */
  readonly withoutProcess: number;
}

/** Mounts are searched for namespaces without a process once in this many scans. */
const MOUNTS_SCANS = 10;
/** For this many scans the namespace of a new process is read each time: it may still move to its final namespace. */
const YOUNG_SCANS = 5;
/** The namespace of an older process is read once in this many scans, in rotation: a link costs 4 to 7 us, and few processes move. */
const ROTATION = 10;

/** The namespace of a process at its last read, the thread it was read through, and the number of scans since it changed. */
interface Membership {
  inode: number;
  tid: number;
  age: number;
}

/**
 * Groups processes by network namespace.
 * A process whose ns/net is forbidden is grouped by the file inode of its net/tcp, which all processes of a namespace share
 * (measured, not documented). So an unprivileged reader finds every namespace too. Zombies and vanished processes have no namespace.
 */
export class Namespaces {
  readonly #inodeByTcp = new Map<number, number>();
  #memberships = new Map<number, Membership>();
  #mounted: readonly number[] = [];
  #scan = 0;

  /** Finds the namespaces of these processes (ascending), in order of their lowest pid. */
  find(procfs: Procfs, pids: readonly number[]): { namespaces: Namespace[] } & UnreadNamespaces {
    const found = new Map<number, number[]>();
    const forbidden: number[] = [];
    const moved = new Set<number>();
    const memberships = new Map<number, Membership>();
    // Hidden processes may have namespaces of their own.
    let hidden = procfs.hidesProcesses ? 1 : 0;
    for (const pid of pids) {
      const known = this.#memberships.get(pid);
      // Tables are read through the first process of a namespace. If it moved, another namespace would be counted twice.
      if (known && !this.#isDue(pid, known) && found.has(known.inode) && !moved.has(known.inode)) {
        known.age++;
        memberships.set(pid, known);
        join(found, known.inode, known.tid);
        continue;
      }
      const { inode, tid } = readNamespace(procfs, pid);
      if (known && known.inode !== inode) moved.add(known.inode);
      if (!failed(inode)) {
        memberships.set(pid, { inode, tid, age: known?.inode === inode ? known.age + 1 : 0 });
        join(found, inode, tid);
      } else if (inode !== 'vanished') forbidden.push(pid);
    }
    this.#memberships = memberships;
    const numbered = found.size;
    if (forbidden.length > 0 && procfs.live) {
      this.#mapTcpInodes(procfs, found);
      for (const pid of forbidden) {
        const tcp = procfs.netTcpInode(pid);
        if (failed(tcp)) hidden = tcp === 'vanished' ? hidden : 1;
        else join(found, this.#inodeByTcp.get(tcp) ?? tcp, pid);
      }
      for (const [tcp, inode] of this.#inodeByTcp) if (!found.has(inode)) this.#inodeByTcp.delete(tcp);
    } else {
      hidden = Math.max(hidden, Math.min(1, forbidden.length));
    }
    if (this.#scan++ % MOUNTS_SCANS === 0) this.#mounted = mountedNamespaces(procfs);
    const unmatched = this.#mounted.filter((inode) => !found.has(inode)).length;
    // A mount has the inode of ns/net. It may belong to a namespace that is known by its net/tcp only, or to a hidden one.
    const withoutProcess = Math.max(0, unmatched - (found.size - numbered) - hidden);
    const namespaces = [...found].map(([inode, members]) => ({ inode, pids: members.sort((a, b) => a - b) }));
    return { namespaces: namespaces.sort((a, b) => (a.pids[0] ?? 0) - (b.pids[0] ?? 0)), hidden, withoutProcess };
  }

  #isDue(pid: number, { age }: Membership): boolean {
    return age < YOUNG_SCANS || (this.#scan + pid) % ROTATION === 0;
  }

  #mapTcpInodes(procfs: Procfs, found: ReadonlyMap<number, readonly number[]>): void {
    for (const [inode, members] of found) {
      const tcp = procfs.netTcpInode(members[0] ?? 0);
      if (!failed(tcp)) this.#inodeByTcp.set(tcp, inode);
    }
  }
}

/** The namespace of a process. A thread-group leader that has ended has none; its other threads do. */
function readNamespace(procfs: Procfs, pid: number): { inode: number | ReadFailure; tid: number } {
  const inode = procfs.netnsInode(pid);
  const thread = inode === 'vanished' ? procfs.threads(pid).find((tid) => tid !== pid) : undefined;
  return thread === undefined ? { inode, tid: pid } : { inode: procfs.netnsInode(thread), tid: thread };
}

function join(found: Map<number, number[]>, inode: number, pid: number): void {
  const members = found.get(inode);
  if (members) members.push(pid);
  else found.set(inode, [pid]);
}

/** The mounted namespaces, from mountinfo of pid 1. procfs has no path to the tables of a namespace without a process. */
function mountedNamespaces(procfs: Procfs): number[] {
  const inodes = new Set<number>();
  procfs.readLines(1, 'mountinfo', (line) => {
    const [, inode] = /^\d+ \d+ \S+ net:\[(\d+)\] /.exec(line) ?? [];
    if (inode !== undefined) inodes.add(Number(inode));
  });
  return [...inodes];
}
