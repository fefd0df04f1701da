import { spawnSync } from 'node:child_process';

const INSIDE = 'BENCH_INSIDE';

/** Reports whether this process runs in the namespaces that `runInside` creates. */
export function isInside(): boolean {
  return process.env[INSIDE] !== undefined;
}

/** Runs this program again in new namespaces, so that all contenders see the same sockets and processes and nothing else. */
export function runInside(): number {
  const user = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  const namespaces = [...user, '--net', '--pid', '--mount-proc', '--fork', '--kill-child'];
  const script = 'ip link set lo up && exec "$0" "$@"';
  const args = [...namespaces, 'sh', '-c', script, process.execPath, ...process.argv.slice(1)];
  return spawnSync('unshare', args, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } }).status ?? 1;
}
