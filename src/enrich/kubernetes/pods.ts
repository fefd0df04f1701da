import { parseAddress } from '../../common/address.ts';
import { cleanLabel } from '../../common/sanitize.ts';
import type { Address } from '../../model.ts';
import { listIn, objectIn, textIn, type ApiObject } from './list-parser.ts';

/** The parts of a pod object that are kept. */
export interface Pod {
  readonly uid: string;
  /** The id of a static pod in cgroup paths; null for other pods. */
  readonly configHash: string | null;
  readonly namespace: string;
  readonly name: string;
  readonly workload: string;
  /** The pod's own addresses. Empty if it uses the host network, or if it has ended and its addresses may be reused. */
  readonly addresses: readonly Address[];
  /** The id and name of each container, including the id of its last run. */
  readonly containers: readonly (readonly [id: string, name: string])[];
  /** The name of the only container; null if there are several. */
  readonly onlyContainer: string | null;
}

/** Parses a pod object of the API; null if uid, namespace or name is missing. */
export function readPod(object: unknown): Pod | null {
  const pod = objectIn(object);
  const metadata = objectIn(pod['metadata']);
  const spec = objectIn(pod['spec']);
  const status = objectIn(pod['status']);
  const [uid, namespace, name] = [metadata['uid'], metadata['namespace'], metadata['name']].map(textIn);
  if (!uid || !namespace || !name) return null;
  const annotations = objectIn(metadata['annotations']);
  const hash = textIn(annotations['kubernetes.io/config.hash']) || textIn(annotations['kubernetes.io/config.mirror']);
  const ended = ['Succeeded', 'Failed'].includes(textIn(status['phase']));
  const names = [...listIn(spec['initContainers']), ...listIn(spec['containers'])].map((one) => nameOf(objectIn(one)));
  return {
    uid,
    configHash: hash === '' ? null : hash,
    namespace: cleanLabel(namespace),
    name: cleanLabel(name),
    workload: cleanLabel(workloadOfPod(metadata)),
    addresses: spec['hostNetwork'] === true || ended ? [] : addressesOf(status),
    containers: ['containerStatuses', 'initContainerStatuses', 'ephemeralContainerStatuses'].flatMap((kind) =>
      listIn(status[kind]).flatMap((one) => containersOf(objectIn(one))),
    ),
    onlyContainer: names.length === 1 ? (names[0] ?? null) : null,
  };
}

function addressesOf(status: ApiObject): Address[] {
  const texts = [status['podIP'], ...listIn(status['podIPs']).map((one) => objectIn(one)['ip'])].map(textIn);
  return [...new Set(texts)].map(parseAddress).filter((address) => address !== undefined);
}

function containersOf(status: ApiObject): [id: string, name: string][] {
  const terminated = objectIn(objectIn(status['lastState'])['terminated']);
  const ids = [status['containerID'], terminated['containerID']].map((id) => textIn(id).replace(/^.*:\/\//, ''));
  return ids.filter((id) => id !== '').map((id) => [id, nameOf(status)]);
}

function nameOf(container: ApiObject): string {
  return cleanLabel(textIn(container['name']));
}

/**
 * Returns the workload of a pod from its controller, never from the pod name, which the API server may truncate: the
 * Deployment of a ReplicaSet and the CronJob of a Job, by the naming rules of their controllers; a static pod without
 * its node; else the controller itself; else the pod.
 */
function workloadOfPod(metadata: ApiObject): string {
  const controller = listIn(metadata['ownerReferences'])
    .map(objectIn)
    .find((owner) => owner['controller'] === true);
  if (!controller) return textIn(metadata['name']);
  const name = textIn(controller['name']);
  switch (controller['kind']) {
    case 'ReplicaSet': {
      const labels = objectIn(metadata['labels']);
      const hash = textIn(labels['pod-template-hash']) || textIn(labels['rollouts-pod-template-hash']);
      return hash === '' ? name : without(name, `-${hash}`);
    }
    case 'Job':
      return cronJobOf(name, Date.parse(textIn(metadata['creationTimestamp']))) ?? name;
    case 'Node':
      return without(textIn(metadata['name']), `-${name}`);
    default:
      return name;
  }
}

function without(name: string, end: string): string {
  return name.endsWith(end) && name.length > end.length ? name.slice(0, -end.length) : name;
}

/** The maximum delay of a Job or of a recreated pod. */
const LATEST_MINUTES = 7 * 24 * 60;
/** Clocks of the control plane may differ. */
const SKEW_MINUTES = 5;

/** A CronJob appends the scheduled minute (since 1970) to the names of its Jobs. */
function cronJobOf(job: string, createdAt: number): string | null {
  const [, name, minute] = /^(.+)-(\d{8,9})$/.exec(job) ?? [];
  const late = createdAt / 60_000 - Number(minute);
  return name !== undefined && late > -SKEW_MINUTES && late < LATEST_MINUTES ? name : null;
}
