import { basename } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { stringify } from 'yaml';
import { EMPTY_RULES, parseConfig } from '../../src/config/config.ts';
import { environmentVariable, FLAGS } from '../../src/config/flags.ts';
import { parseRules } from '../../src/config/rules.ts';
import { filesOf, parseDocuments, readDocument, readText, type Manifest, type Workload } from '../support/manifests.ts';

const DEPLOYED = filesOf('deploy/**/*.{yaml,yml,service,socket}');
const DAEMON_SET = readDocument('deploy/k8s/base/daemonset.yaml') as Workload;

interface Kustomization {
  readonly kind: string;
  readonly resources?: readonly string[];
  readonly components?: readonly string[];
}

interface Expression {
  readonly key: string;
  readonly operator: string;
  readonly values?: readonly string[];
}

/** Where the pods of the DaemonSet run. */
interface Scheduling {
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly affinity: {
    readonly nodeAffinity: {
      readonly requiredDuringSchedulingIgnoredDuringExecution: {
        readonly nodeSelectorTerms: readonly { readonly matchExpressions: readonly Expression[] }[];
      };
    };
  };
}

/** As `serve` would read them. */
function configOf(args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
  const given = args.map((arg) => {
    const [, name, value] = /^--([a-z.-]+?)(?:=(.*))?$/.exec(arg) ?? [];
    if (name === undefined || !FLAGS.some((flag) => flag.name === name)) throw new Error(`no flag: ${arg}`);
    return [name, value ?? true] as const;
  });
  return parseConfig(Object.fromEntries(given), environment);
}

describe.each(DEPLOYED)('%s', (path) => {
  const text = readText(path);

  // A template is YAML only when Helm has rendered it: test/e2e/chart.test.ts.
  it.runIf(/\.ya?ml$/.test(path) && !path.includes('/templates/'))('is strict YAML', () => {
    expect(() => parseDocuments(text)).not.toThrow();
  });

  it('uses only existing flags and environment variables, with valid values', () => {
    const flags = text.matchAll(/(?<![\w-])--([a-z]+\.[a-z.-]+)(?:=([^\s'"]+))?/g);
    const wrong = flags.filter(([, name, value]) => {
      const flag = FLAGS.find((flag) => flag.name === name);
      return !flag || (value !== undefined && !value.startsWith('{{') && flag.parse(value) === undefined);
    });
    expect(wrong.map(([whole]) => whole).toArray()).toEqual([]);
    const twins = new Set(FLAGS.map(({ name }) => environmentVariable(name)));
    expect([...text.matchAll(/\bPEERSCOPE_\w+/g)].filter(([name]) => !twins.has(name))).toEqual([]);
  });
});

describe('deploy/k8s/base', () => {
  const kinds = ({ resources = [] }: Kustomization): string[] =>
    resources.map((name) => (readDocument(`deploy/k8s/base/${name}`) as Manifest).kind).sort();

  it('requests no access to the API, no custom resource and no secret', () => {
    expect(kinds(readDocument('deploy/k8s/base/kustomization.yaml') as Kustomization)).toEqual([
      'DaemonSet',
      'ServiceAccount',
    ]);
    const account = readDocument('deploy/k8s/base/serviceaccount.yaml') as Manifest;
    expect(account['automountServiceAccountToken']).toBe(false);
    expect(DAEMON_SET.spec.template.spec['automountServiceAccountToken']).toBe(false);
  });

  it('has only the privileges that docs/security.md explains', () => {
    const { containers, volumes, ...pod } = DAEMON_SET.spec.template.spec;
    expect(pod).toEqual({
      affinity: expect.anything() as unknown,
      serviceAccountName: 'peerscope',
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      nodeSelector: { 'kubernetes.io/os': 'linux' },
      tolerations: [{ operator: 'Exists' }],
      terminationGracePeriodSeconds: 30,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 10_043,
        runAsGroup: 10_043,
        seccompProfile: { type: 'RuntimeDefault' },
      },
    });
    expect(containers.map(({ securityContext }) => securityContext)).toEqual([
      {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'], add: ['SYS_PTRACE'] },
        appArmorProfile: { type: 'Unconfined' },
        seLinuxOptions: { type: 'spc_t' },
      },
    ]);
    expect(containers).toMatchObject([{ volumeMounts: [{ name: 'proc', readOnly: true }, {}, { readOnly: true }] }]);
    expect(volumes).toEqual([
      { name: 'proc', hostPath: { path: '/proc', type: 'Directory' } },
      { name: 'state', emptyDir: { sizeLimit: '64Mi' } },
      { name: 'config', configMap: { name: 'peerscope' } },
    ]);
  });

  const linux = { 'kubernetes.io/os': 'linux' };

  it.each<{ node: string; labels: Readonly<Record<string, string>>; runs: boolean }>([
    { node: 'an ordinary node', labels: linux, runs: true },
    { node: 'a node with other labels', labels: { ...linux, type: 'spot', 'liqo.io/type': 'local' }, runs: true },
    { node: 'an EC2 node', labels: { ...linux, 'node.kubernetes.io/instance-type': 'm5.large' }, runs: true },
    { node: 'EKS Auto Mode', labels: { ...linux, 'eks.amazonaws.com/compute-type': 'auto' }, runs: true },
    { node: 'EKS Fargate', labels: { ...linux, 'eks.amazonaws.com/compute-type': 'fargate' }, runs: false },
    { node: 'virtual-kubelet (ACI, ECI)', labels: { ...linux, type: 'virtual-kubelet' }, runs: false },
    { node: 'KWOK', labels: { ...linux, type: 'kwok' }, runs: false },
    { node: 'a TKE super node', labels: { ...linux, 'node.kubernetes.io/instance-type': 'eklet' }, runs: false },
    { node: 'an OKE virtual node', labels: { ...linux, 'node-role.kubernetes.io/virtual-node': '' }, runs: false },
    { node: 'Liqo', labels: { ...linux, 'liqo.io/type': 'virtual-node' }, runs: false },
    { node: 'Windows', labels: { 'kubernetes.io/os': 'windows' }, runs: false },
  ])('starts on $node: $runs', ({ labels, runs }) => {
    const { nodeSelector, affinity } = DAEMON_SET.spec.template.spec as unknown as Scheduling;
    const { nodeSelectorTerms } = affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution;
    const isSelected = Object.entries(nodeSelector).every(([key, value]) => labels[key] === value);
    const fits = ({ key, operator, values = [] }: Expression): boolean => {
      const value = labels[key];
      if (operator === 'DoesNotExist') return value === undefined;
      if (operator !== 'NotIn') throw new Error(`no such operator: ${operator}`);
      return value === undefined || !values.includes(value);
    };
    expect(isSelected && nodeSelectorTerms.some((term) => term.matchExpressions.every(fits))).toBe(runs);
  });

  it('starts the exporter without an external service, and with valid rules', () => {
    const [{ args = [] } = {}] = DAEMON_SET.spec.template.spec.containers;
    const [command, ...flags] = args;
    expect(command).toBe('serve');
    const { asn, procfs, storagePath, configFile } = configOf(flags, { KUBERNETES_SERVICE_HOST: '10.96.0.1' });
    expect({ provider: asn.provider, procfs, storagePath, configFile }).toEqual({
      provider: 'none',
      procfs: '/host/proc',
      storagePath: '/var/lib/peerscope',
      configFile: '/etc/peerscope/peerscope.yaml',
    });
    expect(parseRules(readText('deploy/k8s/base/peerscope.yaml'), 'peerscope.yaml')).toEqual(EMPTY_RULES);
  });

  it('uses the uid, the ports and the version of the image', () => {
    const image = readText('Dockerfile');
    const { version } = JSON.parse(readText('package.json')) as { version: string };
    expect(image).toContain('\nUSER 10043:10043\n');
    expect(image).toContain('\nEXPOSE 10043\n');
    expect(image).toContain(`\nARG VERSION=${version}\n`);
    const named = DEPLOYED.flatMap((path) => [
      ...readText(path).matchAll(/(?:image: peerscope:|newTag: |app\.kubernetes\.io\/version: )(\S+)/g),
    ]);
    const versions = named.map(([, tag = '']) => tag.replace(/-(none|search)$/, ''));
    expect(new Set(versions)).toEqual(new Set([version]));
  });
});

describe('deploy/k8s/components/traffic', () => {
  const [account, agent] = parseDocuments<Manifest>(readText('deploy/k8s/components/traffic/sockets.yaml'));
  const { containers, volumes, ...pod } = (agent as Workload).spec.template.spec;
  const { affinity, nodeSelector, tolerations } = DAEMON_SET.spec.template.spec;

  it('gives the agent only the privileges that docs/security.md explains, on the nodes of the exporter', () => {
    expect(account).toMatchObject({ kind: 'ServiceAccount', automountServiceAccountToken: false });
    expect(pod).toEqual({
      affinity,
      serviceAccountName: 'peerscope-sockets',
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      hostNetwork: true,
      nodeSelector,
      tolerations,
      terminationGracePeriodSeconds: 5,
      securityContext: DAEMON_SET.spec.template.spec['securityContext'],
    });
    expect(containers).toEqual([
      {
        name: 'sockets',
        image: DAEMON_SET.spec.template.spec.containers[0]?.image,
        command: ['/app/dist/peerscope-sockets'],
        args: ['--listen', '/run/peerscope/sockets.sock', '--uid', '10043', '--all'],
        resources: { requests: { cpu: '10m', memory: '8Mi' }, limits: { memory: '16Mi' } },
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'], add: ['NET_BROADCAST'] },
          seLinuxOptions: { type: 'spc_t' },
        },
        volumeMounts: [{ name: 'sockets', mountPath: '/run/peerscope' }],
      },
    ]);
    expect(volumes).toEqual([{ name: 'sockets', hostPath: { path: '/run/peerscope', type: 'Directory' } }]);
  });
});

test('the store gives the exporter the rights that docs/asn.md lists, and the user "default" none', () => {
  const users = readText('deploy/k8s/components/valkey/users.acl').trimEnd().split('\n');
  const [, rights = ''] = /`(~peerscope:\* [^`]*)`/.exec(readText('docs/asn.md')) ?? [];
  const [keys, ...commands] = rights.split(' ');
  expect(users).toEqual([
    'user default off',
    `user exporter on @exporter@ ${keys} resetchannels -@all ${commands.join(' ')}`,
    'user admin on @admin@ ~* &* +@all',
  ]);
});

test('every component is a kustomize Component, and overlays use only existing ones', () => {
  const components = filesOf('deploy/k8s/components/*/kustomization.yaml');
  expect(components.filter((path) => (readDocument(path) as Kustomization).kind !== 'Component')).toEqual([]);
  for (const path of filesOf('deploy/k8s/overlays/*/kustomization.yaml')) {
    const { components: taken = [] } = readDocument(path) as Kustomization;
    const known = components.map(
      (component) => `../../components/${basename(component.replace('/kustomization.yaml', ''))}`,
    );
    expect(taken.filter((component) => !known.includes(component))).toEqual([]);
  }
});

test('only overlays set a namespace, so that it applies to every object', () => {
  const files = [...filesOf('deploy/k8s/{base,components}/**/*.yaml'), 'grafana/kustomization.yaml'];
  expect(files.filter((path) => /\bnamespace: /.test(readText(path).replace(/#.*/g, '')))).toEqual([]);
});

/** What kustomize cannot generate from files: `npx vitest run test/project/deploy.test.ts -u` writes it. */
describe('generated from one source', () => {
  const NOTE = '# Written by `npx vitest run test/project/deploy.test.ts -u`.\n';

  test('the PrometheusRules hold the rules of deploy/prometheus', async () => {
    const rules = filesOf('deploy/prometheus/*.rules.yml').map((path) => ({
      apiVersion: 'monitoring.coreos.com/v1',
      kind: 'PrometheusRule',
      metadata: { name: basename(path, '.rules.yml') },
      spec: readDocument(path) as object,
    }));
    const text = rules.map((rule) => stringify(rule, { lineWidth: 0 })).join('---\n');
    await expect(`${NOTE}${text}`).toMatchFileSnapshot('../../deploy/k8s/components/rules/prometheusrules.yaml');
  });

  test('the ConfigMaps of the dashboards hold those of grafana/dashboards, each below the limit of 1 MiB', async () => {
    const dashboards = filesOf('grafana/dashboards/*.json');
    expect(dashboards.filter((path) => readText(path).length > 1_000_000)).toEqual([]);
    const text = stringify({
      apiVersion: 'kustomize.config.k8s.io/v1beta1',
      kind: 'Kustomization',
      generatorOptions: { disableNameSuffixHash: true, labels: { grafana_dashboard: '1' } },
      configMapGenerator: dashboards.map((path) => ({
        name: basename(path, '.json'),
        files: [`dashboards/${basename(path)}`],
      })),
    });
    await expect(`${NOTE}${text}`).toMatchFileSnapshot('../../grafana/kustomization.yaml');
  });
});

/** Helm reads only files of the chart, so it has copies. */
describe('the copies in the chart', () => {
  const CHART = 'deploy/helm/peerscope/files';
  const sources = [
    'deploy/prometheus/*.rules.yml',
    'grafana/dashboards/*.json',
    'deploy/k8s/components/valkey/*.{acl,conf,sh}',
  ];
  const folders = ['rules', 'dashboards', 'valkey'];
  const copies = sources.flatMap((pattern, i) =>
    filesOf(pattern).map((source) => ({ source, copy: `${CHART}/${folders[i] ?? ''}/${basename(source)}` })),
  );

  test.each(copies)('$copy is $source', async ({ source, copy }) => {
    await expect(readText(source)).toMatchFileSnapshot(`../../${copy}`);
  });

  test('there are no others', () => {
    expect(filesOf(`${CHART}/{${folders.join()}}/*`)).toEqual(copies.map(({ copy }) => copy).sort());
  });
});

describe('deploy/compose', () => {
  interface Service {
    readonly cap_drop?: readonly string[];
    readonly cap_add?: readonly string[];
    readonly privileged?: boolean;
    readonly ports?: readonly string[];
    readonly volumes?: readonly string[];
    readonly environment?: Readonly<Record<string, string>>;
  }
  const { services } = readDocument('deploy/compose/compose.yaml') as { services: Record<string, Service> };

  it('gives SYS_PTRACE to the exporter, no capability to the others, and publishes no port beyond the host', () => {
    const given = Object.entries(services).map(([name, { cap_drop, cap_add = [], privileged = false }]) => [
      name,
      { cap_drop, cap_add, privileged },
    ]);
    const none = { cap_drop: ['ALL'], cap_add: [], privileged: false };
    expect(Object.fromEntries(given)).toEqual({
      peerscope: { ...none, cap_add: ['SYS_PTRACE'] },
      valkey: none,
      prometheus: none,
      alertmanager: none,
      grafana: none,
    });
    const ports = Object.values(services).flatMap(({ ports = [] }) => ports);
    expect(ports.filter((port) => !port.startsWith('127.0.0.1:'))).toEqual([]);
    expect(configOf([], services['peerscope']?.environment).storageServer).toMatchObject({
      addresses: [{ host: 'valkey', port: 6379 }],
    });
  });

  it('mounts only files of the repository and the host’s /proc, read-only', () => {
    const mounts = Object.values(services).flatMap(({ volumes = [] }) => volumes);
    const [named, bound] = [mounts.filter((mount) => /^\w/.test(mount)), mounts.filter((mount) => /^[./]/.test(mount))];
    expect(named).toEqual(['prometheus:/prometheus']);
    expect(bound.filter((mount) => !mount.endsWith(':ro'))).toEqual([]);
    const files = bound.map((mount) => mount.replace(/:.*/, '')).filter((path) => path.startsWith('./'));
    const deployed = filesOf('deploy/compose/**/*.yml').map((path) => path.replace('deploy/compose', '.'));
    expect(files.sort()).toEqual(deployed);
  });
});

describe('deploy/systemd/peerscope.service', () => {
  const settings = [...readText('deploy/systemd/peerscope.service').matchAll(/^([A-Z]\w+)=(.*)$/gm)];
  const valuesOf = (name: string): string[] =>
    settings.filter(([, key]) => key === name).map(([, , value = '']) => value);

  test.each([
    ['DynamicUser', ['yes']],
    ['StateDirectory', ['peerscope']],
    ['StateDirectoryMode', ['0700']],
    ['AmbientCapabilities', ['CAP_SYS_PTRACE']],
    ['CapabilityBoundingSet', ['CAP_SYS_PTRACE']],
    ['NoNewPrivileges', ['yes']],
    ['Sockets', ['peerscope-dump.socket peerscope-ended.socket']],
    ['NonBlocking', ['yes']],
    ['RestrictAddressFamilies', ['AF_INET AF_INET6 AF_UNIX']],
    ['ProtectSystem', ['strict']],
    ['ProtectHome', ['yes']],
    ['RestrictNamespaces', ['yes']],
    ['SystemCallFilter', ['@system-service', '~@privileged @debug process_vm_readv process_vm_writev process_madvise']],
    // Each of these would hide processes, or keep Node.js from running.
    ['ProtectProc', []],
    ['ProcSubset', []],
    ['PrivateUsers', []],
    ['PrivateNetwork', []],
    ['MemoryDenyWriteExecute', []],
  ])('sets %s to %j', (name, values) => {
    expect(valuesOf(name)).toEqual(values);
  });

  it('starts the program of package.json', () => {
    const { bin } = JSON.parse(readText('package.json')) as { bin: { peerscope: string } };
    expect(valuesOf('ExecStart')).toEqual(['/opt/peerscope/bin/peerscope serve']);
    expect(readText('deploy/packages/peerscope')).toContain(
      `"$lib/node" --max-semi-space-size=2 --v8-pool-size=1 "$lib/${bin.peerscope}"`,
    );
  });
});
