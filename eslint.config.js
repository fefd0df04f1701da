import js from '@eslint/js';
import tseslint from 'typescript-eslint';
import { plugin } from './lint/plugin.ts';

export default tseslint.config(
  { ignores: ['.cache', 'dist', 'coverage', 'packages', 'deploy/helm', 'test/fixtures'] },
  js.configs.recommended,
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: {
        projectService: { allowDefaultProject: ['*.js'] },
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
    files: ['test/e2e/dashboards/*.js'],
    languageOptions: { globals: { window: 'writable', structuredClone: 'readonly' } },
  },
  {
    files: ['src/**/*.ts'],
    plugins: { peerscope: plugin },
    settings: { peerscope: { root: import.meta.dirname } },
    // A comment cannot open a wall.
    linterOptions: { noInlineConfig: true },
    rules: { 'peerscope/rooms': 'error', 'peerscope/ambient': 'error' },
  },
  // The control sequences of a terminal, and ranges of ASCII.
  {
    files: [
      'bench/terminal-picture.ts',
      'src/cli/terminal/width.ts',
      'src/cli/watch.ts',
      'src/parse/{net-tools,prefix,states}.ts',
    ],
    rules: { 'no-control-regex': 'off' },
  },
  // The signature of commander's `opts`.
  { files: ['src/cli/command-spec.ts'], rules: { '@typescript-eslint/no-unnecessary-type-parameters': 'off' } },
);
