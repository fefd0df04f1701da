import { describe, expect, test } from 'vitest';
import { parseCgroup } from '../../src/collect/cgroup.ts';
import { ClusterCache } from '../../src/enrich/kubernetes/cluster-cache.ts';
import { podKeysOf, readPod, type Pod } from '../../src/enrich/kubernetes/pods.ts';
import { parseRules } from '../../src/config/rules.ts';
import type { Cgroup } from '../../src/model.ts';
import { NO_OWNER, OwnerLabeler } from '../../src/enrich/owner-labels.ts';

const uidOf = (number: number): string => `aaaaaaaa-0000-4000-8000-${String(number).padStart(12, '0')}`;
const idOf = (number: number): string => String(number).padStart(64, '0');
const inPod = (pod: number, container: number): Cgroup =>
  parseCgroup(`0::/kubepods/burstable/pod${uidOf(pod)}/${idOf(container)}\n`);
const HOST = parseCgroup('0::/system.slice/ssh.service\n');

const podOf = (pod: number, ...containers: number[]): Pod => ({
  uid: uidOf(pod),
  configHash: null,
  namespace: 'shop',
  name: `web-${pod}`,
  workload: 'web',
  addresses: [],
  containers: containers.map((container) => [idOf(container), `c${container}`]),
  onlyContainer: null,
});

function knowing(...pods: Pod[]): { cluster: ClusterCache; names: OwnerLabeler } {
  const cluster = new ClusterCache(['pods']);
  const names = new OwnerLabeler(cluster);
  cluster.beginScan(0);
  names.beginScan(0);
  cluster.accept({ resource: 'pods', change: { kind: 'replace', items: pods } }, 0);
  cluster.accept({ resource: 'pods', up: true }, 0);
  return { cluster, names };
}

test('interns equal labels of different containers', () => {
  const { names } = knowing(podOf(1, 1));
  expect(names.labelsOf('nginx', inPod(1, 1))).toBe(names.labelsOf('nginx', inPod(1, 1)));
  expect(names.labelsOf('sshd', HOST)).toBe(names.labelsOf('sshd', HOST));
  expect(names.labelsOf('nginx', inPod(2, 2))).toBe(names.labelsOf('nginx', inPod(2, 2)));
});

test.each([
  { path: `/system.slice/docker-${'a'.repeat(64)}.scope`, expected: { workload: 'docker', container: 'aaaaaaaaaaaa' } },
  { path: `/ecs/${'b'.repeat(32)}/${'c'.repeat(32)}-1234`, expected: { container: 'cccccccccccc' } },
  { path: '/lxc.payload.database-primary/system.slice/x.service', expected: { container: 'database-primary' } },
  {
    path: '/machine.slice/systemd-nspawn@database-primary.service/payload/system.slice/x.service',
    expected: { workload: 'database-primary/x.service', container: 'database-primary' },
  },
  {
    path: `/lxc/101/ns/system.slice/docker.service/docker/${'a'.repeat(64)}`,
    expected: { workload: 'docker', container: '101/aaaaaaaaaaaa' },
  },
  {
    path: `/system.slice/docker-${'a'.repeat(64)}.scope/docker/${'b'.repeat(64)}`,
    expected: { workload: 'docker', container: 'aaaaaaaaaaaa/bbbbbbbbbbbb' },
  },
])('outside Kubernetes, $path has the labels $expected', ({ path, expected }) => {
  expect(new OwnerLabeler().labelsOf('p', parseCgroup(`0::${path}\n`))).toMatchObject(expected);
});

test('a container of a user is never one of a pod', () => {
  const { names } = knowing(podOf(1, 1));
  for (const claim of [`kubepods/pod${uidOf(1)}/${idOf(1)}`, `docker/${idOf(1)}`]) {
    const cgroup = parseCgroup(`0::/user.slice/user@1000.service/${claim}\n`);
    const owner = { process: 'nginx', namespace: '', workload: 'uid:1000', pod: '', container: '000000000000' };
    expect(names.labelsOf('nginx', cgroup)).toEqual(owner);
    expect(names.namespaceLabelsOf([cgroup])).toBe(NO_OWNER);
  }
});

test('keeps pending owners with equal labels apart', () => {
  const { cluster, names } = knowing();
  const [one, other] = [names.labelsOf('nginx', inPod(1, 1)), names.labelsOf('nginx', inPod(2, 2))];
  expect([one, other]).toEqual([NO_OWNER, NO_OWNER]);
  expect([one, other, NO_OWNER].map((labels) => names.isProvisional(labels))).toEqual([true, true, false]);
  cluster.accept({ resource: 'pods', change: { kind: 'set', item: podOf(1, 1) } }, 1);
  const changed = names.beginScan(1);
  expect([...changed.keys()]).toEqual([one]);
  expect(changed.get(one)).toMatchObject({ process: 'nginx', pod: 'web-1', container: 'c1' });
});

test('does not delay another process of the same container', () => {
  const { cluster, names } = knowing();
  names.labelsOf('entrypoint.sh', inPod(1, 1));
  cluster.beginScan(10_000);
  names.beginScan(10_000);
  expect(names.labelsOf('nginx', inPod(1, 1))).toMatchObject({ process: 'nginx', pod: uidOf(1) });
});

test('does not evict pending owners for a process that keeps changing its name', () => {
  const { cluster, names } = knowing();
  const waiting = names.labelsOf('nginx', inPod(1, 1));
  for (let i = 0; i < 20_000; i++) names.labelsOf(`name-${i}`, inPod(2, 2));
  expect(names.labelsOf('name-20000', inPod(2, 2))).toMatchObject({ process: 'name-20000', pod: uidOf(2) });
  cluster.accept({ resource: 'pods', change: { kind: 'set', item: podOf(1, 1) } }, 1);
  expect(names.beginScan(1).get(waiting)).toMatchObject({ pod: 'web-1' });
});

test('a pod whose process keeps changing its name takes no place of a pod that comes later', () => {
  const { cluster, names } = knowing();
  const crowd = Array.from({ length: 20_000 }, (_, i) => names.labelsOf(`name-${i}`, inPod(2, 2)));
  const waiting = names.labelsOf('nginx', inPod(1, 1));
  expect(names.isProvisional(waiting)).toBe(true);
  expect(names.isProvisional(crowd[0] ?? NO_OWNER), 'the oldest of the crowd').toBe(false);
  cluster.accept({ resource: 'pods', change: { kind: 'set', item: podOf(1, 1) } }, 1);
  const changed = names.beginScan(1);
  expect(changed.get(waiting)).toMatchObject({ pod: 'web-1' });
  expect(changed.get(crowd[0] ?? NO_OWNER)).toMatchObject({ process: 'name-0', pod: uidOf(2) });
});

test('drops idle owners that could not be named', () => {
  const { cluster, names } = knowing();
  for (let i = 0; i < 10_000; i++) names.labelsOf(`name-${i}`, inPod(2, 2));
  for (const now of [10_000, 3_600_000]) {
    cluster.beginScan(now);
    names.beginScan(now);
  }
  expect(names.isProvisional(names.labelsOf('nginx', inPod(1, 1)))).toBe(true);
});

describe('a namespace is', () => {
  const { names } = knowing(podOf(1, 1, 2), podOf(3, 3));
  const sandbox = inPod(1, 9);
  const relative = parseCgroup(`0::/../cri-containerd-${idOf(2)}.scope\n`);

  test.each<{ name: string; cgroups: (Cgroup | null)[]; expected: object }>([
    {
      name: 'that of a pod whose processes all are',
      cgroups: [sandbox, inPod(1, 1)],
      expected: { pod: 'web-1', container: '' },
    },
    {
      name: 'that of a pod where one tells its container alone',
      cgroups: [sandbox, relative],
      expected: { pod: 'web-1' },
    },
    { name: 'that of a pod where one cannot be read', cgroups: [null, inPod(1, 1)], expected: { pod: 'web-1' } },
    { name: 'that of nobody with two pods in it', cgroups: [inPod(1, 1), inPod(3, 3)], expected: NO_OWNER },
    { name: 'that of nobody with a process of the host', cgroups: [inPod(1, 1), HOST], expected: NO_OWNER },
    { name: 'that of nobody without a process', cgroups: [], expected: NO_OWNER },
  ])('$name', ({ cgroups, expected }) => expect(names.namespaceLabelsOf(cgroups)).toMatchObject(expected));
});

describe('rules of workloads', () => {
  const rulesOf = (text: string) => parseRules(`workloads: [${text}]`, 'peerscope.yaml').workloads;
  const metadata = {
    ...{ uid: uidOf(1), namespace: 'shop', name: 'run-1' },
    labels: { app: 'etl', 'example.com/run': 'nightly-17', secret: 's' },
    annotations: { team: 'core' },
  };
  const status = { containerStatuses: [{ name: 'c', containerID: `containerd://${idOf(1)}` }] };
  const workloadBy = (text: string, cgroup: Cgroup): string => {
    const rules = rulesOf(text);
    const pod = readPod({ metadata, status }, podKeysOf(rules)) ?? expect.fail();
    const { cluster } = knowing(pod);
    return new OwnerLabeler(cluster, rules).labelsOf('x', cgroup).workload;
  };
  const SSH = { ...HOST, path: '/system.slice/ssh.service' };

  test.each<[rules: string, cgroup: Cgroup, expected: string]>([
    ['{ name: batch, labels: { app: ^etl$ } }', inPod(1, 1), 'batch'],
    ['{ name: "{{ .name }}", labels: { example.com/run: "(?<name>.*)-" } }', inPod(1, 1), 'nightly'],
    [
      '{ name: "{{ .a }}/{{.b}}", labels: { app: (?<a>.+) }, annotations: { team: (?<b>.+) } }',
      inPod(1, 1),
      'etl/core',
    ],
    ['{ name: a, labels: { app: x } }, { name: b, annotations: { team: core } }', inPod(1, 1), 'b'],
    ['{ name: a, unit: "" }, { name: b, labels: { app: e } }, { name: c, labels: { app: e } }', inPod(1, 1), 'b'],
    ['{ name: a, labels: { app: etl, missing: "" } }', inPod(1, 1), 'run-1'],
    ['{ name: a, labels: { toString: "" } }', inPod(1, 1), 'run-1'],
    ['{ name: "{{ .x }}", labels: { app: "etl(?<x>.*)" } }', inPod(1, 1), 'run-1'],
    ['{ name: a, labels: { app: "" } }', SSH, 'ssh.service'],
    ['{ name: login, unit: ^ssh }', SSH, 'login'],
    ['{ name: "{{ .s }}", cgroup: "^/(?<s>[a-z]+)" }', SSH, 'system'],
    ['{ name: a, cgroup: . }', HOST, 'ssh.service'],
    ['{ name: a, unit: ssh, cgroup: nothing }', SSH, 'ssh.service'],
  ])('%s', (rules, cgroup, expected) => expect(workloadBy(rules, cgroup)).toBe(expected));

  test('keep in memory only the labels and annotations that they match, and at most 1,000 characters', () => {
    const keysOf = (text: string) => podKeysOf(rulesOf(text));
    const keys = keysOf('{ name: a, labels: { app: a, none: a }, annotations: { team: a } }');
    const long = { ...metadata, annotations: { team: 'x'.repeat(5000), other: 'y' } };
    expect(readPod({ metadata: long }, keys)?.kept).toEqual({
      labels: { app: 'etl' },
      annotations: { team: 'x'.repeat(1000) },
    });
    expect(readPod({ metadata }, keysOf('{ name: a, unit: a }'))).not.toHaveProperty('kept');
    expect(readPod({ metadata })).not.toHaveProperty('kept');
  });
});
