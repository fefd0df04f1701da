import { formatCidr } from '../../common/address.ts';
import type { Timer } from '../../common/clock.ts';
import type { Cidr } from '../../model.ts';
import { isFresh, isServable, parseOrigin, renderOrigin, STALE_MS, type Answer } from './cache.ts';
import { originOf, type Exchange, type Reply } from './cymru-whois.ts';
import type { Pool } from './shared-queue.ts';
import type { Breaker, Store, StoredText } from '../../store/contract.ts';

const SECOND_MS = 1_000;
const HOUR_MS = 3_600_000;

/** The most networks of one session. */
export const BATCH = 1_000;
/** Longer than a session may last, so that a lease ends by itself only when its holder died. */
export const LEASE_MS = 65 * SECOND_MS;
/** The least time between two sessions of all who share a store. */
export const SPACING_MS = 10 * SECOND_MS;
export const UNANSWERED_REST_MS = HOUR_MS;
export const REFUSED_REST_MS = 24 * HOUR_MS;
/** The most networks looked up in the store while another asks: a thousand exporters that wait do so at once. */
const LOOK_MOST = 200;
/** How often a network is asked for that gets no answer, before it rests. */
export const TRIES = 4;
const FRESH_MS = 24 * HOUR_MS;
const NOT_ANNOUNCED_FRESH_MS = 6 * HOUR_MS;

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
export interface Tally {
  queries: number;
  queryFailures: number;
  addressesSent: number;
}

/** What a session is for. */
export interface Errand {
  /** At most 1,000. */
  readonly own: readonly Cidr[];
  /** What others want to know is asked before it, up to 1,000 in all; null where nobody else's is. */
  readonly pool: Pool | null;
  /** How often a network was asked for in vain, as far as this process knows. */
  readonly triesOf: (bucket: Cidr) => number;
  readonly tally: Tally;
  /** The time to the next session, which the lease keeps beyond a restart. */
  readonly spacingMs: number;
  readonly signal: AbortSignal;
}

/**
 * How a batch ended: there was nothing to ask, another has the lease (or the breaker is open) for so long, the session failed, or it
 * was held. `settled` is answered, `resting` was asked for in vain too often, by whoever shares the store.
 */
export type Outcome = {
  readonly settled: readonly Cidr[];
  readonly resting: readonly Cidr[];
  /** As the store knew it before; null where it knows none. */
  readonly breaker: Breaker | null;
} & (
  | { readonly kind: 'nothing' }
  | { readonly kind: 'taken'; readonly freeInMs: number }
  | { readonly kind: 'failed'; readonly reason: string; readonly malformed: number }
  | {
      readonly kind: 'asked';
      readonly unanswered: readonly Cidr[];
      /** Those of the unanswered that are to rest now. */
      readonly givenUp: readonly Cidr[];
      readonly refused: readonly Cidr[];
      readonly malformed: number;
    }
);

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

/** Gives answers to a store that may lack them; where it has one as new, that one stays. */
export async function restore(store: Store, answers: readonly Answer[], now: number): Promise<void> {
  const buckets = answers.map(({ bucket }) => bucket);
  const kept = await recall(store, buckets, now);
  const askedAt = new Map(kept.map(({ bucket, origin }) => [keyOf(bucket), origin.askedAt]));
  const newer = answers.filter(({ bucket, origin }) => origin.askedAt > (askedAt.get(keyOf(bucket)) ?? -Infinity));
  await store.write(newer.map(storedAnswer));
}

/** The name under which all who ask one server of a provider know each other. */
export function nameOf({ name, server }: Provider, thing: 'lock' | 'breaker' | 'queue'): string {
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
 * Answers up to 1,000 buckets from the store, and in one session with the provider what is not fresh there. One asker at a time
 * among all who share the store; the lease that sees to it then also keeps the distance to the next session.
 */
export async function askBatch(correspondence: Correspondence, errand: Errand): Promise<Outcome> {
  const { provider, store, deliver, clock } = correspondence;
  const { own, tally, spacingMs, signal } = errand;
  const lease = nameOf(provider, 'lock');
  const breaker = (await store?.commons?.breaker(nameOf(provider, 'breaker'))) ?? null;
  const openMs = breaker?.openMs ?? 0;
  const freeInMs = openMs > 0 ? openMs : ((await store?.acquire(lease, Math.max(LEASE_MS, spacingMs))) ?? 0);
  // The lease of a store that fails is everybody's: then each asks for itself.
  const pool = store?.up ? errand.pool : null;
  const mine = freeInMs > 0 && pool ? someOf(own, LOOK_MOST, correspondence.random) : own;
  const batch = freeInMs > 0 || !pool ? mine : unite(await pool.oldest(BATCH), own);
  const known = await recall(store, batch, clock.now());
  if (known.length > 0) deliver(known);
  const fresh = new Set(known.filter(({ origin }) => isFresh(origin, clock.now())).map(({ bucket }) => keyOf(bucket)));
  const settled = batch.filter((bucket) => fresh.has(keyOf(bucket)));
  const missing = batch.filter((bucket) => !fresh.has(keyOf(bucket)));
  if (freeInMs > 0) {
    const common = { settled, resting: [], breaker };
    return missing.length === 0 ? { kind: 'nothing', ...common } : { kind: 'taken', freeInMs, ...common };
  }
  const tries = await readTries(store, missing);
  const resting = missing.filter((bucket) => (tries.get(keyOf(bucket)) ?? 0) >= TRIES);
  const open = missing.filter((bucket) => !resting.includes(bucket));
  await pool?.remove([...settled, ...resting]);
  const common = { settled, resting, breaker };
  if (open.length === 0 || signal.aborted) {
    await store?.release(lease);
    return open.length === 0
      ? { kind: 'nothing', ...common }
      : { kind: 'failed', reason: `Cannot ask "${provider.server}": stopped`, malformed: 0, ...common };
  }
  tally.queries++;
  const exchange = await provider.ask(open, signal);
  tally.addressesSent += exchange.sent;
  if ('failure' in exchange) {
    tally.queryFailures++;
    await store?.hold(lease, spacingMs);
    return { kind: 'failed', reason: exchange.failure, malformed: exchange.malformed ?? 0, ...common };
  }
  const { reply } = exchange;
  const answers = answersOf(reply, known, correspondence);
  deliver(answers);
  const triesOf = (bucket: Cidr): number => 1 + Math.max(tries.get(keyOf(bucket)) ?? 0, errand.triesOf(bucket));
  await store?.write([...answers.map(storedAnswer), ...storedTries(reply, triesOf, clock.now())]);
  const answered = answers.map(({ bucket }) => bucket);
  await pool?.remove([...answered, ...reply.refused]);
  await store?.hold(lease, spacingMs);
  const { unanswered, refused } = reply;
  const givenUp = unanswered.filter((bucket) => triesOf(bucket) >= TRIES);
  const malformed = reply.malformed + reply.unasked;
  return { kind: 'asked', ...common, settled: [...settled, ...answered], unanswered, givenUp, refused, malformed };
}

/** So many neighbours from a place left to chance, so that what is answered late does not hide the rest. */
function someOf(buckets: readonly Cidr[], most: number, random: () => number): readonly Cidr[] {
  const start = Math.floor(random() * buckets.length);
  return buckets.length <= most ? buckets : [...buckets.slice(start), ...buckets.slice(0, start)].slice(0, most);
}

function unite(first: readonly Cidr[], then: readonly Cidr[]): Cidr[] {
  const buckets = new Map([...first, ...then].map((bucket) => [keyOf(bucket), bucket]));
  return [...buckets.values()].slice(0, BATCH);
}

function answersOf(reply: Reply, known: readonly Answer[], { provider, clock, random }: Correspondence): Answer[] {
  const origins = new Map(known.map(({ bucket, origin }) => [keyOf(bucket), origin]));
  const askedAt = clock.now();
  return reply.answers.map(({ bucket, announcement }) => {
    const freshMs = announcement.prefix ? FRESH_MS * (0.9 + 0.2 * random()) : NOT_ANNOUNCED_FRESH_MS;
    const times = { askedAt, freshUntil: askedAt + Math.round(freshMs), source: provider.name };
    return { bucket, origin: originOf(announcement, origins.get(keyOf(bucket))?.asns[0], times) };
  });
}

async function readTries(store: Store | null, buckets: readonly Cidr[]): Promise<ReadonlyMap<string, number>> {
  if (!store || buckets.length === 0) return new Map();
  const texts = await store.read(buckets.map(triesKeyOf));
  return new Map(buckets.map((bucket) => [keyOf(bucket), Number(texts.get(triesKeyOf(bucket))) || 0]));
}

function storedTries(reply: Reply, triesOf: (bucket: Cidr) => number, now: number): StoredText[] {
  const stored = (buckets: readonly Cidr[], tries: (bucket: Cidr) => number, keepMs: number): StoredText[] =>
    buckets.map((bucket) => ({ key: triesKeyOf(bucket), text: String(tries(bucket)), keepUntil: now + keepMs }));
  return [
    ...stored(reply.unanswered, triesOf, UNANSWERED_REST_MS),
    ...stored(reply.refused, () => TRIES, REFUSED_REST_MS),
  ];
}
