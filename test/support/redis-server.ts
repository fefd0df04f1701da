import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

const UNPACKED = new URL('../../.cache/redis/usr/', import.meta.url).pathname;
const PLACES = [
  { command: 'redis-server', env: process.env },
  {
    command: join(UNPACKED, 'bin/redis-server'),
    env: { LD_LIBRARY_PATH: `${UNPACKED}lib/x86_64-linux-gnu:${UNPACKED}lib/aarch64-linux-gnu` },
  },
];

/** Finds redis-server on the PATH or where .ci/run unpacks it; where it is neither, says so. */
export function findRedisServer(): (typeof PLACES)[number] | undefined {
  const found = PLACES.find(({ command, env }) => spawnSync(command, ['--version'], { env }).status === 0);
  if (!found)
    process.stderr.write('SKIPPED: redis-server is neither on the PATH nor in .cache/redis; .ci/run fetches it\n');
  return found;
}

/** Returns a port of loopback that is free. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

/** Starts a Sentinel with this configuration, and stops it with the test. */
export async function startSentinel(
  place: (typeof PLACES)[number],
  onTestFinished: (close: () => Promise<void>) => void,
  configuration: (port: number) => readonly string[],
): Promise<number> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-sentinel-'));
  const file = join(folder, 'sentinel.conf');
  writeFileSync(file, ['bind 127.0.0.1', `dir ${folder}`, ...configuration(port), ''].join('\n'));
  const sentinel = spawn(place.command, [file, '--sentinel'], { env: place.env, stdio: ['ignore', 'pipe', 'ignore'] });
  const exit = once(sentinel, 'exit');
  onTestFinished(async () => {
    sentinel.kill('SIGKILL');
    await exit;
    rmSync(folder, { recursive: true });
  });
  for await (const text of sentinel.stdout.iterator({ destroyOnReturn: false }))
    if (String(text).includes('+monitor')) break;
  sentinel.stdout.resume();
  return port;
}

/** How the test's own client makes itself known. */
export interface ClientOptions {
  readonly password?: string;
  readonly tls?: { readonly ca: Buffer; readonly cert?: Buffer; readonly key?: Buffer };
}

/** A real redis-server on a port of loopback that keeps nothing on disk. */
export class RedisServer {
  readonly port: number;
  readonly client: Redis;
  readonly #place: (typeof PLACES)[number];
  readonly #folder = mkdtempSync(join(tmpdir(), 'peerscope-redis-'));
  readonly #flags: readonly string[];
  #process: ChildProcess | undefined;

  private constructor(place: (typeof PLACES)[number], port: number, flags: readonly string[], client: ClientOptions) {
    this.#place = place;
    this.port = port;
    this.#flags = flags;
    this.client = new Redis({ host: '127.0.0.1', port, lazyConnect: true, retryStrategy: () => 50, ...client });
    this.client.on('error', () => undefined);
  }

  /** `flags` come after the port: with TLS they may take it over. Resolves once the server answers. */
  static async start(
    place: (typeof PLACES)[number],
    flags: (port: number) => readonly string[] = () => [],
    client: ClientOptions = {},
  ): Promise<RedisServer> {
    const port = await freePort();
    const server = new RedisServer(place, port, flags(port), client);
    await server.restart();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  async restart(): Promise<void> {
    const standard = ['--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', this.#folder];
    this.#process = spawn(this.#place.command, ['--port', String(this.port), ...standard, ...this.#flags], {
      stdio: 'ignore',
      env: this.#place.env,
    });
    if (this.client.status === 'wait') this.client.connect().catch(() => undefined);
    await this.client.ping();
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  /** Ends it as a crash would; what it held is gone. */
  async kill(): Promise<void> {
    if (!this.#process || this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exit = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exit;
  }

  async close(): Promise<void> {
    this.client.disconnect();
    await this.kill();
    rmSync(this.#folder, { recursive: true });
  }

  /** How many answers it holds. */
  async answers(): Promise<number> {
    return (await this.client.keys('peerscope:asn:1:[0-9]*')).length;
  }
}
