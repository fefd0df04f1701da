import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { BurstLimit } from '../common/burst-limit.ts';
import type { Timer } from '../common/clock.ts';
import { reasonOf } from '../common/errors.ts';
import {
  isErrorReply,
  isWrongType,
  SCRIPTS,
  TEXT_BYTES,
  toNumber,
  toOk,
  toPreviousTime,
  toShortText,
  toTexts,
  toTime,
} from './redis-commands.ts';
import { COMMAND_MS, CONNECT_MS, connectionOptions } from './redis-connector.ts';
import { PrimaryFinder } from './redis-primary.ts';
import { formatRedisUrl, type RedisServer } from './redis-url.ts';
import {
  type BreakerState,
  type SharedState,
  type Store,
  type StoredText,
  FIRST_SEEN_TTL_MS,
  MAX_CLOCK_SKEW_MS,
  tenantOf,
  type PreviousTime,
  type FirstSeenTime,
  type RecordPage,
  type StoredRecord,
} from './contract.ts';
import { readPage, recordBatches, writeBatch } from './redis-records.ts';

/** How long the server keeps the check number of a stopped exporter. */
const ALIVE_KEEP_MS = 24 * 3_600_000;
const DAY_MS = 86_400_000;
const RECONNECT_MAX_MS = 2_000;
const CHECK_MS = 2_000;
/** If a server fails again this soon after a recovery, the next recovery is reported only after the same delay. */
const UNSTABLE_MS = 60_000;
/** How often known data is written again, and a change of clocks reported, before there is at most one each minute. */
const BURST = 5;
const CHUNK = 1_000;
const MAX_QUEUE = 50_000;
const QUEUE_KEEP_MS = 24 * 3_600_000;
/** How long failures are kept after the breaker allows an attempt. */
const FAILURES_KEEP_MS = 2 * 3_600_000;
/** The longest time that a breaker is open, and the most failures that it counts. */
const BREAKER_MOST_MS = 3_600_000;
const FAILURES_MOST = 100;
/** The maximum number of first-seen times. One takes about 500 bytes of the server. */
const MAX_FIRST_SEEN = 150_000;
const REASON_LENGTH = 200;
/** Error codes of a server that failed over or is still loading. A new connection may work. */
const FAILED_OVER = /\b(?:READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|MOVED|ASK|TRYAGAIN)\b/;
const FULL = /\bOOM\b/;

export interface RedisStoreOptions {
  readonly server: RedisServer;
  readonly clock: Timer;
  /** Receives one line when the store fails, recovers or loses data. */
  readonly report: (message: string) => void;
  /** Called when the server lost data or missed writes. */
  readonly onIncomplete: () => void;
  /** The maximum number of first-seen times in the store. The largest owners lose some first. */
  readonly maxFirstSeen?: number;
  /** The maximum number of records in the store. */
  readonly maxRecords?: number;
}

/**
 * The store on a Redis or Valkey server shared by the exporters of a cluster. All keys begin with "peerscope:", in a
 * Redis Cluster with "{peerscope}:", so that one node serves them all. What other clients of the server stored under them is bounded:
 * texts are cut, and values of other types are missing and overwritten.
 *
 * A failure is reported once. The store is `up` again when a check, run every two seconds, can write and read. The
 * check also detects data loss. The password appears in no message.
 */
export class RedisStore implements Store, SharedState {
  readonly name = 'redis';
  readonly shared: SharedState = this;
  /** Failed commands and lost connections. */
  failures = 0;
  readonly #options: RedisStoreOptions;
  readonly #url: string;
  readonly #primary: PrimaryFinder;
  readonly #redis: Redis;
  readonly #holder = randomUUID();
  readonly #opened = Promise.withResolvers<null>();
  /**
   * True if the connection uses the configured database. If SELECT fails, the library silently stays on another one.
   */
  #isSelected = false;
  #failure: string | null = null;
  #connectionError: string | undefined;
  /** True while the connection is being replaced. */
  #isReconnecting = false;
  /** Connections that ended. */
  #connections = 0;
  /** Consecutive failed connection attempts. */
  #failedConnects = 0;
  #recoveredAt = -Infinity;
  readonly #refills = new BurstLimit(BURST, UNSTABLE_MS);
  #trustedFrom = -Infinity;
  /** The number of the current check, and of the last check that the server stored. */
  #checks = 0;
  #storedCheck = 0;
  #hasLostData = false;
  #hasMissedWrites = false;
  #wroteSinceCheck = false;
  #hasMissedTimes = false;
  /** Server time minus our monotonic clock, in milliseconds. NaN before the first check. */
  #serverAtZero = NaN;
  #reportedClockOff = false;
  #reportedFullAt = -Infinity;
  readonly #clockReports = new BurstLimit(BURST, UNSTABLE_MS);
  #closed = false;
  #cancelCheck: () => void = () => undefined;

  private constructor(options: RedisStoreOptions) {
    this.#options = options;
    this.#url = formatRedisUrl(options.server);
    this.#primary = new PrimaryFinder(options.server);
    this.#redis = new Redis({
      ...connectionOptions(options.server, this.#primary.locate),
      // The library resets its counter on each greeting. A server that only greets must not be called ten times a second.
      retryStrategy: () => Math.min(100 * ++this.#failedConnects, RECONNECT_MAX_MS),
    });
    this.#redis.on('error', (error) => {
      this.#connectionError = this.#reasonOf(error);
      if (this.#redis.status !== 'ready') this.#fail(this.#connectionError);
    });
    this.#redis.on('close', () => {
      this.#isSelected = false;
      this.#connections++;
      this.#hasMissedWrites ||= this.#wroteSinceCheck;
      if (!this.#isReconnecting) this.#delayRecovery();
      this.#isReconnecting = false;
      this.failures++;
      this.#fail(this.#noConnection);
      this.#opened.resolve(null);
    });
    this.#redis.on('ready', () => {
      this.#connectionError = undefined;
      void this.#check().then(() => this.#opened.resolve(null));
    });
  }

  /** Resolves when the server answers or cannot be reached, after at most three seconds. */
  static async open(options: RedisStoreOptions): Promise<RedisStore> {
    const store = new RedisStore(options);
    const cancel = options.clock.after(CONNECT_MS + COMMAND_MS, () => {
      store.#fail(`no answer within ${CONNECT_MS + COMMAND_MS} ms`);
      store.#opened.resolve(null);
    });
    store.#redis.connect().catch(() => undefined);
    await store.#opened.promise;
    cancel();
    store.#scheduleCheck();
    return store;
  }

  get up(): boolean {
    return this.#failure === null;
  }

  async read(keys: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (let start = 0; start < keys.length; start += CHUNK) {
      const chunk = keys.slice(start, start + CHUNK);
      // Sent together. Unlike MGET and pipelines, this works on every kind of server.
      const texts = await this.#attempt(() => Promise.all(chunk.map((key) => this.#readText(key))));
      if (!texts) break;
      for (const [i, key] of chunk.entries()) {
        const text = texts[i];
        if (typeof text === 'string') found.set(key, text);
      }
    }
    return found;
  }

  async write(texts: readonly StoredText[]): Promise<void> {
    const now = this.#options.clock.now();
    for (let start = 0; start < texts.length; start += CHUNK) {
      const chunk = texts
        .slice(start, start + CHUNK)
        .filter(({ text, keepUntil }) => keepUntil > now && Buffer.byteLength(text) <= TEXT_BYTES);
      const done = await this.#attemptWrite(() =>
        Promise.all(
          chunk.map(({ key, text, keepUntil }) =>
            this.#redis.set(key, text, 'PX', Math.ceil(keepUntil - now)).then(toOk),
          ),
        ),
      );
      if (!done) return;
    }
  }

  async writeFirstSeen(times: readonly FirstSeenTime[]): Promise<readonly PreviousTime[]> {
    if (this.#isClockOff()) {
      this.#hasMissedTimes = true;
      return times.map(({ key }) => ({ key, previous: 'unknown' }));
    }
    const previousTimes: PreviousTime[] = [];
    for (let start = 0; start < times.length; start += CHUNK) {
      const chunk = times.slice(start, start + CHUNK);
      // One command per key: a full server still returns stored times.
      const answers = chunk.map(async ({ key, at }): Promise<PreviousTime> => {
        const before = await this.#attemptWrite(async () => {
          const tenant = tenantOf(key);
          const keys = [key, `first:of:${tenant}`, 'first:sizes', 'first:last', 'first:total'];
          const most = this.#options.maxFirstSeen ?? MAX_FIRST_SEEN;
          const now = Math.floor(this.#options.clock.now());
          const given = [at, FIRST_SEEN_TTL_MS, now, most, tenant, key].map(String);
          const reply = await this.#redis.eval(SCRIPTS.writeFirstSeen, keys.length, ...keys, ...given);
          const { previous, isFull } = toPreviousTime(reply);
          if (isFull) this.#reportFull();
          return previous;
        });
        return { key, previous: before === undefined ? 'unknown' : before };
      });
      previousTimes.push(...(await Promise.all(answers)));
    }
    return previousTimes;
  }

  #reportFull(): void {
    const now = this.#options.clock.monotonic();
    if (now - this.#reportedFullAt < DAY_MS) return;
    this.#reportedFullAt = now;
    this.#options.report(
      `Store "${this.#url}" is full of first-seen times: the owners with the most lose their oldest`,
    );
  }

  async writeRecords(records: readonly StoredRecord[]): Promise<void> {
    if (this.#isClockOff()) {
      this.#hasMissedTimes ||= records.length > 0;
      return;
    }
    for (const batch of recordBatches(records)) {
      const most = this.#options.maxRecords;
      const done = await this.#attemptWrite(() => writeBatch(this.#evaluate, batch, randomUUID(), most));
      if (done === undefined) return;
    }
  }

  async readRecords(since: string | null): Promise<RecordPage | null> {
    if (this.#isClockOff()) return null;
    const page = await this.#attempt(() => readPage(this.#evaluate, since, this.#connections));
    if (!page) return null;
    this.#hasMissedWrites ||= page.isOther;
    const { records, next, isLast } = page;
    return { records, next, isLast };
  }

  readonly #evaluate = (script: string, keys: readonly string[], given: readonly string[]): Promise<unknown> =>
    this.#redis.eval(script, keys.length, ...keys, ...given);

  /** A lease that lasts longer than twice the requested time, or for ever, was not taken by an exporter. */
  async acquire(lease: string, ms: number): Promise<number> {
    const given = [this.#holder, Math.ceil(ms), Math.ceil(2 * ms)].map(String);
    return (await this.#attempt(() => this.#redis.eval(SCRIPTS.acquire, 1, lease, ...given).then(toNumber))) ?? 0;
  }

  async renew(lease: string, ms: number): Promise<void> {
    await this.#attempt(() => this.#redis.eval(SCRIPTS.renew, 1, lease, this.#holder, Math.ceil(ms)).then(toNumber));
  }

  async release(lease: string): Promise<void> {
    await this.#attempt(() => this.#redis.eval(SCRIPTS.release, 1, lease, this.#holder).then(toNumber));
  }

  async enqueue(queue: string, members: readonly string[], aheadMs = 0): Promise<void> {
    const now = this.#options.clock.now() - aheadMs;
    for (let start = 0; start < members.length; start += CHUNK) {
      const chunk = members.slice(start, start + CHUNK);
      const done = await this.#attemptWrite(() =>
        this.#redis
          .eval(SCRIPTS.enqueue, 1, queue, ...[MAX_QUEUE, QUEUE_KEEP_MS, now, ...chunk].map(String))
          .then(toNumber),
      );
      if (done === undefined) return;
    }
  }

  async readQueue(queue: string, most: number): Promise<readonly string[]> {
    return (await this.#attempt(() => this.#redis.eval(SCRIPTS.readQueue, 1, queue, most).then(toTexts))) ?? [];
  }

  async dequeue(queue: string, members: readonly string[]): Promise<void> {
    for (let start = 0; start < members.length; start += CHUNK)
      await this.#attempt(() => this.#redis.zrem(queue, ...members.slice(start, start + CHUNK)).then(toNumber));
  }

  async readBreaker(name: string): Promise<BreakerState | null> {
    const state = await this.#attempt(() =>
      Promise.all([this.#readText(failuresOf(name)), this.#redis.pttl(name).then(toNumber)] as const),
    );
    if (!state) return null;
    const [text, openMs] = state;
    const failures = /^\d{1,9}$/.test(text ?? '') ? Math.min(FAILURES_MOST, Number(text)) : 0;
    return { failures, openMs: openMs > BREAKER_MOST_MS ? 0 : Math.max(0, openMs) };
  }

  async writeBreaker(name: string, { failures, openMs }: BreakerState): Promise<void> {
    const ms = Math.ceil(openMs);
    await this.#attempt<unknown>(() =>
      ms > 0
        ? Promise.all([
            this.#redis.set(failuresOf(name), failures, 'PX', ms + FAILURES_KEEP_MS).then(toOk),
            this.#redis.set(name, failures, 'PX', ms).then(toOk),
          ])
        : Promise.all([this.#redis.del(failuresOf(name)).then(toNumber), this.#redis.del(name).then(toNumber)]),
    );
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#cancelCheck();
    this.#redis.disconnect();
    this.#primary.close();
    return Promise.resolve();
  }

  /** Returns the text under a key; null if there is none, or if it cannot be ours. A long one is deleted: many fill the server. */
  async #readText(key: string): Promise<string | null> {
    try {
      const reply = await this.#redis.getrange(key, 0, TEXT_BYTES);
      const text = toShortText(reply);
      if (text === null && reply !== '') await this.#redis.del(key).then(toNumber);
      return text;
    } catch (error) {
      if (isWrongType(error)) return null;
      throw error;
    }
  }

  /** Returns undefined on failure. */
  async #attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    if (this.#closed) return undefined;
    if (this.#redis.status !== 'ready') this.#fail(this.#noConnection);
    if (!this.#isSelected) return undefined;
    return this.#send(work);
  }

  get #noConnection(): string {
    return this.#connectionError ?? 'the server closed the connection';
  }

  async #send<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      this.failures++;
      if (isErrorReply(error) && !FAILED_OVER.test(error.message)) this.#delayRecovery();
      this.#fail(this.#redis.status === 'ready' ? this.#reasonOf(error) : this.#noConnection);
      return undefined;
    }
  }

  async #attemptWrite<T>(work: () => Promise<T>): Promise<T | undefined> {
    const done = await this.#attempt(work);
    if (done === undefined) this.#hasMissedWrites = true;
    else this.#wroteSinceCheck = true;
    return done;
  }

  #delayRecovery(): void {
    const now = this.#options.clock.monotonic();
    if (now - this.#recoveredAt < UNSTABLE_MS) this.#trustedFrom = now + UNSTABLE_MS;
  }

  #scheduleCheck(): void {
    this.#cancelCheck = this.#options.clock.after(CHECK_MS, () => {
      void this.#check().then(() => {
        if (!this.#closed) this.#scheduleCheck();
      });
    });
  }

  /**
   * Reads and writes an increasing number under a key of this process. If the number is missing or lower, the server
   * lost data or restored a snapshot. Writes after the last stored number may be lost with the connection.
   */
  async #check(): Promise<void> {
    if (this.#redis.status === 'ready' && !this.#isSelected)
      this.#isSelected =
        (await this.#send(() =>
          this.#redis.select(this.#options.server.database).then(toOk).catch(this.#reconnectIfRejected),
        )) !== undefined;
    const check = ++this.#checks;
    const key = `alive:${this.#holder}`;
    const replies = await this.#attempt(() => {
      const time = this.#redis.time().then((reply) => {
        this.#serverAtZero = toTime(reply) - this.#options.clock.monotonic();
      });
      const before = this.#readText(key);
      const taken = this.#redis.set(key, check, 'PX', ALIVE_KEEP_MS).then((reply) => {
        toOk(reply);
        this.#wroteSinceCheck = false;
      });
      return Promise.all([before, taken, time]).catch(this.#reconnectIfRejected);
    });
    if (!replies) return;
    this.#hasLostData ||= Number(replies[0]) < this.#storedCheck;
    this.#storedCheck = check;
    const { clock, report, onIncomplete } = this.#options;
    if (clock.monotonic() < this.#trustedFrom) return;
    const isClockOff = this.#isClockOff();
    this.#reportClock(isClockOff);
    if (this.#failure !== null) {
      this.#recoveredAt = clock.monotonic();
      report(`Store "${this.#url}" recovered`);
    }
    this.#failure = null;
    this.#failedConnects = 0;
    const isIncomplete = this.#hasLostData || this.#hasMissedWrites || (this.#hasMissedTimes && !isClockOff);
    // Otherwise a server that loses its data at each check would get all of it each time.
    if (!isIncomplete || !this.#refills.take(clock.monotonic())) return;
    if (this.#hasLostData) report(`Store "${this.#url}" lost its data; writing known data again`);
    this.#hasLostData = false;
    this.#hasMissedWrites = false;
    this.#hasMissedTimes &&= isClockOff;
    onIncomplete();
  }

  /**
   * A server that rejects commands may have been replaced; a new connection leads to the new one. A full server can
   * still be read, so its connection is kept.
   */
  readonly #reconnectIfRejected = (error: unknown): never => {
    if (isErrorReply(error) && !FULL.test(error.message) && this.#redis.status === 'ready') {
      this.#isReconnecting = true;
      this.#redis.disconnect(true);
    }
    throw error;
  };

  /**
   * The time of a slow clock would win as the earliest time forever. A clock that has not been compared yet counts as
   * wrong.
   */
  #isClockOff(): boolean {
    return !(Math.abs(this.#aheadMs()) <= MAX_CLOCK_SKEW_MS);
  }

  #aheadMs(): number {
    const { clock } = this.#options;
    return clock.now() - clock.monotonic() - this.#serverAtZero;
  }

  #reportClock(isClockOff: boolean): void {
    if (isClockOff === this.#reportedClockOff || Number.isNaN(this.#serverAtZero)) return;
    if (!this.#clockReports.take(this.#options.clock.monotonic())) return;
    this.#reportedClockOff = isClockOff;
    const seconds = Math.round(this.#aheadMs() / 1000);
    const far = `${Math.abs(seconds)} s ${seconds > 0 ? 'ahead of' : 'behind'} the server's clock`;
    this.#options.report(
      `Store "${this.#url}" ${isClockOff ? `does not store first-seen times: the local clock is ${far}` : 'stores first-seen times again'}`,
    );
  }

  #fail(reason: string): void {
    if (this.#failure === null && !this.#closed) this.#options.report(`Cannot use store "${this.#url}": ${reason}`);
    this.#failure ??= reason;
  }

  /** Old servers repeat commands that they do not understand, including the password. */
  #reasonOf(error: unknown): string {
    const { password } = this.#options.server;
    const message = reasonOf(error);
    return (password ? message.replaceAll(password, '***') : message).slice(0, REASON_LENGTH);
  }
}

function failuresOf(breaker: string): string {
  return `${breaker}:failures`;
}
