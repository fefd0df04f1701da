import js from '@eslint/js';
import tseslint from 'typescript-eslint';
import { AMBIENT, plugin } from './lint/rooms.js';

const CLOCK = 'The clock comes in as a parameter: see common/clock.ts.';
const CHANCE = 'Chance comes in as a parameter.';
const ENVIRONMENT = 'main.ts passes the environment to config, the only reader of it.';

const ambient = (clock, chance, environment) => ({
  'no-restricted-properties': [
    'error',
    ...(clock
      ? [
          { object: 'Date', property: 'now', message: CLOCK },
          { object: 'performance', property: 'now', message: CLOCK },
          { object: 'performance', property: 'timeOrigin', message: CLOCK },
          { object: 'process', property: 'hrtime', message: CLOCK },
          { object: 'process', property: 'uptime', message: CLOCK },
          { object: 'globalThis', property: 'Date', message: CLOCK },
          { object: 'globalThis', property: 'performance', message: CLOCK },
        ]
      : []),
    ...(chance
      ? [
          { object: 'Math', property: 'random', message: CHANCE },
          { object: 'crypto', property: 'randomUUID', message: CHANCE },
          { object: 'crypto', property: 'getRandomValues', message: CHANCE },
        ]
      : []),
    ...(environment
      ? [
          { object: 'process', property: 'env', message: ENVIRONMENT },
          { object: 'globalThis', property: 'process', message: ENVIRONMENT },
        ]
      : []),
  ],
  'no-restricted-syntax': [
    'error',
    ...(clock
      ? [
          { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: CLOCK },
          { selector: "CallExpression[callee.name='Date']", message: CLOCK },
        ]
      : []),
  ],
});

const inSource = (paths) => paths.map((path) => `src/${path}`);

export default tseslint.config(
  { ignores: ['.cache', 'dist', 'coverage', 'test/fixtures'] },
  js.configs.recommended,
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['*.js', 'lint/*.js'] },
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
  { files: ['**/*.js'], extends: [tseslint.configs.disableTypeChecked] },
  {
    files: ['src/**/*.ts'],
    plugins: { peerscope: plugin },
    settings: { peerscope: { root: import.meta.dirname } },
    rules: { 'peerscope/rooms': 'error', 'peerscope/doors': 'error', ...ambient(true, true, true) },
  },
  { files: inSource(AMBIENT.clock), rules: ambient(false, true, true) },
  { files: inSource(AMBIENT.chance), rules: ambient(true, false, true) },
  { files: inSource(AMBIENT.environment), rules: ambient(true, true, false) },
);
