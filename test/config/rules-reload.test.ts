import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { Procfs } from '../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../src/config/config.ts';
import { AsnCache } from '../../src/enrich/asn/cache.ts';
import type { Family, Rules } from '../../src/model.ts';
import { parseRules } from '../../src/config/rules.ts';
import { Scrape } from '../../src/scrape.ts';

const HOST = new Procfs(fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url)));
const COLLECTORS = { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': false, netlink: true };
const CLOCK = { now: () => Date.UTC(2026, 0, 1), monotonic: () => 0 };
const RULES = parseRules(
  `
processes: [{ name: 'app-{{ .script }}', exe: python3, cmdline: '(?<script>[a-z]+)[.]py' }]
workloads: [{ name: 'in-{{ .slice }}', cgroup: '^/(?<slice>[a-z]+)' }, { name: any, unit: . }]
endpoint_groups: [{ name: postgres, ports: [5432] }]
networks: [{ name: partner, cidrs: [1.1.1.0/24], asn: 64500 }]
asn: { never_send: [9.9.9.0/24] }
`,
  'peerscope.yaml',
);

const begin = (rules: Rules): { scrape: Scrape; cache: AsnCache } => {
  const cache = new AsnCache();
  return { scrape: new Scrape(HOST, { seriesLimit: 1000, rules, collectors: COLLECTORS }, CLOCK, cache), cache };
};
/** What the rules can change. */
const shownBy = (scrape: Scrape): Family[] =>
  scrape.scan(Infinity).families.filter(({ name }) => !/_total$|_asn_cache|_network_namespaces/.test(name));

it.each<{ name: string; from: Rules; to: Rules }>([
  { name: 'rules where there were none', from: EMPTY_RULES, to: RULES },
  { name: 'no rules where there were some', from: RULES, to: EMPTY_RULES },
])('$name give a running scrape the same result as a new one', ({ from, to }) => {
  const { scrape } = begin(from);
  const before = shownBy(scrape);
  scrape.adopt(to);
  const after = shownBy(scrape);
  expect(after).toEqual(shownBy(begin(to).scrape));
  expect(after).not.toEqual(before);
  scrape.adopt(from);
  expect(shownBy(scrape)).toEqual(before);
});

it('names workloads by the cgroup of each process after a reload', () => {
  const { scrape } = begin(EMPTY_RULES);
  const workloads = (): Set<string> => {
    scrape.scan(Infinity);
    const { connections } = scrape;
    return new Set([...connections.indexes()].map((i) => connections.labels[i]?.workload ?? ''));
  };
  expect([...workloads()].some((workload) => workload.startsWith('in-'))).toBe(false);
  scrape.adopt(RULES);
  expect([...workloads()].filter((workload) => workload !== '' && !workload.startsWith('in-'))).toEqual([]);
  expect([...workloads()].some((workload) => workload.startsWith('in-'))).toBe(true);
});

it('does not query networks that the new rules exclude', () => {
  const { scrape, cache } = begin(EMPTY_RULES);
  scrape.adopt(RULES);
  scrape.scan(Infinity);
  const asked = cache.takeQueries();
  const { scrape: fresh, cache: expected } = begin(RULES);
  fresh.scan(Infinity);
  expect(asked).toEqual(expected.takeQueries());
  expect(asked).not.toEqual([]);
});
