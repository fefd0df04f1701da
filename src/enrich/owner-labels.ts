import type { Cluster } from './kubernetes/cluster-cache.ts';
import type { Cgroup, OwnerLabels } from '../model.ts';
import { cleanLabel } from '../common/sanitize.ts';

/** The names of what has no owner at all. */
export const NO_OWNER: OwnerLabels = { process: '', namespace: '', workload: '', pod: '', container: '' };

/** After so many different owners the memory of them begins anew: names are chosen by processes, and must not fill it. */
const CAPACITY = 20_000;
/** How long a container that Kubernetes does not know yet is published without names: its id reaches the API seconds late. */
const WAIT_MS = 10_000;
/** The most owners that wait for a better name; and, where they are many, how long one does that Kubernetes would have named. */
const MOST_UNNAMED = 10_000;
const UNNAMED_MS = 3_600_000;

/** An owner in a container that Kubernetes has not named (yet). */
interface Unnamed {
  readonly key: string;
  readonly process: string;
  readonly cgroup: Cgroup;
  readonly since: number;
  askedAt: number;
  /** What it is published under: nothing while it waits, then what its cgroup tells. */
  labels: OwnerLabels;
  /** False while a better name may come: nothing is to be remembered under these. */
  isWhole: boolean;
}

/**
 * The names that owners are published under, equal names as one object: those of Kubernetes where it is known, else those of the
 * cgroup. A container that Kubernetes does not know yet has none for 10 s, then those of its cgroup until Kubernetes does.
 */
export class OwnerNames {
  readonly #cluster: Cluster | null;
  readonly #known = new Map<string, OwnerLabels>();
  readonly #unnamed = new Map<string, Unnamed>();
  readonly #byLabels = new Map<OwnerLabels, Unnamed>();
  /** When each container, or pod, was first seen without names. */
  readonly #firstSeen = new Map<string, number>();
  #now = 0;

  constructor(cluster: Cluster | null = null) {
    this.#cluster = cluster;
  }

  /**
   * Begins a scan, at milliseconds of a clock that never goes back. Gives the names that are others from now on, each with those
   * that take its place; with itself, where it became whole.
   */
  begin(now: number): ReadonlyMap<OwnerLabels, OwnerLabels> {
    this.#now = now;
    const changed = new Map<OwnerLabels, OwnerLabels>();
    const isCrowded = this.#unnamed.size > MOST_UNNAMED / 2;
    for (const unnamed of this.#unnamed.values()) {
      const { labels: before, isWhole } = unnamed;
      const named = this.#settle(unnamed);
      if (unnamed.labels !== before || unnamed.isWhole !== isWhole || named) changed.set(before, unnamed.labels);
      const isForgotten = isCrowded && unnamed.isWhole && now - unnamed.askedAt >= UNNAMED_MS;
      if (named || isForgotten) this.#drop(unnamed);
    }
    return changed;
  }

  /** Says whether names may still become others, because Kubernetes has not told them. */
  isHalfKnown(labels: OwnerLabels): boolean {
    return this.#byLabels.get(labels)?.isWhole === false;
  }

  /** The names of a process (clean already, as a workload is), or (name "") of a pod that no process of it is known for. */
  of(process: string, cgroup: Cgroup): OwnerLabels {
    const isContained = cgroup.containerId !== null || cgroup.podUid !== null;
    if (!this.#cluster || !isContained) return this.#share(namesOf(process, cgroup));
    const place = this.#cluster.placeOf(process, cgroup);
    return place ? this.#share({ process, ...place }) : this.#wait(process, cgroup);
  }

  /** The names for a namespace whose processes all belong to one pod; those of nobody else. */
  ofNamespace(cgroups: Iterable<Cgroup | null>): OwnerLabels {
    let pod: { uid: string; cgroup: Cgroup } | null = null;
    for (const cgroup of cgroups) {
      if (!cgroup) continue;
      const uid = this.#cluster?.podOf(cgroup)?.uid ?? cgroup.podUid;
      if (uid === null || (pod && pod.uid !== uid)) return NO_OWNER;
      pod = { uid, cgroup };
    }
    return pod ? this.of('', { ...pod.cgroup, podUid: pod.uid, containerId: null, outerContainerId: null }) : NO_OWNER;
  }

  #wait(process: string, cgroup: Cgroup): OwnerLabels {
    const key = JSON.stringify([process, cgroup.containerId, cgroup.podUid]);
    const known = this.#unnamed.get(key);
    if (known) {
      known.askedAt = this.#now;
      return known.labels;
    }
    // Processes that take name after name must not push out those of others.
    if (this.#unnamed.size >= MOST_UNNAMED) return this.#share(namesOf(process, cgroup));
    const since = this.#sinceOf(cgroup);
    const unnamed = { key, process, cgroup, since, askedAt: this.#now, labels: { ...NO_OWNER }, isWhole: false };
    this.#settle(unnamed);
    this.#unnamed.set(key, unnamed);
    this.#byLabels.set(unnamed.labels, unnamed);
    return unnamed.labels;
  }

  #sinceOf({ containerId, podUid }: Cgroup): number {
    const id = containerId ?? podUid ?? '';
    const known = this.#firstSeen.get(id);
    if (known !== undefined) return known;
    const [oldest = ''] = this.#firstSeen.keys();
    if (this.#firstSeen.size >= MOST_UNNAMED) this.#firstSeen.delete(oldest);
    this.#firstSeen.set(id, this.#now);
    return this.#now;
  }

  /** Gives an owner the names that are known by now; says whether they are those of Kubernetes, which stay. */
  #settle(unnamed: Unnamed): boolean {
    const { process, cgroup, since, labels: before } = unnamed;
    const place = this.#cluster?.placeOf(process, cgroup);
    if (place) unnamed.labels = this.#share({ process, ...place });
    else if (!this.#cluster?.mayName(since, WAIT_MS)) {
      const pod = this.#cluster?.podOf(cgroup);
      const names = namesOf(process, cgroup);
      unnamed.labels = this.#share(
        pod ? { ...names, namespace: pod.namespace, workload: pod.workload, pod: pod.name } : names,
      );
      unnamed.isWhole = this.#cluster?.wouldHaveNamed(since, WAIT_MS) ?? true;
    }
    if (unnamed.labels !== before && this.#byLabels.delete(before)) this.#byLabels.set(unnamed.labels, unnamed);
    return Boolean(place);
  }

  #drop({ key, labels }: Unnamed): void {
    this.#unnamed.delete(key);
    this.#byLabels.delete(labels);
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

/** What a cgroup alone tells. */
function namesOf(process: string, cgroup: Cgroup): OwnerLabels {
  const { podUid, containerId } = cgroup;
  return {
    process,
    namespace: '',
    workload: workloadOf(cgroup),
    pod: podUid ?? '',
    container: process === '' ? '' : (containerId?.slice(0, 12) ?? ''),
  };
}

/** The parts of a name that a program makes up for each run: a UUID, a long hex number, a count as in "session-12" or "run-u7". */
const GENERATED =
  /-(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|r?[0-9a-f]{8,}|[a-z]?\d+)(?=-|\.(?:scope|service)$)/g;

/**
 * The workload of a process that no Kubernetes workload is known for: its systemd unit, else the name of its container runtime,
 * else "". Names stay few over days: instances fold into their template (`user@1000.service` is `user.service`), and names of
 * scopes and of `systemd-run` lose what is generated (`session-12.scope` is `session.scope`).
 */
export function workloadOf(cgroup: Cgroup): string {
  const { unit, runtime } = cgroup;
  if (unit === null) return runtime ?? '';
  const template = unit.replace(/@.*(?=\.)/, '');
  const transient = template.endsWith('.scope') || template.startsWith('run-');
  return cleanLabel(transient ? template.replace(GENERATED, '') : template);
}
