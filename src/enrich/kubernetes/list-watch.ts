import type { Timer } from '../../common/clock.ts';
import { ByteCollector } from '../../common/byte-collector.ts';
import { reasonOf } from '../../common/errors.ts';
import { readList, numberIn, objectIn, textIn, type ApiObject } from './list-parser.ts';

/** How long to wait for a response to start, and for the next part of a list. */
const SILENCE_MS = 30_000;
const LIST_MOST_MS = 300_000;
/** How long the server is asked to keep a watch open. */
const WATCH_LEAST_S = 300;
const WATCH_MOST_S = 600;
/** A server sends a bookmark about once a minute. A watch that is no data for longer is dead. */
const WATCH_SILENCE_MS = 150_000;
/** A watch that ends sooner without an event has failed, whatever its status. */
const WATCH_SHORTEST_MS = 5_000;
const BACK_OFF_LEAST_MS = 1_000;
const BACK_OFF_MOST_MS = 30_000;
/** The maximum Retry-After that is honored. */
const RETRY_AFTER_MOST_MS = 300_000;
const PAGE = 500;
/** etcd stores no object above 1.5 MiB. */
const MOST_LINE_BYTES = 4 << 20;
/** Far above what a cluster has. A list of more is not believed. */
const MOST_OBJECTS = 200_000;
const MOST_LIST_BYTES = 1 << 30;
/** The maximum number of values that are kept of a list. Later objects have no name. */
const MOST_VALUES = 300_000;
/** How many bytes of a watch are read in a second. More wait in the server. */
const WATCH_BYTES_PER_S = 4 << 20;
/** How long a watch may stay open beyond the time that was requested. */
const WATCH_OVERTIME_MS = 30_000;
/** Real resource versions have up to 20 characters, and continue tokens a few hundred. */
const LONGEST_VERSION = 128;
const LONGEST_TOKEN = 4_096;
const LONGEST_REASON = 300;

/** A response of the API server. The body throws if the connection breaks or is aborted. */
export interface ApiResponse {
  readonly status: number;
  /** The Retry-After header. */
  readonly retryAfter?: string | undefined;
  readonly body: AsyncIterable<Buffer>;
}

/** Requests a path and query from the API server. Rejects if there is no response. */
export type ApiRequest = (path: string, signal: AbortSignal) => Promise<ApiResponse>;

/** A change of a resource: all objects were listed, or one object was added, modified or deleted. */
export type Change<Item> =
  | { readonly kind: 'replace'; readonly items: readonly Item[] }
  | { readonly kind: 'set' | 'delete'; readonly item: Item };

export interface ListWatchOptions<Item> {
  /** The path of the resource, and the parameters that select its objects. */
  readonly path: string;
  readonly selection: Readonly<Record<string, string>>;
  readonly request: ApiRequest;
  /** Reduces an object to the parts that are kept; null to skip it. */
  readonly read: (object: unknown) => Item | null;
  /** Returns how many values are kept of an object. */
  readonly sizeOf: (item: Item) => number;
  readonly onChange: (change: Change<Item>) => void;
  /** Called with the state of the watch when first known and on each change. */
  readonly onState: (up: boolean) => void;
  /** Receives the reason of each failure. */
  readonly onError: (reason: string) => void;
  readonly clock: Timer;
  /** Returns a random number from 0 to 1. */
  readonly random: () => number;
}

/** The resource version is too old: the objects must be listed again. */
class Expired extends Error {}

/**
 * Tracks all objects of a Kubernetes resource: lists them once from the server's cache, then watches for changes from
 * the last resource version. Lists again if the resource version is too old (410) or an event cannot be parsed. After any
 * other failure, continues from the last version after 1 to 30 s with jitter, and not before Retry-After. Closes a
 * connection that is no data for too long. Keeps no objects: each is reduced and passed on at once.
 *
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
export class ListWatch<Item> {
  readonly #options: ListWatchOptions<Item>;
  readonly #ended: Promise<void>;
  #abort = new AbortController();
  #closed = false;
  #wake: () => void = () => undefined;
  #up: boolean | null = null;
  #version: string | null = null;
  #failures = 0;
  #expirations = 0;
  /** The Retry-After of the last response. */
  #retryAfterMs = 0;

  /** Starts the watch. */
  constructor(options: ListWatchOptions<Item>) {
    this.#options = options;
    this.#ended = this.#run();
  }

  /** Stops the watch and aborts its current request. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#abort.abort(new Error('the exporter is stopping'));
    this.#wake();
    await this.#ended;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const spreadMs = this.#options.random() * BACK_OFF_LEAST_MS;
      let waitMs = spreadMs;
      this.#retryAfterMs = 0;
      try {
        this.#version ??= await this.#list();
        await this.#watch(this.#version);
      } catch (error) {
        if (this.#isClosed()) return;
        if (error instanceof Expired) this.#version = null;
        // The first list after a 410 starts at once. After that, back off, because no version may be new enough for
        // the server.
        if (error instanceof Expired && this.#expirations++ === 0 && this.#retryAfterMs === 0) continue;
        this.#fail(reasonOf(error).slice(0, LONGEST_REASON));
        const longest = Math.min(BACK_OFF_MOST_MS, BACK_OFF_LEAST_MS * 2 ** this.#failures++);
        waitMs = longest * (0.5 + this.#options.random() / 2);
        if (this.#retryAfterMs > 0) waitMs = Math.max(waitMs, this.#retryAfterMs + spreadMs);
      }
      await this.#pause(waitMs);
    }
  }

  /** `close` may have been called during an await. */
  #isClosed(): boolean {
    return this.#closed;
  }

  #fail(reason: string): void {
    this.#options.onError(reason);
    this.#setUp(false);
  }

  #setUp(up: boolean): void {
    if (this.#up === up) return;
    this.#up = up;
    this.#options.onState(up);
  }

  async #pause(ms: number): Promise<void> {
    if (this.#closed) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const cancel = this.#options.clock.after(ms, () => resolve(undefined));
    this.#wake = () => resolve(undefined);
    await promise;
    cancel();
  }

  /** Lists all objects, page by page if the server paginates. Returns the resource version of the list. */
  async #list(): Promise<string> {
    const items: Item[] = [];
    let objects = 0;
    let values = 0;
    let page: Readonly<Record<string, string>> = { resourceVersion: '0' };
    const begun = this.#options.clock.monotonic();
    for (;;) {
      const query = { ...page, limit: String(PAGE) };
      const list = await this.#open(query, SILENCE_MS, LIST_MOST_MS, async (body) =>
        objectIn(
          await readList(limitBytes(body, MOST_LIST_BYTES), MOST_LINE_BYTES, (object) => {
            if (++objects > MOST_OBJECTS) throw new Error(`the list has more than ${MOST_OBJECTS} objects`);
            const item = values < MOST_VALUES ? this.#options.read(object) : null;
            if (item === null) return;
            values += this.#options.sizeOf(item);
            items.push(item);
          }),
        ),
      );
      const metadata = objectIn(list['metadata']);
      const next = textIn(metadata['continue']);
      const version = textIn(metadata['resourceVersion']);
      if (!Array.isArray(list['items']) || !isVersion(version) || next.length > LONGEST_TOKEN)
        throw new Error('the response is not a Kubernetes list');
      if (next === '') {
        this.#options.onChange({ kind: 'replace', items });
        return version;
      }
      if (this.#options.clock.monotonic() - begun > LIST_MOST_MS) throw new Error('the list took too long');
      page = { continue: next };
    }
  }

  /** Processes events until the server ends the stream or an error occurs. */
  async #watch(version: string): Promise<void> {
    const { clock, random } = this.#options;
    const seconds = Math.round(WATCH_LEAST_S + random() * (WATCH_MOST_S - WATCH_LEAST_S));
    const query = {
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: version,
      timeoutSeconds: String(seconds),
    };
    const begun = clock.monotonic();
    let events = 0;
    await this.#open(query, WATCH_SILENCE_MS, Infinity, async (body) => {
      this.#setUp(true);
      for await (const line of linesOf(this.#paced(body, seconds * 1000 + WATCH_OVERTIME_MS))) {
        this.#take(line);
        events++;
        // Otherwise an event and an error in turn would be asked for without a pause.
        if (clock.monotonic() - begun >= WATCH_SHORTEST_MS) this.#reset();
      }
    });
    if (events === 0 && clock.monotonic() - begun < WATCH_SHORTEST_MS) throw new Error('the server ended the watch');
    this.#reset();
  }

  /** Forgets earlier failures. */
  #reset(): void {
    this.#failures = 0;
    this.#expirations = 0;
  }

  #take(line: string): void {
    let event: ApiObject;
    try {
      event = objectIn(JSON.parse(line));
    } catch {
      throw this.#unreadable('a line that is not JSON');
    }
    const object = objectIn(event['object']);
    const type = textIn(event['type']);
    if (type === 'ERROR') {
      const reason = textIn(object['message']) || 'the server sent an error';
      this.#retryAfterMs = retryAfterMs(String(numberIn(objectIn(object['details'])['retryAfterSeconds']) ?? ''), 0);
      throw numberIn(object['code']) === 410 ? new Expired(reason) : new Error(reason);
    }
    const version = textIn(objectIn(object['metadata'])['resourceVersion']);
    if (!isVersion(version)) throw this.#unreadable('an event without a version');
    const item = type === 'BOOKMARK' ? null : this.#options.read(object);
    if (item !== null) this.#options.onChange({ kind: type === 'DELETED' ? 'delete' : 'set', item });
    this.#version = version;
  }

  /** Passes chunks on, with pauses after many bytes. Throws if the stream does not end in time. */
  async *#paced(body: AsyncIterable<Buffer>, mostMs: number): AsyncGenerator<Buffer> {
    const { clock } = this.#options;
    const begun = clock.monotonic();
    let second = begun;
    let bytes = 0;
    for await (const chunk of body) {
      yield chunk;
      const now = clock.monotonic();
      if (now - begun > mostMs)
        throw new Error(`the server did not end the watch within ${Math.round(mostMs / 1000)} s`);
      if (now - second >= 1000) [second, bytes] = [now, 0];
      bytes += chunk.length;
      if (bytes > WATCH_BYTES_PER_S) await this.#pause(1000 - (now - second));
    }
  }

  /** The event is lost, so the objects must be listed again. */
  #unreadable(what: string): Error {
    this.#version = null;
    return new Error(`the server sent ${what}`);
  }

  /** Sends a request and passes the body to `take`. Aborts after `silenceMs` without data, and after `mostMs`. */
  async #open<T>(
    query: Readonly<Record<string, string>>,
    silenceMs: number,
    mostMs: number,
    take: (body: AsyncIterable<Buffer>) => Promise<T>,
  ): Promise<T> {
    const { path, selection, request, clock } = this.#options;
    const abort = (this.#abort = new AbortController());
    if (this.#closed) throw new Error('the exporter is stopping');
    const abortWith = (reason: string) => () => abort.abort(new Error(reason));
    const late = Number.isFinite(mostMs)
      ? clock.after(mostMs, abortWith(`incomplete response after ${mostMs / 1000} s`))
      : null;
    const listen = (ms: number): (() => void) => clock.after(ms, abortWith(`no data for ${ms / 1000} s`));
    let cancel = listen(SILENCE_MS);
    const resetTimeout = async function* (body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
      for await (const chunk of body) {
        cancel();
        cancel = listen(silenceMs);
        yield chunk;
      }
    };
    try {
      const { status, retryAfter, body } = await request(
        `${path}?${new URLSearchParams({ ...selection, ...query }).toString()}`,
        abort.signal,
      );
      cancel();
      cancel = listen(silenceMs);
      if (status !== 200) this.#retryAfterMs = retryAfterMs(retryAfter, clock.now());
      if (status === 410) throw new Expired('the resource version is too old');
      if (status !== 200) throw new Error(`the server returned status ${status}`);
      return await take(resetTimeout(body));
    } catch (error) {
      throw abort.signal.aborted ? abort.signal.reason : error;
    } finally {
      cancel();
      late?.();
      abort.abort();
    }
  }
}

/** Parses Retry-After, in seconds or as an HTTP date; 0 if it is neither. Date.parse accepts "-1" and "1.5" as dates. */
function retryAfterMs(text = '', now: number): number {
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : / GMT$/.test(text) ? Date.parse(text) - now : 0;
  return ms > 0 ? Math.min(ms, RETRY_AFTER_MOST_MS) : 0;
}

function isVersion(text: string): boolean {
  return text !== '' && text.length <= LONGEST_VERSION;
}

/** Passes chunks on. Throws if there are too many bytes. */
async function* limitBytes(body: AsyncIterable<Buffer>, most: number): AsyncGenerator<Buffer> {
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > most) throw new Error(`the list is longer than ${most} bytes`);
    yield chunk;
  }
}

/** Yields the non-empty lines of a stream and drops an incomplete last line. Throws if a line is too long. */
async function* linesOf(body: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const begun = new ByteCollector();
  for await (const chunk of body) {
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      begun.add(chunk.subarray(from, end));
      const line = begun.take().toString().trim();
      from = end + 1;
      if (line !== '') yield line;
    }
    begun.add(chunk.subarray(from));
    if (begun.length > MOST_LINE_BYTES) throw new Error(`the server sent a line longer than ${MOST_LINE_BYTES} bytes`);
  }
}
