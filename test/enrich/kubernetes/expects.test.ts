import { describe, expect, test } from 'vitest';
import { ClusterCache } from '../../../src/enrich/kubernetes/cluster-cache.ts';
import { ExpectsLog } from '../../../src/enrich/kubernetes/expects-log.ts';
import type { Change } from '../../../src/enrich/kubernetes/list-watch.ts';
import { podKeysOf, readPod, type Pod } from '../../../src/enrich/kubernetes/pods.ts';
import { OwnerLabeler } from '../../../src/enrich/owner-labels.ts';
import { parseCgroup } from '../../../src/collect/cgroup.ts';
import { parseRules } from '../../../src/config/rules.ts';

const rules = parseRules("workloads: [{ name: front, labels: { app: '^web$' } }]", 'peerscope.yaml').workloads;
const podOf = (name: string, expects?: unknown, isRead = true): Pod => {
  const annotations = expects === undefined ? {} : { 'peerscope.dev/expects': expects };
  const metadata = {
    ...{ uid: `uid-${name}`, namespace: 'shop', name, annotations, labels: { app: name.replace(/-.*/, '') } },
    ownerReferences: [{ kind: 'StatefulSet', name: name.replace(/-.*/, ''), controller: true }],
  };
  const status = {
    containerStatuses: [
      { name: 'c', containerID: `containerd://${Buffer.from(name).toString('hex').padStart(64, 'a')}` },
    ],
  };
  return readPod({ metadata, status }, podKeysOf(rules, isRead)) ?? expect.fail('no pod');
};

describe('the annotation of a pod', () => {
  test.each<[name: string, given: unknown, values: string[], problems: RegExp[]]>([
    ['lists values', 'as14618, tcp/5432,shop/ledger', ['AS16509', 'tcp/5432', 'shop/ledger'], []],
    ['may be empty', '', [], []],
    ['that is no text is empty', 7, [], []],
    [
      'keeps what is valid',
      'metadata, AS64500, shop/*',
      ['AS64500'],
      [/"metadata": calls to the metadata service are always reported$/, /"shop\/\*": wildcards are not allowed$/],
    ],
    [
      'that is too long is cut between two values',
      `${'tcp/443,'.repeat(1022)}tcp/8443,tcp/5432`,
      ['tcp/443'],
      [/longer than 8192 bytes$/, /^Cannot read expected values after number 200/],
    ],
    ['that is one long value is ignored', 'x/'.padEnd(9000, 'é'), [], [/longer than 8192 bytes$/]],
    ['gives few messages', 'bad,'.repeat(100), [], Array.from({ length: 10 }, () => /"bad": must be like/)],
  ])('%s', (_, given, values, problems) => {
    const expects = podOf('web-0', given).expects ?? expect.fail('not read');
    expect(expects.values).toEqual(values);
    expect(expects.problems.length).toBe(problems.length);
    for (const [i, problem] of problems.entries()) expect(expects.problems[i]).toMatch(problem);
  });

  test.each([
    ['is absent', podOf('web-0')],
    ['is not read', podOf('web-0', 'AS64500', false)],
  ])('that %s declares nothing', (_, pod) => expect(pod).not.toHaveProperty('expects'));
});

describe('a workload expects', () => {
  const cluster = new ClusterCache(['pods']);
  const names = new OwnerLabeler(cluster, rules);
  const accept = (change: Change<Pod>, at = 0): void => cluster.accept({ resource: 'pods', change }, at);
  const expected = (workload: string, namespace = 'shop'): string[] => [...names.expectationsOf(namespace, workload)];

  test('what its pods on this node declare, until they are gone', () => {
    accept({ kind: 'replace', items: [podOf('db-0', 'AS1'), podOf('db-1', 'AS1, AS2'), podOf('api-0')] });
    expect(['db', 'api', 'db-0'].map((workload) => expected(workload))).toEqual([['AS1', 'AS2'], [], []]);
    expect(expected('db', 'other')).toEqual([]);
    accept({ kind: 'set', item: podOf('db-0', 'AS3') });
    expect(expected('db')).toEqual(['AS1', 'AS2', 'AS3']);
    accept({ kind: 'delete', item: podOf('db-1') }, 1_000);
    cluster.beginScan(70_000);
    expect(expected('db')).toEqual(['AS3']);
  });

  test('the same under the name that a rule gives it', () => {
    accept({ kind: 'set', item: podOf('web-0', 'AS5') });
    const cgroup = parseCgroup(`0::/kubepods/poduid-web-0/${Buffer.from('web-0').toString('hex').padStart(64, 'a')}\n`);
    expect(names.labelsOf('x', cgroup).workload).toBe('front');
    expect(expected('front')).toEqual(['AS5']);
    names.adopt([]);
    expect(expected('front')).toEqual([]);
  });
});

describe('the log', () => {
  const logged: unknown[] = [];
  const log = {
    info: (...line: unknown[]): void => void logged.push(['info', ...line]),
    warn: (...line: unknown[]): void => void logged.push(['warn', ...line]),
  };

  test('has each new value and each value that is ignored once for a workload', () => {
    const expects = new ExpectsLog(log);
    const declared = [
      expects.accept({ kind: 'replace', items: [podOf('db-0', 'AS1, AS2, bad'), podOf('db-1', 'AS1, bad')] }),
      expects.accept({ kind: 'set', item: podOf('db-0', 'AS1, AS3, bad') }),
      expects.accept({ kind: 'set', item: podOf('api-0', 'AS1') }),
      expects.accept({ kind: 'delete', item: podOf('api-0', 'AS9') }),
    ].map((list) => list.map(({ workload, what }) => `${workload} ${what}`));
    expect(declared).toEqual([['db AS1', 'db AS2'], ['db AS3'], ['api AS1'], []]);
    const db = { namespace: 'shop', workload: 'db', pod: 'db-0' };
    const reason =
      'Cannot read expected value "bad": must be like AS64500, tcp/5432, shop/ledger, process/nc or listen/udp/ephemeral';
    expect(logged).toEqual([
      ['warn', { ...db, reason }, 'a value of an annotation is ignored'],
      ['info', { ...db, what: 'AS1, AS2' }, 'an annotation declares what is normal'],
      ['info', { ...db, what: 'AS3' }, 'an annotation declares what is normal'],
      ['info', { ...db, workload: 'api', pod: 'api-0', what: 'AS1' }, 'an annotation declares what is normal'],
    ]);
    expect(expects.ignored).toBe(1);
  });

  test('forgets the oldest of more than 10,000 values', () => {
    const expects = new ExpectsLog(log);
    const items = Array.from({ length: 10_001 }, (_, i) => podOf('db-0', `tcp/${(i % 30_000) + 1}`));
    expects.accept({ kind: 'replace', items });
    expect(expects.accept({ kind: 'set', item: podOf('db-0', 'tcp/1, tcp/10001') })).toHaveLength(1);
  });
});
