import { Resolver } from 'node:dns/promises';
import { formatAddress } from '../common/address.ts';
import type { Timer } from '../common/clock.ts';
import { cleanLabel } from '../common/sanitize.ts';
import type { Address } from '../model.ts';

const IN_FLIGHT = 10;
const MAX_CACHED = 10_000;
const HOUR_MS = 3_600_000;
const NO_NAME_MS = 10 * 60_000;
const TIMEOUT_MS = 2_000;
/** The maximum length of a domain name (RFC 1035 section 2.3.4). */
const LONGEST_NAME = 253;

interface CachedName {
  readonly name: string | null;
  readonly until: number;
}

/** Dependencies of reverse DNS. */
export interface ReverseDnsOptions {
  readonly clock: Timer;
  /** Returns true if the resolver may be queried for an address. */
  readonly mayQuery: (address: Address) => boolean;
  /** For tests: "ADDRESS:PORT" of a resolver to use instead of the host's. */
  readonly server?: string;
}

/**
 * Reverse DNS names (PTR records, RFC 1035 section 3.5) from the host's own resolver. Runs ten queries at a time.
 * Caches 10,000 addresses: a name for an hour, a missing name or a failure for ten minutes. The owner of an address
 * chooses its name, so the name proves nothing; control characters are replaced.
 */
export class ReverseDns {
  readonly #options: ReverseDnsOptions;
  readonly #resolver = new Resolver({ timeout: TIMEOUT_MS, tries: 1 });
  readonly #cached = new Map<string, CachedName>();
  #isClosed = false;

  constructor(options: ReverseDnsOptions) {
    this.#options = options;
    if (options.server !== undefined) this.#resolver.setServers([options.server]);
  }

  /** Returns the cached name of an address, or null. */
  nameOf(address: Address): string | null {
    return this.#cached.get(formatAddress(address))?.name ?? null;
  }

  /**
   * Queries the addresses that are not cached. Resolves when all queries are done or after `withinMs`. Never rejects.
   */
  async resolve(addresses: Iterable<Address>, withinMs: number): Promise<void> {
    const { clock, mayQuery } = this.#options;
    const now = clock.monotonic();
    const addressesToQuery = new Set<string>();
    for (const address of addresses) {
      const text = formatAddress(address);
      if ((this.#cached.get(text)?.until ?? 0) <= now && mayQuery(address)) addressesToQuery.add(text);
    }
    const waiting = addressesToQuery.values().take(MAX_CACHED);
    let isLate = false;
    const work = async (): Promise<void> => {
      for (const text of waiting) {
        if (isLate || this.#isClosed) return;
        await this.#queryOne(text);
      }
    };
    const cancel = clock.after(withinMs, () => {
      isLate = true;
      this.#resolver.cancel();
    });
    await Promise.all(Array.from({ length: IN_FLIGHT }, work));
    cancel();
  }

  /** Cancels pending queries. */
  close(): void {
    this.#isClosed = true;
    this.#resolver.cancel();
  }

  async #queryOne(text: string): Promise<void> {
    const names = await this.#resolver.reverse(text).catch((error: unknown) => {
      // A canceled query says nothing about the name.
      return (error as NodeJS.ErrnoException).code === 'ECANCELLED' ? null : [];
    });
    if (!names) return;
    const name = names.find((candidate) => candidate.length <= LONGEST_NAME);
    if (this.#cached.size >= MAX_CACHED) this.#cached.delete(this.#cached.keys().next().value ?? '');
    const until = this.#options.clock.monotonic() + (name === undefined ? NO_NAME_MS : HOUR_MS);
    this.#cached.set(text, { name: name === undefined ? null : cleanLabel(name), until });
  }
}
