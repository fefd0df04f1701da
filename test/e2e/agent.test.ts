import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Agent,
  AgentClient,
  type Command,
  compileAgent,
  IPV4,
  IPV6,
  KINDS,
  messages,
  portsOf,
  request,
  SANITIZER_OPTIONS,
  SANITIZERS,
  whyNoCompiler,
} from '../support/socket-agent.ts';
import { names, ScriptedProcesses } from '../support/sockets/scripted-processes.ts';
import { netnsOf, TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';

const OWNER = 10_043;
const OTHER = 10_044;
const NO_CAPABILITIES = '0000000000000000';
const obstacle = whyNoNamespaces() ?? whyNoCompiler();
if (obstacle !== null) process.stderr.write(`SKIPPED: socket agent: ${obstacle}\n`);

/** Opens and closes as many connections as argv says, one after the other. Prints the port. */
const CHURN = `
import socket, sys
server = socket.create_server(("127.0.0.1", 0), backlog=64)
print(server.getsockname()[1])
for _ in range(int(sys.argv[1])):
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    client.close()
    accepted.recv(1)
    accepted.close()
`;

/** What a client of the fuzz test sends: a request, once or often; one with a wrong byte; a part of one; or any bytes. */
type Good = 'ipv4' | 'ipv6' | 'nsid';
type Piece =
  | { readonly good: Good; readonly times: number }
  | { readonly good: Good; readonly at: number; readonly value: number }
  | { readonly good: Good; readonly end: number }
  | { readonly bytes: Uint8Array };

describe.skipIf(obstacle !== null)('the socket agent', () => {
  const network = new TestNetwork();
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-agent-'));
  const owned = join(folder, 'owned');
  const path = join(owned, 'sockets');
  const pathOfRoot = join(folder, 'sockets');
  const binary = join(folder, 'peerscope-sockets');
  const sanitized = join(folder, 'sanitized');
  /** A host with two pods. */
  let host = 0;
  let pods: number[] = [];

  beforeAll(async () => {
    chmodSync(folder, 0o755);
    mkdirSync(owned);
    chownSync(owned, OWNER, OWNER);
    compileAgent(binary, '-Os', '-static');
    compileAgent(sanitized, ...SANITIZERS);
    host = await network.make();
    pods = [await network.make(), await network.make()];
    network.join(host, ['10.68.0.1/24'], pods[0] ?? 0, ['10.68.0.2/24']);
    network.join(host, ['10.68.1.1/24'], pods[1] ?? 0, ['10.68.1.2/24']);
  });

  afterAll(async () => {
    await network[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const inside = (pid: number): Command => ['nsenter', `--target=${pid}`, '--net'];
  const withCapabilities = (uid: number, ...capabilities: readonly string[]): Command => {
    const only = ['-all', ...capabilities.map((name) => `+${name}`)].join();
    const ids = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
    return ['setpriv', ...ids, `--inh-caps=${only}`, `--ambient-caps=${only}`, `--bounding-set=${only}`];
  };
  /** Ends `count` connections in a namespace; gives the port of the server. */
  const churn = (pid: number, count: number): number =>
    Number(execFileSync('nsenter', [...inside(pid).slice(1), '/usr/bin/python3', '-c', CHURN, String(count)]));

  /** The netlink datagrams that the kernel has dropped in a namespace. */
  const droppedIn = (pid: number): number => {
    const lines = readFileSync(`/proc/${pid}/net/netlink`, 'utf8').trim().split('\n').slice(1);
    return lines.reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[8]), 0);
  };

  /** Takes events until both ends of `count` connections with `port` and the listener have ended, or `lost` make up for them. */
  async function eventsOf(
    client: AgentClient,
    port: number,
    count: number,
  ): Promise<{ nsids: number[]; lost: number }> {
    const nsids: number[] = [];
    let lost = 0;
    while (nsids.length + lost < 2 * count + 1) {
      const frame = await client.next();
      if (frame === null) throw new Error(`the agent closed the connection after ${nsids.length} events`);
      if (frame.kind === KINDS.overrun) lost += frame.payload.readUInt32LE(0);
      if (frame.kind !== KINDS.event) continue;
      const { local, remote } = portsOf(frame);
      if (local === port || remote === port) nsids.push(frame.nsid);
    }
    return { nsids, lost };
  }

  it('says first what it is: version, namespaces, receive buffer', async () => {
    const { agent, client } = Agent.inherit([...inside(host), binary]);
    const hello = await client.next();
    expect(hello).toMatchObject({ kind: KINDS.hello, value: 0, nsid: -1 });
    const { payload } = hello ?? { payload: Buffer.alloc(24) };
    expect(payload).toHaveLength(24);
    expect([payload.readUInt32LE(0), payload.readUInt32LE(4), payload.readUInt32LE(20)]).toEqual([1, 1, 0]);
    expect(Number(payload.readBigUInt64LE(8))).toBe(netnsOf(host));
    expect(payload.readUInt32LE(16)).toBeGreaterThanOrEqual(4 << 20);
    client.close();
    expect(await agent.ended()).toBe(0);
    expect(agent.log).toBe('');
  });

  it('dumps as many sockets as ss shows', async () => {
    const processes = await ScriptedProcesses.start('nsenter', `--target=${host}`, '--net');
    const { agent, client } = Agent.inherit([...inside(host), binary]);
    try {
      for (const address of ['127.0.0.1', '::1']) {
        const [port = 0] = (await processes.act({ do: 'listen', names: [`l${address}`], address })) as number[];
        await processes.act(
          { do: 'connect', names: names(`c${address}`, 300), port, address },
          { do: 'accept', names: names(`s${address}`, 280), listener: `l${address}` },
        );
      }
      for (const [family, flag] of [
        [IPV4, '-4'],
        [IPV6, '-6'],
      ] as const) {
        const seen = network.run(host, `ss -Htan ${flag}`).trim().split('\n').length;
        const datagrams = (await client.dump(family)) ?? [];
        const rows = datagrams.flatMap((datagram) => [...messages(datagram)]).filter(({ type }) => type === 20);
        expect(rows).toHaveLength(seen);
        expect(seen).toBeGreaterThan(580);
      }
    } finally {
      client.close();
      await processes[Symbol.asyncDispose]();
    }
    expect(await agent.ended()).toBe(0);
  });

  it('maps the pid of a process to the nsid that its events have', async () => {
    const { client } = Agent.inherit([...inside(host), binary]);
    try {
      const links = JSON.parse(network.run(host, 'ip -json link')) as { ifname: string; link_netnsid?: number }[];
      const ofLinks = pods.map((pod) => links.find(({ ifname }) => ifname === `to${pod}`)?.link_netnsid);
      const ofAgent = [await client.nsid(pods[0] ?? 0), await client.nsid(pods[1] ?? 0)];
      expect(ofAgent).toEqual(ofLinks);
      for (const [pod, nsid] of pods.map((pid, i) => [pid, ofAgent[i]] as const)) {
        const { nsids, lost } = await eventsOf(client, churn(pod, 200), 200);
        expect([...new Set(nsids)]).toEqual([nsid]);
        expect(lost).toBe(0);
      }
      expect(new Set((await eventsOf(client, churn(host, 20), 20)).nsids)).toEqual(new Set([-1]));
      // No process has this pid: the answer of the kernel is an error.
      expect(await client.nsid(2 ** 31 - 1)).toBeNull();
    } finally {
      client.close();
    }
  });

  const PRIVILEGES = [
    { uid: OWNER, capabilities: ['net_broadcast'], seesPods: true },
    { uid: OWNER, capabilities: [], seesPods: false },
    { uid: OWNER, capabilities: ['net_broadcast', 'net_admin', 'sys_ptrace', 'dac_override'], seesPods: true },
    { uid: 0, capabilities: ['net_broadcast', 'sys_admin'], seesPods: true },
    { uid: 0, capabilities: [], seesPods: false },
  ];
  it.for(PRIVILEGES)('has no capability at work, started by uid $uid with $capabilities', async (given) => {
    const { agent, client } = Agent.inherit([
      ...inside(host),
      ...withCapabilities(given.uid, ...given.capabilities),
      binary,
    ]);
    try {
      expect((await client.next())?.payload.readUInt32LE(4)).toBe(given.seesPods ? 1 : 0);
      for (const set of ['CapEff', 'CapPrm', 'CapInh', 'CapAmb']) expect(agent.status(set)).toBe(NO_CAPABILITIES);
      expect([agent.status('NoNewPrivs'), agent.status('Seccomp')]).toEqual(['1', '2']);
      expect(agent.status('Uid')).toBe([given.uid, given.uid, given.uid, given.uid].join('\t'));
      const [pod = 0] = pods;
      const podPort = churn(pod, 10);
      const hostPort = churn(host, 10);
      if (given.seesPods) expect((await eventsOf(client, podPort, 10)).nsids).not.toContain(-1);
      expect(new Set((await eventsOf(client, hostPort, 10)).nsids)).toEqual(new Set([-1]));
    } finally {
      client.close();
    }
  });

  it('takes a permitted capability from its file, and starts all the same where that is not allowed', async () => {
    const capable = join(folder, 'capable');
    execFileSync('cp', [binary, capable]);
    execFileSync('setcap', ['cap_net_broadcast+p', capable]);
    // As a container runtime does: the capabilities of the container are permitted until the exec, and bound it.
    const container = (set: string, ...more: readonly string[]): Command => [
      'setpriv',
      ...[`--reuid=${OWNER}`, `--regid=${OWNER}`, '--clear-groups', '--inh-caps=-all'],
      ...[`--bounding-set=${set}`, ...more],
    ];
    const cases: [command: Command, sees: number][] = [
      [container('-all,+net_broadcast'), 1],
      [container('-all,+net_broadcast', '--no-new-privs'), 1],
      [container('-all'), 0],
      [container('-all', '--no-new-privs'), 0],
      // From a program that has lost them, such as the exporter.
      [container('-all,+net_broadcast', 'env'), 1],
      [container('-all,+net_broadcast', '--no-new-privs', 'env'), 0],
    ];
    for (const [command, sees] of cases) {
      const { agent, client } = Agent.inherit([...inside(host), ...command, capable]);
      const hello = await client.next();
      expect([command.slice(5), hello?.payload.readUInt32LE(4)]).toEqual([command.slice(5), sees]);
      expect(agent.status('CapPrm')).toBe(NO_CAPABILITIES);
      client.close();
      expect(await agent.ended()).toBe(0);
    }
  });

  it('ends with --all where other namespaces are not available', async () => {
    const { agent } = Agent.inherit([...inside(host), ...withCapabilities(OWNER), binary], '--all');
    expect(await agent.ended()).toBe(1);
    expect(agent.log).toBe('Cannot listen to "--all": Operation not permitted\n');
  });

  it('listens for one user alone, and refuses all others, root among them', async () => {
    const agent = await Agent.listen([...inside(host), binary], path, OWNER);
    try {
      expect(agent.log).toBe(`Listening on ${path}; ended sockets of all namespaces with an nsid\n`);
      const { uid, mode } = statSync(path);
      expect([uid, mode & 0o777]).toEqual([OWNER, 0o600]);
      expect(agent.status('Uid')).toBe([OWNER, OWNER, OWNER, OWNER].join('\t'));
      const script =
        'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(len(s.recv(36)))';
      const asUser = (uid: number) =>
        spawnSync('setpriv', [...withCapabilities(uid).slice(1), '/usr/bin/python3', '-c', script, path], {
          encoding: 'utf8',
        });
      expect(asUser(OWNER).stdout).toBe('36\n');
      expect(asUser(OTHER).stderr).toContain('PermissionError');
      const root = await AgentClient.connect(path);
      expect(await root.next()).toBeNull();
      chmodSync(path, 0o666);
      expect(asUser(OTHER).stdout).toBe('0\n');
    } finally {
      expect(await agent.stop()).toBe(0);
    }
    expect(existsSync(path)).toBe(false);
  });

  it('replaces the socket of an agent that was killed, and nothing else', async () => {
    const start = (): Promise<Agent> => Agent.listen([...inside(host), binary], path, OWNER);
    const killed = await start();
    killed.signal('SIGKILL');
    await killed.ended();
    expect(existsSync(path)).toBe(true);
    const running = await start();
    const second = await start();
    expect(await second.ended()).toBe(1);
    expect(second.log).toBe(`Cannot listen on "${path}": another process uses it\n`);
    expect(await running.stop()).toBe(0);
    writeFileSync(path, 'text');
    const third = await start();
    expect(await third.ended()).toBe(1);
    expect(third.log).toBe(`Cannot listen on "${path}": it exists and is not a socket\n`);
    rmSync(path);
  });

  it.for(['events', 'dumps'])('refuses a second client at once, also while the first takes no %s', async (what) => {
    const agent = await Agent.listen([...inside(host), binary], pathOfRoot, 0);
    try {
      const first = await AgentClient.served(pathOfRoot);
      const refused = async (): Promise<boolean> => (await (await AgentClient.connect(pathOfRoot)).next()) === null;
      expect(await refused()).toBe(true);
      first.socket.pause();
      if (what === 'dumps') first.socket.write(Buffer.concat(Array<Buffer>(8000).fill(request('dump', IPV4, 0))));
      const count = 2500;
      const port = churn(pods[0] ?? 0, count);
      expect(await refused()).toBe(true);
      first.socket.resume();
      // The buffer of 4 MiB holds what the client did not take.
      const { nsids, lost } = await eventsOf(first, port, count);
      expect([nsids.length, lost]).toEqual([2 * count + 1, 0]);
      expect(await refused()).toBe(true);
      first.close();
      (await AgentClient.served(pathOfRoot)).close();
    } finally {
      expect(await agent.stop()).toBe(0);
    }
  });

  const LEFT: [what: string, requests: Buffer[]][] = [
    ['no request', []],
    ['a part of a request', [request('nsid', 0, 1), Buffer.from([1, 2, 0])]],
    ['dumps', Array<Buffer>(50).fill(request('dump', IPV4, 0))],
  ];
  it.for(LEFT)('serves the next client at once, and gives it nothing where the last one left %s', async ([, left]) => {
    const processes = await ScriptedProcesses.start('nsenter', `--target=${host}`, '--net');
    const agent = await Agent.listen([...inside(host), binary], pathOfRoot, 0);
    try {
      const [port = 0] = (await processes.act({ do: 'listen', names: ['l'], address: '127.0.0.1' })) as number[];
      await processes.act({ do: 'connect', names: names('c', 300), port, address: '127.0.0.1' });
      const seen = network.run(host, 'ss -Htan -4 state established').trim().split('\n').length;
      for (const isStopped of [false, true]) {
        const last = await AgentClient.connect(pathOfRoot);
        expect((await last.next())?.kind).toBe(KINDS.hello);
        last.socket.pause();
        if (isStopped) agent.signal('SIGSTOP');
        last.socket.write(Buffer.concat(left));
        last.close();
        const oldPort = churn(host, 1000);
        const next = await AgentClient.connect(pathOfRoot);
        if (isStopped) agent.signal('SIGCONT');
        expect((await next.next())?.kind).toBe(KINDS.hello);
        const newPort = churn(host, 20);
        let [fromBefore, since] = [0, 0];
        while (since < 41) {
          const frame = await next.next();
          expect(frame?.kind).toBe(KINDS.event);
          const { local, remote } = portsOf(frame ?? expect.fail());
          if (local === oldPort || remote === oldPort) fromBefore++;
          if (local === newPort || remote === newPort) since++;
        }
        // The kernel sends events from a work queue: the last ones may come after the connect.
        expect(fromBefore).toBeLessThan(500);
        const rows = ((await next.dump(IPV4)) ?? []).flatMap((datagram) => [...messages(datagram)]);
        expect(rows.filter(({ type, body }) => type === 20 && body[1] === 1)).toHaveLength(seen);
        next.close();
      }
    } finally {
      agent.signal('SIGCONT');
      expect(await agent.stop()).toBe(0);
      await processes[Symbol.asyncDispose]();
    }
  });

  it.for(['agent', 'client'])('reports exactly how many events were lost while the %s did not read', async (who) => {
    // Without CAP_NET_ADMIN the buffer is a small one.
    const { agent, client } = Agent.inherit([...inside(host), ...withCapabilities(OWNER), binary]);
    try {
      const hello = await client.next();
      const count = Math.ceil((hello?.payload.readUInt32LE(16) ?? 0) / 300);
      if (who === 'agent') agent.signal('SIGSTOP');
      else client.socket.pause();
      const port = churn(host, count);
      // The kernel sends events from a work queue, later than the sockets end.
      while (droppedIn(host) < count / 10) await new Promise((resolve) => setImmediate(resolve));
      agent.signal('SIGCONT');
      client.socket.resume();
      const { nsids, lost } = await eventsOf(client, port, count);
      expect(nsids.length + lost).toBe(2 * count + 1);
      expect(lost).toBeGreaterThanOrEqual(Math.floor(count / 10));
      expect((await eventsOf(client, churn(host, 20), 20)).lost).toBe(0);
    } finally {
      client.close();
    }
    expect(await agent.ended()).toBe(0);
  });

  it('answers requests that come in pieces', async () => {
    const { agent, client } = Agent.inherit([...inside(host), binary]);
    await client.next(KINDS.hello);
    for (let split = 0; split < 8; split++) {
      const bytes = request('nsid', 0, pods[0] ?? 0);
      client.socket.write(bytes.subarray(0, split));
      await new Promise((resolve) => setImmediate(resolve));
      client.socket.write(Buffer.concat([bytes.subarray(split), request('nsid', 0, pods[1] ?? 0)]));
      const answers = [await client.next(KINDS.nsid), await client.next(KINDS.nsid)];
      expect(answers.map((frame) => frame?.payload.readUInt32LE(0))).toEqual(pods);
    }
    expect(await client.dump(IPV4)).not.toBeNull();
    client.close();
    expect(await agent.ended()).toBe(0);
  });

  const REFUSED: [what: string, bytes: Buffer][] = [
    ['version 0', Buffer.from([0, 1, 2, 0, 0, 0, 0, 0])],
    ['version 2', Buffer.from([2, 1, 2, 0, 0, 0, 0, 0])],
    ['kind 0', Buffer.from([1, 0, 2, 0, 0, 0, 0, 0])],
    ['kind 3', Buffer.from([1, 3, 2, 0, 0, 0, 0, 0])],
    ['family 0', request('dump', 0, 0)],
    ['family 1', request('dump', 1, 0)],
    ['family 2 + 256', request('dump', 2 + 256, 0)],
  ];
  it.for(REFUSED)('closes a client that sends %s', async ([, bytes]) => {
    const { agent, client } = Agent.inherit([...inside(host), binary]);
    await client.next(KINDS.hello);
    client.socket.write(bytes);
    await client.closed();
    expect(await agent.ended()).toBe(0);
  });

  it('survives any bytes of any client', { timeout: 300_000 }, async () => {
    const agent = await Agent.listen([...inside(host), sanitized], pathOfRoot, 0, SANITIZER_OPTIONS);
    const requests = { ipv4: request('dump', IPV4, 0), ipv6: request('dump', IPV6, 0), nsid: request('nsid', 0, host) };
    const good = fc.constantFrom<Good>('ipv4', 'ipv6', 'nsid');
    const piece = fc.oneof(
      fc.record({ good, times: fc.oneof(fc.constant(1), fc.nat(2000)) }),
      fc.record({ good, at: fc.nat(7), value: fc.nat(255) }),
      fc.record({ good, end: fc.nat(7) }),
      fc.record({ bytes: fc.uint8Array({ maxLength: 40 }) }),
    );
    const bytesOf = (given: Piece): Uint8Array => {
      if ('bytes' in given) return given.bytes;
      const bytes = Buffer.from(requests[given.good]);
      if ('end' in given) return bytes.subarray(0, given.end);
      if ('at' in given) bytes[given.at] = given.value;
      return Buffer.concat(Array<Buffer>('times' in given ? given.times : 1).fill(bytes));
    };
    const end = fc.constantFrom('destroy', 'end', 'stay');
    const talk = fc.record({ pieces: fc.array(piece, { maxLength: 6 }), end, reads: fc.boolean() });
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(talk, { minLength: 1, maxLength: 8 }), async (talks) => {
          for (const { pieces, end: how, reads } of talks) {
            const client = await AgentClient.served(pathOfRoot);
            if (!reads) client.socket.pause();
            for (const given of pieces) client.socket.write(bytesOf(given));
            if (how === 'end') client.socket.end();
            if (how === 'stay') (await AgentClient.connect(pathOfRoot)).close();
            client.close();
          }
          const client = await AgentClient.served(pathOfRoot);
          expect(await client.dump(IPV4)).not.toBeNull();
          client.close();
          expect(agent.log).not.toContain('ERROR');
        }),
        { numRuns: 300 },
      );
    } finally {
      expect(await agent.stop()).toBe(0);
    }
    expect(agent.log).not.toMatch(/ERROR|runtime error/);
  });

  const ARGUMENTS: [args: string[], said: string][] = [
    ...[
      [],
      ['--listen', '/run/x'],
      ['--fd', '3', '--uid', '1'],
      ['--fd'],
      ['--listen'],
      ['--port', '1'],
      ['--all'],
    ].map((args): [string[], string] => [args, 'Cannot use "the arguments": see --help\n']),
    ...['-1', '', '3x', ' 3', '+3', '4294967296', '99999999999999999999'].flatMap((value): [string[], string][] => [
      [['--fd', value], 'Cannot use "--fd": it needs a number\n'],
      [['--listen', '/x', '--uid', value], 'Cannot use "--uid": it needs a number\n'],
    ]),
    [['--fd', '99'], 'Cannot use "--fd": Bad file descriptor\n'],
    [['--listen', 'x', '--uid', '0'], 'Cannot listen on "x": the path must start with / and have at most 107 bytes\n'],
    [['--listen', '', '--uid', '0'], 'Cannot listen on "": the path must start with / and have at most 107 bytes\n'],
    [['--listen', '/no/such', '--uid', '0'], 'Cannot listen on "/no/such": No such file or directory\n'],
  ];
  it.for(ARGUMENTS)('refuses the arguments %j', ([args, said]) => {
    const { status, stderr } = spawnSync(binary, args, { encoding: 'utf8' });
    expect([status, stderr]).toEqual([1, said]);
  });

  it('describes itself', () => {
    expect(execFileSync(binary, ['--version'], { encoding: 'utf8' })).toBe('peerscope-sockets, protocol 1\n');
    expect(execFileSync(binary, ['--help'], { encoding: 'utf8' })).toContain(
      'peerscope-sockets --listen PATH --uid UID',
    );
  });

  describe.skipIf(spawnSync('strace', ['--version']).error !== undefined)('where system calls fail', () => {
    const traced = (program: string, ...faults: readonly string[]): Command => [
      'env',
      ...Object.entries(SANITIZER_OPTIONS).map(([name, value]) => `${name}=${value}`),
      'strace',
      ...['--quiet=all', `--output=${folder}/trace`],
      ...faults.map((fault) => `--inject=${fault}`),
      program,
    ];

    it('ends if the kernel has no socket diagnostics', async () => {
      const { agent } = Agent.inherit(traced(binary, 'socket:error=EPROTONOSUPPORT'));
      expect(await agent.ended()).toBe(1);
      expect(agent.log).toBe('Cannot open "netlink": Protocol not supported\n');
    });

    it('answers each request that the kernel refuses with the error', async () => {
      // Without the filter of system calls, which kills for an injected error. Each second message goes to the client.
      const { agent, client } = Agent.inherit(traced(sanitized, 'sendto:error=EPERM:when=2+2'));
      await client.next(KINDS.hello);
      for (const [bytes, kind, subject] of [
        [request('dump', IPV6, 0), 1, IPV6],
        [request('nsid', 0, 77), 2, 77],
      ] as const) {
        client.socket.write(bytes);
        const failed = await client.next();
        expect(failed).toMatchObject({ kind: KINDS.failed, value: kind, nsid: -1 });
        expect([failed?.payload.readInt32LE(0), failed?.payload.readUInt32LE(4)]).toEqual([1, subject]);
      }
      client.close();
      expect(await agent.ended()).toBe(0);
    });
  });
});
