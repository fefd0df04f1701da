import { appendFileSync, cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ConnectionTable } from '../../src/collect/connection-table.ts';
import { CLOSE, ESTABLISHED, LISTEN, UDP } from '../../src/collect/net-tcp-udp-raw.ts';
import type { NamespaceCounts } from '../../src/collect/namespace-tables.ts';
import { describeTable, printRow } from '../support/kernel-rows.ts';
import { Collector, Tree } from '../support/proc-tree.ts';
import { SimulatedHost, type SimulatedNamespace } from '../support/simulated-sockets.ts';

/** The two processes of the tree "listen-only", which share one namespace, and sockets of theirs. */
const SSHD = 25938;
const DNSMASQ = 25947;
const SSH_SOCKET = 86486;
const DNS_SOCKET = 87717;

const ONE: NamespaceCounts = { read: 0, unchanged: 0, empty: 0, unreadable: 0, incomplete: 0 };
const READ = { ...ONE, read: 1 };
const UNCHANGED = { ...ONE, unchanged: 1 };

/** Adds a row to a table. */
function add(tree: Tree, row: Parameters<typeof printRow>[0]): void {
  tree.edit(SSHD, `net/${row.table}`, /$/, printRow(row));
}

/** A connection to the SSH port that nobody has accepted yet. */
const WAITING = { table: 'tcp', state: ESTABLISHED, local: '192.0.2.1:22', remote: '198.51.100.7:5000' } as const;

describe('a namespace where nothing changed', () => {
  test('is skipped from the third scan on (the first shows that snmp6 is needed), and is read at every tenth', () => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    const seen: NamespaceCounts[] = [];
    for (let scan = 1; scan <= 21; scan++) {
      collector.scan();
      seen.push({ ...collector.tables.status });
    }
    const read = seen.flatMap((status, i) => (status.read === 1 ? [i] : []));
    expect(
      seen.filter((status, i) => !read.includes(i) && JSON.stringify(status) !== JSON.stringify(UNCHANGED)),
    ).toEqual([]);
    expect(read).toEqual([0, 1, 9, 19]);
    expect(describeTable(collector.connections)).toHaveLength(7);
  });
});

describe('a change', () => {
  const changes: {
    name: string;
    given?: (tree: Tree) => void;
    change: (tree: Tree) => void;
    expected: NamespaceCounts;
  }[] = [
    { name: 'none', change: () => undefined, expected: UNCHANGED },
    {
      name: 'a socket more, as sockstat counts',
      change: (tree) => tree.edit(SSHD, 'net/sockstat', 'TCP: inuse 3', 'TCP: inuse 4'),
      expected: READ,
    },
    {
      name: 'a socket of IPv6 more, as sockstat6 counts',
      change: (tree) => tree.edit(SSHD, 'net/sockstat6', 'TCP6: inuse 2', 'TCP6: inuse 3'),
      expected: READ,
    },
    {
      name: 'a segment came, as snmp counts',
      change: (tree) => tree.edit(SSHD, 'net/snmp', 'Tcp: 1 200 120000 -1 0', 'Tcp: 1 200 120000 -1 1'),
      expected: READ,
    },
    {
      name: 'a datagram came over IPv6, as snmp6 counts',
      change: (tree) => tree.edit(SSHD, 'net/snmp6', /^(Udp6InDatagrams\s+)0$/m, '$11'),
      expected: READ,
    },
    {
      name: 'a waiting connection was accepted, which nothing counts',
      given: (tree) => add(tree, WAITING),
      change: (tree) => {
        tree.edit(SSHD, 'net/tcp', printRow(WAITING), printRow({ ...WAITING, inode: 9 }));
        tree.open(SSHD, 9, 9);
      },
      expected: READ,
    },
    {
      name: 'a listener was closed and another opened in its place',
      change: (tree) => {
        tree.edit(SSHD, 'net/tcp', ` ${SSH_SOCKET} `, ' 9 ');
        tree.open(SSHD, 3, 9);
      },
      expected: READ,
    },
    {
      name: 'a UDP socket was closed and another opened in its place',
      change: (tree) => {
        tree.edit(SSHD, 'net/udp', ` ${DNS_SOCKET} `, ' 9 ');
        tree.open(DNSMASQ, 3, 9);
      },
      expected: READ,
    },
    { name: 'a process has a descriptor more', change: (tree) => tree.open(DNSMASQ, 99, 0), expected: READ },
    { name: 'a process came', change: (tree) => tree.fork(SSHD, 26000), expected: READ },
    {
      name: 'a process that held none of the sockets ended',
      given: (tree) => tree.fork(SSHD, 26000),
      change: (tree) => tree.end(26000),
      expected: READ,
    },
    {
      name: 'a queue was read, which nothing tells',
      given: (tree) => {
        add(tree, { ...WAITING, inode: 9, receiveQueue: 7 });
        tree.open(SSHD, 9, 9);
      },
      change: (tree) => tree.edit(SSHD, 'net/tcp', ':00000007 ', ':00000000 '),
      expected: UNCHANGED,
    },
  ];

  test.each(changes)('$name', ({ given, change, expected }) => {
    using tree = new Tree('listen-only');
    given?.(tree);
    const collector = new Collector(tree.root);
    for (let scan = 0; scan < 3; scan++) collector.scan();
    expect(collector.tables.status).toEqual(UNCHANGED);
    change(tree);
    collector.scan();
    expect(collector.tables.status).toEqual(expected);
  });

  test.each<{ name: string; change: (tree: Tree) => void; isSeen: (connections: ConnectionTable) => boolean }>([
    {
      name: 'of a queue that was read',
      change: (tree) => tree.edit(SSHD, 'net/tcp', ':00000007 ', ':00000000 '),
      isSeen: (connections) => connections.receiveQueue[connections.indexOf(9)] === 0,
    },
    {
      name: 'of a UDP socket that connected',
      change: (tree) => {
        const ends = { table: 'udp', local: '127.0.0.1:5000', inode: 8 } as const;
        tree.edit(
          SSHD,
          'net/udp',
          printRow({ ...ends, state: CLOSE }),
          printRow({ ...ends, state: ESTABLISHED, remote: '127.0.0.1:53' }),
        );
      },
      isSeen: (connections) => connections.remotePort[connections.indexOf(8)] === 53,
    },
  ])('$name is seen within ten scans, at whichever scan it comes', ({ change, isSeen }) => {
    const took: number[] = [];
    for (let before = 1; before <= 10; before++) {
      using tree = new Tree('listen-only');
      add(tree, { ...WAITING, inode: 9, receiveQueue: 7 });
      tree.open(SSHD, 9, 9);
      add(tree, { table: 'udp', state: CLOSE, local: '127.0.0.1:5000', inode: 8 });
      tree.open(SSHD, 8, 8);
      const collector = new Collector(tree.root);
      for (let scan = 0; scan < before; scan++) collector.scan();
      change(tree);
      let scans = 1;
      collector.scan();
      for (; !isSeen(collector.connections) && scans < 30; scans++) collector.scan();
      took.push(scans);
    }
    expect(Math.max(...took)).toBe(10);
  });

  test('in a namespace of many sockets needs no check of each: the namespace is read at every scan', () => {
    using tree = new Tree('listen-only');
    for (let port = 1; port <= 60; port++) {
      add(tree, { table: 'udp', state: CLOSE, local: `127.0.0.1:${port}`, inode: port });
      tree.open(SSHD, 100 + port, port);
    }
    const collector = new Collector(tree.root);
    collector.scan();
    collector.scan();
    expect(collector.tables.status).toEqual(READ);
  });
});

describe('a table that is not read', () => {
  const NEW = { table: 'tcp6', state: LISTEN, local: '[::1]:8080', inode: 9 } as const;

  test.each<{ name: string; given: (tree: Tree) => void; expected: boolean }>([
    {
      name: 'because sockstat6 counts no socket in it',
      given: (tree) => tree.edit(SSHD, 'net/sockstat6', 'TCP6: inuse 2', 'TCP6: inuse 0'),
      expected: false,
    },
    {
      name: 'is read though, for a socket in TIME_WAIT that may be in either',
      given: (tree) => {
        tree.edit(SSHD, 'net/sockstat6', 'TCP6: inuse 2', 'TCP6: inuse 0');
        tree.edit(SSHD, 'net/sockstat', 'tw 0', 'tw 1');
      },
      expected: true,
    },
    {
      name: 'is read though, where sockstat6 does not count it',
      given: (tree) => tree.edit(SSHD, 'net/sockstat6', 'TCP6: inuse 2\n', ''),
      expected: true,
    },
    { name: 'is read though, without sockstat', given: (tree) => tree.spoil(SSHD, 'net/sockstat'), expected: true },
    { name: 'because IPv6 is off', given: (tree) => tree.write(SSHD, 'net/sockstat6', null), expected: false },
  ])('$name', ({ given, expected }) => {
    using tree = new Tree('listen-only');
    add(tree, NEW);
    given(tree);
    const collector = new Collector(tree.root);
    collector.scan();
    expect(describeTable(collector.connections).includes('tcp6 listen ::1:8080 listen')).toBe(expected);
  });

  test('because no table has rows leaves a namespace empty', () => {
    using tree = new Tree('empty');
    const collector = new Collector(tree.root);
    for (let scan = 0; scan < 12; scan++) {
      collector.scan();
      expect(collector.tables.status).toEqual({ ...ONE, empty: 1 });
    }
  });
});

describe('a table that cannot be read', () => {
  test('keeps its rows, counts its namespace as unreadable, and is read again as soon as possible', () => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    collector.scan(1000);
    const rows = describeTable(collector.connections);
    const tcp = printRow({ table: 'tcp', state: LISTEN, local: '0.0.0.0:22', inode: SSH_SOCKET });
    tree.spoil(SSHD, 'net/tcp');
    tree.edit(SSHD, 'net/sockstat', 'TCP: inuse 3', 'TCP: inuse 1');
    for (const now of [2000, 3000, 4000]) {
      collector.scan(now);
      expect(collector.tables.status).toEqual({ ...ONE, unreadable: 1 });
      expect(describeTable(collector.connections)).toEqual(rows);
      expect(collector.tables.oldestReadAt).toBe(1000);
    }
    tree.write(SSHD, 'net/tcp', `  sl  local_address\n${tcp}`);
    collector.scan(5000);
    expect(collector.tables.status).toEqual(READ);
    expect(describeTable(collector.connections).filter((row) => row.startsWith('tcp '))).toEqual([
      'tcp listen 0.0.0.0:22 listen',
    ]);
    expect(collector.tables.oldestReadAt).toBe(5000);
  });

  test('because the kernel does not have it is empty', () => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    tree.write(SSHD, 'net/tcp6', null);
    collector.scan();
    expect(collector.tables.status).toEqual(READ);
    expect(describeTable(collector.connections).filter((row) => row.startsWith('tcp6'))).toEqual([]);
  });

  test('through a process that is gone is read through the next process', () => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    collector.scan();
    const rows = describeTable(collector.connections);
    tree.end(SSHD, DNSMASQ);
    collector.scan();
    expect(describeTable(collector.connections)).toEqual(rows);
  });
});

describe('when the time is up', () => {
  /** Says so after this many namespaces. */
  const after =
    ({ tables }: Collector, most: number): (() => boolean) =>
    () =>
      Object.values<number>({ ...tables.status }).reduce((sum, count) => sum + count, 0) >= most;

  test('namespaces that were not reached keep their rows, are counted, and come first at the next scan', () => {
    using tree = new Tree('containers');
    const collector = new Collector(tree.root);
    collector.scan(1000);
    const rows = describeTable(collector.connections);
    collector.scan(2000, after(collector, 1));
    expect(collector.tables.status).toMatchObject({ incomplete: 2 });
    expect(describeTable(collector.connections)).toEqual(rows);
    expect(collector.tables.oldestReadAt).toBe(1000);
    collector.scan(3000, after(collector, 2));
    expect(collector.tables.oldestReadAt).toBe(2000);
  });

  test.each([1, 2])('every namespace is read in turn, with time for %i of three at each scan', (most) => {
    using tree = new Tree('containers');
    const collector = new Collector(tree.root);
    collector.scan(1000);
    const ages: number[] = [];
    for (let now = 2000; now <= 20_000; now += 1000) {
      collector.scan(now, after(collector, most));
      ages.push(now - collector.tables.oldestReadAt);
    }
    expect(Math.max(...ages)).toBeLessThanOrEqual(3000);
  });

  test('a change in the meantime shows at the next read of the namespace', () => {
    using tree = new Tree('listen-only');
    add(tree, WAITING);
    const collector = new Collector(tree.root);
    collector.scan();
    collector.scan();
    tree.edit(SSHD, 'net/tcp', printRow(WAITING), printRow({ ...WAITING, inode: 9 }));
    tree.open(SSHD, 9, 9);
    collector.scan(2000, after(collector, 0));
    expect(collector.tables.status).toEqual({ ...ONE, incomplete: 1 });
    collector.scan(3000);
    expect(collector.holders()).toMatchObject({ 9: { pid: SSHD, pids: [SSHD] } });
  });

  test('a table that is too long for one scan is read on by the next ones, and loses what closed meanwhile', () => {
    using tree = new Tree('listen-only');
    const rows = Array.from({ length: 4_000 }, (_, i) =>
      printRow({ table: 'udp', state: CLOSE, local: `127.1.${i >> 8}.${i & 255}:5000`, inode: 100_000 + i }),
    );
    const path = join(tree.root, String(SSHD), 'net/udp');
    const header = readFileSync(path, 'utf8').split('\n')[0] ?? '';
    const write = (): void => writeFileSync(path, `${header}\n${rows.join('')}`);
    write();
    tree.edit(SSHD, 'net/sockstat', /UDP: inuse \d+/, 'UDP: inuse 4000');
    const collector = new Collector(tree.root);
    const { connections, tables } = collector;
    let now = 0;
    /** Scans with time for five reads, of up to 512 rows each: 12 scans are enough for all. */
    const scans = (): { udp: number[]; incomplete: number[]; ages: number[] } => {
      const result = { udp: [] as number[], incomplete: [] as number[], ages: [] as number[] };
      for (let i = 0; i < 12; i++) {
        let asked = 0;
        collector.scan((now += 1_000), () => ++asked > 5);
        const ends = [...connections.indexes()].filter((i) => (connections.table[i] ?? 0) >= UDP);
        expect([...connections.indexes()].length - ends.length, 'the rows of the other tables').toBe(5);
        result.udp.push(ends.length);
        result.incomplete.push(tables.status.incomplete);
        result.ages.push(now - tables.oldestReadAt);
      }
      return result;
    };
    const first = scans();
    expect(first.udp[0]).toBeLessThan(2_000);
    expect(first.udp).toEqual(first.udp.toSorted((a, b) => a - b));
    expect(first.udp.at(-1)).toBe(4_001);
    expect(new Set(first.incomplete)).toEqual(new Set([0, 1]));
    rows.splice(100, 50);
    rows.push(printRow({ table: 'udp', state: CLOSE, local: '127.2.0.1:5000', inode: 200_000 }));
    write();
    const second = scans();
    expect(second.udp.at(-1)).toBe(3_952);
    expect(Math.max(...second.ages)).toBeLessThanOrEqual(6_000);
    expect(connections.indexOf(200_000)).toBeGreaterThanOrEqual(0);
    expect(connections.indexOf(100_100)).toBe(-1);
  });

  test('at the first scan, no rows are known', () => {
    using tree = new Tree('containers');
    const collector = new Collector(tree.root);
    collector.scan(1000, after(collector, 0));
    expect(collector.tables.status).toEqual({ ...ONE, incomplete: 3 });
    expect(describeTable(collector.connections)).toEqual([]);
  });
});

describe('a UDP socket that is missing in the table', () => {
  const hide = (tree: Tree): void => {
    tree.edit(SSHD, 'net/udp', new RegExp(`.* ${DNS_SOCKET} .*\n`), '');
    tree.edit(SSHD, 'net/snmp', 'Udp: 0 0', 'Udp: 1 0');
  };
  const udp = (collector: Collector): string[] =>
    describeTable(collector.connections).filter((row) => row.startsWith('udp '));

  test('stays, once, while its descriptor is open, and is removed with it', () => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    collector.scan();
    hide(tree);
    collector.scan();
    expect(udp(collector)).toEqual(['udp unconnected 0.0.0.0:53 listen']);
    tree.open(DNSMASQ, 3, null);
    tree.edit(SSHD, 'net/sockstat', 'UDP: inuse 1', 'UDP: inuse 0');
    collector.scan();
    expect(udp(collector)).toEqual([]);
  });

  test('is removed although its descriptor is open if it has another row', () => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    collector.scan();
    hide(tree);
    add(tree, { table: 'udp', state: ESTABLISHED, local: '127.0.0.1:53', remote: '127.0.0.1:5000', inode: DNS_SOCKET });
    collector.scan();
    expect(udp(collector)).toEqual(['udp established 127.0.0.1:53 > 127.0.0.1:5000 loopback']);
    expect(collector.holders()[DNS_SOCKET]).toEqual({ pid: DNSMASQ, pids: [DNSMASQ] });
  });

  test('is removed although its descriptor is open after four scans without it: it released its port', () => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    collector.scan();
    hide(tree);
    tree.edit(SSHD, 'net/sockstat', 'UDP: inuse 1', 'UDP: inuse 0');
    for (let scan = 0; scan < 4; scan++) collector.scan();
    expect(udp(collector)).toEqual([]);
  });
});

describe('the protocol counters', () => {
  const overflows = (collector: Collector): number[] =>
    collector.protocols.byPod.totals.map(({ counts }) => counts.listenOverflows);
  const touch = (tree: Tree, datagrams: number): void => tree.edit(SSHD, 'net/snmp', /Udp: \d+/, `Udp: ${datagrams}`);

  test('are read when snmp changes', () => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    tree.write(SSHD, 'net/netstat', 'TcpExt: ListenOverflows\nTcpExt: 5\n');
    collector.scan();
    expect(overflows(collector)).toEqual([5]);
    tree.write(SSHD, 'net/netstat', 'TcpExt: ListenOverflows\nTcpExt: 7\n');
    touch(tree, 1);
    collector.scan();
    expect(overflows(collector)).toEqual([7]);
  });

  test('are not added twice if a file could not be read once', () => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    tree.write(SSHD, 'net/netstat', 'TcpExt: ListenOverflows\nTcpExt: 5\n');
    collector.scan();
    tree.spoil(SSHD, 'net/netstat');
    touch(tree, 1);
    collector.scan();
    tree.write(SSHD, 'net/netstat', 'TcpExt: ListenOverflows\nTcpExt: 5\n');
    touch(tree, 2);
    collector.scan();
    expect(overflows(collector)).toEqual([5]);
  });
});

test('the first connection of a namespace without sockets was opened since the last scan', () => {
  using host = new SimulatedHost();
  const pod = host.add('10.0.0.1', null, 'ns');
  host.write();
  const collector = new Collector(host.root);
  collector.scan(1_000);
  host.open(pod, 40_000, '198.51.100.7:443');
  host.write();
  collector.scan(2_000);
  const { connections } = collector;
  expect([...connections.indexes()].map((i) => connections.openedAt[i])).toEqual([2_000]);
});

describe('many namespaces of one user', () => {
  /** A host with the namespace of pid 1, three of system units, and 60 of one user. */
  function crowded(): { host: SimulatedHost; crowd: SimulatedNamespace[]; others: SimulatedNamespace[] } {
    const host = new SimulatedHost();
    const crowd = Array.from({ length: 60 }, (_, i) =>
      host.add(`10.0.0.${i + 1}`, null, 'ns', '/user.slice/session-1.scope'),
    );
    const others = [1, 2, 3].map((i) => host.add(`10.0.1.${i}`, null, `unit-${i}`));
    const init = host.add('192.0.2.1', null, 'init');
    cpSync(join(host.root, String(init.pid)), join(host.root, '1'), { recursive: true, verbatimSymlinks: true });
    rmSync(join(host.root, '1/net'), { recursive: true });
    symlinkSync(`../${init.pid}/net`, join(host.root, '1/net'));
    for (const { pid } of crowd) {
      const status = join(host.root, String(pid), 'status');
      writeFileSync(status, readFileSync(status, 'utf8').replace('Uid:\t0\t0', 'Uid:\t65534\t65534'));
    }
    for (const namespace of host.namespaces) host.listen(namespace, 80);
    host.write();
    return { host, crowd, others: [init, ...others] };
  }

  test('take their own time alone: the namespace of pid 1 and those of others are read at every scan', () => {
    const { host: crowdedHost, crowd, others } = crowded();
    using host = crowdedHost;
    let time = 0;
    const collector = new Collector(host.root, () => ++time);
    const readAt = new Map<number, number>();
    for (let scan = 1; scan <= 12; scan++) {
      for (const namespace of host.namespaces) host.listen(namespace, 1_000 + scan);
      host.write();
      const until = time + 100;
      collector.scan(scan, () => time > until);
      const { status } = collector.tables;
      expect(status.incomplete).toBeGreaterThan(30);
      expect(status.read + status.unchanged).toBeGreaterThan(4);
      const { connections } = collector;
      for (const i of connections.indexes()) {
        const { inode = 0 } = collector.tables.namespace(connections.netns[i] ?? -1) ?? {};
        if (connections.localPort[i] === 1_000 + scan) readAt.set(inode, scan);
      }
      expect(others.map(({ inode }) => readAt.get(inode))).toEqual(others.map(() => scan));
    }
    expect(crowd.every(({ inode }) => readAt.has(inode))).toBe(true);
  });

  test('are left, but not the namespace of pid 1, by a scan that is late before it reads a table', () => {
    const { host: crowdedHost, others } = crowded();
    using host = crowdedHost;
    const collector = new Collector(host.root);
    collector.scan(1_000, () => true);
    expect(collector.tables.status.incomplete).toBe(host.namespaces.length - 1);
    const { connections } = collector;
    const read = [...connections.indexes()].map((i) => collector.tables.namespace(connections.netns[i] ?? -1)?.inode);
    expect(read).toEqual([others[0]?.inode]);
  });

  test('wait for the namespace of pid 1 for half of the time, however long its tables are', () => {
    const { host: crowdedHost, crowd } = crowded();
    using host = crowdedHost;
    const row = printRow({ table: 'tcp', state: ESTABLISHED, local: '192.0.2.1:80', remote: '198.51.100.7:5000' });
    appendFileSync(join(host.root, '1/net/tcp'), row.repeat(30_000));
    const collector = new Collector(host.root);
    // Each question takes a part of the time.
    let asked = 0;
    collector.scan(1_000, (share = 1) => ++asked > 30 * share);
    const read = new Set([...collector.connections.indexes()].map((i) => collector.connections.netns[i]));
    expect(read.size).toBeGreaterThan(5);
    expect(read.size).toBeLessThan(crowd.length);
  });
});

describe('namespaces in which only packets came and went', () => {
  const SNMP = (opens: number, segments: number): string =>
    `Tcp: RtoAlgorithm ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs\nTcp: 1 ${opens} 0 0 0 1 ${segments}\n`;

  /** Scans of namespaces with traffic in each; every question for the time takes this many milliseconds. */
  function scans(count: number, ms: number, opensAt: (scan: number, namespace: number) => number = () => 0) {
    using host = new SimulatedHost();
    for (let i = 0; i < 30; i++) host.listen(host.add(`10.0.0.${i + 1}`, null, `unit-${i}`), 80);
    host.write();
    let time = 0;
    const collector = new Collector(host.root, () => (time += ms));
    const readAt = host.namespaces.map((): number[] => []);
    const all: NamespaceCounts[] = [];
    for (let scan = 1; scan <= count; scan++) {
      for (const [i, { pid }] of host.namespaces.entries()) {
        writeFileSync(join(host.root, String(pid), 'net/snmp'), SNMP(opensAt(scan, i), scan));
        const tables = join(host.root, String(pid), 'net/tcp');
        // The queue shows whether the table was read.
        writeFileSync(tables, readFileSync(tables, 'utf8').replace(/[0-9A-F]{8} 00:/, `${hex(scan)} 00:`));
      }
      collector.scan(scan);
      all.push({ ...collector.tables.status });
      const { connections } = collector;
      for (const i of connections.indexes()) {
        const at = host.namespaces.findIndex(
          ({ inode }) => inode === collector.tables.namespace(connections.netns[i] ?? -1)?.inode,
        );
        if (connections.receiveQueue[i] === scan) readAt[at]?.push(scan);
      }
    }
    return { all, readAt };
  }
  const hex = (number: number): string => number.toString(16).padStart(8, '0').toUpperCase();

  test('are all read at every scan if that takes no time', () => {
    const { all } = scans(12, 0);
    expect(all.map(({ read }) => read)).toEqual(all.map(() => 30));
  });

  test('take turns if that takes long, and each is read within ten scans', () => {
    const { all, readAt } = scans(40, 10);
    expect(Math.max(...all.slice(2).map(({ read }) => read))).toBeLessThan(10);
    for (const scans of readAt) {
      const waits = scans.map((scan, i) => scan - (scans[i - 1] ?? scan));
      expect(Math.max(...waits, 41 - (scans.at(-1) ?? 0))).toBeLessThanOrEqual(10);
    }
  });

  test('are read at once if a connection opened', () => {
    const { readAt } = scans(20, 10, (scan, namespace) => (namespace === 29 ? scan : 0));
    expect(readAt[29]).toHaveLength(20);
  });
});
