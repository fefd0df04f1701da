import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request as requestHttps } from 'node:https';
import { reasonOf, UsageError } from '../common/errors.ts';

// Not imported, for the reason in web/server.ts.
const { request: requestHttp } = process.getBuiltinModule('node:http');

/** How to reach the API of an exporter, as unparsed text. */
export interface ConnectChoice {
  readonly connect: string;
  /** A file with USER:PASSWORD. */
  readonly passwordFile?: string | undefined;
  /** A file with the certificates of trusted authorities, PEM. */
  readonly caFile?: string | undefined;
  /** Files with the certificate of this client and its private key, PEM. */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

/** A server that sends nothing for this time has failed. */
const SILENCE_MS = 30_000;
/** The most characters of one answer; 100,000 rows have about 130 million. */
const MAX_LENGTH = 400_000_000;
/** The most characters of one line: a page of the history has about two million. */
const MAX_LINE = 40_000_000;
/** The most characters that are read of an answer that is an error. */
const MAX_ERROR = 10_000;
/** The most characters of a reason in an answer that are shown. */
const MAX_REASON = 200;

const NO_CERTIFICATE = 'it requires a client certificate; use --connect.cert-file and --connect.key-file';
const CERTIFICATE_REASONS: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is not trusted; --connect.ca-file must have its authority',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is not trusted; --connect.ca-file must have its authority',
  UNABLE_TO_GET_ISSUER_CERT: 'its certificate is not trusted; --connect.ca-file must have its authority',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is not trusted; --connect.ca-file must have its authority',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is not trusted; --connect.ca-file must have its authority',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it does not use TLS; use http://',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'it does not use TLS; use http://',
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: NO_CERTIFICATE,
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: 'it does not trust the certificate in --connect.cert-file',
  ERR_OSSL_X509_KEY_VALUES_MISMATCH: '--connect.key-file does not have the key of --connect.cert-file',
  ERR_OSSL_PEM_NO_START_LINE: 'a file of --connect.ca-file, --connect.cert-file or --connect.key-file is not PEM',
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: 'it refused the TLS connection',
};

/** Reads the API of one running exporter. */
export class ApiClient {
  /** The URL as given. */
  readonly url: string;
  readonly #base: URL;
  readonly #socketPath: string | null;
  readonly #authorization: string | null;
  readonly #tls: { readonly ca?: string; readonly cert?: string; readonly key?: string };

  /** Throws UsageError if the URL or a file is invalid. */
  constructor({ connect, passwordFile, ...files }: ConnectChoice) {
    this.url = connect;
    this.#socketPath = parseSocket(connect);
    this.#base = this.#socketPath === null ? parseUrl(connect) : new URL('http://localhost');
    this.#tls = readTls(files, this.#base.protocol);
    this.#authorization = passwordFile === undefined ? null : readCredentials(passwordFile);
    const { protocol, hostname } = this.#base;
    if (this.#authorization !== null && protocol === 'http:' && !isLoopback(hostname))
      throw new UsageError(
        `Cannot use --connect.password-file with --connect ${JSON.stringify(connect)}: a password is only sent by https://, to a unix: socket or to a loopback address`,
      );
  }

  /** Reads each line of an answer as it arrives. Rejects with a one-line Error, also if `read` throws; `what` completes "Cannot read". */
  async lines<T>(path: string, what: string, signal: AbortSignal, read: (line: string) => T): Promise<T[]> {
    const found = await this.linesIfPresent(path, what, signal, read);
    return found ?? this.#fail(what, 'the API is off; --web.enable-api turns it on');
  }

  /** The same; null if the exporter does not have this page. */
  async linesIfPresent<T>(
    path: string,
    what: string,
    signal: AbortSignal,
    read: (line: string) => T,
  ): Promise<T[] | null> {
    try {
      const response = await this.#open(path, signal);
      const { statusCode: status = 0 } = response;
      if (status === 200) return await readLines(response, read);
      const body = await readStart(response);
      if (status === 404) return null;
      throw new Error(this.#reasonOfStatus(status, response, body));
    } catch (error) {
      return this.#fail(what, this.#reasonOf(error));
    }
  }

  #reasonOfStatus(status: number, { headers }: IncomingMessage, body: string): string {
    if (status === 401)
      return this.#authorization === null
        ? 'it requires a password; use --connect.password-file'
        : 'the user or the password in --connect.password-file is wrong';
    if (status === 403 && this.#tls.cert === undefined && body.includes('client certificate')) return NO_CERTIFICATE;
    const said = headers['content-type']?.startsWith('text/html')
      ? ''
      : body.replaceAll('\n', ' ').trim().slice(0, MAX_REASON);
    return `HTTP status ${status}${said === '' ? '' : `: ${said}`}`;
  }

  #open(path: string, signal: AbortSignal): Promise<IncomingMessage> {
    const url = new URL(this.#base);
    const [pathname = '', search = ''] = path.split('?');
    url.pathname = `${url.pathname.replace(/\/+$/, '')}${pathname}`;
    url.search = search;
    const options = {
      signal,
      headers: this.#authorization === null ? {} : { Authorization: this.#authorization },
      ...(this.#socketPath !== null && { socketPath: this.#socketPath }),
      ...this.#tls,
    };
    return new Promise((resolve, reject) => {
      const request = url.protocol === 'https:' ? requestHttps(url, options) : requestHttp(url, options);
      request.setTimeout(SILENCE_MS, () => request.destroy(new Error(`no answer for ${SILENCE_MS / 1_000} s`)));
      request.once('response', resolve).once('error', reject).end();
    });
  }

  #reasonOf(error: unknown): string {
    const { code = '' } = error as NodeJS.ErrnoException;
    const isPlain = this.#base.protocol === 'http:' && this.#socketPath === null;
    if (isPlain && (code === 'ECONNRESET' || code.startsWith('HPE_')))
      return 'it closed the connection; if it uses TLS, use https://';
    if (code === 'EPROTO' && /wrong version number|packet length too long/.test(String(error)))
      return 'it does not use TLS; use http://';
    return CERTIFICATE_REASONS[code] ?? reasonOf(error);
  }

  #fail(what: string, reason: string): never {
    throw new Error(`Cannot read ${what} from ${JSON.stringify(this.url)}: ${reason}`);
  }
}

/** Reads lines without their line feeds one by one, so that the answer is never held as a whole. */
async function readLines<T>(response: IncomingMessage, read: (line: string) => T): Promise<T[]> {
  const found: T[] = [];
  let last = '';
  let length = 0;
  response.setEncoding('utf8');
  for await (const chunk of response as AsyncIterable<string>) {
    length += chunk.length;
    if (length > MAX_LENGTH) throw new Error(`the answer has more than ${MAX_LENGTH / 1_000_000} million characters`);
    const [first = '', ...rest] = chunk.split('\n');
    last += first;
    if (last.length > MAX_LINE)
      throw new Error(`a line of the answer has more than ${MAX_LINE / 1_000_000} million characters`);
    for (const line of rest) {
      found.push(read(last));
      last = line;
    }
  }
  if (last !== '') found.push(read(last));
  return found;
}

/** Reads the first characters of an answer, and disconnects if there are more. */
async function readStart(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const chunk of response as AsyncIterable<string>) {
    text += chunk;
    if (text.length > MAX_ERROR) break;
  }
  return text.slice(0, MAX_ERROR);
}

/** The path of unix:/run/peerscope/http.sock; null for another URL. */
function parseSocket(text: string): string | null {
  const path = /^unix:(?:\/\/)?(\/.+)$/.exec(text)?.[1];
  return path === undefined || Buffer.byteLength(path) > 107 ? null : path;
}

function parseUrl(text: string): URL {
  const url = /^https?:\/\//i.test(text) && URL.canParse(text) ? new URL(text) : null;
  if (url && (url.username !== '' || url.password !== ''))
    throw new UsageError('Cannot use --connect: the URL must not have a password; use --connect.password-file');
  if (url?.search === '' && url.hash === '') return url;
  throw new UsageError(
    `Cannot use --connect ${JSON.stringify(text)}: must be a URL such as http://127.0.0.1:9100, https://node7:9100 or unix:/run/peerscope/http.sock`,
  );
}

function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname);
}

/** Reads the files for TLS. Throws UsageError. */
function readTls(
  { caFile, certFile, keyFile }: Pick<ConnectChoice, 'caFile' | 'certFile' | 'keyFile'>,
  protocol: string,
): { readonly ca?: string; readonly cert?: string; readonly key?: string } {
  const given = [
    ['ca', caFile],
    ['cert', certFile],
    ['key', keyFile],
  ] as const;
  if ((certFile === undefined) !== (keyFile === undefined))
    throw new UsageError('Cannot use --connect.cert-file and --connect.key-file: both must be set');
  return Object.fromEntries(
    given.flatMap(([name, file]) => {
      if (file === undefined) return [];
      const option = `--connect.${name}-file`;
      if (protocol !== 'https:') throw new UsageError(`Cannot use ${option}: --connect must begin with https://`);
      return [[name, readGiven(option, file)]];
    }),
  );
}

function readGiven(option: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsageError(`Cannot use ${option} ${JSON.stringify(file)}: ${reasonOf(error)}`);
  }
}

/** The header of USER:PASSWORD, https://www.rfc-editor.org/rfc/rfc7617#section-2. */
function readCredentials(file: string): string {
  const text = readGiven('--connect.password-file', file).replace(/\r?\n$/, '');
  if (!/^[^:\n]+:[^\n]+$/.test(text))
    throw new UsageError(
      `Cannot use --connect.password-file ${JSON.stringify(file)}: must have one line of the form USER:PASSWORD`,
    );
  return `Basic ${Buffer.from(text).toString('base64')}`;
}
