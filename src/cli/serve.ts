import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { parseAddress } from '../address.ts';
import { SYSTEM_CLOCK } from '../clock.ts';
import { Procfs } from '../collect/procfs.ts';
import { COLLECTORS, type Status } from '../catalogue.ts';
import { UsageError, type Config, type OtlpConfig } from '../config.ts';
import type { Answer } from '../enrich/asn.ts';
import { Database } from '../enrich/database.ts';
import { classify, mayBeAsked, networkOf } from '../enrich/networks.ts';
import { openProvider } from '../enrich/provider.ts';
import { Questions } from '../enrich/questions.ts';
import type { Provider } from '../enrich/session.ts';
import { nameStorage, openStore, type Store } from '../enrich/store.ts';
import { Engine, type Page, type ScanFacts } from '../engine.ts';
import type { Failure } from '../expose/otlp.ts';
import type { Protection } from '../expose/protection.ts';
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
  const protection = await openProtection(config.web.configFile);
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
  const asking = provider && startAsking(provider, store, config, report, (answers) => engine.learn(answers));
  const engine = new Engine(
    {
      procfs: config.procfs,
      options: { ...config, seed: randomInt(2 ** 32), baselineScope: store?.commons ? 'cluster' : 'node' },
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
  const statusOf = ({ at, collectors }: ScanFacts): Status => ({
    version,
    snapshotAtSeconds: at / 1000,
    collectors,
    asn: asking?.status() ?? null,
    webConfigIsCurrent: protection?.isCurrent ?? null,
    otlp: push?.counts ?? (prepared && { exports: 0, failures: 0 }),
  });
  let sampling: NodeJS.Timeout | undefined;
  const on = COLLECTORS.filter((name) => name === 'sockets' || config.collectors[name]);
  const wholes = new WeakMap<Page, Promise<Whole>>();
  const servers = new Servers(protection?.tls ?? null);
  const failed = (reason: string): void => failures.warn('http', { reason }, 'a request failed');
  const exposition = {
    version,
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
  };
  try {
    await servers.listen(createApp(exposition), config.web.listenAddresses, failed);
    started = true;
    protection?.watch((reason) => failures.warn('web-config', { reason }, 'the web configuration stays as it was'));
    logStart(config, log, version, servers.addresses, provider, procfs.access, protection);
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

function startAsking(
  provider: Provider | Database,
  store: Store | null,
  { rules }: Config,
  report: (reason: string) => void,
  deliver: (answers: readonly Answer[]) => void,
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
  const mayAsk = ({ address }: Cidr): boolean =>
    mayBeAsked(
      networkOf(address, () => false, networks),
      asnNeverSend,
      networks,
    );
  const clock = SYSTEM_CLOCK;
  const questions = new Questions({ provider, store, deliver, report, clock, random: Math.random, mayAsk });
  return {
    ask: (buckets) => void questions.ask(buckets),
    restore: (answers) => questions.restore(answers),
    status: () => questions.status(),
    close: () => questions.close(),
  };
}

/** One line that says what runs, what it reads, who may read it, and what leaves the host. */
function logStart(
  config: Config,
  log: Log,
  version: string,
  addresses: readonly string[],
  provider: Provider | Database | null,
  access: Procfs['access'],
  protection: Protection | null,
): void {
  const asks = provider !== null && !(provider instanceof Database);
  const sent = [
    ...(asks ? ['network address of the /24 or /48 of public peers'] : []),
    ...(config.otlp ? ['the metrics by otlp'] : []),
  ];
  const authentication = protection?.authentication ?? 'none';
  const isOpen = authentication === 'none' && config.web.listenAddresses.some(({ host }) => !isLoopback(host));
  log[isOpen ? 'warn' : 'info'](
    {
      version,
      procfs: config.procfs,
      owners_through: access,
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
      ...(isOpen
        ? { warning: 'without authentication anyone who can reach the listen address can read the metrics' }
        : {}),
    },
    'peerscope started',
  );
}

function isLoopback(host: string | null): boolean {
  if (host === null) return false;
  if (host === 'localhost') return true;
  const address = parseAddress(host);
  return address !== undefined && classify(address).network === 'loopback';
}
