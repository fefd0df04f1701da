import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { dirname } from 'node:path';

/** The hierarchies whose paths name units and containers: the unified one, and systemd's own beside it. */
const HIERARCHIES = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified', '/sys/fs/cgroup/systemd'];

/** Says why cgroups cannot be made here; null where they can. */
export function whyNoCgroups(): string | null {
  try {
    new TestCgroups().make('peerscope-probe')[Symbol.dispose]();
    return null;
  } catch (error) {
    return `no cgroup can be made: ${String(error)}`;
  }
}

/** Cgroups of a test. They can be taken away when their processes have ended. */
export class TestCgroups {
  readonly #made: string[] = [];

  /** Makes a cgroup at a path below the root, in every hierarchy there is. */
  make(path: string): this {
    for (const place of placesOf(path)) {
      const highest = mkdirSync(place, { recursive: true });
      if (highest === undefined) continue;
      const made: string[] = [];
      for (let at = place; at.length >= highest.length; at = dirname(at)) made.unshift(at);
      this.#made.push(...made);
    }
    return this;
  }

  /** Makes a cgroup, and gives the lines of sh by which a shell enters it. */
  enter(path: string): string {
    this.make(path);
    return placesOf(path)
      .map((place) => `echo $$ >'${place.replaceAll("'", `'\\''`)}/cgroup.procs'`)
      .join('\n');
  }

  [Symbol.dispose](): void {
    for (const path of this.#made.reverse()) rmdirSync(path);
  }
}

function placesOf(path: string): string[] {
  return HIERARCHIES.filter((root) => existsSync(`${root}/cgroup.procs`)).map((root) => `${root}/${path}`);
}
