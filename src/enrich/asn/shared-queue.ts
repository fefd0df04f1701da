import { formatCidr, parseCidr, sameAddress } from '../../common/address.ts';
import type { Cidr } from '../../model.ts';
import { bucketOf, classify } from '../../common/network-class.ts';
import type { SharedState } from '../../store/contract.ts';

/**
 * The queue of networks that the users of a store need. Each exporter adds its misses, and the holder of the lease
 * queries the oldest. A network stays queued until it is answered or given up, so nothing is lost if an exporter
 * dies.
 */
export class SharedQueue {
  readonly #shared: SharedState;
  readonly #queue: string;
  readonly #mayQuery: (bucket: Cidr) => boolean;

  /** `mayQuery` decides what this exporter may query on behalf of others. */
  constructor(shared: SharedState, queue: string, mayQuery: (bucket: Cidr) => boolean) {
    this.#shared = shared;
    this.#queue = queue;
    this.#mayQuery = mayQuery;
  }

  /** Adds networks, ahead of those that were added within the last `aheadMs`. */
  async add(buckets: readonly Cidr[], aheadMs: number): Promise<void> {
    if (buckets.length > 0) await this.#shared.enqueue(this.#queue, buckets.map(formatCidr), aheadMs);
  }

  /**
   * Returns up to `most` networks, oldest first, except those that this exporter may not query. Removes entries that
   * are not a public /24 or /48.
   */
  async oldest(most: number): Promise<Cidr[]> {
    const members = await this.#shared.readQueue(this.#queue, most);
    const buckets = members.flatMap((text) => parseBucket(text) ?? []);
    const known = new Set(buckets.map(formatCidr));
    const broken = members.filter((text) => !known.has(text));
    if (broken.length > 0) await this.#shared.dequeue(this.#queue, broken);
    return buckets.filter(this.#mayQuery);
  }

  async remove(buckets: readonly Cidr[]): Promise<void> {
    if (buckets.length > 0) await this.#shared.dequeue(this.#queue, buckets.map(formatCidr));
  }
}

function parseBucket(text: string): Cidr | undefined {
  const cidr = parseCidr(text);
  if (!cidr || formatCidr(bucketOf(cidr.address)) !== text) return undefined;
  const { network, address } = classify(cidr.address);
  return network === 'public' && sameAddress(address, cidr.address) ? cidr : undefined;
}
