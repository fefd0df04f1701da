import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Row } from '../../src/model.ts';
import { netnsOf, TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';

const MAIN = new URL('../../src/main.ts', import.meta.url).pathname;
/**
 * Opens connections from one namespace to another, each by [client port or 0, server port, server address], and closes the listeners.
 * It prints one line when all are open, and ends with its standard input.
 */
const SCRIPT = `
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def enter(pid):
    with open(f'/proc/{pid}/ns/net') as file:
        if libc.setns(file.fileno(), 0x40000000): raise OSError(ctypes.get_errno(), 'setns')
def open_socket():
    s = socket.socket()
    s.settimeout(10)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return s
client, server, connections = json.loads(sys.argv[1])
kept = []
for client_port, server_port, address in connections:
    enter(server)
    listener = open_socket()
    listener.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
    listener.bind(('0.0.0.0', server_port))
    listener.listen()
    enter(client)
    s = open_socket()
    s.bind(('192.0.2.1', client_port))
    s.connect((address, server_port))
    kept += [s, listener.accept()[0]]
    listener.close()
print('open', flush=True)
sys.stdin.read()
`;

const CONNECTIONS: readonly {
  readonly name: string;
  readonly client: number;
  readonly server: number;
  readonly address?: string;
  readonly isGuess?: boolean;
}[] = [
  { name: 'NFS', client: 845, server: 2049 },
  { name: 'GlusterFS', client: 1021, server: 24_007, isGuess: true },
  { name: 'a GlusterFS brick', client: 1019, server: 49_152, isGuess: true },
  { name: 'rsh', client: 1022, server: 514 },
  { name: 'active FTP', client: 20, server: 51_234 },
  { name: 'passive FTP', client: 41_000, server: 21_050 },
  { name: 'a drained server', client: 41_001, server: 9000 },
  { name: 'a transparent proxy', client: 42_001, server: 50_013, address: '203.0.113.9' },
];

describe('the direction of connections whose listener is gone', () => {
  const obstacle = whyNoNamespaces();
  const network = new TestNetwork();
  let client = 0;
  let server = 0;
  let opener: ChildProcess | null = null;

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: directions: ${obstacle}\n`);
      return;
    }
    client = await network.make();
    // A route of policy routing delivers the packets, and makes no address an own one.
    server = await network.make('ip rule add pref 100 lookup 100; ip route add local 203.0.113.0/24 dev lo table 100');
    network.join(client, ['192.0.2.1/24'], server, ['192.0.2.2/24']);
    network.run(client, 'ip route add default via 192.0.2.2');
    const ports = CONNECTIONS.map(({ client, server, address = '192.0.2.2' }) => [client, server, address]);
    const args = ['-c', SCRIPT, JSON.stringify([client, server, [...ports, [50_012, 41_500, '192.0.2.2']]])];
    opener = spawn('/usr/bin/python3', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    if (opener.stdout) await Promise.race([once(opener.stdout, 'data'), once(opener, 'exit')]);
  });

  afterAll(async () => {
    opener?.stdin?.end();
    if (opener?.exitCode === null) await once(opener, 'exit');
    await network[Symbol.asyncDispose]();
  });

  function list(...before: readonly string[]): Row[] {
    const [program, ...args] = [...before, process.execPath, MAIN];
    const output = execFileSync(program, [...args, 'list', '-n', '-o', 'json', '--asn.provider=none'], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return (JSON.parse(output) as Row[]).filter(({ netns }) => netns === netnsOf(client) || netns === netnsOf(server));
  }

  /** The direction of a connection at one end, by its ports. */
  function at(rows: readonly Row[], local: number, remote: number): (string | null)[] {
    const row = rows.find(({ local_port, remote_port }) => local_port === local && remote_port === remote);
    return [row?.direction ?? null, row?.direction_evidence ?? null];
  }

  it('is right at both ends, or a guess that is said to be one', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const rows = list();
    const ends = CONNECTIONS.map(({ name, client, server, address }) => ({
      name,
      client: at(rows, client, server),
      // Two ephemeral ports prove nothing, the foreign address does.
      server: at(rows, server, client),
      ...(address === undefined ? {} : { client: ['outbound', 'port'] }),
    }));
    expect(ends).toEqual(
      CONNECTIONS.map(({ name, isGuess, address }) => ({
        name,
        client: ['outbound', isGuess || address !== undefined ? 'port' : null],
        server: ['inbound', isGuess ? 'port' : null],
      })),
    );
    expect(at(rows, 50_012, 41_500)).toEqual(['outbound', 'port']);
    const connections = rows.filter(({ remote_port }) => remote_port !== null);
    const guesses = connections.filter(({ direction_evidence: evidence }) => evidence === 'port');
    process.stderr.write(`directions: ${guesses.length} of ${connections.length} are guesses\n`);
    expect(guesses).toHaveLength(7);
  });

  it('follows the ephemeral ports of the own namespace', ({ skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    network.run(client, 'echo 45000 60999 >/proc/sys/net/ipv4/ip_local_port_range');
    const rows = list('nsenter', `--target=${client}`, '--net');
    expect(at(rows, 50_012, 41_500)).toEqual(['outbound', null]);
  });
});
