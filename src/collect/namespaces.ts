import { failed, type Procfs } from './procfs.ts';

/** A network namespace that has at least one process. */
export interface Namespace {
  /** The inode number of ns/net; of net/tcp where no process of the namespace lets its ns/net be read. */
  readonly inode: number;
  /** Its processes, ascending: any of them shows the namespace's tables. */
  readonly pids: readonly number[];
}

/**
 * Groups processes by network namespace.
 * A process whose ns/net is forbidden is grouped by the file inode of its net/tcp, which all processes of a namespace share
 * (measured, not documented): so an unprivileged reader sees every namespace too. Zombies and vanished processes have none.
 */
export class Namespaces {
  readonly #inodeByTcp = new Map<number, number>();

  /** `pids` ascending; the namespaces come back in order of their lowest pid. `hidden` is 1 when some process does not let its namespace be told. */
  find(procfs: Procfs, pids: readonly number[]): { namespaces: Namespace[]; hidden: number } {
    const found = new Map<number, number[]>();
    const forbidden: number[] = [];
    let hidden = 0;
    for (const pid of pids) {
      const inode = procfs.netnsInode(pid);
      if (!failed(inode)) join(found, inode, pid);
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
