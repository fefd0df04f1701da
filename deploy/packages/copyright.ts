import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The licenses of what a package contains: of peerscope, of each dependency, and where those of Node.js are. */
export function copyrightText(root: string, dependencies: readonly string[], nodeVersion: string): string {
  const parts = dependencies.map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8')) as {
      readonly name: string;
      readonly version: string;
      readonly license?: string;
    };
    const [file] = readdirSync(join(root, folder)).filter((entry) => /^licen[cs]e/i.test(entry));
    const text =
      file === undefined
        ? `License: ${license ?? 'see its package.json'}\n`
        : readFileSync(join(root, folder, file), 'utf8');
    return { title: `${name} ${version}`, text };
  });
  const all = [
    { title: 'peerscope', text: readFileSync(join(root, 'LICENSE'), 'utf8') },
    {
      title: `Node.js ${nodeVersion}`,
      text: `MIT, with the licenses of its parts: https://github.com/nodejs/node/blob/v${nodeVersion}/LICENSE\n`,
    },
    ...parts,
  ];
  return all.map(({ title, text }) => `${title}\n${'='.repeat(title.length)}\n\n${text.trim()}\n`).join('\n\n');
}
