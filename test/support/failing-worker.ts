/** Loaded before the program (`node --import`): its scanning thread fails as soon as the file TEST_FAULT says how. */
import { existsSync, readFileSync } from 'node:fs';
import { isMainThread, workerData } from 'node:worker_threads';

const file = process.env['TEST_FAULT'] ?? '';

if (!isMainThread && Object.hasOwn((workerData ?? {}) as object, 'procfs')) {
  const timer = setInterval(() => {
    if (!existsSync(file)) return;
    clearInterval(timer);
    if (readFileSync(file, 'utf8') === 'throw') throw new Error('thrown by a test');
    const kept: number[][] = [];
    for (;;) kept.push(Array.from({ length: 10_000 }, (_, i) => i * 1.5));
  }, 50);
  timer.unref();
}
