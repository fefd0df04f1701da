import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { parseConfig } from '../../src/config/config.ts';
import type { Cidr, Row, Rules } from '../../src/model.ts';
import { parseCidr } from '../../src/common/address.ts';
import type { AsnProviderName } from '../../src/common/asn-providers.ts';
import { decodePolicy, encodePolicy, QUERY_POLICY_KEY } from '../../src/enrich/asn/query-policy.ts';
import { SqliteStore } from '../../src/store/sqlite.ts';
import { LiveScan, type LiveScanOptions } from '../../src/cli/live-scan.ts';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { startCymruServer } from '../support/cymru-server.ts';
import { runHere } from '../support/main.ts';
import { printRow } from '../support/kernel-rows.ts';
import { Tree } from '../support/proc-tree.ts';

vi.setConfig({ testTimeout: 60_000 });

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const TREES = fileURLToPath(new URL('../fixtures/proc', import.meta.url));
const tree = (scenario: string): string => `--path.procfs=${join(TREES, scenario)}`;
const PLAIN = [tree('plain-host'), '--asn.provider=none'];
const folder = mkdtempSync(join(tmpdir(), 'peerscope-view-'));
afterAll(() => rmSync(folder, { recursive: true }));

const rowsOf = async (...args: string[]): Promise<Row[]> => {
  const { stdout } = await runHere(['list', '-o', 'json', ...PLAIN, ...args]);
  return JSON.parse(stdout) as Row[];
};

describe('the coverage line', () => {
  const runOn = async (edit: (copy: Tree) => void, ...args: string[]): Promise<{ stdout: string; stderr: string }> => {
    using copy = new Tree('plain-host');
    edit(copy);
    return await runHere([...args, `--path.procfs=${copy.root}`, '--asn.provider=none']);
  };
  const spoil = (copy: Tree): void => {
    copy.edit(25739, 'net/tcp', /$/, `${'\0'.repeat(149)}\n  90: 050200C0:9C45 01010101:01BB 01\n`);
    copy.edit(25739, 'net/udp', /$/, 'unreadable\n');
  };

  it.each([
    { args: ['list'], stream: 'stdout' },
    { args: ['list', '-o', 'json'], stream: 'stderr' },
    { args: ['top'], stream: 'stdout' },
    { args: ['endpoints'], stream: 'stdout' },
    { args: ['watch', '-i', '0.1', '-c', '2', 'top'], stream: 'stdout' },
    { args: ['events', '-i', '0.1', '-c', '1'], stream: 'stderr' },
  ] as const)('of $args counts malformed lines of each scan', async ({ args, stream }) => {
    const { [stream]: text } = await runOn(spoil, ...args);
    expect(new Set(text.match(/\d+ lines? could not be parsed/g))).toEqual(new Set(['3 lines could not be parsed']));
  });

  it('says that a socket without a process is not held by any, after a second look', async () => {
    const { stdout, stderr } = await runOn(
      (copy) =>
        copy.edit(
          25739,
          'net/tcp',
          /$/,
          printRow({ table: 'tcp', state: 10, local: '0.0.0.0:2049', inode: 4_000_000 }),
        ),
      'list',
      '-o',
      'json',
    );
    const rows = JSON.parse(stdout) as Row[];
    expect(rows.find((row) => row.local_port === 2049)?.unattributed_reason).toBe('no_descriptor');
    expect(rows.map((row) => row.unattributed_reason)).not.toContain('vanished');
    expect(stderr).toContain('not held by any process');
  });
});

describe('list', () => {
  it.each<[args: string[], is: (row: Row) => boolean]>([
    [['-t'], ({ transport }) => transport === 'tcp'],
    [['-u'], ({ transport }) => transport === 'udp'],
    [['-tu'], ({ transport }) => transport === 'tcp' || transport === 'udp'],
    [['-l'], ({ direction }) => direction === 'listen'],
    [['-4'], ({ family }) => family === 4],
    [['-6'], ({ family }) => family === 6],
    [['-46'], () => true],
    [['-tunap'], ({ transport }) => transport === 'tcp' || transport === 'udp'],
    [['-tulpn'], ({ direction }) => direction === 'listen'],
    [
      ['-tl4', 'process=nginx'],
      (row) => row.transport === 'tcp' && row.direction === 'listen' && row.family === 4 && row.process === 'nginx',
    ],
  ])('%j lists only matching connections', async (args, is) => {
    const all = await rowsOf(...(args.some((arg) => /^-\w*n/.test(arg)) ? ['-n'] : []));
    const chosen = await rowsOf(...args);
    expect(chosen).toEqual(all.filter(is));
    expect(chosen.length).toBeGreaterThan(0);
  });

  it('shows owners even if the exporter does not publish them', async () => {
    const { stdout } = await runHere(['list', '-o', 'json', ...PLAIN], '', { PEERSCOPE_COLLECTOR_PROCESSES: 'false' });
    expect(JSON.parse(stdout)).toEqual(await rowsOf());
  });

  it('shows no service names with -n', async () => {
    const { stdout } = await runHere(['list', '-n', ...PLAIN]);
    expect(stdout.split('\n')[0]).not.toContain('SERVICE');
    expect((await rowsOf('-n')).filter(({ service }) => service !== null)).toEqual([]);
  });

  it.each([
    ['remote', ['remote_address', 'remote_port'], 'REMOTE'],
    ['peer', ['as_name', 'asn', 'network', 'remote_name'], 'PEER'],
    ['RECV-Q', ['receive_queue'], 'RECV-Q'],
    ['round trip,State', ['round_trip_seconds', 'state'], 'ROUND TRIP  STATE'],
    ['process', ['process'], 'PROCESS'],
  ])('takes the headings %s as fields and as sort order', async (headings, keys, title) => {
    const print = async (output: string): Promise<string> =>
      (await runHere(['list', '--fields', headings, '--sort', headings, '-o', output, ...PLAIN])).stdout;
    const rows = JSON.parse(await print('json')) as Record<string, unknown>[];
    expect(Object.keys(rows[0] ?? {})).toEqual(keys);
    expect((await print('csv')).split('\n')[0]).toBe(keys.join(','));
    expect((await print('table')).split('\n')[0]).toBe(title);
  });

  it('prints the selected fields in the selected order in every format', async () => {
    const args = [
      'list',
      '--fields',
      'process,local_port',
      '--sort',
      'local_port:desc,process',
      'state=listen',
      ...PLAIN,
    ];
    const print = async (output: string): Promise<string> => (await runHere([...args, '-o', output])).stdout;
    const expected = [
      ['orders.py', 8080],
      ['postgres', 5432],
      ['nginx', 443],
      ['systemd-resolved', 53],
      ['sshd', 22],
      ['sshd', 22],
    ];
    expect(JSON.parse(await print('json'))).toEqual(expected.map(([process, local_port]) => ({ process, local_port })));
    const lines = expected.map(([process, local_port]) => `${JSON.stringify({ process, local_port })}\n`);
    expect(await print('jsonl')).toBe(lines.join(''));
    expect(await print('csv')).toBe(['process,local_port', ...expected.map((pair) => pair.join(',')), ''].join('\n'));
    const table = (await print('table')).split('\n').map((line) => line.split(/ {2,}/));
    expect(table.slice(0, 3)).toEqual([
      ['PROCESS', 'LOCAL_PORT'],
      ['orders.py', '8080'],
      ['postgres', '5432'],
    ]);
  });
});

describe('machine-readable output', () => {
  it('of top is the ranking with states and processes', async () => {
    const { stdout, stderr } = await runHere(['top', '--limit', '1', '-o', 'json', ...PLAIN]);
    expect(JSON.parse(stdout)).toEqual([
      expect.objectContaining({
        process: 'orders.py',
        connections: 6,
        states: { established: 5, syn_sent: 1 },
        processes: [expect.objectContaining({ pid: 25757, process_state: 'S', threads: 1, umask: '0022' })],
      }),
    ]);
    expect(stderr).toBe('22 sockets, all attributed to a process\n');
  });

  it('of endpoints has the entries of the table, with a loopback pair once', async () => {
    const { stdout } = await runHere(['endpoints', '-n', '-o', 'jsonl', 'direction=loopback', ...PLAIN]);
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([
      expect.objectContaining({
        direction: 'loopback',
        local_address: '127.0.0.1',
        local_port: null,
        remote_address: '127.0.0.1',
        remote_port: 5432,
        connections: 2,
        states: { established: 2 },
        owners: [{ process: 'postgres', pid: 25746, pod: null }],
      }),
    ]);
  });

  it('of endpoints counts the remaining end of a pair when a filter drops the other', async () => {
    const { stdout } = await runHere(['endpoints', '-n', 'process=orders.py', 'direction=loopback', ...PLAIN]);
    expect(stdout).toContain('Looping: 2 connections, 0 duplicates\n  tcp  127.0.0.1  ->  127.0.0.1:5432  2');
  });

  it('of watch has the time of each scan', async () => {
    const watch = (...args: string[]): Promise<{ stdout: string }> =>
      runHere(['watch', '-c', '2', '-i', '0.05', ...args, ...PLAIN]);
    const lines = (await watch('list', '-o', 'jsonl', 'process=curl')).stdout.trimEnd().split('\n');
    const scans = lines.map((line) => JSON.parse(line) as Row & { at: string });
    expect(scans.map(({ process, at }) => [process, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(at)])).toEqual([
      ['curl', true],
      ['curl', true],
    ]);
    expect(new Set(scans.map(({ at }) => at)).size).toBe(2);
    const csv = (await watch('list', '-o', 'csv', '--fields', 'process', 'process=curl')).stdout;
    expect(csv).toMatch(/^at,process\n(?:[\d:.TZ-]+,curl\n){2}$/);
    expect(
      (await watch('endpoints', '-n', 'process=curl')).stdout.match(/^[\d:.TZ-]+\nDistant inbound: 0 connections$/gm),
    ).toHaveLength(2);
  });
});

describe('a live scan', () => {
  const cidr = (text: string): Cidr => parseCidr(text) ?? expect.fail(text);
  it('queries the provider only if allowed, waits for the answer and stores it', async () => {
    const server = await startCymruServer([
      '13335 | 1.1.1.0 | 1.1.1.0/24 | US | arin | 2010-07-14 | CLOUDFLARENET, US',
    ]);
    const flags = {
      'path.procfs': join(TREES, 'plain-host'),
      'asn.server': `${server.host}:${server.port}`,
      'storage.path': folder,
    };
    const scanOnce = async (ask: LiveScanOptions['ask']): Promise<(number | null)[]> => {
      const liveScan = await LiveScan.open(parseConfig(flags, {}, false), {
        ...{
          names: 'none',
          ask,
          waitsForAnswers: true,
          clock: SYSTEM_CLOCK,
          random: () => 0,
          report: () => undefined,
        },
      });
      const { rows } = await liveScan.scan();
      await liveScan.close();
      return rows.filter((row) => row.remote_address === '1.1.1.1').map(({ asn }) => asn);
    };
    try {
      expect(await scanOnce('never')).toEqual([null, null, null]);
      expect(await scanOnce('auto')).toEqual([13335, 13335, 13335]);
    } finally {
      await server.close();
    }
    expect(await scanOnce('never')).toEqual([13335, 13335, 13335]);
  });

  it.each<{ title: string; file: Partial<Rules>; provider: AsnProviderName; auto: number; always: number }>([
    { title: 'queries its provider', file: {}, provider: 'cymru-dns', auto: 1, always: 1 },
    { title: 'queries no provider', file: {}, provider: 'none', auto: 0, always: 1 },
    { title: 'has a local database', file: {}, provider: 'mmdb', auto: 0, always: 1 },
    { title: 'never sends it', file: { asnNeverSend: [cidr('1.1.0.0/16')] }, provider: 'cymru', auto: 0, always: 0 },
    {
      title: 'has a name for it',
      file: { networks: [{ name: 'office', cidrs: [cidr('1.1.1.1')] }] },
      ...{ provider: 'cymru', auto: 0, always: 0 },
    },
  ])('sends a network $always and $auto times if the exporter on this host $title', async (trial) => {
    const text = encodePolicy(trial.provider, { asnNeverSend: [], networks: [], ...trial.file });
    const sent = async (ask: LiveScanOptions['ask']): Promise<number> => {
      const directory = mkdtempSync(join(tmpdir(), 'peerscope-policy-'));
      const store = SqliteStore.open({ directory, now: Date.now, report: (line) => expect.fail(line) });
      await store.write([{ key: QUERY_POLICY_KEY, text, keepUntil: Date.now() + 60_000 }]);
      await store.close();
      const server = await startCymruServer([]);
      const flags = {
        'path.procfs': join(TREES, 'plain-host'),
        'asn.server': `${server.host}:${server.port}`,
        'storage.path': directory,
      };
      const options = { names: 'none', ask, waitsForAnswers: true, clock: SYSTEM_CLOCK, random: () => 0 } as const;
      const liveScan = await LiveScan.open(parseConfig(flags, {}, false), { ...options, report: () => undefined });
      await liveScan.scan().finally(() => liveScan.close());
      await server.close();
      rmSync(directory, { recursive: true });
      return server.asked.filter((line) => line.startsWith('1.1.1.')).length;
    };
    expect(await sent('auto')).toBe(trial.auto);
    expect(await sent('always')).toBe(trial.always);
  });

  it.each(['', '[]', '{"queries":true}', '{"queries":true,"neverSend":["x"]}', '{"queries":true,"neverSend":[1]}'])(
    'takes %j of another version as a policy that sends nothing',
    (text) => expect(decodePolicy(text).queries).toBe(false),
  );
});

describe('invalid input has a clear outcome', () => {
  const file = join(folder, 'file');
  writeFileSync(file, '');
  const KEYS = 'a heading of the table or one of transport, family, local_address,';
  it.each<[what: string, args: string[], code: number, line: string]>([
    [
      'an unknown field',
      ['list', '--fields', 'pid,nonsense'],
      2,
      `Cannot use --fields "pid,nonsense": "nonsense" must be ${KEYS}`,
    ],
    [
      'an unknown sort field',
      ['list', '--sort', 'nonsense'],
      2,
      `Cannot use --sort "nonsense": "nonsense" must be ${KEYS}`,
    ],
    ['an unknown filter', ['top', 'nonsense=1'], 2, 'Cannot use filter "nonsense=1": must be a word, KEY=VALUE'],
    [
      'an unknown filter value',
      ['endpoints', 'state=open'],
      2,
      'Cannot use filter "state=open": state must be established',
    ],
    ['a comparison that is not a filter', ['watch', 'port>80'], 2, 'Cannot use filter "port>80": must be a word'],
    [
      'an unknown format',
      ['list', '-o', 'xml'],
      2,
      "option '-o, --output <format>' argument 'xml' is invalid. Allowed choices are table, wide, json, jsonl, csv.",
    ],
    [
      'a format that watch does not have',
      ['watch', 'list', '-o', 'json'],
      2,
      "argument 'json' is invalid. Allowed choices are table, wide, jsonl, csv.",
    ],
    [
      'an unknown grouping',
      ['top', '--by', 'pid'],
      2,
      "argument 'pid' is invalid. Allowed choices are process, asn, workload, endpoint.",
    ],
    ...['3', '0', '1.5'].map((number): [string, string[], number, string] => [
      `a number of entries after -n: ${number}`,
      ['top', '-n', number],
      2,
      `Cannot use -n ${number}: use --limit ${number}, because -n shows no names`,
    ]),
    ['zero entries', ['top', '--limit', '0'], 2, 'Cannot use --limit "0": must be a whole number of at least 1'],
    [
      'an unknown color setting',
      ['list', '--color', 'blue'],
      2,
      "argument 'blue' is invalid. Allowed choices are auto, always, never.",
    ],
    [
      'a fractional number of entries',
      ['top', '--limit', '1.5'],
      2,
      'Cannot use --limit "1.5": must be a whole number of at least 1',
    ],
    [
      'an interval of zero',
      ['watch', 'top', '-i', '0'],
      2,
      'Cannot use --interval "0": must be a number of seconds from 0.01',
    ],
    ['an interval with a unit', ['watch', '-i', '1s'], 2, 'Cannot use --interval "1s": must be a number of seconds'],
    [
      'zero scans',
      ['watch', 'endpoints', '-c', '0'],
      2,
      'Cannot use --count "0": must be a whole number of at least 1',
    ],
    ['an empty list of fields', ['list', '--fields', ''], 2, `Cannot use --fields "": "" must be ${KEYS}`],
    ['an unknown source', ['list', '--source', 'lsof'], 2, 'Cannot use --source "lsof": must be procfs, ss or netstat'],
    ['an unknown command', ['lisst'], 2, "unknown command 'lisst' (Did you mean list?)"],
    [
      'a negative interval',
      ['watch', 'list', '-i', '-1'],
      2,
      'Cannot use --interval "-1": must be a number of seconds',
    ],
    [
      'a count that is not a number',
      ['watch', 'list', '-c', 'x'],
      2,
      'Cannot use --count "x": must be a whole number of at least 1',
    ],
    ['--resolve with --numeric', ['list', '-nr'], 2, 'Cannot use --resolve with --numeric: they exclude each other'],
    ['a file instead of /proc', ['list', `--path.procfs=${file}`], 1, `Cannot read procfs "${file}"`],
    [
      'a missing file',
      ['parse', join(folder, 'absent')],
      1,
      `Cannot read "${join(folder, 'absent')}": no such file or directory`,
    ],
  ])('%s', async (_what, args, code, line) => {
    const outcome = await runHere([...args, '--asn.provider=none']);
    expect({ code: outcome.code, stdout: outcome.stdout }).toEqual({ code, stdout: '' });
    expect(outcome.stderr).toContain(line);
    expect(outcome.stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it.each(['list', 'top', 'endpoints', 'watch list', 'watch top', 'watch endpoints', 'events', 'parse'])(
    'an invalid filter and an unknown option of %s',
    async (command) => {
      const run = (...args: string[]): ReturnType<typeof runHere> =>
        runHere([...command.split(' '), ...args, ...PLAIN]);
      const rejection = (stderr: string): object => ({ code: 2, stdout: '', stderr });
      expect(await run('port=0x50')).toEqual(
        rejection('Cannot use filter "port=0x50": port must be a port from 0 to 65535\n'),
      );
      expect(await run('--nope')).toEqual(rejection("Cannot read the command line: unknown option '--nope'\n"));
    },
  );

  it
    .skipIf(!existsSync('/dev/full'))
    .each(['list', 'list -o json', 'top', 'endpoints -n', 'watch list', 'events --snapshot'])(
    'a full disk under %s',
    (command) => {
      const line = `'${process.execPath}' '${MAIN}' ${command} ${PLAIN.join(' ')} >/dev/full`;
      const { status, stderr } = spawnSync('sh', ['-c', line], { encoding: 'utf8', timeout: 30_000 });
      expect(status).toBe(1);
      expect(stderr).toMatch(/^Cannot write to standard output: no space left on device$/m);
    },
  );

  it.each(['list', 'top', 'endpoints'])('no connections in %s', async (command) => {
    const { code, stdout } = await runHere([command, tree('empty'), '--asn.provider=none']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^0 sockets$/m);
    expect((await runHere([command, '-o', 'json', tree('empty'), '--asn.provider=none'])).stdout).toBe('[\n]\n');
  });

  it.each(['list', 'top', 'endpoints -n', 'watch list', 'watch -o jsonl list'])(
    'a closed output pipe of %s',
    (command) => {
      const line = `'${process.execPath}' '${MAIN}' ${command} ${PLAIN.join(' ')} | head -n 1; echo "\${PIPESTATUS[0]}"`;
      const run = spawnSync('bash', ['-c', line], { encoding: 'utf8', timeout: 30_000 });
      expect(run.stderr.replace(/^.*sockets, .*\n/, '')).toBe('');
      expect(run.stdout.trimEnd().split('\n').at(-1)).toBe('0');
    },
  );

  it('SIGINT to watch on a pipe', async () => {
    const child = spawn(process.execPath, [MAIN, 'watch', 'list', '-o', 'jsonl', ...PLAIN], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    child.stdout.resume();
    child.kill('SIGINT');
    const [code] = (await once(child, 'exit')) as [number | null];
    expect(code).toBe(0);
  });
});
