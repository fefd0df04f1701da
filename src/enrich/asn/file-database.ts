import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { maskAddress } from '../../common/address.ts';
import type { Clock } from '../../common/clock.ts';
import { reasonOf } from '../../common/errors.ts';
import type { Address, AsnStatus, Cidr } from '../../model.ts';
import type { Answer } from './cache.ts';
import { fileVersion } from '../../common/files.ts';
import { memoryLimit } from '../../common/memory-limit.ts';

const POLL_MS = 60_000;
/** Short, so that a replaced file takes effect soon. */
const FRESH_MS = 600_000;

/** The record of an address, valid for all addresses that share its first `bits` bits (96 + prefix length for IPv4). */
export interface AsnRecord {
  /** Empty if not announced. */
  readonly asns: readonly number[];
  readonly name: string | null;
  readonly asCountry: string | null;
  readonly bits: number;
}

/** Looks up an address; undefined if the database has no record. Never throws. */
export type Lookup = (address: Address) => AsnRecord | undefined;

/** A database file and its reader. */
export interface FileDatabaseOptions {
  readonly provider: string;
  readonly file: string;
  /** Reads the whole file. Rejects with the reason if the file cannot be read or has another format. */
  readonly load: (file: string) => Promise<Lookup>;
  readonly clock: Clock;
  /** Receives one line for each new version of the file that cannot be read. */
  readonly report: (message: string) => void;
}

/**
 * An ASN database on this host. It needs no network and no store. A replaced file is read again within a minute of
 * use. If the new file cannot be read, the old data stays in use.
 *
 * The database is queried with the exact address, because no data leaves the host. An answer applies to the whole
 * record, which may be shorter or longer than a /24 or /48. A record is not a BGP prefix, so answers have no prefix.
 */
export class FileDatabase {
  readonly file: string;
  readonly #source: FileDatabaseOptions;
  #lookup: Lookup;
  #version: string;
  #polledAt: number;
  #queries = 0;
  #failures = 0;

  private constructor(source: FileDatabaseOptions, version: string, lookup: Lookup) {
    this.file = source.file;
    this.#source = source;
    this.#lookup = lookup;
    this.#version = version;
    this.#polledAt = source.clock.monotonic();
  }

  /** Rejects with a one-line message if the file cannot be read. */
  static async open(source: FileDatabaseOptions): Promise<FileDatabase> {
    const version = await fileVersion(source.file);
    try {
      return new FileDatabase(source, version, await source.load(source.file));
    } catch (error) {
      throw new Error(unreadable(source.file, error), { cause: error });
    }
  }

  /** Returns answers for these addresses (blocks of one). Addresses without a record are omitted. Never rejects. */
  async query(questions: readonly Cidr[]): Promise<Answer[]> {
    this.#queries++;
    await this.#refresh();
    const { provider, clock } = this.#source;
    const askedAt = clock.now();
    return questions.flatMap((bucket): Answer[] => {
      const finding = this.#lookup(bucket.address);
      if (!finding) return [];
      const { asns, name, asCountry, bits } = finding;
      return [
        {
          bucket,
          covers: { address: maskAddress(bucket.address, bits), bits },
          origin: {
            asns,
            name,
            asCountry,
            prefix: null,
            registry: null,
            registryCountry: null,
            allocated: null,
            askedAt,
            freshUntil: askedAt + FRESH_MS,
            source: provider,
          },
        },
      ];
    });
  }

  /** Returns the status. A failure is a file that could not be read again. */
  status(): AsnStatus {
    return {
      provider: this.#source.provider,
      pending: 0,
      queries: this.#queries,
      queryFailures: this.#failures,
      addressesSent: 0,
      malformedRows: 0,
      breakerOpen: false,
    };
  }

  async #refresh(): Promise<void> {
    const { file, load, clock, report } = this.#source;
    const now = clock.monotonic();
    if (now - this.#polledAt < POLL_MS) return;
    this.#polledAt = now;
    const version = await fileVersion(file);
    if (version === this.#version) return;
    this.#version = version;
    try {
      this.#lookup = await load(file);
    } catch (error) {
      this.#failures++;
      report(`${unreadable(file, error)}; the previous data stays in use`);
    }
  }
}

/** The largest databases of operators have about 100 MiB. */
export const FILE_BYTES_MOST = 512 * 1024 * 1024;

/**
 * How many bytes of a file may be in memory, at most: a fifth of what this process may use, because the next version of the file is read
 * while the former one is in use.
 */
export function loadedBytesMost(limit = memoryLimit()): number {
  return Math.min(FILE_BYTES_MOST, Math.floor(limit / 5));
}

/** Opens a regular file of up to this many bytes for reading. Rejects anything else, such as a pipe without a writer. */
export async function openFile(file: string, most = FILE_BYTES_MOST): Promise<FileHandle> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  const stats = await handle.stat();
  if (stats.isFile() && stats.size <= most) return handle;
  await handle.close();
  throw new Error(stats.isFile() ? `longer than ${most} bytes` : 'not a regular file');
}

function unreadable(file: string, error: unknown): string {
  return `Cannot read database "${file}": ${reasonOf(error)}`;
}
