import type { Timer } from '../../common/clock.ts';
import type { AsnStatus, Cidr } from '../../model.ts';
import { isFresh, type Answer } from './cache.ts';
import { Pool } from './shared-queue.ts';
import {
  askBatch,
  BATCH,
  keyOf,
  LEASE_MS,
  nameOf,
  recall,
  REFUSED_REST_MS,
  restore,
  SPACING_MS,
  TRIES,
  UNANSWERED_REST_MS,
  type Correspondence,
  type Outcome,
  type Tally,
} from './query-batch.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

const DEBOUNCE_MS = 5 * SECOND_MS;
const DEBOUNCE_MOST_MS = 30 * SECOND_MS;
const FIRST_DELAY_MOST_MS = 5 * SECOND_MS;
/** Over so long the exporters of a cluster spread where no store keeps them apart. */
const ALONE_DELAY_MOST_MS = 120 * SECOND_MS;
/** How soon an exporter that waits for its turn alone sees that the store is back. */
const ALONE_LOOK_MS = 2 * SECOND_MS;
/** The time between two sessions of an exporter whose cluster shares no store. */
const UNSHARED_SPACING_MS = 10 * MINUTE_MS;
const WAITING_MOST = 50_000;

/**
 * A wait of 1-3 s, less where the lease ends sooner: whoever has it may well have asked for the same. Of many
 * who share it, who found it taken again and again waits up to 8 times as long, and not to the very moment of its end.
 */
function retryMs(freeInMs: number, random: () => number, takenBefore = 0): number {
  const jitterMs = 2 * SECOND_MS * random();
  const waitMs = (SECOND_MS + jitterMs) * 2 ** Math.min(3, takenBefore);
  return Math.min(takenBefore > 0 ? freeInMs + jitterMs : freeInMs, waitMs);
}

/**
 * Answers buckets at once, for commands that run once: from the store, and in as many sessions as their number needs.
 * Resolves with null, or with one line that says why some have no fresh answer.
 */
export async function askOnce(
  buckets: readonly Cidr[],
  correspondence: Correspondence,
  signal: AbortSignal,
): Promise<string | null> {
  const { provider, clock, random } = correspondence;
  const tally: Tally = { queries: 0, queryFailures: 0, addressesSent: 0 };
  const ask = (own: readonly Cidr[]): Promise<Outcome> =>
    askBatch(correspondence, { own, pool: null, triesOf: () => 0, tally, spacingMs: SPACING_MS, signal });
  let settled = 0;
  for (let start = 0; start < buckets.length; start += BATCH) {
    if (tally.queries > 0) await pause(SPACING_MS, clock, signal);
    const giveUpAt = clock.monotonic() + LEASE_MS + SPACING_MS;
    const batch = buckets.slice(start, start + BATCH);
    let outcome = await ask(batch);
    while (outcome.kind === 'taken') {
      if (outcome.breaker && outcome.breaker.openMs > 0)
        return `Cannot ask "${provider.server}": it failed, and nobody is to try it for ${Math.ceil(outcome.freeInMs / SECOND_MS)} s`;
      if (signal.aborted || clock.monotonic() > giveUpAt)
        return `Cannot ask "${provider.server}": another peerscope is asking`;
      await pause(retryMs(outcome.freeInMs, random), clock, signal);
      outcome = await ask(batch);
    }
    if (outcome.kind === 'failed') return outcome.reason;
    settled += outcome.settled.length;
  }
  const open = buckets.length - settled;
  return open === 0
    ? null
    : `Cannot resolve ${open} of ${buckets.length} networks: "${provider.server}" gave no answer`;
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

interface Question {
  readonly bucket: Cidr;
  tries: number;
}

/** Everything that questions need from outside. */
export interface QuestionsOptions extends Correspondence {
  /** Says whether a network may be asked for by the rules as they are now, on behalf of others too. */
  readonly mayAsk: (bucket: Cidr) => boolean;
  /** The exporters of a cluster share no store, so that each asks for itself. */
  readonly isUnshared: boolean;
}

/**
 * The questions that wait for the provider. What the store holds is answered at once; the rest gathers for 5 s, at most 30 s
 * (the first time for up to 5 s more), and goes out in sessions of at most 1,000, one at a time and 10 s apart. While sessions
 * fail a breaker lets one try out after one minute, doubling to one hour, with full jitter. What a session left unanswered goes
 * into the next one, up to three times, and then rests for an hour; what the server calls no address rests for a day.
 *
 * With a store that a cluster shares all that holds for the cluster: misses go into one pool, whoever has the lease asks for it,
 * and the breaker is everybody's. While such a store is gone each asks for itself, the first time after up to two minutes.
 *
 * Where a cluster shares no store its exporters could flood the server: sessions are ten minutes apart, the first one after up to
 * two minutes.
 */
export class Questions {
  readonly #correspondence: Correspondence;
  readonly #pool: Pool | null;
  readonly #mayAsk: (bucket: Cidr) => boolean;
  readonly #waiting = new Map<string, Question>();
  readonly #restingUntil = new Map<string, number>();
  readonly #isUnshared: boolean;
  readonly #spacingMs: number;
  readonly #tally: Tally = { queries: 0, queryFailures: 0, addressesSent: 0 };
  #malformedRows = 0;
  readonly #stop = new AbortController();
  #gatheringSince: number | undefined;
  #gatherUntil = 0;
  /** So that exporters that start together do not ask together. */
  #firstDelayMs: number;
  #notBefore = 0;
  /** When it is our turn to ask without the store that keeps a cluster apart; undefined while that is there. */
  #aloneFrom: number | undefined;
  #failuresInRow = 0;
  /** How often in a row the lease that a cluster shares was another's. */
  #takenInRow = 0;
  #session: Promise<void> | undefined;
  #cancel: () => void = () => undefined;

  constructor({ mayAsk, isUnshared, ...correspondence }: QuestionsOptions) {
    const { provider, store, deliver, random } = correspondence;
    this.#correspondence = { ...correspondence, deliver: (answers) => this.#deliverOwn(answers, deliver) };
    this.#pool = store?.commons ? new Pool(store.commons, nameOf(provider, 'queue'), mayAsk) : null;
    this.#mayAsk = mayAsk;
    this.#isUnshared = isUnshared;
    this.#spacingMs = isUnshared ? UNSHARED_SPACING_MS : SPACING_MS;
    this.#firstDelayMs = random() * (isUnshared ? ALONE_DELAY_MOST_MS : FIRST_DELAY_MOST_MS);
  }

  /** Takes questions; resolves once what the store holds of them has been delivered. What waits or rests already stays as it is. */
  async ask(buckets: readonly Cidr[]): Promise<void> {
    const { store, deliver, report, clock } = this.#correspondence;
    const now = clock.monotonic();
    let turnedAway = 0;
    const added = buckets.filter((bucket) => {
      if (!this.#isNew(bucket, now)) return false;
      if (this.#waiting.size < WAITING_MOST) return this.#waiting.set(keyOf(bucket), { bucket, tries: 0 });
      // It comes again while it is in use.
      turnedAway++;
      return false;
    });
    if (turnedAway > 0) report(`Cannot take ${turnedAway} more questions for an ASN: ${WAITING_MOST} are waiting`);
    if (added.length === 0) return;
    this.#gatheringSince ??= now;
    this.#gatherUntil = Math.min(now + DEBOUNCE_MS, this.#gatheringSince + DEBOUNCE_MOST_MS);
    this.#plan();
    const known = await recall(store, added, clock.now());
    if (known.length > 0) deliver(known);
    this.#forget(known.filter(({ origin }) => isFresh(origin, clock.now())).map(({ bucket }) => bucket));
    await this.#pool?.add(added.filter((bucket) => this.#waiting.has(keyOf(bucket))));
  }

  /** Gives the store, which may have lost or missed it, what is known here, and what waits. */
  async restore(answers: readonly Answer[]): Promise<void> {
    const { store, clock } = this.#correspondence;
    if (store) await restore(store, answers, clock.now());
    await this.#pool?.add([...this.#waiting.values()].map(({ bucket }) => bucket));
  }

  status(): AsnStatus {
    const { provider } = this.#correspondence;
    return {
      provider: provider.name,
      pending: this.#waiting.size,
      ...this.#tally,
      malformedRows: this.#malformedRows,
      breakerOpen: this.#failuresInRow > 0,
    };
  }

  /** Ends a session under way, gives its lease back and asks no more. */
  async close(): Promise<void> {
    this.#cancel();
    this.#stop.abort();
    await this.#session;
  }

  #isNew(bucket: Cidr, now: number): boolean {
    const key = keyOf(bucket);
    return !this.#stop.signal.aborted && !this.#waiting.has(key) && (this.#restingUntil.get(key) ?? 0) <= now;
  }

  /** What was asked for others would push what is in use here out of memory. */
  #deliverOwn(answers: readonly Answer[], deliver: (answers: readonly Answer[]) => void): void {
    const own = answers.filter(({ bucket }) => this.#waiting.has(keyOf(bucket)));
    if (own.length > 0) deliver(own);
  }

  #forget(buckets: readonly Cidr[]): void {
    for (const bucket of buckets) this.#waiting.delete(keyOf(bucket));
  }

  #plan(): void {
    this.#cancel();
    if (this.#session || this.#waiting.size === 0 || this.#stop.signal.aborted) return;
    const { clock } = this.#correspondence;
    const ms = Math.max(this.#notBefore, this.#gatherUntil + this.#firstDelayMs) - clock.monotonic();
    this.#cancel = clock.after(Math.max(0, ms), () => {
      this.#session = this.#holdSession().finally(() => {
        this.#session = undefined;
        this.#plan();
      });
    });
  }

  async #holdSession(): Promise<void> {
    const { clock, random } = this.#correspondence;
    if (this.#isNotYetOurTurnAlone()) return;
    this.#gatheringSince = undefined;
    const batch = this.#allowed();
    if (batch.length === 0) return;
    this.#firstDelayMs = 0;
    const outcome = await this.#askBatch(batch);
    const now = clock.monotonic();
    this.#forget(outcome.settled);
    for (const bucket of outcome.resting) this.#rest(bucket, now + UNANSWERED_REST_MS);
    if (outcome.breaker) this.#failuresInRow = outcome.breaker.failures;
    const takenBefore = this.#takenInRow;
    this.#takenInRow = outcome.kind === 'taken' && this.#pool ? this.#takenInRow + 1 : 0;
    switch (outcome.kind) {
      case 'nothing':
        return;
      case 'taken': {
        const isLeftAlone = this.#isUnshared || (outcome.breaker !== null && outcome.breaker.openMs > 0);
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

  /** What waits, a session of it at most; forgets what the rules have come to keep back since it was asked for. */
  #allowed(): readonly Cidr[] {
    const batch: Cidr[] = [];
    for (const [key, { bucket }] of this.#waiting) {
      if (this.#mayAsk(bucket)) batch.push(bucket);
      else this.#waiting.delete(key);
      if (batch.length === BATCH) break;
    }
    return batch;
  }

  #isNotYetOurTurnAlone(): boolean {
    const { store, clock, random } = this.#correspondence;
    if (!store?.commons || store.up) {
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
    const { provider, store, random, report } = this.#correspondence;
    this.#notBefore = now + this.#spacingMs;
    if (this.#stop.signal.aborted) return;
    const breakMs = random() * Math.min(HOUR_MS, MINUTE_MS * 2 ** this.#failuresInRow++);
    const openMs = Math.max(this.#spacingMs, breakMs);
    this.#notBefore = now + openMs;
    report(reason);
    await store?.commons?.setBreaker(nameOf(provider, 'breaker'), { failures: this.#failuresInRow, openMs });
  }

  async #closeSession(outcome: Outcome & { kind: 'asked' }, now: number): Promise<void> {
    const { provider, store, report } = this.#correspondence;
    const { unanswered, givenUp, refused } = outcome;
    this.#notBefore = now + this.#spacingMs;
    this.#malformedRows += outcome.malformed;
    for (const bucket of refused) this.#rest(bucket, now + REFUSED_REST_MS);
    for (const bucket of givenUp) this.#rest(bucket, now + UNANSWERED_REST_MS);
    for (const bucket of unanswered) {
      const question = this.#waiting.get(keyOf(bucket));
      if (question) question.tries++;
    }
    if (refused.length > 0)
      report(`Cannot resolve ${refused.length} networks: "${provider.server}" calls them no addresses`);
    if (givenUp.length > 0)
      report(`Cannot resolve ${givenUp.length} networks: "${provider.server}" gave no answer ${TRIES} times`);
    if (this.#failuresInRow === 0) return;
    this.#failuresInRow = 0;
    await store?.commons?.setBreaker(nameOf(provider, 'breaker'), { failures: 0, openMs: 0 });
  }

  async #askBatch(own: readonly Cidr[]): Promise<Outcome> {
    const triesOf = (bucket: Cidr): number => this.#waiting.get(keyOf(bucket))?.tries ?? 0;
    const [tally, spacingMs, { signal }] = [this.#tally, this.#spacingMs, this.#stop];
    const errand = { own, pool: this.#pool, triesOf, tally, spacingMs, signal };
    try {
      return await askBatch(this.#correspondence, errand);
    } catch (error) {
      return { kind: 'failed', reason: String(error), malformed: 0, settled: [], resting: [], breaker: null };
    }
  }

  #rest(bucket: Cidr, until: number): void {
    this.#waiting.delete(keyOf(bucket));
    this.#restingUntil.set(keyOf(bucket), until);
    if (this.#restingUntil.size <= WAITING_MOST) return;
    for (const key of this.#restingUntil.keys()) {
      this.#restingUntil.delete(key);
      return;
    }
  }
}
