import { statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Timer } from '../common/clock.ts';
import { reasonOf } from '../common/errors.ts';
import { versionOf } from '../common/files.ts';
import type { Rules } from '../model.ts';
import { readRules, suspectFilesIn } from './rules.ts';

const POLL_MS = 1_000;

/** The file of --config.file and the lists of suspects that it names: the active rules, and whether they match the files. */
export class RulesFile {
  /** False if the last reload failed. */
  isCurrent = true;
  current: Rules;
  readonly #path: string;
  readonly #clock: Timer;
  /** The lists of suspects that the file names. */
  #lists: readonly string[] = [];
  /** The version that was read last. */
  #read: string;
  #polled: string;
  #cancel: (() => void) | null = null;

  /** Reads the file. Throws UsageError as `readRules` does. */
  constructor(path: string, clock: Timer) {
    this.#path = path;
    this.#clock = clock;
    this.#read = this.#polled = this.#versionNow();
    this.current = readRules(path);
  }

  /** Reloads the file. Returns the reason if it is invalid and keeps the active rules, else returns null. */
  reload(): string | null {
    // A change after this line is found by the next poll.
    this.#read = this.#versionNow();
    try {
      this.current = readRules(this.#path);
      this.isCurrent = true;
      return null;
    } catch (error) {
      this.isCurrent = false;
      return reasonOf(error);
    }
  }

  /**
   * Calls `changed` when one of the files differs from what was read last, until `close`. Links are followed, so that a ConfigMap that
   * Kubernetes updates is a change. A file that differs between two polls is still being written. Only a regular file is watched: a pipe
   * cannot be read twice.
   */
  watch(changed: () => void): void {
    const poll = (): void => {
      const cancel = (this.#cancel = this.#clock.after(POLL_MS, () => {
        void this.#hasChanged().then((hasChanged) => {
          if (this.#cancel !== cancel) return;
          if (hasChanged) changed();
          poll();
        });
      }));
    };
    if (this.#read !== NOT_REGULAR) poll();
  }

  close(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  async #hasChanged(): Promise<boolean> {
    const versions = [this.#path, ...this.#lists].map((file) => stat(file).then(versionOfRegular, codeOf));
    const [own = NOT_REGULAR, ...lists] = await Promise.all(versions);
    const version = own === NOT_REGULAR ? own : [own, ...lists].join('\n');
    const isWritten = version === this.#polled;
    this.#polled = version;
    return isWritten && version !== this.#read && version !== NOT_REGULAR;
  }

  #versionNow(): string {
    const own = versionNow(this.#path);
    if (own === NOT_REGULAR) return own;
    this.#lists = suspectFilesIn(this.#path);
    return [own, ...this.#lists.map(versionNow)].join('\n');
  }
}

const NOT_REGULAR = 'not a regular file';

function versionNow(path: string): string {
  try {
    return versionOfRegular(statSync(path));
  } catch (error) {
    return codeOf(error);
  }
}

function versionOfRegular(stats: Parameters<typeof versionOf>[0] & { isFile(): boolean }): string {
  return stats.isFile() ? versionOf(stats) : NOT_REGULAR;
}

function codeOf(error: unknown): string {
  return String((error as NodeJS.ErrnoException).code);
}
