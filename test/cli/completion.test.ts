import { spawnSync } from 'node:child_process';
import { writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runHere } from '../support/main.ts';

const folder = mkdtempSync(join(tmpdir(), 'peerscope-completion-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The flags and subcommands in the help of each command. */
const help = new Map<string, { flags: Set<string>; below: string[] }>();
const scripts = new Map<string, string>();

async function readHelp(path: readonly string[]): Promise<void> {
  const { stdout } = await runHere([...path, '--help']);
  const flags = stdout.matchAll(/^ {2}(?:(-\w), )?(--\S+)/gm).flatMap(([, short, long = '']) => {
    const name = long.replace('[no-]', '');
    return [...(short === undefined ? [] : [short]), name, ...(name === long ? [] : [name.replace('--', '--no-')])];
  });
  const commands = [...stdout.slice(stdout.indexOf('\nCommands:')).matchAll(/^ {2}([a-z-]+) \[/gm)].map(
    ([, name = '']) => name,
  );
  const below = stdout.includes('\nCommands:') ? commands.filter((name) => name !== 'help') : [];
  help.set(path.join(' '), { flags: new Set(flags), below });
  await Promise.all(below.map((name) => readHelp([...path, name])));
}

beforeAll(async () => {
  await readHelp([]);
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { stdout } = await runHere(['completion', shell]);
    scripts.set(shell, stdout);
    writeFileSync(join(folder, shell), stdout);
  }
}, 120_000);

/** The completions of bash for the last word of each line. */
function offers(lines: readonly string[][]): string[][] {
  const asked = lines.map((line) => {
    const words = ['peerscope', ...line].map((word) => `'${word}'`).join(' ');
    return `COMP_WORDS=(${words}); COMP_CWORD=${line.length}; _peerscope; echo "\${COMPREPLY[*]}"`;
  });
  const run = spawnSync('bash', ['--norc', '-c', [`source '${join(folder, 'bash')}'`, ...asked].join('\n')], {
    encoding: 'utf8',
    cwd: folder,
  });
  expect(run.stderr).toBe('');
  return run.stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split(' ').filter((word) => word !== ''));
}

describe('completions', () => {
  it('of bash offer the flags and subcommands of each command', () => {
    const paths = [...help.keys()];
    const found = offers(paths.map((path) => [...path.split(' ').filter((word) => word !== ''), '']));
    for (const [i, path] of paths.entries()) {
      const { flags, below } = help.get(path) ?? { flags: new Set(), below: [] };
      const choices = path === 'completion' ? ['bash', 'zsh', 'fish'] : [];
      // Without a command, the flags are those of serve.
      const served = path === '' ? (help.get('serve')?.flags ?? []) : [];
      expect(new Set(found[i]), path).toEqual(new Set([...below, ...choices, ...flags, ...served]));
    }
    expect(paths).toContain('watch top');
  });

  it('of bash offer option values, files, and matches of a prefix', () =>
    expect(
      offers([
        ['list', '-o', ''],
        ['list', '--output', '=', 'js'],
        ['top', '--by', 'w'],
        ['watch', 'to'],
        ['watch', 'top', '--by', 'a'],
        ['list', '--config.file', 'fi'],
        ['list', '--so'],
        ['--log.f'],
        ['--log.format', ''],
        ['list', '--source', '=', 's'],
        ['completion', 'z'],
      ]),
    ).toEqual([
      ['table', 'wide', 'json', 'jsonl', 'csv'],
      ['json', 'jsonl'],
      ['workload'],
      ['top'],
      ['asn'],
      ['fish'],
      ['--sort', '--source'],
      ['--log.format'],
      ['json', 'text'],
      ['ss'],
      ['zsh'],
    ]));

  it.each<[shell: string, named: (flag: string) => string]>([
    ['zsh', (flag) => flag],
    ['fish', (flag) => (flag.startsWith('--') ? `-l '${flag.slice(2)}'` : `-s '${flag.slice(1)}'`)],
  ])('of %s contain every command and every flag', (shell, named) => {
    const script = scripts.get(shell) ?? '';
    const flags = new Set([...help.values()].flatMap((one) => [...one.flags]));
    expect([...flags].filter((flag) => !script.includes(named(flag)))).toEqual([]);
    const commands = [...help.keys()].flatMap((path) => path.split(' '));
    expect(commands.filter((command) => !script.includes(command))).toEqual([]);
  });

  it('reject another shell', async () => {
    const { code, stderr } = await runHere(['completion', 'csh']);
    expect(code).toBe(2);
    expect(stderr).toContain('Allowed choices are bash, zsh, fish');
  });
});

describe('the manual page', () => {
  it('contains every command, every flag and every TCP state', async () => {
    const { stdout } = await runHere(['man']);
    const text = stdout.replaceAll('\\-', '-');
    const all = [...help.values()].flatMap((one) => [...one.flags]);
    const flags = all
      .filter((flag) => flag !== '--version' && !flag.startsWith('--no-'))
      .map((flag) => (all.includes(flag.replace('--', '--no-')) ? flag.replace('--', '--[no-]') : flag));
    expect(flags.filter((flag) => !text.includes(`\\fB${flag}\\fR`))).toEqual([]);
    const commands = [...help].filter(([path, { below }]) => path !== '' && below.length === 0).map(([path]) => path);
    expect(commands.filter((path) => !new RegExp(`^\\.SS ${path}( |$)`, 'm').test(text))).toEqual([]);
    for (const state of ['listen', 'syn_sent', 'fin_wait_2', 'time_wait', 'closed'])
      expect(text).toContain(`\\fB${state}\\fR`);
  });
});
