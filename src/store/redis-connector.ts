import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AbstractConnector, type RedisOptions } from 'ioredis';
import { RedisReplies } from './redis-replies.ts';

const READ_BYTES = 65_536;

/**
 * Opens the sockets of ioredis. The library throws where nobody can catch it when a reply comes that it did not ask for, and keeps
 * whatever a server sends; so no byte reaches it that was not judged, and a bad one ends the connection.
 */
export class GuardedConnector extends AbstractConnector {
  readonly #options: RedisOptions;

  constructor(options: unknown) {
    const given = options as RedisOptions;
    super(given.disconnectTimeout ?? 0);
    this.#options = given;
  }

  connect(): Promise<Socket> {
    const { host = '127.0.0.1', port = 6379, family = 0, tls } = this.#options;
    const replies = new RedisReplies();
    const callback = (length: number, read: Uint8Array): boolean => {
      try {
        const passed = replies.pass(Buffer.from(read.subarray(0, length)));
        if (passed.length > 0) socket.emit('data', passed);
        return true;
      } catch (error) {
        socket.destroy(error as Error);
        return false;
      }
    };
    // With `onread` the socket itself emits no data.
    const place = { host, port, family, onread: { buffer: Buffer.allocUnsafe(READ_BYTES), callback } };
    const socket = tls ? connectTls({ ...place, ...tls }) : connect(place);
    // The library writes each command on its own, so long as it is not asked for pipelines.
    const write = socket.write.bind(socket) as (...given: readonly unknown[]) => boolean;
    socket.write = (...given: readonly unknown[]) => {
      replies.ask();
      return write(...given);
    };
    socket.once('error', (error: Error) => {
      this.firstError = error;
    });
    this.connecting = true;
    this.stream = socket;
    return Promise.resolve(socket);
  }
}
