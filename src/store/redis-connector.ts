import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect, isIP, Socket } from 'node:net';
import { connect as connectTls, createSecureContext, getCACertificates, type SecureContextOptions } from 'node:tls';
import { AbstractConnector, type RedisOptions } from 'ioredis';
import { reasonOf } from '../common/errors.ts';
import { ReplyGuard } from './redis-replies.ts';
import type { RedisServer, ServerAddress, TlsFiles } from './redis-url.ts';

const READ_BYTES = 65_536;
export const CONNECT_MS = 1_000;
export const COMMAND_MS = 2_000;
/** A connection is dead if a reply is due and nothing arrives for this long. */
const SILENCE_MS = 5_000;
/** How long a server may take to confirm the end of a connection. */
const DISCONNECT_MS = 2_000;

/**
 * Opens sockets for ioredis. The library throws an uncatchable error for an unexpected reply and buffers replies
 * without limit. Therefore ReplyGuard checks all bytes first, and an invalid reply closes the connection.
 */
class GuardedConnector extends AbstractConnector {
  readonly #locate: () => Promise<ServerAddress>;
  readonly #tls: TlsFiles | null;

  constructor(locate: () => Promise<ServerAddress>, tls: TlsFiles | null) {
    super(DISCONNECT_MS);
    this.#locate = locate;
    this.#tls = tls;
  }

  /** The library does not retry after a rejection. Therefore a failure returns a socket that is already destroyed. */
  async connect(): Promise<Socket> {
    this.connecting = true;
    try {
      const address = await this.#locate();
      if (this.#isDisconnected()) throw new Error('the connection was closed');
      this.stream = this.#open(address);
    } catch (error) {
      this.firstError = error instanceof Error ? error : new Error(String(error));
      this.stream = new Socket().destroy();
    }
    return this.stream;
  }

  #isDisconnected(): boolean {
    return !this.connecting;
  }

  #open({ host, port }: ServerAddress): Socket {
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
    const place = { host, port, family: 0, onread: { buffer: Buffer.allocUnsafe(READ_BYTES), callback } };
    const servername = isIP(host) === 0 ? { servername: host } : {};
    const socket = this.#tls ? connectTls({ ...place, ...servername, ...readTls(this.#tls) }) : connect(place);
    // Without pipelines, the library writes each command in a call of its own.
    const write = socket.write.bind(socket) as (...given: readonly unknown[]) => boolean;
    socket.write = (...given: readonly unknown[]) => {
      try {
        replies.expect();
        return write(...given);
      } catch (error) {
        socket.destroy(error as Error);
        return false;
      }
    };
    socket.once('error', (error: Error) => {
      this.firstError = error;
    });
    return socket;
  }
}

/** Reads the files for each connection, because certificates are renewed. */
function readTls({ ca, cert, key }: TlsFiles): SecureContextOptions {
  const authorities =
    ca === null ? [...getCACertificates('default'), ...getCACertificates('system')] : readPem(ca, 'certificate');
  if (cert === null || key === null) return { ca: authorities };
  const pair = { cert: readPem(cert, 'certificate'), key: readPem(key, 'key') };
  try {
    createSecureContext(pair);
  } catch {
    throw new Error(`the key in "${key}" does not match the certificate in "${cert}"`);
  }
  return { ca: authorities, ...pair };
}

/** OpenSSL ignores a file without certificates, and does not name the file that it cannot parse. */
function readPem(file: string, kind: 'certificate' | 'key'): string {
  let pem: string;
  try {
    pem = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(`cannot read "${file}": ${reasonOf(error)}`, { cause: error });
  }
  try {
    if (kind === 'certificate') new X509Certificate(pem);
    else createPrivateKey(pem);
  } catch {
    throw new Error(`"${file}" has no PEM ${kind}${kind === 'key' ? ' without a passphrase' : ''}`);
  }
  return pem;
}

/** Returns the ioredis options for a server. A command fails, and is never repeated, if its reply does not arrive in time. */
export function connectionOptions(
  { kind, tls, username, password, database }: RedisServer,
  locate: () => Promise<ServerAddress>,
) {
  const Connector: NonNullable<RedisOptions['Connector']> = class extends GuardedConnector {
    constructor() {
      super(locate, tls);
    }
  };
  return {
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    // The library only looks at whether it is set, to wait for the handshake.
    ...(tls ? { tls: {} } : {}),
    Connector,
    // RESP2 is sufficient and has no push messages.
    protocol: 2 as const,
    // The library selects it again after each reconnect. If it were set later, a failed SELECT could not be caught.
    db: database,
    // A server that rejects clients answers the first command with the reason, so the first command must be one of
    // ours.
    disableClientInfo: true,
    // All keys with the same text in braces are on one node of a Redis Cluster.
    keyPrefix: kind === 'cluster' ? '{peerscope}:' : 'peerscope:',
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
