import { spawn, spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

/** A program of two files with the scripts and the compiler of this one. */
const MAIN = `
import { WORD } from './word.ts';
if (process.argv[2] === 'wait') {
  process.on('SIGTERM', () => process.exit(7));
  setInterval(() => undefined, 1000);
}
console.log(JSON.stringify([WORD, ...process.argv.slice(2)]));
`;

const folder = mkdtempSync(join(tmpdir(), 'peerscope-start-'));
afterAll(() => rmSync(folder, { recursive: true }));

const write = (path: string, text: string): void => writeFileSync(join(folder, path), text);
const npm = (...args: readonly string[]): SpawnSyncReturns<string> =>
  spawnSync('npm', args, { cwd: folder, encoding: 'utf8' });

describe('npm start', () => {
  beforeAll(() => {
    for (const name of ['build.js', 'bundle.ts', 'package.json', 'tsconfig.json', 'tsconfig.build.json'])
      cpSync(join(ROOT, name), join(folder, name));
    cpSync(join(ROOT, 'native'), join(folder, 'native'), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    mkdirSync(join(folder, 'src'));
    writeSources();
    expect(npm('run', 'build').status).toBe(0);
    // What is seen then is the build, not the source.
    for (const file of globSync('dist/**/*.js', { cwd: folder }))
      write(file, readFileSync(join(folder, file), 'utf8').replace('source', 'build'));
    renameSync(join(folder, 'dist'), join(folder, 'built'));
  });

  beforeEach(() => {
    rmSync(join(folder, 'src'), { recursive: true });
    mkdirSync(join(folder, 'src'));
    writeSources();
    rmSync(join(folder, 'dist'), { recursive: true, force: true });
    cpSync(join(folder, 'built'), join(folder, 'dist'), { recursive: true });
    const sources = [
      'native',
      'native/build.js',
      'native/sockets.c',
      'src',
      'src/main.ts',
      'src/word.ts',
      'src/other.ts',
    ];
    for (const path of [...sources, 'package.json', 'bundle.ts', 'tsconfig.json', 'tsconfig.build.json'])
      touch(path, 120);
    touch('dist/.built', 60);
  });

  it.each<[what: string, change: () => void, word: string]>([
    ['runs the build where nothing changed', () => undefined, 'build'],
    ['builds where there is no build', () => rmSync(join(folder, 'dist'), { recursive: true }), 'source'],
    ['builds where a build was interrupted', () => rmSync(join(folder, 'dist/.built')), 'source'],
    ['builds where a file is new', () => write('src/new.ts', ''), 'source'],
    ['builds where a file changed', () => write('src/other.ts', 'export {};'), 'source'],
    ['builds where a file is gone', () => rmSync(join(folder, 'src/other.ts')), 'source'],
    ['builds where the package changed', () => touch('package.json'), 'source'],
    ['builds where the compiler is to do otherwise', () => touch('tsconfig.build.json'), 'source'],
    ['builds where the socket agent changed', () => touch('native/sockets.c'), 'source'],
    ['runs the build where only a test changed', () => write('test.ts', ''), 'build'],
  ])('%s', (_what, change, word) => {
    change();
    const { status, stdout } = npm('-s', 'start', '--', 'list', 'a b');
    expect({ status, stdout }).toEqual({ status: 0, stdout: `${JSON.stringify([word, 'list', 'a b'])}\n` });
    // What was built is not built again.
    expect(readFileSync(join(folder, 'dist/.built'), 'utf8')).toBe('');
    expect(npm('run', 'prestart').stderr).not.toContain('tsc');
  });

  it('starts nothing if the build fails, and prints the reason to standard error', () => {
    write('src/word.ts', 'export const = ;');
    for (const { status, stdout, stderr } of [npm('run', 'start'), npm('run', 'start')]) {
      expect(status).toBeGreaterThan(0);
      expect(stdout).not.toContain('dist/main.js');
      expect(stderr).toContain('src/word.ts');
    }
  });

  it('passes SIGTERM to the program', async () => {
    const child = spawn('npm', ['-s', 'start', '--', 'wait'], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([7, null]);
  });

  it('has a variant that runs the source', () => {
    rmSync(join(folder, 'dist'), { recursive: true });
    expect(npm('-s', 'run', 'dev', '--', 'list').stdout).toBe('["source","list"]\n');
  });
});

describe.skipIf(process.platform !== 'linux')('the build of the socket agent', () => {
  const compilers = mkdtempSync(join(tmpdir(), 'peerscope-compilers-'));
  afterAll(() => rmSync(compilers, { recursive: true }));

  const PREFIX = 'Cannot compile the socket agent "native/sockets.c": ';
  it.for<[what: string, script: string | null, said: string]>([
    ['there is no compiler', null, `${PREFIX}no C compiler is installed. peerscope works without it.\n`],
    [
      'the compiler fails',
      'echo sockets.c: In a function >&2; echo "sockets.c:1:2: fatal error: linux/audit.h: No such file" >&2; exit 1',
      `${PREFIX}cc: sockets.c:1:2: fatal error: linux/audit.h: No such file. peerscope works without it.\n`,
    ],
    ['the compiler fails without a word', 'exit 3', `${PREFIX}cc: status 3. peerscope works without it.\n`],
    ['it works', 'exit 0', ''],
  ])('prints one line at most if %s, and never fails', ([, script, said]) => {
    rmSync(join(compilers, 'cc'), { force: true });
    if (script !== null) writeFileSync(join(compilers, 'cc'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const program = `import { buildAgent } from ${JSON.stringify(join(ROOT, 'native/build.js'))}; buildAgent('/dev/null');`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
      env: { PATH: compilers },
    });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: said });
  });
});

function writeSources(): void {
  write('src/main.ts', MAIN);
  write('src/word.ts', `export const WORD: string = 'source';`);
  write('src/other.ts', '');
}

/** Changes nothing but the time of the last change. */
function touch(path: string, secondsAgo = 0): void {
  const at = new Date(Date.now() - secondsAgo * 1000);
  utimesSync(join(folder, path), at, at);
}
