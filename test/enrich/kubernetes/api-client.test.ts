import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ClusterChange } from '../../../src/enrich/kubernetes/cluster-cache.ts';
import { ApiClient } from '../../../src/enrich/kubernetes/api-client.ts';
import { KubernetesApi, podsOf, type KubernetesObject } from '../../support/kubernetes-api.ts';
import { ManualTime } from '../../support/manual-time.ts';

const PODS = '/api/v1/pods';
const SERVICES = '/api/v1/services';
const SLICES = '/apis/discovery.k8s.io/v1/endpointslices';
/** How long a watch may be silent. */
const SILENCE_MS = 150_000;
const [web, db, shell] = ['web-7d4b9c6f8d-2xkqp', 'db-0', 'shell'].map(
  (name) => podsOf('kubeadm').find(({ metadata }) => metadata.name === name) ?? expect.fail(name),
) as [KubernetesObject, KubernetesObject, KubernetesObject];

let api: KubernetesApi;
let time: ManualTime;
let kubernetes: ApiClient | undefined;
let news: ClusterChange[];
let reports: string[];
let recovered: string[];

beforeEach(async () => {
  api = await KubernetesApi.start();
  time = new ManualTime();
  news = [];
  reports = [];
  recovered = [];
});
afterEach(async () => {
  await kubernetes?.close();
  kubernetes = undefined;
  await api.close();
});

function start(resources: ('pods' | 'services' | 'endpointslices')[] = ['pods'], port = api.port): void {
  kubernetes = new ApiClient(resources, {
    server: { host: '127.0.0.1', port },
    nodeName: 'cp-1',
    serviceAccount: api.serviceAccount,
    version: '1.2.3',
    clock: time,
    random: () => 0.5,
    onChange: (one) => news.push(one),
    onError: (resource, reason) => reports.push(`${resource}: ${reason}`),
    onRecovered: (resource) => recovered.push(resource),
  });
}

/** The news in a few words. */
const told = (): string[] =>
  news.map((one) => {
    if ('up' in one) return one.up ? 'up' : 'down';
    const items = one.change.kind === 'replace' ? one.change.items : [one.change.item];
    return [one.change.kind, ...items.map(({ name }) => name)].join(' ');
  });
const isUp = (): boolean => kubernetes?.status.every(({ up }) => up) ?? false;
const lists = (): number => api.asked.filter(({ isWatch }) => !isWatch).length;
const soon = { timeout: 30_000, interval: 5 };
vi.setConfig({ testTimeout: 60_000 });
const watching = (count = 1): Promise<void> => expect.poll(() => [isUp(), api.watches], soon).toEqual([true, count]);
/** Waits until a pause of so many milliseconds is waited for, and lets it pass. */
async function pause(ms: number): Promise<void> {
  await expect.poll(() => time.waits, soon).toContain(ms);
  time.pass(ms);
}

test('lists pods of this node from the server cache, then watches', async () => {
  api.set(PODS, web);
  start();
  await watching();
  api.set(PODS, db);
  api.bookmark();
  api.set(PODS, { ...db, status: {} });
  api.delete(PODS, db);
  await expect.poll(told, soon).toEqual(['replace ' + web.metadata.name, 'up', 'set db-0', 'set db-0', 'delete db-0']);
  const [list, watch] = api.asked;
  expect(list).toMatchObject({
    path: PODS,
    query: { fieldSelector: 'spec.nodeName=cp-1', resourceVersion: '0', limit: '500' },
  });
  expect(watch?.query).toEqual({
    fieldSelector: 'spec.nodeName=cp-1',
    watch: 'true',
    allowWatchBookmarks: 'true',
    resourceVersion: '102',
    timeoutSeconds: '450',
  });
  expect(api.asked).toHaveLength(2);
  expect(reports).toEqual([]);
});

test('keeps only names, ids and addresses of a pod', async () => {
  api.set(PODS, web);
  start();
  await watching();
  expect(JSON.stringify(news)).not.toMatch(/PASSWORD|never to be kept|managedFields|image/);
});

test('watches Services and EndpointSlices only if configured', async () => {
  api.set(SERVICES, { metadata: { namespace: 'shop', name: 'web' }, spec: { clusterIP: '10.96.0.7' } });
  start(['pods', 'services', 'endpointslices']);
  await watching(3);
  expect(new Set(api.asked.map(({ path }) => path))).toEqual(new Set([PODS, SERVICES, SLICES]));
  expect(kubernetes?.status.map(({ resource }) => resource)).toEqual(['pods', 'services', 'endpointslices']);
});

describe('continues from the last resource version', () => {
  test.each<{ name: string; fault: () => void; fails: boolean }>([
    { name: 'when the server ends the watch in its time', fault: () => api.end(), fails: false },
    { name: 'when the connection is reset', fault: () => api.drop(), fails: true },
    { name: 'when the server closes its half of the connection', fault: () => api.drop('half'), fails: true },
    {
      name: 'when the connection ends within a line',
      fault: () => {
        api.send('{"type":"MODIFIED","obj');
        api.drop();
      },
      fails: true,
    },
    { name: 'when nothing comes for too long', fault: () => time.pass(SILENCE_MS), fails: true },
    {
      name: 'when the server sends an error that is not about the version',
      fault: () => api.send('{"type":"ERROR","object":{"code":500,"message":"etcd leader changed"}}\n'),
      fails: true,
    },
  ])('$name', async ({ fault, fails }) => {
    start();
    await watching();
    api.set(PODS, web);
    await expect.poll(told, soon).toHaveLength(3);
    fault();
    await expect.poll(() => api.watches, soon).toBe(0);
    await expect.poll(isUp, soon).toBe(!fails);
    api.set(PODS, db);
    await pause(fails ? 750 : 500);
    await watching();
    await expect.poll(() => told().at(-1), soon).toBe('set db-0');
    expect(lists()).toBe(1);
    expect(told().filter((one) => one.startsWith('set'))).toHaveLength(2);
    expect(reports).toHaveLength(fails ? 1 : 0);
    expect(recovered).toEqual(fails ? ['pods'] : []);
  });
});

describe('a silent watch', () => {
  test('is down 150 s after the last byte and recovers on a new connection', async () => {
    start();
    await watching();
    time.pass(SILENCE_MS - 1);
    const version = (): string | undefined => api.asked.at(-1)?.query['resourceVersion'];
    const before = version();
    api.bookmark();
    // The bookmark begins the silence anew.
    await expect.poll(() => time.waits, soon).toEqual([SILENCE_MS]);
    time.pass(SILENCE_MS - 1);
    expect(isUp()).toBe(true);
    time.pass(1);
    await expect.poll(isUp, soon).toBe(false);
    expect([reports, recovered]).toEqual([['pods: no data for 150 s'], []]);
    await pause(750);
    await watching();
    expect(Number(version())).toBeGreaterThan(Number(before));
    expect(told()).toEqual(['replace', 'up', 'down', 'up']);
    expect(recovered).toEqual(['pods']);
  });

  test('stays down while a new connection is silent too', async () => {
    start();
    await watching();
    api.answer = () => true;
    time.pass(SILENCE_MS);
    for (const ms of [750, 30_000, 1_500, 30_000, 3_000]) await pause(ms);
    expect(told()).toEqual(['replace', 'up', 'down']);
    expect(recovered).toEqual([]);
  });
});

describe('honors Retry-After', () => {
  test.each<{ name: string; status: number; retryAfter: string; waits: number }>([
    { name: 'in seconds', status: 429, retryAfter: '20', waits: 20_500 },
    { name: 'whatever the failure', status: 503, retryAfter: '7', waits: 7_500 },
    { name: 'as a date', status: 429, retryAfter: new Date(60_000).toUTCString(), waits: 60_500 },
    { name: 'where the resource version is too old', status: 410, retryAfter: '9', waits: 9_500 },
    { name: 'but 300 s at most', status: 429, retryAfter: '999999999999', waits: 300_500 },
    { name: 'but its own time where that is longer', status: 429, retryAfter: '0', waits: 750 },
    { name: 'but its own time where a date is over', status: 429, retryAfter: new Date(-1).toUTCString(), waits: 750 },
    ...['-5 or so', '-1', '1.5', '2027-01-01', 'soon GMT', ''].map((retryAfter) => ({
      name: `but its own time where "${retryAfter}" is no time`,
      status: 429,
      retryAfter,
      waits: 750,
    })),
  ])('$name', async ({ status, retryAfter, waits }) => {
    api.answer = (_, response) => {
      response.writeHead(status, { 'retry-after': retryAfter }).end();
      return true;
    };
    start();
    await expect.poll(() => time.waits, soon).toEqual([waits]);
    api.answer = () => false;
    time.pass(waits);
    await watching();
    expect(recovered).toEqual(['pods']);
  });

  test('in a watch event', async () => {
    start();
    await watching();
    api.send('{"type":"ERROR","object":{"code":429,"message":"busy","details":{"retryAfterSeconds":11}}}\n');
    await expect.poll(() => time.waits, soon).toEqual([11_500]);
    expect(reports).toEqual(['pods: busy']);
  });

  test('only once', async () => {
    api.answer = (_, response) => {
      response.writeHead(429, reports.length === 0 ? { 'retry-after': '20' } : {}).end();
      return true;
    };
    start();
    for (const ms of [20_500, 1_500, 3_000]) await pause(ms);
  });
});

describe('lists again', () => {
  test('at once if the status is 410', async () => {
    api.set(PODS, web);
    start();
    await watching();
    time.pass(10_000);
    api.end();
    await expect.poll(() => api.watches, soon).toBe(0);
    api.delete(PODS, web);
    api.compact();
    api.set(PODS, db);
    await pause(500);
    await watching();
    expect(told().at(-1)).toBe('replace db-0');
    expect(reports).toEqual([]);
  });

  test('at once on a 410 event', async () => {
    start();
    await watching();
    api.send('{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n');
    await expect.poll(lists, soon).toBe(2);
    await watching();
    expect(reports).toEqual([]);
  });

  test('with backoff if every version is too old', async () => {
    api.answer = ({ isWatch }, response) => {
      if (isWatch) response.writeHead(410).end();
      return isWatch;
    };
    start();
    for (const ms of [750, 1_500, 3_000]) await pause(ms);
    await expect.poll(lists, soon).toBe(5);
    expect(isUp()).toBe(false);
  });

  test('with backoff if a server sends an event before each 410', async () => {
    const event = { type: 'BOOKMARK', object: { metadata: { resourceVersion: '7' } } };
    const expired = { type: 'ERROR', object: { code: 410, message: 'too old' } };
    api.answer = ({ isWatch }, response) => {
      if (isWatch) response.end(`${JSON.stringify(event)}\n${JSON.stringify(expired)}\n`);
      return isWatch;
    };
    start();
    for (const ms of [750, 1_500, 3_000]) await pause(ms);
    await expect.poll(lists, soon).toBe(5);
  });

  test.each([
    ['a line that is not JSON', '<html>\n'],
    ['an event without a version', '{"type":"ADDED","object":{"metadata":{}}}\n'],
    [
      'an event without a version',
      `{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"${'9'.repeat(129)}"}}}\n`,
    ],
  ])('after %s', async (reason, line) => {
    start();
    await watching();
    api.send(line);
    await pause(750);
    await expect.poll(lists, soon).toBe(2);
    await watching();
    expect(reports).toEqual([`pods: the server sent ${reason}`]);
  });
});

test('aborts on an endless line', async () => {
  start();
  await watching();
  const flood = 'x'.repeat(1 << 20);
  for (let i = 0; i < 5; i++) api.send(flood);
  await expect.poll(() => reports, soon).toEqual(['pods: the server sent a line longer than 4194304 bytes']);
});

test('cuts a long reason', async () => {
  start();
  await watching();
  api.send(`${JSON.stringify({ type: 'ERROR', object: { code: 500, message: 'x'.repeat(100_000) } })}\n`);
  await expect.poll(() => reports, soon).toEqual([`pods: ${'x'.repeat(300)}`]);
});

test('ends a watch that a server keeps open with single bytes', async () => {
  start();
  await watching();
  for (let passed = 0; passed < 480_000; passed += 120_000) {
    api.send(' ');
    await expect.poll(() => time.waits, soon).toEqual([SILENCE_MS]);
    time.pass(120_000);
  }
  expect(isUp()).toBe(true);
  time.pass(1);
  api.send(' ');
  await expect.poll(() => reports, soon).toEqual(['pods: the server did not end the watch within 480 s']);
  expect(isUp()).toBe(false);
});

test('ignores pods of other nodes', async () => {
  const other = { ...db, spec: { ...(db['spec'] as object), nodeName: 'cp-2' } };
  const unscheduled = { ...shell, spec: {} };
  for (const pod of [web, other, unscheduled]) api.set(PODS, pod);
  start();
  await watching();
  api.set(PODS, other);
  api.delete(PODS, other);
  api.set(PODS, db);
  await expect.poll(() => told().at(-1), soon).toBe('set db-0');
  expect(told()).toEqual([`replace ${web.metadata.name}`, 'up', 'set db-0']);
});

test('retries an unreachable server after 1 to 30 s', async () => {
  const { port } = api;
  await api.close();
  api = await KubernetesApi.start();
  start(['pods'], port);
  for (const ms of [750, 1_500, 3_000, 6_000, 12_000, 22_500, 22_500]) await pause(ms);
  expect(told()).toEqual(['down']);
  expect(reports[0]).toMatch(/^pods: connection refused/);
  await kubernetes?.close();
});

test.each([
  ['403', 'the server returned status 403'],
  ['500', 'the server returned status 500'],
])('reports status %s and retries', async (status, reason) => {
  api.answer = (_, response) => {
    response.writeHead(Number(status)).end('{"message":"no"}');
    return true;
  };
  start();
  await expect.poll(() => reports, soon).toEqual([`pods: ${reason}`]);
  api.answer = () => false;
  await pause(750);
  await watching();
  expect(told()).toEqual(['down', 'replace', 'up']);
});

test.each([
  ['no JSON', 'oops', 'the list is not JSON'],
  ['another object', '{"kind":"Status"}', 'the response is not a Kubernetes list'],
  ['compressed', gzipSync('{"metadata":{"resourceVersion":"1"},"items":[]}'), 'the list is not JSON'],
  [
    'continued with a long token',
    `{"metadata":{"resourceVersion":"1","continue":"${'x'.repeat(5_000)}"},"items":[]}`,
    'the response is not a Kubernetes list',
  ],
  [
    'of too many objects',
    `{"metadata":{"resourceVersion":"1"},"items":[${Array(200_001).fill('{}').join(',')}]}`,
    'the list has more than 200000 objects',
  ],
])('rejects a list that is %s', async (_: string, body: string | Buffer, reason: string) => {
  api.answer = (_, response) => {
    response.end(body);
    return true;
  };
  start();
  await expect.poll(() => reports, soon).toEqual([`pods: ${reason}`]);
  expect(told()).toEqual(['down']);
});

test('reads a paginated list', async () => {
  api.answer = ({ isWatch, query }, response) => {
    if (isWatch) return false;
    const [next, items] = query['continue'] === undefined ? ['more', [web]] : ['', [db]];
    response.end(JSON.stringify({ metadata: { resourceVersion: '101', continue: next }, items }));
    return true;
  };
  start();
  await watching();
  expect(told()[0]).toBe(`replace ${web.metadata.name} db-0`);
  expect(api.asked[1]?.query).toEqual({ fieldSelector: 'spec.nodeName=cp-1', continue: 'more', limit: '500' });
});

test('waits for a slow list but not for a stalled one', async () => {
  let finish = (): void => undefined;
  api.answer = ({ isWatch }, response) => {
    if (isWatch) return false;
    response.write('{"metadata":{"resourceVersion":"101"},');
    finish = () => response.end('"items":[]}');
    return true;
  };
  start();
  await expect.poll(() => api.asked.length, soon).toBe(1);
  time.pass(20_000);
  expect(reports).toEqual([]);
  time.pass(30_000);
  await expect.poll(() => reports, soon).toEqual(['pods: no data for 30 s']);
  await pause(750);
  await expect.poll(() => api.asked.length, soon).toBe(2);
  finish();
  await watching();
});

test('times out on a watch without a response', async () => {
  api.answer = ({ isWatch }) => isWatch;
  start();
  await expect.poll(() => api.asked.length, soon).toBe(2);
  await expect.poll(() => time.waits, soon).toEqual([30_000]);
  time.pass(30_000);
  await expect.poll(() => reports, soon).toEqual(['pods: no data for 30 s']);
});

describe('the token', () => {
  test('is read again after a minute', async () => {
    start();
    await watching();
    api.renewToken();
    api.end();
    time.pass(60_000);
    await pause(500);
    await watching();
    expect(api.asked.at(-1)?.token).toMatch(/^token-/);
    expect(new Set(api.asked.map(({ token }) => token)).size).toBe(2);
    expect(reports).toEqual([]);
  });

  test('is read again after a 401', async () => {
    start();
    await watching();
    api.renewToken();
    time.pass(10_000);
    api.end();
    await pause(500);
    await watching();
    expect(api.asked).toHaveLength(4);
    expect(reports).toEqual([]);
  });

  test('that is rejected again is a failure', async () => {
    writeFileSync(join(api.serviceAccount, 'token'), 'of somebody else');
    start();
    await expect.poll(() => reports, soon).toEqual(['pods: the server returned status 401']);
    expect(api.asked).toHaveLength(2);
  });

  test('that is missing is a failure until it exists', async () => {
    const account = api.serviceAccount;
    Object.assign(api, { serviceAccount: join(account, 'none') });
    start();
    Object.assign(api, { serviceAccount: account });
    await expect.poll(() => reports, soon).toEqual([expect.stringMatching(/^pods: Cannot read/)]);
  });
});

test('rejects a server with a certificate of another authority', async () => {
  const strange = '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n';
  writeFileSync(join(api.serviceAccount, 'ca.crt'), strange);
  start();
  await expect.poll(() => reports.length, soon).toBe(1);
  expect(api.asked).toEqual([]);
});

test('waits for the first list or failure of each resource', async () => {
  api.answer = ({ path }, response) => {
    if (path !== SLICES) return false;
    response.writeHead(403).end();
    return true;
  };
  start(['pods', 'services', 'endpointslices']);
  await kubernetes?.waitForFirstList(1_000);
  expect(new Set(news.map(({ resource }) => resource)).size).toBe(3);
});

test('limits the wait for the first list', async () => {
  api.answer = () => true;
  start();
  const first = kubernetes?.waitForFirstList(1_000);
  time.pass(1_000);
  await first;
  expect(told()).toEqual([]);
});

test('closes at once in any state', async () => {
  api.set(PODS, shell);
  start();
  await watching();
  await kubernetes?.close();
  await expect.poll(() => api.watches, soon).toBe(0);
  expect(reports).toEqual([]);
  expect(time.waits).toEqual([]);
});
