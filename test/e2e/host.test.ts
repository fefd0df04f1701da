import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { Exporter, runMain } from '../support/exporter.ts';
import { netnsOf, TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';
import { parsePage, sumBy } from '../support/page.ts';
import { asSs, betweenLooks, miscounted, without } from '../support/ss.ts';

describe('the whole host with two more namespaces', () => {
  const obstacle = whyNoNamespaces();
  const network = new TestNetwork();
  const scratch = mkdtempSync(join(tmpdir(), 'peerscope-host-'));
  const flags = ['--asn.provider=none', `--storage.path=${scratch}`];
  const holders: number[] = [];

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: every namespace of the host: ${obstacle}\n`);
      return;
    }
    const [host, pod] = [await network.make(), await network.make()];
    holders.push(host, pod);
    network.join(host, ['10.0.0.1/24', 'fd00::1/64'], pod, ['10.0.0.2/24', 'fd00::2/64']);
    await network.openSockets(pod, {
      kinds: ['tcp-listen=[::]:443', 'tcp-backlog=10.0.0.2:80', 'udp=0.0.0.0:53', 'udp-connect=10.0.0.1:53'],
    });
    await network.openSockets(host, {
      kinds: [
        'tcp-connect=10.0.0.2:443',
        'tcp-connect=[fd00::2]:443',
        'tcp-time-wait=127.0.0.1:0',
        'tcp-queues=[::1]:0',
      ],
    });
  });

  afterAll(async () => {
    await network[Symbol.asyncDispose]();
    rmSync(scratch, { recursive: true });
  });

  it('has the tcp and udp rows of ss in every namespace', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const { still, seen, between } = await betweenLooks(async () => {
      const { code, stdout } = await runMain(['list', '-o', 'json', ...flags]);
      expect(code).toBe(0);
      return asSs(JSON.parse(stdout) as Row[]);
    });
    expect({ missing: without(still, between), invented: without(between, seen) }).toEqual({
      missing: [],
      invented: [],
    });
    const namespaces = new Set(between.map(({ netns }) => netns));
    expect(holders.filter((holder) => !namespaces.has(netnsOf(holder)))).toEqual([]);
  });

  it('exports the same numbers by transport and state', async ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const exporter = await Exporter.start(flags);
    try {
      const looks = await betweenLooks(async () => parsePage(await (await exporter.get('/metrics')).arrayBuffer()));
      const sums = Object.entries(sumBy(looks.between, 'peerscope_connections', 'transport', 'state'));
      const ofSs = Object.fromEntries(sums.filter(([key]) => /^(tcp|udp) /.test(key)));
      expect(miscounted(ofSs, looks, ({ transport, state }) => `${transport} ${state}`)).toEqual([]);
    } finally {
      await exporter.stop();
    }
  });
});
