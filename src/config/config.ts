import { isAbsolute, join } from 'node:path';
import type { RedisServer } from '../store/redis-url.ts';
import {
  environmentTwin,
  FLAGS,
  flags,
  type AsnProvider,
  type Flag,
  type ListenAddress,
  type OtlpCompression,
  type OtlpProtocol,
  type Source,
} from './flags.ts';
import type { LogFormat, LogLevel } from '../common/log.ts';
import type { Rules } from '../model.ts';
import { isSdkDisabled, standardEndpoint, standardResource, standardTexts, type StandardText } from './otel-env.ts';
import { UsageError, deepFreeze } from '../common/errors.ts';

/** How metrics are sent by OTLP. */
export interface OtlpConfig {
  /** The whole of it, the path of the signal included. */
  readonly url: string;
  readonly protocol: OtlpProtocol;
  readonly headers: Readonly<Record<string, string>>;
  readonly compression: OtlpCompression;
  readonly intervalMs: number;
  /** Never longer than the interval. */
  readonly timeoutMs: number;
  /** PEM files; null for none. */
  readonly certificate: string | null;
  readonly clientCertificate: string | null;
  readonly clientKey: string | null;
  /** Attributes of the resource that the environment gives. */
  readonly resource: Readonly<Record<string, string>>;
}

/** Everything a run is told from outside, checked and frozen. */
export interface Config {
  readonly web: {
    readonly listenAddresses: readonly ListenAddress[];
    readonly telemetryPath: string;
    readonly disableExporterMetrics: boolean;
    readonly enableApi: boolean;
    /** 0 for any number. */
    readonly maxRequests: number;
    readonly configFile: string | null;
  };
  readonly scrapeBudgetMs: number;
  readonly seriesLimit: number;
  readonly procfs: string;
  /** Null leaves it to the platform: procfs on Linux, its own commands elsewhere. */
  readonly source: Source | null;
  /** Whether this runs in a pod of Kubernetes. */
  readonly inCluster: boolean;
  /** Null where neither a flag nor the environment names a folder: nothing is kept on disk then. */
  readonly storagePath: string | null;
  /** The server that stands in for the folder; null where none is named. */
  readonly storageServer: RedisServer | null;
  readonly asn: {
    readonly provider: AsnProvider;
    readonly server: { readonly host: string; readonly port: number };
    /** Null but for mmdb and tsv, which never come without. */
    readonly database: string | null;
  };
  /** Null where nothing is sent by OTLP. */
  readonly otlp: OtlpConfig | null;
  readonly log: { readonly level: LogLevel; readonly format: LogFormat };
  readonly collectors: Readonly<
    Record<'processes' | 'protocols' | 'endpoints' | 'asn' | 'first-seen' | 'rdns', boolean>
  >;
  /** The API server of the cluster that is watched; null where that is off. */
  readonly kubernetes: {
    readonly server: { readonly host: string; readonly port: number };
    readonly nodeName: string;
    readonly services: boolean;
    /** False where the environment alone says that this is a cluster. */
    readonly isAskedFor: boolean;
  } | null;
  /** The uid of the pod that this runs in; null where the environment does not tell it. */
  readonly podUid: string | null;
  /** Milliseconds between extra scans; null for none. */
  readonly sampleIntervalMs: number | null;
  readonly configFile: string | null;
  readonly rules: Rules;
}

/** The rules of a run without a configuration file. */
export const EMPTY_RULES: Rules = deepFreeze({ processes: [], endpointGroups: [], networks: [], asnNeverSend: [] });

/**
 * Reads flags and environment into one frozen Config; a flag beats its environment twin.
 * `given` holds the flags by name: a text, a boolean for a switch, texts where repeatable, undefined where not given.
 * `onTerminal` says whether log lines go to a terminal. The configuration file is not read: the rules are empty.
 * Throws UsageError for a value that is not allowed, and for a PEERSCOPE_ variable that is no flag's twin.
 */
export function parseConfig(
  given: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string | undefined>>,
  onTerminal = false,
): Config {
  refuseUnknownTwins(environment);

  // The standard variables may be meant for other programs: one that is wrong matters only where something is sent.
  const { name: endpoint } = flags.otlpEndpoint;
  const ownEndpoint = given[endpoint] !== undefined || environment[environmentTwin(endpoint)] !== undefined;
  const sends = (ownEndpoint || standardEndpoint(environment) !== undefined) && !isSdkDisabled(environment);
  const standard = sends ? standardTexts(environment) : new Map<string, StandardText>();

  const texts = (flag: Flag): { source: string; texts: string[] } | null => {
    if (given[flag.name] !== undefined)
      return { source: `--${flag.name}`, texts: [given[flag.name]].flat().map(String) };
    const source = environmentTwin(flag.name);
    const text = environment[source];
    if (text !== undefined) return { source, texts: flag.repeatable ? text.split(',') : [text] };
    const other = standard.get(flag.name);
    return other ? { source: other.source, texts: [other.text] } : null;
  };
  const optional = <T>(flag: Flag<T>): T | null => {
    const told = texts(flag);
    return told && check(flag, told.source, told.texts.at(-1) ?? '');
  };
  const one = <T>(flag: Flag<T>): T => optional(flag) ?? check(flag, `--${flag.name}`, flag.default ?? '');
  const many = <T>(flag: Flag<T>): T[] => {
    const told = texts(flag);
    if (!told) return [one(flag)];
    return told.texts.join() === '' ? [] : told.texts.map((text) => check(flag, told.source, text));
  };

  const url = optional(flags.otlpEndpoint) ?? endpointOf(environment);
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
  };

  return deepFreeze({
    web: {
      listenAddresses: many(flags.listenAddress),
      telemetryPath: one(flags.telemetryPath),
      disableExporterMetrics: one(flags.disableExporterMetrics),
      enableApi: one(flags.enableApi),
      maxRequests: one(flags.maxRequests),
      configFile: optional(flags.webConfigFile),
    },
    scrapeBudgetMs: one(flags.scrapeBudget),
    seriesLimit: one(flags.seriesLimit),
    procfs: one(flags.procfs),
    source: optional(flags.source),
    inCluster: Boolean(environment['KUBERNETES_SERVICE_HOST']),
    storageServer: optional(flags.storageUrl),
    storagePath: optional(flags.storagePath) ?? defaultStoragePath(environment),
    asn: { ...checkDatabase(one(flags.asnProvider), optional(flags.asnDatabase)), server: one(flags.asnServer) },
    otlp: sends && url !== null ? { url, ...checkClient(otlp), resource: resourceOf(environment) } : null,
    log: { level: one(flags.logLevel), format: optional(flags.logFormat) ?? (onTerminal ? 'text' : 'json') },
    collectors: {
      processes: one(flags.processes),
      protocols: one(flags.protocols),
      endpoints: one(flags.endpoints),
      asn: one(flags.asn),
      'first-seen': one(flags.asn) && one(flags.firstSeen),
      rdns: one(flags.rdns),
    },
    kubernetes: kubernetesOf(optional(flags.kubernetes), one(flags.kubernetesServices), environment),
    podUid: /^[\w-]{1,64}$/.exec(environment['POD_UID'] ?? '')?.[0] ?? null,
    sampleIntervalMs: optional(flags.sampleInterval),
    configFile: optional(flags.configFile),
    rules: EMPTY_RULES,
  });
}

function check<T>(flag: Flag<T>, source: string, text: string): T {
  const value = flag.parse(text);
  if (value === undefined) {
    // What stands before "@" in a URL may be a password.
    const shown = flag.secret ? source : `${source} ${JSON.stringify(text.replace(/\/\/.*@/s, '//***@'))}`;
    throw new UsageError(`Cannot use ${shown}: must be ${flag.allowed}`);
  }
  return value;
}

/**
 * Kubernetes gives every pod variables of each Service in its namespace, so a Service called "peerscope" or
 * "peerscope-a" makes PEERSCOPE_PORT, PEERSCOPE_SERVICE_HOST, PEERSCOPE_A_PORT_10043_TCP_ADDR and so on.
 * https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
 */
const KUBERNETES_SERVICE = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;

function refuseUnknownTwins(environment: Readonly<Record<string, string | undefined>>): void {
  const twins = new Set(FLAGS.map(({ name }) => environmentTwin(name)));
  for (const name of Object.keys(environment)) {
    if (name.startsWith('PEERSCOPE_') && !twins.has(name) && !KUBERNETES_SERVICE.test(name)) {
      throw new UsageError(`Cannot use ${name}: must be the environment twin of a flag, see peerscope serve --help`);
    }
  }
}

/** A database beside a provider that asks over the network is refused: who names a file does not mean to send anything. */
function checkDatabase(
  provider: Config['asn']['provider'],
  file: string | null,
): Pick<Config['asn'], 'provider' | 'database'> {
  const isLocal = provider === 'mmdb' || provider === 'tsv';
  if (isLocal && file === null)
    throw new UsageError(`Cannot use --asn.provider "${provider}": must come with --asn.database`);
  if (!isLocal && provider !== 'none' && file !== null)
    throw new UsageError(
      `Cannot use --asn.database ${JSON.stringify(file)}: must come with --asn.provider mmdb, tsv or none`,
    );
  return { provider, database: isLocal ? file : null };
}

/**
 * The kubelet tells every pod where the API server is; NODE_NAME comes from the downward API, where a manifest asks for it.
 * https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
 */
function kubernetesOf(isOn: boolean | null, services: boolean, environment: Environment): Config['kubernetes'] {
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
  if (isOn === false && services)
    throw new UsageError('Cannot use --kubernetes.services: must not come with --no-collector.kubernetes');
  if (isOn === false || missing !== null) return null;
  return { server: { host, port }, nodeName, services, isAskedFor: isOn === true };
}

type Environment = Readonly<Record<string, string | undefined>>;

function endpointOf(environment: Environment): string | null {
  const standard = standardEndpoint(environment);
  if (!standard || isSdkDisabled(environment)) return null;
  const url = check(flags.otlpEndpoint, standard.source, standard.text);
  return standard.isWhole ? standard.text : url;
}

function resourceOf(environment: Environment): Record<string, string> {
  const resource = standardResource(environment);
  if (resource) return resource;
  throw new UsageError(
    `Cannot use OTEL_RESOURCE_ATTRIBUTES ${JSON.stringify(environment['OTEL_RESOURCE_ATTRIBUTES'])}: ` +
      'must be key=value, percent-encoded, with commas between',
  );
}

function checkClient<T extends Pick<OtlpConfig, 'clientCertificate' | 'clientKey'>>(otlp: T): T {
  const { clientCertificate, clientKey } = otlp;
  if ((clientCertificate === null) === (clientKey === null)) return otlp;
  const [given, missing] =
    clientKey === null ? ['client-certificate', 'client-key'] : ['client-key', 'client-certificate'];
  throw new UsageError(
    `Cannot use --otlp.${given} ${JSON.stringify(clientCertificate ?? clientKey)}: must come with --otlp.${missing}`,
  );
}

/** systemd gives absolute paths, several with colons between; the XDG specification says to ignore a relative one. */
function defaultStoragePath(environment: Readonly<Record<string, string | undefined>>): string | null {
  const stateDirectory = environment['STATE_DIRECTORY']?.split(':')[0];
  if (stateDirectory) return stateDirectory;
  const stateHome = environment['XDG_STATE_HOME'];
  if (stateHome && isAbsolute(stateHome)) return join(stateHome, 'peerscope');
  const home = environment['HOME'];
  return home ? join(home, '.local/state/peerscope') : null;
}

/** Whether every node of a cluster would hold sessions of its own with the whois server. */
export function asksUnshared({ inCluster, asn, storageServer }: Config): boolean {
  return inCluster && asn.provider === 'cymru' && storageServer === null;
}
