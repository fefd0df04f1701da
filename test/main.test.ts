import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { environmentVariable, FLAGS } from '../src/config/flags.ts';
import { ENVIRONMENT } from './support/exporter.ts';
import { runHere, type Outcome } from './support/main.ts';

vi.setConfig({ testTimeout: 60_000 });

const MAIN = new URL('../src/main.ts', import.meta.url).pathname;
const PROC = new URL('fixtures/proc/plain-host', import.meta.url).pathname;
const COMMANDS = [
  'serve',
  'list',
  'top',
  'endpoints',
  'events',
  'whois',
  'stats',
  'parse',
  'record',
  'check-config',
  'completion',
  'man',
];

const folder = mkdtempSync(join(tmpdir(), 'peerscope-main-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

/** Runs the program with these environment variables. */
const peerscope = (
  args: readonly string[],
  { env = {}, input = '' }: { env?: Record<string, string>; input?: string } = {},
): Promise<Outcome> => runHere(args, input, env);

/** Starts the program after these modules, until it exits. */
function start(args: readonly string[], nodeArgs: readonly string[]): Outcome {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...nodeArgs, MAIN, ...args], {
    env: ENVIRONMENT,
    encoding: 'utf8',
    timeout: 30_000,
  });
  return { code: status ?? NaN, stdout, stderr };
}

/** Node.js arguments that load this module before the program. */
const before = (module: string): string[] => ['--import', `data:text/javascript,${encodeURIComponent(module)}`];

/** A module that rejects imports that do not match. */
const importOnly = (allowed: RegExp): string => `
  import { registerHooks } from 'node:module';
  registerHooks({
    load(url, context, next) {
      if (!${String(allowed)}.test(url)) throw new Error('imported ' + url);
      return next(url, context);
    },
  });`;

describe('invalid usage prints one line and exits with 2', () => {
  const broken = file('broken.yaml', 'networks: [{ name: office, cidrs: [10.0.0.0/33] }]');
  const command = (reason: string): string => `Cannot read the command line: ${reason}`;
  it.each<[situation: string, args: string[], line: string, env?: Record<string, string>]>([
    [
      'an invalid value',
      ['--series.limit', '49'],
      'Cannot use --series.limit "49": must be a whole number of at least 50',
    ],
    [
      'a metric family that does not exist',
      ['--metrics.families=peerscope_asn_*,peerscope_bytes'],
      'Cannot use --metrics.families "peerscope_bytes": must be a metric family of docs/metrics.md, such as peerscope_asn_connections',
    ],
    [
      'an invalid value in the environment',
      [],
      'Cannot use PEERSCOPE_SERIES_LIMIT "49": must be a whole number of at least 50',
      { PEERSCOPE_SERIES_LIMIT: '49' },
    ],
    [
      'a misspelled variable',
      ['list'],
      'Cannot use PEERSCOPE_PROCFS: must be the environment variable of a flag, see peerscope serve --help',
      { PEERSCOPE_PROCFS: '/host/proc' },
    ],
    [
      'one of several values',
      ['--web.listen-address=:1', '--web.listen-address=x'],
      'Cannot use --web.listen-address "x": must be an address such as :9100, 127.0.0.1:9100, [::1]:9100, localhost:9100 or unix:/run/peerscope/http.sock',
    ],
    [
      'neither a listen address nor an OTLP endpoint',
      ['--web.listen-address='],
      'Cannot serve: --web.listen-address is empty, and --otlp.endpoint is not set',
    ],
    [
      'a misspelled flag',
      ['--series.limt=5'],
      command("unknown option '--series.limt=5' (Did you mean --series.limit?)"),
    ],
    ['a flag of another command', ['list', '--series.limit=50'], command("unknown option '--series.limit=50'")],
    ['a flag without its value', ['--log.level'], command("option '--log.level <level>' argument missing")],
    ['a misspelled command', ['lst'], command("unknown command 'lst' (Did you mean list?)")],
    ['help of a misspelled command', ['help', 'lst'], command("unknown command 'lst'")],
    ['completion without a shell', ['completion'], command("missing required argument 'bash|zsh|fish'")],
    ['an empty command', [''], command("unknown command ''")],
    [
      'a command after flags',
      ['--log.level=info', 'list'],
      command("too many arguments for 'serve'. Expected 0 arguments but got 1: list."),
    ],
    ['a missing argument', ['record'], command("missing required argument 'folder'")],
    [
      'an output format that a command does not have',
      ['list', '-o', 'yaml'],
      command(
        "option '-o, --output <format>' argument 'yaml' is invalid. Allowed choices are table, wide, json, jsonl, csv.",
      ),
    ],
    [
      'check-config without a file',
      ['check-config'],
      'Cannot check configuration: pass a file as an argument or with --config.file',
    ],
    [
      'an invalid configuration',
      ['serve', '--config.file', broken],
      `Cannot read configuration "${broken}": networks[0].cidrs[0] "10.0.0.0/33": must be a CIDR such as 10.0.0.0/8, with no bits set after the prefix`,
    ],
    [
      'a missing configuration',
      ['list', '--config.file=/nowhere/peerscope.yaml'],
      'Cannot read configuration "/nowhere/peerscope.yaml": no such file or directory',
    ],
  ])('%s', async (_situation, args, line, env = {}) => {
    expect(await peerscope(args, { env })).toEqual({ code: 2, stdout: '', stderr: `${line}\n` });
  });
});

it('prints its version', async () => {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect(await peerscope(['--version'])).toEqual({ code: 0, stdout: `peerscope ${version}\n`, stderr: '' });
});

describe('help', () => {
  it('states that a recording has real addresses unless redacted', async () => {
    const { stdout } = await peerscope(['record', '--help']);
    expect(stdout).toMatch(/^Copy what peerscope reads from \/proc, with real addresses and names,/m);
    expect(stdout).toMatch(/--redact\s+Replace addresses and names/);
  });

  it('lists every command', async () => {
    const { code, stdout } = await peerscope(['--help']);
    expect(code).toBe(0);
    expect(COMMANDS.filter((name) => !new RegExp(`^  ${name} `, 'm').test(stdout))).toEqual([]);
  });

  it.each(COMMANDS)('of %s shows its flags, defaults and environment variables in 80 columns', async (name) => {
    const { code, stdout } = await peerscope([name, '--help']);
    const blocks = stdout.split(/\n(?= {2}\S)/).map((block) => block.replaceAll(/\s+/g, ' '));
    const shown = FLAGS.filter((flag) => blocks.some((block) => block.includes(environmentVariable(flag.name))));
    const complete = FLAGS.filter((flag) => {
      const block = blocks.find((candidate) => /--(?:\[no-\])?(\S+)/.exec(candidate)?.[1] === flag.name) ?? '';
      return block.endsWith(
        `${flag.default === null ? '' : `Default: ${flag.default}. `}Environment: ${environmentVariable(flag.name)}`,
      );
    });
    expect(code).toBe(0);
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
    expect(complete).toEqual(shown);
    expect(shown).toEqual(FLAGS.filter((flag) => name === 'serve' || !flag.serveOnly));
  });
});

describe('the Node.js version', () => {
  const { engines } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    engines: { node: string };
  };
  const as = (version: string): string =>
    `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } });`;

  it.each(['20.1.0', '22.14.9'])('%s is rejected before any other import', (version) => {
    const nodeArgs = before(importOnly(/\/src\/main\.ts$|^node:/) + as(version));
    expect(start(['list'], nodeArgs)).toEqual({
      code: 2,
      stdout: '',
      stderr: `Cannot start on Node.js ${version}: peerscope requires Node.js 22.15 or newer\n`,
    });
    expect(engines.node).toBe('>=22.15');
  });

  it.each(['22.15.0', '30.1.0'])('%s is supported', (version) => {
    expect(start(['--version'], before(as(version))).code).toBe(0);
  });
});

describe('list', () => {
  it('imports neither server, log nor configuration parsers', () => {
    const nodeArgs = before(importOnly(/^node:|\/src\/|\/node_modules\/commander\//));
    const { code, stdout } = start(['list', '-o', 'json', `--path.procfs=${PROC}`], nodeArgs);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toBeInstanceOf(Array);
  });

  it('reads flags from the environment', async () => {
    const byFlag = await peerscope(['list', '-o', 'json', `--path.procfs=${PROC}`]);
    expect(await peerscope(['list', '-o', 'json'], { env: { PEERSCOPE_PATH_PROCFS: PROC } })).toEqual(byFlag);
  });
});

describe('a failure', () => {
  const args = ['list', '--path.procfs=/nowhere'];

  it('is one line', async () => {
    expect(await peerscope(args)).toEqual({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^Cannot read procfs "\/nowhere": .*\n$/) as string,
    });
  });

  it.each([
    ['list', '--path.procfs=/nowhere'],
    ['parse', '/nowhere'],
  ])('of %s exits even while a connection to a shared store is attempted', async (...args) => {
    const { code, stderr } = await peerscope([...args, '--storage.url=redis://127.0.0.1:1']);
    expect(stderr).toMatch(/Cannot read (procfs )?"\/nowhere": /);
    expect(code).toBe(1);
  });

  it('has a stack trace with --log.level=debug', async () => {
    expect((await peerscope([...args, '--log.level=debug'])).stderr).toMatch(
      /Cannot read procfs "\/nowhere": .*\n +at /,
    );
  });
});

it('whois reads addresses from standard input', async () => {
  const { code, stdout } = await peerscope(['whois', '-o', 'json'], { input: '10.0.0.1\n::1\n' });
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject([
    { address: '10.0.0.1', network: 'private' },
    { address: '::1', network: 'loopback' },
  ]);
});

it('whois reads addresses from arguments and applies the configuration', async () => {
  const rules = file('networks.yaml', 'networks: [{ name: lab, cidrs: [10.0.0.0/8], asn: 64500 }]');
  const { code, stdout } = await peerscope(['whois', '10.0.0.1', '-o', 'json', '--config.file', rules]);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject([{ address: '10.0.0.1', network: 'lab', asn: 64_500, as_name: 'lab' }]);
});

it('record writes a tree', async () => {
  const { code, stdout } = await peerscope(['record', join(folder, 'tree'), '--path.procfs', PROC]);
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /^Recorded \d+ processes and \d+ network namespaces?; 0 processes exited, 0 could not be read completely\n$/,
  );
});

describe('check-config', () => {
  const good = file('good.yaml', 'networks: [{ name: office, cidrs: [10.0.0.0/8] }]');
  const valid = `Configuration "${good}" is valid.\nnetworks[0]: addresses in 10.0.0.0/8 belong to network "office" and are never sent to an ASN provider.\n`;

  it.each<[situation: string, args: string[], env?: Record<string, string>]>([
    ['as an argument', [good]],
    ['with the flag', ['--config.file', good]],
    ['in the environment', [], { PEERSCOPE_CONFIG_FILE: good }],
    ['as an argument that overrides the flag', [good, '--config.file=/nowhere']],
  ])('reads the file given %s', async (_situation, args, env = {}) => {
    expect(await peerscope(['check-config', ...args], { env })).toEqual({ code: 0, stdout: valid, stderr: '' });
  });

  it('fails for an invalid file', async () => {
    const bad = file('bad.yaml', 'asn: 1');
    expect(await peerscope(['check-config', bad])).toEqual({
      code: 1,
      stdout: '',
      stderr: `Cannot read configuration "${bad}": asn 1: must be a mapping with the keys never_send\n`,
    });
  });
});

describe('standard output', () => {
  const rules = Array.from({ length: 10_000 }, (_, i) => `- { name: group-${i} }`);
  const long = file('long.yaml', ['endpoint_groups:', ...rules].join('\n'));

  it('exits quietly when its reader closes it', async () => {
    const child = spawn(process.execPath, [MAIN, 'check-config', long], { env: ENVIRONMENT, timeout: 30_000 });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdout.once('data', () => child.stdout.destroy());
    const [code] = (await once(child, 'close')) as [number | null];
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it('fails on a full disk', () => {
    const full = openSync('/dev/full', 'w');
    const run = spawnSync(process.execPath, [MAIN, 'check-config', long], {
      env: ENVIRONMENT,
      stdio: ['ignore', full, 'pipe'],
    });
    closeSync(full);
    expect({ code: run.status, stderr: run.stderr.toString() }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^Cannot write to standard output: no space left on device\n$/) as string,
    });
  });
});
