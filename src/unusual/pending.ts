/** A closed connection; `openedAt` in milliseconds since 1970. */
interface ClosedConnection {
  readonly openedAt: number;
}

interface Entry<Key, Connection> {
  readonly key: Key;
  readonly name: string;
  readonly tenant: string;
  readonly connection: Connection;
}

const MAX_CONNECTIONS = 10_000;

/**
 * Closed connections that wait for something to be resolved, by its key. Connections with the same key and name are one entry, the
 * earliest. At most 10,000: beyond that, the oldest of the tenant with the most is dropped.
 */
export class PendingConnections<Key, Connection extends ClosedConnection> {
  readonly #byKey = new Map<Key, Map<string, Entry<Key, Connection>>>();
  /** In the order in which they were added. */
  readonly #byTenant = new Map<string, Set<Entry<Key, Connection>>>();
  #size = 0;

  add(key: Key, name: string, connection: Connection, tenant = ''): void {
    const known = this.#byKey.get(key)?.get(name);
    if (known && known.connection.openedAt <= connection.openedAt) return;
    if (known) this.#remove(known);
    const entry = { key, name, tenant, connection };
    const own = this.#byTenant.get(tenant) ?? new Set();
    this.#byTenant.set(tenant, own.add(entry));
    const pending = this.#byKey.get(key) ?? new Map<string, Entry<Key, Connection>>();
    this.#byKey.set(key, pending.set(name, entry));
    if (++this.#size > MAX_CONNECTIONS) this.#dropOne();
  }

  /** Removes and returns the connections of a key. */
  take(key: Key): Connection[] {
    const pending = [...(this.#byKey.get(key)?.values() ?? [])];
    for (const entry of pending) this.#remove(entry);
    return pending.map(({ connection }) => connection);
  }

  /** Removes those connections of a key for which `isResolved` returns true. It must not add any. */
  resolve(key: Key, isResolved: (connection: Connection) => boolean): void {
    for (const entry of [...(this.#byKey.get(key)?.values() ?? [])])
      if (isResolved(entry.connection)) this.#remove(entry);
  }

  #dropOne(): void {
    let largest: ReadonlySet<Entry<Key, Connection>> = new Set();
    for (const own of this.#byTenant.values()) if (own.size > largest.size) largest = own;
    const [oldest] = largest;
    if (oldest) this.#remove(oldest);
  }

  #remove(entry: Entry<Key, Connection>): void {
    const pending = this.#byKey.get(entry.key);
    if (!pending?.delete(entry.name)) return;
    this.#size--;
    if (pending.size === 0) this.#byKey.delete(entry.key);
    const own = this.#byTenant.get(entry.tenant);
    own?.delete(entry);
    if (own?.size === 0) this.#byTenant.delete(entry.tenant);
  }
}
