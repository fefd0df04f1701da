import type { Listener } from './scan-data.ts';

/** The longest time for which one of the listeners of an owner on an address and port has accepted nothing while connections waited. */
export interface Stall extends Pick<Listener, 'address' | 'port' | 'tenant'> {
  readonly labels: Pick<Listener['labels'], 'process' | 'namespace' | 'workload'>;
  readonly seconds: number;
}

/** Shorter stalls are left out: they would come and go with every burst. */
const SHORTEST_SECONDS = 60;
/** Scans that are further apart say nothing of the time between them. */
const LONGEST_GAP = 5 * 60_000;

/**
 * Finds listeners that accept nothing. Only accept(2) shrinks an accept queue: the kernel keeps connections of clients that have given up.
 * Each socket counts for itself, so one of several with SO_REUSEPORT, or in one of several pods, is found among busy ones.
 */
export class AcceptQueues {
  /** By inode: the length of the queue, and when it was last seen empty or shorter than before. */
  #sockets = new Map<number, { readonly waiting: number; readonly since: number }>();
  #at = 0;

  /** The stalls after a scan at `at`, milliseconds since 1970. */
  stalls(listeners: readonly Listener[], at: number): Stall[] {
    const isContinued = at >= this.#at && at - this.#at <= LONGEST_GAP;
    const before = isContinued ? this.#sockets : new Map<number, never>();
    this.#sockets = new Map();
    this.#at = at;
    const stalls = new Map<string, Stall>();
    for (const { inode, waiting, labels, tenant, address, port } of listeners) {
      if (waiting === 0 || inode === 0) continue;
      const last = before.get(inode);
      const since = last && waiting >= last.waiting ? last.since : at;
      this.#sockets.set(inode, { waiting, since });
      const seconds = (at - since) / 1000;
      const { process, namespace, workload } = labels;
      const key = JSON.stringify([process, namespace, workload, address, port]);
      if (seconds < SHORTEST_SECONDS || seconds <= (stalls.get(key)?.seconds ?? 0)) continue;
      stalls.set(key, { labels: { process, namespace, workload }, tenant, address, port, seconds });
    }
    return [...stalls.values()];
  }
}
