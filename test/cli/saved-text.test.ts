import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { runHere, type Outcome } from '../support/main.ts';

const fixture = (name: string): string => new URL(`../fixtures/${name}`, import.meta.url).pathname;
const SS = fixture('text/ss-tunap.out');
const WINDOWS = fixture('text-other/windows-10-netstat-anob.out');

const run = (args: readonly string[], input = ''): Promise<Outcome> => runHere(args, input, { PATH: '/nowhere' });

const GREEN = 'tcp 0 0 192.0.2.5:40000 198.51.100.7:443 ESTABLISHED 7/curl\n';

describe('top and endpoints with --from', () => {
  it('group the connections of a file or of standard input', async () => {
    const expected = await run(['endpoints', '--from', SS]);
    expect(expected).toMatchObject({ code: 0, stderr: '' });
    expect(expected.stdout).toMatch(/^Distant inbound: 0 connections\n/);
    expect(expected.stdout).toMatch(/\nLooping: 8 connections, 7 duplicates\n {2}tcp {2}127\.0\.0\.1 /);
    expect(expected.stdout).toContain(`read from ${SS}, without namespaces and containers\n`);
    const piped = await run(['endpoints', '--from', '-'], readFileSync(SS, 'utf8'));
    expect(piped.stdout).toBe(expected.stdout.replace(SS, 'standard input'));
  });

  it('have the directions of listeners in any dialect', async () => {
    const { stdout } = await run(['endpoints', '--from', WINDOWS, '-o', 'jsonl']);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { direction: string; connections: number });
    expect(new Set(lines.map(({ direction }) => direction))).toEqual(new Set(['inbound', 'outbound', 'loopback']));
    const top = (await run(['top', '--from', WINDOWS, '--limit', '1', '-o', 'jsonl'])).stdout.split('\n')[0] ?? '{}';
    expect(JSON.parse(top)).toMatchObject({ process: expect.any(String) as string, sent_bytes: null });
  });

  it('say how many rows have no process in the text', async () => {
    const { stdout } = await run(
      ['top', '--from', '-'],
      `${GREEN}${GREEN.replace('7/curl', '-').replace('40000', '40001')}`,
    );
    expect(stdout).toContain('2 sockets, 1 without a process in the text, read from standard input,');
    expect(stdout).toMatch(/^curl {2}1 connection: 1 established\n/);
  });

  it('keep the names and bytes that a text has', async () => {
    const text =
      'tcp ESTAB 0 0 web1:40000 mx.example:smtp users:(("exim",pid=3,fd=1)) cubic rto:1 bytes_sent:2048 bytes_received:5\n';
    const { stdout } = await run(['top', '--from', '-', '-o', 'json'], text);
    const [exim] = JSON.parse(stdout) as [{ rows: object[] }];
    expect(exim).toMatchObject({ process: 'exim', sent_bytes: 2048, received_bytes: 5, sent_bytes_per_second: null });
    expect(exim.rows).toMatchObject([
      {
        direction: 'outbound',
        local_name: 'web1',
        remote_name: 'mx.example',
        remote_port: 25,
        network: null,
        asn: null,
      },
    ]);
  });

  it('take the transport from --transport', async () => {
    const text =
      'State Recv-Q Send-Q Local Address:Port Peer Address:Port\nESTAB 0 0 192.0.2.5:40000 198.51.100.7:53\n';
    const transportOf = async (...args: string[]): Promise<unknown> =>
      (
        JSON.parse((await run(['endpoints', '--from', '-', '-o', 'json', ...args], text)).stdout) as [
          { transport: string },
        ]
      )[0].transport;
    expect([await transportOf(), await transportOf('--transport=udp')]).toEqual([null, 'udp']);
    expect((await run(['parse', '--transport=udp', '-o', 'jsonl'], text)).stdout).toMatch(/^\{"transport":"udp"/);
    expect((await run(['parse', '--transport=ip'], text)).code).toBe(2);
  });

  it.each<[args: readonly string[], input: string, code: number, stderr: string | RegExp]>([
    [['top', '--from', '/nowhere/a'], '', 1, 'Cannot read "/nowhere/a": '],
    [
      ['top', '--from', '-'],
      'dear diary\n',
      1,
      'Cannot parse "standard input": it is not output of ss, netstat or a similar tool\n',
    ],
    [['watch', 'top', '--from', '-'], '', 2, "unknown option '--from'"],
  ])('refuse %j', async (args, input, code, stderr) => {
    const result = await run(args, input);
    expect(result.code).toBe(code);
    expect(result.stderr).toContain(stderr);
  });
});
