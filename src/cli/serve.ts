import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { parseAddress } from '../address.ts';
import { SYSTEM_CLOCK } from '../clock.ts';
import { Commands } from '../collect/commands.ts';
import type { Procfs } from '../collect/procfs.ts';
import { openSource } from '../collect/source.ts';
import type { Status } from '../catalogue.ts';
import { UsageError, type Config, type OtlpConfig } from '../config.ts';
import type { Answer } from '../enrich/asn.ts';
import { Database } from '../enrich/database.ts';
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

/** Runs the exporter until SIGTERM or SIGINT. Resolves with the exit code: 0 after a graceful stop, 1 when it could not go on. */
export async function serve(config: Config, log: Log, version: string): Promise<number> {
  if (config.web.listenAddresses.length === 0 && !config.otlp)
    throw new UsageError('Cannot serve: --web.listen-address is empty, and no --otlp.endpoint is named');
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
  const asking = provider && startAsking(provider, store, config, report, (answers) => engine.learn(answers));
  const engine = new Engine(
    {
      procfs: config.procfs,
      source: config.source,
      options: { ...config, seed: randomInt(2 ** 32), baselineScope: store?.commons ? 'cluster' : 'node' },
      asksForAsns: asking !== null,
    },
    config.scrapeBudgetMs,
    {
      ask: (buckets) => asking?.ask(buckets),
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
  const statusOf = ({ at, collectors, malformedRows }: ScanFacts): Status => ({
    version,
    snapshotAtSeconds: at / 1000,
    collectors,
    malformedRows,
    asn: asking?.status() ?? null,
    store: store && { name: store.name, up: store.up, failures: store.failures },
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
    await servers.listen(createApp(exposition), config.web.listenAddresses);
    started = true;
    logStart(config, log, version, servers.addresses, provider, source);
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
    await Promise.all([servers.close(), push?.close()]);
    await asking?.close();
    await store?.close();
    await engine.close();
  }
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

function startAsking(
  provider: Provider | Database,
  store: Store | null,
  { rules }: Config,
  report: (reason: string) => void,
  deliver: (answers: readonly Answer[]) => void,
): Asking {
  const failed = (error: unknown): void => report(String(error));
  if (provider instanceof Database) {
    return {
      ask: (buckets) => void provider.ask(buckets).then(deliver).catch(failed),
      restore: () => Promise.resolve(),
      status: () => provider.status(),
      close: () => Promise.resolve(),
    };
  }
  const { networks, asnNeverSend } = rules;
  const mayAsk = ({ address }: Cidr): boolean =>
    mayBeAsked(
      networkOf(address, () => false, networks),
      asnNeverSend,
      networks,
    );
  const clock = SYSTEM_CLOCK;
  const questions = new Questions({ provider, store, deliver, report, clock, random: Math.random, mayAsk });
  return {
    ask: (buckets) => void questions.ask(buckets).catch(failed),
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
  source: Procfs | Commands,
): void {
  const asks = provider !== null && !(provider instanceof Database);
  const sent = [
    ...(asks ? ['network address of the /24 or /48 of public peers'] : []),
    ...(config.otlp ? ['the metrics by otlp'] : []),
  ];
  log.info(
    {
      version,
      ...(source instanceof Commands
        ? { source: source.last, lacks: 'namespaces, containers, counters, and of processes all but pid and name' }
        : { procfs: config.procfs, owners_through: source.access }),
      listen: addresses.join(' '),
      storage: nameStorage(config),
      asn_provider: provider === null ? 'none' : config.asn.provider,
      ...(provider instanceof Database ? { asn_database: provider.file } : {}),
      ...(asks ? { asn_server: provider.server } : {}),
      sends: sent.join(' and ') || 'nothing',
      ...(asks ? { off: '--asn.provider=none' } : {}),
      ...(config.otlp ? { otlp_endpoint: shownUrl(config.otlp.url) } : {}),
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
