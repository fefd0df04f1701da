/**
 * Work that tenants wait for. The next turn is of the tenant that has used the least so far, so that no tenant waits for the volume of
 * another one. The work of one tenant keeps its order.
 */
export class FairTurns<Work> {
  readonly #waiting = new Map<string, Work[]>();
  readonly #used = new Map<string, number>();
  readonly #places = new Map<string, number>();

  /** Adds work at the end of what a tenant waits for. */
  add(tenant: string, work: Work): void {
    const own = this.#waiting.get(tenant);
    if (own) own.push(work);
    else this.#waiting.set(tenant, [work]);
  }

  /** The tenants whose work is not done, the one with the next turn first; equal ones in the order in which they were added. */
  *[Symbol.iterator](): Generator<{ readonly tenant: string; readonly work: Work }> {
    for (let tenant = this.#next(); tenant !== null; tenant = this.#next()) {
      const own = this.#waiting.get(tenant) ?? [];
      const place = this.#places.get(tenant) ?? 0;
      this.#places.set(tenant, place + 1);
      if (place + 1 >= own.length) {
        this.#waiting.delete(tenant);
        this.#places.delete(tenant);
      }
      const work = own[place];
      if (work !== undefined) yield { tenant, work };
    }
  }

  /** Gives the last work of a tenant back: it is not done, and comes first at the next turn of the tenant. */
  giveBack(tenant: string, work: Work): void {
    const place = this.#places.get(tenant);
    if (place === undefined) this.#waiting.set(tenant, [work]);
    else this.#places.set(tenant, place - 1);
  }

  /** What a tenant has used so far. */
  usedBy(tenant: string): number {
    return this.#used.get(tenant) ?? 0;
  }

  /** Counts what a tenant used, such as milliseconds. */
  use(tenant: string, amount: number): void {
    this.#used.set(tenant, (this.#used.get(tenant) ?? 0) + amount);
  }

  #next(): string | null {
    let next: string | null = null;
    let least = Infinity;
    for (const tenant of this.#waiting.keys()) {
      const used = this.#used.get(tenant) ?? 0;
      if (used < least) [next, least] = [tenant, used];
    }
    return next;
  }
}
