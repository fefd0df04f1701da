import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DebianHost, LOWER, whyNoDebian } from '../support/debian-host.ts';
import { ROOT } from '../support/manifests.ts';

const PACKAGES = join(ROOT, 'packages');
const DEPLOY = readFileSync(join(ROOT, 'docs/deploy.md'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'peerscope-packages-'));
afterAll(() => rmSync(folder, { recursive: true }));

const run = (command: string, args: readonly string[], cwd = folder): string =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();

/** The blocks of commands in a section of docs/deploy.md, as they stand there. */
function blocksOf(title: string): string[] {
  const [, section = ''] = DEPLOY.split(`\n### ${title}\n`);
  const blocks = [...section.replace(/\n#{2,3} .*/s, '').matchAll(/^```sh\n(.*?)^```$/gms)].map(
    ([, block = '']) => block,
  );
  if (blocks.length === 0) throw new Error(`docs/deploy.md has no commands in "${title}"`);
  return blocks;
}

const find = (ending: string): string => {
  const [name] = readdirSync(PACKAGES).filter((one) => one.endsWith(ending));
  if (name === undefined) throw new Error(`there is no *${ending}`);
  return join(PACKAGES, name);
};

const missing = ['dpkg-deb', 'rpmbuild', 'rpm'].filter((tool) => spawnSync(tool, ['--version']).error !== undefined);
const noTools = missing.length === 0 ? null : `${missing.join(' and ')} not installed`;
const obstacle = noTools ?? whyNoDebian();
if (obstacle !== null) process.stderr.write(`SKIPPED: packages: ${obstacle}\n`);

beforeAll(
  () =>
    noTools === null && run('bash', ['-ec', blocksOf('Build the packages').join('').replace('npm ci && ', '')], ROOT),
  300_000,
);

describe.skipIf(noTools !== null)('what the packages contain', () => {
  /** The files without the folders; zsh reads completions from another folder in Debian. */
  const filesOf = (list: string): string[] =>
    list
      .split('\n')
      .map((path) => path.replace(/^\.(?=\/)/, '').replace('zsh/vendor-completions', 'zsh/site-functions'))
      .filter((path) => path.startsWith('/') && !path.endsWith('/'))
      .sort();
  const inDeb = (): string[] => filesOf(run('bash', ['-c', `dpkg-deb --fsys-tarfile ${find('.deb')} | tar --list`]));

  it('is a program, its Node.js and the socket agent, with everything that the system needs, and no types or maps', () => {
    const files = inDeb();
    expect(files.filter((path) => !path.startsWith('/usr/lib/peerscope/'))).toEqual([
      '/etc/default/peerscope',
      '/etc/peerscope/peerscope.yaml',
      '/usr/bin/peerscope',
      '/usr/lib/systemd/system/peerscope-dump.socket',
      '/usr/lib/systemd/system/peerscope-ended.socket',
      '/usr/lib/systemd/system/peerscope.service',
      '/usr/lib/systemd/system/peerscope.socket',
      '/usr/lib/sysusers.d/peerscope.conf',
      '/usr/lib/tmpfiles.d/peerscope.conf',
      '/usr/share/bash-completion/completions/peerscope',
      '/usr/share/doc/peerscope/copyright',
      '/usr/share/fish/vendor_completions.d/peerscope.fish',
      '/usr/share/man/man1/peerscope.1.gz',
      '/usr/share/zsh/site-functions/_peerscope',
    ]);
    const own = files.filter((path) => /^\/usr\/lib\/peerscope\/(?!(?:dist|node_modules)\/.*\.js$)/.test(path));
    expect(own).toEqual(
      expect.arrayContaining(['/usr/lib/peerscope/dist/peerscope-sockets', '/usr/lib/peerscope/node']),
    );
    expect(files.filter((path) => /\.(?:map|d\.[cm]?ts)$|vitest|typescript/.test(path))).toEqual([]);
  });

  it('is the same in the .rpm, and belongs to root', () => {
    const rpm = run('rpm', [
      '--query',
      '--package',
      '--queryformat',
      '[%{FILEMODES:perms} %{FILEUSERNAME} %{FILENAMES}\n]',
      find('.rpm'),
    ]);
    const rows = rpm.split('\n').map((row) => /^(\S+) (\S+) (.*)$/.exec(row)?.slice(1) ?? []);
    expect(new Set(rows.map(([, user]) => user))).toEqual(new Set(['root']));
    expect(
      filesOf(rows.flatMap(([mode = '', , path = '']) => (mode.startsWith('d') ? [] : [path])).join('\n')),
    ).toEqual(inDeb());
    expect(run('rpm', ['--query', '--package', '--configfiles', find('.rpm')]).split('\n')).toEqual([
      '/etc/default/peerscope',
      '/etc/peerscope/peerscope.yaml',
    ]);
  });
});

describe.skipIf(obstacle !== null)(
  `a bare Debian 12${obstacle === null ? '' : ` (${obstacle})`}`,
  { timeout: 300_000 },
  () => {
    const ask = (host: DebianHost, options: string, node = '/usr/lib/peerscope/node'): string =>
      host.run(
        `${node} --eval 'require("node:http").get(${options}, (r) => r.pipe(process.stdout)).on("error", (e) => console.log(e.code))'`,
      ).output;
    const METRICS = '"http://localhost:10043/metrics"';
    /** Where the package could have left something, without what systemd and dpkg log. */
    const traces = (host: DebianHost): string =>
      host.run(
        'find / -xdev -path /root -prune -o -path /proc -prune -o -name "*peerscope*" -print; getent passwd peerscope; getent group peerscope; systemctl list-units --all --plain --no-legend "*peerscope*"',
      ).output;
    const works = (host: DebianHost, lines: string): string => {
      const { status, output } = host.run(`set -e\n${lines}`);
      expect(status, output).toBe(0);
      return output;
    };

    it('installs the .rpm without a running systemd, runs it through a link, and erases it', () => {
      const script = `
      mount -t tmpfs tmpfs . && cd "$PWD"
      mkdir upper work root
      mount -t overlay overlay -o lowerdir=${LOWER},upperdir=$PWD/upper,workdir=$PWD/work root
      mount -t proc proc root/proc
      rpm --root "$PWD/root" --install --nodeps ${find('.rpm')} 2>&1
      ln -s ../usr/bin/peerscope 'root/opt/a link'
      chroot root sh -ec '"/opt/a link" --version; getent passwd peerscope; stat --format "%a %U:%G" /etc/peerscope'
      rpm --root "$PWD/root" --erase --nodeps peerscope 2>&1
      find root/etc root/usr root/var -name '*peerscope*'`;
      const output = run('unshare', ['--mount', 'bash', '-ec', script]);
      const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
      expect(output).toMatch(new RegExp(`^peerscope ${version}\npeerscope:x:.*\n750 root:peerscope$`, 'm'));
      expect(output).not.toMatch(/^root\//m);
    });

    it('runs the commands of docs/deploy.md: installs, serves, changes its address, and is purged clean', async () => {
      await using host = await DebianHost.boot();
      for (const ending of ['.deb', '.tar.gz'])
        copyFileSync(find(ending), join(host.shared, find(ending).replace(/.*\//, '')));
      const [install = '', everywhere = '', socket = '', purge = '', ...rest] = blocksOf('Debian and Ubuntu');
      expect(rest).toEqual([]);

      expect(works(host, install)).toMatch(/Active: active \(running\)[^]*\d+ sockets?/);
      expect(works(host, 'systemctl is-enabled peerscope')).toBe('enabled');
      await expect.poll(() => ask(host, METRICS), { timeout: 20_000 }).toContain('peerscope_netlink_up{scope="own"} 1');
      expect(ask(host, METRICS)).toMatch(
        /^peerscope_connections\{.*workload="peerscope\.service".*state="listen"} 1$/m,
      );
      expect(ask(host, METRICS)).toMatch(/^peerscope_config_current 1$/m);
      const addresses = (): string => works(host, 'peerscope list state=listen --output csv --fields local_address');
      expect(addresses()).toContain('127.0.0.1');
      expect(works(host, 'stat --format %U /var/lib/peerscope/* | sort --unique')).toBe('peerscope');

      // What the runbooks run first: docs/alerts.md.
      const folder = '/var/lib/peerscope';
      expect(works(host, 'peerscope list direction=listen')).toContain(`from the exporter's store "${folder}"`);
      expect(works(host, 'peerscope history')).toContain(`from the store in "${folder}"`);
      expect(works(host, 'peerscope unusual')).not.toMatch(/cannot/i);
      expect(works(host, 'peerscope top --limit 3')).toContain(`from the exporter's store "${folder}"`);

      // An upgrade keeps the configuration and the state, and restarts the service.
      works(host, 'echo "networks: [{ name: lab, cidrs: [192.0.2.0/24] }]" >/etc/peerscope/peerscope.yaml');
      const before = works(host, 'systemctl show --property=MainPID peerscope');
      works(host, 'apt-get install --yes --reinstall ./peerscope_*.deb && systemctl is-active peerscope');
      expect(works(host, 'systemctl show --property=MainPID peerscope')).not.toBe(before);
      expect(works(host, 'cat /etc/peerscope/peerscope.yaml')).toContain('lab');

      works(host, everywhere);
      await expect.poll(addresses, { timeout: 20_000 }).toMatch(/^::$|^0\.0\.0\.0$/m);
      works(host, socket);
      await expect
        .poll(() => ask(host, '{ socketPath: "/run/peerscope/http.sock", path: "/metrics" }'), { timeout: 20_000 })
        .toContain('peerscope_build_info');
      expect(ask(host, METRICS)).toBe('ECONNREFUSED');

      works(host, 'apt-get remove --yes peerscope');
      expect(host.run('systemctl is-active peerscope').output).toBe('inactive');
      expect(works(host, 'ls /etc/default/peerscope /etc/peerscope')).toContain('peerscope.yaml');
      works(host, purge);
      expect(traces(host)).toBe('');
      expect(host.run('systemctl is-system-running').output).toBe('running');

      const [unpack = '', service = '', ...more] = blocksOf('Any Linux with glibc 2.28');
      expect(more).toEqual([]);
      expect(works(host, unpack)).toMatch(/^\d+ (?:of \d+ )?sockets?/m);
      works(host, service);
      const node = '/opt/peerscope/lib/peerscope/node';
      await expect
        .poll(() => ask(host, METRICS, node), { timeout: 20_000 })
        .toContain('peerscope_netlink_up{scope="own"} 1');
    });
  },
);
