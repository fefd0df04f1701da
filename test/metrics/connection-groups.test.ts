import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FAMILIES } from '../../src/metrics/catalogue.ts';
import { listenersOf, ConnectionCounters } from '../../src/metrics/counts.ts';
import { ConnectionTable } from '../../src/collect/connection-table.ts';
import { CLOSE, ESTABLISHED, LISTEN, SYN_SENT, TIME_WAIT } from '../../src/collect/net-tcp-udp-raw.ts';
import { AsnCache } from '../../src/enrich/asn/cache.ts';
import { Peers, type Peer } from '../../src/enrich/peers.ts';
import { NO_OWNER } from '../../src/enrich/owner-labels.ts';
import { Families } from '../../src/metrics/families.ts';
import { ConnectionGroups } from '../../src/metrics/connection-groups.ts';
import type { Family, OwnerLabels } from '../../src/model.ts';
import { scan, setLabels, type KernelRow } from '../support/kernel-rows.ts';

const OWNERS: readonly OwnerLabels[] = ['nginx', 'other', 'a",b="c', ''].map((process) => ({
  process,
  namespace: '',
  workload: process === 'nginx' ? 'nginx.service' : '',
  pod: '',
  container: '',
}));

const anyRow = fc
  .record({
    table: fc.constantFrom('tcp' as const, 'udp' as const),
    state: fc.constantFrom(ESTABLISHED, TIME_WAIT, SYN_SENT, LISTEN),
    localPort: fc.integer({ min: 1, max: 40 }),
    remote: fc.constantFrom('192.0.2.1', '10.0.0.1', '8.8.8.8', '1.1.1.1', '9.9.9.9'),
    remotePort: fc.integer({ min: 1, max: 40 }),
    receiveQueue: fc.nat(1_000_000),
  })
  .map(({ table, state: tcpState, localPort, remote, remotePort, receiveQueue }): KernelRow => {
    const state = table === 'tcp' ? tcpState : tcpState === LISTEN ? CLOSE : ESTABLISHED;
    const end = { table, state, local: `192.0.2.1:${localPort}`, inode: localPort * 100 + remotePort, receiveQueue };
    return tcpState === LISTEN ? end : { ...end, remote: `${remote}:${remotePort}` };
  });
const anyScan = fc.uniqueArray(anyRow, {
  selector: (row) => `${row.table} ${row.local} ${row.remote}`,
  maxLength: 120,
});

function sum(families: readonly Family[], name: string): number {
  return families.find((family) => family.name === name)?.samples.reduce((total, { value }) => total + value, 0) ?? -1;
}

test('every family sums to the number of rows within its limit, without duplicate series', () => {
  fc.assert(
    fc.property(fc.array(anyScan, { minLength: 1, maxLength: 4 }), (scans) => {
      const connections = new ConnectionTable();
      const peers = new Peers({ networks: [], neverSend: [], isHostOwn: () => false }, new AsnCache());
      const groups = new ConnectionGroups([]);
      const families = new Families(
        50,
        () => true,
        (_, reason) => expect.fail(reason),
      );
      const peerOf: (Peer | null)[] = [];
      for (const rows of scans) {
        scan(connections, rows);
        for (const i of connections.opened) {
          setLabels(connections, i, OWNERS[(connections.localPort[i] ?? 0) % OWNERS.length] ?? NO_OWNER);
          const remote = connections.direction[i] === 'listen' ? null : connections.remoteAddress(i);
          peerOf[i] = remote && peers.acquire(0, remote, () => false);
        }
        const page = families.of(
          {
            listeners: listenersOf(connections),
            stalls: [],
            ephemeralPorts: [],
            unattributed: new Map(),
            directionsGuessed: connections.guessed,
            groups: groups.count(connections, (i) => peerOf[i] ?? null),
            endpointPeers: groups.endpointPeers,
            processes: [],
            opened: new ConnectionCounters().contributions,
            closed: [],
            protocols: { byPod: { totals: [], folded: 0 }, byNamespace: { totals: [], folded: 0 } },
            coverageRatio: null,
            namespaces: { read: 1, unchanged: 0, empty: 0, unreadable: 0, incomplete: 0, no_process: 0 },
            asnNames: new Map(),
            asnCache: null,
            unusual: null,
            traffic: null,
            netlink: null,
          },
          0,
        );
        const remote = rows.filter((row) => row.remote !== undefined).length;
        const queued = rows
          .filter((row) => row.state !== LISTEN)
          .reduce((total, row) => total + (row.receiveQueue ?? 0), 0);
        expect(sum(page, 'peerscope_connections')).toBe(rows.length);
        expect(sum(page, 'peerscope_sockets')).toBe(rows.length);
        const sockets = page.find(({ name }) => name === 'peerscope_sockets');
        const loopback = (sockets?.samples ?? [])
          .filter(({ labels }) => labels[0] === 'loopback')
          .reduce((total, { value }) => total + value, 0);
        expect(sum(page, 'peerscope_asn_connections')).toBe(remote - loopback);
        expect(sum(page, 'peerscope_endpoint_connections') + sum(page, 'peerscope_loopback_duplicates')).toBe(remote);
        expect(sum(page, 'peerscope_socket_queue_bytes')).toBe(queued);
        for (const { name, samples } of page) {
          expect(samples.length, name).toBeLessThanOrEqual(50);
          expect(new Set(samples.map(({ labels }) => JSON.stringify(labels))).size, name).toBe(samples.length);
        }
      }
    }),
    { numRuns: 60 },
  );
});

test('families have distinct labels, and fold only their own labels', () => {
  for (const { name, labels, fold } of FAMILIES) {
    expect(new Set(labels).size, name).toBe(labels.length);
    for (const step of fold) for (const label of step.labels) expect(labels, name).toContain(label);
  }
});
