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
import { ByteCollector } from '../../common/byte-collector.ts';
import { reasonOf } from '../../common/errors.ts';
import type { Address, Cidr, Origin } from '../../model.ts';
import { isReservedAsn, ORIGINS_MOST } from './cache.ts';
import { bucketOf, classify, isAnnounceable } from '../../common/network-class.ts';

const NAME_LENGTH = 120;
const LINE_LENGTH = 4096;
const HEAD_LINES = 2;
/** A reply for 1,000 networks has far fewer lines. */
const LINES_MOST = 20_000;
const REGISTRIES = new Set(['arin', 'ripencc', 'apnic', 'lacnic', 'afrinic', 'other']);

/**
 * One row: the announcement that contains an address, and the registry data of its block. A null prefix means not
 * announced.
 */
export interface Announcement {
  readonly prefix: Cidr | null;
  /** In server order, without ASNs that cannot be an origin. */
  readonly origins: readonly { readonly asn: number; readonly name: string | null; readonly country: string | null }[];
  readonly registry: string | null;
  readonly registryCountry: string | null;
  readonly allocated: string | null;
}

/**
 * One line of a reply. `as` answers an ASN query, which peerscope never sends. `line` counts from 1 and includes the
 * request's head.
 */
export type Line =
  | { readonly kind: 'blank' | 'banner' | 'header' | 'as' | 'unknown' }
  | { readonly kind: 'error'; readonly line: number }
  | { readonly kind: 'row'; readonly address: Address; readonly announcement: Announcement };

/** A parsed reply, matched against the request. */
export interface Reply {
  readonly banner: boolean;
  readonly answers: readonly { readonly bucket: Cidr; readonly announcement: Announcement }[];
  /** Networks that the server could not parse as an address. */
  readonly refused: readonly Cidr[];
  /** Networks without a row or an error: the reply was cut. */
  readonly unanswered: readonly Cidr[];
  /** Lines of unknown form, and rows that contradict themselves. */
  readonly malformed: number;
  /** Rows for networks that were not queried. */
  readonly unasked: number;
}

/** The address of a server. */
export interface ServerAddress {
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

/** The result of an exchange. `sent` counts the networks that left the host. */
export type Exchange =
  | { readonly sent: number; readonly reply: Reply }
  | {
      readonly sent: number;
      readonly failure: string;
      /** Invalid lines in a failed reply. Default: 0. */
      readonly malformed?: number;
    };

/**
 * Returns the network address of the /24 or /48 around a network. All addresses sent to a provider come from here.
 * Throws RangeError if the network is not public.
 */
export function addressToSend(cidr: Cidr): Address {
  const { address } = bucketOf(cidr.address);
  const { network, address: inner } = classify(address);
  if (network !== 'public' || !sameAddress(inner, address))
    throw new RangeError(`Cannot query "${formatCidr(cidr)}": not a public network`);
  return address;
}

/** Builds a bulk request for these networks, each masked. Throws RangeError if a network is not public. */
export function renderRequest(buckets: readonly Cidr[]): string {
  const lines = buckets.map((cidr) => `${formatAddress(addressToSend(cidr))}\n`);
  return `begin\nverbose\n${lines.join('')}end\n`;
}

/**
 * Parses one line of a bulk or single whois reply of Team Cymru, or of a server with the same protocol
 * (https://www.team-cymru.com/ip-asn-mapping). Never throws: an unrecognized line is `unknown`.
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

/** `15169 | US | arin | 2000-03-30 | GOOGLE, US`. bgp.tools keeps seven columns and leaves the address empty. */
function isAsAnswer(fields: readonly string[]): boolean {
  return /^(\d+|NA)$/.test(fields[0] ?? '') && (fields.length === 5 || (fields.length >= 7 && fields[1] === ''));
}

/**
 * Parses `ASN | IP | prefix | CC | registry | allocated | name`, or without registry columns `ASN | IP | prefix | CC
 * | name`.
 */
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

/**
 * Returns the AS name without its `, CC` suffix. The text is untrusted: control and formatting characters are
 * removed, and the name is cut to 120 characters.
 */
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
 * Parses a reply and matches it to the queried networks by numeric address, never by order. Never throws.
 *
 * If an address has several rows, the longest prefix wins, with the origins of all rows for it. A row is valid only
 * if its prefix contains the address and is at least an IPv4 /8 or IPv6 /16; otherwise 0.0.0.0/0 would answer every
 * query. An incomplete last line may belong to the address before it, so both are dropped.
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
      else if (!coversAddress(parsed.announcement, parsed.address)) malformed++;
      else rows.set((last = key), mergeAnnouncements(rows.get(key), parsed.announcement));
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

/**
 * Returns true if an announcement is a valid answer for an address: its prefix contains the address and is long
 * enough.
 */
export function coversAddress({ prefix }: Announcement, address: Address): boolean {
  return prefix === null || (isAnnounceable(prefix) && cidrContains(prefix, address));
}

/** Merges two announcements: the longer prefix wins. If the lengths are equal, the origins are combined, up to 16. */
export function mergeAnnouncements(known: Announcement | undefined, row: Announcement): Announcement {
  const difference = (row.prefix?.bits ?? -1) - (known?.prefix?.bits ?? -1);
  if (!known || difference > 0) return row;
  if (difference < 0) return known;
  const more = row.origins.filter(({ asn }) => !known.origins.some((origin) => origin.asn === asn));
  return { ...known, origins: [...known.origins, ...more].slice(0, ORIGINS_MOST) };
}

/** Converts an announcement to an Origin. The primary ASN stays primary while it is among the origins. */
export function toOrigin(
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

/** The provider for Team Cymru's bulk whois. */
export function cymruProvider(server: ServerAddress, limits: Limits = CYMRU_LIMITS) {
  return {
    name: 'cymru',
    server: formatServer(server),
    query: (buckets: readonly Cidr[], signal: AbortSignal) => queryCymru(server, buckets, { limits, signal }),
  };
}

/**
 * Sends one bulk query over one TCP connection (clear text). Returns failures as values; throws only for a network
 * that is not public (see renderRequest). The server closes the connection at the end of a reply. The client does not
 * half-close, because some servers stop sending then. A reply without a banner or without any answer is a failure.
 */
export async function queryCymru(
  server: ServerAddress,
  buckets: readonly Cidr[],
  { limits = CYMRU_LIMITS, signal }: { limits?: Limits; signal?: AbortSignal } = {},
): Promise<Exchange> {
  const { sent, bytes, failure } = await exchange(server, renderRequest(buckets), limits, signal);
  const failed = (reason: string): Exchange => ({
    sent: sent ? buckets.length : 0,
    failure: `Cannot query whois server "${formatServer(server)}": ${reason}`,
  });
  if (failure !== null) return failed(failure);
  if (countLines(bytes) > LINES_MOST) return failed(`the reply has more than ${LINES_MOST} lines`);
  const text = new TextDecoder().decode(bytes);
  const reply = parseReply(text, buckets);
  const opening = firstCharacters(cleanText(text.slice(0, 200)), 80);
  if (!reply.banner)
    return failed(opening === '' ? 'the reply is empty' : `the reply begins with "${opening}" instead of the banner`);
  if (buckets.length > 0 && reply.answers.length + reply.refused.length === 0)
    return { ...failed('the reply contains no answer'), malformed: reply.malformed + reply.unasked };
  return { sent: buckets.length, reply };
}

function countLines(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, at + 1)) lines++;
  return lines;
}

function formatServer({ host, port }: ServerAddress): string {
  const address = parseAddress(host);
  return address ? formatEndpoint(address, port) : `${host}:${port}`;
}

interface Received {
  readonly sent: boolean;
  readonly bytes: Buffer;
  readonly failure: string | null;
}

function exchange(
  server: ServerAddress,
  request: string,
  limits: Limits,
  signal: AbortSignal | undefined,
): Promise<Received> {
  if (signal?.aborted) return Promise.resolve({ sent: false, bytes: Buffer.alloc(0), failure: 'stopped' });
  return new Promise((resolve) => {
    const socket = connect({ host: server.host, port: server.port });
    const received = new ByteCollector();
    let sent = false;
    const end = (failure: string | null): void => {
      clearTimeout(connecting);
      clearTimeout(running);
      signal?.removeEventListener('abort', stop);
      socket.destroy();
      resolve({ sent, bytes: received.take(), failure });
    };
    const stop = (): void => end('stopped');
    const connecting = setTimeout(() => end(`no connection within ${limits.connectMs} ms`), limits.connectMs);
    const running = setTimeout(() => end(`not finished within ${limits.totalMs} ms`), limits.totalMs);
    signal?.addEventListener('abort', stop);
    socket.on('connect', () => {
      clearTimeout(connecting);
      socket.setTimeout(limits.idleMs, () => end(`no data for ${limits.idleMs} ms`));
      socket.write(request);
      sent = true;
    });
    socket.on('data', (chunk) => {
      received.add(chunk);
      if (received.length > limits.replyBytes) end(`the reply is longer than ${limits.replyBytes} bytes`);
    });
    socket.on('end', () => end(null));
    socket.on('error', (error) => end(reasonOf(error)));
  });
}
