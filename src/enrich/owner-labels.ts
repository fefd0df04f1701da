import type { ClusterCache } from './kubernetes/cluster-cache.ts';
import { RegexpBudget, type Match } from '../common/regexp-budget.ts';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import type { Pod } from './kubernetes/pods.ts';
import type { Cgroup, OwnerLabels, WorkloadRule } from '../model.ts';
import { FairMap } from '../common/fair-map.ts';
import { cleanLabel } from '../common/sanitize.ts';

/** The labels of a socket without an owner. */
export const NO_OWNER: OwnerLabels = { process: '', namespace: '', workload: '', pod: '', container: '' };

/** Interned label sets before the cache is cleared. Processes choose their own names, so the cache must be bounded. */
const CAPACITY = 20_000;
/** How long a container unknown to Kubernetes has empty labels. Its id reaches the API a few seconds late. */
const WAIT_MS = 10_000;
/**
 * The maximum number of pending owners. If more than half are in use, owners idle for PENDING_TTL_MS that Kubernetes
 * should have named by now are dropped. If all are in use, the pod with the most loses its oldest to another pod.
 */
const MAX_PENDING = 10_000;
const PENDING_TTL_MS = 3_600_000;

/** The owner of a container that Kubernetes has not named yet. */
interface PendingOwner {
  readonly key: string;
  readonly process: string;
  readonly cgroup: Cgroup;
  readonly since: number;
  lastUsedAt: number;
  /** The current labels: empty while waiting, then derived from the cgroup. */
  labels: OwnerLabels;
  /** False while better labels may arrive. First-seen times must not be stored under these labels. */
  isFinal: boolean;
}

/**
 * Resolves owners to labels. Equal labels are the same object. Labels come from Kubernetes if it knows the container,
 * else from the cgroup. A container unknown to Kubernetes has empty labels for 10 s, then the labels of its cgroup
 * until Kubernetes knows it.
 */
export class OwnerLabeler {
  readonly #cluster: ClusterCache | null;
  readonly #interned = new Map<string, OwnerLabels>();
  readonly #pending = new FairMap<string, PendingOwner>(MAX_PENDING);
  readonly #byLabels = new Map<OwnerLabels, PendingOwner>();
  /** The owners that lost their place since the scan began. */
  readonly #lost: PendingOwner[] = [];
  /** When each container or pod was first seen without Kubernetes labels. */
  readonly #firstSeen = new Map<string, number>();
  readonly #budget: RegexpBudget;
  /** The default names of the workloads that rules renamed, by namespace and new name. */
  readonly #renamed = new Map<string, Set<string>>();
  #rules: readonly WorkloadRule[];
  #now = 0;

  /** `monotonic` returns milliseconds of a clock that never goes back. */
  constructor(
    cluster: ClusterCache | null = null,
    rules: readonly WorkloadRule[] = [],
    monotonic: () => number = () => SYSTEM_CLOCK.monotonic(),
  ) {
    this.#cluster = cluster;
    this.#rules = rules;
    this.#budget = new RegexpBudget(monotonic);
  }

  /** Names workloads by these rules from the next scan on. */
  adopt(rules: readonly WorkloadRule[]): void {
    this.#rules = rules;
    this.#renamed.clear();
  }

  /** Returns what the pods of a workload on this node declare as normal, under the name that rules give to the workload. */
  expectationsOf(namespace: string, workload: string): ReadonlySet<string> {
    const own = this.#cluster?.expectationsOf(namespace, workload);
    const former = [...(this.#renamed.get(JSON.stringify([namespace, workload])) ?? [])];
    return new Set([
      ...(own ?? []),
      ...former.flatMap((name) => [...(this.#cluster?.expectationsOf(namespace, name) ?? [])]),
    ]);
  }

  /** The first pattern of a rule that took too long in this scan; null for none. */
  get slowPattern(): RegExp | null {
    return this.#budget.slow;
  }

  /**
   * Starts a scan at monotonic time `now` (milliseconds). Returns the labels that changed, each with its replacement.
   * A set of labels that became final maps to itself.
   */
  beginScan(now: number): ReadonlyMap<OwnerLabels, OwnerLabels> {
    this.#now = now;
    this.#budget.begin();
    const changed = new Map<OwnerLabels, OwnerLabels>();
    const isCrowded = this.#pending.size > MAX_PENDING / 2;
    for (const { process, cgroup, labels } of this.#lost.splice(0))
      changed.set(labels, this.#intern(this.#cgroupLabelsOf(process, cgroup)));
    for (const [, owner] of this.#pending) {
      const { labels: before, isFinal } = owner;
      const isNamed = this.#updatePending(owner);
      if (owner.labels !== before || owner.isFinal !== isFinal || isNamed) changed.set(before, owner.labels);
      const isExpired = isCrowded && owner.isFinal && now - owner.lastUsedAt >= PENDING_TTL_MS;
      if (isNamed || isExpired) this.#drop(owner);
    }
    return changed;
  }

  /** Returns true if the labels may still change because Kubernetes has not reported the container. */
  isProvisional(labels: OwnerLabels): boolean {
    return this.#byLabels.get(labels)?.isFinal === false;
  }

  /** Returns the labels of a process. `process` must already be sanitized; "" means a pod without a known process. */
  labelsOf(process: string, cgroup: Cgroup): OwnerLabels {
    const isContained = cgroup.containerId !== null || cgroup.podUid !== null;
    if (!this.#cluster || !isContained || cgroup.user !== undefined)
      return this.#intern(this.#cgroupLabelsOf(process, cgroup));
    const kubernetesLabels = this.#kubernetesLabelsOf(process, cgroup);
    return kubernetesLabels ? this.#intern(kubernetesLabels) : this.#wait(process, cgroup);
  }

  /** Returns the labels of a network namespace if all of its processes belong to one pod, else NO_OWNER. */
  namespaceLabelsOf(cgroups: Iterable<Cgroup | null>): OwnerLabels {
    let pod: { uid: string; cgroup: Cgroup } | null = null;
    for (const cgroup of cgroups) {
      if (!cgroup) continue;
      const uid = this.#cluster?.podOf(cgroup)?.uid ?? cgroup.podUid;
      if (uid === null || (pod && pod.uid !== uid)) return NO_OWNER;
      pod = { uid, cgroup };
    }
    return pod
      ? this.labelsOf('', { ...pod.cgroup, podUid: pod.uid, containerId: null, outerContainerId: null })
      : NO_OWNER;
  }

  #wait(process: string, cgroup: Cgroup): OwnerLabels {
    const key = JSON.stringify([process, cgroup.containerId, cgroup.podUid]);
    const known = this.#pending.get(key);
    if (known) {
      known.lastUsedAt = this.#now;
      return known.labels;
    }
    // A process that keeps changing its name must not evict the entries of others.
    const tenant = cgroup.podUid ?? cgroup.containerId ?? '';
    if (this.#pending.isSpent(tenant)) return this.#intern(this.#cgroupLabelsOf(process, cgroup));
    const since = this.#sinceOf(cgroup);
    const owner = { key, process, cgroup, since, lastUsedAt: this.#now, labels: { ...NO_OWNER }, isFinal: false };
    this.#updatePending(owner);
    this.#byLabels.set(owner.labels, owner);
    const lost = this.#pending.set(key, owner, tenant)?.value;
    if (lost) {
      this.#byLabels.delete(lost.labels);
      this.#lost.push(lost);
    }
    return owner.labels;
  }

  #sinceOf({ containerId, podUid }: Cgroup): number {
    const id = containerId ?? podUid ?? '';
    const known = this.#firstSeen.get(id);
    if (known !== undefined) return known;
    const [oldest = ''] = this.#firstSeen.keys();
    if (this.#firstSeen.size >= MAX_PENDING) this.#firstSeen.delete(oldest);
    this.#firstSeen.set(id, this.#now);
    return this.#now;
  }

  /** Updates the labels of a pending owner. Returns true if they now come from Kubernetes and are final. */
  #updatePending(owner: PendingOwner): boolean {
    const { process, cgroup, since, labels: before } = owner;
    const kubernetesLabels = this.#kubernetesLabelsOf(process, cgroup);
    if (kubernetesLabels) owner.labels = this.#intern(kubernetesLabels);
    else if (!this.#cluster?.mayStillAppear(since, WAIT_MS)) {
      const pod = this.#cluster?.podOf(cgroup);
      const names = this.#cgroupLabelsOf(process, cgroup);
      owner.labels = this.#intern(
        pod ? { ...names, namespace: pod.namespace, workload: this.#workloadOf(cgroup, pod), pod: pod.name } : names,
      );
      owner.isFinal = this.#cluster?.wouldHaveAppeared(since, WAIT_MS) ?? true;
    }
    if (owner.labels !== before && this.#byLabels.delete(before)) this.#byLabels.set(owner.labels, owner);
    return Boolean(kubernetesLabels);
  }

  #kubernetesLabelsOf(process: string, cgroup: Cgroup): OwnerLabels | null {
    const labels = this.#cluster?.labelsOf(process, cgroup);
    const pod = labels && this.#cluster?.podOf(cgroup);
    if (!pod) return null;
    const workload = this.#workloadOf(cgroup, pod);
    if (pod.expects && workload !== pod.workload) this.#noteRenamed(pod, workload);
    return { process, ...labels, workload };
  }

  #noteRenamed({ namespace, workload: former }: Pod, workload: string): void {
    if (this.#renamed.size >= CAPACITY) this.#renamed.clear();
    const key = JSON.stringify([namespace, workload]);
    this.#renamed.set(key, (this.#renamed.get(key) ?? new Set()).add(former));
  }

  #cgroupLabelsOf(process: string, cgroup: Cgroup): OwnerLabels {
    return { ...cgroupLabelsOf(process, cgroup), workload: this.#workloadOf(cgroup, null) };
  }

  /** Returns the name that the first matching rule gives, else the default name. */
  #workloadOf(cgroup: Cgroup, pod: Pod | null): string {
    for (const rule of this.#rules) {
      const name = cleanLabel(nameByRule(rule, cgroup, pod, this.#budget.match) ?? '');
      if (name !== '') return name;
    }
    return pod?.workload ?? workloadOf(cgroup);
  }

  #drop({ key, labels }: PendingOwner): void {
    this.#pending.delete(key);
    this.#byLabels.delete(labels);
  }

  #intern(labels: OwnerLabels): OwnerLabels {
    const key = JSON.stringify(Object.values(labels));
    const known = this.#interned.get(key);
    if (known) return known;
    if (this.#interned.size >= CAPACITY) this.#interned.clear();
    this.#interned.set(key, labels);
    return labels;
  }
}

/** Returns the labels that the cgroup alone provides. */
function cgroupLabelsOf(process: string, cgroup: Cgroup): OwnerLabels {
  const { podUid, containerId, outerContainerId, containerName } = cgroup;
  const outer = podUid === null && outerContainerId !== null ? `${shortId(outerContainerId)}/` : '';
  return {
    process,
    namespace: '',
    workload: workloadOf(cgroup),
    pod: podUid ?? '',
    container: process === '' ? '' : (containerName ?? cleanLabel(outer + shortId(containerId ?? ''))),
  };
}

function nameByRule(rule: WorkloadRule, cgroup: Cgroup, pod: Pod | null, match: Match): string | undefined {
  const { labels = {}, annotations = {} } = rule;
  const subjects: readonly (readonly [RegExp | undefined, string | null | undefined])[] = [
    ...Object.entries(labels).map(([key, pattern]) => [pattern, pod?.kept?.labels[key]] as const),
    ...Object.entries(annotations).map(([key, pattern]) => [pattern, pod?.kept?.annotations[key]] as const),
    [rule.cgroup, cgroup.path],
    [rule.unit, cgroup.unit],
  ];
  const values = new Map<string, string>();
  for (const [pattern, subject] of subjects) {
    if (!pattern) continue;
    const found = typeof subject === 'string' ? match(pattern, subject) : null;
    if (!found) return undefined;
    for (const [group, value] of Object.entries<string | undefined>(found.groups ?? {}))
      if (value !== undefined) values.set(group, value);
  }
  return rule.name.replace(/\{\{\s*\.(\w+)\s*\}\}/g, (_, group: string) => values.get(group) ?? '');
}

/** The first 12 digits of an id; names, as of LXC, stay whole. */
function shortId(containerId: string): string {
  return /^[0-9a-f]{32}/.test(containerId) ? containerId.slice(0, 12) : containerId;
}

/** Parts of a unit name that are generated in any unit: a UUID, 32 hex digits or more, or the number of a D-Bus connection. */
const UNIQUE =
  /(?<![0-9a-z])(?:[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|r?[0-9a-f]{32,}|:\d+\.\d+)(?![0-9a-z])/gi;
/**
 * Parts that are generated in transient units only: hex digits, a counter behind a dash as in "session-12" and "run-u7", or a pid.
 * Shorter numbers behind a dot can be a version, as in "python3.11".
 */
const TRANSIENT =
  /(?:^|(?<=[-._]))r?[0-9a-f]{8,}(?=[-._]|$)|(?<=-)[a-z]?\d+(?=[-._]|$)|(?:^|(?<=[._]))\d{3,}(?=[-._]|$)/gi;
/** Hex digits as in "instance-0000002a" of OpenStack. */
const LONG_HEX = /(?<=[-._])[0-9a-f]{8,}(?=[-._]|$)/gi;
/** The names that Podman makes up, as "zen_turing". */
const MADE_UP = /^[a-z]+_[a-z]+\d*$/;
/** A scope of libvirt: the driver, a counter, and the name that people gave to the machine. */
const LIBVIRT = /^(machine-[a-z]+)-\d+(-.+)$/;

/**
 * Returns the workload of a process outside Kubernetes: `uid:1000` below what systemd handed over to a user, else its systemd unit (of a
 * container that runs a system: `web/nginx.service`), else the container name that Podman was given, else the container runtime, else "".
 * Cardinality stays low: instances fold into their template (`user@1000.service` becomes `user.service`), and
 * names lose generated parts wherever these stand (`session-12.scope` becomes `session.scope`). Numbers in the names of services stay:
 * people choose them (`postgresql-15.service`).
 */
export function workloadOf({ unit, unitOf, containerName = '', runtime, user }: Cgroup): string {
  if (user !== undefined) return `uid:${user}`;
  if (unit === null) {
    const given = MADE_UP.test(containerName) ? '' : withoutGenerated(containerName, true);
    return cleanLabel(given) || (runtime ?? '');
  }
  const template = unit.replace(/@.*(?=\.)/s, '');
  const suffix = /\.(?:service|scope)$/.exec(template)?.[0] ?? '';
  const name = template.slice(0, template.length - suffix.length);
  const isTransient = suffix === '.scope' || name.startsWith('run-');
  const kept = withoutGenerated(name, isTransient);
  const folded = kept === '' ? suffix.slice(1) : kept + suffix;
  return cleanLabel(unitOf === undefined ? folded : `${unitOf}/${folded}`);
}

function withoutGenerated(name: string, isTransient: boolean): string {
  const libvirt = LIBVIRT.exec(name);
  const unique = (libvirt ? `${libvirt[1]}${libvirt[2]}` : name).replace(UNIQUE, '');
  const rest = isTransient ? unique.replace(libvirt ? LONG_HEX : TRANSIENT, '') : unique;
  if (rest === name) return name;
  // What stood around a removed part remains as "a--b", ".b" or "a-".
  return rest.replaceAll(/([-._])[-._]+/g, '$1').replaceAll(/^[-._]+|[-._]+$/g, '');
}
