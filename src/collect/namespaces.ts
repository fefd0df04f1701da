import { failed, type Procfs } from './procfs.ts';

/** A network namespace that has at least one process. */
export interface Namespace {
  /** The inode number of ns/net; of net/tcp where no process of the namespace lets its ns/net be read. */
  readonly inode: number;
  /** Its processes, ascending: any of them shows the namespace's tables. */
  readonly pids: readonly number[];
}

/** How often the mounts are looked at for namespaces without a process, in scans. */
const MOUNTS_SCANS = 10;

/**
 * Groups processes by network namespace.
 * A process whose ns/net is forbidden is grouped by the file inode of its net/tcp, which all processes of a namespace share
 * (measured, not documented): so an unprivileged reader sees every namespace too. Zombies and vanished processes have none.
 */
export class Namespaces {
  readonly #inodeByTcp = new Map<number, number>();
  #mounted: readonly number[] = [];
  #scan = 0;

  /**
   * `pids` ascending; the namespaces come back in order of their lowest pid. `hidden` counts those without a process, which only
   * live on as mounts (`ip netns add`), and one more when some process does not let its namespace be told.
   */
  find(procfs: Procfs, pids: readonly number[]): { namespaces: Namespace[]; hidden: number } {
    const found = new Map<number, number[]>();
    const forbidden: number[] = [];
    let hidden = 0;
    for (const pid of pids) {
      let inode = procfs.netnsInode(pid);
      let shown = pid;
      if (inode === 'vanished') {
        // A thread-group leader that has ended shows no namespace; its other threads do.
        shown = procfs.threads(pid).find((tid) => tid !== pid) ?? pid;
        if (shown !== pid) inode = procfs.netnsInode(shown);
      }
      if (!failed(inode)) join(found, inode, shown);
      else if (inode !== 'vanished') forbidden.push(pid);
    }
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
    hidden += this.#mounted.filter((inode) => !found.has(inode)).length;
    const namespaces = [...found].map(([inode, members]) => ({ inode, pids: members.sort((a, b) => a - b) }));
    return { namespaces: namespaces.sort((a, b) => (a.pids[0] ?? 0) - (b.pids[0] ?? 0)), hidden };
  }

  #remember(procfs: Procfs, found: ReadonlyMap<number, readonly number[]>): void {
    for (const [inode, members] of found) {
      const tcp = procfs.netTcpInode(members[0] ?? 0);
      if (!failed(tcp)) this.#inodeByTcp.set(tcp, inode);
    }
  }
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
