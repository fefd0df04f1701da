import { Resolver } from 'node:dns/promises';
import { isIPv4 } from '../../common/address.ts';
import type { Clock } from '../../common/clock.ts';
import type { Cidr } from '../../model.ts';
import {
  addressToSend,
  parseAnnouncement,
  parseName,
  coversAddress,
  mergeAnnouncements,
  type Announcement,
  type Exchange,
} from './cymru-whois.ts';

const ZONE = 'asn.cymru.com';
/** An AS that always exists: Team Cymru's own. */
const CANARY = 23028;
const NAME_FRESH_MS = 7 * 86_400_000;
const NAMES_MOST = 50_000;

/** Limits of a session: times in milliseconds, `inFlight` in queries. */
export interface DnsLimits {
  readonly timeoutMs: number;
  readonly tries: number;
  readonly totalMs: number;
  readonly inFlight: number;
}

export const CYMRU_DNS_LIMITS: DnsLimits = { timeoutMs: 2_000, tries: 2, totalMs: 60_000, inFlight: 10 };

/** Error codes of c-ares in words. */
const DNS_REASONS: Readonly<Record<string, string>> = {
  EBADRESP: 'malformed response',
  ECANCELLED: 'stopped',
  ECONNREFUSED: 'connection refused',
  ENODATA: 'no TXT records',
  ENOTFOUND: 'no such name',
  EREFUSED: 'the resolver refused the query',
  ESERVFAIL: 'the resolver failed',
  ETIMEOUT: 'timed out',
};

const NOT_ANNOUNCED: Announcement = {
  prefix: null,
  origins: [],
  registry: null,
  registryCountry: null,
  allocated: null,
};

/** Returns the absolute DNS name for the origin of a /24 or /48. Throws RangeError if the network is not public. */
export function originName(bucket: Cidr): string {
  const address = addressToSend(bucket);
  if (isIPv4(address)) {
    const bits = address[3];
    return `${(bits >>> 8) & 255}.${(bits >>> 16) & 255}.${bits >>> 24}.origin.${ZONE}.`;
  }
  const digits = address.map((word) => word.toString(16).padStart(8, '0')).join('');
  return `${Array.from(digits.slice(0, 12)).reverse().join('.')}.origin6.${ZONE}.`;
}

/**
 * Parses the text of one origin record, `ASN ASN… | prefix | CC | registry | date`
 * (https://www.team-cymru.com/ip-asn-mapping); undefined for anything else, such as an unrelated `v=spf1` record.
 */
export function parseOriginText(text: string): Announcement | undefined {
  const fields = text.split('|').map((field) => field.trim());
  const [asns = '', prefix = '', country = '', registry = '', allocated = ''] = fields;
  if (fields.length !== 5 || !/^\d/.test(asns)) return undefined;
  return parseAnnouncement([asns, '', prefix, country, registry, allocated, ''], '');
}

/** Parses the text of one AS record, `ASN | CC | registry | date | name`; undefined for anything else. */
export function parseAsText(text: string, asn: number): { name: string | null; country: string | null } | undefined {
  const fields = text.split('|');
  if (fields.length < 5 || fields[0]?.trim() !== String(asn)) return undefined;
  return parseName(fields.slice(4).join('|'));
}

/** The TXT records of a name. `none` means NXDOMAIN. */
type Texts =
  | { readonly kind: 'texts'; readonly texts: readonly string[] }
  | { readonly kind: 'none' | 'failed'; readonly reason: string };

/**
 * The provider for Team Cymru's DNS zones, through the host's resolvers or `servers` ("127.0.0.1:5353").
 *
 * Each session first queries a name that always exists. A filtering resolver answers NXDOMAIN for every name, so a
 * resolver is trusted only if it knows this name. A query that times out or has an invalid answer stays unanswered.
 * AS names are cached for 7 days.
 */
export function cymruDnsProvider(
  clock: Clock,
  { servers, limits = CYMRU_DNS_LIMITS }: { servers?: readonly string[]; limits?: DnsLimits } = {},
) {
  const names = new Map<number, { name: string | null; country: string | null; freshUntil: number }>();

  const query = async (buckets: readonly Cidr[], signal: AbortSignal): Promise<Exchange> => {
    const questions = buckets.map((bucket) => ({ bucket, name: originName(bucket) }));
    const session = new Session(limits, servers, signal);
    try {
      const canary = await session.texts(asName(CANARY));
      if (canary.kind !== 'texts' || !canary.texts.some((text) => parseAsText(text, CANARY)))
        return { sent: 0, failure: failureOf(canary.kind === 'texts' ? 'unexpected TXT records' : canary.reason) };
      const answers: { bucket: Cidr; announcement: Announcement }[] = [];
      const unanswered: Cidr[] = [];
      let malformed = 0;
      let reason = 'unexpected TXT records';
      const before = session.asked;
      await session.each(questions, async ({ bucket, name }) => {
        const found = await session.texts(name);
        if (found.kind === 'texts') {
          const parsed = found.texts.map(parseOriginText);
          const rows = parsed.filter((row) => row !== undefined && coversAddress(row, bucket.address));
          malformed += parsed.length - rows.length;
          const announcement = rows.reduce<Announcement | undefined>(
            (known, row) => (row ? mergeAnnouncements(known, row) : known),
            undefined,
          );
          if (announcement) answers.push({ bucket, announcement });
          else unanswered.push(bucket);
        } else if (found.kind === 'none') {
          answers.push({ bucket, announcement: NOT_ANNOUNCED });
        } else {
          reason = found.reason;
          unanswered.push(bucket);
        }
      });
      const sent = session.asked - before;
      if (buckets.length > 0 && answers.length === 0) return { sent, failure: failureOf(reason), malformed };
      await session.each(unnamed(answers), (asn) => learnName(session, asn));
      const reply = { banner: true, refused: [], unanswered, malformed, unasked: 0 };
      return { sent, reply: { ...reply, answers: answers.map(named) } };
    } finally {
      session.end();
    }
  };

  const unnamed = (answers: readonly { announcement: Announcement }[]): number[] => {
    const asns = answers.flatMap(({ announcement }) => announcement.origins.map(({ asn }) => asn));
    return [...new Set(asns)].filter((asn) => (names.get(asn)?.freshUntil ?? 0) <= clock.now());
  };

  const learnName = async (session: Session, asn: number): Promise<void> => {
    const found = await session.texts(asName(asn));
    const [name] = found.kind === 'texts' ? found.texts.flatMap((text) => parseAsText(text, asn) ?? []) : [];
    if (!name) return;
    if (names.size >= NAMES_MOST) names.clear();
    names.set(asn, { ...name, freshUntil: clock.now() + NAME_FRESH_MS });
  };

  const named = ({ bucket, announcement }: { bucket: Cidr; announcement: Announcement }) => ({
    bucket,
    announcement: {
      ...announcement,
      origins: announcement.origins.map(({ asn }) => {
        const { name = null, country = null } = names.get(asn) ?? {};
        return { asn, name, country };
      }),
    },
  });

  return { name: 'cymru-dns', server: ZONE, query };
}

/** c-ares gives each byte as a character. A text may be split inside a character of UTF-8. */
function textOf(chunks: readonly string[]): string {
  return Buffer.from(chunks.join(''), 'latin1').toString('utf8');
}

function asName(asn: number): string {
  return `AS${asn}.${ZONE}.`;
}

function failureOf(reason: string): string {
  return `Cannot query DNS zone "${ZONE}": ${reason}`;
}

/** The DNS queries of one session. It ends at its time limit or when the caller aborts. */
class Session {
  /** DNS names queried so far. */
  asked = 0;
  readonly #resolver: Resolver;
  readonly #inFlight: number;
  readonly #signal: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  readonly #cancel = (): void => {
    this.#cancelled = true;
    this.#resolver.cancel();
  };
  #cancelled = false;

  constructor(limits: DnsLimits, servers: readonly string[] | undefined, signal: AbortSignal) {
    this.#resolver = new Resolver({ timeout: limits.timeoutMs, tries: limits.tries });
    if (servers) this.#resolver.setServers(servers);
    this.#inFlight = limits.inFlight;
    this.#signal = signal;
    this.#timer = setTimeout(this.#cancel, limits.totalMs);
    signal.addEventListener('abort', this.#cancel);
    this.#cancelled = signal.aborted;
  }

  async texts(name: string): Promise<Texts> {
    if (this.#cancelled) return { kind: 'failed', reason: 'stopped' };
    this.asked++;
    try {
      const records = await this.#resolver.resolveTxt(name);
      return { kind: 'texts', texts: records.map(textOf) };
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const reason = DNS_REASONS[code ?? ''] ?? code ?? message;
      return { kind: code === 'ENOTFOUND' ? 'none' : 'failed', reason };
    }
  }

  /** Runs `work` for each item, `inFlight` at a time. */
  async each<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
    const rest = all.values();
    const lane = async (): Promise<void> => {
      for (const one of rest) await work(one);
    };
    await Promise.all(Array.from({ length: this.#inFlight }, lane));
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#signal.removeEventListener('abort', this.#cancel);
  }
}
