import { describe, expect, test } from 'vitest';
import { formatCidr, parseAddress } from '../../../src/common/address.ts';
import { parseCgroup } from '../../../src/collect/cgroup.ts';
import { ClusterCache, type Resource } from '../../../src/enrich/kubernetes/cluster-cache.ts';
import { readEndpointSlice, readService } from '../../../src/enrich/kubernetes/services.ts';
import { bucketOf } from '../../../src/common/network-class.ts';
import { readPod, type Pod } from '../../../src/enrich/kubernetes/pods.ts';
import type { Address, Transport } from '../../../src/model.ts';
import { podsOf } from '../../support/kubernetes-api.ts';

const address = (text: string): Address => parseAddress(text) ?? expect.fail(text);
const pods = podsOf('kubeadm').map((object) => readPod(object) ?? expect.fail('no pod'));
const podNamed = (name: string): Pod => pods.find((pod) => pod.name === name) ?? expect.fail(name);
const web = podNamed('web-7d4b9c6f8d-2xkqp');
const db = podNamed('db-0');
const apiServer = podNamed('kube-apiserver-cp-1');
const idOf = (pod: Pod, container: string): string => pod.containers.find(([, name]) => name === container)?.[0] ?? '';

const isInCluster = (cluster: ClusterCache, at: Address): boolean => cluster.isInCluster(at, formatCidr(bucketOf(at)));

test('excludes a pod address of this node from exact queries', () => {
  const cluster = knowing(pods);
  const asked = (text: string): boolean => cluster.isInCluster(address(text), `${text}/32`);
  expect(['10.244.0.6', '8.8.8.8'].map(asked)).toEqual([true, false]);
});

function knowing(items: readonly Pod[], resources: Resource[] = ['pods']): ClusterCache {
  const cluster = new ClusterCache(resources);
  cluster.beginScan(0);
  cluster.accept({ resource: 'pods', change: { kind: 'replace', items } }, 0);
  cluster.accept({ resource: 'pods', up: true }, 0);
  return cluster;
}

describe('process labels', () => {
  const cluster = knowing(pods);
  const slice = (pod: Pod): string => `kubepods-burstable-pod${pod.uid.replaceAll('-', '_')}.slice`;
  const names = (pod: string, workload: string, container: string, namespace = 'shop'): object => ({
    pod,
    workload,
    container,
    namespace,
  });
  const NEW = 'e'.repeat(64);

  test.each<{ name: string; path: string; process?: string; expected: object | null }>([
    {
      name: 'by its container',
      path: `/kubepods.slice/${slice(web)}/cri-containerd-${idOf(web, 'proxy')}.scope`,
      expected: names(web.name, 'web', 'proxy'),
    },
    {
      name: 'by its container where its path is relative to the reader, and tells no pod',
      path: `/../cri-containerd-${idOf(web, 'web')}.scope`,
      expected: names(web.name, 'web', 'web'),
    },
    {
      name: 'by the run of its container before the last',
      path: `/kubepods/pod${web.uid}/${web.containers.filter(([, name]) => name === 'web')[1]?.[0]}`,
      expected: names(web.name, 'web', 'web'),
    },
    {
      name: 'by an ephemeral container',
      path: `/kubepods/pod${web.uid}/${idOf(web, 'debugger-8xk2p')}`,
      expected: names(web.name, 'web', 'debugger-8xk2p'),
    },
    {
      name: 'by the container that runs its container',
      path: `/kubepods/pod${web.uid}/${idOf(web, 'web')}/docker/${NEW}`,
      expected: names(web.name, 'web', 'web'),
    },
    {
      name: 'by the pod alone where no container is known, which is its sandbox',
      path: `/kubepods/pod${web.uid}/${NEW}`,
      process: 'pause',
      expected: names(web.name, 'web', 'POD'),
    },
    { name: 'not while only the pod is known', path: `/kubepods/pod${web.uid}/${NEW}`, expected: null },
    { name: 'not while neither is known', path: `/kubepods/pod${NEW.slice(32)}/${NEW}`, expected: null },
    {
      name: 'by the only container of a pod that has no cgroups for containers',
      path: `/kubepods/pod${db.uid}`,
      expected: names('db-0', 'db', 'postgres'),
    },
    {
      name: 'by a pod with several containers, and none of them',
      path: `/kubepods/pod${web.uid}`,
      expected: names(web.name, 'web', ''),
    },
    {
      name: 'by the hash of the configuration of a static pod',
      path: `/kubepods/burstable/pod${apiServer.configHash}`,
      expected: names('kube-apiserver-cp-1', 'kube-apiserver', 'kube-apiserver', 'kube-system'),
    },
    {
      name: 'as the monitor of a pod, by no container',
      path: `/kubepods.slice/${slice(db)}/crio-conmon-${NEW}.scope`,
      expected: names('db-0', 'db', ''),
    },
    {
      name: 'by its own container, whatever a folder inside is called',
      path: `/kubepods/pod${web.uid}/${idOf(web, 'web')}/docker/${idOf(web, 'proxy')}`,
      expected: names(web.name, 'web', 'web'),
    },
    {
      name: 'by its own pod, whatever a folder inside is called',
      path: `/kubepods/pod${web.uid}/${idOf(web, 'web')}/kubepods/pod${db.uid}/${idOf(db, 'postgres')}`,
      expected: names(web.name, 'web', 'web'),
    },
    {
      name: 'not by a container that the API has in another pod',
      path: `/kubepods/pod${web.uid}/${idOf(db, 'postgres')}`,
      expected: null,
    },
    {
      name: 'not by a container inside one that is in no pod',
      path: `/docker/${NEW}/docker/${idOf(web, 'web')}`,
      expected: null,
    },
    ...[`kubepods.slice/${slice(web)}/cri-containerd-${idOf(web, 'web')}.scope`, `docker/${idOf(web, 'web')}`].map(
      (path) => ({
        name: `not below the manager of a user, as ${path.slice(0, 8)}…`,
        path: `/user.slice/user-1000.slice/user@1000.service/${path}`,
        expected: null,
      }),
    ),
    { name: 'not outside of all containers', path: '/system.slice/ssh.service', expected: null },
  ])('$name', ({ path, process = 'nginx', expected }) => {
    expect(cluster.labelsOf(process, parseCgroup(`0::${path}\n`))).toEqual(expected);
  });
});

describe('a pod that claims a config hash', () => {
  const strange = (configHash: string): Pod => ({ ...web, uid: 'strange', configHash, containers: [] });
  const nameIn = (cluster: ClusterCache, uid: string): string | undefined =>
    cluster.podOf(parseCgroup(`0::/kubepods/pod${uid}\n`))?.name;

  test.each([
    ['of a static pod that is there', apiServer, apiServer.configHash ?? ''],
    ['that is the uid of another pod', db, db.uid],
  ])('%s does not get its rows', (_, victim, hash) => {
    const cluster = knowing([victim, strange(hash)]);
    expect(nameIn(cluster, hash)).toBe(victim.name);
    cluster.accept({ resource: 'pods', change: { kind: 'set', item: strange(hash) } }, 1_000);
    expect(nameIn(cluster, hash)).toBe(victim.name);
  });

  test('of a recreated static pod takes over', () => {
    const cluster = knowing([apiServer]);
    const heir = { ...apiServer, uid: 'heir', name: 'heir' };
    cluster.accept({ resource: 'pods', change: { kind: 'delete', item: apiServer } }, 1_000);
    cluster.accept({ resource: 'pods', change: { kind: 'set', item: heir } }, 2_000);
    cluster.beginScan(100_000);
    expect(nameIn(cluster, apiServer.configHash ?? '')).toBe('heir');
  });
});

describe('a deleted pod', () => {
  const cgroup = parseCgroup(`0::/kubepods/pod${db.uid}/${idOf(db, 'postgres')}\n`);
  const knows = (cluster: ClusterCache, now: number): boolean => {
    cluster.beginScan(now);
    return cluster.labelsOf('postgres', cgroup) !== null;
  };

  test.each([
    ['deleted', { kind: 'delete', item: db }],
    ['not in a new list', { kind: 'replace', items: [web] }],
  ] as const)('(%s) is known for 60 s', (_, change) => {
    const cluster = knowing([web, db]);
    // The scans may be minutes apart.
    cluster.accept({ resource: 'pods', change }, 59_000);
    expect([59_000, 118_999, 119_000].map((now) => knows(cluster, now))).toEqual([true, true, false]);
    expect(cluster.endpointNameOf(address('10.244.0.6'), 5432, 'tcp')).toBeNull();
    expect(cluster.endpointNameOf(address('10.244.0.5'), 80, 'tcp')).toBe('shop/web:80');
  });

  test('is not deleted twice', () => {
    const cluster = knowing([web, db]);
    for (const at of [1_000, 50_000])
      cluster.accept({ resource: 'pods', change: { kind: 'replace', items: [web] } }, at);
    expect([knows(cluster, 60_999), knows(cluster, 61_000)]).toEqual([true, false]);
  });

  test('is known again when it returns', () => {
    const cluster = knowing([db]);
    cluster.accept({ resource: 'pods', change: { kind: 'replace', items: [] } }, 1_000);
    cluster.accept({ resource: 'pods', change: { kind: 'replace', items: [db] } }, 2_000);
    expect(knows(cluster, 1_000_000)).toBe(true);
  });

  test('does not keep an address that another pod took over', () => {
    const cluster = knowing([db]);
    const heir = { ...web, uid: 'heir', addresses: db.addresses };
    cluster.accept({ resource: 'pods', change: { kind: 'delete', item: db } }, 1_000);
    cluster.accept({ resource: 'pods', change: { kind: 'set', item: heir } }, 2_000);
    cluster.beginScan(100_000);
    expect(cluster.endpointNameOf(address('10.244.0.6'), 80, 'tcp')).toBe('shop/web:80');
    expect(isInCluster(cluster, address('10.244.0.6'))).toBe(true);
  });
});

describe('an endpoint is named', () => {
  const metadata = (name: string): object => ({ namespace: 'shop', name });
  const services = [
    { ...metadata('web'), ip: ['10.96.0.7', 'fd00:96::7'], ports: [{ name: 'http', port: 80 }] },
    { ...metadata('dns'), ip: ['10.96.0.10'], ports: [{ name: 'dns', port: 53, protocol: 'UDP' }] },
    { ...metadata('db'), ip: ['None'], ports: [{ name: 'pg', port: 5432 }] },
    { ...metadata('db-again'), ip: ['None'], ports: [{ name: 'pg', port: 5432 }] },
    { ...metadata('cache-headless'), ip: ['None'], ports: [{ name: 'redis', port: 6379 }] },
    { ...metadata('cache'), ip: ['10.96.0.51'], ports: [{ name: 'redis', port: 63790 }] },
    { ...metadata('a-headless'), ip: ['None'], ports: [{ name: 'redis', port: 6379 }] },
    { ...metadata('cache-z'), ip: ['10.96.0.52'], ports: [{ name: 'redis', port: 1 }] },
  ].map(
    ({ ip, ports, ...names }) => readService({ metadata: names, spec: { clusterIPs: ip, ports } }) ?? expect.fail(),
  );
  const slices = [
    { service: 'web', addresses: ['10.244.0.5', '10.244.3.3'], ports: [{ name: 'http', port: 8080 }] },
    { service: 'db', addresses: ['10.244.0.6'], ports: [{ name: 'pg', port: 5432 }] },
    { service: 'db-again', addresses: ['10.244.0.6'], ports: [{ name: 'pg', port: 5432 }] },
    ...['cache-headless', 'cache-z', 'cache', 'a-headless', 'a-unknown'].map((service) => {
      return { service, addresses: ['10.244.3.9'], ports: [{ name: 'redis', port: 6379 }] };
    }),
    { service: 'unknown', addresses: ['203.0.113.50'], ports: [{ name: '', port: 3306 }] },
  ].map(({ service, addresses, ports }) => {
    const labels = { 'kubernetes.io/service-name': service };
    return readEndpointSlice({ metadata: { ...metadata(`${service}-x1`), labels }, endpoints: [{ addresses }], ports });
  });
  const cluster = knowing(pods, ['pods', 'services', 'endpointslices']);
  cluster.accept({ resource: 'services', change: { kind: 'replace', items: services } }, 0);
  cluster.accept(
    { resource: 'endpointslices', change: { kind: 'replace', items: slices.map((slice) => slice ?? expect.fail()) } },
    0,
  );

  test.each<{ name: string; at: string; port: number | null; transport?: Transport; expected: string | null }>([
    { name: 'after its Service', at: '10.96.0.7', port: 80, expected: 'shop/web:80' },
    { name: 'after its Service, by its IPv6 address', at: 'fd00:96::7', port: 80, expected: 'shop/web:80' },
    { name: 'nothing at a port that its Service has not', at: '10.96.0.7', port: 81, expected: null },
    { name: 'nothing by a transport that its Service has not', at: '10.96.0.10', port: 53, expected: null },
    { name: 'after a Service for UDP', at: '10.96.0.10', port: 53, transport: 'udp', expected: 'shop/dns:53' },
    { name: 'after the Service before it, and that port', at: '10.244.3.3', port: 8080, expected: 'shop/web:80' },
    { name: 'after the Service before a pod of this node', at: '10.244.0.5', port: 8080, expected: 'shop/web:80' },
    {
      name: 'after the first by name of two headless Services',
      at: '10.244.0.6',
      port: 5432,
      expected: 'shop/db:5432',
    },
    {
      name: 'after the Service with a ClusterIP, by both ends',
      at: '10.96.0.51',
      port: 63790,
      expected: 'shop/cache:63790',
    },
    { name: 'after the first Service with a ClusterIP', at: '10.244.3.9', port: 6379, expected: 'shop/cache:63790' },
    { name: 'after a Service that is not known itself', at: '203.0.113.50', port: 3306, expected: 'shop/unknown:3306' },
    { name: 'after the pod at another port', at: '10.244.0.5', port: 9090, expected: 'shop/web:9090' },
    { name: 'after the pod without a port', at: '10.244.0.5', port: null, transport: 'raw', expected: 'shop/web' },
    {
      name: 'nothing at the address of the host, whatever pods share it',
      at: '192.0.2.11',
      port: 6443,
      expected: null,
    },
    { name: 'nothing at the address of a pod that has ended', at: '10.244.0.7', port: 80, expected: null },
  ])('$name', ({ at, port, transport = 'tcp', expected }) => {
    expect(cluster.endpointNameOf(address(at), port, transport)).toBe(expected);
  });

  test.each([
    { name: 'the pod of this node, not its Service', at: '10.244.0.5', port: 80, expected: 'shop/web' },
    { name: 'the pod of this node as a client', at: '10.244.0.5', port: null, expected: 'shop/web' },
    { name: 'the Service at a ClusterIP', at: '10.96.0.7', port: 80, expected: 'shop/web' },
    { name: 'the Service of an endpoint on another node', at: '10.244.3.3', port: 8080, expected: 'shop/web' },
    { name: 'the only Service of a client on another node', at: '10.244.3.3', port: null, expected: 'shop/web' },
    { name: 'nothing where several Services have the client', at: '10.244.3.9', port: null, expected: null },
    { name: 'nothing at another port of a Service', at: '10.96.0.7', port: 1, expected: null },
    { name: 'nothing outside the cluster', at: '198.51.100.1', port: 443, expected: null },
  ])('peer: $name', ({ at, port, expected }) => {
    const found = cluster.workloadAt(address(at), port, 'tcp');
    expect(found && `${found.namespace}/${found.workload}`).toBe(expected);
  });

  test('after its Service until that is deleted, and reports changed addresses', () => {
    cluster.takeChangedAddresses();
    const [service] = services;
    if (!service) expect.fail();
    cluster.accept({ resource: 'services', change: { kind: 'delete', item: service } }, 0);
    expect(cluster.endpointNameOf(address('10.96.0.7'), 80, 'tcp')).toBeNull();
    expect(cluster.endpointNameOf(address('10.244.3.3'), 8080, 'tcp')).toBe('shop/web:8080');
    const moved = ['10.96.0.7', 'fd00:96::7', '10.244.0.5', '10.244.3.3'].map((text) => address(text)[3]);
    expect(cluster.takeChangedAddresses()).toEqual(new Set(moved));
    expect(cluster.takeChangedAddresses()).toEqual(new Set());
    cluster.accept({ resource: 'services', change: { kind: 'set', item: service } }, 0);
    expect(cluster.endpointNameOf(address('10.244.3.3'), 8080, 'tcp')).toBe('shop/web:80');
  });

  test('by no object missing from a new list', () => {
    const other = knowing([], ['pods', 'endpointslices']);
    const [slice] = slices;
    if (!slice) expect.fail();
    other.accept({ resource: 'endpointslices', change: { kind: 'set', item: slice } }, 0);
    other.accept({ resource: 'endpointslices', change: { kind: 'replace', items: [] } }, 0);
    expect(other.endpointNameOf(address('10.244.3.3'), 8080, 'tcp')).toBeNull();
    expect(isInCluster(other, address('10.244.3.3'))).toBe(false);
  });
});

describe('cluster addresses are excluded from queries', () => {
  const publicPod: Pod = { ...web, addresses: [address('20.1.2.3'), address('2a00:1234:5:1::7')] };
  const service = readService({
    metadata: { namespace: 'shop', name: 'web' },
    spec: { clusterIP: '20.9.9.9', externalIPs: ['20.7.7.7'], ports: [] },
  });
  const cluster = knowing([publicPod], ['pods', 'services']);
  cluster.accept({ resource: 'services', change: { kind: 'set', item: service ?? expect.fail() } }, 0);

  test.each([
    ['the address of a pod', '20.1.2.3', true],
    ['one that is asked for together with it', '20.1.2.200', true],
    ['its IPv6 address', '2a00:1234:5:1::7', true],
    ['another of its /48', '2a00:1234:5:9::1', true],
    ['the address of a Service', '20.9.9.9', true],
    ['that of a load balancer', '20.7.7.7', true],
    ['the neighbour of a load balancer, which is not the cluster', '20.7.7.8', false],
    ['any other', '20.1.3.3', false],
  ])('%s', (_, text, expected) => expect(isInCluster(cluster, address(text))).toBe(expected));

  test('until they are deleted', () => {
    cluster.accept({ resource: 'pods', change: { kind: 'replace', items: [] } }, 0);
    cluster.beginScan(60_000);
    expect(isInCluster(cluster, address('20.1.2.3'))).toBe(false);
  });
});

describe('keeps a limited number of', () => {
  const has = (cluster: ClusterCache, blocks: readonly number[]): boolean[] =>
    blocks.map((number) => isInCluster(cluster, [0, 0, 0xffff, number * 65_536]));
  const block = (number: number, length: number): Address[] =>
    Array.from({ length }, (_, i) => [0, 0, 0xffff, number * 65_536 + i]);

  test('endpoint addresses', () => {
    const cluster = knowing([], ['pods', 'endpointslices']);
    const slice = (number: number) => ({
      ...{ namespace: 'n', name: `s${number}`, service: 's', ports: [], addresses: block(number, 60_000) },
    });
    for (const number of [1, 2, 3, 4])
      cluster.accept({ resource: 'endpointslices', change: { kind: 'set', item: slice(number) } }, 0);
    expect(has(cluster, [1, 2, 3, 4])).toEqual([true, true, true, false]);
    cluster.accept({ resource: 'endpointslices', change: { kind: 'delete', item: slice(1) } }, 0);
    cluster.accept({ resource: 'endpointslices', change: { kind: 'set', item: slice(4) } }, 0);
    expect(has(cluster, [1, 2, 3, 4])).toEqual([false, true, true, true]);
  });

  test('Services and their ports', () => {
    const cluster = knowing([], ['pods', 'services']);
    const ports = Array.from({ length: 60_000 }, (_, port) => ({ name: '', port, transport: 'tcp' }));
    for (const number of [1, 2, 3, 4]) {
      const item = {
        namespace: 'n',
        name: `s${number}`,
        ports,
        clusterAddresses: block(number, 1),
        otherAddresses: [],
      };
      cluster.accept({ resource: 'services', change: { kind: 'set', item } }, 0);
    }
    expect(has(cluster, [1, 2, 3, 4])).toEqual([true, true, true, false]);
  });

  test.each<{ name: string; pod: (number: number) => Partial<Pod> }>([
    { name: 'addresses of pods', pod: (number) => ({ addresses: block(number, 15_000) }) },
    {
      name: 'containers of pods',
      pod: (number) => ({
        addresses: block(number, 1),
        containers: Array.from({ length: 15_000 }, (_, i) => [`${number} ${i}`, 'c'] as const),
      }),
    },
  ])('$name', ({ pod }) => {
    const cluster = knowing([]);
    const podOf = (number: number): Pod => ({ ...web, containers: [], uid: `u${number}`, ...pod(number) });
    for (const number of [1, 2, 3, 4])
      cluster.accept({ resource: 'pods', change: { kind: 'set', item: podOf(number) } }, 0);
    expect(has(cluster, [1, 2, 3, 4])).toEqual([true, true, true, false]);
    // A change of a known pod takes no more, and a deleted one gives its place up.
    cluster.accept({ resource: 'pods', change: { kind: 'set', item: { ...podOf(1), containers: [] } } }, 0);
    cluster.accept({ resource: 'pods', change: { kind: 'delete', item: podOf(1) } }, 0);
    cluster.beginScan(60_000);
    cluster.accept({ resource: 'pods', change: { kind: 'set', item: podOf(4) } }, 0);
    expect(has(cluster, [1, 2, 3, 4])).toEqual([false, true, true, true]);
  });
});

describe('a container id that two pods have', () => {
  const taker: Pod = {
    ...web,
    uid: 'other',
    name: 'other-0',
    workload: 'other',
    addresses: [],
    containers: db.containers,
  };
  const [[id] = ['']] = db.containers;
  const workloads = (cluster: ClusterCache): (string | undefined)[] =>
    [`/kubepods/pod${db.uid}/${id}`, `/../cri-containerd-${id}.scope`].map(
      (path) => cluster.labelsOf('x', parseCgroup(`0::${path}`))?.workload,
    );

  test.each<{ name: string; items: Pod[]; later: Pod[] }>([
    { name: 'in one list', items: [db, taker], later: [] },
    { name: 'in a later event', items: [db], later: [taker, taker] },
    { name: 'after a change of the first', items: [db], later: [taker, { ...db, containers: [...db.containers] }] },
  ])('belongs to the first one: $name', ({ items, later }) => {
    const cluster = knowing(items);
    for (const item of later) cluster.accept({ resource: 'pods', change: { kind: 'set', item } }, 0);
    expect(workloads(cluster)).toEqual(['db', 'db']);
  });

  test('belongs to the other one when the first is deleted', () => {
    const cluster = knowing([db]);
    cluster.accept({ resource: 'pods', change: { kind: 'delete', item: db } }, 0);
    cluster.accept({ resource: 'pods', change: { kind: 'set', item: taker } }, 0);
    expect(workloads(cluster)[1]).toBe('other');
  });
});

describe('a cluster is ready', () => {
  test('when each resource was listed or failed', () => {
    const cluster = new ClusterCache(['pods', 'services']);
    cluster.beginScan(0);
    const settled = [cluster.isReady];
    cluster.accept({ resource: 'pods', change: { kind: 'replace', items: [] } }, 0);
    settled.push(cluster.isReady);
    cluster.accept({ resource: 'services', up: false }, 0);
    settled.push(cluster.isReady);
    expect(settled).toEqual([false, false, true]);
  });

  test('after 10 s without a response', () => {
    const cluster = new ClusterCache(['pods']);
    const settled = [5_000, 14_999, 15_000].map((now) => {
      cluster.beginScan(now);
      return cluster.isReady;
    });
    expect(settled).toEqual([false, false, true]);
  });
});

describe('a NodePort', () => {
  const pod = (labels = {}, uid = 'u', hostIP = '10.9.0.1') =>
    readPod(
      { metadata: { uid, namespace: 'n', name: uid, labels }, status: { hostIP, hostIPs: [{ ip: 'fd00::9' }] } },
      { labels: new Set(['app']), annotations: new Set() },
    ) ?? expect.fail();
  const service =
    readService({
      metadata: { namespace: 'shop', name: 'web' },
      spec: {
        clusterIP: '10.96.0.9',
        ports: [
          { port: 80, nodePort: 30_080 },
          { port: 53, protocol: 'UDP', nodePort: 30_053 },
        ],
      },
    }) ?? expect.fail();
  const nameAt = (cluster: ClusterCache, ip: string, port: number, transport: 'tcp' | 'udp' = 'tcp') =>
    cluster.endpointNameOf(parseAddress(ip) ?? expect.fail(), port, transport);
  const knowing = (): ClusterCache => {
    const cluster = new ClusterCache(['pods', 'services', 'endpointslices']);
    cluster.accept({ resource: 'pods', change: { kind: 'set', item: pod() } }, 0);
    cluster.takeChangedAddresses();
    cluster.accept({ resource: 'services', change: { kind: 'set', item: service } }, 0);
    return cluster;
  };

  test.each([
    ['10.9.0.1', 30_080, 'tcp', 'shop/web:80'],
    ['fd00::9', 30_080, 'tcp', 'shop/web:80'],
    ['10.9.0.1', 30_053, 'udp', 'shop/web:53'],
    ['10.9.0.1', 30_080, 'udp', null],
    ['10.9.0.1', 80, 'tcp', null],
    ['10.9.0.2', 30_080, 'tcp', null],
    ['10.96.0.9', 80, 'tcp', 'shop/web:80'],
    ['10.96.0.9', 30_080, 'tcp', null],
  ] as const)('at %s and port %i/%s is %s', (ip, port, transport, expected) => {
    expect(nameAt(knowing(), ip, port, transport)).toBe(expected);
  });

  test('of a deleted Service is unknown, and its node address has changed', () => {
    const cluster = knowing();
    expect(cluster.takeChangedAddresses()).toContain(0x0a090001);
    cluster.accept({ resource: 'services', change: { kind: 'delete', item: service } }, 0);
    expect(cluster.takeChangedAddresses()).toContain(0x0a090001);
    expect(nameAt(cluster, '10.9.0.1', 30_080)).toBeNull();
  });

  test('reports changed labels only if rules match them', () => {
    const cluster = knowing();
    const set = (labels: object): boolean => {
      cluster.accept({ resource: 'pods', change: { kind: 'set', item: pod(labels) } }, 0);
      return cluster.takeLabelsChanged();
    };
    expect([set({ app: 'a' }), set({ app: 'a', other: 'b' }), set({ app: 'c' })]).toEqual([true, false, true]);
  });
});
