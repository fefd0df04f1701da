import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startCymruServer, type CymruServer } from '../support/cymru-server.ts';
import { Exporter, runMain, samplesOf } from '../support/exporter.ts';

const LEFT_BEHIND = join(import.meta.dirname, '../fixtures/release-0.1.0');
const TREE = join(import.meta.dirname, '../fixtures/proc/plain-host');
const FIRST_SEEN = 'peerscope_asn_first_seen_timestamp_seconds';
const BASELINE = 'peerscope_baseline_start_timestamp_seconds';
const HOUR_MS = 3_600_000;
/** When version 0.1.0 wrote the files, in milliseconds since 1970. */
const WRITTEN_AT = 1_796_085_790_115;

const textOf = (name: string): string => readFileSync(join(LEFT_BEHIND, name), 'utf8');

let folder: string;
let whois: CymruServer;
/** How much later than they were written the files are used. */
let later: number;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-upgrade-'));
  whois = await startCymruServer();
  later = Date.now() - HOUR_MS - WRITTEN_AT;
});
afterEach(async () => {
  await whois.close();
  rmSync(folder, { recursive: true });
});

/** The store of 0.1.0 in the folder, an hour old. */
function placeStore(): void {
  const database = new DatabaseSync(join(folder, 'peerscope.sqlite'));
  database.exec(textOf('store.sql').replace(/\b1[78]\d{11}\b/g, (time) => `${Number(time) + later}`));
  database.close();
}

/** The flags of a unit of 0.1.0. */
function flagsOf(): string[] {
  return [
    `--path.procfs=${TREE}`,
    `--storage.path=${folder}`,
    `--asn.server=${whois.host}:${whois.port}`,
    '--asn.provider=cymru',
    `--config.file=${join(LEFT_BEHIND, 'config.yaml')}`,
    '--no-collector.kubernetes',
    '--scrape.budget=2s',
    '--series.limit=1000',
    '--source=procfs',
    '--sample.interval=5s',
    '--web.enable-api',
    '--web.max-requests=40',
    '--web.telemetry-path=/metrics',
    '--web.disable-exporter-metrics',
    '--log.level=info',
  ];
}

describe('after an upgrade from 0.1.0', () => {
  it('connections keep their labels, and known operators keep their first times, are not new, and are not asked for again', async () => {
    placeStore();
    const flags = flagsOf().filter((flag) => !flag.startsWith('--config.file'));
    const exporter = await Exporter.start([...flags, '--metrics.families=*']);
    try {
      const before = textOf('page.prom');
      const page = await exporter.metricsOnce(
        (text) => samplesOf(text, FIRST_SEEN).size >= samplesOf(before, FIRST_SEEN).size,
      );
      // In logins, each user has a memory of their own, which 0.1 does not know.
      const takenOver = (text: string, name: string): [string, number][] =>
        [...samplesOf(text, name)].filter(([labels]) => !labels.includes('workload=session.scope'));
      const moved = (name: string): Map<string, number> =>
        new Map(takenOver(before, name).map(([labels, at]) => [labels, Math.round(at * 1000 + later)]));
      const milliseconds = (name: string): Map<string, number> =>
        new Map(takenOver(page, name).map(([labels, at]) => [labels, Math.round(at * 1000)]));
      expect(milliseconds(FIRST_SEEN)).toEqual(moved(FIRST_SEEN));
      expect(milliseconds(BASELINE)).toEqual(moved(BASELINE));
      expect(samplesOf(page, 'peerscope_novelty_timestamp_seconds')).toEqual(new Map());
      // Loopback has no network operator, and empty queues are absent.
      const isKept = (labels: string, value: number): boolean =>
        !/\bnetwork=loopback\b/.test(labels) && !(value === 0 && labels.includes('local_port='));
      for (const family of ['connections', 'asn_connections', 'asn_info', 'listener_accept_queue']) {
        const kept = [...samplesOf(before, `peerscope_${family}`)].filter(([labels, value]) => isKept(labels, value));
        expect(samplesOf(page, `peerscope_${family}`)).toEqual(new Map(kept));
      }
      expect(exporter.log.filter(({ level }) => level !== 'info')).toEqual([]);
    } finally {
      await exporter.stop();
    }
    expect(whois.asked).toEqual([]);
  });

  it('its flags and its configuration start the exporter without a warning', async () => {
    const exporter = await Exporter.start(flagsOf());
    try {
      expect(exporter.log.filter(({ level }) => level !== 'info')).toEqual([]);
    } finally {
      await exporter.stop();
    }
    const checked = await runMain(['check-config', join(LEFT_BEHIND, 'config.yaml')]);
    expect(checked).toMatchObject({ code: 0, stderr: '' });
  });
});
