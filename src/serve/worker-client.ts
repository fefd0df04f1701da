import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import { reasonOf } from '../common/errors.ts';
import type { Answer } from '../enrich/asn/cache.ts';
import type { Collected } from '../expose/otlp.ts';
import type { Format } from '../expose/prometheus-text.ts';
import { COLLECTORS, type Collector, type CollectorRun } from '../metrics/catalogue.ts';
import type { Status } from '../metrics/status-families.ts';
import type { RowFormat } from '../rows/streams.ts';
import type { PageOptions } from '../web/page/page.ts';
import {
  dispatch,
  Requester,
  type FromWorker,
  type NotificationHandlers,
  type Notifications,
  type PagePart,
  type WorkerNotifications,
} from './messages.ts';
import { PortStream } from './port-stream.ts';
import { setFlags } from './v8-flags.ts';
import type { WorkerData } from './worker.ts';

/** The families of one scan as text. No scan has ended while `at` (milliseconds since 1970) is 0. */
export interface Page {
  readonly format: Format;
  readonly at: number;
  readonly parts: readonly PagePart[];
  readonly collectors: readonly CollectorRun[];
  /** Unreadable lines, by socket table. */
  readonly malformedRows: ReadonlyMap<string, number>;
}

/** A rendered status page; of an earlier scan unless `fresh`. */
export interface StatusPage {
  readonly html: string;
  readonly fresh: boolean;
}

/** What is known about a scan besides its families. */
export type ScanFacts = Pick<Page, 'at' | 'collectors' | 'malformedRows'>;

/** A scan whose pages are rendered on demand, once per format. */
interface SharedScan extends ScanFacts {
  readonly pages: Map<Format, Promise<Page>>;
  /** Status pages, by whether they refresh themselves. */
  readonly statusPages: Map<boolean, Promise<string>>;
}

/** Receives what the worker sends on its own, and its failures. */
export interface WorkerCallbacks extends NotificationHandlers<WorkerNotifications> {
  /** Takes the reason of a failed scan, rendering or notification, or of a part of a scan. */
  readonly failed: (reason: string) => void;
  /** The worker thread ended unexpectedly: there will be no more scans. */
  readonly died: (reason: string) => void;
}

/** The share of its time that a scan may take; the rest is for rendering. */
const SCAN_SHARE = 0.8;
/** How long the thread may take to end; one that is blocked in a read of the kernel never ends. */
const END_MS = 1_000;

/** Starts the worker thread and returns its client. */
export function openWorker(data: WorkerData, budgetMs: number, callbacks: WorkerCallbacks): WorkerClient {
  setFlags();
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const worker = new Worker(new URL(`./worker.${extension}`, import.meta.url), { workerData: data });
  const collectors = COLLECTORS.filter((name) => name === 'sockets' || data.options.collectors[name]);
  return new WorkerClient(worker, collectors, budgetMs, callbacks);
}

/**
 * Runs scans in a worker thread, so that HTTP never waits for /proc. Scans are single-flight: callers during a scan share it.
 * A caller whose time runs out gets the last page, with `success` false for every collector. The scan continues for the others and has
 * at least `budgetMs`, so that one impatient caller cannot make it partial.
 */
export class WorkerClient {
  readonly #worker: Worker;
  readonly #requester: Requester;
  readonly #callbacks: WorkerCallbacks;
  readonly #emptyPage: Page;
  readonly #budgetMs: number;
  readonly #pages = new Map<Format, Page>();
  /** The last status pages, by whether they refresh themselves. */
  readonly #statusPages = new Map<boolean, string>();
  #scanning: Promise<SharedScan> | null = null;
  /** Whether the thread did not end, because the kernel blocks it or one of its threads. */
  isBlocked = false;
  #isClosing = false;
  #failures = 0;

  /** `worker` runs `handleMessages`; `collectors` are those that are on. */
  constructor(worker: Worker, collectors: readonly Collector[], budgetMs: number, callbacks: WorkerCallbacks) {
    this.#worker = worker;
    this.#budgetMs = budgetMs;
    this.#callbacks = callbacks;
    this.#requester = new Requester((message, transfer) => worker.postMessage(message, transfer));
    const runs = collectors.map((collector) => ({ collector, seconds: 0, success: false }));
    this.#emptyPage = { format: 'text', at: 0, parts: [], collectors: runs, malformedRows: new Map() };
    worker.on('message', (message: FromWorker) => this.#receive(message));
    worker.on('messageerror', (error: Error) => {
      // Which request the message belongs to is unknown.
      this.#failures++;
      this.#requester.rejectAll(error);
    });
    let reason = new Error('the worker thread ended');
    worker.on('error', (error: Error) => (reason = error));
    worker.on('exit', () => {
      if (this.#isClosing) return;
      this.#failures++;
      this.#requester.close(reason);
      callbacks.died(reason.message);
    });
  }

  /** Failures of the worker thread: requests and notifications that failed, and an unexpected end. */
  get failures(): number {
    return this.#failures;
  }

  /** Scans and returns the page; the last page when `withinMs` have passed or the scan failed. */
  async page(format: Format, withinMs: number): Promise<Page> {
    return (await this.#orNull(() => this.#freshPage(format, withinMs), withinMs)) ?? this.#stalePage(format);
  }

  /**
   * Scans and returns the status page, with the families of `status`; the last status page, or null, when `withinMs` have passed or
   * the scan failed. Callers that share a scan share its page; their `options` may differ in `refreshes` only.
   */
  async statusPage(
    options: PageOptions,
    status: (scan: ScanFacts) => Status,
    withinMs: number,
  ): Promise<StatusPage | null> {
    const { refreshes } = options;
    const fresh = await this.#orNull(async () => {
      const scan = await this.#scanOnce(withinMs);
      let html = scan.statusPages.get(refreshes);
      if (!html) {
        html = this.#requester.request('draw', { status: status(scan), options });
        scan.statusPages.set(refreshes, html);
      }
      this.#statusPages.set(refreshes, await html);
      return html;
    }, withinMs);
    const html = fresh ?? this.#statusPages.get(refreshes) ?? this.#statusPages.get(!refreshes) ?? null;
    return html === null ? null : { html, fresh: fresh !== null };
  }

  /**
   * Scans and makes the worker send every family, including those of `status`, to `port`, as `Collected`. The port is no longer the
   * caller's, even when this rejects: because the scan failed, or took longer than `withinMs`.
   */
  async share(port: MessagePort, status: (scan: ScanFacts) => Status, withinMs: number): Promise<void> {
    try {
      const scan = await this.#scanWithin(withinMs);
      await this.#requester.request('share', { status: status(scan), port }, [port]);
    } catch (error) {
      // Without effect where the port was transferred: the worker closes it.
      port.postMessage({ reason: reasonOf(error) } satisfies Collected);
      port.close();
      throw error;
    }
  }

  /** Scans and opens a stream of the rows that match the filters. Rejects when the scan failed, or took longer than `withinMs`. */
  async rows(filters: readonly string[], format: RowFormat, withinMs: number): Promise<PortStream> {
    await this.#scanWithin(withinMs);
    return this.#openStream((port) => this.#requester.request('read', { filters, format, port }, [port]));
  }

  /** Scans and returns what is unusual. Rejects when the scan failed, or took longer than `withinMs`, and if that is not watched. */
  async unusual(withinMs: number): Promise<object> {
    await this.#scanWithin(withinMs);
    const found = await this.#requester.request('unusual', null);
    if (!found) throw new Error('the collector first-seen is off');
    return found;
  }

  /** Returns a page of what the workloads met, as JSON; null if the cursor is not valid. Rejects if nothing is remembered. */
  async history(after: string | null, limit: number): Promise<object | null> {
    const found = await this.#requester.request('history', { after, limit });
    if (!found) throw new Error('the collector first-seen is off');
    return found.page;
  }

  /** Opens a stream of the events of later scans that match the filters. */
  async events(filters: readonly string[]): Promise<PortStream> {
    return this.#openStream((port) => this.#requester.request('subscribe', { filters, port }, [port]));
  }

  /** Scans once, without rendering. */
  async scan(withinMs: number): Promise<void> {
    await this.#scanOnce(withinMs);
  }

  /** Returns all cached ASN answers, and makes the worker send all first-seen times as `sightings` again. */
  restore(): Promise<readonly Answer[]> {
    return this.#requester.request('restore', null);
  }

  /** Sends the worker something that needs no reply. */
  notify<K extends keyof Notifications>(kind: K, payload: Notifications[K]): void {
    this.#requester.notify(kind, payload);
  }

  /** Ends the thread, during a scan too. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#requester.close(new Error('the exporter is stopping'));
    let timer: NodeJS.Timeout | undefined;
    const blocked = new Promise<true>((resolve) => {
      timer = setTimeout(resolve, END_MS, true);
    });
    this.isBlocked = await Promise.race([this.#worker.terminate().then(() => false), blocked]);
    clearTimeout(timer);
    this.#worker.unref();
  }

  #receive(message: FromWorker): void {
    if (message.type === 'notification') {
      dispatch(this.#callbacks, message);
      return;
    }
    if (message.type === 'error') {
      this.#failures++;
      if (message.id === null) this.#callbacks.failed(message.reason);
    }
    this.#requester.settle(message);
  }

  /** The result of `work`; null when it takes longer than `withinMs` or rejects. */
  async #orNull<T>(work: () => Promise<T>, withinMs: number): Promise<T | null> {
    const deadline = startDeadline(withinMs);
    try {
      return await Promise.race([work(), deadline.passed]);
    } catch (error) {
      this.#callbacks.failed(reasonOf(error));
      return null;
    } finally {
      deadline.cancel();
    }
  }

  async #freshPage(format: Format, withinMs: number): Promise<Page> {
    const scan = await this.#scanOnce(withinMs);
    let page = scan.pages.get(format);
    if (!page) {
      page = this.#render(format, scan);
      scan.pages.set(format, page);
    }
    return page;
  }

  /** The newest page of the format, or a newer one as text, which every scraper accepts. */
  #stalePage(format: Format): Page {
    const own = this.#pages.get(format) ?? this.#emptyPage;
    const text = this.#pages.get('text') ?? this.#emptyPage;
    const page = own.at >= text.at ? own : text;
    return { ...page, collectors: page.collectors.map((run) => ({ ...run, success: false })) };
  }

  async #scanWithin(withinMs: number): Promise<SharedScan> {
    const deadline = startDeadline(withinMs);
    const late = deadline.passed.then(() => Promise.reject(new Error(`no scan ended within ${withinMs} ms`)));
    try {
      return await Promise.race([this.#scanOnce(withinMs), late]);
    } finally {
      deadline.cancel();
    }
  }

  #scanOnce(withinMs: number): Promise<SharedScan> {
    this.#scanning ??= this.#scan(Math.max(withinMs, this.#budgetMs) * SCAN_SHARE).finally(() => {
      this.#scanning = null;
    });
    return this.#scanning;
  }

  async #scan(withinMs: number): Promise<SharedScan> {
    const { at, collectors, malformedRows, failures } = await this.#requester.request('scan', { withinMs });
    for (const reason of failures) this.#callbacks.failed(reason);
    return { at, collectors, malformedRows, pages: new Map(), statusPages: new Map() };
  }

  async #render(format: Format, { at, collectors, malformedRows }: ScanFacts): Promise<Page> {
    const { parts, failures } = await this.#requester.request('render', { format });
    const failed = new Set(failures.map(({ collector }) => collector));
    for (const { reason } of failures) this.#callbacks.failed(reason);
    const runs = collectors.map((run) => ({ ...run, success: run.success && !failed.has(run.collector) }));
    const page = { format, at, collectors: runs, malformedRows, parts };
    this.#pages.set(format, page);
    return page;
  }

  async #openStream(open: (port: MessagePort) => Promise<null>): Promise<PortStream> {
    const { port1, port2 } = new MessageChannel();
    const stream = new PortStream(port1);
    try {
      await open(port2);
      return stream;
    } catch (error) {
      stream.close();
      throw error;
    }
  }
}

/** Resolves after some milliseconds; at once if there are none, before anything that takes a turn of the event loop. */
function startDeadline(withinMs: number): { readonly passed: Promise<null>; readonly cancel: () => void } {
  const { promise, resolve } = Promise.withResolvers<null>();
  const timer = withinMs > 0 ? setTimeout(resolve, withinMs, null) : undefined;
  if (timer === undefined) resolve(null);
  return { passed: promise, cancel: () => clearTimeout(timer) };
}
