import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { MessageChannel, Worker } from 'node:worker_threads';
import { afterAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { EMPTY_RULES } from '../../src/config/config.ts';
import type { Collected } from '../../src/expose/otlp.ts';
import { renderFamilies } from '../../src/expose/prometheus-text.ts';
import { statusFamilies } from '../../src/metrics/families.ts';
import { EventSubscribers } from '../../src/serve/event-subscribers.ts';
import { openWorker, WorkerClient, type WorkerCallbacks } from '../../src/serve/worker-client.ts';
import type { WorkerData } from '../../src/serve/worker.ts';

const TREES = fileURLToPath(new URL('../fixtures/proc/', import.meta.url));
const DATA: WorkerData = {
  procfs: `${TREES}plain-host`,
  source: null,
  options: {
    seriesLimit: 1000,
    rules: EMPTY_RULES,
    collectors: { processes: true, protocols: true, endpoints: true, asn: true, 'first-seen': true, netlink: true },
  },
  asnProvider: 'none',
  asksForNames: false,
  sockets: null,
};
const CALLBACKS: WorkerCallbacks = {
  questions: () => undefined,
  sightings: () => undefined,
  records: () => undefined,
  remotes: () => undefined,
  costs: () => undefined,
  sockets: () => undefined,
  failed: (reason) => expect.fail(reason),
  died: (reason) => expect.fail(reason),
};
const STATUS = {
  version: '1.2.3',
  snapshotAtSeconds: 0,
  collectors: [],
  workerFailures: 0,
  malformedRows: new Map(),
  asn: null,
  configIsCurrent: null,
  webConfigIsCurrent: null,
  kubernetes: [],
  ignoredExpectations: null,
  store: null,
  otlp: null,
};
const REFRESHING = { telemetryPath: '/metrics', connectionsPath: null, acceptToken: null, refreshes: true };
const STATIC = { ...REFRESHING, refreshes: false };

/** One end of a channel, and the first message that arrives at the other. */
function channel(): { port: MessageChannel['port1']; collected: Promise<Collected> } {
  const { port1, port2 } = new MessageChannel();
  return { port: port2, collected: new Promise((resolve) => port1.once('message', resolve)) };
}

/** The text of a page. */
function textOf({ parts }: Awaited<ReturnType<WorkerClient['page']>>): string {
  return Buffer.concat(parts.map(({ body }) => body)).toString();
}

describe('a worker', () => {
  const worker = openWorker(DATA, 5_000, CALLBACKS);
  afterAll(() => worker.close());

  it('shares the families of the page that is requested at the same time, with those of the status', async () => {
    const scans: number[] = [];
    const { port, collected } = channel();
    const [page] = await Promise.all([
      worker.page('text', 5_000),
      worker.share(port, ({ at }) => (scans.push(at), STATUS), 5_000),
    ]);
    expect(scans).toEqual([page.at]);
    const shared = await collected;
    const families = 'families' in shared ? shared.families : [];
    const text = await renderFamilies(families, 'text');
    expect(text).toBe(textOf(page) + (await renderFamilies(statusFamilies(STATUS), 'text')));
  });

  it('shares the reason when no scan ends in time', async () => {
    const { port, collected } = channel();
    await expect(worker.share(port, () => STATUS, 0)).rejects.toThrow('no scan ended within 0 ms');
    expect(await collected).toEqual({ reason: 'no scan ended within 0 ms' });
  });

  it('renders the status page, and repeats the last one when a scan is late', async () => {
    const render = (withinMs: number): ReturnType<WorkerClient['statusPage']> =>
      worker.statusPage(REFRESHING, () => STATUS, withinMs);
    expect(await render(0)).toBeNull();
    const page = await render(5_000);
    expect(page).toMatchObject({ fresh: true, html: expect.stringContaining('22 sockets') as string });
    expect(await render(0)).toEqual({ ...page, fresh: false });
  });

  it('renders the status page once for concurrent requests, with and without refresh', async () => {
    let rendered = 0;
    // A scan in progress would be shared.
    await worker.scan(5_000);
    const render = (options: typeof STATIC, withinMs: number): ReturnType<WorkerClient['statusPage']> =>
      worker.statusPage(options, () => (rendered++, STATUS), withinMs);
    const [one, another, last] = await Promise.all([
      render(STATIC, 5_000),
      render(STATIC, 5_000),
      render(REFRESHING, 5_000),
    ]);
    expect(rendered).toBe(2);
    expect(another).toEqual(one);
    expect(last?.html).not.toBe(one?.html);
    expect(await render(STATIC, 0)).toEqual({ ...one, fresh: false });
  });

  it('streams rows, and rejects when no scan ends in time', async () => {
    // A scan in progress would be shared.
    await worker.scan(5_000);
    await expect(worker.rows([], 'json', 0)).rejects.toThrow('no scan ended within 0 ms');
    const stream = await worker.rows(['port=1'], 'jsonl', 5_000);
    expect(await stream.next()).toEqual(new Uint8Array(0));
    expect(await stream.next()).toBeNull();
    expect(await stream.next()).toBeNull();
    await stream.ended;
  });

  it('rejects a stream with invalid filters, and keeps working', async () => {
    await expect(worker.rows(['colour=red'], 'json', 5_000)).rejects.toThrow('Cannot use filter "colour=red"');
    await expect(worker.events(['colour=red'])).rejects.toThrow('Cannot use filter "colour=red"');
    expect(worker.failures).toBe(2);
    await worker.scan(5_000);
  });

  it('ends a stream that subscribers were opening when they were closed', async () => {
    const subscribers = new EventSubscribers(worker, true, () => undefined);
    const opening = subscribers.open([]);
    subscribers.close();
    await (
      await opening
    ).ended;
    const later = await subscribers.open([]);
    subscribers.close();
    await later.ended;
  });

  it('rejects everything after close, and ends its streams', async () => {
    const stream = await worker.events([]);
    const next = stream.next();
    await Promise.all([worker.close(), expect(next).rejects.toThrow('the worker thread ended the stream')]);
    await stream.ended;
    const { port, collected } = channel();
    await expect(worker.share(port, () => STATUS, 5_000)).rejects.toThrow('the exporter is stopping');
    expect(await collected).toEqual({ reason: 'the exporter is stopping' });
    await expect(worker.events([])).rejects.toThrow('the exporter is stopping');
    await expect(worker.restore()).rejects.toThrow('the exporter is stopping');
    worker.notify('names', []);
  });
});

it('a worker applies changes in the cluster between scans', async () => {
  const { options } = DATA;
  const data = { ...DATA, procfs: `${TREES}containers`, options: { ...options, cluster: ['pods'] as const } };
  const worker = openWorker(data, 5_000, CALLBACKS);
  onTestFinished(() => worker.close());
  expect(textOf(await worker.page('text', 5_000))).not.toContain('orders.py');
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
  worker.notify('cluster', { resource: 'pods', change: { kind: 'replace', items: [pod] } });
  expect(textOf(await worker.page('text', 5_000))).toContain(
    'peerscope_connections{process="orders.py",namespace="shop",workload="orders",pod="orders-0",container="app",',
  );
});

describe('a worker whose handlers fail', () => {
  interface Faulty {
    readonly client: WorkerClient;
    readonly failed: string[];
    readonly died: string[];
  }
  function startFaulty(): Faulty {
    const failed: string[] = [];
    const died: string[] = [];
    const client = new WorkerClient(new Worker(new URL('../support/faulty-worker.ts', import.meta.url)), [], 5_000, {
      ...CALLBACKS,
      failed: (reason) => failed.push(reason),
      died: (reason) => died.push(reason),
    });
    onTestFinished(() => client.close());
    return { client, failed, died };
  }

  it('never answers with another format, another kind or an older scan', async () => {
    const { client, failed } = startFaulty();
    const fresh = new Set<string>();
    for (let round = 0; round < 50; round++) {
      const formats = ['openmetrics', 'text', 'text', 'openmetrics'] as const;
      const pages = formats.map(async (format) => ({ format, page: await client.page(format, 60_000) }));
      const statusPage = client.statusPage(REFRESHING, () => STATUS, 60_000);
      await expect(client.restore()).rejects.toThrow(/^restore$/);
      await expect(client.events([])).rejects.toThrow(/^subscribe$/);
      expect((await statusPage)?.html ?? 'true 1').toMatch(/^true \d+$/);
      for (const { format, page } of await Promise.all(pages)) {
        // After a failure the page is that of an earlier scan, which can be text.
        expect(textOf(page)).toBe(page.at === 0 ? '' : `${page.format} ${page.at}`);
        expect([format, 'text']).toContain(page.format);
        if (page.at > 0) fresh.add(page.format);
      }
    }
    expect([...fresh].sort()).toEqual(['openmetrics', 'text']);
    expect(failed).toContain('scan 2');
    expect(failed).toContain('after scan 1');
    expect(failed).toContain('rendering 4');
    expect(client.failures).toBeGreaterThan(100);
  });

  it('reports and counts notifications that fail', async () => {
    const { client, failed } = startFaulty();
    client.notify('names', []);
    client.notify('rules', EMPTY_RULES);
    await expect(client.restore()).rejects.toThrow('restore');
    expect(failed).toEqual(['names', 'rules']);
    expect(client.failures).toBe(3);
  });

  it('rejects every waiting request when the thread exits', async () => {
    const { client, died } = startFaulty();
    client.notify('confirm', []);
    const { port, collected } = channel();
    const stream = client.events([]);
    const results = await Promise.allSettled([
      client.scan(5_000),
      client.restore(),
      stream,
      client.share(port, () => STATUS, 5_000),
    ]);
    expect(results.map((result) => result.status === 'rejected' && String(result.reason))).toEqual(
      Array(4).fill('Error: the worker thread ended'),
    );
    expect(await collected).toEqual({ reason: 'the worker thread ended' });
    expect(died).toEqual(['the worker thread ended']);
    expect(client.failures).toBe(1);
    await expect(client.scan(5_000)).rejects.toThrow('the worker thread ended');
    expect((await client.page('text', 5_000)).at).toBe(0);
  });

  it('rejects every waiting request when the thread fails to start', async () => {
    const failed: string[] = [];
    const died: string[] = [];
    const data = { ...DATA, procfs: '/dev/null/none' };
    const client = openWorker(data, 5_000, {
      ...CALLBACKS,
      failed: (reason) => failed.push(reason),
      died: (reason) => died.push(reason),
    });
    await expect(client.scan(5_000)).rejects.toThrow('Cannot read procfs "/dev/null/none"');
    await vi.waitUntil(() => died.length > 0);
    expect(died[0]).toMatch(/^Cannot read procfs "\/dev\/null\/none"/);
    await client.close();
  });

  it('rejects a request that cannot be sent, and nothing else', async () => {
    const { client } = startFaulty();
    const status = { ...STATUS, version: (() => '') as unknown as string };
    const { port } = channel();
    await expect(client.share(port, () => status, 5_000)).rejects.toThrow(/could not be cloned/);
    await expect(client.restore()).rejects.toThrow('restore');
  });
});

it('a stream ends with its worker', async () => {
  const { port1, port2 } = new MessageChannel();
  const { PortStream } = await import('../../src/serve/port-stream.ts');
  const stream = new PortStream(port1);
  const closed = once(port1, 'close');
  port2.close();
  await closed;
  await stream.ended;
  await expect(stream.next()).rejects.toThrow('the worker thread ended the stream');
});
