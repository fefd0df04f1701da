import { failed, type Procfs, type ReadFailure } from './procfs.ts';

/** A network namespace that has at least one process. */
export interface Namespace {
  /** The inode number of ns/net; of net/tcp where no process of the namespace lets its ns/net be read. */
  readonly inode: number;
  /** Its processes, ascending: any of them shows the namespace's tables. */
  readonly pids: readonly number[];
}

/** Network namespaces whose rows are not shown by any process, as far as they are known. */
export interface UnreadNamespaces {
  /** At least so many whose processes do not let them be told apart. */
  readonly hidden: number;
  /** At least so many without a process, which live on as mounts (`ip netns add`). */
  readonly withoutProcess: number;
}

/** How often the mounts are looked at for namespaces without a process, in scans. */
const MOUNTS_SCANS = 10;
/** How many scans long the namespace of a new process is read at each: it may yet be moved to where it is to live. */
const YOUNG_SCANS = 5;
/** That of an older process is read once in so many scans, each in its turn: a link costs 4 to 7 us, and few ever move. */
const ROTATION = 10;

/** Where a process was seen last: the namespace, the thread that shows it, and for how many scans. */
interface Seat {
  inode: number;
  shown: number;
  age: number;
}

/**
 * Groups processes by network namespace.
 * A process whose ns/net is forbidden is grouped by the file inode of its net/tcp, which all processes of a namespace share
 * (measured, not documented): so an unprivileged reader sees every namespace too. Zombies and vanished processes have none.
 */
export class Namespaces {
  readonly #inodeByTcp = new Map<number, number>();
  #seats = new Map<number, Seat>();
  #mounted: readonly number[] = [];
  #scan = 0;

  /** `pids` ascending; the namespaces come back in order of their lowest pid. */
  find(procfs: Procfs, pids: readonly number[]): { namespaces: Namespace[] } & UnreadNamespaces {
    const found = new Map<number, number[]>();
    const forbidden: number[] = [];
    const moved = new Set<number>();
    const seats = new Map<number, Seat>();
    let hidden = 0;
    for (const pid of pids) {
      const known = this.#seats.get(pid);
      // Tables are read through the first process of a namespace: were it elsewhere, another namespace would be counted twice.
      if (known && !this.#isDue(pid, known) && found.has(known.inode) && !moved.has(known.inode)) {
        known.age++;
        seats.set(pid, known);
        join(found, known.inode, known.shown);
        continue;
      }
      const { inode, shown } = look(procfs, pid);
      if (known && known.inode !== inode) moved.add(known.inode);
      if (!failed(inode)) {
        seats.set(pid, { inode, shown, age: known?.inode === inode ? known.age + 1 : 0 });
        join(found, inode, shown);
      } else if (inode !== 'vanished') forbidden.push(pid);
    }
    this.#seats = seats;
    const numbered = found.size;
    if (forbidden.length > 0 && procfs.live) {
      this.#remember(procfs, found);
      for (const pid of forbidden) {
        const tcp = procfs.netTcpInode(pid);
        if (failed(tcp)) hidden = tcp === 'vanished' ? hidden : 1;
        else join(found, this.#inodeByTcp.get(tcp) ?? tcp, pid);
      }
      for (const [tcp, inode] of this.#inodeByTcp) if (!found.has(inode)) this.#inodeByTcp.delete(tcp);
    } else {
      hidden = Math.min(1, forbidden.length);
    }
    if (this.#scan++ % MOUNTS_SCANS === 0) this.#mounted = mountedNamespaces(procfs);
    const unmatched = this.#mounted.filter((inode) => !found.has(inode)).length;
    // A mount has the number of ns/net: it may be that of a namespace which is known by its net/tcp alone, or of a hidden one.
    const withoutProcess = Math.max(0, unmatched - (found.size - numbered) - hidden);
    const namespaces = [...found].map(([inode, members]) => ({ inode, pids: members.sort((a, b) => a - b) }));
    return { namespaces: namespaces.sort((a, b) => (a.pids[0] ?? 0) - (b.pids[0] ?? 0)), hidden, withoutProcess };
  }

  #isDue(pid: number, { age }: Seat): boolean {
    return age < YOUNG_SCANS || (this.#scan + pid) % ROTATION === 0;
  }

  #remember(procfs: Procfs, found: ReadonlyMap<number, readonly number[]>): void {
    for (const [inode, members] of found) {
      const tcp = procfs.netTcpInode(members[0] ?? 0);
      if (!failed(tcp)) this.#inodeByTcp.set(tcp, inode);
    }
  }
}

/** The namespace of a process. A thread-group leader that has ended shows none; its other threads do. */
function look(procfs: Procfs, pid: number): { inode: number | ReadFailure; shown: number } {
  const inode = procfs.netnsInode(pid);
  const thread = inode === 'vanished' ? procfs.threads(pid).find((tid) => tid !== pid) : undefined;
  return thread === undefined ? { inode, shown: pid } : { inode: procfs.netnsInode(thread), shown: thread };
}

function join(found: Map<number, number[]>, inode: number, pid: number): void {
  const members = found.get(inode);
  if (members) members.push(pid);
  else found.set(inode, [pid]);
}

/** The namespaces that are mounted, by pid 1's mountinfo: procfs has no path to the tables of one that has no process. */
function mountedNamespaces(procfs: Procfs): number[] {
  const inodes = new Set<number>();
  procfs.readLines(1, 'mountinfo', (line) => {
    const [, inode] = /^\d+ \d+ \S+ net:\[(\d+)\] /.exec(line) ?? [];
    if (inode !== undefined) inodes.add(Number(inode));
  });
  return [...inodes];
}
