import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server, Socket } from 'node:net';
import { answer, type Middleware } from './middleware.ts';

/** Limits the requests in progress; more are answered with 503. 0 is no limit. */
export function limitRequests(limit: number): Middleware {
  const inProgress = new Map<ServerResponse, Socket>();
  return (request, response, next) => {
    const { socket } = request;
    if (limit > 0) {
      // A pipelined response emits no `close` when its connection goes away first.
      if (inProgress.size >= limit)
        for (const [old, { destroyed }] of inProgress) if (destroyed) inProgress.delete(old);
      if (inProgress.size >= limit) {
        answer(response, 503, `${limit} requests are in progress, try again later.`, { 'Retry-After': '1' });
        return;
      }
      inProgress.set(response, socket);
      response.once('close', () => inProgress.delete(response));
    }
    // A client that pipelines too many requests is disconnected before work on the first one starts.
    setImmediate(() => {
      if (!socket.destroyed) next();
    });
  };
}

/** How long a client may take to read a response. */
const SEND_MS = 30_000;

/** Disconnects a client that does not read its response in time. Call it before the last write. */
export function disconnectWhenSlow(response: ServerResponse): void {
  const { socket } = response.req;
  // Neither emits `close` again: the timer would keep them in memory.
  if (socket.destroyed || response.closed) return;
  // A pipelined response emits no `close` when its connection goes away first.
  const deadline = setTimeout(() => socket.destroy(), SEND_MS).unref();
  response.once('close', () => clearTimeout(deadline));
}

/** Few clients pipeline requests, and none needs more than a few. */
const MAX_PIPELINED = 8;

interface Client {
  readonly socket: Socket;
  requests: number;
}

/**
 * Limits the client sockets of servers. A new one beyond the limit replaces the one that has been idle for longest: thousands of idle
 * clients cost no memory and block no other client.
 */
export class ClientLimit {
  readonly #limit: number;
  /** By addresses and ports, in the order of the last request. A TLS client has a socket before and one after its handshake. */
  readonly #clients = new Map<string, Client>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Applies the limit to a server. */
  watch(server: Server): void {
    server.on('connection', (socket: Socket) => {
      if (this.#clients.size >= this.#limit) (this.#longestIdle() ?? socket).destroy();
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
    const client = { socket, requests: 0 };
    this.#clients.delete(key);
    this.#clients.set(key, client);
    socket.once('close', () => {
      if (this.#clients.get(key) === client) this.#clients.delete(key);
    });
  }

  #longestIdle(): Socket | undefined {
    for (const { socket, requests } of this.#clients.values()) if (requests === 0) return socket;
    return undefined;
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

function keyOf({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`;
}
