import { connect, type Socket } from 'node:net';
import { connect as connectTls, getCACertificates } from 'node:tls';
import { AbstractConnector, type RedisOptions } from 'ioredis';
import { ReplyGuard } from './redis-replies.ts';
import type { RedisServer } from './redis-url.ts';

const READ_BYTES = 65_536;
const PREFIX = 'peerscope:';
export const CONNECT_MS = 1_000;
export const COMMAND_MS = 2_000;
/** A connection is dead if a reply is due and nothing arrives for this long. */
const SILENCE_MS = 5_000;

/**
 * Opens sockets for ioredis. The library throws an uncatchable error for an unexpected reply and buffers replies
 * without limit. Therefore ReplyGuard checks all bytes first, and an invalid reply closes the connection.
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
    const replies = new ReplyGuard();
    const callback = (length: number, read: Uint8Array): boolean => {
      try {
        const passed = replies.check(Buffer.from(read.subarray(0, length)));
        if (passed.length > 0) socket.emit('data', passed);
        return true;
      } catch (error) {
        socket.destroy(error as Error);
        return false;
      }
    };
    // With `onread`, the socket itself emits no data.
    const place = { host, port, family, onread: { buffer: Buffer.allocUnsafe(READ_BYTES), callback } };
    const socket = tls ? connectTls({ ...place, ...tls }) : connect(place);
    // Without pipelines, the library writes each command in a call of its own.
    const write = socket.write.bind(socket) as (...given: readonly unknown[]) => boolean;
    socket.write = (...given: readonly unknown[]) => {
      replies.expect();
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

/** Returns the ioredis options for a server. A command fails, and is never repeated, if its reply does not arrive in time. */
export function connectionOptions({ tls, host, port, username, password, database }: RedisServer) {
  return {
    host,
    port,
    family: 0,
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    ...(tls ? { tls: { ca: [...getCACertificates('default'), ...getCACertificates('system')] } } : {}),
    Connector: GuardedConnector,
    // RESP2 is sufficient and has no push messages.
    protocol: 2 as const,
    // The library selects it again after each reconnect. If it were set later, a failed SELECT could not be caught.
    db: database,
    // A server that rejects clients answers the first command with the reason, so the first command must be one of
    // ours.
    disableClientInfo: true,
    keyPrefix: PREFIX,
    lazyConnect: true,
    enableReadyCheck: false,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // Commands without a reply fail when the connection ends.
    maxRetriesPerRequest: 0,
    connectTimeout: CONNECT_MS,
    commandTimeout: COMMAND_MS,
    socketTimeout: SILENCE_MS,
  };
}
