import { describe, expect, test } from 'vitest';
import { tenantOf } from '../../src/collect/tenant.ts';
import { parseCgroup } from '../../src/collect/cgroup.ts';
import { OwnerLabeler } from '../../src/enrich/owner-labels.ts';

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
  { name: 'a block of subordinate users', labels: {}, uid: 100_033, expected: 'uid:100000-165535' },
  { name: 'the next block', labels: {}, uid: 165_536, expected: 'uid:165536-231071' },
  { name: 'users before the first block', labels: {}, uid: 70_000, expected: 'uid:65536-99999' },
  {
    name: 'a subordinate user whose socket is in flight',
    labels: { workload: 'uid:100033' },
    uid: 100_033,
    expected: 'uid:100000-165535',
  },
])('$name is a tenant', ({ labels, uid = null, expected }) => {
  expect(tenantOf(labels, uid)).toBe(expected);
});

describe('whatever a tenant starts inside is the tenant', () => {
  const [A, B] = ['a'.repeat(64), 'b'.repeat(64)];
  test.each([
    { path: '/user.slice/user-1000.slice/session-3.scope', uid: 100_033, expected: 'uid:1000' },
    { path: '/user.slice/user-123456.slice/session-3.scope', uid: 123_456, expected: 'uid:123456' },
    { path: '/user.slice/user-1000.slice/session-3.scope', uid: 1001, expected: 'uid:1001' },
    { path: '/user.slice/user-1000.slice/session-3.scope', uid: 0, expected: 'session.scope' },
    { path: '/user.slice/user-1000.slice/user@1000.service/app.slice/x.service', uid: 100_033, expected: 'uid:1000' },
    { path: `/user.slice/user-123456.slice/user@123456.service/docker/${A}`, uid: 7, expected: 'uid:123456' },
    { path: '/lxc.payload.web/system.slice/nginx.service', uid: 0, expected: 'container web' },
    { path: '/lxc.payload.web/system.slice/unit-1.service', uid: 1000, expected: 'container web' },
    { path: `/lxc.payload.web/docker/${A}`, uid: 1000, expected: 'docker web' },
    { path: `/lxc.payload.web/docker/${B}`, uid: 1000, expected: 'docker web' },
    { path: `/docker/${A}/docker/${B}`, uid: 0, expected: 'docker aaaaaaaaaaaa' },
    { path: `/docker/${A}`, uid: 1000, expected: 'docker aaaaaaaaaaaa' },
    { path: `/system.slice/runner.service/docker/${A}`, uid: 1000, expected: 'runner.service' },
    { path: `/system.slice/runner.service/docker/${B}`, uid: 0, expected: 'runner.service' },
  ])('$path of user $uid is $expected', ({ path, uid, expected }) => {
    const cgroup = parseCgroup(`0::${path}\n`);
    expect(tenantOf(new OwnerLabeler().labelsOf('p', cgroup), uid, cgroup)).toBe(expected);
  });
});
