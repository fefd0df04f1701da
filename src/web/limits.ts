import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server, Socket } from 'node:net';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import { parseAddress } from '../common/address.ts';
import { answer, type Middleware } from './middleware.ts';

/** How long a client may take to read a response. */
const SEND_MS = 30_000;
/** A client that reads its response within this time is fast; one that reads nothing for this long gives its place up to others. */
const FAST_MS = 2_000;
/** How many responses, and how many bytes of them, may wait for clients to read them. */
const MAX_UNREAD = 64;
const MAX_UNREAD_BYTES = 32 << 20;
/** Places beyond a limit, one for each client: half of them are for clients that were fast before. */
const KEPT_PLACES = 16;
const MAX_KNOWN = 100;
const KNOWN_MS = 600_000;

/** The client at the other end of a socket: its address, and for IPv6 its /64, because a host has as many addresses as it likes. */
export function clientOf({ remoteAddress = '' }: Pick<Socket, 'remoteAddress'>): string {
  const [, v4] = /^::ffff:([\d.]+)$/i.exec(remoteAddress) ?? [];
  if (v4 !== undefined || !remoteAddress.includes(':')) return v4 ?? remoteAddress;
  const [, scope = ''] = remoteAddress.split('%');
  const words = parseAddress(remoteAddress.replace(/%.*/, '')) ?? [0, 0];
  return `${words[0].toString(16)} ${words[1].toString(16)} ${scope}`;
}

/**
 * Limits requests so that no client takes the places of others. A request holds a place until its response is complete; a response
 * that its client does not read holds none. With all places taken, a client without any is still served from a few places beyond the
 * limit. Of the unread responses, the oldest of the client with the most are cut first.
 */
export class RequestLimits {
  readonly #now: () => number;
  /** The places of responses that are not complete. */
  readonly #places = new Map<ServerResponse, () => void>();
  readonly #unread = new Map<ServerResponse, { readonly client: string; readonly end: () => void }>();
  /** The clients that were fast, and when. */
  readonly #fast = new Map<string, number>();

  /** `now` returns monotonic milliseconds. */
  constructor(now: () => number = () => SYSTEM_CLOCK.monotonic()) {
    this.#now = now;
  }

  /** Limits the requests of a group; more are answered with 503. 0 is no limit. */
  limit(limit: number): Middleware {
    const inProgress = new Map<ServerResponse, { readonly socket: Socket; readonly client: string }>();
    return (request, response, next) => {
      const { socket } = request;
      if (limit > 0) {
        const client = clientOf(socket);
        // A pipelined response emits no `close` when its connection goes away first.
        if (inProgress.size >= limit)
          for (const [old, { socket }] of inProgress) if (socket.destroyed) inProgress.delete(old);
        if (inProgress.size >= this.#mostFor(client, limit, inProgress)) {
          answer(response, 503, `${limit} requests are in progress, try again later.`, { 'Retry-After': '1' });
          return;
        }
        const free = (): void => void (this.#places.delete(response), inProgress.delete(response));
        inProgress.set(response, { socket, client });
        this.#places.set(response, free);
        response.once('close', free);
      }
      // A client that pipelines too many requests is disconnected before work on the first one starts.
      setImmediate(() => {
        if (!socket.destroyed) next();
      });
    };
  }

  /** Frees the place of a response, and disconnects a client that does not read it in time. Call it before the last write. */
  sending(response: ServerResponse): void {
    this.#places.get(response)?.();
    const { socket } = response.req;
    // Neither emits `close` again: the timer would keep them in memory.
    if (socket.destroyed || response.closed) return;
    const client = clientOf(socket);
    const since = this.#now();
    const end = (): void => void (clearTimeout(deadline), this.#unread.delete(response));
    // A pipelined response emits no `close` when its connection goes away first.
    const deadline = setTimeout(() => void (end(), socket.destroy()), SEND_MS).unref();
    this.#unread.set(response, { client, end });
    response.once('close', end);
    response.once('finish', () => {
      if (this.#now() - since < FAST_MS) this.#remember(client);
    });
    this.#endDisconnected();
    while (this.#unread.size > MAX_UNREAD || this.#unreadBytes() > MAX_UNREAD_BYTES) {
      const cut = this.#longestUnread();
      if (!cut || cut === response) return;
      cut.req.socket.destroy();
      this.#endDisconnected();
    }
  }

  /** Pipelined responses of a client that has gone. */
  #endDisconnected(): void {
    for (const [{ req }, { end }] of this.#unread) if (req.socket.destroyed) end();
  }

  #mostFor(client: string, limit: number, inProgress: ReadonlyMap<unknown, { readonly client: string }>): number {
    if (inProgress.size < limit || inProgress.values().some((other) => other.client === client)) return limit;
    const isKnown = this.#now() - (this.#fast.get(client) ?? -Infinity) < KNOWN_MS;
    return limit + (isKnown ? KEPT_PLACES : KEPT_PLACES / 2);
  }

  /** The clients that have been fast for longest stay known: many new ones cannot push them out. */
  #remember(client: string): void {
    const now = this.#now();
    if (!this.#fast.has(client) && this.#fast.size >= MAX_KNOWN)
      for (const [old, at] of this.#fast) if (now - at >= KNOWN_MS) this.#fast.delete(old);
    if (this.#fast.has(client) || this.#fast.size < MAX_KNOWN) this.#fast.set(client, now);
  }

  #unreadBytes(): number {
    return this.#unread.keys().reduce((sum, { writableLength }) => sum + writableLength, 0);
  }

  #longestUnread(): ServerResponse | undefined {
    const most = largestClient(this.#unread.values().map(({ client }) => client));
    return this.#unread.entries().find(([, { client }]) => client === most)?.[0];
  }
}

/** The client that occurs most often; the first of several. */
function largestClient(clients: Iterable<string>): string | undefined {
  const counts = new Map<string, number>();
  for (const client of clients) counts.set(client, (counts.get(client) ?? 0) + 1);
  let largest: string | undefined;
  for (const [client, count] of counts)
    if (largest === undefined || count > (counts.get(largest) ?? 0)) largest = client;
  return largest;
}

interface Reader {
  readonly client: string;
  /** Since when it has read nothing, in monotonic milliseconds; null while it reads. */
  stalledAt: number | null;
  readonly cut: () => void;
}

/**
 * The places of clients that read a response piece by piece. With all places taken, a new client gets the place of one that has read
 * nothing for two seconds, or the newest place of a client that has at least two more.
 */
export class ReaderPlaces {
  readonly #most: number;
  readonly #now: () => number;
  readonly #readers = new Set<Reader>();

  constructor(most: number, now: () => number = () => SYSTEM_CLOCK.monotonic()) {
    this.#most = most;
    this.#now = now;
  }

  /** Takes a place, or returns null. `cut` must disconnect the client. */
  take(client: string, cut: () => void): Reader | null {
    if (this.#readers.size >= this.#most) {
      const loser = this.#longestStalled() ?? this.#beyondItsShare(client);
      if (!loser) return null;
      this.#readers.delete(loser);
      loser.cut();
    }
    const reader: Reader = { client, stalledAt: null, cut };
    this.#readers.add(reader);
    return reader;
  }

  free(reader: Reader): void {
    this.#readers.delete(reader);
  }

  stalls(reader: Reader, doesStall: boolean): void {
    reader.stalledAt = doesStall ? (reader.stalledAt ?? this.#now()) : null;
  }

  #longestStalled(): Reader | undefined {
    const before = this.#now() - FAST_MS;
    const stalled = [...this.#readers].filter(({ stalledAt }) => stalledAt !== null && stalledAt <= before);
    return stalled.sort((a, b) => (a.stalledAt ?? 0) - (b.stalledAt ?? 0))[0];
  }

  #beyondItsShare(newcomer: string): Reader | undefined {
    const readers = [...this.#readers];
    const countOf = (client: string): number => readers.filter((reader) => reader.client === client).length;
    const most = largestClient(readers.map(({ client }) => client));
    if (most === undefined || countOf(most) < countOf(newcomer) + 2) return undefined;
    return readers.findLast(({ client }) => client === most);
  }
}

/** Few clients pipeline requests, and none needs more than a few. */
const MAX_PIPELINED = 8;

interface Connection {
  readonly socket: Socket;
  readonly client: string;
  requests: number;
}

/**
 * Limits the sockets of clients. A new one beyond the limit replaces one of the client with the most: the one that has been idle for
 * longest, or the newest if that client has at least two more than the new one. Thousands of idle sockets cost no memory and block no
 * other client.
 */
export class ClientLimit {
  readonly #limit: number;
  /** By addresses and ports, in the order of the last request. A TLS client has a socket before and one after its handshake. */
  readonly #clients = new Map<string, Connection>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Applies the limit to a server. */
  watch(server: Server): void {
    server.on('connection', (socket: Socket) => {
      if (this.#clients.size >= this.#limit) (this.#replaceable(clientOf(socket)) ?? socket).destroy();
      if (!socket.destroyed) this.#add(socket);
    });
    server.on('secureConnection', (socket: Socket) => this.#add(socket));
  }

  /** Counts a request; false when it must not be answered, because its client is disconnected or pipelines too many. */
  admit({ socket }: IncomingMessage, response: ServerResponse): boolean {
    if (socket.destroyed) return false;
    const key = keyOf(socket);
    const client = this.#clients.get(key);
    if (!client) return true;
    if (client.requests >= MAX_PIPELINED) {
      stopParsing(socket);
      socket.destroy();
      return false;
    }
    client.requests++;
    response.once('close', () => {
      client.requests--;
      if (this.#clients.get(key) !== client) return;
      this.#clients.delete(key);
      this.#clients.set(key, client);
    });
    return true;
  }

  /** Disconnects all clients, including those before their TLS handshake, which the HTTP server does not know. */
  disconnectAll(): void {
    for (const { socket } of this.#clients.values()) socket.destroy();
  }

  #add(socket: Socket): void {
    const key = keyOf(socket);
    const client = { socket, client: clientOf(socket), requests: 0 };
    this.#clients.delete(key);
    this.#clients.set(key, client);
    socket.once('close', () => {
      if (this.#clients.get(key) === client) this.#clients.delete(key);
    });
  }

  #replaceable(newcomer: string): Socket | undefined {
    const all = [...this.#clients.values()];
    const most = largestClient(all.map(({ client }) => client));
    const largest = all.filter(({ client }) => client === most);
    const idle = largest.find(({ requests }) => requests === 0) ?? all.find(({ requests }) => requests === 0);
    if (idle) return idle.socket;
    const own = all.filter(({ client }) => client === newcomer).length;
    return largest.length >= own + 2 ? largest.at(-1)?.socket : undefined;
  }
}

/** What `onIncoming` of Node's HTTP parser returns so that the parser stops: the rest of the input is another protocol. */
const NOT_HTTP = 2;

/**
 * Makes the HTTP parser of a socket ignore the rest of the chunk that it is parsing. Otherwise every request in it becomes objects, and
 * an error with a stack when the socket closes: 300 requests block the process for 5 ms instead of 0.4 ms (Node.js 24, version 0.1.0).
 * `parser` is not documented; without it only that time is lost.
 */
function stopParsing(socket: Socket & { parser?: { onIncoming?: unknown } | null }): void {
  if (socket.parser) socket.parser.onIncoming = () => NOT_HTTP;
}

/** The ids of connections to Unix sockets, which have no addresses. */
const unixIds = new WeakMap<object, string>();
let lastUnixId = 0;

/** `_parent` of a TLS socket, which is not documented, is the socket before the handshake. */
function keyOf(socket: Socket & { _parent?: Socket | null }): string {
  const { localAddress, localPort, remoteAddress, remotePort } = socket;
  if (remoteAddress !== undefined) return `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`;
  const first = socket._parent ?? socket;
  const id = unixIds.get(first) ?? `unix ${++lastUnixId}`;
  unixIds.set(first, id);
  return id;
}
