import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import type { Timer } from '../../common/clock.ts';
import type { ClusterChange, Resource } from './cluster-cache.ts';
import { readEndpointSlice, readService } from './services.ts';
import { readPod } from './pods.ts';
import { Watch, type ApiRequest, type ApiResponse, type Change } from './list-watch.ts';

const ENDPOINT_SLICES = '/apis/discovery.k8s.io/v1/endpointslices';
/** The kubelet replaces the token before it expires. */
const TOKEN_MOST_MS = 60_000;

export interface KubernetesOptions {
  readonly server: { readonly host: string; readonly port: number };
  /** Whose pods are watched. */
  readonly nodeName: string;
  /** Holds `token` and `ca.crt`. */
  readonly serviceAccount: string;
  readonly version: string;
  readonly clock: Timer;
  readonly random: () => number;
  readonly deliver: (change: ClusterChange) => void;
  /** Takes the reason why a resource is not watched for now. */
  readonly report: (resource: Resource, reason: string) => void;
  /** Is called when a resource is watched again after a failure. */
  readonly recovered: (resource: Resource) => void;
}

/** Watches the pods of one node, and the Services where that is wanted, through the API server of the cluster. */
export class Kubernetes {
  readonly #clock: Timer;
  readonly #up: Map<Resource, boolean>;
  readonly #watches: readonly { close(): Promise<void> }[];
  readonly #awaited: Set<Resource>;
  readonly #firstNews = Promise.withResolvers<undefined>();

  /** Begins at once. */
  constructor(resources: readonly Resource[], options: KubernetesOptions) {
    this.#clock = options.clock;
    this.#awaited = new Set(resources);
    this.#up = new Map([...this.#awaited].map((resource) => [resource, false]));
    const ofNode = { fieldSelector: `spec.nodeName=${options.nodeName}` };
    const deliver = (news: ClusterChange): void => {
      options.deliver(news);
      this.#awaited.delete(news.resource);
      if (this.#awaited.size === 0) this.#firstNews.resolve(undefined);
    };
    const begin: Readonly<Record<Resource, () => { close(): Promise<void> }>> = {
      pods: () => this.#watch(options, 'pods', '/api/v1/pods', ofNode, readPod, deliver),
      services: () => this.#watch(options, 'services', '/api/v1/services', {}, readService, deliver),
      endpointslices: () => this.#watch(options, 'endpointslices', ENDPOINT_SLICES, {}, readEndpointSlice, deliver),
    };
    this.#watches = resources.map((resource) => begin[resource]());
  }

  /** Which resources are watched, and whether that works. */
  get status(): { resource: string; up: boolean }[] {
    return [...this.#up].map(([resource, up]) => ({ resource, up }));
  }

  /** Waits until every resource was listed once, or could not be; for so long at most. */
  async firstNews(withinMs: number): Promise<void> {
    const late = Promise.withResolvers<undefined>();
    const cancel = this.#clock.after(withinMs, () => late.resolve(undefined));
    await Promise.race([this.#firstNews.promise, late.promise]);
    cancel();
  }

  async close(): Promise<void> {
    await Promise.all(this.#watches.map((watch) => watch.close()));
  }

  #watch<R extends Resource, Item>(
    options: KubernetesOptions,
    resource: R,
    path: string,
    selection: Readonly<Record<string, string>>,
    read: (object: unknown) => Item | null,
    deliver: (change: { resource: R; change: Change<Item> } | { resource: R; up: boolean }) => void,
  ): Watch<Item> {
    const { clock, random, report, recovered } = options;
    let hasFailed = false;
    return new Watch<Item>({
      path,
      selection,
      request: apiRequest(options),
      read,
      deliver: (change) => deliver({ resource, change }),
      state: (up) => {
        this.#up.set(resource, up);
        if (up && hasFailed) recovered(resource);
        hasFailed &&= !up;
        deliver({ resource, up });
      },
      report: (reason) => {
        hasFailed = true;
        report(resource, reason);
      },
      clock,
      random,
    });
  }
}

/** Asks the API server with the service account's token, which is read again when it may be old, and when it is refused. */
function apiRequest({ server, serviceAccount, version, clock }: KubernetesOptions): ApiRequest {
  let token = { text: '', readAt: -Infinity };
  const currentToken = (): string => {
    if (clock.monotonic() - token.readAt >= TOKEN_MOST_MS)
      token = { text: readFileSync(join(serviceAccount, 'token'), 'utf8').trim(), readAt: clock.monotonic() };
    return token.text;
  };
  const send = (path: string, signal: AbortSignal): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const headers = {
        accept: 'application/json',
        authorization: `Bearer ${currentToken()}`,
        'user-agent': `peerscope/${version}`,
      };
      const ca = readFileSync(join(serviceAccount, 'ca.crt'));
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
