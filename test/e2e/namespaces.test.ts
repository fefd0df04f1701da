import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { Exporter, samplesOf } from '../support/exporter.ts';
import { TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';

const MAIN = new URL('../../src/main.ts', import.meta.url).pathname;

/** TPROXY as Cilium and squid set it up, next to an address of the namespace's own and a way out. */
const TPROXY = `
  ip address add 192.0.2.5/32 dev lo
  ip route add default dev lo; ip -6 route add default dev lo
  ip rule add fwmark 1 table 100; ip -6 rule add fwmark 1 table 100
  ip route add local 0.0.0.0/0 dev lo table 100; ip -6 route add local ::/0 dev lo table 100
  ip route add local 9.9.9.9/32 dev lo table 100`;

const obstacle = whyNoNamespaces();
const scratch = mkdtempSync(join(tmpdir(), 'peerscope-namespaces-'));

function list(): Row[] {
  const args = [MAIN, 'list', '-o', 'json', '-n', '--asn.provider=none', `--storage.path=${scratch}/none`];
  return JSON.parse(
    execFileSync(process.execPath, args, { encoding: 'utf8', stdio: 'pipe', maxBuffer: 1 << 28 }),
  ) as Row[];
}

describe('network namespaces of this host', () => {
  const network = new TestNetwork();
  const name = `peerscope-test-${process.pid}`;

  afterAll(async () => {
    await network[Symbol.asyncDispose]();
    rmSync(scratch, { recursive: true });
  });

  it('distinguish remotes from their own addresses if a policy rule takes all packets (TPROXY)', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const holder = await network.make(TPROXY);
    const remotes = ['1.1.1.1', '9.9.9.9', '192.0.2.5', '2606:4700:4700::1111'];
    const kinds = remotes.map((remote) => `udp-connect=${remote.includes(':') ? `[${remote}]` : remote}:53`);
    const { pids } = await network.openSockets(holder, { kinds });
    const rows = list().filter(({ pid }) => pid !== null && pids.includes(pid));
    const networkOf: unknown = Object.fromEntries(rows.map((row) => [row.remote_address, row.network]));
    expect(networkOf).toEqual({
      '1.1.1.1': 'public',
      '9.9.9.9': 'public',
      '192.0.2.5': 'self',
      '2606:4700:4700::1111': 'public',
    });
  });

  it('without a process have their own status', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const exporter = await Exporter.start(['--asn.provider=none', `--storage.path=${scratch}/none`]);
    const statuses = async (): Promise<Map<string, number>> =>
      samplesOf(await exporter.metrics(), 'peerscope_network_namespaces');
    try {
      const before = (await statuses()).get('status=no_process') ?? 0;
      execFileSync('ip', ['netns', 'add', name]);
      // Mounts are read at each tenth scan.
      let after = await statuses();
      for (let scan = 0; scan < 10; scan++) after = await statuses();
      expect(after.get('status=no_process')).toBeGreaterThan(before);
    } finally {
      execFileSync('ip', ['netns', 'delete', name]);
      expect(await exporter.stop()).toBe(0);
    }
  });
});
