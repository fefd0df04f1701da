/**
 * The walls of src: which rooms a room may import, and which files may use what lies outside the program.
 * A room is a folder of src, or a file at its root. An entry is a room, or a single file. What is not listed is forbidden;
 * test/project/walls.test.ts finds entries that no file needs.
 */

/** Imports point from a room to the rooms listed here, never back. */
export const ROOMS: Readonly<Record<string, readonly string[]>> = {
  'model.ts': [],
  common: ['model.ts'],
  config: ['common', 'model.ts', 'store/redis-url.ts', 'unusual/grammar'],
  parse: ['common', 'model.ts'],
  collect: ['common', 'model.ts'],
  store: ['common', 'model.ts'],
  'enrich/asn': ['common', 'model.ts', 'store'],
  'enrich/kubernetes': ['common', 'model.ts', 'unusual/grammar'],
  enrich: ['common', 'enrich/asn', 'enrich/kubernetes', 'model.ts'],
  traffic: ['collect', 'common', 'model.ts'],
  'unusual/grammar': ['common'],
  unusual: ['collect', 'common', 'enrich', 'model.ts', 'unusual/grammar'],
  metrics: ['collect', 'common', 'enrich', 'model.ts', 'traffic', 'unusual', 'unusual/grammar'],
  'scrape.ts': [
    'collect',
    'common',
    'enrich',
    'enrich/asn',
    'enrich/kubernetes',
    'metrics',
    'model.ts',
    'traffic',
    'unusual',
  ],
  rows: ['collect', 'common', 'enrich', 'model.ts', 'scrape.ts'],
  expose: ['common', 'metrics', 'model.ts'],
  'web/page': ['common', 'metrics', 'model.ts', 'unusual', 'unusual/grammar'],
  web: ['common', 'config', 'expose', 'rows', 'unusual/grammar', 'web/page'],
  serve: [
    'collect',
    'common',
    'config',
    'enrich',
    'enrich/asn',
    'enrich/kubernetes',
    'expose',
    'metrics',
    'model.ts',
    'rows',
    'scrape.ts',
    'store',
    'unusual',
    'web',
    'web/page',
  ],
  'cli/terminal': ['common', 'model.ts'],
  cli: [
    'cli/terminal',
    'collect',
    'common',
    'config',
    'enrich',
    'enrich/asn',
    'metrics',
    'model.ts',
    'parse',
    'rows',
    'scrape.ts',
    'serve/serve.ts',
    'store',
    'unusual',
    'unusual/grammar',
  ],
  'index.ts': ['collect', 'common', 'config', 'enrich/asn', 'model.ts', 'parse', 'rows', 'scrape.ts', 'store'],
  'main.ts': ['cli', 'common', 'config'],
};

/** Single files that may import more than their room. */
export const EXCEPTIONS: Readonly<Record<string, readonly string[]>> = {
  'cli/commands.ts': ['../package.json'],
  'cli/exporter-store.ts': ['enrich/kubernetes'],
  'collect/saved-output.ts': ['parse'],
  'collect/ss-netstat.ts': ['parse'],
  'enrich/connection-peers.ts': ['collect'],
};

/** An entry of DOORS for what every file may use. */
export const EVERYWHERE = ['*'];

/**
 * Where each library and each module of Node.js may be imported. `module#name` is one export of a module and decides for it;
 * an import of such a module as a whole counts as an import of every export.
 */
export const DOORS: Readonly<Record<string, readonly string[]>> = {
  '@opentelemetry/api': ['expose/otlp.ts'],
  '@opentelemetry/exporter-metrics-otlp-http': ['expose/otlp.ts'],
  '@opentelemetry/exporter-metrics-otlp-proto': ['expose/otlp.ts'],
  '@opentelemetry/resources': ['expose/otlp.ts'],
  '@opentelemetry/sdk-metrics': ['expose/otlp.ts'],
  bcryptjs: ['web/bcrypt-worker.ts'],
  commander: ['main.ts'],
  ioredis: ['store/redis-connector.ts', 'store/redis-primary.ts', 'store/redis.ts'],
  'mmdb-lib': ['enrich/asn/mmdb.ts'],
  pino: ['common/log.ts'],
  'prom-client': ['expose/prom-client.d.ts', 'expose/prometheus-text.ts'],
  router: ['web/server.ts'],
  yaml: ['config/yaml.ts'],
  zod: ['cli/api-answers.ts', 'config/rules.ts', 'config/yaml.ts', 'web/accept.ts', 'web/web-config.ts'],

  'node:buffer': ['web/basic-auth.ts'],
  'node:child_process': ['collect/socket-agent.ts', 'collect/ss-netstat.ts'],
  'node:crypto': ['common/random-uuid.ts'],
  'node:crypto#constants': ['common/random-uuid.ts', 'web/tls.ts'],
  'node:crypto#createHash': ['common/random-uuid.ts', 'serve/otlp-thread.ts', 'web/accept.ts', 'web/page/policy.ts'],
  'node:crypto#createHmac': ['common/random-uuid.ts', 'web/basic-auth.ts'],
  'node:crypto#createPrivateKey': ['common/random-uuid.ts', 'store/redis-connector.ts', 'web/web-config.ts'],
  'node:crypto#randomBytes': ['common/random-uuid.ts', 'web/accept.ts', 'web/basic-auth.ts'],
  'node:crypto#randomInt': ['common/random-uuid.ts', 'serve/serve.ts'],
  'node:crypto#randomUUID': ['common/random-uuid.ts', 'store/redis.ts'],
  'node:crypto#timingSafeEqual': ['common/random-uuid.ts', 'web/accept.ts'],
  'node:crypto#X509Certificate': ['common/random-uuid.ts', 'store/redis-connector.ts', 'web/web-config.ts'],
  'node:diagnostics_channel': ['expose/otlp.ts'],
  'node:dns': ['enrich/asn/cymru-dns.ts', 'enrich/rdns.ts'],
  'node:events': EVERYWHERE,
  'node:fs': [
    'cli',
    'cli/terminal',
    'collect',
    'common',
    'config',
    'enrich/asn',
    'enrich/kubernetes',
    'serve',
    'store',
    'web/listen.ts',
  ],
  'node:http': ['cli/api-client.ts', 'enrich/kubernetes/api-client.ts', 'expose/otlp.ts', 'web'],
  'node:https': ['cli/api-client.ts', 'enrich/kubernetes/api-client.ts', 'expose/otlp.ts', 'web/tls.ts'],
  'node:net': [
    'collect/agent-socket.ts',
    'collect/procfs.ts',
    'collect/socket-agent.ts',
    'enrich/asn/cymru-whois.ts',
    'store/redis-connector.ts',
    'web/limits.ts',
    'web/listen.ts',
  ],
  'node:os': [],
  'node:os#endianness': [
    'cli/record-redact.ts',
    'collect/agent-stream.ts',
    'collect/inherited-sockets.ts',
    'collect/procfs.ts',
  ],
  'node:os#hostname': ['cli/decide.ts', 'serve/otlp-thread.ts', 'serve/serve.ts'],
  'node:os#networkInterfaces': ['collect/command-host.ts'],
  'node:os#totalmem': ['common/memory-limit.ts'],
  'node:os#userInfo': ['cli/decide.ts'],
  'node:path': EVERYWHERE,
  'node:sqlite': ['store/sqlite-database.ts', 'store/sqlite-records.ts'],
  'node:stream': EVERYWHERE,
  'node:timers': EVERYWHERE,
  'node:tls': ['store', 'web'],
  'node:tty': ['cli', 'cli/terminal'],
  'node:util': EVERYWHERE,
  'node:v8': ['serve/v8-flags.ts'],
  'node:vm': ['common/regexp-budget.ts'],
  'node:worker_threads': [
    'collect/read-worker.ts',
    'collect/timed-reader.ts',
    'enrich/asn/database-thread.ts',
    'enrich/asn/database-worker.ts',
    'expose/otlp.ts',
    'serve',
    'web/bcrypt-worker.ts',
    'web/bcrypt.ts',
  ],
  'node:zlib': EVERYWHERE,
};

/** The only files that may read the clock, random numbers and the environment: everywhere else they are parameters. */
export const AMBIENT: Readonly<Record<Ambient, readonly string[]>> = {
  clock: ['common/clock.ts'],
  chance: ['cli/commands.ts', 'cli/view-commands.ts', 'serve/otlp-thread.ts', 'serve/services.ts'],
  environment: ['main.ts'],
};

export type Ambient = 'clock' | 'chance' | 'environment';

/** The room of a file below src: "enrich/asn", or "scrape.ts" for a file at the root. */
export const roomOf = (path: string): string => (path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : path);

const lists = (entries: readonly string[] | undefined, path: string): boolean =>
  entries !== undefined && (entries === EVERYWHERE || entries.includes(path) || entries.includes(roomOf(path)));

/** Whether a file may import another; both are paths below src. */
export const mayImport = (from: string, to: string): boolean =>
  roomOf(from) === roomOf(to) || lists(ROOMS[roomOf(from)], to) || lists(EXCEPTIONS[from], to);

/** The entries of DOORS that decide about an import of a module; `names` is null for the module as a whole. */
export const doorsOf = (module: string, names: readonly string[] | null): string[] => {
  const exports = Object.keys(DOORS).filter((door) => door.startsWith(`${module}#`));
  if (exports.length === 0) return [module];
  return names === null
    ? [module, ...exports]
    : names.map((name) => `${module}#${name}`).map((door) => (door in DOORS ? door : module));
};

/** Whether a file below src may pass through a door. */
export const mayUse = (path: string, door: string): boolean => lists(DOORS[door], path);
