import { describe, expect, test } from 'vitest';
import { LISTEN } from '../../src/collect/net-tcp-udp-raw.ts';
import { printRow } from '../support/kernel-rows.ts';
import { Collector, Tree } from '../support/proc-tree.ts';

/** The two processes of the tree "listen-only", and sockets of theirs at descriptors 3 and 4. */
const SSHD = 25938;
const DNSMASQ = 25947;
const SSH4 = 86486;
const SSH6 = 86487;
const DNS4 = 87717;

const OTHER = 26000;

/** Every scan reads all descriptors of so small a tree again: twenty scans are the bound for any. */
const ENOUGH = 20;

/** A listener more, and a counter that moved with it: the namespace is read again. */
function show(tree: Tree, inode: number, port: number): void {
  tree.edit(
    SSHD,
    'net/sockstat',
    /(TCP: inuse) (\d+)/,
    (_, name: string, count: string) => `${name} ${Number(count) + 1}`,
  );
  tree.edit(SSHD, 'net/tcp', /$/, printRow({ table: 'tcp', state: LISTEN, local: `127.0.0.1:${port}`, inode }));
}

describe('the holders of a socket', () => {
  test.each<{
    name: string;
    given?: (tree: Tree) => void;
    change: (tree: Tree) => void;
    inode: number;
    expected: readonly number[];
  }>([
    { name: 'stay when nothing changes', change: () => undefined, inode: SSH4, expected: [SSHD] },
    {
      name: 'are found for a new socket of a process with a descriptor more',
      change: (tree) => {
        tree.open(SSHD, 9, 9);
        show(tree, 9, 9);
      },
      inode: 9,
      expected: [SSHD],
    },
    {
      name: 'are found for a new socket in the place of an old one',
      change: (tree) => {
        tree.open(SSHD, 3, 9);
        tree.edit(SSHD, 'net/tcp', ` ${SSH4} `, ' 9 ');
      },
      inode: 9,
      expected: [SSHD],
    },
    {
      name: 'are found for a new socket in the place of a file',
      change: (tree) => {
        tree.open(SSHD, 5, 9);
        show(tree, 9, 9);
      },
      inode: 9,
      expected: [SSHD],
    },
    {
      name: 'are found for a new socket of a new process',
      change: (tree) => {
        tree.fork(SSHD, OTHER);
        tree.open(OTHER, 3, 9);
        show(tree, 9, 9);
      },
      inode: 9,
      expected: [OTHER],
    },
    {
      name: 'are all that share it',
      change: (tree) => {
        tree.fork(SSHD, OTHER);
        tree.open(OTHER, 3, SSH4);
      },
      inode: SSH4,
      expected: [SSHD, OTHER],
    },
    {
      name: 'are each named once, however many descriptors it has',
      change: (tree) => tree.open(SSHD, 9, SSH4),
      inode: SSH4,
      expected: [SSHD],
    },
    {
      name: 'are those that live on when one of them ends',
      given: (tree) => {
        tree.fork(SSHD, OTHER);
        tree.open(OTHER, 3, DNS4);
      },
      change: (tree) => tree.end(DNSMASQ),
      inode: DNS4,
      expected: [OTHER],
    },
    {
      name: 'are those that live on when one of them closes it',
      given: (tree) => tree.open(SSHD, 9, DNS4),
      change: (tree) => tree.open(DNSMASQ, 3, null),
      inode: DNS4,
      expected: [SSHD],
    },
    {
      name: 'are others when it was handed over',
      change: (tree) => {
        tree.open(DNSMASQ, 3, null);
        tree.open(SSHD, 9, DNS4);
      },
      inode: DNS4,
      expected: [SSHD],
    },
    {
      name: 'are others when it changed hands for another one',
      change: (tree) => {
        tree.open(DNSMASQ, 3, SSH4);
        tree.open(SSHD, 3, DNS4);
      },
      inode: DNS4,
      expected: [SSHD],
    },
    {
      name: 'are nobody while it is in flight, or the kernel holds it',
      change: (tree) => tree.open(DNSMASQ, 3, 0),
      inode: DNS4,
      expected: [],
    },
    {
      name: 'are found when it arrives from flight',
      given: (tree) => tree.open(DNSMASQ, 3, 0),
      change: (tree) => tree.open(SSHD, 9, DNS4),
      inode: DNS4,
      expected: [SSHD],
    },
    {
      name: 'are those of now for a socket that was known before it came into a table',
      given: (tree) => {
        tree.open(SSHD, 9, 9);
        tree.open(DNSMASQ, 9, 0);
      },
      change: (tree) => {
        tree.open(SSHD, 9, 0);
        tree.open(DNSMASQ, 9, 9);
        show(tree, 9, 9);
      },
      inode: 9,
      expected: [DNSMASQ],
    },
    {
      name: 'are another process when the pid came back, with as many descriptors',
      given: (tree) => {
        tree.fork(SSHD, OTHER);
        tree.open(OTHER, 3, SSH4);
      },
      change: (tree) => {
        tree.edit(OTHER, 'stat', /^((?:\S+ ){21})\d+/, '$1999999999');
        tree.open(OTHER, 3, SSH6);
      },
      inode: SSH4,
      expected: [SSHD],
    },
  ])('$name', ({ given, change, inode, expected }) => {
    using tree = new Tree('listen-only');
    given?.(tree);
    const collector = new Collector(tree.root);
    for (let scan = 0; scan < 3; scan++) collector.scan();
    change(tree);
    collector.scan();
    expect(collector.holders()[inode]?.pids ?? []).toEqual(expected);
  });

  test('are correct within twenty scans, with any number of other descriptors', () => {
    using tree = new Tree('listen-only');
    for (let fd = 100; fd < 2100; fd++) tree.open(SSHD, fd, 1_000_000 + fd);
    const collector = new Collector(tree.root);
    for (let scan = 0; scan < 4; scan++) collector.scan();
    tree.open(DNSMASQ, 3, SSH4);
    tree.open(SSHD, 3, DNS4);
    for (let scan = 0; scan < ENOUGH; scan++) collector.scan();
    expect([collector.holders()[SSH4]?.pids, collector.holders()[DNS4]?.pids]).toEqual([[DNSMASQ], [SSHD]]);
  });

  test('are correct within twenty scans after the process in rotation ended', () => {
    using tree = new Tree('listen-only');
    tree.fork(SSHD, OTHER);
    for (let fd = 100; fd < 1100; fd++) tree.open(OTHER, fd, 1_000_000 + fd);
    const collector = new Collector(tree.root);
    for (let scan = 0; scan < 3; scan++) collector.scan();
    tree.end(OTHER);
    tree.open(DNSMASQ, 3, SSH4);
    tree.open(SSHD, 3, DNS4);
    for (let scan = 0; scan < ENOUGH; scan++) collector.scan();
    expect([collector.holders()[SSH4]?.pids, collector.holders()[DNS4]?.pids]).toEqual([[DNSMASQ], [SSHD]]);
  });

  test('stay known for sockets that a process opened during its rotation', () => {
    using tree = new Tree('listen-only');
    for (let fd = 100; fd < 1100; fd++) tree.open(SSHD, fd, 1_000_000 + fd);
    const collector = new Collector(tree.root);
    const seen: (readonly number[] | undefined)[] = [];
    for (let scan = 0; scan < 12; scan++) {
      collector.scan();
      tree.open(SSHD, 2000 + scan, 2000 + scan);
      show(tree, 2000 + scan, 2000 + scan);
      collector.scan();
      seen.push(collector.holders()[2000 + scan]?.pids, collector.holders()[2000]?.pids);
    }
    expect(seen).toEqual(seen.map(() => [SSHD]));
  });
});

describe('a process whose descriptors may not be read', () => {
  test('is counted, and holds nothing', () => {
    using tree = new Tree('listen-only');
    tree.forbid(SSHD, 'fd');
    const collector = new Collector(tree.root);
    for (let scan = 0; scan < 3; scan++) {
      collector.scan();
      expect(collector.owners.denied).toBe(1);
      expect(collector.holders()[SSH4]).toEqual({ pid: null, pids: [] });
      expect(collector.holders()[DNS4]).toEqual({ pid: DNSMASQ, pids: [DNSMASQ] });
    }
  });
});

describe('a user with many descriptors', () => {
  const CROWD = 26001;

  /** The process of a user with 3,000 files, and one socket at the last descriptor. */
  function crowded(): Tree {
    const tree = new Tree('listen-only');
    tree.fork(SSHD, CROWD);
    for (let fd = 10; fd < 3_000; fd++) tree.open(CROWD, fd, 0);
    tree.open(CROWD, 3_000, 99);
    tree.edit(CROWD, 'status', /^Uid:.*$/m, 'Uid:\t65534\t65534\t65534\t65534');
    return tree;
  }

  /** Says that it is late after so many questions. */
  const after = (most: number): (() => boolean) => {
    let asked = 0;
    return () => asked++ >= most;
  };

  test('does not delay the search for the owners of others, and is read to the end over several scans', () => {
    using tree = crowded();
    const collector = new Collector(tree.root);
    show(tree, 99, 99);
    collector.scan(1_000, undefined, after(13));
    expect(collector.owners.isComplete).toBe(false);
    expect(collector.holders()).toMatchObject({ [SSH4]: { pid: SSHD }, [DNS4]: { pid: DNSMASQ } });
    for (let scan = 2; scan <= 6; scan++) collector.scan(scan * 1_000, undefined, after(4));
    expect(collector.holders()).toMatchObject({ [SSH4]: { pid: SSHD }, [DNS4]: { pid: DNSMASQ }, 99: { pid: CROWD } });
    collector.scan(7_000);
    expect(collector.owners.isComplete).toBe(true);
  });
});
