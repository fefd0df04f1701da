import { formatAddress } from '../common/address.ts';
import type { ReverseDns } from '../enrich/rdns.ts';
import type { Address } from '../model.ts';
import type { RemoteName } from '../rows/remote-names.ts';

const MAX_QUEUED = 10_000;
const BATCH = 100;
/** Enough for a batch without any answer: ten queries at a time, two seconds each. */
const BATCH_MS = 25_000;

type Resolver = Pick<ReverseDns, 'resolve' | 'nameOf' | 'close'>;

/** Looks up the names of remotes, one batch at a time. */
export class RdnsQueue {
  readonly #resolver: Resolver;
  readonly #resolved: (names: readonly RemoteName[]) => void;
  readonly #queued = new Map<string, Address>();
  #isRunning = false;
  #isClosed = false;

  /** `resolved` takes the results of a batch: a name, or null where there is none. */
  constructor(resolver: Resolver, resolved: (names: readonly RemoteName[]) => void) {
    this.#resolver = resolver;
    this.#resolved = resolved;
  }

  /** Queues addresses. At most 10,000 are queued; the rest is dropped. */
  add(addresses: readonly Address[]): void {
    for (const address of addresses)
      if (this.#queued.size < MAX_QUEUED) this.#queued.set(formatAddress(address), address);
    if (!this.#isRunning) void this.#run();
  }

  /** Drops the queue, cancels the queries in flight, and reports no more results. */
  close(): void {
    this.#isClosed = true;
    this.#queued.clear();
    this.#resolver.close();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#queued.size > 0) {
      const batch = [...this.#queued].slice(0, BATCH);
      for (const [text] of batch) this.#queued.delete(text);
      const addresses = batch.map(([, address]) => address);
      await this.#resolver.resolve(addresses, BATCH_MS);
      if (this.#isClosed) break;
      this.#resolved(addresses.map((address) => ({ address, name: this.#resolver.nameOf(address) })));
    }
    this.#isRunning = false;
  }
}
