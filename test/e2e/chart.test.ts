import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { Exporter } from '../support/exporter.ts';
import { CHART, HELM, isHook, lint, refusal, render, type Values } from '../support/helm.ts';
import { openSchema } from '../support/kubernetes-schema.ts';
import { COMPONENTS, KUSTOMIZE, OverlayFolder } from '../support/kustomize.ts';
import { danglingReferences, unstableFields } from '../support/manifest-checks.ts';
import { filesOf, ROOT, type Manifest, type Workload } from '../support/manifests.ts';
import { freePort } from '../support/redis-server.ts';
import { comparable } from '../support/same-objects.ts';

const VALUES = filesOf('deploy/helm/peerscope/ci/*-values.yaml');
const VALKEY = {
  'valkey.enabled': true,
  'valkey.existingSecret': 'peerscope-valkey',
  'valkey.tlsSecret': 'peerscope-valkey-tls',
};
/** The Secrets and other objects that the files in ci/ expect. */
const GIVEN = {
  'peerscope-valkey': ['exporter-password', 'admin-password'],
  'peerscope-valkey-tls': ['ca.crt', 'tls.crt', 'tls.key'],
  elasticache: ['url'],
  'elasticache-ca': ['ca.crt'],
  'peerscope-web': ['web.yml'],
  'peerscope-more': [],
};

const containerOf = (manifests: readonly Manifest[], name = 'peerscope') =>
  (manifests.find(({ kind, metadata }) => kind === 'DaemonSet' && metadata.name === name) as Workload | undefined)?.spec
    .template.spec.containers[0];

describe.skipIf(HELM === null)('the chart', { timeout: 120_000 }, () => {
  const schema = openSchema();

  describe.each(VALUES)('with %s', (file) => {
    it('is clean for helm lint --strict, and each object is strictly valid', () => {
      expect(lint({ files: [file] })).toBeNull();
      const manifests = render({ files: [file] });
      expect(manifests.flatMap((manifest) => schema?.problems(manifest) ?? [])).toEqual([]);
      const identities = manifests.map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''} ${metadata.name}`);
      expect(identities.filter((one, i) => identities.indexOf(one) !== i)).toEqual([]);
    });

    it('refers to nothing that is not there, and a second upgrade changes nothing', () => {
      const manifests = render({ files: [file], release: 'prod', namespace: 'peerscope' });
      const own = manifests.filter((manifest) => !isElsewhere(manifest));
      const namespace = file.includes('talos') ? 'peerscope-nodes' : 'peerscope';
      // The ServiceAccount "shared", and the ConfigMap "asn", are the user's.
      const users = /no ServiceAccount$|no ConfigMap asn$/;
      expect(danglingReferences(own, namespace, GIVEN).filter((line) => !users.test(line))).toEqual([]);
      expect(manifests.filter(({ kind }) => kind !== 'ConfigMap').flatMap(unstableFields)).toEqual([]);
    });
  });

  /** An object that a value puts beside Prometheus or Grafana. */
  function isElsewhere({ metadata }: Manifest): boolean {
    return metadata.namespace === 'monitoring';
  }

  const overlays = KUSTOMIZE === null ? null : new OverlayFolder();
  afterAll(() => overlays?.close());

  const PLAIN = { metadata: false };
  const ONE_BY_ONE: readonly { components: readonly string[]; set: Readonly<Record<string, unknown>> }[] = [
    { components: [], set: PLAIN },
    { components: ['dashboards'], set: { ...PLAIN, 'dashboards.enabled': true } },
    {
      components: ['gke-autopilot'],
      set: {
        ...PLAIN,
        platform: 'gke-autopilot',
        'gkeAutopilot.allowlistPaths': ['gs://BUCKET/peerscope/workloadallowlist.yaml'],
      },
    },
    { components: ['google-managed-prometheus'], set: { ...PLAIN, 'clusterPodMonitoring.enabled': true } },
    { components: ['metadata', 'kubernetes-services'], set: { kubernetesServices: true } },
    { components: ['metadata'], set: {} },
    { components: ['networkpolicy'], set: { ...PLAIN, 'networkPolicy.enabled': true } },
    { components: ['openshift'], set: { ...PLAIN, platform: 'openshift' } },
    {
      components: ['traffic', 'openshift', 'openshift-traffic'],
      set: { ...PLAIN, traffic: true, platform: 'openshift' },
    },
    { components: ['otlp'], set: { ...PLAIN, 'otlp.endpoint': 'http://otel-collector.observability.svc:4318' } },
    { components: ['podmonitor'], set: { ...PLAIN, 'podMonitor.enabled': true } },
    { components: ['rules'], set: { ...PLAIN, 'prometheusRules.enabled': true } },
    { components: ['servicemonitor'], set: { ...PLAIN, 'serviceMonitor.enabled': true } },
    { components: ['state-hostpath'], set: { ...PLAIN, 'state.hostPath': '/var/lib/peerscope' } },
    { components: ['traffic'], set: { ...PLAIN, traffic: true } },
    { components: ['unprivileged'], set: { ...PLAIN, 'image.variant': 'none' } },
    { components: ['valkey'], set: { ...PLAIN, ...VALKEY } },
    { components: ['valkey', 'openshift'], set: { ...PLAIN, ...VALKEY, platform: 'openshift' } },
  ];
  const merge = (cases: typeof ONE_BY_ONE): (typeof ONE_BY_ONE)[number] => ({
    components: [...new Set(cases.flatMap(({ components }) => components))],
    set: { ...cases.reduce((all, { set }) => ({ ...all, ...set }), {}), metadata: true },
  });
  const without = (pattern: RegExp): typeof ONE_BY_ONE =>
    ONE_BY_ONE.filter(({ components }) => !components.some((component) => pattern.test(component)));

  it
    .skipIf(overlays === null)
    .each([
      ...ONE_BY_ONE,
      merge(without(/autopilot|openshift|unprivileged|servicemonitor/)),
      merge(without(/autopilot|unprivileged|podmonitor/)),
      merge(without(/traffic|openshift|unprivileged|servicemonitor/)),
    ])('renders the objects that kustomize makes of the base and $components', ({ components, set }) => {
    const built = overlays?.compose(components) ?? [];
    const rendered = render({ set }).filter((manifest) => !isHook(manifest));
    expect(comparable(rendered)).toEqual(comparable(built));
  });

  it('has a value for each component', () => {
    // Helm stores the release in the namespace before it creates objects, so the namespace is another one.
    const [namespace] = render({ set: { createNamespace: true, namespaceOverride: 'nodes' } }).filter(
      ({ kind }) => kind === 'Namespace',
    );
    const [built] =
      overlays?.compose(['namespace'], { namespace: 'nodes' }).filter(({ kind }) => kind === 'Namespace') ?? [];
    if (namespace && built) expect(comparable([namespace])).toEqual(comparable([built]));
    const compared = new Set(['namespace', ...ONE_BY_ONE.flatMap(({ components }) => components)]);
    expect(COMPONENTS.filter((component) => !compared.has(component))).toEqual([]);
  });

  it.each<{ set: Readonly<Record<string, unknown>>; reason: string; namespace?: string }>([
    {
      set: { 'valkey.enabled': true },
      reason: 'Cannot install the store without passwords: set valkey.existingSecret',
    },
    {
      set: { 'valkey.enabled': true, 'valkey.existingSecret': 'x' },
      reason: 'Cannot install the store without a certificate: set valkey.tlsSecret',
    },
    { set: { ...VALKEY, 'store.existingSecret': 'x' }, reason: 'Cannot use two stores' },
    {
      set: { 'podMonitor.enabled': true, 'serviceMonitor.enabled': true },
      reason: 'Cannot scrape each pod twice',
    },
    { set: { platform: 'gke-autopilot' }, reason: 'Cannot install on Autopilot without an allowlist' },
    {
      set: { platform: 'gke-autopilot', 'gkeAutopilot.allowlistPaths': ['x'], traffic: true },
      reason: 'Cannot run the socket agent on Autopilot',
    },
    { set: { createNamespace: true }, reason: 'Cannot create the namespace "peerscope"' },
    { set: { kubernetesServices: true, metadata: false }, reason: 'Cannot name endpoints by Services without the API' },
    { set: { trafic: true }, reason: 'trafic' },
    { set: { 'podMonitor.sampelLimit': 1 }, reason: 'sampelLimit' },
    { set: { platform: 'windows' }, reason: 'platform' },
    { set: { 'image.digest': 'latest' }, reason: 'digest' },
    { set: { 'podMonitor.interval': '30' }, reason: 'interval' },
  ])('refuses $set, and says why', ({ set, reason }) => {
    expect(refusal({ set })).toContain(reason);
  });

  const UNCONFINED = { appArmorProfile: { type: 'Unconfined' } };
  const SPC = { seLinuxOptions: { type: 'spc_t' } };
  it.each<{ set: Values['set'] & object; expected: object }>([
    { set: {}, expected: { ...UNCONFINED, ...SPC } },
    { set: { platform: 'openshift' }, expected: SPC },
    { set: { platform: 'gke-autopilot', 'gkeAutopilot.allowlistPaths': ['x'] }, expected: { ...UNCONFINED, ...SPC } },
    { set: { platform: 'bottlerocket' }, expected: { seLinuxOptions: { type: 'control_t' } } },
    { set: { platform: 'talos' }, expected: {} },
    { set: { platform: 'eks' }, expected: SPC },
    { set: { platform: 'bottlerocket', 'image.variant': 'none' }, expected: {} },
    {
      set: { containerSecurityContext: { readOnlyRootFilesystem: false } },
      expected: { ...UNCONFINED, ...SPC, readOnlyRootFilesystem: false },
    },
    { set: { 'containerSecurityContext.appArmorProfile': null }, expected: SPC },
  ])('gives the container with $set the rights of the platform', ({ set, expected }) => {
    const add = { none: undefined, search: ['SYS_PTRACE', 'DAC_READ_SEARCH'] }[String(set['image.variant'])] ?? [
      'SYS_PTRACE',
    ];
    expect(containerOf(render({ set }))?.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'], ...(set['image.variant'] === 'none' ? {} : { add }) },
      ...expected,
    });
  });

  it.each<{ image: object; expected: string }>([
    { image: {}, expected: 'peerscope:0.2.0' },
    { image: { variant: 'none' }, expected: 'peerscope:0.2.0-none' },
    {
      image: { registry: 'registry.example:5000', repository: 'a/b', tag: 'x' },
      expected: 'registry.example:5000/a/b:x',
    },
    { image: { tag: 'x', digest: `sha256:${'0'.repeat(64)}` }, expected: `peerscope@sha256:${'0'.repeat(64)}` },
  ])('takes the image $expected', ({ image, expected }) => {
    const set = Object.fromEntries(Object.entries(image).map(([key, value]) => [`image.${key}`, value as string]));
    const manifests = render({ set: { ...set, traffic: true } });
    expect([containerOf(manifests)?.image, containerOf(manifests, 'peerscope-sockets')?.image]).toEqual([
      expected,
      expected,
    ]);
  });

  it.each([
    { release: 'peerscope', set: {}, name: 'peerscope' },
    { release: 'prod', set: {}, name: 'prod-peerscope' },
    { release: 'prod', set: { nameOverride: 'callers' }, name: 'prod-callers' },
    { release: 'prod', set: { fullnameOverride: 'callers' }, name: 'callers' },
  ])(
    'names the objects of the release $release with $set "$name", with the job "peerscope"',
    ({ release, set, name }) => {
      const manifests = render({ release, set });
      const names = manifests.map(({ metadata }) => metadata.name.replace(/-test$/, ''));
      expect(new Set(names)).toEqual(new Set([name]));
      const daemonSet = manifests.find(({ kind }) => kind === 'DaemonSet');
      expect(daemonSet?.metadata).toMatchObject({ labels: { 'app.kubernetes.io/name': 'peerscope' } });
    },
  );

  it('lets the labels of the user win, except those that selectors need', () => {
    const labels = { team: 'a', 'app.kubernetes.io/name': 'other', 'app.kubernetes.io/version': 'x' };
    const set = {
      commonLabels: { team: 'b', tier: 'c' },
      podLabels: labels,
      'podMonitor.enabled': true,
      'podMonitor.labels': labels,
    };
    const manifests = render({ set });
    const daemonSet = manifests.find(({ kind }) => kind === 'DaemonSet') as unknown as {
      spec: { template: { metadata: { labels: object } } };
    };
    const monitor = manifests.find(({ kind }) => kind === 'PodMonitor');
    const expected = { team: 'a', tier: 'c', 'app.kubernetes.io/name': 'peerscope', 'app.kubernetes.io/version': 'x' };
    expect(daemonSet.spec.template.metadata.labels).toMatchObject(expected);
    expect(monitor?.metadata).toMatchObject({ labels: expected });
    expect(danglingReferences(manifests, 'peerscope', GIVEN)).toEqual([]);
  });

  describe('helm test', () => {
    const script = join(CHART, 'files/ready.mjs');
    const ask = (...args: readonly string[]) =>
      spawnSync(process.execPath, [script, ...args], { encoding: 'utf8', timeout: 30_000 });

    it('runs the script in the image of the exporter, with its rights, and asks by the name of a Service of its own', () => {
      const hooks = render({ set: { 'networkPolicy.enabled': true } }).filter(isHook);
      expect(hooks.map(({ kind }) => kind).sort()).toEqual(['NetworkPolicy', 'Pod', 'Service']);
      const { spec } = hooks.find(({ kind }) => kind === 'Pod') as unknown as {
        spec: Workload['spec']['template']['spec'];
      };
      const [container] = spec.containers;
      const own = containerOf(render({}));
      expect(container).toMatchObject({ image: own?.image, securityContext: own?.securityContext });
      const service = hooks.find(({ kind }) => kind === 'Service');
      expect(container?.args?.slice(-3)).toEqual([service?.metadata.name, '10043', 'http']);
    });

    it('passes with an exporter that is ready', async ({ onTestFinished }) => {
      const exporter = await Exporter.start([
        `--path.procfs=${join(ROOT, 'test/fixtures/proc/containers')}`,
        '--asn.provider=none',
        '--storage.path=/dev/null/none',
      ]);
      const { port } = new URL(exporter.url);
      onTestFinished(async () => {
        await exporter.stop();
      });
      const ready = { status: 0, stdout: '1 of 1 exporters are ready\n', stderr: '' };
      // Before its first scan, an exporter is not ready, and the test says so.
      await expect.poll(() => ask('127.0.0.1', port, 'http'), { timeout: 60_000 }).toMatchObject(ready);
    });

    it.each([
      { name: '127.0.0.1', stderr: /^Cannot use the exporter at 127\.0\.0\.1: .*ECONNREFUSED/ },
      { name: 'nowhere.invalid', stderr: /^Cannot find an exporter: nowhere\.invalid has no address\n$/ },
    ])('fails where $name answers nothing', async ({ name, stderr }) => {
      const asked = ask(name, String(await freePort()), 'http');
      expect(asked).toMatchObject({ status: 1, stderr: expect.stringMatching(stderr) as unknown });
    });
  });

  const SCORE = join(ROOT, '.cache/tools/kube-score');
  /** Checks of kube-score that do not fit, with the reason. */
  const EXCEPTED: Readonly<Record<string, string>> = {
    'container-image-pull-policy': 'Tags of releases do not move. image.pullPolicy sets it.',
    'container-ephemeral-storage-request-and-limit':
      'The state is an emptyDir with a sizeLimit, and nothing else is written.',
    'container-resources': 'A CPU limit would throttle scans. resources sets it.',
    'container-security-context-user-group-id': 'The image of the store has the UID 999, and OpenShift assigns one.',
    'pod-networkpolicy':
      'networkPolicy.enabled adds one. Network policies do not apply to the host network of the agent.',
    'pod-probes-identical': 'Both ask whether the store accepts connections. It has nothing else to be ready for.',
    'deployment-strategy': 'A second store beside the first would answer from an empty memory.',
    'deployment-replicas': 'The store has one replica.',
  };

  it('is clean for kube-score, except for checks with a reason', ({ skip }) => {
    if (!existsSync(SCORE)) process.stderr.write('SKIPPED: kube-score is not in .cache/tools; .ci/tools builds it\n');
    skip(!existsSync(SCORE), 'there is no kube-score');
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-score-'));
    const files = VALUES.map((file) => {
      const path = join(folder, basename(file));
      writeFileSync(
        path,
        render({ files: [file] })
          .map((manifest) => stringify(manifest))
          .join('---\n'),
      );
      return path;
    });
    const { stdout } = spawnSync(SCORE, ['score', '--kubernetes-version=v1.30', '--output-format=json', ...files], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
    rmSync(folder, { recursive: true });
    const objects = JSON.parse(stdout) as readonly {
      readonly object_name: string;
      readonly checks:
        | readonly {
            readonly check: { readonly id: string };
            readonly skipped: boolean;
            readonly grade: number;
            readonly comments: unknown;
          }[]
        | null;
    }[];
    const complaints = objects.flatMap(({ object_name, checks }) =>
      (checks ?? [])
        .filter(({ skipped, grade }) => !skipped && grade < 10)
        .map(({ check, comments }) => ({ id: check.id, object: object_name, comments })),
    );
    expect(complaints.filter(({ id }) => !(id in EXCEPTED))).toEqual([]);
    const needed = new Set(complaints.map(({ id }) => id));
    expect(Object.keys(EXCEPTED).filter((id) => !needed.has(id))).toEqual([]);
  });
});
