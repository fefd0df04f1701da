import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import type { Timer } from '../../common/clock.ts';
import { reasonOf } from '../../common/errors.ts';
import type { ClusterChange, Resource } from './cluster-cache.ts';
import { readEndpointSlice, readService, sizeOfService, sizeOfSlice } from './services.ts';
import { nodeOfPod, readPod, sizeOfPod, type PodKeys } from './pods.ts';
import { ListWatch, type ApiRequest, type ApiResponse, type Change } from './list-watch.ts';

const ENDPOINT_SLICES = '/apis/discovery.k8s.io/v1/endpointslices';
/** The kubelet rotates the token before it expires. */
const TOKEN_MOST_MS = 60_000;

export interface ApiClientOptions {
  readonly server: { readonly host: string; readonly port: number };
  /** Only pods of this node are watched. */
  readonly nodeName: string;
  /** The labels and annotations of pods to keep. */
  readonly podKeys?: PodKeys;
  /** The directory with `token` and `ca.crt`. */
  readonly serviceAccount: string;
  readonly version: string;
  readonly clock: Timer;
  readonly random: () => number;
  readonly onChange: (change: ClusterChange) => void;
  /** Receives the reason of a failed watch. */
  readonly onError: (resource: Resource, reason: string) => void;
  /** Called when a watch works again after a failure. */
  readonly onRecovered: (resource: Resource) => void;
}

/** Watches the pods of one node, and optionally Services, through the API server. */
export class ApiClient {
  readonly #clock: Timer;
  readonly #up: Map<Resource, boolean>;
  readonly #watches: readonly { close(): Promise<void> }[];
  readonly #awaited: Set<Resource>;
  readonly #firstNews = Promise.withResolvers<undefined>();

  /** Starts the watches. */
  constructor(resources: readonly Resource[], options: ApiClientOptions) {
    this.#clock = options.clock;
    this.#awaited = new Set(resources);
    this.#up = new Map([...this.#awaited].map((resource) => [resource, false]));
    // The server is asked for these alone. Another answer must not name the containers of this node.
    const readOwn = (pod: unknown): ReturnType<typeof readPod> =>
      nodeOfPod(pod) === options.nodeName ? readPod(pod, options.podKeys) : null;
    const ofNode = { fieldSelector: `spec.nodeName=${options.nodeName}` };
    const deliver = (news: ClusterChange): void => {
      options.onChange(news);
      this.#awaited.delete(news.resource);
      if (this.#awaited.size === 0) this.#firstNews.resolve(undefined);
    };
    const begin: Readonly<Record<Resource, () => { close(): Promise<void> }>> = {
      pods: () => this.#watch(options, 'pods', '/api/v1/pods', ofNode, [readOwn, sizeOfPod], deliver),
      services: () => this.#watch(options, 'services', '/api/v1/services', {}, [readService, sizeOfService], deliver),
      endpointslices: () =>
        this.#watch(options, 'endpointslices', ENDPOINT_SLICES, {}, [readEndpointSlice, sizeOfSlice], deliver),
    };
    this.#watches = resources.map((resource) => begin[resource]());
  }

  /** The watched resources, and whether each watch works. */
  get status(): { resource: string; up: boolean }[] {
    return [...this.#up].map(([resource, up]) => ({ resource, up }));
  }

  /** Waits until each resource was listed once or failed, for at most `withinMs`. */
  async waitForFirstList(withinMs: number): Promise<void> {
    const late = Promise.withResolvers<undefined>();
    const cancel = this.#clock.after(withinMs, () => late.resolve(undefined));
    await Promise.race([this.#firstNews.promise, late.promise]);
    cancel();
  }

  async close(): Promise<void> {
    await Promise.all(this.#watches.map((watch) => watch.close()));
  }

  #watch<R extends Resource, Item>(
    options: ApiClientOptions,
    resource: R,
    path: string,
    selection: Readonly<Record<string, string>>,
    [read, sizeOf]: readonly [read: (object: unknown) => Item | null, sizeOf: (item: Item) => number],
    deliver: (change: { resource: R; change: Change<Item> } | { resource: R; up: boolean }) => void,
  ): ListWatch<Item> {
    const { clock, random, onError: report, onRecovered: recovered } = options;
    let hasFailed = false;
    return new ListWatch<Item>({
      path,
      selection,
      request: apiRequest(options),
      read,
      sizeOf,
      onChange: (change) => deliver({ resource, change }),
      onState: (up) => {
        this.#up.set(resource, up);
        if (up && hasFailed) recovered(resource);
        hasFailed &&= !up;
        deliver({ resource, up });
      },
      onError: (reason) => {
        hasFailed = true;
        report(resource, reason);
      },
      clock,
      random,
    });
  }
}

/** Sends requests with the service account token. The token is read again after a minute and after a 401. */
function apiRequest({ server, serviceAccount, version, clock }: ApiClientOptions): ApiRequest {
  let token = { text: '', readAt: -Infinity };
  const currentToken = (): string => {
    if (clock.monotonic() - token.readAt >= TOKEN_MOST_MS)
      token = { text: readCredential(serviceAccount, 'token').toString().trim(), readAt: clock.monotonic() };
    return token.text;
  };
  const send = (path: string, signal: AbortSignal): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const headers = {
        accept: 'application/json',
        authorization: `Bearer ${currentToken()}`,
        'user-agent': `peerscope/${version}`,
      };
      const ca = readCredential(serviceAccount, 'ca.crt');
      const asked = request({ ...server, path, headers, ca, agent: false, signal });
      asked.on('response', resolve).on('error', reject).end();
    });
  return async (path, signal): Promise<ApiResponse> => {
    let response = await send(path, signal);
    if (response.statusCode === 401) {
      response.destroy();
      token = { text: '', readAt: -Infinity };
      response = await send(path, signal);
    }
    return { status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], body: response };
  };
}

function readCredential(serviceAccount: string, name: string): Buffer {
  const file = join(serviceAccount, name);
  try {
    return readFileSync(file);
  } catch (error) {
    throw new Error(`Cannot read "${file}": ${reasonOf(error)}`, { cause: error });
  }
}
