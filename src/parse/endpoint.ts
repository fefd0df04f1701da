import { formatAddress, parseAddress } from '../common/address.ts';

/** One end of a connection as text tells it. */
export interface TextEndpoint {
  /** Canonical; null where the text has none, or a name, or one that was cut. */
  readonly address: string | null;
  readonly port: number | null;
  /** How the address is written: "*" names no family. */
  readonly form: 'ipv4' | 'ipv6' | '*' | 'name' | 'truncated';
  /** The host or service name where numbers were resolved. */
  readonly name: string | null;
  readonly service: string | null;
  /** The width that a column cut to is filled to the last character: the address may go on. */
  readonly mayBeTruncated: boolean;
  /** The address stands in brackets. */
  readonly isBracketed: boolean;
}

/** Reads "192.0.2.1:443", "[2001:db8::1]:443", "[fe80::1]%eth0:53", "[fe80::1%5]:139", ":::22", "127.0.0.1%lo:53", "*:*" or "localhost:ssh". */
export function readColonEndpoint(text: string): TextEndpoint | Problem {
  const at = text.lastIndexOf(':');
  if (at < 0) return { error: 'bad-address', reason: `"${shown(text)}" has no port` };
  return endpointOf(text.slice(0, at), text.slice(at + 1));
}

/** Reads "192.0.2.1.443", "2001:db8::1.443", "fe80::1%lo0.123", "*.*" or "localhost.ssh". */
export function readDotEndpoint(text: string): TextEndpoint | Problem {
  const at = text.lastIndexOf('.');
  if (at < 0) return { error: 'bad-address', reason: `"${shown(text)}" has no port` };
  return endpointOf(text.slice(0, at), text.slice(at + 1));
}

function endpointOf(host: string, portText: string): TextEndpoint | Problem {
  const port = portOf(portText);
  if (port === undefined) return { error: 'bad-port', reason: `"${shown(portText)}" is no port` };
  const bracket = host.startsWith('[') ? host.indexOf(']') : -1;
  const isBracketed = bracket > 0;
  const bare = (isBracketed ? host.slice(1, bracket) : host).replace(/%.*$/s, '');
  const end = {
    address: null,
    port: typeof port === 'number' ? port : null,
    name: null,
    service: typeof port === 'string' ? port : null,
    mayBeTruncated: false,
    isBracketed,
  };
  if (bare === '*') return { ...end, form: '*' };
  const address = parseAddress(bare);
  const form = bare.includes(':') ? 'ipv6' : 'ipv4';
  if (address) return { ...end, address: formatAddress(address), form };
  if (/^[\d.]*$/.test(bare) || !/^[\p{L}\p{N}_.-]+$/u.test(bare))
    return { error: 'bad-address', reason: `"${shown(host)}" is no address` };
  return { ...end, form: 'name', name: bare };
}

function portOf(text: string): number | string | null | undefined {
  if (text === '*') return null;
  if (/^\d+$/.test(text)) return Number(text) <= 65_535 ? Number(text) : undefined;
  return /^[\p{L}\p{N}_./+-]+$/u.test(text) ? text : undefined;
}

/** Says whether an end could be read. */
export function isEndpoint(end: TextEndpoint | Problem): end is TextEndpoint {
  return 'form' in end;
}

/** Says whether an end stands for any address and any port. */
export function isUnspecified({ address, port, form, service }: TextEndpoint): boolean {
  return (form === '*' || address === '0.0.0.0' || address === '::') && (port ?? 0) === 0 && service === null;
}

function shown(text: string): string {
  return text.slice(0, 60);
}

/** Why a line, or a part of it, could not be read. */
export type ErrorCode =
  | 'unknown-dialect'
  | 'unsupported-section'
  | 'too-few-columns'
  | 'too-long'
  | 'bad-address'
  | 'bad-port'
  | 'bad-queue'
  | 'bad-pid'
  | 'bad-users'
  | 'unattached-continuation';

/** An error and a sentence that says why. */
export interface Problem {
  readonly error: ErrorCode;
  readonly reason: string;
}
