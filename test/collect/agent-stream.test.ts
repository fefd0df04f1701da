import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { agentSocket, whyNotTrusted } from '../../src/collect/agent-socket.ts';
import { AgentStream } from '../../src/collect/agent-stream.ts';
import { doneMessage, joined, socketMessage } from '../support/diag-messages.ts';
import {
  answerTruly,
  dumpFrame,
  eventFrame,
  failedFrame,
  FakeAgent,
  frame,
  helloFrame,
  words,
  type AgentRequest,
  type Behavior,
} from '../support/fake-agent.ts';
import { ManualTime } from '../support/manual-time.ts';
import type { SocketDump } from '../../src/collect/netlink.ts';

const NOTHING = new Uint8Array(0);
const TRUE_DUMP = { netns: 4026531840, tcp: [2, 3], tcp6: [10, 11] };

/** A dump as its local ports. */
function ports(dump: SocketDump | null): unknown {
  if (dump === null) return null;
  const { netns, tcp, tcp6 } = dump;
  return {
    netns,
    tcp: Array.from(tcp.localPort.subarray(0, tcp.count)),
    tcp6: Array.from(tcp6.localPort.subarray(0, tcp6.count)),
  };
}

describe('AgentStream', () => {
  let folder: string;
  let path: string;
  let time: ManualTime;
  let source: AgentStream | null;
  let agent: FakeAgent | null;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'peerscope-agent-'));
    path = join(folder, 'agent.sock');
    time = new ManualTime();
    source = agent = null;
  });

  afterEach(async () => {
    source?.close();
    await agent?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const open = async (behavior: Behavior = {}): Promise<[AgentStream, FakeAgent]> => {
    agent = await FakeAgent.listen(path, behavior);
    source = new AgentStream(agentSocket(path), time);
    return [source, agent];
  };

  test('dumps both families, as soon as the agent is connected', async () => {
    const [source] = await open();
    expect(source.isUp).toBe(false);
    expect(ports(await source.dump(1_000))).toEqual(TRUE_DUMP);
    expect(source).toMatchObject({ isUp: true, failure: null, netns: 4026531840, scope: 'own' });
    expect(ports(await source.dump(1_000))).toEqual(TRUE_DUMP);
  });

  test('the greeting says whether the agent gets the events of all namespaces', async () => {
    const [source] = await open({ greeting: helloFrame({ flags: 1, netns: 2 ** 33 + 5 }) });
    await source.dump(1_000);
    expect(source).toMatchObject({ scope: 'all' });
  });

  test('counts events and losses, and hands events out once', async () => {
    const [source, agent] = await open();
    await source.dump(1_000);
    time.pass(77);
    agent.send(joined(eventFrame({ localPort: 9 }, 4), frame(4, words(3)), eventFrame({ localPort: 8, family: 10 })));
    await vi.waitFor(() => expect(source.events).toBe(2));
    expect(source.overruns).toBe(3);
    const ended = source.takeEnded();
    expect([ended.count, ended.nsid[0], ended.nsid[1], ended.table[1], ended.receivedAt[0]]).toEqual([2, 4, -1, 1, 77]);
    expect(source.takeEnded().count).toBe(0);
    expect(source.events).toBe(2);
  });

  test('a connection that breaks counts as a loss, and a refused one does not', async () => {
    const [source, agent] = await open();
    await source.dump(1_000);
    for (const client of agent.clients) client.destroy();
    await vi.waitFor(() => expect(source.isUp).toBe(false));
    expect(source.overruns).toBe(1);
    agent.behavior = { greeting: helloFrame({ version: 2 }) };
    time.pass(1_000);
    await vi.waitFor(() => expect(source.failure).toContain('version 2'));
    source.close();
    expect(source.overruns).toBe(1);
  });

  test('asks for the namespaces of processes, and leaves out those without a number', async () => {
    const [source] = await open({
      answer: (request) => (request.pid === 70 ? failedFrame(2, 3, 70) : answerTruly(request)),
    });
    expect(await source.nsidsOf([10, 70, 30])).toEqual(
      new Map([
        [10, 1],
        [30, 3],
      ]),
    );
    expect(await source.nsidsOf([])).toEqual(new Map());
  });

  test('an inconsistent dump is repeated once', async () => {
    const requests: number[] = [];
    const [source] = await open({
      answer: ({ family }) => {
        requests.push(family);
        return dumpFrame(family, socketMessage({ family }, true, requests.length < 3 ? 0x10 : 0), doneMessage());
      },
    });
    expect((await source.dump(1_000))?.tcp.count).toBe(1);
    expect(requests).toEqual([2, 10, 2, 10]);
  });

  test.each([
    ['the kernel', ({ family }: AgentRequest) => dumpFrame(family, doneMessage(-2))],
    ['the agent', ({ family }: AgentRequest) => failedFrame(1, 2, family)],
  ])('a dump that %s refuses is no dump', async (_, answer) => {
    const [source] = await open({ answer });
    expect(await source.dump(1_000)).toBeNull();
    expect(source).toMatchObject({
      isUp: false,
      failure: 'The kernel does not dump sockets: no such file or directory',
    });
  });

  test('a dump that is too late is discarded, and never part of the next one', async () => {
    const late: Uint8Array[] = [];
    const [source, agent] = await open({
      answer: (request) => {
        if (late.length === 2) return answerTruly(request);
        late.push(dumpFrame(request.family, socketMessage({ ...request, localPort: 666 }), doneMessage()));
        return NOTHING;
      },
    });
    const first = source.dump(500);
    await vi.waitFor(() => expect(late).toHaveLength(2));
    time.pass(500);
    expect(await first).toBeNull();
    expect(source).toMatchObject({ isUp: false, failure: 'The socket agent did not answer in time' });
    const second = source.dump(500);
    for (const bytes of late) agent.send(bytes);
    expect(ports(await second)).toEqual(TRUE_DUMP);
    expect(source.isUp).toBe(true);
  });

  test('an agent that never ends a dump is left', async () => {
    let requests = 0;
    const [source] = await open({ answer: () => (requests++, NOTHING) });
    const first = source.dump(500);
    await vi.waitFor(() => expect(requests).toBe(2));
    time.pass(500);
    expect(await first).toBeNull();
    const second = source.dump(500);
    time.pass(500);
    expect(await second).toBeNull();
    expect(source.failure).toBe('The socket agent does not finish a dump');
  });

  test.each<{ name: string; behavior?: Behavior; sends?: Uint8Array; failure: string }>([
    {
      name: 'speaks a later version',
      behavior: { greeting: helloFrame({ version: 2 }) },
      failure: 'The socket agent speaks version 2, this program version 1',
    },
    {
      name: 'has another client',
      behavior: { greeting: null },
      failure:
        'Cannot read socket "SOCKET": the socket agent refused the connection: it serves one client at a time, of its own user',
    },
    {
      name: 'does not greet',
      behavior: { greeting: eventFrame({}) },
      failure: 'The socket agent sent no greeting',
    },
    {
      name: 'sends random bytes',
      behavior: { greeting: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n') },
      failure: 'The socket agent sent a frame of 1347703880 bytes',
    },
    {
      name: 'sends a frame of 1 GiB',
      sends: words(1 << 30, 3, 0),
      failure: 'The socket agent sent a frame of 1073741824 bytes',
    },
    { name: 'sends an unknown frame', sends: frame(9, NOTHING), failure: 'The socket agent sent a frame of kind 9' },
    { name: 'greets twice', sends: helloFrame(), failure: 'The socket agent sent a frame of kind 1' },
    {
      name: 'dumps without a request',
      sends: dumpFrame(2, doneMessage()),
      failure: 'The socket agent sent a dump that was not requested',
    },
    {
      name: 'dies in the middle of a dump',
      behavior: { answer: ({ family }) => (family === 2 ? dumpFrame(2, socketMessage({})) : null) },
      failure: 'Cannot read socket "SOCKET": the socket agent closed the connection',
    },
  ])('an agent that $name is left, and tried again after a pause', async ({ behavior = {}, sends, failure }) => {
    const [source, agent] = await open(behavior);
    if (sends) {
      await source.dump(1_000);
      agent.send(sends);
    } else expect(await source.dump(1_000)).toBeNull();
    await vi.waitFor(() => expect(source.failure).toBe(failure.replace('SOCKET', path)));
    expect(await source.dump(1_000)).toBeNull();
    expect(time.waits).toEqual([1_000]);
    agent.behavior = {};
    time.pass(1_000);
    expect(ports(await source.dump(1_000))).toEqual(TRUE_DUMP);
  });

  test('a frame may arrive in two parts', async () => {
    const [source, agent] = await open();
    await source.dump(1_000);
    const event = eventFrame({ localPort: 5 });
    agent.send(event.slice(0, 30));
    agent.send(event.slice(30));
    await vi.waitFor(() => expect(source.events).toBe(1));
    expect(source.takeEnded().localPort[0]).toBe(5);
  });

  test('an agent that says nothing is left after 5 s', async () => {
    const [source, agent] = await open({ greeting: NOTHING });
    const dump = source.dump(10_000);
    await vi.waitFor(() => expect(agent.clients.size).toBe(1));
    time.pass(5_000);
    expect(await dump).toBeNull();
    expect(source.failure).toBe('The socket agent sent nothing');
  });

  test('the pause between attempts doubles to one minute', () => {
    source = new AgentStream(agentSocket(path), time);
    const pauses: number[] = [];
    for (let i = 0; i < 8; i++) {
      const [pause = 0] = time.waits;
      pauses.push(pause);
      time.pass(pause);
    }
    expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    expect(source.failure).toBe(`Cannot use socket "${path}": no such file or directory`);
  });

  test('a closed source answers nothing, and does not connect again', async () => {
    const [source, agent] = await open();
    await source.dump(1_000);
    source.close();
    expect(await source.dump(1_000)).toBeNull();
    expect(await source.nsidsOf([10])).toEqual(new Map());
    expect(time.waits).toEqual([]);
    await vi.waitFor(() => expect(agent.clients.size).toBe(0));
  });

  test.each([
    { name: 'a folder of this user', mode: 0o755, expected: null },
    { name: 'a folder that its group may write', mode: 0o775, expected: 'other users may write its folder' },
    { name: 'a folder that all may write', mode: 0o757, expected: 'other users may write its folder' },
  ])('a socket in $name', async ({ mode, expected }) => {
    agent = await FakeAgent.listen(path);
    chmodSync(folder, mode);
    expect(whyNotTrusted(path, process.getuid?.() ?? 0)).toBe(expected);
  });

  test('a socket of another user, and what is not a socket', async () => {
    agent = await FakeAgent.listen(path);
    const own = process.getuid?.() ?? 0;
    if (own !== 0) expect(whyNotTrusted(path, own + 1)).toBe(`it belongs to user ${own}`);
    writeFileSync(join(folder, 'file'), '');
    expect(whyNotTrusted(join(folder, 'file'), own)).toBe('it is not a socket');
  });
});
