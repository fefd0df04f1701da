import type { Timer } from '../../common/clock.ts';
import { readList, numberIn, objectIn, textIn, type ApiObject } from './list-parser.ts';

/** How long an answer may take to begin, and a list to go on. */
const SILENCE_MS = 30_000;
const LIST_MOST_MS = 300_000;
/** How long the server is asked to keep a watch open. */
const WATCH_LEAST_S = 300;
const WATCH_MOST_S = 600;
/** A server sends a bookmark about every minute: a watch that is silent for longer than this is dead. */
const WATCH_SILENCE_MS = 150_000;
/** A watch that ends sooner without an event has failed, whatever its status. */
const WATCH_SHORTEST_MS = 5_000;
const BACK_OFF_LEAST_MS = 1_000;
const BACK_OFF_MOST_MS = 30_000;
/** The longest wait that a server may ask for. */
const RETRY_AFTER_MOST_MS = 300_000;
const PAGE = 500;
/** etcd holds no object above 1.5 MiB. */
const MOST_LINE_BYTES = 4 << 20;

/** What the API server answers; the body throws when the connection breaks, or is aborted. */
export interface ApiResponse {
  readonly status: number;
  /** The header Retry-After. */
  readonly retryAfter?: string | undefined;
  readonly body: AsyncIterable<Buffer>;
}

/** Asks the API server for a path with its query; rejects when there is no answer. */
export type ApiRequest = (path: string, signal: AbortSignal) => Promise<ApiResponse>;

/** What happened to the objects of a resource: all of them were listed, or one is new, changed or gone. */
export type Change<Item> =
  | { readonly kind: 'replace'; readonly items: readonly Item[] }
  | { readonly kind: 'set' | 'delete'; readonly item: Item };

export interface WatchOptions<Item> {
  /** The path of the resource, and the parameters that select its objects. */
  readonly path: string;
  readonly selection: Readonly<Record<string, string>>;
  readonly request: ApiRequest;
  /** Reduces an object to what is kept of it; null for one that is of no use. */
  readonly read: (object: unknown) => Item | null;
  readonly deliver: (change: Change<Item>) => void;
  /** Hears whether the watch works: first when that is known, then when it changes. */
  readonly state: (up: boolean) => void;
  /** Takes the reason of each failure. */
  readonly report: (reason: string) => void;
  readonly clock: Timer;
  /** From 0 to 1, by chance. */
  readonly random: () => number;
}

/** The version that a watch would go on from is too old: all must be listed again. */
class Expired extends Error {}

/**
 * Keeps up with all objects of a resource of the Kubernetes API: lists them once, from the server's cache, and then watches for
 * changes, from the last version seen. It lists again when the server says that version is too old (410), or sends what cannot be read;
 * after any other failure it goes on where it was, 1 to 30 s later, give or take half, and not before the server's Retry-After. A
 * connection that is silent for too long is closed. It holds no object: each is reduced and delivered as it comes.
 *
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
export class Watch<Item> {
  readonly #options: WatchOptions<Item>;
  readonly #ended: Promise<void>;
  #abort = new AbortController();
  #closed = false;
  #wake: () => void = () => undefined;
  #up: boolean | null = null;
  #version: string | null = null;
  #failures = 0;
  #expirations = 0;
  /** How long the last answer asked to wait. */
  #retryAfterMs = 0;

  /** Begins at once. */
  constructor(options: WatchOptions<Item>) {
    this.#options = options;
    this.#ended = this.#run();
  }

  /** Ends it; what is under way is given up. */
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
        // The first list after an expiry is at once; a server to which nothing is new enough must not be asked without end.
        if (error instanceof Expired && this.#expirations++ === 0 && this.#retryAfterMs === 0) continue;
        this.#fail(error instanceof Error ? error.message : String(error));
        const longest = Math.min(BACK_OFF_MOST_MS, BACK_OFF_LEAST_MS * 2 ** this.#failures++);
        waitMs = longest * (0.5 + this.#options.random() / 2);
        if (this.#retryAfterMs > 0) waitMs = Math.max(waitMs, this.#retryAfterMs + spreadMs);
      }
      await this.#pause(waitMs);
    }
  }

  /** `close` may have been called while something was awaited. */
  #isClosed(): boolean {
    return this.#closed;
  }

  #fail(reason: string): void {
    this.#options.report(reason);
    this.#setUp(false);
  }

  #setUp(up: boolean): void {
    if (this.#up === up) return;
    this.#up = up;
    this.#options.state(up);
  }

  async #pause(ms: number): Promise<void> {
    if (this.#closed) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const cancel = this.#options.clock.after(ms, () => resolve(undefined));
    this.#wake = () => resolve(undefined);
    await promise;
    cancel();
  }

  /** Lists all objects, page by page where the server gives pages; gives the version of the list. */
  async #list(): Promise<string> {
    const items: Item[] = [];
    let page: Readonly<Record<string, string>> = { resourceVersion: '0' };
    const begun = this.#options.clock.monotonic();
    for (;;) {
      const query = { ...page, limit: String(PAGE) };
      const list = await this.#open(query, SILENCE_MS, LIST_MOST_MS, async (body) =>
        objectIn(
          await readList(body, MOST_LINE_BYTES, (object) => {
            const item = this.#options.read(object);
            if (item !== null) items.push(item);
          }),
        ),
      );
      const metadata = objectIn(list['metadata']);
      const next = textIn(metadata['continue']);
      const version = textIn(metadata['resourceVersion']);
      if (!Array.isArray(list['items']) || version === '') throw new Error('the list is not one of the Kubernetes API');
      if (next === '') {
        this.#options.deliver({ kind: 'replace', items });
        return version;
      }
      if (this.#options.clock.monotonic() - begun > LIST_MOST_MS) throw new Error('the list took too long');
      page = { continue: next };
    }
  }

  /** Follows changes until the server ends the stream, or something is wrong with it. */
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
      for await (const line of linesOf(body)) {
        this.#take(line);
        events++;
        this.#failures = 0;
        this.#expirations = 0;
      }
    });
    if (events === 0 && clock.monotonic() - begun < WATCH_SHORTEST_MS) throw new Error('the server ended the watch');
    this.#failures = 0;
    this.#expirations = 0;
  }

  #take(line: string): void {
    let event: ApiObject;
    try {
      event = objectIn(JSON.parse(line));
    } catch {
      throw this.#unreadable('a line that is no JSON');
    }
    const object = objectIn(event['object']);
    const type = textIn(event['type']);
    if (type === 'ERROR') {
      const reason = textIn(object['message']) || 'the server sent an error';
      this.#retryAfterMs = retryAfterMs(String(numberIn(objectIn(object['details'])['retryAfterSeconds']) ?? ''), 0);
      throw numberIn(object['code']) === 410 ? new Expired(reason) : new Error(reason);
    }
    const version = textIn(objectIn(object['metadata'])['resourceVersion']);
    if (version === '') throw this.#unreadable('an event without a version');
    const item = type === 'BOOKMARK' ? null : this.#options.read(object);
    if (item !== null) this.#options.deliver({ kind: type === 'DELETED' ? 'delete' : 'set', item });
    this.#version = version;
  }

  /** What it stood for is lost: only a list tells it again. */
  #unreadable(what: string): Error {
    this.#version = null;
    return new Error(`the server sent ${what}`);
  }

  /** Asks, and hands the answer's body on; gives up after so long a silence, and after so long a time. */
  async #open<T>(
    query: Readonly<Record<string, string>>,
    silenceMs: number,
    mostMs: number,
    take: (body: AsyncIterable<Buffer>) => Promise<T>,
  ): Promise<T> {
    const { path, selection, request, clock } = this.#options;
    const abort = (this.#abort = new AbortController());
    if (this.#closed) throw new Error('the exporter is stopping');
    const give = (reason: string) => () => abort.abort(new Error(reason));
    const late = Number.isFinite(mostMs)
      ? clock.after(mostMs, give(`no whole answer within ${mostMs / 1000} s`))
      : null;
    const listen = (ms: number): (() => void) => clock.after(ms, give(`nothing came for ${ms / 1000} s`));
    let cancel = listen(SILENCE_MS);
    const heard = async function* (body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
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
      if (status === 410) throw new Expired('the version is too old');
      if (status !== 200) throw new Error(`the server answered ${status}`);
      return await take(heard(body));
    } catch (error) {
      throw abort.signal.aborted ? abort.signal.reason : error;
    } finally {
      cancel();
      late?.();
      abort.abort();
    }
  }
}

/** Reads Retry-After, in seconds or as an HTTP date; 0 where it is neither. Date.parse takes "-1" and "1.5" for dates too. */
function retryAfterMs(text = '', now: number): number {
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : / GMT$/.test(text) ? Date.parse(text) - now : 0;
  return ms > 0 ? Math.min(ms, RETRY_AFTER_MOST_MS) : 0;
}

/** The lines of a stream that are not empty; what comes after the last line end is no line. Throws where one is too long. */
async function* linesOf(body: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let begun: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      const line = Buffer.concat([...begun, chunk.subarray(from, end)])
        .toString()
        .trim();
      begun = [];
      length = 0;
      from = end + 1;
      if (line !== '') yield line;
    }
    begun.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > MOST_LINE_BYTES) throw new Error(`the server sent a line longer than ${MOST_LINE_BYTES} bytes`);
  }
}
