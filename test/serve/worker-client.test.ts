import { fileURLToPath } from 'node:url';
import { MessageChannel } from 'node:worker_threads';
import { afterAll, describe, expect, it } from 'vitest';
import { EMPTY_RULES } from '../../src/config/config.ts';
import { Engine } from '../../src/serve/worker-client.ts';
import type { Collected } from '../../src/expose/otlp.ts';
import type { Surroundings } from '../../src/web/page/page.ts';
import { renderFamilies } from '../../src/expose/prometheus-text.ts';
import { statusFamilies } from '../../src/metrics/families.ts';

const TREE = fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url));
const collectors = { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true };
const STATUS = {
  version: '1.2.3',
  snapshotAtSeconds: 0,
  collectors: [],
  malformedRows: new Map(),
  asn: null,
  configIsCurrent: null,
  webConfigIsCurrent: null,
  kubernetes: [],
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
    {
      procfs: TREE,
      source: null,
      options: { seriesLimit: 1000, rules: EMPTY_RULES, collectors },
      asnProvider: 'none',
      hasApi: false,
      asksForNames: false,
    },
    5_000,
    {
      ask: () => undefined,
      sighted: () => undefined,
      costs: () => undefined,
      remotes: () => undefined,
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
    const found = page.parts.map(({ body }) => Buffer.from(body).toString()).join('');
    expect(text).toBe(found + (await renderFamilies(statusFamilies(STATUS), 'text')));
  });

  it('are none, with the reason, where no scan ends in time', async () => {
    const { port, collected } = listen();
    await expect(engine.share(port, () => STATUS, 0)).rejects.toThrow('no scan ended within 0 ms');
    expect(await collected).toEqual({ reason: 'no scan ended within 0 ms' });
  });

  it('are drawn for people; the last page stands in for one that is late', async () => {
    const around = { telemetryPath: '/metrics', hasApi: false, refreshes: true };
    const draw = (withinMs: number): ReturnType<Engine['draw']> => engine.draw(around, () => STATUS, withinMs);
    expect(await draw(0)).toBeNull();
    const drawn = await draw(5_000);
    expect(drawn).toMatchObject({ fresh: true, page: expect.stringContaining('22 sockets') as string });
    expect(await draw(0)).toEqual({ ...drawn, fresh: false });
  });

  it('are drawn once for all who look at the same time, moving or still', async () => {
    const still = { telemetryPath: '/metrics', hasApi: false, refreshes: false };
    const moving = { ...still, refreshes: true };
    let drawn = 0;
    // The scan that may be under way would be shared.
    await engine.scan(5_000);
    const draw = (around: Surroundings, withinMs: number): ReturnType<Engine['draw']> =>
      engine.draw(around, () => (drawn++, STATUS), withinMs);
    const [one, another, last] = await Promise.all([draw(still, 5_000), draw(still, 5_000), draw(moving, 5_000)]);
    expect(drawn).toBe(2);
    expect(another).toEqual(one);
    expect(last?.page).not.toBe(one?.page);
    expect(await draw(still, 0)).toEqual({ ...one, fresh: false });
  });

  it('and rows have a deadline too', async () => {
    // The scan that may be under way would be shared.
    await engine.scan(5_000);
    await expect(engine.read([], 'json', 0)).rejects.toThrow('no scan ended within 0 ms');
    const reading = await engine.read(['port=1'], 'jsonl', 5_000);
    expect(await reading.next()).toEqual(new Uint8Array(0));
    expect(await reading.next()).toBeNull();
    expect(await reading.next()).toBeNull();
  });

  it('are none, with the reason, when the thread has ended', async () => {
    const reading = await engine.listen([], () => undefined);
    const next = reading.next();
    await Promise.all([engine.close(), expect(next).rejects.toThrow('the scanning thread ended')]);
    const { port, collected } = listen();
    await expect(engine.share(port, () => STATUS, 5_000)).rejects.toThrow('the exporter is stopping');
    expect(await collected).toEqual({ reason: 'the exporter is stopping' });
  });
});

it('takes in what is known of a cluster between scans', async () => {
  const engine = new Engine(
    {
      procfs: fileURLToPath(new URL('../fixtures/proc/containers', import.meta.url)),
      source: null,
      options: { seriesLimit: 1000, rules: EMPTY_RULES, collectors, cluster: ['pods'] },
      asnProvider: 'none',
      hasApi: false,
      asksForNames: false,
    },
    5_000,
    {
      ask: () => undefined,
      remotes: () => undefined,
      sighted: () => undefined,
      costs: () => undefined,
      failed: (reason) => expect.fail(reason),
      died: (reason) => expect.fail(reason),
    },
  );
  const page = async (): Promise<string> =>
    Buffer.concat((await engine.page('text', 5_000)).parts.map(({ body }) => body)).toString();
  try {
    expect(await page()).not.toContain('orders.py');
    const pod = {
      uid: '3f1e6b1c-8d1b-4c0e-9c5f-0a1b2c3d4e5f',
      configHash: null,
      namespace: 'shop',
      name: 'orders-0',
      workload: 'orders',
      addresses: [],
      containers: [['a1'.repeat(32), 'app']] as const,
      onlyContainer: 'app',
    };
    engine.know({ resource: 'pods', change: { kind: 'replace', items: [pod] } });
    expect(await page()).toContain(
      'peerscope_connections{process="orders.py",namespace="shop",workload="orders",pod="orders-0",container="app",',
    );
  } finally {
    await engine.close();
  }
});
