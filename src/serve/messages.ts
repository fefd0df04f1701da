import type { MessagePort } from 'node:worker_threads';
import { reasonOf } from '../common/errors.ts';
import type { HashCost } from '../collect/hash-walks.ts';
import type { Answer } from '../enrich/asn/cache.ts';
import type { ClusterChange } from '../enrich/kubernetes/cluster-cache.ts';
import type { Format } from '../expose/prometheus-text.ts';
import type { Collector, CollectorRun } from '../metrics/catalogue.ts';
import type { Status } from '../metrics/status-families.ts';
import type { Address, Cidr, Rules } from '../model.ts';
import type { RemoteName } from '../rows/remote-names.ts';
import type { RowFormat } from '../rows/streams.ts';
import type { PreviousTime, FirstSeenTime, StoredRecord } from '../store/contract.ts';
import type { PageOptions } from '../web/page/page.ts';

/** The requests of the main thread to the worker thread: what each kind carries, and what the worker replies. */
export interface Requests {
  /** Scans the host, for `withinMs` milliseconds at most. */
  readonly scan: [payload: { readonly withinMs: number }, reply: ScanReply];
  /** Renders the families of the last scan as text. */
  readonly render: [payload: { readonly format: Format }, reply: RenderReply];
  /** Renders the status page of the last scan. */
  readonly draw: [payload: { readonly status: Status; readonly options: PageOptions }, reply: string];
  /** Sends the families of the last scan to `port`, as `Collected`, and closes it. */
  readonly share: [payload: { readonly status: Status; readonly port: MessagePort }, reply: null];
  /** Opens a stream of the rows of the last scan on `port`; port-stream.ts is the other end. */
  readonly read: [
    payload: { readonly filters: readonly string[]; readonly format: RowFormat; readonly port: MessagePort },
    reply: null,
  ];
  /** Opens a stream of the events of later scans on `port`. */
  readonly subscribe: [payload: { readonly filters: readonly string[]; readonly port: MessagePort }, reply: null];
  /** Replies with what is unusual, as JSON; null if that is not watched. */
  readonly unusual: [payload: null, reply: object | null];
  /** Replies with a page of what the workloads met, as JSON, null if the cursor is not valid; null if nothing is remembered. */
  readonly history: [
    payload: { readonly after: string | null; readonly limit: number },
    reply: { readonly page: object | null } | null,
  ];
  /** Replies with all cached ASN answers; all first-seen times follow as `sightings`. */
  readonly restore: [payload: null, reply: readonly Answer[]];
}

/** What the main thread sends without a reply. */
export interface Notifications {
  /** New ASN answers, and the buckets that have none any more. */
  readonly learn: { readonly answers: readonly Answer[]; readonly unknown: readonly Cidr[] };
  /** Names of remotes. */
  readonly names: readonly RemoteName[];
  /** What the store kept of sightings. */
  readonly confirm: readonly PreviousTime[];
  /** A page of records of the store; `isComplete` if it has no more for now. */
  readonly merge: { readonly records: readonly StoredRecord[]; readonly isComplete: boolean };
  /** The decision of a person that a value of `what` is normal, or not; `at` in milliseconds since 1970. */
  readonly decide: {
    readonly owner: { readonly namespace: string; readonly workload: string };
    readonly what: string;
    readonly isAccepted: boolean;
    readonly at: number;
    readonly by: string;
  };
  /** Rules for the next scan. */
  readonly rules: Rules;
  /** A change in the Kubernetes cluster. */
  readonly cluster: ClusterChange;
}

/** What the worker thread sends without being asked. */
export interface WorkerNotifications {
  /** Buckets without a fresh ASN. */
  readonly questions: readonly Cidr[];
  /** Remotes without a name. */
  readonly remotes: readonly Address[];
  /** First-seen times for the store. */
  readonly sightings: readonly FirstSeenTime[];
  /** Records for the store that are new or changed. */
  readonly records: readonly StoredRecord[];
  /** What walks over the TCP hash of the host cost: sent once, where that is much. */
  readonly costs: HashCost;
  /** Why bytes and ended connections are not read, or null once they are: sent when it changes. */
  readonly sockets: { readonly failure: string | null };
}

/** What a scan leaves besides its families; `at` in milliseconds since 1970. */
export interface ScanReply {
  readonly at: number;
  readonly collectors: readonly CollectorRun[];
  /** Unreadable lines, by socket table. */
  readonly malformedRows: ReadonlyMap<string, number>;
  readonly failures: readonly string[];
}

export interface RenderReply {
  readonly parts: readonly PagePart[];
  readonly failures: readonly { readonly collector: Collector; readonly reason: string }[];
}

/** Consecutive families as UTF-8 text; with collector null they belong to every page. */
export interface PagePart {
  readonly collector: Collector | null;
  readonly body: Uint8Array<ArrayBuffer>;
}

type RequestKind = keyof Requests;
type Payload<K extends RequestKind> = Requests[K][0];
type ReplyTo<K extends RequestKind> = Requests[K][1];

type Notification<All, K extends keyof All = keyof All> = {
  [P in K]: { readonly type: 'notification'; readonly kind: P; readonly payload: All[P] };
}[K];

type Request<K extends RequestKind = RequestKind> = {
  [P in K]: { readonly type: 'request'; readonly id: number; readonly kind: P; readonly payload: Payload<P> };
}[K];

/** A message from the main thread. */
export type ToWorker = Request | Notification<Notifications>;

/** A message from the worker thread; an error with id null is not the answer to a request. */
export type FromWorker =
  | { readonly type: 'reply'; readonly id: number; readonly reply: unknown }
  | { readonly type: 'error'; readonly id: number | null; readonly reason: string }
  | Notification<WorkerNotifications>;

/** What a request handler can do besides returning its reply. */
export interface RequestContext {
  /** Moves these buffers with the reply instead of copying them. */
  readonly transfer: (buffers: readonly ArrayBuffer[]) => void;
  /** Runs `work` once the reply is sent: an error in it is reported on its own and never replaces or shifts a reply. */
  readonly afterReply: (work: () => void) => void;
}

/** A handler for every kind of request. */
export type RequestHandlers = {
  readonly [K in RequestKind]: (payload: Payload<K>, context: RequestContext) => ReplyTo<K> | Promise<ReplyTo<K>>;
};

/** A handler for every kind of notification. */
export type NotificationHandlers<All> = { readonly [K in keyof All]: (payload: All[K]) => void };

/** Calls the handler of a notification. */
export function dispatch<All, K extends keyof All>(
  handlers: NotificationHandlers<All>,
  { kind, payload }: Notification<All, K>,
): void {
  handlers[kind](payload);
}

/** The main thread's end: numbers the requests, and matches replies to them by that number. */
export class Requester {
  readonly #post: (message: ToWorker, transfer: readonly MessagePort[]) => void;
  readonly #pending = new Map<number, { resolve: (reply: never) => void; reject: (reason: Error) => void }>();
  #lastId = 0;
  #closed: Error | null = null;

  constructor(post: (message: ToWorker, transfer: readonly MessagePort[]) => void) {
    this.#post = post;
  }

  /** Resolves with the reply to this request; rejects when its handler failed, after `close`, and at `rejectAll`. */
  request<K extends RequestKind>(
    kind: K,
    payload: Payload<K>,
    transfer: readonly MessagePort[] = [],
  ): Promise<ReplyTo<K>> {
    if (this.#closed) return Promise.reject(this.#closed);
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      // A payload that cannot be cloned throws here.
      this.#post({ type: 'request', id, kind, payload } as ToWorker, transfer);
      this.#pending.set(id, { resolve, reject });
    });
  }

  notify<K extends keyof Notifications>(kind: K, payload: Notifications[K]): void {
    this.#post({ type: 'notification', kind, payload } as ToWorker, []);
  }

  /** Settles the request that a reply or an error belongs to. */
  settle(message: Exclude<FromWorker, { type: 'notification' }>): void {
    const request = message.id === null ? undefined : this.#pending.get(message.id);
    if (message.id === null || !request) return;
    this.#pending.delete(message.id);
    if (message.type === 'error') request.reject(new Error(message.reason));
    // Requester and worker share the type of the reply to each kind.
    else request.resolve(message.reply as never);
  }

  /** Rejects every request that waits for a reply. */
  rejectAll(reason: Error): void {
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
  }

  /** Rejects every request that waits, and every later one. */
  close(reason: Error): void {
    this.#closed ??= reason;
    this.rejectAll(reason);
  }
}

/** Sends a notification from the worker thread. */
export function notifyMain<K extends keyof WorkerNotifications>(
  port: MessagePort,
  kind: K,
  payload: WorkerNotifications[K],
): void {
  port.postMessage({ type: 'notification', kind, payload });
}

/** Reports an error of the worker thread that is not the answer to a request. */
export function reportError(port: MessagePort, error: unknown): void {
  port.postMessage({ type: 'error', id: null, reason: reasonOf(error) } satisfies FromWorker);
}

/** The worker thread's end: handles messages in their order, one at a time, and sends one reply or error for each request. */
export function handleMessages(
  port: MessagePort,
  requests: RequestHandlers,
  notifications: NotificationHandlers<Notifications>,
): void {
  let last = Promise.resolve();
  port.on('message', (message: ToWorker) => {
    last = last.then(() =>
      message.type === 'request'
        ? answer(port, requests, message)
        : attempt(port, () => dispatch(notifications, message)),
    );
  });
}

async function answer<K extends RequestKind>(
  port: MessagePort,
  handlers: RequestHandlers,
  { id, kind, payload }: Request<K>,
): Promise<void> {
  const buffers: ArrayBuffer[] = [];
  const afterReply: (() => void)[] = [];
  try {
    const reply = await handlers[kind](payload, {
      transfer: (more) => buffers.push(...more),
      afterReply: (work) => afterReply.push(work),
    });
    port.postMessage({ type: 'reply', id, reply } satisfies FromWorker, buffers);
  } catch (error) {
    port.postMessage({ type: 'error', id, reason: reasonOf(error) } satisfies FromWorker);
    return;
  }
  for (const work of afterReply) attempt(port, work);
}

function attempt(port: MessagePort, work: () => void): void {
  try {
    work();
  } catch (error) {
    reportError(port, error);
  }
}
