/**
 * Simulated clusters, by seed: a month of ordinary life and injected attacks, as lines of a world file.
 *
 * What ordinary life is made of, and where the proportions come from:
 * - Most workloads call few operators, and a small number of crawlers, relays and proxies call new ones all the time: Mirsky and others
 *   on the heavy tail of destinations per host ("prevalence" in RITA, https://github.com/activecm/rita), and Xu, Zhang, Bhattacharyya,
 *   "Profiling Internet Backbone Traffic" (SIGCOMM 2005).
 * - Services resolve to several content networks, and move between them: "Content delivery networks: State of the art, trends", and the
 *   multi-CDN measurements of Singh, Bischof, Choffnes ("Characterizing Multi-CDN", IMC workshops, 2017 and later).
 * - Teams deploy between several times a day and once a month, and most changes of behavior come with a rollout: DORA, "Accelerate State of
 *   DevOps".
 * - People debug in containers with curl, dig and psql: the default exceptions of the rules of Falco (https://github.com/falcosecurity/rules).
 * The attacks are techniques of MITRE ATT&CK for Containers and Linux, in the numbers of the matrix: T1059.004 reverse shell, T1496 miner,
 * T1048 and T1567 exfiltration, T1552.005 metadata service, T1021.004 lateral movement by SSH, T1210 to databases, T1571 bind shell, T1046
 * scan, T1071 beacon, T1195 supply chain, T1133 remote login, T1105 download of a tool, T1498 spam and floods, T1613 Kubernetes API.
 */
import type { WorldLine } from './world-line.ts';

const HOUR = 3600;
const DAY = 24 * HOUR;
const FOREVER = 400 * DAY;

export interface WorldOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly days: number;
  /** Attacks begin after this day. */
  readonly quietDays: number;
  readonly attacks: number;
}

/** Random numbers by seed (mulberry32). */
class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** A number from 0 up to 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  between(from: number, to: number): number {
    return from + this.next() * (to - from);
  }

  isTrue(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(values: readonly T[]): T {
    const value = values[this.below(values.length)];
    if (value === undefined) throw new RangeError('Cannot pick from an empty list');
    return value;
  }

  /** A factor with a log-normal distribution: sizes of transfers have heavy tails. */
  factor(sigma: number): number {
    const normal = Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
    return Math.exp(sigma * normal);
  }

  /** The number of events of a Poisson process. */
  count(mean: number): number {
    const limit = Math.exp(-Math.min(mean, 500));
    let count = -1;
    for (let product = 1; product > limit; product *= this.next()) count++;
    return Math.max(0, count);
  }
}

/** A thing that a workload does again and again. */
interface Habit {
  readonly what: 'outbound' | 'inbound' | 'listen';
  readonly process: string;
  readonly transport: 'tcp' | 'udp';
  readonly network: string;
  /** One of these at a time; empty inside the cluster. */
  readonly operators: readonly number[];
  readonly port: number;
  readonly peer: string | null;
  readonly perDay: number;
  readonly seconds: number;
  readonly held: boolean;
  readonly bytes: number;
}

interface Workload {
  readonly namespace: string;
  readonly name: string;
  readonly process: string;
  readonly nodes: readonly string[];
  readonly habits: Habit[];
  readonly releasesPerDay: number;
  readonly isVersioned: boolean;
  /** It meets strangers all the time. */
  readonly isNoisy: boolean;
  /** It runs at these days of the week only, for an hour. */
  readonly weekday: number | null;
  release: number;
  containerStartedAt: number;
  formerContainerStartedAt: number;
  readonly pod: string;
}

const CLOUDS = [16509, 14618, 15169, 396982, 8075, 13335, 54113, 20940, 36459];
const HOSTERS = [24940, 16276, 14061, 63949, 20473, 51167, 197540, 9009, 49981, 60068, 202425, 57043];
const NAMESPACES = ['shop', 'billing', 'search', 'media', 'auth', 'data', 'ops', 'crm', 'ml', 'web'];
const LANGUAGES = [
  ['java', 'app-1.4.0.jar'],
  ['node', 'server.js'],
  ['python', 'main.py'],
  ['go', 'api'],
  ['php', 'php-fpm8.2'],
  ['nginx', 'nginx'],
  ['dotnet', 'Service.dll'],
] as const;
const DATABASES: readonly (readonly [process: string, port: number])[] = [
  ['postgres', 5432],
  ['mysqld', 3306],
  ['redis-server', 6379],
  ['mongod', 27017],
  ['java', 9092],
  ['java', 9200],
];
const DEBUG_TOOLS = ['curl', 'wget', 'dig', 'psql', 'nc', 'ping', 'redis-cli', 'python3'];
const HOST_UNITS: readonly (readonly [unit: string, process: string])[] = [
  ['kubelet.service', 'kubelet'],
  ['containerd.service', 'containerd'],
  ['chronyd.service', 'chronyd'],
  ['node_exporter.service', 'node_exporter'],
  ['fluent-bit.service', 'fluent-bit'],
  ['systemd-resolved.service', 'systemd-resolved'],
  ['apt-daily.service', 'apt'],
  ['snapd.service', 'snapd'],
];

/** The attacks and how often each is injected, all alike. */
const ATTACKS = [
  'reverse_shell',
  'miner',
  'exfiltration',
  'exfiltration_cloud',
  'metadata',
  'lateral_ssh',
  'lateral_database',
  'bind_shell',
  'scan',
  'beacon',
  'supply_chain',
  'remote_login',
  'tool_download',
  'spam',
  'kubernetes_api',
  'udp_backdoor',
] as const;

/** The lines of a world in the order of `at`. */
export function* makeWorld(options: WorldOptions): Generator<WorldLine> {
  const chance = new Chance(options.seed * 7919 + 17);
  const life = new Life(options, chance);
  const attacks = planAttacks(options, chance);
  let pending: WorldLine[] = [];
  for (let day = 0; day < options.days; day++) {
    const lines = [...pending, ...life.day(day)];
    for (const { kind, at, name } of attacks.filter((attack) => Math.floor(attack.at / DAY) === day))
      lines.push(...life.attack(kind, name, at));
    lines.sort((a, b) => a.at - b.at);
    const end = (day + 1) * DAY;
    yield* lines.filter(({ at }) => at < end);
    pending = lines.filter(({ at }) => at >= end);
  }
}

function planAttacks(
  { attacks, days, quietDays }: WorldOptions,
  chance: Chance,
): { kind: (typeof ATTACKS)[number]; at: number; name: string }[] {
  return Array.from({ length: attacks }, (_, index) => {
    const kind = ATTACKS[index % ATTACKS.length] ?? 'scan';
    return { kind, name: `${kind}-${index}`, at: Math.floor(chance.between(quietDays * DAY, (days - 0.2) * DAY)) };
  });
}

class Life {
  readonly #chance: Chance;
  readonly #nodes: readonly string[];
  readonly #workloads: Workload[] = [];
  readonly #saas: number[][] = [];
  readonly #services: { peer: string; port: number }[] = [];
  /** The number of databases, which are the first of the services. */
  #databases = 0;
  #nextOperator = 210_000;

  constructor({ nodes }: WorldOptions, chance: Chance) {
    this.#chance = chance;
    this.#nodes = Array.from({ length: nodes }, (_, index) => `n${index + 1}`);
    for (let i = 0; i < 60; i++) {
      const own = chance.isTrue(0.4) ? [this.#stranger()] : [chance.pick(CLOUDS)];
      // A third of all services have a second home that answers few of the calls.
      if (chance.isTrue(0.33)) own.push(chance.isTrue(0.7) ? chance.pick(CLOUDS) : this.#stranger());
      this.#saas.push(own);
    }
    this.#addDatabases(Math.ceil(nodes * 0.3));
    for (let i = 0; i < Math.ceil(nodes * 1.4); i++) this.#addService(i);
    this.#addHostUnits();
    this.#addNoisy();
    this.#addJobs(Math.ceil(nodes * 0.2));
  }

  /** A day of ordinary life. */
  day(day: number): WorldLine[] {
    const start = day * DAY;
    const lines: WorldLine[] = [];
    if (day === 0) for (const workload of this.#workloads) lines.push(...this.#listeners(workload, 0));
    if (this.#chance.isTrue(1 / 6)) this.#moveService();
    for (const workload of this.#workloads) {
      if (workload.weekday !== null) {
        if (day % 7 === workload.weekday)
          lines.push(...this.#run(workload, start + this.#chance.between(2, 4) * HOUR, HOUR, 24));
        continue;
      }
      this.#drift(workload);
      lines.push(...this.#run(workload, start, DAY, 1));
      // What a rollout adds begins with it.
      if (this.#chance.isTrue(workload.releasesPerDay))
        lines.push(...this.#release(workload, start + this.#chance.between(8, 18) * HOUR));
    }
    lines.push(...this.#people(start), ...this.#outages(start, day));
    return lines;
  }

  #addDatabases(count: number): void {
    this.#databases = count;
    for (let i = 0; i < count; i++) {
      const [process, port] = this.#chance.pick(DATABASES);
      const namespace = this.#chance.pick(NAMESPACES);
      const name = `${process.replace(/-server$/, '')}-${i}`;
      const workload = this.#add({ namespace, name, process, releasesPerDay: 1 / 60 });
      workload.habits.push(
        this.#habit({ what: 'listen', port }),
        this.#habit({ what: 'inbound', port, perDay: 4, peer: 'shop/web' }),
      );
      if (this.#chance.isTrue(0.3)) workload.habits.push(this.#call(this.#saas[this.#chance.below(10)] ?? [], 443, 1));
      this.#services.push({ peer: `${namespace}/${name}`, port });
    }
  }

  #addService(i: number): void {
    const chance = this.#chance;
    const [language, process] = chance.pick(LANGUAGES);
    const namespace = chance.pick(NAMESPACES);
    const name = `${language}-svc-${i}`;
    const workload = this.#add({
      namespace,
      name,
      process,
      releasesPerDay: chance.pick([1, 0.3, 0.15, 0.07, 0.03]),
      isVersioned: process.includes('1.4'),
    });
    const port = chance.pick([8080, 8000, 3000, 9000, 80]);
    workload.habits.push(this.#habit({ what: 'listen', port }));
    this.#services.push({ peer: `${namespace}/${name}`, port });
    for (let k = 1 + chance.count(1.5); k > 0; k--) {
      const { peer, port } = chance.pick(this.#services);
      workload.habits.push(
        this.#habit({ network: 'private', peer, port, perDay: chance.pick([12, 4, 1, 0.2]), seconds: 900 }),
      );
    }
    workload.habits.push(
      this.#habit({
        network: 'private',
        peer: 'kube-system/kube-dns',
        port: 53,
        transport: 'udp',
        perDay: 6,
        seconds: 5,
      }),
    );
    // A median of 3 operators, most of them daily, some rarely.
    for (let k = chance.count(2.5); k > 0; k--)
      workload.habits.push(
        this.#call(
          chance.pick(this.#saas),
          chance.isTrue(0.93) ? 443 : chance.pick([5671, 8443, 587, 9243]),
          chance.pick([12, 4, 1, 0.3]),
        ),
      );
    if (chance.isTrue(0.25))
      workload.habits.push(
        this.#habit({ network: 'cloud_metadata', port: 80, perDay: 6, seconds: 1, held: chance.isTrue(0.3) }),
      );
    if (chance.isTrue(0.06))
      workload.habits.push(
        this.#habit({ network: 'private', peer: 'default/kubernetes', port: 443, perDay: 10, seconds: 3000 }),
      );
    if (chance.isTrue(0.2))
      workload.habits.push(this.#habit({ what: 'listen', port: 41_000, transport: 'udp', perDay: 0.5 }));
    // A helper that starts later: a cron job in the container, a converter.
    if (chance.isTrue(0.15))
      workload.habits.push({
        ...this.#call(chance.pick(this.#saas), 443, chance.pick([1, 0.3, 0.14])),
        process: chance.pick(['backup.sh', 'ffmpeg', 'curl', 'rclone', 'wkhtmltopdf']),
      });
  }

  #addHostUnits(): void {
    const mirrors = [this.#stranger(), this.#stranger(), ...CLOUDS.slice(0, 3)];
    for (const [name, process] of HOST_UNITS) {
      const workload = this.#add({ namespace: '', name, process, nodes: this.#nodes, releasesPerDay: 1 / 30 });
      if (name === 'apt-daily.service' || name === 'snapd.service')
        for (const mirror of mirrors) workload.habits.push(this.#call([mirror], 443, 3));
      else if (name === 'chronyd.service')
        for (let i = 0; i < 12; i++)
          workload.habits.push({ ...this.#call([this.#stranger()], 123, 1), transport: 'udp' });
      else if (name === 'kubelet.service')
        workload.habits.push(
          this.#habit({ network: 'private', peer: 'default/kubernetes', port: 6443, perDay: 20, seconds: 3000 }),
        );
      else workload.habits.push(this.#habit({ network: 'private', peer: 'ops/logs', port: 9200, perDay: 10 }));
      workload.habits.push(this.#habit({ what: 'listen', port: 9000 + workload.name.length }));
    }
    for (let i = 0; i < 5; i++) {
      const sshd = this.#add({
        namespace: '',
        name: `sshd-${i}.service`,
        process: 'sshd',
        nodes: [this.#chance.pick(this.#nodes)],
      });
      sshd.habits.push(this.#habit({ what: 'listen', port: 22 }));
      for (let k = 0; k < 3; k++)
        sshd.habits.push(
          this.#habit({
            what: 'inbound',
            network: 'public',
            operators: [this.#stranger()],
            port: 22,
            perDay: 0.7,
            seconds: 2400,
          }),
        );
    }
  }

  #addNoisy(): void {
    const noisy = [
      'crawler',
      'p2p',
      'resolver',
      'resolver-b',
      'mail',
      'federation',
      'browser',
      'webhooks',
      'egress-proxy',
      'ci-a',
      'ci-b',
      'newsletter',
    ];
    for (const name of noisy) {
      const workload = this.#add({ namespace: 'edge', name, process: name, isNoisy: true, releasesPerDay: 0.1 });
      workload.habits.push(this.#habit({ what: 'listen', port: 8443 }));
    }
    for (const name of ['bastion-a.service', 'bastion-b.service'])
      this.#add({ namespace: '', name, process: 'sshd', isNoisy: true, nodes: [this.#chance.pick(this.#nodes)] });
  }

  #addJobs(count: number): void {
    for (let i = 0; i < count; i++) {
      const workload = this.#add({
        namespace: 'data',
        name: `job-${i}`,
        process: 'job.py',
        weekday: this.#chance.below(7),
      });
      for (let k = 0; k < 3; k++) workload.habits.push(this.#call(this.#chance.pick(this.#saas), 443, 1, 1e7));
      const { peer, port } = this.#chance.pick(this.#services);
      workload.habits.push(this.#habit({ network: 'private', peer, port, perDay: 1 }));
    }
  }

  #add(named: Partial<Workload> & { namespace: string; name: string; process: string }): Workload {
    const workload: Workload = {
      nodes: [this.#chance.pick(this.#nodes), this.#chance.pick(this.#nodes)],
      habits: [],
      releasesPerDay: 0,
      isVersioned: false,
      isNoisy: false,
      weekday: null,
      release: 0,
      containerStartedAt: -30 * DAY,
      formerContainerStartedAt: -30 * DAY,
      pod: named.namespace === '' ? '' : `${named.name}-7d9f-x`,
      ...named,
    };
    this.#workloads.push(workload);
    return workload;
  }

  #habit(habit: Partial<Habit>): Habit {
    return {
      what: 'outbound',
      process: '',
      transport: 'tcp',
      network: 'private',
      operators: [],
      port: 80,
      peer: null,
      perDay: 1,
      seconds: 120,
      held: true,
      bytes: 4000,
      ...habit,
    };
  }

  #call(operators: readonly number[], port: number, perDay: number, typicalBytes = 50_000): Habit {
    const held = this.#chance.isTrue(0.6);
    const bytes = Math.min(1e10, typicalBytes * this.#chance.factor(2.5));
    return this.#habit({ network: 'public', operators, port, perDay, held, seconds: held ? 300 : 1, bytes });
  }

  #stranger(): number {
    return this.#nextOperator++;
  }

  #processOf({ process, isVersioned, release }: Workload): string {
    return isVersioned ? process.replace('1.4.0', `1.4.${release}`) : process;
  }

  #line(workload: Workload, at: number, given: Partial<WorldLine>): WorldLine {
    const isBefore = at < workload.containerStartedAt;
    const began = isBefore ? workload.formerContainerStartedAt : workload.containerStartedAt;
    return {
      at: Math.floor(at),
      until: Math.floor(at) + 120,
      node: workload.nodes[Math.floor(at) % workload.nodes.length] ?? 'n1',
      namespace: workload.namespace,
      workload: workload.name,
      pod: workload.pod,
      process: this.#processOf(workload),
      process_started_at: Math.floor(began) + 2,
      container_started_at: Math.floor(began),
      what: 'outbound',
      transport: 'tcp',
      network: 'private',
      asn: null,
      port: null,
      peer: null,
      held: true,
      bytes_sent: 4000,
      attack: null,
      ...given,
    };
  }

  #perform(workload: Workload, habit: Habit, at: number): WorldLine {
    const { process, transport, network, operators, port, peer, what, seconds, held, bytes } = habit;
    // The second home of a service answers one call in 20.
    const operator = operators.length > 1 && this.#chance.isTrue(0.05) ? operators[1] : operators[0];
    return this.#line(workload, at, {
      ...(process === '' ? {} : { process, process_started_at: Math.floor(at) - 5 }),
      ...(held ? {} : { process: null, process_started_at: null }),
      what,
      transport,
      network,
      asn: operator ?? null,
      port,
      peer,
      held,
      until: Math.floor(at + seconds * this.#chance.between(0.5, 2)),
      bytes_sent: Math.min(1e11, Math.floor(bytes * this.#chance.factor(1))),
    });
  }

  #listeners(workload: Workload, at: number): WorldLine[] {
    return workload.habits
      .filter(({ what, port }) => what === 'listen' && port < 32_768)
      .map((habit) => ({ ...this.#perform(workload, habit, at + 5), until: FOREVER }));
  }

  #run(workload: Workload, start: number, seconds: number, factor: number): WorldLine[] {
    const lines: WorldLine[] = [];
    for (const habit of workload.habits) {
      if (habit.what === 'listen' && habit.port < 32_768) continue;
      for (let k = this.#chance.count((habit.perDay * factor * seconds) / DAY); k > 0; k--)
        lines.push(this.#perform(workload, habit, start + this.#chance.between(0, seconds)));
    }
    if (workload.weekday !== null)
      for (const habit of workload.habits)
        lines.push(this.#perform(workload, habit, start + this.#chance.between(0, seconds)));
    if (workload.isNoisy) lines.push(...this.#strangers(workload, start));
    return lines;
  }

  #strangers(workload: Workload, start: number): WorldLine[] {
    const isInbound = workload.namespace === '';
    return Array.from({ length: 5 + this.#chance.count(isInbound ? 8 : 35) }, () => {
      const asn = this.#chance.isTrue(0.5)
        ? this.#chance.pick([...CLOUDS, ...HOSTERS])
        : 300_000 + this.#chance.below(20_000);
      const port = isInbound ? 22 : this.#chance.pick([443, 443, 443, 80, 53, 25, 6881]);
      const held = this.#chance.isTrue(0.7);
      const what = isInbound ? 'inbound' : 'outbound';
      const at = start + this.#chance.between(0, DAY);
      return this.#line(workload, at, {
        what,
        network: 'public',
        asn,
        port,
        held,
        ...(held ? {} : { process: null, process_started_at: null }),
      });
    });
  }

  #release(workload: Workload, at: number): WorldLine[] {
    const chance = this.#chance;
    const lines = [this.#line(workload, at, { what: 'release', process: null })];
    workload.release++;
    workload.formerContainerStartedAt = workload.containerStartedAt;
    workload.containerStartedAt = at + 30;
    const added: Habit[] = [];
    if (chance.isTrue(0.06))
      added.push(
        this.#call(
          chance.isTrue(0.8) ? chance.pick(this.#saas) : [this.#stranger()],
          chance.isTrue(0.95) ? 443 : 8883,
          6,
        ),
      );
    if (chance.isTrue(0.06))
      added.push(this.#habit({ ...chance.pick(this.#services), network: 'private', perDay: 6, seconds: 900 }));
    if (chance.isTrue(0.01)) added.push(this.#habit({ what: 'listen', port: chance.pick([9090, 8081, 9464, 6060]) }));
    workload.habits.push(...added);
    lines.push(...this.#listeners(workload, at + 40));
    for (const habit of added)
      if (habit.what !== 'listen' && chance.isTrue(0.8))
        lines.push(this.#perform(workload, habit, at + 60 + chance.between(0, 1200)));
    return lines;
  }

  /** Changes that come without a rollout: a switch of a feature, a new customer, an edited configuration. */
  #drift(workload: Workload): void {
    const chance = this.#chance;
    if (workload.isNoisy || workload.namespace === '') return;
    if (chance.isTrue(1 / 150))
      workload.habits.push(this.#call(chance.isTrue(0.75) ? chance.pick(this.#saas) : [this.#stranger()], 443, 2));
    if (chance.isTrue(1 / 400))
      workload.habits.push(this.#habit({ ...chance.pick(this.#services), network: 'private', perDay: 3 }));
  }

  /** A service moves to another operator. */
  #moveService(): void {
    const moved = this.#chance.pick(this.#saas);
    moved[0] = this.#chance.isTrue(0.7) ? this.#chance.pick(CLOUDS) : this.#stranger();
  }

  /** Debugging in containers, logins from new places. */
  #people(start: number): WorldLine[] {
    const chance = this.#chance;
    const lines: WorldLine[] = [];
    const calm = this.#workloads.filter(({ isNoisy, weekday }) => !isNoisy && weekday === null);
    for (let k = chance.count(0.015 * this.#nodes.length); k > 0; k--) {
      const workload = chance.pick(calm);
      const at = start + chance.between(8, 19) * HOUR;
      const given = {
        process: chance.pick(DEBUG_TOOLS),
        process_started_at: Math.floor(at) - 3,
        until: Math.floor(at) + 20,
      };
      const isPublic = chance.isTrue(0.2);
      if (isPublic)
        lines.push(
          this.#line(workload, at, {
            ...given,
            network: 'public',
            asn: chance.pick(chance.pick(this.#saas)),
            port: 443,
          }),
        );
      else lines.push(this.#line(workload, at, { ...given, ...chance.pick(this.#services) }));
    }
    const sshd = this.#workloads.filter(({ name }) => name.startsWith('sshd-'));
    if (chance.isTrue(0.005 * this.#nodes.length))
      lines.push(
        this.#line(chance.pick(sshd), start + chance.between(8, 22) * HOUR, {
          what: 'inbound',
          network: 'public',
          asn: this.#stranger(),
          port: 22,
          until: Math.floor(start + DAY),
        }),
      );
    return lines;
  }

  #outages(start: number, day: number): WorldLine[] {
    const lines: WorldLine[] = [];
    const part = (['provider', 'store', 'prometheus', 'exporter', 'node'] as const)[day % 11];
    if (part === undefined || day < 3) return lines;
    const workload = this.#chance.pick(this.#workloads);
    const at = start + this.#chance.between(1, 20) * HOUR;
    const until = at + this.#chance.between(0.2, 4) * HOUR;
    for (const [what, when] of [
      ['down', at],
      ['up', until],
    ] as const)
      lines.push(
        this.#line(workload, when, {
          what,
          process: part,
          node: part === 'node' || part === 'exporter' ? (workload.nodes[0] ?? 'n1') : '',
        }),
      );
    return lines;
  }

  /** The lines of an attack on a random calm workload. */
  attack(kind: (typeof ATTACKS)[number], name: string, at: number): WorldLine[] {
    const chance = this.#chance;
    const pods = this.#workloads.filter(
      ({ isNoisy, namespace, weekday }) => !isNoisy && namespace !== '' && weekday === null,
    );
    const victim = chance.pick(pods);
    const node = victim.nodes[0] ?? 'n1';
    const late = (process: string, started = at): Partial<WorldLine> => ({
      process,
      process_started_at: Math.floor(started) - 2,
    });
    const hoster = chance.isTrue(0.7)
      ? chance.pick(HOSTERS)
      : chance.isTrue(0.5)
        ? this.#stranger()
        : chance.pick(CLOUDS);
    const line = (seconds: number, given: Partial<WorldLine>, after = 0): WorldLine => ({
      ...this.#line(victim, at + after, { node, attack: name, ...given }),
      until: Math.floor(at + after + seconds),
    });
    const out = (asn: number, port: number): Partial<WorldLine> => ({ network: 'public', asn, port });
    switch (kind) {
      case 'reverse_shell':
        return [
          line(chance.between(120, 7200), {
            ...out(hoster, chance.pick([443, 4444, 9001, 8080])),
            ...late(chance.pick(['bash', 'sh', 'nc', 'python3', 'perl'])),
          }),
        ];
      case 'miner':
        return [
          line(6 * HOUR, {
            ...out(hoster, chance.pick([3333, 443, 14444, 80])),
            ...late(chance.pick(['xmrig', 'kdevtmpfsi', 'kworker', 'sysupdate'])),
          }),
        ];
      case 'exfiltration':
        return [
          line(chance.between(180, 3600), {
            ...out(chance.pick(HOSTERS), chance.pick([443, 443, 22, 21])),
            bytes_sent: Math.floor(chance.between(5e7, 5e9)),
          }),
        ];
      case 'exfiltration_cloud':
        return [
          line(chance.between(180, 3600), {
            ...out(chance.pick(CLOUDS), 443),
            bytes_sent: Math.floor(chance.between(2e8, 2e10)),
          }),
        ];
      case 'metadata':
        return [
          line(90, { network: 'cloud_metadata', port: 80, ...late('curl') }),
          line(5, { network: 'cloud_metadata', port: 80, held: false, process: null }, 40),
        ];
      case 'lateral_ssh':
        return [0, 60, 150].map((after) =>
          line(
            300,
            { port: 22, peer: chance.pick(this.#services).peer, ...late(chance.pick(['ssh', 'python3'])) },
            after,
          ),
        );
      case 'lateral_database': {
        const target = chance.pick(this.#services.slice(0, this.#databases));
        return [
          line(1200, { ...target, ...(chance.isTrue(0.6) ? late(chance.pick(['psql', 'python3', 'mysql'])) : {}) }),
        ];
      }
      case 'bind_shell':
        return [
          line(4 * HOUR, {
            what: 'listen',
            network: null,
            port: chance.pick([4444, 31337, 45678, 1337]),
            ...late(chance.pick(['nc', 'bash', 'python3', 'socat'])),
          }),
        ];
      case 'scan':
        return Array.from({ length: 60 }, (_, index) =>
          line(
            2,
            {
              ...chance.pick(this.#services),
              port: chance.pick([22, 80, 443, 3306, 5432, 6379, 8080, 10250]),
              held: false,
              process: null,
              process_started_at: null,
            },
            index * 4,
          ),
        );
      case 'beacon':
        return Array.from({ length: 30 }, (_, index) =>
          line(
            1,
            { ...out(hoster, chance.pick([443, 8443, 53])), held: false, process: null, process_started_at: null },
            index * 120,
          ),
        );
      case 'supply_chain':
        return [
          line(0, { what: 'release', process: null, attack: null }),
          ...[300, 3000, 9000].map((after) =>
            line(
              60,
              {
                ...out(chance.pick(HOSTERS), 443),
                process_started_at: Math.floor(at) + 30,
                container_started_at: Math.floor(at) + 28,
              },
              after,
            ),
          ),
        ];
      case 'remote_login': {
        const sshd = chance.pick(this.#workloads.filter(({ name }) => name.startsWith('sshd-')));
        return [
          {
            ...this.#line(sshd, at, {
              what: 'inbound',
              network: 'public',
              asn: chance.pick(HOSTERS),
              port: 22,
              attack: name,
            }),
            until: at + 1800,
          },
        ];
      }
      case 'tool_download':
        return [
          line(chance.between(30, 200), {
            ...out(chance.isTrue(0.5) ? 36459 : hoster, chance.pick([443, 80])),
            ...late(chance.pick(['curl', 'wget'])),
          }),
        ];
      case 'spam':
        return Array.from({ length: 80 }, (_, index) =>
          line(30, { ...out(310_000 + chance.below(9000), 25), ...late('sendmail') }, index * 20),
        );
      case 'kubernetes_api':
        return [
          line(400, {
            port: 443,
            peer: 'default/kubernetes',
            ...(chance.isTrue(0.5) ? late(chance.pick(['kubectl', 'curl'])) : {}),
          }),
        ];
      case 'udp_backdoor':
        return [
          line(8 * HOUR, {
            what: 'listen',
            transport: 'udp',
            network: null,
            port: chance.pick([5353, 1194, 48_123, 51_820]),
            ...late(chance.pick(['python3', 'wg', 'chisel'])),
          }),
        ];
    }
  }
}
