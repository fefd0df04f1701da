/** A closed connection; `openedAt` in milliseconds since 1970. */
interface ClosedConnection {
  readonly openedAt: number;
}

const MAX_CONNECTIONS = 10_000;

/**
 * Closed connections that wait for something to be resolved, by its key. Connections with the same key and name are one entry, the
 * earliest. At most 10,000: beyond that, the key that was added first is dropped with all its connections.
 */
export class PendingConnections<Key, Connection extends ClosedConnection> {
  readonly #byKey = new Map<Key, Map<string, Connection>>();
  #size = 0;

  add(key: Key, name: string, connection: Connection): void {
    const known = this.#byKey.get(key)?.get(name);
    if (known && known.openedAt <= connection.openedAt) return;
    if (!known && this.#size++ >= MAX_CONNECTIONS) this.#dropOldest();
    const pending = this.#byKey.get(key) ?? new Map<string, Connection>();
    this.#byKey.set(key, pending.set(name, connection));
  }

  /** Removes and returns the connections of a key. */
  take(key: Key): Connection[] {
    const pending = this.#byKey.get(key);
    if (!pending) return [];
    this.#byKey.delete(key);
    this.#size -= pending.size;
    return [...pending.values()];
  }

  /** Removes those connections of a key for which `isResolved` returns true. It must not add any. */
  resolve(key: Key, isResolved: (connection: Connection) => boolean): void {
    const pending = this.#byKey.get(key);
    if (!pending) return;
    for (const [name, connection] of pending) if (isResolved(connection) && pending.delete(name)) this.#size--;
    if (pending.size === 0) this.#byKey.delete(key);
  }

  #dropOldest(): void {
    const [oldest] = this.#byKey.keys();
    if (oldest !== undefined) this.take(oldest);
  }
}
