import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server, Socket } from 'node:net';
import { answer, type Gate } from './middleware.ts';

/** Lets so many requests be answered at a time, and refuses what comes beyond; 0 for any number. */
export function limitRequests(most: number): Gate {
  const open = new Map<ServerResponse, Socket>();
  return (request, response, next) => {
    const { socket } = request;
    if (most > 0) {
      // A pipelined answer that its connection did not live to see never closes.
      if (open.size >= most) for (const [old, { destroyed }] of open) if (destroyed) open.delete(old);
      if (open.size >= most) {
        answer(response, 503, `${most} requests are being answered, try again later.`, { 'Retry-After': '1' });
        return;
      }
      open.set(response, socket);
      response.once('close', () => open.delete(response));
    }
    // Who sends too many requests at once is cut by now, before any work on the first of them has begun.
    setImmediate(() => {
      if (!socket.destroyed) next();
    });
  };
}

/** How long an answer may take to be read. */
const SEND_MS = 30_000;

/** Who does not read what it asked for gives its place to others; to be called before the last that is written. */
export function cutWhenSlow(response: ServerResponse): void {
  const { socket } = response.req;
  // Of who went away meanwhile nothing may be kept, and what has closed never closes again.
  if (socket.destroyed || response.closed) return;
  // A pipelined answer whose connection goes away never closes.
  const deadline = setTimeout(() => socket.destroy(), SEND_MS).unref();
  response.once('close', () => clearTimeout(deadline));
}

/** Clients that send the next request before they have the answer are rare, and none needs more than a few. */
const MOST_PIPELINED = 8;

interface Connection {
  readonly socket: Socket;
  requests: number;
}

/**
 * Keeps a server at so many connections: a new one beyond takes the place of the one that has been without a request for longest.
 * So thousands of idle ones cost no memory, and lock nobody out.
 */
export class Connections {
  readonly #most: number;
  /** In the order of their last request. Before and after its TLS handshake a connection has two sockets with the same addresses. */
  readonly #connections = new Map<string, Connection>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Follows the connections of a server. */
  follow(server: Server): void {
    server.on('connection', (socket: Socket) => {
      if (this.#connections.size >= this.#most) (this.#oldestIdle() ?? socket).destroy();
      if (!socket.destroyed) this.#keep(socket);
    });
    server.on('secureConnection', (socket: Socket) => this.#keep(socket));
  }

  /** Takes note of a request; false where it is not to be answered, because its connection has too many or is cut. */
  admit({ socket }: IncomingMessage, response: ServerResponse): boolean {
    if (socket.destroyed) return false;
    const key = keyOf(socket);
    const connection = this.#connections.get(key);
    if (!connection) return true;
    if (connection.requests >= MOST_PIPELINED) {
      cut(socket);
      return false;
    }
    connection.requests++;
    response.once('close', () => {
      connection.requests--;
      if (this.#connections.get(key) !== connection) return;
      this.#connections.delete(key);
      this.#connections.set(key, connection);
    });
    return true;
  }

  /** Cuts them all, those too that have not begun TLS, of which a server of HTTP knows nothing. */
  cutAll(): void {
    for (const { socket } of this.#connections.values()) socket.destroy();
  }

  #keep(socket: Socket): void {
    const key = keyOf(socket);
    const connection = { socket, requests: 0 };
    this.#connections.delete(key);
    this.#connections.set(key, connection);
    socket.once('close', () => {
      if (this.#connections.get(key) === connection) this.#connections.delete(key);
    });
  }

  #oldestIdle(): Socket | undefined {
    for (const { socket, requests } of this.#connections.values()) if (requests === 0) return socket;
    return undefined;
  }
}

/**
 * Destroys a connection with requests that wait: Node.js parses all that have come and gives each an error of its own as it closes.
 * Nobody sees them, and their stacks would take 7 of 10 ms of 300 requests.
 */
function cut(socket: Socket): void {
  const limit = Error.stackTraceLimit;
  socket.prependOnceListener('close', () => (Error.stackTraceLimit = 0));
  socket.once('close', () => (Error.stackTraceLimit = limit));
  socket.destroy();
}

function keyOf({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`;
}
