import { cidrContains, formatCidr, isIPv4, maskAddress, parseCidr } from '../../common/address.ts';
import type { Address, Cidr, Origin } from '../../model.ts';
import { bucketOf, exactQuestion, isAnnounceable } from '../../common/network-class.ts';
import type { ProviderChoice } from './open.ts';

/** What was answered for one question: a /24 or /48, or an address asked of a file. Plain values: it may cross a MessagePort. */
export interface Answer {
  readonly bucket: Cidr;
  readonly origin: Origin;
  /** The record of a file, which holds the question; by default the bucket, or the origin's prefix where that is longer. */
  readonly reach?: Cidr;
}

const CAPACITY = 50_000;
const REPEAT_MS = 300_000;

/** The most origins of one network; real ones have fewer than ten. */
export const ORIGINS_MOST = 16;

/** How long an answer may be served while no newer one can be had. */
export const STALE_MS = 30 * 86_400_000;

/** Says whether an answer needs no renewal yet; a clock put back by more than the answer's lifetime makes it old. */
export function isFresh(origin: Origin, now: number): boolean {
  return Math.abs(now - origin.askedAt) < origin.freshUntil - origin.askedAt;
}

/** Says whether an answer may still be shown: at most 30 days old. */
export function isServable(origin: Origin, now: number): boolean {
  return Math.abs(now - origin.askedAt) <= STALE_MS;
}

/**
 * Says whether an ASN can be no network's origin: 0 (RFC 7607), AS_TRANS 23456 (RFC 6793), documentation (RFC 5398),
 * private use (RFC 6996), the last ones (RFC 7300) and what IANA reserves between them.
 */
export function isReservedAsn(asn: number): boolean {
  return asn === 0 || asn === 23456 || (asn >= 64496 && asn <= 131071) || asn >= 4_200_000_000;
}

/** Writes an answer for a store: one line of JSON, of which `parseOrigin` makes the same answer again. */
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

/** Reads what `renderOrigin` wrote of an answer of a provider; undefined for anything else, another version included. */
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

/** JSON may hold a negative zero, which nothing here writes. */
function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && !Object.is(value, -0);
}

/** What stands in a store may be a stranger's, and is shown in terminals and labels. */
const CLEAN = /^[^\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]{1,128}$/u;
const PREFIX = /^[0-9a-f.:]+\/\d{1,3}$/;
const COUNTRY = /^[A-Z]{2}$/;
const WORD = /^[a-z-]{1,20}$/;
const DATE = /^\d{4}-\d\d-\d\d$/;

function isTextOrNull(value: unknown, form: RegExp): value is string | null {
  return value === null || (typeof value === 'string' && form.test(value));
}

interface Entry {
  /** The addresses that the answer speaks for. */
  readonly reach: Cidr;
  readonly origin: Origin;
}

/**
 * The answers in memory, and what is missing there: the 50,000 questions used last. A question is a /24 or /48, or the address
 * itself where a file answers. Records of files are kept beside, 50,000 at most: a fresh one answers every address that it holds.
 *
 * Nothing here waits. What has no fresh answer becomes a question that another thread takes out and pursues until it is
 * answered; it is noted again only when five minutes later it is still in use without an answer, so that a question lost on
 * the way is no harm.
 */
export class AsnCache {
  lookups = 0;
  hits = 0;
  /** What is asked for an address. */
  readonly questionOf: (address: Address) => Cidr;
  readonly #entries = new Latest<Entry>();
  readonly #records = new Records();
  readonly #notedAt = new Latest<number>();
  #questions: Cidr[] = [];

  constructor(questionOf: (address: Address) => Cidr = bucketOf) {
    this.questionOf = questionOf;
  }

  /** Questions with an answer. */
  get entries(): number {
    return this.#entries.size;
  }

  /**
   * Who announces an address, or null while that is not known: an answer up to 30 days old, the asking for a newer one under way.
   * An answer for a prefix longer than the bucket speaks for the addresses of that prefix alone; the others stay unknown.
   * The address must be public, unwrapped, and one that may be asked for.
   */
  lookup(address: Address, now: number): Origin | null {
    this.lookups++;
    const bucket = this.questionOf(address);
    const key = formatCidr(bucket);
    const entry = this.#entries.get(key);
    const record = entry ? undefined : this.#records.find(address, now);
    if (record) {
      this.hits++;
      return record.origin;
    }
    if (!entry || !isFresh(entry.origin, now)) this.#note(key, bucket, now);
    if (!entry) return null;
    this.#entries.delete(key);
    if (!isServable(entry.origin, now)) return null;
    this.#entries.set(key, entry);
    if (!cidrContains(entry.reach, address)) return null;
    this.hits++;
    return entry.origin;
  }

  /** Every answer that is held, those used last at the end. */
  answers(): Answer[] {
    return [...this.#entries].flatMap(([key, { origin }]) => {
      const bucket = parseCidr(key);
      return bucket ? [{ bucket, origin }] : [];
    });
  }

  /** The buckets noted since the last call. */
  takeQuestions(): Cidr[] {
    const questions = this.#questions;
    this.#questions = [];
    return questions;
  }

  /**
   * Takes in answers, newest last. A primary ASN that is still among the origins stays the primary.
   * Returns the buckets, as text such as "192.0.2.0/24", whose answer is not what it was (times aside).
   */
  accept(answers: readonly Answer[]): Set<string> {
    const changed = new Set<string>();
    for (const { bucket, origin: received, reach } of answers) {
      const key = formatCidr(bucket);
      const previous = this.#entries.get(key)?.origin;
      const origin = previous ? keepPrimary(received, previous) : received;
      this.#notedAt.delete(key);
      this.#entries.delete(key);
      const entry = { reach: reach ?? reachOf(bucket, origin), origin };
      this.#entries.set(key, entry);
      if (reach) this.#records.replace(bucket.address, entry);
      if (!previous || published(previous) !== published(origin)) changed.add(key);
    }
    return changed;
  }

  /** Takes in that nothing is known of these buckets any more. Returns them as text: each may have had an answer, of a record too. */
  forget(buckets: readonly Cidr[]): Set<string> {
    for (const { address } of buckets) this.#records.drop(address);
    const keys = buckets.map(formatCidr);
    for (const key of keys) this.#entries.delete(key);
    return new Set(keys);
  }

  #note(key: string, bucket: Cidr, now: number): void {
    const notedAt = this.#notedAt.get(key);
    if (notedAt !== undefined && Math.abs(now - notedAt) < REPEAT_MS) return;
    if (this.#questions.length >= CAPACITY) return;
    this.#notedAt.delete(key);
    this.#notedAt.set(key, now);
    this.#questions.push(bucket);
  }
}

/** The cache for the answers of a provider: of a file they are for addresses, of others for a /24 or /48. Null without a provider. */
export function openCache(provider: ProviderChoice['provider']): AsnCache | null {
  if (provider === 'none') return null;
  return new AsnCache(provider === 'mmdb' || provider === 'tsv' ? exactQuestion : bucketOf);
}

/** Records of a file by their network. Those of one version of the file do not overlap. */
class Records {
  readonly #entries = new Latest<Entry>();
  /** The lengths of all records so far, the longest first. */
  #lengths: number[] = [];

  /** The longest fresh record that holds an address. */
  find(address: Address, now: number): Entry | undefined {
    for (const key of this.#keys(address)) {
      const entry = this.#entries.get(key);
      if (entry && isFresh(entry.origin, now)) return entry;
    }
    return undefined;
  }

  /** Keeps a record in the place of those that held this address before. */
  replace(address: Address, entry: Entry): void {
    this.drop(address);
    const { bits } = entry.reach;
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

/** The name goes with the primary ASN, so the former one comes back with it. */
function keepPrimary(origin: Origin, previous: Origin): Origin {
  const [primary] = previous.asns;
  if (primary === undefined || primary === origin.asns[0] || !origin.asns.includes(primary)) return origin;
  const asns = [primary, ...origin.asns.filter((asn) => asn !== primary)];
  return { ...origin, asns, name: previous.name, asCountry: previous.asCountry };
}

function reachOf(bucket: Cidr, origin: Origin): Cidr {
  const prefix = origin.prefix === null ? undefined : parseCidr(origin.prefix);
  return prefix && prefix.bits > bucket.bits ? prefix : bucket;
}

function published(origin: Origin): string {
  const { asns, name, asCountry, prefix, registry, registryCountry, allocated } = origin;
  return JSON.stringify([asns, name, asCountry, prefix, registry, registryCountry, allocated]);
}

/** The 50,000 values set last. */
class Latest<V> extends Map<string, V> {
  /** Goes on where it dropped last: a new iterator would pass every deleted entry again. */
  #oldest = this.keys();

  override set(key: string, value: V): this {
    super.set(key, value);
    if (this.size <= CAPACITY) return this;
    let { value: oldest } = this.#oldest.next();
    if (oldest === undefined) {
      this.#oldest = this.keys();
      ({ value: oldest } = this.#oldest.next());
    }
    if (oldest !== undefined) this.delete(oldest);
    return this;
  }
}
