import type { Manifest } from './manifests.ts';

/** Labels that say who installed an object, and select no more and no less than the name and the component. */
const INSTALLER = /^(?:app\.kubernetes\.io\/(?:instance|version|part-of|managed-by)|helm\.sh\/chart)$/;
/** kustomize puts a hash into the names of ConfigMaps, and Helm an annotation into the pods that use them. */
const HASH = /-[2456789bcdfghkmt]{10}$/;
const CHECKSUM = /^checksum\//;
/** Lists whose order means nothing, with what names an entry. */
const SETS = new Set(['env', 'volumes', 'volumeMounts', 'args', 'items', 'allowedCapabilities', 'ports']);

/** The objects of an installation by kind and name, so that what kustomize and Helm make can be compared. */
export function comparable(manifests: readonly Manifest[]): Record<string, unknown> {
  return Object.fromEntries(
    manifests
      .map((manifest): [string, unknown] => {
        const { kind, metadata } = manifest;
        const {
          name,
          namespace,
          labels = {},
          annotations = {},
        } = metadata as typeof metadata & {
          labels?: Readonly<Record<string, string>>;
          annotations?: Readonly<Record<string, string>>;
        };
        // The labels of an object that selectors look for are on Services and in pod templates.
        const own = kind === 'Service' ? labels : withoutKeys(labels, /^app\.kubernetes\.io\/(?:name|component)$/);
        const plain = { ...metadata, labels: own, annotations };
        // kustomize takes custom resources for namespaced, and the server drops the namespace of those that are not.
        const place = /^(?:SecurityContextConstraints|AllowlistSynchronizer|ClusterPodMonitoring)$/.test(kind)
          ? ''
          : namespace;
        const object = walk({ ...manifest, metadata: { ...plain, namespace: place } }, '');
        return [`${kind} ${name.replace(HASH, '')}`, object];
      })
      .sort(([one], [other]) => (one < other ? -1 : 1)),
  );
}

function walk(value: unknown, key: string): unknown {
  if (typeof value === 'string')
    return key === 'name' ? value.replace(HASH, '') : key === 'peerscope.yaml' ? uncommented(value) : value;
  if (Array.isArray(value)) {
    const items = value.map((item) => walk(item, ''));
    return SETS.has(key) ? items.sort((one, other) => (JSON.stringify(one) < JSON.stringify(other) ? -1 : 1)) : items;
  }
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value)
    .filter(([name]) => !(/[lL]abels$|selector|annotations/.test(key) && (INSTALLER.test(name) || CHECKSUM.test(name))))
    .map(([name, inner]): [string, unknown] => [name, walk(inner, name)])
    .filter(([name, inner]) => !(/^(?:labels|annotations|namespace)$/.test(name) && isEmpty(inner)));
  return Object.fromEntries(entries.sort(([one], [other]) => (one < other ? -1 : 1)));
}

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === '' ||
  (typeof value === 'object' && value !== null && Object.keys(value).length === 0);

const uncommented = (text: string): string => text.replaceAll(/^#.*\n?/gm, '');

const withoutKeys = (labels: Readonly<Record<string, string>>, keys: RegExp): Record<string, string> =>
  Object.fromEntries(Object.entries(labels).filter(([key]) => !keys.test(key)));
