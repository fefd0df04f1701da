import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** Debian's packages of the peers are unpacked here, in a folder that no check reads. */
const UNPACKED = fileURLToPath(new URL('../node_modules/.cache/peerscope-peers/', import.meta.url));
const START_MS = 30_000;
const POLL_MS = 2;

/** A program of others that is scraped over HTTP. */
interface Peer {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly url: string;
  readonly versionFlag: string;
}

const PROCESS_CONFIG = `${UNPACKED}process-exporter.yml`;
const PEERS: readonly Peer[] = [
  {
    name: 'node_exporter (tcpstat, processes)',
    program: 'prometheus-node-exporter',
    args: ['--collector.tcpstat', '--collector.processes', '--web.listen-address=127.0.0.1:10044', '--log.level=error'],
    url: 'http://127.0.0.1:10044/metrics',
    versionFlag: '--version',
  },
  {
    name: 'process-exporter',
    program: 'prometheus-process-exporter',
    args: [`-config.path=${PROCESS_CONFIG}`, '-web.listen-address=127.0.0.1:10045'],
    url: 'http://127.0.0.1:10045/metrics',
    versionFlag: '-version',
  },
];

/** A peer that can run here. */
export interface FoundPeer extends Peer {
  readonly path: string;
  readonly version: string;
}

/** Downloads the peers that are not installed from Debian, where that is possible, and unpacks them. */
export function downloadPeers(): void {
  mkdirSync(UNPACKED, { recursive: true });
  writeFileSync(PROCESS_CONFIG, "process_names:\n  - name: '{{.Comm}}'\n    cmdline: ['.+']\n");
  const missing = PEERS.filter(({ program }) => pathOf(program) === null).map(({ program }) => program);
  if (missing.length === 0) return;
  spawnSync('apt-get', ['download', ...missing], { cwd: UNPACKED, stdio: 'ignore' });
  for (const file of readdirSync(UNPACKED))
    if (file.endsWith('.deb')) spawnSync('dpkg-deb', ['-x', file, '.'], { cwd: UNPACKED, stdio: 'ignore' });
}

/** The peers that can run here. */
export function findPeers(): FoundPeer[] {
  return PEERS.flatMap((peer) => {
    const path = pathOf(peer.program);
    if (path === null) return [];
    const { stdout, stderr } = spawnSync(path, [peer.versionFlag], { encoding: 'utf8' });
    const [, version = 'unknown'] = /revision: ([^)]+)\)/.exec(stdout + stderr) ?? [];
    return [{ ...peer, path, version }];
  });
}

function pathOf(program: string): string | null {
  const folders = [`${UNPACKED}usr/bin`, ...(process.env['PATH'] ?? '').split(':')];
  return folders.map((folder) => `${folder}/${program}`).find((path) => existsSync(path)) ?? null;
}

/** A running program that is scraped. */
export class Scraped {
  readonly pid: number;
  /** From exec to the first complete page. */
  readonly startMs: number;
  readonly #child: ChildProcess;
  readonly #url: string;

  private constructor(child: ChildProcess, url: string, startMs: number) {
    this.#child = child;
    this.#url = url;
    this.pid = child.pid ?? 0;
    this.startMs = startMs;
  }

  /** Starts a program and waits for its first page that matches. */
  static async start(command: string, args: readonly string[], url: string, isComplete = /^/): Promise<Scraped> {
    const begun = performance.now();
    // As npm start sets it; the others do not use this allocator.
    const child = spawn(command, args, { stdio: 'ignore', env: { ...process.env, MALLOC_ARENA_MAX: '1' } });
    for (;;) {
      const page = await fetch(url).then(
        (response) => (response.ok ? response.text() : ''),
        () => null,
      );
      if (page !== null && isComplete.test(page)) return new Scraped(child, url, performance.now() - begun);
      if (child.exitCode !== null || performance.now() - begun > START_MS) throw new Error(`Cannot start "${command}"`);
      await pause(POLL_MS);
    }
  }

  async scrape(): Promise<void> {
    await (await fetch(this.#url)).arrayBuffer();
  }

  async end(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill();
    await ended;
  }
}
