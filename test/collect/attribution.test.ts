import { describe, expect, test } from 'vitest';
import {
  CLOSING,
  ESTABLISHED,
  FIN_WAIT1,
  FIN_WAIT2,
  LAST_ACK,
  LISTEN,
  TIME_WAIT,
} from '../../src/collect/net-tcp-udp-raw.ts';
import { printRow, type KernelRow } from '../support/kernel-rows.ts';
import { Collector, Tree } from '../support/proc-tree.ts';

const SSHD = 25938;
const DNSMASQ = 25947;
const SSH4 = 86486;

const CONNECTION = { table: 'tcp', local: '192.0.2.1:5000', remote: '198.51.100.7:443' } as const;
const TO_SSH = { table: 'tcp', local: '192.0.2.1:22', remote: '198.51.100.7:5000' } as const;
const OPEN: KernelRow = { ...CONNECTION, state: ESTABLISHED, inode: 9 };

function replace(tree: Tree, from: KernelRow, to: KernelRow | null): void {
  tree.edit(SSHD, 'net/tcp', printRow(from), to ? printRow(to) : '');
  touch(tree);
}

/** A counter that moved: the namespace is read again. */
function touch(tree: Tree): void {
  tree.edit(
    SSHD,
    'net/snmp',
    /Tcp: 1 200 120000 -1 (\d+)/,
    (_, opens: string) => `Tcp: 1 200 120000 -1 ${Number(opens) + 1}`,
  );
}

function add(tree: Tree, row: KernelRow): void {
  tree.edit(SSHD, 'net/tcp', /$/, printRow(row));
  touch(tree);
}

/** Of the connection with this local and remote port: its process, the evidence and the reason. */
function attributionOf({ connections }: Collector, localPort: number, remotePort: number): object | undefined {
  const [i = -1] = [...connections.indexes()].filter(
    (i) => connections.localPort[i] === localPort && connections.remotePort[i] === remotePort,
  );
  const { process, ownerEvidence, reason } = connections;
  return { pid: process[i]?.pid ?? null, evidence: ownerEvidence[i], reason: reason[i] };
}

const by = (pid: number, evidence: string): object => ({ pid, evidence, reason: null });
const nobody = (reason: string, evidence: string | null = null): object => ({ pid: null, evidence, reason });

describe('a row', () => {
  test.each<{
    name: string;
    scans: ((tree: Tree) => void)[];
    of?: [localPort: number, remotePort: number];
    expected: object;
  }>([
    {
      name: 'is attributed to the process that holds its descriptor',
      scans: [
        (tree) => {
          add(tree, OPEN);
          tree.open(DNSMASQ, 9, 9);
        },
      ],
      expected: by(DNSMASQ, 'fd'),
    },
    {
      name: 'in TIME_WAIT keeps the owner that the connection had',
      scans: [
        (tree) => {
          add(tree, OPEN);
          tree.open(DNSMASQ, 9, 9);
        },
        (tree) => {
          replace(tree, OPEN, { ...CONNECTION, state: TIME_WAIT });
          tree.open(DNSMASQ, 9, null);
        },
        () => undefined,
      ],
      expected: by(DNSMASQ, 'history'),
    },
    {
      name: 'that was not accepted yet is attributed to the listener',
      scans: [(tree) => add(tree, { ...TO_SSH, state: ESTABLISHED })],
      of: [22, 5000],
      expected: by(SSHD, 'listener'),
    },
    {
      name: 'that was accepted is attributed to who accepted it',
      scans: [
        (tree) => add(tree, { ...TO_SSH, state: ESTABLISHED }),
        (tree) => {
          replace(tree, { ...TO_SSH, state: ESTABLISHED }, { ...TO_SSH, state: ESTABLISHED, inode: 9 });
          tree.open(DNSMASQ, 9, 9);
        },
      ],
      of: [22, 5000],
      expected: by(DNSMASQ, 'fd'),
    },
    {
      name: 'that was not accepted when the listener changed hands goes with it',
      scans: [
        (tree) => add(tree, { ...TO_SSH, state: ESTABLISHED }),
        (tree) => {
          tree.open(SSHD, 3, null);
          tree.open(DNSMASQ, 9, SSH4);
        },
      ],
      of: [22, 5000],
      expected: by(DNSMASQ, 'listener'),
    },
    {
      name: 'in TIME_WAIT that no scan saw open was short-lived',
      scans: [(tree) => add(tree, { ...CONNECTION, state: TIME_WAIT })],
      expected: nobody('short_lived'),
    },
    ...[FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING].map((state) => ({
      name: `that was closed before any scan saw it open, in state ${state}, was short-lived`,
      scans: [(tree: Tree) => add(tree, { ...CONNECTION, state })],
      expected: nobody('short_lived'),
    })),
    {
      name: 'that ended before a second scan could find its owner was short-lived',
      scans: [(tree) => add(tree, OPEN), (tree) => replace(tree, OPEN, { ...CONNECTION, state: TIME_WAIT })],
      expected: nobody('short_lived'),
    },
    {
      name: 'that the kernel held keeps that reason in TIME_WAIT',
      scans: [
        (tree) => add(tree, OPEN),
        () => undefined,
        (tree) => replace(tree, OPEN, { ...CONNECTION, state: TIME_WAIT }),
      ],
      expected: nobody('no_descriptor'),
    },
    {
      name: 'of a process that could not be read keeps that reason in TIME_WAIT',
      scans: [
        (tree) => {
          tree.forbid(DNSMASQ, 'fd');
          add(tree, OPEN);
        },
        (tree) => replace(tree, OPEN, { ...CONNECTION, state: TIME_WAIT }),
      ],
      expected: nobody('permission'),
    },
    {
      name: 'without a descriptor that is still open is not short-lived',
      scans: [(tree) => add(tree, { ...CONNECTION, state: ESTABLISHED })],
      expected: nobody('no_descriptor'),
    },
    {
      name: 'that nobody holds has vanished, at first',
      scans: [(tree) => add(tree, OPEN)],
      expected: nobody('vanished'),
    },
    {
      name: 'that nobody holds at two scans is held by the kernel',
      scans: [(tree) => add(tree, OPEN), () => undefined],
      expected: nobody('no_descriptor'),
    },
    {
      name: 'that nobody is seen to hold may be held by a process that cannot be read',
      scans: [
        (tree) => {
          add(tree, OPEN);
          tree.forbid(SSHD, 'fd');
        },
        () => undefined,
      ],
      expected: nobody('permission'),
    },
    {
      name: 'of a new connection between the same ends does not inherit the owner of the old one',
      scans: [
        (tree) => {
          add(tree, OPEN);
          tree.open(DNSMASQ, 9, 9);
        },
        (tree) => {
          replace(tree, OPEN, { ...CONNECTION, state: TIME_WAIT });
          tree.open(DNSMASQ, 9, null);
        },
        (tree) => replace(tree, { ...CONNECTION, state: TIME_WAIT }, { ...OPEN, inode: 10 }),
      ],
      expected: nobody('vanished'),
    },
    {
      name: 'keeps its owner while its descriptor is in flight',
      scans: [
        (tree) => {
          add(tree, OPEN);
          tree.open(DNSMASQ, 9, 9);
        },
        (tree) => tree.open(DNSMASQ, 9, null),
      ],
      expected: by(DNSMASQ, 'history'),
    },
  ])('$name', ({ scans, of: [localPort, remotePort] = [5000, 443], expected }) => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    collector.scan();
    for (const change of scans) {
      change(tree);
      collector.scan();
    }
    expect(attributionOf(collector, localPort, remotePort)).toEqual(expected);
  });

  test('of a pod without a known process belongs to the pod of its namespace', () => {
    using tree = new Tree('containers');
    const [pause, server] = [25909, 25917];
    tree.edit(pause, 'net/tcp', /$/, printRow({ table: 'tcp', state: LISTEN, local: '0.0.0.0:81', inode: 9 }));
    const collector = new Collector(tree.root);
    collector.scan();
    const { connections } = collector;
    const i = connections.indexOf(9);
    expect(tree.has(server)).toBe(true);
    expect(attributionOf(collector, 81, 0)).toEqual(nobody('vanished', 'netns'));
    expect(connections.labels[i]?.process).toBe('');
    expect(connections.labels[i]?.pod).toMatch(/./);
  });
});

describe('a socket is of the user who opened it', () => {
  const USER = 1000;
  const OTHER = 997;
  const MINE: KernelRow = { ...OPEN, uid: USER };
  const ofUser = (reason: string): object => ({ pid: null, evidence: 'uid', reason, workload: `uid:${USER}` });
  const of = (pid: number, evidence = 'fd'): object => ({ pid, evidence, reason: null });
  const run =
    (pid: number, ...uids: number[]) =>
    (tree: Tree): void =>
      tree.edit(
        pid,
        'status',
        /^Uid:.*$/m,
        `Uid:\t${[...uids, ...Array<number>(4 - uids.length).fill(uids[0] ?? 0)].join('\t')}`,
      );
  const hold =
    (pid: number, fd: number | null) =>
    (tree: Tree): void =>
      tree.open(pid, 9, fd);

  test.each<{ name: string; scans: ((tree: Tree) => void)[][]; expected: object }>([
    { name: 'while it is in flight', scans: [[(tree) => add(tree, MINE)], []], expected: ofUser('no_descriptor') },
    {
      name: 'when a process of another user carries it',
      scans: [[(tree) => add(tree, MINE), run(DNSMASQ, OTHER), hold(DNSMASQ, 9)], []],
      expected: ofUser('no_descriptor'),
    },
    {
      name: 'when root carries it',
      scans: [[(tree) => add(tree, MINE), hold(DNSMASQ, 9)], []],
      expected: ofUser('no_descriptor'),
    },
    {
      name: 'when a process that started earlier carries it too',
      scans: [[(tree) => add(tree, MINE), run(SSHD, OTHER), run(DNSMASQ, USER), hold(SSHD, 9), hold(DNSMASQ, 9)]],
      expected: of(DNSMASQ),
    },
    {
      name: 'after it was passed on',
      scans: [
        [(tree) => add(tree, MINE), run(SSHD, OTHER), run(DNSMASQ, USER), hold(DNSMASQ, 9)],
        [hold(DNSMASQ, null), hold(SSHD, 9)],
      ],
      expected: of(DNSMASQ, 'history'),
    },
    {
      name: 'after it ended',
      scans: [[(tree) => add(tree, MINE)], [], [(tree) => replace(tree, MINE, { ...CONNECTION, state: TIME_WAIT })]],
      expected: ofUser('no_descriptor'),
    },
    {
      name: 'of which its process is one by its real user',
      scans: [[(tree) => add(tree, MINE), run(DNSMASQ, USER, 0, 0, 0), hold(DNSMASQ, 9)]],
      expected: of(DNSMASQ),
    },
    {
      name: 'unless that is root, who then became another',
      scans: [[(tree) => add(tree, { ...OPEN, uid: 0 }), run(DNSMASQ, OTHER), hold(DNSMASQ, 9)]],
      expected: of(DNSMASQ),
    },
    {
      name: 'which can be root of a container with users of its own',
      scans: [
        [
          (tree) => add(tree, { ...OPEN, uid: 100_000 }),
          run(DNSMASQ, 100_033),
          (tree) => tree.write(DNSMASQ, 'cgroup', `0::/system.slice/docker-${'a'.repeat(64)}.scope\n`),
          hold(DNSMASQ, 9),
        ],
      ],
      expected: of(DNSMASQ),
    },
    {
      name: 'unless its process became that user since',
      scans: [
        [(tree) => add(tree, MINE), run(DNSMASQ, OTHER), hold(DNSMASQ, 9)],
        ...Array<[]>(8).fill([]),
        [run(DNSMASQ, USER)],
      ],
      expected: of(DNSMASQ),
    },
    {
      name: 'and not of a listener of another user',
      scans: [[(tree) => add(tree, { ...TO_SSH, state: ESTABLISHED, uid: USER }), run(SSHD, OTHER)], []],
      expected: ofUser('no_descriptor'),
    },
  ])('$name', ({ scans, expected }) => {
    using tree = new Tree('listen-only');
    const collector = new Collector(tree.root);
    collector.scan();
    for (const changes of scans) {
      for (const change of changes) change(tree);
      collector.scan();
    }
    const { connections } = collector;
    const [i = -1] = [...connections.indexes()].filter((row) => [443, 5000].includes(connections.remotePort[row] ?? 0));
    const workload = connections.process[i] ? {} : { workload: connections.labels[i]?.workload };
    const { process, ownerEvidence, reason } = connections;
    expect({ pid: process[i]?.pid ?? null, evidence: ownerEvidence[i], reason: reason[i], ...workload }).toEqual(
      expected,
    );
  });
});

test('a row whose holder was not searched in time is reported as vanished until the search, and changes then', () => {
  using tree = new Tree('listen-only');
  const collector = new Collector(tree.root);
  collector.scan();
  add(tree, OPEN);
  tree.forbid(SSHD, 'fd');
  const { connections } = collector;
  const late = (): boolean => true;
  for (let scan = 1; scan <= 3; scan++) {
    collector.scan(1000, undefined, late);
    expect(attributionOf(collector, 5000, 443)).toEqual(nobody('vanished'));
  }
  for (const i of connections.indexes()) connections.settle(i);
  collector.scan();
  expect(attributionOf(collector, 5000, 443)).toEqual(nobody('permission'));
  expect(connections.changed[connections.indexOf(9)]).toBe(1);
});

describe('a socket that several processes hold', () => {
  test('is counted for one of them, and for another after it ends', () => {
    using tree = new Tree('listen-only');
    const worker = 26000;
    tree.fork(SSHD, worker);
    tree.open(worker, 3, SSH4);
    const collector = new Collector(tree.root);
    collector.scan();
    expect(collector.holders()[SSH4]).toEqual({ pid: SSHD, pids: [SSHD, worker] });
    tree.open(SSHD, 3, null);
    collector.scan();
    expect(collector.holders()[SSH4]).toEqual({ pid: worker, pids: [worker] });
  });
});
