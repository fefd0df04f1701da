import { Changes } from './changes.ts';
import { parseFilters, type Filter } from './filter.ts';
import type { ConnectionEvent } from '../model.ts';
import { inOrder, rowOf, type Names } from './row.ts';
import type { Scrape } from '../scrape.ts';

/** How rows are written: one JSON array, or one JSON text a line. */
export type RowFormat = 'json' | 'jsonl';

/** What is given at a time at the least, unless it is the last; characters. */
const CHUNK = 64 << 10;
/** How many rows are looked at for one chunk, so that filters which want few do not hold up scans. */
const LOOKED_AT = 1_000;
/** What may wait for a listener that is slow; characters. */
const MOST_WAITING = 4 << 20;

/** Somebody who takes text piece by piece, at a pace of their own. */
export interface Reader {
  /** Gives the next piece once, perhaps later; null when there is no more. */
  next(give: (text: string | null) => void): void;
}

/** Who reads rows or listens to events, beside the scans of the same thread. */
export class Readers {
  readonly #scrape: Scrape;
  readonly #names: Names;
  readonly #rows = new Map<Reader, RowReader>();
  readonly #listeners = new Map<Reader, Listener>();
  #changes: Changes | null = null;

  constructor(scrape: Scrape, names: Names) {
    this.#scrape = scrape;
    this.#names = names;
  }

  /** Somebody who reads the rows of the last scan. Throws UsageError for filters that are none. */
  read(filters: readonly string[], format: RowFormat): Reader {
    const reader = new RowReader(this.#scrape, this.#names, parseFilters(filters), format);
    this.#rows.set(reader, reader);
    return reader;
  }

  /** Somebody who hears what scans see from now on. Throws UsageError for filters that are none. */
  listen(filters: readonly string[], at: number): Reader {
    const listener = new Listener(parseFilters(filters));
    this.#listeners.set(listener, listener);
    if (!this.#changes) {
      this.#changes = new Changes(this.#scrape, this.#names);
      // Those of the scan before are old news, and the next ones are told by what there is now.
      this.#changes.take(at);
    }
    return listener;
  }

  /** Gives up somebody who has enough. */
  leave(reader: Reader): void {
    this.#rows.delete(reader);
    this.#listeners.delete(reader);
    if (this.#listeners.size === 0) this.#changes = null;
  }

  /** To be called once after each scan, with its time in milliseconds since 1970. */
  scanned(at: number): void {
    for (const reader of this.#rows.values()) reader.scanned();
    if (!this.#changes) return;
    const events = this.#changes.take(at);
    for (const listener of this.#listeners.values()) listener.tell(events, at);
  }
}

/**
 * The rows of the connections of one scan, in order. Where further scans end before the last row is taken, the rows that are left
 * are as those saw them, without what closed and without what opened.
 */
class RowReader implements Reader {
  readonly #scrape: Scrape;
  readonly #names: Names;
  readonly #wants: Filter;
  readonly #format: RowFormat;
  readonly #indexes: Int32Array;
  readonly #reused = new Set<number>();
  #at = 0;
  #separator: string;
  #ended = false;

  constructor(scrape: Scrape, names: Names, wants: Filter, format: RowFormat) {
    this.#scrape = scrape;
    this.#names = names;
    this.#wants = wants;
    this.#format = format;
    this.#indexes = Int32Array.from(inOrder(scrape, scrape.connections.indexes()));
    this.#separator = format === 'json' ? '[\n' : '';
  }

  next(give: (text: string | null) => void): void {
    if (this.#ended) {
      give(null);
      return;
    }
    const { connections } = this.#scrape;
    const end = Math.min(this.#indexes.length, this.#at + LOOKED_AT);
    let text = '';
    for (; this.#at < end && text.length < CHUNK; this.#at++) {
      const i = this.#indexes[this.#at] ?? 0;
      if (!connections.has(i) || this.#reused.has(i)) continue;
      const row = rowOf(this.#scrape, i, this.#names);
      if (!this.#wants(row)) continue;
      text += this.#separator + JSON.stringify(row);
      this.#separator = this.#format === 'json' ? ',\n' : '\n';
    }
    if (this.#at === this.#indexes.length) {
      this.#ended = true;
      text += this.#closing();
    }
    give(text);
  }

  /** Takes in that a scan has ended: what it opened may stand where something stood that was to be read. */
  scanned(): void {
    for (const i of this.#scrape.connections.opened) this.#reused.add(i);
  }

  #closing(): string {
    if (this.#format === 'json') return this.#separator === '[\n' ? '[\n]\n' : '\n]\n';
    return this.#separator;
  }
}

/** The events of scans as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
class Listener implements Reader {
  readonly #wants: Filter;
  #waiting = '';
  #dropped = 0;
  #droppedAt = 0;
  #give: ((text: string) => void) | null = null;

  constructor(wants: Filter) {
    this.#wants = wants;
  }

  next(give: (text: string | null) => void): void {
    this.#give = give;
    this.#flush();
  }

  /** Adds events, or counts them while too much waits: from the first one that does not fit to what is taken next. */
  tell(events: readonly ConnectionEvent[], at: number): void {
    for (const event of events) {
      if (!this.#wants(event)) continue;
      const text = this.#dropped > 0 ? '' : written(event.event, event);
      if (text === '' || this.#waiting.length + text.length > MOST_WAITING) this.#drop(at);
      else this.#waiting += text;
    }
    this.#flush();
  }

  #drop(at: number): void {
    this.#dropped++;
    this.#droppedAt = at;
  }

  #flush(): void {
    if (!this.#give || this.#waiting === '') return;
    const give = this.#give;
    const text = this.#waiting;
    this.#give = null;
    this.#waiting = '';
    give(text);
    if (this.#dropped === 0) return;
    const at = new Date(this.#droppedAt).toISOString();
    this.#waiting = written('dropped', { event: 'dropped', count: this.#dropped, at });
    this.#dropped = 0;
  }
}

function written(name: string, value: object): string {
  return `event: ${name}\ndata: ${JSON.stringify(value)}\n\n`;
}
