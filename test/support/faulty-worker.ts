import { parentPort } from 'node:worker_threads';
import { handleMessages, notifyMain } from '../../src/serve/messages.ts';

/**
 * A worker thread with the real message handling, whose handlers fail: every second scan before its reply, every other scan after its
 * reply, every fourth rendering, and every notification. The body of a page is its format and the number of the scan. `confirm` ends
 * the thread.
 */
if (parentPort) {
  const port = parentPort;
  let scans = 0;
  let renderings = 0;
  const fail = (what: string): never => {
    throw new Error(what);
  };
  handleMessages(
    port,
    {
      scan: (_payload, { afterReply }) => {
        scans++;
        if (scans % 2 === 0) fail(`scan ${scans}`);
        const scan = scans;
        afterReply(() => notifyMain(port, 'questions', []));
        afterReply(() => fail(`after scan ${scan}`));
        return { at: scan, collectors: [], malformedRows: new Map(), failures: [] };
      },
      render: async ({ format }, { transfer }) => {
        // Replies are not sent in the turn of the request.
        await new Promise(setImmediate);
        if (++renderings % 4 === 0) fail(`rendering ${renderings}`);
        const body = new TextEncoder().encode(`${format} ${scans}`);
        transfer([body.buffer]);
        return { parts: [{ collector: null, body }], failures: [] };
      },
      draw: ({ options }) => `${options.refreshes} ${scans}`,
      share: () => fail('share'),
      read: () => fail('read'),
      subscribe: () => fail('subscribe'),
      unusual: () => null,
      history: () => null,
      restore: () => fail('restore'),
    },
    {
      learn: () => fail('learn'),
      names: () => fail('names'),
      confirm: () => process.exit(0),
      merge: () => fail('merge'),
      decide: () => fail('decide'),
      rules: () => fail('rules'),
      cluster: () => fail('cluster'),
    },
  );
}
