import { Changes } from './changes.ts';
import { parseFilters, type Filter } from './filter.ts';
import type { ConnectionEvent } from '../model.ts';
import { inOrder, rowOf, type Names } from './row.ts';
import type { Scrape } from '../scrape.ts';

/** The format of rows: one JSON array, or one JSON object per line. */
export type RowFormat = 'json' | 'jsonl';

/** The minimum length of a chunk, except the last, in characters. */
const CHUNK = 64 << 10;
/** The number of rows read for one chunk, so that a filter with few matches does not delay scans. */
const ROWS_PER_CHUNK = 1_000;
/** The most text buffered for a slow subscriber, and for all of them, in characters. */
const MAX_BUFFERED = 4 << 20;
const MAX_ALL_BUFFERED = 8 << 20;

/** Text in chunks, read at the pace of the consumer. */
export interface Reader {
  /** Calls `callback` once with the next chunk, possibly later; null at the end. */
  next(callback: (text: string | null) => void): void;
}

/** The readers of rows and events, which run between the scans of the same thread. */
export class Readers {
  readonly #scrape: Scrape;
  readonly #names: Names;
  readonly #rows = new Map<Reader, RowReader>();
  readonly #subscribers = new Map<Reader, EventReader>();
  #changes: Changes | null = null;

  constructor(scrape: Scrape, names: Names) {
    this.#scrape = scrape;
    this.#names = names;
  }

  /** Opens a reader of the rows of the last scan. Throws UsageError for an invalid filter. */
  read(filters: readonly string[], format: RowFormat): Reader {
    const reader = new RowReader(this.#scrape, this.#names, parseFilters(filters), format);
    this.#rows.set(reader, reader);
    return reader;
  }

  /** Opens a reader of the events of scans from now on. Throws UsageError for an invalid filter. */
  subscribe(filters: readonly string[], at: number): Reader {
    const subscriber = new EventReader(parseFilters(filters));
    this.#subscribers.set(subscriber, subscriber);
    if (!this.#changes) {
      this.#changes = new Changes(this.#scrape, this.#names);
      // Discards the events of the last scan; later events are relative to it.
      this.#changes.skip(at);
      this.#scrape.traffic?.listEach(true);
    }
    return subscriber;
  }

  /** Closes a reader. */
  close(reader: Reader): void {
    this.#rows.delete(reader);
    this.#subscribers.delete(reader);
    if (this.#subscribers.size > 0) return;
    this.#changes = null;
    this.#scrape.traffic?.listEach(false);
  }

  /** Must be called once after each scan; `at` in milliseconds since 1970. */
  scanned(at: number): void {
    for (const reader of this.#rows.values()) reader.scanned();
    if (!this.#changes) return;
    const subscribers = [...this.#subscribers.values()];
    const most = Math.min(MAX_BUFFERED, MAX_ALL_BUFFERED / subscribers.length);
    // One at a time: a scan can have hundreds of thousands of events.
    for (const event of this.#changes.events(at)) for (const subscriber of subscribers) subscriber.add(event, at, most);
    for (const subscriber of subscribers) subscriber.flush();
  }
}

/**
 * The rows of one scan, in order. If more scans complete before the last row is read, the remaining rows are up to date, without
 * connections that closed or opened meanwhile.
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

  next(callback: (text: string | null) => void): void {
    if (this.#ended) {
      callback(null);
      return;
    }
    const { connections } = this.#scrape;
    const end = Math.min(this.#indexes.length, this.#at + ROWS_PER_CHUNK);
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
    callback(text);
  }

  /** Called after a scan: connections that it opened can reuse the index of one that was still to be read. */
  scanned(): void {
    for (const i of this.#scrape.connections.opened) this.#reused.add(i);
  }

  #closing(): string {
    if (this.#format === 'json') return this.#separator === '[\n' ? '[\n]\n' : '\n]\n';
    return this.#separator;
  }
}

/** The events of scans as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
class EventReader implements Reader {
  readonly #wants: Filter;
  /** Full chunks, and the one that is being filled. */
  readonly #chunks: string[] = [];
  #last = '';
  #length = 0;
  #dropped = 0;
  #droppedAt = 0;
  #callback: ((text: string) => void) | null = null;

  constructor(wants: Filter) {
    this.#wants = wants;
  }

  next(callback: (text: string | null) => void): void {
    this.#callback = callback;
    this.flush();
  }

  /**
   * Buffers an event if the buffer has at most `most` characters then. From the first one that does not fit until the buffer is read,
   * events are dropped and counted.
   */
  add(event: ConnectionEvent, at: number, most: number): void {
    if (!this.#wants(event)) return;
    const text = this.#dropped > 0 ? '' : format(event.event, event);
    if (text === '' || this.#length + text.length > most) {
      this.#dropped++;
      this.#droppedAt = at;
    } else this.#append(text);
  }

  /** Sends a waiting client the next chunk. */
  flush(): void {
    if (!this.#callback || this.#length === 0) return;
    const callback = this.#callback;
    const full = this.#chunks.shift();
    const text = full ?? this.#last;
    if (full === undefined) this.#last = '';
    this.#length -= text.length;
    this.#callback = null;
    if (this.#length === 0 && this.#dropped > 0) {
      const at = new Date(this.#droppedAt).toISOString();
      this.#append(format('dropped', { event: 'dropped', count: this.#dropped, at }));
      this.#dropped = 0;
    }
    callback(text);
  }

  #append(text: string): void {
    this.#last += text;
    this.#length += text.length;
    if (this.#last.length < CHUNK) return;
    this.#chunks.push(this.#last);
    this.#last = '';
  }
}

function format(name: string, value: object): string {
  return `event: ${name}\ndata: ${JSON.stringify(value)}\n\n`;
}
