import { afterEach, beforeEach, expect, it } from 'vitest';
import { formatAddress, parseAddress } from '../../src/common/address.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { parseConfig } from '../../src/config/config.ts';
import { RemoteNames } from '../../src/rows/remote-names.ts';
import { Scrape } from '../../src/scrape.ts';
import { printRow } from '../support/kernel-rows.ts';
import { Tree } from '../support/proc-tree.ts';

const ESTABLISHED = 1;
const SYN_RECV = 3;
const MINUTE_MS = 60_000;

let tree: Tree;
let scrape: Scrape;
beforeEach(() => {
  tree = new Tree('plain-host');
  const config = parseConfig({ 'asn.provider': 'none' }, {});
  const office = parseConfig({}, {}).rules;
  const networks = [
    { name: 'lab', cidrs: [{ address: parseAddress('198.51.100.0') ?? [0, 0, 0, 0], bits: 120 }] as const },
  ];
  const rules = { ...office, networks };
  scrape = new Scrape(new Procfs(tree.root), { ...config, rules }, { now: () => 0, monotonic: () => 0 }, null);
  for (const table of ['tcp6', 'udp', 'udp6']) tree.write(25739, `net/${table}`, '  sl\n');
});
afterEach(() => tree[Symbol.dispose]());

function scan(remotes: readonly string[], state = ESTABLISHED): void {
  const rows = remotes.map((remote, i) =>
    printRow({ table: 'tcp', state, local: `192.0.2.5:${50_000 + i}`, remote: `${remote}:443`, inode: 90_000 + i }),
  );
  tree.write(25739, 'net/tcp', `  sl\n${rows.join('')}`);
  scrape.scan(Infinity);
}

const wanted = (names: RemoteNames, minutes = 0): string[] =>
  names.wanted(scrape, minutes * MINUTE_MS).map(formatAddress);

it('looks up each remote once, in public, private, shared and configured networks', () => {
  scan(['8.8.8.8', '10.0.0.1', '100.64.0.1', '198.51.100.1', '8.8.8.8', '203.0.113.1', '127.0.0.1', '169.254.0.1']);
  expect(wanted(new RemoteNames())).toEqual(['8.8.8.8', '10.0.0.1', '100.64.0.1', '198.51.100.1']);
});

it('does not look up remotes in SYN_RECV', () => {
  scan(['8.8.8.8', '10.0.0.1'], SYN_RECV);
  expect(wanted(new RemoteNames())).toEqual([]);
});

it('looks up 500 remotes per scan, and all again after ten minutes', () => {
  scan(Array.from({ length: 600 }, (_, i) => `10.0.${i >> 8}.${i & 255}`));
  const names = new RemoteNames();
  const counts = [0, 1, 2, 9, 10, 11].map((minutes) => wanted(names, minutes).length);
  expect(counts).toEqual([500, 100, 0, 0, 500, 100]);
});

it('keeps the latest 10,000 names', () => {
  const names = new RemoteNames();
  const address = (i: number): readonly [number, number, number, number] => [0, 0, 0xffff, 0x0a000000 + i];
  names.learn(Array.from({ length: 10_001 }, (_, i) => ({ address: address(i), name: `host-${i}` })));
  expect(['10.0.0.0', '10.0.0.1', '10.0.39.16'].map((text) => names.of(text))).toEqual([null, 'host-1', 'host-10000']);
  names.learn([
    { address: address(1), name: null },
    { address: address(2), name: 'other' },
  ]);
  expect(['10.0.0.1', '10.0.0.2'].map((text) => names.of(text))).toEqual([null, 'other']);
});
