import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const NODE_COMPILE_CACHE = fileURLToPath(new URL('node_modules/.cache/peerscope-test', import.meta.url));

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/e2e/**'],
    testTimeout: 60_000,
    maxWorkers: '100%',
    env: { NODE_COMPILE_CACHE },
    // Node.js runs the sources as it does outside of tests, and each worker loads them once: no test replaces a module.
    isolate: false,
    experimental: { viteModuleRunner: false, nodeLoader: false },
  },
});
