import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ROOT } from './manifests.ts';

/** A bare Debian 12 with systemd; debian-root.sh makes it. */
export const LOWER = join(ROOT, '.cache/debian-12');
const HIERARCHIES = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

/**
 * Boots the Debian of `$LOWER` in namespaces of its own, with a loopback interface only. What it writes is in memory. The folder
 * `$SHARED` is there as /root. It ends with this process.
 */
const SETUP = `
echo $$ >"$CGROUP/cgroup.procs"
exec setpriv --pdeathsig KILL unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child sh -ec '
  ip link set lo up
  hostname debian
  mount -t tmpfs tmpfs "$SCRATCH"
  mkdir "$SCRATCH/upper" "$SCRATCH/work" "$SCRATCH/root"
  mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" "$SCRATCH/root"
  cd "$SCRATCH/root"
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount -t tmpfs tmpfs run
  mount --rbind /dev dev
  mount --bind "$SHARED" root
  echo "127.0.0.1 localhost" >etc/hosts
  mkdir run/old
  pivot_root . run/old
  umount --lazy /run/old
  exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=null --show-status=no </dev/null
'`;

/** Returns why this machine cannot boot a Debian of the test's own, or null. */
export function whyNoDebian(): string | null {
  if (process.getuid?.() !== 0) return 'a Debian in namespaces needs root';
  if (!existsSync(LOWER)) return 'test/e2e/packages/debian-root.sh has not run';
  const { status, stderr } = spawnSync('unshare', ['--mount', '--pid', '--net', '--cgroup', '--fork', 'true'], {
    encoding: 'utf8',
  });
  return status === 0 ? null : stderr.trim();
}

/** A bare Debian 12 that has just booted. */
export class DebianHost {
  /** The folder /root of the host, as this process sees it. */
  readonly shared: string;
  readonly #process: ChildProcess;
  readonly #cgroup: string;
  readonly #folder: string;

  private constructor(process: ChildProcess, cgroup: string, folder: string) {
    this.#process = process;
    this.#cgroup = cgroup;
    this.#folder = folder;
    this.shared = join(folder, 'shared');
  }

  /** Boots it. Its package manager finds nothing but what it has: there is no network. */
  static async boot(): Promise<DebianHost> {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-debian-'));
    for (const name of ['shared', 'scratch']) mkdirSync(join(folder, name));
    const hierarchy = HIERARCHIES.find((path) => existsSync(join(path, 'cgroup.controllers'))) ?? '';
    const cgroup = mkdtempSync(join(hierarchy, 'peerscope-debian-'));
    const child = spawn('sh', ['-ec', SETUP], {
      stdio: ['ignore', 'inherit', 'inherit'],
      env: {
        PATH: process.env['PATH'],
        CGROUP: cgroup,
        LOWER,
        SCRATCH: join(folder, 'scratch'),
        SHARED: join(folder, 'shared'),
        container: 'peerscope-test',
      },
    });
    const host = new DebianHost(child, cgroup, folder);
    const deadline = performance.now() + 60_000;
    while (!/^(running|degraded)$/.test(host.run('systemctl is-system-running').output)) {
      if (performance.now() > deadline) throw new Error('Debian did not boot within a minute');
      await pause(100);
    }
    return host;
  }

  /** Runs a line of a shell as root in /root, with its output and errors in one text. */
  run(line: string): { readonly status: number | null; readonly output: string } {
    const first = this.#first();
    if (first === 0) return { status: null, output: 'no process' };
    const inside = [`--target=${first}`, '--mount', '--pid', '--net', '--uts', '--ipc', '--cgroup'];
    const environment = [
      'env',
      '-i',
      'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
      'HOME=/root',
      'DEBIAN_FRONTEND=noninteractive',
    ];
    const script = `cd /root && { ${line}\n} 2>&1`;
    const { status, stdout } = spawnSync('nsenter', [...inside, ...environment, 'bash', '-c', script], {
      encoding: 'utf8',
    });
    return { status, output: stdout.trim() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const first = this.#first();
    if (first > 0) {
      process.kill(first, 'SIGKILL');
      await once(this.#process, 'close');
    }
    for (const path of globSync(join(this.#cgroup, '**/')).sort().reverse()) rmdirSync(path);
    rmSync(this.#folder, { recursive: true });
  }

  /** The PID of systemd, or 0 if it has ended. */
  #first(): number {
    const { pid = 0 } = this.#process;
    const task = `/proc/${pid}/task/${pid}/children`;
    return existsSync(task) ? Number(readFileSync(task, 'latin1')) : 0;
  }
}
