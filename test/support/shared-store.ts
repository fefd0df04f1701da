import type { Clock } from '../../src/common/clock.ts';
import type { BreakerState, SharedState, Store, StoredText, PreviousTime } from '../../src/store/contract.ts';

/** A server in memory that several exporters share, and that can be gone, or refuse to be written to. */
export class SharedServer {
  gone = false;
  refusesWrites = false;
  readonly texts = new Map<string, StoredText>();
  readonly leases = new Map<string, { readonly holder: Store; readonly until: number }>();
  /** The members with the time from which they count. */
  readonly queues = new Map<string, Map<string, number>>();
  /** In the order of their last write. */
  readonly records = new Map<string, { readonly text: string; readonly sequence: number }>();
  #sequence = 0;
  readonly breakers = new Map<string, { readonly failures: number; readonly until: number }>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The store of one exporter on this server; like a real one it forgets itself, not the server, when it is gone. */
  connect(): Store {
    const now = (): number => this.#clock.monotonic();
    const whileThere = <T>(work: () => T, otherwise: T): Promise<T> => Promise.resolve(this.gone ? otherwise : work());
    const whileWritten = <T>(work: () => T, otherwise: T): Promise<T> =>
      whileThere(() => (this.refusesWrites ? otherwise : work()), otherwise);
    const queue = (name: string): Map<string, number> => {
      const members = this.queues.get(name) ?? new Map<string, number>();
      this.queues.set(name, members);
      return members;
    };
    const commons: SharedState = {
      enqueue: (name, members, aheadMs = 0) =>
        whileWritten(() => {
          for (const member of members) if (!queue(name).has(member)) queue(name).set(member, now() - aheadMs);
        }, undefined),
      readQueue: (name, most) =>
        whileThere(() => {
          const oldest = [...queue(name)].sort(([, a], [, b]) => a - b);
          return oldest.slice(0, most).map(([member]) => member);
        }, []),
      dequeue: (name, members) =>
        whileWritten(() => members.forEach((member) => queue(name).delete(member)), undefined),
      readBreaker: (name) =>
        whileThere<BreakerState | null>(() => {
          const { failures = 0, until = 0 } = this.breakers.get(name) ?? {};
          return { failures, openMs: Math.max(0, until - now()) };
        }, null),
      writeBreaker: (name, { failures, openMs }) =>
        whileWritten(() => void this.breakers.set(name, { failures, until: now() + openMs }), undefined),
    };
    const isUp = (): boolean => !this.gone && !this.refusesWrites;
    const store: Store = {
      name: 'shared',
      failures: 0,
      get up() {
        return isUp();
      },
      shared: commons,
      read: (keys) =>
        whileThere(() => {
          const kept = keys.flatMap((key) => this.texts.get(key) ?? []);
          return new Map(
            kept.filter(({ keepUntil }) => keepUntil > this.#clock.now()).map(({ key, text }) => [key, text]),
          );
        }, new Map()),
      write: (texts) => whileWritten(() => texts.forEach((text) => this.texts.set(text.key, text)), undefined),
      writeFirstSeen: (sightings) =>
        whileWritten<PreviousTime[]>(
          () =>
            sightings.map(({ key, at }) => {
              const text = this.texts.get(key)?.text;
              const previous = text === undefined ? null : Number(text);
              this.texts.set(key, { key, text: String(Math.min(at, previous ?? at)), keepUntil: Infinity });
              return { key, previous };
            }),
          sightings.map(({ key }) => ({ key, previous: 'unknown' })),
        ),
      writeRecords: (records) =>
        whileWritten(() => {
          for (const { key, text } of records) {
            this.records.delete(key);
            this.records.set(key, { text, sequence: ++this.#sequence });
          }
        }, undefined),
      readRecords: (since) =>
        whileThere(() => {
          const after = Number(since ?? 0);
          const changed = [...this.records].filter(([, { sequence }]) => sequence > after);
          const page = changed.slice(0, 1_000);
          const records = page.map(([key, { text }]) => ({ key, text }));
          return { records, next: String(page.at(-1)?.[1].sequence ?? after), isLast: page.length === changed.length };
        }, null),
      acquire: (lease, ms) =>
        whileWritten(() => {
          const left = (this.leases.get(lease)?.until ?? 0) - now();
          if (left > 0) return left;
          this.leases.set(lease, { holder: store, until: now() + ms });
          return 0;
        }, 0),
      renew: (lease, ms) =>
        whileWritten(() => void this.leases.set(lease, { holder: store, until: now() + ms }), undefined),
      release: (lease) => whileWritten(() => void this.leases.delete(lease), undefined),
      close: () => Promise.resolve(),
    };
    return store;
  }
}
