import { formatCidr } from '../common/address.ts';
import { plural } from './terminal/format.ts';
import { isFresh, type Answer } from '../enrich/asn/cache.ts';
import { BATCH, sharedKeyOf, SPACING_MS, type QueryContext, type QueryCounts } from '../enrich/asn/query-batch.ts';
import { queryOnce } from '../enrich/asn/query-scheduler.ts';
import type { Cidr } from '../model.ts';

/** Maximum wait of a command for the provider. */
const WAIT_LIMIT_MS = 2_000;
/** After a failed query, all commands that share the store wait this long. */
const FAILURE_PAUSE_MS = 600_000;

/** How a command looks up operators. */
export interface OperatorLookupOptions {
  /** Null if the provider must not be queried. */
  readonly context: QueryContext | null;
  /** Whether there is a provider that --ask would query. */
  readonly mayBeAsked: boolean;
  /** Whether the exporter on this host queries no provider, so that only --ask=always does. */
  readonly isForbidden?: boolean;
  /** Whether `query` waits up to 2 s; otherwise answers arrive later. */
  readonly waits: boolean;
}

/** Queries the ASN provider for networks without an operator, and reports what was sent. */
export class OperatorLookup {
  readonly #context: QueryContext | null;
  readonly #mayBeAsked: boolean;
  readonly #waits: boolean;
  readonly #isForbidden: boolean;
  readonly #end = new AbortController();
  /** The networks without a fresh answer, by text. */
  readonly #open = new Map<string, Cidr>();
  readonly #queued = new Set<string>();
  readonly #counts: QueryCounts = { queries: 0, queryFailures: 0, addressesSent: 0 };
  #querying: Promise<void> | null = null;
  #nextAt = -Infinity;
  #failure = '';

  constructor({ context, mayBeAsked, waits, isForbidden = false }: OperatorLookupOptions) {
    this.#context = context;
    this.#mayBeAsked = mayBeAsked;
    this.#waits = waits;
    this.#isForbidden = isForbidden;
  }

  /** Adds networks without an operator. */
  add(buckets: readonly Cidr[]): void {
    for (const bucket of buckets) {
      const key = formatCidr(bucket);
      this.#open.set(key, bucket);
      this.#queued.add(key);
    }
  }

  /** Drops networks that now have a fresh answer. */
  settle(answers: readonly Answer[], now: number): void {
    for (const { bucket, origin } of answers) {
      if (!isFresh(origin, now)) continue;
      this.#open.delete(formatCidr(bucket));
      this.#queued.delete(formatCidr(bucket));
    }
  }

  /** Queries all queued networks in one session, unless one is running or the last was too recent. Never rejects. */
  async query(): Promise<void> {
    const context = this.#context;
    if (!context || this.#querying || this.#queued.size === 0 || context.clock.monotonic() < this.#nextAt) return;
    const keys = [...this.#queued].slice(0, BATCH);
    for (const key of keys) this.#queued.delete(key);
    const buckets = keys.flatMap((key) => this.#open.get(key) ?? []);
    this.#querying = this.#session(buckets, context).finally(() => (this.#querying = null));
    await this.#querying;
  }

  /** One line: how many networks were sent and why some have no operator, or how to query; null without anything to say. */
  get report(): string | null {
    const { addressesSent: sent } = this.#counts;
    const networks = plural(this.#open.size, 'network');
    const parts: string[] = [];
    if (sent > 0) parts.push(`Sent ${plural(sent, 'network')} to ${this.#context?.provider.server ?? ''}`);
    if (this.#open.size > 0) {
      if (this.#failure !== '') parts.push(`No operator for ${networks}: ${this.#failure}`);
      else if (!this.#context && this.#mayBeAsked)
        parts.push(
          `No operator for ${networks}: ${this.#isForbidden ? 'the exporter on this host queries no provider; ' : ''}use --ask=always to query Team Cymru`,
        );
    }
    return parts.length === 0 ? null : parts.join('. ');
  }

  /** Cancels a running query. */
  async close(): Promise<void> {
    this.#end.abort();
    await this.#querying;
  }

  async #session(buckets: readonly Cidr[], context: QueryContext): Promise<void> {
    const { provider, store, clock } = context;
    const key = sharedKeyOf(provider, 'failure');
    const until = Number((await store?.read([key]))?.get(key) ?? 0);
    const pauseMs = Math.min(until - clock.now(), FAILURE_PAUSE_MS);
    if (pauseMs > 0) {
      this.#fail(`the last query failed, next attempt in ${minutesOf(pauseMs)}`, pauseMs);
      return;
    }
    const timeLimit = new AbortController();
    const cancel = this.#waits ? clock.after(WAIT_LIMIT_MS, () => timeLimit.abort()) : (): void => undefined;
    const { queryFailures } = this.#counts;
    const signal = AbortSignal.any([this.#end.signal, timeLimit.signal]);
    const failure = await queryOnce(buckets, context, signal, this.#counts);
    cancel();
    this.#nextAt = clock.monotonic() + SPACING_MS;
    this.#failure = failure ?? '';
    // Ctrl-C is not a failure of the provider.
    if (this.#end.signal.aborted || this.#counts.queryFailures === queryFailures) return;
    const reason = timeLimit.signal.aborted ? `no answer within ${WAIT_LIMIT_MS / 1000} s` : (failure ?? '');
    this.#fail(`${reason}, next attempt in ${minutesOf(FAILURE_PAUSE_MS)}`, FAILURE_PAUSE_MS);
    const keepUntil = clock.now() + FAILURE_PAUSE_MS;
    await store?.write([{ key, text: String(keepUntil), keepUntil }]);
  }

  #fail(reason: string, pauseMs: number): void {
    this.#failure = reason;
    this.#nextAt = (this.#context?.clock.monotonic() ?? 0) + pauseMs;
    // A later scan queries them again.
    for (const key of this.#open.keys()) this.#queued.add(key);
  }
}

function minutesOf(ms: number): string {
  return ms > 90_000 ? `${Math.round(ms / 60_000)} min` : `${Math.ceil(ms / 1000)} s`;
}
