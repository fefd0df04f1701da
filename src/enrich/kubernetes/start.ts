import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SYSTEM_CLOCK } from '../../common/clock.ts';
import type { ClusterChange, Resource } from './cluster-cache.ts';
import type { PodKeys } from './pods.ts';
import type { ApiClient } from './api-client.ts';
import type { Log, RepeatLimiter } from '../../common/log.ts';

/** Where the kubelet mounts the service account. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** The Kubernetes API server to watch. */
export interface WatchConfig {
  readonly server: { readonly host: string; readonly port: number };
  readonly nodeName: string;
  readonly services: boolean;
  /** False if only the environment indicates a cluster. */
  readonly isExplicit: boolean;
}

export interface WatchContext {
  readonly version: string;
  /** Returns a number from 0 to 1. */
  readonly random: () => number;
  readonly failures: RepeatLimiter;
  readonly log: Log;
}

/** Decides whether to watch a cluster; `start` starts the watch. Loads no modules without a cluster. */
export function prepareClusterWatch(
  watched: WatchConfig | null,
  { version, random, failures, log }: WatchContext,
): ClusterWatch | null {
  if (!watched) return null;
  // Each pod has the address of the API server in its environment, but a token only if it is meant to use it.
  if (!watched.isExplicit && !existsSync(join(SERVICE_ACCOUNT, 'token'))) {
    log.info('no kubernetes service account token: pods are named by their cgroups');
    return null;
  }
  const resources: readonly Resource[] = watched.services ? ['pods', 'services', 'endpointslices'] : ['pods'];
  const start = async (deliver: (news: ClusterChange) => void, podKeys: PodKeys): Promise<ApiClient> => {
    const { ApiClient } = await import('./api-client.ts');
    return new ApiClient(resources, {
      ...watched,
      podKeys,
      serviceAccount: SERVICE_ACCOUNT,
      version,
      clock: SYSTEM_CLOCK,
      random,
      onChange: deliver,
      onError: (resource, reason) =>
        failures.warn(`kubernetes ${resource}`, { resource, reason }, 'kubernetes watch failed'),
      onRecovered: (resource) =>
        failures.recovered(`kubernetes ${resource}`, { resource }, 'kubernetes watch recovered'),
    });
  };
  return { resources, start };
}

export interface ClusterWatch {
  readonly resources: readonly Resource[];
  readonly start: (deliver: (news: ClusterChange) => void, podKeys: PodKeys) => Promise<ApiClient>;
}
