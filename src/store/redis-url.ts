import { parseAddress } from '../common/address.ts';

export interface ServerAddress {
  readonly host: string;
  readonly port: number;
}

/** Paths of PEM files; null for the authorities that are trusted by default, and for no client certificate. */
export interface TlsFiles {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

/** The addresses and credentials of a Redis or Valkey deployment. */
export interface RedisServer {
  readonly kind: 'single' | 'sentinel' | 'cluster';
  /** Null without TLS. */
  readonly tls: TlsFiles | null;
  /** One server, the Sentinels, or some nodes of a Redis Cluster. */
  readonly addresses: readonly ServerAddress[];
  /** The name of the primary in the Sentinel configuration; null without Sentinel. */
  readonly primary: string | null;
  readonly username: string | null;
  readonly password: string | null;
  readonly database: number;
}

const SCHEMES = { single: '', sentinel: '+sentinel', cluster: '+cluster' };
const PORTS = { single: 6379, sentinel: 26_379, cluster: 6379 };

/** Returns the URL of a server without credentials. */
export function formatRedisUrl({ kind, tls, addresses, primary, database }: RedisServer): string {
  const path = kind === 'cluster' ? '' : `${primary === null ? '' : `/${primary}`}/${database}`;
  return `redis${tls ? 's' : ''}${SCHEMES[kind]}://${addresses.map(formatServerAddress).join(',')}${path}`;
}

export function formatServerAddress({ host, port }: ServerAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

const URL_PARTS = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^/?#]*)@)?([^/?#@]+)(\/[^?#]*)?$/;
const PATHS = {
  single: /^(?:\/(?<database>\d{1,4})?)?$/,
  sentinel: /^\/(?<primary>[\w.-]+)(?:\/(?<database>\d{1,4})?)?$/,
  // A Redis Cluster has only database 0.
  cluster: /^(?:\/(?<database>0)?)?$/,
};

/**
 * Parses a `redis://` or `rediss://` (TLS) URL with percent-encoded credentials; undefined if invalid. `+sentinel` and
 * `+cluster` in the scheme take several addresses, separated by commas.
 * https://www.iana.org/assignments/uri-schemes/prov/redis
 */
export function parseStorageUrl(text: string): RedisServer | undefined {
  const [isUrl, tls, suffix = 'single', userinfo = '', hosts = '', path = ''] = URL_PARTS.exec(text) ?? [];
  const kind = suffix as RedisServer['kind'];
  const names = PATHS[kind].exec(path)?.groups;
  const addresses = hosts.split(',').map((address) => parseServerAddress(address, PORTS[kind]));
  const [, username = '', password = ''] = /^([^:]*):?(.*)$/s.exec(userinfo) ?? [];
  if (isUrl === undefined || !names || !addresses.every((address) => address !== undefined)) return undefined;
  if (kind === 'single' && addresses.length > 1) return undefined;
  if (username !== '' && password === '') return undefined;
  try {
    return {
      kind,
      tls: tls === 's' ? { ca: null, cert: null, key: null } : null,
      addresses,
      primary: names['primary'] ?? null,
      username: username === '' ? null : decodeURIComponent(username),
      password: password === '' ? null : decodeURIComponent(password),
      database: Number(names['database'] ?? 0),
    };
  } catch {
    return undefined;
  }
}

function parseServerAddress(text: string, defaultPort: number): ServerAddress | undefined {
  const [, ipv6, name, digits = ''] = /^(?:\[([\da-f:.]+)\]|([\w.-]+))(?::(\d{0,5}))?$/i.exec(text) ?? [];
  const host = ipv6 ?? name;
  const port = digits === '' ? defaultPort : Number(digits);
  if (host === undefined || port === 0 || port > 65_535) return undefined;
  return ipv6 === undefined || parseAddress(ipv6) ? { host, port } : undefined;
}
