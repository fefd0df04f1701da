import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { filesOf, parseDocuments, ROOT, type Manifest } from './manifests.ts';

/** Where .ci/run unpacks tools. */
export const TOOLS = join(ROOT, '.cache/deploy/usr');

/** The first of these commands that can be started; where none can, says so. */
export function findCommand(what: string, commands: readonly (readonly string[])[]): readonly string[] | null {
  const found = commands.find(([command = '', ...args]) => !spawnSync(command, [...args, '--help']).error);
  if (found) return found;
  process.stderr.write(`SKIPPED: ${what} is neither installed nor in ${join(ROOT, '.cache')}; .ci/run fetches it\n`);
  return null;
}

export const KUSTOMIZE = findCommand('kustomize', [
  [join(TOOLS, 'bin/kustomize'), 'build'],
  ['kustomize', 'build'],
  ['kubectl', 'kustomize'],
]);

export const COMPONENTS = filesOf('deploy/k8s/components/*/kustomization.yaml').map((path) => basename(dirname(path)));

/** What `kustomize build` makes of a folder. */
export function build(folder: string): Manifest[] {
  const [command = '', ...args] = KUSTOMIZE ?? [];
  const { status, stdout, stderr } = spawnSync(command, [...args, folder], { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`Cannot build "${folder}": ${stderr}`);
  return parseDocuments<Manifest>(stdout);
}

/** A folder for overlays, as users make them beside a checkout. */
export class OverlayFolder {
  readonly #path = mkdtempSync(join(tmpdir(), 'peerscope-kustomize-'));

  /** A path of deploy/k8s, as an overlay refers to it. */
  below(path: string): string {
    return relative(this.#path, join(ROOT, 'deploy/k8s', path));
  }

  build(overlay: object): Manifest[] {
    const header = { apiVersion: 'kustomize.config.k8s.io/v1beta1', kind: 'Kustomization' };
    writeFileSync(join(this.#path, 'kustomization.yaml'), JSON.stringify({ ...header, ...overlay }));
    return build(this.#path);
  }

  /** The base with components. Those of platforms come last, as their comments say. */
  compose(components: readonly string[], more: object = { namespace: 'peerscope' }): Manifest[] {
    const isPlatform = (component: string): boolean => /^(openshift|gke-autopilot)/.test(component);
    const ordered = [...components.filter((name) => !isPlatform(name)), ...components.filter(isPlatform)];
    const taken = ordered.map((component) => this.below(`components/${component}`));
    return this.build({ resources: [this.below('base')], components: taken, ...more });
  }

  close(): void {
    rmSync(this.#path, { recursive: true });
  }
}
