import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { Ajv, type AnySchemaObject, type ValidateFunction } from 'ajv';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { danglingReferences, unstableFields } from '../support/manifest-checks.ts';
import {
  filesOf,
  parseDocuments,
  readDocument,
  readText,
  ROOT,
  type Manifest,
  type Workload,
} from '../support/manifests.ts';

/** Where .ci/run unpacks tools. */
const TOOLS = join(ROOT, '.cache/deploy/usr');
const SCHEMA = join(TOOLS, 'share/gocode/src/k8s.io/kubectl/testdata/openapi/swagger.json');

/** The first of these commands that can be started; where none can, says so. */
function find(what: string, commands: readonly (readonly string[])[]): readonly string[] | null {
  const found = commands.find(([command = '', ...args]) => !spawnSync(command, [...args, '--help']).error);
  if (found) return found;
  process.stderr.write(`SKIPPED: ${what} is neither installed nor in ${TOOLS}; .ci/run fetches it\n`);
  return null;
}

const OWN_KUSTOMIZE = join(TOOLS, 'bin/kustomize');
const KUSTOMIZE = find('kustomize', [
  [OWN_KUSTOMIZE, 'build'],
  ['kustomize', 'build'],
  ['kubectl', 'kustomize'],
]);

const COMPONENTS = filesOf('deploy/k8s/components/*/kustomization.yaml').map((path) => basename(dirname(path)));

/** What `kustomize build` makes of a folder. */
function build(folder: string): Manifest[] {
  const [command = '', ...args] = KUSTOMIZE ?? [];
  const { status, stdout, stderr } = spawnSync(command, [...args, folder], { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`Cannot build "${folder}": ${stderr}`);
  return parseDocuments<Manifest>(stdout);
}

/** The custom resources that are shipped, as far as their keys are used: https://prometheus-operator.dev/docs/api-reference/api/ */
const labels = z.record(z.string(), z.string());
const metadata = z.strictObject({ name: z.string(), namespace: z.string().optional(), labels: labels.optional() });
const relabeling = z.strictObject({
  action: z.enum(['replace', 'labeldrop', 'keep', 'drop']),
  regex: z.string().optional(),
  sourceLabels: z.array(z.string()).optional(),
  targetLabel: z.string().optional(),
});
const endpoint = z.strictObject({
  port: z.string(),
  path: z.string(),
  interval: z.string().regex(/^\d+s$/),
  scrapeTimeout: z.string().regex(/^\d+s$/),
  honorLabels: z.boolean(),
  relabelings: z.array(relabeling),
});
const monitor = { jobLabel: z.string(), selector: z.strictObject({ matchLabels: labels }) };
const rule = {
  expr: z.string(),
  labels: labels.optional(),
};
const annotations = z.strictObject({
  summary: z.string(),
  description: z.string(),
  runbook_url: z.string(),
});
const rules = z.array(
  z.union([
    z.strictObject({ ...rule, record: z.string() }),
    z.strictObject({
      ...rule,
      alert: z.string(),
      for: z.string().optional(),
      keep_firing_for: z.string().optional(),
      annotations,
    }),
  ]),
);
const group = z.strictObject({ name: z.string(), interval: z.string().optional(), rules });
const operator = <T extends z.ZodType>(kind: string, spec: T) =>
  z.strictObject({ apiVersion: z.literal('monitoring.coreos.com/v1'), kind: z.literal(kind), metadata, spec });
const CUSTOM: Readonly<Record<string, z.ZodType>> = {
  PodMonitor: operator('PodMonitor', z.strictObject({ ...monitor, podMetricsEndpoints: z.array(endpoint) })),
  ServiceMonitor: operator('ServiceMonitor', z.strictObject({ ...monitor, endpoints: z.array(endpoint) })),
  PrometheusRule: operator('PrometheusRule', z.strictObject({ groups: z.array(group) })),
};

interface Kustomization {
  readonly resources: readonly string[];
  readonly components: readonly string[];
}

interface Definition {
  readonly properties?: object;
  readonly additionalProperties?: unknown;
  readonly 'x-kubernetes-group-version-kind'?: readonly {
    readonly group: string;
    readonly version: string;
    readonly kind: string;
  }[];
}

/** What Kubernetes 1.30 added, and the description that Debian ships does not know. */
const NEWER: Readonly<Record<string, AnySchemaObject>> = {
  'io.k8s.api.core.v1.SecurityContext': {
    appArmorProfile: {
      type: 'object',
      properties: {
        type: { enum: ['Unconfined', 'RuntimeDefault', 'Localhost'] },
        localhostProfile: { type: 'string' },
      },
      additionalProperties: false,
    },
  },
};

/** The API server's own description of its objects, made strict: a key that it does not know is an error. */
class Schema {
  readonly #ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
  readonly #names = new Map<string, string>();

  constructor() {
    const { definitions } = JSON.parse(readFileSync(SCHEMA, 'utf8')) as { definitions: Record<string, Definition> };
    const strict = Object.entries(definitions).map(([name, definition]): [string, AnySchemaObject] => {
      if (/\.(IntOrString|Quantity)$/.test(name)) return [name, { type: ['integer', 'number', 'string'] }];
      if (!definition.properties || 'additionalProperties' in definition) return [name, definition];
      const properties = { ...definition.properties, ...NEWER[name] };
      return [name, { ...definition, properties, additionalProperties: false }];
    });
    this.#ajv.addSchema({ $id: 'kubernetes', definitions: Object.fromEntries<AnySchemaObject>(strict) });
    for (const [name, definition] of Object.entries(definitions))
      for (const { group, version, kind } of definition['x-kubernetes-group-version-kind'] ?? [])
        this.#names.set(`${group === '' ? '' : `${group}/`}${version} ${kind}`, name);
  }

  /** What is wrong with an object, one line each. */
  problems(manifest: Manifest): string[] {
    const { apiVersion, kind } = manifest;
    const custom = CUSTOM[kind];
    if (custom)
      return (
        custom.safeParse(manifest).error?.issues.map(({ path, message }) => `${kind} ${path.join('.')}: ${message}`) ??
        []
      );
    const name = this.#names.get(`${apiVersion} ${kind}`);
    const validate = name && (this.#ajv.getSchema(`kubernetes#/definitions/${name}`) as ValidateFunction | undefined);
    if (!validate) return [`${apiVersion} ${kind}: no schema`];
    validate(manifest);
    return (validate.errors ?? []).map(
      ({ instancePath, message = '', params }) => `${kind} ${instancePath}: ${message} ${JSON.stringify(params)}`,
    );
  }
}

describe.skipIf(KUSTOMIZE === null)('with kustomize', () => {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-kustomize-'));
  let schema: Schema | null = null;

  beforeAll(() => {
    if (existsSync(SCHEMA)) schema = new Schema();
    else process.stderr.write(`SKIPPED: strict check of manifests: missing ${SCHEMA}; .ci/run fetches it\n`);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const below = (path: string): string => relative(folder, join(ROOT, 'deploy/k8s', path));

  /** What kustomize makes of an overlay of one's own. */
  function buildOverlay(overlay: object): Manifest[] {
    const header = { apiVersion: 'kustomize.config.k8s.io/v1beta1', kind: 'Kustomization' };
    writeFileSync(join(folder, 'kustomization.yaml'), JSON.stringify({ ...header, ...overlay }));
    return build(folder);
  }

  /** The base with components, as an overlay of one's own would take them. */
  function compose(components: readonly string[], more: object = { namespace: 'peerscope' }): Manifest[] {
    const taken = components.map((component) => below(`components/${component}`));
    return buildOverlay({ resources: [below('base')], components: taken, ...more });
  }

  const daemonSetOf = (manifests: readonly Manifest[]): Workload => {
    const found = manifests.find(({ kind, metadata }) => kind === 'DaemonSet' && metadata.name !== 'peerscope-sockets');
    if (!found) throw new Error('no DaemonSet');
    return found as Workload;
  };
  const identitiesOf = (manifests: readonly Manifest[]): string[] =>
    manifests.map(({ kind, metadata }) => `${kind} ${metadata.name.replace(/-[2456789bcdfghkmt]{10}$/, '')}`).sort();

  const BASE = ['ConfigMap peerscope', 'DaemonSet peerscope', 'ServiceAccount peerscope'];
  const VALKEY = ['ConfigMap', 'Deployment', 'NetworkPolicy', 'Secret', 'Service'].map(
    (kind) => `${kind} peerscope-valkey`,
  );
  const METADATA = ['ClusterRole peerscope', 'ClusterRoleBinding peerscope'];
  const RULES = filesOf('deploy/prometheus/*.rules.yml').map(
    (path) => `PrometheusRule ${basename(path, '.rules.yml')}`,
  );
  const DASHBOARDS = filesOf('grafana/dashboards/*.json').map((path) => `ConfigMap ${basename(path, '.json')}`);
  const ADDED: Readonly<Record<string, readonly string[]>> = {
    dashboards: DASHBOARDS,
    metadata: METADATA,
    namespace: ['Namespace peerscope'],
    networkpolicy: ['NetworkPolicy peerscope'],
    otlp: [],
    podmonitor: ['PodMonitor peerscope'],
    rules: RULES,
    servicemonitor: ['Service peerscope', 'ServiceMonitor peerscope'],
    'state-hostpath': [],
    traffic: ['DaemonSet peerscope-sockets'],
    unprivileged: [],
    valkey: VALKEY,
  };

  it('each component adds only its own objects to the base, each strictly valid and in the namespace', () => {
    expect(Object.keys(ADDED)).toEqual(COMPONENTS);
    for (const components of [[], ...COMPONENTS.map((component) => [component]), COMPONENTS]) {
      const manifests = compose(components);
      const added = components.flatMap((component) => ADDED[component] ?? []);
      expect(identitiesOf(manifests), components.join()).toEqual([...BASE, ...added].sort());
      expect(
        manifests.flatMap((manifest) => schema?.problems(manifest) ?? []),
        components.join(),
      ).toEqual([]);
      const elsewhere = manifests.filter(
        ({ kind, metadata }) => !/^(Namespace|ClusterRole.*)$/.test(kind) && metadata.namespace !== 'peerscope',
      );
      expect(elsewhere.map(({ metadata }) => metadata)).toEqual([]);
    }
  });

  it.each([
    { overlay: 'example', added: ['metadata', 'networkpolicy', 'valkey'] },
    { overlay: 'operator', added: ['dashboards', 'metadata', 'networkpolicy', 'podmonitor', 'rules', 'valkey'] },
  ])('the overlay $overlay is strictly valid, and what it is said to be', ({ overlay, added }) => {
    const manifests = build(join(ROOT, 'deploy/k8s/overlays', overlay));
    expect(identitiesOf(manifests)).toEqual([...BASE, ...added.flatMap((component) => ADDED[component] ?? [])].sort());
    expect(manifests.flatMap((manifest) => schema?.problems(manifest) ?? [])).toEqual([]);
    const [container] = daemonSetOf(manifests).spec.template.spec.containers;
    expect(container?.args).toContain('--asn.provider=cymru');
    const variables = ['NODE_NAME', 'PEERSCOPE_STORAGE_URL', 'POD_UID', 'VALKEY_HOST', 'VALKEY_PASSWORD'];
    expect(container?.env?.map(({ name }) => name).sort()).toEqual(variables);
  });

  const OVERLAYS = filesOf('deploy/k8s/overlays/*/kustomization.yaml').map((path) => basename(dirname(path)));
  const elsewhere = { namespace: 'monitoring', namePrefix: 'x-', nameSuffix: '-y' };
  /** A copy of an overlay, as a user changes it. */
  const copyOf = (overlay: string): object => {
    const copy = readDocument(`deploy/k8s/overlays/${overlay}/kustomization.yaml`) as Kustomization;
    const moved = (paths: readonly string[]): string[] => paths.map((path) => below(join('overlays', overlay, path)));
    return { ...copy, resources: moved(copy.resources), components: moved(copy.components), ...elsewhere };
  };

  it.each<{ name: string; overlay: () => object }>([
    ...OVERLAYS.flatMap((overlay) => [
      { name: `a copy of the overlay ${overlay}`, overlay: () => copyOf(overlay) },
      {
        name: `an overlay on ${overlay}`,
        overlay: () => ({ resources: [below(`overlays/${overlay}`)], ...elsewhere }),
      },
    ]),
    ...COMPONENTS.filter((component) => component !== 'namespace').map((component) => ({
      name: `the component ${component}`,
      overlay: () => ({ resources: [below('base')], components: [below(`components/${component}`)], ...elsewhere }),
    })),
  ])('$name follows another namespace, prefix and suffix with every reference', ({ overlay }) => {
    const manifests = buildOverlay(overlay());
    expect(danglingReferences(manifests, 'monitoring')).toEqual([]);
    const names = manifests.map(({ metadata }) => metadata.name);
    expect(names.filter((name) => !/^x-.*-y(?:-[a-z0-9]{10})?$/.test(name))).toEqual([]);
    // The namespace of a user is not the overlay's to label or to delete.
    expect(manifests.filter(({ kind }) => kind === 'Namespace')).toEqual([]);
  });

  it('the component namespace adds the namespace with the Pod Security standard that the pods need', () => {
    const [namespace] = compose(['namespace'], elsewhere).filter(({ kind }) => kind === 'Namespace');
    expect(namespace?.metadata).toEqual({
      name: 'monitoring',
      labels: { 'pod-security.kubernetes.io/enforce': 'privileged' },
    });
  });

  it('a second apply changes nothing: the server keeps every field as it is written', () => {
    const all = COMPONENTS.filter((component) => component !== 'unprivileged');
    for (const components of [[], all, ['unprivileged']])
      expect(compose(components).flatMap(unstableFields)).toEqual([]);
  });

  it('the overlay in docs/deploy.md has its image, its password and its namespace', () => {
    const [, text = ''] = /```yaml\n(apiVersion: kustomize[^]*?)```/.exec(readText('docs/deploy.md')) ?? [];
    const [overlay] = parseDocuments<Kustomization>(text);
    const resources = overlay?.resources.map((path) => below(path.replace(/^.*deploy\/k8s\//, ''))) ?? [];
    const manifests = buildOverlay({ ...overlay, resources });
    expect(danglingReferences(manifests, 'monitoring')).toEqual([]);
    const [container] = daemonSetOf(manifests).spec.template.spec.containers;
    expect(container?.image).toMatch(/^registry\.example\/peerscope:/);
    expect(JSON.stringify(manifests)).not.toContain(Buffer.from('replace-me').toString('base64'));
    expect(manifests.find(({ kind }) => kind === 'Secret')?.['data']).toEqual({
      password: Buffer.from('PASSWORD').toString('base64'),
      'password.conf': Buffer.from('requirepass PASSWORD').toString('base64'),
    });
  });

  it('every component except unprivileged keeps the privileges, and changes only its own volume', () => {
    const base = (readDocument('deploy/k8s/base/daemonset.yaml') as Workload).spec.template.spec;
    for (const component of COMPONENTS) {
      const { containers, volumes, ...pod } = daemonSetOf(compose([component])).spec.template.spec;
      const { containers: ownContainers, volumes: ownVolumes, ...own } = base;
      const token = component === 'metadata';
      expect(pod, component).toEqual({ ...own, automountServiceAccountToken: token });
      const rights = containers.map(({ securityContext }) => securityContext);
      const [{ securityContext } = {}] = ownContainers;
      const unprivileged = {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      };
      expect(rights, component).toEqual([component === 'unprivileged' ? unprivileged : securityContext]);
      const changed: Readonly<Record<string, unknown>> = {
        config: { name: 'config', configMap: { name: expect.stringMatching(/^peerscope-[a-z0-9]{10}$/) as unknown } },
        ...(component === 'state-hostpath'
          ? { state: { name: 'state', hostPath: { path: '/var/lib/peerscope', type: 'Directory' } } }
          : {}),
        ...(component === 'traffic'
          ? { sockets: { name: 'sockets', hostPath: { path: '/run/peerscope', type: 'DirectoryOrCreate' } } }
          : {}),
      };
      const byName = Object.fromEntries(volumes.map((volume) => [volume.name, volume]));
      const expected = Object.fromEntries(ownVolumes.map((volume) => [volume.name, volume]));
      expect(byName, component).toEqual({ ...expected, ...changed });
    }
  });

  it('the component traffic gives the exporter the socket of the agent, read-only, at the path where the agent listens', () => {
    const manifests = compose(['traffic']);
    const agent = manifests.find(({ metadata }) => metadata.name === 'peerscope-sockets') as Workload | undefined;
    const [{ args = [] } = {}] = agent?.spec.template.spec.containers ?? [];
    const [container] = daemonSetOf(manifests).spec.template.spec.containers;
    expect(container?.env).toEqual([{ name: 'PEERSCOPE_NETLINK_SOCKET', value: args[1] }]);
    expect(container).toMatchObject({
      volumeMounts: expect.arrayContaining([
        { name: 'sockets', mountPath: '/run/peerscope', readOnly: true },
      ]) as unknown,
    });
  });

  it('an overlay renames the image of the exporter and of the agent together', () => {
    const images = [{ name: 'peerscope', newName: 'registry.example/peerscope', newTag: '0.1.0-search' }];
    const workloads = compose(['traffic'], { images }).filter(({ kind }) => kind === 'DaemonSet') as Workload[];
    const used = workloads.flatMap(({ spec }) => spec.template.spec.containers.map(({ image }) => image));
    expect(used).toEqual(Array(2).fill('registry.example/peerscope:0.1.0-search'));
  });

  it('the component metadata is allowed to list and watch pods, and nothing else', () => {
    const roles = compose(['metadata']).filter(({ kind }) => kind === 'ClusterRole');
    expect(roles).toMatchObject([{ rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['list', 'watch'] }] }]);
  });

  it('the component unprivileged starts the image that asks for no capability', () => {
    const [container] = daemonSetOf(compose(['unprivileged'])).spec.template.spec.containers;
    expect(container?.image).toMatch(/^peerscope:.*-none$/);
  });

  it('a manifest with a misspelled key is rejected', ({ skip }) => {
    skip(schema === null, 'there is no schema');
    const daemonSet = daemonSetOf(compose([]));
    const { spec } = daemonSet.spec.template;
    const misspelt = { ...daemonSet, spec: { ...daemonSet.spec, template: { spec: { ...spec, hostPid: false } } } };
    expect(schema?.problems(misspelt)).toEqual([expect.stringContaining('hostPid')]);
    const [monitor] = compose(['podmonitor']).filter(({ kind }) => kind === 'PodMonitor');
    const wrong = { ...monitor, spec: { ...(monitor?.['spec'] as object), honorLabel: true } } as unknown as Manifest;
    expect(schema?.problems(wrong)).toEqual([expect.stringContaining('honorLabel')]);
  });
});

describe('docker compose', () => {
  const compose = find('docker compose', [
    [join(TOOLS, 'libexec/docker/cli-plugins/docker-compose')],
    ['docker-compose'],
  ]);

  it.skipIf(compose === null)('accepts the demonstration and knows each of its keys', () => {
    const file = `--file=${join(ROOT, 'deploy/compose/compose.yaml')}`;
    const [command = ''] = compose ?? [];
    const { status, stderr } = spawnSync(command, [file, 'config', '--quiet'], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});

describe('systemd', () => {
  const analyze = find('systemd-analyze', [['systemd-analyze']]);

  it.skipIf(analyze === null)('finds the units well-formed and the exposure as low as docs/deploy.md says', () => {
    const unit = join(ROOT, 'deploy/systemd/peerscope.service');
    const sockets = filesOf('deploy/systemd/*.socket').map((path) => join(ROOT, path));
    const run = (...args: readonly string[]) => spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    const verified = run('verify', unit, ...sockets);
    const complaints = verified.stderr.split('\n').filter((line) => line !== '' && !/not executable/.test(line));
    expect(complaints).toEqual([]);
    const { stdout } = run('security', '--offline=yes', '--no-pager', unit);
    const [, exposure] = /Overall exposure level for peerscope\.service: ([\d.]+)/.exec(stdout) ?? [];
    const [, documented] = /scores ([\d.]+)/.exec(readFileSync(join(ROOT, 'docs/deploy.md'), 'utf8')) ?? [];
    expect(Number(exposure)).toBeLessThanOrEqual(Number(documented));
  });
});
