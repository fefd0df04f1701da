import { mkdirSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import fc from 'fast-check';
import { ConnectionTable } from '../../src/collect/connection-table.ts';
import { DEFAULT_EPHEMERAL_PORTS, type PortRange } from '../../src/collect/direction.ts';
import { ESTABLISHED, LISTEN, SYN_SENT, TIME_WAIT, type Table } from '../../src/collect/net-tcp-udp-raw.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../src/config/config.ts';
import { NO_OWNER } from '../../src/enrich/owner-labels.ts';
import { EphemeralPorts } from '../../src/metrics/ephemeral-ports.ts';
import type { OwnerLabels } from '../../src/model.ts';
import { Scrape } from '../../src/scrape.ts';
import { scan, setLabels, type KernelRow } from '../support/kernel-rows.ts';
import { Tree } from '../support/proc-tree.ts';

const RANGE: PortRange = [10_000, 19_999];
const ORDERS: OwnerLabels = { ...NO_OWNER, process: 'orders', namespace: 'shop', workload: 'orders' };
const OTHER: OwnerLabels = { ...ORDERS, process: 'proxy' };

/** Connections from ports that follow each other. */
interface Batch {
  readonly count: number;
  readonly from?: number;
  readonly local?: string;
  readonly remote?: string;
  readonly table?: Table;
  readonly state?: number;
  readonly netns?: number;
  readonly labels?: OwnerLabels;
  /** A listener on the local ports, so that the connections are inbound. */
  readonly listens?: boolean;
}

/** The ratios by owner, in ten thousandths: the number of ports of the range above. */
function portsOf(batches: readonly Batch[], ranges: Readonly<Record<number, PortRange>> = {}): Record<string, number> {
  const rows = new Map<string, { readonly row: KernelRow; readonly labels: OwnerLabels }>();
  for (const batch of batches) {
    const { count, from = RANGE[0], local = '10.0.0.1', remote = '10.0.0.9:5432', labels = ORDERS } = batch;
    const { table = 'tcp', state = ESTABLISHED, netns = 0 } = batch;
    for (let port = from; port < from + count; port++) {
      const row: KernelRow = { table, state, local: `${local}:${port}`, netns };
      if (batch.listens) rows.set(`${netns} ${row.local}`, { row: { ...row, state: LISTEN }, labels });
      rows.set(`${netns} ${row.local} ${remote} ${table}`, { row: { ...row, remote }, labels });
    }
  }
  const connections = new ConnectionTable();
  const all = [...rows.values()];
  scan(
    connections,
    all.map(({ row }) => row),
    { ephemeral: RANGE },
  );
  for (const [i, { labels }] of all.entries()) setLabels(connections, i, labels);
  const uses = new EphemeralPorts(1).count(connections, (netns) => ranges[netns] ?? RANGE);
  return Object.fromEntries(
    uses.map(({ labels, ratio }) => [Object.values(labels).join(' '), Math.round(ratio * 10_000)]),
  );
}

const OWNER = 'orders shop orders';

test.each<{ name: string; batches: Batch[]; ranges?: Record<number, PortRange>; expected: Record<string, number> }>([
  { name: 'no connections', batches: [], expected: {} },
  {
    name: 'a hundred ports: too few to show',
    batches: [{ count: 100, from: 10_000 }],
    ranges: { 0: [10_000, 30_000] },
    expected: {},
  },
  { name: 'more', batches: [{ count: 101 }], expected: { [OWNER]: 101 } },
  { name: 'all ports', batches: [{ count: 10_000 }], expected: { [OWNER]: 10_000 } },
  {
    name: 'connections that end or begin use ports too',
    batches: [
      { count: 500 },
      { count: 500, from: 11_000, state: TIME_WAIT },
      { count: 500, from: 12_000, state: SYN_SENT },
    ],
    expected: { [OWNER]: 1_500 },
  },
  {
    name: 'the fullest of several destinations',
    batches: [
      { count: 300 },
      { count: 400, remote: '10.0.0.8:5432' },
      { count: 200, remote: '10.0.0.9:5433' },
      { count: 350, remote: '[2001:db8::9]:5432', local: '[2001:db8::1]', table: 'tcp6' },
    ],
    expected: { [OWNER]: 400 },
  },
  {
    name: 'one destination through both tables of a transport',
    batches: [
      { count: 200 },
      { count: 200, from: 11_000, local: '[::ffff:10.0.0.1]', remote: '[::ffff:10.0.0.9]:5432', table: 'tcp6' },
    ],
    expected: { [OWNER]: 400 },
  },
  {
    name: 'a port of two local addresses is one',
    batches: [{ count: 300 }, { count: 200, local: '10.0.0.2', from: 10_200 }],
    expected: { [OWNER]: 400 },
  },
  {
    name: 'transports have ports of their own',
    batches: [{ count: 300 }, { count: 200, from: 11_000, table: 'udp' }, { count: 900, table: 'raw', from: 12_000 }],
    expected: { [OWNER]: 300 },
  },
  {
    name: 'network namespaces have ports of their own, each with its range',
    batches: [{ count: 300 }, { count: 400, netns: 1 }, { count: 250, netns: 2 }],
    ranges: { 2: [10_000, 10_499] },
    expected: { [OWNER]: 5_000 },
  },
  { name: 'a small range', batches: [{ count: 20 }], ranges: { 0: [10_000, 10_063] }, expected: { [OWNER]: 3_125 } },
  {
    name: 'ports outside the range',
    batches: [
      { count: 300, from: 9_850 },
      { count: 300, from: 19_900 },
    ],
    expected: { [OWNER]: 250 },
  },
  {
    name: 'owners that share a namespace',
    batches: [
      { count: 300 },
      { count: 400, from: 11_000, labels: OTHER },
      { count: 90, from: 12_000, labels: NO_OWNER },
    ],
    expected: { [OWNER]: 300, 'proxy shop orders': 400 },
  },
  {
    name: 'two pods that share the namespace of the host',
    batches: [
      { count: 300, labels: { ...ORDERS, pod: 'a' } },
      { count: 300, from: 11_000, labels: { ...ORDERS, pod: 'b' } },
    ],
    expected: { [OWNER]: 600 },
  },
  { name: 'connections of clients', batches: [{ count: 300, listens: true, remote: '10.0.0.9:40000' }], expected: {} },
  { name: 'connections within the host', batches: [{ count: 300, remote: '127.0.0.1:5432' }], expected: {} },
])('$name', ({ batches, ranges, expected }) => {
  expect(portsOf(batches, ranges)).toEqual(expected);
});

test('it finds the number of ports that a count without shortcuts finds', () => {
  const range: PortRange = [10_000, 10_299];
  const anyBatch = fc.record({
    count: fc.integer({ min: 1, max: 250 }),
    from: fc.integer({ min: 9_900, max: 10_400 }),
    remote: fc.constantFrom('10.0.0.9:5432', '10.0.0.9:443', '192.0.2.1:443'),
    local: fc.constantFrom('10.0.0.1', '10.0.0.2'),
  });
  fc.assert(
    fc.property(fc.array(anyBatch, { maxLength: 6 }), (batches) => {
      const portsTo = Map.groupBy(batches, ({ remote }) => remote)
        .values()
        .map((alike) => alike.flatMap(({ count, from }) => Array.from({ length: count }, (_, i) => from + i)))
        .map((ports) => new Set(ports.filter((port) => port >= range[0] && port <= range[1])).size);
      const most = Math.max(0, ...portsTo);
      const expected = most < 3 ? {} : { [OWNER]: Math.round((most / 300) * 10_000) };
      expect(portsOf(batches, { 0: range })).toEqual(expected);
    }),
    { numRuns: 20 },
  );
});

test('the default range of Linux has 28,232 ports', () => {
  const range = { 0: DEFAULT_EPHEMERAL_PORTS };
  expect(portsOf([{ count: 2_824, from: 32_768 }], range)).toEqual({ [OWNER]: 1_000 });
});

/** In the recorded host, orders.py has two connections to one address, from ports 54402 and 54416. */
test.each([
  { text: '54400\t54449\n', expected: [[['orders.py', '', 'orders.service'], 2 / 50]] },
  { text: '54400\t54699\n', expected: [] },
  { text: null, expected: [] },
])('a scan uses the range $text of the host', ({ text, expected }) => {
  using tree = new Tree('plain-host');
  tree.fork(25_739, 1);
  mkdirSync(`${tree.root}/sys/net/ipv4`, { recursive: true });
  if (text !== null) writeFileSync(`${tree.root}/sys/net/ipv4/ip_local_port_range`, text);
  const collectors = {
    ...{ processes: true, protocols: true, endpoints: true },
    ...{ asn: true, 'first-seen': true, netlink: true },
  };
  const clock = { now: () => 1_000, monotonic: () => 0 };
  const options = { seriesLimit: 1_000, rules: EMPTY_RULES, collectors };
  const { families } = new Scrape(new Procfs(tree.root), options, clock, null).scan(Infinity);
  const { samples = [] } = families.find(({ name }) => name === 'peerscope_ephemeral_ports_used_ratio') ?? {};
  expect(samples.map(({ labels, value }) => [labels, value])).toEqual(expected);
});
