import { parseCidr } from '../../src/common/address.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../src/config/config.ts';
import { AsnCache } from '../../src/enrich/asn/cache.ts';
import { Scrape } from '../../src/scrape.ts';
import type { UnusualRecord } from '../../src/unusual/records.ts';

const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;
const DAYS = 10;
const COLLECTORS = { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true, netlink: true };

/** What peerscope remembers of a host that has lived for ten days as it is now. `networks` are the ASNs of prefixes. */
export function recordsOfLife(
  procfs: string,
  networks: Readonly<Record<string, number>>,
  now = Date.now(),
): UnusualRecord[] {
  const cache = new AsnCache();
  let time = now - DAYS * DAY;
  const clock = { now: () => time, monotonic: () => time };
  const scrape = new Scrape(
    new Procfs(procfs),
    { seriesLimit: 1000, rules: EMPTY_RULES, collectors: COLLECTORS },
    clock,
    cache,
  );
  const answers = Object.entries(networks).map(([prefix, asn]) => {
    const bucket = parseCidr(prefix);
    if (!bucket) throw new Error(`not a prefix: ${prefix}`);
    const facts = { name: 'NAME', asCountry: 'US', prefix, registry: null, registryCountry: null, allocated: null };
    const times = { askedAt: time, freshUntil: now + DAY, source: 'cymru' };
    return { bucket, origin: { asns: [asn], ...facts, ...times } };
  });
  for (; time < now - MINUTE; time += DAY / 2) {
    scrape.scan(Infinity);
    if (cache.takeQueries().length > 0) scrape.learn(cache.accept(answers));
  }
  time = now - MINUTE;
  scrape.scan(Infinity);
  return scrape.unusual?.takeRecords() ?? [];
}
