import { cidrContains, formatCidr, isIPv4, maskAddress, parseCidr } from '../../common/address.ts';
import { isDatabase, type AsnProviderName } from '../../common/asn-providers.ts';
import type { Address, Cidr, Origin } from '../../model.ts';
import { TurnQueue } from '../../common/turn-queue.ts';
import { bucketOf, addressBlock, isAnnounceable } from '../../common/network-class.ts';

/**
 * The answer to one query: for a /24 or /48, or for one address of a file. A plain object, so it can be sent over a
 * MessagePort.
 */
export interface Answer {
  readonly bucket: Cidr;
  readonly origin: Origin;
  /**
   * The record of a file that contains the queried address. Default: the bucket, or the prefix of the origin if that
   * is longer.
   */
  readonly covers?: Cidr;
}

/** A network to query, and who needs the answer: those who need answers take turns. */
export interface Question extends Cidr {
  readonly tenant: string;
}

const CAPACITY = 50_000;
const REPEAT_MS = 300_000;

/** The maximum number of origins of a network. Real networks have fewer than ten. */
export const ORIGINS_MOST = 16;

/** Longer than any answer is fresh: a store may contain an answer that another client would never let expire. */
const FRESH_MOST_MS = 7 * 86_400_000;

/** How long an answer is served if it cannot be renewed. */
export const STALE_MS = 30 * 86_400_000;

/** Returns true if an answer needs no renewal. A clock set back by more than the lifetime makes the answer stale. */
export function isFresh(origin: Origin, now: number): boolean {
  return Math.abs(now - origin.askedAt) < origin.freshUntil - origin.askedAt;
}

/** Returns true if an answer may still be served: it is at most 30 days old. */
export function isServable(origin: Origin, now: number): boolean {
  return Math.abs(now - origin.askedAt) <= STALE_MS;
}

/**
 * Returns true if an ASN cannot be an origin: 0 (RFC 7607), AS_TRANS 23456 (RFC 6793), documentation (RFC 5398),
 * private use (RFC 6996), the last ones (RFC 7300) and reserved ranges between them.
 */
export function isReservedAsn(asn: number): boolean {
  return asn === 0 || asn === 23456 || (asn >= 64496 && asn <= 131071) || asn >= 4_200_000_000;
}

/** Serializes an answer for a store as one line of JSON. `parseOrigin` is the inverse. */
export function renderOrigin(origin: Origin): string {
  return JSON.stringify({
    v: 1,
    a: origin.asns,
    p: origin.prefix,
    c: origin.registryCountry,
    r: origin.registry,
    d: origin.allocated,
    n: origin.name,
    o: origin.asCountry,
    t: origin.askedAt,
    x: origin.freshUntil,
    s: origin.source,
  });
}

/** Parses the output of `renderOrigin`; undefined for anything else, including another version. */
export function parseOrigin(text: string): Origin | undefined {
  let stored: unknown;
  try {
    stored = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { v, a, p, c, r, d, n, o, t, x, s } = Object(stored) as Record<string, unknown>;
  if (v !== 1 || !Array.isArray(a) || a.length > ORIGINS_MOST || !a.every(isAsn) || !isWhole(t) || !isWhole(x))
    return undefined;
  if (x - t > FRESH_MOST_MS) return undefined;
  if (!isTextOrNull(n, CLEAN) || !isTextOrNull(p, PREFIX) || (p !== null && !isPrefix(p))) return undefined;
  if (!isTextOrNull(o, COUNTRY) || !isTextOrNull(c, COUNTRY) || !isTextOrNull(r, WORD) || !isTextOrNull(d, DATE))
    return undefined;
  if (s === null || !isTextOrNull(s, WORD)) return undefined;
  return {
    asns: a,
    name: n,
    asCountry: o,
    prefix: p,
    registry: r,
    registryCountry: c,
    allocated: d,
    askedAt: t,
    freshUntil: x,
    source: s,
  };
}

function isPrefix(text: string): boolean {
  const prefix = parseCidr(text);
  return prefix !== undefined && isAnnounceable(prefix);
}

function isAsn(value: unknown): value is number {
  return isWhole(value) && value >= 0 && value < 2 ** 32;
}

/** JSON allows a negative zero, which `renderOrigin` never writes. */
function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && !Object.is(value, -0);
}

/** A store may contain untrusted text, and this text appears in terminals and labels. */
const CLEAN = /^[^\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]{1,128}$/u;
const PREFIX = /^[0-9a-f.:]+\/\d{1,3}$/;
const COUNTRY = /^[A-Z]{2}$/;
const WORD = /^[a-z-]{1,20}$/;
const DATE = /^\d{4}-\d\d-\d\d$/;

function isTextOrNull(value: unknown, form: RegExp): value is string | null {
  return value === null || (typeof value === 'string' && form.test(value));
}

interface Entry {
  /** The addresses that the answer applies to. */
  readonly covers: Cidr;
  readonly origin: Origin;
}

/**
 * Cached answers and pending queries, for the 50,000 most recent queries. A query is for a /24 or /48, or for one
 * address if the provider is a file. Up to 50,000 records of a file are cached separately; a fresh record answers
 * every address that it contains.
 *
 * No method blocks. A lookup without a fresh answer queues a query, and another thread resolves it. The query is
 * queued again only if the address is still in use five minutes later without an answer, so a lost query does no
 * harm.
 */
export class AsnCache {
  lookups = 0;
  hits = 0;
  /** Returns the block to query for an address. */
  readonly blockOf: (address: Address) => Cidr;
  readonly #entries = new Latest<Entry>();
  readonly #records = new Records();
  readonly #notedAt = new Latest<number>();
  #questions = new TurnQueue<Question>(CAPACITY);

  constructor(questionOf: (address: Address) => Cidr = bucketOf) {
    this.blockOf = questionOf;
  }

  /** The number of cached answers. */
  get entries(): number {
    return this.#entries.size;
  }

  /**
   * Returns the origin of an address, or null if unknown. An answer up to 30 days old is returned while its renewal
   * is queued. An answer with a prefix longer than the bucket applies only to addresses of that prefix. The address
   * must be public, unwrapped, and allowed by `mayQuery`. `tenant` is who needs the answer.
   */
  lookup(address: Address, now: number, tenant = ''): Origin | null {
    this.lookups++;
    const bucket = this.blockOf(address);
    const key = formatCidr(bucket);
    const entry = this.#entries.get(key);
    const record = entry ? undefined : this.#records.find(address, now);
    if (record) {
      this.hits++;
      return record.origin;
    }
    if (!entry || !isFresh(entry.origin, now)) this.#note(key, bucket, now, tenant);
    if (!entry) return null;
    this.#entries.delete(key);
    if (!isServable(entry.origin, now)) return null;
    this.#entries.set(key, entry);
    if (!cidrContains(entry.covers, address)) return null;
    this.hits++;
    return entry.origin;
  }

  /** Returns all cached answers, most recently used last. */
  answers(): Answer[] {
    return [...this.#entries].flatMap(([key, { origin }]) => {
      const bucket = parseCidr(key);
      return bucket ? [{ bucket, origin }] : [];
    });
  }

  /** Queues a query that another tenant may have queued already, so that it is in the turns of both. */
  want(address: Address, now: number, tenant: string): void {
    const bucket = this.blockOf(address);
    this.#note(formatCidr(bucket), bucket, now, tenant);
  }

  /** Returns the buckets queued since the last call, in the order of turns. */
  takeQueries(): Question[] {
    const questions = [...this.#questions.items()];
    this.#questions = new TurnQueue(CAPACITY);
    return questions;
  }

  /**
   * Stores answers, newest last. The primary ASN stays primary while it is among the origins. Returns the buckets, as
   * text such as "192.0.2.0/24", with a changed answer (ignoring times).
   */
  accept(answers: readonly Answer[]): Set<string> {
    const changed = new Set<string>();
    for (const { bucket, origin: received, covers } of answers) {
      const key = formatCidr(bucket);
      const previous = this.#entries.get(key)?.origin;
      const origin = previous ? keepPrimary(received, previous) : received;
      this.#notedAt.delete(key);
      this.#entries.delete(key);
      const entry = { covers: covers ?? coveredBy(bucket, origin), origin };
      this.#entries.set(key, entry);
      if (covers) this.#records.replace(bucket.address, entry);
      if (!previous || published(previous) !== published(origin)) changed.add(key);
    }
    return changed;
  }

  /**
   * Removes the answers for these buckets. Returns the buckets as text; each may have had an answer, also from a
   * record.
   */
  forget(buckets: readonly Cidr[]): Set<string> {
    for (const { address } of buckets) this.#records.drop(address);
    const keys = buckets.map(formatCidr);
    for (const key of keys) this.#entries.delete(key);
    return new Set(keys);
  }

  #note(key: string, bucket: Cidr, now: number, tenant: string): void {
    const noteKey = tenant === '' ? key : `${tenant} ${key}`;
    const notedAt = this.#notedAt.get(noteKey);
    if (notedAt !== undefined && Math.abs(now - notedAt) < REPEAT_MS) return;
    const question = { ...bucket, tenant };
    const lost = this.#questions.add(tenant, question);
    if (lost === question) return;
    if (lost) this.#notedAt.delete(lost.tenant === '' ? formatCidr(lost) : `${lost.tenant} ${formatCidr(lost)}`);
    this.#notedAt.delete(noteKey);
    this.#notedAt.set(noteKey, now);
  }
}

/** Creates the cache for a provider: keyed by address for a file, else by /24 or /48. Null without a provider. */
export function openCache(provider: AsnProviderName): AsnCache | null {
  if (provider === 'none') return null;
  return new AsnCache(isDatabase(provider) ? addressBlock : bucketOf);
}

/** The records of a file, by network. Records of one version of a file do not overlap. */
class Records {
  readonly #entries = new Latest<Entry>();
  /** All record lengths so far, longest first. */
  #lengths: number[] = [];

  /** Returns the longest fresh record that contains an address. */
  find(address: Address, now: number): Entry | undefined {
    for (const key of this.#keys(address)) {
      const entry = this.#entries.get(key);
      if (entry && isFresh(entry.origin, now)) return entry;
    }
    return undefined;
  }

  /** Stores a record and removes older records that contain this address. */
  replace(address: Address, entry: Entry): void {
    this.drop(address);
    const { bits } = entry.covers;
    if (!this.#lengths.includes(bits)) this.#lengths = [...this.#lengths, bits].sort((a, b) => b - a);
    this.#entries.set(recordKey(address, bits), entry);
  }

  drop(address: Address): void {
    if (this.#entries.size > 0) for (const key of this.#keys(address)) this.#entries.delete(key);
  }

  *#keys(address: Address): Generator<string> {
    const shortest = isIPv4(address) ? 96 : 0;
    for (const bits of this.#lengths) if (bits >= shortest) yield recordKey(address, bits);
  }
}

function recordKey(address: Address, bits: number): string {
  const [a, b, c, d] = maskAddress(address, bits);
  return `${a} ${b} ${c} ${d} ${bits}`;
}

/** The name belongs to the primary ASN, so both are kept. */
function keepPrimary(origin: Origin, previous: Origin): Origin {
  const [primary] = previous.asns;
  if (primary === undefined || primary === origin.asns[0] || !origin.asns.includes(primary)) return origin;
  const asns = [primary, ...origin.asns.filter((asn) => asn !== primary)];
  return { ...origin, asns, name: previous.name, asCountry: previous.asCountry };
}

function coveredBy(bucket: Cidr, origin: Origin): Cidr {
  const prefix = origin.prefix === null ? undefined : parseCidr(origin.prefix);
  return prefix && prefix.bits > bucket.bits ? prefix : bucket;
}

function published(origin: Origin): string {
  const { asns, name, asCountry, prefix, registry, registryCountry, allocated } = origin;
  return JSON.stringify([asns, name, asCountry, prefix, registry, registryCountry, allocated]);
}

/** After this number of values without an eviction, the place of the last one is given up. */
const IDLE_SETS = 1_000;

/** A map limited to the 50,000 values set last. */
class Latest<V> extends Map<string, V> {
  /**
   * Continues at the last evicted entry: a new iterator would skip over all deleted entries again. None is kept while nothing is evicted,
   * because an iterator that does not move keeps every table that the map has outgrown since, and every key in them.
   */
  #oldest: MapIterator<string> | null = null;
  #idleSets = 0;

  override set(key: string, value: V): this {
    super.set(key, value);
    if (this.size <= CAPACITY) {
      if (++this.#idleSets > IDLE_SETS) this.#oldest = null;
      return this;
    }
    this.#idleSets = 0;
    let oldest = this.#oldest?.next();
    if (!oldest || oldest.done) {
      this.#oldest = this.keys();
      oldest = this.#oldest.next();
    }
    if (!oldest.done) this.delete(oldest.value);
    return this;
  }
}
