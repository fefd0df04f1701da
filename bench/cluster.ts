/** `npm run bench:cluster`: counts the ASN queries of a cluster per day, with and without a shared store. See README.md. */
import { parseArgs } from 'node:util';
import { setImmediate } from 'node:timers/promises';
import { ipv4 } from '../src/common/address.ts';
import type { Timer } from '../src/common/clock.ts';
import { AsnCache } from '../src/enrich/asn/cache.ts';
import { bucketOf } from '../src/common/network-class.ts';
import { QueryScheduler } from '../src/enrich/asn/query-scheduler.ts';
import type { Provider } from '../src/enrich/asn/query-batch.ts';
import type { Store } from '../src/store/contract.ts';
import type { Address, Cidr } from '../src/model.ts';
import { SharedServer } from '../test/support/shared-store.ts';

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const START = Date.parse('2026-01-01T00:00:00Z');
/** Duration of a provider session. */
const SESSION_MS = 2_000;
/** Interval between lookups of a node's peers. The exporter looks them up every minute, so it queries up to an hour per day earlier. */
const RENEW_MS = HOUR_MS;
/** Period in which the nodes of a new cluster start. */
const ROLL_OUT_MS = 10 * MINUTE_MS;

interface Plan {
  readonly nodes: number;
  /** Peers of a node at any time. */
  readonly remotes: number;
  /** Networks that peers are drawn from; the n-th has a weight of 1/n. */
  readonly networks: number;
  /** Peers of a node that are replaced per minute. */
  readonly changes: number;
  readonly days: number;
}

/** Provider queries of a day, keys read from the store, and the maximum of keys per second. */
interface Day {
  questions: number;
  sessions: number;
  reads: number;
  busiestSecond: number;
}

/** A simulated clock that advances from event to event. */
class Simulation implements Timer {
  #elapsed = 0;
  #order = 0;
  readonly #heap: { at: number; order: number; run: (() => void) | null }[] = [];

  now = (): number => START + Math.round(this.#elapsed);
  monotonic = (): number => this.#elapsed;

  after(ms: number, run: () => void): () => void {
    const event: { at: number; order: number; run: (() => void) | null } = {
      at: this.#elapsed + Math.max(0, ms),
      order: this.#order++,
      run,
    };
    this.#push(event);
    return () => {
      event.run = null;
    };
  }

  /** Advances the clock. All consequences of an event run before the next event. */
  async pass(ms: number): Promise<void> {
    const end = this.#elapsed + ms;
    for (let event = this.#heap[0]; event && event.at <= end; event = this.#heap[0]) {
      this.#pop();
      if (!event.run) continue;
      this.#elapsed = event.at;
      event.run();
      await setImmediate();
    }
    this.#elapsed = end;
  }

  #isBefore(i: number, j: number): boolean {
    const [a, b] = [this.#heap[i], this.#heap[j]];
    return a !== undefined && (b === undefined || a.at < b.at || (a.at === b.at && a.order < b.order));
  }

  #swap(i: number, j: number): void {
    const [a, b] = [this.#heap[i], this.#heap[j]];
    if (!a || !b) return;
    this.#heap[i] = b;
    this.#heap[j] = a;
  }

  #push(event: { at: number; order: number; run: (() => void) | null }): void {
    let i = this.#heap.push(event) - 1;
    for (; i > 0 && this.#isBefore(i, (i - 1) >> 1); i = (i - 1) >> 1) this.#swap(i, (i - 1) >> 1);
  }

  #pop(): void {
    this.#swap(0, this.#heap.length - 1);
    this.#heap.pop();
    for (let i = 0; ;) {
      const child = this.#isBefore(2 * i + 2, 2 * i + 1) ? 2 * i + 2 : 2 * i + 1;
      if (!this.#isBefore(child, i)) return;
      this.#swap(i, child);
      i = child;
    }
  }
}

/** Random numbers in [0, 1) from a seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Draws ranks from 0; the n-th rank has a weight of 1/n. */
function zipfOf(count: number, random: () => number): () => number {
  const sums = new Float64Array(count);
  let sum = 0;
  for (let i = 0; i < count; i++) sums[i] = sum += 1 / (i + 1);
  return () => {
    const wanted = random() * sum;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? 0) > wanted) high = middle;
      else low = middle + 1;
    }
    return low;
  };
}

/** An address in the n-th /24 between 20.0.0.0 and 99.255.255.255. */
const addressOf = (rank: number): Address => ipv4(0x14000000 + rank * 256 + 9);

/** A simulated exporter with its peers, cache and query scheduler. */
class Node {
  readonly #cache = new AsnCache();
  readonly #questions: QueryScheduler;
  readonly #peers: number[];
  readonly #held: Set<number>;
  readonly #draw: () => number;
  readonly #clock: Timer;
  #renewedAt = 0;

  constructor(
    plan: Plan,
    draw: () => number,
    surroundings: { provider: Provider; store: Store | null; clock: Timer; random: () => number },
  ) {
    this.#draw = draw;
    this.#clock = surroundings.clock;
    this.#held = new Set();
    while (this.#held.size < plan.remotes) this.#held.add(draw());
    this.#peers = [...this.#held];
    this.#questions = new QueryScheduler({
      ...surroundings,
      onAnswers: (answers) => this.#cache.accept(answers),
      report: (message) => {
        throw new Error(message);
      },
      mayQuery: () => true,
      isUncoordinated: surroundings.store === null,
    });
  }

  /** Replaces some peers and looks up all of them. */
  scan(changes: number, random: () => number): void {
    const now = this.#clock.now();
    for (let i = 0; i < changes; i++) {
      const place = Math.floor(random() * this.#peers.length);
      let rank = this.#draw();
      while (this.#held.has(rank)) rank = this.#draw();
      this.#held.delete(this.#peers[place] ?? -1);
      this.#held.add(rank);
      this.#peers[place] = rank;
      this.#cache.lookup(addressOf(rank), now);
    }
    if (now - this.#renewedAt >= RENEW_MS) {
      this.#renewedAt = now;
      for (const rank of this.#peers) this.#cache.lookup(addressOf(rank), now);
    }
    void this.#questions.query(this.#cache.takeQueries());
  }
}

/** A simulated Team Cymru that counts queries. Each network is its own prefix. */
function providerOf(clock: Timer, asked: (count: number) => void): Provider {
  return {
    name: 'cymru',
    server: 'whois.example:43',
    query: (buckets: readonly Cidr[]) =>
      new Promise((resolve) => {
        asked(buckets.length);
        clock.after(SESSION_MS, () => {
          const answers = buckets.map((bucket) => ({
            bucket,
            announcement: {
              prefix: bucket,
              origins: [
                { asn: 1 + (Math.abs(bucketOf(bucket.address).address[3]) % 60_000), name: 'EXAMPLE', country: 'US' },
              ],
              registry: 'arin',
              registryCountry: 'US',
              allocated: '2000-01-01',
            },
          }));
          const reply = { banner: true, answers, refused: [], unanswered: [], malformed: 0, unasked: 0 };
          resolve({ sent: buckets.length, reply });
        });
      }),
  };
}

/** A store that counts the keys that are read. */
function counting(store: Store, read: (keys: number) => void): Store {
  return {
    ...store,
    up: true,
    read: (keys) => {
      read(keys.length);
      return store.read(keys);
    },
  };
}

async function simulate(plan: Plan, isShared: boolean): Promise<Day[]> {
  const clock = new Simulation();
  const random = randomOf(1);
  const days: Day[] = [];
  let second = { at: 0, reads: 0 };
  const today = (): Day => {
    const index = Math.floor(clock.monotonic() / (24 * HOUR_MS));
    return (days[index] ??= { questions: 0, sessions: 0, reads: 0, busiestSecond: 0 });
  };
  const provider = providerOf(clock, (count) => {
    const day = today();
    day.questions += count;
    day.sessions++;
  });
  const server = new SharedServer(clock);
  const read = (keys: number): void => {
    const day = today();
    const at = Math.floor(clock.monotonic() / SECOND_MS);
    if (at !== second.at) second = { at, reads: 0 };
    second.reads += keys;
    day.reads += keys;
    day.busiestSecond = Math.max(day.busiestSecond, second.reads);
  };
  const draw = zipfOf(plan.networks, random);
  for (let i = 0; i < plan.nodes; i++) {
    const store = isShared ? counting(server.connect(), read) : null;
    const node = new Node(plan, draw, { provider, store, clock, random });
    const scan = (): void => {
      clock.after(MINUTE_MS, scan);
      node.scan(plan.changes, random);
    };
    clock.after(random() * ROLL_OUT_MS, scan);
  }
  for (let hour = 1; hour <= plan.days * 24; hour++) {
    await clock.pass(HOUR_MS);
    process.stderr.write(`\r${isShared ? 'shared' : 'alone'}: hour ${hour} of ${plan.days * 24}  `);
  }
  process.stderr.write('\n');
  return days;
}

function parsePlan(): Plan & { readonly alone: number } {
  const { values } = parseArgs({
    options: {
      nodes: { type: 'string', default: '1000' },
      alone: { type: 'string', default: '20' },
      remotes: { type: 'string', default: '2000' },
      networks: { type: 'string', default: '100000' },
      changes: { type: 'string', default: '2' },
      days: { type: 'string', default: '2' },
    },
  });
  const numbers = Object.entries(values).map(([name, text]) => [name, Number(text)] as const);
  const wrong = numbers.find(([, value]) => !Number.isSafeInteger(value) || value < 1);
  if (wrong) throw new TypeError(`Cannot run with --${wrong[0]}: it must be a whole number above 0`);
  return Object.fromEntries(numbers) as unknown as Plan & { alone: number };
}

/** One Markdown row per day, scaled up from the simulated nodes to all nodes. */
function renderDays(who: string, days: readonly Day[], scale: number): string {
  const number = (value: number): string => Math.round(value * scale).toLocaleString('en');
  return days
    .map((day, i) => {
      const cells = [who, i + 1, ...[day.questions, day.sessions, day.reads, day.busiestSecond].map(number)];
      return `| ${cells.join(' | ')} |\n`;
    })
    .join('');
}

const { alone, ...plan } = parsePlan();
const { nodes, remotes, networks, changes } = plan;
const few = Math.min(alone, nodes);
const shared = await simulate(plan, true);
const apart = await simulate({ ...plan, nodes: few }, false);
process.stdout.write(
  `${nodes} nodes, each with ${remotes} of ${networks} networks, ${changes} of them change per minute\n` +
    '| | day | networks asked | sessions | keys read | most keys read in a second |\n|---|---|---|---|---|---|\n' +
    renderDays('one store', shared, 1) +
    renderDays(`each for itself (${few} simulated)`, apart, nodes / few),
);
