import { stateOf } from '../collect/net-tcp-udp-raw.ts';
import type { ConnectionEvent, Process, State } from '../model.ts';
import { inOrder, rowOf, type Names } from './row.ts';
import type { Scrape } from '../scrape.ts';

/** A connection as the scan before saw it. */
interface Sighting {
  readonly state: number;
  readonly process: string | null;
  readonly owner: Process | null;
  readonly netns: number | null;
}

/**
 * What changes from one scan to the next, connection by connection as the connection table tells them apart: accept(), close(),
 * TIME_WAIT and the end of a process close nothing, and a port that is used again is another connection.
 */
export class Changes {
  readonly #scrape: Scrape;
  readonly #names: Names | undefined;
  readonly #sightings: (Sighting | undefined)[] = [];

  constructor(scrape: Scrape, names?: Names) {
    this.#scrape = scrape;
    this.#names = names;
  }

  /**
   * The events of the scan that ended last, to be called once after each; `at` is milliseconds since 1970. What closed comes first,
   * then what opened, then what changed, each in the order of rows. The first scan opens nothing.
   * A closed connection names the process and the namespace that it had, even where they have ended.
   */
  take(at: number): ConnectionEvent[] {
    const { connections } = this.#scrape;
    const time = new Date(at).toISOString();
    const events: ConnectionEvent[] = [];
    for (const i of inOrder(this.#scrape, connections.closed)) {
      const last = this.#sightings[i];
      this.#sightings[i] = undefined;
      const known = last && { netns: last.netns, pid: last.owner?.pid ?? null };
      const openedAt = connections.openedAt[i] ?? 0;
      const seconds = openedAt > 0 ? Math.max(0, at - openedAt) / 1000 : null;
      events.push({
        event: 'closed',
        at: time,
        duration_seconds: seconds,
        ...rowOf(this.#scrape, i, this.#names),
        ...known,
      });
    }
    for (const i of inOrder(this.#scrape, connections.opened)) {
      if ((connections.openedAt[i] ?? 0) > 0)
        events.push({ event: 'opened', at: time, ...rowOf(this.#scrape, i, this.#names) });
    }
    const before = this.#look();
    for (const i of inOrder(this.#scrape, before.keys())) {
      const was = before.get(i);
      const is = this.#sightings[i];
      if (!was || !is) continue;
      const row = rowOf(this.#scrape, i, this.#names);
      const table = connections.table[i] ?? 0;
      const previous: State = stateOf(table, was.state);
      if (was.state !== is.state) events.push({ event: 'state', at: time, previous, ...row });
      if (isHandedOver(was, is)) events.push({ event: 'owner', at: time, previous: was.process, ...row });
    }
    return events;
  }

  /** Takes in every connection as it is now; gives the former sightings of those that are not what they were. */
  #look(): Map<number, Sighting> {
    const { connections, host } = this.#scrape;
    const before = new Map<number, Sighting>();
    for (const i of connections.indexes()) {
      const was = this.#sightings[i];
      const state = connections.state[i] ?? 0;
      const owner = connections.process[i] ?? null;
      const process = connections.labels[i]?.process || null;
      if (was && was.state === state && was.owner === owner && was.process === process) continue;
      if (was) before.set(i, was);
      const netns = was ? was.netns : (host.namespace(connections.netns[i] ?? 0)?.inode ?? null);
      this.#sightings[i] = { state, process, owner, netns };
    }
    return before;
  }
}

/** Another name is another owner (exec() included), and so is another process of the same name. */
function isHandedOver(was: Sighting, is: Sighting): boolean {
  return was.process !== is.process || was.owner?.pid !== is.owner?.pid || was.owner?.startTime !== is.owner?.startTime;
}
