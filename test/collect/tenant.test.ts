import { expect, test } from 'vitest';
import { tenantOf } from '../../src/collect/tenant.ts';

test.each([
  { name: 'a pod', labels: { namespace: 'shop', pod: 'web-1', workload: 'web' }, uid: 33, expected: 'shop/web-1' },
  { name: 'a unit of root', labels: { workload: 'nginx.service' }, uid: 0, expected: 'nginx.service' },
  { name: 'a user', labels: { workload: 'session.scope' }, uid: 1000, expected: 'uid:1000' },
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
  { name: 'root, of a connection of which nothing is known', labels: {}, expected: 'uid:0' },
])('$name is a tenant', ({ labels, uid = null, expected }) => {
  expect(tenantOf(labels, uid)).toBe(expected);
});
