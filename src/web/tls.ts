import { constants } from 'node:crypto';
import type { RequestListener, ServerOptions } from 'node:http';
import { createServer, type Server } from 'node:https';
import { TLSSocket, type SecureContextOptions } from 'node:tls';
import { answer, type Gate } from './middleware.ts';
import type { ClientAuth, TlsConfig } from './web-config.ts';

const HANDSHAKE_MS = 10_000;

/**
 * The TLS of the servers of a run. Client certificates are looked at by the gate rather than in the handshake, so that health can
 * be asked without one.
 */
export class Tls {
  readonly #servers: Server[] = [];
  /** What each connection was let in with. */
  readonly #configs = new WeakMap<object, TlsConfig>();
  #current: TlsConfig;

  constructor(current: TlsConfig) {
    this.#current = current;
  }

  createServer(options: ServerOptions, listener: RequestListener): Server {
    const asks = this.#current.clientAuth !== 'NoClientCert';
    const server = createServer(
      {
        ...options,
        ...contextOf(this.#current),
        requestCert: asks,
        rejectUnauthorized: false,
        handshakeTimeout: HANDSHAKE_MS,
      },
      listener,
    );
    server.on('secureConnection', (socket) => this.#configs.set(socket, this.#current));
    this.#servers.push(server);
    return server;
  }

  /** New connections get these certificates from now on; old ones end as soon as no request is under way. */
  use(config: TlsConfig): void {
    if (JSON.stringify(config) === JSON.stringify(this.#current)) return;
    this.#current = config;
    for (const server of this.#servers) {
      server.setSecureContext(contextOf(config));
      server.closeIdleConnections();
    }
  }

  /** Lets in those who show what the configuration asks for; who was verified against former CAs has to connect again. */
  readonly gate: Gate = (request, response, next) => {
    const { socket } = request;
    const { clientAuth } = this.#current;
    const isOld = this.#configs.get(socket) !== this.#current;
    if (isOld) response.setHeader('Connection', 'close');
    if (clientAuth === 'NoClientCert' || (!isOld && socket instanceof TLSSocket && shows(socket, clientAuth))) next();
    else if (isOld) answer(response, 421, 'Connect again.');
    else answer(response, 403, 'A client certificate is required.', { Connection: 'close' });
  };
}

/**
 * Without tickets no session is taken up again: OpenSSL calls one of TLS 1.3 verified that was begun without a certificate, and one
 * that was begun with a certificate says nothing of the CAs of today.
 */
function contextOf({ cert, key, clientCa, clientAuth, minVersion, maxVersion }: TlsConfig): SecureContextOptions {
  return {
    cert,
    key,
    minVersion,
    maxVersion,
    ...(clientCa === null ? {} : { ca: clientCa }),
    ...(clientAuth === 'NoClientCert' ? {} : { secureOptions: constants.SSL_OP_NO_TICKET }),
  };
}

function shows(socket: TLSSocket, clientAuth: ClientAuth): boolean {
  const isShown = socket.getPeerX509Certificate() !== undefined;
  switch (clientAuth) {
    case 'NoClientCert':
    case 'RequestClientCert':
      return true;
    case 'RequireAnyClientCert':
      return isShown;
    case 'VerifyClientCertIfGiven':
      return !isShown || socket.authorized;
    case 'RequireAndVerifyClientCert':
      return isShown && socket.authorized;
  }
}
