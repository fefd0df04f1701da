import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { formatAddress } from '../common/address.ts';
import { SYSTEM_CLOCK } from '../common/clock.ts';

import { readServices } from '../common/etc-services.ts';
import { openSource, type SourceName } from '../collect/host.ts';
import { openSocketSource, type SocketSourceOptions } from '../collect/netlink.ts';
import { openCache } from '../enrich/asn/cache.ts';
import type { Collected } from '../expose/otlp.ts';
import { PartWriter } from '../expose/prometheus-text.ts';
import { statusFamilies } from '../metrics/families.ts';
import { Published } from '../metrics/published.ts';
import type { AsnProviderName } from '../common/asn-providers.ts';
import type { Family } from '../model.ts';
import { RemoteNames } from '../rows/remote-names.ts';
import { Readers, type Reader } from '../rows/streams.ts';
import { Scrape, type ScrapeOptions } from '../scrape.ts';
import { contactPage, historyJson } from '../unusual/contacts.ts';
import { unusualJson } from '../unusual/summary.ts';
import type { Report } from '../unusual/evidence.ts';
import { renderPage } from '../web/page/page.ts';
import {
  handleMessages,
  notifyMain,
  reportError,
  type NotificationHandlers,
  type Notifications,
  type RequestHandlers,
} from './messages.ts';
import { connectionsLeft } from './memory.ts';
import type { Chunk } from './port-stream.ts';

/** What the worker thread is started with. */
export interface WorkerData {
  readonly procfs: string;
  readonly source: SourceName;
  readonly options: ScrapeOptions;
  /** Whether names of remotes are looked up. */
  readonly asksForNames: boolean;
  /** `none` leaves every ASN unknown. */
  readonly asnProvider: AsnProviderName;
  /** Where ended sockets and totals come from; null for nowhere. */
  readonly sockets: SocketSourceOptions | null;
}

/** How often sockets that ended are matched between scans. */
const ENDED_MS = 1_000;
/** The share of its time that a scan waits for a dump of sockets. */
const DUMP_SHARE = 0.2;

/** Scans and renders on request, in a thread of its own: the thread that serves HTTP never waits for it. */
async function work(port: MessagePort, data: WorkerData): Promise<void> {
  const cache = openCache(data.asnProvider);
  const source = await openSource(data.source, data.procfs);
  const services = readServices();
  const sockets = openSocketSource(data.sockets);
  const options = {
    ...data.options,
    services,
    expectsSockets: data.sockets !== null,
    roomLeft: connectionsLeft,
    guardsReads: true,
  };
  const scrape = new Scrape(source, options, SYSTEM_CLOCK, cache, sockets);
  const remoteNames = new RemoteNames();
  const readers = new Readers(scrape, {
    service: services,
    remote: (address) => remoteNames.of(formatAddress(address)),
  });
  const writer = new PartWriter();
  const published = new Published(options.published);
  const encoder = new TextEncoder();
  let families: readonly Family[] = [];
  /** Those in the families. */
  let reports: readonly Report[] = [];
  let scannedAt = 0;

  const sendQuestions = (): void => {
    const buckets = cache?.takeQueries() ?? [];
    if (buckets.length > 0) notifyMain(port, 'questions', buckets);
  };
  const sendHashCost = (): void => {
    const cost = scrape.host.takeHashCost();
    if (cost) notifyMain(port, 'costs', cost);
  };
  const sendRemotes = (): void => {
    const addresses = data.asksForNames ? remoteNames.wanted(scrape, scannedAt) : [];
    if (addresses.length > 0) notifyMain(port, 'remotes', addresses);
  };
  let failure: string | null | undefined;
  const sendSocketSource = (): void => {
    if (!sockets || sockets.failure === failure) return;
    failure = sockets.failure;
    notifyMain(port, 'sockets', { failure });
  };
  const sendSightings = (): void => {
    const sightings = scrape.unusual?.takeSightings() ?? [];
    if (sightings.length > 0) notifyMain(port, 'sightings', sightings);
    const records = scrape.unusual?.takeRecords() ?? [];
    if (records.length > 0) notifyMain(port, 'records', records);
  };

  const failed = (error: unknown): void => reportError(port, error);

  const requests: RequestHandlers = {
    scan: async ({ withinMs }, { afterReply }) => {
      const begun = SYSTEM_CLOCK.monotonic();
      const dump = (await sockets?.dump(withinMs * DUMP_SHARE)) ?? null;
      const scan = scrape.scan(withinMs - (SYSTEM_CLOCK.monotonic() - begun), dump);
      families = scan.families;
      reports = [...(scrape.unusual?.reports ?? [])];
      scannedAt = scan.at;
      afterReply(() => readers.scanned(scan.at));
      afterReply(sendHashCost);
      afterReply(sendSocketSource);
      afterReply(sendQuestions);
      afterReply(sendRemotes);
      afterReply(sendSightings);
      afterReply(() => void scrape.traffic?.learnNsids().catch(failed));
      const { at, collectors, malformedRows, failures } = scan;
      return { at, collectors, malformedRows, failures };
    },
    render: async ({ format }, { transfer }) => {
      scrape.unusual?.markExported(reports, SYSTEM_CLOCK.now());
      const rendered = await writer.write(published.of(families), format);
      const parts = rendered.parts.map(({ collector, text }) => ({ collector, body: encoder.encode(text) }));
      transfer(parts.map(({ body }) => body.buffer));
      return { parts, failures: rendered.failures };
    },
    draw: ({ status, options }) =>
      renderPage(
        [...families, ...statusFamilies(status)],
        options,
        (address) => remoteNames.of(address),
        scrape.unusual?.reports ?? null,
      ),
    share: ({ status, port: target }) => {
      try {
        scrape.unusual?.markExported(reports, SYSTEM_CLOCK.now());
        const collected: Collected = { families: published.of([...families, ...statusFamilies(status)]) };
        target.postMessage(collected);
      } finally {
        target.close();
      }
      return null;
    },
    read: ({ filters, format, port: target }) => {
      const reader = readers.read(filters, format);
      stream(target, reader, () => readers.close(reader), failed);
      return null;
    },
    subscribe: ({ filters, port: target }) => {
      const reader = readers.subscribe(filters, scannedAt);
      stream(target, reader, () => readers.close(reader), failed);
      return null;
    },
    unusual: () => scrape.unusual && unusualJson(scrape.unusual.reports, scrape.unusual.decisions, SYSTEM_CLOCK.now()),
    history: ({ after, limit }) => {
      if (!scrape.unusual) return null;
      const page = contactPage(scrape.unusual.workloads(), after, limit);
      const names = new Map(cache?.answers().map(({ origin: { asns, name } }) => [asns[0], name]));
      return { page: page && historyJson(page, (asn) => names.get(asn) ?? null) };
    },
    restore: (_payload, { afterReply }) => {
      afterReply(() => {
        scrape.unusual?.markAllChanged();
        sendSightings();
      });
      return cache?.answers() ?? [];
    },
  };
  const notifications: NotificationHandlers<Notifications> = {
    learn: ({ answers, unknown }) => {
      if (cache) scrape.learn(new Set([...cache.accept(answers), ...cache.forget(unknown)]));
      sendSightings();
    },
    names: (names) => remoteNames.learn(names),
    confirm: (kept) => {
      // What the store could not answer is asked again after the next scan.
      scrape.unusual?.confirm(kept, SYSTEM_CLOCK.now());
    },
    merge: ({ records, isComplete }) => {
      scrape.unusual?.merge(records, SYSTEM_CLOCK.now());
      if (isComplete) scrape.unusual?.markComplete();
    },
    decide: ({ owner, what, isAccepted, at, by }) => {
      scrape.unusual?.decide(owner, what, isAccepted, at, by);
      sendSightings();
    },
    rules: (rules) => scrape.adopt(rules),
    cluster: (change) => scrape.updateCluster(change),
  };
  handleMessages(port, requests, notifications);
  if (sockets) setInterval(() => scrape.traffic?.takeEnded(), ENDED_MS).unref();
}

/** Sends a reader's text through a port, one chunk for each message, until the port closes. A reader that fails ends the stream. */
function stream(port: MessagePort, reader: Reader, closed: () => void, failed: (error: unknown) => void): void {
  const encoder = new TextEncoder();
  port.on('message', () => {
    try {
      reader.next((text) => {
        const chunk: Chunk = text === null ? null : encoder.encode(text);
        port.postMessage(chunk, chunk ? [chunk.buffer] : []);
      });
    } catch (error) {
      failed(error);
      port.close();
    }
  });
  port.on('close', closed);
}

if (parentPort) await work(parentPort, workerData as WorkerData);
