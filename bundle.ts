/**
 * Bundles src: each entry keeps its path below dist, and what entries share is in dist/chunks. Names are kept, so that the output can be
 * read. Libraries that every start of the exporter needs are part of it; those that few runs need stay in node_modules.
 */
import { globSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join, posix, relative, sep } from 'node:path';
import { rolldown, type GetModuleInfo, type Plugin } from 'rolldown';

const ROOT = import.meta.dirname;
const BUNDLED = ['commander', 'pino', 'prom-client', 'router'];

/** The program, the library, and the programs of threads: new URL(`./worker.${extension}`, import.meta.url) in the source names them. */
function entriesOf(src: string): string[] {
  const threads = globSync('**/*.ts', { cwd: src }).flatMap((module) =>
    [...readFileSync(join(src, module), 'utf8').matchAll(/new URL\(`(\.{1,2}\/[\w/-]+)\.\$\{extension\}`/g)].map(
      ([, path = '']) => join(dirname(module), path),
    ),
  );
  return [...globSync('{main,index}.ts', { cwd: src }).map((module) => module.replace(/\.ts$/, '')), ...threads];
}

/** Writes the bundle to `output`. */
export async function bundle(output: string): Promise<void> {
  const src = join(ROOT, 'src');
  const build = await rolldown({
    cwd: ROOT,
    input: Object.fromEntries(entriesOf(src).map((entry) => [entry, join(src, `${entry}.ts`)])),
    platform: 'node',
    preserveEntrySignatures: 'allow-extension',
    external: (id, importer) => isBuiltin(id) || isExternalPackage(id, importer),
    plugins: [keepModulePaths(src), loadBuiltinsLazily()],
  });
  try {
    const { output: files } = await build.generate({
      format: 'esm',
      chunkFileNames: 'chunks/[name].js',
      codeSplitting: {
        includeDependenciesRecursively: false,
        groups: [{ name: groupNames(src), debugName: 'starts' }],
      },
      // The threads hold the text of what they run.
      comments: { legal: true, jsdoc: false, annotation: false },
    });
    for (const file of files) {
      const path = join(output, file.fileName);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, file.type === 'chunk' ? withoutWideCharacters(file.code) : file.source);
    }
    const modules = files.flatMap((file) => (file.type === 'chunk' ? file.moduleIds : []));
    writeFileSync(join(output, 'LICENSES.txt'), licensesOf(modules));
  } finally {
    await build.close();
  }
}

/**
 * Modules that the same ones of these need at once are in one file: each file costs a start 0.5 ms of CPU time. All others are split by
 * the entries and dynamic imports that need them.
 */
const STARTS: Readonly<Record<string, readonly string[]>> = {
  main: [
    'main',
    'config/config',
    'config/flags',
    'common/errors',
    'common/sanitize',
    'cli/commands',
    'cli/process-title',
  ],
  serve: ['serve/serve'],
  worker: ['serve/worker'],
  list: ['cli/list', 'cli/run-view'],
};

/** The name of the file of a module: that of the starts that need it; null if none does. */
function groupNames(src: string): (id: string, context: { readonly getModuleInfo: GetModuleInfo }) => string | null {
  let needed: Map<string, string> | null = null;
  return (id, context) => {
    needed ??= neededBy(src, (module) => context.getModuleInfo(module));
    return needed.get(id) ?? null;
  };
}

/** The starts that need each module, as a name. The entries of the program and its threads are files of their own. */
function neededBy(src: string, getModuleInfo: GetModuleInfo): Map<string, string> {
  const needed = new Map<string, string[]>();
  for (const [start, modules] of Object.entries(STARTS)) {
    const left = modules.map((module) => join(src, `${module}.ts`));
    const seen = new Set<string>();
    for (let id = left.pop(); id !== undefined; id = left.pop()) {
      if (seen.has(id)) continue;
      seen.add(id);
      left.push(...(getModuleInfo(id)?.importedIds ?? []));
      if (getModuleInfo(id)?.isEntry !== true) needed.set(id, [...(needed.get(id) ?? []), start]);
    }
  }
  // The thread of `serve` and `list` has what main needs.
  const isOwn = (starts: readonly string[]) => (start: string) =>
    !starts.includes('main') || start === 'main' || start === 'worker';
  return new Map([...needed].map(([id, starts]) => [id, starts.filter(isOwn(starts)).join('-')]));
}

/** The licenses of the bundled packages. */
function licensesOf(modules: readonly string[]): string {
  const folders = modules.map((id) => /^\/.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(id)?.[0]);
  const texts = [...new Set(folders)].sort().flatMap((folder) => {
    if (folder === undefined) return [];
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
      readonly name: string;
      readonly version: string;
      readonly license?: string;
    };
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    const text =
      file === undefined ? `License: ${license ?? 'see its package.json'}` : readFileSync(join(folder, file), 'utf8');
    return [`${name} ${version}\n\n${text.trim()}\n`];
  });
  return texts.join('\n\n');
}

/** Packages that are not bundled, where this program imports them; a bundled package has its dependencies in the bundle. */
function isExternalPackage(id: string, importer = ''): boolean {
  if (/^[./\0]/.test(id) || importer.includes('/node_modules/')) return false;
  return !BUNDLED.some((name) => id === name || id.startsWith(`${name}/`));
}

/** Gives each module the path and URL that it would have without a bundle. */
function keepModulePaths(src: string): Plugin {
  return {
    name: 'keep-module-paths',
    transform(code, id) {
      if (!id.startsWith(src) || !code.includes('import.meta.')) return null;
      const path = relative(src, id).split(sep).join('/').replace(/\.ts$/, '.js');
      return { code: code.replaceAll(/import\.meta\.(url|dirname|filename)/g, `MODULE("$1", "${path}")`), map: null };
    },
    renderChunk(code, { fileName }) {
      return code.replaceAll(/MODULE\("(\w+)", "([^"]+)"\)/g, (_call, property: string, path: string) => {
        const file = posix.relative(posix.dirname(fileName), path);
        if (property === 'url') return `new URL("./${file}", import.meta.url).href`;
        return `(import.meta.dirname + "/${property === 'dirname' ? posix.dirname(file) : file}")`;
      });
    },
  };
}

/**
 * Gets the modules of Node.js without import statements: these read every export of a module, and reading some of them loads many
 * more modules.
 */
function loadBuiltinsLazily(): Plugin {
  const IMPORT = /^import (?:\* as )?([\w$]+)?(?:, )?(\{[^}]*\})? ?from "(node:[\w/]+)";$/gm;
  return {
    name: 'load-builtins-lazily',
    renderChunk(code) {
      return code.replaceAll(
        IMPORT,
        (_statement, whole: string | undefined, names: string | undefined, module: string) =>
          [whole, names?.replaceAll(' as ', ': ')]
            .filter((pattern) => pattern !== undefined)
            .map((pattern) => `const ${pattern} = globalThis.process.getBuiltinModule("${module}");`)
            .join('\n'),
      );
    },
  };
}

/** V8 stores a text with any character above U+00FF with two bytes for each character. */
function withoutWideCharacters(code: string): string {
  return code.replaceAll(/[^\0-\xff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
