import { listenersOf, ConnectionCounters } from '../../src/metrics/counts.ts';
import { ConnectionTable } from '../../src/collect/connection-table.ts';
import { ESTABLISHED, LISTEN, TIME_WAIT } from '../../src/collect/net-tcp-udp-raw.ts';
import { ProtocolCounters, readProtocolCounts } from '../../src/collect/protocol-counters.ts';
import { parseCgroup } from '../../src/collect/cgroup.ts';
import { Families } from '../../src/metrics/families.ts';
import { Published, type PublishedOptions } from '../../src/metrics/published.ts';
import type { UnusualData } from '../../src/metrics/unusual-families.ts';
import { TrafficCounters, type Traffic } from '../../src/traffic/traffic-counters.ts';
import { ConnectionGroups, type ConnectionGroup } from '../../src/metrics/connection-groups.ts';
import { EndpointPeers } from '../../src/metrics/endpoint-peers.ts';
import type { Family, OwnerLabels, Process } from '../../src/model.ts';
import type { Peer } from '../../src/enrich/peers.ts';
import { scan, setLabels, type KernelRow } from './kernel-rows.ts';

/** A node by its numbers. */
export interface NodeShape {
  readonly pods: number;
  readonly seriesLimit: number;
  /** The pods that a workload has on the node: two by default. */
  readonly podsOfWorkload?: 1 | 2;
  /** Whether workloads are remembered; false by default. */
  readonly remembers?: true;
  /** Whether bytes are counted; false by default. */
  readonly countsBytes?: true;
}

type Remote = readonly [count: number, remote: string, state?: number];

/**
 * The families of a scan of a node in Kubernetes, with two containers of 10 connections in every pod. The application's: four come in
 * (for every fourth workload one more stands in TIME_WAIT), two go to its database, one to another service, one to the DNS service, and
 * two to a network operator. The proxy's: six to its control plane, four to the application.
 */
export function scanNode(
  { pods, seriesLimit, podsOfWorkload = 2, remembers, countsBytes }: NodeShape,
  published?: PublishedOptions,
): Family[] {
  const connections = new ConnectionTable();
  const rows: { row: KernelRow; labels: OwnerLabels }[] = [];
  const processes: Process[] = [];
  for (let pod = 0; pod < pods; pod++) {
    const number = Math.floor(pod / podsOfWorkload);
    const own = `10.244.0.${pod}`;
    const names = {
      namespace: `team-${number % 8}`,
      workload: `app-${number}`,
      pod: `app-${number}-${pod % podsOfWorkload}`,
    };
    const app: Remote[] = [
      [number % 4 === 0 ? 3 : 4, 'in'],
      [number % 4 === 0 ? 1 : 0, 'in', TIME_WAIT],
      [2, `10.96.1.${number}:5432`],
      [1, `10.96.2.${number % 40}:443`],
      [1, '10.96.0.10:53'],
      [2, `8.8.${number % 30}.8:443`],
    ];
    const proxy: Remote[] = [
      [6, '10.96.0.20:15012'],
      [4, '127.0.0.1:8080'],
    ];
    for (const [container, remotes] of [app, proxy].entries()) {
      const process = container === 0 ? `server-${number % 12}` : 'proxy';
      const labels: OwnerLabels = { process, ...names, container: container === 0 ? 'app' : 'proxy' };
      processes.push(processOf(processes.length + 2, labels));
      const add = (row: Omit<KernelRow, 'table' | 'inode'>): void => {
        rows.push({ labels, row: { table: 'tcp', inode: row.state === TIME_WAIT ? 0 : rows.length + 1, ...row } });
      };
      if (container === 0) add({ state: LISTEN, local: `${own}:8080` });
      let port = 32768 + container * 100;
      for (const [count, remote, state = ESTABLISHED] of remotes)
        for (let i = 0; i < count; i++, port++)
          add(
            remote === 'in'
              ? { state, local: `${own}:8080`, remote: `10.244.9.${pod}:${port}` }
              : { state, local: `${own}:${port}`, remote },
          );
    }
  }
  scan(
    connections,
    rows.map(({ row }) => row),
  );
  for (const [i, { labels }] of rows.entries()) setLabels(connections, i, labels);
  const groups = new ConnectionGroups([]).count(connections, (i) => peerOf(connections.remoteAddress(i)));
  const protocols = new ProtocolCounters(seriesLimit, published?.podLabel);
  for (let pod = 0; pod <= pods; pod++) {
    const namespace = `team-${Math.floor(pod / podsOfWorkload) % 8}`;
    const owner = pod === pods ? { namespace: '', pod: '' } : { namespace, pod: `pod-${pod}` };
    protocols.add(pod, owner, readProtocolCounts('', '', ''));
  }
  return new Families(
    seriesLimit,
    () => true,
    (_, reason) => {
      throw new Error(reason);
    },
    new Published(published),
  ).of(
    {
      groups,
      endpointPeers: new EndpointPeers(),
      listeners: listenersOf(connections),
      stalls: [],
      ephemeralPorts: [],
      processes,
      opened: new ConnectionCounters().contributions,
      closed: new ConnectionCounters().contributions,
      protocols,
      coverageRatio: 1,
      unattributed: new Map([['no_descriptor', 0]]),
      directionsGuessed: 0,
      namespaces: { read: pods, unchanged: 0, empty: 0, unreadable: 0, incomplete: 0, no_process: 0 },
      asnNames: new Map(),
      asnCache: { entries: 0, lookups: 0, hits: 0 },
      unusual: remembers ? memoryOf(groups) : null,
      traffic: countsBytes ? trafficOf(groups, seriesLimit) : null,
      netlink: countsBytes ? { scope: 'all', isUp: true, events: 0, overruns: 0, closedWithoutTotals: 0 } : null,
    },
    0,
  );
}

/** What a node remembers on a calm day. */
function memoryOf(groups: readonly ConnectionGroup[]): UnusualData {
  const workloads = new Map(groups.map(({ owner }) => [JSON.stringify([owner.namespace, owner.workload]), owner]));
  const owners = new Map(groups.map(({ owner }) => [JSON.stringify([owner.process, owner.workload]), owner]));
  const met = groups.filter(({ labels }) => labels['asn'] !== '' && labels['direction'] !== 'listen');
  const asns = new Map(
    met.map(({ owner, labels: { asn = '' } }) => [
      JSON.stringify([owner.workload, asn]),
      { owner, tenant: '', direction: 'outbound' as const, asn, at: 0 },
    ]),
  );
  return {
    scope: 'node',
    reports: [],
    novelties: { series: [], folded: 0 },
    points: [],
    watchedSince: Array.from(workloads.values(), (owner) => ({ owner, at: 0 })),
    firstSeen: {
      asns: [...asns.values()],
      baselines: Array.from(owners.values(), (owner) => ({ owner, tenant: '', at: 0 })),
    },
  };
}

/** Every connection has sent something, and its round trip is known. */
function trafficOf(groups: readonly ConnectionGroup[], seriesLimit: number): Traffic {
  const counters = new TrafficCounters(seriesLimit);
  counters.beginScan(0);
  const bytes = { sentBytes: 1, receivedBytes: 1, retransmittedBytes: 0, closedConnections: 1 };
  for (const { owner, direction, labels, isEndpoint, hasRemote } of groups) {
    const { network = '', asn = '', endpoint_group = '' } = labels;
    if (hasRemote) counters.addAsn({ ...owner, direction, network, asn }, bytes);
    if (hasRemote) counters.addRoundTrip({ direction, network, asn }, 1, 1);
    if (isEndpoint) counters.addEndpoint({ ...owner, endpoint_group, direction }, bytes);
  }
  return counters.traffic;
}

function peerOf([, , , address]: readonly [number, number, number, number]): Peer {
  const isPublic = address >>> 24 === 8;
  const network = isPublic ? 'public' : address >>> 24 === 127 ? 'loopback' : 'private';
  return {
    network,
    address: [0, 0, 0xffff, address],
    asn: isPublic ? String(64500 + ((address >>> 8) & 255)) : '',
    origin: null,
  };
}

function processOf(pid: number, labels: OwnerLabels): Process {
  return {
    pid,
    startTime: pid,
    ppid: 1,
    name: labels.process,
    state: 'S',
    uid: 0,
    umask: '0022',
    threads: 1,
    residentMemoryBytes: 1,
    openFds: 1,
    labels,
    cgroup: parseCgroup(''),
  };
}
