import { isDeepStrictEqual } from 'node:util';
import { formatCidr } from '../../common/address.ts';
import type { Address, Cgroup, Transport } from '../../model.ts';
import { sizeOfService, sizeOfSlice, type EndpointSlice, type Service, type ServicePort } from './services.ts';
import { bucketOf } from '../../common/network-class.ts';
import { sizeOfPod, type Pod } from './pods.ts';
import type { Change } from './list-watch.ts';

/** How long a deleted pod stays known. Its last connections are in TIME_WAIT. */
const GONE_MS = 60_000;
/** How many values of pods are kept: far above what a node has. Later pods have no name. */
const MOST_POD_VALUES = 50_000;
/** How long to wait for the first list of each resource. */
const FIRST_NEWS_MS = 10_000;

export type Resource = 'pods' | 'services' | 'endpointslices';

/** A change of objects, or of the state of a watch. */
export type ClusterChange =
  | { readonly resource: 'pods'; readonly change: Change<Pod> }
  | { readonly resource: 'services'; readonly change: Change<Service> }
  | { readonly resource: 'endpointslices'; readonly change: Change<EndpointSlice> }
  | { readonly resource: Resource; readonly up: boolean };

/** The Kubernetes names of a container. */
export interface KubernetesLabels {
  readonly namespace: string;
  readonly workload: string;
  readonly pod: string;
  readonly container: string;
}

/** A workload, and a template that its pods were made from. */
export interface PodVersion {
  readonly owner: { readonly namespace: string; readonly workload: string };
  readonly version: string;
}

interface KnownPod {
  pod: Pod;
  /** When the pod was deleted; null while it exists. */
  goneAt: number | null;
}

/**
 * The cached state of the cluster: pods of this node by container, uid and address, and Services by address. A
 * deleted pod stays known for 60 s. Times are monotonic milliseconds.
 */
export class ClusterCache {
  readonly #awaited: Set<Resource>;
  readonly #watchesPods: boolean;
  readonly #pods = new Map<string, KnownPod>();
  #podValues = 0;
  readonly #byContainer = new Map<string, { readonly known: KnownPod; readonly name: string }>();
  /** Static pods, by the config hash that replaces the uid in their cgroup paths. */
  readonly #byHash = new Map<string, KnownPod>();
  readonly #byAddress = new Map<string, KnownPod>();
  /** The addresses of this node, with the number of pods that report each. */
  readonly #nodeAddresses = new Map<string, { readonly address: Address; pods: number }>();
  readonly #services = new Services(
    (address, by) => this.#move(address, by),
    () => {
      for (const { address } of this.#nodeAddresses.values()) this.#move(address, 0);
    },
  );
  /** What pods declare as normal, by namespace and workload; null after a change. */
  #expectations: Map<string, Set<string>> | null = null;
  /** The number of pods and Services with an address in each bucket. */
  readonly #buckets = new Map<string, number>();
  #moved = new Set<number>();
  #otherPods = false;
  #otherLabels = false;
  #now = 0;
  #startedAt: number | null = null;
  #podsUpAt: number | null = null;
  #podsWereUp = false;

  /** `resources` are the resources that are watched. What is not watched is not waited for. */
  constructor(resources: readonly Resource[]) {
    this.#awaited = new Set(resources);
    this.#watchesPods = resources.includes('pods');
  }

  /** Applies a change. */
  accept(news: ClusterChange, now: number): void {
    this.#awaited.delete(news.resource);
    if ('up' in news) {
      if (news.resource === 'pods') this.#podsUpAt = news.up ? now : null;
    } else if (news.resource === 'pods') this.#acceptPods(news.change, now);
    else if (news.resource === 'services') this.#services.accept(news.change);
    else this.#services.acceptSlices(news.change);
    this.#podsWereUp ||= news.resource === 'pods' && ('change' in news || news.up);
  }

  /** Starts a scan: forgets pods deleted more than 60 s ago. */
  beginScan(now: number): void {
    this.#now = now;
    this.#startedAt ??= now;
    for (const known of this.#pods.values())
      if (known.goneAt !== null && now - known.goneAt >= GONE_MS) this.#forget(known);
  }

  /** Returns the last 32 bits of the addresses with possibly changed names since the last call. */
  takeChangedAddresses(): ReadonlySet<number> {
    const moved = this.#moved;
    this.#moved = new Set();
    return moved;
  }

  /** Returns true if pods or containers changed since the last call. */
  takePodsChanged(): boolean {
    const otherPods = this.#otherPods;
    this.#otherPods = false;
    return otherPods;
  }

  /** Returns true if labels or annotations that rules match changed since the last call. */
  takeLabelsChanged(): boolean {
    const otherLabels = this.#otherLabels;
    this.#otherLabels = false;
    return otherLabels;
  }

  /** The pods of this node, with those deleted a short time ago. */
  get pods(): Pod[] {
    return Array.from(this.#pods.values(), ({ pod }) => pod);
  }

  /** The templates that the pods of this node were made from. */
  get versions(): PodVersion[] {
    return this.pods.flatMap(({ namespace, workload, template: version }) =>
      version === undefined ? [] : [{ owner: { namespace, workload }, version }],
    );
  }

  /** True if each resource was listed, has failed, or was waited for long enough. */
  get isReady(): boolean {
    return this.#awaited.size === 0 || (this.#startedAt !== null && this.#now - this.#startedAt >= FIRST_NEWS_MS);
  }

  /** Returns true if a container first seen at `since` may still be named soon. */
  mayStillAppear(since: number, withinMs: number): boolean {
    if (!this.#watchesPods) return false;
    const isAway = !this.#podsWereUp && !this.#awaited.has('pods');
    return !isAway && this.#now - since < withinMs;
  }

  /** Returns true if a container first seen at `since` would be named by now if it belonged to a pod. */
  wouldHaveAppeared(since: number, withinMs: number): boolean {
    return this.#podsUpAt !== null && this.#now - Math.max(since, this.#podsUpAt) >= withinMs;
  }

  /** Returns what the pods of a workload on this node declare as normal: canonical values of `what`. */
  expectationsOf(namespace: string, workload: string): ReadonlySet<string> {
    if (!this.#expectations) {
      this.#expectations = new Map();
      for (const { pod } of this.#pods.values()) {
        if (!pod.expects) continue;
        const values = this.#expectations.get(pathOf({ ...pod, name: pod.workload })) ?? new Set();
        for (const value of pod.expects.values) values.add(value);
        this.#expectations.set(pathOf({ ...pod, name: pod.workload }), values);
      }
    }
    return this.#expectations.get(pathOf({ namespace, name: workload })) ?? NOTHING;
  }

  /**
   * Returns the pod of a cgroup, by container id, else by uid; null if unknown, or if the API has the container in another pod. A
   * container may give any id to one inside it: the outer one counts.
   */
  podOf({ containerId, outerContainerId, podUid, user }: Cgroup): Pod | null {
    if (user !== undefined) return null;
    const byId = (id: string | null): KnownPod | undefined => this.#byContainer.get(id ?? '')?.known;
    if (podUid === null) return byId(outerContainerId ?? containerId)?.pod ?? null;
    const isIt = (known: KnownPod | undefined): boolean =>
      known !== undefined && (known.pod.uid === podUid || known.pod.configHash === podUid);
    const known = [byId(outerContainerId), byId(containerId)].find(isIt);
    return (known ?? this.#pods.get(podUid) ?? this.#byHash.get(podUid))?.pod ?? null;
  }

  /**
   * Returns the labels of a container, of a nested container, or of a process in a pod but in no container. Null if
   * not completely known.
   */
  labelsOf(process: string, cgroup: Cgroup): KubernetesLabels | null {
    const pod = this.podOf(cgroup);
    if (!pod) return null;
    const container = this.#containerOf(process, cgroup, pod);
    if (container === null) return null;
    return { namespace: pod.namespace, workload: pod.workload, pod: pod.name, container };
  }

  /**
   * Returns the name of the Service at an address and port, or at a NodePort of this node, else of the pod of
   * this node; null if neither exists.
   */
  endpointNameOf(address: Address, port: number | null, transport: Transport): string | null {
    const key = keyOf(address);
    const service = port === null ? null : this.#services.nameOf(key, port, transport);
    if (service !== null) return service;
    const onNode = port !== null && this.#nodeAddresses.has(key) ? this.#services.nodePortName(port, transport) : null;
    if (onNode !== null) return onNode;
    const pod = this.#byAddress.get(key)?.pod;
    if (!pod) return null;
    const name = `${pod.namespace}/${pod.workload}`;
    return port === null ? name : `${name}:${port}`;
  }

  /** Returns the Service or workload at an address inside the cluster, such as shop/ledger; null if it has no name. */
  peerNameOf(address: Address, port: number, transport: Transport): string | null {
    return this.endpointNameOf(address, port, transport)?.replace(/:\d+$/, '') ?? null;
  }

  /**
   * Returns the workload at an address: the pod of this node, else the Service at the port, whose name stands for the workload behind it.
   * Without a port, as for a client, the only Service with this endpoint. Null if none is known.
   */
  workloadAt(
    address: Address,
    port: number | null,
    transport: Transport,
  ): { readonly namespace: string; readonly workload: string } | null {
    const key = keyOf(address);
    const pod = this.#byAddress.get(key)?.pod;
    if (pod) return { namespace: pod.namespace, workload: pod.workload };
    const service = port === null ? this.#services.soleAt(key) : this.#services.at(key, port, transport)?.path;
    if (service === undefined) return null;
    const [namespace = '', workload = ''] = service.split('/');
    return { namespace, workload };
  }

  /**
   * Returns true if an address belongs to a Service or to a pod of this node, or if its bucket contains a pod or
   * ClusterIP address.
   */
  isInCluster(address: Address, bucket: string): boolean {
    const key = keyOf(address);
    return this.#buckets.has(bucket) || this.#byAddress.has(key) || this.#services.has(key);
  }

  #containerOf(process: string, { kind, containerId, outerContainerId }: Cgroup, pod: Pod): string | null {
    if (containerId === null) return process !== '' && kind === 'container' ? (pod.onlyContainer ?? '') : '';
    const nameOf = (id: string): string | undefined => {
      const container = this.#byContainer.get(id);
      return container?.known.pod === pod ? container.name : undefined;
    };
    const name = nameOf(outerContainerId ?? '') ?? nameOf(containerId);
    return name ?? (process === 'pause' ? SANDBOX : null);
  }

  #acceptPods(change: Change<Pod>, now: number): void {
    if (change.kind === 'set') {
      this.#setPod(change.item);
      return;
    }
    const isThere = new Set(change.kind === 'replace' ? change.items.map(({ uid }) => uid) : []);
    const gone = change.kind === 'delete' ? [change.item.uid] : this.#pods.keys().filter((uid) => !isThere.has(uid));
    for (const uid of gone) {
      const known = this.#pods.get(uid);
      if (known) known.goneAt ??= now;
    }
    if (change.kind === 'replace') for (const pod of change.items) this.#setPod(pod);
  }

  #setPod(pod: Pod): void {
    const before = this.#pods.get(pod.uid);
    const values = this.#podValues + sizeOfPod(pod) - (before ? sizeOfPod(before.pod) : 0);
    if (values > MOST_POD_VALUES) return;
    // Most pod events change only containers.
    if (before && isDeepStrictEqual({ ...before.pod, containers: [] }, { ...pod, containers: [] })) {
      this.#otherPods ||= !isDeepStrictEqual(before.pod.containers, pod.containers);
      this.#forgetContainers(before);
      this.#podValues = values;
      before.pod = pod;
      before.goneAt = null;
      this.#learnContainers(before);
      return;
    }
    this.#expectations = null;
    this.#otherLabels ||= before !== undefined && !isDeepStrictEqual(before.pod.kept, pod.kept);
    if (before) this.#forget(before);
    this.#podValues = values;
    const known: KnownPod = { pod, goneAt: null };
    this.#otherPods = true;
    this.#pods.set(pod.uid, known);
    // Anyone who can create pods can set their annotations. A new pod must not take over the hash of an existing pod.
    if (pod.configHash !== null && this.#byHash.get(pod.configHash)?.goneAt !== null)
      this.#byHash.set(pod.configHash, known);
    this.#learnContainers(known);
    this.#countNode(pod, 1);
    for (const address of pod.addresses) {
      this.#byAddress.set(keyOf(address), known);
      this.#move(address, 1);
    }
  }

  /** An id has one pod: another one must not take over the containers of an existing pod. */
  #learnContainers(known: KnownPod): void {
    for (const [id, name] of known.pod.containers) {
      const other = this.#byContainer.get(id)?.known;
      if (!other || other === known || other.goneAt !== null) this.#byContainer.set(id, { known, name });
    }
  }

  #forgetContainers(known: KnownPod): void {
    for (const [id] of known.pod.containers)
      if (this.#byContainer.get(id)?.known === known) this.#byContainer.delete(id);
  }

  /** Entries that another pod has taken over stay. */
  #forget(known: KnownPod): void {
    const { pod } = known;
    this.#podValues -= sizeOfPod(pod);
    this.#otherPods = true;
    this.#expectations = null;
    this.#pods.delete(pod.uid);
    if (this.#byHash.get(pod.configHash ?? '') === known) this.#byHash.delete(pod.configHash ?? '');
    this.#forgetContainers(known);
    this.#countNode(pod, -1);
    for (const address of pod.addresses) {
      if (this.#byAddress.get(keyOf(address)) === known) this.#byAddress.delete(keyOf(address));
      this.#move(address, -1);
    }
  }

  #countNode({ nodeAddresses = [] }: Pod, by: 1 | -1): void {
    for (const address of nodeAddresses) {
      const key = keyOf(address);
      const pods = (this.#nodeAddresses.get(key)?.pods ?? 0) + by;
      if (pods > 0) this.#nodeAddresses.set(key, { address, pods });
      else this.#nodeAddresses.delete(key);
      if (pods === 0 || (pods === 1 && by === 1)) this.#move(address, 0);
    }
  }

  /** Records a changed address. `by` counts pod and ClusterIP addresses of its bucket. */
  #move(address: Address, by: number): void {
    this.#moved.add(address[3]);
    if (by === 0) return;
    const bucket = formatCidr(bucketOf(address));
    const count = (this.#buckets.get(bucket) ?? 0) + by;
    if (count > 0) this.#buckets.set(bucket, count);
    else this.#buckets.delete(bucket);
  }
}

const NOTHING: ReadonlySet<string> = new Set();
/** The sandbox container of a pod. It has an id but no container status. */
const SANDBOX = 'POD';
/** The maximum number of kept values of Services and EndpointSlices, such as addresses. Later ones have no name. */
const MOST_SERVICE_VALUES = 200_000;

type Move = (address: Address, by: number) => void;

/** Services, by their own addresses and by their endpoints. */
class Services {
  readonly #move: Move;
  readonly #services = new Map<string, Service>();
  readonly #slices = new Map<string, EndpointSlice>();
  readonly #slicesOf = new Map<string, Set<EndpointSlice>>();
  readonly #byAddress = new Map<string, Set<Service | EndpointSlice>>();
  readonly #byNodePort = new Map<string, Set<Service>>();
  readonly #moveNode: () => void;
  #values = 0;

  /** `move` is called for each address added or removed, `moveNode` when NodePorts change. */
  constructor(move: Move, moveNode: () => void) {
    this.#moveNode = moveNode;
    this.#move = move;
  }

  accept(change: Change<Service>): void {
    if (change.kind === 'replace') for (const service of [...this.#services.values()]) this.#put(service, -1);
    for (const item of change.kind === 'replace' ? change.items : [change.item]) {
      const before = this.#services.get(pathOf(item));
      if (before) this.#put(before, -1);
      if (change.kind !== 'delete' && this.#values + sizeOfService(item) <= MOST_SERVICE_VALUES) this.#put(item, 1);
    }
  }

  acceptSlices(change: Change<EndpointSlice>): void {
    if (change.kind === 'replace') for (const slice of [...this.#slices.values()]) this.#putSlice(slice, -1);
    for (const item of change.kind === 'replace' ? change.items : [change.item]) {
      const before = this.#slices.get(pathOf(item));
      if (before) this.#putSlice(before, -1);
      if (change.kind !== 'delete' && this.#values + sizeOfSlice(item) <= MOST_SERVICE_VALUES) this.#putSlice(item, 1);
    }
  }

  has(key: string): boolean {
    return this.#byAddress.has(key);
  }

  /** Returns the name of the Service at an address and port. */
  nameOf(key: string, port: number, transport: Transport): string | null {
    const best = this.at(key, port, transport);
    return best && `${best.path}:${best.port}`;
  }

  /** Returns the path of the only Service at an address, on any port. */
  soleAt(key: string): string | undefined {
    const paths = new Set(
      Array.from(this.#byAddress.get(key) ?? [], (found) =>
        'service' in found ? servicePathOf(found) : pathOf(found),
      ),
    );
    const [path] = paths;
    return paths.size === 1 ? path : undefined;
  }

  /**
   * Of several Services at one address and port, returns the first by name among those with a ClusterIP, else among
   * all.
   */
  at(key: string, port: number, transport: Transport): { readonly path: string; readonly port: number } | null {
    let best: { readonly path: string; readonly port: number; readonly hasClusterIp: boolean } | null = null;
    for (const found of this.#byAddress.get(key) ?? []) {
      const match = found.ports.find((one) => one.port === port && one.transport === transport);
      if (!match) continue;
      const path = 'service' in found ? servicePathOf(found) : pathOf(found);
      const service = this.#services.get(path);
      const hasClusterIp = service !== undefined && service.clusterAddresses.length > 0;
      if (best === null || (hasClusterIp === best.hasClusterIp ? path < best.path : hasClusterIp))
        best = { path, port: 'service' in found ? portBefore(match, service) : port, hasClusterIp };
    }
    return best;
  }

  /** Returns the name of the Service with a NodePort. */
  nodePortName(nodePort: number, transport: Transport): string | null {
    const [service] = this.#byNodePort.get(`${nodePort} ${transport}`) ?? [];
    const match = service?.ports.find((one) => one.nodePort === nodePort && one.transport === transport);
    return service && match ? `${pathOf(service)}:${match.port}` : null;
  }

  #put(service: Service, by: 1 | -1): void {
    this.#values += by * sizeOfService(service);
    if (by > 0) this.#services.set(pathOf(service), service);
    else this.#services.delete(pathOf(service));
    for (const address of service.clusterAddresses) this.#at(address, service, by, by);
    for (const address of service.otherAddresses) this.#at(address, service, by, 0);
    const onNodes = service.ports.filter(({ nodePort }) => nodePort !== undefined);
    for (const { nodePort, transport } of onNodes) join(this.#byNodePort, `${nodePort} ${transport}`, service, by);
    if (onNodes.length > 0) this.#moveNode();
    // Endpoint names contain the ports of their Service.
    for (const slice of this.#slicesOf.get(pathOf(service)) ?? [])
      for (const address of slice.addresses) this.#move(address, 0);
  }

  #putSlice(slice: EndpointSlice, by: 1 | -1): void {
    if (by > 0) this.#slices.set(pathOf(slice), slice);
    else this.#slices.delete(pathOf(slice));
    join(this.#slicesOf, servicePathOf(slice), slice, by);
    this.#values += by * sizeOfSlice(slice);
    for (const address of slice.addresses) this.#at(address, slice, by, 0);
  }

  #at(address: Address, found: Service | EndpointSlice, by: 1 | -1, own: number): void {
    join(this.#byAddress, keyOf(address), found, by);
    this.#move(address, own);
  }
}

/** Adds a value to, or removes it from, the set under a key. */
function join<T>(sets: Map<string, Set<T>>, key: string, value: T, by: 1 | -1): void {
  const all = sets.get(key) ?? new Set();
  if (by > 0) sets.set(key, all.add(value));
  else if (all.delete(value) && all.size === 0) sets.delete(key);
}

function pathOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}

function servicePathOf({ namespace, service }: EndpointSlice): string {
  return `${namespace}/${service}`;
}

/** An endpoint is named by the port of its Service, so that both ends of a connection have the same name. */
function portBefore({ name, port, transport }: ServicePort, service: Service | undefined): number {
  return service?.ports.find((one) => one.name === name && one.transport === transport)?.port ?? port;
}

function keyOf(address: Address): string {
  return address.join(' ');
}
