import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { ipv4 } from '../../../src/common/address.ts';
import { bucketOf } from '../../../src/common/network-class.ts';
import { AsnCache, type Answer } from '../../../src/enrich/asn/cache.ts';
import type { Address, Origin } from '../../../src/model.ts';

const NOW = Date.parse('2026-09-15T08:00:00Z');
const CAPACITY = 50_000;
const LOOKUPS = 100_000;
const MOST_GROWTH = 2 * 2 ** 20;

const ORIGIN: Origin = {
  asns: [64_500],
  name: 'EXAMPLE',
  asCountry: 'US',
  prefix: null,
  registry: null,
  registryCountry: null,
  allocated: null,
  askedAt: NOW,
  freshUntil: NOW + 86_400_000,
  source: 'cymru',
};

const host = (i: number): Address => ipv4(0x08000000 + i * 256);
const answer = (i: number): Answer => ({ bucket: bucketOf(host(i)), origin: ORIGIN });

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function usedBytes(): number {
  collect();
  return getHeapStatistics().used_heap_size;
}

it.each([
  { networks: 2_000, evicted: 0, of: 'few networks' },
  { networks: CAPACITY, evicted: 0, of: 'as many networks as it holds' },
  { networks: CAPACITY, evicted: 10, of: 'more networks than it holds' },
])('lookups of $of take no memory that stays', ({ networks, evicted }) => {
  const cache = new AsnCache();
  cache.accept(Array.from({ length: networks + evicted }, (_, i) => answer(i)));
  const lookUp = (times: number): void => {
    for (let i = 0; i < times; i++) cache.lookup(host(evicted + (i % networks)), NOW);
  };
  // The table of the map reaches its size.
  lookUp(2 * networks);
  const before = usedBytes();
  lookUp(LOOKUPS);
  expect(usedBytes() - before).toBeLessThan(MOST_GROWTH);
  expect(cache.hits).toBe(cache.lookups);
});

it('an answer that is forgotten is released', () => {
  const cache = new AsnCache();
  cache.accept(Array.from({ length: 100 }, (_, i) => answer(i)));
  const before = usedBytes();
  cache.accept(Array.from({ length: 20_000 }, (_, i) => answer(100 + i)));
  cache.forget(Array.from({ length: 20_000 }, (_, i) => bucketOf(host(100 + i))));
  expect(usedBytes() - before).toBeLessThan(MOST_GROWTH);
  expect(cache.entries).toBe(100);
});
