/**
 * Records the trees of test/fixtures/proc: makes the network namespaces and cgroups of each scenario, starts its processes, and
 * records their processes alone. Arguments name the scenarios; none means all. Needs root, and its own view of the cgroups,
 * so that the paths do not show where it was started: unshare --cgroup node test/support/sockets/record-scenarios.ts
 */
import { rmSync } from 'node:fs';
import { record } from '../../../src/cli/record.ts';
import { TestCgroups } from './cgroups.ts';
import { TestNetwork, whyNoNamespaces } from './network.ts';

interface Service {
  /** The base name of the executable, a copy of Python that runs sockets.py; by default python3 runs orders.py. */
  readonly program?: string;
  readonly comm?: string;
  readonly uid?: number;
  readonly cgroup?: string;
  readonly kinds?: readonly string[];
}

const SOCKETS = new URL('sockets.py', import.meta.url).pathname;
const TREES = new URL('../../fixtures/proc/', import.meta.url).pathname;
const PROGRAMS = `
  mount -t tmpfs programs /usr/local/bin
  cp "$(readlink -f /usr/bin/python3)" /usr/local/bin/python3
  cp '${SOCKETS}' /usr/local/bin/orders.py`;

const OWN = ['192.0.2.5/24', '2001:db8::5/64'];
const FAR = ['192.0.2.1/24', '2001:db8::1/64'];
const PUBLIC = ['1.1.1.1/32', '8.8.8.8/32', '9.9.9.9/32', '2606:4700:4700::1111/128', '2001:4860:4860::8888/128'];

/** The namespaces, services and cgroups of one scenario while it is recorded. */
class Scene {
  readonly network = new TestNetwork();
  readonly pids: number[] = [];
  readonly #cgroups = new TestCgroups();

  /** A host, and the internet at the other end of its cable: addresses that others own, which answer on port 443. */
  async hostAndInternet(): Promise<{ host: number; internet: number }> {
    const host = await this.network.make(PROGRAMS);
    const internet = await this.network.make('echo 0 >/proc/sys/net/ipv4/ip_forward');
    this.network.join(host, OWN, internet, [...FAR, ...PUBLIC]);
    this.network.run(host, 'ip route add default via 192.0.2.1; ip route add default via 2001:db8::1');
    await this.network.openSockets(internet, { kinds: ['tcp-listen=[::]:443'] });
    return { host, internet };
  }

  async start(namespace: number, service: Service): Promise<void> {
    const { program = 'python3', comm, uid, cgroup, kinds = [] } = service;
    const executable = `/usr/local/bin/${program}`;
    const before = cgroup === undefined ? [] : [this.#cgroups.enter(cgroup)];
    if (service.program !== undefined) before.push(`ln /usr/local/bin/python3 ${quoted(executable)}`);
    const { pids } = await this.network.openSockets(namespace, {
      before: before.join('\n'),
      command: [executable, service.program === undefined ? '/usr/local/bin/orders.py' : SOCKETS],
      flags: [...(comm === undefined ? [] : [`--comm=${comm}`]), ...(uid === undefined ? [] : [`--uid=${uid}`])],
      kinds,
    });
    this.pids.push(...pids);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.network[Symbol.asyncDispose]();
    this.#cgroups[Symbol.dispose]();
  }
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

const SCENARIOS: Readonly<Record<string, (scene: Scene) => Promise<void>>> = {
  'plain-host': async (scene) => {
    const { host, internet } = await scene.hostAndInternet();
    const services: Service[] = [
      {
        program: 'sshd',
        cgroup: 'system.slice/ssh.service',
        kinds: ['tcp-listen=0.0.0.0:22', 'tcp-listen-v6only=[::]:22'],
      },
      { program: 'nginx', cgroup: 'system.slice/nginx.service', kinds: ['tcp-listen-forked=0.0.0.0:443'] },
      {
        program: 'postgres',
        cgroup: 'system.slice/system-postgresql.slice/postgresql@15-main.service',
        uid: 105,
        kinds: ['tcp-listen=127.0.0.1:5432'],
      },
      {
        program: 'systemd-resolved',
        cgroup: 'system.slice/systemd-resolved.service',
        uid: 101,
        kinds: ['udp=127.0.0.53:53', 'tcp-listen=127.0.0.53:53', 'udp-connect=9.9.9.9:53'],
      },
      {
        cgroup: 'system.slice/orders.service',
        uid: 1000,
        kinds: [
          'tcp-listen=0.0.0.0:8080',
          'tcp-connect=127.0.0.1:5432',
          'tcp-connect=127.0.0.1:5432',
          'tcp-connect=1.1.1.1:443',
          'tcp-connect=1.1.1.1:443',
          'tcp-connect=[2606:4700:4700::1111]:443',
          'tcp-syn-sent=198.51.100.9:443',
        ],
      },
      {
        program: 'curl',
        cgroup: 'user.slice/user-1000.slice/session-3.scope',
        uid: 1000,
        kinds: ['tcp-connect=9.9.9.9:443'],
      },
    ];
    for (const service of services) await scene.start(host, service);
    await scene.network.openSockets(internet, {
      kinds: [
        'tcp-connect=192.0.2.5:22@8.8.8.8',
        'tcp-connect=[2001:db8::5]:22@2001:4860:4860::8888',
        'tcp-connect=192.0.2.5:443@9.9.9.9',
        'tcp-connect=192.0.2.5:443@9.9.9.9',
        'tcp-connect=192.0.2.5:443@1.1.1.1',
      ],
    });
  },

  'dual-stack': async (scene) => {
    const { host, internet } = await scene.hostAndInternet();
    await scene.start(host, {
      program: 'nginx',
      cgroup: 'system.slice/nginx.service',
      kinds: ['tcp-listen=[::]:443', 'tcp-listen=0.0.0.0:80', 'tcp-listen-v6only=[::]:80', 'udp=[::]:443'],
    });
    await scene.start(host, {
      cgroup: 'system.slice/orders.service',
      kinds: [
        'tcp-connect=1.1.1.1:443',
        'tcp-connect=[::ffff:1.1.1.1]:443',
        'tcp-connect=[2606:4700:4700::1111]:443',
        'udp-connect=8.8.8.8:53',
        'udp-connect=[::ffff:8.8.8.8]:53',
        'udp-connect=[2001:4860:4860::8888]:53',
      ],
    });
    await scene.network.openSockets(internet, {
      kinds: [
        'tcp-connect=192.0.2.5:443@8.8.8.8',
        'tcp-connect=[2001:db8::5]:443@2001:4860:4860::8888',
        'tcp-connect=192.0.2.5:80@8.8.8.8',
        'tcp-connect=[2001:db8::5]:80@2001:4860:4860::8888',
      ],
    });
  },

  containers: async (scene) => {
    const host = await scene.network.make(PROGRAMS);
    const redis = await scene.network.make(PROGRAMS);
    const pod = await scene.network.make(PROGRAMS);
    scene.network.join(host, ['10.244.1.1/24'], redis, ['10.244.1.2/24']);
    scene.network.join(redis, ['10.244.2.2/24'], pod, ['10.244.2.3/24']);
    const kubepods =
      'kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod3f1e6b1c_8d1b_4c0e_9c5f_0a1b2c3d4e5f.slice';
    await scene.start(host, {
      program: 'containerd',
      cgroup: 'system.slice/containerd.service',
      kinds: ['tcp-listen=127.0.0.1:10010'],
    });
    await scene.start(redis, {
      program: 'redis-server',
      uid: 999,
      cgroup: `system.slice/docker-${'5f'.repeat(32)}.scope`,
      kinds: ['tcp-listen=0.0.0.0:6379'],
    });
    await scene.start(pod, {
      program: 'pause',
      uid: 65535,
      cgroup: `${kubepods}/cri-containerd-${'a0'.repeat(32)}.scope`,
    });
    await scene.start(pod, {
      uid: 1000,
      cgroup: `${kubepods}/cri-containerd-${'a1'.repeat(32)}.scope`,
      kinds: [
        'tcp-listen=[::]:8080',
        'tcp-connect=10.244.2.2:6379',
        'tcp-connect=10.244.2.2:6379',
        'tcp-time-wait=127.0.0.1:9000',
      ],
    });
    await scene.start(host, {
      program: 'kubelet',
      cgroup: 'system.slice/kubelet.service',
      kinds: ['tcp-listen=[::]:10250', 'tcp-connect=10.244.1.2:6379'],
    });
  },

  'listen-only': async (scene) => {
    const host = await scene.network.make(PROGRAMS);
    await scene.start(host, {
      program: 'sshd',
      cgroup: 'system.slice/ssh.service',
      kinds: ['tcp-listen=0.0.0.0:22', 'tcp-listen-v6only=[::]:22'],
    });
    await scene.start(host, {
      program: 'dnsmasq',
      cgroup: 'system.slice/dnsmasq.service',
      kinds: ['udp=0.0.0.0:53', 'udp=[::1]:53', 'tcp-listen=[::]:53', 'tcp-listen-reuseport=127.0.0.1:5353'],
    });
  },

  empty: async (scene) => {
    const host = await scene.network.make(PROGRAMS);
    await scene.start(host, { program: 'cron', cgroup: 'system.slice/cron.service' });
  },

  hostile: async (scene) => {
    const host = await scene.network.make(PROGRAMS);
    const names: Service[] = [
      { program: 'quote",asn="1', comm: '"},b:\\n\\xff\\xfe' },
      { program: 'line\nbreak 1', comm: ') R 1 (x) S 2' },
      { program: 'back\\slash{}', comm: '\\x1b[31mred' },
      { program: 'comma,b:2', comm: 'comma,b:2', cgroup: 'system.slice/a"b:c,d\\x2de@x.service' },
      { program: 'other', comm: '\\x00' },
      { program: 'right\u202eto-left', comm: '\\xe2\\x80\\xaex' },
      { program: 'long-'.padEnd(200, 'x') },
      { program: 'blank (deleted)' },
    ];
    for (const [i, name] of names.entries()) {
      await scene.start(host, { ...name, kinds: [`tcp-listen=127.0.0.1:${9001 + i}`] });
    }
  },

  loopback: async (scene) => {
    const host = await scene.network.make(`${PROGRAMS}\nip address add 192.0.2.5/32 dev lo`);
    await scene.start(host, {
      program: 'postgres',
      cgroup: 'system.slice/system-postgresql.slice/postgresql@15-main.service',
      kinds: ['tcp-listen=127.0.0.1:5432', 'tcp-listen=192.0.2.5:5432'],
    });
    await scene.start(host, {
      cgroup: 'system.slice/orders.service',
      kinds: [
        'tcp-connect=127.0.0.1:5432',
        'tcp-connect=127.0.0.1:5432',
        'tcp-connect=192.0.2.5:5432',
        'tcp-pair=[::1]:9000',
        'tcp-pair=[::]:9001',
        'tcp-backlog=127.0.0.1:9002',
        'tcp-self=127.0.0.1:9003',
        'udp=127.0.0.1:9004',
        'udp-connect=127.0.0.1:9004',
      ],
    });
  },

  states: async (scene) => {
    const { host } = await scene.hostAndInternet();
    await scene.start(host, {
      cgroup: 'system.slice/orders.service',
      kinds: [
        'tcp-queues=127.0.0.1:9001',
        'tcp-backlog=[::]:9002',
        'tcp-syn-sent=198.51.100.9:443',
        'tcp-syn-received=127.0.0.1:9003',
        'tcp-time-wait=127.0.0.1:9004',
        'tcp-fin-wait-1=127.0.0.1:9005',
        'tcp-fin-wait-2=[::1]:9006',
        'tcp-close-wait=127.0.0.1:9007',
        'tcp-last-ack=127.0.0.1:9008',
        'tcp-closing=127.0.0.1:9009',
        'udp=0.0.0.0:9010',
        'udp-queue=127.0.0.1:9011',
        'udplite=0.0.0.0:9012',
        'udplite=[::]:9013',
        'udplite-connect=127.0.0.1:9012',
        'raw=0.0.0.0:1',
        'raw=[::]:58',
        'raw-connect=192.0.2.1:1',
      ],
    });
  },
};

const obstacle = whyNoNamespaces();
if (obstacle !== null) throw new Error(`Cannot record: ${obstacle}`);
for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(SCENARIOS)) {
  const play = SCENARIOS[name];
  if (!play) throw new Error(`Cannot record "${name}": no such scenario`);
  await using scene = new Scene();
  await play(scene);
  rmSync(TREES + name, { recursive: true, force: true });
  const recording = record({ procfs: '/proc', directory: TREES + name, pids: scene.pids });
  process.stdout.write(`${name}: ${JSON.stringify(recording)}\n`);
}
