import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { MessagePort } from 'node:worker_threads';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { parseConfig } from '../../src/config/config.ts';
import type { Collected, ExportFailure, OtlpSettings } from '../../src/expose/otlp.ts';
import type { Family } from '../../src/model.ts';
import {
  adviceOn,
  describesExporterOnly,
  otlpSettings,
  resourceOf,
  type OtlpThread,
  type RunFacts,
} from '../../src/serve/otlp-thread.ts';
import {
  answers,
  cutsTheConnection,
  dribbles,
  isSilent,
  OtlpReceiver,
  pointsOf,
  resourceOf as receivedResource,
  takes,
  type Answer,
} from '../support/otlp-receiver.ts';
import { labelsOf } from '../support/otlp-labels.ts';
import { connections, FACTS, reply, startPush } from '../support/otlp-push.ts';

vi.setConfig({ testTimeout: 60_000 });
const SOON = { timeout: 30_000, interval: 10 };

interface Running {
  readonly receiver: OtlpReceiver;
  readonly thread: OtlpThread;
  readonly failures: ExportFailure[];
}

/** Exports to a receiver that gives this answer. `families` is called for each export. */
async function open(
  answer: Answer,
  settings: Partial<OtlpSettings> = {},
  families = () => [connections(1)],
): Promise<Running> {
  const receiver = await OtlpReceiver.start();
  receiver.answer = answer;
  const { otlp } = parseConfig({ 'otlp.endpoint': receiver.url, 'otlp.interval': '100ms' }, {});
  const failures: ExportFailure[] = [];
  const thread = startPush(otlp, {
    settings,
    collect: (port) => reply(families())(port),
    failed: (failure) => failures.push(failure),
  });
  onTestFinished(async () => {
    await thread.close();
    await receiver.close();
  });
  return { receiver, thread, failures };
}

/** One export, with enough time for it on a busy machine. */
const LONG = { intervalMs: 3_600_000, timeoutMs: 30_000 };

describe('an export', () => {
  it('has every series with its value, up to 10,000', async () => {
    const { receiver, thread, failures } = await open(takes, LONG, () => [connections(10_000)]);
    await expect.poll(() => thread.counts, SOON).toEqual({ exports: 1, failures: 0 });
    expect(failures).toEqual([]);
    const [request] = receiver.requests;
    const points = request ? pointsOf(request) : [];
    const arrived = points.map(({ attributes, value }) => `${labelsOf(attributes)['process']} ${value}`);
    expect(arrived).toEqual(Array.from({ length: 10_000 }, (_, i) => `process-${i} ${i + 1}`));
  });

  it('is a POST with the resource, the configured headers and gzip', async () => {
    const { receiver } = await open(takes, { headers: { authorization: 'Bearer abc' } });
    await expect.poll(() => receiver.received.length, SOON).toBeGreaterThan(0);
    const [request] = receiver.received;
    expect(request?.path).toBe('/v1/metrics');
    expect(request?.headers).toMatchObject({
      'content-type': 'application/json',
      'content-encoding': 'gzip',
      authorization: 'Bearer abc',
      'user-agent': expect.stringMatching(/^peerscope\/1\.2\.3 /) as string,
    });
    const [sent] = receiver.requests;
    expect(sent && receivedResource(sent)).toMatchObject({ 'service.name': 'peerscope', 'os.type': 'linux' });
    expect(sent?.resourceMetrics[0].scopeMetrics[0].scope).toEqual({ name: 'peerscope', version: '1.2.3' });
  });

  it('has a summary as a cumulative histogram with one bucket', async () => {
    const trips: Family = {
      name: 'peerscope_asn_round_trip_seconds',
      help: 'Round trips.',
      type: 'summary',
      labels: ['direction', 'network', 'asn'],
      samples: [{ labels: ['outbound', 'public', '64500'], value: 0.75, count: 3 }],
    };
    const { receiver } = await open(takes, LONG, () => [trips]);
    await expect.poll(() => receiver.received.length, SOON).toBe(1);
    expect(receiver.requests[0]?.resourceMetrics[0].scopeMetrics[0].metrics).toEqual([
      {
        name: 'peerscope.asn_round_trip',
        description: 'Round trips.',
        unit: 's',
        histogram: {
          aggregationTemporality: 2,
          dataPoints: [
            {
              attributes: [
                { key: 'peerscope.direction', value: { stringValue: 'outbound' } },
                { key: 'peerscope.network', value: { stringValue: 'public' } },
                { key: 'network.peer.as.number', value: { intValue: 64500 } },
              ],
              startTimeUnixNano: '1000000000000',
              timeUnixNano: expect.any(String) as string,
              bucketCounts: [3],
              explicitBounds: [],
              count: 3,
              sum: 0.75,
            },
          ],
        },
      },
    ]);
  });

  it('is uncompressed protobuf when configured', async () => {
    const { receiver } = await open(takes, { protocol: 'http/protobuf', compression: 'none' });
    await expect.poll(() => receiver.received.length, SOON).toBeGreaterThan(0);
    const [request] = receiver.received;
    expect(request?.headers).toMatchObject({ 'content-type': 'application/x-protobuf' });
    expect(request?.headers).not.toHaveProperty('content-encoding');
    expect(request?.body.includes('peerscope.connections')).toBe(true);
  });

  it('sends 0 once for a series that is gone, in the first successful export', async () => {
    let families = [connections(2)];
    const { receiver, thread } = await open(takes, {}, () => families);
    await expect.poll(() => thread.counts.exports, SOON).toBeGreaterThan(0);
    receiver.answer = answers(400);
    await expect.poll(() => thread.counts.failures, SOON).toBeGreaterThan(0);
    families = [connections(1)];
    const refused = receiver.received.length;
    await expect.poll(() => receiver.received.length, SOON).toBeGreaterThan(refused + 2);
    receiver.answer = takes;
    const { exports } = thread.counts;
    await expect.poll(() => thread.counts.exports, SOON).toBeGreaterThan(exports + 2);
    const values = receiver.requests.map((request) =>
      pointsOf(request)
        .map(({ value }) => value)
        .join(),
    );
    const zeros = values.slice(refused + 1);
    const taken = zeros.lastIndexOf('1,0');
    expect(taken).toBeGreaterThan(0);
    expect(new Set(zeros.slice(0, taken + 1))).toEqual(new Set(['1,0']));
    expect(new Set(zeros.slice(taken + 1))).toEqual(new Set(['1']));
  });

  it('is first sent after the random part of the interval', async () => {
    const { receiver, thread } = await open(takes, { ...LONG, firstMs: 3_600_000 });
    const other = await open(takes);
    await expect.poll(() => other.thread.counts.exports, SOON).toBeGreaterThan(3);
    expect(receiver.received).toEqual([]);
    await thread.close();
    expect(receiver.received).toHaveLength(1);
  });
});

describe('a receiver', () => {
  const busy = (status: number): Answer => answers(status, { 'retry-after': '2' });

  it.each([429, 503])('that answers %i with Retry-After gets the export again after that time', async (status) => {
    const { receiver, thread, failures } = await open(busy(status), LONG);
    await expect.poll(() => receiver.received.length, SOON).toBe(1);
    receiver.answer = takes;
    await expect.poll(() => thread.counts, SOON).toEqual({ exports: 1, failures: 0 });
    const [first, second] = receiver.received;
    expect(second?.body).toEqual(first?.body);
    expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThan(1_990);
    expect(failures).toEqual([]);
  });

  it.each<[situation: string, answer: Answer, timeoutMs: number, failure: ExportFailure]>([
    [
      'whose Retry-After exceeds the timeout fails at once',
      answers(503, { 'retry-after': '3600' }),
      20_000,
      { reason: 'the receiver answered 429, 502, 503 or 504 to every attempt', status: null },
    ],
    [
      'that answers 400 fails with the text of the answer',
      answers(400, {}, 'cannot parse \u001b[31m'),
      20_000,
      { reason: 'the receiver answered 400 Bad Request cannot parse \u001b[31m', status: 400 },
    ],
    [
      'that answers 413 fails',
      answers(413, {}, 'x'.repeat(10_000)),
      20_000,
      { reason: `the receiver answered 413 Payload Too Large ${'x'.repeat(300)}`.slice(0, 300), status: 413 },
    ],
    [
      'that does not answer fails at the timeout',
      isSilent,
      500,
      { reason: 'no complete response within 500 ms', status: null },
    ],
    [
      'that closes the connection fails',
      cutsTheConnection,
      500,
      {
        reason: expect.stringMatching(/^(socket hang up|no complete response within 500 ms)$/) as string,
        status: null,
      },
    ],
    [
      'that rejects some points fails',
      answers(200, {}, '{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too old"}}'),
      20_000,
      { reason: 'the receiver rejected 3 points: too old', status: null },
    ],
  ])('%s and does not count as an export', async (_situation, answer, timeoutMs, failure) => {
    const { thread, failures } = await open(answer, { ...LONG, timeoutMs });
    await expect.poll(() => failures, SOON).toEqual([failure]);
    expect(thread.counts).toEqual({ exports: 0, failures: 1 });
  });

  it.each<[situation: string, status: number, chunk: string]>([
    ['in large parts', 200, 'x'.repeat(60_000)],
    ['in large parts with an error', 400, 'x'.repeat(60_000)],
    ['in single bytes', 200, 'x'],
    ['in single bytes with an error', 503, 'x'],
  ])('that answers without end %s fails at once', async (_situation, status, chunk) => {
    let sent = 0;
    const pumps: Answer = (response) => {
      response.writeHead(status);
      const pump = (): void => {
        while (!response.destroyed && response.write(chunk)) sent++;
        response.once('drain', pump);
      };
      pump();
    };
    const { thread, failures } = await open(pumps, LONG);
    await expect.poll(() => failures.length, SOON).toBeGreaterThan(0);
    expect(failures[0]).toEqual({ reason: 'the response has more than 262144 bytes or 1000 parts', status: null });
    expect(thread.counts.exports).toBe(0);
    expect(sent * chunk.length).toBeLessThan(16 << 20);
  });

  it('that accepts every point with a warning counts as an export', async () => {
    const warning = answers(200, {}, '{"partialSuccess":{"errorMessage":"old version"}}');
    const { thread } = await open(warning, LONG);
    await expect.poll(() => thread.counts, SOON).toEqual({ exports: 1, failures: 0 });
  });

  it('that never finishes its answer fails at the timeout of each export', async () => {
    const { thread, failures } = await open(dribbles, { intervalMs: 200, timeoutMs: 200 });
    await expect.poll(() => thread.counts.failures, SOON).toBeGreaterThan(2);
    expect(failures[0]).toEqual({ reason: 'no complete response within 200 ms', status: null });
    expect(thread.counts.exports).toBe(0);
  });

  it('that is not running fails at every export', async () => {
    const { receiver, thread, failures } = await open(takes, { firstMs: 1_000, intervalMs: 500, timeoutMs: 500 });
    await receiver.close();
    await expect.poll(() => thread.counts.failures, SOON).toBeGreaterThan(1);
    expect(failures[0]?.reason).toMatch(/connection refused|no complete response within 500 ms/);
    expect(thread.counts.exports).toBe(0);
  });

  it.each([
    ['json and 400', 'http/json', 400, true],
    ['json and 415', 'http/json', 415, true],
    ['json and 404', 'http/json', 404, false],
    ['protobuf and 400', 'http/protobuf', 400, false],
  ] as const)('that does not accept JSON leads to advice: %s', (_situation, protocol, status, advised) => {
    const advice = adviceOn({ reason: '', status }, protocol);
    expect(advice?.includes('--otlp.protocol=http/protobuf') ?? false).toBe(advised);
  });
});

it('close exports once more', async () => {
  const { receiver, thread } = await open(takes, LONG);
  await expect.poll(() => thread.counts.exports, SOON).toBe(1);
  await thread.close();
  expect(receiver.received).toHaveLength(2);
  expect(thread.counts).toEqual({ exports: 2, failures: 0 });
});

it.each<[string, Answer]>([
  ['is silent', isSilent],
  ['never ends', dribbles],
  ['is busy', answers(503)],
])('close waits for a receiver that %s no longer than the timeout of one export', async (_name, answer) => {
  const { receiver, thread } = await open(answer, { ...LONG, timeoutMs: 400 });
  await expect.poll(() => receiver.received.length, SOON).toBeGreaterThan(0);
  await thread.close();
  expect(thread.counts.exports).toBe(0);
});

it('a failed scan is a failed export, and the next export is sent', async () => {
  const receiver = await OtlpReceiver.start();
  const { otlp } = parseConfig({ 'otlp.endpoint': receiver.url, 'otlp.interval': '50ms' }, {});
  const failures: ExportFailure[] = [];
  const answers: ((port: MessagePort) => void)[] = [
    (port) => port.postMessage({ reason: 'no scan ended within 1 ms' } satisfies Collected),
    () => undefined,
    (port) => port.postMessage({ families: [{ ...connections(1), name: 'x' }] } satisfies Collected),
  ];
  const thread = startPush(otlp, {
    collect: (port) => {
      const answer = answers.shift();
      if (!answer) return reply([connections(1)])(port);
      answer(port);
      port.close();
      return Promise.resolve();
    },
    failed: (failure) => failures.push(failure),
  });
  await expect.poll(() => thread.counts.exports, SOON).toBeGreaterThan(0);
  // A busy machine may not end the export after them within 50 ms.
  const ours = failures.filter(({ reason }) => !reason.startsWith('no complete response'));
  expect(ours).toEqual([
    { reason: 'no scan ended within 1 ms', status: null },
    { reason: 'the worker thread gave no answer', status: null },
    { reason: 'Cannot export family "x": it is not in the catalogue', status: null },
  ]);
  await thread.close();
  await receiver.close();
});

describe('the resource', () => {
  it('names the exporter and its host, with a stable id', () => {
    const resource = resourceOf(FACTS, {});
    expect(resource).toEqual({
      'service.name': 'peerscope',
      'service.version': '1.2.3',
      'service.instance.id': expect.stringMatching(
        /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
      ) as string,
      'host.name': 'node-1.example',
      'os.type': 'linux',
    });
    expect(resourceOf({ ...FACTS, version: '2.0.0', phase: 1 }, {})['service.instance.id']).toBe(
      resource['service.instance.id'],
    );
  });

  it.each<[string, Partial<RunFacts>]>([
    ['another machine', { machineId: 'fedcba98' }],
    ['a copy of the disk image with another host name', { hostname: 'node-2.example' }],
    ['a machine without an id', { machineId: null }],
  ])('has another id on %s', (_name, facts) => {
    const id = (facts: RunFacts): string | undefined => resourceOf(facts, {})['service.instance.id'];
    expect(id({ ...FACTS, ...facts })).not.toBe(id(FACTS));
  });

  it('is the node in Kubernetes, and configured attributes take precedence', () => {
    const configured = { 'k8s.node.name': 'node-7', 'k8s.cluster.name': 'test', 'service.name': 'eyes' };
    expect(resourceOf({ ...FACTS, hostname: 'peerscope-x7k2p' }, configured)).toMatchObject({
      ...configured,
      'host.name': 'node-7',
      'service.instance.id': 'node-7',
    });
  });
});

describe('a resource attribute', () => {
  it.each([
    [
      'that describes only the exporter is not sent',
      true,
      [
        'k8s.pod.name',
        'k8s.pod.uid',
        'k8s.pod.ip',
        'k8s.pod.label.app',
        'k8s.namespace.name',
        'k8s.container.name',
        'k8s.container.restart_count',
        'k8s.daemonset.name',
        'k8s.deployment.name',
        'k8s.statefulset.uid',
        'k8s.job.name',
        'k8s.workload.name',
        'k8s_pod_name',
        'container.id',
        'container.image.name',
        'process.executable.name',
        'process.pid',
        'process.runtime.name',
        'network.transport',
        'peerscope.workload',
      ],
    ],
    [
      'of the service, host, node, cluster or user is sent',
      false,
      [
        'service.name',
        'service.namespace',
        'service.instance.id',
        'host.name',
        'host.id',
        'os.type',
        'k8s.node.name',
        'k8s.node.uid',
        'k8s.cluster.name',
        'k8s.cluster.uid',
        'cloud.region',
        'deployment.environment.name',
        'site',
        'team.containers',
      ],
    ],
  ])('%s', (_, dropped, attributes) => {
    expect(attributes.filter((attribute) => describesExporterOnly(attribute) === dropped)).toEqual(attributes);
    const given = Object.fromEntries(attributes.map((attribute) => [attribute, 'given']));
    expect(Object.values(resourceOf(FACTS, given)).filter((value) => value === 'given')).toHaveLength(
      dropped ? 0 : attributes.length,
    );
  });
});

describe('certificates', () => {
  const file = (name: string): string => fileURLToPath(new URL(`../fixtures/tls/${name}.pem`, import.meta.url));
  const TRUST = { 'otlp.certificate': file('certificate') };
  const CLIENT = { 'otlp.client-certificate': file('certificate'), 'otlp.client-key': file('key') };

  it.each<[situation: string, flags: Record<string, string>, reason: RegExp | null]>([
    ['of both sides are used', { ...TRUST, ...CLIENT }, null],
    ['of a receiver that is not trusted are rejected', CLIENT, /self-signed certificate/],
    ['that the receiver requires are missing', TRUST, /certificate required|socket hang up|ECONNRESET|EPIPE/],
  ])('%s', async (_situation, flags, reason) => {
    const receiver = await OtlpReceiver.start({
      cert: readFileSync(file('certificate')),
      key: readFileSync(file('key')),
    });
    const { otlp } = parseConfig({ 'otlp.endpoint': receiver.url, 'otlp.timeout': '700ms', ...flags }, {});
    const failures: ExportFailure[] = [];
    const thread = startPush(otlp, { settings: LONG, failed: (failure) => failures.push(failure) });
    await expect.poll(() => thread.counts, SOON).toEqual({ exports: reason ? 0 : 1, failures: reason ? 1 : 0 });
    if (reason) expect(failures[0]?.reason).toMatch(reason);
    await thread.close();
    await receiver.close();
  });

  it.each(['http', 'https'])('lead through a proxy to a receiver over %s', async (scheme) => {
    const tls = { cert: readFileSync(file('certificate')), key: readFileSync(file('key')) };
    const receiver = await OtlpReceiver.start(scheme === 'https' ? tls : undefined);
    const { host, hostname, port } = new URL(receiver.url);
    const seen: string[] = [];
    const proxy = createServer((request, response) => {
      seen.push(`${request.method} ${request.url}`);
      const { method, headers } = request;
      const forwarded = httpRequest({ hostname, port, path: new URL(request.url ?? '').pathname, method, headers });
      forwarded.on('response', (answer) => answer.pipe(response.writeHead(answer.statusCode ?? 500)));
      request.pipe(forwarded);
    });
    proxy.on('connect', (request, socket) => {
      seen.push(`${request.method} ${request.url}`);
      const target = connect(Number(port), hostname, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        target.pipe(socket).pipe(target);
      });
      for (const end of [target, socket]) end.on('error', () => void (target.destroy(), socket.destroy()));
    });
    proxy.listen(0, '127.0.0.1');
    await once(proxy, 'listening');
    const address = proxy.address();
    const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
    const { otlp } = parseConfig({ 'otlp.endpoint': receiver.url, ...TRUST, ...CLIENT }, {});
    const thread = startPush(otlp, { settings: { ...LONG, proxy: url } });
    await expect.poll(() => thread.counts, SOON).toEqual({ exports: 1, failures: 0 });
    expect(seen).toEqual([scheme === 'https' ? `CONNECT ${host}` : `POST ${receiver.url}/v1/metrics`]);
    await thread.close();
    await receiver.close();
    proxy.closeAllConnections();
    proxy.close();
  });

  it('that cannot be read end the start with one line', () => {
    const { otlp } = parseConfig({ 'otlp.endpoint': 'https://[::1]', 'otlp.certificate': '/nowhere/ca.pem' }, {});
    expect(() => otlp && otlpSettings(otlp, FACTS)).toThrow(
      /^Cannot read certificate "\/nowhere\/ca\.pem": no such file or directory$/,
    );
  });
});
