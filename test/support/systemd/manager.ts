import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { ROOT } from '../manifests.ts';

/** Where the manager sees the checkout and this Node.js, as docs/deploy.md installs the program. */
export const PROGRAM = '/opt/peerscope';
export const NODE = '/opt/node';

/** The targets that units depend on by default. */
const TARGETS = ['sysinit', 'basic', 'network', 'sockets', 'shutdown'];

/**
 * Runs a systemd as PID 1 of namespaces of its own: processes, mounts, network, and cgroups below `$CGROUP`, which it mounts
 * itself. It ends with this process. /run, /opt and /var/lib are empty. What the services print goes to the standard output.
 */
const SETUP = `
echo $$ >"$CGROUP/cgroup.procs"
exec setpriv --pdeathsig KILL unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child --mount-proc sh -ec '
  umount --recursive /sys/fs/cgroup
  for folder in /run /opt /var/lib; do mount -t tmpfs tmpfs $folder; done
  mkdir -p /run/systemd/system ${PROGRAM}
  touch ${NODE}
  mount --bind "$CHECKOUT" ${PROGRAM}
  mount --bind "$RUNTIME" ${NODE}
  mkfifo /run/output
  cat 0<>/run/output &
  exec /usr/lib/systemd/systemd --system --unit=peerscope.service --log-target=null --show-status=no </dev/null
'`;

/** Where the unified hierarchy of cgroups is mounted, alone or beside those of version 1. */
const HIERARCHIES = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

/** Returns why this host cannot run a systemd of the test's own, or null. */
export function whyNoSystemd(): string | null {
  if (process.getuid?.() !== 0) return 'a systemd in namespaces needs root';
  if (spawnSync('/usr/lib/systemd/systemd', ['--version']).status !== 0) return 'systemd is not installed';
  const { status, stderr } = spawnSync('unshare', ['--mount', '--pid', '--net', '--cgroup', '--fork', 'true'], {
    encoding: 'utf8',
  });
  return status === 0 ? null : stderr.trim();
}

/** A real systemd with the units of deploy/systemd. It starts peerscope.service. */
export class SystemdManager {
  readonly #process: ChildProcess;
  readonly #lines: NodeJS.AsyncIterator<string>;
  readonly #folder: string;
  readonly #cgroup: string;

  private constructor(process: ChildProcess, lines: Interface, folder: string, cgroup: string) {
    this.#process = process;
    this.#lines = lines[Symbol.asyncIterator]();
    this.#folder = folder;
    this.#cgroup = cgroup;
  }

  /** Starts it with these units and this program in the service. `service` holds more settings of the service. */
  static start(units: readonly string[], program: string, service: readonly string[] = []): SystemdManager {
    const folder = mkdtempSync(join(tmpdir(), 'peerscope-systemd-'));
    for (const target of TARGETS) writeFileSync(join(folder, `${target}.target`), '[Unit]\nDefaultDependencies=no\n');
    for (const unit of units) writeFileSync(join(folder, unit), readFileSync(join(ROOT, 'deploy/systemd', unit)));
    mkdirSync(join(folder, 'peerscope.service.d'));
    const settings = ['ExecStart=', `ExecStart=${program}`, 'StandardOutput=file:/run/output', 'StandardError=inherit'];
    writeFileSync(join(folder, 'peerscope.service.d/test.conf'), ['[Service]', ...settings, ...service, ''].join('\n'));
    const hierarchy = HIERARCHIES.find((path) => existsSync(join(path, 'cgroup.controllers'))) ?? '';
    const cgroup = mkdtempSync(join(hierarchy, 'peerscope-systemd-'));
    const child = spawn('sh', ['-ec', SETUP], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        PATH: process.env['PATH'],
        CGROUP: cgroup,
        CHECKOUT: ROOT,
        RUNTIME: process.execPath,
        SYSTEMD_UNIT_PATH: folder,
        container: 'peerscope-test',
      },
    });
    return new SystemdManager(child, createInterface({ input: child.stdout }), folder, cgroup);
  }

  /** The next line that the service prints. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('Cannot read the output of the service: systemd ended');
    return value;
  }

  /** Runs systemctl, and returns its output and status. */
  systemctl(...args: readonly string[]): { readonly status: number | null; readonly stdout: string } {
    const inside = [`--target=${this.#first()}`, '--mount', '--pid', '--net', 'systemctl', ...args];
    const { status, stdout } = spawnSync('nsenter', inside, { encoding: 'utf8' });
    return { status, stdout: stdout.trim() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The end of PID 1 ends the whole namespace, and the parent ends after that.
    const first = this.#first();
    if (first > 0) {
      process.kill(first, 'SIGKILL');
      await once(this.#process, 'close');
    }
    for (const path of globSync(join(this.#cgroup, '**/')).sort().reverse()) rmdirSync(path);
    rmSync(this.#folder, { recursive: true });
  }

  /** The PID of the manager, or 0 if it has ended. */
  #first(): number {
    const { pid = 0 } = this.#process;
    const task = `/proc/${pid}/task/${pid}/children`;
    return existsSync(task) ? Number(readFileSync(task, 'latin1')) : 0;
  }
}
