import { workloadOf } from './collect/cgroup.ts';
import type { Cgroup, OwnerLabels } from './model.ts';

/** The names of what has no owner at all. */
export const NO_OWNER: OwnerLabels = { process: '', namespace: '', workload: '', pod: '', container: '' };

/** After so many different owners the memory of them begins anew: names are chosen by processes, and must not fill it. */
const CAPACITY = 20_000;

/** The names that owners are published under, equal names as one object. */
export class OwnerNames {
  readonly #known = new Map<string, OwnerLabels>();

  /** The names of a process (clean already, as a workload is), or (name "") of a pod that no process of it is known for. */
  of(process: string, cgroup: Cgroup): OwnerLabels {
    const { podUid, containerId } = cgroup;
    return this.#share({
      process,
      namespace: '',
      workload: workloadOf(cgroup),
      pod: podUid ?? '',
      container: process === '' ? '' : (containerId?.slice(0, 12) ?? ''),
    });
  }

  /** The names for a namespace whose processes all belong to one pod; those of nobody else. */
  ofNamespace(cgroups: Iterable<Cgroup | null>): OwnerLabels {
    let pod: Cgroup | null = null;
    for (const cgroup of cgroups) {
      if (!cgroup) continue;
      if (cgroup.podUid === null || (pod && pod.podUid !== cgroup.podUid)) return NO_OWNER;
      pod = cgroup;
    }
    return pod ? this.of('', pod) : NO_OWNER;
  }

  #share(labels: OwnerLabels): OwnerLabels {
    const key = JSON.stringify(Object.values(labels));
    const known = this.#known.get(key);
    if (known) return known;
    if (this.#known.size >= CAPACITY) this.#known.clear();
    this.#known.set(key, labels);
    return labels;
  }
}
