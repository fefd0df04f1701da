/**
 * Compiles native/sockets.c, the socket agent, to a static program. It uses musl-gcc, or else cc. Without a compiler, peerscope works
 * without the agent.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';

const SOURCE = join(import.meta.dirname, 'sockets.c');
const FLAGS = ['-std=gnu11', '-Os', '-s', '-static', '-fstack-protector-strong'];
/** musl-gcc has no headers of the kernel: the system's come last. */
const HEADERS = ['/usr/include', `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`];
const COMPILERS = [['musl-gcc', ...HEADERS.flatMap((folder) => ['-idirafter', folder])], ['cc']];

/** Writes the agent to `output`; says in one line why it could not. */
export function buildAgent(output) {
  if (process.platform !== 'linux') return;
  let reason = 'no C compiler is installed';
  for (const [compiler, ...flags] of COMPILERS) {
    const { error, status, stderr } = spawnSync(compiler, [...FLAGS, ...flags, '-o', output, SOURCE], {
      encoding: 'utf8',
    });
    if (status === 0) return;
    if (error === undefined)
      reason = `${compiler}: ${/^.*(?:error|cannot|No such).*$/m.exec(stderr)?.[0] ?? `status ${status}`}`;
  }
  process.stderr.write(`Cannot compile the socket agent "native/sockets.c": ${reason}. peerscope works without it.\n`);
}
