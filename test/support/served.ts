import { request as plainRequest, type IncomingHttpHeaders } from 'node:http';
import { request as tlsRequest, type RequestOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { Protection } from '../../src/web/access.ts';
import { createApp, Servers, type Exposition } from '../../src/web/server.ts';

/** What a request got. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** The real server on a port of loopback, with a page that is given. */
export class Served {
  readonly port: number;
  /** What went wrong with requests. */
  readonly failures: string[];
  readonly #servers: Servers;
  readonly #isTls: boolean;

  private constructor(servers: Servers, isTls: boolean, failures: string[]) {
    this.#servers = servers;
    this.#isTls = isTls;
    this.failures = failures;
    this.port = Number(servers.addresses[0]?.split(':').at(-1)) satisfies AddressInfo['port'];
  }

  static async start(exposition: Partial<Exposition>, protection: Protection | null = null): Promise<Served> {
    const servers = new Servers(protection?.tls ?? null);
    const failures: string[] = [];
    const page = Buffer.from('peerscope_up 1\n');
    const app = createApp({
      telemetryPath: '/metrics',
      scrapeBudgetMs: 5_000,
      maxRequests: 40,
      collectors: ['sockets', 'asn'],
      isReady: () => true,
      failed: (reason) => failures.push(reason),
      headers: () => protection?.headers ?? {},
      gates: protection?.gates ?? [],
      metrics: () => Promise.resolve({ format: 'text', body: page }),
      page: () => Promise.resolve('<!DOCTYPE html>'),
      api: null,
      ...exposition,
    });
    await servers.listen(app, [{ host: '127.0.0.1', port: 0 }], (reason) => failures.push(reason));
    return new Served(servers, protection?.tls !== null && protection !== null, failures);
  }

  /** One request on a connection of its own, unless an agent is given. */
  async ask(path: string, options: RequestOptions = {}): Promise<Answer> {
    const request = this.#isTls ? tlsRequest : plainRequest;
    return new Promise((resolve, reject) => {
      request({ host: '127.0.0.1', port: this.port, path, agent: false, ...options }, (response) => {
        const { statusCode: status = 0, headers } = response;
        text(response).then((body) => resolve({ status, headers, body }), reject);
      })
        .on('error', reject)
        .end();
    });
  }

  close(): Promise<void> {
    return this.#servers.close();
  }
}
