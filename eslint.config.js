import js from '@eslint/js';
import tseslint from 'typescript-eslint';

/** Each outside thing has one door: the only file that may import it. */
const DOORS = {
  'prom-client': ['src/expose/prometheus-text.ts'],
  express: ['src/web/server.ts'],
  commander: ['src/main.ts'],
  pino: ['src/common/log.ts'],
  yaml: ['src/config/yaml.ts'],
  zod: ['src/config/rules.ts', 'src/config/yaml.ts', 'src/web/web-config.ts'],
  'node:sqlite': ['src/store/sqlite.ts'],
  'node:dns/promises': ['src/enrich/asn/cymru-dns.ts', 'src/enrich/rdns.ts'],
  ioredis: ['src/store/redis.ts', 'src/store/redis-connector.ts'],
  'mmdb-lib': ['src/enrich/asn/mmdb.ts'],
  'node:net': [
    'src/enrich/asn/cymru-whois.ts',
    'src/store/redis-connector.ts',
    'src/collect/procfs.ts',
    'src/web/limits.ts',
  ],
  '@opentelemetry/api': ['src/expose/otlp.ts'],
  '@opentelemetry/resources': ['src/expose/otlp.ts'],
  '@opentelemetry/sdk-metrics': ['src/expose/otlp.ts'],
  '@opentelemetry/exporter-metrics-otlp-http': ['src/expose/otlp.ts'],
  '@opentelemetry/exporter-metrics-otlp-proto': ['src/expose/otlp.ts'],
  'node:https': ['src/enrich/kubernetes/api-client.ts', 'src/expose/otlp.ts', 'src/web/tls.ts'],
  'node:worker_threads': [
    'src/serve/worker-client.ts',
    'src/serve/port-stream.ts',
    'src/serve/worker.ts',
    'src/serve/otlp-thread.ts',
    'src/expose/otlp.ts',
    'src/web/bcrypt.ts',
    'src/web/bcrypt-worker.ts',
  ],
  bcryptjs: ['src/web/bcrypt-worker.ts'],
  'node:child_process': ['src/collect/ss-netstat.ts'],
  'node:vm': ['src/collect/regexp-budget.ts'],
};

/** Which folders a folder must not import from. `collect` and `enrich` never meet; nothing below src knows the command line. */
const WALLS = {
  'src/collect': ['enrich', 'expose', 'cli', 'catalogue', 'aggregate', 'scrape', 'engine', 'config', 'flags', 'groups'],
  'src/enrich': ['collect', 'expose', 'cli', 'catalogue', 'aggregate', 'scrape', 'engine', 'config', 'flags', 'groups'],
  'src/parse': [
    'collect',
    'enrich',
    'expose',
    'cli',
    'catalogue',
    'aggregate',
    'scrape',
    'engine',
    'config',
    'flags',
    'groups',
  ],
  'src/expose': ['collect', 'enrich', 'cli', 'scrape', 'engine', 'push'],
};

const closedDoors = (file) =>
  Object.entries(DOORS)
    .filter(([, files]) => !files.includes(file))
    .map(([name]) => ({ name, message: 'Each outside thing has one door; see DOORS in eslint.config.js.' }));

const imports = (file, walls = []) => ({
  'no-restricted-imports': [
    'error',
    {
      paths: closedDoors(file),
      patterns: walls.map((wall) => ({
        regex: `^\\.\\.?/(\\.\\./)*${wall}(/|\\.ts$)`,
        message: 'Imports point one way.',
      })),
    },
  ],
});

const NO_WALL_CLOCK = {
  'no-restricted-syntax': [
    'error',
    {
      selector: "MemberExpression[object.name='Date'][property.name='now']",
      message: 'The clock comes in as a parameter.',
    },
    {
      selector: "NewExpression[callee.name='Date'][arguments.length=0]",
      message: 'The clock comes in as a parameter.',
    },
    {
      selector: "MemberExpression[object.name='Math'][property.name='random']",
      message: 'Chance comes in as a parameter.',
    },
  ],
};

export default tseslint.config(
  { ignores: ['.cache', 'dist', 'coverage', 'test/fixtures'] },
  js.configs.recommended,
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['eslint.config.js'] },
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      'no-console': 'error',
      eqeqeq: 'error',
    },
  },
  { files: ['eslint.config.js'], extends: [tseslint.configs.disableTypeChecked] },
  {
    files: ['src/**/*.ts'],
    rules: {
      ...imports('src'),
      'no-restricted-properties': [
        'error',
        {
          object: 'process',
          property: 'env',
          message: 'src/main.ts hands the environment to config.ts, the only reader of it.',
        },
      ],
    },
  },
  ...Object.entries(WALLS).map(([folder, walls]) => ({ files: [`${folder}/**/*.ts`], rules: imports(folder, walls) })),
  ...[...new Set(Object.values(DOORS).flat())].map((file) => ({
    files: [file],
    rules: imports(file, Object.entries(WALLS).find(([folder]) => file.startsWith(`${folder}/`))?.[1]),
  })),
  { files: ['src/model.ts'], rules: { 'no-restricted-imports': ['error', { patterns: ['*'] }] } },
  { files: ['src/main.ts'], rules: { 'no-restricted-properties': 'off' } },
  {
    files: [
      'src/collect/**/*.ts',
      'src/enrich/**/*.ts',
      'src/parse/**/*.ts',
      'src/{aggregate,catalogue,census,families,groups,push,scrape,row}.ts',
      'src/expose/otlp-points.ts',
    ],
    rules: NO_WALL_CLOCK,
  },
);
