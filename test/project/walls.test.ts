import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ESLint, type AST } from 'eslint';
import tseslint from 'typescript-eslint';
import { describe, expect, test } from 'vitest';
import { importsOf } from '../../lint/imports.ts';
import { plugin } from '../../lint/plugin.ts';
import { AMBIENT, DOORS, doorsOf, EVERYWHERE, EXCEPTIONS, mayImport, roomOf, ROOMS } from '../../lint/rooms.ts';

const root = join(import.meta.dirname, '../..');

const eslint = new ESLint({
  cwd: root,
  overrideConfigFile: true,
  overrideConfig: [
    {
      files: ['**/*.ts'],
      languageOptions: { parser: tseslint.parser },
      plugins: { peerscope: plugin },
      settings: { peerscope: { root } },
      rules: { 'peerscope/rooms': 'error', 'peerscope/ambient': 'error' },
    },
  ],
});

/** What the parser gives for a text. */
interface ParseResult {
  readonly ast: AST.Program;
  readonly visitorKeys: Readonly<Record<string, readonly string[]>>;
}

/** The messages of the walls about a text that would be a file below src. */
const messagesOf = async (path: string, text: string): Promise<string[]> => {
  const [result] = await eslint.lintText(text, { filePath: join(root, 'src', path) });
  return result?.messages.map(({ message }) => message) ?? [];
};

describe('imports between rooms', () => {
  test.each([
    ['model.ts', './common/address.ts'],
    ['common/x.ts', '../config/config.ts'],
    ['config/x.ts', '../store/sqlite.ts'],
    ['parse/x.ts', '../collect/procfs.ts'],
    ['collect/x.ts', '../metrics/families.ts'],
    ['collect/x.ts', '../rows/row.ts'],
    ['collect/x.ts', '../parse/ss.ts'],
    ['collect/x.ts', '../enrich/peers.ts'],
    ['store/x.ts', '../enrich/asn/cache.ts'],
    ['enrich/x.ts', '../collect/procfs.ts'],
    ['enrich/asn/x.ts', '../kubernetes/pods.ts'],
    ['enrich/asn/x.ts', '../peers.ts'],
    ['enrich/kubernetes/x.ts', '../owner-labels.ts'],
    ['unusual/x.ts', '../metrics/families.ts'],
    ['metrics/x.ts', '../expose/prometheus-text.ts'],
    ['enrich/x.ts', '../unusual/recorder.ts'],
    ['scrape.ts', './expose/prometheus-text.ts'],
    ['rows/x.ts', '../web/api.ts'],
    ['expose/x.ts', '../web/server.ts'],
    ['web/page/x.ts', '../api.ts'],
    ['web/x.ts', '../collect/procfs.ts'],
    ['web/x.ts', '../serve/serve.ts'],
    ['serve/x.ts', '../cli/commands.ts'],
    ['cli/terminal/x.ts', '../view.ts'],
    ['cli/x.ts', '../serve/worker.ts'],
    ['cli/x.ts', '../web/server.ts'],
    ['index.ts', './serve/serve.ts'],
    ['main.ts', './serve/serve.ts'],
    ['main.ts', './scrape.ts'],
    ['cli/x.ts', '../../package.json'],
    ['serve/x.ts', '../../test/support/exporter.ts'],
  ])('%s may not import %s', async (from, specifier) => {
    expect(await messagesOf(from, `import '${specifier}';`)).toEqual([
      expect.stringContaining(`"${from}" may not import`) as string,
    ]);
  });

  test('each room has an import that is forbidden and one that is allowed', async () => {
    const rooms = Object.keys(ROOMS);
    for (const room of rooms) {
      const file = (name: string) => (name.endsWith('.ts') ? name : `${name}/x.ts`);
      const [from, up] = [file(room), '../'.repeat(room.endsWith('.ts') ? 0 : room.split('/').length)];
      for (const to of rooms.map(file))
        expect(
          [from, to, (await messagesOf(from, `import './${up}${to}';`)).length],
          'lint and the table agree',
        ).toEqual([from, to, mayImport(from, to) ? 0 : 1]);
    }
  });

  test.each([
    "import { a } from '../metrics/families.ts';",
    "import type { a } from '../metrics/families.ts';",
    "import { type a } from '../metrics/families.ts';",
    "import * as a from '../metrics/families.ts';",
    "import a from '../metrics/families.ts';",
    "import '../metrics/families.ts';",
    "export { a } from '../metrics/families.ts';",
    "export type { a } from '../metrics/families.ts';",
    "export * from '../metrics/families.ts';",
    "export * as a from '../metrics/families.ts';",
    "type A = import('../metrics/families.ts').A;",
    "type A = typeof import('../metrics/families.ts');",
    "const a = await import('../metrics/families.ts');",
    'const a = await import(`../metrics/families.ts`);',
    "import a = require('../metrics/families.ts');",
    "new Worker(new URL('../metrics/families.ts', import.meta.url));",
    'new Worker(new URL(`../metrics/families.${extension}`, import.meta.url));',
    "import '../../src/metrics/families.ts';",
    "import '../common/../metrics/families.ts';",
  ])('collect may not write %s', async (text) => {
    expect(await messagesOf('collect/x.ts', text)).toEqual([
      expect.stringContaining('"collect/x.ts" may not import') as string,
    ]);
  });

  test.each([
    'await import(path);',
    'await import(`../${room}/families.ts`);',
    "await import('../' + room);",
    'process.getBuiltinModule(name);',
    'const load = process.getBuiltinModule;',
    "process.getBuiltinModule.call(null, 'node:fs');",
    'const { getBuiltinModule: load } = process;',
    'new Worker(new URL(path, import.meta.url));',
    'new Worker(new URL(`../${room}/x.ts`, import.meta.url));',
  ])('no file may import what only the running program knows: %s', async (text) => {
    expect(await messagesOf('cli/commands.ts', text)).toEqual(['"cli/commands.ts" may not import a computed path.']);
  });

  test.each([
    ['serve/x.ts', "import { a } from '../web/server.ts'; import { b } from './worker.ts';"],
    ['serve/x.ts', 'new Worker(new URL(`../expose/otlp.${extension}`, import.meta.url));'],
    ['collect/ss-netstat.ts', "import { a } from '../parse/ss.ts';"],
    ['config/x.ts', "import { a } from '../store/redis-url.ts';"],
    ['config/x.ts', "new URL('http://localhost/');"],
  ])('%s may write %s', async (path, text) => {
    expect(await messagesOf(path, text)).toEqual([]);
  });
});

describe('libraries and modules of Node.js', () => {
  test.each(Object.entries(DOORS).filter(([, files]) => files !== EVERYWHERE))(
    '%s is imported by its files only',
    async (door, files) => {
      const [module, name] = door.split('#');
      const text = name ? `import { ${name} } from '${module ?? ''}';` : `import { a } from '${module ?? ''}';`;
      expect(await messagesOf('metrics/x.ts', text)).toEqual([
        `"metrics/x.ts" may not import "${door}": see DOORS in lint/rooms.ts.`,
      ]);
      for (const file of files)
        expect(await messagesOf(file.endsWith('.ts') ? file : `${file}/x.ts`, text)).toEqual([]);
    },
  );

  test.each([
    "import { exec } from 'child_process';",
    "import type { ChildProcess } from 'node:child_process';",
    "import * as child from 'node:child_process';",
    "export * from 'node:child_process';",
    "await import('node:child_process');",
    "process.getBuiltinModule('node:child_process');",
    "process['getBuiltinModule']('child_process');",
    "type A = import('node:child_process').ChildProcess;",
    "import { resolve } from 'node:dns/promises';",
    "import { env } from 'node:process';",
    "import process from 'process';",
    "import { performance } from 'node:perf_hooks';",
    "import { createRequire } from 'node:module';",
    "import { randomFillSync } from 'node:crypto';",
    "import { webcrypto } from 'node:crypto';",
    "import { randomUUID as id } from 'node:crypto';",
    "import { 'randomUUID' as id } from 'node:crypto';",
    "export { randomUUID } from 'node:crypto';",
    "import { uptime } from 'node:os';",
    "import { homedir } from 'node:os';",
    "import Redis from 'ioredis';",
    "import { Command } from 'ioredis/built/Command.js';",
    "import { z } from 'zod/v4';",
    "import { a } from 'a-library-that-is-not-listed';",
    "import { a } from '@scope/library';",
    "import { a } from '#collect';",
    "import { a } from 'peerscope';",
    "import { a } from '/etc/a.js';",
    "import { a } from 'data:text/javascript,export const a = 1';",
  ])('metrics may not write %s', async (text) => {
    expect(await messagesOf('metrics/x.ts', text)).toEqual([
      expect.stringContaining('"metrics/x.ts" may not import') as string,
    ]);
  });

  test.each([
    "import crypto from 'node:crypto';",
    "import * as crypto from 'node:crypto';",
    "export * from 'node:crypto';",
    "const { createHash } = await import('node:crypto');",
  ])('no file may import node:crypto as a whole: %s', async (text) => {
    expect(await messagesOf('web/page/style.ts', text)).toContain(
      '"web/page/style.ts" may not import "node:crypto#randomUUID": see DOORS in lint/rooms.ts.',
    );
  });
});

describe('the clock, random numbers and the environment', () => {
  const WAYS = {
    clock: [
      'Date.now();',
      "Date['now']();",
      'Date?.now();',
      'Date[name]();',
      'new Date();',
      'new Date;',
      'new Date(...[]);',
      'Date();',
      'const { now } = Date;',
      'const { now: time } = Date;',
      'const { ...rest } = Date;',
      'const clock = Date;',
      'const later = (clock = Date) => clock.now();',
      'Reflect.construct(Date, []);',
      'class Moment extends Date {}',
      'performance.now();',
      'performance.timeOrigin;',
      'const { now } = performance;',
      'Temporal.Now.instant();',
      'const { Now } = Temporal;',
      'process.hrtime();',
      'process.hrtime.bigint();',
      'process.uptime();',
      'new Intl.DateTimeFormat().format();',
      'const { DateTimeFormat } = Intl;',
      'const { hrtime } = process;',
    ],
    chance: [
      'Math.random();',
      "Math['random']();",
      'const { random } = Math;',
      'const random = Math.random;',
      'const math = Math;',
      'crypto.randomUUID();',
      'crypto.getRandomValues(new Uint8Array(1));',
      'crypto.subtle;',
    ],
    environment: [
      'process.env;',
      "process.env['HOME'];",
      "process['env'];",
      'process[name];',
      'const { env } = process;',
      "const { 'env': variables } = process;",
      'const { pid, ...rest } = process;',
      'const me = process;',
      'read(process);',
      'process.loadEnvFile();',
      'process.report.getReport();',
    ],
  };
  const OUTSIDE = ['model.ts', 'metrics/x.ts', 'unusual/recorder.ts', 'collect/x.ts', 'cli/x.ts', 'serve/x.ts'];

  test.each(
    Object.entries(WAYS).flatMap(([kind, ways]) => ways.map((text) => ({ kind: kind as keyof typeof WAYS, text }))),
  )('$kind comes from its files only: $text', async ({ kind, text }) => {
    for (const path of OUTSIDE)
      expect([path, await messagesOf(path, text)]).toEqual([
        path,
        [expect.stringContaining('see AMBIENT in lint/rooms.ts') as string],
      ]);
    // What gives all of a global is more than one kind, and allowed nowhere.
    if (!/process;|process\)|process\[name/.test(text))
      for (const path of AMBIENT[kind]) expect([path, await messagesOf(path, text)]).toEqual([path, []]);
  });

  test.each([
    'globalThis.Date.now();',
    "globalThis['Date'];",
    'global.process;',
    'const { Math: math } = globalThis;',
    "eval('Date.now()');",
    "new Function('return Date.now()');",
    "require('node:path');",
    "await fetch('http://localhost');",
    "new WebSocket('ws://localhost');",
  ])('no file may write %s', async (text) => {
    for (const path of [...OUTSIDE, 'common/clock.ts', 'main.ts'])
      expect(await messagesOf(path, text)).toContainEqual(expect.stringContaining('it hides what a file depends on'));
  });

  test.each([
    'new Date(0).toISOString();',
    'Date.parse(text);',
    'Date.UTC(2026, 0);',
    'const isDate = (value: unknown): value is Date => value instanceof Date;',
    'const later = (now: () => number) => now();',
    'const performance = { now: () => 0 }; performance.now();',
    'interface Clock { now(): number } declare const clock: Clock; clock.now();',
    'Math.max(1, 2);',
    'process.stdout.write(text);',
    'const { stdout, stderr } = process;',
    'const process = { env: {} }; process.env;',
    'let environment: NodeJS.ProcessEnv;',
    'const each = (callback: Function) => callback;',
    "new Intl.Segmenter('en');",
  ])('every file may write %s', async (text) => {
    expect(await messagesOf('metrics/x.ts', text)).toEqual([]);
  });
});

test('no comment in a file of src switches a rule off', async () => {
  const config = (await new ESLint({ cwd: root }).calculateConfigForFile(join(root, 'src/metrics/x.ts'))) as unknown;
  expect(config).toMatchObject({
    linterOptions: { noInlineConfig: true },
    rules: { 'peerscope/rooms': [2], 'peerscope/ambient': [2] },
  });
});

describe('the tables of lint/rooms.ts', () => {
  const files = globSync('**/*.ts', { cwd: join(root, 'src') }).sort();
  const parser = tseslint.parser as unknown as { parseForESLint: (text: string) => ParseResult };
  const imports = files.flatMap((from) => {
    const { ast, visitorKeys } = parser.parseForESLint(readFileSync(join(root, 'src', from), 'utf8'));
    return importsOf(ast, visitorKeys, from).map((found) => ({ ...found, from }));
  });
  const targets = imports.flatMap(({ from, target, isFile }) =>
    isFile && target !== null ? [{ from, to: target }] : [],
  );

  test('name every room of src, and no other', () => {
    expect(Object.keys(ROOMS).sort()).toEqual([...new Set(files.map(roomOf))].sort());
  });

  test('allow no import that no file needs', () => {
    const covers = (entry: string, to: string) => entry === to || entry === roomOf(to);
    const unused = [
      ...Object.entries(ROOMS).flatMap(([room, entries]) =>
        entries
          .filter((entry) => !targets.some(({ from, to }) => roomOf(from) === room && covers(entry, to)))
          .map((entry) => `ROOMS['${room}'] lists "${entry}"`),
      ),
      ...Object.entries(EXCEPTIONS).flatMap(([file, entries]) =>
        entries
          .filter((entry) => !targets.some(({ from, to }) => from === file && covers(entry, to)))
          .map((entry) => `EXCEPTIONS['${file}'] lists "${entry}"`),
      ),
      ...Object.entries(DOORS).flatMap(([door, entries]) =>
        (entries === EVERYWHERE ? [''] : entries)
          .filter(
            (entry) =>
              !imports.some(
                ({ from, target, isFile, names }) =>
                  !isFile &&
                  target !== null &&
                  doorsOf(target, names).includes(door) &&
                  (entry === '' || covers(entry, from)),
              ),
          )
          .map((entry) => `DOORS['${door}'] lists "${entry}"`),
      ),
    ];
    expect(unused).toEqual([]);
  });

  test('allow the clock, random numbers and the environment to no file that does not use them', async () => {
    for (const [kind, paths] of Object.entries(AMBIENT))
      for (const path of paths) {
        const messages = await messagesOf('metrics/x.ts', readFileSync(join(root, 'src', path), 'utf8'));
        const words = { clock: 'the clock', chance: 'random numbers', environment: 'the environment' }[kind] ?? '';
        expect([path, messages.some((message) => message.startsWith(`Pass ${words}`))]).toEqual([path, true]);
      }
  });

  test('have no circle of rooms', () => {
    const below = (room: string, path: readonly string[]): void => {
      expect(path, `a circle: ${[...path, room].join(' → ')}`).not.toContain(room);
      for (const next of new Set(targets.filter(({ from }) => roomOf(from) === room).map(({ to }) => roomOf(to))))
        if (next !== room) below(next, [...path, room]);
    };
    below('main.ts', []);
    below('index.ts', []);
  });
});
