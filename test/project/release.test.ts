import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const ROOT = join(import.meta.dirname, '../..');
const textOf = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const jsonOf = (path: string): unknown => JSON.parse(textOf(path));

interface Locked {
  readonly dev?: boolean;
  readonly version?: string;
  readonly license?: string;
  readonly hasInstallScript?: boolean;
  readonly resolved?: string;
  readonly integrity?: string;
}

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

const PACKAGE = jsonOf('package.json') as Manifest;
const { packages } = jsonOf('package-lock.json') as { readonly packages: Readonly<Record<string, Locked>> };
/** What is installed with the program, by the folder: all but itself and what only development needs. */
const SHIPPED = Object.entries(packages).filter(([folder, { dev }]) => folder !== '' && dev !== true);

/** Licences that ask for no more than their text and their notices to be kept. */
const LICENSES = ['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'BlueOak-1.0.0', 'ISC', 'MIT'];

/** The license in the lock file, or else in the package itself. */
function licenseOf(folder: string, { license }: Locked): string {
  if (license !== undefined) return license;
  const { license: own } = jsonOf(join(folder, 'package.json')) as { readonly license?: string };
  return own ?? 'none';
}

describe('the runtime dependencies', () => {
  it('are listed in the lock file', () => {
    expect(SHIPPED.length).toBeGreaterThanOrEqual(Object.keys(PACKAGE.dependencies).length);
  });

  it('have licenses that require only a notice', () => {
    const others = SHIPPED.map(([folder, locked]) => [folder, licenseOf(folder, locked)] as const).filter(
      ([, license]) => !LICENSES.includes(license),
    );
    expect(others).toEqual([]);
  });

  it('run no script when they are installed', () => {
    expect(SHIPPED.filter(([, { hasInstallScript }]) => hasInstallScript === true)).toEqual([]);
    const own = Object.keys(PACKAGE.scripts).filter((name) => /^(?:pre|post)?install$/.test(name));
    expect(own).toEqual([]);
  });

  it('contain nothing that must be compiled', () => {
    expect(SHIPPED.filter(([folder]) => existsSync(join(ROOT, folder, 'binding.gyp')))).toEqual([]);
  });

  it('are pinned to a version and a hash', () => {
    expect(Object.values(PACKAGE.dependencies).filter((version) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
    const loose = SHIPPED.filter(([, { integrity = '', resolved }]) => !integrity.startsWith('sha512-') || resolved);
    expect(loose).toEqual([]);
  });
});

interface Step {
  readonly uses?: string;
  readonly run?: string;
}
interface Workflow {
  readonly permissions: Readonly<Record<string, string>>;
  readonly jobs: Readonly<Record<string, { readonly 'timeout-minutes'?: number; readonly steps: readonly Step[] }>>;
}

describe.each(globSync('.github/workflows/*', { cwd: ROOT }).sort())('%s', (path) => {
  const workflow = parse(textOf(path), { strict: true, version: '1.2' }) as Workflow;
  const jobs = Object.values(workflow.jobs);
  const steps = jobs.flatMap((job) => job.steps);
  const runs = steps.flatMap(({ run }) => run ?? []);

  it('has read-only permissions except per job, and every job has a timeout', () => {
    expect(workflow.permissions).toEqual({ contents: 'read' });
    expect(jobs.filter((job) => job['timeout-minutes'] === undefined)).toEqual([]);
  });

  it('pins each action to a commit, with its tag in a comment, because tags can move', () => {
    const lines = textOf(path).match(/uses: .*/g) ?? [];
    expect(lines).toHaveLength(steps.filter(({ uses }) => uses !== undefined).length);
    expect(lines.filter((line) => !/^uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(line))).toEqual([]);
  });

  it('uses only existing scripts and files', () => {
    const scripts = runs.flatMap((run) => [...run.matchAll(/npm run ([\w:-]+)/g)].map(([, name = '']) => name));
    expect(scripts.filter((name) => !(name in PACKAGE.scripts))).toEqual([]);
    const files = runs.flatMap((run) => run.split(' ').filter((word) => /^(?:\.ci|test|CHANGELOG)\b/.test(word)));
    expect(files.filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
  });

  it('builds before it publishes, because --ignore-scripts skips prepare', () => {
    const publishing = Object.values(workflow.jobs)
      .map(({ steps }) => steps.flatMap(({ run }) => run ?? []))
      .filter((runs) => runs.some((run) => run.startsWith('npm publish')));
    for (const runs of publishing) {
      const [install, build, publish] = [
        'npm ci --ignore-scripts',
        'npm run build',
        'npm publish --ignore-scripts',
      ].map((command) => runs.findIndex((run) => run.startsWith(command)));
      expect([install, build, publish]).toEqual([install, build, publish].toSorted((a = -1, b = -1) => a - b));
      expect(install).toBeGreaterThanOrEqual(0);
    }
  });

  it('pastes no text of a pull request into a shell', () => {
    const pasted = runs.flatMap((run) => [...run.matchAll(/\$\{\{\s*([^}]*?)\s*\}\}/g)].map(([, what = '']) => what));
    expect(pasted.filter((what) => !['github.repository', 'steps.build.outputs.digest'].includes(what))).toEqual([]);
  });
});
