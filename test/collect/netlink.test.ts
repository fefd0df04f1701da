import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findInherited, findListeners } from '../../src/collect/inherited-sockets.ts';
import { openSocketSource } from '../../src/collect/netlink.ts';

describe('openSocketSource', () => {
  test.each([
    { name: 'nothing is asked for', program: null },
    { name: 'there is no agent', program: join(import.meta.dirname, 'absent') },
  ])('there is no source if $name', ({ program }) => {
    expect(openSocketSource({ path: null, environment: {}, program })).toBeNull();
  });

  test('a descriptor that is not one of netlink is refused in one line', async () => {
    const environment = { LISTEN_PID: String(process.pid), LISTEN_FDS: '1', LISTEN_FDNAMES: 'dump' };
    const source = openSocketSource({ path: null, environment, program: null });
    expect(source).toMatchObject({ isUp: false, netns: null, events: 0, overruns: 0 });
    expect(source?.failure).toMatch(/^Cannot use .*: .*$/);
    expect(await source?.dump(100)).toBeNull();
    expect(source?.takeEnded().count).toBe(0);
    expect(await source?.nsidsOf([1])).toEqual(new Map());
    source?.close();
  });
});

describe('findInherited', () => {
  test.each([
    { name: 'both', fds: '2', names: 'dump:ended', expected: { dump: 3, ended: 4 } },
    { name: 'both among others', fds: '4', names: 'http:ended:x:dump', expected: { dump: 6, ended: 4 } },
    { name: 'one is missing', fds: '1', names: 'ended', expected: { dump: -1, ended: 3 } },
    { name: 'more names than descriptors', fds: '1', names: 'dump:ended', expected: { dump: 3, ended: -1 } },
    { name: 'others only', fds: '2', names: 'http:https', expected: null },
    { name: 'no count', fds: undefined, names: 'dump:ended', expected: null },
    { name: 'no names', fds: '2', names: undefined, expected: null },
    { name: 'a count that is no number', fds: '2x', names: 'dump:ended', expected: null },
    { name: 'those of another process', pid: '41', fds: '2', names: 'dump:ended', expected: null },
  ])('$name', ({ pid = '42', fds, names, expected }) => {
    expect(findInherited({ LISTEN_PID: pid, LISTEN_FDS: fds, LISTEN_FDNAMES: names }, 42)).toEqual(expected);
  });
});

describe('findListeners', () => {
  test.each([
    { name: 'one without a name', fds: '1', names: undefined, expected: [3] },
    { name: 'two with names', fds: '2', names: 'peerscope.socket:https', expected: [3, 4] },
    { name: 'those among netlink sockets', fds: '4', names: 'http:ended:x:dump', expected: [3, 5] },
    { name: 'netlink sockets only', fds: '2', names: 'dump:ended', expected: [] },
    { name: 'more descriptors than names', fds: '3', names: 'dump', expected: [4, 5] },
    { name: 'none', fds: undefined, names: undefined, expected: [] },
    { name: 'a count that is no number', fds: '-1', names: 'http', expected: [] },
    { name: 'those of another process', pid: '41', fds: '1', names: 'http', expected: [] },
  ])('$name', ({ pid = '42', fds, names, expected }) => {
    expect(findListeners({ LISTEN_PID: pid, LISTEN_FDS: fds, LISTEN_FDNAMES: names }, 42)).toEqual(expected);
  });
});
