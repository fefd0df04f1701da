import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const NODE_COMPILE_CACHE = fileURLToPath(new URL('node_modules/.cache/peerscope-test', import.meta.url));

export default defineConfig({
  test: {
    include: ['test/e2e/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    fileParallelism: false,
    env: { NODE_COMPILE_CACHE },
  },
});
