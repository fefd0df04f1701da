import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { formatCidr, ipv4, parseCidr } from '../../../src/common/address.ts';
import { renderOrigin, type Answer, type Question } from '../../../src/enrich/asn/cache.ts';
import { cymruProvider, parseReply, type Exchange } from '../../../src/enrich/asn/cymru-whois.ts';
import { bucketOf } from '../../../src/common/network-class.ts';
import { queryOnce, QueryScheduler, type QuerySchedulerOptions } from '../../../src/enrich/asn/query-scheduler.ts';
import { readAnswers, type Provider } from '../../../src/enrich/asn/query-batch.ts';
import type { Timer } from '../../../src/common/clock.ts';
import { SqliteStore } from '../../../src/store/sqlite.ts';
import type { Store } from '../../../src/store/contract.ts';
import type { Cidr, Origin } from '../../../src/model.ts';
import { misbehaviours, startCymruServer } from '../../support/cymru-server.ts';
import { SharedServer } from '../../support/shared-store.ts';

const SECOND = 1_000;
const MINUTE = 60_000;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.parse('2026-09-15T08:00:00Z');
const LEASE = 'asn:1:lock:cymru:whois.example:43';

/** Time that passes only when a test says so. */
class FakeClock implements Timer {
  #elapsed = 0;
  #timers: { readonly at: number; readonly run: () => void }[] = [];

  get timers(): number {
    return this.#timers.length;
  }

  now = (): number => START + Math.round(this.#elapsed);
  monotonic = (): number => this.#elapsed;

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#elapsed + ms, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  async advance(ms: number): Promise<void> {
    const end = this.#elapsed + ms;
    await settled();
    for (;;) {
      const [next] = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#elapsed = Math.max(this.#elapsed, next.at);
      next.run();
      await settled();
    }
    this.#elapsed = end;
  }
}

/** All that needs no time of its own has happened. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await setImmediate();
}

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new SyntaxError(`Cannot read block "${text}"`);
  return parsed;
}

const bucket = (i: number): Cidr => bucketOf(ipv4(0x08000000 + i * 256));
const buckets = (count: number, from = 0): Cidr[] => Array.from({ length: count }, (_, i) => bucket(from + i));

const questionsOf = (tenant: string, asked: readonly Cidr[]): Question[] => asked.map((one) => ({ ...one, tenant }));

const BANNER = 'Bulk mode; whois.example [2026-09-15 08:00:00 +0000]\n';
const row = (asked: Cidr, asn = 64_000): string => {
  const [address = ''] = formatCidr(asked).split('/');
  return `${asn} | ${address} | ${formatCidr(asked)} | US | arin | 1992-12-01 | AS-${asn}, US\n`;
};
const replyOf = (asked: readonly Cidr[], lines: readonly string[]): Exchange => ({
  sent: asked.length,
  reply: parseReply(BANNER + lines.join(''), asked),
});
const announceAll = (asked: readonly Cidr[]): Exchange =>
  replyOf(
    asked,
    asked.map((one) => row(one)),
  );
const fail = (): Exchange => ({ sent: 0, failure: 'Cannot query whois server "whois.example:43": connection refused' });

const origin = (asked: Cidr, changes: Partial<Origin> = {}): Origin => ({
  asns: [64_000],
  name: 'AS-64000',
  asCountry: 'US',
  prefix: formatCidr(asked),
  registry: 'arin',
  registryCountry: 'US',
  allocated: '1992-12-01',
  askedAt: START,
  freshUntil: START + DAY,
  source: 'cymru',
  ...changes,
});

let clock: FakeClock;
let folder: string;
let store: SqliteStore;
let reports: string[];
let delivered: Answer[];
let sessions: { readonly atSeconds: number; readonly asked: readonly string[] }[];

beforeEach(() => {
  clock = new FakeClock();
  folder = mkdtempSync(join(tmpdir(), 'peerscope-questions-'));
  store = openStore();
  reports = [];
  delivered = [];
  sessions = [];
});

afterEach(async () => {
  await store.close();
  rmSync(folder, { recursive: true });
});

function openStore(): SqliteStore {
  return SqliteStore.open({ directory: folder, now: clock.now, report: (message) => void reports.push(message) });
}

type Respond = (asked: readonly Cidr[], signal: AbortSignal) => Exchange | Promise<Exchange>;

function correspondence(
  respond: Respond = announceAll,
  options: Partial<QuerySchedulerOptions> = {},
): QuerySchedulerOptions {
  const provider: Provider = {
    name: 'cymru',
    server: 'whois.example:43',
    query: async (asked, signal) => {
      sessions.push({ atSeconds: clock.monotonic() / SECOND, asked: asked.map(formatCidr) });
      return respond(asked, signal);
    },
  };
  return {
    provider,
    store,
    onAnswers: (answers) => void delivered.push(...answers),
    report: (message) => void reports.push(message),
    clock,
    random: () => 0,
    mayQuery: () => true,
    isUncoordinated: false,
    ...options,
  };
}

const keep = (asked: Cidr, kept: Origin): Promise<void> =>
  store.write([{ key: `asn:1:${formatCidr(asked)}`, text: renderOrigin(kept), keepUntil: kept.askedAt + 30 * DAY }]);
const sessionTimes = (): number[] => sessions.map(({ atSeconds }) => atSeconds);

describe('QueryScheduler', () => {
  it('queries 5 s after the last miss, delivers and stores the answers', async () => {
    const questions = new QueryScheduler(correspondence());
    await questions.query([bucket(0)]);
    await clock.advance(3 * SECOND);
    await questions.query([bucket(1), bucket(0)]);
    await clock.advance(MINUTE);
    expect(sessions).toEqual([{ atSeconds: 8, asked: ['8.0.0.0/24', '8.0.1.0/24'] }]);
    const times = { askedAt: START + 8 * SECOND, freshUntil: START + 8 * SECOND + 0.9 * DAY };
    const expected = [bucket(0), bucket(1)].map((asked) => ({ bucket: asked, origin: origin(asked, times) }));
    expect(delivered).toEqual(expected);
    expect(await readAnswers(store, [bucket(0), bucket(1)], clock.now())).toEqual(expected);
    expect(questions.status()).toEqual({
      provider: 'cymru',
      pending: 0,
      queries: 1,
      queryFailures: 0,
      addressesSent: 2,
      malformedRows: 0,
      breakerOpen: false,
    });
    expect(clock.timers).toBe(0);
  });

  it('drops waiting networks that new rules exclude and queries the rest', async () => {
    const kept = new Set<string>();
    const questions = new QueryScheduler(
      correspondence(announceAll, { mayQuery: (one) => !kept.has(formatCidr(one)) }),
    );
    await questions.query([bucket(0), bucket(1)]);
    kept.add('8.0.0.0/24');
    await clock.advance(MINUTE);
    expect(sessions.map(({ asked }) => asked)).toEqual([['8.0.1.0/24']]);
    expect(questions.status()).toMatchObject({ pending: 0, addressesSent: 1 });
    await questions.query([bucket(2)]);
    kept.add('8.0.2.0/24');
    await clock.advance(MINUTE);
    expect(sessions).toHaveLength(1);
    expect(clock.timers).toBe(0);
  });

  it('waits at most 30 s while new misses arrive', async () => {
    const questions = new QueryScheduler(correspondence());
    for (let i = 0; i < 10; i++) {
      await questions.query([bucket(i)]);
      await clock.advance(4 * SECOND);
    }
    expect(sessions[0]).toEqual({ atSeconds: 30, asked: buckets(8).map(formatCidr) });
  });

  it('delays the first session by up to 5 s so that exporters spread out', async () => {
    const questions = new QueryScheduler(correspondence(announceAll, { random: () => 0.5 }));
    await questions.query([bucket(0)]);
    await clock.advance(MINUTE);
    await questions.query([bucket(1)]);
    await clock.advance(MINUTE);
    expect(sessionTimes()).toEqual([7.5, 65]);
  });

  it('queries at most 1,000 networks per session, 10 s apart', async () => {
    const questions = new QueryScheduler(correspondence());
    await questions.query(buckets(2_500));
    expect(questions.status().pending).toBe(2_500);
    await clock.advance(MINUTE);
    expect(sessions.map(({ atSeconds, asked }) => [atSeconds, asked.length])).toEqual([
      [5, 1_000],
      [15, 1_000],
      [25, 500],
    ]);
    expect(delivered).toHaveLength(2_500);
  });

  it('returns fresh stored answers at once without a query', async () => {
    await keep(bucket(0), origin(bucket(0)));
    const questions = new QueryScheduler(correspondence());
    await questions.query([bucket(0)]);
    expect(delivered).toEqual([{ bucket: bucket(0), origin: origin(bucket(0)) }]);
    await clock.advance(MINUTE);
    expect(sessions).toEqual([]);
  });

  it('returns stale stored answers at once and renews them', async () => {
    const old = origin(bucket(0), { askedAt: START - 2 * DAY, freshUntil: START - DAY });
    await keep(bucket(0), old);
    const questions = new QueryScheduler(correspondence());
    await questions.query([bucket(0)]);
    expect(delivered).toEqual([{ bucket: bucket(0), origin: old }]);
    await clock.advance(5 * SECOND);
    expect(delivered.at(-1)?.origin.askedAt).toBe(START + 5 * SECOND);
  });

  it('keeps the stored primary ASN with its current name', async () => {
    await keep(bucket(0), origin(bucket(0), { asns: [64_001], name: 'OLD NAME', freshUntil: START }));
    const questions = new QueryScheduler(
      correspondence((asked) =>
        replyOf(
          asked,
          asked.flatMap((one) => [row(one, 64_000), row(one, 64_001)]),
        ),
      ),
    );
    await questions.query([bucket(0)]);
    await clock.advance(5 * SECOND);
    expect(delivered.at(-1)?.origin).toMatchObject({ asns: [64_001, 64_000], name: 'AS-64001' });
  });

  it('caches an unannounced address for 6 h', async () => {
    const questions = new QueryScheduler(
      correspondence((asked) => replyOf(asked, ['NA | 8.0.0.0 | NA | US | arin | 1992-12-01 | NA\n'])),
    );
    await questions.query([bucket(0)]);
    await clock.advance(5 * SECOND);
    expect(delivered.map(({ origin: { asns, askedAt, freshUntil } }) => [asns, freshUntil - askedAt])).toEqual([
      [[], 6 * HOUR],
    ]);
  });

  it('retries failed sessions after 1 min, doubling to 1 h, then queries all waiting networks', async () => {
    let works = false;
    const questions = new QueryScheduler(
      correspondence((asked) => (works ? announceAll(asked) : fail()), { random: () => 0.999_999 }),
    );
    await questions.query([bucket(0)]);
    await clock.advance(4 * HOUR);
    const times = sessionTimes();
    const minutes = times.slice(1).map((time, i) => Math.round((time - (times[i] ?? 0)) / 60));
    expect(minutes).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
    expect(questions.status()).toMatchObject({
      pending: 1,
      queries: 9,
      queryFailures: 9,
      addressesSent: 0,
      breakerOpen: true,
    });
    expect(reports).toEqual(new Array(9).fill('Cannot query whois server "whois.example:43": connection refused'));
    expect(delivered).toEqual([]);
    works = true;
    await questions.query([bucket(1)]);
    await clock.advance(HOUR);
    expect(sessions.at(-1)?.asked).toEqual(['8.0.0.0/24', '8.0.1.0/24']);
    expect(questions.status()).toMatchObject({ pending: 0, queryFailures: 9, breakerOpen: false });
  });

  it('never retries before 10 s, regardless of jitter', async () => {
    const questions = new QueryScheduler(correspondence(fail));
    await questions.query([bucket(0)]);
    await clock.advance(30 * SECOND);
    expect(sessionTimes()).toEqual([5, 15, 25]);
  });

  it('closes the breaker only after a successful session', async () => {
    const questions = new QueryScheduler(correspondence(fail));
    await questions.query([bucket(0)]);
    await clock.advance(5 * SECOND);
    await keep(bucket(0), origin(bucket(0)));
    await clock.advance(10 * SECOND);
    expect(questions.status()).toMatchObject({ pending: 0, queries: 1, breakerOpen: true });
  });

  it('retries unanswered networks three times, then pauses them for an hour', async () => {
    const bucketZero = bucket(0);
    const questions = new QueryScheduler(
      correspondence((asked) =>
        replyOf(
          asked,
          asked.filter((one) => formatCidr(one) !== '8.0.0.0/24').map((one) => row(one)),
        ),
      ),
    );
    await questions.query([bucketZero, bucket(1)]);
    await clock.advance(30 * MINUTE);
    await questions.query([bucketZero]);
    await clock.advance(MINUTE);
    expect(sessions.map(({ atSeconds, asked }) => [atSeconds, asked])).toEqual([
      [5, ['8.0.0.0/24', '8.0.1.0/24']],
      [15, ['8.0.0.0/24']],
      [25, ['8.0.0.0/24']],
      [35, ['8.0.0.0/24']],
    ]);
    expect(reports).toEqual(['Cannot resolve 1 networks: "whois.example:43" did not answer 4 queries']);
    await clock.advance(HOUR);
    await questions.query([bucketZero]);
    await clock.advance(5 * SECOND);
    expect(sessions.at(-1)?.asked).toEqual(['8.0.0.0/24']);
    expect(await readAnswers(store, [bucketZero], clock.now())).toEqual([]);
  });

  it('pauses rejected networks for a day', async () => {
    const questions = new QueryScheduler(
      correspondence((asked) => replyOf(asked, ['Error: no ASN or IP match on line 3.\n'])),
    );
    await questions.query([bucket(0)]);
    await clock.advance(23 * HOUR);
    await questions.query([bucket(0)]);
    await clock.advance(30 * MINUTE);
    expect(sessionTimes()).toEqual([5]);
    expect({ delivered, pending: questions.status().pending }).toEqual({ delivered: [], pending: 0 });
    expect(reports).toEqual(['Cannot resolve 1 networks: "whois.example:43" rejected them']);
    await clock.advance(HOUR);
    await questions.query([bucket(0)]);
    await clock.advance(MINUTE);
    expect(sessions).toHaveLength(2);
  });

  it('counts malformed lines and rows that were not queried', async () => {
    const questions = new QueryScheduler(
      correspondence((asked) => replyOf(asked, [row(bucket(0)), row(bucket(7), 666), 'Warning: maintenance\n'])),
    );
    await questions.query([bucket(0)]);
    await clock.advance(5 * SECOND);
    expect(questions.status().malformedRows).toBe(2);
    expect(delivered.map((answer) => formatCidr(answer.bucket))).toEqual(['8.0.0.0/24']);
  });

  it('counts malformed lines of a failed reply', async () => {
    const failure = 'Cannot query whois server "whois.example:43": the reply contains no answer';
    const questions = new QueryScheduler(correspondence(() => ({ sent: 1, failure, malformed: 3 })));
    await questions.query([bucket(0)]);
    await clock.advance(5 * SECOND);
    expect(questions.status()).toMatchObject({ queryFailures: 1, malformedRows: 3 });
  });

  it('queues 50,000 networks and reports how many it drops', async () => {
    const questions = new QueryScheduler(correspondence(announceAll, { store: null }));
    await questions.query(buckets(50_010));
    expect(questions.status().pending).toBe(50_000);
    expect(reports).toEqual(['Cannot queue 10 ASN queries: 50000 are already waiting']);
    await clock.advance(20 * SECOND);
    await questions.query(buckets(10, 50_000));
    expect(questions.status().pending).toBeLessThan(50_000);
    expect(reports).toHaveLength(1);
  });

  it.each<{ title: string; victim: Question[]; first: readonly Cidr[] }>([
    { title: 'another network', victim: questionsOf('1000', [bucket(1)]), first: [bucket(1)] },
    { title: 'a network that the flood has too', victim: questionsOf('1000', [bucket(9_999)]), first: [bucket(9_999)] },
    { title: 'as many networks', victim: questionsOf('1000', buckets(500, 30_000)), first: buckets(500, 30_000) },
  ])('queries $title of a user in the next session while another one floods', async ({ victim, first }) => {
    const questions = new QueryScheduler(correspondence(announceAll, { store: null }));
    await questions.query(questionsOf('65534', buckets(17_000, 5_000)));
    await clock.advance(12 * SECOND);
    await questions.query(questionsOf('65534', buckets(17_000, 22_000)));
    await questions.query(victim);
    const before = sessions.length;
    await clock.advance(10 * SECOND);
    expect(new Set(sessions[before]?.asked)).toEqual(
      new Set([...first.map(formatCidr), ...(sessions[before]?.asked ?? [])]),
    );
    expect(sessions[before]?.asked).toHaveLength(1_000);
  });

  it('drops networks of the user with the most when 50,000 are waiting', async () => {
    const questions = new QueryScheduler(correspondence(announceAll, { store: null }));
    await questions.query(questionsOf('65534', buckets(50_000, 5_000)));
    await questions.query(questionsOf('1000', buckets(10)));
    expect(questions.status().pending).toBe(50_000);
    expect(reports).toEqual(['Cannot queue 10 ASN queries: 50000 are already waiting']);
    await clock.advance(6 * SECOND);
    expect(sessions[0]?.asked).toEqual(expect.arrayContaining(buckets(10).map(formatCidr)));
  });

  it('works without a store', async () => {
    const questions = new QueryScheduler(correspondence(announceAll, { store: null }));
    await questions.query(buckets(1_500));
    await clock.advance(MINUTE);
    expect(sessionTimes()).toEqual([5, 15]);
    expect(delivered).toHaveLength(1_500);
  });

  it('treats a provider that throws as failed', async () => {
    const questions = new QueryScheduler(
      correspondence(() => {
        throw new RangeError('Cannot query "10.0.0.0/24": not a public network');
      }),
    );
    await questions.query([bucket(0)]);
    await clock.advance(5 * SECOND);
    expect(reports).toEqual(['Cannot query "10.0.0.0/24": not a public network']);
    expect(questions.status().breakerOpen).toBe(true);
  });

  it('does not query while another exporter holds the lease, and reads its stored answers', async () => {
    const other = openStore();
    await other.acquire(LEASE, 65 * SECOND);
    const questions = new QueryScheduler(correspondence());
    await questions.query([bucket(0)]);
    await clock.advance(20 * SECOND);
    expect({ sessions, pending: questions.status().pending }).toEqual({ sessions: [], pending: 1 });
    await keep(bucket(0), origin(bucket(0)));
    await clock.advance(SECOND);
    expect({ sessions, pending: questions.status().pending, delivered: delivered.length }).toEqual({
      sessions: [],
      pending: 0,
      delivered: 1,
    });
    await other.close();
  });

  it('queries when the lease of a dead exporter expires', async () => {
    const other = openStore();
    await other.acquire(LEASE, 65 * SECOND);
    await other.close();
    const questions = new QueryScheduler(correspondence());
    await questions.query([bucket(0)]);
    await clock.advance(2 * MINUTE);
    expect(sessionTimes()).toEqual([65]);
  });

  it('queries without the lease if others hold it for 10 to 20 minutes and answer nothing', async () => {
    const other = openStore();
    await other.acquire(LEASE, 65 * SECOND);
    const questions = new QueryScheduler(correspondence());
    await questions.query(buckets(1_500));
    for (let waited = 0; waited < 45 * MINUTE; waited += 30 * SECOND) {
      await other.renew(LEASE, 65 * SECOND);
      await clock.advance(30 * SECOND);
    }
    const [first = 0, second = 0] = sessionTimes();
    expect(sessions).toHaveLength(2);
    for (const waited of [first, second - first]) {
      expect(waited).toBeGreaterThanOrEqual(600);
      expect(waited).toBeLessThan(1_300);
    }
    expect(reports[0]).toBe('Cannot get the lease of the store: others have held it for more than 10 minutes');
    await other.close();
  });

  it('releases the lease if all networks were answered meanwhile', async () => {
    const questions = new QueryScheduler(correspondence());
    await questions.query([bucket(0)]);
    await keep(bucket(0), origin(bucket(0)));
    await clock.advance(5 * SECOND);
    expect({ sessions, delivered: delivered.length }).toEqual({ sessions: [], delivered: 1 });
    expect(await store.acquire(LEASE, 65 * SECOND)).toBe(0);
  });

  it('aborts its session on close and shortens the lease to the spacing', async () => {
    const questions = new QueryScheduler(
      correspondence(
        (_, signal) =>
          new Promise((resolve) => signal.addEventListener('abort', () => resolve({ sent: 1, failure: 'stopped' }))),
      ),
    );
    await questions.query([bucket(0)]);
    await clock.advance(6 * SECOND);
    expect(sessions).toHaveLength(1);
    await questions.close();
    expect(await store.acquire(LEASE, 65 * SECOND)).toBe(10 * SECOND);
    await questions.query([bucket(1)]);
    await clock.advance(HOUR);
    expect({ sessions: sessions.length, timers: clock.timers, reports }).toEqual({
      sessions: 1,
      timers: 0,
      reports: [],
    });
  });

  it('runs one session at a time, at most 1,000 networks and 10 s apart, for any provider', async () => {
    const step = fc.record({
      from: fc.nat(3_000),
      count: fc.nat(1_500),
      waitSeconds: fc.nat(40),
      outcome: fc.constantFrom<Respond>(announceAll, fail, (asked) =>
        replyOf(
          asked,
          asked.slice(1).map((one) => row(one)),
        ),
      ),
      lastsSeconds: fc.nat(60),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
        clock = new FakeClock();
        const held: { begin: number; end: number; asked: number }[] = [];
        let current = steps[0];
        const questions = new QueryScheduler(
          correspondence(
            async (asked, signal) => {
              const session = { begin: clock.monotonic(), end: Infinity, asked: asked.length };
              held.push(session);
              const { outcome = fail, lastsSeconds = 0 } = current ?? {};
              await new Promise<void>((resolve) => clock.after(lastsSeconds * SECOND, resolve));
              session.end = clock.monotonic();
              return outcome(asked, signal);
            },
            { store: null },
          ),
        );
        for (current of steps) {
          await questions.query(buckets(current.count, current.from));
          await clock.advance(current.waitSeconds * SECOND);
        }
        for (const [i, { begin, asked }] of held.entries()) {
          expect(asked).toBeLessThanOrEqual(1_000);
          if (i > 0) expect(begin - (held[i - 1]?.end ?? Infinity)).toBeGreaterThanOrEqual(10 * SECOND);
        }
      }),
      { numRuns: 20 },
    );
  }, 60_000);
});

describe('queries of a cluster', () => {
  const QUEUE = 'asn:1:queue:cymru:whois.example:43';
  let shared: SharedServer;
  /** What each exporter learned, in the order in which they were started. */
  let learned: string[][];

  beforeEach(() => {
    shared = new SharedServer(clock);
    learned = [];
  });

  function startExporter(respond: Respond = announceAll, options: Partial<QuerySchedulerOptions> = {}): QueryScheduler {
    const own: string[] = [];
    learned.push(own);
    const deliver = (answers: readonly Answer[]): void =>
      void own.push(...answers.map((one) => formatCidr(one.bucket)));
    return new QueryScheduler(correspondence(respond, { store: shared.connect(), onAnswers: deliver, ...options }));
  }

  it('are sent by the lease holder, and each exporter receives only its own answers', async () => {
    const [one, other] = [startExporter(), startExporter()];
    await other.query(buckets(2, 1));
    await clock.advance(SECOND);
    await one.query(buckets(2, 0));
    await clock.advance(MINUTE);
    expect(sessions).toEqual([{ atSeconds: 5, asked: ['8.0.1.0/24', '8.0.2.0/24', '8.0.0.0/24'] }]);
    expect(learned).toEqual([
      ['8.0.0.0/24', '8.0.1.0/24'],
      ['8.0.1.0/24', '8.0.2.0/24'],
    ]);
    expect([one, other].map((exporter) => exporter.status().pending)).toEqual([0, 0]);
    expect(shared.queues.get(QUEUE)?.size).toBe(0);
  });

  it('are sent once each, at most 1,000 per session and 10 s apart', async () => {
    const exporters = [0, 500, 1_000].map((from) => ({ from, exporter: startExporter() }));
    for (const { from, exporter } of exporters) await exporter.query(buckets(1_500, from));
    await clock.advance(2 * MINUTE);
    const asked = sessions.flatMap((session) => session.asked);
    expect(asked.toSorted()).toEqual(buckets(2_500).map(formatCidr).sort());
    expect(sessions.map((session) => session.asked.length).sort()).toEqual([1_000, 1_000, 500]);
    for (const [i, time] of sessionTimes().entries())
      if (i > 0) expect(time - (sessionTimes()[i - 1] ?? 0)).toBeGreaterThanOrEqual(10);
    expect(learned.map((own) => new Set(own).size)).toEqual([1_500, 1_500, 1_500]);
  });

  it('are read from the store in small batches with backoff while another exporter queries', async () => {
    const own = shared.connect();
    const looks: number[] = [];
    const read: Store['read'] = (keys) => {
      looks.push(keys.length);
      return own.read(keys);
    };
    const exporter = startExporter(announceAll, { store: { ...own, read } });
    await exporter.query(buckets(1_000));
    await shared.connect().acquire(LEASE, 10 * MINUTE);
    await clock.advance(5 * SECOND);
    looks.length = 0;
    await clock.advance(2 * MINUTE);
    expect(new Set(looks)).toEqual(new Set([200]));
    expect(looks.length).toBeLessThan(20);
    expect(sessions).toEqual([]);
    await clock.advance(10 * MINUTE);
    expect(exporter.status().pending).toBe(0);
  });

  it('outlive the exporter that queued them', async () => {
    const killed = startExporter(() => new Promise(() => undefined));
    await killed.query(buckets(2));
    await clock.advance(6 * SECOND);
    const next = startExporter();
    await next.query([bucket(7)]);
    await clock.advance(2 * MINUTE);
    expect(sessions.map(({ atSeconds, asked }) => [atSeconds, asked.length])).toEqual([
      [5, 2],
      [70, 3],
    ]);
    expect(learned[1]).toEqual(['8.0.7.0/24']);
  });

  it('of others are not sent if excluded here or not public', async () => {
    await shared
      .connect()
      .shared?.enqueue(QUEUE, [
        ...['10.0.0.0/24', '8.8.8.8/32', '8.0.0.0/8', '2002:a00::/48', '2002:808:808::/48', 'x; DROP', ''],
        ...['8.0.1.0/24', '2606:4700::/48', '9.9.9.0/24'],
      ]);
    const exporter = startExporter(announceAll, { mayQuery: (one) => formatCidr(one) !== '9.9.9.0/24' });
    await exporter.query([bucket(0)]);
    await clock.advance(MINUTE);
    expect(sessions.map(({ asked }) => asked)).toEqual([['8.0.0.0/24', '8.0.1.0/24', '2606:4700::/48']]);
    expect([...(shared.queues.get(QUEUE)?.keys() ?? [])]).toEqual(['9.9.9.0/24']);
  });

  it('of an exporter are at least half of its sessions, whatever is in the queue', async () => {
    await shared.connect().shared?.enqueue(QUEUE, buckets(20_000, 10_000).map(formatCidr));
    const exporter = startExporter();
    await exporter.query(buckets(700));
    await clock.advance(20 * SECOND);
    const own = new Set(buckets(700).map(formatCidr));
    expect(sessions.map(({ asked }) => asked.filter((one) => own.has(one)).length)).toEqual([550, 150]);
    expect(sessions.map(({ asked }) => asked.length)).toEqual([1_000, 1_000]);
  });

  it('of one tenant do not fill the queue, and those of others are ahead of them', async () => {
    const [flooded, other] = [startExporter(), startExporter()];
    await other.query(buckets(1));
    await flooded.query(questionsOf('65534', buckets(17_000, 10_000)));
    await clock.advance(12 * SECOND);
    expect(shared.queues.get(QUEUE)?.size).toBeLessThanOrEqual(2_000);
    await flooded.query(questionsOf('1000', [bucket(7)]));
    await flooded.close();
    const before = sessions.length;
    await other.query(buckets(2_000, 3_000));
    await clock.advance(10 * SECOND);
    expect(sessions[before]?.asked).toContain('8.0.7.0/24');
  });

  it.each(['9999', '4', '4 99999999999999', '4 -1', '4 1', 'x'])(
    'are sent although another client stored %j as their tries',
    async (text) => {
      shared.texts.set('asn:1:tries:8.0.0.0/24', { key: '', text, keepUntil: Infinity });
      await startExporter().query([bucket(0)]);
      await clock.advance(MINUTE);
      expect(sessions.map(({ asked }) => asked)).toEqual([['8.0.0.0/24']]);
    },
  );

  it('share one breaker', async () => {
    let works = false;
    const respond: Respond = (asked) => (works ? announceAll(asked) : fail());
    const exporters = [
      startExporter(respond, { random: () => 0.999 }),
      startExporter(respond, { random: () => 0.999 }),
    ];
    for (const exporter of exporters) await exporter.query([bucket(0)]);
    await clock.advance(10 * MINUTE);
    const times = sessionTimes();
    const gaps = times.slice(1).map((time, i) => Math.round((time - (times[i] ?? 0)) / 60));
    expect(gaps).toEqual([1, 2, 4]);
    expect(exporters.map((exporter) => exporter.status().breakerOpen)).toEqual([true, true]);
    expect(exporters.reduce((sum, exporter) => sum + exporter.status().queries, 0)).toBe(4);
    works = true;
    await clock.advance(10 * MINUTE);
    expect(sessions).toHaveLength(5);
    expect(exporters.map((exporter) => exporter.status())).toMatchObject([
      { pending: 0, breakerOpen: false },
      { pending: 0, breakerOpen: false },
    ]);
  });

  it('without an answer are sent four times by the cluster, then paused', async () => {
    const silent: Respond = (asked) =>
      replyOf(
        asked,
        asked.slice(1).map((one) => row(one)),
      );
    const exporters = [startExporter(silent), startExporter(silent), startExporter(silent)];
    for (const exporter of exporters) await exporter.query(buckets(2));
    await clock.advance(30 * MINUTE);
    expect(sessions.filter(({ asked }) => asked.includes('8.0.0.0/24'))).toHaveLength(4);
    expect(reports).toEqual(['Cannot resolve 1 networks: "whois.example:43" did not answer 4 queries']);
    expect(exporters.map((exporter) => exporter.status().pending)).toEqual([0, 0, 0]);
    expect(shared.queues.get(QUEUE)?.size).toBe(0);
  });

  it('are sent by each exporter while the store is down, after up to two minutes', async () => {
    shared.gone = true;
    const exporters = [0.1, 0.5, 0.9].map((random) => startExporter(announceAll, { random: () => random }));
    for (const exporter of exporters) await exporter.query([bucket(0)]);
    await clock.advance(3 * MINUTE);
    expect(sessionTimes().map(Math.round)).toEqual([18, 68, 118]);
    expect(learned).toEqual([['8.0.0.0/24'], ['8.0.0.0/24'], ['8.0.0.0/24']]);
  });

  it('of others are not sent while the store is not writable', async () => {
    await shared.connect().shared?.enqueue(QUEUE, buckets(3, 7).map(formatCidr));
    shared.refusesWrites = true;
    const exporters = [0.1, 0.5].map((random) => startExporter(announceAll, { random: () => random }));
    for (const [i, exporter] of exporters.entries()) await exporter.query([bucket(i)]);
    await clock.advance(3 * MINUTE);
    expect(sessions.map(({ asked }) => asked)).toEqual([['8.0.0.0/24'], ['8.0.1.0/24']]);
  });

  it('stop waiting when the store recovers', async () => {
    shared.gone = true;
    const exporter = startExporter(announceAll, { random: () => 0.9 });
    await exporter.query([bucket(0)]);
    await clock.advance(20 * SECOND);
    shared.gone = false;
    await clock.advance(2 * SECOND);
    expect(sessions).toHaveLength(1);
  });

  it('restore answers and waiting networks, and keep newer stored answers', async () => {
    const exporter = startExporter();
    await exporter.query([bucket(5)]);
    shared.queues.clear();
    const [old, fresh] = [origin(bucket(1)), origin(bucket(0), { askedAt: START + HOUR, freshUntil: START + DAY })];
    const other = startExporter();
    await other.restore([{ bucket: bucket(0), origin: fresh }]);
    await exporter.restore([
      { bucket: bucket(0), origin: origin(bucket(0)) },
      { bucket: bucket(1), origin: old },
    ]);
    expect(await readAnswers(shared.connect(), buckets(2), START)).toEqual([
      { bucket: bucket(0), origin: fresh },
      { bucket: bucket(1), origin: old },
    ]);
    expect([...(shared.queues.get(QUEUE)?.keys() ?? [])]).toEqual(['8.0.5.0/24']);
    await exporter.close();
  });

  it('of one-shot commands are independent and fail while the breaker is open', async () => {
    await startExporter().query([bucket(1)]);
    const never = new AbortController().signal;
    expect(await queryOnce([bucket(0)], correspondence(announceAll, { store: shared.connect() }), never)).toBeNull();
    expect(sessions.map(({ asked }) => asked)).toEqual([['8.0.0.0/24']]);
    shared.breakers.set('asn:1:breaker:cymru:whois.example:43', { failures: 1, until: 30 * SECOND });
    expect(await queryOnce([bucket(2)], correspondence(announceAll, { store: shared.connect() }), never)).toBe(
      'Cannot query "whois.example:43": the last query failed, next attempt in 30 s',
    );
  });
});

describe('queries of a cluster without a shared store', () => {
  it('are sent ten minutes apart, the first after up to two minutes', async () => {
    const questions = new QueryScheduler(correspondence(announceAll, { isUncoordinated: true, random: () => 0.5 }));
    await questions.query(buckets(1_500));
    await clock.advance(HOUR);
    expect(sessions.map(({ atSeconds, asked }) => [atSeconds, asked.length])).toEqual([
      [65, 1_000],
      [665, 500],
    ]);
    await questions.query([bucket(2_000)]);
    await clock.advance(HOUR);
    expect(sessionTimes().at(-1)).toBe(3_605);
  });

  it('stay ten minutes apart after a restart and after failures', async () => {
    for (const respond of [announceAll, fail]) {
      const first = new QueryScheduler(correspondence(respond, { isUncoordinated: true }));
      await first.query([bucket(sessions.length)]);
      await clock.advance(10 * SECOND);
      await first.close();
      const second = new QueryScheduler(correspondence(announceAll, { isUncoordinated: true }));
      await second.query([bucket(9)]);
      await clock.advance(HOUR);
      await second.close();
      await store.write([{ key: `asn:1:${formatCidr(bucket(9))}`, text: '', keepUntil: clock.now() + DAY }]);
    }
    expect(sessionTimes()).toEqual([5, 605, 3_615, 4_215]);
  });
});

describe('queryOnce', () => {
  const never = new AbortController().signal;

  it('queries networks without a fresh stored answer', async () => {
    await keep(bucket(0), origin(bucket(0)));
    expect(await queryOnce(buckets(3), correspondence(), never)).toBeNull();
    expect(sessions).toEqual([{ atSeconds: 0, asked: ['8.0.1.0/24', '8.0.2.0/24'] }]);
    expect(delivered.map((answer) => formatCidr(answer.bucket))).toEqual(['8.0.0.0/24', '8.0.1.0/24', '8.0.2.0/24']);
  });

  it('waits 10 s between its sessions, with and without a store', async () => {
    for (const options of [{}, { store: null }]) {
      sessions = [];
      const from = clock.monotonic() / SECOND;
      const asked = queryOnce(
        buckets(1_500, options.store === null ? 5_000 : 0),
        correspondence(announceAll, options),
        never,
      );
      await clock.advance(MINUTE);
      expect(await asked).toBeNull();
      expect(sessionTimes()).toEqual([from, from + 10]);
    }
  });

  it('waits 10 s after the session of another exporter and queries the rest', async () => {
    await queryOnce(buckets(1), correspondence(), never);
    await clock.advance(4 * SECOND);
    const asked = queryOnce(buckets(2), correspondence(), never);
    await clock.advance(MINUTE);
    expect(await asked).toBeNull();
    expect(sessions).toEqual([
      { atSeconds: 0, asked: ['8.0.0.0/24'] },
      { atSeconds: 10, asked: ['8.0.1.0/24'] },
    ]);
  });

  it.each<{ name: string; respond: Respond; expected: string }>([
    {
      name: 'the session fails',
      respond: fail,
      expected: 'Cannot query whois server "whois.example:43": connection refused',
    },
    {
      name: 'some are not answered',
      respond: (asked) => replyOf(asked, [row(bucket(0))]),
      expected: 'Cannot resolve 2 of 3 networks: "whois.example:43" did not answer',
    },
  ])('returns the reason if $name', async ({ respond, expected }) => {
    expect(await queryOnce(buckets(3), correspondence(respond), never)).toBe(expected);
  });

  it('gives up if others keep holding the lease', async () => {
    const other = openStore();
    await other.acquire(LEASE, 65 * SECOND);
    const asked = queryOnce(buckets(1), correspondence(), never);
    for (let second = 0; second < 90; second += 5) {
      await other.renew(LEASE, 65 * SECOND);
      await clock.advance(5 * SECOND);
    }
    await other.close();
    expect(await asked).toBe('Cannot query "whois.example:43": another peerscope is querying it');
    expect(sessions).toEqual([]);
  });

  it('stops waiting on abort', async () => {
    await store.acquire(LEASE, 65 * SECOND);
    const stop = new AbortController();
    const asked = queryOnce(buckets(1), correspondence(), stop.signal);
    await settled();
    stop.abort();
    expect(await asked).toBe('Cannot query "whois.example:43": another peerscope is querying it');
    expect({ sessions, timers: clock.timers }).toEqual({ sessions: [], timers: 0 });
  });
});

describe('queries of several exporters to a real server', { timeout: 60_000 }, () => {
  const asked = ['74.125.225.0/24', '62.239.237.0/24', '2a00:2381:ffff::/48', '216.169.31.0/24'].map(cidr);

  it('share one SQLite file: each bucket is queried once', async () => {
    const server = await startCymruServer();
    const learnt = [new Set<string>(), new Set<string>()];
    const stores = [openStore(), openStore()];
    const exporters = learnt.map(
      (known, i) =>
        new QueryScheduler({
          ...correspondence(),
          provider: cymruProvider(server),
          store: stores[i] ?? null,
          onAnswers: (answers) => answers.forEach((answer) => known.add(formatCidr(answer.bucket))),
        }),
    );
    await Promise.all([exporters[0]?.query(asked.slice(0, 3)), exporters[1]?.query(asked.slice(1))]);
    await vi.waitFor(
      async () => {
        await clock.advance(SECOND);
        expect(learnt.map((known) => known.size)).toEqual([3, 3]);
      },
      { timeout: 30_000, interval: 10 },
    );
    expect([...server.asked].sort()).toEqual(['216.169.31.0', '2a00:2381:ffff::', '62.239.237.0', '74.125.225.0']);
    expect(server.requests).toHaveLength(2);
    for (const exporter of exporters) await exporter.close();
    for (const one of stores) await one.close();
    await server.close();
  });

  it('store nothing of a failed session and recover with the server', async () => {
    const server = await startCymruServer();
    server.behaviour = misbehaviours.resets;
    const questions = new QueryScheduler({ ...correspondence(), provider: cymruProvider(server) });
    await questions.query(asked);
    await clock.advance(5 * SECOND);
    await vi.waitFor(() => expect(questions.status().queryFailures).toBe(1), { timeout: 30_000, interval: 10 });
    expect(await readAnswers(store, asked, clock.now())).toEqual([]);
    expect(questions.status()).toMatchObject({ pending: 4, addressesSent: 4, breakerOpen: true });
    server.behaviour = (socket, reply) => socket.end(reply);
    await vi.waitFor(
      async () => {
        await clock.advance(SECOND);
        expect(questions.status()).toMatchObject({ pending: 0, addressesSent: 8, breakerOpen: false });
      },
      { timeout: 30_000, interval: 10 },
    );
    expect((await readAnswers(store, asked, clock.now())).map(({ origin: { asns } }) => asns[0])).toEqual([
      15169, 2856, 2856, 12119,
    ]);
    await questions.close();
    await server.close();
  });
});
