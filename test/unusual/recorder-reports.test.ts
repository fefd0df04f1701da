import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseCidr } from '../../src/common/address.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../src/config/config.ts';
import { AsnCache } from '../../src/enrich/asn/cache.ts';
import type { Rules } from '../../src/model.ts';
import { Scrape } from '../../src/scrape.ts';
import { Tree } from '../support/proc-tree.ts';

const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;
const START = Date.parse('2026-09-15T08:00:00Z');
/** sshd, through which the tables of the host are read, and orders.py of orders.service. */
const [FIRST, ORDERS, CHILD] = [25739, 25757, 26000];
const COLLECTORS = { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true, netlink: true };
const NETWORKS = { '1.1.1.0/24': 13_335, '9.9.9.0/24': 19_281, '8.8.8.0/24': 15_169 };

/** A recorded host that has lived like this for nine days. */
class Host {
  readonly tree = new Tree('plain-host');
  readonly #cache = new AsnCache();
  readonly #scrape: Scrape;
  #now = START - 9 * DAY;

  constructor(rules: Rules = EMPTY_RULES) {
    // Its processes started about an hour after the boot.
    writeFileSync(join(this.tree.root, 'stat'), `btime ${(START - 10 * DAY) / 1000}\n`);
    const clock = { now: () => this.#now, monotonic: () => this.#now };
    const options = { seriesLimit: 1000, rules, collectors: COLLECTORS };
    this.#scrape = new Scrape(new Procfs(this.tree.root), options, clock, this.#cache);
    for (; this.#now < START; this.#now += DAY / 4) this.scan();
  }

  scan(): void {
    this.#now += MINUTE;
    this.#scrape.scan(Infinity);
    const buckets = this.#cache.takeQueries().map(({ address }) => address);
    const answers = Object.entries(NETWORKS).map(([prefix, asn]) => {
      const bucket = parseCidr(prefix) ?? expect.fail(prefix);
      const facts = { name: 'NAME', asCountry: 'US', prefix, registry: null, registryCountry: null, allocated: null };
      const times = { askedAt: this.#now, freshUntil: this.#now + DAY, source: 'cymru' };
      return { bucket, origin: { asns: [asn], ...facts, ...times } };
    });
    if (buckets.length > 0) this.#scrape.learn(this.#cache.accept(answers));
  }

  /** Adds a row to the TCP table, and a descriptor of it to a process. */
  open(remote: string, state: string, inode: number, pid = ORDERS, local = '050200C0:D500'): void {
    const row = ` 90: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000  1000        0 ${inode} 1 0000000000000000 20 4 30 10 -1\n`;
    this.tree.edit(FIRST, 'net/tcp', /$/, row);
    if (inode !== 0) this.tree.open(pid, 90, inode);
  }

  /** orders.py is another file from now on. */
  exec(path: string): void {
    this.tree.write(ORDERS, 'exe', null);
    symlinkSync(path, join(this.tree.root, String(ORDERS), 'exe'));
    const stat = this.tree.read(ORDERS, 'stat').split(' ');
    stat[21] = String(Number(stat[21]) + 1);
    this.tree.write(ORDERS, 'stat', stat.join(' '));
  }

  /** orders.service is another file from the next scan on. */
  update(inode: number): void {
    this.exec('/usr/local/bin/python3.13');
    const map = `00400000-00452000 r-xp 00000000 08:02 ${inode} /usr/local/bin/python3.13\n`;
    this.tree.write(ORDERS, 'maps', map);
    const stat = this.tree.read(ORDERS, 'stat').split(' ');
    stat[3] = '1';
    stat[21] = String(Math.round((this.#now - START + 10 * DAY) / 10));
    this.tree.write(ORDERS, 'stat', stat.join(' '));
  }

  /** A child of orders.py that runs another program. */
  spawn(comm: string, minutesAfter: number): void {
    this.tree.fork(ORDERS, CHILD);
    const stat = this.tree.read(CHILD, 'stat').split(' ');
    stat[1] = `(${comm})`;
    stat[3] = String(ORDERS);
    stat[21] = String(Number(stat[21]) + minutesAfter * 6_000);
    this.tree.write(CHILD, 'stat', stat.join(' '));
    this.tree.write(CHILD, 'comm', `${comm}\n`);
    this.tree.write(CHILD, 'cmdline', `${comm}\0-i\0`);
    this.tree.write(CHILD, 'exe', null);
  }

  get reports(): string[] {
    return (this.#scrape.unusual?.reports ?? []).map(
      ({ owner, process, kind, what, points }) => `${owner.workload} ${process}: ${kind} ${what} ${points}`,
    );
  }

  [Symbol.dispose](): void {
    this.tree[Symbol.dispose]();
  }
}

test.each<[string, (host: Host) => void, string[]]>([
  ['nothing new', () => undefined, []],
  [
    'a call to another operator',
    (host) => host.open('08080808:01BB', '01', 99_001),
    ['orders.service orders.py: operator AS15169 1'],
  ],
  [
    'a call to another port',
    (host) => host.open('01010101:115C', '01', 99_001),
    ['orders.service orders.py: port tcp/4444 1'],
  ],
  [
    'a shell that a late child runs',
    (host) => {
      host.spawn('bash', 600);
      host.open('01010101:115C', '01', 99_001, CHILD);
    },
    ['orders.service bash: process process/bash 3', 'orders.service bash: port tcp/4444 1'],
  ],
  [
    'a helper that started with its unit',
    (host) => {
      host.spawn('fetcher', 1);
      host.open('01010101:01BB', '01', 99_001, CHILD);
    },
    ['orders.service fetcher: process process/fetcher 1'],
  ],
  [
    'a listener for other hosts',
    (host) => host.open('00000000:0000', '0A', 99_001, ORDERS, '00000000:7A69'),
    ['orders.service orders.py: listener listen/tcp/31337 2'],
  ],
  ['a listener on loopback', (host) => host.open('00000000:0000', '0A', 99_001, ORDERS, '0100007F:7A69'), []],
  [
    'a call to the metadata service',
    (host) => host.open('FEA9FEA9:0050', '01', 99_001),
    ['orders.service orders.py: metadata metadata 3'],
  ],
  [
    'a call to SSH inside the network',
    (host) => host.open('0900000A:0016', '01', 99_001),
    ['orders.service orders.py: inner_port tcp/22 2'],
  ],
  [
    'a call to SSH of a neighbor by its link-local address',
    (host) => host.open('0201FEA9:0016', '01', 99_001),
    ['orders.service orders.py: inner_port tcp/22 2'],
  ],
  [
    'a shell that bound a port to look called',
    (host) => {
      host.spawn('bash', 600);
      host.open('09090909:A02A', '01', 99_001, CHILD, '050200C0:4E20');
    },
    [
      'orders.service bash: operator AS19281 1',
      'orders.service bash: port tcp/ephemeral 1',
      'orders.service bash: process process/bash 6',
    ],
  ],
  [
    'a shell on a connection to a listener of the service',
    (host) => {
      host.open('00000000:0000', '0A', 99_002, ORDERS, '00000000:01BB');
      host.spawn('bash', 600);
      host.open('09090909:A02A', '01', 99_001, CHILD, '050200C0:01BB');
    },
    ['orders.service bash: process process/bash 4', 'orders.service orders.py: listener listen/tcp/443 2'],
  ],
  [
    'the same name in another folder',
    (host) => {
      host.exec('/opt/orders/bin/python3.12');
      host.open('01010101:01BB', '01', 99_001);
    },
    ['orders.service orders.py: process process//opt/orders/bin/python 1'],
  ],
  [
    'the same name in a folder that everybody can write to',
    (host) => {
      host.exec('/dev/shm/python3');
      host.open('01010101:01BB', '01', 99_001);
    },
    ['orders.service orders.py: process process//dev/shm/python 2'],
  ],
  [
    'another release in the same folder',
    (host) => {
      host.exec('/usr/local/bin/python3.13');
      host.open('01010101:01BB', '01', 99_001);
    },
    [],
  ],
  ['a spoofed SYN', (host) => host.open('08080808:01BB', '03', 0, ORDERS, '050200C0:01BB'), []],
])('%s', (_, change, expected) => {
  using host = new Host();
  change(host);
  for (let scans = 0; scans < 3; scans++) host.scan();
  expect(host.reports.sort()).toEqual(expected.sort());
});

test('what the configuration expects is no news, and an operator in the list of suspects is, each time', () => {
  const rule = { namespace: '', workload: 'orders.service', until: null, why: '' };
  const rules = {
    ...EMPTY_RULES,
    expected: [{ ...rule, what: ['tcp/4444', 'AS19281'] }],
    suspects: [{ file: 'bad.txt', operators: ['AS19281'] }],
  };
  using host = new Host(rules);
  host.open('09090909:115C', '01', 99_001);
  for (let scans = 0; scans < 3; scans++) host.scan();
  const reports = host.reports.filter((report) => report.startsWith('orders.service'));
  expect(reports).toEqual(['orders.service orders.py: operator AS19281 3']);
});

test('an update of a unit explains a new port, and a restart does not', () => {
  using host = new Host();
  host.update(1);
  host.scan();
  host.update(1);
  host.open('01010101:115C', '01', 99_001);
  for (let scans = 0; scans < 3; scans++) host.scan();
  expect(host.reports).toEqual(['orders.service orders.py: port tcp/4444 1']);

  using updated = new Host();
  updated.update(1);
  updated.scan();
  updated.update(2);
  updated.open('01010101:115C', '01', 99_001);
  for (let scans = 0; scans < 3; scans++) updated.scan();
  expect(updated.reports).toEqual([]);
});
