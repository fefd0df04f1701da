/** The address and credentials of a Redis or Valkey server. */
export interface RedisServer {
  readonly tls: boolean;
  readonly host: string;
  readonly port: number;
  readonly username: string | null;
  readonly password: string | null;
  readonly database: number;
}

/** Returns the URL of a server without credentials. */
export function formatRedisUrl({ tls, host, port, database }: RedisServer): string {
  return `redis${tls ? 's' : ''}://${host.includes(':') ? `[${host}]` : host}:${port}/${database}`;
}

/**
 * Parses a `redis://` or `rediss://` (TLS) URL with percent-encoded credentials; undefined if invalid.
 * https://www.iana.org/assignments/uri-schemes/prov/redis
 */
export function parseStorageUrl(text: string): RedisServer | undefined {
  if (!/^rediss?:\/\//.test(text) || !URL.canParse(text)) return undefined;
  const { protocol, hostname, port, username, password, pathname, search, hash } = new URL(text);
  const [, ipv6, name] = /^(?:\[([\da-f:.]+)\]|([\w.-]+))$/i.exec(hostname) ?? [];
  const host = ipv6 ?? name;
  const [, digits = '0'] = /^\/?(\d{1,4})?$/.exec(pathname) ?? [null, ''];
  if (host === undefined || port === '0' || digits === '' || search !== '' || hash !== '') return undefined;
  if (username !== '' && password === '') return undefined;
  try {
    return {
      tls: protocol === 'rediss:',
      host,
      port: port === '' ? 6379 : Number(port),
      username: username === '' ? null : decodeURIComponent(username),
      password: password === '' ? null : decodeURIComponent(password),
      database: Number(digits),
    };
  } catch {
    return undefined;
  }
}
