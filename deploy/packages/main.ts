/**
 * `npm run package`: writes a .deb, an .rpm and a .tar.gz with the program, its dependencies and a Node.js of its own to the folder
 * packages. dpkg-deb and rpmbuild must be installed; the Debian package "rpm" has the latter. The packages are for the architecture of
 * this machine. The same checkout gives the same bytes, with the same versions of the tools.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { copyrightText } from './copyright.ts';

const ROOT = join(import.meta.dirname, '../..');
const OUTPUT = join(ROOT, 'packages');
const HERE = import.meta.dirname;
/** The Node.js of nodejs.org that npm ci installs. That of a distribution may need libraries of its own. */
const NODE = join(ROOT, 'node_modules/node/bin/node');
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
/** The names of this architecture in Debian, in RPM and in Node.js. */
const ARCHITECTURES: Readonly<Record<string, readonly [deb: string, rpm: string]>> = {
  x64: ['amd64', 'x86_64'],
  arm64: ['arm64', 'aarch64'],
};
/** What no program reads: folders of a dependency, and files. Packages below its node_modules are listed on their own. */
const NOT_PROGRAM = [
  'node_modules',
  'test',
  'tests',
  'benchmark',
  'benchmarks',
  'example',
  'examples',
  'docs',
  '.github',
];
const UNUSED = /\.(?:map|d\.[cm]?ts)$|^(?:\.built|peerscope\.1)$/;

const run = (command: string, args: readonly string[], epoch: string): void =>
  void execFileSync(command, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, SOURCE_DATE_EPOCH: epoch },
  });

/** Writes a file with these permissions whatever the umask is, and the folders above it. */
function write(path: string, text: string | Uint8Array, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, mode);
}

const copyFile = (from: string, to: string, mode = 0o644): void => write(to, readFileSync(from), mode);

/** The folders of the packages that the program needs, as the lock file lists them. */
function dependencies(): string[] {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly optional?: boolean }>>;
  };
  return Object.entries(packages).flatMap(([folder, { dev }]) => (folder === '' || dev === true ? [] : [folder]));
}

/** Below `usr`, what is the same in every package: bin, lib and share. */
function stageProgram(usr: string): void {
  const lib = join(usr, 'lib/peerscope');
  const isUsed = (path: string): boolean => !UNUSED.test(basename(path));
  copyFile(join(HERE, 'peerscope'), join(usr, 'bin/peerscope'), 0o755);
  copyFile(NODE, join(lib, 'node'), 0o755);
  copyFile(join(ROOT, 'package.json'), join(lib, 'package.json'));
  cpSync(join(ROOT, 'dist'), join(lib, 'dist'), { recursive: true, filter: isUsed });
  for (const folder of dependencies()) {
    const skipped = NOT_PROGRAM.map((name) => join(ROOT, folder, name));
    const filter = (path: string): boolean => isUsed(path) && !skipped.includes(path);
    cpSync(join(ROOT, folder), join(lib, folder), { recursive: true, filter });
  }
  const program = join(ROOT, 'dist/main.js');
  const nodeVersion = execFileSync(NODE, ['--version'], { encoding: 'utf8' }).trim().slice(1);
  const printed = (...args: string[]): Buffer => execFileSync(NODE, [program, ...args]);
  write(join(usr, 'share/man/man1/peerscope.1.gz'), gzipSync(printed('man'), { level: 9 }));
  write(join(usr, 'share/bash-completion/completions/peerscope'), printed('completion', 'bash'));
  write(join(usr, 'share/zsh/site-functions/_peerscope'), printed('completion', 'zsh'));
  write(join(usr, 'share/fish/vendor_completions.d/peerscope.fish'), printed('completion', 'fish'));
  write(join(usr, 'share/doc/peerscope/copyright'), copyrightText(ROOT, dependencies(), nodeVersion));
}

/** What only an installed package has: units, user, configuration. */
function stageSystem(root: string): void {
  const units = join(root, 'usr/lib/systemd/system');
  const unit = readFileSync(join(ROOT, 'deploy/systemd/peerscope.service'), 'utf8')
    .replace(/^# For the \.tar\.gz .*\n/, '')
    .replace(/^ExecStart=.*$/m, 'ExecStart=/usr/bin/peerscope serve');
  write(join(units, 'peerscope.service'), unit);
  for (const name of ['peerscope.socket', 'peerscope-dump.socket', 'peerscope-ended.socket'])
    copyFile(join(ROOT, 'deploy/systemd', name), join(units, name));
  copyFile(join(HERE, 'sysusers.conf'), join(root, 'usr/lib/sysusers.d/peerscope.conf'));
  copyFile(join(HERE, 'tmpfiles.conf'), join(root, 'usr/lib/tmpfiles.d/peerscope.conf'));
  copyFile(join(HERE, 'peerscope.default'), join(root, 'etc/default/peerscope'));
  copyFile(join(HERE, 'peerscope.yaml'), join(root, 'etc/peerscope/peerscope.yaml'));
}

function buildDeb(root: string, architecture: string, epoch: string): void {
  const size = Number(
    execFileSync('du', ['--summarize', '--apparent-size', '--block-size=1024', root]).toString().split('\t')[0],
  );
  const control = readFileSync(join(HERE, 'debian/control'), 'utf8');
  const values: Readonly<Record<string, string>> = { VERSION: version, ARCHITECTURE: architecture, SIZE: String(size) };
  write(
    join(root, 'DEBIAN/control'),
    control.replace(/@(\w+)@/g, (whole, name: string) => values[name] ?? whole),
  );
  write(join(root, 'DEBIAN/conffiles'), '/etc/default/peerscope\n/etc/peerscope/peerscope.yaml\n');
  for (const script of ['postinst', 'prerm', 'postrm'])
    copyFile(join(HERE, 'debian', script), join(root, 'DEBIAN', script), 0o755);
  const vendor = join(root, 'usr/share/zsh/vendor-completions');
  renameSync(join(root, 'usr/share/zsh/site-functions'), vendor);
  run('dpkg-deb', ['--root-owner-group', '-Zxz', '-z0', '--build', root, OUTPUT], epoch);
  renameSync(vendor, join(root, 'usr/share/zsh/site-functions'));
  rmSync(join(root, 'DEBIAN'), { recursive: true });
}

function buildRpm(root: string, architecture: string, scratch: string, epoch: string): void {
  const defines = {
    own_version: version,
    staged: root,
    _topdir: join(scratch, 'rpm'),
    _rpmdir: OUTPUT,
    _rpmfilename: '%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm',
  };
  const flags = Object.entries(defines).flatMap(([name, value]) => ['--define', `${name} ${value}`]);
  run('rpmbuild', ['-bb', '--quiet', '--target', architecture, ...flags, join(HERE, 'peerscope.spec')], epoch);
}

function buildArchive(usr: string, scratch: string, epoch: string): void {
  const name = `peerscope-${version}-linux-${process.arch}`;
  const unit = 'lib/systemd/system/peerscope.service';
  copyFile(join(ROOT, 'deploy/systemd/peerscope.service'), join(usr, unit));
  renameSync(usr, join(scratch, name));
  const plain = ['--sort=name', `--mtime=@${epoch}`, '--owner=0', '--group=0', '--numeric-owner', '--mode=u+w,go-w'];
  const tar = ['--use-compress-program=gzip --no-name -6', ...plain, '--directory', scratch];
  run('tar', ['--create', '--file', join(OUTPUT, `${name}.tar.gz`), ...tar, name], epoch);
}

process.umask(0o022);
const architecture = ARCHITECTURES[process.arch];
if (!architecture || process.platform !== 'linux')
  throw new Error(`Cannot package for ${process.platform} ${process.arch}`);
if (!existsSync(join(ROOT, 'dist/peerscope-sockets')))
  throw new Error('Cannot package: the socket agent is not compiled');
const epoch = execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: ROOT, encoding: 'utf8' }).trim();
const scratch = mkdtempSync(join(tmpdir(), 'peerscope-packages-'));
try {
  rmSync(OUTPUT, { recursive: true, force: true });
  mkdirSync(OUTPUT);
  const root = join(scratch, 'root');
  mkdirSync(root, { mode: 0o755 });
  stageProgram(join(root, 'usr'));
  stageSystem(root);
  run(
    'find',
    [root, '-newermt', `@${epoch}`, '-exec', 'touch', '--no-dereference', `--date=@${epoch}`, '{}', '+'],
    epoch,
  );
  const [deb, rpm] = architecture;
  buildDeb(root, deb, epoch);
  buildRpm(root, rpm, scratch, epoch);
  buildArchive(join(root, 'usr'), scratch, epoch);
} finally {
  rmSync(scratch, { recursive: true });
}
for (const name of execFileSync('ls', [OUTPUT], { encoding: 'utf8' }).trim().split('\n'))
  process.stdout.write(`packages/${name} ${(statSync(join(OUTPUT, name)).size / 1e6).toFixed(1)} MB\n`);
