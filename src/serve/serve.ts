import { randomInt } from 'node:crypto';
import { cidrContains } from '../common/address.ts';
import { startAsking, type AskingContext } from '../enrich/asn/resolver.ts';
import type { Status } from '../metrics/catalogue.ts';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import { Procfs } from '../collect/procfs.ts';
import { asksUnshared, type Config } from '../config/config.ts';
import { Cluster, type ClusterChange } from '../enrich/kubernetes/cluster-cache.ts';
import { Database } from '../enrich/asn/file-database.ts';
import type { Kubernetes } from '../enrich/kubernetes/api-client.ts';
import { openProvider } from '../enrich/asn/open.ts';
import { openStore } from '../store/open.ts';
import { Engine, type ScanFacts } from './worker-client.ts';
import type { Protection } from '../web/access.ts';
import { createApp, Servers } from '../web/server.ts';
import { Listening, LISTENING_MS } from './event-subscribers.ts';
import { Repeating, type Log } from '../common/log.ts';
import type { Address, Rules } from '../model.ts';
import { Naming } from './rdns-queue.ts';
import type { Listeners, Push } from './otlp-thread.ts';
import type { RemoteName } from '../rows/remote-names.ts';
import { prepareWatch } from '../enrich/kubernetes/start.ts';
import { expositionOf } from './http-handlers.ts';
import { preparePush } from './otlp-start.ts';
import { logHashCost, logStart } from './start-line.ts';
import { UsageError } from '../common/errors.ts';
import { openSource } from '../collect/host.ts';

/** How long the first scan waits for the names of pods. */
const NAMES_MS = 2_000;

/** Runs the exporter until SIGTERM or SIGINT. Resolves with the exit code: 0 after a graceful stop, 1 when it could not go on. */
export async function serve(config: Config, log: Log, version: string): Promise<number> {
  if (config.web.listenAddresses.length === 0 && !config.otlp)
    throw new UsageError('Cannot serve: --web.listen-address is empty, and no --otlp.endpoint is named');
  const protection = await openProtection(config.web.configFile);
  // A root that cannot be read, or a command that is not there, must end the start, not the first scan.
  const source = await openSource(config.source, config.procfs);
  if (!(source instanceof Procfs)) source.read();
  const failures = new Repeating(log);
  const stop = new Stop();
  const share: Listeners['collect'] = (reply) => engine.share(reply, statusOf, config.scrapeBudgetMs);
  const prepared =
    config.otlp && (await preparePush(config.otlp, { source, version, share, failures, log, stop: stop.now }));
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
  const { configFile } = config;
  // Nothing that reads YAML is loaded in a run without.
  const file =
    configFile === null ? null : new (await import('../config/rules.ts')).RulesFile(configFile, config.rules);
  const rules = (): Rules => file?.current ?? config.rules;
  const watch = prepareWatch(config.kubernetes, { version, random: Math.random, failures, log });
  const cluster = watch && new Cluster(watch.resources);
  const deliver: AskingContext['deliver'] = (answers, unknown) => engine.learn(answers, unknown);
  const asking =
    provider &&
    startAsking(provider, store, {
      isUnshared: asksUnshared(config),
      report,
      deliver,
      cluster,
      rules,
      clock: SYSTEM_CLOCK,
      random: Math.random,
    });
  const naming = config.collectors.rdns ? await startNaming(rules, (names) => engine.name(names)) : null;
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
      asnProvider: config.asn.provider,
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
      costs: (cost) => logHashCost(log, cost),
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
    configIsCurrent: file?.isCurrent ?? null,
    webConfigIsCurrent: protection?.isCurrent ?? null,
    kubernetes: kubernetes?.status ?? [],
    store: store && { name: store.name, up: store.up, failures: store.failures },
    otlp: push?.counts ?? (prepared && { exports: 0, failures: 0 }),
  });
  const scan = (): void =>
    void engine
      .scan(config.scrapeBudgetMs)
      .catch((error: unknown) => failures.warn('scan', { reason: String(error) }, 'a scan failed'));
  const reload = (): void => {
    const reason = file ? file.reload() : 'no --config.file is named';
    if (!file || reason !== null) {
      log.warn({ reason }, 'the configuration stays as it was');
      return;
    }
    engine.adopt(file.current);
    log.info('the configuration was read again');
  };
  const listening = new Listening(engine, config.sampleIntervalMs === null ? LISTENING_MS : null, scan);
  let sampling: NodeJS.Timeout | undefined;
  const servers = new Servers(protection?.tls ?? null);
  const failed = (reason: string): void => failures.warn('http', { reason }, 'a request failed');
  const exposition = expositionOf(config, {
    engine,
    listening,
    protection,
    status: statusOf,
    isReady: () => ready,
    failed,
  });
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
    process.on('SIGHUP', reload);
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
    process.off('SIGHUP', reload);
    listening.close();
    naming?.close();
    await Promise.all([servers.close(), push?.close(), kubernetes?.close()]);
    await protection?.close();
    await asking?.close();
    await store?.close();
    await engine.close();
  }
}

/** Nothing of TLS and passwords is loaded in a run without. */
async function openProtection(file: string | null): Promise<Protection | null> {
  if (file === null) return null;
  const { Protection } = await import('../web/access.ts');
  return Protection.open(file, SYSTEM_CLOCK);
}

/** Asks the host's resolver for names, of nothing that the operator never sends. */
async function startNaming(rules: () => Rules, deliver: (names: readonly RemoteName[]) => void): Promise<Naming> {
  const { ReverseDns } = await import('../enrich/rdns.ts');
  const mayAsk = (address: Address): boolean => !rules().asnNeverSend.some((cidr) => cidrContains(cidr, address));
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
