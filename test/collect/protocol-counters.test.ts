import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ProtocolCounters, readProtocolCounts, type ProtocolCounts } from '../../src/collect/protocol-counters.ts';
import type { OwnerLabels } from '../../src/model.ts';

const NONE: ProtocolCounts = {
  activeOpens: 0,
  passiveOpens: 0,
  attemptFails: 0,
  retransmittedSegments: 0,
  listenOverflows: 0,
  udpReceiveBufferErrors: 0,
};

const owner = (pod: string, namespace = pod === '' ? '' : 'shop'): OwnerLabels => ({
  process: '',
  namespace,
  workload: '',
  pod,
  container: '',
});

/** What one scan reads: the active opens of each namespace that moved, and which others are there. */
interface Scan {
  readonly read: Readonly<Record<number, { pod: string; opens: number }>>;
  readonly unchanged?: readonly number[];
}

function scan(protocols: ProtocolCounters, { read, unchanged = [] }: Scan): void {
  const present = new Set([...Object.keys(read).map(Number), ...unchanged]);
  protocols.begin((netns) => present.has(netns));
  for (const [netns, { pod, opens }] of Object.entries(read))
    protocols.add(Number(netns), owner(pod), { ...NONE, activeOpens: opens });
}

/** The active opens by pod. */
function opens(protocols: ProtocolCounters): Record<string, number> {
  return Object.fromEntries(protocols.byPod.totals.map(({ labels, counts }) => [labels.pod, counts.activeOpens]));
}

describe('the counters of a namespace', () => {
  test('are six, from three files; those of both UDP families are added up', () => {
    const snmp = 'Tcp: ActiveOpens PassiveOpens AttemptFails RetransSegs\nTcp: 1 2 3 4\nUdp: RcvbufErrors\nUdp: 6\n';
    const netstat = 'TcpExt: ListenDrops ListenOverflows\nTcpExt: 9 5\n';
    expect(readProtocolCounts(snmp, netstat, 'Udp6RcvbufErrors                \t10\n')).toEqual({
      activeOpens: 1,
      passiveOpens: 2,
      attemptFails: 3,
      retransmittedSegments: 4,
      listenOverflows: 5,
      udpReceiveBufferErrors: 16,
    });
  });

  test('are 0 if the kernel does not have them', () => expect(readProtocolCounts('', '', '')).toEqual(NONE));

  test('of a recorded namespace are those of its files', () => {
    const net = new URL('../fixtures/proc/states/26038/net/', import.meta.url);
    const read = (name: string): string => readFileSync(new URL(name, net), 'latin1');
    const tcp = /^Tcp: (-?\d.*)$/m.exec(read('snmp'))?.[1]?.split(' ').map(Number) ?? [];
    const { activeOpens, passiveOpens, attemptFails, retransmittedSegments } = readProtocolCounts(
      read('snmp'),
      read('netstat'),
      read('snmp6'),
    );
    expect([activeOpens, passiveOpens, attemptFails, retransmittedSegments]).toEqual([tcp[4], tcp[5], tcp[6], tcp[11]]);
    expect(activeOpens).toBeGreaterThan(0);
  });
});

describe('the sums', () => {
  test.each<{ name: string; scans: Scan[]; expected: Record<string, number>; opened: number }>([
    {
      name: 'begin with what a namespace has counted so far, which is not taken for what was opened since the last scan',
      scans: [{ read: { 1: { pod: '', opens: 5 } } }],
      expected: { '': 5 },
      opened: 0,
    },
    {
      name: 'grow by what a namespace counted since',
      scans: [{ read: { 1: { pod: '', opens: 5 } } }, { read: { 1: { pod: '', opens: 8 } } }],
      expected: { '': 8 },
      opened: 3,
    },
    {
      name: 'stand while a namespace stands',
      scans: [{ read: { 1: { pod: 'web', opens: 5 } } }, { read: {}, unchanged: [1] }],
      expected: { web: 5 },
      opened: 0,
    },
    {
      name: 'take the namespaces of one pod together',
      scans: [{ read: { 1: { pod: 'web', opens: 5 }, 2: { pod: 'web', opens: 7 } } }],
      expected: { web: 12 },
      opened: 0,
    },
    {
      name: 'of no pod keep what a namespace counted that is gone',
      scans: [{ read: { 1: { pod: '', opens: 5 }, 2: { pod: '', opens: 7 } } }, { read: { 2: { pod: '', opens: 8 } } }],
      expected: { '': 13 },
      opened: 1,
    },
    {
      name: 'of a pod end with its last namespace',
      scans: [{ read: { 1: { pod: 'web', opens: 5 }, 2: { pod: '', opens: 7 } } }, { read: {}, unchanged: [2] }],
      expected: { '': 7 },
      opened: 0,
    },
    {
      name: 'do not fall when a namespace counts anew, as one under a number that was used before',
      scans: [
        { read: { 1: { pod: '', opens: 5 } } },
        { read: { 1: { pod: '', opens: 2 } } },
        { read: { 1: { pod: '', opens: 3 } } },
      ],
      expected: { '': 6 },
      opened: 1,
    },
    {
      name: 'of a pod begin anew when the pod becomes known, and nothing is counted twice',
      scans: [{ read: { 1: { pod: '', opens: 5 } } }, { read: { 1: { pod: 'web', opens: 8 } } }],
      expected: { '': 5, web: 3 },
      opened: 3,
    },
    {
      name: 'of a pod that is called other go by another name',
      scans: [{ read: { 1: { pod: 'other', opens: 5 } } }],
      expected: { _other: 5 },
      opened: 0,
    },
  ])('$name', ({ scans, expected, opened }) => {
    const protocols = new ProtocolCounters(50);
    for (const one of scans) scan(protocols, one);
    expect({ sums: opens(protocols), opened: protocols.opened }).toEqual({ sums: expected, opened });
  });

  test('without pods are those of a Kubernetes namespace, and do not fall when one of its pods ends', () => {
    const protocols = new ProtocolCounters(50, false);
    const counts = (activeOpens: number): ProtocolCounts => ({
      ...readProtocolCounts('', '', ''),
      activeOpens,
    });
    protocols.begin(() => true);
    for (const [netns, pod] of ['web-1', 'web-2'].entries())
      protocols.add(netns, { namespace: 'shop', pod }, counts(5));
    protocols.begin((netns) => netns === 0);
    protocols.add(0, { namespace: 'shop', pod: 'web-1' }, counts(6));
    expect(protocols.byPod.totals.map(({ labels, counts }) => [labels, counts.activeOpens])).toEqual([
      [{ namespace: 'shop', pod: '' }, 11],
    ]);
    protocols.begin(() => false);
    expect(protocols.byPod.totals).toEqual([]);
  });

  test('by Kubernetes namespace add up its pods, and do not fall when one of them ends', () => {
    const protocols = new ProtocolCounters(50);
    const counts = (passiveOpens: number): ProtocolCounts => ({ ...readProtocolCounts('', '', ''), passiveOpens });
    const sums = (): unknown[] =>
      protocols.byNamespace.totals.map(({ labels, counts }) => [labels.namespace, counts.passiveOpens]);
    const owners = [
      { namespace: '', pod: '' },
      { namespace: 'shop', pod: 'web-1' },
      { namespace: 'shop', pod: 'web-2' },
      { namespace: 'other', pod: 'api-1' },
    ];
    protocols.begin(() => true);
    for (const [netns, owner] of owners.entries()) protocols.add(netns, owner, counts(5));
    expect(sums()).toEqual([
      ['', 5],
      ['shop', 10],
      ['other', 5],
    ]);
    protocols.begin((netns) => netns === 1);
    protocols.add(1, { namespace: 'shop', pod: 'web-1' }, counts(6));
    expect(sums()).toEqual([
      ['', 5],
      ['shop', 11],
    ]);
  });

  test('of many namespaces never exceed the limit', () => {
    const protocols = new ProtocolCounters(50);
    protocols.begin(() => true);
    for (let netns = 0; netns < 60; netns++)
      protocols.add(
        netns,
        { namespace: netns === 0 ? 'other' : `team-${netns}`, pod: 'api-1' },
        readProtocolCounts('', '', ''),
      );
    expect(protocols.byNamespace.totals).toHaveLength(49);
    expect(protocols.byNamespace.folded).toBe(12);
  });

  test('never exceed the limit: further pods are counted in other, and reported as folded', () => {
    const protocols = new ProtocolCounters(50);
    const read = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [i, { pod: `pod${i}`, opens: 1 }]));
    scan(protocols, { read: { ...read, 60: { pod: '', opens: 1 } } });
    const sums = opens(protocols);
    expect(Object.keys(sums)).toHaveLength(50);
    expect(sums).toMatchObject({ other: 12, '': 1, pod0: 1, pod47: 1 });
    expect(protocols.byPod.folded).toBe(12);
  });

  const pod = fc.constantFrom('', 'a', 'b', 'other', ...Array.from({ length: 60 }, (_, i) => `pod${i}`));
  const namespace = fc.record({ pod, grown: fc.nat(1000), reset: fc.boolean() });
  const history = fc.array(fc.dictionary(fc.nat(99).map(String), namespace, { maxKeys: 80 }), { maxLength: 12 });

  test('never decrease while a pod exists, keep all that was counted, and stay within the limit', () => {
    fc.assert(
      fc.property(history, (scans) => {
        const protocols = new ProtocolCounters(50);
        const counts = new Map<number, { pod: string; opens: number }>();
        let before: Record<string, number> = {};
        let opened = 0;
        for (const changes of scans) {
          const fresh = new Set(Object.keys(changes).map(Number));
          for (const netns of counts.keys()) if (!fresh.has(netns)) counts.delete(netns);
          const living = new Set([...counts.values()].map(({ pod }) => (pod === 'other' ? '_other' : pod)));
          opened = 0;
          const read = Object.fromEntries(
            Object.entries(changes).map(([key, { pod, grown, reset }]) => {
              const last = counts.get(Number(key));
              const opens = (reset ? 0 : (last?.opens ?? 0)) + grown;
              if (last) opened += Math.max(0, opens - last.opens);
              counts.set(Number(key), { pod, opens });
              return [key, { pod, opens }];
            }),
          );
          scan(protocols, { read });
          const now = opens(protocols);
          const fell = Object.keys(before).filter(
            (name) => (living.has(name) || name === '') && (now[name] ?? 0) < (before[name] ?? 0),
          );
          expect(fell).toEqual([]);
          expect(protocols.byPod.totals.length).toBeLessThanOrEqual(50);
          expect(protocols.opened).toBe(opened);
          before = now;
        }
      }),
    );
  });

  test('of other only increase while pods come and go', () => {
    fc.assert(
      fc.property(history, (scans) => {
        const protocols = new ProtocolCounters(50);
        let before = 0;
        for (const changes of scans) {
          const many = Object.fromEntries(
            Array.from({ length: 49 }, (_, i) => [1000 + i, { pod: `full${i}`, opens: 1 }]),
          );
          const read = Object.fromEntries(
            Object.entries(changes).map(([key, { pod, grown }]) => [key, { pod, opens: grown }]),
          );
          scan(protocols, { read: { ...read, ...many } });
          const { other } = opens(protocols);
          expect(other ?? before).toBeGreaterThanOrEqual(before);
          before = other ?? before;
        }
      }),
    );
  });
});
