import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { parseStorageUrl } from '../../src/store/redis-url.ts';
import { RedisStore } from '../../src/store/redis.ts';
import { parseDocuments, readText, ROOT, type Manifest, type Workload } from '../support/manifests.ts';
import { findRedisServer, freePort } from '../support/redis-server.ts';

const place = findRedisServer();
const COMPONENT = 'deploy/k8s/components/valkey';
const SERVICE = 'localhost';

interface Probe {
  readonly exec: { readonly command: readonly string[] };
}

interface Secret extends Manifest {
  readonly data: Readonly<Record<string, string>>;
}

/** The files of the component and of the Secrets, as the pod has them, in a folder of the test. */
class Pod {
  readonly folder = mkdtempSync(join(tmpdir(), 'peerscope-valkey-'));
  readonly secrets: readonly Secret[];
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
    const { status, stdout, stderr } = spawnSync('sh', [join(ROOT, 'deploy/valkey-secrets.sh'), 'peerscope', SERVICE], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`Cannot make the Secrets: ${stderr}`);
    this.secrets = parseDocuments<Secret>(stdout);
    for (const name of ['etc/secret', 'etc/tls', 'data', 'bin'])
      mkdirSync(join(this.folder, name), { recursive: true });
    for (const name of ['start.sh', 'users.acl', 'valkey.conf'])
      writeFileSync(join(this.folder, 'etc', name), this.#moved(readText(`${COMPONENT}/${name}`)));
    for (const key of ['exporter-password', 'admin-password'])
      writeFileSync(join(this.folder, 'etc/secret', key), this.text(key));
    for (const key of ['ca.crt', 'tls.crt', 'tls.key'])
      writeFileSync(join(this.folder, 'etc/tls', key), this.text(key));
    const server = join(this.folder, 'bin/valkey-server');
    const libraries = `LD_LIBRARY_PATH=${place?.env['LD_LIBRARY_PATH'] ?? ''}`;
    writeFileSync(server, `#!/bin/sh\n${libraries} exec ${place?.command ?? ''} "$@"\n`);
    chmodSync(server, 0o755);
  }

  /** The decoded text under a key of a Secret. */
  text(key: string): string {
    const encoded = this.secrets.flatMap(({ data }) => data[key] ?? []).join('');
    return Buffer.from(encoded, 'base64').toString();
  }

  start() {
    const env = { ...process.env, PATH: `${join(this.folder, 'bin')}:${process.env['PATH'] ?? ''}` };
    return spawn('sh', [join(this.folder, 'etc/start.sh')], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  }

  #moved(text: string): string {
    return text
      .replaceAll('/etc/valkey', join(this.folder, 'etc'))
      .replaceAll('/data', join(this.folder, 'data'))
      .replace('tls-port 6379', `tls-port ${this.#port}`)
      .replace('bind * -::*', 'bind 127.0.0.1');
  }
}

describe.skipIf(!place)('the store of the component valkey', { timeout: 60_000 }, () => {
  let port: number;
  let pod: Pod;
  let server: ReturnType<Pod['start']>;
  let log = '';
  const clients: Redis[] = [];
  const complaints = (): string[] => log.split('\n').filter((line) => /Error accepting/.test(line));

  beforeAll(async () => {
    port = await freePort();
    pod = new Pod(port);
    server = pod.start();
    for await (const text of server.stdout.iterator({ destroyOnReturn: false }))
      if (/Ready to accept connections/.test(String(text))) break;
    server.stdout.on('data', (data) => (log += String(data)));
  });

  afterAll(async () => {
    for (const client of clients) client.disconnect();
    const exit = once(server, 'exit');
    server.kill('SIGKILL');
    await exit;
    rmSync(pod.folder, { recursive: true });
  });

  /** What the server answers to a user, or the reason why not. */
  async function ask(user: { username?: string; password?: string }, ...command: readonly [string, ...string[]]) {
    const tls = { ca: pod.text('ca.crt'), servername: SERVICE };
    const client = new Redis({
      host: '127.0.0.1',
      port,
      tls,
      ...user,
      maxRetriesPerRequest: 0,
      enableReadyCheck: false,
    });
    clients.push(client.on('error', () => undefined));
    const [name, ...args] = command;
    return client.call(name, ...args).catch((error: unknown) => String(error));
  }

  it('serves the exporter over TLS with the user and the authority of the DaemonSet', async () => {
    const url = `rediss://exporter:${pod.text('exporter-password')}@${SERVICE}:${port}`;
    const parsed = parseStorageUrl(url);
    if (!parsed) throw new Error('no URL');
    const reports: string[] = [];
    const store = await RedisStore.open({
      server: { ...parsed, tls: { ca: join(pod.folder, 'etc/tls/ca.crt'), cert: null, key: null } },
      clock: SYSTEM_CLOCK,
      report: (line) => void reports.push(line),
      onIncomplete: () => undefined,
    });
    await store.write([{ key: 'asn:1:192.0.2.0/24', text: 'x', keepUntil: Date.now() + 60_000 }]);
    expect(await store.read(['asn:1:192.0.2.0/24'])).toEqual(new Map([['asn:1:192.0.2.0/24', 'x']]));
    const key = 'first:["shop","web","nginx"]';
    const at = Date.now();
    expect(await store.writeFirstSeen([{ key, category: 'baseline', at }])).toEqual([{ key, previous: null }]);
    expect(await store.writeFirstSeen([{ key, category: 'baseline', at: at + 1 }])).toEqual([{ key, previous: at }]);
    expect(await store.acquire('lock', 60_000)).toBe(0);
    await store.renew('lock', 60_000);
    await store.release('lock');
    await store.enqueue('queue', ['a', 'b']);
    expect([...(await store.readQueue('queue', 10))].sort()).toEqual(['a', 'b']);
    await store.dequeue('queue', ['a']);
    await store.writeBreaker('breaker', { failures: 2, openMs: 60_000 });
    expect(await store.readBreaker('breaker')).toMatchObject({ failures: 2 });
    await store.writeBreaker('breaker', { failures: 0, openMs: 0 });
    expect({ up: store.up, reports }).toEqual({ up: true, reports: [] });
    await store.close();
  });

  it.each<{ command: readonly [string, ...string[]] }>([
    { command: ['FLUSHALL'] },
    { command: ['KEYS', '*'] },
    { command: ['CONFIG', 'GET', 'dir'] },
    { command: ['ACL', 'LIST'] },
    { command: ['SHUTDOWN'] },
    { command: ['MONITOR'] },
    { command: ['GETRANGE', 'other:key', '0', '1'] },
    { command: ['EVAL', 'return redis.call("GET", "other:key")', '0'] },
    { command: ['SUBSCRIBE', 'x'] },
  ])('does not let the exporter run $command', async ({ command }) => {
    const user = { username: 'exporter', password: pod.text('exporter-password') };
    expect(await ask(user, ...command)).toMatch(/NOPERM|can't run this command/);
  });

  it('lets the admin look, and nobody in without a password', async () => {
    expect(await ask({ username: 'admin', password: pod.text('admin-password') }, 'ACL', 'WHOAMI')).toBe('admin');
    expect(await ask({}, 'PING')).toMatch(/NOAUTH/);
    expect(await ask({ password: pod.text('admin-password') }, 'PING')).toMatch(/NOAUTH|WRONGPASS/);
  });

  it.each([
    { when: 'it answers', change: (command: readonly string[]) => command, succeeds: true },
    { when: 'nothing listens', change: (command: readonly string[]) => command.with(2, '1'), succeeds: false },
  ])('is alive for the kubelet when $when: $succeeds', ({ change, succeeds }) => {
    const workload = parseDocuments<Manifest>(readText(`${COMPONENT}/valkey.yaml`)).find(
      ({ kind }) => kind === 'Deployment',
    );
    const [container] = (workload as Workload | undefined)?.spec.template.spec.containers ?? [];
    const { livenessProbe, readinessProbe } = container as unknown as Record<'livenessProbe' | 'readinessProbe', Probe>;
    expect(readinessProbe).toEqual(livenessProbe);
    const [program = '', ...args] = livenessProbe.exec.command;
    expect(program).toBe('valkey-cli');
    const moved = args.map((arg) => arg.replace('/etc/valkey', join(pod.folder, 'etc')));
    const command = change([place?.command.replace('-server', '-cli') ?? '', '-p', String(port), ...moved]);
    const { status } = spawnSync(command[0] ?? '', command.slice(1), { env: place?.env, encoding: 'utf8' });
    expect(status === 0).toBe(succeeds);
    expect(complaints()).toEqual([]);
  });

  it('answers nothing without TLS', async () => {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined);
    socket.write('PING\r\n');
    const answers: string[] = [];
    socket.on('data', (data) => answers.push(String(data)));
    await new Promise((resolve) => socket.on('close', resolve));
    expect(answers.filter((answer) => /PONG|NOAUTH/.test(answer))).toEqual([]);
  });

  it('keeps only hashes of the passwords, in a file that nobody else reads', () => {
    const users = join(pod.folder, 'data/users.acl');
    const secrets = ['exporter-password', 'admin-password'].map((key) => pod.text(key));
    expect(secrets.map((secret) => secret.length)).toEqual([64, 64]);
    const texts = [readFileSync(users, 'utf8'), readFileSync(`/proc/${server.pid ?? 0}/cmdline`, 'utf8')];
    expect(texts.filter((text) => secrets.some((secret) => text.includes(secret)))).toEqual([]);
    expect(statSync(users).mode & 0o777).toBe(0o600);
  });

  it.each(['exporter-password', 'admin-password'])('does not start without %s, and says so', async (key) => {
    const other = new Pod(1);
    writeFileSync(join(other.folder, 'etc/secret', key), '');
    const started = other.start();
    let stderr = '';
    started.stderr.on('data', (data) => (stderr += String(data)));
    const [code] = (await once(started, 'close')) as [number];
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `Cannot start Valkey: the Secret has no password under the key "${key}"\n`,
    });
    rmSync(other.folder, { recursive: true });
  });
});
