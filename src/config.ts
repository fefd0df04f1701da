import { isAbsolute, join } from 'node:path';
import { parseAddress } from './address.ts';
import type { Rules } from './model.ts';
import {
  isSdkDisabled,
  parsePairs,
  standardEndpoint,
  standardResource,
  standardTexts,
  type StandardText,
} from './otel-environment.ts';

const ASN_PROVIDERS = ['cymru', 'cymru-dns', 'mmdb', 'tsv', 'none'] as const;
const OTLP_PROTOCOLS = ['http/json', 'http/protobuf'] as const;
const OTLP_COMPRESSIONS = ['gzip', 'none'] as const;
const SOURCES = ['procfs', 'ss', 'netstat'] as const;
const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;
const LOG_FORMATS = ['json', 'text'] as const;

/** Where the HTTP server listens; no host means every address of the machine, port 0 a free one. */
export interface ListenAddress {
  readonly host: string | null;
  readonly port: number;
}

/** How metrics are sent by OTLP. */
export interface OtlpConfig {
  /** The whole of it, the path of the signal included. */
  readonly url: string;
  readonly protocol: (typeof OTLP_PROTOCOLS)[number];
  readonly headers: Readonly<Record<string, string>>;
  readonly compression: (typeof OTLP_COMPRESSIONS)[number];
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
  readonly source: (typeof SOURCES)[number] | null;
  /** Whether this runs in a pod of Kubernetes. */
  readonly inCluster: boolean;
  /** Null where neither a flag nor the environment names a folder: nothing is kept on disk then. */
  readonly storagePath: string | null;
  /** The server that stands in for the folder; null where none is named. */
  readonly storageServer: {
    readonly tls: boolean;
    readonly host: string;
    readonly port: number;
    readonly username: string | null;
    readonly password: string | null;
    readonly database: number;
  } | null;
  readonly asn: {
    readonly provider: (typeof ASN_PROVIDERS)[number];
    readonly server: { readonly host: string; readonly port: number };
    /** Null but for mmdb and tsv, which never come without. */
    readonly database: string | null;
  };
  /** Null where nothing is sent by OTLP. */
  readonly otlp: OtlpConfig | null;
  readonly log: { readonly level: (typeof LOG_LEVELS)[number]; readonly format: (typeof LOG_FORMATS)[number] };
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

/** Wrong usage (exit code 2): the message names what was given, its value and what is allowed. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** One flag: its command line option, its environment twin, its help and its value all come from here. */
export interface Flag<T = unknown> {
  /** Without the leading dashes. */
  readonly name: string;
  /** What stands for the value in the help; null for a switch, which takes none. */
  readonly placeholder: string | null;
  /** As a user would write it; null where there is no fixed one. A switch that is "true" is turned off by --no-NAME. */
  readonly default: string | null;
  readonly description: string;
  /** Completes "must be ...". */
  readonly allowed: string;
  /** Undefined for a text that is not allowed. */
  readonly parse: (text: string) => T | undefined;
  /** May be given several times, or once with commas in the environment; a lone "" means none. */
  readonly repeatable?: true;
  /** Only `serve` takes it, not the one-shot commands. */
  readonly serveOnly?: true;
  /** The value may hold a password: no message repeats it. */
  readonly secret?: true;
}

const SWITCH = { placeholder: null, allowed: 'true or false', parse: parseBoolean };
const FILE = { placeholder: 'file', allowed: 'the path of a file', parse: parsePath };
const FOLDER = { placeholder: 'folder', allowed: 'the path of a folder', parse: parsePath };

const flags = {
  listenAddress: {
    name: 'web.listen-address',
    placeholder: 'address',
    default: ':10043',
    description: 'Where to serve HTTP, repeatable, "" for nowhere',
    allowed: 'an address such as :9100, 127.0.0.1:9100, [::1]:9100 or localhost:9100',
    parse: parseListenAddress,
    repeatable: true,
    serveOnly: true,
  },
  telemetryPath: {
    name: 'web.telemetry-path',
    placeholder: 'path',
    default: '/metrics',
    description: 'Where to serve the metrics',
    allowed: 'a path such as /metrics, outside /-/ and /api/',
    parse: parseTelemetryPath,
    serveOnly: true,
  },
  disableExporterMetrics: {
    ...SWITCH,
    name: 'web.disable-exporter-metrics',
    default: 'false',
    description: "Leave out process_* and nodejs_*, the metrics of the exporter's own process",
    serveOnly: true,
  },
  enableApi: {
    ...SWITCH,
    name: 'web.enable-api',
    default: 'false',
    description: 'Serve every connection, with its addresses, at /api/v1/connections and /api/v1/events',
    serveOnly: true,
  },
  maxRequests: {
    name: 'web.max-requests',
    placeholder: 'number',
    default: '40',
    description:
      'How many scrapes may be answered at a time, and how many other requests; more get 503. 0 for any number',
    allowed: 'a whole number up to 10000',
    parse: (text) => (/^\d{1,4}$|^10000$/.test(text) ? Number(text) : undefined),
    serveOnly: true,
  },
  webConfigFile: {
    ...FILE,
    name: 'web.config.file',
    default: null,
    description: 'YAML that turns on TLS and passwords, as the exporter toolkit of Prometheus defines it',
    serveOnly: true,
  },
  scrapeBudget: {
    name: 'scrape.budget',
    placeholder: 'duration',
    default: '5s',
    description: 'How long a scrape may wait for its scan',
    allowed: 'a duration such as 500ms, 5s or 1m, at most 1h',
    parse: parseDuration,
    serveOnly: true,
  },
  sampleInterval: {
    name: 'sample.interval',
    placeholder: 'duration',
    default: null,
    description: 'Scan so often between scrapes too, so that short connections are seen; by default never',
    allowed: 'a duration such as 500ms, 5s or 1m, at most 1h',
    parse: parseDuration,
    serveOnly: true,
  },
  seriesLimit: {
    name: 'series.limit',
    placeholder: 'number',
    default: '1000',
    description: 'The most series that one metric family may have',
    allowed: 'a whole number of at least 50',
    parse: parseSeriesLimit,
    serveOnly: true,
  },
  procfs: {
    ...FOLDER,
    name: 'path.procfs',
    default: '/proc',
    description: 'Where procfs is mounted, or a recorded tree of it lies',
  },
  source: {
    ...oneOf(SOURCES),
    name: 'source',
    placeholder: 'name',
    default: null,
    description:
      'Where connections are read, by default procfs on Linux, elsewhere ss; ss means netstat where there is no ss',
  },
  storagePath: {
    ...FOLDER,
    name: 'storage.path',
    default: null,
    description:
      'Where to keep what was learned, by default $STATE_DIRECTORY, else $XDG_STATE_HOME/peerscope, ' +
      'else ~/.local/state/peerscope',
  },
  storageUrl: {
    name: 'storage.url',
    placeholder: 'url',
    default: null,
    description: 'The Redis or Valkey server on which a cluster shares what was learned, instead of --storage.path',
    allowed: 'a URL such as redis://host:6379, redis://:password@host:6379/0 or rediss://user:password@host:6379',
    parse: parseStorageUrl,
    secret: true,
  },
  asnProvider: {
    ...oneOf(ASN_PROVIDERS),
    name: 'asn.provider',
    placeholder: 'name',
    default: 'cymru',
    description: 'Whom to ask which network operator an address belongs to',
  },
  asnServer: {
    name: 'asn.server',
    placeholder: 'address',
    default: 'whois.cymru.com:43',
    description: 'The bulk whois server of the provider cymru',
    allowed: 'a host and a port such as whois.cymru.com:43',
    parse: parseServer,
  },
  asnDatabase: {
    ...FILE,
    name: 'asn.database',
    default: null,
    description:
      'The file of the provider mmdb (such as GeoLite2-ASN.mmdb) or tsv (ip2asn-combined.tsv, plain or gzip)',
  },
  otlpEndpoint: {
    name: 'otlp.endpoint',
    placeholder: 'url',
    default: null,
    description: 'Send the metrics there by OTLP too, by default $OTEL_EXPORTER_OTLP_ENDPOINT, else nowhere',
    allowed: 'an http or https URL such as http://localhost:4318, to which /v1/metrics is added',
    parse: parseEndpoint,
    serveOnly: true,
  },
  otlpProtocol: {
    ...oneOf(OTLP_PROTOCOLS),
    name: 'otlp.protocol',
    placeholder: 'name',
    default: 'http/json',
    description: 'How to send by OTLP',
    serveOnly: true,
  },
  otlpInterval: {
    name: 'otlp.interval',
    placeholder: 'duration',
    default: '60s',
    description: 'How often to send by OTLP; the first time at a random moment of it',
    allowed: 'a duration such as 500ms, 5s or 1m, at most 1h',
    parse: parseDuration,
    serveOnly: true,
  },
  otlpTimeout: {
    name: 'otlp.timeout',
    placeholder: 'duration',
    default: '10s',
    description: 'How long one export by OTLP may take with all its tries, never longer than --otlp.interval',
    allowed: 'a duration such as 500ms, 5s or 1m, at most 1h',
    parse: parseDuration,
    serveOnly: true,
  },
  otlpHeaders: {
    name: 'otlp.headers',
    placeholder: 'name=value',
    default: null,
    description: 'HTTP headers to send by OTLP, repeatable; secrets are better kept in the environment',
    allowed: 'headers such as Authorization=Bearer%20abc, percent-encoded, with commas between',
    parse: parseHeaders,
    repeatable: true,
    serveOnly: true,
    secret: true,
  },
  otlpCompression: {
    ...oneOf(OTLP_COMPRESSIONS),
    name: 'otlp.compression',
    placeholder: 'name',
    default: 'gzip',
    description: 'How to compress what is sent by OTLP',
    serveOnly: true,
  },
  otlpCertificate: {
    ...FILE,
    name: 'otlp.certificate',
    default: null,
    description: 'PEM certificates to trust for OTLP, in place of those that Node.js trusts',
    serveOnly: true,
  },
  otlpClientCertificate: {
    ...FILE,
    name: 'otlp.client-certificate',
    default: null,
    description: 'PEM certificate to show the receiver of OTLP',
    serveOnly: true,
  },
  otlpClientKey: {
    ...FILE,
    name: 'otlp.client-key',
    default: null,
    description: 'PEM key of that certificate',
    serveOnly: true,
  },
  logLevel: {
    ...oneOf(LOG_LEVELS),
    name: 'log.level',
    placeholder: 'level',
    default: 'info',
    description: 'The least severe lines to log',
  },
  logFormat: {
    ...oneOf(LOG_FORMATS),
    name: 'log.format',
    placeholder: 'format',
    default: null,
    description: 'How to log, by default text on a terminal and json elsewhere',
  },
  configFile: {
    ...FILE,
    name: 'config.file',
    default: null,
    description: 'YAML rules that name processes, endpoints and networks',
  },
  processes: {
    ...SWITCH,
    name: 'collector.processes',
    default: 'true',
    description: 'Find the process behind each socket',
    serveOnly: true,
  },
  protocols: {
    ...SWITCH,
    name: 'collector.protocols',
    default: 'true',
    description: "Publish the kernel's counters of opened, failed and dropped connections",
    serveOnly: true,
  },
  endpoints: {
    ...SWITCH,
    name: 'collector.endpoints',
    default: 'true',
    description: 'Count connections by endpoint group',
    serveOnly: true,
  },
  asn: {
    ...SWITCH,
    name: 'collector.asn',
    default: 'true',
    description: 'Count connections by network operator',
    serveOnly: true,
  },
  firstSeen: {
    ...SWITCH,
    name: 'collector.first-seen',
    default: 'true',
    description: 'Remember when each owner first met each network operator',
    serveOnly: true,
  },
  rdns: {
    ...SWITCH,
    name: 'collector.rdns',
    default: 'false',
    description: "Name remotes on the status page and in the API, by reverse DNS from the host's own resolver",
    serveOnly: true,
  },
  kubernetes: {
    ...SWITCH,
    name: 'collector.kubernetes',
    default: null,
    description:
      'Name pods and their workloads by the Kubernetes API, by default in a pod that has a token for it and NODE_NAME',
    serveOnly: true,
  },
  kubernetesServices: {
    ...SWITCH,
    name: 'kubernetes.services',
    default: 'false',
    description:
      'Name endpoints by the Services of the cluster too, which watches all of its Services and EndpointSlices',
    serveOnly: true,
  },
} satisfies Record<string, Flag>;

/** Every flag of a Config, in the order of the help. */
export const FLAGS: readonly Flag[] = Object.values(flags);

/** The environment variable that stands for a flag: PEERSCOPE_WEB_LISTEN_ADDRESS for "web.listen-address". */
export function environmentTwin(name: string): string {
  return `PEERSCOPE_${name.replaceAll(/[.-]/g, '_').toUpperCase()}`;
}

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
    const shown = flag.secret ? source : `${source} ${JSON.stringify(text)}`;
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

function parseBoolean(text: string): boolean | undefined {
  return text === 'true' ? true : text === 'false' ? false : undefined;
}

function parsePath(text: string): string | undefined {
  return text === '' ? undefined : text;
}

function oneOf<T extends string>(names: readonly T[]): Pick<Flag<T>, 'allowed' | 'parse'> {
  return {
    allowed: `${names.slice(0, -1).join(', ')} or ${names.at(-1) ?? ''}`,
    parse: (text) => names.find((name) => name === text),
  };
}

function parseSeriesLimit(text: string): number | undefined {
  const limit = /^\d{1,15}$/.test(text) ? Number(text) : 0;
  return limit >= 50 ? limit : undefined;
}

const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

function parseDuration(text: string): number | undefined {
  const [, digits, unit = ''] = /^(\d{1,9})(ms|s|m|h)$/.exec(text) ?? [];
  const duration = Number(digits) * (MILLISECONDS[unit] ?? 0);
  return duration > 0 && duration <= 3_600_000 ? duration : undefined;
}

function parseEndpoint(text: string): string | undefined {
  if (!/^https?:\/\/[^/]/i.test(text) || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  if (!url.pathname.endsWith('/v1/metrics')) url.pathname = `${url.pathname.replace(/\/+$/, '')}/v1/metrics`;
  return url.href;
}

/** https://www.rfc-editor.org/rfc/rfc9110#section-5 */
function parseHeaders(text: string): [name: string, value: string][] | undefined {
  const headers = parsePairs(text);
  const isValid = headers?.every(
    ([name, value]) => /^[\w!#$%&'*+.^`|~-]+$/.test(name) && /^[\t\x20-\x7e]*$/.test(value),
  );
  return isValid ? headers : undefined;
}

function parseTelemetryPath(text: string): string | undefined {
  return /^(\/[\w.~-]+)+$/.test(text) && !/^\/(-|api)(\/|$)/.test(text) ? text : undefined;
}

function parseListenAddress(text: string): ListenAddress | undefined {
  const [, ipv6, name, digits] = /^(?:\[([\da-f:.]+)\]|([\w.-]*)):(\d{1,5})$/i.exec(text) ?? [];
  const port = Number(digits);
  if (!(port <= 65_535)) return undefined;
  if (name === '') return { host: null, port };
  const host = ipv6 ?? name ?? '';
  const isAddress = ipv6 !== undefined || /^[\d.]+$/.test(host);
  return isAddress && !parseAddress(host) ? undefined : { host, port };
}

function parseServer(text: string): Config['asn']['server'] | undefined {
  const { host, port } = parseListenAddress(text) ?? { host: null, port: 0 };
  return host === null || port === 0 ? undefined : { host, port };
}

/** https://www.iana.org/assignments/uri-schemes/prov/redis and rediss, the same over TLS. Reserved characters are percent-encoded. */
function parseStorageUrl(text: string): NonNullable<Config['storageServer']> | undefined {
  if (!/^rediss?:\/\//.test(text) || !URL.canParse(text)) return undefined;
  const { protocol, hostname, port, username, password, pathname, search, hash } = new URL(text);
  const [, ipv6, name] = /^(?:\[([\da-f:.]+)\]|([\w.-]+))$/i.exec(hostname) ?? [];
  const host = ipv6 ?? name;
  const [, digits = '0'] = /^\/?(\d{1,4})?$/.exec(pathname) ?? [null, ''];
  if (host === undefined || port === '0' || digits === '' || search !== '' || hash !== '') return undefined;
  if (username !== '' && password === '') return undefined;
  try {
    return {
      tls: protocol === 'rediss:',
      host,
      port: port === '' ? 6379 : Number(port),
      username: username === '' ? null : decodeURIComponent(username),
      password: password === '' ? null : decodeURIComponent(password),
      database: Number(digits),
    };
  } catch {
    return undefined;
  }
}

/** Freezes a value and all that it holds, and returns it. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}
