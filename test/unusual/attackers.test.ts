/** What holds, and what does not, against attackers who know peerscope: docs/alerts.md says the same. */
import { expect, test } from 'vitest';
import { UnusualMemory } from '../../src/unusual/memory.ts';
import type { Holder, Observation } from '../../src/unusual/observation.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.parse('2026-09-15T08:00:00Z');
const WEB = { namespace: 'shop', workload: 'web' };
const OTHER = { namespace: 'blog', workload: 'app' };
const NGINX: Holder = { process: 'nginx', startedAt: START - 30 * DAY, containerStartedAt: START - 30 * DAY };
/** A process that an intruder started. */
const late = (process: string): Holder => ({ process, startedAt: START, containerStartedAt: START - 30 * DAY });
const UNHELD: Holder = { process: '', startedAt: null, containerStartedAt: null };

interface Call {
  readonly owner?: typeof WEB;
  readonly holder?: Holder;
  readonly asn?: number;
  readonly port?: number;
}

const call = ({ owner = WEB, holder = NGINX, asn = 64_500, port = 443 }: Call, at: number): Observation => ({
  event: 'outbound',
  owner,
  holder,
  at,
  transport: 'tcp',
  network: 'public',
  asn,
  port,
  peer: null,
});

/** A memory, and the scans of it: at days from the start, with these calls. */
function memoryAfter(scans: readonly (readonly [day: number, calls: readonly Call[]])[]): UnusualMemory {
  const memory = new UnusualMemory({ isShared: false });
  for (const [day, calls] of scans) {
    const at = START + day * DAY;
    memory.begin(at);
    for (const one of calls) memory.observe(call(one, at));
    memory.end();
    memory.markExported(memory.reports, at);
  }
  return memory;
}

const ordinary: (readonly [number, readonly Call[]])[] = Array.from({ length: 20 }, (_, i) => [
  i / 2 - 10,
  [{}, { owner: OTHER }],
]);
const SHELL: Call = { holder: late('bash'), asn: 64_666, port: 4444 };
const pointsOf = (memory: UnusualMemory, { workload }: typeof WEB): number =>
  memory.points().find(({ owner }) => owner.workload === workload)?.points ?? 0;

test.each<{ attack: string; scans: [number, Call[]][]; points: number }>([
  { attack: 'a shell, for comparison', scans: [[0.1, [SHELL]]], points: 6 },
  {
    attack: 'a shell with the name of a known process: its operator and port are new',
    scans: [[0.1, [{ ...SHELL, holder: late('nginx') }]]],
    points: 3,
  },
  {
    attack: 'a shell with the name of a known process that calls a known operator at a known port: unseen',
    scans: [[0.1, [{ holder: late('nginx') }]]],
    points: 0,
  },
  {
    attack: 'calls that end before a scan: the rows in TIME_WAIT count for the workload',
    scans: [[0.1, [{ ...SHELL, holder: UNHELD }]]],
    points: 3,
  },
  {
    attack: 'a rare call of harmless things before: what is new later still counts',
    scans: [
      [0.1, [{ asn: 64_501 }]],
      [1, [SHELL]],
    ],
    points: 6,
  },
  {
    attack: 'new operators for days, until the workload is not calm: its process and port still count',
    scans: [...[1, 2, 3, 4].map((day): [number, Call[]] => [day, [{ asn: 64_510 + day }]]), [5, [SHELL]]],
    points: 4,
  },
])('$attack', ({ scans, points }) => {
  expect(pointsOf(memoryAfter([...ordinary, ...scans]), WEB)).toBe(points);
});

test('what an intruder did on the first day is known: unseen', () => {
  const memory = memoryAfter([[-10.1, [SHELL]], ...ordinary, [0.1, [SHELL]]]);
  expect(pointsOf(memory, WEB)).toBe(0);
});

test('a flood of one workload evicts nothing of another, and nothing that it has known for more than a day', () => {
  const flood = Array.from({ length: 1_000 }, (_, i) => ({ asn: 70_000 + i, port: 1024 + i, holder: late(`x${i}`) }));
  const memory = memoryAfter([...ordinary, [0.05, flood], [0.1, [{}]]]);
  expect(memory.firstAtOf(OTHER, 'outbound', 64_500)).toBe(START - 10 * DAY);
  expect(memory.firstAtOf(WEB, 'outbound', 64_500)).toBe(START - 10 * DAY);
  expect(memory.size.outbound).toBeLessThan(1_000);
});

test('a flood of one workload hides no report of another', () => {
  const flood = Array.from({ length: 20_000 }, (_, i) => ({ port: 1024 + i, holder: late(`x${i}`) }));
  const memory = memoryAfter([...ordinary, [0.09, [{ ...SHELL, owner: OTHER }]], [0.1, flood]]);
  expect(pointsOf(memory, OTHER)).toBe(6);
  expect(pointsOf(memory, WEB)).toBeGreaterThan(3);
  expect(memory.reports.length).toBeLessThanOrEqual(3 + 50);
});

test('a shell on a connection that came in counts, from outside and from inside; a relay that listened before does not', () => {
  const inbound = (holder: Holder, network: 'public' | 'inside', at: number): Observation => ({
    event: 'inbound',
    owner: WEB,
    holder,
    at,
    network,
    asn: network === 'public' ? 64_666 : null,
    localPort: 443,
  });
  const pointsAfter = (holder: Holder, network: 'public' | 'inside', isRelay = false): number => {
    const memory = memoryAfter(ordinary);
    const listen: Observation = { event: 'listen', owner: WEB, holder, at: START, transport: 'tcp', port: 8443 };
    const seen = inbound(holder, network, START + HOUR);
    for (const [at, one] of [[START, isRelay ? listen : null] as const, [START + 2 * HOUR, seen] as const]) {
      memory.begin(at);
      if (one) memory.observe(one);
      memory.end();
      memory.markExported(memory.reports, at);
    }
    return pointsOf(memory, WEB);
  };
  expect({
    public: pointsAfter(late('sh'), 'public'),
    inside: pointsAfter(late('bash'), 'inside'),
    service: pointsAfter(late('worker'), 'public'),
    relay: pointsAfter(late('socat'), 'public', true),
  }).toEqual({ public: 4, inside: 4, service: 0, relay: 0 });
});
