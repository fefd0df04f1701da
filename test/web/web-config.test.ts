import { copyFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { readWebConfig, type WebConfig } from '../../src/web/web-config.ts';
import { UsageError } from '../../src/common/errors.ts';

const PEMS = new URL('../fixtures/tls/', import.meta.url).pathname;
const HASH = '$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e';
const PAIR = 'cert_file: server.pem, key_file: server-key.pem';

const folder = mkdtempSync(join(tmpdir(), 'peerscope-web-config-'));
const FILE = join(folder, 'web.yaml');
beforeAll(() => {
  for (const name of readdirSync(PEMS)) copyFileSync(join(PEMS, name), join(folder, name));
  writeFileSync(join(folder, 'broken.pem'), '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
});
afterAll(() => rmSync(folder, { recursive: true }));

function read(text: string): WebConfig {
  writeFileSync(FILE, text);
  return readWebConfig(FILE);
}

/** The errors of an invalid text, without their common start. */
function reasons(text: string): string[] {
  try {
    read(text);
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    return (error as Error).message
      .split('\n')
      .map((line) => line.replace(`Cannot read web configuration ${JSON.stringify(FILE)}: `, ''));
  }
  return [];
}

describe('a web configuration', () => {
  it('can be empty', () => {
    expect(read('')).toEqual({ tls: null, users: new Map(), headers: {}, files: [FILE] });
    expect(read('tls_server_config: {}\nbasic_auth_users:\nhttp_server_config:\n')).toEqual(read(''));
  });

  it('has files in its folder, users and headers', () => {
    const config = read(`
tls_server_config:
  { ${PAIR}, client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert, min_version: TLS13 }
basic_auth_users: { prometheus: "${HASH}", "müller": "${HASH.replace('2y', '2b')}" }
http_server_config:
  headers: { Strict-Transport-Security: max-age=31536000, X-Frame-Options: deny }
`);
    expect(config.tls).toMatchObject({
      clientAuth: 'RequireAndVerifyClientCert',
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
    });
    expect([...config.users.keys()]).toEqual(['prometheus', 'müller']);
    expect(config.headers).toEqual({ 'Strict-Transport-Security': 'max-age=31536000', 'X-Frame-Options': 'deny' });
    const files = ['web.yaml', 'server.pem', 'server-key.pem', 'ca.pem'];
    expect(config.files).toEqual(files.map((name) => join(folder, name)));
  });

  it('can contain certificate and key', () => {
    const { tls } = read(`tls_server_config: { ${PAIR} }`);
    const inline = { cert: tls?.cert, key: tls?.key };
    expect(read(`tls_server_config: ${JSON.stringify(inline)}`).tls).toEqual(tls);
  });

  test.each([
    ['NoClientCert', ''],
    ['RequestClientCert', ''],
    ['RequireAnyClientCert', ''],
    ['VerifyClientCertIfGiven', ', client_ca_file: ca.pem'],
    ['RequireAndVerifyClientCert', ', client_ca_file: ca.pem'],
  ])('accepts the client_auth_type %s', (type, rest) => {
    expect(read(`tls_server_config: { ${PAIR}, client_auth_type: ${type}${rest} }`).tls?.clientAuth).toBe(type);
  });
});

describe('what is served anyway is accepted:', () => {
  test.each([
    'http_server_config: { http2: false }',
    'http_server_config: { http2: null }',
    'rate_limit:',
    'rate_limit: {}',
    'rate_limit: { interval: 0s }',
    'rate_limit: { interval: 0, burst: 20 }',
    'rate_limit: { interval: 0h0m0s, burst: 0 }',
    'rate_limit: { burst: 20 }',
    'http_server_config: { headers: { X-Frame-Options: "", X-Content-Type-Options: , X-XSS-Protection: "" } }',
    'tls_server_config: { cert_file: "", key_file: "", client_auth_type: "", client_ca_file: }',
    'tls_server_config: { prefer_server_cipher_suites: true, cipher_suites: [] }',
  ])('%s', (text) => expect(read(text)).toEqual(read('')));

  test.each([
    'client_allowed_sans: []',
    'client_allowed_sans:',
    'cipher_suites: []',
    'cipher_suites:',
    'curve_preferences: []',
    'prefer_server_cipher_suites: true',
    'client_auth_type: ""',
    'client_ca_file: ""',
    'client_ca: ""',
    'cert: ""',
    'min_version:',
    'max_version: TLS13',
  ])('%s of TLS', (key) =>
    expect(read(`tls_server_config: { ${PAIR}, ${key} }`)).toEqual(read(`tls_server_config: { ${PAIR} }`)),
  );
});

describe('an error is reported for', () => {
  const pair = (more: string): string => `tls_server_config: { ${PAIR}, ${more} }`;
  const CIPHERS = 'is not supported: the defaults of OpenSSL are used';
  test.each([
    ['a file that is not YAML', '{', /^line 1, column 2: /],
    [
      'an unknown key',
      'tls: {}',
      'tls: unknown key, must be one of tls_server_config, basic_auth_users, http_server_config',
    ],
    [
      'an unknown key of a section',
      pair('certfile: a'),
      /^tls_server_config\.certfile: unknown key, must be one of cert_file, .*, max_version$/,
    ],
    [
      'rate_limit',
      'rate_limit: { burst: 5, interval: 1s }',
      'rate_limit: is not supported: --web.max-requests limits concurrent scrapes',
    ],
    [
      'a rate limit in words',
      'rate_limit: { interval: 10ms }',
      'rate_limit: is not supported: --web.max-requests limits concurrent scrapes',
    ],
    [
      'a rate limit of nothing known',
      'rate_limit: { intervall: 0s }',
      'rate_limit: is not supported: --web.max-requests limits concurrent scrapes',
    ],
    [
      'http2',
      'http_server_config: { http2: true }',
      'http_server_config.http2 true: is not supported: only HTTP/1.1 is served, which every scraper speaks',
    ],
    ['cipher_suites', pair('cipher_suites: [A]'), `tls_server_config.cipher_suites: ${CIPHERS}`],
    ['curve_preferences', pair('curve_preferences: [X25519]'), `tls_server_config.curve_preferences: ${CIPHERS}`],
    [
      'prefer_server_cipher_suites',
      pair('prefer_server_cipher_suites: false'),
      `tls_server_config.prefer_server_cipher_suites false: ${CIPHERS}`,
    ],
    [
      'client_allowed_sans',
      pair('client_allowed_sans: [a.example]'),
      /^tls_server_config\.client_allowed_sans: is not supported: every client certificate/,
    ],
    [
      'a version before TLS 1.2',
      pair('min_version: TLS11'),
      'tls_server_config.min_version "TLS11": must be TLS12 or TLS13',
    ],
    [
      'an empty range of versions',
      pair('min_version: TLS13, max_version: TLS12'),
      'tls_server_config.min_version: must not be above max_version',
    ],
    [
      'an unknown client_auth_type',
      pair('client_auth_type: Any'),
      /client_auth_type "Any": must be one of NoClientCert, /,
    ],
    [
      'verification without a CA',
      pair('client_auth_type: RequireAndVerifyClientCert'),
      'tls_server_config.client_auth_type "RequireAndVerifyClientCert": must be set together with client_ca_file',
    ],
    [
      'a CA without verification',
      pair('client_ca_file: ca.pem'),
      'tls_server_config.client_ca_file "ca.pem": must be set together with a client_auth_type that requests certificates',
    ],
    [
      'TLS without a certificate',
      'tls_server_config: { min_version: TLS13 }',
      /^tls_server_config\.cert_file: must be set with tls_server_config$/,
    ],
    [
      'TLS without a key',
      'tls_server_config: { cert_file: server.pem }',
      /^tls_server_config\.key_file: must be set with tls_server_config$/,
    ],
    [
      'a missing certificate file',
      'tls_server_config: { cert_file: none.pem, key_file: server-key.pem }',
      'tls_server_config.cert_file "none.pem": no such file or directory',
    ],
    [
      'an invalid certificate',
      'tls_server_config: { cert_file: broken.pem, key_file: server-key.pem }',
      'tls_server_config.cert_file "broken.pem": must be a certificate in PEM',
    ],
    [
      'an invalid key',
      'tls_server_config: { cert_file: server.pem, key_file: ca.pem }',
      'tls_server_config.key_file "ca.pem": must be an unencrypted private key in PEM',
    ],
    [
      'the key of another certificate',
      'tls_server_config: { cert_file: server.pem, key_file: client-key.pem }',
      'tls_server_config.key_file "client-key.pem": must be the key of the certificate',
    ],
    [
      'a CA file without a certificate',
      pair('client_ca_file: server-key.pem, client_auth_type: VerifyClientCertIfGiven'),
      'tls_server_config.client_ca_file "server-key.pem": must be certificates in PEM',
    ],
    [
      'both a file and an inline text',
      pair('cert: A'),
      'tls_server_config.cert: must not be set together with cert_file',
    ],
    [
      'an unsupported header',
      'http_server_config: { headers: { Server: x } }',
      /^http_server_config\.headers\.Server: unknown key, must be one of Strict-Transport-Security, /,
    ],
    [
      'a header with a line break',
      'http_server_config: { headers: { X-XSS-Protection: "1\\r\\nSet-Cookie: a=b" } }',
      /X-XSS-Protection".*: must be a string of printable ASCII characters$/,
    ],
    [
      'another X-Frame-Options',
      'http_server_config: { headers: { X-Frame-Options: allow } }',
      'http_server_config.headers."X-Frame-Options" "allow": must be deny or sameorigin',
    ],
    [
      'a user name with a colon',
      `basic_auth_users: { "a:b": "${HASH}" }`,
      /^basic_auth_users\."a:b".*must be a name without ":"/,
    ],
  ])('%s', (_, text, reason) => {
    const [first = '', ...more] = reasons(text);
    expect(more).toEqual([]);
    if (typeof reason === 'string') expect(first).toBe(reason);
    else expect(first).toMatch(reason);
  });

  test.each(['secret', HASH.replace('2y', '2x'), HASH.replace('$04$', '$17$'), HASH.slice(1)])(
    'the hash %s, without printing it',
    (hash) => {
      expect(reasons(`basic_auth_users: { alice: "${hash}" }`)).toEqual([
        'basic_auth_users.alice: must be a bcrypt hash ($2a$, $2b$ or $2y$) with a cost from 4 to 16, as printed by htpasswd -nBC 10',
      ]);
    },
  );

  test('a missing file', () => {
    expect(() => readWebConfig('/nowhere/web.yaml')).toThrow(
      'Cannot read web configuration "/nowhere/web.yaml": no such file or directory',
    );
  });
});
