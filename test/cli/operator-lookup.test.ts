import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { startCymruServer, type Behaviour, type CymruServer } from '../support/cymru-server.ts';
import { runHere } from '../support/main.ts';

vi.setConfig({ testTimeout: 60_000 });

const TREE = fileURLToPath(new URL('../fixtures/proc/plain-host', import.meta.url));
const ANSWERS = ['13335 | 1.1.1.0 | 1.1.1.0/24 | US | arin | 2010-07-14 | CLOUDFLARENET - Cloudflare, Inc., US'];
/** The public networks of that host; 1.1.1.0, 8.8.8.0, 9.9.9.0 and two of IPv6. */
const NETWORKS = 5;

let folder: string;
let server: CymruServer;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'peerscope-ask-'));
  server = await startCymruServer(ANSWERS);
});
afterEach(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

const run = (...args: string[]): Promise<{ stdout: string; stderr: string; code: number | null }> =>
  runHere([...args, `--path.procfs=${TREE}`, `--asn.server=${server.host}:${server.port}`, `--storage.path=${folder}`]);
const lastLine = (text: string): string => text.trimEnd().split('\n').at(-1) ?? '';

describe('into a pipe', () => {
  it.each(['list', 'top', 'endpoints -n', 'list -o json', 'watch -c 1 list'])(
    '%s asks with --ask=always',
    async (line) => {
      const { stdout, stderr } = await run(...line.split(' '), '--ask=always');
      expect(server.asked).toHaveLength(NETWORKS);
      expect(stdout).toContain(line.includes('json') ? '"asn":13335' : 'Cloudflare');
      expect(lastLine(line.includes('json') ? stderr : stdout)).toBe(
        `Sent ${NETWORKS} networks to ${server.host}:${server.port}`,
      );
    },
  );

  it.each([[], ['--ask=auto'], ['--ask=never']])('list asks nobody with %j, and says how to ask', async (...ask) => {
    const { stdout } = await run('list', ...ask);
    expect(server.requests).toEqual([]);
    expect(lastLine(stdout)).toBe(`No operator for ${NETWORKS} networks: use --ask=always to query Team Cymru`);
  });

  it.each([['--asn.provider=none'], ['-n', '--asn.provider=none']])(
    '--asn.provider=none wins over --ask',
    async (...args) => {
      const { stdout } = await run('list', '--ask=always', ...args);
      expect(server.requests).toEqual([]);
      expect(lastLine(stdout)).toBe('22 sockets, all attributed to a process');
    },
  );

  it('says nothing if all is known', async () => {
    await run('list', '--ask=always');
    const { stdout } = await run('list', '--ask=always');
    expect(server.requests).toHaveLength(1);
    expect(lastLine(stdout)).toBe('22 sockets, all attributed to a process');
  });
});

describe('a failed query', () => {
  const hangsUp: Behaviour = (socket) => socket.destroy();
  const isSilent: Behaviour = () => undefined;
  it.each([
    ['if the server hangs up', hangsUp, /Cannot query/],
    ['if the server does not answer', isSilent, /no answer within 2 s/],
  ])('is remembered for ten minutes: %s', async (_case, behaviour, reason) => {
    server.behaviour = behaviour;
    const first = await run('list', '--ask=always');
    expect(first.code).toBe(0);
    expect(lastLine(first.stdout)).toMatch(reason);
    expect(lastLine(first.stdout)).toContain('next attempt in 10 min');
    const { length } = server.requests;
    const second = await run('top', '--ask=always');
    expect(lastLine(second.stdout)).toBe(
      `No operator for ${NETWORKS} networks: the last query failed, next attempt in 10 min`,
    );
    expect(server.requests).toHaveLength(length);
  });
});
