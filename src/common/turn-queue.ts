import { OwnerSizes } from './fair-map.ts';

/**
 * A bounded queue whose owners take turns, so that no owner waits for the volume of another. An item can have several owners, and is in
 * the queue of each. In a full queue, a new item takes the place of the newest of the owner with the most, unless that is its own.
 */
export class TurnQueue<Item> {
  readonly #most: number;
  /** By owner, in the order of their turns. */
  readonly #queues = new Map<string, Set<Item>>();
  /** The items of each owner as they were added; the end may be gone already. */
  readonly #stacks = new Map<string, Item[]>();
  readonly #ownersOf = new Map<Item, Set<string>>();
  readonly #sizes = new OwnerSizes();
  #size = 0;

  /** `most` is the number of items, counted once for each of their owners. */
  constructor(most: number) {
    this.#most = most;
  }

  /** The number of different items. */
  get size(): number {
    return this.#ownersOf.size;
  }

  has(item: Item): boolean {
    return this.#ownersOf.has(item);
  }

  /** The number of items of an owner. */
  sizeOf(owner: string): number {
    return this.#queues.get(owner)?.size ?? 0;
  }

  /** Adds an item at the end of the queue of its owner. Returns the item that lost its place: null, the given one or another one. */
  add(owner: string, item: Item): Item | null {
    const own = this.#queues.get(owner);
    if (own?.has(item)) return null;
    let lost: Item | null = null;
    if (this.#size >= this.#most) {
      const largest = this.#sizes.largest ?? '';
      const most = this.#queues.get(largest);
      if (!most || most.size <= (own?.size ?? 0) + 1) return item;
      const newest = this.#newest(largest, most);
      if (newest === undefined) return item;
      this.#remove(largest, newest);
      if (!this.has(newest)) lost = newest;
    }
    const queue = (own ?? new Set<Item>()).add(item);
    this.#queues.set(owner, queue);
    const stack = this.#stacks.get(owner) ?? [];
    if (stack.length > 2 * queue.size) this.#stacks.set(owner, [...queue]);
    else this.#stacks.set(owner, stack).get(owner)?.push(item);
    this.#ownersOf.set(item, (this.#ownersOf.get(item) ?? new Set<string>()).add(owner));
    this.#size++;
    this.#sizes.grow(owner);
    return lost;
  }

  /** Removes an item from the queues of all its owners. */
  delete(item: Item): void {
    for (const owner of [...(this.#ownersOf.get(item) ?? [])]) this.#remove(owner, item);
  }

  /** Removes and returns the next item; its owners are the last to have a turn again. */
  next(): Item | undefined {
    for (const [owner, queue] of this.#queues) {
      const [item] = queue;
      if (item === undefined) continue;
      this.delete(item);
      if (this.#queues.delete(owner)) this.#queues.set(owner, queue);
      return item;
    }
    return undefined;
  }

  /** The items in the order of the turns: the first of each owner, the second of each, and so on. */
  *items(): Generator<Item> {
    const seen = new Set<Item>();
    const nextOf = (queue: SetIterator<Item>): { readonly item: Item } | null => {
      for (let step = queue.next(); !step.done; step = queue.next())
        if (!seen.has(step.value)) {
          seen.add(step.value);
          return { item: step.value };
        }
      return null;
    };
    let queues = [...this.#queues.values()].map((queue) => queue.values());
    while (queues.length > 0) {
      const unfinished: SetIterator<Item>[] = [];
      for (const queue of queues) {
        const found = nextOf(queue);
        if (!found) continue;
        unfinished.push(queue);
        yield found.item;
      }
      queues = unfinished;
    }
  }

  /** The items of an owner, newest first. */
  newestOf(owner: string): Item[] {
    return [...(this.#queues.get(owner) ?? [])].reverse();
  }

  #newest(owner: string, queue: ReadonlySet<Item>): Item | undefined {
    const stack = this.#stacks.get(owner) ?? [];
    let newest = stack.pop();
    while (newest !== undefined && !queue.has(newest)) newest = stack.pop();
    return newest;
  }

  #remove(owner: string, item: Item): void {
    const queue = this.#queues.get(owner);
    if (!queue?.delete(item)) return;
    this.#size--;
    this.#sizes.shrink(owner);
    if (queue.size === 0) {
      this.#queues.delete(owner);
      this.#stacks.delete(owner);
    }
    const owners = this.#ownersOf.get(item);
    owners?.delete(owner);
    if (owners?.size === 0) this.#ownersOf.delete(item);
  }
}
