import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CLOSE_WAIT, ESTABLISHED, SYN_RECV, TIME_WAIT } from '../../src/collect/net-tcp-udp-raw.ts';
import type { SocketDump } from '../../src/collect/netlink.ts';
import { Procfs } from '../../src/collect/procfs.ts';
import { parseConfig } from '../../src/config/config.ts';
import { Scrape } from '../../src/scrape.ts';
import {
  SimulatedHost,
  type Ending,
  type SimulatedNamespace,
  type SimulatedSocket,
} from '../support/simulated-sockets.ts';

/** What the exporter counts. */
interface Counts {
  sent: number;
  received: number;
  retransmitted: number;
  ended: number;
  opened: number;
  closed: number;
}

const ZERO: Counts = { sent: 0, received: 0, retransmitted: 0, ended: 0, opened: 0, closed: 0 };

const ENDINGS: readonly Ending[] = [
  'active close',
  'passive close',
  'passive close, FIN not read',
  'reset',
  'unread data',
  'SO_LINGER 0',
  'refused',
  'refused, remote end wiped',
];

/** One step of a run. Numbers choose among what is there. */
type Step =
  | { readonly do: 'open'; readonly where: number; readonly port: number; readonly remote: number; readonly as: number }
  | { readonly do: 'transfer'; readonly which: number; readonly sent: number; readonly received: number }
  | { readonly do: 'half-close'; readonly which: number }
  | {
      readonly do: 'end';
      readonly which: number;
      readonly how: number;
      readonly delay: number;
      readonly chance: number;
    }
  | { readonly do: 'pass'; readonly ms: number }
  | { readonly do: 'take' }
  | { readonly do: 'dump' }
  | { readonly do: 'scan'; readonly isDumped: boolean }
  | { readonly do: 'replace'; readonly where: number };

const natural = fc.nat({ max: 1_000 });
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('open' as const),
      ...{ where: natural, port: natural, remote: natural, as: natural },
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('transfer' as const),
      ...{ which: natural, sent: natural, received: natural },
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('half-close' as const), which: natural }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      ...{ which: natural, how: natural, delay: fc.nat({ max: 60 }), chance: natural },
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(1, 20, 70, 1_000, 9_000) }),
  },
  { weight: 2, arbitrary: fc.constant({ do: 'take' as const }) },
  { weight: 2, arbitrary: fc.constant({ do: 'dump' as const }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('scan' as const), isDumped: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('replace' as const), where: natural }) },
);

/** What may happen in a run. */
interface Conditions {
  /** Few ports: they are used again, also out of TIME_WAIT. */
  readonly reusesPorts?: boolean;
  readonly losesEvents?: boolean;
  readonly losesDumps?: boolean;
  /** Namespaces end and others get their numbers: at any moment, or once the exporter knows their numbers and no event is late. */
  readonly replacesNamespaces?: 'any' | 'known';
}

/** A host and the exporter on it, with the true counts. */
class Run {
  readonly host = new SimulatedHost();
  reused = 0;
  /** TIME_WAIT rows that ended with their namespaces. Each may hide one FIN, too. */
  hidden = 0;
  /** Every connection so far, and how it ended. */
  readonly #connections: { socket: SimulatedSocket; ending: Ending | null; isLost: boolean }[] = [];
  counted: Counts = { ...ZERO };
  scrape: Scrape;
  readonly #conditions: Conditions;
  #dump: SocketDump | null = null;
  #port = 1_024;
  #address = 10;

  constructor(conditions: Conditions) {
    this.#conditions = conditions;
    this.host.add('192.0.2.1', null, 'host');
    this.host.add('10.0.0.1', 1);
    this.host.add('10.0.0.2', 2);
    this.host.add('10.0.0.3', null);
    for (const namespace of this.host.namespaces) this.host.listen(namespace, 80);
    this.scrape = this.#start();
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]();
  }

  #start(): Scrape {
    const { host } = this;
    host.write();
    const config = parseConfig({ 'asn.provider': 'none' }, {});
    const clock = { now: () => host.now, monotonic: () => host.now };
    this.#dump = null;
    this.counted = { ...ZERO };
    return new Scrape(new Procfs(host.root), config, clock, null, host.source);
  }

  restart(): void {
    this.scrape = this.#start();
  }

  /** Lets every namespace with a number be known by its address. */
  introduce(): void {
    this.host.pass(1_000);
    for (const namespace of this.host.namespaces.slice(1)) this.#introduce(namespace);
    this.host.pass(100);
    this.scan(true);
  }

  #introduce(namespace: SimulatedNamespace): void {
    const socket = this.open(namespace, 80, '198.51.100.99:60000', true);
    if (socket) this.end(socket, 'reset', 0);
    this.host.pass(1);
    this.scrape.traffic?.takeEnded();
  }

  open(
    namespace: SimulatedNamespace,
    port: number,
    remote: string,
    isInbound: boolean,
    state = ESTABLISHED,
  ): SimulatedSocket | null {
    const before = namespace.sockets.size;
    const socket = this.host.open(namespace, port, remote, { isInbound, state });
    if (socket && namespace.sockets.size === before) this.reused++;
    if (socket) this.#connections.push({ socket, ending: null, isLost: false });
    return socket;
  }

  end(socket: SimulatedSocket, ending: Ending, delay: number, isLost = false): void {
    const connection = this.#connections.find((known) => known.socket === socket);
    if (connection) Object.assign(connection, { ending, isLost });
    this.host.end(socket, ending, delay, isLost);
  }

  /** What is to be counted, after all have ended. */
  get truth(): Counts {
    const truth = { ...ZERO };
    for (const { socket, ending, isLost } of this.#connections) {
      const { wasSeen } = socket.history;
      const isHeard = socket.namespace.nsid !== null && ending !== null;
      const isReported = isHeard && !isLost && ending !== 'refused, remote end wiped';
      if (isReported || wasSeen) {
        truth.opened++;
        truth.closed++;
      }
      if (isHeard && (isReported || wasSeen)) truth.ended++;
      if (!isHeard) continue;
      truth.sent += socket.sent;
      truth.received += socket.received;
      truth.retransmitted += socket.retransmitted;
    }
    return truth;
  }

  /** What all connections have transferred so far. */
  get transferred(): Pick<Counts, 'sent' | 'received' | 'retransmitted'> {
    const sum = (name: 'sent' | 'received' | 'retransmitted'): number =>
      this.#connections.reduce((total, { socket }) => total + socket[name], 0);
    return { sent: sum('sent'), received: sum('received'), retransmitted: sum('retransmitted') };
  }

  /** Connections whose totals the kernel discarded, and those that scans saw and whose events were lost. */
  get expectedWithoutTotals(): number {
    return this.#connections.filter(({ socket: { namespace, history }, ending, isLost }) => {
      if (namespace.nsid === null || ending === null) return false;
      if (ending === 'refused, remote end wiped') return history.wasSeen;
      return isLost ? history.wasSeen : ending === 'SO_LINGER 0';
    }).length;
  }

  run(step: Step): void {
    const { host } = this;
    const { reusesPorts, losesEvents, losesDumps, replacesNamespaces } = this.#conditions;
    switch (step.do) {
      case 'open': {
        const namespace = pick(host.namespaces, step.where);
        if (!namespace) break;
        const isInbound = step.as % 2 === 0;
        const free = reusesPorts ? 50_000 + (step.port % 3) : (this.#port += 1);
        const remote = `198.51.100.${1 + (step.remote % (reusesPorts ? 2 : 9))}`;
        const state = step.as % 8 === 0 ? SYN_RECV : ESTABLISHED;
        this.open(namespace, isInbound ? 80 : free, `${remote}:${isInbound ? free : 443}`, isInbound, state);
        break;
      }
      case 'transfer': {
        const socket = pick(this.#open, step.which);
        if (socket) host.transfer(socket, step.sent, step.received, step.sent % 3);
        break;
      }
      case 'half-close': {
        const socket = pick(this.#open, step.which);
        const waiting = pick(this.#syns, step.which);
        if (waiting) host.establish(waiting);
        else if (socket) host.halfClose(socket);
        break;
      }
      case 'end': {
        const socket = pick(this.#open, step.which);
        if (socket)
          this.end(socket, this.#endingOf(socket, step.how), step.delay, losesEvents && step.chance % 3 === 0);
        break;
      }
      case 'pass':
        host.pass(step.ms);
        break;
      case 'take':
        this.scrape.traffic?.takeEnded();
        break;
      case 'dump':
        this.#dump = host.dump();
        break;
      case 'scan':
        this.scan(!losesDumps || step.isDumped);
        break;
      case 'replace':
        if (replacesNamespaces) this.#replace(pick(host.namespaces.slice(1), step.where));
    }
  }

  get #open(): SimulatedSocket[] {
    return this.host.namespaces.flatMap(({ sockets }) =>
      [...sockets].filter(({ state }) => state === ESTABLISHED || state === CLOSE_WAIT),
    );
  }

  get #syns(): SimulatedSocket[] {
    return this.host.namespaces.flatMap(({ sockets }) => [...sockets].filter(({ state }) => state === SYN_RECV));
  }

  #endingOf(socket: SimulatedSocket, how: number): Ending {
    if (socket.state === CLOSE_WAIT) return 'passive close';
    const ending = ENDINGS[how % ENDINGS.length] ?? 'reset';
    // Of a socket that was never established nothing is reported. The simulated rows show it as established.
    if (this.#conditions.replacesNamespaces && ending === 'refused, remote end wiped') return 'reset';
    const isUnused = socket.sent + socket.received + socket.retransmitted === 0;
    return ending.startsWith('refused') && (!isUnused || socket.isInbound) ? 'reset' : ending;
  }

  #replace(namespace: SimulatedNamespace | undefined): void {
    const { host } = this;
    if (!namespace) return;
    const isKnown = this.#conditions.replacesNamespaces === 'known';
    if (isKnown) host.pass(60);
    for (const socket of [...namespace.sockets])
      if (socket.state === ESTABLISHED || socket.state === CLOSE_WAIT)
        this.end(socket, this.#endingOf(socket, ENDINGS.indexOf('reset')), 0);
    host.pass(1);
    this.scrape.traffic?.takeEnded();
    this.hidden += [...namespace.sockets].filter(({ state }) => state === TIME_WAIT).length;
    host.remove(namespace);
    const added = host.add(`10.0.1.${this.#address++}`, namespace.nsid);
    host.listen(added, 80);
    if (!isKnown) return;
    this.scan(true);
    this.#introduce(added);
  }

  /** Scans with the last dump, or one of this moment. */
  scan(isDumped: boolean): void {
    const { host } = this;
    const dump = isDumped ? (this.#dump ?? host.dump()) : null;
    this.#dump = null;
    host.write();
    host.markSeen(isDumped);
    const { families, failures } = this.scrape.scan(Infinity, dump);
    expect(failures).toEqual([]);
    const sum = (name: string): number => {
      const { labels = [], samples = [] } = families.find((family) => family.name === name) ?? {};
      const direction = labels.indexOf('direction');
      return samples.reduce((total, sample) => total + (sample.labels[direction] === 'listen' ? 0 : sample.value), 0);
    };
    const { asn } = this.scrape.traffic?.traffic ?? { asn: [] };
    const before = this.counted;
    this.counted = {
      sent: asn.reduce((total, { sentBytes }) => total + sentBytes, 0),
      received: asn.reduce((total, { receivedBytes }) => total + receivedBytes, 0),
      retransmitted: asn.reduce((total, { retransmittedBytes }) => total + retransmittedBytes, 0),
      ended: asn.reduce((total, { closedConnections }) => total + closedConnections, 0),
      opened: sum('peerscope_connections_opened_total'),
      closed: sum('peerscope_connections_closed_total'),
    };
    for (const name of Object.keys(before) as (keyof Counts)[])
      expect(this.counted[name], `${name} steps back`).toBeGreaterThanOrEqual(before[name]);
    // An event is never later than the second scan after it.
    host.pass(60);
  }

  /** Ends everything, and scans until all is counted. */
  finish(): void {
    for (const socket of this.#syns) this.host.expire(socket);
    for (const socket of this.#open) this.end(socket, this.#endingOf(socket, 0), 0);
    this.host.pass(100);
    for (let i = 0; i < 5; i++) {
      this.scan(true);
      this.host.pass(31_000);
    }
  }

  get withoutTotals(): number {
    return this.scrape.traffic?.status.closedWithoutTotals ?? 0;
  }
}

function pick<T>(from: readonly T[], which: number): T | undefined {
  return from[which % from.length];
}

const anySteps = fc.array(anyStep, { minLength: 1, maxLength: 60 });

function play(steps: readonly Step[], conditions: Conditions): Run {
  const run = new Run(conditions);
  run.scan(true);
  run.introduce();
  for (const step of steps) run.run(step);
  run.finish();
  return run;
}

const runs = { numRuns: Number(process.env['RUNS'] ?? 30) };

function expectNoMore({ truth, counted }: Run): void {
  expect(counted.sent).toBeLessThanOrEqual(truth.sent);
  expect(counted.received).toBeLessThanOrEqual(truth.received);
  expect(counted.retransmitted).toBeLessThanOrEqual(truth.retransmitted);
}

/** If no connection ended without totals, bytes are exact, except for `missing` received ones. */
function expectBytes(run: Run, missing = 0): void {
  const { truth, counted } = run;
  expectNoMore(run);
  if (run.expectedWithoutTotals > 0) return;
  expect(counted).toMatchObject({ sent: truth.sent, retransmitted: truth.retransmitted });
  expect(counted.received).toBeGreaterThanOrEqual(truth.received - missing);
}

const call = (where: number): Step => ({ do: 'open', where, port: 0, remote: 0, as: 1 });
const receive: Step = { do: 'transfer', which: 0, sent: 7, received: 9 };
const close = (how: Ending): Step => ({ do: 'end', which: 0, how: ENDINGS.indexOf(how), delay: 0, chance: 1 });
const later: Step = { do: 'pass', ms: 70 };
const scanned: Step = { do: 'scan', isDumped: true };

/** Found by the properties, with other code. */
const FOUND: readonly (readonly Step[])[] = [
  // An event that is taken before the scan, after a dump that still has the socket.
  [call(0), { do: 'dump' }, receive, close('active close'), later, { do: 'take' }, scanned, scanned],
  // The same without an event before the scan.
  [call(0), { do: 'dump' }, receive, close('active close'), later, scanned, scanned],
  // A dump of a known connection, from before its end.
  [call(0), scanned, { do: 'dump' }, receive, close('active close'), later, { do: 'take' }, scanned, scanned],
  // A connection of a pod that ends in the first interval after its scan.
  [call(1), scanned, receive, close('passive close'), later, { do: 'take' }, scanned],
  // One that ends discarded, beside another that does not.
  [call(1), call(1), scanned, receive, close('SO_LINGER 0'), close('reset'), later, { do: 'take' }, scanned],
];

const replace = (where: number): Step => ({ do: 'replace', where });

/** Namespaces whose numbers are reused while their events are still queued. */
const REUSED: readonly (readonly Step[])[] = [
  [replace(0), call(3), { do: 'scan', isDumped: false }, replace(0), call(0)],
  [replace(0), call(3), replace(2), { do: 'take' }],
];

test('bytes and connections are exact, whatever the order of dumps, events and scans', () => {
  fc.assert(
    fc.property(anySteps, (steps) => {
      using run = play(steps, {});
      expectBytes(run);
      const { ended, opened, closed } = run.counted;
      expect({ ended, opened, closed }).toEqual(pickConnections(run.truth));
      expect(run.withoutTotals).toBe(run.expectedWithoutTotals);
    }),
    { ...runs, examples: FOUND.map((steps) => [[...steps]] as [Step[]]) },
  );
});

test('they are exact too if some scans have text in place of a dump', () => {
  fc.assert(
    fc.property(anySteps, (steps) => {
      using run = play(steps, { losesDumps: true });
      expectBytes(run);
      const { ended, opened, closed } = run.counted;
      expect({ ended, opened, closed }).toEqual(pickConnections(run.truth));
      expect(run.withoutTotals).toBe(run.expectedWithoutTotals);
    }),
    runs,
  );
});

test('a port that is used again may hide one FIN, and no payload is counted twice', () => {
  fc.assert(
    fc.property(anySteps, (steps) => {
      using run = play(steps, { reusesPorts: true });
      expectBytes(run, run.reused);
      const { ended, opened, closed } = run.counted;
      expect({ ended, opened, closed }).toEqual(pickConnections(run.truth));
    }),
    runs,
  );
});

test('after lost events no more than the truth is counted, and what scans saw is counted as closed without totals', () => {
  fc.assert(
    fc.property(anySteps, (steps) => {
      using run = play(steps, { losesEvents: true, losesDumps: true });
      expectNoMore(run);
      const { ended, opened, closed } = run.counted;
      expect({ ended, opened, closed }).toEqual(pickConnections(run.truth));
      expect(run.withoutTotals).toBe(run.expectedWithoutTotals);
    }),
    runs,
  );
});

test('namespaces that end and whose numbers are given to others keep their bytes', () => {
  fc.assert(
    fc.property(anySteps, (steps) => {
      using run = play(steps, { replacesNamespaces: 'known' });
      expectBytes(run, run.hidden);
      const { ended, opened, closed } = run.counted;
      expect({ ended, opened, closed }).toEqual(pickConnections(run.truth));
    }),
    runs,
  );
});

test('a namespace that ends before its number is known costs what is counted as closed without totals, and counts nothing twice', () => {
  fc.assert(
    fc.property(anySteps, (steps) => {
      using run = play(steps, { replacesNamespaces: 'any' });
      const { truth, counted, withoutTotals } = run;
      expectNoMore(run);
      for (const name of ['ended', 'opened', 'closed'] as const) {
        expect(counted[name]).toBeLessThanOrEqual(truth[name]);
        expect(truth[name] - counted[name]).toBeLessThanOrEqual(withoutTotals);
      }
      if (withoutTotals === 0) expectBytes(run, run.hidden);
    }),
    { ...runs, examples: REUSED.map((steps) => [[...steps]] as [Step[]]) },
  );
});

test('a restart invents no bytes', () => {
  fc.assert(
    fc.property(anySteps, anySteps, (before, after) => {
      using run = new Run({ losesDumps: true });
      run.scan(true);
      run.introduce();
      for (const step of before) run.run(step);
      const { sent, received, retransmitted } = run.transferred;
      run.restart();
      run.scan(true);
      for (const step of after) run.run(step);
      run.finish();
      const { counted, transferred: total } = run;
      expect(counted.sent).toBeLessThanOrEqual(total.sent - sent);
      expect(counted.received).toBeLessThanOrEqual(total.received - received);
      expect(counted.retransmitted).toBeLessThanOrEqual(total.retransmitted - retransmitted);
    }),
    runs,
  );
});

function pickConnections({ ended, opened, closed }: Counts): Pick<Counts, 'ended' | 'opened' | 'closed'> {
  return { ended, opened, closed };
}
