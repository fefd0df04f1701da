import { listenersOf, ConnectionCounters } from '../../src/metrics/counts.ts';
import { ConnectionTable } from '../../src/collect/connection-table.ts';
import { ESTABLISHED, LISTEN, TIME_WAIT } from '../../src/collect/net-tcp-udp-raw.ts';
import { readProtocolCounts } from '../../src/collect/protocol-counters.ts';
import { parseCgroup } from '../../src/collect/cgroup.ts';
import { Families } from '../../src/metrics/families.ts';
import { Published, type PublishedOptions } from '../../src/metrics/published.ts';
import { ConnectionGroups } from '../../src/metrics/connection-groups.ts';
import { EndpointPeers } from '../../src/metrics/endpoint-peers.ts';
import type { Family, OwnerLabels, Process } from '../../src/model.ts';
import type { Peer } from '../../src/enrich/peers.ts';
import { scan, setLabels, type KernelRow } from './kernel-rows.ts';

/** A node by its numbers; every workload has two pods on it. */
export interface NodeShape {
  readonly pods: number;
  readonly seriesLimit: number;
}

type Remote = readonly [count: number, remote: string, state?: number];

/**
 * The families of a scan of a node in Kubernetes, with two containers of 10 connections in every pod. The application's: four come in
 * (for every fourth workload one more stands in TIME_WAIT), two go to its database, one to another service, one to the DNS service, and
 * two to a network operator. The proxy's: six to its control plane, four to the application.
 */
export function scanNode({ pods, seriesLimit }: NodeShape, published?: PublishedOptions): Family[] {
  const connections = new ConnectionTable();
  const rows: { row: KernelRow; labels: OwnerLabels }[] = [];
  const processes: Process[] = [];
  for (let pod = 0; pod < pods; pod++) {
    const number = pod >> 1;
    const own = `10.244.0.${pod}`;
    const names = { namespace: `team-${number % 8}`, workload: `app-${number}`, pod: `app-${number}-${pod & 1}` };
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
  const totals = Array.from({ length: pods + 1 }, (_, pod) => ({
    labels: pod === pods ? { namespace: '', pod: '' } : { namespace: `team-${(pod >> 1) % 8}`, pod: `pod-${pod}` },
    counts: readProtocolCounts('', '', ''),
  }));
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
      ephemeralPorts: [],
      processes,
      opened: new ConnectionCounters().contributions,
      closed: new ConnectionCounters().contributions,
      protocols: { totals, folded: 0 },
      coverageRatio: 1,
      unattributed: new Map([['no_descriptor', 0]]),
      directionsGuessed: 0,
      namespaces: { read: pods, unchanged: 0, empty: 0, unreadable: 0, no_process: 0 },
      asnNames: new Map(),
      asnCache: { entries: 0, lookups: 0, hits: 0 },
      unusual: null,
      traffic: null,
      netlink: null,
    },
    0,
  );
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
