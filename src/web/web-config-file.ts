import type { Timer } from '../common/clock.ts';
import { reasonOf } from '../common/errors.ts';
import { fileVersion } from '../common/files.ts';
import { refusal } from '../config/yaml.ts';
import { readWebConfig, type WebConfig } from './web-config.ts';

const POLL_MS = 1_000;

/** Receives changes. */
export interface WebConfigCallbacks {
  /** Takes a new configuration, which is in effect now. */
  readonly changed: (config: WebConfig) => void;
  /** Takes the reason at every poll while the files on disk are invalid. */
  readonly failed: (reason: string) => void;
}

/**
 * The web configuration on disk: a change of the file, or of a PEM file that it names, takes effect about a second later.
 * After an invalid change the previous configuration stays in effect. Turning TLS or the request for client certificates on or off
 * takes a restart.
 */
export class WebConfigFile {
  readonly #path: string;
  readonly #clock: Timer;
  #current: WebConfig;
  #versions: string;
  #isCurrent = true;
  #cancel: (() => void) | null = null;

  private constructor(path: string, clock: Timer, { config, versions }: LoadedConfig) {
    this.#path = path;
    this.#clock = clock;
    this.#current = config;
    this.#versions = versions;
  }

  /** Reads the files; throws UsageError as `readWebConfig` does. */
  static async open(path: string, clock: Timer): Promise<WebConfigFile> {
    return new WebConfigFile(path, clock, await read(path));
  }

  get current(): WebConfig {
    return this.#current;
  }

  /** False while the files on disk are invalid. */
  get isCurrent(): boolean {
    return this.#isCurrent;
  }

  /** Polls the files every second, until `close`. */
  watch(callbacks: WebConfigCallbacks): void {
    const poll = (): void => {
      const cancel = (this.#cancel = this.#clock.after(POLL_MS, () => {
        void this.#refresh(callbacks).then(() => {
          if (this.#cancel === cancel) poll();
        });
      }));
    };
    poll();
  }

  close(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  async #refresh({ changed, failed }: WebConfigCallbacks): Promise<void> {
    // While the files are invalid, the list of files to compare may be wrong too.
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
      failed(reasonOf(error));
    }
  }
}

interface LoadedConfig {
  readonly config: WebConfig;
  readonly versions: string;
}

/** Takes the versions of the files before it reads them: a change in between is found by the next poll. */
async function read(path: string): Promise<LoadedConfig> {
  const versions = await versionsOf(readWebConfig(path).files);
  return { config: readWebConfig(path), versions };
}

function refuseRestart(path: string, { tls: before }: WebConfig, { tls: after }: WebConfig): void {
  const requestsCert = (tls: WebConfig['tls']): boolean => tls !== null && tls.clientAuth !== 'NoClientCert';
  const reason =
    (before === null) !== (after === null)
      ? 'tls_server_config: turning TLS on or off takes a restart'
      : requestsCert(before) !== requestsCert(after)
        ? 'tls_server_config.client_auth_type: turning the request for client certificates on or off takes a restart'
        : null;
  if (reason !== null) throw refusal({ path, what: 'web configuration' }, [reason]);
}

async function versionsOf(files: readonly string[]): Promise<string> {
  return (await Promise.all(files.map(fileVersion))).join('\n');
}
