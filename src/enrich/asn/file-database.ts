import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { maskAddress } from '../../common/address.ts';
import type { Clock } from '../../common/clock.ts';
import type { Address, AsnStatus, Cidr } from '../../model.ts';
import type { Answer } from './cache.ts';
import { fileVersion } from '../../common/files.ts';

const POLL_MS = 60_000;
/** Short, so that what a replaced file says reaches the peers in use soon. */
const FRESH_MS = 600_000;

/** What a database says of an address, and of all that share its first `bits` bits (an IPv4 /24 is 120). */
export interface Finding {
  /** Empty: not announced. */
  readonly asns: readonly number[];
  readonly name: string | null;
  readonly asCountry: string | null;
  readonly bits: number;
}

/** Looks an address up; undefined where the database says nothing of it. Never throws. */
export type Lookup = (address: Address) => Finding | undefined;

/** A file on this host, and how it is read. */
export interface DatabaseFile {
  readonly provider: string;
  readonly file: string;
  /** Reads the whole file; rejects with the reason where it cannot, or where it is no such database. */
  readonly load: (file: string) => Promise<Lookup>;
  readonly clock: Clock;
  /** Takes one line for each new version of the file that could not be read. */
  readonly report: (message: string) => void;
}

/**
 * An ASN database on this host: it answers at once, opens no connection and needs no store. A file that was replaced is read
 * again within a minute of use; while the new one cannot be read the old one stays.
 *
 * It is asked for the address itself: what it says leaves no host, so nothing is masked. An answer holds for the whole record of
 * the file around that address, which may be shorter or longer than a /24 or /48. A record is not a BGP prefix: answers have none.
 */
export class Database {
  readonly file: string;
  readonly #source: DatabaseFile;
  #lookup: Lookup;
  #version: string;
  #polledAt: number;
  #queries = 0;
  #failures = 0;

  private constructor(source: DatabaseFile, version: string, lookup: Lookup) {
    this.file = source.file;
    this.#source = source;
    this.#lookup = lookup;
    this.#version = version;
    this.#polledAt = source.clock.monotonic();
  }

  /** Rejects with one line where the file cannot be read. */
  static async open(source: DatabaseFile): Promise<Database> {
    const version = await fileVersion(source.file);
    try {
      return new Database(source, version, await source.load(source.file));
    } catch (error) {
      throw new Error(unreadable(source.file, error), { cause: error });
    }
  }

  /** Answers for these addresses, blocks of one; those of which the database says nothing are left out. Never rejects. */
  async ask(questions: readonly Cidr[]): Promise<Answer[]> {
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
          reach: { address: maskAddress(bucket.address, bits), bits },
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

  /** As of a provider that is always there; a failure is a file that could not be read again. */
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
      report(`${unreadable(file, error)}; what was read before stays in use`);
    }
  }
}

/** Opens a regular file to read it; rejects for anything else, such as a pipe that nobody writes to. */
export async function openFile(file: string): Promise<FileHandle> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new Error('it is no file');
}

function unreadable(file: string, error: unknown): string {
  return `Cannot read database "${file}": ${reasonOf(error)}`;
}

function reasonOf(error: unknown): string {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  return syscall === undefined ? message : (code ?? message);
}
