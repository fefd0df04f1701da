import { Redis } from 'ioredis';
import { reasonOf } from '../common/errors.ts';
import { connectionOptions } from './redis-connector.ts';
import { formatServerAddress, type RedisServer, type ServerAddress } from './redis-url.ts';

/** The hash slot of keys with the prefix `{peerscope}:`. */
export const SLOT = 6374;
/** The timeout of a connection to a Sentinel or node, and of its reply. */
const ASK_MS = 1_000;
/** The maximum number of nodes asked at once. */
const MAX_ASKED = 10;

/** An address to connect to, and the nodes that may be asked next time. */
interface Answer {
  readonly primary: ServerAddress;
  readonly nodes: readonly ServerAddress[];
}

/**
 * Finds the server to connect to: the given one, the primary that Sentinel names, or the node of a Redis Cluster that
 * serves our keys. Each new connection asks again, so a failover leads to the new primary.
 */
export class PrimaryFinder {
  readonly #server: RedisServer;
  /** The other nodes of a Redis Cluster, learned from the last answer. */
  #nodes: readonly ServerAddress[] = [];
  #asked: Redis[] = [];
  /** Which address is the first that is asked. */
  #turn = 0;

  constructor(server: RedisServer) {
    this.#server = server;
  }

  /**
   * Asks all Sentinels or nodes at once and returns the most frequent answer: one that was cut off may name an old
   * primary.
   */
  readonly locate = async (): Promise<ServerAddress> => {
    const { kind, addresses } = this.#server;
    const [only] = addresses;
    if (kind === 'single' && only) return only;
    const all = new Map([...addresses, ...this.#nodes].map((node) => [formatServerAddress(node), node]));
    // If none of the first ones answers, the next connection asks the next ones.
    const turned = [...[...all].slice(this.#turn % all.size), ...[...all].slice(0, this.#turn % all.size)];
    const asked = turned.slice(0, MAX_ASKED);
    const results = await Promise.allSettled(asked.map(([, node]) => this.#ask(node)));
    this.close();
    const votes = new Map<string, Answer[]>();
    const reasons: string[] = [];
    for (const [i, result] of results.entries())
      if (result.status === 'rejected') reasons.push(`${asked[i]?.[0]}: ${reasonOf(result.reason)}`);
      else {
        const name = formatServerAddress(result.value.primary);
        votes.set(name, [...(votes.get(name) ?? []), result.value]);
      }
    const [most] = [...votes.values()].sort((a, b) => b.length - a.length);
    if (!most?.[0]) {
      this.#turn += MAX_ASKED;
      throw new Error(reasons.join(', '));
    }
    this.#nodes = most[0].nodes;
    return most[0].primary;
  };

  close(): void {
    for (const redis of this.#asked) redis.disconnect();
    this.#asked = [];
  }

  async #ask(node: ServerAddress): Promise<Answer> {
    const { username, password, primary } = this.#server;
    const server = { ...this.#server, username: null, password: null, database: 0 };
    const redis = new Redis({
      ...connectionOptions(server, () => Promise.resolve(node)),
      keyPrefix: '',
      retryStrategy: () => null,
      connectTimeout: ASK_MS,
      commandTimeout: ASK_MS,
    });
    this.#asked.push(redis);
    let connectionError: Error | undefined;
    redis.on('error', (error: Error) => {
      connectionError ??= error;
    });
    await redis.connect().catch((error: unknown) => {
      throw connectionError ?? error;
    });
    // A Sentinel may need the password of the server, another one, or none. If it needs none, the reply of AUTH is an error.
    const credentials = password === null ? [] : [...(username === null ? [] : [username]), password];
    const [authentication, reply] = await Promise.allSettled([
      credentials.length > 0 ? redis.call('AUTH', ...credentials) : null,
      primary === null ? redis.call('CLUSTER', 'SLOTS') : redis.call('SENTINEL', 'get-master-addr-by-name', primary),
    ]);
    if (reply.status === 'rejected') {
      const error: unknown = connectionError ?? reply.reason;
      throw authentication.status === 'rejected' && reasonOf(error).startsWith('NOAUTH')
        ? authentication.reason
        : error;
    }
    return primary === null ? slotOwner(reply.value, node) : sentinelPrimary(reply.value, primary);
  }
}

/** https://redis.io/docs/latest/develop/reference/sentinel-clients/ */
function sentinelPrimary(reply: unknown, name: string): Answer {
  if (reply === null) throw new Error(`Sentinel has no primary "${name}"`);
  const [host, port] = Array.isArray(reply) ? (reply as readonly unknown[]) : [];
  return { primary: toAddress(host, Number(port)), nodes: [] };
}

/**
 * A node that does not know its own address leaves it empty, and the address that was asked applies.
 * https://redis.io/docs/latest/commands/cluster-slots/
 */
function slotOwner(reply: unknown, asked: ServerAddress): Answer {
  const ranges = Array.isArray(reply) ? reply.filter((range): range is unknown[] => Array.isArray(range)) : [];
  const own = ranges.find(([from, to]) => Number(from) <= SLOT && SLOT <= Number(to));
  if (!own) throw new Error('CLUSTERDOWN the hash slot of peerscope is not served');
  const nodesOf = (range: readonly unknown[]): ServerAddress[] =>
    range.slice(2).flatMap((node) => {
      const [host, port] = Array.isArray(node) ? (node as readonly unknown[]) : [];
      return host === '?' ? [] : [toAddress(host || asked.host, Number(port))];
    });
  const [primary] = nodesOf(own.slice(0, 3));
  if (!primary) throw new Error('the node that serves peerscope has no address');
  return { primary, nodes: ranges.flatMap(nodesOf) };
}

function toAddress(host: unknown, port: number): ServerAddress {
  if (typeof host === 'string' && /^[\w.:-]{1,253}$/.test(host) && Number.isInteger(port) && port > 0 && port < 65_536)
    return { host, port };
  throw new Error(`unexpected address ${JSON.stringify([host, port]).slice(0, 80)}`);
}
