import { spawnSync } from 'node:child_process';

const UNPACKED = new URL('../../.cache/prometheus/usr/bin/promtool', import.meta.url).pathname;

/** Finds promtool on the PATH or where .ci/run unpacks it; where it is neither, says so and skips the test whose `skip` this is. */
export function needPromtool(skip: (note: string) => never): string {
  const found = ['promtool', UNPACKED].find((command) => !spawnSync(command, ['--version']).error);
  if (found !== undefined) return found;
  process.stderr.write('SKIPPED: promtool is neither on the PATH nor in .cache/prometheus; .ci/run fetches it\n');
  return skip('promtool is not installed');
}

/**
 * What `promtool check metrics` says of a page in the Prometheus text format:
 * `status` 0 when it finds nothing, 3 for a breach of its style rules, 1 for a page that it cannot read.
 */
export function checkMetrics(promtool: string, page: string): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], { input: page, encoding: 'utf8' });
  return { status, output: stdout + stderr };
}
