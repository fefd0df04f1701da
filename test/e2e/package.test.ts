import { execFileSync } from 'node:child_process';
import {
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const TREE = join(ROOT, 'test/fixtures/proc/plain-host');
const TEXT = join(ROOT, 'test/fixtures/text/ss-tunap.out');

const folder = mkdtempSync(join(tmpdir(), 'peerscope-package-'));
afterAll(() => rmSync(folder, { recursive: true }));

const run = (command: string, args: readonly string[], cwd = folder): string =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

describe('the packed package, installed with only its dependencies', () => {
  beforeAll(() => {
    run('npm', ['run', 'build'], ROOT);
    run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], ROOT);
    const installed = join(folder, 'node_modules/peerscope');
    mkdirSync(installed, { recursive: true });
    const [archive = ''] = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
    run('tar', ['-xzf', archive, '-C', installed, '--strip-components=1']);
    const dependencies = run('npm', ['ls', '--omit=dev', '--all', '--parseable'], ROOT).trim().split('\n').slice(1);
    for (const path of dependencies) {
      const to = join(folder, relative(ROOT, path));
      // What is nested in another dependency comes with the link to that one.
      if (/node_modules.*node_modules/.test(relative(ROOT, path))) continue;
      mkdirSync(dirname(to), { recursive: true });
      symlinkSync(path, to);
    }
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  });

  it('holds only the program, its types, its manual page, the source of the socket agent, and README, LICENSE and CHANGELOG', () => {
    const [archive = ''] = readdirSync(folder).filter((name) => name.endsWith('.tgz'));
    const files = run('tar', ['-tzf', archive]).trim().split('\n').sort();
    const others = files.filter((file) => !/^package\/dist\/(?:chunks\/[\w-]+\.js|[\w/-]+\.d\.ts)$/.test(file));
    const FIRST = [
      'CHANGELOG.md',
      'LICENSE',
      'README.md',
      'dist/LICENSES.txt',
      'dist/collect/read-worker.js',
      'dist/enrich/asn/database-worker.js',
      'dist/expose/otlp.js',
      'dist/index.js',
      'dist/main.js',
      'dist/peerscope.1',
      'dist/serve/worker.js',
      'dist/web/bcrypt-worker.js',
      'native/sockets.c',
      'package.json',
    ];
    expect(others).toEqual(FIRST.map((file) => `package/${file}`));
    // As many types as sources: nothing is left over from an earlier build.
    const sources = globSync('src/**/*.ts', { cwd: ROOT, exclude: ['**/*.d.ts'] });
    expect(files.filter((file) => file.endsWith('.d.ts'))).toHaveLength(sources.length);
    expect(statSync(join(folder, archive)).size).toBeLessThan(640 * 1024);
  });

  it('exports its four functions', () => {
    const program = `
      import { readFileSync } from 'node:fs';
      import { events, filter, parse, scan } from 'peerscope';
      const rows = await scan({ procfs: ${JSON.stringify(TREE)} });
      const parsed = parse(readFileSync(${JSON.stringify(TEXT)}));
      const signal = AbortSignal.timeout(50);
      const happened = [];
      for await (const event of events({ procfs: ${JSON.stringify(TREE)}, intervalMs: 10, signal })) happened.push(event);
      const listeners = rows.filter(filter('state=listen')).length;
      console.log(JSON.stringify({ rows: rows.length, listeners, parsed: parsed.rows.length, happened }));`;
    writeFileSync(join(folder, 'program.js'), program);
    const said = JSON.parse(run(process.execPath, ['program.js'])) as Record<string, unknown>;
    const listed = JSON.parse(
      run(process.execPath, ['node_modules/peerscope/dist/main.js', 'list', '-o', 'json', `--path.procfs=${TREE}`]),
    ) as { state: string }[];
    const listeners = listed.filter(({ state }) => state === 'listen').length;
    expect(said).toEqual({ rows: listed.length, listeners, parsed: 28, happened: [] });
    expect(listeners).toBeGreaterThan(0);
  });

  it('exports the types of rows, events and errors', () => {
    const program = `
      import { events, filter, parse, scan, type ConnectionEvent, type ErrorRow, type Row } from 'peerscope';
      const rows: Row[] = await scan({ source: 'ss' });
      const ports: (number | null)[] = rows.filter(filter('state=listen')).map((row) => row.local_port);
      const wrong: ErrorRow[] = parse('').malformed;
      // @ts-expect-error a state that there is not
      const open = rows.filter((row) => row.state === 'open');
      // @ts-expect-error a source that there is not
      void scan({ source: 'lsof' });
      for await (const event of events({ intervalMs: 10 })) {
        const kind: 'opened' | 'state' | 'owner' | 'closed' = event.event;
        const at: ConnectionEvent['at'] = event.at;
        void [at, kind];
      }
      export { open, ports, wrong };`;
    writeFileSync(join(folder, 'typed.ts'), program);
    const compilerOptions = { noEmit: true, strict: true, module: 'nodenext', target: 'es2024', types: [] };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['typed.ts'] }));
    expect(run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', folder])).toBe('');
  });

  it('runs with npx offline and includes its manual page', () => {
    run('npm', ['rebuild', '--offline', 'peerscope']);
    const top = ['top', '--limit', '1', `--path.procfs=${TREE}`, '--asn.provider=none'];
    const shown = run('npx', ['--offline', '--no', 'peerscope', ...top]);
    expect(shown).toMatch(/^orders\.py {2}6 connections: 5 established, 1 syn_sent$/m);
    expect(shown).toMatch(/^orders\.py +6 +█+/m);
    expect(run('npx', ['--offline', '--no', 'peerscope', 'list', '--help'])).toContain('time_wait');
    expect(readFileSync(join(folder, 'node_modules/peerscope/dist/peerscope.1'), 'utf8')).toContain(
      '.SS watch endpoints',
    );
  });

  it('exports nothing else', () => {
    writeFileSync(join(folder, 'inside.js'), "await import('peerscope/dist/scrape.js');");
    expect(() => run(process.execPath, ['inside.js'])).toThrow('ERR_PACKAGE_PATH_NOT_EXPORTED');
  });
});

it('npm run sbom lists every installed package with its version and license', () => {
  run('npm', ['run', 'sbom'], ROOT);
  const bom = JSON.parse(readFileSync(join(ROOT, 'sbom.cdx.json'), 'utf8')) as {
    readonly bomFormat: string;
    readonly components: readonly { readonly purl: string; readonly licenses: readonly unknown[] }[];
  };
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly version: string }>>;
  };
  const shipped = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true);
  const names = shipped.map(([path, { version }]) => {
    const name = path.replace(/^.*node_modules\//, '').replace('@', '%40');
    return `pkg:npm/${name}@${version}`;
  });
  expect(bom.bomFormat).toBe('CycloneDX');
  expect(bom.components.map(({ purl }) => purl).sort()).toEqual([...new Set(names)].sort());
  expect(bom.components.filter(({ licenses }) => licenses.length === 0)).toEqual([]);
});
