import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';

/** A memory cgroup (version 2 or 1) with a limit in bytes. */
export class MemoryLimit {
  readonly folder: string;

  /** Throws if the host has no memory cgroups that can be made. */
  constructor(bytes: number) {
    const unified = existsSync('/sys/fs/cgroup/cgroup.controllers');
    this.folder = `/sys/fs/cgroup/${unified ? '' : 'memory/'}peerscope-limit-${process.pid}`;
    mkdirSync(this.folder);
    const name = existsSync(`${this.folder}/memory.max`) ? 'memory.max' : 'memory.limit_in_bytes';
    try {
      writeFileSync(`${this.folder}/${name}`, String(bytes));
    } catch (error) {
      rmdirSync(this.folder);
      throw error;
    }
  }

  /** The command that puts what comes after it inside. */
  get by(): string[] {
    return ['sh', '-ec', `echo $$ >${this.folder}/cgroup.procs; exec "$@"`, 'sh'];
  }

  /** The most that was taken, in bytes. */
  get peak(): number {
    const name = ['memory.peak', 'memory.max_usage_in_bytes'].find((file) => existsSync(`${this.folder}/${file}`));
    return Number(readFileSync(`${this.folder}/${name}`, 'utf8'));
  }

  [Symbol.dispose](): void {
    rmdirSync(this.folder);
  }
}
