import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openSchema } from '../support/kubernetes-schema.ts';
import { build, COMPONENTS, findCommand, KUSTOMIZE, OverlayFolder, TOOLS } from '../support/kustomize.ts';
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

interface Kustomization {
  readonly resources: readonly string[];
  readonly components: readonly string[];
}

/** A container, as far as Autopilot compares it with its allowlist. */
interface AllowedContainer {
  readonly image: string;
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string }[];
  readonly securityContext: { readonly capabilities: object };
  readonly volumeMounts: readonly object[];
}

describe.skipIf(KUSTOMIZE === null)('with kustomize', () => {
  const folder = new OverlayFolder();
  const schema = openSchema();
  afterAll(() => folder.close());

  const below = (path: string): string => folder.below(path);
  const buildOverlay = (overlay: object): Manifest[] => folder.build(overlay);
  const compose = (components: readonly string[], more?: object): Manifest[] => folder.compose(components, more);

  const daemonSetOf = (manifests: readonly Manifest[]): Workload => {
    const found = manifests.find(({ kind, metadata }) => kind === 'DaemonSet' && metadata.name !== 'peerscope-sockets');
    if (!found) throw new Error('no DaemonSet');
    return found as Workload;
  };
  const identitiesOf = (manifests: readonly Manifest[]): string[] =>
    manifests.map(({ kind, metadata }) => `${kind} ${metadata.name.replace(/-[2456789bcdfghkmt]{10}$/, '')}`).sort();

  const BASE = ['ConfigMap peerscope', 'DaemonSet peerscope', 'ServiceAccount peerscope'];
  const VALKEY = ['ConfigMap', 'Deployment', 'NetworkPolicy', 'Service'].map((kind) => `${kind} peerscope-valkey`);
  const METADATA = ['ClusterRole peerscope', 'ClusterRoleBinding peerscope'];
  const RULES = filesOf('deploy/prometheus/*.rules.yml').map(
    (path) => `PrometheusRule ${basename(path, '.rules.yml')}`,
  );
  const DASHBOARDS = filesOf('grafana/dashboards/*.json').map((path) => `ConfigMap ${basename(path, '.json')}`);
  const SCC = (name: string): string[] => [
    `SecurityContextConstraints ${name}-scc`,
    `ClusterRole ${name}-scc`,
    `RoleBinding ${name}-scc`,
  ];
  const ADDED: Readonly<Record<string, readonly string[]>> = {
    dashboards: DASHBOARDS,
    'gke-autopilot': ['AllowlistSynchronizer peerscope'],
    'google-managed-prometheus': ['ClusterPodMonitoring peerscope'],
    'kubernetes-services': ['ClusterRole peerscope-services', 'ClusterRoleBinding peerscope-services'],
    metadata: METADATA,
    namespace: ['Namespace peerscope'],
    networkpolicy: ['NetworkPolicy peerscope'],
    'openshift-traffic': SCC('peerscope-sockets'),
    openshift: SCC('peerscope'),
    otlp: [],
    podmonitor: ['PodMonitor peerscope'],
    rules: RULES,
    servicemonitor: ['Service peerscope', 'ServiceMonitor peerscope'],
    'state-hostpath': [],
    traffic: ['DaemonSet peerscope-sockets', 'ServiceAccount peerscope-sockets'],
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
    const store = ['PEERSCOPE_STORAGE_CA_FILE', 'PEERSCOPE_STORAGE_URL', 'VALKEY_HOST', 'VALKEY_PASSWORD'];
    const variables = ['NODE_NAME', 'POD_UID', ...store].sort();
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
      overlay: () => ({
        resources: [below('base')],
        // The constraints of OpenShift for the agent need the agent.
        components: [...(component === 'openshift-traffic' ? ['traffic'] : []), component].map((name) =>
          below(`components/${name}`),
        ),
        ...elsewhere,
      }),
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
      labels: Object.fromEntries(
        ['audit', 'enforce', 'warn'].map((mode) => [`pod-security.kubernetes.io/${mode}`, 'privileged']),
      ),
    });
  });

  it('a second apply changes nothing: the server keeps every field as it is written', () => {
    const all = COMPONENTS.filter((component) => component !== 'unprivileged');
    for (const components of [[], all, ['unprivileged']])
      expect(compose(components).flatMap(unstableFields)).toEqual([]);
  });

  it('the overlay in docs/deploy.md has its image and its namespace', () => {
    const [, text = ''] = /```yaml\n(apiVersion: kustomize[^]*?)```/.exec(readText('docs/deploy.md')) ?? [];
    const [overlay] = parseDocuments<Kustomization>(text);
    const resources = overlay?.resources.map((path) => below(path.replace(/^.*deploy\/k8s\//, ''))) ?? [];
    const manifests = buildOverlay({ ...overlay, resources });
    expect(danglingReferences(manifests, 'monitoring')).toEqual([]);
    const [container] = daemonSetOf(manifests).spec.template.spec.containers;
    expect(container?.image).toMatch(/^registry\.example\/peerscope:/);
  });

  it('no component contains a password', () => {
    expect(compose(COMPONENTS).filter(({ kind }) => kind === 'Secret')).toEqual([]);
    const texts = filesOf('deploy/{k8s,helm}/**/*.{yaml,conf,acl,sh,json,tpl}').map((path) => [path, readText(path)]);
    expect(
      texts.filter(([, text = '']) => /replace-me|changeme|requirepass/i.test(text)).map(([path]) => path),
    ).toEqual([]);
  });

  it('follows a Secret that the overlay itself generates', () => {
    const literals = ['exporter-password=a', 'admin-password=b'];
    const secretGenerator = [{ name: 'peerscope-valkey', literals }];
    const manifests = compose(['valkey'], { ...elsewhere, secretGenerator });
    expect(
      danglingReferences(manifests, 'monitoring', { 'peerscope-valkey-tls': ['ca.crt', 'tls.crt', 'tls.key'] }),
    ).toEqual([]);
  });

  it('on OpenShift the store takes a UID of the namespace, and the constraints allow the volumes of the pods', () => {
    const manifests = compose(['metadata', 'traffic', 'valkey', 'openshift', 'openshift-traffic']);
    const store = manifests.find(({ kind }) => kind === 'Deployment') as Workload | undefined;
    expect(store?.spec.template.spec['securityContext']).toEqual({
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    for (const name of ['peerscope', 'peerscope-sockets']) {
      const find = (of: string, called: string): Manifest | undefined =>
        manifests.find(({ kind, metadata }) => kind === of && metadata.name === called);
      const constraints = find('SecurityContextConstraints', `${name}-scc`);
      expect(find('ClusterRole', `${name}-scc`)).toMatchObject({ rules: [{ resourceNames: [`${name}-scc`] }] });
      const pod = (find('DaemonSet', name) as Workload | undefined)?.spec.template.spec;
      const kinds = pod?.volumes.flatMap((volume) => Object.keys(volume).filter((key) => key !== 'name')) ?? [];
      const [container] = pod?.containers ?? [];
      const { capabilities } = container?.securityContext as { capabilities: { add: readonly string[] } };
      expect(constraints).toMatchObject({
        allowedCapabilities: capabilities.add,
        allowHostNetwork: pod?.['hostNetwork'] === true,
        runAsUser: { uid: (pod?.['securityContext'] as { runAsUser: number }).runAsUser },
      });
      // The projected volume is the token of the API.
      const token = pod?.['automountServiceAccountToken'] === true ? ['projected'] : [];
      const allowed = constraints?.['volumes'] as readonly string[];
      expect([...new Set([...kinds, ...token])].filter((kind) => !allowed.includes(kind))).toEqual([]);
    }
  });

  it('the allowlist of Autopilot allows the pods with each component that can run there', () => {
    const { matchingCriteria } = readDocument('deploy/k8s/components/gke-autopilot/workloadallowlist.yaml') as {
      matchingCriteria: { containers: readonly [AllowedContainer]; volumes: readonly object[] };
    };
    const [allowed] = matchingCriteria.containers;
    const all = ['metadata', 'kubernetes-services', 'otlp', 'valkey', 'gke-autopilot'];
    const { spec } = daemonSetOf(compose(all)).spec.template;
    const [container] = spec.containers as unknown as readonly [
      AllowedContainer & { readonly env: readonly { name: string }[] },
    ];
    expect(container.image).toMatch(new RegExp(allowed.image));
    const patterns = allowed.args.map((pattern) => new RegExp(`^${pattern}$`));
    expect(container.args.filter((arg) => !patterns.some((pattern) => pattern.test(arg)))).toEqual([]);
    const names = allowed.env.map(({ name }) => name);
    expect(container.env.filter(({ name }) => !names.includes(name))).toEqual([]);
    expect(allowed.securityContext.capabilities).toEqual(container.securityContext.capabilities);
    expect(new Set(allowed.volumeMounts)).toEqual(new Set(container.volumeMounts));
    expect(matchingCriteria.volumes).toEqual([{ name: 'proc', hostPath: { path: '/proc' } }]);
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
      // A node of OpenShift has no AppArmor.
      const { appArmorProfile, ...openshift } = securityContext as Readonly<Record<string, unknown>>;
      expect(appArmorProfile).toEqual({ type: 'Unconfined' });
      const expectedRights = { unprivileged, openshift }[component] ?? securityContext;
      expect(rights, component).toEqual([expectedRights]);
      const changed: Readonly<Record<string, unknown>> = {
        config: { name: 'config', configMap: { name: expect.stringMatching(/^peerscope-[a-z0-9]{10}$/) as unknown } },
        ...(component === 'state-hostpath'
          ? { state: { name: 'state', hostPath: { path: '/var/lib/peerscope', type: 'Directory' } } }
          : {}),
        ...(component === 'traffic'
          ? { sockets: { name: 'sockets', hostPath: { path: '/run/peerscope', type: 'DirectoryOrCreate' } } }
          : {}),
        ...(component === 'valkey' ? { 'valkey-ca': expect.objectContaining({ name: 'valkey-ca' }) as unknown } : {}),
      };
      const byName = Object.fromEntries(volumes.map((volume) => [volume.name, volume]));
      const expected = Object.fromEntries(ownVolumes.map((volume) => [volume.name, volume]));
      expect(byName, component).toEqual({ ...expected, ...changed });
    }
  });

  it('the component traffic gives the exporter the socket of the agent, read-only, at the path where the agent listens', () => {
    const manifests = compose(['traffic']);
    const agent = manifests.find(
      ({ kind, metadata }) => kind === 'DaemonSet' && metadata.name === 'peerscope-sockets',
    ) as Workload | undefined;
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
    const images = [{ name: 'peerscope', newName: 'registry.example/peerscope', newTag: '0.2.0-search' }];
    const workloads = compose(['traffic'], { images }).filter(({ kind }) => kind === 'DaemonSet') as Workload[];
    const used = workloads.flatMap(({ spec }) => spec.template.spec.containers.map(({ image }) => image));
    expect(used).toEqual(Array(2).fill('registry.example/peerscope:0.2.0-search'));
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
  const compose = findCommand('docker compose', [
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
  const analyze = findCommand('systemd-analyze', [['systemd-analyze']]);

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
