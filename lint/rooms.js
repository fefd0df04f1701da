/**
 * The walls of src: which rooms a room may import, and which files may use what lies outside of the program.
 * A room is a folder of src, or a file at its root. An entry that ends in .ts allows that file alone.
 */
import { dirname, join, relative, sep } from 'node:path';

/** Imports point from a room to the rooms listed here, never back. */
export const ROOMS = {
  'model.ts': [],
  common: ['model.ts'],
  config: ['common', 'model.ts', 'store/redis-url.ts'],
  parse: ['common', 'model.ts'],
  collect: ['common', 'model.ts'],
  store: ['common', 'model.ts'],
  'enrich/asn': ['common', 'model.ts', 'store'],
  'enrich/kubernetes': ['common', 'model.ts'],
  enrich: ['collect', 'common', 'enrich/asn', 'enrich/kubernetes', 'model.ts'],
  'first-seen': ['collect', 'common', 'enrich', 'model.ts', 'store/contract.ts'],
  metrics: ['collect', 'common', 'enrich', 'first-seen/memory.ts', 'model.ts'],
  'scrape.ts': [
    'collect',
    'common',
    'enrich',
    'enrich/asn',
    'enrich/kubernetes',
    'first-seen',
    'metrics',
    'model.ts',
    'store/contract.ts',
  ],
  rows: ['collect', 'common', 'enrich', 'model.ts', 'scrape.ts'],
  expose: ['common', 'metrics', 'model.ts'],
  'web/page': ['common', 'metrics', 'model.ts'],
  web: ['common', 'config', 'expose', 'model.ts', 'rows', 'web/page'],
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
  ],
  'index.ts': [
    'cli/live-scan.ts',
    'collect',
    'common',
    'config',
    'enrich/asn',
    'model.ts',
    'parse',
    'rows',
    'scrape.ts',
    'store',
  ],
  'main.ts': ['cli', 'common', 'config'],
};

/** Single files that may import more than their room. */
export const EXCEPTIONS = {
  'collect/command-host.ts': ['parse'],
  'collect/ss-netstat.ts': ['parse'],
};

/** Each outside thing has one door: the only files that may import it. `module#name` is one export of a module. */
export const DOORS = {
  '@opentelemetry/api': ['expose/otlp.ts'],
  '@opentelemetry/exporter-metrics-otlp-http': ['expose/otlp.ts'],
  '@opentelemetry/exporter-metrics-otlp-proto': ['expose/otlp.ts'],
  '@opentelemetry/resources': ['expose/otlp.ts'],
  '@opentelemetry/sdk-metrics': ['expose/otlp.ts'],
  bcryptjs: ['web/bcrypt-worker.ts'],
  commander: ['main.ts'],
  express: ['web/server.ts'],
  ioredis: ['store/redis-connector.ts', 'store/redis.ts'],
  'mmdb-lib': ['enrich/asn/mmdb.ts'],
  pino: ['common/log.ts'],
  'prom-client': ['expose/prometheus-text.ts'],
  yaml: ['config/yaml.ts'],
  zod: ['config/rules.ts', 'config/yaml.ts', 'web/web-config.ts'],
  'node:child_process': ['collect/ss-netstat.ts'],
  'node:dns/promises': ['enrich/asn/cymru-dns.ts', 'enrich/rdns.ts'],
  'node:https': ['enrich/kubernetes/api-client.ts', 'expose/otlp.ts', 'web/tls.ts'],
  'node:net': ['collect/procfs.ts', 'enrich/asn/cymru-whois.ts', 'store/redis-connector.ts', 'web/limits.ts'],
  'node:perf_hooks': [],
  'node:process': [],
  'node:sqlite': ['store/sqlite.ts'],
  'node:vm': ['collect/regexp-budget.ts'],
  'node:worker_threads': [
    'expose/otlp.ts',
    'serve/messages.ts',
    'serve/otlp-thread.ts',
    'serve/port-stream.ts',
    'serve/worker-client.ts',
    'serve/worker.ts',
    'web/bcrypt-worker.ts',
    'web/bcrypt.ts',
  ],
  'node:crypto#randomBytes': ['web/basic-auth.ts'],
  'node:crypto#randomInt': ['serve/serve.ts'],
  'node:crypto#randomUUID': ['collect/procfs.ts', 'store/redis.ts', 'store/sqlite.ts'],
};

/** The only files that may read the wall clock, chance and the environment: everywhere else they are parameters. */
export const AMBIENT = {
  clock: ['common/clock.ts'],
  chance: ['cli/commands.ts', 'serve/serve.ts', 'serve/services.ts', 'serve/otlp-thread.ts'],
  environment: ['main.ts'],
};

/** The room of a file below src, such as "enrich/asn" or "scrape.ts". */
const roomOf = (path) => {
  const folder = dirname(path);
  return folder === '.' ? path : folder;
};

/** Calls `check(node, specifier, names)` for each import, re-export and dynamic import of a file. */
const visitImports = (check) => {
  const named = (node) =>
    (node.specifiers ?? [])
      .map(({ imported, local }) => (imported ?? local)?.name)
      .filter((name) => name !== undefined);
  const declared = (node) => node.source && check(node, node.source.value, named(node));
  return {
    ImportDeclaration: declared,
    ExportNamedDeclaration: declared,
    ExportAllDeclaration: declared,
    TSImportType: (node) => check(node, node.source?.value ?? node.argument?.literal?.value, []),
    ImportExpression: (node) => check(node, node.source.type === 'Literal' ? node.source.value : null, []),
  };
};

const sourceOf = (context) => join(context.settings.peerscope.root, 'src');
const pathOf = (context) => relative(sourceOf(context), context.filename).split(sep).join('/');

const rooms = {
  meta: {
    type: 'problem',
    schema: [],
    messages: { wall: '"{{from}}" may not import "{{to}}": see ROOMS in lint/rooms.js.' },
  },
  create: (context) => {
    const path = pathOf(context);
    const room = roomOf(path);
    const allowed = [room, ...(ROOMS[room] ?? []), ...(EXCEPTIONS[path] ?? [])];
    return visitImports((node, specifier) => {
      if (specifier === null || !specifier.startsWith('.')) return;
      const target = relative(sourceOf(context), join(dirname(context.filename), specifier))
        .split(sep)
        .join('/');
      if (allowed.includes(roomOf(target)) || allowed.includes(target)) return;
      context.report({ node, messageId: 'wall', data: { from: path, to: target } });
    });
  },
};

const doors = {
  meta: {
    type: 'problem',
    schema: [],
    messages: { door: '"{{path}}" may not import {{what}}: see DOORS in lint/rooms.js.' },
  },
  create: (context) => {
    const path = pathOf(context);
    return visitImports((node, specifier, names) => {
      const wanted = specifier === null ? [] : [specifier, ...names.map((name) => `${specifier}#${name}`)];
      if (specifier === null) context.report({ node, messageId: 'door', data: { path, what: 'a computed path' } });
      for (const what of wanted)
        if (DOORS[what] && !DOORS[what].includes(path))
          context.report({ node, messageId: 'door', data: { path, what } });
    });
  },
};

export const plugin = { meta: { name: 'peerscope' }, rules: { doors, rooms } };
