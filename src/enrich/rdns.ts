import { Resolver } from 'node:dns/promises';
import { formatAddress } from '../common/address.ts';
import type { Timer } from '../common/clock.ts';
import { cleanLabel } from '../common/sanitize.ts';
import type { Address } from '../model.ts';

const IN_FLIGHT = 10;
const CACHE_MOST = 10_000;
const HOUR_MS = 3_600_000;
const NO_NAME_MS = 10 * 60_000;
const TIMEOUT_MS = 2_000;
/** A name longer than that is none (RFC 1035 section 2.3.4). */
const LONGEST_NAME = 253;

interface Known {
  readonly name: string | null;
  readonly until: number;
}

/** What reverse DNS needs from outside. */
export interface RdnsSurroundings {
  readonly clock: Timer;
  /** Says whether the resolver may be asked for an address. */
  readonly mayAsk: (address: Address) => boolean;
  /** For tests: "ADDRESS:PORT" of another resolver than the host's own. */
  readonly server?: string;
}

/**
 * The names of addresses by reverse DNS (PTR records, RFC 1035 section 3.5), from the host's own resolver and nobody else. Ten
 * questions at a time; a name is kept for an hour, that there is none or no answer for ten minutes, for 10,000 addresses.
 * Whoever owns an address chooses its name: it proves nothing, and control characters are taken out of it.
 */
export class ReverseDns {
  readonly #surroundings: RdnsSurroundings;
  readonly #resolver = new Resolver({ timeout: TIMEOUT_MS, tries: 1 });
  readonly #known = new Map<string, Known>();
  #isClosed = false;

  constructor(surroundings: RdnsSurroundings) {
    this.#surroundings = surroundings;
    if (surroundings.server !== undefined) this.#resolver.setServers([surroundings.server]);
  }

  /** The name of an address, as far as it is known. */
  nameOf(address: Address): string | null {
    return this.#known.get(formatAddress(address))?.name ?? null;
  }

  /** Asks for what is not known of these addresses; resolves when all was answered, or after so long. Never rejects. */
  async ask(addresses: Iterable<Address>, withinMs: number): Promise<void> {
    const { clock, mayAsk } = this.#surroundings;
    const now = clock.monotonic();
    const questions = new Set<string>();
    for (const address of addresses) {
      const text = formatAddress(address);
      if ((this.#known.get(text)?.until ?? 0) <= now && mayAsk(address)) questions.add(text);
    }
    const waiting = questions.values().take(CACHE_MOST);
    let isLate = false;
    const work = async (): Promise<void> => {
      for (const text of waiting) {
        if (isLate || this.#isClosed) return;
        await this.#askOne(text);
      }
    };
    const cancel = clock.after(withinMs, () => {
      isLate = true;
      this.#resolver.cancel();
    });
    await Promise.all(Array.from({ length: IN_FLIGHT }, work));
    cancel();
  }

  /** Ends what is under way. */
  close(): void {
    this.#isClosed = true;
    this.#resolver.cancel();
  }

  async #askOne(text: string): Promise<void> {
    const names = await this.#resolver.reverse(text).catch((error: unknown) => {
      // What was cut short says nothing of the name.
      return (error as NodeJS.ErrnoException).code === 'ECANCELLED' ? null : [];
    });
    if (!names) return;
    const name = names.find((candidate) => candidate.length <= LONGEST_NAME);
    if (this.#known.size >= CACHE_MOST) this.#known.delete(this.#known.keys().next().value ?? '');
    const until = this.#surroundings.clock.monotonic() + (name === undefined ? NO_NAME_MS : HOUR_MS);
    this.#known.set(text, { name: name === undefined ? null : cleanLabel(name), until });
  }
}
