import { formatAddress, parseAddress } from '../../common/address.ts';
import { cleanLabel, withoutControls } from '../../common/sanitize.ts';
import { operatorOf } from './operators.ts';

/** The kinds of novelties, as in the label `kind`. */
export const KINDS = [
  'operator',
  'port',
  'process',
  'peer',
  'inner_port',
  'listener',
  'metadata',
  'fan_out',
  'volume',
] as const;

export type Kind = (typeof KINDS)[number];

/** The `what` of every call to the cloud metadata service. No list of expected values contains it. */
export const METADATA = 'metadata';

const MAX_VALUES = 200;

/** A list of expected values, and an error message for each one that was ignored. */
export interface Expectations {
  /** Canonical values of `what`. */
  readonly values: ReadonlySet<string>;
  readonly problems: readonly string[];
}

/** The `what` of an operator. The networks of one company are one operator. */
export function operatorWhat(asn: number): string {
  return `AS${operatorOf(asn)}`;
}

/** The `what` of a remote port. Ephemeral ports are one value: servers choose them at random (passive FTP, RPC, peer to peer). */
export function portWhat(transport: string, port: number): string {
  return `${transport}/${isEphemeral(port) ? 'ephemeral' : port}`;
}

/** The `what` of a listening socket. */
export function listenerWhat(transport: string, port: number): string {
  return `listen/${portWhat(transport, port)}`;
}

/** A segment of a path that names a generation: of Snap, and the hash of the Nix store. */
const GENERATION = /^\d+$|^[\da-df-np-sv-z]{32}-/;

/** The `what` of an executable: its path without release numbers. */
export function programWhat(path: string): string {
  const segments = path.split('/').map((segment) => withoutRelease(segment.replace(GENERATION, '')));
  return `process/${cleanLabel(segments.filter((segment, i) => i === 0 || segment !== '').join('/'))}`;
}

/** True in the default range of Linux and above it. The range of IANA begins at 49,152. */
export function isEphemeral(port: number): boolean {
  return port >= 32_768;
}

/**
 * Parses the value of the annotation `peerscope.dev/expects`: values of `what`, separated by commas. There are no wildcards. A value that
 * is not valid is ignored, with a message.
 */
export function parseExpectations(text: string): Expectations {
  const values = new Set<string>();
  const problems: string[] = [];
  const parts = text.split(',').filter((part) => part.trim() !== '');
  for (const part of parts.slice(0, MAX_VALUES)) {
    const value = parseWhat(part.trim());
    if (typeof value === 'string') values.add(value);
    else problems.push(value.problem);
  }
  if (parts.length > MAX_VALUES)
    problems.push(`Cannot read expected values after number ${MAX_VALUES}: the list is too long`);
  return { values, problems };
}

/** Parses one expected value. Returns its canonical form, or an error message. */
export function parseWhat(text: string): string | { readonly problem: string } {
  const problem = (reason: string): { problem: string } => ({
    problem: `Cannot read expected value "${text.slice(0, 300)}": ${reason}`,
  });
  if (text === METADATA) return problem('calls to the metadata service are always reported');
  if (text.includes('*') || text.includes('?')) return problem('wildcards are not allowed');
  if (text.length > 300) return problem('longer than 300 characters');
  if (withoutControls(text) !== text) return problem('no value has control characters');
  const operator = /^AS(\d{1,10})$/i.exec(text)?.[1];
  if (operator !== undefined)
    return Number(operator) > 0 && Number(operator) < 2 ** 32
      ? operatorWhat(Number(operator))
      : problem('not an AS number');
  const address = parseAddress(text);
  if (address) return formatAddress(address);
  const [first = '', ...rest] = text.split('/');
  if (first === 'listen') return portOf(text, rest.join('/'), 'listen/') ?? problem('must be like listen/tcp/8080');
  if (/^(?:tcp|udp|udplite)$/.test(first))
    return portOf(text, text, '') ?? problem('must be like tcp/5432 or tcp/ephemeral');
  if (first === 'process')
    return rest.join('/') === '' ? problem('must be like process/nc') : `process/${withoutRelease(rest.join('/'))}`;
  if (text === 'volume/public') return text;
  if (first === 'volume') {
    const network = parseWhat(rest.join('/'));
    return typeof network === 'string' && network.startsWith('AS')
      ? `volume/${network}`
      : problem('must be like volume/AS64500');
  }
  if (text === 'fan_out/operators' || text === 'fan_out/peers') return text;
  if (rest.length === 1 && rest[0] !== '' && !/\s/.test(text)) return text;
  return problem('must be like AS64500, tcp/5432, shop/ledger, process/nc or listen/udp/ephemeral');
}

function portOf(text: string, value: string, prefix: string): string | null {
  const [, transport = '', port = ''] = /^(tcp|udp|udplite)\/(\d{1,5}|ephemeral)$/.exec(value) ?? [];
  if (port === 'ephemeral') return text;
  const number = Number(port);
  return number > 0 && number < 65_536 ? `${prefix}${portWhat(transport, number)}` : null;
}

/**
 * Parses the name of a workload: `namespace/name` in Kubernetes, else the name of a unit or container. A name that contains a slash and
 * has no namespace begins with a slash. Returns an error message for a name that no workload can have.
 */
export function parseOwner(
  text: string,
): { readonly namespace: string; readonly workload: string } | { readonly problem: string } {
  const slash = text.indexOf('/');
  const [namespace, workload] = slash < 0 ? ['', text] : [text.slice(0, slash), text.slice(slash + 1)];
  const problem = (reason: string): { problem: string } => ({
    problem: `Cannot read workload "${text.slice(0, 300)}": ${reason}`,
  });
  if (text.includes('*') || text.includes('?')) return problem('wildcards are not allowed');
  if (workload.trim() === '' || /\s/.test(namespace) || [namespace, workload].some((name) => cleanLabel(name) !== name))
    return problem('must be like shop/web or nginx.service');
  return { namespace, workload };
}

/** A list of suspect operators, and an error message for each line that was ignored. */
export interface Suspects {
  /** Values of `what`. */
  readonly operators: ReadonlySet<string>;
  readonly problems: readonly string[];
}

/**
 * Parses a list of suspect operators: an AS number per line, with or without "AS"; text after "#" or ";" is a comment. Lines of JSON with
 * the key "asn" are read too, the format of Spamhaus ASN-DROP. An AS number of a company in the table of operators is not widened to
 * the company.
 */
export function parseSuspects(text: string): Suspects {
  const operators = new Set<string>();
  const problems: string[] = [];
  for (const [index, line] of text.split(/\r\n|[\r\n]/).entries()) {
    const json = /^\s*\{.*"asn"\s*:\s*"?(?:AS)?(\d{1,10})\b/i.exec(line)?.[1];
    const value = line.replace(/[#;].*$/, '').trim();
    if (json === undefined && (value === '' || /^\{.*"type"\s*:\s*"metadata"/.test(value))) continue;
    const number = Number(json ?? /^(?:AS)?(\d{1,10})$/i.exec(value)?.[1] ?? NaN);
    if (number > 0 && number < 2 ** 32) operators.add(`AS${number}`);
    else problems.push(`Cannot read suspect operator "${value.slice(0, 100)}" in line ${index + 1}: not an AS number`);
  }
  return { operators, problems };
}

/** Interpreters whose link without a version is the usual name of the same program. */
const INTERPRETERS = /^(?:python|php|perl|ruby|lua|java|node|nodejs|dotnet|pypy|tclsh|guile)$/;
/** Endings that are part of the program, after a release number. */
const EXTENSION = /\.(?:jar|war|ear|py|pyc|js|mjs|cjs|ts|rb|pl|php|sh|bin|exe|dll|lua|groovy|phar|whl|AppImage)$/i;

/**
 * Removes release numbers, dates and hashes from the name of a process, so that the next release is the same process: `app-1.4.2.jar` is
 * `app.jar`, `python3.12` is `python`, `php-fpm8.2` is `php-fpm`. A name is never emptied.
 */
export function withoutRelease(name: string): string {
  const shorter = withoutLastRelease(name);
  return shorter === name ? name : withoutRelease(shorter);
}

function withoutLastRelease(name: string): string {
  const extension = EXTENSION.exec(name)?.[0] ?? '';
  const base = name.slice(0, name.length - extension.length);
  let rest = base
    // 1.4.2, v1.4, 1.4.2-rc1, 1.4.2+build.5, 2024.10.01, and their separator
    .replace(
      /[-_.@]?v?\d+(?:\.\d+)+(?:[-_.+](?:rc|alpha|beta|pre|snapshot|release|final|ga|build|dev|post|patch|jre|jdk|[\da-f]{6,40})[-_.]?\d*(?:\.\d+)*)*/giu,
      '',
    )
    // -20260901, _15, -v2, .7
    .replace(/(?:[-_.@]v?\d+)+$/u, '')
    // -3f9c2ab
    .replace(/[-_.](?=[\da-f]*\d)(?=[\da-f]*[a-f])[\da-f]{6,40}$/u, '')
    .replace(/[-_](?:snapshot|release|final)$/iu, '');
  const interpreter = /^(\D+)\d+$/u.exec(rest)?.[1];
  if (interpreter !== undefined && INTERPRETERS.test(interpreter)) rest = interpreter;
  return rest === '' ? name : `${rest}${extension}`;
}
