import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { ConnectionTable } from '../../src/collect/connection-table.ts';
import { ESTABLISHED, TIME_WAIT } from '../../src/collect/net-tcp-udp-raw.ts';
import { formatAddress } from '../../src/common/address.ts';
import { ConnectionGroups } from '../../src/metrics/connection-groups.ts';
import { EndpointPeers, UNKNOWN_PEER, type PeerWorkload } from '../../src/metrics/endpoint-peers.ts';
import { scan, type KernelRow } from '../support/kernel-rows.ts';

const HOUR = 240;
const LABELS = { process: 'node', namespace: 'shop', workload: 'web', endpoint_group: 'a', direction: 'outbound' };
const CART = { namespace: 'shop', workload: 'cart' };
const MAIL = { namespace: 'shop', workload: 'mail' };

/** Scans that see these peers; a number stands for so many scans that see none. */
function after(...scans: readonly (readonly PeerWorkload[] | number)[]): EndpointPeers {
  const peers = new EndpointPeers();
  for (const seen of scans) {
    if (typeof seen === 'number') for (let i = 0; i < seen; i++) peers.beginScan();
    else {
      peers.beginScan();
      for (const peer of seen) peers.note(LABELS, peer);
    }
  }
  return peers;
}

describe('the peer of an endpoint', () => {
  it.each<{ name: string; scans: (readonly PeerWorkload[] | number)[]; expected: PeerWorkload }>([
    { name: 'is the only one', scans: [[CART, CART]], expected: CART },
    { name: 'stays while there are no connections', scans: [[CART], 3], expected: CART },
    { name: 'is not known before a connection', scans: [1], expected: UNKNOWN_PEER },
    { name: 'is empty for several', scans: [[CART, MAIL]], expected: UNKNOWN_PEER },
    { name: 'is empty for a known and an unknown one', scans: [[UNKNOWN_PEER, CART]], expected: UNKNOWN_PEER },
    { name: 'is empty for one after the other', scans: [[CART], [MAIL]], expected: UNKNOWN_PEER },
    {
      name: 'is the one that is left an hour later',
      scans: [[CART, MAIL], ...Array.from({ length: HOUR }, () => [MAIL])],
      expected: MAIL,
    },
    { name: 'is forgotten after two hours without connections', scans: [[CART], 2 * HOUR], expected: UNKNOWN_PEER },
  ])('$name', ({ scans, expected }) => {
    expect(after(...scans).of(LABELS)).toEqual(expected);
  });

  it('is that of the same owner, endpoint and direction', () => {
    const peers = after([CART]);
    for (const [label, value] of Object.entries(LABELS))
      expect(peers.of({ ...LABELS, [label]: `${value}2` })).toEqual(UNKNOWN_PEER);
  });
});

test('the peer of a group is the peer of all its connections, in every state', () => {
  const anyRow = fc.record({ client: fc.integer({ min: 1, max: 4 }), port: fc.integer({ min: 1, max: 9 }) });
  const rows = fc.uniqueArray(anyRow, { selector: ({ client, port }) => `${client} ${port}`, minLength: 1 });
  fc.assert(
    fc.property(rows, (clients) => {
      const table = new ConnectionTable();
      const peerOf = (text: string): PeerWorkload =>
        text.endsWith('.4') ? UNKNOWN_PEER : { namespace: 'shop', workload: text };
      const groups = new ConnectionGroups(
        [{ name: 'all' }],
        () => null,
        (address) => peerOf(formatAddress(address)),
      );
      const kernelRows = clients.map(({ client, port }): KernelRow => ({
        table: 'tcp',
        state: port % 2 === 0 ? ESTABLISHED : TIME_WAIT,
        local: `192.0.2.1:${40_000 + port}`,
        remote: `10.0.0.${client}:80`,
      }));
      scan(table, kernelRows);
      const counted = groups.count(table, () => null);
      const distinct = new Set(clients.map(({ client }) => `10.0.0.${client}`));
      const [sole = ''] = distinct;
      const expected = distinct.size === 1 ? peerOf(sole) : UNKNOWN_PEER;
      for (const { labels } of counted) expect(groups.endpointPeers.of(labels)).toEqual(expected);
      expect(counted.reduce((sum, { connections }) => sum + connections, 0)).toBe(clients.length);
    }),
  );
});
