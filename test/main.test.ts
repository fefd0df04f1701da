import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { environmentTwin, FLAGS } from '../src/config/flags.ts';
import { ENVIRONMENT } from './support/exporter.ts';

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

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the program to its end with these variables. */
function peerscope(
  args: readonly string[],
  { env = {}, input = '', nodeArgs = [] }: { env?: Record<string, string>; input?: string; nodeArgs?: string[] } = {},
): Outcome {
  const run = spawnSync(process.execPath, [...nodeArgs, MAIN, ...args], {
    env: { ...ENVIRONMENT, ...env },
    input,
    encoding: 'utf8',
    timeout: 30_000,
  });
  return { code: run.status, stdout: run.stdout, stderr: run.stderr };
}

/** Arguments of Node that run this module before the program. */
const before = (module: string): string[] => ['--import', `data:text/javascript,${encodeURIComponent(module)}`];

/** Lets the program import only what matches. */
const importOnly = (allowed: RegExp): string => `
  import { registerHooks } from 'node:module';
  registerHooks({
    load(url, context, next) {
      if (!${String(allowed)}.test(url)) throw new Error('imported ' + url);
      return next(url, context);
    },
  });`;

describe('wrong usage ends with one line and exit code 2', () => {
  const broken = file('broken.yaml', 'networks: [{ name: office, cidrs: [10.0.0.0/33] }]');
  const command = (reason: string): string => `Cannot read the command line: ${reason}`;
  it.each<[situation: string, args: string[], line: string, env?: Record<string, string>]>([
    ['a value', ['--series.limit', '49'], 'Cannot use --series.limit "49": must be a whole number of at least 50'],
    [
      'a value in the environment',
      [],
      'Cannot use PEERSCOPE_SERIES_LIMIT "49": must be a whole number of at least 50',
      { PEERSCOPE_SERIES_LIMIT: '49' },
    ],
    [
      'a misspelt variable',
      ['list'],
      'Cannot use PEERSCOPE_PROCFS: must be the environment twin of a flag, see peerscope serve --help',
      { PEERSCOPE_PROCFS: '/host/proc' },
    ],
    [
      'one of several values',
      ['--web.listen-address=:1', '--web.listen-address=x'],
      'Cannot use --web.listen-address "x": must be an address such as :9100, 127.0.0.1:9100, [::1]:9100 or localhost:9100',
    ],
    [
      'neither a page nor a receiver',
      ['--web.listen-address='],
      'Cannot serve: --web.listen-address is empty, and no --otlp.endpoint is named',
    ],
    [
      'a misspelt flag',
      ['--series.limt=5'],
      command("unknown option '--series.limt=5' (Did you mean --series.limit?)"),
    ],
    ['a flag of another command', ['list', '--series.limit=50'], command("unknown option '--series.limit=50'")],
    ['a flag without its value', ['--log.level'], command("option '--log.level <level>' argument missing")],
    ['a misspelt command', ['lst'], command("unknown command 'lst' (Did you mean list?)")],
    ['help of a misspelt command', ['help', 'lst'], command("unknown command 'lst'")],
    ['no shell to complete for', ['completion'], command("missing required argument 'bash|zsh|fish'")],
    ['an empty command', [''], command("unknown command ''")],
    [
      'a command behind flags',
      ['--log.level=info', 'list'],
      command("too many arguments for 'serve'. Expected 0 arguments but got 1: list."),
    ],
    ['a missing argument', ['record'], command("missing required argument 'folder'")],
    [
      'an output that a command has not',
      ['list', '-o', 'yaml'],
      command(
        "option '-o, --output <format>' argument 'yaml' is invalid. Allowed choices are table, wide, json, jsonl, csv.",
      ),
    ],
    [
      'no file to check',
      ['check-config'],
      'Cannot check configuration: no file is given, neither as an argument nor by --config.file',
    ],
    [
      'a broken configuration',
      ['serve', '--config.file', broken],
      `Cannot read configuration "${broken}": networks[0].cidrs[0] "10.0.0.0/33": must be a CIDR such as 10.0.0.0/8, with no bits set after the prefix`,
    ],
    [
      'an absent configuration',
      ['list', '--config.file=/nowhere/peerscope.yaml'],
      'Cannot read configuration "/nowhere/peerscope.yaml": no such file or directory',
    ],
  ])('%s', (_situation, args, line, env = {}) => {
    expect(peerscope(args, { env })).toEqual({ code: 2, stdout: '', stderr: `${line}\n` });
  });
});

it('prints its version', () => {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  expect(peerscope(['--version'])).toEqual({ code: 0, stdout: `peerscope ${version}\n`, stderr: '' });
});

describe('help', () => {
  it('says that a recording is not redacted unless it is asked for', () => {
    const { stdout } = peerscope(['record', '--help']);
    expect(stdout).toMatch(/^Record what peerscope reads from \/proc, with real addresses and names,/m);
    expect(stdout).toMatch(/--redact\s+Replace addresses and names/);
  });

  it('names every command', () => {
    const { code, stdout } = peerscope(['--help']);
    expect(code).toBe(0);
    expect(COMMANDS.filter((name) => !new RegExp(`^  ${name} `, 'm').test(stdout))).toEqual([]);
  });

  it.each(COMMANDS)('of %s shows its flags, their defaults and twins in 80 columns', (name) => {
    const { code, stdout } = peerscope([name, '--help']);
    const blocks = stdout.split(/\n(?= {2}\S)/).map((block) => block.replaceAll(/\s+/g, ' '));
    const shown = FLAGS.filter((flag) => blocks.some((block) => block.includes(environmentTwin(flag.name))));
    const complete = FLAGS.filter((flag) => {
      const block = blocks.find((candidate) => /--(?:\[no-\])?(\S+)/.exec(candidate)?.[1] === flag.name) ?? '';
      return block.endsWith(
        `${flag.default === null ? '' : `Default: ${flag.default}. `}Environment: ${environmentTwin(flag.name)}`,
      );
    });
    expect(code).toBe(0);
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
    expect(complete).toEqual(shown);
    expect(shown).toEqual(FLAGS.filter((flag) => name === 'serve' || !flag.serveOnly));
  });
});

describe('a Node that is too old', () => {
  const { engines } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    engines: { node: string };
  };
  const as = (version: string): string =>
    `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } });`;

  it.each(['20.1.0', '22.14.9'])('%s is told so before anything else is imported', (version) => {
    const nodeArgs = before(importOnly(/\/src\/main\.ts$|^node:/) + as(version));
    expect(peerscope(['list'], { nodeArgs })).toEqual({
      code: 2,
      stdout: '',
      stderr: `Cannot start on Node ${version}: peerscope needs Node 22.15 or newer\n`,
    });
    expect(engines.node).toBe('>=22.15');
  });

  it.each(['22.15.0', '30.1.0'])('%s is not', (version) => {
    expect(peerscope(['--version'], { nodeArgs: before(as(version)) }).code).toBe(0);
  });
});

describe('list', () => {
  it('imports neither the server, the log nor the readers of a configuration', () => {
    const nodeArgs = before(importOnly(/^node:|\/src\/|\/node_modules\/commander\//));
    const { code, stdout } = peerscope(['list', '-o', 'json', `--path.procfs=${PROC}`], { nodeArgs });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toBeInstanceOf(Array);
  });

  it('takes flags from the environment', () => {
    const byFlag = peerscope(['list', '-o', 'json', `--path.procfs=${PROC}`]);
    expect(peerscope(['list', '-o', 'json'], { env: { PEERSCOPE_PATH_PROCFS: PROC } })).toEqual(byFlag);
  });
});

describe('a failure', () => {
  const args = ['list', '--path.procfs=/nowhere'];

  it('is one line', () => {
    expect(peerscope(args)).toEqual({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^Cannot read procfs "\/nowhere": .*\n$/) as string,
    });
  });

  it.each([
    ['list', '--path.procfs=/nowhere'],
    ['parse', '/nowhere'],
  ])('of %s ends the program, however long a shared store is tried', (...args) => {
    const { code, stderr } = peerscope([...args, '--storage.url=redis://127.0.0.1:1']);
    expect(stderr).toMatch(/Cannot read (procfs )?"\/nowhere": /);
    expect(code).toBe(1);
  });

  it('shows where it came from at --log.level=debug', () => {
    expect(peerscope([...args, '--log.level=debug']).stderr).toMatch(/Cannot read procfs "\/nowhere": .*\n +at /);
  });
});

it('asks whois for the addresses of standard input', () => {
  const { code, stdout } = peerscope(['whois', '-o', 'json'], { input: '10.0.0.1\n::1\n' });
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject([
    { address: '10.0.0.1', network: 'private' },
    { address: '::1', network: 'loopback' },
  ]);
});

it('asks whois for the addresses of its arguments, with the rules of the configuration', () => {
  const rules = file('networks.yaml', 'networks: [{ name: lab, cidrs: [10.0.0.0/8], asn: 64500 }]');
  const { code, stdout } = peerscope(['whois', '10.0.0.1', '-o', 'json', '--config.file', rules]);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject([{ address: '10.0.0.1', network: 'lab', asn: 64_500 }]);
});

it('records a tree', () => {
  const { code, stdout } = peerscope(['record', join(folder, 'tree'), '--path.procfs', PROC]);
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /^Recorded \d+ processes and \d+ network namespaces?; 0 processes had ended, 0 could not be read in full\n$/,
  );
});

describe('check-config', () => {
  const good = file('good.yaml', 'networks: [{ name: office, cidrs: [10.0.0.0/8] }]');
  const valid = `Configuration "${good}" is valid.\nnetworks[0]: addresses in 10.0.0.0/8 are the network "office" and never sent to an ASN provider.\n`;

  it.each<[situation: string, args: string[], env?: Record<string, string>]>([
    ['as an argument', [good]],
    ['by the flag', ['--config.file', good]],
    ['by the environment', [], { PEERSCOPE_CONFIG_FILE: good }],
    ['as an argument beside a flag that is no file', [good, '--config.file=/nowhere']],
  ])('reads the file that is given %s', (_situation, args, env = {}) => {
    expect(peerscope(['check-config', ...args], { env })).toEqual({ code: 0, stdout: valid, stderr: '' });
  });

  it('fails for a bad file', () => {
    const bad = file('bad.yaml', 'asn: 1');
    expect(peerscope(['check-config', bad])).toEqual({
      code: 1,
      stdout: '',
      stderr: `Cannot read configuration "${bad}": asn 1: must be a mapping with the keys never_send\n`,
    });
  });
});

describe('standard output', () => {
  const rules = Array.from({ length: 10_000 }, (_, i) => `- { name: group-${i} }`);
  const long = file('long.yaml', ['endpoint_groups:', ...rules].join('\n'));

  it('ends the program quietly when its reader goes away', async () => {
    const child = spawn(process.execPath, [MAIN, 'check-config', long], { env: ENVIRONMENT, timeout: 30_000 });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdout.once('data', () => child.stdout.destroy());
    const [code] = (await once(child, 'close')) as [number | null];
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  it('fails the program when it is full', () => {
    const full = openSync('/dev/full', 'w');
    const run = spawnSync(process.execPath, [MAIN, 'check-config', long], {
      env: ENVIRONMENT,
      stdio: ['ignore', full, 'pipe'],
    });
    closeSync(full);
    expect({ code: run.status, stderr: run.stderr.toString() }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^Cannot write to standard output: ENOSPC.*\n$/) as string,
    });
  });
});
