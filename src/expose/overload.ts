import type { ServerResponse } from 'node:http';
import type { Server, Socket } from 'node:net';
import { answer, type Gate } from './gate.ts';

/** Lets so many requests be answered at a time, and refuses what comes beyond; 0 for any number. */
export function limitRequests(most: number): Gate {
  const open = new Map<ServerResponse, Socket>();
  return (request, response, next) => {
    // A pipelined answer that its connection did not live to see never closes.
    if (open.size >= most) for (const [old, socket] of open) if (socket.destroyed) open.delete(old);
    if (most > 0 && open.size >= most) {
      answer(response, 503, `${most} requests are being answered, try again later.`, { 'Retry-After': '1' });
      return;
    }
    open.set(response, request.socket);
    response.once('close', () => open.delete(response));
    next();
  };
}

/**
 * Keeps a server at so many connections: a new one beyond takes the place of the one that has been without a request for longest.
 * So thousands of idle ones cost no memory, and lock nobody out.
 */
export function limitConnections(server: Server, most: number): void {
  // In the order of their last request. A connection has a socket before and another after its TLS handshake: same addresses, same key.
  const connections = new Map<string, { socket: Socket; requests: number }>();
  const keep = (socket: Socket): void => {
    const key = keyOf(socket);
    const connection = { socket, requests: 0 };
    connections.delete(key);
    connections.set(key, connection);
    socket.once('close', () => {
      if (connections.get(key) === connection) connections.delete(key);
    });
  };
  server.on('connection', (socket: Socket) => {
    if (connections.size >= most) (oldestIdle(connections.values()) ?? socket).destroy();
    if (!socket.destroyed) keep(socket);
  });
  server.on('secureConnection', keep);
  server.on('request', ({ socket }: { socket: Socket }, response: ServerResponse) => {
    const key = keyOf(socket);
    const connection = connections.get(key);
    if (!connection) return;
    connection.requests++;
    response.once('close', () => {
      connection.requests--;
      if (connections.get(key) !== connection) return;
      connections.delete(key);
      connections.set(key, connection);
    });
  });
}

function oldestIdle(connections: Iterable<{ socket: Socket; requests: number }>): Socket | undefined {
  for (const { socket, requests } of connections) if (requests === 0) return socket;
  return undefined;
}

function keyOf({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return [localAddress, localPort, remoteAddress, remotePort].join(' ');
}
