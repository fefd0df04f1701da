/**
 * Builds dist from src and native: `node build.js`. With --if-needed it does so only if dist is missing or older than its source, and with
 * --if-installed only if the TypeScript compiler is installed, which `npm ci --omit=dev` leaves out.
 * dist/.built is as old as the start of the build, so that a file edited meanwhile counts as newer.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { buildAgent } from './native/build.js';

const ROOT = import.meta.dirname;
const DIST = join(ROOT, 'dist');
const TSC = join(ROOT, 'node_modules/typescript/bin/tsc');
const SOURCES = ['package.json', 'bundle.ts', 'tsconfig.json', 'tsconfig.build.json', 'src', 'native'];

/** When a file, or the newest entry of a folder, changed; a folder changes when an entry is added or removed. */
function changedAt(path) {
  const own = statSync(path);
  const below = own.isDirectory() ? readdirSync(path).map((name) => changedAt(join(path, name))) : [];
  return Math.max(own.mtimeMs, ...below);
}

function isCurrent() {
  const built = statSync(join(DIST, '.built'), { throwIfNoEntry: false });
  return built !== undefined && SOURCES.every((name) => changedAt(join(ROOT, name)) <= built.mtimeMs);
}

async function build() {
  rmSync(DIST, { recursive: true, force: true });
  mkdirSync(DIST);
  writeFileSync(join(DIST, '.building'), '');
  // Standard output belongs to the command that npm start runs.
  execFileSync(process.execPath, [TSC, '-p', join(ROOT, 'tsconfig.build.json')], { stdio: ['ignore', 2, 2] });
  const { bundle } = await import('./bundle.ts');
  await bundle(DIST);
  writeFileSync(join(DIST, 'peerscope.1'), execFileSync(process.execPath, [join(DIST, 'main.js'), 'man']));
  buildAgent(join(DIST, 'peerscope-sockets'));
  renameSync(join(DIST, '.building'), join(DIST, '.built'));
}

/** Says in one line that npm runs on a Node.js that is too old. The warnings of npm, five lines for each package, are off in .npmrc. */
function explainOldNode() {
  const [, ofNpm] = /node\/v(\S+)/.exec(process.env.npm_config_user_agent ?? '') ?? [];
  if (ofNpm === undefined || !isOld(ofNpm)) return;
  const own = process.versions.node;
  const help = isOld(own)
    ? ''
    : `: npm start and the other scripts run on Node.js ${own}, which npm ci installed in node_modules`;
  process.stderr.write(`peerscope needs Node.js 22.15 or newer, and npm runs on ${ofNpm}${help}\n`);
}

function isOld(version) {
  const [major, minor] = version.split('.').map(Number);
  return major < 22 || (major === 22 && minor < 15);
}

const wants = (flag) => process.argv.includes(flag);
if (wants('--if-installed')) explainOldNode();
if (wants('--if-installed') && !existsSync(TSC)) {
  process.stderr.write('dist is not built: the development dependencies are not installed\n');
} else if (!wants('--if-needed') || !isCurrent()) {
  try {
    await build();
  } catch (error) {
    if (error.status === undefined) throw error;
    process.exitCode = 1;
  }
}
