import { expect, test } from 'vitest';
import { NO_UID } from '../../src/collect/net-tcp-udp-raw.ts';
import { tenantOf } from '../../src/enrich/connection-peers.ts';
import { NO_OWNER } from '../../src/enrich/owner-labels.ts';

test.each([
  { name: 'a pod', labels: { namespace: 'shop', pod: 'web-1', workload: 'web' }, uid: 33, expected: 'shop/web-1' },
  { name: 'a unit of root', labels: { workload: 'nginx.service' }, uid: 0, expected: '0 nginx.service' },
  { name: 'a user', labels: { workload: 'session.scope' }, uid: 1000, expected: 'uid:1000' },
  { name: 'a user whose connection ended', labels: { workload: 'session.scope' }, of: 1000, expected: 'uid:1000' },
  { name: 'a user whose socket is in flight', labels: { workload: 'uid:1000' }, uid: 1000, expected: 'uid:1000' },
  {
    name: 'a user, whatever their container',
    labels: { workload: 'uid:1000', container: 'x' },
    uid: 100_033,
    expected: 'uid:1000',
  },
  {
    name: 'a container, whatever its users',
    labels: { workload: 'docker', container: 'aaaaaaaaaaaa' },
    uid: 1000,
    expected: 'docker aaaaaaaaaaaa',
  },
  { name: 'root, of a connection of which nothing is known', labels: {}, expected: '0 ' },
])('$name has turns of its own', ({ labels, uid = NO_UID, of = null, expected }) => {
  expect(tenantOf({ ...NO_OWNER, ...labels }, uid, of)).toBe(expected);
});
