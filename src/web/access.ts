import type { Timer } from '../common/clock.ts';
import { BasicAuth } from './basic-auth.ts';
import type { Gate } from './middleware.ts';
import { Tls } from './tls.ts';
import { WebConfigFile } from './web-config-file.ts';

/** Whom a server asks for what; `none` lets everybody in. */
export type Authentication = 'none' | 'passwords' | 'client certificates' | 'passwords and client certificates';

/** What the file of --web.config.file asks for, as it stands now: TLS, client certificates, passwords and headers. */
export class Protection {
  readonly tls: Tls | null;
  /** What a request has to pass. */
  readonly gates: readonly Gate[];
  readonly #file: WebConfigFile;
  readonly #passwords = new BasicAuth();

  private constructor(file: WebConfigFile) {
    this.#file = file;
    this.tls = file.current.tls && new Tls(file.current.tls);
    const passwords = this.#passwords.gate(() => file.current.users);
    this.gates = this.tls ? [this.tls.gate, passwords] : [passwords];
  }

  /** Throws UsageError for a file that cannot be read or used. */
  static async open(path: string, clock: Timer): Promise<Protection> {
    return new Protection(await WebConfigFile.open(path, clock));
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

  /** False while the files hold what cannot be used. */
  get isCurrent(): boolean {
    return this.#file.isCurrent;
  }

  /**
   * Follows the files until `close`. `changed` hears of each change once it holds: who was let in before may be nobody now.
   * `failed` takes the reason at every look while they cannot be used.
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
    await this.#passwords.close();
  }
}
