import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { Timer } from '../common/clock.ts';
import { BasicAuth, parseCredentials } from './basic-auth.ts';
import type { Middleware } from './middleware.ts';
import { Tls } from './tls.ts';
import { WebConfigFile } from './web-config-file.ts';

/** What clients have to present; with `none` every request is answered. */
export type Authentication = 'none' | 'passwords' | 'client certificates' | 'passwords and client certificates';

/** Access control by the file of --web.config.file as it is now: TLS, client certificates, passwords and headers. */
export class Access {
  readonly tls: Tls | null;
  /** The checks that a request has to pass, in this order. */
  readonly middleware: readonly Middleware[];
  readonly #file: WebConfigFile;
  readonly #basicAuth = new BasicAuth();

  private constructor(file: WebConfigFile) {
    this.#file = file;
    this.tls = file.current.tls && new Tls(file.current.tls);
    const passwords = this.#basicAuth.middleware(() => file.current.users);
    this.middleware = this.tls ? [this.tls.middleware, passwords] : [passwords];
  }

  /** Throws UsageError for a file that cannot be read or is invalid. */
  static async open(path: string, clock: Timer): Promise<Access> {
    return new Access(await WebConfigFile.open(path, clock));
  }

  get headers(): Readonly<Record<string, string>> {
    return this.#file.current.headers;
  }

  get authentication(): Authentication {
    const { tls, users } = this.#file.current;
    const certificates = tls?.clientAuth === 'RequireAnyClientCert' || tls?.clientAuth === 'RequireAndVerifyClientCert';
    if (users.size > 0) return certificates ? 'passwords and client certificates' : 'passwords';
    return certificates ? 'client certificates' : 'none';
  }

  /** Whether every client is known by a password, or by a certificate of the client CA. */
  get identifiesClients(): boolean {
    const { tls, users } = this.#file.current;
    return users.size > 0 || tls?.clientAuth === 'RequireAndVerifyClientCert';
  }

  /** The user of a request that passed the checks; null if any client passes them. */
  userOf({ headers, socket }: IncomingMessage): string | null {
    const { tls, users } = this.#file.current;
    if (users.size > 0) {
      const user = parseCredentials(headers.authorization)?.user;
      return user !== undefined && users.has(user) ? user : null;
    }
    if (tls?.clientAuth !== 'RequireAndVerifyClientCert') return null;
    if (!(socket instanceof TLSSocket) || !socket.authorized) return null;
    const subject = socket.getPeerX509Certificate()?.subject ?? '';
    return /^CN=(.+)$/m.exec(subject)?.[1] ?? subject.replaceAll('\n', ', ');
  }

  /** False while the files on disk are invalid. */
  get isCurrent(): boolean {
    return this.#file.isCurrent;
  }

  /**
   * Watches the files until `close`. `changed` is called after each change takes effect: clients that had access may have lost it.
   * `failed` takes the reason at every poll while the files are invalid.
   */
  watch(changed: () => void, failed: (reason: string) => void): void {
    this.#file.watch({
      changed: ({ tls }) => {
        if (tls) this.tls?.use(tls);
        changed();
      },
      failed,
    });
  }

  async close(): Promise<void> {
    this.#file.close();
    await this.#basicAuth.close();
  }
}
