import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { printRow } from '../support/kernel-rows.ts';
import { Tree } from '../support/proc-tree.ts';
import { startDnsServer } from '../support/dns-server.ts';
import { Exporter } from '../support/exporter.ts';
import { whyNoNamespaces } from '../support/sockets/network.ts';

const QUIET = ['--asn.provider=none', '--storage.path=/dev/null/none', '--web.enable-api'];
const HOSTILE = 'db.<script>alert';

describe('the names of remote addresses', () => {
  const obstacle = whyNoNamespaces();
  const scratch = mkdtempSync(join(tmpdir(), 'peerscope-rdns-'));
  const tree = new Tree('plain-host');
  afterAll(() => {
    tree[Symbol.dispose]();
    rmSync(scratch, { recursive: true });
  });

  it("come from the host's resolver to the API and the page, except for addresses that are never sent", async ({
    skip,
  }) => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: own resolver for the exporter: ${obstacle}\n`);
      return skip(obstacle);
    }
    const server = await startDnsServer((name) => (name === '3.2.1.10.in-addr.arpa' ? [HOSTILE] : 'no such name'));
    const resolver = join(scratch, 'resolv.conf');
    writeFileSync(resolver, `nameserver ${server.address}\n`);
    const rules = join(scratch, 'rules.yaml');
    writeFileSync(rules, 'asn: { never_send: [9.9.9.0/24] }\n');
    const remotes = ['10.1.2.3:5432', '9.9.9.9:443', '1.1.1.1:443', '198.51.100.1:80', '127.0.0.1:9'];
    const rows = remotes.map((remote, i) =>
      printRow({ table: 'tcp', state: 1, local: `192.0.2.5:${50_000 + i}`, remote, inode: 90_000 + i }),
    );
    // There is no response yet.
    const knock = printRow({ table: 'tcp', state: 3, local: '192.0.2.5:443', remote: '8.8.4.4:1024', inode: 0 });
    tree.write(25739, 'net/tcp', `  sl  local_address rem_address   st\n${rows.join('')}${knock}`);
    tree.write(25739, 'net/tcp6', '  sl  local_address rem_address   st\n');
    tree.write(25739, 'net/udp', '  sl  local_address rem_address   st\n');

    const withResolver = [
      'unshare',
      '--mount',
      'sh',
      '-ec',
      `mount --bind ${resolver} /etc/resolv.conf; exec "$@"`,
      'sh',
    ];
    const flags = [...QUIET, '--collector.rdns', `--path.procfs=${tree.root}`, `--config.file=${rules}`];
    const exporter = await Exporter.start(flags, {}, withResolver);
    try {
      const named = async (): Promise<(string | null)[]> => {
        const response = await exporter.get('/api/v1/connections?remote-port=5432');
        return ((await response.json()) as Row[]).map((row) => row.remote_name);
      };
      await expect.poll(named, { timeout: 30_000, interval: 100 }).toEqual([HOSTILE]);
      const page = await (await exporter.get('/')).text();
      expect(page).toContain('10.1.2.3:5432</bdi></span><span class="sub"><bdi>db.&lt;script&gt;alert<');
      expect([...new Set(server.asked)].sort()).toEqual(['1.1.1.1.in-addr.arpa', '3.2.1.10.in-addr.arpa']);
      const started = exporter.log.find((entry) => entry['msg'] === 'peerscope started');
      expect(started).toMatchObject({ sends: "addresses of remotes to the host's resolver" });
    } finally {
      expect(await exporter.stop()).toBe(0);
      await server.close();
    }
  });
});
