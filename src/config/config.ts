import { isAbsolute, join } from 'node:path';
import type { RedisServer, TlsFiles } from '../store/redis-url.ts';
import {
  environmentVariable,
  FLAGS,
  flags,
  type Flag,
  type ListenAddress,
  type OtlpCompression,
  type OtlpProtocol,
  type ConnectionSource,
} from './flags.ts';
import type { LogFormat, LogLevel } from '../common/log.ts';
import { DATABASE_FORMATS, isDatabase, type AsnProviderName } from '../common/asn-providers.ts';
import type { Rules } from '../model.ts';
import {
  isSdkDisabled,
  otelEndpoints,
  otelResource,
  otelSettings,
  unsupportedOtelVariables,
  type OtelSetting,
} from './otel-env.ts';
import { proxyFor } from './proxy.ts';
import { UsageError, deepFreeze } from '../common/errors.ts';

/** The configuration of the OTLP exporter. */
export interface OtlpConfig {
  /** The full URL, including the path of the signal. */
  readonly url: string;
  readonly protocol: OtlpProtocol;
  readonly headers: Readonly<Record<string, string>>;
  readonly compression: OtlpCompression;
  readonly intervalMs: number;
  /** At most the interval. */
  readonly timeoutMs: number;
  /** Paths of PEM files, or null. */
  readonly certificate: string | null;
  readonly clientCertificate: string | null;
  readonly clientKey: string | null;
  /** The files above that standard OpenTelemetry variables name: they are ignored if they cannot be read. */
  readonly optionalFiles: readonly string[];
  /** The URL of an HTTP proxy, or null. */
  readonly proxy: string | null;
  /** Resource attributes from the environment. */
  readonly resource: Readonly<Record<string, string>>;
}

/** The configuration of a run, validated and frozen. */
export interface Config {
  readonly web: {
    readonly listenAddresses: readonly ListenAddress[];
    /** True to listen on the sockets of `handedOver` instead. */
    readonly systemdSocket: boolean;
    readonly telemetryPath: string;
    readonly disableExporterMetrics: boolean;
    readonly enableApi: boolean;
    /** Whether authenticated users may declare what is normal. */
    readonly enableAccept: boolean;
    /** 0 means no limit. */
    readonly maxRequests: number;
    readonly configFile: string | null;
  };
  readonly scrapeBudgetMs: number;
  readonly seriesLimit: number;
  /** The metric families and labels to publish. */
  readonly published: {
    readonly families: readonly string[];
    readonly podLabel: boolean;
    readonly containerLabel: boolean;
  };
  readonly procfs: string;
  /** Null selects the platform default: procfs on Linux, else the ss or netstat command. */
  readonly source: ConnectionSource | null;
  /** The Unix socket of a running peerscope-sockets, or null. */
  readonly netlinkSocket: string | null;
  /** The variables by which systemd hands over descriptors: LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES. */
  readonly handedOver: Readonly<Record<string, string | undefined>>;
  /** True in a Kubernetes pod. */
  readonly inCluster: boolean;
  /** Null if neither a flag nor the environment names a directory. Nothing is then stored on disk. */
  readonly storagePath: string | null;
  /** Whether a flag, its environment twin or systemd chose the directory, rather than the home of the user. */
  readonly isStorageGiven: boolean;
  /** The server used instead of a directory, or null. */
  readonly storageServer: RedisServer | null;
  readonly asn: {
    readonly provider: AsnProviderName;
    readonly server: { readonly host: string; readonly port: number };
    /** Set only for mmdb and tsv, which require it. */
    readonly database: string | null;
  };
  /** Null if OTLP export is off. */
  readonly otlp: OtlpConfig | null;
  readonly log: { readonly level: LogLevel; readonly format: LogFormat };
  readonly collectors: Readonly<
    Record<'processes' | 'protocols' | 'endpoints' | 'asn' | 'first-seen' | 'netlink' | 'rdns', boolean>
  >;
  /** The Kubernetes API server to watch, or null. */
  readonly kubernetes: {
    readonly server: { readonly host: string; readonly port: number };
    readonly nodeName: string;
    readonly services: boolean;
    /** Whether annotations of pods declare what is normal. */
    readonly expects: boolean;
    /** False if only the environment indicates a cluster. */
    readonly isExplicit: boolean;
  } | null;
  /** The uid of this pod, or null if unknown. */
  readonly podUid: string | null;
  /** Milliseconds between additional scans, or null. */
  readonly sampleIntervalMs: number | null;
  readonly configFile: string | null;
  readonly rules: Rules;
  /** Why environment variables of other programs are ignored, one line each. */
  readonly ignored: readonly string[];
}

/** The rules of a run without a configuration file. */
export const EMPTY_RULES: Rules = deepFreeze({
  processes: [],
  workloads: [],
  endpointGroups: [],
  networks: [],
  asnNeverSend: [],
  expected: [],
  suspects: [],
});

/**
 * Builds the frozen Config from flags and environment. A flag overrides its environment variable. `given` holds flags
 * by name: a string, a boolean for a switch, an array if repeatable, undefined if not set. `onTerminal` is true if
 * log lines go to a terminal. Does not read the configuration file: the rules are empty. Throws UsageError for an
 * invalid value, and for a PEERSCOPE_ variable that matches no flag.
 */
export function parseConfig(
  given: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string | undefined>>,
  onTerminal = false,
): Config {
  refuseUnknownTwins(environment);

  // Other programs use the standard OpenTelemetry variables too. Therefore an invalid one is not an error but ignored,
  // as the specification requires. It is reported only if metrics are exported.
  const { name: endpoint } = flags.otlpEndpoint;
  const ownEndpoint = given[endpoint] !== undefined || environment[environmentVariable(endpoint)] !== undefined;
  const sends = (ownEndpoint || otelEndpoints(environment).length > 0) && !isSdkDisabled(environment);
  const standard = sends ? otelSettings(environment) : new Map<string, readonly OtelSetting[]>();
  const ignored: string[] = [];
  const ignore = <T>(read: () => T): T | null => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      ignored.push(error.message);
      return null;
    }
  };

  const texts = (flag: Flag): { source: string; texts: string[] } | null => {
    if (given[flag.name] !== undefined)
      return { source: `--${flag.name}`, texts: [given[flag.name]].flat().map(String) };
    const source = environmentVariable(flag.name);
    const text = environment[source];
    if (text !== undefined) return { source, texts: flag.repeatable ? text.split(',') : [text] };
    const valid = standard.get(flag.name)?.find(({ source, text }) => ignore(() => check(flag, source, text)) !== null);
    return valid ? { source: valid.source, texts: [valid.text] } : null;
  };
  const optional = <T>(flag: Flag<T>): T | null => {
    const setting = texts(flag);
    return setting && check(flag, setting.source, setting.texts.at(-1) ?? '');
  };
  const one = <T>(flag: Flag<T>): T => optional(flag) ?? check(flag, `--${flag.name}`, flag.default ?? '');
  const many = <T>(flag: Flag<T>): T[] => {
    const setting = texts(flag);
    if (!setting) return [one(flag)];
    return setting.texts.join() === '' ? [] : setting.texts.map((text) => check(flag, setting.source, text));
  };

  const endpoints = sends && !ownEndpoint ? otelEndpoints(environment) : [];
  const [standardUrl = null] = endpoints.flatMap(({ source, text, isWhole }) => {
    const url = ignore(() => check(flags.otlpEndpoint, source, text));
    return url === null ? [] : [isWhole ? text : url];
  });
  const url = optional(flags.otlpEndpoint) ?? standardUrl;
  const intervalMs = one(flags.otlpInterval);
  const otlp = {
    protocol: one(flags.otlpProtocol),
    headers: Object.fromEntries(many(flags.otlpHeaders).flat()),
    compression: one(flags.otlpCompression),
    intervalMs,
    timeoutMs: Math.min(one(flags.otlpTimeout), intervalMs),
    certificate: optional(flags.otlpCertificate),
    clientCertificate: optional(flags.otlpClientCertificate),
    clientKey: optional(flags.otlpClientKey),
    optionalFiles: [flags.otlpCertificate, flags.otlpClientCertificate, flags.otlpClientKey].flatMap(
      ({ name }) => standard.get(name)?.map(({ text }) => text) ?? [],
    ),
  };
  const isForeign = otlp.optionalFiles.includes(otlp.clientCertificate ?? otlp.clientKey ?? '');
  if (sends && isForeign && ignore(() => checkClient(otlp)) === null) {
    otlp.clientCertificate = null;
    otlp.clientKey = null;
  }
  if (sends)
    for (const { source, text, allowed } of unsupportedOtelVariables(environment))
      ignored.push(`Cannot use ${source} ${JSON.stringify(text)}: must be ${allowed}`);
  const resource = sends
    ? (ignore(() => resourceOf(environment)) ?? otelResource({ ...environment, OTEL_RESOURCE_ATTRIBUTES: '' }))
    : {};
  const proxy =
    sends && url !== null
      ? proxyFor(url, environment, (variable) => {
          ignored.push(`Cannot use ${variable}: must be an HTTP URL such as http://proxy.example:3128`);
        })
      : null;

  checkAccept(one(flags.enableAccept), {
    api: one(flags.enableApi),
    webConfigFile: optional(flags.webConfigFile),
    firstSeen: one(flags.firstSeen),
  });

  return deepFreeze({
    web: {
      listenAddresses: many(flags.listenAddress),
      systemdSocket: one(flags.systemdSocket),
      telemetryPath: one(flags.telemetryPath),
      disableExporterMetrics: one(flags.disableExporterMetrics),
      enableApi: one(flags.enableApi),
      enableAccept: one(flags.enableAccept),
      maxRequests: one(flags.maxRequests),
      configFile: optional(flags.webConfigFile),
    },
    scrapeBudgetMs: one(flags.scrapeBudget),
    seriesLimit: one(flags.seriesLimit),
    published: {
      families: many(flags.families).flat(),
      podLabel: one(flags.podLabel),
      containerLabel: one(flags.containerLabel),
    },
    procfs: one(flags.procfs),
    source: optional(flags.source),
    handedOver: {
      LISTEN_PID: environment['LISTEN_PID'],
      LISTEN_FDS: environment['LISTEN_FDS'],
      LISTEN_FDNAMES: environment['LISTEN_FDNAMES'],
    },
    netlinkSocket: checkNetlink(one(flags.netlink), optional(flags.netlinkSocket)),
    inCluster: Boolean(environment['KUBERNETES_SERVICE_HOST']),
    storageServer: withTlsFiles(optional(flags.storageUrl), {
      ca: optional(flags.storageCaFile),
      cert: optional(flags.storageCertFile),
      key: optional(flags.storageKeyFile),
    }),
    isStorageGiven: optional(flags.storagePath) !== null || Boolean(environment['STATE_DIRECTORY']),
    storagePath: optional(flags.storagePath) ?? defaultStoragePath(environment),
    asn: { ...checkDatabase(one(flags.asnProvider), optional(flags.asnDatabase)), server: one(flags.asnServer) },
    otlp: sends && url !== null ? { url, ...checkClient(otlp), proxy, resource: resource ?? {} } : null,
    ignored: [...new Set(ignored)],
    log: { level: one(flags.logLevel), format: optional(flags.logFormat) ?? (onTerminal ? 'text' : 'json') },
    collectors: {
      processes: one(flags.processes),
      protocols: one(flags.protocols),
      endpoints: one(flags.endpoints),
      asn: one(flags.asn),
      'first-seen': one(flags.firstSeen),
      netlink: one(flags.netlink),
      rdns: one(flags.rdns),
    },
    kubernetes: kubernetesOf(
      optional(flags.kubernetes),
      { services: one(flags.kubernetesServices), expects: one(flags.kubernetesExpects) },
      environment,
    ),
    podUid: /^[\w-]{1,64}$/.exec(environment['POD_UID'] ?? '')?.[0] ?? null,
    sampleIntervalMs: optional(flags.sampleInterval),
    configFile: optional(flags.configFile),
    rules: EMPTY_RULES,
  });
}

function check<T>(flag: Flag<T>, source: string, text: string): T {
  const value = flag.parse(text);
  if (value === undefined) {
    // The part of a URL before "@" may contain a password.
    const shown = flag.secret ? source : `${source} ${JSON.stringify(text.replace(/\/\/.*@/s, '//***@'))}`;
    throw new UsageError(`Cannot use ${shown}: must be ${flag.allowed}`);
  }
  return value;
}

/**
 * Kubernetes sets variables for each Service in the namespace of a pod. A Service called "peerscope" or "peerscope-a"
 * creates PEERSCOPE_PORT, PEERSCOPE_SERVICE_HOST, PEERSCOPE_A_PORT_10043_TCP_ADDR and so on.
 * https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
 */
const KUBERNETES_SERVICE = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;

function refuseUnknownTwins(environment: Readonly<Record<string, string | undefined>>): void {
  const twins = new Set(FLAGS.map(({ name }) => environmentVariable(name)));
  for (const name of Object.keys(environment)) {
    if (name.startsWith('PEERSCOPE_') && !twins.has(name) && !KUBERNETES_SERVICE.test(name)) {
      throw new UsageError(
        `Cannot use ${name}: must be the environment variable of a flag, see peerscope serve --help`,
      );
    }
  }
}

/** Only users who are known may say what is normal. */
function checkAccept(
  isOn: boolean,
  given: { readonly api: boolean; readonly webConfigFile: string | null; readonly firstSeen: boolean },
): void {
  const missing = !given.api
    ? `--${flags.enableApi.name}`
    : given.webConfigFile === null
      ? `authentication in --${flags.webConfigFile.name}`
      : given.firstSeen
        ? null
        : `--${flags.firstSeen.name}`;
  if (isOn && missing !== null) throw new UsageError(`Cannot use --${flags.enableAccept.name}: requires ${missing}`);
}

function checkNetlink(isOn: boolean, socket: string | null): string | null {
  if (isOn || socket === null) return socket;
  throw new UsageError(`Cannot use --netlink.socket ${JSON.stringify(socket)}: conflicts with --no-collector.netlink`);
}

/** Rejects a database with a network provider: a user who names a file does not expect queries to leave the host. */
function checkDatabase(
  provider: Config['asn']['provider'],
  file: string | null,
): Pick<Config['asn'], 'provider' | 'database'> {
  const isLocal = isDatabase(provider);
  if (isLocal && file === null)
    throw new UsageError(`Cannot use --asn.provider "${provider}": requires --asn.database`);
  if (!isLocal && provider !== 'none' && file !== null)
    throw new UsageError(
      `Cannot use --asn.database ${JSON.stringify(file)}: requires --asn.provider ${DATABASE_FORMATS.join(', ')} or none`,
    );
  return { provider, database: isLocal ? file : null };
}

/**
 * The kubelet sets the address of the API server in each pod. NODE_NAME comes from the downward API if a manifest
 * requests it.
 * https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
 */
function kubernetesOf(
  isOn: boolean | null,
  switches: { readonly services: boolean; readonly expects: boolean },
  environment: Environment,
): Config['kubernetes'] {
  const {
    KUBERNETES_SERVICE_HOST: host = '',
    KUBERNETES_SERVICE_PORT: digits = '',
    NODE_NAME: nodeName = '',
  } = environment;
  const port = /^\d{1,5}$/.test(digits) ? Number(digits) : 0;
  const missing =
    host === '' || port === 0 || port > 65_535
      ? 'KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must name the API server'
      : nodeName === ''
        ? 'NODE_NAME must name the node'
        : null;
  if (isOn === true && missing !== null) throw new UsageError(`Cannot use --collector.kubernetes: ${missing}`);
  if (isOn === false && switches.services)
    throw new UsageError('Cannot use --kubernetes.services: conflicts with --no-collector.kubernetes');
  if (isOn === false || missing !== null) return null;
  return { server: { host, port }, nodeName, ...switches, isExplicit: isOn === true };
}

type Environment = Readonly<Record<string, string | undefined>>;

function resourceOf(environment: Environment): Record<string, string> {
  const resource = otelResource(environment);
  if (resource) return resource;
  throw new UsageError(
    `Cannot use OTEL_RESOURCE_ATTRIBUTES ${JSON.stringify(environment['OTEL_RESOURCE_ATTRIBUTES'])}: ` +
      'must be comma-separated, percent-encoded key=value pairs',
  );
}

function checkClient<T extends Pick<OtlpConfig, 'clientCertificate' | 'clientKey'>>(otlp: T): T {
  checkPair([flags.otlpClientCertificate, otlp.clientCertificate], [flags.otlpClientKey, otlp.clientKey]);
  return otlp;
}

/** A client certificate needs its key. */
function checkPair(...settings: readonly (readonly [flag: Flag, file: string | null])[]): void {
  const given = settings.find(([, file]) => file !== null);
  const missing = settings.find(([, file]) => file === null);
  if (given && missing)
    throw new UsageError(`Cannot use --${given[0].name} ${JSON.stringify(given[1])}: requires --${missing[0].name}`);
}

function withTlsFiles(server: RedisServer | null, files: TlsFiles): RedisServer | null {
  const { storageCaFile, storageCertFile, storageKeyFile } = flags;
  checkPair([storageCertFile, files.cert], [storageKeyFile, files.key]);
  if (server?.tls) return { ...server, tls: files };
  const [name, file] = files.ca === null ? [storageCertFile.name, files.cert] : [storageCaFile.name, files.ca];
  if (file === null) return server;
  throw new UsageError(`Cannot use --${name} ${JSON.stringify(file)}: requires --storage.url with rediss://`);
}

/** systemd sets absolute paths, separated by colons. The XDG specification requires relative paths to be ignored. */
function defaultStoragePath(environment: Readonly<Record<string, string | undefined>>): string | null {
  const stateDirectory = environment['STATE_DIRECTORY']?.split(':')[0];
  if (stateDirectory) return stateDirectory;
  const stateHome = environment['XDG_STATE_HOME'];
  if (stateHome && isAbsolute(stateHome)) return join(stateHome, 'peerscope');
  const home = environment['HOME'];
  return home ? join(home, '.local/state/peerscope') : null;
}

/** Returns true if each node of a cluster would query the whois server independently. */
export function isUncoordinated({ inCluster, asn, storageServer }: Config): boolean {
  return inCluster && asn.provider === 'cymru' && storageServer === null;
}
