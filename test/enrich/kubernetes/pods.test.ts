import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAddress } from '../../../src/common/address.ts';
import { readPod, type Pod } from '../../../src/enrich/kubernetes/pods.ts';
import { podsOf } from '../../support/kubernetes-api.ts';

/** Namespace and name of each pod, its workload, its containers and its own addresses. */
const PLATFORMS: Readonly<Record<string, readonly string[]>> = {
  kubeadm: [
    'kube-system/kube-apiserver-cp-1 of kube-apiserver: kube-apiserver',
    'kube-system/kube-proxy-x7z9q of kube-proxy: kube-proxy',
    'shop/web-7d4b9c6f8d-2xkqp of web: web proxy migrate debugger-8xk2p 10.244.0.5 fd00:10:244::5',
    'shop/db-0 of db: postgres 10.244.0.6',
    'shop/report-29823840-lw5mz of report: report',
    'shop/import-20260915-9kd7t of import-20260915: import 10.244.0.8',
    'default/shell of shell: shell 10.244.0.9',
    'shop/web-7d4b9c6f8d-new01 of web:',
  ],
  kind: [
    'kube-system/etcd-kind-control-plane of etcd: etcd',
    'kube-system/kindnet-5t2jv of kindnet: kindnet-cni',
    'kube-system/coredns-668d6bf9bc-4c8zl of coredns: coredns 10.244.0.3',
  ],
  eks: [
    'kube-system/aws-node-gk7rp of aws-node: aws-node aws-eks-nodeagent aws-vpc-cni-init',
    'shop/checkout-5f6d8b9c7-hx2lt of checkout: checkout istio-proxy 10.0.1.87',
  ],
  gke: [
    'kube-system/kube-proxy-gke-main-default-pool-1a2b3c4d-x9vz of kube-proxy: kube-proxy',
    'kube-system/fluentbit-gke-wq8n2 of fluentbit-gke: fluentbit fluentbit-gke fluentbit-gke-init',
    'shop/cart-averylongnameofadeploymentthatthenamegeneratorhadtocuvz4l2 of ' +
      'cart-averylongnameofadeploymentthatthenamegeneratorhadtocutoff: cart 10.8.2.14',
  ],
  openshift: [
    'openshift-dns/dns-default-8zq4m of dns-default: dns kube-rbac-proxy 10.129.2.5',
    'openshift-ingress/router-default-6c8d5f7b9-q2m4x of router-default: router',
    'legacy/frontend-3-k9x2b of frontend: frontend 10.129.2.9',
  ],
};

describe.each(Object.entries(PLATFORMS))('the pods of %s', (platform, expected) => {
  const pods = podsOf(platform).map((object) => readPod(object) ?? expect.fail('no pod'));

  test('have their workloads, containers and own addresses', () => {
    const shown = pods.map(({ namespace, name, workload, containers, addresses }) =>
      [
        `${namespace}/${name} of ${workload}:`,
        ...new Set(containers.map(([, container]) => container)),
        ...addresses.map(formatAddress),
      ].join(' '),
    );
    expect(shown).toEqual(expected);
  });

  test('have container ids without the runtime scheme', () => {
    for (const { containers } of pods) for (const [id] of containers) expect(id).toMatch(/^[0-9a-f]{64}$/);
  });
});

const named = (name: string): Pod => {
  const object = Object.keys(PLATFORMS)
    .flatMap(podsOf)
    .find(({ metadata }) => metadata.name.startsWith(name));
  return readPod(object) ?? expect.fail(`no pod ${name}`);
};

test('reads the config hash of a static pod', () => {
  const { uid, configHash } = named('kube-apiserver');
  expect(configHash).toMatch(/^[0-9a-f]{32}$/);
  expect(uid).not.toBe(configHash);
  expect(named('db-0').configHash).toBeNull();
});

test('reads both ids of a restarted container', () => {
  const web = named('web-7d4b9c6f8d-2xkqp').containers.filter(([, name]) => name === 'web');
  expect(new Set(web.map(([id]) => id)).size).toBe(2);
});

test('reads the name of an only container', () => {
  expect([named('db-0').onlyContainer, named('web-7d4b9c6f8d-2xkqp').onlyContainer]).toEqual(['postgres', null]);
});

describe('the workload', () => {
  const CREATED = '2026-09-15T00:00:10Z';
  const MINUTE = Date.parse(CREATED) / 60_000;
  const at = (minutes: number): string => String(Math.floor(MINUTE) + minutes);
  const controlled = (kind: string, name: string, labels = {}): unknown => ({
    metadata: {
      uid: 'u',
      namespace: 'n',
      name: 'pod-x',
      creationTimestamp: CREATED,
      labels,
      ownerReferences: [
        { kind: 'Node', name: 'not the controller' },
        { kind, name, controller: true },
      ],
    },
  });

  test.each<{ name: string; pod: unknown; expected: string }>([
    {
      name: 'of a ReplicaSet is its Deployment',
      pod: controlled('ReplicaSet', 'web-7d4b9c6f8d', { 'pod-template-hash': '7d4b9c6f8d' }),
      expected: 'web',
    },
    {
      name: 'of a ReplicaSet without a hash is the ReplicaSet',
      pod: controlled('ReplicaSet', 'web-7d4b9c6f8d'),
      expected: 'web-7d4b9c6f8d',
    },
    {
      name: 'of a ReplicaSet whose name ends otherwise is the ReplicaSet',
      pod: controlled('ReplicaSet', 'web', { 'pod-template-hash': '7d4b9c6f8d' }),
      expected: 'web',
    },
    {
      name: 'of an Argo rollout is the rollout',
      pod: controlled('ReplicaSet', 'web-5f6d', { 'rollouts-pod-template-hash': '5f6d' }),
      expected: 'web',
    },
    { name: 'of a Job due that minute is its CronJob', pod: controlled('Job', `report-${at(0)}`), expected: 'report' },
    {
      name: 'of a Job three days late is its CronJob',
      pod: controlled('Job', `report-${at(-4320)}`),
      expected: 'report',
    },
    {
      name: 'of a Job that ends in another number is the Job',
      pod: controlled('Job', 'report-20260915'),
      expected: 'report-20260915',
    },
    {
      name: 'of a Job due tomorrow is the Job',
      pod: controlled('Job', `report-${at(1440)}`),
      expected: `report-${at(1440)}`,
    },
    { name: 'of a Job by hand is the Job', pod: controlled('Job', 'report-x7k2'), expected: 'report-x7k2' },
    { name: 'of a DaemonSet is the DaemonSet', pod: controlled('DaemonSet', 'kube-proxy'), expected: 'kube-proxy' },
    { name: 'of a StatefulSet is the StatefulSet', pod: controlled('StatefulSet', 'db'), expected: 'db' },
    { name: 'of a kind of its own is that', pod: controlled('Cluster', 'pg-main'), expected: 'pg-main' },
    { name: 'of a static pod is the pod without its node', pod: controlled('Node', 'x'), expected: 'pod' },
    { name: 'of a static pod of another node is the pod', pod: controlled('Node', 'y'), expected: 'pod-x' },
    {
      name: 'of a pod without a controller is the pod',
      pod: { metadata: { uid: 'u', namespace: 'n', name: 'shell', ownerReferences: [{ kind: 'Job', name: 'x' }] } },
      expected: 'shell',
    },
  ])('$name', ({ pod, expected }) => expect(readPod(pod)?.workload).toBe(expected));
});

describe('the workload of a pod that is made for one run', () => {
  const CREATED = '2026-09-15T00:00:10Z';
  const NS = BigInt(Date.parse(CREATED)) * 1_000_000n;
  const argo = 'workflows.argoproj.io';
  const ray = 'ray.io/originated-from-cr-name';
  const flyte = { 'workflow-name': 'train', 'execution-id': 'f3c9a1' };
  const rollout = { 'openshift.io/deployment-config.name': 'web' };

  interface Run {
    readonly of: string;
    readonly labels?: Record<string, unknown>;
    readonly annotations?: Record<string, unknown>;
    readonly generateName?: string;
    readonly expected: string;
  }
  /** `of` is the kind and name of the controller, or the name of a pod without one. */
  const workloadOf = ({ of, labels = {}, annotations = {}, generateName }: Run): string | undefined => {
    const [name = '', kind] = of.split(' ').reverse();
    const owner = kind === undefined ? {} : { ownerReferences: [{ kind, name, controller: true }] };
    const pod = kind === undefined ? name : 'pod-of-it';
    return readPod({
      metadata: {
        ...{ uid: 'u', namespace: 'n', name: pod, creationTimestamp: CREATED, labels, annotations, generateName },
        ...owner,
      },
    })?.workload;
  };

  test.each<Run>([
    { of: 'Job resize-7xk2p', labels: { 'scaledjob.keda.sh/name': 'resize' }, expected: 'resize' },
    { of: 'Job resize-https', labels: { 'scaledjob.keda.sh/name': 'resize-bcdfg' }, expected: 'resize-bcdfg' },
    { of: 'Job import-x7k2p', expected: 'import' },
    { of: 'Job import-bcdfg', expected: 'import' },
    { of: 'Job sync-mssql', expected: 'sync-mssql' },
    { of: 'Job probe-https', expected: 'probe-https' },
    { of: 'Job db-migrate', expected: 'db-migrate' },
    { of: 'Job nightly-20260915', expected: 'nightly-20260915' },
    { of: 'Job x7k2p', expected: 'x7k2p' },
    { of: 'Job backup-manual-x7d', expected: 'backup' },
    { of: 'Job dagster-run-0f8fad5b-d9cb-469f-a165-70867728950e', expected: 'dagster-run' },
    { of: 'Job dagster-run-0f8fad5b', labels: { 'dagster/job': 'daily' }, expected: 'daily' },
    { of: `Job maintain-${NS / 1_000_000n}`, expected: 'maintain' },
    { of: `Job maintain-${NS / 500_000n}`, expected: `maintain-${NS / 500_000n}` },
    { of: 'Job misty-fox-9kx2d', labels: { 'prefect.io/deployment-name': 'etl/prod' }, expected: 'etl/prod' },
    { of: 'Job set-a-0', labels: { 'jobset.sigs.k8s.io/jobset-name': 'set-x7k2p' }, expected: 'set' },
    { of: 'Workflow etl-2fk8z', expected: 'etl' },
    { of: `Workflow etl-${NS / 1_000_000_000n}`, expected: 'etl' },
    { of: 'Workflow a-2fk8z', labels: { [`${argo}/cron-workflow`]: 'etl' }, expected: 'etl' },
    { of: 'Workflow a-2fk8z', labels: { [`${argo}/workflow-template`]: 'etl' }, expected: 'etl' },
    { of: 'Workflow a-2fk8z', labels: { [`${argo}/cluster-workflow-template`]: 'etl' }, expected: 'etl' },
    { of: 'Deployment a', labels: { [`${argo}/cron-workflow`]: 'etl' }, expected: 'a' },
    {
      of: 'TaskRun build-run-8sl2d-compile',
      labels: { 'tekton.dev/pipeline': 'build', 'tekton.dev/pipelineRun': 'build-run-8sl2d' },
      expected: 'build',
    },
    {
      of: 'TaskRun build-run-8sl2d-compile',
      labels: { 'tekton.dev/pipeline': 'build-run-8sl2d', 'tekton.dev/pipelineRun': 'build-run-8sl2d' },
      expected: 'build-run',
    },
    { of: 'TaskRun lint-8sl2d', labels: { 'tekton.dev/task': 'lint-all' }, expected: 'lint-all' },
    { of: 'StatefulSet affinity-assistant-0a1b2c3d4e', expected: 'affinity-assistant' },
    {
      of: 'EphemeralRunner set-7kfj2-runner-qv8lm',
      labels: { 'actions.github.com/scale-set-name': 'set' },
      expected: 'set',
    },
    { of: 'EphemeralRunner set-7kfj2-runner-qv8lm', expected: 'set' },
    { of: 'set-7kfj2-runner-qv8lm-workflow', expected: 'set' },
    { of: 'Runner ci-7kfj2-qv8lm', labels: { 'runner-deployment-name': 'ci-main' }, expected: 'ci-main' },
    { of: 'Runner ci-7kfj2-qv8lm', expected: 'ci' },
    { of: 'Pod pi-4f8a2c-driver', labels: { 'spark-role': 'executor', 'spark-app-name': 'my-pi' }, expected: 'my-pi' },
    {
      of: 'SparkApplication x',
      labels: { 'spark-role': 'driver', 'sparkoperator.k8s.io/app-name': `pi-${NS}` },
      expected: 'pi',
    },
    { of: 'Pod pi-4f8a2c91d0e3b7a6-driver', expected: 'pi' },
    { of: 'pi-4f8a2c91d0e3b7a6-exec-12', expected: 'pi' },
    { of: 'daily-load-x8f3k2m1', labels: { dag_id: 'daily', task_id: 'load' }, expected: 'daily' },
    { of: 'daily-load', labels: { dag_id: 'daily' }, expected: 'daily-load' },
    { of: 'RayCluster llm-raycluster-9xk2p', labels: { [ray]: 'llm', 'ray.io/cluster': 'x' }, expected: 'llm' },
    {
      of: 'RayCluster llm-raycluster-9xk2p',
      labels: { 'ray.io/cluster': 'llm-raycluster-9xk2p' },
      expected: 'llm',
    },
    { of: 'RayCluster shared', labels: { 'ray.io/cluster': 'shared' }, expected: 'shared' },
    { of: 'flyteworkflow f3c9a1', labels: flyte, expected: 'train' },
    { of: 'runner-abc-project-7-concurrent-0-x2m4k9qp', expected: 'runner-abc-project-7' },
    { of: 'runner-abc-project-7-concurrent-0rg4lh', expected: 'runner-abc-project-7' },
    { of: 'runner-abc-project-7', labels: { 'project.runner.gitlab.com/name': 'shop' }, expected: 'shop' },
    {
      of: 'ReplicaSet hello-00001-deployment-6c8d',
      labels: { 'serving.knative.dev/service': 'hello' },
      expected: 'hello',
    },
    { of: 'ReplicationController web-3', labels: { deploymentconfig: 'web' }, expected: 'web' },
    { of: 'ReplicationController web-3', annotations: rollout, expected: 'web' },
    { of: 'ReplicationController web-3', expected: 'web-3' },
    { of: 'Build web-3', expected: 'web' },
    { of: 'Challenge shop-tls-1-2094812-3948573', expected: 'shop-tls' },
    { of: 'node-debugger-worker-1-x7k2p', expected: 'node-debugger' },
    { of: 'job-x9z1q', generateName: 'job-', expected: 'job' },
    { of: 'other', generateName: 'job-', expected: 'other' },
    { of: 'web-6c8d-abcde', generateName: 'web-6c8d-', labels: { 'pod-template-hash': '6c8d' }, expected: 'web' },
    { of: 'StatefulSet db-x7k2p', expected: 'db-x7k2p' },
    { of: 'Job a-x7k2p', labels: { 'scaledjob.keda.sh/name': { no: 'text' } }, expected: 'a' },
    { of: 'Job a', labels: { 'scaledjob.keda.sh/name': 'a\nb' }, expected: 'a\ufffdb' },
  ])('of $of with $labels is $expected', (run) => expect(workloadOf(run)).toBe(run.expected));

  test('is cut to the longest name that the API server allows before any pattern reads it', () => {
    const long = `a${'.'.repeat(250_000)}b`;
    expect(workloadOf({ of: long, generateName: long, expected: 'a' })).toBe('a');
  });
});

describe('addresses', () => {
  const pod = (spec: object, status: object): unknown => ({
    metadata: { uid: 'u', namespace: 'n', name: 'p' },
    spec,
    status: { podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }, { ip: 'no address' }], ...status },
  });

  test.each<{ name: string; pod: unknown; expected: string[] }>([
    {
      name: 'of a running pod are all of its own',
      pod: pod({}, { phase: 'Running' }),
      expected: ['10.0.0.1', 'fd00::1'],
    },
    { name: 'of a pod on the host network are none', pod: pod({ hostNetwork: true }, {}), expected: [] },
    { name: 'of a pod that succeeded are none', pod: pod({}, { phase: 'Succeeded' }), expected: [] },
    { name: 'of a pod that failed are none', pod: pod({}, { phase: 'Failed' }), expected: [] },
    { name: 'before there is a list are the one', pod: pod({}, { podIPs: undefined }), expected: ['10.0.0.1'] },
  ])('$name', ({ pod, expected }) => expect(readPod(pod)?.addresses.map(formatAddress)).toEqual(expected));
});

test('sanitizes names', () => {
  const { namespace, name } = readPod({ metadata: { uid: 'u', namespace: 'a\nb', name: 'x'.repeat(300) } }) ?? {};
  expect([namespace, name?.length]).toEqual(['a\ufffdb', 128]);
});

test('returns a pod or null for any object', () => {
  const any = fc.anything();
  const shape = fc.record(
    {
      metadata: fc.oneof(
        any,
        fc.record({ uid: any, namespace: fc.string(), name: fc.string(), ownerReferences: any, labels: any }),
      ),
      spec: any,
      status: fc.oneof(any, fc.record({ podIPs: any, containerStatuses: fc.array(any) })),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(any, shape), (object) => {
      const pod = readPod(object);
      expect(pod === null || pod.uid !== '').toBe(true);
    }),
  );
});
