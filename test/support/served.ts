import { request as plainRequest, type IncomingHttpHeaders } from 'node:http';
import { request as tlsRequest, type RequestOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Access } from '../../src/web/access.ts';
import { createApp, Servers, type HttpHandlers } from '../../src/web/server.ts';

/** The response to a request. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** The real server on a loopback port, with the given handlers. */
export class Served {
  readonly port: number;
  /** The reasons of failed requests. */
  readonly failures: string[];
  readonly #servers: Servers;
  readonly #isTls: boolean;

  private constructor(servers: Servers, isTls: boolean, failures: string[]) {
    this.#servers = servers;
    this.#isTls = isTls;
    this.failures = failures;
    this.port = Number(servers.addresses[0]?.split(':').at(-1)) satisfies AddressInfo['port'];
  }

  static async start(handlers: Partial<HttpHandlers>, access: Access | null = null): Promise<Served> {
    const failures: string[] = [];
    const failed = (reason: string): void => void failures.push(reason);
    const page = Buffer.from('peerscope_up 1\n');
    const app = createApp({
      telemetryPath: '/metrics',
      scrapeBudgetMs: 5_000,
      maxRequests: 40,
      collectors: ['sockets', 'asn'],
      isReady: () => true,
      failed,
      headers: () => access?.headers ?? {},
      middleware: access?.middleware ?? [],
      metrics: () => Promise.resolve({ format: 'text', body: page }),
      page: () => Promise.resolve('<!DOCTYPE html>'),
      api: null,
      unusual: null,
      history: null,
      accept: null,
      ...handlers,
    });
    const servers = await Servers.open(app, [{ host: '127.0.0.1', port: 0 }], access?.tls ?? null, failed);
    return new Served(servers, access?.tls !== null && access !== null, failures);
  }

  /** Sends a request on a new connection, unless the options have an agent. */
  async ask(path: string, options: RequestOptions = {}, body = ''): Promise<Answer> {
    const request = this.#isTls ? tlsRequest : plainRequest;
    return new Promise((resolve, reject) => {
      request({ host: '127.0.0.1', port: this.port, path, agent: false, ...options }, (response) => {
        const { statusCode: status = 0, headers } = response;
        text(response).then((body) => resolve({ status, headers, body }), reject);
      })
        .on('error', reject)
        .end(body);
    });
  }

  close(): Promise<void> {
    return this.#servers.close();
  }
}
