/** `npm run sbom`: writes sbom.cdx.json (CycloneDX) with all packages that are installed with peerscope, as pinned by the lockfile. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

interface Bom {
  readonly metadata: { readonly component: { name: string } };
  components: readonly {
    readonly 'bom-ref': string;
    readonly properties: readonly { readonly name: string; readonly value: string }[];
  }[];
  dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

const ROOT = new URL('..', import.meta.url);
const COMMAND = 'npm sbom --sbom-format=cyclonedx --sbom-type=application --package-lock-only';
const bom = JSON.parse(execFileSync(COMMAND, { cwd: ROOT, encoding: 'utf8', shell: true, stdio: 'pipe' })) as Bom;

// npm's --omit=dev also omits runtime packages that a tool has as a peer dependency, such as yaml.
bom.components = bom.components.filter(
  ({ properties }) => !properties.some(({ name }) => name === 'cdx:npm:package:development'),
);
const own = JSON.parse(readFileSync(new URL('package.json', ROOT), 'utf8')) as { name: string; version: string };
const kept = new Set([`${own.name}@${own.version}`, ...bom.components.map((component) => component['bom-ref'])]);
bom.dependencies = bom.dependencies
  .filter(({ ref }) => kept.has(ref))
  .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((other) => kept.has(other)) }));
// npm calls it after the folder that it lies in.
bom.metadata.component.name = own.name;
writeFileSync(new URL('sbom.cdx.json', ROOT), `${JSON.stringify(bom, null, 2)}\n`);
