import { describe, expect, it, test } from 'vitest';
import fc from 'fast-check';
import { Procfs } from '../../src/collect/procfs.ts';
import { EMPTY_RULES } from '../../src/config/config.ts';
import { NO_OWNER } from '../../src/enrich/owner-labels.ts';
import { AcceptQueues } from '../../src/metrics/accept-queues.ts';
import { Scrape } from '../../src/scrape.ts';
import { Tree } from '../support/proc-tree.ts';
import type { Listener } from '../../src/metrics/scan-data.ts';

const MINUTE = 60_000;
const START = 1_700_000_000_000;

const listener = (inode: number, waiting: number, more: Partial<Listener> = {}): Listener => ({
  labels: { ...NO_OWNER, process: 'nginx', workload: 'nginx.service' },
  tenant: '',
  address: '0.0.0.0',
  port: 80,
  inode,
  waiting,
  ...more,
});

/** The seconds by port after the last of scans that are a minute apart, unless `at` has their minutes. */
function secondsAfter(scans: readonly (readonly Listener[])[], at = scans.map((_, minute) => minute)): number[] {
  const queues = new AcceptQueues();
  const results = scans.map((listeners, i) => queues.stalls(listeners, START + (at[i] ?? 0) * MINUTE));
  return (results.at(-1) ?? []).map(({ seconds }) => seconds);
}

describe('stalls', () => {
  it.for<{ name: string; queues: readonly number[]; at?: number[]; expected: number[] }>([
    { name: 'an empty queue', queues: [0, 0, 0], expected: [] },
    { name: 'a queue that stays for half a minute', queues: [3, 3], at: [0, 0.5], expected: [] },
    { name: 'a queue that is first seen', queues: [5], expected: [] },
    { name: 'a queue that stays', queues: [0, 3, 3, 3], expected: [120] },
    { name: 'a queue that only grows', queues: [1, 2, 2, 9], expected: [180] },
    { name: 'a queue that shrinks and grows', queues: [3, 2, 3, 4], expected: [120] },
    { name: 'a queue that has just shrunk', queues: [3, 3, 2], expected: [] },
    { name: 'a queue that was empty in between', queues: [3, 0, 3, 3], expected: [60] },
    { name: 'scans that are five minutes apart', queues: [3, 3], at: [0, 5], expected: [300] },
    { name: 'no scan for six minutes', queues: [3, 3, 3], at: [0, 6, 7], expected: [60] },
    { name: 'a clock that is set back', queues: [3, 3, 3], at: [60, 0, 1], expected: [60] },
    { name: 'a clock that is set forward', queues: [3, 3, 3], at: [0, 60, 61], expected: [60] },
  ])('$name: $queues', ({ queues, at, expected }) => {
    expect(
      secondsAfter(
        queues.map((waiting) => [listener(7, waiting)]),
        at,
      ),
    ).toEqual(expected);
  });

  it('finds one stuck socket among busy ones with the same address and port', () => {
    const busy = [4, 0, 9, 1];
    expect(secondsAfter(busy.map((waiting) => [listener(1, waiting), listener(2, 3), listener(3, waiting)]))).toEqual([
      180,
    ]);
  });

  it('takes a new socket on the same port for another one, and an unknown inode for none', () => {
    expect(secondsAfter([[listener(1, 3)], [listener(2, 3)], [listener(2, 3)]])).toEqual([60]);
    expect(secondsAfter([[listener(0, 3)], [listener(0, 3)]])).toEqual([]);
  });

  it('adds no pods up, and keeps owners and ports apart', () => {
    const pod = (name: string): Listener['labels'] => ({
      ...NO_OWNER,
      process: 'web',
      namespace: 'shop',
      workload: 'web',
      pod: name,
    });
    const scan = [
      listener(1, 1, { labels: pod('web-1') }),
      listener(2, 1, { labels: pod('web-2') }),
      listener(3, 1, { labels: pod('web-2'), port: 81 }),
      listener(4, 1, { address: '::' }),
    ];
    const queues = new AcceptQueues();
    queues.stalls(scan, START);
    expect(queues.stalls(scan, START + MINUTE)).toEqual([
      {
        labels: { process: 'web', namespace: 'shop', workload: 'web' },
        tenant: '',
        address: '0.0.0.0',
        port: 80,
        seconds: 60,
      },
      {
        labels: { process: 'web', namespace: 'shop', workload: 'web' },
        tenant: '',
        address: '0.0.0.0',
        port: 81,
        seconds: 60,
      },
      {
        labels: { process: 'nginx', namespace: '', workload: 'nginx.service' },
        tenant: '',
        address: '::',
        port: 80,
        seconds: 60,
      },
    ]);
  });
});

test('a socket is stalled exactly as long as its queue has neither been empty nor shrunk', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 30 }), (queues) => {
      let since = 0;
      for (const [i, waiting] of queues.entries())
        if (waiting === 0 || (i > 0 && waiting < (queues[i - 1] ?? 0)) || queues[i - 1] === 0) since = i;
      const seconds = queues.at(-1) === 0 ? 0 : (queues.length - 1 - since) * 60;
      expect(secondsAfter(queues.map((waiting) => [listener(7, waiting)]))).toEqual(seconds === 0 ? [] : [seconds]);
    }),
  );
});

test('a scan finds the listeners that accept nothing', () => {
  using tree = new Tree('plain-host');
  // The first listener: state 0A, with the length of the accept queue as its receive queue.
  tree.edit(25_739, 'net/tcp', / 0A 00000000:00000000 /, ' 0A 00000000:00000003 ');
  let now = START;
  const collectors = {
    ...{ processes: true, protocols: true, endpoints: true },
    ...{ asn: true, 'first-seen': true, netlink: true },
  };
  const scrape = new Scrape(
    new Procfs(tree.root),
    { seriesLimit: 1_000, rules: EMPTY_RULES, collectors },
    { now: () => now, monotonic: () => 0 },
    null,
  );
  const valuesNow = (): number[] =>
    scrape
      .scan(Infinity)
      .families.filter(({ name }) => name === 'peerscope_listener_accept_stalled_seconds')
      .flatMap(({ samples }) => samples.map(({ value }) => value));
  expect(valuesNow()).toEqual([]);
  now += MINUTE;
  expect(valuesNow()).toEqual([60]);
});
