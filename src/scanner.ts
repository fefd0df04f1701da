import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { SYSTEM_CLOCK } from './clock.ts';
import type { CollectorRun, Status } from './catalogue.ts';
import { Procfs } from './collect/procfs.ts';
import { AsnCache, type Answer } from './enrich/asn.ts';
import type { ClusterChange } from './enrich/cluster.ts';
import type { Kept, Sighting } from './enrich/first-seen.ts';
import type { Collected } from './expose/otlp.ts';
import { renderFamilies, type Format } from './expose/prometheus.ts';
import { statusFamilies } from './families.ts';
import type { Cidr, Family } from './model.ts';
import { Scrape, type ScrapeOptions } from './scrape.ts';

/** What the worker thread is started with. */
export interface ScannerData {
  readonly procfs: string;
  readonly options: ScrapeOptions;
  /** False keeps every ASN unknown and asks for none. */
  readonly asksForAsns: boolean;
}

/** What the main thread says. */
export type Order =
  | { readonly kind: 'scan'; readonly withinMs: number }
  | { readonly kind: 'render'; readonly format: Format }
  | { readonly kind: 'share'; readonly status: Status; readonly reply: MessagePort }
  | { readonly kind: 'answers'; readonly answers: readonly Answer[] }
  | { readonly kind: 'confirmed'; readonly kept: readonly Kept[] }
  | { readonly kind: 'cluster'; readonly news: ClusterChange }
  | { readonly kind: 'recite' };

/** What the worker thread says: one scanned, rendered, shared or recited for each order to do so, or failed, in order. */
export type Report =
  | { readonly kind: 'scanned'; readonly at: number; readonly collectors: readonly CollectorRun[] }
  | { readonly kind: 'rendered'; readonly body: Uint8Array }
  | { readonly kind: 'shared' }
  | { readonly kind: 'recited'; readonly answers: readonly Answer[] }
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'questions'; readonly buckets: readonly Cidr[] }
  | { readonly kind: 'sightings'; readonly sightings: readonly Sighting[] };

/** Scans and renders as it is told, in a thread of its own: nothing that takes long runs where HTTP waits. */
function work(port: MessagePort, data: ScannerData): void {
  const cache = data.asksForAsns ? new AsnCache() : null;
  const scrape = new Scrape(new Procfs(data.procfs), data.options, SYSTEM_CLOCK, cache);
  let families: readonly Family[] = [];
  const report = (message: Report): void => port.postMessage(message);

  const reportSightings = (): void => {
    const sightings = scrape.takeSightings();
    if (sightings.length > 0) report({ kind: 'sightings', sightings });
  };
  const carryOut = async (order: Order): Promise<void> => {
    if (order.kind === 'answers') {
      if (cache) scrape.learn(cache.accept(order.answers));
      reportSightings();
      return;
    }
    if (order.kind === 'confirmed') {
      scrape.confirm(order.kept);
      reportSightings();
      return;
    }
    if (order.kind === 'cluster') {
      scrape.know(order.news);
      return;
    }
    if (order.kind === 'recite') {
      report({ kind: 'recited', answers: cache?.answers() ?? [] });
      scrape.reportFirstSeen();
      reportSightings();
      return;
    }
    if (order.kind === 'render') {
      const body = new TextEncoder().encode(await renderFamilies(families, order.format));
      port.postMessage({ kind: 'rendered', body } satisfies Report, [body.buffer]);
      return;
    }
    if (order.kind === 'share') {
      const collected: Collected = { families: [...families, ...statusFamilies(order.status)] };
      order.reply.postMessage(collected);
      order.reply.close();
      report({ kind: 'shared' });
      return;
    }
    const snapshot = scrape.run(order.withinMs);
    families = snapshot.families;
    report({ kind: 'scanned', at: snapshot.at, collectors: snapshot.collectors });
    const buckets = cache?.takeQuestions() ?? [];
    if (buckets.length > 0) report({ kind: 'questions', buckets });
    reportSightings();
  };
  let last = Promise.resolve();
  port.on('message', (order: Order) => {
    last = last
      .then(() => carryOut(order))
      .catch((error: unknown) => {
        const isAwaited = !['answers', 'confirmed', 'cluster'].includes(order.kind);
        if (isAwaited) report({ kind: 'failed', reason: String(error) });
      });
  });
}

if (parentPort) work(parentPort, workerData as ScannerData);
