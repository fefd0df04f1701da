import type { Timer } from '../common/clock.ts';
import { refusal } from '../config/yaml.ts';
import { readWebConfig, type WebConfig } from './web-config.ts';
import { fileVersion } from '../common/files.ts';

const POLL_MS = 1_000;

/** Who hears of changes. */
export interface WebConfigListeners {
  /** Takes a new configuration, which holds from now on. */
  readonly changed: (config: WebConfig) => void;
  /** Takes the reason why what is on disk is not used, at every look. */
  readonly failed: (reason: string) => void;
}

/**
 * The web configuration as it stands on disk: a change to the file, or to a PEM file that it names, holds about a second later.
 * A change that cannot be used leaves what was read before in use. What a server fixes when it begins to listen needs a restart:
 * whether it speaks TLS, and whether it asks for client certificates.
 */
export class WebConfigFile {
  readonly #path: string;
  readonly #clock: Timer;
  #current: WebConfig;
  #versions: string;
  #isCurrent = true;
  #cancel: (() => void) | null = null;

  private constructor(path: string, clock: Timer, { config, versions }: Read) {
    this.#path = path;
    this.#clock = clock;
    this.#current = config;
    this.#versions = versions;
  }

  /** Reads it for the first time; throws UsageError as `readWebConfig` does. */
  static async open(path: string, clock: Timer): Promise<WebConfigFile> {
    return new WebConfigFile(path, clock, await read(path));
  }

  get current(): WebConfig {
    return this.#current;
  }

  /** False while the files hold what is not used. */
  get isCurrent(): boolean {
    return this.#isCurrent;
  }

  /** Looks at the files every second, until `close`. */
  watch(listeners: WebConfigListeners): void {
    const look = (): void => {
      const cancel = (this.#cancel = this.#clock.after(POLL_MS, () => {
        void this.#refresh(listeners).then(() => {
          if (this.#cancel === cancel) look();
        });
      }));
    };
    look();
  }

  close(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  async #refresh({ changed, failed }: WebConfigListeners): Promise<void> {
    // While something is wrong a look at the files of before does not tell whether it still is.
    if (this.#isCurrent && (await versionsOf(this.#current.files)) === this.#versions) return;
    try {
      const { config, versions } = await read(this.#path);
      refuseRestart(this.#path, this.#current, config);
      this.#current = config;
      this.#versions = versions;
      this.#isCurrent = true;
      changed(config);
    } catch (error) {
      this.#isCurrent = false;
      failed(error instanceof Error ? error.message : String(error));
    }
  }
}

interface Read {
  readonly config: WebConfig;
  readonly versions: string;
}

/** The files are read again after the look at them: what changes in between is a change. */
async function read(path: string): Promise<Read> {
  const versions = await versionsOf(readWebConfig(path).files);
  return { config: readWebConfig(path), versions };
}

function refuseRestart(path: string, { tls: before }: WebConfig, { tls: after }: WebConfig): void {
  const isAsked = (tls: WebConfig['tls']): boolean => tls !== null && tls.clientAuth !== 'NoClientCert';
  const reason =
    (before === null) !== (after === null)
      ? 'tls_server_config: TLS is switched on or off by a restart alone'
      : isAsked(before) !== isAsked(after)
        ? 'tls_server_config.client_auth_type: whether clients are asked for a certificate changes by a restart alone'
        : null;
  if (reason !== null) throw refusal({ path, what: 'web configuration' }, [reason]);
}

async function versionsOf(files: readonly string[]): Promise<string> {
  return (await Promise.all(files.map(fileVersion))).join('\n');
}
