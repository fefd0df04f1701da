import { stateOf } from '../collect/net-tcp-udp-raw.ts';
import type { ConnectionEvent, Process, State } from '../model.ts';
import { inOrder, rowOf, type Names } from './row.ts';
import type { Scrape } from '../scrape.ts';

/** A connection at the previous scan. */
interface Previous {
  readonly state: number;
  readonly process: string | null;
  readonly owner: Process | null;
  readonly netns: number | null;
}

/**
 * The changes between two scans, by connection as the connection table identifies them: accept(), close(), TIME_WAIT and the end of
 * a process do not close a connection, and a reused port is a new connection. A connection known only by its end is closed and
 * was never opened; the TIME_WAIT row that it leaves is no change.
 */
export class Changes {
  readonly #scrape: Scrape;
  readonly #names: Names | undefined;
  readonly #previous: (Previous | undefined)[] = [];

  constructor(scrape: Scrape, names?: Names) {
    this.#scrape = scrape;
    this.#names = names;
  }

  /**
   * Returns the events of the last scan; must be called once after each scan. `at` in milliseconds since 1970. Closed connections come
   * first, then opened ones, then changes, each in row order. The first scan opens no connections.
   * A closed connection has the process and namespace that it had, even if they have ended.
   */
  take(at: number): ConnectionEvent[] {
    return [...this.events(at)];
  }

  /** Discards the events of the last scan. */
  skip(at: number): void {
    const events = this.events(at);
    while (events.next().done !== true);
  }

  /** Like `take`, one event at a time; all of them must be consumed. */
  *events(at: number): Generator<ConnectionEvent> {
    const { connections } = this.#scrape;
    const time = new Date(at).toISOString();
    for (const i of inOrder(this.#scrape, connections.closed)) {
      if (connections.weightOf(i) === 0) continue;
      const isEndedOnly = connections.isEndedOnly(i);
      const last = this.#previous[i];
      this.#previous[i] = undefined;
      const known = last && { netns: last.netns, pid: last.owner?.pid ?? null };
      const openedAt = connections.openedAt[i] ?? 0;
      const seconds = openedAt > 0 && !isEndedOnly ? Math.max(0, at - openedAt) / 1000 : null;
      const row = rowOf(this.#scrape, i, this.#names);
      const unseen = isEndedOnly && { opened_at: null };
      yield { event: 'closed', at: time, duration_seconds: seconds, ...row, ...known, ...unseen };
    }
    for (const i of inOrder(this.#scrape, connections.opened)) {
      if ((connections.openedAt[i] ?? 0) > 0 && connections.weightOf(i) > 0 && !connections.isEndedOnly(i))
        yield { event: 'opened', at: time, ...rowOf(this.#scrape, i, this.#names) };
    }
    const before = this.#update();
    for (const i of inOrder(this.#scrape, before.keys())) {
      const was = before.get(i);
      const is = this.#previous[i];
      if (!was || !is) continue;
      const row = rowOf(this.#scrape, i, this.#names);
      const table = connections.table[i] ?? 0;
      const previous: State = stateOf(table, was.state);
      if (was.state !== is.state) yield { event: 'state', at: time, previous, ...row };
      if (isHandedOver(was, is)) yield { event: 'owner', at: time, previous: was.process, ...row };
    }
  }

  /** Remembers all connections; returns the previous state of those that changed. */
  #update(): Map<number, Previous> {
    const { connections, host } = this.#scrape;
    const before = new Map<number, Previous>();
    for (const i of connections.indexes()) {
      if (connections.weightOf(i) === 0) continue;
      const was = this.#previous[i];
      const state = connections.state[i] ?? 0;
      const owner = connections.process[i] ?? null;
      const process = connections.labels[i]?.process || null;
      if (was && was.state === state && was.owner === owner && was.process === process) continue;
      if (was) before.set(i, was);
      const netns = was ? was.netns : (host.namespace(connections.netns[i] ?? 0)?.inode ?? null);
      this.#previous[i] = { state, process, owner, netns };
    }
    return before;
  }
}

/** Whether the owner changed: another name, also after exec(), or another process of the same name. */
function isHandedOver(was: Previous, is: Previous): boolean {
  return was.process !== is.process || was.owner?.pid !== is.owner?.pid || was.owner?.startTime !== is.owner?.startTime;
}
