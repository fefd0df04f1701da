import type { Manifest } from './manifests.ts';

type Fields = Readonly<Record<string, unknown>>;
type Labels = Readonly<Record<string, string>>;

interface Container {
  readonly ports?: readonly { readonly name: string }[];
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: Fields }[];
}

/** The fields of a workload's pods that other objects refer to. */
interface Pods {
  readonly labels: Labels;
  readonly containers: readonly Container[];
}

/** kustomize takes custom resources for namespaced. The server drops the namespace of those that are not. */
const CLUSTER_WIDE =
  /^(?:Namespace|ClusterRole|ClusterRoleBinding|SecurityContextConstraints|AllowlistSynchronizer|ClusterPodMonitoring)$/;
/** Custom resources, which the server stores as they are. */
const CUSTOM =
  /^(?:PodMonitor|ServiceMonitor|PrometheusRule|SecurityContextConstraints|AllowlistSynchronizer|ClusterPodMonitoring)$/;

/** The Secrets that the user creates, with their keys. */
export type GivenSecrets = Readonly<Record<string, readonly string[]>>;
export const GIVEN_SECRETS: GivenSecrets = {
  'peerscope-valkey': ['exporter-password', 'admin-password'],
  'peerscope-valkey-tls': ['ca.crt', 'tls.crt', 'tls.key'],
};

/** All objects within a value, with the key that each stands under. */
function* objectsIn(value: unknown, key = ''): Generator<{ key: string; object: Fields }> {
  if (typeof value !== 'object' || value === null) return;
  if (!Array.isArray(value)) yield { key, object: value as Fields };
  for (const [name, inner] of Object.entries(value)) yield* objectsIn(inner, Array.isArray(value) ? key : name);
}

const podsOf = (manifest: Manifest): Pods[] => {
  const { labels = {} } = manifest.metadata as { labels?: Labels };
  if (manifest.kind === 'Pod') return [{ ...(manifest['spec'] as Pods), labels }];
  const template = (manifest['spec'] as { template?: { metadata: { labels: Labels }; spec: Pods } } | undefined)
    ?.template;
  return template ? [{ labels: template.metadata.labels, containers: template.spec.containers }] : [];
};

const selects = (selector: Labels, labels: Labels): boolean =>
  Object.entries(selector).every(([key, value]) => labels[key] === value);

/**
 * What in the objects of an overlay refers to an object that is not among them, or stands in another namespace: by name, by key,
 * by labels, by port, and by the host of the store's URL. One line each.
 */
export function danglingReferences(
  manifests: readonly Manifest[],
  namespace: string,
  given: GivenSecrets = GIVEN_SECRETS,
): string[] {
  const find = (kind: string, name: unknown): Manifest | undefined =>
    manifests.find((one) => one.kind === kind && one.metadata.name === name);
  const findSecret = (name: unknown): Fields | undefined =>
    (find('Secret', name)?.['data'] as Fields | undefined) ??
    (given[String(name)] && Object.fromEntries(given[String(name)]?.map((key) => [key, 'given']) ?? []));
  const pods = manifests.flatMap(podsOf);
  const problems: string[] = [];

  for (const manifest of manifests) {
    const { kind, metadata } = manifest;
    const demand = (holds: boolean, what: string): void => {
      if (!holds) problems.push(`${kind} ${metadata.name}: ${what}`);
    };
    const demandKey = (of: string, name = '', key: unknown): void => {
      const data = of === 'Secret' ? findSecret(name) : (find(of, name)?.['data'] as Fields | undefined);
      demand(data?.[String(key)] !== undefined, `no key ${String(key)} of ${of} ${name}`);
    };
    if (!CLUSTER_WIDE.test(kind)) demand(metadata.namespace === namespace, `in namespace ${metadata.namespace}`);
    for (const { key, object } of objectsIn(manifest)) {
      const { name, secretName, items } = object as { name?: string; secretName?: string; items?: readonly Fields[] };
      if (key === 'subjects' || key === 'roleRef')
        demand(!!find(String(object['kind']), name), `no ${key} ${name ?? ''}`);
      if (key === 'subjects') demand(object['namespace'] === namespace, 'a subject of another namespace');
      if (object['serviceAccountName'] !== undefined)
        demand(!!find('ServiceAccount', object['serviceAccountName']), 'no ServiceAccount');
      if (/^configMap(?:Ref)?$/.test(key)) demand(!!find('ConfigMap', name), `no ConfigMap ${name}`);
      if (/^secretRef$/.test(key)) demand(!!findSecret(name), `no Secret ${name}`);
      if (key === 'configMapKeyRef') demandKey('ConfigMap', name, object['key']);
      if (key === 'secretKeyRef') demandKey('Secret', name, object['key']);
      // A volume, or a source of a projected volume.
      const secret = secretName ?? (key === 'secret' ? name : undefined);
      if (secret !== undefined) {
        demand(!!findSecret(secret), `no Secret ${secret}`);
        for (const item of items ?? []) demandKey('Secret', secret, item['key']);
      }
      if (key === 'podSelector') demand(selectsPods(object['matchLabels'] as Labels), 'selects no pod');
    }
    const {
      selector = {},
      ports = [],
      ...spec
    } = (manifest['spec'] ?? {}) as {
      selector?: Fields;
      ports?: readonly { targetPort: string; port: number }[];
      podMetricsEndpoints?: readonly { port: string }[];
      endpoints?: readonly { port: string }[];
    };
    if (kind === 'Service')
      for (const { targetPort } of ports) demand(selectsPods(selector as Labels, targetPort), `no port ${targetPort}`);
    for (const { port } of spec.podMetricsEndpoints ?? [])
      demand(selectsPods(selector['matchLabels'] as Labels, port), `scrapes no port ${port}`);
    for (const { port } of spec.endpoints ?? [])
      if (kind === 'ClusterPodMonitoring')
        demand(selectsPods(selector['matchLabels'] as Labels, port), `scrapes no port ${port}`);
      else demand(selectsService(selector['matchLabels'] as Labels, port), 'no Service');
    for (const { labels, containers } of podsOf(manifest)) {
      if (kind !== 'Pod') demand(selects(selector['matchLabels'] as Labels, labels), 'does not select its own pods');
      for (const { env = [] } of containers) demandStore(env, demand);
    }
  }
  return problems;

  function selectsPods(selector: Labels, port?: string): boolean {
    const hasPort = ({ ports = [] }: Container): boolean => ports.some(({ name }) => name === port);
    const found = pods.filter(({ labels }) => selects(selector, labels));
    // What is allowed to a component that is not there is no reference to it.
    const isOther = selector['app.kubernetes.io/component'] === 'valkey' && !manifests.some(isStore);
    return isOther || found.some(({ containers }) => port === undefined || containers.some(hasPort));
  }

  function isStore({ kind, metadata }: Manifest): boolean {
    return kind === 'Deployment' && metadata.name.includes('valkey');
  }

  function selectsService(selector: Labels, port: string): boolean {
    return manifests.some(({ kind, metadata, spec }) => {
      const { labels = {} } = metadata as { labels?: Labels };
      const { ports = [] } = (spec ?? {}) as { ports?: readonly { name: string }[] };
      return kind === 'Service' && selects(selector, labels) && ports.some(({ name }) => name === port);
    });
  }

  /** Expands the store's URL as the kubelet does, and demands the Service, TLS, and the user that it names. */
  function demandStore(env: Container['env'] & object, demand: (holds: boolean, what: string) => void): void {
    const values = new Map<string, string>();
    for (const { name, value = '', valueFrom } of env) {
      const expanded = value.replace(/\$\((\w+)\)/g, (whole, variable: string) => values.get(variable) ?? whole);
      values.set(name, valueFrom?.['secretKeyRef'] ? 'from-secret' : expanded);
    }
    const text = values.get('PEERSCOPE_STORAGE_URL');
    if (text === undefined || text === 'from-secret') return;
    const url = new URL(text);
    const service = find('Service', url.hostname)?.['spec'] as { ports: readonly { port: number }[] } | undefined;
    demand(service?.ports.some(({ port }) => String(port) === url.port) ?? false, `no store at ${url.host}`);
    demand(url.protocol === 'rediss:', `no TLS in "${text}"`);
    demand(url.password === 'from-secret', `a password in "${text}"`);
    const users = manifests.flatMap(
      ({ data }) => (data as Readonly<Record<string, string>> | undefined)?.['users.acl'] ?? [],
    );
    demand(
      users.some((lines) => lines.includes(`user ${url.username} on `)),
      `the store has no user "${url.username}"`,
    );
  }
}

/** Fields that are kept by the server though they are empty or false: each is a pointer in its own types. */
const KEPT = new Set([
  'allowPrivilegeEscalation',
  'automountServiceAccountToken',
  'emptyDir',
  'enableServiceLinks',
  'podSelector',
  'readOnlyRootFilesystem',
  'runAsNonRoot',
]);
const QUANTITY = new Set(['cpu', 'memory', 'sizeLimit']);

/** The fields of an object that the server stores in another way than they are written, so that each apply changes them. */
export function unstableFields(manifest: Manifest): string[] {
  if (CUSTOM.test(manifest.kind)) return [];
  return walk({ ...manifest, data: 'of a ConfigMap or Secret' }, `${manifest.kind} ${manifest.metadata.name}`);
}

function walk(value: unknown, path: string): string[] {
  const key = path.slice(path.lastIndexOf('.') + 1);
  const isEmpty = typeof value === 'object' && value !== null && Object.keys(value).length === 0;
  const isField = Number.isNaN(Number(key));
  if (isField && (!value || isEmpty) && !KEPT.has(key)) return [`${path}: the server drops ${JSON.stringify(value)}`];
  if (QUANTITY.has(key) && !isCanonical(String(value)))
    return [`${path}: the server writes ${String(value)} differently`];
  if (typeof value !== 'object' || value === null) return [];
  const missing = key === 'fieldRef' && !('apiVersion' in value) ? [`${path}: the server adds apiVersion`] : [];
  return [...missing, ...Object.entries(value).flatMap(([name, inner]) => walk(inner, `${path}.${name}`))];
}

/** Whether a quantity has the largest unit in which it is whole. */
function isCanonical(quantity: string): boolean {
  const [, digits = '', unit = ''] = /^([1-9]\d*)(m|[KMGT]i)?$/.exec(quantity) ?? [];
  return digits !== '' && (unit === '' || Number(digits) % (unit === 'm' ? 1000 : 1024) !== 0);
}
