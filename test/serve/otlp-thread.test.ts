import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { MessagePort } from 'node:worker_threads';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { parseConfig } from '../../src/config/config.ts';
import type { Collected, Failure, OtlpSettings } from '../../src/expose/otlp.ts';
import {
  adviceOn,
  describesExporterOnly,
  resourceOf,
  settingsOf,
  type Facts,
  type Push,
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

interface Scene {
  readonly receiver: OtlpReceiver;
  readonly push: Push;
  readonly failures: Failure[];
}

/** A push to a receiver that behaves so, of families that can be changed meanwhile. */
async function open(
  answer: Answer,
  settings: Partial<OtlpSettings> = {},
  families = () => [connections(1)],
): Promise<Scene> {
  const receiver = await OtlpReceiver.start();
  receiver.answer = answer;
  const { otlp } = parseConfig({ 'otlp.endpoint': receiver.url, 'otlp.interval': '100ms' }, {});
  const failures: Failure[] = [];
  const push = startPush(otlp, {
    settings,
    collect: (port) => reply(families())(port),
    failed: (failure) => failures.push(failure),
  });
  onTestFinished(async () => {
    await push.close();
    await receiver.close();
  });
  return { receiver, push, failures };
}

/** One export, with all the time that a busy machine may need for it. */
const LONG = { intervalMs: 3_600_000, timeoutMs: 30_000 };

describe('what is sent', () => {
  it('is every series with its value, 10,000 of them as 10,000', async () => {
    const { receiver, push, failures } = await open(takes, LONG, () => [connections(10_000)]);
    await expect.poll(() => push.counts, SOON).toEqual({ exports: 1, failures: 0 });
    expect(failures).toEqual([]);
    const [request] = receiver.requests;
    const points = request ? pointsOf(request) : [];
    const arrived = points.map(({ attributes, value }) => `${labelsOf(attributes)['process']} ${value}`);
    expect(arrived).toEqual(Array.from({ length: 10_000 }, (_, i) => `process-${i} ${i + 1}`));
  });

  it('is a POST with the resource, the headers and gzip', async () => {
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

  it('is protobuf when asked for, and plain', async () => {
    const { receiver } = await open(takes, { protocol: 'http/protobuf', compression: 'none' });
    await expect.poll(() => receiver.received.length, SOON).toBeGreaterThan(0);
    const [request] = receiver.received;
    expect(request?.headers).toMatchObject({ 'content-type': 'application/x-protobuf' });
    expect(request?.headers).not.toHaveProperty('content-encoding');
    expect(request?.body.includes('peerscope.connections')).toBe(true);
  });

  it('says 0 once for what is gone, as soon as a receiver takes it again', async () => {
    let families = [connections(2)];
    const { receiver, push } = await open(takes, {}, () => families);
    await expect.poll(() => push.counts.exports, SOON).toBeGreaterThan(0);
    receiver.answer = answers(400);
    await expect.poll(() => push.counts.failures, SOON).toBeGreaterThan(0);
    families = [connections(1)];
    const refused = receiver.received.length;
    await expect.poll(() => receiver.received.length, SOON).toBeGreaterThan(refused + 2);
    receiver.answer = takes;
    const { exports } = push.counts;
    await expect.poll(() => push.counts.exports, SOON).toBeGreaterThan(exports + 2);
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

  it('comes first at the moment that chance gave', async () => {
    const { receiver, push } = await open(takes, { ...LONG, firstMs: 3_600_000 });
    const other = await open(takes);
    await expect.poll(() => other.push.counts.exports, SOON).toBeGreaterThan(3);
    expect(receiver.received).toEqual([]);
    await push.close();
    expect(receiver.received).toHaveLength(1);
  });
});

describe('a receiver', () => {
  const busy = (status: number): Answer => answers(status, { 'retry-after': '2' });

  it.each([429, 503])(
    'that answers %i with Retry-After is asked again after that, and then is a success',
    async (status) => {
      const { receiver, push, failures } = await open(busy(status), LONG);
      await expect.poll(() => receiver.received.length, SOON).toBe(1);
      receiver.answer = takes;
      await expect.poll(() => push.counts, SOON).toEqual({ exports: 1, failures: 0 });
      const [first, second] = receiver.received;
      expect(second?.body).toEqual(first?.body);
      expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThan(1_990);
      expect(failures).toEqual([]);
    },
  );

  it.each<[situation: string, answer: Answer, timeoutMs: number, failure: Failure]>([
    [
      'that wants more patience than there is fails at once',
      answers(503, { 'retry-after': '3600' }),
      20_000,
      { reason: 'it answered 429, 502, 503 or 504 for as long as was tried', status: null },
    ],
    [
      'that answers 400 fails, with what it says',
      answers(400, {}, 'cannot parse \u001b[31m'),
      20_000,
      { reason: 'it answered 400 Bad Request cannot parse \u001b[31m', status: 400 },
    ],
    [
      'that answers 413 fails',
      answers(413, {}, 'x'.repeat(10_000)),
      20_000,
      { reason: `it answered 413 Payload Too Large ${'x'.repeat(300)}`.slice(0, 300), status: 413 },
    ],
    [
      'that says nothing fails when the time is up',
      isSilent,
      500,
      { reason: 'no whole answer within 500 ms', status: null },
    ],
    [
      'that cuts the connection fails',
      cutsTheConnection,
      500,
      { reason: expect.stringMatching(/^(socket hang up|no whole answer within 500 ms)$/) as string, status: null },
    ],
    [
      'that takes a part alone fails',
      answers(200, {}, '{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too old"}}'),
      20_000,
      { reason: 'it refused 3 points: too old', status: null },
    ],
  ])('%s, and is no success', async (_situation, answer, timeoutMs, failure) => {
    const { push, failures } = await open(answer, { ...LONG, timeoutMs });
    await expect.poll(() => failures, SOON).toEqual([failure]);
    expect(push.counts).toEqual({ exports: 0, failures: 1 });
  });

  it('that takes all and only warns is a success', async () => {
    const warning = answers(200, {}, '{"partialSuccess":{"errorMessage":"old version"}}');
    const { push } = await open(warning, LONG);
    await expect.poll(() => push.counts, SOON).toEqual({ exports: 1, failures: 0 });
  });

  it('that answers without an end is left when the time is up, export after export', async () => {
    const { push, failures } = await open(dribbles, { intervalMs: 200, timeoutMs: 200 });
    await expect.poll(() => push.counts.failures, SOON).toBeGreaterThan(2);
    expect(failures[0]).toEqual({ reason: 'no whole answer within 200 ms', status: null });
    expect(push.counts.exports).toBe(0);
  });

  it('that nobody runs fails, and does so again', async () => {
    const { receiver, push, failures } = await open(takes, { firstMs: 1_000, intervalMs: 500, timeoutMs: 500 });
    await receiver.close();
    await expect.poll(() => push.counts.failures, SOON).toBeGreaterThan(1);
    expect(failures[0]?.reason).toMatch(/ECONNREFUSED|no whole answer within 500 ms/);
    expect(push.counts.exports).toBe(0);
  });

  it.each([
    ['json and 400', 'http/json', 400, true],
    ['json and 415', 'http/json', 415, true],
    ['json and 404', 'http/json', 404, false],
    ['protobuf and 400', 'http/protobuf', 400, false],
  ] as const)('that does not read JSON is told apart: %s', (_situation, protocol, status, advised) => {
    const advice = adviceOn({ reason: '', status }, protocol);
    expect(advice?.includes('--otlp.protocol=http/protobuf') ?? false).toBe(advised);
  });
});

it('a stop exports once more', async () => {
  const { receiver, push } = await open(takes, LONG);
  await expect.poll(() => push.counts.exports, SOON).toBe(1);
  await push.close();
  expect(receiver.received).toHaveLength(2);
  expect(push.counts).toEqual({ exports: 2, failures: 0 });
});

it.each<[string, Answer]>([
  ['is silent', isSilent],
  ['never ends', dribbles],
  ['is busy', answers(503)],
])('a stop gives up on a receiver that %s when the time of one export has passed', async (_name, answer) => {
  const { receiver, push } = await open(answer, { ...LONG, timeoutMs: 400 });
  await expect.poll(() => receiver.received.length, SOON).toBeGreaterThan(0);
  await push.close();
  expect(push.counts.exports).toBe(0);
});

it('families that cannot be had are a failure, and the next export is tried', async () => {
  const receiver = await OtlpReceiver.start();
  const { otlp } = parseConfig({ 'otlp.endpoint': receiver.url, 'otlp.interval': '50ms' }, {});
  const failures: Failure[] = [];
  const answers: ((port: MessagePort) => void)[] = [
    (port) => port.postMessage({ reason: 'no scan ended within 1 ms' } satisfies Collected),
    () => undefined,
    (port) => port.postMessage({ families: [{ ...connections(1), name: 'x' }] } satisfies Collected),
  ];
  const push = startPush(otlp, {
    collect: (port) => {
      const answer = answers.shift();
      if (!answer) return reply([connections(1)])(port);
      answer(port);
      port.close();
      return Promise.resolve();
    },
    failed: (failure) => failures.push(failure),
  });
  await expect.poll(() => push.counts.exports, SOON).toBeGreaterThan(0);
  // A busy machine may not end the export after them within 50 ms.
  const ours = failures.filter(({ reason }) => !reason.startsWith('no whole answer'));
  expect(ours).toEqual([
    { reason: 'no scan ended within 1 ms', status: null },
    { reason: 'the scanning thread gave no answer', status: null },
    { reason: 'Cannot export family "x": it is not in the catalogue', status: null },
  ]);
  await push.close();
  await receiver.close();
});

describe('the resource', () => {
  it('names the exporter and its host, with an id that stays', () => {
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

  it.each<[string, Partial<Facts>]>([
    ['another machine', { machineId: 'fedcba98' }],
    ['a copy of the image under another name', { hostname: 'node-2.example' }],
    ['a machine without an id', { machineId: null }],
  ])('has another id on %s', (_name, facts) => {
    const id = (facts: Facts): string | undefined => resourceOf(facts, {})['service.instance.id'];
    expect(id({ ...FACTS, ...facts })).not.toBe(id(FACTS));
  });

  it('is the node in Kubernetes, and what is given wins', () => {
    const given = { 'k8s.node.name': 'node-7', 'k8s.cluster.name': 'test', 'service.name': 'eyes' };
    expect(resourceOf({ ...FACTS, hostname: 'peerscope-x7k2p' }, given)).toMatchObject({
      ...given,
      'host.name': 'node-7',
      'service.instance.id': 'node-7',
    });
  });
});

describe('an attribute of the resource', () => {
  it.each([
    [
      'that describes only the exporter is dropped',
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
      'of the service, the host, the node, the cluster or the operator stays',
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
  const SHOW = { 'otlp.client-certificate': file('certificate'), 'otlp.client-key': file('key') };

  it.each<[situation: string, given: Record<string, string>, reason: RegExp | null]>([
    ['of both sides are used', { ...TRUST, ...SHOW }, null],
    ['of a receiver that is not trusted are refused', SHOW, /self-signed certificate/],
    ['that the receiver wants are missed', TRUST, /certificate required|socket hang up|ECONNRESET|EPIPE/],
  ])('%s', async (_situation, given, reason) => {
    const receiver = await OtlpReceiver.start({
      cert: readFileSync(file('certificate')),
      key: readFileSync(file('key')),
    });
    const { otlp } = parseConfig({ 'otlp.endpoint': receiver.url, 'otlp.timeout': '700ms', ...given }, {});
    const failures: Failure[] = [];
    const push = startPush(otlp, { settings: LONG, failed: (failure) => failures.push(failure) });
    await expect.poll(() => push.counts, SOON).toEqual({ exports: reason ? 0 : 1, failures: reason ? 1 : 0 });
    if (reason) expect(failures[0]?.reason).toMatch(reason);
    await push.close();
    await receiver.close();
  });

  it('that cannot be read stop the start with one line', () => {
    const { otlp } = parseConfig({ 'otlp.endpoint': 'https://[::1]', 'otlp.certificate': '/nowhere/ca.pem' }, {});
    expect(() => otlp && settingsOf(otlp, FACTS)).toThrow(/^Cannot read certificate "\/nowhere\/ca\.pem": ENOENT/);
  });
});
