import type { LogFormat, LogLevel } from '../common/log.ts';
import { parseAddress } from '../common/address.ts';
import { parseStorageUrl } from '../store/redis-url.ts';
import { parsePairs } from './otel-env.ts';

const ASN_PROVIDERS = ['cymru', 'cymru-dns', 'mmdb', 'tsv', 'none'] as const;
const OTLP_PROTOCOLS = ['http/json', 'http/protobuf'] as const;
const OTLP_COMPRESSIONS = ['gzip', 'none'] as const;
const SOURCES = ['procfs', 'ss', 'netstat'] as const;
const LOG_LEVELS: readonly LogLevel[] = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'];
const LOG_FORMATS: readonly LogFormat[] = ['json', 'text'];

export type AsnProvider = (typeof ASN_PROVIDERS)[number];
export type OtlpProtocol = (typeof OTLP_PROTOCOLS)[number];
export type OtlpCompression = (typeof OTLP_COMPRESSIONS)[number];
export type Source = (typeof SOURCES)[number];

/** Where the HTTP server listens; no host means every address of the machine, port 0 a free one. */
export interface ListenAddress {
  readonly host: string | null;
  readonly port: number;
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
  /** All that is allowed, where that is little. */
  readonly values?: readonly string[];
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

export const flags = {
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

function parseBoolean(text: string): boolean | undefined {
  return text === 'true' ? true : text === 'false' ? false : undefined;
}

function parsePath(text: string): string | undefined {
  return text === '' ? undefined : text;
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

function parseServer(text: string): { host: string; port: number } | undefined {
  const { host, port } = parseListenAddress(text) ?? { host: null, port: 0 };
  return host === null || port === 0 ? undefined : { host, port };
}
