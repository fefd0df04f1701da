import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Access } from '../../src/web/access.ts';
import type { UserDecision } from '../../src/web/accept.ts';
import { Served, type Answer } from '../support/served.ts';

const TOKEN = 'f'.repeat(64);
const PATH = '/api/v1/accept';
/** The hash of "correct horse", made by crypt(3). */
const HASH = '$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e';
const USERS = `basic_auth_users: { alice: "${HASH}" }\n`;
const ALICE = `Basic ${Buffer.from('alice:correct horse').toString('base64')}`;
const BODY = { workload: 'web', namespace: 'shop', what: 'AS14618', accept: true };
const PEMS = new URL('../fixtures/tls/', import.meta.url).pathname;
const pem = (name: string): string => readFileSync(join(PEMS, `${name}.pem`), 'utf8');

let folder: string;
let access: Access | undefined;
let served: Served | undefined;
let decided: UserDecision[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-accept-'));
  for (const name of readdirSync(PEMS)) copyFileSync(join(PEMS, name), join(folder, name));
  decided = [];
});
afterEach(async () => {
  await served?.close();
  await access?.close();
  rmSync(folder, { recursive: true });
});

async function start(webConfig = USERS): Promise<Served> {
  writeFileSync(join(folder, 'web.yaml'), webConfig);
  const clock = { now: () => 0, monotonic: () => 0, after: () => () => undefined };
  const opened = (access = await Access.open(join(folder, 'web.yaml'), clock));
  const accept = {
    token: TOKEN,
    userOf: (request: Parameters<Access['userOf']>[0]) => opened.userOf(request),
    decide: (one: UserDecision): void => void decided.push(one),
  };
  const unusual = (): Promise<object> => Promise.resolve({ at: '2026-11-30T20:00:00Z', unusual: [] });
  return (served = await Served.start({ accept, unusual }, access));
}

type Change = Record<string, string | undefined>;

/** A request as the page sends it, with changed headers; undefined leaves a header out. */
async function post(
  server: Served,
  change: Change = {},
  body: unknown = BODY,
  more: RequestOptions = {},
): Promise<Answer> {
  const given = {
    authorization: ALICE,
    origin: `http://127.0.0.1:${server.port}`,
    'content-type': 'application/json',
    'x-peerscope-token': TOKEN,
    ...change,
  };
  const headers = Object.fromEntries(
    Object.entries<string | undefined>(given).filter(([, value]) => value !== undefined),
  );
  return server.ask(PATH, { method: 'POST', headers, ...more }, typeof body === 'string' ? body : JSON.stringify(body));
}

test('a decision of the page is passed on with the user and the address', async () => {
  const { status, body } = await post(await start());
  const decision = {
    owner: { namespace: 'shop', workload: 'web' },
    what: 'AS16509',
    isAccepted: true,
    by: 'alice@127.0.0.1',
  };
  expect(decided).toEqual([decision]);
  const shown = { namespace: 'shop', workload: 'web', what: 'AS16509', accept: true, by: 'alice@127.0.0.1' };
  expect([status, JSON.parse(body)]).toEqual([200, shown]);
});

describe('a decision is accepted', () => {
  test.each<[name: string, change: Change, body: unknown, expected: Partial<UserDecision>]>([
    ['with a character set', { 'content-type': 'application/json; charset=utf-8' }, BODY, { isAccepted: true }],
    ['as not normal', {}, { ...BODY, accept: false }, { isAccepted: false }],
    [
      'for a unit',
      {},
      { workload: 'a.service', what: 'tcp/443', accept: true },
      { owner: { namespace: '', workload: 'a.service' } },
    ],
    ['for a namespace of null', {}, { ...BODY, namespace: null }, { owner: { namespace: '', workload: 'web' } }],
    ['by a browser that says so', { 'sec-fetch-site': 'same-origin' }, BODY, {}],
    ['by another name of the host, in any case', { origin: 'http://Node.example', host: 'node.EXAMPLE' }, BODY, {}],
    ['behind a proxy that ends TLS', { origin: 'https://node.example', host: 'node.example' }, BODY, {}],
    ['at the default port', { origin: 'https://node.example', host: 'node.example:443' }, BODY, {}],
  ])('%s', async (_name, change, body, expected) => {
    expect((await post(await start(), change, body)).status).toBe(200);
    expect(decided).toMatchObject([expected]);
  });
});

describe('a decision is rejected', () => {
  test.each<[name: string, status: number, reason: RegExp, change: Change, body?: unknown]>([
    ['without a password', 401, /^Unauthorized/, { authorization: undefined }],
    [
      'with a wrong password',
      401,
      /^Unauthorized/,
      { authorization: `Basic ${Buffer.from('alice:x').toString('base64')}` },
    ],
    ['without an origin', 403, /Origin/, { origin: undefined }],
    ['of another site', 403, /Origin/, { origin: 'http://attacker.example' }],
    ['of another port of the host', 403, /Origin/, { origin: 'http://127.0.0.1:1' }],
    ['of a sandboxed page', 403, /Origin/, { origin: 'null' }],
    ['with the host in the name of another', 403, /Origin/, { origin: 'http://127.0.0.1.attacker.example' }],
    ['with the host as a user', 403, /Origin/, { origin: 'http://127.0.0.1@attacker.example', host: '127.0.0.1' }],
    ['with a path in the origin', 403, /Origin/, { origin: 'http://a/b', host: 'a' }],
    ['that a browser says is of another site', 403, /Origin/, { 'sec-fetch-site': 'cross-site' }],
    ['that a browser says is of a sibling', 403, /Origin/, { 'sec-fetch-site': 'same-site' }],
    ['of a form', 415, /application\/json/, { 'content-type': 'application/x-www-form-urlencoded' }],
    ['as plain text', 415, /application\/json/, { 'content-type': 'text/plain' }],
    ['as a type that begins alike', 415, /application\/json/, { 'content-type': 'application/jsonx' }],
    ['without a type', 415, /application\/json/, { 'content-type': undefined }],
    ['without the token', 403, /X-Peerscope-Token/, { 'x-peerscope-token': undefined }],
    ['with another token', 403, /X-Peerscope-Token/, { 'x-peerscope-token': 'e'.repeat(64) }],
    ['with a part of the token', 403, /X-Peerscope-Token/, { 'x-peerscope-token': TOKEN.slice(1) }],
    ['that is no JSON', 400, /must be JSON/, {}, '{'],
    ['that is empty', 400, /must be JSON/, {}, ''],
    ['that is a list', 400, /must have workload/, {}, [BODY]],
    ['with an unknown key', 400, /must have workload/, {}, { ...BODY, at: 1 }],
    ['without accept', 400, /must have workload/, {}, { ...BODY, accept: undefined }],
    ['with accept as text', 400, /must have workload/, {}, { ...BODY, accept: 'true' }],
    ['for all workloads', 400, /wildcards/, {}, { ...BODY, workload: '*' }],
    ['for no workload', 400, /must be like/, {}, { ...BODY, workload: '' }],
    ['for a path as namespace', 400, /slash/, {}, { ...BODY, namespace: 'a/b' }],
    ['about the metadata service', 400, /always reported/, {}, { ...BODY, what: 'metadata' }],
    ['about a wildcard', 400, /wildcards/, {}, { ...BODY, what: 'AS*' }],
    ['that is too long', 413, /longer than 4096 bytes/, {}, { ...BODY, what: 'x'.repeat(5000) }],
  ])('%s', async (_name, status, reason, change, body = BODY) => {
    const answer = await post(await start(), change, body);
    expect([answer.status, answer.body]).toEqual([status, expect.stringMatching(reason)]);
    expect(decided).toEqual([]);
  });

  test('of a client that no authentication identifies', async () => {
    const server = await start('');
    expect((await post(server)).status).toBe(403);
    expect(decided).toEqual([]);
  });

  test.each(['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS'])('with method %s', async (method) => {
    const server = await start();
    const answer = await server.ask(PATH, { method, headers: { authorization: ALICE } });
    expect([answer.status, answer.headers.allow]).toEqual([405, 'POST']);
  });

  test('on other paths, and everywhere if decisions are off', async () => {
    const server = await start();
    for (const path of ['/', '/metrics', '/api/v1/unusual', `${PATH}/`])
      expect((await server.ask(path, { method: 'POST', headers: { authorization: ALICE } })).status).toBe(405);
    await server.close();
    served = await Served.start({});
    expect((await post(served)).status).toBe(405);
  });
});

describe('the user of a client certificate', () => {
  const tls = (type: string): string =>
    `tls_server_config: { cert_file: server.pem, key_file: server-key.pem, client_auth_type: ${type}${type.includes('Verify') ? ', client_ca_file: ca.pem' : ''} }\n`;
  const client = (name: string): RequestOptions => ({
    host: 'localhost',
    ca: pem('ca'),
    cert: pem(name),
    key: pem(`${name}-key`),
    rejectUnauthorized: false,
  });

  test('is its name if the client CA signed it, whatever the Authorization header says', async () => {
    const server = await start(tls('RequireAndVerifyClientCert'));
    const origin = `https://localhost:${server.port}`;
    expect((await post(server, { origin, host: `localhost:${server.port}` }, BODY, client('client'))).status).toBe(200);
    expect(decided[0]?.by).toMatch(/^(?!alice)[^@]+@127\.0\.0\.1$/);
  });

  test.each([
    ['RequireAnyClientCert', 'stranger'],
    ['VerifyClientCertIfGiven', 'client'],
  ])('is unknown with %s', async (type, name) => {
    const server = await start(tls(type));
    const origin = `https://localhost:${server.port}`;
    expect((await post(server, { origin, host: `localhost:${server.port}` }, BODY, client(name))).status).toBe(403);
    expect(decided).toEqual([]);
  });
});

test('what is unusual is JSON, with the limits of the API', async () => {
  const server = await start();
  const { status, headers, body } = await server.ask('/api/v1/unusual', { headers: { authorization: ALICE } });
  expect([status, headers['content-type']]).toEqual([200, 'application/json; charset=utf-8']);
  expect(JSON.parse(body)).toEqual({ at: '2026-11-30T20:00:00Z', unusual: [] });
  expect((await server.ask('/api/v1/unusual')).status).toBe(401);
});

test.each([
  { query: '', status: 200, body: { asked: [null, 1_000] } },
  { query: '?limit=2&after=%5B%22a%22%5D', status: 200, body: { asked: ['["a"]', 2] } },
  { query: '?limit=10000', status: 200, body: { asked: [null, 10_000] } },
  { query: '?after=', status: 400, body: { error: 'Cannot use after "": must be "next" of the page before' } },
  { query: '?limit=0', status: 400, body: { error: 'Cannot use limit "0": must be a number from 1 to 10000' } },
  { query: '?limit=10001', status: 400, body: { error: 'Cannot use limit "10001": must be a number from 1 to 10000' } },
  { query: '?limit=1e3', status: 400, body: { error: 'Cannot use limit "1e3": must be a number from 1 to 10000' } },
  { query: '?process=x', status: 400, body: { error: 'Cannot use parameter "process=x": must be limit or after' } },
])('a page of the history is JSON: $query has status $status', async ({ query, status, body }) => {
  served = await Served.start({
    history: (after, limit) => Promise.resolve(after === '' ? null : { asked: [after, limit] }),
  });
  const answer = await served.ask(`/api/v1/history${query}`);
  expect([answer.status, JSON.parse(answer.body)]).toEqual([status, body]);
});

test('the page may run its script only if decisions are on', async () => {
  const server = await start();
  const headers = { authorization: ALICE };
  expect((await server.ask('/', { headers })).headers['content-security-policy']).toMatch(
    /; script-src 'sha256-[\w+/=]+'; connect-src 'self'$/,
  );
  await server.close();
  served = await Served.start({});
  expect((await served.ask('/')).headers['content-security-policy']).not.toContain('script-src');
});
