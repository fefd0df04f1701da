import { randomUUID } from 'node:crypto';
import { getCACertificates } from 'node:tls';
import { Redis } from 'ioredis';
import type { Timer } from '../common/clock.ts';
import { GuardedConnector } from './redis-connector.ts';
import { nameRedis, type RedisServer } from './redis-url.ts';
import {
  type Breaker,
  type Commons,
  type Store,
  type StoredText,
  KEPT_MS,
  SKEW_MS,
  type Kept,
  type Sighting,
} from './contract.ts';

const PREFIX = 'peerscope:';
/** How long the server keeps the number of an exporter that is gone. */
const ALIVE_KEEP_MS = 24 * 3_600_000;
const CONNECT_MS = 1_000;
const COMMAND_MS = 2_000;
/** A connection on which nothing comes for so long, though an answer is due, is dead. */
const SILENCE_MS = 5_000;
const RECONNECT_MOST_MS = 2_000;
const WATCH_MS = 2_000;
/** A server that refuses something, or hangs up, so soon after it worked again is not believed to work for as long. */
const DISTRUST_MS = 60_000;
const CHUNK = 1_000;
const QUEUE_MOST = 50_000;
const QUEUE_KEEP_MS = 24 * 3_600_000;
/** How long failures are remembered after the breaker let one try. */
const FAILURES_KEEP_MS = 2 * 3_600_000;
const REASON_LENGTH = 200;
/** What a server says that has handed over to another one, or is about to serve: on a new connection all may be well. */
const HANDED_OVER = /\b(?:READONLY|LOADING|MASTERDOWN|CLUSTERDOWN)\b/;
const FULL = /\bOOM\b/;

export interface RedisStoreOptions {
  readonly server: RedisServer;
  readonly clock: Timer;
  /** Takes one line when the store fails, when it works again, and when it lost its data. */
  readonly report: (message: string) => void;
  /** Hears that the server lost its data, or missed what it was given while it was away. */
  readonly lacks: () => void;
}

/** Each changes one key and asks first whose or how full it is, which only a script can do in one step. */
const SCRIPTS = {
  /** A lease that is gone was lost with the server's data: it is taken anew. */
  hold: `
    local holder = redis.call('GET', KEYS[1])
    if holder and holder ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1`,
  release: `
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    return redis.call('DEL', KEYS[1])`,
  /** What is no number was not written by us, and is written over. */
  keepEarliest: `
    local kept = redis.pcall('GET', KEYS[1])
    if type(kept) == 'table' and not string.find(kept.err, 'WRONGTYPE', 1, true) then return kept end
    local before = type(kept) == 'string' and tonumber(kept) or nil
    if before and before <= tonumber(ARGV[1]) then
      redis.call('PEXPIRE', KEYS[1], ARGV[2])
    else
      redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    end
    return before`,
  enqueue: `
    local room = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[1])
    for i = 4, #ARGV do
      if room <= 0 then break end
      room = room - redis.call('ZADD', KEYS[1], 'NX', ARGV[3], ARGV[i])
    end
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])`,
};

/**
 * The store on a Redis or Valkey server that the exporters of a cluster share. All its keys begin with "peerscope:"; each command
 * touches one key.
 *
 * Whatever fails is said once, and the store is not `up` until a look at the server, every two seconds, finds that it can be written
 * and read. That look also finds out that the server lost its data. The password is in no message.
 */
export class RedisStore implements Store, Commons {
  readonly name = 'redis';
  readonly commons: Commons = this;
  /** Commands that failed, and connections. */
  failures = 0;
  readonly #options: RedisStoreOptions;
  readonly #place: string;
  readonly #redis: Redis;
  readonly #holder = randomUUID();
  readonly #opened = Promise.withResolvers<null>();
  /** Whether this connection is to the right database: where it cannot be had the library goes on with another. */
  #isSelected = false;
  #trouble: string | null = null;
  #connectionError: string | undefined;
  /** Whether the connection is being closed to have another one. */
  #renewing = false;
  /** How often in a row it was called in vain. */
  #hungUp = 0;
  #workedFrom = -Infinity;
  #believedFrom = -Infinity;
  /** How many looks there were, and the number of the last one that the server took. */
  #looks = 0;
  #taken = 0;
  #lostData = false;
  #missedWrites = false;
  #wroteSinceLook = false;
  #missedTimes = false;
  /** The server's time when the own steady clock showed 0; not a number before it told it. */
  #serverAtZero = NaN;
  #saidHowFarOff = false;
  #closed = false;
  #cancelWatch: () => void = () => undefined;

  private constructor(options: RedisStoreOptions) {
    const { tls, host, port, username, password } = options.server;
    this.#options = options;
    this.#place = nameRedis(options.server);
    this.#redis = new Redis({
      host,
      port,
      family: 0,
      ...(username === null ? {} : { username }),
      ...(password === null ? {} : { password }),
      ...(tls ? { tls: { ca: [...getCACertificates('default'), ...getCACertificates('system')] } } : {}),
      Connector: GuardedConnector,
      // All that is needed of Redis; so a server cannot push what nobody asked for.
      protocol: 2,
      // The library asks for it again after each reconnect, and nobody could catch a refusal if it did not know it from the start.
      db: options.server.database,
      // A server that turns clients away answers the first command with why: it is to be one whose answer counts.
      disableClientInfo: true,
      keyPrefix: PREFIX,
      lazyConnect: true,
      enableReadyCheck: false,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      // What was not answered when the connection ended fails then.
      maxRetriesPerRequest: 0,
      connectTimeout: CONNECT_MS,
      commandTimeout: COMMAND_MS,
      socketTimeout: SILENCE_MS,
      // The library counts anew at each greeting; a server that only greets is not to be called ten times a second.
      retryStrategy: () => Math.min(100 * ++this.#hungUp, RECONNECT_MOST_MS),
    });
    this.#redis.on('error', (error) => {
      this.#connectionError = this.#reasonOf(error);
      if (this.#redis.status !== 'ready') this.#fail(this.#connectionError);
    });
    this.#redis.on('close', () => {
      this.#isSelected = false;
      this.#missedWrites ||= this.#wroteSinceLook;
      if (!this.#renewing) this.#distrust();
      this.#renewing = false;
      this.failures++;
      this.#fail(this.#noConnection);
      this.#opened.resolve(null);
    });
    this.#redis.on('ready', () => {
      this.#connectionError = undefined;
      void this.#look().then(() => this.#opened.resolve(null));
    });
  }

  /** Resolves once the server answered or could not be reached, in at most three seconds. */
  static async open(options: RedisStoreOptions): Promise<RedisStore> {
    const store = new RedisStore(options);
    const cancel = options.clock.after(CONNECT_MS + COMMAND_MS, () => {
      store.#fail(`no answer within ${CONNECT_MS + COMMAND_MS} ms`);
      store.#opened.resolve(null);
    });
    store.#redis.connect().catch(() => undefined);
    await store.#opened.promise;
    cancel();
    store.#watch();
    return store;
  }

  get up(): boolean {
    return this.#trouble === null;
  }

  async read(keys: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (let start = 0; start < keys.length; start += CHUNK) {
      const chunk = keys.slice(start, start + CHUNK);
      // Sent together: unlike MGET and pipelines, this is the same on every kind of server.
      const texts = await this.#attempt(() => Promise.all(chunk.map((key) => this.#redis.get(key).then(textOf))));
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
      const chunk = texts.slice(start, start + CHUNK).filter(({ keepUntil }) => keepUntil > now);
      const done = await this.#attemptWrite(() =>
        Promise.all(
          chunk.map(({ key, text, keepUntil }) =>
            this.#redis.set(key, text, 'PX', Math.ceil(keepUntil - now)).then(okOf),
          ),
        ),
      );
      if (!done) return;
    }
  }

  async keepEarliest(sightings: readonly Sighting[]): Promise<readonly Kept[]> {
    if (this.#isClockOff()) {
      this.#missedTimes = true;
      return sightings.map(({ key }) => ({ key, before: 'unknown' }));
    }
    const kept: Kept[] = [];
    for (let start = 0; start < sightings.length; start += CHUNK) {
      const chunk = sightings.slice(start, start + CHUNK);
      // Each for itself: a full server still tells what it knows.
      const answers = chunk.map(async ({ key, at }): Promise<Kept> => {
        const before = await this.#attemptWrite(async () => {
          const reply = await this.#redis.eval(SCRIPTS.keepEarliest, 1, key, String(at), KEPT_MS);
          return reply === null ? null : numberOf(reply);
        });
        return { key, before: before === undefined ? 'unknown' : before };
      });
      kept.push(...(await Promise.all(answers)));
    }
    return kept;
  }

  async acquire(lease: string, ms: number): Promise<number> {
    const isTaken = await this.#attempt(async () => {
      const reply = await this.#redis.set(lease, this.#holder, 'PX', Math.ceil(ms), 'NX');
      if (reply !== null) okOf(reply);
      return reply === null;
    });
    if (!isTaken) return 0;
    const leftMs = await this.#attempt(async () => numberOf(await this.#redis.pttl(lease)));
    return leftMs === undefined ? 0 : Math.max(1, leftMs);
  }

  async hold(lease: string, ms: number): Promise<void> {
    await this.#attempt(() => this.#redis.eval(SCRIPTS.hold, 1, lease, this.#holder, Math.ceil(ms)).then(numberOf));
  }

  async release(lease: string): Promise<void> {
    await this.#attempt(() => this.#redis.eval(SCRIPTS.release, 1, lease, this.#holder).then(numberOf));
  }

  async enqueue(queue: string, members: readonly string[]): Promise<void> {
    const now = this.#options.clock.now();
    for (let start = 0; start < members.length; start += CHUNK) {
      const chunk = members.slice(start, start + CHUNK);
      const done = await this.#attemptWrite(() =>
        this.#redis
          .eval(SCRIPTS.enqueue, 1, queue, ...[QUEUE_MOST, QUEUE_KEEP_MS, now, ...chunk].map(String))
          .then(numberOf),
      );
      if (done === undefined) return;
    }
  }

  async queued(queue: string, most: number): Promise<readonly string[]> {
    return (await this.#attempt(async () => textsOf(await this.#redis.zrange(queue, 0, String(most - 1))))) ?? [];
  }

  async dequeue(queue: string, members: readonly string[]): Promise<void> {
    for (let start = 0; start < members.length; start += CHUNK)
      await this.#attempt(() => this.#redis.zrem(queue, ...members.slice(start, start + CHUNK)).then(numberOf));
  }

  async breaker(name: string): Promise<Breaker | null> {
    const state = await this.#attempt(() =>
      Promise.all([this.#redis.get(failuresOf(name)).then(textOf), this.#redis.pttl(name).then(numberOf)] as const),
    );
    if (!state) return null;
    const [failures, openMs] = state;
    return { failures: Number(failures) || 0, openMs: Math.max(0, openMs) };
  }

  async setBreaker(name: string, { failures, openMs }: Breaker): Promise<void> {
    const ms = Math.ceil(openMs);
    await this.#attempt<unknown>(() =>
      ms > 0
        ? Promise.all([
            this.#redis.set(failuresOf(name), failures, 'PX', ms + FAILURES_KEEP_MS).then(okOf),
            this.#redis.set(name, failures, 'PX', ms).then(okOf),
          ])
        : Promise.all([this.#redis.del(failuresOf(name)).then(numberOf), this.#redis.del(name).then(numberOf)]),
    );
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#cancelWatch();
    this.#redis.disconnect();
    return Promise.resolve();
  }

  /** Undefined where it failed. */
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
      if (isRefusal(error) && !HANDED_OVER.test(error.message)) this.#distrust();
      this.#fail(this.#redis.status === 'ready' ? this.#reasonOf(error) : this.#noConnection);
      return undefined;
    }
  }

  async #attemptWrite<T>(work: () => Promise<T>): Promise<T | undefined> {
    const done = await this.#attempt(work);
    if (done === undefined) this.#missedWrites = true;
    else this.#wroteSinceLook = true;
    return done;
  }

  #distrust(): void {
    const now = this.#options.clock.monotonic();
    if (now - this.#workedFrom < DISTRUST_MS) this.#believedFrom = now + DISTRUST_MS;
  }

  #watch(): void {
    this.#cancelWatch = this.#options.clock.after(WATCH_MS, () => {
      void this.#look().then(() => {
        if (!this.#closed) this.#watch();
      });
    });
  }

  /**
   * Reads and writes a growing number under a key of our own. A server that has none, or an older one, lost data or is back at a
   * snapshot of it; what was written after the last number was taken may be gone unnoticed when the connection is.
   */
  async #look(): Promise<void> {
    if (this.#redis.status === 'ready' && !this.#isSelected)
      this.#isSelected =
        (await this.#send(() =>
          this.#redis.select(this.#options.server.database).then(okOf).catch(this.#renewWhereRefused),
        )) !== undefined;
    const look = ++this.#looks;
    const key = `alive:${this.#holder}`;
    const seen = await this.#attempt(() => {
      const time = this.#redis.time().then((reply) => {
        this.#serverAtZero = timeOf(reply) - this.#options.clock.monotonic();
      });
      const before = this.#redis.get(key).then(textOf);
      const taken = this.#redis.set(key, look, 'PX', ALIVE_KEEP_MS).then((reply) => {
        okOf(reply);
        this.#wroteSinceLook = false;
      });
      return Promise.all([before, taken, time]).catch(this.#renewWhereRefused);
    });
    if (!seen) return;
    this.#lostData ||= Number(seen[0]) < this.#taken;
    this.#taken = look;
    const { clock, report, lacks } = this.#options;
    if (clock.monotonic() < this.#believedFrom) return;
    const isClockOff = this.#isClockOff();
    this.#sayHowFarOff(isClockOff);
    const isLacking = this.#lostData || this.#missedWrites || (this.#missedTimes && !isClockOff);
    if (this.#trouble !== null) {
      this.#workedFrom = clock.monotonic();
      report(`Store "${this.#place}" works again`);
    }
    if (this.#lostData) report(`Store "${this.#place}" lost what it held; what is known here is written again`);
    this.#trouble = null;
    this.#hungUp = 0;
    this.#lostData = false;
    this.#missedWrites = false;
    this.#missedTimes &&= isClockOff;
    if (isLacking) lacks();
  }

  /**
   * A server that cannot serve may be one that another has replaced: a new connection leads to that one. One that is full goes on
   * telling what it knows.
   */
  readonly #renewWhereRefused = (error: unknown): never => {
    if (isRefusal(error) && !FULL.test(error.message) && this.#redis.status === 'ready') {
      this.#renewing = true;
      this.#redis.disconnect(true);
    }
    throw error;
  };

  /** A first time of a clock that is far behind would be the earliest of all, and for good: so may be one that is not compared yet. */
  #isClockOff(): boolean {
    return !(Math.abs(this.#aheadMs()) <= SKEW_MS);
  }

  #aheadMs(): number {
    const { clock } = this.#options;
    return clock.now() - clock.monotonic() - this.#serverAtZero;
  }

  #sayHowFarOff(isClockOff: boolean): void {
    if (isClockOff === this.#saidHowFarOff || Number.isNaN(this.#serverAtZero)) return;
    this.#saidHowFarOff = isClockOff;
    const seconds = Math.round(this.#aheadMs() / 1000);
    const far = `${Math.abs(seconds)} s ${seconds > 0 ? 'ahead of' : 'behind'} that of the server`;
    this.#options.report(
      `Store "${this.#place}" ${isClockOff ? `takes no first times: the own clock is ${far}` : 'takes first times again'}`,
    );
  }

  #fail(reason: string): void {
    if (this.#trouble === null && !this.#closed) this.#options.report(`Cannot use store "${this.#place}": ${reason}`);
    this.#trouble ??= reason;
  }

  /** Old servers repeat what they do not understand, the password included. */
  #reasonOf(error: unknown): string {
    const { password } = this.#options.server;
    const message = error instanceof Error ? error.message : String(error);
    return (password ? message.replaceAll(password, '***') : message).slice(0, REASON_LENGTH);
  }
}

/** A reply of another kind than the command has is as bad as a refusal: what answers is no Redis server, or none that is well. */
function unlike(reply: unknown): Error {
  const error = new Error(`the server answered ${JSON.stringify(reply).slice(0, 80)}`);
  error.name = 'ReplyError';
  return error;
}

function isRefusal(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError';
}

function okOf(reply: unknown): true {
  if (reply !== 'OK') throw unlike(reply);
  return true;
}

function textOf(reply: unknown): string | null {
  if (reply !== null && typeof reply !== 'string') throw unlike(reply);
  return reply;
}

/** In milliseconds since 1970. */
function timeOf(reply: unknown): number {
  const [seconds, microseconds] = textsOf(reply).map(Number);
  const time = Number(seconds) * 1000 + Number(microseconds) / 1000;
  if (!Number.isFinite(time)) throw unlike(reply);
  return time;
}

function numberOf(reply: unknown): number {
  if (typeof reply !== 'number') throw unlike(reply);
  return reply;
}

function textsOf(reply: unknown): readonly string[] {
  if (!Array.isArray(reply) || !reply.every((text) => typeof text === 'string')) throw unlike(reply);
  return reply;
}

function failuresOf(breaker: string): string {
  return `${breaker}:failures`;
}
