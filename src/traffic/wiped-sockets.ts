import { EndedSockets } from '../collect/sock-diag.ts';
import type { Direction } from '../model.ts';
import { copyRow } from './ended-rows.ts';

/** Wiped sockets that are kept. */
const MAX_WIPED = 65_536;
/** After this many scans, no scan can have seen a wiped socket: a row may go one scan after the event, and counts as lost one later. */
const SCANS = 2;

interface Wiped {
  readonly netns: number;
  readonly localPort: number;
  readonly cookie: number;
  readonly direction: Direction;
  age: number;
}

/**
 * Sockets whose remote end and totals the kernel has discarded (SO_LINGER 0). A connection that scans saw is lost in any case; what is
 * left are connections that no scan saw.
 */
export class WipedSockets {
  readonly #rows = new EndedSockets();
  readonly #placed = new Set<Wiped>();
  /** Those in `#placed` by cookie, and by local port; null until it is needed in a scan. */
  #index: Map<string, Wiped[]> | null = null;

  /** Takes in a wiped socket. Returns false if there is no place for it. */
  take(ended: EndedSockets, row: number): boolean {
    if (this.#rows.count + this.#placed.size >= MAX_WIPED) return false;
    copyRow(ended, row, this.#rows);
    return true;
  }

  /** Finds the namespaces of what was taken in. Returns the number of those without one. */
  place(
    began: number,
    placeOf: (rows: EndedSockets, row: number) => Pick<Wiped, 'netns' | 'direction'> | null,
  ): number {
    const rows = this.#rows;
    let unknown = 0;
    for (let row = 0; row < rows.count; row++) {
      const place = placeOf(rows, row);
      // A scan may still have seen what ended after it began.
      const age = (rows.receivedAt[row] ?? 0) >= began ? -1 : 0;
      if (place)
        this.#placed.add({ ...place, localPort: rows.localPort[row] ?? 0, cookie: rows.cookie[row] ?? 0, age });
      else unknown++;
    }
    rows.clear();
    return unknown;
  }

  /** Removes the wiped socket of a connection that scans saw, by its cookie; without one, by namespace and local port. Says if there was one. */
  match({ netns, localPort, cookie }: Pick<Wiped, 'netns' | 'localPort' | 'cookie'>): boolean {
    if (this.#placed.size === 0) return false;
    this.#index ??= this.#indexed();
    const candidates = this.#index.get(cookie === 0 ? portKey(netns, localPort) : cookieKey(netns, cookie));
    for (let wiped = candidates?.pop(); wiped; wiped = candidates?.pop()) if (this.#placed.delete(wiped)) return true;
    return false;
  }

  /** Ends a scan. Returns the directions of connections that no scan saw. */
  endScan(): Direction[] {
    const unseen: Direction[] = [];
    for (const wiped of this.#placed) {
      if (wiped.age++ < SCANS) continue;
      this.#placed.delete(wiped);
      unseen.push(wiped.direction);
    }
    this.#index = null;
    return unseen;
  }

  #indexed(): Map<string, Wiped[]> {
    const index = new Map<string, Wiped[]>();
    for (const wiped of this.#placed)
      for (const key of [portKey(wiped.netns, wiped.localPort), cookieKey(wiped.netns, wiped.cookie)]) {
        const others = index.get(key);
        if (others) others.push(wiped);
        else index.set(key, [wiped]);
      }
    return index;
  }
}

function portKey(netns: number, port: number): string {
  return `port ${netns} ${port}`;
}

function cookieKey(netns: number, cookie: number): string {
  return `cookie ${netns} ${cookie}`;
}
