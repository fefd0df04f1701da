import { ASN_PROVIDERS } from '../common/asn-providers.ts';
import type { LogFormat, LogLevel } from '../common/log.ts';
import { parseAddress } from '../common/address.ts';
import { parseStorageUrl } from '../store/redis-url.ts';
import { parsePairs } from './otel-env.ts';

const OTLP_PROTOCOLS = ['http/json', 'http/protobuf'] as const;
const OTLP_COMPRESSIONS = ['gzip', 'none'] as const;
const SOURCES = ['procfs', 'ss', 'netstat'] as const;
const LOG_LEVELS: readonly LogLevel[] = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'];
const LOG_FORMATS: readonly LogFormat[] = ['json', 'text'];

export type OtlpProtocol = (typeof OTLP_PROTOCOLS)[number];
export type OtlpCompression = (typeof OTLP_COMPRESSIONS)[number];
export type ConnectionSource = (typeof SOURCES)[number];

/** A TCP address. A null host means all addresses; port 0 means any free port. */
interface TcpAddress {
  readonly host: string | null;
  readonly port: number;
}

/** An HTTP listen address: a TCP address, or the path of a Unix socket. */
export type ListenAddress = TcpAddress | { readonly path: string };

/** A command-line flag. The option, its environment variable, help text and value are all derived from it. */
export interface Flag<T = unknown> {
  /** Without the leading dashes. */
  readonly name: string;
  /** The placeholder of the value in the help; null for a switch. */
  readonly placeholder: string | null;
  /**
   * In command-line syntax; null if there is no fixed default. A switch that defaults to "true" is disabled with
   * --no-NAME.
   */
  readonly default: string | null;
  readonly description: string;
  /** Completes "must be ...". */
  readonly allowed: string;
  /** All allowed values, if they are few. */
  readonly values?: readonly string[];
  /** Returns undefined for an invalid text. */
  readonly parse: (text: string) => T | undefined;
  /** May be repeated, or given once in the environment with commas. A single "" means none. */
  readonly repeatable?: true;
  /** Accepted only by `serve`, not by one-shot commands. */
  readonly serveOnly?: true;
  /** The value may contain a password and must not appear in messages. */
  readonly secret?: true;
}

const SWITCH = { placeholder: null, allowed: 'true or false', parse: parseBoolean };
const FILE = { placeholder: 'file', allowed: 'a file path', parse: parsePath };
const DIRECTORY = { placeholder: 'directory', allowed: 'a directory path', parse: parsePath };

export const flags = {
  listenAddress: {
    name: 'web.listen-address',
    placeholder: 'address',
    default: ':10043',
    description: 'Address on which to serve HTTP. Repeatable; "" disables HTTP',
    allowed: 'an address such as :9100, 127.0.0.1:9100, [::1]:9100, localhost:9100 or unix:/run/peerscope/http.sock',
    parse: parseListenAddress,
    repeatable: true,
    serveOnly: true,
  },
  systemdSocket: {
    ...SWITCH,
    name: 'web.systemd-socket',
    default: 'false',
    description: 'Serve HTTP on the sockets that systemd passes to the process, instead of --web.listen-address',
    serveOnly: true,
  },
  telemetryPath: {
    name: 'web.telemetry-path',
    placeholder: 'path',
    default: '/metrics',
    description: 'Path under which to expose metrics',
    allowed: 'a path such as /metrics, not under /-/ or /api/',
    parse: parseTelemetryPath,
    serveOnly: true,
  },
  disableExporterMetrics: {
    ...SWITCH,
    name: 'web.disable-exporter-metrics',
    default: 'false',
    description: 'Exclude metrics about the exporter itself (process_*, nodejs_*)',
    serveOnly: true,
  },
  enableApi: {
    ...SWITCH,
    name: 'web.enable-api',
    default: 'false',
    description:
      'Expose every connection with its addresses at /api/v1/connections and /api/v1/events, and what is unusual at /api/v1/unusual',
    serveOnly: true,
  },
  enableAccept: {
    ...SWITCH,
    name: 'web.enable-accept',
    default: 'false',
    description:
      'Let authenticated users declare what is normal, on the status page and at /api/v1/accept. Requires --web.enable-api and authentication in --web.config.file',
    serveOnly: true,
  },
  maxRequests: {
    name: 'web.max-requests',
    placeholder: 'number',
    default: '40',
    description:
      'Maximum number of concurrent scrapes, and of other concurrent requests. Further requests get status 503. 0 disables the limit',
    allowed: 'a whole number from 0 to 10000',
    parse: (text) => (/^\d{1,4}$|^10000$/.test(text) ? Number(text) : undefined),
    serveOnly: true,
  },
  webConfigFile: {
    ...FILE,
    name: 'web.config.file',
    default: null,
    description:
      'Path to a web configuration file that enables TLS or authentication, in the format of the Prometheus exporter toolkit',
    serveOnly: true,
  },
  scrapeBudget: {
    name: 'scrape.budget',
    placeholder: 'duration',
    default: '5s',
    description: 'Maximum time that a scrape waits for its scan',
    allowed: 'a duration such as 500ms, 5s or 1m, at most 1h',
    parse: parseDuration,
    serveOnly: true,
  },
  sampleInterval: {
    name: 'sample.interval',
    placeholder: 'duration',
    default: null,
    description: 'Interval of additional scans between scrapes, to see short-lived connections. Disabled by default',
    allowed: 'a duration such as 500ms, 5s or 1m, at most 1h',
    parse: parseDuration,
    serveOnly: true,
  },
  seriesLimit: {
    name: 'series.limit',
    placeholder: 'number',
    default: '1000',
    description: 'Maximum number of series per metric family',
    allowed: 'a whole number of at least 50',
    parse: parseSeriesLimit,
    serveOnly: true,
  },
  families: {
    name: 'metrics.families',
    placeholder: 'name',
    default: '*,!peerscope_process_*,!peerscope_baseline_start_timestamp_seconds',
    description:
      'Metric family to publish. Repeatable; "*" stands for any text, and "!" before a name leaves the family out. Metrics about the exporter stay unless they are left out',
    allowed:
      'comma-separated names of metric families such as peerscope_connections, peerscope_asn_* or !peerscope_processes',
    parse: parseFamilies,
    repeatable: true,
    serveOnly: true,
  },
  podLabel: {
    ...SWITCH,
    name: 'metrics.pod-label',
    default: 'true',
    description: 'Publish the label pod',
    serveOnly: true,
  },
  containerLabel: {
    ...SWITCH,
    name: 'metrics.container-label',
    default: 'true',
    description: 'Publish the label container',
    serveOnly: true,
  },
  procfs: {
    ...DIRECTORY,
    name: 'path.procfs',
    default: '/proc',
    description: 'procfs mountpoint, or the root of a recorded tree',
  },
  source: {
    ...oneOf(SOURCES),
    name: 'source',
    placeholder: 'name',
    default: null,
    description:
      'Source of connections. Defaults to procfs on Linux and to ss elsewhere; netstat is used if ss is not installed',
  },
  netlinkSocket: {
    name: 'netlink.socket',
    placeholder: 'path',
    default: null,
    description: 'Unix socket of a running peerscope-sockets, the source of bytes and ended connections',
    allowed: 'an absolute path of at most 107 bytes',
    parse: parseSocketPath,
  },
  storagePath: {
    ...DIRECTORY,
    name: 'storage.path',
    default: null,
    description:
      'Directory for persistent state. Defaults to $STATE_DIRECTORY, $XDG_STATE_HOME/peerscope or ~/.local/state/peerscope',
  },
  storageUrl: {
    name: 'storage.url',
    placeholder: 'url',
    default: null,
    description:
      'Redis or Valkey server for state shared by a cluster, also with Sentinel or Redis Cluster. Replaces --storage.path',
    allowed:
      'a URL such as redis://host:6379, redis://:password@host:6379/0, rediss://user:password@host:6379, ' +
      'redis+sentinel://host1:26379,host2:26379/mymaster/0 or redis+cluster://host1:6379,host2:6379',
    parse: parseStorageUrl,
    secret: true,
  },
  storageCaFile: {
    ...FILE,
    name: 'storage.ca-file',
    default: null,
    description: 'Path to trusted PEM certificates for --storage.url. Replaces the certificates that Node.js trusts',
  },
  storageCertFile: {
    ...FILE,
    name: 'storage.cert-file',
    default: null,
    description: 'Path to the PEM client certificate for --storage.url',
  },
  storageKeyFile: {
    ...FILE,
    name: 'storage.key-file',
    default: null,
    description: 'Path to the PEM key of the client certificate for --storage.url',
  },
  asnProvider: {
    ...oneOf(ASN_PROVIDERS),
    name: 'asn.provider',
    placeholder: 'name',
    default: 'cymru',
    description: 'Provider that maps addresses to ASNs',
  },
  asnServer: {
    name: 'asn.server',
    placeholder: 'address',
    default: 'whois.cymru.com:43',
    description: 'Bulk whois server of the cymru provider',
    allowed: 'a host and port such as whois.cymru.com:43',
    parse: parseServer,
  },
  asnDatabase: {
    ...FILE,
    name: 'asn.database',
    default: null,
    description:
      'Database file of the mmdb provider (such as GeoLite2-ASN.mmdb) or the tsv provider (ip2asn-combined.tsv, plain or gzip)',
  },
  otlpEndpoint: {
    name: 'otlp.endpoint',
    placeholder: 'url',
    default: null,
    description:
      'OTLP endpoint to export metrics to. Defaults to $OTEL_EXPORTER_OTLP_ENDPOINT; disabled if neither is set',
    allowed: 'an http or https URL such as http://localhost:4318; /v1/metrics is appended',
    parse: parseEndpoint,
    serveOnly: true,
  },
  otlpProtocol: {
    ...oneOf(OTLP_PROTOCOLS),
    name: 'otlp.protocol',
    placeholder: 'name',
    default: 'http/json',
    description: 'OTLP transport protocol',
    serveOnly: true,
  },
  otlpInterval: {
    name: 'otlp.interval',
    placeholder: 'duration',
    default: '60s',
    description: 'Interval between OTLP exports. The first export starts after a random part of the interval',
    allowed: 'a duration such as 500ms, 5s or 1m, at most 1h',
    parse: parseDuration,
    serveOnly: true,
  },
  otlpTimeout: {
    name: 'otlp.timeout',
    placeholder: 'duration',
    default: '10s',
    description: 'Timeout of an OTLP export including retries, capped at --otlp.interval',
    allowed: 'a duration such as 500ms, 5s or 1m, at most 1h',
    parse: parseDuration,
    serveOnly: true,
  },
  otlpHeaders: {
    name: 'otlp.headers',
    placeholder: 'name=value',
    default: null,
    description: 'HTTP headers of OTLP requests. Repeatable; pass secrets in the environment',
    allowed: 'percent-encoded, comma-separated headers such as Authorization=Bearer%20abc',
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
    description: 'Compression of OTLP requests',
    serveOnly: true,
  },
  otlpCertificate: {
    ...FILE,
    name: 'otlp.certificate',
    default: null,
    description: 'Path to trusted PEM certificates for OTLP. Replaces the certificates that Node.js trusts',
    serveOnly: true,
  },
  otlpClientCertificate: {
    ...FILE,
    name: 'otlp.client-certificate',
    default: null,
    description: 'Path to the PEM client certificate for OTLP',
    serveOnly: true,
  },
  otlpClientKey: {
    ...FILE,
    name: 'otlp.client-key',
    default: null,
    description: 'Path to the PEM key of the OTLP client certificate',
    serveOnly: true,
  },
  logLevel: {
    ...oneOf(LOG_LEVELS),
    name: 'log.level',
    placeholder: 'level',
    default: 'info',
    description: 'Only log messages with the given severity or above',
  },
  logFormat: {
    ...oneOf(LOG_FORMATS),
    name: 'log.format',
    placeholder: 'format',
    default: null,
    description: 'Output format of log messages. Defaults to text on a terminal and to json elsewhere',
  },
  configFile: {
    ...FILE,
    name: 'config.file',
    default: null,
    description: 'Path to a YAML file with rules that name processes, endpoints and networks',
  },
  processes: {
    ...SWITCH,
    name: 'collector.processes',
    default: 'true',
    description: 'Enable the processes collector: attribute sockets to processes',
    serveOnly: true,
  },
  protocols: {
    ...SWITCH,
    name: 'collector.protocols',
    default: 'true',
    description: 'Enable the protocols collector: kernel counters of opened, failed and dropped connections',
    serveOnly: true,
  },
  endpoints: {
    ...SWITCH,
    name: 'collector.endpoints',
    default: 'true',
    description: 'Enable the endpoints collector: connections by endpoint group',
    serveOnly: true,
  },
  asn: {
    ...SWITCH,
    name: 'collector.asn',
    default: 'true',
    description: 'Enable the asn collector: connections by network operator',
    serveOnly: true,
  },
  firstSeen: {
    ...SWITCH,
    name: 'collector.first-seen',
    default: 'true',
    description: 'Enable the first-seen collector: what each workload usually does, and what is unusual for it',
    serveOnly: true,
  },
  rdns: {
    ...SWITCH,
    name: 'collector.rdns',
    default: 'false',
    description:
      "Enable the rdns collector: reverse DNS names on the status page and in the API, from the host's own resolver",
    serveOnly: true,
  },
  netlink: {
    ...SWITCH,
    name: 'collector.netlink',
    default: 'true',
    description: 'Enable the netlink collector: bytes, round-trip times and ended connections',
  },
  kubernetes: {
    ...SWITCH,
    name: 'collector.kubernetes',
    default: null,
    description:
      'Enable the kubernetes collector: pod and workload names from the Kubernetes API. Enabled by default in a pod with NODE_NAME and a service account token',
    serveOnly: true,
  },
  kubernetesServices: {
    ...SWITCH,
    name: 'kubernetes.services',
    default: 'false',
    description: 'Name endpoints by Kubernetes Services. Watches all Services and EndpointSlices of the cluster',
    serveOnly: true,
  },
  kubernetesExpects: {
    ...SWITCH,
    name: 'kubernetes.expects',
    default: 'true',
    description: 'Read from the annotation peerscope.dev/expects of pods what is normal for their workload',
    serveOnly: true,
  },
} satisfies Record<string, Flag>;

/** All flags, in the order of the help. */
export const FLAGS: readonly Flag[] = Object.values(flags);

/** Returns the environment variable of a flag: PEERSCOPE_WEB_LISTEN_ADDRESS for "web.listen-address". */
export function environmentVariable(name: string): string {
  return `PEERSCOPE_${name.replaceAll(/[.-]/g, '_').toUpperCase()}`;
}

function parseBoolean(text: string): boolean | undefined {
  return text === 'true' ? true : text === 'false' ? false : undefined;
}

function parsePath(text: string): string | undefined {
  return text === '' ? undefined : text;
}

/** The kernel allows 108 bytes with the terminating zero: https://man7.org/linux/man-pages/man7/unix.7.html */
function parseSocketPath(text: string): string | undefined {
  return /^\/./.test(text) && Buffer.byteLength(text) <= 107 ? text : undefined;
}

function oneOf<T extends string>(names: readonly T[]): Pick<Flag<T>, 'allowed' | 'values' | 'parse'> {
  return {
    values: names,
    allowed: `${names.slice(0, -1).join(', ')} or ${names.at(-1) ?? ''}`,
    parse: (text) => names.find((name) => name === text),
  };
}

function parseSeriesLimit(text: string): number | undefined {
  const limit = /^\d{1,15}$/.test(text) ? Number(text) : 0;
  return limit >= 50 ? limit : undefined;
}

function parseFamilies(text: string): string[] | undefined {
  const names = text.split(',').map((name) => name.trim());
  return names.every((name) => /^!?[\w*]+$/.test(name)) ? names : undefined;
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
  if (!text.startsWith('unix:')) return parseTcpAddress(text);
  const path = parseSocketPath(text.slice('unix:'.length));
  return path === undefined ? undefined : { path };
}

function parseTcpAddress(text: string): TcpAddress | undefined {
  const [, ipv6, name, digits] = /^(?:\[([\da-f:.]+)\]|([\w.-]*)):(\d{1,5})$/i.exec(text) ?? [];
  const port = Number(digits);
  if (!(port <= 65_535)) return undefined;
  if (name === '') return { host: null, port };
  const host = ipv6 ?? name ?? '';
  const isAddress = ipv6 !== undefined || /^[\d.]+$/.test(host);
  return isAddress && !parseAddress(host) ? undefined : { host, port };
}

function parseServer(text: string): { host: string; port: number } | undefined {
  const { host, port } = parseTcpAddress(text) ?? { host: null, port: 0 };
  return host === null || port === 0 ? undefined : { host, port };
}
