import { formatAddress } from '../common/address.ts';
import type { ReverseDns } from '../enrich/rdns.ts';
import type { Address } from '../model.ts';
import type { RemoteName } from '../rows/remote-names.ts';

const MOST_WAITING = 10_000;
const BATCH = 100;
/** Long enough for a batch of which nobody answers: ten questions at a time, two seconds each. */
const BATCH_MS = 25_000;

/** Asks for the names of remotes, a batch at a time, and delivers what comes of it. */
export class Naming {
  readonly #names: Pick<ReverseDns, 'ask' | 'nameOf' | 'close'>;
  readonly #deliver: (names: readonly RemoteName[]) => void;
  readonly #waiting = new Map<string, Address>();
  #isAsking = false;
  #isClosed = false;

  constructor(names: Pick<ReverseDns, 'ask' | 'nameOf' | 'close'>, deliver: (names: readonly RemoteName[]) => void) {
    this.#names = names;
    this.#deliver = deliver;
  }

  /** Asks for these addresses in their turn; those beyond the ten thousandth are left out. */
  ask(addresses: readonly Address[]): void {
    for (const address of addresses)
      if (this.#waiting.size < MOST_WAITING) this.#waiting.set(formatAddress(address), address);
    if (!this.#isAsking) void this.#work();
  }

  /** Asks for nothing more. */
  close(): void {
    this.#isClosed = true;
    this.#waiting.clear();
    this.#names.close();
  }

  async #work(): Promise<void> {
    this.#isAsking = true;
    while (this.#waiting.size > 0) {
      const batch = [...this.#waiting].slice(0, BATCH);
      for (const [text] of batch) this.#waiting.delete(text);
      const addresses = batch.map(([, address]) => address);
      await this.#names.ask(addresses, BATCH_MS);
      if (this.#isClosed) break;
      this.#deliver(addresses.map((address) => ({ address, name: this.#names.nameOf(address) })));
    }
    this.#isAsking = false;
  }
}
