import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Procfs } from '../../src/collect/procfs.ts';
import { parseConfig } from '../../src/config/config.ts';
import type { Family } from '../../src/model.ts';
import { Scrape } from '../../src/scrape.ts';
import { SimulatedHost, type SimulatedSocket } from '../support/simulated-sockets.ts';

type Totals = readonly [sent: number, received: number, retransmitted: number];

const COUNTERS = ['sent', 'received', 'retransmitted'].map((name) => `peerscope_asn_${name}_bytes_total`);

/** A host with a connection that opens after the first scan. */
class Trial {
  readonly #host = new SimulatedHost();
  readonly #socket: SimulatedSocket;
  /** A connection with the same labels. */
  readonly #other: SimulatedSocket;
  readonly #scrape: Scrape;
  #families: readonly Family[] = [];

  constructor() {
    const own = this.#host.add('192.0.2.1', null, 'host');
    const clock = { now: () => this.#host.now, monotonic: () => this.#host.now };
    this.#host.write();
    const config = parseConfig({ 'asn.provider': 'none' }, {});
    this.#scrape = new Scrape(new Procfs(this.#host.root), config, clock, null, this.#host.source);
    this.#scrape.scan(Infinity, this.#host.dump());
    this.#host.pass(1_000);
    const [socket, other] = [40_000, 40_001].map((port) =>
      this.#host.open(own, port, '198.51.100.1:443', { pid: own.pid }),
    );
    if (!socket || !other) throw new Error('the port is in use');
    this.#socket = socket;
    this.#other = other;
  }

  /** What the kernel says from now on. */
  set(totals: Totals): void {
    [this.#socket.sent, this.#socket.received, this.#socket.retransmitted] = totals;
  }

  /** A scan, before which the other connection transfers 100 bytes of each kind. */
  scan(): void {
    this.#host.transfer(this.#other, 100, 100, 100);
    this.#host.write();
    this.#families = this.#scrape.scan(Infinity, this.#host.dump()).families;
    this.#host.pass(1_000);
  }

  /** Ends the connection. */
  end(): void {
    this.#host.end(this.#socket, 'reset');
    this.#host.pass(5);
  }

  /** What was counted, without the bytes of the other connection. */
  get counted(): Totals {
    const others = this.#other.sent;
    const [sent = 0, received = 0, retransmitted = 0] = COUNTERS.map((name) => this.#sumOf(name) - others);
    return [sent, received, retransmitted];
  }

  get closedWithoutTotals(): number {
    return this.#sumOf('peerscope_connections_closed_without_totals_total');
  }

  #sumOf(name: string): number {
    const samples = this.#families.find((family) => family.name === name)?.samples ?? [];
    return samples.reduce((sum, { value }) => sum + value, 0);
  }

  close(): void {
    this.#host[Symbol.dispose]();
  }
}

/** tcp_disconnect() in the kernel sets the totals of a socket to 0. */
describe('the totals of a connection that fall', () => {
  let trial: Trial;
  beforeEach(() => {
    trial = new Trial();
  });
  afterEach(() => trial.close());

  it.each<{ name: string; scans: Totals[]; counted: Totals }>([
    {
      name: 'sent, while the others grow',
      scans: [
        [9, 8, 7],
        [3, 18, 17],
      ],
      counted: [9, 18, 17],
    },
    {
      name: 'received, while the others grow',
      scans: [
        [9, 8, 7],
        [19, 3, 17],
      ],
      counted: [19, 8, 17],
    },
    {
      name: 'retransmitted, while the others grow',
      scans: [
        [9, 8, 7],
        [19, 18, 3],
      ],
      counted: [19, 18, 7],
    },
    {
      name: 'all at once',
      scans: [
        [9, 8, 7],
        [0, 0, 0],
      ],
      counted: [9, 8, 7],
    },
    {
      name: 'and grow again, below what was counted',
      scans: [
        [9, 8, 7],
        [0, 0, 0],
        [8, 7, 6],
      ],
      counted: [9, 8, 7],
    },
    {
      name: 'and grow beyond what was counted',
      scans: [
        [9, 8, 7],
        [0, 0, 20],
        [12, 8, 20],
      ],
      counted: [12, 8, 20],
    },
  ])('add nothing and take nothing away: $name', ({ scans, counted }) => {
    for (const totals of scans) {
      trial.set(totals);
      trial.scan();
    }
    expect(trial.counted).toEqual(counted);
  });

  it.each<{ name: string; last: Totals; counted: Totals; without: number }>([
    { name: 'sent', last: [3, 18, 17], counted: [9, 18, 17], without: 1 },
    { name: 'received', last: [19, 3, 17], counted: [19, 8, 17], without: 1 },
    { name: 'received by a FIN', last: [19, 7, 17], counted: [19, 8, 17], without: 0 },
    { name: 'retransmitted', last: [19, 18, 3], counted: [19, 18, 7], without: 0 },
  ])('add nothing when it ends: $name', ({ last, counted, without }) => {
    trial.set([9, 8, 7]);
    trial.scan();
    trial.set(last);
    trial.end();
    // The second scan is the first without its row.
    trial.scan();
    trial.scan();
    expect(trial.counted).toEqual(counted);
    expect(trial.closedWithoutTotals).toBe(without);
  });

  it('are the largest that a scan saw, whatever they do', () => {
    const totals = fc.tuple(fc.nat(50), fc.nat(50), fc.nat(50));
    fc.assert(
      fc.property(fc.array(totals, { minLength: 1, maxLength: 5 }), (scans) => {
        const other = new Trial();
        try {
          const most = [0, 0, 0];
          for (const values of scans) {
            other.set(values);
            other.scan();
            for (const [i, value] of values.entries()) most[i] = Math.max(most[i] ?? 0, value);
            expect(other.counted).toEqual(most);
          }
        } finally {
          other.close();
        }
      }),
      { numRuns: 20 },
    );
  });
});
