import type { Timer } from '../../common/clock.ts';
import { reasonOf } from '../../common/errors.ts';
import type { AsnStatus, Cidr } from '../../model.ts';
import { TurnQueue } from '../../common/turn-queue.ts';
import { isFresh, type Answer, type Question } from './cache.ts';
import { SharedQueue } from './shared-queue.ts';
import {
  queryBatch,
  BATCH,
  keyOf,
  LEASE_MS,
  sharedKeyOf,
  readAnswers,
  REFUSED_REST_MS,
  restoreAnswers,
  SPACING_MS,
  TRIES,
  UNANSWERED_REST_MS,
  type QueryContext,
  type BatchResult,
  type QueryCounts,
} from './query-batch.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

const DEBOUNCE_MS = 5 * SECOND_MS;
const DEBOUNCE_MOST_MS = 30 * SECOND_MS;
const FIRST_DELAY_MOST_MS = 5 * SECOND_MS;
/** The exporters of a cluster spread their first session over this time if no store coordinates them. */
const ALONE_DELAY_MOST_MS = 120 * SECOND_MS;
/** How often an exporter that waits without the store checks whether the store has recovered. */
const ALONE_LOOK_MS = 2 * SECOND_MS;
/** The time between two sessions of an exporter in a cluster without a shared store. */
const UNSHARED_SPACING_MS = 10 * MINUTE_MS;
/**
 * An exporter that got neither the lease nor an answer for this long, or up to twice as long, queries its own networks: the holder may be
 * no exporter.
 */
const HELD_MOST_MS = 10 * MINUTE_MS;
const WAITING_MOST = 50_000;
/** How many waiting networks an exporter adds to the shared queue, so that none fills it. */
const SHARED_MOST = 2_000;
/** The first networks of each tenant go ahead of those that were added within this time. */
const FIRST_MOST = 100;
const AHEAD_MS = 30 * SECOND_MS;

/**
 * Returns a wait of 1-3 s, or less if the lease ends sooner, because the holder may have queried the same networks.
 * After repeated attempts the wait grows up to 8 times, and jitter is added to the end of the lease.
 */
function retryMs(freeInMs: number, random: () => number, takenBefore = 0): number {
  const jitterMs = 2 * SECOND_MS * random();
  const waitMs = (SECOND_MS + jitterMs) * 2 ** Math.min(3, takenBefore);
  return Math.min(takenBefore > 0 ? freeInMs + jitterMs : freeInMs, waitMs);
}

/**
 * Resolves buckets for a one-shot command: from the store, then in as many sessions as needed. Resolves with null, or
 * with a one-line reason why some buckets have no fresh answer. Adds what it did to `counts`.
 */
export async function queryOnce(
  buckets: readonly Cidr[],
  context: QueryContext,
  signal: AbortSignal,
  counts: QueryCounts = { queries: 0, queryFailures: 0, addressesSent: 0 },
): Promise<string | null> {
  const { provider, clock, random } = context;
  const { queries } = counts;
  const ask = (own: readonly Cidr[]): Promise<BatchResult> =>
    queryBatch(context, { own, queue: null, triesOf: () => 0, counts, spacingMs: SPACING_MS, signal });
  let settled = 0;
  for (let start = 0; start < buckets.length; start += BATCH) {
    if (counts.queries > queries) await pause(SPACING_MS, clock, signal);
    const giveUpAt = clock.monotonic() + LEASE_MS + SPACING_MS;
    const batch = buckets.slice(start, start + BATCH);
    let outcome = await ask(batch);
    while (outcome.kind === 'taken') {
      if (outcome.breaker && outcome.breaker.openMs > 0)
        return `Cannot query "${provider.server}": the last query failed, next attempt in ${Math.ceil(outcome.freeInMs / SECOND_MS)} s`;
      if (signal.aborted || clock.monotonic() > giveUpAt)
        return `Cannot query "${provider.server}": another peerscope is querying it`;
      await pause(retryMs(outcome.freeInMs, random), clock, signal);
      outcome = await ask(batch);
    }
    if (outcome.kind === 'failed') return outcome.reason;
    settled += outcome.settled.length;
  }
  const open = buckets.length - settled;
  return open === 0
    ? null
    : `Cannot resolve ${open} of ${buckets.length} networks: "${provider.server}" did not answer`;
}

function pause(ms: number, clock: Timer, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const wake = (): void => {
      cancel();
      signal.removeEventListener('abort', wake);
      resolve();
    };
    const cancel = clock.after(ms, wake);
    signal.addEventListener('abort', wake);
    if (signal.aborted) wake();
  });
}

interface PendingQuery {
  readonly bucket: Cidr;
  tries: number;
  /** Whether its tenant waited for few others. */
  readonly isFirst: boolean;
  isShared: boolean;
}

/** The dependencies of a QueryScheduler. */
export interface QuerySchedulerOptions extends QueryContext {
  /** Returns true if the current rules allow a query for a network, also on behalf of other exporters. */
  readonly mayQuery: (bucket: Cidr) => boolean;
  /** True in a cluster without a shared store, where each exporter queries independently. */
  readonly isUncoordinated: boolean;
}

/**
 * Schedules queries to the provider. Stored answers are returned at once. Other queries are collected for 5 s, at
 * most 30 s (the first time for up to 5 s more), and sent in sessions of at most 1,000 networks, one at a time and 10
 * s apart. After a failed session, a circuit breaker delays the next attempt: one minute, doubling to one hour, with
 * full jitter. Unanswered networks are retried in the next session, up to three times, and then paused for an hour.
 * Networks that the server rejects are paused for a day. Those who need answers take turns: a user with thousands of unknown peers
 * delays no other one.
 *
 * With a shared store, all of this applies to the whole cluster: misses go into one queue, the holder of the lease
 * queries them, and the breaker is shared. While the store is down, each exporter queries its own networks, after an
 * initial delay of up to two minutes.
 *
 * In a cluster without a shared store, exporters could overload the server. Sessions are then ten minutes apart, with
 * an initial delay of up to two minutes.
 */
export class QueryScheduler {
  readonly #context: QueryContext;
  readonly #queue: SharedQueue | null;
  readonly #mayQuery: (bucket: Cidr) => boolean;
  readonly #waiting = new Map<string, PendingQuery>();
  /** The keys of the waiting networks. */
  readonly #turns = new TurnQueue<string>(WAITING_MOST);
  readonly #restingUntil = new Map<string, number>();
  readonly #isUncoordinated: boolean;
  readonly #spacingMs: number;
  readonly #counts: QueryCounts = { queries: 0, queryFailures: 0, addressesSent: 0 };
  #malformedRows = 0;
  readonly #stop = new AbortController();
  #gatheringSince: number | undefined;
  #gatherUntil = 0;
  /** A random delay, so that exporters that start together do not query together. */
  #firstDelayMs: number;
  #notBefore = 0;
  /** When this exporter may query without the shared store. Undefined while the store is up. */
  #aloneFrom: number | undefined;
  #failuresInRow = 0;
  /** How often in a row another exporter held the shared lease. */
  #takenInRow = 0;
  /** When this exporter may query without the lease. Undefined while it gets the lease, or answers of others. */
  #unheldFrom: number | undefined;
  #session: Promise<void> | undefined;
  #cancel: () => void = () => undefined;

  constructor({ mayQuery, isUncoordinated: isUncoordinated, ...context }: QuerySchedulerOptions) {
    const { provider, store, onAnswers: deliver, random } = context;
    this.#context = { ...context, onAnswers: (answers) => this.#deliverOwn(answers, deliver) };
    this.#queue = store?.shared ? new SharedQueue(store.shared, sharedKeyOf(provider, 'queue'), mayQuery) : null;
    this.#mayQuery = mayQuery;
    this.#isUncoordinated = isUncoordinated;
    this.#spacingMs = isUncoordinated ? UNSHARED_SPACING_MS : SPACING_MS;
    this.#firstDelayMs = random() * (isUncoordinated ? ALONE_DELAY_MOST_MS : FIRST_DELAY_MOST_MS);
  }

  /**
   * Adds queries, for the tenants of questions. Resolves when stored answers have been delivered. Networks that are already waiting or
   * paused are skipped.
   */
  async query(buckets: readonly (Cidr & Partial<Question>)[]): Promise<void> {
    const { store, onAnswers: deliver, report, clock } = this.#context;
    const now = clock.monotonic();
    let turnedAway = 0;
    const added: Cidr[] = [];
    for (const { tenant = '', ...bucket } of buckets) {
      const key = keyOf(bucket);
      if (this.#stop.signal.aborted || (this.#restingUntil.get(key) ?? 0) > now) continue;
      const lost = this.#turns.add(tenant, key);
      if (lost !== key && !this.#waiting.has(key)) {
        this.#waiting.set(key, {
          bucket,
          tries: 0,
          isFirst: this.#turns.sizeOf(tenant) <= FIRST_MOST,
          isShared: false,
        });
        added.push(bucket);
      }
      if (lost === null) continue;
      // It is queried again later if it is still in use.
      if (!this.#turns.has(lost)) this.#waiting.delete(lost);
      turnedAway++;
    }
    if (turnedAway > 0) report(`Cannot queue ${turnedAway} ASN queries: ${WAITING_MOST} are already waiting`);
    if (added.length === 0) return;
    this.#gatheringSince ??= now;
    this.#gatherUntil = Math.min(now + DEBOUNCE_MS, this.#gatheringSince + DEBOUNCE_MOST_MS);
    this.#plan();
    const known = await readAnswers(store, added, clock.now());
    if (known.length > 0) deliver(known);
    this.#forget(known.filter(({ origin }) => isFresh(origin, clock.now())).map(({ bucket }) => bucket));
    await this.#share();
  }

  /** Writes the known answers and waiting queries to a store that may have lost them. */
  async restore(answers: readonly Answer[]): Promise<void> {
    const { store, clock } = this.#context;
    if (store) await restoreAnswers(store, answers, clock.now());
    for (const pending of this.#waiting.values()) pending.isShared = false;
    await this.#share();
  }

  status(): AsnStatus {
    const { provider } = this.#context;
    return {
      provider: provider.name,
      pending: this.#waiting.size,
      ...this.#counts,
      malformedRows: this.#malformedRows,
      breakerOpen: this.#failuresInRow > 0,
    };
  }

  /** Ends the current session, releases its lease and stops. */
  async close(): Promise<void> {
    this.#cancel();
    this.#stop.abort();
    await this.#session;
  }

  /** Adds the next networks in turn to the shared queue. */
  async #share(): Promise<void> {
    if (!this.#queue) return;
    const next = [...this.#inTurn(SHARED_MOST)].filter(({ isShared }) => !isShared);
    for (const pending of next) pending.isShared = true;
    const bucketsOf = (first: boolean): Cidr[] =>
      next.filter(({ isFirst }) => isFirst === first).map(({ bucket }) => bucket);
    await this.#queue.add(bucketsOf(true), AHEAD_MS);
    await this.#queue.add(bucketsOf(false), 0);
  }

  *#inTurn(most: number): Generator<PendingQuery> {
    let count = 0;
    for (const key of this.#turns.items()) {
      const pending = this.#waiting.get(key);
      if (pending) yield pending;
      if (++count === most) return;
    }
  }

  /** Answers queried on behalf of others would evict local entries from the cache. */
  #deliverOwn(answers: readonly Answer[], deliver: (answers: readonly Answer[]) => void): void {
    const own = answers.filter(({ bucket }) => this.#waiting.has(keyOf(bucket)));
    if (own.length > 0) deliver(own);
  }

  #forget(buckets: readonly Cidr[]): void {
    for (const bucket of buckets) this.#drop(keyOf(bucket));
  }

  #drop(key: string): void {
    this.#waiting.delete(key);
    this.#turns.delete(key);
  }

  #plan(): void {
    this.#cancel();
    if (this.#session || this.#waiting.size === 0 || this.#stop.signal.aborted) return;
    const { clock } = this.#context;
    const ms = Math.max(this.#notBefore, this.#gatherUntil + this.#firstDelayMs) - clock.monotonic();
    this.#cancel = clock.after(Math.max(0, ms), () => {
      this.#session = this.#holdSession().finally(() => {
        this.#session = undefined;
        this.#plan();
      });
    });
  }

  async #holdSession(): Promise<void> {
    const { clock, random } = this.#context;
    if (this.#isNotYetOurTurnAlone()) return;
    this.#gatheringSince = undefined;
    const batch = this.#allowed();
    if (batch.length === 0) return;
    this.#firstDelayMs = 0;
    const isHeld = this.#unheldFrom !== undefined && clock.monotonic() >= this.#unheldFrom;
    if (isHeld) this.#context.report('Cannot get the lease of the store: others have held it for more than 10 minutes');
    const outcome = await this.#queryBatch(batch, isHeld);
    const now = clock.monotonic();
    const isWaiting = outcome.kind === 'taken' && outcome.settled.length === 0 && !outcome.breaker?.openMs;
    this.#unheldFrom = isWaiting ? (this.#unheldFrom ?? now + HELD_MOST_MS * (1 + random())) : undefined;
    this.#forget(outcome.settled);
    for (const bucket of outcome.resting) this.#rest(bucket, now + UNANSWERED_REST_MS);
    if (outcome.breaker) this.#failuresInRow = outcome.breaker.failures;
    await this.#share();
    const takenBefore = this.#takenInRow;
    this.#takenInRow = outcome.kind === 'taken' && this.#queue ? this.#takenInRow + 1 : 0;
    switch (outcome.kind) {
      case 'nothing':
        return;
      case 'taken': {
        const isLeftAlone = this.#isUncoordinated || (outcome.breaker !== null && outcome.breaker.openMs > 0);
        this.#notBefore = now + (isLeftAlone ? outcome.freeInMs : retryMs(outcome.freeInMs, random, takenBefore));
        return;
      }
      case 'failed':
        this.#malformedRows += outcome.malformed;
        return this.#openBreaker(outcome.reason, now);
      case 'asked':
        return this.#closeSession(outcome, now);
    }
  }

  /** Returns the waiting buckets of the next session. Removes those that the rules now exclude. */
  #allowed(): readonly Cidr[] {
    const batch: Cidr[] = [];
    for (const { bucket } of [...this.#inTurn(WAITING_MOST)]) {
      if (this.#mayQuery(bucket)) batch.push(bucket);
      else this.#drop(keyOf(bucket));
      if (batch.length === BATCH) break;
    }
    return batch;
  }

  #isNotYetOurTurnAlone(): boolean {
    const { store, clock, random } = this.#context;
    if (!store?.shared || store.up) {
      this.#aloneFrom = undefined;
      return false;
    }
    const now = clock.monotonic();
    this.#aloneFrom ??= now + random() * ALONE_DELAY_MOST_MS;
    if (now >= this.#aloneFrom) return false;
    this.#notBefore = Math.min(this.#aloneFrom, now + ALONE_LOOK_MS);
    return true;
  }

  async #openBreaker(reason: string, now: number): Promise<void> {
    const { provider, store, random, report } = this.#context;
    this.#notBefore = now + this.#spacingMs;
    if (this.#stop.signal.aborted) return;
    const breakMs = random() * Math.min(HOUR_MS, MINUTE_MS * 2 ** this.#failuresInRow++);
    const openMs = Math.max(this.#spacingMs, breakMs);
    this.#notBefore = now + openMs;
    report(reason);
    await store?.shared?.writeBreaker(sharedKeyOf(provider, 'breaker'), { failures: this.#failuresInRow, openMs });
  }

  async #closeSession(outcome: BatchResult & { kind: 'asked' }, now: number): Promise<void> {
    const { provider, store, report } = this.#context;
    const { unanswered, givenUp, refused } = outcome;
    this.#notBefore = now + this.#spacingMs;
    this.#malformedRows += outcome.malformed;
    for (const bucket of refused) this.#rest(bucket, now + REFUSED_REST_MS);
    for (const bucket of givenUp) this.#rest(bucket, now + UNANSWERED_REST_MS);
    for (const bucket of unanswered) {
      const question = this.#waiting.get(keyOf(bucket));
      if (question) question.tries++;
    }
    if (refused.length > 0) report(`Cannot resolve ${refused.length} networks: "${provider.server}" rejected them`);
    if (givenUp.length > 0)
      report(`Cannot resolve ${givenUp.length} networks: "${provider.server}" did not answer ${TRIES} queries`);
    if (this.#failuresInRow === 0) return;
    this.#failuresInRow = 0;
    await store?.shared?.writeBreaker(sharedKeyOf(provider, 'breaker'), { failures: 0, openMs: 0 });
  }

  async #queryBatch(own: readonly Cidr[], ignoresLease: boolean): Promise<BatchResult> {
    const triesOf = (bucket: Cidr): number => this.#waiting.get(keyOf(bucket))?.tries ?? 0;
    const [counts, spacingMs, { signal }] = [this.#counts, this.#spacingMs, this.#stop];
    const request = { own, queue: ignoresLease ? null : this.#queue, triesOf, counts, spacingMs, signal, ignoresLease };
    try {
      return await queryBatch(this.#context, request);
    } catch (error) {
      return { kind: 'failed', reason: reasonOf(error), malformed: 0, settled: [], resting: [], breaker: null };
    }
  }

  #rest(bucket: Cidr, until: number): void {
    this.#drop(keyOf(bucket));
    this.#restingUntil.set(keyOf(bucket), until);
    if (this.#restingUntil.size <= WAITING_MOST) return;
    for (const key of this.#restingUntil.keys()) {
      this.#restingUntil.delete(key);
      return;
    }
  }
}
