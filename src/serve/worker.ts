import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import { formatAddress } from '../common/address.ts';
import type { Collector, CollectorRun, Status } from '../metrics/catalogue.ts';
import type { HashCost } from '../collect/hash-walks.ts';
import { openCache, type Answer } from '../enrich/asn/cache.ts';
import type { ClusterChange } from '../enrich/kubernetes/cluster-cache.ts';
import type { ProviderChoice } from '../enrich/asn/open.ts';
import type { Collected } from '../expose/otlp.ts';
import { renderPage, type Surroundings } from '../web/page/page.ts';
import { PartWriter, type Format } from '../expose/prometheus-text.ts';
import { statusFamilies } from '../metrics/families.ts';
import type { Address, Cidr, Family, Rules } from '../model.ts';
import { RemoteNames, type RemoteName } from '../rows/remote-names.ts';
import { Readers, type Reader, type RowFormat } from '../rows/streams.ts';
import type { Piece } from './port-stream.ts';
import { Scrape, type ScrapeOptions } from '../scrape.ts';
import { readServices } from '../common/etc-services.ts';
import { openSource, type SourceName } from '../collect/host.ts';
import type { Kept, Sighting } from '../store/contract.ts';

/** What the worker thread is started with. */
export interface ScannerData {
  readonly procfs: string;
  readonly source: SourceName;
  readonly options: ScrapeOptions;
  /** Whether the names of remotes are to be found out. */
  readonly asksForNames: boolean;
  /** Whether rows and events are asked for. */
  readonly hasApi: boolean;
  /** Who answers for ASNs; none keeps every ASN unknown. */
  readonly asnProvider: ProviderChoice['provider'];
}

/** What the main thread says. */
export type Order =
  | { readonly kind: 'scan'; readonly withinMs: number }
  | { readonly kind: 'render'; readonly format: Format }
  | { readonly kind: 'draw'; readonly status: Status; readonly surroundings: Surroundings }
  | { readonly kind: 'share'; readonly status: Status; readonly reply: MessagePort }
  | { readonly kind: 'answers'; readonly answers: readonly Answer[]; readonly unknown: readonly Cidr[] }
  | {
      readonly kind: 'read';
      readonly filters: readonly string[];
      readonly format: RowFormat;
      readonly port: MessagePort;
    }
  | { readonly kind: 'listen'; readonly filters: readonly string[]; readonly port: MessagePort }
  | { readonly kind: 'named'; readonly names: readonly RemoteName[] }
  | { readonly kind: 'confirmed'; readonly kept: readonly Kept[] }
  | { readonly kind: 'rules'; readonly rules: Rules }
  | { readonly kind: 'cluster'; readonly news: ClusterChange }
  | { readonly kind: 'recite' };

/** What the worker thread says: one scanned, rendered, drawn, shared, opened (a reader) or recited for each order to do so, or failed, in order. */
export type Report =
  | {
      readonly kind: 'scanned';
      readonly at: number;
      readonly collectors: readonly CollectorRun[];
      readonly malformedRows: ReadonlyMap<string, number>;
      readonly failures: readonly string[];
    }
  | {
      readonly kind: 'rendered';
      readonly parts: readonly PagePart[];
      readonly failures: readonly { readonly collector: Collector; readonly reason: string }[];
    }
  | { readonly kind: 'drawn'; readonly page: string }
  | { readonly kind: 'shared' }
  | { readonly kind: 'opened' }
  | { readonly kind: 'recited'; readonly answers: readonly Answer[] }
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'remotes'; readonly addresses: readonly Address[] }
  | { readonly kind: 'costs'; readonly cost: HashCost }
  | { readonly kind: 'questions'; readonly buckets: readonly Cidr[] }
  | { readonly kind: 'sightings'; readonly sightings: readonly Sighting[] };

/** Families in a row as bytes of text; without a collector they go with those of every collector. */
export interface PagePart {
  readonly collector: Collector | null;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Scans and renders as it is told, in a thread of its own: nothing that takes long runs where HTTP waits. */
async function work(port: MessagePort, data: ScannerData): Promise<void> {
  const cache = openCache(data.asnProvider);
  const source = await openSource(data.source, data.procfs);
  const scrape = new Scrape(source, data.options, SYSTEM_CLOCK, cache);
  const remoteNames = new RemoteNames();
  const readers = new Readers(scrape, {
    service: data.hasApi ? readServices() : () => null,
    remote: (address) => remoteNames.of(formatAddress(address)),
  });
  const writer = new PartWriter();
  let families: readonly Family[] = [];
  let scannedAt = 0;
  const report = (message: Report): void => port.postMessage(message);

  const reportSightings = (): void => {
    const sightings = scrape.takeSightings();
    if (sightings.length > 0) report({ kind: 'sightings', sightings });
  };
  const carryOut = async (order: Order): Promise<void> => {
    if (order.kind === 'answers') {
      if (cache) scrape.learn(new Set([...cache.accept(order.answers), ...cache.forget(order.unknown)]));
      reportSightings();
      return;
    }
    if (order.kind === 'named') {
      remoteNames.learn(order.names);
      return;
    }
    if (order.kind === 'confirmed') {
      scrape.confirm(order.kept);
      reportSightings();
      return;
    }
    if (order.kind === 'rules') {
      scrape.adopt(order.rules);
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
      const rendered = await writer.write(families, order.format);
      const encoder = new TextEncoder();
      const parts = rendered.parts.map(({ collector, text }) => ({ collector, body: encoder.encode(text) }));
      const report = { kind: 'rendered', parts, failures: rendered.failures } satisfies Report;
      port.postMessage(
        report,
        parts.map(({ body }) => body.buffer),
      );
      return;
    }
    if (order.kind === 'draw') {
      const page = renderPage([...families, ...statusFamilies(order.status)], order.surroundings, (address) =>
        remoteNames.of(address),
      );
      report({ kind: 'drawn', page });
      return;
    }
    if (order.kind === 'share') {
      const collected: Collected = { families: [...families, ...statusFamilies(order.status)] };
      order.reply.postMessage(collected);
      order.reply.close();
      report({ kind: 'shared' });
      return;
    }
    if (order.kind === 'read' || order.kind === 'listen') {
      const reader =
        order.kind === 'read' ? readers.read(order.filters, order.format) : readers.listen(order.filters, scannedAt);
      serve(order.port, reader, () => readers.leave(reader));
      report({ kind: 'opened' });
      return;
    }
    const snapshot = scrape.run(order.withinMs);
    families = snapshot.families;
    const { at, collectors, malformedRows, failures } = snapshot;
    scannedAt = at;
    readers.scanned(at);
    report({ kind: 'scanned', at, collectors, malformedRows, failures });
    const cost = scrape.host.takeHashCost();
    if (cost) report({ kind: 'costs', cost });
    const buckets = cache?.takeQuestions() ?? [];
    if (buckets.length > 0) report({ kind: 'questions', buckets });
    const addresses = data.asksForNames ? remoteNames.wanted(scrape, snapshot.at) : [];
    if (addresses.length > 0) report({ kind: 'remotes', addresses });
    reportSightings();
  };
  let last = Promise.resolve();
  port.on('message', (order: Order) => {
    last = last
      .then(() => carryOut(order))
      .catch((error: unknown) => {
        const isAwaited = !['answers', 'confirmed', 'named', 'cluster', 'rules'].includes(order.kind);
        if (isAwaited) report({ kind: 'failed', reason: String(error) });
      });
  });
}

/** Gives a reader what it asks for through a port, a piece for each message, until that closes. */
function serve(port: MessagePort, reader: Reader, left: () => void): void {
  const encoder = new TextEncoder();
  port.on('message', () => {
    reader.next((text) => {
      const piece: Piece = text === null ? null : encoder.encode(text);
      port.postMessage(piece, piece ? [piece.buffer] : []);
    });
  });
  port.on('close', left);
}

if (parentPort) await work(parentPort, workerData as ScannerData);
