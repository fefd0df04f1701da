/**
 * A resident process that runs scans or bare reads. It answers each line of standard input with a line of JSON that has the CPU
 * time of the process (user and system, all threads, in milliseconds).
 *
 * `scan` continues with the connections and owners of the previous scan; `full` starts without them. Both are `Scrape.run`: tables,
 * owners, join and aggregation, without text and HTTP. `bare FILE...` reads files below /proc without parsing them.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { SYSTEM_CLOCK } from '../src/common/clock.ts';
import { Procfs } from '../src/collect/procfs.ts';
import { EMPTY_RULES } from '../src/config/config.ts';
import { AsnCache } from '../src/enrich/asn/cache.ts';
import type { Snapshot } from '../src/metrics/collector-runs.ts';
import { Scrape } from '../src/scrape.ts';
import { setFlags } from '../src/serve/v8-flags.ts';
import type { Scanned } from './resident-process.ts';

const ENOUGH_MS = 600_000;
const OPTIONS = {
  seriesLimit: 1000,
  rules: EMPTY_RULES,
  collectors: { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true, netlink: true },
};

const buffer = Buffer.alloc(64 << 10);
const endpoints = new Set<string>();
let procfs: Procfs | undefined;
let cache = new AsnCache();
let scrape: Scrape | undefined;

function begin(): Scrape {
  procfs ??= new Procfs('/proc');
  cache = new AsnCache();
  return new Scrape(procfs, OPTIONS, SYSTEM_CLOCK, cache);
}

function measured<T>(work: () => T): { outcome: T; cpuMs: number } {
  const before = process.cpuUsage();
  const outcome = work();
  const { user, system } = process.cpuUsage(before);
  return { outcome, cpuMs: (user + system) / 1000 };
}

function scan(): Scanned {
  const { outcome, cpuMs } = measured(() => (scrape ??= begin()).scan(ENOUGH_MS));
  return { cpuMs, ...summaryOf(outcome) };
}

function full(): Scanned {
  scrape = undefined;
  return scan();
}

/** Gives each /24 of the recent scans its own ASN: the maximum number of names in the endpoint family. */
function answer(): void {
  const now = SYSTEM_CLOCK.now();
  const answers = cache.takeQueries().map((bucket) => ({
    bucket,
    origin: {
      asns: [131_072 + (bucket.address[3] >>> 8)],
      name: null,
      asCountry: null,
      prefix: null,
      registry: null,
      registryCountry: null,
      allocated: null,
      askedAt: now,
      freshUntil: now + ENOUGH_MS,
      source: 'bench',
    },
  }));
  scrape?.learn(cache.accept(answers));
}

function summaryOf({ families }: Snapshot): Omit<Scanned, 'cpuMs'> {
  const sumOf = (name: string, keep: (labels: ReadonlyMap<string, string>) => boolean = () => true): number =>
    families
      .filter((family) => family.name === name)
      .flatMap(({ labels, samples }) =>
        samples.filter((sample) => keep(new Map(labels.map((label, i) => [label, sample.labels[i] ?? ''])))),
      )
      .reduce((sum, { value }) => sum + value, 0);
  for (const { name, samples } of families)
    if (name === 'peerscope_endpoint_connections') for (const { labels } of samples) endpoints.add(labels.join('\n'));
  return {
    rows: sumOf('peerscope_connections'),
    timeWait: sumOf('peerscope_connections', (labels) => labels.get('state') === 'time_wait'),
    unowned: sumOf('peerscope_sockets_unattributed'),
    endpointSeries: endpoints.size,
  };
}

function readThrough(path: string): void {
  const fd = openSync(`/proc/${path}`, 'r');
  while (readSync(fd, buffer, 0, buffer.length, null) > 0);
  closeSync(fd);
}

setFlags();
for await (const line of createInterface({ input: process.stdin })) {
  const [word, ...files] = line.split(' ');
  let reply: object = {};
  if (word === 'scan') reply = scan();
  else if (word === 'full') reply = full();
  else if (word === 'answer') answer();
  else if (word === 'bare') reply = { cpuMs: measured(() => files.forEach(readThrough)).cpuMs };
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
