import { randomInt } from 'node:crypto';
import { hostname } from 'node:os';
import type { HashCost } from '../collect/hash-walks.ts';
import { Procfs } from '../collect/procfs.ts';
import { openSource } from '../collect/host.ts';
import { findListeners } from '../collect/inherited-sockets.ts';
import { socketSourceOf } from '../collect/netlink.ts';
import type { Commands } from '../collect/ss-netstat.ts';
import { SYSTEM_CLOCK } from '../common/clock.ts';
import { cleanLabel } from '../common/sanitize.ts';
import { reasonOf, UsageError } from '../common/errors.ts';
import { RepeatLimiter, type Log } from '../common/log.ts';
import type { Config } from '../config/config.ts';
import type { RulesFile } from '../config/rules-file.ts';
import { checkFamilies } from '../metrics/published.ts';
import type { Status } from '../metrics/status-families.ts';
import type { Access } from '../web/access.ts';
import { PortInUseError, type ListenTarget } from '../web/listen.ts';
import { createApp, Servers } from '../web/server.ts';
import { Closers, ClosersTogether, type Closable } from './closers.ts';
import { EventSubscribers } from './event-subscribers.ts';
import { createHandlers } from './http-handlers.ts';
import type { OtlpThread } from './otlp-thread.ts';
import { ReloadSignal } from './reload-signal.ts';
import { openServices, type RunningServices } from './services.ts';
import { logHashCost, logSocketSource, logStart } from './start-line.ts';
import { openWorker, type ScanFacts, type WorkerClient } from './worker-client.ts';
import type { WorkerData } from './worker.ts';

/** How long the first scan waits for the names of pods. */
const FIRST_NAMES_MS = 2_000;

/** Runs the exporter until SIGTERM or SIGINT. Resolves with the exit code: 0 after a graceful stop, 1 after a fatal failure. */
export async function serve(given: Config, log: Log, version: string): Promise<number> {
  const targets = listenTargets(given);
  if (targets.length === 0 && !given.otlp)
    throw new UsageError('Cannot serve: --web.listen-address is empty, and --otlp.endpoint is not set');
  checkFamilies(given.published.families);
  const stop = new Stop();
  const parts = new Closers();
  const end = parts.add(new End());
  const reloads = parts.add(new ReloadSignal(SYSTEM_CLOCK));
  try {
    const rulesFile = await openRulesFile(given.configFile);
    const rules = (): Config['rules'] => rulesFile?.current ?? given.rules;
    const config = { ...given, rules: rules() };
    const failures = new RepeatLimiter(log);
    for (const reason of config.ignored) log.warn({ reason }, 'an environment variable is ignored');
    const access = parts.add(await openAccess(given.web.configFile));
    if (given.web.enableAccept && access?.identifiesClients !== true)
      throw new UsageError(
        `Cannot use --web.enable-accept: --web.config.file must have basic_auth_users, or client_auth_type RequireAndVerifyClientCert`,
      );
    const source = await openReadableSource(config);
    const startOtlp = await prepareOtlp(config, { source, version, failures, log, stop: stop.now });
    const services = parts.add(await openServices(config, { version, rules, failures, log }));
    const scanFailed = (reason: string): void => {
      // A stop ends the scan that is running.
      if (!stop.isRequested) failures.warn('scan', { reason }, 'a scan failed');
    };
    const died = (reason: string): void => {
      log.fatal({ reason }, 'the worker thread ended');
      stop.now(1);
    };
    const costs = (cost: HashCost): void => logHashCost(log, cost);
    const sockets = ({ failure }: { failure: string | null }): void => logSocketSource(log, failure);
    const callbacks = { ...services.callbacks, costs, sockets, failed: scanFailed, died };
    const worker = parts.add(openWorker(workerData(config, services), config.scrapeBudgetMs, callbacks));
    end.worker = worker;
    await services.connect(worker);

    let isReady = false;
    let otlp: OtlpThread | null = null;
    const status = ({ at, collectors, malformedRows }: ScanFacts): Status => ({
      version,
      snapshotAtSeconds: at / 1000,
      collectors,
      malformedRows,
      workerFailures: worker.failures,
      ...services.status(),
      configIsCurrent: rulesFile?.isCurrent ?? null,
      webConfigIsCurrent: access?.isCurrent ?? null,
      otlp: otlp?.counts ?? (startOtlp && { exports: 0, failures: 0 }),
    });
    const scan = (): Promise<void> =>
      worker.scan(config.scrapeBudgetMs).catch((error: unknown) => scanFailed(reasonOf(error)));
    const subscribers = new EventSubscribers(worker, config.sampleIntervalMs !== null, () => void scan());
    const failed = (reason: string): void => failures.warn('http', { reason }, 'a request failed');
    const handlers = createHandlers(config, {
      ...{ worker, subscribers, access, status, isReady: () => isReady, failed },
      decide: (decision) => services.decide(decision),
    });
    // Servers and OTLP may each need seconds to finish: they do so at the same time.
    const outputs = parts.add(new ClosersTogether());
    const listening = Servers.open(createApp(handlers), targets, access?.tls ?? null, failed);
    const servers = outputs.add(await listening.catch((error: unknown) => explainListening(error, config)));
    // Closed before the servers, because an event stream does not end by itself.
    parts.add(subscribers);
    watchAccess(access, subscribers, failures);
    parts.add(openReload(reloads, rulesFile, worker, services, log));
    logStart(config, log, version, { addresses: servers.addresses, source, access, services });

    const firstScan = services.firstNames(FIRST_NAMES_MS).then(scan);
    // A stop does not wait for a scan that the kernel blocks.
    if ((await Promise.race([firstScan, stop.exitCode])) === undefined) {
      isReady = true;
      parts.add(openSampling(config.sampleIntervalMs, scan));
      otlp = outputs.add(startOtlp?.((port) => worker.share(port, status, config.scrapeBudgetMs)) ?? null);
    }
    const exitCode = await stop.exitCode;
    log.info('stopping');
    return exitCode;
  } finally {
    await parts.close();
  }
}

/** Adds to an address in use which process has it. */
async function explainListening(error: unknown, config: Config): Promise<never> {
  if (!(error instanceof PortInUseError)) throw error;
  const { portHolder } = await import('./port-holder.ts');
  const holder = await portHolder(error.port, config);
  throw holder === null ? error : new Error(`${error.message} by ${cleanLabel(holder)}`, { cause: error });
}

/** The first signal or fatal failure ends the run. */
class Stop {
  readonly exitCode: Promise<number>;
  readonly now: (code: number) => void;
  isRequested = false;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<number>();
    this.exitCode = promise;
    this.now = (code) => {
      this.isRequested = true;
      resolve(code);
    };
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => this.now(0));
  }
}

/** Ends the process by a signal if a thread is blocked: Node.js would wait for it. */
class End implements Closable {
  worker: WorkerClient | null = null;

  close(): void {
    if (this.worker?.isBlocked !== true) return;
    process.removeAllListeners('SIGTERM');
    process.kill(process.pid, 'SIGTERM');
  }
}

/** Where to serve HTTP. */
function listenTargets({ web, handedOver }: Config): readonly ListenTarget[] {
  if (!web.systemdSocket) return web.listenAddresses;
  const found = findListeners(handedOver, process.pid);
  if (found.length > 0) return found.map((fd) => ({ fd }));
  throw new UsageError('Cannot use --web.systemd-socket: systemd passed no socket for HTTP to this process');
}

/** Loads TLS and basic authentication only for runs with --web.config.file. */
async function openAccess(file: string | null): Promise<Access | null> {
  if (file === null) return null;
  const { Access } = await import('../web/access.ts');
  return Access.open(file, SYSTEM_CLOCK);
}

/** Applies changes of the web configuration; subscribers have to authenticate again. */
function watchAccess(access: Access | null, subscribers: EventSubscribers, failures: RepeatLimiter): void {
  access?.watch(
    () => subscribers.close(),
    (reason) => failures.warn('web-config', { reason }, 'the web configuration stays as it was'),
  );
}

/** Rejects when the procfs root cannot be read or the command does not run: that ends the start, not the first scan. */
async function openReadableSource(config: Config): Promise<Procfs | Commands> {
  const source = await openSource(config.source, config.procfs);
  if (!(source instanceof Procfs)) source.read();
  return source;
}

/** Loads OpenTelemetry only for runs with --otlp.endpoint. */
async function prepareOtlp(
  { otlp }: Config,
  context: Parameters<typeof import('./otlp-thread.ts').prepareOtlp>[1],
): Promise<ReturnType<typeof import('./otlp-thread.ts').prepareOtlp> | null> {
  return otlp && (await import('./otlp-thread.ts')).prepareOtlp(otlp, context);
}

/** Loads YAML only for runs with --config.file. */
async function openRulesFile(path: string | null): Promise<RulesFile | null> {
  if (path === null) return null;
  const { RulesFile } = await import('../config/rules-file.ts');
  return new RulesFile(path, SYSTEM_CLOCK);
}

function workerData(config: Config, services: RunningServices): WorkerData {
  const sockets = socketSourceOf(config);
  return {
    procfs: config.procfs,
    source: config.source,
    options: {
      ...config,
      collectors: { ...config.collectors, netlink: sockets !== null },
      seed: randomInt(2 ** 32),
      baselineScope: services.baselineScope,
      hasStore: services.hasStore,
      node: config.kubernetes?.nodeName ?? hostname(),
      ...(services.watched ? { cluster: services.watched } : {}),
    },
    asnProvider: config.asn.provider,
    asksForNames: services.asksForNames,
    sockets,
  };
}

/** Reloads the rules when the file changes and on SIGHUP, at most once a second. */
function openReload(
  signal: ReloadSignal,
  file: RulesFile | null,
  worker: WorkerClient,
  services: RunningServices,
  log: Log,
): Closable {
  const reload = (): void => {
    const reason = file ? file.reload() : '--config.file is not set';
    if (!file || reason !== null) {
      log.warn({ reason }, 'the configuration stays as it was');
      return;
    }
    worker.notify('rules', file.current);
    void services
      .adoptRules()
      .catch((error: unknown) => log.warn({ reason: reasonOf(error) }, 'the pods could not be listed again'));
    log.info('the configuration was read again');
  };
  signal.start(reload);
  file?.watch(signal.received);
  return { close: () => file?.close() };
}

/** Scans at an interval; null leaves scans to scrapes. */
function openSampling(intervalMs: number | null, scan: () => Promise<void>): Closable | null {
  if (intervalMs === null) return null;
  const timer = setInterval(() => void scan(), intervalMs);
  return { close: () => clearInterval(timer) };
}
