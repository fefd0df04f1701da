import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { parseConfig } from '../../src/config/config.ts';
import type { Row } from '../../src/model.ts';
import { LiveScan } from '../../src/cli/live-scan.ts';
import { SYSTEM_CLOCK } from '../../src/common/clock.ts';
import { startCymruServer } from '../support/cymru-server.ts';
import { runMain } from '../support/exporter.ts';

vi.setConfig({ testTimeout: 60_000 });

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const TREES = fileURLToPath(new URL('../fixtures/proc', import.meta.url));
const tree = (scenario: string): string => `--path.procfs=${join(TREES, scenario)}`;
const PLAIN = [tree('plain-host'), '--asn.provider=none'];
const folder = mkdtempSync(join(tmpdir(), 'peerscope-look-'));
afterAll(() => rmSync(folder, { recursive: true }));

const rowsOf = async (...args: string[]): Promise<Row[]> => {
  const { stdout } = await runMain(['list', '-o', 'json', ...PLAIN, ...args]);
  return JSON.parse(stdout) as Row[];
};

describe('list', () => {
  it.each<[args: string[], is: (row: Row) => boolean]>([
    [['-t'], ({ transport }) => transport === 'tcp'],
    [['-u'], ({ transport }) => transport === 'udp'],
    [['-tu'], ({ transport }) => transport === 'tcp' || transport === 'udp'],
    [['-l'], ({ direction }) => direction === 'listen'],
    [['-4'], ({ family }) => family === 4],
    [['-6'], ({ family }) => family === 6],
    [['-46'], () => true],
    [
      ['-tl4', 'process=nginx'],
      (row) => row.transport === 'tcp' && row.direction === 'listen' && row.family === 4 && row.process === 'nginx',
    ],
  ])('%j lists those and no others', async (args, is) => {
    const all = await rowsOf();
    const chosen = await rowsOf(...args);
    expect(chosen).toEqual(all.filter(is));
    expect(chosen.length).toBeGreaterThan(0);
  });

  it('shows owners though the exporter is told to publish none', async () => {
    const { stdout } = await runMain(['list', '-o', 'json', ...PLAIN], '', { PEERSCOPE_COLLECTOR_PROCESSES: 'false' });
    expect(JSON.parse(stdout)).toEqual(await rowsOf());
  });

  it('names no services with -n', async () => {
    const { stdout } = await runMain(['list', '-n', ...PLAIN]);
    expect(stdout.split('\n')[0]).not.toContain('SERVICE');
    expect((await rowsOf('-n')).filter(({ service }) => service !== null)).toEqual([]);
  });

  it('gives every output the fields that are named, in the order that is', async () => {
    const args = [
      'list',
      '--fields',
      'process,local_port',
      '--sort',
      'local_port:desc,process',
      'state=listen',
      ...PLAIN,
    ];
    const print = async (output: string): Promise<string> => (await runMain([...args, '-o', output])).stdout;
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

describe('what is given to programs', () => {
  it('by top is the ranking with what each has', async () => {
    const { stdout, stderr } = await runMain(['top', '-n', '1', '-o', 'json', ...PLAIN]);
    expect(JSON.parse(stdout)).toEqual([
      expect.objectContaining({
        process: 'orders.py',
        connections: 6,
        states: { established: 5, syn_sent: 1 },
        processes: [expect.objectContaining({ pid: 25757, process_state: 'S', threads: 1, umask: '0022' })],
      }),
    ]);
    expect(stderr).toBe('22 sockets, all with their process\n');
  });

  it('by endpoints are the lines of people, a loopback pair once', async () => {
    const { stdout } = await runMain(['endpoints', '-n', '-o', 'jsonl', 'direction=loopback', ...PLAIN]);
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

  it('where a filter leaves one end of a pair, that end counts', async () => {
    const { stdout } = await runMain(['endpoints', '-n', 'process=orders.py', 'direction=loopback', ...PLAIN]);
    expect(stdout).toContain('Looping: 2 connections, 0 duplicates\n  tcp  127.0.0.1  ->  127.0.0.1:5432  2');
  });

  it('by watch has the time of each look', async () => {
    const watch = (...args: string[]): Promise<{ stdout: string }> =>
      runMain(['watch', '-c', '2', '-i', '0.05', ...args, ...PLAIN]);
    const lines = (await watch('list', '-o', 'jsonl', 'process=curl')).stdout.trimEnd().split('\n');
    const looks = lines.map((line) => JSON.parse(line) as Row & { at: string });
    expect(looks.map(({ process, at }) => [process, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(at)])).toEqual([
      ['curl', true],
      ['curl', true],
    ]);
    expect(new Set(looks.map(({ at }) => at)).size).toBe(2);
    const csv = (await watch('list', '-o', 'csv', '--fields', 'process', 'process=curl')).stdout;
    expect(csv).toMatch(/^at,process\n(?:[\d:.TZ-]+,curl\n){2}$/);
    expect(
      (await watch('endpoints', '-n', 'process=curl')).stdout.match(/^[\d:.TZ-]+\nDistant inbound: 0 connections$/gm),
    ).toHaveLength(2);
  });
});

describe('a liveScan', () => {
  it('asks the provider where it may, waits for the answer, and keeps it', async () => {
    const server = await startCymruServer([
      '13335 | 1.1.1.0 | 1.1.1.0/24 | US | arin | 2010-07-14 | CLOUDFLARENET, US',
    ]);
    const flags = {
      'path.procfs': join(TREES, 'plain-host'),
      'asn.server': `${server.host}:${server.port}`,
      'storage.path': folder,
    };
    const look = async (queriesProvider: boolean): Promise<(number | null)[]> => {
      const liveScan = await LiveScan.open(parseConfig(flags, {}, false), {
        ...{
          names: 'none',
          queriesProvider,
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
      expect(await look(false)).toEqual([null, null, null]);
      expect(await look(true)).toEqual([13335, 13335, 13335]);
    } finally {
      await server.close();
    }
    expect(await look(false)).toEqual([13335, 13335, 13335]);
  });
});

describe('a bad input has a clear outcome', () => {
  const file = join(folder, 'file');
  writeFileSync(file, '');
  const KEYS = 'one of transport, family, local_address,';
  it.each<[what: string, args: string[], code: number, line: string]>([
    [
      'a field',
      ['list', '--fields', 'pid,nonsense'],
      2,
      `Cannot use --fields "pid,nonsense": "nonsense" must be ${KEYS}`,
    ],
    [
      'a field to sort by',
      ['list', '--sort', 'nonsense'],
      2,
      `Cannot use --sort "nonsense": "nonsense" must be, perhaps with :desc, ${KEYS}`,
    ],
    ['a filter', ['top', 'nonsense=1'], 2, 'Cannot use filter "nonsense=1": must be KEY=VALUE or KEY!=VALUE'],
    [
      'a value of a filter',
      ['endpoints', 'state=open'],
      2,
      'Cannot use filter "state=open": state must be established',
    ],
    ['a word that is no filter', ['watch', 'tops'], 2, 'Cannot use filter "tops": must be KEY=VALUE'],
    [
      'a format',
      ['list', '-o', 'xml'],
      2,
      "option '-o, --output <format>' argument 'xml' is invalid. Allowed choices are table, wide, json, jsonl, csv.",
    ],
    [
      'a format that makes no log',
      ['watch', 'list', '-o', 'json'],
      2,
      "argument 'json' is invalid. Allowed choices are table, wide, jsonl, csv.",
    ],
    [
      'what to count by',
      ['top', '--by', 'pid'],
      2,
      "argument 'pid' is invalid. Allowed choices are process, asn, workload, endpoint.",
    ],
    ['how many', ['top', '-n', '0'], 2, 'Cannot use --number "0": must be a whole number of at least 1'],
    [
      'a colour',
      ['list', '--color', 'blue'],
      2,
      "argument 'blue' is invalid. Allowed choices are auto, always, never.",
    ],
    ['half a process', ['top', '-n', '1.5'], 2, 'Cannot use --number "1.5": must be a whole number of at least 1'],
    [
      'no time at all',
      ['watch', 'top', '-i', '0'],
      2,
      'Cannot use --interval "0": must be a number of seconds from 0.01',
    ],
    ['a time without number', ['watch', '-i', '1s'], 2, 'Cannot use --interval "1s": must be a number of seconds'],
    ['no looks', ['watch', 'endpoints', '-c', '0'], 2, 'Cannot use --count "0": must be a whole number of at least 1'],
    ['an empty list of fields', ['list', '--fields', ''], 2, `Cannot use --fields "": "" must be ${KEYS}`],
    ['a source', ['list', '--source', 'lsof'], 2, 'Cannot use --source "lsof": must be procfs, ss or netstat'],
    ['a command', ['lisst'], 2, "unknown command 'lisst' (Did you mean list?)"],
    [
      'a negative interval',
      ['watch', 'list', '-i', '-1'],
      2,
      'Cannot use --interval "-1": must be a number of seconds',
    ],
    ['a count', ['watch', 'list', '-c', 'x'], 2, 'Cannot use --count "x": must be a whole number of at least 1'],
    ['names and no names', ['list', '-nr'], 2, 'Cannot use --resolve with --numeric: one asks for names'],
    ['a file for /proc', ['list', `--path.procfs=${file}`], 1, `Cannot read procfs "${file}"`],
    [
      'a text that is not there',
      ['parse', join(folder, 'absent')],
      1,
      `Cannot read "${join(folder, 'absent')}": ENOENT`,
    ],
  ])('%s', async (_what, args, code, line) => {
    const outcome = await runMain([...args, '--asn.provider=none']);
    expect({ code: outcome.code, stdout: outcome.stdout }).toEqual({ code, stdout: '' });
    expect(outcome.stderr).toContain(line);
    expect(outcome.stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it.each(['list', 'top', 'endpoints', 'watch list', 'watch top', 'watch endpoints', 'events', 'parse'])(
    'a filter and an option that %s does not have',
    async (command) => {
      const run = (...args: string[]): ReturnType<typeof runMain> =>
        runMain([...command.split(' '), ...args, ...PLAIN]);
      const refused = (stderr: string): object => ({ code: 2, stdout: '', stderr });
      expect(await run('port=0x50')).toEqual(
        refused('Cannot use filter "port=0x50": port must be a port from 0 to 65535\n'),
      );
      expect(await run('--nope')).toEqual(refused("Cannot read the command line: unknown option '--nope'\n"));
    },
  );

  it
    .skipIf(!existsSync('/dev/full'))
    .each(['list', 'list -o json', 'top', 'endpoints -n', 'watch list', 'events --snapshot'])(
    'a full disk, of %s',
    (command) => {
      const line = `'${process.execPath}' '${MAIN}' ${command} ${PLAIN.join(' ')} >/dev/full`;
      const { status, stderr } = spawnSync('sh', ['-c', line], { encoding: 'utf8', timeout: 30_000 });
      expect(status).toBe(1);
      expect(stderr).toMatch(/^Cannot write to standard output: ENOSPC/m);
    },
  );

  it.each(['list', 'top', 'endpoints'])('no connections, of %s', async (command) => {
    const { code, stdout } = await runMain([command, tree('empty'), '--asn.provider=none']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^0 sockets$/m);
    expect((await runMain([command, '-o', 'json', tree('empty'), '--asn.provider=none'])).stdout).toBe('[\n]\n');
  });

  it.each(['list', 'top', 'endpoints -n', 'watch list', 'watch -o jsonl list'])(
    'a reader of %s that goes away',
    (command) => {
      const line = `'${process.execPath}' '${MAIN}' ${command} ${PLAIN.join(' ')} | head -n 1; echo "\${PIPESTATUS[0]}"`;
      const run = spawnSync('bash', ['-c', line], { encoding: 'utf8', timeout: 30_000 });
      expect(run.stderr.replace(/^.*sockets, .*\n/, '')).toBe('');
      expect(run.stdout.trimEnd().split('\n').at(-1)).toBe('0');
    },
  );

  it('an interruption of watch on a pipe', async () => {
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
