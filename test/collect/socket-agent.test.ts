import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { AgentStream } from '../../src/collect/agent-stream.ts';
import { spawnedAgent } from '../../src/collect/socket-agent.ts';

const support = (name: string): string => new URL(`../support/${name}`, import.meta.url).pathname;

/** Waits until a process is gone. A zombie is not. */
const gone = (pid: number): Promise<void> =>
  vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow('ESRCH'), { timeout: 20_000 });

describe('an agent that runs as a child', () => {
  let folder: string;
  let program: string;

  const script = (name: string, text: string, mode = 0o755): string => {
    const file = join(folder, name);
    writeFileSync(file, `#!/bin/sh\n${text}\n`);
    chmodSync(file, mode);
    return file;
  };

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'peerscope-agent-'));
    program = script('agent', `exec '${process.execPath}' '${support('fake-agent-main.ts')}'`);
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  test('ends with its source', async () => {
    const source = new AgentStream(spawnedAgent(program), SYSTEM_CLOCK);
    const dump = await source.dump(20_000);
    expect(dump?.tcp.count).toBe(2);
    source.close();
    await gone(dump?.netns ?? 0);
  });

  test.each(['main', 'main-exit', 'worker', 'worker-exit'])('ends with its process: %s', async (how) => {
    const { stdout, stderr, status } = spawnSync(process.execPath, [support('agent-user.ts'), program, how], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    const { netns, ...rest } = JSON.parse(stdout) as { netns: number };
    expect(rest).toEqual({ tcp: 2, failure: null });
    await gone(netns);
  });

  // Nothing else keeps that process alive, so its end must not be missed.
  test.each([
    { name: 'exits', text: 'exit 3', failure: 'status 3' },
    { name: 'gets the signal of its terminal', text: 'kill -INT $$', failure: 'SIGINT' },
    { name: 'closes the connection and stays', text: 'exec 3>&- 3<&-; exec sleep 60', failure: 'SIGKILL' },
  ])('a process that waits for an agent that $name', ({ text, failure }) => {
    const agent = script('ended', text);
    const { stdout, stderr, status } = spawnSync(process.execPath, [support('agent-user.ts'), agent, 'main'], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    expect(JSON.parse(stdout)).toMatchObject({ tcp: null, failure: `The socket agent "${agent}" ended: ${failure}` });
  });

  test.each([
    { name: 'exits', text: 'exit 3', failure: 'status 3' },
    { name: 'is killed', text: 'kill -9 $$', failure: 'SIGKILL' },
    { name: 'gets no environment', text: 'test -z "$HOME$USER$LANG" && exit 4', failure: 'status 4' },
    { name: 'cannot be run', text: '', mode: 0o644, failure: 'permission denied' },
  ])('an agent that $name', async ({ text, mode, failure }) => {
    const agent = script('broken', text, mode);
    const source = new AgentStream(spawnedAgent(agent), SYSTEM_CLOCK);
    expect(await source.dump(20_000)).toBeNull();
    expect(source).toMatchObject({ isUp: false, failure: `The socket agent "${agent}" ended: ${failure}` });
    source.close();
  });
});
