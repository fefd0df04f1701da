import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { Exporter, runMain } from '../support/exporter.ts';
import { KubernetesApi, type KubernetesObject } from '../support/kubernetes-api.ts';
import { TestCgroups, whyNoCgroups } from '../support/sockets/cgroups.ts';
import { TestNetwork, whyNoNamespaces, type OpenedSockets } from '../support/sockets/network.ts';
import { count, parsePage, sumBy, type Series } from '../support/page.ts';

const QUIET = ['--asn.provider=none', '--storage.path=/dev/null/none'];
const NODE = 'peerscope-node';
const NAMESPACE = 'peerscope-shop';
const SYSTEM = 'peerscope-system';
/** The watch is taken up again after up to 30 s. */
const SOON = { timeout: 60_000 };
const PODS = '/api/v1/pods';
const SERVICES = '/api/v1/services';
const SLICES = '/apis/discovery.k8s.io/v1/endpointslices';

interface TestPod {
  readonly uid: string;
  readonly qos: '' | 'burstable' | 'besteffort';
  readonly object: KubernetesObject;
}

const id = (digit: string): string => digit.repeat(64);

/** The pod's object as the API returns it for a running pod. */
function podObject(
  pod: { namespace: string; name: string; uid: string; ip: string; hostNetwork?: boolean },
  owner: { kind: string; name: string },
  containers: Readonly<Record<string, string>>,
  labels: Readonly<Record<string, string>> = {},
): KubernetesObject {
  const { namespace, name, uid, ip, hostNetwork = false } = pod;
  return {
    metadata: { namespace, name, uid, labels, ownerReferences: [{ ...owner, controller: true }] },
    spec: {
      nodeName: NODE,
      hostNetwork,
      containers: Object.keys(containers).map((container) => ({ name: container })),
    },
    status: {
      phase: 'Running',
      podIP: ip,
      podIPs: [{ ip }],
      containerStatuses: Object.entries(containers).map(([container, containerId]) => ({
        name: container,
        containerID: `containerd://${containerId}`,
      })),
    },
  };
}

const [WEB_IP, DB_IP, HOST_IP] = ['10.244.77.2', '10.244.77.3', '192.0.2.77'];
const WEB: TestPod = {
  uid: 'aaaaaaaa-0000-4000-8000-0000000000e1',
  qos: 'burstable',
  object: podObject(
    { namespace: NAMESPACE, name: 'web-7d4b9c6f8d-2xkqp', uid: 'aaaaaaaa-0000-4000-8000-0000000000e1', ip: WEB_IP },
    { kind: 'ReplicaSet', name: 'web-7d4b9c6f8d' },
    { app: id('a'), proxy: id('b') },
    { 'pod-template-hash': '7d4b9c6f8d' },
  ),
};
const DB: TestPod = {
  uid: 'aaaaaaaa-0000-4000-8000-0000000000e2',
  qos: '',
  object: podObject(
    { namespace: NAMESPACE, name: 'db-0', uid: 'aaaaaaaa-0000-4000-8000-0000000000e2', ip: DB_IP },
    { kind: 'StatefulSet', name: 'db' },
    { postgres: id('c') },
  ),
};
const AGENT: TestPod = {
  uid: 'aaaaaaaa-0000-4000-8000-0000000000e3',
  qos: 'besteffort',
  object: podObject(
    {
      namespace: SYSTEM,
      name: 'agent-x7z9q',
      uid: 'aaaaaaaa-0000-4000-8000-0000000000e3',
      ip: HOST_IP,
      hostNetwork: true,
    },
    { kind: 'DaemonSet', name: 'agent' },
    { agent: id('d') },
  ),
};

/** The cgroup of a container as the kubelet's systemd driver and containerd make it. */
function cgroupOf({ uid, qos }: TestPod, container: string): string {
  const prefix = qos === '' ? 'kubepods' : `kubepods-${qos}`;
  const above = qos === '' ? 'kubepods.slice' : `kubepods.slice/${prefix}.slice`;
  return `${above}/${prefix}-pod${uid.replaceAll('-', '_')}.slice/cri-containerd-${container}.scope`;
}

const obstacle = whyNoNamespaces() ?? whyNoCgroups();

describe('two pods with three containers, one on the network of the host, and a process of the host', () => {
  const network = new TestNetwork();
  const cgroups = new TestCgroups();
  const sockets: Record<'app' | 'proxy' | 'postgres' | 'agent' | 'host', OpenedSockets | undefined> = {
    app: undefined,
    proxy: undefined,
    postgres: undefined,
    agent: undefined,
    host: undefined,
  };
  let api: KubernetesApi;

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: pods: ${obstacle}\n`);
      return;
    }
    api = await KubernetesApi.start();
    const inside = (pod: TestPod, container: string): string => cgroups.enter(cgroupOf(pod, container));
    // What holds a pod's namespace is its sandbox.
    const web = await network.make(inside(WEB, id('e')));
    const db = await network.make(inside(DB, id('f')));
    const host = await network.make();
    network.join(web, [`${WEB_IP}/24`], db, [`${DB_IP}/24`]);
    sockets.postgres = await network.openSockets(db, {
      before: inside(DB, id('c')),
      kinds: ['tcp-listen=0.0.0.0:5432'],
    });
    sockets.app = await network.openSockets(web, {
      before: inside(WEB, id('a')),
      kinds: ['tcp-listen=0.0.0.0:8080', `tcp-connect=${DB_IP}:5432`, 'tcp-time-wait=127.0.0.1:0'],
    });
    sockets.proxy = await network.openSockets(web, {
      before: inside(WEB, id('b')),
      kinds: ['tcp-connect=127.0.0.1:8080', 'udp=127.0.0.1:0'],
    });
    sockets.agent = await network.openSockets(host, {
      before: inside(AGENT, id('d')),
      kinds: ['tcp-listen=127.0.0.1:9100', 'tcp-pair=127.0.0.1:0'],
    });
    sockets.host = await network.openSockets(host, {
      before: cgroups.enter('system.slice/peerscope-e2e.service'),
      kinds: ['tcp-listen=127.0.0.1:22', 'tcp-connect=127.0.0.1:9100'],
    });
  });

  afterAll(async () => {
    await network[Symbol.asyncDispose]();
    cgroups[Symbol.dispose]();
    if (obstacle === null) await api.close();
  });

  /** An exporter that finds the service account where the kubelet mounts it, in mounts of its own. */
  function startInCluster(...flags: string[]): Promise<Exporter> {
    const environment = {
      KUBERNETES_SERVICE_HOST: '127.0.0.1',
      KUBERNETES_SERVICE_PORT: String(api.port),
      NODE_NAME: NODE,
    };
    return Exporter.start([...QUIET, ...flags], environment, api.mountAccount());
  }

  const page = async (exporter: Exporter): Promise<Series[]> =>
    parsePage(await (await exporter.get('/metrics')).arrayBuffer());

  /** Rows of our namespaces by owner: process, namespace, workload, pod, container. */
  function owners(series: readonly Series[]): Record<string, number> {
    const sums = sumBy(series, 'peerscope_connections', 'process', 'namespace', 'workload', 'pod', 'container');
    return Object.fromEntries(Object.entries(sums).filter(([owner]) => owner.includes('peerscope-s')));
  }

  const web = `${NAMESPACE} web web-7d4b9c6f8d-2xkqp`;
  const expected: Readonly<Record<string, number>> = {
    // Two listeners, the call to the database, and what it accepted of the proxy.
    [`sockets.py ${web} app`]: 4,
    [`sockets.py ${web} proxy`]: 2,
    [`sockets.py ${NAMESPACE} db db-0 postgres`]: 2,
    // A listener, a pair with its own, and what it accepted of the host's process.
    [`sockets.py ${SYSTEM} agent agent-x7z9q agent`]: 5,
    // The row in TIME_WAIT has no process: the pod of its namespace alone.
    [` ${web} `]: 1,
  };

  it('have the names of their containers in every row without the API', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const { stdout } = await runMain(['list', '-o', 'json', ...QUIET]);
    const rows = JSON.parse(stdout) as Row[];
    const placed = ([pod, container, opener]: [TestPod, string, OpenedSockets | undefined]): string[] =>
      rows
        .filter(({ pids }) => pids.some((pid) => opener?.pids.includes(pid)))
        .map((row) => `${row.process} ${row.pod} ${row.container} ${row.workload}`)
        .filter((text) => text !== `sockets.py ${pod.uid} ${container.slice(0, 12)} containerd`);
    const containers: [TestPod, string, OpenedSockets | undefined][] = [
      [WEB, id('a'), sockets.app],
      [WEB, id('b'), sockets.proxy],
      [DB, id('c'), sockets.postgres],
      [AGENT, id('d'), sockets.agent],
    ];
    expect(containers.flatMap(placed)).toEqual([]);
    for (const [pod, container, opener] of containers)
      for (const opened of opener?.opened ?? [])
        if (opened.inode !== null)
          expect(rows).toContainEqual(
            expect.objectContaining({
              ...opened,
              pod: pod.uid,
              container: container.slice(0, 12),
              container_id: container,
            }),
          );
    const ofHost = rows.filter(({ pids }) => pids.some((pid) => sockets.host?.pids.includes(pid)));
    expect(count(ofHost.map((row) => `${row.pod} ${row.container} ${row.workload}`))).toEqual({
      'null null peerscope-e2e.service': ofHost.length,
    });
    const timeWait = rows.filter(({ state, pod }) => state === 'time_wait' && pod === WEB.uid);
    expect(timeWait.map((row) => `${row.owner_evidence} ${row.workload}`)).toEqual(['netns containerd']);
  });

  it('have their names from Kubernetes on every page while its API is up, late, or down', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const port = { name: 'pg', port: 5432, protocol: 'TCP' };
    const metadata = { namespace: NAMESPACE, name: 'database' };
    api.set(SERVICES, { metadata, spec: { clusterIP: 'None', ports: [port] } });
    api.set(SLICES, {
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'database' } },
      endpoints: [{ addresses: [DB_IP] }],
      ports: [port],
    });
    for (const { object } of [WEB, DB]) api.set(PODS, object);
    const exporter = await startInCluster('--kubernetes.services');
    try {
      // A pod that the API has not reported yet is in no name.
      let early: Series[] = [];
      const first = async (): Promise<string[]> => Object.keys(owners((early = await page(exporter))));
      await expect.poll(first, SOON).toContain(`sockets.py ${web} app`);
      expect(early.filter(({ labels }) => labels['pod'] === AGENT.uid)).toEqual([]);
      expect(Object.keys(owners(early)).filter((owner) => owner.includes(SYSTEM))).toEqual([]);

      api.set(PODS, AGENT.object);
      const named = async (): Promise<Record<string, number>> => owners(await page(exporter));
      await expect.poll(named, SOON).toHaveProperty([`sockets.py ${SYSTEM} agent agent-x7z9q agent`]);
      const series = await page(exporter);
      expect(owners(series)).toEqual(expected);
      expect(series.filter(({ labels }) => [WEB, DB, AGENT].some(({ uid }) => labels['pod'] === uid))).toEqual([]);
      expect(sumBy(series, 'peerscope_kubernetes_watch_up', 'resource')).toEqual({
        pods: 1,
        services: 1,
        endpointslices: 1,
      });

      const groups = sumBy(series, 'peerscope_endpoint_connections', 'namespace', 'workload', 'endpoint_group');
      expect(groups).toMatchObject({
        [`${NAMESPACE} web ${NAMESPACE}/database:5432`]: 1,
        [`${NAMESPACE} db ${NAMESPACE}/database:5432`]: 1,
      });

      await api.close();
      const down = async (): Promise<number | undefined> =>
        sumBy(await page(exporter), 'peerscope_kubernetes_watch_up', 'resource')['pods'];
      await expect.poll(down, SOON).toBe(0);
      expect(owners(await page(exporter))).toEqual(expected);
    } finally {
      expect(await exporter.stop()).toBe(0);
      api = await KubernetesApi.start();
    }
  });

  it('have their names from Kubernetes in commands, from the store of the exporter', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-pods-'));
    const storage = `--storage.path=${folder}`;
    const list = async (): Promise<Record<string, number>> => {
      const { stdout, stderr } = await runMain(['list', '-o', 'json', '--asn.provider=none', storage]);
      expect(stderr).not.toMatch(/cannot/i);
      const openers = Object.values(sockets).flatMap((opener) => opener?.pids ?? []);
      const rows = (JSON.parse(stdout) as Row[]).filter(
        ({ pids, pod }) => pids.some((pid) => openers.includes(pid)) || pod === 'web-7d4b9c6f8d-2xkqp',
      );
      return count(
        rows.map((row) => `${row.process ?? ''} ${row.namespace} ${row.workload} ${row.pod} ${row.container ?? ''}`),
      );
    };
    for (const { object } of [WEB, DB]) api.set(PODS, object);
    const exporter = await startInCluster(storage);
    try {
      // A pod that the exporter does not know keeps the names of its cgroup.
      await expect.poll(list, SOON).toMatchObject({
        [`sockets.py ${web} app`]: 4,
        [`sockets.py ${web} proxy`]: 2,
        [` ${web} `]: 1,
        [`sockets.py ${NAMESPACE} db db-0 postgres`]: 2,
        [`sockets.py null containerd ${AGENT.uid} dddddddddddd`]: 5,
      });
      api.set(PODS, AGENT.object);
      await expect.poll(list, SOON).toMatchObject(expected);
      const { stderr } = await runMain(['list', '-o', 'json', '--asn.provider=none', storage]);
      expect(stderr).toContain(`names of 3 pods from the exporter's store "${folder}"`);
      const { stdout } = await runMain(['top', 'pod=web-7d4b9c6f8d-2xkqp', '--asn.provider=none', storage]);
      expect(stdout).toContain('sockets.py');
    } finally {
      expect(await exporter.stop()).toBe(0);
      rmSync(folder, { recursive: true });
    }
  });

  it('have the names of their containers on every page until the API is up', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    for (const { object } of [WEB, DB, AGENT]) api.set(PODS, object);
    api.answer = (_, response) => {
      response.writeHead(503).end();
      return true;
    };
    const exporter = await startInCluster();
    try {
      const byCgroup = async (): Promise<Record<string, number>> =>
        sumBy(await page(exporter), 'peerscope_connections', 'pod', 'container');
      await expect.poll(byCgroup, SOON).toMatchObject({
        [`${WEB.uid} aaaaaaaaaaaa`]: 4,
        [`${WEB.uid} bbbbbbbbbbbb`]: 2,
        [`${DB.uid} cccccccccccc`]: 2,
        [`${AGENT.uid} dddddddddddd`]: 5,
        [`${WEB.uid} `]: 1,
      });
      expect(sumBy(await page(exporter), 'peerscope_kubernetes_watch_up', 'resource')).toEqual({ pods: 0 });
      api.answer = () => false;
      await expect.poll(async () => owners(await page(exporter)), SOON).toEqual(expected);
    } finally {
      expect(await exporter.stop()).toBe(0);
    }
  });
});
