import type { SocketRows } from './net-tcp-udp-raw.ts';
import { failed, type Procfs } from './procfs.ts';
import type { TableWalk } from './table-walk.ts';

/** The number of processes that are tried before their namespace counts as unreadable. */
export const CANDIDATES = 8;

/** A read of one table of a namespace, in pieces. One that takes more than the time of a scan continues in the next scan. */
export class TableRead {
  readonly table: number;
  /** When it began: the scan, and milliseconds since 1970. */
  readonly beganIn: number;
  readonly beganAt: number;
  /** Of the current scan. */
  usedMs = 0;
  rows = 0;
  malformed = 0;
  #position = 0;
  #walk: TableWalk | null = null;
  #candidate = 0;
  #isForbidden = false;

  constructor(table: number, beganIn: number, beganAt: number) {
    this.table = table;
    this.beganIn = beganIn;
    this.beganAt = beganAt;
  }

  /** Passes on rows until `isOver` returns true or the table ends. Processes that are gone are no failure: then the namespace is gone. */
  next(
    procfs: Procfs,
    pids: readonly number[],
    rows: SocketRows,
    isOver: () => boolean,
    onRows: (rows: SocketRows) => void,
  ): 'unfinished' | 'read' | 'unreadable' {
    for (; this.#candidate < Math.min(CANDIDATES, pids.length); this.#candidate++) {
      const walk = this.#walk ?? procfs.walkTable(pids[this.#candidate] ?? 0, this.table, this.#position);
      if (walk === null) return 'read';
      if (failed(walk)) {
        this.#isForbidden ||= walk !== 'vanished';
        continue;
      }
      this.#walk = walk;
      const ended = procfs.readRows(walk, rows, isOver, (batch) => {
        this.rows += batch.count;
        onRows(batch);
      });
      if (ended === false) return 'unfinished';
      this.pause();
      if (ended === true) return 'read';
      this.#isForbidden ||= ended !== 'vanished';
    }
    return this.#isForbidden ? 'unreadable' : 'read';
  }

  /** Ends the scan: the next one continues from here, with another descriptor. */
  pause(): void {
    if (!this.#walk) return;
    this.#walk.close();
    this.malformed += this.#walk.malformed;
    this.#position = this.#walk.position;
    this.#walk = null;
  }

  /** Begins the next scan. */
  resume(): void {
    this.usedMs = 0;
    this.rows = 0;
    this.#candidate = 0;
    this.#isForbidden = false;
  }
}
