import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConnectionTable, type ConnectionOwner } from '../../src/collect/connection-table.ts';
import type { OwnerLabels } from '../../src/model.ts';
import {
  CLOSE,
  CLOSE_WAIT,
  ESTABLISHED,
  FIN_WAIT1,
  FIN_WAIT2,
  LAST_ACK,
  LISTEN,
  SYN_RECV,
  SYN_SENT,
  TIME_WAIT,
} from '../../src/collect/net-tcp-udp-raw.ts';
import { describeTable, scan, type KernelRow } from '../support/kernel-rows.ts';

const listener = (local: string, inode: number, table: KernelRow['table'] = 'tcp'): KernelRow => ({
  table,
  state: table.startsWith('tcp') ? LISTEN : CLOSE,
  local,
  inode,
});
const tcp = (local: string, remote: string, state = ESTABLISHED, inode = 7): KernelRow => ({
  table: 'tcp',
  state,
  local,
  remote,
  inode,
});
const tcp6 = (local: string, remote: string, state = ESTABLISHED, inode = 7): KernelRow => ({
  ...tcp(local, remote, state, inode),
  table: 'tcp6',
});

describe('direction', () => {
  const directionOf = (rows: readonly KernelRow[], own: readonly string[] | null = null): string[] => {
    const table = new ConnectionTable();
    scan(table, rows, { own });
    return describeTable(table).filter((line) => !line.includes('listen'));
  };

  test.each<{ name: string; rows: KernelRow[]; own?: string[]; expected: string[] }>([
    {
      name: 'a listener on the exact address makes a connection inbound',
      rows: [listener('192.0.2.1:8080', 1), tcp('192.0.2.1:8080', '198.51.100.7:51000')],
      expected: ['tcp established 192.0.2.1:8080 > 198.51.100.7:51000 inbound'],
    },
    {
      name: 'a wildcard listener does too',
      rows: [listener('0.0.0.0:8080', 1), tcp('192.0.2.1:8080', '198.51.100.7:51000')],
      expected: ['tcp established 192.0.2.1:8080 > 198.51.100.7:51000 inbound'],
    },
    {
      name: 'a listener of another port or address does not',
      rows: [listener('0.0.0.0:8081', 1), listener('192.0.2.2:8080', 2), tcp('192.0.2.1:8080', '198.51.100.7:443')],
      expected: ['tcp established 192.0.2.1:8080 > 198.51.100.7:443 outbound'],
    },
    {
      name: 'an IPv4-mapped row of tcp6 belongs to a listener of tcp6, never to one of tcp',
      rows: [listener('0.0.0.0:40080', 1), tcp6('[::ffff:192.0.2.1]:40080', '[::ffff:198.51.100.7]:51000')],
      expected: ['tcp6 established 192.0.2.1:40080 > 198.51.100.7:51000 outbound'],
    },
    {
      name: 'a dual-stack listener accepts IPv4',
      rows: [listener('[::]:8080', 1, 'tcp6'), tcp6('[::ffff:192.0.2.1]:8080', '[::ffff:198.51.100.7]:51000')],
      expected: ['tcp6 established 192.0.2.1:8080 > 198.51.100.7:51000 inbound'],
    },
    {
      name: 'without a listener a low local port against a high remote one is taken for a service',
      rows: [tcp('192.0.2.1:22', '198.51.100.7:51000')],
      expected: ['tcp established 192.0.2.1:22 > 198.51.100.7:51000 inbound'],
    },
    {
      name: 'two low ports are outbound',
      rows: [tcp('192.0.2.1:22', '198.51.100.7:443')],
      expected: ['tcp established 192.0.2.1:22 > 198.51.100.7:443 outbound'],
    },
    {
      name: 'both ends in the namespace are loopback, and the end that listens is the one that counts',
      rows: [
        listener('0.0.0.0:6000', 1),
        tcp('192.0.2.1:6000', '192.0.2.1:40000', ESTABLISHED, 2),
        tcp('192.0.2.1:40000', '192.0.2.1:6000', ESTABLISHED, 3),
      ],
      expected: [
        'tcp established 192.0.2.1:40000 > 192.0.2.1:6000 loopback duplicate',
        'tcp established 192.0.2.1:6000 > 192.0.2.1:40000 loopback',
      ],
    },
    {
      name: 'the two ends of one connection can stand in tcp and tcp6',
      rows: [
        listener('[::]:6000', 1, 'tcp6'),
        tcp6('[::ffff:127.0.0.1]:6000', '[::ffff:127.0.0.1]:40000', ESTABLISHED, 2),
        tcp('127.0.0.1:40000', '127.0.0.1:6000', ESTABLISHED, 3),
      ],
      expected: [
        'tcp established 127.0.0.1:40000 > 127.0.0.1:6000 loopback duplicate',
        'tcp6 established 127.0.0.1:6000 > 127.0.0.1:40000 loopback',
      ],
    },
    {
      name: 'where no end listens any more, the lower port serves',
      rows: [tcp('127.0.0.1:900', '127.0.0.1:901'), tcp('127.0.0.1:901', '127.0.0.1:900', ESTABLISHED, 8)],
      expected: [
        'tcp established 127.0.0.1:900 > 127.0.0.1:901 loopback',
        'tcp established 127.0.0.1:901 > 127.0.0.1:900 loopback duplicate',
      ],
    },
    {
      name: 'where both ends listen, exactly one of them is left out',
      rows: [
        listener('0.0.0.0:7001', 1),
        listener('0.0.0.0:7000', 2),
        tcp('127.0.0.1:7000', '127.0.0.1:7001'),
        tcp('127.0.0.1:7001', '127.0.0.1:7000', ESTABLISHED, 8),
      ],
      expected: [
        'tcp established 127.0.0.1:7000 > 127.0.0.1:7001 loopback',
        'tcp established 127.0.0.1:7001 > 127.0.0.1:7000 loopback duplicate',
      ],
    },
    {
      name: 'a loopback address needs no mirror',
      rows: [tcp('127.0.0.1:40000', '127.0.0.53:53', TIME_WAIT, 0), tcp6('[::1]:40001', '[::1]:53', SYN_SENT)],
      expected: ['tcp time_wait 127.0.0.1:40000 > 127.0.0.53:53 loopback', 'tcp6 syn_sent ::1:40001 > ::1:53 loopback'],
    },
    {
      name: 'an own address is loopback only in a state that leaves no mirror (IPVS puts service addresses on the host)',
      rows: [
        tcp('192.0.2.1:40000', '192.0.2.9:443', ESTABLISHED),
        tcp('192.0.2.1:40001', '192.0.2.9:443', TIME_WAIT, 0),
        tcp('192.0.2.1:40002', '192.0.2.9:443', SYN_SENT),
        tcp('192.0.2.1:40003', '192.0.2.9:443', FIN_WAIT2, 0),
        tcp('192.0.2.1:40004', '192.0.2.9:443', FIN_WAIT1, 0),
      ],
      own: ['192.0.2.1', '192.0.2.9'],
      expected: [
        'tcp established 192.0.2.1:40000 > 192.0.2.9:443 outbound',
        'tcp fin_wait_1 192.0.2.1:40004 > 192.0.2.9:443 outbound',
        'tcp fin_wait_2 192.0.2.1:40003 > 192.0.2.9:443 loopback',
        'tcp syn_sent 192.0.2.1:40002 > 192.0.2.9:443 loopback',
        'tcp time_wait 192.0.2.1:40001 > 192.0.2.9:443 loopback',
      ],
    },
    {
      name: 'a socket connected to itself is one loopback connection',
      rows: [tcp('192.0.2.1:40000', '192.0.2.1:40000')],
      expected: ['tcp established 192.0.2.1:40000 > 192.0.2.1:40000 loopback'],
    },
    {
      name: 'a connected UDP socket beside an unconnected one on its port is inbound, else outbound',
      rows: [
        listener('0.0.0.0:5353', 1, 'udp'),
        { table: 'udp', state: ESTABLISHED, local: '192.0.2.1:5353', remote: '198.51.100.7:9000', inode: 2 },
        { table: 'udp', state: ESTABLISHED, local: '192.0.2.1:41000', remote: '198.51.100.7:53', inode: 3 },
      ],
      expected: [
        'udp established 192.0.2.1:41000 > 198.51.100.7:53 outbound',
        'udp established 192.0.2.1:5353 > 198.51.100.7:9000 inbound',
      ],
    },
  ])('$name', ({ rows, own, expected }) => {
    expect(directionOf(rows, own)).toEqual(expected);
    expect(directionOf(rows.toReversed(), own), 'whatever the order of the rows').toEqual(expected);
  });

  test('a connection keeps its direction after its listener is gone', () => {
    const table = new ConnectionTable();
    scan(table, [listener('0.0.0.0:8080', 1), tcp('192.0.2.1:8080', '198.51.100.7:51000')]);
    scan(table, [tcp('192.0.2.1:8080', '198.51.100.7:51000', TIME_WAIT, 0)]);
    expect(describeTable(table)).toEqual(['tcp time_wait 192.0.2.1:8080 > 198.51.100.7:51000 inbound']);
    expect([...table.indexes()].map((i) => table.evidence[i])).toEqual(['history']);
  });

  test('a mirror found one scan later is loopback; the other end keeps its direction, and one of the two is counted', () => {
    const table = new ConnectionTable();
    const client = tcp('192.0.2.1:40000', '192.0.2.9:443', ESTABLISHED, 2);
    scan(table, [client], { own: ['192.0.2.9'] });
    scan(table, [client, tcp('192.0.2.9:443', '192.0.2.1:40000', ESTABLISHED, 3)], { own: ['192.0.2.9'] });
    expect(describeTable(table)).toEqual([
      'tcp established 192.0.2.1:40000 > 192.0.2.9:443 outbound duplicate',
      'tcp established 192.0.2.9:443 > 192.0.2.1:40000 loopback',
    ]);
  });

  test('ends in different namespaces are not a pair', () => {
    const table = new ConnectionTable();
    table.begin(1);
    scan(table, [tcp('192.0.2.1:40000', '192.0.2.9:443')], { netns: 1 });
    expect(describeTable(table)).toEqual(['tcp established 192.0.2.1:40000 > 192.0.2.9:443 outbound']);
  });
});

describe('a UDP row that a scan misses', () => {
  const socket: KernelRow = {
    table: 'udp',
    state: ESTABLISHED,
    local: '192.0.2.1:41000',
    remote: '198.51.100.7:53',
    inode: 9,
  };
  const sizes = (scans: readonly { rows: KernelRow[]; open: number[] }[]): number[] => {
    const table = new ConnectionTable();
    return scans.map(({ rows, open }) => {
      scan(table, rows, { open });
      return table.size;
    });
  };

  test('stays while its descriptor is open, for two scans at most', () => {
    const unseen = { rows: [], open: [9] };
    expect(sizes([{ rows: [socket], open: [9] }, unseen, unseen, unseen])).toEqual([1, 1, 1, 0]);
  });

  test('is removed at once when its descriptor is closed', () => {
    expect(
      sizes([
        { rows: [socket], open: [9] },
        { rows: [], open: [] },
      ]),
    ).toEqual([1, 0]);
  });

  test('is not kept if its socket has another row', () => {
    const connected = { ...socket, remote: '198.51.100.8:53' };
    expect(
      sizes([
        { rows: [socket], open: [9] },
        { rows: [connected], open: [9] },
      ]),
    ).toEqual([1, 1]);
  });
});

describe('the life of a connection', () => {
  const ends = ['192.0.2.1:40000', '198.51.100.7:443'] as const;

  /** Opened and closed counts of each scan after the first, which sees nothing. */
  const lives = (scans: readonly (readonly KernelRow[])[]): string[] => {
    const table = new ConnectionTable();
    scan(table, []);
    return scans.map((rows) => {
      scan(table, rows);
      return `+${table.opened.length} -${table.closed.length} =${table.size}`;
    });
  };

  test.each<{ name: string; scans: KernelRow[][]; expected: string[] }>([
    {
      name: 'from SYN_SENT to TIME_WAIT it is one connection',
      scans: [
        [tcp(...ends, SYN_SENT, 5)],
        [tcp(...ends, ESTABLISHED, 5)],
        [tcp(...ends, FIN_WAIT1, 0)],
        [tcp(...ends, FIN_WAIT2, 0)],
        [tcp(...ends, TIME_WAIT, 0)],
        [],
      ],
      expected: ['+1 -0 =1', '+0 -0 =1', '+0 -0 =1', '+0 -0 =1', '+0 -0 =1', '+0 -1 =0'],
    },
    {
      name: 'accept() gives a waiting connection its inode',
      scans: [[tcp(...ends, SYN_RECV, 0)], [tcp(...ends, ESTABLISHED, 0)], [tcp(...ends, ESTABLISHED, 9)]],
      expected: ['+1 -0 =1', '+0 -0 =1', '+0 -0 =1'],
    },
    {
      name: 'the same ends with another inode are another connection',
      scans: [[tcp(...ends, ESTABLISHED, 5)], [tcp(...ends, ESTABLISHED, 6)]],
      expected: ['+1 -0 =1', '+1 -1 =1'],
    },
    {
      name: 'a port that comes back out of TIME_WAIT is another connection',
      scans: [[tcp(...ends, TIME_WAIT, 0)], [tcp(...ends, ESTABLISHED, 6)], [tcp(...ends, SYN_SENT, 7)]],
      expected: ['+1 -0 =1', '+1 -1 =1', '+1 -1 =1'],
    },
    {
      name: 'an accepted connection whose place is taken by one not yet accepted is another connection',
      scans: [[tcp(...ends, CLOSE_WAIT, 5)], [tcp(...ends, ESTABLISHED, 0)]],
      expected: ['+1 -0 =1', '+1 -1 =1'],
    },
    {
      name: 'an orphan goes on without its inode',
      scans: [[tcp(...ends, CLOSE_WAIT, 5)], [tcp(...ends, LAST_ACK, 0)]],
      expected: ['+1 -0 =1', '+0 -0 =1'],
    },
    {
      name: 'SO_REUSEPORT listeners are told apart by their inodes',
      scans: [[listener('0.0.0.0:80', 1), listener('0.0.0.0:80', 2)], [listener('0.0.0.0:80', 2)]],
      expected: ['+2 -0 =2', '+0 -1 =1'],
    },
    {
      name: 'two sockets between the same ends (of two devices) are two, scan after scan',
      scans: [
        [tcp(...ends, ESTABLISHED, 5), tcp(...ends, ESTABLISHED, 6)],
        [tcp(...ends, ESTABLISHED, 6), tcp(...ends, ESTABLISHED, 5)],
      ],
      expected: ['+2 -0 =2', '+0 -0 =2'],
    },
    {
      name: 'a row that a scan under churn sees twice is one connection',
      scans: [[tcp(...ends, ESTABLISHED, 5), tcp(...ends, FIN_WAIT1, 5), tcp(...ends, TIME_WAIT, 0)]],
      expected: ['+1 -0 =1'],
    },
    {
      name: 'the same ends in tcp and in tcp6 are two',
      scans: [[tcp(...ends), tcp6('[::ffff:192.0.2.1]:40000', '[::ffff:198.51.100.7]:443')]],
      expected: ['+2 -0 =2'],
    },
  ])('$name', ({ scans, expected }) => {
    expect(lives(scans)).toEqual(expected);
  });

  test('a connection found by the first scan has no opening time', () => {
    const table = new ConnectionTable();
    scan(table, [listener('0.0.0.0:80', 1)], { now: 5_000 });
    scan(table, [listener('0.0.0.0:80', 1), listener('0.0.0.0:81', 2)], { now: 6_000 });
    expect([...table.indexes()].map((i) => table.openedAt[i])).toEqual([0, 6_000]);
  });

  test('however connections come and go, the table has exactly the rows of the last scan', () => {
    const row = fc
      .record({
        table: fc.constantFrom('tcp' as const, 'tcp6' as const, 'udp' as const),
        state: fc.constantFrom(ESTABLISHED, TIME_WAIT, SYN_SENT, CLOSE_WAIT, LISTEN),
        localPort: fc.integer({ min: 1, max: 6 }),
        remotePort: fc.integer({ min: 0, max: 6 }),
      })
      .map(({ table, state, localPort, remotePort }): KernelRow => {
        const host = (table === 'tcp6' ? '[2001:db8::1]' : '192.0.2.1') as string;
        const inode = state === TIME_WAIT ? 0 : localPort * 10 + remotePort + 1;
        return { table, state, local: `${host}:${localPort}`, remote: `${host}:${remotePort}`, inode };
      });
    const key = ({ table, local, remote, inode }: KernelRow): string => `${table} ${local} ${remote} ${inode}`;
    const oneScan = fc.uniqueArray(row, { selector: (r) => `${r.table} ${r.local} ${r.remote}`, maxLength: 40 });
    fc.assert(
      fc.property(fc.array(oneScan, { minLength: 1, maxLength: 6 }), (scans) => {
        const table = new ConnectionTable();
        let alive = 0;
        for (const rows of scans) {
          scan(table, rows);
          alive += table.opened.length - table.closed.length;
          expect(table.size).toBe(new Set(rows.map(key)).size);
          expect(alive).toBe(table.size);
          expect([...table.indexes()]).toHaveLength(table.size);
        }
        scan(table, []);
        expect(table.size).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  test('ten thousand connections that come and go use no more memory than those open at once', () => {
    const table = new ConnectionTable();
    for (let round = 0; round < 10; round++) {
      const rows = Array.from({ length: 1_000 }, (_, i) => tcp(`192.0.2.1:${1_024 + i}`, `198.51.100.7:${round + 1}`));
      scan(table, rows);
    }
    expect(table.length).toBeLessThanOrEqual(2_000);
  });
});

describe('a change of owner', () => {
  const labels: OwnerLabels = { process: 'nginx', namespace: '', workload: '', pod: '', container: '' };
  const owner: ConnectionOwner = { process: null, holders: [], evidence: null, labels, reason: null };

  test.each<{ name: string; before: ConnectionOwner; after: ConnectionOwner; changed: number }>([
    { name: 'nothing', before: owner, after: owner, changed: 0 },
    { name: 'the evidence', before: owner, after: { ...owner, evidence: 'fd' }, changed: 0 },
    { name: 'the labels', before: owner, after: { ...owner, labels: { ...labels } }, changed: 1 },
    { name: 'the end of the search', before: { ...owner, reason: 'vanished' }, after: owner, changed: 1 },
    { name: 'its begin', before: owner, after: { ...owner, reason: 'vanished' }, changed: 0 },
  ])('$name marks the connection as changed: $changed', ({ before, after, changed }) => {
    const table = new ConnectionTable();
    scan(table, [{ table: 'tcp', state: LISTEN, local: '0.0.0.0:80', inode: 1 }]);
    expect(table.changed[0]).toBe(1);
    table.setOwner(0, before);
    table.settle(0);
    table.setOwner(0, after);
    expect(table.changed[0]).toBe(changed);
    table.touch(0);
    expect(table.changed[0]).toBe(1);
  });

  test('is the only way to write a column', () => {
    const table = new ConnectionTable();
    const write = (): void => {
      // @ts-expect-error columns are read-only
      table.labels[0] = labels;
      // @ts-expect-error columns are read-only
      table.changed[0] = 1;
      // @ts-expect-error columns are read-only
      table.opened[0] = 0;
    };
    expect(write).toBeTypeOf('function');
  });
});
