import { randomInt } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { formatCidr, parseAddress } from '../address.ts';
import { SYSTEM_CLOCK } from '../clock.ts';
import { Procfs } from '../collect/procfs.ts';
import type { Status } from '../catalogue.ts';
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
import { Engine, type ScanFacts } from '../engine.ts';
import type { Failure } from '../expose/otlp.ts';
import { ownMetrics, renderFamilies, endOf, type Format } from '../expose/prometheus.ts';
import { createApp, Servers } from '../expose/server.ts';
import { statusFamilies } from '../families.ts';
import { Repeating, type Log } from '../log.ts';
import type { Listeners, Push } from '../push.ts';
import type { AsnStatus, Cidr } from '../model.ts';

/** How long the first scan waits for the names of pods. */
const NAMES_MS = 2_000;
/** Where the kubelet puts what a pod needs to speak to the API server. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Runs the exporter until SIGTERM or SIGINT. Resolves with the exit code: 0 after a graceful stop, 1 when it could not go on. */
export async function serve(config: Config, log: Log, version: string): Promise<number> {
  if (config.web.listenAddresses.length === 0 && !config.otlp)
    throw new UsageError('Cannot serve: --web.listen-address is empty, and no --otlp.endpoint is named');
  // A root that cannot be read must end the start, not the first scan.
  const procfs = new Procfs(config.procfs);
  const failures = new Repeating(log);
  const stop = new Stop();
  const share: Listeners['collect'] = (reply) => engine.share(reply, statusOf, config.scrapeBudgetMs);
  const prepared = config.otlp && (await preparePush(config.otlp, { procfs, version, share, failures, log, stop }));
  const report = (reason: string): void => failures.warn('asn', { reason }, 'asn answers are missing');
  const provider = config.collectors.asn ? await openProvider(config.asn, { clock: SYSTEM_CLOCK, report }) : null;
  const asks = provider !== null && !(provider instanceof Database);
  const store =
    asks || (provider && config.collectors['first-seen'])
      ? await openStore(config, {
          clock: SYSTEM_CLOCK,
          report: (reason) => log.warn({ reason }, 'the store of asn answers changed'),
          lacks: () =>
            void engine.recite().then(
              (answers) => asking?.restore(answers),
              () => undefined,
            ),
        })
      : null;
  const watch = prepareWatch(config, version, failures, log);
  const cluster = watch && new Cluster(watch.resources);
  const asking =
    provider && startAsking(provider, store, config, { report, deliver: (answers) => engine.learn(answers), cluster });
  const engine = new Engine(
    {
      procfs: config.procfs,
      options: {
        ...config,
        seed: randomInt(2 ** 32),
        baselineScope: store?.commons ? 'cluster' : 'node',
        ...(watch ? { cluster: watch.resources } : {}),
      },
      asksForAsns: asking !== null,
    },
    config.scrapeBudgetMs,
    {
      ask: (buckets) => asking?.ask(buckets),
      sighted: (sightings) => {
        if (store) void store.keepEarliest(sightings).then((kept) => engine.confirm(kept));
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
  const statusOf = ({ at, collectors }: ScanFacts): Status => ({
    version,
    snapshotAtSeconds: at / 1000,
    collectors,
    asn: asking?.status() ?? null,
    kubernetes: kubernetes?.status ?? [],
    otlp: push?.counts ?? (prepared && { exports: 0, failures: 0 }),
  });
  let sampling: NodeJS.Timeout | undefined;
  const exposition = {
    version,
    telemetryPath: config.web.telemetryPath,
    scrapeBudgetMs: config.scrapeBudgetMs,
    isReady: () => ready,
    failed: (reason: string) => failures.warn('http', { reason }, 'a request failed'),
    metrics: async (wanted: Format, withinMs: number): Promise<{ format: Format; body: Uint8Array }> => {
      const page = await engine.page(wanted, withinMs);
      const { format } = page;
      const own = config.web.disableExporterMetrics ? '' : await ownMetrics(format);
      const about = await renderFamilies(statusFamilies(statusOf(page)), format);
      const parts = [page.body, Buffer.from(about), Buffer.from(own), Buffer.from(endOf(format))];
      return { format, body: Buffer.concat(parts) };
    },
  };
  const servers = new Servers();
  try {
    const know = (news: ClusterChange): void => {
      engine.know(news);
      // Addresses behind Services are many, and those of pods and Services are enough here.
      if (news.resource !== 'endpointslices') cluster?.accept(news, SYSTEM_CLOCK.monotonic());
    };
    kubernetes = (await watch?.start(know)) ?? null;
    await servers.listen(createApp(exposition), config.web.listenAddresses);
    started = true;
    logStart(config, log, version, servers.addresses, provider, procfs.access, watch?.resources ?? null);
    await kubernetes?.firstNews(NAMES_MS);
    await engine
      .scan(config.scrapeBudgetMs)
      .catch((error: unknown) => failures.warn('scan', { reason: String(error) }, 'the first scan failed'));
    ready = true;
    sampling = sample(engine, config, failures);
    push = prepared?.() ?? null;
    return await stop.exitCode;
  } finally {
    if (started) log.info('stopping');
    clearInterval(sampling);
    await Promise.all([servers.close(), push?.close(), kubernetes?.close()]);
    await asking?.close();
    await store?.close();
    await engine.close();
  }
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
  { procfs, version, share, failures, log, stop }: PushNeeds,
): Promise<() => Push> {
  // Nothing of OpenTelemetry is loaded in a run that sends nothing.
  const { adviceOn, Push, settingsOf } = await import('../push.ts');
  const startedAt = SYSTEM_CLOCK.now();
  const settings = settingsOf(otlp, {
    version,
    hostname: hostname(),
    machineId: readMachineId(),
    platform: process.platform,
    origins: { exporter: startedAt, boot: procfs.bootedAt() ?? startedAt },
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
  readonly procfs: Procfs;
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

/** Scans between scrapes too, where the configuration asks for it. */
function sample(engine: Engine, config: Config, failures: Repeating): NodeJS.Timeout | undefined {
  if (config.sampleIntervalMs === null) return undefined;
  return setInterval(() => {
    engine
      .scan(config.scrapeBudgetMs)
      .catch((error: unknown) => failures.warn('scan', { reason: String(error) }, 'a scan failed'));
  }, config.sampleIntervalMs);
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
  readonly deliver: (answers: readonly Answer[]) => void;
  /** Whose addresses are not asked for; null where none is watched. */
  readonly cluster: Cluster | null;
}

function startAsking(
  provider: Provider | Database,
  store: Store | null,
  { rules }: Config,
  { report, deliver, cluster }: AskingContext,
): Asking {
  if (provider instanceof Database) {
    return {
      ask: (buckets) => void provider.ask(buckets).then(deliver),
      restore: () => Promise.resolve(),
      status: () => ({ ...provider.status(), store: store?.name ?? null, storeUp: store?.up ?? null }),
      close: () => Promise.resolve(),
    };
  }
  const { networks, asnNeverSend } = rules;
  const clock = SYSTEM_CLOCK;
  // Others of the cluster may want to know what is here.
  const mayAsk = (bucket: Cidr): boolean => {
    cluster?.begin(clock.monotonic());
    const { address } = bucket;
    const remote = networkOf(address, () => false, networks);
    return mayBeAsked(remote, asnNeverSend, networks) && !cluster?.keepsBack(address, formatCidr(bucket));
  };
  const questions = new Questions({ provider, store, deliver, report, clock, random: Math.random, mayAsk });
  return {
    ask: (buckets) => void questions.ask(buckets),
    restore: (answers) => questions.restore(answers),
    status: () => questions.status(),
    close: () => questions.close(),
  };
}

/** One line that says what runs, what it reads, and what leaves the host. */
function logStart(
  config: Config,
  log: Log,
  version: string,
  addresses: readonly string[],
  provider: Provider | Database | null,
  access: Procfs['access'],
  watched: readonly Resource[] | null,
): void {
  const asks = provider !== null && !(provider instanceof Database);
  const sent = [
    ...(asks ? ['network address of the /24 or /48 of public peers'] : []),
    ...(config.otlp ? ['the metrics by otlp'] : []),
    ...(watched ? ['the name of the node to the kubernetes api'] : []),
  ];
  log.info(
    {
      version,
      procfs: config.procfs,
      owners_through: access,
      listen: addresses.join(' '),
      storage: nameStorage(config),
      asn_provider: provider === null ? 'none' : config.asn.provider,
      ...(provider instanceof Database ? { asn_database: provider.file } : {}),
      ...(asks ? { asn_server: provider.server } : {}),
      sends: sent.join(' and ') || 'nothing',
      ...(asks ? { off: '--asn.provider=none' } : {}),
      ...(config.otlp ? { otlp_endpoint: shownUrl(config.otlp.url) } : {}),
      ...(watched ? { kubernetes: watched.join(' ') } : {}),
    },
    'peerscope started',
  );
  if (config.web.listenAddresses.some(({ host }) => !isLoopback(host)))
    log.warn('anyone who can reach the listen address can read the metrics: there is no authentication');
}

function isLoopback(host: string | null): boolean {
  if (host === null) return false;
  if (host === 'localhost') return true;
  const address = parseAddress(host);
  return address !== undefined && classify(address).network === 'loopback';
}
