import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { FAMILIES, type Collector } from '../src/metrics/catalogue.ts';
import { Procfs } from '../src/collect/procfs.ts';
import { EMPTY_RULES } from '../src/config/config.ts';
import { AsnCache } from '../src/enrich/asn/cache.ts';
import { PartWriter, renderFamilies } from '../src/expose/prometheus-text.ts';
import type { EndpointGroupRule, Family, ProcessRule } from '../src/model.ts';
import type { Snapshot } from '../src/metrics/collector-runs.ts';
import { Scrape, type ScrapeOptions } from '../src/scrape.ts';
import { Collector as Collecting, Tree } from './support/proc-tree.ts';

const PLAIN_HOST = new Procfs(fileURLToPath(new URL('fixtures/proc/plain-host', import.meta.url)));
const COLLECTORS = { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true, netlink: true };
const CLOCK = { now: () => Date.UTC(2026, 0, 1), monotonic: () => 0 };

class Broken extends Error {
  override readonly message = 'broken';
}

/** A rule that cannot be asked anything. */
const BROKEN_RULE = new Proxy({} as EndpointGroupRule & ProcessRule, {
  get: () => {
    throw new Broken();
  },
});

/** One that is asked in vain. */
class BrokenCache extends AsnCache {
  override lookup(): never {
    throw new Broken();
  }
}

interface Fault {
  readonly collector: Collector;
  readonly rules?: Partial<ScrapeOptions['rules']>;
  readonly cache?: AsnCache;
}

function scan({ rules = {}, cache = new AsnCache() }: Partial<Fault>): Snapshot {
  const options = { seriesLimit: 1000, rules: { ...EMPTY_RULES, ...rules }, collectors: COLLECTORS };
  return new Scrape(PLAIN_HOST, options, CLOCK, cache).scan(Infinity);
}

const namesOf = (families: readonly Family[]): string[] => families.map(({ name }) => name);

describe('a collector that fails', () => {
  const whole = scan({});

  it.each<Fault>([
    { collector: 'endpoints', rules: { endpointGroups: [BROKEN_RULE] } },
    { collector: 'processes', rules: { processes: [BROKEN_RULE] } },
    { collector: 'asn', cache: new BrokenCache() },
  ])('$collector costs its own families and says so', (fault) => {
    const snapshot = scan(fault);
    const own = new Set(FAMILIES.filter((spec) => spec.collector === fault.collector).map(({ name }) => name));
    if (fault.collector === 'asn') own.add('peerscope_asn_info');
    expect(own.size).toBeGreaterThan(0);
    expect(namesOf(snapshot.families)).toEqual(namesOf(whole.families).filter((name) => !own.has(name)));
    expect(snapshot.failures).toEqual([`Cannot collect "${fault.collector}": broken`]);
    const failed = snapshot.collectors.filter(({ success }) => !success).map(({ collector }) => collector);
    expect(failed).toEqual([fault.collector]);
    expect(rowsOf(snapshot), 'every row is counted').toBe(rowsOf(whole));
  });

  it('protocols costs only its own families', () => {
    using tree = new Tree('plain-host');
    const collecting = new Collecting(tree.root);
    collecting.protocols.add = () => {
      throw new Broken();
    };
    collecting.scan();
    expect(collecting.tables.protocolsFailure).toBe('broken');
    expect([...collecting.connections.indexes()].length).toBe(rowsOf(whole));
  });

  it('has no failure where nothing fails', () => {
    expect(whole.failures).toEqual([]);
    expect(whole.collectors.every(({ success }) => success)).toBe(true);
  });
});

function rowsOf({ families }: Snapshot): number {
  const { samples = [] } = families.find(({ name }) => name === 'peerscope_connections') ?? {};
  return samples.reduce((sum, { value }) => sum + value, 0);
}

it('a family that cannot be counted is left out and reported', () => {
  class HalfBrokenCache extends AsnCache {
    override get entries(): never {
      throw new Broken();
    }
  }
  const snapshot = scan({ cache: new HalfBrokenCache() });
  const left = namesOf(scan({}).families).filter((name) => name !== 'peerscope_asn_cache_entries');
  expect(namesOf(snapshot.families)).toEqual(left);
  expect(snapshot.failures).toEqual(['Cannot count "peerscope_asn_cache_entries": broken']);
  expect(snapshot.collectors.find(({ collector }) => collector === 'asn')?.success).toBe(false);
});

it('a family that cannot be rendered is left out and reported', async () => {
  const { families } = scan({});
  const torn = families.map((family) =>
    family.name === 'peerscope_asn_connections'
      ? {
          ...family,
          samples: [
            {
              get labels(): never {
                throw new Broken();
              },
              value: 1,
            },
          ],
        }
      : family,
  );
  const { parts, failures } = await new PartWriter().write(torn, 'text');
  expect(failures).toEqual([{ collector: 'asn', reason: 'Cannot render "peerscope_asn_connections": broken' }]);
  const others = families.filter(({ name }) => name !== 'peerscope_asn_connections');
  expect(parts.map(({ text }) => text).join('')).toBe(await renderFamilies(others, 'text'));
});

it('no peer is looked up while the own addresses cannot be read', () => {
  const tree = new Tree('plain-host');
  try {
    const first = '25739';
    const path = join(tree.root, first, 'net/fib_trie');
    const local = readFileSync(path);
    rmSync(path);
    const cache = new AsnCache();
    const options = { seriesLimit: 1000, rules: EMPTY_RULES, collectors: COLLECTORS };
    const scrape = new Scrape(new Procfs(tree.root), options, CLOCK, cache);
    scrape.scan(Infinity);
    expect(cache.takeQueries()).toEqual([]);
    writeFileSync(path, local);
    scrape.scan(Infinity);
    const asked = cache.takeQueries();
    const whole = new AsnCache();
    new Scrape(PLAIN_HOST, options, CLOCK, whole).scan(Infinity);
    expect(asked).toEqual(whole.takeQueries());
    expect(asked).not.toEqual([]);
  } finally {
    rmSync(tree.root, { recursive: true });
  }
});
