import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { formatCidr, ipv4, parseCidr } from '../../../src/common/address.ts';
import { renderOrigin, type Answer } from '../../../src/enrich/asn/cache.ts';
import { cymruProvider, parseReply, type Exchange } from '../../../src/enrich/asn/cymru-whois.ts';
import { bucketOf } from '../../../src/common/network-class.ts';
import { askOnce, Questions, type QuestionsOptions } from '../../../src/enrich/asn/query-scheduler.ts';
import { recall, type Provider } from '../../../src/enrich/asn/query-batch.ts';
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
const fail = (): Exchange => ({ sent: 0, failure: 'Cannot ask whois server "whois.example:43": ECONNREFUSED' });

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
  return SqliteStore.open({ folder, now: clock.now, report: (message) => void reports.push(message) });
}

type Respond = (asked: readonly Cidr[], signal: AbortSignal) => Exchange | Promise<Exchange>;

function correspondence(respond: Respond = announceAll, options: Partial<QuestionsOptions> = {}): QuestionsOptions {
  const provider: Provider = {
    name: 'cymru',
    server: 'whois.example:43',
    ask: async (asked, signal) => {
      sessions.push({ atSeconds: clock.monotonic() / SECOND, asked: asked.map(formatCidr) });
      return respond(asked, signal);
    },
  };
  return {
    provider,
    store,
    deliver: (answers) => void delivered.push(...answers),
    report: (message) => void reports.push(message),
    clock,
    random: () => 0,
    mayAsk: () => true,
    isUnshared: false,
    ...options,
  };
}

const keep = (asked: Cidr, kept: Origin): Promise<void> =>
  store.write([{ key: `asn:1:${formatCidr(asked)}`, text: renderOrigin(kept), keepUntil: kept.askedAt + 30 * DAY }]);
const sessionTimes = (): number[] => sessions.map(({ atSeconds }) => atSeconds);

describe('Questions', () => {
  it('asks 5 s after the last question, delivers the answers and keeps them', async () => {
    const questions = new Questions(correspondence());
    await questions.ask([bucket(0)]);
    await clock.advance(3 * SECOND);
    await questions.ask([bucket(1), bucket(0)]);
    await clock.advance(MINUTE);
    expect(sessions).toEqual([{ atSeconds: 8, asked: ['8.0.0.0/24', '8.0.1.0/24'] }]);
    const times = { askedAt: START + 8 * SECOND, freshUntil: START + 8 * SECOND + 0.9 * DAY };
    const expected = [bucket(0), bucket(1)].map((asked) => ({ bucket: asked, origin: origin(asked, times) }));
    expect(delivered).toEqual(expected);
    expect(await recall(store, [bucket(0), bucket(1)], clock.now())).toEqual(expected);
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

  it('forgets what the rules have come to keep back while it waited, and asks the rest', async () => {
    const kept = new Set<string>();
    const questions = new Questions(correspondence(announceAll, { mayAsk: (one) => !kept.has(formatCidr(one)) }));
    await questions.ask([bucket(0), bucket(1)]);
    kept.add('8.0.0.0/24');
    await clock.advance(MINUTE);
    expect(sessions.map(({ asked }) => asked)).toEqual([['8.0.1.0/24']]);
    expect(questions.status()).toMatchObject({ pending: 0, addressesSent: 1 });
    await questions.ask([bucket(2)]);
    kept.add('8.0.2.0/24');
    await clock.advance(MINUTE);
    expect(sessions).toHaveLength(1);
    expect(clock.timers).toBe(0);
  });

  it('does not wait longer than 30 s for questions that keep coming', async () => {
    const questions = new Questions(correspondence());
    for (let i = 0; i < 10; i++) {
      await questions.ask([bucket(i)]);
      await clock.advance(4 * SECOND);
    }
    expect(sessions[0]).toEqual({ atSeconds: 30, asked: buckets(8).map(formatCidr) });
  });

  it('waits up to 5 s more before the first session, so that exporters started together spread out', async () => {
    const questions = new Questions(correspondence(announceAll, { random: () => 0.5 }));
    await questions.ask([bucket(0)]);
    await clock.advance(MINUTE);
    await questions.ask([bucket(1)]);
    await clock.advance(MINUTE);
    expect(sessionTimes()).toEqual([7.5, 65]);
  });

  it('asks at most 1,000 in a session, and sessions are 10 s apart', async () => {
    const questions = new Questions(correspondence());
    await questions.ask(buckets(2_500));
    expect(questions.status().pending).toBe(2_500);
    await clock.advance(MINUTE);
    expect(sessions.map(({ atSeconds, asked }) => [atSeconds, asked.length])).toEqual([
      [5, 1_000],
      [15, 1_000],
      [25, 500],
    ]);
    expect(delivered).toHaveLength(2_500);
  });

  it('answers at once what the store holds fresh, and never asks for it', async () => {
    await keep(bucket(0), origin(bucket(0)));
    const questions = new Questions(correspondence());
    await questions.ask([bucket(0)]);
    expect(delivered).toEqual([{ bucket: bucket(0), origin: origin(bucket(0)) }]);
    await clock.advance(MINUTE);
    expect(sessions).toEqual([]);
  });

  it('delivers at once what the store holds of old answers, and renews it', async () => {
    const old = origin(bucket(0), { askedAt: START - 2 * DAY, freshUntil: START - DAY });
    await keep(bucket(0), old);
    const questions = new Questions(correspondence());
    await questions.ask([bucket(0)]);
    expect(delivered).toEqual([{ bucket: bucket(0), origin: old }]);
    await clock.advance(5 * SECOND);
    expect(delivered.at(-1)?.origin.askedAt).toBe(START + 5 * SECOND);
  });

  it('keeps the primary that the store knows, with the name it has now', async () => {
    await keep(bucket(0), origin(bucket(0), { asns: [64_001], name: 'OLD NAME', freshUntil: START }));
    const questions = new Questions(
      correspondence((asked) =>
        replyOf(
          asked,
          asked.flatMap((one) => [row(one, 64_000), row(one, 64_001)]),
        ),
      ),
    );
    await questions.ask([bucket(0)]);
    await clock.advance(5 * SECOND);
    expect(delivered.at(-1)?.origin).toMatchObject({ asns: [64_001, 64_000], name: 'AS-64001' });
  });

  it('keeps for 6 h that nobody announces an address', async () => {
    const questions = new Questions(
      correspondence((asked) => replyOf(asked, ['NA | 8.0.0.0 | NA | US | arin | 1992-12-01 | NA\n'])),
    );
    await questions.ask([bucket(0)]);
    await clock.advance(5 * SECOND);
    expect(delivered.map(({ origin: { asns, askedAt, freshUntil } }) => [asns, freshUntil - askedAt])).toEqual([
      [[], 6 * HOUR],
    ]);
  });

  it('tries again after 1 min, doubling to 1 h, while sessions fail, and then asks all that waits', async () => {
    let works = false;
    const questions = new Questions(
      correspondence((asked) => (works ? announceAll(asked) : fail()), { random: () => 0.999_999 }),
    );
    await questions.ask([bucket(0)]);
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
    expect(reports).toEqual(new Array(9).fill('Cannot ask whois server "whois.example:43": ECONNREFUSED'));
    expect(delivered).toEqual([]);
    works = true;
    await questions.ask([bucket(1)]);
    await clock.advance(HOUR);
    expect(sessions.at(-1)?.asked).toEqual(['8.0.0.0/24', '8.0.1.0/24']);
    expect(questions.status()).toMatchObject({ pending: 0, queryFailures: 9, breakerOpen: false });
  });

  it('never tries sooner than after 10 s, whatever the jitter says', async () => {
    const questions = new Questions(correspondence(fail));
    await questions.ask([bucket(0)]);
    await clock.advance(30 * SECOND);
    expect(sessionTimes()).toEqual([5, 15, 25]);
  });

  it('closes the breaker for nothing but a session that worked', async () => {
    const questions = new Questions(correspondence(fail));
    await questions.ask([bucket(0)]);
    await clock.advance(5 * SECOND);
    await keep(bucket(0), origin(bucket(0)));
    await clock.advance(10 * SECOND);
    expect(questions.status()).toMatchObject({ pending: 0, queries: 1, breakerOpen: true });
  });

  it('puts what was not answered into the next session, three times, and then lets it rest for an hour', async () => {
    const bucketZero = bucket(0);
    const questions = new Questions(
      correspondence((asked) =>
        replyOf(
          asked,
          asked.filter((one) => one !== bucketZero).map((one) => row(one)),
        ),
      ),
    );
    await questions.ask([bucketZero, bucket(1)]);
    await clock.advance(30 * MINUTE);
    await questions.ask([bucketZero]);
    await clock.advance(MINUTE);
    expect(sessions.map(({ atSeconds, asked }) => [atSeconds, asked])).toEqual([
      [5, ['8.0.0.0/24', '8.0.1.0/24']],
      [15, ['8.0.0.0/24']],
      [25, ['8.0.0.0/24']],
      [35, ['8.0.0.0/24']],
    ]);
    expect(reports).toEqual(['Cannot resolve 1 networks: "whois.example:43" gave no answer 4 times']);
    await clock.advance(HOUR);
    await questions.ask([bucketZero]);
    await clock.advance(5 * SECOND);
    expect(sessions.at(-1)?.asked).toEqual(['8.0.0.0/24']);
    expect(await recall(store, [bucketZero], clock.now())).toEqual([]);
  });

  it('does not ask again for a day for what the server calls no address, and takes it for no answer', async () => {
    const questions = new Questions(
      correspondence((asked) => replyOf(asked, ['Error: no ASN or IP match on line 3.\n'])),
    );
    await questions.ask([bucket(0)]);
    await clock.advance(23 * HOUR);
    await questions.ask([bucket(0)]);
    await clock.advance(30 * MINUTE);
    expect(sessionTimes()).toEqual([5]);
    expect({ delivered, pending: questions.status().pending }).toEqual({ delivered: [], pending: 0 });
    expect(reports).toEqual(['Cannot resolve 1 networks: "whois.example:43" calls them no addresses']);
    await clock.advance(HOUR);
    await questions.ask([bucket(0)]);
    await clock.advance(MINUTE);
    expect(sessions).toHaveLength(2);
  });

  it('counts lines without meaning and rows for what was not asked', async () => {
    const questions = new Questions(
      correspondence((asked) => replyOf(asked, [row(bucket(0)), row(bucket(7), 666), 'Warning: maintenance\n'])),
    );
    await questions.ask([bucket(0)]);
    await clock.advance(5 * SECOND);
    expect(questions.status().malformedRows).toBe(2);
    expect(delivered.map((answer) => formatCidr(answer.bucket))).toEqual(['8.0.0.0/24']);
  });

  it('counts the lines of a reply that failed because none of them could count', async () => {
    const failure = 'Cannot ask whois server "whois.example:43": the reply answers nothing';
    const questions = new Questions(correspondence(() => ({ sent: 1, failure, malformed: 3 })));
    await questions.ask([bucket(0)]);
    await clock.advance(5 * SECOND);
    expect(questions.status()).toMatchObject({ queryFailures: 1, malformedRows: 3 });
  });

  it('holds 50,000 questions, and tells how many it turns away', async () => {
    const questions = new Questions(correspondence(announceAll, { store: null }));
    await questions.ask(buckets(50_010));
    expect(questions.status().pending).toBe(50_000);
    expect(reports).toEqual(['Cannot take 10 more questions for an ASN: 50000 are waiting']);
    await clock.advance(20 * SECOND);
    await questions.ask(buckets(10, 50_000));
    expect(questions.status().pending).toBeLessThan(50_000);
    expect(reports).toHaveLength(1);
  });

  it('works without a store', async () => {
    const questions = new Questions(correspondence(announceAll, { store: null }));
    await questions.ask(buckets(1_500));
    await clock.advance(MINUTE);
    expect(sessionTimes()).toEqual([5, 15]);
    expect(delivered).toHaveLength(1_500);
  });

  it('takes a provider that throws for one that fails', async () => {
    const questions = new Questions(
      correspondence(() => {
        throw new RangeError('Cannot ask for "10.0.0.0/24": not a public network');
      }),
    );
    await questions.ask([bucket(0)]);
    await clock.advance(5 * SECOND);
    expect(reports).toEqual(['RangeError: Cannot ask for "10.0.0.0/24": not a public network']);
    expect(questions.status().breakerOpen).toBe(true);
  });

  it('asks nothing while another holds the lease, and takes the answers that the other has stored', async () => {
    const other = openStore();
    await other.acquire(LEASE, 65 * SECOND);
    const questions = new Questions(correspondence());
    await questions.ask([bucket(0)]);
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

  it('asks when the lease of one that died ends', async () => {
    const other = openStore();
    await other.acquire(LEASE, 65 * SECOND);
    await other.close();
    const questions = new Questions(correspondence());
    await questions.ask([bucket(0)]);
    await clock.advance(2 * MINUTE);
    expect(sessionTimes()).toEqual([65]);
  });

  it('gives the lease back when it finds that all was answered meanwhile', async () => {
    const questions = new Questions(correspondence());
    await questions.ask([bucket(0)]);
    await keep(bucket(0), origin(bucket(0)));
    await clock.advance(5 * SECOND);
    expect({ sessions, delivered: delivered.length }).toEqual({ sessions: [], delivered: 1 });
    expect(await store.acquire(LEASE, 65 * SECOND)).toBe(0);
  });

  it('ends a session when it is closed, gives the lease back but for the distance, and asks no more', async () => {
    const questions = new Questions(
      correspondence(
        (_, signal) =>
          new Promise((resolve) => signal.addEventListener('abort', () => resolve({ sent: 1, failure: 'stopped' }))),
      ),
    );
    await questions.ask([bucket(0)]);
    await clock.advance(6 * SECOND);
    expect(sessions).toHaveLength(1);
    await questions.close();
    expect(await store.acquire(LEASE, 65 * SECOND)).toBe(10 * SECOND);
    await questions.ask([bucket(1)]);
    await clock.advance(HOUR);
    expect({ sessions: sessions.length, timers: clock.timers, reports }).toEqual({
      sessions: 1,
      timers: 0,
      reports: [],
    });
  });

  it('holds one session at a time, at most 1,000 strong and 10 s apart, whatever the provider does', async () => {
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
        const questions = new Questions(
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
          await questions.ask(buckets(current.count, current.from));
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

describe('Questions of a cluster', () => {
  const QUEUE = 'asn:1:queue:cymru:whois.example:43';
  let shared: SharedServer;
  /** What each exporter learned, in the order in which they were started. */
  let learned: string[][];

  beforeEach(() => {
    shared = new SharedServer(clock);
    learned = [];
  });

  function startExporter(respond: Respond = announceAll, options: Partial<QuestionsOptions> = {}): Questions {
    const own: string[] = [];
    learned.push(own);
    const deliver = (answers: readonly Answer[]): void =>
      void own.push(...answers.map((one) => formatCidr(one.bucket)));
    return new Questions(correspondence(respond, { store: shared.connect(), deliver, ...options }));
  }

  it('are asked by whoever has the lease, and each learns its own answers alone', async () => {
    const [one, other] = [startExporter(), startExporter()];
    await other.ask(buckets(2, 1));
    await clock.advance(SECOND);
    await one.ask(buckets(2, 0));
    await clock.advance(MINUTE);
    expect(sessions).toEqual([{ atSeconds: 5, asked: ['8.0.1.0/24', '8.0.2.0/24', '8.0.0.0/24'] }]);
    expect(learned).toEqual([
      ['8.0.0.0/24', '8.0.1.0/24'],
      ['8.0.1.0/24', '8.0.2.0/24'],
    ]);
    expect([one, other].map((exporter) => exporter.status().pending)).toEqual([0, 0]);
    expect(shared.queues.get(QUEUE)?.size).toBe(0);
  });

  it('are asked once each, at most 1,000 in a session and 10 s apart, however many miss them', async () => {
    const exporters = [0, 500, 1_000].map((from) => ({ from, exporter: startExporter() }));
    for (const { from, exporter } of exporters) await exporter.ask(buckets(1_500, from));
    await clock.advance(2 * MINUTE);
    const asked = sessions.flatMap((session) => session.asked);
    expect(asked.toSorted()).toEqual(buckets(2_500).map(formatCidr).sort());
    expect(sessions.map((session) => session.asked.length)).toEqual([1_000, 1_000, 500]);
    for (const [i, time] of sessionTimes().entries())
      if (i > 0) expect(time - (sessionTimes()[i - 1] ?? 0)).toBeGreaterThanOrEqual(10);
    expect(learned.map((own) => new Set(own).size)).toEqual([1_500, 1_500, 1_500]);
  });

  it('are looked up a few at a time, and ever less often, while another asks', async () => {
    const own = shared.connect();
    const looks: number[] = [];
    const read: Store['read'] = (keys) => {
      looks.push(keys.length);
      return own.read(keys);
    };
    const exporter = startExporter(announceAll, { store: { ...own, read } });
    await exporter.ask(buckets(1_000));
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

  it('outlive the exporter that asked them', async () => {
    const killed = startExporter(() => new Promise(() => undefined));
    await killed.ask(buckets(2));
    await clock.advance(6 * SECOND);
    const next = startExporter();
    await next.ask([bucket(7)]);
    await clock.advance(2 * MINUTE);
    expect(sessions.map(({ atSeconds, asked }) => [atSeconds, asked.length])).toEqual([
      [5, 2],
      [70, 3],
    ]);
    expect(learned[1]).toEqual(['8.0.7.0/24']);
  });

  it('of others are not asked where this exporter may not, nor where they are no public networks', async () => {
    await shared
      .connect()
      .commons?.enqueue(QUEUE, [
        ...['10.0.0.0/24', '8.8.8.8/32', '8.0.0.0/8', '2002:a00::/48', '2002:808:808::/48', 'x; DROP', ''],
        ...['8.0.1.0/24', '2606:4700::/48', '9.9.9.0/24'],
      ]);
    const exporter = startExporter(announceAll, { mayAsk: (one) => formatCidr(one) !== '9.9.9.0/24' });
    await exporter.ask([bucket(0)]);
    await clock.advance(MINUTE);
    expect(sessions.map(({ asked }) => asked)).toEqual([['8.0.1.0/24', '2606:4700::/48', '8.0.0.0/24']]);
    expect([...(shared.queues.get(QUEUE) ?? [])]).toEqual(['9.9.9.0/24']);
  });

  it('wait for one breaker, which doubles for all and closes for all', async () => {
    let works = false;
    const respond: Respond = (asked) => (works ? announceAll(asked) : fail());
    const exporters = [
      startExporter(respond, { random: () => 0.999 }),
      startExporter(respond, { random: () => 0.999 }),
    ];
    for (const exporter of exporters) await exporter.ask([bucket(0)]);
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

  it('that get no answer are asked four times by all of them together, and then rest', async () => {
    const silent: Respond = (asked) =>
      replyOf(
        asked,
        asked.slice(1).map((one) => row(one)),
      );
    const exporters = [startExporter(silent), startExporter(silent), startExporter(silent)];
    for (const exporter of exporters) await exporter.ask(buckets(2));
    await clock.advance(30 * MINUTE);
    expect(sessions.filter(({ asked }) => asked.includes('8.0.0.0/24'))).toHaveLength(4);
    expect(reports).toEqual(['Cannot resolve 1 networks: "whois.example:43" gave no answer 4 times']);
    expect(exporters.map((exporter) => exporter.status().pending)).toEqual([0, 0, 0]);
    expect(shared.queues.get(QUEUE)?.size).toBe(0);
  });

  it('are asked by each for itself while the store is gone, after up to two minutes', async () => {
    shared.gone = true;
    const exporters = [0.1, 0.5, 0.9].map((random) => startExporter(announceAll, { random: () => random }));
    for (const exporter of exporters) await exporter.ask([bucket(0)]);
    await clock.advance(3 * MINUTE);
    expect(sessionTimes().map(Math.round)).toEqual([18, 68, 118]);
    expect(learned).toEqual([['8.0.0.0/24'], ['8.0.0.0/24'], ['8.0.0.0/24']]);
  });

  it('of others are left alone while the store cannot be written to, so that it keeps no two apart', async () => {
    await shared.connect().commons?.enqueue(QUEUE, buckets(3, 7).map(formatCidr));
    shared.refusesWrites = true;
    const exporters = [0.1, 0.5].map((random) => startExporter(announceAll, { random: () => random }));
    for (const [i, exporter] of exporters.entries()) await exporter.ask([bucket(i)]);
    await clock.advance(3 * MINUTE);
    expect(sessions.map(({ asked }) => asked)).toEqual([['8.0.0.0/24'], ['8.0.1.0/24']]);
  });

  it('do not wait their turn any longer when the store is back', async () => {
    shared.gone = true;
    const exporter = startExporter(announceAll, { random: () => 0.9 });
    await exporter.ask([bucket(0)]);
    await clock.advance(20 * SECOND);
    shared.gone = false;
    await clock.advance(2 * SECOND);
    expect(sessions).toHaveLength(1);
  });

  it('give a store that lacks them what they hold and what waits; a newer answer there stays', async () => {
    const exporter = startExporter();
    await exporter.ask([bucket(5)]);
    shared.queues.clear();
    const [old, fresh] = [origin(bucket(1)), origin(bucket(0), { askedAt: START + HOUR, freshUntil: START + DAY })];
    const other = startExporter();
    await other.restore([{ bucket: bucket(0), origin: fresh }]);
    await exporter.restore([
      { bucket: bucket(0), origin: origin(bucket(0)) },
      { bucket: bucket(1), origin: old },
    ]);
    expect(await recall(shared.connect(), buckets(2), START)).toEqual([
      { bucket: bucket(0), origin: fresh },
      { bucket: bucket(1), origin: old },
    ]);
    expect([...(shared.queues.get(QUEUE) ?? [])]).toEqual(['8.0.5.0/24']);
    await exporter.close();
  });

  it('of commands that run once are their own alone, and wait for nobody while the breaker is open', async () => {
    await startExporter().ask([bucket(1)]);
    const never = new AbortController().signal;
    expect(await askOnce([bucket(0)], correspondence(announceAll, { store: shared.connect() }), never)).toBeNull();
    expect(sessions.map(({ asked }) => asked)).toEqual([['8.0.0.0/24']]);
    shared.breakers.set('asn:1:breaker:cymru:whois.example:43', { failures: 1, until: 30 * SECOND });
    expect(await askOnce([bucket(2)], correspondence(announceAll, { store: shared.connect() }), never)).toBe(
      'Cannot ask "whois.example:43": it failed, and nobody is to try it for 30 s',
    );
  });
});

describe('Questions of a cluster that shares no store', () => {
  it('go out in sessions ten minutes apart, the first after up to two minutes', async () => {
    const questions = new Questions(correspondence(announceAll, { isUnshared: true, random: () => 0.5 }));
    await questions.ask(buckets(1_500));
    await clock.advance(HOUR);
    expect(sessions.map(({ atSeconds, asked }) => [atSeconds, asked.length])).toEqual([
      [65, 1_000],
      [665, 500],
    ]);
    await questions.ask([bucket(2_000)]);
    await clock.advance(HOUR);
    expect(sessionTimes().at(-1)).toBe(3_605);
  });

  it('stay ten minutes apart when the exporter starts again, and when sessions fail', async () => {
    for (const respond of [announceAll, fail]) {
      const first = new Questions(correspondence(respond, { isUnshared: true }));
      await first.ask([bucket(sessions.length)]);
      await clock.advance(10 * SECOND);
      await first.close();
      const second = new Questions(correspondence(announceAll, { isUnshared: true }));
      await second.ask([bucket(9)]);
      await clock.advance(HOUR);
      await second.close();
      await store.write([{ key: `asn:1:${formatCidr(bucket(9))}`, text: '', keepUntil: clock.now() + DAY }]);
    }
    expect(sessionTimes()).toEqual([5, 605, 3_615, 4_215]);
  });
});

describe('askOnce', () => {
  const never = new AbortController().signal;

  it('asks at once what the store does not hold fresh', async () => {
    await keep(bucket(0), origin(bucket(0)));
    expect(await askOnce(buckets(3), correspondence(), never)).toBeNull();
    expect(sessions).toEqual([{ atSeconds: 0, asked: ['8.0.1.0/24', '8.0.2.0/24'] }]);
    expect(delivered.map((answer) => formatCidr(answer.bucket))).toEqual(['8.0.0.0/24', '8.0.1.0/24', '8.0.2.0/24']);
  });

  it('keeps 10 s between its own sessions, with a store and without', async () => {
    for (const options of [{}, { store: null }]) {
      sessions = [];
      const from = clock.monotonic() / SECOND;
      const asked = askOnce(
        buckets(1_500, options.store === null ? 5_000 : 0),
        correspondence(announceAll, options),
        never,
      );
      await clock.advance(MINUTE);
      expect(await asked).toBeNull();
      expect(sessionTimes()).toEqual([from, from + 10]);
    }
  });

  it('keeps 10 s after the session of another, and asks only what that one did not', async () => {
    await askOnce(buckets(1), correspondence(), never);
    await clock.advance(4 * SECOND);
    const asked = askOnce(buckets(2), correspondence(), never);
    await clock.advance(MINUTE);
    expect(await asked).toBeNull();
    expect(sessions).toEqual([
      { atSeconds: 0, asked: ['8.0.0.0/24'] },
      { atSeconds: 10, asked: ['8.0.1.0/24'] },
    ]);
  });

  it.each<{ name: string; respond: Respond; expected: string }>([
    { name: 'the session fails', respond: fail, expected: 'Cannot ask whois server "whois.example:43": ECONNREFUSED' },
    {
      name: 'some are not answered',
      respond: (asked) => replyOf(asked, [row(bucket(0))]),
      expected: 'Cannot resolve 2 of 3 networks: "whois.example:43" gave no answer',
    },
  ])('says why when $name', async ({ respond, expected }) => {
    expect(await askOnce(buckets(3), correspondence(respond), never)).toBe(expected);
  });

  it('gives up when another holds the lease again and again', async () => {
    const other = openStore();
    await other.acquire(LEASE, 65 * SECOND);
    const asked = askOnce(buckets(1), correspondence(), never);
    for (let second = 0; second < 90; second += 5) {
      await other.hold(LEASE, 65 * SECOND);
      await clock.advance(5 * SECOND);
    }
    await other.close();
    expect(await asked).toBe('Cannot ask "whois.example:43": another peerscope is asking');
    expect(sessions).toEqual([]);
  });

  it('stops waiting when told to', async () => {
    await store.acquire(LEASE, 65 * SECOND);
    const stop = new AbortController();
    const asked = askOnce(buckets(1), correspondence(), stop.signal);
    await settled();
    stop.abort();
    expect(await asked).toBe('Cannot ask "whois.example:43": another peerscope is asking');
    expect({ sessions, timers: clock.timers }).toEqual({ sessions: [], timers: 0 });
  });
});

describe('Questions of several exporters with a real server', { timeout: 60_000 }, () => {
  const asked = ['74.125.225.0/24', '62.239.237.0/24', '2a00:2381:ffff::/48', '216.169.31.0/24'].map(cidr);

  it('share one SQLite file: each bucket is asked once, and both learn all', async () => {
    const server = await startCymruServer();
    const learnt = [new Set<string>(), new Set<string>()];
    const stores = [openStore(), openStore()];
    const exporters = learnt.map(
      (known, i) =>
        new Questions({
          ...correspondence(),
          provider: cymruProvider(server),
          store: stores[i] ?? null,
          deliver: (answers) => answers.forEach((answer) => known.add(formatCidr(answer.bucket))),
        }),
    );
    await Promise.all([exporters[0]?.ask(asked.slice(0, 3)), exporters[1]?.ask(asked.slice(1))]);
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

  it('keep nothing of a session that failed, and learn when the server works again', async () => {
    const server = await startCymruServer();
    server.behaviour = misbehaviours.resets;
    const questions = new Questions({ ...correspondence(), provider: cymruProvider(server) });
    await questions.ask(asked);
    await clock.advance(5 * SECOND);
    await vi.waitFor(() => expect(questions.status().queryFailures).toBe(1), { timeout: 30_000, interval: 10 });
    expect(await recall(store, asked, clock.now())).toEqual([]);
    expect(questions.status()).toMatchObject({ pending: 4, addressesSent: 4, breakerOpen: true });
    server.behaviour = (socket, reply) => socket.end(reply);
    await vi.waitFor(
      async () => {
        await clock.advance(SECOND);
        expect(questions.status()).toMatchObject({ pending: 0, addressesSent: 8, breakerOpen: false });
      },
      { timeout: 30_000, interval: 10 },
    );
    expect((await recall(store, asked, clock.now())).map(({ origin: { asns } }) => asns[0])).toEqual([
      15169, 2856, 2856, 12119,
    ]);
    await questions.close();
    await server.close();
  });
});
