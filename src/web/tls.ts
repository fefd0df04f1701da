import { constants } from 'node:crypto';
import type { RequestListener, ServerOptions } from 'node:http';
import { createServer, type Server } from 'node:https';
import { TLSSocket, type SecureContextOptions } from 'node:tls';
import { answer, type Middleware } from './middleware.ts';
import type { ClientAuth, TlsConfig } from './web-config.ts';

const HANDSHAKE_MS = 10_000;

/**
 * TLS for all servers of a run. Client certificates are checked by the middleware instead of in the handshake, so that health checks
 * work without one.
 */
export class Tls {
  readonly #servers: Server[] = [];
  /** The configuration at the handshake of each socket. */
  readonly #configs = new WeakMap<object, TlsConfig>();
  #current: TlsConfig;

  constructor(current: TlsConfig) {
    this.#current = current;
  }

  createServer(options: ServerOptions, handle: RequestListener): Server {
    const requestCert = this.#current.clientAuth !== 'NoClientCert';
    const server = createServer(
      {
        ...options,
        ...contextOf(this.#current),
        requestCert,
        rejectUnauthorized: false,
        handshakeTimeout: HANDSHAKE_MS,
      },
      handle,
    );
    server.on('secureConnection', (socket) => this.#configs.set(socket, this.#current));
    this.#servers.push(server);
    return server;
  }

  /** New connections use this configuration; idle old ones are closed, busy ones after their request. */
  use(config: TlsConfig): void {
    if (JSON.stringify(config) === JSON.stringify(this.#current)) return;
    this.#current = config;
    for (const server of this.#servers) {
      server.setSecureContext(contextOf(config));
      server.closeIdleConnections();
    }
  }

  /** Requires the client certificate that the configuration demands. A client verified against former CAs has to reconnect. */
  readonly middleware: Middleware = (request, response, next) => {
    const { socket } = request;
    const { clientAuth } = this.#current;
    const isOld = this.#configs.get(socket) !== this.#current;
    if (isOld) response.setHeader('Connection', 'close');
    if (clientAuth === 'NoClientCert' || (!isOld && socket instanceof TLSSocket && hasCertificate(socket, clientAuth)))
      next();
    else if (isOld) answer(response, 421, 'Connect again.');
    else answer(response, 403, 'A client certificate is required.', { Connection: 'close' });
  };
}

/**
 * With client certificates, session tickets are off: OpenSSL reports a resumed TLS 1.3 session as verified even if it began without a
 * certificate, and a session that began with one was not verified against the current CAs.
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

function hasCertificate(socket: TLSSocket, clientAuth: ClientAuth): boolean {
  const isPresent = socket.getPeerX509Certificate() !== undefined;
  switch (clientAuth) {
    case 'NoClientCert':
    case 'RequestClientCert':
      return true;
    case 'RequireAnyClientCert':
      return isPresent;
    case 'VerifyClientCertIfGiven':
      return !isPresent || socket.authorized;
    case 'RequireAndVerifyClientCert':
      return isPresent && socket.authorized;
  }
}
