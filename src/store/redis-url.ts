/** Where Redis or Valkey listens, and what it wants to know of us. */
export interface RedisServer {
  readonly tls: boolean;
  readonly host: string;
  readonly port: number;
  readonly username: string | null;
  readonly password: string | null;
  readonly database: number;
}

/** A server as its URL names it, without user and password. */
export function nameRedis({ tls, host, port, database }: RedisServer): string {
  return `redis${tls ? 's' : ''}://${host.includes(':') ? `[${host}]` : host}:${port}/${database}`;
}
