import { closeSync, fstatSync, openSync, readlinkSync, renameSync, statSync, writeSync } from 'node:fs';
import { reasonOf, UsageError } from '../common/errors.ts';

const UNITS: Readonly<Record<string, number>> = { KiB: 1 << 10, MiB: 1 << 20, GiB: 1 << 30 };
/** The smallest bound: two files of some hundred rows. */
const SMALLEST = 1 << 20;

/** Parses a bound such as 100MiB, in bytes. Throws UsageError. */
export function parseBound(text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,6})(KiB|MiB|GiB)$/.exec(text) ?? [];
  const bytes = Number(number) * (UNITS[unit] ?? 0);
  if (bytes >= SMALLEST) return bytes;
  throw new UsageError(`Cannot use --rotate ${JSON.stringify(text)}: must be a size of at least 1MiB, such as 100MiB`);
}

/**
 * The file behind standard output, and one former file beside it with ".1" behind its name: together they never have more bytes than
 * the bound. Lines are whole, except one that is longer than half of the bound.
 */
export class RotatedFile {
  readonly #path: string;
  readonly #most: number;
  #descriptor: number;
  #size: number;

  private constructor(path: string, descriptor: number, size: number, most: number) {
    this.#path = path;
    this.#descriptor = descriptor;
    this.#size = size;
    this.#most = most;
  }

  /** Throws UsageError if the descriptor is not that of a file with a name. */
  static open(text: string, descriptor = 1): RotatedFile {
    const bound = parseBound(text);
    const { path, size } = fileOf(descriptor) ?? {};
    if (path === undefined || size === undefined)
      throw new UsageError(`Cannot use --rotate ${JSON.stringify(text)}: standard output must be a file`);
    return new RotatedFile(path, descriptor, size, Math.floor(bound / 2));
  }

  /** Writes lines. `begin` is the first line of a new file. Returns whether a new file was begun. Throws a one-line Error. */
  write(text: string, begin = ''): boolean {
    let isNew = false;
    let batch = '';
    let size = 0;
    for (const line of text.match(/[^\n]*\n|[^\n]+$/g) ?? []) {
      const bytes = Buffer.byteLength(line);
      if (this.#size + size + bytes > this.#most && this.#size + size > 0) {
        this.#append(batch);
        this.#rotate();
        [batch, size, isNew] = [begin, Buffer.byteLength(begin), true];
      }
      batch += line;
      size += bytes;
    }
    this.#append(batch);
    return isNew;
  }

  #append(text: string): void {
    try {
      let rest = Buffer.from(text);
      while (rest.length > 0) {
        const written = writeSync(this.#descriptor, rest);
        this.#size += written;
        rest = rest.subarray(written);
      }
    } catch (error) {
      throw new Error(`Cannot write to "${this.#path}": ${reasonOf(error)}`, { cause: error });
    }
  }

  #rotate(): void {
    try {
      const { mode } = fstatSync(this.#descriptor);
      renameSync(this.#path, `${this.#path}.1`);
      // Another file of this name is not ours.
      const next = openSync(this.#path, 'ax', mode & 0o777);
      if (this.#descriptor > 2) closeSync(this.#descriptor);
      this.#descriptor = next;
      this.#size = 0;
    } catch (error) {
      throw new Error(`Cannot rotate "${this.#path}": ${reasonOf(error)}`, { cause: error });
    }
  }
}

/** The name and the size of an open regular file; null if it has no name any more. */
function fileOf(descriptor: number): { readonly path: string; readonly size: number } | null {
  try {
    const { dev, ino, size } = fstatSync(descriptor);
    const path = readlinkSync(`/proc/self/fd/${descriptor}`);
    const named = statSync(path);
    return named.isFile() && named.dev === dev && named.ino === ino ? { path, size } : null;
  } catch {
    return null;
  }
}
