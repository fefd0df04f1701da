import { formatAddress, parseAddress } from '../common/address.ts';

/** An endpoint of a connection as written in text. */
export interface TextEndpoint {
  /** Canonical; null for a name, "*" or a truncated address. */
  readonly address: string | null;
  readonly port: number | null;
  /** How the address is written. "*" has no address family. */
  readonly form: 'ipv4' | 'ipv6' | '*' | 'name' | 'truncated';
  /** The host name, if addresses were resolved. */
  readonly name: string | null;
  /** The service name, if ports were resolved. */
  readonly service: string | null;
  /** The text fills its column, so the address may be truncated. */
  readonly mayBeTruncated: boolean;
  /** The address is in brackets. */
  readonly isBracketed: boolean;
}

/** Parses "192.0.2.1:443", "[2001:db8::1]:443", "[fe80::1]%eth0:53", "[fe80::1%5]:139", ":::22", "127.0.0.1%lo:53", "*:*" or "localhost:ssh". */
export function readColonEndpoint(text: string): TextEndpoint | Problem {
  const at = text.lastIndexOf(':');
  if (at < 0) return { error: 'bad-address', reason: `"${excerpt(text)}" has no port` };
  return endpointOf(text.slice(0, at), text.slice(at + 1));
}

/** Parses "192.0.2.1.443", "2001:db8::1.443", "fe80::1%lo0.123", "*.*" or "localhost.ssh". */
export function readDotEndpoint(text: string): TextEndpoint | Problem {
  const at = text.lastIndexOf('.');
  if (at < 0) return { error: 'bad-address', reason: `"${excerpt(text)}" has no port` };
  return endpointOf(text.slice(0, at), text.slice(at + 1));
}

function endpointOf(host: string, portText: string): TextEndpoint | Problem {
  const port = portOf(portText);
  if (port === undefined) return { error: 'bad-port', reason: `"${excerpt(portText)}" is not a port` };
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
    return { error: 'bad-address', reason: `"${excerpt(host)}" is not an address` };
  return { ...end, form: 'name', name: bare };
}

function portOf(text: string): number | string | null | undefined {
  if (text === '*') return null;
  if (/^\d+$/.test(text)) return Number(text) <= 65_535 ? Number(text) : undefined;
  return /^[\p{L}\p{N}_./+-]+$/u.test(text) ? text : undefined;
}

/** Whether parsing succeeded. */
export function isEndpoint(end: TextEndpoint | Problem): end is TextEndpoint {
  return 'form' in end;
}

/** Whether an endpoint means any address and any port. */
export function isUnspecified({ address, port, form, service }: TextEndpoint): boolean {
  return (form === '*' || address === '0.0.0.0' || address === '::') && (port ?? 0) === 0 && service === null;
}

function excerpt(text: string): string {
  return text.slice(0, 60);
}

/** Why a line or a part of it could not be parsed. */
export type ErrorCode =
  | 'unknown-dialect'
  | 'too-few-columns'
  | 'too-long'
  | 'bad-address'
  | 'bad-port'
  | 'bad-queue'
  | 'bad-pid'
  | 'bad-users'
  | 'unattached-continuation';

/** An error code and the reason in words. */
export interface Problem {
  readonly error: ErrorCode;
  readonly reason: string;
}
