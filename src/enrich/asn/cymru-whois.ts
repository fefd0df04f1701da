import { connect } from 'node:net';
import {
  cidrContains,
  formatAddress,
  formatCidr,
  formatEndpoint,
  parseAddress,
  parseCidr,
  sameAddress,
} from '../../common/address.ts';
import type { Address, Cidr, Origin } from '../../model.ts';
import { isReservedAsn, ORIGINS_MOST } from './cache.ts';
import { bucketOf, classify, isAnnounceable } from '../../common/network-class.ts';

const NAME_LENGTH = 120;
const LINE_LENGTH = 4096;
const HEAD_LINES = 2;
/** A reply to 1,000 networks has few more lines than that. */
const LINES_MOST = 20_000;
const REGISTRIES = new Set(['arin', 'ripencc', 'apnic', 'lacnic', 'afrinic', 'other']);

/** What one row says: who announces an address, and what the registry knows of its block. No prefix: not announced. */
export interface Announcement {
  readonly prefix: Cidr | null;
  /** In the server's order, without ASNs that can be no origin. */
  readonly origins: readonly { readonly asn: number; readonly name: string | null; readonly country: string | null }[];
  readonly registry: string | null;
  readonly registryCountry: string | null;
  readonly allocated: string | null;
}

/** One line of a reply. `as` answers a question for an ASN, which is never asked here; `line` counts from 1 with the request's head. */
export type Line =
  | { readonly kind: 'blank' | 'banner' | 'header' | 'as' | 'unknown' }
  | { readonly kind: 'error'; readonly line: number }
  | { readonly kind: 'row'; readonly address: Address; readonly announcement: Announcement };

/** A whole reply, held against what was asked. */
export interface Reply {
  readonly banner: boolean;
  readonly answers: readonly { readonly bucket: Cidr; readonly announcement: Announcement }[];
  /** What the server could not read as an address. */
  readonly refused: readonly Cidr[];
  /** What has neither a row nor an error: the reply was cut. */
  readonly unanswered: readonly Cidr[];
  /** Lines of no known kind, and rows that contradict themselves. */
  readonly malformed: number;
  /** Rows for what was not asked. */
  readonly unasked: number;
}

/** Where a provider listens. */
export interface Server {
  readonly host: string;
  readonly port: number;
}

/** Limits of one exchange, in milliseconds and bytes. */
export interface Limits {
  readonly connectMs: number;
  readonly idleMs: number;
  readonly totalMs: number;
  readonly replyBytes: number;
}

const CYMRU_LIMITS: Limits = { connectMs: 5_000, idleMs: 15_000, totalMs: 60_000, replyBytes: 2 * 1024 * 1024 };

/** How an exchange ended; `sent` counts the networks that left the host. */
export type Exchange =
  | { readonly sent: number; readonly reply: Reply }
  | {
      readonly sent: number;
      readonly failure: string;
      /** Lines that the reply had all the same and that could not count; by default none. */
      readonly malformed?: number;
    };

/**
 * The network address of the /24 or /48 around this network: the one place where what a provider sees is made.
 * Throws RangeError where it is not public.
 */
export function addressToSend(cidr: Cidr): Address {
  const { address } = bucketOf(cidr.address);
  const { network, address: inner } = classify(address);
  if (network !== 'public' || !sameAddress(inner, address))
    throw new RangeError(`Cannot ask for "${formatCidr(cidr)}": not a public network`);
  return address;
}

/** Writes a bulk request for these networks, each masked; throws RangeError for one that is not public. */
export function renderRequest(buckets: readonly Cidr[]): string {
  const lines = buckets.map((cidr) => `${formatAddress(addressToSend(cidr))}\n`);
  return `begin\nverbose\n${lines.join('')}end\n`;
}

/**
 * Reads one line of a bulk or single whois reply of Team Cymru, or of a server with the same protocol
 * (https://www.team-cymru.com/ip-asn-mapping). Never throws: what has no meaning is `unknown`.
 */
export function parseLine(line: string): Line {
  if (line.trim() === '') return { kind: 'blank' };
  if (line.length > LINE_LENGTH) return { kind: 'unknown' };
  if (line.startsWith('Bulk mode; ')) return { kind: 'banner' };
  const error = /^Error: no ASN or IP match on line (\d{1,7})\.\s*$/.exec(line);
  if (error) return { kind: 'error', line: Number(error[1]) };
  if (!line.includes('|')) return { kind: 'unknown' };
  if (/^(AS |PEER_AS)/.test(line)) return { kind: 'header' };
  const fields = line.split('|').map((field) => field.trim());
  const address = parseAddress(fields[1] ?? '');
  if (!address) return { kind: isAsAnswer(fields) ? 'as' : 'unknown' };
  const announcement = parseAnnouncement(fields, line);
  return announcement ? { kind: 'row', address, announcement } : { kind: 'unknown' };
}

/** `15169 | US | arin | 2000-03-30 | GOOGLE, US`; bgp.tools keeps seven columns and leaves the address empty. */
function isAsAnswer(fields: readonly string[]): boolean {
  return /^(\d+|NA)$/.test(fields[0] ?? '') && (fields.length === 5 || (fields.length >= 7 && fields[1] === ''));
}

/** `ASN | IP | prefix | CC | registry | allocated | name`, or without the registry's columns `ASN | IP | prefix | CC | name`. */
export function parseAnnouncement(fields: readonly string[], line: string): Announcement | undefined {
  const verbose = fields.length >= 7;
  if (!verbose && fields.length !== 5) return undefined;
  const [asnText = '', , prefixText = '', countryText = ''] = fields;
  const asns = parseAsns(asnText);
  const prefix = /^(NA|<nil>|)$/.test(prefixText) ? null : parseCidr(prefixText);
  if (!asns || prefix === undefined || (prefix === null && asns.some((asn) => asn !== 0))) return undefined;
  const [registry = '', allocated = ''] = verbose
    ? [fields[4]?.toLowerCase().replace(/^ripe$/, 'ripencc'), fields[5]]
    : [];
  const { name, country } = parseName(
    line
      .split('|')
      .slice(verbose ? 6 : 4)
      .join('|'),
  );
  return {
    prefix,
    origins: asns.filter((asn) => !isReservedAsn(asn)).map((asn) => ({ asn, name, country })),
    registry: REGISTRIES.has(registry) ? registry : null,
    registryCountry: /^[A-Z]{2}$/.test(countryText) ? countryText : null,
    allocated: /^\d{4}-\d\d-\d\d$/.test(allocated) && allocated !== '0001-01-01' ? allocated : null,
  };
}

function parseAsns(text: string): number[] | undefined {
  if (text === 'NA') return [];
  if (!/^\d{1,10}( +\d{1,10})*$/.test(text)) return undefined;
  const asns = text.split(/ +/).map(Number);
  return asns.length <= ORIGINS_MOST && asns.every((asn) => asn < 2 ** 32) ? asns : undefined;
}

/** The AS name without its `, CC`; the text is a stranger's: no control or formatting characters, at most 120 characters. */
export function parseName(text: string): { name: string | null; country: string | null } {
  const clean = cleanText(text);
  if (clean === 'NA' || clean === '') return { name: null, country: null };
  const [, name = clean, country = null] = /^(.*), ?([A-Z]{2})$/.exec(clean) ?? [];
  return { name: firstCharacters(name, NAME_LENGTH) || null, country };
}

function cleanText(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ')
    .replace(/ {2,}/g, ' ')
    .trim();
}

function firstCharacters(text: string, count: number): string {
  return Array.from(text).slice(0, count).join('').trimEnd();
}

/**
 * Reads a reply as the answers to what was asked, matched by numeric address, never by order. Never throws.
 *
 * Of several rows for one address the longest prefix counts, with the origins of all rows that name it. A row counts only if
 * its prefix holds the address and is an IPv4 /8 or IPv6 /16 at most: 0.0.0.0/0 would answer everything. A last line without its end was cut, and may have been a further row of the address before it:
 * neither counts.
 */
export function parseReply(text: string, asked: readonly Cidr[]): Reply {
  const lines = text.split('\n');
  const cut = lines.pop() !== '';
  const buckets = new Map(asked.map((bucket) => [formatAddress(bucket.address), bucket]));
  const rows = new Map<string, Announcement>();
  const refused = new Set<Cidr>();
  let banner = false;
  let malformed = cut ? 1 : 0;
  let unasked = 0;
  let last = '';
  for (const line of lines) {
    const parsed = parseLine(line.replace(/\r$/, ''));
    if (parsed.kind === 'banner') banner = true;
    else if (parsed.kind === 'as') unasked++;
    else if (parsed.kind === 'unknown') malformed++;
    else if (parsed.kind === 'error') {
      const bucket = asked[parsed.line - HEAD_LINES - 1];
      if (bucket) refused.add(bucket);
      else malformed++;
    } else if (parsed.kind === 'row') {
      const key = formatAddress(parsed.address);
      if (!buckets.has(key)) unasked++;
      else if (!speaksFor(parsed.announcement, parsed.address)) malformed++;
      else rows.set((last = key), unite(rows.get(key), parsed.announcement));
    }
  }
  if (cut) rows.delete(last);
  const answers = [];
  const unanswered = [];
  for (const [key, bucket] of buckets) {
    const announcement = rows.get(key);
    if (announcement) answers.push({ bucket, announcement });
    else if (!refused.has(bucket)) unanswered.push(bucket);
  }
  return {
    banner,
    answers,
    refused: [...refused].filter((bucket) => !rows.has(formatAddress(bucket.address))),
    unanswered,
    malformed,
    unasked,
  };
}

/** Says whether an announcement may be the answer for an address: its prefix holds it, and is none that holds everything. */
export function speaksFor({ prefix }: Announcement, address: Address): boolean {
  return prefix === null || (isAnnounceable(prefix) && cidrContains(prefix, address));
}

/** What two announcements say together: the longer prefix counts, with the origins of both, at most 16, where they are of one length. */
export function unite(known: Announcement | undefined, row: Announcement): Announcement {
  const difference = (row.prefix?.bits ?? -1) - (known?.prefix?.bits ?? -1);
  if (!known || difference > 0) return row;
  if (difference < 0) return known;
  const more = row.origins.filter(({ asn }) => !known.origins.some((origin) => origin.asn === asn));
  return { ...known, origins: [...known.origins, ...more].slice(0, ORIGINS_MOST) };
}

/** Makes an announcement an answer; the primary ASN stays what it was while it is still among the origins. */
export function originOf(
  announcement: Announcement,
  previousPrimary: number | undefined,
  asked: Pick<Origin, 'askedAt' | 'freshUntil' | 'source'>,
): Origin {
  const { prefix, origins, registry, registryCountry, allocated } = announcement;
  const primary = origins.find(({ asn }) => asn === previousPrimary) ?? origins[0];
  const others = origins.filter((origin) => origin !== primary);
  return {
    asns: primary ? [primary, ...others].map(({ asn }) => asn) : [],
    name: primary?.name ?? null,
    asCountry: primary?.country ?? null,
    prefix: prefix && formatCidr(prefix),
    registry,
    registryCountry,
    allocated,
    ...asked,
  };
}

/** Team Cymru's bulk whois at a server, as those who ask see it. */
export function cymruProvider(server: Server, limits: Limits = CYMRU_LIMITS) {
  return {
    name: 'cymru',
    server: formatServer(server),
    ask: (buckets: readonly Cidr[], signal: AbortSignal) => askCymru(server, buckets, { limits, signal }),
  };
}

/**
 * Asks one bulk question over one TCP connection (clear text). Failures are values, never exceptions, but for a network that is
 * not public (see renderRequest). The server's close is the end of a reply; ours comes after it, because servers are known to
 * stop at a half-close. A reply without the banner, or in which nothing is answered, is a failure.
 */
export async function askCymru(
  server: Server,
  buckets: readonly Cidr[],
  { limits = CYMRU_LIMITS, signal }: { limits?: Limits; signal?: AbortSignal } = {},
): Promise<Exchange> {
  const { sent, bytes, failure } = await exchange(server, renderRequest(buckets), limits, signal);
  const failed = (reason: string): Exchange => ({
    sent: sent ? buckets.length : 0,
    failure: `Cannot ask whois server "${formatServer(server)}": ${reason}`,
  });
  if (failure !== null) return failed(failure);
  if (countLines(bytes) > LINES_MOST) return failed(`the reply has more than ${LINES_MOST} lines`);
  const text = new TextDecoder().decode(bytes);
  const reply = parseReply(text, buckets);
  const opening = firstCharacters(cleanText(text.slice(0, 200)), 80);
  if (!reply.banner)
    return failed(opening === '' ? 'the reply is empty' : `the reply begins "${opening}", not with its banner`);
  if (buckets.length > 0 && reply.answers.length + reply.refused.length === 0)
    return { ...failed('the reply answers nothing'), malformed: reply.malformed + reply.unasked };
  return { sent: buckets.length, reply };
}

function countLines(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) lines++;
  return lines;
}

function formatServer({ host, port }: Server): string {
  const address = parseAddress(host);
  return address ? formatEndpoint(address, port) : `${host}:${port}`;
}

interface Received {
  readonly sent: boolean;
  readonly bytes: Buffer;
  readonly failure: string | null;
}

function exchange(server: Server, request: string, limits: Limits, signal: AbortSignal | undefined): Promise<Received> {
  if (signal?.aborted) return Promise.resolve({ sent: false, bytes: Buffer.alloc(0), failure: 'stopped' });
  return new Promise((resolve) => {
    const socket = connect({ host: server.host, port: server.port });
    const chunks: Buffer[] = [];
    let size = 0;
    let sent = false;
    const end = (failure: string | null): void => {
      clearTimeout(connecting);
      clearTimeout(running);
      signal?.removeEventListener('abort', stop);
      socket.destroy();
      resolve({ sent, bytes: Buffer.concat(chunks), failure });
    };
    const stop = (): void => end('stopped');
    const connecting = setTimeout(() => end(`no connection within ${limits.connectMs} ms`), limits.connectMs);
    const running = setTimeout(() => end(`no end within ${limits.totalMs} ms`), limits.totalMs);
    signal?.addEventListener('abort', stop);
    socket.on('connect', () => {
      clearTimeout(connecting);
      socket.setTimeout(limits.idleMs, () => end(`silent for ${limits.idleMs} ms`));
      socket.write(request);
      sent = true;
    });
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > limits.replyBytes) end(`the reply is longer than ${limits.replyBytes} bytes`);
    });
    socket.on('end', () => end(null));
    socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
}
