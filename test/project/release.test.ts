import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { looseImages } from '../../lint/base-images.ts';

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
  readonly with?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
}
interface Job {
  readonly 'timeout-minutes'?: number;
  readonly needs?: string | readonly string[];
  readonly if?: string;
  readonly strategy?: { readonly matrix: { readonly include?: readonly Readonly<Record<string, string>>[] } };
  readonly permissions?: Readonly<Record<string, string>>;
  readonly steps: readonly Step[];
}
interface Workflow {
  readonly permissions: Readonly<Record<string, string>>;
  readonly jobs: Readonly<Record<string, Job>>;
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
    const files = runs.flatMap((run) => run.split(' ').filter((word) => /^(?:\.ci|test|CHANGELOG)\b(?!:)/.test(word)));
    expect(files.filter((file) => !existsSync(join(ROOT, file)))).toEqual([]);
  });

  it('runs scripts of packages only in jobs without rights', () => {
    const running = jobs.filter(({ steps }) =>
      steps.some(({ run }) => /\bnpm (?:ci|install|run|test)\b/.test(run ?? '')),
    );
    const granted = running.flatMap(({ permissions = workflow.permissions }) => Object.entries(permissions));
    expect(granted.filter(([, right]) => right !== 'read')).toEqual([]);
  });

  it('publishes the package that was built before, after the images', () => {
    const publishing = jobs.filter(({ steps }) => steps.some(({ run }) => run?.startsWith('npm publish')));
    for (const { needs, steps, if: condition } of publishing) {
      expect(steps.map(({ uses }) => uses).filter((uses) => uses?.startsWith('actions/checkout'))).toEqual([]);
      expect(needs).toEqual(['passed', 'build', 'image']);
      expect(condition).toBe("github.event_name == 'push'");
      const built = workflow.jobs['build']?.steps.flatMap(({ run }) => run ?? []) ?? [];
      const order = [
        'npm ci --ignore-scripts',
        'npm run build',
        'npm run check',
        'mkdir release && npm pack --ignore',
      ].map((command) => built.findIndex((run) => run.startsWith(command)));
      expect(order).toEqual(order.toSorted((a = -1, b = -1) => a - b));
      expect(order[0]).toBeGreaterThanOrEqual(0);
    }
  });

  it('gives the right to publish only to jobs that wait until ci has passed the commit that they check out', () => {
    for (const { needs = [], permissions = {}, steps } of jobs.filter(({ permissions = {} }) =>
      Object.values(permissions).includes('write'),
    )) {
      expect([needs].flat()).toContain('passed');
      expect(Object.keys(permissions).sort()).toEqual(
        steps.some(({ run }) => run?.startsWith('npm publish'))
          ? ['contents', 'id-token']
          : ['contents', 'id-token', 'packages'],
      );
      for (const { uses, with: given } of steps)
        if (uses?.startsWith('actions/checkout')) expect(given?.['ref']).toBe('${{ needs.passed.outputs.commit }}');
      const passed = workflow.jobs['passed']?.steps.flatMap(({ run }) => run ?? []).join('\n') ?? '';
      expect(passed).toContain('gh run list --workflow ci.yml --branch main --commit "$commit" --status success');
      expect(passed).toContain('git merge-base --is-ancestor "$commit" origin/main');
    }
  });

  it('scans an image before it publishes it, and signs it afterwards', () => {
    for (const { steps } of jobs) {
      const pushed = steps.findIndex(({ with: given }) => String(given?.['push']) === 'true');
      if (pushed < 0) continue;
      const scanned = steps.findIndex(({ uses }) => uses?.startsWith('aquasecurity/trivy-action'));
      const signed = steps.findIndex(({ run }) => run?.startsWith('cosign sign'));
      expect(scanned).toBeGreaterThan(0);
      expect(pushed).toBeGreaterThan(scanned);
      expect(signed).toBeGreaterThan(pushed);
      expect(steps[scanned]?.with).toMatchObject({ 'exit-code': '1' });
      expect(steps[pushed]?.with).toMatchObject({ provenance: 'mode=max', sbom: true });
      const args = steps[pushed]?.with?.['build-args']?.match(/^\w+(?==)/gm);
      const wanted = [...textOf('Dockerfile').matchAll(/^ARG (\w+)/gm)].map(([, name = '']) => name);
      expect(new Set(args)).toEqual(new Set(wanted));
    }
  });

  it('builds images only from base images with a digest', () => {
    for (const { steps } of jobs.filter(({ steps }) =>
      steps.some(({ uses }) => uses?.startsWith('docker/build-push')),
    )) {
      const checked = steps.findIndex(({ run }) => run?.startsWith('node lint/base-images.ts "$BUILD" "$BASE"'));
      const builds = steps.findIndex(({ uses }) => uses?.startsWith('docker/build-push'));
      expect(checked).toBeGreaterThanOrEqual(0);
      expect(builds).toBeGreaterThan(checked);
      for (const { uses, with: given } of steps.filter(({ uses }) => uses?.startsWith('docker/build-push'))) {
        const bases = given?.['build-args']?.split('\n').filter((line) => /^(?:BUILD|BASE)=/.test(line));
        expect(bases, uses).toEqual(['BUILD', 'BASE'].map((name) => `${name}=${steps[checked]?.env?.[name]}`));
      }
    }
  });

  it('pastes no text of a pull request into a shell', () => {
    const pasted = runs.flatMap((run) => [...run.matchAll(/\$\{\{\s*([^}]*?)\s*\}\}/g)].map(([, what = '']) => what));
    expect(pasted.filter((what) => !['github.repository', 'steps.build.outputs.digest'].includes(what))).toEqual([]);
  });
});

describe('the tags of the image', () => {
  const { jobs } = parse(textOf('.github/workflows/release.yml')) as Workflow;
  const { version } = PACKAGE;
  const published = (jobs['image']?.strategy?.matrix.include ?? []).map(({ suffix = '' }) => `${version}${suffix}`);

  it('are the version, with the variant unless it is the default one', () => {
    expect(published.toSorted()).toEqual([version, `${version}-none`, `${version}-search`]);
    const [tag] = jobs['image']?.steps.flatMap(({ with: given }) => (given?.['push'] ? [given['tags']] : [])) ?? [];
    expect(tag).toBe('ghcr.io/${{ github.repository }}:${{ needs.passed.outputs.version }}${{ matrix.suffix }}');
    const [, last] = /.*^FROM settings AS (\w+)$/ms.exec(textOf('Dockerfile')) ?? [];
    expect(jobs['image']?.strategy?.matrix.include?.find(({ suffix }) => suffix === '')?.['variant']).toBe(last);
    expect(textOf('Dockerfile')).toMatch(new RegExp(`^ARG VERSION=${version}$`, 'm'));
  });

  it.each(globSync(['deploy/**/*.{yaml,yml}', 'docs/**/*.md', 'README.md'], { cwd: ROOT }).sort())(
    'in %s are those that a release publishes',
    (path) => {
      const tags = textOf(path).matchAll(/\bpeerscope:(\d[\d.]*(?:-\w+)?)|newTag: (\d[\d.]*(?:-\w+)?)/g);
      const found = [...tags].map(([, tag, newTag]) => tag ?? newTag).filter((tag) => tag !== '10043');
      expect(found.filter((tag) => tag === undefined || !published.includes(tag))).toEqual([]);
    },
  );
});

describe('the dependency bot', () => {
  it('watches everything that this repository takes from others', () => {
    const { updates } = parse(textOf('.github/dependabot.yml')) as {
      updates: readonly { 'package-ecosystem': string; schedule: unknown }[];
    };
    expect(updates.map((one) => one['package-ecosystem']).sort()).toEqual([
      'docker',
      'docker-compose',
      'github-actions',
      'npm',
    ]);
  });
});

describe('a base image', () => {
  const digest = `sha256:${'0123456789abcdef'.repeat(4)}`;
  it.each([
    [`docker.io/library/node@${digest}`, true],
    [`docker.io/library/node:24-trixie-slim@${digest}`, true],
    [`localhost:5000/node@${digest}`, true],
    ['docker.io/library/node:24-trixie-slim', false],
    ['gcr.io/distroless/nodejs24-debian13:nonroot', false],
    [`node@${digest.slice(0, -1)}`, false],
    [`node@${digest}0`, false],
    [`node@sha512:${'0'.repeat(64)}`, false],
    [`node:${digest}`, false],
    [`node:latest # @${digest}`, false],
    ['', false],
  ])('%j has a digest: %j', (image, hasDigest) => {
    expect(looseImages([image])).toEqual(hasDigest ? [] : [image]);
  });

  it.each([
    [[`node@${digest}`, `base@${digest}`], 0],
    [[`node@${digest}`, 'base:latest'], 1],
    [['', ''], 1],
    [[], 1],
  ])('is refused by the lint without one: %j ends with %d', (images, status) => {
    const run = spawnSync(process.execPath, [join(ROOT, 'lint/base-images.ts'), ...images]);
    expect(run.status).toBe(status);
  });
});
