import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseConfig, type Config } from '../../src/config/config.ts';
import { environmentVariable, FLAGS } from '../../src/config/flags.ts';
import { UsageError } from '../../src/common/errors.ts';

const DEFAULTS: Config = {
  web: {
    listenAddresses: [{ host: null, port: 10_043 }],
    systemdSocket: false,
    telemetryPath: '/metrics',
    disableExporterMetrics: false,
    enableApi: false,
    enableAccept: false,
    maxRequests: 40,
    configFile: null,
  },
  scrapeBudgetMs: 5000,
  seriesLimit: 1000,
  published: {
    families: ['*', '!peerscope_process_*', '!peerscope_baseline_start_timestamp_seconds'],
    podLabel: true,
    containerLabel: true,
  },
  procfs: '/proc',
  source: null,
  netlinkSocket: null,
  handedOver: { LISTEN_PID: undefined, LISTEN_FDS: undefined, LISTEN_FDNAMES: undefined },
  inCluster: false,
  isStorageGiven: false,
  storagePath: null,
  storageServer: null,
  asn: { provider: 'cymru', server: { host: 'whois.cymru.com', port: 43 }, database: null },
  otlp: null,
  log: { level: 'info', format: 'json' },
  collectors: {
    processes: true,
    protocols: true,
    endpoints: true,
    asn: true,
    'first-seen': true,
    netlink: true,
    rdns: false,
  },
  kubernetes: null,
  podUid: null,
  sampleIntervalMs: null,
  configFile: null,
  rules: {
    processes: [],
    workloads: [],
    endpointGroups: [],
    networks: [],
    asnNeverSend: [],
    expected: [],
    suspects: [],
  },
  ignored: [],
};

it('needs no flag and no environment', () => {
  expect(parseConfig({}, {})).toEqual(DEFAULTS);
});

it('accepts every flag', () => {
  const config = parseConfig(
    {
      'web.listen-address': ['127.0.0.1:9100', '[::1]:9100'],
      'web.systemd-socket': true,
      'web.telemetry-path': '/node/metrics',
      'web.disable-exporter-metrics': true,
      'web.enable-api': true,
      'web.enable-accept': true,
      'web.max-requests': '0',
      'web.config.file': 'web.yaml',
      'scrape.budget': '500ms',
      'sample.interval': '2s',
      'series.limit': '50',
      'metrics.families': ['peerscope_connections, peerscope_asn_*', '!peerscope_asn_cache_entries'],
      'metrics.pod-label': false,
      'metrics.container-label': false,
      'path.procfs': '/host/proc',
      source: 'netstat',
      'storage.path': 'state',
      'storage.url': 'rediss://exporter:p%40ss@[2001:db8::6]:6380/2',
      'storage.ca-file': 'ca.pem',
      'storage.cert-file': 'client.pem',
      'storage.key-file': 'client.key',
      'asn.provider': 'mmdb',
      'asn.server': '[2001:db8::43]:4343',
      'asn.database': 'asn.mmdb',
      'otlp.endpoint': 'https://user:secret@otel.example/in?token=1',
      'otlp.protocol': 'http/protobuf',
      'otlp.interval': '5s',
      'otlp.timeout': '2s',
      'otlp.headers': ['Authorization=Bearer%20abc', 'X-Scope-OrgID=1,X-B=2'],
      'otlp.compression': 'none',
      'otlp.certificate': 'ca.pem',
      'otlp.client-certificate': 'client.pem',
      'otlp.client-key': 'client.key',
      'log.level': 'trace',
      'log.format': 'text',
      'config.file': 'peerscope.yaml',
      'collector.processes': false,
      'collector.protocols': false,
      'collector.endpoints': false,
      'collector.asn': false,
      'collector.netlink': true,
      'netlink.socket': '/run/peerscope/sockets.sock',
      'collector.rdns': true,
    },
    {},
  );
  expect(config).toEqual({
    web: {
      listenAddresses: [
        { host: '127.0.0.1', port: 9100 },
        { host: '::1', port: 9100 },
      ],
      systemdSocket: true,
      telemetryPath: '/node/metrics',
      disableExporterMetrics: true,
      enableApi: true,
      enableAccept: true,
      maxRequests: 0,
      configFile: 'web.yaml',
    },
    scrapeBudgetMs: 500,
    seriesLimit: 50,
    published: {
      families: ['peerscope_connections', 'peerscope_asn_*', '!peerscope_asn_cache_entries'],
      podLabel: false,
      containerLabel: false,
    },
    procfs: '/host/proc',
    source: 'netstat',
    netlinkSocket: '/run/peerscope/sockets.sock',
    handedOver: { LISTEN_PID: undefined, LISTEN_FDS: undefined, LISTEN_FDNAMES: undefined },
    inCluster: false,
    isStorageGiven: true,
    storagePath: 'state',
    storageServer: {
      kind: 'single',
      tls: { ca: 'ca.pem', cert: 'client.pem', key: 'client.key' },
      addresses: [{ host: '2001:db8::6', port: 6380 }],
      primary: null,
      username: 'exporter',
      password: 'p@ss',
      database: 2,
    },
    asn: { provider: 'mmdb', server: { host: '2001:db8::43', port: 4343 }, database: 'asn.mmdb' },
    otlp: {
      url: 'https://user:secret@otel.example/in/v1/metrics?token=1',
      protocol: 'http/protobuf',
      headers: { Authorization: 'Bearer abc', 'X-Scope-OrgID': '1', 'X-B': '2' },
      compression: 'none',
      intervalMs: 5_000,
      timeoutMs: 2_000,
      certificate: 'ca.pem',
      clientCertificate: 'client.pem',
      clientKey: 'client.key',
      optionalFiles: [],
      proxy: null,
      resource: {},
    },
    log: { level: 'trace', format: 'text' },
    collectors: {
      processes: false,
      protocols: false,
      endpoints: false,
      asn: false,
      'first-seen': true,
      netlink: true,
      rdns: true,
    },
    kubernetes: null,
    podUid: null,
    sampleIntervalMs: 2_000,
    configFile: 'peerscope.yaml',
    rules: DEFAULTS.rules,
    ignored: [],
  });
});

it('is deeply frozen', () => {
  const thawed: unknown[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    if (!Object.isFrozen(value)) thawed.push(value);
    Object.values(value).forEach(visit);
  };
  visit(parseConfig({ 'web.listen-address': [':1'] }, {}));
  expect(thawed).toEqual([]);
});

describe('accepts', () => {
  const all = { host: null, port: 9100 };
  it.each<[flag: string, text: string, pick: (config: Config) => unknown, expected: unknown]>([
    ['web.listen-address', ':9100', (config) => config.web.listenAddresses, [all]],
    ['web.listen-address', ':0', (config) => config.web.listenAddresses, [{ host: null, port: 0 }]],
    [
      'web.listen-address',
      'node-1.example:80',
      (config) => config.web.listenAddresses,
      [{ host: 'node-1.example', port: 80 }],
    ],
    ['web.listen-address', '', (config) => config.web.listenAddresses, []],
    ['web.listen-address', 'unix:/run/a b.sock', (config) => config.web.listenAddresses, [{ path: '/run/a b.sock' }]],
    [
      'web.listen-address',
      `unix:/${'x'.repeat(106)}`,
      (config) => config.web.listenAddresses,
      [{ path: `/${'x'.repeat(106)}` }],
    ],
    ['web.telemetry-path', '/a/b.c~d_e-f', (config) => config.web.telemetryPath, '/a/b.c~d_e-f'],
    ['web.telemetry-path', '/apis', (config) => config.web.telemetryPath, '/apis'],
    ['scrape.budget', '1ms', (config) => config.scrapeBudgetMs, 1],
    ['scrape.budget', '90s', (config) => config.scrapeBudgetMs, 90_000],
    ['scrape.budget', '1m', (config) => config.scrapeBudgetMs, 60_000],
    ['scrape.budget', '1h', (config) => config.scrapeBudgetMs, 3_600_000],
    ['web.max-requests', '10000', (config) => config.web.maxRequests, 10_000],
    ['series.limit', '100000', (config) => config.seriesLimit, 100_000],
    ['metrics.families', '', (config) => config.published.families, []],
    ['asn.server', 'localhost:43', (config) => config.asn.server, { host: 'localhost', port: 43 }],
  ])('--%s=%s', (flag, text, pick, expected) => {
    expect(pick(parseConfig({ [flag]: [text] }, {}))).toEqual(expected);
  });
});

describe('rejects a value and names the allowed ones', () => {
  const allowed = new Map(FLAGS.map((flag) => [flag.name, flag.allowed]));
  it.each([
    ['web.listen-address', '9100'],
    ['web.listen-address', 'localhost'],
    ['web.listen-address', ':65536'],
    ['web.listen-address', '::1:9100'],
    ['web.listen-address', '[localhost]:9100'],
    ['web.listen-address', '[::1%eth0]:9100'],
    ['web.listen-address', '256.0.0.1:9100'],
    ['web.listen-address', '10.1:9100'],
    ['web.listen-address', 'http://localhost:9100'],
    ['web.listen-address', 'unix:'],
    ['web.listen-address', 'unix:run/http.sock'],
    ['web.listen-address', 'unix:/'],
    ['web.listen-address', `unix:/${'x'.repeat(107)}`],
    ['web.listen-address', '/run/http.sock'],
    ['web.listen-address', ':9100 '],
    ['web.telemetry-path', ''],
    ['web.telemetry-path', '/'],
    ['web.telemetry-path', 'metrics'],
    ['web.telemetry-path', '/metrics/'],
    ['web.telemetry-path', '/:name'],
    ['web.telemetry-path', '/metrics?x=1'],
    ['web.telemetry-path', '/-/ready'],
    ['web.telemetry-path', '/api/v1/connections'],
    ['scrape.budget', '5'],
    ['scrape.budget', '0s'],
    ['scrape.budget', '1.5s'],
    ['scrape.budget', '-1s'],
    ['scrape.budget', '61m'],
    ['web.max-requests', '-1'],
    ['web.max-requests', '10001'],
    ['web.config.file', ''],
    ['series.limit', '49'],
    ['series.limit', ''],
    ['series.limit', '1e3'],
    ['series.limit', '50.5'],
    ['series.limit', '0x64'],
    ['series.limit', '99999999999999999999'],
    ['metrics.families', 'peerscope_connections,'],
    ['metrics.families', 'peerscope_.*'],
    ['metrics.families', '!!peerscope_connections'],
    ['path.procfs', ''],
    ['netlink.socket', ''],
    ['netlink.socket', '/'],
    ['netlink.socket', 'sockets.sock'],
    ['netlink.socket', `/${'a'.repeat(107)}`],
    ['netlink.socket', `/run/${'ä'.repeat(52)}`],
    ['storage.path', ''],
    ['config.file', ''],
    ['asn.database', ''],
    ['asn.provider', 'Cymru'],
    ['asn.server', ':43'],
    ['asn.server', 'whois.cymru.com'],
    ['asn.server', 'whois.cymru.com:0'],
    ['otlp.endpoint', ''],
    ['otlp.endpoint', 'localhost:4318'],
    ['otlp.endpoint', 'grpc://localhost:4317'],
    ['otlp.endpoint', 'http://'],
    ['otlp.endpoint', 'http:///v1/metrics'],
    ['otlp.protocol', 'grpc'],
    ['otlp.interval', '0s'],
    ['otlp.timeout', '10000'],
    ['otlp.compression', 'zstd'],
    ['otlp.certificate', ''],
    ['log.level', 'warning'],
    ['log.format', 'logfmt'],
  ])('--%s=%j', (flag, text) => {
    expect(() => parseConfig({ [flag]: text }, {})).toThrow(
      new UsageError(`Cannot use --${flag} ${JSON.stringify(text)}: must be ${allowed.get(flag)}`),
    );
  });

  it('one invalid address among valid ones', () => {
    expect(() => parseConfig({}, { PEERSCOPE_WEB_LISTEN_ADDRESS: ':1,,:2' })).toThrow(
      'Cannot use PEERSCOPE_WEB_LISTEN_ADDRESS "": must be an address such as :9100, 127.0.0.1:9100, [::1]:9100, localhost:9100 or unix:/run/peerscope/http.sock',
    );
  });
});

describe('an invalid URL', () => {
  it.each([
    ['otel.example:4318', '"otel.example:4318"'],
    ['htps://user:hunter2@otel.example', '"htps://***@otel.example"'],
    ['https//hunter2@otel.example', '"https//***@otel.example"'],
    ['htps://user:hunt@er/2@otel.example', '"htps://***@otel.example"'],
  ])('is shown without a possible password: %s', (text, shown) =>
    expect(() => parseConfig({ 'otlp.endpoint': text }, {})).toThrow(
      `Cannot use --otlp.endpoint ${shown}: must be ${FLAGS.find(({ name }) => name === 'otlp.endpoint')?.allowed}`,
    ),
  );
});

describe('--otlp.headers', () => {
  it.each(['Authorization: hunter2', '=hunter2', 'a hunter2=c', 'hunter2=%zz', 'a=hunter2%0d%0ac'])(
    'are rejected without being shown if invalid: %j',
    (text) => {
      expect(() => parseConfig({ 'otlp.endpoint': 'http://localhost', 'otlp.headers': text }, {})).toThrow(
        /^Cannot use --otlp.headers: must be percent-encoded, comma-separated headers such as/,
      );
    },
  );

  it('from the standard variable are not shown', () => {
    const environment = {
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://localhost',
      OTEL_EXPORTER_OTLP_HEADERS: 'Authorization: hunter2',
    };
    expect(parseConfig({}, environment).ignored).toEqual([
      expect.stringMatching(
        /^Cannot use OTEL_EXPORTER_OTLP_HEADERS: must be percent-encoded, comma-separated headers such as/,
      ),
    ]);
  });
});

describe('--storage.url', () => {
  const at = (...addresses: string[]) =>
    addresses.map((address) => {
      const [host = '', port] = address.split('|');
      return { host, port: Number(port) };
    });
  const server = {
    kind: 'single',
    tls: null,
    addresses: at('cache.example|6379'),
    primary: null,
    username: null,
    password: null,
    database: 0,
  } as const;
  const tls = { ca: null, cert: null, key: null };
  const sentinel = { ...server, kind: 'sentinel', addresses: at('a|26379'), primary: 'mymaster' } as const;
  const cluster = { ...server, kind: 'cluster', addresses: at('a|6379') } as const;
  it.each<[url: string, expected: Config['storageServer']]>([
    ['redis://cache.example', server],
    ['redis://cache.example:6380/15', { ...server, addresses: at('cache.example|6380'), database: 15 }],
    ['rediss://:a%2Fb%3A%40@192.0.2.1/', { ...server, tls, addresses: at('192.0.2.1|6379'), password: 'a/b:@' }],
    ['redis://user:secret@cache', { ...server, addresses: at('cache|6379'), username: 'user', password: 'secret' }],
    ['redis://user:a:b@cache', { ...server, addresses: at('cache|6379'), username: 'user', password: 'a:b' }],
    ['redis://[2001:db8::6]', { ...server, addresses: at('2001:db8::6|6379') }],
    ['redis+sentinel://a/mymaster', sentinel],
    ['redis+sentinel://a/mymaster/', sentinel],
    [
      'redis+sentinel://:secret@a:1,[::1]:2,[::1],b/my.master-1_a/3',
      {
        ...sentinel,
        addresses: at('a|1', '::1|2', '::1|26379', 'b|26379'),
        password: 'secret',
        primary: 'my.master-1_a',
        database: 3,
      },
    ],
    ['rediss+sentinel://a/mymaster/0', { ...sentinel, tls }],
    ['redis+cluster://a', cluster],
    ['redis+cluster://a/0', cluster],
    ['redis+cluster://a:7000,b', { ...cluster, addresses: at('a|7000', 'b|6379') }],
    ['rediss+cluster://u:p@a/', { ...cluster, tls, username: 'u', password: 'p' }],
  ])('%s', (url, expected) => {
    expect(parseConfig({}, { PEERSCOPE_STORAGE_URL: url }).storageServer).toEqual(expected);
  });

  it.each([
    '',
    'cache.example:6379',
    'http://:hunter2@cache.example',
    'redis:cache.example',
    'redis://',
    'redis://:hunter2@',
    'redis://:hunter2@:6379',
    'redis://:hunter2@cache.example:65536',
    'redis://:hunter2@cache.example:0',
    'redis://:hunter2@cache.example:port',
    'redis://:hunter2@cache.example/name',
    'redis://cache.example?password=hunter2',
    'redis://:hunter2@cache.example#0',
    'redis://:hunter2%@cache.example',
    'redis://:hunter2@ca che',
    'redis://:hun/ter2@cache.example',
    'redis://user@cache.example',
    'redis://:hunter2@a.example:6379,b.example:6379',
    'redis+sentinel://:hunter2@a.example',
    'redis+sentinel://:hunter2@a.example/',
    'redis+sentinel://:hunter2@a.example//0',
    'redis+sentinel://:hunter2@a.example/my%20master',
    'redis+sentinel://:hunter2@a.example/mymaster/name',
    'redis+sentinel://:hunter2@a.example,/mymaster',
    'redis+sentinel://:hunter2@a.example,b.example:0/mymaster',
    'redis+cluster://:hunter2@a.example/1',
    'redis+cluster://:hunter2@a.example,b.example:65536',
    'redis+cluster://:hunter2@[::1,b.example',
    'redis+cluster://:hunter2@[1::2::3]',
    'redis+tls://:hunter2@a.example',
  ])('is rejected without being shown if invalid: %j', (url) => {
    expect(() => parseConfig({ 'storage.url': url }, {})).toThrow(
      new UsageError(
        'Cannot use --storage.url: must be a URL such as redis://host:6379, redis://:password@host:6379/0, ' +
          'rediss://user:password@host:6379, redis+sentinel://host1:26379,host2:26379/mymaster/0 or ' +
          'redis+cluster://host1:6379,host2:6379',
      ),
    );
  });

  it.each<[given: Record<string, string>, environment: Record<string, string>, message: string]>([
    [{}, { PEERSCOPE_STORAGE_CA_FILE: 'ca.pem' }, '--storage.ca-file "ca.pem": requires --storage.url with rediss://'],
    [
      { 'storage.ca-file': 'ca.pem', 'storage.url': 'redis://a' },
      {},
      '--storage.ca-file "ca.pem": requires --storage.url with rediss://',
    ],
    [
      { 'storage.cert-file': 'c.pem', 'storage.key-file': 'c.key', 'storage.url': 'redis+sentinel://a/b' },
      {},
      '--storage.cert-file "c.pem": requires --storage.url with rediss://',
    ],
    [
      { 'storage.cert-file': 'c.pem', 'storage.url': 'rediss://a' },
      {},
      '--storage.cert-file "c.pem": requires --storage.key-file',
    ],
    [
      { 'storage.url': 'rediss://a' },
      { PEERSCOPE_STORAGE_KEY_FILE: 'c.key' },
      '--storage.key-file "c.key": requires --storage.cert-file',
    ],
    [{ 'storage.ca-file': '' }, {}, '--storage.ca-file "": must be a file path'],
  ])('refuses files that it cannot use: %j %j', (given, environment, message) => {
    expect(() => parseConfig(given, environment)).toThrow(new UsageError(`Cannot use ${message}`));
  });
});

describe('--asn.database', () => {
  it.each(['mmdb', 'tsv'])('is required by the provider %s', (provider) => {
    expect(() => parseConfig({ 'asn.provider': provider }, {})).toThrow(
      new UsageError(`Cannot use --asn.provider "${provider}": requires --asn.database`),
    );
  });

  it('is rejected with a network provider', () => {
    expect(() => parseConfig({}, { PEERSCOPE_ASN_DATABASE: 'asn.mmdb' })).toThrow(
      new UsageError('Cannot use --asn.database "asn.mmdb": requires --asn.provider mmdb, tsv or none'),
    );
  });

  it('is accepted with the provider none', () => {
    const { asn } = parseConfig({ 'asn.provider': 'none' }, { PEERSCOPE_ASN_DATABASE: 'asn.mmdb' });
    expect(asn).toMatchObject({ provider: 'none', database: null });
  });
});

describe('the socket of the netlink collector', () => {
  it.each([`/${'a'.repeat(106)}`, `/run/${'ä'.repeat(51)}`, '/run/peerscope/sockets.sock'])('can be %j', (path) => {
    expect(parseConfig({ 'netlink.socket': path }, {}).netlinkSocket).toBe(path);
    expect(parseConfig({}, { PEERSCOPE_NETLINK_SOCKET: path }).netlinkSocket).toBe(path);
  });

  it('cannot be named if the collector is off', () => {
    expect(parseConfig({ 'collector.netlink': false }, {}).collectors.netlink).toBe(false);
    expect(() => parseConfig({ 'collector.netlink': false, 'netlink.socket': '/run/a' }, {})).toThrow(
      new UsageError('Cannot use --netlink.socket "/run/a": conflicts with --no-collector.netlink'),
    );
  });
});

it('lists the allowed names', () => {
  expect(() => parseConfig({ 'log.level': 'loud' }, {})).toThrow(
    'Cannot use --log.level "loud": must be fatal, error, warn, info, debug or trace',
  );
});

describe('the environment variable of a flag', () => {
  it.each([
    ['web.listen-address', 'PEERSCOPE_WEB_LISTEN_ADDRESS'],
    ['path.procfs', 'PEERSCOPE_PATH_PROCFS'],
    ['collector.asn', 'PEERSCOPE_COLLECTOR_ASN'],
  ])('of --%s is %s', (flag, twin) => {
    expect(environmentVariable(flag)).toBe(twin);
  });

  it('accepts several addresses separated by commas', () => {
    expect(parseConfig({}, { PEERSCOPE_WEB_LISTEN_ADDRESS: ':1,[::1]:2' }).web.listenAddresses).toEqual([
      { host: null, port: 1 },
      { host: '::1', port: 2 },
    ]);
  });

  it('is overridden by the flag, even if invalid', () => {
    expect(parseConfig({ 'series.limit': '60' }, { PEERSCOPE_SERIES_LIMIT: 'many' }).seriesLimit).toBe(60);
  });

  it('is true or false for a switch', () => {
    const { web, collectors } = parseConfig(
      {},
      { PEERSCOPE_WEB_DISABLE_EXPORTER_METRICS: 'true', PEERSCOPE_COLLECTOR_ASN: 'false' },
    );
    expect([web.disableExporterMetrics, collectors.asn]).toEqual([true, false]);
    expect(() => parseConfig({}, { PEERSCOPE_COLLECTOR_ASN: 'no' })).toThrow(
      'Cannot use PEERSCOPE_COLLECTOR_ASN "no": must be true or false',
    );
  });

  it('is parsed like the flag for any text', () => {
    const outcome = (given: Record<string, string>, environment: Record<string, string>): unknown => {
      try {
        return parseConfig(given, environment);
      } catch (error) {
        return error instanceof UsageError ? error.message.replace(/^Cannot use [^\s:]+ ?/, '') : error;
      }
    };
    const flag = fc.constantFrom(...FLAGS).filter(({ placeholder }) => placeholder !== null);
    const text = fc.array(fc.nat(0xffff)).map((units) => String.fromCharCode(...units).replaceAll(/[,@]/g, ''));
    fc.assert(
      fc.property(flag, text, ({ name, allowed, secret }, value) => {
        // With these, every other flag is allowed.
        const beside = {
          PEERSCOPE_ASN_PROVIDER: 'none',
          PEERSCOPE_STORAGE_URL: 'rediss://cache.example',
          PEERSCOPE_STORAGE_CERT_FILE: 'client.pem',
          PEERSCOPE_STORAGE_KEY_FILE: 'client.key',
        };
        const byFlag = outcome({ [name]: value }, beside);
        expect(byFlag).toEqual(outcome({}, { ...beside, [environmentVariable(name)]: value }));
        expect(
          typeof byFlag === 'object' || byFlag === `${secret ? '' : JSON.stringify(value)}: must be ${allowed}`,
        ).toBe(true);
      }),
    );
  });
});

describe('variables with the prefix PEERSCOPE_', () => {
  it('are rejected if they match no flag', () => {
    expect(() => parseConfig({}, { PEERSCOPE_SERIES_LIMITS: '50' })).toThrow(
      new UsageError(
        'Cannot use PEERSCOPE_SERIES_LIMITS: must be the environment variable of a flag, see peerscope serve --help',
      ),
    );
  });

  it('are ignored if Kubernetes set them for Services named peerscope and peerscope-a', () => {
    const environment = {
      PEERSCOPE_SERVICE_HOST: '10.0.0.11',
      PEERSCOPE_SERVICE_PORT: '10043',
      PEERSCOPE_SERVICE_PORT_HTTP_METRICS: '10043',
      PEERSCOPE_PORT: 'tcp://10.0.0.11:10043',
      PEERSCOPE_PORT_10043_TCP: 'tcp://10.0.0.11:10043',
      PEERSCOPE_PORT_10043_TCP_PROTO: 'tcp',
      PEERSCOPE_PORT_10043_TCP_PORT: '10043',
      PEERSCOPE_PORT_10043_TCP_ADDR: '10.0.0.11',
      PEERSCOPE_A_SERVICE_HOST: '10.0.0.12',
    };
    expect(parseConfig({}, environment)).toEqual(DEFAULTS);
  });
});

it('detects a Kubernetes cluster', () => {
  const inCluster = (host: string): boolean => parseConfig({}, { KUBERNETES_SERVICE_HOST: host }).inCluster;
  expect(['10.96.0.1', 'fd00::1', ''].map(inCluster)).toEqual([true, true, false]);
});

describe('the storage directory', () => {
  const home = { HOME: '/home/ada' };
  it.each<[situation: string, environment: Record<string, string>, expected: string | null]>([
    [
      'is the one of systemd',
      { STATE_DIRECTORY: '/var/lib/peerscope', XDG_STATE_HOME: '/x', ...home },
      '/var/lib/peerscope',
    ],
    ['is the first of several of systemd', { STATE_DIRECTORY: '/var/lib/a:/var/lib/b' }, '/var/lib/a'],
    ['is below XDG_STATE_HOME', { XDG_STATE_HOME: '/home/ada/state', ...home }, '/home/ada/state/peerscope'],
    ['ignores a relative XDG_STATE_HOME', { XDG_STATE_HOME: 'state', ...home }, '/home/ada/.local/state/peerscope'],
    ['is below the home directory', home, '/home/ada/.local/state/peerscope'],
    ['takes empty variables for absent', { STATE_DIRECTORY: '', XDG_STATE_HOME: '', HOME: '' }, null],
    ['is none without any of them', {}, null],
  ])('%s', (_situation, environment, expected) => {
    expect(parseConfig({}, environment).storagePath).toBe(expected);
  });
});

describe('OTLP', () => {
  const otlpOf = (environment: Record<string, string>, given: Record<string, string> = {}): Config['otlp'] =>
    parseConfig(given, environment).otlp;
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://otel.example:4318' };
  const url = 'http://otel.example:4318/v1/metrics';

  it('is off without an endpoint', () => {
    expect(otlpOf({ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc', OTEL_RESOURCE_ATTRIBUTES: 'x' })).toBeNull();
  });

  it('needs only an endpoint', () => {
    expect(otlpOf({}, { 'otlp.endpoint': 'http://otel.example:4318' })).toEqual({
      url,
      protocol: 'http/json',
      headers: {},
      compression: 'gzip',
      intervalMs: 60_000,
      timeoutMs: 10_000,
      certificate: null,
      clientCertificate: null,
      clientKey: null,
      optionalFiles: [],
      proxy: null,
      resource: {},
    });
  });

  it.each<[situation: string, environment: Record<string, string>, given: Record<string, string>, url: string]>([
    [
      'of the flag gets the path',
      {},
      { 'otlp.endpoint': 'http://vm.example/opentelemetry/' },
      'http://vm.example/opentelemetry/v1/metrics',
    ],
    ['of the flag gets the path once', {}, { 'otlp.endpoint': url }, url],
    [
      'of the flag beats the variables',
      endpoint,
      { 'otlp.endpoint': 'http://b.example' },
      'http://b.example/v1/metrics',
    ],
    [
      'of the twin beats the variables',
      { ...endpoint, PEERSCOPE_OTLP_ENDPOINT: 'http://b.example' },
      {},
      'http://b.example/v1/metrics',
    ],
    ['of the general variable gets the path', endpoint, {}, url],
    [
      'of the variable for metrics stays as it is, and comes before the general one',
      { ...endpoint, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'http://m.example/in' },
      {},
      'http://m.example/in',
    ],
    ['holds where otlp is one of the exporters', { ...endpoint, OTEL_METRICS_EXPORTER: 'console, otlp' }, {}, url],
    ['of the flag holds whatever the exporter', { OTEL_METRICS_EXPORTER: 'none' }, { 'otlp.endpoint': url }, url],
  ])('the endpoint %s', (_situation, environment, given, expected) => {
    expect(otlpOf(environment, given)?.url).toBe(expected);
  });

  it.each<[situation: string, environment: Record<string, string>, given?: Record<string, string>]>([
    ['OTEL_SDK_DISABLED', { ...endpoint, OTEL_SDK_DISABLED: 'True' }],
    ['OTEL_SDK_DISABLED, whatever the flag', { OTEL_SDK_DISABLED: 'true' }, { 'otlp.endpoint': url }],
    ['another exporter', { ...endpoint, OTEL_METRICS_EXPORTER: 'none' }],
    ['an empty variable', { OTEL_EXPORTER_OTLP_ENDPOINT: '' }],
  ])('is off by %s', (_situation, environment, given = {}) => {
    expect(otlpOf(environment, given)).toBeNull();
  });

  it('prefers flags to metrics variables, and those to general variables', () => {
    const general = {
      ...endpoint,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf',
      OTEL_EXPORTER_OTLP_HEADERS: 'a=1, b=x%20',
      OTEL_EXPORTER_OTLP_COMPRESSION: 'none',
      OTEL_EXPORTER_OTLP_TIMEOUT: '3000',
      OTEL_METRIC_EXPORT_INTERVAL: '30000',
      OTEL_EXPORTER_OTLP_CERTIFICATE: 'ca.pem',
      OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: 'client.pem',
      OTEL_EXPORTER_OTLP_CLIENT_KEY: 'client.key',
    };
    const expected = {
      protocol: 'http/protobuf',
      headers: { a: '1', b: 'x ' },
      compression: 'none',
      timeoutMs: 3_000,
      intervalMs: 30_000,
      certificate: 'ca.pem',
      clientCertificate: 'client.pem',
      clientKey: 'client.key',
    };
    expect(otlpOf(general)).toMatchObject(expected);
    const metrics = { OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: 'http/json', OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: '4000' };
    expect(otlpOf({ ...general, ...metrics })).toMatchObject({ ...expected, protocol: 'http/json', timeoutMs: 4_000 });
    const flags = { 'otlp.timeout': '5s', 'otlp.headers': 'c=3' };
    expect(otlpOf({ ...general, ...metrics }, flags)).toMatchObject({ timeoutMs: 5_000, headers: { c: '3' } });
  });

  it('caps the timeout at the interval', () => {
    expect(otlpOf(endpoint, { 'otlp.interval': '2s' })?.timeoutMs).toBe(2_000);
  });

  const duration = 'must be a duration such as 500ms, 5s or 1m, at most 1h';
  const DEFAULT = {
    protocol: 'http/json',
    compression: 'gzip',
    intervalMs: 60_000,
    timeoutMs: 10_000,
    headers: {},
  } as const;
  it.each<[environment: Record<string, string>, expected: Partial<NonNullable<Config['otlp']>>, ...ignored: string[]]>([
    [
      { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
      DEFAULT,
      'OTEL_EXPORTER_OTLP_PROTOCOL "grpc": must be http/json or http/protobuf',
    ],
    [
      { OTEL_EXPORTER_OTLP_COMPRESSION: 'zstd' },
      DEFAULT,
      'OTEL_EXPORTER_OTLP_COMPRESSION "zstd": must be gzip or none',
    ],
    [{ OTEL_EXPORTER_OTLP_TIMEOUT: 'soon' }, DEFAULT, `OTEL_EXPORTER_OTLP_TIMEOUT "soon": ${duration}`],
    [{ OTEL_EXPORTER_OTLP_TIMEOUT: '0' }, DEFAULT, `OTEL_EXPORTER_OTLP_TIMEOUT "0ms": ${duration}`],
    [{ OTEL_METRIC_EXPORT_INTERVAL: '-1' }, DEFAULT, `OTEL_METRIC_EXPORT_INTERVAL "-1": ${duration}`],
    [
      { OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: 'x', OTEL_EXPORTER_OTLP_TIMEOUT: '3000' },
      { timeoutMs: 3_000 },
      `OTEL_EXPORTER_OTLP_METRICS_TIMEOUT "x": ${duration}`,
    ],
    [
      { OTEL_EXPORTER_OTLP_HEADERS: 'Authorization: hunter2' },
      DEFAULT,
      'OTEL_EXPORTER_OTLP_HEADERS: must be percent-encoded, comma-separated headers such as Authorization=Bearer%20abc',
    ],
    [
      { OTEL_RESOURCE_ATTRIBUTES: 'team=50%off,env=prod', OTEL_SERVICE_NAME: 'a' },
      { resource: { 'service.name': 'a' } },
      'OTEL_RESOURCE_ATTRIBUTES "team=50%off,env=prod": must be comma-separated, percent-encoded key=value pairs',
    ],
    [
      { OTEL_RESOURCE_ATTRIBUTES: 'team' },
      { resource: {} },
      'OTEL_RESOURCE_ATTRIBUTES "team": must be comma-separated, percent-encoded key=value pairs',
    ],
    [
      { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'otel:4317' },
      { url },
      'OTEL_EXPORTER_OTLP_METRICS_ENDPOINT "otel:4317": must be an http or https URL such as http://localhost:4318; /v1/metrics is appended',
    ],
    [
      { OTEL_EXPORTER_OTLP_CLIENT_KEY: 'k.pem' },
      { clientKey: null },
      '--otlp.client-key "k.pem": requires --otlp.client-certificate',
    ],
    [
      { OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'delta' },
      DEFAULT,
      'OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE "delta": must be cumulative',
    ],
    [
      { OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'LowMemory' },
      DEFAULT,
      'OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE "LowMemory": must be cumulative',
    ],
    [{ OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: 'Cumulative' }, DEFAULT],
    [{ OTEL_SDK_DISABLED: 'yes' }, DEFAULT, 'OTEL_SDK_DISABLED "yes": must be true or false'],
    [{ OTEL_SDK_DISABLED: 'False' }, DEFAULT],
    [{ HTTP_PROXY: 'proxy.example:3128' }, { proxy: 'http://proxy.example:3128' }],
    [
      { HTTP_PROXY: 'socks5://u:hunter2@p:1080' },
      { proxy: null },
      'HTTP_PROXY: must be an HTTP URL such as http://proxy.example:3128',
    ],
  ])('ignores an invalid variable and reports it: %j', (environment, expected, ...ignored) => {
    const config = parseConfig({}, { ...endpoint, ...environment });
    expect(config.otlp).toMatchObject(expected);
    expect(config.ignored).toEqual(ignored.map((line) => `Cannot use ${line}`));
  });

  it('is off if the only endpoint is invalid, and reports it', () => {
    const config = parseConfig({}, { OTEL_EXPORTER_OTLP_ENDPOINT: 'otel:4317' });
    expect(config.otlp).toBeNull();
    expect(config.ignored).toEqual([expect.stringContaining('Cannot use OTEL_EXPORTER_OTLP_ENDPOINT "otel:4317": ')]);
  });

  it('reports no variable if it is off or overridden by a flag', () => {
    expect(parseConfig({}, { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' }).ignored).toEqual([]);
    const given = { 'otlp.endpoint': url, 'otlp.protocol': 'http/json' };
    expect(
      parseConfig(given, { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc', OTEL_EXPORTER_OTLP_ENDPOINT: 'x' }).ignored,
    ).toEqual([]);
  });

  it.each<[environment: Record<string, string>, message: string]>([
    [
      { PEERSCOPE_OTLP_PROTOCOL: 'grpc' },
      'Cannot use PEERSCOPE_OTLP_PROTOCOL "grpc": must be http/json or http/protobuf',
    ],
    [
      { PEERSCOPE_OTLP_CLIENT_KEY: 'k.pem' },
      'Cannot use --otlp.client-key "k.pem": requires --otlp.client-certificate',
    ],
    [
      { PEERSCOPE_OTLP_CLIENT_CERTIFICATE: 'c.pem' },
      'Cannot use --otlp.client-certificate "c.pem": requires --otlp.client-key',
    ],
  ])('rejects %j if enabled', (environment, message) => {
    expect(() => otlpOf({ ...endpoint, ...environment })).toThrow(new UsageError(message));
  });

  it.each<[situation: string, environment: Record<string, string>, expected: Record<string, string>]>([
    [
      'attributes, percent-encoded',
      { OTEL_RESOURCE_ATTRIBUTES: 'service.namespace=net%3Dops, site=a%2Cb,empty=' },
      { 'service.namespace': 'net=ops', site: 'a,b' },
    ],
    [
      'the name of the service, before the attribute',
      { OTEL_RESOURCE_ATTRIBUTES: 'service.name=a', OTEL_SERVICE_NAME: 'eyes' },
      { 'service.name': 'eyes' },
    ],
    [
      'node and cluster of Kubernetes',
      { NODE_NAME: 'node-7', K8S_CLUSTER_NAME: 'test' },
      { 'k8s.node.name': 'node-7', 'k8s.cluster.name': 'test' },
    ],
    [
      'the node of the attributes first',
      { NODE_NAME: 'a', K8S_NODE_NAME: 'b', OTEL_RESOURCE_ATTRIBUTES: 'k8s.node.name=c' },
      { 'k8s.node.name': 'c' },
    ],
  ])('takes %s', (_situation, environment, expected) => {
    expect(otlpOf({ ...endpoint, ...environment })?.resource).toEqual(expected);
  });
});

it('logs text on a terminal by default', () => {
  expect(parseConfig({}, {}, true).log.format).toBe('text');
  expect(parseConfig({ 'log.format': 'json' }, {}, true).log.format).toBe('json');
});

it('accepts the default of every flag', () => {
  const refused = FLAGS.filter((flag) => flag.default !== null && flag.parse(flag.default) === undefined);
  expect(refused.map(({ name }) => name)).toEqual([]);
});

it.each([
  [{}, 'requires --web.enable-api'],
  [{ 'web.enable-api': true }, 'requires authentication in --web.config.file'],
  [
    { 'web.enable-api': true, 'web.config.file': 'web.yaml', 'collector.first-seen': false },
    'requires --collector.first-seen',
  ],
])('rejects decisions of users with %j', (given, reason) => {
  const message = `Cannot use --web.enable-accept: ${reason}`;
  expect(() => parseConfig({ 'web.enable-accept': true, ...given }, {})).toThrow(new UsageError(message));
});

describe('the cluster', () => {
  const POD = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443', NODE_NAME: 'node-1' };
  const watched = {
    server: { host: '10.96.0.1', port: 443 },
    nodeName: 'node-1',
    services: false,
    expects: true,
    isExplicit: false,
  };

  it.each<{
    name: string;
    given?: Record<string, unknown>;
    environment: Record<string, string>;
    expected: Config['kubernetes'];
  }>([
    { name: 'is watched in a pod that knows its node', environment: POD, expected: watched },
    {
      name: 'is watched when that is asked for',
      given: { 'collector.kubernetes': true },
      environment: POD,
      expected: { ...watched, isExplicit: true },
    },
    {
      name: 'is watched with its Services by the environment',
      environment: { ...POD, PEERSCOPE_KUBERNETES_SERVICES: 'true' },
      expected: { ...watched, services: true },
    },
    {
      name: 'is watched without annotations about what is normal',
      given: { 'kubernetes.expects': false },
      environment: POD,
      expected: { ...watched, expects: false },
    },
    {
      name: 'has an API server with an IPv6 address',
      environment: { ...POD, KUBERNETES_SERVICE_HOST: 'fd00:96::1' },
      expected: { ...watched, server: { host: 'fd00:96::1', port: 443 } },
    },
    { name: 'is not watched on a plain host', environment: {}, expected: null },
    {
      name: 'is not watched in a pod that is not told its node',
      environment: { ...POD, NODE_NAME: '' },
      expected: null,
    },
    {
      name: 'is not watched when that is switched off',
      given: { 'collector.kubernetes': false },
      environment: POD,
      expected: null,
    },
  ])('$name', ({ given = {}, environment, expected }) => {
    expect(parseConfig(given, environment).kubernetes).toEqual(expected);
  });

  it.each<{ name: string; given: Record<string, unknown>; environment: Record<string, string>; message: string }>([
    {
      name: 'outside of a cluster',
      given: { 'collector.kubernetes': true },
      environment: { NODE_NAME: 'node-1' },
      message:
        'Cannot use --collector.kubernetes: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must name the API server',
    },
    {
      name: 'at a port that is none',
      given: { 'collector.kubernetes': true },
      environment: { ...POD, KUBERNETES_SERVICE_PORT: 'tcp://10.96.0.1:443' },
      message:
        'Cannot use --collector.kubernetes: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must name the API server',
    },
    {
      name: 'of a node without a name',
      given: { 'collector.kubernetes': true },
      environment: { ...POD, NODE_NAME: '' },
      message: 'Cannot use --collector.kubernetes: NODE_NAME must name the node',
    },
    {
      name: 'for its Services alone',
      given: { 'collector.kubernetes': false, 'kubernetes.services': true },
      environment: POD,
      message: 'Cannot use --kubernetes.services: conflicts with --no-collector.kubernetes',
    },
  ])('cannot be watched $name', ({ given, environment, message }) => {
    expect(() => parseConfig(given, environment)).toThrow(new UsageError(message));
  });

  it.each([
    ['3f1e6b1c-8d1b-4c0e-9c5f-0a1b2c3d4e5f', '3f1e6b1c-8d1b-4c0e-9c5f-0a1b2c3d4e5f'],
    ['', null],
    ['not a\nuid', null],
  ])('has a pod of its own with the uid %j', (POD_UID, expected) => {
    expect(parseConfig({}, { POD_UID }).podUid).toBe(expected);
  });
});
