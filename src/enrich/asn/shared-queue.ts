import { formatCidr, parseCidr, sameAddress } from '../../common/address.ts';
import type { Cidr } from '../../model.ts';
import { bucketOf, classify } from '../../common/network-class.ts';
import type { Commons } from '../../store/contract.ts';

/**
 * The networks that exporters who share a store want to know: each adds what it misses, and whoever holds the lease asks for what
 * came first. A network stays until it is answered or given up, so that nothing is lost with an exporter that dies.
 */
export class Pool {
  readonly #commons: Commons;
  readonly #queue: string;
  readonly #mayAsk: (bucket: Cidr) => boolean;

  /** `mayAsk` says what this exporter may ask for on behalf of others. */
  constructor(commons: Commons, queue: string, mayAsk: (bucket: Cidr) => boolean) {
    this.#commons = commons;
    this.#queue = queue;
    this.#mayAsk = mayAsk;
  }

  async add(buckets: readonly Cidr[]): Promise<void> {
    if (buckets.length > 0) await this.#commons.enqueue(this.#queue, buckets.map(formatCidr));
  }

  /** At most so many, oldest first, without those that this exporter may not ask for. What is no public /24 or /48 is removed. */
  async oldest(most: number): Promise<Cidr[]> {
    const members = await this.#commons.queued(this.#queue, most);
    const buckets = members.flatMap((text) => parseBucket(text) ?? []);
    const known = new Set(buckets.map(formatCidr));
    const broken = members.filter((text) => !known.has(text));
    if (broken.length > 0) await this.#commons.dequeue(this.#queue, broken);
    return buckets.filter(this.#mayAsk);
  }

  async remove(buckets: readonly Cidr[]): Promise<void> {
    if (buckets.length > 0) await this.#commons.dequeue(this.#queue, buckets.map(formatCidr));
  }
}

function parseBucket(text: string): Cidr | undefined {
  const cidr = parseCidr(text);
  if (!cidr || formatCidr(bucketOf(cidr.address)) !== text) return undefined;
  const { network, address } = classify(cidr.address);
  return network === 'public' && sameAddress(address, cidr.address) ? cidr : undefined;
}
