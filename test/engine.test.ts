import { fileURLToPath } from 'node:url';
import { MessageChannel } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { EMPTY_RULES } from '../src/config.ts';
import { Engine } from '../src/engine.ts';
import type { Collected } from '../src/expose/otlp.ts';
import { renderFamilies } from '../src/expose/prometheus.ts';
import { statusFamilies } from '../src/families.ts';

const TREE = fileURLToPath(new URL('fixtures/proc/plain-host', import.meta.url));
const collectors = { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true };
const STATUS = {
  version: '1.2.3',
  snapshotAtSeconds: 0,
  collectors: [],
  malformedRows: new Map(),
  asn: null,
  store: null,
  otlp: null,
};

/** A channel, and what comes out of it. */
function listen(): { port: MessageChannel['port1']; collected: Promise<Collected> } {
  const { port1, port2 } = new MessageChannel();
  return { port: port2, collected: new Promise((resolve) => port1.once('message', resolve)) };
}

describe('families that are shared', () => {
  const engine = new Engine(
    { procfs: TREE, source: null, options: { seriesLimit: 1000, rules: EMPTY_RULES, collectors }, asksForAsns: false },
    5_000,
    {
      ask: () => undefined,
      sighted: () => undefined,
      failed: (reason) => expect.fail(reason),
      died: (reason) => expect.fail(reason),
    },
  );
  afterAll(() => engine.close());

  it('are those of the page that is asked for at the same time, and those of the status', async () => {
    const scans: number[] = [];
    const { port, collected } = listen();
    const [page] = await Promise.all([
      engine.page('text', 5_000),
      engine.share(port, ({ at }) => (scans.push(at), STATUS), 5_000),
    ]);
    expect(scans).toEqual([page.at]);
    const shared = await collected;
    const families = 'families' in shared ? shared.families : [];
    const text = await renderFamilies(families, 'text');
    expect(text).toBe(Buffer.from(page.body).toString() + (await renderFamilies(statusFamilies(STATUS), 'text')));
  });

  it('are none, with the reason, where no scan ends in time', async () => {
    const { port, collected } = listen();
    await expect(engine.share(port, () => STATUS, 0)).rejects.toThrow('no scan ended within 0 ms');
    expect(await collected).toEqual({ reason: 'no scan ended within 0 ms' });
  });

  it('are none, with the reason, when the thread has ended', async () => {
    await engine.close();
    const { port, collected } = listen();
    await expect(engine.share(port, () => STATUS, 5_000)).rejects.toThrow('the exporter is stopping');
    expect(await collected).toEqual({ reason: 'the exporter is stopping' });
  });
});
