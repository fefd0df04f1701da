import { setFlagsFromString } from 'node:v8';
import { Worker, type MessagePort } from 'node:worker_threads';
import { COLLECTORS, type CollectorRun, type Status } from './catalogue.ts';
import type { Answer } from './enrich/asn.ts';
import type { ClusterChange } from './enrich/cluster.ts';
import type { Kept, Sighting } from './enrich/first-seen.ts';
import type { Collected } from './expose/otlp.ts';
import type { Format } from './expose/prometheus.ts';
import type { Cidr } from './model.ts';
import type { Order, Report, ScannerData } from './scanner.ts';

/** The families of one scan as text, and what that scan cost. Nothing was scanned yet while `at` (milliseconds since 1970) is 0. */
export interface Page {
  readonly format: Format;
  readonly at: number;
  readonly body: Uint8Array;
  readonly collectors: readonly CollectorRun[];
}

/** What is known of a scan beside its families. */
export type ScanFacts = Pick<Page, 'at' | 'collectors'>;

interface Scanned extends ScanFacts {
  readonly bodies: Map<Format, Promise<Uint8Array>>;
}

/**
 * How the worker's heap grows: collected early rather than let grow to a multiple. With 100,000 rows it made 149 of 239 MB of resident
 * memory, for about 6 % more CPU. There is no limit that a busy host could run into.
 */
const HEAP_FLAGS = ['--max-semi-space-size=2', '--heap-growing-percent=20'];

/** The share of its time that a scan may take; the rest is for rendering. */
const SCAN_SHARE = 0.8;
/** How long the thread may take to end; one that hangs in a read of the kernel's never does. */
const END_MS = 3_000;

/** Who hears of what the worker thread has to say besides pages. */
export interface Listeners {
  /** Takes the buckets that a scan found no fresh ASN for. */
  readonly ask: (buckets: readonly Cidr[]) => void;
  /** Takes the first times that a store is to be asked for. */
  readonly sighted: (sightings: readonly Sighting[]) => void;
  /** Hears why a scan or its rendering failed. */
  readonly failed: (reason: string) => void;
  /** Hears of a thread that ended by itself: no page will come any more. */
  readonly died: (reason: string) => void;
}

/**
 * Runs scans in one worker thread, so that HTTP never waits for /proc. Single-flight: who asks while a scan runs gets that scan.
 * A caller whose time runs out gets the last page there is, with every collector's success false; the scan goes on for the others,
 * for `budgetMs` at least: who waits little must not make the scan of all the others partial.
 */
export class Engine {
  readonly #worker: Worker;
  readonly #waiting: { resolve: (report: Report) => void; reject: (reason: Error) => void }[] = [];
  readonly #listeners: Listeners;
  readonly #nothing: Page;
  readonly #budgetMs: number;
  readonly #pages = new Map<Format, Page>();
  #scanning: Promise<Scanned> | null = null;
  #stopped: Error | null = null;

  constructor(data: ScannerData, budgetMs: number, listeners: Listeners) {
    this.#budgetMs = budgetMs;
    this.#listeners = listeners;
    const collectors = COLLECTORS.filter((name) => name === 'sockets' || data.options.collectors[name]);
    const notYet = collectors.map((collector) => ({ collector, seconds: 0, success: false }));
    this.#nothing = { format: 'text', at: 0, body: new Uint8Array(), collectors: notYet };
    for (const flag of HEAP_FLAGS) setFlagsFromString(flag);
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    this.#worker = new Worker(new URL(`./scanner.${extension}`, import.meta.url), { workerData: data });
    this.#worker.on('message', (report: Report) => this.#take(report));
    this.#worker.on('error', (error: Error) => this.#end(error));
    this.#worker.on('exit', () => {
      if (!this.#stopped) this.#end(new Error('the scanning thread ended'));
      if (this.#stopped !== CLOSED) listeners.died(this.#stopped?.message ?? '');
    });
  }

  /** Scans and gives the page; the last one there is when `withinMs` have passed or the scan failed. */
  async page(format: Format, withinMs: number): Promise<Page> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(resolve, withinMs, null);
    });
    try {
      return (await Promise.race([this.#fresh(format, withinMs), late])) ?? this.#stale(format);
    } catch (error) {
      this.#listeners.failed(error instanceof Error ? error.message : String(error));
      return this.#stale(format);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Scans and has the thread send every family, those of `status` included, to `reply`, as `Collected`. The caller holds `reply`
   * no longer, even when this rejects: because the scan failed, or took longer than `withinMs`.
   */
  async share(reply: MessagePort, status: (scan: ScanFacts) => Status, withinMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no scan ended within ${withinMs} ms`)), withinMs);
    });
    try {
      const scanned = await Promise.race([this.#scanOnce(withinMs), late]);
      const report = await this.#order({ kind: 'share', status: status(scanned), reply }, [reply]);
      if (report.kind === 'failed') throw new Error(report.reason);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      reply.postMessage({ reason } satisfies Collected);
      reply.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Scans once, without rendering. */
  async scan(withinMs: number): Promise<void> {
    await this.#scanOnce(withinMs);
  }

  /** Hands answers to the scanning thread. */
  learn(answers: readonly Answer[]): void {
    this.#post({ kind: 'answers', answers });
  }

  /** Hands what the store kept of sightings to the scanning thread. */
  confirm(kept: readonly Kept[]): void {
    this.#post({ kind: 'confirmed', kept });
  }

  /** Hands news of the cluster to the scanning thread. */
  know(news: ClusterChange): void {
    this.#post({ kind: 'cluster', news });
  }

  /** The answers that the scanning thread holds; it tells `sighted` all first times again, too. */
  async recite(): Promise<readonly Answer[]> {
    const report = await this.#order({ kind: 'recite' });
    if (report.kind !== 'recited') throw new Error(report.kind === 'failed' ? report.reason : report.kind);
    return report.answers;
  }

  /** Ends the thread; a scan under way is given up. */
  async close(): Promise<void> {
    this.#end(CLOSED);
    let timer: NodeJS.Timeout | undefined;
    const hangs = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, END_MS);
    });
    await Promise.race([this.#worker.terminate(), hangs]);
    clearTimeout(timer);
    this.#worker.unref();
  }

  async #fresh(format: Format, withinMs: number): Promise<Page> {
    const scanned = await this.#scanOnce(withinMs);
    let body = scanned.bodies.get(format);
    if (!body) {
      body = this.#render(format);
      scanned.bodies.set(format, body);
    }
    const page = { format, at: scanned.at, collectors: scanned.collectors, body: await body };
    this.#pages.set(format, page);
    return page;
  }

  /** The newest page of the format; who reads OpenMetrics reads text too. */
  #stale(format: Format): Page {
    const own = this.#pages.get(format) ?? this.#nothing;
    const text = this.#pages.get('text') ?? this.#nothing;
    const page = own.at >= text.at ? own : text;
    return { ...page, collectors: page.collectors.map((run) => ({ ...run, success: false })) };
  }

  #scanOnce(withinMs: number): Promise<Scanned> {
    this.#scanning ??= this.#scan(Math.max(withinMs, this.#budgetMs) * SCAN_SHARE).finally(() => {
      this.#scanning = null;
    });
    return this.#scanning;
  }

  async #scan(withinMs: number): Promise<Scanned> {
    const report = await this.#order({ kind: 'scan', withinMs });
    if (report.kind !== 'scanned') throw new Error(report.kind === 'failed' ? report.reason : report.kind);
    return { at: report.at, collectors: report.collectors, bodies: new Map() };
  }

  async #render(format: Format): Promise<Uint8Array> {
    const report = await this.#order({ kind: 'render', format });
    if (report.kind !== 'rendered') throw new Error(report.kind === 'failed' ? report.reason : report.kind);
    return report.body;
  }

  #order(order: Order, transfer: readonly MessagePort[] = []): Promise<Report> {
    if (this.#stopped) return Promise.reject(this.#stopped);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#post(order, transfer);
    });
  }

  #post(order: Order, transfer: readonly MessagePort[] = []): void {
    this.#worker.postMessage(order, transfer);
  }

  #take(report: Report): void {
    if (report.kind === 'questions') this.#listeners.ask(report.buckets);
    else if (report.kind === 'sightings') this.#listeners.sighted(report.sightings);
    else this.#waiting.shift()?.resolve(report);
  }

  #end(reason: Error): void {
    this.#stopped ??= reason;
    for (const { reject } of this.#waiting.splice(0)) reject(reason);
  }
}

const CLOSED = new Error('the exporter is stopping');
