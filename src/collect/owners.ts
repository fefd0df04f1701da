import { failed, type Procfs } from './procfs.ts';

/** Which processes hold which socket, by inode. Socket inodes are unique on the host, whatever their namespace. */
export class Owners {
  /** Processes whose descriptors the kernel did not let be read in the last walk. */
  denied = 0;
  readonly #procfs: Procfs;
  readonly #holders = new Map<number, number[]>();
  readonly #openFds = new Map<number, number>();

  constructor(procfs: Procfs) {
    this.#procfs = procfs;
  }

  /** Walks the descriptors of these processes. Vanished processes are normal. */
  walk(pids: readonly number[]): void {
    this.denied = 0;
    this.#holders.clear();
    this.#openFds.clear();
    for (const pid of pids) this.#walkProcess(pid);
  }

  /** The pids that hold a socket, ascending and each once. */
  holdersOf(inode: number): readonly number[] {
    return this.#holders.get(inode) ?? [];
  }

  /** How many descriptors a process has open. */
  openFdsOf(pid: number): number {
    return this.#openFds.get(pid) ?? 0;
  }

  #walkProcess(pid: number): void {
    const descriptors = this.#procfs.descriptors(pid);
    if (failed(descriptors)) {
      if (descriptors !== 'vanished') this.denied++;
      return;
    }
    this.#openFds.set(pid, descriptors.length);
    for (const fd of descriptors) {
      const inode = this.#procfs.socketInode(pid, fd);
      if (failed(inode)) {
        if (inode === 'vanished') continue;
        this.denied++;
        return;
      }
      if (inode === 0) continue;
      const holders = this.#holders.get(inode);
      if (!holders) this.#holders.set(inode, [pid]);
      else if (holders[holders.length - 1] !== pid) holders.push(pid);
    }
  }
}
