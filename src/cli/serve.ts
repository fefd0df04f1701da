import { randomInt } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { cidrContains, formatCidr, parseAddress } from '../address.ts';
import { SYSTEM_CLOCK } from '../clock.ts';
import { Commands } from '../collect/commands.ts';
import type { Procfs } from '../collect/procfs.ts';
import { openSource } from '../collect/source.ts';
import { COLLECTORS, type Status } from '../catalogue.ts';
import { UsageError, type Config, type OtlpConfig } from '../config.ts';
import type { Answer } from '../enrich/asn.ts';
import { Cluster, type ClusterChange, type Resource } from '../enrich/cluster.ts';
import { Database } from '../enrich/database.ts';
import type { Kubernetes } from '../enrich/kubernetes.ts';
import { classify, mayBeAsked, networkOf } from '../enrich/networks.ts';
import { openProvider } from '../enrich/provider.ts';
import { Questions } from '../enrich/questions.ts';
import type { Provider } from '../enrich/session.ts';
import { nameStorage, openStore, type Store } from '../enrich/store.ts';
import { Engine, type Page, type ScanFacts } from '../engine.ts';
import type { Failure } from '../expose/otlp.ts';
import { markStale, renderWaiting } from '../expose/page.ts';
import type { Protection } from '../expose/protection.ts';
import { ownMetrics, renderFamilies, endOf, type Format } from '../expose/prometheus.ts';
import { createApp, Servers } from '../expose/server.ts';
import { statusFamilies } from '../families.ts';
import { Listening, LISTENING_MS } from '../listening.ts';
import { Repeating, type Log } from '../log.ts';
import type { Listeners, Push } from '../push.ts';
import type { Address, AsnStatus, Cidr } from '../model.ts';
import { Naming } from '../naming.ts';
import type { RowFormat } from '../readers.ts';
import type { Reading } from '../reading.ts';
import type { RemoteName } from '../remote-names.ts';

/** How long the first scan waits for the names of pods. */
const NAMES_MS = 2_000;
/** Where the kubelet puts what a pod needs to speak to the API server. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Runs the exporter until SIGTERM or SIGINT. Resolves with the exit code: 0 after a graceful stop, 1 when it could not go on. */
export async function serve(config: Config, log: Log, version: string): Promise<number> {
  if (config.web.listenAddresses.length === 0 && !config.otlp)
    throw new UsageError('Cannot serve: --web.listen-address is empty, and no --otlp.endpoint is named');
  const protection = await openProtection(config.web.configFile);
  // A root that cannot be read, or a command that is not there, must end the start, not the first scan.
  const source = openSource(config.source, config.procfs);
  if (source instanceof Commands) source.read();
  const failures = new Repeating(log);
  const stop = new Stop();
  const share: Listeners['collect'] = (reply) => engine.share(reply, statusOf, config.scrapeBudgetMs);
  const prepared = config.otlp && (await preparePush(config.otlp, { source, version, share, failures, log, stop }));
  const report = (reason: string): void => failures.warn('asn', { reason }, 'asn answers are missing');
  const provider = config.collectors.asn ? await openProvider(config.asn, { clock: SYSTEM_CLOCK, report }) : null;
  const asks = provider !== null && !(provider instanceof Database);
  const storeFailed = (error: unknown): void => failures.warn('store', { reason: String(error) }, 'the store failed');
  const store =
    asks || config.collectors['first-seen']
      ? await openStore(config, {
          clock: SYSTEM_CLOCK,
          report: (reason) => log.warn({ reason }, 'the store changed'),
          lacks: () =>
            void engine
              .recite()
              .then(
                (answers) => asking?.restore(answers),
                () => undefined,
              )
              .catch(storeFailed),
        })
      : null;
  const watch = prepareWatch(config, version, failures, log);
  const cluster = watch && new Cluster(watch.resources);
  const deliver: AskingContext['deliver'] = (answers, unknown) => engine.learn(answers, unknown);
  const asking = provider && startAsking(provider, store, config, { report, deliver, cluster });
  const naming = config.collectors.rdns ? await startNaming(config.rules, (names) => engine.name(names)) : null;
  const engine = new Engine(
    {
      procfs: config.procfs,
      source: config.source,
      options: {
        ...config,
        seed: randomInt(2 ** 32),
        baselineScope: store?.commons ? 'cluster' : 'node',
        ...(watch ? { cluster: watch.resources } : {}),
      },
      asksForAsns: asking !== null,
      hasApi: config.web.enableApi,
      asksForNames: naming !== null,
    },
    config.scrapeBudgetMs,
    {
      ask: (buckets) => asking?.ask(buckets),
      remotes: (addresses) => naming?.ask(addresses),
      sighted: (sightings) => {
        if (store)
          void store
            .keepEarliest(sightings)
            .then((kept) => engine.confirm(kept))
            .catch(storeFailed);
        else engine.confirm(sightings.map(({ key }) => ({ key, before: null })));
      },
      failed: (reason) => failures.warn('scan', { reason }, 'a scan failed'),
      died: (reason) => {
        log.fatal({ reason }, 'the scanning thread ended');
        stop.now(1);
      },
    },
  );
  let started = false;
  let ready = false;
  let push: Push | null = null;
  let kubernetes: Kubernetes | null = null;
  const statusOf = ({ at, collectors, malformedRows }: ScanFacts): Status => ({
    version,
    snapshotAtSeconds: at / 1000,
    collectors,
    malformedRows,
    asn: asking?.status() ?? null,
    webConfigIsCurrent: protection?.isCurrent ?? null,
    kubernetes: kubernetes?.status ?? [],
    store: store && { name: store.name, up: store.up, failures: store.failures },
    otlp: push?.counts ?? (prepared && { exports: 0, failures: 0 }),
  });
  const scan = (): void =>
    void engine
      .scan(config.scrapeBudgetMs)
      .catch((error: unknown) => failures.warn('scan', { reason: String(error) }, 'a scan failed'));
  const listening = new Listening(engine, config.sampleIntervalMs === null ? LISTENING_MS : null, scan);
  let sampling: NodeJS.Timeout | undefined;
  const on = COLLECTORS.filter((name) => name === 'sockets' || config.collectors[name]);
  const wholes = new WeakMap<Page, Promise<Whole>>();
  const servers = new Servers(protection?.tls ?? null);
  const failed = (reason: string): void => failures.warn('http', { reason }, 'a request failed');
  const exposition = {
    telemetryPath: config.web.telemetryPath,
    scrapeBudgetMs: config.scrapeBudgetMs,
    maxRequests: config.web.maxRequests,
    isReady: () => ready,
    failed,
    headers: () => protection?.headers ?? {},
    gates: protection?.gates ?? [],
    collectors: on,
    metrics: async (wanted: Format, withinMs: number, chosen: ReadonlySet<string>): Promise<Whole> => {
      const page = await engine.page(wanted, withinMs);
      const isWhole = chosen.size === on.length;
      const known = isWhole ? wholes.get(page) : undefined;
      const whole = known ?? complete(page, chosen, statusOf(page), config, failed);
      // Others are many, and rare.
      if (isWhole) wholes.set(page, whole);
      return whole;
    },
    api: config.web.enableApi
      ? {
          connections: (filters: readonly string[], format: RowFormat): Promise<Reading> =>
            engine.read(filters, format, config.scrapeBudgetMs),
          events: (filters: readonly string[]): Promise<Reading> => listening.open(filters),
        }
      : null,
    page: async (refreshes: boolean): Promise<string> => {
      const surroundings = { telemetryPath: config.web.telemetryPath, hasApi: config.web.enableApi, refreshes };
      const drawing = await engine.draw(surroundings, statusOf, config.scrapeBudgetMs);
      if (!drawing) return renderWaiting();
      return drawing.fresh ? drawing.page : markStale(drawing.page);
    },
  };
  try {
    const know = (news: ClusterChange): void => {
      engine.know(news);
      // Addresses behind Services are many, and those of pods and Services are enough here.
      if (news.resource !== 'endpointslices') cluster?.accept(news, SYSTEM_CLOCK.monotonic());
    };
    kubernetes = (await watch?.start(know)) ?? null;
    await servers.listen(createApp(exposition), config.web.listenAddresses, failed);
    started = true;
    protection?.watch(
      () => listening.close(),
      (reason) => failures.warn('web-config', { reason }, 'the web configuration stays as it was'),
    );
    const watched = watch?.resources ?? null;
    logStart(config, log, version, { addresses: servers.addresses, provider, source, protection, watched });
    await kubernetes?.firstNews(NAMES_MS);
    await engine
      .scan(config.scrapeBudgetMs)
      .catch((error: unknown) => failures.warn('scan', { reason: String(error) }, 'the first scan failed'));
    ready = true;
    if (config.sampleIntervalMs !== null) sampling = setInterval(scan, config.sampleIntervalMs);
    push = prepared?.() ?? null;
    return await stop.exitCode;
  } finally {
    if (started) log.info('stopping');
    clearInterval(sampling);
    listening.close();
    naming?.close();
    await Promise.all([servers.close(), push?.close(), kubernetes?.close()]);
    await protection?.close();
    await asking?.close();
    await store?.close();
    await engine.close();
  }
}

interface Whole {
  readonly format: Format;
  readonly body: Uint8Array;
}

/** What these collectors found in a scan, with what is told about the exporter itself; those who want all of it share the page. */
async function complete(
  { format, parts }: Page,
  chosen: ReadonlySet<string>,
  status: Status,
  { web }: Config,
  failed: (reason: string) => void,
): Promise<Whole> {
  const collectors = status.collectors.filter(({ collector }) => chosen.has(collector));
  const about = await renderFamilies(statusFamilies({ ...status, collectors }), format);
  const own = web.disableExporterMetrics
    ? ''
    : await ownMetrics(format).catch((error: unknown) => {
        failed(`Cannot render the metrics of the process: ${String(error)}`);
        return '';
      });
  const found = parts.filter(({ collector }) => collector === null || chosen.has(collector)).map(({ body }) => body);
  const end = [about, own, endOf(format)].map((text) => Buffer.from(text));
  return { format, body: Buffer.concat([...found, ...end]) };
}

/** Nothing of TLS and passwords is loaded in a run without. */
async function openProtection(file: string | null): Promise<Protection | null> {
  if (file === null) return null;
  const { Protection } = await import('../expose/protection.ts');
  return Protection.open(file, SYSTEM_CLOCK);
}

/** Decides whether a cluster is watched; `start` watches it. Nothing of it is loaded where there is none. */
function prepareWatch(
  { kubernetes: watched }: Config,
  version: string,
  failures: Repeating,
  log: Log,
): ClusterWatch | null {
  if (!watched) return null;
  // Every pod is told of the API server, and only one that is to use it has a token.
  if (!watched.isAskedFor && !existsSync(join(SERVICE_ACCOUNT, 'token'))) {
    log.info('pods are named by their cgroups: there is no token for the kubernetes api');
    return null;
  }
  const resources: readonly Resource[] = watched.services ? ['pods', 'services', 'endpointslices'] : ['pods'];
  const start = async (deliver: (news: ClusterChange) => void): Promise<Kubernetes> => {
    const { Kubernetes } = await import('../enrich/kubernetes.ts');
    return new Kubernetes(resources, {
      ...watched,
      serviceAccount: SERVICE_ACCOUNT,
      version,
      clock: SYSTEM_CLOCK,
      random: Math.random,
      deliver,
      report: (resource, reason) =>
        failures.warn(`kubernetes ${resource}`, { resource, reason }, 'a kubernetes watch failed'),
    });
  };
  return { resources, start };
}

interface ClusterWatch {
  readonly resources: readonly Resource[];
  readonly start: (deliver: (news: ClusterChange) => void) => Promise<Kubernetes>;
}

/** Reads what sending by OTLP needs; the function returned starts it. */
async function preparePush(
  otlp: OtlpConfig,
  { source, version, share, failures, log, stop }: PushNeeds,
): Promise<() => Push> {
  // Nothing of OpenTelemetry is loaded in a run that sends nothing.
  const { adviceOn, Push, settingsOf } = await import('../push.ts');
  const startedAt = SYSTEM_CLOCK.now();
  const settings = settingsOf(otlp, {
    version,
    hostname: hostname(),
    machineId: readMachineId(),
    platform: process.platform,
    origins: { exporter: startedAt, boot: (source instanceof Commands ? null : source.bootedAt()) ?? startedAt },
    phase: Math.random(),
  });
  const failed = (failure: Failure): void => {
    const advice = adviceOn(failure, otlp.protocol);
    const fields = { endpoint: shownUrl(otlp.url), reason: failure.reason, ...(advice === null ? {} : { advice }) };
    failures.warn('otlp', fields, 'an otlp export failed');
  };
  const died = (reason: string): void => {
    log.fatal({ reason }, 'the thread that sends by otlp ended');
    stop.now(1);
  };
  return () => new Push(settings, SYSTEM_CLOCK, { collect: share, failed, died });
}

interface PushNeeds {
  readonly source: Procfs | Commands;
  readonly version: string;
  readonly share: Listeners['collect'];
  readonly failures: Repeating;
  readonly log: Log;
  readonly stop: Stop;
}

function readMachineId(): string | null {
  try {
    return readFileSync('/etc/machine-id', 'utf8');
  } catch {
    return null;
  }
}

/** A URL without what may be secret: user, password and query. */
function shownUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}

/** Asks the host's resolver for names, of nothing that the operator never sends. */
async function startNaming(
  { asnNeverSend }: Config['rules'],
  deliver: (names: readonly RemoteName[]) => void,
): Promise<Naming> {
  const { ReverseDns } = await import('../enrich/rdns.ts');
  const mayAsk = (address: Address): boolean => !asnNeverSend.some((cidr) => cidrContains(cidr, address));
  return new Naming(new ReverseDns({ clock: SYSTEM_CLOCK, mayAsk }), deliver);
}

/** The end of a run: the first signal or the first fatal failure. */
class Stop {
  readonly exitCode: Promise<number>;
  now: (code: number) => void = () => undefined;

  constructor() {
    this.exitCode = new Promise((resolve) => {
      this.now = resolve;
      for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(0));
    });
  }
}

/** How the questions of the scans are answered. */
interface Asking {
  ask(buckets: readonly Cidr[]): void;
  /** Gives the store back what is known here. */
  restore(answers: readonly Answer[]): Promise<void>;
  status(): AsnStatus;
  close(): Promise<void>;
}

interface AskingContext {
  readonly report: (reason: string) => void;
  /** Takes answers, and the buckets of which nothing is known any more. */
  readonly deliver: (answers: readonly Answer[], unknown?: readonly Cidr[]) => void;
  /** Whose addresses are not asked for; null where none is watched. */
  readonly cluster: Cluster | null;
}

function startAsking(
  provider: Provider | Database,
  store: Store | null,
  config: Config,
  { report, deliver, cluster }: AskingContext,
): Asking {
  const failed = (error: unknown): void => report(String(error));
  if (provider instanceof Database) {
    return {
      ask: (buckets) =>
        void provider
          .ask(buckets)
          .then((answers) => {
            const known = new Set(answers.map(({ bucket }) => formatCidr(bucket)));
            deliver(
              answers,
              buckets.filter((bucket) => !known.has(formatCidr(bucket))),
            );
          })
          .catch(failed),
      restore: () => Promise.resolve(),
      status: () => provider.status(),
      close: () => Promise.resolve(),
    };
  }
  const { networks, asnNeverSend } = config.rules;
  const clock = SYSTEM_CLOCK;
  // Others of the cluster may want to know what is here.
  const mayAsk = (bucket: Cidr): boolean => {
    cluster?.begin(clock.monotonic());
    const { address } = bucket;
    const remote = networkOf(address, () => false, networks);
    return mayBeAsked(remote, asnNeverSend, networks) && !cluster?.keepsBack(address, formatCidr(bucket));
  };
  const isUnshared = floods(config);
  const questions = new Questions({ provider, store, deliver, report, clock, random: Math.random, mayAsk, isUnshared });
  return {
    ask: (buckets) => void questions.ask(buckets).catch(failed),
    restore: (answers) => questions.restore(answers),
    status: () => questions.status(),
    close: () => questions.close(),
  };
}

/** Whether every node of a cluster would hold sessions of its own with the whois server. */
function floods({ inCluster, asn, storageServer }: Config): boolean {
  return inCluster && asn.provider === 'cymru' && storageServer === null;
}

/** What runs. */
interface Running {
  readonly addresses: readonly string[];
  readonly provider: Provider | Database | null;
  readonly source: Procfs | Commands;
  readonly protection: Protection | null;
  /** The resources of Kubernetes that are watched. */
  readonly watched: readonly Resource[] | null;
}

/** One line that says what runs, what it reads, who may read it, and what leaves the host. */
function logStart(
  config: Config,
  log: Log,
  version: string,
  { addresses, provider, source, protection, watched }: Running,
): void {
  const asks = provider !== null && !(provider instanceof Database);
  const sent = [
    ...(asks ? ['network address of the /24 or /48 of public peers'] : []),
    ...(config.collectors.rdns ? ["addresses of remotes to the host's resolver"] : []),
    ...(config.otlp ? ['the metrics by otlp'] : []),
    ...(config.storageServer ? ['ASNs of peers and when each process met them first, to the shared store'] : []),
    ...(watched ? ['the name of the node to the kubernetes api'] : []),
  ];
  const authentication = protection?.authentication ?? 'none';
  const isOpen = authentication === 'none' && config.web.listenAddresses.some(({ host }) => !isLoopback(host));
  log[isOpen ? 'warn' : 'info'](
    {
      version,
      ...(source instanceof Commands
        ? { source: source.last, lacks: 'namespaces, containers, counters, and of processes all but pid and name' }
        : { procfs: config.procfs, owners_through: source.access }),
      listen: addresses.join(' '),
      tls: Boolean(protection?.tls),
      authentication,
      storage: nameStorage(config),
      asn_provider: provider === null ? 'none' : config.asn.provider,
      ...(provider instanceof Database ? { asn_database: provider.file } : {}),
      ...(asks ? { asn_server: provider.server } : {}),
      sends: sent.join(' and ') || 'nothing',
      ...(asks ? { off: '--asn.provider=none' } : {}),
      ...(config.otlp ? { otlp_endpoint: shownUrl(config.otlp.url) } : {}),
      ...(watched ? { kubernetes: watched.join(' ') } : {}),
      ...(isOpen
        ? { warning: 'without authentication anyone who can reach the listen address can read the metrics' }
        : {}),
    },
    'peerscope started',
  );
  if (asks && floods(config))
    log.warn(
      { advice: 'share answers by --storage.url, or use a database by --asn.provider=mmdb or tsv' },
      'the exporters of this cluster share no store: each asks the whois server once in ten minutes',
    );
}

function isLoopback(host: string | null): boolean {
  if (host === null) return false;
  if (host === 'localhost') return true;
  const address = parseAddress(host);
  return address !== undefined && classify(address).network === 'loopback';
}
