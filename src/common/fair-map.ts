/** The number of items of each owner. The owner with the most is known at once, however many owners there are. */
export class OwnerSizes {
  readonly #sizes = new Map<string, number>();
  /** The owners with one item, with two, and so on. The last level is not empty. */
  readonly #levels: Set<string>[] = [];

  of(owner: string): number {
    return this.#sizes.get(owner) ?? 0;
  }

  /** An owner with the most items; undefined without items. */
  get largest(): string | undefined {
    const [largest] = this.#levels.at(-1) ?? [];
    return largest;
  }

  grow(owner: string): void {
    this.#move(owner, this.of(owner) + 1);
  }

  shrink(owner: string): void {
    if (this.of(owner) > 0) this.#move(owner, this.of(owner) - 1);
  }

  #move(owner: string, size: number): void {
    this.#levels[this.of(owner) - 1]?.delete(owner);
    if (size === 0) this.#sizes.delete(owner);
    else {
      this.#sizes.set(owner, size);
      (this.#levels[size - 1] ??= new Set()).add(owner);
    }
    while (this.#levels.at(-1)?.size === 0) this.#levels.pop();
  }
}

interface Place<Value> {
  readonly value: Value;
  readonly tenant: string;
}

/** A bounded map. When it is full, the tenant with the most entries loses its oldest: so a crowd costs no other tenant an entry. */
export class FairMap<Key, Value> {
  readonly #most: number;
  readonly #places = new Map<Key, Place<Value>>();
  /** The keys of each tenant, oldest first. */
  readonly #byTenant = new Map<string, Set<Key>>();
  readonly #sizes = new OwnerSizes();

  constructor(most: number) {
    this.#most = most;
  }

  get size(): number {
    return this.#places.size;
  }

  /** Says whether an entry of this tenant would only replace another one of its own. */
  isSpent(tenant: string): boolean {
    return this.size >= this.#most && this.#sizes.of(tenant) >= this.#sizes.of(this.#sizes.largest ?? '');
  }

  has(key: Key): boolean {
    return this.#places.has(key);
  }

  get(key: Key): Value | undefined {
    return this.#places.get(key)?.value;
  }

  /** Iterates over keys and values, oldest first. Entries may be deleted meanwhile. */
  *[Symbol.iterator](): Generator<readonly [Key, Value]> {
    for (const [key, { value }] of this.#places) yield [key, value];
  }

  /** Sets an entry, as the newest of its tenant. Returns the entry that lost its place; it may be this one. */
  set(key: Key, value: Value, tenant: string): { readonly key: Key; readonly value: Value } | null {
    this.delete(key);
    this.#places.set(key, { value, tenant });
    this.#byTenant.set(tenant, (this.#byTenant.get(tenant) ?? new Set()).add(key));
    this.#sizes.grow(tenant);
    if (this.size <= this.#most) return null;
    const [oldest] = this.#byTenant.get(this.#sizes.largest ?? '') ?? [];
    const lost = oldest === undefined ? undefined : this.#places.get(oldest);
    if (oldest === undefined || !lost) return null;
    this.delete(oldest);
    return { key: oldest, value: lost.value };
  }

  delete(key: Key): boolean {
    const place = this.#places.get(key);
    if (!place) return false;
    this.#places.delete(key);
    const own = this.#byTenant.get(place.tenant);
    own?.delete(key);
    if (own?.size === 0) this.#byTenant.delete(place.tenant);
    this.#sizes.shrink(place.tenant);
    return true;
  }
}
