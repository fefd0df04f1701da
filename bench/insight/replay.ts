/** Replays a world through the memory of the program: one scan and scrape a minute on each node, memory shared by a store. */
import type { Report } from '../../src/unusual/evidence.ts';
import { UnusualMemory } from '../../src/unusual/memory.ts';
import type { Observation } from '../../src/unusual/observation.ts';
import type { WorldLine } from './world-line.ts';

/** The start of every world, in milliseconds since 1970. */
const EPOCH_MS = Date.UTC(2026, 0, 5);
const SCRAPE = 60;
/** The kernel keeps TIME_WAIT rows for a minute (TCP_TIMEWAIT_LEN). */
const TIME_WAIT = 60;
const SMALL_TRANSFER = 2 ** 20;
/** Answers of the ASN provider are batched. */
const PROVIDER = 6;

/** Points of a report, from its first scrape on; times are seconds from the start. */
export interface ReportedPoints {
  readonly workload: string;
  readonly kind: string;
  readonly what: string;
  readonly points: number;
  readonly reason: string;
  /** When Prometheus has the sample. */
  at: number;
  /** The attack that the line belongs to. */
  readonly attack: string | null;
}

/** An injected attack as far as a world file shows it. */
export interface Attack {
  readonly name: string;
  from: number;
  until: number;
  /** A scan saw one of its rows. */
  isVisible: boolean;
}

export interface Replayed {
  readonly reports: readonly ReportedPoints[];
  readonly attacks: ReadonlyMap<string, Attack>;
  readonly seconds: number;
  readonly nodes: number;
  readonly lines: number;
}

export interface ReplayOptions {
  /** The events of ended connections are there: calls between two scans are seen, with their process. */
  readonly events: boolean;
}

/** Sorts what is to come by the second. */
class Agenda<T> {
  readonly #bySecond = new Map<number, T[]>();
  #next = Infinity;

  add(second: number, value: T): void {
    const values = this.#bySecond.get(second);
    if (values) values.push(value);
    else this.#bySecond.set(second, [value]);
    this.#next = Math.min(this.#next, second);
  }

  /** Removes and returns all up to a second, in order. */
  *take(until: number): Generator<[second: number, value: T]> {
    for (let second = this.#next; second <= until; second++) {
      const values = this.#bySecond.get(second);
      this.#bySecond.delete(second);
      this.#next = second + 1;
      for (const value of values ?? []) yield [second, value];
      if (this.#bySecond.size === 0) break;
    }
    if (this.#bySecond.size === 0) this.#next = Infinity;
  }
}

/** The scrapes of one node, at its own second of the minute. */
class Node {
  readonly phase: number;

  constructor(index: number) {
    this.phase = (index * 37) % SCRAPE;
  }

  scrapeFrom(second: number): number {
    return this.phase + Math.ceil((second - this.phase) / SCRAPE) * SCRAPE;
  }
}

const PARTS = ['node', 'exporter', 'provider', 'store', 'prometheus'] as const;
type Part = (typeof PARTS)[number];

/** The part that an outage is about, in whichever field the world names it. */
function partOf({ process, peer, workload, network, transport, pod }: WorldLine): Part {
  return PARTS.find((part) => [process, peer, workload, network, transport, pod].includes(part)) ?? 'node';
}

export async function replay(
  lines: Iterable<WorldLine> | AsyncIterable<WorldLine>,
  { events }: ReplayOptions,
): Promise<Replayed> {
  const store = new Map<string, number>();
  const memory = new UnusualMemory({ isShared: true });
  memory.markComplete();
  const nodes = new Map<string, Node>();
  const agenda = new Agenda<WorldLine>();
  const resolutions = new Agenda<WorldLine>();
  const transfers = new Agenda<{ line: WorldLine; bytes: number }>();
  const known = new Set<number>();
  const down = new Map<string, number>();
  const attacks = new Map<string, Attack>();
  const reported: ReportedPoints[] = [];
  const seen = new Set<Report>();
  const waitingForUp: { key: string; line: WorldLine }[] = [];
  let lineCount = 0;
  let now = 0;
  let lastEnd = 0;

  const nodeOf = (name: string): Node => {
    const node = nodes.get(name) ?? new Node(nodes.size);
    nodes.set(name, node);
    return node;
  };
  const isDown = (part: Part, node = ''): boolean => down.has(`${part} ${node}`);

  /** The scan that shows a row: null if it falls between two scans. */
  const scanOf = (line: WorldLine, from: number): number | null => {
    const until = line.until ?? Infinity;
    const scan = nodeOf(line.node).scrapeFrom(from);
    if (line.what === 'listen') return scan < until ? scan : null;
    if (events) return scan;
    return scan < (line.held ? until : until + TIME_WAIT) ? scan : null;
  };

  /** A transfer is counted as it proceeds, in at most ten parts. TIME_WAIT rows have no bytes. */
  const planBytes = (line: WorldLine): void => {
    const { at, until, bytes_sent: bytes, network, what, held } = line;
    if (!bytes || network !== 'public' || what !== 'outbound' || !(held || events)) return;
    const seconds = Math.min((until ?? at + 3600) - at, 86_400);
    const parts = bytes < SMALL_TRANSFER ? 1 : Math.min(10, Math.ceil(seconds / SCRAPE));
    for (let part = 1; part <= parts; part++) {
      const scan = scanOf({ ...line, until: Infinity }, at + Math.floor((seconds * part) / parts));
      if (scan !== null) transfers.add(scan, { line, bytes: bytes / parts });
    }
  };

  const count = (line: WorldLine, second: number, act: () => void): void => {
    now = second;
    memory.begin(EPOCH_MS + second * 1000);
    act();
    publish(line, second);
  };

  const observe = (line: WorldLine, second: number): void => {
    const at = EPOCH_MS + line.at * 1000;
    const observation = observationOf(line, at, events);
    if (observation) count(line, second, () => memory.observe(observation));
  };

  /** Asks the store about new things, and notes the reports for the next scrape. */
  const publish = (line: WorldLine, second: number): void => {
    const sightings = memory.takeSightings();
    if (sightings.length > 0)
      memory.confirm(
        sightings.map(({ key, at }) => {
          if (isDown('store')) return { key, previous: 'unknown' };
          const previous = store.get(key) ?? null;
          store.set(key, Math.min(at, previous ?? at));
          return { key, previous };
        }),
        EPOCH_MS + second * 1000,
      );
    const node = nodeOf(line.node);
    memory.markExported(memory.reports, EPOCH_MS + second * 1000);
    for (const report of memory.reports) {
      if (seen.has(report)) continue;
      seen.add(report);
      const { kind, what, points, reason } = report;
      const at = node.scrapeFrom(second + 1);
      const workload = `${line.namespace}/${line.workload}`;
      reported.push({ workload, kind, what, points, reason, at, attack: line.attack });
    }
    if (lineCount % 1000 === 0) memory.end();
  };

  /** Reports that Prometheus could not scrape are scraped when it is back. */
  const postpone = (up: number): void => {
    const since = down.get('prometheus ') ?? up;
    for (const report of reported.slice(-100)) if (report.at >= since) report.at = Math.max(report.at, up + SCRAPE);
  };

  const isNodeDown = (node: string): boolean =>
    isDown('exporter', node) || isDown('node', node) || isDown('prometheus');

  const advance = (until: number): void => {
    for (const [second, { line, bytes }] of transfers.take(until))
      if (!isNodeDown(line.node))
        count(line, second, () => memory.addBytes(line, holderOf(line, events), line.asn, bytes));
    for (const [second, line] of agenda.take(until)) {
      for (const [answered, resolved] of resolutions.take(second)) observe(resolved, answered);
      if (isNodeDown(line.node)) {
        waitingForUp.push({ key: line.node, line });
        continue;
      }
      const attack = line.attack === null ? undefined : attacks.get(line.attack);
      if (attack) attack.isVisible = true;
      const { asn } = line;
      if (line.network === 'public' && asn && !known.has(asn)) {
        if (isDown('provider')) {
          waitingForUp.push({ key: 'provider', line });
          observe({ ...line, asn: null }, second);
          continue;
        }
        known.add(asn);
        observe({ ...line, asn: null }, second);
        resolutions.add(second + PROVIDER, line);
      } else observe(line, second);
    }
    for (const [answered, resolved] of resolutions.take(until)) observe(resolved, answered);
  };

  for await (const line of lines) {
    lineCount++;
    advance(line.at);
    lastEnd = line.at;
    if (line.attack !== null) {
      const attack = attacks.get(line.attack) ?? { name: line.attack, from: line.at, until: line.at, isVisible: false };
      attack.until = Math.max(attack.until, line.until ?? line.at);
      attacks.set(line.attack, attack);
    }
    if (line.what === 'down' || line.what === 'up') {
      const part = partOf(line);
      const key = `${part} ${part === 'node' || part === 'exporter' ? line.node : ''}`;
      if (line.what === 'down') down.set(key, line.at);
      else {
        if (part === 'prometheus') postpone(line.at);
        down.delete(key);
        // What is still open, or waits for the provider, is seen from now on.
        for (const { line: waiting } of waitingForUp.splice(0)) {
          const scan = part === 'provider' ? line.at : scanOf(waiting, line.at);
          if (scan !== null) agenda.add(Math.max(scan, line.at), waiting);
        }
      }
    } else if (line.what === 'release') memory.release(line, EPOCH_MS + line.at * 1000);
    else if (line.what !== 'process') {
      const scan = scanOf(line, line.at);
      if (scan !== null) {
        agenda.add(scan, line);
        planBytes(line);
      }
    }
  }
  advance(lastEnd + 2 * SCRAPE);
  return { reports: reported, attacks, seconds: Math.max(now, lastEnd), nodes: nodes.size, lines: lineCount };
}

function holderOf(
  { process, process_started_at, container_started_at, held }: WorldLine,
  events: boolean,
): Observation['holder'] {
  const isKnown = held || events;
  const time = (seconds: number | null): number | null => (seconds === null ? null : EPOCH_MS + seconds * 1000);
  return {
    process: isKnown ? (process ?? '') : '',
    startedAt: isKnown ? time(process_started_at) : null,
    containerStartedAt: time(container_started_at),
  };
}

function observationOf(line: WorldLine, at: number, events: boolean): Observation | null {
  const { what, namespace, workload, transport, asn, peer } = line;
  // Only what other hosts can reach, or is on another host.
  if (transport === 'raw' || ['loopback', 'self', 'multicast', 'link_local'].includes(line.network ?? '')) return null;
  const observed = { owner: { namespace, workload }, holder: holderOf(line, events), at };
  const port = line.port ?? 0;
  if (what === 'listen') return { ...observed, event: 'listen', transport: transport ?? 'tcp', port };
  const network = line.network === 'public' || line.network === 'cloud_metadata' ? line.network : 'inside';
  if (what === 'outbound')
    return { ...observed, event: 'outbound', transport: transport ?? 'tcp', network, asn, port, peer };
  return { ...observed, event: 'inbound', network: network === 'public' ? 'public' : 'inside', asn, localPort: port };
}
