import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestNetwork, whyNoNamespaces } from '../support/sockets/network.ts';
import { parsePage, sumBy, type Series } from '../support/page.ts';
import { betweenLooks, miscounted } from '../support/ss.ts';

const ROOT = join(import.meta.dirname, '../..');
const CACHE = join(ROOT, '.cache/image');
const STORE = [`--root=${CACHE}/storage`, `--runroot=${CACHE}/run`];
const MIB = 2 ** 20;
/** That of deploy/k8s/base. */
const MEMORY_LIMIT = 256 * MIB;
/** A listener of root and one of a user, in a namespace of their own. */
const ADDRESS = '10.67.0.1';
const AGENT = '/app/dist/peerscope-sockets';
const LIMITS = ['--ulimit=nofile=1024:1024', '--ulimit=nproc=1024:1024'];

/** What code in the container may do to a process of root, as docs/security.md says. */
const NOTHING = {
  seesPublicFiles: false,
  seesSecretFiles: false,
  writesPublicFolders: false,
  writesSecretFolders: false,
  readsMemory: false,
  writesMemory: false,
  sendsSignals: false,
};
const PUBLIC = { ...NOTHING, seesPublicFiles: true, writesPublicFolders: true };

const VARIANTS = [
  { variant: 'none', capabilities: [], getcap: '', process: '', intruder: NOTHING },
  {
    variant: 'ptrace',
    capabilities: ['SYS_PTRACE'],
    getcap: 'cap_sys_ptrace=ep',
    process: 'sockets.py',
    intruder: PUBLIC,
  },
  {
    variant: 'search',
    capabilities: ['SYS_PTRACE', 'DAC_READ_SEARCH'],
    getcap: 'cap_dac_read_search,cap_sys_ptrace=ep',
    process: 'sockets.py',
    intruder: { ...PUBLIC, seesSecretFiles: true, readsMemory: true },
  },
];

const buildah = (...args: readonly string[]): string =>
  execFileSync('buildah', [...STORE, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
const podman = (...args: readonly string[]): string[] => [
  ...STORE,
  '--runtime=runc',
  '--cgroup-manager=cgroupfs',
  ...args,
];

/** Says why no image can be built and run here; null where it can. */
function whyNoImages(): string | null {
  const obstacle = whyNoNamespaces();
  if (obstacle !== null) return obstacle;
  for (const command of ['buildah', 'podman', 'runc', 'getcap'])
    if (spawnSync(command, ['-h']).error) return `${command} is not installed`;
  if (!existsSync(join(CACHE, 'storage'))) return `there is no ${CACHE}; test/e2e/image/bases.sh makes it`;
  const node = ['--network=none', 'localhost/peerscope-base', '/nodejs/bin/node', '--version'];
  const { status, stderr } = spawnSync('podman', podman('run', '--rm', ...LIMITS, ...node), { encoding: 'utf8' });
  return status === 0 ? null : `podman cannot run a container: ${stderr.trim()}`;
}

/** The commands that docs/alerts.md runs in a pod. */
const KUBECTL_EXEC = [
  ...readFileSync(join(ROOT, 'docs/alerts.md'), 'utf8').matchAll(/kubectl -n peerscope exec POD -- (.+)/g),
].map(([, command = '']) => command.split(' '));

/** Tries it all from inside; for `node -e SCRIPT PID PUBLIC SECRET`, a pid of the host and two folders there. */
const INTRUSION = `
  const { openSync, readFileSync, readSync, writeFileSync } = require('node:fs');
  const [pid, publicFolder, secretFolder] = process.argv.slice(1);
  const proc = '/host/proc/' + pid;
  const can = (act) => { try { act(); return true; } catch { return false; } };
  const start = () => Number.parseInt(readFileSync(proc + '/maps', 'utf8'), 16);
  console.log(JSON.stringify({
    seesPublicFiles: can(() => readFileSync(proc + '/root' + publicFolder + '/file')),
    seesSecretFiles: can(() => readFileSync(proc + '/root' + secretFolder + '/file')),
    writesPublicFolders: can(() => writeFileSync(proc + '/root' + publicFolder + '/new', '')),
    writesSecretFolders: can(() => writeFileSync(proc + '/root' + secretFolder + '/new', '')),
    readsMemory: can(() => readSync(openSync(proc + '/mem', 'r'), Buffer.alloc(8), 0, 8, start())),
    writesMemory: can(() => openSync(proc + '/mem', 'r+')),
    sendsSignals: can(() => process.kill(Number(pid), 0)),
  }));`;

/** Two folders of root: files that every user may read and write, and files that only root may. */
function makeFolders(): { readonly folder: string; readonly paths: readonly string[] } {
  const folder = mkdtempSync(join(tmpdir(), 'peerscope-image-'));
  chmodSync(folder, 0o755);
  const paths = [0o777, 0o700].map((mode) => {
    const path = join(folder, mode.toString(8));
    mkdirSync(path);
    writeFileSync(join(path, 'file'), 'text', { mode: mode & 0o666 });
    chmodSync(path, mode);
    return path;
  });
  return { folder, paths };
}

/** A container of a variant, as the DaemonSet has it: networks, processes and cgroups of its own, and the host's /proc. */
class Container {
  readonly #name: string;
  /** Writable for all users, as an emptyDir of Kubernetes is. */
  readonly #state = mkdtempSync(join(tmpdir(), 'peerscope-state-'));
  readonly #caller: ChildProcess;
  readonly #replies: AsyncIterator<string>;
  readonly pid: number;

  constructor(variant: string, capabilities: readonly string[]) {
    this.#name = `peerscope-${variant}-${process.pid}`;
    const rights = [
      '--cap-drop=ALL',
      ...capabilities.map((name) => `--cap-add=${name}`),
      '--security-opt=no-new-privileges',
    ];
    const mounts = ['--read-only', '--volume=/proc:/host/proc:ro', `--volume=${this.#state}:/var/lib/peerscope`];
    chmodSync(this.#state, 0o777);
    const args = ['run', '--detach', `--name=${this.#name}`, '--no-healthcheck', '--network=none', ...LIMITS];
    const image = [`localhost/peerscope:${variant}`, '--asn.provider=none'];
    // What watches over the container keeps standard error open for as long as it lives: no pipe.
    execFileSync('podman', podman(...args, ...rights, ...mounts, ...image), { stdio: ['ignore', 'ignore', 'inherit'] });
    this.pid = Number(this.#podman('inspect', '--format={{.State.Pid}}', this.#name));
    // One connection for all requests, so that asking adds no rows between two looks.
    const script = `for await (const line of require('node:readline').createInterface({ input: process.stdin }))
      console.log(await fetch('http://127.0.0.1:10043' + line).then((reply) => reply.text(), () => '').then(JSON.stringify))`;
    const program = [process.execPath, '-e', `(async () => { ${script} })()`];
    this.#caller = spawn('nsenter', [`--target=${this.pid}`, '--net', ...program], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    if (!this.#caller.stdout) throw new Error('Cannot call from inside: no standard output');
    this.#replies = createInterface({ input: this.#caller.stdout })[Symbol.asyncIterator]();
  }

  /** The body of the response; "" while no process listens. */
  async get(path: string): Promise<string> {
    this.#caller.stdin?.write(`${path}\n`);
    const reply = await this.#replies.next();
    return JSON.parse(String(reply.value)) as string;
  }

  async metrics(): Promise<Series[]> {
    const bytes = new TextEncoder().encode(await this.get('/metrics'));
    return parsePage(bytes.buffer);
  }

  async ready(): Promise<void> {
    const deadline = performance.now() + 60_000;
    while (!(await this.get('/-/ready')).includes('ready')) {
      if (performance.now() > deadline)
        throw new Error(`the container never got ready:\n${this.#podman('logs', this.#name)}`);
    }
  }

  /** Runs a command in it, as kubectl exec does. */
  exec(...command: readonly string[]): string {
    return this.#podman('exec', this.#name, ...command);
  }

  status(field: string): string {
    const text = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return new RegExp(`^${field}:\\s+(.*)$`, 'm').exec(text)?.[1] ?? '';
  }

  /** Ends it as Kubernetes does; gives its exit code. */
  stop(): number {
    this.#caller.stdin?.end();
    this.#podman('stop', '--time=20', this.#name);
    return Number(this.#podman('inspect', '--format={{.State.ExitCode}}', this.#name));
  }

  remove(): void {
    this.#caller.kill();
    this.#podman('rm', '--force', this.#name);
    rmSync(this.#state, { recursive: true });
  }

  #podman(...args: readonly string[]): string {
    return execFileSync('podman', podman(...args), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  }
}

describe('the image', { timeout: 300_000 }, () => {
  const obstacle = whyNoImages();
  const network = new TestNetwork();

  beforeAll(async () => {
    if (obstacle !== null) {
      process.stderr.write(`SKIPPED: image: ${obstacle}\n`);
      return;
    }
    const cache = execFileSync('npm', ['config', 'get', 'cache'], { cwd: '/', encoding: 'utf8' }).trim();
    for (const { variant } of VARIANTS) {
      buildah(
        ...['bud', '--layers', '--isolation=chroot', '--pull-never', '--format=docker', `--volume=${cache}:/root/.npm`],
        ...['--build-arg=BUILD=localhost/peerscope-build', '--build-arg=BASE=localhost/peerscope-base'],
        ...[
          '--build-arg=REVISION=0123456789abcdef',
          '--build-arg=CREATED=2026-01-01T00:00:00Z',
          `--target=${variant}`,
          `--tag=localhost/peerscope:${variant}`,
          ROOT,
        ],
      );
    }
    const holder = await network.make(`ip address add ${ADDRESS}/32 dev lo`);
    await network.openSockets(holder, { kinds: [`tcp-listen=${ADDRESS}:80`] });
    await network.openSockets(holder, {
      kinds: [`tcp-listen=${ADDRESS}:81`, 'tcp-pair=127.0.0.1:0'],
      flags: ['--uid=1000'],
    });
  }, 900_000);

  afterAll(async () => {
    await network[Symbol.asyncDispose]();
    if (obstacle !== null) return;
    // buildah 1.28 leaves a container mounted for each stage without a step.
    buildah('rm', '--all');
    buildah('rmi', ...VARIANTS.map(({ variant }) => `localhost/peerscope:${variant}`));
    buildah('rmi', '--prune', '--force');
    // The store is left mounted on itself, so that it could not be deleted.
    spawnSync('umount', [join(CACHE, 'storage/overlay')]);
  }, 120_000);

  describe.for(VARIANTS)('in its variant $variant', ({ variant, capabilities, getcap, process: owner }) => {
    it('holds the program and its dependencies read-only, in at most 175 MB, without a shell', ({ skip }) => {
      skip(obstacle !== null, obstacle ?? '');
      const container = buildah('from', '--pull-never', `localhost/peerscope:${variant}`);
      try {
        const root = buildah('mount', container);
        const [size = ''] = execFileSync('du', ['--summarize', '--bytes', root], { encoding: 'utf8' }).split('\t');
        const [image] = JSON.parse(buildah('images', '--json', `localhost/peerscope:${variant}`)) as { size: string }[];
        process.stderr.write(`image ${variant}: ${Math.round(Number(size) / 1e6)} MB, stored ${image?.size}\n`);
        // All layers together: a file that a later layer changes is stored twice.
        for (const megabytes of [Number(size) / 1e6, parseFloat(image?.size ?? '')])
          expect(megabytes).toBeLessThan(175);
        expect(image?.size).toMatch(/ MB$/);

        const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
          dependencies: Record<string, string>;
        };
        const packages = (name: string): boolean => existsSync(join(root, 'app/node_modules', name));
        expect(readdirSync(join(root, 'app')).sort()).toEqual(['LICENSE', 'dist', 'node_modules', 'package.json']);
        expect(Object.keys(dependencies).filter((name) => !packages(name))).toEqual([]);
        expect(['typescript', 'vitest', 'eslint', 'node'].filter(packages)).toEqual([]);
        const shells = ['sh', 'bash', 'dash', 'busybox'].flatMap((name) =>
          ['bin', 'usr/bin'].map((at) => `${at}/${name}`),
        );
        expect(shells.filter((path) => existsSync(join(root, path)))).toEqual([]);
        expect(globSync('app/**/*.{map,d.ts}', { cwd: root })).toEqual([]);
        const writable = [
          'find',
          root,
          '-xdev',
          '(',
          '-uid',
          '10043',
          '-o',
          '-perm',
          '-o=w',
          '-not',
          '-type',
          'l',
          ')',
        ];
        const found = execFileSync('env', [...writable, '-not', '-perm', '-o=t'], { encoding: 'utf8' });
        expect(found).toBe(`${root}/var/lib/peerscope\n`);
        const node = join(root, 'nodejs/bin/node');
        expect(execFileSync('getcap', [node], { encoding: 'utf8' }).trim()).toBe(getcap && `${node} ${getcap}`);
        const agent = join(root, AGENT);
        expect(execFileSync('getcap', [agent], { encoding: 'utf8' })).toBe(`${agent} cap_net_broadcast=p\n`);
        const bytes = readFileSync(agent);
        expect(['ld-linux', 'ld-musl'].filter((loader) => bytes.includes(loader))).toEqual([]);
      } finally {
        buildah('umount', container);
        buildah('rm', container);
      }
    });

    it('has labels and starts node directly, as its own user', ({ skip }) => {
      skip(obstacle !== null, obstacle ?? '');
      const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
      const { Docker } = JSON.parse(buildah('inspect', '--type=image', `localhost/peerscope:${variant}`)) as {
        Docker: { config: Record<string, unknown> };
      };
      expect(Docker.config).toMatchObject({
        User: '10043:10043',
        Entrypoint: ['/nodejs/bin/node', '--max-semi-space-size=2', '--v8-pool-size=1', '/app/dist/main.js'],
        Labels: {
          'org.opencontainers.image.title': 'peerscope',
          'org.opencontainers.image.licenses': 'Apache-2.0',
          'org.opencontainers.image.version': version,
          'org.opencontainers.image.revision': '0123456789abcdef',
          'org.opencontainers.image.created': '2026-01-01T00:00:00Z',
          'org.opencontainers.image.source': 'https://github.com/peerscope/peerscope',
          'org.opencontainers.image.base.name': 'localhost/peerscope-base',
        },
      });
    });

    it('counts what ss shows, with the owners that it may see, within the memory of the DaemonSet', async ({
      skip,
    }) => {
      skip(obstacle !== null, obstacle ?? '');
      const container = new Container(variant, capabilities);
      try {
        await container.ready();
        const looks = await betweenLooks(() => container.metrics());
        const sums = Object.entries(sumBy(looks.between, 'peerscope_connections', 'transport', 'state'));
        const ofSs = Object.fromEntries(sums.filter(([key]) => /^(tcp|udp) /.test(key)));
        expect(miscounted(ofSs, looks, ({ transport, state }) => `${transport} ${state}`)).toEqual([]);
        expect(Object.keys(ofSs)).toContain('tcp established');
        expect(await container.get('/metrics')).toContain(
          'peerscope_scrape_collector_success{collector="processes"} 1\n',
        );

        const rows = container.exec(
          'peerscope',
          'list',
          '-o',
          'csv',
          '--fields',
          'local_port,process',
          `cidr=${ADDRESS}`,
          'port=80',
        );
        expect(rows.split('\n')).toEqual(['local_port,process', `80,${owner}`]);
        for (const command of KUBECTL_EXEC)
          expect(container.exec(...command)).toMatch(/^(?:NETID +)?STATE +(?:RECV-Q +SEND-Q +)?LOCAL/);
        const folder = '/var/lib/peerscope';
        expect(container.exec('peerscope', 'history')).toContain(`from the store in "${folder}"`);
        expect(container.exec('peerscope', 'unusual')).not.toBe('');
        expect(container.status('Uid')).toMatch(/^10043\t10043\t/);
        expect(container.status('NoNewPrivs')).toBe('1');
        const peak = Number.parseInt(container.status('VmHWM')) * 1024;
        process.stderr.write(`image ${variant}: ${Math.round(peak / MIB)} MiB at most in memory\n`);
        expect(peak).toBeLessThan(MEMORY_LIMIT);
        expect(container.stop()).toBe(0);
      } finally {
        container.remove();
      }
    });
  });

  it.for([
    { capabilities: ['NET_BROADCAST'], scope: 'all namespaces with an nsid' },
    { capabilities: [], scope: 'this namespace' },
  ])('starts the socket agent with $capabilities, as its own user', async ({ capabilities, scope }, { skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const rights = ['--cap-drop=ALL', ...capabilities.map((name) => `--cap-add=${name}`)];
    const name = `peerscope-agent-${process.pid}-${capabilities.length}`;
    const start = [
      'run',
      '--rm',
      `--name=${name}`,
      '--no-healthcheck',
      '--network=none',
      '--read-only',
      '--tmpfs=/sockets:mode=0777',
      ...LIMITS,
    ];
    const program = [
      `--entrypoint=${AGENT}`,
      'localhost/peerscope:none',
      '--listen',
      '/sockets/agent',
      '--uid',
      '10043',
    ];
    const args = podman(...start, ...rights, '--security-opt=no-new-privileges', ...program);
    const child = spawn('podman', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const said: string[] = [];
    // The agent's first line; podman may warn before it. It does not pass a signal on that comes this early.
    for await (const line of createInterface({ input: child.stderr })) {
      if (!line.includes('level=warning')) said.push(line);
      if (said.length === 1) execFileSync('podman', podman('kill', '--signal=TERM', name));
    }
    expect(said).toEqual([`Listening on /sockets/agent; ended sockets of ${scope}`]);
    if (child.exitCode === null) await once(child, 'exit');
    expect(child.exitCode).toBe(0);
  });

  it.for(VARIANTS)('lets code in its variant $variant do what docs/security.md says', (given, { skip }) => {
    skip(obstacle !== null, obstacle ?? '');
    const { variant, capabilities, intruder } = given;
    const { folder, paths } = makeFolders();
    const victim = spawn('sleep', ['600']);
    try {
      const rights = ['--cap-drop=ALL', ...capabilities.map((name) => `--cap-add=${name}`)];
      const start = [
        'run',
        '--rm',
        '--no-healthcheck',
        '--network=none',
        '--read-only',
        '--volume=/proc:/host/proc:ro',
      ];
      const program = ['--entrypoint=/nodejs/bin/node', `localhost/peerscope:${variant}`, '-e', INTRUSION];
      const args = [...start, ...LIMITS, ...rights, '--security-opt=no-new-privileges', ...program];
      const result = execFileSync('podman', podman(...args, String(victim.pid), ...paths), { encoding: 'utf8' });
      expect(JSON.parse(result)).toEqual(intruder);
    } finally {
      victim.kill();
      rmSync(folder, { recursive: true });
    }
  });

  it.for(VARIANTS.filter(({ capabilities }) => capabilities.length > 0))(
    'does not start in its variant $variant if the container lacks a capability',
    ({ variant, capabilities }, { skip }) => {
      skip(obstacle !== null, obstacle ?? '');
      const rights = ['--cap-drop=ALL', ...capabilities.slice(1).map((name) => `--cap-add=${name}`)];
      const args = ['run', '--rm', '--no-healthcheck', '--network=none', ...LIMITS, ...rights];
      const image = ['--security-opt=no-new-privileges', `localhost/peerscope:${variant}`, '--version'];
      const { status, stderr } = spawnSync('podman', podman(...args, ...image), { encoding: 'utf8' });
      expect(status).not.toBe(0);
      expect(stderr).toContain('operation not permitted');
    },
  );
});
