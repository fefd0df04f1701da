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
import { Protection } from '../../src/web/access.ts';
import { Served } from '../support/served.ts';

const PEMS = new URL('../fixtures/tls/', import.meta.url).pathname;
const pem = (name: string): string => readFileSync(join(PEMS, `${name}.pem`), 'utf8');
const ca = pem('ca');
const CLIENT = { ca, cert: pem('client'), key: pem('client-key') };
const STRANGER = { ca, cert: pem('stranger'), key: pem('stranger-key') };
const NOBODY = { ca };

/** That of "correct horse", by crypt(3). */
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
let protection: Protection | undefined;
/** Runs what waits for the next look at the files. */
let look: () => Promise<void>;
let failures: string[];
let changes: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-protection-'));
  file = join(folder, 'web.yaml');
  for (const name of readdirSync(PEMS)) copyFileSync(join(PEMS, name), join(folder, name));
});
afterEach(async () => {
  await served?.close();
  await protection?.close();
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
  look = async () => {
    const run = await waiting.promise;
    waiting = Promise.withResolvers();
    run();
    await waiting.promise;
  };
  failures = [];
  protection = await Protection.open(file, clock);
  changes = 0;
  protection.watch(
    () => changes++,
    (reason) => failures.push(reason.replace(`Cannot read web configuration "${file}": `, '')),
  );
  served = await Served.start({}, protection);
  return served;
}

/** What a client gets at a path. */
async function statusOf(served: Served, path: string, options: RequestOptions = {}): Promise<number> {
  return (await served.ask(path, options)).status;
}

describe('with users', () => {
  it('all but health asks for a password', async () => {
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
    expect(protection?.authentication).toBe('passwords');
  });

  it('a user that was taken out of the file is out at the next look', async () => {
    const served = await start(USERS);
    expect(await statusOf(served, '/metrics', basic('alice:correct horse'))).toBe(200);
    writeFileSync(file, `basic_auth_users: { bob: "${HASH}" }\n`);
    await look();
    expect(await statusOf(served, '/metrics', basic('alice:correct horse'))).toBe(401);
    expect(await statusOf(served, '/metrics', basic('bob:correct horse'))).toBe(200);
  });

  it('a change that cannot be used leaves what was there, until it is mended', async () => {
    const served = await start(USERS);
    writeFileSync(file, 'basic_auth_users: { alice: secret }\n');
    await look();
    await look();
    expect(failures).toHaveLength(2);
    expect(failures[0]).toMatch(/^basic_auth_users\.alice: must be a hash by bcrypt/);
    expect(protection?.isCurrent).toBe(false);
    expect(await statusOf(served, '/metrics')).toBe(401);
    expect(await statusOf(served, '/metrics', basic('alice:correct horse'))).toBe(200);
    rmSync(file);
    await look();
    expect(failures.at(-1)).toBe('no such file or directory');
    writeFileSync(file, USERS);
    await look();
    expect([failures.length, changes, protection?.isCurrent]).toEqual([3, 1, true]);
  });
});

describe('with headers', () => {
  it('every answer has them, in place of our own', async () => {
    const served = await start(
      'http_server_config: { headers: { Content-Security-Policy: "default-src https:", X-Frame-Options: DENY } }\n',
    );
    for (const path of ['/', '/metrics', '/-/healthy', '/nothing']) {
      const { headers } = await served.ask(path);
      expect(headers).toMatchObject({ 'content-security-policy': 'default-src https:', 'x-frame-options': 'DENY' });
      expect(headers['x-content-type-options']).toBe('nosniff');
    }
    writeFileSync(file, 'http_server_config: { headers: { Strict-Transport-Security: max-age=1 } }\n');
    await look();
    const { headers } = await served.ask('/metrics');
    expect(headers['strict-transport-security']).toBe('max-age=1');
    expect(headers['x-frame-options']).toBeUndefined();
  });
});

describe('with TLS', () => {
  /** A connection after its handshake. */
  async function shake(served: Served, options: object = {}): Promise<TLSSocket> {
    const socket = connect({ port: served.port, host: '127.0.0.1', ca, ...options });
    await once(socket, 'secureConnect');
    return socket;
  }

  it('speaks it, and to nobody without', async () => {
    const served = await start(tls() + USERS);
    expect(await statusOf(served, '/metrics', { ca, ...basic('alice:correct horse') })).toBe(200);
    expect(await statusOf(served, '/metrics', { ca })).toBe(401);
    await expect(served.ask('/metrics')).rejects.toThrow(/certificate/);
    await expect(fetch(`http://127.0.0.1:${served.port}/-/healthy`)).rejects.toThrow();
  });

  it('keeps to the versions that are allowed', async () => {
    const served = await start(tls(', min_version: TLS13'));
    await expect(served.ask('/-/healthy', { ca, maxVersion: 'TLSv1.2' })).rejects.toThrow(/alert/);
    expect(await statusOf(served, '/-/healthy', { ca })).toBe(200);
    writeFileSync(file, tls(', max_version: TLS12'));
    await look();
    const socket = await shake(served);
    expect(socket.getProtocol()).toBe('TLSv1.2');
    socket.destroy();
  });

  it('shows a renewed certificate to new connections, and ends idle old ones', async () => {
    const served = await start(tls());
    const agent = new Agent({ keepAlive: true, ca });
    expect(await statusOf(served, '/-/healthy', { agent })).toBe(200);
    const [[kept] = []] = Object.values(agent.freeSockets);
    if (!kept) throw new Error('no connection was kept');
    copyFileSync(join(PEMS, 'renewed.pem'), join(folder, 'server.pem'));
    await look();
    expect(failures).toEqual(['tls_server_config.key_file "server-key.pem": must be the key of the certificate']);
    expect(kept.destroyed).toBe(false);
    const closed = once(kept, 'close');
    copyFileSync(join(PEMS, 'renewed-key.pem'), join(folder, 'server-key.pem'));
    await look();
    await closed;
    const socket = await shake(served);
    expect(socket.getPeerCertificate().subject.CN).toBe('renewed');
    socket.destroy();
    agent.destroy();
  });

  it('holds up no stop where a connection never begins it', async () => {
    await start(tls());
    const served = await Served.start({}, protection);
    const socket = connectPlain(served.port, '127.0.0.1').on('error', () => undefined);
    await once(socket, 'connect');
    // Whoever comes after has been answered when the server has the connection.
    await served.ask('/-/healthy', { ca });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const stopped = served.close();
    vi.advanceTimersByTime(3_000);
    vi.useRealTimers();
    await stopped;
    socket.destroy();
  }, 8_000);

  it('is not switched off, nor the question for certificates on, while it runs', async () => {
    const served = await start(tls() + USERS);
    writeFileSync(file, USERS);
    await look();
    writeFileSync(file, tls(', client_auth_type: RequireAnyClientCert') + USERS);
    await look();
    expect(failures).toEqual([
      'tls_server_config: TLS is switched on or off by a restart alone',
      'tls_server_config.client_auth_type: whether clients are asked for a certificate changes by a restart alone',
    ]);
    expect(await statusOf(served, '/metrics', { ca, ...basic('alice:correct horse') })).toBe(200);
  });

  const CA = ', client_ca_file: ca.pem';
  it.each([
    { type: 'NoClientCert', more: '', nobody: 200, stranger: 200, authentication: 'none' },
    { type: 'RequestClientCert', more: '', nobody: 200, stranger: 200, authentication: 'none' },
    { type: 'RequireAnyClientCert', more: '', nobody: 403, stranger: 200, authentication: 'client certificates' },
    { type: 'VerifyClientCertIfGiven', more: CA, nobody: 200, stranger: 403, authentication: 'none' },
    { type: 'RequireAndVerifyClientCert', more: CA, nobody: 403, stranger: 403, authentication: 'client certificates' },
  ])('lets in whom $type lets in, and all to health', async ({ type, more, nobody, stranger, authentication }) => {
    const served = await start(tls(`, client_auth_type: ${type}${more}`));
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      expect(await statusOf(served, '/metrics', { ...CLIENT, maxVersion })).toBe(200);
      expect(await statusOf(served, '/metrics', { ...NOBODY, maxVersion })).toBe(nobody);
      expect(await statusOf(served, '/metrics', { ...STRANGER, maxVersion })).toBe(stranger);
      for (const who of [CLIENT, NOBODY, STRANGER]) expect(await statusOf(served, '/-/ready', who)).toBe(200);
    }
    expect(protection?.authentication).toBe(authentication);
  });

  it('verifies nobody by a session that was begun without a certificate', async () => {
    const served = await start(tls(`, client_auth_type: RequireAndVerifyClientCert${CA}`));
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3']) {
      const sessions: Buffer[] = [];
      const first = await shake(served, { maxVersion });
      first.on('session', (session: Buffer) => sessions.push(session));
      first.write('GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      await once(first.resume(), 'end');
      sessions.push(first.getSession() ?? Buffer.alloc(0));
      for (const session of sessions) {
        const again = await shake(served, { maxVersion, session });
        expect(again.isSessionReused()).toBe(false);
        again.destroy();
        expect(await statusOf(served, '/metrics', { ca, maxVersion, session } as RequestOptions)).toBe(403);
      }
    }
  });

  it('asks for a password too where there are users', async () => {
    const served = await start(tls(`, client_auth_type: RequireAndVerifyClientCert${CA}`) + USERS);
    expect(await statusOf(served, '/metrics', { ...CLIENT, ...basic('alice:correct horse') })).toBe(200);
    expect(await statusOf(served, '/metrics', CLIENT)).toBe(401);
    expect(await statusOf(served, '/metrics', { ...NOBODY, ...basic('alice:correct horse') })).toBe(403);
    expect(protection?.authentication).toBe('passwords and client certificates');
  });

  it('lets nobody in by a CA that is gone', async () => {
    const served = await start(tls(`, client_auth_type: RequireAndVerifyClientCert${CA}`));
    const agent = new Agent({ keepAlive: true, ...CLIENT });
    expect(await statusOf(served, '/metrics', { agent })).toBe(200);
    copyFileSync(join(PEMS, 'stranger.pem'), join(folder, 'ca.pem'));
    await look();
    await expect.poll(() => statusOf(served, '/metrics', { agent }).catch(() => 0)).toBe(403);
    agent.destroy();
    expect(await statusOf(served, '/metrics', STRANGER)).toBe(200);
  });
});
