import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** The fault of a link: none, silence, a reset on the first byte, or these bytes as the answer to everything. */
export type LinkFault = 'none' | 'slow' | 'resets' | { readonly lies: string };

/** A port on loopback before a server on another one, which can be down and do wrong. */
export class FaultyLink {
  readonly port: number;
  readonly #to: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #fault: LinkFault = 'none';

  private constructor(server: Server, to: number) {
    this.#server = server;
    this.#to = to;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (socket) => this.#accept(socket));
  }

  static async start(to: number): Promise<FaultyLink> {
    const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new FaultyLink(server, to);
  }

  /** Takes effect immediately: open connections are reset, or become silent (slow). */
  set fault(fault: LinkFault) {
    this.#fault = fault;
    for (const socket of this.#sockets) {
      if (fault === 'slow') socket.unpipe().pause();
      else socket.resetAndDestroy();
    }
  }

  /** No process listens. */
  async down(): Promise<void> {
    this.fault = 'none';
    this.#server.close();
    await once(this.#server, 'close');
  }

  async up(): Promise<void> {
    this.fault = 'none';
    if (this.#server.listening) return;
    this.#server.listen(this.port, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  async close(): Promise<void> {
    if (this.#server.listening) await this.down();
  }

  #accept(socket: Socket): void {
    this.#hold(socket);
    const fault = this.#fault;
    if (fault === 'none') {
      const upstream = this.#hold(connect(this.#to, '127.0.0.1'));
      socket.pipe(upstream).pipe(socket);
      socket.on('close', () => upstream.destroy());
      upstream.on('close', () => socket.destroy());
    } else if (fault === 'resets') socket.once('data', () => socket.resetAndDestroy());
    else if (fault !== 'slow') {
      socket.on('data', () => socket.write(fault.lies));
      socket.on('end', () => socket.end());
    }
  }

  #hold(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    return socket.on('close', () => this.#sockets.delete(socket));
  }
}
