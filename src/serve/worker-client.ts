import { setFlagsFromString } from 'node:v8';
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import { COLLECTORS, type CollectorRun, type Status } from '../metrics/catalogue.ts';
import type { HashCost } from '../collect/hash-walks.ts';
import type { Answer } from '../enrich/asn/cache.ts';
import type { ClusterChange } from '../enrich/kubernetes/cluster-cache.ts';
import type { Collected } from '../expose/otlp.ts';
import type { Surroundings } from '../web/page/page.ts';
import type { Format } from '../expose/prometheus-text.ts';
import type { Address, Cidr, Rules } from '../model.ts';
import type { RowFormat } from '../rows/streams.ts';
import { Reading } from './port-stream.ts';
import type { RemoteName } from '../rows/remote-names.ts';
import type { Order, PagePart, Report, ScannerData } from './worker.ts';
import type { Kept, Sighting } from '../store/contract.ts';

/** The families of one scan as text, and what that scan cost. Nothing was scanned yet while `at` (milliseconds since 1970) is 0. */
export interface Page {
  readonly format: Format;
  readonly at: number;
  readonly parts: readonly PagePart[];
  readonly collectors: readonly CollectorRun[];
  /** Lines that could not be read as a row, by socket table. */
  readonly malformedRows: ReadonlyMap<string, number>;
}

/** The families of one scan as a page for people; of an earlier scan where it is not `fresh`. */
export interface Drawing {
  readonly page: string;
  readonly fresh: boolean;
}

/** What is known of a scan beside its families. */
export type ScanFacts = Pick<Page, 'at' | 'collectors' | 'malformedRows'>;

interface Scanned extends ScanFacts {
  readonly pages: Map<Format, Promise<Page>>;
  /** By whether they load themselves again. */
  readonly drawings: Map<boolean, Promise<string>>;
}

/**
 * How the worker's heap grows: collected early rather than let grow to a multiple. With 100,000 rows it made 149 of 239 MB of resident
 * memory, for about 6 % more CPU. There is no limit that a busy host could run into.
 */
const HEAP_FLAGS = ['--max-semi-space-size=2', '--heap-growing-percent=20'];

/** The share of its time that a scan may take; the rest is for rendering. */
const SCAN_SHARE = 0.8;
/** How long the thread may take to end; one that hangs in a read of the kernel's never does. */
const END_MS = 1_000;

/** Who hears of what the worker thread has to say besides pages. */
export interface Listeners {
  /** Takes the buckets that a scan found no fresh ASN for. */
  readonly ask: (buckets: readonly Cidr[]) => void;
  /** Takes the remotes whose names are not known. */
  readonly remotes: (addresses: readonly Address[]) => void;
  /** Takes the first times that a store is to be asked for. */
  readonly sighted: (sightings: readonly Sighting[]) => void;
  /** Takes what walks over the host's TCP hash cost, once, where that is much. */
  readonly costs: (cost: HashCost) => void;
  /** Hears why a scan or its rendering failed, or a part of it. */
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
  /** The last page for people, by whether it loads itself again. */
  readonly #drawn = new Map<boolean, string>();
  #scanning: Promise<Scanned> | null = null;
  #stopped: Error | null = null;

  constructor(data: ScannerData, budgetMs: number, listeners: Listeners) {
    this.#budgetMs = budgetMs;
    this.#listeners = listeners;
    const collectors = COLLECTORS.filter((name) => name === 'sockets' || data.options.collectors[name]);
    const notYet = collectors.map((collector) => ({ collector, seconds: 0, success: false }));
    this.#nothing = { format: 'text', at: 0, parts: [], collectors: notYet, malformedRows: new Map() };
    for (const flag of HEAP_FLAGS) setFlagsFromString(flag);
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    this.#worker = new Worker(new URL(`./worker.${extension}`, import.meta.url), { workerData: data });
    this.#worker.on('message', (report: Report) => this.#take(report));
    this.#worker.on('error', (error: Error) => this.#end(error));
    this.#worker.on('exit', () => {
      if (!this.#stopped) this.#end(new Error('the scanning thread ended'));
      if (this.#stopped !== CLOSED) listeners.died(this.#stopped?.message ?? '');
    });
  }

  /** Scans and gives the page; the last one there is when `withinMs` have passed or the scan failed. */
  async page(format: Format, withinMs: number): Promise<Page> {
    return (await this.#inTime(() => this.#fresh(format, withinMs), withinMs)) ?? this.#stale(format);
  }

  /**
   * Scans and gives the page for people, with those of `status` among its families; the last one there is, or null, when `withinMs`
   * have passed or the scan failed. Those who share a scan share its page; their surroundings differ in `refreshes` alone.
   */
  async draw(
    surroundings: Surroundings,
    status: (scan: ScanFacts) => Status,
    withinMs: number,
  ): Promise<Drawing | null> {
    const { refreshes } = surroundings;
    const page = await this.#inTime(async () => {
      const scanned = await this.#scanOnce(withinMs);
      let drawing = scanned.drawings.get(refreshes);
      if (!drawing) {
        drawing = this.#draw(surroundings, status(scanned));
        scanned.drawings.set(refreshes, drawing);
      }
      return drawing;
    }, withinMs);
    const shown = page ?? this.#drawn.get(refreshes) ?? this.#drawn.get(!refreshes) ?? null;
    return shown === null ? null : { page: shown, fresh: page !== null };
  }

  /**
   * Scans and has the thread send every family, those of `status` included, to `reply`, as `Collected`. The caller holds `reply`
   * no longer, even when this rejects: because the scan failed, or took longer than `withinMs`.
   */
  async share(reply: MessagePort, status: (scan: ScanFacts) => Status, withinMs: number): Promise<void> {
    try {
      const scanned = await this.#scanWithin(withinMs);
      const report = await this.#order({ kind: 'share', status: status(scanned), reply }, [reply]);
      if (report.kind === 'failed') throw new Error(report.reason);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      reply.postMessage({ reason } satisfies Collected);
      reply.close();
      throw error;
    }
  }

  /** Scans and opens a reader of the rows that the filters want. Rejects when the scan failed, or took longer than `withinMs`. */
  async read(filters: readonly string[], format: RowFormat, withinMs: number): Promise<Reading> {
    await this.#scanWithin(withinMs);
    return this.#open((port) => ({ kind: 'read', filters, format, port }));
  }

  /** Opens a reader of the events that scans see from now on; `ended` hears of its end. */
  async listen(filters: readonly string[], ended: () => void): Promise<Reading> {
    return this.#open((port) => ({ kind: 'listen', filters, port }), ended);
  }

  /** Scans once, without rendering. */
  async scan(withinMs: number): Promise<void> {
    await this.#scanOnce(withinMs);
  }

  /** Hands answers to the scanning thread, and the buckets of which nothing is known any more. */
  learn(answers: readonly Answer[], unknown: readonly Cidr[] = []): void {
    this.#post({ kind: 'answers', answers, unknown });
  }

  /** Hands names of remotes to the scanning thread. */
  name(names: readonly RemoteName[]): void {
    this.#post({ kind: 'named', names });
  }

  /** Hands what the store kept of sightings to the scanning thread. */
  confirm(kept: readonly Kept[]): void {
    this.#post({ kind: 'confirmed', kept });
  }

  /** Hands rules to the scanning thread, to go by from the next scan on. */
  adopt(rules: Rules): void {
    this.#post({ kind: 'rules', rules });
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

  /** What comes of the work; null when it takes longer, or when it failed, of which the listener hears. */
  async #inTime<T>(work: () => Promise<T>, withinMs: number): Promise<T | null> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(resolve, withinMs, null);
    });
    try {
      return await Promise.race([work(), late]);
    } catch (error) {
      this.#listeners.failed(error instanceof Error ? error.message : String(error));
      return null;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Those who share a scan share its page. */
  async #fresh(format: Format, withinMs: number): Promise<Page> {
    const scanned = await this.#scanOnce(withinMs);
    let page = scanned.pages.get(format);
    if (!page) {
      page = this.#render(format, scanned);
      scanned.pages.set(format, page);
    }
    return page;
  }

  /** The newest page of the format; who reads OpenMetrics reads text too. */
  #stale(format: Format): Page {
    const own = this.#pages.get(format) ?? this.#nothing;
    const text = this.#pages.get('text') ?? this.#nothing;
    const page = own.at >= text.at ? own : text;
    return { ...page, collectors: page.collectors.map((run) => ({ ...run, success: false })) };
  }

  async #scanWithin(withinMs: number): Promise<Scanned> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no scan ended within ${withinMs} ms`)), withinMs);
    });
    try {
      return await Promise.race([this.#scanOnce(withinMs), late]);
    } finally {
      clearTimeout(timer);
    }
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
    for (const reason of report.failures) this.#listeners.failed(reason);
    const { at, collectors, malformedRows } = report;
    return { at, collectors, malformedRows, pages: new Map(), drawings: new Map() };
  }

  async #render(format: Format, { at, collectors, malformedRows }: ScanFacts): Promise<Page> {
    const report = await this.#order({ kind: 'render', format });
    if (report.kind !== 'rendered') throw new Error(report.kind === 'failed' ? report.reason : report.kind);
    const failed = new Set(report.failures.map(({ collector }) => collector));
    for (const { reason } of report.failures) this.#listeners.failed(reason);
    const runs = collectors.map((run) => ({ ...run, success: run.success && !failed.has(run.collector) }));
    const page = { format, at, collectors: runs, malformedRows, parts: report.parts };
    this.#pages.set(format, page);
    return page;
  }

  async #draw(surroundings: Surroundings, status: Status): Promise<string> {
    const report = await this.#order({ kind: 'draw', status, surroundings });
    if (report.kind !== 'drawn') throw new Error(report.kind === 'failed' ? report.reason : report.kind);
    this.#drawn.set(surroundings.refreshes, report.page);
    return report.page;
  }

  async #open(order: (port: MessagePort) => Order, ended?: () => void): Promise<Reading> {
    const { port1, port2 } = new MessageChannel();
    const reading = new Reading(port1, ended);
    try {
      const report = await this.#order(order(port2), [port2]);
      if (report.kind === 'failed') throw new Error(report.reason);
      return reading;
    } catch (error) {
      reading.close();
      throw error;
    }
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
    else if (report.kind === 'costs') this.#listeners.costs(report.cost);
    else if (report.kind === 'remotes') this.#listeners.remotes(report.addresses);
    else if (report.kind === 'sightings') this.#listeners.sighted(report.sightings);
    else this.#waiting.shift()?.resolve(report);
  }

  #end(reason: Error): void {
    this.#stopped ??= reason;
    for (const { reject } of this.#waiting.splice(0)) reject(reason);
  }
}

const CLOSED = new Error('the exporter is stopping');
