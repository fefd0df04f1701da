import { formatCidr } from '../../common/address.ts';
import type { Timer } from '../../common/clock.ts';
import type { Cidr } from '../../model.ts';
import { isFresh, isServable, parseOrigin, renderOrigin, STALE_MS, type Answer } from './cache.ts';
import { toOrigin, type Exchange, type Reply } from './cymru-whois.ts';
import type { SharedQueue } from './shared-queue.ts';
import { MAX_CLOCK_SKEW_MS, type BreakerState, type Store, type StoredText } from '../../store/contract.ts';

const SECOND_MS = 1_000;
const HOUR_MS = 3_600_000;

/** The maximum number of networks per session. */
export const BATCH = 1_000;
/** Longer than any session, so that a lease expires only if its holder died. */
export const LEASE_MS = 65 * SECOND_MS;
/** The minimum time between two sessions of all users of a store. */
export const SPACING_MS = 10 * SECOND_MS;
export const UNANSWERED_REST_MS = HOUR_MS;
export const REFUSED_REST_MS = 24 * HOUR_MS;
/**
 * The maximum number of networks read from the store while another exporter holds the lease. A thousand waiting
 * exporters may read at once.
 */
const LOOK_MOST = 200;
/** How often an unanswered network is queried before it is paused. */
export const TRIES = 4;
const FRESH_MS = 24 * HOUR_MS;
const NOT_ANNOUNCED_FRESH_MS = 6 * HOUR_MS;

/** A network provider. */
export interface Provider {
  readonly name: string;
  readonly server: string;
  query(buckets: readonly Cidr[], signal: AbortSignal): Promise<Exchange>;
}

/** The dependencies of a query. */
export interface QueryContext {
  readonly provider: Provider;
  /** Null if nothing is persisted. */
  readonly store: Store | null;
  /** Receives answers from the store and from the provider as they arrive. */
  readonly onAnswers: (answers: readonly Answer[]) => void;
  /** Receives one line per failure. */
  readonly report: (message: string) => void;
  readonly clock: Timer;
  /** Returns a number from 0 up to, but not including, 1. */
  readonly random: () => number;
}

/** Counters of queries to the provider. */
export interface QueryCounts {
  queries: number;
  queryFailures: number;
  addressesSent: number;
}

/** The input of one session. */
export interface BatchRequest {
  /** At most 1,000. */
  readonly own: readonly Cidr[];
  /** Networks queued by other exporters and `own` take turns, up to 1,000 in total. Null if there is no shared queue. */
  readonly queue: SharedQueue | null;
  /** How often this process queried a network without an answer. */
  readonly triesOf: (bucket: Cidr) => number;
  readonly counts: QueryCounts;
  /** The time until the next session. The lease keeps it across restarts. */
  readonly spacingMs: number;
  readonly signal: AbortSignal;
  /** Whether to query without the lease. */
  readonly ignoresLease?: boolean;
}

/**
 * The result of a batch: nothing to query, lease taken or breaker open for `freeInMs`, session failed, or session
 * done. `settled` is answered; `resting` was queried too often without an answer by any user of the store.
 */
export type BatchResult = {
  readonly settled: readonly Cidr[];
  readonly resting: readonly Cidr[];
  /** The stored state before the batch. Null if the store has none. */
  readonly breaker: BreakerState | null;
} & (
  | { readonly kind: 'nothing' }
  | { readonly kind: 'taken'; readonly freeInMs: number }
  | { readonly kind: 'failed'; readonly reason: string; readonly malformed: number }
  | {
      readonly kind: 'asked';
      readonly unanswered: readonly Cidr[];
      /** The unanswered networks that are paused now. */
      readonly givenUp: readonly Cidr[];
      readonly refused: readonly Cidr[];
      readonly malformed: number;
    }
);

/** Returns the stored answers for these buckets, up to 30 days old. */
export async function readAnswers(
  store: Pick<Store, 'read'> | null,
  buckets: readonly Cidr[],
  now: number,
): Promise<Answer[]> {
  if (!store) return [];
  const keys = buckets.map(keyOf);
  const texts = await store.read(keys);
  return buckets.flatMap((bucket, i) => {
    const origin = parseOrigin(texts.get(keys[i] ?? '') ?? '');
    return origin && isServable(origin, now) ? [{ bucket, origin }] : [];
  });
}

/** Writes answers to a store that may lack them. A stored answer that is as new is kept. */
export async function restoreAnswers(store: Store, answers: readonly Answer[], now: number): Promise<void> {
  const buckets = answers.map(({ bucket }) => bucket);
  const kept = await readAnswers(store, buckets, now);
  const askedAt = new Map(kept.map(({ bucket, origin }) => [keyOf(bucket), origin.askedAt]));
  const newer = answers.filter(({ bucket, origin }) => origin.askedAt > (askedAt.get(keyOf(bucket)) ?? -Infinity));
  await store.write(newer.map(storedAnswer));
}

/** Returns the store key that all users of one server of a provider share. */
export function sharedKeyOf({ name, server }: Provider, thing: 'lock' | 'breaker' | 'queue' | 'failure'): string {
  return `asn:1:${thing}:${name}:${server}`;
}

export function keyOf(bucket: Cidr): string {
  return `asn:1:${formatCidr(bucket)}`;
}

function triesKeyOf(bucket: Cidr): string {
  return `asn:1:tries:${formatCidr(bucket)}`;
}

function storedAnswer({ bucket, origin }: Answer): StoredText {
  return { key: keyOf(bucket), text: renderOrigin(origin), keepUntil: origin.askedAt + STALE_MS };
}

/**
 * Answers up to 1,000 buckets: from the store, then in one session with the provider. The lease allows one session at
 * a time among all users of the store, and then enforces the time between sessions.
 */
export async function queryBatch(context: QueryContext, request: BatchRequest): Promise<BatchResult> {
  const { provider, store, onAnswers: deliver, clock } = context;
  const { own, counts, spacingMs, signal } = request;
  const lease = sharedKeyOf(provider, 'lock');
  const breaker = (await store?.shared?.readBreaker(sharedKeyOf(provider, 'breaker'))) ?? null;
  const openMs = breaker?.openMs ?? 0;
  const acquire = async (): Promise<number> => (await store?.acquire(lease, Math.max(LEASE_MS, spacingMs))) ?? 0;
  const freeInMs = openMs > 0 ? openMs : request.ignoresLease ? 0 : await acquire();
  // A failed store grants the lease to every exporter, so each queries only its own networks.
  const pool = store?.up ? request.queue : null;
  const mine = freeInMs > 0 && pool ? someOf(own, LOOK_MOST, context.random) : own;
  const batch = freeInMs > 0 || !pool ? mine : takeTurns(await pool.oldest(BATCH), own);
  const known = await readAnswers(store, batch, clock.now());
  if (known.length > 0) deliver(known);
  const fresh = new Set(known.filter(({ origin }) => isFresh(origin, clock.now())).map(({ bucket }) => keyOf(bucket)));
  const settled = batch.filter((bucket) => fresh.has(keyOf(bucket)));
  const missing = batch.filter((bucket) => !fresh.has(keyOf(bucket)));
  if (freeInMs > 0) {
    const common = { settled, resting: [], breaker };
    return missing.length === 0 ? { kind: 'nothing', ...common } : { kind: 'taken', freeInMs, ...common };
  }
  const tries = await readTries(store, missing, clock.now());
  const resting = missing.filter((bucket) => (tries.get(keyOf(bucket)) ?? 0) >= TRIES);
  const open = missing.filter((bucket) => !resting.includes(bucket));
  await pool?.remove([...settled, ...resting]);
  const common = { settled, resting, breaker };
  if (open.length === 0 || signal.aborted) {
    await store?.release(lease);
    return open.length === 0
      ? { kind: 'nothing', ...common }
      : { kind: 'failed', reason: `Cannot query "${provider.server}": stopped`, malformed: 0, ...common };
  }
  counts.queries++;
  const exchange = await provider.query(open, signal);
  counts.addressesSent += exchange.sent;
  if ('failure' in exchange) {
    counts.queryFailures++;
    await store?.renew(lease, spacingMs);
    return { kind: 'failed', reason: exchange.failure, malformed: exchange.malformed ?? 0, ...common };
  }
  const { reply } = exchange;
  const answers = answersOf(reply, known, context);
  deliver(answers);
  const triesOf = (bucket: Cidr): number => 1 + Math.max(tries.get(keyOf(bucket)) ?? 0, request.triesOf(bucket));
  await store?.write([...answers.map(storedAnswer), ...storedTries(reply, triesOf, clock.now())]);
  const answered = answers.map(({ bucket }) => bucket);
  await pool?.remove([...answered, ...reply.refused]);
  await store?.renew(lease, spacingMs);
  const { unanswered, refused } = reply;
  const givenUp = unanswered.filter((bucket) => triesOf(bucket) >= TRIES);
  const malformed = reply.malformed + reply.unasked;
  return { kind: 'asked', ...common, settled: [...settled, ...answered], unanswered, givenUp, refused, malformed };
}

/** Returns `most` consecutive buckets from a random start, so that late answers do not hide the others. */
function someOf(buckets: readonly Cidr[], most: number, random: () => number): readonly Cidr[] {
  const start = Math.floor(random() * buckets.length);
  return buckets.length <= most ? buckets : [...buckets.slice(start), ...buckets.slice(0, start)].slice(0, most);
}

/** Whatever is in the queue, half of the networks are our own; what one half does not need is for the other. */
function takeTurns(queued: readonly Cidr[], own: readonly Cidr[]): Cidr[] {
  const buckets = new Map<string, Cidr>();
  for (let i = 0; i < Math.max(queued.length, own.length); i++)
    for (const bucket of [queued[i], own[i]]) if (bucket && buckets.size < BATCH) buckets.set(keyOf(bucket), bucket);
  return [...buckets.values()];
}

function answersOf(reply: Reply, known: readonly Answer[], { provider, clock, random }: QueryContext): Answer[] {
  const origins = new Map(known.map(({ bucket, origin }) => [keyOf(bucket), origin]));
  const askedAt = clock.now();
  return reply.answers.map(({ bucket, announcement }) => {
    const freshMs = announcement.prefix ? FRESH_MS * (0.9 + 0.2 * random()) : NOT_ANNOUNCED_FRESH_MS;
    const times = { askedAt, freshUntil: askedAt + Math.round(freshMs), source: provider.name };
    return { bucket, origin: toOrigin(announcement, origins.get(keyOf(bucket))?.asns[0], times) };
  });
}

async function readTries(
  store: Store | null,
  buckets: readonly Cidr[],
  now: number,
): Promise<ReadonlyMap<string, number>> {
  if (!store || buckets.length === 0) return new Map();
  const texts = await store.read(buckets.map(triesKeyOf));
  return new Map(buckets.map((bucket) => [keyOf(bucket), parseTries(texts.get(triesKeyOf(bucket)) ?? '', now)]));
}

/** The number of tries, and until when it counts: another client of the store could keep it for ever. */
function parseTries(text: string, now: number): number {
  const [, tries, until] = /^(\d{1,4}) (\d{1,15})$/.exec(text) ?? [];
  const leftMs = Number(until) - now;
  return leftMs > 0 && leftMs <= REFUSED_REST_MS + MAX_CLOCK_SKEW_MS ? Number(tries) : 0;
}

function storedTries(reply: Reply, triesOf: (bucket: Cidr) => number, now: number): StoredText[] {
  const stored = (buckets: readonly Cidr[], tries: (bucket: Cidr) => number, keepMs: number): StoredText[] =>
    buckets.map((bucket) => {
      const keepUntil = now + keepMs;
      return { key: triesKeyOf(bucket), text: `${tries(bucket)} ${keepUntil}`, keepUntil };
    });
  return [
    ...stored(reply.unanswered, triesOf, UNANSWERED_REST_MS),
    ...stored(reply.refused, () => TRIES, REFUSED_REST_MS),
  ];
}
