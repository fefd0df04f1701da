import { parseAddress } from '../../common/address.ts';
import { cleanLabel } from '../../common/sanitize.ts';
import type { Address, WorkloadRule } from '../../model.ts';
import { listIn, objectIn, textIn, type ApiObject } from './list-parser.ts';
import { parseExpectations } from '../../unusual/grammar/what.ts';
import { workloadOfPod } from './pod-workload.ts';

/** The parts of a pod object that are kept. */
export interface Pod {
  readonly uid: string;
  /** The id of a static pod in cgroup paths; null for other pods. */
  readonly configHash: string | null;
  readonly namespace: string;
  readonly name: string;
  readonly workload: string;
  /** The hash of its template; absent if its controller gives none. */
  readonly template?: string;
  /** The labels and annotations that rules match; absent without such rules. */
  readonly kept?: { readonly labels: Kept; readonly annotations: Kept };
  /** What the annotation `peerscope.dev/expects` declares as normal; absent without it, or if it is not read. */
  readonly expects?: PodExpectations;
  /** The pod's own addresses. Empty if it uses the host network, or if it has ended and its addresses may be reused. */
  readonly addresses: readonly Address[];
  /** The addresses of its node; absent before the pod runs. */
  readonly nodeAddresses?: readonly Address[];
  /** The id and name of each container, including the id of its last run. */
  readonly containers: readonly (readonly [id: string, name: string])[];
  /** The name of the only container; null if there are several. */
  readonly onlyContainer: string | null;
}

type Kept = Readonly<Record<string, string>>;

/** Canonical values of `what`, and an error message for each value that was ignored. */
export interface PodExpectations {
  readonly values: readonly string[];
  readonly problems: readonly string[];
}

/** The keys of labels and annotations that rules match, and whether the annotation `peerscope.dev/expects` is read. */
export interface PodKeys {
  readonly labels: ReadonlySet<string>;
  readonly annotations: ReadonlySet<string>;
  readonly expects?: boolean;
}

/** A label value has at most 63 characters. */
const MAX_HASH = 63;
/** A uid has 36 characters, a configuration hash 32, and the id of a container 64. */
const MAX_ID = 128;
/** A longer annotation is cut. */
const MAX_ANNOTATION = 1000;
/** In bytes; values that begin later are ignored. */
const MAX_EXPECTS = 8192;
/** Messages about the values of one annotation. */
const MAX_PROBLEMS = 10;

const EXPECTS = 'peerscope.dev/expects';

/** Returns the keys that these rules match. */
export function podKeysOf(rules: readonly WorkloadRule[], expects = false): PodKeys {
  return {
    expects,
    labels: new Set(rules.flatMap(({ labels = {} }) => Object.keys(labels))),
    annotations: new Set(rules.flatMap(({ annotations = {} }) => Object.keys(annotations))),
  };
}

/** How many values are kept of a pod, about. */
export function sizeOfPod({ addresses, nodeAddresses = [], containers, expects }: Pod): number {
  return 1 + addresses.length + nodeAddresses.length + containers.length + (expects?.values.length ?? 0);
}

function keptIn(values: ApiObject, keys: ReadonlySet<string>): Kept {
  const found = [...keys].filter((key) => Object.hasOwn(values, key) && typeof values[key] === 'string');
  return Object.fromEntries(found.map((key) => [key, textIn(values[key]).slice(0, MAX_ANNOTATION)]));
}

function expectationsIn(annotations: ApiObject): PodExpectations | null {
  if (!Object.hasOwn(annotations, EXPECTS)) return null;
  const given = Buffer.from(textIn(annotations[EXPECTS]));
  const isLong = given.length > MAX_EXPECTS;
  // A value that is cut in two would be another value.
  const text = given.subarray(0, isLong ? Math.max(0, given.lastIndexOf(',', MAX_EXPECTS)) : given.length).toString();
  const { values, problems } = parseExpectations(text);
  const tooLong = `Cannot read all expected values: the annotation is longer than ${MAX_EXPECTS} bytes`;
  return { values: [...values], problems: [...(isLong ? [tooLong] : []), ...problems].slice(0, MAX_PROBLEMS) };
}

/** Returns the node that a pod object of the API is assigned to. */
export function nodeOfPod(object: unknown): string {
  return textIn(objectIn(objectIn(object)['spec'])['nodeName']);
}

/** Parses a pod object of the API and keeps the labels and annotations in `keys`; null if uid, namespace or name is missing. */
export function readPod(object: unknown, keys?: PodKeys): Pod | null {
  const pod = objectIn(object);
  const metadata = objectIn(pod['metadata']);
  const spec = objectIn(pod['spec']);
  const status = objectIn(pod['status']);
  const [uid, namespace, name] = [metadata['uid'], metadata['namespace'], metadata['name']].map(textIn);
  if (!uid || !namespace || !name || uid.length > MAX_ID) return null;
  const annotations = objectIn(metadata['annotations']);
  const hash = textIn(annotations['kubernetes.io/config.hash']) || textIn(annotations['kubernetes.io/config.mirror']);
  const ended = ['Succeeded', 'Failed'].includes(textIn(status['phase']));
  const names = [...listIn(spec['initContainers']), ...listIn(spec['containers'])].map((one) => nameOf(objectIn(one)));
  const hosts = [status['hostIP'], ...listIn(status['hostIPs']).map((one) => objectIn(one)['ip'])].map(textIn);
  const nodeAddresses = [...new Set(hosts)].map(parseAddress).filter((address) => address !== undefined);
  const template = templateOf(objectIn(metadata['labels']));
  const isKept = keys !== undefined && keys.labels.size + keys.annotations.size > 0;
  const kept = isKept && {
    labels: keptIn(objectIn(metadata['labels']), keys.labels),
    annotations: keptIn(annotations, keys.annotations),
  };
  const expects = keys?.expects === true ? expectationsIn(annotations) : null;
  return {
    ...(kept && { kept }),
    ...(expects && { expects }),
    uid,
    configHash: hash === '' || hash.length > MAX_ID ? null : hash,
    namespace: cleanLabel(namespace),
    name: cleanLabel(name),
    workload: cleanLabel(workloadOfPod(metadata)),
    ...(template !== undefined && { template }),
    addresses: spec['hostNetwork'] === true || ended ? [] : addressesOf(status),
    ...(nodeAddresses.length > 0 && { nodeAddresses }),
    containers: ['containerStatuses', 'initContainerStatuses', 'ephemeralContainerStatuses'].flatMap((kind) =>
      listIn(status[kind]).flatMap((one) => containersOf(objectIn(one))),
    ),
    onlyContainer: names.length === 1 ? (names[0] ?? null) : null,
  };
}

/** Source: the labels that the controllers of Deployments, StatefulSets, DaemonSets and Argo Rollouts set. */
function templateOf(labels: ApiObject): string | undefined {
  const keys = ['pod-template-hash', 'controller-revision-hash', 'rollouts-pod-template-hash'];
  return keys
    .map((key) => textIn(labels[key]))
    .find((text) => text !== '')
    ?.slice(0, MAX_HASH);
}

function addressesOf(status: ApiObject): Address[] {
  const texts = [status['podIP'], ...listIn(status['podIPs']).map((one) => objectIn(one)['ip'])].map(textIn);
  return [...new Set(texts)].map(parseAddress).filter((address) => address !== undefined);
}

function containersOf(status: ApiObject): [id: string, name: string][] {
  const terminated = objectIn(objectIn(status['lastState'])['terminated']);
  const ids = [status['containerID'], terminated['containerID']].map((id) => textIn(id).replace(/^.*:\/\//, ''));
  return ids.filter((id) => id !== '' && id.length <= MAX_ID).map((id) => [id, nameOf(status)]);
}

function nameOf(container: ApiObject): string {
  return cleanLabel(textIn(container['name']));
}
