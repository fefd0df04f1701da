/**
 * Starts an agent, prints what it dumps, and ends: `node agent-user.ts PROGRAM HOW`. HOW is `main` or `worker` for the thread, with
 * `-exit` for process.exit() instead of an end by itself.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { openSocketSource } from '../../src/collect/netlink.ts';

async function use(program: string): Promise<string> {
  const source = openSocketSource({ path: null, environment: {}, program });
  const dump = await source?.dump(10_000);
  return JSON.stringify({ netns: dump?.netns ?? null, tcp: dump?.tcp.count ?? null, failure: source?.failure });
}

const [, , program = '', how = ''] = isMainThread ? process.argv : (workerData as string[]);
if (!isMainThread) parentPort?.postMessage(await use(program));
else {
  const finish = (text: string): void => {
    process.stdout.write(text);
    if (how.endsWith('-exit')) process.exit();
  };
  if (how.startsWith('main')) finish(await use(program));
  else new Worker(new URL(import.meta.url), { workerData: process.argv }).on('message', finish);
}
