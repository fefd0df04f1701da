import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Tree } from '../support/proc-tree.ts';
import { startCymruServer } from '../support/cymru-server.ts';
import { Exporter } from '../support/exporter.ts';

/** The process through which the tables of the host's namespace are read. */
const FIRST = 25739;
const FAMILY = 'peerscope_asn_first_seen_timestamp_seconds';

const lineOf = (page: string): string | undefined =>
  page.split('\n').find((line) => line.startsWith(`${FAMILY}{process="orders.py"`) && line.includes('asn="13335"'));
const secondsOf = (line: string | undefined): number => Number(line?.split(' ').at(-1));

it(
  'a connection that closed before its operator was known has its own first-seen time, also after a restart',
  { timeout: 90_000 },
  async () => {
    using tree = new Tree('plain-host');
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-first-'));
    const whois = await startCymruServer([
      '13335 | 1.1.1.0 | 1.1.1.0/24 | AU | apnic | 2011-08-11 | CLOUDFLARENET, US',
    ]);
    const start = ({ root }: Tree): Promise<Exporter> =>
      Exporter.start([
        `--path.procfs=${root}`,
        `--storage.path=${folder}`,
        `--asn.server=${whois.host}:${whois.port}`,
        '--web.disable-exporter-metrics',
      ]);
    try {
      const begun = Date.now() / 1000;
      const first = await start(tree);
      await first.metrics();
      const seen = Date.now() / 1000;
      for (const table of ['tcp', 'tcp6']) tree.edit(FIRST, `net/${table}`, /\n[^]*/, '\n');
      const page = await first.metricsOnce(
        (text) => /^peerscope_asn_queries_total\{provider="cymru"\} 1$/m.test(text) && lineOf(text) !== undefined,
      );
      expect(page).not.toMatch(/^peerscope_asn_connections\{process="orders.py".*asn="13335"/m);
      expect(secondsOf(lineOf(page))).toBeGreaterThanOrEqual(begun);
      expect(secondsOf(lineOf(page))).toBeLessThanOrEqual(seen);
      expect(await first.stop()).toBe(0);

      using again = new Tree('plain-host');
      const second = await start(again);
      const later = await second.metricsOnce((text) => lineOf(text) !== undefined);
      expect(lineOf(later)).toBe(lineOf(page));
      expect(await second.stop()).toBe(0);
    } finally {
      await whois.close();
      rmSync(folder, { recursive: true });
    }
  },
);
