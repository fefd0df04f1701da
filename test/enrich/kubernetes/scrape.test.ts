import fc from 'fast-check';
import { beforeEach, afterEach, describe, expect, test } from 'vitest';
import { parseAddress, parseCidr } from '../../../src/common/address.ts';
import { Procfs } from '../../../src/collect/procfs.ts';
import { ESTABLISHED } from '../../../src/collect/net-tcp-udp-raw.ts';
import { EMPTY_RULES } from '../../../src/config/config.ts';
import { AsnCache } from '../../../src/enrich/asn/cache.ts';
import type { ClusterChange, Resource } from '../../../src/enrich/kubernetes/cluster-cache.ts';
import type { Pod } from '../../../src/enrich/kubernetes/pods.ts';
import type { Address, Family } from '../../../src/model.ts';
import { Scrape } from '../../../src/scrape.ts';
import { printRow, type KernelRow } from '../../support/kernel-rows.ts';
import { Tree } from '../../support/proc-tree.ts';
import type { FirstSeenTime } from '../../../src/store/contract.ts';

const START = Date.parse('2026-09-15T08:00:00Z');
/** Of the tree: the process through which the pod's tables are read, and the one that holds its sockets. */
const [SANDBOX, ORDERS] = [25909, 25917];
const UID = '3f1e6b1c-8d1b-4c0e-9c5f-0a1b2c3d4e5f';
const ID = 'a1'.repeat(32);
const address = (text: string): Address => parseAddress(text) ?? expect.fail(text);
const POD: Pod = {
  uid: UID,
  configHash: null,
  namespace: 'shop',
  name: 'orders-7d4b9c6f8d-2xkqp',
  workload: 'orders',
  addresses: [address('10.244.2.3')],
  containers: [[ID, 'app']],
  onlyContainer: 'app',
};
const NAMED = 'process=orders.py namespace=shop workload=orders';
const FULLY = `${NAMED} pod=orders-7d4b9c6f8d-2xkqp container=app`;
const BY_CGROUP = `process=orders.py workload=containerd pod=${UID} container=a1a1a1a1a1a1`;

const CALL: KernelRow = {
  table: 'tcp',
  state: ESTABLISHED,
  local: '10.244.2.3:40000',
  remote: '1.1.1.1:443',
  inode: 4242,
};

let tree: Tree;
beforeEach(() => {
  tree = new Tree('containers');
});
afterEach(() => tree[Symbol.dispose]());

/** The pod's process opens a connection to a public address. */
function open(row = CALL): void {
  tree.edit(SANDBOX, 'net/tcp', /$/, printRow(row));
  tree.open(ORDERS, 20, row.inode ?? 0);
  count();
}

function close(row = CALL): void {
  tree.edit(SANDBOX, 'net/tcp', printRow(row), '');
  tree.open(ORDERS, 20, null);
  count();
}

/** As the kernel does it: a namespace whose counters stand is not read again. */
function count(): void {
  tree.edit(SANDBOX, 'net/snmp', /Tcp: 1 200 120000 -1 (\d+)/, (_, opens: string) => {
    return `Tcp: 1 200 120000 -1 ${Number(opens) + 1}`;
  });
}

/** An exporter's worker on the tree, at the seconds that the test says. */
class Worker {
  readonly cache = new AsnCache();
  readonly scrape: Scrape;
  readonly sightings: FirstSeenTime[] = [];
  readonly #time = { seconds: 0 };
  families: readonly Family[] = [];

  constructor(resources: Resource[] | null = ['pods'], podUid: string | null = null) {
    const collectors = {
      processes: true,
      protocols: true,
      endpoints: true,
      asn: true,
      'first-seen': true,
      netlink: true,
    };
    const clock = {
      now: () => START + this.#time.seconds * 1000,
      monotonic: () => this.#time.seconds * 1000,
    };
    const cluster = resources ? { cluster: resources } : {};
    const options = { seriesLimit: 1000, rules: EMPTY_RULES, collectors, podUid, ...cluster };
    this.scrape = new Scrape(new Procfs(tree.root), options, clock, this.cache);
  }

  know(...news: ClusterChange[]): this {
    for (const one of news) this.scrape.updateCluster(one);
    return this;
  }

  scanAt(seconds: number): this {
    this.#time.seconds = seconds;
    this.families = this.scrape.scan(Infinity).families;
    this.settle();
    return this;
  }

  /** The answer that 1.1.1.0/24 is AS13335. */
  answerAt(seconds: number): this {
    this.#time.seconds = seconds;
    const bucket = parseCidr('1.1.1.0/24') ?? expect.fail();
    const times = { askedAt: START, freshUntil: START + 86_400_000, source: 'cymru' };
    const origin = { asns: [13335], name: 'CLOUDFLARENET', asCountry: 'US', prefix: '1.1.1.0/24', ...times };
    const registry = { registry: null, registryCountry: null, allocated: null };
    this.scrape.learn(this.cache.accept([{ bucket, origin: { ...origin, ...registry } }]));
    this.settle();
    return this;
  }

  /** The series of a family as "label=value ..." (empty labels left out) and their values. */
  shown(family: string): Map<string, number> {
    const { labels, samples } = this.families.find(({ name }) => name === family) ?? expect.fail(`no family ${family}`);
    const rows = samples.map((sample): [string, number] => [
      sample.labels.flatMap((value, i) => (value === '' ? [] : [`${labels[i]}=${value}`])).join(' '),
      sample.value,
    ]);
    return new Map(rows);
  }

  /** The owners of a family, each once. */
  owners(family = 'peerscope_connections'): string[] {
    const owner = /(?:(?:process|namespace|workload|pod|container)=\S+ ?)*/;
    return [...new Set([...this.shown(family).keys()].map((key) => owner.exec(key)?.[0].trim() ?? ''))];
  }

  sum(family: string, part = ''): number {
    return [...this.shown(family)].reduce((sum, [key, value]) => sum + (key.includes(part) ? value : 0), 0);
  }

  /** First times of the operator, each as owner and the second at which it was first seen. */
  get firstSeen(): string[] {
    return [...this.shown('peerscope_asn_first_seen_timestamp_seconds')].map(
      ([key, value]) => `${key.replace(/ direction=.*/, '')} at ${value - START / 1000}`,
    );
  }

  /** The store knows nothing of before. */
  settle(): void {
    const told = this.scrape.unusual?.takeSightings() ?? [];
    this.sightings.push(...told);
    this.scrape.unusual?.confirm(
      told.map(({ key }) => ({ key, previous: null })),
      START + this.#time.seconds * 1000,
    );
  }
}

const listed = (...items: Pod[]): ClusterChange => ({ resource: 'pods', change: { kind: 'replace', items } });
const created = (item: Pod): ClusterChange => ({ resource: 'pods', change: { kind: 'set', item } });
const deleted = (item: Pod): ClusterChange => ({ resource: 'pods', change: { kind: 'delete', item } });
const UP: ClusterChange = { resource: 'pods', up: true };
const DOWN: ClusterChange = { resource: 'pods', up: false };
const REST = ['process=containerd workload=containerd.service', 'process=kubelet workload=kubelet.service'];
const DOCKER = 'process=redis-server workload=docker container=5f5f5f5f5f5f';
/** The row in TIME_WAIT has no process: the pod of its namespace alone. */
const TIME_WAIT = 'namespace=shop workload=orders pod=orders-7d4b9c6f8d-2xkqp';
const TIME_WAIT_BY_CGROUP = `workload=containerd pod=${UID}`;

describe('pod labels', () => {
  test('are known in the first scan after the list', () => {
    const worker = new Worker().know(listed(POD), UP).scanAt(0).scanAt(10);
    expect(worker.owners().sort()).toEqual([...REST, FULLY, DOCKER, TIME_WAIT].sort());
    expect(worker.owners('peerscope_endpoint_connections')).toContain(NAMED);
    expect(worker.owners('peerscope_tcp_active_opens_total')).toContain('namespace=shop pod=orders-7d4b9c6f8d-2xkqp');
  });

  test('come from cgroups without a watch', () => {
    const worker = new Worker(null).scanAt(0);
    expect(worker.owners().sort()).toEqual([...REST, BY_CGROUP, DOCKER, TIME_WAIT_BY_CGROUP].sort());
  });

  test('come from cgroups while the API is down since startup', () => {
    const worker = new Worker().know(DOWN).scanAt(0);
    expect(worker.owners().sort()).toEqual([...REST, BY_CGROUP, DOCKER, TIME_WAIT_BY_CGROUP].sort());
    worker.know(listed(POD), UP).scanAt(1_000);
    expect(worker.owners().sort()).toEqual([...REST, FULLY, DOCKER, TIME_WAIT].sort());
  });

  test('stay if the API goes down later', () => {
    const worker = new Worker().know(listed(POD), UP).scanAt(0).know(DOWN);
    for (const seconds of [10, 100, 10_000]) expect(worker.scanAt(seconds).owners()).toContain(FULLY);
  });

  test('stay while processes of a deleted pod run', () => {
    const worker = new Worker().know(listed(POD), UP).scanAt(0).know(deleted(POD));
    for (let seconds = 10; seconds < 400; seconds += 10) worker.scanAt(seconds);
    expect(worker.owners()).toContain(FULLY);
  });

  test('apply for 60 s to new processes of a deleted pod', () => {
    const worker = (): Worker => new Worker().know(listed(POD), UP, deleted(POD));
    expect(worker().scanAt(59).owners()).toContain(FULLY);
    expect(worker().scanAt(60).owners()).not.toContain(FULLY);
  });
});

test('re-resolves namespaces when pods change, not when Services change', () => {
  const CHILD = 25_950;
  tree.fork(SANDBOX, CHILD);
  const worker = new Worker(['pods', 'services']).know(listed(POD), UP);
  // It is not young any more, and every container has its name.
  for (let second = 0; second < 20; second++) worker.scanAt(second);
  expect(worker.owners()).toContain(TIME_WAIT);
  tree.write(CHILD, 'cgroup', `0::/kubepods/pod${'f'.repeat(32)}/${'f'.repeat(64)}\n`);
  const web = {
    namespace: 'shop',
    name: 'web',
    clusterAddresses: [address('10.96.0.7')],
    otherAddresses: [],
    ports: [],
  };
  worker.know({ resource: 'services', change: { kind: 'set', item: web } }).scanAt(20);
  expect(worker.owners()).toContain(TIME_WAIT);
  worker.know(created({ ...POD, uid: 'other', name: 'other', addresses: [], containers: [] })).scanAt(21);
  expect(worker.owners()).not.toContain(TIME_WAIT);
});

describe('a container unknown to Kubernetes', () => {
  const total = 12;

  test('is counted without labels for 10 s, then with all labels', () => {
    const worker = new Worker().know(listed(), UP);
    for (const seconds of [0, 9.999]) {
      worker.scanAt(seconds);
      expect(worker.owners().sort()).toEqual(['', ...REST].sort());
      expect(worker.sum('peerscope_connections')).toBe(total);
      expect(worker.owners('peerscope_processes').sort()).toEqual(['', ...REST].sort());
      expect(worker.sum('peerscope_sockets_unattributed')).toBe(total - 3);
      expect(worker.shown('peerscope_sockets_unattributed').get('reason=vanished')).toBe(total - 4);
    }
    worker.scanAt(10);
    expect(worker.owners().sort()).toEqual([...REST, BY_CGROUP, DOCKER, TIME_WAIT_BY_CGROUP].sort());
    worker.know(created(POD)).scanAt(20);
    expect(worker.owners().sort()).toEqual([...REST, FULLY, DOCKER, TIME_WAIT].sort());
    expect(worker.sum('peerscope_connections')).toBe(total);
    expect(worker.sum('peerscope_sockets_unattributed')).toBe(1);
  });

  test('is labeled in the next scan after the pod update', () => {
    const worker = new Worker().know(listed({ ...POD, containers: [] }), UP).scanAt(0);
    expect(worker.owners()).not.toContain(BY_CGROUP);
    expect(worker.know(created(POD)).scanAt(1).owners()).toContain(FULLY);
  });

  test('uses pod and container id if the pod update is late', () => {
    const worker = new Worker()
      .know(listed({ ...POD, containers: [] }), UP)
      .scanAt(0)
      .scanAt(10);
    expect(worker.owners()).toContain(`${NAMED} pod=${POD.name} container=a1a1a1a1a1a1`);
  });

  test('waits while the API is briefly down', () => {
    const worker = new Worker().know(listed(), UP, DOWN).scanAt(0);
    expect(worker.owners()).not.toContain(BY_CGROUP);
    expect(worker.scanAt(10).owners()).toContain(BY_CGROUP);
  });

  test('labels a row that outlives its process', () => {
    open();
    const worker = new Worker().know(listed(), UP).scanAt(0);
    tree.edit(SANDBOX, 'net/tcp', printRow(CALL), printRow({ ...CALL, state: 6, inode: 0 }));
    tree.end(ORDERS);
    count();
    worker.know(created(POD)).scanAt(5);
    expect([...worker.shown('peerscope_connections').keys()]).toContain(
      `${FULLY} transport=tcp direction=outbound state=time_wait`,
    );
  });
});

test(
  'counts every row once for any sequence of events',
  {
    timeout: 60_000,
  },
  () => {
    const actions = {
      named: (worker: Worker) => worker.know(created(POD)),
      unnamed: (worker: Worker) => worker.know(created({ ...POD, containers: [] })),
      gone: (worker: Worker) => worker.know(deleted(POD)),
      none: (worker: Worker) => worker.know(listed()),
      up: (worker: Worker) => worker.know(UP),
      down: (worker: Worker) => worker.know(DOWN),
      toggle: () => (isOpen ? close() : open(), (isOpen = !isOpen)),
    };
    let isOpen = false;
    const step = fc.tuple(fc.constantFrom(...Object.values(actions)), fc.constantFrom(1, 6, 61));
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
        const worker = new Worker();
        let seconds = 0;
        for (const [act, wait] of steps) {
          act(worker);
          worker.scanAt((seconds += wait));
          const ownerless = [...worker.shown('peerscope_connections')]
            .filter(([key]) => !key.includes('process='))
            .reduce((sum, [, value]) => sum + value, 0);
          expect(worker.sum('peerscope_connections')).toBe(isOpen ? 13 : 12);
          expect(worker.sum('peerscope_sockets_unattributed')).toBe(ownerless);
        }
      }),
      { numRuns: 25 },
    );
  },
);

describe('first-seen times', () => {
  test('wait for the labels of an open connection and keep the original time', () => {
    open();
    const worker = new Worker().know(listed(), UP).scanAt(0).answerAt(1).scanAt(2);
    expect(worker.sightings.filter(({ key }) => key.includes('orders.py'))).toEqual([]);
    worker.know(created(POD)).scanAt(5).scanAt(6);
    expect(worker.firstSeen).toEqual([`${NAMED} at 0`]);
    expect(worker.sightings.filter(({ key }) => key.includes('"orders.py","",'))).toEqual([]);
  });

  test('wait for the labels of a closed connection', () => {
    const worker = new Worker().know(listed(), UP).scanAt(0);
    open();
    worker.scanAt(1).answerAt(1);
    close();
    worker.scanAt(2).know(created(POD)).scanAt(3).scanAt(4);
    expect(worker.firstSeen).toEqual([`${NAMED} at 1`]);
  });

  test.each([
    { name: 'the answer comes first', answerAt: 3, nameAt: 4 },
    { name: 'the name comes first', answerAt: 6, nameAt: 4 },
  ])('wait for the labels and the answer of a closed connection: $name', ({ answerAt, nameAt }) => {
    const worker = new Worker().know(listed(), UP).scanAt(0);
    open();
    worker.scanAt(1);
    close();
    worker.scanAt(2);
    if (answerAt < nameAt) worker.answerAt(answerAt);
    worker.know(created(POD)).scanAt(nameAt);
    if (answerAt > nameAt) worker.answerAt(answerAt);
    worker.scanAt(8).scanAt(9);
    expect(worker.firstSeen).toEqual([`${NAMED} at 1`]);
  });

  test('wait while the API is down', () => {
    const worker = new Worker().know(DOWN).scanAt(0);
    open();
    worker.scanAt(100).answerAt(101).scanAt(102);
    expect(worker.owners('peerscope_asn_connections')).toContain('process=orders.py workload=containerd');
    close();
    worker.scanAt(200).scanAt(300);
    expect(worker.firstSeen).toEqual([]);
    expect(worker.sightings.filter(({ key }) => key.includes('orders.py'))).toEqual([]);
    worker.know(listed(POD), UP).scanAt(400).scanAt(401);
    expect(worker.firstSeen).toEqual([`${NAMED} at 100`]);
  });

  test('use the cgroup after 10 s without Kubernetes labels', () => {
    open();
    const worker = new Worker().know(listed(), UP).scanAt(0).answerAt(1);
    worker.scanAt(10).scanAt(11);
    expect(worker.firstSeen).toEqual(['process=orders.py workload=containerd at 0']);
  });

  test('use the cgroup 10 s after the API recovers', () => {
    const worker = new Worker().know(DOWN).scanAt(0);
    open();
    worker.scanAt(5).answerAt(6).scanAt(100);
    expect(worker.firstSeen).toEqual([]);
    worker.know(listed(), UP).scanAt(109).scanAt(110).scanAt(111);
    expect(worker.firstSeen).toEqual(['process=orders.py workload=containerd at 5']);
  });

  test('have a baseline only for final labels', () => {
    const worker = new Worker().know(listed(), UP).scanAt(0).scanAt(5);
    expect(worker.owners('peerscope_baseline_start_timestamp_seconds').sort()).toEqual([...REST].sort());
    worker.know(created(POD)).scanAt(6).scanAt(7);
    expect(worker.owners('peerscope_baseline_start_timestamp_seconds')).toContain(NAMED);
  });
});

describe('addresses of the cluster', () => {
  const asked = (worker: Worker): string[] => worker.cache.takeQueries().map(({ address: [, , , d] }) => `${d >>> 24}`);

  test('are not queried, and nothing is queried before they are known', () => {
    open();
    const own = { ...POD, uid: 'other', addresses: [address('1.1.1.1')], containers: [] };
    const worker = new Worker().scanAt(0);
    expect(asked(worker)).toEqual([]);
    worker.know(listed(POD, own), UP).scanAt(1);
    expect(asked(worker)).toEqual([]);
    worker.know(deleted(own)).scanAt(2);
    expect(asked(worker)).toEqual([]);
  });

  test('do not prevent queries for other addresses', () => {
    open();
    const worker = new Worker().scanAt(0).know(listed(POD), UP).scanAt(1);
    expect(asked(worker)).toEqual(['1']);
  });

  test('are queried after 10 s without the API', () => {
    open();
    const worker = new Worker().scanAt(0);
    expect(asked(worker)).toEqual([]);
    expect(asked(worker.scanAt(10))).toEqual(['1']);
  });

  test('name endpoints as soon as they are known', () => {
    open();
    const worker = new Worker(['pods', 'services']).know(listed(POD), UP).scanAt(0);
    const groups = (): string[] =>
      [...worker.shown('peerscope_endpoint_connections').keys()].map(
        (key) => /endpoint_group=(\S+)/.exec(key)?.[1] ?? '',
      );
    expect(groups()).toContain('public:443');
    expect(groups()).toContain('10.244.2.2:6379');
    const redis = { namespace: 'shop', name: 'redis', otherAddresses: [] };
    const item = {
      ...redis,
      clusterAddresses: [address('10.244.2.2')],
      ports: [{ name: '', port: 6379, transport: 'tcp' }],
    };
    worker.know({ resource: 'services', change: { kind: 'set', item } }).scanAt(1);
    expect(groups()).toContain('shop/redis:6379');
    expect(groups()).not.toContain('10.244.2.2:6379');
    worker.know({ resource: 'services', change: { kind: 'delete', item } }).scanAt(2);
    expect(groups()).toContain('10.244.2.2:6379');
  });
});

describe('the exporter itself', () => {
  const inOwnCgroupNamespace = (): void => {
    tree.fork(SANDBOX, 1);
    tree.write(1, 'cgroup', '0::/../../..\n');
    tree.write(ORDERS, 'cgroup', '0::/\n');
  };

  test('is in the pod of POD_UID although its cgroup is "/"', () => {
    inOwnCgroupNamespace();
    const worker = new Worker(['pods'], UID).know(listed(POD), UP).scanAt(0);
    expect(worker.owners()).toContain(FULLY);
  });

  test('is in the pod of POD_UID without the API', () => {
    inOwnCgroupNamespace();
    expect(new Worker(null, UID).scanAt(0).owners()).toContain(`process=orders.py pod=${UID}`);
  });

  test('is not confused with the host if "/" is the cgroup root', () => {
    inOwnCgroupNamespace();
    tree.write(1, 'cgroup', '0::/init.scope\n');
    expect(new Worker(['pods'], UID).know(listed(POD), UP).scanAt(0).owners()).toContain('process=orders.py');
  });
});
