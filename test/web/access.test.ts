import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { Agent } from 'node:https';
import { once } from 'node:events';
import { connect as connectPlain } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Timer } from '../../src/common/clock.ts';
import { Access } from '../../src/web/access.ts';
import { Served } from '../support/served.ts';

const PEMS = new URL('../fixtures/tls/', import.meta.url).pathname;
const pem = (name: string): string => readFileSync(join(PEMS, `${name}.pem`), 'utf8');
const ca = pem('ca');
const CLIENT = { ca, cert: pem('client'), key: pem('client-key') };
const STRANGER = { ca, cert: pem('stranger'), key: pem('stranger-key') };
const NO_CERTIFICATE = { ca };

/** The hash of "correct horse", made by crypt(3). */
const HASH = '$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e';
const USERS = `basic_auth_users: { alice: "${HASH}" }\n`;
const basic = (credentials: string): RequestOptions => ({
  headers: { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` },
});

function tls(more = '', pair = 'server'): string {
  return `tls_server_config: { cert_file: ${pair}.pem, key_file: ${pair}-key.pem${more} }\n`;
}

let folder: string;
let file: string;
let served: Served | undefined;
let access: Access | undefined;
/** Runs the next poll of the files. */
let poll: () => Promise<void>;
let failures: string[];
let changes: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-access-'));
  file = join(folder, 'web.yaml');
  for (const name of readdirSync(PEMS)) copyFileSync(join(PEMS, name), join(folder, name));
});
afterEach(async () => {
  await served?.close();
  await access?.close();
  rmSync(folder, { recursive: true });
});

async function start(text: string): Promise<Served> {
  writeFileSync(file, text);
  let waiting = Promise.withResolvers<() => void>();
  const clock: Timer = {
    now: () => 0,
    monotonic: () => 0,
    after: (_ms, run) => {
      waiting.resolve(run);
      return () => undefined;
    },
  };
  poll = async () => {
    const run = await waiting.promise;
    waiting = Promise.withResolvers();
    run();
    await waiting.promise;
  };
  failures = [];
  access = await Access.open(file, clock);
  changes = 0;
  access.watch(
    () => changes++,
    (reason) => failures.push(reason.replace(`Cannot read web configuration "${file}": `, '')),
  );
  served = await Served.start({}, access);
  return served;
}

/** The status of a response. */
async function statusOf(served: Served, path: string, options: RequestOptions = {}): Promise<number> {
  return (await served.ask(path, options)).status;
}

describe('with users', () => {
  it('every path except health and readiness requires a password', async () => {
    const served = await start(USERS);
    for (const path of ['/metrics', '/', '/nothing', '/-/healthy/..', '/-/healthy/', '/-/HEALTHY', '//-/healthy']) {
      const { status, headers, body } = await served.ask(path);
      expect([path, status, body]).toEqual([path, 401, 'Unauthorized.\n']);
      expect(headers['www-authenticate']).toBe('Basic realm="peerscope", charset="UTF-8"');
    }
    for (const path of ['/-/healthy', '/-/ready', '/-/healthy?a=b']) expect(await statusOf(served, path)).toBe(200);
    expect(await statusOf(served, '/metrics', basic('alice:correct horse'))).toBe(200);
    expect(await statusOf(served, '/metrics', basic('alice:wrong'))).toBe(401);
    expect(await statusOf(served, '/metrics', basic('eve:correct horse'))).toBe(401);
    expect(access?.authentication).toBe('passwords');
  });

  it('a user that was removed from the file loses access at the next poll', async () => {
    const served = await start(USERS);
    expect(await statusOf(served, '/metrics', basic('alice:correct horse'))).toBe(200);
    writeFileSync(file, `basic_auth_users: { bob: "${HASH}" }\n`);
    await poll();
    expect(await statusOf(served, '/metrics', basic('alice:correct horse'))).toBe(401);
    expect(await statusOf(served, '/metrics', basic('bob:correct horse'))).toBe(200);
  });

  it('an invalid change leaves the previous configuration in effect until it is fixed', async () => {
    const served = await start(USERS);
    writeFileSync(file, 'basic_auth_users: { alice: secret }\n');
    await poll();
    await poll();
    expect(failures).toHaveLength(2);
    expect(failures[0]).toMatch(/^basic_auth_users\.alice: must be a bcrypt hash/);
    expect(access?.isCurrent).toBe(false);
    expect(await statusOf(served, '/metrics')).toBe(401);
    expect(await statusOf(served, '/metrics', basic('alice:correct horse'))).toBe(200);
    rmSync(file);
    await poll();
    expect(failures.at(-1)).toBe('no such file or directory');
    writeFileSync(file, USERS);
    await poll();
    expect([failures.length, changes, access?.isCurrent]).toEqual([3, 1, true]);
  });
});

describe('with headers', () => {
  it('every response has them, and they replace the default ones', async () => {
    const served = await start(
      'http_server_config: { headers: { Content-Security-Policy: "default-src https:", X-Frame-Options: DENY } }\n',
    );
    for (const path of ['/', '/metrics', '/-/healthy', '/nothing']) {
      const { headers } = await served.ask(path);
      expect(headers).toMatchObject({ 'content-security-policy': 'default-src https:', 'x-frame-options': 'DENY' });
      expect(headers['x-content-type-options']).toBe('nosniff');
    }
    writeFileSync(file, 'http_server_config: { headers: { Strict-Transport-Security: max-age=1 } }\n');
    await poll();
    const { headers } = await served.ask('/metrics');
    expect(headers['strict-transport-security']).toBe('max-age=1');
    expect(headers['x-frame-options']).toBeUndefined();
  });
});

describe('with TLS', () => {
  /** A socket after its handshake. */
  async function handshake(served: Served, options: object = {}): Promise<TLSSocket> {
    const socket = connect({ port: served.port, host: '127.0.0.1', ca, ...options });
    await once(socket, 'secureConnect');
    return socket;
  }

  it('serves HTTPS only', async () => {
    const served = await start(tls() + USERS);
    expect(await statusOf(served, '/metrics', { ca, ...basic('alice:correct horse') })).toBe(200);
    expect(await statusOf(served, '/metrics', { ca })).toBe(401);
    await expect(served.ask('/metrics')).rejects.toThrow(/certificate/);
    await expect(fetch(`http://127.0.0.1:${served.port}/-/healthy`)).rejects.toThrow();
  });

  it('accepts only the configured versions', async () => {
    const served = await start(tls(', min_version: TLS13'));
    await expect(served.ask('/-/healthy', { ca, maxVersion: 'TLSv1.2' })).rejects.toThrow(/alert/);
    expect(await statusOf(served, '/-/healthy', { ca })).toBe(200);
    writeFileSync(file, tls(', max_version: TLS12'));
    await poll();
    const socket = await handshake(served);
    expect(socket.getProtocol()).toBe('TLSv1.2');
    socket.destroy();
  });

  it('uses a renewed certificate for new connections, and closes idle old ones', async () => {
    const served = await start(tls());
    const agent = new Agent({ keepAlive: true, ca });
    expect(await statusOf(served, '/-/healthy', { agent })).toBe(200);
    const [[kept] = []] = Object.values(agent.freeSockets);
    if (!kept) throw new Error('no connection was kept');
    copyFileSync(join(PEMS, 'renewed.pem'), join(folder, 'server.pem'));
    await poll();
    expect(failures).toEqual(['tls_server_config.key_file "server-key.pem": must be the key of the certificate']);
    expect(kept.destroyed).toBe(false);
    const closed = once(kept, 'close');
    copyFileSync(join(PEMS, 'renewed-key.pem'), join(folder, 'server-key.pem'));
    await poll();
    await closed;
    const socket = await handshake(served);
    expect(socket.getPeerCertificate().subject.CN).toBe('renewed');
    socket.destroy();
    agent.destroy();
  });

  it('stops in time when a client never starts its handshake', async () => {
    await start(tls());
    const served = await Served.start({}, access);
    const socket = connectPlain(served.port, '127.0.0.1').on('error', () => undefined);
    await once(socket, 'connect');
    // When a later request is answered, the server has accepted the connection.
    await served.ask('/-/healthy', { ca });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const stopped = served.close();
    vi.advanceTimersByTime(3_000);
    vi.useRealTimers();
    await stopped;
    socket.destroy();
  }, 8_000);

  it('cannot be turned off, and certificates cannot be requested, without a restart', async () => {
    const served = await start(tls() + USERS);
    writeFileSync(file, USERS);
    await poll();
    writeFileSync(file, tls(', client_auth_type: RequireAnyClientCert') + USERS);
    await poll();
    expect(failures).toEqual([
      'tls_server_config: turning TLS on or off takes a restart',
      'tls_server_config.client_auth_type: turning the request for client certificates on or off takes a restart',
    ]);
    expect(await statusOf(served, '/metrics', { ca, ...basic('alice:correct horse') })).toBe(200);
  });

  const CA = ', client_ca_file: ca.pem';
  it.each([
    { type: 'NoClientCert', more: '', none: 200, stranger: 200, authentication: 'none' },
    { type: 'RequestClientCert', more: '', none: 200, stranger: 200, authentication: 'none' },
    { type: 'RequireAnyClientCert', more: '', none: 403, stranger: 200, authentication: 'client certificates' },
    { type: 'VerifyClientCertIfGiven', more: CA, none: 200, stranger: 403, authentication: 'none' },
    { type: 'RequireAndVerifyClientCert', more: CA, none: 403, stranger: 403, authentication: 'client certificates' },
  ])('applies $type, except to health and readiness', async ({ type, more, none, stranger, authentication }) => {
    const served = await start(tls(`, client_auth_type: ${type}${more}`));
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      expect(await statusOf(served, '/metrics', { ...CLIENT, maxVersion })).toBe(200);
      expect(await statusOf(served, '/metrics', { ...NO_CERTIFICATE, maxVersion })).toBe(none);
      expect(await statusOf(served, '/metrics', { ...STRANGER, maxVersion })).toBe(stranger);
      for (const who of [CLIENT, NO_CERTIFICATE, STRANGER]) expect(await statusOf(served, '/-/ready', who)).toBe(200);
    }
    expect(access?.authentication).toBe(authentication);
  });

  it('does not accept a session that began without a certificate', async () => {
    const served = await start(tls(`, client_auth_type: RequireAndVerifyClientCert${CA}`));
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3']) {
      const sessions: Buffer[] = [];
      const first = await handshake(served, { maxVersion });
      first.on('session', (session: Buffer) => sessions.push(session));
      first.write('GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      await once(first.resume(), 'end');
      sessions.push(first.getSession() ?? Buffer.alloc(0));
      for (const session of sessions) {
        const again = await handshake(served, { maxVersion, session });
        expect(again.isSessionReused()).toBe(false);
        again.destroy();
        expect(await statusOf(served, '/metrics', { ca, maxVersion, session } as RequestOptions)).toBe(403);
      }
    }
  });

  it('requires a password too when there are users', async () => {
    const served = await start(tls(`, client_auth_type: RequireAndVerifyClientCert${CA}`) + USERS);
    expect(await statusOf(served, '/metrics', { ...CLIENT, ...basic('alice:correct horse') })).toBe(200);
    expect(await statusOf(served, '/metrics', CLIENT)).toBe(401);
    expect(await statusOf(served, '/metrics', { ...NO_CERTIFICATE, ...basic('alice:correct horse') })).toBe(403);
    expect(access?.authentication).toBe('passwords and client certificates');
  });

  it('rejects certificates of a CA that was replaced', async () => {
    const served = await start(tls(`, client_auth_type: RequireAndVerifyClientCert${CA}`));
    const agent = new Agent({ keepAlive: true, ...CLIENT });
    expect(await statusOf(served, '/metrics', { agent })).toBe(200);
    copyFileSync(join(PEMS, 'stranger.pem'), join(folder, 'ca.pem'));
    await poll();
    await expect.poll(() => statusOf(served, '/metrics', { agent }).catch(() => 0)).toBe(403);
    agent.destroy();
    expect(await statusOf(served, '/metrics', STRANGER)).toBe(200);
  });
});
