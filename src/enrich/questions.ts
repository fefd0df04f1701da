import { formatCidr } from '../address.ts';
import type { Timer } from '../clock.ts';
import type { AsnStatus, Cidr } from '../model.ts';
import { isFresh, isServable, parseOrigin, renderOrigin, STALE_MS, type Answer } from './asn.ts';
import { originOf, type Exchange } from './cymru.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

const DEBOUNCE_MS = 5 * SECOND_MS;
const DEBOUNCE_MOST_MS = 30 * SECOND_MS;
const FIRST_DELAY_MOST_MS = 5 * SECOND_MS;
const BATCH = 1_000;
const WAITING_MOST = 50_000;
const RETRIES = 3;
const UNANSWERED_REST_MS = HOUR_MS;
const REFUSED_REST_MS = 24 * HOUR_MS;
const FRESH_MS = 24 * HOUR_MS;
const NOT_ANNOUNCED_FRESH_MS = 6 * HOUR_MS;
/** Longer than a session may last, so that a lease ends by itself only when its holder died. */
const LEASE_MS = 65 * SECOND_MS;
/** The least time between two sessions of all who share a store. */
const SPACING_MS = 10 * SECOND_MS;

/** One text under a key, to be kept until a time (milliseconds since 1970). */
export interface StoredText {
  readonly key: string;
  readonly text: string;
  readonly keepUntil: number;
}

/**
 * What outlives the process and may be shared with others. It never rejects: a store that fails reads nothing, drops what it is
 * given, grants every lease, and is not `up`.
 */
export interface Store {
  readonly name: string;
  readonly up: boolean;
  /** The texts kept under these keys; what is not there is left out. */
  read(keys: readonly string[]): Promise<ReadonlyMap<string, string>>;
  write(texts: readonly StoredText[]): Promise<void>;
  /** Takes a lease for so long unless it is taken: 0, or else the milliseconds until it ends. */
  acquire(lease: string, ms: number): Promise<number>;
  /** Lets the own lease end after so long from now. */
  hold(lease: string, ms: number): Promise<void>;
  release(lease: string): Promise<void>;
  close(): Promise<void>;
}

/** Who is asked. */
export interface Provider {
  readonly name: string;
  readonly server: string;
  ask(buckets: readonly Cidr[], signal: AbortSignal): Promise<Exchange>;
}

/** Everything that asking needs from outside. */
export interface Correspondence {
  readonly provider: Provider;
  /** Null: nothing outlives the process. */
  readonly store: Store | null;
  /** Takes the answers, of the store and of the provider, as they come. */
  readonly deliver: (answers: readonly Answer[]) => void;
  /** Takes one line on what went wrong. */
  readonly report: (message: string) => void;
  readonly clock: Timer;
  /** 0 to below 1. */
  readonly random: () => number;
}

/** What was asked of the provider so far. */
interface Tally {
  queries: number;
  queryFailures: number;
  addressesSent: number;
}

/** How a batch ended: all was known, another has the lease, the session failed, or it was held. */
type Outcome =
  | { readonly kind: 'known' }
  | { readonly kind: 'taken'; readonly freeInMs: number; readonly missing: readonly Cidr[] }
  | { readonly kind: 'failed'; readonly reason: string; readonly missing: readonly Cidr[] }
  | {
      readonly kind: 'asked';
      readonly unanswered: readonly Cidr[];
      readonly refused: readonly Cidr[];
      readonly malformed: number;
    };

/** The answers that a store keeps for these buckets, old ones of at most 30 days included. */
export async function recall(store: Store | null, buckets: readonly Cidr[], now: number): Promise<Answer[]> {
  if (!store) return [];
  const keys = buckets.map(keyOf);
  const texts = await store.read(keys);
  return buckets.flatMap((bucket, i) => {
    const origin = parseOrigin(texts.get(keys[i] ?? '') ?? '');
    return origin && isServable(origin, now) ? [{ bucket, origin }] : [];
  });
}

function keyOf(bucket: Cidr): string {
  return `asn:1:${formatCidr(bucket)}`;
}

/**
 * Answers up to 1,000 buckets from the store, and in one session with the provider what is not fresh there. One asker at a time
 * among all who share the store; the lease that sees to it then also keeps the distance to the next session.
 */
async function askBatch(
  buckets: readonly Cidr[],
  { provider, store, deliver, clock, random }: Correspondence,
  tally: Tally,
  signal: AbortSignal,
): Promise<Outcome> {
  const lease = `asn:1:lock:${provider.name}:${provider.server}`;
  const freeInMs = (await store?.acquire(lease, LEASE_MS)) ?? 0;
  const known = await recall(store, buckets, clock.now());
  if (known.length > 0) deliver(known);
  const origins = new Map(known.map(({ bucket, origin }) => [keyOf(bucket), origin]));
  const missing = buckets.filter((bucket) => {
    const origin = origins.get(keyOf(bucket));
    return !origin || !isFresh(origin, clock.now());
  });
  if (freeInMs > 0) return missing.length === 0 ? { kind: 'known' } : { kind: 'taken', freeInMs, missing };
  if (missing.length === 0 || signal.aborted) {
    await store?.release(lease);
    return missing.length === 0
      ? { kind: 'known' }
      : { kind: 'failed', reason: `Cannot ask "${provider.server}": stopped`, missing };
  }
  tally.queries++;
  const exchange = await provider.ask(missing, signal);
  tally.addressesSent += exchange.sent;
  if ('failure' in exchange) {
    tally.queryFailures++;
    await store?.hold(lease, SPACING_MS);
    return { kind: 'failed', reason: exchange.failure, missing };
  }
  const { reply } = exchange;
  const askedAt = clock.now();
  const answers = reply.answers.map(({ bucket, announcement }): Answer => {
    const freshMs = announcement.prefix ? FRESH_MS * (0.9 + 0.2 * random()) : NOT_ANNOUNCED_FRESH_MS;
    const times = { askedAt, freshUntil: askedAt + Math.round(freshMs), source: provider.name };
    return { bucket, origin: originOf(announcement, origins.get(keyOf(bucket))?.asns[0], times) };
  });
  deliver(answers);
  await store?.write(
    answers.map(({ bucket, origin }) => ({
      key: keyOf(bucket),
      text: renderOrigin(origin),
      keepUntil: askedAt + STALE_MS,
    })),
  );
  await store?.hold(lease, SPACING_MS);
  const { unanswered, refused } = reply;
  return { kind: 'asked', unanswered, refused, malformed: reply.malformed + reply.unasked };
}

/** A wait of 1-3 s, less where the lease ends sooner: whoever has it may well have asked for the same. */
function retryMs(freeInMs: number, random: () => number): number {
  return Math.min(freeInMs, SECOND_MS * (1 + 2 * random()));
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
  let open = 0;
  for (let start = 0; start < buckets.length; start += BATCH) {
    if (tally.queries > 0) await pause(SPACING_MS, clock, signal);
    const giveUpAt = clock.monotonic() + LEASE_MS + SPACING_MS;
    let batch: readonly Cidr[] = buckets.slice(start, start + BATCH);
    let outcome = await askBatch(batch, correspondence, tally, signal);
    while (outcome.kind === 'taken') {
      if (signal.aborted || clock.monotonic() > giveUpAt)
        return `Cannot ask "${provider.server}": another peerscope of this host is asking`;
      await pause(retryMs(outcome.freeInMs, random), clock, signal);
      batch = outcome.missing;
      outcome = await askBatch(batch, correspondence, tally, signal);
    }
    if (outcome.kind === 'failed') return outcome.reason;
    if (outcome.kind === 'asked') open += outcome.unanswered.length + outcome.refused.length;
  }
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

function openAfter(outcome: Outcome): readonly Cidr[] {
  if (outcome.kind === 'known') return [];
  return outcome.kind === 'asked' ? [...outcome.unanswered, ...outcome.refused] : outcome.missing;
}

interface Question {
  readonly bucket: Cidr;
  retries: number;
}

/**
 * The questions that wait for the provider. What the store holds is answered at once; the rest gathers for 5 s, at most 30 s
 * (the first time for up to 5 s more), and goes out in sessions of at most 1,000, one at a time and 10 s apart. While sessions
 * fail a breaker lets one try out after one minute, doubling to one hour, with full jitter. What a session left unanswered goes
 * into the next one, up to three times, and then rests for an hour; what the server calls no address rests for a day.
 */
export class Questions {
  /** Questions turned away because 50,000 were waiting; they come again while they are in use. */
  dropped = 0;
  /** Networks that the server called no address. */
  refused = 0;
  /** Lines of replies that had no meaning, contradicted themselves or answered what was not asked. */
  malformed = 0;
  readonly #correspondence: Correspondence;
  readonly #waiting = new Map<string, Question>();
  readonly #restingUntil = new Map<string, number>();
  readonly #tally: Tally = { queries: 0, queryFailures: 0, addressesSent: 0 };
  readonly #stop = new AbortController();
  #gatheringSince: number | undefined;
  #gatherUntil = 0;
  /** So that exporters that start together do not ask together. */
  #firstDelayMs: number;
  #notBefore = 0;
  #failuresInRow = 0;
  #session: Promise<void> | undefined;
  #cancel: () => void = () => undefined;

  constructor(correspondence: Correspondence) {
    this.#correspondence = correspondence;
    this.#firstDelayMs = correspondence.random() * FIRST_DELAY_MOST_MS;
  }

  /** Takes questions; resolves once what the store holds of them has been delivered. What waits or rests already stays as it is. */
  async ask(buckets: readonly Cidr[]): Promise<void> {
    const { store, deliver, report, clock } = this.#correspondence;
    const now = clock.monotonic();
    const droppedBefore = this.dropped;
    const added = buckets.filter((bucket) => this.#enqueue(bucket, now));
    if (this.dropped > droppedBefore)
      report(`Cannot take ${this.dropped - droppedBefore} more questions for an ASN: ${WAITING_MOST} are waiting`);
    if (added.length === 0) return;
    this.#gatheringSince ??= now;
    this.#gatherUntil = Math.min(now + DEBOUNCE_MS, this.#gatheringSince + DEBOUNCE_MOST_MS);
    this.#plan();
    const known = await recall(store, added, clock.now());
    if (known.length > 0) deliver(known);
    for (const { bucket, origin } of known) if (isFresh(origin, clock.now())) this.#waiting.delete(keyOf(bucket));
  }

  status(): AsnStatus {
    const { provider, store } = this.#correspondence;
    return {
      provider: provider.name,
      pending: this.#waiting.size,
      ...this.#tally,
      breakerOpen: this.#failuresInRow > 0,
      storeUp: store?.up ?? null,
      store: store?.name ?? null,
    };
  }

  /** Ends a session under way, gives its lease back and asks no more. */
  async close(): Promise<void> {
    this.#cancel();
    this.#stop.abort();
    await this.#session;
  }

  #enqueue(bucket: Cidr, now: number): boolean {
    const key = keyOf(bucket);
    if (this.#stop.signal.aborted || this.#waiting.has(key) || (this.#restingUntil.get(key) ?? 0) > now) return false;
    if (this.#waiting.size >= WAITING_MOST) {
      this.dropped++;
      return false;
    }
    this.#waiting.set(key, { bucket, retries: 0 });
    return true;
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
    const { provider, clock, random, report } = this.#correspondence;
    const batch = [...this.#waiting.values().take(BATCH)].map(({ bucket }) => bucket);
    this.#gatheringSince = undefined;
    this.#firstDelayMs = 0;
    const outcome = await this.#askBatch(batch);
    const now = clock.monotonic();
    const openKeys = new Set(openAfter(outcome).map(keyOf));
    for (const key of batch.map(keyOf)) if (!openKeys.has(key)) this.#waiting.delete(key);
    if (outcome.kind === 'known') return;
    if (outcome.kind === 'taken') {
      this.#notBefore = now + retryMs(outcome.freeInMs, random);
      return;
    }
    this.#notBefore = now + SPACING_MS;
    if (outcome.kind === 'failed') {
      if (this.#stop.signal.aborted) return;
      const breakMs = random() * Math.min(HOUR_MS, MINUTE_MS * 2 ** this.#failuresInRow++);
      this.#notBefore = now + Math.max(SPACING_MS, breakMs);
      report(outcome.reason);
      return;
    }
    this.#failuresInRow = 0;
    this.refused += outcome.refused.length;
    this.malformed += outcome.malformed;
    for (const bucket of outcome.refused) this.#rest(bucket, now + REFUSED_REST_MS);
    const givenUp = outcome.unanswered.filter((bucket) => (this.#waiting.get(keyOf(bucket))?.retries ?? 0) >= RETRIES);
    for (const bucket of givenUp) this.#rest(bucket, now + UNANSWERED_REST_MS);
    for (const bucket of outcome.unanswered) {
      const question = this.#waiting.get(keyOf(bucket));
      if (question) question.retries++;
    }
    if (outcome.refused.length > 0)
      report(`Cannot resolve ${outcome.refused.length} networks: "${provider.server}" calls them no addresses`);
    if (givenUp.length > 0)
      report(`Cannot resolve ${givenUp.length} networks: "${provider.server}" gave no answer ${1 + RETRIES} times`);
  }

  async #askBatch(batch: readonly Cidr[]): Promise<Outcome> {
    try {
      return await askBatch(batch, this.#correspondence, this.#tally, this.#stop.signal);
    } catch (error) {
      return { kind: 'failed', reason: String(error), missing: batch };
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
