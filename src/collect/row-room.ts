import type { ConnectionColumns } from './connection-columns.ts';
import { NO_UID } from './net-tcp-udp-raw.ts';

/** A tenant may have this many times the room that is left: alone, eight ninths of all. */
const SHARE = 8;
/** After this many, the room is measured again. */
const MEASURED = 1_024;
/** Users above this are one: a user can have as many of its own as it likes (subuid(5)). */
const MOST_USERS = 65_536;

/**
 * The room for connections. As long as half of it is free, all get what they ask for. Then the more a tenant has, the sooner it gets no more,
 * so that others still find room: a tenant is who answers for a namespace, in the host's each user.
 */
export class RowRoom {
  /** How many were refused since the scan began. */
  refused = 0;
  readonly #columns: ConnectionColumns;
  readonly #measure: () => number;
  #left = Infinity;
  #asked = 0;
  #tenantOf: (netns: number) => string = () => '';
  /** How many each tenant has; null while there is room for all. */
  #held: Map<string, number> | null = null;

  /** `measure` returns how many more connections fit. */
  constructor(columns: ConnectionColumns, measure: () => number) {
    this.#columns = columns;
    this.#measure = measure;
  }

  /** Begins a scan. `tenantOf` says who answers for a namespace; "" leaves it to the users of its sockets. */
  begin(tenantOf: (netns: number) => string): void {
    this.#tenantOf = tenantOf;
    this.#held = null;
    this.#asked = 0;
    this.refused = 0;
  }

  /** Takes the room for one more connection; false if there is none. */
  take(netns: number, uid: number): boolean {
    if (this.#asked++ % MEASURED === 0) this.#left = this.#measure();
    const left = this.#left--;
    if (left > this.#columns.size) return true;
    const held = (this.#held ??= this.#count());
    const tenant = this.#tenant(netns, uid);
    const own = held.get(tenant) ?? 0;
    if (own >= SHARE * left) {
      this.#left++;
      this.refused++;
      return false;
    }
    held.set(tenant, own + 1);
    return true;
  }

  #count(): Map<string, number> {
    const held = new Map<string, number>();
    const { netns, uid } = this.#columns;
    for (const i of this.#columns.indexes()) {
      const tenant = this.#tenant(netns[i] ?? 0, uid[i] ?? NO_UID);
      held.set(tenant, (held.get(tenant) ?? 0) + 1);
    }
    return held;
  }

  #tenant(netns: number, uid: number): string {
    return this.#tenantOf(netns) || `uid:${uid === NO_UID ? '' : Math.min(uid, MOST_USERS)}`;
  }
}
