import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { netnsOf, TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';

const MAIN = new URL('../../src/main.ts', import.meta.url).pathname;
const KINDS = ['tcp-pair=127.0.0.1:0', 'tcp-pair=[::1]:0', 'tcp-time-wait=127.0.0.1:0', 'udp-queue=127.0.0.1:55'];

/** Lines without the blanks at their ends, below the title that they stand under. */
function linesOf(text: string): string[] {
  let title = '';
  return text.split('\n').flatMap((line) => {
    if (/^\w+:$/.test(line)) title = line;
    return line.trim() === '' || line.trim().endsWith(':') ? [] : [`${title} ${line.trim()}`];
  });
}

describe('stats', () => {
  const obstacle = whyNoNamespaces() ?? (spawnSync('netstat', ['-V']).error ? 'netstat is not installed' : null);
  const network = new TestNetwork();
  let host = 0;

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: comparison with netstat -s: ${obstacle}\n`);
      return;
    }
    host = await network.make();
    await network.openSockets(host, { kinds: KINDS });
    network.run(host, 'ping -c 1 127.0.0.1 2>&1 || true');
  });

  afterAll(() => network[Symbol.asyncDispose]());

  const stats = (...args: string[]): string => {
    const run = spawnSync(process.execPath, [MAIN, 'stats', ...args], { encoding: 'utf8' });
    expect(run.stderr).toBe('');
    return run.stdout;
  };

  it('prints what netstat -s prints in a namespace, selected by its inode or by a process', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    for (const choice of [`--netns=${netnsOf(host)}`, `--pid=${host}`]) {
      for (let attempt = 1; ; attempt++) {
        const before = network.run(host, 'netstat -s; netstat -s -6');
        const shown = linesOf(stats(choice, '--zeros'));
        if (attempt < 10 && network.run(host, 'netstat -s; netstat -s -6') !== before) continue;
        // netstat -s -6 has no words for TcpExt: it prints the bare numbers on the line of the title.
        const said = linesOf(before).filter((line) => !/TcpExt: \d+ \d+/.test(line));
        expect(said.filter((line) => !shown.includes(line))).toEqual([]);
        expect(said.length).toBeGreaterThan(50);
        const counted = linesOf(stats(choice)).filter((line) => !/^(Xfrm|UdpLite6):/.test(line));
        expect(counted.filter((line) => !said.includes(line))).toEqual([]);
        expect(counted.length).toBeGreaterThan(20);
        break;
      }
    }
  });
});
