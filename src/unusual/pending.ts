import { FairMap } from '../common/fair-map.ts';

/** A closed connection; `openedAt` in milliseconds since 1970. */
interface ClosedConnection {
  readonly openedAt: number;
}

interface Entry<Key, Connection> {
  readonly key: Key;
  readonly name: string;
  readonly connection: Connection;
}

const MAX_CONNECTIONS = 10_000;

/**
 * Closed connections that wait for something to be resolved, by its key. Connections with the same key and name are one entry, the
 * earliest. At most 10,000: beyond that, the oldest of the tenant with the most is dropped.
 */
export class PendingConnections<Key, Connection extends ClosedConnection> {
  readonly #byKey = new Map<Key, Map<string, Entry<Key, Connection>>>();
  readonly #places = new FairMap<Entry<Key, Connection>, null>(MAX_CONNECTIONS);

  add(key: Key, name: string, connection: Connection, tenant = ''): void {
    const known = this.#byKey.get(key)?.get(name);
    if (known && known.connection.openedAt <= connection.openedAt) return;
    if (known) this.#remove(known);
    const entry = { key, name, connection };
    const pending = this.#byKey.get(key) ?? new Map<string, Entry<Key, Connection>>();
    this.#byKey.set(key, pending.set(name, entry));
    const lost = this.#places.set(entry, null, tenant);
    if (lost) this.#remove(lost.key);
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

  #remove(entry: Entry<Key, Connection>): void {
    this.#places.delete(entry);
    const pending = this.#byKey.get(entry.key);
    pending?.delete(entry.name);
    if (pending?.size === 0) this.#byKey.delete(entry.key);
  }
}
