import { createPrivateKey, X509Certificate } from 'node:crypto';
import { dirname, resolve } from 'node:path';
import { createSecureContext, type SecureVersion } from 'node:tls';
import { z } from 'zod';
import { reasonOf } from '../common/errors.ts';
import { deepFreeze } from '../common/errors.ts';
import { mapping, readNamedFile, readYaml, refusal, validate, type YamlFile } from '../config/yaml.ts';

const CLIENT_AUTH_TYPES = [
  'NoClientCert',
  'RequestClientCert',
  'RequireAnyClientCert',
  'VerifyClientCertIfGiven',
  'RequireAndVerifyClientCert',
] as const;

/** The client certificates that are required, by the names of Go's crypto/tls. */
export type ClientAuth = (typeof CLIENT_AUTH_TYPES)[number];

/** The TLS settings: PEM texts, and versions as Node.js names them. */
export interface TlsConfig {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | null;
  readonly clientAuth: ClientAuth;
  readonly minVersion: SecureVersion;
  readonly maxVersion: SecureVersion;
}

/** The content of --web.config.file. */
export interface WebConfig {
  /** Null is plain HTTP. */
  readonly tls: TlsConfig | null;
  /** Bcrypt hashes by user; without any, no password is required. */
  readonly users: ReadonlyMap<string, string>;
  readonly headers: Readonly<Record<string, string>>;
  /** Every file that was read: the configuration and the PEM files. */
  readonly files: readonly string[];
}

/**
 * Reads a web configuration as defined by exporter-toolkit, and its PEM files, relative to its folder.
 * Throws UsageError when it cannot be read or is invalid: one line for each problem, without secret values.
 * https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
 */
export function readWebConfig(path: string): WebConfig {
  return readYaml(path, WHAT, (text) => parseWebConfig(text, path));
}

/** Reads the text of the file at `path`, as `readWebConfig` does. */
export function parseWebConfig(text: string, path: string): WebConfig {
  const origin: YamlFile = { path, what: WHAT, isSecret };
  const file = validate(WEB_CONFIG, text, origin);
  const section = presentIn(file.tls_server_config ?? {});
  const files = [section.cert_file, section.key_file, section.client_ca_file].filter((name) => name !== undefined);
  return {
    tls: Object.keys(section).length === 0 ? null : deepFreeze(readTls(section, origin)),
    users: new Map(Object.entries(file.basic_auth_users ?? {})),
    headers: deepFreeze(presentIn({ ...file.http_server_config?.headers })),
    files: [path, ...files.map((name) => resolve(dirname(path), name))],
  };
}

const WHAT = 'web configuration';

type Present<T> = { [Key in keyof T]?: Exclude<T[Key], null | undefined> };

/** The keys of a section that are not blank and not ignored. */
function presentIn<T extends object>(section: T): Present<T> {
  const isPresent = ([key, value]: [string, unknown]): boolean =>
    value !== null && value !== undefined && !IGNORED.has(key);
  return Object.fromEntries(Object.entries(section).filter(isPresent)) as Present<T>;
}

/** Accepted keys without effect. */
const IGNORED: ReadonlySet<string> = new Set([
  'client_allowed_sans',
  'cipher_suites',
  'curve_preferences',
  'prefer_server_cipher_suites',
]);

/** Password hashes and the private key are secret. */
function isSecret([section, key]: readonly PropertyKey[]): boolean {
  return section === 'basic_auth_users' || (section === 'tls_server_config' && key === 'key');
}

const TEXT = 'must be a string';
const text = orBlank(z.string(TEXT));

const VERSIONS: Readonly<Record<string, SecureVersion>> = { TLS12: 'TLSv1.2', TLS13: 'TLSv1.3' };
const version = z.enum(Object.keys(VERSIONS), 'must be TLS12 or TLS13').nullish();

/** exporter-toolkit treats blank values as missing. */
function orBlank<Schema extends z.ZodType>(schema: Schema) {
  return z.preprocess((value) => (value === null || value === '' ? undefined : value), schema.optional()).optional();
}

const isEmptyList = (value: unknown): boolean => Array.isArray(value) && value.length === 0;
const CIPHERS = { reason: 'the defaults of OpenSSL are used', isHarmless: isEmptyList };
const tlsSection = mapping(
  {
    cert_file: text,
    key_file: text,
    cert: text,
    key: text,
    client_ca_file: text,
    client_ca: text,
    client_auth_type: orBlank(z.enum(CLIENT_AUTH_TYPES, `must be one of ${CLIENT_AUTH_TYPES.join(', ')}`)),
    min_version: version,
    max_version: version,
  },
  {
    client_allowed_sans: {
      reason: 'every client certificate signed by the client CA is accepted',
      isHarmless: isEmptyList,
    },
    cipher_suites: CIPHERS,
    curve_preferences: CIPHERS,
    // Node.js servers prefer their own order.
    prefer_server_cipher_suites: { ...CIPHERS, isHarmless: (value) => value === true },
  },
);

const HEADER = 'must be a string of printable ASCII characters';
const header = orBlank(z.string(HEADER).regex(/^[\x20-\x7e]+$/, HEADER));
const headers = mapping({
  'Strict-Transport-Security': header,
  'Content-Security-Policy': header,
  'X-Content-Type-Options': orBlank(z.string(HEADER).regex(/^nosniff$/i, 'must be nosniff')),
  'X-Frame-Options': orBlank(z.string(HEADER).regex(/^(deny|sameorigin)$/i, 'must be deny or sameorigin')),
  'X-XSS-Protection': header,
});

/** RFC 7617, section 2. */
const USER = 'must be a name without ":" or control characters';
/** One check at cost 16 takes seconds; with a higher cost no scrape would finish in time. */
const HASH = 'must be a bcrypt hash ($2a$, $2b$ or $2y$) with a cost from 4 to 16, as printed by htpasswd -nBC 10';
const hashes = z
  .record(
    z.string(),
    z.string(HASH).regex(/^\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}$/, HASH),
    'must be a mapping of users to bcrypt hashes',
  )
  .superRefine((hashes, context) => {
    for (const name of Object.keys(hashes))
      if (!/^[^:\p{Cc}]+$/u.test(name)) context.addIssue({ code: 'custom', path: [name], message: USER });
  });
/** zod drops this key without an error: as the only user, it would turn passwords off. */
const users = z
  .unknown()
  .superRefine((named, context) => {
    if (Object.hasOwn(Object(named) as object, '__proto__'))
      context.addIssue({ code: 'custom', path: ['__proto__'], message: 'must not be a user name' });
  })
  .pipe(hashes);

const WEB_CONFIG = mapping(
  {
    tls_server_config: tlsSection.nullish(),
    basic_auth_users: users.nullish(),
    http_server_config: mapping(
      { headers: headers.nullish() },
      {
        http2: {
          reason: 'only HTTP/1.1 is served, which every scraper speaks',
          isHarmless: (value) => value === false,
        },
      },
    ).nullish(),
  },
  { rate_limit: { reason: '--web.max-requests limits concurrent scrapes', isHarmless: isNoLimit } },
);

/** Without an interval, exporter-toolkit limits nothing, whatever the burst. */
function isNoLimit(value: unknown): boolean {
  const limit = z.strictObject({
    interval: z
      .union([z.null(), z.literal(0), z.string().regex(/^(?:0|(?:0+(?:\.0+)?(?:h|m|s|ms|us|µs|ns))+)$/)])
      .optional(),
    burst: z.int().nullish(),
  });
  return limit.safeParse(value).success;
}

/** Reads and validates certificate, key and CA, so that an incomplete set is never served. */
function readTls(section: Present<z.infer<typeof tlsSection>>, origin: YamlFile): TlsConfig {
  const refuse = (key: string, reason: string): Error => refusal(origin, [`tls_server_config.${key}${reason}`]);
  const read = (name: 'cert' | 'key' | 'client_ca'): string | null => {
    const { [name]: inline, [`${name}_file` as const]: file } = section;
    if (file === undefined) return inline ?? null;
    if (inline !== undefined) throw refuse(name, `: must not be set together with ${name}_file`);
    try {
      return readNamedFile(resolve(dirname(origin.path), file)).toString('latin1');
    } catch (error) {
      throw refuse(`${name}_file`, ` ${JSON.stringify(file)}: ${reasonOf(error)}`);
    }
  };
  const pem = (name: 'cert' | 'key' | 'client_ca'): string =>
    section[`${name}_file`] === undefined ? name : `${name}_file ${JSON.stringify(section[`${name}_file`])}`;

  const cert = read('cert');
  const key = read('key');
  const clientCa = read('client_ca');
  if (cert === null) throw refuse('cert_file', ': must be set with tls_server_config');
  if (key === null) throw refuse('key_file', ': must be set with tls_server_config');
  const clientAuth = section.client_auth_type ?? 'NoClientCert';
  const verifies = clientAuth === 'VerifyClientCertIfGiven' || clientAuth === 'RequireAndVerifyClientCert';
  if (verifies && clientCa === null)
    throw refuse(`client_auth_type "${clientAuth}"`, ': must be set together with client_ca_file');
  if (clientAuth === 'NoClientCert' && clientCa !== null)
    throw refuse(pem('client_ca'), ': must be set together with a client_auth_type that requests certificates');

  const certificates = parseCertificates(cert);
  if (!certificates) throw refuse(pem('cert'), ': must be a certificate in PEM');
  if (clientCa !== null && !parseCertificates(clientCa))
    throw refuse(pem('client_ca'), ': must be certificates in PEM');
  const privateKey = attempt(() => createPrivateKey(key));
  if (!privateKey) throw refuse(pem('key'), ': must be an unencrypted private key in PEM');
  if (certificates[0]?.checkPrivateKey(privateKey) !== true)
    throw refuse(pem('key'), ': must be the key of the certificate');
  const versions = {
    minVersion: VERSIONS[section.min_version ?? 'TLS12'] ?? 'TLSv1.2',
    maxVersion: VERSIONS[section.max_version ?? 'TLS13'] ?? 'TLSv1.3',
  };
  if (versions.minVersion > versions.maxVersion) throw refuse('min_version', ': must not be above max_version');
  const tls = { cert, key, clientCa, clientAuth, ...versions };
  try {
    createSecureContext({ cert, key, ...versions });
  } catch (error) {
    throw refuse(pem('cert'), `: ${reasonOf(error)}`);
  }
  return tls;
}

/** The certificates in a PEM text; undefined without any, or when one is invalid. */
function parseCertificates(pem: string): X509Certificate[] | undefined {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g);
  return attempt(() => blocks?.map((block) => new X509Certificate(block)));
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
